//! The directory that a volume is mounted on: opened once by descriptor, checked by that descriptor.

use std::{
    fs, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, AtFlags, Dir, Mode, OFlags, StatxFlags, accessat, fstat, open, openat, statx},
    mount::{UnmountFlags, unmount},
};

use super::{
    mountinfo::{Mount, MountId, MountTable},
    others::other_at,
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::{
        process::{effective_user, is_root},
        user::User,
    },
    text::path::command_word,
};

/// An empty directory that the caller may hide under a volume.
#[derive(Debug)]
pub struct MountPoint {
    path: PathBuf,
    /// The folder that it is in, as it was before anything was mounted over that.
    above: OwnedFd,
    directory: OwnedFd,
}

impl MountPoint {
    /// Opens and checks `path`. Symbolic links are followed before the check, never after.
    ///
    /// # Errors
    /// `NotFound`; `Usage` for a system directory, a name that cannot be passed on, or what is no directory;
    /// `Permission` for another user's, and for one that its owner cannot write to; `Busy` where something is mounted; `Exists` where it is not empty.
    pub fn open(path: &Path) -> Result<Self> {
        let action = || format!("cannot mount on {}", path.display());
        let resolved = fs::canonicalize(path).map_err(|error| dead_end(path, error).during(action()))?;
        check_name(&resolved).map_err(|error| error.during(action()))?;
        Self::open_resolved(resolved).map_err(|error| error.during(action()))
    }

    fn open_resolved(path: PathBuf) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match open(&path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(rustix::io::Errno::NOTDIR) => {
                return Err(Error::new(ErrorKind::Usage, "it is not a directory"));
            }
            Err(error) => return Err(dead_end(&path, error.into())),
        };
        let above = open(path.parent().unwrap_or(&path), flags, Mode::empty()).map_err(io::Error::from)?;
        // Only root mounts over a trigger; what it makes others wait for comes by it.
        let covers = |mount: &&Mount| !(is_root() && mount.is_trigger());
        if let Some(mount) = MountTable::read()?.at(&path).filter(covers) {
            if let Some(other) = other_at(&path) {
                let reason = format!("{} has mounted a volume there", other.mounted_by);
                return Err(Error::new(ErrorKind::Busy, reason).with_hint(other.unmount));
            }
            let kind = &mount.kind;
            return Err(Error::new(ErrorKind::Busy, format!("something is already mounted there ({kind})")));
        }
        let owner = fstat(&directory).map_err(io::Error::from)?.st_uid;
        if !is_root() && owner != effective_user() {
            return Err(Error::new(ErrorKind::Permission, "the directory belongs to another user")
                .with_hint("mount on an empty directory of your own"));
        }
        if !is_root() && accessat(&directory, ".", Access::WRITE_OK, AtFlags::EACCESS).is_err() {
            // fusermount3 refuses it, but only once the volume is open.
            return Err(Error::new(ErrorKind::Permission, "the directory is not writable")
                .with_hint(format!("make it writable: chmod u+w {}", command_word(&path))));
        }
        if !is_empty(&directory)? {
            return Err(Error::new(ErrorKind::Exists, "the directory is not empty")
                .with_hint("what it holds would be hidden; choose an empty directory"));
        }
        Ok(Self { path, above, directory })
    }

    /// Opens a folder that [`make`] made, and lets the caller write to it, as mounting on it takes. [`seal`](Self::seal) takes
    /// that back.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_made(path: &Path) -> Result<Self> {
        let was_made = is_made(path);
        if was_made {
            set_mode(path, OPEN)?;
        }
        Self::open(path).inspect_err(|_| {
            if was_made {
                let _ = set_mode(path, SEALED);
            }
        })
    }

    /// Lets nobody write to the folder itself, also while something is mounted on it: should that go at once, what somebody
    /// copies there must fail instead of lying there unencrypted.
    ///
    /// # Errors
    /// What changing its mode gave.
    pub fn seal(&self) -> Result<()> {
        set_mode(&self.by_descriptor(), SEALED)
    }

    /// Its name, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whose directory it is.
    pub fn owner(&self) -> Result<User> {
        let found = fstat(&self.directory).map_err(io::Error::from)?;
        Ok(User { uid: found.st_uid, gid: found.st_gid })
    }

    /// A name for exactly the directory that was checked, for system calls of this process.
    pub fn by_descriptor(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.directory.as_raw_fd()))
    }

    /// The same directory once more.
    ///
    /// # Errors
    /// What duplicating the descriptor gave.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            path: self.path.clone(),
            above: self.above.try_clone()?,
            directory: self.directory.try_clone()?,
        })
    }

    /// Detaches the mount `id`, which was made here, whatever was mounted over a folder above it since.
    ///
    /// # Errors
    /// `Busy` where another mount lies on it.
    pub(super) fn detach(&self, id: MountId) -> Result<()> {
        let name = self.path.file_name().unwrap_or_default();
        // Down by name from the folder above: what was mounted over that one since is not passed.
        let top = openat(&self.above, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(io::Error::from)?;
        let found = statx(&top, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map_err(io::Error::from)?;
        if found.stx_mnt_id != id.number {
            return Err(Error::new(ErrorKind::Busy, "something else is mounted on it"));
        }
        let path = format!("/proc/self/fd/{}", top.as_raw_fd());
        Ok(unmount(path, UnmountFlags::DETACH).map_err(io::Error::from)?)
    }
}

/// Makes the folder `path` to mount on, which goes with the volume. Nobody but root can write to it while nothing is mounted. One
/// that was left, as after a power cut, is taken again.
///
/// # Errors
/// `Exists` where something else is there, `NotFound` without the folder above it, `Permission`.
pub fn make(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().mode(SEALED).create(path);
    let error = match made {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_made(path) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::Exists, "it already exists")
        }
        Err(error) => error.into(),
    };
    Err(error.during(format!("cannot make the folder {}", path.display())))
}

/// Takes a folder away that [`make`] made, if nothing is in it.
pub fn remove_made(path: &Path) {
    if is_made(path) {
        // Where it cannot be removed it stays as it is, and the next mount takes it.
        let _ = fs::remove_dir(path);
    }
}

/// Whether `path` is an empty folder of the caller's that only [`make`] leaves so.
pub fn is_made(path: &Path) -> bool {
    let is_sealed = fs::symlink_metadata(path).is_ok_and(|found| {
        found.is_dir() && found.uid() == effective_user() && found.mode() & 0o777 == SEALED
    });
    is_sealed && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Why a path leads nowhere.
fn dead_end(path: &Path, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::new(ErrorKind::NotFound, "there is no such directory")
            .with_hint(format!("make it first: mkdir -p {}", command_word(path))),
        // What a FUSE mount says whose server was killed.
        io::ErrorKind::NotConnected => {
            Error::new(ErrorKind::Busy, "a dead FUSE mount of another program is there")
                .with_hint(format!("clear it: fusermount3 -u {}", command_word(path)))
        }
        _ => error.into(),
    }
}

/// Refuses system directories, and names that the table of mounts or a helper's options could not carry.
fn check_name(path: &Path) -> Result<()> {
    let Some(text) = path.to_str() else {
        return Err(Error::new(ErrorKind::Usage, "the path is not UTF-8"));
    };
    if text.chars().any(char::is_control) {
        return Err(Error::new(ErrorKind::Usage, "the path contains control characters"));
    }
    if is_system_directory(path) {
        return Err(Error::new(ErrorKind::Usage, "it is a system directory")
            .with_hint("mount on an empty directory of your own, or below /mnt or /media"));
    }
    Ok(())
}

/// Whether mounting on `path` would hide a part of the system.
fn is_system_directory(path: &Path) -> bool {
    let mut parts = path.components().skip(1).map(|part| part.as_os_str().to_string_lossy());
    let Some(top) = parts.next() else { return true };
    let below = parts.next();
    if top == "dev" && below.as_deref() == Some("shm") {
        // A folder for everybody, in memory.
        return parts.next().is_none();
    }
    let whole_tree = TREES.contains(&&*top) || top.starts_with("lib");
    whole_tree || (below.is_none() && TOPS.contains(&&*top))
}

fn is_empty(directory: &OwnedFd) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let readable = openat(directory, ".", flags, Mode::empty()).map_err(io::Error::from)?;
    for entry in Dir::new(readable).map_err(io::Error::from)? {
        let entry = entry.map_err(io::Error::from)?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The modes of a folder of our own: while nothing is mounted on it, and while that is being done.
const SEALED: u32 = 0o500;
const OPEN: u32 = 0o700;

/// Neither these nor anything below them (`lib*` too).
const TREES: &[&str] = &["bin", "boot", "dev", "etc", "proc", "sbin", "sys", "usr"];

/// Not these themselves; what is below is the owner's affair.
const TOPS: &[&str] = &["home", "media", "mnt", "opt", "root", "run", "srv", "tmp", "var"];

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(path: &Path) -> ErrorKind {
        MountPoint::open(path).unwrap_err().kind()
    }

    #[test]
    fn an_empty_directory_of_ones_own_is_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let mountpoint = MountPoint::open(directory.path()).unwrap();
        assert_eq!(fs::read_link(mountpoint.by_descriptor()).unwrap(), mountpoint.path());
    }

    #[test]
    fn a_folder_of_our_own_is_sealed_but_while_it_is_mounted_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("photos");
        let mode = || fs::metadata(&path).unwrap().mode() & 0o777;
        make(&path).unwrap();
        assert_eq!(mode(), SEALED);
        let mountpoint = MountPoint::open_made(&path).unwrap();
        assert_eq!(mode(), OPEN);
        mountpoint.seal().unwrap();
        assert_eq!(mode(), SEALED);
        make(&path).unwrap();
        remove_made(&path);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_of_the_users_is_neither_taken_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("photos");
        fs::create_dir(&path).unwrap();
        for (mode, file) in [(OPEN, None), (SEALED, Some("photo"))] {
            if let Some(file) = file {
                fs::write(path.join(file), "").unwrap();
            }
            set_mode(&path, mode).unwrap();
            assert_eq!(make(&path).unwrap_err().kind(), ErrorKind::Exists);
            remove_made(&path);
            assert!(path.exists());
        }
        set_mode(&path, OPEN).unwrap();
    }

    #[test]
    fn a_directory_that_holds_something_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(".hidden"), "").unwrap();
        assert_eq!(kind_of(directory.path()), ErrorKind::Exists);
    }

    #[test]
    fn a_missing_directory_comes_with_the_command_that_makes_it() {
        let directory = tempfile::tempdir().unwrap();
        let error = MountPoint::open(&directory.path().join("absent")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.hint().unwrap().contains("mkdir -p"));
    }

    #[test]
    fn a_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(kind_of(file.path()), ErrorKind::Usage);
    }

    #[test]
    fn a_link_to_a_system_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert_eq!(kind_of(&link), ErrorKind::Usage);
    }

    #[test]
    fn system_directories_are_known() {
        for path in [
            "/",
            "/etc",
            "/etc/ssl",
            "/dev/shm",
            "/usr/local/vault",
            "/lib64",
            "/home",
            "/tmp",
            "/mnt",
            "/root",
        ] {
            assert!(is_system_directory(Path::new(path)), "{path}");
        }
        for path in [
            "/home/ann",
            "/tmp/vault",
            "/mnt/vault",
            "/root/vault",
            "/data",
            "/run/user/1000/v",
            "/dev/shm/v",
        ] {
            assert!(!is_system_directory(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn control_characters_are_refused() {
        assert_eq!(check_name(Path::new("/tmp/a\nb")).unwrap_err().kind(), ErrorKind::Usage);
    }
}
