//! The progress of a backfill: a walk over the keys that are older than the index, or than fields that
//! FT.ALTER added to it.

use super::foreseen::ForeseenContent;
use crate::schema::Definition;
use engramdb_engine::keyspace::Keyspace;
use engramdb_engine::module::Upcoming;
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
    /// A document of the walk that is read without the keyspace's lock, and indexed in the next slice.
    pub ahead: Option<ReadAhead>,
    /// How many readings have begun.
    readings: u64,
    /// What was read of documents that are indexed: it is freed without the lock.
    pub used: Vec<ForeseenContent>,
    /// Signals of walks that have ended. They are given without the keyspace's lock.
    due: Vec<Arc<Signal>>,
}

/// A key of the walk that is next.
pub struct ReadAhead {
    pub key: Vec<u8>,
    pub is_last: bool,
    /// How often its document was taken to be read without the lock.
    pub readings: usize,
    /// The document to be read.
    upcoming: Option<Upcoming>,
    /// What was read of it.
    pub read: ForeseenContent,
    /// Whether the key has changed since `upcoming` was made.
    is_changed: bool,
    /// The number of the reading that is under way and may be kept; 0 if there is none.
    reading: u64,
}

impl ReadAhead {
    pub fn of((key, is_last): (Vec<u8>, bool)) -> ReadAhead {
        let read = ForeseenContent::default();
        ReadAhead { key, is_last, readings: 0, upcoming: None, read, is_changed: false, reading: 0 }
    }

    /// This is the document as it is now.
    pub fn take(&mut self, upcoming: Option<Upcoming>) {
        (self.upcoming, self.is_changed, self.reading) = (upcoming, false, 0);
        self.readings += 1;
    }
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
        self.leave_ahead();
        self.walk =
            Some(KeyWalk { first_field, since, cursor: Some(0), found: Vec::new(), scanned: 0, total: 0 });
    }

    /// Ends the walk. The caller gives the signals that are due later.
    pub fn end(&mut self) {
        self.walk = None;
        self.leave_ahead();
        if !self.ended.is_given() {
            self.due.push(self.ended.clone());
        }
    }

    /// What was read of the document that is next is freed without the lock.
    fn leave_ahead(&mut self) {
        self.used.extend(self.ahead.take().map(|ahead| ahead.read));
    }

    pub fn walk(&self) -> Option<&KeyWalk> {
        self.walk.as_ref()
    }

    pub fn walk_mut(&mut self) -> Option<&mut KeyWalk> {
        self.walk.as_mut()
    }

    /// Notes that a key has changed: what was read of its document is void.
    pub fn note_change(&mut self, key: &[u8]) {
        if let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.key == key) {
            (ahead.is_changed, ahead.reading) = (true, 0);
            self.used.push(std::mem::take(&mut ahead.read));
        }
    }

    /// The document to be read now, with its key and the number of this reading.
    pub fn take_upcoming(&mut self) -> Option<(u64, Vec<u8>, Upcoming)> {
        let ahead = self.ahead.as_mut()?;
        let upcoming = ahead.upcoming.take()?;
        self.readings += 1;
        ahead.reading = if ahead.is_changed { 0 } else { self.readings };
        Some((self.readings, ahead.key.clone(), upcoming))
    }

    /// Keeps what was read, unless the key has changed or the walk has begun again since the document was
    /// taken.
    pub fn keep_read(&mut self, reading: u64, read: ForeseenContent) {
        if let Some(ahead) = self.ahead.as_mut().filter(|ahead| ahead.reading == reading) {
            ahead.read = read;
        }
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
        (key, self.is_at_end())
    }

    /// Whether no key is left.
    pub fn is_at_end(&self) -> bool {
        self.found.is_empty() && self.cursor.is_none()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_for_a_walk_is_void_when_the_walk_begins_again() {
        let mut backfill = Backfill::default();
        let mut begin_at = |key: &[u8]| {
            backfill.begin(0, 0);
            let mut ahead = ReadAhead::of((key.to_vec(), true));
            ahead.take(Some(Upcoming::Fields(Vec::new())));
            backfill.ahead = Some(ahead);
            let (reading, ..) = backfill.take_upcoming().expect("a document to be read");
            reading
        };
        let (first, second) = (begin_at(b"key"), begin_at(b"key"));
        let is_kept =
            |backfill: &Backfill| backfill.ahead.as_ref().is_some_and(|ahead| !ahead.read.is_nothing());
        backfill.keep_read(first, ForeseenContent::of_index(7));
        assert!(!is_kept(&backfill), "the document may have changed between the walks");
        backfill.keep_read(second, ForeseenContent::of_index(7));
        assert!(is_kept(&backfill));
    }

    #[test]
    fn what_was_read_of_a_key_is_void_when_it_has_changed_since_it_was_taken() {
        let taken = || {
            let mut backfill = Backfill::default();
            backfill.begin(0, 0);
            let mut ahead = ReadAhead::of((b"key".to_vec(), true));
            ahead.take(Some(Upcoming::Fields(Vec::new())));
            backfill.ahead = Some(ahead);
            backfill
        };
        let read = || ForeseenContent::of_index(7);
        let is_kept =
            |backfill: &Backfill| backfill.ahead.as_ref().is_some_and(|ahead| !ahead.read.is_nothing());
        for (changes_before, changes_after, key, kept) in [
            (false, false, "key", true),
            (true, false, "other", true),
            (true, false, "key", false),
            (false, true, "key", false),
        ] {
            let mut backfill = taken();
            if changes_before {
                backfill.note_change(key.as_bytes());
            }
            let (reading, ..) = backfill.take_upcoming().expect("a document to be read");
            if changes_after {
                backfill.note_change(key.as_bytes());
            }
            backfill.keep_read(reading, read());
            assert_eq!(is_kept(&backfill), kept, "{key}");
        }
    }
}
