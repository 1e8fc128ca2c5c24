//! A file system that the server shows by itself, repaired first by `e2fsck`, which sees it as a block file.

use super::{Place, Server};
use crate::{
    error::Result,
    mount::{
        driver::{repair_in_memory, repair_unasked},
        replay::Below,
        session::{BLOCK, Session},
        undo::{Log, Undo},
    },
};

impl Server {
    /// Has `e2fsck` repair what lies `below`: for good, or in memory where that keeps what is written. The block file goes again.
    ///
    /// # Errors
    /// Those of the block file and of `e2fsck`, and `Io` where not all that was repaired reached the volume.
    pub(super) fn repair(place: &Place, below: &Below, session: &mut Session, log: &Log) -> Result<()> {
        let height = session.parts.height();
        drop(Self::export(place, place.client(), below.device.clone(), session, log)?);
        let block = format!("{BLOCK}/{}", crate::export::VOLUME_FILE);
        let repaired = match (&below.shadow, place.mountpoint()) {
            (None, Some(mountpoint)) => repair_unasked(session, &block, &mountpoint),
            _ => repair_in_memory(session, &block),
        };
        let gone = session.parts.undo_down_to(height, Undo::Clean);
        if gone.is_ok() {
            session.note(|record| record.block_mount = None)?;
        }
        if let Some(shadow) = &below.shadow {
            shadow.seal(true);
        }
        repaired.and(gone)
    }
}
