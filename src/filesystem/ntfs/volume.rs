//! A volume that was opened: its table of files, and what was read of it lately.

use std::sync::Arc;

use super::{
    super::{
        Fault, Result,
        bytes::{long, u8_at, u16_at, u32_at, u64_at},
        kept::Kept,
    },
    file::File,
    geometry::Geometry,
    names::UpCase,
    record::{
        ATTRIBUTE_LIST, BITMAP, DATA, FILE_NAME, INDEX_ALLOCATION, INDEX_ROOT, REPARSE_POINT, Record,
        STANDARD_INFORMATION, Value, number_of,
    },
    runs::{self, Run},
    stream::Stream,
};
use crate::block::ByteDevice;

/// A volume. Nothing of it is written.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) device: Arc<ByteDevice>,
    pub(super) geometry: Geometry,
    pub(super) case: UpCase,
    table: Table,
    records: Kept<u64, Record>,
    pub(super) files: Kept<u64, File>,
    /// Blocks of directories.
    pub(super) blocks: Kept<(u64, u64), [u8]>,
    pub(super) runs: Kept<(u64, u16), [Run]>,
    /// What was compressed, by the attribute and the number of the unit.
    pub(super) units: Kept<(u64, u16, u64), [u8]>,
}

/// Where the table of files lies.
#[derive(Debug, Default)]
struct Table {
    runs: Vec<Run>,
    /// In bytes.
    len: u64,
}

/// An attribute, or a part of one: where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    /// The first of the value's clusters that it tells of.
    pub(super) lowest: u64,
    pub(super) record: u64,
    pub(super) instance: u16,
}

/// What a file has of what is of interest here.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pub(super) information: Vec<Piece>,
    pub(super) names: Vec<Piece>,
    pub(super) data: Vec<Piece>,
    pub(super) index_root: Vec<Piece>,
    pub(super) index_blocks: Vec<Piece>,
    pub(super) index_bitmap: Vec<Piece>,
    pub(super) reparse_point: Vec<Piece>,
}

impl Pieces {
    fn add(&mut self, kind: u32, name: &[u8], piece: Piece) {
        let of_index = name == INDEX_NAME;
        let pieces = match kind {
            STANDARD_INFORMATION => &mut self.information,
            FILE_NAME => &mut self.names,
            DATA if name.is_empty() => &mut self.data,
            INDEX_ROOT if of_index => &mut self.index_root,
            INDEX_ALLOCATION if of_index => &mut self.index_blocks,
            BITMAP if of_index => &mut self.index_bitmap,
            REPARSE_POINT => &mut self.reparse_point,
            _ => return,
        };
        pieces.push(piece);
    }
}

impl Volume {
    /// Opens the volume, which has `most` bytes. Where its table of upper case cannot be read, the usual one stands in for it.
    pub(super) fn open(device: &Arc<ByteDevice>, most: u64) -> Result<Self> {
        let mut boot = [0; 512];
        device.read_at(&mut boot, 0)?;
        let mut volume = Self {
            device: Arc::clone(device),
            geometry: Geometry::parse(&boot, most)?,
            case: UpCase::usual(),
            table: Table::default(),
            records: Kept::new(KEPT_RECORDS),
            files: Kept::new(KEPT_FILES),
            blocks: Kept::new(KEPT_BLOCKS),
            runs: Kept::new(KEPT_RUNS),
            units: Kept::new(KEPT_UNITS),
        };
        volume.find_table()?;
        volume.case = volume.case_table().map_or_else(|_| UpCase::usual(), |table| UpCase::parse(&table));
        Ok(volume)
    }

    /// Finds the table of files by its own record, or by the copy of that.
    fn find_table(&mut self) -> Result<()> {
        let own = self.record_at(self.geometry.bytes(self.geometry.table), TABLE);
        if own.and_then(|record| self.follow_table(record)).is_ok() {
            return Ok(());
        }
        let copy = self.mirrored(TABLE)?;
        self.table = Table::default();
        self.follow_table(copy)
    }

    /// Follows the table of files, whose first record tells where it lies, through itself.
    fn follow_table(&mut self, first: Record) -> Result<()> {
        let first = Arc::new(first);
        self.records.keep(TABLE, Arc::clone(&first), first.len());
        let pieces = self.survey(TABLE, &first)?.data;
        if pieces.len() > MOST_TABLE_PIECES {
            return Err(Fault::Damaged);
        }
        let mut is_first = true;
        for piece in pieces {
            let part =
                if piece.record == TABLE { Arc::clone(&first) } else { self.part(TABLE, piece.record)? };
            let Value::Outside(extent) = part.attribute(DATA, piece.instance)?.value else {
                return Err(Fault::Damaged);
            };
            if extent.lowest != piece.lowest || extent.lowest != self.table.runs.last().map_or(0, Run::end) {
                return Err(Fault::Damaged);
            }
            if is_first {
                self.table.len = extent.sizes.size.min(extent.sizes.written);
                is_first = false;
            }
            self.table.runs.extend(runs::unpack(&extent, &self.geometry)?);
            if self.table.runs.len() > MOST_TABLE_RUNS {
                return Err(Fault::Damaged);
            }
        }
        if self.table.runs.is_empty() { Err(Fault::Damaged) } else { Ok(()) }
    }

    fn record_at(&self, offset: u64, number: u64) -> Result<Record> {
        let mut raw = vec![0; self.geometry.record_len].into_boxed_slice();
        self.device.read_at(&mut raw, offset)?;
        Record::parse(raw, number)
    }

    fn mirrored(&self, number: u64) -> Result<Record> {
        let within = number.saturating_mul(long(self.geometry.record_len));
        self.record_at(self.geometry.bytes(self.geometry.mirror).saturating_add(within), number)
    }

    /// A record of the table.
    ///
    /// # Errors
    /// `Stale` where it is not in use, `Damaged`, `Io`.
    pub(super) fn record(&self, number: u64) -> Result<Arc<Record>> {
        if let Some(found) = self.records.find(number) {
            return Ok(found);
        }
        let record = match self.stored(number) {
            Err(Fault::Damaged | Fault::Io) if number < MIRRORED => self.mirrored(number),
            found => found,
        };
        let record = Arc::new(record?);
        self.records.keep(number, Arc::clone(&record), record.len());
        Ok(record)
    }

    fn stored(&self, number: u64) -> Result<Record> {
        let len = long(self.geometry.record_len);
        let start = number.checked_mul(len).ok_or(Fault::Stale)?;
        if start.checked_add(len).is_none_or(|end| end > self.table.len) {
            return Err(Fault::Stale);
        }
        let mut raw = vec![0; self.geometry.record_len].into_boxed_slice();
        let find = |cluster| runs::find(&self.table.runs, cluster).ok_or(Fault::Damaged);
        self.read_runs(&find, start, &mut raw)?;
        Record::parse(raw, number)
    }

    /// A record that belongs to the file `base`.
    pub(super) fn part(&self, base: u64, number: u64) -> Result<Arc<Record>> {
        let record = self.record(number).map_err(|fault| match fault {
            Fault::Stale => Fault::Damaged,
            other => other,
        })?;
        if number == base || record.base == base { Ok(record) } else { Err(Fault::Damaged) }
    }

    /// Where a file's attributes are: in its record, or where its list says.
    pub(super) fn survey(&self, number: u64, record: &Record) -> Result<Pieces> {
        let (mut pieces, mut list) = (Pieces::default(), None);
        for attribute in record.attributes() {
            let attribute = attribute?;
            let lowest = match attribute.value {
                Value::Inside(_) => 0,
                Value::Outside(extent) => extent.lowest,
            };
            let piece = Piece { lowest, record: number, instance: attribute.instance };
            if attribute.kind == ATTRIBUTE_LIST {
                list = Some(self.whole_list(&attribute.value)?);
            }
            pieces.add(attribute.kind, attribute.name, piece);
        }
        list.map_or(Ok(pieces), |list| listed(&list))
    }

    /// The list of attributes of a file, which is never scattered itself.
    fn whole_list(&self, value: &Value<'_>) -> Result<Vec<u8>> {
        let extent = match value {
            Value::Inside(list) => return Ok(list.to_vec()),
            Value::Outside(extent) => extent,
        };
        let len = extent.sizes.size;
        if len > LONGEST_LIST || extent.lowest != 0 || extent.sizes.written < len {
            return Err(Fault::Damaged);
        }
        let runs = runs::unpack(extent, &self.geometry)?;
        let mut list = vec![0; usize::try_from(len).unwrap_or_default()];
        self.read_runs(&|cluster| runs::find(&runs, cluster).ok_or(Fault::Damaged), 0, &mut list)?;
        Ok(list)
    }

    /// Reads what lies in runs.
    pub(super) fn read_runs(
        &self,
        find: &dyn Fn(u64) -> Result<Run>,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<()> {
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let (cluster, within) = self.geometry.split(at);
            let run = find(cluster)?;
            let left = self.geometry.bytes(run.end().saturating_sub(cluster)).saturating_sub(within);
            let len = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let (part, behind) = rest.split_at_mut_checked(len.max(1)).ok_or(Fault::Damaged)?;
            match run.place {
                None => part.fill(0),
                Some(place) => {
                    let place = place.saturating_add(cluster.saturating_sub(run.first));
                    self.device.read_at(part, self.geometry.bytes(place).saturating_add(within))?;
                }
            }
            at = at.saturating_add(long(part.len()));
            rest = behind;
        }
        Ok(())
    }

    fn case_table(&self) -> Result<Vec<u8>> {
        let record = self.record(UPPER_CASE)?;
        let pieces = self.survey(UPPER_CASE, &record)?;
        let table = Stream::open(self, UPPER_CASE, DATA, pieces.data)?.ok_or(Fault::Damaged)?;
        self.whole(&table, CASE_TABLE_LEN)
    }
}

/// What a list of attributes tells.
fn listed(list: &[u8]) -> Result<Pieces> {
    let (mut pieces, mut rest) = (Pieces::default(), list);
    while !rest.is_empty() {
        let (len, name_len) = (usize::from(u16_at(rest, 4)), usize::from(u8_at(rest, 6)));
        let (entry, behind) =
            rest.split_at_checked(len).filter(|_| len >= LEAST_ENTRY).ok_or(Fault::Damaged)?;
        rest = behind;
        let start = usize::from(u8_at(entry, 7));
        let end = start.saturating_add(name_len.saturating_mul(2));
        let name = if name_len == 0 { &[] } else { entry.get(start..end).ok_or(Fault::Damaged)? };
        let piece = Piece {
            lowest: u64_at(entry, 8),
            record: number_of(u64_at(entry, 16)),
            instance: u16_at(entry, 24),
        };
        pieces.add(u32_at(entry, 0), name, piece);
    }
    Ok(pieces)
}

/// The file system's own records.
const TABLE: u64 = 0;
const UPPER_CASE: u64 = 10;
/// Of so many there is a copy.
const MIRRORED: u64 = 4;

/// `$I30`, as which directories have their index of names.
const INDEX_NAME: &[u8] = b"$\0I\x003\x000\0";
const LEAST_ENTRY: usize = 26;
/// More is never made.
const LONGEST_LIST: u64 = 256 << 10;
const CASE_TABLE_LEN: u64 = 128 << 10;
/// What is followed to find the table of files, before anything else is known.
const MOST_TABLE_PIECES: usize = 1 << 10;
const MOST_TABLE_RUNS: usize = 1 << 18;

/// What is kept in memory, in bytes.
const KEPT_RECORDS: usize = 2 << 20;
const KEPT_FILES: usize = 4 << 20;
const KEPT_BLOCKS: usize = 4 << 20;
const KEPT_RUNS: usize = 8 << 20;
const KEPT_UNITS: usize = 8 << 20;
