//! `pinentry` as the place where a user is asked: a small window of the desktop's, or what else the system has under that name.

use std::{
    fs::OpenOptions,
    io::{self, PipeReader, PipeWriter, Read},
    os::fd::AsFd,
    path::Path,
    process::Child,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use strongroom::{
    crypto::secret::Password,
    error::{Error, ErrorKind, Result},
    mount::desktop_program,
};

use super::{
    assuan::{Connection, Refusal, Reply},
    interrupt,
};

/// The one that runs now, so that it ends with us.
static RUNNING: Mutex<Option<Child>> = Mutex::new(None);

/// Whether it did not answer: it is not waited for again.
static IS_MUTE: AtomicBool = AtomicBool::new(false);

/// What a window says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Text<'a> {
    /// What it is about.
    pub(crate) description: &'a str,
    /// What was wrong with the answer before.
    pub(crate) error: Option<&'a str>,
    /// What stands before the field.
    pub(crate) prompt: &'a str,
    /// What the button says that agrees.
    pub(crate) ok: &'a str,
}

/// Asks for a secret. It is empty where nothing was typed.
///
/// # Errors
/// `Interrupted` where the user closes the window, `Io` where the program is none, or ends.
pub(crate) fn secret(program: &Path, text: Text<'_>) -> Result<Password> {
    match ask(program, text, "GETPIN")? {
        Reply::Done(password) => Ok(password),
        Reply::Refused(refusal) if refusal.is_no() => Err(cancelled()),
        Reply::Refused(refusal) => Err(failed(&refusal)),
    }
}

/// Asks a question. False where the user says no, or closes the window.
///
/// # Errors
/// `Io` where the program is none, or ends.
pub(crate) fn agrees(program: &Path, text: Text<'_>) -> Result<bool> {
    match ask(program, text, "CONFIRM")? {
        Reply::Done(_) => Ok(true),
        Reply::Refused(refusal) if refusal.is_no() => Ok(false),
        Reply::Refused(refusal) => Err(failed(&refusal)),
    }
}

/// Shows something until the user has seen it.
///
/// # Errors
/// `Io` where the program is none, or ends.
pub(crate) fn message(program: &Path, text: Text<'_>) -> Result<()> {
    if IS_MUTE.load(Ordering::Relaxed) {
        return Err(Error::new(ErrorKind::Io, "pinentry does not answer"));
    }
    ask(program, text, "MESSAGE").map(drop)
}

/// Shows something until [`close`] is called.
///
/// # Errors
/// `Io` where the program is none, or ends.
pub(crate) fn show(program: &Path, text: Text<'_>) -> Result<()> {
    let mut connection = begin(program, text)?;
    // The answer is not waited for.
    connection.send("MESSAGE", "")
}

/// Ends the window that is there, if one is.
pub(crate) fn close() {
    let Some(mut child) = running().take() else { return };
    let end = Instant::now() + A_MOMENT;
    while child.try_wait().is_ok_and(|status| status.is_none()) {
        if Instant::now() > end {
            // Nothing is left to be done where it cannot be ended.
            let _ = child.kill().and_then(|()| child.wait());
            return;
        }
        sleep(TICK);
    }
}

/// Ends it at once, when this process ends.
pub(crate) fn end() {
    if let Some(mut child) = running().take() {
        let _ = child.kill();
    }
}

type Pinentry = Connection<Patient, PipeWriter>;

/// Asks `question` in a window of its own.
fn ask(program: &Path, text: Text<'_>, question: &str) -> Result<Reply> {
    interrupt::at_liberty(|| {
        let mut connection = begin(program, text)?;
        connection.reader().deadline = None;
        let reply = connection.request(question, "").map_err(|error| error.with_hint(ELSEWHERE));
        // It ends by itself when it hears no more.
        drop(connection);
        close();
        reply
    })
}

/// Starts the program and tells it what to show.
fn begin(program: &Path, text: Text<'_>) -> Result<Pinentry> {
    close();
    let cannot = |error: io::Error| {
        Error::from(error).during(format!("cannot start {}", program.display())).with_hint(ELSEWHERE)
    };
    let (stdin, requests) = io::pipe()?;
    let (replies, stdout) = io::pipe()?;
    let mut command = desktop_program(program);
    // What it has to complain of is in its replies.
    let child = command.stdin(stdin).stdout(stdout).stderr(std::process::Stdio::null()).spawn();
    *running() = Some(child.map_err(cannot)?);
    // The command holds the other ends of the pipes.
    drop(command);
    let begun = tell(Patient { pipe: replies, deadline: Some(Instant::now() + PATIENCE) }, requests, text);
    begun.inspect_err(|_| end()).map_err(|error| error.with_hint(ELSEWHERE))
}

fn tell(replies: Patient, requests: PipeWriter, text: Text<'_>) -> Result<Pinentry> {
    let mut pinentry = Connection::begin(replies, requests)?;
    for option in options() {
        // Those that it does not know it does without.
        pinentry.request("OPTION", &option)?;
    }
    // No keyring keeps it: `--remember` is for that.
    pinentry.request("SETKEYINFO", "--clear")?;
    pinentry.request("SETTITLE", "strongroom")?;
    for (name, value) in [
        ("SETDESC", text.description),
        ("SETPROMPT", text.prompt),
        ("SETERROR", text.error.unwrap_or_default()),
        ("SETOK", text.ok),
    ] {
        if !value.is_empty() {
            pinentry.request(name, &without_tags(value))?;
        }
    }
    Ok(pinentry)
}

/// The text as every `pinentry` shows it: that of Qt takes one with tags for markup, and the names of files may have some.
fn without_tags(text: &str) -> String {
    text.replace('<', "\u{2039}")
}

/// Where it asks if it has no display: on the terminal that we were started from.
fn options() -> Vec<String> {
    let mut options = vec!["no-grab".to_owned(), "lc-ctype=C.UTF-8".to_owned()];
    if OpenOptions::new().read(true).open("/dev/tty").is_ok() {
        options.push("ttyname=/dev/tty".to_owned());
        let kind = std::env::var("TERM").ok().filter(|kind| !kind.is_empty());
        options.extend(kind.map(|kind| format!("ttytype={kind}")));
    }
    options
}

impl Refusal {
    /// Whether the user said so.
    fn is_no(&self) -> bool {
        [TIMEOUT, CANCELED, NOT_CONFIRMED, FULLY_CANCELED].contains(&self.code)
    }
}

fn failed(refusal: &Refusal) -> Error {
    Error::new(ErrorKind::Io, format!("pinentry failed: {}", refusal.told)).with_hint(ELSEWHERE)
}

fn cancelled() -> Error {
    Error::new(ErrorKind::Interrupted, "cancelled")
}

fn running() -> MutexGuard<'static, Option<Child>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the program says; not waited for beyond the deadline, where there is one.
#[derive(Debug)]
pub(crate) struct Patient {
    pipe: PipeReader,
    deadline: Option<Instant>,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::TimedOut)?;
            let mut pipe = [PollFd::from_borrowed_fd(self.pipe.as_fd(), PollFlags::IN)];
            if poll(&mut pipe, Some(&left))? == 0 {
                IS_MUTE.store(true, Ordering::Relaxed);
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        self.pipe.read(buffer)
    }
}

// Errors of libgpg-error.
const TIMEOUT: u32 = 62;
const CANCELED: u32 = 99;
const NOT_CONFIRMED: u32 = 114;
const FULLY_CANCELED: u32 = 198;

const ELSEWHERE: &str =
    "--ask terminal asks on the terminal; pinentry = \"/usr/bin/...\" in config.toml names another program";
/// How long it may take to be ready, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to go by itself.
const A_MOMENT: Duration = Duration::from_millis(500);
const TICK: Duration = Duration::from_millis(10);
