//! The worked example of the specification, computed anew.

use sha2::{Digest, Sha256};
use strongroom::crypto::{
    recovery::{self, RecoveryText},
    secret::RecoveryKey,
};

use strongroom::format::native::Suite;

use crate::generator::{self, KEYFILES, PASSWORD, RECOVERY_KEY};

/// What one block of section 10 prints: names and values in hexadecimal.
type Block = Vec<(&'static str, String)>;

/// Section 10.1.
fn password() -> Block {
    let made = &generator::bases()["password.img"];
    let input = generator::credentials(PASSWORD, &[]);
    let slot = &made.bytes[4096..6144];
    let sector = |number: usize| hex::encode(&made.bytes[65_536 + 4096 * number..][..32]);
    let data_key = |region| hex::encode(generator::data_key(&made.volume_key, &made.uuid, region));
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
        ("data key 0", data_key(0)),
        ("data key 1", data_key(1)),
        ("data key 4095", data_key(4095)),
        ("plaintext of sector 1, first 32 bytes", hex::encode(&made.plaintext[4096..4128])),
        ("ciphertext of sector 0, first 32 bytes", sector(0)),
        ("ciphertext of sector 1, first 32 bytes", sector(1)),
        ("SHA-256 of the whole volume", hex::encode(Sha256::digest(&made.plaintext))),
    ]
}

/// Section 10.2: keyslots of the other kinds, and the data key of the other suite.
fn other_keys() -> Block {
    let bases = generator::bases();
    let slot = |base: &str, number: usize| bases[base].bytes[4096 + 2048 * number..][..2048].to_vec();
    let input = generator::credentials(PASSWORD, &KEYFILES);
    let (keyfiles, recovery, fido2) =
        (slot("keyfiles.img", 0), slot("recovery.img", 1), slot("fido2.img", 1));
    let salt = |slot: &[u8]| slot[32..64].try_into().unwrap();
    let token = generator::first_token();
    let answer = token.hmac_secret(&fido2[240..272], false);
    let made = &bases["suite-2.img"];
    let key = generator::data_key_of(&made.volume_key, &made.uuid, 2, 0);
    let (data, plaintext) = (&made.bytes[81_920..], &made.plaintext);
    vec![
        ("keyslot of kind 2, salt", hex::encode(&keyfiles[32..64])),
        ("credentials I of kind 2", hex::encode(&input)),
        ("slot key S of kind 2", hex::encode(generator::slot_key(&input, &keyfiles[32..64]))),
        ("keyslot of kind 3, salt", hex::encode(&recovery[32..64])),
        ("recovery key R", hex::encode(RECOVERY_KEY)),
        (
            "slot key S of kind 3",
            hex::encode(generator::random_slot_key(
                &RECOVERY_KEY,
                &salt(&recovery),
                b"strongroom/v1/recovery-key",
            )),
        ),
        ("keyslot of kind 4, salt", hex::encode(&fido2[32..64])),
        ("hmac salt", hex::encode(&fido2[240..272])),
        ("CredRandom without user verification", token.without_uv.clone()),
        ("token's answer F", hex::encode(answer)),
        (
            "slot key S of kind 4",
            hex::encode(generator::random_slot_key(&answer, &salt(&fido2), b"strongroom/v1/fido2")),
        ),
        ("suite 2, volume key", hex::encode(made.volume_key)),
        ("suite 2, uuid", hex::encode(made.uuid)),
        ("suite 2, data key 0", hex::encode(key)),
        ("suite 2, plaintext of sector 1, first 32 bytes", hex::encode(&plaintext[512..544])),
        ("suite 2, ciphertext of sector 1, first 32 bytes", hex::encode(&data[512..544])),
    ]
}

/// Section 10.3: the preamble of a header file.
fn preamble() -> Block {
    let file = &generator::bases()["detached.header"].bytes;
    vec![("bytes 0 to 71", hex::encode(&file[..72])), ("checksum", hex::encode(&file[4064..4096]))]
}

/// Section 10.4: a container that is being re-encrypted, with a chunk in the journal.
fn reencryption() -> Block {
    let made = &generator::bases()["journaled.img"];
    let derived = |label: &[u8]| generator::hkdf(&made.volume_key, &made.uuid, label);
    let label = b"strongroom/v1/old-volume-key";
    let fields = [&made.bytes[184..188], &made.bytes[192..200]].concat();
    let aad = [label.as_slice(), &made.uuid, &fields].concat();
    let old_key = generator::open(
        &derived(label)[..32],
        &made.bytes[200..224],
        &aad,
        &made.bytes[224..288],
        &made.bytes[288..304],
    );
    let (record, journal) = (&made.bytes[65_536..69_632], &made.bytes[73_728..77_824]);
    vec![
        ("bytes 128 to 303 of the container", hex::encode(&made.bytes[128..304])),
        ("new volume key", hex::encode(made.volume_key)),
        ("wrapping key", hex::encode(&derived(label)[..32])),
        ("AAD of the old volume key", hex::encode(&aad)),
        ("old volume key", hex::encode(old_key)),
        ("record key", hex::encode(derived(b"strongroom/v1/reencryption-record"))),
        ("block key", hex::encode(&derived(b"strongroom/v1/reencryption-block")[..16])),
        ("chunk key", hex::encode(derived(b"strongroom/v1/reencryption-chunk"))),
        ("record 6, bytes 0 to 95", hex::encode(&record[..96])),
        ("record 6, MAC", hex::encode(&record[4032..])),
        ("journal of record 6, first 32 bytes", hex::encode(&journal[..32])),
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

fn specification() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/spec/native-v1.md")).unwrap()
}

#[test]
fn the_worked_example_of_the_specification_is_what_the_rules_give() {
    let text = specification();
    let mut missing = String::new();
    for block in [password(), other_keys(), preamble(), reencryption()] {
        let expected: String = block.iter().map(|(name, value)| printed(name, value)).collect();
        if !text.contains(&expected) {
            missing = format!("{missing}{expected}\n");
        }
    }
    assert!(missing.is_empty(), "section 10 must print:\n{missing}");
}

/// The container of section 10.1 byte for byte: 32 a line, without the lines of zeros.
fn dump() -> String {
    let made = &generator::bases()["password.img"];
    let lines = (0..).step_by(32).zip(made.bytes.chunks(32));
    let lines = lines.filter(|(_, bytes)| bytes.iter().any(|&byte| byte != 0));
    let lines = lines.map(|(offset, bytes)| format!("{offset:>6}  {}", hex::encode(bytes)));
    lines.chain([String::new()]).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_hex_file_beside_the_specification_is_the_whole_example() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/spec/native-v1-example.hex");
    if std::env::var_os("STRONGROOM_WRITE_VECTORS").is_some() {
        std::fs::write(path, dump()).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == dump(), "the hex file is another");
    let made = &generator::bases()["password.img"].bytes;
    let sum = format!("SHA-256 of these {} bytes\n    {}\n", made.len(), hex::encode(Sha256::digest(made)));
    assert!(specification().contains(&sum), "section 10.1 must print:\n{sum}");
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
    let text = specification();
    let lines = on_paper(&RECOVERY_KEY);
    let mut expected = printed("recovery key R", &hex::encode(RECOVERY_KEY));
    expected.push_str("on paper\n");
    expected.extend(lines.iter().map(|line| format!("    {line}\n")));
    assert!(text.contains(&expected), "section 5.1 must print:\n{expected}");

    let key = RecoveryKey::copy_of(&RECOVERY_KEY).unwrap();
    assert_eq!(RecoveryText::of(&key).unwrap().expose(), lines.join("-"));
    assert_eq!(recovery::decode(lines.join("\n").as_bytes()).unwrap().expose(), RECOVERY_KEY);
}
