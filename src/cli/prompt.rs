//! Questions on the terminal itself, whatever the standard streams are.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Write},
};

use strongroom::error::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

use super::interrupt::{self, TerminalGuard};

/// Whether there is a terminal to ask on.
pub(crate) fn has_terminal() -> bool {
    open_terminal().is_ok()
}

/// The terminal without echo, for as long as this lives: nothing that is typed ahead shows either.
#[derive(Debug)]
pub(crate) struct SecretPrompt {
    terminal: File,
    _restored_on_drop: TerminalGuard,
}

impl SecretPrompt {
    /// Turns the echo off.
    ///
    /// # Errors
    /// `Usage` where there is no terminal.
    pub(crate) fn begin() -> Result<Self> {
        let terminal = open_terminal().map_err(|_| no_terminal())?;
        let guard = interrupt::turn_echo_off(terminal.try_clone()?)?;
        Ok(Self { terminal, _restored_on_drop: guard })
    }

    /// Asks for a secret. It is empty where nothing is entered. Ctrl-C ends the process, with the terminal as it was.
    ///
    /// # Errors
    /// `Usage` where the input is not UTF-8.
    pub(crate) fn ask(&mut self, question: &str) -> Result<Zeroizing<String>> {
        // A reader and a writer, not the terminal's name: rpassword would set the terminal itself, and set it back while
        // a signal ends the process.
        let config = rpassword::ConfigBuilder::new()
            .input_reader(self.terminal.try_clone()?)
            .output_writer(self.terminal.try_clone()?)
            .build();
        let answer =
            interrupt::at_liberty(|| match rpassword::prompt_password_with_config(question, config) {
                Ok(answer) => Ok(Zeroizing::new(answer)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Zeroizing::default()),
                Err(error) => Err(Error::from(error).during("cannot read the password")),
            })?;
        self.terminal.write_all(b"\n")?;
        // rpassword puts this character for whatever is not UTF-8: different passwords would become one.
        if answer.contains('\u{FFFD}') {
            let error = refused("the terminal sent bytes that are not UTF-8");
            return Err(error.with_hint("give it with --password-file"));
        }
        Ok(answer)
    }
}

/// Whether the user types `word`. Who types half of it is told once more what is wanted.
pub(crate) fn is_confirmed(question: &str, word: &str) -> Result<bool> {
    let answer = ask_openly(&format!("{question} Type \"{word}\" to continue: "))?;
    let answer = answer.trim();
    if answer == word || answer.is_empty() || !word.starts_with(&answer.to_lowercase()) {
        return Ok(answer == word);
    }
    Ok(ask_openly(&format!("Type all of \"{word}\" to continue, or press Enter to stop: "))?.trim() == word)
}

/// Shows a line on the terminal, between two questions.
pub(crate) fn say(line: &str) -> Result<()> {
    Ok(writeln!(open_terminal().map_err(|_| no_terminal())?, "{line}")?)
}

/// Asks for something that may show while it is typed. Ctrl-C ends the process.
///
/// # Errors
/// `Usage` where there is no terminal.
pub(crate) fn ask_openly(question: &str) -> Result<Zeroizing<String>> {
    let mut terminal = open_terminal().map_err(|_| no_terminal())?;
    let mut answer = Zeroizing::default();
    interrupt::at_liberty(|| {
        write!(terminal, "{question}")?;
        terminal.flush()?;
        BufReader::new((&terminal).take(MAX_LINE_LEN)).read_line(&mut answer)?;
        Ok(())
    })?;
    Ok(answer)
}

/// More than a terminal takes in one line.
const MAX_LINE_LEN: u64 = 4096;

fn open_terminal() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty")
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Usage, why).during("cannot take the password")
}

fn no_terminal() -> Error {
    Error::new(ErrorKind::Usage, "there is no terminal").during("cannot ask")
}
