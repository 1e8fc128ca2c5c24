//! The block that stands first in every file of a folder of pieces (`spec/pieces-v1.md`, section 3).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

use crate::crypto::hash::sha256;

/// The size of the block in bytes.
pub const BLOCK_LEN: usize = 4_096;
/// The same, as an offset.
pub(super) const BLOCK_LEN_U64: u64 = 4_096;
/// The shortest piece, in bytes.
pub const LEAST_PIECE_LEN: u64 = 1 << 20;
/// The longest piece, in bytes.
pub const MOST_PIECE_LEN: u64 = 1 << 40;
/// So many pieces a container has at most.
pub const MOST_PIECES: u64 = 1 << 20;
/// What lies before the data, and what lies behind them, has so many bytes at most.
const MOST_AROUND: u64 = 64 << 20;
/// A byte above 127, the name, and line ends that a text-mode transfer would change.
const MAGIC: [u8; 16] = *b"\x89SRPIECES\r\n\x1a\n\0\0\0";
const VERSION: u32 = 1;

/// Section 3.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBlock {
    magic: [u8; 16],
    version: U32,
    role: U32,
    index: U32,
    reserved_a: [u8; 4],
    uuid: [u8; 16],
    set: [u8; 16],
    container_len: U64,
    front_len: U64,
    tail_offset: U64,
    piece_len: U64,
    reserved_b: [u8; 3_968],
    checksum: [u8; 32],
}

const _: () = assert!(size_of::<RawBlock>() == BLOCK_LEN);
const _: () = assert!(std::mem::offset_of!(RawBlock, checksum) == 4_064);

/// Which file of the folder it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The header file.
    Header,
    /// The copy of the header file.
    Copy,
    /// The piece of this number.
    Piece(u32),
}

impl Role {
    const fn numbers(self) -> (u32, u32) {
        match self {
            Self::Header => (0, 0),
            Self::Copy => (1, 0),
            Self::Piece(index) => (2, index),
        }
    }

    const fn of(role: u32, index: u32) -> Option<Self> {
        match (role, index) {
            (0, 0) => Some(Self::Header),
            (1, 0) => Some(Self::Copy),
            (2, index) => Some(Self::Piece(index)),
            _ => None,
        }
    }
}

/// How a container lies in its folder. A value of this type is never wrong in itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    uuid: [u8; 16],
    set: [u8; 16],
    container_len: u64,
    front_len: u64,
    tail_offset: u64,
    piece_len: u64,
}

/// What a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// It is none of these blocks.
    #[error("it does not begin as a file of a folder of pieces does")]
    NoBlock,
    /// It is from a later version.
    #[error("version {0} of folders of pieces is not known")]
    Version(u32),
    /// It has another checksum, or says what cannot be.
    #[error("its first block is damaged")]
    Damaged,
}

/// What a new folder is to be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The container's identity.
    pub uuid: [u8; 16],
    /// What tells the files of this folder from those of every other, also of the same container.
    pub set: [u8; 16],
    /// The container's size in bytes.
    pub container_len: u64,
    /// The bytes before the data.
    pub front_len: u64,
    /// Where the data end.
    pub tail_offset: u64,
    /// The size of a piece's file in bytes.
    pub piece_len: u64,
}

impl Geometry {
    /// That of a new folder; `None` where there is no such folder (PCS-GEO-01 to -05).
    pub fn new(shape: Shape) -> Option<Self> {
        let Shape { uuid, set, container_len, front_len, tail_offset, piece_len } = shape;
        let geometry = Self { uuid, set, container_len, front_len, tail_offset, piece_len };
        let is_aligned = [container_len, front_len, tail_offset, piece_len]
            .iter()
            .all(|number| number.is_multiple_of(BLOCK_LEN_U64));
        let data_len = tail_offset.checked_sub(front_len).filter(|len| *len > 0)?;
        let tail_len = container_len.checked_sub(tail_offset)?;
        let fits = is_aligned
            && container_len <= i64::MAX.unsigned_abs()
            && (LEAST_PIECE_LEN..=MOST_PIECE_LEN).contains(&piece_len)
            && (BLOCK_LEN_U64..=MOST_AROUND).contains(&front_len)
            && (BLOCK_LEN_U64..=MOST_AROUND).contains(&tail_len)
            && data_len.div_ceil(geometry.payload_len()) <= MOST_PIECES;
        fits.then_some(geometry)
    }

    /// The same of another folder.
    #[must_use]
    pub const fn with_set(self, set: [u8; 16]) -> Self {
        Self { set, ..self }
    }

    /// The same with another size: data up to `tail_offset`, and `container_len` bytes in all. `None` where there is no such folder.
    pub fn resized(&self, tail_offset: u64, container_len: u64) -> Option<Self> {
        let Self { uuid, set, front_len, piece_len, .. } = *self;
        Self::new(Shape { uuid, set, container_len, front_len, tail_offset, piece_len })
    }

    /// Whether they are the same but for their sizes: of one folder.
    pub fn lies_alike(&self, other: &Self) -> bool {
        Some(*self) == other.resized(self.tail_offset, self.container_len)
    }

    /// The container's identity.
    pub const fn uuid(&self) -> &[u8; 16] {
        &self.uuid
    }

    /// What tells the files of this folder from those of every other.
    pub const fn set(&self) -> &[u8; 16] {
        &self.set
    }

    /// The container's size in bytes.
    pub const fn container_len(&self) -> u64 {
        self.container_len
    }

    /// Which bytes of the container lie in pieces.
    pub const fn data(&self) -> Range<u64> {
        self.front_len..self.tail_offset
    }

    /// The size of a piece's file in bytes; the last one may be shorter.
    pub const fn piece_len(&self) -> u64 {
        self.piece_len
    }

    /// The bytes of the container that a piece holds.
    const fn payload_len(&self) -> u64 {
        self.piece_len.saturating_sub(BLOCK_LEN_U64)
    }

    /// How many pieces there are, made or not.
    pub fn pieces(&self) -> u32 {
        let count = self.tail_offset.saturating_sub(self.front_len).div_ceil(self.payload_len());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The size of the file of a piece in bytes.
    pub fn file_len(&self, index: u32) -> u64 {
        let start = u64::from(index).saturating_mul(self.payload_len());
        let left = self.tail_offset.saturating_sub(self.front_len).saturating_sub(start);
        left.min(self.payload_len()).saturating_add(BLOCK_LEN_U64)
    }

    /// Whether the file of a piece may have this size. The last one may be longer: a change of size was broken off (PCS-SIZE-02).
    pub fn fits(&self, index: u32, len: u64) -> bool {
        let least = self.file_len(index);
        let most = if index.saturating_add(1) == self.pieces() { self.piece_len } else { least };
        (least..=most).contains(&len)
    }

    /// The piece in which the byte `offset` of the container lies, where in its file, and how many bytes of the container follow
    /// there. `offset` lies in the data.
    pub(super) fn place(&self, offset: u64) -> (u32, u64, u64) {
        let within = offset.saturating_sub(self.front_len);
        let (index, rest) = (within.checked_div(self.payload_len()), within.checked_rem(self.payload_len()));
        let index = index.and_then(|index| u32::try_from(index).ok()).unwrap_or(u32::MAX);
        let place = rest.unwrap_or(0).saturating_add(BLOCK_LEN_U64);
        (index, place, self.file_len(index).saturating_sub(place))
    }

    /// The block of this file.
    pub fn block(&self, role: Role) -> [u8; BLOCK_LEN] {
        let (number, index) = role.numbers();
        let mut raw = RawBlock {
            magic: MAGIC,
            version: VERSION.into(),
            role: number.into(),
            index: index.into(),
            reserved_a: [0; 4],
            uuid: self.uuid,
            set: self.set,
            container_len: self.container_len.into(),
            front_len: self.front_len.into(),
            tail_offset: self.tail_offset.into(),
            piece_len: self.piece_len.into(),
            reserved_b: [0; 3_968],
            checksum: [0; 32],
        };
        raw.checksum = checksum(&raw);
        zerocopy::transmute!(raw)
    }

    /// Reads the block of a file of a folder.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(block: &[u8; BLOCK_LEN]) -> Result<(Self, Role), BlockError> {
        let raw: &RawBlock = zerocopy::transmute_ref!(block);
        if raw.magic != MAGIC {
            return Err(BlockError::NoBlock);
        }
        if raw.checksum != checksum(raw) {
            return Err(BlockError::Damaged);
        }
        if raw.version.get() != VERSION {
            return Err(BlockError::Version(raw.version.get()));
        }
        let is_clear = raw.reserved_a == [0; 4] && raw.reserved_b.iter().all(|byte| *byte == 0);
        let shape = Shape {
            uuid: raw.uuid,
            set: raw.set,
            container_len: raw.container_len.get(),
            front_len: raw.front_len.get(),
            tail_offset: raw.tail_offset.get(),
            piece_len: raw.piece_len.get(),
        };
        let role = Role::of(raw.role.get(), raw.index.get());
        match (Self::new(shape), role) {
            (Some(geometry), Some(role)) if is_clear => Ok((geometry, role)),
            _ => Err(BlockError::Damaged),
        }
    }

    /// Whether bytes begin as those of a file of a folder do.
    pub fn is_block(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }
}

/// PCS-BLK-02: SHA-256 of what stands before the checksum.
fn checksum(raw: &RawBlock) -> [u8; 32] {
    sha256(&[raw.as_bytes().split_last_chunk::<32>().map_or(&[], |(head, _)| head)])
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test stops at the first thing that is not as it must be"
)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        let (uuid, set) = ([1; 16], [2; 16]);
        let (container_len, front_len, tail_offset) = (8 << 20, 1 << 20, 7 << 20);
        Shape { uuid, set, container_len, front_len, tail_offset, piece_len: 1 << 20 }
    }

    #[test]
    fn a_block_reads_as_it_was_written() {
        let geometry = Geometry::new(shape()).unwrap();
        for role in [Role::Header, Role::Copy, Role::Piece(0), Role::Piece(6)] {
            assert_eq!(Geometry::read(&geometry.block(role)), Ok((geometry, role)));
        }
    }

    #[test]
    fn each_changed_byte_is_noticed() {
        let block = Geometry::new(shape()).unwrap().block(Role::Piece(3));
        for at in (0..BLOCK_LEN).step_by(7).chain(0..128) {
            let mut changed = block;
            changed[at] ^= 1;
            let expected = if at < 16 { BlockError::NoBlock } else { BlockError::Damaged };
            assert_eq!(Geometry::read(&changed), Err(expected), "{at}");
        }
    }

    #[test]
    fn a_block_that_says_what_cannot_be_is_damaged_whatever_its_checksum() {
        type Change = fn(&mut RawBlock);
        let changes: [Change; 9] = [
            |raw| raw.role = 3.into(),
            |raw| raw.index = 1.into(),
            |raw| raw.reserved_a = [1; 4],
            |raw| raw.reserved_b[3_967] = 1,
            |raw| raw.piece_len = (512 << 10).into(),
            |raw| raw.piece_len = ((1 << 20) + 512).into(),
            |raw| raw.tail_offset = raw.front_len,
            |raw| raw.container_len = raw.tail_offset,
            |raw| raw.container_len = u64::MAX.into(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut raw: RawBlock = zerocopy::transmute!(Geometry::new(shape()).unwrap().block(Role::Header));
            change(&mut raw);
            raw.checksum = checksum(&raw);
            assert_eq!(Geometry::read(&zerocopy::transmute!(raw)), Err(BlockError::Damaged), "{number}");
        }
        let mut raw: RawBlock = zerocopy::transmute!(Geometry::new(shape()).unwrap().block(Role::Header));
        raw.version = 2.into();
        raw.checksum = checksum(&raw);
        assert_eq!(Geometry::read(&zerocopy::transmute!(raw)), Err(BlockError::Version(2)));
    }

    #[test]
    fn more_pieces_than_a_map_has_room_for_are_none() {
        let payload = (1 << 20) - 4096;
        let tail_offset = (1 << 20) + MOST_PIECES * payload;
        let most = Shape { tail_offset, container_len: tail_offset + (1 << 20), ..shape() };
        assert_eq!(Geometry::new(most).unwrap().pieces(), 1 << 20);
        let more = Shape { tail_offset: tail_offset + 4096, container_len: most.container_len, ..most };
        assert_eq!(Geometry::new(more), None);
    }

    #[test]
    fn every_byte_of_the_data_has_one_place_and_the_last_piece_ends_with_them() {
        let geometry = Geometry::new(shape()).unwrap();
        assert_eq!(geometry.pieces(), 7);
        let mut at = geometry.data().start;
        for index in 0..7 {
            let (piece, place, left) = geometry.place(at);
            assert_eq!((piece, place), (index, 4096));
            assert_eq!(left + 4096, geometry.file_len(index));
            assert_eq!(geometry.place(at + left - 1), (index, 4096 + left - 1, 1));
            at += left;
        }
        assert_eq!(at, geometry.data().end);
        assert_eq!(geometry.file_len(6), 4096 + (6 << 20) - 6 * ((1 << 20) - 4096));
    }
}
