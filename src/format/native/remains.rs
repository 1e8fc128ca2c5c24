//! What stands in the place of a header copy that is not whole (NAT-RD-07, NAT-UPD-08).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{fmt, mem::offset_of, ops::Range};

use zerocopy::{FromBytes, IntoBytes};

use super::{
    copies::read_what_can_be_read,
    copy::{HeaderCopy, body, checksum},
    front::Front,
    layout::{COPY_LEN, KEYSLOT_LEN, KEYSLOTS, MAGIC, RawCopy, RawKeyslot, RawSuperblock, SUPERBLOCK_LEN},
    superblock::CopyIndex,
};
use crate::{
    error::Result,
    format::{
        hyphenated,
        signature::{self, HEAD_LEN, Owner, is_boot_sector},
    },
    storage::Storage,
};

/// A header copy that is not whole: what stands in its place, with zeros for what cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Wreck(Box<RawCopy>);

impl Wreck {
    pub(super) fn of(mut bytes: Vec<u8>) -> Option<Self> {
        bytes.resize(COPY_LEN, 0);
        Some(Self(Box::new(RawCopy::read_from_bytes(&bytes).ok()?)))
    }

    /// The same, where bytes that stand somewhere show that they are what is left of a header copy.
    pub(super) fn found_in(bytes: &[u8]) -> Option<Self> {
        let shows_one = bytes.starts_with(&MAGIC)
            || (1..KEYSLOTS).filter(|&number| has_number(bytes, number)).count() >= FEWEST_NUMBERS;
        shows_one.then(|| Self::of(bytes.to_vec()))?
    }

    /// Whether keyslots of a header copy stand here, of whichever container.
    pub(super) fn shows_keyslots(&self) -> bool {
        (1..KEYSLOTS).filter(|&number| has_number(self.0.as_bytes(), number)).count() >= FEWEST_NUMBERS
    }

    /// NAT-UPD-08: what it was, where that was another state or another header than `good`.
    pub(super) fn other(&self, good: &HeaderCopy, index: CopyIndex, offset: u64) -> Option<DamagedOther> {
        self.is_of_another_state(good, index).then(|| DamagedOther {
            index,
            offset,
            sequence: self.sequence(good),
            whole: good.superblock.sequence,
            foreign: (self.0.superblock.magic == MAGIC && !self.has_uuid_of(good))
                .then_some(self.0.superblock.uuid),
            uuid: good.superblock.uuid,
        })
    }

    /// The sequence that it says, where it was a copy of this container.
    pub(super) fn sequence(&self, good: &HeaderCopy) -> Option<u64> {
        self.has_uuid_of(good).then(|| self.0.superblock.sequence.get())
    }

    /// NAT-UPD-08: whether this was copy `index` of another state of the header than `good`, which is whole, or of another header:
    /// nothing in it shows that it was a copy of the same, or of an older one, or that a power cut left it.
    fn is_of_another_state(&self, good: &HeaderCopy, index: CopyIndex) -> bool {
        let twin = good.without_mac(index);
        let superblock = &self.0.superblock;
        let is_legible = superblock.magic == MAGIC && superblock.uuid == good.superblock.uuid;
        if is_legible && superblock.sequence.get() > good.superblock.sequence {
            return true;
        }
        let is_twin = body(&self.with_fixed_fields_of(&twin)).as_bytes() == body(&twin).as_bytes()
            || superblock.checksum == twin.superblock.checksum
            || (self.is_part_of(&twin) && !self.lacks_keyslot_of(&twin));
        if is_twin || !self.shows_a_header(good) {
            return false;
        }
        if let Some(known) = self.mended(&twin) {
            // All that it said is known. One that is newer counts (NAT-RD-08), or asks.
            let is_older = superblock.sequence.get() < good.superblock.sequence;
            let is_as_new = superblock.sequence.get() == good.superblock.sequence;
            let is_next = superblock.generation.get().abs_diff(good.superblock.generation) <= 1;
            let is_going = index == CopyIndex::B && self.lacks_magic() && is_as_new && is_next;
            let is_left_by_a_cut = is_older || is_going;
            return known.superblock.uuid != good.superblock.uuid || !is_left_by_a_cut;
        }
        !self.is_being_written(good, index) && !self.is_damaged(good, &twin)
    }

    /// The copy as it was, where only what is known of it is damaged: what hardly any update changes, or its magic (NAT-UPD-08).
    pub(super) fn as_it_was(&self, good: &HeaderCopy, index: CopyIndex) -> Option<HeaderCopy> {
        let copy = HeaderCopy::parse(self.mended(&good.without_mac(index))?.as_bytes()).ok()?;
        // One that a power cut kept from its end may have a key that nobody knows yet.
        Some(copy).filter(|copy| copy.superblock.sequence < good.superblock.sequence)
    }

    /// A copy from before a change of suite or sector size is another where [`Self::with_fixed_fields_of`] puts the twin's bytes,
    /// and loses its magic first, as others do (NAT-UPD-02).
    fn mended(&self, twin: &RawCopy) -> Option<RawCopy> {
        let mut whole = *self.0;
        whole.superblock.magic = MAGIC;
        Some(self.with_fixed_fields_of(twin))
            .filter(has_right_checksum)
            .or_else(|| Some(whole).filter(has_right_checksum))
    }

    /// NAT-RD-08: the copy that all is here of but bytes of its magic.
    pub(super) fn finished(&self) -> Option<HeaderCopy> {
        let mut whole = *self.0;
        whole.superblock.magic = MAGIC;
        self.lacks_magic().then(|| HeaderCopy::parse(whole.as_bytes()).ok())?
    }

    /// Whether bytes of the magic are zeros, and the others are right.
    fn lacks_magic(&self) -> bool {
        let magic = &self.0.superblock.magic;
        *magic != MAGIC && is_zero_or(magic, &MAGIC)
    }

    /// NAT-UPD-08: whether a keyslot is empty that `twin` uses, as after the removal of a password. Zeros in place of a whole block
    /// are what a medium loses, and a copy that says the twin's sequence is of no later state.
    fn lacks_keyslot_of(&self, twin: &RawCopy) -> bool {
        let (superblock, theirs) = (&self.0.superblock, &twin.superblock);
        // While it is written anew, the magic goes first.
        if is_zero_or(&superblock.magic, &MAGIC)
            && superblock.uuid == theirs.uuid
            && superblock.sequence == theirs.sequence
        {
            return false;
        }
        let is_empty = |slot: &RawKeyslot| {
            let number = offset_of!(RawKeyslot, index)
                ..offset_of!(RawKeyslot, index).saturating_add(size_of_val(&slot.index));
            slot.as_bytes().iter().enumerate().all(|(at, &byte)| byte == 0 || number.contains(&at))
        };
        let is_lost = |slots: &[RawKeyslot]| slots.as_bytes().iter().all(|&byte| byte == 0);
        let blocks = self.0.keyslots.chunks(SLOTS_IN_BLOCK).zip(twin.keyslots.chunks(SLOTS_IN_BLOCK));
        blocks.filter(|(ours, _)| !is_lost(ours)).any(|(ours, theirs)| {
            ours.iter().zip(theirs).any(|(ours, theirs)| is_empty(ours) && !is_empty(theirs))
        })
    }

    /// Whether a header copy stood here, of whichever container: what shows none has nothing to lose.
    pub(super) fn shows_a_header(&self, good: &HeaderCopy) -> bool {
        self.0.superblock.magic == MAGIC || self.has_uuid_of(good) || self.shows_keyslots()
    }

    /// Whether a power cut may have left it while it was written (NAT-UPD-02). Copy A is written as what copy B says already.
    fn is_being_written(&self, good: &HeaderCopy, index: CopyIndex) -> bool {
        let superblock = &self.0.superblock;
        let is_possible = index == CopyIndex::B || superblock.sequence.get() <= good.superblock.sequence;
        superblock.magic == [0; MAGIC.len()] && self.has_uuid_of(good) && is_possible
    }

    /// Whether it is `twin` with damage: each keyslot is the twin's or has lost its number, and what can be read of the superblock
    /// says what the twin's does.
    fn is_damaged(&self, good: &HeaderCopy, twin: &RawCopy) -> bool {
        let (ours, theirs) = (&self.0.superblock, &twin.superblock);
        let is_legible = ours.magic == MAGIC || self.has_uuid_of(good);
        let says_the_same = self.has_uuid_of(good)
            && ours.sequence == theirs.sequence
            && ours.generation == theirs.generation
            && ours.features_required == theirs.features_required
            && ours.reencryption.as_bytes() == theirs.reencryption.as_bytes();
        let mut keyslots = self.0.keyslots.iter().zip(&twin.keyslots).enumerate();
        (!is_legible || says_the_same)
            && !self.lacks_keyslot_of(twin)
            && keyslots.all(|(number, (ours, theirs))| {
                ours.as_bytes() == theirs.as_bytes() || !has_number(self.0.as_bytes(), number)
            })
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

    /// Whether each byte is zero, or the one that `twin` has there.
    fn is_part_of(&self, twin: &RawCopy) -> bool {
        is_part_of(self.0.as_bytes(), twin)
    }

    fn has_uuid_of(&self, good: &HeaderCopy) -> bool {
        is_nearly(&self.0.superblock.uuid, &good.superblock.uuid)
    }
}

/// A damaged copy of another state of the header than the one that is whole: it may have been newer, or of another container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DamagedOther {
    /// Which copy.
    pub(super) index: CopyIndex,
    /// Where it stands.
    pub(super) offset: u64,
    /// The sequence that it says.
    pub(super) sequence: Option<u64>,
    /// That of the whole copy.
    pub(super) whole: u64,
    /// Whose it was, where that can be read and is another than the whole one's.
    pub(super) foreign: Option<[u8; 16]>,
    /// Whose the whole copy is.
    pub(super) uuid: [u8; 16],
}

impl DamagedOther {
    /// Whether it says that it is the newer one.
    pub(super) fn is_newer(&self) -> bool {
        self.sequence.is_some_and(|sequence| sequence > self.whole)
    }

    /// Whether it shows that it was another container's.
    pub const fn is_foreign(&self) -> bool {
        self.foreign.is_some()
    }

    /// The two containers that it and the whole copy are of, in words.
    pub(super) fn containers(&self) -> Option<String> {
        Some(format!("{}, and not {}", hyphenated(&self.foreign?), hyphenated(&self.uuid)))
    }
}

impl fmt::Display for DamagedOther {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, offset, sequence, whole, .. } = self;
        let other = index.other();
        if let Some(containers) = self.containers() {
            return write!(
                f,
                "header copy {index} at offset {offset} is damaged, and what is left of it is of another container: {containers}"
            );
        }
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
                "header copy {index} at offset {offset} is damaged, and may have been newer than the one that is whole, or of another \
                 container: what is left of it is of another state than copy {other} of {} (sequence {whole})",
                hyphenated(&self.uuid)
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
            None => {
                (is_boot_sector(&head) && !is_filled(&head)).then_some("a partition table or boot sector")
            }
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

    /// NAT-RD-07: whether copy B alone, `b`, may be opened.
    pub(super) fn lets(&self, storage: &dyn Storage, b: &HeaderCopy) -> bool {
        self.is_beside(b) && self.newcomer(storage, b).is_none()
    }

    /// NAT-RD-07: whether what stands here is what a copy A beside `b` leaves when it is damaged, torn or overwritten with
    /// zeros, and nothing that something else may need.
    pub(super) fn is_beside(&self, b: &HeaderCopy) -> bool {
        self.has_uuid(&b.superblock.uuid) || self.is_part_of(b) || has_keyslot_of(self.copy_place(), b)
    }

    /// Whether each byte is zero, or the one that copy A would have there.
    fn is_part_of(&self, b: &HeaderCopy) -> bool {
        is_part_of(self.copy_place(), &b.without_mac(CopyIndex::A))
    }

    /// NAT-RD-07: where something was written that is neither a damaged copy A beside `b` nor its work area. What makes something
    /// new may leave the first bytes, or all of copy A's place, as they were or as zeros.
    pub(super) fn newcomer(&self, storage: &dyn Storage, b: &HeaderCopy) -> Option<u64> {
        let is_being_written =
            self.copy_place().starts_with(&[0; MAGIC.len()]) && self.has_uuid(&b.superblock.uuid);
        let mut foreign = self.foreign_blocks(b).into_iter();
        // One block may be a bad sector.
        let first = foreign.next().filter(|_| !is_being_written && foreign.next().is_some());
        // Where the magic and the uuid stand, nobody made something new.
        let is_signed = self.copy_place().starts_with(&MAGIC) && self.has_uuid(&b.superblock.uuid);
        first.or_else(|| if is_signed { None } else { Front::read(storage, b).strange(b).first().copied() })
    }

    /// The blocks of copy A's place that hold what is neither zero nor the copy's, nor a copy of another time.
    fn foreign_blocks(&self, b: &HeaderCopy) -> Vec<u64> {
        let (place, whole) = (self.copy_place(), b.without_mac(CopyIndex::A));
        let mac = offset_of!(RawSuperblock, mac)..SUPERBLOCK_LEN;
        let is_strange = |(at, (found, expected)): (usize, (&u8, &u8))| {
            *found != 0 && found != expected && !mac.contains(&at)
        };
        let blocks = (0..place.len()).step_by(SUPERBLOCK_LEN).filter(|&start| {
            let end = start.saturating_add(SUPERBLOCK_LEN).min(place.len());
            let bytes = place.iter().zip(whole.as_bytes()).enumerate();
            let differs = bytes.take(end).skip(start).any(is_strange);
            differs && !self.shows_copy_at(start, b)
        });
        blocks.filter_map(|start| u64::try_from(start).ok()).collect()
    }

    /// Whether a block of copy A's place shows a header copy, damaged or of another time.
    fn shows_copy_at(&self, start: usize, b: &HeaderCopy) -> bool {
        let place = self.copy_place();
        let Some(first) = start.checked_sub(SUPERBLOCK_LEN).and_then(|start| start.checked_div(KEYSLOT_LEN))
        else {
            return place.starts_with(&MAGIC) || self.has_uuid(&b.superblock.uuid);
        };
        [first, first.saturating_add(1)].into_iter().any(|number| number > 0 && has_number(place, number))
    }

    fn copy_place(&self) -> &[u8] {
        self.head.get(..COPY_LEN).unwrap_or(&self.head)
    }
}

/// Whether each byte of `place` is zero, or the one that `copy` has there. Its MAC is not known without the key.
fn is_part_of(place: &[u8], copy: &RawCopy) -> bool {
    let mac = offset_of!(RawSuperblock, mac)..SUPERBLOCK_LEN;
    let mut bytes = place.iter().zip(copy.as_bytes()).enumerate();
    bytes.all(|(at, (&found, &expected))| found == 0 || found == expected || mac.contains(&at))
}

/// Whether keyslot `number` of a copy says that it is this one, as empty ones do too.
fn has_number(place: &[u8], number: usize) -> bool {
    let stated = |range: Range<usize>| {
        place.get(range.start.checked_add(offset_of!(RawKeyslot, index))?..)?.first_chunk().copied()
    };
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    keyslot_range(number).and_then(stated).map(u32::from_le_bytes) == Some(number)
}

/// Whether the first sector repeats two bytes, as a medium may fill a bad one: 55 aa is no boot sector's then.
fn is_filled(head: &[u8]) -> bool {
    let sector = head.get(..SECTOR_LEN).unwrap_or(head);
    sector.chunks(2).all(|pair| Some(pair) == sector.get(..2))
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
pub(super) fn is_nearly(found: &[u8; 16], uuid: &[u8; 16]) -> bool {
    found.iter().zip(uuid).filter(|(found, byte)| found != byte).count() <= 4
}

/// Whether each byte is zero or the one expected there.
pub(super) fn is_zero_or(found: &[u8], expected: &[u8]) -> bool {
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

/// How many keyslots lie in a block of 4 096 bytes.
const SLOTS_IN_BLOCK: usize = SUPERBLOCK_LEN / KEYSLOT_LEN;
/// The smallest sector of a medium, in bytes.
const SECTOR_LEN: usize = 512;
/// So many keyslots with their own numbers are no chance.
const FEWEST_NUMBERS: usize = 2;
