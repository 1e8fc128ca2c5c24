//! Questions on the terminal itself, whatever the standard streams are.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
};

use strongroom::error::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::interrupt;

/// Whether there is a terminal to ask on.
pub(crate) fn has_terminal() -> bool {
    open_terminal().is_ok()
}

/// Asks for a secret without echo. Ctrl-C ends the process, with the terminal as it was.
///
/// # Errors
/// `Usage` where there is no terminal, nothing was entered, or the input is not UTF-8.
pub(crate) fn ask_secret(question: &str) -> Result<Zeroizing<String>> {
    let terminal = open_terminal().map_err(|_| no_terminal())?;
    let answer = interrupt::at_liberty(|| {
        let _guard = interrupt::guard_terminal(terminal)?;
        match rpassword::prompt_password(question) {
            Ok(answer) => Ok(Zeroizing::new(answer)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => interrupt::leave(),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Zeroizing::default()),
            Err(error) => Err(Error::from(error).during("cannot read the password")),
        }
    })?;
    if answer.is_empty() {
        return Err(refused("nothing was entered"));
    }
    // rpassword puts this character for whatever is not UTF-8: different passwords would become one.
    if answer.contains('\u{FFFD}') {
        return Err(
            refused("the terminal sent bytes that are not UTF-8").with_hint("give it with --password-file")
        );
    }
    Ok(answer)
}

/// Asks a question that only `yes`, written out, answers in the affirmative.
///
/// # Errors
/// `Usage` where there is no terminal.
pub(crate) fn confirm(question: &str) -> Result<bool> {
    let mut terminal = open_terminal().map_err(|_| no_terminal())?;
    let mut answer = String::new();
    interrupt::at_liberty(|| {
        write!(terminal, "{question} Type yes to go on: ")?;
        terminal.flush()?;
        BufReader::new(&terminal).read_line(&mut answer)?;
        Ok(())
    })?;
    Ok(answer.trim_end() == "yes")
}

fn open_terminal() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Usage, why).during("cannot take the password")
}

fn no_terminal() -> Error {
    Error::new(ErrorKind::Usage, "there is no terminal").during("cannot ask")
}
