//! A header in a file of its own: a backup, or the detached header of a container (`spec/native-v1.md`, section 11).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use std::{cmp::Ordering, sync::Arc};

use zerocopy::{
    FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{U32, U64},
};

use super::{
    copies::{Copies, Place, in_place, read_copy, read_what_can_be_read},
    copy::HeaderCopy,
    error::HeaderError,
    layout::{COPY_LEN, COPY_LEN_U64, VERSION},
    remains::is_nearly,
    slots::refuse_outdated,
    superblock::{CopyIndex, Geometry, Superblock},
};
use crate::{
    crypto::hash,
    error::{Error, ErrorKind, Result},
    format::hyphenated,
    storage::{Overlay, Storage, Window},
};

/// NAT-HF-01: built as the container's magic is, so that a text-mode transfer shows.
pub(super) const FILE_MAGIC: [u8; 16] = *b"\x89STRONGHEAD\r\n\x1a\n\0";
/// The size of the preamble in bytes.
pub(super) const PREAMBLE_LEN: usize = 4_096;
const PREAMBLE_LEN_U64: u64 = 4_096;
/// Where the two copies lie in the file, in bytes.
const PLACES: [u64; 2] = [PREAMBLE_LEN_U64, PREAMBLE_LEN_U64 + COPY_LEN_U64];
/// The size of a header file in bytes.
pub const HEADER_FILE_LEN: u64 = PREAMBLE_LEN_U64 + 2 * COPY_LEN_U64;

/// Section 11.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawPreamble {
    magic: [u8; 16],
    version: U32,
    preamble_len: U32,
    uuid: [u8; 16],
    container_len: U64,
    data_offset: U64,
    data_len: U64,
    backup_offset: U64,
    reserved: [u8; 3_992],
    checksum: [u8; 32],
}

const _: () = assert!(size_of::<RawPreamble>() == PREAMBLE_LEN);
const _: () = assert!(std::mem::offset_of!(RawPreamble, checksum) == 4_064);

/// What the preamble of a header file says: which container's header it is, and where that one's header copies belong.
///
/// None of it changes with keys or passwords, so an update of a detached header never touches the preamble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderFile {
    /// The container's identity.
    pub uuid: [u8; 16],
    /// The container's geometry.
    pub geometry: Geometry,
}

impl HeaderFile {
    /// The header file of the container that `copy` describes.
    pub(super) fn of(copy: &HeaderCopy) -> Self {
        Self { uuid: copy.superblock.uuid, geometry: copy.superblock.geometry }
    }

    /// Whether `storage` starts as a header file does.
    pub fn is_one(storage: &dyn Storage) -> Result<bool> {
        if storage.size()? < PREAMBLE_LEN_U64 {
            return Ok(false);
        }
        let mut magic = [0; FILE_MAGIC.len()];
        // What cannot be read may still be a container with a copy B.
        Ok(storage.read_exact_at(&mut magic, 0).is_ok() && magic == FILE_MAGIC)
    }

    /// Reads a header file: its preamble, and whether what follows belongs to it.
    ///
    /// # Errors
    /// As [`Self::find`]; `NotAContainer` where it is not a header file.
    pub fn read(storage: &dyn Storage) -> Result<Self> {
        Self::find(storage)?.ok_or_else(|| explain(HeaderError::NoMagic))
    }

    /// The same; `None` where it is not a header file. A damaged preamble is made anew from the copies (NAT-HF-11).
    ///
    /// # Errors
    /// `Unsupported` for one of another version, `Damaged`.
    pub fn find(storage: &dyn Storage) -> Result<Option<Self>> {
        let size = storage.size()?;
        let mut bytes = vec![0; PREAMBLE_LEN.min(usize::try_from(size).unwrap_or(PREAMBLE_LEN))];
        read_what_can_be_read(storage, &mut bytes, 0);
        let has_magic = bytes.starts_with(&FILE_MAGIC);
        let copies = Self::copies_in(storage);
        let parsed = match Self::parse(&bytes) {
            _ if has_magic && size < PREAMBLE_LEN_U64 => return Err(explain(HeaderError::CutOff)),
            Err(error @ (HeaderError::NoMagic | HeaderError::Checksum)) => {
                let Some(copy) = copies.first() else {
                    return if has_magic { Err(explain(error)) } else { Ok(None) };
                };
                let is_container_behind = copy.superblock.index == CopyIndex::A
                    && copy.superblock.geometry.container_len.saturating_add(PREAMBLE_LEN_U64) <= size;
                if !has_magic && is_container_behind {
                    return Ok(None);
                }
                if legible_uuid(&bytes).is_some_and(|uuid| !is_nearly(&uuid, &copy.superblock.uuid)) {
                    return Err(spliced());
                }
                Self::of(copy)
            }
            parsed => parsed.map_err(explain)?,
        };
        if size < HEADER_FILE_LEN && copies.is_empty() {
            return Err(explain(HeaderError::CutOff)); // NAT-HF-03
        }
        if copies.iter().any(|copy| Self::of(copy) != parsed) {
            return Err(spliced());
        }
        Ok(Some(parsed))
    }

    /// The whole copies in a header file, each in its place.
    fn copies_in(storage: &dyn Storage) -> Vec<HeaderCopy> {
        let read = |index: CopyIndex| {
            let copy = read_copy(storage, place_of(index)).ok()?;
            in_place(Ok(copy.clone()), index, copy.offset()).ok()
        };
        [CopyIndex::A, CopyIndex::B].into_iter().filter_map(read).collect()
    }

    /// NAT-HF-11: writes the preamble of the header file that `storage` is seen through, where it is not what `good` says.
    ///
    /// # Errors
    /// What writing gave.
    pub(super) fn heal(storage: &dyn Storage, good: &HeaderCopy) -> Result<Option<String>> {
        let Some(file) = storage.layers().map(|layers| layers.top) else { return Ok(None) };
        let (right, mut there) = (Self::of(good).to_bytes(), [0; PREAMBLE_LEN]);
        if file.read_exact_at(&mut there, 0).is_ok() && there == right {
            return Ok(None);
        }
        file.write_all_at(&right, 0)?;
        file.sync_data()?;
        Ok(Some("the start of the header file was damaged and has been rewritten from its header".to_owned()))
    }

    /// Reads a preamble (NAT-HF-01, -02).
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        if !bytes.starts_with(&FILE_MAGIC) {
            return Err(HeaderError::NoMagic);
        }
        let raw = RawPreamble::read_from_bytes(bytes).map_err(|_| HeaderError::Checksum)?;
        if raw.checksum != checksum(&raw) {
            return Err(HeaderError::Checksum);
        }
        if raw.version.get() != VERSION {
            return Err(HeaderError::Version { version: raw.version.get() });
        }
        if u32::try_from(PREAMBLE_LEN) != Ok(raw.preamble_len.get()) {
            let value = u64::from(raw.preamble_len.get());
            return Err(HeaderError::Field { field: "preamble length", value });
        }
        if raw.reserved.iter().any(|&byte| byte != 0) {
            return Err(HeaderError::Reserved { place: "preamble" });
        }
        let geometry = Geometry {
            data_offset: raw.data_offset.get(),
            data_len: raw.data_len.get(),
            container_len: raw.container_len.get(),
            backup_offset: raw.backup_offset.get(),
        };
        Ok(Self { uuid: raw.uuid, geometry: geometry.checked()? })
    }

    /// The bytes of the preamble.
    pub fn to_bytes(&self) -> [u8; PREAMBLE_LEN] {
        let mut raw = RawPreamble::new_zeroed();
        raw.magic = FILE_MAGIC;
        raw.version = VERSION.into();
        raw.preamble_len = u32::try_from(PREAMBLE_LEN).unwrap_or_default().into();
        raw.uuid = self.uuid;
        raw.container_len = self.geometry.container_len.into();
        raw.data_offset = self.geometry.data_offset.into();
        raw.data_len = self.geometry.data_len.into();
        raw.backup_offset = self.geometry.backup_offset.into();
        raw.checksum = checksum(&raw);
        zerocopy::transmute!(raw)
    }

    /// A container whose header lies in `file` (NAT-HF-05): all that reads and writes a header works on it unchanged.
    ///
    /// # Errors
    /// `Damaged` where the geometry leaves no room for the copies.
    pub fn over(&self, container: Arc<dyn Storage>, file: Arc<dyn Storage>) -> Result<Overlay> {
        let window = |index: CopyIndex| {
            let shown = index.offset_in(&self.geometry);
            Window { shown: shown..shown.saturating_add(COPY_LEN_U64), source: place_of(index) }
        };
        Overlay::new(container, file, vec![window(CopyIndex::A), window(CopyIndex::B)])
            .map_err(|error| Error::caused_by(ErrorKind::Damaged, error))
    }

    /// What stands in the place of one copy.
    pub(super) fn read_place(&self, file: &dyn Storage, index: CopyIndex) -> Place {
        Place::read_from(file, place_of(index), index, index.offset_in(&self.geometry))
    }

    /// Writes a whole header file, zeros in the place of a copy that is not given, and reads it back.
    pub(super) fn write(&self, storage: &dyn Storage, copies: [Option<&HeaderCopy>; 2]) -> Result<()> {
        let mut bytes = self.to_bytes().to_vec();
        for copy in copies {
            match copy {
                Some(copy) => bytes.extend_from_slice(copy.as_bytes()),
                None => bytes.resize(bytes.len().saturating_add(COPY_LEN), 0),
            }
        }
        storage.write_all_at(&bytes, 0)?;
        storage.sync_data()?;
        let mut back = vec![0; bytes.len()];
        storage.read_exact_at(&mut back, 0)?;
        if back == bytes {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, "the header file does not read back as it was written"))
    }

    /// NAT-HF-06: refuses a container that bears another header in its own places: under this one its data would be
    /// garbage, and a file system check would write to it.
    ///
    /// # Errors
    /// `Usage`.
    pub fn check_against(&self, container: &dyn Storage, file: &dyn Storage) -> Result<()> {
        let detached = Copies::of_header_file(self, file)?;
        let own = OwnCopies::read(container, detached.current())?;
        let hint = if own.do_count {
            "the container has a header of its own: leave --header out"
        } else {
            "without --header, strongroom header repair --scan puts the container's own header back, after asking"
        };
        own.copies.iter().try_for_each(|own| {
            check_same_data(own, detached.current()).map_err(|error| error.with_hint(hint))
        })
    }
}

/// The whole copies in the places where a container has its own: found as without a header file, and where `detached`, its
/// header in a file, has copy B. Those that records show to be old are left out, where that one is not (NAT-REENC-17).
struct OwnCopies {
    copies: Vec<HeaderCopy>,
    /// Whether they open the container where no header file is given (NAT-RD-07).
    do_count: bool,
}

impl OwnCopies {
    /// # Errors
    /// `Unsupported`, and what reading gave.
    fn read(container: &dyn Storage, detached: &HeaderCopy) -> Result<Self> {
        let (mut copies, do_count) = match Copies::read(container) {
            Ok(own) => (own.whole().cloned().collect(), true),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotAContainer | ErrorKind::Damaged | ErrorKind::Io) =>
            {
                (Vec::new(), false)
            }
            Err(error) => return Err(error),
        };
        let b = Place::read(container, CopyIndex::B, detached.superblock.geometry.backup_offset).found.ok();
        copies
            .extend(b.filter(|copy| copies.iter().all(|known: &HeaderCopy| known.offset() != copy.offset())));
        let is_old = |copy: &HeaderCopy| refuse_outdated(container, &copy.superblock).is_err();
        if !is_old(detached) {
            copies.retain(|copy| !is_old(copy));
        }
        Ok(Self { copies, do_count })
    }

    /// NAT-HF-12: the first that forbids writing under `detached`. One that opens nothing, and is no newer, shuts nobody out.
    fn rival(&self, detached: &HeaderCopy) -> Option<&HeaderCopy> {
        let is_superseded = |copy: &HeaderCopy| {
            copy.is_of_same_container(detached)
                && copy.superblock.generation == detached.superblock.generation
                && !copy.is_update_of(detached)
        };
        self.copies.iter().find(|copy| self.do_count || !is_superseded(copy))
    }
}

/// Why nothing may be written under a header in a file, and the way out.
#[derive(Debug, Clone)]
pub(super) struct Rival {
    /// What there is in the container itself.
    pub(super) said: String,
    /// What to do.
    pub(super) hint: &'static str,
}

/// NAT-HF-12: why nothing may be written under `detached`, the header in a file that `storage` is seen through: the container
/// bears one of its own, or what is left of another.
///
/// # Errors
/// As [`OwnCopies::read`].
pub(super) fn own_header(storage: &dyn Storage, detached: &HeaderCopy) -> Result<Option<Rival>> {
    let Some(container) = storage.layers().map(|layers| layers.base) else { return Ok(None) };
    let own = OwnCopies::read(container, detached)?;
    if let Some(rival) = own.rival(detached) {
        let sequences = format!(
            "sequence {}, the header file has {}",
            rival.superblock.sequence, detached.superblock.sequence
        );
        return Ok(Some(if own.do_count {
            Rival {
                said: format!("the container has a header of its own ({sequences}), and that one counts"),
                hint: "leave --header out to write; with --read-only the header file is only looked into",
            }
        } else {
            Rival {
                said: format!("a newer header copy is left in the container itself ({sequences})"),
                hint: "--read-only opens it; without --header, strongroom header repair --scan puts the container's own header back, \
                       after asking",
            }
        }));
    }
    let damaged = [CopyIndex::A, CopyIndex::B].into_iter().find_map(|index| {
        let offset = index.offset_in(&detached.superblock.geometry);
        Place::read(container, index, offset).damaged_other(detached, index)
    });
    Ok(damaged.map(|damaged| Rival {
        said: format!(
            "header copy {} in the container itself is damaged, and may be newer than the header file, or of another container",
            damaged.index
        ),
        hint: "--read-only opens it; strongroom header restore, without --header, puts that of the header file in its place, after asking",
    }))
}

/// Whether both describe the same data.
///
/// # Errors
/// `Usage` where they do not.
pub(super) fn check_same_data(own: &HeaderCopy, from_file: &HeaderCopy) -> Result<()> {
    if !own.is_of_same_container(from_file) {
        let (own, other) = (hyphenated(&own.superblock.uuid), hyphenated(&from_file.superblock.uuid));
        let reason = format!("the header file belongs to container {other}, and this one is {own}");
        return Err(Error::new(ErrorKind::Usage, reason)
            .with_hint("strongroom info on both says which is which; each header file goes with the container that it was made of"));
    }
    if !own.superblock.lays_out_as(&from_file.superblock) {
        return Err(Error::new(ErrorKind::Usage, what_happened(&own.superblock, &from_file.superblock)));
    }
    Ok(())
}

/// Why two headers of one container do not describe the same data.
fn what_happened(own: &Superblock, from_file: &Superblock) -> String {
    let (there, here) = (own.generation, from_file.generation);
    let generations = format!("(generation {here} in the file, {there} in the container)");
    match there.cmp(&here) {
        Ordering::Greater if there % 2 == 1 => {
            format!("a re-encryption of the container has begun since the header file was made {generations}")
        }
        Ordering::Greater => {
            format!("the container was re-encrypted since the header file was made {generations}")
        }
        Ordering::Less => format!(
            "the container is from before the re-encryption after which the header file was made {generations}"
        ),
        Ordering::Equal => {
            "the container was resized or laid out anew since the header file was made".to_owned()
        }
    }
}

/// Where a copy lies in a header file.
const fn place_of(index: CopyIndex) -> u64 {
    let [a, b] = PLACES;
    match index {
        CopyIndex::A => a,
        CopyIndex::B => b,
    }
}

/// The uuid in a damaged preamble, where most of its magic stands: it is that of the header's container (NAT-HF-11).
fn legible_uuid(bytes: &[u8]) -> Option<[u8; 16]> {
    let raw = RawPreamble::read_from_bytes(bytes).ok()?;
    (is_nearly(&raw.magic, &FILE_MAGIC) && raw.uuid != [0; 16]).then_some(raw.uuid)
}

/// NAT-HF-04.
fn spliced() -> Error {
    let reason = "the header file is made of parts that do not belong together";
    Error::new(ErrorKind::Damaged, reason).with_hint(ANOTHER_FILE)
}

fn checksum(raw: &RawPreamble) -> [u8; 32] {
    let mut preamble = *raw;
    preamble.checksum.zero();
    let bytes = preamble.as_bytes();
    hash::sha256(&[bytes.get(..std::mem::offset_of!(RawPreamble, checksum)).unwrap_or(bytes)])
}

fn explain(error: HeaderError) -> Error {
    match error {
        HeaderError::NoMagic => Error::new(ErrorKind::NotAContainer, "it is not a header file")
            .with_hint("strongroom header backup makes one"),
        HeaderError::CutOff => {
            Error::new(ErrorKind::Damaged, "the header file is cut off").with_hint(ANOTHER_FILE)
        }
        error if error.is_unsupported() => error.into(),
        error => Error::from(error).with_hint(ANOTHER_FILE),
    }
}

const ANOTHER_FILE: &str = "use another copy of the header file; the container itself is as it was";
