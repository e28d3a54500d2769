//! Hazards: which writes a reader must see become durable before its reply may leave.
//!
//! A fixed array of gates indexed by the hash of (database, key), behind the keyspace's lock. It is never
//! cleaned, and two keys may share a place: a collision only delays a reply. The floor stands for effects on
//! whole databases, which touch every key at once.
//!
//! Invariant: for each key, present or absent, the larger of its place and the floor is at least the last
//! batch that changed it, in this process.

use crate::gate::{ReplyGate, Submitted};
use crate::hashing::HashSet;
use crate::table::HashedKey;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// 128 KiB in all: it stays in the second-level cache.
const PLACES: usize = 1 << 14;

pub(crate) struct Hazards {
    places: Box<[ReplyGate]>,
    floor: ReplyGate,
    /// Whether there are notes to be made, which is rare.
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
    /// How many keys were noted and not handed over.
    pub fn count(&self) -> usize {
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
            *state = ChangesState { keys: HashSet::default(), are_all: true };
        }
    }
}

impl Hazards {
    /// Notes the changes of a database from now on, until the result is dropped. Called under the keyspace's
    /// lock.
    pub(crate) fn note_changes(&self, database: u32) -> Arc<Changes> {
        let changes = Arc::new(Changes { database, state: Mutex::default() });
        let mut notes = self.notes.lock();
        // Where nothing is written, no change clears the list of walks that have ended.
        notes.retain(|changes| changes.strong_count() > 0);
        notes.push(Arc::downgrade(&changes));
        self.is_noted.store(true, Ordering::Relaxed);
        changes
    }

    #[cold]
    fn note(&self, note: impl Fn(&Changes)) {
        let mut notes = self.notes.lock();
        notes.retain(|changes| changes.upgrade().inspect(|changes| note(changes)).is_some());
        self.is_noted.store(!notes.is_empty(), Ordering::Relaxed);
    }

    /// Notes a change of the key by a batch of the open run. The place is added to `collected` unless it is
    /// there.
    #[inline]
    pub(crate) fn mark(
        &mut self,
        database: u32,
        key: HashedKey<'_>,
        gate: ReplyGate,
        collected: &mut Vec<u32>,
    ) {
        let place = place(database, key);
        let before = std::mem::replace(&mut self.places[place], gate);
        if !before.is_open() {
            collected.push(place as u32);
        }
        if self.is_noted.load(Ordering::Relaxed) {
            self.note(|changes| changes.note(database, key.bytes()));
        }
    }

    /// Notes a change of everything.
    pub(crate) fn mark_all(&mut self, gate: ReplyGate) {
        self.floor = gate;
        if self.is_noted.load(Ordering::Relaxed) {
            self.note(|changes| changes.state.lock().are_all = true);
        }
    }

    /// Puts LSNs in the place of open gates: in the floor, and in the places that were collected, of which
    /// none is left.
    pub(crate) fn resolve(&mut self, collected: &mut Vec<u32>, submitted: Submitted) {
        for place in collected.drain(..) {
            let gate = &mut self.places[place as usize];
            *gate = submitted.resolve(*gate).into();
        }
        self.floor = submitted.resolve(self.floor).into();
    }

    /// The batch that a reply about this key has to wait for.
    #[inline]
    pub(crate) fn of(&self, database: u32, key: HashedKey<'_>) -> ReplyGate {
        self.places[place(database, key)].max(self.floor)
    }
}

#[inline]
fn place(database: u32, key: HashedKey<'_>) -> usize {
    let hash = key.hash() ^ u64::from(database).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash as usize) & (PLACES - 1)
}

impl Default for Hazards {
    fn default() -> Hazards {
        Hazards {
            places: vec![ReplyGate::NONE; PLACES].into_boxed_slice(),
            floor: ReplyGate::NONE,
            is_noted: AtomicBool::new(false),
            notes: Mutex::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_without_writes_between_leave_no_notes() {
        let hazards = Hazards::default();
        let held = hazards.note_changes(0);
        (0..100).for_each(|_| drop(hazards.note_changes(0)));
        assert!(hazards.notes.lock().len() <= 2);
        assert_eq!(held.count(), 0);
    }
}
