//! Every key of the native format (`spec/native-v1.md`, section 5): which bytes go into which derivation.

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::{layout::RawKeyslot, suite::Suite};
use crate::{
    crypto::{
        aead,
        hash::{self, Sha512},
        kdf::{self, Argon2Cost},
        secret::{Credentials, DerivedKey, KeyfileDigest, LockedBytes, Password, VolumeKey},
    },
    error::Result,
};

const CREDENTIALS_LABEL: &[u8] = b"strongroom/v1/credentials";
const KEYFILE_LABEL: &[u8] = b"strongroom/v1/keyfile";
const MAC_LABEL: &[u8] = b"strongroom/v1/header-mac";
const DATA_LABEL: &[u8] = b"strongroom/v1/data";
const KEYSLOT_LABEL: &[u8] = b"strongroom/v1/keyslot";
const OLD_KEY_LABEL: &[u8] = b"strongroom/v1/old-volume-key";
const RECORD_LABEL: &[u8] = b"strongroom/v1/reencryption-record";
const BLOCK_HASH_LABEL: &[u8] = b"strongroom/v1/reencryption-block";
const CHUNK_LABEL: &[u8] = b"strongroom/v1/reencryption-chunk";
const PIECE_MAP_LABEL: &[u8] = b"strongroom/v1/piece-map";
const GROWTH_LABEL: &[u8] = b"strongroom/v1/growth";
const RECOVERY_LABEL: &[u8] = b"strongroom/v1/recovery-key";
const FIDO2_LABEL: &[u8] = b"strongroom/v1/fido2";

const SLOT_KEY_LEN: usize = 32;
const MAC_KEY_LEN: usize = 64;
const BLOCK_HASH_KEY_LEN: usize = 16;
const KEYFILE_DIGEST_LEN: usize = 64;

/// NAT-KEY-03: SHA-512(label ‖ content ‖ LE64(length)) over a keyfile's whole content.
pub fn keyfile_digest(mut content: impl Read) -> io::Result<KeyfileDigest> {
    let mut hash = Sha512::default();
    hash.update(KEYFILE_LABEL);
    let mut buffer = Zeroizing::new(vec![0_u8; 64 * 1024]);
    let mut len = 0_u64;
    loop {
        let read = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(buffer.get(..read).unwrap_or_default());
        len = len.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    hash.update(&len.to_le_bytes());
    KeyfileDigest::copy_of(hash.finish().as_slice())
}

/// NAT-KEY-04: label ‖ LE64(|password|) ‖ password ‖ LE32(n) ‖ the n keyfile digests in ascending order.
fn credential_input(password: &Password, keyfiles: &[KeyfileDigest]) -> io::Result<LockedBytes> {
    let mut keyfiles: Vec<&[u8]> = keyfiles.iter().map(KeyfileDigest::expose).collect();
    keyfiles.sort_unstable();
    let password = password.expose();
    let password_len = u64::try_from(password.len()).map_err(io::Error::other)?.to_le_bytes();
    let count = u32::try_from(keyfiles.len()).map_err(io::Error::other)?.to_le_bytes();

    let head: [&[u8]; 4] = [CREDENTIALS_LABEL, &password_len, password, &count];
    let head_len: usize = head.iter().map(|part| part.len()).sum();
    let mut input =
        LockedBytes::zeroed(head_len.saturating_add(keyfiles.len().saturating_mul(KEYFILE_DIGEST_LEN)))?;
    let mut rest = input.as_mut_slice();
    for part in head.into_iter().chain(keyfiles) {
        let (place, after) = rest.split_at_mut_checked(part.len()).ok_or(io::ErrorKind::InvalidInput)?;
        place.copy_from_slice(part);
        rest = after;
    }
    Ok(input)
}

/// The key of one keyslot: NAT-KEY-05, Argon2id over password and keyfiles; NAT-KEY-10, HKDF over a recovery key;
/// NAT-FIDO-05, HKDF over what a token said.
///
/// The costs were checked against the caller's limits before.
pub(super) fn slot_key(credentials: &Credentials, salt: &[u8; 32], cost: &Argon2Cost) -> Result<DerivedKey> {
    match credentials {
        Credentials::Password { password, keyfiles } => {
            let input = credential_input(password, keyfiles)?;
            kdf::argon2id(input.as_slice(), salt, cost, SLOT_KEY_LEN)
        }
        Credentials::Recovery(key) => kdf::hkdf_sha512(key.expose(), salt, RECOVERY_LABEL, SLOT_KEY_LEN),
        Credentials::SecurityKey(answer) => {
            kdf::hkdf_sha512(answer.secret.expose(), salt, FIDO2_LABEL, SLOT_KEY_LEN)
        }
    }
}

/// NAT-KEY-06, NAT-FIDO-04: what the wrapped volume key is bound to: label ‖ uuid ‖ the slot's bytes before the nonce ‖ for
/// a FIDO2 token those behind the tag.
pub(super) fn keyslot_aad(uuid: &[u8; 16], slot_head: &[u8], slot_tail: &[u8]) -> Vec<u8> {
    [KEYSLOT_LABEL, uuid, slot_head, slot_tail].concat()
}

/// NAT-KEY-07: the key of the header's MAC.
fn mac_key(volume_key: &VolumeKey, uuid: &[u8; 16]) -> Result<DerivedKey> {
    kdf::hkdf_sha512(volume_key.expose(), uuid, MAC_LABEL, MAC_KEY_LEN)
}

/// NAT-SUM-02: HMAC-SHA-512 of a copy whose MAC field is zero.
pub(super) fn copy_mac(volume_key: &VolumeKey, uuid: &[u8; 16], copy: &[u8]) -> Result<[u8; 64]> {
    Ok(hash::hmac_sha512(mac_key(volume_key, uuid)?.expose(), &[copy]))
}

/// NAT-KEY-08: the data key of one region of 1 TiB.
pub fn data_key(volume_key: &VolumeKey, uuid: &[u8; 16], suite: Suite, region: u64) -> Result<DerivedKey> {
    let info = [DATA_LABEL, &suite.number().to_le_bytes(), &region.to_le_bytes()].concat();
    kdf::hkdf_sha512(volume_key.expose(), uuid, &info, suite.key_len())
}

/// NAT-REENC-03: the key that the old volume key is wrapped under while a re-encryption is under way.
pub(super) fn old_key_wrapper(new_key: &VolumeKey, uuid: &[u8; 16]) -> Result<DerivedKey> {
    kdf::hkdf_sha512(new_key.expose(), uuid, OLD_KEY_LABEL, aead::KEY_LEN)
}

/// NAT-REENC-03: what the wrapped old volume key is bound to.
pub(super) fn old_key_aad(uuid: &[u8; 16], generation: u32, suite: u32, sector_size: u32) -> Vec<u8> {
    let numbers = [generation, suite, sector_size].map(u32::to_le_bytes);
    [OLD_KEY_LABEL, uuid, numbers.as_flattened()].concat()
}

/// NAT-REENC-05: the key of the MAC of the records.
pub(super) fn record_key(new_key: &VolumeKey, uuid: &[u8; 16]) -> Result<DerivedKey> {
    kdf::hkdf_sha512(new_key.expose(), uuid, RECORD_LABEL, MAC_KEY_LEN)
}

/// NAT-REENC-18: the key under which the blocks of a chunk are hashed.
pub(super) fn block_hash_key(new_key: &VolumeKey, uuid: &[u8; 16]) -> Result<DerivedKey> {
    kdf::hkdf_sha512(new_key.expose(), uuid, BLOCK_HASH_LABEL, BLOCK_HASH_KEY_LEN)
}

/// NAT-REENC-18: the key that makes a chunk's checksum of these hashes.
pub(super) fn chunk_key(new_key: &VolumeKey, uuid: &[u8; 16]) -> Result<DerivedKey> {
    kdf::hkdf_sha512(new_key.expose(), uuid, CHUNK_LABEL, MAC_KEY_LEN)
}

/// PCS-MAP-03: the key of the MAC of the piece map of a container that is a folder of pieces.
pub fn piece_map_key(volume_key: &VolumeKey, uuid: &[u8; 16]) -> Result<DerivedKey> {
    kdf::hkdf_sha512(volume_key.expose(), uuid, PIECE_MAP_LABEL, MAC_KEY_LEN)
}

/// NAT-SIZE-08: what marks the end that a container is about to get.
pub(super) fn growth_mark(volume_key: &VolumeKey, uuid: &[u8; 16], lens: [u64; 2]) -> Result<[u8; 64]> {
    let key = kdf::hkdf_sha512(volume_key.expose(), uuid, GROWTH_LABEL, MAC_KEY_LEN)?;
    Ok(hash::hmac_sha512(key.expose(), &[lens.map(u64::to_le_bytes).as_flattened()]))
}

/// The Argon2id costs that a keyslot names.
pub(super) fn slot_cost(slot: &RawKeyslot) -> Argon2Cost {
    Argon2Cost { memory_kib: slot.memory_kib.get(), passes: slot.passes.get(), lanes: slot.lanes.get() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_piece_map_is_that_of_another_implementation() {
        let numbered = |from: u8, len: u8| (from..from + len).collect::<Vec<u8>>();
        let volume_key = VolumeKey::copy_of(&numbered(0, 64)).unwrap();
        let uuid = numbered(0x10, 16).try_into().unwrap();
        let expected = std::fs::read(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pieces/map.key"),
        );
        assert!(piece_map_key(&volume_key, &uuid).unwrap().expose() == expected.unwrap());
    }
}
