//! What a record of a re-encryption says (section 8.2).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use serde::{Deserialize, Serialize};

use crate::crypto::hash;

/// How far a re-encryption is: the first `border` bytes of the data area are new, the next ones, as many as its chunk has,
/// have their new ciphertext in the journal, whatever stands in their place, and the rest is old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Counts up by one from record to record.
    pub counter: u64,
    /// Bytes of the data area.
    pub border: u64,
    /// What it says besides.
    pub entry: Entry,
}

/// What a record says besides the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Nobody works: no chunk is journaled.
    Rest,
    /// The same, between two chunks. It bears the checksum of an empty journal, so that programs from before there were
    /// checksums refuse the container, and do not take an older record for the newest.
    Work,
    /// A chunk is journaled.
    Chunk {
        /// Bytes of the data area, not 0.
        len: u64,
        /// Theirs under the [`ChunkKey`](super::ChunkKey), as the journal has them; `None` where an earlier program wrote the
        /// record.
        checksum: Option<[u8; 32]>,
    },
}

impl Record {
    /// Bytes of the data area that are journaled.
    pub const fn chunk_len(&self) -> u64 {
        match self.entry {
            Entry::Rest | Entry::Work => 0,
            Entry::Chunk { len, .. } => len,
        }
    }
}

impl Entry {
    /// NAT-REENC-18: the checksum field.
    pub(super) fn checksum(&self) -> [u8; 32] {
        match self {
            Self::Rest | Self::Chunk { checksum: None, .. } => NO_CHECKSUM,
            Self::Work => hash::sha256(&[]),
            Self::Chunk { checksum: Some(checksum), .. } => *checksum,
        }
    }

    /// Of the two fields; `None` for a checksum that an idle record cannot have.
    pub(super) fn of(len: u64, checksum: [u8; 32]) -> Option<Self> {
        match (len, checksum == NO_CHECKSUM) {
            (0, true) => Some(Self::Rest),
            (0, false) => (checksum == hash::sha256(&[])).then_some(Self::Work),
            (len, is_without) => Some(Self::Chunk { len, checksum: (!is_without).then_some(checksum) }),
        }
    }
}

/// What a re-encryption that has ended leaves in the work areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trace {
    /// The closing record, by which an old header is known.
    #[default]
    Leave,
    /// Nothing: of a container whose header lies elsewhere it would show the uuid.
    Remove,
}

/// The checksum of a record that has none.
pub(super) const NO_CHECKSUM: [u8; 32] = [0; 32];
