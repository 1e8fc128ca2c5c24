use std::{io, ops::Range, sync::Arc};

use super::{Limits, Storage};

/// A part of another storage, as a storage of its own: a partition, or what begins at some offset of an image.
///
/// It has a fixed place, so it cannot grow. Where the other storage ends before it does, it ends there.
#[derive(Debug)]
pub struct Section {
    base: Arc<dyn Storage>,
    range: Range<u64>,
}

impl Section {
    /// The bytes `range` of `base`.
    ///
    /// # Errors
    /// `InvalidInput` for a range that is empty.
    pub fn new(base: Arc<dyn Storage>, range: Range<u64>) -> io::Result<Self> {
        if range.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { base, range })
    }

    /// Where `len` bytes from `offset` lie in the base; `outside` where the section ends before.
    fn place(&self, offset: u64, len: u64, outside: io::ErrorKind) -> io::Result<Range<u64>> {
        let start = self.range.start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(len)).filter(|end| *end <= self.range.end);
        match (start, end) {
            (Some(start), Some(end)) => Ok(start..end),
            _ => Err(outside.into()),
        }
    }
}

fn len(buf: &[u8]) -> io::Result<u64> {
    u64::try_from(buf.len()).map_err(io::Error::other)
}

impl Storage for Section {
    fn size(&self) -> io::Result<u64> {
        Ok(self.range.end.min(self.base.size()?).saturating_sub(self.range.start))
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let place = self.place(offset, len(buf)?, io::ErrorKind::UnexpectedEof)?;
        self.base.read_exact_at(buf, place.start)
    }

    fn read_in_place(&self, range: Range<u64>, work: &mut dyn FnMut(&[u8])) -> bool {
        let len = range.end.saturating_sub(range.start);
        let place = self.place(range.start, len, io::ErrorKind::UnexpectedEof);
        place.is_ok_and(|place| self.base.read_in_place(place, work))
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let place = self.place(offset, len(buf)?, io::ErrorKind::WriteZero)?;
        self.base.write_all_at(buf, place.start)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.base.sync_data()
    }

    fn set_size(&self, _size: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let len = range.end.saturating_sub(range.start);
        self.base.punch_hole(self.place(range.start, len, io::ErrorKind::InvalidInput)?)
    }

    fn origin(&self) -> u64 {
        self.base.origin().saturating_add(self.range.start)
    }

    fn limits(&self) -> Limits {
        Limits { can_resize: false, ..self.base.limits() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    fn section(range: Range<u64>) -> (Arc<MemoryStorage>, Section) {
        let base = Arc::new(MemoryStorage::new((0..16).collect()));
        let section = Section::new(Arc::clone(&base) as Arc<dyn Storage>, range).unwrap();
        (base, section)
    }

    #[test]
    fn a_section_counts_from_its_own_start_and_ends_at_its_own_end() {
        let (base, section) = section(4..12);
        let mut bytes = [0; 3];
        section.read_exact_at(&mut bytes, 5).unwrap();
        assert_eq!(bytes, [9, 10, 11]);
        assert_eq!(section.read_exact_at(&mut bytes, 6).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        section.write_all_at(&[99], 7).unwrap();
        assert_eq!(base.to_vec()[11], 99);
        assert_eq!(section.write_all_at(&[99, 99], 7).unwrap_err().kind(), io::ErrorKind::WriteZero);
        assert_eq!(base.to_vec()[12], 12);
        assert_eq!(section.size().unwrap(), 8);
        assert!(section.set_size(20).is_err() && !section.limits().can_resize);
        assert!(section.read_exact_at(&mut bytes, u64::MAX - 1).is_err());
        assert!(!section.read_in_place(6..9, &mut |_| panic!("behind the end")));
    }

    #[test]
    fn a_section_ends_where_its_base_does() {
        assert_eq!(section(10..100).1.size().unwrap(), 6);
        assert_eq!(section(20..100).1.size().unwrap(), 0);
        let (base, _) = section(0..1);
        assert!(Section::new(base, 5..5).is_err());
    }
}
