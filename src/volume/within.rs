//! What lies where a header is about to be written, though nothing at the start tells.

use std::{ops::Range, sync::Arc};

use super::{PartitionContents, by_signature, partitions_of};
use crate::{
    error::Result,
    format::Format,
    storage::{Section, Storage},
};

/// Another's bytes within a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// What it is, in words that follow "what would be overwritten: ".
    pub what: String,
    /// The option that names its place.
    pub option: String,
}

/// What lies in `ranges` that begins neither at the start of `storage` nor shows there: a partition, of whose table the copy at
/// the end may be all that is left, or a container whose header stands farther on.
///
/// # Errors
/// What reading gave.
pub fn stranger_within(storage: &Arc<dyn Storage>, ranges: &[Range<u64>]) -> Result<Option<Stranger>> {
    let size = storage.size()?;
    let is_met = |found: &&PartitionContents| {
        let partition = found.partition.range(size);
        partition.is_some_and(|partition| ranges.iter().any(|range| meet(&partition, range)))
    };
    let partitions = partitions_of(storage)?;
    let mut met = partitions.iter().filter(is_met);
    let first = met.clone().next();
    if let Some(found) = met.find(|found| found.format.is_some()).or(first) {
        let option = format!("--partition {}", found.partition.number);
        return Ok(Some(Stranger { what: found.describe(), option }));
    }
    for range in ranges {
        if let Some((offset, format)) = header_within(storage, range.start..range.end.min(size))? {
            let what = format!("a {format} header stands at byte {offset}");
            let option = format!("--offset {}", storage.origin().saturating_add(offset));
            return Ok(Some(Stranger { what, option }));
        }
    }
    Ok(None)
}

const fn meet(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// A header that begins in `range`, but not at the start of all, and its format.
fn header_within(storage: &Arc<dyn Storage>, range: Range<u64>) -> Result<Option<(u64, &'static str)>> {
    let end = range.end.min(range.start.saturating_add(MOST));
    let mut sector = [0; SECTOR];
    for offset in (range.start.next_multiple_of(UNIT)..end).step_by(SECTOR) {
        let is_read = storage.read_exact_at(&mut sector, offset).is_ok();
        if offset == 0 || !is_read || !MAGICS.iter().any(|magic| sector.starts_with(magic)) {
            continue;
        }
        let section = Section::new(Arc::clone(storage), offset..storage.size()?)?;
        let Some(format) = by_signature(&section)? else { continue };
        if is_whole(format, &section) {
            return Ok(Some((offset, format.name())));
        }
    }
    Ok(None)
}

fn is_whole(format: &dyn Format, section: &Section) -> bool {
    format.read_header(section).is_ok() || format.read_header_file(section).is_ok_and(|found| found.is_some())
}

const MAGICS: [&[u8]; 2] = [b"LUKS\xba\xbe", b"\x89STRONGROOM"];
const SECTOR: usize = 512;
const UNIT: u64 = 512;
/// No header of ours takes more.
const MOST: u64 = 64 << 20;
