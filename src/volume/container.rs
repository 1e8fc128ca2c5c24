use std::{
    ffi::OsStr,
    fs::File,
    io,
    ops::Range,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Advice, FlockOperation, OFlags, fadvise, flock},
    io::Errno,
};

use super::{
    contents::not_a_container,
    pieces::{self, PieceFolder},
    recognise,
    renewal::KnownHeader,
    way_in,
};
use crate::{
    crypto::secret::VolumeKey,
    error::{Error, ErrorKind, Fact, Result},
    format::{
        self, FORMATS, Fingerprint, Format, Header, HeaderInfo, Probe, Unlocked, freeotfe, native,
        signature::{self, Owner},
    },
    storage::{
        FileStorage, Section, Shortage, Storage, claimed_loop_device, file_behind, file_of_layer, folder_of,
        is_allowed_whole, is_locked_in_layer,
        pieces::{HEADER_NAME, Pieces},
    },
};

/// How a container is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Any number of readers at a time.
    ReadOnly,
    /// One writer and nobody else.
    ReadWrite,
}

/// A container's open descriptor with the lock on it. The lock belongs to the open file, so it goes with the descriptor
/// to the process that serves the volume, and ends when the last copy of the descriptor is closed.
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    /// Of a folder of pieces its header file.
    file: Arc<FileStorage>,
    /// What is in the folder, where it is one.
    folder: Option<PieceFolder>,
    /// The part of the file that it is, where it is not all of it.
    section: Option<(Range<u64>, Arc<dyn Storage>)>,
    detached: Option<Detached>,
    /// The file that shows the same bytes, or is a part of them, locked in the same way: that behind a loop device, or in a layer of
    /// an overlay, or the copy of a folder's header file.
    behind: Option<File>,
    /// What the user says that it is.
    assumed: Option<&'static dyn Format>,
    /// What its header was when that was watched first.
    watched: OnceLock<Fingerprint>,
}

/// A header file, and the container seen through it. The lock on the file is held as long as this.
#[derive(Debug)]
struct Detached {
    path: PathBuf,
    file: Arc<FileStorage>,
    storage: Arc<dyn Storage>,
    format: &'static dyn Format,
}

/// So much is watched at most at the start of a container: all that formats have there but a reserve.
const MOST_AT_START: u64 = 4 << 20;
/// The same at its end.
const MOST_AT_END: u64 = 1 << 20;
const NO_HEADER: &str = "no known header";
/// Where another process has the lock.
const IN_USE: &str = "it is in use; only one program at a time can open it for writing";

/// How long a lock is waited for. Some go by themselves: udev's, which looks at each block device that was just written
/// (systemd, "Locking Block Device Access"), and that of a descriptor which a child has not closed yet by running a program.
const PATIENCE: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_millis(10);

impl Container {
    /// Opens and locks the container at `path`: a file, a device, or a folder of pieces.
    ///
    /// # Errors
    /// `NotFound`, `Permission`, `Busy` where another process holds the lock.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let path = &pieces::file_of(path);
        let writable = access == Access::ReadWrite;
        let copy = pieces::lock_copy(path, access)?;
        let flags = OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let open = |extra: OFlags| {
            std::fs::OpenOptions::new()
                .read(true)
                .write(writable)
                .custom_flags((flags | extra).bits().cast_signed())
                .open(path)
        };
        // Before it is opened: an overlay copies what is opened to be written.
        let lower = Self::lock_layer(path, access)?;
        let mut file = open(OFlags::empty())?;
        if writable && file.metadata()?.file_type().is_block_device() {
            // O_EXCL on a block device is refused while the kernel uses it: mounted, part of RAID, swap.
            file = open(OFlags::EXCL)?;
            refuse_read_only(&file)?;
        }
        Self::lock(&file, access)?;
        if writable && lower.is_none() && is_locked_in_layer(&file) {
            let reason = "it is in use, by the name that an overlay gives it, or in a layer of one";
            return Err(Error::new(ErrorKind::Busy, reason));
        }
        if writable {
            check_file_size(&file)?;
        }
        let mut container = Self::from_file(file, path)?;
        if container.folder.is_some() {
            container.behind = copy;
            return Ok(container);
        }
        if let Some((behind, file)) = file_behind(container.file()) {
            Self::lock(&file, access).map_err(|error| shown_in_use(error, &behind))?;
            container.behind = Some(file);
        } else if lower.is_some() {
            // By now it may have been copied. What is the same file is locked already.
            container.behind = Self::lock_layer(path, access).ok().flatten().or(lower);
        }
        if writable && let Some(device) = claimed_loop_device(container.file()) {
            let reason = format!("it is in use by the loop device {}", device.display());
            return Err(Error::new(ErrorKind::Busy, reason));
        }
        Ok(container)
    }

    /// Locks the file that an overlay shows at `path`, where it does.
    fn lock_layer(path: &Path, access: Access) -> Result<Option<File>> {
        let Some((layer, file)) = file_of_layer(path) else { return Ok(None) };
        Self::lock(&file, access).map_err(|error| shown_in_use(error, &layer))?;
        Ok(Some(file))
    }

    /// Takes over a descriptor that is locked already (inherited from the process that opened it).
    pub fn from_fd(fd: OwnedFd, path: &Path) -> Result<Self> {
        Self::from_file(File::from(fd), path)
    }

    /// Takes over a file that nobody else has open yet, and locks it.
    pub(super) fn adopt(file: File, path: &Path) -> Result<Self> {
        Self::lock(&file, Access::ReadWrite)?;
        Self::from_file(file, path)
    }

    fn from_file(file: File, path: &Path) -> Result<Self> {
        let file = Arc::new(FileStorage::new(file)?);
        let folder = PieceFolder::of(&file)?;
        Ok(Self::with(file, folder, path))
    }

    /// Takes over a folder of pieces that was just made, and locks it.
    pub(super) fn adopt_folder(folder: PieceFolder, path: &Path) -> Result<Self> {
        Self::lock(folder.header().file(), Access::ReadWrite)?;
        Self::lock(folder.copy().file(), Access::ReadWrite)?;
        let behind = Some(folder.copy().file().try_clone()?);
        let header = Arc::clone(folder.header());
        Ok(Self { behind, ..Self::with(header, Some(folder), path) })
    }

    fn with(file: Arc<FileStorage>, folder: Option<PieceFolder>, path: &Path) -> Self {
        let path = if folder.is_some() { pieces::file_of(path) } else { path.to_path_buf() };
        Self {
            path,
            file,
            folder,
            section: None,
            detached: None,
            behind: None,
            assumed: None,
            watched: OnceLock::new(),
        }
    }

    /// Opens what is at `path` only to look at it: without a lock, so also while it is mounted.
    pub fn peek(path: &Path) -> Result<Self> {
        let path = &pieces::file_of(path);
        // A FIFO must not block, a terminal must not become ours.
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits().cast_signed();
        Self::from_file(std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?, path)
    }

    /// Takes the header from `header` instead of from the container's own places. Both locks are held from then on.
    ///
    /// # Errors
    /// `NotAContainer` where it is not a header file, `Damaged`, `Usage` where it belongs to another container.
    pub fn attach_header(&mut self, header: &Self) -> Result<()> {
        // What has no signature claims any file: only where the user says so.
        let is_opaque = |format: &dyn Format| Ok::<_, Error>(format.probe(&*header.file)? == Probe::Opaque);
        let assumed = match self.assumed {
            Some(format) if is_opaque(format)? => Some(format),
            _ => None,
        };
        for &format in FORMATS {
            let is_meant = match assumed {
                Some(assumed) => assumed.name() == format.name(),
                None => !is_opaque(format)?,
            };
            if !is_meant {
                continue;
            }
            let (container, file) = (self.bytes(), Arc::clone(&header.file));
            if let Some(storage) = format.attach(container, file)? {
                self.refuse_other_format(format)?;
                let path = header.path.clone();
                self.detached = Some(Detached { path, file: Arc::clone(&header.file), storage, format });
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::NotAContainer, "it is not a header file")
            .with_hint(
                "strongroom header backup makes one; one of FreeOTFE takes --format freeotfe; a backup of a VeraCrypt header is \
                 tested by itself (key test), and header restore puts it back",
            ))
    }

    /// Under the header of another container its data would be garbage, and a file system check would write to it.
    pub(super) fn refuse_other_format(&self, format: &dyn Format) -> Result<()> {
        for other in FORMATS.iter().filter(|_| self.folder.is_none()) {
            if other.name() != format.name() && other.probe(&*self.bytes())? == Probe::Match {
                let (name, own) = (format.name(), other.name());
                let reason =
                    format!("it is the header of a {name} container, and this one bears that of {own}");
                return Err(Error::new(ErrorKind::Usage, reason));
            }
        }
        Ok(())
    }

    pub(super) fn lock(file: &File, access: Access) -> Result<()> {
        let operation = match access {
            Access::ReadOnly => FlockOperation::NonBlockingLockShared,
            Access::ReadWrite => FlockOperation::NonBlockingLockExclusive,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match flock(file, operation) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(TICK),
                Err(Errno::WOULDBLOCK) => {
                    return Err(Error::new(ErrorKind::Busy, IN_USE));
                }
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }

    /// Where it was opened: of a folder of pieces the folder.
    pub fn path(&self) -> &Path {
        let is_header = self.folder.is_some() && self.path.file_name() == Some(OsStr::new(HEADER_NAME));
        let folder = self.path.parent().filter(|folder| is_header && !folder.as_os_str().is_empty());
        folder.unwrap_or(&self.path)
    }

    /// Where its file is: of a folder of pieces the header file.
    pub fn file_path(&self) -> &Path {
        &self.path
    }

    /// The open file, to hand to another process.
    pub fn file(&self) -> &File {
        self.file.file()
    }

    /// Whether it is a device to which the kernel writes nothing by now.
    pub fn is_read_only_device(&self) -> bool {
        let found = self.file().metadata().ok().filter(|found| found.file_type().is_block_device());
        found.is_some_and(|found| is_read_only(&found))
    }

    /// How long the file or the device is.
    ///
    /// # Errors
    /// What asking for it gave.
    pub fn file_len(&self) -> io::Result<u64> {
        self.file.size()
    }

    /// The open header file, where the header is detached: to hand to another process too.
    pub fn header_file(&self) -> Option<&File> {
        self.detached.as_ref().map(|detached| detached.file.file())
    }

    /// The file behind the loop device that it is on, where it is on one.
    pub fn file_behind(&self) -> Option<&File> {
        let is_device = || self.file().metadata().is_ok_and(|found| found.file_type().is_block_device());
        self.behind.as_ref().filter(|_| is_device())
    }

    /// The file that is locked with it, because it shows the same bytes: to hand its lock to another process.
    pub const fn locked_too(&self) -> Option<&File> {
        self.behind.as_ref()
    }

    /// Holds a lock that came with the container as long as this.
    pub fn hold(&mut self, behind: OwnedFd) {
        self.behind = Some(File::from(behind));
    }

    /// Where the header file was opened, where the header is detached.
    pub fn header_path(&self) -> Option<&Path> {
        self.detached.as_ref().map(|detached| detached.path.as_path())
    }

    /// Has data that are read again be read where the kernel caches them; for servers.
    pub fn allow_in_place(&self) {
        if let Some(folder) = &self.folder {
            folder.allow_in_place();
            return;
        }
        // Only slower where it does not go.
        let _ = self.file.allow_in_place();
    }

    /// Has data be read and written past the kernel's cache; for servers whose memory is limited.
    pub fn go_past_cache(&self) {
        if let Some(folder) = &self.folder {
            folder.go_past_cache();
        }
        // Where it does not go, the kernel caches as it does for all.
        let _ = self.file.go_past_cache();
    }

    /// Has writes to the container's file wait for room where its medium has run full; for servers.
    pub fn endure(&self, shortage: Arc<Shortage>) {
        if let Some(folder) = &self.folder {
            folder.endure(&shortage);
        }
        self.file.endure(shortage);
    }

    /// Has the places of its headers be watched from now on: what lies outside the volume's data, as `info` tells, or else the header
    /// file. For servers. `known` is what its header is now.
    ///
    /// # Errors
    /// What asking for a size gave.
    pub fn watch_headers(&self, info: &HeaderInfo, known: Option<Fingerprint>) -> io::Result<()> {
        if let Some(known) = known {
            self.watched.get_or_init(|| known);
        }
        if let Some(detached) = &self.detached {
            let whole = 0..detached.file.size()?.min(MOST_AT_START);
            detached.file.watch_areas(std::slice::from_ref(&whole));
            return Ok(());
        }
        if self.folder.is_some() {
            // The piece map in it is written by this process.
            let whole = 0..self.file.size()?.min(MOST_AT_START);
            self.file.watch_areas(std::slice::from_ref(&whole));
            return Ok(());
        }
        let whole = match &self.section {
            Some((range, _)) => range.clone(),
            None => 0..self.file.size()?,
        };
        let place = |offset: u64| whole.start.saturating_add(offset).min(whole.end);
        let data = place(info.data_offset)..place(info.data_offset.saturating_add(info.data_size));
        let front = whole.start..data.start.min(whole.start.saturating_add(MOST_AT_START));
        let back = data.end.max(whole.end.saturating_sub(MOST_AT_END))..whole.end;
        self.file.watch_areas(&[front, back]);
        Ok(())
    }

    /// What tells whether a header that another program changed still opens the volume, where its format lets that be told.
    pub fn known_header(&self) -> Option<KnownHeader> {
        KnownHeader::new(self.storage(), self.format().ok()?, self.watched.get()?.clone())
    }

    /// Its file, and its header file, as they are read and written.
    pub fn files(&self) -> impl Iterator<Item = &Arc<FileStorage>> {
        [Some(&self.file), self.detached.as_ref().map(|detached| &detached.file)].into_iter().flatten()
    }

    /// Has `copy`, which has the same bytes, be read and written in the place of the container's file. Nobody may write meanwhile.
    pub fn move_to(&self, copy: File) {
        self.file.move_to(copy);
    }

    /// Has what is read next come from the medium, as far as everything was synced before. A hint: the kernel may ignore it.
    pub fn forget_cached(&self) {
        if let Some(folder) = &self.folder {
            folder.forget_cached();
        }
        let _ = fadvise(self.file(), 0, None, Advice::DontNeed);
    }

    /// Whether it was opened without write access.
    pub fn is_read_only(&self) -> bool {
        self.storage().limits().read_only
    }

    /// Its bytes, the header's included where that is detached.
    pub fn storage(&self) -> Arc<dyn Storage> {
        match &self.detached {
            Some(detached) => Arc::clone(&detached.storage),
            None => self.bytes(),
        }
    }

    /// Its bytes, without those of a header that lies elsewhere.
    fn bytes(&self) -> Arc<dyn Storage> {
        match (&self.section, &self.folder) {
            (Some((_, section)), _) => Arc::clone(section),
            (None, Some(folder)) => Arc::clone(folder.pieces()) as Arc<dyn Storage>,
            (None, None) => Arc::clone(&self.file) as Arc<dyn Storage>,
        }
    }

    /// The open folder, where it is one of pieces.
    pub fn folder_descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.folder.as_ref().map(|folder| folder.directory().as_fd())
    }

    /// Its open files, where it is a folder of pieces.
    pub(super) const fn folder(&self) -> Option<&PieceFolder> {
        self.folder.as_ref()
    }

    /// Its pieces, where it is a folder of them.
    pub fn pieces(&self) -> Option<&Arc<Pieces>> {
        self.folder.as_ref().map(PieceFolder::pieces)
    }

    /// Has pieces that were never made be read as zeros, and be made when they are written, once the volume key is known. Nothing
    /// where it is no folder of pieces.
    ///
    /// # Errors
    /// `Damaged` where no piece map is whole, or the header speaks of another container than the folder; `Tampered` where the maps
    /// are not authentic.
    pub fn unlock_pieces(&self, info: &HeaderInfo, unlocked: &Unlocked) -> Result<()> {
        self.pieces().map_or(Ok(()), |pieces| pieces::unlock(pieces, info, unlocked))
    }

    /// Has the piece map of a folder that was just made be sealed under the volume key. Nothing where it is no folder, or all of its
    /// pieces are made.
    ///
    /// # Errors
    /// What writing gave.
    pub fn seal_pieces(&self, volume_key: &VolumeKey) -> Result<()> {
        self.pieces().map_or(Ok(()), |pieces| pieces::seal(pieces, volume_key))
    }

    /// Takes this part of the file for the container: nothing outside it is read or written from now on. Before a header is
    /// attached.
    ///
    /// # Errors
    /// `Usage` where the file has no such part.
    pub fn narrow(&mut self, range: Range<u64>) -> Result<()> {
        if self.folder.is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "it is a folder of pieces, which is a container as a whole",
            ));
        }
        let no_such_part = |_| Error::new(ErrorKind::Usage, "it has no such part");
        let file = Arc::clone(&self.file) as Arc<dyn Storage>;
        let section = Section::new(file, range.clone()).map_err(no_such_part)?;
        self.section = Some((range, Arc::new(section)));
        Ok(())
    }

    /// The part of the file that it is, where it is not all of it.
    pub fn section(&self) -> Option<Range<u64>> {
        self.section.as_ref().map(|(range, _)| range.clone())
    }

    /// Takes it for a container of this format from now on, whatever its bytes look like.
    pub fn assume(&mut self, format: &'static dyn Format) {
        self.assumed = Some(format);
    }

    /// The same for the format of this name.
    ///
    /// # Errors
    /// `Unsupported` where there is none.
    pub fn assume_named(&mut self, name: &str) -> Result<()> {
        let unknown = || Error::new(ErrorKind::Unsupported, format!("there is no format {name}"));
        self.assume(format::named(name).ok_or_else(unknown)?);
        Ok(())
    }

    /// The format that it was said to have.
    pub fn assumed(&self) -> Option<&'static dyn Format> {
        self.assumed
    }

    /// The format that it is said to have, or the one that its signature tells.
    ///
    /// # Errors
    /// `NotAContainer` where no format claims it.
    pub fn format(&self) -> Result<&'static dyn Format> {
        if let Some(detached) = &self.detached {
            return Ok(detached.format);
        }
        if let Some(format) = self.assumed {
            return Ok(format);
        }
        if self.folder.is_some() {
            // Others look for their signatures where a piece may never have been made.
            return Ok(&native::Native);
        }
        if let Some(format) = by_signature(&*self.storage())? {
            return Ok(format);
        }
        if let Some(error) = refused_by_its_own(&*self.storage())? {
            return Err(error);
        }
        let error = match recognise(&*self.storage())? {
            None => Error::new(ErrorKind::NotAContainer, NO_HEADER).with_fact(Fact::NoSignature),
            Some(contents) => not_a_container(contents),
        };
        Err(match way_in(&self.storage(), &self.path)? {
            Some(way) => error.with_hint(way),
            None => error,
        })
    }

    /// Whether nothing in it says what it is: containers of TrueCrypt and VeraCrypt look so.
    ///
    /// # Errors
    /// What reading gave.
    pub fn is_opaque(&self) -> Result<bool> {
        match self.format() {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == ErrorKind::NotAContainer => {
                Ok(error.fact() == Some(Fact::NoSignature))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether what is in it could be random bytes, whatever format it is said to have: a container of TrueCrypt or VeraCrypt
    /// may be there. Not where its header lies elsewhere.
    ///
    /// # Errors
    /// What reading gave.
    pub fn shows_nothing(&self) -> Result<bool> {
        Ok(self.detached.is_none()
            && self.folder.is_none()
            && by_signature(&*self.storage())?.is_none()
            && recognise(&*self.storage())?.is_none())
    }

    /// Reads the header once more, after it was unlocked and compared with its pin: `digest` is that of its fingerprint then.
    ///
    /// # Errors
    /// `Tampered` where it is another one now: who can write to the container may do so between the two readings.
    pub fn same_header(&self, digest: Option<&str>) -> Result<Box<dyn Header>> {
        let header = self.header()?;
        let found = header.fingerprint().map(|fingerprint| fingerprint.digest());
        if digest.is_some() && found.as_deref() != digest {
            return Err(Error::new(ErrorKind::Tampered, "its header was changed while it was being opened"));
        }
        Ok(header)
    }

    /// Reads the header.
    ///
    /// # Errors
    /// `NotAContainer`, also for a header file without its container; `Damaged`, `Unsupported`.
    pub fn header(&self) -> Result<Box<dyn Header>> {
        let (format, storage) = (self.format()?, self.storage());
        if self.detached.is_none() && format.read_header_file(&*storage).is_ok_and(|header| header.is_some())
        {
            let reason = "it is a header without its container";
            let hint = match format.probe(&*storage)? {
                Probe::Opaque if format.name() != freeotfe::NAME => {
                    "strongroom header restore puts it into its container; key test tests it"
                }
                _ => "name the container, and give this file with --header",
            };
            return Err(Error::new(ErrorKind::NotAContainer, reason).with_hint(hint));
        }
        format.read_header(&*storage)
    }
}

/// Why our own format takes for no container what bears its signature: it knows what else is there.
fn refused_by_its_own(storage: &dyn Storage) -> Result<Option<Error>> {
    let head = signature::read_head(storage)?;
    let is_ours = signature::recognise(&head).is_some_and(|found| found.owner == Owner::Native);
    let native = format::named("native").filter(|_| is_ours);
    Ok(native.and_then(|format| format.read_header(storage).err()))
}

/// Why a container is in use that shows the bytes of the file `shown`.
fn shown_in_use(error: Error, shown: &Path) -> Error {
    match error.kind() {
        ErrorKind::Busy => {
            Error::new(ErrorKind::Busy, format!("{}, which it shows, is in use", shown.display()))
        }
        _ => error,
    }
}

/// The kernel opens a block device for writing also where it lets nobody write.
fn refuse_read_only(file: &File) -> Result<()> {
    if is_read_only(&file.metadata()?) {
        return Err(Error::new(ErrorKind::Io, "the device is read-only"));
    }
    Ok(())
}

/// Whether the kernel writes nothing to this device. Without /sys the first write will tell.
fn is_read_only(device: &std::fs::Metadata) -> bool {
    let flag = folder_of(device.rdev()).and_then(|folder| std::fs::read_to_string(folder.join("ro")));
    flag.is_ok_and(|flag| flag.trim() == "1")
}

/// Whether this process, and a server that it starts, may write all of the file.
fn check_file_size(file: &File) -> Result<()> {
    if is_allowed_whole(file)? {
        return Ok(());
    }
    let reason = "it is larger than a file may be that is written here (ulimit -f)";
    Err(Error::new(ErrorKind::Io, reason).with_hint("raise the limit on file sizes: see ulimit -f"))
}

/// The format whose signature stands in some bytes.
///
/// # Errors
/// What reading gave.
pub fn by_signature(storage: &dyn Storage) -> Result<Option<&'static dyn Format>> {
    for &format in FORMATS {
        if format.probe(storage)? == Probe::Match {
            return Ok(Some(format));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_goes_soon_is_waited_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let held = Container::open(file.path(), Access::ReadOnly).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                sleep(PATIENCE / 4);
                drop(held);
            });
            Container::open(file.path(), Access::ReadWrite).unwrap();
        });
    }

    #[test]
    fn a_lock_that_stays_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let _held = Container::open(file.path(), Access::ReadWrite).unwrap();
        let error = Container::open(file.path(), Access::ReadOnly).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
    }
}
