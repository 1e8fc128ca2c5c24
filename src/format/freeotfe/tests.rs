//! Headers after decryption, a fault at a time.

use super::{
    details::{Details, DetailsError},
    *,
};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::pbkdf2,
        secret::{KeyfileDigest, Password},
    },
    storage::MemoryStorage,
    units::{Sector, SectorSize},
};

/// A volume details block of layout 4: fields as they stand there, and some padding.
#[derive(Clone, Copy)]
struct Block {
    version: u8,
    flags: u32,
    data_len: u64,
    key_bits: u32,
    iv_bits: u32,
    method: u8,
}

const USUAL: Block =
    Block { version: 4, flags: 0, data_len: 1 << 20, key_bits: 512, iv_bits: 128, method: 2 };

impl Block {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![self.version];
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.data_len.to_be_bytes());
        bytes.extend(self.key_bits.to_be_bytes());
        bytes.extend((0..=u8::MAX).cycle().take((self.key_bits / 8).min(1000) as usize));
        bytes.push(b'Q');
        if self.version >= 2 {
            bytes.extend(self.iv_bits.to_be_bytes());
            bytes.extend(vec![9; (self.iv_bits / 8).min(1000) as usize]);
        }
        if self.version >= 3 {
            bytes.push(self.method);
        }
        bytes.extend([0x07, 0xdf, 12, 31]);
        bytes.extend([0xee; 64]);
        bytes
    }

    fn parse(self) -> Result<Details, DetailsError> {
        Details::parse(&self.bytes())
    }
}

#[test]
fn layouts_1_to_5_are_read_and_others_named() {
    // proves: FO-DET-01
    for version in 1..=5 {
        let details = Block { version, ..USUAL }.parse().unwrap();
        assert_eq!((details.version, details.key.len()), (version, 64));
        assert_eq!(details.written, (version == 5).then_some((2015, 12, 31)));
        assert_eq!(details.volume_iv.as_slice().len(), if version == 1 { 0 } else { 16 });
    }
    for version in [0, 6, 255] {
        let error = Block { version, ..USUAL }.parse().unwrap_err();
        assert_eq!(error, DetailsError::Version(version));
        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().is_some_and(|hint| hint.contains("LibreCrypt on Windows")));
    }
}

#[test]
fn data_without_a_sector_or_beyond_63_bits_are_refused() {
    // proves: FO-DET-03
    for data_len in [0, 511, 1 << 63, u64::MAX] {
        assert_eq!(Block { data_len, ..USUAL }.parse().unwrap_err(), DetailsError::DataLen(data_len));
    }
    assert!(Block { data_len: 512, ..USUAL }.parse().is_ok());
}

#[test]
fn ways_to_make_ivs_are_known_or_refused() {
    let by_code = [
        SectorIv::None,
        SectorIv::Number32,
        SectorIv::Number64,
        SectorIv::Hashed32,
        SectorIv::Hashed64,
        SectorIv::Essiv,
    ];
    for (method, expected) in (0..).zip(by_code) {
        assert_eq!(Block { method, ..USUAL }.parse().unwrap().sector_iv, expected);
    }
    assert_eq!(Block { method: 6, ..USUAL }.parse().unwrap_err(), DetailsError::SectorIv(6));
    // A number that is hashed, but not used.
    let error = Block { version: 2, flags: 8, ..USUAL }.parse().unwrap_err();
    assert_eq!(error, DetailsError::SectorIv(8));
}

#[test]
fn lengths_that_are_no_bytes_or_leave_the_block_are_refused() {
    // proves: FO-DET-06
    let bits = Block { key_bits: 509, ..USUAL }.parse().unwrap_err();
    assert_eq!(bits, DetailsError::Bits { what: "the key", bits: 509 });
    let bits = Block { iv_bits: 1, ..USUAL }.parse().unwrap_err();
    assert_eq!(bits, DetailsError::Bits { what: "the volume's IV", bits: 1 });
    for key_bits in [1 << 20, u32::MAX - 7] {
        assert_eq!(Block { key_bits, ..USUAL }.parse().unwrap_err(), DetailsError::CutShort("the key"));
    }
    let bytes = USUAL.bytes();
    let needed = bytes.len() - 64 - 4;
    assert!(Details::parse(&bytes[..needed]).is_ok());
    for len in 0..needed {
        assert!(matches!(Details::parse(&bytes[..len]), Err(DetailsError::CutShort(_))), "{len}");
    }
}

#[test]
fn a_long_volume_iv_counts_as_far_as_a_block_goes() {
    let details = Block { iv_bits: 1024, ..USUAL }.parse().unwrap();
    assert_eq!(details.volume_iv.as_slice(), [9; 16]);
}

#[test]
fn what_is_shorter_than_a_header_is_no_volume() {
    let short = MemoryStorage::new(vec![0; 511]);
    assert_eq!(FreeOtfe.read_header(&short).unwrap_err().kind(), ErrorKind::NotAContainer);
    assert_eq!(FreeOtfe.probe(&short).unwrap(), Probe::Opaque);
}

#[test]
fn erasing_and_making_another_container_take_the_header_away() {
    let volume = MemoryStorage::new(vec![0; 4096]);
    assert_eq!(FreeOtfe.erasure(&volume).unwrap().last, 0..512);
    let trace = |len| FreeOtfe.traces(len).pop().unwrap();
    assert_eq!(trace(4096), 0..512);
    assert_eq!(trace(100), 0..100);
}

/// A volume of layout 4 with a header made by these, and 2 sectors of data.
fn volume(cipher: Cipher, hash: HashKind, password: &[u8]) -> MemoryStorage {
    let salt = [3; 32];
    let key = pbkdf2(hash, password, &salt, 1, cipher.key_len()).unwrap();
    let whole = 480 / cipher.block_len() * cipher.block_len();
    let block = Block { key_bits: 8 * u32::try_from(cipher.key_len()).unwrap(), data_len: 1024, ..USUAL };
    let mut unit = vec![0; 512];
    let details = block.bytes();
    unit[64..64 + details.len()].copy_from_slice(&details);
    let mac = hash.hmac(key.expose(), &[&unit[64..whole]]);
    unit[..64].copy_from_slice(&*mac);
    cipher.for_header(key.expose()).unwrap().encrypt(&mut unit, SectorSize::B512, Sector(0));
    let mut bytes = salt.to_vec();
    bytes.extend(&unit[..whole]);
    bytes.resize(512 + 1024, 0);
    MemoryStorage::new(bytes)
}

#[test]
fn every_cipher_and_every_hash_is_tried() {
    let hashes = trial::HASHES.iter().cycle();
    for (cipher, &hash) in Cipher::all().zip(hashes) {
        let storage = volume(cipher, hash, b"correct horse");
        let header = FreeOtfe.read_header(&storage).unwrap();
        let password = Password::copy_of(b"correct horse").unwrap();
        let credentials = Credentials::Password { password, keyfiles: Vec::new() };
        let freeotfe = Hints { iterations: 1, ..Hints::USUAL };
        let attempt = Attempt { freeotfe, ..Attempt::default() };
        let unlocked = header
            .unlock(&credentials, &attempt)
            .unwrap_or_else(|error| panic!("{cipher:?} {hash:?}: {error}"));
        let info = header.describe_unlocked(&unlocked);
        assert_eq!(info.cipher, cipher.name(SectorIv::Number64, hash));
        assert_eq!(info.details[0].value, hash.name());
        assert_eq!(info.data_size, 1024);
    }
}

#[test]
fn a_keyfile_beside_the_password_is_refused_with_the_option_for_header_files() {
    let storage = volume(Cipher::all().next().unwrap(), HashKind::Sha512, b"");
    let header = FreeOtfe.read_header(&storage).unwrap();
    let credentials = Credentials::Password {
        password: Password::copy_of(b"").unwrap(),
        keyfiles: vec![KeyfileDigest::copy_of(b"digest").unwrap()],
    };
    let error = header.unlock(&credentials, &Attempt::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.hint().is_some_and(|hint| hint.contains("--header")));
}
