//! The superblock of a new volume.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{
    super::{
        super::bytes::{put, short},
        layout::FLEX_SHIFT,
        superblock::{self, LEN, put_checksum, put_wide},
    },
    NewExt,
    places::Places,
    sizes::{DESCRIPTOR_LEN, FIRST_INODE, INODE_LEN, Sizes},
};

/// One that tells sizes, and of nothing that it is free. It is sealed.
pub(super) fn new(new: &NewExt<'_>, sizes: &Sizes) -> [u8; LEN] {
    let mut raw = [0; LEN];
    let (block_shift, per_group) = (sizes.block_len.trailing_zeros() - 10, short(sizes.blocks_per_group));
    put_wide(&mut raw, 0x4, 0x150, sizes.blocks);
    for (at, field) in [
        (0x0, short(sizes.inodes_per_group * sizes.groups)),
        (0x14, short(sizes.first_block)),
        (0x18, block_shift),
        (0x1c, block_shift),
        (0x20, per_group),
        (0x24, per_group),
        (0x28, short(sizes.inodes_per_group)),
        // s_rev_level: with the fields from here on.
        (0x4c, 1),
        (0x54, short(FIRST_INODE)),
        (0x60, INCOMPATIBLE),
        (0x64, READ_ONLY),
        // s_default_mount_opts: xattr_user and acl.
        (0x100, 0xc),
        // s_flags: names are hashed as signed bytes.
        (0x160, 1),
    ] {
        put(&mut raw, at, &field.to_le_bytes());
    }
    let mut compatible = COMPATIBLE;
    if sizes.journal > 0 {
        compatible |= HAS_JOURNAL;
        put(&mut raw, 0xe0, &JOURNAL_INODE.to_le_bytes());
        // s_jnl_backup_type: s_jnl_blocks has the inode's blocks.
        put(&mut raw, 0xfd, &[1]);
    }
    if sizes.has_resize_inode() {
        compatible |= RESIZE_INODE;
    }
    put(&mut raw, 0x5c, &compatible.to_le_bytes());
    for (at, field) in [
        // s_max_mnt_count: no check after so many mounts.
        (0x36, u16::MAX),
        (0x38, superblock::MAGIC),
        // s_state: clean. s_errors: go on.
        (0x3a, 1),
        (0x3c, 1),
        (0x58, half(INODE_LEN)),
        (0xce, half(sizes.reserved)),
        (0xfe, half(DESCRIPTOR_LEN)),
        // s_min_extra_isize, s_want_extra_isize.
        (0x15c, 32),
        (0x15e, 32),
    ] {
        put(&mut raw, at, &field.to_le_bytes());
    }
    put(&mut raw, 0x68, &new.uuid);
    put(&mut raw, 0x78, label(new.label.unwrap_or_default()).as_bytes());
    put(&mut raw, 0xec, &new.hash_seed);
    // s_def_hash_version: half MD4.
    put(&mut raw, 0xfc, &[1]);
    // s_log_groups_per_flex; s_checksum_type: CRC-32C.
    put(&mut raw, 0x174, &[FLEX_SHIFT, 1]);
    // s_wtime, s_lastcheck, s_mkfs_time.
    for (low, high) in [(0x30, 0x274), (0x40, 0x277), (0x108, 0x276)] {
        put_time(&mut raw, low, high, new.now);
    }
    put_checksum(&mut raw);
    raw
}

/// Has it tell what is free, and what the file system takes.
pub(super) fn note_counts(raw: &mut [u8], places: &Places) {
    let blocks: u64 = places.layout.groups.iter().map(|group| u64::from(group.free_blocks)).sum();
    let inodes: u64 = places.layout.groups.iter().map(|group| u64::from(group.free_inodes)).sum();
    put_wide(raw, 0xc, 0x158, blocks);
    put(raw, 0x10, &short(inodes).to_le_bytes());
    put(raw, 0x248, &short(places.overhead).to_le_bytes());
    put_checksum(raw);
}

/// `s_jnl_blocks`: where the journal's inode is found again. `root` is the sixty bytes in which its blocks begin.
pub(super) fn note_journal(raw: &mut [u8], root: &[u8], len: u64) {
    let [a, b, c, d, high @ ..] = len.to_le_bytes();
    put(raw, 0x10c, root);
    put(raw, 0x10c + 60, &high);
    put(raw, 0x10c + 64, &[a, b, c, d]);
    put_checksum(raw);
}

/// The longest beginning of a label for which there is room.
fn label(label: &str) -> &str {
    let end = (0..=LABEL_LEN.min(label.len())).rev().find(|&end| label.is_char_boundary(end));
    label.get(..end.unwrap_or_default()).unwrap_or_default()
}

fn put_time(raw: &mut [u8], low: usize, high: usize, time: SystemTime) {
    let [low_bytes @ .., above, _, _, _] =
        time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().to_le_bytes();
    put(raw, low, &low_bytes);
    put(raw, high, &[above]);
}

/// A number that was checked to fit.
fn half(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The journal's inode.
pub(super) const JOURNAL_INODE: u32 = 8;
const LABEL_LEN: usize = 16;
const HAS_JOURNAL: u32 = 0x4;
const RESIZE_INODE: u32 = 0x10;
/// `ext_attr` and `dir_index`.
const COMPATIBLE: u32 = 0x8 | 0x20;
/// `filetype`, `extent`, `64bit`, `flex_bg`.
const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x80 | 0x200;
/// `sparse_super`, `large_file`, `huge_file`, `dir_nlink`, `extra_isize`, `metadata_csum`.
const READ_ONLY: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_cut_between_characters() {
        assert_eq!(label("a label that is long"), "a label that is ");
        assert_eq!(label("123456789012345ä"), "123456789012345");
    }
}
