//! The boot sector: sizes, and where the table of files is.

use super::super::{
    Fault, Result,
    bytes::{index, u8_at, u16_at, u64_at},
};

/// What is known of a volume before anything else is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// In bytes: a power of two up to 2 MiB.
    pub(super) cluster_len: u64,
    pub(super) clusters: u64,
    /// In bytes: a power of two up to 4096.
    pub(super) record_len: usize,
    /// The first cluster of the table of files, and of the copy of its first records.
    pub(super) table: u64,
    pub(super) mirror: u64,
}

impl Geometry {
    /// Reads it from the first sector. `volume_len` bounds what it may claim.
    pub(super) fn parse(boot: &[u8], volume_len: u64) -> Result<Self> {
        let sector_len = u64::from(u16_at(boot, 11));
        let is_ntfs = boot.get(3..11) == Some(b"NTFS    ") && u16_at(boot, 510) == SIGNATURE;
        if !is_ntfs || !matches!(sector_len, 512 | 1024 | 2048 | 4096) {
            return Err(Fault::Damaged);
        }
        let cluster_len =
            sectors_per_cluster(u8_at(boot, 13)).and_then(|count| count.checked_mul(sector_len));
        let cluster_len = cluster_len.filter(|len| *len <= LONGEST_CLUSTER).ok_or(Fault::Damaged)?;
        let len = u64_at(boot, 40).checked_mul(sector_len).filter(|len| *len <= volume_len);
        let clusters = len.and_then(|len| len.checked_div(cluster_len));
        let clusters = clusters.filter(|count| (1..=MOST_CLUSTERS).contains(count)).ok_or(Fault::Damaged)?;
        let (table, mirror) = (u64_at(boot, 48), u64_at(boot, 56));
        let record_len = record_len(u8_at(boot, 64), cluster_len).ok_or(Fault::Damaged)?;
        if table >= clusters {
            return Err(Fault::Damaged);
        }
        Ok(Self { cluster_len, clusters, record_len, table, mirror })
    }

    /// The cluster in which a byte of a file lies, and where in it.
    pub(super) fn split(&self, offset: u64) -> (u64, u64) {
        let cluster = offset.checked_div(self.cluster_len).unwrap_or_default();
        (cluster, offset.saturating_sub(cluster.saturating_mul(self.cluster_len)))
    }

    /// Where a cluster begins, in bytes.
    pub(super) const fn bytes(&self, clusters: u64) -> u64 {
        clusters.saturating_mul(self.cluster_len)
    }
}

/// Up to 128 it is the number; of the largest values, the power of two that is the number, negated.
fn sectors_per_cluster(field: u8) -> Option<u64> {
    match field {
        1 | 2 | 4 | 8 | 16 | 32 | 64 | 128 => Some(field.into()),
        0xf4..=0xff => 1_u64.checked_shl(field.wrapping_neg().into()),
        _ => None,
    }
}

/// A number of clusters, or the power of two that is the number of bytes, negated.
fn record_len(field: u8, cluster_len: u64) -> Option<usize> {
    let len = if field < 0x80 {
        u64::from(field).checked_mul(cluster_len)?
    } else {
        1_u64.checked_shl(field.wrapping_neg().into())?
    };
    (len.is_power_of_two() && (512..=LONGEST_RECORD).contains(&len)).then(|| index(len))
}

const SIGNATURE: u16 = 0xaa55;
/// Windows makes them of up to 2 MiB, and up to 2³² - 1 of them.
const LONGEST_CLUSTER: u64 = 2 << 20;
const MOST_CLUSTERS: u64 = 0xffff_ffff;
/// As large as sectors can be.
const LONGEST_RECORD: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_or_negated_powers_of_two() {
        assert_eq!(sectors_per_cluster(8), Some(8));
        assert_eq!(sectors_per_cluster(3), None);
        assert_eq!(sectors_per_cluster(0xf8), Some(256));
        assert_eq!(sectors_per_cluster(0xf4), Some(4096));
        assert_eq!(sectors_per_cluster(0x80), Some(128));
        assert_eq!(record_len(0xf6, 512), Some(1024));
        assert_eq!(record_len(1, 4096), Some(4096));
        assert_eq!(record_len(3, 512), None);
        assert_eq!(record_len(0x80, 512), None);
        assert_eq!(record_len(2, 2 << 20), None);
    }

    #[test]
    fn a_volume_larger_than_its_device_is_refused() {
        let mut boot = vec![0; 512];
        for (at, field) in [(3, &b"NTFS    "[..]), (11, &[0, 2, 8]), (40, &[0, 1]), (48, &[4]), (64, &[0xf6])]
        {
            super::super::super::bytes::put(&mut boot, at, field);
        }
        super::super::super::bytes::put(&mut boot, 510, &[0x55, 0xaa]);
        let geometry = Geometry::parse(&boot, 256 * 512).unwrap();
        assert_eq!((geometry.cluster_len, geometry.clusters, geometry.record_len), (4096, 32, 1024));
        assert_eq!(Geometry::parse(&boot, 255 * 512).unwrap_err(), Fault::Damaged);
    }
}
