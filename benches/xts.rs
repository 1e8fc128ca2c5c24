//! AES-256-XTS beside other ways to compute it: what each sector size costs, and what the batches are worth.
//!
//! Rates are of one thread over 1 MiB, medians of interleaved runs. Compare within one table only.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

use std::{hint::black_box, time::Instant};

use aes::{
    Aes256,
    cipher::{Array, BlockCipherEncrypt, KeyInit},
};
use strongroom::{
    crypto::{SectorCipher, xts::AesXts},
    units::{Sector, SectorSize},
};
use xts_mode::{Xts128, get_tweak_default};

const LEN: usize = 1 << 20;
const ROUNDS: usize = 41;

/// Works on the buffer once.
type Run<'a> = Box<dyn Fn(&mut [u8]) + 'a>;

/// One way to fill the buffer, and how long each round took.
struct Contender<'a> {
    name: &'static str,
    run: Run<'a>,
    seconds: Vec<f64>,
}

fn main() {
    let key: [u8; 64] = std::array::from_fn(|index| u8::try_from(index).unwrap());
    let ours = AesXts::aes256(&key).unwrap();
    let (data, tweak) = (aes256(&key[..32]), aes256(&key[32..]));
    let oracle = Xts128::new(aes256(&key[..32]), aes256(&key[32..]));
    println!("AES-256-XTS, GB/s (memcpy = 1.00)");
    for size in [SectorSize::B4096, SectorSize::B512] {
        let source = vec![1; LEN];
        let first = Sector(1 << 40);
        let mut contenders = [
            contender("memcpy", |buffer| buffer.copy_from_slice(black_box(&source))),
            contender("strongroom encrypt", |buffer| ours.encrypt(buffer, size, first)),
            contender("strongroom decrypt", |buffer| ours.decrypt(buffer, size, first)),
            contender("encrypt_blocks, sector by sector", |buffer| by_sector(&data, &tweak, buffer, size)),
            contender("xts-mode", |buffer| oracle.encrypt_area(buffer, size.bytes(), 0, get_tweak_default)),
        ];
        measure(&mut contenders);
        println!("\n{size}-byte sectors");
        let copy = contenders[0].rate();
        for contender in &mut contenders {
            let rate = contender.rate();
            println!("  {:34} {rate:6.2}  {:5.2}", contender.name, rate / copy);
        }
    }
}

fn aes256(key: &[u8]) -> Aes256 {
    Aes256::new_from_slice(key).unwrap()
}

fn contender<'a>(name: &'static str, run: impl Fn(&mut [u8]) + 'a) -> Contender<'a> {
    Contender { name, run: Box::new(run), seconds: Vec::new() }
}

/// In turn, so that what else the machine does falls on all of them.
fn measure(contenders: &mut [Contender<'_>]) {
    let mut buffer = vec![0; LEN];
    for _ in 0..ROUNDS {
        for contender in &mut *contenders {
            let start = Instant::now();
            (contender.run)(black_box(&mut buffer));
            contender.seconds.push(start.elapsed().as_secs_f64());
        }
    }
}

impl Contender<'_> {
    /// The median rate in GB/s.
    fn rate(&mut self) -> f64 {
        self.seconds.sort_by(f64::total_cmp);
        1e-9 * f64::from(u32::try_from(LEN).unwrap()) / self.seconds[ROUNDS / 2]
    }
}

/// What one writes first: the tweaks of a sector in an array, two XORs, and the crate's own batches between them.
fn by_sector(data: &Aes256, tweak: &Aes256, buffer: &mut [u8], size: SectorSize) {
    for (number, sector) in (0_u128..).zip(buffer.chunks_exact_mut(size.bytes())) {
        let mut start = Array(number.to_le_bytes());
        tweak.encrypt_block(&mut start);
        let mut power = u128::from_le_bytes(start.0);
        let mut tweaks = [0; 256];
        let (blocks, _) = sector.as_chunks_mut::<16>();
        for tweak in &mut tweaks[..blocks.len()] {
            *tweak = power;
            power = (power << 1) ^ ((power >> 127) * 0x87);
        }
        whiten(blocks, &tweaks);
        data.encrypt_blocks(Array::cast_slice_from_core_mut(blocks));
        whiten(blocks, &tweaks);
    }
}

fn whiten(blocks: &mut [[u8; 16]], tweaks: &[u128; 256]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        *block = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes();
    }
}
