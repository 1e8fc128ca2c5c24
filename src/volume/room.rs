//! How much room the file system has that a container lies on, and how much of it the container takes.

use std::{io, os::unix::fs::MetadataExt};

use rustix::fs::StatVfs;

use super::{Container, HeldFolder};

/// How many bytes everybody may still write to a file system; none where it does not say, as many on FUSE do not.
pub fn free_bytes(found: &StatVfs) -> Option<u64> {
    (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

/// The bytes that a container takes on its medium: of a thin one fewer than its size. None of a device.
///
/// # Errors
/// What asking for them gave.
pub fn allocated(container: &Container) -> io::Result<u64> {
    match HeldFolder::of(container) {
        Some(folder) => folder.takes(),
        None => Ok(container.file().metadata()?.blocks().saturating_mul(512)),
    }
}

/// Whether a copy that takes so many bytes fits, and a little more, for the tables of new files. Where nobody knows it may be tried.
pub(super) fn has_room(found: &StatVfs, takes: u64) -> bool {
    free_bytes(found).is_none_or(|free| free >= takes.saturating_add(SPARE))
}

const SPARE: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use rustix::fs::statvfs;

    use super::*;

    #[test]
    fn a_file_system_that_says_nothing_is_not_a_full_one() {
        let mut found = statvfs("/").unwrap();
        (found.f_blocks, found.f_bavail, found.f_frsize) = (1000, 0, 4096);
        assert_eq!(free_bytes(&found), Some(0));
        found.f_bavail = 3;
        assert_eq!(free_bytes(&found), Some(12288));
        assert!(!has_room(&found, 8192));
        found.f_bavail = u64::MAX;
        assert_eq!(free_bytes(&found), Some(u64::MAX));
        assert!(has_room(&found, 8192));
        (found.f_blocks, found.f_bavail) = (0, 0);
        assert_eq!(free_bytes(&found), None);
        assert!(has_room(&found, 8192));
    }
}
