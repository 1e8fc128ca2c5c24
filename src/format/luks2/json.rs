//! The JSON area, as its text has it. What is not named here does not count.

use serde::Deserialize;

use super::limited::{Numbered, Texts};

pub(super) const MAX_KEYSLOTS: u32 = 32;
pub(super) const MAX_TOKENS: u32 = 32;
pub(super) const MAX_SEGMENTS: u32 = 32;
pub(super) const MAX_DIGESTS: u32 = 8;
/// More flags and requirements than there are in any specification.
const MAX_FLAGS: usize = 64;

pub(super) type Slots = Texts<32>;
pub(super) type Flags = Texts<MAX_FLAGS>;

#[derive(Debug, Deserialize)]
pub(super) struct Json {
    pub(super) keyslots: Numbered<Keyslot, MAX_KEYSLOTS>,
    pub(super) tokens: Numbered<Token, MAX_TOKENS>,
    pub(super) segments: Numbered<Segment, MAX_SEGMENTS>,
    pub(super) digests: Numbered<Digest, MAX_DIGESTS>,
    pub(super) config: Config,
}

#[derive(Debug, Deserialize)]
pub(super) struct Keyslot {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) key_size: u32,
    pub(super) priority: Option<u32>,
    pub(super) area: Area,
    pub(super) kdf: Option<Kdf>,
    pub(super) af: Option<Af>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Area {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) offset: Option<String>,
    pub(super) size: Option<String>,
    pub(super) encryption: Option<String>,
    pub(super) key_size: Option<u32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Kdf {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) salt: String,
    pub(super) hash: Option<String>,
    pub(super) iterations: Option<u32>,
    pub(super) time: Option<u32>,
    pub(super) memory: Option<u32>,
    pub(super) cpus: Option<u32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Af {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) stripes: Option<u32>,
    pub(super) hash: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Token {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) keyslots: Slots,
    /// Of a luks2-keyring token: the name of a key in the kernel's keyring. Other types may use the name for anything.
    #[serde(default)]
    pub(super) key_description: serde_json::Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct Segment {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) offset: String,
    pub(super) size: String,
    pub(super) iv_tweak: Option<String>,
    pub(super) encryption: Option<String>,
    pub(super) sector_size: Option<u32>,
    pub(super) integrity: Option<Integrity>,
    #[serde(default)]
    pub(super) flags: Flags,
}

#[derive(Debug, Deserialize)]
pub(super) struct Integrity {
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Digest {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) keyslots: Slots,
    pub(super) segments: Slots,
    pub(super) hash: Option<String>,
    pub(super) iterations: Option<u32>,
    pub(super) salt: Option<String>,
    #[serde(rename = "digest")]
    pub(super) value: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Config {
    pub(super) json_size: String,
    pub(super) keyslots_size: String,
    #[serde(default)]
    pub(super) flags: Flags,
    #[serde(default)]
    pub(super) requirements: Requirements,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Requirements {
    #[serde(default)]
    pub(super) mandatory: Flags,
}
