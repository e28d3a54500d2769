//! The memory in use, what it is used for, and what is being freed.
//!
//! Keys and modules count what they take. All else (clients, buffers, scripts, the program itself) is what
//! the allocator has given out beyond that: the shell measures it some times a second (decision 0067).

use crate::keyspace::{EffectOutcome, Keyspace};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Memory in use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// Tables of keys, without keys and values.
    pub tables: usize,
    /// Keys and values.
    pub values: usize,
    /// Indexes, documents, scripts.
    pub modules: usize,
    /// Batches on their way to the log, which `maxmemory` does not limit.
    pub log: usize,
    /// All else.
    pub others: usize,
    /// The part of all else that was there at the start.
    pub startup: usize,
}

impl MemoryUse {
    pub fn total(&self) -> usize {
        self.limited() + self.log
    }

    /// What `maxmemory` limits.
    pub(crate) fn limited(&self) -> usize {
        self.tables + self.values + self.modules + self.others
    }

    /// What is no data.
    pub fn overhead(&self) -> usize {
        self.tables + self.others + self.log
    }

    pub fn dataset(&self) -> usize {
        self.values + self.modules
    }

    /// The share of data in what was taken since the start.
    pub fn dataset_percent(&self) -> f64 {
        let net = self.total().saturating_sub(self.startup);
        if net > 0 { (self.dataset() as f64 * 100.0 / net as f64).min(100.0) } else { 0.0 }
    }
}

/// What the shell knows of all that is no data.
#[derive(Clone, Copy, Debug)]
pub enum OfOthers {
    /// These bytes.
    Known(usize),
    /// The rest of what the process has allocated, in bytes.
    Rest { allocated: usize },
}

/// What all but keys and modules took when it was measured last, in bytes.
#[derive(Debug, Default)]
pub(crate) struct OtherMemory {
    others: AtomicUsize,
    log: AtomicUsize,
    startup: AtomicUsize,
}

/// Changes up to this are not noted: buffers come and go all the time, and a store that is at its limit must
/// not evict keys for them.
const NOISE_BYTES: usize = 256 << 10;

impl OtherMemory {
    pub(crate) fn note(&self, others: usize, log: usize) {
        for (noted, bytes) in [(&self.others, others), (&self.log, log)] {
            if bytes.abs_diff(noted.load(Ordering::Relaxed)) > NOISE_BYTES {
                noted.store(bytes, Ordering::Relaxed);
            }
        }
        _ = self.startup.compare_exchange(0, others.max(1), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What `maxmemory` limits, of all but keys and modules.
    #[inline]
    pub(crate) fn limited(&self) -> usize {
        self.others.load(Ordering::Relaxed)
    }

    /// All memory: `of_modules` are measured apart.
    pub(crate) fn with(&self, keyspace: &Keyspace, of_modules: usize) -> MemoryUse {
        let (all, tables) = (keyspace.heap_bytes(), keyspace.table_bytes());
        MemoryUse {
            tables,
            values: all - tables,
            modules: of_modules,
            log: self.log.load(Ordering::Relaxed),
            others: self.others.load(Ordering::Relaxed),
            startup: self.startup.load(Ordering::Relaxed),
        }
    }
}

/// Values that are freed outside of the lock.
#[derive(Debug, Default)]
pub struct Freeing {
    objects: AtomicU64,
    bytes: AtomicUsize,
    /// Objects that were freed.
    pub freed: AtomicU64,
}

impl Freeing {
    /// Objects that are not freed yet.
    pub fn pending(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn begin(self: &Arc<Freeing>, garbage: Vec<EffectOutcome>) -> BeingFreed {
        let (objects, bytes) = garbage
            .iter()
            .map(|outcome| outcome.garbage.weight())
            .fold((0, 0), |(objects, bytes), (more_objects, more_bytes)| {
                (objects + more_objects, bytes + more_bytes)
            });
        self.objects.fetch_add(objects, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        BeingFreed { garbage, objects, bytes, freeing: self.clone() }
    }
}

/// Removed values; counted as freed once this is dropped.
pub(crate) struct BeingFreed {
    garbage: Vec<EffectOutcome>,
    objects: u64,
    bytes: usize,
    freeing: Arc<Freeing>,
}

impl BeingFreed {
    /// True if dropping it takes too long for a thread that others wait for.
    pub(crate) fn is_large(&self) -> bool {
        self.garbage.iter().any(|outcome| outcome.garbage.is_large())
    }
}

impl Drop for BeingFreed {
    fn drop(&mut self) {
        self.garbage.clear();
        self.freeing.objects.fetch_sub(self.objects, Ordering::Relaxed);
        self.freeing.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.freeing.freed.fetch_add(self.objects, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_is_not_noted_but_what_stays_is() {
        let memory = OtherMemory::default();
        memory.note(5 << 20, 0);
        memory.note((5 << 20) + NOISE_BYTES, NOISE_BYTES);
        let keyspace = Keyspace::new(1);
        let used = memory.with(&keyspace, 100);
        assert_eq!((used.others, used.log, used.startup), (5 << 20, 0, 5 << 20));
        memory.note((5 << 20) + NOISE_BYTES + 1, NOISE_BYTES + 1);
        let used = memory.with(&keyspace, 100);
        assert_eq!((used.others, used.log), ((5 << 20) + NOISE_BYTES + 1, NOISE_BYTES + 1));
        assert_eq!(used.total(), used.tables + used.values + 100 + used.others + used.log);
        assert_eq!(used.limited() + used.log, used.total(), "the log is not limited");
        assert_eq!(used.dataset() + used.overhead(), used.total());
    }
}
