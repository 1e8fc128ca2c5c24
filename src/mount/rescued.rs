//! The copies that a server makes of a container that was lost, where nobody could be asked.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// What the copy with this number is called, of a file called `name`.
pub(super) fn name_of_copy(name: &OsStr, number: u32) -> OsString {
    let mut copy = name.to_owned();
    copy.push(if number == 1 { ".rescued".to_owned() } else { format!(".rescued-{number}") });
    copy
}

/// The newest copy that was rescued of the container at `path`: beside it, or in the user's home.
///
/// It is told of by each `mount` until its user has moved it away: the container may be older than it.
pub fn newest_rescued(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    let beside = absolute.parent().map(Path::to_path_buf);
    let folders = beside.into_iter().chain(std::env::home_dir());
    newest_in(folders, absolute.file_name()?)
}

fn newest_in(folders: impl Iterator<Item = PathBuf>, name: &OsStr) -> Option<PathBuf> {
    let copies = folders.flat_map(|folder| {
        (1..=MOST_RESCUED)
            .map(move |number| folder.join(name_of_copy(name, number)))
            .take_while(|copy| is_file(copy))
    });
    copies.max_by_key(|copy| copy.metadata().and_then(|found| found.modified()).ok())
}

fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
}

/// How many copies of one file there may be in a folder.
pub(super) const MOST_RESCUED: u32 = 100;

#[cfg(test)]
mod tests {
    use std::{
        fs,
        time::{Duration, SystemTime},
    };

    use super::*;

    #[test]
    fn the_newest_copy_is_told_wherever_it_is() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let paths = || folders.iter().map(|folder| folder.path().to_path_buf());
        let name = OsStr::new("v.vault");
        assert_eq!(newest_in(paths(), name), None);
        let copies = [(0, "v.vault.rescued", 20), (0, "v.vault.rescued-2", 30), (1, "v.vault.rescued", 40)];
        for (folder, copy, time) in copies {
            let path = folders[folder].path().join(copy);
            let file = fs::File::create(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(time)).unwrap();
            assert_eq!(newest_in(paths(), name), Some(path));
        }
    }
}
