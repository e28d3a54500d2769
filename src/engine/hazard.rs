//! Hazards: which writes a reader must see become durable before its reply may leave.
//!
//! A fixed array of LSNs indexed by the hash of (database, key), written under the keyspace's write lock. It is never
//! cleaned, and two keys may share a place: a collision only delays a reply. The floor stands for effects on whole
//! databases, which touch every key at once.
//!
//! Invariant: for each key, present or absent, the larger of its place and the floor is at least the LSN of the last
//! batch that changed it, in this process.

use crate::log::Lsn;
use crate::table::hash_bytes;
use std::sync::atomic::{AtomicU64, Ordering};

/// 128 KiB in all: it stays in the second-level cache.
const PLACES: usize = 1 << 14;

pub struct Hazards {
    places: Box<[AtomicU64]>,
    floor: AtomicU64,
}

impl Hazards {
    pub fn new() -> Hazards {
        Hazards { places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), floor: AtomicU64::new(0) }
    }

    /// Notes a change of the key. Called under the write lock; readers see it through the lock's ordering.
    #[inline]
    pub fn mark(&self, database: u32, key: &[u8], lsn: Lsn) {
        self.place(database, key).store(lsn.0, Ordering::Relaxed);
    }

    /// Notes a change of everything.
    pub fn mark_all(&self, lsn: Lsn) {
        self.floor.store(lsn.0, Ordering::Relaxed);
    }

    /// The batch that a reply about this key has to wait for.
    #[inline]
    pub fn of(&self, database: u32, key: &[u8]) -> Lsn {
        let place = self.place(database, key).load(Ordering::Relaxed);
        Lsn(place.max(self.floor.load(Ordering::Relaxed)))
    }

    #[inline]
    fn place(&self, database: u32, key: &[u8]) -> &AtomicU64 {
        let hash = hash_bytes(key) ^ u64::from(database).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        &self.places[(hash as usize) & (PLACES - 1)]
    }
}

impl Default for Hazards {
    fn default() -> Hazards {
        Hazards::new()
    }
}
