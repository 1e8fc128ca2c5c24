//! Serpent over arrays of words, which compilers turn into the vectors that every processor of an architecture has.
#![allow(clippy::inline_always, reason = "operations on a vector are one instruction each")]

use std::{array, slice};

use aes::cipher::{
    Array, BlockCipherDecBackend, BlockCipherEncBackend, BlockSizeUser, ParBlocksSizeUser,
    consts::{U8, U16},
    inout::{InOut, InOutBuf},
};

use super::{
    RoundKeys,
    rounds::{backwards, rounds, step, substitute, substitutions, two_ways},
};
use crate::crypto::xts::Block;

/// The same word of several blocks.
type Words = [u32; LANES];

/// Blocks side by side.
const LANES: usize = 4;
/// Times as many in flight.
const GROUPS: usize = 2;
/// So few blocks are sooner done one by one than a group is.
const ALONE: usize = 2;

type Group = Array<Block, U8>;

const _: () = assert!(size_of::<Group>() == GROUPS * LANES * size_of::<Block>());

/// The kernel that runs everywhere.
pub(super) struct Portable<'a>(pub(super) &'a RoundKeys);

impl BlockSizeUser for Portable<'_> {
    type BlockSize = U16;
}

impl ParBlocksSizeUser for Portable<'_> {
    type ParBlocksSize = U8;
}

impl BlockCipherEncBackend for Portable<'_> {
    #[inline]
    fn encrypt_block(&self, block: InOut<'_, '_, Block>) {
        self.encrypt_tail_blocks(slice::from_mut(block.into_out_with_copied_in()).into());
    }

    #[inline]
    fn encrypt_par_blocks(&self, group: InOut<'_, '_, Group>) {
        encrypt(self.0, group.into_out_with_copied_in());
    }

    #[inline]
    fn encrypt_tail_blocks(&self, blocks: InOutBuf<'_, '_, Block>) {
        let blocks = blocks.into_out_with_copied_in();
        if blocks.len() <= ALONE {
            return blocks.iter_mut().for_each(|block| self.0.encrypt_alone(block));
        }
        padded(blocks, |group| encrypt(self.0, group));
    }
}

impl BlockCipherDecBackend for Portable<'_> {
    #[inline]
    fn decrypt_block(&self, block: InOut<'_, '_, Block>) {
        self.decrypt_tail_blocks(slice::from_mut(block.into_out_with_copied_in()).into());
    }

    #[inline]
    fn decrypt_par_blocks(&self, group: InOut<'_, '_, Group>) {
        decrypt(self.0, group.into_out_with_copied_in());
    }

    #[inline]
    fn decrypt_tail_blocks(&self, blocks: InOutBuf<'_, '_, Block>) {
        let blocks = blocks.into_out_with_copied_in();
        if blocks.len() <= ALONE {
            return blocks.iter_mut().for_each(|block| self.0.decrypt_alone(block));
        }
        padded(blocks, |group| decrypt(self.0, group));
    }
}

fn padded(blocks: &mut [Block], work: impl FnOnce(&mut Group)) {
    let mut group = Group::default();
    group[..blocks.len()].copy_from_slice(blocks);
    work(&mut group);
    blocks.copy_from_slice(&group[..blocks.len()]);
}

#[inline(never)]
fn encrypt(keys: &RoundKeys, group: &mut Group) {
    let mut state = load_group(group);
    encrypt_words(keys, &mut state);
    store_group(group, &state);
}

#[inline(never)]
fn decrypt(keys: &RoundKeys, group: &mut Group) {
    let mut state = load_group(group);
    decrypt_words(keys, &mut state);
    store_group(group, &state);
}

fn load_group(group: &Group) -> State {
    array::from_fn(|part| {
        array::from_fn(|word| {
            array::from_fn(|lane| {
                let words = group[part * LANES + lane].0.as_chunks::<4>().0;
                u32::from_le_bytes(words[word])
            })
        })
    })
}

fn store_group(group: &mut Group, state: &State) {
    for (blocks, words) in group.as_mut_slice().as_chunks_mut::<LANES>().0.iter_mut().zip(state) {
        for (lane, block) in blocks.iter_mut().enumerate() {
            for (bytes, word) in block.0.as_chunks_mut::<4>().0.iter_mut().zip(words) {
                *bytes = word[lane].to_le_bytes();
            }
        }
    }
}

substitutions! { Words }
rounds! { Words }

#[inline(always)]
fn broadcast(word: u32) -> Words {
    [word; LANES]
}

#[inline(always)]
fn and(a: Words, b: Words) -> Words {
    array::from_fn(|lane| a[lane] & b[lane])
}

#[inline(always)]
fn and_not(a: Words, b: Words) -> Words {
    array::from_fn(|lane| a[lane] & !b[lane])
}

#[inline(always)]
fn or(a: Words, b: Words) -> Words {
    array::from_fn(|lane| a[lane] | b[lane])
}

#[inline(always)]
fn xor(a: Words, b: Words) -> Words {
    array::from_fn(|lane| a[lane] ^ b[lane])
}

#[inline(always)]
fn not(a: Words) -> Words {
    a.map(|word| !word)
}

#[inline(always)]
fn rotate<const LEFT: u32>(a: Words) -> Words {
    a.map(|word| word.rotate_left(LEFT))
}

#[inline(always)]
fn shift<const LEFT: u32>(a: Words) -> Words {
    a.map(|word| word << LEFT)
}
