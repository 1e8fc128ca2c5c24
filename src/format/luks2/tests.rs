use serde_json::{Value, json};

use super::*;
use crate::{
    crypto::{
        hash::HashKind,
        kdf::pbkdf2,
        secret::{Credentials, Password, VolumeKey},
        sector::{BlockCipher, IvMode, Mode, SectorSpec},
    },
    error::ErrorKind,
    format::{Attempt, CopyState, Format, Header, Probe, Severity, luks::af},
    mapping::Layout,
    storage::MemoryStorage,
    units::{Sector, SectorSize},
};

mod create;
mod editor;

const HEADER_LEN: usize = 16 << 10;
const DATA_OFFSET: usize = 1 << 20;
const KEY: [u8; 32] = *b"0123456789abcdefghijklmnopqrstuv";
/// 32 zero bytes in Base64.
const SALT: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Metadata with one keyslot and one segment.
fn metadata() -> Value {
    use base64ct::{Base64, Encoding};
    let digest = pbkdf2(HashKind::Sha256, &KEY, &[0; 32], 1000, 32).unwrap();
    json!({
        "keyslots": {"0": {
            "type": "luks2", "key_size": 32,
            "af": {"type": "luks1", "stripes": 4000, "hash": "sha256"},
            "area": {"type": "raw", "offset": "32768", "size": "131072", "encryption": "aes-xts-plain64", "key_size": 32},
            "kdf": {"type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": SALT},
        }},
        "tokens": {},
        "segments": {"0": {
            "type": "crypt", "offset": "1048576", "size": "dynamic", "iv_tweak": "0",
            "encryption": "aes-xts-plain64", "sector_size": 4096,
        }},
        "digests": {"0": {
            "type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256", "iterations": 1000,
            "salt": SALT, "digest": Base64::encode_string(digest.expose()),
        }},
        "config": {"json_size": "12288", "keyslots_size": "131072"},
    })
}

/// Metadata of which one value is another. `pointer` is a JSON pointer.
fn with(pointer: &str, value: Value) -> Value {
    let mut metadata = metadata();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    metadata.pointer_mut(parent).unwrap()[name] = value;
    metadata
}

fn refusal(metadata: &Value) -> HeaderError {
    check_json(metadata.to_string().as_bytes(), 16 << 10).unwrap_err()
}

/// A header copy with a right checksum.
fn copy(magic: [u8; 6], offset: usize, sequence: u64, metadata: &Value) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    bytes[..6].copy_from_slice(&magic);
    bytes[7] = 2;
    bytes[8..16].copy_from_slice(&(16_u64 << 10).to_be_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_be_bytes());
    bytes[24..28].copy_from_slice(b"mine");
    bytes[72..78].copy_from_slice(b"sha256");
    bytes[168..176].copy_from_slice(b"28632274");
    bytes[256..264].copy_from_slice(&u64::try_from(offset).unwrap().to_be_bytes());
    let text = metadata.to_string();
    bytes[4096..4096 + text.len()].copy_from_slice(text.as_bytes());
    let sum = HashKind::Sha256.digest(&[&bytes]);
    bytes[448..480].copy_from_slice(&sum[..32]);
    bytes
}

/// A container of 9 sectors of data whose keyslot opens with `secret`.
fn container(metadata: &Value) -> Vec<u8> {
    let mut bytes = copy(*b"LUKS\xba\xbe", 0, 3, metadata);
    bytes.extend(copy(*b"SKUL\xba\xbe", HEADER_LEN, 3, metadata));
    bytes.resize(DATA_OFFSET + 9 * 4096 + 100, 0);

    let mut stripes = vec![0; 32 * 4000];
    let sum = af::merge(&stripes, 32, HashKind::Sha256).unwrap();
    for (byte, (key, sum)) in stripes[32 * 3999..].iter_mut().zip(KEY.iter().zip(sum.expose())) {
        *byte = key ^ sum;
    }
    let key = pbkdf2(HashKind::Sha256, b"secret", &[0; 32], 1000, 32).unwrap();
    let spec = SectorSpec { cipher: BlockCipher::Aes, mode: Mode::Xts(IvMode::Plain64) };
    spec.keyed(key.expose(), 0).unwrap().encrypt(&mut stripes, SectorSize::B512, Sector(0));
    bytes[32768..32768 + stripes.len()].copy_from_slice(&stripes);
    bytes
}

fn secret(password: &[u8]) -> Credentials {
    Credentials::Password { password: Password::copy_of(password).unwrap(), keyfiles: Vec::new() }
}

fn read(bytes: Vec<u8>) -> Box<dyn Header> {
    Luks2.read_header(&MemoryStorage::new(bytes)).unwrap()
}

/// Why a container with this metadata, which are well-formed, is not opened.
fn not_opened(metadata: &Value) -> (ErrorKind, String) {
    let error = read(container(metadata)).unlock(&secret(b"secret"), &Attempt::default()).unwrap_err();
    (error.kind(), error.reason().to_owned())
}

#[track_caller]
fn assert_unsupported(metadata: &Value, reason: &str) {
    assert_eq!(not_opened(metadata), (ErrorKind::Unsupported, reason.to_owned()));
}

#[test]
fn a_keyslot_opens_with_its_password_and_no_other() {
    // proves: L2-KEY-01 L2-DATA-01 L2-DATA-03
    let header = read(container(&metadata()));
    let unlocked = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap();
    assert_eq!((unlocked.volume_key.expose(), unlocked.keyslot), (&KEY[..], Some(0)));
    let Layout::Fixed(mapping) = unlocked.layout else { panic!("a layout that moves") };
    assert_eq!((mapping.sectors(), mapping.sector_size()), (9, SectorSize::B4096));
    let wrong = header.unlock(&secret(b"other"), &Attempt::default()).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Credentials);
    assert!(header.unlock_with_key(VolumeKey::copy_of(&KEY).unwrap()).is_ok());
    let other = header.unlock_with_key(VolumeKey::copy_of(&[1; 32]).unwrap()).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::Tampered);
}

#[test]
fn the_iv_counts_units_of_512_bytes_from_the_tweak() {
    // proves: L2-DATA-04
    let header = read(container(&with("/segments/0/iv_tweak", json!("5"))));
    let unlocked = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap();
    let Layout::Fixed(mapping) = unlocked.layout else { panic!("a layout that moves") };
    let segment = &mapping.segments()[0];
    let (mut data, mut expected) = (vec![7; 4096], vec![7; 4096]);
    segment.cipher.encrypt(&mut data, SectorSize::B4096, Sector(2));
    let xts = crate::crypto::xts::AesXts::aes128(&KEY).unwrap();
    xts.encrypt_unit(&mut expected, 5 + 2 * 8);
    assert_eq!(data, expected);
}

#[test]
fn a_damaged_copy_is_rewritten_from_the_other() {
    // proves: L2-HDR-01 L2-HDR-02 L2-HDR-03 L2-HDR-04 L2-HDR-05 L2-HDR-06
    let whole = container(&metadata());
    let second = HEADER_LEN;
    for (at, states) in [
        (0, [CopyState::Missing, CopyState::Current]),
        (7, [CopyState::Damaged, CopyState::Current]),
        (14, [CopyState::Damaged, CopyState::Current]),
        (4100, [CopyState::Damaged, CopyState::Current]),
        (262, [CopyState::Damaged, CopyState::Current]),
        (second, [CopyState::Current, CopyState::Missing]),
        (second + 4100, [CopyState::Current, CopyState::Damaged]),
    ] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        let storage = MemoryStorage::new(bytes);
        assert_eq!(Luks2.probe(&storage).unwrap(), Probe::Match, "{at}");
        let header = Luks2.read_header(&storage).unwrap();
        let found: Vec<_> = header.describe().headers.iter().map(|copy| copy.state).collect();
        assert_eq!(found, states, "{at}");
        let unlocked = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap();
        assert_eq!(header.prepare_writing(&storage, &unlocked).unwrap().len(), 1, "{at}");

        let healed = Luks2.read_header(&storage).unwrap();
        assert!(healed.describe().headers.iter().all(|copy| copy.state == CopyState::Current), "{at}");
        assert!(healed.prepare_writing(&storage, &unlocked).unwrap().is_empty(), "{at}");
        let bytes = storage.to_vec();
        assert_ne!(bytes[104..168], bytes[second + 104..second + 168], "the salts of {at}");
    }
}

#[test]
fn the_newer_copy_counts() {
    // proves: L2-HDR-05
    let mut bytes = container(&metadata());
    let newer = with("/tokens/0", json!({"type": "newer", "keyslots": ["0"]}));
    bytes[HEADER_LEN..2 * HEADER_LEN].copy_from_slice(&copy(*b"SKUL\xba\xbe", HEADER_LEN, 4, &newer));
    let info = read(bytes).describe();
    let states: Vec<_> = info.headers.iter().map(|copy| (copy.state, copy.sequence)).collect();
    assert_eq!(states, [(CopyState::Stale, Some(3)), (CopyState::Current, Some(4))]);
    assert!(info.details.iter().any(|detail| detail.value == "newer, keyslots 0"), "{:?}", info.details);
}

/// What `there` in the place of the copy at `at` keeps from being done, and what is said of that.
fn refused(at: usize, there: &[u8]) -> Option<String> {
    let mut bytes = container(&metadata());
    bytes[at..at + HEADER_LEN].copy_from_slice(there);
    let storage = MemoryStorage::new(bytes.clone());
    let header = Luks2.read_header(&storage).unwrap();
    let unlocked = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap();
    match header.prepare_writing(&storage, &unlocked) {
        Ok(lines) => {
            assert_eq!(lines.len(), 1);
            assert!(storage.to_vec() != bytes);
            None
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(storage.to_vec() == bytes, "nothing was written");
            assert!(header.left_alone(&storage).unwrap().is_some());
            assert_eq!(header.warnings(&unlocked).len(), 1);
            Some(error.reason().to_owned())
        }
    }
}

#[test]
fn bytes_that_are_none_of_the_headers_are_not_written_over() {
    // proves: L2-HDR-08
    let at_zeros = |offset: usize, bytes: &[u8]| {
        let mut there = vec![0; HEADER_LEN];
        there[offset..offset + bytes.len()].copy_from_slice(bytes);
        there
    };
    let noise: Vec<u8> = (0..HEADER_LEN).map(|at| HashKind::Sha256.digest(&[&at.to_le_bytes()])[0]).collect();
    let text = b"what somebody wrote here ".repeat(HEADER_LEN / 25 + 1)[..HEADER_LEN].to_vec();
    let mut stranger = copy(*b"LUKS\xba\xbe", 0, 3, &metadata());
    stranger[..6].fill(0);
    stranger[168..204].copy_from_slice(b"00000000-1111-4222-8333-444444444444");
    for at in [0, HEADER_LEN] {
        for there in [
            noise.clone(),
            text.clone(),
            vec![0xff; HEADER_LEN],
            stranger.clone(),
            at_zeros(0, b"ReFS"),
            at_zeros(0x58, b"CS"),
            at_zeros(1024, b"BD"),
            at_zeros(8192, &[0x19, 0x54, 0x01, 0x09]),
        ] {
            let said =
                refused(at, &there).unwrap_or_else(|| panic!("written over at {at}: {:?}", &there[..8]));
            assert!(said.contains("is nothing of its header, and may be somebody's"), "{said}");
        }
    }
    // What is left of a copy is known by its UUID, or by its text.
    for (at, magic) in [(0, *b"LUKS\xba\xbe"), (HEADER_LEN, *b"SKUL\xba\xbe")] {
        let whole = copy(magic, at, 3, &metadata());
        for (lost, byte) in
            [(0..6, 0), (0..512, 0), (0..4096, 0), (512..HEADER_LEN, 0), (5000..5008, 0xff), (170..174, 7)]
        {
            let mut there = whole.clone();
            there[lost].fill(byte);
            assert_eq!(refused(at, &there), None);
        }
        assert_eq!(refused(at, &[0; HEADER_LEN]), None);
    }
}

#[test]
fn a_newer_copy_that_was_damaged_is_no_reason_to_go_back_to_the_older_one() {
    // proves: L2-HDR-09
    let newer = with("/tokens/0", json!({"type": "newer", "keyslots": ["0"]}));
    for (at, magic) in [(0, *b"LUKS\xba\xbe"), (HEADER_LEN, *b"SKUL\xba\xbe")] {
        let next = copy(magic, at, 4, &newer);
        let mut wiped = next.clone();
        wiped[..6].fill(0);
        let said = refused(at, &wiped).unwrap();
        assert!(said.contains("is damaged, and is newer (sequence 4, the other one 3)"), "{said}");
        // Two updates are more than a power cut leaves out.
        let mut later = copy(magic, at, 5, &newer);
        later[4100] ^= 1;
        let said = refused(at, &later).unwrap();
        assert!(said.contains("sequence 5"), "{said}");

        // One update may be half written: what is there is kept, and the other copy counts.
        let mut flipped = next.clone();
        flipped[4100] ^= 1;
        let mut bytes = container(&metadata());
        bytes[at..at + HEADER_LEN].copy_from_slice(&flipped);
        let header = read(bytes.clone());
        let place = u64::try_from(at).unwrap();
        let at_stake = header.at_stake();
        assert!(at_stake.len() == 1 && at_stake[0] == (place..place + (16 << 10)), "{at_stake:?}");
        let told = header.describe().headers;
        let damaged = told.iter().find(|copy| copy.state == CopyState::Damaged).unwrap();
        assert_eq!((damaged.offset, damaged.sequence), (place, Some(4)));
        let unlocked = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap();
        let editor = header.editor(&unlocked).unwrap();
        let storage = MemoryStorage::new(bytes.clone());
        assert_eq!(editor.commit(&storage).unwrap_err().kind(), ErrorKind::Exists);
        assert!(storage.to_vec() == bytes);
        assert_eq!(refused(at, &flipped), None);
        // The same text under a spoilt number says nothing more.
        let mut spoilt = copy(magic, at, 3, &metadata());
        spoilt[20] ^= 1;
        assert_eq!(refused(at, &spoilt), None);
    }
}

#[test]
fn a_second_copy_under_another_format_is_no_container_and_not_repaired() {
    // proves: L2-HDR-07
    let mut table = [0; 66];
    (table[4], table[64], table[65]) = (0x83, 0x55, 0xaa);
    let others: [(usize, &[u8], &str); 4] = [
        (0x438, b"\x53\xef", "an ext2 file system"),
        (0, b"LUKS\xba\xbe\0\x01", "a LUKS1 header"),
        (0, b"\x89STRONGROOM", "a strongroom container"),
        (446, &table, "a partition table"),
    ];
    for (at, signature, name) in others {
        let mut bytes = container(&metadata());
        bytes[..4096].fill(0);
        bytes[at..at + signature.len()].copy_from_slice(signature);
        let storage = MemoryStorage::new(bytes.clone());
        assert_eq!(Luks2.probe(&storage).unwrap(), Probe::NoMatch);
        let header = Luks2.read_header(&storage).unwrap();
        let unlocked = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap();
        let error = header.prepare_writing(&storage, &unlocked).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.reason().starts_with(&format!("{name} is in the place of its first")), "{error}");
        assert!(storage.to_vec() == bytes, "nothing was written");
    }
}

#[test]
fn a_version_to_come_is_named() {
    // proves: L2-HDR-02
    let mut bytes = container(&metadata());
    bytes[7] = 3;
    bytes[HEADER_LEN] = 0;
    let error = Luks2.read_header(&MemoryStorage::new(bytes)).unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (ErrorKind::Unsupported, "LUKS version 3 is not known to this strongroom")
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("a newer cryptsetup")), "{:?}", error.hint());
}

#[test]
fn json_that_is_none_or_of_other_types_is_refused() {
    // proves: L2-JSON-01 L2-JSON-02 L2-JSON-03
    let parse = |text: &[u8]| check_json(text, 16 << 10).unwrap_err();
    assert_eq!(parse(b" {}"), HeaderError::JsonText);
    assert_eq!(parse(b""), HeaderError::JsonText);
    for text in [&b"{"[..], b"{}", b"{\"keyslots\":[]}", b"{\"keyslots\":{},\"keyslots\":{}}"] {
        assert!(matches!(parse(text), HeaderError::Json { .. }), "{text:?}");
    }
    for (pointer, value) in [
        ("/tokens", json!(42)),
        ("/keyslots/00", json!({})),
        ("/keyslots/32", metadata()["keyslots"]["0"].clone()),
        ("/digests/8", metadata()["digests"]["0"].clone()),
        ("/segments/0/sector_size", json!("4096")),
        ("/segments/0/size", json!(4096)),
        ("/segments/0/flags", json!(["hello", 1])),
        ("/digests/0/keyslots", json!(vec!["0"; 33])),
        ("/keyslots/0/af/type", json!(42)),
    ] {
        let error = refusal(&with(pointer, value));
        assert!(matches!(error, HeaderError::Json { .. }), "{pointer}: {error}");
    }
    let mut area = copy(*b"LUKS\xba\xbe", 0, 3, &metadata());
    area[4096 + metadata().to_string().len()..].fill(b' ');
    area[448..512].fill(0);
    let sum = HashKind::Sha256.digest(&[&area]);
    area[448..480].copy_from_slice(&sum[..32]);
    let error = Luks2.read_header(&MemoryStorage::new(area)).unwrap_err();
    assert_eq!(error.reason(), HeaderError::JsonText.to_string());
}

#[test]
fn a_megabyte_of_hostile_json_is_refused_and_not_kept() {
    // proves: L2-JSON-03
    let many = format!("{{\"keyslots\":{{{}", "\"0\":0,".repeat(100_000));
    assert!(matches!(check_json(many.as_bytes(), 1 << 20).unwrap_err(), HeaderError::Json { .. }));
    let deep = format!("{{\"x\":{}", "[".repeat(1 << 20));
    assert!(matches!(check_json(deep.as_bytes(), 1 << 20).unwrap_err(), HeaderError::Json { .. }));
}

#[test]
fn objects_name_only_what_is_there() {
    // proves: L2-JSON-04 L2-DIGEST-01
    let dangling = |object, kind, missing: &str| HeaderError::Dangling {
        object,
        name: 0,
        kind,
        missing: missing.to_owned(),
    };
    assert_eq!(refusal(&with("/digests/0/keyslots", json!(["0", "8"]))), dangling("digest", "keyslot", "8"));
    assert_eq!(refusal(&with("/digests/0/segments", json!(["x"]))), dangling("digest", "segment", "x"));
    let token = json!({"type": "a", "keyslots": ["1"]});
    assert_eq!(refusal(&with("/tokens/0", token)), dangling("token", "keyslot", "1"));
    let none = with("/digests/0/keyslots", json!([]));
    assert_eq!(refusal(&none), HeaderError::NoDigest { slot: 0 });
    let mut unknown = metadata();
    unknown["keyslots"]["7"] = json!({"type": "some", "key_size": 64, "area": {"type": "none"}});
    assert!(read(container(&unknown)).check_openable().is_ok(), "of another type it may belong to none");
    let twice = with("/digests/1", metadata()["digests"]["0"].clone());
    assert_eq!(refusal(&twice), HeaderError::SeveralDigests { slot: 0 });
}

/// The field that is told to be wrong.
fn wrong_field(pointer: &str, value: Value) -> &'static str {
    match refusal(&with(pointer, value)) {
        HeaderError::Value { field, .. } => field,
        other => panic!("{pointer}: {other}"),
    }
}

#[test]
fn values_outside_their_range_are_refused() {
    // proves: L2-CONFIG-01 L2-CONFIG-02 L2-SLOT-01 L2-SLOT-02 L2-SLOT-03 L2-SLOT-04 L2-SLOT-05 L2-KDF-01
    // proves: L2-DIGEST-02 L2-SEG-01 L2-SEG-02
    for (pointer, value, field) in [
        ("/config/json_size", json!("16384"), "json_size"),
        ("/config/keyslots_size", json!("131073"), "keyslots_size"),
        ("/config/keyslots_size", json!("134221824"), "keyslots_size"),
        ("/keyslots/0/key_size", json!(0), "key_size"),
        ("/keyslots/0/priority", json!(3), "priority"),
        ("/keyslots/0/area/type", json!("cooked"), "area type"),
        ("/keyslots/0/area/offset", json!("0x8000"), "area offset"),
        ("/keyslots/0/area/size", json!("18446744073709551615"), "area size"),
        ("/keyslots/0/area/size", json!("127999"), "area size"),
        ("/keyslots/0/af/type", json!("luks2"), "af type"),
        ("/keyslots/0/af/stripes", json!(1), "stripes"),
        ("/keyslots/0/kdf/salt", json!("AAAA"), "kdf"),
        ("/keyslots/0/kdf/iterations", Value::Null, "kdf"),
        ("/digests/0/iterations", json!(0), "iterations"),
        ("/digests/0/salt", json!("no base64"), "salt"),
        ("/digests/0/digest", json!(""), "digest"),
        ("/digests/0/digest", json!("AAAAAAAAAAAAAAAAAAAA"), "digest"),
        ("/segments/0/offset", json!("1048577"), "offset"),
        ("/segments/0/size", json!("automatic"), "size"),
        ("/segments/0/size", json!("0"), "size"),
        ("/segments/0/iv_tweak", Value::Null, "iv_tweak"),
        ("/segments/0/encryption", Value::Null, "encryption"),
        ("/segments/0/sector_size", json!(1023), "sector_size"),
    ] {
        assert_eq!(wrong_field(pointer, value), field, "{pointer}");
    }
}

#[test]
fn areas_lie_in_their_place_and_share_nothing() {
    // proves: L2-SLOT-07 L2-SLOT-08 L2-CONFIG-03
    assert_eq!(
        refusal(&with("/keyslots/0/area/offset", json!("32767"))),
        HeaderError::OutsideArea { slot: 0 }
    );
    assert_eq!(
        refusal(&with("/keyslots/0/area/offset", json!("32769"))),
        HeaderError::OutsideArea { slot: 0 }
    );
    let mut two = with("/keyslots/1", metadata()["keyslots"]["0"].clone());
    two["digests"]["0"]["keyslots"] = json!(["0", "1"]);
    assert_eq!(refusal(&two), HeaderError::Overlap { slot: 1, other: 0 });
    assert_eq!(refusal(&with("/segments/0/offset", json!("163328"))), HeaderError::OverlapsData);
    assert_eq!(refusal(&with("/config/keyslots_size", json!("1019904"))), HeaderError::OverlapsData);
}

#[test]
fn keys_of_two_lengths_under_one_digest_are_refused() {
    // proves: L2-KEY-04
    let mut two = with("/keyslots/1", metadata()["keyslots"]["0"].clone());
    two["keyslots"]["1"]["key_size"] = json!(31);
    two["keyslots"]["1"]["area"]["offset"] = json!("163840");
    two["config"]["keyslots_size"] = json!("262144");
    two["digests"]["0"]["keyslots"] = json!(["0", "1"]);
    assert_eq!(refusal(&two), HeaderError::KeyLengths { digest: 0 });
}

#[test]
fn a_keyslot_that_is_not_for_us_is_named_and_leaves_the_others_alone() {
    // proves: L2-SLOT-06
    for (pointer, value, reason) in [
        ("/keyslots/0/kdf/type", json!("argon2"), "keyslot 0 cannot be opened: its key derivation is argon2"),
        (
            "/keyslots/0/area/encryption",
            json!("cipher_null-ecb"),
            "keyslot 0 cannot be opened: cipher_null-ecb encrypts nothing, and any password opens it",
        ),
        ("/keyslots/0/type", json!("reencrypt"), "keyslot 0 cannot be opened: it is of the type reencrypt"),
    ] {
        assert_unsupported(&with(pointer, value), reason);
    }
}

#[test]
fn a_keyslot_of_the_lowest_priority_opens_only_by_number() {
    // proves: L2-KEY-02
    let header = read(container(&with("/keyslots/0/priority", json!(0))));
    let error = header.unlock(&secret(b"secret"), &Attempt::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    let by_number = Attempt { keyslot: Some(0), ..Attempt::default() };
    assert!(header.unlock(&secret(b"secret"), &by_number).is_ok());
}

#[test]
fn costs_above_the_limits_are_refused() {
    // proves: L2-KEY-03
    let kdf = json!({"type": "argon2id", "time": 4, "memory": u32::MAX, "cpus": 4, "salt": SALT});
    let reason = "keyslot 0 asks for 4294967295 KiB of memory; the limit is 4 GiB of memory";
    assert_unsupported(&with("/keyslots/0/kdf", kdf), reason);
}

#[test]
fn what_is_not_opened_is_refused_with_the_reason() {
    // proves: L2-OPEN-01 L2-OPEN-02 L2-OPEN-03 L2-OPEN-04 L2-OPEN-05 L2-OPEN-06
    let mandatory = |name: &str| with("/config/requirements", json!({"mandatory": [name]}));
    assert_unsupported(&mandatory("online-reencrypt-v2"), "a re-encryption by cryptsetup is under way");
    assert_unsupported(&mandatory("opal"), "the drive itself encrypts it (OPAL)");
    assert_unsupported(&mandatory("inline-hw-tags"), "its integrity tags lie in the drive's own sectors");
    assert_unsupported(&mandatory("time-travel"), "it has the unknown requirement time-travel");
    let moving = with("/segments/0/flags", json!(["in-reencryption"]));
    assert_unsupported(&moving, "a re-encryption by cryptsetup is under way");
    assert_unsupported(&with("/segments/0/type", json!("linear")), "segment 0 is not encrypted");
    assert_unsupported(&with("/segments/0/type", json!("some")), "segment 0 is of the unknown type some");
    assert_unsupported(
        &with("/segments/0/integrity", json!({"type": "hmac(sha256)"})),
        "segment 0 has integrity tags (hmac(sha256), dm-integrity), which are not supported",
    );
    assert_unsupported(&with("/segments/0/flags", json!(["odd"])), "segment 0 has the unknown flag odd");
    assert_unsupported(
        &with("/segments/0/offset", json!("0")),
        "the header is detached: its data lie in another file",
    );
    assert_unsupported(
        &with("/segments/0/encryption", json!("cipher_null-ecb")),
        "cipher_null-ecb encrypts nothing, and any password opens it",
    );
    assert_eq!(not_opened(&with("/digests/0/segments", json!([]))).0, ErrorKind::Damaged);
    let flags = json!(["allow-discards", "no-read-workqueue", "unheard-of"]);
    let header = read(container(&with("/config/flags", flags)));
    assert!(header.unlock(&secret(b"secret"), &Attempt::default()).is_ok());
}

#[test]
fn what_is_not_opened_names_the_program_that_may() {
    // proves: L2-OPEN-07
    let mandatory = |name: &str| with("/config/requirements", json!({"mandatory": [name]}));
    for (metadata, program) in [
        (mandatory("online-reencrypt-v2"), "cryptsetup reencrypt --resume-only"),
        (mandatory("opal"), "cryptsetup 2.7 or newer"),
        (mandatory("inline-hw-tags"), "cryptsetup 2.8 or newer"),
        (mandatory("time-travel"), "a newer cryptsetup"),
        (with("/segments/0/type", json!("hw-opal-crypt")), "cryptsetup 2.7 or newer"),
        (with("/segments/0/type", json!("some")), "a newer cryptsetup"),
        (with("/segments/0/flags", json!(["odd"])), "a newer cryptsetup"),
        (with("/segments/0/integrity", json!({"type": "aead"})), "cryptsetup open CONTAINER NAME"),
        (with("/segments/0/encryption", json!("aes-ctr-plain64")), "cryptsetup open CONTAINER NAME"),
        (with("/segments/0/encryption", json!("cast5-cbc-plain64")), "copy its files to a new container"),
        (with("/keyslots/0/type", json!("some")), "a newer cryptsetup"),
        (with("/keyslots/0/kdf/type", json!("balloon")), "a newer cryptsetup"),
        (with("/digests/0/type", json!("some")), "a newer cryptsetup"),
    ] {
        let header = read(container(&metadata));
        let error = header.check_openable().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains(program)), "{error}: {:?}", error.hint());
        assert_eq!(header.describe().data_offset, u64::try_from(DATA_OFFSET).unwrap(), "{error}");
        let told = complaints(container(&metadata)).into_iter().rfind(|told| told.starts_with("Error"));
        assert!(told.is_some_and(|told| told.contains(program)), "{error}");
    }
}

#[test]
fn a_segment_that_is_cut_off_is_damaged() {
    // proves: L2-DATA-02
    for size in ["40960", "18446744073709551104", "36352"] {
        let (kind, reason) = not_opened(&with("/segments/0/size", json!(size)));
        assert_eq!(kind, ErrorKind::Damaged, "{size}: {reason}");
    }
    let fixed = read(container(&with("/segments/0/size", json!("36864"))));
    assert!(fixed.unlock(&secret(b"secret"), &Attempt::default()).is_ok());
}

#[test]
fn text_of_a_header_cannot_forge_a_line() {
    let token = json!({"type": "a\nLabel: trusted\u{1b}[2J", "keyslots": []});
    let info = read(container(&with("/tokens/0", token))).describe();
    let token = info.details.iter().find(|detail| detail.name == "Token 0").unwrap();
    assert_eq!(token.value, "a\\nLabel: trusted\\u{1b}[2J, keyslots none");
}

/// What `check` finds in a container, without what is only good to know.
fn complaints(bytes: Vec<u8>) -> Vec<String> {
    let findings = Luks2.check(&MemoryStorage::new(bytes)).unwrap();
    let bad = findings.into_iter().filter(|finding| finding.severity > Severity::Info);
    bad.map(|finding| format!("{:?} {}: {}", finding.severity, finding.object, finding.message)).collect()
}

#[test]
fn a_container_that_was_cut_short_is_told_as_far_as_that_shows() {
    // 9 sectors and 100 bytes.
    let mut bytes = container(&metadata());
    assert_eq!(
        complaints(bytes.clone()),
        ["Warning data: the container ends 100 bytes into a sector of 4096: it may have been cut short"]
    );
    bytes.truncate(DATA_OFFSET + 4096);
    assert_eq!(complaints(bytes.clone()), [""; 0]);
    bytes.truncate(DATA_OFFSET + 4095);
    assert_eq!(
        complaints(bytes.clone()),
        ["Error data: segment 0 is cut off: 4095 bytes of it are in the container"]
    );
    bytes.truncate(DATA_OFFSET / 2);
    assert_eq!(
        complaints(bytes.clone()),
        ["Error data: segment 0 is cut off: 0 bytes of it are in the container"]
    );
    bytes.truncate(100_000);
    let told = "it is cut off before its data: 100000 bytes are there, and a keyslot's area ends at byte";
    assert!(
        complaints(bytes.clone())[0].starts_with(&format!("Error header: {told} ")),
        "{:?}",
        complaints(bytes.clone())
    );
    // In the text, in the part before it, and so short that not even the header's size is there.
    for (len, end) in [(10_000, 16_384), (512, 16_384), (15, 4096)] {
        bytes.truncate(len);
        let told = format!(
            "it is cut off in its header: {len} bytes are there, this copy of the header ends at byte {end}"
        );
        assert_eq!(complaints(bytes.clone()), [format!("Error header: {told}")]);
        assert_eq!(
            Luks2.read_header(&MemoryStorage::new(bytes.clone())).unwrap_err().kind(),
            ErrorKind::Damaged
        );
    }

    let mut fixed = container(&with("/segments/0/size", json!("36864")));
    assert_eq!(complaints(fixed.clone()), [""; 0]);
    fixed.truncate(DATA_OFFSET + 36863);
    assert_eq!(
        complaints(fixed),
        ["Error data: segment 0 is cut off: 36863 of 36864 bytes of it are in the container"]
    );
}

#[test]
fn a_container_without_a_keyslot_says_so_and_not_that_the_password_is_wrong() {
    // As cryptsetup's luksErase leaves it.
    let mut erased = metadata();
    erased["keyslots"] = json!({});
    erased["digests"]["0"]["keyslots"] = json!([]);
    let reason = "it has no keyslot left: no password or keyfile can open it";
    assert_eq!(not_opened(&erased), (ErrorKind::Damaged, reason.to_owned()));
    let header = read(container(&erased));
    let refused = header.check_openable().unwrap_err();
    assert_eq!((refused.kind(), refused.reason()), (ErrorKind::Damaged, reason));
    assert!(refused.hint().unwrap().contains("header restore"), "{refused:?}");
    assert_eq!(complaints(container(&erased)), [format!("Error keyslots: {reason}")]);
    let digest = header.describe().details.into_iter().find(|detail| detail.name == "Digest 0").unwrap();
    assert_eq!(digest.value, "pbkdf2-sha256, 1000 iterations, keyslots none, segments 0");
}
