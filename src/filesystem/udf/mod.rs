//! UDF 1.02 to 2.60 (ECMA-167, OSTA UDF), for reading: on disks and sticks, DVDs and Blu-rays. What was written once, session by session,
//! with a virtual partition, is refused.
//!
//! A file is known by the place of its entry. Every walk is bounded by the length of what it walks through, or by a count.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test that panics has failed"
    )
)]

mod directory;
mod entry;
mod extents;
mod tag;
mod volume;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc};

use self::{directory::Index, entry::Entry, extents::Extents, tag::Place, volume::Volume};
use super::{
    Attributes, Fault, FileSystem, Found, Kind, Listed, NodeId, Result, Seek, Space,
    bytes::{index, long, short},
    kept::Kept,
};
use crate::block::ByteDevice;

/// A volume that was opened, for reading.
#[derive(Debug)]
pub struct UdfFileSystem(Udf);

#[derive(Debug)]
struct Udf {
    volume: Volume,
    nodes: Kept<u64, Node>,
    indexes: Kept<u64, Index>,
}

/// What is known of a file.
#[derive(Debug)]
struct Node {
    attributes: Attributes,
    content: Content,
    /// Where a link leads.
    target: Vec<u8>,
}

#[derive(Debug)]
enum Content {
    /// In the entry itself.
    Inside(Box<[u8]>),
    Extents(Extents),
}

impl UdfFileSystem {
    /// Opens the volume on `device`. Nothing is written.
    ///
    /// # Errors
    /// `Unsupported` for a kind of partition that is not read here, `Damaged`, `Io`.
    pub fn open(device: &Arc<ByteDevice>) -> Result<Self> {
        let opened = Volume::open(device).and_then(|volume| {
            let udf = Udf { volume, nodes: Kept::new(KEPT_NODES), indexes: Kept::new(KEPT_INDEXES) };
            let root = udf.node(NodeId::ROOT)?;
            if root.attributes.kind == Kind::Directory { Ok(Self(udf)) } else { Err(Fault::Damaged) }
        });
        // What the volume itself needs cannot have gone.
        opened.map_err(
            |fault| if matches!(fault, Fault::Io | Fault::Unsupported) { fault } else { Fault::Damaged },
        )
    }

    /// Whether the sectors behind the descriptors of ISO 9660 say that a volume is one of UDF, also (ECMA-167, 2/9.1).
    pub fn is_there(device: &ByteDevice) -> bool {
        let mut start = [0; 6];
        let mut descriptors = (16..64_u64).map_while(|sector| {
            device.read_at(&mut start, sector.saturating_mul(2048)).ok()?;
            let known = [b"CD001", b"BEA01", b"NSR02", b"NSR03", b"TEA01", b"BOOT2"];
            let name = start.get(1..6)?;
            known.iter().any(|known| name == *known).then(|| name.starts_with(b"NSR0"))
        });
        descriptors.any(|is_its| is_its)
    }
}

impl Udf {
    /// The file with this number.
    fn node(&self, node: NodeId) -> Result<Arc<Node>> {
        if let Some(found) = self.nodes.find(node.0) {
            return Ok(found);
        }
        let place = if node == NodeId::ROOT { self.volume.root } else { place(node)? };
        let bytes = self.volume.block(place)?;
        let entry = Entry::parse(&bytes, place)?;
        let content = if entry.addresses() == INSIDE {
            Content::Inside(entry.allocation.into())
        } else {
            Content::Extents(self.volume.extents(place, &entry)?)
        };
        let weight = match &content {
            Content::Inside(bytes) => bytes.len(),
            Content::Extents(extents) => extents.weight(),
        };
        let attributes = entry.describe(node, self.volume.block_len);
        let mut found = Node { attributes, content, target: Vec::new() };
        if attributes.kind == Kind::Link {
            found.target = self.link(&found)?;
            // The kernel reads as much of a link as it is long.
            found.attributes.size = long(found.target.len());
        }
        let found = Arc::new(found);
        self.nodes.keep(node.0, Arc::clone(&found), weight.saturating_add(size_of::<Node>()));
        Ok(found)
    }

    /// Reads a file's bytes.
    fn content(&self, node: &Node, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let size = node.attributes.size;
        match &node.content {
            Content::Extents(extents) => self.volume.read(extents, size, offset, buf),
            Content::Inside(bytes) => {
                let bytes = bytes.get(..index(size)).unwrap_or(bytes);
                let rest = bytes.get(index(offset)..).unwrap_or_default();
                let len = rest.len().min(buf.len());
                let (to, from) = (buf.get_mut(..len), rest.get(..len));
                to.zip(from).map(|(to, from)| to.copy_from_slice(from)).ok_or(Fault::Damaged)?;
                Ok(len)
            }
        }
    }
}

/// A file's number: nothing else has it while the volume is mounted.
fn number(place: Place) -> NodeId {
    NodeId((u64::from(place.partition) << 32 | u64::from(place.block)).saturating_add(FIRST_NODE))
}

fn place(node: NodeId) -> Result<Place> {
    let number = node.0.checked_sub(FIRST_NODE).ok_or(Fault::Stale)?;
    let partition = u16::try_from(number >> 32).map_err(|_| Fault::Stale)?;
    let block = u32::try_from(number & u64::from(u32::MAX)).map_err(|_| Fault::Stale)?;
    Ok(Place { block, partition })
}

impl FileSystem for UdfFileSystem {
    fn name(&self) -> &'static str {
        "UDF"
    }

    fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Found> {
        let found = self.0.find(&*self.0.node(parent)?, name.as_bytes())?;
        let node = if found == self.0.volume.root { NodeId::ROOT } else { number(found) };
        Ok(Found { attributes: self.0.node(node)?.attributes, is_exact: true })
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
            Kind::File => self.0.content(&node, offset, buf),
            _ => Err(Fault::Invalid),
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
        let node = self.0.node(node)?;
        let size = node.attributes.size;
        if offset >= size {
            return Err(Fault::PastEnd);
        }
        let Content::Extents(extents) = &node.content else {
            return Ok(if what == Seek::Data { offset } else { size });
        };
        let mut at = offset;
        while at < size {
            let (start, len) = extents.at(at).unwrap_or((None, u64::MAX));
            if start.is_some() == (what == Seek::Data) {
                return Ok(at);
            }
            at = at.saturating_add(len);
        }
        if what == Seek::Hole { Ok(size) } else { Err(Fault::PastEnd) }
    }

    fn space(&self) -> Space {
        Space {
            unit: short(self.0.volume.block_len),
            total: self.0.volume.blocks(),
            free: 0,
            available: 0,
            nodes: 0,
            free_nodes: 0,
            name_max: short(directory::LONGEST),
        }
    }
}

/// How an entry tells that its content stands in it.
const INSIDE: u16 = 3;
/// The root has a number of its own.
const FIRST_NODE: u64 = 2;
/// What is kept in memory, in bytes.
const KEPT_NODES: usize = 8 << 20;
const KEPT_INDEXES: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_places() {
        for found in [Place { block: 0, partition: 0 }, Place { block: u32::MAX, partition: u16::MAX }] {
            assert_eq!(place(number(found)), Ok(found));
            assert_ne!(number(found), NodeId::ROOT);
        }
        assert_eq!(place(NodeId(u64::MAX)), Err(Fault::Stale));
        assert_eq!(place(NodeId::ROOT), Err(Fault::Stale));
    }
}
