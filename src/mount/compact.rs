//! Giving back to the medium what a thin container has for nothing.

use std::sync::Arc;

use super::filesystem::Contents;
use crate::{
    error::{Error, ErrorKind, Result},
    filesystem::{ExtFileSystem, FatFileSystem, Fault, FileSystem, Unreadable},
    volume::{BlockDevice, ByteDevice, Progress, image::runs},
};

/// Makes holes of what the file system in the volume on `device` has free; where it is one that is not known so well, or none, of
/// the blocks that hold zeros. Nobody else may use the volume. `progress` is asked now and then whether to go on.
///
/// # Errors
/// `Unsupported` where the volume cannot have holes, or only another program could tell what is free; `Io` and `Damaged` for what is
/// there; `Interrupted`. Whatever was given back by then held nothing.
pub fn compact(device: &Arc<dyn BlockDevice>, progress: Progress<'_>) -> Result<()> {
    if !device.geometry().can_discard {
        let reason = "only a thin container gives space back: holes in another one would show what is free";
        return Err(Error::new(ErrorKind::Unsupported, reason)
            .with_hint("copy the files into a new container, made with --provision thin"));
    }
    let bytes = Arc::new(ByteDevice::new(Arc::clone(device)));
    let contents = Contents::of(&bytes)?;
    let failed = |fault| contents.failure(fault);
    match contents {
        Contents::Ext { .. } => {
            let (files, _, unwritten) = ExtFileSystem::open_to_write(&bytes).map_err(|why| match why {
                Unreadable::Fault(fault) => failed(fault),
                Unreadable::Feature(_) => Error::new(ErrorKind::Unsupported, why.to_string()),
            })?;
            if let Some(why) = unwritten {
                return Err(unfit(contents, &why.to_string()));
            }
            give_back(&files, &bytes, progress, failed)
        }
        Contents::Fat | Contents::Exfat => {
            // What others may have left wrong is not taken at its word.
            let repair = FatFileSystem::examine(&bytes).map_err(failed)?;
            if !repair.is_empty() {
                return Err(unfit(contents, &format!("it takes a repair: {repair}")));
            }
            let (files, _) = FatFileSystem::open(&bytes, false).map_err(failed)?;
            give_back(&files, &bytes, progress, failed)
        }
        Contents::Xfs
        | Contents::Btrfs
        | Contents::Ntfs
        | Contents::Iso
        | Contents::Udf
        | Contents::Unknown => give_zeros_back(&bytes, progress),
    }
}

fn give_back(
    files: &dyn FileSystem,
    bytes: &ByteDevice,
    progress: Progress<'_>,
    failed: impl Fn(Fault) -> Error,
) -> Result<()> {
    let size = bytes.size();
    let mut is_stopped = false;
    let given = files.free_space(&mut |free| {
        is_stopped = is_stopped || progress(free.start, size).is_break();
        if is_stopped { Err(Fault::Io) } else { Ok(bytes.zero_range(free.start..free.end.min(size))?) }
    });
    let closed = files.close();
    if is_stopped {
        closed.map_err(&failed)?;
        return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
    }
    given.and(closed).map_err(failed)
}

/// Makes holes of blocks of zeros, which then read as what they are.
fn give_zeros_back(bytes: &ByteDevice, progress: Progress<'_>) -> Result<()> {
    let size = bytes.size();
    let mut chunk = vec![0; CHUNK_LEN];
    let mut offset = 0;
    while offset < size {
        if progress(offset, size).is_break() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        let len = usize::try_from(size - offset).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
        let part = &mut chunk[..len];
        bytes.read_at(part, offset).map_err(std::io::Error::other)?;
        for (zeros, _) in runs(part).into_iter().filter(|(_, is_zero)| *is_zero) {
            let at = |index: usize| offset + index as u64;
            bytes.zero_range(at(zeros.start)..at(zeros.end)).map_err(std::io::Error::other)?;
        }
        offset += len as u64;
    }
    bytes.flush().map_err(std::io::Error::other)?;
    Ok(())
}

fn unfit(contents: Contents, why: &str) -> Error {
    let reason = format!("what the {contents} file system has free is not known for sure: {why}");
    Error::new(ErrorKind::Unsupported, reason)
        .with_hint("mount it to write once, unmount it, and repeat this")
}

const CHUNK_LEN: usize = 1 << 20;
