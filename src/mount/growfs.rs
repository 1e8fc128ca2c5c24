//! Making the file system in a volume as large as the volume, with the system's own tools on the block file.

use std::{path::Path, sync::atomic::AtomicBool};

use super::{
    driver::{e2fsck_finding, e2fsck_program},
    filesystem::{Contents, Superblock},
    program,
};
use crate::{
    error::{Error, ErrorKind, Result},
    volume::ByteDevice,
};

/// What became of the file system in a volume that has grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrownFilesystem {
    /// It fills the volume.
    Grown(&'static str),
    /// It has its old size. Its name, and what to do.
    Left(&'static str, &'static str),
    /// There is none that is known here.
    None,
}

impl GrownFilesystem {
    /// The name of one that has grown.
    pub const fn grown(self) -> Option<&'static str> {
        match self {
            Self::Grown(name) => Some(name),
            Self::Left(..) | Self::None => None,
        }
    }
}

/// The name of the file system in a volume, where nothing here makes it larger.
///
/// # Errors
/// What reading gave.
pub fn stays_as_large(volume: &ByteDevice) -> Result<Option<&'static str>> {
    let contents = Contents::of(volume)?;
    Ok(contents.kernel_name().filter(|_| matches!(contents, Contents::Fat | Contents::Exfat)))
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
        Contents::Fat | Contents::Exfat => "make a new container and copy the files",
        Contents::Iso | Contents::Udf | Contents::Unknown => return None,
    })
}

/// Makes the file system in the block file as large as that.
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
    Ok(by_hand(contents).map_or(GrownFilesystem::None, |way| GrownFilesystem::Left(name, way)))
}

/// resize2fs(8) wants a file system that was examined just before.
fn grow_ext(block: &Path, interrupted: &AtomicBool) -> Result<()> {
    let during = |error: Error| error.during("cannot make the file system larger");
    let (e2fsck, resize2fs) = (e2fsck_program()?, program::require("resize2fs", "e2fsprogs")?);
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
