//! Making a file system in a volume: ext4, FAT and exFAT ourselves, others with the system's own tools on the block file.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, atomic::AtomicBool},
    thread::sleep,
    time::{Duration, SystemTime},
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::{program, session::ROOT};
use crate::{
    error::{Error, ErrorKind, Result},
    filesystem::{Fault, NewExt, NewFat, Tables, Unmade},
    sys::process::is_root,
    volume::{BlockDevice, ByteDevice, uuid_of},
};

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

    /// The package that brings its tools; none of those that this program makes itself.
    pub const fn package(self) -> Option<&'static str> {
        match self {
            Self::Ext4 | Self::Exfat | Self::Vfat => None,
            Self::Xfs => Some("xfsprogs"),
            Self::Btrfs => Some("btrfs-progs"),
            Self::Ntfs => Some("ntfs-3g"),
        }
    }

    /// The smallest volume that it fits in, in bytes: what the tools of Debian 12 accept, rounded up.
    ///
    /// mkfs.xfs 6.1 wants 300 MiB. mkfs.btrfs 6.2 wants 109 MiB and would let a smaller file grow, which a volume does not.
    /// mkfs.ntfs fails up to 1 MiB.
    pub const fn least_size(self) -> u64 {
        match self {
            Self::Ext4 | Self::Exfat => 256 << 10,
            Self::Vfat => 128 << 10,
            Self::Xfs => 300 << 20,
            Self::Btrfs => 114 << 20,
            Self::Ntfs => 2 << 20,
        }
    }

    /// Whether it can be on a volume of `len` bytes with sectors of `sector_size` as far as the format goes: FAT ends at 2^32
    /// sectors.
    pub fn reaches(self, len: u64, sector_size: u32) -> bool {
        match self {
            Self::Ext4 => NewExt::fits(EXT4_BLOCK_LEN, len),
            _ => self.new_fat(sector_size, None, 0).is_none_or(|new| new.fits(len)),
        }
    }

    /// What makes it, where it is a FAT.
    fn new_fat(self, sector: u32, label: Option<&str>, serial: u32) -> Option<NewFat<'_>> {
        let is_exfat = match self {
            Self::Exfat => true,
            Self::Vfat => false,
            _ => return None,
        };
        Some(NewFat { is_exfat, sector, label, serial })
    }

    /// Whether it can bear `label`, perhaps cut. FAT cannot bear all characters; those beyond ASCII depend on a code page that
    /// it does not name.
    pub fn takes_label(self, label: &str) -> bool {
        let is_plain = |c: char| matches!(c, ' '..='~') && !FORBIDDEN_IN_FAT.contains(c);
        self != Self::Vfat || label.chars().all(is_plain)
    }

    /// The longest label: bytes for the Unix file systems, characters for the others.
    const fn label_limit(self) -> usize {
        match self {
            // Characters, and not bytes, of some: the maker itself cuts it.
            Self::Ext4 | Self::Exfat | Self::Vfat => usize::MAX,
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

/// What to make.
#[derive(Debug, Clone, Copy)]
pub struct NewFilesystem<'a> {
    /// Which file system.
    pub kind: FilesystemKind,
    /// The volume's sector size in bytes; the file system writes no smaller unit where its tool can be told.
    pub sector_size: u32,
    /// The user and group that own its root directory, where it knows owners. (btrfs: older tools, btrfs-progs 6.2 among
    /// them, leave it to root.)
    pub owner: (u32, u32),
    /// Its label, cut to what it can hold; none where [`FilesystemKind::takes_label`] says no.
    pub label: Option<&'a str>,
    /// What was never written to the volume reads as zeros, not as random bytes.
    pub reads_zeros: bool,
}

impl NewFilesystem<'_> {
    /// Makes it on the sectors of a volume, for kinds that take no tool. `random` tells file systems apart.
    ///
    /// # Errors
    /// `Usage` where there is no such file system of that size, or it takes a tool; `Interrupted`; what writing gave.
    pub fn make_in_process(
        &self,
        volume: Arc<dyn BlockDevice>,
        random: [[u8; 16]; 2],
        interrupted: &AtomicBool,
    ) -> Result<()> {
        let label = self.label.filter(|label| self.kind.takes_label(label));
        let device = ByteDevice::new(volume);
        if self.kind == FilesystemKind::Ext4 {
            return self.new_ext(label, random).make(&Arc::new(device), interrupted).map_err(|unmade| {
                match unmade {
                    Unmade::Interrupted => Error::new(ErrorKind::Interrupted, unmade.to_string()),
                    Unmade::Fault(fault) => self.cannot(fault),
                }
            });
        }
        let [[a, b, c, d, ..], _] = random;
        let new = self.kind.new_fat(self.sector_size, label, u32::from_le_bytes([a, b, c, d]));
        let new = new.ok_or_else(|| Error::new(ErrorKind::Usage, "it takes a tool"))?;
        new.make(&device).map_err(|fault| self.cannot(fault))
    }

    fn new_ext<'a>(&self, label: Option<&'a str>, random: [[u8; 16]; 2]) -> NewExt<'a> {
        let [uuid, hash_seed] = random.map(uuid_of);
        let (now, tables) = (SystemTime::now(), self.tables(is_root()));
        NewExt { block_len: EXT4_BLOCK_LEN, owner: self.owner, label, uuid, hash_seed, now, tables }
    }

    /// The kernel zeroes tables of inodes once it has mounted the volume; strongroom's own driver does not. Random bytes there are
    /// nothing to a file system that is whole, but a repair could take them for inodes.
    const fn tables(&self, is_kernels: bool) -> Tables {
        match (self.reads_zeros, is_kernels) {
            (true, _) => Tables::ReadZeros,
            (false, true) => Tables::Left,
            (false, false) => Tables::Zeroed,
        }
    }

    fn cannot(&self, fault: Fault) -> Error {
        let (kind, reason) = match fault {
            Fault::TooLarge => (ErrorKind::Usage, "no such file system fits the volume".to_owned()),
            Fault::NoSpace => (ErrorKind::NoSpace, fault.to_string()),
            other => (ErrorKind::Io, other.to_string()),
        };
        Error::new(kind, reason).during(format!("cannot make the {} file system", self.kind))
    }

    /// Makes it in the block file `block`. `session` is a private directory, whose owner clears it.
    ///
    /// # Errors
    /// `Missing` with the package, `Interrupted`, `NoSpace`, or `Io` with the tool's own reason.
    pub fn make(&self, block: &Path, session: &Path, interrupted: &AtomicBool) -> Result<()> {
        self.run_tool(block, session, interrupted)
            .map_err(|error| error.during(format!("cannot make the {} file system", self.kind)))
    }

    fn run_tool(&self, block: &Path, session: &Path, interrupted: &AtomicBool) -> Result<()> {
        let mut command = program::command(tool(self.kind)?);
        self.add_arguments(&mut command);
        match self.kind {
            FilesystemKind::Xfs => {
                command.stdin(self.xfs_prototype()?).args(["-p", "/proc/self/fd/0"]);
            }
            FilesystemKind::Btrfs => {
                let root = session.join(ROOT);
                fs::create_dir(&root)?;
                command.arg("--rootdir").arg(root);
            }
            FilesystemKind::Ext4 | FilesystemKind::Exfat | FilesystemKind::Vfat | FilesystemKind::Ntfs => {}
        }
        command.arg(block);
        let mut finished = program::run(&mut command, interrupted)?;
        // mkfs.btrfs looks at every loop device of the machine, and gives up where the file behind one is just going.
        for _ in 0..MORE_TRIES {
            if !finished.errors.contains("cannot check mount status") {
                break;
            }
            sleep(PAUSE);
            finished = program::run(&mut command, interrupted)?;
        }
        if finished.status == Some(0) {
            return Ok(());
        }
        let full = finished.errors.contains("No space left on device");
        let kind = if full { ErrorKind::NoSpace } else { ErrorKind::Io };
        Err(Error::new(kind, finished.reason()))
    }

    /// What `mkfs.xfs -p` copies (mkfs.xfs(8)): a root directory with this owner and nothing in it. A file in memory,
    /// because the tool asks for its size.
    fn xfs_prototype(&self) -> Result<Stdio> {
        let (user, group) = self.owner;
        let mut file = File::from(memfd_create("prototype", MemfdFlags::CLOEXEC).map_err(io::Error::from)?);
        write!(file, "/\n0 0\nd--755 {user} {group}\n$\n")?;
        Ok(file.into())
    }

    fn add_arguments(&self, command: &mut Command) {
        let sector_size = self.sector_size.to_string();
        match self.kind {
            FilesystemKind::Ext4 | FilesystemKind::Exfat | FilesystemKind::Vfat => {}
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
        let label = self.label.filter(|label| self.kind.takes_label(label));
        if let Some(label) = label.map(|label| cut(label, self.kind.label_limit())).filter(|l| !l.is_empty())
        {
            command.args(["-L", label]);
        }
    }
}

/// Whether `kind` can be made here: the tool that it takes is installed.
///
/// # Errors
/// `Missing`, naming the package.
pub fn is_available(kind: FilesystemKind) -> Result<()> {
    if kind.package().is_none() {
        return Ok(());
    }
    tool(kind).map(|_| ())
}

fn tool(kind: FilesystemKind) -> Result<std::path::PathBuf> {
    let package = kind.package().ok_or_else(|| Error::new(ErrorKind::Usage, "it takes no tool"))?;
    program::require(&format!("mkfs.{}", kind.name()), package)
}

/// The longest beginning of `label` within `limit` bytes.
fn cut(label: &str, limit: usize) -> &str {
    let end = (0..=limit.min(label.len())).rev().find(|&end| label.is_char_boundary(end));
    label.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// Bytes of a block of ext4, also in small volumes, which mke2fs would give 1 KiB: the kernel refuses blocks smaller than the
/// device's sectors.
const EXT4_BLOCK_LEN: u32 = 4096;
/// How often more, and after which pause, a tool is run that stumbled over a loop device of somebody else.
const MORE_TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// What the FAT specification keeps out of labels.
const FORBIDDEN_IN_FAT: &str = "*?.,;:/\\|+=<>[]\"";

#[cfg(test)]
mod tests {
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
            reads_zeros: true,
        };
        let session = tempfile::tempdir().unwrap();
        new.make(file.path(), session.path(), &AtomicBool::new(false)).unwrap();
        assert_eq!(file.as_file().metadata().unwrap().len(), bytes, "{kind} keeps the volume's size");
        Some(Superblock::probe(file.path()).unwrap())
    }

    #[test]
    fn inode_tables_are_zeroed_where_nobody_else_does_it() {
        let tables = |is_kernels, reads_zeros| {
            let kind = FilesystemKind::Ext4;
            NewFilesystem { kind, sector_size: 512, owner: (1, 2), label: None, reads_zeros }
                .tables(is_kernels)
        };
        assert_eq!(tables(false, false), Tables::Zeroed);
        assert_eq!(tables(true, false), Tables::Left);
        assert_eq!([tables(false, true), tables(true, true)], [Tables::ReadZeros; 2]);
    }

    #[test]
    fn every_installed_tool_makes_what_it_is_named_for() {
        let expected = [
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
        if is_available(FilesystemKind::Ntfs).is_err() {
            println!("skipped: mkfs.ntfs is not installed");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        File::options().write(true).open(file.path()).unwrap().set_len(4096).unwrap();
        let new = NewFilesystem {
            kind: FilesystemKind::Ntfs,
            sector_size: 512,
            owner: (0, 0),
            label: None,
            reads_zeros: false,
        };
        let error = new.make(file.path(), Path::new("/"), &AtomicBool::new(false)).unwrap_err();
        assert_eq!((error.kind(), error.action()), (ErrorKind::Io, Some("cannot make the ntfs file system")));
    }

    #[test]
    fn every_installed_tool_accepts_the_least_size() {
        for kind in FilesystemKind::ALL.into_iter().filter(|kind| kind.package().is_some()) {
            let Some(superblock) = made(kind, kind.least_size()) else { continue };
            assert_ne!(superblock.contents, Contents::Unknown, "{kind}");
        }
    }

    #[test]
    fn fat_ends_where_its_sectors_cannot_be_counted() {
        let kind = FilesystemKind::Vfat;
        assert!(kind.reaches(2 << 40 >> 9 << 9, 4096) && !kind.reaches(2 << 40, 512));
        assert!(FilesystemKind::Exfat.reaches(1 << 50, 512) && FilesystemKind::Ext4.reaches(64 << 40, 512));
        assert!(!FilesystemKind::Ext4.reaches(1 << 50, 512));
        for kind in [FilesystemKind::Vfat, FilesystemKind::Exfat, FilesystemKind::Ext4] {
            assert!([512, 4096].iter().all(|&sector| kind.reaches(kind.least_size(), sector)), "{kind}");
        }
    }

    #[test]
    fn fat_labels_are_plain() {
        assert!(FilesystemKind::Vfat.takes_label("PHOTOS 1"));
        assert!(!FilesystemKind::Vfat.takes_label("a*b"));
        assert!(!FilesystemKind::Vfat.takes_label("Gewölbe"));
        assert!(FilesystemKind::Ext4.takes_label("Gewölbe"));
    }

    #[test]
    fn labels_are_cut_between_characters() {
        assert_eq!(cut("Räder", 2), "R");
        assert_eq!(cut("Räder", 3), "Rä");
        assert_eq!(cut("Rad", 16), "Rad");
    }
}
