//! Whose the files are in a file system that knows no owners.

use crate::{
    error::{Error, ErrorKind, Result},
    export::Owners,
    mount::{filesystem::Contents, ways::Means},
    sys::user::User,
};

/// Whether files can be shown as those of whom was asked for.
///
/// # Errors
/// `Unsupported`.
pub(super) fn check(contents: Contents, owners: Option<Owners>, means: Means) -> Result<()> {
    let is_kept = !matches!(contents, Contents::Fat | Contents::Exfat | Contents::Ntfs);
    match owners {
        Some(Owners::Real) if !is_kept => {
            let reason = format!("--owner real: {contents} keeps no owners");
            Err(Error::new(ErrorKind::Unsupported, reason).with_hint("leave out --owner"))
        }
        Some(Owners::Me) if is_kept && means != Means::Builtin => {
            let reason = format!("--owner me: this driver shows the owners that {contents} keeps");
            let hint = "leave out --owner; with --driver builtin, strongroom shows ext4 itself";
            Err(Error::new(ErrorKind::Unsupported, reason).with_hint(hint))
        }
        _ => Ok(()),
    }
}

/// The options that give the files of FAT, exFAT and NTFS to `owner`, for nobody else's eyes, with names in UTF-8. `None` for file
/// systems that keep owners and names themselves.
///
/// The names are those of the kernel's drivers `vfat`, `exfat` and `ntfs3`. Without them root owns every file, and others may
/// read it.
pub(super) fn options(contents: Contents, owner: User) -> Option<String> {
    // vfat warns of iocharset=utf8: names would tell upper from lower case. It has an option of its own for UTF-8.
    let names = match contents {
        Contents::Fat => "utf8=1",
        Contents::Exfat | Contents::Ntfs => "iocharset=utf8",
        Contents::Ext { .. }
        | Contents::Xfs
        | Contents::Btrfs
        | Contents::Iso
        | Contents::Udf
        | Contents::Unknown => return None,
    };
    let User { uid, gid } = owner;
    Some(format!("uid={uid},gid={gid},umask=077,{names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_owners_belongs_to_one_user_alone() {
        let of = |contents| options(contents, User { uid: 1000, gid: 100 });
        assert_eq!(of(Contents::Fat).unwrap(), "uid=1000,gid=100,umask=077,utf8=1");
        for contents in [Contents::Exfat, Contents::Ntfs] {
            assert_eq!(of(contents).unwrap(), "uid=1000,gid=100,umask=077,iocharset=utf8");
        }
    }

    #[test]
    fn owners_are_shown_as_asked_or_not_at_all() {
        let ext = Contents::Ext { needs_recovery: false };
        let refused = |contents, owners, means| {
            check(contents, Some(owners), means).is_err_and(|error| error.kind() == ErrorKind::Unsupported)
        };
        assert!(
            refused(Contents::Fat, Owners::Real, Means::Builtin) && refused(ext, Owners::Me, Means::Kernel)
        );
        assert!(!refused(ext, Owners::Me, Means::Builtin) && !refused(ext, Owners::Real, Means::Kernel));
        assert!(!refused(Contents::Exfat, Owners::Me, Means::Kernel));
    }

    #[test]
    fn a_file_system_with_owners_keeps_them() {
        let ext = Contents::Ext { needs_recovery: false };
        for contents in [ext, Contents::Xfs, Contents::Btrfs] {
            assert_eq!(options(contents, User { uid: 1000, gid: 100 }), None);
        }
    }
}
