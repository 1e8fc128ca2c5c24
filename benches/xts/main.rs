//! AES-256-XTS beside OpenSSL and aws-lc, and against the bars that it is held to. `make bench` sets `cfg(peers)`; without it there is
//! no aws-lc, which takes a C compiler a minute.
//!
//! One thread, 1 MiB in the cache, everything in turn in each round. A ratio is the median of the rounds' own ratios, so that what
//! else the machine does falls on both sides. Compare within one run only; rates of two runs mean nothing.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

mod peers;

use std::{hint::black_box, time::Instant};

use aes::{Aes256, cipher::KeyInit};
use strongroom::{
    crypto::{
        SectorCipher,
        xts::{AesXts, Backend, selection},
    },
    units::{Sector, SectorSize},
};
use xts_mode::{Xts128, get_tweak_default};

#[cfg(peers)]
use self::peers::AwsLc;
use self::peers::OpenSsl;

const LEN: usize = 1 << 20;
const ROUNDS: usize = 301;
const FIRST: Sector = Sector(1 << 40);
const SIZES: [SectorSize; 2] = [SectorSize::B4096, SectorSize::B512];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Encrypt,
    Decrypt,
}

/// Works on the buffer once.
type Run<'a> = Box<dyn FnMut(&mut [u8]) + 'a>;

/// One way to fill the buffer, and how long each round took.
struct Contender<'a> {
    name: &'a str,
    size: SectorSize,
    direction: Direction,
    run: Run<'a>,
    seconds: Vec<f64>,
}

fn main() {
    let key: [u8; 64] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    let source = &vec![1; LEN];
    let ours: Vec<(String, AesXts)> = Backend::ALL
        .into_iter()
        .filter(|backend| backend.is_supported())
        .map(|backend| (format!("strongroom {backend}"), AesXts::with_backend(backend, &key).unwrap()))
        .collect();
    let fastest = &ours[0];
    let mut contenders = vec![Contender::new("memcpy", SIZES[0], Direction::Encrypt, |buffer| {
        buffer.copy_from_slice(black_box(source));
    })];
    for size in SIZES {
        for (name, xts) in &ours {
            contenders.push(Contender::new(name, size, Direction::Encrypt, move |buffer| {
                xts.encrypt(buffer, size, FIRST);
            }));
            contenders.push(Contender::new(name, size, Direction::Decrypt, move |buffer| {
                xts.decrypt(buffer, size, FIRST);
            }));
        }
        contenders.push(Contender::new(
            "  the first, out of place",
            size,
            Direction::Encrypt,
            move |buffer| {
                fastest.1.encrypt_into(black_box(source), buffer, size, FIRST);
            },
        ));
        contenders.push(Contender::new(
            "  the first, out of place",
            size,
            Direction::Decrypt,
            move |buffer| {
                fastest.1.decrypt_into(black_box(source), buffer, size, FIRST);
            },
        ));
        for (direction, encrypts) in [(Direction::Encrypt, true), (Direction::Decrypt, false)] {
            let mut openssl = OpenSsl::new(&key, encrypts);
            contenders.push(Contender::new(OPENSSL, size, direction, move |buffer| {
                openssl.crypt(buffer, size.bytes(), FIRST.0);
            }));
            #[cfg(peers)]
            let mut aws_lc = AwsLc::new(&key, encrypts);
            #[cfg(peers)]
            contenders.push(Contender::new(AWS_LC, size, direction, move |buffer| {
                aws_lc.crypt(buffer, size.bytes(), FIRST.0);
            }));
        }
    }
    let xts_mode =
        Xts128::new(Aes256::new_from_slice(&key[..32]).unwrap(), Aes256::new_from_slice(&key[32..]).unwrap());
    contenders.push(Contender::new("xts-mode", SIZES[0], Direction::Encrypt, move |buffer| {
        xts_mode.encrypt_area(buffer, SIZES[0].bytes(), FIRST.0.into(), get_tweak_default);
    }));
    assert_all_agree(&mut contenders);
    measure(&mut contenders);

    println!("{}; in use here: {:?}", OpenSsl::version(), selection().unwrap());
    print_rates(&contenders);
    print_bars(&contenders, &fastest.0);
}

impl<'a> Contender<'a> {
    fn new(name: &'a str, size: SectorSize, direction: Direction, run: impl FnMut(&mut [u8]) + 'a) -> Self {
        Self { name, size, direction, run: Box::new(run), seconds: Vec::new() }
    }

    fn is(&self, name: &str, size: SectorSize, direction: Direction) -> bool {
        (self.name, self.size, self.direction) == (name, size, direction)
    }
}

/// A race between things that do not do the same has no winner.
fn assert_all_agree(contenders: &mut [Contender<'_>]) {
    for size in SIZES {
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            let mut expected = None;
            let racers = contenders.iter_mut().filter(|one| (one.size, one.direction) == (size, direction));
            for racer in racers.filter(|racer| racer.name != "memcpy") {
                let mut buffer = vec![1; LEN];
                (racer.run)(&mut buffer);
                let expected = expected.get_or_insert_with(|| buffer.clone());
                assert!(buffer == *expected, "{} is wrong", racer.name);
            }
        }
    }
}

/// In turn, so that what else the machine does falls on all of them; twice each, the first time to get used to wide vectors.
fn measure(contenders: &mut [Contender<'_>]) {
    let mut buffer = vec![0; LEN];
    for _ in 0..ROUNDS {
        for contender in &mut *contenders {
            (contender.run)(black_box(&mut buffer));
            let start = Instant::now();
            (contender.run)(black_box(&mut buffer));
            contender.seconds.push(start.elapsed().as_secs_f64());
        }
    }
}

fn print_rates(contenders: &[Contender<'_>]) {
    println!("\n{:28} {:>17} {:>17}", "GB/s, encrypt / decrypt", "4096-byte sectors", "512-byte sectors");
    let mut names: Vec<&str> = contenders.iter().map(|one| one.name).collect();
    let mut seen = Vec::new();
    names.retain(|name| {
        !seen.contains(name) && {
            seen.push(*name);
            true
        }
    });
    for name in names {
        print!("{name:28}");
        for size in SIZES {
            let rate = |direction| {
                let contender = contenders.iter().find(|one| one.is(name, size, direction));
                contender.map_or_else(|| "-".to_owned(), |one| format!("{:.2}", gigabytes(&one.seconds)))
            };
            print!(" {:>8} {:>8}", rate(Direction::Encrypt), rate(Direction::Decrypt));
        }
        println!();
    }
}

/// The median rate in GB/s.
fn gigabytes(seconds: &[f64]) -> f64 {
    1e-9 * f64::from(u32::try_from(LEN).unwrap()) / quartiles(seconds.to_vec())[1]
}

fn print_bars(contenders: &[Contender<'_>], fastest: &str) {
    let is_old = OpenSsl::is_3_0();
    let old = |name: &'static str| if is_old { vec![name] } else { vec![] };
    let new = if is_old { vec![AWS_LC] } else { vec![AWS_LC, OPENSSL] };
    let (large, small) = (SIZES[0], SIZES[1]);
    println!(
        "\n{:52} {:>5} {:>6} {:>13}  verdict",
        "ratio of speeds, the worse direction", "bar", "median", "quartiles"
    );
    for (what, ours, peers, bar) in [
        (
            "4096-byte sectors / aws-lc or OpenSSL >= 3.5",
            (fastest, large),
            new.iter().map(|name| (*name, large)).collect(),
            0.95,
        ),
        (
            "4096-byte sectors / OpenSSL 3.0",
            (fastest, large),
            old(OPENSSL).iter().map(|name| (*name, large)).collect(),
            2.3,
        ),
        ("512-byte sectors / our own 4096-byte ones", (fastest, small), vec![(fastest, large)], 0.65),
        (
            "aesni / OpenSSL 3.0, 4096-byte sectors",
            ("strongroom aesni", large),
            old(OPENSSL).iter().map(|name| (*name, large)).collect(),
            0.95,
        ),
        (
            "portable / OpenSSL 3.0, 4096-byte sectors",
            ("strongroom portable", large),
            old(OPENSSL).iter().map(|name| (*name, large)).collect(),
            1.1,
        ),
    ] {
        let worst = peers.iter().flat_map(|&(peer, peer_size)| {
            [Direction::Encrypt, Direction::Decrypt].map(|direction| {
                let seconds = |name, size| {
                    contenders.iter().find(|one| one.is(name, size, direction)).map(|one| &one.seconds)
                };
                Some(ratio(seconds(ours.0, ours.1)?, seconds(peer, peer_size)?))
            })
        });
        let Some([low, median, high]) = worst.flatten().min_by(|a, b| a[1].total_cmp(&b[1])) else {
            println!("{what:52} {bar:5.2} {:>6} {:>13}  not measured", "-", "-");
            continue;
        };
        let verdict = if median >= bar { "reached" } else { "MISSED" };
        println!("{what:52} {bar:5.2} {median:6.2} {:>13}  {verdict}", format!("{low:.2} .. {high:.2}"));
    }
}

/// How many times as fast the first is, round by round.
fn ratio(ours: &[f64], theirs: &[f64]) -> [f64; 3] {
    quartiles(ours.iter().zip(theirs).map(|(ours, theirs)| theirs / ours).collect())
}

/// Lower quartile, median, upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}

const OPENSSL: &str = "OpenSSL";
const AWS_LC: &str = "aws-lc";
