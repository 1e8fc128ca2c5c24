//! Remains of killed servers: recognised by their records, and taken away.
//!
//! Nothing is touched but what a record names and what the system still shows as exactly that: a mount by number and
//! device, a loop device by the file behind it, a process by its start time.

use std::path::Path;

use rustix::{
    fs::statfs,
    io::Errno,
    mount::{UnmountFlags, unmount},
};

use super::{
    mountinfo::{Mount, MountId, MountTable},
    mountpoint::remove_made,
    registry::{Record, Session, settled_sessions},
    session::{BLOCK, remove_directory},
    udisks,
};
use crate::{
    error::Result,
    export::unmount_fuse,
    sys::{
        fuse_mount::has_user,
        loopdev::{backing_file, detach_stale, devices},
        process::{ProcessId, boot_id, can_mount, is_root},
    },
};

/// Clears all remains of the caller's killed servers. What cannot be cleared stays for the next time.
pub fn clean() {
    for session in settled_sessions() {
        let is_dead = match &session.record {
            Some(record) => !record.is_alive() && !is_elsewhere(record),
            None => !is_being_made(&session),
        };
        if is_dead {
            // `mount` would go on without; `unmount` of this very session reports its failure.
            let _ = clear(&session);
        }
    }
}

/// Whether what is left of it is to be seen in another mount namespace alone: it is cleared there.
fn is_elsewhere(record: &Record) -> bool {
    let Ok(table) = MountTable::read() else { return true };
    // The lowest, which the server itself serves, comes first.
    let mut mounts = [record.block_mount, record.mount].into_iter().flatten();
    let is_used = mounts.clone().next().is_some_and(|id| has_user((id.major, id.minor)));
    is_used && mounts.all(|id| table.find(id).is_none()) && boot_id().is_ok_and(|boot| boot == record.boot_id)
}

/// Takes away what a server that failed has left on a directory that was free before it began.
pub(super) fn clean_place(directory: &Path) {
    // The failure itself is told already.
    let _ = detach_dead(directory, |mount| mount.kind == "fuse.strongroom" || mount.is_driver());
}

/// Clears the remains of one session.
///
/// # Errors
/// `Busy` where something stays that cannot be detached.
pub(super) fn clear(session: &Session) -> Result<()> {
    if let Some(record) = &session.record {
        // Numbers of another boot mean nothing now; that boot's mounts are gone with it.
        if boot_id()? == record.boot_id {
            take_away(record)?;
        }
        if let Some(bookmark) = &record.bookmark {
            // One that leads nowhere is in nobody's way.
            let _ = bookmark.remove();
        }
        if let (true, Some(mountpoint)) = (record.made_mountpoint, &record.entry.mountpoint) {
            remove_made(mountpoint);
        }
    } else if let Some(mount) = MountTable::read()?.at(&session.directory.join(BLOCK)) {
        detach(mount.id)?;
    }
    Ok(remove_directory(&session.directory)?)
}

/// From the top: the file system, the loop device, the block file.
fn take_away(record: &Record) -> Result<()> {
    if !is_root() {
        clear_by_udisks(record)?;
    }
    if let Some(id) = record.mount {
        detach(id)?;
    }
    // Files that were mounted just before the server was killed are in no record.
    if let (None, Some(mountpoint)) = (record.mount, &record.entry.mountpoint) {
        detach_dead(mountpoint, Mount::is_driver)?;
    }
    if let (true, Some(device), Some(block)) = (is_root(), &record.loop_device, &record.entry.block) {
        detach_stale(device, block)?;
    }
    match record.block_mount {
        Some(id) => detach(id),
        None => detach_dead(&record.block_directory, |mount| mount.kind == "fuse.strongroom"),
    }
}

/// An ordinary user's loop devices are those that udisks made, and with it what is mounted from them goes. One that was made just before
/// the server died is in no record.
fn clear_by_udisks(record: &Record) -> Result<()> {
    let Some(block) = record.entry.block.as_deref() else { return Ok(()) };
    for device in devices().filter(|device| backing_file(device).as_deref() == Some(block)) {
        if MountTable::read()?.mounts().iter().any(|mount| Path::new(&mount.source) == device) {
            udisks::unmount(&device, true, &|| true)?;
        }
        let deleted = udisks::delete(&device, &|| true);
        // It may have gone by itself, with what was mounted from it.
        if backing_file(&device).as_deref() == Some(block) {
            deleted?;
        }
    }
    Ok(())
}

/// Detaches the mount `id`, wherever it shows now, if nothing lies over it.
fn detach(id: MountId) -> Result<()> {
    let table = MountTable::read()?;
    let Some(place) = table.place_of(id)? else { return Ok(()) };
    if can_mount() {
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        return Ok(unmount(place, flags).map_err(std::io::Error::from)?);
    }
    unmount_fuse(place, true)
}

/// Detaches a mount of ours that was made just before its server died, and is in no record: nobody answers there.
fn detach_dead(directory: &Path, is_ours: impl Fn(&Mount) -> bool) -> Result<()> {
    let table = MountTable::read()?;
    let Some(mount) = table.at(directory).filter(|mount| is_ours(mount)) else { return Ok(()) };
    // Attributes the kernel may still know.
    match statfs(directory) {
        Err(Errno::NOTCONN) => detach(mount.id),
        _ => Ok(()),
    }
}

/// A directory without a record belongs to a server that is just starting, while that lives. Its name tells which.
fn is_being_made(session: &Session) -> bool {
    let name = session.directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let numbers = name.split_once('-').and_then(|(pid, started)| {
        Some(ProcessId { pid: pid.parse().ok()?, started: started.parse().ok()? })
    });
    numbers.is_some_and(ProcessId::is_alive)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fuse_mount;

    #[test]
    fn a_block_file_whose_server_died_at_once_is_detached() {
        if !std::fs::exists("/dev/fuse").unwrap() {
            assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none_or(|value| value != "1"), "no /dev/fuse");
            return println!("skipped: block file without a server: no /dev/fuse");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let server = fuse_mount::mount(&path, &fuse_mount::Appearance::block_file(false)).unwrap();
        let is_mounted = || MountTable::read().unwrap().at(&path).is_some();
        assert!(is_mounted());
        drop(server);
        detach_dead(&path, |_| true).unwrap();
        assert!(!is_mounted());
        detach_dead(&path, |_| true).unwrap();
    }

    #[test]
    fn a_directory_named_after_a_living_process_is_being_made() {
        let process = ProcessId::current().unwrap();
        let name = format!("/nowhere/{}-{}", process.pid, process.started);
        assert!(is_being_made(&Session { directory: name.into(), record: None }));
        assert!(!is_being_made(&Session { directory: "/nowhere/1-0".into(), record: None }));
        assert!(!is_being_made(&Session { directory: "/nowhere/lost+found".into(), record: None }));
    }
}
