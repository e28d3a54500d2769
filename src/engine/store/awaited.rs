//! Keys that clients wait for, and those of them that the open batch has changed.
//!
//! The store has only the keys. The clients and their conditions are in `shard/parked.rs`, which adds a key
//! here with its first client and removes it with its last one.

use crate::effect::{Effect, Record};
use crate::hashing::{HashMap, HashSet};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A database's number and a key in it.
pub(crate) type DatabaseKey = (u32, Vec<u8>);

/// The keys that clients wait for. A key is added under the keyspace's lock, so no change happens
/// between a client's read of its keys and their addition.
#[derive(Debug, Default)]
pub(crate) struct AwaitedKeys {
    count: AtomicUsize,
    /// By database. No set is empty.
    keys: Mutex<HashMap<u32, HashSet<Vec<u8>>>>,
}

impl AwaitedKeys {
    pub(crate) fn enter(&self, database: u32, key: &[u8]) {
        let is_new = self.keys.lock().entry(database).or_default().insert(key.to_vec());
        self.count.fetch_add(usize::from(is_new), Ordering::Relaxed);
    }

    pub(crate) fn remove(&self, database: u32, key: &[u8]) {
        let mut keys = self.keys.lock();
        let Some(of_database) = keys.get_mut(&database) else { return };
        let was_there = of_database.remove(key);
        if of_database.is_empty() {
            keys.remove(&database);
        }
        self.count.fetch_sub(usize::from(was_there), Ordering::Relaxed);
    }

    /// Records the awaited keys that an effect changes. Costs one load while no key is awaited.
    #[inline]
    pub(crate) fn touched(&self, record: &Record<'_>, fed: &mut FedKeys) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.note_touched(record, fed);
        }
    }

    #[cold]
    fn note_touched(&self, record: &Record<'_>, fed: &mut FedKeys) {
        let keys = self.keys.lock();
        // Commands that wait for more than an element (XREADGROUP for a group) end when their key goes.
        let only = match record.effect {
            Effect::SwapDatabases { .. } | Effect::FlushAll => Some(None),
            Effect::Flush => Some(Some(record.database)),
            _ => None,
        };
        if let Some(only) = only {
            for (database, keys) in
                keys.iter().filter(|(database, _)| only.is_none_or(|only| only == **database))
            {
                keys.iter().for_each(|key| fed.add(*database, key));
            }
            return;
        }
        record.effect.changed_keys(record.database, &mut |database, key| {
            if keys.get(&database).is_some_and(|keys| keys.contains(key)) {
                fed.add(database, key);
            }
        });
    }

    /// The number of awaited keys; for tests.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        let keys = self.keys.lock().values().map(HashSet::len).sum();
        assert_eq!(self.count.load(Ordering::Relaxed), keys, "the count is that of the keys");
        keys
    }
}

/// Awaited keys that have changed and whose clients were not served since, each once, in the order of their
/// first change.
#[derive(Default)]
pub(crate) struct FedKeys {
    keys: VecDeque<DatabaseKey>,
    known: HashSet<DatabaseKey>,
}

impl FedKeys {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<DatabaseKey> {
        let key = self.keys.pop_front()?;
        self.known.remove(&key);
        Some(key)
    }

    /// Puts a taken key back, before all others.
    pub(crate) fn put_back(&mut self, key: DatabaseKey) {
        if !self.known.insert(key.clone()) {
            // A client that was served has changed it again.
            self.keys.retain(|other| *other != key);
        }
        self.keys.push_front(key);
    }

    fn add(&mut self, database: u32, key: &[u8]) {
        let key = (database, key.to_vec());
        if self.known.insert(key.clone()) {
            self.keys.push_back(key);
        }
    }
}
