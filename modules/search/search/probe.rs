//! How much one hold of a lock does, for tests: rows that are made, places and documents that are looked at,
//! and comparisons. Counted by thread, and in debug builds only.

#[cfg(debug_assertions)]
use std::cell::Cell;

#[cfg(debug_assertions)]
thread_local! {
    static TOUCHED: Cell<usize> = const { Cell::new(0) };
}

/// Counts one.
#[inline]
pub fn touch() {
    #[cfg(debug_assertions)]
    TOUCHED.set(TOUCHED.get() + 1);
}

/// What this thread has counted so far; nothing in a release build.
#[must_use]
pub fn touched() -> usize {
    #[cfg(debug_assertions)]
    return TOUCHED.get();
    #[cfg(not(debug_assertions))]
    0
}
