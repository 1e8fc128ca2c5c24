//! PBKDF2 beside OpenSSL's, and against the bar that it is held to.
//!
//! One thread, both in turn in each round. A ratio is the median of the rounds' own ratios. Compare within one run only.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

use std::time::Instant;

use openssl::{hash::MessageDigest, pkcs5};
use strongroom::crypto::{hash::HashKind, kdf};

const ITERATIONS: u32 = 20_000;
const ROUNDS: usize = 31;
/// Our time over OpenSSL's, at most. (SHA-512; for the others there is none.)
const BAR: f64 = 1.25;

fn main() {
    println!(
        "{:10} {:>5} {:>11} {:>8} {:>5} {:>6} {:>15}",
        "hash", "bytes", "us/1000", "OpenSSL", "bar", "ratio", "quartiles"
    );
    for (hash, digest, lens) in [
        (HashKind::Sha512, MessageDigest::sha512(), [64, 192]),
        (HashKind::Sha256, MessageDigest::sha256(), [32, 192]),
        (HashKind::Sha1, MessageDigest::sha1(), [20, 64]),
    ] {
        for len in lens {
            race(hash, digest, len);
        }
    }
}

fn race(hash: HashKind, digest: MessageDigest, len: usize) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut expected = vec![0; len];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let key = kdf::pbkdf2(hash, b"password", &[7; 64], ITERATIONS, len).unwrap();
        ours.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        pkcs5::pbkdf2_hmac(b"password", &[7; 64], ITERATIONS.try_into().unwrap(), digest, &mut expected)
            .unwrap();
        theirs.push(start.elapsed().as_secs_f64());
        assert!(key.expose() == expected, "{} is wrong", hash.name());
    }
    let [low, median, high] =
        quartiles(ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect());
    let micros = |seconds| 1e9 / f64::from(ITERATIONS) * quartiles(seconds)[1];
    println!(
        "{:10} {len:>5} {:>11.0} {:>8.0} {BAR:>5.2} {median:>6.2} {:>15}",
        hash.name(),
        micros(ours),
        micros(theirs),
        format!("{low:.2} .. {high:.2}"),
    );
}

/// Lower quartile, median, upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}
