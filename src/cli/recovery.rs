//! Recovery keys at the command line: read, shown once, asked back.

use std::{
    fs::OpenOptions,
    io::{self, IsTerminal, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use strongroom::{
    crypto::{
        hash,
        recovery::{self, DIGITS, GROUPS, RecoveryText},
        rng::{OsRng, Rng},
        secret::RecoveryKey,
    },
    error::{Error, ErrorKind, Result},
    unlock::TRIES,
};
use zeroize::Zeroizing;

use super::{
    output::{self, Console},
    prompt::{self, SecretPrompt},
    qr::{Ink, Picture},
};

/// How a new recovery key is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    /// Also as a picture in this file.
    pub(crate) svg: Option<&'a Path>,
    /// With a QR code where it is printed.
    pub(crate) qr: bool,
}

/// Makes a recovery key, shows it, and has it typed back where there is somebody to do so.
///
/// # Errors
/// `Credentials` where three answers are not the key; what printing and the picture's file gave. The key opens nothing then.
pub(crate) fn issue(
    console: Console,
    container: &Path,
    shown: Shown<'_>,
) -> Result<(RecoveryKey, RecoveryText)> {
    if shown.svg.is_none() && output::leads_nowhere() {
        let reason = "cannot print the recovery key: standard output is closed, or leads to /dev/null";
        return Err(Error::new(ErrorKind::Io, reason)
            .with_hint("let it go to a terminal, a file or a pipe; or use --svg FILE"));
    }
    let key = recovery::generate(&OsRng)?;
    let text = RecoveryText::of(&key)?;
    if !console.is_json() {
        show(console, container, &text, shown.qr)?;
        if io::stdin().is_terminal() && prompt::has_terminal() {
            ask_back(&text).map_err(|error| match error.kind() {
                ErrorKind::Interrupted => error.with_hint(
                    "the recovery key shown above opens nothing: run the command again for another",
                ),
                _ => error,
            })?;
        }
    }
    if let Some(path) = shown.svg {
        write_svg(path, &text)?;
        console.warn(&format!(
            "{} contains the recovery key: keep it as safe as the key itself",
            path.display()
        ));
    }
    Ok((key, text))
}

/// Refuses a file that is there, before anything is asked or shown.
pub(crate) fn check_svg(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Ok(_) => Err(Error::new(ErrorKind::Exists, "it already exists").during(cannot_write(path))),
        Err(_) => Ok(()),
    }
}

/// Prints the key as a block of lines, so that a person keeps the place, and as a QR code.
fn show(console: Console, container: &Path, text: &RecoveryText, qr: bool) -> Result<()> {
    console.note(&format!(
        "strongroom: this is the recovery key of {}. It is not shown again; whoever has it opens the container.",
        container.display()
    ));
    let is_terminal = io::stdout().is_terminal();
    let (indent, ink) = if is_terminal { ("    ", Ink::Terminal) } else { ("", Ink::Plain) };
    let mut page = Zeroizing::new(String::new());
    for line in &lines(text) {
        page.push_str(indent);
        page.push_str(line);
        page.push('\n');
    }
    if qr {
        page.push('\n');
        page.push_str(&Picture::of(text.expose().as_bytes())?.blocks(ink));
    }
    // Not as other data, whose reader may go away: a key that nobody saw must not become one.
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(page.as_bytes()).and_then(|()| stdout.flush());
    printed.map_err(|error| Error::from(error).during("cannot print the recovery key"))
}

/// The groups, four to a line.
fn lines(text: &RecoveryText) -> Vec<Zeroizing<String>> {
    let groups: Vec<&str> = text.groups().collect();
    groups.chunks(GROUPS_IN_A_LINE).map(|groups| Zeroizing::new(groups.join("-"))).collect()
}

/// Has two groups typed, which show: nobody types 102 digits without an error, and what is on the screen anyway needs no hiding.
fn ask_back(text: &RecoveryText) -> Result<()> {
    let (one, other) = two_groups()?;
    let groups: Vec<&str> = text.groups().collect();
    let right = Zeroizing::new([groups[one], groups[other]].concat());
    let question = format!(
        "Write it down, four groups to a line. To check, type groups {} and {}: ",
        one + 1,
        other + 1
    );
    for tries_left in (0..TRIES).rev() {
        let answer = prompt::ask_openly(&question)?;
        let digits: Zeroizing<Vec<u8>> = Zeroizing::new(answer.bytes().filter(u8::is_ascii_digit).collect());
        if hash::equal(&digits, right.as_bytes()) {
            return Ok(());
        }
        if tries_left > 0 {
            prompt::say("That does not match; try again.")?;
        }
    }
    Err(Error::new(ErrorKind::Credentials, "those groups do not match the recovery key; nothing was changed")
        .with_hint("run the command again: it makes a new key"))
}

/// Two different groups by chance, counted from 0, the first one first.
fn two_groups() -> Result<(usize, usize)> {
    let mut chance = [0; 2];
    OsRng.fill(&mut chance)?;
    let one = usize::from(chance[0]) % GROUPS;
    let other = (one + 1 + usize::from(chance[1]) % (GROUPS - 1)) % GROUPS;
    Ok((one.min(other), one.max(other)))
}

/// What is typed until the digits suffice: a key pasted as it was printed has line breaks.
pub(crate) fn typed(prompt: &mut SecretPrompt, question: &str) -> Result<Zeroizing<String>> {
    let mut answer = Zeroizing::new(String::with_capacity(MOST_TYPED));
    let mut question = question;
    loop {
        let line = prompt.ask(question).map_err(about_the_key)?;
        if line.is_empty() || answer.len() + line.len() >= MOST_TYPED {
            break;
        }
        answer.push_str(&line);
        answer.push('\n');
        if answer.bytes().filter(u8::is_ascii_digit).count() >= DIGITS {
            break;
        }
        question = "Remaining groups: ";
    }
    if answer.is_empty() {
        return Err(about_the_key(Error::new(ErrorKind::Usage, "nothing was entered")));
    }
    Ok(answer)
}

fn write_svg(path: &Path, text: &RecoveryText) -> Result<()> {
    let lines = lines(text);
    let svg = Picture::of(text.expose().as_bytes())?.svg(lines.iter().map(|line| line.as_str()));
    let cannot = |error: io::Error| Error::from(error).during(cannot_write(path));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    file.write_all(svg.as_bytes()).and_then(|()| file.sync_all()).map_err(cannot)
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write the recovery key to {}", path.display())
}

/// The same error, of a recovery key instead of a password.
fn about_the_key(error: Error) -> Error {
    if error.kind() != ErrorKind::Usage {
        return error;
    }
    Error::new(ErrorKind::Usage, error.reason()).during("cannot take the recovery key")
}

const GROUPS_IN_A_LINE: usize = 4;
/// Enough for every way to write a key; what is longer is none. Allocated at once, so that no part is moved.
const MOST_TYPED: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_together_are_the_key() {
        let key = recovery::generate(&OsRng).unwrap();
        let text = RecoveryText::of(&key).unwrap();
        let lines = lines(&text);
        assert_eq!(lines.len(), 5);
        let page: Vec<&str> = lines.iter().map(|line| line.as_str()).collect();
        assert_eq!(recovery::decode(page.join("\n").as_bytes()).unwrap().expose(), key.expose());
    }

    #[test]
    fn a_picture_overwrites_nothing_and_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.svg");
        let text = RecoveryText::of(&recovery::generate(&OsRng).unwrap()).unwrap();
        check_svg(&path).unwrap();
        write_svg(&path, &text).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(check_svg(&path).unwrap_err().kind(), ErrorKind::Exists);
        assert_eq!(write_svg(&path, &text).unwrap_err().kind(), ErrorKind::Exists);
    }
}
