//! Expiry in searches. The index does not know it.
//!
//! A document is *stale* while something of it has expired and is still stored: then its content is what the
//! keyspace has at this moment, not what the index has. Expiry is one way in which a document changes: a
//! search reads a stale document again, like one that was written since (follow.rs).
//!
//! Stale documents are found in one of two ways:
//!
//! | expired places in the engine's expiry index | method |
//! |---|---|
//! | at most `CHANGED_FEW` | each last look visits them |
//! | more | a *walk* visits them in slices, without the lock, and is kept up to date from then on |
//!
//! A walk is kept up to date from three sources, and a last look processes only what is new in them: the keys
//! that have changed since (`View::note_changes`), the times at which visited documents expire, and the
//! places of the engine's expiry index that are not visited yet.
//!
//! Invariants:
//! - a document that the walk has visited is read again before it is shown, if its key has changed or
//!   something of it has expired since it was read;
//! - an entry that the walk has not visited is queued in a bucket that comes later, or its key was noted.

use super::filter::{Ranges, means, means_in};
use super::follow::CHANGED_FEW;
use super::matches::Matches;
use super::plan::{Plan, Row};
use super::probe;
use super::walk::TextWalk;
use crate::documents::filtering::accepts;
use crate::documents::{Documents, reading};
use engramdb_engine::hashing::HashMap;
use engramdb_engine::keyspace::{DuePlace, Entry};
use engramdb_engine::store::Changes;
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::View;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// The names and distances of vector ranges in a row.
type Distances = Vec<(Arc<[u8]>, f64)>;

/// The state of a search about stale documents.
#[derive(Default)]
pub struct ExpiredDocuments {
    /// Documents that were stale when they were last read.
    pub stale: RoaringBitmap,
    unindexed: Unindexed,
    /// The distances of vector ranges for stale documents, if they depend on other parts of the query too.
    ranges: HashMap<u32, Distances>,
    /// Documents that the next step reads again, changed or not.
    pub again: RoaringBitmap,
    /// Those that the last look has read. If it comes back, they are read again.
    pub looked_at: RoaringBitmap,
    walk: Option<Walk>,
    /// The number of walks that were begun.
    pub walks: u32,
}

/// Keys that are not in the index because they could not be indexed. Such a key becomes a document when its
/// invalid part expires. They get numbers from the largest id downwards, so that they come last.
#[derive(Default)]
struct Unindexed {
    keys: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, u32>,
}

/// A walk over what has expired, kept up to date.
struct Walk {
    /// The keys that have changed since it began.
    changes: Arc<Changes>,
    place: DuePlace,
    /// The times at which visited documents expire next, in milliseconds, with their ids.
    pending: BinaryHeap<Reverse<(u64, u32)>>,
    /// Documents that were stale when they were visited or have expired since, and have not been read yet.
    ready: RoaringBitmap,
}

/// The documents that a last look must read because of expiry.
pub enum Due {
    /// Exactly these.
    Documents(RoaringBitmap),
    /// More than the last look may read.
    TooMany,
    /// More places of the expiry index than a last look may visit: a walk is needed.
    NoWalk,
}

impl Unindexed {
    fn number_of(&mut self, key: &[u8]) -> u32 {
        if let Some(&number) = self.numbers.get(key) {
            return number;
        }
        let number = u32::MAX - self.keys.len() as u32;
        self.keys.push(key.to_vec());
        self.numbers.insert(key.to_vec(), number);
        number
    }

    fn key(&self, number: u32) -> Option<&[u8]> {
        self.keys.get((u32::MAX - number) as usize).map(Vec::as_slice)
    }
}

impl ExpiredDocuments {
    /// The key of a document, indexed or not.
    pub fn key<'k>(&'k self, documents: &'k Documents, id: u32) -> Option<&'k [u8]> {
        self.unindexed.key(id).or_else(|| documents.key(id))
    }

    pub fn is_unindexed(&self, id: u32) -> bool {
        self.unindexed.key(id).is_some()
    }

    /// The distances of vector ranges for a stale document, if they are recorded.
    pub fn ranges_of(&self, id: u32) -> Option<&Distances> {
        self.ranges.get(&id)
    }

    pub fn has_walk(&self) -> bool {
        self.walk.is_some()
    }

    /// Begins a walk if it is needed: if something may have expired, or a document was stale.
    pub fn begin_walk(&mut self, view: &View<'_>) {
        if !view.may_have_due(view.database()) && self.stale.is_empty() {
            return;
        }
        // These may have changed before the walk's notes begin.
        self.again |= &self.stale;
        self.walks += 1;
        self.walk = Some(Walk {
            changes: view.note_changes(),
            place: DuePlace::default(),
            pending: BinaryHeap::new(),
            ready: RoaringBitmap::new(),
        });
    }

    /// Ends a walk that cannot be kept up to date, because its notes only say that all keys may have changed.
    /// Returns whether it has ended.
    fn lose_walk(&mut self) -> bool {
        let is_lost = self.walk.as_ref().is_some_and(|walk| walk.changes.are_all());
        if is_lost {
            self.walk = None;
        }
        is_lost
    }

    /// The number of documents found so far that must be read.
    pub fn waiting(&self) -> u64 {
        let of_walk = self.walk.as_ref().map_or(0, |walk| walk.ready.len() + walk.changes.count() as u64);
        self.again.len() + of_walk
    }

    /// Takes the documents that must be read.
    pub fn take_waiting(&mut self) -> RoaringBitmap {
        let ready = self.walk.as_mut().map(|walk| std::mem::take(&mut walk.ready));
        std::mem::take(&mut self.again) | ready.unwrap_or_default()
    }

    /// Takes the keys that have changed since the walk began, or since the last call.
    pub fn take_changed(&mut self) -> Vec<Vec<u8>> {
        self.walk.as_ref().map(|walk| walk.changes.take()).unwrap_or_default()
    }

    /// The documents of these keys, indexed or not.
    pub fn ids_of<'k>(
        &mut self,
        plan: &Plan,
        documents: &Documents,
        keys: impl Iterator<Item = &'k Vec<u8>>,
    ) -> RoaringBitmap {
        let takes_unindexed = plan.may_have_unindexed();
        let mut ids = RoaringBitmap::new();
        for key in keys {
            ids.extend(self.unindexed.id_of(plan, documents, takes_unindexed, key));
            // A key that has been indexed since has an id and a number; both are read.
            ids.extend(self.unindexed.numbers.get(key));
        }
        ids
    }

    /// One step of the walk: visits at most `places` places, and takes at most `most` visited documents whose
    /// time has come. Returns whether everything that has expired at the view's time is found.
    pub fn gather(
        &mut self,
        plan: &Plan,
        (view, documents): (&View<'_>, &Documents),
        places: usize,
        most: u64,
    ) -> bool {
        let ExpiredDocuments { walk: Some(walk), unindexed, .. } = self else { return true };
        let takes_unindexed = plan.may_have_unindexed();
        let most = walk.ready.len().saturating_add(most);
        let is_due = |pending: &BinaryHeap<Reverse<(u64, u32)>>| {
            pending.peek().is_some_and(|&Reverse((at, _))| at <= view.now_ms())
        };
        while walk.ready.len() < most && is_due(&walk.pending) {
            let Reverse((_, id)) = walk.pending.pop().expect("looked at above");
            walk.ready.insert(id);
        }
        let Walk { place, pending, ready, .. } = walk;
        let (next, is_end) = view.due_step(plan.database, *place, places, &mut |key, at| {
            probe::touch();
            let Some(id) = unindexed.id_of(plan, documents, takes_unindexed, key) else { return };
            if at <= view.now_ms() {
                ready.insert(id);
            } else {
                pending.push(Reverse((at, id)));
            }
        });
        *place = next;
        is_end && !is_due(pending)
    }

    /// For a last look: the documents, at most `most`, that may have become stale, or are no longer stale,
    /// since they were last read.
    pub fn due(&mut self, plan: &Plan, view: &View<'_>, documents: &Documents, most: u64) -> Due {
        if self.lose_walk() && !(plan.accepts_changes && self.walks > 1) {
            return Due::NoWalk;
        }
        if self.walk.is_none() {
            return self.due_without_walk(plan, view, documents, most);
        }
        // Visits what is new, up to one document more than is allowed.
        let places = if plan.accepts_changes { usize::MAX } else { CHANGED_FEW as usize };
        let is_whole = self.gather(plan, (view, documents), places, most.saturating_add(1));
        if !is_whole || self.waiting() > most {
            return Due::TooMany;
        }
        let keys = self.take_changed();
        Due::Documents(self.take_waiting() | self.ids_of(plan, documents, keys.iter()))
    }

    fn due_without_walk(&mut self, plan: &Plan, view: &View<'_>, documents: &Documents, most: u64) -> Due {
        if !view.may_have_due(plan.database) && self.stale.is_empty() {
            return Due::Documents(std::mem::take(&mut self.again));
        }
        let is_last = plan.accepts_changes && self.walks > 1;
        let places = if is_last { usize::MAX } else { CHANGED_FEW as usize };
        let takes_unindexed = plan.may_have_unindexed();
        let mut due = &self.stale | &self.again;
        let unindexed = &mut self.unindexed;
        let (_, is_end) = view.due_step(plan.database, DuePlace::default(), places, &mut |key, at| {
            probe::touch();
            if at <= view.now_ms() {
                due.extend(unindexed.id_of(plan, documents, takes_unindexed, key));
            }
        });
        if !is_last && (!is_end || due.len() > most) {
            return Due::NoWalk;
        }
        self.again.clear();
        Due::Documents(due)
    }

    /// Records the time at which something of a document expires.
    fn wait_until(&mut self, at: Option<u64>, id: u32) {
        if let (Some(at), Some(walk)) = (at, &mut self.walk) {
            walk.pending.push(Reverse((at, id)));
        }
    }

    fn note(&mut self, id: u32, is_stale: bool) {
        if is_stale {
            self.stale.insert(id);
        } else {
            self.stale.remove(id);
        }
        if !self.ranges.is_empty() {
            self.ranges.remove(&id);
        }
    }
}

impl Unindexed {
    /// The id of a key's document, or the number of a key that the index covers and could not index.
    fn id_of(
        &mut self,
        plan: &Plan,
        documents: &Documents,
        takes_unindexed: bool,
        key: &[u8],
    ) -> Option<u32> {
        documents
            .id(key)
            .or_else(|| (takes_unindexed && plan.index.definition.covers(key)).then(|| self.number_of(key)))
    }
}

/// Reads documents as they are now: from the index, or from the keyspace if they are stale.
pub struct DocumentReader<'a, 'v> {
    plan: &'a Plan,
    pub documents: &'a Documents,
    /// The keyspace, if documents can be stale.
    view: Option<&'a View<'v>>,
    /// Postings of one document at most: a stale document is put into them to evaluate the filter.
    desk: Option<(Documents, Ranges)>,
}

/// A document that was read.
pub struct Looked<'v> {
    /// Whether it matches the filter and INKEYS.
    pub is_match: bool,
    /// The document in the keyspace, if it is stale and exists.
    pub document: Option<Document<'v>>,
    pub is_stale: bool,
}

/// The source of a document's current content.
enum Reading<'v> {
    Gone,
    /// The index.
    Indexed,
    /// The keyspace.
    Stored(Document<'v>),
}

impl<'a, 'v> DocumentReader<'a, 'v> {
    pub fn new(
        plan: &'a Plan,
        documents: &'a Documents,
        view: Option<&'a View<'v>>,
    ) -> DocumentReader<'a, 'v> {
        DocumentReader { plan, documents, view, desk: None }
    }

    /// Prefetches the memory that reading these documents needs.
    pub fn prefetch(&self, expired: &ExpiredDocuments, ids: &RoaringBitmap) {
        self.documents.prefetch(ids.iter());
        if let Some(view) = self.view {
            view.prefetch(ids.iter().filter_map(|id| expired.key(self.documents, id)));
        }
    }

    /// Reads a document, and records whether it matches the filter and INKEYS.
    pub fn look(
        &mut self,
        matches: Option<&mut Matches>,
        expired: &mut ExpiredDocuments,
        id: u32,
    ) -> Looked<'v> {
        probe::touch();
        let is_unindexed = expired.is_unindexed(id);
        let documents = self.documents;
        let key = match expired.unindexed.key(id) {
            Some(key) => Some(Cow::Owned(key.to_vec())),
            None => documents.key(id).map(Cow::Borrowed),
        };
        let (reading, is_stale) = match &key {
            Some(key) => self.read(expired, id, key),
            None => (Reading::Gone, false),
        };
        expired.note(id, is_stale);
        let key = key.unwrap_or_default();
        let is_named = self.plan.names(&key);
        let looked = |is_match, document| Looked { is_match, document, is_stale };
        match (reading, matches) {
            (Reading::Gone, matches) => {
                if let Some(matches) = matches {
                    matches.ranges.note(id, |_| None);
                    matches.documents.remove(id);
                }
                looked(false, None)
            }
            // Without a filter, an indexed document still matches, whatever of it has expired.
            (Reading::Stored(document), None) if !is_unindexed => looked(is_named, Some(document)),
            (Reading::Stored(document), matches) => {
                let is_match = is_named && self.is_meant(expired, id, &key, &document);
                if let Some(matches) = matches {
                    let index = &self.plan.index;
                    let distance = |field, query: &[u8]| index.distance(&document, field, query);
                    matches
                        .ranges
                        .note(id, |range| distance(range.field, &range.vector).filter(|_| is_named));
                    matches.set(id, is_match);
                }
                looked(is_match, Some(document))
            }
            (Reading::Indexed, None) => looked(is_named, None),
            (Reading::Indexed, Some(matches)) => {
                let index = &self.plan.index;
                matches.ranges.note(id, |range| {
                    let distance = || index.indexed_distance(self.documents, range.field, id, &range.vector);
                    is_named.then(distance).flatten()
                });
                let (filter, mut walk) = (&*self.plan.query.filter, TextWalk::unbounded());
                let is_match = is_named && means_in(self.documents, &matches.ranges, filter, id, &mut walk);
                probe::touch_words(walk.walked);
                matches.set(id, is_match);
                looked(is_match, None)
            }
        }
    }

    /// The current content of a document, and whether the document is stale.
    fn read(&self, expired: &mut ExpiredDocuments, id: u32, key: &[u8]) -> (Reading<'v>, bool) {
        let is_unindexed = expired.is_unindexed(id);
        let Some(view) = self.view else {
            return (if is_unindexed { Reading::Gone } else { Reading::Indexed }, false);
        };
        if is_unindexed && self.documents.id(key).is_some() {
            return (Reading::Gone, false);
        }
        let Some(entry) = view.peek(view.database(), key) else { return (Reading::Gone, !is_unindexed) };
        let at = entry.next_expiry_ms();
        if at.is_none_or(|at| at > view.now_ms()) {
            expired.wait_until(at, id);
            return (if is_unindexed { Reading::Gone } else { Reading::Indexed }, false);
        }
        let documents = self.plan.index.definition.documents;
        let Some(document) = Document::of(entry.value(), documents, view.now_ms()) else {
            return (Reading::Gone, true);
        };
        expired.wait_until(self.next_expiry(entry, &document), id);
        (Reading::Stored(document), true)
    }

    /// The earliest time, in milliseconds, at which a stale document may change again: a field that the index
    /// reads expires, or the whole document.
    fn next_expiry(&self, entry: &Entry, document: &Document<'_>) -> Option<u64> {
        let of_key = Some(entry.expires_at_ms()).filter(|&at| at != 0);
        let Document::Hash(hash) = document else { return of_key };
        let definition = &self.plan.index.definition;
        let filter = definition.options.filter.iter().flat_map(|filter| filter.identifiers(definition));
        let fields = definition.fields.iter().map(|field| &field.identifier[..]).chain(filter.flatten());
        let read = fields.filter_map(|field| hash.get(field));
        // A hash exists for as long as any field of it does.
        let some = hash.iter().next();
        let fields = read.chain(some).map(|field| field.expires_at_ms);
        fields.filter(|&at| at != 0).chain(of_key).min()
    }

    /// Whether a document, as it is in the keyspace, matches the filter. Records its distances of vector
    /// ranges if they depend on other parts of the query.
    fn is_meant(
        &mut self,
        expired: &mut ExpiredDocuments,
        id: u32,
        key: &[u8],
        document: &Document<'_>,
    ) -> bool {
        let (index, filter) = (&self.plan.index, &*self.plan.query.filter);
        if !accepts(&index.definition, key, document) {
            return false;
        }
        let Ok(content) = reading::read(&index.definition, document) else { return false };
        let new_desk = || (Documents::new(&index.definition), Ranges::unmatched(filter));
        let (current, ranges) = self.desk.get_or_insert_with(new_desk);
        let place = current.upsert(key, &content);
        ranges.note(place, |range| index.distance(document, range.field, &range.vector));
        let is_meant = means(current, ranges, filter, place);
        if is_meant && filter.has_optional_range() {
            expired.ranges.insert(id, ranges.distances(current, filter, place));
        }
        current.remove(key);
        // There are no vectors whose rows would have to be removed.
        drop(current.take_freed());
        is_meant
    }
}

impl Plan {
    /// Whether INKEYS names the key, or there are no INKEYS.
    fn names(&self, key: &[u8]) -> bool {
        let is_in = |keys: &Vec<Vec<u8>>| keys.binary_search_by(|named| named.as_slice().cmp(key)).is_ok();
        self.request().in_keys.as_ref().is_none_or(is_in)
    }

    /// Whether there may be documents that could not be indexed.
    pub fn may_have_unindexed(&self) -> bool {
        self.index.definition.options.filter.is_some() || self.index.failures.lock().all.count > 0
    }

    /// The row of a document, without the distance of KNN; `None` if the document is gone.
    pub fn row<'r>(
        &'r self,
        documents: &'r Documents,
        expired: &'r ExpiredDocuments,
        matches: Option<&Matches>,
        id: u32,
    ) -> Option<Row<'r>> {
        let mut row = Row::new(expired.key(documents, id)?, id, None);
        match (expired.ranges_of(id), matches) {
            (Some(ranges), _) => row.ranges.clone_from(ranges),
            (None, Some(matches)) => row.add(&matches.ranges, documents, &self.query.filter, id),
            (None, None) => {}
        }
        Some(row)
    }
}

/// Removes the rows from a page whose documents have changed since they were found, in a search whose time
/// limit has passed.
pub fn leave_out_changed(view: &View<'_>, documents: &Documents, version: u64, rows: &mut Vec<Row<'_>>) {
    let may_have_due = view.may_have_due(view.database());
    rows.retain(|row| {
        let is_stale = || {
            let entry = view.peek(view.database(), row.key);
            entry.is_none_or(|entry| entry.next_expiry_ms().is_some_and(|at| at <= view.now_ms()))
        };
        documents.version_of(row.id) <= version && !(may_have_due && is_stale())
    });
}
