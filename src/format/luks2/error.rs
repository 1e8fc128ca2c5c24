//! What can be wrong with a header copy, found without a secret.

use crate::{
    error::{Error, ErrorKind, Fact},
    format::luks::way_in,
};

/// A fault of one header copy. The first found is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No magic.
    #[error("no LUKS2 header")]
    NoMagic,
    /// The container ends within the copy.
    #[error("it is cut off in its header: {len} bytes are there, this copy of the header ends at byte {end}")]
    CutOff {
        /// The container's size.
        len: u64,
        /// Where the copy ends, or its first part, where the rest of it cannot be told.
        end: u64,
    },
    /// A version of another time.
    #[error("LUKS version {version} is not known to this strongroom")]
    Version {
        /// The version found.
        version: u16,
    },
    /// A size that no header has.
    #[error("the header's size is {len}")]
    HeaderLen {
        /// The size found.
        len: u64,
    },
    /// A copy that says it stands elsewhere.
    #[error("the header copy belongs at offset {offset}")]
    Misplaced {
        /// Where it says it belongs.
        offset: u64,
    },
    /// A checksum by a hash that is not on the list.
    #[error("the header's checksum is made with an unknown hash")]
    ChecksumHash,
    /// The bytes are not those that were written.
    #[error("the header's checksum is wrong")]
    Checksum,
    /// A JSON area that is not text with a zero byte behind it.
    #[error("the JSON area is not text that ends with a zero byte")]
    JsonText,
    /// JSON that is none, or has fields of other types than it must.
    #[error("the header's JSON: {reason}")]
    Json {
        /// Why.
        reason: String,
    },
    /// An object with a value that it cannot have.
    #[error("{object}{name}: {field} is {value}")]
    Value {
        /// The kind of the object.
        object: &'static str,
        /// Its name, a blank before it; empty where there is one such object.
        name: String,
        /// The field's name in the specification.
        field: &'static str,
        /// The value found.
        value: String,
    },
    /// An object that names one that is not there.
    #[error("{object} {name} names {kind} {missing}, which is not there")]
    Dangling {
        /// The kind of the object.
        object: &'static str,
        /// Its name.
        name: u32,
        /// The kind of what is missing.
        kind: &'static str,
        /// What is missing.
        missing: String,
    },
    /// A keyslot whose key nothing tells.
    #[error("keyslot {slot} belongs to no digest")]
    NoDigest {
        /// The keyslot.
        slot: u32,
    },
    /// A keyslot under two digests.
    #[error("keyslot {slot} belongs to several digests")]
    SeveralDigests {
        /// The keyslot.
        slot: u32,
    },
    /// Keys of different lengths under one digest, which can be right for one of them only.
    #[error("the keyslots of digest {digest} hold keys of different lengths")]
    KeyLengths {
        /// The digest.
        digest: u32,
    },
    /// Two areas that share bytes.
    #[error("keyslot {slot} overlaps keyslot {other}")]
    Overlap {
        /// The one that starts later.
        slot: u32,
        /// The one that reaches into it.
        other: u32,
    },
    /// An area outside the place for areas.
    #[error("keyslot {slot} lies outside the keyslots' area")]
    OutsideArea {
        /// The keyslot.
        slot: u32,
    },
    /// Areas that reach into the data.
    #[error("the keyslots' area overlaps the data")]
    OverlapsData,
}

impl HeaderError {
    /// Whether the copy's checksum was right: whoever wrote it wrote it so, and no backup of that time says anything else.
    const fn is_of_whole_copy(&self) -> bool {
        !matches!(
            self,
            Self::NoMagic
                | Self::CutOff { .. }
                | Self::Version { .. }
                | Self::HeaderLen { .. }
                | Self::Misplaced { .. }
                | Self::ChecksumHash
                | Self::Checksum
        )
    }
}

const AS_WRITTEN: &str = "its checksum is right, so a program wrote it like this: cryptsetup luksDump tells whether cryptsetup takes it";

impl From<HeaderError> for Error {
    fn from(error: HeaderError) -> Self {
        let kind = match error {
            HeaderError::NoMagic => ErrorKind::NotAContainer,
            HeaderError::Version { .. } => ErrorKind::Unsupported,
            _ => ErrorKind::Damaged,
        };
        let is_whole = error.is_of_whole_copy();
        let error = Self::caused_by(kind, error);
        match kind {
            ErrorKind::NotAContainer => error.with_fact(Fact::NoSignature),
            ErrorKind::Unsupported => error.with_hint(way_in::NEWER),
            _ if is_whole => error.with_hint(AS_WRITTEN),
            _ => error.with_hint(way_in::HEADER_ALONE),
        }
    }
}
