use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

use zeroize::Zeroize;

/// Page-aligned buffers of one size for plaintext and half-done ciphertext, reused and wiped on drop.
///
/// There are never more than were in use at once, so a fixed set of threads allocates once each.
pub struct BufferPool {
    len: usize,
    free: Mutex<Vec<AlignedBytes>>,
}

impl BufferPool {
    /// A pool of buffers of `len` bytes. Allocates nothing yet.
    pub const fn new(len: usize) -> Self {
        Self { len, free: Mutex::new(Vec::new()) }
    }

    /// Takes up the memory of so many buffers now, so that none is asked for when they are needed.
    pub fn reserve(&self, count: usize) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while free.len() < count {
            let mut bytes = AlignedBytes::zeroed(self.len);
            // Memory is there once it is written.
            bytes.as_mut_slice().zeroize();
            free.push(bytes);
        }
    }

    /// A buffer whose content is whatever its last user left. It returns to the pool on drop.
    pub fn take(&self) -> Buffer<'_> {
        let reused = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = reused.unwrap_or_else(|| AlignedBytes::zeroed(self.len));
        Buffer { pool: self, bytes: Some(bytes) }
    }

    /// Wipes and frees the buffers that nobody uses now.
    pub fn wipe(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferPool({} bytes each)", self.len)
    }
}

/// One buffer of a [`BufferPool`], on loan.
pub struct Buffer<'pool> {
    pool: &'pool BufferPool,
    bytes: Option<AlignedBytes>,
}

impl Deref for Buffer<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.as_ref().map_or(&[], AlignedBytes::as_slice)
    }
}

impl DerefMut for Buffer<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut().map_or(&mut [], AlignedBytes::as_mut_slice)
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let mut free = self.pool.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.extend(self.bytes.take());
    }
}

impl fmt::Debug for Buffer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

/// Heap bytes that start on a page, so that the kernel can move them without a copy. Wiped on drop.
pub struct AlignedBytes {
    bytes: Box<[u8]>,
    start: usize,
    len: usize,
}

impl AlignedBytes {
    /// So many zeros.
    pub fn zeroed(len: usize) -> Self {
        let bytes = vec![0; len + ALIGN].into_boxed_slice();
        // `align_offset` may refuse with `usize::MAX`; unaligned bytes work as well, only slower.
        let start = Some(bytes.as_ptr().align_offset(ALIGN)).filter(|&start| start < ALIGN).unwrap_or(0);
        Self { bytes, start, len }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// The bytes.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({})", self.len)
    }
}

const ALIGN: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_used_again() {
        let pool = BufferPool::new(8192);
        pool.take()[17] = 5;
        assert_eq!(pool.take()[17], 5);
        assert_eq!(pool.free.lock().unwrap().len(), 1);
        pool.wipe();
        assert_eq!(pool.take()[17], 0);
    }

    #[test]
    fn reserved_buffers_are_there_already() {
        let pool = BufferPool::new(4096);
        pool.reserve(2);
        pool.reserve(1);
        let (_first, _second) = (pool.take(), pool.take());
        assert!(pool.free.lock().unwrap().is_empty());
    }

    #[test]
    fn buffers_start_on_a_page() {
        let pool = BufferPool::new(4096);
        let (first, second) = (pool.take(), pool.take());
        assert_eq!(first.as_ptr().align_offset(ALIGN), 0);
        assert_eq!(second.as_ptr().align_offset(ALIGN), 0);
        assert_eq!(second.len(), 4096);
    }
}
