//! Argon2id and HKDF-SHA-512.

use strongroom::{
    ErrorKind,
    crypto::kdf::{Argon2Cost, argon2id, hkdf_sha512},
};

use crate::{bytes, fixture, is_valid, records, wycheproof};

/// The Argon2id cases of the reference implementation's `test.c`, version 0x13: passes, memory in KiB, lanes, password,
/// salt, tag. Those of RFC 9106 itself carry a secret and associated data, which the format does not use.
const REFERENCE: [(u32, u32, u32, &str, &str, &str); 7] = [
    (
        2,
        1 << 16,
        1,
        "password",
        "somesalt",
        "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7",
    ),
    (
        2,
        1 << 8,
        1,
        "password",
        "somesalt",
        "9dfeb910e80bad0311fee20f9c0e2b12c17987b4cac90c2ef54d5b3021c68bfe",
    ),
    (
        2,
        1 << 8,
        2,
        "password",
        "somesalt",
        "6d093c501fd5999645e0ea3bf620d7b8be7fd2db59c20d9fff9539da2bf57037",
    ),
    (
        1,
        1 << 16,
        1,
        "password",
        "somesalt",
        "f6a5adc1ba723dddef9b5ac1d464e180fcd9dffc9d1cbf76cca2fed795d9ca98",
    ),
    (
        4,
        1 << 16,
        1,
        "password",
        "somesalt",
        "9025d48e68ef7395cca9079da4c4ec3affb3c8911fe4f86d1a2520856f63172c",
    ),
    (
        2,
        1 << 16,
        1,
        "differentpassword",
        "somesalt",
        "0b84d652cf6b0c4beaef0dfe278ba6a80df6696281d7e0d2891b817d8c458fde",
    ),
    (
        2,
        1 << 16,
        1,
        "password",
        "diffsalt",
        "bdf32b05ccc42eb15d58fd19b1f856b113da1e9a5874fdcc544308565aa8141c",
    ),
];

#[test]
fn argon2id_gives_the_reference_implementations_tags() {
    for (passes, memory_kib, lanes, password, salt, tag) in REFERENCE {
        let cost = Argon2Cost { memory_kib, passes, lanes };
        let key = argon2id(password.as_bytes(), salt.as_bytes(), &cost, 32).unwrap();
        assert_eq!(hex::encode(key.expose()), tag, "{cost:?}");
    }
}

#[test]
fn argon2id_gives_every_botan_tag_that_needs_no_secret() {
    let Some(file) = fixture("botan-argon2.vec") else { return };
    let (mut run, mut with_secret) = (0, 0);
    for record in records(std::str::from_utf8(&file).unwrap(), "Output") {
        if record["section"] != "Argon2id" {
            continue;
        }
        if record.contains_key("Secret") {
            with_secret += 1;
            continue;
        }
        let number = |name: &str| record[name].parse().unwrap();
        let field = |name: &str| hex::decode(&record[name]).unwrap();
        let cost = Argon2Cost { memory_kib: number("M"), passes: number("T"), lanes: number("P") };
        let expected = field("Output");
        let key = argon2id(&field("Passphrase"), &field("Salt"), &cost, expected.len()).unwrap();
        assert_eq!(key.expose(), expected);
        run += 1;
    }
    assert_eq!((run, with_secret), (317, 13));
}

#[test]
fn hkdf_sha512_answers_every_wycheproof_case() {
    let Some(tests) = wycheproof("wycheproof-hkdf_sha512.json") else { return };
    let (mut derived, mut refused) = (0, 0);
    for (_, test) in &tests {
        let len = usize::try_from(test["size"].as_u64().unwrap()).unwrap();
        let result = hkdf_sha512(&bytes(test, "ikm"), &bytes(test, "salt"), &bytes(test, "info"), len);
        if is_valid(test) {
            assert_eq!(result.unwrap().expose(), bytes(test, "okm"), "{test}");
            derived += 1;
        } else {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Usage, "{test}");
            refused += 1;
        }
    }
    assert_eq!((derived, refused), (80, 3));
}
