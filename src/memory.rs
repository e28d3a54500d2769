//! The binary's allocator: mimalloc. Freed memory of deleted keys is found again quickly, and threads do not
//! share free lists.
//!
//! It counts the bytes of its blocks, by their size classes: INFO's `used_memory` and `maxmemory` go by them
//! (decision 0067). Each thread counts for itself.

#![allow(unsafe_code, reason = "the door to the allocator")]

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

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

/// How many threads have a count of their own. Later ones share one, and pay for an atomic addition.
const OWN_COUNTS: usize = 256;
/// Of a thread that has not allocated yet.
const UNPLACED: usize = usize::MAX;

/// Bytes, on a cache line of its own.
#[repr(align(64))]
struct Count(AtomicIsize);

/// Blocks of each thread, less those that it has freed, in bytes; the last is that of all later threads. What
/// a thread has counted stays when it ends.
static COUNTS: [Count; OWN_COUNTS + 1] = [const { Count(AtomicIsize::new(0)) }; OWN_COUNTS + 1];
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The thread's place in [`COUNTS`]. Without a destructor, which an allocator may not have there.
    static PLACE: Cell<usize> = const { Cell::new(UNPLACED) };
}

#[inline]
fn count(bytes: isize) {
    let place = PLACE.get();
    match COUNTS[..OWN_COUNTS].get(place) {
        // No other thread writes here.
        Some(Count(own)) => own.store(own.load(Ordering::Relaxed) + bytes, Ordering::Relaxed),
        None => count_elsewhere(place, bytes),
    }
}

#[cold]
#[inline(never)]
fn count_elsewhere(place: usize, bytes: isize) {
    if place == UNPLACED {
        PLACE.set(THREADS.fetch_add(1, Ordering::Relaxed).min(OWN_COUNTS));
        return count(bytes);
    }
    COUNTS[OWN_COUNTS].0.fetch_add(bytes, Ordering::Relaxed);
}

/// The bytes of all blocks of the process, by their size classes.
pub fn allocated_bytes() -> usize {
    let sum: isize = COUNTS.iter().map(|Count(bytes)| bytes.load(Ordering::Relaxed)).sum();
    usize::try_from(sum).unwrap_or(0)
}

/// The size of the block that this many bytes get: mimalloc's size classes, as `mi_good_size` has them.
#[inline]
fn block_bytes(size: usize) -> usize {
    const WORD: usize = 8;
    const PAGE: usize = 4096;
    const MEDIUM_BYTES_MAX: usize = 128 << 10;
    if size <= WORD {
        WORD
    } else if size <= 64 {
        size.next_multiple_of(2 * WORD)
    } else if size <= MEDIUM_BYTES_MAX {
        let words = size.div_ceil(WORD);
        // Four classes from one power of two to the next.
        words.next_multiple_of(1 << ((words - 1).ilog2() - 2)) * WORD
    } else {
        size.next_multiple_of(PAGE)
    }
}

#[inline]
fn block_of(layout: Layout) -> isize {
    block_bytes(layout.size().next_multiple_of(layout.align().max(1))) as isize
}

// SAFETY: every method gives or takes a block of mimalloc, whose functions for aligned blocks and for others
// work on each other's blocks; where the others are called, their blocks have the alignment.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(block_of(layout));
        match is_natural(layout.size(), layout.align()) {
            // SAFETY: takes any size.
            true => unsafe { mi_malloc(layout.size()).cast() },
            // SAFETY: the caller's contract is the same.
            false => unsafe { MiMalloc.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(block_of(layout));
        match is_natural(layout.size(), layout.align()) {
            // SAFETY: takes any size.
            true => unsafe { mi_zalloc(layout.size()).cast() },
            // SAFETY: the caller's contract is the same.
            false => unsafe { MiMalloc.alloc_zeroed(layout) },
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-block_of(layout));
        // SAFETY: the caller's contract is the same.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(block_bytes(size) as isize - block_of(layout));
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
    fn blocks_are_counted_by_the_size_classes_of_the_allocator() {
        unsafe extern "C" {
            fn mi_good_size(size: usize) -> usize;
        }
        // Larger ones are counted by the page: what is beyond their end is not touched.
        for size in (0..5_000).chain((5_000..128 << 10).step_by(61)) {
            // SAFETY: takes any size.
            assert_eq!(block_bytes(size), unsafe { mi_good_size(size) }, "{size}");
        }
    }

    #[test]
    fn what_threads_have_allocated_and_freed_is_counted_when_they_have_ended() {
        const THREADS: usize = 2 * OWN_COUNTS;
        const BYTES: usize = 100_000;
        const OTHERS_BYTES: usize = 8 << 20;
        let before = allocated_bytes();
        let blocks: Vec<Vec<u8>> = (0..THREADS)
            .map(|_| std::thread::spawn(|| vec![1; BYTES]).join().expect("it allocates"))
            .collect();
        let whole = THREADS * block_bytes(BYTES);
        let taken = allocated_bytes() - before;
        // Other tests run at the same time.
        assert!(taken.abs_diff(whole) < OTHERS_BYTES, "{taken} beside {whole}");
        for block in blocks {
            std::thread::spawn(|| drop(block)).join().expect("it frees");
        }
        let left = allocated_bytes().saturating_sub(before);
        assert!(left < OTHERS_BYTES, "{left}");
    }

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
