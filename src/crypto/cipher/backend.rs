use std::{array, fmt, sync::OnceLock};

use aes::cipher::Array;

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::{Camellia, Cipher, Kernels, Serpent};
use crate::crypto::{
    hash,
    selection::{self, forced, select},
    xts::Block,
};

/// What computes a block cipher. All give the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// 512-bit vectors of x86-64: AVX-512 with VBMI and GFNI.
    Avx512,
    /// 256-bit vectors of x86-64: AVX2, with AES-NI.
    Avx2,
    /// Without `unsafe`. Runs everywhere.
    Portable,
}

/// A backend with the proof that it runs here.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kernel {
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    Portable,
}

impl Kernel {
    /// `None` where the processor lacks something.
    pub(super) fn of(backend: Backend) -> Option<Self> {
        match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Avx512 => Avx512::detect().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => Avx2::detect().map(Self::Avx2),
            Backend::Portable => Some(Self::Portable),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }
}

impl Backend {
    /// All of them, the fastest first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// The name that `STRONGROOM_CIPHER_BACKEND` and machine-readable output know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether this processor has what it takes.
    pub fn is_supported(self) -> bool {
        Kernel::of(self).is_some()
    }

    /// Whether it computes what it should: known answers, there and back.
    pub fn passes_self_test(self, cipher: Cipher) -> bool {
        let Some(kernel) = Kernel::of(self) else { return false };
        match cipher {
            Cipher::Serpent => passes::<Serpent>(kernel, &SERPENT_ANSWERS),
            Cipher::Camellia => passes::<Camellia>(kernel, &CAMELLIA_ANSWERS),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which backend this process uses for a cipher, and why. `STRONGROOM_CIPHER_BACKEND` may name it.
pub type Selection = selection::Selection<Backend>;

/// The reason for a [`Selection`].
pub type Why = selection::Why<Backend>;

/// Chooses and tests the backend of a cipher when called first, and gives the same answer ever after.
///
/// `None` where no backend gives right answers.
pub fn selection(cipher: Cipher) -> Option<Selection> {
    static SELECTIONS: [OnceLock<Option<Selection>>; Cipher::ALL.len()] =
        [const { OnceLock::new() }; Cipher::ALL.len()];
    let [serpent, camellia] = &SELECTIONS;
    let chosen = match cipher {
        Cipher::Serpent => serpent,
        Cipher::Camellia => camellia,
    };
    *chosen.get_or_init(|| {
        let forced = forced("STRONGROOM_CIPHER_BACKEND", &Backend::ALL, Backend::name);
        select(&Backend::ALL, forced, Backend::is_supported, |backend| backend.passes_self_test(cipher))
    })
}

/// The kernel of the chosen backend; where there is none, the safe one, which nobody is given: see `sector`.
pub(super) fn kernel_of(cipher: Cipher) -> Kernel {
    selection(cipher).and_then(|chosen| Kernel::of(chosen.backend)).unwrap_or(Kernel::Portable)
}

/// Whether the blocks of the self-test become what they should under keys of each length, and then themselves again.
///
/// They are as many as give each kernel whole groups and a part of one.
fn passes<C: Kernels>(kernel: Kernel, answers: &[(usize, u64)]) -> bool {
    answers.iter().all(|&(key_len, answer)| {
        let cipher = C::expand(kernel, &COUNTING[..key_len]);
        let mut blocks = counting_blocks();
        cipher.encrypt_blocks(&mut blocks);
        let digest = hash::sha256(&[Array::slice_as_flattened(&blocks)]);
        cipher.decrypt_blocks(&mut blocks);
        let are_plain_again = blocks == counting_blocks();
        are_plain_again && digest.first_chunk().is_some_and(|start| u64::from_be_bytes(*start) == answer)
    })
}

/// The first of the numbers 0, 1, 2, ..., as blocks.
fn counting_blocks() -> [Block; BLOCKS] {
    array::from_fn(|block| Array(array::from_fn(|byte| COUNTING[(16 * block + byte) % COUNTING.len()])))
}

/// Key and plaintext of the self-test: 0, 1, 2, ...
const COUNTING: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut index = 0_u8;
    while index < 255 {
        index += 1;
        bytes[index as usize] = index;
    }
    bytes
};

/// Blocks of the self-test.
const BLOCKS: usize = 75;

/// For each length of a key, the start of the digest of what the blocks become. The crates agree, in the tests.
const SERPENT_ANSWERS: [(usize, u64); 3] =
    [(16, 0x12ab_1eb1_90c9_985f), (24, 0x6b47_d741_f2af_c886), (32, 0xe4fd_141e_1dc3_27b1)];

/// As those of Serpent.
const CAMELLIA_ANSWERS: [(usize, u64); 3] =
    [(16, 0x7ed6_138f_2614_aded), (24, 0x2485_126a_bc9b_53d3), (32, 0x18e1_3277_ed00_06aa)];

#[cfg(test)]
mod tests {
    use aes::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16};

    use ::camellia::{Camellia128, Camellia192, Camellia256};

    use super::{super::Twofish, *};

    #[test]
    fn every_supported_backend_passes_its_self_tests() {
        for backend in Backend::ALL.into_iter().filter(|backend| backend.is_supported()) {
            for cipher in Cipher::ALL {
                assert!(backend.passes_self_test(cipher), "{backend} {cipher:?}");
            }
        }
    }

    #[test]
    fn a_backend_that_is_not_supported_passes_nothing() {
        for backend in Backend::ALL.into_iter().filter(|backend| !backend.is_supported()) {
            assert!(Cipher::ALL.iter().all(|&cipher| !backend.passes_self_test(cipher)), "{backend}");
        }
    }

    #[test]
    fn the_known_answers_are_those_of_the_crates() {
        assert_eq!(oracle::<serpent::Serpent, 3>([16, 24, 32]), SERPENT_ANSWERS);
        let [camellia] = oracle::<Camellia128, 1>([16]);
        assert_eq!(
            [camellia, oracle::<Camellia192, 1>([24])[0], oracle::<Camellia256, 1>([32])[0]],
            CAMELLIA_ANSWERS
        );
    }

    #[test]
    fn camellia_of_any_number_of_blocks_is_the_crates() {
        assert_is::<Camellia, Camellia128>(&[16]);
        assert_is::<Camellia, Camellia192>(&[24]);
        assert_is::<Camellia, Camellia256>(&[32]);
    }

    fn oracle<C: KeyInit + BlockCipherEncrypt<BlockSize = U16>, const N: usize>(
        lens: [usize; N],
    ) -> [(usize, u64); N] {
        lens.map(|len| {
            let cipher = C::new_from_slice(&COUNTING[..len]).unwrap();
            let mut blocks = counting_blocks();
            cipher.encrypt_blocks(&mut blocks);
            let digest = hash::sha256(&[Array::slice_as_flattened(&blocks)]);
            (len, u64::from_be_bytes(*digest.first_chunk().unwrap()))
        })
    }

    /// Any number of blocks, from less than a group of the narrowest kernel to several of the widest.
    fn assert_is<C: Kernels, O>(key_lens: &[usize])
    where
        O: KeyInit + BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt,
    {
        for (backend, kernel) in Backend::ALL.into_iter().filter_map(|it| Some((it, Kernel::of(it)?))) {
            for &key_len in key_lens {
                let key: Vec<u8> = (0..key_len).map(|n| u8::try_from(n * n % 251).unwrap()).collect();
                let (cipher, oracle) = (C::expand(kernel, &key), O::new_from_slice(&key).unwrap());
                assert_agree(&cipher, &oracle, &format!("{backend}, key of {key_len}"));
            }
        }
    }

    fn assert_agree<C, O>(cipher: &C, oracle: &O, what: &str)
    where
        C: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt,
        O: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt,
    {
        for len in 0..=150_usize {
            let plain: Vec<Block> = (0..len)
                .map(|n| Array((len * 1000 + n).to_le_bytes().repeat(2).try_into().unwrap()))
                .collect();
            let (mut ours, mut theirs) = (plain.clone(), plain.clone());
            cipher.encrypt_blocks(&mut ours);
            oracle.encrypt_blocks(&mut theirs);
            assert_eq!(ours, theirs, "encryption of {len} blocks, {what}");
            cipher.decrypt_blocks(&mut ours);
            assert_eq!(ours, plain, "decryption of {len} blocks, {what}");
        }
    }

    #[test]
    fn twofish_of_any_number_of_blocks_is_the_crates() {
        for key_len in [16, 24, 32] {
            let key: Vec<u8> = (0..key_len).map(|n| u8::try_from(n * n % 251).unwrap()).collect();
            let cipher = Twofish::new_from_slice(&key).unwrap();
            assert_agree(
                &cipher,
                &::twofish::Twofish::new_from_slice(&key).unwrap(),
                &format!("key of {key_len}"),
            );
        }
    }

    #[test]
    fn serpent_of_any_number_of_blocks_is_the_crates() {
        assert_is::<Serpent, serpent::Serpent>(&[16, 24, 32]);
    }
}
