//! The files of a container in pieces: a small trait, so that a folder can be simulated, and the real one.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, fchown},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
};

use rustix::fs::{
    AtFlags, Dir, FallocateFlags, Mode, OFlags, Statx, StatxFlags, fallocate, fchmod, fstatfs, fsync,
    makedev, open, openat, renameat, statx, unlinkat,
};
use rustix::io::Errno;

use crate::{
    storage::{FileStorage, Shortage, Storage, pulse::Request},
    sys::{process::is_root, user::User},
};

/// A folder whose files are storages. Shared between threads.
pub trait Folder: fmt::Debug + Send + Sync {
    /// Opens a file that is there.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` for what is no file.
    fn open(&self, name: &str) -> io::Result<Arc<dyn Storage>>;

    /// Makes a file of `len` zeros, or an old one such a file. Where there are no holes, it takes its room now; where it is to be
    /// `allocated`, it does so everywhere.
    ///
    /// # Errors
    /// What making it gave; nothing stays then.
    fn make(&self, name: &str, len: u64, allocated: bool) -> io::Result<Arc<dyn Storage>>;

    /// Gives a file another name, and takes that from whatever had it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file away.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns once all names are as they are now after a power cut, too.
    fn sync(&self) -> io::Result<()>;

    /// Calls `tell` with the name of each thing in it.
    fn each_name(&self, tell: &mut dyn FnMut(&OsStr)) -> io::Result<()>;

    /// What bears a name; `None` where nothing does.
    fn identity(&self, name: &str) -> io::Result<Option<Identity>>;

    /// Whether the same file may be numbered anew when its name is looked up again, as some FUSE file systems do.
    fn numbers_anew(&self) -> bool {
        false
    }
}

/// What tells one file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its device and its number there.
    pub number: (u64, u64),
    /// Its size in bytes.
    pub len: u64,
    /// When it was written last: seconds, and billionths of one.
    pub written: (i64, i64),
    /// How many names lead to it.
    pub links: u64,
    /// The bytes that it takes on its medium.
    pub takes: u64,
}

impl Identity {
    /// That of an open file.
    ///
    /// # Errors
    /// What asking gave.
    pub fn of(file: &File) -> io::Result<Self> {
        let _waiting = Request::begin();
        let found = file.metadata()?;
        Ok(Self {
            number: (found.dev(), found.ino()),
            len: found.len(),
            written: (found.mtime(), found.mtime_nsec()),
            links: found.nlink(),
            takes: found.blocks().saturating_mul(UNIT),
        })
    }

    /// The same as the kernel tells it of a name.
    fn told(found: &Statx) -> Self {
        Self {
            number: (makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino),
            len: found.stx_size,
            written: (found.stx_mtime.tv_sec, i64::from(found.stx_mtime.tv_nsec)),
            links: found.stx_nlink.into(),
            takes: found.stx_blocks.saturating_mul(UNIT),
        }
    }
}

/// In these the kernel counts what a file takes.
const UNIT: u64 = 512;

/// A folder of a file system.
#[derive(Debug)]
pub struct DirFolder {
    folder: OwnedFd,
    is_writable: bool,
    /// What new files get.
    likeness: OnceLock<Likeness>,
    shortage: OnceLock<Arc<Shortage>>,
    is_read_in_place: OnceLock<()>,
    goes_past_cache: OnceLock<()>,
    /// What was opened while nothing was said of a lack of room.
    opened: Mutex<Vec<Weak<FileStorage>>>,
}

/// Whose a new file is, and who may read it: as the header file.
#[derive(Debug, Clone, Copy)]
struct Likeness {
    owner: Option<User>,
    mode: Mode,
}

impl DirFolder {
    /// The folder at `path`, whose files are opened to be read, or to be written as well.
    ///
    /// # Errors
    /// What opening it gave.
    pub fn open(path: &Path, is_writable: bool) -> io::Result<Self> {
        let _waiting = Request::begin();
        let folder = open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let (likeness, shortage) = (OnceLock::new(), OnceLock::new());
        let (is_read_in_place, goes_past_cache) = (OnceLock::new(), OnceLock::new());
        let opened = Mutex::default();
        Ok(Self { folder, is_writable, likeness, shortage, is_read_in_place, goes_past_cache, opened })
    }

    /// The folder in which the name `name` leads to this open file.
    ///
    /// # Errors
    /// `NotFound` where the file was deleted, or another one has its name.
    pub fn around(file: &File, name: &str, is_writable: bool) -> io::Result<Self> {
        let _waiting = Request::begin();
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let parent = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
        let found = Self::open(&parent, is_writable)?;
        let number = |file: &File| file.metadata().map(|found| (found.dev(), found.ino()));
        let named = File::from(found.open_raw(name, OFlags::RDONLY, Mode::empty())?);
        if number(&named)? != number(file)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        found.resemble(file)?;
        Ok(found)
    }

    /// Has new files belong to whom `file` belongs, and be read by whom it is.
    ///
    /// # Errors
    /// What asking gave.
    pub fn resemble(&self, file: &File) -> io::Result<()> {
        let found = file.metadata()?;
        let owner = is_root().then(|| User { uid: found.uid(), gid: found.gid() });
        let mode = Mode::from_raw_mode(found.mode() & 0o666);
        self.likeness.get_or_init(|| Likeness { owner, mode });
        Ok(())
    }

    /// Has making files, and writing to them, wait for room from now on.
    pub fn endure(&self, shortage: &Arc<Shortage>) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        self.shortage.get_or_init(|| Arc::clone(shortage));
        for storage in opened.drain(..).filter_map(|storage| storage.upgrade()) {
            storage.endure(Arc::clone(shortage));
        }
    }

    /// As [`FileStorage::allow_in_place`], for files that are opened from now on.
    pub fn allow_in_place(&self) {
        self.is_read_in_place.get_or_init(|| ());
    }

    /// As [`FileStorage::go_past_cache`], for files that are opened from now on.
    pub fn go_past_cache(&self) {
        self.goes_past_cache.get_or_init(|| ());
    }

    fn open_raw(&self, name: &str, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let always = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(openat(&self.folder, name, flags | always, mode)?)
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub fn open_file(&self, name: &str) -> io::Result<Arc<FileStorage>> {
        let _waiting = Request::begin();
        let flags = if self.is_writable { OFlags::RDWR } else { OFlags::RDONLY };
        self.storage(File::from(self.open_raw(name, flags, Mode::empty())?))
    }

    fn storage(&self, file: File) -> io::Result<Arc<FileStorage>> {
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let storage = Arc::new(FileStorage::new(file)?);
        self.remember(&storage);
        if self.is_read_in_place.get().is_some() {
            storage.allow_in_place()?;
        }
        if self.goes_past_cache.get().is_some() {
            // Where it does not go, the kernel caches as it does for all.
            let _ = storage.go_past_cache();
        }
        Ok(storage)
    }

    fn remember(&self, storage: &Arc<FileStorage>) {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shortage) = self.shortage.get() {
            storage.endure(Arc::clone(shortage));
            return;
        }
        if opened.len() >= MOST_REMEMBERED {
            opened.retain(|storage| storage.strong_count() > 0);
        }
        opened.push(Arc::downgrade(storage));
    }

    fn make_once(&self, name: &str, len: u64, allocated: bool) -> io::Result<File> {
        let _waiting = Request::to_change()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
        let file = File::from(self.open_raw(name, flags, Mode::RUSR | Mode::WUSR)?);
        let filled = self.fill(&file, len, allocated);
        if filled.is_err() {
            // It has no content yet. Failing here changes nothing for the caller, who is told the first error already.
            let _ = unlinkat(&self.folder, name, AtFlags::empty());
        }
        filled.map(|()| file)
    }

    fn fill(&self, file: &File, len: u64, allocated: bool) -> io::Result<()> {
        if let Some(likeness) = self.likeness.get() {
            // File systems without owners refuse both, and nothing is lost by it.
            if let Some(owner) = likeness.owner {
                let _ = fchown(file, Some(owner.uid), Some(owner.gid));
            }
            let _ = fchmod(file, likeness.mode);
        }
        if allocated && fallocate(file, FallocateFlags::empty(), 0, len).is_ok() {
            return Ok(());
        }
        file.set_len(len)
    }
}

impl AsFd for DirFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Folder for DirFolder {
    fn open(&self, name: &str) -> io::Result<Arc<dyn Storage>> {
        Ok(self.open_file(name)?)
    }

    fn make(&self, name: &str, len: u64, allocated: bool) -> io::Result<Arc<dyn Storage>> {
        let mut file = None;
        let mut make = || self.make_once(name, len, allocated).map(|new| file = Some(new));
        match self.shortage.get() {
            Some(shortage) => shortage.endure(make)?,
            None => make()?,
        }
        Ok(self.storage(file.ok_or(io::ErrorKind::NotFound)?)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let _waiting = Request::to_change()?;
        Ok(renameat(&self.folder, from, &self.folder, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let _waiting = Request::to_change()?;
        Ok(unlinkat(&self.folder, name, AtFlags::empty())?)
    }

    fn sync(&self) -> io::Result<()> {
        let _waiting = Request::begin();
        Ok(fsync(&self.folder)?)
    }

    fn each_name(&self, tell: &mut dyn FnMut(&OsStr)) -> io::Result<()> {
        let _waiting = Request::begin();
        for entry in Dir::read_from(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                tell(OsStr::from_bytes(name));
            }
        }
        Ok(())
    }

    fn identity(&self, name: &str) -> io::Result<Option<Identity>> {
        let _waiting = Request::begin();
        // Nothing is opened: a FIFO, or a link to somewhere, may bear the name.
        match statx(&self.folder, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            Ok(found) => Ok(Some(Identity::told(&found))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn numbers_anew(&self) -> bool {
        const FUSE: i64 = 0x6573_5546;
        fstatfs(&self.folder).is_ok_and(|found| found.f_type == FUSE)
    }
}

/// More files than are ever open at a time.
const MOST_REMEMBERED: usize = 1024;
