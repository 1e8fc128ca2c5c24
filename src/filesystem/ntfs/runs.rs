//! Lists of runs: where the clusters of a value lie.

use super::{
    super::{Fault, Result},
    geometry::Geometry,
    record::Extent,
};

/// Clusters of a value that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first of them, counted from the value's beginning.
    pub(super) first: u64,
    pub(super) len: u64,
    /// Where it lies in the volume; nowhere for a hole.
    pub(super) place: Option<u64>,
}

impl Run {
    pub(super) const fn end(&self) -> u64 {
        self.first.saturating_add(self.len)
    }
}

/// Unpacks the list of a part of a value. Every run lies within the volume.
pub(super) fn unpack(extent: &Extent<'_>, geometry: &Geometry) -> Result<Vec<Run>> {
    let (mut packed, mut runs) = (extent.packed, Vec::new());
    let (mut first, mut cluster) = (extent.lowest, 0_i64);
    while let Some((len, step)) = split(&mut packed)? {
        let place = match step {
            None => None,
            Some(step) => {
                cluster = cluster.checked_add(step).ok_or(Fault::Damaged)?;
                // Old versions have a hole at -1.
                if cluster == -1 { None } else { Some(u64::try_from(cluster).map_err(|_| Fault::Damaged)?) }
            }
        };
        let is_within =
            place.is_none_or(|place| place.checked_add(len).is_some_and(|end| end <= geometry.clusters));
        let end = first.checked_add(len).filter(|end| *end <= MOST_CLUSTERS && is_within);
        runs.push(Run { first, len, place });
        first = end.ok_or(Fault::Damaged)?;
    }
    if extent.highest.wrapping_add(1) == first || extent.highest == 0 {
        Ok(runs)
    } else {
        Err(Fault::Damaged)
    }
}

/// The run that has a cluster of the value.
pub(super) fn find(runs: &[Run], cluster: u64) -> Option<Run> {
    let at = runs.partition_point(|run| run.end() <= cluster);
    runs.get(at).filter(|run| run.first <= cluster).copied()
}

/// Takes a run off a list: its clusters, and how far its first one is behind that of the run before; no step is a hole. `None` at
/// the end.
///
/// The halves of the first byte say how many bytes each of the two numbers has.
fn split(packed: &mut &[u8]) -> Result<Option<(u64, Option<i64>)>> {
    let Some((&sizes, rest)) = packed.split_first().filter(|(sizes, _)| **sizes != 0) else {
        return Ok(None);
    };
    let (len, rest) = rest.split_at_checked((sizes & 0xf).into()).ok_or(Fault::Damaged)?;
    let (step, rest) = rest.split_at_checked((sizes >> 4).into()).ok_or(Fault::Damaged)?;
    *packed = rest;
    let len =
        signed(len).and_then(|len| u64::try_from(len).ok()).filter(|len| *len > 0).ok_or(Fault::Damaged)?;
    let step = if step.is_empty() { None } else { Some(signed(step).ok_or(Fault::Damaged)?) };
    Ok(Some((len, step)))
}

/// A number of one to eight bytes, little-endian.
fn signed(bytes: &[u8]) -> Option<i64> {
    let fill = if bytes.last()? & 0x80 == 0 { 0 } else { 0xff };
    let mut whole = [fill; 8];
    whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(whole))
}

/// Of one value: more than 2⁶³ bytes need of any size.
const MOST_CLUSTERS: u64 = 1 << 54;

#[cfg(test)]
mod tests {
    use super::{super::record::Sizes, *};

    fn unpacked(packed: &[u8], highest: u64) -> Result<Vec<Run>> {
        let sizes = Sizes { size: 0, written: 0, allocated: 0 };
        let geometry =
            Geometry { cluster_len: 512, clusters: 1 << 20, record_len: 1024, table: 0, mirror: 0 };
        unpack(&Extent { lowest: 0, highest, unit: 0, sizes, packed }, &geometry)
    }

    fn run(first: u64, len: u64, place: Option<u64>) -> Run {
        Run { first, len, place }
    }

    /// The examples of the Linux-NTFS project's documentation of data runs.
    #[test]
    fn published_lists_are_unpacked() {
        assert_eq!(unpacked(&[0x21, 0x18, 0x34, 0x56, 0], 0x17).unwrap(), [run(0, 0x18, Some(0x5634))]);
        let scrambled = [0x11, 0x30, 0x60, 0x21, 0x10, 0x00, 0x01, 0x11, 0x20, 0xe0, 0];
        let wanted = [run(0, 0x30, Some(0x60)), run(0x30, 0x10, Some(0x160)), run(0x40, 0x20, Some(0x140))];
        assert_eq!(unpacked(&scrambled, 0x5f).unwrap(), wanted);
        let sparse = [0x11, 0x30, 0x20, 0x01, 0x60, 0x11, 0x10, 0x30, 0];
        let wanted = [run(0, 0x30, Some(0x20)), run(0x30, 0x60, None), run(0x90, 0x10, Some(0x50))];
        assert_eq!(unpacked(&sparse, 0x9f).unwrap(), wanted);
        assert_eq!(find(&wanted, 0x8f), Some(wanted[1]));
        assert_eq!(find(&wanted, 0xa0), None);
    }

    #[test]
    fn lists_that_leave_the_volume_or_lie_about_their_length_are_damage() {
        assert_eq!(unpacked(&[0x31, 2, 0xff, 0xff, 0x0f, 0], 1), Err(Fault::Damaged));
        assert_eq!(unpacked(&[0x11, 1, 0xf0, 0], 0), Err(Fault::Damaged));
        assert_eq!(unpacked(&[0x11, 0, 1, 0], 0), Err(Fault::Damaged));
        assert_eq!(unpacked(&[0x11, 4, 1, 0], 4), Err(Fault::Damaged));
        assert_eq!(unpacked(&[0x18, 1], 0), Err(Fault::Damaged));
        assert_eq!(unpacked(&[0x08, 1, 0, 0, 0, 0, 0, 0, 0x7f, 0], 0), Err(Fault::Damaged));
    }
}
