//! Pieces that hold nothing any more are taken away (`spec/pieces-v1.md`, section 8).

use std::{io, ops::Range, sync::PoisonError};

use super::{Made, PieceError, Pieces, block::BLOCK_LEN_U64, piece_name};
use crate::storage::{Storage, holds_zeros, write_zeros};

impl Pieces {
    /// Takes away every piece that holds zeros and nothing else, once the map says that it was never made. Gives how many there were.
    /// `progress` is told of each one that is looked at, and may break off. Nobody else may use the container.
    ///
    /// # Errors
    /// [`PieceError::Untold`] before [`unlock`](Self::unlock); what reading, writing and removing gave; what `progress` gives.
    pub fn drop_empty(&self, progress: &mut dyn FnMut(u32) -> io::Result<()>) -> io::Result<u32> {
        if !self.is_unlocked() {
            return Err(PieceError::Untold(0).into());
        }
        self.sync_data()?;
        let mut empty = Vec::new();
        for index in (0..self.geometry.pieces()).filter(|index| self.has_made(*index)) {
            progress(index)?;
            let Some(piece) = self.piece(index)? else { continue };
            if holds_zeros(piece.storage(), BLOCK_LEN_U64..self.geometry.file_len(index))? {
                empty.push(index);
            }
        }
        if empty.is_empty() {
            return Ok(0);
        }
        let _making = self.lock_making();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut bits = state.made.bits(self.geometry.pieces());
        for index in &empty {
            bits.remove(*index);
        }
        state.made = Made::Some(bits);
        drop(state);
        // PCS-DROP-01: what is missing while the map still counts it would be damage.
        self.write_map()?;
        for index in &empty {
            self.open.forget(*index);
            self.folder.remove(&piece_name(*index))?;
        }
        self.folder.sync()?;
        Ok(u32::try_from(empty.len()).unwrap_or(u32::MAX))
    }
}

/// Makes bytes of a piece zeros: a hole, where there are holes.
pub(super) fn clear(piece: &dyn Storage, range: Range<u64>) -> io::Result<()> {
    match piece.punch_hole(range.clone()) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        punched => return punched,
    }
    write_zeros(piece, range)
}
