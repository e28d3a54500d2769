//! One index: its definition, its documents, its vectors, and the progress of its backfill.
//!
//! FT.ALTER makes a new `Index` with more fields, which shares documents, vectors of old fields, backfill and
//! hazard with the one before. Searches that are under way go on with the old one.
//!
//! Lock order: the engine's keyspace, then `backfill`, then `documents`, then a vector field's own locks. A
//! mutation changes the document and its vectors under one lock of `documents`, so that a reader that sees a
//! version of the document sees its vectors too.

mod backfill;
pub mod foreseen;
mod large;
mod last_use;
pub mod leftover;
pub mod scope;
mod several;

use self::backfill::{Backfill, ReadAhead};
use self::foreseen::{ForeseenContent, foresee_whole};
use self::last_use::LastUse;
use self::scope::{ChangedNames, ReadScope};

use crate::documents::filtering::accepts;
use crate::documents::reading::{self, DocumentValues, Unreadable};
use crate::documents::{DocumentContent, Documents, FieldContent};
use crate::error::SearchError;
use crate::query::prepared::PreparedCache;
use crate::schema::{Definition, FieldDefinition, FieldKind};
use crate::vectors::load::Load;
use crate::vectors::workers::{WorkerCaller, Workers};
use crate::vectors::{BACKFILL_TAIL_MAX, Source, VectorField};
use engramdb_engine::env::Clock;
use engramdb_engine::gate::{Hazard, OpenBatch, ReplyGate};
use engramdb_engine::keyspace::{Entry, Housing, Keyspace};
use engramdb_engine::module::Applied;
use engramdb_engine::signal::Signal;
use engramdb_engine::store::document::Document;
use engramdb_engine::types::Housed;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The time at which documents are read. At 0 no field has expired: whether one has is for readers to check.
const WHOLE: u64 = 0;

/// How often a large document of a backfill is taken to be read without the lock, if it changes meanwhile,
/// before it is read under it. (The first slice, in FT.CREATE, takes one that is not read.)
const READINGS_MAX: usize = 4;

/// How long a slice of steps holds the keyspace's lock. The last step may exceed it.
const SLICE: Duration = Duration::from_micros(300);

/// Repeats `step` for as long as background work may hold the keyspace's lock at a time. `step` returns
/// whether there is more to do; so does this function.
pub fn slice(clock: &dyn Clock, mut step: impl FnMut() -> bool) -> bool {
    let began = clock.monotonic();
    loop {
        let more = step();
        if !more || clock.monotonic() - began > SLICE {
            return more;
        }
    }
}

pub struct Index {
    pub definition: Definition,
    pub documents: Arc<RwLock<Documents>>,
    /// By field; `None` if it is not a vector field.
    pub vectors: Vec<Option<Arc<VectorField>>>,
    pub failures: Mutex<Failures>,
    /// The number of searches answered, for FT.INFO.
    pub uses: AtomicU64,
    /// The dialects that searches have used, a bit for each; for FT.INFO.
    pub dialects: AtomicU64,
    /// When it was used last. Kept of temporary indexes only.
    pub last_use: LastUse,
    /// The time that documents took to be indexed, without their graphs; see `indexing_time`.
    indexing_ns: AtomicU64,
    /// Parsed searches. They are valid for as long as the definition.
    pub prepared: PreparedCache,
    changed: Arc<Hazard>,
    backfill: Arc<Mutex<Backfill>>,
    /// Whether `backfill` has a document that is read ahead: writers ask for that alone, unless it has.
    reads_ahead: Arc<AtomicBool>,
    dropped: Arc<AtomicBool>,
    /// Documents may lack the fields from this one on, although their keys have them (SKIPINITIALSCAN).
    skipped_from: usize,
}

/// What becomes of the keys that are older than an added field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OlderKeys {
    /// They are indexed again.
    Scanned,
    /// They lack the field until they change.
    Skipped,
    /// They are read later, at a start.
    Restored,
}

/// Documents that could not be indexed: in total, and by the field that was the cause.
#[derive(Clone, Debug)]
pub struct Failures {
    pub all: FailureCount,
    pub by_field: Vec<FailureCount>,
}

#[derive(Clone, Debug, Default)]
pub struct FailureCount {
    pub count: u64,
    pub last_error: Option<SearchError>,
    pub last_key: Vec<u8>,
}

impl Failures {
    fn add(&mut self, Unreadable { field, cause }: Unreadable, key: &[u8]) {
        for failures in [&mut self.all, &mut self.by_field[field]] {
            *failures = FailureCount {
                count: failures.count + 1,
                last_error: Some(cause.clone()),
                last_key: key.to_vec(),
            };
        }
    }
}

impl Index {
    /// An empty index. `is_complete` if no backfill is needed.
    #[cfg(test)]
    pub fn new(definition: Definition, is_complete: bool) -> Index {
        Index::with_load(definition, is_complete, &Arc::default())
    }

    /// The same, with the load that its vector fields add to.
    pub fn with_load(definition: Definition, is_complete: bool, load: &Arc<Load>) -> Index {
        let mut backfill = Backfill::default();
        if !is_complete {
            backfill.begin(0, 0);
        }
        Index {
            documents: Arc::new(RwLock::new(Documents::new(&definition))),
            vectors: definition.fields.iter().map(|field| vectors_of(field, load)).collect(),
            failures: Mutex::new(Failures {
                all: FailureCount::default(),
                by_field: vec![FailureCount::default(); definition.fields.len()],
            }),
            uses: AtomicU64::new(0),
            dialects: AtomicU64::new(0),
            last_use: LastUse::default(),
            indexing_ns: AtomicU64::new(0),
            prepared: PreparedCache::default(),
            changed: Arc::default(),
            backfill: Arc::new(Mutex::new(backfill)),
            reads_ahead: Arc::default(),
            dropped: Arc::default(),
            skipped_from: usize::MAX,
            definition,
        }
    }

    /// The same index without documents, which a backfill is to find.
    pub fn rebuilt(&self, load: &Arc<Load>) -> Index {
        let (changed, last_use) = (self.changed.clone(), self.last_use.clone());
        Index { changed, last_use, ..Index::with_load(self.definition.clone(), false, load) }
    }

    /// The index with more fields at the end.
    pub fn altered(&self, added: Vec<FieldDefinition>, older: OlderKeys, load: &Arc<Load>) -> Index {
        let first_added = self.definition.fields.len();
        let new_vectors = added.iter().map(|field| vectors_of(field, load));
        let vectors = self.vectors.iter().cloned().chain(new_vectors).collect();
        let mut failures = self.failures.lock().clone();
        failures.by_field.resize(first_added + added.len(), FailureCount::default());
        let mut backfill = self.backfill.lock();
        let mut documents = self.documents.write();
        documents.add_fields(&added);
        if older == OlderKeys::Scanned {
            backfill.begin(first_added, documents.version());
        }
        let mut definition = self.definition.clone();
        definition.fields.extend(added);
        let same = |count: &AtomicU64| AtomicU64::new(count.load(Ordering::Relaxed));
        Index {
            skipped_from: match older {
                OlderKeys::Skipped => self.skipped_from.min(first_added),
                _ => self.skipped_from,
            },
            definition,
            documents: self.documents.clone(),
            vectors,
            failures: Mutex::new(failures),
            uses: same(&self.uses),
            dialects: same(&self.dialects),
            last_use: self.last_use.clone(),
            indexing_ns: same(&self.indexing_ns),
            prepared: PreparedCache::default(),
            changed: self.changed.clone(),
            backfill: self.backfill.clone(),
            reads_ahead: self.reads_ahead.clone(),
            dropped: self.dropped.clone(),
        }
    }

    /// Lets the time of a temporary index begin anew.
    #[inline]
    pub fn note_use(&self, clock: &dyn Clock) {
        if self.definition.options.temporary_s.is_some() {
            self.last_use.note(clock.monotonic());
        }
    }

    /// The last batch that changed something in the index.
    pub fn changed_by(&self) -> ReplyGate {
        self.changed.gate()
    }

    /// Makes replies that show something of the index wait for this batch.
    pub fn change(&self, batch: &mut OpenBatch<'_>) {
        batch.mark(&self.changed);
    }

    /// Marks the index as dropped; no command finds it any more. Returns the signals that searches wait for
    /// until the backfill is complete, unless they were given. The caller gives them after the keyspace's
    /// lock is released; these searches then find the index dropped.
    pub fn drop_it(&self) -> Vec<Arc<Signal>> {
        self.dropped.store(true, Ordering::Relaxed);
        self.vectors.iter().flatten().for_each(|vectors| vectors.close());
        let mut backfill = self.backfill.lock();
        backfill.end();
        backfill.take_due()
    }

    /// Records that a search used this dialect.
    pub fn note_dialect(&self, dialect: u32) {
        let bit = 1 << dialect.saturating_sub(1);
        if self.dialects.load(Ordering::Relaxed) & bit == 0 {
            self.dialects.fetch_or(bit, Ordering::Relaxed);
        }
    }

    pub fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Relaxed)
    }

    pub fn pending(&self) -> usize {
        self.vectors.iter().flatten().map(|vectors| vectors.pending()).sum()
    }

    /// Follows a change of a key that the definition covers. `foreseen` is what was read of the document
    /// before.
    pub fn observe<'e>(
        &self,
        workers: &Workers,
        keyspace: &mut Housing<'_>,
        (database, key): (u32, &[u8]),
        (applied, names, foreseen): (&Applied<'e>, &ChangedNames<'e>, &mut ForeseenContent),
        batch: &mut OpenBatch<'_>,
    ) {
        self.change(batch);
        if self.reads_ahead.load(Ordering::Relaxed) {
            self.backfill.lock().note_change(key);
        }
        let document = self.document(keyspace, database, key);
        let effect = (&applied.record.effect, names);
        let scope = self.concerned(effect, Some(applied.count), document.as_ref());
        // A change of an unindexed field cannot turn an existing key into a document: if it is none, it is
        // unreadable, or the backfill has not reached it yet. The exception is a key that the backfill will
        // not see, because SKIPINITIALSCAN leaves it out.
        let may_be_left_out =
            || self.definition.options.skip_initial_scan && self.documents.read().id(key).is_none();
        let housed = match (scope, document) {
            (ReadScope::Fields(fields), _) if fields.is_empty() && !may_be_left_out() => return,
            (ReadScope::Fields(fields), Some(document)) => {
                let known = self.known(key);
                match known {
                    Some(id) => self.refresh_fields(workers, (key, id), (&document, foreseen), &fields),
                    None => self.refresh(workers, Source::Live, key, (Some(document), foreseen)),
                }
            }
            (_, document) => self.refresh(workers, Source::Live, key, (document, foreseen)),
        };
        self.house(keyspace, (database, key), housed);
    }

    /// The value of a key, if it has the type of the index's documents; with its expired fields.
    pub fn document<'k>(&self, keyspace: &'k Keyspace, database: u32, key: &[u8]) -> Option<Document<'k>> {
        Document::of(keyspace.entry(database, key)?.value(), self.definition.documents, WHOLE)
    }

    /// All keys that could be documents.
    pub fn covered<'k>(
        &self,
        keyspace: &'k Keyspace,
        database: u32,
    ) -> impl Iterator<Item = (&'k [u8], Document<'k>)> {
        let entries = keyspace.database(database).into_iter().flat_map(|keys| keys.iter());
        entries.filter_map(|entry| Some((entry.key(), document_of(&self.definition, entry)?)))
    }

    /// The time that indexing has taken since the start, of all threads together.
    pub fn indexing_time(&self) -> Duration {
        let own = Duration::from_nanos(self.indexing_ns.load(Ordering::Relaxed));
        self.vectors.iter().flatten().map(|vectors| vectors.indexing_time()).fold(own, |sum, time| sum + time)
    }

    /// Adds to the time that threads have spent on indexing.
    pub fn spent(&self, time: Duration) {
        self.indexing_ns.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Updates the index to the document of a key in the keyspace. Returns the handles of the vectors that
    /// the index stores now, with their field numbers.
    fn refresh(
        &self,
        workers: &Workers,
        source: Source,
        key: &[u8],
        (document, foreseen): (Option<Document<'_>>, &mut ForeseenContent),
    ) -> Vec<(usize, Housed)> {
        let began = workers.clock().monotonic();
        let read =
            document.and_then(|document| Some((self.read_foreseen(key, &document, foreseen)?, document)));
        let mut housed = Vec::new();
        match read {
            Some((content, document)) => {
                let mut documents = self.documents.write();
                let id = documents.upsert(key, &content);
                self.remove_freed(workers, &mut documents);
                for field in 0..self.vectors.len() {
                    let document = (&document, &*foreseen);
                    self.set_vectors((workers, source), &documents, (id, field), document, &mut housed);
                }
                foreseen.keep_used(content.fields);
            }
            None => self.forget(workers, key),
        }
        self.spent(workers.clock().monotonic().saturating_sub(began));
        housed
    }

    /// The id of a document of which fields can be read again alone.
    fn known(&self, key: &[u8]) -> Option<u32> {
        let documents = self.documents.read();
        documents.id(key).filter(|&id| documents.is_known(id))
    }

    /// The same as `refresh` for fields that alone have changed.
    fn refresh_fields(
        &self,
        workers: &Workers,
        (key, id): (&[u8], u32),
        (document, foreseen): (&Document<'_>, &mut ForeseenContent),
        fields: &[usize],
    ) -> Vec<(usize, Housed)> {
        let began = workers.clock().monotonic();
        let mut housed = Vec::new();
        let contents = fields.iter().map(|&field| self.read_field(field, document, foreseen));
        match contents.collect::<Result<Vec<FieldContent>, Unreadable>>() {
            Ok(contents) => {
                let mut documents = self.documents.write();
                documents.amend(id, fields.iter().copied().zip(&contents));
                self.remove_freed(workers, &mut documents);
                for &field in fields {
                    let document = (document, &*foreseen);
                    self.set_vectors((workers, Source::Live), &documents, (id, field), document, &mut housed);
                }
                foreseen.keep_used(contents);
            }
            Err(unreadable) => {
                self.failures.lock().add(unreadable, key);
                self.forget(workers, key);
            }
        }
        self.spent(workers.clock().monotonic().saturating_sub(began));
        housed
    }

    /// Gives a document's vectors in a field to the field's index.
    fn set_vectors(
        &self,
        (workers, source): (&Workers, Source),
        documents: &Documents,
        (id, field): (u32, usize),
        (document, foreseen): (&Document<'_>, &ForeseenContent),
        housed: &mut Vec<(usize, Housed)>,
    ) {
        let Some(vectors) = &self.vectors[field] else { return };
        let mut number = 0;
        let mut set = |blob: &[u8]| {
            let id = documents.vector_id(id, field, number);
            let (place, calls) = vectors.set(source, id, blob, workers.count());
            if number == 0 {
                housed.extend(place.map(|place| (field, place)));
            }
            if calls {
                workers.call(vectors);
            }
            number += 1;
        };
        match foreseen.vectors(field) {
            Some(vectors) => vectors.iter().for_each(|vector| set(vector)),
            None => self.each_vector(document, field, set),
        }
        if number == 0 {
            remove(workers, vectors, id);
        }
    }

    /// Removes a key that is no longer a document. A key that was none needs only a read lock of the
    /// documents.
    fn forget(&self, workers: &Workers, key: &[u8]) {
        if self.documents.read().id(key).is_none() {
            return;
        }
        let mut documents = self.documents.write();
        if let Some(id) = documents.remove(key) {
            self.vectors.iter().flatten().for_each(|vectors| remove(workers, vectors, id));
            self.remove_freed(workers, &mut documents);
        }
    }

    /// Removes the vectors of rows that a document has given up.
    fn remove_freed(&self, workers: &Workers, documents: &mut Documents) {
        for (field, row) in documents.take_freed() {
            self.vectors[field].iter().for_each(|vectors| remove(workers, vectors, row));
        }
    }

    /// Calls `each` on the vectors that a document has in a field, in order, as the index stores them.
    #[inline]
    pub fn each_vector(&self, document: &impl DocumentValues, field: usize, each: impl FnMut(&[u8])) {
        if let Some(vectors) = &self.vectors[field] {
            let identifier = &self.definition.fields[field].identifier;
            reading::each_vector(vectors.options(), document, identifier, each);
        }
    }

    /// Replaces the fields of a document by handles to the vectors of the index, so that the vectors are not
    /// stored twice.
    pub fn house(
        &self,
        keyspace: &mut Housing<'_>,
        (database, key): (u32, &[u8]),
        housed: impl IntoIterator<Item = (usize, Housed)>,
    ) {
        for (field, housed) in housed {
            keyspace.house(database, key, &self.definition.fields[field].identifier, housed);
        }
    }

    /// The distance of a document's nearest vector from the query; `None` if the document has none in the
    /// field. A vector that is not valid is none.
    pub fn distance(&self, document: &Document<'_>, field: usize, query: &[u8]) -> Option<f64> {
        let options = self.vectors[field].as_ref()?.options();
        let mut nearest: Option<f64> = None;
        self.each_vector(document, field, |blob| {
            if options.is_vector(blob) {
                let distance = engramdb_vector::distance_of(options.element, options.metric, query, blob);
                nearest = Some(nearest.map_or(distance, |nearest| nearest.min(distance)));
            }
        });
        nearest
    }

    /// The content of the document by field; `None` if the filter does not take it, or, counted as a failure,
    /// if it cannot be indexed.
    pub fn read(&self, key: &[u8], document: &Document<'_>) -> Option<DocumentContent> {
        if !accepts(&self.definition, key, document) {
            return None;
        }
        let content = reading::read(&self.definition, document);
        content.map_err(|unreadable| self.failures.lock().add(unreadable, key)).ok()
    }

    /// The same, as far as it was read before.
    fn read_foreseen(
        &self,
        key: &[u8],
        document: &Document<'_>,
        foreseen: &mut ForeseenContent,
    ) -> Option<DocumentContent> {
        if foreseen.is_nothing() {
            return self.read(key, document);
        }
        if !foreseen.is_accepted().unwrap_or_else(|| accepts(&self.definition, key, document)) {
            return None;
        }
        let fields = 0..self.definition.fields.len();
        let fields = fields.map(|field| self.read_field(field, document, foreseen)).collect();
        let fields = match fields {
            Ok(fields) => fields,
            Err(unreadable) => {
                self.failures.lock().add(unreadable, key);
                return None;
            }
        };
        let about = foreseen.take_about();
        let about = about.unwrap_or_else(|| reading::about(&self.definition, document));
        Some(DocumentContent { fields, about })
    }

    fn read_field(
        &self,
        field: usize,
        document: &Document<'_>,
        foreseen: &mut ForeseenContent,
    ) -> Result<FieldContent, Unreadable> {
        match foreseen.take_content(field) {
            Some(content) => content.map_err(|cause| Unreadable { field, cause }),
            None => reading::read_field(&self.definition, field, document),
        }
    }

    // Backfill.

    pub fn is_backfilling(&self) -> bool {
        self.first_backfilled().is_some()
    }

    /// While there is a backfill: the first field that is incomplete, or 0 if documents are missing.
    pub fn first_backfilled(&self) -> Option<usize> {
        self.backfill.lock().walk().map(|walk| walk.first_field)
    }

    /// Whether documents have all that their keys have in a field.
    pub fn is_whole(&self, field: usize) -> bool {
        field < self.skipped_from && self.first_backfilled().is_none_or(|first| field < first)
    }

    /// The share of the older keys that the backfill has scanned, from 0 to 1.
    pub fn progress(&self) -> f64 {
        self.backfill.lock().walk().map_or(1.0, |walk| walk.share())
    }

    /// Ends the wait for a backfill that is not continued because the server stops. Searches that wait for it
    /// continue, and find the index incomplete.
    pub fn give_up(&self) {
        self.backfilled().give();
    }

    /// Given when the backfill has ended, or will not be continued.
    pub fn backfilled(&self) -> Arc<Signal> {
        self.backfill.lock().ended().clone()
    }

    /// Scans some more of the older keys. The caller holds the keyspace's lock, so no key changes meanwhile.
    /// Keys that were changed since the index was created are in it already, and are skipped.
    pub fn backfill_slice(
        &self,
        workers: &Workers,
        keyspace: &mut Housing<'_>,
        database: u32,
        clock: &dyn Clock,
    ) {
        slice(clock, || self.backfill_step(workers, keyspace, database));
    }

    /// Indexes one older key, after it has scanned for more if none is left. One key per step, so that the
    /// slice reads the clock after each document. A large document ends the slice: it is read without the
    /// lock before the next one, which indexes it. False when there is nothing left to do in this slice.
    fn backfill_step(&self, workers: &Workers, keyspace: &mut Housing<'_>, database: u32) -> bool {
        let mut state = self.backfill.lock();
        let ahead = state.ahead.take();
        let Some(walk) = state.walk_mut() else { return false };
        let since = walk.since;
        let next = ahead.or_else(|| {
            let (key, is_last) = walk.next(&self.definition, keyspace, database);
            key.map(|key| ReadAhead::of((key, is_last)))
        });
        self.reads_ahead.store(false, Ordering::Relaxed);
        let is_last = next.as_ref().map_or(walk.is_at_end(), |next| next.is_last);
        let is_old = |key: &[u8]| {
            let documents = self.documents.read();
            documents.id(key).is_none_or(|id| documents.version_of(id) <= since)
        };
        if let Some(mut next) = next
            && let Some(document) = self.document(keyspace, database, &next.key)
            && is_old(&next.key)
        {
            let place = (database, &next.key[..]);
            if next.readings < READINGS_MAX && self.is_large(keyspace, place, &next.read) {
                let upcoming = self.upcoming(keyspace, place);
                next.take(upcoming);
                state.ahead = Some(next);
                self.reads_ahead.store(true, Ordering::Relaxed);
                return false;
            }
            let document = (Some(document), &mut next.read);
            let housed = self.refresh(workers, Source::Backfill, &next.key, document);
            self.house(keyspace, (database, &next.key), housed);
            if !next.read.is_nothing() {
                state.used.push(next.read);
            }
        }
        if is_last {
            // Waiting searches are woken afterwards, without the keyspace's lock: see `help_backfill`.
            state.end();
        }
        !is_last
    }

    /// Reads the large document that the backfill comes to next, and frees what was read of others.
    fn read_ahead(&self) {
        let (upcoming, used) = {
            let mut state = self.backfill.lock();
            (state.take_upcoming(), std::mem::take(&mut state.used))
        };
        drop(used);
        if let Some((reading, key, upcoming)) = upcoming {
            let read = foresee_whole(self, &key, &upcoming);
            self.backfill.lock().keep_read(reading, read);
        }
    }

    /// The part after a slice of the backfill that needs no lock of the engine: the calling thread inserts
    /// the slice's vectors into the graph, so that they do not delay other work. While more slices follow, it
    /// leaves a part to idle workers.
    pub fn help_backfill(&self, workers: &WorkerCaller) {
        if self.is_dropped() {
            return;
        }
        let due = self.backfill.lock().take_due();
        due.iter().for_each(|signal| signal.give());
        self.read_ahead();
        let is_backfilling = self.is_backfilling();
        let most = if is_backfilling { BACKFILL_TAIL_MAX } else { 0 };
        for vectors in self.vectors.iter().flatten() {
            let began = workers.clock().monotonic();
            let calls = vectors.help(most);
            vectors.spent(workers.clock().monotonic().saturating_sub(began));
            if calls {
                workers.call(vectors);
            }
        }
    }

    /// Declares the index complete.
    pub fn finish_backfill(&self) {
        let due = {
            let mut backfill = self.backfill.lock();
            backfill.end();
            backfill.take_due()
        };
        due.iter().for_each(|signal| signal.give());
    }

    /// An estimate of the bytes of everything but the definition.
    pub fn memory_bytes(&self) -> usize {
        self.documents.read().heap_bytes() + self.vector_bytes() + self.definition.synonyms.heap_bytes()
    }

    pub fn vector_bytes(&self) -> usize {
        self.vectors.iter().flatten().map(|vectors| vectors.memory_bytes()).sum()
    }
}

/// The vectors of a field; `None` if it has none.
fn vectors_of(field: &FieldDefinition, load: &Arc<Load>) -> Option<Arc<VectorField>> {
    match &field.kind {
        FieldKind::Vector(options) => Some(Arc::new(VectorField::new(options.clone(), load.clone()))),
        _ => None,
    }
}

/// The document in an entry, with its expired fields; `None` if it is none of the index's.
fn document_of<'k>(definition: &Definition, entry: &'k Entry) -> Option<Document<'k>> {
    if definition.covers(entry.key()) {
        Document::of(entry.value(), definition.documents, WHOLE)
    } else {
        None
    }
}

fn remove(workers: &Workers, vectors: &Arc<VectorField>, id: u32) {
    if vectors.remove(id, workers.count()) {
        workers.call(vectors);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::IndexOptions;
    use crate::schema::create::definition_of;
    use crate::vectors::TAIL_MAX;
    use engramdb_engine::env::Env;
    use engramdb_engine::keyspace::DocumentType;

    /// An index whose backfill has not begun.
    fn waiting() -> Arc<Index> {
        let definition = Definition {
            id: 1,
            name: b"i".to_vec(),
            documents: DocumentType::Hash,
            prefixes: vec![Vec::new()],
            options: IndexOptions::default(),
            fields: Vec::new(),
            synonyms: Default::default(),
        };
        Arc::new(Index::new(definition, false))
    }

    #[test]
    fn writers_wait_for_what_writers_did_and_never_for_a_backfill() {
        let definition =
            definition_of("FT.CREATE i SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2");
        let load = Arc::default();
        let index = Index::with_load(definition, false, &load);
        let vectors = index.vectors[0].as_ref().expect("a vector field");
        let set = |source, id: u32| _ = vectors.set(source, id, &(id as f32).to_le_bytes(), 0);
        (0..2 * TAIL_MAX as u32).for_each(|id| set(Source::Backfill, id));
        assert!(!load.is_full());
        assert_eq!(index.pending(), 2 * TAIL_MAX, "searches look at them all the same");
        (10_000..9_999 + TAIL_MAX as u32).for_each(|id| set(Source::Live, id));
        assert!(!load.is_full());
        set(Source::Live, 20_000);
        assert!(load.is_full());
        index.drop_it();
        assert!(!load.is_full(), "nobody waits for an index that is gone");
        set(Source::Live, 20_001);
        assert!(!load.is_full());
    }

    #[test]
    fn the_signal_of_a_backfill_is_given_at_its_end_by_a_stop_and_after_a_drop() {
        for (end, is_complete) in [(Index::finish_backfill as fn(&Index), true), (Index::give_up, false)] {
            let index = waiting();
            assert!(!index.backfilled().is_given());
            end(&index);
            assert!(index.backfilled().is_given());
            assert_eq!(!index.is_backfilling(), is_complete);
            assert!(index.drop_it().is_empty());
        }
        let index = waiting();
        let [signal] = &index.drop_it()[..] else { panic!("it was not given") };
        assert!(!index.is_backfilling() && !index.backfilled().is_given());
        signal.give();
        assert!(index.backfilled().is_given());
    }

    #[test]
    fn a_key_that_is_no_document_and_was_none_waits_for_no_reader_of_the_documents() {
        let index = waiting();
        let (done, is_done) = std::sync::mpsc::channel();
        let _reading = index.documents.read();
        std::thread::spawn({
            let index = index.clone();
            move || {
                let none = (None, &mut ForeseenContent::default());
                index.refresh(&Workers::start(0, Env::system().clock), Source::Live, b"a list", none);
                done.send(()).expect("somebody waits for it");
            }
        });
        is_done.recv_timeout(Duration::from_secs(10)).expect("nobody is waited for");
    }
}
