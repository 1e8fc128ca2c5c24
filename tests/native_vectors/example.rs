//! The worked example of the specification, computed anew.

use sha2::{Digest, Sha256};
use strongroom::crypto::{
    recovery::{self, RecoveryText},
    secret::RecoveryKey,
};

use strongroom::format::native::Suite;

use crate::generator::{self, PASSWORD, RECOVERY_KEY};

/// The names and values that section 10 prints, in hexadecimal.
fn values() -> Vec<(&'static str, String)> {
    let made = &generator::bases()["password.img"];
    let input = generator::credentials(PASSWORD, &[]);
    let slot = &made.bytes[4096..6144];
    let sector = |number: usize| hex::encode(&made.bytes[65_536 + 4096 * number..][..32]);
    vec![
        ("bytes 0 to 63 of the container", hex::encode(&made.bytes[..64])),
        ("bytes 128 to 183 of the container", hex::encode(&made.bytes[128..184])),
        ("checksum of copy A", hex::encode(&made.bytes[4000..4032])),
        ("MAC of copy A", hex::encode(&made.bytes[4032..4096])),
        ("MAC of copy B", hex::encode(&made.bytes[81_920 + 4032..81_920 + 4096])),
        ("keyslot 0, bytes 0 to 67", hex::encode(&slot[..68])),
        ("keyslot 0, nonce", hex::encode(&slot[128..152])),
        ("keyslot 0, wrapped key", hex::encode(&slot[152..216])),
        ("keyslot 0, tag", hex::encode(&slot[216..232])),
        ("credentials I", hex::encode(&input)),
        ("slot key S", hex::encode(generator::slot_key(&input, &slot[32..64]))),
        ("volume key", hex::encode(made.volume_key)),
        ("MAC key", hex::encode(generator::hkdf(&made.volume_key, &made.uuid, b"strongroom/v1/header-mac"))),
        ("data key 0", hex::encode(generator::data_key(&made.volume_key, &made.uuid, 0))),
        ("data key 1", hex::encode(generator::data_key(&made.volume_key, &made.uuid, 1))),
        ("data key 4095", hex::encode(generator::data_key(&made.volume_key, &made.uuid, 4095))),
        ("plaintext of sector 1, first 32 bytes", hex::encode(&made.plaintext[4096..4128])),
        ("ciphertext of sector 0, first 32 bytes", sector(0)),
        ("ciphertext of sector 1, first 32 bytes", sector(1)),
        ("SHA-256 of the whole volume", hex::encode(Sha256::digest(&made.plaintext))),
    ]
}

/// A value as the specification prints it: indented, 32 bytes a line.
fn printed(name: &str, value: &str) -> String {
    let lines: Vec<String> = value
        .as_bytes()
        .chunks(64)
        .map(|line| format!("    {}\n", std::str::from_utf8(line).unwrap()))
        .collect();
    format!("{name}\n{}", lines.concat())
}

#[test]
fn the_worked_example_of_the_specification_is_what_the_rules_give() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/spec/native-v1.md")).unwrap();
    let expected: String = values().iter().map(|(name, value)| printed(name, value)).collect();
    assert!(text.contains(&expected), "section 10 must print:\n{expected}");
}

#[test]
fn the_product_derives_the_same_data_keys() {
    let made = &generator::bases()["password.img"];
    let key = strongroom::crypto::secret::VolumeKey::copy_of(&made.volume_key).unwrap();
    for region in [0, 1, 4095] {
        let ours = strongroom::format::native::data_key(&key, &made.uuid, Suite::Aes256Xts, region).unwrap();
        assert_eq!(
            ours.expose(),
            generator::data_key(&made.volume_key, &made.uuid, region),
            "region {region}"
        );
    }
}

/// A recovery key as section 5.1 writes it down: the groups, four to a line.
fn on_paper(key: &[u8; 32]) -> Vec<String> {
    let check = Sha256::digest([b"strongroom/v1/recovery-check".as_slice(), key].concat());
    let values = [key.as_slice(), &check[..2]].concat();
    let groups: Vec<String> = values
        .chunks(2)
        .map(|pair| format!("{:06}", 11 * (u32::from(pair[0]) + 256 * u32::from(pair[1]))))
        .collect();
    groups.chunks(4).map(|line| line.join("-")).collect()
}

// proves: NAT-REC-01 NAT-REC-02
#[test]
fn a_recovery_key_is_written_and_read_as_the_specification_shows() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/spec/native-v1.md")).unwrap();
    let lines = on_paper(&RECOVERY_KEY);
    let mut expected = printed("recovery key R", &hex::encode(RECOVERY_KEY));
    expected.push_str("on paper\n");
    expected.extend(lines.iter().map(|line| format!("    {line}\n")));
    assert!(text.contains(&expected), "section 5.1 must print:\n{expected}");

    let key = RecoveryKey::copy_of(&RECOVERY_KEY).unwrap();
    assert_eq!(RecoveryText::of(&key).unwrap().expose(), lines.join("-"));
    assert_eq!(recovery::decode(lines.join("\n").as_bytes()).unwrap().expose(), RECOVERY_KEY);
}
