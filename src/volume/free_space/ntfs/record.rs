//! The table of records, and what is in a record.

use std::ops::Range;

use super::{ATTRIBUTE_LIST, Bytes, DATA, END, Fields, Layout, Result, damaged, unsupported};

/// The table of records, `$MFT`.
#[derive(Debug)]
pub(super) struct Table<'a> {
    pub(super) bytes: &'a Bytes<'a>,
    pub(super) layout: &'a Layout,
    data: Data,
}

impl<'a> Table<'a> {
    /// Finds it by its own record, the first one.
    pub(super) fn open(bytes: &'a Bytes<'a>, layout: &'a Layout) -> Result<Self> {
        let offset = layout.table.saturating_mul(layout.cluster_len);
        let record = Record::parse(bytes.read(offset, layout.record_len)?, 0)?;
        let data = record.data(layout)?;
        if data.first_cluster() != Some(layout.table) {
            return Err(damaged("its file table is not where the boot sector says"));
        }
        Ok(Self { bytes, layout, data })
    }

    /// One of the file system's own records.
    pub(super) fn record(&self, number: u64) -> Result<Record> {
        let len = u64::try_from(self.layout.record_len).unwrap_or(u64::MAX);
        let start = number.saturating_mul(len);
        let raw = self.data.read(self.bytes, self.layout, start..start.saturating_add(len))?;
        Record::parse(raw, number)
    }
}

/// A record of a file, in use, with its sectors' ends put back.
#[derive(Debug)]
pub(super) struct Record {
    raw: Vec<u8>,
    /// Where its attributes begin, and where they end at most.
    attributes: Range<usize>,
}

impl Record {
    fn parse(mut raw: Vec<u8>, number: u64) -> Result<Self> {
        let no = || damaged(format!("its record {number} is not a file record"));
        if !raw.starts_with(b"FILE") {
            return Err(no());
        }
        put_back(&mut raw)?;
        let fields = Fields(&raw);
        let used = usize::try_from(fields.u32(24)?).map_err(|_| no())?;
        let start = usize::from(fields.u16(20)?);
        let is_used = fields.u16(22)? & 1 != 0;
        let is_base = fields.u64(32)? == 0;
        // Records of 3.0 have the update sequence where 3.1 has the number.
        let has_number = fields.u16(4)? >= 48;
        let is_own = !has_number || u64::from(fields.u32(44)?) == number;
        if !is_used || !is_base || !is_own || used > raw.len() || start > used {
            return Err(no());
        }
        Ok(Self { raw, attributes: start..used })
    }

    /// The attributes, in order.
    fn attributes(&self) -> impl Iterator<Item = Result<Attribute<'_>>> {
        let mut rest = self.raw.get(self.attributes.clone()).unwrap_or_default();
        std::iter::from_fn(move || {
            let attribute = Attribute::split(&mut rest).transpose()?;
            if attribute.is_err() {
                rest = &[];
            }
            Some(attribute)
        })
    }

    /// The first attribute of a type that has no name.
    fn unnamed(&self, kind: u32) -> Result<Option<Attribute<'_>>> {
        for attribute in self.attributes() {
            let attribute = attribute?;
            if attribute.kind == kind && attribute.fields.u8(9)? == 0 {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }

    /// The value of an attribute that lies in the record.
    pub(super) fn value(&self, kind: u32) -> Result<Vec<u8>> {
        let attribute = self.unnamed(kind)?.filter(|attribute| !attribute.is_outside);
        attribute.ok_or_else(|| damaged("one of its system records lacks an attribute"))?.value()
    }

    /// The file's content.
    pub(super) fn data(&self, layout: &Layout) -> Result<Data> {
        let Some(attribute) = self.unnamed(DATA)? else {
            // A list says which records have the attributes that found no room.
            let is_elsewhere = self.unnamed(ATTRIBUTE_LIST)?.is_some();
            return Err(if is_elsewhere {
                scattered()
            } else {
                damaged("one of its system files has no content")
            });
        };
        if attribute.fields.u16(12)? & (COMPRESSED | ENCRYPTED | SPARSE) != 0 {
            return Err(damaged("one of its system files is compressed, encrypted or sparse"));
        }
        if !attribute.is_outside {
            return Ok(Data::Inside(attribute.value()?));
        }
        let is_listed = self.unnamed(ATTRIBUTE_LIST)?.is_some();
        attribute.extents(layout, is_listed)
    }
}

/// Each 512 bytes of a structure end with its number of this writing; what belongs there stands in an array.
pub(super) fn put_back(raw: &mut [u8]) -> Result<()> {
    let fields = Fields(raw);
    let (offset, count) = (usize::from(fields.u16(4)?), usize::from(fields.u16(6)?));
    let pieces = raw.len() / STRIDE;
    let is_possible = raw.len().is_multiple_of(STRIDE)
        && count == pieces.saturating_add(1)
        && offset.saturating_add(count.saturating_mul(2)) <= STRIDE.saturating_sub(2);
    if !is_possible {
        return Err(damaged("a structure has an impossible update sequence"));
    }
    let sequence = fields.bytes(offset, count.saturating_mul(2))?.to_vec();
    let mut words = sequence.chunks_exact(2);
    let number = words.next().unwrap_or_default();
    for (piece, word) in raw.chunks_exact_mut(STRIDE).zip(words) {
        let Some((_, tail)) = piece.split_at_mut_checked(STRIDE.saturating_sub(2)) else { continue };
        if tail != number {
            return Err(damaged("a structure was only partly written"));
        }
        tail.copy_from_slice(word);
    }
    Ok(())
}

/// An attribute of a record.
#[derive(Debug)]
struct Attribute<'a> {
    kind: u32,
    /// All of it.
    fields: Fields<'a>,
    /// Its value lies in clusters.
    is_outside: bool,
}

impl<'a> Attribute<'a> {
    /// Takes the first one off; `None` at their end.
    fn split(rest: &mut &'a [u8]) -> Result<Option<Self>> {
        let start = Fields(rest);
        let kind = start.u32(0)?;
        if kind == END {
            return Ok(None);
        }
        let len = usize::try_from(start.u32(4)?).unwrap_or(usize::MAX);
        let (whole, behind) = rest
            .split_at_checked(len)
            .filter(|_| len >= LEAST_ATTRIBUTE && len.is_multiple_of(8))
            .ok_or_else(|| damaged("an attribute has an impossible length"))?;
        *rest = behind;
        let fields = Fields(whole);
        let is_outside = match fields.u8(8)? {
            0 => false,
            1 => true,
            _ => return Err(damaged("an attribute has no location")),
        };
        Ok(Some(Self { kind, fields, is_outside }))
    }

    fn value(&self) -> Result<Vec<u8>> {
        let len = usize::try_from(self.fields.u32(16)?).unwrap_or(usize::MAX);
        Ok(self.fields.bytes(self.fields.u16(20)?.into(), len)?.to_vec())
    }

    /// Where the value lies. One that `is_listed` goes on in other records, which are not read.
    fn extents(&self, layout: &Layout, is_listed: bool) -> Result<Data> {
        let (lowest, highest) = (self.fields.u64(16)?, self.fields.u64(24)?);
        let start = usize::from(self.fields.u16(32)?);
        let packed = self.fields.0.get(start..).filter(|_| start >= LEAST_OUTSIDE);
        let mut packed = packed.ok_or_else(|| damaged("an attribute does not say where it lies"))?;
        let mut runs = Vec::new();
        let (mut before, mut cluster) = (0_u64, 0_i64);
        while let Some((len, step)) = split_run(&mut packed)? {
            cluster = cluster.checked_add(step).ok_or_else(outside)?;
            let first = u64::try_from(cluster).map_err(|_| outside())?;
            if first.checked_add(len).is_none_or(|end| end > layout.clusters) {
                return Err(outside());
            }
            runs.push(Run { before, first, len });
            before = before.checked_add(len).ok_or_else(outside)?;
        }
        if lowest != 0 || highest.checked_add(1) != Some(before) {
            return Err(damaged("an attribute claims another number of clusters than it has"));
        }
        let len = before.saturating_mul(layout.cluster_len);
        // What lies behind what was ever written does not count.
        let (size, written) = (self.fields.u64(48)?, self.fields.u64(56)?);
        if size.max(written) > len && !is_listed {
            return Err(damaged("one of its system files is longer than its clusters"));
        }
        Ok(Data::Outside { runs, len: len.min(size).min(written), is_listed })
    }
}

/// The content of a file.
#[derive(Debug)]
pub(super) enum Data {
    /// In its record.
    Inside(Vec<u8>),
    /// In clusters, in order.
    Outside { runs: Vec<Run>, len: u64, is_listed: bool },
}

/// Clusters of a file that follow one another.
#[derive(Debug)]
pub(super) struct Run {
    /// As many of the file's lie before it.
    before: u64,
    first: u64,
    len: u64,
}

impl Data {
    /// Sees to it that there are so many bytes of it.
    pub(super) fn check_len(&self, wanted: u64) -> Result<()> {
        let (len, is_listed) = match self {
            Self::Inside(value) => (u64::try_from(value.len()).unwrap_or(u64::MAX), false),
            Self::Outside { len, is_listed, .. } => (*len, *is_listed),
        };
        if len >= wanted {
            return Ok(());
        }
        Err(if is_listed { scattered() } else { damaged("one of its system files is too short") })
    }

    fn first_cluster(&self) -> Option<u64> {
        match self {
            Self::Inside(_) => None,
            Self::Outside { runs, .. } => runs.first().map(|run| run.first),
        }
    }

    /// Some of the bytes.
    pub(super) fn read(&self, bytes: &Bytes<'_>, layout: &Layout, range: Range<u64>) -> Result<Vec<u8>> {
        self.check_len(range.end)?;
        let cut_off = || damaged("one of its system files is cut off");
        let runs = match self {
            Self::Inside(value) => {
                let [start, end] =
                    [range.start, range.end].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
                return value.get(start..end).map(<[u8]>::to_vec).ok_or_else(cut_off);
            }
            Self::Outside { runs, .. } => runs,
        };
        let mut found = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let number = at.checked_div(layout.cluster_len).unwrap_or(0);
            let skipped = at.checked_rem(layout.cluster_len).unwrap_or(0);
            let index = runs.partition_point(|run| run.before.saturating_add(run.len) <= number);
            let run = runs.get(index).ok_or_else(cut_off)?;
            let within = number.saturating_sub(run.before);
            let left =
                run.len.saturating_sub(within).saturating_mul(layout.cluster_len).saturating_sub(skipped);
            let len = left.min(range.end.saturating_sub(at));
            let offset = run.first.saturating_add(within).saturating_mul(layout.cluster_len);
            let piece =
                bytes.read(offset.saturating_add(skipped), usize::try_from(len).unwrap_or(usize::MAX))?;
            found.extend(piece);
            at = at.saturating_add(len.max(1));
        }
        Ok(found)
    }
}

/// Takes a run off a list of them: its clusters, and how far its first one is behind that of the run before. `None` at the end.
///
/// The halves of the first byte say how many bytes each of the two numbers has. Without the second one it would be a hole.
fn split_run(packed: &mut &[u8]) -> Result<Option<(u64, i64)>> {
    let no = || damaged("a cluster list is malformed");
    let (&sizes, rest) = packed.split_first().ok_or_else(no)?;
    if sizes == 0 {
        return Ok(None);
    }
    let (len_size, step_size) = (usize::from(sizes & 0xf), usize::from(sizes >> 4));
    let (len, rest) = rest.split_at_checked(len_size).ok_or_else(no)?;
    let (step, rest) = rest.split_at_checked(step_size).ok_or_else(no)?;
    *packed = rest;
    let len = signed(len).and_then(|len| u64::try_from(len).ok()).filter(|&len| len > 0);
    Ok(Some((len.ok_or_else(no)?, signed(step).ok_or_else(no)?)))
}

/// A number of one to eight bytes, little-endian.
fn signed(bytes: &[u8]) -> Option<i64> {
    let fill = if bytes.last()? & 0x80 == 0 { 0 } else { 0xff };
    let mut whole = [fill; 8];
    whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(whole))
}

fn outside() -> crate::Error {
    damaged("it names clusters that are not there")
}

fn scattered() -> crate::Error {
    unsupported("one of its system files is in too many pieces").with_hint("defragment it under Windows")
}

/// The bytes that one word of an update sequence protects, whatever the size of sectors.
const STRIDE: usize = 512;
/// The header of an attribute whose value lies in the record, and of one whose does not.
const LEAST_ATTRIBUTE: usize = 24;
const LEAST_OUTSIDE: usize = 64;

/// Of an attribute's flags.
const COMPRESSED: u16 = 0xff;
const ENCRYPTED: u16 = 0x4000;
const SPARSE: u16 = 0x8000;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn split(mut packed: &[u8]) -> Vec<(u64, i64)> {
        std::iter::from_fn(|| split_run(&mut packed).unwrap()).collect()
    }

    /// The examples of the Linux-NTFS project's documentation of data runs.
    #[test]
    fn published_lists_of_clusters_are_read() {
        assert_eq!(split(&[0x21, 0x18, 0x34, 0x56, 0]), [(0x18, 0x5634)]);
        let fragmented = [
            0x31, 0x38, 0x73, 0x25, 0x34, 0x32, 0x14, 0x01, 0xe5, 0x11, 0x02, 0x31, 0x42, 0xaa, 0x00, 0x03, 0,
        ];
        assert_eq!(split(&fragmented), [(0x38, 0x34_2573), (0x114, 0x2_11e5), (0x42, 0x3_00aa)]);
        let scrambled = [0x11, 0x30, 0x60, 0x21, 0x10, 0x00, 0x01, 0x11, 0x20, 0xe0, 0];
        assert_eq!(split(&scrambled), [(0x30, 0x60), (0x10, 0x100), (0x20, -0x20)]);
    }
}
