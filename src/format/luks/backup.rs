//! A header in a file of its own, as `cryptsetup luksHeaderBackup` makes it: the bytes from the container's start to the end
//! of the keyslots' areas.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{
    header_of, magic_at,
    version::{LuksHeader, Version},
};
use crate::{
    error::{Error, ErrorKind, Result},
    format::{
        CopyState, Header, HeaderBackup, HeaderInfo, HeaderRestore, OLDER_PASSWORDS, Unlocked, looks_random,
    },
    storage::{MemoryStorage, Storage, holds_zeros},
};

/// Copies all header copies and the areas (L1-BACKUP-01, L2-BACKUP-01).
///
/// # Errors
/// As reading the header; `Busy` during a re-encryption.
pub(super) fn take<V: Version>(container: &dyn Storage) -> Result<LuksBackup> {
    let header = V::Header::read(container)?;
    header.check_movable()?;
    if let Some(stranger) = header.stranger() {
        let reason = format!("its two header copies belong to different containers; one is {stranger}");
        return Err(Error::new(ErrorKind::Damaged, reason).with_hint(
            "strongroom header repair --scan tells of both, and makes a header of the right one",
        ));
    }
    let info = header.describe();
    let states = ["first", "second"].into_iter().zip(&info.headers);
    let broken = states.filter(|(_, copy)| matches!(copy.state, CopyState::Damaged | CopyState::Missing));
    let left_out = broken.map(|(name, _)| name.to_owned()).collect();
    let is_settled = info.headers.iter().all(|copy| copy.state == CopyState::Current);
    let front = MemoryStorage::new(read_front(header_of(container), header.areas().end)?);
    header.complete(&front)?;
    let bytes = front.to_vec();
    let closed = header.closed();
    Ok(LuksBackup { uuid: info.uuid, left_out, is_settled, closed, bytes, check: check_file::<V> })
}

/// The bytes of a header and of its keyslots.
#[derive(Debug)]
pub(super) struct LuksBackup {
    uuid: Option<String>,
    left_out: Vec<String>,
    is_settled: bool,
    closed: Option<String>,
    bytes: Vec<u8>,
    /// Refuses a file that could not be restored.
    check: fn(&dyn Storage) -> Result<()>,
}

impl HeaderBackup for LuksBackup {
    fn uuid(&self) -> Option<String> {
        self.uuid.clone()
    }

    fn left_out(&self) -> Vec<String> {
        self.left_out.clone()
    }

    fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    fn is_settled(&self) -> bool {
        self.is_settled
    }

    fn write(&self, file: &dyn Storage) -> Result<()> {
        write_checked(file, &self.bytes, 0)?;
        (self.check)(file)
    }
}

/// Reads a backup as restoring it does.
///
/// # Errors
/// `Damaged` where it would not be taken for a header.
fn check_file<V: Version>(file: &dyn Storage) -> Result<()> {
    let refused = |why: &str| {
        let reason = format!("the backup could not be restored: {why}");
        Error::new(ErrorKind::Damaged, reason)
    };
    if !V::has_magic(file)? {
        return Err(refused("it does not start like a header"));
    }
    V::Header::read_file(file).map(drop).map_err(|error| refused(error.reason()))
}

/// A header about to be put in the place of what a container has.
#[derive(Debug)]
pub(super) struct LuksRestore<H> {
    source: H,
    present: Option<H>,
    warnings: Vec<String>,
    /// The header that is there is another volume's.
    loses: Option<String>,
    /// Key material is still there that belongs to this header.
    is_recognised: bool,
    bytes: Vec<u8>,
}

impl<H: LuksHeader> LuksRestore<H> {
    /// Compares `file` with the container (L1-BACKUP-02, L2-BACKUP-02).
    ///
    /// # Errors
    /// As [`compare`], [`LuksHeader::check_movable`] and [`LuksHeader::check_replaces`]; those of reading the header in `file`.
    pub(super) fn new(container: &dyn Storage, file: &dyn Storage) -> Result<Self> {
        let source = H::read_file(file).map_err(|error| match error.kind() {
            // What gets on with a container does not with its backup.
            ErrorKind::Damaged => Error::new(ErrorKind::Damaged, error.reason()),
            _ => error,
        })?;
        let present = match H::read(container) {
            Ok(header) => Some(header),
            Err(error) if matches!(error.kind(), ErrorKind::NotAContainer | ErrorKind::Damaged) => None,
            // Asked for by force, or it would have been refused before: that of the other version.
            Err(_) if bears_other_version(container, source.describe().version)? => None,
            Err(error) => return Err(error),
        };
        for header in present.iter().chain([&source]) {
            header.check_movable()?;
        }
        if let Some(present) = &present {
            source.check_replaces(present)?;
        }
        let warnings = compare(&source, present.as_ref(), container.size()?)?;
        let bytes = read_front(file, source.areas().end)?;
        let loses = present.as_ref().and_then(|present| stranger(&source, present));
        let is_recognised = shares_material(&source, &bytes, container);
        if present.is_none() {
            refuse_over_data(&source, container, is_recognised)?;
        }
        Ok(Self { source, present, warnings, loses, is_recognised, bytes })
    }
}

impl<H: LuksHeader> LuksRestore<H> {
    /// The container's own header, as `view` shows it, to be written whole again. `other` shows what stands in the place of its
    /// other copy, where one of the two was chosen.
    ///
    /// # Errors
    /// Those of reading the header in `view`; [`LuksHeader::check_movable`]; `Usage` where `view` shows copies of two containers.
    pub(super) fn rebuild(
        container: &dyn Storage,
        view: &dyn Storage,
        other: Option<&dyn Storage>,
    ) -> Result<Self> {
        let source = H::read_file(view)?;
        source.check_movable()?;
        if source.stranger().is_some() {
            return Err(Error::new(
                ErrorKind::Usage,
                "copies of two containers stand in its header's places",
            ));
        }
        let uuid = source.describe().uuid;
        let there = other.and_then(|other| H::read_file(other).ok());
        let there = there.filter(|there| there.describe().uuid != uuid);
        let present = there.or_else(|| H::read(container).ok());
        let loses = present.as_ref().and_then(|present| {
            let ours = present.describe().uuid.filter(|ours| Some(ours) != uuid.as_ref());
            stranger(&source, present).or_else(|| {
                ours.map(|ours| {
                    format!("one of its copies is of another container ({ours}), and would be lost")
                })
            })
        });
        let bytes = read_front(view, source.areas().end)?;
        Ok(Self { source, present, warnings: Vec::new(), loses, is_recognised: true, bytes })
    }
}

impl<H: LuksHeader> HeaderRestore for LuksRestore<H> {
    fn source(&self) -> &dyn Header {
        &self.source
    }

    fn present(&self) -> Option<HeaderInfo> {
        self.present.as_ref().map(Header::describe)
    }

    fn takes_secret(&self) -> bool {
        false
    }

    fn is_recognised(&self) -> bool {
        self.is_recognised
    }

    fn overwritten(&self) -> usize {
        self.bytes.len()
    }

    fn loses(&self, _: Option<&Unlocked>) -> Option<String> {
        self.loses.clone()
    }

    fn warnings(&self, _: Option<&Unlocked>) -> Vec<String> {
        self.warnings.clone()
    }

    fn write(&self, container: &dyn Storage, _: Option<&Unlocked>) -> Result<()> {
        let start = usize::try_from(self.source.areas().start).ok();
        let (front, areas) = start
            .and_then(|start| self.bytes.split_at_checked(start))
            .ok_or_else(|| Error::new(ErrorKind::Damaged, "the header to be restored is cut off"))?;
        self.source.write_over(front, areas, container)
    }
}

/// Whether a sector of key material stands in the container as in the front of it that is to be restored. What cannot be read shows
/// nothing.
fn shares_material<H: LuksHeader>(source: &H, front: &[u8], container: &dyn Storage) -> bool {
    let areas = source.areas();
    let Some(mut offset) = usize::try_from(areas.start).ok() else { return false };
    while let Some(wanted) = offset.checked_add(SECTOR).and_then(|end| front.get(offset..end)) {
        let at = u64::try_from(offset).unwrap_or(u64::MAX);
        let mut found = [0; SECTOR];
        if looks_random(wanted)
            && header_of(container).read_exact_at(&mut found, at).is_ok()
            && found.as_slice() == wanted
        {
            return true;
        }
        offset = offset.saturating_add(SECTOR);
    }
    false
}

/// Whether a LUKS header of the known version stands there that is not `version`.
fn bears_other_version(container: &dyn Storage, version: u32) -> Result<bool> {
    let magic = magic_at(header_of(container), 0)?;
    Ok(
        matches!(magic, Some([b'L', b'U', b'K', b'S', 0xba, 0xbe, 0, there @ (1 | 2)]) if u32::from(there) != version),
    )
}

/// Refuses a detached header for a container with data where the header would stand. A header file holds no
/// more than that, key material of its own (`is_recognised`) or zeros.
///
/// # Errors
/// `Usage`; what reading gave.
fn refuse_over_data<H: LuksHeader>(source: &H, container: &dyn Storage, is_recognised: bool) -> Result<()> {
    let (data, end) = (source.describe().data_offset, source.areas().end);
    let is_header_file = || Ok::<_, Error>(is_recognised && container.size()? <= end || is_blank(container)?);
    if container.header().is_some() || data >= end || is_header_file()? {
        return Ok(());
    }
    let reason = format!("it is a detached header: the data begin at byte {data}, and would be overwritten");
    Err(Error::new(ErrorKind::Usage, reason)
        .with_hint("strongroom mount takes the container, and this file with --header"))
}

/// Whether a file that is no larger than a header may be holds zeros alone.
fn is_blank(file: &dyn Storage) -> Result<bool> {
    let size = file.size()?;
    Ok(size <= LARGEST_FILE && holds_zeros(file, 0..size)?)
}

const SECTOR: usize = 512;
/// In bytes: that of the largest header, with keyslots for every size.
const LARGEST_FILE: u64 = 64 << 20;

/// Why the data of the container would be lost with the header that is there.
fn stranger<H: LuksHeader>(source: &H, present: &H) -> Option<String> {
    let (ours, theirs) = (present.describe().uuid, source.describe().uuid);
    // A UUID can be changed, and the digest of the volume key cannot.
    if present.has_same_key(source) {
        return None;
    }
    if ours != theirs {
        let ours = ours.unwrap_or_else(|| "without a UUID".to_owned());
        return Some(format!("it bears the header of another container ({ours}), whose data would be lost"));
    }
    Some("its header has another volume key, and the data under that would be lost".to_owned())
}

/// The first `len` bytes.
///
/// # Errors
/// `Damaged` where there are fewer.
fn read_front(storage: &dyn Storage, len: u64) -> Result<Vec<u8>> {
    if storage.size()? < len {
        return Err(Error::new(ErrorKind::Damaged, "it ends within the keyslots' areas"));
    }
    let len = usize::try_from(len).map_err(|error| Error::caused_by(ErrorKind::Unsupported, error))?;
    let mut bytes = vec![0; len];
    storage.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Writes, syncs and reads back.
///
/// # Errors
/// What writing gave; `Io` where something else is read back.
pub(in crate::format) fn write_checked(storage: &dyn Storage, bytes: &[u8], offset: u64) -> Result<()> {
    write_checked_as("what was written", storage, bytes, offset)
}

/// The same; the error calls the bytes `what`.
pub(in crate::format) fn write_checked_as(
    what: &str,
    storage: &dyn Storage,
    bytes: &[u8],
    offset: u64,
) -> Result<()> {
    storage.write_all_at(bytes, offset)?;
    storage.sync_data()?;
    let mut found = vec![0; bytes.len()];
    storage.read_exact_at(&mut found, offset)?;
    if found == bytes {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, format!("{what} reads back differently from what was written")))
}

/// Refuses a header that does not fit the data (as cryptsetup does), and tells what else speaks against it.
///
/// # Errors
/// `Usage` where the data lie elsewhere or have a key of another length, `Damaged` where the container is too short.
fn compare<H: LuksHeader>(source: &H, present: Option<&H>, container_len: u64) -> Result<Vec<String>> {
    let is_same_key = present.is_some_and(|present| present.has_same_key(source));
    let source = source.describe();
    if container_len < source.data_offset {
        let reason =
            format!("the container has {container_len} bytes, and its data begin at {}", source.data_offset);
        return Err(Error::new(ErrorKind::Damaged, reason));
    }
    let Some(present) = present.map(Header::describe) else { return Ok(Vec::new()) };
    let mut warnings = Vec::new();
    if source.data_offset != present.data_offset {
        let (there, other) = (present.data_offset, source.data_offset);
        let reason = format!("the data begin at {there}, and at {other} in the header to be restored");
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    // Without a keyslot left nothing says how long the key is.
    if source.key_bits != present.key_bits && present.key_bits != 0 {
        let (there, other) = (present.key_bits, source.key_bits);
        let reason = format!("the volume key has {there} bits, and {other} in the header to be restored");
        return Err(Error::new(ErrorKind::Usage, reason));
    }
    if source.uuid != present.uuid {
        let name = |uuid: Option<String>| uuid.unwrap_or_else(|| "none".to_owned());
        let (there, other) = (name(present.uuid), name(source.uuid));
        warnings.push(format!("it is the header of another container: {other}, and this one is {there}"));
    }
    warnings.push(if is_same_key {
        OLDER_PASSWORDS.to_owned()
    } else {
        "it is not under the same volume key: what is in the container now is lost with it".to_owned()
    });
    Ok(warnings)
}
