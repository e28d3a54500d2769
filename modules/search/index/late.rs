//! Documents that an index does not have yet as their keys are: they are brought into it later, one at a
//! time, and searches of the index wait for that.
//!
//! A write posts words under the keyspace's lock, for each index that its key has. Beyond so many words (the
//! product of words and indexes), it leaves the other indexes behind. A backfill leaves large documents, so
//! that they are read without the lock.
//!
//! Invariants: while a key is late, no write of it is posted: the document is read as the key then is. What
//! was read of it before is used only if the key has not changed since, for this index. The last look of a
//! search waits where something is late (`Lack::Behind`).

use super::Index;
use super::foreseen::{ForeseenContent, WALKED_BYTES_MIN, foresee_whole};
use crate::schema::{Definition, FieldKind};
use crate::vectors::Source;
use crate::vectors::load::Load;
use crate::vectors::workers::Workers;
use engramdb_engine::hashing::HashMap;
use engramdb_engine::keyspace::{FieldValue, Housing, Keyspace, ValueRef};
use engramdb_engine::module::{BackgroundWork, FORESEEN_VALUE_BYTES, Upcoming};
use engramdb_engine::signal::Signal;
use engramdb_engine::store::document::Document;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How often a late document that changes meanwhile is read without the lock, before it is read under it.
const READINGS_MAX: usize = 3;

/// The late documents of an index, by their keys.
pub struct LateDocuments {
    /// How many there are: writers and searches ask for that alone, unless there are some.
    count: AtomicUsize,
    is_awaited: AtomicBool,
    list: Mutex<LateList>,
    load: Arc<Load>,
}

#[derive(Default)]
struct LateList {
    order: VecDeque<Vec<u8>>,
    documents: HashMap<Vec<u8>, LateDocument>,
    /// Given when nothing is late any more, without the keyspace's lock.
    caught_up: Arc<Signal>,
    due: Vec<Arc<Signal>>,
}

#[derive(Default)]
struct LateDocument {
    /// The changes of the key since it is late.
    changes: u64,
    /// How often it was read without the lock.
    readings: usize,
    read: Option<ForeseenContent>,
}

/// What is to be brought up to date next.
struct NextLate {
    key: Vec<u8>,
    changes: u64,
    readings: usize,
    read: Option<ForeseenContent>,
}

impl LateDocuments {
    pub fn new(load: Arc<Load>) -> LateDocuments {
        LateDocuments {
            count: AtomicUsize::new(0),
            is_awaited: AtomicBool::new(false),
            list: Mutex::default(),
            load,
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Whether a search waits for them.
    pub fn is_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::Relaxed)
    }

    #[inline]
    pub fn has(&self, key: &[u8]) -> bool {
        !self.is_empty() && self.list.lock().documents.contains_key(key)
    }

    pub fn keys(&self) -> Vec<Vec<u8>> {
        if self.is_empty() { Vec::new() } else { self.list.lock().order.iter().cloned().collect() }
    }

    /// Adds a key, or notes that one has changed. `read` is what was read of its document as it is now.
    /// Returns what was read before.
    pub fn add(&self, key: &[u8], read: Option<ForeseenContent>) -> Option<ForeseenContent> {
        let list = &mut *self.list.lock();
        if let Some(document) = list.documents.get_mut(key) {
            document.changes += 1;
            return mem::replace(&mut document.read, read);
        }
        if list.documents.is_empty() {
            list.caught_up = Arc::default();
        }
        list.order.push_back(key.to_vec());
        list.documents.insert(key.to_vec(), LateDocument { read, ..LateDocument::default() });
        self.load.add_late(1);
        self.count.store(list.documents.len(), Ordering::Release);
        None
    }

    /// The signal at which nothing is late any more; `None` if nothing is.
    pub fn caught_up(&self) -> Option<Arc<Signal>> {
        if self.is_empty() {
            return None;
        }
        let list = self.list.lock();
        self.is_awaited.store(true, Ordering::Relaxed);
        (!list.documents.is_empty()).then(|| list.caught_up.clone())
    }

    /// Blocks this thread until nothing is late, or for so long. False if that has not happened: the time
    /// has passed, or the server stops.
    pub fn wait(&self, at_most: Option<Duration>) -> bool {
        let Some(signal) = self.caught_up() else { return true };
        signal.block(at_most);
        self.caught_up().is_none_or(|now| !Arc::ptr_eq(&now, &signal))
    }

    /// Gives the signals that are due. The caller does not hold the keyspace's lock.
    pub fn give_due(&self) {
        let due = mem::take(&mut self.list.lock().due);
        due.iter().for_each(|signal| signal.give());
    }

    /// Forgets all of an index that was dropped. Returns the signals that are due, to be given without the
    /// keyspace's lock.
    pub fn clear(&self) -> Vec<Arc<Signal>> {
        let list = &mut *self.list.lock();
        if !list.documents.is_empty() {
            self.load.end_late(list.documents.len());
            list.due.push(list.caught_up.clone());
        }
        self.count.store(0, Ordering::Release);
        (list.order, list.documents) = Default::default();
        mem::take(&mut list.due)
    }

    fn first(&self) -> Option<NextLate> {
        let list = &mut *self.list.lock();
        let key = list.order.front()?.clone();
        let document = list.documents.get_mut(&key).expect("what is in the order is late");
        Some(NextLate {
            changes: document.changes,
            readings: document.readings,
            read: document.read.take(),
            key,
        })
    }

    /// Keeps what was read of a document, unless it has changed since.
    fn keep(&self, key: &[u8], changes: u64, read: ForeseenContent) {
        let list = &mut *self.list.lock();
        if let Some(document) = list.documents.get_mut(key) {
            document.readings += 1;
            if document.changes == changes {
                document.read = Some(read);
            }
        }
    }

    /// Removes the first key, whose document the index has now.
    fn end_first(&self) {
        let list = &mut *self.list.lock();
        if let Some(key) = list.order.pop_front() {
            list.documents.remove(&key);
            self.load.end_late(1);
        }
        self.count.store(list.documents.len(), Ordering::Release);
        if list.documents.is_empty() {
            self.is_awaited.store(false, Ordering::Relaxed);
            list.due.push(list.caught_up.clone());
        }
    }
}

impl Index {
    /// True while a document is late.
    #[inline]
    pub fn is_behind(&self) -> bool {
        !self.late.is_empty()
    }

    /// Brings the first late document into the index, or returns that a large one is to be read before. The
    /// caller holds the keyspace's lock. Returns work that needs no lock, and how many values were posted.
    pub fn late_step(
        self: &Arc<Index>,
        workers: &Workers,
        keyspace: &mut Housing<'_>,
        database: u32,
    ) -> (BackgroundWork, usize) {
        let index = self.clone();
        let Some(next) = self.late.first() else { return (Box::new(move || index.late.give_due()), 0) };
        let NextLate { key, changes, readings, read } = next;
        if readings < READINGS_MAX && self.is_large(keyspace, (database, &key), read.as_ref()) {
            let upcoming = self.upcoming(keyspace, (database, &key));
            let work = move || {
                if let Some(upcoming) = upcoming {
                    let read = foresee_whole(&index, &key, &upcoming);
                    index.late.keep(&key, changes, read);
                }
            };
            return (Box::new(work), 0);
        }
        let mut read = read.unwrap_or_default();
        let document = self.document(keyspace, database, &key);
        let source = if self.is_backfilling() { Source::Backfill } else { Source::Live };
        let housed = self.refresh(workers, source, &key, (document, &mut read));
        self.house(keyspace, (database, &key), housed);
        self.late.end_first();
        let posted = read.posted;
        let work = move || {
            index.late.give_due();
            drop(read);
        };
        (Box::new(work), posted)
    }

    /// Whether a document has much that is to be read and was not `read` before.
    pub fn is_large(
        &self,
        keyspace: &Keyspace,
        (database, key): (u32, &[u8]),
        read: Option<&ForeseenContent>,
    ) -> bool {
        let has = |field: usize| read.is_some_and(|read| read.has(field));
        let fields = self.definition.fields.iter().enumerate();
        match self.document(keyspace, database, key) {
            Some(Document::Hash(hash)) => fields
                .filter(|(_, field)| !matches!(field.kind, FieldKind::Vector(_)))
                .filter_map(|(number, field)| Some((number, hash.get(&field.identifier)?)))
                .any(|(number, field)| field.value.len() >= FORESEEN_VALUE_BYTES && !has(number)),
            Some(Document::Object(_)) => {
                let unread = fields.filter(|(number, _)| !has(*number)).count();
                match keyspace.entry(database, key).map(|entry| entry.value()) {
                    Some(ValueRef::Object(object)) => {
                        object.heap_bytes().saturating_mul(unread) >= WALKED_BYTES_MIN
                    }
                    _ => false,
                }
            }
            None => false,
        }
    }

    /// The document of a key, to be read without the lock; large parts of it are shared, not copied.
    fn upcoming(&self, keyspace: &Keyspace, (database, key): (u32, &[u8])) -> Option<Upcoming> {
        let document = self.document(keyspace, database, key)?;
        if let Document::Object(_) = document {
            let value = keyspace.entry(database, key).map(|entry| entry.value());
            let Some(ValueRef::Object(object)) = value else { return None };
            return Some(Upcoming::Object(object.copy()));
        }
        let mut fields: Vec<(Vec<u8>, Arc<Vec<u8>>)> = Vec::new();
        for name in read_names(&self.definition) {
            document.values(name, |value| {
                if let FieldValue::Stored(value) = value {
                    let bytes = || Arc::new(value.with_bytes(<[u8]>::to_vec));
                    fields.push((name.to_vec(), value.shared().cloned().unwrap_or_else(bytes)));
                }
            });
        }
        Some(Upcoming::Fields(fields))
    }
}

/// The names of all that is read of a document.
fn read_names(definition: &Definition) -> impl Iterator<Item = &[u8]> {
    let options = &definition.options;
    let filter = options.filter.iter().flat_map(|filter| filter.identifiers(definition).flatten());
    let about = [&options.language_field, &options.score_field, &options.payload_field];
    let about = about.into_iter().filter(|name| !name.is_empty()).map(Vec::as_slice);
    definition.fields.iter().map(|field| &field.identifier[..]).chain(filter).chain(about)
}
