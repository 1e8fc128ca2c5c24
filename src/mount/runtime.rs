//! The private directory that holds sessions: `/run/strongroom` for root, below `$XDG_RUNTIME_DIR` for a user, else below
//! `/tmp`.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::session::signed;
use crate::{
    error::{Error, ErrorKind, Result},
    sys::process::{effective_user, is_root, random_uuid},
};

/// Makes the caller's runtime directory where it is missing, and checks that nobody else can enter it.
///
/// # Errors
/// `Permission`, or what the system gave, where none can be made.
pub(super) fn prepare() -> Result<PathBuf> {
    let made = candidates().into_iter().find(|path| make(path).is_ok());
    made.map_or_else(prepare_lasting, Ok)
}

/// The same in a place that no logout removes.
///
/// # Errors
/// As [`prepare`].
pub(super) fn prepare_lasting() -> Result<PathBuf> {
    if is_root() {
        return make(Path::new(ROOTS)).map(|()| PathBuf::from(ROOTS));
    }
    prepare_below(Path::new(SHARED))
}

/// The caller's runtime directories that exist. Several, where the environment changed between two commands.
pub(super) fn existing() -> Vec<PathBuf> {
    let mut paths = candidates();
    if !is_root() {
        paths.extend(own_below(Path::new(SHARED)));
    }
    paths.retain(|path| check(path).is_ok());
    paths.dedup();
    paths
}

/// The caller's session directories elsewhere: of mounts that were made in another environment.
pub(super) fn sessions_elsewhere() -> Vec<PathBuf> {
    if is_root() {
        return Vec::new();
    }
    let known = existing();
    let mut found: Vec<_> = own_below(Path::new(SHARED)).iter().flat_map(|own| signed(own)).collect();
    found.retain(|directory| {
        directory
            .parent()
            .is_some_and(|parent| check(parent).is_ok() && !known.contains(&parent.to_path_buf()))
    });
    found
}

/// Where the directory may be, the best place first. Without links, as the table of mounts shows places.
fn candidates() -> Vec<PathBuf> {
    if is_root() {
        return vec![PathBuf::from(ROOTS)];
    }
    let by_environment = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let by_custom = PathBuf::from(format!("/run/user/{}", effective_user()));
    by_environment
        .into_iter()
        .chain([by_custom])
        .filter_map(|parent| fs::canonicalize(parent).ok())
        .filter(|parent| is_usable_parent(parent))
        .map(|parent| parent.join("strongroom"))
        .collect()
}

/// A directory of the caller's own below `shared`, where everybody may make one. A well-known name may be taken by
/// somebody else already: then one that nobody can foresee.
fn prepare_below(shared: &Path) -> Result<PathBuf> {
    if let Some(own) = own_below(shared).into_iter().next() {
        return Ok(own);
    }
    let plain = shared.join(own_name());
    if make(&plain).is_ok() {
        return Ok(plain);
    }
    let random: String = random_uuid()?.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    let path = shared.join(format!("{}-{random}", own_name()));
    make(&path).map(|()| path)
}

/// The directories below `shared` that [`prepare_below`] may have made for the caller, and that are still the caller's.
fn own_below(shared: &Path) -> Vec<PathBuf> {
    let name = own_name();
    let is_ours =
        |found: &str| found.strip_prefix(&name).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    let entries = fs::read_dir(shared).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_ours));
    let mut own: Vec<_> = named.map(|entry| entry.path()).filter(|path| check(path).is_ok()).collect();
    own.sort();
    own
}

fn own_name() -> String {
    format!("strongroom-{}", effective_user())
}

/// Makes the directory `path` where it is missing, checks it, and closes it to others where they may look into it: whoever
/// made it by hand, or a service manager, left it at 0755.
fn make(path: &Path) -> Result<()> {
    let made = match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error.into()),
        _ => check(path).and_then(|()| close(path)),
    };
    made.map_err(|error| error.during(format!("cannot use {}", path.display())))
}

/// Gives a directory that passed [`check`] the mode 0700.
fn close(path: &Path) -> Result<()> {
    if fs::symlink_metadata(path)?.mode() & 0o777 != 0o700 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// A directory of the user's own, with a name that survives option lists.
fn is_usable_parent(path: &Path) -> bool {
    let owned = fs::metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == effective_user());
    let plain = path.to_str().is_some_and(|text| !text.contains(|c: char| c == ',' || c.is_control()));
    owned && plain
}

/// The directory itself must be ours: no link, no other owner, and nothing that others could have put there.
fn check(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != effective_user() || meta.mode() & 0o022 != 0 {
        let what =
            "it is not a directory that only you can write to; remove it, or set its owner and mode 0700";
        return Err(Error::new(ErrorKind::Permission, what));
    }
    Ok(())
}

/// Root's directory.
const ROOTS: &str = "/run/strongroom";
/// Where users without a login session find room.
const SHARED: &str = "/tmp";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_private_directory_passes() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        check(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o702, 0o777] {
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(make(directory.path()).unwrap_err().kind(), ErrorKind::Permission, "{mode:o}");
        }
    }

    #[test]
    fn a_directory_that_others_may_look_into_is_closed_to_them() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        make(directory.path()).unwrap();
        assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_link_to_a_private_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("target");
        fs::DirBuilder::new().mode(0o700).create(&target).unwrap();
        let link = directory.path().join("link");
        symlink(&target, &link).unwrap();
        assert_eq!(check(&link).unwrap_err().kind(), ErrorKind::Permission);
    }

    #[test]
    fn a_parent_with_a_comma_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let parent = directory.path().join("a,b");
        fs::create_dir(&parent).unwrap();
        assert!(!is_usable_parent(&parent));
        assert!(is_usable_parent(directory.path()));
    }

    #[test]
    fn a_free_name_is_taken_and_found_again() {
        let shared = tempfile::tempdir().unwrap();
        let own = prepare_below(shared.path()).unwrap();
        assert_eq!(own, shared.path().join(own_name()));
        assert_eq!(prepare_below(shared.path()).unwrap(), own);
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over_for_a_random_one() {
        let shared = tempfile::tempdir().unwrap();
        let squatted = shared.path().join(own_name());
        // As good as another user's: neither is a private directory of ours.
        fs::create_dir(&squatted).unwrap();
        fs::set_permissions(&squatted, fs::Permissions::from_mode(0o777)).unwrap();
        symlink(shared.path(), shared.path().join(format!("{}-0", own_name()))).unwrap();
        let own = prepare_below(shared.path()).unwrap();
        let name = own.file_name().unwrap().to_str().unwrap();
        assert_eq!(name.strip_prefix(&format!("{}-", own_name())).unwrap().len(), 16);
        check(&own).unwrap();
        assert_eq!(prepare_below(shared.path()).unwrap(), own);
        assert_eq!(own_below(shared.path()), [own]);
    }

    #[test]
    fn the_directory_of_a_user_with_a_longer_number_is_not_ours() {
        let shared = tempfile::tempdir().unwrap();
        let other = shared.path().join(format!("{}7", own_name()));
        fs::DirBuilder::new().mode(0o700).create(&other).unwrap();
        assert!(own_below(shared.path()).is_empty());
    }
}
