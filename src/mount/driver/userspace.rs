//! ext4 without privileges: `fuse2fs`, kept as a child of the server.
//!
//! What every version of it (1.47.4 is the newest known here) asks of us: it exits 0 even where it could not mount, so
//! the table of mounts is asked; it writes no journal, so [`e2fsck`] runs before each writable mount; it goes on
//! flushing after the unmount, so its end is awaited; where the block file fails under it, 1.47.0 hands out wrong data
//! (the error's number as a count of bytes read), so it must not outlive its server; it puts the device's name unescaped
//! into mount options, so it is given one that is made harmless.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::{
        fs::{FileExt, OpenOptionsExt, symlink},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{Volume, detach_files, e2fsck, find_mount, unmount_files};
use crate::{
    error::{Error, ErrorKind, Result},
    export::VOLUME_FILE,
    mount::{
        filesystem::{Contents, Superblock},
        fuse2fs::{Version, is_sound},
        idle::Sign,
        mountinfo::MountId,
        mountpoint::MountPoint,
        program,
        session::{DRIVER_LOG, SOURCE, Session},
        undo::{Part, Undo},
        ways::Means,
    },
    sys::{
        fuse_mount::is_connected,
        process::{Activity, ProcessId, end_with_parent, shield},
    },
    text::excerpt,
};

pub(super) fn mount(volume: Volume<'_>, mountpoint: &MountPoint, session: &mut Session) -> Result<()> {
    let Contents::Ext { needs_recovery, has_extents, has_reserve } = volume.superblock.contents else {
        return Err(unmountable(&volume.superblock));
    };
    let fuse2fs = fuse2fs()?;
    volume.options.check(volume.superblock.contents, Means::Fuse2fs)?;
    if !volume.read_only {
        e2fsck::repair_unasked(session, BLOCK_NAME, mountpoint.path())?;
        if !has_reserve {
            reserve_one_block(session)?;
        }
    } else if volume.shadow.is_some() {
        e2fsck::repair_in_memory(session, BLOCK_NAME)?;
    }
    let needs_recovery = needs_recovery && volume.leaves_journal();
    let version = Version::of(&fuse2fs, session.stop())?;
    if let (Some(missing), false) = (volume.missing_end, is_sound(version)) {
        return Err(unreadable(missing, version));
    }
    if !volume.read_only && !is_sound(version) {
        // What will damage this very volume is told each time.
        let told = if has_extents { &mut session.warnings } else { &mut session.standing };
        told.push(warning(version, has_extents));
    }
    if !volume.read_only {
        session.standing.push(LONG_NAMES.to_owned());
    }
    let mut options = options(volume.read_only, needs_recovery, version);
    if volume.options.forbids_programs() {
        options.push_str(",noexec");
    }
    let log =
        OpenOptions::new().create(true).append(true).mode(0o600).open(session.directory.join(DRIVER_LOG))?;
    let mut command = program::command(fuse2fs);
    command.current_dir(&session.directory).args(["-f", &source(session)?]).arg(mountpoint.path());
    command.args(["-o", &options]).stdout(Stdio::null()).stderr(log);
    // At a logout everybody is told to end: the volumes whose containers lie in this one go first.
    let child = shield(end_with_parent(&mut command)).spawn()?;
    let process = i32::try_from(child.id()).ok().and_then(ProcessId::of);
    let stop = Arc::clone(session.stop());
    let path = mountpoint.path().to_path_buf();
    let (block, errors) = (volume.block.to_path_buf(), recorded_errors(volume.block));
    let mut driver = Fuse2fs { child, path, id: None, stop, idle: Idle::default(), block, errors };
    session.sign = process.map(Sign::Worked).or(session.sign.take());
    let mounted = session
        .note(|record| record.driver_process = process)
        .and_then(|()| driver.wait_until_mounted(&session.directory, session.stop()));
    session.parts.push(driver);
    let id = mounted?;
    session.note(|record| record.mount = Some(id))
}

/// Whether the programs are installed.
///
/// # Errors
/// `Missing`, naming the package.
pub(super) fn check() -> Result<()> {
    fuse2fs().and_then(|_| e2fsck::program()).map(drop)
}

fn fuse2fs() -> Result<PathBuf> {
    program::require("fuse2fs", "fuse2fs")
}

/// Keeps one block for root where none is: `fuse2fs` takes that for "not set", and keeps a tenth of the volume from its owner.
/// Where it fails only space is lost.
fn reserve_one_block(session: &Session) -> Result<()> {
    let Some(tune2fs) = program::find("tune2fs") else { return Ok(()) };
    let mut command = program::command(tune2fs);
    program::run(command.current_dir(&session.directory).args(["-r", "1", BLOCK_NAME]), session.stop())?;
    Ok(())
}

/// What `fuse2fs` opens, and so what `df` and `mount` show: a link to the block file that is called like the container.
fn source(session: &Session) -> Result<String> {
    let source = source_of(session);
    fs::create_dir(session.directory.join(SOURCE))?;
    symlink(Path::new("..").join(BLOCK_NAME), session.directory.join(&source))?;
    Ok(source.to_string_lossy().into_owned())
}

/// What `df` and `mount` show of a container.
pub(super) fn source_of(session: &Session) -> PathBuf {
    Path::new(SOURCE).join(source_name(&session.record().entry.container))
}

/// The container's name without what could be taken for another option of the mount, or is too long for a file of its own.
fn source_name(container: &Path) -> String {
    let name = container.file_name().unwrap_or_default().to_string_lossy();
    let is_harmless = |c: char| c.is_alphanumeric() || "._-+@".contains(c);
    let name = name.replace(|c| !is_harmless(c), "_");
    if name.is_empty() || name.len() > 255 { VOLUME_FILE.to_owned() } else { name }
}

fn unmountable(superblock: &Superblock) -> Error {
    match superblock.contents {
        Contents::Unknown => superblock.unmountable(),
        other => Error::new(ErrorKind::Missing, format!("no driver mounts {other} without root"))
            .with_hint("mount it as root, or use mount --block to see the volume as a file"),
    }
}

/// The options for `fuse2fs`.
///
/// `fakeroot` always: without it `fuse2fs` checks the owners written in the volume against the caller, and a vault from
/// a machine where its owner had another number could not be written. It opens nothing to anyone: the kernel lets only
/// the mounting user in, and that user holds the whole volume anyway.
fn options(read_only: bool, needs_recovery: bool, version: Option<Version>) -> String {
    let mut options = String::from("fakeroot");
    if read_only {
        options.push_str(",ro");
    }
    if read_only && needs_recovery {
        options.push_str(",norecovery");
    }
    // From 1.47.3 on there is a cache of 32 MiB that is searched linearly: five times slower than a small one.
    if is_sound(version) {
        options.push_str(",cache_size=1m");
    }
    options
}

/// Old versions take an error's number for a count of bytes: files of which something is missing read as if they were whole.
fn unreadable(missing: &str, version: Option<Version>) -> Error {
    let name = version.map_or_else(|| "of unknown version".to_owned(), |version| version.to_string());
    let reason = format!("{missing}; this fuse2fs ({name}) would show wrong contents as if they were right");
    let hint = format!(
        "strongroom mount --block --read-only shows what is left; the files that are whole show with fuse2fs {} or newer, \
         and for a native container as root with the kernel driver",
        Version::FIXED
    );
    Error::new(ErrorKind::Damaged, reason).with_hint(hint)
}

/// What is true of an old or unknown version on a volume that it may write.
fn warning(version: Option<Version>, has_extents: bool) -> String {
    let Some(version) = version else {
        let risk = if has_extents { ", with extents above all, which this one has" } else { "" };
        return format!(
            "the version of this fuse2fs is unknown; those before {} damage file systems{risk}: keep a backup",
            Version::FIXED
        );
    };
    if has_extents {
        return format!(
            "fuse2fs {version} is known to damage file systems with extents, such as this one (fixed in {}): \
             update it, mount as root with the kernel driver or with --read-only, and keep a backup",
            Version::FIXED
        );
    }
    format!(
        "this system's fuse2fs ({version}) keeps no journal and can damage files (fixed in {}); \
         vaults that strongroom creates avoid the known cases: keep a backup",
        Version::FIXED
    )
}

/// The mounted file system and the process behind it.
#[derive(Debug)]
struct Fuse2fs {
    child: Child,
    path: PathBuf,
    id: Option<MountId>,
    stop: Arc<AtomicBool>,
    idle: Idle,
    block: PathBuf,
    /// What the file system said of errors when it was mounted.
    errors: Option<u32>,
}

/// How long the driver has done nothing: not even waited for its medium.
#[derive(Debug, Default)]
struct Idle {
    since: Option<Instant>,
    work: Option<Activity>,
}

impl Idle {
    /// Takes note of what it has done by now, and says how long it has done nothing.
    fn look(&mut self, now: Option<Activity>) -> Duration {
        if now.is_none_or(|now| now.is_waiting_for_io) || now != self.work {
            *self = Self { since: None, work: now };
        }
        self.since.get_or_insert_with(Instant::now).elapsed()
    }
}

impl Fuse2fs {
    fn wait_until_mounted(&mut self, directory: &Path, stop: &AtomicBool) -> Result<MountId> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if let Some(mount) = find_mount(&self.path, "fuse")? {
                self.id = Some(mount.id);
                return Ok(mount.id);
            }
            if self.child.try_wait()?.is_some() {
                let reason = format!("fuse2fs ended: {}", last_words(directory));
                return Err(Error::new(ErrorKind::Io, reason));
            }
            if stop.load(Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            if Instant::now() >= deadline {
                let reason = format!("fuse2fs did not mount within {} s", START_LIMIT.as_secs());
                return Err(Error::new(ErrorKind::Io, reason));
            }
            sleep(TICK);
        }
    }

    /// Unmounts it where it still is, with all that was written on its way to the process.
    fn unmount(&self) -> Result<()> {
        let Some(id) = self.id else { return Ok(()) };
        // One that was stopped (SIGSTOP) could answer nothing.
        self.signal(Signal::CONT)?;
        unmount_files(id, &self.stop)
    }

    /// Waits until the process has written back what it holds and ended. It does as soon as nobody uses the file system.
    ///
    /// # Errors
    /// `Busy` where it is still in use: mounted elsewhere, or detached with files open. `Io` where it hangs or was killed.
    fn wait_for_end(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return whole(status).and_then(|()| self.check_errors());
            }
            if self.is_still_used(start) {
                return Err(Error::new(ErrorKind::Busy, "fuse2fs still serves it"));
            }
            if self.stop.load(Ordering::Relaxed) || start.elapsed() >= FLUSHING {
                return Err(Error::new(ErrorKind::Busy, "fuse2fs is still writing"));
            }
            sleep(TICK);
        }
    }

    /// Whether the file system still has users, wherever they are. Where the kernel does not tell, a process that does nothing
    /// waits for them.
    fn is_still_used(&mut self, unmounted: Instant) -> bool {
        let Some(id) = self.id else { return false };
        if let Some(connected) = is_connected((id.major, id.minor)) {
            return connected && unmounted.elapsed() >= SHORTLY;
        }
        self.idle.look(self.process().and_then(ProcessId::activity)) >= IDLE
    }

    /// Waits for the process's end after its connection was ended; `None` where it hangs.
    ///
    /// Where the connection could not be ended, a signal does it. Not at once: a process that is leaving is killed by it, with
    /// what it has not written back yet.
    fn wait_for_forced_end(&mut self) -> Result<Option<ExitStatus>> {
        let start = Instant::now();
        self.idle = Idle::default();
        let mut is_told = false;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            let idle = self.idle.look(self.process().and_then(ProcessId::activity));
            if idle >= IDLE && !is_told {
                self.signal(Signal::INT)?;
                (is_told, self.idle) = (true, Idle::default());
            } else if idle >= FORCED_IDLE || start.elapsed() >= FORCED {
                return Ok(None);
            }
            sleep(TICK);
        }
    }

    /// Whether it met no error in the file system, as it notes there.
    fn check_errors(&self) -> Result<()> {
        let (before, now) =
            (self.errors.unwrap_or_default(), recorded_errors(&self.block).unwrap_or_default());
        if now <= before {
            return Ok(());
        }
        let reason = "fuse2fs noted an error in the file system: files or folders may be damaged or missing";
        Err(Error::new(ErrorKind::Io, reason))
    }

    fn process(&self) -> Option<ProcessId> {
        i32::try_from(self.child.id()).ok().and_then(ProcessId::of)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.process().map_or(Ok(()), |process| Ok(process.signal(signal)?))
    }
}

impl Part for Fuse2fs {
    fn name(&self) -> &'static str {
        "fuse2fs"
    }

    fn undo(&mut self, how: Undo) -> Result<()> {
        if how == Undo::Clean && self.id.is_some() {
            self.unmount()?;
            self.signal(Signal::CONT)?;
            // Cutting it short would lose data.
            return self.wait_for_end();
        }
        self.signal(Signal::CONT)?;
        // The process then writes back what it holds, and ends.
        let detached = self.id.map_or(Ok(()), detach_files);
        let ended = if let Some(status) = self.wait_for_forced_end()? {
            whole(status).and_then(|()| self.check_errors())
        } else {
            self.child.kill()?;
            self.child.wait()?;
            Err(Error::new(ErrorKind::Io, "fuse2fs hung: what it had not written back is lost"))
        };
        ended.and(detached)
    }
}

/// How many errors an ext file system says that it has met since it was last repaired; `None` where it cannot be asked.
fn recorded_errors(block: &Path) -> Option<u32> {
    let mut superblock = [0; 1024];
    File::open(block).and_then(|file| file.read_exact_at(&mut superblock, 1024)).ok()?;
    errors_in(&superblock)
}

fn errors_in(superblock: &[u8; 1024]) -> Option<u32> {
    let count = superblock.get(0x194..).and_then(|bytes| bytes.first_chunk().copied())?;
    let has_errors = superblock.get(0x38..0x3A)? == MAGIC && superblock.get(0x3A)? & HAS_ERRORS != 0;
    Some(if has_errors { u32::from_le_bytes(count).max(1) } else { 0 })
}

/// Whether it has come to its end by itself.
fn whole(status: ExitStatus) -> Result<()> {
    status.signal().map_or(Ok(()), |signal| {
        let reason = format!("fuse2fs was killed (signal {signal}): what it had not written back is lost");
        Err(Error::new(ErrorKind::Io, reason))
    })
}

/// The last line that `fuse2fs` wrote, without its prefix.
fn last_words(directory: &Path) -> String {
    let text = fs::read_to_string(directory.join(DRIVER_LOG)).unwrap_or_default();
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no reason given");
    excerpt(last.strip_prefix("fuse: ").unwrap_or(last))
}

/// True of every version (see `tests/vault/long_names.rs`): the kernel passes on names of up to 1024 bytes and more, and the
/// length of a name in a directory is one byte.
const LONG_NAMES: &str = "fuse2fs damages folders that hold names longer than 255 bytes (128 Cyrillic or 86 Japanese letters): use shorter ones";
/// Of an ext superblock, and the mark in its state that errors were met.
const MAGIC: [u8; 2] = [0x53, 0xEF];
const HAS_ERRORS: u8 = 2;
/// The block file as seen from the session's directory.
const BLOCK_NAME: &str = "block/volume";
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may write back what it holds.
const FLUSHING: Duration = Duration::from_secs(600);
/// How long it does nothing before it counts as in use.
const IDLE: Duration = Duration::from_secs(3);
/// How long the kernel may take to end a connection.
const SHORTLY: Duration = Duration::from_millis(500);
const FORCED: Duration = Duration::from_secs(30);
const FORCED_IDLE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_made_small_where_there_is_one() {
        assert_eq!(options(false, false, Some(Version(1, 47, 2))), "fakeroot");
        assert_eq!(options(false, false, Some(Version::FIXED)), "fakeroot,cache_size=1m");
    }

    #[test]
    fn a_container_lends_its_name_to_the_mount_where_that_does_no_harm() {
        for (container, expected) in [
            ("/home/anna/photos.vault", "photos.vault"),
            ("/home/anna/my photos,suid,dev.vault", "my_photos_suid_dev.vault"),
            ("/home/anna/a\\,b\n", "a__b_"),
            ("/home/anna/Füße", "Füße"),
            ("/", "volume"),
        ] {
            assert_eq!(source_name(Path::new(container)), expected);
        }
    }

    #[test]
    fn errors_count_where_the_file_system_says_that_it_met_some() {
        let mut superblock = [0; 1024];
        superblock[0x38..0x3A].copy_from_slice(&MAGIC);
        superblock[0x194] = 3;
        assert_eq!(errors_in(&superblock), Some(0));
        superblock[0x3A] = 3;
        assert_eq!(errors_in(&superblock), Some(3));
        superblock[0x194] = 0;
        assert_eq!(errors_in(&superblock), Some(1));
        superblock[0x38] = 0;
        assert_eq!(errors_in(&superblock), Some(0));
    }

    #[test]
    fn a_read_only_mount_replays_no_journal() {
        assert_eq!(options(true, true, None), "fakeroot,ro,norecovery");
        assert_eq!(options(true, false, None), "fakeroot,ro");
    }

    #[test]
    fn other_file_systems_need_root() {
        let error = unmountable(&Superblock { contents: Contents::Xfs, block_size: None, other: None });
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert!(error.hint().unwrap().contains("as root"));
    }

    #[test]
    fn an_unknown_file_system_needs_other_tools_and_not_root() {
        let error = unmountable(&Superblock { contents: Contents::Unknown, block_size: None, other: None });
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(!error.hint().unwrap().contains("root"));
    }

    #[test]
    fn the_warning_is_graver_where_extents_will_be_damaged() {
        let old = Some(Version(1, 47, 0));
        assert!(
            warning(old, true).starts_with("fuse2fs 1.47.0 is known to damage file systems with extents")
        );
        assert!(warning(old, false).starts_with("this system's fuse2fs (1.47.0) keeps no journal"));
        assert!(warning(None, true).contains("with extents above all"));
    }
}
