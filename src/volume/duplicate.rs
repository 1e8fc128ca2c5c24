//! A second file with the bytes of an open one: ciphertext, header and holes, whatever they mean.

use std::{
    fs::File,
    io,
    ops::{ControlFlow, Range},
    os::unix::fs::{FileExt, fchown},
    path::Path,
};

use rustix::{
    fs::{Advice, AtFlags, FileType, SeekFrom, StatxFlags, fadvise, ioctl_ficlone, seek, statvfs, statx},
    io::Errno,
};

use crate::{
    crypto::rng::OsRng,
    error::{Error, ErrorKind, Result},
    volume::{Draft, Progress, room::has_room},
};

/// A second file in the making, private to this user: it is there whole, or not at all.
#[derive(Debug)]
pub struct Duplicate(Draft);

impl Duplicate {
    /// Begins one that is to stand at `target`.
    ///
    /// # Errors
    /// `Exists` where something is there, `NotFound` without the folder, `Permission`.
    pub fn begin(target: &Path) -> Result<Self> {
        Draft::new_file(target, &OsRng).map(Self)
    }

    /// Copies the file `from`, which nobody writes to meanwhile, and compares what came to the medium. Holes stay holes; file
    /// systems that share blocks between files (btrfs, XFS) copy nothing. The copy belongs to the file's owner if root makes it.
    ///
    /// # Errors
    /// `NoSpace`, `Io` where the copy reads back differently, `Interrupted` where `progress` breaks off.
    pub fn fill(&self, from: &File, progress: Progress<'_>) -> Result<()> {
        let to = self.0.container().file();
        // It belongs to whom the first one belongs, also where root copies it; where that cannot be, to the caller.
        let known = Known::of(from)?;
        drop(fchown(to, Some(known.owner), Some(known.group)));
        if ioctl_ficlone(to, from).is_ok() {
            return Ok(to.sync_all()?);
        }
        let len = known.len;
        to.set_len(len)?;
        let extents = extents(from, len)?;
        let total = 2 * extents.iter().map(|extent| extent.end - extent.start).sum::<u64>();
        let mut done = 0;
        for_each_chunk(from, &extents, &mut |bytes, offset| {
            to.write_all_at(bytes, offset)?;
            step(&mut done, bytes.len(), total, progress)
        })?;
        to.sync_all()?;
        fadvise(to, 0, None, Advice::DontNeed).map_err(io::Error::from)?;
        let mut written = vec![0; CHUNK_LEN];
        for_each_chunk(from, &extents, &mut |bytes, offset| {
            let read = &mut written[..bytes.len()];
            to.read_exact_at(read, offset)?;
            if read != bytes {
                return Err(Error::new(ErrorKind::Io, "the copy reads back differently")
                    .with_hint("the medium may be failing"));
            }
            step(&mut done, bytes.len(), total, progress)
        })
    }

    /// Makes it durable and visible.
    ///
    /// # Errors
    /// `Exists` where a file of that name has come up meanwhile.
    pub fn commit(self) -> Result<()> {
        self.0.commit(&OsRng)
    }
}

/// Copies the file `from` to the new file `target`.
///
/// # Errors
/// As [`Duplicate`]'s methods.
pub fn duplicate_to(from: &File, target: &Path, progress: Progress<'_>) -> Result<()> {
    let copy = Duplicate::begin(target)?;
    copy.fill(from, progress)?;
    copy.commit()
}

/// A copy of the file `from` that has no name, in the folder `directory`: a fallback for what cannot be written any more.
///
/// # Errors
/// As [`Duplicate`]'s methods.
pub fn nameless_copy(from: &File, directory: &Path) -> Result<File> {
    // It never bears it.
    let copy = Duplicate::begin(&directory.join(NEVER))?;
    copy.fill(from, &mut |_, _| ControlFlow::Continue(()))?;
    Ok(copy.0.container().file().try_clone()?)
}

/// Whether a copy of `from` fits into the folder `directory` now: as much room as the file takes, and a little more.
pub fn has_room_for(from: &File, directory: &Path) -> io::Result<bool> {
    let (takes, there) = (room_taken(from)?, statvfs(directory)?);
    Ok(has_room(&there, takes))
}

/// How many bytes of its medium a file takes; the length of a device.
pub fn room_taken(file: &File) -> io::Result<u64> {
    let known = Known::of(file)?;
    Ok(known.taken.unwrap_or(known.len))
}

/// What is known of an open file or device.
#[derive(Debug)]
struct Known {
    len: u64,
    /// By a file.
    taken: Option<u64>,
    owner: u32,
    group: u32,
}

impl Known {
    /// The server of a file that others deleted there may know it no longer, and the kernel still does.
    fn of(file: &File) -> io::Result<Self> {
        let ask = |how| statx(file, "", AtFlags::EMPTY_PATH | how, StatxFlags::BASIC_STATS);
        let (stat, is_gone) = match ask(AtFlags::empty()) {
            Err(Errno::NOENT | Errno::STALE) => (ask(AtFlags::STATX_DONT_SYNC)?, true),
            stat => (stat?, false),
        };
        let is_file = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
        // A device's metadata says 0.
        let len = if is_gone { stat.stx_size } else { length(file)? };
        let taken = is_file.then(|| stat.stx_blocks.saturating_mul(512));
        Ok(Self { len, taken, owner: stat.stx_uid, group: stat.stx_gid })
    }
}

fn step(done: &mut u64, len: usize, total: u64, progress: Progress<'_>) -> Result<()> {
    *done += u64::try_from(len).map_err(io::Error::other)?;
    if progress(*done, total).is_break() {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
    }
    Ok(())
}

fn for_each_chunk(
    from: &File,
    extents: &[Range<u64>],
    work: &mut dyn FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK_LEN];
    for extent in extents {
        let mut offset = extent.start;
        while offset < extent.end {
            let len = usize::try_from(extent.end - offset).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
            let chunk = &mut buffer[..len];
            from.read_exact_at(chunk, offset)?;
            work(chunk, offset)?;
            offset += u64::try_from(len).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// How long a file or a device is: a device's metadata says 0. No one uses its own position.
fn length(file: &File) -> io::Result<u64> {
    Ok(seek(file, SeekFrom::End(0))?)
}

/// Where a file holds data: all of it where its file system knows no holes, or the file no longer.
fn extents(file: &File, len: u64) -> io::Result<Vec<Range<u64>>> {
    let mut extents = Vec::new();
    let mut offset = 0;
    while offset < len {
        let start = match seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOENT | Errno::STALE) if extents.is_empty() => {
                extents.push(0..len);
                break;
            }
            Err(error) => return Err(error.into()),
        };
        let end = seek(file, SeekFrom::Hole(start))?.min(len);
        if start >= end {
            break;
        }
        extents.push(start..end);
        offset = end;
    }
    Ok(extents)
}

const NEVER: &str = ".strongroom-moved";
const CHUNK_LEN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    fn go_on(_: u64, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Data at the start, in the middle and at the end, of sizes that fill no block.
    fn sparse_file(path: &Path) -> File {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.write_all_at(&[1; 5000], 0).unwrap();
        file.write_all_at(&vec![2; 3 << 20], 8 << 20).unwrap();
        file.set_len((64 << 20) + 17).unwrap();
        file.write_all_at(b"end", (64 << 20) + 14).unwrap();
        file
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let file = sparse_file(&old);
        fs::remove_file(&old).unwrap();
        duplicate_to(&file, &new, &mut go_on).unwrap();
        let mut bytes = vec![0; (64 << 20) + 17];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert!(fs::read(&new).unwrap() == bytes);
        let metadata = fs::metadata(&new).unwrap();
        assert!(metadata.blocks() <= file.metadata().unwrap().blocks() + 64, "{metadata:?}");
        assert_eq!(metadata.mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_there_is_not_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let file = sparse_file(&folder.path().join("old"));
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        for there in [folder.path().join("old"), link, folder.path().to_path_buf()] {
            let error = duplicate_to(&file, &there, &mut go_on).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exists, "{}", there.display());
        }
    }

    #[test]
    fn a_broken_off_copy_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = sparse_file(&folder.path().join("old"));
        let new = folder.path().join("new");
        let mut steps = 0;
        let mut stop = |_: u64, _: u64| {
            steps += 1;
            if steps == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        match duplicate_to(&file, &new, &mut stop) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted),
            // Where blocks are shared there is nothing to break off.
            Ok(()) => fs::remove_file(&new).unwrap(),
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn room_is_what_the_file_takes_and_not_how_long_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join("thin")).unwrap();
        file.set_len(1 << 43).unwrap();
        assert!(has_room_for(&file, folder.path()).unwrap());
    }
}
