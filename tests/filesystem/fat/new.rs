//! File systems of our own making: both fsck programs find nothing, and we read and write them.

use std::{
    fs::{self, File},
    io::Read,
    ops::Range,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

use strongroom::{
    block::{BlockDevice, BlockError, ByteDevice, Geometry},
    filesystem::{FatFileSystem, FileSystem, Kind, New, NewFat, NodeId},
    units::{Sector, SectorSize},
};

use super::judge::{can_judge, fsck};

/// A file, of which only what is written takes space.
#[derive(Debug)]
struct Disk(File, SectorSize);

impl Disk {
    fn device(path: &Path, sector: SectorSize) -> Arc<ByteDevice> {
        let file = File::options().read(true).write(true).open(path).unwrap();
        Arc::new(ByteDevice::new(Arc::new(Self(file, sector))))
    }

    fn place(&self, sector: Sector) -> u64 {
        sector.0 << self.1.shift()
    }
}

impl BlockDevice for Disk {
    fn geometry(&self) -> Geometry {
        let sectors = self.0.metadata().unwrap().len() >> self.1.shift();
        Geometry { sector_size: self.1, sectors, read_only: false, can_discard: false }
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        Ok(self.0.read_exact_at(buf, self.place(first))?)
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        Ok(self.0.write_all_at(buf, self.place(first))?)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError> {
        let zeros = vec![0; 1 << 20];
        let (mut at, end) = (self.place(range.start), self.place(range.end));
        while at < end {
            let len = (end - at).min(1 << 20);
            self.0.write_all_at(&zeros[..len as usize], at)?;
            at += len;
        }
        Ok(())
    }

    fn discard(&self, _: Range<Sector>) -> Result<(), BlockError> {
        Ok(())
    }
}

#[test]
fn what_we_make_is_clean_and_holds_files() {
    if !can_judge() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    for (len, sector, is_exfat) in [
        (128 << 10, SectorSize::B512, false),
        (5 << 20, SectorSize::B4096, false),
        (20 << 20, SectorSize::B512, false),
        (600 << 20, SectorSize::B4096, false),
        (256 << 10, SectorSize::B4096, true),
        (3 << 20, SectorSize::B512, true),
        ((70 << 20) + 512, SectorSize::B512, true),
        (300 << 20, SectorSize::B4096, true),
    ] {
        let what = format!("{len} bytes, {sector:?}, exFAT {is_exfat}");
        // What was there is no part of it.
        let file = File::create(&path).unwrap();
        file.set_len(len).unwrap();
        file.write_all_at(&vec![0xa5; 128 << 10], 0).unwrap();
        let device = Disk::device(&path, sector);
        let label = if is_exfat { "G\u{e4}rten \u{1f333}\u{1f333}\u{1f333}" } else { "photos" };
        let bytes = u32::try_from(sector.bytes()).unwrap();
        NewFat { is_exfat, sector: bytes, label: Some(label), serial: 0x1234_abcd }.make(&device).unwrap();
        assert_eq!(fsck(&path, is_exfat), Ok(()), "{what}");

        let (files, repair) = FatFileSystem::open(&device, false).unwrap();
        assert_eq!(repair.to_string(), "nothing was lost", "{what}");
        let folder = files
            .make(NodeId::ROOT, "Ordner".as_ref(), &New::empty(Kind::Directory))
            .unwrap()
            .attributes
            .node;
        let file = files
            .make(folder, "\u{df}\u{e9} name.txt".as_ref(), &New::empty(Kind::File))
            .unwrap()
            .attributes
            .node;
        files.write(file, 0, b"kept").unwrap();
        files.lookup(NodeId::ROOT, "ORDNER".as_ref()).unwrap();
        files.close().unwrap();
        drop(files);
        assert_eq!(fsck(&path, is_exfat), Ok(()), "{what}");
        let (files, _) = FatFileSystem::open(&device, true).unwrap();
        let folder = files.lookup(NodeId::ROOT, "Ordner".as_ref()).unwrap().attributes.node;
        let file = files.lookup(folder, "\u{df}\u{e9} name.txt".as_ref()).unwrap().attributes.node;
        let mut kept = [0; 4];
        files.read(file, 0, &mut kept).unwrap();
        assert_eq!(&kept, b"kept", "{what}");

        let mut head = Vec::new();
        File::open(&path).unwrap().take(4 << 20).read_to_end(&mut head).unwrap();
        let units: Vec<u8> =
            "G\u{e4}rten \u{1f333}\u{1f333}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let shown: &[u8] = if is_exfat { &units } else { b"PHOTOS     " };
        assert!(head.windows(shown.len()).any(|found| found == shown), "{what}");
        fs::remove_file(&path).unwrap();
    }
}
