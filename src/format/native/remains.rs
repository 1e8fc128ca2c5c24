//! What stands in the place of a header copy that is not whole (NAT-RD-07, NAT-UPD-08).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{fmt, mem::offset_of, ops::Range};

use zerocopy::{FromBytes, IntoBytes};

use super::{
    copies::read_what_can_be_read,
    copy::{HeaderCopy, body, checksum},
    layout::{COPY_LEN, KEYSLOT_LEN, KEYSLOTS, MAGIC, RawCopy, RawSuperblock, SUPERBLOCK_LEN},
    superblock::CopyIndex,
};
use crate::{
    error::Result,
    format::signature::{self, HEAD_LEN, Owner, is_boot_sector},
    storage::Storage,
};

/// A header copy that is not whole: what stands in its place, with zeros for what cannot be read.
#[derive(Debug)]
pub(super) struct Wreck(Box<RawCopy>);

impl Wreck {
    pub(super) fn of(mut bytes: Vec<u8>) -> Option<Self> {
        bytes.resize(COPY_LEN, 0);
        Some(Self(Box::new(RawCopy::read_from_bytes(&bytes).ok()?)))
    }

    /// The sequence that it says, where it was a copy of this container.
    pub(super) fn sequence(&self, good: &HeaderCopy) -> Option<u64> {
        self.has_uuid_of(good).then(|| self.0.superblock.sequence.get())
    }

    /// NAT-UPD-08: whether this was copy `index` of another state of the header than `good`, which is whole: nothing in it
    /// shows that it was a copy of the same, or of an older one, or that a power cut left it.
    pub(super) fn is_of_another_state(&self, good: &HeaderCopy, index: CopyIndex) -> bool {
        let twin = good.without_mac(index);
        let state = self.with_fixed_fields_of(&twin);
        let superblock = &self.0.superblock;
        let is_legible = superblock.magic == MAGIC && superblock.uuid == good.superblock.uuid;
        if is_legible && superblock.sequence.get() > good.superblock.sequence {
            return true;
        }
        let is_twin = body(&state).as_bytes() == body(&twin).as_bytes()
            || self.0.superblock.checksum == twin.superblock.checksum
            || self.is_superblock_of(&twin);
        if is_twin {
            return false;
        }
        let magic = &self.0.superblock.magic;
        let is_unfinished = *magic != MAGIC && is_zero_or(magic, &MAGIC);
        if has_right_checksum(&state) || self.lacks_only_magic(good) {
            // All that it said is known. Copy B may be newer before its magic is written; copy A never is (NAT-UPD-03).
            let is_older = superblock.sequence.get() < good.superblock.sequence;
            let is_left_by_a_cut = is_older || (index == CopyIndex::B && is_unfinished);
            return !is_left_by_a_cut;
        }
        let is_being_written = *magic == [0; MAGIC.len()] && self.has_uuid_of(good);
        !is_being_written && self.is_recognisable(good, &twin)
    }

    /// Whether it is whole but for its magic. A copy from before a change of suite or sector size is another where
    /// [`Self::with_fixed_fields_of`] puts the twin's bytes, and loses its magic first, as others do (NAT-UPD-02).
    fn lacks_only_magic(&self, good: &HeaderCopy) -> bool {
        let mut whole = *self.0;
        whole.superblock.magic = MAGIC;
        whole.superblock.uuid == good.superblock.uuid && has_right_checksum(&whole)
    }

    /// The same with what hardly any update changes taken from `twin`: the state that it is of shows in the rest.
    fn with_fixed_fields_of(&self, twin: &RawCopy) -> RawCopy {
        let mut state = *self.0;
        let (ours, theirs) = (&mut state.superblock, &twin.superblock);
        *ours = RawSuperblock {
            features_required: ours.features_required,
            sequence: ours.sequence,
            generation: ours.generation,
            reencryption: ours.reencryption,
            checksum: ours.checksum,
            mac: ours.mac,
            ..*theirs
        };
        state
    }

    /// Whether each byte of its superblock is zero, or the one that `twin` has there. Its MAC is not known without the key.
    fn is_superblock_of(&self, twin: &RawCopy) -> bool {
        let but_mac = ..offset_of!(RawSuperblock, mac);
        let [ours, theirs] =
            [&*self.0, twin].map(|raw| raw.superblock.as_bytes().get(but_mac).unwrap_or_default());
        is_zero_or(ours, theirs)
    }

    /// Whether it was a header copy of this container, and little of it is damaged.
    fn is_recognisable(&self, good: &HeaderCopy, twin: &RawCopy) -> bool {
        let reserved = FIRST_SECTOR..offset_of!(RawSuperblock, checksum);
        let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
        // A power cut that tore what heals it leaves some of the twin's checksum.
        let has_other_sum = !is_zero_or(&self.0.superblock.checksum, &twin.superblock.checksum);
        self.0.superblock.as_bytes().get(reserved).is_some_and(is_zero)
            && (self.has_uuid_of(good) || has_other_sum && has_keyslot_of(self.0.as_bytes(), good))
    }

    fn has_uuid_of(&self, good: &HeaderCopy) -> bool {
        is_nearly(&self.0.superblock.uuid, &good.superblock.uuid)
    }
}

/// A damaged copy of another state of the header than the one that is whole: it may have been newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedOther {
    /// Which copy.
    pub(super) index: CopyIndex,
    /// The sequence that it says.
    pub(super) sequence: Option<u64>,
    /// That of the whole copy.
    pub(super) whole: u64,
}

impl DamagedOther {
    /// Whether it says that it is the newer one.
    pub(super) fn is_newer(&self) -> bool {
        self.sequence.is_some_and(|sequence| sequence > self.whole)
    }
}

impl fmt::Display for DamagedOther {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, sequence, whole } = self;
        let other = index.other();
        match sequence {
            Some(sequence) if self.is_newer() => write!(
                f,
                "header copy {index} is damaged, and newer than the one that is whole: sequence {sequence}, copy {other} has \
                 {whole}"
            ),
            Some(sequence) => write!(
                f,
                "header copy {index} is damaged, and may have been newer than the one that is whole: what is left of it is of \
                 another state (sequence {sequence}, copy {other} has {whole})"
            ),
            None => write!(
                f,
                "header copy {index} is damaged, and may have been newer than the one that is whole: what is left of it is of \
                 another state than copy {other} (sequence {whole})"
            ),
        }
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
        uuid_at_start(&self.head).is_some_and(|found| is_nearly(&found, uuid))
    }

    /// NAT-RD-07: whether what stands here is what a copy A beside `b` leaves when it is damaged, torn or overwritten with
    /// zeros, and nothing that something else may need.
    pub(super) fn is_beside(&self, b: &HeaderCopy) -> bool {
        self.has_uuid(&b.superblock.uuid) || self.is_part_of(b) || has_keyslot_of(self.copy_place(), b)
    }

    /// Whether each byte is zero, or the one that copy A would have there. Its MAC is not known without the key.
    fn is_part_of(&self, b: &HeaderCopy) -> bool {
        let whole = b.without_mac(CopyIndex::A);
        let mac = offset_of!(RawSuperblock, mac)..SUPERBLOCK_LEN;
        let mut bytes = self.copy_place().iter().zip(whole.as_bytes()).enumerate();
        bytes.all(|(at, (&found, &expected))| found == 0 || found == expected || mac.contains(&at))
    }

    fn copy_place(&self) -> &[u8] {
        self.head.get(..COPY_LEN).unwrap_or(&self.head)
    }
}

fn has_right_checksum(raw: &RawCopy) -> bool {
    checksum(raw) == raw.superblock.checksum
}

/// Whether a keyslot in use of `copy` stands in `place` byte for byte: its salt is no chance.
fn has_keyslot_of(place: &[u8], copy: &HeaderCopy) -> bool {
    copy.keyslots.iter().filter_map(|slot| keyslot_range(slot.index)).any(|range| {
        let found = place.get(range.clone());
        found.is_some() && found == copy.as_bytes().get(range)
    })
}

/// Whether two uuids are the same but for some damage: at most four bytes differ. Of two random ones nearly all do.
fn is_nearly(found: &[u8; 16], uuid: &[u8; 16]) -> bool {
    found.iter().zip(uuid).filter(|(found, byte)| found != byte).count() <= 4
}

/// Whether each byte is zero or the one expected there.
fn is_zero_or(found: &[u8], expected: &[u8]) -> bool {
    found.iter().zip(expected).all(|(&found, &expected)| found == 0 || found == expected)
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

/// Bytes that a medium loses at once, at least: in a superblock all that it says.
const FIRST_SECTOR: usize = 512;
