//! The checksum of a chunk in its journal (NAT-REENC-18).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::io;

use super::keys;
use crate::{
    crypto::{
        hash::{self, Polyval},
        secret::{DerivedKey, VolumeKey},
    },
    error::Result,
};

/// What makes the checksums of a re-encryption's chunks: HMAC-SHA-512 over the POLYVAL of each block. So threads can share
/// the work, each with blocks of its own, and only who has the volume key can make a journal that passes for another.
#[derive(Debug)]
pub struct ChunkKey {
    block: Polyval,
    mac: DerivedKey,
}

/// The hash of a block.
pub type BlockHash = [u8; 16];

impl ChunkKey {
    /// That of the re-encryption to `new_key`.
    pub(super) fn new(new_key: &VolumeKey, uuid: &[u8; 16]) -> Result<Self> {
        let block = keys::block_hash_key(new_key, uuid)?;
        let block = block.expose().first_chunk();
        let block = block.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(Self { block: Polyval::new(block), mac: keys::chunk_key(new_key, uuid)? })
    }

    /// Room for the hashes of a chunk of `len` bytes.
    pub fn room(len: usize) -> Vec<BlockHash> {
        vec![BlockHash::default(); len.div_ceil(BLOCK_LEN)]
    }

    /// Puts the hashes of a piece's blocks in their place.
    pub fn hash(&self, piece: &[u8], hashes: &mut [BlockHash]) {
        for (hash, block) in hashes.iter_mut().zip(piece.chunks(BLOCK_LEN)) {
            *hash = self.block.of(block);
        }
    }

    /// The checksum of the chunk with these hashes.
    pub fn checksum(&self, hashes: &[BlockHash]) -> [u8; 32] {
        let mac = hash::hmac_sha512(self.mac.expose(), &[hashes.as_flattened()]);
        mac.first_chunk().copied().unwrap_or_default()
    }

    /// Whether a whole chunk has this checksum.
    pub(super) fn fits(&self, chunk: &[u8], checksum: &[u8; 32]) -> bool {
        let mut hashes = Self::room(chunk.len());
        self.hash(chunk, &mut hashes);
        hash::equal(&self.checksum(&hashes), checksum)
    }
}

/// Every chunk is a whole number of these.
pub const BLOCK_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests know their own bytes"
    )]

    use super::*;

    fn key(byte: u8, uuid: u8) -> ChunkKey {
        ChunkKey::new(&VolumeKey::copy_of(&[byte; 64]).unwrap(), &[uuid; 16]).unwrap()
    }

    fn chunk(blocks: u32) -> Vec<u8> {
        (0..blocks * 4096).map(|i| u8::try_from(i % 251).unwrap()).collect()
    }

    fn checksum(key: &ChunkKey, chunk: &[u8]) -> [u8; 32] {
        let mut hashes = ChunkKey::room(chunk.len());
        key.hash(chunk, &mut hashes);
        key.checksum(&hashes)
    }

    #[test]
    fn pieces_give_what_the_whole_gives() {
        let (key, chunk) = (key(1, 7), chunk(5));
        for blocks in [1, 2, 256] {
            let mut hashes = ChunkKey::room(chunk.len());
            let pieces: Vec<_> = chunk.chunks(blocks * BLOCK_LEN).zip(hashes.chunks_mut(blocks)).collect();
            for (piece, hashes) in pieces.into_iter().rev() {
                key.hash(piece, hashes);
            }
            assert!(key.fits(&chunk, &key.checksum(&hashes)), "pieces of {blocks}");
        }
    }

    #[test]
    fn every_bit_and_the_order_of_the_blocks_count() {
        let (key, whole) = (key(1, 7), chunk(3));
        let sum = checksum(&key, &whole);
        for bit in (0..whole.len() * 8).step_by(4093) {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.fits(&damaged, &sum), "bit {bit}");
        }
        let swapped = [&whole[4096..8192], &whole[..4096], &whole[8192..]].concat();
        assert!(!key.fits(&swapped, &sum));
        assert!(!key.fits(&whole[..8192], &sum));
        assert!(!key.fits(&[whole.as_slice(), &[0; 4096]].concat(), &sum));
    }

    #[test]
    fn volume_key_and_uuid_count() {
        let sums = [key(1, 7), key(2, 7), key(1, 8)].map(|key| checksum(&key, &chunk(2)));
        assert!(sums[0] != sums[1] && sums[0] != sums[2] && sums[1] != sums[2]);
    }
}
