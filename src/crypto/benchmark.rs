//! How fast the primitives are here. The clock is the caller's: it tells the time since a moment of its choice.

use std::{hint::black_box, time::Duration};

use crate::{
    Result,
    crypto::{
        SectorCipher,
        hash::HashKind,
        kdf::{Argon2Cost, argon2id, pbkdf2},
    },
    sys::memory::WipedSlice,
    units::{Sector, SectorSize},
};

/// Tells the time.
pub type Clock<'a> = &'a mut dyn FnMut() -> Duration;

/// Bytes a second, both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CipherRates {
    /// From plaintext to ciphertext.
    pub encrypt: u64,
    /// From ciphertext to plaintext.
    pub decrypt: u64,
}

/// The rates of `cipher` on one thread, in place over 1 MiB (64 KiB where it is slow), each measured for about `time`.
pub fn cipher_rates(
    cipher: &dyn SectorCipher,
    sector_size: SectorSize,
    time: Duration,
    clock: Clock<'_>,
) -> CipherRates {
    let mut rate = |work: &dyn Fn(&mut [u8])| {
        let mut buffer = vec![0; buffer_len(SMALL_LEN)];
        let start = clock();
        work(&mut buffer);
        let is_slow = clock().saturating_sub(start) * LEAST_RUNS * (CIPHER_LEN / SMALL_LEN) > time;
        let len = if is_slow { SMALL_LEN } else { CIPHER_LEN };
        buffer.resize(buffer_len(len), 0);
        per_second(len.into(), median_time(time, clock, || work(black_box(&mut buffer))))
    };
    CipherRates {
        encrypt: rate(&|buffer| cipher.encrypt(buffer, sector_size, Sector(0))),
        decrypt: rate(&|buffer| cipher.decrypt(buffer, sector_size, Sector(0))),
    }
}

/// Bytes a second that one thread copies between two buffers too large for most caches, measured for about `time`.
///
/// # Errors
/// Of the kind `OutOfMemory` where the kernel does not grant the memory.
pub fn copy_rate(time: Duration, clock: Clock<'_>) -> Result<u64> {
    let mut source = WipedSlice::<u8>::zeroed(buffer_len(COPY_LEN))?;
    let mut target = WipedSlice::<u8>::zeroed(buffer_len(COPY_LEN))?;
    let (source, target) = (source.as_mut_slice(), target.as_mut_slice());
    source.fill(1);
    target.fill(2);
    let median = median_time(time, clock, || target.copy_from_slice(black_box(source)));
    black_box(target);
    Ok(per_second(COPY_LEN.into(), median))
}

/// How long Argon2id takes at `cost`, once.
///
/// # Errors
/// As [`argon2id`].
pub fn argon2id_time(cost: &Argon2Cost, clock: Clock<'_>) -> Result<Duration> {
    let start = clock();
    argon2id(b"measured", &[0; 32], cost, 32)?;
    Ok(clock().saturating_sub(start))
}

/// Iterations of PBKDF2 with HMAC a second on one thread, for a key of one digest, measured for about `time`.
///
/// # Errors
/// As [`pbkdf2()`].
pub fn pbkdf2_rate(hash: HashKind, time: Duration, clock: Clock<'_>) -> Result<u64> {
    let mut run = |iterations: u32| -> Result<Duration> {
        let start = clock();
        pbkdf2(hash, b"measured", &[0; 32], iterations, hash.digest_len())?;
        Ok(clock().saturating_sub(start))
    };
    let guess = iterations_in(time, PBKDF2_PROBE, run(PBKDF2_PROBE)?);
    Ok(per_second(guess.into(), run(guess)?))
}

/// Those lengths fit wherever there are 32 bits of address.
fn buffer_len(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// The time that one call of `work` takes: the median of those that fit into `time`, the first not counted, at least two.
fn median_time(time: Duration, clock: Clock<'_>, mut work: impl FnMut()) -> Duration {
    work();
    let begin = clock();
    let (mut last, mut times) = (begin, Vec::new());
    for run in 0..MOST_RUNS {
        if run >= LEAST_RUNS && last.saturating_sub(begin) >= time {
            break;
        }
        work();
        let now = clock();
        times.push(now.saturating_sub(last));
        last = now;
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// How many iterations take `time`, where `done` of them took `elapsed`.
fn iterations_in(time: Duration, done: u32, elapsed: Duration) -> u32 {
    let affordable = u128::from(done) * time.as_nanos() / elapsed.as_nanos().max(1);
    u32::try_from(affordable).unwrap_or(u32::MAX).clamp(PBKDF2_PROBE, MOST_ITERATIONS)
}

/// `amount` in `time` as a rate.
fn per_second(amount: u64, time: Duration) -> u64 {
    let rate = u128::from(amount) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// A request of the largest size that FUSE makes.
const CIPHER_LEN: u32 = 1 << 20;
const SMALL_LEN: u32 = 64 << 10;
const COPY_LEN: u32 = 64 << 20;
const LEAST_RUNS: u32 = 2;
/// So that a clock that stands still ends too.
const MOST_RUNS: u32 = 100_000;
const PBKDF2_PROBE: u32 = 1000;
const MOST_ITERATIONS: u32 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::xts::AesXts;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// A clock that goes on by what it is told, and then by the last of it.
    fn clock(steps: &[u64]) -> impl FnMut() -> Duration {
        let (mut now, mut index) = (Duration::ZERO, 0);
        move || {
            now += MILLISECOND * u32::try_from(steps[index.min(steps.len() - 1)]).unwrap();
            index += 1;
            now
        }
    }

    #[test]
    fn one_slow_run_does_not_change_the_median() {
        let mut runs = 0;
        let median = median_time(100 * MILLISECOND, &mut clock(&[0, 4, 90, 4]), || runs += 1);
        assert_eq!(median, 4 * MILLISECOND);
        assert_eq!(runs, 5, "one that is not counted, and four that are");
    }

    #[test]
    fn runs_go_on_until_the_time_is_over() {
        let mut runs = 0;
        median_time(20 * MILLISECOND, &mut clock(&[0, 2]), || runs += 1);
        assert_eq!(runs, 11);
    }

    #[test]
    fn a_clock_that_stands_still_ends() {
        assert_eq!(median_time(MILLISECOND, &mut || Duration::ZERO, || ()), Duration::ZERO);
        assert_eq!(per_second(5, Duration::ZERO), 5_000_000_000);
        assert_eq!(iterations_in(MILLISECOND, 1000, Duration::ZERO), 1_000_000_000.min(MOST_ITERATIONS));
    }

    #[test]
    fn rates_are_bytes_a_second() {
        let xts = AesXts::aes256(&(0..64).collect::<Vec<u8>>()).unwrap();
        let rates = |time| cipher_rates(&xts, SectorSize::B4096, time, &mut clock(&[1]));
        let same = |rate| CipherRates { encrypt: rate, decrypt: rate };
        assert_eq!(rates(32 * MILLISECOND), same(1000 << 20));
        assert_eq!(rates(31 * MILLISECOND), same(1000 << 16), "a slow one over less");
    }

    #[test]
    fn the_first_pbkdf2_sizes_the_second() {
        // 1000 iterations in one millisecond, so 20000 in the twenty that are given; those take ten.
        let rate = pbkdf2_rate(HashKind::Sha1, 20 * MILLISECOND, &mut clock(&[0, 1, 0, 10])).unwrap();
        assert_eq!(rate, 2_000_000);
    }

    #[test]
    fn argon2id_is_timed_around_the_call() {
        let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        assert_eq!(argon2id_time(&cost, &mut clock(&[7, 3])).unwrap(), 3 * MILLISECOND);
    }
}
