//! Client-side caching: who learns which keys have changed (CLIENT TRACKING).
//!
//! A client that tracks is remembered with the keys that its commands read, while the keyspace lock is
//! held, or subscribes to the changes of all keys with a prefix (BCAST). The engine notes each key that
//! changes ([`Notice`](engramdb_engine::store::notices::Notice)); [`Tracking::changed`] says which clients
//! get an invalidation for it.
//!
//! # Invariants
//!
//! - No invalidation is lost. A key is remembered under the lock under which it was read, so a later change
//!   is noted after that. One that was noted before makes an invalidation too many, at worst.
//! - A client is informed once: an invalidated key is forgotten until it is read again.
//! - The table has at most `tracking-table-max-keys` keys: beyond it some key is invalidated and forgotten.

mod session;
mod table;

pub use session::{Caching, ClientTracking, TrackingMode};

use crate::clients::Client;
use engramdb_engine::log::Lsn;
use engramdb_engine::store::notices::NoticeQueue;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use table::CachedKeys;

/// A client that tracks.
#[derive(Clone)]
pub struct Tracker {
    pub client: Arc<Client>,
    /// The client that gets the invalidations; 0 for itself.
    pub redirect: u64,
    /// It is not informed of its own changes.
    pub no_loop: bool,
    pub is_broadcast: bool,
}

/// What one client is informed. Keys of `None` mean all keys.
pub struct Invalidation {
    pub tracker: Tracker,
    pub keys: Option<Vec<Box<[u8]>>>,
    pub gate: Lsn,
}

/// A key that has changed: by which client, and in which batch.
pub struct ChangedKey {
    pub by: u64,
    pub key: Box<[u8]>,
    pub gate: Lsn,
}

#[derive(Default)]
pub struct Tracking {
    table: Mutex<CachedKeys>,
    clients: AtomicUsize,
    keys_max: AtomicUsize,
}

/// Keys, the clients remembered with each of them, and prefixes.
pub struct TrackingCounts {
    pub keys: usize,
    pub items: usize,
    pub prefixes: usize,
}

impl Tracking {
    /// `keys_max` as in [`Tracking::set_keys_max`].
    pub fn new(keys_max: usize) -> Tracking {
        Tracking { keys_max: keys_max.into(), ..Tracking::default() }
    }

    /// The number of clients that track.
    pub fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// Sets how many keys are remembered; 0 for any number.
    pub fn set_keys_max(&self, keys_max: usize) {
        self.keys_max.store(keys_max, Ordering::Relaxed);
    }

    pub fn counts(&self) -> TrackingCounts {
        self.table.lock().counts()
    }

    /// Begins to track for a client, or changes how. From here on changes are noted: the client learns of
    /// those of what it reads later.
    pub fn begin(&self, notices: &NoticeQueue, tracker: Tracker, prefixes: &[&[u8]]) {
        let mut table = self.table.lock();
        notices.set_tracking(true);
        table.begin(tracker, prefixes);
        self.clients.store(table.clients(), Ordering::Relaxed);
    }

    /// Ends it. The keys that the client has read are forgotten when they change.
    pub fn end(&self, notices: &NoticeQueue, id: u64, prefixes: &[Box<[u8]>]) {
        let mut table = self.table.lock();
        table.end(id, prefixes);
        notices.set_tracking(table.clients() > 0);
        self.clients.store(table.clients(), Ordering::Relaxed);
    }

    /// Remembers keys that a client reads, under the keyspace's lock. Returns the invalidations of keys that
    /// were forgotten for them.
    pub fn remember<'k>(&self, id: u64, keys: impl Iterator<Item = &'k [u8]>) -> Vec<Invalidation> {
        let keys_max = self.keys_max();
        let mut table = self.table.lock();
        let mut forgotten = Vec::new();
        for key in keys {
            table.remember(id, key);
            table.shrink(keys_max, &mut forgotten);
        }
        forgotten
    }

    /// Forgets keys beyond the limit, after that was lowered. Returns their invalidations.
    pub fn shrink(&self) -> Vec<Invalidation> {
        let mut forgotten = Vec::new();
        self.table.lock().shrink(self.keys_max(), &mut forgotten);
        forgotten
    }

    fn keys_max(&self) -> usize {
        match self.keys_max.load(Ordering::Relaxed) {
            0 => usize::MAX,
            keys_max => keys_max,
        }
    }

    /// Who is informed of these changes.
    pub fn changed(&self, changes: &[ChangedKey]) -> Vec<Invalidation> {
        self.table.lock().changed(changes)
    }

    /// Who is informed that all keys have changed.
    pub fn all_changed(&self, gate: Lsn) -> Vec<Invalidation> {
        self.table.lock().all_changed(gate)
    }
}
