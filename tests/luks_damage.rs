//! What is said of a LUKS container that is damaged, or that no password opens: before a password is asked for where that can be.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod luks_image;

use base64ct::{Base64, Encoding};
use luks_image::{AREA_OFFSET, COPY_LEN, KEY, keyslot, luks1, luks2, luks2_of, metadata, set_metadata};
use serde_json::json;
use strongroom::{
    crypto::{
        hash::HashKind,
        kdf::pbkdf2,
        secret::{Credentials, Password},
    },
    error::{Error, ErrorKind},
    format::{Attempt, FORMATS, Header, Probe, Severity},
    storage::MemoryStorage,
};

fn header(bytes: Vec<u8>) -> Result<Box<dyn Header>, Error> {
    let storage = MemoryStorage::new(bytes);
    let format = FORMATS.iter().find(|format| format.probe(&storage).unwrap() == Probe::Match).unwrap();
    format.read_header(&storage)
}

fn try_password(header: &dyn Header, password: &[u8]) -> (ErrorKind, String) {
    let password = Password::copy_of(password).unwrap();
    let credentials = Credentials::Password { password, keyfiles: Vec::new() };
    let error = header.unlock(&credentials, &Attempt::default()).unwrap_err();
    (error.kind(), error.reason().to_owned())
}

/// Each kind of container, with the place of keyslot 0.
fn containers() -> [(Vec<u8>, usize); 2] {
    [(luks1(b"secret"), 4096), (luks2(b"secret"), AREA_OFFSET)]
}

#[test]
fn a_wrong_password_is_nothing_but_that() {
    // proves: L1-KEY-07 L2-KEY-05
    for (container, _) in containers() {
        let header = header(container).unwrap();
        header.check_openable().unwrap();
        let wrong = "wrong password or keyfile".to_owned();
        assert_eq!(try_password(&*header, b"other"), (ErrorKind::Credentials, wrong));
    }
}

#[test]
fn a_keyslot_that_was_overwritten_is_mentioned_beside_a_wrong_password() {
    // proves: L1-KEY-07 L2-KEY-05
    let text = "a note of some length, as any file may begin, ".repeat(12).into_bytes();
    for garbage in [&[0; 512][..], &[0xff; 512], &text[..512]] {
        for (mut container, area) in containers() {
            container[area + 2048..area + 2048 + 512].copy_from_slice(garbage);
            let header = header(container.clone()).unwrap();
            let damage = "the key material of keyslot 0 looks overwritten".to_owned();
            let reason = format!("wrong password or keyfile; {damage}");
            assert_eq!(try_password(&*header, b"secret"), (ErrorKind::Credentials, reason));
            let storage = MemoryStorage::new(container);
            let format =
                FORMATS.iter().find(|format| format.probe(&storage).unwrap() == Probe::Match).unwrap();
            let findings = format.check(&storage).unwrap();
            let finding = findings.iter().find(|finding| finding.object == "keyslot 0").unwrap();
            assert_eq!((finding.severity, &finding.message), (Severity::Warning, &damage));
        }
    }
}

#[test]
fn beside_a_whole_keyslot_an_overwritten_one_is_mentioned() {
    // proves: L2-KEY-05
    let mut more = metadata(&KEY);
    more["keyslots"]["1"] = keyslot(AREA_OFFSET + (128 << 10));
    more["digests"]["0"]["keyslots"] = json!(["0", "1"]);
    let mut container = luks2(b"secret");
    set_metadata(&mut container, &more);
    // The area of keyslot 1 is zeros.
    let header = header(container).unwrap();
    header.check_openable().unwrap();
    let reason = "wrong password or keyfile; the key material of keyslot 1 looks overwritten";
    assert_eq!(try_password(&*header, b"other"), (ErrorKind::Credentials, reason.to_owned()));
}

#[test]
fn a_damaged_header_is_no_wrong_password() {
    let mut container = luks2(b"secret");
    container[5000] ^= 1;
    assert!(header(container.clone()).is_ok(), "the second copy stands in");
    container[COPY_LEN + 5000] ^= 1;
    let error = header(container).unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Damaged, "the header's checksum is wrong"));
}

#[test]
fn what_is_not_opened_anyhow_is_refused_before_a_password() {
    let mut plain = metadata(&KEY);
    plain["segments"]["0"] = json!({"type": "linear", "offset": "1048576", "size": "dynamic"});
    let error = header(luks2_of(&plain, &KEY, b"secret")).unwrap().check_openable().unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::Unsupported, "segment 0 is not encrypted"));
}

#[test]
fn the_key_of_a_keyring_token_is_shown() {
    let mut container = luks2(b"secret");
    let mut with_token = metadata(&KEY);
    with_token["tokens"]["0"] =
        json!({"type": "luks2-keyring", "keyslots": ["0"], "key_description": "my:key\n"});
    with_token["tokens"]["1"] = json!({"type": "other", "keyslots": [], "key_description": 7});
    set_metadata(&mut container, &with_token);
    let info = header(container).unwrap().describe();
    let tokens: Vec<_> = info.details.iter().filter(|detail| detail.name.starts_with("Token")).collect();
    assert_eq!(tokens[0].value, "luks2-keyring, keyslots 0, key \"my:key\\\\n\"");
    assert_eq!(tokens[1].value, "other, keyslots none");
}

/// What is found in a container above `Info`, as `severity object: message`.
fn complaints(bytes: &[u8]) -> Vec<String> {
    let storage = MemoryStorage::new(bytes.to_vec());
    let format = FORMATS.iter().find(|format| format.probe(&storage).unwrap() == Probe::Match).unwrap();
    let findings = format.check(&storage).unwrap();
    let bad = findings.into_iter().filter(|finding| finding.severity > Severity::Info);
    bad.map(|finding| format!("{:?} {}: {}", finding.severity, finding.object, finding.message)).collect()
}

/// Why the right password does not open a container. All but costs, which can be allowed, is known before it is asked for.
fn refusal(bytes: &[u8]) -> String {
    let header = match header(bytes.to_vec()) {
        Ok(header) => header,
        Err(error) => return error.reason().to_owned(),
    };
    let (_, reason) = try_password(&*header, b"secret");
    match header.check_openable() {
        Err(early) => assert_eq!(early.reason(), reason),
        Ok(()) => assert!(reason.contains(" asks for "), "only after the password: {reason}"),
    }
    reason
}

/// An examination without a password finds what keeps the right one from opening the container, in the same words.
#[track_caller]
fn assert_found(bytes: &[u8], object: &str, expected: &str) {
    assert_eq!(refusal(bytes), expected);
    // Costs are said of their keyslot.
    let costs = expected.strip_prefix("keyslot 0 asks for ");
    let (object, message) = costs.map_or_else(
        || (object, expected.to_owned()),
        |costs| ("keyslot 0", format!("asks for {costs}: it is not tried")),
    );
    let (found, told) = (complaints(bytes), format!("Error {object}: {message}"));
    // Of what is only not supported, the way to open it follows.
    let is_told =
        |line: &String| line.strip_prefix(&*told).is_some_and(|way| way.is_empty() || way.starts_with("; "));
    assert!(found.iter().any(is_told), "{expected}: {found:?}");
}

// proves: L2-OPEN-01 L2-OPEN-03 L2-OPEN-04 L2-DATA-02 L2-SLOT-06 L2-KEY-03
#[test]
fn an_examination_without_a_password_finds_why_a_luks2_container_does_not_open() {
    assert_eq!(complaints(&luks2(b"secret")), [""; 0]);
    let far = "18446744073709551615";
    let too_many = "asks for 4294967295 iterations; the limit is 268435456 iterations";
    let unknown = "aes-xts-plain64 with a tail";
    for (path, value, object, reason) in [
        (
            "/segments/0/encryption",
            json!("rot13-xts-plain64"),
            "data",
            "the cipher of rot13-xts-plain64 is not supported",
        ),
        (
            "/segments/0/encryption",
            json!("aes-ctr-plain64"),
            "data",
            "the mode of aes-ctr-plain64 is not supported",
        ),
        (
            "/segments/0/encryption",
            json!(unknown),
            "data",
            "the IV of aes-xts-plain64 with a tail is not supported",
        ),
        (
            "/segments/0/encryption",
            json!("cipher_null-ecb"),
            "data",
            "cipher_null-ecb encrypts nothing, and any password opens it",
        ),
        (
            "/segments/0/encryption",
            json!("blowfish-cbc-plain"),
            "data",
            "blowfish-cbc-plain has blocks of 64 bits, too small for a disk",
        ),
        ("/segments/0/iv_tweak", json!(far), "data", "its sector numbers need more than 64 bits"),
        (
            "/segments/0/size",
            json!("1048576"),
            "data",
            "segment 0 is cut off: 65536 of 1048576 bytes of it are in the container",
        ),
        ("/segments/0/size", json!("4608"), "data", "segment 0 is no whole number of sectors"),
        ("/segments/0/type", json!("linear"), "data", "segment 0 is not encrypted"),
        (
            "/segments/0/integrity",
            json!({"type": "hmac(sha256)"}),
            "data",
            "segment 0 has integrity tags (hmac(sha256), dm-integrity), which are not supported",
        ),
        ("/segments/0/sector_size", json!(8192), "header", "segment 0: sector_size is 8192"),
        (
            "/config/requirements",
            json!({"mandatory": ["tomorrow"]}),
            "data",
            "it has the unknown requirement tomorrow",
        ),
        ("/digests/0/hash", json!("snefru"), "data", "digest 0 is made with snefru, which is not supported"),
        ("/digests/0/iterations", json!(0), "header", "digest 0: iterations is none"),
        (
            "/digests/0/iterations",
            json!(u32::MAX),
            "header",
            &format!("the digest of the volume key {too_many}"),
        ),
        (
            "/keyslots/0/kdf/iterations",
            json!(0),
            "",
            "keyslot 0 asks for 0 iterations; the least is 1 iterations",
        ),
        ("/keyslots/0/kdf/iterations", json!(u32::MAX), "", &format!("keyslot 0 {too_many}")),
        (
            "/keyslots/0/kdf/type",
            json!("scrypt"),
            "keyslots",
            "keyslot 0 cannot be opened: its key derivation is scrypt",
        ),
        (
            "/keyslots/0/type",
            json!("reencrypt"),
            "keyslots",
            "keyslot 0 cannot be opened: it is of the type reencrypt",
        ),
    ] {
        let mut changed = metadata(&KEY);
        let (parent, name) = path.rsplit_once('/').unwrap();
        changed.pointer_mut(parent).unwrap()[name] = value;
        let mut container = luks2(b"secret");
        set_metadata(&mut container, &changed);
        assert_found(&container, object, reason);
    }
}

// proves: L2-DATA-01
#[test]
fn segments_that_do_not_fit_together_are_found_without_a_password() {
    let mut two = metadata(&KEY);
    two["segments"]["0"]["size"] = json!("4096");
    two["segments"]["1"] = two["segments"]["0"].clone();
    two["segments"]["1"]["sector_size"] = json!(512);
    two["digests"]["0"]["segments"] = json!(["0", "1"]);
    let mut container = luks2(b"secret");
    set_metadata(&mut container, &two);
    assert_found(&container, "data", "its segments have sectors of different sizes");
}

// proves: L1-HDR-02 L1-CIPHER-01 L1-KEY-05
#[test]
fn an_examination_without_a_password_finds_why_a_luks1_container_does_not_open() {
    assert_eq!(complaints(&luks1(b"secret")), [""; 0]);
    let too_many = "asks for 4294967295 iterations; the limit is 268435456 iterations";
    let digest = format!("the digest of the volume key {too_many}");
    for (at, bytes, object, reason) in [
        (8, &b"rot"[..], "header", "the cipher of rot-xts-plain64 is not supported"),
        (40, b"ctr-plain64", "header", "the mode of aes-ctr-plain64 is not supported"),
        (72, b"sha999", "header", "hash sha999 is not supported"),
        (164, &[0; 4], "header", "the header's digest iterations is 0"),
        (164, &[0xff; 4], "data", &digest),
        (212, &[0; 4], "header", "keyslot 0: iterations is 0"),
        (212, &[0xff; 4], "", &format!("keyslot 0 {too_many}")),
    ] {
        let mut container = luks1(b"secret");
        container[at..at + bytes.len()].copy_from_slice(bytes);
        assert_found(&container, object, reason);
    }
    let mut container = luks1(b"secret");
    container.truncate(100);
    let reason = "it is cut off in its header: 100 bytes are there, the header takes 592";
    assert_found(&container, "header", reason);
    container.truncate(7);
    let storage = MemoryStorage::new(container);
    assert!(FORMATS.iter().all(|format| format.probe(&storage).unwrap() != Probe::Match));
}

#[test]
fn a_keyslot_that_costs_too_much_beside_another_is_a_warning() {
    let mut more = metadata(&KEY);
    more["keyslots"]["1"] = keyslot(AREA_OFFSET + (128 << 10));
    more["keyslots"]["1"]["kdf"]["iterations"] = json!(0);
    more["digests"]["0"]["keyslots"] = json!(["0", "1"]);
    let mut container = luks2(b"secret");
    set_metadata(&mut container, &more);
    let expected = "Warning keyslot 1: asks for 0 iterations; the least is 1 iterations: it is not tried";
    assert!(complaints(&container).contains(&expected.to_owned()), "{:?}", complaints(&container));
    assert!(!complaints(&container).iter().any(|found| found.starts_with("Error")));
}

#[test]
fn no_mount_is_said_to_renew_what_none_will() {
    let mut container = luks2(b"secret");
    container[COPY_LEN + 5000] ^= 1;
    let renewed = "Warning second header copy: damaged: the next mount for writing renews it";
    assert_eq!(complaints(&container), [renewed]);
    let mut patterns = metadata(&KEY);
    patterns["segments"]["0"]["encryption"] = json!("aes-ecb");
    set_metadata(&mut container, &patterns);
    container[COPY_LEN + 5000] ^= 1;
    let kept =
        "Warning second header copy: damaged: nothing renews it as long as it cannot be mounted for writing";
    let cipher = "Warning cipher: aes-ecb shows which blocks are equal, so nothing is written with it";
    assert_eq!(complaints(&container), [kept, cipher]);
}

/// Whoever wrote a header may want it to fill a screen, or to command a terminal.
#[test]
fn what_is_shown_of_a_header_is_short_and_tame() {
    let name = format!("aes-xts-{}", "\u{1b}[2J\u{202e}".repeat(700));
    for path in [
        "/segments/0/encryption",
        "/segments/0/type",
        "/keyslots/0/area/encryption",
        "/keyslots/0/af/hash",
        "/keyslots/0/kdf/type",
        "/keyslots/0/type",
        "/digests/0/hash",
        "/digests/0/type",
        "/config/json_size",
    ] {
        let mut changed = metadata(&KEY);
        *changed.pointer_mut(path).unwrap() = json!(name);
        let mut container = luks2(b"secret");
        set_metadata(&mut container, &changed);
        let mut told = vec![refusal(&container)];
        told.extend(complaints(&container));
        if let Ok(header) = header(container) {
            let info = header.describe();
            told.push(info.cipher);
            told.extend(info.details.into_iter().map(|detail| detail.value));
        }
        assert!(told[0].contains("aes-xts-\\u{1b}[2J\\u{202e}"), "{path}: {}", told[0]);
        for text in told {
            let is_tame = !text.contains(|c: char| c.is_control() || c == '\u{202e}');
            assert!(is_tame && text.chars().count() < 400, "{path}: {text}");
        }
    }
}

/// `cryptsetup luksFormat --hash md5` makes it.
#[test]
fn a_digest_of_md5_is_as_good_as_any() {
    let mut short = metadata(&KEY);
    let digest = pbkdf2(HashKind::Md5, &KEY, &[7; 32], 1000, 16).unwrap();
    short["digests"]["0"]["hash"] = json!("md5");
    short["digests"]["0"]["digest"] = json!(Base64::encode_string(digest.expose()));
    let mut container = luks2(b"secret");
    set_metadata(&mut container, &short);
    let header = header(container).unwrap();
    let password = Password::copy_of(b"secret").unwrap();
    let credentials = Credentials::Password { password, keyfiles: Vec::new() };
    assert_eq!(header.unlock(&credentials, &Attempt::default()).unwrap().keyslot, Some(0));
}

#[test]
fn a_header_whose_checksum_is_right_is_not_to_be_restored_from_a_backup() {
    let mut odd = metadata(&KEY);
    odd["digests"]["0"]["digest"] = json!("AAAA");
    let mut container = luks2(b"secret");
    set_metadata(&mut container, &odd);
    let error = header(container).unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains("its checksum is right") && !hint.contains("backup"), "{hint}");
}

#[test]
fn where_every_keyslot_was_overwritten_that_is_an_error_and_told_with_the_backup() {
    for (mut container, area) in containers() {
        container[area..area + 4096].fill(0);
        let storage = MemoryStorage::new(container);
        let format = FORMATS.iter().find(|format| format.probe(&storage).unwrap() == Probe::Match).unwrap();
        let findings = format.check(&storage).unwrap();
        let closed =
            "the key material of every keyslot looks overwritten: no password or keyfile can open it";
        let is_told = |finding: &&strongroom::format::Finding| finding.severity == Severity::Error;
        let errors: Vec<_> = findings.iter().filter(is_told).map(|finding| &finding.message).collect();
        assert_eq!(errors, [closed]);
        assert_eq!(format.take_backup(&storage).unwrap().closed(), Some(closed));
    }
    for (container, _) in containers() {
        let storage = MemoryStorage::new(container);
        let format = FORMATS.iter().find(|format| format.probe(&storage).unwrap() == Probe::Match).unwrap();
        assert_eq!(format.take_backup(&storage).unwrap().closed(), None);
    }
    let mut bare = metadata(&KEY);
    bare["digests"]["0"]["keyslots"] = json!([]);
    bare["digests"]["1"] = bare["digests"]["0"].clone();
    bare["digests"]["1"]["keyslots"] = json!(["0"]);
    bare["digests"]["1"]["segments"] = json!([]);
    let mut container = luks2(b"secret");
    set_metadata(&mut container, &bare);
    let storage = MemoryStorage::new(container);
    let format = FORMATS.iter().find(|format| format.probe(&storage).unwrap() == Probe::Match).unwrap();
    let backup = format.take_backup(&storage).unwrap();
    assert!(backup.closed().unwrap().contains("no keyslot is left that holds its volume key"));
}
