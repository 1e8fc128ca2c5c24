//! Where a user is asked: on the terminal, in a window, or by the password agents of the system.

use std::{
    env,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::ValueEnum;
use strongroom::{
    crypto::secret::Password,
    error::{Error, ErrorKind, Result},
    mount::{notify, pinentry as find_pinentry},
    text::in_one_line,
};

use super::{
    config, interrupt,
    output::Console,
    pinentry::{self, Text},
    prompt::{self, SecretPrompt},
    recovery, secrets,
};

/// What `--ask` and `config.toml` choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AskChoice {
    // Documentation of values would spread every help text over twice the lines.
    Terminal,
    Pinentry,
    Systemd,
}

/// How this process asks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    Terminal,
    Window(PathBuf),
    Agents(PathBuf),
    Nobody,
}

/// What the command line says.
#[derive(Debug, Clone, Copy)]
struct Said {
    choice: Option<AskChoice>,
    is_json: bool,
}

static SAID: OnceLock<Said> = OnceLock::new();
static WAY: OnceLock<Way> = OnceLock::new();
/// Whether a window was open.
static IS_IN_WINDOWS: AtomicBool = AtomicBool::new(false);

/// Notes what the command line says. The rest is looked for when somebody is to be asked.
pub(crate) fn prefer(choice: Option<AskChoice>, is_json: bool) {
    let _ = SAID.set(Said { choice, is_json });
}

/// Whether there is somebody to ask. What is wrong with the way that was chosen is told when it is gone.
pub(crate) fn is_possible() -> bool {
    !matches!(way(), Ok(Way::Nobody))
}

/// The same for what can do without an answer: nobody is asked who only looks on, as where standard input is a pipe.
pub(crate) fn is_welcome() -> bool {
    match way() {
        Ok(Way::Terminal) => std::io::stdin().is_terminal(),
        Ok(Way::Window(_)) => true,
        _ => false,
    }
}

/// The same for a question that a script is spared: it has no terminal, and no window was open yet that it did not ask for.
pub(crate) fn is_expected() -> bool {
    let is_chosen = SAID.get().is_some_and(|said| said.choice.is_some());
    match way() {
        Ok(Way::Terminal) => true,
        Ok(Way::Window(_)) => is_chosen || IS_IN_WINDOWS.load(Ordering::Relaxed),
        _ => false,
    }
}

/// One question for a secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    /// The container that it is about.
    pub(crate) about: &'a Path,
    /// The question, which the answer follows: `Password for photos.vault: `.
    pub(crate) line: &'a str,
    /// What was wrong with the answer before.
    pub(crate) error: Option<&'a str>,
    /// Whether the answer may take several lines, as a recovery key does.
    pub(crate) is_long: bool,
}

/// Whoever is asked for secrets, for as long as this lives: nothing that is typed ahead shows on a terminal.
#[derive(Debug)]
pub(crate) enum Asker {
    Terminal(SecretPrompt),
    Window(PathBuf),
    Agents(PathBuf),
}

impl Asker {
    /// Turns to whoever is to be asked.
    ///
    /// # Errors
    /// `Usage` where there is nobody.
    pub(crate) fn begin() -> Result<Self> {
        Ok(match way()? {
            Way::Window(program) => {
                IS_IN_WINDOWS.store(true, Ordering::Relaxed);
                Self::Window(program)
            }
            Way::Agents(program) => Self::Agents(program),
            Way::Terminal | Way::Nobody => Self::Terminal(SecretPrompt::begin()?),
        })
    }

    /// Asks for a secret. It is empty where nothing is entered.
    ///
    /// # Errors
    /// `Interrupted` where the user closes the window.
    pub(crate) fn secret(&mut self, console: Console, question: Question<'_>) -> Result<Password> {
        let error = question.error.map(in_one_line);
        match self {
            Self::Window(program) => {
                let description = question.line.trim_end().trim_end_matches(':');
                let field = description.split(' ').next().unwrap_or_default();
                let prompt = format!("{field}:");
                let text = Text { description, error: error.as_deref(), prompt: &prompt, ok: "" };
                pinentry::secret(program, text)
            }
            Self::Agents(program) => {
                let line = question.line.trim_end();
                let message = error.map_or_else(|| line.to_owned(), |error| format!("{error}. {line}"));
                ask_agents(program, question.about, &message)
            }
            Self::Terminal(prompt) => {
                if let Some(error) = error {
                    console.note(&format!("strongroom: {error}"));
                }
                let answer = if question.is_long {
                    recovery::typed(prompt, question.line)?
                } else {
                    prompt.ask(question.line)?
                };
                Ok(Password::copy_of(answer.as_bytes())?)
            }
        }
    }
}

/// Asks a question that only a word, written out, answers in the affirmative; in a window, a button.
///
/// # Errors
/// `Usage` where there is nobody to ask.
pub(crate) fn is_confirmed(question: &str, word: &str) -> Result<bool> {
    match way()? {
        Way::Window(program) => {
            IS_IN_WINDOWS.store(true, Ordering::Relaxed);
            let (first, rest) = word.split_at_checked(1).unwrap_or_default();
            let ok = format!("{}{rest}", first.to_ascii_uppercase());
            pinentry::agrees(&program, Text { description: question, ok: &ok, ..Text::default() })
        }
        Way::Agents(_) => Err(Error::usage("password agents answer no questions").during("cannot ask")),
        Way::Terminal | Way::Nobody => prompt::is_confirmed(question, word),
    }
}

/// The same, where anything else ends the command: `yes` agrees.
///
/// # Errors
/// `Usage` where the answer is another one, or where there is nobody to ask.
pub(crate) fn confirm(question: &str) -> Result<()> {
    confirm_by(question, "yes")
}

/// The same with another word: for what nothing brings back.
///
/// # Errors
/// As [`confirm`].
pub(crate) fn confirm_by(question: &str, word: &str) -> Result<()> {
    if is_confirmed(question, word)? {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Usage, "not confirmed; nothing was changed"))
}

/// Shows in a window, where a user is asked in one, what stands on the terminal otherwise. [`close`] takes it away.
pub(crate) fn show(line: &str) {
    if let Ok(Way::Window(program)) = way() {
        // It is said on standard error, too.
        let _ = pinentry::show(&program, Text { description: line, ..Text::default() });
    }
}

/// Takes away what [`show`] shows.
pub(crate) fn close() {
    pinentry::close();
}

/// Tells in a window what nobody can read on standard error: where the user was asked in one, or `is_desktop` started us. Where there is
/// no window a desktop shows as a notice why the command `has_failed`.
pub(crate) fn tell(is_desktop: bool, has_failed: bool, lines: &str) {
    let is_read = std::io::stderr().is_terminal() || lines.is_empty();
    if is_read || !(is_desktop || IS_IN_WINDOWS.load(Ordering::Relaxed)) {
        return;
    }
    // Nobody is left to be told of what fails here.
    let _ = match way() {
        Ok(Way::Window(program)) => {
            pinentry::message(&program, Text { description: lines, ..Text::default() })
        }
        _ if is_desktop && has_failed => notify(lines),
        _ => Ok(()),
    };
}

/// An answer that there must be, and is not.
pub(crate) fn nothing_entered() -> Error {
    Error::usage("no password entered")
}

/// The way that was chosen, or the one that there is.
fn way() -> Result<Way> {
    if let Some(way) = WAY.get() {
        return Ok(way.clone());
    }
    let said = SAID.get().copied().unwrap_or(Said { choice: None, is_json: false });
    let way = find(said)?;
    Ok(WAY.get_or_init(|| way).clone())
}

fn find(said: Said) -> Result<Way> {
    if said.choice.is_none() && prompt::has_terminal() {
        // Nothing else is looked at, not even a file: as most who call us expect.
        return match config::asking()?.ask {
            Some(choice) => of_choice(choice),
            None => Ok(Way::Terminal),
        };
    }
    if let Some(choice) = said.choice {
        return of_choice(choice);
    }
    // A program that reads JSON gives secrets itself.
    let has_display = ["DISPLAY", "WAYLAND_DISPLAY"].iter().any(|name| env::var_os(name).is_some());
    if said.is_json || !has_display {
        return Ok(Way::Nobody);
    }
    let wish = config::asking()?;
    match wish.ask {
        None | Some(AskChoice::Pinentry) => Ok(pinentry_of(wish.pinentry).map_or(Way::Nobody, Way::Window)),
        Some(choice) => of_choice(choice),
    }
}

fn of_choice(choice: AskChoice) -> Result<Way> {
    match choice {
        AskChoice::Terminal => Ok(Way::Terminal),
        AskChoice::Pinentry => pinentry_of(config::asking()?.pinentry).map(Way::Window),
        AskChoice::Systemd => agents().map(Way::Agents),
    }
}

/// The program that the user's file names, or else the system's.
fn pinentry_of(named: Option<PathBuf>) -> Result<PathBuf> {
    named.map_or_else(find_pinentry, Ok)
}

/// The program that asks the password agents of the system.
///
/// # Errors
/// `Missing`.
pub(crate) fn agents() -> Result<PathBuf> {
    let places = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join("systemd-ask-password"));
    places
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| Error::new(ErrorKind::Missing, "systemd-ask-password is not installed"))
}

/// It ends without an answer where nobody gives one in time.
fn ask_agents(program: &Path, about: &Path, message: &str) -> Result<Password> {
    let failed = |why: String| Error::new(ErrorKind::Usage, why).during("cannot ask the password agents");
    let (password, status) = interrupt::at_liberty(|| {
        let mut child = Command::new(program)
            .args(["--no-tty", &format!("--id=strongroom:{}", about.display()), "--", message])
            .env_clear()
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let password = child.stdout.take().map_or_else(|| Ok(Password::copy_of(&[])?), secrets::read);
        Ok((password, child.wait()?))
    })?;
    if !status.success() {
        return Err(failed(format!("nobody answered ({status})")));
    }
    password
}
