//! Small LUKS containers, laid out by hand as the specifications say: for tests that change a header in every way.

#![allow(dead_code, clippy::unwrap_used, reason = "each test that includes this uses a part of it")]

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use strongroom::{
    crypto::{
        hash::HashKind,
        kdf::pbkdf2,
        sector::{BlockCipher, IvMode, Mode, SectorSpec},
    },
    units::{Sector, SectorSize},
};

/// The volume key of all of them.
pub(crate) const KEY: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";
pub(crate) const UUID: &str = "28632274-8c8a-493f-835b-da802e1c576b";
/// The size of one copy of a LUKS2 header.
pub(crate) const COPY_LEN: usize = 16 << 10;
/// Where the data begin.
pub(crate) const DATA_OFFSET: usize = 1 << 20;
/// Where the area of keyslot 0 begins; that of keyslot 1 follows.
pub(crate) const AREA_OFFSET: usize = 32 << 10;
const AREA_LEN: usize = 128 << 10;
const SALT: [u8; 32] = [7; 32];
const STRIPES: usize = 4000;

/// LUKS2 metadata with one keyslot, that PBKDF2 of 1000 iterations opens, and one segment.
pub(crate) fn metadata(key: &[u8; 32]) -> Value {
    let digest = pbkdf2(HashKind::Sha256, key, &SALT, 1000, 32).unwrap();
    json!({
        "keyslots": {"0": keyslot(AREA_OFFSET)},
        "tokens": {},
        "segments": {"0": {
            "type": "crypt", "offset": DATA_OFFSET.to_string(), "size": "dynamic", "iv_tweak": "0",
            "encryption": "aes-xts-plain64", "sector_size": 4096,
        }},
        "digests": {"0": {
            "type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256", "iterations": 1000,
            "salt": Base64::encode_string(&SALT), "digest": Base64::encode_string(digest.expose()),
        }},
        "config": {"json_size": (COPY_LEN - 4096).to_string(), "keyslots_size": (4 * AREA_LEN).to_string()},
    })
}

/// A keyslot of [`metadata`] whose area begins at `offset`.
pub(crate) fn keyslot(offset: usize) -> Value {
    json!({
        "type": "luks2", "key_size": 32,
        "af": {"type": "luks1", "stripes": STRIPES, "hash": "sha256"},
        "area": {
            "type": "raw", "offset": offset.to_string(), "size": AREA_LEN.to_string(),
            "encryption": "aes-xts-plain64", "key_size": 32,
        },
        "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": Base64::encode_string(&SALT)},
    })
}

/// A LUKS2 container of 16 sectors whose keyslot 0 gives [`KEY`] for `password`.
pub(crate) fn luks2(password: &[u8]) -> Vec<u8> {
    luks2_of(&metadata(&KEY), &KEY, password)
}

/// The same with other metadata, or for another volume key.
pub(crate) fn luks2_of(metadata: &Value, key: &[u8; 32], password: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; DATA_OFFSET + 16 * 4096];
    set_metadata(&mut bytes, metadata);
    let area = area(key, password, SALT, 1000);
    bytes[AREA_OFFSET..AREA_OFFSET + area.len()].copy_from_slice(&area);
    bytes
}

/// Puts `metadata` into both copies of a LUKS2 header, with sequence id 3.
pub(crate) fn set_metadata(bytes: &mut [u8], metadata: &Value) {
    for (magic, offset) in [(*b"LUKS\xba\xbe", 0), (*b"SKUL\xba\xbe", COPY_LEN)] {
        let copy = &mut bytes[offset..offset + COPY_LEN];
        copy.fill(0);
        copy[..6].copy_from_slice(&magic);
        copy[7] = 2;
        copy[8..16].copy_from_slice(&u64::try_from(COPY_LEN).unwrap().to_be_bytes());
        copy[23] = 3;
        copy[72..78].copy_from_slice(b"sha256");
        copy[168..204].copy_from_slice(UUID.as_bytes());
        copy[256..264].copy_from_slice(&u64::try_from(offset).unwrap().to_be_bytes());
        let text = metadata.to_string();
        copy[4096..4096 + text.len()].copy_from_slice(text.as_bytes());
        make_checksum_right(copy);
    }
}

/// Makes the SHA-256 checksum of a LUKS2 header copy right.
pub(crate) fn make_checksum_right(copy: &mut [u8]) {
    copy[448..512].fill(0);
    let sum = Sha256::digest(&*copy);
    copy[448..480].copy_from_slice(&sum);
}

/// The ciphertext of a keyslot's area that gives `key` for `password`: all stripes are zeros but the last one, which makes
/// the sum come out as the key.
pub(crate) fn area(key: &[u8; 32], password: &[u8], salt: [u8; 32], iterations: u32) -> Vec<u8> {
    let mut block = [0; 32];
    for _ in 1..STRIPES {
        block = Sha256::new().chain_update([0; 4]).chain_update(block).finalize().into();
    }
    let mut stripes = vec![0; 32 * STRIPES];
    for (byte, (key, sum)) in stripes[32 * (STRIPES - 1)..].iter_mut().zip(key.iter().zip(block)) {
        *byte = key ^ sum;
    }
    let derived = pbkdf2(HashKind::Sha256, password, &salt, iterations, 32).unwrap();
    let spec = SectorSpec { cipher: BlockCipher::Aes, mode: Mode::Xts(IvMode::Plain64) };
    spec.keyed(derived.expose(), 0).unwrap().encrypt(&mut stripes, SectorSize::B512, Sector(0));
    stripes
}

/// A LUKS1 container of 128 sectors whose keyslot 0 gives [`KEY`] for `password`.
pub(crate) fn luks1(password: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 2 * DATA_OFFSET + 128 * 512];
    bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
    bytes[8..11].copy_from_slice(b"aes");
    bytes[40..51].copy_from_slice(b"xts-plain64");
    bytes[72..78].copy_from_slice(b"sha256");
    let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    put(104, 4096);
    put(108, 32);
    put(164, 1000);
    for slot in 0..8_u32 {
        let at = 208 + 48 * usize::try_from(slot).unwrap();
        put(at, if slot == 0 { 0x00ac_71f3 } else { 0x0000_dead });
        put(at + 4, if slot == 0 { 1000 } else { 0 });
        put(at + 40, 8 + 256 * slot);
        put(at + 44, 4000);
    }
    bytes[132..164].copy_from_slice(&SALT);
    bytes[216..248].copy_from_slice(&SALT);
    let digest = pbkdf2(HashKind::Sha256, &KEY, &SALT, 1000, 20).unwrap();
    bytes[112..132].copy_from_slice(digest.expose());
    bytes[168..204].copy_from_slice(UUID.as_bytes());
    let area = area(&KEY, password, SALT, 1000);
    bytes[4096..4096 + area.len()].copy_from_slice(&area);
    bytes
}
