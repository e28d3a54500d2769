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
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// 128 KiB in all: it stays in the second-level cache.
const PLACES: usize = 1 << 14;

pub struct Hazards {
    places: Box<[AtomicU64]>,
    floor: AtomicU64,
    /// Whether somebody notes changes, which is rare.
    is_noted: AtomicBool,
    notes: Mutex<Vec<Weak<Changes>>>,
}

/// The keys of a database that have changed since a walk over all of them began.
#[derive(Debug)]
pub struct Changes {
    database: u32,
    state: Mutex<ChangesState>,
}

#[derive(Debug, Default)]
struct ChangesState {
    keys: HashSet<Vec<u8>>,
    are_all: bool,
}

/// Noted changes beyond this count as a change of all keys.
const CHANGES_MAX: usize = 1 << 20;

impl Changes {
    pub fn len(&self) -> usize {
        self.state.lock().keys.len()
    }

    /// Whether the database has changed as a whole, or beyond all bounds.
    pub fn are_all(&self) -> bool {
        self.state.lock().are_all
    }

    /// Hands over the keys that were noted, and goes on with none.
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state.lock().keys).into_iter().collect()
    }

    fn note(&self, database: u32, key: &[u8]) {
        let mut state = self.state.lock();
        if database != self.database || state.are_all {
            return;
        }
        if !state.keys.contains(key) {
            state.keys.insert(key.to_vec());
        }
        if state.keys.len() > CHANGES_MAX {
            *state = ChangesState { keys: HashSet::new(), are_all: true };
        }
    }
}

impl Hazards {
    pub fn new() -> Hazards {
        Hazards {
            places: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            floor: AtomicU64::new(0),
            is_noted: AtomicBool::new(false),
            notes: Mutex::default(),
        }
    }

    /// Notes the changes of a database from now on, until the result is dropped. Called under the keyspace's lock.
    pub fn note_changes(&self, database: u32) -> Arc<Changes> {
        let changes = Arc::new(Changes { database, state: Mutex::default() });
        self.notes.lock().push(Arc::downgrade(&changes));
        self.is_noted.store(true, Ordering::Relaxed);
        changes
    }

    #[cold]
    fn note(&self, note: impl Fn(&Changes)) {
        let mut notes = self.notes.lock();
        notes.retain(|changes| changes.upgrade().inspect(|changes| note(changes)).is_some());
        self.is_noted.store(!notes.is_empty(), Ordering::Relaxed);
    }

    /// Notes a change of the key. Called under the write lock; readers see it through the lock's ordering.
    #[inline]
    pub fn mark(&self, database: u32, key: &[u8], lsn: Lsn) {
        self.place(database, key).store(lsn.0, Ordering::Relaxed);
        if self.is_noted.load(Ordering::Relaxed) {
            self.note(|changes| changes.note(database, key));
        }
    }

    /// Notes a change of everything.
    pub fn mark_all(&self, lsn: Lsn) {
        self.floor.store(lsn.0, Ordering::Relaxed);
        if self.is_noted.load(Ordering::Relaxed) {
            self.note(|changes| changes.state.lock().are_all = true);
        }
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
