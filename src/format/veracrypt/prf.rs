//! From a password to a header key: which functions there are, and what they cost.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::Family;
use crate::{
    crypto::{hash::HashKind, kdf::Argon2Cost},
    error::{Error, ErrorKind, Result},
    format::KdfInfo,
};

/// A function that makes header keys of passwords: PBKDF2 with HMAC of a hash, or Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prf {
    /// SHA-512: VeraCrypt's default.
    Sha512,
    /// SHA-256.
    Sha256,
    /// BLAKE2s-256, since VeraCrypt 1.26.7.
    Blake2s,
    /// Whirlpool.
    Whirlpool,
    /// Streebog-512.
    Streebog,
    /// RIPEMD-160, up to VeraCrypt 1.26.7.
    Ripemd160,
    /// SHA-1: TrueCrypt 1 to 4.
    Sha1,
    /// Argon2id, since VeraCrypt 1.26.29.
    Argon2id,
}

/// What one derivation costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// PBKDF2.
    Pbkdf2 {
        /// The hash of its HMAC.
        hash: HashKind,
        /// Its iterations.
        iterations: u32,
    },
    /// Argon2id.
    Argon2id(Argon2Cost),
}

impl Prf {
    /// Every one, the likeliest first.
    pub const ALL: [Self; 8] = [
        Self::Sha512,
        Self::Sha256,
        Self::Blake2s,
        Self::Whirlpool,
        Self::Streebog,
        Self::Ripemd160,
        Self::Sha1,
        Self::Argon2id,
    ];

    /// The name that `--prf` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha512 => "sha512",
            Self::Sha256 => "sha256",
            Self::Blake2s => "blake2s",
            Self::Whirlpool => "whirlpool",
            Self::Streebog => "streebog",
            Self::Ripemd160 => "ripemd160",
            Self::Sha1 => "sha1",
            Self::Argon2id => "argon2id",
        }
    }

    /// Other names that people and programs have for it.
    pub const fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Sha512 => &["sha-512"],
            Self::Sha256 => &["sha-256"],
            Self::Blake2s => &["blake2s-256"],
            Self::Streebog => &["stribog512", "streebog512", "streebog-512"],
            Self::Ripemd160 => &["ripemd-160"],
            Self::Sha1 => &["sha-1"],
            Self::Whirlpool | Self::Argon2id => &[],
        }
    }

    /// The function of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|prf| prf.name() == name || prf.aliases().contains(&name))
    }

    /// What it costs to open a container of this family; `None` where the family does not have it. (VC-KDF-01 to -05)
    ///
    /// # Errors
    /// `Usage` for a PIM that there cannot be.
    pub fn cost(self, family: Family, is_boot: bool, pim: u32) -> Result<Option<Cost>> {
        check_pim(family, is_boot, pim)?;
        let pbkdf2 = |hash, iterations| Some(Cost::Pbkdf2 { hash, iterations });
        if family == Family::TrueCrypt {
            return Ok(match self {
                Self::Sha512 => pbkdf2(HashKind::Sha512, 1000),
                Self::Whirlpool => pbkdf2(HashKind::Whirlpool, 1000),
                Self::Ripemd160 => pbkdf2(HashKind::Ripemd160, if is_boot { 1000 } else { 2000 }),
                Self::Sha1 => pbkdf2(HashKind::Sha1, 2000),
                _ => None,
            });
        }
        let slow = |usual| if pim == 0 { usual } else { pim.saturating_mul(1000).saturating_add(15_000) };
        let by_place = |usual, boot| match (is_boot, pim) {
            (true, 0) => boot,
            (true, pim) => pim.saturating_mul(2048),
            (false, _) => slow(usual),
        };
        Ok(match self {
            Self::Sha512 => pbkdf2(HashKind::Sha512, slow(500_000)),
            Self::Whirlpool => pbkdf2(HashKind::Whirlpool, slow(500_000)),
            Self::Sha256 => pbkdf2(HashKind::Sha256, by_place(500_000, 200_000)),
            Self::Blake2s => pbkdf2(HashKind::Blake2s256, by_place(500_000, 200_000)),
            Self::Streebog => pbkdf2(HashKind::Streebog512, by_place(500_000, 200_000)),
            Self::Ripemd160 => pbkdf2(HashKind::Ripemd160, by_place(655_331, 327_661)),
            Self::Argon2id if !is_boot => Some(Cost::Argon2id(argon2_cost(pim))),
            Self::Argon2id | Self::Sha1 => None,
        })
    }
}

impl Cost {
    /// What `info` shows.
    pub(super) fn describe(self) -> KdfInfo {
        match self {
            Self::Pbkdf2 { hash, iterations } => KdfInfo {
                name: hash.pbkdf2_name(),
                memory: None,
                passes: None,
                lanes: None,
                iterations: Some(iterations),
            },
            Self::Argon2id(cost) => KdfInfo {
                name: "argon2id",
                memory: Some(u64::from(cost.memory_kib).saturating_mul(1024)),
                passes: Some(cost.passes),
                lanes: Some(cost.lanes),
                iterations: None,
            },
        }
    }
}

/// VC-KDF-02.
fn check_pim(family: Family, is_boot: bool, pim: u32) -> Result<()> {
    let usage = |reason: String| Err(Error::new(ErrorKind::Usage, reason));
    match (family, is_boot) {
        (Family::TrueCrypt, _) if pim != 0 => usage("TrueCrypt containers have no PIM".to_owned()),
        (Family::VeraCrypt, true) if pim > MAX_BOOT_PIM => {
            usage(format!("the PIM of an encrypted system is {MAX_BOOT_PIM} at most"))
        }
        (Family::VeraCrypt, false) if pim > MAX_PIM => usage(format!("a PIM is {MAX_PIM} at most")),
        _ => Ok(()),
    }
}

/// VC-KDF-05. One lane.
fn argon2_cost(pim: u32) -> Argon2Cost {
    let pim = if pim == 0 { ARGON2_USUAL_PIM } else { pim };
    let above_first = pim.saturating_sub(1);
    let memory_mib = above_first.saturating_mul(32).saturating_add(64).min(1024);
    let passes = if pim <= 31 {
        above_first.div_euclid(3).saturating_add(3)
    } else {
        pim.saturating_sub(31).saturating_add(13)
    };
    Argon2Cost { memory_kib: memory_mib.saturating_mul(1024), passes, lanes: 1 }
}

/// The highest PIM.
pub const MAX_PIM: u32 = 2_147_468;
/// The highest PIM of an encrypted system.
pub const MAX_BOOT_PIM: u32 = 65_535;
/// The PIM that Argon2id takes where none is given.
const ARGON2_USUAL_PIM: u32 = 12;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn iterations(prf: Prf, family: Family, is_boot: bool, pim: u32) -> Option<u32> {
        match prf.cost(family, is_boot, pim).unwrap()? {
            Cost::Pbkdf2 { iterations, .. } => Some(iterations),
            Cost::Argon2id(_) => panic!("no iterations"),
        }
    }

    #[test]
    fn truecrypt_iterates_a_few_thousand_times() {
        // proves: VC-KDF-01
        let usual = [Prf::Sha512, Prf::Whirlpool, Prf::Ripemd160, Prf::Sha1, Prf::Sha256, Prf::Streebog]
            .map(|prf| iterations(prf, Family::TrueCrypt, false, 0));
        assert_eq!(usual, [Some(1000), Some(1000), Some(2000), Some(2000), None, None]);
        assert_eq!(iterations(Prf::Ripemd160, Family::TrueCrypt, true, 0), Some(1000));
        assert_eq!(Prf::Argon2id.cost(Family::TrueCrypt, false, 0).unwrap(), None);
    }

    #[test]
    fn veracrypt_iterates_as_place_and_pim_say() {
        // proves: VC-KDF-03
        // proves: VC-KDF-04
        for (prf, usual, boot, with_pim, boot_with_pim) in [
            (Prf::Sha512, 500_000, 500_000, 500_000, 500_000),
            (Prf::Whirlpool, 500_000, 500_000, 500_000, 500_000),
            (Prf::Sha256, 500_000, 200_000, 500_000, 993_280),
            (Prf::Blake2s, 500_000, 200_000, 500_000, 993_280),
            (Prf::Streebog, 500_000, 200_000, 500_000, 993_280),
            (Prf::Ripemd160, 655_331, 327_661, 500_000, 993_280),
        ] {
            let found = [(false, 0), (true, 0), (false, 485), (true, 485)]
                .map(|(is_boot, pim)| iterations(prf, Family::VeraCrypt, is_boot, pim).unwrap());
            assert_eq!(found, [usual, boot, with_pim, boot_with_pim], "{prf:?}");
        }
        assert_eq!(iterations(Prf::Sha1, Family::VeraCrypt, false, 0), None);
    }

    #[test]
    fn argon2id_costs_what_the_pim_says() {
        // proves: VC-KDF-05
        for (pim, memory_mib, passes) in [
            (0, 416, 6),
            (1, 64, 3),
            (8, 288, 5),
            (12, 416, 6),
            (31, 1024, 13),
            (32, 1024, 14),
            (33, 1024, 15),
        ] {
            let cost = Prf::Argon2id.cost(Family::VeraCrypt, false, pim).unwrap();
            let expected = Argon2Cost { memory_kib: memory_mib * 1024, passes, lanes: 1 };
            assert_eq!(cost, Some(Cost::Argon2id(expected)), "{pim}");
        }
        assert_eq!(Prf::Argon2id.cost(Family::VeraCrypt, true, 0).unwrap(), None);
    }

    #[test]
    fn a_pim_that_there_cannot_be_is_refused() {
        // proves: VC-KDF-02
        for (family, is_boot, pim) in [
            (Family::TrueCrypt, false, 1),
            (Family::VeraCrypt, false, MAX_PIM + 1),
            (Family::VeraCrypt, true, MAX_BOOT_PIM + 1),
        ] {
            assert_eq!(Prf::Sha512.cost(family, is_boot, pim).unwrap_err().kind(), ErrorKind::Usage);
        }
        assert_eq!(iterations(Prf::Sha512, Family::VeraCrypt, false, MAX_PIM), Some(2_147_483_000));
    }

    #[test]
    fn every_name_stands_for_one_function() {
        for prf in Prf::ALL {
            assert_eq!(Prf::from_name(prf.name()), Some(prf));
            for alias in prf.aliases() {
                assert_eq!(Prf::from_name(alias), Some(prf), "{alias}");
            }
        }
        assert_eq!(Prf::from_name("md5"), None);
    }
}
