//! Memory for what walks read at random, in huge pages where the system has them.
//!
//! A walk reads hundreds of rows all over an array that is far larger than what the processor's tables of pages cover,
//! so that in small pages nearly each row costs a walk through the page tables as well. Here a slab's segments stand one
//! behind the other in large mappings for which huge pages are asked (`madvise`): at most one of them per slab is partly
//! used.
//!
//! The first touch of a huge page clears two mebibytes, which can take milliseconds in a virtual machine. So this is for
//! memory that is filled by threads that hold no lock that others wait for.

use std::ptr::NonNull;

const HUGE_PAGE_BYTES: usize = 2 << 20;
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
        let bytes = bytes.next_multiple_of(64);
        if self.mappings.last().is_none_or(|last| last.bytes - self.next < bytes) {
            let before: usize = self.mappings.iter().map(|mapping| mapping.bytes).sum();
            let wanted = bytes.max(before.clamp(2 * HUGE_PAGE_BYTES, MAPPING_BYTES_MAX));
            self.mappings.push(Mapping::new(wanted.next_multiple_of(HUGE_PAGE_BYTES))?);
            self.next = 0;
        }
        let last = self.mappings.last().expect("there is one, above");
        // SAFETY: `next` and the piece behind it lie within the mapping.
        let piece = unsafe { last.start.add(self.next) };
        self.next += bytes;
        Some(piece)
    }
}

#[cfg(target_os = "linux")]
impl Mapping {
    /// Starts on the border of a huge page.
    fn new(bytes: usize) -> Option<Mapping> {
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
        _ = unsafe { madvise(start.cast(), bytes, Advice::LinuxHugepage) };
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
    fn new(_bytes: usize) -> Option<Mapping> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zeroed_apart_and_on_cache_lines() {
        let mut regions = Regions::default();
        let sizes = [100, HUGE_PAGE_BYTES, 3 * HUGE_PAGE_BYTES + 5, 64, 5_000_000];
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        for bytes in sizes {
            let piece = regions.cut(bytes).expect("the system has address space");
            assert_eq!(piece.as_ptr() as usize % 64, 0);
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
