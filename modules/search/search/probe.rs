//! Counts the work under a lock, for tests: rows made, places and documents read, and comparisons. The count
//! is per thread, and in debug builds only.

#[cfg(debug_assertions)]
use std::cell::Cell;

#[cfg(debug_assertions)]
const WORDS_PER_UNIT: usize = 64;

#[cfg(debug_assertions)]
thread_local! {
    static TOUCHED: Cell<usize> = const { Cell::new(0) };
}

/// Counts one unit of work.
#[inline]
pub fn touch() {
    #[cfg(debug_assertions)]
    TOUCHED.set(TOUCHED.get() + 1);
}

/// Counts words that were walked over: `WORDS_PER_UNIT` of them are a unit of work.
#[inline]
pub fn touch_words(_count: usize) {
    #[cfg(debug_assertions)]
    TOUCHED.set(TOUCHED.get() + _count / WORDS_PER_UNIT);
}

/// The units of work that this thread has counted so far; 0 in a release build.
#[must_use]
pub fn touched() -> usize {
    #[cfg(debug_assertions)]
    return TOUCHED.get();
    #[cfg(not(debug_assertions))]
    0
}
