//! A header in a file of its own, as `cryptsetup luksHeaderBackup` makes it: the bytes from the container's start to the end
//! of the keyslots' areas.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use crate::{
    error::{Error, ErrorKind, Result},
    format::{Header, HeaderBackup},
    storage::Storage,
};

/// The bytes of a header and of its keyslots.
#[derive(Debug)]
pub(in crate::format) struct LuksBackup {
    pub(in crate::format) uuid: Option<String>,
    pub(in crate::format) left_out: Vec<String>,
    pub(in crate::format) is_settled: bool,
    pub(in crate::format) bytes: Vec<u8>,
}

impl HeaderBackup for LuksBackup {
    fn uuid(&self) -> Option<String> {
        self.uuid.clone()
    }

    fn left_out(&self) -> Vec<String> {
        self.left_out.clone()
    }

    fn is_settled(&self) -> bool {
        self.is_settled
    }

    fn write(&self, file: &dyn Storage) -> Result<()> {
        write_checked(file, &self.bytes, 0)
    }
}

/// The first `len` bytes.
///
/// # Errors
/// `Damaged` where there are fewer.
pub(in crate::format) fn read_front(storage: &dyn Storage, len: u64) -> Result<Vec<u8>> {
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
    Err(Error::new(ErrorKind::Io, format!("{what} is read back otherwise")))
}

/// Refuses a header that does not fit the data (as cryptsetup does), and tells what else speaks against it.
///
/// # Errors
/// `Usage` where the data lie elsewhere or have a key of another length, `Damaged` where the container is too short.
pub(in crate::format) fn compare(
    source: &dyn Header,
    present: Option<&dyn Header>,
    container_len: u64,
    is_same_key: bool,
) -> Result<Vec<String>> {
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
    if source.key_bits != present.key_bits {
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
        crate::format::OLDER_PASSWORDS.to_owned()
    } else {
        "it is not under the same volume key: what is in the container now is lost with it".to_owned()
    });
    Ok(warnings)
}
