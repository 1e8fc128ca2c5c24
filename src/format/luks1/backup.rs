//! Taking a copy of the header, and putting it back.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)]

use super::{header::Luks1Header, layout::FIRST_AREA};
use crate::{
    error::{Error, ErrorKind, Result},
    format::{
        Header, HeaderInfo, HeaderRestore, Unlocked,
        luks::{
            backup::{LuksBackup, compare, read_front, write_checked},
            header_of,
        },
    },
    storage::Storage,
};

/// Copies header and areas (L1-BACKUP-01).
///
/// # Errors
/// As reading the header.
pub(super) fn take(container: &dyn Storage) -> Result<LuksBackup> {
    let header = Luks1Header::read(container)?;
    let bytes = read_front(header_of(container), header.areas_end())?;
    Ok(LuksBackup { uuid: header.describe().uuid, left_out: Vec::new(), is_settled: true, bytes })
}

/// A header about to be put in the place of what a container has.
#[derive(Debug)]
pub(super) struct Luks1Restore {
    source: Luks1Header,
    present: Option<Luks1Header>,
    warnings: Vec<String>,
    bytes: Vec<u8>,
}

impl Luks1Restore {
    /// Compares `file` with the container (L1-BACKUP-02).
    ///
    /// # Errors
    /// As [`compare`]; those of reading the header in `file`.
    pub(super) fn new(container: &dyn Storage, file: &dyn Storage) -> Result<Self> {
        let source = Luks1Header::read_file(file)?;
        let present = match Luks1Header::read(container) {
            Ok(header) => Some(header),
            Err(error) if matches!(error.kind(), ErrorKind::NotAContainer | ErrorKind::Damaged) => None,
            Err(error) => return Err(error),
        };
        let is_same_key = present.as_ref().is_some_and(|present| present.has_same_key(&source));
        let there = present.as_ref().map(|header| -> &dyn Header { header });
        let warnings = compare(&source, there, container.size()?, is_same_key)?;
        let bytes = read_front(file, source.areas_end())?;
        Ok(Self { source, present, warnings, bytes })
    }
}

impl HeaderRestore for Luks1Restore {
    fn source(&self) -> &dyn Header {
        &self.source
    }

    fn present(&self) -> Option<HeaderInfo> {
        self.present.as_ref().map(Header::describe)
    }

    fn takes_secret(&self) -> bool {
        false
    }

    fn overwritten(&self) -> usize {
        self.bytes.len()
    }

    fn warnings(&self, _: Option<&Unlocked>) -> Vec<String> {
        self.warnings.clone()
    }

    /// L1-BACKUP-03: the areas, then the header that names them.
    fn write(&self, container: &dyn Storage, _: Option<&Unlocked>) -> Result<()> {
        let storage = header_of(container);
        let first_area = usize::try_from(FIRST_AREA).unwrap_or_default();
        let (header, areas) = self
            .bytes
            .split_at_checked(first_area)
            .ok_or_else(|| Error::new(ErrorKind::Damaged, "the header to be restored is cut off"))?;
        write_checked(storage, areas, FIRST_AREA)?;
        write_checked(storage, header, 0)
    }
}
