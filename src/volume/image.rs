//! Whole volumes in and out: images become volumes, volumes become images.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::{
    block::{BlockError, ByteDevice},
    crypto::hash::Sha256,
    error::{Error, ErrorKind, Result},
    storage::Storage,
    text::exact_size,
    volume::Progress,
};

/// What becomes of zeros where a copy is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeros {
    /// They are written like everything else.
    Written,
    /// They are left out: what was never written there reads as zeros.
    LeftOut,
}

/// Copies `image` to the start of the volume and makes it durable. Gives the SHA-256 of the image.
///
/// Behind the image come zeros to the next multiple of 4 KiB, and to the volume's end where that is less than 64 KiB away.
///
/// # Errors
/// `Usage` where the image is larger than the volume, `Busy` where its size changed meanwhile, `Interrupted` where
/// `progress` breaks off, and what reading and writing gave.
pub fn import(
    image: &dyn Storage,
    volume: &ByteDevice,
    zeros: Zeros,
    progress: Progress<'_>,
) -> Result<[u8; 32]> {
    let (len, volume_len) = (image.size()?, volume.size());
    if len > volume_len {
        let reason = format!("the image has {}, and the volume {}", exact_size(len), exact_size(volume_len));
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    let mut read = |chunk: &mut [u8], offset| Ok(image.read_exact_at(chunk, offset)?);
    let mut write = |run: &[u8], offset| volume.write_at(run, offset).map_err(volume_error);
    let padded = len.next_multiple_of(BLOCK_LEN as u64).min(volume_len);
    let digest = copy(len..padded, zeros, &mut read, &mut write, progress)?;
    if volume_len - padded < PADDING {
        volume.zero_range(padded..volume_len).map_err(volume_error)?;
    }
    volume.flush().map_err(volume_error)?;
    if image.size()? != len {
        return Err(Error::new(ErrorKind::Busy, "the image's size changed while it was being read"));
    }
    Ok(digest)
}

/// Copies the volume to the start of `image`, which becomes as long as the volume where it is a file, and makes it
/// durable. Gives the SHA-256 of the volume.
///
/// # Errors
/// `NoSpace` where the image is a device that is smaller, `Interrupted` where `progress` breaks off, and what reading and
/// writing gave.
pub fn export(
    volume: &ByteDevice,
    image: &dyn Storage,
    zeros: Zeros,
    progress: Progress<'_>,
) -> Result<[u8; 32]> {
    let len = volume.size();
    if image.limits().can_resize {
        image.set_size(len)?;
    } else if image.size()? < len {
        let reason =
            format!("the volume has {}, and the device {}", exact_size(len), exact_size(image.size()?));
        return Err(Error::new(ErrorKind::NoSpace, reason));
    }
    let mut read = |chunk: &mut [u8], offset| read_volume(volume, chunk, offset);
    let mut write = |run: &[u8], offset| Ok(image.write_all_at(run, offset)?);
    let digest = copy(len..len, zeros, &mut read, &mut write, progress)?;
    image.sync_data()?;
    Ok(digest)
}

/// The SHA-256 of the volume's first `len` bytes.
///
/// # Errors
/// `Interrupted` where `progress` breaks off, and what reading gave.
pub fn digest_of_volume(volume: &ByteDevice, len: u64, progress: Progress<'_>) -> Result<[u8; 32]> {
    let mut read = |chunk: &mut [u8], offset| read_volume(volume, chunk, offset);
    copy(len..len, Zeros::LeftOut, &mut read, &mut |_, _| Ok(()), progress)
}

/// The SHA-256 of the image's first `len` bytes.
///
/// # Errors
/// As [`digest_of_volume`].
pub fn digest_of_image(image: &dyn Storage, len: u64, progress: Progress<'_>) -> Result<[u8; 32]> {
    let mut read = |chunk: &mut [u8], offset| Ok(image.read_exact_at(chunk, offset)?);
    copy(len..len, Zeros::LeftOut, &mut read, &mut |_, _| Ok(()), progress)
}

/// Reads the bytes before `padding` and writes them, with zeros in `padding`, which ends within the last block at the
/// latest. Gives the SHA-256 of what was read.
fn copy(
    padding: Range<u64>,
    zeros: Zeros,
    read: &mut dyn FnMut(&mut [u8], u64) -> Result<()>,
    write: &mut dyn FnMut(&[u8], u64) -> Result<()>,
    progress: Progress<'_>,
) -> Result<[u8; 32]> {
    let len = padding.start;
    let mut buffer = Zeroizing::new(vec![0; CHUNK_LEN]);
    let mut hash = Sha256::default();
    let mut offset = 0;
    while offset < len {
        let within_chunk = |end| usize::try_from(end - offset).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
        let chunk_len = within_chunk(len);
        let chunk = &mut buffer[..within_chunk(padding.end)];
        chunk[chunk_len..].fill(0);
        read(&mut chunk[..chunk_len], offset)?;
        hash.update(&chunk[..chunk_len]);
        match zeros {
            Zeros::Written => write(chunk, offset)?,
            Zeros::LeftOut => write_around_zeros(chunk, offset, write)?,
        }
        offset += chunk_len as u64;
        if progress(offset, len).is_break() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
    }
    Ok(hash.finish())
}

/// Writes each run of blocks that are not all zeros.
fn write_around_zeros(
    chunk: &[u8],
    offset: u64,
    write: &mut dyn FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    for (run, is_zero) in runs(chunk) {
        if !is_zero {
            write(&chunk[run.clone()], offset + run.start as u64)?;
        }
    }
    Ok(())
}

/// The runs of blocks that are all zeros, and of those that are not, in order.
pub fn runs(chunk: &[u8]) -> Vec<(Range<usize>, bool)> {
    let mut runs: Vec<(Range<usize>, bool)> = Vec::new();
    for (block, start) in chunk.chunks(BLOCK_LEN).zip((0..).step_by(BLOCK_LEN)) {
        let (end, is_zero) = (start + block.len(), block.iter().all(|&byte| byte == 0));
        match runs.last_mut() {
            Some((run, was_zero)) if *was_zero == is_zero => run.end = end,
            _ => runs.push((start..end, is_zero)),
        }
    }
    runs
}

/// Reads from the volume; an error says that it is the container's, and where.
fn read_volume(volume: &ByteDevice, chunk: &mut [u8], offset: u64) -> Result<()> {
    volume.read_at(chunk, offset).map_err(|error| {
        let error = volume_error(error);
        let reason =
            format!("the container cannot be read, at byte {offset} of the volume: {}", error.reason());
        Error::new(error.kind(), reason)
    })
}

fn volume_error(error: BlockError) -> Error {
    match error {
        BlockError::Io(error) => error.into(),
        other => Error::caused_by(ErrorKind::Io, other),
    }
}

const CHUNK_LEN: usize = 1 << 20;
const BLOCK_LEN: usize = 4_096;
/// The least data area: a smaller image is filled up to it.
const PADDING: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::{ops::ControlFlow, sync::Arc};

    use super::*;
    use crate::{
        block::CryptDevice,
        crypto::{hash::sha256, xts::AesXts},
        mapping::{Holes, Mapping, Segment},
        storage::MemoryStorage,
        units::{Sector, SectorSize},
    };

    const VOLUME_LEN: usize = 3 << 20;

    /// A volume over a container that held noise before.
    fn volume(holes: Holes, before: u8) -> (Arc<MemoryStorage>, ByteDevice) {
        volume_of(VOLUME_LEN, holes, before)
    }

    fn volume_of(len: usize, holes: Holes, before: u8) -> (Arc<MemoryStorage>, ByteDevice) {
        let key: Vec<u8> = (0..64).collect();
        let segment = Segment {
            first: Sector(0),
            sectors: (len / 512) as u64,
            storage_offset: 0,
            first_tweak: Sector(0),
            cipher: Arc::new(AesXts::aes256(&key).unwrap()),
        };
        let mapping = Mapping::new(SectorSize::B512, vec![segment], holes).unwrap();
        let storage = Arc::new(MemoryStorage::new(vec![before; len]));
        (Arc::clone(&storage), ByteDevice::new(Arc::new(CryptDevice::new(storage, mapping))))
    }

    fn go_on(_: u64, _: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Data with holes of all sizes in it, ending within a block.
    fn image() -> Vec<u8> {
        let mut image: Vec<u8> = (1..=251).cycle().take(VOLUME_LEN - (64 << 10) - 1000).collect();
        for (start, len) in [(0, 4096), (8192, 4096 * 3 + 1), (1 << 20, 1 << 20), ((2 << 20) + 7, 9000)] {
            image[start..start + len].fill(0);
        }
        image
    }

    #[test]
    fn what_goes_in_comes_out() {
        let image = image();
        for (holes, zeros, before) in
            [(Holes::AreCiphertext, Zeros::Written, 0xa5), (Holes::ReadAsZeros, Zeros::LeftOut, 0)]
        {
            let (_, volume) = volume(holes, before);
            let source = MemoryStorage::new(image.clone());
            assert_eq!(import(&source, &volume, zeros, &mut go_on).unwrap(), sha256(&[&image]));
            let len = image.len() as u64;
            assert_eq!(digest_of_volume(&volume, len, &mut go_on).unwrap(), sha256(&[&image]));

            let target = MemoryStorage::new(Vec::new());
            let digest = export(&volume, &target, Zeros::LeftOut, &mut go_on).unwrap();
            let out = target.to_vec();
            assert_eq!(digest, sha256(&[&out]));
            assert_eq!(digest_of_image(&target, VOLUME_LEN as u64, &mut go_on).unwrap(), digest);
            assert!(out.starts_with(&image));
            // To the end of the block where the volume goes on for long, else to the end of the volume.
            assert!(out[image.len()..image.len().next_multiple_of(4096)].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn a_volume_that_ends_within_a_block_keeps_its_length() {
        for len in [18_944, (1 << 20) + 512] {
            for zeros in [Zeros::Written, Zeros::LeftOut] {
                let (container, volume) = volume_of(len, Holes::AreCiphertext, 0xa5);
                let image: Vec<u8> = (1..=251).cycle().take(len - 100).collect();
                import(&MemoryStorage::new(image.clone()), &volume, zeros, &mut go_on).unwrap();
                assert_eq!(container.to_vec().len(), len);

                let target = MemoryStorage::new(Vec::new());
                export(&volume, &target, zeros, &mut go_on).unwrap();
                let expected = [image, vec![0; 100]].concat();
                assert!(target.to_vec() == expected, "{len} bytes, {zeros:?}");
            }
        }
    }

    #[test]
    fn runs_of_zeros_are_blocks_and_all_runs_are_the_chunk() {
        let mut bytes = vec![0; 5 * BLOCK_LEN + 100];
        bytes[2 * BLOCK_LEN] = 1;
        bytes[4 * BLOCK_LEN - 1] = 1;
        let end = bytes.len();
        assert_eq!(
            runs(&bytes),
            [(0..2 * BLOCK_LEN, true), (2 * BLOCK_LEN..4 * BLOCK_LEN, false), (4 * BLOCK_LEN..end, true)]
        );
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn a_volume_made_for_the_image_ends_in_zeros() {
        let (_, volume) = volume(Holes::AreCiphertext, 0xa5);
        let image = vec![7; VOLUME_LEN - 60_000];
        import(&MemoryStorage::new(image.clone()), &volume, Zeros::Written, &mut go_on).unwrap();
        let mut rest = vec![1; 60_000];
        volume.read_at(&mut rest, image.len() as u64).unwrap();
        assert!(rest.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn zeros_take_no_space_in_a_thin_volume() {
        let (storage, volume) = volume(Holes::ReadAsZeros, 0);
        import(&MemoryStorage::new(image()), &volume, Zeros::LeftOut, &mut go_on).unwrap();
        assert!(storage.to_vec()[1 << 20..2 << 20].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn an_image_that_does_not_fit_is_refused() {
        let (_, volume) = volume(Holes::AreCiphertext, 0);
        let image = MemoryStorage::new(vec![0; VOLUME_LEN + 1]);
        let error = import(&image, &volume, Zeros::Written, &mut go_on).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }

    #[test]
    fn breaking_off_is_an_interruption() {
        let (_, volume) = volume(Holes::AreCiphertext, 0);
        let mut stop = |_, _| ControlFlow::Break(());
        let target = MemoryStorage::new(Vec::new());
        let error = export(&volume, &target, Zeros::LeftOut, &mut stop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
