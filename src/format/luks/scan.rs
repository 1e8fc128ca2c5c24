//! Looking for headers wherever they stand: behind a lost partition table, beside a second copy, without their magic.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::sync::Arc;

use super::{
    MAGIC, UNIT,
    backup::LuksRestore,
    version::{LuksHeader, Version},
};
use crate::{
    error::{Error, ErrorKind, Result},
    format::{
        HeaderInfo, HeaderRestore,
        luks1::{self, Luks1},
        luks2::{self, Luks2, Orphan},
    },
    storage::{MemoryStorage, Overlay, Section, Storage, Window},
};

/// A LUKS header that can be read.
#[derive(Debug)]
pub struct FoundLuks {
    /// Where its container starts, in bytes.
    pub start: u64,
    /// What it says. Its container's size is not known.
    pub info: HeaderInfo,
    /// The magic is gone that tells a header: `wipefs` takes away no more.
    pub lacks_magic: bool,
    /// Only the text of a LUKS2 header is left: the rest is made anew, and what its checksum said nobody knows.
    pub is_text_only: bool,
    /// Whose the other copy is, where it is whole and another container's.
    pub stranger: Option<String>,
    /// Why it opens nothing here, where that shows without a secret.
    pub obstacle: Option<String>,
}

/// The second copy of a header that lies before the start of the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headless {
    /// Where it stands, in bytes.
    pub offset: u64,
    /// How many bytes of its container are missing.
    pub missing: u64,
}

/// The LUKS headers of a medium.
#[derive(Debug, Default)]
pub struct LuksScan {
    /// The ones that can be read, by their containers' starts. No more than 256.
    pub found: Vec<FoundLuks>,
    /// Second copies whose containers' first bytes are missing.
    pub headless: Vec<Headless>,
    /// Places that look like a header and hold none that can be read.
    pub broken: u64,
    /// Whether there were too many places to look at all of them.
    pub is_cut_short: bool,
    /// Where a JSON area may begin.
    texts: Vec<u64>,
}

/// What a sector may be the start of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    Luks1,
    /// The first copy of a header whose copies have so many bytes.
    First(u64),
    /// The second one.
    Second(u64),
}

impl LuksScan {
    /// Looks at the sector at `offset`.
    pub(crate) fn look_at(&mut self, storage: &Arc<dyn Storage>, sector: &[u8], offset: u64) {
        if Orphan::may_begin(sector) {
            if self.texts.len() < MAX_TEXTS {
                self.texts.push(offset);
            } else {
                self.is_cut_short = true;
            }
        }
        let Some(candidate) = Candidate::of(sector) else { return };
        let start = match candidate {
            Candidate::Luks1 | Candidate::First(_) => offset,
            Candidate::Second(len) => match offset.checked_sub(len) {
                Some(start) => start,
                None => return self.headless.push(Headless { offset, missing: len.saturating_sub(offset) }),
            },
        };
        if self.found.iter().any(|found| found.start == start) {
            return;
        }
        let looked_at = u64::try_from(self.found.len()).unwrap_or(u64::MAX).saturating_add(self.broken);
        if looked_at >= MAX_PLACES || self.found.len() >= MAX_FOUND || self.headless.len() >= MAX_FOUND {
            self.is_cut_short = true;
            return;
        }
        match read(storage, start, candidate) {
            Ok(found) => self.found.push(found),
            Err(_) => self.broken = self.broken.saturating_add(1),
        }
    }

    /// Takes the texts of headers of which nothing better was found.
    pub(crate) fn finish(&mut self, storage: &Arc<dyn Storage>) {
        let texts = std::mem::take(&mut self.texts);
        // What cannot be read is no header.
        let orphans = texts.into_iter().filter_map(|offset| Orphan::at(&**storage, offset).ok().flatten());
        let orphans: Vec<_> = orphans.collect();
        for orphan in &orphans {
            let is_known = |start: u64| self.found.iter().any(|found| found.start == start);
            // It has its binary header, and no start.
            let is_headless = self.headless.iter().any(|found| orphan.starts().contains(&Some(found.offset)));
            if is_headless
                || orphan.starts().into_iter().flatten().any(is_known)
                || self.found.len() >= MAX_FOUND
            {
                continue;
            }
            let Some(start) = start_of(orphan, &orphans) else { continue };
            self.found.extend(read_orphan(storage, start, orphan));
        }
        self.found.sort_by_key(|found| found.start);
    }
}

/// Where the container of a text begins: both copies may be there, and containers begin at round places.
fn start_of(orphan: &Orphan, all: &[Orphan]) -> Option<u64> {
    let is_there = |offset: Option<u64>| all.iter().any(|other| Some(other.offset) == offset);
    match orphan.starts() {
        [first, None] => first,
        [first, Some(_)] if is_there(orphan.offset.checked_add(orphan.header_len)) => first,
        [_, second] if is_there(orphan.offset.checked_sub(orphan.header_len)) => second,
        [first, second] => first.into_iter().chain(second).max_by_key(|start| start.trailing_zeros()),
    }
}

/// The container that starts at `start`, with a binary header before the text that lost its own.
fn view_orphan(storage: &Arc<dyn Storage>, start: u64, orphan: &Orphan) -> Result<Arc<dyn Storage>> {
    let section = Arc::new(Section::new(Arc::clone(storage), start..storage.size()?)?);
    let bytes = orphan.binary_header(&**storage, start)?;
    let end = orphan.offset.saturating_sub(start);
    let begin = end.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    let windows = vec![Window { shown: begin..end, source: 0 }];
    Ok(Arc::new(Overlay::new(section, Arc::new(MemoryStorage::new(bytes)), windows)?))
}

fn read_orphan(storage: &Arc<dyn Storage>, start: u64, orphan: &Orphan) -> Result<FoundLuks> {
    let view = view_orphan(storage, start, orphan)?;
    let found = found(&<Luks2 as Version>::Header::read_file(&*view)?, start, true);
    Ok(FoundLuks { is_text_only: true, ..found })
}

/// What takes to put the header of the container that starts at offset 0 in order: both copies as the one that counts has
/// them, or the one at `chosen`, with their magic. Needs no secret.
///
/// # Errors
/// `NotAContainer` where none can be read; `Usage` where copies of two containers are there, and none was chosen; `Busy` where only
/// the header as it is fits the data.
pub fn rebuild(storage: &Arc<dyn Storage>, chosen: Option<u64>) -> Result<Box<dyn HeaderRestore>> {
    let size = storage.size()?;
    let places = std::iter::once(0).chain(luks2::HEADER_LENS);
    let mut told = Error::new(ErrorKind::NotAContainer, "no LUKS header can be read at its start");
    for place in places.filter(|place| *place < size && chosen.is_none_or(|chosen| chosen == *place)) {
        let Some(candidate) = candidate_at(storage, place)? else { continue };
        let is_here = match candidate {
            Candidate::Luks1 | Candidate::First(_) => place == 0,
            Candidate::Second(len) => place == len,
        };
        if !is_here {
            continue;
        }
        let whole = view(storage, 0, candidate, None)?;
        let restore = match (candidate, chosen) {
            (Candidate::Luks1, _) => {
                boxed(LuksRestore::<<Luks1 as Version>::Header>::rebuild(&**storage, &*whole, None))
            }
            (Candidate::First(_) | Candidate::Second(_), None) => {
                boxed(LuksRestore::<<Luks2 as Version>::Header>::rebuild(&**storage, &*whole, None))
            }
            (Candidate::First(len) | Candidate::Second(len), Some(chosen)) => {
                let other = if chosen == 0 { len } else { 0 };
                let without = |hidden| view(storage, 0, candidate, Some(hidden));
                let (own, other) = (without(other)?, without(chosen)?);
                boxed(LuksRestore::<<Luks2 as Version>::Header>::rebuild(&**storage, &*own, Some(&*other)))
            }
        };
        match restore {
            Ok(restore) => return Ok(restore),
            // Why one is not written anew says more than that none is there.
            Err(error) if matches!(error.kind(), ErrorKind::Usage | ErrorKind::Busy) => told = error,
            Err(_) => {}
        }
    }
    if told.kind() == ErrorKind::NotAContainer
        && chosen.is_none()
        && let Some(orphan) = Orphan::of_container(&**storage)?
    {
        let view = view_orphan(storage, 0, &orphan)?;
        return boxed(LuksRestore::<<Luks2 as Version>::Header>::rebuild(&**storage, &*view, None));
    }
    Err(told)
}

fn boxed<H: LuksHeader>(restore: Result<LuksRestore<H>>) -> Result<Box<dyn HeaderRestore>> {
    Ok(Box::new(restore?))
}

fn read(storage: &Arc<dyn Storage>, start: u64, candidate: Candidate) -> Result<FoundLuks> {
    let view = view(storage, start, candidate, None)?;
    let mut magic = [0; MAGIC.len()];
    storage.read_exact_at(&mut magic, start)?;
    let lacks_magic = magic != MAGIC;
    Ok(match candidate {
        Candidate::Luks1 => found(&<Luks1 as Version>::Header::read_file(&*view)?, start, lacks_magic),
        _ => found(&<Luks2 as Version>::Header::read_file(&*view)?, start, lacks_magic),
    })
}

fn found<H: LuksHeader>(header: &H, start: u64, lacks_magic: bool) -> FoundLuks {
    let refused = || header.check_openable().err().map(|error| error.reason_with_way());
    FoundLuks {
        start,
        info: header.describe(),
        lacks_magic,
        is_text_only: false,
        stranger: header.stranger(),
        obstacle: header.closed().or_else(refused),
    }
}

/// The container that starts at `start`, with each magic in its place where all around it is a header's, but for the copy at `hidden`,
/// which shows none.
fn view(
    storage: &Arc<dyn Storage>,
    start: u64,
    candidate: Candidate,
    hidden: Option<u64>,
) -> Result<Arc<dyn Storage>> {
    let section = Arc::new(Section::new(Arc::clone(storage), start..storage.size()?)?);
    let mut magics = Vec::new();
    match candidate {
        Candidate::Luks1 => magics.push((0, MAGIC)),
        Candidate::First(len) | Candidate::Second(len) => {
            if matches!(candidate_at(storage, start)?, Some(Candidate::First(_))) {
                magics.push((0, MAGIC));
            }
            let second = start.saturating_add(len);
            if candidate_at(storage, second)? == Some(Candidate::Second(len)) {
                magics.push((len, luks2::SECOND_MAGIC));
            }
        }
    }
    let mut bytes = Vec::new();
    let mut windows = Vec::new();
    if let Some(hidden) = hidden {
        magics.retain(|(place, _)| *place != hidden);
        magics.push((hidden, [0; MAGIC.len()]));
    }
    for (place, magic) in magics {
        let source = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let end = place.saturating_add(u64::try_from(magic.len()).unwrap_or(u64::MAX));
        bytes.extend_from_slice(&magic);
        windows.push(Window { shown: place..end, source });
    }
    Ok(Arc::new(Overlay::new(section, Arc::new(MemoryStorage::new(bytes)), windows)?))
}

fn candidate_at(storage: &Arc<dyn Storage>, offset: u64) -> Result<Option<Candidate>> {
    if storage.size()?.saturating_sub(offset) < UNIT {
        return Ok(None);
    }
    let mut sector = [0; 512];
    storage.read_exact_at(&mut sector, offset)?;
    Ok(Candidate::of(&sector))
}

impl Candidate {
    /// Whatever the first six bytes are, the rest must fit.
    fn of(sector: &[u8]) -> Option<Self> {
        let number = |at: usize| sector.get(at..)?.first_chunk().copied().map(u64::from_be_bytes);
        match sector.get(6..8)? {
            [0, 2] => {
                let len = number(8).filter(|len| luks2::HEADER_LENS.contains(len))?;
                match number(256)? {
                    0 => Some(Self::First(len)),
                    offset if offset == len => Some(Self::Second(len)),
                    _ => None,
                }
            }
            [0, 1] => luks1::has_keyslots(sector).then_some(Self::Luks1),
            _ => None,
        }
    }
}

/// An honest medium has a few.
const MAX_FOUND: usize = 256;
/// So many texts that may be a header's are read. Other programs' files begin as one does.
const MAX_TEXTS: usize = 1_024;
/// So many places that look like a header are read.
const MAX_PLACES: u64 = 2_048;
