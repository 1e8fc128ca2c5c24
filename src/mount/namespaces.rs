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
/// Those of other users stay unseen, except for root, and so do namespaces without a process.
pub(super) fn processes_that_see(id: MountId) -> Vec<i32> {
    let mut known: BTreeSet<_> = fs::read_link("/proc/thread-self/ns/mnt").into_iter().collect();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut processes: Vec<i32> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    processes.sort_unstable();
    processes.retain(|&process| {
        namespace_of(process).is_some_and(|namespace| known.insert(namespace))
            && MountTable::of_process(process).is_ok_and(|table| table.copies(id).next().is_some())
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
