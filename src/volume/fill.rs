//! Preparing the medium under a new container.

use std::{io, ops::ControlFlow};

use rustix::fs::{FallocateFlags, fallocate};

use crate::{
    crypto::{SectorCipher, rng::Rng, secret::LockedBytes, xts::AesXts},
    error::{Error, ErrorKind, Result},
    format::native::{Geometry, Provision},
    storage::Storage,
    units::{Sector, SectorSize},
    volume::Container,
};

/// Called with the bytes done and the bytes in all; stops the work by `Break`.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// The bytes written at a time.
const CHUNK_LEN: usize = 1 << 20;
/// After so many bytes the medium is waited for, so that progress is what has really been written.
const SYNC_INTERVAL: u64 = 256 << 20;

/// Gives the container its size and its data area what the provisioning asks for.
///
/// # Errors
/// `NoSpace` at once where a file's space cannot be set aside, `Interrupted` where `progress` breaks off.
pub fn prepare(
    container: &Container,
    geometry: &Geometry,
    provision: Provision,
    rng: &dyn Rng,
    progress: Progress<'_>,
) -> Result<()> {
    let storage = container.storage();
    let data = geometry.data_offset..geometry.data_offset + geometry.data_len;
    if storage.limits().can_resize {
        storage.set_size(geometry.container_len)?;
        if provision != Provision::Thin {
            set_aside(container, geometry.container_len)?;
        }
    } else {
        // What a device held before must not look like a header copy, nor like data of a thin volume.
        zero(&*storage, 0..geometry.data_offset)?;
        zero(&*storage, data.end..geometry.container_len)?;
        if provision == Provision::Thin && storage.punch_hole(data.clone()).is_err() {
            write_all(&*storage, data.clone(), progress, &mut |chunk, _| chunk.fill(0))?;
        }
    }
    if provision == Provision::Thick {
        let noise = Noise::new(rng)?;
        write_all(&*storage, data, progress, &mut |chunk, first| noise.fill(chunk, first))?;
    }
    Ok(storage.sync_data()?)
}

/// Reserves the blocks of a file now, so that a full disk is noticed before and not within the work.
fn set_aside(container: &Container, len: u64) -> Result<()> {
    match fallocate(container.file(), FallocateFlags::empty(), 0, len) {
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
        self.0.encrypt(chunk, SectorSize::B4096, Sector(offset >> SectorSize::B4096.shift()));
    }
}
