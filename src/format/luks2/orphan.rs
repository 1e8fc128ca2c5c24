//! A JSON area whose binary header is gone: a new table of partitions takes that of both copies, and leaves the second copy's text.
//! The checksum went with the binary header, so only the text itself is left to be checked.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{
    copy::{BINARY_LEN_64, CHECKSUM_HASH, CopyIndex, checksum_field, put, text},
    layout::{BINARY_LEN, HEADER_LENS, RawHeader, VERSION},
    metadata::{Metadata, json_len},
};
use crate::{
    crypto::hash::HashKind,
    error::Result,
    format::{hyphenated, parse_uuid, uuid_of},
    storage::Storage,
};

/// The text of a header, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::format) struct Orphan {
    /// Where the JSON area begins, in bytes.
    pub(in crate::format) offset: u64,
    /// The size of the copy that it belongs to.
    pub(in crate::format) header_len: u64,
}

impl Orphan {
    /// Whether a sector can be the first one of a JSON area. Cheap: it is asked of every sector there is.
    pub(in crate::format) fn may_begin(sector: &[u8]) -> bool {
        let has = |word: &[u8]| sector.windows(word.len()).any(|window| window == word);
        sector.starts_with(b"{\"") && (has(b"\"keyslots\"") || has(b"\"json_size\""))
    }

    /// The JSON area that begins at `offset`; `None` where there is none that makes metadata.
    pub(in crate::format) fn at(storage: &dyn Storage, offset: u64) -> Result<Option<Self>> {
        let Some(json) = read_text(storage, offset)? else { return Ok(None) };
        let header_len = json_len(&json).and_then(|len| len.checked_add(BINARY_LEN_64));
        let found = header_len.filter(|len| Metadata::parse(&json, *len, true).is_ok());
        Ok(found.map(|header_len| Self { offset, header_len }))
    }

    /// The JSON area of the container that begins at offset 0.
    pub(in crate::format) fn of_container(storage: &dyn Storage) -> Result<Option<Self>> {
        for copy in std::iter::once(0).chain(HEADER_LENS) {
            let found = Self::at(storage, copy.saturating_add(BINARY_LEN_64))?;
            if let Some(found) = found.filter(|found| found.starts().contains(&Some(0))) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Where the container begins, if this is its first copy, and if it is its second.
    pub(in crate::format) fn starts(&self) -> [Option<u64>; 2] {
        let first = self.offset.checked_sub(BINARY_LEN_64);
        [first, first.and_then(|first| first.checked_sub(self.header_len))]
    }

    /// The binary header that this text had in a container that starts at `start`, as far as the other copy's remains tell. A UUID
    /// that is lost is made of the text.
    pub(in crate::format) fn binary_header(&self, storage: &dyn Storage, start: u64) -> Result<Vec<u8>> {
        let index = match self.starts() {
            [Some(first), _] if first == start => CopyIndex::First,
            _ => CopyIndex::Second,
        };
        let json_len = self.header_len.saturating_sub(BINARY_LEN_64);
        // One of nine sizes, far from any limit.
        let mut json = vec![0; usize::try_from(json_len).unwrap_or_default()];
        storage.read_exact_at(&mut json, self.offset)?;
        let mut raw = Box::new(RawHeader::new_zeroed());
        for place in [0, self.header_len] {
            raw = self.remains(storage, start.saturating_add(place))?.unwrap_or(raw);
        }
        raw.magic = index.magic();
        raw.version = VERSION;
        raw.header_len.set(self.header_len);
        raw.offset.set(index.offset(self.header_len));
        raw.padding = [0; 184];
        raw.padding_to_4096 = [0; 3584];
        if uuid(&raw).is_none() {
            let digest = HashKind::Sha256.digest(&[&json]);
            let uuid = uuid_of(digest.first_chunk().copied().unwrap_or_default());
            put(&mut raw.uuid, hyphenated(&uuid).as_bytes())?;
        }
        raw.checksum_hash = [0; 32];
        put(&mut raw.checksum_hash, CHECKSUM_HASH.name().as_bytes())?;
        raw.checksum = checksum_field(&raw, &json, CHECKSUM_HASH);
        Ok(raw.as_bytes().to_vec())
    }

    /// What is left of a binary header at `offset`, where its UUID still shows.
    fn remains(&self, storage: &dyn Storage, offset: u64) -> Result<Option<Box<RawHeader>>> {
        let mut bytes = [0; BINARY_LEN];
        if storage.size()?.saturating_sub(offset) < BINARY_LEN_64 {
            return Ok(None);
        }
        storage.read_exact_at(&mut bytes, offset)?;
        let raw = RawHeader::read_from_bytes(&bytes).ok().map(Box::new);
        Ok(raw.filter(|raw| raw.header_len.get() == self.header_len && uuid(raw).is_some()))
    }
}

/// The text that begins at `offset`, up to the zero byte that ends it (L2-JSON-01).
fn read_text(storage: &dyn Storage, offset: u64) -> Result<Option<Vec<u8>>> {
    let most = HEADER_LENS.last().copied().unwrap_or_default().saturating_sub(BINARY_LEN_64);
    let end = storage.size()?.min(offset.saturating_add(most));
    let mut json: Vec<u8> = Vec::new();
    let mut at = offset;
    while at < end {
        let len = usize::try_from(end.saturating_sub(at)).unwrap_or(BINARY_LEN).min(BINARY_LEN);
        let mut block = [0; BINARY_LEN];
        let block = block.get_mut(..len).unwrap_or_default();
        storage.read_exact_at(block, at)?;
        if let Some(last) = block.iter().position(|&byte| byte == 0) {
            json.extend_from_slice(block.get(..last).unwrap_or_default());
            return Ok(Some(json));
        }
        json.extend_from_slice(block);
        at = at.saturating_add(BINARY_LEN_64);
    }
    Ok(None)
}

fn uuid(raw: &RawHeader) -> Option<[u8; 16]> {
    text(&raw.uuid).and_then(|text| parse_uuid(&text))
}
