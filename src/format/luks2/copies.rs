//! Finding the header copies and choosing between them.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::ops::Range;

use super::{
    copy::{CopyIndex, HeaderCopy},
    error::HeaderError,
    layout::{HEADER_LENS, SECOND_MAGIC, VERSION},
    remains::Remains,
};
use crate::{
    error::{Error, ErrorKind, Result},
    format::{
        CopyInfo, CopyState,
        luks::{MAGIC, Place, editor::changed_meanwhile, is_partitioned_over, magic_at},
        signature::{self, Owner},
    },
    storage::Storage,
};

/// What stands at a place: a whole copy, or why not.
type Found = Result<HeaderCopy, HeaderError>;

/// Both copies; one of them is whole.
#[derive(Debug)]
pub(super) struct Copies {
    /// The one that counts.
    pub(super) current: HeaderCopy,
    index: CopyIndex,
    other: Found,
    /// What is there where the other one is not whole.
    remains: Option<Remains>,
    /// Where the second one stands or belongs.
    second_offset: u64,
}

/// Whether a header may be there: the first magic, or the second where nothing else has taken the first one's place.
pub(super) fn has_magic(storage: &dyn Storage) -> Result<bool> {
    let first = magic_at(storage, 0)?.filter(|start| start.starts_with(&MAGIC));
    if let Some(start) = first
        && !is_partitioned_over(storage)?
    {
        // LUKS1 is another format; a version of the future is told by name.
        return Ok(!start.ends_with(&[0, 1]));
    }
    for offset in HEADER_LENS {
        let is_second = |start: &[u8; 8]| start.starts_with(&SECOND_MAGIC) && start.ends_with(&VERSION);
        if magic_at(storage, offset)?.as_ref().is_some_and(is_second) {
            return Ok(occupant(storage)?.is_none()); // L2-HDR-07
        }
    }
    Ok(false)
}

impl Copies {
    /// Reads both copies.
    ///
    /// # Errors
    /// What is wrong with the first copy, where neither is whole.
    pub(super) fn read(place: Place<'_>) -> Result<Self> {
        let first = HeaderCopy::read(place, CopyIndex::First, 0)?;
        let (second, second_offset) = match &first {
            Ok(copy) => {
                let offset = copy.header_len;
                (HeaderCopy::read(place, CopyIndex::Second, offset)?, offset)
            }
            Err(_) => search(place)?,
        };
        let (index, current, other) = match (first, second) {
            // L2-HDR-05: the newer one counts, of two alike the first.
            (Ok(first), Ok(second)) if second.sequence > first.sequence => {
                (CopyIndex::Second, second, Ok(first))
            }
            (Ok(first), second) => (CopyIndex::First, first, second),
            (first, Ok(second)) => (CopyIndex::Second, second, first),
            (Err(HeaderError::NoMagic), Err(error)) | (Err(error), Err(_)) => return Err(error.into()),
        };
        let remains = match &other {
            Ok(_) => None,
            Err(_) => Some(Remains::read(place, index.other(), &current)?),
        };
        Ok(Self { current, index, other, remains, second_offset })
    }

    /// Which of the two counts.
    pub(super) const fn index(&self) -> CopyIndex {
        self.index
    }

    /// Whose the other copy is, where it is whole and another container's.
    pub(super) fn stranger(&self) -> Option<(CopyIndex, &str)> {
        let other = self.other.as_ref().ok().filter(|copy| copy.uuid != self.current.uuid)?;
        Some((self.index.other(), &other.uuid))
    }

    /// The highest sequence id that is there.
    pub(super) fn newest_sequence(&self) -> u64 {
        let other = self.other.as_ref().map_or(0, |copy| copy.sequence);
        self.current.sequence.max(other)
    }

    /// L2-EDIT-05: nobody wrote a header since `base` was read, and no place holds what is not ours.
    ///
    /// # Errors
    /// `Busy`, `Exists`.
    pub(super) fn check_unchanged(&self, base: &HeaderCopy, storage: &dyn Storage) -> Result<()> {
        if !self.current.says_the_same_as(base) {
            return Err(changed_meanwhile());
        }
        if self.stranger().is_some() {
            return Err(Error::new(ErrorKind::Exists, "a header copy belongs to another container"));
        }
        if let Some(sequence) = self.lost_update() {
            let (name, own) = (self.name_of_other(), self.current.sequence);
            let reason = format!(
                "the {name} header copy is damaged, and may have been newer (sequence {sequence}, the other one {own})"
            );
            return Err(Error::new(ErrorKind::Exists, reason)
                .with_hint("header repair keeps it in a file and writes it anew; then do this again"));
        }
        self.check_place(storage).map_err(|error| Error::new(ErrorKind::Exists, error.reason()))
    }

    /// L2-EDIT-04: makes sure that the copy that counts is on the medium before the other is touched. What was read may be in
    /// a cache only; after a sync that failed only writing it again helps, which is done where the other stands by.
    pub(super) fn make_durable(&self, storage: &dyn Storage) -> Result<()> {
        if self.other.as_ref().is_ok_and(|other| other.says_the_same_as(&self.current)) {
            return self.current.write_again(self.index, storage);
        }
        Ok(storage.sync_data()?)
    }

    /// Writes the copy that counts in the place of the other where that one is not as good, whatever stands there.
    pub(super) fn complete(&self, storage: &dyn Storage) -> Result<()> {
        if self.other.as_ref().is_ok_and(|copy| copy.says_the_same_as(&self.current)) {
            return Ok(());
        }
        self.current.write_as(self.index.other(), storage)
    }

    /// What `info` shows.
    pub(super) fn describe(&self) -> Vec<CopyInfo> {
        let state = match &self.other {
            Ok(_) if self.stranger().is_some() => CopyState::Damaged,
            Ok(copy) if copy.sequence == self.current.sequence => CopyState::Current,
            Ok(_) => CopyState::Stale,
            Err(HeaderError::NoMagic) => CopyState::Missing,
            Err(_) => CopyState::Damaged,
        };
        let current = (CopyState::Current, Some(self.current.sequence));
        let told = match self.remains {
            Some(Remains::Newer { sequence, .. }) => Some(sequence),
            _ => self.other.as_ref().ok().map(|copy| copy.sequence),
        };
        let other = (state, told);
        let (first, second) = match self.index {
            CopyIndex::First => (current, other),
            CopyIndex::Second => (other, current),
        };
        let info = |offset, (state, sequence)| CopyInfo { offset, state, sequence };
        vec![info(0, first), info(self.second_offset, second)]
    }

    /// Rewrites the copy that is not as good as the current one. Says what was done, or why it was not.
    pub(super) fn heal(&self, storage: &dyn Storage) -> Result<Option<String>> {
        let Some(state) = self.fault_of_other() else { return Ok(None) };
        if let Some(reason) = self.left_alone(storage)? {
            return Ok(Some(reason));
        }
        self.current.write_as(self.index.other(), storage)?;
        let name = self.name_of_other();
        Ok(Some(format!("the {name} header copy was {state} and has been rewritten from the other")))
    }

    /// Refuses writing where something else has taken a copy's place, or the damaged copy was the newer one for sure: what was made
    /// since may lie in the data, or open the container no more (L2-HDR-07 to -09).
    ///
    /// # Errors
    /// `Unsupported`.
    pub(super) fn check_place(&self, storage: &dyn Storage) -> Result<()> {
        let name = self.name_of_other();
        let (reason, hint) = match self.against_writing(storage)? {
            None => return Ok(()),
            Some(Against::Occupant(occupant)) => (
                format!(
                    "{occupant} is in the place of its {name} header copy, and what belongs to that may lie in the data"
                ),
                "--read-only opens it, to copy the files off; if it is this container that counts, header repair --scan makes it whole, \
                 after asking",
            ),
            Some(Against::Foreign) => (
                format!(
                    "what stands in the place of its {name} header copy is nothing of its header, and may be somebody's"
                ),
                "--read-only opens it, to copy the files off; if it is this container that counts, header repair makes it whole, after \
                 asking, and keeps what was there in a file",
            ),
            Some(Against::Newer { sequence, is_whole }) => (
                self.newer(sequence),
                if is_whole {
                    "header repair --scan puts that copy back; header repair --force goes back to the older one; --read-only opens it as it is"
                } else {
                    "a header backup from after the last change puts it right; header repair --force goes back to the older copy; \
                     --read-only opens it as it is"
                },
            ),
        };
        Err(Error::new(ErrorKind::Unsupported, reason).with_hint(hint))
    }

    /// Why [`Self::heal`] does not rewrite a copy that is not as good as the current one: something else is in its place, or a newer
    /// one was.
    pub(super) fn left_alone(&self, storage: &dyn Storage) -> Result<Option<String>> {
        let Some(state) = self.fault_of_other() else { return Ok(None) };
        let name = self.name_of_other();
        if let Some((_, uuid)) = self.stranger() {
            return Ok(Some(format!(
                "the {name} header copy belongs to another container ({uuid}) and was left alone"
            )));
        }
        Ok(self.against_writing(storage)?.map(|against| match against {
            Against::Occupant(occupant) => {
                format!("the {name} header copy is {state} and was left alone: {occupant} is in its place")
            }
            Against::Foreign => {
                format!("the {name} header copy is {state} and was left alone: what is in its place is nothing of its header")
            }
            Against::Newer { sequence, .. } => self.newer(sequence),
        }))
    }

    /// What its owner should know where nothing is written.
    pub(super) fn doubt(&self) -> Option<String> {
        match self.remains? {
            Remains::Newer { sequence, .. } => Some(self.newer(sequence)),
            Remains::Foreign => Some(format!(
                "what stands in the place of its {} header copy is nothing of its header",
                self.name_of_other()
            )),
            Remains::Own | Remains::Nothing => None,
        }
    }

    /// The sequence id of a damaged copy that an update may have written whole, or not to its end: which of the two, nobody can tell
    /// (L2-HDR-09).
    fn lost_update(&self) -> Option<u64> {
        match self.remains? {
            Remains::Newer { sequence, is_whole: false }
                if Some(sequence) == self.current.sequence.checked_add(1) =>
            {
                Some(sequence)
            }
            _ => None,
        }
    }

    /// The bytes that [`Self::heal`] overwrites and that may have been a newer header.
    pub(super) fn at_stake(&self) -> Option<Range<u64>> {
        self.lost_update()?;
        let start = self.index.other().offset(self.current.header_len);
        Some(start..start.saturating_add(self.current.header_len))
    }

    /// What is against writing under the copy that counts.
    fn against_writing(&self, storage: &dyn Storage) -> Result<Option<Against>> {
        if self.index == CopyIndex::Second
            && let Some(occupant) = occupant(storage)?
        {
            return Ok(Some(Against::Occupant(occupant))); // L2-HDR-07
        }
        Ok(match self.remains {
            Some(Remains::Foreign) => Some(Against::Foreign), // L2-HDR-08
            Some(Remains::Newer { sequence, is_whole }) if self.lost_update().is_none() => {
                Some(Against::Newer { sequence, is_whole }) // L2-HDR-09
            }
            _ => None,
        })
    }

    fn newer(&self, sequence: u64) -> String {
        let (name, own) = (self.name_of_other(), self.current.sequence);
        format!(
            "the {name} header copy is damaged, and is newer (sequence {sequence}, the other one {own}): passwords added or changed since \
             are lost without it"
        )
    }

    const fn name_of_other(&self) -> &'static str {
        match self.index {
            CopyIndex::First => "second",
            CopyIndex::Second => "first",
        }
    }

    /// What is wrong with the copy that does not count; `None` where it is as good as the other.
    fn fault_of_other(&self) -> Option<&'static str> {
        match &self.other {
            Ok(copy) if copy.says_the_same_as(&self.current) => None,
            Ok(_) => Some("stale"),
            Err(HeaderError::NoMagic) => Some("missing"),
            Err(_) => Some("damaged"),
        }
    }
}

/// What keeps a container from being written to.
enum Against {
    /// Another format's signature in the first copy's place.
    Occupant(&'static str),
    /// Bytes that are none of the header's.
    Foreign,
    /// What is left of a newer copy.
    Newer { sequence: u64, is_whole: bool },
}

/// Whose signature stands at the container's start, if another format's does: over such a place nothing is repaired, and a
/// second copy alone does not make the container LUKS2 any more (L2-HDR-07).
fn occupant(storage: &dyn Storage) -> Result<Option<&'static str>> {
    let found = signature::recognise(&signature::read_head(storage)?);
    Ok(found.filter(|found| found.owner != Owner::Luks).map(|found| found.name))
}

/// The second copy, where the first does not say how far it is: the first whole one of all places.
fn search(place: Place<'_>) -> Result<(Found, u64)> {
    let mut told = (Err(HeaderError::NoMagic), HEADER_LENS.first().copied().unwrap_or_default());
    for offset in HEADER_LENS {
        match HeaderCopy::read(place, CopyIndex::Second, offset)? {
            Ok(copy) => return Ok((Ok(copy), offset)),
            Err(HeaderError::NoMagic) => {}
            Err(error) => told = (Err(error), offset),
        }
    }
    Ok(told)
}
