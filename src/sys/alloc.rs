//! An allocator that wipes heap memory before it frees it.

#![allow(
    unsafe_code,
    reason = "GlobalAlloc is an unsafe trait; each block passes the caller's own promise on"
)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    mem::MaybeUninit,
    slice,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use zeroize::Zeroize;

/// The system's allocator, but what is freed is zeroed first, and what grows or shrinks moves, leaving zeros behind.
///
/// A server's heap holds plaintext in buffers that are not ours, such as those in which `fuser` receives writes; they
/// are freed unwiped, and stay readable in the process and in swap. A program installs this for all of them:
///
/// ```
/// use strongroom::sys::alloc::WipingAllocator;
///
/// #[global_allocator]
/// static ALLOCATOR: WipingAllocator = WipingAllocator::new();
/// # fn main() {}
/// ```
///
/// It costs one pass over each block freed. Stacks, registers and blocks that are never freed are not its concern.
#[derive(Debug, Clone, Copy, Default)]
pub struct WipingAllocator<A = System> {
    inner: A,
}

impl WipingAllocator {
    /// Over the system's allocator.
    pub const fn new() -> Self {
        Self { inner: System }
    }
}

// SAFETY: every call goes to the inner allocator, which keeps the contract; wiping touches only a block that is about to
// be freed. `realloc` is the trait's own: allocate, copy, `dealloc`; so the old block is wiped too.
unsafe impl<A: GlobalAlloc> GlobalAlloc for WipingAllocator<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises a layout of non-zero size.
        let block = unsafe { self.inner.alloc(layout) };
        if block.is_null() {
            tell_of_failure();
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        let block = unsafe { self.inner.alloc_zeroed(layout) };
        if block.is_null() {
            tell_of_failure();
        } else if layout.size() >= LARGE {
            let taken = TAKEN_UP.load(Ordering::Relaxed).min(layout.size());
            for offset in (0..taken).step_by(PAGE) {
                // SAFETY: the offset lies within the block, which nobody else has yet; zero is what it holds.
                unsafe { block.add(offset).write_volatile(0) };
            }
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller promises a live block of this layout, to which it holds the only pointer. `MaybeUninit`, as
        // it may not have written all of it.
        let bytes = unsafe { slice::from_raw_parts_mut(block.cast::<MaybeUninit<u8>>(), layout.size()) };
        if layout.size() >= LARGE {
            wipe_what_was_used(bytes);
        } else {
            bytes.zeroize();
        }
        // SAFETY: the block came from `inner` with this layout, and the borrow above has ended.
        unsafe { self.inner.dealloc(block, layout) };
    }
}

/// Has `action` be called where there is no memory for what is asked for. It must ask for none itself.
pub fn on_failure(action: fn()) {
    // The first one counts.
    let _ = ON_FAILURE.set(action);
}

fn tell_of_failure() {
    if let Some(action) = ON_FAILURE.get() {
        action();
    }
}

/// Has so many bytes at the start of each large block of zeros be taken up when it is set aside, and not when they are first
/// written. The buffers in which `fuser` receives requests are such blocks.
pub fn take_up_large_blocks(bytes: usize) {
    TAKEN_UP.store(bytes, Ordering::Relaxed);
}

/// Wipes the pages that are not zeros already: to write those that were never used would take up memory.
fn wipe_what_was_used(bytes: &mut [MaybeUninit<u8>]) {
    for page in bytes.chunks_mut(PAGE) {
        // Out of the compiler's sight, which might take what it has not seen written for anything.
        let start = black_box(page.as_ptr().cast::<u8>());
        // SAFETY: the page is part of a live block, and whatever bits are there are bytes.
        let content = unsafe { slice::from_raw_parts(start, page.len()) };
        let (lanes, rest) = content.as_chunks::<16>();
        let any = lanes.iter().fold(0, |any, lane| any | u128::from_le_bytes(*lane));
        if any != 0 || rest.iter().any(|&byte| byte != 0) {
            page.zeroize();
        }
    }
}

/// See [`on_failure`].
static ON_FAILURE: OnceLock<fn()> = OnceLock::new();
/// See [`take_up_large_blocks`].
static TAKEN_UP: AtomicUsize = AtomicUsize::new(0);
const LARGE: usize = 1 << 20;
const PAGE: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the blocks freed, and the bytes in them that were not zero by then.
    #[derive(Default)]
    struct Inspector {
        freed: AtomicUsize,
        left: AtomicUsize,
    }

    // SAFETY: every call goes to `System`.
    unsafe impl GlobalAlloc for Inspector {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as the caller promises.
            let block = unsafe { System.alloc(layout) };
            // SAFETY: the block is live, and `layout.size()` bytes long.
            unsafe { block.write_bytes(0xa5, layout.size()) };
            block
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: `alloc` has written every byte of the block.
            let bytes = unsafe { slice::from_raw_parts(block, layout.size()) };
            self.freed.fetch_add(1, Ordering::Relaxed);
            self.left.fetch_add(bytes.iter().filter(|&&byte| byte != 0).count(), Ordering::Relaxed);
            // SAFETY: as the caller promises.
            unsafe { System.dealloc(block, layout) };
        }
    }

    fn inspected() -> (WipingAllocator<Inspector>, Layout) {
        (WipingAllocator { inner: Inspector::default() }, Layout::from_size_align(5000, 64).unwrap())
    }

    #[test]
    fn a_freed_block_is_zeros_by_then() {
        let (allocator, layout) = inspected();
        // SAFETY: the layout's size is not zero.
        let block = unsafe { allocator.alloc(layout) };
        // SAFETY: the block came from this allocator with this layout.
        unsafe { allocator.dealloc(block, layout) };
        assert_eq!(allocator.inner.freed.into_inner(), 1);
        assert_eq!(allocator.inner.left.into_inner(), 0);
    }

    #[test]
    fn a_large_block_is_zeros_too_when_it_is_freed() {
        let (allocator, _) = inspected();
        let layout = Layout::from_size_align(LARGE + 77, 64).unwrap();
        // SAFETY: the layout's size is not zero.
        let block = unsafe { allocator.alloc(layout) };
        // SAFETY: the offset and the length lie within the block.
        unsafe { block.add(2 * PAGE).write_bytes(0, 5 * PAGE) };
        // SAFETY: the block came from this allocator with this layout.
        unsafe { allocator.dealloc(block, layout) };
        assert_eq!(allocator.inner.left.into_inner(), 0);
    }

    #[test]
    fn a_block_that_grows_keeps_its_content_and_leaves_zeros_behind() {
        let (allocator, layout) = inspected();
        // SAFETY: the layout's size is not zero.
        let block = unsafe { allocator.alloc(layout) };
        // SAFETY: the block came from this allocator with this layout; the new size is neither zero nor too large.
        let grown = unsafe { allocator.realloc(block, layout, 9000) };
        // SAFETY: `realloc` copied the first 5000 bytes.
        assert_eq!(unsafe { grown.add(4999).read() }, 0xa5);
        assert_eq!(allocator.inner.freed.load(Ordering::Relaxed), 1);
        assert_eq!(allocator.inner.left.load(Ordering::Relaxed), 0);
        // SAFETY: the block came from this allocator with this size and the old alignment.
        unsafe { allocator.dealloc(grown, Layout::from_size_align(9000, 64).unwrap()) };
    }
}
