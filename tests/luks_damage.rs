//! What is said of a LUKS container that is damaged, or that no password opens: before a password is asked for where that can be.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is not as it must be")]

mod luks_image;

use luks_image::{AREA_OFFSET, COPY_LEN, KEY, keyslot, luks1, luks2, luks2_of, metadata, set_metadata};
use serde_json::json;
use strongroom::{
    crypto::secret::{Credentials, Password},
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
        let wrong = "no keyslot opens with this password or keyfile".to_owned();
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
            let reason = format!("no keyslot opens with this password or keyfile; {damage}");
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
    let reason =
        "no keyslot opens with this password or keyfile; the key material of keyslot 1 looks overwritten";
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
