//! Block ciphers other than AES, many blocks at a time, in the shape of the `cipher` crate's traits, so that every mode takes them.
//!
//! Serpent and Camellia have kernels for what processors offer, one of which is chosen when the cipher is first used, and tested
//! before that. Twofish has one, without `unsafe`, for all.

mod backend;
mod camellia;
mod serpent;
#[cfg(target_arch = "x86_64")]
mod simd;
mod twofish;

use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncrypt, BlockSizeUser, InvalidLength, Key, KeyInit, KeySizeUser,
    consts::{U16, U32},
};

use self::backend::Kernel;
pub use self::backend::{Backend, Selection, Why, selection};
pub(super) use self::{camellia::Camellia, serpent::Serpent, twofish::Twofish};

/// A cipher with keys of 128, 192 and 256 bits and a choice of kernels.
trait Kernels: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt {
    /// Which one it is.
    const CIPHER: Cipher;

    /// Under a key of 16, 24 or 32 bytes.
    ///
    /// To be called where what it leaves on the stack is wiped.
    fn expand(kernel: Kernel, key: &[u8]) -> Self;
}

/// A cipher that has kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// Serpent.
    Serpent,
    /// Camellia (RFC 3713).
    Camellia,
}

impl Cipher {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Serpent, Self::Camellia];
}

/// Makes a cipher under a key with the kernel chosen for this machine.
macro_rules! keyed {
    ($($cipher:ident),*) => {$(
        impl BlockSizeUser for $cipher {
            type BlockSize = U16;
        }

        impl KeySizeUser for $cipher {
            type KeySize = U32;
        }

        impl KeyInit for $cipher {
            fn new(key: &Key<Self>) -> Self {
                Self::expand(backend::kernel_of(Self::CIPHER), key)
            }

            fn new_from_slice(key: &[u8]) -> Result<Self, InvalidLength> {
                if !matches!(key.len(), 16 | 24 | 32) {
                    return Err(InvalidLength);
                }
                Ok(Self::expand(backend::kernel_of(Self::CIPHER), key))
            }
        }
    )*};
}

keyed!(Serpent, Camellia);
