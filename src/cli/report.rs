//! Errors as users meet them: one line, at most one hint, an exit status.

use serde::Serialize;
use strongroom::{
    error::{Error, ErrorKind},
    text::in_one_line,
};

use super::output::{Console, complain};

/// Shows `error` and gives the exit status for it.
///
/// `strongroom: error: WHAT: WHY` on standard error, the hint below it; with `--json` the same as an object on standard output.
pub(crate) fn report(console: Console, error: &Error) -> u8 {
    let message = in_one_line(&error.to_string());
    let hint = error.hint().or_else(|| advice(error.kind())).map(in_one_line);
    let code = exit_status(error.kind());
    let object =
        Report { error: Body { code, kind: error.kind().name(), message: &message, hint: hint.as_deref() } };
    // A standard output that cannot be written leaves the line on standard error.
    let _ = console.object(&object);
    complain(&format!("strongroom: error: {message}"));
    if let Some(hint) = hint {
        complain(&format!("strongroom: hint: {hint}"));
    }
    code
}

/// The exit status of each kind, as cryptsetup's where it has one: so 4, its `device does not exist`, for what is not there.
pub(crate) const fn exit_status(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => 1,
        ErrorKind::Credentials | ErrorKind::Permission => 2,
        ErrorKind::OutOfMemory => 3,
        ErrorKind::NotFound
        | ErrorKind::NotAContainer
        | ErrorKind::Damaged
        | ErrorKind::Tampered
        | ErrorKind::Unsupported => 4,
        ErrorKind::Busy | ErrorKind::Exists => 5,
        ErrorKind::Missing => 7,
        ErrorKind::Interrupted => INTERRUPTED,
        // `Io`, `NoSpace`, and kinds to come.
        _ => 6,
    }
}

/// 128 and the number of SIGINT, as shells count.
pub(crate) const INTERRUPTED: u8 = 130;

/// The way out that holds wherever an error of this kind comes up without a better one.
const fn advice(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::OutOfMemory => Some("close other programs, or use a machine with more memory"),
        ErrorKind::Damaged => Some("restore the container from a backup"),
        ErrorKind::Tampered => Some("restore the container from a backup that you trust"),
        _ => None,
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    error: Body<'a>,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    code: u8,
    kind: &'static str,
    message: &'a str,
    hint: Option<&'a str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_the_status_of_the_contract() {
        let statuses = [
            (ErrorKind::Usage, 1),
            (ErrorKind::Credentials, 2),
            (ErrorKind::Permission, 2),
            (ErrorKind::OutOfMemory, 3),
            (ErrorKind::NotFound, 4),
            (ErrorKind::NotAContainer, 4),
            (ErrorKind::Damaged, 4),
            (ErrorKind::Tampered, 4),
            (ErrorKind::Unsupported, 4),
            (ErrorKind::Busy, 5),
            (ErrorKind::Exists, 5),
            (ErrorKind::Io, 6),
            (ErrorKind::NoSpace, 6),
            (ErrorKind::Missing, 7),
            (ErrorKind::Interrupted, 130),
        ];
        for (kind, status) in statuses {
            assert_eq!(exit_status(kind), status, "{kind:?}");
        }
    }
}
