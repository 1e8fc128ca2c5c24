//! A header that was opened, and how: what a server needs to serve the volume, without the password.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{ops::Range, sync::Arc};

use super::{
    Family, Place, VolumeHeader,
    chain::{Encryption, Mode, Use, chain_at},
    create::HEADERS_LEN,
    header::{Data, HeaderError},
    layout::{PLAIN_LEN, UNIT},
    prf::{Cost, Prf},
};
use crate::{
    crypto::secret::{LockedBytes, VolumeKey},
    error::{Error, ErrorKind, Result},
    format::{Detail, Finding, HeaderInfo, KeyslotInfo, Object, Unlocked},
    mapping::{Holes, Layout, Mapping, Segment},
    storage::{Storage, holds_zeros},
    units::{Sector, SectorSize},
};

/// What opened a header, and what it says.
#[derive(Debug)]
pub struct Opened {
    /// Where it stands.
    pub place: Place,
    /// The same in bytes.
    pub offset: u64,
    /// How header and data are encrypted.
    pub encryption: Encryption,
    /// What made the header's key of the password.
    pub prf: Prf,
    /// The PIM with which it did; 0 is the usual one.
    pub pim: u32,
    /// What it says.
    pub header: VolumeHeader,
    /// The bytes of the container that must not be written: a hidden volume's.
    pub protected: Option<Range<u64>>,
    /// It is a copy, and its original does not open.
    pub original_is_lost: bool,
}

impl Opened {
    /// As a volume key: all of this, in locked memory.
    ///
    /// # Errors
    /// `OutOfMemory`.
    pub fn to_key(&self) -> Result<VolumeKey> {
        let no_memory = || Error::new(ErrorKind::OutOfMemory, "no memory for the keys");
        let plain = self.header.to_bytes().ok_or_else(no_memory)?;
        let prf = Prf::ALL.iter().position(|prf| *prf == self.prf).and_then(|index| u8::try_from(index).ok());
        let mode = MODES.iter().position(|mode| *mode == self.encryption.mode);
        let codes = [
            Some(BLOB_VERSION),
            Some(self.place.code()),
            mode.and_then(|index| u8::try_from(index).ok()),
            self.encryption.chain.index(),
            prf,
            Some(self.original_is_lost.into()),
        ];
        let mut start = Vec::with_capacity(START_LEN);
        for code in codes {
            start.push(code.ok_or_else(no_memory)?);
        }
        start.extend_from_slice(&self.pim.to_le_bytes());
        start.extend_from_slice(&self.offset.to_le_bytes());
        let protected = self.protected.clone().unwrap_or_default();
        start.extend_from_slice(&protected.start.to_le_bytes());
        start.extend_from_slice(&protected.end.to_le_bytes());
        let mut blob = LockedBytes::zeroed(BLOB_LEN)?;
        for (byte, &value) in blob.as_mut_slice().iter_mut().zip(start.iter().chain(plain.as_slice())) {
            *byte = value;
        }
        Ok(blob.into())
    }

    /// The inverse of [`to_key`](Self::to_key).
    ///
    /// # Errors
    /// `Damaged` for bytes that it never gives.
    pub fn of_key(key: &VolumeKey) -> Result<Self> {
        Self::parse(key.expose())?.ok_or_else(|| Error::new(ErrorKind::Damaged, "this is not a volume key"))
    }

    fn parse(blob: &[u8]) -> Result<Option<Self>> {
        let Some((start, rest)) = blob.split_first_chunk::<START_LEN>() else { return Ok(None) };
        let Ok(plain) = <&[u8; PLAIN_LEN]>::try_from(rest) else { return Ok(None) };
        let Some((codes, offsets)) = start.split_first_chunk::<CODES_LEN>() else { return Ok(None) };
        let [version, place, mode, chain, prf, lost, p0, p1, p2, p3] = codes;
        let (offsets, _) = offsets.as_chunks::<8>();
        let [offset, from, to] = offsets else { return Ok(None) };
        let protected = u64::from_le_bytes(*from)..u64::from_le_bytes(*to);
        let place = Place::ALL.into_iter().find(|found| found.code() == *place);
        let mode = MODES.get(usize::from(*mode)).copied();
        let prf = Prf::ALL.get(usize::from(*prf)).copied();
        let (Some(place), Some(mode), Some(chain), Some(prf), true) =
            (place, mode, chain_at(*chain), prf, *version == BLOB_VERSION)
        else {
            return Ok(None);
        };
        let Some(header) = VolumeHeader::parse(plain)? else { return Ok(None) };
        Ok(Some(Self {
            place,
            offset: u64::from_le_bytes(*offset),
            encryption: Encryption { chain, mode },
            prf,
            pim: u32::from_le_bytes([*p0, *p1, *p2, *p3]),
            header,
            protected: Some(protected).filter(|range| !range.is_empty()),
            original_is_lost: *lost != 0,
        }))
    }

    /// The volume in a container of `container_len` bytes (VC-DATA-05, -06).
    ///
    /// # Errors
    /// `Damaged` for data outside the container, `Unsupported` for XTS keys that are the same twice.
    pub(super) fn unlock(&self, container_len: u64) -> Result<Unlocked> {
        let data = self.header.data(self.place, container_len)?;
        let cipher = self.encryption.keyed(self.header.keys.as_slice(), Use::Data)?;
        let first_tweak = match self.encryption.mode {
            Mode::Xts => data.start.div_euclid(UNIT),
            Mode::Lrw | Mode::Cbc => 0,
        };
        let segment = Segment {
            first: Sector(0),
            sectors: data.len.div_euclid(UNIT),
            storage_offset: data.start,
            first_tweak: Sector(first_tweak),
            cipher,
        };
        let mut mapping = Mapping::new(SectorSize::B512, vec![segment], Holes::AreCiphertext)
            .map_err(|error| Error::caused_by(ErrorKind::Damaged, error))?;
        if let Some(protected) = &self.protected {
            mapping = mapping.protecting(sectors_within(data, protected)?);
        }
        Ok(Unlocked { layout: Layout::Fixed(mapping), volume_key: Arc::new(self.to_key()?), keyslot: None })
    }

    /// The same volume, with the hidden volume `hidden` protected from what is written to it (VC-PROT-04).
    ///
    /// # Errors
    /// `Usage` where these are not an outer and a hidden volume, `Damaged` where the one does not lie in the other.
    pub(super) fn protecting(mut self, hidden: &Self, container_len: u64) -> Result<Self> {
        if self.place.is_hidden() || !hidden.place.is_hidden() {
            let reason = "only a hidden volume can be protected, and only from the volume around it";
            return Err(Error::new(ErrorKind::Usage, reason));
        }
        let range = hidden.header.data(hidden.place, container_len)?;
        let outer = self.header.data(self.place, container_len)?;
        // Up to the end that there should be.
        sectors_within(outer, &(range.start..range.end))?;
        self.protected = Some(range.start..range.end);
        Ok(self)
    }

    /// Whether a hidden volume can be made in it.
    ///
    /// # Errors
    /// `Unsupported`.
    pub(super) fn check_outer(&self, container_len: u64) -> Result<()> {
        let no = |reason: &str| Err(Error::new(ErrorKind::Unsupported, reason));
        if self.place.is_hidden() || self.place == Place::System {
            return no("a hidden volume goes into the volume that fills the container");
        }
        if self.header.version < 4 || self.header.flags != 0 {
            return no("only containers of TrueCrypt 6 and later or VeraCrypt can take a hidden volume");
        }
        self.check_writable(container_len)?;
        let data = self.header.data(self.place, container_len)?;
        if data.start != HEADERS_LEN || data.end.checked_add(HEADERS_LEN) != Some(container_len) {
            return no("its data do not lie between its headers");
        }
        Ok(())
    }

    /// Refuses what is read, but never written.
    ///
    /// # Errors
    /// `Unsupported`; `Damaged` where the container is cut off.
    pub(super) fn check_writable(&self, container_len: u64) -> Result<()> {
        let data = self.header.data(self.place, container_len)?;
        if data.is_cut_off() {
            return Err(Error::from(HeaderError::CutOff { end: data.end, container_len })
                .with_hint("--read-only opens what is left"));
        }
        let reason = if self.encryption.mode != Mode::Xts {
            format!("volumes of TrueCrypt 4 and before ({}) are not written to", self.encryption.mode.name())
        } else if self.header.is_half_encrypted() {
            "encrypting it in place was begun and not ended".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Unsupported, reason)
            .with_hint("--read-only opens it, to copy its content to a safe container"))
    }

    /// Whether it is the outer volume, opened by its own header.
    pub(super) fn fills_its_container(&self) -> bool {
        self.place == Place::Normal
    }

    /// What `info` shows.
    pub(super) fn describe(&self, container_len: u64) -> HeaderInfo {
        let header = &self.header;
        let data = header.data(self.place, container_len).unwrap_or(Data { start: 0, len: 0, end: 0 });
        let volume = match self.place {
            Place::System => "encrypted system",
            place if place.is_hidden() => "hidden",
            _ => "normal",
        };
        let mut details = vec![
            Detail::new("Volume", volume),
            Detail::new("Opened by", self.place.name()),
            Detail::new("Cipher chain", format!("{}, in encryption order", self.encryption.chain.name)),
            Detail::new("PRF", self.prf.name()),
        ];
        if self.pim != 0 {
            details.push(Detail::new("PIM", self.pim.to_string()));
        }
        let minimum = header.minimum;
        let [major, minor] = minimum.to_be_bytes();
        details.push(Detail::new(
            "Asks for",
            format!("{} {major:x}.{minor:02x} or newer", header.family.title()),
        ));
        HeaderInfo {
            format: header.family.name(),
            version: header.version.into(),
            uuid: None,
            label: None,
            cipher: self.encryption.name(),
            key_bits: u32::try_from(self.encryption.key_len().saturating_mul(8)).unwrap_or(u32::MAX),
            sector_size: 1_u32.checked_shl(header.sector_size.shift()).unwrap_or(512),
            container_size: container_len,
            data_offset: data.start,
            data_size: data.len,
            provision: None,
            generation: None,
            reencryption: false,
            authenticated_header: false,
            headers: self.copies(container_len),
            keyslots: self.keyslot().into_iter().collect(),
            details,
        }
    }

    /// What `check` tells of it.
    pub(super) fn findings(&self, storage: &dyn Storage, container_len: u64) -> Vec<Finding> {
        let header = &self.header;
        let mut findings = vec![Finding::info(self.place.name(), "opens, and is whole by its checksums")];
        findings.extend(self.finding_of_original());
        if self.encryption.mode != Mode::Xts {
            let message =
                format!("{} is weaker than XTS; nothing is written with it", self.encryption.mode.name());
            findings.push(Finding::warning("cipher", message));
        }
        if let Some(Cost::Pbkdf2 { iterations, .. }) =
            self.cost().filter(|_| header.family == Family::TrueCrypt)
        {
            let message = format!("{iterations} iterations make guessing the password cheap");
            findings.push(Finding::warning("key derivation", message));
        }
        if header.is_half_encrypted() {
            findings.push(Finding::warning(Object::Data, "encrypting it in place was begun and not ended"));
        }
        if let Ok(data) = header.data(self.place, container_len) {
            findings
                .push(Finding::info(Object::Data, format!("{} bytes at offset {}", data.len, data.start)));
            if data.is_cut_off() {
                let error = HeaderError::CutOff { end: data.end, container_len };
                findings.push(Finding::error(Object::Data, error.to_string()));
            }
            findings.extend(self.finding_of_end(storage, data, container_len));
            if self.encryption.mode == Mode::Xts && data.len > MOST_FOR_ONE_KEY {
                let message = "more than 1 TiB under one key, beyond what IEEE 1619 recommends for XTS";
                findings.push(Finding::info("cipher", message));
            }
        }
        findings
    }

    /// What `check` tells of a container that does not end where the backup headers behind the data do (VC-DATA-08).
    fn finding_of_end(&self, storage: &dyn Storage, data: Data, container_len: u64) -> Option<Finding> {
        let has_copies = self.place == Place::Normal && self.header.version >= 4 && self.header.flags == 0;
        let end = data.end.saturating_add(HEADERS_LEN);
        if !has_copies || data.start != HEADERS_LEN || data.is_cut_off() {
            return None;
        }
        if container_len < end {
            let missing = end.saturating_sub(container_len);
            let message = format!(
                "the container ends {missing} bytes before they do: it was cut off, and this header is the last one; strongroom header backup keeps a copy"
            );
            return Some(Finding::error("backup headers", message));
        }
        let more = container_len.saturating_sub(end);
        if more < HEADERS_LEN {
            return None;
        }
        let why = match self.follows(storage, end, container_len) {
            Ok(Following::Growth) => {
                format!("a resize was broken off, and the same command (to {container_len} bytes) finishes it")
            }
            Ok(Following::Zeros) => "zeros follow it: it was padded, or a resize was broken off".to_owned(),
            Ok(Following::Bytes) | Err(_) => {
                "what follows it is another's, or padding, or of a resize that an older version did not finish: resize does not take it \
                 unasked"
                    .to_owned()
            }
        };
        let message = format!(
            "the container is {more} bytes longer than its volume: {why}; its backup headers are at byte {}, where it ends, and not where \
             programs look",
            data.end
        );
        Some(Finding::warning("backup headers", message))
    }

    /// What stands behind the container, from `end` to the end of `storage`.
    fn follows(&self, storage: &dyn Storage, end: u64, container_len: u64) -> Result<Following> {
        let len = container_len.min(storage.size()?);
        let present_end = len.saturating_sub(len.checked_rem(UNIT).unwrap_or(0));
        if self.encryption.mode == Mode::Xts && self.growth_mark(end, present_end)?.stands(storage)? {
            return Ok(Following::Growth);
        }
        Ok(if holds_zeros(storage, end..len)? { Following::Zeros } else { Following::Bytes })
    }

    fn cost(&self) -> Option<Cost> {
        self.prf.cost(self.header.family, self.place == Place::System, self.pim).ok()?
    }

    fn keyslot(&self) -> Option<KeyslotInfo> {
        let cost = self.cost()?;
        let is_slow = matches!(cost, Cost::Argon2id(cost) if cost.memory_kib >= 65_536);
        Some(KeyslotInfo {
            slot: 0,
            kind: "password",
            token: None,
            label: None,
            priority: None,
            weak: !is_slow,
            kdf: cost.describe(),
        })
    }

    /// The family that the header belongs to.
    pub const fn family(&self) -> Family {
        self.header.family
    }
}

/// What follows a container.
enum Following {
    /// A growth that was begun.
    Growth,
    /// Nothing.
    Zeros,
    /// Something.
    Bytes,
}

/// Bytes of a container as sectors of the volume whose data these are.
///
/// # Errors
/// `Damaged` where they are not all its own.
fn sectors_within(data: Data, bytes: &Range<u64>) -> Result<Range<Sector>> {
    let [start, end] = [bytes.start, bytes.end].map(|at| at.checked_sub(data.start));
    match (start, end) {
        (Some(start), Some(end)) if start < end && bytes.end <= data.start.saturating_add(data.len) => {
            Ok(Sector(start.div_euclid(UNIT))..Sector(end.div_ceil(UNIT)))
        }
        _ => Err(Error::new(ErrorKind::Damaged, "the hidden volume does not lie within the outer one")),
    }
}

/// In bytes.
const MOST_FOR_ONE_KEY: u64 = 1 << 40;
/// The modes, in the order of their codes.
const MODES: [Mode; 3] = [Mode::Xts, Mode::Lrw, Mode::Cbc];
/// The version of the blob. Both ends are the same program.
const BLOB_VERSION: u8 = 2;
/// Six codes and the PIM.
const CODES_LEN: usize = 10;
/// The same, the offset, and the range that is protected.
const START_LEN: usize = CODES_LEN + 24;
const BLOB_LEN: usize = START_LEN + PLAIN_LEN;
