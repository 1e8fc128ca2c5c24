//! Ctrl-C and its kin: the work stops at its next step, the terminal stays usable, nothing half-made is left.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    low_level::pipe,
};
use strongroom::{
    error::{Error, ErrorKind, Result},
    mount::is_reached,
    text::in_one_line,
    volume::{Request, Stillness},
};

use super::{output::Console, pinentry, progress, report};

/// Set by the first signal.
static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Whether the first signal may end the process on the spot: nothing is half-made.
static AT_LIBERTY: AtomicBool = AtomicBool::new(false);
/// The terminal as it was before a prompt changed it.
static TERMINAL: Mutex<Option<(File, Termios)>> = Mutex::new(None);
static CONSOLE: OnceLock<Console> = OnceLock::new();
/// What lies on the medium that was asked last.
static ASKED: Mutex<Option<PathBuf>> = Mutex::new(None);

/// What has been reached once.
static REACHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Turns SIGINT, SIGTERM and SIGHUP into a wish to stop. The second one ends the process at once, and so does the first where a
/// medium has not answered for [`GIVEN_UP`]. What is waited for is told after [`Stillness::TOLD`].
pub(crate) fn watch(console: Console) -> Result<()> {
    let _ = CONSOLE.set(console);
    // Caught, so that a write beyond the limit on file sizes (ulimit -f) fails instead of killing the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let (signals, theirs) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        pipe::register(signal, theirs.try_clone()?)?;
    }
    signals.set_read_timeout(Some(TICK))?;
    let watcher =
        thread::Builder::new().name("signals".to_owned()).spawn(move || hear_and_look(&signals, console));
    match watcher {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Error::new(ErrorKind::OutOfMemory, "no thread can be started")
                .with_hint("end other programs, or raise the limit: see ulimit -u"))
        }
        Err(error) => Err(error.into()),
    }
}

/// The watching thread's whole life.
fn hear_and_look(mut signals: &UnixStream, console: Console) {
    let mut stillness = Stillness::watch();
    loop {
        match signals.read(&mut [0; 1]) {
            Ok(0) => return,
            Ok(_) => {
                let is_first = !REQUESTED.swap(true, Ordering::SeqCst);
                if !is_first || AT_LIBERTY.load(Ordering::SeqCst) {
                    leave();
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return,
        }
        let Some(waited) = stillness.look(|| console.note(&waiting())) else { continue };
        if waited >= GIVEN_UP && is_requested() {
            // Wherever it stops is as after a power cut, which everything here survives.
            leave();
        }
    }
}

fn waiting() -> String {
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let what = asked.as_ref().map_or_else(|| "a file".to_owned(), |path| path.display().to_string());
    let seconds = Stillness::TOLD.as_secs();
    in_one_line(&format!(
        "strongroom: waiting for {what}: what it lies on has not answered for {seconds} seconds"
    ))
}

/// Whether the user asked to stop.
pub(crate) fn is_requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// True once the user asked to stop, for work that looks at it itself.
pub(crate) fn flag() -> &'static AtomicBool {
    &REQUESTED
}

/// An error once the user asked to stop.
///
/// # Errors
/// `Interrupted`.
pub(crate) fn check() -> Result<()> {
    if is_requested() { Err(interrupted()) } else { Ok(()) }
}

/// Runs work that leaves nothing behind and cannot be stopped within: a prompt, a key derivation. A signal ends the
/// process right there.
pub(crate) fn at_liberty<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = AT_LIBERTY.swap(true, Ordering::SeqCst);
    let result = check().and_then(|()| work());
    AT_LIBERTY.store(before, Ordering::SeqCst);
    check()?;
    result
}

/// Runs work that asks for what is at `path`, which may lie on a medium that does not answer: then that is told.
pub(crate) fn asking<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    *ASKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(path.to_path_buf());
    let _request = Request::begin();
    work()
}

/// The same for work that leaves nothing behind: a signal ends the process right there, also while the medium does not answer.
pub(crate) fn asking_at_liberty<T>(path: &Path, work: impl FnOnce() -> Result<T>) -> Result<T> {
    at_liberty(|| {
        asking(path, || {
            let is_new = REACHED.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_path_buf());
            if is_new {
                is_reached(path, None);
            }
            work()
        })
    })
}

/// Turns the echo of `terminal` off until the value returned is dropped or a signal ends the process.
///
/// Input comes byte by byte. Ctrl-C stays a signal; Ctrl-Z and Ctrl-\ are none meanwhile: the one would come back to a
/// terminal that shows the password, the other would leave one that shows nothing.
pub(crate) fn turn_echo_off(terminal: File) -> Result<TerminalGuard> {
    let mut slot = terminal_slot();
    let settings = tcgetattr(&terminal).map_err(io::Error::from)?;
    let mut silent = settings.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON);
    silent.local_modes.insert(LocalModes::ISIG);
    for (index, value) in [
        (SpecialCodeIndex::VMIN, 1),
        (SpecialCodeIndex::VTIME, 0),
        (SpecialCodeIndex::VSUSP, DISABLED),
        (SpecialCodeIndex::VQUIT, DISABLED),
    ] {
        silent.special_codes[index] = value;
    }
    tcsetattr(&terminal, OptionalActions::Now, &silent).map_err(io::Error::from)?;
    *slot = Some((terminal, settings));
    Ok(TerminalGuard)
}

/// The terminal gets back the settings that it had when this was made.
#[derive(Debug)]
pub(crate) struct TerminalGuard;

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        restore(&mut terminal_slot());
    }
}

/// Ends the process as interrupted. Only the first caller reports; others wait for the end.
pub(crate) fn leave() -> ! {
    // Held to the end: nobody changes the terminal after it was restored.
    let mut slot = terminal_slot();
    if let Some(mut terminal) = restore(&mut slot) {
        // The question stands on the line still.
        let _ = terminal.write_all(b"\n");
    }
    pinentry::end();
    progress::clear();
    let console = CONSOLE.get().copied().unwrap_or_else(|| Console::before_options(false));
    let status = report::report(console, &interrupted());
    std::process::exit(status.into())
}

/// What an interrupted command ends with.
pub(crate) fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted")
}

/// Gives the terminal its settings back, where a prompt has changed them.
fn restore(slot: &mut Option<(File, Termios)>) -> Option<File> {
    let (terminal, settings) = slot.take()?;
    // Where the terminal is gone there is nothing to restore.
    let _ = tcsetattr(&terminal, OptionalActions::Now, &settings);
    Some(terminal)
}

fn terminal_slot() -> MutexGuard<'static, Option<(File, Termios)>> {
    TERMINAL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a medium that does not answer keeps a command that was told to stop.
const GIVEN_UP: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(250);

/// The value of a special code that no key has (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;
