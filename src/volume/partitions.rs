//! What lies in the partitions of an image or a device.

use std::sync::Arc;

use serde::Serialize;

use super::container::by_signature;
use crate::{
    error::{Error, ErrorKind, Fact, Result},
    format::{
        Format,
        partitions::{self, Partition},
        signature,
    },
    storage::{Section, Storage},
};

/// A partition, with what lies in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionContents {
    /// What its table says.
    #[serde(flatten)]
    pub partition: Partition,
    /// The format of the container in it.
    pub format: Option<&'static str>,
    /// What else is in it, as far as a signature tells.
    pub contents: Option<&'static str>,
    /// Whether that is a file system, which anybody can read.
    #[serde(skip)]
    pub is_file_system: bool,
    /// Whether the medium ends before the partition does.
    pub is_cut_off: bool,
}

impl PartitionContents {
    /// In a line: `partition 1 at byte 1048576 holds a LUKS2 header`.
    pub fn describe(&self) -> String {
        let what = match (self.format, self.contents) {
            (Some("native"), _) => "a strongroom container".to_owned(),
            (Some(format), _) => format!("a {} header", format.to_uppercase()),
            (None, Some(contents)) => contents.to_owned(),
            (None, None) => "nothing known".to_owned(),
        };
        let end = if self.is_cut_off && !self.is_missing() { ", and its end is missing" } else { "" };
        format!("partition {} at byte {} holds {what}{end}", self.partition.number, self.partition.start)
    }

    fn is_missing(&self) -> bool {
        self.contents == Some(MISSING)
    }
}

/// What is wrong with the partition table of an image or a device, in words that follow "its partition table: ".
///
/// # Errors
/// What reading gave.
pub fn partition_flaw(storage: &dyn Storage) -> Result<Option<&'static str>> {
    Ok(partitions::read(storage)?.and_then(|table| table.flaw))
}

/// What is left of a partition table that cannot be read, in words that follow "this is". `None` where there is none, or a whole one.
///
/// # Errors
/// What reading gave.
pub(super) fn lost_table(storage: &dyn Storage) -> Result<Option<&'static str>> {
    let head = signature::read_head(storage)?;
    let left = match signature::recognise(&head).map(|found| found.name) {
        Some(signature::GPT) => DAMAGED,
        Some(signature::PARTITION_TABLE) => EMPTY,
        _ => return Ok(None),
    };
    Ok(partitions::read(storage)?.is_none().then_some(left))
}

/// The partitions of an image or a device. None where it has no partition table.
///
/// # Errors
/// What reading gave.
pub fn partitions_of(storage: &Arc<dyn Storage>) -> Result<Vec<PartitionContents>> {
    let Some(table) = partitions::read(&**storage)? else { return Ok(Vec::new()) };
    let size = storage.size()?;
    table.partitions.into_iter().map(|partition| contents(storage, size, partition)).collect()
}

fn contents(storage: &Arc<dyn Storage>, size: u64, partition: Partition) -> Result<PartitionContents> {
    let is_cut_off = partition.is_cut_off(size);
    let Some(range) = partition.range(size) else {
        let contents = Some(MISSING);
        return Ok(PartitionContents { partition, format: None, contents, is_file_system: true, is_cut_off });
    };
    let head = signature::read_head_of(&**storage, range.clone())?;
    let section = Section::new(Arc::clone(storage), range)?;
    // The end of a container that begins before the partition shows in it, and opens nowhere.
    let is_here = |format: &&dyn Format| {
        let read = format.read_header(&section);
        !read.is_err_and(|error| error.fact() == Some(Fact::BeginsElsewhere))
    };
    let format = by_signature(&section)?.filter(is_here).map(Format::name);
    let known = signature::recognise(&head);
    let contents = known.map(|found| found.name);
    let is_file_system = known.is_some_and(|found| found.file_system().is_some());
    Ok(PartitionContents { partition, format, contents, is_file_system, is_cut_off })
}

/// The number of the partition whose container has this UUID.
///
/// # Errors
/// What reading gave.
pub fn partition_of_container(storage: &Arc<dyn Storage>, uuid: &str) -> Result<Option<u32>> {
    let size = storage.size()?;
    for found in partitions_of(storage)?.into_iter().filter(|found| found.format.is_some()) {
        let Some(range) = found.partition.range(size) else { continue };
        let section = Section::new(Arc::clone(storage), range)?;
        let header = by_signature(&section)?.and_then(|format| format.read_header(&section).ok());
        if header.is_some_and(|header| header.describe().uuid.as_deref() == Some(uuid)) {
            return Ok(Some(found.partition.number));
        }
    }
    Ok(None)
}

/// The one partition that holds a container, of what is no container itself. `None` where there are none or several.
///
/// # Errors
/// What reading gave.
pub fn only_container(storage: &Arc<dyn Storage>) -> Result<Option<PartitionContents>> {
    if by_signature(&**storage)?.is_some() {
        return Ok(None);
    }
    let mut found = partitions_of(storage)?.into_iter().filter(|partition| partition.format.is_some());
    Ok(found.next().filter(|_| found.next().is_none()))
}

/// The bytes of a partition by its number.
///
/// # Errors
/// `Usage` where there is no such partition, `Damaged` where the medium ends before it.
pub fn partition_range(storage: &dyn Storage, number: u32) -> Result<std::ops::Range<u64>> {
    let Some(table) = partitions::read(storage)? else {
        if let Some(left) = lost_table(storage)? {
            return Err(Error::new(ErrorKind::Damaged, format!("this is {left}")).with_hint(SCAN));
        }
        let head = signature::read_head(storage)?;
        let what = signature::recognise(&head).map(|found| format!("; this is {}", found.name));
        return Err(Error::new(
            ErrorKind::Usage,
            format!("it has no partition table{}", what.unwrap_or_default()),
        ));
    };
    let partition = table.partition(number).ok_or_else(|| {
        let numbers: Vec<_> = table.partitions.iter().map(|found| found.number.to_string()).collect();
        Error::new(ErrorKind::Usage, format!("it has no partition {number}"))
            .with_hint(format!("its partitions: {}", numbers.join(", ")))
    })?;
    partition.range(storage.size()?).ok_or_else(|| {
        Error::new(ErrorKind::Damaged, format!("it ends before its partition {number} starts"))
    })
}

/// The bytes from an offset on: to the end of the partition that it lies in, or else to that of the medium.
///
/// # Errors
/// `Usage` where the medium ends before.
pub fn range_from(storage: &dyn Storage, offset: u64) -> Result<std::ops::Range<u64>> {
    let size = storage.size()?;
    if offset >= size {
        return Err(Error::new(ErrorKind::Usage, format!("it has only {size} bytes")));
    }
    let table = partitions::read(storage)?;
    let ranges = table.iter().flat_map(|table| &table.partitions).filter_map(|found| found.range(size));
    let end = ranges.filter(|range| range.contains(&offset)).map(|range| range.end).min();
    Ok(offset..end.unwrap_or(size))
}

const MISSING: &str = "nothing: the medium ends before it";
const DAMAGED: &str = "a GPT partition table of which both copies are damaged";
const EMPTY: &str =
    "a partition table that shows no partition: it is damaged, or stood before a GPT that is gone";
/// What finds containers without a partition table.
pub(super) const SCAN: &str = "strongroom header repair --scan looks for containers without it";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    /// A disk of 4 MiB with a partition of type 83 from 1 MiB on, 2 MiB long, in which a LUKS2 header begins.
    fn disk() -> Arc<dyn Storage> {
        let mut bytes = vec![0; 4 << 20];
        bytes[446..462]
            .copy_from_slice(&[0, 0x20, 0x21, 0, 0x83, 0xfe, 0xff, 0xff, 0, 8, 0, 0, 0, 0x10, 0, 0]);
        bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
        bytes[1 << 20..][..8].copy_from_slice(b"LUKS\xba\xbe\0\x02");
        Arc::new(MemoryStorage::new(bytes))
    }

    #[test]
    fn a_container_in_a_partition_is_told() {
        let found = partitions_of(&disk()).unwrap();
        let [partition] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(partition.describe(), "partition 1 at byte 1048576 holds a LUKS2 header");
        assert_eq!(only_container(&disk()).unwrap().map(|found| found.partition.number), Some(1));
        let none: Arc<dyn Storage> = Arc::new(MemoryStorage::new(vec![0; 4096]));
        assert_eq!(partitions_of(&none).unwrap(), []);
    }

    #[test]
    fn a_container_ends_where_its_partition_does() {
        let disk = disk();
        assert_eq!(partition_range(&*disk, 1).unwrap(), 1 << 20..3 << 20);
        assert_eq!(range_from(&*disk, 1 << 20).unwrap(), 1 << 20..3 << 20);
        assert_eq!(range_from(&*disk, (3 << 20) - 512).unwrap(), (3 << 20) - 512..3 << 20);
        assert_eq!(range_from(&*disk, 3 << 20).unwrap(), 3 << 20..4 << 20, "behind all partitions");
        assert_eq!(partition_range(&*disk, 2).unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(range_from(&*disk, 4 << 20).unwrap_err().kind(), ErrorKind::Usage);
    }
}
