//! Whether each piece still is the file that it was: a container in pieces is watched while it is open.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Identity, PieceError, Pieces, Storage, piece_name};

/// What has become of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its name leads to it, and it is as long as it was made; or it was never made.
    Right,
    /// It was made, and nothing bears its name.
    Missing {
        /// Whether it is open here, so that what is in it can still be read.
        is_held: bool,
    },
    /// Another file bears its name.
    Replaced {
        /// As above.
        is_held: bool,
    },
    /// It was cut, or made longer.
    Cut,
}

/// Which file each piece was when it was seen first.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<BTreeMap<u32, (u64, u64)>>);

impl Known {
    /// Takes an open piece for the right one, where none was seen yet.
    pub(super) fn add(&self, index: u32, storage: &dyn Storage) {
        if let Some(Ok(found)) = storage.descriptor().map(Identity::of) {
            self.add_number(index, found.number);
        }
    }

    fn add_number(&self, index: u32, number: (u64, u64)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(index).or_insert(number);
    }

    fn number(&self, index: u32) -> Option<(u64, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&index).copied()
    }
}

impl Pieces {
    /// Looks what has become of a piece. One that is not open is compared with the file that was seen first only where it `is_suspect`, as
    /// somebody has moved something to its name: some file systems number files anew while they are not open.
    ///
    /// # Errors
    /// What asking for it gave; nothing is known then.
    pub fn standing(&self, index: u32, is_suspect: bool) -> io::Result<Standing> {
        let open = self.open.look_at(index);
        let descriptor = open.as_ref().and_then(|piece| piece.storage().descriptor());
        let is_held = descriptor.is_some();
        let mut standing = Standing::Right;
        // A write between two questions makes one file look like two where only their times tell.
        for _ in 0..TRIES {
            let named = self.folder.identity(&piece_name(index))?;
            let held = descriptor.map(Identity::of).transpose()?;
            standing = match (named, held) {
                (None, _) if self.has_made(index) => Standing::Missing { is_held },
                (None, _) => Standing::Right,
                (Some(named), Some(held)) if !self.is_same(&named, &held) => Standing::Replaced { is_held },
                (Some(named), _) if is_suspect && self.is_another(index, &named) => {
                    // Also where it was opened since: what was in the first one is gone.
                    Standing::Replaced { is_held: false }
                }
                (Some(named), _) if !self.geometry.fits(index, named.len) => Standing::Cut,
                (Some(named), _) => {
                    self.known.add_number(index, named.number);
                    Standing::Right
                }
            };
            if !matches!(standing, Standing::Replaced { is_held: true }) {
                break;
            }
        }
        if let Some(open) = &open {
            open.note_name(matches!(standing, Standing::Missing { .. } | Standing::Replaced { .. }));
        }
        Ok(standing)
    }

    /// Opens pieces that were made, as many as may be: what is open can be read, whoever deletes it.
    pub fn hold(&self) {
        for index in 0..self.geometry.pieces() {
            if self.open.is_full() {
                return;
            }
            if self.has_made(index) {
                // What cannot be opened now is told when it is used.
                let _ = self.piece(index);
            }
        }
    }

    /// The numbers of the pieces that are open.
    pub fn open_ones(&self) -> Vec<u32> {
        self.open.numbers()
    }

    /// The number of the piece that bears this name.
    pub fn number_of(&self, name: &[u8]) -> Option<u32> {
        let index = std::str::from_utf8(name).ok()?.parse().ok()?;
        (index < self.geometry.pieces() && piece_name(index).as_bytes() == name).then_some(index)
    }

    /// Whether this piece was made.
    pub fn has_made(&self, index: u32) -> bool {
        self.read_state().has(index)
    }

    /// The file of a piece that was made, to be copied: the one that is held, or else what bears its name; `None` where it is missing.
    ///
    /// # Errors
    /// What opening it gave.
    pub fn to_copy(&self, index: u32) -> io::Result<Option<Arc<dyn Storage>>> {
        let opened = match self.open.look_at(index) {
            Some(open) => return Ok(Some(open.shared())),
            None => self.open_file(index),
        };
        opened.or_else(|error| match error.downcast::<PieceError>() {
            // What is not the piece is no copy of it either.
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        })
    }

    /// The bytes that a piece takes on its medium.
    ///
    /// # Errors
    /// What asking gave.
    pub fn takes(&self, index: u32) -> io::Result<u64> {
        let open = self.open.look_at(index);
        let found = match open.as_ref().and_then(|piece| piece.storage().descriptor()) {
            Some(file) => Some(Identity::of(file)?),
            None => self.folder.identity(&piece_name(index))?,
        };
        Ok(found.map_or(0, |found| found.takes))
    }

    fn is_another(&self, index: u32, named: &Identity) -> bool {
        let known = self.known.number(index);
        known.is_some_and(|known| known != named.number) && !self.folder.numbers_anew()
    }

    /// Whether a name leads to an open file. One that was numbered anew is as long, and was written at the same moment.
    fn is_same(&self, named: &Identity, held: &Identity) -> bool {
        let is_alike = || {
            (named.number.0, named.len, named.written) == (held.number.0, held.len, held.written)
                && self.folder.numbers_anew()
        };
        held.links > 0 && (named.number == held.number || is_alike())
    }
}

const TRIES: usize = 3;
