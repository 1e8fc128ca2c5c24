//! What can be wrong with a header copy, found without a secret.

use crate::error::{Error, ErrorKind};

/// A fault of one header copy. The first found is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No magic.
    #[error("no header")]
    NoMagic,
    /// What is left of a copy has lost its magic.
    #[error("the start of the header is damaged")]
    NoStart,
    /// The container ends within the copy.
    #[error("the header is cut off")]
    CutOff,
    /// The medium does not give it.
    #[error("the header cannot be read from the medium")]
    Unreadable,
    /// The bytes are not those that were written.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// A copy that says it belongs elsewhere.
    #[error("the header copy belongs at offset {offset}")]
    Misplaced {
        /// Where it says it belongs.
        offset: u64,
    },
    /// A version of another time.
    #[error("format version {version} is not known to this strongroom")]
    Version {
        /// The version found.
        version: u32,
    },
    /// Features that this reader must know and does not.
    #[error("the container needs features that this strongroom does not know ({bits:#x})")]
    Features {
        /// The unknown bits.
        bits: u64,
    },
    /// A cipher suite that is not known.
    #[error("cipher suite {suite} is not known to this strongroom")]
    Suite {
        /// The suite found.
        suite: u32,
    },
    /// A field with a value that it cannot have.
    #[error("the header's {field} is {value}")]
    Field {
        /// The field's name in the specification.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// Reserved bytes that are not zero.
    #[error("reserved bytes of the {place} are not zero")]
    Reserved {
        /// Where.
        place: &'static str,
    },
    /// A label that is no UTF-8 padded with zeros, or holds control characters.
    #[error("the label of the {place} is no clean text")]
    Label {
        /// Where.
        place: &'static str,
    },
    /// A keyslot field with a value that it cannot have.
    #[error("keyslot {slot}: {field} is {value}")]
    Keyslot {
        /// The keyslot.
        slot: u32,
        /// The field's name in the specification.
        field: &'static str,
        /// The value found.
        value: u64,
    },
    /// A keyslot for a FIDO2 token that does not say what to ask of it.
    #[error("keyslot {slot}: its {part} is wrong")]
    Fido2Keyslot {
        /// The keyslot.
        slot: u32,
        /// What is wrong, named as in the specification.
        part: &'static str,
    },
}

impl HeaderError {
    /// Whether the copy is whole, but of a kind that this version cannot read.
    pub const fn is_unsupported(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Features { .. } | Self::Suite { .. })
    }
}

impl From<HeaderError> for Error {
    fn from(error: HeaderError) -> Self {
        let kind = match error {
            HeaderError::NoMagic => ErrorKind::NotAContainer,
            HeaderError::Unreadable => ErrorKind::Io,
            _ if error.is_unsupported() => ErrorKind::Unsupported,
            _ => ErrorKind::Damaged,
        };
        Self::caused_by(kind, error)
    }
}
