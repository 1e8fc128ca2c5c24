//! What lies where a header is about to be written, though nothing at the start tells.

use std::{ops::Range, sync::Arc};

use super::{PartitionContents, by_signature, partitions_of};
use crate::{
    error::Result,
    format::{
        Format, Header, looks_random,
        scan::{FoundLuks, LuksScan},
        signature::{self, Owner},
    },
    storage::{Section, Storage, chunks},
};

/// Another's bytes within a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// What it is, in words before ", which would be overwritten".
    pub what: String,
    /// The option that names its place, where a header can belong there.
    pub option: Option<String>,
}

/// What lies in `ranges` that begins neither at the start of `storage` nor shows there: a partition, of whose table the copy at
/// the end may be all that is left, or a container or a file system that begins farther on. Where nothing shows that the
/// header belongs to `storage` (`is_known`), what begins before a range and may reach into it counts as well.
///
/// # Errors
/// What reading gave.
pub fn stranger_within(
    storage: &Arc<dyn Storage>,
    ranges: &[Range<u64>],
    is_known: bool,
) -> Result<Option<Stranger>> {
    let size = storage.size()?;
    let is_met = |found: &&PartitionContents| {
        let partition = found.partition.range(size);
        partition.is_some_and(|partition| ranges.iter().any(|range| meet(&partition, range)))
    };
    let partitions = partitions_of(storage)?;
    if let Some(found) = likeliest(partitions.iter().filter(is_met)) {
        return Ok(Some(in_partition(found)));
    }
    let is_table_met = ranges.iter().any(|range| range.start == 0) && has_table(&**storage)?;
    if let Some(found) = likeliest(partitions.iter()).filter(|_| is_table_met) {
        return Ok(Some(in_partition(found)));
    }
    let mut first = [0; SECTOR];
    // What is noise from the start on is told as that.
    let may_hide = !is_known && storage.read_exact_at(&mut first, 0).is_ok() && !looks_random(&first);
    let mut places = Vec::new();
    for range in ranges {
        let start = range.start.next_multiple_of(SECTOR_U64);
        places.push(start..range.end.min(start.saturating_add(MOST)).min(size));
    }
    if !is_known {
        places.push(0..ranges.iter().map(|range| range.end).max().unwrap_or(0).min(MOST).min(size));
    }
    let mut data = None;
    for place in places {
        let mut survey = Survey { storage, size, ranges, may_hide, data: None, luks: LuksScan::default() };
        if let Some(found) = survey.walk(place)? {
            return Ok(Some(found));
        }
        data = data.or(survey.data);
    }
    Ok(data.map(|(_, _, stranger)| stranger))
}

/// Where in the file or device the LUKS container with this UUID begins, if it does behind the start of `storage` and is not far.
///
/// # Errors
/// What reading gave.
pub(super) fn luks_elsewhere(storage: &Arc<dyn Storage>, uuid: &str) -> Result<Option<u64>> {
    let mut luks = LuksScan::default();
    let mut block = vec![0; BLOCK];
    for (start, len) in chunks(0..storage.size()?.min(MOST)) {
        let block = block.get_mut(..len).unwrap_or_default();
        // What cannot be read is no header.
        if storage.read_exact_at(block, start).is_ok() {
            for (offset, sector) in (start..).step_by(SECTOR).zip(block.chunks_exact(SECTOR)) {
                luks.look_at(storage, sector, offset);
            }
        }
    }
    luks.finish(storage);
    let is_meant = |found: &&FoundLuks| found.start != 0 && found.info.uuid.as_deref() == Some(uuid);
    Ok(luks.found.iter().find(is_meant).map(|found| storage.origin().saturating_add(found.start)))
}

/// The partition in which a header belongs most likely.
fn likeliest<'a>(
    mut partitions: impl Iterator<Item = &'a PartitionContents> + Clone,
) -> Option<&'a PartitionContents> {
    let first = partitions.clone().next();
    partitions.find(|found| found.format.is_some()).or(first)
}

/// Whether a table of partitions stands at the start; that at the end tells of one that was there.
fn has_table(storage: &dyn Storage) -> Result<bool> {
    let known = signature::recognise(&signature::read_head(storage)?);
    Ok(known.is_some_and(|found| [signature::GPT, signature::PARTITION_TABLE].contains(&found.name)))
}

fn in_partition(found: &PartitionContents) -> Stranger {
    let number = found.partition.number;
    let what = match (found.format, found.contents) {
        (None, None) => {
            format!(
                "partition {number} at byte {} may hold something that shows no signature",
                found.partition.start
            )
        }
        _ => found.describe(),
    };
    Stranger { what, option: Some(format!("--partition {number}")) }
}

const fn meet(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

/// A walk over a medium.
struct Survey<'a> {
    storage: &'a Arc<dyn Storage>,
    size: u64,
    /// What will be written.
    ranges: &'a [Range<u64>],
    /// Whether noise may be a container.
    may_hide: bool,
    /// The first thing that is no container: where it begins, and what it is.
    data: Option<(u64, &'static str, Stranger)>,
    /// What is left of LUKS headers: one copy of two, or all but the magic.
    luks: LuksScan,
}

impl Survey<'_> {
    /// The first container that begins in `place`; what else does is noted.
    fn walk(&mut self, place: Range<u64>) -> Result<Option<Stranger>> {
        let mut block = Vec::new();
        for start in place.clone().step_by(BLOCK) {
            let end = place.end.min(start.saturating_add(u64::try_from(BLOCK).unwrap_or(0)));
            let ahead = u64::try_from(signature::HEAD_LEN).unwrap_or(0);
            let len = end.saturating_add(ahead).min(self.size).saturating_sub(start);
            block.resize(usize::try_from(len).unwrap_or(0), 0);
            // What cannot be read, nobody can lose.
            if self.storage.read_exact_at(&mut block, start).is_err() {
                continue;
            }
            for (offset, at) in (start..end).step_by(SECTOR).zip((0..).step_by(SECTOR)) {
                let head = block.get(at..).unwrap_or_default();
                let head = head.get(..signature::HEAD_LEN).unwrap_or(head);
                if offset == 0 {
                    continue;
                }
                if let Some(found) = self.container(head, offset)? {
                    return Ok(Some(found));
                }
                self.luks.look_at(self.storage, head.get(..SECTOR).unwrap_or(head), offset);
                self.note(head, offset);
            }
        }
        self.luks.finish(self.storage);
        Ok(self.damaged_luks())
    }

    /// A container farther on whose header's first copy is no whole one.
    fn damaged_luks(&self) -> Option<Stranger> {
        let is_met = |found: &&FoundLuks| {
            let container = found.start..self.size;
            found.start != 0 && self.ranges.iter().any(|range| meet(&container, range))
        };
        let found = self.luks.found.iter().find(is_met)?;
        let (format, start) = (found.info.format, found.start);
        let option = format!("--offset {}", self.storage.origin().saturating_add(start));
        let what = format!("what is left of a {format} header shows that a container begins at byte {start}");
        Some(Stranger { what, option: Some(option) })
    }

    /// A whole header of ours at `offset`, if what will be written meets it or its container.
    fn container(&self, head: &[u8], offset: u64) -> Result<Option<Stranger>> {
        if !MAGICS.iter().any(|magic| head.starts_with(magic)) {
            return Ok(None);
        }
        let section = Section::new(Arc::clone(self.storage), offset..self.size)?;
        let Some(format) = by_signature(&section)? else { return Ok(None) };
        let Some(header) = whole(format, &section) else { return Ok(None) };
        let len = header.describe().container_size;
        let container = offset..offset.saturating_add(len.max(1));
        let Some(met) = self.ranges.iter().find(|range| meet(&container, range)) else { return Ok(None) };
        let reach = if met.contains(&offset) {
            String::new()
        } else {
            format!(", and its container reaches to byte {}", met.start)
        };
        let what = format!("a {} header stands at byte {offset}{reach}", format.name());
        let option = Some(format!("--offset {}", self.storage.origin().saturating_add(offset)));
        Ok(Some(Stranger { what, option }))
    }

    /// Notes what else begins at `offset`, if a signature tells.
    fn note(&mut self, head: &[u8], offset: u64) {
        let is_usual = offset.is_multiple_of(DATA_UNIT) || offset == FIRST_TRACK;
        if !is_usual {
            return;
        }
        let Some(found) = signature::recognise_on_medium(head) else { return self.note_noise(head, offset) };
        if matches!(found.owner, Owner::Luks | Owner::Native) {
            return;
        }
        // Some are known by one of several places: at a usual start of partitions it is the right one, else the last.
        let is_better = match &self.data {
            None => true,
            Some((before, name, _)) => {
                let is_near =
                    offset.saturating_sub(*before) < u64::try_from(signature::HEAD_LEN).unwrap_or(0);
                *name == found.name
                    && is_near
                    && !before.is_multiple_of(PARTITION_UNIT)
                    && *before != FIRST_TRACK
            }
        };
        let is_within = self.ranges.iter().any(|range| range.contains(&offset));
        let met = self.ranges.iter().map(|range| range.start).filter(|start| *start > offset).min();
        let reach = match (is_within, met) {
            (true, _) => String::new(),
            (false, Some(met)) => format!(", and may reach to byte {met}"),
            (false, None) => return,
        };
        if is_better {
            let what = format!("{} begins at byte {offset}{reach}", found.name);
            self.data = Some((offset, found.name, Stranger { what, option: None }));
        }
    }

    /// Notes what may be a container that shows nothing, where a partition of a lost table may begin.
    fn note_noise(&mut self, head: &[u8], offset: u64) {
        let is_usual = offset.is_multiple_of(PARTITION_UNIT) || offset == FIRST_TRACK;
        let is_within = self.ranges.iter().any(|range| range.contains(&offset));
        let is_random = head.get(..SECTOR).is_some_and(looks_random);
        if !self.may_hide || self.data.is_some() || !is_usual || !is_within || !is_random {
            return;
        }
        let what = format!(
            "what begins at byte {offset} may be a VeraCrypt or TrueCrypt container, which shows no header"
        );
        let option = Some(format!("--offset {}", self.storage.origin().saturating_add(offset)));
        self.data = Some((offset, NOISE, Stranger { what, option }));
    }
}

fn whole(format: &dyn Format, section: &Section) -> Option<Box<dyn Header>> {
    format.read_header(section).ok().or_else(|| format.read_header_file(section).ok().flatten())
}

const MAGICS: [&[u8]; 2] = [b"LUKS\xba\xbe", b"\x89STRONGROOM"];
/// No name of a signature.
const NOISE: &str = "noise";
const SECTOR: usize = 512;
const SECTOR_U64: u64 = 512;
/// What is read at once.
const BLOCK: usize = 1 << 20;
/// Partitions, and what they hold, begin at a multiple of this.
const DATA_UNIT: u64 = 4_096;
/// Or here, on disks of before 2010.
const FIRST_TRACK: u64 = 63 * 512;
/// Where partitions begin today.
const PARTITION_UNIT: u64 = 1 << 20;
/// No header of ours takes more, and what begins farther on is looked for in what will be written alone.
const MOST: u64 = 64 << 20;
