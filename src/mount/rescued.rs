//! The copies that a server makes of a container that was lost, where nobody could be asked.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use crate::volume::{Container, HEADER_NAME};

/// What the copy with this number is called, of a file called `name`.
pub(super) fn name_of_copy(name: &OsStr, number: u32) -> OsString {
    let mut copy = name.to_owned();
    copy.push(if number == 1 { ".rescued".to_owned() } else { format!(".rescued-{number}") });
    copy
}

/// The newest copy that was rescued of the container at `path`: beside it, or in the user's home.
///
/// It is told of by each `mount` until its user has moved it away: the container may be older than it. A copy of another container,
/// which only was called so, is none. Containers without a UUID are known by their folder alone.
pub fn newest_rescued(path: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(path).ok()?;
    // A folder of pieces may be called by its header file.
    let folder = absolute.parent().filter(|_| absolute.file_name() == Some(OsStr::new(HEADER_NAME)));
    newest_of(&absolute).or_else(|| newest_of(folder?))
}

fn newest_of(absolute: &Path) -> Option<PathBuf> {
    let beside = absolute.parent().map(Path::to_path_buf);
    let folders = beside.iter().cloned().chain(std::env::home_dir());
    let own = uuid(absolute);
    let is_its_copy = |copy: &Path| match (&own, uuid(copy)) {
        (Some(own), Some(copy)) => *own == copy,
        // A folder of that name may hold anything.
        _ => copy.parent() == beside.as_deref() && copy.is_file(),
    };
    newest_in(folders, absolute.file_name()?, is_its_copy)
}

/// What a container says that it is, where it has a name of its own.
fn uuid(path: &Path) -> Option<String> {
    Container::peek(path).ok()?.header().ok()?.describe().uuid
}

fn newest_in(
    folders: impl Iterator<Item = PathBuf>,
    name: &OsStr,
    is_its_copy: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let copies = folders.flat_map(|folder| {
        (1..=MOST_RESCUED)
            .map(move |number| folder.join(name_of_copy(name, number)))
            .take_while(|copy| is_there(copy))
    });
    copies
        .filter(|copy| is_its_copy(copy))
        .max_by_key(|copy| copy.metadata().and_then(|found| found.modified()).ok())
}

/// As a file, or as a folder of pieces.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file() || found.is_dir())
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
        let newest = || newest_in(paths(), name, |_| true);
        assert_eq!(newest(), None);
        let copies = [(0, "v.vault.rescued", 20), (0, "v.vault.rescued-2", 30), (1, "v.vault.rescued", 40)];
        for (folder, copy, time) in copies {
            let path = folders[folder].path().join(copy);
            let file = fs::File::create(&path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(time)).unwrap();
            assert_eq!(newest(), Some(path));
        }
        let first = folders[0].path().to_path_buf();
        let beside = newest_in(paths(), name, |copy| copy.parent() == Some(&*first));
        assert_eq!(beside, Some(first.join("v.vault.rescued-2")));
    }

    #[test]
    fn a_copy_of_another_container_of_that_name_is_not_told() {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/vectors/native");
        let folder = tempfile::tempdir().unwrap();
        let (own, copy) = (folder.path().join("v"), folder.path().join("v.rescued"));
        fs::copy(vectors.join("password.img"), &copy).unwrap();
        for (vector, told) in [("password.img", Some(&copy)), ("suite-2.img", None)] {
            fs::copy(vectors.join(vector), &own).unwrap();
            assert_eq!(newest_rescued(&own).as_ref(), told, "{vector}");
        }
        fs::write(&own, b"nobody knows whose").unwrap();
        assert_eq!(newest_rescued(&own), Some(copy.clone()));
        fs::remove_file(&copy).unwrap();
        fs::create_dir(&copy).unwrap();
        assert_eq!(newest_rescued(&own), None, "a folder that is no container");
    }
}
