//! `benchmark`: what ciphers, key derivations and memory do on this machine.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use serde::Serialize;
use strongroom::{
    crypto::{
        benchmark::{argon2id_time, cipher_rates, copy_rate, pbkdf2_rate},
        hash::HashKind,
        kdf::Argon2Cost,
        sector::{Mode, NamedCipher},
    },
    error::Result,
    sys::available,
    units::SectorSize,
};

use super::{interrupt, output::Console, progress::StepProgress, size::show_size};

/// Measures, and prints what came out.
pub(crate) fn run(console: Console) -> Result<()> {
    let rates = interrupt::at_liberty(|| measure(console))?;
    console.result(&rates, show)
}

/// Everything that was measured. Rates are in bytes a second, sizes in bytes.
#[derive(Debug, Default, Serialize)]
struct Rates {
    memcpy: u64,
    xts: Vec<CipherRow>,
    /// The modes that only foreign containers have.
    other: Vec<CipherRow>,
    kdf: Vec<KdfRow>,
}

#[derive(Debug, Serialize)]
struct CipherRow {
    cipher: String,
    sector_size: u64,
    backend: &'static str,
    encrypt: u64,
    decrypt: u64,
}

/// Argon2id has memory, passes, lanes and the time of one derivation; PBKDF2 has iterations and the time for those.
#[derive(Debug, Default, Serialize)]
struct KdfRow {
    name: String,
    memory: Option<u64>,
    passes: Option<u32>,
    lanes: Option<u32>,
    iterations: Option<u64>,
    seconds: f64,
}

fn measure(console: Console) -> Result<Rates> {
    let ciphers = NamedCipher::all();
    let slices = u32::try_from(ciphers.len() * SECTOR_SIZES.len() * 2).unwrap_or(u32::MAX);
    let slice = (CIPHER_TIME / slices).max(LEAST_SLICE);
    let cipher_steps = u64::try_from(ciphers.len()).unwrap_or(u64::MAX);
    let progress = StepProgress::start(console, cipher_steps + KDF_STEPS);
    let begin = Instant::now();
    let mut clock = || begin.elapsed();

    progress.show(0, "memcpy");
    let mut rates = Rates { memcpy: copy_rate(COPY_TIME, &mut clock)?, ..Rates::default() };
    for (step, named) in (0..).zip(ciphers) {
        progress.show(step, &named.name);
        let cipher = named.keyed_to_measure()?;
        let rows = if matches!(named.spec.mode, Mode::Xts(_)) { &mut rates.xts } else { &mut rates.other };
        for size in SECTOR_SIZES {
            let measured = cipher_rates(&*cipher, size, slice, &mut clock);
            rows.push(CipherRow {
                cipher: named.name.clone(),
                sector_size: size.bytes_u64(),
                backend: cipher.backend(),
                encrypt: measured.encrypt,
                decrypt: measured.decrypt,
            });
        }
    }
    progress.show(cipher_steps, "argon2id");
    rates.kdf = measure_argon2id(&mut clock)?;
    progress.show(cipher_steps + ARGON2ID_STEPS, "pbkdf2");
    for hash in HashKind::USUAL.into_iter().chain([HashKind::Streebog512, HashKind::Blake2s256]) {
        let iterations = pbkdf2_rate(hash, PBKDF2_TIME, &mut clock)?;
        let name = format!("pbkdf2-{}", hash.name());
        rates.kdf.push(KdfRow { name, iterations: Some(iterations), seconds: 1.0, ..KdfRow::default() });
    }
    Ok(rates)
}

/// Argon2id at rising costs, as far as this machine goes in a few seconds and with the half of its memory.
fn measure_argon2id(clock: &mut dyn FnMut() -> Duration) -> Result<Vec<KdfRow>> {
    let mut rows = Vec::new();
    let mut expected = Duration::ZERO;
    for (index, cost) in ARGON2ID_COSTS.iter().enumerate() {
        if index > 0 && (expected > ARGON2ID_PATIENCE || cost.memory_kib > half_of_memory()) {
            break;
        }
        let time = argon2id_time(cost, clock)?;
        rows.push(KdfRow {
            name: "argon2id".to_owned(),
            memory: Some(u64::from(cost.memory_kib) * 1024),
            passes: Some(cost.passes),
            lanes: Some(cost.lanes),
            iterations: None,
            seconds: time.as_secs_f64(),
        });
        expected = ARGON2ID_COSTS.get(index + 1).map_or(expected, |next| scaled(time, cost, next));
    }
    Ok(rows)
}

/// What `next` takes where `cost` took `time`: it grows with memory times passes.
fn scaled(time: Duration, cost: &Argon2Cost, next: &Argon2Cost) -> Duration {
    let work = |cost: &Argon2Cost| f64::from(cost.memory_kib) * f64::from(cost.passes);
    time.mul_f64(work(next) / work(cost))
}

/// In KiB.
fn half_of_memory() -> u32 {
    u32::try_from(available::whole_memory() / 2 / 1024).unwrap_or(u32::MAX)
}

fn show(rates: &Rates) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{words}");
    };
    line(format_args!(
        "# In memory, ciphers and PBKDF2 on one thread: the disk and the file system come on top."
    ));
    line(format_args!("{:<20} {:>14}", "memcpy", mebibytes(rates.memcpy)));
    line(format_args!(
        "\n# {:<18} {:>6} {:>14} {:>15}  Backend",
        "Cipher", "Sector", "Encryption", "Decryption"
    ));
    for row in rates.xts.iter().chain(&rates.other) {
        let (encrypt, decrypt) = (mebibytes(row.encrypt), mebibytes(row.decrypt));
        line(format_args!(
            "{:<20} {:>6} {encrypt:>14} {decrypt:>15}  {}",
            row.cipher, row.sector_size, row.backend
        ));
    }
    line(format_args!(
        "\n# {:<18} {:>10} {:>7} {:>6} {:>10}",
        "Key derivation", "Memory", "Passes", "Lanes", "Time"
    ));
    for row in &rates.kdf {
        if let (Some(memory), Some(passes), Some(lanes)) = (row.memory, row.passes, row.lanes) {
            let (memory, time) = (show_size(memory), format!("{:.2} s", row.seconds));
            line(format_args!("{:<20} {memory:>10} {passes:>7} {lanes:>6} {time:>10}", row.name));
        }
    }
    line(format_args!("\n# {:<18} {:>22}", "Key derivation", "Iterations a second"));
    for (row, iterations) in rates.kdf.iter().filter_map(|row| Some((row, row.iterations?))) {
        line(format_args!("{:<20} {iterations:>22}", row.name));
    }
    text
}

/// A rate in MiB/s with one decimal, exact in integers.
fn mebibytes(rate: u64) -> String {
    let tenths = (u128::from(rate) * 10) >> 20;
    format!("{}.{} MiB/s", tenths / 10, tenths % 10)
}

/// What strongroom makes, and between them what is found elsewhere.
const SECTOR_SIZES: [SectorSize; 2] = [SectorSize::B4096, SectorSize::B512];

/// The least that a keyslot may cost, one between, and what a good machine affords in some seconds.
const ARGON2ID_COSTS: [Argon2Cost; 3] = [
    Argon2Cost { memory_kib: 64 << 10, passes: 3, lanes: 4 },
    Argon2Cost { memory_kib: 256 << 10, passes: 3, lanes: 4 },
    Argon2Cost { memory_kib: 1 << 20, passes: 4, lanes: 4 },
];

/// Together about ten seconds.
const CIPHER_TIME: Duration = Duration::from_secs(5);
const COPY_TIME: Duration = Duration::from_millis(250);
const PBKDF2_TIME: Duration = Duration::from_millis(100);
const ARGON2ID_PATIENCE: Duration = Duration::from_secs(4);
/// Less than this tells little.
const LEAST_SLICE: Duration = Duration::from_millis(15);

/// Of the progress bar: what the key derivations take, counted in ciphers.
const KDF_STEPS: u64 = ARGON2ID_STEPS + 2;
const ARGON2ID_STEPS: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shown_in_tenths_of_mebibytes() {
        assert_eq!(mebibytes(0), "0.0 MiB/s");
        assert_eq!(mebibytes((3 << 20) + (1 << 19)), "3.5 MiB/s");
        assert_eq!(mebibytes(u64::MAX), "17592186044415.9 MiB/s");
    }

    #[test]
    fn the_time_expected_grows_with_memory_and_passes() {
        let [small, _, large] = ARGON2ID_COSTS;
        let expected = scaled(Duration::from_millis(300), &small, &large);
        assert_eq!(expected, Duration::from_millis(6400));
    }

    #[test]
    fn each_row_is_one_line_and_columns_stand_below_their_names() {
        let cipher = |cipher: &str, sector_size| CipherRow {
            cipher: cipher.to_owned(),
            sector_size,
            backend: "vaes512",
            encrypt: 12_884_901_888,
            decrypt: 1 << 30,
        };
        let rates = Rates {
            memcpy: 10 << 30,
            xts: vec![cipher("aes-256-xts", 4096)],
            other: vec![cipher("camellia-256-cbc", 512)],
            kdf: vec![
                KdfRow {
                    name: "argon2id".to_owned(),
                    memory: Some(1 << 30),
                    passes: Some(4),
                    lanes: Some(4),
                    iterations: None,
                    seconds: 2.891,
                },
                KdfRow {
                    name: "pbkdf2-sha512".to_owned(),
                    iterations: Some(987_654),
                    seconds: 1.0,
                    ..KdfRow::default()
                },
            ],
        };
        let expected = "\
# In memory, ciphers and PBKDF2 on one thread: the disk and the file system come on top.
memcpy                10240.0 MiB/s

# Cipher             Sector     Encryption      Decryption  Backend
aes-256-xts            4096  12288.0 MiB/s    1024.0 MiB/s  vaes512
camellia-256-cbc        512  12288.0 MiB/s    1024.0 MiB/s  vaes512

# Key derivation         Memory  Passes  Lanes       Time
argon2id                  1 GiB       4      4     2.89 s

# Key derivation        Iterations a second
pbkdf2-sha512                        987654
";
        assert_eq!(show(&rates), expected);
    }
}
