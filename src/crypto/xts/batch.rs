//! What every backend is given to do.

use aes::cipher::{Array, consts::U16, inout::InOutBuf};

/// A cipher block.
pub(in crate::crypto) type Block = Array<u8, U16>;

/// Whole blocks of consecutive data units, with the encrypted start tweak of each.
pub(super) struct Batch<'a> {
    /// The blocks: `blocks_per_unit` of each unit, in place or from one buffer to another.
    pub(super) blocks: InOutBuf<'a, 'a, Block>,
    /// Blocks of one unit. A multiple of 32, those of the smallest sector, where there is more than one unit.
    pub(super) blocks_per_unit: usize,
    /// One start a unit.
    pub(super) starts: &'a [Block],
}
