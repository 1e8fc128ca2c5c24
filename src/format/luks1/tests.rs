use super::{
    editor::occupancy,
    layout::{ACTIVE, FREE, HEADER_LEN},
    parse::{HeaderError, Parsed},
    *,
};
use crate::{
    crypto::{
        hash::HashKind,
        kdf::pbkdf2,
        secret::{Credentials, Password, VolumeKey},
        sector::{BlockCipher, IvMode, Mode, SectorSpec},
    },
    error::ErrorKind,
    format::{Attempt, Format, Header, Probe, Severity, luks::cipher::CipherError},
    mapping::Layout,
    storage::MemoryStorage,
    units::{Sector, SectorSize},
};

mod create;
mod editor;

const LEN: u64 = 2 << 20;
const DATA_OFFSET: usize = 1 << 20;
const KEY: [u8; 16] = *b"0123456789abcdef";

/// A header for AES-128-CBC with all keyslots free, as the specification lays it out.
fn header() -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
    bytes[8..11].copy_from_slice(b"aes");
    bytes[40..56].copy_from_slice(b"cbc-essiv:sha256");
    bytes[72..78].copy_from_slice(b"sha256");
    put(&mut bytes, 104, 2048);
    put(&mut bytes, 108, 16);
    put(&mut bytes, 164, 1000);
    bytes[168..204].copy_from_slice(b"28632274-8c8a-493f-835b-da802e1c576b");
    for slot in 0..8 {
        put(&mut bytes, 208 + 48 * slot, FREE);
        put(&mut bytes, 208 + 48 * slot + 40, 8 + 128 * u32::try_from(slot).unwrap());
        put(&mut bytes, 208 + 48 * slot + 44, 4000);
    }
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// A container whose keyslot 1 opens with `password`: the last stripe is the key, under the diffused rest of zeros.
fn container(password: &[u8]) -> Vec<u8> {
    let mut bytes = header().to_vec();
    bytes.resize(usize::try_from(LEN).unwrap(), 0);
    let digest = pbkdf2(HashKind::Sha256, &KEY, &[0; 32], 1000, 20).unwrap();
    bytes[112..132].copy_from_slice(digest.expose());
    put(&mut bytes, 208 + 48, ACTIVE);
    put(&mut bytes, 208 + 48 + 4, 1000);

    let zeros = vec![0; 16 * 4000];
    let sum = crate::format::luks::af::merge(&zeros, 16, HashKind::Sha256).unwrap();
    let mut stripes = zeros;
    for (byte, (key, sum)) in stripes[16 * 3999..].iter_mut().zip(KEY.iter().zip(sum.expose())) {
        *byte = key ^ sum;
    }
    let key = pbkdf2(HashKind::Sha256, password, &[0; 32], 1000, 16).unwrap();
    let spec = SectorSpec { cipher: BlockCipher::Aes, mode: Mode::Cbc(IvMode::Essiv(HashKind::Sha256)) };
    stripes.resize(125 * 512, 0);
    spec.keyed(key.expose(), 0).unwrap().encrypt(&mut stripes, SectorSize::B512, Sector(0));
    bytes[136 * 512..136 * 512 + stripes.len()].copy_from_slice(&stripes);
    bytes
}

fn credentials(password: &[u8]) -> Credentials {
    Credentials::Password { password: Password::copy_of(password).unwrap(), keyfiles: Vec::new() }
}

fn read(bytes: Vec<u8>) -> Box<dyn Header> {
    Luks1.read_header(&MemoryStorage::new(bytes)).unwrap()
}

/// The answer to a header that `change` has made another.
fn refusal(change: impl FnOnce(&mut [u8; HEADER_LEN])) -> HeaderError {
    let mut bytes = header();
    change(&mut bytes);
    Parsed::parse(&bytes, LEN, false).unwrap_err()
}

#[test]
fn a_well_formed_header_is_read() {
    let parsed = Parsed::parse(&header(), LEN, false).unwrap();
    assert_eq!(parsed.encryption.name, "aes-cbc-essiv:sha256");
    assert_eq!(parsed.uuid.as_deref(), Some("28632274-8c8a-493f-835b-da802e1c576b"));
    assert_eq!(parsed.data_offset, 1 << 20);
    assert!(parsed.keyslots.is_empty());
}

#[test]
fn what_does_not_begin_with_the_magic_is_something_else() {
    // proves: L1-HDR-01
    assert_eq!(refusal(|bytes| bytes[0] = b'l'), HeaderError::NoMagic);
    assert_eq!(refusal(|bytes| bytes[7] = 2), HeaderError::NoMagic);
    let probe = |bytes: &[u8]| Luks1.probe(&MemoryStorage::new(bytes.to_vec())).unwrap();
    assert_eq!(probe(&header()), Probe::Match);
    assert_eq!(probe(b"LUKS\xba\xbe\0\x02"), Probe::NoMatch);
    assert_eq!(probe(b"LUKS"), Probe::NoMatch);
}

#[test]
fn names_end_with_a_zero_byte_and_are_printable() {
    // proves: L1-HDR-02
    let unclean = |field| HeaderError::Text { field };
    assert_eq!(refusal(|bytes| bytes[8..40].fill(b'a')), unclean("cipher name"));
    assert_eq!(refusal(|bytes| bytes[40] = b'\n'), unclean("cipher mode"));
    assert_eq!(refusal(|bytes| bytes[72] = 0xff), unclean("hash"));
    assert_eq!(refusal(|bytes| bytes[168] = b' '), unclean("UUID"));
    assert_eq!(
        refusal(|bytes| bytes[72..78].copy_from_slice(b"crc\0\0\0")),
        HeaderError::Hash { name: "crc".to_owned() }
    );
}

#[test]
fn numbers_outside_their_range_are_refused() {
    // proves: L1-HDR-03 L1-HDR-04
    let field = |field, value| HeaderError::Field { field, value };
    assert_eq!(refusal(|bytes| put(bytes, 164, 0)), field("digest iterations", 0));
    let key = refusal(|bytes| put(bytes, 108, u32::MAX));
    assert!(matches!(key, HeaderError::Cipher(CipherError::Key { .. })), "{key}");
    let key = refusal(|bytes| put(bytes, 108, 0));
    assert!(matches!(key, HeaderError::Cipher(CipherError::Key { .. })), "{key}");
}

#[test]
fn the_data_begin_within_the_container() {
    // proves: L1-HDR-05 L1-HDR-06
    let cut_off = Parsed::parse(&header(), (1 << 20) - 1, false).unwrap_err();
    assert_eq!(cut_off, HeaderError::CutOff { offset: 1 << 20, len: (1 << 20) - 1 });
    let mut detached = container(b"secret");
    put(&mut detached, 104, 0);
    let opened = read(detached);
    assert!(opened.describe().data_offset == 0, "it can be looked at");
    let error = opened.unlock(&credentials(b"secret"), &Attempt::default()).unwrap_err();
    assert_eq!(error.reason(), "the header is detached: its data lie in another file");
    let empty = Parsed::parse(&header(), 1 << 20, false);
    assert!(empty.is_ok(), "a header backup has no data and is whole: {empty:?}");
}

#[test]
fn an_interrupted_reencryption_is_named() {
    // proves: L1-HDR-07
    let interrupted = refusal(|bytes| bytes[4..6].copy_from_slice(b"\xde\xad"));
    assert_eq!(interrupted, HeaderError::InReencryption);
    assert_eq!(crate::Error::from(interrupted).kind(), ErrorKind::Unsupported);
}

#[test]
fn keyslots_are_checked_also_where_they_are_free() {
    // proves: L1-SLOT-01 L1-SLOT-02 L1-SLOT-03 L1-SLOT-04 L1-SLOT-05 L1-SLOT-06
    let slot = |slot: usize| 208 + 48 * slot;
    let wrong = |slot, field, value| HeaderError::Keyslot { slot, field, value };
    assert_eq!(refusal(|bytes| put(bytes, slot(3), 0xdeaf)), wrong(3, "state", 0xdeaf));
    let mut odd = header();
    put(&mut odd, slot(3), 0xdeaf);
    put(&mut odd, slot(0), ACTIVE);
    put(&mut odd, slot(0) + 4, 1000);
    let parsed = Parsed::parse(&odd, LEN, false).unwrap();
    assert_eq!(parsed.odd, [(3, 0xdeaf)]);
    let shown = parsed.describe_keyslots();
    assert!(shown.iter().any(|shown| shown.slot == 3 && shown.is_unknown()), "{shown:?}");
    let occupancy = occupancy(&shown);
    assert!(occupancy.place(Some(3)).is_err(), "what may be a key is not overwritten");
    assert_eq!(refusal(|bytes| put(bytes, slot(3), ACTIVE)), wrong(3, "iterations", 0));
    assert_eq!(refusal(|bytes| put(bytes, slot(5) + 44, 44_944)), wrong(5, "stripes", 44_944));
    assert_eq!(refusal(|bytes| put(bytes, slot(2) + 40, 1)), wrong(2, "area offset", 1));
    assert_eq!(refusal(|bytes| put(bytes, slot(2) + 40, 2000)), HeaderError::OverlapsData { slot: 2 });
    assert_eq!(refusal(|bytes| put(bytes, slot(2) + 40, u32::MAX)), HeaderError::OverlapsData { slot: 2 });
    assert_eq!(
        refusal(|bytes| put(bytes, slot(7) + 40, 8 + 124)),
        HeaderError::Overlap { slot: 7, other: 0 }
    );
    let mut touching = header();
    put(&mut touching, slot(0) + 40, 8 + 3);
    assert!(Parsed::parse(&touching, LEN, false).is_ok(), "areas may touch");
}

#[test]
fn a_keyslot_opens_with_its_password_and_no_other() {
    // proves: L1-KEY-01 L1-KEY-02 L1-KEY-03
    let header = read(container(b"secret"));
    let unlocked = header.unlock(&credentials(b"secret"), &Attempt::default()).unwrap();
    assert_eq!((unlocked.volume_key.expose(), unlocked.keyslot), (&KEY[..], Some(1)));
    let wrong = header.unlock(&credentials(b"secret\n"), &Attempt::default()).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Credentials);
    let empty = Attempt { keyslot: Some(0), ..Attempt::default() };
    let error = header.unlock(&credentials(b"secret"), &empty).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Usage, "keyslot 0 is empty"));
}

#[test]
fn the_volume_key_alone_opens_too_and_another_does_not() {
    let header = read(container(b"secret"));
    assert!(header.unlock_with_key(VolumeKey::copy_of(&KEY).unwrap()).is_ok());
    let error = header.unlock_with_key(VolumeKey::copy_of(&[0; 16]).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tampered);
}

#[test]
fn the_data_reach_from_the_payload_offset_to_the_end_in_whole_sectors() {
    // proves: L1-DATA-01
    let mut bytes = container(b"secret");
    bytes.truncate(DATA_OFFSET + 5 * 512 + 511);
    let unlocked = read(bytes).unlock(&credentials(b"secret"), &Attempt::default()).unwrap();
    let Layout::Fixed(mapping) = unlocked.layout else { panic!("a layout that moves") };
    assert_eq!((mapping.sectors(), mapping.sector_size()), (5, SectorSize::B512));
    assert_eq!(mapping.segments()[0].storage_offset, 1 << 20);
}

#[test]
fn a_container_without_data_opens_nothing() {
    // proves: L1-DATA-02
    let mut bytes = container(b"secret");
    bytes.truncate(DATA_OFFSET);
    let error = read(bytes).unlock(&credentials(b"secret"), &Attempt::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
}

/// What `check` finds in a container, without what is only good to know.
fn complaints(bytes: Vec<u8>) -> Vec<String> {
    let findings = Luks1.check(&MemoryStorage::new(bytes)).unwrap();
    let bad = findings.into_iter().filter(|finding| finding.severity > Severity::Info);
    bad.map(|finding| format!("{:?} {}: {}", finding.severity, finding.object, finding.message)).collect()
}

#[test]
fn a_container_that_was_cut_short_is_told_as_far_as_that_shows() {
    let mut bytes = container(b"secret");
    assert_eq!(complaints(bytes.clone()), [""; 0]);
    let findings = Luks1.check(&MemoryStorage::new(bytes.clone())).unwrap();
    assert!(
        findings.iter().any(|finding| finding.message.starts_with("the header does not say where they end"))
    );
    bytes.truncate(DATA_OFFSET + 5 * 512 + 7);
    assert_eq!(
        complaints(bytes.clone()),
        ["Warning data: the container ends 7 bytes into a sector of 512: it may have been cut short"]
    );
    bytes.truncate(DATA_OFFSET + 100);
    assert_eq!(complaints(bytes.clone()), ["Error data: the container ends where its data should start"]);
    bytes.truncate(DATA_OFFSET - 1);
    assert_eq!(
        complaints(bytes),
        ["Error header: the data start at byte 1048576, the container has 1048575"]
    );
}

#[test]
fn a_container_without_a_keyslot_says_so_and_not_that_the_password_is_wrong() {
    let mut bytes = header().to_vec();
    bytes.resize(usize::try_from(LEN).unwrap(), 0);
    assert_eq!(
        complaints(bytes.clone()),
        ["Error keyslots: it has no keyslot left: no password or keyfile can open it"]
    );
    let header = read(bytes);
    let refused = [
        header.check_openable().unwrap_err(),
        header.unlock(&credentials(b"secret"), &Attempt::default()).unwrap_err(),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Damaged);
        assert!(error.hint().unwrap().contains("header restore"), "{error:?}");
    }
}
