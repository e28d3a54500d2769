//! WATCH: the watches of connections on keys.

use crate::effect::{Cause, Effect, Record};
use crate::gate::{Hazard, ReplyGate, Submitted};
use crate::hashing::HashMap;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

/// A connection's watch: the keys, and the first batch that changed one of them.
#[derive(Debug, Default)]
pub struct Watch {
    dirtied_by: Hazard,
    /// Keys that existed when they were watched: their expiry before EXEC counts as a change.
    pub(crate) present: Mutex<Vec<DatabaseKey>>,
    /// Once it is registered.
    live: OnceLock<Live>,
}

/// The number of registered watches that have not ended.
#[derive(Debug)]
struct Live(Arc<AtomicUsize>);

impl Live {
    fn of(count: &Arc<AtomicUsize>) -> Live {
        count.fetch_add(1, Ordering::Relaxed);
        Live(count.clone())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watch {
    pub fn new() -> Arc<Watch> {
        Arc::default()
    }

    /// The batch that changed a watched key, if one did.
    pub(crate) fn dirtied_by(&self) -> Option<ReplyGate> {
        Some(self.dirtied_by.gate()).filter(|gate| *gate != ReplyGate::NONE)
    }

    pub(crate) fn resolve(&self, submitted: Submitted) {
        self.dirtied_by.resolve(submitted);
    }
}

/// A database's number and a key in it.
type DatabaseKey = (u32, Vec<u8>);

/// All watched keys of a store. Registration happens under the keyspace's read lock and `touched` under its
/// write lock, so that no change happens between a WATCH's read of a key and its registration.
#[derive(Debug, Default)]
pub(crate) struct WatchedKeys {
    keys: Mutex<HashMap<DatabaseKey, Vec<Weak<Watch>>>>,
    live: Arc<AtomicUsize>,
}

/// The number of registered keys above which ended watches are removed.
const SWEEP_KEYS_MIN: usize = 64;
/// Once all watches have ended, a write removes their keys if there are at most this many; removing more
/// would take too long under the lock.
const FORGOTTEN_KEYS_MAX: usize = 1024;

impl WatchedKeys {
    pub(crate) fn add(&self, watch: &Arc<Watch>, database: u32, key: &[u8]) {
        watch.live.get_or_init(|| Live::of(&self.live));
        let mut keys = self.keys.lock();
        if keys.len() >= SWEEP_KEYS_MIN && keys.len().is_power_of_two() {
            keys.retain(|_, watches| {
                watches.retain(|watch| watch.strong_count() > 0);
                !watches.is_empty()
            });
        }
        let watches = keys.entry((database, key.to_vec())).or_default();
        if watches.len() == watches.capacity() {
            // Before the list grows, removes ended watches: a key that is watched repeatedly and never
            // changes must not collect them.
            watches.retain(|watch| watch.strong_count() > 0);
        }
        watches.push(Arc::downgrade(watch));
    }

    /// The number of registered keys.
    #[cfg(test)]
    pub(crate) fn keys(&self) -> usize {
        self.keys.lock().len()
    }

    /// Marks the watches of the keys that an effect changes as dirty, and removes them, because a watch
    /// becomes dirty once. Those that were clean are added to `dirtied`.
    #[inline]
    pub(crate) fn touched(&mut self, record: &Record<'_>, gate: ReplyGate, dirtied: &mut Vec<Arc<Watch>>) {
        let keys = self.keys.get_mut();
        if keys.is_empty() {
            return;
        }
        if self.live.load(Ordering::Relaxed) == 0 && keys.len() <= FORGOTTEN_KEYS_MAX {
            // So that later writes need no lookup.
            *keys = HashMap::default();
            return;
        }
        let mut dirty = |watch: Arc<Watch>| {
            if watch.dirtied_by.set_first(gate) {
                dirtied.push(watch);
            }
        };
        let mut dirty_all = |watches: Vec<Weak<Watch>>| {
            watches.into_iter().filter_map(|watch| watch.upgrade()).for_each(&mut dirty);
        };
        match record.effect {
            Effect::Module { key: None, .. } => {}
            Effect::SwapDatabases { .. } => keys.drain().for_each(|(_, watches)| dirty_all(watches)),
            Effect::FlushAll => keys.iter_mut().for_each(|(key, watches)| removed(watches, key, &mut dirty)),
            Effect::Flush => {
                let flushed = keys.iter_mut().filter(|((database, _), _)| *database == record.database);
                flushed.for_each(|(key, watches)| removed(watches, key, &mut dirty));
            }
            Effect::Delete { key, .. } | Effect::HashDelete { key, cause: Cause::Expired, .. } => {
                let key = (record.database, key.to_vec());
                if let Some(watches) = keys.get_mut(&key) {
                    removed(watches, &key, &mut dirty);
                }
            }
            effect => effect.changed_keys(record.database, &mut |database, key| {
                if let Some(watches) = keys.remove(&(database, key.to_vec())) {
                    dirty_all(watches);
                }
            }),
        }
    }
}

/// A removal changes only keys that exist: if a key was absent when it was watched and was created since,
/// that made its watch dirty. A key that had expired was absent, although its removal comes later.
fn removed(watches: &mut Vec<Weak<Watch>>, key: &DatabaseKey, dirty: &mut impl FnMut(Arc<Watch>)) {
    watches.retain(|watch| match watch.upgrade() {
        Some(watch) if watch.present.lock().contains(key) => {
            dirty(watch);
            false
        }
        watch => watch.is_some(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::List;
    use crate::log::Lsn;

    #[test]
    fn a_key_that_never_changes_does_not_collect_watches_that_ended() {
        let watched = WatchedKeys::default();
        let kept = Watch::new();
        watched.add(&kept, 0, b"key");
        for _ in 0..10_000 {
            watched.add(&Watch::new(), 0, b"key");
        }
        let keys = watched.keys.lock();
        let watches = &keys[&(0, b"key".to_vec())];
        assert!(watches.len() < 16, "{} entries for one watch", watches.len());
        assert!(watches.iter().any(|watch| watch.as_ptr() == Arc::as_ptr(&kept)));
    }

    #[test]
    fn the_removal_of_what_had_expired_before_dirties_no_watch() {
        let mut watched = WatchedKeys::default();
        let (absent, present) = (Watch::new(), Watch::new());
        present.present.lock().push((0, b"key".to_vec()));
        let mut touch = |effect| {
            let mut dirtied = Vec::new();
            watched.add(&absent, 0, b"key");
            watched.add(&present, 0, b"key");
            watched.touched(&Record { database: 0, effect }, ReplyGate::from(Lsn(1)), &mut dirtied);
            dirtied.iter().map(Arc::as_ptr).collect::<Vec<_>>()
        };
        let (key, cause) = (b"key".as_slice(), Cause::Expired);
        assert_eq!(touch(Effect::Delete { key, cause }), [Arc::as_ptr(&present)]);
        let fields = List::Arguments(&[b"field"]);
        assert!(touch(Effect::HashDelete { key, fields, cause }).is_empty(), "{absent:?} was clean");
        let set = Effect::StringSet { key, value: b"1", expires_at_ms: 0 };
        assert_eq!(touch(set), [Arc::as_ptr(&absent)], "still registered");
    }
}
