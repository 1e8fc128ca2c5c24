//! Examining a container without changing it, also while it is in use.

use std::{io, ops::Range, os::unix::fs::MetadataExt, thread::sleep, time::Duration};

use rustix::fs::{SeekFrom, seek};

use crate::{
    block::BlockDevice,
    error::{Error, ErrorKind, Result},
    format::{Finding, HeaderInfo, Object, Severity, Unlocked},
    mapping::Layout,
    storage::Storage,
    volume::{
        Container, Progress, device,
        free_space::{Condition, Extent, condition, extent},
    },
};

/// Examines the header, and the file itself, as far as that takes no secret. Takes no lock.
///
/// # Errors
/// `NotAContainer`, and what reading gave. Everything else is a finding.
pub fn check(container: &Container) -> Result<Vec<Finding>> {
    let format = container.format()?;
    let storage = container.storage();
    let mut findings = settled(|| format.check(&*storage), PAUSE)?;
    if let Ok(header) = container.header() {
        findings.extend(check_holes(container, &header.describe())?);
    }
    findings.extend(check_mode(container)?);
    Ok(findings)
}

/// Whether the file system inside fits the volume: where no header says how long the data are, only this shows that their
/// end is missing. Nothing where no file system is known, or the volume is being re-encrypted.
///
/// # Errors
/// What reading gave.
pub fn check_file_system(container: &Container, unlocked: &Unlocked) -> Result<Option<Finding>> {
    let Layout::Fixed(_) = unlocked.layout else { return Ok(None) };
    let volume = device(container.storage(), unlocked.layout.clone());
    let len = volume.geometry().bytes();
    Ok(extent(&*volume)?.map(|found| compare(found, len)))
}

/// Whether the file system inside was left clean. Only of a container that nobody has mounted. Nothing where that is not
/// known, or the volume is being re-encrypted.
///
/// # Errors
/// What reading gave, and what is not understood.
pub fn check_condition(container: &Container, unlocked: &Unlocked) -> Result<Option<Finding>> {
    let Layout::Fixed(_) = unlocked.layout else { return Ok(None) };
    let found = condition(&*device(container.storage(), unlocked.layout.clone()))?;
    Ok(found.and_then(|(_, condition)| not_clean(condition)))
}

fn not_clean(condition: Condition) -> Option<Finding> {
    let message = match condition {
        Condition::Clean => return None,
        Condition::Journal => {
            "it was not unmounted cleanly: what was written last stands in its journal alone, until it is mounted for writing once"
        }
        Condition::Unclean => {
            "it was not unmounted cleanly: what was written last may be damaged or missing, so check the file system itself"
        }
    };
    Some(Finding::warning("file system", message))
}

fn compare(found: Extent, volume_len: u64) -> Finding {
    match found.missing_end(volume_len) {
        Some(missing) => {
            let message =
                format!("{missing}; take it from a backup (mount --block --read-only gives what is left)");
            Finding::error("file system", message)
        }
        None => Finding::info(
            "file system",
            format!("{}, which ends within the volume", found.file_system.name()),
        ),
    }
}

/// What is missing of a volume that the file system in it goes beyond, in so many words. `None` where nothing is, or no file
/// system is known.
///
/// A header that knows the container's size gives the volume all of its length, also where less is there: `container_len`
/// bytes.
///
/// # Errors
/// What reading gave.
pub fn missing_end(
    volume: &dyn BlockDevice,
    info: &HeaderInfo,
    container_len: u64,
) -> Result<Option<String>> {
    let mut len = volume.geometry().bytes();
    if container_len < info.container_size {
        len = len.min(container_len.saturating_sub(info.data_offset));
    }
    Ok(extent(volume)?.and_then(|found| found.missing_end(len)))
}

/// Reads the data area from the medium, all of it or a sample: whether each sector can be read, not what it says.
///
/// # Errors
/// `Interrupted` where `progress` breaks off. What cannot be read is a finding.
pub fn check_data(
    container: &Container,
    info: &HeaderInfo,
    whole: bool,
    progress: Progress<'_>,
) -> Result<Vec<Finding>> {
    if container.pieces().is_some_and(|pieces| !pieces.is_unlocked()) {
        let message = "not read: it takes a password to tell which pieces were never made";
        return Ok(vec![Finding::info(Object::Data, message)]);
    }
    container.forget_cached();
    let storage = container.storage();
    // What is cut off is another finding.
    let end = info.data_offset.saturating_add(info.data_size).min(storage.size()?);
    let data = info.data_offset.min(end)..end;
    let unreadable = read_through(&*storage, &data, whole, progress)?;

    let bytes: u64 = unreadable.iter().map(|range| range.end - range.start).sum();
    let extent = if whole { "all" } else { "a sample" };
    if bytes == 0 {
        return Ok(vec![Finding::info(Object::Data, format!("{extent} of it was read"))]);
    }
    let mut findings: Vec<_> = unreadable
        .iter()
        .take(TOLD)
        .map(|range| {
            let message =
                format!("cannot be read: {} bytes at offset {}", range.end - range.start, range.start);
            Finding::error(Object::Data, message)
        })
        .collect();
    let summary =
        format!("{bytes} bytes in {} places cannot be read; {extent} of it was tried", unreadable.len());
    findings.push(Finding::error(Object::Data, summary));
    Ok(findings)
}

/// A reading between two writes of someone else's would show what never was: what seems wrong is looked at again, until
/// two readings in a row agree.
fn settled(mut read: impl FnMut() -> Result<Vec<Finding>>, pause: Duration) -> Result<Vec<Finding>> {
    let mut findings = read()?;
    for _ in 0..READINGS {
        if findings.iter().all(|finding| finding.severity == Severity::Info) {
            return Ok(findings);
        }
        sleep(pause);
        let again = read()?;
        if again == findings {
            return Ok(findings);
        }
        findings = again;
    }
    findings
        .push(Finding::warning("header", "it changes from one reading to the next: somebody is writing it"));
    Ok(findings)
}

/// Whether holes are where, and only where, the provisioning puts them.
fn check_holes(container: &Container, info: &HeaderInfo) -> Result<Option<Finding>> {
    if !container.file().metadata()?.is_file() || container.pieces().is_some() {
        return Ok(None);
    }
    let end = info.data_offset.saturating_add(info.data_size).min(container.storage().size()?);
    let holes = bytes_in_holes(container, info.data_offset..end)?;
    Ok(match info.provision {
        Some("thick") if holes > 0 => {
            let message = format!(
                "{holes} bytes of it are holes, and random bytes have none: they were lost, or copied as if empty"
            );
            Some(Finding::warning(Object::Data, message))
        }
        Some("thin") if holes == 0 => {
            let message =
                "takes all its space, though it is thin: it is full, or was copied without its holes";
            Some(Finding::info(Object::Data, message))
        }
        // What a quick one set aside and nobody wrote may show as a hole.
        _ => None,
    })
}

fn bytes_in_holes(container: &Container, range: Range<u64>) -> io::Result<u64> {
    let file = container.file();
    let mut holes = 0;
    let mut offset = range.start;
    while offset < range.end {
        // The end of the file counts as a hole.
        let hole = seek(file, SeekFrom::Hole(offset))?.clamp(offset, range.end);
        offset = match seek(file, SeekFrom::Data(hole)) {
            Ok(data) => data.clamp(hole, range.end),
            Err(rustix::io::Errno::NXIO) => range.end,
            Err(error) => return Err(error.into()),
        };
        holes += offset - hole;
    }
    Ok(holes)
}

/// Who besides the owner can read or change the ciphertext.
fn check_mode(container: &Container) -> Result<Option<Finding>> {
    let metadata = container.file().metadata()?;
    Ok(if metadata.mode() & 0o002 != 0 {
        Some(Finding::warning(
            "file",
            "every user on this machine can write to it, and so destroy what is in it",
        ))
    } else if metadata.mode() & 0o004 != 0 {
        Some(Finding::info(
            "file",
            "every user on this machine can read it, and so try to guess its passwords",
        ))
    } else {
        None
    })
}

/// Reads `data`, or pieces spread over it; gives what cannot be read, in blocks of 4 KiB.
fn read_through(
    storage: &dyn Storage,
    data: &Range<u64>,
    whole: bool,
    progress: Progress<'_>,
) -> Result<Vec<Range<u64>>> {
    let len = data.end - data.start;
    let stride = if whole { CHUNK_LEN } else { (len / SAMPLES).next_multiple_of(BLOCK_LEN).max(CHUNK_LEN) };
    let chunk_len = if whole { CHUNK_LEN } else { SAMPLE_LEN };
    let mut buffer = vec![0; usize::try_from(chunk_len).unwrap_or_default()];
    let mut unreadable = Vec::new();
    let mut start = data.start;
    while start < data.end {
        let chunk = start..data.end.min(start + chunk_len);
        read_chunk(storage, chunk, &mut buffer, &mut unreadable);
        start = start.saturating_add(stride);
        if progress(start.min(data.end) - data.start, len).is_break() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
    }
    if !whole && len > 0 {
        // The end is where a copy that was broken off shows.
        let last = data.end.saturating_sub(BLOCK_LEN).max(data.start)..data.end;
        read_chunk(storage, last, &mut buffer, &mut unreadable);
    }
    Ok(unreadable)
}

/// Reads a chunk, and where that fails, block by block.
fn read_chunk(storage: &dyn Storage, chunk: Range<u64>, buffer: &mut [u8], unreadable: &mut Vec<Range<u64>>) {
    let mut read = |range: &Range<u64>| {
        let len = usize::try_from(range.end - range.start).unwrap_or_default().min(buffer.len());
        storage.read_exact_at(&mut buffer[..len], range.start)
    };
    if read(&chunk).is_ok() {
        return;
    }
    let mut start = chunk.start;
    while start < chunk.end {
        let block = start..chunk.end.min(start + BLOCK_LEN);
        start = block.end;
        if read(&block).is_err() {
            match unreadable.last_mut() {
                Some(before) if before.end == block.start => before.end = block.end,
                _ => unreadable.push(block),
            }
        }
    }
}

/// How often a header that seems wrong is read again, and after how long: an update writes both copies within that.
const READINGS: usize = 5;
const PAUSE: Duration = Duration::from_millis(100);

const CHUNK_LEN: u64 = 1 << 20;
const BLOCK_LEN: u64 = 4_096;
/// A sample is so many pieces of so many bytes.
const SAMPLES: u64 = 256;
const SAMPLE_LEN: u64 = 64 << 10;
/// So many unreadable places are told one by one.
const TOLD: usize = 20;

#[cfg(test)]
mod tests {
    use std::{ops::ControlFlow, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::{
        crypto::rng::OsRng,
        format::{
            native::{Geometry, MIN_CONTAINER_LEN, Provision},
            signature::FileSystem,
        },
        storage::MemoryStorage,
        volume::{Draft, prepare},
    };

    #[test]
    fn a_passing_finding_does_not_count() {
        let bad = || vec![Finding::warning("header copy A", "stale")];
        let mut readings = vec![Vec::new(), bad()];
        assert_eq!(settled(|| Ok(readings.pop().unwrap()), Duration::ZERO).unwrap(), []);
        let mut readings = vec![bad(), bad(), Vec::new(), bad()];
        readings.rotate_left(1);
        assert_eq!(settled(|| Ok(readings.pop().unwrap()), Duration::ZERO).unwrap(), bad());
    }

    #[test]
    fn a_header_that_never_settles_is_told() {
        let mut count = 0;
        let findings = settled(
            || {
                count += 1;
                Ok(vec![Finding::warning("header copy A", format!("sequence {count}"))])
            },
            Duration::ZERO,
        );
        assert_eq!(findings.unwrap().last().unwrap().object, "header");
    }

    #[test]
    fn unreadable_blocks_are_told_exactly() {
        // Reading past the end fails as a bad sector does.
        let storage = MemoryStorage::new(vec![0; (1 << 20) + 8192]);
        for whole in [true, false] {
            let found = read_through(&storage, &(0..3 << 20), whole, &mut |_, _| ControlFlow::Continue(()));
            let found = found.unwrap();
            assert_eq!(found[0].start, (1 << 20) + 8192, "{whole}");
            assert_eq!(found.last().unwrap().end, 3 << 20);
        }
    }

    #[test]
    fn a_file_system_larger_than_its_volume_has_lost_its_end() {
        let found = |len| compare(Extent { file_system: FileSystem::Ext, len }, 1 << 20);
        assert_eq!(found(1 << 20).severity, Severity::Info);
        let lost = found((1 << 20) + 1);
        assert_eq!(lost.severity, Severity::Error);
        let missing = "the end of the container is missing, 1 bytes: the ext2/3/4 in it has 1048577, the volume 1048576; ";
        assert!(lost.message.starts_with(missing), "{}", lost.message);
    }

    #[test]
    fn a_file_system_that_was_not_left_clean_is_a_warning() {
        assert_eq!(not_clean(Condition::Clean), None);
        for (condition, told) in
            [(Condition::Journal, "journal alone"), (Condition::Unclean, "damaged or missing")]
        {
            let found = not_clean(condition).unwrap();
            assert_eq!((found.severity, &found.object), (Severity::Warning, &"file system".into()));
            assert!(
                found.message.starts_with("it was not unmounted cleanly") && found.message.contains(told)
            );
        }
    }

    fn draft(provision: Provision) -> (tempfile::TempDir, Draft, Geometry) {
        let directory = tempfile::tempdir().unwrap();
        let draft = Draft::new(&directory.path().join("new.vault"), false, &OsRng).unwrap();
        let geometry = Geometry::for_container(MIN_CONTAINER_LEN + (1 << 20)).unwrap();
        prepare(draft.container(), &(&geometry).into(), provision, &OsRng, &mut |_, _| {
            ControlFlow::Continue(())
        })
        .unwrap();
        (directory, draft, geometry)
    }

    #[test]
    fn a_hole_is_counted_to_the_byte() {
        let (_directory, draft, geometry) = draft(Provision::Thick);
        let data = geometry.data_offset..geometry.data_offset + geometry.data_len;
        assert_eq!(bytes_in_holes(draft.container(), data.clone()).unwrap(), 0);
        let hole = data.start + 8192..data.start + 16384;
        draft.container().storage().punch_hole(hole).unwrap();
        assert_eq!(bytes_in_holes(draft.container(), data).unwrap(), 8192);
    }

    #[test]
    fn a_file_that_everybody_may_write_is_a_warning() {
        let (_directory, draft, _) = draft(Provision::Thin);
        for (mode, severity) in
            [(0o600, None), (0o644, Some(Severity::Info)), (0o666, Some(Severity::Warning))]
        {
            draft.container().file().set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
            let found = check_mode(draft.container()).unwrap().map(|finding| finding.severity);
            assert_eq!(found, severity, "{mode:o}");
        }
    }
}
