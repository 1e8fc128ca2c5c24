//! Memory for secrets: locked, left out of core dumps, wiped in a forked child and on drop.

#![allow(unsafe_code, reason = "mmap and the pointer into it; each block states its invariant")]

use std::{
    fmt, io,
    marker::PhantomData,
    ops::Deref,
    ptr::{self, NonNull},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::{
    mm::{Advice, MapFlags, ProtFlags, madvise, mlock, mmap_anonymous, munmap},
    param::page_size,
};
use zeroize::{Zeroize, zeroize_stack};

/// Whether some secret of this process could not be locked and may reach swap.
static UNLOCKED: AtomicBool = AtomicBool::new(false);

/// True once `mlock` has failed for a secret (`RLIMIT_MEMLOCK` is too low). The caller decides whether to warn.
pub fn is_any_secret_unlocked() -> bool {
    UNLOCKED.load(Ordering::Relaxed)
}

/// Where the locked secrets of this process lie, for [`wipe_all_secrets`].
static SECRETS: Mutex<Vec<Secret>> = Mutex::new(Vec::new());

/// Some pages of a secret, which somebody else owns.
struct Secret {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: only `wipe_all_secrets` reaches the pages through this, under the lock that keeps them mapped.
unsafe impl Send for Secret {}

fn secrets() -> MutexGuard<'static, Vec<Secret>> {
    SECRETS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Overwrites every locked secret of this process with zeros, whoever uses it just now. For one that cannot wait until its
/// threads let go of their keys: they wait in the kernel, perhaps for ever.
///
/// Whoever uses a secret afterwards works with zeros, or dies of it. So nothing that this process makes may reach a medium any
/// more (`storage::seal`), and it must end at once.
pub fn wipe_all_secrets() {
    for secret in secrets().iter() {
        for offset in 0..secret.len {
            // SAFETY: what is in the list is mapped and writable, and the list stays locked meanwhile. Others may read there at
            // the same time; what they make of it goes nowhere, as said above.
            unsafe { secret.start.add(offset).write_volatile(0) };
        }
    }
}

/// A fixed number of bytes in pages of their own: `mlock`ed, `MADV_DONTDUMP`, `MADV_WIPEONFORK`, wiped on drop.
///
/// `Debug` prints the length only. There is no `Clone`.
pub struct LockedBytes {
    pages: Pages,
    len: usize,
}

impl LockedBytes {
    /// `len` zero bytes.
    ///
    /// # Errors
    /// The kernel's, where there is no memory. A failing `mlock` is no error: see [`is_any_secret_unlocked`].
    pub fn zeroed(len: usize) -> io::Result<Self> {
        Ok(Self { pages: Pages::locked(len)?, len })
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
        unsafe { std::slice::from_raw_parts(self.pages.start.as_ptr(), self.len) }
    }

    /// The bytes, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_slice`, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.pages.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for LockedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LockedBytes({} bytes)", self.len)
    }
}

/// A value that holds secrets, such as a key schedule, in pages like those of [`LockedBytes`]: dropped, then wiped.
///
/// `Debug` prints the name only. There is no `Clone`. A forked child finds the pages zeroed and must not use the value.
pub struct LockedBox<T> {
    pages: Pages,
    value: PhantomData<T>,
}

// SAFETY: a `LockedBox<T>` owns its `T` as a `Box<T>` does.
unsafe impl<T: Send> Send for LockedBox<T> {}
// SAFETY: as above: `&LockedBox<T>` gives out `&T` only.
unsafe impl<T: Sync> Sync for LockedBox<T> {}

impl<T> LockedBox<T> {
    /// Moves the result of `build` into locked memory and wipes what building it left on the stack (16 KiB of it).
    ///
    /// # Errors
    /// As [`LockedBytes::zeroed`].
    pub fn new(build: impl FnOnce() -> T) -> io::Result<Self> {
        const { assert!(align_of::<T>() <= 4096, "pages are aligned to 4096 bytes at least") };
        let pages = Pages::locked(size_of::<T>())?;
        build_at(pages.start.cast(), build);
        zeroize_stack::<STACK_WIPED>();
        Ok(Self { pages, value: PhantomData })
    }

    /// As [`new`](Self::new), for a `build` that may refuse.
    ///
    /// # Errors
    /// The outer one as [`LockedBytes::zeroed`], the inner one is that of `build`.
    pub fn try_new<E>(build: impl FnOnce() -> Result<T, E>) -> io::Result<Result<Self, E>> {
        const { assert!(align_of::<T>() <= 4096, "pages are aligned to 4096 bytes at least") };
        let pages = Pages::locked(size_of::<T>())?;
        let written = try_build_at(pages.start.cast(), build);
        zeroize_stack::<STACK_WIPED>();
        Ok(written.map(|()| Self { pages, value: PhantomData }))
    }

    fn at(&self) -> NonNull<T> {
        self.pages.start.cast()
    }
}

impl<T> Deref for LockedBox<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` wrote a `T` there; it lives until `drop`, and only shared references are given out.
        unsafe { self.at().as_ref() }
    }
}

impl<T> Drop for LockedBox<T> {
    fn drop(&mut self) {
        // SAFETY: the value is initialised and dropped here once; the pages are wiped and unmapped after it.
        unsafe { self.at().drop_in_place() };
    }
}

impl<T> fmt::Debug for LockedBox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockedBox")
    }
}

/// Types of which memory full of zeros holds values.
///
/// # Safety
/// Zeros in every byte must be a value of the type.
pub unsafe trait FromZeros: Copy {}

// SAFETY: any bits are an integer.
unsafe impl FromZeros for u8 {}
// SAFETY: any bits are an integer.
unsafe impl FromZeros for u32 {}
// SAFETY: a block is 128 integers and nothing else.
unsafe impl FromZeros for argon2::Block {}

/// A large working memory, such as Argon2's: left out of core dumps, wiped on drop, not locked.
#[derive(Debug)]
pub struct WipedSlice<T> {
    pages: Pages,
    len: usize,
    items: PhantomData<T>,
}

impl<T: FromZeros> WipedSlice<T> {
    /// `len` items that are zero. Memory is taken up as it is written, by the threads that write it, in large pages where the
    /// kernel has them: Argon2 reads all over its memory, and each small page more is one more that the processor looks up.
    ///
    /// # Errors
    /// Of the kind `OutOfMemory` where the kernel grants no such mapping.
    pub fn zeroed(len: usize) -> io::Result<Self> {
        const { assert!(align_of::<T>() <= 4096, "pages are aligned to 4096 bytes at least") };
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let pages = Pages::undumped(bytes)?;
        // A kernel without them refuses, and small ones serve as well.
        let _slower = pages.advise(Advice::LinuxHugepage);
        Ok(Self { pages, len, items: PhantomData })
    }

    /// The items, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: `len` items lie within the mapping, whose zeros are values, and `&mut self` is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.pages.start.cast().as_ptr(), self.len) }
    }
}

/// An anonymous private mapping: wiped, then unmapped on drop.
struct Pages {
    start: NonNull<u8>,
    mapped: usize,
}

// SAFETY: the mapping belongs to this value alone; the types around it decide who reaches the content.
unsafe impl Send for Pages {}
// SAFETY: as above: `&Pages` gives no access to the content.
unsafe impl Sync for Pages {}

impl Pages {
    /// At least `len` bytes and one page, zeroed, left out of core dumps.
    fn undumped(len: usize) -> io::Result<Self> {
        let mapped = len.max(1).checked_next_multiple_of(page_size()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe {
            mmap_anonymous(ptr::null_mut(), mapped, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let pages = Self { start, mapped };
        pages.advise(Advice::LinuxDontDump)?;
        Ok(pages)
    }

    /// As [`undumped`](Self::undumped), locked where the limit allows, and zeros in a forked child.
    fn locked(len: usize) -> io::Result<Self> {
        let pages = Self::undumped(len)?;
        // SAFETY: the range is exactly the mapping.
        if unsafe { mlock(pages.start.as_ptr().cast(), pages.mapped) }.is_err() {
            UNLOCKED.store(true, Ordering::Relaxed);
        }
        pages.advise(Advice::LinuxWipeOnFork)?;
        secrets().push(Secret { start: pages.start, len: pages.mapped });
        Ok(pages)
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        // SAFETY: the range is exactly the mapping, and no advice used changes what this process reads from it.
        unsafe { madvise(self.start.as_ptr().cast(), self.mapped, advice)? };
        Ok(())
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        secrets().retain(|secret| secret.start != self.start);
        if self.mapped <= WORTH_A_THREAD {
            return drop(Part { start: self.start, len: self.mapped });
        }
        thread::scope(|scope| {
            for part in self.parts() {
                // Where no thread can be had, the part goes here and now.
                drop(thread::Builder::new().spawn_scoped(scope, move || drop(part)));
            }
        });
    }
}

impl Pages {
    /// All of them, as one part for each processor, as far as that is worth a thread. Each goes when it is dropped.
    fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let (start, mapped) = (self.start, self.mapped);
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let len = mapped.div_ceil(threads).max(WORTH_A_THREAD).next_multiple_of(page_size());
        (0..mapped).step_by(len).map(move |offset| {
            // SAFETY: the offset lies within the mapping.
            let start = unsafe { start.add(offset) };
            Part { start, len: len.min(mapped - offset) }
        })
    }
}

/// Some pages of a mapping that goes: wiped, then unmapped on drop.
struct Part {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the pages belong to this value alone.
unsafe impl Send for Part {}

impl Drop for Part {
    fn drop(&mut self) {
        // SAFETY: the pages are mapped, writable and initialised to the last byte, and nothing refers to them any more.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) };
        bytes.zeroize();
        // SAFETY: `Pages` mapped them, made one part of each, and does not use them again.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.mapped)
    }
}

/// In a frame of its own, so that the copy which the value leaves there lies below the caller's and can be wiped.
#[inline(never)]
fn build_at<T>(place: NonNull<T>, build: impl FnOnce() -> T) {
    // SAFETY: both callers' pages are writable, large enough for a `T`, aligned for it, and hold no value yet.
    unsafe { place.write(build()) };
}

/// As [`build_at`]; writes nothing where `build` refuses.
#[inline(never)]
fn try_build_at<T, E>(place: NonNull<T>, build: impl FnOnce() -> Result<T, E>) -> Result<(), E> {
    let value = build()?;
    // SAFETY: the caller's pages are writable, large enough for a `T`, aligned for it, and hold no value yet.
    unsafe { place.write(value) };
    Ok(())
}

const STACK_WIPED: usize = 16 << 10;

/// Bytes that take much longer to wipe than a thread takes to start.
const WORTH_A_THREAD: usize = 16 << 20;

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

    #[test]
    fn a_locked_box_drops_its_value_once() {
        let counted = std::sync::Arc::new(());
        let boxed = LockedBox::new(|| std::sync::Arc::clone(&counted)).unwrap();
        assert_eq!(std::sync::Arc::strong_count(&boxed), 2);
        drop(boxed);
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
    }

    #[test]
    fn a_locked_box_whose_build_refuses_is_none() {
        let refused = LockedBox::<u64>::try_new(|| Err("no")).unwrap();
        assert_eq!(refused.unwrap_err(), "no");
        let built = LockedBox::try_new(|| Ok::<_, ()>(7_u64)).unwrap();
        assert_eq!(*built.unwrap(), 7);
    }

    #[test]
    fn a_large_working_memory_asks_for_large_pages() {
        if !std::fs::exists("/sys/kernel/mm/transparent_hugepage").unwrap() {
            return println!("skipped: large pages: this kernel has none");
        }
        let slice = WipedSlice::<u8>::zeroed(64 << 20).unwrap();
        let first = slice.pages.start.as_ptr().addr();
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = smaps.lines().skip_while(|line| {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let at = |text| usize::from_str_radix(text, 16).ok();
            range.and_then(|(start, end)| Some((at(start)?..at(end)?).contains(&first))) != Some(true)
        });
        let flags = lines.find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.split(' ').any(|flag| flag == "hg"), "{flags}");
    }

    #[test]
    fn a_wiped_slice_starts_as_zeros_and_holds_what_is_written() {
        let mut slice = WipedSlice::<u32>::zeroed(3000).unwrap();
        assert_eq!(slice.as_mut_slice(), [0; 3000]);
        slice.as_mut_slice()[2999] = 0x0102_0304;
        assert_eq!(slice.as_mut_slice()[2999], 0x0102_0304);
    }

    #[test]
    fn a_slice_larger_than_the_address_space_is_out_of_memory() {
        let refused = WipedSlice::<u32>::zeroed(1 << 57).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
    }

    #[test]
    fn the_parts_of_pages_are_all_of_them_once() {
        for len in [1, WORTH_A_THREAD, WORTH_A_THREAD + 1, 5 * WORTH_A_THREAD + 7] {
            let pages = Pages::undumped(len).unwrap();
            let mut end = pages.start.as_ptr().addr();
            for part in pages.parts() {
                assert_eq!(part.start.as_ptr().addr(), end);
                assert!(part.len > 0 && part.len.is_multiple_of(page_size()));
                end += part.len;
                std::mem::forget(part);
            }
            assert_eq!(end, pages.start.as_ptr().addr() + pages.mapped);
        }
    }

    #[test]
    fn locked_pages_are_locked_and_left_out_of_dumps() {
        let bytes = LockedBytes::zeroed(1).unwrap();
        let start = format!("{:x}-", bytes.as_slice().as_ptr().addr());
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags =
            smaps.split(&start).nth(1).unwrap().lines().find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.contains(" dd") && flags.contains(" wf"), "{flags}");
        assert!(flags.contains(" lo") || is_any_secret_unlocked(), "{flags}");
    }
}
