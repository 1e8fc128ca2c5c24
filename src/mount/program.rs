//! Programs of the system: found in fixed directories only, run with a clean environment.

use std::{
    ffi::OsStr,
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    error::{Error, ErrorKind, Fact, Result},
    text::excerpt,
};

/// The absolute path of the program `name`; `None` where it is not installed. `PATH` plays no part.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| PathBuf::from(directory).join(name)).find(|path| path.is_file())
}

/// The absolute path of the program `name`.
///
/// # Errors
/// `Missing`, naming the `package` that brings it.
pub(super) fn require(name: &str, package: &'static str) -> Result<PathBuf> {
    find(name).ok_or_else(|| {
        Error::new(ErrorKind::Missing, format!("{name} is not installed"))
            .with_fact(Fact::NotInstalled(package))
            .with_hint(format!("install the package {package}"))
    })
}

/// A command without input, with nothing in its environment but a fixed `PATH` and a locale: untranslated messages, and
/// names in UTF-8. It begins in `/`: `mkfs.btrfs` takes what the table of mounts names as sources for paths, and fails where one leads through
/// a file, as `strongroom/x.vault` does in a folder that has this program.
pub(super) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C.UTF-8")
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

/// What a finished program left.
#[derive(Debug)]
pub(super) struct Finished {
    /// Its exit status; `None` where a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub errors: String,
}

impl Finished {
    /// The line that says what went wrong: not a banner, nor the usage that some programs print after it.
    pub(super) fn reason(&self) -> String {
        let said = [&self.errors, &self.output].map(|text| text.lines().map(str::trim));
        let told = said.iter().cloned().find_map(|mut lines| lines.rfind(|line| is_complaint(line)));
        let last = || said.iter().cloned().find_map(|mut lines| lines.rfind(|line| !line.is_empty()));
        told.or_else(last).map_or_else(|| "no reason given".to_owned(), excerpt)
    }
}

fn is_complaint(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    COMPLAINTS.iter().any(|word| line.contains(word)) && !line.contains("warning:")
}

/// Runs `command` to its end, or ends it once `interrupted` is set.
///
/// # Errors
/// `Interrupted`, or what starting it gave.
pub(super) fn run(command: &mut Command, interrupted: &AtomicBool) -> Result<Finished> {
    run_while(command, || !interrupted.load(Ordering::Relaxed))
}

/// Runs `command` to its end, or ends it once it `may_run` no longer.
///
/// One that the kernel does not let go, as it waits for a medium, is left behind.
///
/// # Errors
/// `Interrupted`, or what starting it gave, as [`Fact::NotStarted`].
pub(super) fn run_while(command: &mut Command, may_run: impl Fn() -> bool) -> Result<Finished> {
    let (output, stdout) = io::pipe().map_err(not_started)?;
    let (errors, stderr) = io::pipe().map_err(not_started)?;
    let mut child = command.stdout(stdout).stderr(stderr).spawn().map_err(not_started)?;
    // The command holds the writing ends; without this the readers would wait for them for ever.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // Where no thread can be had the pipe closes, and what the program says is lost.
    let collectors = [output, errors].map(|reader| {
        let collector = std::thread::Builder::new();
        collector.spawn(move || collect(reader)).ok()
    });
    let status = wait(&mut child, may_run)?;
    let [output, errors] =
        collectors.map(|collector| collector.and_then(|collector| collector.join().ok()).unwrap_or_default());
    Ok(Finished { status: status.code(), output, errors })
}

/// What kept a program from being started.
pub(super) fn not_started(error: io::Error) -> Error {
    Error::from(error).with_fact(Fact::NotStarted)
}

/// Waits for `child`, or ends it once it `may_run` no longer.
fn wait(child: &mut Child, may_run: impl Fn() -> bool) -> Result<std::process::ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if !may_run() {
            child.kill()?;
            let deadline = Instant::now() + LAST_MOMENT;
            while child.try_wait()?.is_none() && Instant::now() < deadline {
                sleep(TICK);
            }
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        sleep(TICK);
    }
}

/// Reads all that comes, and keeps the first 64 KiB.
fn collect(reader: io::PipeReader) -> String {
    use io::Read;
    let mut kept = Vec::new();
    let mut limited = reader.take(KEPT_OUTPUT);
    // What cannot be read is missing from an error text, no more.
    let _ = limited.read_to_end(&mut kept);
    let _ = io::copy(&mut limited.into_inner(), &mut io::sink());
    String::from_utf8_lossy(&kept).into_owned()
}

const DIRECTORIES: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
const SEARCH_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// What a line that tells of a failure holds, in the words of e2fsprogs, xfsprogs, btrfs-progs
/// and ntfs-3g.
const COMPLAINTS: &[&str] = &[
    "error",
    "cannot",
    "can't",
    "fail",
    "invalid",
    "must be",
    "too ",
    "not enough",
    "not allowed",
    "no space",
];
const TICK: Duration = Duration::from_millis(20);
/// How long a killed program may take to go.
const LAST_MOMENT: Duration = Duration::from_secs(1);
const KEPT_OUTPUT: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_no_package_brings_is_missing() {
        let error = require("no-such-program", "nothing").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert_eq!(error.hint(), Some("install the package nothing"));
    }

    #[test]
    fn the_environment_is_clean() {
        let finished = run(&mut command(find("env").unwrap()), &AtomicBool::new(false)).unwrap();
        assert_eq!(finished.output, format!("LC_ALL=C.UTF-8\nPATH={SEARCH_PATH}\n"));
    }

    #[test]
    fn the_status_and_the_last_words_on_standard_error_are_kept() {
        let mut shell = command("/bin/sh");
        shell.args(["-c", "echo one; echo two >&2; echo; echo three; exit 3"]);
        let finished = run(&mut shell, &AtomicBool::new(false)).unwrap();
        assert_eq!((finished.status, finished.reason().as_str()), (Some(3), "two"));
    }

    #[test]
    fn the_reason_is_the_line_that_complains() {
        let reason = |output: &str, errors: &str| {
            let finished = Finished { status: Some(1), output: output.into(), errors: errors.into() };
            finished.reason()
        };
        let usage =
            "Filesystem must be larger than 300MB.\nUsage: mkfs.xfs\n<value> is xxx (512 byte blocks).\n";
        assert_eq!(reason("", usage), "Filesystem must be larger than 300MB.");
        let fat = "mkfs.fat: Warning: labels might fail\nmkfs.vfat: Too few blocks for viable filesystem\n";
        assert_eq!(reason("mkfs.fat 4.2\n", fat), "mkfs.vfat: Too few blocks for viable filesystem");
        assert_eq!(reason("banner\n", ""), "banner");
        assert_eq!(reason("", "\n"), "no reason given");
    }

    #[test]
    fn an_interrupt_ends_the_program() {
        let mut sleeper = command("/bin/sleep");
        sleeper.arg("60");
        let error = run(&mut sleeper, &AtomicBool::new(true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
