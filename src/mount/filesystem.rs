//! File systems inside a volume: recognised by their superblock.

use std::{fmt, fs::File, io, os::unix::fs::FileExt, path::Path};

use crate::{
    error::{Error, ErrorKind, Result},
    filesystem::Fault,
    volume::{
        ByteDevice,
        signature::{self, FileSystem, HEAD_LEN, Signature},
    },
};

/// What the first bytes of a volume say of the file system in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    /// Which file system.
    pub contents: Contents,
    /// The smallest unit that it writes, in bytes, where the superblock tells.
    pub block_size: Option<u32>,
    /// What is there instead of a file system: its name, and what opens it.
    pub other: Option<(&'static str, Option<&'static str>)>,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contents {
    /// ext2, ext3 or ext4.
    Ext {
        /// The last use ended without unmounting: its journal must be replayed first.
        needs_recovery: bool,
    },
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// exFAT.
    Exfat,
    /// NTFS.
    Ntfs,
    /// ISO 9660, and with it perhaps UDF.
    Iso,
    /// UDF.
    Udf,
    /// None that is known here.
    Unknown,
}

impl Superblock {
    /// Looks at the block file `path`. A volume too small for some superblock holds no such file system.
    pub fn probe(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut head = vec![0; signature::HEAD_LEN];
        let mut filled = 0;
        while let Some(rest) = head.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, u64::try_from(filled).map_err(io::Error::other)?)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(Self::parse(head.get(..filled).unwrap_or_default()))
    }

    /// Reads the superblock in the first bytes of a volume.
    pub fn parse(head: &[u8]) -> Self {
        let contents = Contents::recognise(head);
        let block_size = block_size(contents, head).filter(|size| size.is_power_of_two() && *size >= 512);
        let other = signature::recognise(head).filter(|found| found.file_system().is_none());
        Self { contents, block_size, other: other.map(|found| (found.name, found.way_in)) }
    }

    /// What is said of a volume without a file system that is mounted here.
    pub fn unmountable(&self) -> Error {
        let Some((name, way_in)) = self.other else {
            return Error::new(
                ErrorKind::Unsupported,
                "the volume holds no file system that strongroom knows",
            )
            .with_hint("use mount --block to see the volume as a file, and open that with other tools");
        };
        let way = way_in.unwrap_or("other programs open FILE").replace("FILE", "DIR/volume");
        Error::new(ErrorKind::Unsupported, format!("the volume holds {name}"))
            .with_hint(format!("strongroom mount --block CONTAINER DIR, then {way}"))
    }
}

/// Where each superblock keeps its unit: ext4 `s_log_block_size`, XFS `sb_sectsize` (big-endian), btrfs `sectorsize`,
/// exFAT `BytesPerSectorShift`, FAT and NTFS `BPB_BytsPerSec`.
fn block_size(contents: Contents, head: &[u8]) -> Option<u32> {
    let byte = |offset: usize| head.get(offset).copied();
    let bytes = |offset: usize| head.get(offset..);
    match contents {
        Contents::Ext { .. } => 1024_u32.checked_shl(u32::from(byte(EXT_SUPERBLOCK + 0x18)?)),
        Contents::Xfs => Some(u32::from(u16::from_be_bytes(*bytes(102)?.first_chunk()?))),
        Contents::Btrfs => Some(u32::from_le_bytes(*bytes(BTRFS_SUPERBLOCK + 0x90)?.first_chunk()?)),
        Contents::Exfat => 1_u32.checked_shl(u32::from(byte(108)?)),
        Contents::Fat | Contents::Ntfs => Some(u32::from(u16::from_le_bytes(*bytes(11)?.first_chunk()?))),
        Contents::Iso => Some(u32::from(u16::from_le_bytes(*bytes(ISO_DESCRIPTOR + 128)?.first_chunk()?))),
        // Its descriptors tell, farther on: 512 at least.
        Contents::Udf => Some(512),
        Contents::Unknown => None,
    }
}

impl Contents {
    /// What a volume holds.
    ///
    /// # Errors
    /// What reading gave.
    pub(super) fn of(volume: &ByteDevice) -> Result<Self> {
        let mut head = vec![0; usize::try_from(volume.size()).map_or(HEAD_LEN, |size| size.min(HEAD_LEN))];
        volume.read_at(&mut head, 0).map_err(io::Error::other)?;
        Ok(Self::recognise(&head))
    }

    /// Why the server's own driver does not go on with it.
    pub(super) fn failure(self, fault: Fault) -> Error {
        match fault {
            Fault::Damaged => Error::new(ErrorKind::Io, format!("the {self} file system is damaged"))
                .with_hint(match self {
                    Self::Ntfs => REPAIR_NTFS,
                    Self::Iso | Self::Udf => READ_OTHERWISE,
                    _ => REPAIR,
                }),
            other => Error::new(ErrorKind::Io, other.to_string()),
        }
    }

    /// Recognises a file system by the first bytes of the volume.
    pub fn recognise(head: &[u8]) -> Self {
        match signature::recognise(head).and_then(Signature::file_system) {
            Some(FileSystem::Ext) => {
                // `s_feature_incompat`: 0x4 RECOVER.
                let incompat = head.get(EXT_SUPERBLOCK + 0x60).copied().unwrap_or_default();
                Self::Ext { needs_recovery: incompat & 0x4 != 0 }
            }
            Some(FileSystem::Xfs) => Self::Xfs,
            Some(FileSystem::Btrfs) => Self::Btrfs,
            Some(FileSystem::Fat) => Self::Fat,
            Some(FileSystem::Exfat) => Self::Exfat,
            Some(FileSystem::Ntfs) => Self::Ntfs,
            Some(FileSystem::Iso) => Self::Iso,
            Some(FileSystem::Udf) => Self::Udf,
            None => Self::Unknown,
        }
    }

    /// The kernel's name for it; `None` for an unknown one.
    pub const fn kernel_name(self) -> Option<&'static str> {
        match self {
            Self::Ext { .. } => Some("ext4"),
            Self::Xfs => Some("xfs"),
            Self::Btrfs => Some("btrfs"),
            Self::Fat => Some("vfat"),
            Self::Exfat => Some("exfat"),
            Self::Ntfs => Some("ntfs3"),
            Self::Iso => Some("iso9660"),
            Self::Udf => Some("udf"),
            Self::Unknown => None,
        }
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ext { .. } => "ext4",
            Self::Xfs => "XFS",
            Self::Btrfs => "btrfs",
            Self::Fat => "FAT",
            Self::Exfat => "exFAT",
            Self::Ntfs => "NTFS",
            Self::Iso => "ISO 9660",
            Self::Udf => "UDF",
            Self::Unknown => "unknown",
        })
    }
}

/// `ntfsfix` makes the copy of the first records agree again and empties the log; what it cannot mend, Windows can.
pub(super) const REPAIR_NTFS: &str =
    "use mount --block, then ntfsfix on the block file (package ntfs-3g); or let Windows check it";
const READ_OTHERWISE: &str = "use mount --block, then 7z or xorriso on DIR/volume";
const REPAIR: &str = "mount the volume with --block, and run fsck on DIR/volume";
const EXT_SUPERBLOCK: usize = 1024;
const ISO_DESCRIPTOR: usize = 0x8000;
const BTRFS_SUPERBLOCK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn with(offset: usize, magic: &[u8]) -> Vec<u8> {
        let mut head = vec![0; signature::HEAD_LEN];
        head[offset..offset + magic.len()].copy_from_slice(magic);
        head
    }

    #[test]
    fn superblocks_are_recognised() {
        let ext = Contents::Ext { needs_recovery: false };
        assert_eq!(Contents::recognise(&with(0x438, &[0x53, 0xEF])), ext);
        assert_eq!(Contents::recognise(&with(0, b"XFSB")), Contents::Xfs);
        assert_eq!(Contents::recognise(&with(0x10040, b"_BHRfS_M")), Contents::Btrfs);
        assert_eq!(Contents::recognise(&with(3, b"EXFAT   ")), Contents::Exfat);
        assert_eq!(Contents::recognise(&with(3, b"NTFS    ")), Contents::Ntfs);
        assert_eq!(Contents::recognise(&with(0x8001, b"CD001")), Contents::Iso);
        assert_eq!(Contents::recognise(&with(0x8001, b"BEA01")), Contents::Udf);
    }

    #[test]
    fn a_fat_name_without_boot_signature_is_unknown() {
        let mut head = with(82, b"FAT32   ");
        assert_eq!(Contents::recognise(&head), Contents::Unknown);
        head[510] = 0x55;
        head[511] = 0xAA;
        assert_eq!(Contents::recognise(&head), Contents::Fat);
    }

    #[test]
    fn an_ext_journal_to_replay_is_seen() {
        let mut head = with(0x438, &[0x53, 0xEF]);
        for (incompat, needs_recovery) in [(0x04, true), (0x42, false), (0x44, true)] {
            head[0x460] = incompat;
            assert_eq!(Contents::recognise(&head), Contents::Ext { needs_recovery });
        }
    }

    #[test]
    fn the_unit_of_writing_is_read_from_the_superblock() {
        let mut ext = with(0x438, &[0x53, 0xEF]);
        ext[0x418] = 2;
        assert_eq!(Superblock::parse(&ext).block_size, Some(4096));
        let mut exfat = with(3, b"EXFAT   ");
        exfat[108] = 9;
        assert_eq!(Superblock::parse(&exfat).block_size, Some(512));
        exfat[108] = 200;
        assert_eq!(Superblock::parse(&exfat).block_size, None);
    }

    #[test]
    fn what_is_no_file_system_is_named_with_the_commands_that_go_on() {
        let error = Superblock::parse(&with(512, b"LABELONE")).unmountable();
        assert_eq!(error.reason(), "the volume holds an LVM physical volume");
        let hint = error.hint().unwrap();
        assert!(hint.contains("losetup -f --show DIR/volume") && hint.contains("vgchange -ay"), "{hint}");
        let unknown = Superblock::parse(&[0xA5; 4096]).unmountable();
        assert!(unknown.reason().contains("no file system that strongroom knows"));
    }

    #[test]
    fn random_bytes_and_a_short_volume_are_unknown() {
        assert_eq!(Contents::recognise(&[0xA5; 4096]), Contents::Unknown);
        assert_eq!(Contents::recognise(b"XFS"), Contents::Unknown);
    }
}
