//! Who keeps a volume in use, for the user who wants it unmounted; and what lets go of it.

use std::path::Path;

use super::{
    holders::{Holder, holders_of_file, holders_of_mount, overlays_left, swap_below},
    mountinfo::MountTable,
    namespaces,
    protocol::Failure,
    registry::{Record, inner_ones, sessions},
    unmount::is_lost,
};
use crate::{
    error::{Error, ErrorKind, Result},
    sys::loopdev::backing_file,
    text::path::command_word,
};

/// The server's failure to take down what shows at `shown`; where the volume is in use, with who uses it.
pub(super) fn explained(failure: Failure, record: &Record, shown: &Path) -> Error {
    let error = reason(failure, record);
    // Mounts have other numbers in other namespaces.
    let is_known = record.namespace.is_none() || record.namespace == namespaces::own();
    let is_gone = error.kind() == ErrorKind::Busy
        && is_known
        && MountTable::read().is_ok_and(|table| record.is_detached(&table));
    error.during(if is_gone { unmounted_here(shown) } else { format!("cannot unmount {}", shown.display()) })
}

/// What has been done where a volume does not show here any more, and is in use all the same.
pub(super) fn unmounted_here(shown: &Path) -> String {
    format!("unmounted {} here, but not everywhere", shown.display())
}

fn reason(failure: Failure, record: &Record) -> Error {
    let error = Error::from(failure);
    if error.kind() != ErrorKind::Busy {
        return error;
    }
    let Some(id) = record.mount.or(record.block_mount) else { return error };
    if let Ok(Err(covered)) = MountTable::read().map(|table| table.place_of(id).map(|_| ())) {
        return covered;
    }
    let inner = inner_ones(record, sessions());
    // What the inner ones keep open themselves is not said twice.
    let is_inner = |holder: &Holder| match holder {
        Holder::Process { pid, .. } => inner.iter().any(|record| record.server.pid == *pid),
        Holder::Mount(place) => inner.iter().any(|record| record.place() == place),
        Holder::Device(_)
        | Holder::Overlay(_)
        | Holder::Swap(_)
        | Holder::Namespace { .. }
        | Holder::Hanging { .. }
        | Holder::Unseen => false,
    };
    let is_shown = MountTable::read().is_ok_and(|table| !record.is_detached(&table));
    let left = record.entry.mountpoint.as_deref().filter(|_| !is_shown).map(overlays_left);
    let is_server =
        |holder: &Holder| matches!(holder, Holder::Process { pid, .. } if *pid == record.server.pid);
    let of_device = record.loop_device.as_deref().map(holders_of_file).unwrap_or_default();
    let of_device = of_device.into_iter().filter(|holder| !is_server(holder));
    let holders = holders_of_mount(id).into_iter().chain(left.unwrap_or_default()).chain(of_device);
    let holders: Vec<_> = holders.filter(|holder| !is_inner(holder)).collect();
    let users = [told_users(&inner, &holders), told_namespaces(&holders)].into_iter().flatten();
    let users = users.collect::<Vec<_>>().join(" and ");
    let reason = match (users.is_empty(), is_shown) {
        (true, true) => return Error::new(ErrorKind::Busy, UNSEEN).with_hint(CLOSE),
        (true, false) => "still in use by something that cannot be seen from here".to_owned(),
        (false, true) => format!("in use {users}"),
        (false, false) => format!("still in use {users}"),
    };
    Error::new(ErrorKind::Busy, reason).with_hint(match (inner.first(), is_shown) {
        (Some(inner), _) => format!("first: strongroom unmount {}", command_word(inner.place())),
        (None, true) => match holders.iter().find_map(other_mount) {
            Some(place) => format!("first: umount {}", command_word(place)),
            None => holders.iter().find_map(way_out).unwrap_or_else(|| CLOSE.to_owned()),
        },
        (None, false) if is_lost(record) => HELD_LOST.to_owned(),
        (None, false) => HELD.to_owned(),
    })
}

fn other_mount(holder: &Holder) -> Option<&Path> {
    match holder {
        Holder::Mount(place) => Some(place),
        _ => None,
    }
}

/// How swap space, and a loop device on which nothing stands any more, are let go of.
fn way_out(holder: &Holder) -> Option<String> {
    match holder {
        Holder::Swap(path) => Some(format!("first: swapoff {}", command_word(path))),
        Holder::Device(path) if backing_file(path).is_some() => {
            Some(format!("first: losetup -d {}", command_word(path)))
        }
        _ => None,
    }
}

/// `by process 7 (bash), the mount on /b`.
fn told_users(inner: &[Record], holders: &[Holder]) -> Option<String> {
    let holders = holders.iter().filter(|holder| !matches!(holder, Holder::Namespace { .. }));
    let users: Vec<_> = inner.iter().map(told_with_place).chain(holders.map(ToString::to_string)).collect();
    (!users.is_empty()).then(|| format!("by {}", users.join(", ")))
}

/// `in the mount namespace of process 7 (bash)`.
fn told_namespaces(holders: &[Holder]) -> Option<String> {
    let holders = holders.iter().filter(|holder| matches!(holder, Holder::Namespace { .. }));
    let namespaces: Vec<_> = holders.map(ToString::to_string).collect();
    (!namespaces.is_empty()).then(|| format!("in {}", namespaces.join(", ")))
}

/// Whether force ends nothing that has no other end.
///
/// # Errors
/// `Busy` where a container of the caller's is mounted out of the volume, or programs have their memory in it.
pub(super) fn check_force(record: &Record, shown: &Path) -> Result<()> {
    if let Some(inner) = inner_ones(record, sessions()).first() {
        return Err(in_use_by_inner(inner));
    }
    if let Some(swap) = swap_below(shown).first() {
        let error = Error::new(ErrorKind::Busy, format!("in use by {swap}"));
        return Err(error.with_hint(way_out(swap).unwrap_or_default()));
    }
    Ok(())
}

/// Forcing the outer volume down takes the inner one's container away from under it.
fn in_use_by_inner(inner: &Record) -> Error {
    Error::new(ErrorKind::Busy, format!("in use by {}", told_with_place(inner))).with_hint(format!(
        "first: strongroom unmount {} (with --force what is not written in it is lost)",
        command_word(inner.place())
    ))
}

fn told_with_place(inner: &Record) -> String {
    format!("{}, which is mounted on {}", inner.container_named().display(), inner.place().display())
}

const UNSEEN: &str = "in use by something that cannot be seen from here: a process of another user, a socket that was bound in it, a file on its way from one process to another, or the kernel itself (io_uring, NFS)";
const CLOSE: &str = "close the program that uses it (a shell: leave the folder), or use --force";
pub(super) const HELD_LOST: &str =
    "wait, and a copy of it is kept when nobody uses it; or repeat with --save-as FILE --force";
const HELD: &str = "it closes by itself once nobody uses it; --force closes it now";
