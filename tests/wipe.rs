//! After an export has stopped no plaintext is left in the memory of its process.
//!
//! One test in a program of its own: it reads the whole process.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test says what it skips, and fails where it cannot go on"
)]

mod devices;

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use devices::{container_size, crypt_device};
use strongroom::{
    export::{Client, FuseExport},
    mapping::Holes,
    storage::MemoryStorage,
    sys::alloc::WipingAllocator,
    units::SectorSize,
};

#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator::new();

const SECTORS: u64 = 1024;

/// The plaintext, complemented: so it is in memory only where somebody put it.
const MARK: u64 = !0x6d61_726b_2d6f_6e65;

#[test]
fn no_plaintext_is_left_in_memory_after_stop() {
    if !Path::new("/dev/fuse").exists() {
        assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "no /dev/fuse");
        return println!("skipped: wiping: no /dev/fuse");
    }
    for client in [Client::Direct, Client::Cached] {
        let dir = tempfile::tempdir().unwrap();
        let size = usize::try_from(container_size(SectorSize::B4096, SECTORS)).unwrap();
        let storage = Arc::new(MemoryStorage::new(vec![0; size]));
        let device = Arc::new(crypt_device(storage, SectorSize::B4096, SECTORS, Holes::AreCiphertext));
        let mut export = FuseExport::start(device, dir.path(), client, Arc::new(|_: &str| ())).unwrap();
        write_and_read(&export.path());
        // The same search finds it while the export runs: in the buffers that the next request will reuse.
        assert!(marks_in_memory() > 0, "the search is blind");
        export.stop(false).unwrap();
        assert_eq!(marks_in_memory(), 0, "{client:?}");
    }
}

/// Marks all over the volume: large and small, whole sectors and parts of one.
fn write_and_read(path: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let plain = (!MARK).to_le_bytes().repeat(1 << 18);
    file.write_all_at(&plain, 0).unwrap();
    file.write_all_at(&plain[..4096], 3 << 20).unwrap();
    file.write_all_at(&plain[..512], (3 << 20) + 64).unwrap();
    file.sync_all().unwrap();
    let mut found = vec![0; plain.len()];
    file.read_exact_at(&mut found, 0).unwrap();
    assert!(found == plain);
    file.read_exact_at(&mut found[..512], (3 << 20) + 64).unwrap();
}

/// How often the mark stands twice in a row, at 8-byte steps, in this process's writable memory. Once it stands wherever
/// the test itself has had it in hand.
fn marks_in_memory() -> usize {
    let memory = File::open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut page = vec![0; 4096];
    let mut marks = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (start, rest) = line.split_once('-').unwrap();
        let end = rest.split(' ').next().unwrap();
        let (start, end) = (u64::from_str_radix(start, 16).unwrap(), u64::from_str_radix(end, 16).unwrap());
        for offset in (start..end).step_by(4096) {
            if memory.read_exact_at(&mut page, offset).is_ok() {
                let words = page.as_chunks::<8>().0;
                let is_mark = |word: &[u8; 8]| !u64::from_le_bytes(*word) == MARK;
                marks += words.windows(2).filter(|pair| pair.iter().all(is_mark)).count();
            }
        }
    }
    marks
}
