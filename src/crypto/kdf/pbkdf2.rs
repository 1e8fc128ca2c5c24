//! PBKDF2 with HMAC (RFC 8018, 5.2), as a whole or block by block.

use std::ops::ControlFlow;

use hmac::{
    KeyInit,
    digest::{FixedOutput, Update},
};
use zeroize::Zeroize;

use crate::{
    crypto::{hash::HashKind, secret::DerivedKey},
    sys::memory::LockedBytes,
};

/// Derives `len` bytes from a password by PBKDF2 with HMAC (RFC 8018, 5.2).
///
/// Takes `iterations` as they are: a number that comes from a container goes through
/// [`KdfLimits::check_iterations`](super::KdfLimits::check_iterations) first. Zero counts as one.
///
/// # Errors
/// The kernel's, where there is no memory for the key.
pub fn pbkdf2(
    hash: HashKind,
    password: &[u8],
    salt: &[u8],
    iterations: u32,
    len: usize,
) -> crate::Result<DerivedKey> {
    let mut key = LockedBytes::zeroed(len)?;
    let _ = pbkdf2_blocks(hash, password, salt, iterations, 0, key.as_mut_slice(), &|| false);
    Ok(key.into())
}

/// Fills `out` with what [`pbkdf2()`] gives from block `first` on, counted from 0. A block is as long as a digest, and does
/// not depend on the others: several can be computed side by side.
///
/// `is_over` is asked every few milliseconds: each time that [`BETWEEN_QUESTIONS`] more iterations of a block are done. Once it
/// says yes, what is in `out` means nothing.
pub fn pbkdf2_blocks(
    hash: HashKind,
    password: &[u8],
    salt: &[u8],
    iterations: u32,
    first: u32,
    out: &mut [u8],
    is_over: &dyn Fn() -> bool,
) -> ControlFlow<()> {
    let blocks = out.chunks_mut(hash.digest_len()).zip(first..);
    for (block, index) in blocks {
        hash.fill(Block { password, salt, iterations, index, out: block, is_over })?;
    }
    ControlFlow::Continue(())
}

/// One block of PBKDF2's output, to be filled.
pub(in crate::crypto) struct Block<'a> {
    password: &'a [u8],
    salt: &'a [u8],
    iterations: u32,
    /// Counted from 0.
    index: u32,
    /// As long as a digest, or shorter.
    out: &'a mut [u8],
    is_over: &'a dyn Fn() -> bool,
}

impl Block<'_> {
    /// Fills it by the HMAC `P`.
    pub(in crate::crypto) fn fill<P: KeyInit + Update + FixedOutput + Clone>(self) -> ControlFlow<()> {
        let Self { password, salt, iterations, index, out: block, is_over } = self;
        block.fill(0);
        // HMAC takes keys of every length.
        let Ok(keyed) = P::new_from_slice(password) else { return ControlFlow::Continue(()) };
        let number = index.wrapping_add(1).to_be_bytes();
        let mut running = keyed.clone().chain(salt).chain(number).finalize_fixed();
        let mut left = iterations.saturating_sub(1);
        loop {
            let batch = left.min(BETWEEN_QUESTIONS);
            for _ in 0..batch {
                xor(block, &running);
                running = keyed.clone().chain(&running).finalize_fixed();
            }
            left = left.saturating_sub(batch);
            if left == 0 {
                break;
            }
            if is_over() {
                running.zeroize();
                return ControlFlow::Break(());
            }
        }
        xor(block, &running);
        running.zeroize();
        ControlFlow::Continue(())
    }
}

fn xor(block: &mut [u8], other: &[u8]) {
    for (byte, other) in block.iter_mut().zip(other) {
        *byte ^= other;
    }
}

/// Iterations, some milliseconds of the slowest hash.
pub const BETWEEN_QUESTIONS: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_those_of_the_whole() {
        for &hash in HashKind::ALL {
            let whole = pbkdf2(hash, b"password", b"salt", 3, 192).unwrap();
            let len = hash.digest_len();
            for first in 0..(192 / len) {
                let mut block = vec![1; len];
                let number = u32::try_from(first).unwrap();
                let done = pbkdf2_blocks(hash, b"password", b"salt", 3, number, &mut block, &|| false);
                assert_eq!(done, ControlFlow::Continue(()));
                assert_eq!(block, whole.expose()[first * len..][..len], "{hash:?} {first}");
            }
        }
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let mut block = [0; 64];
        let ended = pbkdf2_blocks(HashKind::Sha512, b"password", b"salt", u32::MAX, 0, &mut block, &|| true);
        assert_eq!(ended, ControlFlow::Break(()));
    }
}
