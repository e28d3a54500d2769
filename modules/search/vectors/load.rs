//! How many graphs have more pending work than their bound, for which writers must wait: one number for all
//! fields, so that asking takes the same time however many there are; and the bound.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

#[derive(Debug)]
pub struct Load {
    full: AtomicUsize,
    /// Pending live mutations of one field above which writers wait.
    tail_max: AtomicU64,
}

/// The default of `tail_max`. Every search scans all pending mutations, which at this number takes about as
/// long as the walk through a graph. (With 4,096, the p99 of searches during ingestion was 10 times that of
/// an idle server, and ingestion was no faster: the graph limits it.)
pub const TAIL_MAX: usize = 512;

impl Default for Load {
    fn default() -> Load {
        Load { full: AtomicUsize::new(0), tail_max: AtomicU64::new(TAIL_MAX as u64) }
    }
}

impl Load {
    /// True while a field has too much pending work.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed) > 0
    }

    pub fn tail_max(&self) -> usize {
        self.tail_max.load(Ordering::Relaxed) as usize
    }

    /// Where the limit is, for the setting. A field compares itself with it at its next mutation.
    pub fn tail_max_place(&self) -> &AtomicU64 {
        &self.tail_max
    }

    pub(super) fn begin(&self) {
        self.full.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.full.fetch_sub(1, Ordering::Relaxed);
    }
}
