//! Memory for arrays that walks read at random, in huge pages where the system has them.
//!
//! A walk reads hundreds of rows spread over an array that is far larger than the memory covered by the
//! processor's TLB. With small pages, nearly every row would cost a walk through the page tables as well.
//! Here the segments of a slab follow one another in large mappings for which huge pages are requested
//! (`madvise`); at most one huge page per slab is partly used.
//!
//! The first access to a huge page clears 2 MiB, which can take milliseconds in a virtual machine. So this is
//! only for memory that is first touched (`touch`) by threads that hold no lock that others wait for.

#![allow(unsafe_code, reason = "the graph's storage, shared between threads without locks")]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of all regions that are in use or will be soon.
static USED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Memory of graphs that no allocator knows, in bytes.
pub fn mapped_bytes() -> usize {
    USED_BYTES.load(Ordering::Relaxed)
}

const HUGE_PAGE_BYTES: usize = 2 << 20;
/// The real page size may be a multiple of this, which is harmless.
#[cfg(target_os = "linux")]
const PAGE_BYTES: usize = 4096;
const PIECE_ALIGNMENT_BYTES: usize = 64;
/// Mappings double in size up to this. Until they are touched they cost address space only.
const MAPPING_BYTES_MAX: usize = 64 << 20;

/// Mappings that pieces are cut from. The pieces live until all mappings are dropped.
#[derive(Default)]
pub(crate) struct Regions {
    mappings: Vec<Mapping>,
    /// The offset of the unused rest of the last mapping.
    next: usize,
    /// What was counted in `USED_BYTES`.
    used: usize,
}

struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to the regions alone.
unsafe impl Send for Regions {}

impl Regions {
    /// Zeroed memory of this size that starts on a cache line; `None` if the system refuses it.
    pub fn cut(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let bytes = bytes.next_multiple_of(PIECE_ALIGNMENT_BYTES);
        if self.mappings.last().is_none_or(|last| last.bytes - self.next < bytes) {
            let before: usize = self.mappings.iter().map(|mapping| mapping.bytes).sum();
            let wanted = bytes.max(before.clamp(2 * HUGE_PAGE_BYTES, MAPPING_BYTES_MAX));
            let wanted = wanted.next_multiple_of(HUGE_PAGE_BYTES);
            self.mappings.push(Mapping::new(wanted, wanted)?);
            self.next = 0;
        }
        let last = self.mappings.last().expect("a mapping was added above");
        // SAFETY: `next` and the piece after it lie within the mapping.
        let piece = unsafe { last.start.add(self.next) };
        self.next += bytes;
        self.count(bytes);
        Some(piece)
    }

    /// As `cut`, for memory whose first `filled` bytes will be written and whose rest perhaps never: huge
    /// pages are requested only for the part that is filled, so that no huge page is partly used.
    pub fn reserve(&mut self, bytes: usize, filled: usize) -> Option<NonNull<u8>> {
        let bytes = bytes.next_multiple_of(HUGE_PAGE_BYTES);
        let mapping = Mapping::new(bytes, filled / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES)?;
        let start = mapping.start;
        self.mappings.push(mapping);
        self.next = bytes;
        self.count(filled);
        Some(start)
    }

    fn count(&mut self, bytes: usize) {
        self.used += bytes;
        USED_BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Regions {
    fn drop(&mut self) {
        USED_BYTES.fetch_sub(self.used, Ordering::Relaxed);
    }
}

/// Touches memory that was cut, so that its pages exist. The content does not matter, and others may write it
/// meanwhile.
#[cfg(target_os = "linux")]
pub(crate) fn touch(start: NonNull<u8>, bytes: usize) {
    use rustix::mm::{Advice, madvise};
    let before = start.as_ptr() as usize % PAGE_BYTES;
    // SAFETY: the pages of a piece lie in its mapping. The call changes no content. A kernel without this
    // call (before 5.14) returns an error, and then the first writer waits for the page.
    _ = unsafe { madvise(start.as_ptr().sub(before).cast(), bytes + before, Advice::LinuxPopulateWrite) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn touch(_start: NonNull<u8>, _bytes: usize) {}

#[cfg(target_os = "linux")]
impl Mapping {
    /// Starts on a huge page boundary, and requests huge pages for its first `huge` bytes.
    fn new(bytes: usize, huge: usize) -> Option<Mapping> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
        let (access, whole) = (ProtFlags::READ | ProtFlags::WRITE, bytes + HUGE_PAGE_BYTES);
        // SAFETY: a new mapping at an address that the system chooses overlaps no other memory.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), whole, access, MapFlags::PRIVATE) };
        let mapped = mapped.ok()?.cast::<u8>();
        let before = mapped.align_offset(HUGE_PAGE_BYTES);
        // SAFETY: the boundary is within the mapping, and `bytes` follow it.
        let start = unsafe { mapped.add(before) };
        for (part, length) in [(mapped, before), (start.wrapping_add(bytes), HUGE_PAGE_BYTES - before)] {
            if length > 0 {
                // SAFETY: a part of the new mapping that nothing refers to. If the call fails, the part costs
                // address space only.
                _ = unsafe { munmap(part.cast(), length) };
            }
        }
        // SAFETY: advice on our own mapping. Without huge pages the memory works as well, only slower.
        _ = unsafe { madvise(start.cast(), huge, Advice::LinuxHugepage) };
        Some(Mapping { start: NonNull::new(start)?, bytes })
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which no reader refers to. If the call fails, the memory is leaked and
        // nothing else happens.
        _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

#[cfg(not(target_os = "linux"))]
impl Mapping {
    fn new(_bytes: usize, _huge: usize) -> Option<Mapping> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn reserved_memory_does_not_overlap_memory_cut_later() {
        let mut regions = Regions::default();
        let reserved = regions.reserve(5 << 20, 3 << 20).expect("the system has address space");
        let cut = regions.cut(1 << 20).expect("the system has address space");
        let distance = (reserved.as_ptr() as usize).abs_diff(cut.as_ptr() as usize);
        assert!(distance >= 5 << 20 || cut < reserved && distance >= 1 << 20);
    }

    #[test]
    fn pieces_are_zeroed_apart_and_on_cache_lines() {
        let mut regions = Regions::default();
        let sizes = [100, HUGE_PAGE_BYTES, 3 * HUGE_PAGE_BYTES + 5, 64, 5_000_000];
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        for bytes in sizes {
            let piece = regions.cut(bytes).expect("the system has address space");
            assert_eq!(piece.as_ptr() as usize % 64, 0);
            touch(piece, bytes);
            // SAFETY: the piece has this length and belongs to this test alone.
            let piece = unsafe { std::slice::from_raw_parts_mut(piece.as_ptr(), bytes) };
            assert!(piece.iter().all(|&byte| byte == 0));
            piece.fill(1);
            let range = (piece.as_ptr() as usize, piece.as_ptr() as usize + bytes);
            assert!(pieces.iter().all(|&(start, end)| range.1 <= start || end <= range.0));
            pieces.push(range);
        }
    }
}
