//! Ctrl-C and its kin: the work stops at its next step, the terminal stays usable, nothing half-made is left.

use std::{
    fs::File,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
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
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for _ in signals.forever() {
            let is_first = !REQUESTED.swap(true, Ordering::SeqCst);
            if !is_first || AT_LIBERTY.load(Ordering::SeqCst) {
                leave();
            }
        }
    })?;
    Ok(())
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
    AT_LIBERTY.store(true, Ordering::SeqCst);
    let result = check().and_then(|()| work());
    AT_LIBERTY.store(false, Ordering::SeqCst);
    check()?;
    result
}

/// Remembers how `terminal` is, to be restored when the value returned is dropped or the process is ended by a signal.
pub(crate) fn guard_terminal(terminal: File) -> Result<TerminalGuard> {
    let settings = tcgetattr(&terminal).map_err(std::io::Error::from)?;
    *terminal_slot() = Some((terminal, settings));
    Ok(TerminalGuard)
}

/// The terminal gets back the settings that it had when this was made.
#[derive(Debug)]
pub(crate) struct TerminalGuard;

impl Drop for TerminalGuard {
    fn drop(&mut self) {
        restore_terminal();
    }
}

/// Ends the process as interrupted. Only the first caller reports; later ones wait for the end.
pub(crate) fn leave() -> ! {
    static LEAVING: Mutex<()> = Mutex::new(());
    let _last = LEAVING.lock().unwrap_or_else(PoisonError::into_inner);
    restore_terminal();
    progress::clear();
    let console = CONSOLE.get().copied().unwrap_or_else(|| Console::before_options(false));
    let status = report::report(console, &interrupted());
    std::process::exit(status.into())
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted")
}

fn restore_terminal() {
    if let Some((terminal, settings)) = terminal_slot().take() {
        // Where the terminal is gone there is nothing to restore.
        let _ = tcsetattr(&terminal, OptionalActions::Now, &settings);
    }
}

fn terminal_slot() -> MutexGuard<'static, Option<(File, Termios)>> {
    TERMINAL.lock().unwrap_or_else(PoisonError::into_inner)
}
