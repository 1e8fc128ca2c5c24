//! Folders that another program encrypts file by file, told by a name in them.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

/// A folder that is known.
#[derive(Debug)]
pub struct Folder {
    /// A name in it; with a `*` at the end, how one begins.
    mark: &'static str,
    /// What it is, in words that follow "this is".
    pub name: &'static str,
    /// What opens it: a sentence in which FOLDER stands for its path.
    pub way_in: &'static str,
}

/// What the folder is. `None` for any other, and where it cannot be read.
pub fn recognise(path: &Path) -> Option<&'static Folder> {
    let names: Vec<_> =
        std::fs::read_dir(path).ok()?.flatten().take(MOST_NAMES).map(|entry| entry.file_name()).collect();
    let is_in = |mark: &str| match mark.strip_suffix('*') {
        Some(start) => names.iter().any(|name| name.as_bytes().starts_with(start.as_bytes())),
        // Not all names were looked at.
        None => names.iter().any(|name| name == OsStr::new(mark)) || path.join(mark).exists(),
    };
    KNOWN.iter().find(|known| is_in(known.mark))
}

pub(super) const GOCRYPTFS: &str = "gocryptfs FOLDER MOUNTPOINT opens the folder that it lies in";
pub(super) const CRYFS: &str = "cryfs FOLDER MOUNTPOINT opens the folder that it lies in";
pub(super) const ENCFS: &str = "encfs FOLDER MOUNTPOINT opens the folder that it lies in";
pub(super) const CRYPTOMATOR: &str = "Cryptomator opens the folder that it lies in";

const MOST_NAMES: usize = 256;

static KNOWN: &[Folder] = &[
    Folder {
        mark: "gocryptfs.conf",
        name: "a folder encrypted by gocryptfs",
        way_in: "gocryptfs FOLDER MOUNTPOINT opens it",
    },
    Folder {
        mark: "cryfs.config",
        name: "a folder encrypted by CryFS",
        way_in: "cryfs FOLDER MOUNTPOINT opens it",
    },
    Folder {
        mark: ".encfs*",
        name: "a folder encrypted by EncFS",
        way_in: "encfs FOLDER MOUNTPOINT opens it, both as absolute paths",
    },
    Folder { mark: "vault.cryptomator", name: "a Cryptomator vault", way_in: "Cryptomator opens it" },
    Folder { mark: "masterkey.cryptomator", name: "a Cryptomator vault", way_in: "Cryptomator opens it" },
    Folder {
        mark: ".securefs.*",
        name: "a folder encrypted by securefs",
        way_in: "securefs mount FOLDER MOUNTPOINT opens it",
    },
    Folder {
        mark: "ECRYPTFS_FNEK_ENCRYPTED.*",
        name: "a folder encrypted by eCryptfs",
        way_in: "as root, mount -t ecryptfs opens it, or ecryptfs-recover-private where it is somebody's home",
    },
    Folder {
        mark: "Info.bckup",
        name: "a disk image of macOS (sparse bundle)",
        way_in: "hdiutil attach FOLDER opens it on a Mac",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_told_by_a_name_in_it() {
        let place = tempfile::tempdir().unwrap();
        let name = |mark: Option<&str>| {
            let folder = tempfile::tempdir_in(place.path()).unwrap();
            std::fs::write(folder.path().join("letter"), "x").unwrap();
            if let Some(mark) = mark {
                std::fs::write(folder.path().join(mark), "x").unwrap();
            }
            recognise(folder.path()).map(|found| found.name)
        };
        assert_eq!(name(Some("gocryptfs.conf")), Some("a folder encrypted by gocryptfs"));
        assert_eq!(name(Some("cryfs.config")), Some("a folder encrypted by CryFS"));
        assert_eq!(name(Some(".encfs6.xml")), Some("a folder encrypted by EncFS"));
        assert_eq!(name(Some("vault.cryptomator")), Some("a Cryptomator vault"));
        assert_eq!(name(Some("ECRYPTFS_FNEK_ENCRYPTED.FWabc")), Some("a folder encrypted by eCryptfs"));
        assert_eq!(name(Some("gocryptfs.conf.old")), None);
        assert_eq!(name(None), None);
        assert!(recognise(&place.path().join("nothing here")).is_none());
    }
}
