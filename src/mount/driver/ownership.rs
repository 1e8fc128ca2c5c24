//! Whose the files are in a file system that knows no owners.

use crate::{mount::filesystem::Contents, sys::user::User};

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
        Contents::Ext { .. } | Contents::Xfs | Contents::Btrfs | Contents::Unknown => return None,
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
    fn a_file_system_with_owners_keeps_them() {
        let ext = Contents::Ext { needs_recovery: false, has_extents: true, has_reserve: true };
        for contents in [ext, Contents::Xfs, Contents::Btrfs] {
            assert_eq!(options(contents, User { uid: 1000, gid: 100 }), None);
        }
    }
}
