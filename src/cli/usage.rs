//! clap's errors in the words and the form of all other errors.

use clap::error::{ContextKind, ContextValue, ErrorKind as Clap};
use strongroom::error::{Error, ErrorKind};

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
        Clap::UnknownArgument => (argument, "one argument too many".to_owned()),
        Clap::InvalidSubcommand => {
            (text(error, ContextKind::InvalidSubcommand), "unknown command".to_owned())
        }
        Clap::MissingSubcommand | Clap::DisplayHelpOnMissingArgumentOrSubcommand => {
            ("nothing to do".to_owned(), "no command given".to_owned())
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
        format!("does not go together with {prior}")
    };
    (argument, why)
}

fn bad_value(error: &clap::Error, argument: String) -> (String, String) {
    let value = text(error, ContextKind::InvalidValue);
    let valid = text(error, ContextKind::ValidValue);
    let why = match std::error::Error::source(error) {
        _ if value.is_empty() => "needs a value".to_owned(),
        Some(source) => format!("{value:?}: {source}"),
        None if valid.is_empty() => format!("{value:?} is no valid value"),
        None => format!("{value:?} is not known; there is {valid}"),
    };
    (argument, why)
}

fn hint(error: &clap::Error, arguments: &[String]) -> String {
    let argument = text(error, ContextKind::InvalidArg);
    if matches!(argument.split('=').next(), Some("--password" | "--passphrase" | "--new-password" | "-p")) {
        return "everybody on this machine could see it there; use --password-file, --password-fd or --password-command"
            .to_owned();
    }
    for kind in [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand] {
        let suggested = text(error, kind);
        if !suggested.is_empty() {
            return format!("did you mean {suggested}?");
        }
    }
    format!("see {} --help", command_of(arguments))
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

/// The command that the arguments name, as far as they name one that exists.
fn command_of(arguments: &[String]) -> String {
    let mut path = "strongroom".to_owned();
    let top = super::command();
    let mut at = &top;
    for word in arguments.iter().filter(|word| !word.starts_with('-')) {
        let Some(next) = at.find_subcommand(word) else { break };
        path.push(' ');
        path.push_str(next.get_name());
        at = next;
    }
    path
}
