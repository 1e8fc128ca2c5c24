use serde::Serialize;

/// What an examination of a container brought up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `header copy A`, `keyslot 3`.
    pub object: String,
    /// What was found, and the way out where there is one: lower case, no full stop.
    pub message: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Nothing is lost yet, and something should be done.
    Warning,
    /// Something is lost, or was changed by someone else.
    Error,
}

impl Finding {
    /// Something good to know.
    pub fn info(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Info, object: object.into(), message: message.into() }
    }

    /// Something that should be seen to.
    pub fn warning(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::info(object, message) }
    }

    /// Something that is not as it must be.
    pub fn error(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::info(object, message) }
    }
}
