//! Mount namespaces: where else on the machine a file system may be mounted, in containers and sandboxes.
//!
//! Nothing is looked up by path here, so no file system that hangs can hold this up.

use std::{collections::BTreeSet, fs, path::PathBuf};

use super::mountinfo::{MountId, MountTable};

/// The calling process's mount namespace.
pub(super) fn own() -> Option<String> {
    fs::read_link("/proc/thread-self/ns/mnt").ok()?.into_os_string().into_string().ok()
}

/// A process of each other mount namespace that shows the file system of the mount `id`.
///
/// The namespace of another user's process is private, but its table of mounts is not: one that shows the file system by a mount that
/// is not in ours, nor in one that was seen before, is another. Namespaces without a process stay unseen, and so does everybody where
/// `/proc` hides the processes of others.
pub(super) fn processes_that_see(id: MountId) -> Vec<i32> {
    processes_that_show(|table| table.copies(id).map(|copy| copy.id.number).collect())
}

/// The same for those of whose table `wanted` picks mounts, by their numbers.
pub(super) fn processes_that_show(wanted: impl Fn(&MountTable) -> Vec<u64>) -> Vec<i32> {
    let mut known: BTreeSet<_> = fs::read_link("/proc/thread-self/ns/mnt").into_iter().collect();
    let mut mounts: BTreeSet<_> =
        MountTable::read().unwrap_or_default().mounts().iter().map(|mount| mount.id.number).collect();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut processes: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    processes.sort_unstable();
    processes.retain(|&process| {
        if namespace_of(process).is_some_and(|namespace| !known.insert(namespace)) {
            return false;
        }
        let Ok(table) = MountTable::of_process(process) else { return false };
        let shown = wanted(&table);
        let is_new = shown.iter().any(|number| !mounts.contains(number));
        mounts.extend(shown);
        is_new
    });
    processes
}

fn namespace_of(process: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{process}/ns/mnt")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_namespace_shows_is_seen_by_no_other() {
        let nowhere = MountId { number: u64::MAX, major: 4095, minor: 1_048_575 };
        assert!(processes_that_see(nowhere).is_empty());
    }
}
