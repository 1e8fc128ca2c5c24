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

/// What old or foreign containers have, and nobody makes any more: read only by strongroom, never made.
pub(crate) const RARE: [Combination; 7] = [
    luks2("aes-cbc-plain", 256, 512, "sha256"),
    luks2("twofish-cbc-plain64be", 256, 4096, "sha256"),
    luks2("aes-cbc-benbi", 256, 512, "sha256"),
    luks2("aes-lrw-benbi", 384, 512, "sha256"),
    luks2("serpent-xts-plain64be", 512, 1024, "sha256"),
    luks1("serpent-lrw-benbi", 256, "sha1"),
    luks1("twofish-cbc-plain", 128, "sha512"),
];

impl Combination {
    pub(crate) fn is_aes(&self) -> bool {
        self.cipher.starts_with("aes-")
    }

    /// Whether qemu knows all of it.
    pub(crate) fn is_of_qemu(&self) -> bool {
        self.version == 1 && !self.cipher.starts_with("camellia-")
    }

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

    /// The options with which strongroom does.
    pub(crate) fn strongroom_options(&self) -> String {
        let Self { version, cipher, key_bits, sector, kdf } = self;
        let kind = format!("--format luks{version} --cipher {cipher} --key-size {key_bits}");
        match (version, *kdf) {
            (1, hash) => format!("{kind} --hash {hash} --kdf-iterations 1000"),
            (_, "argon2i" | "argon2id") => format!(
                "{kind} --sector-size {sector} --pbkdf {kdf} --kdf-memory 32K --kdf-passes 4 --kdf-lanes 1"
            ),
            (_, hash) => {
                format!("{kind} --sector-size {sector} --pbkdf pbkdf2 --hash {hash} --kdf-iterations 1000")
            }
        }
    }

    /// What `luksDump` must say of it, without its spaces.
    pub(crate) fn facts(&self) -> Vec<String> {
        let Self { cipher, key_bits, sector, kdf, .. } = self;
        if self.version == 1 {
            let (name, mode) = cipher.split_once('-').unwrap();
            return vec![
                format!("Ciphername:{name}"),
                format!("Ciphermode:{mode}"),
                format!("Hashspec:{kdf}"),
                format!("MKbits:{key_bits}"),
            ];
        }
        let mut facts = vec![format!("cipher:{cipher}"), format!("sector:{sector}[bytes]")];
        facts.push(format!("Key:{key_bits}bits"));
        facts.push(match *kdf {
            "argon2i" | "argon2id" => format!("PBKDF:{kdf}"),
            hash => format!("Hash:{hash}"),
        });
        facts
    }
}

/// A name that is also that of a file.
impl fmt::Display for Combination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, cipher, key_bits, sector, kdf } = self;
        write!(f, "luks{version}-{}-{key_bits}-{sector}-{kdf}", cipher.replace(':', "-"))
    }
}
