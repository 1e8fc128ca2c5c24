//! What LUKS1 and LUKS2 share: cipher names, key derivation, the anti-forensic splitter, keyslots, the digest of the volume key.

pub(super) mod af;
pub(super) mod cipher;
pub(super) mod digest;
pub(super) mod kdf;
pub(super) mod keyslot;
pub(super) mod unlock;

use crate::error::{Error, ErrorKind};

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
