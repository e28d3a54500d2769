//! ACL LOG: what was refused, the last first.

use std::collections::VecDeque;

/// Refusals of the same within this time are one entry.
const GROUPING_TIME_MAX_MS: u64 = 60_000;
/// How many of the last entries are looked at for one that is the same.
const GROUPED_ENTRIES_MAX: usize = 10;

#[derive(Clone, Debug)]
pub struct AclLogEntry {
    pub count: u64,
    /// `command`, `key`, `channel` or `auth`.
    pub reason: &'static str,
    /// `toplevel`, `multi` or `script`.
    pub context: &'static str,
    pub object: Vec<u8>,
    pub user: Vec<u8>,
    pub client: String,
    pub id: u64,
    pub created_ms: u64,
    pub updated_ms: u64,
}

#[derive(Default)]
pub struct AclLog {
    entries: VecDeque<AclLogEntry>,
    next_id: u64,
}

impl AclLog {
    /// Adds a refusal; its `id`, `count` and times are set here.
    pub fn add(&mut self, mut entry: AclLogEntry, now_ms: u64, entries_max: usize) {
        let is_same = |known: &AclLogEntry| {
            known.reason == entry.reason
                && known.context == entry.context
                && known.object == entry.object
                && known.user == entry.user
                && now_ms.saturating_sub(known.updated_ms) <= GROUPING_TIME_MAX_MS
        };
        match self.entries.iter().take(GROUPED_ENTRIES_MAX).position(is_same) {
            Some(place) => {
                let mut known = self.entries.remove(place).expect("it was found");
                known.count += 1;
                known.updated_ms = now_ms;
                known.client = entry.client;
                self.entries.push_front(known);
            }
            None => {
                entry.id = self.next_id;
                self.next_id += 1;
                (entry.created_ms, entry.updated_ms) = (now_ms, now_ms);
                self.entries.push_front(entry);
                self.entries.truncate(entries_max);
            }
        }
    }

    pub fn last(&self, count: usize) -> Vec<AclLogEntry> {
        self.entries.iter().take(count).cloned().collect()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}
