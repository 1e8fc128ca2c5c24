//! AES-XTS with every backend that runs here: IEEE 1619, NIST CAVP, Wycheproof, and as oracles the `xts-mode` crate and OpenSSL.

use std::{
    env,
    io::{Cursor, Read},
    process::Command,
    thread,
};

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16};
use openssl::{cipher::Cipher, cipher_ctx::CipherCtx};
use proptest::{prelude::*, test_runner::RngSeed};
use strongroom::{
    crypto::{
        SectorCipher,
        xts::{AesXts, Backend, Selection, Why, XtsKeyError, selection},
    },
    units::{Sector, SectorSize},
};
use xts_mode::{Xts128, get_tweak_default};

use crate::{bytes, fixture, is_valid, records, wycheproof};

/// The cipher for a key of 32, 48 or 64 bytes, with each backend that runs here.
fn ciphers(key: &[u8]) -> Vec<AesXts> {
    let supported = Backend::ALL.into_iter().filter(|backend| backend.is_supported());
    supported.map(|backend| AesXts::with_backend(backend, key).unwrap()).collect()
}

/// Asserts that one data unit becomes the other and back.
fn assert_unit(key: &[u8], tweak: u128, plaintext: &[u8], ciphertext: &[u8], what: &str) {
    for xts in ciphers(key) {
        let mut data = plaintext.to_vec();
        xts.encrypt_unit(&mut data, tweak);
        assert!(data == ciphertext, "{}: encrypting {what}: {}", xts.backend(), hex::encode(data));
        xts.decrypt_unit(&mut data, tweak);
        assert!(data == plaintext, "{}: decrypting {what}: {}", xts.backend(), hex::encode(data));
    }
}

/// Up to 16 bytes as a little-endian tweak.
fn tweak(iv: &[u8]) -> u128 {
    let mut tweak = [0; 16];
    tweak[..iv.len()].copy_from_slice(iv);
    u128::from_le_bytes(tweak)
}

#[test]
fn xts_gives_the_vectors_of_ieee_1619_annex_b() {
    let file = include_str!("../vectors/ieee1619.txt");
    let mut numbers = Vec::new();
    for record in records(file, "ciphertext") {
        let field = |name: &str| hex::decode(&record[name]).unwrap();
        let number: u32 = record["vector"].parse().unwrap();
        numbers.push(number);
        if number == 1 {
            assert!(matches!(AesXts::aes128(&field("key")), Err(XtsKeyError::EqualHalves)));
            continue;
        }
        let tweak = u128::from_str_radix(&record["tweak"], 16).unwrap();
        let what = format!("vector {number}");
        assert_unit(&field("key"), tweak, &field("plaintext"), &field("ciphertext"), &what);
    }
    assert_eq!(numbers, (1..=19).collect::<Vec<_>>());
}

#[test]
fn xts_gives_every_nist_cavp_case_of_whole_bytes() {
    let Some(file) = fixture("nist-cavp-XTSTestVectors.zip") else { return };
    let mut archive = zip::ZipArchive::new(Cursor::new(file)).unwrap();
    let (mut encrypted, mut decrypted, mut of_single_bits, mut files) = (0, 0, 0, 0);
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        if entry.is_dir() {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files += 1;
        let (encrypt, decrypt) = text.split_once("[DECRYPT]").unwrap();
        // A case ends with what its direction asks for.
        for (section, last) in [(encrypt, "CT"), (decrypt, "PT")] {
            for record in records(section, last) {
                let bits: usize = record["DataUnitLen"].parse().unwrap();
                if !bits.is_multiple_of(8) {
                    of_single_bits += 1;
                    continue;
                }
                let field = |name: &str| hex::decode(&record[name]).unwrap();
                let tweak = match record.get("DataUnitSeqNumber") {
                    Some(number) => number.parse().unwrap(),
                    None => tweak(&field("i")),
                };
                let what = format!("{} {last} {}", entry.name(), record["COUNT"]);
                assert_eq!(field("PT").len(), bits / 8, "{what}");
                assert_unit(&field("Key"), tweak, &field("PT"), &field("CT"), &what);
                if last == "CT" { encrypted += 1 } else { decrypted += 1 }
            }
        }
    }
    assert_eq!((files, encrypted, decrypted, of_single_bits), (4, 1400, 1400, 1200));
}

#[test]
fn xts_answers_every_wycheproof_case() {
    let Some(tests) = wycheproof("wycheproof-aes_xts.json") else { return };
    for (_, test) in &tests {
        assert!(is_valid(test));
        let (key, iv) = (bytes(test, "key"), bytes(test, "iv"));
        assert_unit(&key, tweak(&iv), &bytes(test, "msg"), &bytes(test, "ct"), &test["tcId"].to_string());
    }
    assert_eq!(tests.len(), 123);
}

/// The oracle's ciphertext of whole sectors, block by block.
fn oracle<C>(key: &[u8], data: &mut [u8], size: SectorSize, first: Sector)
where
    C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
{
    let (data_key, tweak_key) = key.split_at(key.len() / 2);
    let oracle = Xts128::new(C::new_from_slice(data_key).unwrap(), C::new_from_slice(tweak_key).unwrap());
    oracle.encrypt_area(data, size.bytes(), first.0.into(), get_tweak_default);
}

/// Sector numbers, most of them where a carry or a sign could go wrong.
fn first_sector() -> impl Strategy<Value = Sector> {
    let around = |at: u64| at - 40..at + 40;
    prop_oneof![
        0..100_u64,
        around(1 << 32),
        around(1 << 63),
        any::<u64>().prop_map(|n| n >> 1),
        (u64::MAX - 80)..(u64::MAX - 40)
    ]
    .prop_map(Sector)
}

fn sector_size() -> impl Strategy<Value = SectorSize> {
    prop::sample::select(vec![SectorSize::B512, SectorSize::B1024, SectorSize::B2048, SectorSize::B4096])
}

/// Bytes that no two places share the pattern of.
fn filled(len: usize, seed: u64) -> Vec<u8> {
    let words = (0..len.div_ceil(8)).scan(seed, |state, _| {
        *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        Some((*state ^ (*state >> 29)).to_le_bytes())
    });
    words.flatten().take(len).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        rng_seed: RngSeed::Fixed(1619),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_run_of_sectors_at_any_address_is_what_the_oracle_makes_of_it(
        key in prop::collection::vec(any::<u8>(), 64),
        key_len in prop::sample::select(vec![32, 48, 64]),
        size in sector_size(),
        sectors in 1..=40_usize,
        first in first_sector(),
        (from, to) in (0..64_usize, 0..64_usize),
        seed in any::<u64>(),
    ) {
        let plaintext = filled(sectors * size.bytes(), seed);
        let (key, mut expected) = (&key[..key_len], plaintext.clone());
        prop_assume!(key[..key.len() / 2] != key[key.len() / 2..]);
        match key_len {
            32 => oracle::<aes::Aes128>(key, &mut expected, size, first),
            48 => oracle::<aes::Aes192>(key, &mut expected, size, first),
            _ => oracle::<aes::Aes256>(key, &mut expected, size, first),
        }

        for xts in ciphers(key) {
            let (mut source, mut target) = (Placed::new(&plaintext, from), Placed::new(&expected, to));
            target.data().fill(0xee);
            xts.encrypt_into(source.data(), target.data(), size, first);
            prop_assert!(target.holds_only(&expected), "{}: encryption, out of place", xts.backend());
            prop_assert!(source.holds_only(&plaintext), "{}: encryption, source", xts.backend());
            xts.encrypt(source.data(), size, first);
            prop_assert!(source.holds_only(&expected), "{}: encryption, in place", xts.backend());

            target.data().fill(0xee);
            xts.decrypt_into(source.data(), target.data(), size, first);
            prop_assert!(target.holds_only(&plaintext), "{}: decryption, out of place", xts.backend());
            xts.decrypt(source.data(), size, first);
            prop_assert!(source.holds_only(&plaintext), "{}: decryption, in place", xts.backend());
        }
    }
}

/// Bytes at a distance from an address that every vector could start at, with guards around them.
struct Placed {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
}

impl Placed {
    const GUARD: usize = 64;

    fn new(content: &[u8], distance: usize) -> Self {
        let mut buffer = vec![0xa5; content.len() + distance + 3 * Self::GUARD];
        let start = Self::GUARD + buffer.as_ptr().align_offset(Self::GUARD) + distance;
        buffer[start..start + content.len()].copy_from_slice(content);
        Self { buffer, start, len: content.len() }
    }

    fn data(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.start + self.len]
    }

    /// Whether the bytes are those, and the guards whole.
    fn holds_only(&self, content: &[u8]) -> bool {
        let (before, data) = self.buffer.split_at(self.start);
        let (data, after) = data.split_at(self.len);
        data == content && before.iter().chain(after).all(|&byte| byte == 0xa5)
    }
}

#[test]
fn a_run_of_more_sectors_than_tweaks_are_encrypted_at_once_is_what_the_oracle_makes_of_it() {
    let key = filled(64, 7);
    for (size, sectors) in [(SectorSize::B512, 64), (SectorSize::B512, 2100), (SectorSize::B4096, 257)] {
        let plaintext = filled(sectors * size.bytes(), 8);
        let mut expected = plaintext.clone();
        oracle::<aes::Aes256>(&key, &mut expected, size, Sector(3));
        for xts in ciphers(&key) {
            let mut data = plaintext.clone();
            xts.encrypt(&mut data, size, Sector(3));
            assert!(data == expected, "{}: {sectors} sectors of {size}", xts.backend());
            xts.decrypt(&mut data, size, Sector(3));
            assert!(data == plaintext, "{}: {sectors} sectors of {size}", xts.backend());
        }
    }
}

#[test]
fn a_unit_of_any_length_is_what_the_oracle_makes_of_it() {
    let key = filled(48, 9);
    let (data_key, tweak_key) = key.split_at(24);
    let oracle = Xts128::new(
        aes::Aes192::new_from_slice(data_key).unwrap(),
        aes::Aes192::new_from_slice(tweak_key).unwrap(),
    );
    for len in 16..1200 {
        let tweak = u128::MAX - len as u128;
        let plaintext = filled(len, 10);
        let mut expected = plaintext.clone();
        oracle.encrypt_sector(&mut expected, Array(tweak.to_le_bytes()));
        assert_unit(&key, tweak, &plaintext, &expected, &format!("{len} bytes"));
    }
}

#[test]
fn a_unit_of_any_length_is_what_openssl_makes_of_it() {
    for (cipher, key) in [(Cipher::aes_128_xts(), filled(32, 11)), (Cipher::aes_256_xts(), filled(64, 12))] {
        let mut openssl = CipherCtx::new().unwrap();
        openssl.encrypt_init(Some(cipher), Some(&key), None).unwrap();
        for len in (16..1200).chain(4000..4200) {
            let tweak = u128::MAX / 3 + len as u128;
            let plaintext = filled(len, 13);
            openssl.encrypt_init(None, None, Some(&tweak.to_le_bytes())).unwrap();
            let mut expected = vec![0; len];
            openssl.cipher_update(&plaintext, Some(&mut expected)).unwrap();
            assert_unit(&key, tweak, &plaintext, &expected, &format!("{len} bytes"));
        }
    }
}

/// Runs itself again, as a process chooses its backend once.
#[test]
fn the_environment_names_the_backend_where_it_runs_here() {
    const NAME: &str = "STRONGROOM_XTS_BACKEND";
    if let Ok(name) = env::var(NAME) {
        let mut here = Backend::ALL.into_iter().filter(|backend| backend.is_supported());
        let forced = here.clone().find(|backend| backend.name() == name);
        let fastest = here.next().unwrap();
        let expected = match forced {
            Some(backend) => Selection { backend, why: Why::Forced },
            None => Selection { backend: fastest, why: Why::Fastest },
        };
        assert_eq!(selection().unwrap(), expected);
        assert_eq!(AesXts::aes256(&filled(64, 14)).unwrap().backend(), expected.backend);
        return;
    }
    for name in Backend::ALL.map(Backend::name).into_iter().chain(["nonsense"]) {
        let this = thread::current().name().unwrap().to_owned();
        let mut child = Command::new(env::current_exe().unwrap());
        let output = child.args(["--exact", &this]).env(NAME, name).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{name}: {printed}");
    }
}
