use std::sync::Arc;

use super::{BlockCipher, IvMode, KeyError, Mode, SectorSpec};
use crate::crypto::{SectorCipher, hash::HashKind};

/// A sector cipher with the size of its key, under a name for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCipher {
    /// `aes-256-xts`: the block cipher, the bits of its own key, the mode.
    pub name: String,
    /// The cipher.
    pub spec: SectorSpec,
    /// The bytes of the whole key, as [`SectorSpec::keyed`] takes it.
    pub key_len: usize,
}

impl NamedCipher {
    /// The usual block ciphers in the usual modes, with the longest key; AES-XTS with the shortest
    /// as well. XTS first, the mode that new containers have.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::new(BlockCipher::Aes, MODES[0], 16)];
        for mode in MODES {
            all.extend(MEASURED.into_iter().map(|cipher| Self::new(cipher, mode, 32)));
        }
        all
    }

    fn new(cipher: BlockCipher, (mode_name, mode): (&str, Mode), cipher_len: usize) -> Self {
        let key_len = match mode {
            Mode::Xts(_) => 2 * cipher_len,
            Mode::Lrw(_) => cipher_len + super::lrw::TWEAK_KEY_LEN,
            Mode::Cbc(_) | Mode::Ecb | Mode::Adiantum(..) | Mode::Hctr2(_) => cipher_len,
        };
        let name = format!("{}-{}-{mode_name}", cipher.name(), 8 * cipher_len);
        Self { name, spec: SectorSpec { cipher, mode }, key_len }
    }

    /// The cipher under a key that protects nothing: to measure it.
    ///
    /// # Errors
    /// As [`SectorSpec::keyed`].
    pub fn keyed_to_measure(&self) -> Result<Arc<dyn SectorCipher>, KeyError> {
        let key: Vec<u8> = (0..=u8::MAX).cycle().take(self.key_len).collect();
        self.spec.keyed(&key, 0)
    }
}

/// The block ciphers that containers have most.
const MEASURED: [BlockCipher; 5] = [
    BlockCipher::Aes,
    BlockCipher::Serpent,
    BlockCipher::Twofish,
    BlockCipher::Camellia,
    BlockCipher::Kuznyechik,
];

/// The modes with the IVs that go with them most.
const MODES: [(&str, Mode); 3] = [
    ("xts", Mode::Xts(IvMode::Plain64)),
    ("cbc", Mode::Cbc(IvMode::Essiv(HashKind::Sha256))),
    ("lrw", Mode::Lrw(IvMode::Benbi)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Sector, SectorSize};

    #[test]
    fn every_cipher_can_be_keyed_and_says_what_computes_it() {
        for named in NamedCipher::all() {
            let cipher = named.keyed_to_measure().unwrap();
            let mut sector = [0; 512];
            cipher.encrypt(&mut sector, SectorSize::B512, Sector(0));
            assert_ne!(sector, [0; 512], "{}", named.name);
            assert!(!cipher.backend().is_empty(), "{}", named.name);
        }
    }

    #[test]
    fn names_are_unique_and_those_of_the_command_line() {
        let mut names: Vec<_> = NamedCipher::all().into_iter().map(|named| named.name).collect();
        assert!(names.starts_with(&["aes-128-xts".to_owned(), "aes-256-xts".to_owned()]));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
