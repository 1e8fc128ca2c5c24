//! Both header copies: finding them, choosing between them, unlocking, healing.

use std::sync::Arc;

use super::{
    copy::HeaderCopy,
    error::HeaderError,
    keys,
    keyslot::{Keyslot, Opened, SlotKind},
    layout::{ALIGNMENT, COPY_LEN, REGION_LEN, TAIL_LEN, VERSION},
    superblock::{CopyIndex, Provision, Superblock},
};
use crate::{
    crypto::{
        SectorCipher,
        kdf::KdfLimits,
        secret::{Credentials, VolumeKey},
        xts::AesXts,
    },
    error::{Error, ErrorKind, Result},
    format::{CopyInfo, CopyState, Header, HeaderInfo, Unlocked},
    mapping::{Holes, Mapping, Segment},
    storage::Storage,
    units::Sector,
};

/// How far from the end copy B is looked for when copy A does not tell, in bytes (NAT-RD-03).
const SEARCH_LEN: u64 = 2 * TAIL_LEN;

/// One of the two places and what stands there.
#[derive(Debug)]
struct Place {
    offset: u64,
    found: Result<HeaderCopy, HeaderError>,
}

/// The copies that are whole (NAT-RD-04).
#[derive(Debug)]
struct Copies {
    /// The one with the higher sequence number; copy A where they are equal.
    current: HeaderCopy,
    /// The other, where it is whole.
    other: Option<HeaderCopy>,
}

/// The header of a native container: at least one copy of it is whole.
#[derive(Debug)]
pub struct NativeHeader {
    a: Place,
    b: Place,
    copies: Copies,
    /// The container's size as it is, which may be less than the header says.
    actual_len: u64,
}

/// Whether the magic of the format is there: at the start, or on a copy B near the end.
pub(super) fn has_magic(storage: &dyn Storage) -> Result<bool> {
    let a = read_copy(storage, 0)?;
    if !matches!(a, Err(HeaderError::NoMagic)) {
        return Ok(true);
    }
    Ok(find_backup(storage)?.is_some())
}

impl NativeHeader {
    /// Reads both copies (NAT-RD-01 to -04).
    ///
    /// # Errors
    /// `NotAContainer` where there is no trace of one, `Damaged` where no copy is whole, `Unsupported` where a whole copy
    /// asks for what this version does not know.
    pub fn read(storage: &dyn Storage) -> Result<Self> {
        let actual_len = storage.size()?;
        let a = Place { offset: 0, found: expect_index(read_copy(storage, 0)?, CopyIndex::A) };
        let b = match &a.found {
            Ok(copy) => read_backup_of(storage, &copy.superblock)?,
            Err(_) => find_backup(storage)?.unwrap_or_else(|| Place {
                offset: (actual_len / ALIGNMENT * ALIGNMENT).saturating_sub(TAIL_LEN),
                found: Err(HeaderError::NoMagic),
            }),
        };
        let copies = choose(&a.found, &b.found)?;
        Ok(Self { a, b, copies, actual_len })
    }

    /// What the copy to use says, before anything is unlocked.
    fn current(&self) -> &Superblock {
        &self.copies.current.superblock
    }

    fn state(&self, place: &Place) -> CopyState {
        match &place.found {
            Ok(copy) if !copy.is_of_same_container(&self.copies.current) => CopyState::Damaged,
            Ok(copy) if copy.superblock.sequence == self.current().sequence => CopyState::Current,
            Ok(_) => CopyState::Stale,
            Err(HeaderError::NoMagic | HeaderError::CutOff) => CopyState::Missing,
            Err(_) => CopyState::Damaged,
        }
    }

    fn describe_place(&self, place: &Place) -> CopyInfo {
        let sequence = place.found.as_ref().ok().map(|copy| copy.superblock.sequence);
        CopyInfo { offset: place.offset, state: self.state(place), sequence }
    }

    fn check_writable(&self, superblock: &Superblock) -> Result<()> {
        let bits = superblock.unknown_writing_features;
        if bits != 0 {
            let reason = format!("writing needs features that this strongroom does not know ({bits:#x})");
            return Err(Error::new(ErrorKind::Unsupported, reason).with_hint("--read-only opens it")); // NAT-SB-04
        }
        let (expected, actual) = (superblock.geometry.container_len, self.actual_len);
        if actual < expected {
            let reason = format!("the container is cut off: {actual} of {expected} bytes are there");
            let hint = "bring the missing end back; --read-only opens what is left";
            return Err(Error::new(ErrorKind::Damaged, reason).with_hint(hint)); // NAT-GEO-06
        }
        Ok(())
    }

    /// The first copy that is authentic under `key` (NAT-RD-06).
    fn authentic(&self, key: &VolumeKey) -> Result<&HeaderCopy> {
        let Err(error) = self.copies.current.check_mac(key) else { return Ok(&self.copies.current) };
        self.copies.other.as_ref().filter(|copy| copy.check_mac(key).is_ok()).ok_or(error)
    }

    /// Checks the header against the volume key and lays out the volume.
    fn accept(&self, key: VolumeKey, keyslot: Option<u32>) -> Result<Unlocked> {
        let mapping = mapping(&self.authentic(&key)?.superblock, &key)?;
        Ok(Unlocked { mapping, volume_key: Arc::new(key), keyslot })
    }
}

impl Header for NativeHeader {
    fn describe(&self) -> HeaderInfo {
        let superblock = self.current();
        HeaderInfo {
            format: "native",
            version: VERSION,
            uuid: Some(hyphenated(&superblock.uuid)),
            label: superblock.label.text().map(str::to_owned),
            cipher: "aes-xts-plain64".to_owned(),
            key_bits: 512,
            sector_size: u32::try_from(superblock.sector_size.bytes()).unwrap_or_default(),
            container_size: superblock.geometry.container_len,
            data_offset: superblock.geometry.data_offset,
            data_size: superblock.geometry.data_len,
            provision: superblock.provision.name(),
            authenticated_header: true,
            headers: vec![self.describe_place(&self.a), self.describe_place(&self.b)],
            keyslots: self.copies.current.keyslots.iter().map(Keyslot::describe).collect(),
        }
    }

    fn unlock(&self, credentials: &Credentials, limits: &KdfLimits) -> Result<Unlocked> {
        let Copies { current, other } = &self.copies;
        let error = match open_keyslot(current, credentials, limits) {
            Ok((key, slot)) => return self.accept(key, Some(slot)),
            Err(error) => error,
        };
        // NAT-RD-05: the same number, but other words: somebody changed one of them, and the other may still open.
        // An older copy is never tried: a password removed since would open it.
        let rival = other.as_ref().filter(|other| {
            let is_as_new = other.superblock.sequence == current.superblock.sequence;
            (is_as_new || !other.is_of_same_container(current)) && !other.says_the_same_as(current)
        });
        let Some(rival) = rival else { return Err(error) };
        let (key, slot) = open_keyslot(rival, credentials, limits).map_err(|_| error)?;
        self.accept(key, Some(slot))
    }

    fn unlock_with_key(&self, key: VolumeKey) -> Result<Unlocked> {
        self.accept(key, None)
    }

    fn prepare_writing(&self, storage: &dyn Storage, unlocked: &Unlocked) -> Result<Vec<String>> {
        let good = self.authentic(&unlocked.volume_key)?;
        self.check_writable(&good.superblock)?;
        let mut done = Vec::new();
        for (place, index, name) in [(&self.a, CopyIndex::A, "A"), (&self.b, CopyIndex::B, "B")] {
            let is_whole = place.found.as_ref().is_ok_and(|copy| {
                copy.says_the_same_as(good) && copy.check_mac(&unlocked.volume_key).is_ok()
            });
            if is_whole {
                continue;
            }
            let state = match self.state(place) {
                CopyState::Current => "changed",
                CopyState::Stale => "stale",
                CopyState::Damaged => "damaged",
                CopyState::Missing => "missing",
            };
            good.for_index(index, &unlocked.volume_key)?.write(storage)?;
            done.push(format!("header copy {name} was {state} and has been rewritten from the other"));
        }
        Ok(done)
    }
}

/// Tries the keyslots of one copy, those with the highest priority first (NAT-SLOT-03, -05).
fn open_keyslot(
    copy: &HeaderCopy,
    credentials: &Credentials,
    limits: &KdfLimits,
) -> Result<(VolumeKey, u32)> {
    let kind = SlotKind::of(credentials);
    let mut slots: Vec<_> =
        copy.keyslots.iter().filter(|slot| slot.kind == kind && slot.priority > 0).collect();
    slots.sort_by_key(|slot| std::cmp::Reverse(slot.priority));
    if slots.is_empty() {
        return Err(no_slot_of(kind));
    }
    let mut failure = None;
    for slot in slots {
        match slot.open(&copy.superblock.uuid, credentials, limits) {
            Ok(Opened::Key(key)) => return Ok((key, slot.index)),
            Ok(Opened::WrongCredentials) => {}
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| Error::new(ErrorKind::Credentials, wrong_credentials(kind))))
}

const fn wrong_credentials(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Keyfile => "no keyslot opens with this password and these keyfiles",
        _ => "no keyslot opens with this password",
    }
}

fn no_slot_of(kind: SlotKind) -> Error {
    match kind {
        SlotKind::Keyfile => {
            Error::new(ErrorKind::Credentials, "no keyslot takes a keyfile").with_hint("leave --keyfile out")
        }
        _ => Error::new(ErrorKind::Credentials, "every keyslot needs a keyfile")
            .with_hint("add --keyfile FILE"),
    }
}

/// Reads and parses the copy at `offset`. Only failing reads are errors of the outer kind.
fn read_copy(storage: &dyn Storage, offset: u64) -> Result<Result<HeaderCopy, HeaderError>> {
    let left = storage.size()?.saturating_sub(offset);
    if left == 0 {
        return Ok(Err(HeaderError::NoMagic));
    }
    let len = usize::try_from(left).unwrap_or(COPY_LEN).min(COPY_LEN);
    let mut bytes = vec![0; len];
    storage.read_exact_at(&mut bytes, offset)?;
    if !bytes.starts_with(&super::layout::MAGIC) {
        return Ok(Err(if len == COPY_LEN || offset == 0 {
            HeaderError::NoMagic
        } else {
            HeaderError::CutOff
        }));
    }
    Ok(HeaderCopy::parse(&bytes))
}

/// NAT-RD-02: a copy counts only in its own place.
fn expect_index(found: Result<HeaderCopy, HeaderError>, index: CopyIndex) -> Result<HeaderCopy, HeaderError> {
    let copy = found?;
    if copy.superblock.index == index {
        return Ok(copy);
    }
    Err(HeaderError::Field { field: "copy index", value: copy.superblock.index.number().into() })
}

/// Copy B, where a whole copy A says that it lies.
fn read_backup_of(storage: &dyn Storage, a: &Superblock) -> Result<Place> {
    let offset = a.geometry.backup_offset;
    let found = expect_index(read_copy(storage, offset)?, CopyIndex::B).and_then(|copy| {
        if copy.offset() == offset { Ok(copy) } else { Err(HeaderError::Misplaced { offset: copy.offset() }) }
    });
    Ok(Place { offset, found })
}

/// NAT-RD-03: the last whole copy B in the last 2 MiB that stands where it says it does.
fn find_backup(storage: &dyn Storage) -> Result<Option<Place>> {
    let len = storage.size()?;
    let start = len.saturating_sub(SEARCH_LEN).next_multiple_of(ALIGNMENT);
    let mut tail = vec![0; usize::try_from(len.saturating_sub(start)).unwrap_or(0)];
    storage.read_exact_at(&mut tail, start)?;

    let mut damaged = None;
    let step = usize::try_from(ALIGNMENT).unwrap_or(COPY_LEN);
    for position in (0..tail.len()).step_by(step).rev() {
        let bytes = tail.get(position..).unwrap_or_default();
        if !bytes.starts_with(&super::layout::MAGIC) {
            continue;
        }
        let offset = start.saturating_add(u64::try_from(position).unwrap_or(u64::MAX));
        let found = expect_index(HeaderCopy::parse(bytes.get(..COPY_LEN).unwrap_or(bytes)), CopyIndex::B);
        match found {
            Ok(copy) if copy.offset() == offset => return Ok(Some(Place { offset, found: Ok(copy) })),
            Ok(_) => {}
            Err(error) => damaged = damaged.or(Some(Place { offset, found: Err(error) })),
        }
    }
    Ok(damaged)
}

/// NAT-RD-04: which copies may be used, and in which order.
fn choose(a: &Result<HeaderCopy, HeaderError>, b: &Result<HeaderCopy, HeaderError>) -> Result<Copies> {
    for found in [a, b] {
        if let Err(error) = found
            && error.is_unsupported()
        {
            return Err(error.clone().into());
        }
    }
    match (a, b) {
        (Ok(a), Ok(b)) if b.is_of_same_container(a) && b.superblock.sequence > a.superblock.sequence => {
            Ok(Copies { current: b.clone(), other: Some(a.clone()) })
        }
        (Ok(a), Ok(b)) => Ok(Copies { current: a.clone(), other: Some(b.clone()) }),
        (Ok(copy), Err(_)) | (Err(_), Ok(copy)) => Ok(Copies { current: copy.clone(), other: None }),
        (Err(HeaderError::NoMagic), Err(HeaderError::NoMagic)) => {
            Err(Error::new(ErrorKind::NotAContainer, "no known header"))
        }
        (Err(HeaderError::NoMagic), Err(error)) | (Err(error), Err(_)) => {
            Err(Error::new(ErrorKind::Damaged, format!("no header copy is whole: {error}")))
        }
    }
}

/// The mapping of the data area: one segment, one key, for each region (NAT-DATA-01 to -03).
pub(super) fn mapping(superblock: &Superblock, volume_key: &VolumeKey) -> Result<Mapping> {
    let geometry = &superblock.geometry;
    let mut segments = Vec::new();
    for region in 0..geometry.data_len.div_ceil(REGION_LEN) {
        let start = region * REGION_LEN;
        let bytes = REGION_LEN.min(geometry.data_len - start);
        let key = keys::data_key(volume_key, &superblock.uuid, region)?;
        let cipher =
            AesXts::aes256(key.expose()).map_err(|error| Error::caused_by(ErrorKind::Damaged, error))?;
        let first = Sector(start >> superblock.sector_size.shift());
        segments.push(Segment {
            first,
            sectors: bytes >> superblock.sector_size.shift(),
            storage_offset: geometry.data_offset + start,
            first_tweak: first,
            cipher: Arc::new(cipher) as Arc<dyn SectorCipher>,
        });
    }
    let holes = match superblock.provision {
        Provision::Thin => Holes::ReadAsZeros,
        Provision::Thick | Provision::Quick => Holes::AreCiphertext,
    };
    Mapping::new(superblock.sector_size, segments, holes)
        .map_err(|error| Error::caused_by(ErrorKind::Damaged, error))
}

/// A UUID as RFC 9562 writes it.
pub fn hyphenated(uuid: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend(
            [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or_default()),
        );
    }
    text
}
