//! Argon2id and HKDF-SHA-512.

use strongroom::{
    ErrorKind,
    crypto::{
        hash::HashKind,
        kdf::{Argon2Cost, argon2id, hkdf_sha512, pbkdf2},
    },
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

/// Botan's lists of hashes: messages and digests.
#[test]
fn streebog_and_whirlpool_are_the_published_ones() {
    for (file, section, hash) in [
        ("botan-streebog.vec", "Streebog-512", HashKind::Streebog512),
        ("botan-whirlpool.vec", "Whirlpool", HashKind::Whirlpool),
    ] {
        let Some(list) = fixture(file) else { return };
        let mut done = 0;
        for record in records(std::str::from_utf8(&list).unwrap(), "Out") {
            if record["section"] != section {
                continue;
            }
            let digest = hash.digest(&[&hex::decode(&record["In"]).unwrap()]);
            assert_eq!(hex::encode(&digest[..hash.digest_len()]), record["Out"].to_lowercase(), "{record:?}");
            done += 1;
        }
        assert!(done > 5, "{file}: {done}");
    }
}

/// Both ends of the password's and the salt's length, and a key that takes several blocks.
#[test]
fn pbkdf2_is_openssls_with_every_hash_that_both_have() {
    for (hash, theirs) in [
        (HashKind::Sha1, openssl::hash::MessageDigest::sha1()),
        (HashKind::Sha256, openssl::hash::MessageDigest::sha256()),
        (HashKind::Sha512, openssl::hash::MessageDigest::sha512()),
        (HashKind::Blake2s256, openssl::hash::MessageDigest::from_name("blake2s256").unwrap()),
    ] {
        for password in [&b""[..], b"password", &[7; 64], &[7; 65], &[7; 128], &[7; 129]] {
            let mut expected = [0; 192];
            openssl::pkcs5::pbkdf2_hmac(password, &[9; 64], 77, theirs, &mut expected).unwrap();
            let found = pbkdf2(hash, password, &[9; 64], 77, 192).unwrap();
            assert_eq!(hex::encode(found.expose()), hex::encode(expected), "{hash:?} {}", password.len());
        }
    }
}

/// The HMAC that the standard's own tests are of (RFC 7836, 5.1.2, PBKDF2 with HMAC of Streebog-512).
#[test]
fn pbkdf2_with_streebog_is_the_standards() {
    for (password, salt, iterations, expected) in [
        (
            "password",
            "salt",
            1,
            "64770af7f748c3b1c9ac831dbcfd85c26111b30a8a657ddc3056b80ca73e040d\
             2854fd36811f6d825cc4ab66ec0a68a490a9e5cf5156b3a2b7eecddbf9a16b47",
        ),
        (
            "password",
            "salt",
            2,
            "5a585bafdfbb6e8830d6d68aa3b43ac00d2e4aebce01c9b31c2caed56f0236d4\
             d34b2b8fbd2c4e89d54d46f50e47d45bbac301571743119e8d3c42ba66d348de",
        ),
        (
            "password",
            "salt",
            4096,
            "e52deb9a2d2aaff4e2ac9d47a41f34c20376591c67807f0477e32549dc341bc7\
             867c09841b6d58e29d0347c996301d55df0d34e47cf68f4e3c2cdaf1d9ab86c3",
        ),
    ] {
        let key =
            pbkdf2(HashKind::Streebog512, password.as_bytes(), salt.as_bytes(), iterations, 64).unwrap();
        assert_eq!(hex::encode(key.expose()), expected, "{iterations}");
    }
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
