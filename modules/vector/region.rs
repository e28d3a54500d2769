//! Memory for what walks read at random, in huge pages where the system has them.
//!
//! A walk reads hundreds of rows all over an array that is far larger than what the processor's tables of pages cover,
//! so that in small pages nearly each row costs a walk through the page tables as well. Here a slab's segments stand one
//! behind the other in large mappings for which huge pages are asked (`madvise`): at most one of them per slab is partly
//! used.
//!
//! The first touch of a huge page clears two mebibytes, which can take milliseconds in a virtual machine. So this is for
//! memory that is filled, or touched in time (`touch`), by threads that hold no lock that others wait for.

use std::ptr::NonNull;

const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Or a multiple of it, which does no harm.
#[cfg(target_os = "linux")]
const PAGE_BYTES: usize = 4096;
const PIECE_ALIGNMENT_BYTES: usize = 64;
/// Mappings double in size up to this. They cost address space until they are touched.
const MAPPING_BYTES_MAX: usize = 64 << 20;

/// Mappings, from which pieces are cut that live until all of them are dropped.
#[derive(Default)]
pub(crate) struct Regions {
    mappings: Vec<Mapping>,
    /// What is left of the last mapping begins here.
    next: usize,
}

struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the memory belongs to the regions alone.
unsafe impl Send for Regions {}

impl Regions {
    /// Zeroed memory of this size that starts on a cache line; `None` where the system gives none.
    pub fn cut(&mut self, bytes: usize) -> Option<NonNull<u8>> {
        let bytes = bytes.next_multiple_of(PIECE_ALIGNMENT_BYTES);
        if self.mappings.last().is_none_or(|last| last.bytes - self.next < bytes) {
            let before: usize = self.mappings.iter().map(|mapping| mapping.bytes).sum();
            let wanted = bytes.max(before.clamp(2 * HUGE_PAGE_BYTES, MAPPING_BYTES_MAX));
            let wanted = wanted.next_multiple_of(HUGE_PAGE_BYTES);
            self.mappings.push(Mapping::new(wanted, wanted)?);
            self.next = 0;
        }
        let last = self.mappings.last().expect("there is one, above");
        // SAFETY: `next` and the piece behind it lie within the mapping.
        let piece = unsafe { last.start.add(self.next) };
        self.next += bytes;
        Some(piece)
    }

    /// The same, of which the first `filled` bytes will be written and the rest perhaps never: huge pages are asked for what
    /// they fill, so that none is partly used.
    pub fn reserve(&mut self, bytes: usize, filled: usize) -> Option<NonNull<u8>> {
        let bytes = bytes.next_multiple_of(HUGE_PAGE_BYTES);
        let mapping = Mapping::new(bytes, filled / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES)?;
        let start = mapping.start;
        self.mappings.push(mapping);
        self.next = bytes;
        Some(start)
    }
}

/// Touches memory that was cut, whatever it holds and whoever writes it meanwhile, so that its pages are there.
#[cfg(target_os = "linux")]
pub(crate) fn touch(start: NonNull<u8>, bytes: usize) {
    use rustix::mm::{Advice, madvise};
    let before = start.as_ptr() as usize % PAGE_BYTES;
    // SAFETY: the pages of a piece lie in its mapping. The call changes no content; a kernel that does not know it (before
    // 5.14) says so, and the first writer waits for the page.
    _ = unsafe { madvise(start.as_ptr().sub(before).cast(), bytes + before, Advice::LinuxPopulateWrite) };
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn touch(_start: NonNull<u8>, _bytes: usize) {}

#[cfg(target_os = "linux")]
impl Mapping {
    /// Starts on the border of a huge page, and asks for such pages for its first `huge` bytes.
    fn new(bytes: usize, huge: usize) -> Option<Mapping> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
        let (access, whole) = (ProtFlags::READ | ProtFlags::WRITE, bytes + HUGE_PAGE_BYTES);
        // SAFETY: a new mapping, where the system likes, touches nobody's memory.
        let mapped = unsafe { mmap_anonymous(std::ptr::null_mut(), whole, access, MapFlags::PRIVATE) };
        let mapped = mapped.ok()?.cast::<u8>();
        let before = mapped.align_offset(HUGE_PAGE_BYTES);
        // SAFETY: the border is within the mapping, and `bytes` follow it.
        let start = unsafe { mapped.add(before) };
        for (part, length) in [(mapped, before), (start.wrapping_add(bytes), HUGE_PAGE_BYTES - before)] {
            if length > 0 {
                // SAFETY: a part of the new mapping that nobody has; should it stay, it costs address space only.
                _ = unsafe { munmap(part.cast(), length) };
            }
        }
        // SAFETY: advice on our own mapping. Without huge pages it serves all the same, only slower.
        _ = unsafe { madvise(start.cast(), huge, Advice::LinuxHugepage) };
        Some(Mapping { start: NonNull::new(start)?, bytes })
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: our own mapping, which nobody reads any more; should it stay, memory is lost and nothing else.
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
    fn what_is_reserved_is_apart_from_what_is_cut_later() {
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
            // SAFETY: the piece is this long, and this test's alone.
            let piece = unsafe { std::slice::from_raw_parts_mut(piece.as_ptr(), bytes) };
            assert!(piece.iter().all(|&byte| byte == 0));
            piece.fill(1);
            let range = (piece.as_ptr() as usize, piece.as_ptr() as usize + bytes);
            assert!(pieces.iter().all(|&(start, end)| range.1 <= start || end <= range.0));
            pieces.push(range);
        }
    }
}
