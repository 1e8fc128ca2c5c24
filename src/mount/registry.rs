//! What is mounted: one file a session, written by its server, believed only while that server lives.

use std::{
    fs::{self, DirEntry},
    io,
    ops::Range,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};
use serde::{Deserialize, Serialize};

use super::{
    asking::have_looked,
    bookmark::Bookmark,
    closing::{CloseAt, WhenBusy},
    full::Full,
    look::is_reached,
    mountinfo::{Mount, MountId, MountTable},
    namespaces, runtime,
    whereabouts::{Body, Lost, LostPieces},
};
use crate::{
    error::{Error, Result},
    export::{Share, VOLUME_FILE},
    sys::process::{ProcessId, boot_id},
    units::civil_date,
    volume::{Lack, Shortage, file_of},
};

/// One mounted volume, as `list` shows it.
#[allow(clippy::struct_excessive_bools, reason = "each is a field of the JSON that front ends read")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The container's path, also after it was renamed.
    #[serde(with = "crate::text::path")]
    pub container: PathBuf,
    /// How the container lost its name; none where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_state: Option<Lost>,
    /// Which pieces of a container in pieces were lost; none where only its header file was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_pieces: Option<LostPieces>,
    /// The header file's path; none where the header is in the container.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::text::path::optional")]
    pub header: Option<PathBuf>,
    /// How the header file lost its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_state: Option<Lost>,
    /// Where the file system shows; none with `--block`, and where it was detached while files are open.
    #[serde(default, with = "crate::text::path::optional")]
    pub mountpoint: Option<PathBuf>,
    /// The decrypted block file; none where its directory is gone, as after a logout.
    #[serde(default, with = "crate::text::path::optional")]
    pub block: Option<PathBuf>,
    /// `kernel`, `builtin`, `udisks`, or `none`.
    pub driver: String,
    /// The container's format.
    pub format: String,
    /// Whether writes are refused.
    pub read_only: bool,
    /// How it stands with the hidden volume that is protected; none where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protection: Option<Protection>,
    /// What came of writes that the container's medium did not take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unwritten: Option<Unwritten>,
    /// That its own file system is full, and what makes room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Full>,
    /// Since when nothing is written any more, as a write was lost; RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_at: Option<String>,
    /// The server.
    pub pid: i32,
    /// The container's identity, where its format knows one.
    pub uuid: Option<String>,
    /// RFC 3339, UTC.
    pub mounted_at: String,
    /// After how many seconds without use it closes itself; none where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<u64>,
    /// At what else it closes itself.
    #[serde(default)]
    pub close_at: CloseAt,
    /// Whether the medium of its container does not answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
    /// Whether it does not hear of sleep and logout now, as logind is not running.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unheard: bool,
    /// What becomes of it if it is in use then.
    #[serde(default)]
    pub when_busy: WhenBusy,
    /// With whom it is shared, by numbers; none where it is private.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_with: Option<Share>,
    /// Where in its file the container begins, in bytes; none where it is all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Whether its server was killed: nothing in it can be reached, and the next `mount` or `unmount` takes it away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead: bool,
}

/// What came of writes that the container's medium did not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unwritten {
    /// They wait until somebody makes room.
    Waiting,
    /// They wait until the file can be written again.
    Forbidden,
    /// They wait until the device is as long as it was.
    Short,
    /// Some were given up.
    Lost,
    /// The same, and the programs that made them were told: nothing is missing.
    Told,
}

impl Entry {
    /// What has the state `container_state`, of `whose` ("its") container, in words.
    pub fn lost_in_words(&self, whose: &str) -> String {
        match &self.lost_pieces {
            Some(pieces) => pieces.told(whose, &self.container),
            None => format!("{whose} container {}", self.container.display()),
        }
    }

    /// Where it shows: its mount point, or the directory of its block file where it has no driver. `None` where it was detached.
    pub fn shown_at(&self) -> Option<PathBuf> {
        if self.driver != "none" {
            return self.mountpoint.clone();
        }
        self.block.as_deref().and_then(Path::parent).map(Path::to_path_buf)
    }
}

impl Unwritten {
    pub(super) fn of(shortage: &Shortage) -> Option<Self> {
        shortage.lack().map(|lack| match lack {
            Lack::Waiting => Self::Waiting,
            Lack::Forbidden => Self::Forbidden,
            Lack::Short => Self::Short,
            Lack::Refused => Self::Lost,
            Lack::Told => Self::Told,
        })
    }

    /// Whether they wait for what a copy on another disk does not.
    pub(super) const fn goes_to_a_copy(self) -> bool {
        matches!(self, Self::Waiting | Self::Forbidden)
    }

    /// Whether they wait, so that nothing is lost yet.
    pub(super) const fn waits(self) -> bool {
        matches!(self, Self::Waiting | Self::Forbidden | Self::Short)
    }

    /// The words for it in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "its disk is full",
            Self::Forbidden => "it cannot be written",
            Self::Short => "its device is too short",
            Self::Lost => "not everything was saved",
            Self::Told => "its disk is full, and programs are told so",
        }
    }
}

/// How it stands with a protected hidden volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// No write has come near it.
    Active,
    /// A write would have touched it: that one was refused, and so is everything since.
    Triggered,
}

/// All that a session leaves behind, should its server be killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What `list` shows.
    #[serde(flatten)]
    pub entry: Entry,
    /// False until the volume is usable, and always for a session that a command keeps for itself.
    pub ready: bool,
    /// The run of the kernel that all numbers below belong to.
    pub boot_id: String,
    /// The server.
    pub server: ProcessId,
    /// The mount namespace that the mounts below are numbered in; none where that could not be told.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The container's device and inode number: its name may change meanwhile.
    pub container_file: (u64, u64),
    /// The part of that file that is the container, where it is not all of it.
    #[serde(default)]
    pub section: Option<Range<u64>>,
    /// Where the container's data are.
    #[serde(default)]
    pub body: Body,
    /// Whether the mount point was made for this mount, and goes with it.
    #[serde(default)]
    pub made_mountpoint: bool,
    /// The names that the container had before.
    #[serde(default, with = "crate::text::path::list")]
    pub former_names: Vec<PathBuf>,
    /// Whether the volume is down, and its container lost and not saved yet: only its server holds it.
    #[serde(default)]
    pub is_held: bool,
    /// The directory that the block file's mount is on.
    #[serde(with = "crate::text::path")]
    pub block_directory: PathBuf,
    /// The mount of the block file.
    pub block_mount: Option<MountId>,
    /// The mount of the file system.
    pub mount: Option<MountId>,
    /// The bookmark that goes with the volume.
    #[serde(default)]
    pub bookmark: Option<Bookmark>,
    /// The loop device of the kernel and udisks drivers.
    #[serde(default, with = "crate::text::path::optional")]
    pub loop_device: Option<PathBuf>,
}

/// A session directory with what its record says.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// The directory.
    pub directory: PathBuf,
    /// Its record; none where the server was killed before it wrote one.
    pub record: Option<Record>,
}

impl Record {
    /// Writes the record into `directory`, whole or not at all.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let written = self.try_to_write(directory);
        written.map_err(|error| Error::from(error).during(format!("cannot write to {}", directory.display())))
    }

    fn try_to_write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::from)?;
        let new = directory.join("session.json.new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        io::Write::write_all(&mut file, &text)?;
        fs::rename(&new, directory.join(RECORD))
    }

    /// Whether the server still runs.
    pub fn is_alive(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot_id) && self.server.is_alive()
    }

    /// Whether `path` is what this session calls its container, mount point, block file or directory.
    fn is_named(&self, path: &Path) -> bool {
        self.entry.mountpoint.as_deref() == Some(path)
            || self.entry.block.as_deref() == Some(path)
            || self.block_directory == path
            || self.entry.container == path
            // A folder of pieces is called by its own name, too.
            || (self.body == Body::Pieces && self.entry.container.parent() == Some(path))
    }

    /// What a command calls the container: a folder of pieces by its own name.
    pub(super) fn container_named(&self) -> &Path {
        let container = self.entry.container.as_path();
        let folder = container.parent().filter(|_| self.body == Body::Pieces);
        folder.unwrap_or(container)
    }

    /// What it has, with that name for the container.
    pub(super) fn as_called(&self) -> Entry {
        Entry { container: self.container_named().to_path_buf(), ..self.entry.clone() }
    }

    /// Whether the container bore the name `path` once.
    fn was_named(&self, path: &Path) -> bool {
        self.former_names.iter().any(|name| name == path)
    }

    /// Notes where the container is now, and its header file.
    pub(super) fn follow(&mut self, container: &Path, state: Option<Lost>) {
        if self.entry.container != container {
            let former = std::mem::replace(&mut self.entry.container, container.to_path_buf());
            self.former_names.retain(|name| *name != former && name != container);
            self.former_names.push(former);
            let surplus = self.former_names.len().saturating_sub(MOST_NAMES);
            self.former_names.drain(..surplus);
        }
        self.entry.container_state = state;
    }

    /// One of its mounts, while that is there. Once all is down, what bears the same numbers is another's.
    fn mount_of<'a>(&self, id: Option<MountId>, table: &'a MountTable) -> Option<&'a Mount> {
        id.filter(|_| !self.is_held).and_then(|id| table.find(id))
    }

    /// The same with the places where it shows now: folders above them may have been renamed.
    pub(super) fn located(mut self, table: &MountTable) -> Self {
        let now = |id: Option<MountId>| self.mount_of(id, table).map(|mount| mount.mountpoint.clone());
        let (mount, block) = (now(self.mount), now(self.block_mount));
        if let Some(place) = mount {
            self.entry.mountpoint = Some(place);
        }
        if let Some(place) = block {
            self.entry.block = Some(place.join(VOLUME_FILE));
            self.block_directory = place;
        }
        self
    }

    /// Whether something of it still shows.
    fn is_visible(&self, table: &MountTable) -> bool {
        [self.mount, self.block_mount].into_iter().any(|id| self.mount_of(id, table).is_some())
    }

    /// Where the volume shows.
    pub(super) fn place(&self) -> &Path {
        self.entry.mountpoint.as_deref().unwrap_or(&self.block_directory)
    }

    /// Whether what the user was given does not show any more, though the server may still wait for open files.
    pub(super) fn is_detached(&self, table: &MountTable) -> bool {
        let shown = self.mount.or(self.block_mount);
        shown.is_some() && self.mount_of(shown, table).is_none()
    }

    /// The entry as it is now: without the places that do not show any more.
    pub(super) fn shown(&self, table: &MountTable) -> Entry {
        if self.namespace.is_some() && self.namespace != namespaces::own() {
            // Mounts have other numbers here.
            return self.as_called();
        }
        let is_gone = |id: Option<MountId>| id.is_some() && self.mount_of(id, table).is_none();
        let mut entry = self.clone().located(table).as_called();
        entry.mountpoint = entry.mountpoint.filter(|_| !is_gone(self.mount));
        entry.block = entry.block.filter(|_| !is_gone(self.block_mount));
        entry
    }
}

/// Whose names count.
#[derive(Debug, Clone, Copy)]
enum When {
    /// Those that it has now.
    Now,
    /// Those that it had when it was mounted.
    Mounted,
}

/// The sessions that `path` names: by container (by any name), mount point, block file or directory, as they are called now or,
/// where none is, as they were when they were mounted.
///
/// The name alone comes first, and a file is looked at last of all, without asking its server: a dead mount cannot be
/// resolved, a hanging one would keep us, and a container may have been deleted.
pub(super) fn named(
    sessions: Vec<(Session, Record)>,
    path: &Path,
    table: &MountTable,
) -> Vec<(Session, Record)> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let names: [&dyn Fn() -> Option<PathBuf>; 3] =
        [&|| Some(absolute.clone()), &|| resolved(&absolute), &|| fs::canonicalize(&absolute).ok()];
    for when in [When::Now, When::Mounted] {
        for name in names.iter().filter_map(|name| name()) {
            let is_meant = |(_, record): &(Session, Record)| match when {
                When::Now => record.clone().located(table).is_named(&name),
                When::Mounted => record.is_named(&name),
            };
            if sessions.iter().any(is_meant) {
                let mut found: Vec<_> = sessions.into_iter().filter(is_meant).collect();
                // The name may lead to a newer file, which is mounted as well: then that one is meant.
                let has_its_name = |(_, record): &(Session, Record)| {
                    !record.entry.container_state.is_some_and(Lost::is_nameless)
                };
                if found.iter().any(has_its_name) {
                    found.retain(has_its_name);
                }
                return found;
            }
        }
    }
    let file = file_id(&absolute);
    if file.is_some_and(|file| sessions.iter().any(|(_, record)| record.container_file == file)) {
        return sessions.into_iter().filter(|(_, record)| Some(record.container_file) == file).collect();
    }
    if file.is_some() {
        // It leads to another file now.
        return Vec::new();
    }
    let mut former = names.iter().filter_map(|name| name());
    let Some(name) = former.find(|name| sessions.iter().any(|(_, record)| record.was_named(name))) else {
        return Vec::new();
    };
    let mut found: Vec<_> = sessions.into_iter().filter(|(_, record)| record.was_named(&name)).collect();
    if found.len() > 1 {
        // Which of them is meant nobody can tell.
        found.clear();
    }
    found
}

/// The live sessions whose containers lie in the volume of `record`.
pub(super) fn inner_ones(record: &Record, sessions: Vec<Session>) -> Vec<Record> {
    let Some(id) = record.mount.or(record.block_mount).filter(|_| !record.is_held) else { return Vec::new() };
    let others = sessions.into_iter().filter_map(|session| session.record);
    others
        .filter(|other| other.server != record.server && other.is_alive() && is_in(other, id, record.place()))
        .collect()
}

/// Whether the container of `other` lies in the mount `id` on `path`.
fn is_in(other: &Record, id: MountId, path: &Path) -> bool {
    let (device, _) = other.container_file;
    device == makedev(id.major, id.minor) || other.entry.container.starts_with(path)
}

/// A file's device and inode number, without asking the server of its file system.
pub(super) fn file_id(path: &Path) -> Option<(u64, u64)> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let stat = statx(CWD, path, flags, StatxFlags::INO).ok()?;
    Some((makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino))
}

/// All sessions of the caller, dead ones too.
pub(super) fn sessions() -> Vec<Session> {
    sessions_in(&runtime::existing())
}

/// As [`sessions`], when each server that was killed a moment ago has ended: its threads hold the lock until then, which takes as
/// long as what they last asked of the medium.
pub(super) fn settled_sessions() -> Vec<Session> {
    settled_within(ENDING_LIMIT)
}

/// The same, all of them waited for so long at most.
fn settled_within(limit: Duration) -> Vec<Session> {
    let sessions = sessions();
    let deadline = Instant::now() + limit;
    for record in sessions.iter().filter_map(|session| session.record.as_ref()) {
        while record.server.is_ending() && Instant::now() < deadline {
            sleep(Duration::from_millis(10));
        }
    }
    sessions
}

/// As [`settled_sessions`], when each server whose container is said to be at `path`, where another file is, has noticed that.
///
/// The name alone comes first: the file is looked at only where it may be such a container, and not for ever, as its medium may hang.
pub(super) fn sessions_settled_for(path: &Path) -> Vec<Session> {
    let mut sessions = settled_sessions();
    sessions.extend(sessions_elsewhere());
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let table = MountTable::read().unwrap_or_default();
    let records = || sessions.iter().filter_map(|session| session.record.as_ref());
    let is_container = records().any(|record| record.entry.container == absolute);
    if !is_container && records().any(|record| record.clone().located(&table).is_named(&absolute)) {
        return sessions;
    }
    if !is_reached(&absolute, is_container.then_some(NOTICING_LIMIT)) {
        return sessions;
    }
    let Some(file) = file_id(&absolute) else { return sessions };
    let resolved = resolved(&absolute);
    let deadline = Instant::now() + NOTICING_LIMIT;
    let names = [resolved, Some(absolute)];
    loop {
        let is_behind = |record: &Record| {
            names.iter().flatten().any(|name| *name == record.entry.container)
                && record.container_file != file
                && record.entry.container_state.is_none()
                && record.is_alive()
        };
        let are_behind = sessions.iter().filter_map(|session| session.record.as_ref()).any(is_behind);
        if !are_behind || Instant::now() >= deadline {
            return sessions;
        }
        sleep(Duration::from_millis(10));
        sessions = settled_sessions();
        sessions.extend(sessions_elsewhere());
    }
}

/// An absolute path without links in its folder; the file itself is not looked at: a file system may be mounted there whose server
/// does not answer.
fn resolved(absolute: &Path) -> Option<PathBuf> {
    Some(fs::canonicalize(absolute.parent()?).ok()?.join(absolute.file_name()?))
}

/// All sessions below some runtime directories.
pub(super) fn sessions_in(runtimes: &[PathBuf]) -> Vec<Session> {
    let mut sessions = Vec::new();
    for runtime in runtimes {
        let Ok(entries) = fs::read_dir(runtime) else { continue };
        // A sign leads to a session elsewhere, which is not meant.
        let is_session = |entry: &DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        sessions.extend(entries.flatten().filter(is_session).map(|entry| session_in(entry.path())));
    }
    sessions.sort_by(|a, b| a.directory.cmp(&b.directory));
    sessions
}

/// The session of a directory.
fn session_in(directory: PathBuf) -> Session {
    let record = fs::read(directory.join(RECORD)).ok();
    let record = record.and_then(|text| serde_json::from_slice(&text).ok());
    Session { directory, record }
}

/// The caller's live sessions in other runtime directories than this environment names: found by name alone, and listed apart.
pub(super) fn sessions_elsewhere() -> Vec<Session> {
    let mut sessions: Vec<_> = runtime::sessions_elsewhere().into_iter().map(session_in).collect();
    sessions
        .retain(|session| session.record.as_ref().is_some_and(|record| record.ready && record.is_alive()));
    sessions
}

/// The caller's sessions, whatever environment they were made in.
pub(super) fn sessions_anywhere() -> Vec<Session> {
    let mut sessions = sessions();
    sessions.extend(sessions_elsewhere());
    sessions
}

/// What the caller has mounted: sessions that are ready and whose server lives, and what killed servers left. Root does not see
/// other users' volumes, as their directories are private.
pub fn list() -> Vec<Entry> {
    let found = sessions();
    let records =
        found.iter().filter_map(|session| Some((session.directory.as_path(), session.record.as_ref()?)));
    have_looked(records, &AtomicBool::new(false));
    as_noted()
}

/// The same as the servers have noted it, who are asked nothing.
pub fn as_noted() -> Vec<Entry> {
    let table = MountTable::read().unwrap_or_default();
    // Also of one whose threads hang with its medium, it is told that it is dead.
    let mut sessions = settled_within(MOMENT);
    let deadline = Instant::now() + MOMENT;
    while sessions.iter().filter_map(|session| session.record.as_ref()).any(is_behind_its_header)
        && Instant::now() < deadline
    {
        sleep(Duration::from_millis(20));
        sessions = settled_within(MOMENT);
    }
    let records = sessions.into_iter().filter_map(|session| session.record);
    let mut entries: Vec<_> = records.filter_map(|record| listed(&record, &table)).collect();
    entries.sort_by(|a, b| a.mounted_at.cmp(&b.mounted_at).then(a.pid.cmp(&b.pid)));
    entries
}

/// Whether something has just happened to its header file of which its server has not told yet.
fn is_behind_its_header(record: &Record) -> bool {
    let Some(header) = record.entry.header.as_deref().filter(|_| record.entry.header_state.is_none()) else {
        return false;
    };
    if !record.is_alive() || !is_reached(header, Some(MOMENT)) {
        return false;
    }
    fs::symlink_metadata(header).map_or(true, |found| {
        let changed =
            u64::try_from(found.ctime()).ok().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        changed
            .and_then(|changed| SystemTime::now().duration_since(changed).ok())
            .is_some_and(|age| age < JUST_NOW)
    })
}

/// What `list` shows of a session; nothing of one that is just being made, or of which nothing is left.
fn listed(record: &Record, table: &MountTable) -> Option<Entry> {
    if record.is_alive() && !record.server.is_ending() {
        return record.ready.then(|| record.shown(table));
    }
    let is_left = boot_id().is_ok_and(|boot| boot == record.boot_id) && record.is_visible(table);
    is_left.then(|| Entry { dead: true, ..record.shown(table) })
}

/// The session that holds the container with this device and inode number, one that is just being made included.
pub fn holding(container_file: (u64, u64)) -> Option<Entry> {
    let table = MountTable::read().unwrap_or_default();
    alive(container_file).map(|record| record.shown(&table))
}

/// The same of a session whose volume can be used.
pub fn shown(container_file: (u64, u64)) -> Option<Entry> {
    let table = MountTable::read().unwrap_or_default();
    alive(container_file).filter(|record| record.ready).map(|record| record.shown(&table))
}

fn alive(container_file: (u64, u64)) -> Option<Record> {
    let mut records = sessions_anywhere().into_iter().filter_map(|session| session.record);
    records.find(|record| record.container_file == container_file && record.is_alive())
}

/// The directory and the record of the living session that holds the container at `path`, this part of the file.
pub(super) fn living(path: &Path, section: Option<&Range<u64>>) -> Option<(PathBuf, Record)> {
    let (device, number) = file_id(&file_of(path))?;
    sessions_anywhere().into_iter().find_map(|session| {
        let record = session.record.filter(|record| {
            record.container_file == (device, number)
                && record.section.as_ref() == section
                && record.is_alive()
        })?;
        Some((session.directory, record))
    })
}

/// A name by which a command finds the volume of `entry`, and no other: where it shows, its container's, or its session's.
pub fn name_for(entry: &Entry) -> PathBuf {
    let table = MountTable::read().unwrap_or_default();
    let sessions = sessions().into_iter().filter_map(|session| Some((session.clone(), session.record?)));
    let sessions: Vec<_> = sessions.collect();
    let Some((_, own)) = sessions.iter().find(|(_, record)| record.entry.pid == entry.pid) else {
        return entry.container.clone();
    };
    let place = own.shown(&table).shown_at();
    let finds_only_it = |name: &Path| {
        let mut found = named(sessions.clone(), name, &table);
        if found.iter().any(|(_, record)| record.is_alive()) {
            found.retain(|(_, record)| record.is_alive());
        }
        matches!(&*found, [(_, found)] if found.server == own.server)
    };
    let names = place.into_iter().chain([entry.container.clone()]);
    let mut names = names.filter(|name| finds_only_it(name));
    names.next().unwrap_or_else(|| own.block_directory.clone())
}

/// Now, as RFC 3339 in UTC.
pub(super) fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    timestamp(seconds)
}

/// Seconds since 1970 as RFC 3339 in UTC.
fn timestamp(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// For how long its server may not have told of what happened to a file.
const JUST_NOW: Duration = Duration::from_secs(2);
/// So many former names of a container are remembered.
const MOST_NAMES: usize = 8;
/// For how long a killed server is waited for.
const ENDING_LIMIT: Duration = Duration::from_secs(2);
/// The same for a list of what there is: those that end by then are no longer shown.
const MOMENT: Duration = Duration::from_millis(300);
/// How long a server may take to notice that its container was renamed or replaced; on a network file system it does not.
const NOTICING_LIMIT: Duration = Duration::from_secs(2);
/// The record's name in a session's directory.
pub(super) const RECORD: &str = "session.json";

#[cfg(test)]
mod tests {
    use super::*;

    /// Where nothing of them is mounted any more.
    fn named(sessions: Vec<(Session, Record)>, path: &Path) -> Vec<(Session, Record)> {
        super::named(sessions, path, &MountTable::default())
    }

    fn record() -> Record {
        Record {
            entry: Entry {
                container: "/home/a/photos.vault".into(),
                container_state: None,
                lost_pieces: None,
                header: None,
                header_state: None,
                mountpoint: Some("/home/a/photos".into()),
                block: Some("/run/user/1000/strongroom/7-9/block/volume".into()),
                driver: "builtin".into(),
                format: "native".into(),
                read_only: false,
                protection: None,
                unwritten: None,
                full: None,
                lost_at: None,
                pid: 7,
                uuid: None,
                mounted_at: timestamp(0),
                idle: None,
                close_at: CloseAt::default(),
                silent: false,
                unheard: false,
                when_busy: WhenBusy::default(),
                shared_with: None,
                offset: None,
                dead: false,
            },
            ready: true,
            boot_id: boot_id().unwrap(),
            namespace: None,
            server: ProcessId::current().unwrap(),
            container_file: (1, 2),
            section: None,
            body: Body::Itself,
            made_mountpoint: false,
            former_names: Vec::new(),
            is_held: false,
            block_directory: "/run/user/1000/strongroom/7-9/block".into(),
            block_mount: Some(MountId::new(5, 0, 44)),
            mount: None,
            bookmark: None,
            loop_device: None,
        }
    }

    #[test]
    fn a_record_is_read_back_as_written() {
        let directory = tempfile::tempdir().unwrap();
        record().write(directory.path()).unwrap();
        let text = fs::read(directory.path().join(RECORD)).unwrap();
        assert_eq!(serde_json::from_slice::<Record>(&text).unwrap(), record());
    }

    #[test]
    fn a_record_of_another_boot_is_dead() {
        assert!(record().is_alive());
        assert!(!Record { boot_id: "another".into(), ..record() }.is_alive());
    }

    fn answers_to(record: Record, name: &Path) -> bool {
        let session = Session { directory: "/nowhere".into(), record: None };
        !named(vec![(session, record)], name).is_empty()
    }

    #[test]
    fn a_session_answers_to_its_container_mount_point_and_block() {
        for name in ["/home/a/photos.vault", "/home/a/photos/", "/run/user/1000/strongroom/7-9/block/volume"]
        {
            assert!(answers_to(record(), Path::new(name)), "{name}");
        }
        assert!(!answers_to(record(), Path::new("/home/a")));
    }

    #[test]
    fn a_renamed_container_still_names_its_session() {
        use std::os::unix::fs::MetadataExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        let meta = file.as_file().metadata().unwrap();
        let record = Record { container_file: (meta.dev(), meta.ino()), ..record() };
        assert!(answers_to(record, file.path()));
    }

    fn session(record: Record) -> (Session, Record) {
        (Session { directory: "/nowhere".into(), record: None }, record)
    }

    #[test]
    fn a_renamed_container_answers_to_its_former_names_until_another_one_bears_them() {
        let mut renamed = record();
        renamed.follow(Path::new("/home/a/new.vault"), None);
        renamed.follow(Path::new("/home/a/newest.vault"), None);
        for name in ["/home/a/photos.vault", "/home/a/new.vault", "/home/a/newest.vault"] {
            assert_eq!(named(vec![session(renamed.clone())], Path::new(name)).len(), 1, "{name}");
        }
        let other = Record { container_file: (1, 3), ..record() };
        let found = named(vec![session(renamed), session(other.clone())], Path::new("/home/a/photos.vault"));
        assert_eq!(found.iter().map(|(_, record)| record).collect::<Vec<_>>(), [&other]);
    }

    #[test]
    fn a_former_name_that_leads_to_another_file_names_nothing() {
        let mut renamed = record();
        let other = tempfile::NamedTempFile::new().unwrap();
        renamed.follow(other.path(), None);
        renamed.follow(Path::new("/home/a/new.vault"), None);
        assert!(!answers_to(renamed, other.path()));
    }

    #[test]
    fn a_mount_of_another_namespace_is_shown_where_its_server_has_it() {
        let elsewhere =
            Record { namespace: Some("mnt:[1]".into()), mount: Some(MountId::new(9, 7, 0)), ..record() };
        assert_eq!(elsewhere.shown(&MountTable::default()), elsewhere.entry);
        let here = Record { namespace: namespaces::own(), ..elsewhere };
        assert_eq!(here.shown(&MountTable::default()).mountpoint, None);
    }

    #[test]
    fn a_former_name_of_two_containers_names_neither() {
        let mut one = record();
        one.follow(Path::new("/home/a/one"), None);
        let mut two = Record { container_file: (1, 3), ..record() };
        two.follow(Path::new("/home/a/two"), None);
        assert_eq!(named(vec![session(one), session(two)], Path::new("/home/a/photos.vault")).len(), 0);
    }

    #[test]
    fn the_name_of_a_replaced_container_means_the_new_one_where_both_are_mounted() {
        let mut replaced = record();
        replaced.follow(&replaced.entry.container.clone(), Some(Lost::Replaced));
        let name = replaced.entry.container.clone();
        assert_eq!(named(vec![session(replaced.clone())], &name).len(), 1);
        let mut newer = Record { container_file: (1, 3), ..record() };
        newer.entry.mountpoint = Some("/home/a/other".into());
        let found = named(vec![session(replaced), session(newer.clone())], &name);
        assert_eq!(found.iter().map(|(_, record)| record).collect::<Vec<_>>(), [&newer]);
    }

    #[test]
    fn a_mount_point_is_named_through_links() {
        let directory = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir(real.join("mnt")).unwrap();
        std::os::unix::fs::symlink(&real, real.join("folder")).unwrap();
        std::os::unix::fs::symlink("mnt", real.join("link")).unwrap();
        for name in ["folder/mnt", "link", "folder/link", "mnt/../mnt"] {
            let mut record = record();
            record.entry.mountpoint = Some(real.join("mnt"));
            assert!(answers_to(record, &real.join(name)), "{name}");
        }
    }

    #[test]
    fn a_renamed_mount_is_found_and_shown_by_its_new_name() {
        let mut record = record();
        record.mount = Some(MountId::new(6, 0, 45));
        let table = MountTable::parse(b"6 1 0:45 / /home/a/renamed/photos rw - fuse f rw\n");
        assert_eq!(record.shown(&table).mountpoint, Some("/home/a/renamed/photos".into()));
        let session = |record: &Record| (Session { directory: "/d".into(), record: None }, record.clone());
        let finds = |sessions: Vec<_>, name: &str| {
            let found = super::named(sessions, Path::new(name), &table);
            found.iter().map(|(_, record)| record.entry.pid).collect::<Vec<_>>()
        };
        assert_eq!(finds(vec![session(&record)], "/home/a/renamed/photos"), [7]);
        assert_eq!(finds(vec![session(&record)], "/home/a/photos"), [7]);
        // Who is there by now is meant.
        let mut newer = record.clone();
        newer.entry.mountpoint = Some("/elsewhere".into());
        newer.mount = Some(MountId::new(8, 0, 46));
        newer.entry.pid = 9;
        let table = MountTable::parse(
            b"6 1 0:45 / /home/a/renamed/photos rw - fuse f rw\n8 1 0:46 / /home/a/photos rw - fuse f rw\n",
        );
        let found =
            super::named(vec![session(&record), session(&newer)], Path::new("/home/a/photos"), &table);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].1.entry.pid, 9);
    }

    #[test]
    fn what_is_left_of_a_killed_server_is_listed_as_dead() {
        let dead = Record { server: ProcessId { pid: 1, started: u64::MAX }, ..record() };
        let table = MountTable::parse(b"5 1 0:44 / /b rw - fuse f rw\n");
        assert!(listed(&dead, &table).is_some_and(|entry| entry.dead));
        assert_eq!(listed(&dead, &MountTable::default()), None);
        assert_eq!(listed(&Record { boot_id: "another".into(), ..dead }, &table), None);
        assert!(listed(&record(), &table).is_some_and(|entry| !entry.dead));
    }

    #[test]
    fn what_is_not_mounted_is_not_shown() {
        let mut record = record();
        record.mount = Some(MountId::new(6, 0, 45));
        let block = "5 1 0:44 / /run/user/1000/strongroom/7-9/block rw - fuse f rw\n";
        let table = MountTable::parse(block.as_bytes());
        assert!(record.is_detached(&table));
        let entry = record.shown(&table);
        assert_eq!((entry.mountpoint, entry.block), (None, record.entry.block.clone()));
        let table =
            MountTable::parse(format!("{block}6 1 0:45 / /home/a/photos rw - fuse f rw\n").as_bytes());
        assert!(!record.is_detached(&table));
        assert_eq!(record.shown(&table), record.entry);
    }

    #[test]
    fn timestamps_are_civil_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_868_799), "2000-02-29T23:59:59Z");
        assert_eq!(timestamp(1_795_374_245), "2026-11-22T19:04:05Z");
    }
}
