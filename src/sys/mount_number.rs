//! The numbers of mounts that are never used again (since Linux 6.8): those in the table of mounts are, soon.

#![allow(unsafe_code, reason = "statmount has no safe wrapper; the block states its invariant")]

use std::path::Path;

use rustix::{
    fs::{AtFlags, CWD, StatxFlags, statx},
    io::Errno,
};

/// The number for good of the mount that shows at `path`, if it has the number `short` in the table of mounts. `None` also where the
/// kernel has no such numbers.
pub fn unique_number(path: &Path, short: u64) -> Option<u64> {
    let unique = number_of(path, AtFlags::SYMLINK_NOFOLLOW)?;
    (short_number(unique) == Ok(short)).then_some(unique)
}

/// The number for good of the mount through which a link of `/proc` leads to its file. The kernel knows it without asking a server.
pub fn unique_number_behind(link: &Path) -> Option<u64> {
    number_of(link, AtFlags::empty())
}

fn number_of(path: &Path, flags: AtFlags) -> Option<u64> {
    let flags = flags | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let found = statx(CWD, path, flags, StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE)).ok()?;
    (found.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(found.stx_mnt_id)
}

/// Whether the mount that had this number for good is gone from the caller's mount namespace.
pub fn is_gone(unique: u64) -> bool {
    short_number(unique) == Err(Errno::NOENT)
}

/// The number in the table of mounts of the mount with this number for good.
fn short_number(unique: u64) -> Result<u64, Errno> {
    let request = Request { size: REQUEST_LEN, spare: 0, mount: unique, wanted: STATMOUNT_MNT_BASIC };
    let mut told = Told([0; 64]);
    // SAFETY: the kernel reads as many bytes of the request as it says, and writes no more to `told` than it is said to have; both
    // live as long as the call.
    let done = unsafe {
        libc::syscall(
            STATMOUNT,
            std::ptr::from_ref(&request),
            std::ptr::from_mut(&mut told),
            size_of::<Told>(),
            0,
        )
    };
    if done < 0 {
        let error = std::io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::NOSYS));
    }
    told.0.get(MNT_ID_OLD).map(|&short| short.into()).ok_or(Errno::NOSYS)
}

/// `struct mnt_id_req` of `linux/mount.h`, in its first version.
#[repr(C)]
struct Request {
    size: u32,
    spare: u32,
    mount: u64,
    wanted: u64,
}

/// `struct statmount`, as words, and half of the strings behind it.
#[repr(C, align(8))]
struct Told([u32; 64]);

const REQUEST_LEN: u32 = 24;
const _: () = assert!(size_of::<Request>() == 24);
/// The number of the system call, which is the same everywhere.
const STATMOUNT: libc::c_long = 457;
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
const STATMOUNT_MNT_BASIC: u64 = 2;
/// Which word of [`Told`] is `mnt_id_old`.
const MNT_ID_OLD: usize = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_has_a_number_for_good_and_only_with_its_own_number() {
        let flags = AtFlags::NO_AUTOMOUNT;
        let found = statx(CWD, "/proc", flags, StatxFlags::from_bits_retain(0x1000)).unwrap();
        let short = found.stx_mnt_id;
        let Some(unique) = unique_number(Path::new("/proc"), short) else {
            assert!(std::env::var_os("STRONGROOM_REQUIRE").is_none(), "no numbers for good here");
            return println!("skipped: this kernel numbers no mount for good");
        };
        assert!(!is_gone(unique));
        assert!(is_gone(u64::MAX - 1));
        assert_eq!(unique_number(Path::new("/proc"), short + 1), None);
    }
}
