//! What a search makes of time, of which the index knows nothing.
//!
//! A document is *stale* while something of it has expired and is still stored: then it is what the keyspace
//! says at this moment, and not what the index says. Expiring is one of the ways in which a document changes:
//! a search looks at a stale document alone, as at one that was written since (follow.rs).
//!
//! Which documents are stale is found out in one of two ways:
//!
//! | expired places of the engine | how |
//! |---|---|
//! | `CHANGED_FEW` at most | the last look visits them, each time |
//! | more | a *walk* visits them in slices, without the lock, and is kept up to date from then on |
//!
//! A walk is kept up to date by three means, and so a last look has only to look at what is new in them: the
//! keys that have changed since (`View::note_changes`), the times at which documents that it has visited
//! expire, and the places of the engine's expiry index that it has not visited yet.
//!
//! Invariants:
//! - a document that the walk has visited is read again before it is shown, if its key has changed or
//!   something of it has expired since it was read;
//! - an entry that the walk has not visited is queued in a bucket that comes later, or its key was noted.

use super::filter::{Ranges, means};
use super::follow::CHANGED_FEW;
use super::matches::Matches;
use super::plan::{Plan, Row};
use super::probe;
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

/// Names and distances of vector ranges, as a row shows them.
type Distances = Vec<(Arc<[u8]>, f64)>;

/// What a search knows of documents that are stale.
#[derive(Default)]
pub struct ExpiredDocuments {
    /// Documents that were stale when they were looked at last.
    pub stale: RoaringBitmap,
    unindexed: Unindexed,
    /// What vector ranges say of stale documents, where that depends on other parts of the query too.
    ranges: HashMap<u32, Distances>,
    /// Documents that the next look looks at again, whether they have changed or not.
    pub again: RoaringBitmap,
    walk: Option<Walk>,
    /// Walks that were begun.
    pub walks: u32,
}

/// Keys that the index does not know because they could not be indexed. Where what was malformed has expired,
/// such a key reads as a document. They get numbers from the largest id downwards, so that they come last.
#[derive(Default)]
struct Unindexed {
    keys: Vec<Vec<u8>>,
    numbers: HashMap<Vec<u8>, u32>,
}

/// A walk over what has expired, kept up to date.
struct Walk {
    /// What has changed since it began.
    changes: Arc<Changes>,
    place: DuePlace,
    /// When documents that were visited expire next, in milliseconds.
    pending: BinaryHeap<Reverse<(u64, u32)>>,
    /// Documents that were stale when they were visited, or that have expired since, and were not looked at.
    ready: RoaringBitmap,
}

/// How many documents are to be looked at for time's sake, before a last look looks at any.
pub enum Due {
    /// These, and no others.
    Documents(RoaringBitmap),
    /// More than were asked for.
    TooMany,
    /// More places than one look visits, and no walk has visited them: a walk is to be begun.
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
    /// The key of a document, or of one that is not indexed.
    pub fn key<'k>(&'k self, documents: &'k Documents, id: u32) -> Option<&'k [u8]> {
        self.unindexed.key(id).or_else(|| documents.key(id))
    }

    pub fn is_unindexed(&self, id: u32) -> bool {
        self.unindexed.key(id).is_some()
    }

    /// What vector ranges say of a document, where it was read for itself.
    pub fn ranges_of(&self, id: u32) -> Option<&Distances> {
        self.ranges.get(&id)
    }

    pub fn has_walk(&self) -> bool {
        self.walk.is_some()
    }

    /// Begins a walk where it is needed: something has expired, or had when it was looked at.
    pub fn begin_walk(&mut self, view: &View<'_>) {
        if !view.may_have_due(view.database()) && self.stale.is_empty() {
            return;
        }
        // What was not noted before can have become otherwise.
        self.again |= &self.stale;
        self.walks += 1;
        self.walk = Some(Walk {
            changes: view.note_changes(),
            place: DuePlace::default(),
            pending: BinaryHeap::new(),
            ready: RoaringBitmap::new(),
        });
    }

    /// A walk whose notes are of everything has to be begun again. Says whether it has.
    fn lose_walk(&mut self) -> bool {
        let is_lost = self.walk.as_ref().is_some_and(|walk| walk.changes.are_all());
        if is_lost {
            self.walk = None;
        }
        is_lost
    }

    /// Documents that wait to be looked at, as far as they were found.
    pub fn waiting(&self) -> u64 {
        let of_walk = self.walk.as_ref().map_or(0, |walk| walk.ready.len() + walk.changes.count() as u64);
        self.again.len() + of_walk
    }

    /// Hands over the documents that wait to be looked at.
    pub fn take_waiting(&mut self) -> RoaringBitmap {
        let ready = self.walk.as_mut().map(|walk| std::mem::take(&mut walk.ready));
        std::mem::take(&mut self.again) | ready.unwrap_or_default()
    }

    /// Hands over the keys that have changed since the walk began.
    pub fn take_changed(&mut self) -> Vec<Vec<u8>> {
        self.walk.as_ref().map(|walk| walk.changes.take()).unwrap_or_default()
    }

    /// The documents of these keys, and those that are not indexed.
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
            // A key that can be indexed now is another document.
            ids.extend(self.unindexed.numbers.get(key));
        }
        ids
    }

    /// One step of the walk: visits this many places and takes note of this many documents more, at most.
    /// Says whether all is found that has expired at the moment of the view.
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

    /// What has become stale or is stale no more since these documents were looked at last: `most` documents
    /// at most. For a last look.
    pub fn due(&mut self, plan: &Plan, view: &View<'_>, documents: &Documents, most: u64) -> Due {
        if self.lose_walk() && !(plan.accepts_changes && self.walks > 1) {
            return Due::NoWalk;
        }
        if self.walk.is_none() {
            return self.due_without_walk(plan, view, documents, most);
        }
        // Visits what is new, and no more than it can use.
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

    /// Takes note that something of a document expires at this time.
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
    /// The id of a key's document; the number of a key that the index covers and could not index.
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

/// Looks at documents as they are: as the index says, or the keyspace where they are stale.
pub struct DocumentReader<'a, 'v> {
    plan: &'a Plan,
    pub documents: &'a Documents,
    /// The keyspace, where it is asked which documents are stale.
    view: Option<&'a View<'v>>,
    /// Where a stale document is put so that it can be matched.
    desk: Option<(Documents, Ranges)>,
}

/// A document as it was found.
pub struct Looked<'v> {
    /// Whether filter and INKEYS leave it.
    pub is_match: bool,
    /// What the keyspace has of it, where it is stale and there.
    pub document: Option<Document<'v>>,
    pub is_stale: bool,
}

/// What a document is.
enum Reading<'v> {
    Gone,
    /// What the index says.
    Indexed,
    /// What the keyspace says.
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

    /// Has the memory on its way that looks at these documents will read.
    pub fn prefetch(&self, expired: &ExpiredDocuments, ids: &RoaringBitmap) {
        self.documents.prefetch(ids.iter());
        if let Some(view) = self.view {
            view.prefetch(ids.iter().filter_map(|id| expired.key(self.documents, id)));
        }
    }

    /// Finds out what filter and INKEYS say of a document, and takes note of it.
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
            // Without a filter, a document stays one whatever of it expires.
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
                let vectors = &self.plan.index.vectors;
                matches.ranges.note(id, |range| {
                    let vectors = vectors[range.field].as_ref().filter(|_| is_named)?;
                    vectors.distance(id, &range.vector)
                });
                let filter = &*self.plan.query.filter;
                let is_match = is_named && means(self.documents, &matches.ranges, filter, id);
                matches.set(id, is_match);
                looked(is_match, None)
            }
        }
    }

    /// What the document is, and whether it is stale.
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

    /// When a stale document reads otherwise again, at the earliest: one of its fields that the index reads
    /// expires, or all there is of it.
    fn next_expiry(&self, entry: &Entry, document: &Document<'_>) -> Option<u64> {
        let of_key = Some(entry.expires_at_ms()).filter(|&at| at != 0);
        let Document::Hash(hash) = document else { return of_key };
        let fields = &self.plan.index.definition.fields;
        let read = fields.iter().filter_map(|field| hash.get(&field.identifier));
        // While this one is there, the hash is.
        let some = hash.iter().next();
        let fields = read.chain(some).map(|field| field.expires_at_ms);
        fields.filter(|&at| at != 0).chain(of_key).min()
    }

    /// Whether the filter means a document as the keyspace has it; notes what vector ranges say of it.
    fn is_meant(
        &mut self,
        expired: &mut ExpiredDocuments,
        id: u32,
        key: &[u8],
        document: &Document<'_>,
    ) -> bool {
        let (index, filter) = (&self.plan.index, &*self.plan.query.filter);
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
        self.index.failures.lock().all.count > 0
    }

    /// The row of a document that was found, without the distance of KNN; `None` where it is gone.
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

/// Leaves out of a page, in a search that has run out of time, what has changed since it was found.
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
