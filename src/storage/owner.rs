//! Whose a new file is.

use std::{
    fs::{File, metadata},
    os::unix::fs::{MetadataExt, fchown},
    path::Path,
};

use crate::sys::{process::is_root, user::User};

/// Gives a file that is about to stand at `target`, in `folder`, to whom it should belong. What root puts in the place of a file
/// belongs to that file's owner; what root makes for a user in the user's own folder (`sudo`), to the user. File systems without
/// owners refuse that, and nothing is lost by it.
pub fn give_to_owner(file: &File, target: &Path, folder: &Path) {
    if !is_root() {
        return;
    }
    let owner_of = |path: &Path| metadata(path).ok().map(|found| User { uid: found.uid(), gid: found.gid() });
    let served = User::served();
    let is_theirs = |folder: &User| folder.uid == served.uid;
    let owner = owner_of(target).or_else(|| owner_of(folder).filter(is_theirs).map(|_| served));
    if let Some(owner) = owner.filter(|owner| owner.uid != 0) {
        drop(fchown(file, Some(owner.uid), Some(owner.gid)));
    }
}
