//! Re-encryption beside a loop that reads each chunk and writes it back: what journal, cipher and syncs cost.
//!
//! On a file in memory (`/dev/shm`), so that nothing is waited for. The ratio counts, not the rates.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and stops at the first surprise"
)]

use std::{
    fs::File,
    ops::ControlFlow,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use strongroom::{
    crypto::{
        kdf::Argon2Cost,
        rng::OsRng,
        secret::{Credentials, Password, VolumeKey},
    },
    format::{
        Format, NewKeyslot, Priority,
        native::{
            Geometry, Label, MIN_MEMORY_KIB, MIN_PASSES, Native, NativeHeader, NewContainer, NewHeader,
            Provision, StartHeader, Suite, Target, new_uuid,
        },
    },
    storage::{FileStorage, Storage},
    units::SectorSize,
    volume::reencrypt::{Outcome, Pace, Reencryption, Tuning},
};

/// The bytes of the container.
const LEN: u64 = 256 << 20;
const ROUNDS: usize = 9;
/// What a work area of 960 KiB holds beside its records.
const CHUNK: usize = 952 << 10;

fn main() {
    let directory = PathBuf::from("/dev/shm");
    let directory = if directory.is_dir() { directory } else { std::env::temp_dir() };
    let file = tempfile::tempfile_in(directory).unwrap();
    let (storage, mut key) = container(file);
    println!("re-encryption of {} MiB in memory beside reading and writing back", LEN >> 20);
    for threads in [1, Tuning::default().threads] {
        let tuning = Tuning { threads, ..Tuning::default() };
        let (mut plain, mut moved) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            plain.push(read_and_write_back(&*storage));
            moved.push(re_encrypt(&storage, &mut key, tuning));
        }
        let (plain, moved) = (median(plain), median(moved));
        println!(
            "  {threads} threads: {:5.2} GB/s, {:5.2} GB/s plain, ratio {:.2}",
            rate(moved),
            rate(plain),
            plain.as_secs_f64() / moved.as_secs_f64()
        );
    }
}

/// A new container, its data area allocated, and its volume key.
fn container(file: File) -> (Arc<dyn Storage>, Arc<VolumeKey>) {
    let storage: Arc<dyn Storage> = Arc::new(FileStorage::new(file).unwrap());
    storage.set_size(LEN).unwrap();
    let noise: Vec<u8> = (0..CHUNK).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect();
    for offset in (0..LEN - CHUNK as u64).step_by(CHUNK) {
        storage.write_all_at(&noise, offset).unwrap();
    }
    let new = NewContainer {
        uuid: new_uuid(&OsRng).unwrap(),
        label: Label::default(),
        suite: Suite::default(),
        sector_size: SectorSize::B4096,
        provision: Provision::Thick,
        geometry: Geometry::for_container(LEN).unwrap(),
        cost: COST,
    };
    let made = NewHeader::new(&new, &credentials(), &OsRng).unwrap();
    made.write(&*storage).unwrap();
    (storage, made.volume_key)
}

fn credentials() -> Credentials {
    Credentials::Password { password: Password::copy_of(b"open sesame").unwrap(), keyfiles: Vec::new() }
}

/// The time that it takes to read each chunk of the data area and write it back.
fn read_and_write_back(storage: &dyn Storage) -> Duration {
    let geometry = Geometry::for_container(LEN).unwrap();
    let mut chunk = vec![0; CHUNK];
    let start = Instant::now();
    let mut done = 0;
    while done < geometry.data_len {
        let len = CHUNK.min(usize::try_from(geometry.data_len - done).unwrap());
        storage.read_exact_at(&mut chunk[..len], geometry.data_offset + done).unwrap();
        storage.write_all_at(&chunk[..len], geometry.data_offset + done).unwrap();
        done += len as u64;
    }
    storage.sync_data().unwrap();
    start.elapsed()
}

/// The time that a whole re-encryption takes, keyslot aside. `key` becomes the new one.
fn re_encrypt(storage: &Arc<dyn Storage>, key: &mut Arc<VolumeKey>, tuning: Tuning) -> Duration {
    let header = NativeHeader::read(&**storage).unwrap();
    let old_key = VolumeKey::copy_of(key.expose()).unwrap();
    let unlocked = Native.read_header(&**storage).unwrap().unlock_with_key(old_key).unwrap();
    let credentials = credentials();
    let slot = NewKeyslot {
        slot: None,
        label: None,
        priority: Priority::Normal,
        cost: COST.into(),
        credentials: &credentials,
    };
    let target = Target { suite: Suite::default(), sector_size: SectorSize::B4096 };
    let new = StartHeader::new(&header, &unlocked, target, &[slot], &OsRng).unwrap();
    let start = Instant::now();
    let mut work = Reencryption::start(Arc::clone(storage), &new, tuning).unwrap();
    let outcome = work.run(&mut Pace::new(None), &mut |_, _| ControlFlow::Continue(())).unwrap();
    let taken = start.elapsed();
    assert_eq!(outcome, Outcome::Finished);
    *key = Arc::clone(new.volume_key());
    taken
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// In GB/s.
fn rate(taken: Duration) -> f64 {
    1e-9 * f64::from(u32::try_from(LEN).unwrap()) / taken.as_secs_f64()
}

const COST: Argon2Cost = Argon2Cost { memory_kib: MIN_MEMORY_KIB, passes: MIN_PASSES, lanes: 1 };
