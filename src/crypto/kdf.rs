//! Key derivation: Argon2id for passwords, HKDF-SHA-512 for subkeys.

/// The costs of one Argon2id call (RFC 9106).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argon2Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// The most that an untrusted header may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfLimits {
    /// Memory in KiB (4 GiB).
    pub memory_kib: u64,
    /// Passes (64).
    pub passes: u32,
    /// Lanes (16).
    pub lanes: u32,
}

impl Default for KdfLimits {
    fn default() -> Self {
        Self { memory_kib: 4 << 20, passes: 64, lanes: 16 }
    }
}
