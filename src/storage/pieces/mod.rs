//! A container that is a folder: a header file, its copy, and numbered pieces that are made when they are written first
//! (`spec/pieces-v1.md`). Put together they are the container, byte for byte.

mod block;
mod compact;
mod error;
mod files;
mod folder;
mod map;
mod mend;
mod resize;
mod standing;
mod survey;
#[cfg(test)]
mod tests;

use std::{
    io,
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

pub use block::{BLOCK_LEN, BlockError, Geometry, LEAST_PIECE_LEN, MOST_PIECE_LEN, MOST_PIECES, Role, Shape};
pub use error::PieceError;
pub use files::most_open;
pub use folder::{DirFolder, Folder, Identity};
pub use map::{Bits, PieceMap};
pub use mend::mend;
pub use standing::Standing;
pub use survey::{Fault, Survey};

use self::{
    block::BLOCK_LEN_U64,
    compact::clear,
    files::{OpenPiece, OpenPieces},
    map::{Made, map_len},
    standing::Known,
};
use super::{Limits, Storage};
use crate::crypto::secret::DerivedKey;

/// The name of the header file.
pub const HEADER_NAME: &str = "header";
/// The name of its copy.
pub const COPY_NAME: &str = "header.copy";

/// The name of the piece of this number.
pub fn piece_name(index: u32) -> String {
    format!("{index:08}")
}

/// The name under which a piece is made.
fn unfinished_name(index: u32) -> String {
    format!("{index:08}.new")
}

/// A container in pieces.
#[derive(Debug)]
pub struct Pieces {
    geometry: Geometry,
    header: Around,
    copy: Around,
    /// Whether the header files do not both have this size: nothing is written to them then.
    is_between_sizes: bool,
    folder: Arc<dyn Folder>,
    open: OpenPieces,
    state: RwLock<State>,
    /// Held by whoever makes a piece, or writes the map.
    making: Mutex<()>,
    /// Which file each piece was when it was seen first.
    known: Known,
}

/// The header file or its copy, and the bytes of the container that it holds.
#[derive(Debug)]
struct Around {
    file: Arc<dyn Storage>,
    /// Where they begin in it.
    area: u64,
    is_dirty: AtomicBool,
}

impl Around {
    const fn new(file: Arc<dyn Storage>, area: u64) -> Self {
        Self { file, area, is_dirty: AtomicBool::new(false) }
    }

    fn write(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let written = self.file.write_all_at(buf, offset);
        self.is_dirty.store(true, Ordering::SeqCst);
        written
    }

    fn sync(&self) -> io::Result<()> {
        if !self.is_dirty.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        self.file.sync_data().inspect_err(|_| self.is_dirty.store(true, Ordering::SeqCst))
    }
}

/// What is known of the pieces.
#[derive(Debug)]
struct State {
    made: Made,
    generation: u64,
    /// Whether the map was made under the volume's key, or claims nothing that takes one. No hole is read before.
    is_authentic: bool,
    key: Option<DerivedKey>,
    /// Whether pieces were made that the map does not have yet.
    is_behind: bool,
    /// The maps that were read, the newest first, until one is authentic.
    candidates: Vec<PieceMap>,
}

impl State {
    fn has(&self, index: u32) -> bool {
        match &self.made {
            Made::All => true,
            Made::Some(bits) => bits.has(index),
        }
    }
}

impl Pieces {
    /// Opens a folder, with its header file and the copy of that, which are open already.
    ///
    /// # Errors
    /// A [`PieceError`] where one of the two is damaged, or they do not belong together.
    pub fn open(
        folder: Arc<dyn Folder>,
        header: Arc<dyn Storage>,
        copy: Arc<dyn Storage>,
        most_open: usize,
    ) -> io::Result<Self> {
        let Found { header: told, geometry } = found(&*header, &*copy)?;
        let mut candidates: Vec<_> =
            [&header, &copy].into_iter().filter_map(|file| read_map(&**file, &geometry)).collect();
        candidates.sort_by_key(|map| std::cmp::Reverse(map.generation));
        let claimed = candidates.first();
        let is_authentic = claimed.is_some_and(|map| map.made == Made::All);
        let state = State {
            made: claimed.map_or_else(|| Made::Some(Bits::none(geometry.pieces())), |map| map.made.clone()),
            generation: claimed.map_or(0, |map| map.generation),
            is_authentic,
            key: None,
            is_behind: false,
            candidates,
        };
        let mut pieces = Self::with(geometry, (folder, header, copy), most_open, state);
        pieces.header.area = area_offset(&told);
        pieces.is_between_sizes = told != geometry;
        Ok(pieces)
    }

    /// How a container lies in the folder of these header files.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn geometry_of(header: &dyn Storage, copy: &dyn Storage) -> io::Result<Geometry> {
        Ok(found(header, copy)?.geometry)
    }

    /// Makes the header file and its copy in an empty folder. Its pieces are holes, and nobody opens it before
    /// [`seal`](Self::seal) or [`make_all`](Self::make_all).
    ///
    /// # Errors
    /// What making them gave.
    pub fn create(geometry: Geometry, folder: Arc<dyn Folder>, most_open: usize) -> io::Result<Self> {
        let make = |name, role, around: u64| -> io::Result<Arc<dyn Storage>> {
            let file = folder.make(name, area_offset(&geometry).saturating_add(around), true)?;
            file.write_all_at(&geometry.block(role), 0)?;
            Ok(file)
        };
        let header = make(HEADER_NAME, Role::Header, geometry.data().start)?;
        let tail_len = geometry.container_len().saturating_sub(geometry.data().end);
        let copy = make(COPY_NAME, Role::Copy, tail_len)?;
        Ok(Self::begin(geometry, folder, (header, copy), most_open))
    }

    /// The same of header files that [`create`](Self::create) has made, and that were opened anew.
    pub fn begin(
        geometry: Geometry,
        folder: Arc<dyn Folder>,
        (header, copy): (Arc<dyn Storage>, Arc<dyn Storage>),
        most_open: usize,
    ) -> Self {
        let made = Made::Some(Bits::none(geometry.pieces()));
        let (generation, is_authentic, is_behind) = (0, true, false);
        let state = State { made, generation, is_authentic, key: None, is_behind, candidates: Vec::new() };
        Self::with(geometry, (folder, header, copy), most_open, state)
    }

    fn with(
        geometry: Geometry,
        (folder, header, copy): (Arc<dyn Folder>, Arc<dyn Storage>, Arc<dyn Storage>),
        most_open: usize,
        state: State,
    ) -> Self {
        Self {
            geometry,
            header: Around::new(header, area_offset(&geometry)),
            copy: Around::new(copy, area_offset(&geometry)),
            is_between_sizes: false,
            folder,
            open: OpenPieces::new(most_open),
            state: RwLock::new(state),
            making: Mutex::default(),
            known: Known::default(),
        }
    }

    /// Takes the pieces that the folder has for made: of one that was begun and not ended.
    ///
    /// # Errors
    /// What reading the folder gave.
    pub fn take_up(&self) -> io::Result<()> {
        let _making = self.lock_making();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Made::Some(bits) = &mut state.made {
            self.each_piece(&mut |index| bits.add(index))?;
        }
        Ok(())
    }

    /// How the container lies in its folder.
    pub const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// How many pieces were made. Before [`unlock`](Self::unlock), as the map claims.
    pub fn made(&self) -> u32 {
        match &self.read_state().made {
            Made::All => self.geometry.pieces(),
            Made::Some(bits) => bits.len(),
        }
    }

    /// Whether all pieces were made, and the map says so without a key.
    pub fn is_complete(&self) -> bool {
        matches!(self.read_state().made, Made::All)
    }

    /// Whether what was never made is known: nothing of it is read before.
    pub fn is_unlocked(&self) -> bool {
        self.read_state().is_authentic
    }

    /// Checks the map under the volume's key. From now on a piece that was never made is read as zeros, and made when it is
    /// written.
    ///
    /// # Errors
    /// [`PieceError::NoMap`], [`PieceError::Forged`]; what reading the folder gave.
    pub fn unlock(&self, key: DerivedKey) -> io::Result<()> {
        let _making = self.lock_making();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.is_authentic {
            state.key.get_or_insert(key);
            return Ok(());
        }
        if state.candidates.is_empty() {
            return Err(PieceError::NoMap.into());
        }
        let is_authentic = |map: &&PieceMap| map.is_authentic(&self.geometry, &key);
        let map = state.candidates.iter().find(is_authentic).ok_or(PieceError::Forged)?.clone();
        let mut made = map.made;
        let mut has_more = false;
        if let Made::Some(bits) = &mut made {
            // PCS-MAKE-03: a piece that was made, and whose bit a power cut took, is there and counts.
            self.each_piece(&mut |index| {
                has_more |= !bits.has(index);
                bits.add(index);
            })?;
        }
        let newest = state.candidates.iter().map(|map| map.generation).max().unwrap_or(0);
        (state.made, state.generation, state.is_behind) = (made, newest, has_more);
        (state.is_authentic, state.key) = (true, Some(key));
        state.candidates = Vec::new();
        Ok(())
    }

    /// Has pieces be made when they are written first from now on, and says so in the map, under the volume's key. For a folder
    /// that [`create`](Self::create) has just made.
    ///
    /// # Errors
    /// What writing gave.
    pub fn seal(&self, key: DerivedKey) -> io::Result<()> {
        let _making = self.lock_making();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.key = Some(key);
        drop(state);
        self.write_map()
    }

    /// Makes every piece, with all the room that it takes where it is `allocated`, and says so in the map, which takes no key.
    /// `progress` is told of each one, and may break off.
    ///
    /// # Errors
    /// What making them gave; what `progress` gives.
    pub fn make_all(
        &self,
        allocated: bool,
        progress: &mut dyn FnMut(u32) -> io::Result<()>,
    ) -> io::Result<()> {
        for index in 0..self.geometry.pieces() {
            progress(index)?;
            if !self.read_state().has(index) {
                self.make(index, allocated)?;
            }
        }
        let _making = self.lock_making();
        self.state.write().unwrap_or_else(PoisonError::into_inner).made = Made::All;
        self.write_map()
    }

    fn read_state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the map to both header files: by whoever holds `making`.
    fn write_map(&self) -> io::Result<()> {
        // PCS-MAKE-02: the names of the pieces are durable before the map counts on them.
        self.folder.sync()?;
        let bytes = self.next_map();
        // PCS-MAP-04: one after the other, so that a power cut leaves one whole.
        for around in [&self.copy, &self.header] {
            around.write(&bytes, BLOCK_LEN_U64)?;
            around.sync()?;
        }
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        (state.generation, state.is_behind) = (state.generation.saturating_add(1), false);
        Ok(())
    }

    /// The map of the next generation.
    fn next_map(&self) -> Vec<u8> {
        let state = self.read_state();
        let generation = state.generation.saturating_add(1);
        let map = match &state.made {
            Made::All => PieceMap::all(generation),
            Made::Some(bits) => PieceMap::some(generation, bits.clone()),
        };
        map.bytes(&self.geometry, state.key.as_ref())
    }

    /// The piece of this number; `None` where it was never made.
    fn piece(&self, index: u32) -> io::Result<Option<Arc<OpenPiece>>> {
        if let Some(open) = self.open.get(index) {
            return Ok(Some(open));
        }
        let state = self.read_state();
        let (has, is_authentic) = (state.has(index), state.is_authentic);
        drop(state);
        if !has && is_authentic {
            return Ok(None);
        }
        match self.open_file(index) {
            Ok(Some(storage)) => {
                self.known.add(index, &*storage);
                Ok(Some(self.open.insert(index, storage)))
            }
            Ok(None) if has => Err(PieceError::Missing(index).into()),
            Ok(None) => Err(PieceError::Untold(index).into()),
            Err(error) => Err(error),
        }
    }

    /// Opens the file of a piece, where there is one.
    fn open_file(&self, index: u32) -> io::Result<Option<Arc<dyn Storage>>> {
        let storage = match self.folder.open(&piece_name(index)) {
            Ok(storage) => storage,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let (len, expected) = (storage.size()?, self.geometry.file_len(index));
        let mut block = [0; BLOCK_LEN];
        if len >= BLOCK_LEN_U64 {
            storage.read_exact_at(&mut block, 0)?;
            let foreign = |reason: String| PieceError::Foreign { index, reason };
            let (found, role) = Geometry::read(&block).map_err(|error| foreign(error.to_string()))?;
            if (found.uuid(), found.set()) != (self.geometry.uuid(), self.geometry.set()) {
                return Err(foreign("it belongs to another container".to_owned()).into());
            }
            if !found.lies_alike(&self.geometry) {
                return Err(foreign("it is of a folder that is laid out in another way".to_owned()).into());
            }
            if role != Role::Piece(index) {
                let reason = match role {
                    Role::Piece(other) => format!("it is piece {}", piece_name(other)),
                    Role::Header | Role::Copy => "it is a header file".to_owned(),
                };
                return Err(foreign(reason).into());
            }
        }
        if !self.geometry.fits(index, len) {
            return Err(PieceError::Length { index, len, expected }.into());
        }
        Ok(Some(storage))
    }

    /// Makes a piece that was never made, and opens it.
    fn make(&self, index: u32, allocated: bool) -> io::Result<Arc<OpenPiece>> {
        let _making = self.lock_making();
        // Another thread may have made it, or another program have put it there.
        let found = match self.piece(index)? {
            Some(open) => return Ok(open),
            None => self.open_file(index)?,
        };
        let storage = match found {
            Some(storage) => storage,
            None => self.make_file(index, allocated)?,
        };
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if let Made::Some(bits) = &mut state.made {
            bits.add(index);
        }
        state.is_behind = true;
        drop(state);
        self.known.add(index, &*storage);
        Ok(self.open.insert(index, storage))
    }

    /// PCS-MAKE-01: it gets its name once it is whole.
    fn make_file(&self, index: u32, allocated: bool) -> io::Result<Arc<dyn Storage>> {
        let unfinished = unfinished_name(index);
        let storage = self.folder.make(&unfinished, self.geometry.file_len(index), allocated)?;
        storage.write_all_at(&self.geometry.block(Role::Piece(index)), 0)?;
        storage.sync_data()?;
        self.folder.rename(&unfinished, &piece_name(index))?;
        Ok(storage)
    }

    /// Where the bytes from `start` lie in one run, of those up to `end`.
    fn part(&self, start: u64, end: u64) -> io::Result<Part> {
        let data = self.geometry.data();
        if start < data.start {
            let at = self.header.area.saturating_add(start);
            return Ok(Part { place: Place::Front, at, len: end.min(data.start) - start });
        }
        if start >= data.end {
            let at = self.copy.area.saturating_add(start - data.end);
            return Ok(Part { place: Place::Tail, at, len: end - start });
        }
        let (index, at, left) = self.geometry.place(start);
        if left == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Part { place: Place::Piece(index), at, len: left.min(end - start) })
    }

    /// The bytes `offset..offset + len`, which the container has.
    fn range(&self, offset: u64, len: usize, outside: io::ErrorKind) -> io::Result<Range<u64>> {
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        let end = end.filter(|end| *end <= self.geometry.container_len()).ok_or(outside)?;
        Ok(offset..end)
    }

    /// The header file, or its copy, that holds the byte `offset` of the container, and where in it; `None` for one of the data.
    pub fn place_in_header(&self, offset: u64) -> Option<(&'static str, u64)> {
        let part = self.part(offset, offset.saturating_add(1)).ok()?;
        match part.place {
            Place::Front => Some((HEADER_NAME, part.at)),
            Place::Tail => Some((COPY_NAME, part.at)),
            Place::Piece(_) => None,
        }
    }

    fn around(&self, is_front: bool) -> &Around {
        if is_front { &self.header } else { &self.copy }
    }
}

/// A run of bytes in one file.
#[derive(Debug, Clone, Copy)]
struct Part {
    place: Place,
    at: u64,
    len: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Front,
    Piece(u32),
    Tail,
}

impl Part {
    fn byte_len(&self) -> io::Result<usize> {
        usize::try_from(self.len).map_err(io::Error::other)
    }
}

impl Storage for Pieces {
    fn size(&self) -> io::Result<u64> {
        Ok(self.geometry.container_len())
    }

    fn read_exact_at(&self, mut buf: &mut [u8], offset: u64) -> io::Result<()> {
        let Range { mut start, end } = self.range(offset, buf.len(), io::ErrorKind::UnexpectedEof)?;
        while start < end {
            let part = self.part(start, end)?;
            let (bytes, rest) = buf.split_at_mut(part.byte_len()?);
            match part.place {
                Place::Piece(index) => match self.piece(index)? {
                    Some(piece) => piece.storage().read_exact_at(bytes, part.at)?,
                    None => bytes.fill(0),
                },
                around => self.around(around == Place::Front).file.read_exact_at(bytes, part.at)?,
            }
            (buf, start) = (rest, start + part.len);
        }
        Ok(())
    }

    fn read_in_place(&self, range: Range<u64>, work: &mut dyn FnMut(&[u8])) -> bool {
        if range.start >= range.end || range.end > self.geometry.data().end {
            return false;
        }
        let Ok(Part { place: Place::Piece(index), at, len }) = self.part(range.start, range.end) else {
            return false;
        };
        let lies_in_one = len == range.end - range.start;
        let open = self.open.get(index).filter(|_| lies_in_one);
        open.is_some_and(|piece| piece.storage().read_in_place(at..at + len, work))
    }

    fn write_all_at(&self, mut buf: &[u8], offset: u64) -> io::Result<()> {
        let Range { mut start, end } = self.range(offset, buf.len(), io::ErrorKind::WriteZero)?;
        while start < end {
            let part = self.part(start, end)?;
            let (bytes, rest) = buf.split_at(part.byte_len()?);
            match part.place {
                Place::Piece(index) => {
                    let piece = match self.piece(index)? {
                        Some(piece) => piece,
                        None => self.make(index, false)?,
                    };
                    piece.change(|storage| storage.write_all_at(bytes, part.at))?;
                }
                around => self.around(around == Place::Front).write(bytes, part.at)?,
            }
            (buf, start) = (rest, start + part.len);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // All of it, whatever one says: each may be the last to hold what was written.
        let pieces = self.open.sync();
        let map = {
            let _making = self.lock_making();
            let is_behind = self.read_state().is_behind && !self.limits().read_only;
            if is_behind { self.write_map() } else { Ok(()) }
        };
        let (header, copy) = (self.header.sync(), self.copy.sync());
        pieces.and(map).and(header).and(copy)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        if size == self.geometry.container_len() { Ok(()) } else { Err(io::ErrorKind::Unsupported.into()) }
    }

    /// Bytes of the header files are not given back, only zeroed. A piece stays, with a hole in it, or zeros where there are no holes.
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        if range.end > self.geometry.container_len() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let Range { mut start, end } = range;
        while start < end {
            let part = self.part(start, end)?;
            match part.place {
                Place::Piece(index) => {
                    if let Some(piece) = self.piece(index)? {
                        piece.change(|storage| clear(storage, part.at..part.at + part.len))?;
                    }
                }
                around => {
                    let zeros = vec![0; part.byte_len()?];
                    self.around(around == Place::Front).write(&zeros, part.at)?;
                }
            }
            start += part.len;
        }
        Ok(())
    }

    fn limits(&self) -> Limits {
        let limits = self.header.file.limits();
        Limits { can_resize: false, read_only: limits.read_only || self.is_between_sizes, ..limits }
    }
}

/// Where the bytes of the container begin in the header file and its copy: behind block and map.
fn area_offset(geometry: &Geometry) -> u64 {
    u64::try_from(map_len(geometry)).unwrap_or(u64::MAX).saturating_add(BLOCK_LEN_U64)
}

/// What the two header files say.
struct Found {
    /// How the header file itself is laid out.
    header: Geometry,
    /// How the container lies in its folder.
    geometry: Geometry,
}

/// PCS-GEO-05, PCS-SIZE-04: they say the same, or the copy has another size, which is newer.
fn found(header: &dyn Storage, copy: &dyn Storage) -> io::Result<Found> {
    let before = read_block(header, Role::Header, HEADER_NAME)?;
    let geometry = read_block(copy, Role::Copy, COPY_NAME)?;
    let generation = |file, geometry| read_map(file, geometry).map(|map| map.generation);
    let is_newer = || {
        let (old, new) = (generation(header, &before), generation(copy, &geometry));
        old.is_some() && new > old
    };
    if before == geometry || (before.lies_alike(&geometry) && is_newer()) {
        return Ok(Found { header: before, geometry });
    }
    Err(PieceError::Apart.into())
}

/// Reads the block of a header file.
fn read_block(file: &dyn Storage, expected: Role, name: &'static str) -> Result<Geometry, io::Error> {
    let mut block = [0; BLOCK_LEN];
    match file.read_exact_at(&mut block, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(PieceError::Block(name, BlockError::Damaged).into());
        }
        read => read?,
    }
    match Geometry::read(&block) {
        Ok((geometry, role)) if role == expected => Ok(geometry),
        Ok(_) => Err(PieceError::Block(name, BlockError::NoBlock).into()),
        Err(error) => Err(PieceError::Block(name, error).into()),
    }
}

/// Reads the map of a header file, where it is whole.
fn read_map(file: &dyn Storage, geometry: &Geometry) -> Option<PieceMap> {
    let mut bytes = vec![0; map_len(geometry)];
    file.read_exact_at(&mut bytes, BLOCK_LEN_U64).ok()?;
    PieceMap::read(&bytes, geometry)
}
