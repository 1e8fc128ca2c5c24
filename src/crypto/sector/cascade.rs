use std::sync::Arc;

use crate::{
    crypto::SectorCipher,
    units::{Sector, SectorSize},
};

/// Several ciphers one upon the other, as TrueCrypt and VeraCrypt have them: each sector passes through all of them, under
/// the same number. Decryption goes the other way round.
#[derive(Debug)]
pub struct Cascade {
    /// In encryption order.
    ciphers: Vec<Arc<dyn SectorCipher>>,
}

impl Cascade {
    /// Ciphers in encryption order; none leaves the data as they are.
    pub fn new(ciphers: Vec<Arc<dyn SectorCipher>>) -> Self {
        Self { ciphers }
    }

    /// Several ciphers as a cascade, one as itself.
    pub fn of(mut ciphers: Vec<Arc<dyn SectorCipher>>) -> Arc<dyn SectorCipher> {
        match (ciphers.pop(), ciphers.is_empty()) {
            (Some(only), true) => only,
            (last, _) => {
                ciphers.extend(last);
                Arc::new(Self::new(ciphers))
            }
        }
    }
}

impl SectorCipher for Cascade {
    fn encrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        for (piece, first) in data.chunks_mut(PIECE).zip(numbers(sector_size, first)) {
            for cipher in &self.ciphers {
                cipher.encrypt(piece, sector_size, first);
            }
        }
    }

    fn decrypt(&self, data: &mut [u8], sector_size: SectorSize, first: Sector) {
        for (piece, first) in data.chunks_mut(PIECE).zip(numbers(sector_size, first)) {
            for cipher in self.ciphers.iter().rev() {
                cipher.decrypt(piece, sector_size, first);
            }
        }
    }

    fn encrypt_into(&self, plaintext: &[u8], ciphertext: &mut [u8], sector_size: SectorSize, first: Sector) {
        assert_eq!(plaintext.len(), ciphertext.len(), "two buffers of different sizes");
        let Some((innermost, others)) = self.ciphers.split_first() else {
            return ciphertext.copy_from_slice(plaintext);
        };
        let pieces = plaintext.chunks(PIECE).zip(ciphertext.chunks_mut(PIECE));
        for ((from, to), first) in pieces.zip(numbers(sector_size, first)) {
            innermost.encrypt_into(from, to, sector_size, first);
            for cipher in others {
                cipher.encrypt(to, sector_size, first);
            }
        }
    }

    fn decrypt_into(&self, ciphertext: &[u8], plaintext: &mut [u8], sector_size: SectorSize, first: Sector) {
        assert_eq!(plaintext.len(), ciphertext.len(), "two buffers of different sizes");
        let Some((outermost, others)) = self.ciphers.split_last() else {
            return plaintext.copy_from_slice(ciphertext);
        };
        let pieces = ciphertext.chunks(PIECE).zip(plaintext.chunks_mut(PIECE));
        for ((from, to), first) in pieces.zip(numbers(sector_size, first)) {
            outermost.decrypt_into(from, to, sector_size, first);
            for cipher in others.iter().rev() {
                cipher.decrypt(to, sector_size, first);
            }
        }
    }
}

/// The number of the first sector of each piece.
fn numbers(sector_size: SectorSize, first: Sector) -> impl Iterator<Item = Sector> {
    let sectors = PIECE_U64 >> sector_size.shift();
    let mut next = first.0;
    std::iter::from_fn(move || {
        let number = next;
        next = next.wrapping_add(sectors);
        Some(Sector(number))
    })
}

/// What stays in the first caches from one cipher to the next: whole sectors of any size.
const PIECE: usize = 16 << 10;
const PIECE_U64: u64 = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::sector::{BlockCipher, IvMode, Mode, SectorSpec};

    fn cipher(cipher: BlockCipher, seed: u8) -> Arc<dyn SectorCipher> {
        let key: Vec<u8> = (seed..seed + 64).collect();
        SectorSpec { cipher, mode: Mode::Xts(IvMode::Plain64) }.keyed(&key, 0).unwrap()
    }

    fn chain() -> Vec<Arc<dyn SectorCipher>> {
        vec![
            cipher(BlockCipher::Aes, 1),
            cipher(BlockCipher::Twofish, 70),
            cipher(BlockCipher::Kuznyechik, 140),
        ]
    }

    #[test]
    fn a_cascade_is_its_ciphers_over_the_whole_one_after_another() {
        let plaintext: Vec<u8> = (0..=250).cycle().take(5 * 16384 + 1024).collect();
        for size in [SectorSize::B512, SectorSize::B1024] {
            let mut expected = plaintext.clone();
            for cipher in chain() {
                cipher.encrypt(&mut expected, size, Sector(77));
            }
            let cascade = Cascade::of(chain());
            let mut found = plaintext.clone();
            cascade.encrypt(&mut found, size, Sector(77));
            assert!(found == expected);
            cascade.decrypt(&mut found, size, Sector(77));
            assert!(found == plaintext);

            let mut into = vec![0; plaintext.len()];
            cascade.encrypt_into(&plaintext, &mut into, size, Sector(77));
            assert!(into == expected);
            cascade.decrypt_into(&expected, &mut into, size, Sector(77));
            assert!(into == plaintext);
        }
    }

    #[test]
    fn a_single_cipher_is_itself() {
        let (mut alone, mut chained) = ([7; 512], [7; 512]);
        cipher(BlockCipher::Serpent, 9).encrypt(&mut alone, SectorSize::B512, Sector(1));
        Cascade::of(vec![cipher(BlockCipher::Serpent, 9)]).encrypt(&mut chained, SectorSize::B512, Sector(1));
        assert_eq!(alone, chained);
    }
}
