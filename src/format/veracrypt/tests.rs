//! Containers made here, a fault at a time.

use std::{
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    chain::Use,
    layout::{HEADER_LEN, PLAIN_LEN, SALT_LEN},
    *,
};
use crate::{
    crypto::{
        kdf::{KdfLimits, argon2id, pbkdf2},
        secret::{LockedBytes, Password},
    },
    format::{CopyState, Monitor, Severity},
    mapping::{Layout, Segment},
    storage::MemoryStorage,
    units::{Sector, SectorSize},
};

const LEN: u64 = 512 << 10;
const DATA: Range<u64> = 131_072..131_072 + 65_536;
const PASSWORD: &[u8] = b"correct horse";

/// A header of each family's newest layout.
fn header(family: Family) -> VolumeHeader {
    let mut keys = LockedBytes::zeroed(256).unwrap();
    for (byte, value) in keys.as_mut_slice().iter_mut().zip(1..=192) {
        *byte = value;
    }
    let (version, minimum) = match family {
        Family::VeraCrypt => (5, 0x010b),
        Family::TrueCrypt => (4, 0x0600),
    };
    VolumeHeader {
        family,
        version,
        minimum,
        times: [0; 2],
        hidden_size: 0,
        volume_size: DATA.end - DATA.start,
        area_start: DATA.start,
        area_len: DATA.end - DATA.start,
        flags: 0,
        sector_size: SectorSize::B512,
        keys,
    }
}

/// An old header: fields from version 4 on are zero.
fn old_header() -> VolumeHeader {
    let new = header(Family::TrueCrypt);
    VolumeHeader { version: 2, minimum: 0x0410, volume_size: 0, area_start: 0, area_len: 0, ..new }
}

fn plain(header: &VolumeHeader) -> [u8; PLAIN_LEN] {
    header.to_bytes().unwrap().as_slice().try_into().unwrap()
}

/// How a header is put into a container.
#[derive(Clone, Copy)]
struct Seal {
    prf: Prf,
    pim: u32,
    chain: &'static str,
    mode: Mode,
    place: Place,
}

const OLD: Seal = Seal { prf: Prf::Ripemd160, pim: 0, chain: "aes", mode: Mode::Xts, place: Place::Normal };
const NEW: Seal = Seal { prf: Prf::Sha512, pim: 1, ..OLD };

impl Seal {
    fn encryption(self) -> Encryption {
        Encryption { chain: Chain::from_name(self.chain).unwrap(), mode: self.mode }
    }

    fn hints(self) -> Hints {
        Hints { pim: self.pim, ..Hints::NONE }
    }

    /// A container full of noise, with this header in its place.
    fn container(self, family: Family, plain: &[u8; PLAIN_LEN]) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..=250).cycle().take(usize::try_from(LEN).unwrap()).collect();
        self.put(family, plain, &mut bytes);
        bytes
    }

    fn put(self, family: Family, plain: &[u8; PLAIN_LEN], bytes: &mut [u8]) {
        let len = u64::try_from(bytes.len()).unwrap();
        let offset = usize::try_from(self.place.offset(len).unwrap()).unwrap();
        let salt = bytes[offset..][..SALT_LEN].to_vec();
        let is_boot = self.place == Place::System;
        let key = match self.prf.cost(family, is_boot, self.pim).unwrap().unwrap() {
            Cost::Pbkdf2 { hash, iterations } => pbkdf2(hash, PASSWORD, &salt, iterations, 192),
            Cost::Argon2id(cost) => argon2id(PASSWORD, &salt, &cost, 192),
        };
        let mut unit = [0; HEADER_LEN];
        unit[..PLAIN_LEN].copy_from_slice(plain);
        let cipher = self.encryption().keyed(key.unwrap().expose(), Use::Header).unwrap();
        cipher.encrypt(&mut unit, SectorSize::B512, Sector(0));
        bytes[offset + SALT_LEN..][..PLAIN_LEN].copy_from_slice(&unit[..PLAIN_LEN]);
    }
}

fn credentials(password: &[u8]) -> Credentials {
    Credentials::Password { password: Password::copy_of(password).unwrap(), keyfiles: Vec::new() }
}

fn unlock(format: VeraCrypt, bytes: Vec<u8>, hints: Hints) -> Result<(HeaderInfo, Unlocked)> {
    let header = format.read_header(&MemoryStorage::new(bytes))?;
    let attempt = Attempt { hints, ..Attempt::default() };
    let unlocked = header.unlock(&credentials(PASSWORD), &attempt)?;
    Ok((header.describe_unlocked(&unlocked), unlocked))
}

fn segment(unlocked: &Unlocked) -> Segment {
    let Layout::Fixed(mapping) = &unlocked.layout else { panic!("one mapping") };
    assert_eq!(mapping.segments().len(), 1);
    mapping.segments()[0].clone()
}

/// The refusal of a header that the password decrypts.
fn refusal(change: impl FnOnce(&mut VolumeHeader)) -> Error {
    let mut header = header(Family::TrueCrypt);
    change(&mut header);
    unlock(TRUECRYPT, OLD.container(Family::TrueCrypt, &plain(&header)), Hints::NONE).unwrap_err()
}

#[test]
fn a_header_is_read_as_it_was_written() {
    // proves: VC-HDR-01
    // proves: VC-DATA-01
    for (format, seal, family) in [(TRUECRYPT, OLD, Family::TrueCrypt), (VERACRYPT, NEW, Family::VeraCrypt)] {
        let header = header(family);
        let (info, unlocked) = unlock(format, seal.container(family, &plain(&header)), seal.hints()).unwrap();
        assert_eq!((info.format, info.version), (family.name(), u32::from(header.version)));
        assert_eq!((info.data_offset, info.data_size), (DATA.start, 65_536));
        assert_eq!((segment(&unlocked).storage_offset, segment(&unlocked).sectors), (DATA.start, 128));
        let parsed = VolumeHeader::parse(&plain(&header)).unwrap().unwrap();
        assert_eq!(plain(&parsed), plain(&header));
    }
}

#[test]
fn each_chain_opens_with_the_first_of_its_keys() {
    // proves: VC-TRIAL-01
    // proves: VC-KEY-01
    for encryption in Encryption::all(Family::VeraCrypt) {
        let seal = Seal { chain: encryption.chain.name, ..NEW };
        let bytes = seal.container(Family::VeraCrypt, &plain(&header(Family::VeraCrypt)));
        let (info, unlocked) = unlock(VERACRYPT, bytes, seal.hints()).unwrap();
        assert_eq!(info.cipher, encryption.name());

        // As the format has it: every data key, then every tweak key; the last cipher is undone first.
        let count = encryption.chain.ciphers.len();
        let mut sector: Vec<u8> = (0..=255).cycle().take(512).collect();
        let expected = sector.clone();
        let key: Vec<u8> = (1..=192).collect();
        for (index, &cipher) in encryption.chain.ciphers.iter().enumerate() {
            let both = [&key[32 * index..][..32], &key[32 * (count + index)..][..32]].concat();
            let spec = crate::crypto::sector::SectorSpec {
                cipher,
                mode: crate::crypto::sector::Mode::Xts(crate::crypto::sector::IvMode::Plain64),
            };
            spec.keyed(&both, 0).unwrap().encrypt(&mut sector, SectorSize::B512, Sector(256));
        }
        // proves: VC-DATA-05
        let segment = segment(&unlocked);
        assert_eq!(segment.first_tweak, Sector(256));
        segment.cipher.decrypt(&mut sector, SectorSize::B512, segment.first_tweak);
        assert!(sector == expected, "{}", info.cipher);
    }
}

#[test]
fn old_modes_open_read_only_with_their_own_numbering() {
    // proves: VC-KEY-02
    // proves: VC-KEY-03
    // proves: VC-DATA-02
    // proves: VC-DATA-06
    // proves: VC-DATA-07
    for mode in [Mode::Lrw, Mode::Cbc] {
        for chain in ["aes", "twofish-aes", "aes-twofish-serpent"] {
            let seal = Seal { chain, mode, ..OLD };
            let bytes = seal.container(Family::TrueCrypt, &plain(&old_header()));
            let storage = MemoryStorage::new(bytes);
            let header = TRUECRYPT.read_header(&storage).unwrap();
            let unlocked = header.unlock(&credentials(PASSWORD), &Attempt::default()).unwrap();
            let info = header.describe_unlocked(&unlocked);
            assert_eq!(info.cipher, format!("{chain}-{}", mode.name()));
            assert_eq!((info.data_offset, info.data_size), (512, LEN - 512));
            assert_eq!(segment(&unlocked).first_tweak, Sector(0));
            let error = header.prepare_writing(&storage, &unlocked).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
    }
}

#[test]
fn the_hidden_volume_of_an_old_container_lies_before_its_header() {
    // proves: VC-DATA-02
    let mut hidden = old_header();
    hidden.hidden_size = 4096;
    let seal = Seal { mode: Mode::Lrw, place: Place::OldHidden, ..OLD };
    let bytes = seal.container(Family::TrueCrypt, &plain(&hidden));
    let (info, _) = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap();
    assert_eq!((info.data_offset, info.data_size), (LEN - 1536 - 4096, 4096));

    hidden.hidden_size = LEN;
    let error =
        unlock(TRUECRYPT, seal.container(Family::TrueCrypt, &plain(&hidden)), Hints::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
}

#[test]
fn each_place_opens_where_the_hints_name_it_and_by_itself_where_they_should() {
    // proves: VC-PLACE-01
    // proves: VC-PLACE-03
    for (place, hints, also_without) in [
        (Place::Normal, Hints::NONE, true),
        (Place::Hidden, Hints { hidden: true, ..Hints::NONE }, true),
        (Place::Backup, Hints { backup_header: true, ..Hints::NONE }, false),
        (Place::HiddenBackup, Hints { backup_header: true, hidden: true, ..Hints::NONE }, false),
        (Place::System, Hints { system: true, ..Hints::NONE }, false),
    ] {
        let seal = Seal { place, ..OLD };
        let bytes = seal.container(Family::TrueCrypt, &plain(&header(Family::TrueCrypt)));
        let (info, _) = unlock(TRUECRYPT, bytes.clone(), hints).unwrap();
        assert_eq!(info.headers.last().map(|copy| copy.offset), place.offset(LEN), "{place:?}");
        assert_eq!(unlock(TRUECRYPT, bytes.clone(), Hints::NONE).is_ok(), also_without, "{place:?}");
        let quick = Hints { prf: Some(Prf::Ripemd160), ..Hints::NONE };
        assert_eq!(unlock(TRUECRYPT, bytes, quick).is_ok(), place != Place::System, "{place:?}");
    }
}

#[test]
fn a_container_too_small_for_a_header_is_none() {
    // proves: VC-PLACE-02
    for len in [0, 1, 511] {
        let error = VERACRYPT.read_header(&MemoryStorage::new(vec![7; len])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotAContainer);
    }
    let header = VERACRYPT.read_header(&MemoryStorage::new(vec![7; 512])).unwrap();
    let attempt = Attempt { hints: Hints { backup_header: true, ..Hints::NONE }, ..Attempt::default() };
    let error = header.unlock(&credentials(PASSWORD), &attempt).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAContainer);
}

#[test]
fn damage_is_told_from_a_wrong_password() {
    // proves: VC-HDR-02
    // proves: VC-HDR-03
    // proves: VC-HDR-07
    // proves: VC-TRIAL-05
    let whole = plain(&header(Family::TrueCrypt));
    // In bytes of the decrypted header.
    for (at, expected) in [
        (0, HeaderError::Start),
        (250, HeaderError::Keys),
        (30, HeaderError::Fields),
        (188, HeaderError::Fields),
    ] {
        let mut plain = whole;
        plain[at] ^= 1;
        let error = unlock(TRUECRYPT, OLD.container(Family::TrueCrypt, &plain), Hints::NONE).unwrap_err();
        assert_eq!(
            (error.kind(), error.reason()),
            (ErrorKind::Damaged, expected.to_string().as_str()),
            "{at}"
        );
    }
    // On the medium a cipher block is lost with each byte.
    for (at, expected) in [(64, HeaderError::Start), (120, HeaderError::Fields), (300, HeaderError::Keys)] {
        let mut bytes = OLD.container(Family::TrueCrypt, &whole);
        bytes[at] ^= 1;
        let error = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap_err();
        assert_eq!(error.reason(), expected.to_string(), "{at}");
        assert!(error.hint().is_some_and(|hint| hint.contains("--backup-header")), "{error}");
    }
    let mut bytes = OLD.container(Family::TrueCrypt, &whole);
    bytes[3] ^= 1;
    let error = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials, "a damaged salt cannot be told");
}

#[test]
fn a_damaged_header_does_not_hide_its_copy() {
    let plain = plain(&header(Family::TrueCrypt));
    let mut bytes = OLD.container(Family::TrueCrypt, &plain);
    Seal { place: Place::Backup, ..OLD }.put(Family::TrueCrypt, &plain, &mut bytes);
    bytes[70] ^= 1;
    let quick = Hints { prf: Some(Prf::Ripemd160), ..Hints::NONE };
    let (info, _) = unlock(TRUECRYPT, bytes, quick).unwrap();
    assert_eq!(info.headers.last().unwrap().offset, LEN - 131_072);
}

#[test]
fn versions_that_are_not_known_are_refused_by_number() {
    // proves: VC-HDR-04
    // proves: VC-HDR-05
    for (version, minimum, reason) in [
        (0, 0x0600, "the header has version 0"),
        (6, 0x0600, "the header has version 6"),
        (5, 0x0800, "the container asks for version 8.00 of its program"),
    ] {
        let error = refusal(|header| (header.version, header.minimum) = (version, minimum));
        assert_eq!((error.kind(), error.reason()), (ErrorKind::Unsupported, reason));
    }
}

#[test]
fn sectors_of_version_5_have_the_sizes_that_there_are() {
    // proves: VC-HDR-06
    let with_size = |version: u8, size: u32| {
        let mut plain = plain(&header(Family::VeraCrypt));
        plain[5] = version;
        plain[64..68].copy_from_slice(&size.to_be_bytes());
        let checksum = crate::crypto::crc::crc32(&plain[..188]);
        plain[188..192].copy_from_slice(&checksum.to_be_bytes());
        VolumeHeader::parse(&plain)
    };
    for (version, size, expected) in [
        (5, 0, SectorSize::B512),
        (5, 512, SectorSize::B512),
        (5, 1024, SectorSize::B1024),
        (5, 2048, SectorSize::B2048),
        (5, 4096, SectorSize::B4096),
        (4, 4097, SectorSize::B512),
    ] {
        assert_eq!(with_size(version, size).unwrap().unwrap().sector_size, expected, "{version} {size}");
    }
    for size in [1, 256, 513, 8192, u32::MAX] {
        assert_eq!(with_size(5, size).unwrap_err(), HeaderError::SectorSize(size));
    }
}

#[test]
fn data_that_cannot_be_are_refused() {
    // proves: VC-DATA-03
    for (start, len) in [
        (0, 65_536),
        (511, 65_536),
        (DATA.start + 1, 65_536),
        (DATA.start, 0),
        (DATA.start, 1),
        (DATA.start, 513),
        (u64::MAX - 511, 512),
        (u64::MAX - 511, u64::MAX - 511),
        (LEN, 512),
        (LEN + 512, 512),
    ] {
        let error = refusal(|header| (header.area_start, header.area_len) = (start, len));
        assert_eq!(error.kind(), ErrorKind::Damaged, "{start} {len}");
    }
}

#[test]
fn what_is_left_of_a_cut_off_container_opens_for_reading() {
    // proves: VC-DATA-04
    let mut bytes = OLD.container(Family::TrueCrypt, &plain(&header(Family::TrueCrypt)));
    bytes.truncate(usize::try_from(DATA.start).unwrap() + 1300);
    let storage = MemoryStorage::new(bytes);
    let header = TRUECRYPT.read_header(&storage).unwrap();
    let unlocked = header.unlock(&credentials(PASSWORD), &Attempt::default()).unwrap();
    assert_eq!(segment(&unlocked).sectors, 2);
    let error = header.prepare_writing(&storage, &unlocked).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(
        header
            .check_unlocked(&unlocked)
            .iter()
            .any(|finding| finding.object == "data" && finding.severity == Severity::Error)
    );
}

#[test]
fn a_volume_half_encrypted_in_place_is_not_written_to() {
    // proves: VC-DATA-07
    let mut header = header(Family::TrueCrypt);
    (header.flags, header.volume_size) = (IN_PLACE, 131_072);
    let storage = MemoryStorage::new(OLD.container(Family::TrueCrypt, &plain(&header)));
    let header = TRUECRYPT.read_header(&storage).unwrap();
    let unlocked = header.unlock(&credentials(PASSWORD), &Attempt::default()).unwrap();
    assert_eq!(header.prepare_writing(&storage, &unlocked).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_volume_smaller_than_the_encrypted_area_is_as_large_as_it_says() {
    // proves: VC-DATA-01
    let mut header = header(Family::TrueCrypt);
    for (volume_size, expected) in [(0, 65_536), (4096, 4096), (1 << 40, 65_536)] {
        header.volume_size = volume_size;
        let data = header.data(Place::System, LEN).unwrap();
        assert_eq!((data.start, data.len, data.is_cut_off()), (DATA.start, expected, false));
    }
}

#[test]
fn keys_whose_halves_are_the_same_are_refused() {
    // proves: VC-KEY-01
    let error = refusal(|header| header.keys.as_mut_slice().fill(7));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.reason().contains("halves"), "{error}");
}

#[test]
fn an_original_that_does_not_open_is_told() {
    // proves: VC-TRIAL-07
    let plain = plain(&header(Family::VeraCrypt));
    let copy = Seal { place: Place::Backup, ..NEW };
    let alone = copy.container(Family::VeraCrypt, &plain);
    let mut both = alone.clone();
    NEW.put(Family::VeraCrypt, &plain, &mut both);
    let by_function = Hints { prf: Some(Prf::Sha512), ..NEW.hints() };
    let by_copy = Hints { backup_header: true, ..NEW.hints() };
    let backup_at = LEN - 131_072;
    for (bytes, hints, expected) in [
        (&alone, by_function, vec![(0, CopyState::Damaged), (backup_at, CopyState::Current)]),
        (&alone, by_copy, vec![(0, CopyState::Damaged), (backup_at, CopyState::Current)]),
        (&both, by_function, vec![(0, CopyState::Current)]),
        (&both, by_copy, vec![(backup_at, CopyState::Current)]),
    ] {
        let (info, unlocked) = unlock(VERACRYPT, bytes.clone(), hints).unwrap();
        let found: Vec<_> = info.headers.iter().map(|copy| (copy.offset, copy.state)).collect();
        assert_eq!(found, expected, "{hints:?}");
        let header = VERACRYPT.read_header(&MemoryStorage::new(bytes.clone())).unwrap();
        let warns = header
            .check_unlocked(&unlocked)
            .iter()
            .any(|finding| finding.object == "header" && finding.severity == Severity::Warning);
        assert_eq!(warns, expected.len() == 2, "{hints:?}");
    }
}

#[test]
fn a_wrong_password_names_what_was_not_tried() {
    // proves: VC-CIPHER-03
    // proves: VC-TRIAL-05
    let bytes = OLD.container(Family::TrueCrypt, &[5; PLAIN_LEN]);
    let error = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert!(error.reason().contains("Blowfish"), "{error}");
    let bytes = NEW.container(Family::VeraCrypt, &[5; PLAIN_LEN]);
    let error = unlock(VERACRYPT, bytes, NEW.hints()).unwrap_err();
    assert!(error.hint().is_some_and(|hint| hint.contains("--prf argon2id")), "{error:?}");
}

#[test]
fn a_cipher_with_small_blocks_is_named_and_refused() {
    // proves: VC-CIPHER-03
    use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
    let mut bytes = vec![9; usize::try_from(LEN).unwrap()];
    let key = pbkdf2(crate::crypto::hash::HashKind::Sha1, PASSWORD, &[9; SALT_LEN], 2000, 192).unwrap();
    let key = key.expose();
    let cipher = cast5::Cast5::new_from_slice(&key[32..48]).unwrap();
    let mut before: [u8; 8] = key[..8].try_into().unwrap();
    let place = &mut bytes[SALT_LEN..HEADER_LEN];
    for (block, plain) in place.chunks_mut(8).zip(plain(&old_header()).chunks(8)) {
        let mut chained = Array(std::array::from_fn(|index| plain[index] ^ before[index]));
        cipher.encrypt_block(&mut chained);
        before = chained.0;
        block.copy_from_slice(&std::array::from_fn::<u8, 8, _>(|index| before[index] ^ key[8 + index]));
    }
    let error = unlock(TRUECRYPT, bytes, Hints::NONE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.reason().contains("CAST5"), "{error}");
}

#[test]
fn either_format_opens_both_families() {
    for (seal, family) in [(OLD, Family::TrueCrypt), (NEW, Family::VeraCrypt)] {
        let bytes = seal.container(family, &plain(&header(family)));
        assert_eq!(unlock(EITHER, bytes, seal.hints()).unwrap().0.format, family.name());
    }
    let old = OLD.container(Family::TrueCrypt, &plain(&header(Family::TrueCrypt)));
    let error = unlock(VERACRYPT, old.clone(), NEW.hints()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    let error = unlock(TRUECRYPT, old, NEW.hints()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "TrueCrypt has no PIM");
}

#[test]
fn a_function_that_the_place_does_not_have_is_a_wrong_option() {
    for (format, hints) in [
        (TRUECRYPT, Hints { prf: Some(Prf::Streebog), ..Hints::NONE }),
        (VERACRYPT, Hints { prf: Some(Prf::Argon2id), system: true, ..Hints::NONE }),
    ] {
        let error = unlock(format, OLD.container(Family::TrueCrypt, &[5; PLAIN_LEN]), hints).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

#[test]
fn argon2ids_memory_is_bounded_before_anything_runs() {
    // proves: VC-TRIAL-04
    let header = VERACRYPT.read_header(&MemoryStorage::new(vec![7; 65_536])).unwrap();
    let hints = Hints { prf: Some(Prf::Argon2id), pim: 1, ..Hints::NONE };
    let kind = |limits| {
        let attempt = Attempt { limits, hints, ..Attempt::default() };
        header.unlock(&credentials(PASSWORD), &attempt).unwrap_err().kind()
    };
    assert_eq!(kind(KdfLimits { memory_kib: 65_535, ..KdfLimits::default() }), ErrorKind::Unsupported);
    assert_eq!(kind(KdfLimits { available_kib: 65_535, ..KdfLimits::default() }), ErrorKind::OutOfMemory);
    assert_eq!(kind(KdfLimits { memory_kib: 65_536, ..KdfLimits::default() }), ErrorKind::Credentials);
}

#[test]
fn argon2id_opens_with_a_pim_where_it_is_named() {
    // proves: VC-TRIAL-03
    let seal = Seal { prf: Prf::Argon2id, ..NEW };
    let bytes = seal.container(Family::VeraCrypt, &plain(&header(Family::VeraCrypt)));
    let named = Hints { prf: Some(Prf::Argon2id), ..seal.hints() };
    let (info, _) = unlock(VERACRYPT, bytes.clone(), named).unwrap();
    assert_eq!(info.keyslots[0].kdf.name, "argon2id");
    let error = unlock(VERACRYPT, bytes, seal.hints()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
}

/// Counts what it is told, and ends the trial with the derivation of this number.
#[derive(Debug)]
struct Witness {
    last: usize,
    told: Mutex<Vec<(&'static str, usize, usize)>>,
    asked: AtomicUsize,
}

impl Monitor for Witness {
    fn derives(&self, name: &'static str, number: usize, total: usize) {
        self.told.lock().unwrap().push((name, number, total));
    }

    fn is_over(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.told.lock().unwrap().len() >= self.last
    }
}

fn watched(last: usize, pim: u32) -> (Error, Witness) {
    let header = VERACRYPT.read_header(&MemoryStorage::new(vec![7; 65_536])).unwrap();
    let witness = Witness { last, told: Mutex::default(), asked: AtomicUsize::new(0) };
    let hints = Hints { pim, ..Hints::NONE };
    let attempt = Attempt { hints, monitor: Some(&witness), ..Attempt::default() };
    let error = header.unlock(&credentials(PASSWORD), &attempt).unwrap_err();
    (error, witness)
}

#[test]
fn the_monitor_is_told_of_each_derivation_once() {
    // proves: VC-TRIAL-01
    // proves: VC-TRIAL-02
    let (error, witness) = watched(usize::MAX, 1);
    assert_eq!(error.kind(), ErrorKind::Credentials);
    let mut told = witness.told.into_inner().unwrap();
    told.sort_by_key(|(_, number, _)| *number);
    // One place has room in the container; Argon2id is not tried with a PIM.
    let expected = ["sha512", "sha256", "blake2s", "whirlpool", "streebog", "ripemd160"];
    assert_eq!(told.iter().map(|(name, ..)| *name).collect::<Vec<_>>(), expected);
    assert_eq!(told.iter().map(|(_, number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(told.iter().all(|(.., total)| *total == 6));
}

#[test]
fn the_monitor_ends_the_trial_in_the_middle_of_a_derivation() {
    // proves: VC-TRIAL-06
    let start = std::time::Instant::now();
    // Two thousand million iterations.
    let (error, witness) = watched(1, MAX_PIM);
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert!(start.elapsed() < std::time::Duration::from_secs(20));
    assert!(witness.asked.into_inner() > 0);
}

#[test]
fn what_opened_is_handed_on_without_the_password() {
    let seal = Seal { chain: "camellia-serpent-kuznyechik", place: Place::Hidden, ..NEW };
    let bytes = seal.container(Family::VeraCrypt, &plain(&header(Family::VeraCrypt)));
    let (info, unlocked) = unlock(VERACRYPT, bytes.clone(), seal.hints()).unwrap();
    let header = VERACRYPT.read_header(&MemoryStorage::new(bytes)).unwrap();
    let key = VolumeKey::copy_of(unlocked.volume_key.expose()).unwrap();
    let again = header.unlock_with_key(key).unwrap();
    assert_eq!(
        serde_json::to_string(&header.describe_unlocked(&again)).unwrap(),
        serde_json::to_string(&info).unwrap()
    );
    let (ours, theirs) = (segment(&unlocked), segment(&again));
    assert_eq!(
        (ours.storage_offset, ours.sectors, ours.first_tweak),
        (theirs.storage_offset, theirs.sectors, theirs.first_tweak)
    );
    let (mut one, mut other) = ([1; 512], [1; 512]);
    ours.cipher.encrypt(&mut one, SectorSize::B512, Sector(7));
    theirs.cipher.encrypt(&mut other, SectorSize::B512, Sector(7));
    assert_eq!(one, other);
}

#[test]
fn bytes_that_are_no_handed_on_header_are_refused() {
    let bytes = NEW.container(Family::VeraCrypt, &plain(&header(Family::VeraCrypt)));
    let (_, unlocked) = unlock(VERACRYPT, bytes.clone(), NEW.hints()).unwrap();
    let header = VERACRYPT.read_header(&MemoryStorage::new(bytes)).unwrap();
    let good = unlocked.volume_key.expose().to_vec();
    let refuse =
        |bytes: &[u8]| header.unlock_with_key(VolumeKey::copy_of(bytes).unwrap()).unwrap_err().kind();
    assert_eq!(refuse(&good[1..]), ErrorKind::Damaged);
    assert_eq!(refuse(&[]), ErrorKind::Damaged);
    for at in 0..5 {
        let mut bad = good.clone();
        bad[at] = 200;
        assert_eq!(refuse(&bad), ErrorKind::Damaged, "{at}");
    }
    let mut bad = good;
    let last = bad.len() - 1;
    bad[last] ^= 1;
    assert_eq!(refuse(&bad), ErrorKind::Damaged);
}

#[test]
fn erasing_covers_every_place_of_every_version() {
    for len in [512, 2048, 65_536, 100_000, 131_072, 200_000, 262_144, 1 << 20] {
        let storage = MemoryStorage::new(vec![7; usize::try_from(len).unwrap()]);
        let erasure = VERACRYPT.erasure(&storage).unwrap();
        let covers = |range: &Range<u64>, at: u64| range.start <= at && at + 512 <= range.end;
        for place in Place::ALL {
            let Some(offset) = place.offset(len) else { continue };
            let parts = erasure.spare.iter().chain([&erasure.last]).chain(&erasure.rest);
            assert!(parts.clone().any(|part| covers(part, offset)), "{place:?} of {len}");
            assert!(parts.clone().all(|part| part.end <= len), "{len}");
        }
    }
}

#[test]
fn only_a_password_opens_it_and_there_are_no_keyslots() {
    let header = VERACRYPT.read_header(&MemoryStorage::new(vec![7; 65_536])).unwrap();
    let recovery = Credentials::Recovery(crate::crypto::secret::RecoveryKey::copy_of(&[1; 32]).unwrap());
    let error = header.unlock(&recovery, &Attempt::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert_eq!(header.challenges(&Attempt::default()).len(), 0);
    let change = Change::Add { slot: None, label: None };
    assert_eq!(header.check_change(&change).unwrap_err().kind(), ErrorKind::Usage);
}
