//! A container in the making: nobody sees it before it is whole, and nothing stays when it is given up.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, OFlags, RenameFlags, linkat, renameat_with},
    process::{Resource, getrlimit},
};

use crate::{
    crypto::rng::Rng,
    error::{Error, ErrorKind, Result},
    format::FORMATS,
    format::Format,
    storage::{Storage, close_once, give_to_owner, holds_zeros, pieces::HEADER_NAME},
    volume::{
        Access, Container,
        contents::recognise_with_label,
        pieces::{NewPieces, PieceFolder},
    },
};

/// What a new container would take the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Occupant {
    /// A file of so many bytes, and what it holds, where that is known.
    File(u64, Option<String>),
    /// A block device of so many bytes that holds something, and what that is, where it is known.
    Device(u64, Option<String>),
    /// Something else: a directory, a socket, a symbolic link that leads nowhere.
    Other,
}

/// What stands at `path` and would be lost; `None` for nothing and for a block device that holds only zeros where partition tables,
/// file systems and headers leave traces, and in a sample of the rest.
pub fn occupant(path: &Path) -> Result<Option<Occupant>> {
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        // A link that leads nowhere: what would stand there, its owner knows.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(path.is_symlink().then_some(Occupant::Other));
        }
        Err(error) => return Err(error.into()),
    };
    let kind = metadata.file_type();
    if kind.is_file() {
        // Where it cannot be read, its size is all that is known.
        let holds = Container::peek(path).and_then(|file| recognise_with_label(&file)).ok().flatten();
        return Ok(Some(Occupant::File(metadata.len(), holds)));
    }
    if !kind.is_block_device() {
        return Ok(Some(Occupant::Other));
    }
    let container = Container::open(path, Access::ReadOnly)?;
    let storage = container.storage();
    let size = storage.size()?;
    if !has_traces(&*storage, size)? {
        return Ok(None);
    }
    Ok(Some(Occupant::Device(size, recognise_with_label(&container)?)))
}

fn has_traces(storage: &dyn Storage, size: u64) -> io::Result<bool> {
    // Behind a partition table that is gone the first partition begins at 1 MiB, and with old ones at 63 sectors.
    let (start, end) = (size.min(AT_START), size.saturating_sub(AT_END));
    let step = (size / SAMPLES).max(SAMPLE) / SAMPLE * SAMPLE;
    let samples = (0..size).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    let samples = samples.map(|at| at..(at + SAMPLE).min(size));
    for range in [0..start, end..size].into_iter().chain(samples) {
        if !holds_zeros(storage, range)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// So much of a device is looked at where something begins and where it ends.
const AT_START: u64 = 4 << 20;
const AT_END: u64 = 1 << 20;
/// So many places between them, and so much of each.
const SAMPLES: u64 = 512;
const SAMPLE: u64 = 4096;

/// A new container before it is committed. Dropped uncommitted, a file is gone and a device bears no header.
#[derive(Debug)]
pub struct Draft {
    container: Container,
    target: PathBuf,
    place: Place,
    committed: bool,
}

/// Where the bytes are while the container is made.
#[derive(Debug)]
enum Place {
    /// A file without a name: it vanishes with its last descriptor, even when the process is killed.
    Unnamed { replace: bool },
    /// A file under a name of its own, on file systems that have no unnamed ones.
    Named { name: PathBuf, replace: bool },
    /// A block device, written where it is.
    Device,
    /// A folder of pieces, under a name of its own.
    Folder { name: PathBuf },
}

impl Draft {
    /// Starts a container that is to stand at `target`, or at what a symbolic link there leads to. `replace` lets it take
    /// the place of a file, or of a device's content.
    ///
    /// # Errors
    /// `Exists` where something is there and `replace` is not set, `NotFound` without the directory, `Busy`, `Permission`.
    pub fn new(target: &Path, replace: bool, rng: &dyn Rng) -> Result<Self> {
        match occupant(target)? {
            Some(Occupant::Other) => return Err(Error::new(ErrorKind::Exists, "it is not a file")),
            Some(_) if !replace => return Err(Error::new(ErrorKind::Exists, "it already exists")),
            _ => {}
        }
        let target = &target.canonicalize().unwrap_or_else(|_| target.to_path_buf());
        if std::fs::metadata(target).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
            let container = Container::open(target, Access::ReadWrite)?;
            return Ok(Self::of(container, target, Place::Device));
        }
        if replace && target.exists() {
            // Nobody may be using the file that is about to go.
            drop(Container::open(target, Access::ReadWrite)?);
        }
        let (file, name) = new_file(&directory_of(target), rng)?;
        give_to_owner(&file, target, &directory_of(target));
        let place = match name {
            None => Place::Unnamed { replace },
            Some(name) => Place::Named { name, replace },
        };
        Ok(Self::of(Container::adopt(file, target)?, target, place))
    }

    /// Tries whether a container can be made at `target`, and leaves nothing there: before anything is asked or derived for it.
    /// `false` where the file system there has no files of `len` bytes.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn check_place(target: &Path, len: u64, rng: &dyn Rng) -> Result<bool> {
        let target = &target.canonicalize().unwrap_or_else(|_| target.to_path_buf());
        if std::fs::metadata(target).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
            return Container::open(target, Access::ReadWrite).map(|_| true);
        }
        let (file, name) = new_file(&directory_of(target), rng)?;
        let grown = file.set_len(len);
        drop(name.map(std::fs::remove_file));
        match grown {
            // A limit of the user's (`ulimit -f`) says nothing of the file system.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge && !is_beyond_limit(len) => Ok(false),
            grown => Ok(grown.map(|()| true)?),
        }
    }

    /// The same for a file where nothing at all stands yet: neither a device nor a link is followed.
    ///
    /// # Errors
    /// `Exists`, `NotFound` without the directory, `Permission`.
    pub fn new_file(target: &Path, rng: &dyn Rng) -> Result<Self> {
        if target.symlink_metadata().is_ok() {
            return Err(Error::new(ErrorKind::Exists, "it already exists"));
        }
        Self::new(target, false, rng)
    }

    /// Starts a container that is to be a folder of pieces at `target`, where nothing stands yet.
    ///
    /// # Errors
    /// `Exists`, `NotFound` without the directory, `Permission`; `Usage` where there are no such pieces.
    pub fn new_folder(target: &Path, new: &NewPieces<'_>, rng: &dyn Rng) -> Result<Self> {
        if target.symlink_metadata().is_ok() {
            return Err(Error::new(ErrorKind::Exists, "it already exists"));
        }
        let parent = directory_of(target);
        let name = parent.join(temporary_name(rng)?);
        DirBuilder::new().mode(0o700).create(&name)?;
        let make = || -> Result<Container> {
            give_to_owner(&File::open(&name)?, target, &parent);
            let folder = PieceFolder::create(&name, new, &|file| give_to_owner(file, target, &parent))?;
            Container::adopt_folder(folder, &name.join(HEADER_NAME))
        };
        let container = make().inspect_err(|_| drop(std::fs::remove_dir_all(&name)))?;
        Ok(Self::of(container, target, Place::Folder { name }))
    }

    fn of(container: Container, target: &Path, place: Place) -> Self {
        Self { container, target: target.to_path_buf(), place, committed: false }
    }

    /// The container that is being made, locked.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Takes it for a container of this format, whatever its bytes look like: for formats without a signature.
    pub fn assume(&mut self, format: &'static dyn Format) {
        self.container.assume(format);
    }

    /// Lets the container have its header in another draft, a header file.
    ///
    /// # Errors
    /// As [`Container::attach_header`].
    pub fn attach_header(&mut self, header: &Self) -> Result<()> {
        self.container.attach_header(&header.container)
    }

    /// Makes it durable and visible under its name.
    ///
    /// # Errors
    /// `Exists` where a file of that name has come up meanwhile.
    pub fn commit(mut self, rng: &dyn Rng) -> Result<()> {
        // Of a folder also the pieces, and what tells of them.
        self.container.storage().sync_data()?;
        self.container.file().sync_all()?;
        close_once(self.container.file())?;
        match &self.place {
            Place::Device => {}
            Place::Unnamed { replace: false } => link(self.container.file(), &self.target)?,
            Place::Unnamed { replace: true } => {
                let name = directory_of(&self.target).join(temporary_name(rng)?);
                link(self.container.file(), &name)?;
                std::fs::rename(&name, &self.target).inspect_err(|_| drop(std::fs::remove_file(&name)))?;
            }
            Place::Named { name, replace } => rename(name, &self.target, *replace)?,
            Place::Folder { name } => {
                File::open(name)?.sync_all()?;
                rename(name, &self.target, false)?;
            }
        }
        self.committed = true;
        if !matches!(self.place, Place::Device) {
            File::open(directory_of(&self.target))?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.committed {
            return;
        }
        match &self.place {
            Place::Unnamed { .. } => {}
            Place::Named { name, .. } => drop(std::fs::remove_file(name)),
            Place::Folder { name } => drop(std::fs::remove_dir_all(name)),
            Place::Device => erase_header(&*self.container.storage()),
        }
    }
}

/// Leaves no header where one may have been written: half a container is none.
fn erase_header(storage: &dyn Storage) {
    let zeros = vec![0; 1 << 20];
    for erasure in FORMATS.iter().filter_map(|format| format.erasure(storage).ok()) {
        let places = erasure.spare.into_iter().chain([erasure.last]).chain(erasure.rest);
        for place in places {
            for offset in place.clone().step_by(zeros.len()) {
                let len =
                    usize::try_from(place.end - offset).map_or(zeros.len(), |left| left.min(zeros.len()));
                // Failing here changes nothing for the caller, who is told the first error already.
                drop(storage.write_all_at(&zeros[..len], offset));
            }
        }
    }
    drop(storage.sync_data());
}

pub(super) fn directory_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// An empty file for its owner alone, and its name on file systems that have no unnamed ones.
fn new_file(directory: &Path, rng: &dyn Rng) -> io::Result<(File, Option<PathBuf>)> {
    match unnamed_file(directory) {
        Ok(file) => Ok((file, None)),
        Err(error) if is_unsupported(&error) => {
            let name = directory.join(temporary_name(rng)?);
            Ok((named_file(&name)?, Some(name)))
        }
        Err(error) => Err(error),
    }
}

fn is_beyond_limit(len: u64) -> bool {
    getrlimit(Resource::Fsize).current.is_some_and(|limit| len > limit)
}

fn unnamed_file(directory: &Path) -> io::Result<File> {
    let flags = (OFlags::TMPFILE | OFlags::CLOEXEC).bits().cast_signed();
    OpenOptions::new().read(true).write(true).custom_flags(flags).mode(0o600).open(directory)
}

fn named_file(name: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(name)
}

fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
        Some(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL)
    )
}

fn temporary_name(rng: &dyn Rng) -> io::Result<String> {
    let mut bytes = [0; 8];
    rng.fill(&mut bytes)?;
    Ok(format!(".strongroom-{:016x}.partial", u64::from_le_bytes(bytes)))
}

fn link(file: &File, name: &Path) -> io::Result<()> {
    let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, descriptor, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
}

pub(super) fn rename(from: &Path, to: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return std::fs::rename(from, to);
    }
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // vfat before Linux 4.9 and some network file systems have no such flag; linking refuses an existing name too.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => std::fs::rename(from, to),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::rng::OsRng;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_place_is_tried_without_a_trace() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("new.vault");
        assert!(Draft::check_place(&target, 1 << 20, &OsRng).unwrap());
        assert!(!Draft::check_place(&target, u64::from(u32::MAX) << 30, &OsRng).unwrap());
        let nowhere = Draft::check_place(&directory.path().join("no/new.vault"), 1, &OsRng).unwrap_err();
        assert_eq!(nowhere.kind(), ErrorKind::NotFound);
        assert_eq!(names(directory.path()), Vec::<String>::new());
    }

    #[test]
    fn a_dropped_draft_leaves_nothing_and_a_committed_one_leaves_one_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("new.vault");
        let draft = Draft::new(&target, false, &OsRng).unwrap();
        draft.container().storage().write_all_at(b"half", 0).unwrap();
        assert_eq!(names(directory.path()), Vec::<String>::new());
        drop(draft);
        assert_eq!(names(directory.path()), Vec::<String>::new());

        let draft = Draft::new(&target, false, &OsRng).unwrap();
        draft.container().storage().write_all_at(b"whole", 0).unwrap();
        draft.commit(&OsRng).unwrap();
        assert_eq!(names(directory.path()), ["new.vault"]);
        assert_eq!(std::fs::read(&target).unwrap(), b"whole");
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&target).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_existing_file_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("old.vault");
        std::fs::write(&target, b"precious").unwrap();
        assert_eq!(Draft::new(&target, false, &OsRng).unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(occupant(&target).unwrap(), Some(Occupant::File(8, None)));
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_file_that_comes_up_meanwhile_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("raced.vault");
        let draft = Draft::new(&target, false, &OsRng).unwrap();
        std::fs::write(&target, b"precious").unwrap();
        assert_eq!(draft.commit(&OsRng).unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        assert_eq!(names(directory.path()), ["raced.vault"]);
    }

    #[test]
    fn a_replaced_file_stays_until_the_new_one_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("old.vault");
        std::fs::write(&target, b"precious").unwrap();
        drop(Draft::new(&target, true, &OsRng).unwrap());
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        let draft = Draft::new(&target, true, &OsRng).unwrap();
        draft.container().storage().write_all_at(b"new", 0).unwrap();
        draft.commit(&OsRng).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["old.vault"]);
    }

    #[test]
    fn a_link_keeps_its_place_and_the_file_behind_it_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let draft = Draft::new(&link, true, &OsRng).unwrap();
        draft.container().storage().write_all_at(b"new", 0).unwrap();
        draft.commit(&OsRng).unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert_eq!(occupant(&link).unwrap(), Some(Occupant::Other));
        assert_eq!(Draft::new(&link, true, &OsRng).unwrap_err().kind(), ErrorKind::Exists);
    }

    #[test]
    fn a_container_in_use_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("busy.vault");
        std::fs::write(&target, b"precious").unwrap();
        let _held = Container::open(&target, Access::ReadOnly).unwrap();
        assert_eq!(Draft::new(&target, true, &OsRng).unwrap_err().kind(), ErrorKind::Busy);
    }
}
