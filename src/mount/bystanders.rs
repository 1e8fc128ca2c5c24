//! The mounts that go with a volume that is taken away by force.

use super::{
    mountinfo::{Mount, MountTable},
    registry::Record,
};

/// The mounts around a volume, as they are before it goes.
#[derive(Debug, Default)]
pub(super) struct Bystanders {
    /// The other mounts of the same file system.
    copies: Vec<Mount>,
    /// What was mounted on the volume itself.
    covers: Vec<Mount>,
}

impl Bystanders {
    pub(super) fn of(record: &Record) -> Self {
        let Some(id) = record.mount.or(record.block_mount) else { return Self::default() };
        let Ok(table) = MountTable::read() else { return Self::default() };
        let copies = table.copies(id).cloned().collect();
        let place = table.find(id).map(|mount| &mount.mountpoint).filter(|_| table.cover_of(id).is_some());
        let here = table.mounts().iter().filter(|mount| Some(&mount.mountpoint) == place);
        Self { copies, covers: here.skip_while(|mount| mount.id != id).skip(1).cloned().collect() }
    }

    /// Says which of them went with the volume: who goes on writing there writes to the disk below, unencrypted.
    pub(super) fn tell_of_gone(&self, tell: &dyn Fn(&str)) {
        let table = MountTable::read().unwrap_or_default();
        let is_gone = |mount: &&Mount| table.find(mount.id).is_none();
        for copy in self.copies.iter().filter(is_gone) {
            tell(&format!(
                "the mount on {} has gone as well: what is written there from now on is not encrypted",
                copy.mountpoint.display()
            ));
        }
        for cover in self.covers.iter().filter(is_gone) {
            tell(&format!(
                "what was mounted over {} ({}) has been unmounted as well",
                cover.mountpoint.display(),
                cover.kind
            ));
        }
    }
}
