//! The cipher suites of the data area (`spec/native-v1.md`, section 9). There is no null cipher.

use std::sync::Arc;

use crate::{
    crypto::{SectorCipher, xts::AesXts},
    error::{Error, ErrorKind, Result},
};

/// How sectors are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Suite {
    /// AES-256-XTS.
    #[default]
    Aes256Xts,
    /// AES-128-XTS: faster where the processor has no instructions for AES.
    Aes128Xts,
}

impl Suite {
    /// Every suite, the default first.
    pub const ALL: [Self; 2] = [Self::Aes256Xts, Self::Aes128Xts];

    /// The number in the superblock.
    pub const fn number(self) -> u32 {
        match self {
            Self::Aes256Xts => 1,
            Self::Aes128Xts => 2,
        }
    }

    /// The suite of that number; `None` where it is not known.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes256Xts => "aes-256-xts",
            Self::Aes128Xts => "aes-128-xts",
        }
    }

    /// The cipher as cryptsetup writes it.
    pub const fn cipher_name(self) -> &'static str {
        "aes-xts-plain64"
    }

    /// The bits of a data key, both halves.
    pub const fn key_bits(self) -> u32 {
        match self {
            Self::Aes256Xts => 512,
            Self::Aes128Xts => 256,
        }
    }

    /// The bytes of a data key, both halves.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Aes256Xts => 64,
            Self::Aes128Xts => 32,
        }
    }

    /// The cipher under `key`, which has [`Self::key_len`] bytes.
    ///
    /// # Errors
    /// `Damaged` where the halves of the key are equal (NAT-KEY-08).
    pub fn cipher(self, key: &[u8]) -> Result<Arc<dyn SectorCipher>> {
        let cipher = match self {
            Self::Aes256Xts => AesXts::aes256(key),
            Self::Aes128Xts => AesXts::aes128(key),
        };
        Ok(Arc::new(cipher.map_err(|error| Error::caused_by(ErrorKind::Damaged, error))?))
    }
}
