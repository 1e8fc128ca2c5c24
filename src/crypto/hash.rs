//! SHA-256 against damage, POLYVAL below a MAC, the hashes that foreign headers name, HMAC-SHA-512 against tampering, SHA-512 over streams, comparison in constant time.

mod kind;
mod variant;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use polyval::universal_hash::UniversalHash;
use sha2::Digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use self::kind::{HashKind, MAX_DIGEST_LEN};

/// SHA-256 (FIPS 180-4) of the parts joined; where one ends and the next begins leaves no trace.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::default();
    for part in parts {
        hasher.update(part);
    }
    hasher.finish()
}

/// SHA-256 (FIPS 180-4) of a stream, piece by piece. Its state is wiped on drop.
#[derive(Clone, Default)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Takes in the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256")
    }
}

/// POLYVAL (RFC 8452), several times as fast as SHA-256. Key and hashes have to stay secret: who knows them finds two texts with one hash.
#[derive(Clone)]
pub struct Polyval(polyval::Polyval);

impl Polyval {
    /// Under this key.
    pub fn new(key: &[u8; 16]) -> Self {
        Self(polyval::Polyval::new(key.into()))
    }

    /// The hash of `bytes`, filled up with zeros to a multiple of 16.
    pub fn of(&self, bytes: &[u8]) -> [u8; 16] {
        let mut hash = self.0.clone();
        hash.update_padded(bytes);
        hash.finalize().into()
    }
}

impl fmt::Debug for Polyval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Polyval")
    }
}

/// HMAC-SHA-512 (RFC 2104) of the parts joined, under a key of any length.
pub fn hmac_sha512(key: &[u8], parts: &[&[u8]]) -> [u8; 64] {
    // RFC 2104, 2: a key longer than a block is hashed, a shorter one padded with zeros. Done here because the
    // crate's constructor for any length returns a `Result` that is never an error.
    let mut block = Zeroizing::new([0; 128]);
    if key.len() > block.len() {
        block[..64].copy_from_slice(Sha512::of(key).as_slice());
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut mac = <Hmac<sha2::Sha512> as KeyInit>::new((&*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Whether two byte strings are equal, in a time that depends on their lengths only.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// SHA-512 (FIPS 180-4) of a stream, piece by piece. Its state is wiped on drop.
#[derive(Clone, Default)]
pub struct Sha512(sha2::Sha512);

impl Sha512 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Zeroizing<[u8; 64]> {
        let mut hasher = Self::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Takes in the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Zeroizing<[u8; 64]> {
        Zeroizing::new(self.0.finalize().into())
    }
}

impl fmt::Debug for Sha512 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha512")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_parts_is_the_digest_of_their_concatenation() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(sha256(&[b"a", b"", b"bc"])), abc);
    }

    #[test]
    fn sha512_of_pieces_is_the_digest_of_their_concatenation() {
        let mut pieces = Sha512::default();
        pieces.update(b"a");
        pieces.update(b"bc");
        // FIPS 180-2, appendix C.1.
        let abc = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                   2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        assert_eq!(hex::encode(pieces.finish()), abc);
    }

    #[test]
    fn polyval_is_that_of_rfc_8452() {
        // Appendix A.
        let key = "25629347589242761d31f826ba4b757b";
        let text = "4f4f95668c83dfb6401762bb2d01a262d1a24ddd2721d006bbe45f20d3c9f362";
        let hash = Polyval::new(hex::decode(key).unwrap().as_slice().try_into().unwrap());
        assert_eq!(hex::encode(hash.of(&hex::decode(text).unwrap())), "f7a3b47b846119fae5b7866cf5e5b77e");
    }

    #[test]
    fn hmac_of_parts_is_the_mac_of_their_concatenation() {
        // RFC 4231, test case 2.
        let mac = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                   9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
        assert_eq!(hex::encode(hmac_sha512(b"Jefe", &[b"what do ya want ", b"for nothing?"])), mac);
    }

    #[test]
    fn equality_looks_at_length_and_content() {
        assert!(equal(b"same", b"same"));
        assert!(!equal(b"same", b"sane"));
        assert!(!equal(b"same", b"same\0"));
    }
}
