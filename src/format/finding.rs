use std::fmt;

use serde::{Serialize, Serializer};

/// What an examination of a container brought up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub object: Object,
    /// What was found, and the way out where there is one: lower case, no full stop.
    pub message: String,
}

/// What a finding is about. Displays as a few words: `data`, `header copy A`, `keyslot 3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// The encrypted data: how much of it there is, and whether it can be read.
    Data,
    /// Another part of the container, by its name.
    Part(Box<str>),
}

impl Object {
    fn name(&self) -> &str {
        match self {
            Self::Data => "data",
            Self::Part(name) => name,
        }
    }
}

impl From<&str> for Object {
    fn from(name: &str) -> Self {
        Self::Part(name.into())
    }
}

impl From<String> for Object {
    fn from(name: String) -> Self {
        Self::Part(name.into())
    }
}

impl PartialEq<str> for Object {
    fn eq(&self, name: &str) -> bool {
        self.name() == name
    }
}

impl PartialEq<&str> for Object {
    fn eq(&self, name: &&str) -> bool {
        self.name() == *name
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
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
    pub fn info(object: impl Into<Object>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Info, object: object.into(), message: message.into() }
    }

    /// Something that should be seen to.
    pub fn warning(object: impl Into<Object>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::info(object, message) }
    }

    /// Something that is not as it must be.
    pub fn error(object: impl Into<Object>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, ..Self::info(object, message) }
    }
}
