//! New volumes: FAT12, FAT16, FAT32 and exFAT, by the same specifications as [`layout`](super::layout).
//!
//! The boot sectors come last, behind a flush: a power cut before leaves no volume that only seems to be one.

use super::{
    super::{
        Fault, Result,
        bytes::{index, long, put},
    },
    layout::{Layout, Root, Width},
    names::{UpCase, checksum},
};
use crate::block::ByteDevice;

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct NewFat<'a> {
    /// exFAT; else FAT, of the width that suits the size.
    pub is_exfat: bool,
    /// Bytes of a sector: a power of two from 512 to 4096.
    pub sector: u32,
    /// The volume's name, cut to eleven characters. FAT keeps it in capitals.
    pub label: Option<&'a str>,
    /// A number that tells volumes apart.
    pub serial: u32,
}

impl NewFat<'_> {
    /// Whether there can be one on a device of `len` bytes.
    pub fn fits(&self, len: u64) -> bool {
        self.plan(len).is_some()
    }

    fn plan(&self, len: u64) -> Option<(Layout, u64)> {
        if self.is_exfat { plan_exfat(len, self.sector) } else { plan_fat(len, self.sector) }
    }

    /// Makes an empty file system that fills the device. What was there is lost.
    ///
    /// # Errors
    /// `TooLarge` where the device is too large or too small for it; what writing gave.
    pub fn make(&self, device: &ByteDevice) -> Result<()> {
        let (layout, sectors) = self.plan(device.size()).ok_or(Fault::TooLarge)?;
        // Nothing of what was there is taken for this volume, whatever comes of it.
        device.zero_range(0..layout.heap)?;
        let boot = if self.is_exfat {
            self.fill_exfat(device, &layout, sectors)?
        } else {
            self.fill_fat(device, &layout, sectors)?
        };
        // It must be one that we would open.
        if Layout::parse(&boot, device.size())? != layout {
            return Err(Fault::Damaged);
        }
        device.flush()?;
        device.write_at(&boot, 0)?;
        Ok(device.flush()?)
    }

    /// Writes all of a FAT but the boot region, and gives that.
    fn fill_fat(&self, device: &ByteDevice, layout: &Layout, sectors: u64) -> Result<Vec<u8>> {
        let label = self.label.map(fat_label).filter(|label| *label != NO_NAME);
        let (root, root_len) = match layout.root {
            Root::Fixed { offset, len } => (offset, u64::from(len)),
            Root::Chain(first) => (layout.offset(first), layout.cluster_len.into()),
        };
        device.zero_range(root..root + root_len)?;
        if let Some(label) = &label {
            let mut entry = [0; 32];
            put(&mut entry, 0, label);
            put(&mut entry, 11, &[VOLUME_ID]);
            device.write_at(&entry, root)?;
        }
        let first: &[u8] = match layout.width {
            Width::Bits12 => &[MEDIA, 0xff, 0xff],
            Width::Bits16 => &[MEDIA, 0xff, 0xff, 0xff],
            // The third is the root's only cluster.
            _ => &[MEDIA, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f, 0xff, 0xff, 0xff, 0x0f],
        };
        for copy in 0..u64::from(layout.copies) {
            device.write_at(first, layout.table + copy * layout.table_len)?;
        }
        Ok(self.fat_boot(layout, sectors, label.unwrap_or(NO_NAME)))
    }

    fn fat_boot(&self, layout: &Layout, sectors: u64, label: [u8; 11]) -> Vec<u8> {
        let sector = index(layout.sector);
        let is_long = layout.width == Width::Bits32;
        let reserved = layout.table / u64::from(layout.sector);
        let mut boot = vec![0; if is_long { sector * (BACKUP_SECTOR + 2) } else { sector }];
        put(&mut boot, 3, b"MSWIN4.1");
        put(&mut boot, 11, &half(layout.sector.into()));
        put(&mut boot, 13, &[byte(layout.cluster_len / layout.sector)]);
        put(&mut boot, 14, &half(reserved));
        put(&mut boot, 16, &[byte(layout.copies)]);
        match u16::try_from(sectors) {
            Ok(few) if !is_long => put(&mut boot, 19, &few.to_le_bytes()),
            _ => put(&mut boot, 32, &word(sectors)),
        }
        put(&mut boot, 21, &[MEDIA]);
        // A geometry of drives that had one: 63 sectors a track, 255 heads.
        put(&mut boot, 24, &[63, 0, 255, 0]);
        let table = layout.table_len / u64::from(layout.sector);
        let (code, end) = if is_long {
            put(&mut boot, 36, &word(table));
            put(&mut boot, 44, &2_u32.to_le_bytes());
            put(&mut boot, 48, &[1, 0, byte(BACKUP_SECTOR), 0]);
            (0x58, 64)
        } else {
            put(&mut boot, 17, &half(ROOT_ENTRIES));
            put(&mut boot, 22, &half(table));
            (0x3c, 36)
        };
        let kind: &[u8; 8] = match layout.width {
            Width::Bits12 => b"FAT12   ",
            Width::Bits16 => b"FAT16   ",
            _ => b"FAT32   ",
        };
        put(&mut boot, 0, &[0xeb, code, 0x90]);
        put(&mut boot, end, &[0x80, 0, 0x29]);
        put(&mut boot, end + 3, &self.serial.to_le_bytes());
        put(&mut boot, end + 7, &label);
        put(&mut boot, end + 18, kind);
        put(&mut boot, usize::from(code) + 2, &BOOT_CODE);
        put(&mut boot, 510, &SIGNATURE);
        if is_long {
            let info = sector;
            put(&mut boot, info, b"RRaA");
            put(&mut boot, info + 484, b"rrAa");
            put(&mut boot, info + 488, &(layout.clusters - 1).to_le_bytes());
            put(&mut boot, info + 492, &3_u32.to_le_bytes());
            put(&mut boot, info + 510, &SIGNATURE);
            let copied = boot[..sector * 2].to_vec();
            put(&mut boot, sector * BACKUP_SECTOR, &copied);
        }
        boot
    }

    /// Writes all of an exFAT but the boot regions, and gives these.
    fn fill_exfat(&self, device: &ByteDevice, layout: &Layout, sectors: u64) -> Result<Vec<u8>> {
        let up_case = UpCase::for_new_volume();
        let bitmap_len = u64::from(layout.clusters).div_ceil(8);
        let files = [bitmap_len, long(up_case.len()), u64::from(layout.cluster_len)];
        let mut starts = [0_u32; 3];
        let mut table = vec![0xf8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let mut next = 2_u32;
        for (start, len) in starts.iter_mut().zip(files) {
            *start = next;
            let count = u32::try_from(layout.clusters_for(len)).map_err(|_| Fault::TooLarge)?;
            for cluster in next..next + count {
                let is_last = cluster + 1 == next + count;
                table.extend(if is_last { u32::MAX } else { cluster + 1 }.to_le_bytes());
            }
            next += count;
        }
        let [bitmap, upper, root] = starts;
        let used = next - 2;
        if used > layout.clusters {
            return Err(Fault::TooLarge);
        }
        device.zero_range(layout.heap..layout.offset(next))?;
        device.write_at(&table, layout.table)?;
        let mut bits = vec![0xff; index(used / 8)];
        bits.push((1 << (used % 8)) - 1);
        device.write_at(&bits[..index(u64::from(used).div_ceil(8))], layout.offset(bitmap))?;
        device.write_at(&up_case, layout.offset(upper))?;

        let mut entries = [0; 96];
        let label: Vec<u16> = self.label.unwrap_or_default().encode_utf16().take(LABEL_LEN).collect();
        // Not half a character.
        let label = match char::decode_utf16(label.iter().copied()).last() {
            Some(Err(_)) => &label[..label.len() - 1],
            _ => &label[..],
        };
        entries[0] = if label.is_empty() { 0x03 } else { 0x83 };
        entries[1] = byte(label.len());
        for (number, unit) in label.iter().enumerate() {
            put(&mut entries, 2 + number * 2, &unit.to_le_bytes());
        }
        entries[32] = 0x81;
        put(&mut entries, 32 + 20, &bitmap.to_le_bytes());
        put(&mut entries, 32 + 24, &bitmap_len.to_le_bytes());
        entries[64] = 0x82;
        put(&mut entries, 64 + 4, &checksum(&up_case).to_le_bytes());
        put(&mut entries, 64 + 20, &upper.to_le_bytes());
        put(&mut entries, 64 + 24, &long(up_case.len()).to_le_bytes());
        device.write_at(&entries, layout.offset(root))?;
        Ok(self.exfat_boot(layout, sectors, used))
    }

    fn exfat_boot(&self, layout: &Layout, sectors: u64, used: u32) -> Vec<u8> {
        let sector = index(layout.sector);
        let mut region = vec![0; sector * BOOT_REGION];
        let in_sectors = |bytes: u64| word(bytes / u64::from(layout.sector));
        let root = match layout.root {
            Root::Chain(first) => first,
            Root::Fixed { .. } => 0,
        };
        put(&mut region, 0, &[0xeb, 0x76, 0x90]);
        put(&mut region, 3, b"EXFAT   ");
        put(&mut region, 72, &sectors.to_le_bytes());
        put(&mut region, 80, &in_sectors(layout.table));
        put(&mut region, 84, &in_sectors(layout.table_len));
        put(&mut region, 88, &in_sectors(layout.heap));
        put(&mut region, 92, &layout.clusters.to_le_bytes());
        put(&mut region, 96, &root.to_le_bytes());
        put(&mut region, 100, &self.serial.to_le_bytes());
        put(&mut region, 104, &[0, 1]);
        let percent = u64::from(used) * 100 / u64::from(layout.clusters).max(1);
        let shift = |number: u32| byte(number.trailing_zeros());
        let flags = [shift(layout.sector), shift(layout.cluster_len / layout.sector), 1, 0x80, byte(percent)];
        put(&mut region, 108, &flags);
        put(&mut region, 120, &BOOT_CODE);
        put(&mut region, 510, &SIGNATURE);
        for extended in 1..=8 {
            put(&mut region, sector * (extended + 1) - 2, &SIGNATURE);
        }
        // Flags and the share in use change, and are left out.
        let sum = region[..sector * (BOOT_REGION - 1)]
            .iter()
            .enumerate()
            .filter(|(at, _)| ![106, 107, 112].contains(at))
            .fold(0_u32, |sum, (_, &byte)| sum.rotate_right(1).wrapping_add(byte.into()));
        for at in (sector * (BOOT_REGION - 1)..sector * BOOT_REGION).step_by(4) {
            put(&mut region, at, &sum.to_le_bytes());
        }
        region.repeat(2)
    }
}

/// Where everything lies in a FAT of `len` bytes, and how many sectors it says that it has. `None` where no FAT is so large, or
/// so small.
fn plan_fat(len: u64, sector: u32) -> Option<(Layout, u64)> {
    let sectors = u32::try_from(len / u64::from(sector)).ok()?;
    let len = u64::from(sectors) * u64::from(sector);
    // As large as other programs make them, and never smaller than a sector.
    let (widths, first): (&[Width], u32) = match len >> 20 {
        0..4 => (&[Width::Bits12], 512),
        4..16 => (&[Width::Bits16, Width::Bits12], 512),
        16..128 => (&[Width::Bits16, Width::Bits12], 2048),
        128..256 => (&[Width::Bits16], 4096),
        256..512 => (&[Width::Bits16], 8192),
        512..8192 => (&[Width::Bits32], 4096),
        8192..16384 => (&[Width::Bits32], 8192),
        16384..32768 => (&[Width::Bits32], 16384),
        _ => (&[Width::Bits32], 32768),
    };
    let cluster_lens = (0..8).map(|shift| first << shift).filter(|&len| len >= sector && len <= 32768);
    let mut plans =
        widths.iter().flat_map(|&width| cluster_lens.clone().map(move |cluster| (width, cluster)));
    let layout = plans.find_map(|(width, cluster)| fat_layout(len, sector, width, cluster))?;
    Some((layout, sectors.into()))
}

fn fat_layout(len: u64, sector: u32, width: Width, cluster_len: u32) -> Option<Layout> {
    let (unit, cluster) = (u64::from(sector), u64::from(cluster_len));
    let is_long = width == Width::Bits32;
    let root_len = if is_long { 0 } else { ROOT_ENTRIES * 32 };
    // Rather one sector of the table too many than one too few.
    let table_len = width.offset(len / cluster + 2).next_multiple_of(unit);
    let least = if is_long { 32 * unit } else { unit };
    let heap = (least + 2 * table_len + root_len).next_multiple_of(cluster);
    let table = heap - root_len - 2 * table_len;
    let clusters = u32::try_from(len.checked_sub(heap)? / cluster).ok()?;
    // Well inside the bounds: not all programs count alike there.
    let suits = match width {
        Width::Bits12 => (1..4085 - 16).contains(&clusters),
        Width::Bits16 => (4085 + 16..65525 - 16).contains(&clusters),
        _ => (65525 + 16..0x0fff_fff0).contains(&clusters),
    };
    let root = if is_long {
        Root::Chain(2)
    } else {
        Root::Fixed { offset: heap - root_len, len: u32::try_from(root_len).ok()? }
    };
    let is_u16 = |number: u64| u16::try_from(number).is_ok();
    let fits = suits && is_u16(table / unit) && (is_long || is_u16(table_len / unit));
    fits.then_some(Layout {
        sector,
        table,
        table_len,
        copies: 2,
        heap,
        cluster_len,
        clusters,
        width,
        root,
        active: None,
        info: is_long.then_some(unit),
    })
}

/// The same of exFAT.
fn plan_exfat(len: u64, sector: u32) -> Option<(Layout, u64)> {
    let sectors = len / u64::from(sector);
    let len = sectors * u64::from(sector);
    let first: u32 = match len >> 20 {
        0..256 => 4096,
        256..32768 => 32768,
        _ => 128 << 10,
    };
    // As flash likes it, where that costs little.
    let alignment = if len >= 64 << 20 { 1 << 20 } else { 4096 };
    let layout = (0..=13).map(|shift| first << shift).find_map(|cluster_len: u32| {
        let cluster = u64::from(cluster_len);
        let table = (24 * u64::from(sector)).next_multiple_of(alignment);
        let table_len = Width::Exfat.offset(len / cluster + 2).next_multiple_of(sector.into());
        let heap = (table + table_len).next_multiple_of(alignment.max(4096));
        let clusters = u32::try_from(len.checked_sub(heap)? / cluster).ok()?;
        let files = [u64::from(clusters).div_ceil(8), long(UpCase::for_new_volume().len())];
        let root: u64 = files.iter().map(|len| len.div_ceil(cluster)).sum::<u64>() + 2;
        let suits = clusters < 0xffff_fff0 && root < u64::from(clusters);
        suits.then_some(Layout {
            sector,
            table,
            table_len,
            copies: 1,
            heap,
            cluster_len,
            clusters,
            width: Width::Exfat,
            root: Root::Chain(u32::try_from(root).ok()?),
            active: None,
            info: None,
        })
    })?;
    Some((layout, sectors))
}

/// A label as FAT keeps it: eleven bytes, capitals.
fn fat_label(label: &str) -> [u8; 11] {
    let mut kept = [b' '; LABEL_LEN];
    for (place, letter) in kept.iter_mut().zip(label.bytes()) {
        *place = letter.to_ascii_uppercase();
    }
    kept
}

fn byte(number: impl TryInto<u8>) -> u8 {
    number.try_into().unwrap_or(u8::MAX)
}

fn half(number: u64) -> [u8; 2] {
    u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes()
}

fn word(number: u64) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

const LABEL_LEN: usize = 11;
const NO_NAME: [u8; LABEL_LEN] = *b"NO NAME    ";
/// The attribute of a label among the entries of the root directory.
const VOLUME_ID: u8 = 0x08;
/// A medium that is not removed.
const MEDIA: u8 = 0xf8;
/// Of the root directory of FAT12 and FAT16: what all programs make.
const ROOT_ENTRIES: u64 = 512;
/// FAT32: where the copy of the boot sector is.
const BACKUP_SECTOR: usize = 6;
/// exFAT: the sectors of a boot region, of which there are two.
const BOOT_REGION: usize = 12;
const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// `int 18h`, and for ever: nothing boots from here.
const BOOT_CODE: [u8; 4] = [0xcd, 0x18, 0xeb, 0xfe];

#[cfg(test)]
mod tests {
    use super::*;

    fn new(is_exfat: bool, sector: u32) -> NewFat<'static> {
        NewFat { is_exfat, sector, label: None, serial: 1 }
    }

    #[test]
    fn a_plan_of_any_size_is_read_again_as_it_was_meant() {
        let sizes = (17..=44).flat_map(|shift| [0, 1, 4095, 12_288].map(|more| (1_u64 << shift) + more));
        for len in sizes {
            for (sector, is_exfat) in [(512, false), (4096, false), (512, true), (4096, true)] {
                let new = new(is_exfat, sector);
                let Some((layout, sectors)) = new.plan(len) else {
                    let is_small = is_exfat && len < 256 << 10;
                    assert!(
                        is_small || !is_exfat && len >= u64::from(sector) << 31,
                        "{len} {sector} {is_exfat}"
                    );
                    continue;
                };
                let boot = if is_exfat {
                    new.exfat_boot(&layout, sectors, 5)
                } else {
                    new.fat_boot(&layout, sectors, NO_NAME)
                };
                assert_eq!(Layout::parse(&boot, len).as_ref(), Ok(&layout), "{len} {sector} {is_exfat}");
                let unused = len - layout.heap - u64::from(layout.clusters) * u64::from(layout.cluster_len);
                assert!(unused < u64::from(layout.cluster_len) + u64::from(sector), "{len}: {unused}");
                assert_eq!(layout.heap % 4096.min(u64::from(layout.cluster_len)), 0);
            }
        }
    }

    #[test]
    fn the_width_suits_the_size() {
        for (len, width, cluster_len) in [
            (1 << 20, Width::Bits12, 512),
            (64 << 20, Width::Bits16, 2048),
            (300 << 20, Width::Bits16, 8192),
            (512 << 20, Width::Bits32, 4096),
            (1 << 40, Width::Bits32, 32768),
        ] {
            let (layout, _) = plan_fat(len, 512).unwrap();
            assert_eq!((layout.width, layout.cluster_len), (width, cluster_len), "{len}");
        }
    }
}
