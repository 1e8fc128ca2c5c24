//! What a keyslot and a FIDO2 token say to each other: a question that anyone may see, an answer that is a secret.
//!
//! The token's extension *hmac-secret* (CTAP 2.1, 12.5) answers a salt of 32 bytes with HMAC-SHA-256 under a key that never
//! leaves it, one for each credential.

use super::secret::HmacSecret;

/// The longest credential id that is taken from a token or a header.
pub const MAX_CREDENTIAL_ID_LEN: usize = 1024;
/// The size of a salt, and of what the token makes of it, in bytes.
pub const HMAC_SECRET_LEN: usize = 32;

/// The name that a token gave to one of its credentials: from 1 to [`MAX_CREDENTIAL_ID_LEN`] bytes, not secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialId(Vec<u8>);

impl CredentialId {
    /// Takes the bytes where their number is right.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (1..=MAX_CREDENTIAL_ID_LEN).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a keyslot asks of a token. Not secret: it lies in the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The credential; another token does not know it.
    pub credential: CredentialId,
    /// What the token makes the secret from.
    pub salt: [u8; HMAC_SECRET_LEN],
    /// Whether the token knew its user (by a PIN) when the slot was made. It answers otherwise where it does not.
    pub verified: bool,
}

/// A challenge, answered by the token.
#[derive(Debug)]
pub struct Answer {
    /// What was asked.
    pub challenge: Challenge,
    /// What the token said: [`HMAC_SECRET_LEN`] bytes.
    pub secret: HmacSecret,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_id_has_from_1_to_1024_bytes() {
        assert!(CredentialId::new(&[]).is_none());
        assert_eq!(CredentialId::new(&[7]).unwrap().as_bytes(), [7]);
        assert!(CredentialId::new(&[7; 1024]).is_some());
        assert!(CredentialId::new(&[7; 1025]).is_none());
    }
}
