//! Making the file system in a volume as large as the volume: in this process, or with the system's own tools on the block file.

use std::{
    borrow::Cow,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    driver::{e2fsck_finding, e2fsck_program},
    filesystem::{Contents, Superblock},
    program,
};
use crate::{
    error::{Error, ErrorKind, Result},
    filesystem::{ExtFileSystem, FileSystem, Ungrown},
    volume::{BlockDevice, ByteDevice},
};

/// What became of the file system in a volume that has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrownFilesystem {
    /// It fills the volume.
    Grown(&'static str),
    /// It has its old size. Its name, and what to do.
    Left(&'static str, Cow<'static, str>),
    /// There is none that is known here.
    None,
}

impl GrownFilesystem {
    /// The name of one that has grown.
    pub const fn grown(&self) -> Option<&'static str> {
        match self {
            Self::Grown(name) => Some(*name),
            Self::Left(..) | Self::None => None,
        }
    }
}

/// Refuses what will not use a volume of `len` bytes, as what is inside does not become so large.
///
/// # Errors
/// `Unsupported` with the reason; what reading gave.
pub fn check_growth(volume: &Arc<dyn BlockDevice>, len: u64) -> Result<()> {
    let device = Arc::new(ByteDevice::new(Arc::clone(volume)));
    let contents = Contents::of(&device)?;
    let refused = |reason: String, way: &str| {
        let hint = format!("{way}; --container-only makes the container larger all the same");
        Err(Error::new(ErrorKind::Unsupported, reason).with_hint(hint))
    };
    match contents {
        Contents::Fat | Contents::Exfat => {
            let name = contents.kernel_name().unwrap_or_default();
            let reason = format!("it holds a file system that nothing here makes larger: {name}");
            refused(reason, "make a larger container and copy the files")
        }
        Contents::Ext { .. } if program::require(RESIZE2FS, E2FSPROGS).is_err() => {
            // What cannot be read the driver will tell.
            let Ok((files, _)) = ExtFileSystem::open(&device, false) else { return Ok(()) };
            match files.check_growth(len) {
                Err(Ungrown::Unfit(why)) => {
                    let reason = format!("the ext4 in it does not become so large: {why}");
                    refused(reason, "resize2fs may do it: install e2fsprogs")
                }
                _ => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The name of the file system in a volume, and how its user makes it larger.
///
/// # Errors
/// What reading gave.
pub fn way_to_grow(volume: &ByteDevice) -> Result<Option<(&'static str, &'static str)>> {
    let contents = Contents::of(volume)?;
    Ok(contents.kernel_name().zip(by_hand(contents)))
}

const fn by_hand(contents: Contents) -> Option<&'static str> {
    Some(match contents {
        Contents::Ext { .. } => "strongroom mount --block, then e2fsck -f and resize2fs on DIR/volume",
        Contents::Xfs => "mount it as root, then xfs_growfs MOUNTPOINT",
        Contents::Btrfs => "mount it as root, then btrfs filesystem resize max MOUNTPOINT",
        Contents::Ntfs => "strongroom mount --block, then ntfsresize on DIR/volume",
        Contents::Fat | Contents::Exfat => COPY,
        Contents::Iso | Contents::Udf | Contents::Unknown => return None,
    })
}

/// What became of a file system that was to grow in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InProcess {
    /// It fills the volume. Its name.
    Grown(&'static str),
    /// It is as it was: only the system's tools make it larger, if anything does. Why, where there is more to say.
    Left(Option<&'static str>),
}

/// Makes the file system in a volume that nobody uses as large as that, where strongroom does so by itself. Nothing is written to what
/// the file system has free of its old size (VC-GROW-05).
///
/// # Errors
/// `Interrupted`; `Io` for what is there. Each leaves the file system whole, and the same ends it.
pub fn grow_in_process(volume: &Arc<dyn BlockDevice>, interrupted: &AtomicBool) -> Result<InProcess> {
    let device = Arc::new(ByteDevice::new(Arc::clone(volume)));
    let contents = Contents::of(&device)?;
    let (Contents::Ext { .. }, Some(name)) = (contents, contents.kernel_name()) else {
        return Ok(InProcess::Left(None));
    };
    // What takes a repair first, or is made in a way that is not written here.
    let Ok((files, _, None)) = ExtFileSystem::open_to_write(&device) else {
        return Ok(InProcess::Left(None));
    };
    let grown = files.grow(&|| interrupted.load(Ordering::Relaxed));
    let closed = files.close();
    let failed = |fault| contents.failure(fault).during(CANNOT);
    match grown {
        Err(Ungrown::Interrupted) => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
        Err(Ungrown::Fault(fault)) => Err(failed(fault)),
        Err(Ungrown::Unfit(why)) => closed.map_err(failed).map(|()| InProcess::Left(Some(why))),
        Ok(()) => closed.map_err(failed).map(|()| InProcess::Grown(name)),
    }
}

/// Refuses a file system that only `resize2fs` makes larger, which moves what is in the way, where there is none.
///
/// # Errors
/// `Missing` with the package.
pub fn require_tool(why: &str) -> Result<()> {
    let missing = |_| {
        Error::new(ErrorKind::Missing, why)
            .during(CANNOT)
            .with_hint("resize2fs may do it: install e2fsprogs, and give the same command again")
    };
    program::require(RESIZE2FS, E2FSPROGS).map_err(missing).map(drop)
}

/// Makes the file system in the block file as large as that, with the system's own tools.
///
/// # Errors
/// `Missing` with the package; `Io` with the tool's own reason, where it could not be examined or made larger; `Interrupted` before it
/// was touched.
pub(super) fn grow(block: &Path, interrupted: &AtomicBool) -> Result<GrownFilesystem> {
    let contents = Superblock::probe(block)?.contents;
    let name = contents.kernel_name().unwrap_or_default();
    if matches!(contents, Contents::Ext { .. }) {
        return grow_ext(block, interrupted).map(|()| GrownFilesystem::Grown(name));
    }
    Ok(by_hand(contents).map_or(GrownFilesystem::None, |way| GrownFilesystem::Left(name, way.into())))
}

/// resize2fs(8) wants a file system that was examined just before.
fn grow_ext(block: &Path, interrupted: &AtomicBool) -> Result<()> {
    let during = |error: Error| error.during(CANNOT);
    let (e2fsck, resize2fs) = (e2fsck_program()?, program::require(RESIZE2FS, E2FSPROGS)?);
    let examined = program::run(program::command(e2fsck).args(["-f", "-p"]).arg(block), interrupted)?;
    // e2fsck(8): 0 clean, 1 and 2 corrected.
    if !matches!(examined.status, Some(0..=2)) {
        let found = e2fsck_finding(&examined.output, &block.to_string_lossy());
        let found = found.unwrap_or_else(|| examined.reason());
        let reason = format!("it needs a repair that e2fsck does not make unasked: {found}");
        return Err(during(
            Error::new(ErrorKind::Io, reason)
                .with_hint("mount --block, and e2fsck -f on DIR/volume; then give the same command again"),
        ));
    }
    // It must not be stopped half-way, and does not take long: nothing is moved but for some tables.
    let resized = program::run(program::command(resize2fs).arg(block), &AtomicBool::new(false))?;
    if resized.status == Some(0) {
        return Ok(());
    }
    Err(during(
        Error::new(ErrorKind::Io, format!("resize2fs: {}", resized.reason())).with_hint(
            "the container has its new size, and the files are there; the same command tries again",
        ),
    ))
}

pub(super) const CANNOT: &str = "cannot make the file system larger";
pub(super) const COPY: &str = "make a new container and copy the files";
const RESIZE2FS: &str = "resize2fs";
const E2FSPROGS: &str = "e2fsprogs";
