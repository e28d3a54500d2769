//! Memory in use, and the eviction of keys where `maxmemory` is exceeded.
//!
//! An eviction is an effect like any other delete (`Cause::Evicted`): it is in the log, so that a start, a
//! snapshot and a follower have the same keys. Whether memory is full is compared at the end of each run of
//! writes, under its lock, so that commands need one load to know it; what modules take is measured less
//! often.

use super::engine::Engine;
use super::run::release;
use crate::effect::{Cause, Effect};
use crate::keyspace::{AccessMode, EvictionPolicy, EvictionPool, EvictionSource};
use crate::log::Purpose;
use crate::log::pipeline::Refusal;
use crate::store::Store;
use crate::store::tx::{Lent, Tx};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What `maxmemory` limits.
#[derive(Debug, Default)]
pub(crate) struct MemoryWatch {
    /// `maxmemory`, in bytes; 0 for no limit.
    limit: AtomicU64,
    /// What modules took when they were measured last, in bytes.
    of_modules: AtomicU64,
    is_full: AtomicBool,
    pool: Mutex<EvictionPool>,
    /// Keys evicted since the start.
    evicted: AtomicU64,
}

/// What an eviction has achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Memory is within its limit.
    Enough,
    /// As many keys as allowed went, and it is not enough yet.
    Partly,
    /// There is no key that may go, or this engine writes no log.
    Nothing,
}

/// The bytes that the delete of a key takes in the log beyond the key.
const DELETE_BYTES: usize = 64;

impl Engine {
    /// Sets `maxmemory`, in bytes; 0 for no limit.
    pub fn limit_memory(&self, bytes_max: u64) {
        self.memory.limit.store(bytes_max, Ordering::Relaxed);
        // In EXEC the end of the run compares.
        if let Some(store) = self.store.try_read() {
            self.measure(&store);
        }
    }

    /// How accesses of keys are noted from now on.
    pub fn note_accesses(&self, mode: AccessMode) {
        self.context.access_mode.store(mode.pack(), Ordering::Relaxed);
    }

    /// Bytes of keys and modules. Compares them with the limit.
    pub fn measure_memory(&self) -> usize {
        self.measure(&self.store.read())
    }

    fn measure(&self, store: &Store) -> usize {
        let of_modules = store.modules.iter().map(|module| module.memory_bytes()).sum::<usize>();
        self.memory.of_modules.store(of_modules as u64, Ordering::Relaxed);
        let limit = self.memory.limit.load(Ordering::Relaxed);
        let used = store.keyspace.heap_bytes() + of_modules;
        self.note_fullness(limit > 0 && used as u64 > limit);
        used
    }

    /// Whether more memory is in use than `maxmemory`.
    #[inline]
    pub fn is_memory_full(&self) -> bool {
        self.memory.is_full.load(Ordering::Relaxed)
    }

    /// The number of keys that were evicted.
    pub fn evicted(&self) -> &AtomicU64 {
        &self.memory.evicted
    }

    /// Compares the keys' memory with the limit at the end of a run of writes.
    #[inline]
    pub(super) fn note_memory(&self, store: &Store) {
        let limit = self.memory.limit.load(Ordering::Relaxed);
        if limit > 0 {
            let of_modules = self.memory.of_modules.load(Ordering::Relaxed);
            self.note_fullness(store.keyspace.heap_bytes() as u64 + of_modules > limit);
        }
    }

    #[inline]
    fn note_fullness(&self, is_full: bool) {
        if is_full != self.memory.is_full.load(Ordering::Relaxed) {
            self.memory.is_full.store(is_full, Ordering::Relaxed);
        }
    }

    /// Deletes keys by this policy, `limit` at most, until memory is within its limit. `samples` are looked
    /// at in each database for each key.
    ///
    /// # Errors
    /// The log has no room for the deletes.
    pub fn evict(&self, policy: EvictionPolicy, samples: usize, limit: usize) -> Result<Eviction, Refusal> {
        let Some(pipeline) = self.writer() else { return Ok(Eviction::Nothing) };
        let mut credit = pipeline.admit_run(0, 0, Purpose::Expiry)?;
        let mut store = self.store.write();
        store.hook.notices.set_client(0);
        let now_ms = self.now_ms();
        let mut lent = Lent::default();
        let mut done = Ok(Eviction::Partly);
        for _ in 0..limit {
            self.measure(&store);
            if !self.is_memory_full() {
                break;
            }
            let Some((database, key)) = self.pick(&store, policy, samples, now_ms) else {
                done = Ok(Eviction::Nothing);
                break;
            };
            match pipeline.admit_run(1, key.len() + DELETE_BYTES, Purpose::Expiry) {
                Ok(admitted) => credit.absorb(admitted),
                Err(refusal) => {
                    done = Err(refusal);
                    break;
                }
            }
            let mut tx = Tx::new(&mut store, &self.context, &mut lent, database, now_ms);
            tx.event("evicted");
            tx.apply(Effect::Delete { key: &key, cause: Cause::Evicted });
            tx.finish();
            self.memory.evicted.fetch_add(1, Ordering::Relaxed);
        }
        self.measure(&store);
        self.leave_fed(&store);
        self.submit(&mut store, &mut credit, now_ms);
        release(store);
        self.notices.deliver();
        done.map(|done| if self.is_memory_full() { done } else { Eviction::Enough })
    }

    fn pick(
        &self,
        store: &Store,
        policy: EvictionPolicy,
        samples: usize,
        now_ms: u64,
    ) -> Option<(u32, Vec<u8>)> {
        let random = || self.context.env.random.next_u64();
        let source = EvictionSource {
            keyspace: &store.keyspace,
            mode: self.context.access_mode(),
            now_ms,
            started_ms: self.context.started_ms,
            random: &random,
        };
        self.memory.pool.lock().pick(policy, samples, &source)
    }
}
