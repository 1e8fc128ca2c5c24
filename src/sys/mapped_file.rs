//! Bytes of a file where the kernel keeps them: mapped, read without a copy, with bus errors contained.
//!
//! Reading a mapping of a file that was cut off, or whose medium fails, is a SIGBUS instead of an error (mmap(2)). Here that
//! signal puts a page of zeros in the way and marks the mapping as broken, which whoever reads asks about afterwards.

#![allow(unsafe_code, reason = "mappings, and a signal handler; each block states its invariant")]

use std::{
    ffi::c_int,
    fmt,
    fs::File,
    io, mem,
    ops::Range,
    ptr::{self, NonNull},
    slice,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustix::{
    mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap},
    param::page_size,
};

/// A part of a file, mapped for reading. Unmapped on drop.
pub struct MappedFile {
    start: NonNull<u8>,
    len: usize,
    watch: &'static Watch,
}

// SAFETY: the mapping is only ever read, and the watch is atomic.
unsafe impl Send for MappedFile {}
// SAFETY: as above.
unsafe impl Sync for MappedFile {}

impl MappedFile {
    /// Maps `len` bytes from `offset` on, a multiple of the page size. They need not all lie before the end of the file.
    ///
    /// # Errors
    /// What mmap(2) gives; `ResourceBusy` where as many mappings as can be watched are there already.
    pub fn new(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        contain_bus_errors()?;
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let start = unsafe { mmap(ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, offset)? };
        let watched =
            NonNull::new(start.cast::<u8>()).and_then(|start| Some((start, Watch::take(start, len)?)));
        let Some((start, watch)) = watched else {
            // SAFETY: the mapping was made above with this length, and nothing refers to it.
            unsafe { munmap(start, len)? };
            return Err(io::ErrorKind::ResourceBusy.into());
        };
        Ok(Self { start, len, watch })
    }

    /// Shows the bytes of `range` to `work`. `false` where they are not to be had: past the end of the mapping, or where not
    /// all of them could be read, now or ever before; what `work` has seen is worthless then.
    ///
    /// Nobody may write these bytes of the file meanwhile: `work` sees old ones beside new ones then.
    pub fn read(&self, range: Range<usize>, work: impl FnOnce(&[u8])) -> bool {
        if range.start > range.end || range.end > self.len || self.is_broken() {
            return false;
        }
        // SAFETY: the range lies within the mapping, which lives as long as `self`; where the file has no byte for it, the
        // handler of SIGBUS gives zeros. Callers keep writers away; bytes that another program changes all the same are
        // data to a cipher, on which no decision rests.
        let bytes = unsafe { slice::from_raw_parts(self.start.as_ptr().add(range.start), range.len()) };
        fetch_ahead(bytes);
        work(bytes);
        !self.is_broken()
    }

    /// Whether the page of the byte before `end` ends in zeros: the one in which the file ends does.
    pub fn ends_in_zeros(&self, end: usize) -> bool {
        let page_end = end.next_multiple_of(page_size());
        let mut is_zero = true;
        let tail = page_end.saturating_sub(TAIL)..page_end;
        !self.read(tail, |bytes| is_zero = bytes.iter().all(|&byte| byte == 0)) || is_zero
    }

    fn is_broken(&self) -> bool {
        self.watch.is_broken.load(Ordering::SeqCst)
    }
}

/// Has a small piece come from memory all at once: read line by line, the processor would wait at each page for its own
/// prefetcher to notice.
#[cfg(target_arch = "x86_64")]
fn fetch_ahead(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    /// What is read in one go is fetched ahead up to here; of more, the processor's own prefetcher sees the most.
    const FETCHED_AHEAD: usize = 8 << 10;
    const CACHE_LINE: usize = 64;

    if bytes.len() <= FETCHED_AHEAD {
        for line in bytes.chunks(CACHE_LINE) {
            // SAFETY: every x86-64 has the instruction (SSE), and it only hints.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
}

/// Elsewhere that is left to the processor: stable Rust has no intrinsic for it.
#[cfg(not(target_arch = "x86_64"))]
const fn fetch_ahead(_: &[u8]) {}

impl Drop for MappedFile {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, pages that the handler put there lie within, and nothing
        // refers to it any more.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
        // Only now: the address may be somebody else's from here on.
        self.watch.give_back();
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MappedFile({} bytes)", self.len)
    }
}

/// What the handler knows of a mapping. An end of 0 is none.
struct Watch {
    is_taken: AtomicBool,
    start: AtomicUsize,
    end: AtomicUsize,
    is_broken: AtomicBool,
}

impl Watch {
    const fn new() -> Self {
        Self {
            is_taken: AtomicBool::new(false),
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            is_broken: AtomicBool::new(false),
        }
    }

    /// A free one, set on a new mapping.
    fn take(start: NonNull<u8>, len: usize) -> Option<&'static Self> {
        let free = |watch: &&Self| !watch.is_taken.swap(true, Ordering::SeqCst);
        let watch = WATCHES.iter().find(free)?;
        let start = start.as_ptr().addr();
        watch.is_broken.store(false, Ordering::SeqCst);
        watch.start.store(start, Ordering::SeqCst);
        watch.end.store(start.saturating_add(len), Ordering::SeqCst);
        Some(watch)
    }

    fn give_back(&self) {
        self.end.store(0, Ordering::SeqCst);
        self.is_taken.store(false, Ordering::SeqCst);
    }

    fn covers(&self, address: usize) -> bool {
        self.start.load(Ordering::SeqCst) <= address && address < self.end.load(Ordering::SeqCst)
    }
}

static WATCHES: [Watch; 64] = [const { Watch::new() }; 64];

/// Installs the handler, once for the whole process.
fn contain_bus_errors() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), c_int>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: all zeros is a valid `sigaction`: no flags, an empty mask.
        let mut action: libc::sigaction = unsafe { mem::zeroed() };
        action.sa_sigaction = on_bus_error as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `action` lives for the call, and its function has the signature that SA_SIGINFO asks for.
        match unsafe { libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL)),
        }
    });
    installed.map_err(io::Error::from_raw_os_error)
}

/// Lets a read of a watched mapping go on over zeros; every other bus error ends the process, as it would have without.
///
/// Only what is safe in a signal handler: atomics and system calls.
extern "C" fn on_bus_error(_: c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a filled `siginfo_t`, and for SIGBUS it has an address.
    let address = unsafe { (*info).si_addr() }.addr();
    let contained = WATCHES.iter().find(|watch| watch.covers(address)).is_some_and(|watch| {
        // Before the zeros can be seen.
        watch.is_broken.store(true, Ordering::SeqCst);
        cover_with_zeros(address)
    });
    if !contained {
        // SAFETY: the default action is set, by a call that handlers may make; the instruction then faults again.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
    }
}

/// Replaces the page at `address`, which lies in a watched mapping.
fn cover_with_zeros(address: usize) -> bool {
    let page = ptr::without_provenance_mut(address & !(page_size() - 1));
    // SAFETY: the page lies in a mapping of ours, which nobody writes and whose readers expect any bytes.
    unsafe { mmap_anonymous(page, page_size(), ProtFlags::READ, MapFlags::PRIVATE | MapFlags::FIXED) }.is_ok()
}

/// Bytes at the end of a page that tell ciphertext from zeros.
const TAIL: usize = 16;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn read(mapped: &MappedFile, range: Range<usize>) -> Option<Vec<u8>> {
        let mut seen = Vec::new();
        mapped.read(range, |bytes| seen.extend_from_slice(bytes)).then_some(seen)
    }

    #[test]
    fn a_mapping_shows_the_files_bytes_from_its_offset_on() {
        let bytes: Vec<u8> =
            (0..3 * page_size()).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        let mapped = MappedFile::new(&file_of(&bytes), page_size() as u64, 2 * page_size()).unwrap();
        assert_eq!(read(&mapped, 7..5000).unwrap(), bytes[page_size() + 7..page_size() + 5000]);
        assert_eq!(read(&mapped, 0..2 * page_size() + 1), None, "past its end");
    }

    #[test]
    fn a_file_that_was_cut_off_is_no_crash_and_gives_nothing_any_more() {
        let file = file_of(&vec![7; 4 * page_size()]);
        let mapped = MappedFile::new(&file, 0, 4 * page_size()).unwrap();
        assert!(read(&mapped, 0..4 * page_size()).is_some());
        file.set_len(page_size() as u64).unwrap();
        assert_eq!(read(&mapped, 0..4 * page_size()), None);
        assert_eq!(read(&mapped, 0..1), None, "not trusted again");
        let another = MappedFile::new(&file, 0, page_size()).unwrap();
        assert_eq!(read(&another, 0..1), Some(vec![7]), "others are not concerned");
    }

    #[test]
    fn the_page_in_which_the_file_ends_is_told_from_others() {
        let file = file_of(&vec![7; 2 * page_size()]);
        let mapped = MappedFile::new(&file, 0, 2 * page_size()).unwrap();
        let ends = [1, page_size(), page_size() + 1, 2 * page_size()];
        assert_eq!(ends.map(|end| mapped.ends_in_zeros(end)), [false; 4]);
        file.set_len(page_size() as u64 + 100).unwrap();
        assert_eq!(ends.map(|end| mapped.ends_in_zeros(end)), [false, false, true, true]);
        file.set_len(0).unwrap();
        assert_eq!(ends.map(|end| mapped.ends_in_zeros(end)), [true; 4], "it has no end any more");
    }

    #[test]
    fn many_readers_of_a_file_that_is_being_cut_off_see_its_bytes_or_nothing() {
        let pages = 256;
        let file = file_of(&vec![7; pages * page_size()]);
        let mapped = MappedFile::new(&file, 0, pages * page_size()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while let Some(seen) = read(&mapped, 0..pages * page_size()) {
                        assert!(seen.iter().all(|&byte| byte == 7));
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            file.set_len(0).unwrap();
        });
    }

    #[test]
    fn watches_are_given_back() {
        let file = file_of(&vec![7; page_size()]);
        for _ in 0..3 * WATCHES.len() {
            drop(MappedFile::new(&file, 0, page_size()).unwrap());
        }
    }
}
