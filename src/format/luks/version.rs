//! What a version of LUKS has of its own, and the [`Format`] that this makes.

use std::{ops::Range, sync::Arc};

use super::{
    Place, attach,
    backup::{self, LuksRestore},
    create::{Creation, LuksBlueprint},
    header_of,
};
use crate::{
    crypto::rng::Rng,
    error::{Error, ErrorKind, Result},
    format::{Blueprint, Erasure, Finding, Format, Header, HeaderBackup, HeaderRestore, Probe, Room, Wishes},
    storage::Storage,
};

/// LUKS1 or LUKS2.
pub(in crate::format) trait Version: Creation + Send + Sync {
    /// The name that `--format` takes and `info` prints.
    const NAME: &'static str;
    /// Where the areas of a usual header lie, in bytes. Those of a header that cannot be read are taken to lie there.
    const USUAL_AREAS: Range<u64>;

    /// Where the first bytes of further header copies may stand.
    const OTHER_COPIES: &'static [u64];

    /// A header that was read.
    type Header: LuksHeader;

    /// Whether a header may be there. Reads at most a few KiB.
    fn has_magic(header: &dyn Storage) -> Result<bool>;

    /// A header that is whole and names what is not supported, to be shown.
    ///
    /// # Errors
    /// `error`, with which it could not be read, where it is none.
    fn read_unopened(container: &dyn Storage, error: Error) -> Result<Box<dyn Header>> {
        let _ = container;
        Err(error)
    }
}

/// A header, as backups and examinations see it.
pub(in crate::format) trait LuksHeader: Header + Sized + 'static {
    /// Reads a header of a container of `container_len` bytes, and the areas of the keyslots that can be opened.
    ///
    /// # Errors
    /// `NotAContainer`, `Unsupported`; `Damaged`, also where the storage ends before an area does.
    fn read_from(place: Place<'_>, container_len: u64) -> Result<Self>;

    /// Reads the header of a container.
    ///
    /// # Errors
    /// As [`Self::read_from`].
    fn read(container: &dyn Storage) -> Result<Self> {
        Self::read_from(Place::of(container), container.size()?)
    }

    /// Reads a header file, the container of which is not there.
    ///
    /// # Errors
    /// As [`Self::read_from`].
    fn read_file(file: &dyn Storage) -> Result<Self> {
        Self::read_from(Place { storage: file, is_detached: true }, u64::MAX)
    }

    /// The place of the keyslots' areas in bytes. The header stands before them.
    fn areas(&self) -> Range<u64>;

    /// Whether the data are under one volume key by both.
    fn has_same_key(&self, other: &Self) -> bool;

    /// Why no secret can give the volume key, where that shows without one.
    fn closed(&self) -> Option<String>;

    /// The container to which the other copy of the header belongs, where that is another one.
    fn stranger(&self) -> Option<String> {
        None
    }

    /// All that can be found out without a secret.
    fn examine(&self) -> Vec<Finding>;

    /// Refuses a header that is of use only where it is.
    ///
    /// # Errors
    /// `Busy`.
    fn check_movable(&self) -> Result<()> {
        Ok(())
    }

    /// Refuses to be put in the place of `present`, where the format has more against it than both versions have.
    ///
    /// # Errors
    /// `Usage`.
    fn check_replaces(&self, _present: &Self) -> Result<()> {
        Ok(())
    }

    /// Makes both copies of the header whole, in the bytes of a container or of a backup that this was read from.
    ///
    /// # Errors
    /// What writing gave.
    fn complete(&self, _storage: &dyn Storage) -> Result<()> {
        Ok(())
    }

    /// Writes this header over that of a container, out of a backup's bytes: what stands before the areas, and the areas.
    ///
    /// # Errors
    /// What writing gave; `Io` where something else is read back.
    fn write_over(&self, front: &[u8], areas: &[u8], container: &dyn Storage) -> Result<()>;
}

/// A container that has room for whatever a header file says, in bytes; no offset in it leaves 63 bits.
const LONG_ENOUGH: u64 = 1 << 62;

impl<V: Version> Format for V {
    fn name(&self) -> &'static str {
        V::NAME
    }

    fn plan(&self, room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Box<dyn Blueprint>> {
        Ok(Box::new(LuksBlueprint::<V>::new(V::settle(room, wishes, rng)?)))
    }

    fn probe(&self, storage: &dyn Storage) -> Result<Probe> {
        Ok(if V::has_magic(header_of(storage))? { Probe::Match } else { Probe::NoMatch })
    }

    fn read_header(&self, storage: &dyn Storage) -> Result<Box<dyn Header>> {
        match V::Header::read(storage) {
            Ok(header) => Ok(Box::new(header)),
            Err(error) if error.kind() == ErrorKind::Unsupported => V::read_unopened(storage, error),
            Err(error) => Err(error),
        }
    }

    fn attach(
        &self,
        container: Arc<dyn Storage>,
        file: Arc<dyn Storage>,
    ) -> Result<Option<Arc<dyn Storage>>> {
        attach(self, &container, file)
    }

    /// One that ends before the data begin, or whose data begin at offset 0 of another file.
    fn read_header_file(&self, file: &dyn Storage) -> Result<Option<Box<dyn Header>>> {
        if file.header().is_some() || self.probe(file)? != Probe::Match {
            return Ok(None);
        }
        let place = Place { storage: file, is_detached: true };
        let size = file.size()?;
        let header = match V::Header::read_from(place, LONG_ENOUGH) {
            Ok(header) => header,
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let header = V::read_unopened(file, error)?;
                let is_alone = size <= header.describe().data_offset;
                return Ok(is_alone.then_some(header));
            }
            Err(error) => return Err(error),
        };
        let data_offset = header.describe().data_offset;
        if size < header.areas().end {
            return Ok(None); // A container that was cut short.
        }
        let is_alone = data_offset == 0 || size <= data_offset;
        if is_alone && data_offset != 0 {
            // Its keyslots may not reach into the data of the container that it belongs to.
            V::Header::read_from(Place { storage: file, is_detached: false }, LONG_ENOUGH)?;
        }
        Ok(is_alone.then(|| Box::new(header) as Box<dyn Header>))
    }

    fn take_backup(&self, container: &dyn Storage) -> Result<Box<dyn HeaderBackup>> {
        Ok(Box::new(backup::take::<V>(container)?))
    }

    fn restore(&self, container: &dyn Storage, file: &dyn Storage) -> Result<Option<Box<dyn HeaderRestore>>> {
        if self.probe(file)? != Probe::Match {
            return Ok(None);
        }
        Ok(Some(Box::new(LuksRestore::<V::Header>::new(container, file)?)))
    }

    fn traces(&self, len: u64) -> Vec<Range<u64>> {
        let starts = std::iter::once(&0).chain(V::OTHER_COPIES);
        starts.map(|start| *start.min(&len)..start.saturating_add(START_LEN).min(len)).collect()
    }

    fn erasure(&self, storage: &dyn Storage) -> Result<Erasure> {
        let areas = V::Header::read(storage).map_or(V::USUAL_AREAS, |header| header.areas());
        let len = header_of(storage).size()?;
        let last = areas.start.min(len)..areas.end.min(len);
        Ok(Erasure { spare: Vec::new(), rest: std::iter::once(0..last.start).collect(), last })
    }

    fn check(&self, storage: &dyn Storage) -> Result<Vec<Finding>> {
        match V::Header::read(storage) {
            Ok(header) => Ok(header.examine()),
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported) => {
                Ok(vec![Finding::error("header", error.reason_with_way())])
            }
            Err(error) => Err(error),
        }
    }
}

/// The first bytes of a header, without which nothing of it is found.
const START_LEN: u64 = 4_096;
