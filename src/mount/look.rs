//! A look into all processes, or at a path, that cannot hang: another process looks, and is given up where it is not answered.
//!
//! What `/proc` shows of a process may wait for locks of that process, and for the server of a file system that it uses. Where
//! one hangs in the kernel, whoever looks at it may hang beside it, out of reach of every signal.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{self, File, Metadata},
    io::{self, BufRead, BufReader, PipeReader, Read, Write},
    ops::RangeInclusive,
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{AtFlags, CWD, StatxFlags, statvfs, statx},
};

use super::program;
use crate::sys::{
    mount_number::unique_number_behind,
    process::{Activity, ProcessId, end_with_parent, shares_files},
};

/// The hidden first argument that makes this program look into processes: for what, and between which numbers.
pub const LOOK: &str = "__look";

/// The hidden first argument that makes this program ask for what is at a path.
pub const REACH: &str = "__reach";

/// Whether the medium of what is at `path` answers: waits for that, so long at most.
///
/// Another process asks it, because who waits for a medium may be out of reach of every signal, and so may be whoever only asks for
/// the same name. Where none can be started it is taken for granted.
pub fn is_reached(path: &Path, limit: Option<Duration>) -> bool {
    let Ok(path) = std::path::absolute(path) else { return true };
    let mut command = program::command("/proc/self/exe");
    command.arg0("strongroom").arg(REACH).arg(path);
    let Ok((reader, writer)) = io::pipe() else { return true };
    let child = end_with_parent(&mut command).stdout(writer).stderr(Stdio::null()).spawn();
    drop(command);
    let Ok(mut child) = child else { return true };
    let deadline = limit.map(|limit| Instant::now() + limit);
    let reader = BufReader::new(reader);
    // Nothing is written: the pipe ends with the process.
    while !is_readable(&reader, STANDSTILL) {
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            // Not waited for: it may wait in the kernel, where no signal reaches it.
            let _ = child.kill();
            return false;
        }
    }
    let _ = child.wait();
    true
}

/// The other process's whole life: what the commands ask for first. What it finds they find again.
pub fn reach(path: &Path) -> ExitCode {
    let there = fs::metadata(path);
    if there.as_ref().is_ok_and(Metadata::is_file) {
        let _ = File::open(path).and_then(|mut file| file.read(&mut [0; 512]));
    }
    let folder = if there.as_ref().is_ok_and(Metadata::is_dir) { Some(path) } else { path.parent() };
    if let Some(folder) = folder {
        let _ = fs::read_dir(folder).map(|mut entries| entries.next().is_some());
        let _ = statvfs(folder);
    }
    ExitCode::SUCCESS
}

/// What a process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Any file of this file system, by the device number's parts.
    FileSystem(u32, u32),
    /// This file: the same and the inode number.
    File(u32, u32, u64),
    /// Any file that was reached through the mount with this number for good: the subvolumes of btrfs have device numbers of their own.
    Mount(u64),
}

impl Wanted {
    /// The file at `path`. Follows links, and asks no server: a dead or busy FUSE mount must not hold us up.
    pub(super) fn file(path: &Path) -> Option<Self> {
        FileId::of(path).map(|file| Self::File(file.major, file.minor, file.inode))
    }

    fn is(self, file: FileId) -> bool {
        match self {
            Self::FileSystem(major, minor) => (file.major, file.minor) == (major, minor),
            Self::File(major, minor, inode) => file == FileId { major, minor, inode },
            Self::Mount(_) => false,
        }
    }

    /// Whether a link of `/proc` leads to it.
    fn is_at(self, link: &Path) -> bool {
        match self {
            Self::Mount(number) => unique_number_behind(link) == Some(number),
            _ => FileId::of(link).is_some_and(|file| self.is(file)),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileSystem(major, minor) => write!(f, "{major}:{minor}"),
            Self::File(major, minor, inode) => write!(f, "{major}:{minor}:{inode}"),
            Self::Mount(number) => write!(f, "{MOUNT}{number}"),
        }
    }
}

impl FromStr for Wanted {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let no = || io::Error::from(io::ErrorKind::InvalidInput);
        if let Some(number) = text.strip_prefix(MOUNT) {
            return number.parse().map(Self::Mount).map_err(|_| no());
        }
        let mut parts = text.split(':');
        let mut part = || parts.next()?.parse::<u64>().ok();
        let (major, minor, inode) = (part().ok_or_else(no)?, part().ok_or_else(no)?, part());
        let number = |part: u64| u32::try_from(part).map_err(|_| no());
        let (major, minor) = (number(major)?, number(minor)?);
        Ok(inode.map_or(Self::FileSystem(major, minor), |inode| Self::File(major, minor, inode)))
    }
}

/// What a look found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The processes that use it.
    pub users: BTreeSet<i32>,
    /// Those that did not answer.
    pub hanging: BTreeSet<i32>,
    /// Whether there was no time for the rest.
    pub is_cut_short: bool,
}

/// Which processes of those that the caller may look into use what is wanted. Takes two seconds at most, or ten on a machine
/// that is busy.
pub(super) fn processes(wanted: Wanted) -> Seen {
    let deadline = Instant::now() + LIMIT;
    let mut seen = Seen::default();
    let mut from = 0;
    loop {
        match look_by(looker(wanted, from..=i32::MAX), deadline, &mut seen) {
            Ok(End::Whole) => break,
            Ok(End::Stuck(process)) if Instant::now() < deadline => {
                from = process.saturating_add(1);
            }
            Ok(End::Stuck(_)) | Err(_) => {
                seen.is_cut_short = true;
                break;
            }
        }
    }
    // A process that waits for its disk, or for a processor, keeps its locks meanwhile; one that hangs keeps them for good.
    let hanging = std::mem::take(&mut seen.hanging);
    for process in hanging {
        let has_time = Instant::now() < deadline;
        let answers = has_time && look_by(looker(wanted, process..=process), deadline, &mut seen).is_ok();
        if !answers {
            seen.hanging.insert(process);
        }
    }
    seen
}

/// The command that looks into the processes of these numbers.
fn looker(wanted: Wanted, processes: RangeInclusive<i32>) -> Command {
    let mut command = program::command("/proc/self/exe");
    let (first, last) = (processes.start().to_string(), processes.end().to_string());
    command.arg0("strongroom").args([LOOK, &wanted.to_string(), &first, &last]);
    command
}

/// How the work of another process ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    /// At this process.
    Stuck(i32),
}

/// Has another process look, and gives it up where it stands still or has no time left.
fn look_by(mut command: Command, deadline: Instant, seen: &mut Seen) -> io::Result<End> {
    let (reader, writer) = io::pipe()?;
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn()?;
    drop(command);
    let mut lines = BufReader::new(reader);
    let mut at = 0;
    let mut line = String::new();
    let start = Instant::now();
    let end = loop {
        line.clear();
        let left = deadline.saturating_duration_since(Instant::now()).max(TICK);
        // It takes a while to start.
        if !is_readable(&lines, if at == 0 { left } else { left.min(STANDSTILL) }) {
            if start.elapsed() < BUSY && (is_runnable(child.id()) || has_runnable_thread(at)) {
                // It waits for a processor, as everybody does on a busy machine, or for a lock of a process that does.
                continue;
            }
            seen.hanging.insert(at);
            break End::Stuck(at);
        }
        if lines.by_ref().take(MOST_LINE).read_line(&mut line)? == 0 {
            // It ended without a word of its end.
            break if at == i32::MAX { End::Whole } else { End::Stuck(at) };
        }
        match line.trim_end().split_once(' ') {
            Some(("at", process)) => at = process.parse().unwrap_or(at),
            Some(("uses", process)) => seen.users.extend(process.parse::<i32>()),
            _ if line == "done\n" => at = i32::MAX,
            _ => {}
        }
    };
    if end == End::Whole {
        child.wait()?;
    } else {
        // Not waited for: it may wait in the kernel, where no signal reaches it.
        child.kill()?;
    }
    Ok(end)
}

fn is_runnable(process: u32) -> bool {
    let id = i32::try_from(process).ok().and_then(ProcessId::of);
    id.and_then(ProcessId::activity).is_some_and(|activity| activity.is_runnable)
}

/// Whether some thread of a process has, or could have, a processor: what it does not answer now, it will.
fn has_runnable_thread(process: i32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let mut activities = threads.take(MOST_THREADS).filter_map(|thread| Activity::of_thread(&thread.path()));
    activities.any(|activity| activity.is_runnable)
}

fn is_readable(lines: &BufReader<PipeReader>, wait: Duration) -> bool {
    if !lines.buffer().is_empty() {
        return true;
    }
    let Ok(wait) = Timespec::try_from(wait) else { return false };
    let start = Instant::now();
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(lines.get_ref().as_fd(), PollFlags::IN)], Some(&wait)) {
            // Interrupted: by a signal that somebody else looks at.
            Err(rustix::io::Errno::INTR) if start.elapsed() < STANDSTILL => {}
            ready => return ready.is_ok_and(|count| count > 0),
        }
    }
}

/// The other process's whole life: looks into the processes between two numbers, and says at each which it is.
pub fn look(arguments: &[String]) -> ExitCode {
    let told = match arguments {
        [wanted, first, last] => wanted.parse().and_then(|wanted| {
            let number = |text: &String| text.parse().map_err(io::Error::other);
            look_through(wanted, number(first)?..=number(last)?, &mut io::stdout().lock())
        }),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn look_through(wanted: Wanted, processes: RangeInclusive<i32>, out: &mut dyn Write) -> io::Result<()> {
    let own = [Some(std::process::id()), Some(std::os::unix::process::parent_id())];
    let entries = fs::read_dir("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_other = |pid: &i32| !own.contains(&u32::try_from(*pid).ok());
    let pids: BTreeSet<_> = pids.filter(|pid| processes.contains(pid)).filter(is_other).collect();
    look_at(pids, wanted, out)
}

fn look_at(pids: BTreeSet<i32>, wanted: Wanted, out: &mut dyn Write) -> io::Result<()> {
    for pid in pids {
        writeln!(out, "at {pid}")?;
        out.flush()?;
        if uses(pid, wanted) {
            writeln!(out, "uses {pid}")?;
        }
    }
    writeln!(out, "done")?;
    out.flush()
}

fn uses(pid: i32, wanted: Wanted) -> bool {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    if opens(&directory, wanted) || threads_apart(&directory, pid).any(|thread| opens(&thread, wanted)) {
        return true;
    }
    // Last: this waits for a lock that a process holds while it maps a file.
    if let Wanted::Mount(_) = wanted {
        return entries_of(&directory.join("map_files")).any(|link| wanted.is_at(&link));
    }
    let maps = fs::read(directory.join("maps")).unwrap_or_default();
    maps.split(|&byte| byte == b'\n').filter_map(mapped_file).any(|file| wanted.is(file))
}

/// Whether a process, or a thread, has what is wanted open or stands in it.
fn opens(directory: &Path, wanted: Wanted) -> bool {
    let links = ["cwd", "root", "exe"].into_iter().map(|name| directory.join(name));
    links.chain(entries_of(&directory.join("fd"))).any(|link| wanted.is_at(&link))
}

/// The paths in a folder of `/proc`; none where it may not be read.
fn entries_of(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The threads of a process that share its open files or its folders no longer (`unshare(2)`), or whose first thread has ended.
fn threads_apart(process: &Path, pid: i32) -> impl Iterator<Item = PathBuf> {
    let tasks = process.join("task");
    let entries = fs::read_dir(&tasks).into_iter().flatten().flatten();
    let threads = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut seen = vec![pid];
    let apart = threads.filter(move |&thread| {
        let is_new = seen.len() < MOST_APART && !seen.iter().any(|&other| shares_files(other, thread));
        seen.extend(is_new.then_some(thread));
        is_new
    });
    apart.map(move |thread| tasks.join(thread.to_string()))
}

/// A file's place: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    major: u32,
    minor: u32,
    inode: u64,
}

impl FileId {
    /// Asks for nothing but what the kernel knows by itself, which is both numbers: where more is wanted, `STATX_DONT_SYNC`
    /// alone still asks a FUSE server that was never asked before.
    fn of(path: &Path) -> Option<Self> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
        let stat = statx(CWD, path, flags, StatxFlags::empty()).ok()?;
        Some(Self { major: stat.stx_dev_major, minor: stat.stx_dev_minor, inode: stat.stx_ino })
    }
}

/// The file of a line of `maps`: `address perms offset dev inode path`, the device as two hexadecimal numbers.
fn mapped_file(line: &[u8]) -> Option<FileId> {
    let mut fields = line.split(|&byte| byte == b' ').filter_map(|field| std::str::from_utf8(field).ok());
    let (major, minor) = fields.nth(3)?.split_once(':')?;
    let inode = fields.next()?.parse().ok().filter(|&inode| inode != 0)?;
    Some(FileId {
        major: u32::from_str_radix(major, 16).ok()?,
        minor: u32::from_str_radix(minor, 16).ok()?,
        inode,
    })
}

/// How long a look takes at most.
const LIMIT: Duration = Duration::from_secs(2);
/// How long it may take over one process.
const STANDSTILL: Duration = Duration::from_millis(500);
/// The same for one that waits for a processor only.
const BUSY: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(50);
/// Of so many threads of a process it is asked whether they run.
const MOST_THREADS: usize = 256;
const MOST_LINE: u64 = 64;
/// What begins the name of a mount.
const MOUNT: &str = "mount ";
/// So many threads with files of their own are looked at in one process.
const MOST_APART: usize = 64;

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    /// Looks at one process: another one of this machine might hang.
    fn looked(pid: u32, wanted: Wanted) -> String {
        let mut out = Vec::new();
        look_at([i32::try_from(pid).unwrap()].into(), wanted, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_process_with_the_file_open_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stdin = Stdio::from(OwnedFd::from(file.reopen().unwrap()));
        let mut child = Command::new("/bin/sleep").arg("10000").stdin(stdin).spawn().unwrap();
        let pid = child.id();
        let told = looked(pid, Wanted::file(file.path()).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(told, format!("at {pid}\nuses {pid}\ndone\n"));
    }

    #[test]
    fn a_process_with_a_file_of_the_mount_open_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let Some(number) = unique_number_behind(file.path()) else {
            eprintln!("skipped: the kernel has no numbers of mounts for good (Linux 6.8)");
            return;
        };
        let mut child =
            Command::new("/bin/sleep").arg("10000").stdin(file.reopen().unwrap()).spawn().unwrap();
        let pid = child.id();
        let told = [number, u64::MAX].map(|number| looked(pid, Wanted::Mount(number)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(told, [format!("at {pid}\nuses {pid}\ndone\n"), format!("at {pid}\ndone\n")]);
    }

    #[test]
    fn a_mapped_file_is_read_from_its_line() {
        let line = b"7f00-7f01 r--p 00000000 fe:0a 4711    /mnt/v/lib with blank.so";
        assert_eq!(mapped_file(line), Some(FileId { major: 0xfe, minor: 10, inode: 4711 }));
        assert_eq!(mapped_file(b"7f00-7f01 rw-p 00000000 00:00 0 [heap]"), None);
    }

    #[test]
    fn what_is_wanted_is_read_back_as_written() {
        for wanted in [Wanted::FileSystem(0, 44), Wanted::File(254, 1, u64::MAX), Wanted::Mount(u64::MAX)] {
            assert_eq!(wanted.to_string().parse::<Wanted>().unwrap(), wanted);
        }
        assert!("7".parse::<Wanted>().is_err());
    }

    fn by_shell(script: &str, seen: &mut Seen) -> End {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", script]);
        look_by(shell, Instant::now() + LIMIT, seen).unwrap()
    }

    #[test]
    fn a_look_that_stands_still_is_given_up_and_tells_where() {
        let mut seen = Seen::default();
        let start = Instant::now();
        assert_eq!(by_shell("echo at 5; echo uses 5; echo at 7; exec sleep 1000", &mut seen), End::Stuck(7));
        assert!(start.elapsed() < Duration::from_secs(20));
        assert_eq!((seen.users, seen.hanging), ([5].into(), [7].into()));
    }

    #[test]
    fn a_look_waits_for_a_process_that_waits_for_a_processor() {
        let mut seen = Seen::default();
        for (script, waits) in [("while :; do :; done", true), ("exec sleep 1000", false)] {
            let mut child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
            let found = by_shell(&format!("echo at {}; sleep 1.5; echo done", child.id()), &mut seen);
            child.kill().unwrap();
            child.wait().unwrap();
            let id = i32::try_from(child.id()).unwrap();
            assert_eq!(found, if waits { End::Whole } else { End::Stuck(id) }, "{script}");
        }
    }

    #[test]
    fn a_look_that_ends_early_is_not_taken_for_a_whole_one() {
        let mut seen = Seen::default();
        assert_eq!(by_shell("echo at 5", &mut seen), End::Stuck(5));
        assert_eq!(by_shell("echo at 5; echo done", &mut seen), End::Whole);
    }
}
