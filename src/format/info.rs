//! What a header says of itself and its keyslots, for people.

use serde::Serialize;

use super::Priority;
use crate::crypto::kdf::Argon2Cost;

/// What `info` shows. Sizes and offsets in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct HeaderInfo {
    /// The format's name.
    pub format: &'static str,
    /// The format's version.
    pub version: u32,
    /// The container's identity, in the usual hyphenated form.
    pub uuid: Option<String>,
    /// The user's name for it.
    pub label: Option<String>,
    /// The cipher, as cryptsetup writes it.
    pub cipher: String,
    /// The bits of the data key.
    pub key_bits: u32,
    /// The size of one sector.
    pub sector_size: u32,
    /// The container's size, as the header knows it.
    pub container_size: u64,
    /// Where the data area starts.
    pub data_offset: u64,
    /// The data area's size, which is the volume's.
    pub data_size: u64,
    /// `thick`, `quick` or `thin`, where the format knows.
    pub provision: Option<&'static str>,
    /// How often the volume has got another key: rises with the start and the end of each re-encryption. `None` where the
    /// format does not count.
    pub generation: Option<u32>,
    /// Whether a re-encryption is under way.
    pub reencryption: bool,
    /// Whether the header is under a MAC.
    pub authenticated_header: bool,
    /// The header copies.
    pub headers: Vec<CopyInfo>,
    /// The keyslots in use.
    pub keyslots: Vec<KeyslotInfo>,
    /// What else this format tells, in the order in which to show it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
}

impl HeaderInfo {
    /// What there is to show of a header about which nothing is known yet.
    pub(super) fn unknown(format: &'static str, container_size: u64) -> Self {
        Self {
            format,
            version: 0,
            uuid: None,
            label: None,
            cipher: UNKNOWN.to_owned(),
            key_bits: 0,
            sector_size: 512,
            container_size,
            data_offset: 0,
            data_size: 0,
            provision: None,
            generation: None,
            reencryption: false,
            authenticated_header: false,
            headers: Vec::new(),
            keyslots: Vec::new(),
            details: Vec::new(),
        }
    }
}

/// One more thing that a format tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// What it is.
    pub name: String,
    /// Its value, as text.
    pub value: String,
}

impl Detail {
    /// A name and its value.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

/// One copy of the header.
#[derive(Debug, Clone, Serialize)]
pub struct CopyInfo {
    /// Where it lies.
    pub offset: u64,
    /// How it is.
    pub state: CopyState,
    /// Its sequence number, where it can be read.
    pub sequence: Option<u64>,
}

/// The state of a header copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyState {
    /// Whole, and the newest.
    Current,
    /// Whole, but older than the other.
    Stale,
    /// There, but not whole.
    Damaged,
    /// Not there.
    Missing,
}

/// One keyslot in use.
#[derive(Debug, Clone, Serialize)]
pub struct KeyslotInfo {
    /// Its number.
    pub slot: u32,
    /// What opens it.
    pub kind: &'static str,
    /// The type of the token that knows its secret, where one does: nobody types that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The user's name for it.
    pub label: Option<String>,
    /// When it is tried; `None` where that is not known.
    pub priority: Option<Priority>,
    /// Whether guessing its password is cheaper than with a keyslot made today.
    pub weak: bool,
    /// Its costs.
    pub kdf: KdfInfo,
}

impl KeyslotInfo {
    /// One that nothing here opens.
    pub(super) fn unknown(slot: u32, priority: Option<Priority>) -> Self {
        let kdf = KdfInfo { name: UNKNOWN, memory: None, passes: None, lanes: None, iterations: None };
        Self { slot, kind: UNKNOWN, token: None, label: None, priority, weak: false, kdf }
    }

    pub(super) fn is_unknown(&self) -> bool {
        self.kind == UNKNOWN
    }

    /// What to call it: its number, and its label where it has one.
    pub fn name(&self) -> String {
        match &self.label {
            Some(label) => format!("keyslot {} (\"{label}\")", self.slot),
            None => format!("keyslot {}", self.slot),
        }
    }
}

const UNKNOWN: &str = "unknown";

/// A key derivation's costs.
#[derive(Debug, Clone, Serialize)]
pub struct KdfInfo {
    /// `argon2id`, `pbkdf2-sha512`, ...; `hkdf-sha512` where a random key opens the slot.
    pub name: &'static str,
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Passes over the memory.
    pub passes: Option<u32>,
    /// Lanes that may run in parallel.
    pub lanes: Option<u32>,
    /// Iterations (PBKDF2).
    pub iterations: Option<u32>,
}

impl KdfInfo {
    /// The costs of Argon2; `None` where it is another derivation.
    pub fn argon2_cost(&self) -> Option<Argon2Cost> {
        let memory_kib = u32::try_from(self.memory? / 1024).ok()?;
        Some(Argon2Cost { memory_kib, passes: self.passes?, lanes: self.lanes? })
    }
}
