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
    let report = Report { error: Body::of(error) };
    // A standard output that cannot be written leaves the line on standard error.
    let _ = console.object(&report);
    report.error.complain();
    report.error.code
}

/// What [`report`] shows, for a window: the error, and what helps.
pub(crate) fn in_words(error: &Error) -> String {
    let Body { message, hint, .. } = Body::of(error);
    [Some(message), hint].into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

/// Shows each of several failures in the same way, and gives the exit status of the gravest: lost data before all else. With `--json`
/// it is one object: that one as `error`, each as `failures`, with what else is to be told.
pub(crate) fn report_each<T: Serialize, D: Serialize>(
    console: Console,
    done: D,
    failures: impl IntoIterator<Item = (T, Error)>,
) -> u8 {
    let failures: Vec<_> =
        failures.into_iter().map(|(of, error)| Failure { of, error: Body::of(&error) }).collect();
    let is_grave = |failure: &&Failure<T>| failure.error.code == exit_status(ErrorKind::Io);
    let Some(gravest) = failures.iter().find(is_grave).or(failures.first()) else { return 0 };
    let (error, code) = (&gravest.error, gravest.error.code);
    let _ = console.object(&Reports { error, failures: &failures, done });
    for failure in &failures {
        failure.error.complain();
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
        ErrorKind::OutOfMemory => Some(
            "close other programs, raise the limit on memory if there is one (ulimit -v, ulimit -d), or use a machine with more of it",
        ),
        ErrorKind::Damaged => Some("restore the container from a backup"),
        ErrorKind::Tampered => Some("restore the container from a backup that you trust"),
        _ => None,
    }
}

#[derive(Debug, Serialize)]
struct Report {
    error: Body,
}

#[derive(Debug, Serialize)]
struct Reports<'a, T, D> {
    error: &'a Body,
    failures: &'a [Failure<T>],
    #[serde(flatten)]
    done: D,
}

#[derive(Debug, Serialize)]
struct Failure<T> {
    #[serde(flatten)]
    of: T,
    error: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    code: u8,
    kind: &'static str,
    message: String,
    hint: Option<String>,
}

impl Body {
    fn of(error: &Error) -> Self {
        Self {
            code: exit_status(error.kind()),
            kind: error.kind().name(),
            message: in_one_line(&error.to_string()),
            hint: error.hint().or_else(|| advice(error.kind())).map(in_one_line),
        }
    }

    fn complain(&self) {
        complain(&format!("strongroom: error: {}", self.message));
        if let Some(hint) = &self.hint {
            complain(&format!("strongroom: hint: {hint}"));
        }
    }
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
