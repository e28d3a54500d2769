//! The binary's allocator: mimalloc. Freed memory of deleted keys is found again quickly, and threads do not
//! share free lists.

#![allow(unsafe_code, reason = "the door to the allocator")]

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

unsafe extern "C" {
    // Of mimalloc, which is linked in as the allocator: <https://microsoft.github.io/mimalloc/>.
    fn mi_collect(force: bool);
    fn mi_malloc(size: usize) -> *mut c_void;
    fn mi_zalloc(size: usize) -> *mut c_void;
    fn mi_realloc(pointer: *mut c_void, size: usize) -> *mut c_void;
}

/// What each block of mimalloc is aligned to, if it is as large (`MI_MAX_ALIGN_SIZE`).
const ALIGNED: usize = 16;

/// mimalloc without its functions for alignment where it aligns anyway: these take 64 bytes for 48 and 96 for
/// 80, whatever the alignment, and each `Box` and `Vec` of anything but bytes asks for one.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Whether a block of this size is aligned as asked without more.
fn is_natural(size: usize, align: usize) -> bool {
    align <= ALIGNED && size >= align
}

// SAFETY: every method gives or takes a block of mimalloc, whose functions for aligned blocks and for others
// work on each other's blocks; where the others are called, their blocks have the alignment.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match is_natural(layout.size(), layout.align()) {
            // SAFETY: takes any size.
            true => unsafe { mi_malloc(layout.size()).cast() },
            // SAFETY: the caller's contract is the same.
            false => unsafe { MiMalloc.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match is_natural(layout.size(), layout.align()) {
            // SAFETY: takes any size.
            true => unsafe { mi_zalloc(layout.size()).cast() },
            // SAFETY: the caller's contract is the same.
            false => unsafe { MiMalloc.alloc_zeroed(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is the same.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match is_natural(size, layout.align()) {
            // SAFETY: by the caller's contract, the block was allocated by mimalloc, which may resize it.
            true => unsafe { mi_realloc(pointer.cast(), size).cast() },
            // SAFETY: the caller's contract is the same.
            false => unsafe { MiMalloc.realloc(pointer, layout, size) },
        }
    }
}

/// Returns freed memory to the system at once, which otherwise happens at later allocations. Called after a
/// start, which frees its read buffers.
pub fn give_back_freed() {
    // SAFETY: it takes a flag, and may be called at any time.
    unsafe { mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_as_asked_and_keep_their_content_when_they_grow() {
        for align in [1, 2, 4, 8, 16, 32, 64] {
            for size in [1, 2, 3, 7, 8, 15, 16, 17, 24, 40, 48, 80, 112, 200, 1_000, 70_000] {
                let layout = Layout::from_size_align(size, align).expect("small");
                // SAFETY: the layout is not empty, the block is written within it, grown with the layout that
                // it has, and freed with that of its new size.
                unsafe {
                    let zeroed = ALLOCATOR.alloc_zeroed(layout);
                    assert!((0..size).all(|at| *zeroed.add(at) == 0));
                    ALLOCATOR.dealloc(zeroed, layout);
                    let block = ALLOCATOR.alloc(layout);
                    block.write_bytes(7, size);
                    let grown = ALLOCATOR.realloc(block, layout, 3 * size);
                    assert!([zeroed, block, grown].iter().all(|block| block.addr() % align == 0));
                    assert!((0..size).all(|at| *grown.add(at) == 7));
                    ALLOCATOR.dealloc(grown, Layout::from_size_align(3 * size, align).expect("small"));
                }
            }
        }
    }
}
