//! Containers on disk: each format is a folder here and a line in [`FORMATS`]; each unlocks to a [`Layout`].

pub mod native;

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{
    crypto::{
        kdf::KdfLimits,
        secret::{Credentials, VolumeKey},
    },
    error::Result,
    mapping::Layout,
    storage::Storage,
};

/// Every format, in the order in which they are probed.
pub static FORMATS: &[&dyn Format] = &[&native::Native];

/// What a format says of a container at first sight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Its signature is there.
    Match,
    /// It is not this format.
    NoMatch,
    /// The format has no signature: only a password tells.
    Opaque,
}

/// One on-disk format.
pub trait Format: fmt::Debug + Send + Sync {
    /// The name that `--format` takes and `info` prints.
    fn name(&self) -> &'static str;

    /// Looks for the signature. Reads at most a few KiB.
    fn probe(&self, storage: &dyn Storage) -> Result<Probe>;

    /// Reads and checks all that can be checked without a secret.
    ///
    /// # Errors
    /// `NotAContainer`, `Damaged`, `Unsupported`, or what reading gave.
    fn read_header(&self, storage: &dyn Storage) -> Result<Box<dyn Header>>;
}

/// A header that was read and is well-formed. Nothing in it is trusted before it is unlocked.
pub trait Header: fmt::Debug + Send + Sync {
    /// What can be told without a secret.
    fn describe(&self) -> HeaderInfo;

    /// Opens a keyslot and checks the header against the volume key.
    ///
    /// # Errors
    /// `Credentials` where no keyslot opens, `Tampered` where the MAC is wrong, `Unsupported` where a keyslot's costs pass
    /// `limits`, `OutOfMemory`.
    fn unlock(&self, credentials: &Credentials, limits: &KdfLimits) -> Result<Unlocked>;

    /// Checks the header against a volume key that a keyslot gave earlier (in another process).
    fn unlock_with_key(&self, key: VolumeKey) -> Result<Unlocked>;

    /// Makes sure that the container may be written, and brings damaged and stale header copies up to the authentic one;
    /// says what it did, a line each.
    ///
    /// # Errors
    /// `Unsupported` where writing needs features that are not known, `Damaged` where the container is cut off.
    fn prepare_writing(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>>;
}

/// What unlocking gives.
#[derive(Debug)]
pub struct Unlocked {
    /// How the volume lies in the container.
    pub layout: Layout,
    /// The key behind it, for the process that serves the volume.
    pub volume_key: Arc<VolumeKey>,
    /// The keyslot that opened.
    pub keyslot: Option<u32>,
}

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
    /// `thick`, `quick` or `thin`.
    pub provision: &'static str,
    /// Whether the header is under a MAC.
    pub authenticated_header: bool,
    /// The header copies.
    pub headers: Vec<CopyInfo>,
    /// The keyslots in use.
    pub keyslots: Vec<KeyslotInfo>,
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
    /// The user's name for it.
    pub label: Option<String>,
    /// Its costs.
    pub kdf: KdfInfo,
}

/// A key derivation's costs.
#[derive(Debug, Clone, Serialize)]
pub struct KdfInfo {
    /// `argon2id`, `pbkdf2-sha512`, ...
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
