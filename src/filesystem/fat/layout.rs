//! Boot sectors: FAT12, FAT16, FAT32 (Microsoft, *FAT32 File System Specification*, 1.03) and exFAT (Microsoft, *exFAT file
//! system specification*). What parses is consistent, and lies within the volume.

use super::super::{
    Fault, Result,
    bytes::{index, u8_at, u16_at, u32_at, u64_at},
};

/// Where everything lies, in bytes of the volume, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) sector: u32,
    pub(super) table: u64,
    pub(super) table_len: u64,
    pub(super) copies: u32,
    /// Where cluster 2 begins.
    pub(super) heap: u64,
    pub(super) cluster_len: u32,
    /// Clusters 2 and on.
    pub(super) clusters: u32,
    pub(super) width: Width,
    pub(super) root: Root,
    /// Which copy of the table counts, where only one is kept.
    pub(super) active: Option<u32>,
    /// Of FAT32: the sector with the count of free clusters.
    pub(super) info: Option<u64>,
}

/// The entries of the table, which tell the kinds apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Bits12,
    Bits16,
    Bits32,
    Exfat,
}

/// Where the root directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// Before the heap, in bytes.
    Fixed { offset: u64, len: u32 },
    /// From this cluster on.
    Chain(u32),
}

impl Layout {
    /// Reads the first sector of a volume of `volume_len` bytes.
    pub(super) fn parse(boot: &[u8], volume_len: u64) -> Result<Self> {
        let is_exfat = boot.get(3..11) == Some(b"EXFAT   ");
        let layout = if is_exfat { Self::parse_exfat(boot)? } else { Self::parse_fat(boot)? };
        let end = u64::from(layout.clusters)
            .checked_mul(layout.cluster_len.into())
            .and_then(|heap| heap.checked_add(layout.heap));
        let table_needs = layout.width.offset(u64::from(layout.clusters) + 2);
        let fits = end.is_some_and(|end| end <= volume_len)
            && layout.table_len >= table_needs
            && layout.clusters > 0
            && !matches!(layout.root, Root::Chain(first) if !layout.has(first));
        if fits { Ok(layout) } else { Err(Fault::Damaged) }
    }

    fn parse_fat(boot: &[u8]) -> Result<Self> {
        let sector = u64::from(u16_at(boot, 11));
        let per_cluster = u64::from(u8_at(boot, 13));
        let reserved = u64::from(u16_at(boot, 14));
        let copies = u64::from(u8_at(boot, 16));
        let root_len = u64::from(u16_at(boot, 17)) * 32;
        let sectors = either(u16_at(boot, 19).into(), u32_at(boot, 32).into());
        let table_sectors = either(u16_at(boot, 22).into(), u32_at(boot, 36).into());
        let is_right = boot.get(510..512) == Some(&[0x55, 0xaa])
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && per_cluster * sector <= 1 << 18
            && reserved > 0
            && matches!(copies, 1..=4)
            && matches!(u8_at(boot, 0), 0xeb | 0xe9)
            && table_sectors > 0;
        if !is_right {
            return Err(Fault::Damaged);
        }
        let heap = reserved + table_sectors * copies + root_len.div_ceil(sector);
        let clusters = sectors.checked_sub(heap).ok_or(Fault::Damaged)? / per_cluster;
        let width = match clusters {
            // However few clusters it has: all drivers take it so.
            ..=0x0fff_fff5 if u16_at(boot, 22) == 0 => Width::Bits32,
            ..4085 => Width::Bits12,
            4085..65525 => Width::Bits16,
            _ => return Err(Fault::Damaged),
        };
        let is_long = width == Width::Bits32;
        if is_long && (root_len > 0 || u16_at(boot, 42) != 0) || !is_long && root_len == 0 {
            return Err(Fault::Damaged);
        }
        let root = if is_long {
            Root::Chain(u32_at(boot, 44))
        } else {
            let offset = (reserved + table_sectors * copies) * sector;
            Root::Fixed { offset, len: u32::try_from(root_len).map_err(|_| Fault::Damaged)? }
        };
        let flags = u16_at(boot, 40);
        let active = (is_long && flags & 0x80 != 0).then_some(u32::from(flags & 0xf));
        if active.is_some_and(|active| u64::from(active) >= copies) {
            return Err(Fault::Damaged);
        }
        let info = u64::from(u16_at(boot, 48));
        Ok(Self {
            sector: narrow(sector)?,
            table: reserved * sector,
            table_len: table_sectors * sector,
            copies: narrow(copies)?,
            heap: heap * sector,
            cluster_len: narrow(per_cluster * sector)?,
            clusters: narrow(clusters)?,
            width,
            root,
            active,
            info: (is_long && info > 0 && info < reserved).then_some(info * sector),
        })
    }

    fn parse_exfat(boot: &[u8]) -> Result<Self> {
        let (shift, cluster_shift) = (u8_at(boot, 108), u8_at(boot, 109));
        let flags = u16_at(boot, 106);
        let copies = u8_at(boot, 110);
        let is_right = boot.get(510..512) == Some(&[0x55, 0xaa])
            && boot.get(11..64).is_some_and(|zeros| zeros.iter().all(|&byte| byte == 0))
            && (9..=12).contains(&shift)
            && cluster_shift <= 25_u8.saturating_sub(shift)
            && matches!(copies, 1 | 2)
            && u8_at(boot, 105) == 1
            && (flags & ACTIVE == 0 || copies == 2);
        if !is_right {
            return Err(Fault::Damaged);
        }
        let bytes = |sectors: u64| sectors.checked_shl(shift.into()).filter(|len| len >> shift == sectors);
        let volume_len = bytes(u64_at(boot, 72)).ok_or(Fault::Damaged)?;
        let table_len = u64::from(u32_at(boot, 84)) << shift;
        let layout = Self {
            sector: 1 << shift,
            table: u64::from(u32_at(boot, 80)) << shift,
            table_len,
            copies: copies.into(),
            heap: u64::from(u32_at(boot, 88)) << shift,
            cluster_len: 1 << (shift + cluster_shift),
            clusters: u32_at(boot, 92),
            width: Width::Exfat,
            root: Root::Chain(u32_at(boot, 96)),
            active: (copies == 2).then_some(u32::from(flags & ACTIVE)),
            info: None,
        };
        let heap_len = u64::from(layout.clusters) * u64::from(layout.cluster_len);
        let fits = layout.heap.checked_add(heap_len).is_some_and(|end| end <= volume_len)
            && layout.table >= 24 << shift
            && layout.table + table_len * u64::from(copies) <= layout.heap
            && layout.clusters <= MAX_CLUSTERS;
        if fits { Ok(layout) } else { Err(Fault::Damaged) }
    }

    /// Whether there is such a cluster.
    pub(super) fn has(&self, cluster: u32) -> bool {
        cluster >= 2 && cluster - 2 < self.clusters
    }

    /// Where a cluster lies.
    pub(super) fn offset(&self, cluster: u32) -> u64 {
        self.heap + u64::from(cluster.saturating_sub(2)) * u64::from(self.cluster_len)
    }

    /// How many clusters hold so many bytes.
    pub(super) fn clusters_for(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.cluster_len.into())
    }

    pub(super) fn is_exfat(&self) -> bool {
        self.width == Width::Exfat
    }

    /// The largest file.
    pub(super) fn largest_file(&self) -> u64 {
        let whole = u64::from(self.clusters) * u64::from(self.cluster_len);
        if self.is_exfat() { whole } else { u32::MAX.into() }
    }

    /// The largest directory.
    pub(super) fn largest_directory(&self) -> u64 {
        if self.is_exfat() { 1 << 28 } else { 1 << 21 }
    }
}

impl Width {
    /// Where the entries before number `entry` end in the table, in bytes.
    pub(super) const fn offset(self, entry: u64) -> u64 {
        match self {
            Self::Bits12 => (entry * 3).div_ceil(2),
            Self::Bits16 => entry * 2,
            Self::Bits32 | Self::Exfat => entry * 4,
        }
    }
}

/// A field of 16 bits, or where that is zero, the one of 32 bits that came later.
const fn either(short: u64, long: u64) -> u64 {
    if short == 0 { long } else { short }
}

fn narrow(number: u64) -> Result<u32> {
    u32::try_from(index(number)).map_err(|_| Fault::Damaged)
}

/// Of exFAT's volume flags: the second table counts.
const ACTIVE: u16 = 1;
/// exFAT's most.
const MAX_CLUSTERS: u32 = 0xffff_fff5;
