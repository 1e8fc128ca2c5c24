//! What has become of a file that is open: renamed, deleted, or another one in its place.
//!
//! Sync clients, `rsync` and editors do not write into a file: they put a new one in its place. Whoever has the old one open
//! goes on with it, and it is gone for good at the last close. So a server looks, at its container and at its header file.
//! Some write into it all the same (`rsync --inplace`, `dd`): the file stays, and what is in it does not.

use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd, unix::ffi::OsStrExt, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};

use rustix::fs::{fstatfs, major, minor};
use serde::{Deserialize, Serialize};

use super::mountinfo::{MountTable, mount_of};
use crate::{
    sys::{available, writers::Writers},
    volume::{Change, Container, FileStorage, KnownHeader},
};

/// Where the data of a container are of which a file is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// In that file.
    #[default]
    Itself,
    /// In pieces beside it: it is the header file of a folder of them, which are not lost with its name.
    Pieces,
}

impl Body {
    /// That of a container.
    pub(super) fn of(container: &Container) -> Self {
        if container.pieces().is_some() { Self::Pieces } else { Self::Itself }
    }
}

/// How a file was lost: its name leads to it no longer, or another program has written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lost {
    /// Nothing bears its name any more.
    Deleted,
    /// Another file does.
    Replaced,
    /// It bears its name, but somebody else wrote to it, or cut it off.
    Overwritten,
    /// It bears its name on a file system that shows nowhere any more: unmounted lazily, or with another one over it.
    Unreachable,
    /// Somebody else wrote to it, and nothing bears its name any more.
    OverwrittenAndDeleted,
    /// Somebody else wrote to it, and another file bears its name.
    OverwrittenAndReplaced,
    /// Somebody else wrote to it, and its file system shows nowhere any more.
    OverwrittenAndUnreachable,
}

/// Pieces of a container that were lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostPieces {
    /// The name of the first.
    pub first: String,
    /// How many there are.
    pub count: usize,
}

impl LostPieces {
    /// In words: `piece 00000001 (one of 7) of its container /a/v`, which is the folder.
    pub(super) fn told(&self, whose: &str, folder: &Path) -> String {
        let more = if self.count > 1 { format!(" (one of {})", self.count) } else { String::new() };
        format!("piece {}{more} of {whose} container {}", self.first, folder.display())
    }
}

/// What is to be done first where others have written to a container.
pub(super) const COPY_FIRST: &str = "copy what you can still read to another place first, and compare it with a backup: some of it may be wrong";

impl Lost {
    /// The word for it: in tables, messages and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Replaced => "replaced",
            Self::Overwritten => "overwritten",
            Self::Unreachable => "unreachable",
            Self::OverwrittenAndDeleted => "overwritten and deleted",
            Self::OverwrittenAndReplaced => "overwritten and replaced",
            Self::OverwrittenAndUnreachable => "overwritten and unreachable",
        }
    }

    /// The same in a sentence: `was deleted`.
    pub const fn told(self) -> &'static str {
        match self {
            Self::Deleted => "was deleted",
            Self::Replaced => "was replaced",
            Self::Overwritten => "was written to by another program",
            Self::Unreachable => {
                "cannot be reached any more (its file system was unmounted, or another one mounted over it)"
            }
            Self::OverwrittenAndDeleted => "was written to by another program and deleted",
            Self::OverwrittenAndReplaced => "was written to by another program and replaced",
            Self::OverwrittenAndUnreachable => {
                "was written to by another program, and cannot be reached any more"
            }
        }
    }

    /// Whether the file goes with its last descriptor, or may.
    pub const fn is_nameless(self) -> bool {
        !matches!(self, Self::Overwritten)
    }

    /// Whether somebody else wrote to it, so that a copy of it may not open either.
    pub const fn is_overwritten(self) -> bool {
        !matches!(self, Self::Deleted | Self::Replaced | Self::Unreachable)
    }

    /// Whether no name leads to it, on a file system that shows nowhere.
    pub const fn is_unreachable(self) -> bool {
        matches!(self, Self::Unreachable | Self::OverwrittenAndUnreachable)
    }

    /// The same for a file to which somebody else wrote as well.
    pub(super) const fn and_overwritten(self) -> Self {
        match self {
            Self::Deleted => Self::OverwrittenAndDeleted,
            Self::Replaced => Self::OverwrittenAndReplaced,
            Self::Unreachable => Self::OverwrittenAndUnreachable,
            overwritten => overwritten,
        }
    }
}

/// An open file, and the name that leads to it.
#[derive(Debug)]
pub(super) struct NamedFile {
    file: File,
    path: PathBuf,
    /// The loop device that shows it, which is what the user named.
    device: Option<PathBuf>,
    lost: Option<Lost>,
    is_watched: bool,
    /// The numbers of its file system, and of the file there.
    identity: (u64, u64),
    writers: Option<Writers>,
    /// How long it was when others had written to it last.
    len: u64,
    headers: Option<Arc<FileStorage>>,
    /// When it was written last before its headers were compared last.
    compared: Option<SystemTime>,
    known: Option<KnownHeader>,
    /// Whether others have written to it, and not only to its header, or nobody knows where.
    is_overwritten: bool,
    /// Whether its header is not what it was, nor one that is as good.
    is_header_changed: bool,
    body: Body,
}

impl NamedFile {
    /// The file and its name now; `fallback` is shown where it has none.
    ///
    /// What never had a name cannot lose it, and a device is no file: neither is ever found lost.
    pub(super) fn new(file: File, fallback: &Path) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let path = current_name(&file).filter(|name| leads_to(name, &file, &metadata));
        let is_watched = metadata.is_file() && path.is_some();
        let path = path.unwrap_or_else(|| fallback.to_path_buf());
        // Each write asks for a little of the kernel's memory then, which must not be where that is short.
        let is_told = is_watched && !available::is_limited();
        // Some file systems cannot tell; their files are only looked for.
        let writers = is_told.then(|| Writers::watch(&file).ok()).flatten();
        let (headers, compared) = (None, None);
        Ok(Self {
            file,
            path,
            device: None,
            lost: None,
            is_watched,
            identity: (metadata.dev(), metadata.ino()),
            writers,
            len: metadata.len(),
            headers,
            compared,
            known: None,
            is_overwritten: false,
            is_header_changed: false,
            body: Body::Itself,
        })
    }

    /// The file behind the loop device `device`, through which it is written.
    pub(super) fn behind(file: File, device: &Path) -> io::Result<Self> {
        // Each write comes from the kernel, whoever made it.
        Ok(Self { device: Some(device.to_path_buf()), writers: None, ..Self::new(file, device)? })
    }

    /// A copy without a name that is written in the place of the container at `path`, which is not what it was any more.
    pub(super) fn moved(file: File, path: &Path) -> io::Result<Self> {
        Ok(Self { lost: Some(Lost::Replaced), is_watched: false, writers: None, ..Self::new(file, path)? })
    }

    /// The same of a container's file whose data are there.
    pub(super) fn with_body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// Where the container's data are.
    pub(super) const fn body(&self) -> Body {
        self.body
    }

    /// The same, with its headers compared by `headers`.
    pub(super) fn with_headers(self, headers: Arc<FileStorage>) -> Self {
        Self { headers: Some(headers), ..self }
    }

    /// The same, with what tells whether a header that was changed is as good.
    pub(super) fn with_known(self, known: Option<KnownHeader>) -> Self {
        Self { known, ..self }
    }

    /// The loop device by which the user knows it.
    pub(super) fn device(&self) -> Option<&Path> {
        self.device.as_deref()
    }

    /// Its name; the last one where it is lost.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its name no longer leads to it, as of the last look, or others have written to it.
    pub(super) const fn lost(&self) -> Option<Lost> {
        match self.lost {
            None if self.is_spoiled() => Some(Lost::Overwritten),
            Some(lost) if self.is_spoiled() => Some(lost.and_overwritten()),
            lost => lost,
        }
    }

    /// What tells of writes to it, where that can be had.
    pub(super) const fn writers(&self) -> Option<&Writers> {
        self.writers.as_ref()
    }

    const fn is_spoiled(&self) -> bool {
        self.is_overwritten || self.is_header_changed
    }

    /// Notes what others have written since the last time; nothing if they were `allowed` to. True where there is news.
    pub(super) fn note_writes(&mut self, allowed: bool) -> bool {
        if !self.have_others_written() {
            return false;
        }
        let has_grown = self.has_grown();
        if allowed {
            return false;
        }
        let was_spoiled = self.is_spoiled();
        if !self.is_overwritten {
            // What was put behind its end is nobody's.
            self.look_at_header(!has_grown);
        }
        self.is_spoiled() != was_spoiled
    }

    /// Whether it is longer than it was. The server itself makes none longer.
    fn has_grown(&mut self) -> bool {
        let Ok(found) = self.file.metadata() else { return false };
        let old = std::mem::replace(&mut self.len, found.len());
        found.len() > old
    }

    fn have_others_written(&self) -> bool {
        self.writers.as_ref().is_some_and(Writers::have_others_written)
    }

    /// Takes its headers as they are now for right: others were allowed to change them.
    pub(super) fn allow_changes(&mut self) {
        if let Some(headers) = &self.headers {
            // What cannot be read now is compared with what it was.
            let _ = headers.allow_changes();
        }
        if let Some(known) = &mut self.known {
            known.renew();
        }
        self.has_grown();
    }

    /// Compares its headers with what they were, for writes of which the kernel does not tell; where nobody has `asked`, only if it was
    /// written since the last time, so that a disk may rest. True where there is news.
    pub(super) fn compare(&mut self, asked: bool) -> bool {
        let Some(headers) = self.headers.as_ref().filter(|_| !self.is_overwritten) else { return false };
        let written = headers.file().metadata().ok().filter(fs::Metadata::is_file);
        let written = written.and_then(|found| found.modified().ok());
        if !asked && !self.is_header_changed && written == self.compared {
            return false;
        }
        self.compared = written;
        let was_spoiled = self.is_spoiled();
        self.look_at_header(false);
        self.is_spoiled() != was_spoiled
    }

    /// Whether a header that is not what it was is as good: `cryptsetup luksAddKey` adds a keyslot to one that is in use. Where others
    /// `have_written` and the header is what it was, they wrote to the data.
    fn look_at_header(&mut self, have_written: bool) {
        let Some(headers) = self.headers.clone() else {
            self.is_overwritten |= have_written;
            return;
        };
        let mut have_written = have_written;
        for _ in 0..MOST_CHANGES {
            if !headers.has_changed().unwrap_or_default() {
                self.is_header_changed = false;
                self.is_overwritten |= have_written;
                return;
            }
            let seen = headers.seen();
            let change = self.known.as_mut().map_or(Change::Wrong, KnownHeader::judge);
            let (Change::Right, Ok(seen)) = (change, seen) else {
                self.is_header_changed = true;
                // Where it is another one, so may be what is behind it.
                self.is_overwritten |= have_written && change == Change::Wrong;
                return;
            };
            headers.take_seen(seen);
            // What the kernel tells of it now is no news, nor what it tells a moment later. What was changed meanwhile the next turn finds.
            thread::sleep(MOMENT);
            self.have_others_written();
            have_written = false;
        }
    }

    /// The file.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// Whether a look may find something.
    pub(super) const fn is_watched(&self) -> bool {
        self.is_watched
    }

    /// Whether a look asks a server for what others may have changed there, which may not answer: the file lies on a network
    /// file system, or on FUSE.
    pub(super) fn is_remote(&self) -> bool {
        is_remote(&self.file)
    }

    /// Looks where the file is now. True where something has changed since the last look.
    ///
    /// # Errors
    /// What asking for the file itself gave; nothing is known then, and all stays as it was.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        if !self.is_watched {
            return Ok(false);
        }
        let metadata = match self.file.metadata() {
            // The server that it lies on knows it no longer: others took it away there.
            Err(error) if is_unknown(&error) => {
                let before = self.lost;
                self.lost = without_name(&self.path, self.identity.0).or(before);
                return Ok(self.lost != before);
            }
            // It answers for the file that has the name by now, and what is written goes to the other one.
            Ok(found) if found.ino() != self.identity.1 => {
                return Ok(self.lost.replace(Lost::Replaced) != Some(Lost::Replaced));
            }
            metadata => metadata?,
        };
        let named = current_name(&self.file).filter(|name| leads_to(name, &self.file, &metadata));
        let (path, lost) = match named {
            Some(name) => (name, None),
            // By another of its names, say, or through a mount that shows elsewhere.
            None if leads_to(&self.path, &self.file, &metadata) => (self.path.clone(), None),
            // A medium that was unmounted lazily has no names, and its files are all there.
            None if metadata.nlink() > 0 && !is_unlinked(&self.file) => {
                find_unreached(&self.path, &self.file, &metadata)
            }
            None if self.path.symlink_metadata().is_ok() => (self.path.clone(), Some(Lost::Replaced)),
            None => (self.path.clone(), Some(Lost::Deleted)),
        };
        let has_changed = path != self.path || lost != self.lost;
        (self.path, self.lost) = (path, lost);
        Ok(has_changed)
    }
}

/// Where a file is that has a name, to which its path does not lead.
fn find_unreached(path: &Path, file: &File, metadata: &fs::Metadata) -> (PathBuf, Option<Lost>) {
    let as_it_was = (path.to_path_buf(), None);
    let missing = fs::metadata(path).map_err(|error| error.kind());
    if missing.is_err_and(|kind| !matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)) {
        return as_it_was;
    }
    let Ok(table) = MountTable::read() else { return as_it_was };
    let Some(number) = mount_of(file) else { return as_it_was };
    if table.shows(number) {
        // On a server others can take the name away, of which the kernel hears nothing.
        let lost = if is_remote(file) { without_name(path, metadata.dev()) } else { None };
        return (path.to_path_buf(), lost);
    }
    // Its name begins where its file system does, which may be mounted elsewhere by now.
    let name = current_name(file).unwrap_or_default();
    let inner = name.strip_prefix("/").unwrap_or(&name);
    let mut places = table.places_of((major(metadata.dev()), minor(metadata.dev())));
    let elsewhere =
        places.find_map(|place| Some(place.join(inner)).filter(|path| leads_to(path, file, metadata)));
    elsewhere.map_or((path.to_path_buf(), Some(Lost::Unreachable)), |found| (found, None))
}

/// What has become of a file of the file system with the number `device`, to which its path does not lead any more. `None` where something
/// else is mounted over the folder.
fn without_name(path: &Path, device: u64) -> Option<Lost> {
    let folder = path.parent().filter(|folder| fs::metadata(folder).is_ok_and(|found| found.dev() == device));
    folder?;
    match path.symlink_metadata() {
        Ok(_) => Some(Lost::Replaced),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Lost::Deleted),
        Err(_) => None,
    }
}

/// Whether a server says that it has no such file.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle)
}

/// Whether others may change a file system of which the kernel hears nothing: it lies on a server, or on FUSE.
fn is_remote(file: &File) -> bool {
    fstatfs(file).is_ok_and(|found| REMOTE.contains(&found.f_type))
}

/// Whether a file system is gone with its last user: it lies in memory.
pub(super) fn lies_in_memory(file: &File) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58F6;
    fstatfs(file).is_ok_and(|found| [TMPFS, RAMFS].contains(&found.f_type))
}

/// What the kernel calls an open file. It follows renaming, also of the folders above.
pub(super) fn current_name(file: &File) -> Option<PathBuf> {
    let name = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
    (name.is_absolute() && !is_stand_in(&name)).then_some(name)
}

/// Whether the kernel has taken the name away under which the file was opened.
fn is_unlinked(file: &File) -> bool {
    let name = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    name.is_ok_and(|name| name.as_os_str().as_bytes().ends_with(b" (deleted)") || is_stand_in(&name))
}

/// What NFS and FUSE rename a file to that is deleted while somebody has it open.
fn is_stand_in(name: &Path) -> bool {
    let name = name.file_name().unwrap_or_default().as_bytes();
    [&b".nfs0"[..], b".fuse_hidden0"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether `path` names the open `file`.
fn leads_to(path: &Path, file: &File, metadata: &fs::Metadata) -> bool {
    let Ok(found) = fs::metadata(path) else { return false };
    if (found.dev(), found.ino()) == (metadata.dev(), metadata.ino()) {
        return metadata.nlink() > 0;
    }
    // Some FUSE file systems number the same file anew when its name is looked up again. Then it is as long, and was changed
    // at the same moment; asked last, because it may have been written meanwhile.
    let is_renumbered = || {
        let now = file.metadata().ok()?;
        let same = |a: &fs::Metadata| (a.len(), a.mtime(), a.mtime_nsec());
        Some(metadata.nlink() > 0 && found.dev() == now.dev() && same(&found) == same(&now))
    };
    fstatfs(file).is_ok_and(|of| of.f_type == FUSE) && is_renumbered().unwrap_or_default()
}

/// How often a header is looked at that is being changed.
const MOST_CHANGES: usize = 8;
/// So long after a write the kernel has told of it.
const MOMENT: Duration = Duration::from_millis(20);
/// `FUSE_SUPER_MAGIC`.
const FUSE: i64 = 0x6573_5546;
/// File systems whose server may be far away: FUSE, NFS, SMB (three numbers), 9P, Ceph, AFS, Coda.
const REMOTE: [i64; 9] =
    [FUSE, 0x6969, 0xFF53_4D42, 0xFE53_4D42, 0x517B, 0x0102_1997, 0x00C3_6400, 0x5346_414F, 0x7375_7245];

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> (Self, NamedFile) {
            let folder = Self(tempfile::tempdir().unwrap());
            fs::create_dir(folder.path("d")).unwrap();
            fs::write(folder.path("d/v"), "old").unwrap();
            let file = NamedFile::new(File::open(folder.path("d/v")).unwrap(), Path::new("?")).unwrap();
            assert_eq!(file.path(), folder.path("d/v"));
            (folder, file)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().canonicalize().unwrap().join(name)
        }
    }

    #[test]
    fn a_file_that_stays_is_not_lost() {
        let (folder, mut file) = Folder::new();
        fs::write(folder.path("d/v"), "written into").unwrap();
        assert!(!file.look().unwrap());
        assert_eq!(file.lost(), None);
    }

    #[test]
    fn a_renamed_file_and_a_renamed_folder_above_it_are_followed() {
        let (folder, mut file) = Folder::new();
        fs::rename(folder.path("d/v"), folder.path("d/w")).unwrap();
        fs::rename(folder.path("d"), folder.path("e")).unwrap();
        assert!(file.look().unwrap());
        assert_eq!((file.path(), file.lost()), (&*folder.path("e/w"), None));
        assert!(!file.look().unwrap());
    }

    #[test]
    fn a_deleted_file_is_lost_under_its_last_name() {
        let (folder, mut file) = Folder::new();
        fs::remove_file(folder.path("d/v")).unwrap();
        assert!(file.look().unwrap());
        assert_eq!((file.path(), file.lost()), (&*folder.path("d/v"), Some(Lost::Deleted)));
    }

    #[test]
    fn a_file_is_replaced_by_what_is_renamed_over_it_or_made_in_its_place() {
        for replace in
            [(|new: &Path, old: &Path| fs::rename(new, old).unwrap()) as fn(&Path, &Path), |new, old| {
                fs::remove_file(old).unwrap();
                fs::copy(new, old).unwrap();
            }]
        {
            let (folder, mut file) = Folder::new();
            fs::write(folder.path("d/new"), "new").unwrap();
            replace(&folder.path("d/new"), &folder.path("d/v"));
            assert!(file.look().unwrap());
            assert_eq!((file.path(), file.lost()), (&*folder.path("d/v"), Some(Lost::Replaced)));
        }
    }

    #[test]
    fn a_file_that_was_put_aside_for_another_is_found_where_it_is() {
        let (folder, mut file) = Folder::new();
        fs::rename(folder.path("d/v"), folder.path("d/v~")).unwrap();
        fs::write(folder.path("d/v"), "new").unwrap();
        assert!(file.look().unwrap());
        assert_eq!((file.path(), file.lost()), (&*folder.path("d/v~"), None));
    }

    #[test]
    fn a_file_with_another_name_elsewhere_is_lost_where_its_user_knows_it() {
        let (folder, mut file) = Folder::new();
        fs::hard_link(folder.path("d/v"), folder.path("backup")).unwrap();
        fs::remove_file(folder.path("d/v")).unwrap();
        file.look().unwrap();
        assert_eq!(file.lost(), Some(Lost::Deleted));
    }

    #[test]
    fn a_file_that_is_put_back_is_lost_no_more() {
        let (folder, mut file) = Folder::new();
        fs::hard_link(folder.path("d/v"), folder.path("backup")).unwrap();
        fs::remove_file(folder.path("d/v")).unwrap();
        file.look().unwrap();
        fs::rename(folder.path("backup"), folder.path("d/v")).unwrap();
        assert!(file.look().unwrap());
        assert_eq!((file.path(), file.lost()), (&*folder.path("d/v"), None));
    }

    #[test]
    fn a_file_that_never_had_a_name_cannot_lose_it() {
        let mut file = NamedFile::new(tempfile::tempfile().unwrap(), Path::new("shown")).unwrap();
        assert!(!file.is_watched());
        assert!(!file.look().unwrap());
        assert_eq!((file.path(), file.lost()), (Path::new("shown"), None));
    }

    #[test]
    fn a_name_that_others_took_away_on_a_server_is_missed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v");
        let device = fs::metadata(folder.path()).unwrap().dev();
        assert_eq!(without_name(&path, device), Some(Lost::Deleted));
        fs::write(&path, b"another").unwrap();
        assert_eq!(without_name(&path, device), Some(Lost::Replaced));
        assert_eq!(without_name(&path, device + 1), None, "it is covered");
        assert_eq!(without_name(&path.join("below"), device), None, "nobody knows");
    }

    #[test]
    fn the_names_that_nfs_and_fuse_give_a_deleted_file_are_known() {
        assert!(is_stand_in(Path::new("/n/.nfs000000000a2c00180000001")));
        assert!(is_stand_in(Path::new("/n/.fuse_hidden0000000300000001")));
        assert!(!is_stand_in(Path::new("/n/.nfsroot.vault")));
    }
}
