//! Making a file system in a volume, with the system's own tools on the block file.

use std::{fmt, path::Path, process::Command, str::FromStr, sync::atomic::AtomicBool};

use super::program;
use crate::error::{Error, ErrorKind, Result};

/// A file system that can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilesystemKind {
    /// ext4: the one that an ordinary user can mount.
    Ext4,
    /// exFAT.
    Exfat,
    /// FAT, of the width that suits the size.
    Vfat,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// NTFS.
    Ntfs,
}

impl FilesystemKind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Ext4, Self::Exfat, Self::Vfat, Self::Xfs, Self::Btrfs, Self::Ntfs];

    /// The name that `--filesystem` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Exfat => "exfat",
            Self::Vfat => "vfat",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Ntfs => "ntfs",
        }
    }

    /// The package that brings its tools.
    pub const fn package(self) -> &'static str {
        match self {
            Self::Ext4 => "e2fsprogs",
            Self::Exfat => "exfatprogs",
            Self::Vfat => "dosfstools",
            Self::Xfs => "xfsprogs",
            Self::Btrfs => "btrfs-progs",
            Self::Ntfs => "ntfs-3g",
        }
    }

    /// The longest label: bytes for the Unix file systems, characters for the others.
    const fn label_limit(self) -> usize {
        match self {
            Self::Ext4 => 16,
            Self::Exfat | Self::Vfat => 11,
            Self::Xfs => 12,
            Self::Btrfs => 255,
            Self::Ntfs => 32,
        }
    }
}

impl fmt::Display for FilesystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FilesystemKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("no file system of the name {name} can be made"))
        })
    }
}

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct NewFilesystem<'a> {
    /// Which file system.
    pub kind: FilesystemKind,
    /// The volume's sector size in bytes; the file system writes no smaller unit where its tool can be told.
    pub sector_size: u32,
    /// The user and group that own its root directory, where it knows owners.
    pub owner: (u32, u32),
    /// Its label, cut to what it can hold.
    pub label: Option<&'a str>,
}

impl NewFilesystem<'_> {
    /// Makes it in the block file `block`.
    ///
    /// # Errors
    /// `Missing` with the package, `Interrupted`, `NoSpace`, or `Io` with the tool's own last line.
    pub fn make(&self, block: &Path, interrupted: &AtomicBool) -> Result<()> {
        let action = || format!("cannot make the {} file system", self.kind);
        let tool = tool(self.kind).map_err(|error| error.during(action()))?;
        let mut command = program::command(tool);
        self.add_arguments(&mut command);
        command.arg(block);
        let finished = program::run(&mut command, interrupted).map_err(|error| error.during(action()))?;
        if finished.status == Some(0) {
            return Ok(());
        }
        let full = finished.output.contains("No space left on device");
        let kind = if full { ErrorKind::NoSpace } else { ErrorKind::Io };
        Err(Error::new(kind, finished.last_line().to_owned()).during(action()))
    }

    fn add_arguments(&self, command: &mut Command) {
        let sector_size = self.sector_size.to_string();
        match self.kind {
            FilesystemKind::Ext4 => {
                let (user, group) = self.owner;
                // Without root_owner an ordinary user cannot write at the top. Nothing is there to be discarded, and a
                // reserve for root has no use in one user's vault. 4 KiB blocks also for small volumes, which mke2fs
                // would give 1 KiB: the kernel refuses blocks smaller than the device's sectors.
                command.args(["-q", "-F", "-b", "4096", "-m", "0", "-E"]);
                command.arg(format!("nodiscard,root_owner={user}:{group}"));
            }
            FilesystemKind::Exfat => {}
            FilesystemKind::Vfat => {
                command.args(["-S", &sector_size]);
            }
            FilesystemKind::Xfs => {
                command.args(["-q", "-f", "-K", "-s", &format!("size={sector_size}")]);
            }
            FilesystemKind::Btrfs => {
                command.args(["-q", "-f", "-K"]);
            }
            FilesystemKind::Ntfs => {
                command.args(["-q", "-F", "-Q", "-s", &sector_size]);
            }
        }
        if let Some(label) =
            self.label.map(|label| cut(label, self.kind.label_limit())).filter(|l| !l.is_empty())
        {
            command.args([if self.kind == FilesystemKind::Vfat { "-n" } else { "-L" }, label]);
        }
    }
}

/// Whether the tool that makes `kind` is installed.
///
/// # Errors
/// `Missing`, naming the package.
pub fn is_available(kind: FilesystemKind) -> Result<()> {
    tool(kind).map(|_| ())
}

fn tool(kind: FilesystemKind) -> Result<std::path::PathBuf> {
    program::require(&format!("mkfs.{}", kind.name()), kind.package())
}

/// The longest beginning of `label` within `limit` bytes.
fn cut(label: &str, limit: usize) -> &str {
    let end = (0..=limit.min(label.len())).rev().find(|&end| label.is_char_boundary(end));
    label.get(..end.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::mount::filesystem::{Contents, Superblock};

    fn made(kind: FilesystemKind, bytes: u64) -> Option<Superblock> {
        if is_available(kind).is_err() {
            println!("skipped: mkfs.{kind} is not installed");
            return None;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(bytes).unwrap();
        let new = NewFilesystem {
            kind,
            sector_size: 4096,
            owner: (1234, 1234),
            label: Some("a label that is long"),
        };
        new.make(file.path(), &AtomicBool::new(false)).unwrap();
        Some(Superblock::probe(file.path()).unwrap())
    }

    #[test]
    fn a_small_ext4_has_blocks_of_4_kib() {
        let Some(superblock) = made(FilesystemKind::Ext4, 16 << 20) else { return };
        assert_eq!(superblock.contents, Contents::Ext { needs_recovery: false });
        assert_eq!(superblock.block_size, Some(4096));
    }

    #[test]
    fn a_fat_has_the_volumes_sectors() {
        let Some(superblock) = made(FilesystemKind::Vfat, 512 << 20) else { return };
        assert_eq!((superblock.contents, superblock.block_size), (Contents::Fat, Some(4096)));
    }

    #[test]
    fn every_installed_tool_makes_what_it_is_named_for() {
        let expected = [
            (FilesystemKind::Exfat, Contents::Exfat),
            (FilesystemKind::Xfs, Contents::Xfs),
            (FilesystemKind::Btrfs, Contents::Btrfs),
            (FilesystemKind::Ntfs, Contents::Ntfs),
        ];
        for (kind, contents) in expected {
            let Some(superblock) = made(kind, 512 << 20) else { continue };
            assert_eq!(superblock.contents, contents, "{kind}");
        }
    }

    #[test]
    fn a_tool_that_refuses_is_quoted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        File::options().write(true).open(file.path()).unwrap().set_len(4096).unwrap();
        let new = NewFilesystem { kind: FilesystemKind::Ext4, sector_size: 512, owner: (0, 0), label: None };
        let error = new.make(file.path(), &AtomicBool::new(false)).unwrap_err();
        assert_eq!((error.kind(), error.action()), (ErrorKind::Io, Some("cannot make the ext4 file system")));
    }

    #[test]
    fn labels_are_cut_between_characters() {
        assert_eq!(cut("Räder", 2), "R");
        assert_eq!(cut("Räder", 3), "Rä");
        assert_eq!(cut("Rad", 16), "Rad");
    }
}
