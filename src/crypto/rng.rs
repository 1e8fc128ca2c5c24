//! Randomness as a parameter: the operating system's in the product, fixed bytes in vectors and tests.

use std::io;

/// A source of random bytes.
pub trait Rng: Send + Sync {
    /// Fills `buf`.
    fn fill(&self, buf: &mut [u8]) -> io::Result<()>;
}

/// The kernel's generator (`getrandom(2)`).
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRng;

impl Rng for OsRng {
    fn fill(&self, buf: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buf).map_err(|error| {
            let other = || io::Error::other(error.to_string());
            error.raw_os_error().map_or_else(other, io::Error::from_raw_os_error)
        })
    }
}
