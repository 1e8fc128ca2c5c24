//! The way into a volume: anchor, descriptors, partitions, root directory (ECMA-167, 3; UDF 2.60, 2.2).

use std::sync::Arc;

use super::{
    super::{
        Fault, Result,
        bytes::{index, u8_at, u16_at, u32_at},
    },
    extents::Extents,
    tag::{self, Place},
};
use crate::block::ByteDevice;

/// What every walk needs of a volume.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) device: Arc<ByteDevice>,
    /// In bytes: 512 to 4096.
    pub(super) block_len: u64,
    partitions: Vec<Partition>,
    pub(super) root: Place,
}

/// A partition, and how its blocks are found on the medium.
#[derive(Debug)]
struct Partition {
    /// In blocks of the medium.
    start: u32,
    blocks: u32,
    map: Map,
}

#[derive(Debug)]
enum Map {
    /// One after the other.
    Plain,
    /// Packets of blocks that went bad lie elsewhere: which, and where.
    Sparable { packet: u32, moved: Vec<(u32, u32)> },
    /// In a file.
    Metadata(Extents),
}

impl Volume {
    pub(super) fn open(device: &Arc<ByteDevice>) -> Result<Self> {
        for block_len in BLOCKS {
            let last = device.size().checked_div(block_len).unwrap_or_default().saturating_sub(1);
            for at in [256, last, last.saturating_sub(256)] {
                let Ok(at) = u32::try_from(at) else { continue };
                let anchor = medium_block(device, block_len, at);
                if anchor.as_ref().is_ok_and(|anchor| tag::kind(anchor, at) == Some(tag::ANCHOR)) {
                    let anchor = anchor?;
                    let read = |at| {
                        Self::described(
                            device,
                            block_len,
                            (u32_at(&anchor, at), u32_at(&anchor, at.saturating_add(4))),
                        )
                    };
                    return read(16).or_else(|fault| read(24).map_err(|_| fault));
                }
            }
        }
        Err(Fault::Damaged)
    }

    /// By the descriptors in an extent, whose length in bytes and first block are told.
    fn described(device: &Arc<ByteDevice>, block_len: u64, extent: (u32, u32)) -> Result<Self> {
        let (mut partitions, mut volume) = (Vec::new(), None::<Vec<u8>>);
        let of = |(len, at): (u32, u32)| (at, u64::from(len).checked_div(block_len).unwrap_or_default());
        let (mut at, mut left) = of(extent);
        for _ in 0..MOST_DESCRIPTORS {
            if left == 0 {
                break;
            }
            let bytes = medium_block(device, block_len, at)?;
            let kind = tag::kind(&bytes, at);
            (at, left) = (at.saturating_add(1), left.saturating_sub(1));
            match kind {
                Some(tag::PARTITION) => partitions.push(bytes),
                // The last one that was recorded counts.
                Some(tag::LOGICAL_VOLUME) => {
                    let is_newer = volume.as_ref().is_none_or(|old| u32_at(old, 16) <= u32_at(&bytes, 16));
                    if is_newer {
                        volume = Some(bytes);
                    }
                }
                Some(tag::POINTER) => (at, left) = of((u32_at(&bytes, 20), u32_at(&bytes, 24))),
                Some(tag::TERMINATOR) | None => break,
                Some(_) => {}
            }
        }
        let volume =
            volume.filter(|volume| u64::from(u32_at(volume, 212)) == block_len).ok_or(Fault::Damaged)?;
        let root = Place { block: 0, partition: 0 };
        let mut opened = Self { device: Arc::clone(device), block_len, partitions: Vec::new(), root };
        opened.map_partitions(&volume, &partitions)?;
        let (_, files) = tag::long_address(&volume, 248);
        let set = opened.block(files)?;
        tag::expect(&set, files.block, tag::FILE_SET)?;
        (_, opened.root) = tag::long_address(&set, 400);
        Ok(opened)
    }

    fn map_partitions(&mut self, volume: &[u8], partitions: &[Vec<u8>]) -> Result<()> {
        let len = index(u32_at(volume, 264));
        let mut maps = volume.get(440..).and_then(|maps| maps.get(..len)).ok_or(Fault::Damaged)?;
        let mut over_files = Vec::new();
        for _ in 0..u32_at(volume, 268).min(MOST_PARTITIONS) {
            let (map, behind) = maps.split_at_checked(usize::from(u8_at(maps, 1))).ok_or(Fault::Damaged)?;
            maps = behind;
            let number = match u8_at(map, 0) {
                1 => u16_at(map, 4),
                2 => u16_at(map, 38),
                _ => return Err(Fault::Unsupported),
            };
            let found = partitions.iter().rfind(|found| u16_at(found, 22) == number).ok_or(Fault::Damaged)?;
            let (start, blocks) = (u32_at(found, 188), u32_at(found, 192));
            let kind = map.get(5..28).unwrap_or_default();
            let is = |name: &[u8]| u8_at(map, 0) == 2 && kind.starts_with(name);
            let map = if u8_at(map, 0) == 1 {
                Map::Plain
            } else if is(b"*UDF Sparable Partition") {
                self.sparing(map)?
            } else if is(b"*UDF Metadata Partition") {
                over_files.push((self.partitions.len(), [u32_at(map, 40), u32_at(map, 44)]));
                Map::Plain
            } else {
                return Err(Fault::Unsupported);
            };
            self.partitions.push(Partition { start, blocks, map });
        }
        for (which, files) in over_files {
            let mut others = (0_u16..).zip(&self.partitions);
            let under = others.find(|(at, under)| usize::from(*at) != which && self.is_of(under, which));
            let (under, _) = under.ok_or(Fault::Damaged)?;
            let file = |block: u32| self.file_of(Place { block, partition: under });
            let [main, mirror] = files;
            let extents = file(main).or_else(|fault| file(mirror).map_err(|_| fault))?;
            let place = self.partitions.get_mut(which).ok_or(Fault::Damaged)?;
            place.map = Map::Metadata(extents);
        }
        Ok(())
    }

    /// Whether a partition is the one in which the metadata partition `which` has its file.
    fn is_of(&self, under: &Partition, which: usize) -> bool {
        self.partitions.get(which).is_some_and(|over| over.start == under.start)
    }

    /// The table of packets that lie elsewhere (UDF 2.60, 2.2.12): the first copy that can be read.
    fn sparing(&self, map: &[u8]) -> Result<Map> {
        let packet = u32::from(u16_at(map, 40));
        let len = u64::from(u32_at(map, 44)).min(LONGEST_TABLE);
        if packet == 0 {
            return Err(Fault::Damaged);
        }
        for number in 0..usize::from(u8_at(map, 42)).min(4) {
            let at = u32_at(map, 48_usize.saturating_add(number.saturating_mul(4)));
            let mut table = vec![0; index(len)];
            let start = u64::from(at).saturating_mul(self.block_len);
            let is_read = self.device.read_at(&mut table, start).is_ok();
            if !is_read
                || u32_at(&table, 12) != at
                || table.get(17..40).is_none_or(|name| !name.starts_with(b"*UDF Sparing Table"))
            {
                continue;
            }
            let entries = table.get(56..).unwrap_or_default().chunks_exact(8);
            let entries = entries.take(usize::from(u16_at(&table, 48)));
            let moved = entries.map(|entry| (u32_at(entry, 0), u32_at(entry, 4)));
            // Marks of free and broken packets.
            let moved = moved.filter(|(from, _)| *from < 0xffff_fff0).collect();
            return Ok(Map::Sparable { packet, moved });
        }
        Err(Fault::Damaged)
    }

    /// Where a block is, in bytes of the medium, and how many behind it follow there.
    pub(super) fn find(&self, place: Place) -> Result<(u64, u64)> {
        let partition = self.partitions.get(usize::from(place.partition)).ok_or(Fault::Damaged)?;
        let left = partition.blocks.checked_sub(place.block).filter(|left| *left > 0);
        match &partition.map {
            Map::Metadata(extents) => {
                let at = u64::from(place.block).saturating_mul(self.block_len);
                match extents.at(at) {
                    Some((Some(start), len)) => Ok((start, len)),
                    _ => Err(Fault::Damaged),
                }
            }
            Map::Plain => self.bytes(partition.start, place.block, left.ok_or(Fault::Damaged)?),
            Map::Sparable { packet, moved } => {
                let left = left.ok_or(Fault::Damaged)?;
                let within = place.block.checked_rem(*packet).ok_or(Fault::Damaged)?;
                let first = place.block.saturating_sub(within);
                let here = packet.saturating_sub(within).min(left);
                match moved.iter().find(|(from, _)| *from == first) {
                    Some((_, to)) => self.bytes(*to, within, here),
                    None => self.bytes(partition.start, place.block, here),
                }
            }
        }
    }

    fn bytes(&self, start: u32, block: u32, blocks: u32) -> Result<(u64, u64)> {
        let at = u64::from(start).checked_add(block.into()).and_then(|at| at.checked_mul(self.block_len));
        let at = at.filter(|at| *at < self.device.size()).ok_or(Fault::Damaged)?;
        Ok((at, u64::from(blocks).saturating_mul(self.block_len)))
    }

    /// Reads one block.
    pub(super) fn block(&self, place: Place) -> Result<Vec<u8>> {
        let (at, _) = self.find(place)?;
        let mut bytes = vec![0; index(self.block_len)];
        self.device.read_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// How many blocks all partitions have.
    pub(super) fn blocks(&self) -> u64 {
        let blocks = |partition: &Partition| match partition.map {
            Map::Metadata(_) => 0,
            _ => u64::from(partition.blocks),
        };
        self.partitions.iter().map(blocks).sum()
    }
}

fn medium_block(device: &ByteDevice, block_len: u64, at: u32) -> Result<Vec<u8>> {
    let mut bytes = vec![0; index(block_len)];
    device.read_at(&mut bytes, u64::from(at).saturating_mul(block_len))?;
    Ok(bytes)
}

const BLOCKS: [u64; 4] = [2048, 512, 4096, 1024];
const MOST_DESCRIPTORS: u32 = 256;
const MOST_PARTITIONS: u32 = 8;
const LONGEST_TABLE: u64 = 1 << 20;
