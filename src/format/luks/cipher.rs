//! Cipher names, as dm-crypt and cryptsetup write them: `aes-xts-plain64`, `aes-cbc-essiv:sha256`.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::borrow::Cow;

use crate::{
    crypto::{
        hash::HashKind,
        sector::{BlockCipher, IvMode, KeyError, Mode, Rounds, SectorSpec},
    },
    error::{Error, ErrorKind},
    format::{Finding, luks::way_in},
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
    /// The header is not all there.
    #[error("no cipher is named: the header is damaged, or never was one")]
    Unnamed,
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

impl CipherError {
    /// What opens a container with this cipher.
    const fn way_in(&self) -> Option<&'static str> {
        match self {
            Self::Null { .. } | Self::SmallBlocks { .. } => Some(way_in::TO_COPY),
            Self::Authenticated { .. } | Self::Unknown { .. } => Some(way_in::KERNEL),
            Self::Unnamed | Self::Key { .. } => None,
        }
    }
}

impl From<CipherError> for Error {
    fn from(error: CipherError) -> Self {
        let way = error.way_in();
        let error = Self::caused_by(ErrorKind::Unsupported, error);
        match way {
            Some(way) => error.with_hint(way),
            None => error,
        }
    }
}

impl Encryption {
    /// The cipher of this name under keys of `key_len` bytes.
    ///
    /// # Errors
    /// Where it is not on the list of those used, or the key does not fit.
    pub(in crate::format) fn parse(name: &str, key_len: usize) -> Result<Self, CipherError> {
        let (spec, named_bits) = parse(name)?;
        let key = |error: KeyError| CipherError::Key { name: excerpt(name), reason: error.to_string() };
        spec.check(key_len).map_err(key)?;
        let bits = spec.cipher_len(key_len).map(|len| len.saturating_mul(8));
        if named_bits.is_some() && named_bits != bits {
            return Err(key(KeyError::Length { len: key_len }));
        }
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
        let (spec, _) = parse(&name).map_err(|error| usage(error.to_string()))?;
        let (cipher_bits, twice): (u32, u32) =
            if spec.cipher == BlockCipher::Sm4 { (128, 256) } else { (256, 512) };
        let usual_bits = usual_bits.unwrap_or(match spec.mode {
            Mode::Xts(_) => twice,
            Mode::Lrw(_) => cipher_bits.saturating_add(128),
            Mode::Cbc(_) | Mode::Ecb | Mode::Adiantum(..) | Mode::Hctr2(_) => cipher_bits,
        });
        let bits = key_bits.unwrap_or(usual_bits);
        if !bits.is_multiple_of(8) {
            return Err(usage(format!("a key of {bits} bits is no whole number of bytes")));
        }
        if name.splitn(3, '-').count() < 3 {
            return Err(usage(format!("{name} names no mode and IV")).with_hint(NAMES)); // L1-WRITE-01
        }
        // L1-CIPHER-04: what is written has the one name that every program knows.
        let name = usual_name(spec);
        let key_len = usize::try_from(bits / 8).unwrap_or(usize::MAX);
        let encryption = Self::parse(&name, key_len).map_err(|error| usage(error.to_string()))?;
        // L1-WRITE-01
        encryption.check_writable().map_err(|error| usage(error.reason().to_owned()))?;
        Ok(encryption)
    }

    /// Whether equal blocks or sectors of plaintext show as equal ones of ciphertext: read, but never written.
    pub(in crate::format) fn shows_patterns(&self) -> bool {
        matches!(self.spec.mode.iv(), None | Some(IvMode::Null))
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
        let what = if self.spec.mode == Mode::Ecb { "blocks" } else { "sectors" };
        let reason = format!("{} shows which {what} are equal, so nothing is written with it", self.name);
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

/// `CIPHER`, `CIPHER-plain` (both of the time when CBC went without saying), `CIPHER-MODE` or `CIPHER-MODE-IV`, or the
/// kernel's own `capi:MODE(CIPHER)-IV`; in any case (L1-CIPHER-04). Gives the bits as well that the cipher's name says.
fn parse(name: &str) -> Result<(SectorSpec, Option<usize>), CipherError> {
    if name.is_empty() {
        return Err(CipherError::Unnamed);
    }
    let unknown = |part| CipherError::Unknown { part, name: excerpt(name) };
    let lower = name.to_ascii_lowercase();
    let Some((cipher, mode, iv)) = split(&lower) else { return Err(unknown("form")) };
    let (cipher, rounds, bits) = match (cipher, mode) {
        ("xchacha12,aes", Some("adiantum")) => (BlockCipher::Aes, Some(Rounds::Twelve), None),
        ("xchacha20,aes", Some("adiantum")) => (BlockCipher::Aes, Some(Rounds::Twenty), None),
        ("cipher_null" | "null", _) => return Err(CipherError::Null { name: excerpt(name) }),
        (cipher, _) if SMALL_BLOCKS.contains(&cipher) => {
            return Err(CipherError::SmallBlocks { name: excerpt(name) });
        }
        (cipher, _) => {
            let (cipher, bits) = block_cipher(cipher).ok_or_else(|| unknown("cipher"))?;
            (cipher, None, bits)
        }
    };
    let iv = iv.as_deref();
    let named_iv = || iv.and_then(iv_mode).ok_or_else(|| unknown("IV"));
    // ESSIV makes IVs of one block.
    let wide_iv = || {
        named_iv().and_then(|iv| match iv {
            IvMode::Essiv(_) => Err(unknown("IV")),
            iv => Ok(iv),
        })
    };
    let mode = match (mode, iv) {
        (None | Some("plain"), None) => Mode::Cbc(IvMode::Plain),
        (Some("cbc"), _) => Mode::Cbc(named_iv()?),
        (Some("xts"), _) => Mode::Xts(named_iv()?),
        (Some("lrw"), _) => Mode::Lrw(named_iv()?),
        (Some("ecb"), iv) if iv.is_none_or(|iv| iv_mode(iv).is_some()) => Mode::Ecb,
        (Some("adiantum"), _) => Mode::Adiantum(rounds.ok_or_else(|| unknown("cipher"))?, wide_iv()?),
        (Some("hctr2"), _) if cipher == BlockCipher::Aes => Mode::Hctr2(wide_iv()?),
        (Some("gcm" | "ccm"), _) => return Err(CipherError::Authenticated { name: excerpt(name) }),
        _ => return Err(unknown("mode")),
    };
    Ok((SectorSpec { cipher, mode }, bits))
}

/// Cipher, mode and IV, as a name has them.
type Parts<'a> = (&'a str, Option<&'a str>, Option<Cow<'a, str>>);

/// The parts of a name in lower case.
fn split(name: &str) -> Option<Parts<'_>> {
    let Some(kernel) = name.strip_prefix("capi:") else {
        let mut parts = name.splitn(3, '-');
        return Some((parts.next().unwrap_or_default(), parts.next(), parts.next().map(Cow::from)));
    };
    // ESSIV is a template around the mode there: essiv(cbc(aes),sha256).
    if let Some(inner) = kernel.strip_prefix("essiv(") {
        let (inner, hash) = inner.split_once("),")?;
        let (mode, cipher) = inner.split_once('(')?;
        let (hash, iv) = hash.split_once(')')?;
        return (iv == "-plain64").then(|| (cipher, Some(mode), Some(format!("essiv:{hash}").into())));
    }
    let (mode, rest) = kernel.split_once('(')?;
    let (cipher, iv) = rest.split_once(')')?;
    Some((cipher, Some(mode), iv.strip_prefix('-').map(Cow::from)))
}

/// The cipher of this name, and the bits of its key where the name has them (libgcrypt's `aes256`).
fn block_cipher(name: &str) -> Option<(BlockCipher, Option<usize>)> {
    let with_bits = [("128", 128), ("192", 192), ("256", 256)]
        .into_iter()
        .find_map(|(digits, bits)| Some((name.strip_suffix(digits)?, Some(bits))));
    let known =
        |name: &str| CIPHERS.iter().find(|(_, names)| names.contains(&name)).map(|(cipher, _)| *cipher);
    known(name).map(|cipher| (cipher, None)).or_else(|| {
        let (name, bits) = with_bits?;
        Some((known(name)?, bits))
    })
}

/// The ciphers that the kernel has for disks, by the names that it and the libraries give them.
const CIPHERS: [(BlockCipher, &[&str]); 7] = [
    (BlockCipher::Aes, &["aes", "rijndael"]),
    (BlockCipher::Serpent, &["serpent"]),
    (BlockCipher::Twofish, &["twofish"]),
    (BlockCipher::Camellia, &["camellia"]),
    (BlockCipher::Aria, &["aria"]),
    (BlockCipher::Sm4, &["sm4", "sms4"]),
    (BlockCipher::Cast6, &["cast6", "cast256"]),
];
const SMALL_BLOCKS: [&str; 11] =
    ["cast5", "cast128", "blowfish", "des", "des3_ede", "3des", "tripledes", "idea", "tea", "xtea", "khazad"];

/// IVs by name. All but ESSIV ignore what stands behind them, as dm-crypt does.
fn iv_mode(name: &str) -> Option<IvMode> {
    if let Some(hash) = name.strip_prefix("essiv:") {
        return Some(IvMode::Essiv(HashKind::from_name(hash)?));
    }
    let end = name.find([':', '-']).unwrap_or(name.len());
    Some(match name.get(..end)? {
        "plain" => IvMode::Plain,
        "plain64" => IvMode::Plain64,
        "plain64be" => IvMode::Plain64Be,
        "benbi" => IvMode::Benbi,
        "null" => IvMode::Null,
        _ => return None,
    })
}

/// The name in full, as dm-crypt takes it.
fn usual_name(spec: SectorSpec) -> String {
    let (mode, cipher) = match spec.mode {
        Mode::Xts(_) => ("xts", spec.cipher.name()),
        Mode::Cbc(_) => ("cbc", spec.cipher.name()),
        Mode::Lrw(_) => ("lrw", spec.cipher.name()),
        Mode::Ecb => ("ecb", spec.cipher.name()),
        Mode::Hctr2(_) => ("hctr2", spec.cipher.name()),
        Mode::Adiantum(Rounds::Twelve, _) => ("adiantum", "xchacha12,aes"),
        Mode::Adiantum(Rounds::Twenty, _) => ("adiantum", "xchacha20,aes"),
    };
    let Some(iv) = spec.mode.iv() else { return format!("{cipher}-{mode}") };
    format!("{cipher}-{mode}-{}", iv.name())
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
            ("aes-lrw-benbi", 32, Mode::Lrw(IvMode::Benbi)),
            ("aes-cbc-benbi", 16, Mode::Cbc(IvMode::Benbi)),
            ("aes-plain", 16, Mode::Cbc(IvMode::Plain)),
            ("aes", 16, Mode::Cbc(IvMode::Plain)),
            ("aes-ecb", 16, Mode::Ecb),
            ("aes-ecb-plain64", 32, Mode::Ecb),
            ("aes-lrw-plain64", 32, Mode::Lrw(IvMode::Plain64)),
            ("aes-cbc-null", 16, Mode::Cbc(IvMode::Null)),
            ("aes-cbc-essiv:md5", 16, Mode::Cbc(IvMode::Essiv(HashKind::Md5))),
            ("aes-cbc-essiv:wp256", 32, Mode::Cbc(IvMode::Essiv(HashKind::Whirlpool256))),
            ("xchacha12,aes-adiantum-plain64", 32, Mode::Adiantum(Rounds::Twelve, IvMode::Plain64)),
            ("xchacha20,aes-adiantum-plain64", 32, Mode::Adiantum(Rounds::Twenty, IvMode::Plain64)),
            ("aes-hctr2-plain64", 32, Mode::Hctr2(IvMode::Plain64)),
            ("sm4-xts-plain64", 32, Mode::Xts(IvMode::Plain64)),
            ("aria-cbc-essiv:sha256", 24, Mode::Cbc(IvMode::Essiv(HashKind::Sha256))),
        ] {
            assert_eq!(mode(name, key_len), Ok(expected), "{name}");
        }
    }

    #[test]
    fn arguments_that_dm_crypt_ignores_are_dropped_and_names_stand_in_any_case() {
        // proves: L1-CIPHER-04
        for (name, key_len, expected) in [
            ("aes-xts-plain64:sha256", 64, Mode::Xts(IvMode::Plain64)),
            ("aes-xts-plain:sha256", 64, Mode::Xts(IvMode::Plain)),
            ("aes-cbc-plain64be:1:2", 16, Mode::Cbc(IvMode::Plain64Be)),
            ("aes-lrw-benbi:sha512", 32, Mode::Lrw(IvMode::Benbi)),
            ("aes-cbc-null:x", 16, Mode::Cbc(IvMode::Null)),
            ("aes-xts-plain64-more", 64, Mode::Xts(IvMode::Plain64)),
            ("AES-XTS-plain64", 64, Mode::Xts(IvMode::Plain64)),
            ("Serpent-CBC-ESSIV:SHA256", 32, Mode::Cbc(IvMode::Essiv(HashKind::Sha256))),
            ("rijndael-cbc-essiv:sha2-256", 32, Mode::Cbc(IvMode::Essiv(HashKind::Sha256))),
            ("aes256-xts-plain64", 64, Mode::Xts(IvMode::Plain64)),
            ("capi:xts(aes)-plain64", 64, Mode::Xts(IvMode::Plain64)),
            ("capi:essiv(cbc(aes),sha256)-plain64", 32, Mode::Cbc(IvMode::Essiv(HashKind::Sha256))),
            ("capi:adiantum(xchacha12,aes)-plain64", 32, Mode::Adiantum(Rounds::Twelve, IvMode::Plain64)),
        ] {
            assert_eq!(mode(name, key_len), Ok(expected), "{name}");
        }
        assert!(mode("aes128-xts-plain64", 64).is_err_and(|error| error.contains("a key of 64 bytes")));
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
                "xchacha8,aes-adiantum-plain64",
                32,
                "the cipher of xchacha8,aes-adiantum-plain64 is not supported",
            ),
            ("aes-hctr2-essiv:sha256", 32, "the IV of aes-hctr2-essiv:sha256 is not supported"),
            ("kuznyechik-xts-plain64", 64, "the cipher of kuznyechik-xts-plain64 is not supported"),
            ("capi:xts", 64, "the form of capi:xts is not supported"),
            ("aes-ecb-\n", 32, "the mode of aes-ecb-\\n is not supported"),
            ("aes-ctr-plain64", 32, "the mode of aes-ctr-plain64 is not supported"),
            ("aes-cbc-lmk", 16, "the IV of aes-cbc-lmk is not supported"),
            ("aes-cbc-essiv:crc32", 16, "the IV of aes-cbc-essiv:crc32 is not supported"),
            ("aes-lrw", 32, "the IV of aes-lrw is not supported"),
            ("aes-xts", 32, "the IV of aes-xts is not supported"),
            ("", 16, "no cipher is named: the header is damaged, or never was one"),
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
    fn what_another_program_opens_is_refused_with_its_name() {
        // proves: L1-CIPHER-02
        for (name, way) in [
            ("cipher_null-ecb", way_in::TO_COPY),
            ("des3_ede-cbc-plain", way_in::TO_COPY),
            ("aes-gcm-random", way_in::KERNEL),
            ("aes-ctr-plain64", way_in::KERNEL),
            ("aes-cbc-eboiv", way_in::KERNEL),
            ("aes-cbc-lmk", way_in::KERNEL),
            ("mars-xts-plain64", way_in::KERNEL),
        ] {
            let error = Error::from(Encryption::parse(name, 32).unwrap_err());
            assert_eq!((error.kind(), error.hint()), (ErrorKind::Unsupported, Some(way)), "{name}");
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
            ("AES-XTS-plain64:sha256", None, "aes-xts-plain64", 64),
            ("sm4-xts-plain64", None, "sm4-xts-plain64", 32),
            ("xchacha20,aes-adiantum-plain64", None, "xchacha20,aes-adiantum-plain64", 32),
            ("aes-hctr2-plain64", None, "aes-hctr2-plain64", 32),
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
            ("aes-cbc-null", None),
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
        let null = Encryption::parse("aes-cbc-null", 16).unwrap();
        assert_eq!(null.check_writable().unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(Encryption::parse("aes-xts-plain64", 32).unwrap().check_writable().is_ok());
    }
}
