//! What stands on a file of a volume: loop devices, what is made of these, and the file systems that are mounted from them,
//! wherever that is.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    holders::Holder,
    mountinfo::{Mount, MountId, MountTable},
    namespaces, program,
};
use crate::sys::{
    loopdev::{self, backing_device, backing_file},
    process::is_root,
};

/// A block device whose bytes lie in the volume.
#[derive(Debug)]
struct Device {
    /// The kernel's name for it, and that by which it is mounted.
    names: Vec<PathBuf>,
    number: Option<(u32, u32)>,
}

/// A file system that is mounted from such a device.
#[derive(Debug, Clone)]
pub(super) struct StackedMount {
    /// Where it shows, in this mount namespace.
    pub place: PathBuf,
    /// Whether nobody writes to it.
    pub read_only: bool,
}

/// All that stands on the files of one volume.
#[derive(Debug, Default)]
pub(super) struct Stack {
    /// The lowest first.
    devices: Vec<Device>,
    /// Those of this mount namespace.
    pub mounts: Vec<StackedMount>,
    /// A process of each other mount namespace that shows one.
    elsewhere: Vec<Holder>,
}

impl Stack {
    /// What stands on the files below `place`.
    pub(super) fn on(place: &Path, table: &MountTable) -> Self {
        Self::of(loop_devices_on(place), Some(place), table)
    }

    /// What stands on the files of the mount `id`, which shows nowhere any more.
    pub(super) fn left_on(id: MountId, table: &MountTable) -> Self {
        let is_on = |device: &PathBuf| backing_device(device) == Some((id.major, id.minor));
        Self::of(loopdev::devices().filter(is_on), None, table)
    }

    fn of(loops: impl Iterator<Item = PathBuf>, place: Option<&Path>, table: &MountTable) -> Self {
        let devices = devices_on(loops);
        let places = table.mounts().iter().filter(|mount| is_on(mount, &devices) || is_image(mount, place));
        let mounts: Vec<_> = places
            .map(|mount| StackedMount { place: mount.mountpoint.clone(), read_only: mount.is_read_only() })
            .collect();
        let shown = |table: &MountTable| {
            let shown = table.mounts().iter().filter(|mount| is_on(mount, &devices));
            shown.map(|mount| mount.id.number).collect()
        };
        let elsewhere = if devices.is_empty() { Vec::new() } else { namespaces::processes_that_show(shown) };
        let elsewhere = elsewhere.into_iter().map(Holder::namespace).collect();
        Self { devices, mounts, elsewhere }
    }

    /// Who they are, to be named.
    pub(super) fn holders(&self) -> impl Iterator<Item = Holder> {
        let mounts = self.mounts.iter().map(|mount| Holder::Mount(mount.place.clone()));
        mounts.chain(self.elsewhere.iter().cloned()).chain(self.devices().map(Holder::Device))
    }

    /// Their names, the lowest first.
    pub(super) fn devices(&self) -> impl Iterator<Item = PathBuf> {
        self.devices.iter().filter_map(|device| device.names.last().cloned())
    }

    /// What brings to the volume all that was written above: the file systems first, then device by device, which reaches a file
    /// system wherever it is mounted. Others than root can only do the first.
    pub(super) fn flushing(&self) -> Vec<Command> {
        let mounts = self.mounts.iter().filter(|mount| !mount.read_only);
        let syncs = mounts.filter_map(|mount| sync_file_system(&mount.place));
        let devices = self.devices.iter().rev().filter(|_| is_root());
        syncs.chain(devices.filter_map(|device| flush(device.names.first()?))).collect()
    }
}

/// `sync -f`, where that is installed.
pub(super) fn sync_file_system(place: &Path) -> Option<Command> {
    let mut command = program::command(program::find("sync")?);
    command.arg("-f").arg("--").arg(place);
    Some(command)
}

fn flush(device: &Path) -> Option<Command> {
    let mut command = program::command(program::find("blockdev")?);
    command.arg("--flushbufs").arg(device);
    Some(command)
}

/// The loop devices whose file lies below `place`.
pub(super) fn loop_devices_on(place: &Path) -> impl Iterator<Item = PathBuf> {
    loopdev::devices().filter(move |device| backing_file(device).is_some_and(|file| file.starts_with(place)))
}

/// The loop devices, their partitions, and what device-mapper or md make of them.
fn devices_on(loops: impl Iterator<Item = PathBuf>) -> Vec<Device> {
    let mut waiting: VecDeque<String> = loops.filter_map(|path| name_of(&path)).collect();
    let (mut seen, mut devices) = (Vec::new(), Vec::new());
    while let Some(name) = waiting.pop_front() {
        if seen.len() >= MOST_DEVICES || seen.contains(&name) {
            continue;
        }
        let folder = Path::new("/sys/class/block").join(&name);
        let inside = fs::read_dir(&folder).into_iter().flatten().flatten();
        let partitions = inside.filter(|entry| entry.path().join("partition").exists());
        let above = fs::read_dir(folder.join("holders")).into_iter().flatten().flatten();
        waiting.extend(partitions.chain(above).filter_map(|entry| name_of(&entry.path())));
        let number = fs::read_to_string(folder.join("dev")).ok();
        let number = number.and_then(|number| {
            let (major, minor) = number.trim().split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let mapped = fs::read_to_string(folder.join("dm/name")).ok();
        let mapped = mapped.map(|mapped| Path::new("/dev/mapper").join(mapped.trim_end()));
        let names = [Path::new("/dev").join(&name)].into_iter().chain(mapped).collect();
        devices.push(Device { names, number });
        seen.push(name);
    }
    devices
}

fn name_of(path: &Path) -> Option<String> {
    path.file_name()?.to_str().map(str::to_owned)
}

/// Whether `mount` shows a file system on one of them. That of btrfs has a number of its own.
fn is_on(mount: &Mount, devices: &[Device]) -> bool {
    let number = (mount.id.major, mount.id.minor);
    devices.iter().any(|device| {
        device.number == Some(number)
            || number.0 == 0 && device.names.iter().any(|name| name.as_os_str() == mount.source)
    })
}

/// Whether a program shows by FUSE the file system that lies in a file below `place`, as `fuse2fs` and `ntfs-3g` do.
fn is_image(mount: &Mount, place: Option<&Path>) -> bool {
    let source = Path::new(&mount.source);
    mount.kind.starts_with("fuse") && place.is_some_and(|place| source != place && source.starts_with(place))
}

/// More devices above one another than anybody has.
const MOST_DEVICES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_told_by_the_number_of_its_device_or_that_of_btrfs_by_its_name() {
        let table = MountTable::parse(
            b"5 1 7:3 / /a rw - ext4 /dev/loop3 rw\n\
            6 1 0:50 / /b rw - btrfs /dev/mapper/vg-lv rw\n\
            7 1 7:4 / /c rw - ext4 /dev/loop3 rw\n\
            8 1 0:51 / /d ro - fuse.fuse2fs /v/m/volume ro\n",
        );
        let devices = [
            Device { names: vec!["/dev/loop3".into()], number: Some((7, 3)) },
            Device { names: vec!["/dev/dm-0".into(), "/dev/mapper/vg-lv".into()], number: Some((253, 0)) },
        ];
        let place = Some(Path::new("/v/m"));
        let found = table.mounts().iter().filter(|mount| is_on(mount, &devices) || is_image(mount, place));
        let found: Vec<_> = found.map(|mount| (mount.id.number, mount.is_read_only())).collect();
        assert_eq!(found, [(5, false), (6, false), (8, true)]);
    }
}
