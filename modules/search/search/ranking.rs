//! The order of a KNN's candidates, if they are many. It is computed without the keyspace's lock.
//!
//! The answer has the `k` nearest; keys decide between equal distances. SORTBY sorts these `k` by other keys,
//! and keeps the order of equal ones. Both orders are computed before the last look. In the last look few
//! candidates have changed: these are moved to their new positions (edited.rs), and rows are made for the
//! page only. The same positions show which candidates have entered the nearest `k`, and which have left
//! them; both are at most as many as have changed.

use super::edited::{Edited, EditedElement};
use super::expired::ExpiredDocuments;
use super::follow::CHANGED_FEW;
use super::matches::KEYED;
use super::nearest::Nearest;
use super::plan::{Plan, Row, SortKey};
use super::probe;
use super::reply;
use super::rows::ROWS_FEW;
use crate::documents::Documents;
use crate::query::Knn;
use crate::query::request::SortBy;
use crate::weight::HoldBudget;
use engramdb_engine::command::Looks;
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::View;
use engramdb_engine::types::ShortBytes;
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;
use std::cmp::Ordering;

/// Candidates whose keys are read under one lock of the documents.
const NAMED: usize = 1024;

/// Sorted candidates.
pub struct Ranking {
    /// The candidates by distance, then by key.
    near: Vec<Candidate>,
    /// The ids and their positions in `near`, sorted by id.
    places: Vec<(u32, u32)>,
    /// The first `k` in the order of SORTBY, if there is one.
    sorted: Option<SortedNearest>,
}

struct Candidate {
    distance: f64,
    key: ShortBytes,
    id: u32,
}

struct SortedNearest {
    /// The sort keys by position in `near`: of the first `k`, and of some more that can become one of these.
    keys: Vec<SortKey>,
    /// Positions in `near`, in the order of SORTBY.
    order: Vec<u32>,
    /// The position in `order` of each position in `near`.
    positions: Vec<u32>,
}

/// Decides between rows with equal sort keys: the nearer one is first. A position in `near`; whether the row
/// is at it (true) or was added before it; and the row's number among the added ones.
type Nearness = (usize, bool, usize);

/// The nearest candidates at the last look.
struct Current<'r> {
    near: Edited,
    /// The candidates that were added, sorted.
    new: Vec<Row<'r>>,
    /// For each of these, the position in the old order before which it is.
    before: Vec<usize>,
    /// The number of rows of the answer.
    total: usize,
}

impl Ranking {
    /// The ids of a page if nothing changes.
    pub fn page(&self, k: usize, offset: usize, limit: usize) -> Vec<u32> {
        let id = |place: usize| self.near[place].id;
        let length = self.near.len().min(k);
        let places = offset.min(length)..(offset + limit).min(length);
        match &self.sorted {
            Some(sorted) => sorted.order[places].iter().map(|&place| id(place as usize)).collect(),
            None => places.map(id).collect(),
        }
    }

    fn place(&self, id: u32) -> Option<usize> {
        let found = self.places.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.places[found].1 as usize)
    }
}

impl Plan {
    /// Sorts the candidates of a KNN if they are many.
    pub fn rank(&self, looks: &dyn Looks, nearest: &mut Nearest, expired: &ExpiredDocuments) {
        let knn = self.query.knn.as_ref().expect("found by it");
        nearest.ranking = None;
        // Sort keys that take a walk over each document are not read in the last look.
        let walks = self.request().sort_by.as_ref().is_some_and(|sort_by| self.walks_for_keys(sort_by));
        if nearest.neighbors.len() <= ROWS_FEW && !walks {
            return;
        }
        let mut near = Vec::with_capacity(nearest.neighbors.len());
        for some in nearest.neighbors.chunks(NAMED) {
            let documents = &*self.index.documents.read();
            documents.prefetch(some.iter().map(|neighbor| neighbor.id));
            // A document that is gone has changed, and is read again by the last look.
            near.extend(some.iter().filter_map(|&Neighbor { id, distance }| {
                Some(Candidate { distance, key: ShortBytes::new(expired.key(documents, id)?), id })
            }));
        }
        near.sort_unstable_by(|a, b| {
            by_distance((a.distance, a.key.as_slice()), (b.distance, b.key.as_slice()))
        });
        let mut places: Vec<(u32, u32)> = (0..).zip(&near).map(|(place, row)| (row.id, place)).collect();
        places.sort_unstable();
        let sort_by = self.request().sort_by.as_ref();
        let sorted = sort_by.map(|sort_by| self.sort_nearest(looks, knn, nearest, expired, &near, sort_by));
        nearest.ranking = Some(Box::new(Ranking { near, places, sorted }));
    }

    fn sort_nearest(
        &self,
        looks: &dyn Looks,
        knn: &Knn,
        nearest: &Nearest,
        expired: &ExpiredDocuments,
        near: &[Candidate],
        sort_by: &SortBy,
    ) -> SortedNearest {
        let keyed = &near[..near.len().min(knn.k.saturating_add(CHANGED_FEW as usize))];
        let mut keys = Vec::with_capacity(keyed.len());
        let weight = self.key_weight(sort_by);
        for some in keyed.chunks(KEYED) {
            let (mut budget, mut held) = (HoldBudget::default(), Vec::new());
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                documents.prefetch(some.iter().map(|row| row.id));
                view.prefetch(some.iter().map(|row| row.key.as_slice()));
                for candidate in some {
                    let row = self.row(documents, expired, nearest.matches.as_ref(), candidate.id);
                    let distance = Some((&*knn.alias, candidate.distance));
                    let row = row.map(|row| Row { nearest: distance, ..row });
                    let object =
                        row.as_ref().and_then(|row| self.held_for_key(view, row, &weight, &mut budget));
                    let key = match (row, object) {
                        (Some(row), None) => reply::sort_key(self, view, documents, sort_by, &row),
                        (_, object) => {
                            held.extend(object.map(|object| (object, keys.len())));
                            SortKey::Absent
                        }
                    };
                    keys.push(key);
                }
            });
            for (object, place) in held.into_iter().take_while(|_| !self.is_late()) {
                keys[place] = reply::stored_key(self, sort_by, &Document::Object(&*object));
            }
        }
        let mut order: Vec<u32> = (0..near.len().min(knn.k) as u32).collect();
        order.sort_by(|&a, &b| keys[a as usize].order(&keys[b as usize], sort_by.descending));
        let mut positions = vec![0; order.len()];
        for (position, &place) in (0..).zip(&order) {
            positions[place as usize] = position;
        }
        SortedNearest { keys, order, positions }
    }

    /// The number of rows of the answer, and the rows of the page, from sorted candidates. `changed` are the
    /// documents that have changed since, and `found` those of them that are candidates now. `None` if too
    /// few are left and there may be others.
    pub fn ranked_rows<'r>(
        &'r self,
        (view, documents): (&View<'r>, &'r Documents),
        nearest: &Nearest,
        expired: &'r ExpiredDocuments,
        changed: &RoaringBitmap,
        found: Vec<Neighbor>,
        is_all: bool,
    ) -> Option<(usize, Vec<Row<'r>>)> {
        let knn = self.query.knn.as_ref().expect("found by it");
        let ranking = nearest.ranking.as_ref().expect("put in order before");
        let row = |id: u32, distance: f64| {
            let row = self.row(documents, expired, nearest.matches.as_ref(), id)?;
            Some(Row { nearest: Some((&*knn.alias, distance)), ..row })
        };
        let mut new: Vec<Row<'r>> = found.iter().filter_map(|found| row(found.id, found.distance)).collect();
        new.sort_unstable_by(Row::order);
        let before: Vec<usize> = new.iter().map(|row| ranking.place_of(row)).collect();
        let removed = changed.iter().filter_map(|id| ranking.place(id)).collect();
        let near = Edited::new(ranking.near.len(), removed, before.clone());
        let total = near.len().min(knn.k);
        if total < knn.k && !is_all {
            return None;
        }
        let (offset, limit) = (self.request().offset, self.request().limit);
        let limit = limit.min(total.saturating_sub(offset));
        let current = Current { near, new, before, total };
        let candidate = |place: usize| {
            let candidate = &ranking.near[place];
            row(candidate.id, candidate.distance)
        };
        let rows = match (&self.request().sort_by, &ranking.sorted) {
            (Some(sort_by), Some(sorted)) => {
                let key_of = |row: &Row<'r>| reply::sort_key(self, view, documents, sort_by, row);
                current.sorted_page(sorted, (offset, limit), sort_by.descending, &candidate, &key_of)
            }
            _ => {
                let page = current.near.range(offset, limit).into_iter();
                let rows = page.filter_map(|element| match element {
                    EditedElement::Kept(place) => candidate(place),
                    EditedElement::Added(number) => Some(current.new[number].clone()),
                });
                rows.collect()
            }
        };
        Some((total, rows))
    }
}

impl Ranking {
    /// The position in `near` before which a row is.
    fn place_of(&self, row: &Row<'_>) -> usize {
        let is_before = |candidate: &Candidate| {
            by_distance((candidate.distance, candidate.key.as_slice()), (row.distance(), row.key)).is_lt()
        };
        self.near.partition_point(is_before)
    }
}

impl<'r> Current<'r> {
    /// A page of the nearest in the order of SORTBY. Candidates that are no longer among the `k` nearest are
    /// removed from that order, and those that have entered them are added.
    fn sorted_page(
        &self,
        sorted: &SortedNearest,
        (offset, limit): (usize, usize),
        descending: bool,
        candidate: &dyn Fn(usize) -> Option<Row<'r>>,
        key_of: &dyn Fn(&Row<'r>) -> SortKey,
    ) -> Vec<Row<'r>> {
        let length = sorted.order.len();
        let (kept_end, new_end) = self.near.end_of(self.total);
        let gone = self.near.removed().iter().copied().filter(|&place| place < length);
        let gone = gone.chain(kept_end.min(length)..length);
        let removed = gone.map(|place| sorted.positions[place] as usize).collect();
        let come = (length..kept_end).filter(|&place| !self.near.is_removed(place)).filter_map(|place| {
            let row = candidate(place)?;
            let sort_key = sorted.keys.get(place).cloned().unwrap_or_else(|| key_of(&row));
            Some(((place, true, 0), Row { sort_key, ..row }))
        });
        let new = self.new[..new_end].iter().enumerate().map(|(number, row)| {
            let row = Row { sort_key: key_of(row), ..row.clone() };
            ((self.before[number], false, number), row)
        });
        let mut added: Vec<(Nearness, Row<'r>)> = come.chain(new).collect();
        let order = |a: (&SortKey, Nearness), b: (&SortKey, Nearness)| {
            a.0.order(b.0, descending).then_with(|| a.1.cmp(&b.1))
        };
        added.sort_unstable_by(|a, b| order((&a.1.sort_key, a.0), (&b.1.sort_key, b.0)));
        let before = added.iter().map(|(nearness, row)| {
            sorted.order.partition_point(|&place| {
                let of_place = (&sorted.keys[place as usize], (place as usize, true, 0));
                order(of_place, (&row.sort_key, *nearness)).is_lt()
            })
        });
        let edited = Edited::new(length, removed, before.collect());
        let page = edited.range(offset, limit).into_iter().filter_map(|element| match element {
            EditedElement::Kept(position) => {
                let place = sorted.order[position] as usize;
                Some(Row { sort_key: sorted.keys[place].clone(), ..candidate(place)? })
            }
            EditedElement::Added(number) => Some(added[number].1.clone()),
        });
        page.collect()
    }
}

fn by_distance(a: (f64, &[u8]), b: (f64, &[u8])) -> Ordering {
    probe::touch();
    a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1))
}
