//! Finding the header copies and choosing between them (`spec/native-v1.md`, section 4).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{
    copy::HeaderCopy,
    error::HeaderError,
    header_file::HeaderFile,
    layout::{ALIGNMENT, COPY_LEN, MAGIC, TAIL_LEN},
    superblock::CopyIndex,
};
use crate::{
    error::{Error, ErrorKind, Result},
    storage::Storage,
};

/// What stands at a place: a whole copy, or why not.
pub(super) type Found = Result<HeaderCopy, HeaderError>;

/// Where a copy belongs and what stands there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) found: Found,
}

/// Both copies; at least one is whole.
#[derive(Debug)]
pub(super) struct Copies {
    /// At offset 0.
    pub(super) a: Place,
    /// Where copy A says, or where the search found it.
    pub(super) b: Place,
    /// The copy in use (NAT-RD-04).
    current: HeaderCopy,
    /// The other whole ones.
    others: Vec<HeaderCopy>,
}

impl Copies {
    /// Reads what stands at both places (NAT-RD-01 to -04).
    ///
    /// # Errors
    /// `NotAContainer` where there is no trace of one, `Damaged` where no copy is whole, `Unsupported` where the whole ones
    /// are of another time.
    pub(super) fn read(storage: &dyn Storage) -> Result<Self> {
        if HeaderFile::is_one(storage)? {
            return Err(Error::new(ErrorKind::NotAContainer, "it is a header file, not a container")
                .with_hint("name the container, and give this file with --header")); // NAT-HF-01
        }
        let a = Place { offset: 0, found: in_place(read_copy(storage, 0)?, CopyIndex::A, 0) };
        match &a.found {
            Ok(copy) => {
                let copy = copy.clone();
                Self::beside(storage, copy, a)
            }
            Err(_) => Self::without_a(storage, a),
        }
    }

    /// Copy A is whole and tells where copy B is.
    fn beside(storage: &dyn Storage, current: HeaderCopy, a: Place) -> Result<Self> {
        let offset = current.superblock.geometry.backup_offset;
        let b = Place { offset, found: in_place(read_copy(storage, offset)?, CopyIndex::B, offset) };
        if b.found.is_ok() {
            return Self::of_places(a, b);
        }
        // Somebody may have changed where A points; what stands at the end still counts.
        Ok(Self { a, b, current, others: search(storage)?.whole })
    }

    /// The copies in a header file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn of_header_file(file: &HeaderFile, storage: &dyn Storage) -> Result<Self> {
        let place = |index: CopyIndex| -> Result<Place> {
            let offset = index.offset_in(&file.geometry);
            Ok(Place { offset, found: file.read_place(storage, index)? })
        };
        Self::of_places(place(CopyIndex::A)?, place(CopyIndex::B)?)
    }

    /// A single copy, taken to stand in its place.
    pub(super) fn of_one(current: HeaderCopy) -> Self {
        let place = |index: CopyIndex| Place {
            offset: index.offset_in(&current.superblock.geometry),
            found: if index == current.superblock.index {
                Ok(current.clone())
            } else {
                Err(HeaderError::NoMagic)
            },
        };
        Self { a: place(CopyIndex::A), b: place(CopyIndex::B), current, others: Vec::new() }
    }

    /// Chooses between what stands in both places (NAT-RD-04).
    fn of_places(a: Place, b: Place) -> Result<Self> {
        let (current, others) = match (&a.found, &b.found) {
            (Ok(a), Ok(b)) if b.is_update_of(a) => (b.clone(), vec![a.clone()]),
            (Ok(a), Ok(b)) => (a.clone(), vec![b.clone()]),
            (Ok(only), Err(_)) | (Err(_), Ok(only)) => (only.clone(), Vec::new()),
            (Err(HeaderError::NoMagic), Err(error)) | (Err(error), Err(_)) => {
                return Err(no_copy_is_whole(error.clone()));
            }
        };
        Ok(Self { a, b, current, others })
    }

    /// Copy B alone, searched for.
    fn without_a(storage: &dyn Storage, a: Place) -> Result<Self> {
        let Search { whole, partial } = search(storage)?;
        let mut whole = whole.into_iter();
        if let Some(current) = whole.next() {
            let b = Place { offset: current.offset(), found: Ok(current.clone()) };
            return Ok(Self { a, b, current, others: whole.collect() });
        }
        let a = a.found.err().unwrap_or(HeaderError::NoMagic);
        let told = match (a, partial) {
            (HeaderError::NoMagic, Some(partial)) => partial,
            // Of a damaged copy A and a copy B of another time, the latter says more.
            (_, Some(partial)) if partial.is_unsupported() => partial,
            (a, _) => a,
        };
        Err(no_copy_is_whole(told))
    }

    /// The copy in use, before anything is unlocked.
    pub(super) const fn current(&self) -> &HeaderCopy {
        &self.current
    }

    /// Every whole copy, the one in use first.
    pub(super) fn whole(&self) -> impl Iterator<Item = &HeaderCopy> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// The copies whose keyslots may be tried after those of the copy in use (NAT-RD-05).
    pub(super) fn rivals(&self) -> impl Iterator<Item = &HeaderCopy> {
        let has_a = self.a.found.is_ok();
        self.others.iter().filter(move |other| {
            let is_as_new = other.superblock.sequence >= self.current.superblock.sequence;
            (is_as_new || !has_a) && !other.says_the_same_as(&self.current)
        })
    }

    /// What stands at `offset`, where copy B of some whole copy belongs.
    pub(super) fn backup_at(&self, offset: u64) -> Option<&HeaderCopy> {
        self.whole().find(|copy| copy.superblock.index == CopyIndex::B && copy.offset() == offset)
    }

    /// A copy in its place that is whole but of another time: whoever wrote it must not be written over.
    pub(super) fn unsupported(&self) -> Option<&HeaderError> {
        [&self.a, &self.b]
            .into_iter()
            .find_map(|place| place.found.as_ref().err().filter(|error| error.is_unsupported()))
    }
}

fn no_copy_is_whole(told: HeaderError) -> Error {
    match told {
        HeaderError::NoMagic => Error::new(ErrorKind::NotAContainer, "no known header"),
        told if told.is_unsupported() || told == HeaderError::Unreadable => told.into(),
        told => Error::new(ErrorKind::Damaged, format!("no header copy is whole: {told}")).with_hint(
            "strongroom header restore puts a backup back; header repair --scan looks for other copies",
        ),
    }
}

/// Whether any trace of the format is there: at the start, or near the end. A header file is one, so that reading it
/// says what it is.
pub(super) fn has_magic(storage: &dyn Storage) -> Result<bool> {
    if HeaderFile::is_one(storage)? {
        return Ok(true);
    }
    if !matches!(read_copy(storage, 0)?, Err(HeaderError::NoMagic)) {
        return Ok(true);
    }
    let Search { whole, partial } = search(storage)?;
    Ok(!whole.is_empty() || partial.is_some())
}

/// Reads and parses the copy at `offset`. What cannot be read is no copy: the other one may still be.
pub(super) fn read_copy(storage: &dyn Storage, offset: u64) -> Result<Found> {
    let left = storage.size()?.saturating_sub(offset);
    if left == 0 {
        return Ok(Err(HeaderError::NoMagic));
    }
    let len = usize::try_from(left).unwrap_or(COPY_LEN).min(COPY_LEN);
    let mut bytes = vec![0; len];
    if storage.read_exact_at(&mut bytes, offset).is_err() {
        return Ok(Err(HeaderError::Unreadable));
    }
    if !bytes.starts_with(&MAGIC) {
        return Ok(Err(HeaderError::NoMagic));
    }
    Ok(HeaderCopy::parse(&bytes))
}

/// Fills `bytes` from `offset`, with zeros for what cannot be read; gives the number of these.
pub(super) fn read_what_can_be_read(storage: &dyn Storage, bytes: &mut [u8], offset: u64) -> u64 {
    if storage.read_exact_at(bytes, offset).is_ok() {
        return 0;
    }
    let mut unreadable = 0_u64;
    for (block, offset) in bytes.chunks_mut(BLOCK_LEN).zip((offset..).step_by(BLOCK_LEN)) {
        if storage.read_exact_at(block, offset).is_err() {
            block.fill(0);
            unreadable = unreadable.saturating_add(u64::try_from(block.len()).unwrap_or(0));
        }
    }
    unreadable
}

/// NAT-RD-02: a copy counts only in its own place.
pub(super) fn in_place(found: Found, index: CopyIndex, offset: u64) -> Found {
    let copy = found?;
    if copy.superblock.index != index {
        return Err(HeaderError::Field { field: "copy index", value: copy.superblock.index.number().into() });
    }
    if copy.offset() != offset {
        return Err(HeaderError::Misplaced { offset: copy.offset() });
    }
    Ok(copy)
}

/// What the end of a container holds.
#[derive(Debug)]
struct Search {
    /// Whole copies B in their places, the last first.
    whole: Vec<HeaderCopy>,
    /// Why the last of the others is none.
    partial: Option<HeaderError>,
}

/// NAT-RD-03: copies B at each 4 KiB of the last 2 MiB.
fn search(storage: &dyn Storage) -> Result<Search> {
    let len = storage.size()?;
    let start = len.saturating_sub(SEARCH_LEN).next_multiple_of(ALIGNMENT).min(len);
    let mut tail = vec![0; usize::try_from(len.saturating_sub(start)).unwrap_or(0)];
    read_what_can_be_read(storage, &mut tail, start);

    let mut search = Search { whole: Vec::new(), partial: None };
    for (index, block) in tail.chunks(BLOCK_LEN).enumerate().rev() {
        if !block.starts_with(&MAGIC) || search.whole.len() >= MAX_WHOLE {
            continue;
        }
        let position = index.saturating_mul(BLOCK_LEN);
        let bytes = tail.get(position..).unwrap_or_default();
        let offset = start.saturating_add(u64::try_from(position).unwrap_or(u64::MAX));
        let found = HeaderCopy::parse(bytes.get(..COPY_LEN).unwrap_or(bytes));
        match in_place(found, CopyIndex::B, offset) {
            Ok(copy) => search.whole.push(copy),
            Err(error) => search.partial = search.partial.or(Some(error)),
        }
    }
    Ok(search)
}

/// How far from the end copy B is looked for.
pub(super) const SEARCH_LEN: u64 = 2 * TAIL_LEN;
const BLOCK_LEN: usize = 4_096;
/// So many whole copies at the end are looked at; an honest container has one.
const MAX_WHOLE: usize = 8;
