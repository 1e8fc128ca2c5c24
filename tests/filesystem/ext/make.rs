//! Volumes that are made here: e2fsck, mke2fs, resize2fs and the kernel judge them.

use std::{
    fs::{self, File},
    ops::Range,
    os::unix::fs::{FileExt, MetadataExt},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, UNIX_EPOCH},
};

use strongroom::{
    block::{BlockDevice, BlockError, ByteDevice, Geometry},
    filesystem::{ExtFileSystem, Fault, FileSystem, Journal, NewExt, Tables, Unmade},
    units::{Sector, SectorSize},
};

use super::{Image, can_judge, tree};
use crate::disk::Disk;

/// A sparse file.
#[derive(Debug)]
pub(super) struct Sparse(pub(super) File, pub(super) u64);

impl BlockDevice for Sparse {
    fn geometry(&self) -> Geometry {
        let sector_size = SectorSize::B512;
        Geometry { sector_size, sectors: self.1 / 512, read_only: false, can_discard: false }
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        Ok(self.0.read_exact_at(buf, first.0 * 512)?)
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        Ok(self.0.write_all_at(buf, first.0 * 512)?)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError> {
        let len = usize::try_from((range.end.0 - range.start.0) * 512).unwrap();
        self.write(&vec![0; len], range.start)
    }

    fn discard(&self, _: Range<Sector>) -> Result<(), BlockError> {
        Ok(())
    }
}

pub(super) fn new(block_len: u32, tables: Tables) -> NewExt<'static> {
    NewExt {
        block_len,
        owner: (1234, 5678),
        label: Some("made here"),
        uuid: [7; 16],
        hash_seed: [9; 16],
        now: UNIX_EPOCH + Duration::from_secs(0x1_2345_6789),
        tables,
    }
}

pub(super) fn make(device: &Arc<ByteDevice>, block_len: u32, tables: Tables) -> Result<(), Unmade> {
    new(block_len, tables).make(device, &AtomicBool::new(false))
}

/// A sparse file of the folder with a new volume in it; `None` where it is too small for one.
fn made(image: &Image, len: u64, block_len: u32) -> Option<()> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(image.path("made"));
    let file = file.unwrap();
    file.set_len(len).unwrap();
    let device = Arc::new(ByteDevice::new(Arc::new(Sparse(file, len))));
    match make(&device, block_len, Tables::ReadZeros) {
        Err(Unmade::Fault(Fault::TooLarge)) => None,
        done => {
            done.unwrap();
            Some(())
        }
    }
}

/// What dumpe2fs says of a volume as a whole, but for what tells two apart.
fn described(image: &Image, name: &str) -> Vec<String> {
    let apart =
        ["UUID", "Seed", "Checksum:", "created", "write time", "Last checked", "Lifetime", "volume name"];
    let said = image.shell(&format!("dumpe2fs -h {name} 2> said"));
    let is_alike = |line: &&str| !apart.iter().any(|word| line.contains(word));
    said.lines().filter(is_alike).map(str::to_owned).collect()
}

fn sizes() -> Vec<u64> {
    const K: u64 = 1 << 10;
    const M: u64 = 1 << 20;
    const G: u64 = 1 << 30;
    let group = [8 * M, 32 * M, 128 * M];
    let short = group.iter().flat_map(|len| [K, 100 * K, M, 3 * M].map(|more| 2 * len + more));
    let mut sizes: Vec<u64> =
        [60 * K, 100 * K, 200 * K, 256 * K, 2 * M, 3 * M - 1, 3 * M, 8 * M + K, 9 * M + 5000]
            .into_iter()
            .chain([64 * M, 511 * M, 512 * M, G, G + 17 * M, 10 * G + 12_345, 33 * G, 130 * G, 1100 * G])
            .chain(short)
            .collect();
    sizes.sort_unstable();
    sizes
}

#[test]
fn volumes_are_those_of_mke2fs() {
    if !can_judge() {
        return;
    }
    let image = Image::new("64M", "-t ext4");
    let mut compared = 0;
    for (len, block_len) in
        sizes().into_iter().flat_map(|len| [1024, 2048, 4096].map(|block_len| (len, block_len)))
    {
        let what = format!("{len} bytes, blocks of {block_len}");
        let options = "-q -F -t ext4 -m 0 -E nodiscard,root_owner=1234:5678 -L made";
        let theirs = image.try_shell(&format!(
            "rm -f image; truncate -s {len} image; mke2fs -b {block_len} {options} image 2> said"
        ));
        let Some(()) = made(&image, len, block_len) else {
            // Descriptors for more do not lie together: mke2fs takes `meta_bg` then.
            let is_too_large = block_len == 1024 && len > 512 << 30;
            assert!(is_too_large || theirs.is_err(), "{what}: mke2fs makes one");
            continue;
        };
        let checked = image.try_shell("e2fsck -fn made 2>&1");
        assert!(checked.is_ok(), "{what}: {checked:?}");
        if theirs.is_err() {
            continue;
        }
        let (ours, theirs) = (described(&image, "made"), described(&image, "image"));
        // Where a group would have more inodes than blocks, mke2fs makes the groups smaller.
        if theirs.contains(&format!("Blocks per group:         {}", 8 * block_len)) {
            assert_eq!(ours, theirs, "{what}");
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared}");
}

#[test]
fn a_volume_of_16_tib_takes_little_room() {
    if !can_judge() {
        return;
    }
    let image = Image::new("1M", "-t ext2");
    // A file cannot have more on the ext4 of a machine.
    made(&image, (16 << 40) - 4096, 4096).unwrap();
    let room = fs::metadata(image.path("made")).unwrap().blocks() * 512;
    assert!(room < 300 << 20, "{room}");
    let said = image.shell("dumpe2fs -h made 2>&1");
    for line in ["Block count:              4294967295", "Inode count:              536870912"] {
        assert!(said.contains(line), "{said}");
    }
}

#[test]
fn a_volume_is_the_same_for_the_same_inputs_whatever_was_there() {
    let zeros = Disk::new(vec![0; 80 << 20]);
    make(&zeros.device(), 4096, Tables::ReadZeros).unwrap();
    let noise = Disk::new(vec![0xa5; 80 << 20]);
    make(&noise.device(), 4096, Tables::Zeroed).unwrap();
    let (zeros, noise) = (zeros.image(), noise.image());
    for (at, (one, other)) in zeros.chunks(4096).zip(noise.chunks(4096)).enumerate() {
        assert!(
            one == other || other.iter().all(|byte| *byte == 0xa5) && one.iter().all(|byte| *byte == 0),
            "{at}"
        );
    }
}

#[test]
fn making_ends_where_it_is_not_wanted_any_more() {
    let disk = Disk::new(vec![1; 16 << 20]);
    let made = new(4096, Tables::Zeroed).make(&disk.device(), &AtomicBool::new(true));
    assert_eq!(made, Err(Unmade::Interrupted));
    assert!(ExtFileSystem::open(&disk.device(), false).is_err());
}

#[test]
fn the_kernel_and_our_driver_write_what_was_made() {
    if !can_judge() {
        return;
    }
    for (len, block_len) in [(64 << 20, 1024), (64 << 20, 2048), (64 << 20, 4096), (300 << 20, 4096)] {
        let image = Image::new("1M", "-t ext2");
        made(&image, len, block_len).unwrap();
        let mounted = image.mount("made", "rw");
        let root = fs::metadata(&mounted.place).unwrap();
        assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (1234, 5678, 0o755));
        tree::fill(&mounted.place, 500);
        drop(mounted);
        let disk = Disk::new(fs::read(image.path("made")).unwrap());
        let (files, journal, unwritten) = ExtFileSystem::open_to_write(&disk.device()).unwrap();
        assert_eq!((journal, unwritten), (Journal::Empty, None));
        let mounted = image.mount("made", "ro");
        tree::assert_same(&files, &mounted.place, "made");
        drop(mounted);
        files.close().unwrap();
        fs::write(image.path("made"), disk.image()).unwrap();
        image.shell(&format!(
            "e2fsck -fp made 2>&1; truncate -s {} made; resize2fs made > said 2>&1; e2fsck -fn made 2>&1",
            3 * len + (5 << 20)
        ));
    }
}
