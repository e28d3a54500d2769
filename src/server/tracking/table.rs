//! Which clients have read which keys, and which want to know of all changes of keys with a prefix.

use super::{ChangedKey, Invalidation, Tracker, TrackingCounts};
use engramdb_engine::hashing::{HashMap, HashSet};
use engramdb_engine::log::Lsn;
use std::collections::BTreeMap;

#[derive(Default)]
pub struct CachedKeys {
    trackers: HashMap<u64, Tracker>,
    /// The clients that have read a key since it changed last. Some may have ended.
    readers: HashMap<Box<[u8]>, HashSet<u64>>,
    items: usize,
    /// The clients of each prefix.
    prefixes: HashMap<Box<[u8]>, HashSet<u64>>,
    /// The lengths of the prefixes, in bytes, with the numbers of prefixes.
    lengths: BTreeMap<usize, usize>,
}

impl CachedKeys {
    pub fn clients(&self) -> usize {
        self.trackers.len()
    }

    pub fn counts(&self) -> TrackingCounts {
        TrackingCounts { keys: self.readers.len(), items: self.items, prefixes: self.prefixes.len() }
    }

    pub fn begin(&mut self, tracker: Tracker, prefixes: &[&[u8]]) {
        for prefix in prefixes {
            if !self.prefixes.contains_key(*prefix) {
                *self.lengths.entry(prefix.len()).or_default() += 1;
            }
            self.prefixes.entry((*prefix).into()).or_default().insert(tracker.client.id);
        }
        self.trackers.insert(tracker.client.id, tracker);
    }

    pub fn end(&mut self, id: u64, prefixes: &[Box<[u8]>]) {
        self.trackers.remove(&id);
        for prefix in prefixes {
            let Some(clients) = self.prefixes.get_mut(prefix) else { continue };
            clients.remove(&id);
            if clients.is_empty() {
                self.prefixes.remove(prefix);
                let count = self.lengths.get_mut(&prefix.len()).expect("it counts this prefix");
                *count -= 1;
                if *count == 0 {
                    self.lengths.remove(&prefix.len());
                }
            }
        }
        if self.trackers.is_empty() {
            // No client is left to be informed.
            (self.readers, self.items) = Default::default();
        }
    }

    pub fn remember(&mut self, id: u64, key: &[u8]) {
        let is_new = match self.readers.get_mut(key) {
            Some(clients) => clients.insert(id),
            None => self.readers.entry(key.into()).or_default().insert(id),
        };
        self.items += usize::from(is_new);
    }

    /// Forgets some keys, of which their readers are informed, until no more are left than that.
    pub fn shrink(&mut self, keys_max: usize, informed: &mut Vec<Invalidation>) {
        while self.readers.len() > keys_max {
            let key = self.readers.keys().next().cloned().expect("there are more than the limit");
            self.inform_readers(&ChangedKey { by: 0, key, gate: Lsn(0) }, informed);
        }
    }

    pub fn changed(&mut self, changes: &[ChangedKey]) -> Vec<Invalidation> {
        let mut informed = Vec::new();
        changes.iter().for_each(|change| self.inform_readers(change, &mut informed));
        self.inform_broadcast(changes, &mut informed);
        informed
    }

    pub fn all_changed(&mut self, gate: Lsn) -> Vec<Invalidation> {
        (self.readers, self.items) = Default::default();
        let trackers = self.trackers.values().cloned();
        trackers.map(|tracker| Invalidation { tracker, keys: None, gate }).collect()
    }

    fn inform_readers(&mut self, change: &ChangedKey, informed: &mut Vec<Invalidation>) {
        let Some(clients) = self.readers.remove(&change.key) else { return };
        self.items -= clients.len();
        for id in clients {
            let Some(tracker) = self.trackers.get(&id).filter(|tracker| !tracker.is_broadcast) else {
                continue;
            };
            if !(tracker.no_loop && change.by == id) {
                let keys = Some(vec![change.key.clone()]);
                informed.push(Invalidation { tracker: tracker.clone(), keys, gate: change.gate });
            }
        }
    }

    /// For each prefix one list of all keys that have changed, each once.
    fn inform_broadcast(&self, changes: &[ChangedKey], informed: &mut Vec<Invalidation>) {
        let mut by_prefix: BTreeMap<&[u8], Vec<&ChangedKey>> = BTreeMap::new();
        for change in changes {
            for &length in self.lengths.range(..=change.key.len()).map(|(length, _)| length) {
                if let Some((prefix, _)) = self.prefixes.get_key_value(&change.key[..length]) {
                    by_prefix.entry(prefix).or_default().push(change);
                }
            }
        }
        for (prefix, changes) in by_prefix {
            for tracker in self.prefixes[prefix].iter().filter_map(|id| self.trackers.get(id)) {
                let (mut keys, mut known, mut gate) = (Vec::new(), HashSet::default(), Lsn(0));
                for change in &changes {
                    if tracker.no_loop && change.by == tracker.client.id {
                        continue;
                    }
                    gate = gate.max(change.gate);
                    if known.insert(&change.key) {
                        keys.push(change.key.clone());
                    }
                }
                if !keys.is_empty() {
                    informed.push(Invalidation { tracker: tracker.clone(), keys: Some(keys), gate });
                }
            }
        }
    }
}
