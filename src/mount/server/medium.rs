//! Whether the disk that a container lies on is still there: a stick may be pulled out.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{major, minor},
    net::{
        AddressFamily, SocketFlags, SocketType, bind,
        netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
        socket_with,
    },
};

use super::{Next, Server, ending::Remainder, warden::Patience};
use crate::{
    mount::mountinfo::MountTable,
    volume::{Container, watch_disks},
};

/// The disks that a container lies on, by what the kernel shows of them.
#[derive(Debug)]
pub(super) struct Medium {
    shown: Vec<PathBuf>,
    /// What the kernel tells of devices; none where it tells this process nothing, as in a network namespace of its own.
    events: Option<OwnedFd>,
}

impl Medium {
    /// Those of a container that is open. File systems that are on no one disk have none that can be told.
    pub(super) fn of(container: &Container) -> Self {
        Self::below([Some(container.file()), container.file_behind()].into_iter().flatten(), DEVICES)
    }

    fn below<'a>(files: impl Iterator<Item = &'a File>, devices: &str) -> Self {
        let (mut shown, mut counts) = (Vec::new(), Vec::new());
        for number in files.filter_map(number) {
            let path = shown_at(number, devices);
            if path.symlink_metadata().is_ok() {
                counts.push(path.clone());
                shown.push(path);
            } else {
                counts.extend(mounted_from(number).map(|number| shown_at(number, devices)));
            }
        }
        // A slow one is told from one that hangs by what it has done.
        watch_disks(counts.iter().filter_map(|path| File::open(path.join("stat")).ok()).collect());
        let events = if shown.is_empty() { None } else { listen().ok() };
        Self { shown, events }
    }

    /// Becomes readable when a device of the machine came, went or changed.
    pub(super) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    /// Takes what was told: a look says more.
    pub(super) fn drain(&self) {
        let mut ignored = [0; 4096];
        while self.events.as_ref().is_some_and(|events| rustix::io::read(events, &mut ignored).is_ok()) {}
    }

    /// Whether one of them is gone, and not only out of sight.
    pub(super) fn is_gone(&self) -> bool {
        let is_missing = |path: &PathBuf| {
            fs::symlink_metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
                && path
                    .parent()
                    .is_some_and(|all| fs::read_dir(all).is_ok_and(|mut all| all.next().is_some()))
        };
        self.shown.iter().any(is_missing)
    }
}

/// The number of the device that a file is, or that it lies on.
fn number(file: &File) -> Option<u64> {
    let found = file.metadata().ok()?;
    Some(if found.file_type().is_block_device() { found.rdev() } else { found.dev() })
}

/// Where the kernel shows a disk.
fn shown_at(number: u64, devices: &str) -> PathBuf {
    Path::new(devices).join(format!("{}:{}", major(number), minor(number)))
}

/// The number of the disk from which a file system was mounted that has a number of its own, as btrfs has. It may lie on others, too.
fn mounted_from(number: u64) -> Option<u64> {
    let table = MountTable::read().ok()?;
    let device = (major(number), minor(number));
    let mount = table.mounts().iter().find(|mount| (mount.id.major, mount.id.minor) == device)?;
    // Anybody may have a FUSE file system name anything.
    let is_named_by_root = !mount.kind.starts_with("fuse") && Path::new(&mount.source).starts_with("/dev");
    let found = if is_named_by_root { fs::metadata(&mount.source).ok()? } else { return None };
    found.file_type().is_block_device().then(|| found.rdev())
}

/// A socket that hears what the kernel tells of devices. Nobody else can send to it what is taken for more than a reason to look.
fn listen() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(KOBJECT_UEVENT))?;
    bind(&socket, &SocketAddrNetlink::new(0, OF_THE_KERNEL))?;
    Ok(socket)
}

impl Server {
    /// Takes down a volume whose disk is gone, where that is so: nothing of it can be read or saved any more, and when the disk comes
    /// back, it is another one to the kernel.
    pub(super) fn look_for_medium(&mut self) -> Next {
        if self.is_private || !self.medium.is_gone() {
            return Next::Serve;
        }
        self.shortage.give_up();
        let warden = self.warden(None, Patience::None);
        let lossy = self.end_by_force(0).lossy();
        warden.stay();
        self.answer_waiting(lossy.as_ref());
        let record = self.session.record();
        let (place, container) = (record.place().display(), record.container_named().display());
        let lost = if record.entry.read_only { "" } else { "; what was not written to it by then is lost" };
        self.tell(&format!("{place} was closed: the disk that holds {container} is gone{lost}"));
        Next::End(Remainder::after(lossy.as_ref()))
    }
}

/// The group of those to whom the kernel itself tells it.
const OF_THE_KERNEL: u32 = 1;
const DEVICES: &str = "/sys/dev/block";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_gone_only_where_the_others_still_show() {
        let folder = tempfile::tempdir().unwrap();
        let file = tempfile::tempfile().unwrap();
        let number = file.metadata().unwrap().dev();
        let own = folder.path().join(format!("{}:{}", major(number), minor(number)));
        fs::create_dir(&own).unwrap();
        fs::create_dir(folder.path().join("other")).unwrap();
        let devices = folder.path().to_str().unwrap();
        let medium = Medium::below([&file].into_iter(), devices);
        assert!(!medium.is_gone());
        fs::remove_dir(&own).unwrap();
        assert!(medium.is_gone());
        fs::remove_dir(folder.path().join("other")).unwrap();
        assert!(!medium.is_gone(), "nobody shows any");
        // What never showed cannot go.
        fs::create_dir(folder.path().join("other")).unwrap();
        assert!(!Medium::below([&file].into_iter(), devices).is_gone());
    }
}
