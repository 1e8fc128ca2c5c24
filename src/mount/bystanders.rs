//! What else goes with a volume that is taken away by force: other mounts of it, mounts on it and in it, overlays on folders of
//! it, and what stands on files of it.

use std::{path::Path, time::Duration};

use rustix::fs::statvfs;

use super::{
    holders::{Holder, holders_elsewhere, overlays_on},
    mountinfo::{Mount, MountId, MountTable},
    program,
    registry::{Record, file_id},
    stacked::{Stack, sync_file_system},
};
use crate::{sys::process::shield, volume::while_moving};

/// What is around a volume, as it is before it goes.
#[derive(Debug, Default)]
pub(super) struct Bystanders {
    /// The other mounts of the same file system.
    copies: Vec<Mount>,
    /// The other mount namespaces that show the block file.
    elsewhere: Vec<Holder>,
    /// What was mounted on the volume itself, and in folders of it.
    covers: Vec<Cover>,
    /// The overlays on folders of it, and whether they write there.
    overlays: Vec<(Mount, bool)>,
    stack: Stack,
}

/// What was mounted on a folder of the volume.
#[derive(Debug)]
struct Cover {
    mount: Mount,
    /// Whether its files are in memory, and nowhere else.
    is_only_copy: bool,
}

impl Bystanders {
    pub(super) fn of(record: &Record) -> Self {
        let Some(id) = record.mount.or(record.block_mount) else { return Self::default() };
        let Ok(table) = MountTable::read() else { return Self::default() };
        let copies = table.copies(id).cloned().collect();
        // Of a file system that is still used elsewhere, the end itself tells.
        let elsewhere = if record.mount.is_none() { holders_elsewhere(id) } else { Vec::new() };
        let Some(own) = table.find(id) else {
            // The volume's own loop device stands on its block file, and on nothing of the file system.
            let stack = match record.mount {
                Some(id) => Stack::left_on(id, &table),
                None => Stack::on(&record.block_directory, &table),
            };
            return Self { copies, elsewhere, stack, ..Self::default() };
        };
        let place = &own.mountpoint;
        let is_covered = table.cover_of(id).is_some();
        let here = table.mounts().iter().filter(|mount| mount.mountpoint == *place && is_covered);
        let here = here.skip_while(|mount| mount.id != id).skip(1);
        let covers = here
            .chain(table.below(place))
            .map(|mount| Cover { mount: mount.clone(), is_only_copy: is_only_copy(mount, &table) });
        let writes_to_it = |overlay: &Mount| {
            let own = file_id(place).map(|(device, _)| device);
            let is_own =
                |layer: &Path| layer.is_relative() || file_id(layer).map(|(device, _)| device) == own;
            !overlay.is_read_only() && overlay.upper_layers().any(|layer| is_own(&layer))
        };
        let overlays =
            overlays_on(&table, id).map(|overlay| (overlay.clone(), writes_to_it(overlay))).collect();
        let stack = Stack::on(place, &table);
        Self { copies, elsewhere, covers: covers.collect(), overlays, stack }
    }

    /// Whether something is to be seen here that stands on the file system of the mount `id`, and goes on using it when that is detached:
    /// an overlay, or a loop device.
    pub(super) fn stand_on(id: MountId) -> bool {
        let Ok(table) = MountTable::read() else { return false };
        let stack = match table.find(id) {
            Some(own) if overlays_on(&table, own.id).next().is_some() => return true,
            Some(own) => Stack::on(&own.mountpoint, &table),
            None => Stack::left_on(id, &table),
        };
        stack.holders().next().is_some()
    }

    /// Brings to the volume what they hold of it: while it is there, as a later sync would find nothing to write to.
    pub(super) fn sync(&self) {
        let may_run = while_moving(FORCED_SYNC);
        let overlays = self.overlays.iter().filter(|(_, writes)| *writes);
        let overlays = overlays.filter_map(|(overlay, _)| sync_file_system(&overlay.mountpoint));
        for mut command in overlays.chain(self.stack.flushing()) {
            // What could not be written, or not in time, is told as lost in any case.
            let _as_far_as_it_goes = program::run_while(shield(&mut command), &may_run);
        }
    }

    /// Says what went with the volume, and gives what may be lost by that. Who goes on writing to a folder of it writes to the disk
    /// below, unencrypted.
    pub(super) fn tell_of_gone(&self, is_read_only: bool, mut tell: impl FnMut(&str)) -> Vec<String> {
        let table = MountTable::read().unwrap_or_default();
        let is_gone = |mount: &Mount| table.find(mount.id).is_none();
        let mut lost = Vec::new();
        for copy in self.copies.iter().filter(|copy| is_gone(copy)) {
            tell(&format!(
                "the mount on {} has gone as well: what is written there from now on is not encrypted",
                copy.mountpoint.display()
            ));
        }
        for Cover { mount, is_only_copy } in self.covers.iter().filter(|cover| is_gone(&cover.mount)) {
            let (place, kind) = (mount.mountpoint.display(), &mount.kind);
            if *is_only_copy {
                lost.push(format!("what was mounted over {place} ({kind}) had its files only in memory"));
            } else {
                tell(&format!("what was mounted over {place} ({kind}) has been unmounted as well"));
            }
        }
        for (overlay, writes) in &self.overlays {
            let place = overlay.mountpoint.display();
            if *writes && !is_read_only {
                lost.push(format!(
                    "the overlay on {place} kept its changes in it, and can save no more from now on"
                ));
            } else {
                tell(&format!("the overlay on {place} showed folders of it, and can no longer read them"));
            }
        }
        if !is_read_only {
            let elsewhere =
                self.elsewhere.iter().map(|holder| format!("{holder} can save no more from now on"));
            lost.extend(elsewhere.chain(self.lost_above()));
        }
        lost
    }

    fn lost_above(&self) -> Option<String> {
        let written = self.stack.mounts.iter().filter(|mount| !mount.read_only);
        let written: Vec<_> = written.map(|mount| mount.place.display().to_string()).collect();
        if !written.is_empty() {
            let places = written.join(", ");
            return Some(format!("the file system on {places} lay in it, and can save no more from now on"));
        }
        let is_read_only = !self.stack.mounts.is_empty();
        let devices: Vec<_> = self.stack.devices().map(|device| device.display().to_string()).collect();
        (!devices.is_empty() && !is_read_only)
            .then(|| format!("{} lay in it, and can save no more from now on", devices.join(", ")))
    }
}

/// Whether the files on `mount` go with it: they are in memory, and are mounted nowhere else.
fn is_only_copy(mount: &Mount, table: &MountTable) -> bool {
    let is_used = || statvfs(&mount.mountpoint).is_ok_and(|told| told.f_files - told.f_ffree > 1);
    matches!(mount.kind.as_str(), "tmpfs" | "ramfs")
        && table.copies(mount.id).next().is_none()
        && (mount.kind == "ramfs" || is_used())
}

/// How long a forced end waits for what others hold of the volume, where nothing comes forward.
const FORCED_SYNC: Duration = Duration::from_secs(3);
