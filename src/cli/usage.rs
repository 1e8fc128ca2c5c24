//! clap's errors in the words and the form of all other errors.

use clap::{
    Command,
    error::{ContextKind, ContextValue, ErrorKind as Clap},
};
use strongroom::error::{Error, ErrorKind};

use super::{secrets::EMPTY, size::parse_size};

/// The same complaint as an [`Error`] of kind `Usage`. `arguments` are the program's, without its name.
pub(crate) fn from_clap(error: &clap::Error, arguments: &[String]) -> Error {
    let (what, why) = complaint(error);
    let hint = hint(error, arguments);
    Error::new(ErrorKind::Usage, why).during(what).with_hint(hint)
}

/// What the complaint is about, and what is wrong with it.
fn complaint(error: &clap::Error) -> (String, String) {
    let argument = bare(text(error, ContextKind::InvalidArg));
    match error.kind() {
        Clap::UnknownArgument if argument.starts_with('-') => (argument, "unknown option".to_owned()),
        Clap::UnknownArgument => (argument, "unexpected argument".to_owned()),
        Clap::InvalidSubcommand => {
            (text(error, ContextKind::InvalidSubcommand), "unknown command".to_owned())
        }
        Clap::MissingSubcommand | Clap::DisplayHelpOnMissingArgumentOrSubcommand => {
            ("missing command".to_owned(), "say what to do".to_owned())
        }
        Clap::MissingRequiredArgument => ("missing argument".to_owned(), argument),
        Clap::ArgumentConflict => conflict(error, argument),
        Clap::InvalidValue | Clap::ValueValidation => bad_value(error, argument),
        Clap::TooFewValues | Clap::WrongNumberOfValues | Clap::NoEquals => {
            (argument, "needs a value".to_owned())
        }
        Clap::TooManyValues => (argument, "takes one value".to_owned()),
        Clap::InvalidUtf8 => ("unreadable argument".to_owned(), "not UTF-8".to_owned()),
        kind => ("wrong usage".to_owned(), kind.to_string()),
    }
}

fn conflict(error: &clap::Error, argument: String) -> (String, String) {
    let prior = bare(text(error, ContextKind::PriorArg));
    let why = if prior == argument || prior.is_empty() {
        "given twice".to_owned()
    } else {
        format!("cannot be used with {prior}")
    };
    (argument, why)
}

fn bad_value(error: &clap::Error, argument: String) -> (String, String) {
    let value = text(error, ContextKind::InvalidValue);
    let valid = text(error, ContextKind::ValidValue);
    let why = match std::error::Error::source(error) {
        _ if value.is_empty() => "needs a value".to_owned(),
        Some(source) => format!("{value:?}: {source}"),
        None if valid.is_empty() => format!("{value:?} is not a valid value"),
        None => format!("{value:?} is not one of {valid}"),
    };
    (argument, why)
}

fn hint(error: &clap::Error, arguments: &[String]) -> String {
    let argument = text(error, ContextKind::InvalidArg);
    if let Some(advice) = advice_on(argument.split('=').next().unwrap_or_default(), arguments) {
        return advice;
    }
    let (command_here, _) = command_of(arguments);
    // Only --no-password needs it.
    if error.kind() == Clap::MissingRequiredArgument
        && bare(argument) == "--keyfile"
        && !command_here.ends_with(" create")
    {
        return EMPTY.to_owned();
    }
    let command = text(error, ContextKind::InvalidSubcommand);
    if let Some(advice) = advice_on_command(&command, arguments) {
        return advice;
    }
    if let Some(suggested) = nearest(error, arguments) {
        return format!("did you mean {suggested}?");
    }
    format!("see {command_here} --help")
}

/// What users of other programs look for behind an option, or in the place of one.
fn advice_on(argument: &str, arguments: &[String]) -> Option<String> {
    let advice = match argument {
        "--password" | "--passphrase" | "--new-password" | "-p" => {
            "other users could see it on the command line; use --password-file, --password-fd or --password-command"
        }
        "-o" | "--options"
            if arguments.iter().any(|word| word.split(['=', ',']).any(|part| part == "ro")) =>
        {
            "use --read-only"
        }
        less if less.strip_prefix('-').is_some_and(|size| parse_size(size).is_ok())
            && command_of(arguments).0.ends_with(" resize") =>
        {
            "containers only grow: give the new size, or +SIZE"
        }
        "--ro" => "use --read-only",
        directory
            if !directory.is_empty()
                && !directory.starts_with(['-', '<'])
                && command_of(arguments).0.ends_with(" open") =>
        {
            return Some(format!("give the directory as --at {directory}"));
        }
        size if parse_size(size).is_ok() && command_of(arguments).0.ends_with(" create") => {
            return Some(format!("give the size as --size {size}"));
        }
        _ => return None,
    };
    Some(advice.to_owned())
}

/// Names that other programs have for what our commands do. Only the first word of a command line is one.
fn advice_on_command(word: &str, arguments: &[String]) -> Option<String> {
    let (_, does) = OTHER_NAMES.iter().find(|(names, _)| names.contains(&word))?;
    (command_of(arguments).0 == "strongroom").then(|| (*does).to_owned())
}

/// The one name that is most like the wrong one; of a command the name that help shows, whichever alias it was like.
fn nearest(error: &clap::Error, arguments: &[String]) -> Option<String> {
    // clap puts the best one last.
    let last = |kind| match error.get(kind) {
        Some(ContextValue::Strings(names)) => names.last().cloned(),
        Some(ContextValue::String(name)) => Some(name.clone()),
        _ => None,
    };
    if let Some(option) = last(ContextKind::SuggestedArg) {
        return Some(option);
    }
    let name = last(ContextKind::SuggestedSubcommand)?;
    Some(command_of(arguments).1.find_subcommand(&name).map_or(name, |command| command.get_name().to_owned()))
}

/// `--size <SIZE>` as `--size`; an argument without a dash keeps its name.
fn bare(argument: String) -> String {
    match argument.split_once(' ') {
        Some((option, _)) if option.starts_with('-') => option.to_owned(),
        _ => argument,
    }
}

/// A context as text: strings are joined, what is not there is empty.
fn text(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    }
}

/// The command that the arguments name, as far as they name one that exists: the words that call it, and what clap knows of it.
fn command_of(arguments: &[String]) -> (String, Command) {
    let words = arguments.iter().filter(|word| !word.starts_with('-'));
    super::find_command(words.map(String::as_str)).0
}

/// Names of other programs, and of the wish itself; and the command that does it here.
const OTHER_NAMES: [(&[&str], &str); 11] = [
    (&["unlock", "luksOpen", "decrypt", "attach", "unseal"], "strongroom open CONTAINER opens a container"),
    (
        &["lock", "eject", "luksClose", "detach", "unmap", "seal"],
        "strongroom close CONTAINER closes it, close --all closes everything",
    ),
    (
        &["new", "init", "make", "format", "luksFormat", "encrypt"],
        "strongroom create CONTAINER makes a container",
    ),
    (&["ls", "mounts"], "strongroom list shows what is mounted"),
    (
        &["show", "dump", "luksDump", "isLuks"],
        "strongroom info CONTAINER shows what a container says about itself",
    ),
    (
        &["passwd", "password", "change", "change-password", "luksChangeKey", "luksAddKey"],
        "strongroom key change CONTAINER replaces a password; key add adds one",
    ),
    (&["grow", "expand"], "strongroom resize CONTAINER SIZE makes a container larger"),
    (
        &["trim", "fstrim", "shrink"],
        "strongroom compact CONTAINER gives the free space of a thin container back",
    ),
    (
        &["split", "join"],
        "strongroom convert CONTAINER NEW --split SIZE makes a folder of pieces, and without --split one file",
    ),
    (
        &["fsck", "verify", "test"],
        "strongroom check CONTAINER examines a container; key test tries a password",
    ),
    (
        &["backup", "restore", "repair", "luksHeaderBackup", "luksHeaderRestore"],
        "strongroom header backup, restore and repair look after a container's header",
    ),
];
