//! The user's own folders, by the XDG Base Directory Specification.

use std::{env, path::PathBuf};

/// The folder that `variable` names, else the one in the home at `fallback`; nowhere without a home. What is not absolute counts as
/// not set.
pub(crate) fn of_user(variable: &str, fallback: &str) -> Option<PathBuf> {
    absolute(variable).or_else(|| Some(home()?.join(fallback)))
}

/// The user's home.
pub(crate) fn home() -> Option<PathBuf> {
    absolute("HOME")
}

/// Where `open` makes its folders.
pub(crate) fn vaults() -> Option<PathBuf> {
    Some(home()?.join("Vaults"))
}

fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
