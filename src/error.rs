//! The one error that crosses layers: a kind, what was attempted, why it failed.

use std::{fmt, io};

/// `std::result::Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the classes that a caller acts on. The command line turns each into an exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself makes no sense: a bad option, size or name.
    Usage,
    /// No keyslot opens with the password and keyfiles given.
    Credentials,
    /// The system refuses access.
    Permission,
    /// Not enough memory for the key derivation.
    OutOfMemory,
    /// No header of any known format.
    NotAContainer,
    /// A header or container that was whole once and is not now.
    Damaged,
    /// The header is intact by its checksum, but not by its MAC: somebody changed it.
    Tampered,
    /// A valid container that asks for something this version refuses or does not know.
    Unsupported,
    /// In use: mounted, or locked by another process.
    Busy,
    /// The target exists and holds something.
    Exists,
    /// Nothing of that name is mounted, or the file is not there.
    NotFound,
    /// Reading or writing failed.
    Io,
    /// The medium is full.
    NoSpace,
    /// A part of the system is missing: FUSE, a file-system tool.
    Missing,
    /// The user stopped it.
    Interrupted,
}

impl ErrorKind {
    /// A stable lower-case name for machine-readable output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Credentials => "credentials",
            Self::Permission => "permission",
            Self::OutOfMemory => "out-of-memory",
            Self::NotAContainer => "not-a-container",
            Self::Damaged => "damaged",
            Self::Tampered => "tampered",
            Self::Unsupported => "unsupported",
            Self::Busy => "busy",
            Self::Exists => "exists",
            Self::NotFound => "not-found",
            Self::Io => "io",
            Self::NoSpace => "no-space",
            Self::Missing => "missing",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What a caller acts on beyond the kind: a fact of this one failure, told as a type as well as in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fact {
    /// Nothing in a container says what it is.
    NoSignature,
    /// There is not one byte in it.
    NoContent,
    /// It starts with zeros.
    Zeros,
    /// It shows something else, which is known.
    OtherContent,
    /// All that is left of a header in it is a copy of which the container begins before it.
    BeginsElsewhere,
    /// Something was said that only containers of TrueCrypt and VeraCrypt have, of one of this format.
    VeraCryptOnly(&'static str),
    /// Something was said that only volumes of FreeOTFE and LibreCrypt have, of one of this format.
    FreeOtfeOnly(&'static str),
    /// The secret that a source gave has no bytes.
    EmptySecret,
    /// A program of the system is older than what it was given.
    ProgramTooOld,
    /// A program of the system could not be started: there is no process, no memory or no descriptor left for it.
    NotStarted,
    /// A program of the system is not there; this package of Debian's brings it.
    NotInstalled(&'static str),
}

/// A failure: its kind, the action that failed, the reason, and sometimes a way out.
///
/// Displays as `action: reason`, one line, lower case, no full stop. Never holds a secret.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    action: Option<String>,
    reason: String,
    hint: Option<String>,
    /// Boxed, as few errors have one and all are handed around.
    fact: Option<Box<Fact>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` because of `reason` (lower case, no full stop).
    pub fn new(kind: ErrorKind, reason: impl Into<String>) -> Self {
        Self { kind, action: None, reason: reason.into(), hint: None, fact: None, source: None }
    }

    /// An error of kind [`ErrorKind::Usage`].
    pub fn usage(reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, reason)
    }

    /// An error whose reason is another error's text, kept as its source.
    pub fn caused_by(kind: ErrorKind, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self {
            kind,
            action: None,
            reason: source.to_string(),
            hint: None,
            fact: None,
            source: Some(Box::new(source)),
        }
    }

    /// Says what was attempted. The first, innermost action stays; later ones are dropped.
    #[must_use]
    pub fn during(mut self, action: impl Into<String>) -> Self {
        self.action.get_or_insert_with(|| action.into());
        self
    }

    /// Adds the way out. The first one given stays.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert_with(|| hint.into());
        self
    }

    /// Adds a way out that is to be tried before the one that is there.
    #[must_use]
    pub fn with_first_hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.hint = Some(self.hint.map_or_else(|| hint.clone(), |other| format!("{hint}; {other}")));
        self
    }

    /// Says as a type what a caller may act on.
    #[must_use]
    pub fn with_fact(mut self, fact: Fact) -> Self {
        self.fact = Some(Box::new(fact));
        self
    }

    /// The class of the failure.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What was attempted, where it is known.
    pub fn action(&self) -> Option<&str> {
        self.action.as_deref()
    }

    /// Why it failed.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// What a caller may act on beyond the kind.
    pub fn fact(&self) -> Option<Fact> {
        self.fact.as_deref().copied()
    }

    /// The way out, where there is one.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Why it failed, and, of what another program can do, which one: for the lines of an examination.
    pub fn reason_with_way(&self) -> String {
        match self.hint().filter(|_| self.kind == ErrorKind::Unsupported) {
            Some(way) => format!("{}; {way}", self.reason),
            None => self.reason.clone(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Some(action) => write!(f, "{action}: {}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::Permission,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            // The latter is what is said where no process and no thread can be started.
            io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => ErrorKind::OutOfMemory,
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
            io::ErrorKind::ResourceBusy => ErrorKind::Busy,
            io::ErrorKind::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Io,
        };
        let reason = without_os_code(&source.to_string());
        let hint = limit_of_shell(&source).map(str::to_owned);
        Self { kind, action: None, reason, hint, fact: None, source: Some(Box::new(source)) }
    }
}

/// What helps where a limit of the shell may be what was met.
fn limit_of_shell(error: &io::Error) -> Option<&'static str> {
    match rustix::io::Errno::from_io_error(error)? {
        rustix::io::Errno::AGAIN => Some("end other programs, or raise the limit: see ulimit -u"),
        rustix::io::Errno::MFILE => Some("raise the limit on open files: see ulimit -n"),
        rustix::io::Errno::FBIG => {
            Some("the file system allows no larger file, or a limit of the shell: see ulimit -f")
        }
        _ => None,
    }
}

/// `Permission denied (os error 13)` as `permission denied`.
fn without_os_code(text: &str) -> String {
    let text = text.split(" (os error").next().unwrap_or(text);
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_reads_as_one_lower_case_line() {
        let error = Error::from(io::Error::from_raw_os_error(13)).during("cannot open photos.vault");
        assert_eq!(error.to_string(), "cannot open photos.vault: permission denied");
        assert_eq!(error.kind(), ErrorKind::Permission);
    }

    #[test]
    fn a_limit_of_the_shell_is_named() {
        for (errno, kind, limit) in [
            (rustix::io::Errno::AGAIN, ErrorKind::OutOfMemory, "ulimit -u"),
            (rustix::io::Errno::MFILE, ErrorKind::Io, "ulimit -n"),
            (rustix::io::Errno::FBIG, ErrorKind::Io, "ulimit -f"),
        ] {
            let error = Error::from(io::Error::from(errno));
            assert_eq!(error.kind(), kind, "{errno}");
            assert!(error.hint().is_some_and(|hint| hint.ends_with(limit)), "{errno}");
        }
        assert_eq!(Error::from(io::Error::from(rustix::io::Errno::IO)).hint(), None);
    }

    #[test]
    fn a_path_through_a_file_leads_nowhere() {
        let error = Error::from(std::fs::File::open("/proc/self/exe/x").unwrap_err());
        assert_eq!((error.kind(), error.reason()), (ErrorKind::NotFound, "not a directory"));
    }

    #[test]
    fn the_innermost_action_stays() {
        let error = Error::new(ErrorKind::Damaged, "bad").during("cannot read header").during("cannot mount");
        assert_eq!(error.action(), Some("cannot read header"));
    }
}
