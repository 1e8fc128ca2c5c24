//! The sector ciphers against cryptsetup's vectors, which the kernel computed: IV modes, sector sizes, ciphers.

use std::{env, process::Command, thread};

use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16};
use sha2::{Digest, Sha256};
use strongroom::{
    crypto::{
        cipher::{Backend, Cipher, Selection, Why, selection},
        hash::HashKind,
        kdf::{self, Argon2Cost},
        sector::{BlockCipher, Cascade, IvMode, Mode, SectorSpec},
    },
    units::{Sector, SectorSize},
};

use crate::{bytes, fixture, records};

/// A list of cryptsetup's vectors.
fn vectors(list: &str) -> Vec<serde_json::Value> {
    let Some(file) = fixture("cryptsetup-crypto-vectors.json") else { return Vec::new() };
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    file[list].as_array().unwrap().clone()
}

fn text<'a>(vector: &'a serde_json::Value, field: &str) -> &'a str {
    vector[field].as_str().unwrap_or_default()
}

fn number(vector: &serde_json::Value, field: &str) -> u32 {
    u32::try_from(vector[field].as_u64().unwrap()).unwrap()
}

fn block_cipher(name: &str) -> Option<BlockCipher> {
    Some(match name {
        "aes" => BlockCipher::Aes,
        "serpent" => BlockCipher::Serpent,
        "twofish" => BlockCipher::Twofish,
        "camellia" => BlockCipher::Camellia,
        "kuznyechik" => BlockCipher::Kuznyechik,
        _ => return None,
    })
}

fn iv_mode(name: &str) -> Option<IvMode> {
    Some(match name {
        "plain" => IvMode::Plain,
        "plain64" => IvMode::Plain64,
        "plain64be" => IvMode::Plain64Be,
        "essiv:sha256" => IvMode::Essiv(HashKind::Sha256),
        "benbi" => IvMode::Benbi,
        _ => return None,
    })
}

#[test]
fn iv_modes_at_each_sector_size_are_the_kernels() {
    let mut done = 0;
    for vector in vectors("cipher_iv") {
        let Some(iv) = iv_mode(text(&vector, "iv")).filter(|_| !vector["large_iv"].as_bool().unwrap()) else {
            continue;
        };
        let spec = SectorSpec { cipher: BlockCipher::Aes, mode: Mode::Cbc(iv) };
        let offset = text(&vector, "iv_offset").parse().unwrap();
        let cipher = spec.keyed(&bytes(&vector, "key"), offset).unwrap();
        let size = SectorSize::try_from(number(&vector, "sector_size")).unwrap();
        let mut data = vec![0; 8192];
        cipher.encrypt(&mut data, size, Sector(0));
        assert_eq!(hex::encode(Sha256::digest(&data)), text(&vector, "ciphertext_sha256"), "{vector}");

        let (sector_len, half) = (size.bytes(), 8192 / size.bytes() / 2);
        cipher.decrypt(&mut data[half * sector_len..], size, Sector(u64::try_from(half).unwrap()));
        cipher.decrypt(&mut data[..half * sector_len], size, Sector(0));
        assert_eq!(data, vec![0; 8192], "decrypting in two halves: {vector}");
        done += 1;
    }
    assert!(done == 20 || fixture("cryptsetup-crypto-vectors.json").is_none(), "{done}");
}

#[test]
fn each_block_cipher_is_the_kernels() {
    let mut done = 0;
    for vector in vectors("cipher") {
        let (Some(cipher), "ecb") = (block_cipher(text(&vector, "cipher")), text(&vector, "mode")) else {
            continue;
        };
        let cipher = SectorSpec { cipher, mode: Mode::Ecb }.keyed(&bytes(&vector, "key"), 0).unwrap();
        let (plain, ciphertext) = (bytes(&vector, "plaintext"), bytes(&vector, "ciphertext"));
        let mut sector = plain.repeat(512 / plain.len());
        cipher.encrypt(&mut sector, SectorSize::B512, Sector(0));
        assert_eq!(hex::encode(&sector[..plain.len()]), hex::encode(&ciphertext), "{vector}");
        cipher.decrypt(&mut sector, SectorSize::B512, Sector(9));
        assert_eq!(hex::encode(&sector[..plain.len()]), hex::encode(&plain), "{vector}");
        done += 1;
    }
    assert!(done == 8 || fixture("cryptsetup-crypto-vectors.json").is_none(), "{done}");
}

#[test]
fn a_cascade_of_xts_is_the_oracles_one_after_another() {
    let keys: Vec<u8> = (0..192).collect();
    let plain: Vec<u8> = (0..40_960_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let mut expected = plain.clone();
    for (sector, number) in expected.chunks_mut(512).zip(900_u128..) {
        oracle::<aes::Aes256>(&keys[..64]).encrypt_sector(sector, number.to_le_bytes().into());
        oracle::<kuznyechik::Kuznyechik>(&keys[64..128]).encrypt_sector(sector, number.to_le_bytes().into());
        oracle::<serpent::Serpent>(&keys[128..]).encrypt_sector(sector, number.to_le_bytes().into());
    }
    let ciphers =
        [BlockCipher::Aes, BlockCipher::Kuznyechik, BlockCipher::Serpent].into_iter().zip(keys.chunks(64));
    let mode = Mode::Xts(IvMode::Plain64);
    let keyed = ciphers.map(|(cipher, key)| SectorSpec { cipher, mode }.keyed(key, 0).unwrap()).collect();
    let cascade = Cascade::of(keyed);
    let mut data = plain.clone();
    cascade.encrypt(&mut data, SectorSize::B512, Sector(900));
    assert!(data == expected);
    cascade.decrypt(&mut data, SectorSize::B512, Sector(900));
    assert!(data == plain);
}

/// Botan's lists have keys of 128, 192 and 256 bits; Kuznyechik has 256.
#[test]
fn each_key_length_of_each_cipher_is_the_one_published() {
    for (file, cipher, key_lens) in [
        ("botan-serpent.vec", BlockCipher::Serpent, &[16, 24, 32][..]),
        ("botan-twofish.vec", BlockCipher::Twofish, &[16, 24, 32]),
        ("botan-camellia.vec", BlockCipher::Camellia, &[16, 24, 32]),
        ("botan-kuznyechik.vec", BlockCipher::Kuznyechik, &[32]),
    ] {
        let Some(list) = fixture(file) else { return };
        let mut lengths = std::collections::BTreeSet::new();
        for record in records(std::str::from_utf8(&list).unwrap(), "Out") {
            let field = |name: &str| hex::decode(&record[name]).unwrap();
            let (key, plain, ciphertext) = (field("Key"), field("In"), field("Out"));
            let spec = SectorSpec { cipher, mode: Mode::Ecb };
            if spec.check(key.len()).is_err() || plain.len() > 512 {
                continue;
            }
            let mut sector = plain.clone();
            sector.resize(512, 0);
            let keyed = spec.keyed(&key, 0).unwrap();
            keyed.encrypt(&mut sector, SectorSize::B512, Sector(0));
            assert_eq!(hex::encode(&sector[..plain.len()]), hex::encode(&ciphertext), "{file}: {record:?}");
            keyed.decrypt(&mut sector, SectorSize::B512, Sector(0));
            assert_eq!(hex::encode(&sector[..plain.len()]), hex::encode(&plain), "{file}: {record:?}");
            lengths.insert(key.len());
        }
        assert!(lengths.iter().eq(key_lens), "{file}: {lengths:?}");
    }
}

/// A process chooses its backend once. So each one is tried in a process of its own, with all vectors.
#[test]
fn each_backend_that_the_environment_names_is_used_and_gives_the_published_vectors() {
    const NAME: &str = "STRONGROOM_CIPHER_BACKEND";
    const VECTORS: [&str; 4] = [
        "sector::each_block_cipher_is_the_kernels",
        "sector::each_key_length_of_each_cipher_is_the_one_published",
        "sector::a_cascade_of_xts_is_the_oracles_one_after_another",
        "sector::xts_with_each_cipher_is_the_oracles",
    ];
    if let Ok(name) = env::var(NAME) {
        let named = Backend::ALL.into_iter().find(|backend| backend.name() == name);
        let forced = named.filter(|backend| backend.is_supported());
        let fastest = Backend::ALL.into_iter().find(|backend| backend.is_supported()).unwrap();
        let expected = match forced {
            Some(backend) => Selection { backend, why: Why::Forced },
            None => Selection { backend: fastest, why: Why::Fastest },
        };
        assert!(Cipher::ALL.iter().all(|&cipher| selection(cipher) == Some(expected)), "{expected:?}");
        return;
    }
    for name in Backend::ALL.map(Backend::name).into_iter().chain(["nonsense"]) {
        let this = thread::current().name().unwrap().to_owned();
        let mut child = Command::new(env::current_exe().unwrap());
        let output = child.args(["--exact", &this]).args(VECTORS).env(NAME, name).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("5 passed"), "{name}: {printed}");
    }
}

#[test]
fn xts_with_each_cipher_is_the_oracles() {
    let key: Vec<u8> = (0..64).collect();
    let plain: Vec<u8> = (0..2048_u32).map(|n| (n % 253).to_le_bytes()[0]).collect();
    let spec = |cipher| SectorSpec { cipher, mode: Mode::Xts(IvMode::Plain64) }.keyed(&key, 5).unwrap();
    let area = |encrypt: &dyn Fn(&mut [u8], u128)| {
        let mut data = plain.clone();
        for (sector, number) in data.chunks_mut(512).zip(5 + 70..) {
            encrypt(sector, number);
        }
        data
    };
    let serpent = oracle::<serpent::Serpent>(&key);
    let twofish = oracle::<twofish::Twofish>(&key);
    let camellia = oracle::<camellia::Camellia256>(&key);
    for (cipher, expected) in [
        (BlockCipher::Serpent, area(&|data, at| serpent.encrypt_sector(data, at.to_le_bytes().into()))),
        (BlockCipher::Twofish, area(&|data, at| twofish.encrypt_sector(data, at.to_le_bytes().into()))),
        (BlockCipher::Camellia, area(&|data, at| camellia.encrypt_sector(data, at.to_le_bytes().into()))),
    ] {
        let mut data = plain.clone();
        spec(cipher).encrypt(&mut data, SectorSize::B512, Sector(70));
        assert_eq!(data, expected, "{cipher:?}");
        spec(cipher).decrypt(&mut data, SectorSize::B512, Sector(70));
        assert_eq!(data, plain, "{cipher:?}");
    }
}

fn oracle<C>(key: &[u8]) -> xts_mode::Xts128<C>
where
    C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
{
    xts_mode::Xts128::new(C::new_from_slice(&key[..32]).unwrap(), C::new_from_slice(&key[32..]).unwrap())
}

/// Values from the draft of IEEE P1619 of 2005: the block number is counted from 1, so block 1 opens sector 0 and block
/// 2^33 ends sector 2^28 - 1.
#[test]
fn lrw_is_the_drafts() {
    for (key, sector, block, ciphertext) in [
        (
            "4562ac25f828176d4c268414b5680185258e2a05e73e9d03ee5a830ccc094c87",
            0,
            0,
            "f1b273cd65a3df5fe95d489254634eb8",
        ),
        (
            "59704714f557478cd779e80f548879440d48f0b7b15a53ea1caa6b29c2cafbaf",
            0,
            1,
            "00c82bae95bbcde5274f0769b260e136",
        ),
        (
            "d82a9134b26a565030fe69e2377f9847cdf90b160c648fb6b00d0d1bae85871f",
            (1 << 28) - 1,
            31,
            "76322183ed8ff182f9596203690e5e01",
        ),
        (
            "fb7615b23d80891dd470980bc79584c8b2fb64ce6097878d17fce45a49e830b7\
             6e7817e72d5e12d46064047af12f9e0c",
            (1 << 28) - 1,
            31,
            "5b908ec1abdd675f3d698a9553c89ce5",
        ),
    ] {
        let spec = SectorSpec { cipher: BlockCipher::Aes, mode: Mode::Lrw(IvMode::Benbi) };
        let cipher = spec.keyed(&hex::decode(key).unwrap(), 0).unwrap();
        let plain = b"0123456789ABCDEF".repeat(32);
        let mut data = plain.clone();
        cipher.encrypt(&mut data, SectorSize::B512, Sector(sector));
        assert_eq!(hex::encode(&data[block * 16..][..16]), ciphertext, "{key}");
        cipher.decrypt(&mut data, SectorSize::B512, Sector(sector));
        assert_eq!(data, plain, "{key}");
    }
}

#[test]
fn pbkdf2_and_argon2_are_cryptsetups() {
    let mut done = 0;
    for vector in vectors("kdf") {
        // 16 million iterations say nothing that 4096 do not.
        if number(&vector, "iterations") > 100_000 {
            continue;
        }
        let (password, salt, output) =
            (bytes(&vector, "password"), bytes(&vector, "salt"), bytes(&vector, "output"));
        let cost = || Argon2Cost {
            memory_kib: number(&vector, "memory_kib"),
            passes: number(&vector, "iterations"),
            lanes: number(&vector, "parallel"),
        };
        let key = match text(&vector, "kdf") {
            "argon2i" => kdf::argon2i(&password, &salt, &cost(), output.len()),
            "argon2id" => kdf::argon2id(&password, &salt, &cost(), output.len()),
            _ => {
                let hash = HashKind::from_name(text(&vector, "hash")).unwrap();
                kdf::pbkdf2(hash, &password, &salt, number(&vector, "iterations"), output.len())
            }
        };
        assert_eq!(hex::encode(key.unwrap().expose()), hex::encode(&output), "{vector}");
        done += 1;
    }
    assert!(done == 20 || fixture("cryptsetup-crypto-vectors.json").is_none(), "{done}");
}
