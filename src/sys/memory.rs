//! Memory for secrets: locked, left out of core dumps, wiped in a forked child and on drop.

#![allow(unsafe_code, reason = "mmap and the pointer into it; each block states its invariant")]

use std::{
    fmt, io, ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use rustix::{
    mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap},
    param::page_size,
};
use zeroize::Zeroize;

/// Whether some secret of this process could not be locked and may reach swap.
static UNLOCKED: AtomicBool = AtomicBool::new(false);

/// True once `mlock` has failed for a secret (`RLIMIT_MEMLOCK` is too low). The caller decides whether to warn.
pub fn is_any_secret_unlocked() -> bool {
    UNLOCKED.load(Ordering::Relaxed)
}

/// A fixed number of bytes in pages of their own: `mlock`ed, `MADV_DONTDUMP`, `MADV_WIPEONFORK`, wiped on drop.
///
/// `Debug` prints the length only. There is no `Clone`.
pub struct LockedBytes {
    pages: ptr::NonNull<u8>,
    mapped: usize,
    len: usize,
}

// SAFETY: the pages belong to this value alone; shared access is through `&self`, exclusive through `&mut self`.
unsafe impl Send for LockedBytes {}
// SAFETY: as above: `&LockedBytes` gives out `&[u8]` only.
unsafe impl Sync for LockedBytes {}

impl LockedBytes {
    /// `len` zero bytes.
    ///
    /// # Errors
    /// The kernel's, where there is no memory. A failing `mlock` is no error: see [`is_any_secret_unlocked`].
    pub fn zeroed(len: usize) -> io::Result<Self> {
        let page = page_size();
        let mapped = len.max(1).checked_next_multiple_of(page).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe {
            mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let pages = ptr::NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let bytes = Self { pages, mapped, len };
        // SAFETY: the range is exactly the mapping made above.
        if unsafe { mlock(start, mapped) }.is_err() {
            UNLOCKED.store(true, Ordering::Relaxed);
        }
        for advice in [Advice::LinuxDontDump, Advice::LinuxWipeOnFork] {
            // SAFETY: neither advice changes what this process reads from the mapping made above.
            unsafe { madvise(start, mapped, advice)? };
        }
        Ok(bytes)
    }

    /// The number of bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: the mapping is live and readable, `len` bytes lie within it, and all are initialised (zero at first).
        unsafe { std::slice::from_raw_parts(self.pages.as_ptr(), self.len) }
    }

    /// The bytes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_ptr(), self.len) }
    }
}

impl Drop for LockedBytes {
    fn drop(&mut self) {
        self.as_mut_slice().zeroize();
        // SAFETY: the mapping was made by `zeroed` with this length and is not used again.
        let unmapped = unsafe { munmap(self.pages.as_ptr().cast(), self.mapped) };
        debug_assert!(unmapped.is_ok());
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedBytes({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_bytes_start_as_zeros_and_hold_what_is_written() {
        let mut bytes = LockedBytes::zeroed(5000).unwrap();
        assert!(bytes.as_slice().iter().all(|&byte| byte == 0));
        bytes.as_mut_slice()[4999] = 7;
        assert_eq!(bytes.as_slice()[4999], 7);
        assert_eq!(bytes.len(), 5000);
    }

    #[test]
    fn debug_prints_no_content() {
        let mut bytes = LockedBytes::zeroed(4).unwrap();
        bytes.as_mut_slice().copy_from_slice(b"pass");
        assert_eq!(format!("{bytes:?}"), "LockedBytes(4 bytes)");
    }
}
