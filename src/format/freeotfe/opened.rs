//! A header that was opened, and how: what a server needs to serve the volume, without the password.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::sync::Arc;

use super::{
    CDB_BYTES, Cipher, Details, DetailsError, Hints, Locked, Mode, SectorIv,
    trial::{HASHES, Scheme},
};
use crate::{
    crypto::{
        hash::HashKind,
        secret::{LockedBytes, VolumeKey},
    },
    error::{Error, ErrorKind, Result},
    format::{
        CopyInfo, CopyState, Detail, Finding, Header, HeaderInfo, KdfInfo, KeyslotInfo, Object, Unlocked,
    },
    mapping::{Holes, Layout, Mapping, Segment},
    units::{Sector, SectorSize},
};

/// What opened a header, and what it says.
#[derive(Debug)]
pub(super) struct Opened {
    scheme: Scheme,
    hash: HashKind,
    /// Its place among all.
    index: u8,
    cipher: Cipher,
    hints: Hints,
    details: Details,
    /// The same as it was parsed from.
    block: LockedBytes,
}

/// Where the data lie in the container, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Data {
    start: u64,
    /// In whole sectors: fewer than there should be where the container is cut off.
    len: u64,
    /// One past the last byte that there should be.
    end: u64,
    is_cut_off: bool,
}

impl Opened {
    /// What a header says that was opened by a scheme with a hash and the cipher of this place.
    ///
    /// # Errors
    /// What the block has that cannot be.
    pub(super) fn new(
        (scheme, hash, index): (Scheme, HashKind, u8),
        hints: Hints,
        block: LockedBytes,
    ) -> Result<Self, DetailsError> {
        let details = Details::parse(block.as_slice())?;
        if (details.version == 1) != (scheme == Scheme::Plain) {
            return Err(DetailsError::Version(details.version)); // FO-DET-01
        }
        let cipher = Cipher::all().nth(usize::from(index)).ok_or(DetailsError::Memory)?;
        let (found, expected) = (details.key.len(), cipher.key_len());
        if found != expected {
            return Err(DetailsError::Key { found, expected }); // FO-DET-06
        }
        Ok(Self { scheme, hash, index, cipher, hints, details, block })
    }

    /// As a volume key: all of this, in locked memory.
    ///
    /// # Errors
    /// `OutOfMemory`.
    fn to_key(&self) -> Result<VolumeKey> {
        let hash = HASHES.iter().position(|hash| *hash == self.hash).and_then(|hash| u8::try_from(hash).ok());
        let codes = [
            BLOB_VERSION,
            u8::from(self.scheme == Scheme::Plain),
            hash.unwrap_or(u8::MAX),
            self.index,
            u8::from(self.hints.without_cdb),
        ];
        let mut blob = LockedBytes::zeroed(START_LEN.saturating_add(self.block.len()))?;
        let numbers = [u64::from(self.hints.salt_bits), u64::from(self.hints.iterations), self.hints.origin];
        let start = codes.into_iter().chain(numbers.into_iter().flat_map(u64::to_le_bytes));
        let bytes = start.chain(self.block.as_slice().iter().copied());
        for (place, byte) in blob.as_mut_slice().iter_mut().zip(bytes) {
            *place = byte;
        }
        Ok(blob.into())
    }

    /// The inverse of [`to_key`](Self::to_key).
    ///
    /// # Errors
    /// `Damaged` for bytes that it never gives.
    pub(super) fn of_key(key: &VolumeKey) -> Result<Self> {
        Self::parse(key.expose())?.ok_or_else(|| Error::new(ErrorKind::Damaged, "this is not a volume key"))
    }

    fn parse(blob: &[u8]) -> Result<Option<Self>> {
        let Some((codes, rest)) = blob.split_first_chunk::<CODES_LEN>() else { return Ok(None) };
        let Some((numbers, block)) = rest.split_at_checked(NUMBERS_LEN) else { return Ok(None) };
        let (numbers, _) = numbers.as_chunks::<8>();
        let ([BLOB_VERSION, plain, hash, index, without_cdb], [salt, iterations, origin]) = (codes, numbers)
        else {
            return Ok(None);
        };
        let [salt, iterations, origin] = [salt, iterations, origin].map(|number| u64::from_le_bytes(*number));
        let (Some(&hash), Ok(salt_bits), Ok(iterations)) =
            (HASHES.get(usize::from(*hash)), u32::try_from(salt), u32::try_from(iterations))
        else {
            return Ok(None);
        };
        let scheme = if *plain == 0 { Scheme::Pbkdf2 } else { Scheme::Plain };
        let hints = Hints { salt_bits, iterations, without_cdb: *without_cdb != 0, origin };
        let mut locked = LockedBytes::zeroed(block.len())?;
        locked.as_mut_slice().copy_from_slice(block);
        Ok(Some(Self::new((scheme, hash, *index), hints, locked)?))
    }

    /// Where the data lie (FO-DATA-01, -02).
    ///
    /// # Errors
    /// `Damaged` where not even the first sector is there.
    fn data(&self, header: &Locked) -> Result<Data> {
        let wanted = self.details.data_len;
        let is_alone = header.is_detached && (self.hints.without_cdb || header.container_len == Some(wanted));
        let start = if is_alone { 0 } else { CDB_BYTES };
        let end = start.saturating_add(wanted);
        let there = header.container_len.map_or(end, |len| len.min(end));
        let len = there.saturating_sub(start);
        let len = len.saturating_sub(len.checked_rem(UNIT).unwrap_or_default());
        if len == 0 {
            return Err(Error::new(ErrorKind::Damaged, "it ends before its data starts"));
        }
        Ok(Data { start, len, end, is_cut_off: there < end })
    }

    /// The volume in its container (FO-DATA-03).
    ///
    /// # Errors
    /// `Damaged` for data outside the container, `Unsupported` for keys that the cipher does not take.
    pub(super) fn unlock(&self, header: &Locked) -> Result<Unlocked> {
        let data = self.data(header)?;
        let details = &self.details;
        let key = details.key.as_slice();
        let cipher = self.cipher.for_data(key, details.sector_iv, self.hash, &details.volume_iv)?;
        let segment = Segment {
            first: Sector(0),
            sectors: data.len.div_euclid(UNIT),
            storage_offset: data.start,
            first_tweak: Sector(self.first_number(data)),
            cipher,
        };
        let mapping = Mapping::new(SectorSize::B512, vec![segment], Holes::AreCiphertext)
            .map_err(|error| Error::caused_by(ErrorKind::Damaged, error))?;
        Ok(Unlocked { layout: Layout::Fixed(mapping), volume_key: Arc::new(self.to_key()?), keyslot: None })
    }

    /// The number of the first sector of the data (FO-DATA-02).
    const fn first_number(&self, data: Data) -> u64 {
        if self.details.counts_from_file {
            self.hints.origin.saturating_add(data.start).div_euclid(UNIT)
        } else {
            0
        }
    }

    /// Refuses what is read, but never written (FO-DATA-06).
    ///
    /// # Errors
    /// `Damaged` where the container is cut off.
    pub(super) fn check_writable(&self, header: &Locked) -> Result<()> {
        let data = self.data(header)?;
        if !data.is_cut_off {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Damaged, cut_off(data)).with_hint("--read-only opens what is left"))
    }

    /// What `info` shows.
    pub(super) fn describe(&self, header: &Locked) -> HeaderInfo {
        let details = &self.details;
        let data = self.data(header).ok();
        let shown = data.filter(|_| header.container_len.is_some());
        HeaderInfo {
            version: details.version.into(),
            cipher: self.cipher.name(details.sector_iv, self.hash),
            key_bits: u32::try_from(self.cipher.key_len().saturating_mul(8)).unwrap_or(u32::MAX),
            data_offset: shown.map_or(0, |data| data.start),
            data_size: shown.map_or(0, |data| data.len),
            authenticated_header: self.scheme == Scheme::Pbkdf2,
            headers: vec![CopyInfo { offset: 0, state: CopyState::Current, sequence: None }],
            keyslots: vec![self.keyslot()],
            details: self.more(),
            ..header.describe()
        }
    }

    fn more(&self) -> Vec<Detail> {
        let details = &self.details;
        let mut more = vec![
            Detail::new("Hash", self.hash.name()),
            Detail::new("Salt", format!("{} bits", self.hints.salt_bits)),
        ];
        if self.cipher.mode() == Mode::Cbc {
            more.push(Detail::new("Sector IVs", sector_ivs(details.sector_iv)));
            let volume_iv = if details.volume_iv.as_slice().is_empty() { "none" } else { "added to each" };
            more.push(Detail::new("Volume IV", volume_iv));
        }
        let from = if details.counts_from_file { "the file" } else { "the data" };
        more.push(Detail::new("Sectors count", format!("from the start of {from}")));
        if let Some((year, month, day)) = details.written {
            more.push(Detail::new("Header written", format!("{year:04}-{month:02}-{day:02}")));
        }
        more
    }

    /// What `check` tells of it.
    pub(super) fn findings(&self, header: &Locked) -> Vec<Finding> {
        let mut findings = vec![Finding::info("header", "opens, and is whole by its check")];
        if self.cipher.is_broken() {
            findings.push(Finding::warning("cipher", "DES: anybody can find its 56-bit key by trying all"));
        } else if self.cipher.has_small_blocks() {
            let message = "blocks of 64 bits repeat in large volumes, and show where they do";
            findings.push(Finding::warning("cipher", message));
        }
        if self.cipher.mode() == Mode::Cbc && self.details.sector_iv == SectorIv::None {
            findings
                .push(Finding::warning("cipher", "all sectors have the same IV, so equal beginnings show"));
        }
        let cost = match self.scheme {
            Scheme::Plain => "one hash makes guessing the password cheap".to_owned(),
            Scheme::Pbkdf2 => {
                format!("{} iterations make guessing the password cheap", self.hints.iterations)
            }
        };
        if self.scheme == Scheme::Plain || self.hints.iterations < FEW_ITERATIONS {
            findings.push(Finding::warning("key derivation", cost));
        }
        if let (Ok(data), true) = (self.data(header), header.container_len.is_some()) {
            findings
                .push(Finding::info(Object::Data, format!("{} bytes at offset {}", data.len, data.start)));
            if data.is_cut_off {
                findings.push(Finding::error(Object::Data, cut_off(data)));
            }
        }
        findings
    }

    fn keyslot(&self) -> KeyslotInfo {
        let (name, iterations) = match self.scheme {
            Scheme::Pbkdf2 => (self.hash.pbkdf2_name(), self.hints.iterations),
            Scheme::Plain => (self.hash.name(), 1),
        };
        let kdf = KdfInfo { name, memory: None, passes: None, lanes: None, iterations: Some(iterations) };
        KeyslotInfo { slot: 0, kind: "password", token: None, label: None, priority: None, weak: true, kdf }
    }
}

fn cut_off(data: Data) -> String {
    format!("its data end at byte {}, and the container before that", data.end)
}

const fn sector_ivs(iv: SectorIv) -> &'static str {
    match iv {
        SectorIv::None => "zeros",
        SectorIv::Number32 => "32-bit number",
        SectorIv::Number64 => "64-bit number",
        SectorIv::Hashed32 => "hash of the 32-bit number",
        SectorIv::Hashed64 => "hash of the 64-bit number",
        SectorIv::Essiv => "ESSIV",
    }
}

/// Sectors have this many bytes.
const UNIT: u64 = 512;
/// What is said to be cheap to guess: below what VeraCrypt takes.
const FEW_ITERATIONS: u32 = 200_000;
/// The version of the blob. Both ends are the same program.
const BLOB_VERSION: u8 = 1;
const CODES_LEN: usize = 5;
/// Three numbers of eight bytes.
const NUMBERS_LEN: usize = 24;
const START_LEN: usize = CODES_LEN + NUMBERS_LEN;
