//! Every feature that a superblock can name, and what this driver makes of it.

use super::super::bytes::u32_at;

/// What is done about a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// It is read here and written.
    Written,
    /// It is read here, and takes nothing. Volumes that have it are not written.
    Read,
    /// The volume is not shown: what it holds would be taken for something else.
    Refused,
}

/// The field of the superblock in which a feature's bit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Compatible,
    Incompatible,
    ReadOnly,
}

/// The features of one volume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    compatible: u32,
    incompatible: u32,
    read_only: u32,
}

impl Feature {
    pub(super) const fn bit(self) -> u32 {
        self.bit
    }
}

/// One bit of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Feature {
    field: Field,
    bit: u32,
    /// As `mke2fs -O` names it.
    name: &'static str,
    support: Support,
}

impl Features {
    /// Those of a superblock.
    pub(super) fn parse(superblock: &[u8]) -> Self {
        Self {
            compatible: u32_at(superblock, 0x5c),
            incompatible: u32_at(superblock, 0x60),
            read_only: u32_at(superblock, 0x64),
        }
    }

    /// Has it, and gives where its field is in the superblock.
    pub(super) const fn add(&mut self, feature: Feature) -> usize {
        match feature.field {
            Field::Compatible => {
                self.compatible |= feature.bit;
                0x5c
            }
            Field::Incompatible => {
                self.incompatible |= feature.bit;
                0x60
            }
            Field::ReadOnly => {
                self.read_only |= feature.bit;
                0x64
            }
        }
    }

    pub(super) const fn has(&self, feature: Feature) -> bool {
        self.field(feature.field) & feature.bit != 0
    }

    /// The first one with which the volume cannot be read; of a bit that is not in the table, its number.
    pub(super) fn refused(&self) -> Option<String> {
        let known = ALL.iter().find(|feature| feature.support == Support::Refused && self.has(**feature));
        if let Some(feature) = known {
            return Some(feature.name.to_owned());
        }
        // What changes only how one writes does not keep anybody from reading.
        let known = ALL.iter().filter(|feature| feature.field == Field::Incompatible);
        let unknown = self.incompatible & !known.fold(0, |bits, feature| bits | feature.bit);
        (unknown != 0).then(|| format!("0x{unknown:x}"))
    }

    /// The first one with which the volume cannot be written.
    pub(super) fn unwritten(&self) -> Option<String> {
        let is_here = |feature: &&Feature| self.has(**feature) && feature.support != Written;
        if let Some(feature) = ALL.iter().find(is_here) {
            return Some(feature.name.to_owned());
        }
        let unknown = [Compatible, Incompatible, ReadOnly].into_iter().find_map(|field| {
            let known = ALL.iter().filter(|feature| feature.field == field);
            let unknown = self.field(field) & !known.fold(0, |bits, feature| bits | feature.bit);
            (unknown != 0).then_some(unknown)
        });
        unknown.map(|bits| format!("0x{bits:x}"))
    }

    const fn field(&self, field: Field) -> u32 {
        match field {
            Field::Compatible => self.compatible,
            Field::Incompatible => self.incompatible,
            Field::ReadOnly => self.read_only,
        }
    }
}

const fn feature(field: Field, bit: u32, name: &'static str, support: Support) -> Feature {
    Feature { field, bit, name, support }
}

use Field::{Compatible, Incompatible, ReadOnly};
use Support::{Read, Refused, Written};

pub(super) const HAS_JOURNAL: Feature = feature(Compatible, 0x4, "has_journal", Written);
pub(super) const EXT_ATTR: Feature = feature(Compatible, 0x8, "ext_attr", Written);
pub(super) const RESIZE_INODE: Feature = feature(Compatible, 0x10, "resize_inode", Written);
pub(super) const DIR_INDEX: Feature = feature(Compatible, 0x20, "dir_index", Written);
pub(super) const SPARSE_SUPER2: Feature = feature(Compatible, 0x200, "sparse_super2", Written);
pub(super) const ORPHAN_FILE: Feature = feature(Compatible, 0x1000, "orphan_file", Written);
pub(super) const FILETYPE: Feature = feature(Incompatible, 0x2, "filetype", Written);
pub(super) const RECOVER: Feature = feature(Incompatible, 0x4, "needs_recovery", Written);
pub(super) const META_BG: Feature = feature(Incompatible, 0x10, "meta_bg", Written);
pub(super) const EXTENT: Feature = feature(Incompatible, 0x40, "extent", Written);
pub(super) const WIDE: Feature = feature(Incompatible, 0x80, "64bit", Written);
pub(super) const FLEX_BG: Feature = feature(Incompatible, 0x200, "flex_bg", Written);
pub(super) const CSUM_SEED: Feature = feature(Incompatible, 0x2000, "metadata_csum_seed", Written);
pub(super) const LARGE_DIR: Feature = feature(Incompatible, 0x4000, "large_dir", Written);
pub(super) const INLINE_DATA: Feature = feature(Incompatible, 0x8000, "inline_data", Read);
pub(super) const SPARSE_SUPER: Feature = feature(ReadOnly, 0x1, "sparse_super", Written);
pub(super) const LARGE_FILE: Feature = feature(ReadOnly, 0x2, "large_file", Written);
pub(super) const HUGE_FILE: Feature = feature(ReadOnly, 0x8, "huge_file", Written);
pub(super) const GDT_CSUM: Feature = feature(ReadOnly, 0x10, "uninit_bg", Written);
pub(super) const DIR_NLINK: Feature = feature(ReadOnly, 0x20, "dir_nlink", Written);
pub(super) const BIGALLOC: Feature = feature(ReadOnly, 0x200, "bigalloc", Read);
pub(super) const METADATA_CSUM: Feature = feature(ReadOnly, 0x400, "metadata_csum", Written);
pub(super) const ORPHAN_PRESENT: Feature = feature(ReadOnly, 0x1_0000, "orphan_present", Written);

/// The table: what mke2fs 1.47 and `debugfs` know by name.
const ALL: [Feature; 46] = [
    feature(Compatible, 0x1, "dir_prealloc", Written),
    feature(Compatible, 0x2, "imagic_inodes", Read),
    HAS_JOURNAL,
    EXT_ATTR,
    RESIZE_INODE,
    DIR_INDEX,
    feature(Compatible, 0x40, "lazy_bg", Read),
    feature(Compatible, 0x80, "snapshot_inode", Read),
    feature(Compatible, 0x100, "snapshot_bitmap", Read),
    SPARSE_SUPER2,
    // What it left in its part of the journal is told apart when that is replayed.
    feature(Compatible, 0x400, "fast_commit", Read),
    feature(Compatible, 0x800, "stable_inodes", Read),
    ORPHAN_FILE,
    feature(Incompatible, 0x1, "compression", Refused),
    FILETYPE,
    RECOVER,
    feature(Incompatible, 0x8, "journal_dev", Refused),
    META_BG,
    EXTENT,
    WIDE,
    feature(Incompatible, 0x100, "mmp", Read),
    FLEX_BG,
    feature(Incompatible, 0x400, "ea_inode", Read),
    feature(Incompatible, 0x1000, "dirdata", Refused),
    CSUM_SEED,
    LARGE_DIR,
    INLINE_DATA,
    // Names and contents are ciphertext; names fold by a table that is not here.
    feature(Incompatible, 0x1_0000, "encrypt", Refused),
    feature(Incompatible, 0x2_0000, "casefold", Refused),
    SPARSE_SUPER,
    LARGE_FILE,
    feature(ReadOnly, 0x4, "btree_dir", Read),
    HUGE_FILE,
    GDT_CSUM,
    DIR_NLINK,
    feature(ReadOnly, 0x40, "extra_isize", Written),
    feature(ReadOnly, 0x80, "snapshot", Read),
    feature(ReadOnly, 0x100, "quota", Read),
    BIGALLOC,
    METADATA_CSUM,
    feature(ReadOnly, 0x800, "replica", Read),
    feature(ReadOnly, 0x1000, "read-only", Read),
    feature(ReadOnly, 0x2000, "project", Read),
    feature(ReadOnly, 0x4000, "shared_blocks", Read),
    feature(ReadOnly, 0x8000, "verity", Read),
    ORPHAN_PRESENT,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bit_stands_in_the_table_twice() {
        for (at, one) in ALL.iter().enumerate() {
            assert!(one.bit.is_power_of_two());
            let is_twin =
                |other: &Feature| (other.field, other.bit) == (one.field, one.bit) || other.name == one.name;
            assert!(!ALL[at + 1..].iter().any(is_twin), "{}", one.name);
        }
    }

    /// `debugfs -R supported_features`, 1.47.0, but for what belongs to the journal.
    const OF_E2FSPROGS: &str = "dir_prealloc imagic_inodes has_journal ext_attr resize_inode dir_index sparse_super2 fast_commit \
        stable_inodes orphan_file filetype needs_recovery journal_dev meta_bg extent 64bit mmp flex_bg ea_inode \
        metadata_csum_seed large_dir inline_data encrypt casefold sparse_super large_file huge_file uninit_bg dir_nlink \
        extra_isize quota bigalloc metadata_csum read-only project shared_blocks verity orphan_present";

    #[test]
    fn every_feature_of_e2fsprogs_is_in_the_table() {
        for name in OF_E2FSPROGS.split_whitespace() {
            assert!(ALL.iter().any(|feature| feature.name == name), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_written_is_told_by_name() {
        let with = |compatible, incompatible, read_only| Features { compatible, incompatible, read_only };
        assert_eq!(with(0x103c, 0x22c6, 0x46b).unwritten(), None);
        assert_eq!(with(0x3c, 0x80c2, 0x46b).unwritten().unwrap(), "inline_data");
        assert_eq!(with(0x3c, 0xc2, 0x66b).unwritten().unwrap(), "bigalloc");
        assert_eq!(with(0x43c, 0xc2, 0).unwritten().unwrap(), "fast_commit");
        assert_eq!(with(0x3c, 0xc2, 0x10_0000).unwritten().unwrap(), "0x100000");
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name_and_the_unknown_by_number() {
        let with = |incompatible| Features { compatible: !0, incompatible, read_only: !0 };
        assert_eq!(with(0x2 | 0x4 | 0x40).refused(), None);
        assert_eq!(with(0x1_0040).refused().unwrap(), "encrypt");
        assert_eq!(with(0x40_0002).refused().unwrap(), "0x400000");
    }
}
