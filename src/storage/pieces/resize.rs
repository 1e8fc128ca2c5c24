//! A folder of pieces that gets another size (`spec/pieces-v1.md`, section 7).
//!
//! The size is in the header files. Each is written anew beside the old one, whole, and takes its name: the copy first. From that moment
//! the folder has its new size. Pieces are made before, and go afterwards.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use super::{
    COPY_NAME, Folder, Geometry, HEADER_NAME, Made, PieceError, Pieces, Role, State, area_offset,
    block::BLOCK_LEN_U64, map_len, piece_name, read_block, survey::Kind,
};
use crate::{crypto::secret::DerivedKey, storage::Storage};

impl Pieces {
    /// The same folder as it will be with its data up to `tail_offset` and `container_len` bytes in all; `key` is that of its map. Nothing
    /// is written, and it has no use but to make pieces and to be [put in force](Self::put_in_force). `None` where there is no such
    /// folder (PCS-GEO-01 to -05).
    ///
    /// # Errors
    /// [`PieceError::Untold`] before [`unlock`](Self::unlock).
    pub fn of_size(&self, tail_offset: u64, container_len: u64, key: DerivedKey) -> io::Result<Option<Self>> {
        let Some(geometry) = self.geometry.resized(tail_offset, container_len) else { return Ok(None) };
        let state = self.read_state();
        if !state.is_authentic {
            return Err(PieceError::Untold(0).into());
        }
        let bits = state.made.bits(self.geometry.pieces());
        let state = State {
            made: Made::Some(bits.resized(geometry.pieces())),
            generation: state.generation,
            is_authentic: true,
            key: Some(key),
            is_behind: false,
            candidates: Vec::new(),
        };
        let files = (Arc::clone(&self.folder), Arc::clone(&self.header.file), Arc::clone(&self.copy.file));
        let resized = Self::with(geometry, files, self.open.most(), state);
        Ok(Some(Self { is_between_sizes: true, ..resized }))
    }

    /// Makes the pieces that a larger folder has and `old` has not, with all the room that they take, and says so in its map.
    /// `progress` is told of each one, and may break off.
    ///
    /// # Errors
    /// What making them gave; what `progress` gives.
    pub fn make_new(
        &self,
        old: &Geometry,
        progress: &mut dyn FnMut(u32) -> io::Result<()>,
    ) -> io::Result<()> {
        for index in old.pieces()..self.geometry.pieces() {
            progress(index)?;
            self.make(index, true)?;
        }
        if self.made() == self.geometry.pieces() {
            self.state.write().unwrap_or_else(PoisonError::into_inner).made = Made::All;
        }
        Ok(())
    }

    /// PCS-SIZE-02: gives the last piece of `old`, where it was made, the length that it has in this folder. What is new in it reads
    /// as zeros.
    ///
    /// # Errors
    /// What opening and cutting it gave.
    pub fn settle_last(&self, old: &Geometry) -> io::Result<()> {
        let last = old.pieces().min(self.geometry.pieces()).saturating_sub(1);
        let Some(file) = self.open_of(last)? else { return Ok(()) };
        let (before, after) = (old.file_len(last).min(file.size()?), self.geometry.file_len(last));
        for len in [before.min(after), after] {
            if file.size()? != len {
                file.set_size(len)?;
            }
        }
        file.sync_data()
    }

    /// The file of a piece that was made, which may be longer than it need be.
    fn open_of(&self, index: u32) -> io::Result<Option<Arc<dyn Storage>>> {
        match self.folder.open(&piece_name(index)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.has_made(index) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Takes the pieces away that lie behind the end, as a change of size that was broken off leaves them. What is no piece of this
    /// folder stays.
    ///
    /// # Errors
    /// What reading the folder and removing them gave.
    pub fn remove_behind(&self) -> io::Result<()> {
        let mut behind = Vec::new();
        self.folder.each_name(&mut |name| {
            if let Kind::Behind(index) = self.kind_of(name) {
                behind.push(index);
            }
        })?;
        for index in &behind {
            let name = piece_name(*index);
            let is_own = |file: &dyn Storage| {
                read_block(file, Role::Piece(*index), HEADER_NAME)
                    .is_ok_and(|found| found.lies_alike(&self.geometry))
            };
            if self.folder.open(&name).is_ok_and(|file| is_own(&*file)) {
                self.folder.remove(&name)?;
            }
        }
        if behind.is_empty() { Ok(()) } else { self.folder.sync() }
    }

    /// PCS-SIZE-03: writes the header files of this size in the place of those of `old`, with `tail` behind the data and the same before
    /// them. From then on `old` is of no use: the folder is to be opened anew.
    ///
    /// # Errors
    /// What writing gave: the folder has its old size then, or its new one.
    pub fn put_in_force(&self, old: &Self, tail: &[u8]) -> io::Result<()> {
        let _making = old.lock_making();
        let mut front = vec![0; usize::try_from(self.geometry.data().start).map_err(io::Error::other)?];
        old.read_exact_at(&mut front, 0)?;
        old.open.sync()?;
        self.open.sync()?;
        self.folder.sync()?;
        self.state.write().unwrap_or_else(PoisonError::into_inner).generation = old.read_state().generation;
        let map = self.next_map();
        for (name, role, held) in [(COPY_NAME, Role::Copy, tail), (HEADER_NAME, Role::Header, &front)] {
            let parts = [
                (0, &self.geometry.block(role)[..]),
                (BLOCK_LEN_U64, &map),
                (area_offset(&self.geometry), held),
            ];
            replace(&*self.folder, name, &parts)?;
        }
        // What stood in them must not be found on the medium when a password that opened it is long gone. It is in the new ones.
        for file in [&old.copy.file, &old.header.file] {
            let zeros = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
            drop(file.write_all_at(&zeros, 0).and_then(|()| file.sync_data()));
        }
        Ok(())
    }
}

/// PCS-SIZE-04: ends a change of size that a power cut left with one new header file. Gives the name of the one that was behind, where
/// there was any. For who has locked both.
///
/// # Errors
/// What reading and writing gave.
pub(super) fn finish(
    folder: &dyn Folder,
    (header, before): (&dyn Storage, &Geometry),
    (copy, after): (&dyn Storage, &Geometry),
) -> io::Result<&'static str> {
    let mut front = vec![0; usize::try_from(after.data().start).map_err(io::Error::other)?];
    header.read_exact_at(&mut front, area_offset(before))?;
    let mut map = vec![0; map_len(after)];
    copy.read_exact_at(&mut map, BLOCK_LEN_U64)?;
    let parts = [(0, &after.block(Role::Header)[..]), (BLOCK_LEN_U64, &map), (area_offset(after), &front)];
    replace(folder, HEADER_NAME, &parts)?;
    Ok(HEADER_NAME)
}

/// Writes a file that is made of these parts, the first of which is written last, and gives it a name that another one has.
fn replace(folder: &dyn Folder, name: &str, parts: &[(u64, &[u8])]) -> io::Result<()> {
    let len = |(at, bytes): &(u64, &[u8])| at.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    let unfinished = format!("{name}.new");
    let file = folder.make(&unfinished, parts.iter().map(len).max().unwrap_or(0), true)?;
    for (at, bytes) in parts.iter().rev() {
        file.write_all_at(bytes, *at)?;
    }
    file.sync_data()?;
    folder.rename(&unfinished, name)?;
    folder.sync()
}
