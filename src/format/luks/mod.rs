//! What LUKS1 and LUKS2 share: cipher names, key derivation, the anti-forensic splitter, keyslots, the digest of the volume key.

pub(super) mod af;
pub(super) mod cipher;
pub(super) mod create;
pub(super) mod digest;
pub(super) mod fingerprint;
pub(super) mod kdf;
pub(super) mod keyslot;
pub(super) mod unlock;

use std::ops::Range;

use crate::{
    error::{Error, ErrorKind, Result},
    format::{Erasure, Finding},
    storage::Storage,
};

/// The magic of a LUKS header, version behind it.
pub(super) const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
/// What `cryptsetup-reencrypt`, a program of old, made of the magic while it worked on a container.
pub(super) const MAGIC_IN_REENCRYPTION: [u8; 6] = *b"LUKS\xde\xad";

/// The sector of LUKS's own counting, in bytes: IVs, keyslot areas, the payload offset of LUKS1.
pub(super) const UNIT: u64 = 512;

/// What the common editor of keyslots gets of a LUKS header.
pub(super) fn no_editor() -> Error {
    Error::new(ErrorKind::Unsupported, "key changes on LUKS containers are not in this version")
        .with_hint("cryptsetup makes them, while the container is not mounted")
}

/// What must be overwritten where the keyslots' areas lie in `areas` and the header stands before them.
pub(super) fn erasure(storage: &dyn Storage, areas: &Range<u64>) -> Result<Erasure> {
    let len = storage.size()?;
    let last = areas.start.min(len)..areas.end.min(len);
    Ok(Erasure { spare: Vec::new(), rest: std::iter::once(0..last.start).collect(), last })
}

/// What examining a header that cannot be read brings up.
///
/// # Errors
/// What is neither damage nor a matter of this version.
pub(super) fn finding_of(error: Error) -> Result<Vec<Finding>> {
    match error.kind() {
        ErrorKind::Damaged | ErrorKind::Unsupported => Ok(vec![Finding::error("header", error.to_string())]),
        _ => Err(error),
    }
}

/// What is to be said of every LUKS header.
pub(super) fn not_authenticated() -> Finding {
    Finding::info("header", "not authenticated: who can write to the container can change it")
}
