//! What files hold, wherever it lies.

use std::sync::Arc;

use super::{
    super::{
        Fault, Result, Seek,
        bytes::{index, long},
    },
    compression,
    record::{COMPRESSED, ENCRYPTED, Sizes, Value},
    runs::{self, Run},
    volume::{Piece, Volume},
};

/// The value of an attribute.
#[derive(Debug)]
pub(super) struct Stream {
    form: Form,
    place: Place,
}

/// How it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// So many clusters are compressed together.
    Compressed(u64),
    /// In a way that is not known here.
    Unknown,
}

#[derive(Debug)]
enum Place {
    Inside(Box<[u8]>),
    Outside(Outside),
}

/// A value that lies in clusters.
#[derive(Debug)]
struct Outside {
    /// Whose it is, and of which type.
    file: u64,
    kind: u32,
    /// In order.
    pieces: Vec<Piece>,
    sizes: Sizes,
}

impl Stream {
    /// The attribute that consists of these pieces; `None` where there are none.
    pub(super) fn open(volume: &Volume, file: u64, kind: u32, pieces: Vec<Piece>) -> Result<Option<Self>> {
        let Some(first) = pieces.first() else { return Ok(None) };
        let record = volume.part(file, first.record)?;
        let attribute = record.attribute(kind, first.instance)?;
        let is_sorted = pieces.is_sorted_by(|one, other| one.lowest < other.lowest);
        let extent = match attribute.value {
            Value::Inside(value) if pieces.len() == 1 => {
                let form = if attribute.flags & ENCRYPTED == 0 { Form::Plain } else { Form::Unknown };
                return Ok(Some(Self { form, place: Place::Inside(value.into()) }));
            }
            Value::Outside(extent) if extent.lowest == 0 && first.lowest == 0 && is_sorted => extent,
            _ => return Err(Fault::Damaged),
        };
        let mut sizes = extent.sizes;
        sizes.allocated = sizes.allocated.min(volume.geometry.bytes(volume.geometry.clusters));
        if i64::try_from(sizes.size).is_err() {
            return Err(Fault::Damaged);
        }
        let form = match (attribute.flags & (COMPRESSED | ENCRYPTED), extent.unit) {
            (0, _) | (LZNT1, 0) => Form::Plain,
            (LZNT1, power) => {
                let clusters = 1_u64.checked_shl(power.into()).unwrap_or(u64::MAX);
                if volume.geometry.bytes(clusters) > LONGEST_UNIT {
                    return Err(Fault::Damaged);
                }
                Form::Compressed(clusters)
            }
            _ => Form::Unknown,
        };
        let place = Place::Outside(Outside { file, kind, pieces, sizes });
        Ok(Some(Self { form, place }))
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        match &self.place {
            Place::Inside(value) => long(value.len()),
            Place::Outside(outside) => outside.sizes.size,
        }
    }

    /// On the medium, in bytes. A value in its record takes nothing, but would count as a hole then.
    pub(super) fn allocated(&self) -> u64 {
        match &self.place {
            Place::Inside(value) => long(value.len()).next_multiple_of(512),
            Place::Outside(outside) => outside.sizes.allocated,
        }
    }

    /// In memory, in bytes.
    pub(super) const fn weight(&self) -> usize {
        match &self.place {
            Place::Inside(value) => value.len(),
            Place::Outside(outside) => outside.pieces.len().saturating_mul(size_of::<Piece>()),
        }
    }

    /// The value, where it lies in the record.
    pub(super) const fn inside(&self) -> Option<&[u8]> {
        match &self.place {
            Place::Inside(value) => Some(value),
            Place::Outside(_) => None,
        }
    }

    /// Whether it lies in clusters, each of its own: neither compressed nor encrypted.
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.form, Form::Plain)
    }
}

impl Volume {
    /// Reads a value from `offset` on. Fewer bytes than asked for only at its end.
    ///
    /// # Errors
    /// `Unsupported` for one that is encrypted, `Damaged`, `Io`.
    pub(super) fn read(&self, stream: &Stream, offset: u64, buf: &mut [u8]) -> Result<usize> {
        if stream.form == Form::Unknown {
            return Err(Fault::Unsupported);
        }
        let left = stream.size().saturating_sub(offset);
        let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let buf = buf.get_mut(..len).unwrap_or_default();
        match &stream.place {
            Place::Inside(value) => {
                let start = index(offset);
                buf.copy_from_slice(value.get(start..start.saturating_add(len)).unwrap_or_default());
            }
            Place::Outside(outside) => {
                let written = outside.sizes.written.saturating_sub(offset);
                let written = len.min(usize::try_from(written).unwrap_or(usize::MAX));
                let (part, unwritten) = buf.split_at_mut_checked(written).ok_or(Fault::Damaged)?;
                unwritten.fill(0);
                match stream.form {
                    Form::Compressed(clusters) => self.read_compressed(outside, clusters, offset, part)?,
                    _ => self.read_runs(&|cluster| self.run_at(outside, cluster), offset, part)?,
                }
            }
        }
        Ok(len)
    }

    /// All of a value that has `most` bytes at most.
    pub(super) fn whole(&self, stream: &Stream, most: u64) -> Result<Vec<u8>> {
        if stream.size() > most {
            return Err(Fault::Damaged);
        }
        let mut value = vec![0; index(stream.size())];
        self.read(stream, 0, &mut value)?;
        Ok(value)
    }

    /// Where data or a hole begins at or after `offset`. What is compressed counts as data.
    pub(super) fn seek(&self, stream: &Stream, offset: u64, what: Seek) -> Result<u64> {
        let size = stream.size();
        if offset >= size {
            return Err(Fault::PastEnd);
        }
        let Place::Outside(outside) = &stream.place else { return Ok(whole_is_data(offset, size, what)) };
        if !stream.is_plain() {
            return Ok(whole_is_data(offset, size, what));
        }
        let (mut at, end) = (offset, size.min(outside.sizes.written));
        while at < end {
            let (cluster, _) = self.geometry.split(at);
            let run = self.run_at(outside, cluster)?;
            if run.place.is_some() == (what == Seek::Data) {
                return Ok(at);
            }
            at = self.geometry.bytes(run.end()).min(end);
        }
        if what == Seek::Hole { Ok(at) } else { Err(Fault::PastEnd) }
    }

    /// The run that has a cluster of a value.
    fn run_at(&self, outside: &Outside, cluster: u64) -> Result<Run> {
        let behind = outside.pieces.partition_point(|piece| piece.lowest <= cluster);
        let piece = behind.checked_sub(1).and_then(|at| outside.pieces.get(at)).ok_or(Fault::Damaged)?;
        runs::find(&self.runs_of(outside, *piece)?, cluster).ok_or(Fault::Damaged)
    }

    fn runs_of(&self, outside: &Outside, piece: Piece) -> Result<Arc<[Run]>> {
        let key = (piece.record, piece.instance);
        if let Some(found) = self.runs.find(key) {
            return Ok(found);
        }
        let record = self.part(outside.file, piece.record)?;
        let Value::Outside(extent) = record.attribute(outside.kind, piece.instance)?.value else {
            return Err(Fault::Damaged);
        };
        if extent.lowest != piece.lowest {
            return Err(Fault::Damaged);
        }
        let found: Arc<[Run]> = runs::unpack(&extent, &self.geometry)?.into();
        self.runs.keep(key, Arc::clone(&found), size_of_val(&*found));
        Ok(found)
    }

    fn read_compressed(&self, outside: &Outside, clusters: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        let unit_len = self.geometry.bytes(clusters);
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let number = at.checked_div(unit_len).ok_or(Fault::Damaged)?;
            let within = at.saturating_sub(number.saturating_mul(unit_len));
            let len = rest.len().min(index(unit_len.saturating_sub(within)));
            let (part, behind) = rest.split_at_mut_checked(len.max(1)).ok_or(Fault::Damaged)?;
            let first = number.saturating_mul(clusters);
            match self.stored_of(outside, first, clusters)? {
                0 => part.fill(0),
                stored if stored == clusters => {
                    self.read_runs(&|cluster| self.run_at(outside, cluster), at, part)?;
                }
                stored => {
                    let unit = self.unit(outside, number, (first, stored, clusters))?;
                    let end = index(within).saturating_add(part.len());
                    part.copy_from_slice(unit.get(index(within)..end).ok_or(Fault::Damaged)?);
                }
            }
            at = at.saturating_add(long(part.len()));
            rest = behind;
        }
        Ok(())
    }

    /// How many of the clusters of a unit are stored, from its first on. A hole behind them says that they are compressed.
    fn stored_of(&self, outside: &Outside, first: u64, clusters: u64) -> Result<u64> {
        let (mut at, end) = (first, first.saturating_add(clusters));
        while at < end {
            match self.run_at(outside, at) {
                Ok(Run { place: Some(_), first, len }) => at = first.saturating_add(len).min(end),
                // The last unit may end with the value.
                Ok(_) | Err(Fault::Damaged) => break,
                Err(fault) => return Err(fault),
            }
        }
        let is_whole = at > first || self.run_at(outside, at).is_ok();
        if is_whole { Ok(at.saturating_sub(first)) } else { Err(Fault::Damaged) }
    }

    /// A unit that is compressed, unpacked.
    fn unit(
        &self,
        outside: &Outside,
        number: u64,
        (first, stored, clusters): (u64, u64, u64),
    ) -> Result<Arc<[u8]>> {
        let attribute = outside.pieces.first().ok_or(Fault::Damaged)?;
        let key = (attribute.record, attribute.instance, number);
        if let Some(found) = self.units.find(key) {
            return Ok(found);
        }
        let mut packed = vec![0; index(self.geometry.bytes(stored))];
        self.read_runs(&|cluster| self.run_at(outside, cluster), self.geometry.bytes(first), &mut packed)?;
        let mut unpacked = vec![0; index(self.geometry.bytes(clusters))];
        compression::unpack(&packed, &mut unpacked)?;
        let unit: Arc<[u8]> = unpacked.into();
        self.units.keep(key, Arc::clone(&unit), unit.len());
        Ok(unit)
    }
}

const fn whole_is_data(offset: u64, size: u64, what: Seek) -> u64 {
    match what {
        Seek::Data => offset,
        Seek::Hole => size,
    }
}

/// The only way of compression that there is.
const LZNT1: u16 = 1;
/// Windows compresses 16 clusters together, of 4 KiB at most.
const LONGEST_UNIT: u64 = 2 << 20;
