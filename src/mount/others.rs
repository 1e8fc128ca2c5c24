//! Volumes that somebody else mounted, as far as the table of mounts tells: their sessions are private.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{
    mountinfo::{Mount, MountTable},
    registry::{Session, sessions, sessions_elsewhere},
    session::BLOCK,
};
use crate::{
    error::{Error, ErrorKind},
    sys::{loopdev::backing_file, process::effective_user, user::name_of_user},
    text::path::command_word,
};

/// A volume that another user mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Where it shows.
    #[serde(serialize_with = "crate::text::path::serialize")]
    pub mountpoint: PathBuf,
    /// Who mounted it.
    pub mounted_by: String,
    /// The command that takes it down.
    pub unmount: String,
    #[serde(skip)]
    is_own: bool,
}

impl Other {
    /// The command by which its owner unmounts or syncs `path`.
    pub(super) fn command(&self, verb: &str, path: &Path) -> String {
        let path = path.display();
        match self.mounted_by.as_str() {
            "root" => format!("sudo strongroom {verb} {path}"),
            other => format!("sudo -u {other} strongroom {verb} {path}"),
        }
    }

    /// Whether the caller mounted it, and only its server cannot be found from here.
    pub fn is_own(&self) -> bool {
        self.is_own
    }

    /// Why the caller cannot unmount or sync it, and who can.
    pub(super) fn refusal(&self, verb: &str) -> Error {
        if self.is_own {
            let reason = "you have mounted it, but its server cannot be found: it was killed, or its runtime directory is gone";
            return Error::new(ErrorKind::NotFound, reason).with_hint(&*self.unmount);
        }
        Error::new(ErrorKind::Permission, format!("mounted by {}", self.mounted_by))
            .with_hint(self.command(verb, &self.mountpoint))
    }
}

/// The volumes that others mounted: root's, and for root everybody's.
pub fn others() -> Vec<Other> {
    let own = effective_user();
    // Before the table: what is mounted is noted where it will be mounted.
    let known = [sessions(), sessions_elsewhere()];
    let Ok(table) = MountTable::read() else { return Vec::new() };
    let mounts = table.mounts().iter().filter_map(|mount| Some((mount, owner(mount, behind, owner_of)?)));
    mounts
        .filter(|&(_, owner)| owner == own || owner == 0 || own == 0)
        .filter_map(|(mount, owner)| match owner {
            // Root's sessions are all in one place, and their servers keep them there.
            0 if own == 0 => None,
            _ if owner == own => unclaimed(mount, &known),
            _ => Some(other(&mount.mountpoint, owner)),
        })
        .collect()
}

/// The one of them that shows at `path`.
pub(super) fn other_at(path: &Path) -> Option<Other> {
    let path = std::path::absolute(path).ok()?;
    let resolved = || Some(std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    let others = others();
    let at = |path: &Path| others.iter().find(|other| other.mountpoint == path).cloned();
    at(&path).or_else(|| at(&resolved()?))
}

/// A volume of the caller's of which no session in this environment tells.
fn unclaimed(mount: &Mount, [here, elsewhere]: &[Vec<Session>; 2]) -> Option<Other> {
    let is_its = |session: &Session| {
        let record = session.record.as_ref();
        record.is_some_and(|record| {
            let ids = [record.mount, record.block_mount];
            ids.contains(&Some(mount.id)) || record.entry.mountpoint.as_ref() == Some(&mount.mountpoint)
        })
    };
    if here.iter().any(is_its) {
        return None;
    }
    let place = command_word(&mount.mountpoint);
    let unmount = if elsewhere.iter().any(is_its) {
        format!("strongroom unmount {place}")
    } else if mount.kind.starts_with("fuse.") {
        format!("sync -f {place}; fusermount3 -u {place}")
    } else if own_device(mount) {
        format!("udisksctl unmount -b {}", command_word(Path::new(&mount.source)))
    } else {
        format!("umount {place}")
    };
    let mounted_by = shown_name(effective_user());
    Some(Other { mountpoint: mount.mountpoint.clone(), mounted_by, unmount, is_own: true })
}

fn other(mountpoint: &Path, owner: u32) -> Other {
    let mounted_by = if owner == 0 { "root".to_owned() } else { shown_name(owner) };
    let mut other =
        Other { mountpoint: mountpoint.to_path_buf(), mounted_by, unmount: String::new(), is_own: false };
    other.unmount = other.command("unmount", mountpoint);
    other
}

fn shown_name(user: u32) -> String {
    name_of_user(user).unwrap_or_else(|| format!("user {user}"))
}

/// The file behind a loop device.
fn behind(device: &Path) -> Option<PathBuf> {
    backing_file(device)
}

/// Whose folder it is.
fn owner_of(folder: &Path) -> Option<u32> {
    fs::symlink_metadata(folder).ok().map(|found| found.uid())
}

/// Whether an ordinary user's mount is of a loop device, which udisks makes.
fn own_device(mount: &Mount) -> bool {
    effective_user() != 0 && Path::new(&mount.source).starts_with("/dev")
}

/// Who mounted a volume of ours; `None` for other mounts, and for the block file below a driver.
fn owner(
    mount: &Mount,
    behind: impl Fn(&Path) -> Option<PathBuf>,
    owner_of: impl Fn(&Path) -> Option<u32>,
) -> Option<u32> {
    let source = Path::new(&mount.source);
    if source.starts_with("/dev") {
        let block = behind(source)?;
        let folder = block.parent().filter(|_| block.ends_with(crate::export::VOLUME_FILE))?;
        if block.starts_with(ROOTS) {
            return folder.ends_with(BLOCK).then_some(0);
        }
        // By way of udisks. A session's folder is its owner's alone.
        return folder.parent().filter(|_| is_in_session(folder)).and_then(owner_of);
    }
    let is_block_file = mount.kind == "fuse.strongroom" && !is_in_session(&mount.mountpoint);
    (is_block_file || mount.is_driver()).then(|| mount.fuse_user()).flatten()
}

/// `RUNTIME/PID-START/block`.
fn is_in_session(path: &Path) -> bool {
    let session = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_session = session
        .and_then(|name| name.split_once('-'))
        .is_some_and(|(pid, started)| is_number(pid) && is_number(started));
    path.ends_with(BLOCK) && is_session
}

/// Root's runtime directory.
const ROOTS: &str = "/run/strongroom";

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(table: &str, behind: impl Fn(&Path) -> Option<PathBuf> + Copy) -> Vec<Option<u32>> {
        let table = MountTable::parse(table.as_bytes());
        let owner_of = |folder: &Path| folder.starts_with("/run/user/1000").then_some(1000);
        table.mounts().iter().map(|mount| owner(mount, behind, owner_of)).collect()
    }

    #[test]
    fn the_table_of_mounts_tells_who_mounted_a_volume() {
        let table = "\
            1 0 7:3 / /mnt/v rw - ext4 /dev/loop3 rw\n\
            2 0 7:4 / /mnt/iso rw - iso9660 /dev/loop4 ro\n\
            3 0 0:40 / /mnt/b rw - fuse.strongroom strongroom rw,user_id=0,group_id=0\n\
            4 0 0:41 / /run/user/1000/strongroom/77-99/block rw - fuse.strongroom strongroom rw,user_id=1000\n\
            5 0 0:42 / /home/a/v rw - fuse.ext4 strongroom/v.vault rw,user_id=1000,group_id=1000\n\
            6 0 0:43 / /home/a/s rw - fuse.sshfs host: rw,user_id=1000\n\
            7 0 254:0 / / rw - ext4 /dev/vda rw\n\
            8 0 7:5 / /run/media/a/photos rw - xfs /dev/loop5 rw\n\
            9 0 7:6 / /run/media/a/disk rw - xfs /dev/loop6 rw\n";
        let behind = |device: &Path| match device.to_str()? {
            "/dev/loop3" => Some("/run/strongroom/12-34/block/volume".into()),
            "/dev/loop4" => Some("/srv/disk.iso".into()),
            "/dev/loop5" => Some("/run/user/1000/strongroom/77-99/block/volume".into()),
            "/dev/loop6" => Some("/run/user/1000/mine/volume".into()),
            _ => None,
        };
        assert_eq!(
            owners(table, behind),
            [Some(0), None, Some(0), None, Some(1000), None, None, Some(1000), None]
        );
    }

    #[test]
    fn the_way_to_end_it_is_a_command() {
        let root = other(Path::new("/mnt/v"), 0).refusal("unmount");
        assert_eq!((root.kind(), root.reason()), (ErrorKind::Permission, "mounted by root"));
        assert_eq!(root.hint(), Some("sudo strongroom unmount /mnt/v"));
    }
}
