//! Processes: names that outlive the reuse of process numbers, and hardening of the one that holds keys.

#![allow(
    unsafe_code,
    reason = "descriptors that no value owns, a step between fork and exec; each block states its invariant"
)]

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::Command,
};

use rustix::{
    fs::Mode,
    mm::{MlockAllFlags, mlock, mlockall},
    process::{
        DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, configure_io_flusher_behavior, geteuid,
        getpid, is_io_flusher, pidfd_open, pidfd_send_signal, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit, setsid, umask,
    },
};
use serde::{Deserialize, Serialize};

/// A process for good: the kernel reuses numbers, but not together with the start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process number.
    pub pid: i32,
    /// When it started, in clock ticks since boot (`proc_pid_stat(5)`, field 22).
    pub started: u64,
}

impl ProcessId {
    /// The calling process.
    pub fn current() -> io::Result<Self> {
        Self::of(getpid().as_raw_pid()).ok_or_else(|| io::Error::other("/proc is not mounted"))
    }

    /// The process that has the number `pid` now; `None` where there is none, or only its exit status is left.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let started = start_time(&stat)?;
        Some(Self { pid, started })
    }

    /// Whether it still runs.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Whether it was killed or has exited, and some of its threads have yet to follow: until then they hold its descriptors.
    pub fn is_ending(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        has_exited(&stat) && start_time(&stat) == Some(self.started)
    }

    /// Whether somebody has stopped it (SIGSTOP, a debugger).
    pub fn is_stopped(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with(['T', 't']))
    }

    /// Sends `signal` to it and to no later process of the same number. Nothing happens where it has ended.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let Ok(handle) = self.watch() else { return Ok(()) };
        if !self.is_alive() {
            return Ok(());
        }
        match pidfd_send_signal(&handle, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What it has done so far, to tell one that works from one that hangs. `None` where it has ended.
    pub fn activity(self) -> Option<Activity> {
        Activity::parse(&fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?)
    }

    /// A descriptor that becomes readable when it ends.
    pub fn watch(self) -> io::Result<OwnedFd> {
        let pid = Pid::from_raw(self.pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(pidfd_open(pid, PidfdFlags::empty())?)
    }
}

/// What a process has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activity {
    /// The processor time that it took, in clock ticks.
    pub ticks: u64,
    /// Whether it waits for a device or a file system (state D).
    pub is_waiting_for_io: bool,
    /// Whether it waits for nothing but a processor, or has one (state R).
    pub is_runnable: bool,
}

impl Activity {
    /// That of the thread whose directory in `/proc` this is. Waits for no lock of its process.
    pub fn of_thread(directory: &Path) -> Option<Self> {
        Self::parse(&fs::read_to_string(directory.join("stat")).ok()?)
    }

    /// Fields 3, 14 and 15 of a `stat` line (`proc_pid_stat(5)`).
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_ascii_whitespace();
        let state = fields.next()?;
        let user: u64 = fields.nth(10)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(Self {
            ticks: user.saturating_add(system),
            is_waiting_for_io: state == "D",
            is_runnable: state == "R",
        })
    }
}

/// Field 22 of a `stat` line; `None` for a zombie, unless threads of it (field 20) still run: they hold its descriptors,
/// and so its locks. The command's name (field 2) may hold blanks and brackets.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let threads: u64 = fields.nth(17)?.parse().ok()?;
    if has_exited(stat) && threads <= 1 {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

/// Whether the thread `id` was told to end by a signal that it cannot put off, or is on its way out. False where it does not show.
pub fn is_being_killed(id: u32) -> bool {
    let read = |name: &str| fs::read_to_string(format!("/proc/{id}/{name}")).unwrap_or_default();
    is_exiting(&read("stat")) || has_fatal_signal(&read("status"))
}

/// Field 9 of a `stat` line: the flags of the task.
fn is_exiting(stat: &str) -> bool {
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let flags = fields.split_ascii_whitespace().nth(6).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// Whether a SIGKILL waits for the thread, which is what the kernel makes of every signal that ends a process.
fn has_fatal_signal(status: &str) -> bool {
    let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    pending.is_some_and(|mask| mask & SIGKILL != 0)
}

/// The bit of a mask of signals for the ninth.
const SIGKILL: u64 = 1 << 8;
/// `PF_EXITING`.
const PF_EXITING: u64 = 4;

/// Field 3 of a `stat` line: whether the first thread has exited.
fn has_exited(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with(['Z', 'X']))
}

/// Closes every descriptor above standard error that was inherited: a pipe with a password, or one whose other end waits
/// for the last writer to go. To be called first of all, while the process has opened nothing itself.
///
/// Does nothing before Linux 5.9.
pub fn close_inherited() {
    // SAFETY: the caller has opened nothing yet, so no value of this process owns a descriptor from 3 on.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Keeps the memory of the calling process from tracers and core dumps: not dumpable, core limit 0, umask 077.
pub fn harden() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    umask(Mode::RWXG | Mode::RWXO);
    Ok(())
}

/// Cuts the calling process off from its terminal: a new session.
pub fn leave_terminal() -> io::Result<()> {
    setsid()?;
    Ok(())
}

/// Has writes beyond an inherited limit on file sizes (`ulimit -f`) fail with `EFBIG` instead of killing the process.
///
/// Ignored, not caught: programs that are started from here inherit that, and one of them is the driver.
pub fn survive_file_size_limit() {
    // SAFETY: SIG_IGN is no handler, so nothing of ours ever runs in signal context.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Whether two threads share their table of open files, and their folders (`kcmp(2)`). Also where the kernel does not tell.
pub fn shares_files(one: i32, other: i32) -> bool {
    const FILES: i32 = 2;
    const FOLDERS: i32 = 3;
    // SAFETY: it compares, and takes nothing but numbers.
    let is_apart = |what: i32| unsafe { libc::syscall(libc::SYS_kcmp, one, other, what, 0_u64, 0_u64) } > 0;
    !is_apart(FILES) && !is_apart(FOLDERS)
}

/// Has the kernel kill the process of `command` when the calling thread ends, however it ends.
pub fn end_with_parent(command: &mut Command) -> &mut Command {
    let ask = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec this makes one system call; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(ask) }
}

/// Has the process of `command` ignore SIGTERM and SIGHUP, which at a logout go to every process: who started it ends it, in
/// its order.
pub fn shield(command: &mut Command) -> &mut Command {
    let ignore = || {
        for signal in [libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: SIG_IGN is no handler, so nothing of ours ever runs in signal context.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        Ok(())
    };
    // SAFETY: between fork and exec this makes two system calls; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(ignore) }
}

/// Ends this process here and now, without its destructors, which may wait for what its threads wait for, and without asking for
/// memory.
///
/// Its FUSE connections go first: their users get errors, also while a thread of this process is stuck in the kernel, perhaps waiting
/// for another one, and keeps its other files open.
pub fn end_at_once(status: u8) -> ! {
    for number in 3..MOST_FILES {
        if is_fuse_device(number) {
            // SAFETY: whoever owns the descriptor runs no more code: the process ends below.
            unsafe { libc::close(number) };
        }
    }
    // SAFETY: it ends the process, and calls nothing of it before.
    unsafe { libc::_exit(status.into()) }
}

/// Whether the descriptor `number` is a FUSE connection. No file system is asked, as some may not answer.
fn is_fuse_device(number: i32) -> bool {
    const DEVICE: &[u8] = b"/dev/fuse";
    let mut path = *b"/proc/self/fd/\0\0\0\0\0\0";
    let digits = path.iter().position(|&byte| byte == 0).unwrap_or_default();
    let mut left = number;
    let count = 1 + usize::try_from(number.max(1).ilog10()).unwrap_or_default();
    for place in path.iter_mut().skip(digits).take(count).rev() {
        *place = b'0' + u8::try_from(left % 10).unwrap_or_default();
        left /= 10;
    }
    let mut target = [0_u8; 16];
    // SAFETY: the path ends with a zero byte, of which there is one behind the longest number, and the other array has the length
    // that is told.
    let len = unsafe { libc::readlink(path.as_ptr().cast(), target.as_mut_ptr().cast(), target.len()) };
    usize::try_from(len).is_ok_and(|len| target.get(..len) == Some(DEVICE))
}

/// Descriptors from this on are not looked at. A server has a few dozen.
const MOST_FILES: i32 = 1 << 14;

/// Tells the kernel that block I/O waits for this process: its own allocations and writes must then neither start I/O to
/// free memory nor be held back for dirty pages, or a machine short of memory waits for itself (`PR_SET_IO_FLUSHER`).
///
/// Takes a privilege that ordinary users lack (`CAP_SYS_RESOURCE`), and so does root in many containers; without it nothing
/// changes. Threads started later inherit it.
pub fn mark_as_storage_server() {
    // Refused: the kernel's usual behaviour stays.
    let _ = configure_io_flusher_behavior(true);
}

/// Whether the kernel was told so.
pub fn is_marked_as_storage_server() -> bool {
    is_io_flusher().is_ok_and(|is_marked| is_marked)
}

/// Locks in memory all that this process has and will have, the program itself included, as it comes to be used. Only where
/// no limit can turn that into a lack of memory (`CAP_IPC_LOCK`).
pub fn stay_in_memory() {
    const CAP_IPC_LOCK: u32 = 14;
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if !has_capability(CAP_IPC_LOCK) || mlockall(all).is_err() {
        return;
    }
    // What the program is must not have to be read again.
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for (start, len) in maps.lines().filter_map(program_part) {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: locking changes no content, and the range is a mapping of this process; should it be gone, the call fails.
        let _refused = unsafe { mlock(start, len) };
    }
}

/// A line of `/proc/PID/maps` that shows a private mapping of a file: start and length.
fn program_part(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let rights = fields.next()?;
    let is_file = fields.nth(3)?.starts_with('/');
    let start = usize::from_str_radix(start, 16).ok()?;
    let len = usize::from_str_radix(end, 16).ok()?.checked_sub(start)?;
    (is_file && rights.starts_with('r') && rights.ends_with('p')).then_some((start, len))
}

/// Whether the kernel lets this process make an ext4 file system larger while it is mounted.
pub fn may_resize_ext() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    has_capability(CAP_SYS_RESOURCE)
}

/// Whether this process has a capability (capabilities(7)), by its number.
fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    held.is_some_and(|held| held.checked_shr(number).unwrap_or(0) & 1 != 0)
}

/// Has the calling thread, and those that it starts, wait for a processor until whoever has it gives it up, as those do that
/// sleep until they are answered: a server that interrupts its client at each request answers them one by one
/// (sched(7), "`SCHED_BATCH`"). Its share of the processors stays the same.
///
/// Whoever was given another policy by the user keeps that.
pub fn let_clients_run() {
    // SAFETY: the call touches no memory of ours; 0 is the calling thread.
    if unsafe { libc::sched_getscheduler(0) } == libc::SCHED_OTHER {
        let priority = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameter lives for the call. Where it is refused, things stay as they are.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const priority) };
    }
}

/// The effective user number.
pub fn effective_user() -> u32 {
    geteuid().as_raw()
}

/// Whether the effective user is root of the machine. Root of a user namespace (a rootless container, `unshare -r`) is not: it
/// may mount FUSE file systems, but no loop device is its own.
pub fn is_root() -> bool {
    geteuid().is_root() && fs::read_to_string("/proc/self/uid_map").map_or(true, |map| is_whole(&map))
}

/// Whether the effective user mounts and unmounts by itself: root, also of a user namespace.
pub fn can_mount() -> bool {
    geteuid().is_root()
}

/// Whether a map of user numbers is that of the first namespace (`user_namespaces(7)`): each number stands for itself.
fn is_whole(map: &str) -> bool {
    let numbers = map.split_ascii_whitespace().map(str::parse::<u32>);
    numbers.eq([Ok(0), Ok(0), Ok(u32::MAX)])
}

/// A name of this run of the kernel: process numbers, mounts and loop devices of another run mean nothing.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// A name that nobody can foresee: a random UUID of the kernel's.
pub fn random_uuid() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn who_is_killed_is_told_from_who_only_waits() {
        assert!(!is_being_killed(std::process::id()));
        let stat = |flags: u32| format!("7 (a) b) R 1 7 7 0 -1 {flags} 0 0 0 0");
        assert!(!is_exiting(&stat(0x0040_0040)) && is_exiting(&stat(0x0040_0044)));
        assert!(!is_exiting("") && !has_fatal_signal(""));
        let status = |mask: &str| format!("Name:\tdd\nSigPnd:\t{mask}\nShdPnd:\t0000000000000100\n");
        assert!(has_fatal_signal(&status("0000000000000100")));
        assert!(!has_fatal_signal(&status("0000000000004000")));
    }

    #[test]
    fn a_thread_with_files_of_its_own_is_told_from_the_others() {
        let thread = |is_apart: bool| {
            std::thread::spawn(move || {
                // SAFETY: this thread alone loses sight of what others open later, and opens nothing that outlives it.
                let done = !is_apart || unsafe { libc::unshare(libc::CLONE_FILES) } == 0;
                let own = rustix::thread::gettid().as_raw_pid();
                done.then(|| shares_files(getpid().as_raw_pid(), own))
            })
        };
        assert_eq!(thread(false).join().unwrap(), Some(true));
        let apart = thread(true).join().unwrap();
        if apart != Some(false) {
            assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "{apart:?}");
            println!("skipped: no kcmp(2) here");
        }
    }

    #[test]
    fn a_fuse_connection_is_told_by_its_descriptors_name() {
        let others = [fs::File::open("/dev/null").unwrap(), fs::File::open("/proc/self/stat").unwrap()];
        assert!(others.iter().all(|file| !is_fuse_device(file.as_raw_fd())));
        assert!(!is_fuse_device(MOST_FILES - 1));
        // Whoever may not open it has no connection either.
        if let Ok(fuse) = fs::File::open("/dev/fuse") {
            assert!(is_fuse_device(fuse.as_raw_fd()));
        }
    }

    #[test]
    fn this_process_is_alive() {
        assert!(ProcessId::current().unwrap().is_alive());
    }

    #[test]
    fn another_start_time_is_another_process() {
        let mut process = ProcessId::current().unwrap();
        process.started += 1;
        assert!(!process.is_alive());
    }

    #[test]
    fn a_command_name_with_brackets_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1000 10";
        assert_eq!(start_time(stat), Some(98765));
    }

    #[test]
    fn activity_is_the_time_of_user_and_system() {
        let stat = "42 (a) b) D 1 42 42 0 -1 4194560 1 2 3 4 50 6 7 8 20 0 1 0 98765 1000 10";
        assert_eq!(
            Activity::parse(stat),
            Some(Activity { ticks: 56, is_waiting_for_io: true, is_runnable: false })
        );
    }

    #[test]
    fn only_the_first_user_namespace_has_every_user() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("         0       1000          1\n"));
        assert!(!is_whole("         0       1000          1\n         1     100000      65536\n"));
        assert!(!is_whole(""));
    }

    #[test]
    fn parts_of_the_program_are_told_from_other_mappings() {
        let file = "55d0-5600 r-xp 00001000 fe:00 1234   /usr/bin/strong room";
        assert_eq!(program_part(file), Some((0x55d0, 0x30)));
        for other in [
            "55d0-5600 rw-p 00000000 00:00 0 [heap]",
            "55d0-5600 rw-p 00000000 00:00 0",
            "55d0-5600 r--s 00000000 fe:00 99 /home/a/photos.vault",
            "55d0-5600 ---p 00000000 fe:00 99 /usr/lib/libc.so.6",
            "",
        ] {
            assert_eq!(program_part(other), None, "{other}");
        }
    }

    #[test]
    fn a_zombie_is_no_process() {
        let stat = "42 (sh) Z 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 0 0";
        assert_eq!(start_time(stat), None);
        assert!(has_exited(stat));
    }

    #[test]
    fn a_process_lives_until_its_last_thread_has_ended() {
        let stat = "42 (sh) Z 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 3 0 98765 0 0";
        assert_eq!(start_time(stat), Some(98765));
    }
}
