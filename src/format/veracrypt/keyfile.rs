//! Keyfiles: what each adds to the password.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::io::{self, Read};

use zeroize::Zeroizing;

use super::Family;
use crate::{
    crypto::{
        crc::step,
        secret::{KeyfileDigest, LockedBytes, Password},
    },
    error::{Error, ErrorKind, Result},
};

/// What one keyfile adds to the password: the sums for a pool of 128 bytes. Reads at most the first MiB (VC-KEYFILE-01).
///
/// The contributions of several files add up in any order, and a pool of 64 bytes is the one of 128 folded. Whoever can choose
/// a keyfile can choose one that takes back what another adds; this is VeraCrypt's way, kept to open what it made.
///
/// # Errors
/// `InvalidData` for an empty file, which VeraCrypt refuses as well; what reading gave.
pub fn pool_contribution(file: impl Read) -> io::Result<KeyfileDigest> {
    let mut sums = LockedBytes::zeroed(POOL_LEN)?;
    let mut file = file.take(MAX_READ);
    let mut chunk = Zeroizing::new([0; 4096]);
    let (mut register, mut cursor, mut is_empty) = (!0, 0_usize, true);
    loop {
        let read = match file.read(&mut *chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        is_empty = false;
        for &byte in chunk.get(..read).unwrap_or_default() {
            register = step(register, byte);
            for part in register.to_be_bytes() {
                add(sums.as_mut_slice(), cursor, part);
                cursor = cursor.wrapping_add(1);
            }
        }
    }
    if is_empty {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the keyfile is empty"));
    }
    Ok(sums.into())
}

/// The password that goes into the derivation: the one typed, and on it what the keyfiles add (VC-KEYFILE-02, -03).
///
/// # Errors
/// `Credentials` for a password longer than any of this family.
pub(super) fn with_pool(
    password: &Password,
    keyfiles: &[KeyfileDigest],
    family: Family,
) -> Result<LockedBytes> {
    let (found, most) = (password.len(), family.max_password_len());
    if found > most {
        let reason = format!("a {} password has {most} bytes at most, this one has {found}", family.title());
        // VC-PW-01
        return Err(Error::new(ErrorKind::Credentials, reason)
            .with_hint("TrueCrypt and old VeraCrypt took the first 64 bytes of a password only; try those"));
    }
    let pool_len = if found <= SMALL_POOL_LEN { SMALL_POOL_LEN } else { POOL_LEN };
    let len = if keyfiles.is_empty() { found } else { pool_len };
    let mut mixed = LockedBytes::zeroed(len)?;
    for (place, &byte) in mixed.as_mut_slice().iter_mut().zip(password.expose()) {
        *place = byte;
    }
    for keyfile in keyfiles {
        for (cursor, &part) in keyfile.expose().iter().enumerate() {
            add(mixed.as_mut_slice(), cursor, part);
        }
    }
    Ok(mixed)
}

/// Adds one byte at the cursor, which starts again at the pool's end.
fn add(pool: &mut [u8], cursor: usize, part: u8) {
    let place = cursor.checked_rem(pool.len()).and_then(|index| pool.get_mut(index));
    if let Some(byte) = place {
        *byte = byte.wrapping_add(part);
    }
}

/// The pool of a password of more than 64 bytes.
const POOL_LEN: usize = 128;
/// The pool of all others.
const SMALL_POOL_LEN: usize = 64;
/// What of a keyfile counts.
const MAX_READ: u64 = 1 << 20;

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    /// As the format's description has it, with a pool of a given size.
    fn by_the_book(files: &[&[u8]], password: &[u8], pool_len: usize) -> Vec<u8> {
        let mut pool = vec![0_u8; pool_len];
        for file in files {
            let (mut crc, mut cursor) = (u32::MAX, 0);
            for &byte in file.iter().take(1 << 20) {
                crc ^= u32::from(byte);
                for _ in 0..8 {
                    crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
                }
                for shift in [24, 16, 8, 0] {
                    pool[cursor] = pool[cursor].wrapping_add((crc >> shift).to_le_bytes()[0]);
                    cursor = (cursor + 1) % pool_len;
                }
            }
        }
        for (sum, byte) in pool.iter_mut().zip(password) {
            *sum = sum.wrapping_add(*byte);
        }
        pool
    }

    fn mixed(files: &[&[u8]], password: &[u8]) -> Vec<u8> {
        let contributions: Vec<_> = files.iter().map(|file| pool_contribution(*file).unwrap()).collect();
        let password = Password::copy_of(password).unwrap();
        with_pool(&password, &contributions, Family::VeraCrypt).unwrap().as_slice().to_vec()
    }

    #[test]
    fn contributions_add_up_to_the_pool_of_the_description() {
        // proves: VC-KEYFILE-01
        // proves: VC-KEYFILE-02
        let (short, long): (&[u8], Vec<u8>) = (b"k", (0..=255).cycle().take((1 << 20) + 77).collect());
        for (password, pool_len) in
            [(&b""[..], 64), (&[b'a'; 64], 64), (&[b'a'; 65], 128), (&[b'a'; 128], 128)]
        {
            let expected = by_the_book(&[short, &long], password, pool_len);
            assert_eq!(mixed(&[short, &long], password), expected);
            assert_eq!(mixed(&[&long, short], password), expected);
        }
    }

    #[test]
    fn only_the_first_mebibyte_counts() {
        // proves: VC-KEYFILE-01
        let long = vec![7; (1 << 20) + 5];
        assert_eq!(mixed(&[&long], b"password"), mixed(&[&long[..1 << 20]], b"password"));
        assert_ne!(mixed(&[&long], b"password"), mixed(&[&long[..(1 << 20) - 1]], b"password"));
    }

    #[test]
    fn a_password_alone_is_itself() {
        // proves: VC-KEYFILE-03
        assert_eq!(mixed(&[], b"secret"), b"secret");
    }

    #[test]
    fn an_empty_keyfile_is_refused() {
        // proves: VC-KEYFILE-04
        assert_eq!(pool_contribution(io::empty()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_password_beyond_the_familys_limit_is_refused() {
        // proves: VC-PW-01
        for (family, most) in [(Family::TrueCrypt, 64), (Family::VeraCrypt, 128)] {
            let refuse = |len: usize| with_pool(&Password::copy_of(&vec![b'a'; len]).unwrap(), &[], family);
            assert_eq!(refuse(most).unwrap().len(), most);
            let error = refuse(most + 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Credentials);
            assert!(error.reason().contains(&format!("{most} bytes at most")), "{error}");
            assert!(error.hint().is_some_and(|hint| hint.contains("the first 64 bytes")), "{error}");
        }
    }
}
