//! The piece map: which pieces were ever made (`spec/pieces-v1.md`, section 4).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

use super::block::{BLOCK_LEN, Geometry, Role};
use crate::crypto::{
    hash::{equal, hmac_sha512, sha256},
    secret::DerivedKey,
};

const MAGIC: [u8; 16] = *b"SR piece map\0\0\0\0";
const VERSION: u32 = 1;
/// Every piece was made: no key is needed to say so.
const ALL: u32 = 0;
/// A bit for each piece says whether it was made.
const SOME: u32 = 1;

/// Section 4: what stands before the bits.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHead {
    magic: [u8; 16],
    version: U32,
    kind: U32,
    generation: U64,
    set: [u8; 16],
    count: U64,
    reserved: [u8; 3_944],
    checksum: [u8; 32],
    mac: [u8; 64],
}

const _: () = assert!(size_of::<RawHead>() == BLOCK_LEN);
const _: () = assert!(std::mem::offset_of!(RawHead, checksum) == 4_000);

/// A set of pieces, a bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bits {
    count: u32,
    bytes: Vec<u8>,
}

impl Bits {
    /// None of `count` pieces.
    pub(super) fn none(count: u32) -> Self {
        Self { count, bytes: vec![0; bits_len(count)] }
    }

    /// All of `count` pieces.
    pub(super) fn all(count: u32) -> Self {
        let mut bits = Self::none(count);
        (0..count).for_each(|index| bits.add(index));
        bits
    }

    /// Those of the pieces in it that are among the first `count`.
    pub(super) fn resized(&self, count: u32) -> Self {
        let mut bits = Self::none(count);
        (0..count.min(self.count)).filter(|index| self.has(*index)).for_each(|index| bits.add(index));
        bits
    }

    /// How many pieces there are, in the set or not.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether it has this piece.
    pub fn has(&self, index: u32) -> bool {
        let byte = usize::try_from(index >> 3).ok().and_then(|at| self.bytes.get(at));
        byte.is_some_and(|byte| byte & (1 << (index & 7)) != 0)
    }

    /// Takes in a piece.
    pub(super) fn add(&mut self, index: u32) {
        let at = usize::try_from(index >> 3).unwrap_or(usize::MAX);
        if index < self.count
            && let Some(byte) = self.bytes.get_mut(at)
        {
            *byte |= 1 << (index & 7);
        }
    }

    /// Takes a piece out.
    pub(super) fn remove(&mut self, index: u32) {
        let at = usize::try_from(index >> 3).unwrap_or(usize::MAX);
        if let Some(byte) = self.bytes.get_mut(at) {
            *byte &= !(1 << (index & 7));
        }
    }

    /// How many pieces it has.
    pub fn len(&self) -> u32 {
        self.bytes.iter().map(|byte| byte.count_ones()).fold(0, u32::saturating_add)
    }

    /// Whether it has no piece.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a map that was read says. Nothing in it is trusted before [`is_authentic`](Self::is_authentic).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceMap {
    /// Counts the times that it was written.
    pub(super) generation: u64,
    /// Which pieces were made.
    pub(super) made: Made,
    mac: [u8; 64],
}

/// Which pieces were made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Made {
    /// All.
    All,
    /// These.
    Some(Bits),
}

impl Made {
    /// The same as a set of `count` pieces.
    pub(super) fn bits(&self, count: u32) -> Bits {
        match self {
            Self::All => Bits::all(count),
            Self::Some(bits) => bits.clone(),
        }
    }
}

impl PieceMap {
    /// Reads a map of the folder; `None` where it is not whole (PCS-MAP-02).
    pub fn read(bytes: &[u8], geometry: &Geometry) -> Option<Self> {
        let (head, bits) = bytes.split_first_chunk::<BLOCK_LEN>()?;
        let raw: &RawHead = zerocopy::transmute_ref!(head);
        let count = geometry.pieces();
        let is_ours = raw.magic == MAGIC
            && raw.version.get() == VERSION
            && raw.set == *geometry.set()
            && raw.count.get() == u64::from(count)
            && raw.reserved.iter().all(|byte| *byte == 0)
            && bits.len() == bits_room(count)
            && equal(&raw.checksum, &checksum(raw, bits));
        let (bits, rest) = bits.split_at_checked(bits_len(count)).filter(|_| is_ours)?;
        let set = Bits { count, bytes: bits.to_vec() };
        let has_more = rest.iter().any(|byte| *byte != 0) || (0..8).any(|bit| is_behind(&set, bit));
        let made = match raw.kind.get() {
            _ if has_more => return None,
            ALL if set.is_empty() && raw.mac == [0; 64] => Made::All,
            SOME => Made::Some(set),
            _ => return None,
        };
        Some(Self { generation: raw.generation.get(), made, mac: raw.mac })
    }

    /// Whether somebody who had the key wrote it. One that says that all pieces were made needs no key: it makes no hole.
    pub fn is_authentic(&self, geometry: &Geometry, key: &DerivedKey) -> bool {
        let Made::Some(_) = &self.made else { return true };
        let bytes = self.bytes(geometry, Some(key));
        let expected = bytes.first_chunk::<BLOCK_LEN>().map(|head| {
            let raw: &RawHead = zerocopy::transmute_ref!(head);
            raw.mac
        });
        expected.is_some_and(|mac| equal(&mac, &self.mac))
    }

    /// A map to be written, that all pieces were made.
    pub(super) const fn all(generation: u64) -> Self {
        Self { generation, made: Made::All, mac: [0; 64] }
    }

    /// A map to be written, that these pieces were made.
    pub(super) const fn some(generation: u64, bits: Bits) -> Self {
        Self { generation, made: Made::Some(bits), mac: [0; 64] }
    }

    /// Its bytes; under a MAC where it takes one and there is a `key`.
    pub(super) fn bytes(&self, geometry: &Geometry, key: Option<&DerivedKey>) -> Vec<u8> {
        let count = geometry.pieces();
        let (kind, set) = match &self.made {
            Made::All => (ALL, Bits::none(count)),
            Made::Some(bits) => (SOME, bits.clone()),
        };
        let mut bits = set.bytes;
        bits.resize(bits_room(count), 0);
        let mut raw = RawHead {
            magic: MAGIC,
            version: VERSION.into(),
            kind: kind.into(),
            generation: self.generation.into(),
            set: *geometry.set(),
            count: u64::from(count).into(),
            reserved: [0; 3_944],
            checksum: [0; 32],
            mac: [0; 64],
        };
        raw.checksum = checksum(&raw, &bits);
        if let (Made::Some(_), Some(key)) = (&self.made, key) {
            // PCS-MAP-03: the geometry stands under the MAC, too.
            raw.mac = hmac_sha512(key.expose(), &[&geometry.block(Role::Header), raw.as_bytes(), &bits]);
        }
        [raw.as_bytes(), &bits].concat()
    }
}

/// The bytes that a map of this folder takes.
pub(super) fn map_len(geometry: &Geometry) -> usize {
    bits_room(geometry.pieces()).saturating_add(BLOCK_LEN)
}

/// PCS-MAP-02: SHA-256 of the map with zeros in place of checksum and MAC.
fn checksum(raw: &RawHead, bits: &[u8]) -> [u8; 32] {
    let bare = RawHead { checksum: [0; 32], mac: [0; 64], ..*raw };
    sha256(&[bare.as_bytes(), bits])
}

fn bits_len(count: u32) -> usize {
    usize::try_from(count.div_ceil(8)).unwrap_or(usize::MAX)
}

fn bits_room(count: u32) -> usize {
    bits_len(count).div_ceil(BLOCK_LEN).saturating_mul(BLOCK_LEN)
}

/// Whether a bit of the last byte stands for no piece and is set.
fn is_behind(set: &Bits, bit: u32) -> bool {
    let index =
        u32::try_from(set.bytes.len()).unwrap_or(0).saturating_sub(1).saturating_mul(8).saturating_add(bit);
    index >= set.count && set.has(index)
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test stops at the first thing that is not as it must be"
)]
mod tests {
    use super::*;
    use crate::storage::pieces::block::Shape;

    fn geometry(pieces: u64) -> Geometry {
        let tail_offset = (1 << 20) + pieces * ((1 << 20) - 4096);
        let container_len = tail_offset + (1 << 20);
        let shape = Shape {
            uuid: [1; 16],
            set: [2; 16],
            container_len,
            front_len: 1 << 20,
            tail_offset,
            piece_len: 1 << 20,
        };
        Geometry::new(shape).unwrap()
    }

    fn key(byte: u8) -> DerivedKey {
        DerivedKey::copy_of(&[byte; 64]).unwrap()
    }

    fn bits(count: u32, has: &[u32]) -> Bits {
        let mut bits = Bits::none(count);
        for index in has {
            bits.add(*index);
        }
        bits
    }

    #[test]
    fn a_map_reads_as_it_was_written_and_only_its_key_makes_it_authentic() {
        let geometry = geometry(13);
        let map = PieceMap::some(7, bits(13, &[0, 5, 12]));
        let read = PieceMap::read(&map.bytes(&geometry, Some(&key(1))), &geometry).unwrap();
        assert_eq!((read.generation, &read.made), (7, &map.made));
        assert!(read.is_authentic(&geometry, &key(1)));
        assert!(!read.is_authentic(&geometry, &key(2)));
        let unsealed = PieceMap::read(&map.bytes(&geometry, None), &geometry).unwrap();
        assert!(!unsealed.is_authentic(&geometry, &key(1)));
    }

    #[test]
    fn a_map_of_all_pieces_needs_no_key() {
        let geometry = geometry(3);
        let read = PieceMap::read(&PieceMap::all(1).bytes(&geometry, None), &geometry).unwrap();
        assert!(read.made == Made::All && read.is_authentic(&geometry, &key(1)));
    }

    #[test]
    fn each_changed_byte_makes_a_map_that_is_not_whole_or_not_authentic() {
        let geometry = geometry(13);
        let bytes = PieceMap::some(7, bits(13, &[3])).bytes(&geometry, Some(&key(1)));
        for at in (0..bytes.len()).step_by(5) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            let read = PieceMap::read(&changed, &geometry);
            assert!(read.is_none_or(|read| !read.is_authentic(&geometry, &key(1))), "{at}");
        }
    }

    #[test]
    fn a_bit_that_somebody_set_with_the_right_checksum_is_not_authentic() {
        let geometry = geometry(13);
        let sealed = PieceMap::some(7, bits(13, &[3, 4])).bytes(&geometry, Some(&key(1)));
        let mut forged = PieceMap::some(7, bits(13, &[3])).bytes(&geometry, None);
        forged[4032..4096].copy_from_slice(&sealed[4032..4096]);
        let read = PieceMap::read(&forged, &geometry).unwrap();
        assert!(!read.is_authentic(&geometry, &key(1)));
    }

    #[test]
    fn bits_behind_the_last_piece_and_maps_of_other_folders_are_not_whole() {
        let geometry = geometry(13);
        let mut more = Bits::none(13);
        more.bytes[1] |= 1 << 5;
        assert_eq!(PieceMap::read(&PieceMap::some(1, more).bytes(&geometry, None), &geometry), None);
        let other = PieceMap::all(1).bytes(&self::geometry(14), None);
        assert_eq!(PieceMap::read(&other, &geometry), None);
        let bytes = PieceMap::all(1).bytes(&geometry, None);
        assert_eq!(PieceMap::read(&bytes[..bytes.len() - 1], &geometry), None);
        assert_eq!(PieceMap::read(&[], &geometry), None);
    }

    #[test]
    fn another_implementation_makes_the_same_blocks_and_maps() {
        let vector = |name: &str| {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pieces");
            std::fs::read(folder.join(name)).unwrap()
        };
        let tail_offset = (1 << 20) + 13 * ((1 << 20) - 4096) - 8192;
        let numbered = |from: u8| std::array::from_fn(|at| from + u8::try_from(at).unwrap());
        let geometry = Geometry::new(Shape {
            uuid: numbered(0x10),
            set: numbered(0x80),
            container_len: tail_offset + (1 << 20),
            front_len: 1 << 20,
            tail_offset,
            piece_len: 1 << 20,
        })
        .unwrap();
        for (name, role) in [("header", Role::Header), ("copy", Role::Copy), ("piece-7", Role::Piece(7))] {
            assert!(vector(&format!("{name}.block")) == geometry.block(role), "{name}");
        }
        assert!(vector("all.map") == PieceMap::all(1).bytes(&geometry, None));
        let key = DerivedKey::copy_of(&vector("map.key")).unwrap();
        let some = PieceMap::some(0x01_0203_0405, bits(13, &[0, 3, 8, 12]));
        assert!(vector("some.map") == some.bytes(&geometry, Some(&key)));
        let read = PieceMap::read(&vector("some.map"), &geometry).unwrap();
        assert!(read.is_authentic(&geometry, &key) && read.made == some.made);
    }

    #[test]
    fn bits_count_what_they_have() {
        let some = bits(13, &[0, 12, 13, 400]);
        assert_eq!((some.len(), some.has(12), some.has(13), some.has(u32::MAX)), (2, true, false, false));
        assert!(Bits::none(13).is_empty());
    }
}
