//! Where words go: data to standard output, everything else to standard error.

use std::{
    io::{self, IsTerminal, Write},
    mem,
    sync::{Mutex, PoisonError},
};

use rustix::fs::{fstat, makedev};
use serde::Serialize;
use strongroom::{
    error::{Error, ErrorKind, Result},
    text::in_one_line,
};
use zeroize::Zeroizing;

use super::args::OutputOptions;

/// How much is said, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    json: bool,
    quiet: bool,
    verbose: bool,
}

impl Console {
    /// As the options ask.
    pub(crate) const fn new(options: OutputOptions) -> Self {
        Self { json: options.json, quiet: options.quiet, verbose: options.verbose }
    }

    /// For an error in the options themselves: they say no more than whether JSON was wanted.
    pub(crate) const fn before_options(json: bool) -> Self {
        Self { json, quiet: false, verbose: false }
    }

    /// Whether results are JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Whether progress may be drawn: standard error is a terminal, and the user did not ask for quiet.
    pub(crate) fn shows_progress(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Prints the result: `object` as JSON, or else what `text` makes of it.
    pub(crate) fn result<T: Serialize>(self, object: &T, text: impl FnOnce(&T) -> String) -> Result<()> {
        if self.json { self.object(object) } else { print(&text(object)) }
    }

    /// Tells that something was done: a JSON object on standard output, or a line on standard error unless quiet. What was
    /// done stays done whether or not anybody can be told, so this is no error.
    pub(crate) fn done<T: Serialize>(self, object: &T, line: impl FnOnce(&T) -> String) {
        if self.json {
            or_complain(self.object(object));
        } else {
            self.note(&line(object));
        }
    }

    /// The same where the text is data, too: on standard output.
    pub(crate) fn done_with_result<T: Serialize>(self, object: &T, text: impl FnOnce(&T) -> String) {
        or_complain(self.result(object, text));
    }

    /// Prints one JSON object on one line, where JSON is wanted, with the warnings so far.
    pub(crate) fn object<T: Serialize>(self, object: &T) -> Result<()> {
        if self.json { print(&line(object)?) } else { Ok(()) }
    }

    /// Prints one JSON object with a secret in it that shows nowhere else. A reader that went away is an error, too.
    pub(crate) fn secret_object<T: Serialize>(object: &T) -> Result<()> {
        print_to_the_end(&Zeroizing::new(line(object)?)).map_err(cannot_print)
    }

    /// A line on standard error, unless quiet.
    pub(crate) fn note(self, line: &str) {
        if !self.quiet {
            complain(line);
        }
    }

    /// A line on standard error for the curious.
    pub(crate) fn detail(self, line: &str) {
        if self.verbose {
            complain(line);
        }
    }

    /// A warning of data that is lost or may be: on standard error, also where quiet is asked for, and in the JSON object that follows.
    #[expect(clippy::unused_self, reason = "it is told as everything else is")]
    pub(crate) fn alarm(self, warning: &str) {
        let warning = in_one_line(warning);
        complain(&format!("strongroom: warning: {warning}"));
        gather(warning);
    }

    /// A warning on standard error, unless quiet, and in the JSON object that follows.
    pub(crate) fn warn(self, warning: &str) {
        let warning = in_one_line(warning);
        self.note(&format!("strongroom: warning: {warning}"));
        gather(warning);
    }

    /// A warning for the curious.
    pub(crate) fn warn_in_detail(self, warning: &str) {
        if self.verbose {
            self.warn(warning);
        }
    }
}

/// Writes data to standard output. A reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    match print_to_the_end(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(cannot_print(error)),
        _ => Ok(()),
    }
}

/// Whether what is printed reaches nobody. A standard output that is closed is `/dev/null` from the start of any Rust program.
pub(crate) fn leads_nowhere() -> bool {
    fstat(io::stdout()).is_ok_and(|found| found.st_rdev == makedev(1, 3))
}

fn print_to_the_end(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

fn cannot_print(error: io::Error) -> Error {
    Error::from(error).during("cannot write to standard output")
}

/// What was warned of and is in no JSON object.
pub(crate) fn take_warnings() -> Vec<String> {
    mem::take(&mut *WARNINGS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Keeps a warning for the next JSON object.
fn gather(warning: String) {
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner).push(warning);
}

fn line<T: Serialize>(object: &T) -> Result<String> {
    let warnings = take_warnings();
    let mut line = serde_json::to_string(&Warned { object, warnings })
        .map_err(|error| Error::caused_by(ErrorKind::Io, error))?;
    line.push('\n');
    Ok(line)
}

/// Says that what was done could not be told; also where quiet is asked for.
fn or_complain(told: Result<()>) {
    if let Err(error) = told {
        complain(&in_one_line(&format!("strongroom: warning: it is done, but {error}")));
    }
}

/// Writes a line to standard error. Where that fails there is nobody left to tell.
pub(crate) fn complain(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A result or an error, and what was warned of on the way there.
#[derive(Debug, Serialize)]
struct Warned<'a, T> {
    #[serde(flatten)]
    object: &'a T,
    warnings: Vec<String>,
}

/// What was warned of since the last JSON object. The process has one standard output, and so one such list.
static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());
