use std::{io, ops::Range, sync::Arc};

use super::{BlockDevice, BlockError, BufferPool, Geometry, byte_count};
use crate::{
    mapping::{Holes, Mapping, Segment},
    storage::Storage,
    units::{Sector, SectorSize},
};

/// The sectors of a volume, decrypted from and encrypted to its container through a [`Mapping`].
///
/// Accesses are not ordered against each other: two that overlap in time and place may mix. [`ByteDevice`] orders them.
///
/// ```
/// # use std::sync::Arc;
/// # use strongroom::{block::{BlockDevice, CryptDevice}, crypto::xts::AesXts, storage::MemoryStorage};
/// # use strongroom::{mapping::{Holes, Mapping, Segment}, units::{Sector, SectorSize}};
/// let key: Vec<u8> = (0..64).collect();
/// let segment = Segment {
///     first: Sector(0),
///     sectors: 8,
///     storage_offset: 4096,
///     first_tweak: Sector(0),
///     cipher: Arc::new(AesXts::aes256(&key)?),
/// };
/// let mapping = Mapping::new(SectorSize::B512, vec![segment], Holes::AreCiphertext)?;
/// let container = Arc::new(MemoryStorage::new(vec![0; 8192]));
/// let volume = CryptDevice::new(container.clone(), mapping);
/// volume.write(&[7; 512], Sector(3))?;
/// let mut plaintext = [0; 512];
/// volume.read(&mut plaintext, Sector(3))?;
/// assert_eq!(plaintext, [7; 512]);
/// assert_ne!(container.to_vec()[4096 + 3 * 512], 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [`ByteDevice`]: super::ByteDevice
#[derive(Debug)]
pub struct CryptDevice {
    storage: Arc<dyn Storage>,
    mapping: Mapping,
    read_only: bool,
    can_punch: bool,
    scratch: BufferPool,
    /// The storage's size at the start, in bytes.
    storage_len: u64,
}

impl CryptDevice {
    /// A device on `storage`. It is read-only where the storage is.
    pub fn new(storage: Arc<dyn Storage>, mapping: Mapping) -> Self {
        let limits = storage.limits();
        // One that cannot be asked cannot be watched either; reading and writing will tell.
        let storage_len = storage.size().unwrap_or(0);
        Self {
            storage,
            mapping,
            read_only: limits.read_only,
            can_punch: limits.can_punch,
            scratch: BufferPool::new(SCRATCH_LEN),
            storage_len,
        }
    }

    const fn is_thin(&self) -> bool {
        matches!(self.mapping.holes(), Holes::ReadAsZeros)
    }

    /// The number of sectors that `len` bytes hold, where they all lie within the volume.
    fn sectors_of(&self, len: usize, first: Sector) -> Result<u64, BlockError> {
        let sectors = self.mapping.sector_size().sectors_in(byte_count(len));
        let sectors = sectors.ok_or(BlockError::PartialSector { len })?;
        self.check_range(first, sectors)?;
        Ok(sectors)
    }

    fn check_range(&self, first: Sector, sectors: u64) -> Result<(), BlockError> {
        let end = self.mapping.sectors();
        match first.0.checked_add(sectors) {
            Some(last) if last <= end => Ok(()),
            _ => Err(BlockError::OutOfRange { first: first.0, sectors, end }),
        }
    }

    fn check_writable_range(&self, range: &Range<Sector>) -> Result<u64, BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        let sectors = range.end.0.saturating_sub(range.start.0);
        self.check_range(range.start, sectors)?;
        Ok(sectors)
    }

    fn pieces(&self, first: Sector, sectors: u64) -> impl Iterator<Item = Piece<'_>> {
        pieces(&self.mapping, first, sectors)
    }

    fn decrypt(&self, data: &mut [u8], piece: &Piece<'_>) {
        if self.is_thin() {
            decrypt_around_holes(data, piece);
        } else {
            piece.segment.cipher.decrypt(data, piece.sector_size, piece.tweak(0));
        }
    }

    /// Decrypts `piece` out of the storage's own memory; `false` where it has to be read first. In thin volumes it always has,
    /// as holes must be told from ciphertext.
    fn decrypt_in_place(&self, data: &mut [u8], piece: &Piece<'_>) -> bool {
        let Piece { segment, sector_size, .. } = piece;
        let range = piece.offset(0)..piece.offset(piece.sectors);
        !self.is_thin()
            && self.storage.read_in_place(range, &mut |ciphertext| {
                segment.cipher.decrypt_into(ciphertext, data, *sector_size, piece.tweak(0));
            })
    }

    /// Encrypts and writes `plaintext`, which fills `piece`, a scratch buffer at a time.
    fn write_piece(&self, plaintext: &[u8], piece: &Piece<'_>, scratch: &mut [u8]) -> Result<(), BlockError> {
        let mut done = 0_u64;
        for chunk in plaintext.chunks(SCRATCH_LEN) {
            let Some(ciphertext) = scratch.get_mut(..chunk.len()) else {
                return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
            };
            piece.segment.cipher.encrypt_into(chunk, ciphertext, piece.sector_size, piece.tweak(done));
            self.storage.write_all_at(ciphertext, piece.offset(done))?;
            done += sectors_in(piece.sector_size, chunk.len());
        }
        Ok(())
    }

    /// Writes encrypted zeros over `piece`.
    fn write_encrypted_zeros(&self, piece: &Piece<'_>, scratch: &mut [u8]) -> Result<(), BlockError> {
        let mut done = 0_u64;
        while done < piece.sectors {
            let left = (piece.sectors - done) << piece.sector_size.shift();
            let len = usize::try_from(left).map_or(SCRATCH_LEN, |left| left.min(SCRATCH_LEN));
            let ciphertext = &mut scratch[..len];
            ciphertext.fill(0);
            piece.segment.cipher.encrypt(ciphertext, piece.sector_size, piece.tweak(done));
            self.storage.write_all_at(ciphertext, piece.offset(done))?;
            done += sectors_in(piece.sector_size, len);
        }
        Ok(())
    }

    /// Makes the ciphertext of `piece` all zeros: whole storage blocks as a hole, what is left by writing.
    fn clear_ciphertext(&self, piece: &Piece<'_>, scratch: &mut [u8]) -> Result<(), BlockError> {
        let (start, end) = (piece.offset(0), piece.offset(piece.sectors));
        let (hole_start, hole_end) = (start.next_multiple_of(STORAGE_BLOCK), end - end % STORAGE_BLOCK);
        scratch.fill(0);
        if hole_start >= hole_end || !self.punch(hole_start..hole_end)? {
            return self.write_zero_ciphertext(start..end, scratch);
        }
        self.write_zero_ciphertext(start..hole_start, scratch)?;
        self.write_zero_ciphertext(hole_end..end, scratch)
    }

    /// Punches a hole; `false` where the medium knows none.
    fn punch(&self, range: Range<u64>) -> io::Result<bool> {
        if !self.can_punch {
            return Ok(false);
        }
        match self.storage.punch_hole(range) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn write_zero_ciphertext(&self, range: Range<u64>, zeros: &[u8]) -> Result<(), BlockError> {
        let mut offset = range.start;
        while offset < range.end {
            let len = usize::try_from(range.end - offset).map_or(zeros.len(), |left| left.min(zeros.len()));
            self.storage.write_all_at(&zeros[..len], offset)?;
            offset += byte_count(len);
        }
        Ok(())
    }
}

impl BlockDevice for CryptDevice {
    fn geometry(&self) -> Geometry {
        Geometry {
            sector_size: self.mapping.sector_size(),
            sectors: self.mapping.sectors(),
            read_only: self.read_only,
            can_discard: self.is_thin() && self.can_punch && !self.read_only,
        }
    }

    fn reserve(&self, requests: usize) {
        self.scratch.reserve(requests);
    }

    fn read(&self, buf: &mut [u8], first: Sector) -> Result<(), BlockError> {
        let sectors = self.sectors_of(buf.len(), first)?;
        let mut rest = buf;
        for piece in self.pieces(first, sectors) {
            let (data, after) = rest.split_at_mut(piece.len());
            if !self.decrypt_in_place(data, &piece) {
                self.storage.read_exact_at(data, piece.offset(0))?;
                self.decrypt(data, &piece);
            }
            rest = after;
        }
        Ok(())
    }

    fn write(&self, buf: &[u8], first: Sector) -> Result<(), BlockError> {
        if self.read_only {
            return Err(BlockError::ReadOnly);
        }
        let sectors = self.sectors_of(buf.len(), first)?;
        let mut scratch = self.scratch.take();
        let mut rest = buf;
        for piece in self.pieces(first, sectors) {
            let (data, after) = rest.split_at(piece.len());
            self.write_piece(data, &piece, &mut scratch)?;
            rest = after;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), BlockError> {
        if self.read_only {
            return Ok(());
        }
        self.storage.sync_data()?;
        // A container that was cut off under us grows again with the next write, and is not whole for all that.
        if self.storage.size()? < self.storage_len {
            let reason = "the container has been cut off";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason).into());
        }
        Ok(())
    }

    fn write_zeroes(&self, range: Range<Sector>) -> Result<(), BlockError> {
        let sectors = self.check_writable_range(&range)?;
        let mut scratch = self.scratch.take();
        for piece in self.pieces(range.start, sectors) {
            if self.is_thin() {
                self.clear_ciphertext(&piece, &mut scratch)?;
            } else {
                self.write_encrypted_zeros(&piece, &mut scratch)?;
            }
        }
        Ok(())
    }

    fn discard(&self, range: Range<Sector>) -> Result<(), BlockError> {
        if self.is_thin() {
            return self.write_zeroes(range);
        }
        self.check_writable_range(&range).map(drop)
    }
}

/// The pieces of a checked range that each lie in one segment, in order.
pub(super) fn pieces(mapping: &Mapping, first: Sector, sectors: u64) -> impl Iterator<Item = Piece<'_>> {
    let sector_size = mapping.sector_size();
    let (mut next, end) = (first.0, first.0 + sectors);
    std::iter::from_fn(move || {
        let segment = mapping.segment_of(Sector(next)).filter(|_| next < end)?;
        let skipped = next - segment.first.0;
        let sectors = (segment.sectors - skipped).min(end - next);
        next += sectors;
        Some(Piece { segment, sector_size, skipped, sectors })
    })
}

/// A run of sectors within one segment.
pub(super) struct Piece<'a> {
    pub(super) segment: &'a Segment,
    pub(super) sector_size: SectorSize,
    /// Sectors of the segment before this piece.
    skipped: u64,
    sectors: u64,
}

impl Piece<'_> {
    /// The container's byte offset of the piece's sector number `sector`. `Mapping::new` has ruled out an overflow.
    const fn offset(&self, sector: u64) -> u64 {
        self.segment.storage_offset + ((self.skipped + sector) << self.sector_size.shift())
    }

    /// The tweak of the piece's sector number `sector`.
    pub(super) const fn tweak(&self, sector: u64) -> Sector {
        Sector(self.segment.first_tweak.0 + self.skipped + sector)
    }

    /// The piece's size in bytes; a part of a buffer's, so it fits.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.sectors << self.sector_size.shift()).unwrap_or(usize::MAX)
    }
}

/// Decrypts each run of written sectors at once and leaves never-written ones the zeros that they are.
pub(super) fn decrypt_around_holes(data: &mut [u8], piece: &Piece<'_>) {
    let sector_len = piece.sector_size.bytes();
    let mut rest = data;
    let mut done = 0;
    while !rest.is_empty() {
        let written = leading_sectors(rest, sector_len, false);
        let (run, after) = rest.split_at_mut(written * sector_len);
        if !run.is_empty() {
            piece.segment.cipher.decrypt(run, piece.sector_size, piece.tweak(done));
        }
        let holes = leading_sectors(after, sector_len, true);
        rest = &mut after[holes * sector_len..];
        done += byte_count(written + holes);
    }
}

/// How many sectors from the start on are all zeros, or are not.
fn leading_sectors(data: &[u8], sector_len: usize, zero: bool) -> usize {
    data.chunks(sector_len).take_while(|sector| is_zero(sector) == zero).count()
}

/// Ciphertext nearly always answers at its first 16 bytes; the rest is a loop that vectorises.
pub(super) fn is_zero(sector: &[u8]) -> bool {
    let (lanes, rest) = sector.as_chunks::<16>();
    lanes.first().is_none_or(|lane| *lane == [0; 16])
        && lanes
            .chunks(8)
            .all(|eight| eight.iter().fold(0, |any, lane| any | u128::from_le_bytes(*lane)) == 0)
        && rest.iter().all(|&byte| byte == 0)
}

fn sectors_in(sector_size: SectorSize, len: usize) -> u64 {
    byte_count(len) >> sector_size.shift()
}

/// Writes are encrypted and handed over this many bytes at a time: small enough to stay in a core's cache.
const SCRATCH_LEN: usize = 128 << 10;

/// The grain in which file systems give space back.
const STORAGE_BLOCK: u64 = 4096;
