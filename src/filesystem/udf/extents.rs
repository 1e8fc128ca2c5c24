//! Where a file's bytes are (ECMA-167, 4/14.14.1 and 14.14.2).

use super::{
    super::{
        Fault, Result,
        bytes::{index, long, u32_at},
    },
    entry::Entry,
    tag::{self, Place},
    volume::Volume,
};

/// The pieces of a file, by the byte with which each begins.
#[derive(Debug, Clone, Default)]
pub(super) struct Extents(Vec<Extent>);

#[derive(Debug, Clone, Copy)]
struct Extent {
    /// In the file.
    first: u64,
    len: u64,
    /// On the medium; `None` for zeros.
    start: Option<u64>,
}

impl Extents {
    /// Where the byte `at` of the file is, and how many behind it follow there; `None` for the place where it is a zero, or for all where
    /// the file has no such byte.
    pub(super) fn at(&self, at: u64) -> Option<(Option<u64>, u64)> {
        let number = self.0.partition_point(|extent| extent.first <= at).checked_sub(1)?;
        let extent = self.0.get(number)?;
        let within = at.saturating_sub(extent.first);
        let len = extent.len.checked_sub(within).filter(|len| *len > 0)?;
        Some((extent.start.map(|start| start.saturating_add(within)), len))
    }

    /// In bytes of memory.
    pub(super) fn weight(&self) -> usize {
        self.0.len().saturating_mul(size_of::<Extent>())
    }

    fn push(&mut self, start: Option<u64>, len: u64) {
        let first = self.0.last().map_or(0, |last| last.first.saturating_add(last.len));
        match (self.0.last_mut(), start) {
            (Some(last), Some(start)) if last.start.map(|at| at.saturating_add(last.len)) == Some(start) => {
                last.len = last.len.saturating_add(len);
            }
            (Some(Extent { len: last, start: None, .. }), None) => *last = last.saturating_add(len),
            _ => self.0.push(Extent { first, len, start }),
        }
    }
}

impl Volume {
    /// The extents of a file, whose entry is at `place`.
    pub(super) fn extents(&self, place: Place, entry: &Entry<'_>) -> Result<Extents> {
        let mut extents = Extents::default();
        let is_long = match entry.addresses() {
            0 => false,
            1 => true,
            _ => return Err(Fault::Unsupported),
        };
        let mut more = self.gather((entry.allocation, is_long, place.partition), &mut extents)?;
        for _ in 0..MOST_CHAINED {
            let Some(next) = more else { return Ok(extents) };
            let bytes = self.block(next)?;
            tag::expect(&bytes, next.block, tag::ALLOCATION)?;
            let len = index(u32_at(&bytes, 20));
            let list = bytes.get(24..).and_then(|list| list.get(..len)).ok_or(Fault::Damaged)?;
            more = self.gather((list, is_long, next.partition), &mut extents)?;
        }
        Err(Fault::Damaged)
    }

    /// Adds the extents of one list, and gives where the list goes on.
    fn gather(
        &self,
        (list, is_long, partition): (&[u8], bool, u16),
        extents: &mut Extents,
    ) -> Result<Option<Place>> {
        for address in list.chunks_exact(if is_long { 16 } else { 8 }) {
            let (word, long_place) = tag::long_address(address, 0);
            let place = if is_long { long_place } else { Place { block: u32_at(address, 4), partition } };
            let (kind, len) = (word >> 30, u64::from(word & 0x3fff_ffff));
            match kind {
                _ if len == 0 => return Ok(None),
                0 => self.add(place, len, extents)?,
                // Set aside, or not even that.
                1 | 2 => extents.push(None, len),
                _ => return Ok(Some(place)),
            }
            if extents.0.len() > MOST_EXTENTS {
                return Err(Fault::Damaged);
            }
        }
        Ok(None)
    }

    /// Adds an extent, which may lie in pieces on the medium.
    fn add(&self, place: Place, len: u64, extents: &mut Extents) -> Result<()> {
        let (mut place, mut left) = (place, len);
        while left > 0 {
            let (start, here) = self.find(place)?;
            let here = here.min(left);
            extents.push(Some(start), here);
            left = left.saturating_sub(here);
            let blocks = here.checked_div(self.block_len).and_then(|blocks| u32::try_from(blocks).ok());
            place.block = place.block.checked_add(blocks.ok_or(Fault::Damaged)?).ok_or(Fault::Damaged)?;
            if extents.0.len() > MOST_EXTENTS || left > 0 && here < self.block_len {
                return Err(Fault::Damaged);
            }
        }
        Ok(())
    }

    /// Reads a file's bytes: those that have no place are zeros.
    pub(super) fn read(&self, extents: &Extents, size: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let len = buf.len().min(index(size.saturating_sub(offset)));
        let mut rest = buf.get_mut(..len).ok_or(Fault::Damaged)?;
        let mut at = offset;
        while !rest.is_empty() {
            let (start, here) = extents.at(at).unwrap_or((None, u64::MAX));
            let here = index(here).min(rest.len());
            let (part, behind) = rest.split_at_mut_checked(here).ok_or(Fault::Damaged)?;
            match start {
                Some(start) => self.device.read_at(part, start)?,
                None => part.fill(0),
            }
            at = at.saturating_add(long(here));
            rest = behind;
        }
        Ok(len)
    }
}

/// Each has a block of its own.
const MOST_CHAINED: u32 = 1 << 14;
/// 24 MiB of memory, while they are read.
const MOST_EXTENTS: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_follow_each_other_are_one() {
        let mut extents = Extents::default();
        extents.push(Some(4096), 1000);
        extents.push(Some(5096), 24);
        extents.push(None, 10);
        extents.push(None, 6);
        extents.push(Some(100), 5);
        assert_eq!(extents.0.len(), 3);
        assert_eq!(extents.at(0), Some((Some(4096), 1024)));
        assert_eq!(extents.at(1023), Some((Some(5119), 1)));
        assert_eq!(extents.at(1024), Some((None, 16)));
        assert_eq!(extents.at(1044), Some((Some(104), 1)));
        assert_eq!(extents.at(1045), None);
        assert_eq!(Extents::default().at(0), None);
    }
}
