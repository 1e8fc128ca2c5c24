//! Makes the vectors from `spec/native-v1.md` alone: a second implementation, written with other crates' calls and byte
//! offsets, so that what it agrees on with `src/format/native` is the text and not one program's habits.

mod commitment;
mod fido2;
mod header_files;
mod reencryption;
mod resize;

use std::collections::BTreeMap;

use aes::cipher::{Array, KeyInit as _};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{AeadInOut, XChaCha20Poly1305};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha512};
use xts_mode::Xts128;

pub(crate) use fido2::{Token, first_token};

pub(crate) const COPY: usize = 65_536;
const DATA: usize = 16_384;
const CONTAINER: usize = COPY + DATA + COPY;
const BACKUP: usize = COPY + DATA;
const SUM: std::ops::Range<usize> = 4_000..4_032;
const MAC: std::ops::Range<usize> = 4_032..4_096;

pub(crate) const PASSWORD: &str = "correct horse battery staple";
pub(crate) const KEYFILES: [&[u8]; 2] = [b"first keyfile\n", b"\0second\xff"];
pub(crate) const RECOVERY_KEY: [u8; 32] = *b"\x00on paper, in a safe; 32 bytes.\xff";

/// One vector: an image, changes to it, and what a reader must answer.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Vector {
    pub(crate) comment: String,
    pub(crate) rules: Vec<String>,
    /// The image beside this file.
    pub(crate) base: String,
    pub(crate) password: String,
    /// The contents of the keyfiles, in hexadecimal.
    pub(crate) keyfiles: Vec<String>,
    /// In hexadecimal; presented instead of password and keyfiles.
    pub(crate) recovery_key: Option<String>,
    /// The only keyslot to try.
    pub(crate) keyslot: Option<u32>,
    /// The size to which the image is cut or grown (with zeros) before the edits.
    pub(crate) length: Option<u64>,
    pub(crate) read_only: bool,
    /// `success`, `no match`, `header failure`, `unlock failure`, `digest failure`, `payload failure`, `unsupported`
    pub(crate) expect: String,
    /// Of the whole volume, on success.
    pub sha256: Option<String>,
    /// What opening leaves behind: `base` (the base image again), `whole` (both copies whole and the same), `unchanged`.
    pub(crate) after: String,
    /// Presented instead of password and keyfiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fido2: Option<Token>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) edit: Vec<Edit>,
    /// The header file, where the header is detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) header: Option<HeaderPart>,
}

/// A header file and changes to it.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct HeaderPart {
    /// The file beside this one.
    pub(crate) base: String,
    pub(crate) length: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) edit: Vec<Edit>,
}

/// Bytes to be put into the image.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) offset: u64,
    pub(crate) bytes: String,
}

/// Random bytes that are the same each time: SHA-256 in counter mode over a name.
struct Fixed(String, u64);

impl Fixed {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        for chunk in out.chunks_mut(32) {
            let block = Sha256::digest(format!("{} {}", self.0, self.1));
            self.1 += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        out
    }
}

/// A container and what it was made from.
pub(crate) struct Made {
    pub(crate) bytes: Vec<u8>,
    pub(crate) uuid: [u8; 16],
    pub(crate) volume_key: [u8; 64],
    pub(crate) plaintext: Vec<u8>,
}

struct Slot<'a> {
    index: u32,
    priority: u32,
    label: &'a str,
    opens: Opens<'a>,
}

/// What opens a slot.
enum Opens<'a> {
    Password(&'a str),
    Keyfiles(&'a [&'a [u8]], &'a str),
    Recovery(&'a [u8; 32]),
    /// The token, and whether it verifies its user.
    Fido2(&'a Token, bool),
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

pub(crate) fn hkdf(volume_key: &[u8; 64], uuid: &[u8; 16], info: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    Hkdf::<Sha512>::new(Some(uuid), volume_key).expand(info, &mut out).unwrap();
    out
}

pub(crate) fn data_key(volume_key: &[u8; 64], uuid: &[u8; 16], region: u64) -> [u8; 64] {
    data_key_of(volume_key, uuid, 1, region).try_into().unwrap()
}

/// 64 bytes for suite 1, 32 for suite 2.
pub(crate) fn data_key_of(volume_key: &[u8; 64], uuid: &[u8; 16], suite: u32, region: u64) -> Vec<u8> {
    let mut info = b"strongroom/v1/data".to_vec();
    info.extend(suite.to_le_bytes());
    info.extend(region.to_le_bytes());
    let mut key = vec![0; if suite == 1 { 64 } else { 32 }];
    Hkdf::<Sha512>::new(Some(uuid), volume_key).expand(&info, &mut key).unwrap();
    key
}

/// The plaintext of what XChaCha20-Poly1305 encrypted.
pub(crate) fn open(key: &[u8], nonce: &[u8], aad: &[u8], wrapped: &[u8], tag: &[u8]) -> Vec<u8> {
    let (key, nonce): ([u8; 32], [u8; 24]) = (key.try_into().unwrap(), nonce.try_into().unwrap());
    let (mut opened, tag): (Vec<u8>, [u8; 16]) = (wrapped.to_vec(), tag.try_into().unwrap());
    XChaCha20Poly1305::new(&key.into())
        .decrypt_inout_detached(&nonce.into(), aad, opened.as_mut_slice().into(), &tag.into())
        .unwrap();
    opened
}

pub(crate) fn credentials(password: &str, keyfiles: &[&[u8]]) -> Vec<u8> {
    let digest = |content: &&[u8]| {
        let mut hash = Sha512::new();
        hash.update(b"strongroom/v1/keyfile");
        hash.update(content);
        hash.update((content.len() as u64).to_le_bytes());
        hash.finalize().to_vec()
    };
    let mut digests: Vec<Vec<u8>> = keyfiles.iter().map(digest).collect();
    digests.sort();
    let mut input = b"strongroom/v1/credentials".to_vec();
    input.extend((password.len() as u64).to_le_bytes());
    input.extend(password.as_bytes());
    input.extend((digests.len() as u32).to_le_bytes());
    input.extend(digests.concat());
    input
}

/// Argon2id with 64 KiB, one pass, one lane.
pub(crate) fn slot_key(input: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let params = Params::new(64, 1, 1, Some(32)).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(input, salt, &mut key)
        .unwrap();
    key
}

/// A keyslot; those with a password cost 64 KiB, one pass, one lane.
fn keyslot(slot: &Slot<'_>, uuid: &[u8; 16], volume_key: &[u8; 64], random: &mut Fixed) -> [u8; 2048] {
    let mut bytes = [0; 2048];
    let (salt, nonce) = (random.take::<32>(), random.take::<24>());
    let (kind, kdf, costs, key) = match slot.opens {
        Opens::Password(password) => (1, 1, [64, 1, 1], slot_key(&credentials(password, &[]), &salt)),
        Opens::Keyfiles(keyfiles, password) => {
            (2, 1, [64, 1, 1], slot_key(&credentials(password, keyfiles), &salt))
        }
        Opens::Recovery(recovery_key) => {
            (3, 2, [0, 0, 0], random_slot_key(recovery_key, &salt, b"strongroom/v1/recovery-key"))
        }
        Opens::Fido2(token, verified) => {
            let answer = fido2::ask(token, verified, &mut bytes, random);
            (4, 2, [0, 0, 0], random_slot_key(&answer, &salt, b"strongroom/v1/fido2"))
        }
    };
    let fields: [u32; 7] = [kind, slot.index, slot.priority, kdf, costs[0], costs[1], costs[2]];
    for (place, value) in fields.into_iter().enumerate() {
        put(&mut bytes, 4 * place, &value.to_le_bytes());
    }
    put(&mut bytes, 32, &salt);
    put(&mut bytes, 64, slot.label.as_bytes());
    put(&mut bytes, 128, &nonce);

    let tail = if kind == 4 { &bytes[232..] } else { &[] };
    let aad = [b"strongroom/v1/keyslot".as_slice(), uuid, &bytes[..128], tail].concat();
    let mut wrapped = *volume_key;
    let tag = XChaCha20Poly1305::new(&key.into())
        .encrypt_inout_detached(&nonce.into(), &aad, wrapped.as_mut_slice().into())
        .unwrap();
    put(&mut bytes, 152, &wrapped);
    put(&mut bytes, 216, &tag);
    bytes
}

/// HKDF-SHA-512 (RFC 5869) spelled out: extract, then the first block of expand.
pub(crate) fn random_slot_key(secret: &[u8; 32], salt: &[u8; 32], info: &[u8]) -> [u8; 32] {
    let hmac = |key: &[u8], message: &[u8]| {
        Hmac::<Sha512>::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes()
    };
    let extracted = hmac(salt, secret);
    hmac(&extracted, &[info, b"\x01"].concat())[..32].try_into().unwrap()
}

fn superblock(uuid: &[u8; 16], sector_size: u32, provision: u32, label: &str) -> Vec<u8> {
    let mut bytes = vec![0; COPY];
    put(&mut bytes, 0, b"\x89STRONGROOM\r\n\x1a\n\0");
    put(&mut bytes, 16, &1_u32.to_le_bytes());
    put(&mut bytes, 20, &65_536_u32.to_le_bytes());
    put(&mut bytes, 48, uuid);
    put(&mut bytes, 64, label.as_bytes());
    put(&mut bytes, 128, &1_u64.to_le_bytes());
    put(&mut bytes, 140, &1_u32.to_le_bytes());
    put(&mut bytes, 144, &sector_size.to_le_bytes());
    put(&mut bytes, 148, &provision.to_le_bytes());
    for (place, value) in [COPY, DATA, CONTAINER, BACKUP].into_iter().enumerate() {
        put(&mut bytes, 152 + 8 * place, &(value as u64).to_le_bytes());
    }
    for index in 0..30_u32 {
        put(&mut bytes, 4096 + 2048 * index as usize + 4, &index.to_le_bytes());
    }
    bytes
}

fn checksum(copy: &mut [u8]) {
    copy[SUM].fill(0);
    copy[MAC].fill(0);
    let sum = Sha256::digest(&*copy);
    put(copy, SUM.start, &sum);
}

/// The checksum of a changed copy whose MAC stays what it was.
fn checksum_keeping_mac(copy: &mut [u8]) {
    let mac = copy[MAC].to_vec();
    checksum(copy);
    put(copy, MAC.start, &mac);
}

/// Both sums of a copy.
fn seal(copy: &mut [u8], volume_key: &[u8; 64], uuid: &[u8; 16]) {
    checksum(copy);
    let key = hkdf(volume_key, uuid, b"strongroom/v1/header-mac");
    let mac = Hmac::<Sha512>::new_from_slice(&key).unwrap().chain_update(&*copy).finalize();
    put(copy, MAC.start, &mac.into_bytes());
}

fn with_index(copy: &[u8], index: u32, made: &([u8; 64], [u8; 16])) -> Vec<u8> {
    let mut copy = copy.to_vec();
    put(&mut copy, 136, &index.to_le_bytes());
    seal(&mut copy, &made.0, &made.1);
    copy
}

/// AES-256-XTS under the data key of region 0.
fn cipher(volume_key: &[u8; 64], uuid: &[u8; 16]) -> Xts128<aes::Aes256> {
    let key = data_key(volume_key, uuid, 0);
    let half = |range: std::ops::Range<usize>| aes::Aes256::new(&Array::try_from(&key[range]).unwrap());
    Xts128::new(half(0..32), half(32..64))
}

fn make(name: &str, sector_size: u32, provision: u32, holes: &[usize], slots: &[Slot<'_>]) -> Made {
    let mut random = Fixed(name.to_owned(), 0);
    let (volume_key, mut uuid) = (random.take::<64>(), random.take::<16>());
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    let mut copy = superblock(&uuid, sector_size, provision, "vector \u{1F512}");
    for slot in slots {
        let bytes = keyslot(slot, &uuid, &volume_key, &mut random);
        put(&mut copy, 4096 + 2048 * slot.index as usize, &bytes);
    }
    let mut plaintext: Vec<u8> = (0..DATA).map(|i| (i * 7 + i / 4096) as u8).collect();
    let mut data = plaintext.clone();
    let xts = cipher(&volume_key, &uuid);
    let size = sector_size as usize;
    for (sector, bytes) in data.chunks_mut(size).enumerate() {
        xts.encrypt_sector(bytes, (sector as u128).to_le_bytes().into());
    }
    for &sector in holes {
        plaintext[sector * size..][..size].fill(0);
        data[sector * size..][..size].fill(0);
    }
    let keys = (volume_key, uuid);
    let bytes = [with_index(&copy, 0, &keys), data, with_index(&copy, 1, &keys)].concat();
    Made { bytes, uuid, volume_key, plaintext }
}

/// The images that the vectors start from.
pub(crate) fn bases() -> BTreeMap<&'static str, Made> {
    let password =
        |index, priority| Slot { index, priority, label: "main", opens: Opens::Password(PASSWORD) };
    let keyfile = |index, password| Slot {
        index,
        priority: 1,
        label: "stick",
        opens: Opens::Keyfiles(&KEYFILES, password),
    };
    let recovery = Slot { index: 1, priority: 1, label: "paper", opens: Opens::Recovery(&RECOVERY_KEY) };
    let (file, detached) = header_files::detach(make("detached", 4096, 0, &[], &[password(0, 1)]));
    let mut bases = BTreeMap::from([
        ("detached.header", file),
        ("detached.img", detached),
        ("password.img", make("password", 4096, 0, &[], &[password(0, 1)])),
        ("keyfiles.img", make("keyfiles", 4096, 1, &[], &[keyfile(0, PASSWORD), keyfile(29, "")])),
        ("thin.img", make("thin", 512, 2, &[0, 7, 31], &[password(3, 2)])),
        ("by-number-only.img", make("by-number-only", 4096, 0, &[], &[password(0, 0)])),
        ("recovery.img", make("recovery", 4096, 0, &[], &[password(0, 1), recovery])),
    ]);
    bases.insert("fido2.img", fido2::base());
    bases.insert("two-passwords.img", commitment::base());
    bases.extend(reencryption::bases());
    bases.extend(resize::bases());
    bases
}

/// The fields of a copy: name, offset, length, and what a reader says when both copies carry another value with a right checksum.
const FIELDS: &[(&str, usize, usize, &str, &str)] = &[
    ("magic", 1, 1, "header failure", "NAT-SB-01"),
    ("version", 16, 4, "unsupported", "NAT-SB-02"),
    ("header-length", 20, 4, "header failure", "NAT-SB-02"),
    ("features-required", 25, 1, "unsupported", "NAT-SB-03"),
    ("features-writing", 32, 8, "digest failure", "NAT-SUM-02"),
    ("features-ignorable", 40, 8, "digest failure", "NAT-SUM-02"),
    ("uuid", 48, 16, "unlock failure", "NAT-KEY-06"),
    ("label", 64, 1, "digest failure", "NAT-SUM-02"),
    ("sequence", 128, 8, "digest failure", "NAT-SUM-02"),
    ("copy-index", 136, 4, "header failure", "NAT-RD-02"),
    ("suite", 140, 4, "unsupported", "NAT-SB-08"),
    ("sector-size", 144, 4, "header failure", "NAT-SB-08"),
    ("provision", 148, 4, "digest failure", "NAT-SUM-02"),
    ("data-offset", 152, 8, "header failure", "NAT-GEO-02"),
    ("data-length", 160, 8, "header failure", "NAT-GEO-03"),
    ("container-length", 168, 8, "header failure", "NAT-GEO-01"),
    ("backup-offset", 176, 8, "header failure", "NAT-GEO-04"),
    ("generation", 184, 4, "header failure", "NAT-REENC-01"),
    ("reserved-a", 188, 4, "header failure", "NAT-SB-10"),
    ("reencryption", 200, 1, "header failure", "NAT-REENC-02"),
    ("reserved", 2000, 1, "header failure", "NAT-SB-10"),
    ("mac", 4040, 1, "digest failure", "NAT-SUM-02"),
    ("slot-kind", 4096, 4, "header failure", "NAT-SLOT-02"),
    ("slot-index", 4100, 4, "header failure", "NAT-SLOT-01"),
    ("slot-priority", 4104, 4, "unlock failure", "NAT-SLOT-05"),
    ("slot-kdf", 4108, 4, "header failure", "NAT-SLOT-06"),
    ("slot-memory", 4112, 4, "unlock failure", "NAT-KEY-05"),
    ("slot-passes", 4116, 4, "unsupported", "NAT-SLOT-08"),
    ("slot-lanes", 4120, 4, "unsupported", "NAT-SLOT-08"),
    ("slot-reserved", 4124, 4, "header failure", "NAT-SLOT-07"),
    ("slot-salt", 4128, 1, "unlock failure", "NAT-KEY-05"),
    ("slot-label", 4160, 1, "unlock failure", "NAT-KEY-06"),
    ("slot-nonce", 4224, 1, "unlock failure", "NAT-KEY-06"),
    ("slot-wrapped-key", 4248, 1, "unlock failure", "NAT-KEY-06"),
    ("slot-tag", 4312, 1, "unlock failure", "NAT-KEY-06"),
    ("slot-reserved-tail", 6000, 1, "header failure", "NAT-SLOT-07"),
    ("empty-slot", 6144 + 100, 1, "header failure", "NAT-SLOT-02"),
];

/// Values of fields that single vectors set in both copies: name, offset, value, expected answer, rule.
fn forgeries() -> Vec<(&'static str, usize, Vec<u8>, &'static str, &'static str)> {
    let le4 = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let le8 = |values: &[u64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (container, backup) = (CONTAINER as u64, BACKUP as u64);
    let (header, unsupported) = ("header failure", "unsupported");
    vec![
        ("memory-1-tib", 4112, le4(&[1 << 30]), unsupported, "NAT-SLOT-08"),
        ("memory-below-lanes", 4112, le4(&[7]), unsupported, "NAT-SLOT-08"),
        ("passes-65", 4116, le4(&[65]), unsupported, "NAT-SLOT-08"),
        ("lanes-17", 4112, le4(&[1024, 1, 17]), unsupported, "NAT-SLOT-08"),
        ("unknown-kind", 4096, le4(&[77]), "unlock failure", "NAT-SLOT-04"),
        ("priority-3", 4104, le4(&[3]), header, "NAT-SLOT-05"),
        ("provision-3", 148, le4(&[3]), header, "NAT-SB-09"),
        ("copy-index-2", 136, le4(&[2]), header, "NAT-SB-07"),
        ("label-control-character", 64, b"\x1b[2J".to_vec(), header, "NAT-SB-06"),
        ("label-right-to-left", 64, "\u{202e}".into(), header, "NAT-SB-06"),
        ("label-invisible", 64, "\u{200b}".into(), header, "NAT-SB-06"),
        ("label-not-utf8", 64, vec![0xff], header, "NAT-SB-06"),
        ("label-zero-inside", 65, vec![0], header, "NAT-SB-06"),
        ("slot-label-not-utf8", 4160, vec![0xff], header, "NAT-SB-06"),
        ("data-offset-below-copy", 152, le8(&[61_440]), header, "NAT-GEO-02"),
        ("data-offset-unaligned", 152, le8(&[66_048, 12_288]), header, "NAT-GEO-02"),
        ("data-offset-overflow", 152, le8(&[u64::MAX - 4095]), header, "NAT-GEO-05"),
        ("data-length-zero", 160, le8(&[0]), header, "NAT-GEO-03"),
        ("data-length-unaligned", 160, le8(&[8_704]), header, "NAT-GEO-03"),
        (
            "data-length-beyond-4-pib",
            160,
            le8(&[(1 << 52) + 4096, 1 << 53, (1 << 53) - 65_536]),
            header,
            "NAT-GEO-03",
        ),
        ("data-over-backup", 160, le8(&[20_480]), header, "NAT-GEO-05"),
        ("container-beyond-63-bits", 168, le8(&[1 << 63, (1 << 63) - 65_536]), header, "NAT-GEO-01"),
        ("container-unaligned", 168, le8(&[container + 512]), header, "NAT-GEO-01"),
        ("backup-past-the-end", 176, le8(&[backup + 4096]), header, "NAT-GEO-04"),
        ("backup-unaligned", 160, le8(&[12_288, container, backup - 512]), header, "NAT-GEO-04"),
        ("backup-far-from-the-end", 168, le8(&[backup + (1 << 20) + 4096]), header, "NAT-GEO-04"),
        ("backup-overflow", 176, le8(&[u64::MAX - 4095]), header, "NAT-GEO-04"),
        ("shorter-data", 160, le8(&[12_288]), "digest failure", "NAT-SUM-02"),
    ]
}

struct Suite {
    bases: BTreeMap<&'static str, Made>,
    vectors: BTreeMap<String, Vector>,
}

impl Suite {
    fn success(&mut self, name: &str, base: &str, rules: &[&str], comment: &str) -> &mut Vector {
        let sha256 = hex::encode(Sha256::digest(&self.bases[base].plaintext));
        let vector = Vector {
            comment: comment.to_owned(),
            rules: rules.iter().map(|&rule| rule.to_owned()).collect(),
            base: base.to_owned(),
            password: PASSWORD.to_owned(),
            keyfiles: Vec::new(),
            recovery_key: None,
            keyslot: None,
            length: None,
            read_only: false,
            expect: "success".to_owned(),
            sha256: Some(sha256),
            after: "base".to_owned(),
            fido2: None,
            edit: Vec::new(),
            header: None,
        };
        self.vectors.entry(name.to_owned()).or_insert(vector)
    }

    fn read_only(&mut self, name: &str, rules: &[&str], comment: &str) -> &mut Vector {
        let vector = self.success(name, "password.img", rules, comment);
        (vector.read_only, vector.after) = (true, "unchanged".to_owned());
        vector
    }

    fn failure(&mut self, name: &str, rules: &[&str], expect: &str, comment: &str) -> &mut Vector {
        let vector = self.success(name, "password.img", rules, comment);
        (vector.expect, vector.sha256, vector.after) = (expect.to_owned(), None, "unchanged".to_owned());
        vector
    }

    /// The copies of `password.img` with `value` at `offset`, checksums made right again where `fix` is set, as edits.
    fn edits(&self, copies: &[usize], offset: usize, value: &[u8], fix: bool) -> Vec<Edit> {
        self.edits_of("password.img", copies, offset, value, fix)
    }

    fn edits_of(&self, base: &str, copies: &[usize], offset: usize, value: &[u8], fix: bool) -> Vec<Edit> {
        let mut edits = Vec::new();
        for start in copies.iter().map(|copy| [0, BACKUP][*copy]) {
            edits.push(Edit { offset: (start + offset) as u64, bytes: hex::encode(value) });
            if fix {
                let mut copy = self.bases[base].bytes[start..start + COPY].to_vec();
                put(&mut copy, offset, value);
                checksum_keeping_mac(&mut copy);
                edits.push(Edit { offset: (start + SUM.start) as u64, bytes: hex::encode(&copy[SUM]) });
            }
        }
        edits
    }

    /// A whole copy re-sealed by the owner of the key after `change`.
    fn resealed(&self, copy: usize, change: impl Fn(&mut [u8])) -> Edit {
        self.resealed_of("password.img", copy, change)
    }

    fn resealed_of(&self, base: &str, copy: usize, change: impl Fn(&mut [u8])) -> Edit {
        let made = &self.bases[base];
        let start = [0, BACKUP][copy];
        let mut bytes = made.bytes[start..start + COPY].to_vec();
        change(&mut bytes);
        seal(&mut bytes, &made.volume_key, &made.uuid);
        Edit { offset: start as u64, bytes: hex::encode(bytes) }
    }
}

/// Every vector by name.
pub(crate) fn vectors() -> BTreeMap<String, Vector> {
    let mut suite = Suite { bases: bases(), vectors: BTreeMap::new() };
    openings(&mut suite);
    recovery_keys(&mut suite);
    fido2::vectors(&mut suite);
    commitment::vectors(&mut suite);
    field_faults(&mut suite);
    forged_values(&mut suite);
    copies(&mut suite);
    second_copies(&mut suite);
    damaged_newer_copies(&mut suite);
    copies_of_two_containers(&mut suite);
    lengths(&mut suite);
    header_files::vectors(&mut suite);
    reencryption::vectors(&mut suite);
    resize::vectors(&mut suite);
    suite.vectors
}

fn openings(suite: &mut Suite) {
    let keyfiles: Vec<String> = KEYFILES.iter().map(hex::encode).collect();
    let data = [
        "NAT-DATA-01",
        "NAT-DATA-03",
        "NAT-KEY-05",
        "NAT-KEY-07",
        "NAT-KEY-08",
        "NAT-SUM-01",
        "NAT-SUM-02",
        "NAT-RD-01",
    ];
    suite.success("password", "password.img", &data, "thick, 4096-byte sectors, keyslot 0");
    suite.success(
        "thin",
        "thin.img",
        &["NAT-DATA-04", "NAT-DATA-01"],
        "thin, 512-byte sectors, sectors 0, 7 and 31 never written, keyslot 3 first",
    );
    let rules = ["NAT-KEY-03", "NAT-KEY-04", "NAT-SLOT-03"];
    suite.success("keyfiles", "keyfiles.img", &rules, "a password and two keyfiles, keyslot 0").keyfiles =
        keyfiles.clone();
    let vector = suite.success(
        "keyfiles-swapped",
        "keyfiles.img",
        &["NAT-KEY-04"],
        "the order of keyfiles does not count",
    );
    vector.keyfiles = keyfiles.iter().rev().cloned().collect();
    let vector =
        suite.success("keyfiles-alone", "keyfiles.img", &["NAT-KEY-02"], "an empty password, keyslot 29");
    (vector.keyfiles, vector.password) = (keyfiles.clone(), String::new());

    let vector = suite.failure(
        "keyfiles-missing",
        &["NAT-SLOT-03"],
        "unlock failure",
        "slots that take keyfiles are not tried without",
    );
    vector.base = "keyfiles.img".to_owned();
    let vector =
        suite.failure("keyfiles-one-of-two", &["NAT-KEY-04"], "unlock failure", "each keyfile counts");
    (vector.base, vector.keyfiles) = ("keyfiles.img".to_owned(), keyfiles[..1].to_vec());
    let vector = suite.failure(
        "keyfile-twice",
        &["NAT-KEY-04"],
        "unlock failure",
        "a keyfile given twice counts twice",
    );
    (vector.base, vector.keyfiles) = ("keyfiles.img".to_owned(), [&keyfiles[..], &keyfiles[..1]].concat());
    suite.failure("wrong-password", &["NAT-KEY-05"], "unlock failure", "one letter wrong").password =
        PASSWORD.to_uppercase();
    suite
        .failure("password-with-newline", &["NAT-KEY-02"], "unlock failure", "nothing is trimmed")
        .password = format!("{PASSWORD}\n");
    suite
        .failure(
            "by-number-only",
            &["NAT-SLOT-05"],
            "unlock failure",
            "a slot of priority 0 is not tried unasked",
        )
        .base = "by-number-only.img".to_owned();
    let comment = "a slot of priority 0 opens when it is asked for by number";
    suite.success("by-number", "by-number-only.img", &["NAT-SLOT-05"], comment).keyslot = Some(0);
    let vector = suite.failure(
        "another-number",
        &["NAT-SLOT-05"],
        "unlock failure",
        "only the slot asked for is tried",
    );
    (vector.base, vector.keyslot) = ("keyfiles.img".to_owned(), Some(29));
    vector.keyfiles = KEYFILES.iter().map(hex::encode).collect();
}

fn recovery_keys(suite: &mut Suite) {
    let base = "recovery.img";
    let rules = ["NAT-KEY-10", "NAT-SLOT-03", "NAT-SLOT-06", "NAT-SLOT-10"];
    suite.success("recovery-key", base, &rules, "a recovery key, keyslot 1").recovery_key =
        Some(hex::encode(RECOVERY_KEY));
    suite.success("recovery-password", base, &["NAT-SLOT-03"], "the password of keyslot 0 beside it");
    let mut wrong = RECOVERY_KEY;
    wrong[31] ^= 1;
    let vector = suite.failure("recovery-key-wrong", &["NAT-KEY-10"], "unlock failure", "one bit wrong");
    (vector.base, vector.recovery_key) = (base.to_owned(), Some(hex::encode(wrong)));
    let comment = "slots that take a password are not tried with a recovery key";
    suite.failure("recovery-key-of-none", &["NAT-SLOT-03"], "unlock failure", comment).recovery_key =
        Some(hex::encode(RECOVERY_KEY));
    let forgeries: [(&str, usize, u32, &str, &str); 7] = [
        ("kind", 6144, 1, "header failure", "NAT-SLOT-06"),
        ("kdf", 6156, 1, "header failure", "NAT-SLOT-06"),
        ("memory", 6160, 64, "header failure", "NAT-SLOT-10"),
        ("passes", 6164, 1, "header failure", "NAT-SLOT-10"),
        ("lanes", 6168, 1, "header failure", "NAT-SLOT-10"),
        ("reserved", 6172, 1, "header failure", "NAT-SLOT-07"),
        ("salt", 6176, 0, "unlock failure", "NAT-KEY-10"),
    ];
    for (name, offset, value, expect, rule) in forgeries {
        let edit = suite.edits_of(base, &[0, 1], offset, &value.to_le_bytes(), true);
        let comment = "both copies, checksums made right";
        let vector = suite.failure(&format!("forged-recovery-{name}"), &[rule], expect, comment);
        (vector.base, vector.edit, vector.recovery_key) =
            (base.to_owned(), edit, Some(hex::encode(RECOVERY_KEY)));
    }
}

fn field_faults(suite: &mut Suite) {
    for &(name, offset, len, forged, rule) in FIELDS {
        let mut value = suite.bases["password.img"].bytes[offset..offset + len].to_vec();
        value[0] ^= 1;
        if name == "slot-priority" || name == "slot-memory" {
            value[0] ^= 2; // 2 stays a priority, 67 KiB stays enough
        }
        let one = suite.edits(&[0], offset, &value, false);
        let both = suite.edits(&[0, 1], offset, &value, false);
        let fixed_one = suite.edits(&[0], offset, &value, true);
        let fixed_both = suite.edits(&[0, 1], offset, &value, true);
        let damaged = if name == "mac" { "digest failure" } else { "header failure" };
        suite
            .success(
                &format!("flip-{name}-a"),
                "password.img",
                &["NAT-SUM-01", "NAT-UPD-04"],
                "one bit of copy A; copy B opens",
            )
            .edit = one;
        // 1 in both copies would be right in copy B.
        if name != "copy-index" {
            suite
                .failure(
                    &format!("flip-{name}-both"),
                    &["NAT-SUM-01"],
                    damaged,
                    "the same bit in both copies",
                )
                .edit = both;
            suite
                .failure(
                    &format!("forged-{name}-both"),
                    &[rule],
                    forged,
                    "the same bit in both copies, checksums made right",
                )
                .edit = fixed_both;
        }
        if name == "magic" || forged == "unsupported" && !name.starts_with("slot") || name == "sequence" {
            continue;
        }
        let comment = "copy A changed, its checksum made right; copy B opens";
        if name == "uuid" {
            // It could be the last copy of another container's header.
            suite.two_containers("forged-uuid-a", fixed_one, comment);
            continue;
        }
        // What no update changes is known from copy B; in anything else copy A could be what is left of another state.
        let is_fixed =
            [0..24, 32..128, 136..184, 188..192, 304..4000].iter().any(|fixed| fixed.contains(&offset));
        if forged != "header failure" && name != "mac" {
            // Whole, and under no key that is known: it could hold the container's only one.
            suite.unlinked(&format!("forged-{name}-a"), "NAT-UPD-10", fixed_one, comment);
            continue;
        }
        if name != "mac" && !is_fixed {
            suite.unlinked(&format!("forged-{name}-a"), "NAT-UPD-08", fixed_one, comment);
            continue;
        }
        let rules = ["NAT-RD-05", "NAT-RD-06", "NAT-UPD-04"];
        suite.success(&format!("forged-{name}-a"), "password.img", &rules, comment).edit = fixed_one;
    }
}

/// Values that no single bit makes, and headers that the owner of the key made.
fn forged_values(suite: &mut Suite) {
    for (name, offset, value, expect, rule) in forgeries() {
        let edits = suite.edits(&[0, 1], offset, &value, true);
        suite.failure(&format!("forged-{name}"), &[rule], expect, "both copies, checksums made right").edit =
            edits;
    }
    let edits = suite.edits(&[0], 128, &9_u64.to_le_bytes(), true);
    let comment = "copy A pretends to be newer; its MAC betrays it; opened for writing";
    suite.failure("forged-sequence-a", &["NAT-RD-06"], "digest failure", comment).edit = edits.clone();
    suite.read_only("forged-sequence-a-read-only", &["NAT-RD-06"], "the same, opened read-only").edit = edits;
    for (name, offset) in [("version", 16), ("features-required", 24), ("suite", 140)] {
        for (copy, letter) in ["a", "b"].into_iter().enumerate() {
            let (name, rule) = (format!("unsupported-{name}-{letter}"), ["NAT-RD-04"]);
            let edits = suite.edits(&[copy], offset, &[9], true);
            let comment = "one whole copy of another time; opened for writing";
            suite.failure(&name, &rule, "unsupported", comment).edit = edits.clone();
            let name = format!("{name}-read-only");
            suite.read_only(&name, &rule, "the same, opened read-only").edit = edits;
        }
    }
    let both = |suite: &Suite, change: &dyn Fn(&mut [u8])| {
        vec![suite.resealed(0, change), suite.resealed(1, change)]
    };
    let edits = both(suite, &|copy| copy[40] = 0x80);
    let vector = suite.success(
        "unknown-ignorable-feature",
        "password.img",
        &["NAT-SB-05"],
        "a feature that may be ignored",
    );
    (vector.edit, vector.after) = (edits, "unchanged".to_owned());
    let edits = both(suite, &|copy| copy[32] = 1);
    let vector =
        suite.failure("unknown-writing-feature", &["NAT-SB-04"], "unsupported", "opened for writing");
    vector.edit = edits.clone();
    let vector = suite.success(
        "unknown-writing-feature-read-only",
        "password.img",
        &["NAT-SB-04"],
        "opened read-only",
    );
    (vector.edit, vector.read_only, vector.after) = (edits, true, "unchanged".to_owned());
    // The wrapped key of slot 0, byte for byte, in slot 1.
    let edits = both(suite, &|copy| {
        copy.copy_within(4096..6144, 6144);
        copy[4096..6144].fill(0);
        copy[6148] = 1;
    });
    suite
        .failure(
            "slot-at-another-index",
            &["NAT-KEY-06"],
            "unlock failure",
            "slot 0 moved to slot 1, its index with it",
        )
        .edit = edits;
}

fn copies(suite: &mut Suite) {
    let a = zeros(0, COPY);
    let b = zeros(BACKUP, COPY);
    suite.success("copy-a-zeros", "password.img", &["NAT-RD-03", "NAT-UPD-04"], "copy A overwritten").edit =
        vec![a.clone()];
    suite.success("copy-b-zeros", "password.img", &["NAT-UPD-04"], "copy B overwritten").edit =
        vec![b.clone()];
    suite.failure("both-copies-zeros", &["NAT-RD-04"], "no match", "no trace of a header").edit =
        vec![a.clone(), b.clone()];
    // A sector of zeros in the middle of copy A: what a power cut leaves of a write.
    suite.success("torn-copy-a", "password.img", &["NAT-SUM-01", "NAT-UPD-03"], "copy A half written").edit =
        vec![zeros(512, 4096)];
    let newer = suite.resealed(1, |copy| {
        copy[128] = 2;
        copy[64] = b'V';
    });
    let vector = suite.success(
        "newer-copy-b",
        "password.img",
        &["NAT-RD-04", "NAT-UPD-03"],
        "an update that got as far as copy B",
    );
    (vector.edit, vector.after) = (vec![newer], "whole".to_owned());
    // Copy B of sequence 1 opens with the password; copy A of sequence 2 has had that slot removed.
    let removed = suite.resealed(0, |copy| {
        copy[128] = 2;
        copy[4096..6144].fill(0);
    });
    suite
        .failure(
            "removed-slot",
            &["NAT-RD-05"],
            "unlock failure",
            "the older copy still has the slot, and must not be tried",
        )
        .edit = vec![removed.clone()];
    // The same, and copy A is made to look like another container's, whose sequence does not count.
    let mut copy = hex::decode(&removed.bytes).unwrap();
    copy[48] ^= 1;
    checksum_keeping_mac(&mut copy);
    suite
        .failure(
            "removed-slot-and-uuid",
            &["NAT-RD-05"],
            "unlock failure",
            "the same, with another uuid in copy A",
        )
        .edit = vec![Edit { offset: 0, bytes: hex::encode(copy) }];
    let edit = suite.resealed(0, |copy| copy[136] = 1);
    let comment = "copy A, by its owner's hand, says that it is B; no copy B";
    suite.failure("copy-a-says-b", &["NAT-RD-02"], "header failure", comment).edit = vec![edit, b.clone()];
    let edit = suite.resealed(1, |copy| {
        put(copy, 160, &12_288_u64.to_le_bytes());
        put(copy, 176, &(BACKUP as u64 - 4096).to_le_bytes());
    });
    let comment = "copy B says that it belongs elsewhere; no copy A";
    suite.failure("misplaced-copy-b", &["NAT-RD-02"], "header failure", comment).edit = vec![a.clone(), edit];
    // Copy A points to where no copy B is; its checksum is right.
    let mut copy = suite.bases["password.img"].bytes[..COPY].to_vec();
    put(&mut copy, 160, &12_288_u64.to_le_bytes());
    put(&mut copy, 176, &(BACKUP as u64 - 4096).to_le_bytes());
    checksum_keeping_mac(&mut copy);
    let comment = "copy A points past copy B; copy B is found by searching";
    let edit = vec![Edit { offset: 0, bytes: hex::encode(copy) }];
    suite.unlinked("forged-geometry-a", "NAT-UPD-10", edit, comment);
    // An older copy that the key of the newer one does not know.
    let newer = suite.resealed(0, |copy| copy[128] = 2);
    let edit = [vec![newer], suite.edits(&[1], 4040, &[0], false)].concat();
    let comment = "copy B is older, and under another volume key";
    suite.unlinked("older-copy-b-of-another-key", "NAT-UPD-10", edit, comment);
}

fn zeros(offset: usize, len: usize) -> Edit {
    Edit { offset: offset as u64, bytes: hex::encode(vec![0; len]) }
}

/// Copy A is gone, and only copy B is whole.
fn second_copies(suite: &mut Suite) {
    let rules = ["NAT-RD-07"];
    let at = |offset: usize, bytes: &[u8]| Edit { offset: offset as u64, bytes: hex::encode(bytes) };
    let mut random = Fixed("something else".to_owned(), 0);
    let noise = random.take::<COPY>();

    // What something else leaves that takes the place of copy A.
    let mut ext4 = vec![0; 2048];
    put(&mut ext4, 1024 + 0x38, &[0x53, 0xef]);
    put(&mut ext4, 1024 + 0x60, &[0x42]);
    let mut table = vec![0; 66];
    table[4] = 0x83;
    put(&mut table, 64, &[0x55, 0xaa]);
    let occupants = [
        ("luks-over-copy-a", vec![zeros(0, 4096), at(0, b"LUKS\xba\xbe\0\x02")], "a LUKS2 header"),
        ("ext4-over-copy-a", vec![at(0, &ext4)], "an ext4 superblock"),
        (
            "partitions-over-copy-a",
            vec![at(446, &table)],
            "a partition table, the bytes before it left as they were",
        ),
        ("noise-over-copy-a", vec![at(0, &noise)], "random bytes"),
        ("noise-behind-zeros-over-copy-a", vec![at(0, &noise), zeros(0, 4096)], "zeros, and random bytes"),
    ];
    for (name, edit, what) in occupants {
        let comment = format!("{what} in the place of copy A; copy B alone is no container");
        suite.failure(name, &rules, "no match", &comment).edit = edit;
    }
    let mut foreign = suite.bases["thin.img"].bytes[..COPY].to_vec();
    foreign[5000] ^= 1;
    let comment = "a damaged copy A of another uuid; copy B alone is no container";
    suite.failure("damaged-copy-a-of-another-container", &rules, "header failure", comment).edit =
        vec![at(0, &foreign)];

    // What damage leaves, and power cuts.
    let whole = suite.bases["password.img"].bytes[..COPY].to_vec();
    let mut sectors = vec![0; COPY];
    for sector in [1, 7, 8, 11, 30] {
        sectors[sector * 512..][..512].copy_from_slice(&whole[sector * 512..][..512]);
    }
    let mut signed = whole.clone();
    signed[..4096].fill(0);
    put(&mut signed, 48, &whole[48..64]);
    let left = [
        (
            "first-sector-noise",
            vec![at(0, &noise[..512])],
            "random bytes over the first sector; a keyslot is left",
        ),
        ("new-copy-a-torn", vec![at(0, &sectors)], "copy A written over zeros, and some sectors landed"),
        ("copy-a-signed", vec![at(0, &signed)], "the first step of writing copy A: zeros and the uuid"),
        ("copy-a-without-magic", vec![zeros(0, 16)], "the second step: all but the magic"),
    ];
    for (name, edit, comment) in left {
        suite.success(name, "password.img", &["NAT-RD-07", "NAT-UPD-02"], comment).edit = edit;
    }
    // Two blocks that are neither zeros nor a header's: the rest is as it was.
    let comment = "two blocks in the place of copy A that a new user has written, far behind its start";
    suite.failure("blocks-over-copy-a", &rules, "no match", comment).edit =
        vec![at(16_384, &noise[..4_096]), at(32_768, &noise[..4_096])];
    let comment = "one block in the place of copy A that cannot be read right";
    suite.success("block-over-copy-a", "password.img", &rules, comment).edit =
        vec![at(32_768, &noise[..4_096])];
    let comment = "the superblock of JFS in the place of copy A";
    suite.failure("jfs-over-copy-a", &rules, "no match", comment).edit =
        vec![zeros(0, 4_096), at(32_768, b"JFS1")];
    // An update that has reached copy B, and got as far as the first step with copy A.
    let newer = suite.resealed(1, |copy| {
        copy[128] = 2;
        let slot = copy[4096..6144].to_vec();
        put(copy, 8192, &slot);
        put(copy, 8196, &2_u32.to_le_bytes());
        copy[8320] ^= 1;
    });
    let comment = "an update that is done in copy B and has begun in copy A";
    let vector =
        suite.success("update-of-copy-a-begun", "password.img", &["NAT-UPD-02", "NAT-UPD-03"], comment);
    (vector.edit, vector.after) = (vec![newer, at(0, &signed[..4096])], "whole".to_owned());
}

/// One copy is whole; the other is damaged and says that it was newer.
fn damaged_newer_copies(suite: &mut Suite) {
    for (copy, letter) in ["a", "b"].into_iter().enumerate() {
        let newer = suite.resealed(copy, |bytes| {
            bytes[128] = 2;
            bytes[4096..6144].fill(0);
        });
        // The last one makes its sequence lower than that of the copy which is whole.
        let flips = [
            ("", SUM.start, 1),
            ("-magic", 3, 0x20),
            ("-version", 16, 4),
            ("-uuid", 50, 0x11),
            ("-slot", 9000, 1),
        ];
        for (field, at, bits) in flips.into_iter().chain([("-sequence", 128, 2)]) {
            let mut bytes = hex::decode(&newer.bytes).unwrap();
            bytes[at] ^= bits;
            let edit = vec![Edit { offset: newer.offset, bytes: hex::encode(bytes) }];
            let name = format!("damaged-newer-copy-{letter}{field}");
            let comment = "a keyslot was removed in both copies; then one was damaged, and the other put back; for writing";
            let rules = ["NAT-UPD-08", "NAT-RD-07"];
            suite.failure(&name, &rules, "header failure", comment).edit = edit.clone();
            let name = format!("{name}-read-only");
            suite.read_only(&name, &rules, "the same, opened read-only").edit = edit;
        }
    }
    // An empty keyslot where the older copy has a key shows which is the newer one, whatever else of it is zeros.
    for (copy, letter) in ["a", "b"].into_iter().enumerate() {
        let newer = suite.resealed(copy, |bytes| {
            bytes[128] = 2;
            bytes[4096..6144].fill(0);
        });
        let zeros =
            |at: usize, len: usize| Edit { offset: newer.offset + at as u64, bytes: "00".repeat(len) };
        let losses = [
            ("first-block", vec![zeros(0, 4_096)]),
            ("sequence-and-checksum", vec![zeros(128, 8), zeros(SUM.start, 32)]),
            ("two-sectors", vec![zeros(0, 512), zeros(3_584, 512)]),
        ];
        for (lost, edits) in losses {
            let edit: Vec<_> = std::iter::once(newer.clone()).chain(edits).collect();
            let comment = "a keyslot was removed in both copies; then one lost bytes, and the other was put back; for writing";
            let name = format!("emptied-slot-copy-{letter}-{lost}");
            suite.failure(&name, &["NAT-UPD-08"], "header failure", comment).edit = edit.clone();
            suite
                .read_only(&format!("{name}-read-only"), &["NAT-UPD-08"], "the same, opened read-only")
                .edit = edit;
        }
    }
    let removed = suite.resealed(1, |bytes| {
        bytes[128] = 2;
        bytes[4096..6144].fill(0);
    });
    let comment = "a keyslot was removed; then copy A was put back, and copy B lost its first byte: it counts all the same";
    suite.failure("removed-slot-without-magic", &["NAT-RD-08"], "unlock failure", comment).edit =
        vec![removed.clone(), Edit { offset: removed.offset, bytes: "00".to_owned() }];
    // What a power cut leaves of an update is healed: copy B is newer, and has no magic yet; of copy A it has gone first.
    let newer = suite.resealed(1, |bytes| bytes[128] = 2);
    let bytes = hex::decode(&newer.bytes).unwrap();
    for (name, magic) in
        [("without-magic", &[0; 16][..]), ("with-half-its-magic", &[&bytes[..7], &[0; 9]].concat())]
    {
        let begun = vec![newer.clone(), Edit { offset: newer.offset, bytes: hex::encode(magic) }];
        let comment = "a newer copy B that was not finished, and is completed";
        let vector = suite.success(
            &format!("newer-copy-b-{name}"),
            "password.img",
            &["NAT-UPD-02", "NAT-RD-08"],
            comment,
        );
        (vector.edit, vector.after) = (begun, "whole".to_owned());
        let of_a =
            [&bytes[..magic.iter().take_while(|byte| **byte != 0).count()], &[0; 16]].concat()[..16].to_vec();
        let comment = "copy B is newer, and copy A has begun to go";
        let name = format!("older-copy-a-{name}");
        let vector = suite.success(&name, "password.img", &["NAT-UPD-02", "NAT-UPD-08"], comment);
        let gone = Edit { offset: 0, bytes: hex::encode(of_a) };
        (vector.edit, vector.after) = (vec![newer.clone(), gone], "whole".to_owned());
    }
    let mut copy = suite.bases["password.img"].bytes[..COPY].to_vec();
    put(&mut copy, 128, &9_u64.to_le_bytes());
    copy[4256] ^= 1;
    checksum_keeping_mac(&mut copy);
    let comment = "copy A pretends to be newer and opens with no password; copy B may only be named";
    let edit = vec![Edit { offset: 0, bytes: hex::encode(copy) }];
    suite.failure("forged-newer-locks-out", &["NAT-RD-05"], "unlock failure", comment).edit = edit;
}

impl Suite {
    /// A vector of a container with whole copies of two uuids, for writing and read-only; gives both names.
    fn two_containers(&mut self, name: &str, edit: Vec<Edit>, comment: &str) -> [String; 2] {
        let rules = ["NAT-UPD-09", "NAT-RD-04"];
        self.failure(name, &rules, "header failure", &format!("{comment}; opened for writing")).edit =
            edit.clone();
        let read_only = format!("{name}-read-only");
        self.read_only(&read_only, &rules, "the same, opened read-only").edit = edit;
        [name.to_owned(), read_only]
    }

    /// A vector of a container with a copy of its uuid that nothing links to the one that opens; both ways to open it.
    fn unlinked(&mut self, name: &str, rule: &str, edit: Vec<Edit>, comment: &str) {
        let rules = [rule, "NAT-RD-05", "NAT-RD-06"];
        self.failure(name, &rules, "header failure", &format!("{comment}; opened for writing")).edit =
            edit.clone();
        self.read_only(&format!("{name}-read-only"), &rules, "the same, opened read-only").edit = edit;
    }
}

fn copies_of_two_containers(suite: &mut Suite) {
    for (name, sequence) in [("copy-b-of-another-container", 1), ("newer-copy-b-of-another-container", 9)] {
        let edit = suite.resealed_of("thin.img", 1, |copy| copy[128] = sequence);
        suite.two_containers(name, vec![edit], "copy B has another uuid");
    }
    // The same password opens both, and the data are those of copy B.
    let edit = suite.resealed_of("thin.img", 0, |_| ());
    let comment = "copy A of another container over ours, both under the same password; opened for writing";
    suite.failure("spliced-copy-a", &["NAT-UPD-09"], "header failure", comment).edit = vec![edit];
    // The same, and ordinary damage has met copy B of the container whose data these are.
    let sector = Fixed("bad sector".to_owned(), 0).take::<512>();
    let spliced = suite.resealed_of("thin.img", 0, |_| ());
    let whole = suite.bases["password.img"].bytes[BACKUP + 4_005];
    let damages: [(&str, usize, &[u8]); 6] = [
        ("bit", 4_005, &[whole ^ 1]),
        ("magic", 3, b"s"),
        ("first-sector", 0, &sector),
        ("first-sector-zeros", 0, &[0; 512]),
        ("eighth-sector", 3_584, &sector),
        ("last-sector", 61_440, &sector),
    ];
    for (name, at, bytes) in damages {
        let damage = Edit { offset: (BACKUP + at) as u64, bytes: hex::encode(bytes) };
        let comment = "copy A of another container over ours, and our copy B damaged; opened for writing";
        let name = format!("spliced-copy-a-beside-damaged-{name}");
        suite.failure(&name, &["NAT-UPD-08"], "header failure", comment).edit = vec![spliced.clone(), damage];
    }
    // Copy A points to where no copy is, so that copy B is found only by searching.
    let edit = suite.resealed_of("thin.img", 0, |copy| {
        put(copy, 160, &12_288_u64.to_le_bytes());
        put(copy, 176, &(BACKUP as u64 - 4096).to_le_bytes());
    });
    let comment = "the same, and copy A says that its copy B is elsewhere; opened for writing";
    suite.failure("spliced-copy-a-astray", &["NAT-UPD-09"], "header failure", comment).edit = vec![edit];
    // An authentic copy B, newer, and elsewhere than copy A says.
    let stale = suite.resealed(0, |copy| {
        put(copy, 160, &12_288_u64.to_le_bytes());
        put(copy, 176, &(BACKUP as u64 - 4096).to_le_bytes());
    });
    let newer = suite.resealed(1, |copy| copy[128] = 2);
    let comment = "a newer copy B that stands elsewhere than copy A says: it counts";
    let vector = suite.success("newer-copy-b-elsewhere", "password.img", &["NAT-RD-04"], comment);
    (vector.edit, vector.after) = (vec![stale, newer], "whole".to_owned());
}

fn lengths(suite: &mut Suite) {
    let cut = |vector: &mut Vector, length: u64| vector.length = Some(length);
    cut(suite.failure("empty", &["NAT-RD-04"], "no match", "no byte"), 0);
    cut(suite.failure("within-the-magic", &["NAT-RD-04"], "no match", "ten bytes"), 10);
    cut(suite.failure("within-copy-a", &["NAT-RD-04"], "header failure", "cut off within copy A"), 40_000);
    cut(
        suite.failure("cut-off", &["NAT-GEO-06"], "header failure", "the end is missing; opened for writing"),
        CONTAINER as u64 - 4096,
    );
    let vector =
        suite.success("cut-off-read-only", "password.img", &["NAT-GEO-06"], "the end is missing; read-only");
    (vector.length, vector.read_only, vector.after) =
        (Some(CONTAINER as u64 - 4096), true, "unchanged".to_owned());
    let vector = suite.failure(
        "cut-off-data",
        &["NAT-GEO-06"],
        "payload failure",
        "the last data sector is missing; read-only",
    );
    (vector.length, vector.read_only) = (Some(COPY as u64 + 12_288), true);
    let vector = suite.success("surplus", "password.img", &["NAT-GEO-06"], "bytes behind the container");
    (vector.length, vector.after) = (Some(CONTAINER as u64 + 5_000), "unchanged".to_owned());
    let edit = Edit { offset: 0, bytes: hex::encode(vec![0; COPY]) };
    let vector = suite.success(
        "surplus-and-no-copy-a",
        "password.img",
        &["NAT-RD-03"],
        "copy B is searched for, not computed",
    );
    (vector.length, vector.edit, vector.after) =
        (Some(CONTAINER as u64 + 900_000), vec![edit], "whole".to_owned());
    let vector = suite.failure(
        "surplus-beyond-the-search",
        &["NAT-RD-03"],
        "no match",
        "copy B is over 2 MiB from the end; no copy A",
    );
    let edit = Edit { offset: 0, bytes: hex::encode(vec![0; COPY]) };
    (vector.length, vector.edit) = (Some(CONTAINER as u64 + (2 << 20)), vec![edit.clone()]);
    // A whole header of another container behind ours, as a device has that was used before.
    let foreign = suite.resealed_of("keyfiles.img", 1, |copy| {
        put(copy, 168, &(2 * CONTAINER as u64).to_le_bytes());
        put(copy, 176, &((2 * CONTAINER - COPY) as u64).to_le_bytes());
    });
    let foreign = Edit { offset: (2 * CONTAINER - COPY) as u64, ..foreign };
    let comment = "no copy A; a whole copy B of another container behind ours";
    for vector in suite.two_containers("foreign-copy-behind", vec![edit, foreign], comment) {
        suite.vectors.get_mut(&vector).unwrap().length = Some(2 * CONTAINER as u64);
    }
    // One byte over a whole number of blocks, in which copy B would just be too far from the raw end.
    let edit = Edit { offset: 0, bytes: hex::encode(vec![0; COPY]) };
    let comment = "no copy A; copy B exactly 2 MiB before the last multiple of 4 096";
    let vector = suite.success("surplus-of-no-whole-block", "password.img", &["NAT-RD-03"], comment);
    (vector.length, vector.edit, vector.after) =
        (Some(BACKUP as u64 + (2 << 20) + 5), vec![edit], "whole".to_owned());
    // In a thick container zeros are ciphertext like any other.
    let edit = Edit { offset: (COPY + 4096) as u64, bytes: hex::encode(vec![0; 4096]) };
    let made = &suite.bases["password.img"];
    let mut plaintext = made.plaintext.clone();
    plaintext[4096..8192].fill(0);
    cipher(&made.volume_key, &made.uuid)
        .decrypt_sector(&mut plaintext[4096..8192], 1_u128.to_le_bytes().into());
    let vector = suite.success(
        "thick-zero-sector",
        "password.img",
        &["NAT-DATA-04"],
        "a sector of zeros in a thick container",
    );
    (vector.edit, vector.after) = (vec![edit], "unchanged".to_owned());
    vector.sha256 = Some(hex::encode(Sha256::digest(&plaintext)));
}
