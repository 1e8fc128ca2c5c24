//! SHA-256 against damage, the hashes that foreign headers name, HMAC-SHA-512 against tampering, SHA-512 over streams, comparison in constant time.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

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

/// A hash that a foreign header may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashKind {
    /// SHA-1 (FIPS 180-4). Broken for collisions, which its uses here do not rest on.
    Sha1,
    /// SHA-224 (FIPS 180-4).
    Sha224,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-384 (FIPS 180-4).
    Sha384,
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// RIPEMD-160 (ISO/IEC 10118-3).
    Ripemd160,
    /// Whirlpool (ISO/IEC 10118-3).
    Whirlpool,
    /// Streebog with 512 bits (GOST R 34.11-2012, RFC 6986). VeraCrypt has it.
    Streebog512,
    /// BLAKE2s with 256 bits (RFC 7693). VeraCrypt has it.
    Blake2s256,
}

impl HashKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Ripemd160,
        Self::Whirlpool,
        Self::Streebog512,
        Self::Blake2s256,
    ];

    /// The kind of this name, as the kernel and cryptsetup write it, among those that LUKS headers may name: the two that
    /// only VeraCrypt has are not.
    pub fn from_name(name: &str) -> Option<Self> {
        let is_named = |kind: &Self| !matches!(kind, Self::Streebog512 | Self::Blake2s256);
        Self::ALL.into_iter().filter(is_named).find(|kind| kind.name() == name)
    }

    /// The name, as the kernel and cryptsetup write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Ripemd160 => "ripemd160",
            Self::Whirlpool => "whirlpool",
            Self::Streebog512 => "streebog512",
            Self::Blake2s256 => "blake2s-256",
        }
    }

    /// The size of a digest in bytes: at most [`MAX_DIGEST_LEN`].
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha1 | Self::Ripemd160 => 20,
            Self::Sha224 => 28,
            Self::Sha256 | Self::Blake2s256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 | Self::Whirlpool | Self::Streebog512 => 64,
        }
    }

    /// The digest of the parts joined: the first [`digest_len`](Self::digest_len) bytes, then zeros.
    pub fn digest(self, parts: &[&[u8]]) -> Zeroizing<[u8; MAX_DIGEST_LEN]> {
        match self {
            Self::Sha1 => digest::<sha1::Sha1>(parts),
            Self::Sha224 => digest::<sha2::Sha224>(parts),
            Self::Sha256 => digest::<sha2::Sha256>(parts),
            Self::Sha384 => digest::<sha2::Sha384>(parts),
            Self::Sha512 => digest::<sha2::Sha512>(parts),
            Self::Ripemd160 => digest::<ripemd::Ripemd160>(parts),
            Self::Whirlpool => digest::<whirlpool::Whirlpool>(parts),
            Self::Streebog512 => digest::<streebog::Streebog512>(parts),
            Self::Blake2s256 => digest::<blake2::Blake2s256>(parts),
        }
    }
}

fn digest<D: Digest>(parts: &[&[u8]]) -> Zeroizing<[u8; MAX_DIGEST_LEN]> {
    let mut hasher = D::new();
    for part in parts {
        hasher.update(part);
    }
    let mut digest = Zeroizing::new([0; MAX_DIGEST_LEN]);
    for (byte, computed) in digest.iter_mut().zip(hasher.finalize()) {
        *byte = computed;
    }
    digest
}

/// The size of the longest digest in bytes.
pub const MAX_DIGEST_LEN: usize = 64;

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
    fn hmac_of_parts_is_the_mac_of_their_concatenation() {
        // RFC 4231, test case 2.
        let mac = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                   9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
        assert_eq!(hex::encode(hmac_sha512(b"Jefe", &[b"what do ya want ", b"for nothing?"])), mac);
    }

    #[test]
    fn each_kind_has_the_digest_of_abc() {
        // FIPS 180-2 appendices; the RIPEMD-160 page of its authors; ISO/IEC 10118-3 annex (Whirlpool); RFC 7693, appendix B.
        for (kind, abc) in [
            (HashKind::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
            (HashKind::Sha224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            (HashKind::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                HashKind::Sha384,
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed\
                 8086072ba1e7cc2358baeca134c825a7",
            ),
            (
                HashKind::Sha512,
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            (HashKind::Ripemd160, "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"),
            (
                HashKind::Whirlpool,
                "4e2448a4c6f486bb16b6562c73b4020bf3043e3a731bce721ae1b303d97e6d4c\
                 7181eebdb6c57e277d0e34957114cbd6c797fc9d95d8b582d225292076d4eef5",
            ),
            (HashKind::Blake2s256, "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"),
        ] {
            let digest = kind.digest(&[b"a", b"bc"]);
            assert_eq!(hex::encode(&digest[..kind.digest_len()]), abc, "{kind:?}");
            assert!(digest[kind.digest_len()..].iter().all(|&byte| byte == 0), "{kind:?}");
            let name = (kind != HashKind::Blake2s256).then_some(kind);
            assert_eq!(HashKind::from_name(kind.name()), name);
        }
    }

    #[test]
    fn streebog_has_the_digest_of_its_first_example() {
        // RFC 6986, 10.1.1: the message M1, 63 bytes; the RFC prints numbers with the last byte first.
        let digest = HashKind::Streebog512
            .digest(&[b"012345678901234567890123456789012345678901234567890123456789012"]);
        let expected = "1b54d01a4af5b9d5cc3d86d68d285462b19abc2475222f35c085122be4ba1ffa\
                        00ad30f8767b3a82384c6574f024c311e2a481332b08ef7f41797891c1646f48";
        assert_eq!(hex::encode(*digest), expected);
        assert_eq!(HashKind::from_name("streebog512"), None);
    }

    #[test]
    fn equality_looks_at_length_and_content() {
        assert!(equal(b"same", b"same"));
        assert!(!equal(b"same", b"sane"));
        assert!(!equal(b"same", b"same\0"));
    }
}
