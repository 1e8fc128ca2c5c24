//! One copy of the header: its bytes, checked, and what they say.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::io;

use serde_json::Value;
use zerocopy::{FromZeros, IntoBytes};

use super::{
    error::HeaderError,
    layout::{BINARY_LEN, HEADER_LENS, RawHeader, SECOND_MAGIC, VERSION},
    metadata::Metadata,
};
use crate::{
    crypto::{hash::HashKind, rng::Rng},
    error::{Error, ErrorKind, Result},
    format::luks::{MAGIC, Place, magic_at},
    storage::Storage,
    text::excerpt,
};

/// Which of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CopyIndex {
    First,
    Second,
}

impl CopyIndex {
    /// The other one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }

    pub(super) const fn magic(self) -> [u8; 6] {
        match self {
            Self::First => MAGIC,
            Self::Second => SECOND_MAGIC,
        }
    }

    /// Where this copy of a header of `header_len` bytes stands (L2-HDR-03).
    pub(super) const fn offset(self, header_len: u64) -> u64 {
        match self {
            Self::First => 0,
            Self::Second => header_len,
        }
    }
}

/// What a new header says of its container besides the JSON area.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) label: &'a str,
    pub(super) uuid: &'a str,
}

/// A whole copy: the checksum is right and the metadata are well-formed.
#[derive(Debug)]
pub(in crate::format) struct HeaderCopy {
    raw: Box<RawHeader>,
    json: Vec<u8>,
    hash: HashKind,
    is_detached: bool,
    pub(super) header_len: u64,
    pub(super) sequence: u64,
    pub(super) label: String,
    pub(super) subsystem: String,
    pub(super) uuid: String,
    pub(super) metadata: Metadata,
}

impl HeaderCopy {
    /// Reads the copy that must stand at `offset`. Only failing reads are errors of the outer kind.
    pub(super) fn read(place: Place<'_>, index: CopyIndex, offset: u64) -> Result<Result<Self, HeaderError>> {
        let Place { storage, is_detached } = place;
        let mut raw = Box::new(RawHeader::new_zeroed());
        if !read(storage, raw.as_mut_bytes(), offset)? {
            return Ok(Err(cut_off(storage, index, offset)?));
        }
        let header_len = match check_place(&raw, index, offset) {
            Ok(header_len) => header_len,
            Err(error) => return Ok(Err(error)),
        };
        // One of nine sizes, far from any limit.
        let json_len = usize::try_from(header_len.saturating_sub(BINARY_LEN_64)).unwrap_or_default();
        let mut json = vec![0; json_len];
        if !read(storage, &mut json, offset.saturating_add(BINARY_LEN_64))? {
            return Ok(Err(cut_off(storage, index, offset)?));
        }
        Ok(Self::parse(raw, json, header_len, is_detached))
    }

    fn parse(
        raw: Box<RawHeader>,
        json: Vec<u8>,
        header_len: u64,
        is_detached: bool,
    ) -> Result<Self, HeaderError> {
        let hash = text(&raw.checksum_hash).and_then(|name| HashKind::from_name(&name));
        let hash = hash.ok_or(HeaderError::ChecksumHash)?;
        let (found, rest) = raw.checksum.split_at(hash.digest_len());
        let is_right = checksum(&raw, &json, hash) == found && rest.iter().all(|&byte| byte == 0);
        if !is_right {
            return Err(HeaderError::Checksum); // L2-HDR-04
        }
        // L2-JSON-01: the text ends before the area does.
        let end = json.iter().position(|&byte| byte == 0).ok_or(HeaderError::JsonText)?;
        let metadata = Metadata::parse(json.get(..end).unwrap_or_default(), header_len, is_detached)?;
        Ok(Self {
            hash,
            is_detached,
            header_len,
            sequence: raw.sequence.get(),
            label: shown(&raw.label),
            subsystem: shown(&raw.subsystem),
            uuid: shown(&raw.uuid),
            metadata,
            raw,
            json,
        })
    }

    /// The copy `index` that these bytes are.
    pub(super) fn of_bytes(
        raw: Box<RawHeader>,
        json: Vec<u8>,
        index: CopyIndex,
        is_detached: bool,
    ) -> Result<Self, HeaderError> {
        let offset = index.offset(raw.header_len.get());
        let header_len = check_place(&raw, index, offset)?;
        if BINARY_LEN_64.checked_add(u64::try_from(json.len()).unwrap_or(u64::MAX)) != Some(header_len) {
            return Err(HeaderError::HeaderLen { len: header_len });
        }
        Self::parse(raw, json, header_len, is_detached)
    }

    /// The binary header.
    pub(super) const fn raw(&self) -> &RawHeader {
        &self.raw
    }

    /// The JSON area.
    pub(super) fn json(&self) -> &[u8] {
        &self.json
    }

    /// The first header of a new container, `header_len` bytes a copy.
    ///
    /// # Errors
    /// `Usage` where label or JSON do not fit.
    pub(super) fn new(identity: &Identity<'_>, header_len: u64, json: &Value, rng: &dyn Rng) -> Result<Self> {
        let mut raw = Box::new(RawHeader::new_zeroed());
        raw.magic = CopyIndex::First.magic();
        raw.version = VERSION;
        raw.header_len.set(header_len);
        raw.sequence.set(1);
        put(&mut raw.label, identity.label.as_bytes())?;
        put(&mut raw.uuid, identity.uuid.as_bytes())?;
        put(&mut raw.checksum_hash, CHECKSUM_HASH.name().as_bytes())?;
        Self::of_json(raw, json, header_len, true, rng)
    }

    /// What `raw` and `json` say, under a fresh salt and with the checksum made anew.
    fn of_json(
        mut raw: Box<RawHeader>,
        json: &Value,
        header_len: u64,
        is_detached: bool,
        rng: &dyn Rng,
    ) -> Result<Self> {
        let area_len = header_len.checked_sub(BINARY_LEN_64).and_then(|len| usize::try_from(len).ok());
        let mut text = json.to_string().into_bytes();
        // L2-JSON-01: a zero byte ends it.
        let area_len = area_len.filter(|len| text.len() < *len).ok_or_else(|| {
            Error::new(ErrorKind::NoSpace, "the header's JSON area is full")
                .with_hint("removing a keyslot or a token makes room")
        })?;
        text.resize(area_len, 0);
        rng.fill(&mut raw.salt)?;
        let hash_name = self::text(&raw.checksum_hash).unwrap_or_default();
        let hash = HashKind::from_name(&hash_name).unwrap_or(CHECKSUM_HASH);
        raw.checksum = checksum_field(&raw, &text, hash);
        Self::parse(raw, text, header_len, is_detached).map_err(unreadable)
    }

    /// The JSON area as a tree, with all that it holds.
    ///
    /// # Errors
    /// None that parsing the header did not give before.
    pub(super) fn json_tree(&self) -> Result<Value> {
        let text = self.json.split(|&byte| byte == 0).next().unwrap_or_default();
        serde_json::from_slice(text).map_err(|error| Error::caused_by(ErrorKind::Damaged, error))
    }

    /// What a changed tree says.
    ///
    /// # Errors
    /// `Unsupported` where it would not be read again.
    pub(super) fn reparsed(&self, json: &Value) -> Result<Metadata> {
        Metadata::parse(json.to_string().as_bytes(), self.header_len, self.is_detached).map_err(unreadable)
    }

    /// The same once more.
    ///
    /// # Errors
    /// None that parsing the header did not give before.
    pub(super) fn duplicate(&self) -> Result<Self> {
        let (raw, json) = (self.raw.clone(), self.json.clone());
        Self::parse(raw, json, self.header_len, self.is_detached).map_err(unreadable)
    }

    /// The next header: what `json` says, under the next sequence id and a fresh salt.
    ///
    /// # Errors
    /// `NoSpace` where the JSON area is full.
    pub(super) fn updated(&self, json: &Value, rng: &dyn Rng) -> Result<Self> {
        let mut raw = self.raw.clone();
        let sequence = self.sequence.checked_add(1);
        raw.sequence
            .set(sequence.ok_or_else(|| Error::new(ErrorKind::Unsupported, "its sequence id is the last"))?);
        Self::of_json(raw, json, self.header_len, self.is_detached, rng)
    }

    /// The same header under a sequence id above `sequence` and its own.
    ///
    /// # Errors
    /// `Unsupported` where there is none.
    pub(super) fn after(&self, sequence: u64, rng: &dyn Rng) -> Result<Self> {
        let mut base = self.duplicate()?;
        base.sequence = base.sequence.max(sequence);
        base.updated(&self.json_tree()?, rng)
    }

    /// Writes the bytes that were read once more where they stood.
    pub(super) fn write_again(&self, index: CopyIndex, storage: &dyn Storage) -> Result<()> {
        let mut bytes = self.raw.as_bytes().to_vec();
        bytes.extend_from_slice(&self.json);
        storage.write_all_at(&bytes, index.offset(self.header_len))?;
        Ok(storage.sync_data()?)
    }

    /// Whether both say the same; magic, place, salt and checksum differ between copies.
    pub(super) fn says_the_same_as(&self, other: &Self) -> bool {
        self.sequence == other.sequence
            && self.header_len == other.header_len
            && self.json == other.json
            && (self.raw.label, self.raw.uuid, self.raw.subsystem)
                == (other.raw.label, other.raw.uuid, other.raw.subsystem)
    }

    /// Writes what this copy says as the copy `index`, then reads it back.
    ///
    /// # Errors
    /// What writing gave; `Io` where something else is read back.
    pub(super) fn write_as(&self, index: CopyIndex, storage: &dyn Storage) -> Result<()> {
        let offset = index.offset(self.header_len);
        let mut raw = (*self.raw).clone();
        raw.magic = index.magic();
        raw.offset.set(offset);
        // L2-HDR-06: another salt, so that equal metadata have unlike checksums. It need not be random.
        let sequence = self.sequence.to_be_bytes();
        raw.salt = *HashKind::Sha512.digest(&[&self.raw.salt, &raw.magic, &sequence]);
        raw.checksum = checksum_field(&raw, &self.json, self.hash);
        let mut bytes = raw.as_bytes().to_vec();
        bytes.extend_from_slice(&self.json);
        storage.write_all_at(&bytes, offset)?;
        storage.sync_data()?;
        match Self::read(Place { storage, is_detached: self.is_detached }, index, offset)? {
            Ok(copy) if copy.says_the_same_as(self) => Ok(()),
            _ => {
                Err(Error::new(ErrorKind::Io, "the header copy reads back differently from what was written"))
            }
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn unreadable(error: HeaderError) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the new header would not be read again: {error}"))
}

/// What is wrong with a copy that the storage ends in: nothing, where there is none.
fn cut_off(storage: &dyn Storage, index: CopyIndex, offset: u64) -> Result<HeaderError> {
    let is_ours = |start: &[u8; 8]| start.starts_with(&index.magic()) && start.ends_with(&VERSION);
    if !magic_at(storage, offset)?.as_ref().is_some_and(is_ours) {
        return Ok(HeaderError::NoMagic);
    }
    let mut header_len = [0; 8];
    let is_told = read(storage, &mut header_len, offset.saturating_add(8))?;
    let told = Some(u64::from_be_bytes(header_len)).filter(|len| is_told && HEADER_LENS.contains(len));
    let end = offset.saturating_add(told.unwrap_or(BINARY_LEN_64));
    Ok(HeaderError::CutOff { len: storage.size()?, end })
}

/// L2-HDR-01 to -03: the header's size, where magic, version, size and place are right.
fn check_place(raw: &RawHeader, index: CopyIndex, offset: u64) -> Result<u64, HeaderError> {
    if raw.magic != index.magic() {
        return Err(HeaderError::NoMagic);
    }
    if raw.version != VERSION {
        return Err(HeaderError::Version { version: u16::from_be_bytes(raw.version) });
    }
    let len = raw.header_len.get();
    if !HEADER_LENS.contains(&len) {
        return Err(HeaderError::HeaderLen { len });
    }
    if raw.offset.get() != offset || index.offset(len) != offset {
        return Err(HeaderError::Misplaced { offset: raw.offset.get() });
    }
    Ok(len)
}

/// The checksum of a copy whose checksum field counts as zeros.
fn checksum(raw: &RawHeader, json: &[u8], hash: HashKind) -> Vec<u8> {
    let mut unsummed = raw.clone();
    unsummed.checksum = [0; 64];
    let digest = hash.digest(&[unsummed.as_bytes(), json]);
    digest.get(..hash.digest_len()).unwrap_or_default().to_vec()
}

/// The same as it stands in its field, zeros behind it.
pub(super) fn checksum_field(raw: &RawHeader, json: &[u8], hash: HashKind) -> [u8; 64] {
    let mut field = [0; 64];
    for (byte, computed) in field.iter_mut().zip(&checksum(raw, json, hash)) {
        *byte = *computed;
    }
    field
}

/// Puts text into a field that a zero byte ends.
pub(super) fn put(field: &mut [u8], text: &[u8]) -> Result<()> {
    let too_long = || Error::new(ErrorKind::Usage, "a text is too long for its field in the header");
    field.get_mut(..text.len()).ok_or_else(too_long)?.copy_from_slice(text);
    if field.last() == Some(&0) { Ok(()) } else { Err(too_long()) }
}

/// Fills `buf`; `false` where the container ends before.
fn read(storage: &dyn Storage, buf: &mut [u8], offset: u64) -> Result<bool> {
    match storage.read_exact_at(buf, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The text before the first zero byte.
pub(super) fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(bytes.get(..end)?).ok().map(str::to_owned)
}

/// The text before the first zero byte, made fit to be shown: whoever wrote it may mean harm.
fn shown(bytes: &[u8]) -> String {
    let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    excerpt(&String::from_utf8_lossy(text))
}

/// The hash of a new header's checksum: the one that cryptsetup writes.
pub(super) const CHECKSUM_HASH: HashKind = HashKind::Sha256;
pub(super) const BINARY_LEN_64: u64 = 4096;
const _: () = assert!(BINARY_LEN == 4096, "the two agree");
