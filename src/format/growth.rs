//! Containers that become larger, or smaller.

use std::{fmt, ops::Range};

use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Result},
    storage::{Storage, holds_zeros},
    text::exact_size,
};

/// A larger container, settled and not written yet: its new bytes are filled first, then the header is told.
pub trait Growth: fmt::Debug {
    /// The container's size when it is done, in bytes.
    fn container_len(&self) -> u64;

    /// The volume's size then, in bytes.
    fn data_len(&self) -> u64;

    /// The bytes of the container that are new, to be filled with random ones before [`commit`](Self::commit).
    fn to_fill(&self) -> Range<u64>;

    /// The bytes of the container whose space is set aside before anything is written, so that a full disk is noticed then.
    fn to_reserve(&self) -> Range<u64> {
        self.to_fill()
    }

    /// The volume key afterwards, where the old one says how large the volume was.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn volume_key(&self) -> Result<Option<VolumeKey>> {
        Ok(None)
    }

    /// Refuses a storage on which it cannot be carried out, before anything is written.
    ///
    /// # Errors
    /// `Unsupported`.
    fn check(&self, storage: &dyn Storage) -> Result<()> {
        let _ = storage;
        Ok(())
    }

    /// The bytes behind the container's end that would be overwritten, from the first to the last that may be somebody's: they are no
    /// zeros, and no mark tells that this growth was begun before. `None` where nothing is lost.
    ///
    /// # Errors
    /// What reading gave.
    fn overwrites(&self, storage: &dyn Storage) -> Result<Option<Range<u64>>> {
        let _ = storage;
        Ok(None)
    }

    /// Marks the new end, before anything is filled: what stands behind the old one is this growth's from now on, also where it is
    /// broken off ([`overwrites`](Self::overwrites)).
    ///
    /// # Errors
    /// What writing gave.
    fn mark(&self, storage: &dyn Storage) -> Result<()> {
        let _ = storage;
        Ok(())
    }

    /// The bytes before these that a growth which was broken off may have left empty, where the container's end is all that says
    /// how far it had come: such a growth goes on from there, and the container grows as it is filled. `None` where a header
    /// says how large it is.
    fn unsure(&self) -> Option<Range<u64>> {
        None
    }

    /// What is to stand behind the data, where that lies in a file of its own, which is put in the place of the old one: the larger size
    /// is in force from then on, and whoever opens the container for writing ends the rest. Refuses a header that was changed since.
    ///
    /// # Errors
    /// `Busy`; `Unsupported` where nothing stands there.
    fn end(&self, storage: &dyn Storage) -> Result<End> {
        let _ = storage;
        Err(no_end())
    }

    /// Writes what tells of the larger size, in an order in which a power cut at any moment leaves a container that opens, with
    /// the old size or the new one.
    ///
    /// # Errors
    /// What writing gave.
    fn commit(&self, storage: &dyn Storage) -> Result<()>;
}

/// A smaller container, settled and not written yet: nothing in the volume needs what goes.
pub trait Shrinkage: fmt::Debug {
    /// The container's size when it is done, in bytes.
    fn container_len(&self) -> u64;

    /// The volume's size then, in bytes.
    fn data_len(&self) -> u64;

    /// As [`Growth::end`].
    ///
    /// # Errors
    /// As [`Growth::end`].
    fn end(&self, storage: &dyn Storage) -> Result<End> {
        let _ = storage;
        Err(no_end())
    }

    /// Writes what tells of the smaller size, and cuts the storage, in an order in which a power cut at any moment leaves a container
    /// that opens, with the old size or the new one.
    ///
    /// # Errors
    /// What writing gave.
    fn commit(&self, storage: &dyn Storage) -> Result<()>;
}

/// What stands behind the data of a container of another size.
#[derive(Debug)]
pub struct End {
    /// Where the data end.
    pub data_end: u64,
    /// The bytes from there to the container's end.
    pub bytes: Vec<u8>,
}

/// What of the bytes from `start` to `end` is somebody's: all that are no zeros, but for what a growth wrote that began at `start` and was
/// broken off, as `marks` tell. Those are the places of its marks for the new ends that it may have had, and what is expected in them.
pub(super) fn occupied(
    storage: &dyn Storage,
    range: Range<u64>,
    marks: &[(u64, Mark)],
) -> Result<Option<Range<u64>>> {
    let end = range.end.min(storage.size()?);
    let mut start = range.start.min(end);
    for (new_end, mark) in marks {
        if *new_end <= end && mark.stands(storage)? {
            start = start.max(*new_end);
        }
    }
    // A mark that was torn is nobody's.
    let mut from = start;
    let mut places: Vec<_> = marks.iter().map(|(_, mark)| mark.place()).collect();
    places.sort_by_key(|place| place.start);
    for place in places.into_iter().chain(std::iter::once(end..end)) {
        let part = from..place.start.clamp(from, end);
        if !holds_zeros(storage, part)? {
            return Ok(Some(start..end));
        }
        from = from.max(place.end).min(end);
    }
    Ok(None)
}

/// What shows that the bytes before a new end were written by a growth.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
}

impl Mark {
    /// Where it belongs.
    pub(super) fn place(&self) -> Range<u64> {
        self.at..self.at.saturating_add(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// What reading gave.
    pub(super) fn stands(&self, storage: &dyn Storage) -> Result<bool> {
        if self.place().end > storage.size()? {
            return Ok(false);
        }
        let mut there = vec![0; self.bytes.len()];
        storage.read_exact_at(&mut there, self.at)?;
        Ok(there == self.bytes)
    }

    /// Puts it there, for good.
    ///
    /// # Errors
    /// What writing gave.
    pub(super) fn put(&self, storage: &dyn Storage) -> Result<()> {
        storage.write_all_at(&self.bytes, self.at)?;
        Ok(storage.sync_data()?)
    }
}

fn no_end() -> Error {
    Error::new(ErrorKind::Unsupported, "nothing stands behind its data")
}

/// Refuses to make a container of `len` bytes one of `new_len` where that is fewer.
///
/// # Errors
/// `Usage`.
pub(super) fn check_larger(len: u64, new_len: u64) -> Result<()> {
    if new_len >= len {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, format!("it has {}, and only grows", exact_size(len)))
        .with_hint("to make it smaller, make a new container and copy the files"))
}

/// A container whose data end where it ends, and that becomes smaller: no header knows of it.
#[derive(Debug)]
pub struct CutEnd {
    len: u64,
    data_offset: u64,
}

impl CutEnd {
    /// A container of `old_len` bytes, `data_offset` of them before the data, that is cut to `len`.
    ///
    /// # Errors
    /// `Usage` where that is no smaller size, or has no whole sectors of `sector_len` bytes.
    pub fn new(old_len: u64, len: u64, data_offset: u64, sector_len: u64) -> Result<Self> {
        if len > old_len || len <= data_offset || !len.saturating_sub(data_offset).is_multiple_of(sector_len)
        {
            let (now, least) = (exact_size(old_len), exact_size(data_offset.saturating_add(sector_len)));
            let reason =
                format!("it has {now}, and becomes smaller down to {least}, in units of {sector_len} bytes");
            return Err(Error::new(ErrorKind::Usage, reason));
        }
        Ok(Self { len, data_offset })
    }
}

impl Shrinkage for CutEnd {
    fn container_len(&self) -> u64 {
        self.len
    }

    fn data_len(&self) -> u64 {
        self.len.saturating_sub(self.data_offset)
    }

    fn commit(&self, storage: &dyn Storage) -> Result<()> {
        storage.set_size(self.len)?;
        Ok(storage.sync_data()?)
    }
}

/// The growth of a container whose data end where it ends, whatever that is: no header knows of it.
#[derive(Debug)]
pub struct OpenEnd {
    /// What is new of the container.
    new: Range<u64>,
    data_offset: u64,
}

impl OpenEnd {
    /// A container of `old_len` bytes, `data_offset` of them before the data, that grows to `new_len`.
    ///
    /// # Errors
    /// `Usage` where that is a smaller size, or has no whole sectors of `sector_len` bytes.
    pub fn new(old_len: u64, new_len: u64, data_offset: u64, sector_len: u64) -> Result<Self> {
        if new_len < old_len
            || new_len <= data_offset
            || !new_len.saturating_sub(data_offset).is_multiple_of(sector_len)
        {
            let reason =
                format!("it has {}, and only grows, in units of {sector_len} bytes", exact_size(old_len));
            return Err(Error::new(ErrorKind::Usage, reason)
                .with_hint("to make it smaller, make a new container and copy the files"));
        }
        Ok(Self { new: old_len..new_len, data_offset })
    }
}

impl Growth for OpenEnd {
    fn container_len(&self) -> u64 {
        self.new.end
    }

    fn data_len(&self) -> u64 {
        self.new.end.saturating_sub(self.data_offset)
    }

    fn to_fill(&self) -> Range<u64> {
        self.new.clone()
    }

    fn unsure(&self) -> Option<Range<u64>> {
        let len = self.new.start.saturating_sub(self.data_offset).min(UNSURE_LEN) / UNIT * UNIT;
        let start = (self.new.start.saturating_sub(len)).max(self.data_offset);
        Some(start..start.saturating_add(len))
    }

    fn commit(&self, _: &dyn Storage) -> Result<()> {
        Ok(())
    }
}

/// More than is written without a sync: what was written before that is on the medium, whatever happens.
const UNSURE_LEN: u64 = 512 << 20;
/// The smallest sector.
const UNIT: u64 = 512;
