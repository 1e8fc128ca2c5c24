use std::{io, ops::Range, sync::Arc};

use super::{Layers, Limits, Storage};

/// A storage some of whose bytes lie in another one: a container whose header lies in a file of its own.
///
/// Its size and what it can do are those of the base; a window may lie behind the base's end.
#[derive(Debug)]
pub struct Overlay {
    base: Arc<dyn Storage>,
    top: Arc<dyn Storage>,
    windows: Vec<Window>,
}

/// A run of bytes that lies elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Where it shows.
    pub shown: Range<u64>,
    /// Where it lies in the upper storage.
    pub source: u64,
}

impl Overlay {
    /// Lays the windows, read from and written to `top`, over `base`.
    ///
    /// # Errors
    /// `InvalidInput` where windows overlap, are empty, or leave 64 bits.
    pub fn new(base: Arc<dyn Storage>, top: Arc<dyn Storage>, mut windows: Vec<Window>) -> io::Result<Self> {
        windows.sort_by_key(|window| window.shown.start);
        let fits = |window: &Window| {
            let len = window.shown.end.checked_sub(window.shown.start).filter(|&len| len > 0);
            len.is_some_and(|len| window.source.checked_add(len).is_some())
        };
        let overlaps = windows.windows(2).any(|pair| match pair {
            [left, right] => left.shown.end > right.shown.start,
            _ => false,
        });
        if overlaps || !windows.iter().all(fits) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { base, top, windows })
    }

    /// Where the bytes from `start` lie in one run, of those up to `end`.
    fn piece(&self, start: u64, end: u64) -> Piece<'_> {
        let base = |end: u64| Piece { storage: &*self.base, offset: start, len: end - start, is_base: true };
        match self.windows.iter().find(|window| start < window.shown.end) {
            None => base(end),
            Some(window) if start < window.shown.start => base(end.min(window.shown.start)),
            Some(window) => Piece {
                storage: &*self.top,
                offset: window.source + (start - window.shown.start),
                len: end.min(window.shown.end) - start,
                is_base: false,
            },
        }
    }
}

/// A run of bytes that lies in one of the two storages.
#[derive(Debug)]
struct Piece<'a> {
    storage: &'a dyn Storage,
    offset: u64,
    len: u64,
    is_base: bool,
}

impl Piece<'_> {
    fn byte_len(&self) -> io::Result<usize> {
        usize::try_from(self.len).map_err(io::Error::other)
    }
}

impl Storage for Overlay {
    fn size(&self) -> io::Result<u64> {
        self.base.size()
    }

    fn read_exact_at(&self, mut buf: &mut [u8], offset: u64) -> io::Result<()> {
        let Range { mut start, end } = byte_range(offset, buf.len())?;
        while start < end {
            let piece = self.piece(start, end);
            let (part, rest) = buf.split_at_mut(piece.byte_len()?);
            piece.storage.read_exact_at(part, piece.offset)?;
            (buf, start) = (rest, start + piece.len);
        }
        Ok(())
    }

    fn read_in_place(&self, range: Range<u64>, work: &mut dyn FnMut(&[u8])) -> bool {
        let piece = self.piece(range.start, range.end);
        let lies_in_one = piece.len == range.end.saturating_sub(range.start);
        lies_in_one && piece.storage.read_in_place(piece.offset..piece.offset + piece.len, work)
    }

    fn write_all_at(&self, mut buf: &[u8], offset: u64) -> io::Result<()> {
        let Range { mut start, end } = byte_range(offset, buf.len())?;
        while start < end {
            let piece = self.piece(start, end);
            let (part, rest) = buf.split_at(piece.byte_len()?);
            piece.storage.write_all_at(part, piece.offset)?;
            (buf, start) = (rest, start + piece.len);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        // Both, whatever the first says: each may be the last to hold what was written.
        let (top, base) = (self.top.sync_data(), self.base.sync_data());
        top.and(base)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.base.set_size(size)
    }

    /// Bytes of a window are not given back, only zeroed.
    fn punch_hole(&self, range: Range<u64>) -> io::Result<()> {
        let Range { mut start, end } = range;
        while start < end {
            let piece = self.piece(start, end);
            if piece.is_base {
                piece.storage.punch_hole(start..start + piece.len)?;
            } else {
                piece.storage.write_all_at(&vec![0; piece.byte_len()?], piece.offset)?;
            }
            start += piece.len;
        }
        Ok(())
    }

    fn windows(&self) -> &[Window] {
        &self.windows
    }

    fn layers(&self) -> Option<Layers<'_>> {
        Some(Layers { base: &*self.base, top: &*self.top })
    }

    fn limits(&self) -> Limits {
        let base = self.base.limits();
        Limits { read_only: base.read_only || self.top.limits().read_only, ..base }
    }
}

fn byte_range(offset: u64, len: usize) -> io::Result<Range<u64>> {
    let len = u64::try_from(len).map_err(io::Error::other)?;
    Ok(offset..offset.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    /// Sixteen bytes of base 0x10.., of which 2..5 and 10..14 lie at 1 and 4 of the upper one, 0xf0...
    fn overlay() -> (Arc<MemoryStorage>, Arc<MemoryStorage>, Overlay) {
        let base = Arc::new(MemoryStorage::new((0x10..0x20).collect()));
        let top = Arc::new(MemoryStorage::new((0xf0..0xf8).collect()));
        let windows = vec![Window { shown: 10..14, source: 4 }, Window { shown: 2..5, source: 1 }];
        let overlay = Overlay::new(
            Arc::clone(&base) as Arc<dyn Storage>,
            Arc::clone(&top) as Arc<dyn Storage>,
            windows,
        );
        (base, top, overlay.unwrap())
    }

    const SHOWN: [u8; 16] =
        [0x10, 0x11, 0xf1, 0xf2, 0xf3, 0x15, 0x16, 0x17, 0x18, 0x19, 0xf4, 0xf5, 0xf6, 0xf7, 0x1e, 0x1f];

    #[test]
    fn every_range_reads_as_its_bytes_do_one_by_one() {
        let (_, _, overlay) = overlay();
        for start in 0..16 {
            for end in start..=16 {
                let mut read = vec![0; end - start];
                overlay.read_exact_at(&mut read, start as u64).unwrap();
                assert_eq!(read, SHOWN[start..end], "{start}..{end}");
            }
        }
    }

    #[test]
    fn every_range_is_written_where_it_is_read_from_and_nowhere_else() {
        for start in 0..16 {
            for end in start..=16 {
                let (base, top, overlay) = overlay();
                overlay.write_all_at(&vec![0xaa; end - start], start as u64).unwrap();
                let mut expected = SHOWN;
                expected[start..end].fill(0xaa);
                let mut read = vec![0; 16];
                overlay.read_exact_at(&mut read, 0).unwrap();
                assert_eq!(read, expected, "{start}..{end}");
                assert_eq!(base.to_vec()[2..5], [0x12, 0x13, 0x14], "what a window hides stays");
                assert_eq!(top.to_vec()[0], 0xf0);
            }
        }
    }

    #[test]
    fn a_window_behind_the_end_of_the_base_is_read_and_does_not_make_it_longer() {
        let base = Arc::new(MemoryStorage::new(vec![1; 4]));
        let top = Arc::new(MemoryStorage::new(vec![2; 4]));
        let overlay = Overlay::new(base, top, vec![Window { shown: 8..12, source: 0 }]).unwrap();
        let mut read = [0; 4];
        overlay.read_exact_at(&mut read, 8).unwrap();
        assert_eq!((read, overlay.size().unwrap()), ([2; 4], 4));
        let error = overlay.read_exact_at(&mut read, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_hole_through_a_window_zeroes_it() {
        let (base, _, overlay) = overlay();
        overlay.punch_hole(1..6).unwrap();
        let mut read = [1; 8];
        overlay.read_exact_at(&mut read, 0).unwrap();
        assert_eq!(read, [0x10, 0, 0, 0, 0, 0, 0x16, 0x17]);
        assert_eq!(base.to_vec()[2..5], [0x12, 0x13, 0x14]);
    }

    #[test]
    fn windows_that_overlap_or_leave_64_bits_are_refused() {
        let storage = || Arc::new(MemoryStorage::default()) as Arc<dyn Storage>;
        for windows in [
            vec![Window { shown: 0..5, source: 0 }, Window { shown: 4..8, source: 8 }],
            vec![Window { shown: 3..3, source: 0 }],
            vec![Window { shown: 0..5, source: u64::MAX - 4 }],
        ] {
            let error = Overlay::new(storage(), storage(), windows).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
