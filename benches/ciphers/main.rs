//! XTS over ciphers other than AES, beside the crates that take one block at a time, and against the bars that they are held to.
//!
//! One thread, 64 KiB in the cache, everything in turn in each round. A ratio is the median of the rounds' own ratios, so that what
//! else the machine does falls on both sides; time is the processor's. Compare within one run only. `STRONGROOM_CIPHER_BACKEND` names another backend.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

use std::{hint::black_box, sync::Arc};

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit, consts::U16};
use rustix::time::{ClockId, clock_gettime};
use strongroom::{
    crypto::{
        SectorCipher,
        cipher::{Cipher, selection},
        sector::{BlockCipher, IvMode, Mode, SectorSpec},
    },
    units::{Sector, SectorSize},
};

const LEN: usize = 64 << 10;
const ROUNDS: usize = 101;
const FIRST: Sector = Sector(1 << 40);

/// One cipher, ours and its crate's.
struct Race {
    name: &'static str,
    cipher: Option<Cipher>,
    bar: f64,
    ours: Arc<dyn SectorCipher>,
    theirs: Box<dyn Peer>,
}

fn main() {
    let key: [u8; 64] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    let ours = |cipher| SectorSpec { cipher, mode: Mode::Xts(IvMode::Plain64) }.keyed(&key, 0).unwrap();
    let races = [
        Race {
            name: "Serpent",
            cipher: Some(Cipher::Serpent),
            bar: 4.0,
            ours: ours(BlockCipher::Serpent),
            theirs: Box::new(OneByOne::<serpent::Serpent>::new(&key)),
        },
        Race {
            name: "Camellia",
            cipher: Some(Cipher::Camellia),
            bar: 3.0,
            ours: ours(BlockCipher::Camellia),
            theirs: Box::new(OneByOne::<camellia::Camellia256>::new(&key)),
        },
        Race {
            name: "Twofish",
            cipher: None,
            bar: 1.5,
            ours: ours(BlockCipher::Twofish),
            theirs: Box::new(OneByOne::<twofish::Twofish>::new(&key)),
        },
    ];
    println!(
        "{:10} {:9} {:>6} {:8} {:>15} {:>5} {:>6} {:>15}  verdict",
        "cipher", "backend", "sector", "", "GB/s, the crate", "bar", "ratio", "quartiles"
    );
    for race in &races {
        for size in [SectorSize::B4096, SectorSize::B512] {
            for encrypts in [true, false] {
                race.run(size, encrypts);
            }
        }
    }
}

impl Race {
    fn run(&self, size: SectorSize, encrypts: bool) {
        let (mut our_buffer, mut their_buffer) = (vec![1; LEN], vec![1; LEN]);
        let (mut our_seconds, mut their_seconds) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            our_seconds.push(timed(|| self.ours_on(&mut our_buffer, size, encrypts)));
            their_seconds.push(timed(|| self.theirs.crypt(&mut their_buffer, size.bytes(), encrypts)));
        }
        // A race between things that do not do the same has no winner.
        assert!(our_buffer == their_buffer, "{} is wrong", self.name);

        let ratios = our_seconds.iter().zip(&their_seconds).map(|(ours, theirs)| theirs / ours).collect();
        let [low, median, high] = quartiles(ratios);
        println!(
            "{:10} {:9} {:>6} {:8} {:>7.3} {:>7.3} {:>5.1} {median:>6.2} {:>15}  {}",
            self.name,
            self.cipher.map_or("portable", |cipher| selection(cipher).unwrap().backend.name()),
            size.bytes(),
            if encrypts { "encrypt" } else { "decrypt" },
            gigabytes(our_seconds),
            gigabytes(their_seconds),
            self.bar,
            format!("{low:.2} .. {high:.2}"),
            if median >= self.bar { "reached" } else { "MISSED" },
        );
    }

    fn ours_on(&self, buffer: &mut [u8], size: SectorSize, encrypts: bool) {
        let units = size.bytes_u64() / 512;
        if encrypts {
            self.ours.encrypt(black_box(buffer), size, Sector(FIRST.0 / units));
        } else {
            self.ours.decrypt(black_box(buffer), size, Sector(FIRST.0 / units));
        }
    }
}

/// A crate's cipher.
trait Peer {
    fn crypt(&self, buffer: &mut [u8], sector_len: usize, encrypts: bool);
}

/// XTS as it is written down, over a cipher that takes one block at a time.
struct OneByOne<C> {
    data: C,
    tweak: C,
}

impl<C: KeyInit> OneByOne<C> {
    fn new(key: &[u8; 64]) -> Self {
        Self { data: C::new_from_slice(&key[..32]).unwrap(), tweak: C::new_from_slice(&key[32..]).unwrap() }
    }
}

impl<C: BlockCipherEncrypt<BlockSize = U16> + BlockCipherDecrypt> Peer for OneByOne<C> {
    fn crypt(&self, buffer: &mut [u8], sector_len: usize, encrypts: bool) {
        let units = u64::try_from(sector_len / 512).unwrap();
        for (number, sector) in
            (FIRST.0..).step_by(units.try_into().unwrap()).zip(buffer.chunks_mut(sector_len))
        {
            let mut start = Array(u128::from(number).to_le_bytes());
            self.tweak.encrypt_block(&mut start);
            let mut tweak = u128::from_le_bytes(start.0);
            for block in sector.as_chunks_mut::<16>().0 {
                let mut state = Array((u128::from_le_bytes(*block) ^ tweak).to_le_bytes());
                if encrypts {
                    self.data.encrypt_block(&mut state);
                } else {
                    self.data.decrypt_block(&mut state);
                }
                *block = (u128::from_le_bytes(state.0) ^ tweak).to_le_bytes();
                tweak = (tweak << 1) ^ ((tweak >> 127) * 0x87);
            }
        }
    }
}

/// Twice, the first time to get used to wide vectors.
fn timed(mut work: impl FnMut()) -> f64 {
    work();
    let start = processor_seconds();
    work();
    processor_seconds() - start
}

/// What this thread has had of the processor. By the clock on the wall, whoever takes longer loses it more often.
fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u32::try_from(time.tv_sec).unwrap();
    f64::from(seconds) + 1e-9 * f64::from(u32::try_from(time.tv_nsec).unwrap())
}

/// The median rate in GB/s.
fn gigabytes(seconds: Vec<f64>) -> f64 {
    1e-9 * f64::from(u32::try_from(LEN).unwrap()) / quartiles(seconds)[1]
}

/// Lower quartile, median, upper quartile.
fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[values.len() * quarter / 4])
}
