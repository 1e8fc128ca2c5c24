//! The native format, version 1: `spec/native-v1.md`, whose rule numbers (`NAT-...`) the code cites.

mod backup;
mod check;
mod checksum;
mod copies;
mod copy;
mod create;
mod data;
mod doubts;
mod editor;
mod erasure;
mod error;
mod fido2;
mod front;
mod header;
mod header_file;
mod keys;
mod keyslot;
mod layout;
mod ledger;
mod outgrown;
mod record;
mod reencryption;
mod remains;
mod repair;
mod resize;
mod scan;
mod shrink;
mod slots;
mod suite;
mod superblock;
#[cfg(test)]
mod tests;
mod transition;
mod update;
mod wipe;

pub use backup::{Backup, ForeignCopy, Restore};
pub use checksum::{BLOCK_LEN, BlockHash, ChunkKey};
pub use copies::left_behind;
pub use copy::HeaderCopy;
use create::NativeBlueprint;
pub use create::{MIN_CONTAINER_LEN, NewContainer, NewHeader};
pub use doubts::WayIn;
pub use error::HeaderError;
pub use header::NativeHeader;
pub use header_file::{HEADER_FILE_LEN, HeaderFile};
pub use keys::{data_key, keyfile_digest, piece_map_key};
pub use keyslot::{Keyslot, MIN_MEMORY_KIB, MIN_PASSES, SlotKind};
pub use layout::COPY_LEN;
pub use ledger::{Ledger, WorkAreas};
pub use record::{Entry, Record, Trace};
pub use reencryption::OldVolume;
pub use remains::DamagedOther;
pub use repair::{CopyFault, Fault};
pub(in crate::format) use scan::each_sector;
pub use scan::{FoundCopy, Scan, scan};
pub use suite::Suite;
pub use superblock::{CopyIndex, Geometry, Label, Superblock};
pub use transition::{StartHeader, Target, UnderWay};

use std::{ops::Range, sync::Arc};

pub use crate::format::{Provision, hyphenated, new_uuid};
use crate::{
    crypto::rng::Rng,
    error::Result,
    format::{Blueprint, Erasure, Finding, Format, Header, HeaderBackup, HeaderRestore, Probe, Room, Wishes},
    storage::Storage,
};

/// The native format.
#[derive(Debug, Clone, Copy)]
pub struct Native;

impl Format for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn probe(&self, storage: &dyn Storage) -> Result<Probe> {
        Ok(if copies::has_magic(storage)? { Probe::Match } else { Probe::NoMatch })
    }

    fn read_header(&self, storage: &dyn Storage) -> Result<Box<dyn Header>> {
        Ok(Box::new(NativeHeader::read(storage)?))
    }

    fn plan(&self, room: Room, wishes: &Wishes<'_>, rng: &dyn Rng) -> Result<Box<dyn Blueprint>> {
        Ok(Box::new(NativeBlueprint::new(room, wishes, rng)?))
    }

    fn attach(
        &self,
        container: Arc<dyn Storage>,
        file: Arc<dyn Storage>,
    ) -> Result<Option<Arc<dyn Storage>>> {
        let Some(parsed) = HeaderFile::find(&*file)? else { return Ok(None) };
        parsed.check_against(&*container, &*file)?;
        Ok(Some(Arc::new(parsed.over(container, file)?)))
    }

    fn read_header_file(&self, file: &dyn Storage) -> Result<Option<Box<dyn Header>>> {
        let Some(parsed) = HeaderFile::find(file)? else { return Ok(None) };
        Ok(Some(Box::new(NativeHeader::of_header_file(&parsed, file)?)))
    }

    fn take_backup(&self, container: &dyn Storage) -> Result<Box<dyn HeaderBackup>> {
        Ok(Box::new(Backup::take(container)?))
    }

    fn restore(&self, container: &dyn Storage, file: &dyn Storage) -> Result<Option<Box<dyn HeaderRestore>>> {
        if HeaderFile::find(file)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Box::new(Restore::from_file(container, file)?)))
    }

    fn traces(&self, len: u64) -> Vec<Range<u64>> {
        erasure::traces(len)
    }

    fn erasure(&self, storage: &dyn Storage) -> Result<Erasure> {
        erasure::erasure(storage)
    }

    fn check(&self, storage: &dyn Storage) -> Result<Vec<Finding>> {
        check::check(storage)
    }
}
