//! Copies of the superblock and of descriptors, at the start of some groups.

use super::{
    super::{
        Result,
        bytes::{index, put, u16_at, u32_at},
    },
    features::RECOVER,
    medium::{Medium, Run},
    superblock::{MAGIC, Superblock},
};

/// Writes what stands at the start of a group, but for the superblock itself. `head` is that; `descriptors` gives the block of a meta
/// group that is to be written to a place, if it is.
pub(super) fn put_copies(
    (medium, run): (&Medium, &mut Run),
    superblock: &Superblock,
    group: u64,
    head: &[u8],
    descriptors: &mut dyn FnMut(u64, u64) -> Result<Option<Vec<u8>>>,
) -> Result<()> {
    let mut place = superblock.first_of(group);
    if superblock.has_super(group) {
        if group > 0 {
            run.add(medium, place, &copy_for(superblock, head, group))?;
        }
        place = place.saturating_add(1);
    }
    for meta_group in superblock.descriptors_in(group) {
        if let Some(block) = descriptors(meta_group, place)? {
            run.add(medium, place, &block)?;
        }
        place = place.saturating_add(1);
    }
    Ok(())
}

/// The block of a group's copy of the superblock: one of which nobody says that it is in use.
fn copy_for(superblock: &Superblock, head: &[u8], group: u64) -> Vec<u8> {
    let mut copy = head.to_vec();
    let [low, high, ..] = group.to_le_bytes();
    put(&mut copy, GROUP, &[low, high]);
    put(&mut copy, 0x60, &(u32_at(head, 0x60) & !RECOVER.bit()).to_le_bytes());
    // s_last_orphan.
    put(&mut copy, 0xe8, &[0; 4]);
    superblock.seal(&mut copy);
    copy.resize(index(superblock.block_len), 0);
    copy
}

/// Whether a block begins with the copy of a superblock in a group that tells of as many blocks and descriptors.
pub(super) fn is_copy(copy: &[u8], head: &[u8], group: u64) -> bool {
    let [low, high, ..] = group.to_le_bytes();
    let is_same = |at: usize| u32_at(copy, at) == u32_at(head, at);
    u16_at(copy, GROUP) == u16::from_le_bytes([low, high])
        && u16_at(copy, 0x38) == MAGIC
        && [0, 0x4, 0x68, 0x150].into_iter().all(is_same)
}

/// `s_block_group_nr`.
const GROUP: usize = 0x5a;
