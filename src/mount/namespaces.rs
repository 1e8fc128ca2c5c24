//! Mount namespaces: where else on the machine a file system may be mounted, in containers and sandboxes.
//!
//! Nothing is looked up by path here, so no file system that hangs can hold this up.

use std::{collections::BTreeSet, fs};

use super::mountinfo::{MountId, MountTable};

/// The calling process's mount namespace.
pub(super) fn own() -> Option<String> {
    fs::read_link("/proc/thread-self/ns/mnt").ok()?.into_os_string().into_string().ok()
}

/// A process of each other mount namespace that shows the file system of the mount `id`.
///
/// Only tables of mounts are read: one that shows the file system by a mount that is not in ours, nor in one that was seen before, is
/// that of another namespace. What else `/proc` tells of a process, its namespaces among it, may wait for locks of that process, and
/// one that hangs in the kernel would hang whoever asks. Namespaces without a process stay unseen, and so does everybody where
/// `/proc` hides the processes of others.
pub(super) fn processes_that_see(id: MountId) -> Vec<i32> {
    processes_that_show(|table| table.copies(id).map(|copy| copy.id.number).collect())
}

/// The same for those of whose table `wanted` picks mounts, by their numbers.
pub(super) fn processes_that_show(wanted: impl Fn(&MountTable) -> Vec<u64>) -> Vec<i32> {
    let mut mounts: BTreeSet<_> =
        MountTable::read().unwrap_or_default().mounts().iter().map(|mount| mount.id.number).collect();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut processes: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    processes.sort_unstable();
    processes.retain(|&process| {
        let Ok(table) = MountTable::of_process(process) else { return false };
        let shown = wanted(&table);
        let is_new = shown.iter().any(|number| !mounts.contains(number));
        mounts.extend(shown);
        is_new
    });
    processes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_namespace_shows_is_seen_by_no_other() {
        let nowhere = MountId::new(u64::MAX, 4095, 1_048_575);
        assert!(processes_that_see(nowhere).is_empty());
    }
}
