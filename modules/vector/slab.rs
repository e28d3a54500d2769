//! An array that grows without moving: rows of equal length in segments of about 2 MiB (64 KiB for tiny
//! rows).
//!
//! Readers find a row through a directory of segments, with two loads that usually hit the cache and without
//! a lock. Growth adds segments, and sometimes replaces the directory by one of twice the size. Old
//! directories live until the slab is dropped, because a reader may still refer to one; together they are no
//! larger than the current one.
//!
//! Memory is zeroed. The system provides it lazily, so a segment costs only the pages that were touched.
//! Segments start on a cache line. The segments of a slab that walks read at random (`for_walks`) are in huge
//! pages, from the second segment on, so that small indexes stay small; and so are segments that were
//! requested in advance (`reserve`).

#![allow(unsafe_code, reason = "the graph's storage, shared between threads without locks")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::mem::size_of;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::kernels::{copy_past_caches, prefetch};
use crate::region::{self, Regions};

const SEGMENT_BYTES: usize = 2 << 20;
/// For rows of a few bytes, so that a sparse id costs little memory.
const SMALL_SEGMENT_BYTES: usize = 64 << 10;
const SMALL_ROW_BYTES: usize = 16;
/// Smaller reservations do not get a mapping of their own.
const RESERVED_BYTES_MIN: usize = 4 << 20;
const CACHE_LINE_BYTES: usize = 64;

/// Types for which all-zero bytes are a valid value, and which need no drop.
///
/// # Safety
/// Both must be true, and the alignment must be at most that of a cache line.
pub(crate) unsafe trait Zeroed: Send + Sync {}
// SAFETY: zero bytes are the number 0 in each of these types.
unsafe impl Zeroed for u8 {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU8 {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU16 {}

pub(crate) struct Slab<T: Zeroed> {
    row_items: usize,
    /// A segment has `1 << shift` rows.
    shift: u32,
    directory: AtomicPtr<Directory>,
    growth: Mutex<Growth>,
    items: PhantomData<T>,
}

struct Directory {
    /// Starts of the segments; null for segments that do not exist yet.
    segments: Box<[AtomicPtr<u8>]>,
}

/// State of growth and drop; readers do not access it.
struct Growth {
    /// Every directory ever made, for drop.
    directories: Vec<NonNull<Directory>>,
    /// Every segment as it was allocated, for drop.
    allocations: Vec<NonNull<u8>>,
    /// Provides reserved segments, and all segments but the first of a slab for walks.
    regions: Regions,
    for_walks: bool,
}

// SAFETY: the pointers in `Growth` own their targets and are used only under its lock or in drop.
unsafe impl Send for Growth {}

impl<T: Zeroed> Slab<T> {
    /// An empty slab with rows of `row_items` (at least one) items.
    pub fn new(row_items: usize) -> Self {
        assert!(row_items > 0, "a row has at least one item");
        let row_bytes = row_items * size_of::<T>();
        let segment_bytes = if row_bytes <= SMALL_ROW_BYTES { SMALL_SEGMENT_BYTES } else { SEGMENT_BYTES };
        let rows = (segment_bytes / row_bytes).max(1);
        let first = Directory::with_capacity(4);
        Slab {
            row_items,
            shift: rows.ilog2(),
            directory: AtomicPtr::new(first.as_ptr()),
            growth: Mutex::new(Growth {
                directories: vec![first],
                allocations: Vec::new(),
                regions: Regions::default(),
                for_walks: false,
            }),
            items: PhantomData,
        }
    }

    /// An empty slab for an array that walks read at random. Threads that write to it first must hold no lock
    /// that others wait for: see `Regions`.
    pub fn for_walks(row_items: usize) -> Self {
        let mut slab = Slab::new(row_items);
        slab.growth.get_mut().for_walks = true;
        slab
    }

    pub fn row_bytes(&self) -> usize {
        self.row_items * size_of::<T>()
    }

    pub fn rows_per_segment(&self) -> usize {
        1 << self.shift
    }

    /// The row. Its segment must exist (`ensure`); otherwise this panics.
    #[inline(always)]
    pub fn row(&self, index: u32) -> &[T] {
        let start = self.start_of(index);
        assert!(!start.is_null(), "row {index} was never made");
        // SAFETY: the segment is allocated, has `1 << shift` rows, lives as long as the slab, and every item
        // of it is a valid T from the start. Rows are written through atomics, or by `fill`, whose caller
        // excludes readers.
        unsafe { std::slice::from_raw_parts(start.cast::<T>(), self.row_items) }
    }

    /// The row, if its segment exists.
    #[inline]
    pub fn get(&self, index: u32) -> Option<&[T]> {
        // SAFETY: the directory lives until the slab is dropped.
        let directory = unsafe { &*self.directory.load(Ordering::Acquire) };
        let segment = directory.segments.get(index as usize >> self.shift)?.load(Ordering::Acquire);
        if segment.is_null() { None } else { Some(self.row(index)) }
    }

    /// Start of the row, or null.
    #[inline(always)]
    fn start_of(&self, index: u32) -> *mut u8 {
        let index = index as usize;
        // SAFETY: the directory lives until the slab is dropped.
        let directory = unsafe { &*self.directory.load(Ordering::Acquire) };
        let segment = directory.segments[index >> self.shift].load(Ordering::Acquire);
        if segment.is_null() {
            return null_mut();
        }
        let within = index & ((1 << self.shift) - 1);
        // SAFETY: `within` is below the segment's number of rows.
        unsafe { segment.add(within * self.row_bytes()) }
    }

    /// Prefetches the first `lines` cache lines of an existing row.
    #[inline(always)]
    pub fn prefetch(&self, index: u32, lines: usize) {
        let start = self.start_of(index);
        for line in 0..lines {
            prefetch(start.wrapping_add(line * CACHE_LINE_BYTES));
        }
    }

    /// Creates the segment of this row, if it does not exist.
    pub fn ensure(&self, index: u32) {
        if self.get(index).is_some() {
            return;
        }
        let segment = index as usize >> self.shift;
        let mut growth = self.growth.lock();
        let directory = self.directory_for(segment, &mut growth);
        if !directory.segments[segment].load(Ordering::Acquire).is_null() {
            return;
        }
        let layout = self.segment_layout();
        if segment > 0
            && growth.for_walks
            && let Some(start) = growth.regions.cut(layout.size())
        {
            directory.segments[segment].store(start.as_ptr(), Ordering::Release);
            return;
        }
        // SAFETY: the layout has a size above zero.
        let Some(allocation) = NonNull::new(unsafe { alloc_zeroed(layout) }) else {
            handle_alloc_error(layout)
        };
        growth.allocations.push(allocation);
        let offset = allocation.as_ptr().align_offset(CACHE_LINE_BYTES);
        // SAFETY: the layout has a cache line to spare.
        let start = unsafe { allocation.as_ptr().add(offset) };
        directory.segments[segment].store(start, Ordering::Release);
    }

    /// Creates the segments of the first `rows` rows of an empty slab at once; the caller is about to write
    /// all of them.
    pub fn reserve(&self, rows: u32) {
        let segment_bytes = (self.row_bytes() << self.shift).next_multiple_of(CACHE_LINE_BYTES);
        let segments = (rows as usize).div_ceil(1 << self.shift);
        if segments * segment_bytes < RESERVED_BYTES_MIN {
            return;
        }
        let mut growth = self.growth.lock();
        let filled = rows as usize * self.row_bytes();
        let Some(start) = growth.regions.reserve(segments * segment_bytes, filled) else { return };
        let directory = self.directory_for(segments - 1, &mut growth);
        for (number, segment) in directory.segments[..segments].iter().enumerate() {
            assert!(segment.load(Ordering::Relaxed).is_null(), "room is reserved in an empty slab");
            // SAFETY: all segments lie within the reservation.
            segment.store(unsafe { start.as_ptr().add(number * segment_bytes) }, Ordering::Release);
        }
    }

    /// Creates the segment of this row if it does not exist, and touches its memory, so that a later writer
    /// does not wait for page faults.
    pub fn prepare(&self, index: u32) {
        if self.get(index).is_some() {
            return;
        }
        self.ensure(index);
        let first = index >> self.shift << self.shift;
        if let Some(start) = NonNull::new(self.start_of(first)) {
            region::touch(start, self.row_bytes() << self.shift);
        }
    }

    /// The current directory, replaced by a larger one if this segment is beyond it.
    fn directory_for(&self, segment: usize, growth: &mut Growth) -> &Directory {
        // SAFETY: directories live until the slab is dropped.
        let current = unsafe { &*self.directory.load(Ordering::Acquire) };
        if segment < current.segments.len() {
            return current;
        }
        let next = Directory::with_capacity((segment + 1).max(2 * current.segments.len()));
        growth.directories.push(next);
        // SAFETY: as above; it is not shared yet, and only atomics are written.
        let larger = unsafe { next.as_ref() };
        for (to, from) in larger.segments.iter().zip(&current.segments) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.directory.store(next.as_ptr(), Ordering::Release);
        larger
    }

    /// The alignment is done by hand: for a larger alignment than the usual one, the system's allocator would
    /// write the zeros itself, and so touch every page of a segment of which little may be used.
    fn segment_layout(&self) -> Layout {
        let bytes = (self.row_bytes() << self.shift) + CACHE_LINE_BYTES;
        Layout::from_size_align(bytes, 16).expect("a segment is far smaller than the address space")
    }
}

impl<T: Zeroed + Copy> Slab<T> {
    /// Writes a row.
    ///
    /// # Safety
    /// No other thread reads or writes this row during the call, or holds a reference to it.
    pub unsafe fn fill(&self, index: u32, items: &[T]) {
        let start = self.start_of_whole(index, items);
        // SAFETY: the row is within its segment, and the caller excludes all other accesses.
        unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), start.cast::<T>(), self.row_items) };
    }

    fn start_of_whole(&self, index: u32, items: &[T]) -> *mut u8 {
        assert_eq!(items.len(), self.row_items, "a row is written whole");
        let start = self.start_of(index);
        assert!(!start.is_null(), "row {index} was never made");
        start
    }
}

impl Slab<u8> {
    /// Writes a row that is not read soon, with stores that bypass the cache.
    ///
    /// # Safety
    /// See `fill`.
    pub unsafe fn fill_past_caches(&self, index: u32, bytes: &[u8]) {
        let start = self.start_of_whole(index, bytes);
        // SAFETY: as in `fill`.
        unsafe { copy_past_caches(bytes, start) };
    }
}

impl<T: Zeroed> Drop for Slab<T> {
    fn drop(&mut self) {
        let layout = self.segment_layout();
        let growth = self.growth.get_mut();
        for allocation in growth.allocations.drain(..) {
            // SAFETY: allocated with this layout, and no reader is left.
            unsafe { dealloc(allocation.as_ptr(), layout) };
        }
        for directory in growth.directories.drain(..) {
            // SAFETY: made by `Box::into_raw`, and no reader is left.
            drop(unsafe { Box::from_raw(directory.as_ptr()) });
        }
    }
}

impl Directory {
    fn with_capacity(segments: usize) -> NonNull<Directory> {
        let segments = (0..segments).map(|_| AtomicPtr::new(null_mut())).collect();
        NonNull::from(Box::leak(Box::new(Directory { segments })))
    }
}

/// Bytes that start on a cache line, for queries. Stored rows of most lengths are aligned too, and a kernel
/// whose loads cross no cache line on either side is a quarter faster (384 components, AVX-512: 15.7 ns
/// against 21.3).
#[derive(Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "read through the slice of all")] [u8; CACHE_LINE_BYTES]);

impl Aligned {
    /// `length` bytes of unspecified content.
    pub fn of_length(&mut self, length: usize) -> &mut [u8] {
        let lines = length.div_ceil(CACHE_LINE_BYTES);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0; CACHE_LINE_BYTES]));
        }
        // SAFETY: a `Line` consists of its bytes and nothing else, and so do several in a row.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), length) }
    }

    pub fn copy(&mut self, bytes: &[u8]) -> &[u8] {
        let aligned = self.of_length(bytes.len());
        aligned.copy_from_slice(bytes);
        aligned
    }

    pub fn capacity_bytes(&self) -> usize {
        self.lines.capacity() * CACHE_LINE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_start_as_zeros_and_stay_where_they_are() {
        let slab = Slab::<u8>::new(1_200_000);
        slab.ensure(0);
        let first = slab.row(0).as_ptr();
        assert!(slab.row(0).iter().all(|&x| x == 0));
        for row in 0..40 {
            slab.ensure(row);
            // SAFETY: one thread, no references.
            unsafe { slab.fill(row, &vec![row as u8; 1_200_000]) };
        }
        assert_eq!(slab.row(0).as_ptr(), first);
        assert!((0..40).all(|row| slab.row(row)[1_199_999] == row as u8));
        assert_eq!(first as usize % CACHE_LINE_BYTES, 0);
    }

    #[test]
    fn rows_of_any_length_are_written_past_the_caches() {
        for length in [1, 15, 16, 37, 100, 1_536] {
            let slab = Slab::<u8>::new(length);
            let row = |row: u32| -> Vec<u8> { (0..length).map(|at| (at as u32 + row) as u8).collect() };
            for index in 0..50 {
                slab.ensure(index);
                // SAFETY: one thread, no references.
                unsafe { slab.fill_past_caches(index, &row(index)) };
            }
            assert!((0..50).all(|index| slab.row(index) == row(index)), "rows of {length} bytes");
        }
    }

    #[test]
    fn a_slab_grows_beyond_the_reserved_rows() {
        for slab in [Slab::<u8>::new(4_100), Slab::<u8>::for_walks(4_100)] {
            slab.reserve(3_000);
            for row in 0..5_000 {
                slab.prepare(row);
                // SAFETY: one thread, no references.
                unsafe { slab.fill(row, &[row as u8; 4_100]) };
            }
            assert!((0..5_000).all(|row| slab.row(row).iter().all(|&byte| byte == row as u8)));
        }
    }

    #[test]
    fn copied_bytes_start_on_a_cache_line() {
        let mut aligned = Aligned::default();
        for length in [1, 7, 384, 5] {
            let bytes = vec![length as u8; length];
            let copy = aligned.copy(&bytes);
            assert_eq!((copy, copy.as_ptr() as usize % CACHE_LINE_BYTES), (&bytes[..], 0));
        }
    }

    #[test]
    fn sparse_rows_cost_only_their_own_segments() {
        let slab = Slab::<AtomicU32>::new(1);
        slab.ensure(u32::MAX);
        slab.row(u32::MAX)[0].store(7, Ordering::Relaxed);
        assert_eq!(slab.row(u32::MAX)[0].load(Ordering::Relaxed), 7);
        assert!(slab.get(0).is_none());
    }
}
