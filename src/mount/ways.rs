//! Which ways of mounting work on this machine, and what opens the others.

use std::{fmt, fs, path::Path};

use rustix::system::uname;
use serde::Serialize;

use super::{
    driver::{Driver, DriverChoice, e2fsck_program},
    filesystem::Contents,
    logind,
    mkfs::{FilesystemKind, is_available},
    program, udisks,
};
use crate::{
    error::{Error, ErrorKind, Fact, Result},
    export::check_fuse,
    sys::{fuse_mount::check_sharing, loopdev, process::is_root},
};

/// What is known of this machine.
#[derive(Debug, Serialize)]
pub struct Ways {
    /// Whether the caller has the powers of root, and loop devices.
    pub is_root: bool,
    /// FUSE, which every way takes.
    pub fuse: Part,
    /// udisks, by which an ordinary user has the kernel mount what strongroom does not write itself.
    pub udisks: Part,
    /// logind, which tells of sleep and logout.
    pub logind: Part,
    /// Whether the caller may share what he mounts.
    pub sharing: Part,
    /// Each file system.
    pub filesystems: Vec<Way>,
}

/// How a file system is mounted and made here.
#[derive(Debug, Serialize)]
pub struct Way {
    /// Its name, as `--filesystem` takes it.
    pub filesystem: &'static str,
    /// What `--driver auto` takes; `None` where nothing works.
    pub driver: Option<Means>,
    /// Whether that works, what speaks against it, what would open it.
    pub mount: Part,
    /// The same for making one.
    pub create: Part,
}

/// One part of it.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Whether it works.
    pub ok: bool,
    /// What is to be known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The command that opens it, or makes it better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// What mounts a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// The kernel, over a loop device.
    Kernel,
    /// strongroom itself.
    Builtin,
    /// The kernel, by way of udisks, which chooses the mount point.
    Udisks,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kernel => "kernel",
            Self::Builtin => "builtin",
            Self::Udisks => "udisks",
        })
    }
}

impl Contents {
    /// What can mount it, the best first. The one table: `--driver auto` takes the first that the caller may use and that is here.
    /// The kernel is for root. udisks is for others, who leave the mount point to it.
    pub(super) const fn means(self) -> &'static [Means] {
        match self {
            Self::Ext { .. } | Self::Fat | Self::Exfat | Self::Iso => &[Means::Kernel, Means::Builtin],
            // By strongroom for reading alone.
            Self::Ntfs | Self::Udf => &[Means::Kernel, Means::Udisks, Means::Builtin],
            Self::Xfs | Self::Btrfs => &[Means::Kernel, Means::Udisks],
            Self::Unknown => &[],
        }
    }

    /// Whether it is left to udisks, where it may show anywhere and `driver` is what `--driver auto` came to.
    pub(super) fn is_for_udisks(self, driver: Driver, read_only: bool) -> bool {
        let is_read_here = read_only && self.means().contains(&Means::Builtin);
        driver == Driver::Builtin && !is_root() && self.means().contains(&Means::Udisks) && !is_read_here
    }

    /// Whether strongroom mounts it by itself, where `driver` is what the caller of `choice` gets.
    pub(super) fn is_builtin(self, choice: DriverChoice, driver: Driver) -> bool {
        let is_kernels = driver == Driver::Kernel
            && (choice == DriverChoice::Kernel || self.kernel_name().is_some_and(kernel_knows));
        !is_kernels && self.means().contains(&Means::Builtin)
    }
}

/// Looks at this machine. Changes nothing.
///
/// # Errors
/// `Permission`.
pub fn ways() -> Result<Ways> {
    let driver = DriverChoice::Auto.resolve()?;
    let fuse = part(check_fuse());
    let udisks = if is_root() {
        Part { ok: false, note: Some("root does without".to_owned()), fix: None }
    } else {
        part(udisks::check().and_then(|()| check_size_shows()))
    };
    let filesystems = FilesystemKind::ALL.map(|kind| {
        let contents = contents(kind);
        let (means, mount) = if fuse.ok {
            how(contents, driver, udisks.ok)
        } else {
            (None, Part { ok: false, note: None, fix: None })
        };
        Way { filesystem: kind.name(), driver: means, mount, create: part(is_available(kind)) }
    });
    Ok(Ways {
        is_root: driver == Driver::Kernel,
        fuse,
        udisks,
        logind: part(logind::check()),
        sharing: part(check_sharing()),
        filesystems: filesystems.into(),
    })
}

/// Whether the kernel tells udisks how large the block file of an ordinary user is. Without that the loop device is empty.
fn check_size_shows() -> Result<()> {
    let is_allowed = fs::read_to_string(SEEN_BY_ROOT).is_ok_and(|word| word.trim() == "Y");
    if is_allowed || !asks_for_size(&uname().release().to_string_lossy()) {
        return Ok(());
    }
    let reason = "this kernel does not show a user's block file to udisks";
    Err(Error::new(ErrorKind::Unsupported, reason).with_hint(SHOW_TO_ROOT))
}

/// Whether a kernel of this release asks the file behind a loop device for its size as root: 6.17 and newer ones.
fn asks_for_size(release: &str) -> bool {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    version >= (6, 17)
}

/// What `auto` takes for a file system, and what is to be known of that.
fn how(contents: Contents, driver: Driver, has_udisks: bool) -> (Option<Means>, Part) {
    let name = contents.kernel_name().unwrap_or_default();
    let may = |means: &Means| match means {
        Means::Kernel => driver == Driver::Kernel && kernel_knows(name),
        Means::Udisks => has_udisks && driver == Driver::Builtin && !is_root(),
        Means::Builtin => true,
    };
    match contents.means().iter().copied().find(may) {
        Some(Means::Builtin) if matches!(contents, Contents::Ext { .. }) => {
            let missing = part(e2fsck_program().map(drop));
            let note = missing.note.map(|missing| format!("one that takes a repair is only read: {missing}"));
            (Some(Means::Builtin), Part { ok: true, note, fix: missing.fix })
        }
        Some(Means::Builtin) if contents == Contents::Ntfs => {
            let note = "for reading only: strongroom does not write NTFS".to_owned();
            (Some(Means::Builtin), Part { ok: true, note: Some(note), ..closed(contents) })
        }
        Some(Means::Udisks) => {
            let named = if contents == Contents::Ntfs {
                "builtin mounts it, for reading only"
            } else {
                "nothing mounts it"
            };
            let note = format!("leave out the mount point, which udisks chooses; on one of yours {named}");
            (Some(Means::Udisks), Part { ok: true, note: Some(note), fix: None })
        }
        Some(means) => (Some(means), Part { ok: true, note: None, fix: None }),
        None => (None, closed(contents)),
    }
}

/// Why nothing mounts a file system here, and what would.
fn closed(contents: Contents) -> Part {
    let name = contents.kernel_name().unwrap_or_default();
    let (note, fix) = if !kernel_knows(name) {
        let reason = format!("this kernel has no {name}");
        (reason, format!("install a kernel that has the module {name}; --block shows the volume as a file"))
    } else if !is_root() {
        ("only root mounts it".to_owned(), "sudo strongroom mount CONTAINER MOUNTPOINT".to_owned())
    } else {
        ("there are no loop devices".to_owned(), "modprobe loop".to_owned())
    };
    Part { ok: false, note: Some(note), fix: Some(fix) }
}

fn part(found: Result<()>) -> Part {
    let Err(error) = found else { return Part { ok: true, note: None, fix: None } };
    let fix = match error.fact() {
        Some(Fact::NotInstalled(package)) => Some(install(package)),
        _ => error.hint().map(str::to_owned),
    };
    Part { ok: false, note: Some(error.reason().to_owned()), fix }
}

/// The command that installs a package, by the name that Debian gives it.
fn install(package: &str) -> String {
    if program::find("apt-get").is_some() {
        return format!("sudo apt-get install {package}");
    }
    format!("install the package {package}")
}

/// A file system of this kind as it is recognised.
const fn contents(kind: FilesystemKind) -> Contents {
    match kind {
        FilesystemKind::Ext4 => Contents::Ext { needs_recovery: false },
        FilesystemKind::Exfat => Contents::Exfat,
        FilesystemKind::Vfat => Contents::Fat,
        FilesystemKind::Xfs => Contents::Xfs,
        FilesystemKind::Btrfs => Contents::Btrfs,
        FilesystemKind::Ntfs => Contents::Ntfs,
    }
}

/// Whether the running kernel has a file system, loaded or as a module that it would load. True where that cannot be told.
fn kernel_knows(name: &str) -> bool {
    let Ok(loaded) = fs::read_to_string("/proc/filesystems") else { return true };
    if loaded.lines().any(|line| line.split_whitespace().last() == Some(name)) {
        return true;
    }
    let release = uname();
    let folder = Path::new("/lib/modules").join(release.release().to_string_lossy().as_ref());
    has_module(&folder, name)
}

/// Whether the lists of modules in a folder (depmod(8)) have one of this name.
fn has_module(folder: &Path, name: &str) -> bool {
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        let Ok(list) = fs::read_to_string(folder.join(list)) else { return false };
        list.lines().any(|line| {
            let path = line.split(':').next().unwrap_or_default();
            let file = path.rsplit('/').next().unwrap_or_default();
            file.strip_prefix(name).is_some_and(|rest| rest.starts_with(".ko"))
        })
    })
}

/// Where the kernel is told whether root may ask for the files of other users' FUSE mounts, and the command that allows it.
const SEEN_BY_ROOT: &str = "/sys/module/fuse/parameters/allow_sys_admin_access";
pub(super) const SHOW_TO_ROOT: &str = "echo Y | sudo tee /sys/module/fuse/parameters/allow_sys_admin_access";

/// Whether there are loop devices that this process may use.
pub(super) fn has_loop_devices() -> bool {
    is_root() && loopdev::check().is_ok()
}

impl Ways {
    /// Fails where nothing at all can be mounted.
    ///
    /// # Errors
    /// `Missing`, naming what.
    pub fn check(&self) -> Result<()> {
        if self.fuse.ok {
            return Ok(());
        }
        let reason = self.fuse.note.clone().unwrap_or_default();
        Err(Error::new(ErrorKind::Missing, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_by_their_whole_name() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("modules.dep"),
            "kernel/fs/exfat/exfat.ko.xz:\nkernel/fs/fat/vfat.ko: kernel/fs/fat/fat.ko\n",
        )
        .unwrap();
        fs::write(folder.path().join("modules.builtin"), "kernel/fs/ext4/ext4.ko\n").unwrap();
        for (name, is_there) in [
            ("exfat", true),
            ("vfat", true),
            ("ext4", true),
            ("fat", false),
            ("ext", false),
            ("ntfs3", false),
        ] {
            assert_eq!(has_module(folder.path(), name), is_there, "{name}");
        }
        assert!(!has_module(Path::new("/nowhere"), "ext4"));
    }

    #[test]
    fn what_users_get_is_the_first_that_they_may_use() {
        for kind in [FilesystemKind::Ext4, FilesystemKind::Exfat] {
            let (means, part) = how(contents(kind), Driver::Builtin, false);
            assert_eq!((means, part.ok), (Some(Means::Builtin), true), "{kind}");
            let is_bare = kind == FilesystemKind::Ext4 && e2fsck_program().is_err();
            assert_eq!((part.note.is_some(), part.fix.is_some()), (is_bare, is_bare), "{kind}");
        }
        let (means, part) = how(Contents::Ntfs, Driver::Builtin, false);
        assert_eq!((means, part.ok), (Some(Means::Builtin), true));
        assert!(part.note.unwrap().starts_with("for reading only") && part.fix.is_some());
        let (means, part) = how(Contents::Btrfs, Driver::Builtin, false);
        assert!(means.is_none() && !part.ok && part.fix.is_some());
    }

    #[test]
    fn udisks_is_for_users_and_for_what_is_not_written_here() {
        let ext = Contents::Ext { needs_recovery: false };
        for (contents, read_only, is_for_udisks) in [
            (Contents::Xfs, false, true),
            (Contents::Btrfs, true, true),
            (Contents::Ntfs, false, true),
            (Contents::Ntfs, true, false),
            (Contents::Udf, false, true),
            (Contents::Iso, false, false),
            (ext, false, false),
            (Contents::Exfat, false, false),
            (Contents::Unknown, false, false),
        ] {
            assert_eq!(
                contents.is_for_udisks(Driver::Builtin, read_only),
                is_for_udisks && !is_root(),
                "{contents}"
            );
            assert!(!contents.is_for_udisks(Driver::Kernel, read_only));
            let (means, part) = how(contents, Driver::Builtin, true);
            let is_taken = contents.is_for_udisks(Driver::Builtin, false);
            assert_eq!(means == Some(Means::Udisks), is_taken, "{contents}");
            assert!(!is_taken || part.note.unwrap().contains("leave out the mount point"));
        }
    }

    #[test]
    fn kernels_are_told_apart_by_their_numbers() {
        for (release, asks) in [
            ("6.18.44-fc-v857", true),
            ("6.17", true),
            ("7.0.1", true),
            ("6.12.9+deb13", false),
            ("5.19", false),
            ("odd", false),
        ] {
            assert_eq!(asks_for_size(release), asks, "{release}");
        }
    }

    #[test]
    fn who_asks_for_the_kernel_gets_it_or_nothing() {
        for choice in [DriverChoice::Auto, DriverChoice::Builtin] {
            assert!(Contents::Fat.is_builtin(choice, Driver::Builtin));
            assert!(!Contents::Btrfs.is_builtin(choice, Driver::Builtin));
        }
        assert!(!Contents::Fat.is_builtin(DriverChoice::Kernel, Driver::Kernel));
        assert_eq!(Contents::Fat.is_builtin(DriverChoice::Auto, Driver::Kernel), !kernel_knows("vfat"));
    }

    #[test]
    fn what_is_missing_comes_with_the_command_that_brings_it() {
        let missing = Error::new(ErrorKind::Missing, "mkfs.xfs is not installed");
        let part = part(Err(missing.with_fact(Fact::NotInstalled("xfsprogs"))));
        assert!(!part.ok && part.fix.unwrap().ends_with(" xfsprogs"));
    }
}
