//! Finding the header copies and choosing between them (`spec/native-v1.md`, section 4).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{
    copy::HeaderCopy,
    error::HeaderError,
    header::name_of,
    header_file::HeaderFile,
    layout::{ALIGNMENT, COPY_LEN, MAGIC, TAIL_LEN},
    remains::{DamagedOther, Remains, Wreck},
    superblock::CopyIndex,
};
use crate::{
    error::{Error, ErrorKind, Fact, Result},
    storage::Storage,
};

/// What stands at a place: a whole copy, or why not.
pub(super) type Found = Result<HeaderCopy, HeaderError>;

/// Where a copy belongs and what stands there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) found: Found,
    /// What can be read there all the same, where no copy is whole.
    pub(super) wreck: Option<Wreck>,
    /// Whether the copy lacks bytes of its magic, which the medium does not have yet (NAT-RD-08).
    pub(super) is_unfinished: bool,
}

impl Place {
    /// What stands where copy `index` of a container belongs that has it at `offset`.
    pub(super) fn read(storage: &dyn Storage, index: CopyIndex, offset: u64) -> Self {
        Self::read_from(storage, offset, index, offset)
    }

    /// The same; the place is at `at` in `storage`.
    pub(super) fn read_from(storage: &dyn Storage, at: u64, index: CopyIndex, offset: u64) -> Self {
        let mut bytes = vec![0; len_of_place(storage, at)];
        let unreadable = read_what_can_be_read(storage, &mut bytes, at);
        let parsed = match bytes.starts_with(&MAGIC) {
            _ if unreadable > 0 => Err(HeaderError::Unreadable),
            true => HeaderCopy::parse(&bytes),
            false => Err(HeaderError::NoMagic),
        };
        let found = in_place(parsed, index, offset);
        let wreck = if found.is_ok() { None } else { Wreck::of(bytes) };
        Self { offset, found, wreck, is_unfinished: false }
    }

    /// NAT-UPD-08: the damaged copy that stands here, where it was of another state than `good`.
    pub(super) fn damaged_other(&self, good: &HeaderCopy, index: CopyIndex) -> Option<DamagedOther> {
        self.wreck.as_ref()?.other(good, index, self.offset)
    }

    /// Whether a damaged copy of the container of `good` stands here.
    pub(super) fn shows_uuid_of(&self, good: &HeaderCopy) -> bool {
        self.wreck.as_ref().is_some_and(|wreck| wreck.sequence(good).is_some())
    }

    /// The copy that stood here, where all of it is known.
    pub(super) fn as_it_was(&self, good: &HeaderCopy, index: CopyIndex) -> Option<HeaderCopy> {
        self.wreck.as_ref()?.as_it_was(good, index)
    }

    fn of_wreck(offset: u64, wreck: Wreck) -> Self {
        Self { offset, found: Err(HeaderError::NoMagic), wreck: Some(wreck), is_unfinished: false }
    }

    /// Whether a header copy stands here, or what is left of one, of whichever container (NAT-UPD-08).
    pub(super) fn shows_a_header(&self, good: &HeaderCopy) -> bool {
        self.found.is_ok() || self.wreck.as_ref().is_some_and(|wreck| wreck.shows_a_header(good))
    }

    fn of_copy(copy: &HeaderCopy) -> Self {
        Self { offset: copy.offset(), found: Ok(copy.clone()), wreck: None, is_unfinished: false }
    }

    /// NAT-RD-08: lets copy B count that stands here without its magic, where it is newer than copy A, which is whole: all else of
    /// an update is on the medium, and a password that it removed must not come back.
    fn count_unfinished(mut self, a: &HeaderCopy) -> Self {
        let finished = self.wreck.as_ref().and_then(Wreck::finished);
        let found = finished.map(|copy| in_place(Ok(copy), CopyIndex::B, self.offset));
        if let Some(Ok(copy)) = found
            && copy.is_update_of(a)
        {
            (self.found, self.wreck, self.is_unfinished) = (Ok(copy), None, true);
        }
        self
    }
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
    /// Whole copies B that are not to be opened: what stands in the place of their copy A is not theirs (NAT-RD-07).
    strangers: Vec<HeaderCopy>,
    /// What is left of copies B that were found by searching, in no place of a whole copy.
    wrecks: Vec<(u64, Wreck)>,
}

impl Copies {
    /// Reads what stands at both places (NAT-RD-01 to -04, -07).
    ///
    /// # Errors
    /// `NotAContainer` where there is no trace of one, `Damaged` where no copy is whole, `Unsupported` where the whole ones
    /// are of another time.
    pub(super) fn read(storage: &dyn Storage) -> Result<Self> {
        // NAT-HF-05: a header file says itself where copy B belongs, whatever the container's size is.
        if let Some(window) = storage.windows().iter().find(|window| window.shown.start != 0) {
            let b = Place::read(storage, CopyIndex::B, window.shown.start);
            return Self::of_places(Place::read(storage, CopyIndex::A, 0), b);
        }
        if HeaderFile::is_one(storage)? {
            return Err(Error::new(ErrorKind::NotAContainer, "it is a header file, not a container")
                .with_hint("name the container, and give this file with --header")); // NAT-HF-01
        }
        let a = Place::read(storage, CopyIndex::A, 0);
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
        let b = Place::read(storage, CopyIndex::B, current.superblock.geometry.backup_offset);
        let b = b.count_unfinished(&current);
        if b.found.is_ok() {
            let copies = Self::of_places(a, b)?;
            return copies.unless_grown(storage);
        }
        // Somebody may have changed where A points; what stands at the end still counts.
        let Search { whole: mut others, mut wrecks, .. } = search(storage)?;
        if let Some(newest) = newest_update_of(&current, &others) {
            let newest = others.remove(newest);
            others.insert(0, current);
            let b = Place::of_copy(&newest);
            return Ok(Self { a, b, current: newest, others, strangers: Vec::new(), wrecks });
        }
        // The container was given another size, but for the last steps (NAT-RD-08).
        let unfinished = |(offset, wreck): &(u64, Wreck)| {
            let place = Place::of_wreck(*offset, wreck.clone()).count_unfinished(&current);
            place.found.clone().ok().map(|newest| (place, newest))
        };
        let Some((b, newest)) = wrecks.iter().find_map(unfinished) else {
            return Ok(Self { a, b, current, others, strangers: Vec::new(), wrecks });
        };
        wrecks.retain(|(offset, _)| *offset != b.offset);
        others.insert(0, current);
        Ok(Self { a, b, current: newest, others, strangers: Vec::new(), wrecks })
    }

    /// NAT-RD-02: where the file goes on behind the container, both copies may have been put back from before it grew.
    fn unless_grown(self, storage: &dyn Storage) -> Result<Self> {
        let behind = self.current.superblock.geometry.container_len.saturating_add(ALIGNMENT);
        if storage.size()? < behind {
            return Ok(self);
        }
        let found = search(storage)?.whole;
        let Some(newest) = newest_update_of(&self.current, &found).and_then(|newest| found.get(newest))
        else {
            return Ok(self);
        };
        let others = self.whole().cloned().collect();
        Ok(Self { b: Place::of_copy(newest), current: newest.clone(), others, ..self })
    }

    /// The copies in a header file.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn of_header_file(file: &HeaderFile, storage: &dyn Storage) -> Result<Self> {
        let place = |index: CopyIndex| file.read_place(storage, index);
        Self::of_places(place(CopyIndex::A), place(CopyIndex::B))
    }

    /// A single copy, taken to stand in its place.
    pub(super) fn of_one(current: HeaderCopy) -> Self {
        let place = |index: CopyIndex| {
            if index == current.superblock.index {
                return Place::of_copy(&current);
            }
            let offset = index.offset_in(&current.superblock.geometry);
            Place { offset, found: Err(HeaderError::NoMagic), wreck: None, is_unfinished: false }
        };
        let (a, b) = (place(CopyIndex::A), place(CopyIndex::B));
        Self { a, b, current, others: Vec::new(), strangers: Vec::new(), wrecks: Vec::new() }
    }

    /// Chooses between what stands in both places (NAT-RD-04).
    fn of_places(a: Place, b: Place) -> Result<Self> {
        let b = if let Ok(a) = &a.found { b.count_unfinished(a) } else { b };
        let (current, others) = match (&a.found, &b.found) {
            (Ok(a), Ok(b)) if b.is_update_of(a) => (b.clone(), vec![a.clone()]),
            (Ok(a), Ok(b)) => (a.clone(), vec![b.clone()]),
            (Ok(only), Err(_)) | (Err(_), Ok(only)) => (only.clone(), Vec::new()),
            (Err(HeaderError::NoMagic), Err(error)) | (Err(error), Err(_)) => {
                return Err(no_copy_is_whole(error.clone()));
            }
        };
        Ok(Self { a, b, current, others, strangers: Vec::new(), wrecks: Vec::new() })
    }

    /// Copy B alone, searched for.
    fn without_a(storage: &dyn Storage, a: Place) -> Result<Self> {
        let remains = Remains::read(storage)?;
        let Search { whole, partial, wrecks } = search(storage)?;
        let is_of_another_time = a.found.as_ref().is_err_and(HeaderError::is_unsupported);
        if !is_of_another_time && let Some(occupant) = remains.occupant() {
            return Err(Error::new(ErrorKind::NotAContainer, format!("not a container; this is {occupant}"))
                .with_fact(Fact::OtherContent));
        }
        // NAT-RD-07: copies of a container that something else has taken the place of are not opened.
        let (mut others, strangers): (Vec<_>, Vec<_>) =
            whole.into_iter().partition(|copy| is_of_another_time || remains.lets(storage, copy));
        if !others.is_empty() {
            let mut current = others.remove(0);
            if let Some(newest) = newest_update_of(&current, &others) {
                let first = std::mem::replace(&mut current, others.remove(newest));
                others.insert(0, first);
            }
            return Ok(Self { a, b: Place::of_copy(&current), current, others, strangers, wrecks });
        }
        let newcomer =
            |copy: &HeaderCopy| remains.newcomer(storage, copy).filter(|_| remains.is_beside(copy));
        if let Some((copy, offset)) = strangers.iter().find_map(|copy| Some((copy, newcomer(copy)?))) {
            return Err(written_anew(copy, offset));
        }
        let shows_one = a.wreck.as_ref().is_some_and(Wreck::shows_keyslots);
        let a = match a.found.err().unwrap_or(HeaderError::NoMagic) {
            HeaderError::NoMagic if shows_one => HeaderError::NoStart,
            error => error,
        };
        let told = match (a, partial) {
            (HeaderError::NoMagic, Some(partial)) if remains.is_blank() => partial,
            // Of a damaged copy A and a copy B of another time, the latter says more.
            (a, Some(partial)) if a != HeaderError::NoMagic && partial.is_unsupported() => partial,
            (a, _) => a,
        };
        if told == HeaderError::NoMagic && !strangers.is_empty() {
            return Err(something_else_stands_there());
        }
        if let (HeaderError::Checksum | HeaderError::Unreadable | HeaderError::NoStart, Some(stranger)) =
            (&told, strangers.first())
        {
            return Err(beside_a_stranger(&told, stranger));
        }
        let error = no_copy_is_whole(told);
        Err(match too_far_from_the_end(storage)? {
            Some(copy) if error.kind() == ErrorKind::Damaged => appended(&error, &copy, storage.size()?),
            _ => error,
        })
    }

    /// The copy in use, before anything is unlocked.
    pub(super) const fn current(&self) -> &HeaderCopy {
        &self.current
    }

    /// Every whole copy, the one in use first.
    pub(super) fn whole(&self) -> impl Iterator<Item = &HeaderCopy> {
        std::iter::once(&self.current).chain(&self.others).chain(&self.strangers)
    }

    /// The copies whose keyslots may be tried after those of the copy in use (NAT-RD-05).
    pub(super) fn rivals(&self) -> impl Iterator<Item = &HeaderCopy> {
        self.others.iter().filter(|other| !self.is_lower(other) && !other.says_the_same_as(&self.current))
    }

    /// The copies that a password must not open any more (NAT-RD-05): it may only be said that it would.
    pub(super) fn lower(&self) -> impl Iterator<Item = &HeaderCopy> {
        self.others.iter().filter(|other| self.is_lower(other))
    }

    /// NAT-RD-05: beside a whole copy A the sequence counts whosever the copy seems to be.
    fn is_lower(&self, other: &HeaderCopy) -> bool {
        let has_a = self.a.found.is_ok();
        has_a && other.superblock.sequence < self.current.superblock.sequence
            || self.whole().any(|copy| copy.is_update_of(other))
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

    /// NAT-UPD-08: a damaged copy that was of another state than `good`, as far as it shows.
    pub(super) fn damaged_other(&self, good: &HeaderCopy) -> Option<DamagedOther> {
        [(CopyIndex::A, &self.a), (CopyIndex::B, &self.b)]
            .into_iter()
            .find_map(|(index, place)| place.damaged_other(good, index))
            .or_else(|| self.damaged_elsewhere(good).into_iter().next())
    }

    /// The same of what was found by searching, where no copy of this header belongs.
    pub(super) fn damaged_elsewhere(&self, good: &HeaderCopy) -> Vec<DamagedOther> {
        let places = [self.b.offset, good.superblock.geometry.backup_offset];
        let elsewhere = self.wrecks.iter().filter(|(offset, _)| !places.contains(offset));
        // In the middle of a change of size that is copy A's own copy B.
        let before = self.a.found.as_ref().ok().filter(|a| a.is_of_same_container(good));
        let beside =
            |offset: u64| before.filter(|a| a.superblock.geometry.backup_offset == offset).unwrap_or(good);
        elsewhere.filter_map(|(offset, wreck)| wreck.other(beside(*offset), CopyIndex::B, *offset)).collect()
    }

    /// What the damaged copies were that are not whole for want of what is known of them, as their magic.
    pub(super) fn as_they_were(&self, good: &HeaderCopy) -> Vec<HeaderCopy> {
        let places = [(CopyIndex::A, &self.a), (CopyIndex::B, &self.b)];
        places.into_iter().filter_map(|(index, place)| place.as_it_was(good, index)).collect()
    }
}

/// Which of `others` is the newest later state of `copy`, of two alike the first.
fn newest_update_of(copy: &HeaderCopy, others: &[HeaderCopy]) -> Option<usize> {
    let updates = others.iter().enumerate().rev().filter(|(_, other)| other.is_update_of(copy));
    updates.max_by_key(|(_, other)| other.superblock.sequence).map(|(index, _)| index)
}

/// NAT-RD-07: something new stands where copy A and its work area were.
fn written_anew(copy: &HeaderCopy, offset: u64) -> Error {
    let reason = format!(
        "no known header; of container {} only the second copy is whole, and something else was written at offset {offset} since",
        name_of(copy)
    );
    Error::new(ErrorKind::NotAContainer, reason).with_hint(
        "if the container is still wanted: strongroom header repair --scan shows the copy and asks before it puts it back",
    )
}

fn something_else_stands_there() -> Error {
    let reason =
        "no known header; only a second copy of one is left, with something else in the place of the first";
    Error::new(ErrorKind::NotAContainer, reason).with_hint(
        "if the container is still wanted: strongroom header repair --scan shows the copy and asks before it puts it back",
    )
}

/// Copy A is damaged, and the whole copy B is none of the same container.
fn beside_a_stranger(told: &HeaderError, stranger: &HeaderCopy) -> Error {
    let reason = format!(
        "header copy A is damaged ({told}), and copy B at offset {} is whole, but of another container: {}",
        stranger.offset(),
        name_of(stranger)
    );
    Error::new(ErrorKind::Damaged, reason).with_hint(
        "strongroom header restore puts a backup back; header repair --scan puts copy A back from copy B, after asking",
    )
}

/// A whole copy B where a damaged copy A says that it is, though nobody looks for it there (NAT-RD-03).
fn too_far_from_the_end(storage: &dyn Storage) -> Result<Option<HeaderCopy>> {
    let remains = Remains::read(storage)?;
    let Some(offset) = remains.backup_offset() else { return Ok(None) };
    let copy = in_place(read_copy(storage, offset), CopyIndex::B, offset).ok();
    Ok(copy.filter(|copy| remains.has_uuid(&copy.superblock.uuid)))
}

fn appended(error: &Error, copy: &HeaderCopy, size: u64) -> Error {
    let (offset, len) = (copy.offset(), copy.superblock.geometry.container_len);
    let reason = format!(
        "{}; copy B is whole at offset {offset}, too far from the end, as {} bytes follow the container",
        error.reason(),
        size.saturating_sub(len)
    );
    Error::new(ErrorKind::Damaged, reason)
        .with_hint("strongroom header repair --scan shows it and asks before it rebuilds copy A from it")
}

/// A whole copy B without its container: something else has taken the place of copy A, and other formats may claim what it
/// is. Says whose it is and where it lies.
///
/// # Errors
/// What reading gave.
pub fn left_behind(storage: &dyn Storage) -> Result<Option<String>> {
    if has_magic(storage)? {
        return Ok(None);
    }
    let found = search(storage)?.whole;
    Ok(found
        .first()
        .map(|copy| format!("header copy B of container {} at offset {}", name_of(copy), copy.offset())))
}

fn no_copy_is_whole(told: HeaderError) -> Error {
    match told {
        HeaderError::NoMagic => {
            Error::new(ErrorKind::NotAContainer, "no known header").with_fact(Fact::NoSignature)
        }
        told if told.is_unsupported() || told == HeaderError::Unreadable => told.into(),
        // A backup of that container's header belongs where it begins, and not here.
        told @ HeaderError::Misplaced { .. } => {
            Error::new(ErrorKind::Damaged, format!("no header copy is whole: {told}"))
                .with_fact(Fact::BeginsElsewhere)
                .with_hint(
                    "its container begins elsewhere, or its size was changed: header repair --scan, without --partition and \
                     --offset, looks in all of the file or device",
                )
        }
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
    Ok(!Copies::read(storage).is_err_and(|error| error.kind() == ErrorKind::NotAContainer))
}

/// Reads and parses the copy at `offset`. What cannot be read is no copy: the other one may still be.
pub(super) fn read_copy(storage: &dyn Storage, offset: u64) -> Found {
    HeaderCopy::parse(&read_bytes(storage, offset)?)
}

/// The bytes of a place, as far as they are there.
fn read_bytes(storage: &dyn Storage, offset: u64) -> Result<Vec<u8>, HeaderError> {
    let mut bytes = vec![0; len_of_place(storage, offset)];
    storage.read_exact_at(&mut bytes, offset).map_err(|_| HeaderError::Unreadable)?;
    if bytes.starts_with(&MAGIC) { Ok(bytes) } else { Err(HeaderError::NoMagic) }
}

/// How many bytes of a place are there.
fn len_of_place(storage: &dyn Storage, offset: u64) -> usize {
    // What another storage lends may lie behind the end.
    let lent = storage.windows().iter().map(|window| window.shown.end).max().unwrap_or(0);
    let there = storage.size().unwrap_or(0).max(lent).saturating_sub(offset);
    usize::try_from(there).unwrap_or(COPY_LEN).min(COPY_LEN)
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
    /// What is left of others, and where.
    wrecks: Vec<(u64, Wreck)>,
}

/// NAT-RD-03: copies B at each 4 KiB of the last 2 MiB.
fn search(storage: &dyn Storage) -> Result<Search> {
    let size = storage.size()?;
    let len = size.saturating_sub(size.checked_rem(ALIGNMENT).unwrap_or(0)); // NAT-GEO-01
    let start = len.saturating_sub(SEARCH_LEN);
    let mut tail = vec![0; usize::try_from(len.saturating_sub(start)).unwrap_or(0)];
    read_what_can_be_read(storage, &mut tail, start);

    let mut search = Search { whole: Vec::new(), partial: None, wrecks: Vec::new() };
    for (index, block) in tail.chunks(BLOCK_LEN).enumerate().rev() {
        let position = index.saturating_mul(BLOCK_LEN);
        let bytes = tail.get(position..).unwrap_or_default();
        let bytes = bytes.get(..COPY_LEN).unwrap_or(bytes);
        let offset = start.saturating_add(u64::try_from(position).unwrap_or(u64::MAX));
        let found = if block.starts_with(&MAGIC) {
            in_place(HeaderCopy::parse(bytes), CopyIndex::B, offset)
        } else {
            Err(HeaderError::NoMagic)
        };
        let error = match found {
            Ok(copy) => {
                search.whole.push(copy);
                continue;
            }
            Err(error) => error,
        };
        // Of a small container copy A is there as well.
        if offset > 0 && matches!(error, HeaderError::NoMagic | HeaderError::Checksum) {
            search.wrecks.extend(Wreck::found_in(bytes).map(|wreck| (offset, wreck)));
        }
        search.partial = search.partial.or(Some(error).filter(|error| *error != HeaderError::NoMagic));
    }
    Ok(search)
}

/// How far from the end copy B is looked for.
pub(super) const SEARCH_LEN: u64 = 2 * TAIL_LEN;
const BLOCK_LEN: usize = 4_096;
