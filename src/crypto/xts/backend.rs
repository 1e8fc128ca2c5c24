use std::{fmt, sync::OnceLock};

#[cfg(target_arch = "x86_64")]
use super::simd;
use super::{AesXts, XtsKeyError};
use crate::{
    crypto::{
        SectorCipher, hash,
        selection::{self, forced, select},
    },
    units::{Sector, SectorSize},
};

/// What computes AES-XTS. All give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// 512-bit vectors of x86-64: VAES and VPCLMULQDQ with AVX-512.
    Vaes512,
    /// 256-bit vectors of x86-64: VAES and VPCLMULQDQ with AVX2.
    Vaes256,
    /// AES-NI of x86-64, eight blocks in flight.
    AesNi,
    /// The `aes` crate, with or without the processor's AES instructions. Runs everywhere.
    Portable,
}

impl Backend {
    /// All of them, the fastest first.
    pub const ALL: [Self; 4] = [Self::Vaes512, Self::Vaes256, Self::AesNi, Self::Portable];

    /// The name that `STRONGROOM_XTS_BACKEND` and machine-readable output know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vaes512 => "vaes512",
            Self::Vaes256 => "vaes256",
            Self::AesNi => "aesni",
            Self::Portable => "portable",
        }
    }

    /// Whether this processor has what it takes.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        if let Some(kernel) = self.kernel() {
            return kernel.supported().is_some();
        }
        self == Self::Portable
    }

    #[cfg(target_arch = "x86_64")]
    pub(super) const fn kernel(self) -> Option<&'static simd::Kernel> {
        match self {
            Self::Vaes512 => Some(&simd::VAES512),
            Self::Vaes256 => Some(&simd::VAES256),
            Self::AesNi => Some(&simd::AESNI),
            Self::Portable => None,
        }
    }

    /// Whether it computes what it should, for each key size: known answers, from one buffer to another and back in place.
    pub fn passes_self_test(self) -> bool {
        KNOWN_ANSWERS.iter().all(|&(key_len, answer)| {
            let xts = AesXts::with_backend(self, &COUNTING[..key_len]);
            xts.is_ok_and(|xts| known_answer(&xts) == Some(answer))
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which backend this process uses, and why. `STRONGROOM_XTS_BACKEND` may name it.
pub type Selection = selection::Selection<Backend>;

/// The reason for a [`Selection`].
pub type Why = selection::Why<Backend>;

/// Chooses and tests the backend when called first, and gives the same answer ever after.
///
/// # Errors
/// [`XtsKeyError::SelfTest`], where no backend passes its test.
pub fn selection() -> Result<Selection, XtsKeyError> {
    static SELECTION: OnceLock<Option<Selection>> = OnceLock::new();
    let chosen = SELECTION.get_or_init(|| {
        let forced = forced("STRONGROOM_XTS_BACKEND", &Backend::ALL, Backend::name);
        select(&Backend::ALL, forced, Backend::is_supported, Backend::passes_self_test)
    });
    chosen.ok_or(XtsKeyError::SelfTest)
}

/// The start of the digest of what two runs of sectors become, where they become themselves again.
///
/// The smallest and the largest sectors, so that there are several units, and several steps of a tweak.
fn known_answer(xts: &AesXts) -> Option<u64> {
    let plaintext = COUNTING.repeat(8192 / COUNTING.len());
    let mut runs = [SectorSize::B512, SectorSize::B4096].map(|size| (size, vec![0; plaintext.len()]));
    for (size, data) in &mut runs {
        xts.encrypt_into(&plaintext, data, *size, KNOWN_FIRST);
    }
    let digest = hash::sha256(&[&runs[0].1, &runs[1].1]);
    for (size, data) in &mut runs {
        xts.decrypt(data, *size, KNOWN_FIRST);
    }
    let are_plain_again = runs.iter().all(|(_, data)| *data == plaintext);
    digest.first_chunk().filter(|_| are_plain_again).map(|start| u64::from_be_bytes(*start))
}

/// Key and plaintext of the self-test: 0, 1, 2, ...
const COUNTING: [u8; 64] = {
    let mut bytes = [0; 64];
    let mut index = 0_u8;
    while index < 64 {
        bytes[index as usize] = index;
        index += 1;
    }
    bytes
};

/// A number whose encryption has carries to propagate.
const KNOWN_FIRST: Sector = Sector(0x0123_4567_89ab_cdff);

/// For each length of an XTS key, the answer. `xts-mode` agrees, in the tests.
const KNOWN_ANSWERS: [(usize, u64); 3] =
    [(32, 0xc06e_5da9_527e_7491), (48, 0xeb8e_665b_e854_12cb), (64, 0x39cc_c6d0_d5e3_e19d)];

#[cfg(test)]
mod tests {
    use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, KeyInit, consts::U16};
    use xts_mode::{Xts128, get_tweak_default};

    use super::*;

    #[test]
    fn every_supported_backend_passes_its_self_test() {
        for backend in Backend::ALL.into_iter().filter(|backend| backend.is_supported()) {
            assert!(backend.passes_self_test(), "{backend}");
        }
    }

    #[test]
    fn a_backend_that_is_not_supported_makes_no_key_and_passes_nothing() {
        for backend in Backend::ALL.into_iter().filter(|backend| !backend.is_supported()) {
            let refused = AesXts::with_backend(backend, &COUNTING).unwrap_err();
            assert!(matches!(refused, XtsKeyError::Backend(named) if named == backend));
            assert!(!backend.passes_self_test(), "{backend}");
        }
    }

    #[test]
    fn the_known_answers_are_those_of_the_oracle() {
        let answers = [oracle::<aes::Aes128>(32), oracle::<aes::Aes192>(48), oracle::<aes::Aes256>(64)];
        assert_eq!(answers, KNOWN_ANSWERS);
    }

    fn oracle<C>(key_len: usize) -> (usize, u64)
    where
        C: KeyInit + BlockCipherEncrypt + BlockCipherDecrypt + BlockSizeUser<BlockSize = U16>,
    {
        let (data, tweak) = COUNTING[..key_len].split_at(key_len / 2);
        let xts = Xts128::new(C::new_from_slice(data).unwrap(), C::new_from_slice(tweak).unwrap());
        let runs = [512, 4096].map(|size| {
            let mut data = COUNTING.repeat(128);
            xts.encrypt_area(&mut data, size, KNOWN_FIRST.0.into(), get_tweak_default);
            data
        });
        let digest = hash::sha256(&[&runs[0], &runs[1]]);
        (key_len, u64::from_be_bytes(*digest.first_chunk().unwrap()))
    }
}
