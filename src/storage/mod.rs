//! Ciphertext bytes at rest: a file, a block device, memory, a medium that fails.
//!
//! What goes in and out here is what lies on the medium. Plaintext has another trait,
//! [`BlockDevice`](crate::block::BlockDevice), so that neither can be passed for the other.

mod apart;
mod behind;
mod block_device;
mod chunks;
mod file;
mod in_place;
mod memory;
mod overlaid;
mod overlay;
mod owner;
pub mod pieces;
mod pulse;
mod section;
mod shortage;
mod sim;
mod witness;

pub use crate::sys::descriptor::close_once;
pub use apart::Apart;
pub use behind::{claimed_loop_device, file_behind};
pub use block_device::{disk_of, folder_of};
pub use chunks::{CHUNK_LEN, chunks, holds_zeros, write_zeros};
pub use file::{FileStorage, is_allowed_whole, next_data};
pub use memory::MemoryStorage;
pub use overlaid::{file_of_layer, is_locked_in_layer};
pub use overlay::{Overlay, Window};
pub use owner::give_to_owner;
pub use pulse::{Pulse, Request, Stillness, follow_writeback, seal, watch_disks, while_moving};
pub use section::Section;
pub use shortage::{Lack, Shortage};
pub use sim::{Failure, Fate, Outcome, Plan, SimStorage};

use std::{fmt, fs::File, io, ops::Range};

/// Positional access to the bytes of a container. Shared between threads; every call is independent.
pub trait Storage: fmt::Debug + Send + Sync {
    /// The size in bytes, asked anew on each call.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buf` from `offset`. Past the end is `UnexpectedEof`, never a short read.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Shows the bytes of `range` to `work` where they lie, without a copy, and nobody may write them meanwhile. `false` where
    /// that does not go: what `work` may have seen is worthless then, and [`read_exact_at`](Self::read_exact_at) does it.
    fn read_in_place(&self, _range: Range<u64>, _work: &mut dyn FnMut(&[u8])) -> bool {
        false
    }

    /// The open file that it is, where it is one.
    fn descriptor(&self) -> Option<&File> {
        None
    }

    /// Writes all of `buf` at `offset`.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Returns once everything written so far survives a power cut.
    fn sync_data(&self) -> io::Result<()>;

    /// Grows (with a hole, where there are holes) or cuts the storage to `size` bytes.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Gives the bytes of `range` back to the medium; they read as zeros afterwards.
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()>;

    /// What this storage can do.
    fn limits(&self) -> Limits;

    /// The runs of bytes that lie in another storage, in their order.
    fn windows(&self) -> &[Window] {
        &[]
    }

    /// What shows through the windows, and what lies under them: nothing where there are none.
    fn layers(&self) -> Option<Layers<'_>> {
        None
    }

    /// Where the first of these bytes lies in what they are a part of; zero where they are no part of anything.
    fn origin(&self) -> u64 {
        0
    }

    /// Where the header of the container lies, when it is in none of these bytes.
    fn header(&self) -> Option<&dyn Storage> {
        None
    }
}

/// The two storages of an [`Overlay`].
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// What lies below, also where it does not show.
    pub base: &'a dyn Storage,
    /// What shows through the windows.
    pub top: &'a dyn Storage,
}

/// What a storage can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Opened without write access.
    pub read_only: bool,
    /// Whether [`Storage::punch_hole`] works.
    pub can_punch: bool,
    /// Whether [`Storage::set_size`] works (not on a block device).
    pub can_resize: bool,
}
