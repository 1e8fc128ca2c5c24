//! Giving back to the medium what a thin container has for nothing.

use std::{ops::Range, sync::Arc};

use super::filesystem::{Contents, Superblock};
use crate::{
    error::{Error, ErrorKind, Result},
    filesystem::{ExtFileSystem, FatFileSystem, Fault, FileSystem},
    volume::{BlockDevice, ByteDevice, Progress, signature::HEAD_LEN},
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
    let mut head = vec![0; usize::try_from(bytes.size()).map_or(HEAD_LEN, |size| size.min(HEAD_LEN))];
    bytes.read_at(&mut head, 0).map_err(std::io::Error::other)?;
    match Superblock::parse(&head).contents {
        Contents::Ext { .. } => {
            let (files, _, unwritten) = ExtFileSystem::open_to_write(&bytes)
                .map_err(|why| Error::new(ErrorKind::Unsupported, why.to_string()))?;
            if let Some(why) = unwritten {
                return Err(unfit("ext", &why.to_string()));
            }
            give_back(&files, &bytes, progress)
        }
        Contents::Fat | Contents::Exfat => {
            // What others may have left wrong is not taken at its word.
            let repair = FatFileSystem::examine(&bytes).map_err(failed)?;
            if !repair.is_empty() {
                return Err(unfit("FAT", &format!("it takes a repair: {repair}")));
            }
            let (files, _) = FatFileSystem::open(&bytes, false).map_err(failed)?;
            give_back(&files, &bytes, progress)
        }
        Contents::Xfs | Contents::Btrfs | Contents::Ntfs | Contents::Unknown => {
            give_zeros_back(&bytes, progress)
        }
    }
}

fn give_back(files: &dyn FileSystem, bytes: &ByteDevice, progress: Progress<'_>) -> Result<()> {
    let size = bytes.size();
    let mut is_stopped = false;
    let given = files.free_space(&mut |free| {
        is_stopped = is_stopped || progress(free.start, size).is_break();
        if is_stopped { Err(Fault::Io) } else { Ok(bytes.zero_range(free.start..free.end.min(size))?) }
    });
    let closed = files.close();
    if is_stopped {
        closed.map_err(failed)?;
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
        for zeros in runs_of_zeros(part) {
            let at = |index: usize| offset + index as u64;
            bytes.zero_range(at(zeros.start)..at(zeros.end)).map_err(std::io::Error::other)?;
        }
        offset += len as u64;
    }
    bytes.flush().map_err(std::io::Error::other)?;
    Ok(())
}

/// The runs of whole blocks that hold nothing but zeros.
fn runs_of_zeros(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (number, block) in bytes.chunks_exact(BLOCK_LEN).enumerate() {
        let start = number * BLOCK_LEN;
        if block.iter().any(|&byte| byte != 0) {
            continue;
        }
        match runs.last_mut() {
            Some(last) if last.end == start => last.end += BLOCK_LEN,
            _ => runs.push(start..start + BLOCK_LEN),
        }
    }
    runs
}

fn unfit(name: &str, why: &str) -> Error {
    let reason = format!("what the {name} file system has free is not known for sure: {why}");
    Error::new(ErrorKind::Unsupported, reason)
        .with_hint("mount it to write once, unmount it, and repeat this")
}

fn failed(fault: Fault) -> Error {
    match fault {
        Fault::Damaged => Error::new(ErrorKind::Io, "the file system is damaged")
            .with_hint("mount the volume with --block, and run fsck on DIR/volume"),
        other => Error::new(ErrorKind::Io, other.to_string()),
    }
}

const CHUNK_LEN: usize = 1 << 20;
/// What a hole is made of.
const BLOCK_LEN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_zeros_are_whole_blocks() {
        let mut bytes = vec![0; 5 * BLOCK_LEN + 100];
        bytes[2 * BLOCK_LEN] = 1;
        bytes[4 * BLOCK_LEN - 1] = 1;
        assert_eq!(runs_of_zeros(&bytes), [0..2 * BLOCK_LEN, 4 * BLOCK_LEN..5 * BLOCK_LEN]);
        assert!(runs_of_zeros(&[0; 100]).is_empty());
    }
}
