//! Preparing the medium under a new container.

use std::{io, ops::ControlFlow};

use rustix::fs::{FallocateFlags, fallocate};

use crate::{
    crypto::{SectorCipher, rng::Rng, secret::LockedBytes, xts::AesXts},
    error::{Error, ErrorKind, Result},
    format::{Extent, FORMATS, Provision},
    storage::{Storage, pieces::Pieces},
    units::{Sector, SectorSize},
    volume::Container,
};

/// Called with the bytes done and the bytes in all; stops the work by `Break`.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// The smallest sector of a container.
const SECTOR: usize = 512;
/// The bytes read or written at a time.
const CHUNK_LEN: usize = 1 << 20;
/// After so many bytes the medium is waited for, so that progress is what has really been written.
const SYNC_INTERVAL: u64 = 256 << 20;

/// Gives the container its size and its data area what the provisioning asks for.
///
/// # Errors
/// `NoSpace` at once where a file's space cannot be set aside, `Interrupted` where `progress` breaks off.
pub fn prepare(
    container: &Container,
    extent: &Extent,
    provision: Provision,
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    let storage = container.storage();
    if let Some(pieces) = container.pieces() {
        return prepare_pieces(pieces, extent, provision, rng, progress);
    }
    if storage.limits().can_resize && provision != Provision::Thin {
        set_aside(container, 0..extent.container_len)?;
    }
    prepare_storage(&*storage, extent, provision, rng, progress)
}

/// As [`prepare`], in a new folder of pieces: those of a thin container are made when they are written.
fn prepare_pieces(
    pieces: &Pieces,
    extent: &Extent,
    provision: Provision,
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    if provision == Provision::Thin {
        return Ok(());
    }
    let len = extent.data_len();
    pieces.make_all(true, &mut |index| {
        let done = u64::from(index).saturating_mul(pieces.geometry().piece_len()).min(len);
        // Filling counts from the start again.
        let done = if provision == Provision::Thick { 0 } else { done };
        if progress(done, len).is_break() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    })?;
    if provision == Provision::Thick {
        let noise = Noise::new(rng)?;
        write_all(pieces, extent.data.clone(), progress, &mut |chunk, first| noise.fill(chunk, first))?;
    }
    Ok(pieces.sync_data()?)
}

/// As [`prepare`], on any storage; sets no space aside.
pub fn prepare_storage(
    storage: &dyn Storage,
    extent: &Extent,
    provision: Provision,
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    let data = extent.data.clone();
    if storage.limits().can_resize {
        storage.set_size(extent.container_len)?;
    } else {
        // What a device held before must not look like a header copy of any format, nor like data of a thin volume.
        let len = storage.size()?;
        for place in FORMATS.iter().flat_map(|format| format.traces(len)) {
            zero(storage, place)?;
        }
        storage.sync_data()?;
        zero(storage, 0..data.start)?;
        zero(storage, data.end..extent.container_len)?;
        if provision == Provision::Thin && storage.punch_hole(data.clone()).is_err() {
            write_all(storage, data.clone(), progress, &mut |chunk, _| chunk.fill(0))?;
        }
    }
    if provision == Provision::Thick {
        let noise = Noise::new(rng)?;
        write_all(storage, data, progress, &mut |chunk, first| noise.fill(chunk, first))?;
    }
    Ok(storage.sync_data()?)
}

/// Fills what lies before and behind the data area of a thick container with random bytes too: a container with a detached
/// header bears nothing that is recognised (NAT-HF-09).
pub fn fill_around(storage: &dyn Storage, extent: &Extent, rng: &dyn Rng) -> Result<()> {
    for range in [0..extent.data.start, extent.data.end..extent.container_len] {
        let noise = Noise::new(rng)?;
        let mut unseen = |_, _| ControlFlow::Continue(());
        write_all(storage, range, &mut unseen, &mut |chunk, first| noise.fill(chunk, first))?;
    }
    Ok(storage.sync_data()?)
}

/// Fills some bytes of a container with random ones, and syncs.
///
/// # Errors
/// `Interrupted` where `progress` breaks off; what writing gave.
pub fn fill_range(
    storage: &dyn Storage,
    range: std::ops::Range<u64>,
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    let noise = Noise::new(rng)?;
    write_all(storage, range, progress, &mut |chunk, first| noise.fill(chunk, first))?;
    Ok(storage.sync_data()?)
}

/// Fills those sectors of 512 bytes in `range` with random bytes that are all zeros, which no ciphertext is, and syncs.
///
/// # Errors
/// What reading and writing gave.
pub(super) fn fill_empty(storage: &dyn Storage, range: std::ops::Range<u64>, rng: &dyn Rng) -> Result<()> {
    let noise = Noise::new(rng)?;
    let start = range.start;
    let mut fresh = vec![0; CHUNK_LEN];
    read_chunks::<()>(storage, range, |done, chunk| {
        noise.fill(&mut fresh[..chunk.len()], done);
        let mut is_changed = false;
        for (sector, fresh) in chunk.chunks_mut(SECTOR).zip(fresh.chunks(SECTOR)) {
            if is_empty(sector) {
                sector.copy_from_slice(fresh);
                is_changed = true;
            }
        }
        // The rest of it is written as it is.
        if is_changed {
            storage.write_all_at(chunk, start + done)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(storage.sync_data()?)
}

/// The first sector of 512 bytes in `range` that is all zeros: space that was never filled, and shows it.
///
/// # Errors
/// `Interrupted` where `progress` breaks off; what reading gave.
pub fn find_empty(
    storage: &dyn Storage,
    range: std::ops::Range<u64>,
    progress: Progress<'_>,
) -> Result<Option<u64>> {
    let (start, total) = (range.start, range.end.saturating_sub(range.start));
    read_chunks(storage, range, |done, chunk| {
        if let Some(index) = chunk.chunks(SECTOR).position(is_empty) {
            return Ok(ControlFlow::Break(start + done + (index * SECTOR) as u64));
        }
        if progress(done + chunk.len() as u64, total).is_break() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Reads `range` and passes it on chunk by chunk, each with how much came before it, until `work` has what it looks for.
fn read_chunks<B>(
    storage: &dyn Storage,
    range: std::ops::Range<u64>,
    mut work: impl FnMut(u64, &mut [u8]) -> Result<ControlFlow<B>>,
) -> Result<Option<B>> {
    let total = range.end.saturating_sub(range.start);
    let mut chunk = vec![0; CHUNK_LEN];
    let mut done = 0;
    while done < total {
        let len = usize::try_from(total - done).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
        let chunk = &mut chunk[..len];
        storage.read_exact_at(chunk, range.start + done)?;
        if let ControlFlow::Break(found) = work(done, chunk)? {
            return Ok(Some(found));
        }
        done += len as u64;
    }
    Ok(None)
}

fn is_empty(sector: &[u8]) -> bool {
    sector.iter().all(|&byte| byte == 0)
}

/// Reserves the blocks of a file now, so that a full disk is noticed before and not within the work.
pub(super) fn set_aside(container: &Container, range: std::ops::Range<u64>) -> Result<()> {
    reserve(container, range, FallocateFlags::empty())
}

/// The same for what is to be written behind the file's end, which stays where it is.
pub(super) fn set_aside_behind_end(container: &Container, range: std::ops::Range<u64>) -> Result<()> {
    if range.is_empty() { Ok(()) } else { reserve(container, range, FallocateFlags::KEEP_SIZE) }
}

fn reserve(container: &Container, range: std::ops::Range<u64>, flags: FallocateFlags) -> Result<()> {
    let len = range.end.saturating_sub(range.start);
    match fallocate(container.file(), flags, range.start, len) {
        // The file system cannot set space aside; writing will tell.
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

fn zero(storage: &dyn Storage, range: std::ops::Range<u64>) -> Result<()> {
    let mut unseen = |_, _| ControlFlow::Continue(());
    write_all(storage, range, &mut unseen, &mut |chunk, _| chunk.fill(0))
}

/// Writes `range` chunk by chunk with what `fill` makes of each (given its offset within the range).
fn write_all(
    storage: &dyn Storage,
    range: std::ops::Range<u64>,
    progress: Progress<'_>,
    fill: &mut dyn FnMut(&mut [u8], u64),
) -> Result<()> {
    let total = range.end - range.start;
    let mut chunk = vec![0; CHUNK_LEN];
    let mut done = 0;
    while done < total {
        let len = usize::try_from(total - done).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
        let chunk = &mut chunk[..len];
        fill(chunk, done);
        storage.write_all_at(chunk, range.start + done)?;
        let before = done;
        done += len as u64;
        if before / SYNC_INTERVAL != done / SYNC_INTERVAL {
            storage.sync_data()?;
        }
        if progress(done, total).is_break() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
    }
    Ok(())
}

/// Random bytes at the speed of the cipher: zeros under AES-256-XTS with a key that is thrown away.
struct Noise(AesXts);

impl Noise {
    fn new(rng: &dyn Rng) -> Result<Self> {
        let mut key = LockedBytes::zeroed(64)?;
        rng.fill(key.as_mut_slice())?;
        let cipher =
            AesXts::aes256(key.as_slice()).map_err(|error| Error::caused_by(ErrorKind::Io, error))?;
        Ok(Self(cipher))
    }

    fn fill(&self, chunk: &mut [u8], offset: u64) {
        chunk.fill(0);
        let sector_len = SectorSize::B4096.bytes();
        let (whole, rest) = chunk.split_at_mut(chunk.len() - chunk.len() % sector_len);
        let first = offset >> SectorSize::B4096.shift();
        self.0.encrypt(whole, SectorSize::B4096, Sector(first));
        if !rest.is_empty() {
            let mut last = vec![0; sector_len];
            let number = first + (whole.len() as u64 >> SectorSize::B4096.shift());
            self.0.encrypt(&mut last, SectorSize::B4096, Sector(number));
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        crypto::rng::OsRng,
        format::native::{Geometry, MIN_CONTAINER_LEN},
        storage::SimStorage,
        volume::Draft,
    };

    fn prepared(provision: Provision, progress: Progress<'_>) -> (tempfile::TempDir, Draft, Result<()>) {
        let directory = tempfile::tempdir().unwrap();
        let draft = Draft::new(&directory.path().join("new.vault"), false, &OsRng).unwrap();
        let geometry = Geometry::for_container(MIN_CONTAINER_LEN + (3 << 20)).unwrap();
        let result = prepare(draft.container(), &(&geometry).into(), provision, &OsRng, progress);
        (directory, draft, result)
    }

    fn data(draft: &Draft) -> Vec<u8> {
        let geometry = Geometry::for_container(MIN_CONTAINER_LEN + (3 << 20)).unwrap();
        let mut bytes = vec![0; usize::try_from(geometry.data_len).unwrap()];
        draft.container().storage().read_exact_at(&mut bytes, geometry.data_offset).unwrap();
        bytes
    }

    #[test]
    fn a_thick_container_has_no_sector_that_looks_empty_and_no_two_alike() {
        let mut seen = Vec::new();
        let (_directory, draft, result) = prepared(Provision::Thick, &mut |done, total| {
            seen.push((done, total));
            ControlFlow::Continue(())
        });
        result.unwrap();
        let bytes = data(&draft);
        let sectors: std::collections::HashSet<&[u8]> = bytes.chunks(512).collect();
        assert_eq!(sectors.len(), bytes.len() / 512);
        // One byte value in 256 is zero; a run of 16 zeros is none of chance's.
        assert!(!bytes.windows(16).any(|run| run.iter().all(|&byte| byte == 0)));
        assert_eq!(seen.last().unwrap().0, seen.last().unwrap().1);
    }

    // proves: NAT-HF-09
    #[test]
    fn around_the_data_of_a_container_without_header_there_is_noise_too() {
        let (_directory, draft, result) = prepared(Provision::Thick, &mut |_, _| ControlFlow::Continue(()));
        result.unwrap();
        let geometry = Geometry::for_container(MIN_CONTAINER_LEN + (3 << 20)).unwrap();
        let before = data(&draft);
        let storage = draft.container().storage();
        fill_around(&*storage, &(&geometry).into(), &OsRng).unwrap();
        assert!(data(&draft) == before);
        let mut bytes = vec![0; usize::try_from(geometry.container_len).unwrap()];
        storage.read_exact_at(&mut bytes, 0).unwrap();
        assert!(!bytes.windows(16).any(|run| run.iter().all(|&byte| byte == 0)));
    }

    // proves: NAT-UPD-01
    #[test]
    fn on_a_device_nothing_of_an_older_container_of_any_format_stays() {
        const LEN: usize = 24 << 20;
        let mut before = vec![0xa5; LEN];
        let mut put =
            |offset: usize, bytes: &[u8]| before[offset..offset + bytes.len()].copy_from_slice(bytes);
        for offset in [0, LEN - (1 << 20), LEN - (2 << 20)] {
            put(offset, b"\x89STRONGROOM\r\n\x1a\n\0");
        }
        for shift in 14..23 {
            put(1 << shift, b"SKUL\xba\xbe\0\x02");
        }
        for provision in [Provision::Quick, Provision::Thick] {
            let device = SimStorage::device(before.clone());
            // Where LUKS2 has its data, which begin late and go on to the end.
            let extent = Extent { container_len: LEN as u64, data: 16 << 20..LEN as u64 };
            prepare_storage(&device, &extent, provision, &OsRng, &mut |_, _| ControlFlow::Continue(()))
                .unwrap();
            let after = device.live();
            for magic in [b"STRONGROOM".as_slice(), b"SKUL"] {
                assert!(!after.windows(magic.len()).any(|bytes| bytes == magic), "{provision:?}");
            }
            for end in [0..128 << 10, LEN - (128 << 10)..LEN] {
                let old = after[end].split(|&byte| byte == 0xa5).count() - 1;
                assert!(old < 4096, "{provision:?}");
            }
        }
    }

    #[test]
    fn a_quick_container_has_its_space_and_a_thin_one_does_not() {
        use std::os::unix::fs::MetadataExt;
        for (provision, takes_space) in [(Provision::Quick, true), (Provision::Thin, false)] {
            let (_directory, draft, result) = prepared(provision, &mut |_, _| ControlFlow::Continue(()));
            result.unwrap();
            let metadata = draft.container().file().metadata().unwrap();
            assert_eq!(metadata.len(), MIN_CONTAINER_LEN + (3 << 20));
            assert_eq!(metadata.blocks() * 512 >= metadata.len(), takes_space, "{provision:?}");
        }
    }

    #[test]
    fn breaking_off_the_fill_is_an_interruption() {
        let (_directory, _draft, result) = prepared(Provision::Thick, &mut |_, _| ControlFlow::Break(()));
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    }
}
