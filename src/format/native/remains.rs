//! What stands in the place of a header copy that is not whole (NAT-RD-07, NAT-UPD-08).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{mem::offset_of, ops::Range};

use super::{
    copies::read_what_can_be_read,
    copy::HeaderCopy,
    layout::{COPY_LEN, KEYSLOT_LEN, KEYSLOTS, MAGIC, RawSuperblock, SUPERBLOCK_LEN},
};
use crate::{
    error::Result,
    format::signature::{self, HEAD_LEN, Owner, is_boot_sector},
    storage::Storage,
};

/// What can be read of a header copy that has the magic, though it is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Legible {
    /// Whose copy it was.
    pub(super) uuid: [u8; 16],
    /// How new it was.
    pub(super) sequence: u64,
}

impl Legible {
    /// Reads the fields that every version has in the same place.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        bytes.starts_with(&MAGIC).then_some(())?;
        let sequence = bytes.get(offset_of!(RawSuperblock, sequence)..)?.first_chunk().copied()?;
        Some(Self { uuid: uuid_at_start(bytes)?, sequence: u64::from_le_bytes(sequence) })
    }
}

/// The start of a container whose copy A is not whole.
#[derive(Debug)]
pub(super) struct Remains {
    /// As much as signatures need, zeros for what cannot be read.
    head: Vec<u8>,
}

impl Remains {
    /// Reads the start of `storage`.
    pub(super) fn read(storage: &dyn Storage) -> Result<Self> {
        let mut head = vec![0; usize::try_from(storage.size()?).unwrap_or(HEAD_LEN).min(HEAD_LEN)];
        read_what_can_be_read(storage, &mut head, 0);
        Ok(Self { head })
    }

    /// What has taken the place of copy A, where a signature tells it.
    pub(super) fn occupant(&self) -> Option<&'static str> {
        // A partitioning tool may leave the first bytes as they are, for a boot loader.
        let mut head = self.head.clone();
        if let Some(magic) = head.get_mut(..MAGIC.len()).filter(|start| *start == MAGIC) {
            magic.fill(0);
        }
        match signature::recognise(&head) {
            Some(found) if found.owner == Owner::Native => None,
            Some(found) => Some(found.name),
            None => is_boot_sector(&head).then_some("a partition table or boot sector"),
        }
    }

    /// Whether nothing can be read there but zeros.
    pub(super) fn is_blank(&self) -> bool {
        self.copy_place().iter().all(|&byte| byte == 0)
    }

    /// Where copy B belongs, as far as what is left here says so.
    pub(super) fn backup_offset(&self) -> Option<u64> {
        self.head.starts_with(&MAGIC).then_some(())?;
        let bytes = self.head.get(offset_of!(RawSuperblock, backup_offset)..)?;
        bytes.first_chunk().copied().map(u64::from_le_bytes)
    }

    /// Whether a header copy of this uuid stood here.
    pub(super) fn has_uuid(&self, uuid: &[u8; 16]) -> bool {
        uuid_at_start(&self.head).as_ref() == Some(uuid)
    }

    /// NAT-RD-07: whether what stands here is what a copy A beside `b` leaves when it is damaged, torn or overwritten with
    /// zeros, and nothing that something else may need.
    pub(super) fn is_beside(&self, b: &HeaderCopy) -> bool {
        self.has_uuid(&b.superblock.uuid) || self.is_part_of(b) || self.has_keyslot_of(b)
    }

    /// Whether each byte is zero, or the one that copy A would have there. Its MAC is not known without the key.
    fn is_part_of(&self, b: &HeaderCopy) -> bool {
        let whole = b.sibling_without_mac();
        let mac = offset_of!(RawSuperblock, mac)..SUPERBLOCK_LEN;
        let mut bytes = self.copy_place().iter().zip(whole.iter()).enumerate();
        bytes.all(|(at, (&found, &expected))| found == 0 || found == expected || mac.contains(&at))
    }

    /// Whether a keyslot in use of `b` stands here byte for byte: its salt is no chance.
    fn has_keyslot_of(&self, b: &HeaderCopy) -> bool {
        b.keyslots.iter().filter_map(|slot| keyslot_range(slot.index)).any(|range| {
            let place = self.copy_place().get(range.clone());
            place.is_some() && place == b.as_bytes().get(range)
        })
    }

    fn copy_place(&self) -> &[u8] {
        self.head.get(..COPY_LEN).unwrap_or(&self.head)
    }
}

fn uuid_at_start(bytes: &[u8]) -> Option<[u8; 16]> {
    bytes.get(offset_of!(RawSuperblock, uuid)..)?.first_chunk().copied()
}

/// Where keyslot `index` stands within a copy.
fn keyslot_range(index: u32) -> Option<Range<usize>> {
    let index = usize::try_from(index).ok().filter(|&index| index < KEYSLOTS)?;
    let start = SUPERBLOCK_LEN.checked_add(index.checked_mul(KEYSLOT_LEN)?)?;
    Some(start..start.checked_add(KEYSLOT_LEN)?)
}
