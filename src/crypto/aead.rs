//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), which wraps the volume key in a keyslot.

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};

use crate::{Error, ErrorKind, crypto::secret::DerivedKey};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of a nonce: long enough to be drawn at random.
pub const NONCE_LEN: usize = 24;
/// Bytes of a tag.
pub const TAG_LEN: usize = 16;

/// Why nothing was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The tag does not fit: another key, nonce, associated data or ciphertext.
    #[error("the authentication tag does not match")]
    BadTag,
    /// The key has not [`KEY_LEN`] bytes.
    #[error("a key of {len} bytes, not {KEY_LEN}")]
    KeyLength {
        /// The length found.
        len: usize,
    },
}

/// Encrypts `data` in place and returns the tag over it and `aad`. A nonce serves a key once.
///
/// # Errors
/// [`ErrorKind::Usage`] where the key has not [`KEY_LEN`] bytes or `data` exceeds 256 GiB.
pub fn seal(
    key: &DerivedKey,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    data: &mut [u8],
) -> crate::Result<[u8; TAG_LEN]> {
    let cipher = cipher(key).map_err(|error| Error::caused_by(ErrorKind::Usage, error))?;
    let tag = cipher
        .encrypt_inout_detached(nonce.into(), aad, data.into())
        .map_err(|_| Error::new(ErrorKind::Usage, "too much data for one XChaCha20-Poly1305 message"))?;
    Ok(tag.into())
}

/// Checks `tag` over `data` and `aad`, then decrypts `data` in place. On failure `data` stays as it was.
///
/// # Errors
/// [`OpenError::BadTag`] does not say which of key, nonce, associated data, data and tag is wrong.
pub fn open(
    key: &DerivedKey,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), OpenError> {
    cipher(key)?
        .decrypt_inout_detached(nonce.into(), aad, data.into(), tag.into())
        .map_err(|_| OpenError::BadTag)
}

fn cipher(key: &DerivedKey) -> Result<XChaCha20Poly1305, OpenError> {
    XChaCha20Poly1305::new_from_slice(key.expose()).map_err(|_| OpenError::KeyLength { len: key.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> DerivedKey {
        DerivedKey::copy_of(&[byte; KEY_LEN]).unwrap()
    }

    #[test]
    fn what_was_sealed_opens() {
        let mut data = *b"volume key";
        let tag = seal(&key(1), &[2; NONCE_LEN], b"slot 0", &mut data).unwrap();
        assert_ne!(&data, b"volume key");
        open(&key(1), &[2; NONCE_LEN], b"slot 0", &mut data, &tag).unwrap();
        assert_eq!(&data, b"volume key");
    }

    #[test]
    fn other_associated_data_is_refused_and_the_data_left_alone() {
        let mut data = *b"volume key";
        let tag = seal(&key(1), &[2; NONCE_LEN], b"slot 0", &mut data).unwrap();
        let sealed = data;
        assert_eq!(open(&key(1), &[2; NONCE_LEN], b"slot 1", &mut data, &tag), Err(OpenError::BadTag));
        assert_eq!(data, sealed);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let key = DerivedKey::copy_of(&[0; 64]).unwrap();
        let opened = open(&key, &[0; NONCE_LEN], b"", &mut [], &[0; TAG_LEN]);
        assert_eq!(opened, Err(OpenError::KeyLength { len: 64 }));
        let sealed = seal(&key, &[0; NONCE_LEN], b"", &mut []).unwrap_err();
        assert_eq!(sealed.kind(), ErrorKind::Usage);
    }
}
