//! What LUKS containers are tried with: ciphers, modes, sizes of keys and sectors, key derivations.

use std::fmt;

/// One kind of container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Combination {
    pub(crate) version: u8,
    pub(crate) cipher: &'static str,
    pub(crate) key_bits: u32,
    pub(crate) sector: u32,
    /// `argon2id`, `argon2i`, or PBKDF2's hash.
    pub(crate) kdf: &'static str,
}

const fn luks1(cipher: &'static str, key_bits: u32, hash: &'static str) -> Combination {
    Combination { version: 1, cipher, key_bits, sector: 512, kdf: hash }
}

const fn luks2(cipher: &'static str, key_bits: u32, sector: u32, kdf: &'static str) -> Combination {
    Combination { version: 2, cipher, key_bits, sector, kdf }
}

pub(crate) const COMBINATIONS: [Combination; 32] = [
    luks2("aes-xts-plain64", 512, 4096, "argon2id"),
    luks2("aes-xts-plain64", 256, 512, "sha256"),
    luks2("aes-xts-plain64", 512, 1024, "argon2i"),
    luks2("aes-xts-plain", 512, 512, "sha512"),
    luks2("aes-cbc-essiv:sha256", 256, 2048, "argon2id"),
    luks2("aes-cbc-essiv:sha256", 128, 512, "sha1"),
    luks2("aes-cbc-plain64", 256, 4096, "sha256"),
    luks2("serpent-xts-plain64", 512, 4096, "argon2id"),
    luks2("serpent-xts-plain64", 256, 512, "sha512"),
    luks2("serpent-xts-plain", 512, 512, "argon2i"),
    luks2("serpent-cbc-essiv:sha256", 256, 512, "argon2id"),
    luks2("serpent-cbc-plain64", 256, 2048, "sha256"),
    luks2("twofish-xts-plain64", 512, 2048, "argon2id"),
    luks2("twofish-xts-plain64", 256, 4096, "argon2i"),
    luks2("twofish-xts-plain", 512, 1024, "sha512"),
    luks2("twofish-cbc-essiv:sha256", 256, 512, "sha256"),
    luks2("twofish-cbc-plain64", 192, 512, "argon2id"),
    luks2("camellia-xts-plain64", 512, 4096, "sha512"),
    luks2("camellia-xts-plain64", 256, 1024, "argon2id"),
    luks2("camellia-xts-plain", 512, 512, "argon2id"),
    luks2("camellia-cbc-essiv:sha256", 256, 4096, "argon2i"),
    luks2("camellia-cbc-plain64", 128, 512, "sha1"),
    luks1("aes-xts-plain64", 512, "sha256"),
    luks1("aes-xts-plain", 256, "sha1"),
    luks1("aes-cbc-essiv:sha256", 256, "sha512"),
    luks1("aes-cbc-plain64", 128, "sha256"),
    luks1("serpent-xts-plain64", 512, "sha512"),
    luks1("serpent-cbc-essiv:sha256", 256, "sha1"),
    luks1("twofish-xts-plain64", 256, "sha256"),
    luks1("twofish-cbc-plain64", 256, "sha512"),
    luks1("camellia-xts-plain64", 512, "sha256"),
    luks1("camellia-cbc-essiv:sha256", 128, "sha1"),
];

impl Combination {
    /// How large a container with so much data is.
    pub(crate) fn container_size(&self, data: u64) -> u64 {
        data + if self.version == 1 { 4 << 20 } else { 16 << 20 }
    }

    /// The options with which cryptsetup makes such a container, at the least cost.
    pub(crate) fn cryptsetup_options(&self) -> String {
        let Self { version, cipher, key_bits, sector, kdf } = self;
        let kind = format!("--type luks{version} --cipher {cipher} --key-size {key_bits}");
        match (version, *kdf) {
            (1, hash) => format!("{kind} --hash {hash} --pbkdf-force-iterations 1000"),
            (_, "argon2i" | "argon2id") => format!(
                "{kind} --sector-size {sector} --pbkdf {kdf} --pbkdf-memory 32 --pbkdf-force-iterations 4 \
                 --pbkdf-parallel 1"
            ),
            (_, hash) => format!(
                "{kind} --sector-size {sector} --pbkdf pbkdf2 --hash {hash} --pbkdf-force-iterations 1000"
            ),
        }
    }
}

/// A name that is also that of a file.
impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cipher, key_bits, sector, kdf } = self;
        write!(f, "luks{version}-{}-{key_bits}-{sector}-{kdf}", cipher.replace(':', "-"))
    }
}
