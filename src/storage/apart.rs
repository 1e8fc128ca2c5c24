use std::{io, ops::Range, sync::Arc};

use super::{Limits, Storage};

/// A container whose header lies in another storage at the same offsets as data lie here, so that the one cannot be laid
/// over the other.
#[derive(Debug)]
pub struct Apart {
    data: Arc<dyn Storage>,
    header: Arc<dyn Storage>,
}

impl Apart {
    /// The bytes of `data`, whose header lies in `header`.
    pub fn new(data: Arc<dyn Storage>, header: Arc<dyn Storage>) -> Self {
        Self { data, header }
    }
}

impl Storage for Apart {
    fn size(&self) -> io::Result<u64> {
        self.data.size()
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.data.read_exact_at(buf, offset)
    }

    fn read_in_place(&self, range: Range<u64>, work: &mut dyn FnMut(&[u8])) -> bool {
        self.data.read_in_place(range, work)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.data.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        // Both, whatever the first says: each may be the last to hold what was written.
        let (header, data) = (self.header.sync_data(), self.data.sync_data());
        header.and(data)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.data.set_size(size)
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        self.data.punch_hole(range)
    }

    fn limits(&self) -> Limits {
        let (data, header) = (self.data.limits(), self.header.limits());
        Limits { read_only: data.read_only || header.read_only, ..data }
    }

    fn header(&self) -> Option<&dyn Storage> {
        Some(&*self.header)
    }
}
