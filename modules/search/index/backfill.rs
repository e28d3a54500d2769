//! The progress of a backfill: a walk over the keys that are older than the index, or than fields that
//! FT.ALTER added to it.

use crate::schema::Definition;
use engramdb_engine::keyspace::Keyspace;
use engramdb_engine::signal::Signal;
use std::sync::Arc;

/// Keys that a backfill scans at a time.
const SCANNED_KEYS: usize = 16;

#[derive(Default)]
pub struct Backfill {
    walk: Option<KeyWalk>,
    /// Given after the walk has ended, or when it will not be continued. A waiting search then checks the
    /// index again.
    ended: Arc<Signal>,
    /// Signals of walks that have ended. They are given without the keyspace's lock.
    due: Vec<Arc<Signal>>,
}

pub struct KeyWalk {
    /// The fields from this one on are incomplete. With 0, documents are missing altogether.
    pub first_field: usize,
    /// Documents that changed after this version have all fields.
    pub since: u64,
    /// `None` when the walk is at its end.
    cursor: Option<u64>,
    /// Keys that were found and are still to be indexed.
    found: Vec<Vec<u8>>,
    scanned: usize,
    total: usize,
}

impl Backfill {
    /// Begins a walk for the fields from this one on. A walk that is under way begins again, and serves its
    /// own fields too.
    pub fn begin(&mut self, first_field: usize, since: u64) {
        let first_field = match &self.walk {
            Some(walk) => walk.first_field.min(first_field),
            None => {
                self.ended = Arc::default();
                first_field
            }
        };
        self.walk =
            Some(KeyWalk { first_field, since, cursor: Some(0), found: Vec::new(), scanned: 0, total: 0 });
    }

    /// Ends the walk. The caller gives the signals that are due later.
    pub fn end(&mut self) {
        self.walk = None;
        if !self.ended.is_given() {
            self.due.push(self.ended.clone());
        }
    }

    pub fn walk(&self) -> Option<&KeyWalk> {
        self.walk.as_ref()
    }

    pub fn walk_mut(&mut self) -> Option<&mut KeyWalk> {
        self.walk.as_mut()
    }

    pub fn ended(&self) -> &Arc<Signal> {
        &self.ended
    }

    /// The signals to be given now; each is returned once.
    pub fn take_due(&mut self) -> Vec<Arc<Signal>> {
        std::mem::take(&mut self.due)
    }
}

impl KeyWalk {
    /// The next key to index, after a scan for more if none is left, and whether it is the last.
    pub fn next(
        &mut self,
        definition: &Definition,
        keyspace: &Keyspace,
        database: u32,
    ) -> (Option<Vec<u8>>, bool) {
        if self.found.is_empty() {
            self.look_for_more(definition, keyspace, database);
        }
        let key = self.found.pop();
        (key, self.found.is_empty() && self.cursor.is_none())
    }

    /// The share of the keys that were scanned, from 0 to 1.
    pub fn share(&self) -> f64 {
        (self.scanned as f64 / self.total.max(1) as f64).min(1.0)
    }

    fn look_for_more(&mut self, definition: &Definition, keyspace: &Keyspace, database: u32) {
        let Some(keys) = keyspace.database(database) else {
            self.cursor = None;
            return;
        };
        let Some(cursor) = self.cursor else { return };
        self.total = keys.len();
        let next = keys.scan(cursor, SCANNED_KEYS, &mut |entry| {
            self.scanned += 1;
            if super::document_of(definition, entry).is_some() {
                self.found.push(entry.key().to_vec());
            }
        });
        self.cursor = (next != 0).then_some(next);
    }
}
