//! Lookups of keys by commands that read: how many found their key, and which keys were missing.
//!
//! As in Redis, a write's own lookups do not count. Each run adds its numbers to the engine's once, so that
//! workers do not share a counter for each command.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LookupCounts {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
}

impl LookupCounts {
    pub(crate) fn add(&mut self, other: LookupCounts) {
        self.hits += other.hits;
        self.misses += other.misses;
    }
}

/// The engine's numbers since its start, or since they were reset.
#[derive(Debug, Default)]
pub struct LookupTotals {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
}

impl LookupTotals {
    pub(crate) fn add(&self, counts: LookupCounts) {
        if counts.hits > 0 {
            self.hits.fetch_add(counts.hits, Ordering::Relaxed);
        }
        if counts.misses > 0 {
            self.misses.fetch_add(counts.misses, Ordering::Relaxed);
        }
    }
}

/// A database's number and a key in it.
pub(crate) type MissedKey = (u32, Box<[u8]>);

/// The lookups of one view.
#[derive(Default)]
pub(crate) struct Lookups {
    counts: Cell<bool>,
    notes_misses: Cell<bool>,
    hits: Cell<u64>,
    misses: Cell<u64>,
    missed: RefCell<Vec<MissedKey>>,
}

impl Lookups {
    /// Counts from now on; notes the missed keys as well if asked to.
    #[inline]
    pub(crate) fn begin(&self, notes_misses: bool) {
        self.counts.set(true);
        self.notes_misses.set(notes_misses);
    }

    #[inline]
    pub(crate) fn note(&self, database: u32, key: &[u8], is_hit: bool) {
        if !self.counts.get() {
            return;
        }
        if is_hit {
            return self.hits.set(self.hits.get() + 1);
        }
        self.misses.set(self.misses.get() + 1);
        if self.notes_misses.get() {
            self.missed.borrow_mut().push((database, key.into()));
        }
    }

    pub(crate) fn counted(&self) -> LookupCounts {
        LookupCounts { hits: self.hits.get(), misses: self.misses.get() }
    }

    /// The missed keys, in their order.
    #[inline]
    pub(crate) fn take_missed(&self) -> Vec<MissedKey> {
        if self.notes_misses.get() { self.missed.take() } else { Vec::new() }
    }
}
