//! Ctrl-C and its kin: the work stops at its next step, the terminal stays usable, nothing half-made is left.

use std::{
    fs::File,
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    iterator::Signals,
};
use strongroom::error::{Error, ErrorKind, Result};

use super::{output::Console, progress, report};

/// Set by the first signal.
static REQUESTED: AtomicBool = AtomicBool::new(false);
/// Whether the first signal may end the process on the spot: nothing is half-made.
static AT_LIBERTY: AtomicBool = AtomicBool::new(false);
/// The terminal as it was before a prompt changed it.
static TERMINAL: Mutex<Option<(File, Termios)>> = Mutex::new(None);
static CONSOLE: OnceLock<Console> = OnceLock::new();

/// Turns SIGINT, SIGTERM and SIGHUP into a wish to stop. The second one ends the process at once.
pub(crate) fn watch(console: Console) -> Result<()> {
    let _ = CONSOLE.set(console);
    // Caught, so that a write beyond the limit on file sizes (ulimit -f) fails instead of killing the process.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let watcher = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            let is_first = !REQUESTED.swap(true, Ordering::SeqCst);
            if !is_first || AT_LIBERTY.load(Ordering::SeqCst) {
                leave();
            }
        }
    });
    match watcher {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(Error::new(ErrorKind::OutOfMemory, "no thread can be started")
                .with_hint("end other programs, or raise the limit: see ulimit -u"))
        }
        Err(error) => Err(error.into()),
    }
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

/// The value of a special code that no key has (`_POSIX_VDISABLE`).
const DISABLED: u8 = 0;
