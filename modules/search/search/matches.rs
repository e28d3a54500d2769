//! The result of a search without KNN: the documents that match the filter, and their order.
//!
//! Both are right for the documents that have not changed since a version. Changed documents are read again
//! (follow.rs).

use super::expired::{DocumentReader, ExpiredDocuments};
use super::filter::{Evaluation, Late, Ranges};
use super::follow::Follows;
use super::plan::{Plan, Row, SortKey};
use super::reply;
use super::score::ScoreTree;
use super::scored::Scored;
use crate::documents::Documents;
use crate::query::request::SortBy;
use crate::schema::FieldKind;
use crate::weight::{HoldBudget, ReadWeight};
use engramdb_engine::command::Looks;
use engramdb_engine::hashing::HashMap;
use engramdb_engine::keyspace::{DocumentSource, DocumentType, PathCost};
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::View;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::sync::Arc;

/// Documents whose sort keys are read under one lock of the keyspace.
pub const KEYED: usize = 128;

pub struct Matches {
    pub version: u64,
    pub documents: RoaringBitmap,
    pub ranges: Ranges,
    /// The documents in the order of SORTBY, if the reply has a page. Some are missing if the time limit
    /// passed.
    pub order: Option<Sorted>,
    /// What scores the documents, if the answer needs scores; and the best of them, if they are in this
    /// order.
    pub tree: Option<ScoreTree>,
    pub scored: Option<Scored>,
    /// Scores of rows that are in another order.
    pub known_scores: HashMap<u32, f64>,
    pub timed_out: bool,
}

/// Documents with their sort keys. Those of the first pages are sorted.
pub struct Sorted {
    pub first: Vec<(SortKey, u32)>,
    rest: Vec<(SortKey, u32)>,
    /// The ids in `first` and their positions there, sorted by id.
    places: Vec<(u32, u32)>,
    pub descending: bool,
}

/// Work that a last look needs and may not do itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// More documents have changed than a last look reads.
    Changes,
    /// More places of the engine's expiry index hold expired entries than a last look visits.
    Expired,
    /// Fewer rows are left than the query asks for, and there may be others.
    Rows,
    /// The documents of the page are large, and a thread of the pool must read them.
    Pool,
    /// The documents of the page must be copied before.
    Copies,
}

/// Documents after the page that are sorted too: they move up when documents of the page have changed. More
/// than the changes that a last look processes.
const SORTED_MORE: usize = 1024;

impl Matches {
    /// Records whether a document matches.
    pub fn set(&mut self, id: u32, is_match: bool) {
        if is_match {
            self.documents.insert(id);
        } else {
            self.documents.remove(id);
        }
    }
}

impl Sorted {
    fn new(mut keyed: Vec<(SortKey, u32)>, page_end: usize, descending: bool) -> Sorted {
        let order = |a: &(SortKey, u32), b: &(SortKey, u32)| order_of((&a.0, a.1), (&b.0, b.1), descending);
        let end = page_end.saturating_add(SORTED_MORE);
        let rest = if keyed.len() > end {
            keyed.select_nth_unstable_by(end, order);
            keyed.split_off(end)
        } else {
            Vec::new()
        };
        keyed.sort_unstable_by(order);
        let mut sorted = Sorted { first: keyed, rest, places: Vec::new(), descending };
        sorted.find_places();
        sorted
    }

    fn find_places(&mut self) {
        self.places = (0..).zip(&self.first).map(|(place, (_, id))| (*id, place)).collect();
        self.places.sort_unstable();
    }

    /// All documents with their sort keys, in no order.
    fn into_keyed(self) -> Vec<(SortKey, u32)> {
        let Sorted { mut first, mut rest, .. } = self;
        first.append(&mut rest);
        first
    }

    /// Whether there are documents after `first`.
    pub fn has_rest(&self) -> bool {
        !self.rest.is_empty()
    }

    /// Sorts all documents into `first`.
    pub fn sort_rest(&mut self) {
        let descending = self.descending;
        self.first.append(&mut self.rest);
        self.first.sort_unstable_by(|a, b| order_of((&a.0, a.1), (&b.0, b.1), descending));
        self.find_places();
    }

    /// The position of a document in `first`.
    pub fn place(&self, id: u32) -> Option<usize> {
        let found = self.places.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.places[found].1 as usize)
    }

    /// The ids in `first`, in order.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.first.iter().map(|(_, id)| *id)
    }
}

/// Matches that are updated to changed documents, with their order if there is one.
struct FollowingMatches<'f> {
    plan: &'f Plan,
    looks: &'f dyn Looks,
    matches: &'f mut Matches,
    /// SORTBY, and the matches with their sort keys, in no order.
    keyed: Option<(&'f SortBy, Vec<(SortKey, u32)>)>,
}

impl Follows for FollowingMatches<'_> {
    fn version(&self) -> u64 {
        self.matches.version
    }

    fn look_at(
        &mut self,
        reader: &mut DocumentReader<'_, '_>,
        expired: &mut ExpiredDocuments,
        ids: &RoaringBitmap,
    ) {
        for id in ids {
            reader.look(Some(self.matches), expired, id);
        }
    }

    fn reach(&mut self, version: u64, changed: &RoaringBitmap, expired: &ExpiredDocuments) {
        self.matches.version = version;
        self.matches.known_scores.retain(|id, _| !changed.contains(*id));
        if let Some(mut scored) = self.matches.scored.take() {
            let again = changed & &self.matches.documents;
            scored.update(changed, self.plan.scores_of(self.matches, &again));
            self.matches.scored = Some(scored);
        }
        if let Some((sort_by, keyed)) = &mut self.keyed {
            keyed.retain(|(_, id)| !changed.contains(*id));
            let again = changed & &self.matches.documents;
            keyed.extend(self.plan.keyed(self.looks, self.matches, expired, &again, sort_by));
        }
    }

    fn leave_out(&mut self, version: u64, changed: &RoaringBitmap) {
        self.matches.version = version;
        self.matches.timed_out = true;
        self.matches.documents -= changed;
        if let Some(scored) = &mut self.matches.scored {
            scored.update(changed, Vec::new());
        }
        if let Some((_, keyed)) = &mut self.keyed {
            keyed.retain(|(_, id)| !changed.contains(*id));
        }
    }
}

/// An order whose sort keys the index has.
enum Order<'q> {
    /// By the distance that a part of the query gives this name.
    Distance(&'q [u8]),
    /// By this NUMERIC field.
    Number(usize),
}

impl Plan {
    /// The documents that match the filter and INKEYS. Fails with `Late` if the time limit passed and the
    /// partial result is of no use.
    pub fn find_matches(&self) -> Result<Matches, Late> {
        let is_late = || self.is_late();
        let (version, id_bound) = {
            let documents = self.index.documents.read();
            (documents.version(), documents.id_bound())
        };
        let tree = &*self.query.filter;
        let ranges = Ranges::find(&self.index, tree, (version, id_bound), &is_late);
        // If matches of a negated range are missing, the result would have rows that do not match.
        if ranges.timed_out && tree.negates_range() {
            return Err(Late);
        }
        let evaluation = Evaluation::of_plan(self, &ranges, &is_late);
        let mut documents = evaluation.matches(tree)?;
        if let Some(keys) = &self.request().in_keys {
            let mut named = RoaringBitmap::new();
            let mut keys = keys.iter();
            evaluation.in_steps(|documents, work| {
                named.extend(keys.by_ref().take(*work).filter_map(|key| documents.id(key)));
                *work = 0;
                keys.len() == 0
            })?;
            documents &= named;
        }
        let timed_out = ranges.timed_out;
        Ok(Matches {
            version,
            documents,
            ranges,
            order: None,
            tree: None,
            scored: None,
            known_scores: HashMap::default(),
            timed_out,
        })
    }

    /// Updates the matches, and their order if there is one, to the documents that have changed. If the time
    /// limit passes, `leaves_out` decides whether changed documents are left out.
    pub fn follow_matches(
        &self,
        looks: &dyn Looks,
        matches: &mut Matches,
        expired: &mut ExpiredDocuments,
        leaves_out: bool,
    ) {
        let keyed = matches.order.take().map(Sorted::into_keyed);
        self.follow_keyed(looks, matches, expired, keyed, leaves_out);
    }

    fn follow_keyed(
        &self,
        looks: &dyn Looks,
        matches: &mut Matches,
        expired: &mut ExpiredDocuments,
        keyed: Option<Vec<(SortKey, u32)>>,
        leaves_out: bool,
    ) {
        let request = self.request();
        let keyed = request.sort_by.as_ref().zip(keyed);
        let mut found = FollowingMatches { plan: self, looks, matches, keyed };
        self.catch_up(looks, expired, &mut found);
        if leaves_out && self.is_late() {
            self.leave_out(expired, &mut found);
        }
        let FollowingMatches { matches, keyed, .. } = found;
        let page_end = request.offset + request.limit;
        matches.order = keyed.map(|(sort_by, keyed)| Sorted::new(keyed, page_end, sort_by.descending));
        self.score_page_again(matches);
    }

    /// Sorts the matches by SORTBY, if the reply has a page.
    pub fn put_in_order(&self, looks: &dyn Looks, matches: &mut Matches, expired: &mut ExpiredDocuments) {
        let request = self.request();
        let Some(sort_by) = request.sort_by.as_ref().filter(|_| request.limit > 0) else { return };
        let all = std::mem::take(&mut matches.documents);
        let keyed = self.keyed(looks, matches, expired, &all, sort_by);
        matches.documents = all;
        // Reading the sort keys takes a while. Processing the changes since then leaves fewer to the last
        // look.
        self.follow_keyed(looks, matches, expired, Some(keyed), false);
    }

    /// Documents with their sort keys.
    fn keyed(
        &self,
        looks: &dyn Looks,
        matches: &mut Matches,
        expired: &ExpiredDocuments,
        ids: &RoaringBitmap,
        sort_by: &SortBy,
    ) -> Vec<(SortKey, u32)> {
        let Some(order) = self.indexed_order(sort_by) else {
            return self.keyed_by_hashes(looks, matches, expired, ids, sort_by);
        };
        // A number in the index can be that of a field that has expired.
        let stale = match order {
            Order::Number(_) => ids & &expired.stale,
            Order::Distance(_) => RoaringBitmap::new(),
        };
        if stale.is_empty() {
            return self.keyed_by_index(matches, expired, ids, &order);
        }
        let mut keyed = self.keyed_by_index(matches, expired, &(ids - &stale), &order);
        keyed.extend(self.keyed_by_hashes(looks, matches, expired, &stale, sort_by));
        keyed
    }

    /// Documents with sort keys that are read from the keyspace, a few under each lock. Documents that change
    /// or expire meanwhile are read again later.
    fn keyed_by_hashes(
        &self,
        looks: &dyn Looks,
        matches: &mut Matches,
        expired: &ExpiredDocuments,
        ids: &RoaringBitmap,
        sort_by: &SortBy,
    ) -> Vec<(SortKey, u32)> {
        let mut keyed = Vec::with_capacity(ids.len() as usize);
        let weight = self.key_weight(sort_by);
        let mut left = ids.iter();
        while left.len() > 0 {
            let some: Vec<u32> = left.by_ref().take(KEYED).collect();
            let (mut budget, mut held) = (HoldBudget::default(), Vec::new());
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                documents.prefetch(some.iter().copied());
                let named = || some.iter().filter_map(|&id| Some((expired.key(documents, id)?, id)));
                view.prefetch(named().map(|(key, _)| key));
                for (key, id) in named() {
                    let row = Row::new(key, id, None);
                    match self.held_for_key(view, &row, &weight, &mut budget) {
                        Some(object) => held.push((object, id)),
                        None => keyed.push((reply::sort_key(self, view, documents, sort_by, &row), id)),
                    }
                }
            });
            for (object, id) in held.into_iter().take_while(|_| !self.is_late()) {
                keyed.push((reply::stored_key(self, sort_by, &Document::Object(&*object)), id));
            }
            if self.is_late() {
                matches.timed_out = true;
                break;
            }
        }
        keyed
    }

    /// What reading a sort key costs in documents that are no hashes; `None` for hashes.
    pub fn key_weight(&self, sort_by: &SortBy) -> Option<ReadWeight> {
        let definition = &self.index.definition;
        let path = definition.identifier_of(&sort_by.field);
        let is_hash = definition.documents == DocumentType::Hash;
        (!is_hash).then(|| ReadWeight::new(definition.documents, [path].into_iter(), (1, false)))
    }

    /// Whether a sort key that the index does not have takes a walk over a document.
    pub fn walks_for_keys(&self, sort_by: &SortBy) -> bool {
        let definition = &self.index.definition;
        let path = definition.identifier_of(&sort_by.field);
        self.indexed_order(sort_by).is_none() && definition.documents.path_cost(path) != PathCost::Lookup
    }

    /// The row's document, if its sort key must be read without the lock.
    pub fn held_for_key(
        &self,
        view: &View<'_>,
        row: &Row<'_>,
        weight: &Option<ReadWeight>,
        budget: &mut HoldBudget,
    ) -> Option<Arc<dyn DocumentSource>> {
        let weight = weight.as_ref()?;
        match self.document(view, row.key)? {
            Document::Object(object) if !budget.takes(weight.of(object)) => object.held(),
            _ => None,
        }
    }

    fn keyed_by_index(
        &self,
        matches: &mut Matches,
        expired: &ExpiredDocuments,
        ids: &RoaringBitmap,
        order: &Order<'_>,
    ) -> Vec<(SortKey, u32)> {
        let is_late = || self.is_late();
        let mut keyed = Vec::with_capacity(ids.len() as usize);
        let mut left = ids.iter();
        let evaluation = Evaluation::new(&self.index.documents, &matches.ranges, &is_late);
        let key = |documents: &Documents, id: u32| match *order {
            Order::Distance(name) => {
                let distances = match expired.ranges_of(id) {
                    Some(distances) => distances.clone(),
                    None => matches.ranges.distances(documents, &self.query.filter, id),
                };
                let named = distances.into_iter().find(|(alias, _)| **alias == *name);
                named.map(|(_, distance)| SortKey::Number(distance))
            }
            Order::Number(field) => {
                let first = documents.numbers_of(id, field).first();
                first.map(|&number| SortKey::Number(number))
            }
        };
        let ended = evaluation.in_steps(|documents, work| {
            let some = left.by_ref().take(*work);
            keyed.extend(some.map(|id| (key(documents, id).unwrap_or_default(), id)));
            *work = 0;
            left.len() == 0
        });
        matches.timed_out |= ended.is_err();
        keyed
    }

    /// SORTBY, if the index does not have its sort keys and they must be read from the keyspace.
    pub fn stored_order(&self) -> Option<&SortBy> {
        let sort_by = self.request().sort_by.as_ref()?;
        self.indexed_order(sort_by).is_none().then_some(sort_by)
    }

    fn indexed_order<'q>(&self, sort_by: &'q SortBy) -> Option<Order<'q>> {
        if self.is_distance(&sort_by.field) {
            return Some(Order::Distance(&sort_by.field));
        }
        let field = self.index.definition.field(&sort_by.field)?;
        let definition = &self.index.definition.fields[field];
        (definition.kind == FieldKind::Numeric && !definition.no_index).then_some(Order::Number(field))
    }
}

/// The order of a page: by sort key, then by id.
pub fn order_of(a: (&SortKey, u32), b: (&SortKey, u32), descending: bool) -> Ordering {
    a.0.order(b.0, descending).then(a.1.cmp(&b.1))
}
