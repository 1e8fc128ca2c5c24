//! Cipher names, as dm-crypt and cryptsetup write them: `aes-xts-plain64`, `aes-cbc-essiv:sha256`.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{
    crypto::{
        hash::HashKind,
        sector::{BlockCipher, IvMode, KeyError, Mode, SectorSpec},
    },
    error::{Error, ErrorKind},
    format::Finding,
    text::excerpt,
};

/// A cipher that a header names, with the length of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::format) struct Encryption {
    /// As the header has it.
    pub(in crate::format) name: String,
    /// The cipher that it stands for.
    pub(in crate::format) spec: SectorSpec,
    /// The size of its key in bytes; it fits.
    pub(in crate::format) key_len: usize,
}

/// Why a cipher is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// No cipher at all.
    #[error("{name} encrypts nothing, and any password opens it")]
    Null {
        /// As the header has it, fit to be shown.
        name: String,
    },
    /// Blocks of 64 bits, which repeat within one disk (Sweet32).
    #[error("{name} has blocks of 64 bits, too small for a disk")]
    SmallBlocks {
        /// As the header has it, fit to be shown.
        name: String,
    },
    /// A cipher that authenticates needs room for its tags.
    #[error("{name} stores tags beside the data (dm-integrity), which is not supported")]
    Authenticated {
        /// As the header has it, fit to be shown.
        name: String,
    },
    /// A cipher, mode or IV that is not on the list.
    #[error("the {part} of {name} is not supported")]
    Unknown {
        /// Which part.
        part: &'static str,
        /// As the header has it, fit to be shown.
        name: String,
    },
    /// A key that the cipher does not take.
    #[error("{name}: {reason}")]
    Key {
        /// As the header has it, fit to be shown.
        name: String,
        /// Why.
        reason: String,
    },
}

impl From<CipherError> for Error {
    fn from(error: CipherError) -> Self {
        Self::caused_by(ErrorKind::Unsupported, error)
    }
}

impl Encryption {
    /// The cipher of this name under keys of `key_len` bytes.
    ///
    /// # Errors
    /// Where it is not on the list of those used, or the key does not fit.
    pub(in crate::format) fn parse(name: &str, key_len: usize) -> Result<Self, CipherError> {
        let spec = parse(name)?;
        let key = |error: KeyError| CipherError::Key { name: excerpt(name), reason: error.to_string() };
        spec.check(key_len).map_err(key)?;
        Ok(Self { name: name.to_owned(), spec, key_len })
    }

    /// The cipher that a user wants for a new container: as cryptsetup writes it, or by its family (`aes-256-xts`,
    /// `serpent-256-cbc`), with keys of `key_bits` bits or of the usual size.
    ///
    /// # Errors
    /// `Usage`.
    pub(in crate::format) fn wished(name: Option<&str>, key_bits: Option<u32>) -> crate::Result<Self> {
        let usage = |reason: String| Error::new(ErrorKind::Usage, reason);
        let name = name.unwrap_or(USUAL);
        let (name, usual_bits) = match family(name) {
            Some((name, bits)) => (name, Some(bits)),
            None => (name.to_owned(), None),
        };
        let spec = parse(&name).map_err(|error| usage(error.to_string()))?;
        let usual_bits = usual_bits.unwrap_or(match spec.mode {
            Mode::Xts(_) => 512,
            Mode::LrwBenbi => 384,
            Mode::Cbc(_) | Mode::Ecb => 256,
        });
        let bits = key_bits.unwrap_or(usual_bits);
        if !bits.is_multiple_of(8) {
            return Err(usage(format!("a key of {bits} bits is no whole number of bytes")));
        }
        if name.splitn(3, '-').count() < 3 {
            return Err(usage(format!("{name} names no mode and IV")).with_hint(NAMES)); // L1-WRITE-01
        }
        let key_len = usize::try_from(bits / 8).unwrap_or(usize::MAX);
        let encryption = Self::parse(&name, key_len).map_err(|error| usage(error.to_string()))?;
        // L1-WRITE-01
        encryption.check_writable().map_err(|error| usage(error.reason().to_owned()))?;
        Ok(encryption)
    }

    /// Whether equal blocks of plaintext show as equal blocks of ciphertext: read, but never written.
    pub(in crate::format) fn shows_patterns(&self) -> bool {
        self.spec.mode == Mode::Ecb
    }

    /// What an examination says of a cipher that is only read.
    pub(in crate::format) fn finding(&self) -> Option<Finding> {
        self.check_writable().err().map(|error| Finding::warning("cipher", error.reason()))
    }

    /// Refuses writing under a cipher that shows patterns.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(in crate::format) fn check_writable(&self) -> crate::Result<()> {
        if !self.shows_patterns() {
            return Ok(());
        }
        let reason = format!("{} shows which blocks are equal, so nothing is written with it", self.name);
        Err(Error::new(ErrorKind::Unsupported, reason)
            .with_hint("--read-only opens it, to copy its content to a safe container"))
    }
}

/// The name and the key's bits that `CIPHER-BITS-MODE` stands for.
fn family(name: &str) -> Option<(String, u32)> {
    let mut parts = name.split('-');
    let (cipher, bits, mode) = (parts.next()?, parts.next()?, parts.next()?);
    let bits: u32 = bits.parse().ok().filter(|bits| [128, 192, 256].contains(bits))?;
    match (mode, parts.next()) {
        ("xts", None) => Some((format!("{cipher}-xts-plain64"), bits.saturating_mul(2))),
        ("cbc", None) => Some((format!("{cipher}-cbc-essiv:sha256"), bits)),
        _ => None,
    }
}

/// cryptsetup's default.
const USUAL: &str = "aes-xts-plain64";
const NAMES: &str = "for example aes-xts-plain64, or aes-256-xts";

/// `CIPHER`, `CIPHER-plain` (both of the time when CBC went without saying), `CIPHER-MODE` or `CIPHER-MODE-IV`.
fn parse(name: &str) -> Result<SectorSpec, CipherError> {
    let unknown = |part| CipherError::Unknown { part, name: excerpt(name) };
    let mut parts = name.splitn(3, '-');
    let (cipher, mode, iv) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let cipher = match cipher {
        "aes" => BlockCipher::Aes,
        "serpent" => BlockCipher::Serpent,
        "twofish" => BlockCipher::Twofish,
        "camellia" => BlockCipher::Camellia,
        "cipher_null" | "null" => return Err(CipherError::Null { name: excerpt(name) }),
        "cast5" | "blowfish" | "des" | "des3_ede" => {
            return Err(CipherError::SmallBlocks { name: excerpt(name) });
        }
        _ => return Err(unknown("cipher")),
    };
    let mode = match (mode, iv) {
        (None | Some("plain"), None) => Mode::Cbc(IvMode::Plain),
        (Some("cbc"), Some(iv)) => Mode::Cbc(iv_mode(iv).ok_or_else(|| unknown("IV"))?),
        (Some("xts"), Some(iv)) => Mode::Xts(iv_mode(iv).ok_or_else(|| unknown("IV"))?),
        (Some("lrw"), Some("benbi")) => Mode::LrwBenbi,
        (Some("ecb"), iv) if iv.is_none_or(|iv| iv == "null" || iv_mode(iv).is_some()) => Mode::Ecb,
        (Some("gcm" | "ccm"), _) => return Err(CipherError::Authenticated { name: excerpt(name) }),
        (Some("cbc" | "xts"), None) | (Some("lrw"), _) => return Err(unknown("IV")),
        _ => return Err(unknown("mode")),
    };
    Ok(SectorSpec { cipher, mode })
}

fn iv_mode(name: &str) -> Option<IvMode> {
    Some(match name {
        "plain" => IvMode::Plain,
        "plain64" => IvMode::Plain64,
        "plain64be" => IvMode::Plain64Be,
        "benbi" => IvMode::Benbi,
        _ => IvMode::Essiv(HashKind::from_name(name.strip_prefix("essiv:")?)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(name: &str, key_len: usize) -> Result<Mode, String> {
        Encryption::parse(name, key_len).map(|found| found.spec.mode).map_err(|error| error.to_string())
    }

    #[test]
    fn names_stand_for_modes() {
        // proves: L1-CIPHER-01
        for (name, key_len, expected) in [
            ("aes-xts-plain64", 64, Mode::Xts(IvMode::Plain64)),
            ("serpent-xts-plain", 32, Mode::Xts(IvMode::Plain)),
            ("twofish-cbc-plain64be", 24, Mode::Cbc(IvMode::Plain64Be)),
            ("camellia-cbc-essiv:sha256", 16, Mode::Cbc(IvMode::Essiv(HashKind::Sha256))),
            ("aes-lrw-benbi", 32, Mode::LrwBenbi),
            ("aes-cbc-benbi", 16, Mode::Cbc(IvMode::Benbi)),
            ("aes-plain", 16, Mode::Cbc(IvMode::Plain)),
            ("aes", 16, Mode::Cbc(IvMode::Plain)),
            ("aes-ecb", 16, Mode::Ecb),
            ("aes-ecb-plain64", 32, Mode::Ecb),
        ] {
            assert_eq!(mode(name, key_len), Ok(expected), "{name}");
        }
    }

    #[test]
    fn what_is_not_on_the_list_is_refused_with_the_reason() {
        // proves: L1-CIPHER-02
        for (name, key_len, reason) in [
            ("cipher_null-ecb", 32, "cipher_null-ecb encrypts nothing, and any password opens it"),
            ("null", 16, "null encrypts nothing, and any password opens it"),
            ("cast5-cbc-plain64", 16, "cast5-cbc-plain64 has blocks of 64 bits, too small for a disk"),
            (
                "aes-gcm-random",
                32,
                "aes-gcm-random stores tags beside the data (dm-integrity), which is not supported",
            ),
            (
                "xchacha12,aes-adiantum-plain64",
                32,
                "the cipher of xchacha12,aes-adiantum-plain64 is not supported",
            ),
            ("aes-ecb-\n", 32, "the mode of aes-ecb-\\n is not supported"),
            ("aes-ctr-plain64", 32, "the mode of aes-ctr-plain64 is not supported"),
            ("aes-cbc-null", 16, "the IV of aes-cbc-null is not supported"),
            ("aes-cbc-essiv:md5", 16, "the IV of aes-cbc-essiv:md5 is not supported"),
            ("aes-lrw-plain64", 32, "the IV of aes-lrw-plain64 is not supported"),
            ("aes-xts", 32, "the IV of aes-xts is not supported"),
            ("", 16, "the cipher of  is not supported"),
            ("aes-xts-plain64", 40, "aes-xts-plain64: a key of 40 bytes does not fit the cipher"),
            (
                "aes-cbc-essiv:sha1",
                16,
                "aes-cbc-essiv:sha1: the digests of sha1 do not fit the cipher as ESSIV keys",
            ),
        ] {
            assert_eq!(mode(name, key_len).unwrap_err(), reason);
        }
    }

    #[test]
    fn new_containers_take_names_of_both_kinds_and_no_old_or_unsafe_ones() {
        // proves: L1-WRITE-01
        let wished = |name: &str, bits| Encryption::wished(Some(name), bits);
        for (name, bits, expected, len) in [
            ("aes-256-xts", None, "aes-xts-plain64", 64),
            ("aes-128-xts", None, "aes-xts-plain64", 32),
            ("serpent-256-cbc", None, "serpent-cbc-essiv:sha256", 32),
            ("twofish-xts-plain64", None, "twofish-xts-plain64", 64),
            ("camellia-xts-plain64", Some(256), "camellia-xts-plain64", 32),
            ("aes-cbc-plain64", None, "aes-cbc-plain64", 32),
            ("aes-lrw-benbi", None, "aes-lrw-benbi", 48),
        ] {
            let found = wished(name, bits).unwrap();
            assert_eq!((found.name.as_str(), found.key_len), (expected, len), "{name}");
        }
        for (name, bits) in [
            ("aes", None),
            ("aes-plain", None),
            ("aes-ecb", None),
            ("aes-ecb-plain64", None),
            ("cipher_null-ecb-null", None),
            ("aes-xts-plain64", Some(300)),
            ("aes-xts-plain64", Some(257)),
            ("aes-512-xts", None),
        ] {
            assert_eq!(wished(name, bits).unwrap_err().kind(), ErrorKind::Usage, "{name}");
        }
    }

    #[test]
    fn ecb_is_read_and_never_written() {
        // proves: L1-CIPHER-03
        let ecb = Encryption::parse("aes-ecb", 16).unwrap();
        assert_eq!(ecb.check_writable().unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(Encryption::parse("aes-xts-plain64", 32).unwrap().check_writable().is_ok());
    }
}
