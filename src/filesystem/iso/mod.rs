//! ISO 9660 (ECMA-119), for reading, with the names, owners and links of Rock Ridge, or the names of Joliet.
//!
//! Where a volume has both, Rock Ridge is shown, as the kernel does. A directory is known by where it begins, a file by where its record
//! is. Every walk is bounded by the length of its directory, which lies in the volume.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test that panics has failed"
    )
)]

mod clock;
mod names;
mod node;
mod record;
mod rock;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc};

use self::{
    names::Names,
    node::{Index, Node},
    record::{SECTOR, Sector},
};
use super::{
    Attributes, Fault, FileSystem, Found, Kind, Listed, NodeId, Result, Seek, Space,
    bytes::{index, long, short, u8_at, u16_at, u32_at},
    kept::Kept,
};
use crate::block::ByteDevice;

/// A volume that was opened, for reading.
#[derive(Debug)]
pub struct IsoFileSystem(Iso);

/// The volume.
#[derive(Debug)]
struct Iso {
    device: Arc<ByteDevice>,
    /// In bytes: 512, 1024 or 2048.
    block_len: u64,
    blocks: u64,
    /// Where the root directory begins, in bytes.
    root: u64,
    names: Names,
    /// How many bytes each record's fields of Rock Ridge leave out; `None` where there are none.
    rock_start: Option<usize>,
    nodes: Kept<u64, Node>,
    indexes: Kept<u64, Index>,
}

/// A tree of directories that a volume has: by whom it is named, and where its root is.
struct Tree {
    names: Names,
    block_len: u64,
    blocks: u64,
    root: u64,
}

impl IsoFileSystem {
    /// Opens the volume on `device`. Nothing is written.
    pub fn open(device: &Arc<ByteDevice>) -> Result<Self> {
        let opened = Iso::open(device).map(Self);
        // What the volume itself needs cannot have gone.
        opened.map_err(|fault| if fault == Fault::Io { fault } else { Fault::Damaged })
    }

    /// Whether it has all that POSIX knows of files, which no other tree of a disc has.
    pub fn has_rock_ridge(&self) -> bool {
        self.0.names == Names::Rock
    }
}

impl Iso {
    fn open(device: &Arc<ByteDevice>) -> Result<Self> {
        let trees = trees(device)?;
        let plain = trees.iter().find(|tree| tree.names == Names::Plain).ok_or(Fault::Damaged)?;
        let mut iso = Self::of(device, plain);
        let root = iso.dot(iso.root)?;
        iso.rock_start = iso.rock_start(&root)?;
        let joliet = trees.iter().find(|tree| tree.names == Names::Joliet);
        match (iso.rock_start, joliet) {
            (None, Some(joliet)) => iso = Self::of(device, joliet),
            (Some(_), _) => iso.names = Names::Rock,
            (None, None) => {}
        }
        iso.node(NodeId::ROOT)?;
        Ok(iso)
    }

    fn of(device: &Arc<ByteDevice>, tree: &Tree) -> Self {
        Self {
            device: Arc::clone(device),
            block_len: tree.block_len,
            blocks: tree.blocks,
            root: tree.root,
            names: tree.names,
            rock_start: None,
            nodes: Kept::new(KEPT_NODES),
            indexes: Kept::new(KEPT_INDEXES),
        }
    }

    /// Reads a file's bytes.
    fn read(&self, node: &Node, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let left = node.attributes.size.saturating_sub(offset);
        let len = buf.len().min(index(left));
        let mut rest = buf.get_mut(..len).ok_or(Fault::Damaged)?;
        let mut skipped = offset;
        for (start, section_len) in &node.sections {
            if skipped >= *section_len {
                skipped = skipped.saturating_sub(*section_len);
                continue;
            }
            let here = index(section_len.saturating_sub(skipped)).min(rest.len());
            let (part, behind) = rest.split_at_mut_checked(here).ok_or(Fault::Damaged)?;
            self.device.read_at(part, start.checked_add(skipped).ok_or(Fault::Damaged)?)?;
            (rest, skipped) = (behind, 0);
            if rest.is_empty() {
                break;
            }
        }
        // The buffer may hold what somebody else read.
        rest.fill(0);
        Ok(len)
    }
}

/// The trees that the volume's descriptors name.
fn trees(device: &ByteDevice) -> Result<Vec<Tree>> {
    let mut trees = Vec::new();
    let mut descriptor = vec![0; index(SECTOR)];
    for number in 0..MOST_DESCRIPTORS {
        let at = FIRST_DESCRIPTOR.saturating_add(number).saturating_mul(SECTOR);
        match device.read_at(&mut descriptor, at) {
            Ok(()) => {}
            // A volume that ends within its descriptors.
            Err(_) if !trees.is_empty() => break,
            Err(error) => return Err(error.into()),
        }
        if descriptor.get(1..6) != Some(b"CD001") {
            break;
        }
        let names = match u8_at(&descriptor, 0) {
            1 => Names::Plain,
            2 if is_joliet(&descriptor) => Names::Joliet,
            END => break,
            _ => continue,
        };
        let block_len = u64::from(u16_at(&descriptor, 128));
        let root = u64::from(u32_at(&descriptor, 158)).saturating_add(u8_at(&descriptor, 157).into());
        let is_sound = matches!(block_len, 512 | 1024 | 2048);
        if is_sound && trees.iter().all(|tree: &Tree| tree.names != names) {
            let (blocks, root) = (u32_at(&descriptor, 80).into(), root.saturating_mul(block_len));
            trees.push(Tree { names, block_len, blocks, root });
        }
    }
    Ok(trees)
}

/// Whether a supplementary descriptor names its files in UCS-2 (*Joliet Specification*, 3).
fn is_joliet(descriptor: &[u8]) -> bool {
    matches!(descriptor.get(88..91), Some([0x25, 0x2f, 0x40 | 0x43 | 0x45]))
}

impl FileSystem for IsoFileSystem {
    fn name(&self) -> &'static str {
        "ISO 9660"
    }

    fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Found> {
        let found = self.0.find(&*self.0.node(parent)?, name.as_bytes())?;
        Ok(Found { attributes: self.0.node(found)?.attributes, is_exact: true })
    }

    fn forget(&self, _: NodeId, _: u64) {}

    fn attributes(&self, node: NodeId) -> Result<Attributes> {
        Ok(self.0.node(node)?.attributes)
    }

    fn open(&self, node: NodeId) -> Result<()> {
        self.0.node(node).map(|_| ())
    }

    fn release(&self, _: NodeId) {}

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let node = self.0.node(node)?;
        match node.attributes.kind {
            Kind::Directory => Err(Fault::IsDirectory),
            Kind::File if node.is_readable => self.0.read(&node, offset, buf),
            _ => Err(Fault::Unsupported),
        }
    }

    fn target(&self, node: NodeId) -> Result<Vec<u8>> {
        let node = self.0.node(node)?;
        if node.attributes.kind == Kind::Link { Ok(node.target.clone()) } else { Err(Fault::Invalid) }
    }

    fn tells_case(&self) -> bool {
        true
    }

    fn list(&self, node: NodeId, cursor: u64, take: &mut dyn FnMut(&Listed<'_>) -> bool) -> Result<()> {
        self.0.list(&*self.0.node(node)?, cursor, take)
    }

    fn seek(&self, node: NodeId, offset: u64, what: Seek) -> Result<u64> {
        let size = self.0.node(node)?.attributes.size;
        match what {
            _ if offset >= size => Err(Fault::PastEnd),
            Seek::Data => Ok(offset),
            Seek::Hole => Ok(size),
        }
    }

    fn space(&self) -> Space {
        Space {
            unit: short(self.0.block_len),
            total: self.0.blocks,
            free: 0,
            available: 0,
            nodes: 0,
            free_nodes: 0,
            name_max: short(long(names::LONGEST)),
        }
    }
}

/// In sectors.
const FIRST_DESCRIPTOR: u64 = 16;
const MOST_DESCRIPTORS: u64 = 100;
const END: u8 = 255;
/// What is kept in memory, in bytes.
const KEPT_NODES: usize = 4 << 20;
const KEPT_INDEXES: usize = 16 << 20;
