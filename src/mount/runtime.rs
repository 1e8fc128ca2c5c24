//! The private directory that holds sessions: `/run/strongroom` for root, below `$XDG_RUNTIME_DIR` for a user.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, ErrorKind, Result},
    sys::process::{effective_user, is_root},
};

/// Makes the caller's runtime directory where it is missing, and checks that nobody else can enter it.
///
/// # Errors
/// `Permission` where the place is taken by something that another user controls.
pub(super) fn prepare() -> Result<PathBuf> {
    let path = candidates().into_iter().next().unwrap_or_else(last_resort);
    let action = || format!("cannot use {}", path.display());
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::from(error).during(action())),
    }
    check(&path).map_err(|error| error.during(action()))?;
    Ok(path)
}

/// The caller's runtime directories that exist. Several, where the environment changed between two commands.
pub(super) fn existing() -> Vec<PathBuf> {
    let mut paths = candidates();
    if !is_root() {
        paths.push(last_resort());
    }
    paths.retain(|path| check(path).is_ok());
    paths.dedup();
    paths
}

/// Where the directory may be, the best place first.
fn candidates() -> Vec<PathBuf> {
    if is_root() {
        return vec![PathBuf::from("/run/strongroom")];
    }
    let by_environment = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let by_custom = PathBuf::from(format!("/run/user/{}", effective_user()));
    by_environment
        .into_iter()
        .chain([by_custom])
        .filter(|parent| is_usable_parent(parent))
        .map(|parent| parent.join("strongroom"))
        .collect()
}

/// For users without a login session: a well-known name that another user may have taken, hence [`check`].
fn last_resort() -> PathBuf {
    PathBuf::from(format!("/tmp/strongroom-{}", effective_user()))
}

/// A directory of the user's own, with a name that survives option lists.
fn is_usable_parent(path: &Path) -> bool {
    let owned = fs::metadata(path).is_ok_and(|meta| meta.is_dir() && meta.uid() == effective_user());
    let plain = path.to_str().is_some_and(|text| !text.contains(|c: char| c == ',' || c.is_control()));
    path.is_absolute() && owned && plain
}

/// The directory itself must be ours alone: no link, no other owner, mode 0700.
fn check(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() || meta.uid() != effective_user() || meta.mode() & 0o777 != 0o700 {
        return Err(Error::new(
            ErrorKind::Permission,
            "it is not a private directory (mode 0700) of this user",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_private_directory_passes() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        check(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(check(directory.path()).unwrap_err().kind(), ErrorKind::Permission);
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
        assert!(!is_usable_parent(Path::new("relative")));
    }
}
