//! ext2, ext3 and ext4, read only (Linux, `Documentation/filesystems/ext4`).
//!
//! A volume that was not left clean shows as its journal has it: that is replayed in memory. Checksums are checked where the volume has
//! them; what does not match its own is damage, and only the file that it belongs to cannot be read.

mod acl;
mod attribute;
mod checksum;
mod directory;
mod features;
mod file;
mod hash;
mod hashed;
mod inode;
mod journal;
mod mapping;
mod store;
mod superblock;
mod volume;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, sync::Arc};

pub use journal::Journal;
pub use volume::Unreadable;

use self::{
    features::Features,
    inode::{INLINE, Inode, ROOT, is_nameable},
    volume::Volume,
};
use super::{
    Attributes, Changes, Fault, FileSystem, Found, Kind, Listed, NodeId, Result, Rights, Seek, Space,
    bytes::short,
};
use crate::block::ByteDevice;

/// A mounted volume. Nothing in it changes, so that all threads read beside each other.
#[derive(Debug)]
pub struct ExtFileSystem {
    volume: Volume,
    overhead: u64,
}

impl ExtFileSystem {
    /// Opens the volume on `device`, and tells what became of its journal. Nothing is written.
    ///
    /// The volume may be longer than the device where that `is_cut_short`: what lies behind the end cannot be read then.
    pub fn open(device: &Arc<ByteDevice>, is_cut_short: bool) -> Result<(Self, Journal), Unreadable> {
        let (volume, journal) = Volume::open(device, if is_cut_short { u64::MAX } else { device.size() })?;
        let root = volume.inode(ROOT)?;
        directory::check_directory(&root)?;
        let overhead = volume.overhead();
        Ok((Self { volume, overhead }, journal))
    }

    /// The feature for which a volume cannot be read, where the first bytes of it name such a one.
    pub fn unreadable_feature(head: &[u8]) -> Option<String> {
        Features::parse(head.get(superblock::START..)?).refused()
    }

    /// The file behind a node that the kernel knows.
    fn inode(&self, node: NodeId) -> Result<Inode> {
        let number =
            if node == NodeId::ROOT { ROOT } else { u32::try_from(node.0).map_err(|_| Fault::Stale)? };
        self.named(number)
    }

    /// The file that a name leads to.
    fn named(&self, number: u32) -> Result<Inode> {
        if !is_nameable(&self.volume.superblock, number) {
            return Err(Fault::Stale);
        }
        let inode = self.volume.inode(number)?;
        if inode.links == 0 { Err(Fault::Stale) } else { Ok(inode) }
    }

    fn file(&self, node: NodeId) -> Result<Inode> {
        let inode = self.inode(node)?;
        match inode.kind()? {
            Kind::File => Ok(inode),
            Kind::Directory => Err(Fault::IsDirectory),
            _ => Err(Fault::Invalid),
        }
    }
}

fn described(inode: &Inode) -> Result<Attributes> {
    let kind = inode.kind()?;
    let times = inode.times;
    // A file within its inode takes no block, and would count as a hole to programs that look for such.
    let is_inline = inode.has(INLINE) && kind == Kind::File;
    let own = if is_inline { inode.size.next_multiple_of(512) } else { 0 };
    Ok(Attributes {
        node: node(inode.number),
        kind,
        size: inode.size,
        allocated: inode.allocated.saturating_add(own),
        links: inode.links.into(),
        device: if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) { inode.device() } else { 0 },
        rights: Rights::Posix { mode: inode.mode & 0o7777, uid: inode.uid, gid: inode.gid },
        modified: times.modified,
        changed: times.changed,
        accessed: times.accessed,
        created: times.created,
    })
}

fn node(number: u32) -> NodeId {
    if number == ROOT { NodeId::ROOT } else { NodeId(number.into()) }
}

impl FileSystem for ExtFileSystem {
    fn name(&self) -> &'static str {
        "ext4"
    }

    fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Found> {
        let number = self.volume.find(&self.inode(parent)?, name.as_bytes())?;
        Ok(Found { attributes: described(&self.named(number)?)?, is_exact: true })
    }

    fn forget(&self, _: NodeId, _: u64) {}

    fn attributes(&self, node: NodeId) -> Result<Attributes> {
        described(&self.inode(node)?)
    }

    fn set_attributes(&self, _: NodeId, _: &Changes) -> Result<Attributes> {
        Err(Fault::ReadOnly)
    }

    fn open(&self, node: NodeId) -> Result<()> {
        self.inode(node).map(drop)
    }

    fn release(&self, _: NodeId) {}

    fn read(&self, node: NodeId, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.volume.read(&self.file(node)?, offset, buf)
    }

    fn write(&self, _: NodeId, _: u64, _: &[u8]) -> Result<()> {
        Err(Fault::ReadOnly)
    }

    fn create(&self, _: NodeId, _: &OsStr, _: Kind) -> Result<Found> {
        Err(Fault::ReadOnly)
    }

    fn remove(&self, _: NodeId, _: &OsStr, _: Kind) -> Result<()> {
        Err(Fault::ReadOnly)
    }

    fn rename(&self, _: (NodeId, &OsStr), _: (NodeId, &OsStr), _: bool) -> Result<()> {
        Err(Fault::ReadOnly)
    }

    fn target(&self, node: NodeId) -> Result<Vec<u8>> {
        self.volume.target(&self.inode(node)?)
    }

    fn extended(&self, node: NodeId, name: &OsStr) -> Result<Vec<u8>> {
        self.volume.attribute(&self.inode(node)?, name.as_bytes())
    }

    fn extended_names(&self, node: NodeId) -> Result<Vec<u8>> {
        self.volume.attribute_names(&self.inode(node)?)
    }

    fn has_access_lists(&self) -> bool {
        true
    }

    fn list(&self, parent: NodeId, cursor: u64, take: &mut dyn FnMut(&Listed<'_>) -> bool) -> Result<()> {
        let directory = self.inode(parent)?;
        self.volume.entries(&directory, cursor, &mut |entry, next| {
            let known = entry.kind.or_else(|| self.named(entry.inode).ok()?.kind().ok());
            let Some(kind) = known else { return true };
            take(&Listed { name: OsStr::from_bytes(entry.name), node: node(entry.inode), kind, next })
        })
    }

    fn allocate(&self, _: NodeId, _: u64) -> Result<()> {
        Err(Fault::ReadOnly)
    }

    fn seek(&self, node: NodeId, offset: u64, what: Seek) -> Result<u64> {
        self.volume.seek(&self.file(node)?, offset, what)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn is_unsynced(&self) -> bool {
        false
    }

    fn space(&self) -> Space {
        let superblock = &self.volume.superblock;
        let free = superblock.free_blocks;
        Space {
            unit: superblock.block_len,
            total: superblock.blocks.saturating_sub(self.overhead),
            free,
            available: free.saturating_sub(superblock.reserved_blocks),
            nodes: superblock.inodes.into(),
            free_nodes: superblock.free_inodes.into(),
            name_max: short(directory::LONGEST_NAME),
        }
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}
