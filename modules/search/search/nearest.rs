//! The nearest neighbours of a query, kept true while documents change.
//!
//! The search itself takes no lock of the engine. What it finds are *candidates*: ids and distances of its
//! own, true at a version of the documents and known up to a distance, the *horizon*. From then on documents
//! that change or expire are looked at alone (follow.rs): each is taken from the candidates and, where it
//! matches and is within the horizon, put in again with its distance as it is. So the candidates follow the
//! documents without another search, for as long as `k` of them are left. Only where fewer are left, and
//! others beyond the horizon could take their places, is there another search; it asks for twice as many.
//!
//! Invariants:
//! - of the documents at `version`, the candidates are all that match within the horizon (of a graph: all
//!   that its walk found);
//! - what is done under the keyspace's lock is bounded: at most `CHANGED_FEW` documents are looked at (but in
//!   the last of the rounds that search/mod.rs allows), no neighbour is searched for, and of more than
//!   `ROWS_FEW` candidates the order is found before (ranking.rs);
//! - a search ends however much changes: each further search asks for twice as many, until there are no more.

use super::expired::{self, DocumentReader, ExpiredDocuments};
use super::filter::Late;
use super::follow::{Follows, LastChanges};
use super::matches::{Lack, Matches};
use super::plan::{Plan, Row};
use super::ranking::Ranking;
use super::reply;
use super::rows::ROWS_FEW;
use crate::audit::{AuditorHandle, Sample};
use crate::documents::Documents;
use crate::documents::ids::IdSet;
use crate::query::Knn;
use crate::vectors::live::SAMPLE_ROWS_MAX;
use crate::vectors::{Cost, Effort, Question, Rows, VectorField};
use engramdb_engine::command::Looks;
use engramdb_engine::store::view::View;
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

/// One more candidate is asked for, for so many rows, where rows are many: then few that are gone need no
/// other search.
const SPARE_SHARE: usize = 64;

/// The candidates of a KNN.
pub struct Nearest {
    /// The version of the documents that the candidates are true of.
    version: u64,
    /// The candidates, nearest first, equals by id.
    pub neighbors: Vec<Neighbor>,
    /// How many the last search asked for.
    asked: usize,
    /// The distance up to which all that match are candidates; `None` where all are, whatever their distance.
    horizon: Option<f64>,
    /// The time ran out: others may be nearer.
    timed_out: bool,
    pub cost: Cost,
    /// What filter and INKEYS leave, if there are any.
    pub matches: Option<Matches>,
    /// Documents that are no candidates, though the vector index has them: they or their vectors have
    /// expired.
    without: RoaringBitmap,
    /// Candidates that the vector index does not have, with their distances: documents that could not be
    /// indexed, and can be since something of them has expired.
    unindexed: BTreeMap<u32, f64>,
    /// Documents that a last look has looked at in vain.
    again: RoaringBitmap,
    /// The order of the candidates, where they are many.
    pub ranking: Option<Box<Ranking>>,
}

/// Candidates that follow the documents.
struct FollowingNearest<'f> {
    plan: &'f Plan,
    knn: &'f Knn,
    nearest: &'f mut Nearest,
    /// Documents that were looked at and are to be candidates.
    found: Vec<Neighbor>,
}

impl Follows for FollowingNearest<'_> {
    fn version(&self) -> u64 {
        self.nearest.version
    }

    fn look_at(
        &mut self,
        reader: &mut DocumentReader<'_, '_>,
        expired: &mut ExpiredDocuments,
        ids: &RoaringBitmap,
    ) {
        self.plan.measure_changed(self.knn, self.nearest, reader, expired, ids, &mut self.found);
    }

    fn reach(&mut self, version: u64, changed: &RoaringBitmap, _expired: &ExpiredDocuments) {
        self.nearest.replace(changed, std::mem::take(&mut self.found));
        self.nearest.reach(version);
    }

    fn leave_out(&mut self, version: u64, changed: &RoaringBitmap) {
        self.nearest.replace(changed, Vec::new());
        self.nearest.reach(version);
        self.nearest.timed_out = true;
        if let Some(matches) = &mut self.nearest.matches {
            matches.documents -= changed;
        }
    }
}

impl Plan {
    /// The nearest of the documents that filter and INKEYS leave.
    pub fn find_nearest(&self, knn: &Knn) -> Result<Nearest, Late> {
        let matches = if self.is_filtered() { Some(self.find_matches()?) } else { None };
        let mut nearest = Nearest {
            version: 0,
            neighbors: Vec::new(),
            asked: 0,
            horizon: None,
            timed_out: matches.as_ref().is_some_and(|matches| matches.timed_out),
            cost: Cost::default(),
            matches,
            without: RoaringBitmap::new(),
            unindexed: BTreeMap::new(),
            again: RoaringBitmap::new(),
            ranking: None,
        };
        let spare = if knn.k > ROWS_FEW { knn.k / SPARE_SHARE } else { 0 };
        self.ask(knn, &mut nearest, knn.k.saturating_add(spare));
        if let Some(auditor) = &self.auditor {
            self.sample(auditor, knn, &nearest);
        }
        Ok(nearest)
    }

    /// Replaces the candidates by the `k` nearest as they are now.
    fn ask(&self, knn: &Knn, nearest: &mut Nearest, k: usize) {
        let (now, id_bound, without) = {
            let documents = self.index.documents.read();
            let without = match &nearest.matches {
                None if !nearest.without.is_empty() => Some(documents.live() - &nearest.without),
                _ => None,
            };
            (documents.version(), documents.id_bound(), without)
        };
        let rows = match &nearest.matches {
            None => self.nearest(knn, k, without.as_ref(), id_bound),
            Some(matches) if nearest.without.is_empty() => {
                self.nearest(knn, k, Some(&matches.documents), id_bound)
            }
            Some(matches) => self.nearest(knn, k, Some(&(&matches.documents - &nearest.without)), id_bound),
        };
        nearest.version = nearest.matches.as_ref().map_or(now, |matches| matches.version);
        let is_all = rows.neighbors.len() < k;
        nearest.horizon = rows.neighbors.last().filter(|_| !is_all).map(|last| last.distance);
        nearest.asked = k;
        nearest.neighbors = rows.neighbors;
        if !nearest.unindexed.is_empty() {
            let unindexed = nearest.unindexed.iter().map(|(&id, &distance)| Neighbor { id, distance });
            let unindexed = unindexed.filter(|row| nearest.knows(row.distance)).collect();
            nearest.replace(&RoaringBitmap::new(), unindexed);
        }
        nearest.timed_out |= rows.timed_out;
        nearest.cost = rows.cost;
    }

    fn nearest(&self, knn: &Knn, k: usize, among: Option<&RoaringBitmap>, id_bound: u32) -> Rows {
        let filter = among.map(IdSet::new);
        let is_late = || self.is_late();
        let question = Question { query: &knn.vector, filter: filter.as_ref(), id_bound, is_late: &is_late };
        self.vectors_of(knn).nearest(&question, k, Effort { ef: self.ef(knn), recall: knn.recall })
    }

    fn vectors_of(&self, knn: &Knn) -> &VectorField {
        self.index.vectors[knn.field].as_ref().expect("the parser checked the field's type")
    }

    /// Hands the candidates over to be audited, where there are any that say how good the graph is.
    fn sample(&self, auditor: &AuditorHandle, knn: &Knn, nearest: &Nearest) {
        let is_whole = !nearest.timed_out && !nearest.cost.exact && !nearest.neighbors.is_empty();
        if !is_whole || knn.k > SAMPLE_ROWS_MAX {
            return self.vectors_of(knn).live.pass_on();
        }
        auditor.offer(Sample {
            index: self.index.clone(),
            field: knn.field,
            version: nearest.version,
            query: knn.vector[..].into(),
            k: knn.k,
            ef: self.ef(knn),
            among: nearest.matches.as_ref().map(|matches| matches.documents.clone()),
            rows: nearest.neighbors.clone(),
            too_coarse: nearest.cost.too_coarse,
        });
    }

    /// Has the candidates follow the documents. Where the time runs out, `leaves_out` has what has changed
    /// left out.
    pub fn follow_nearest(
        &self,
        looks: &dyn Looks,
        knn: &Knn,
        nearest: &mut Nearest,
        expired: &mut ExpiredDocuments,
        leaves_out: bool,
    ) {
        expired.again |= std::mem::take(&mut nearest.again);
        let mut found = FollowingNearest { plan: self, knn, nearest, found: Vec::new() };
        self.catch_up(looks, expired, &mut found);
        if leaves_out && self.is_late() {
            self.leave_out(expired, &mut found);
        }
    }

    /// Adds to `found` those of the changed documents that are to be candidates.
    fn measure_changed(
        &self,
        knn: &Knn,
        nearest: &mut Nearest,
        reader: &mut DocumentReader<'_, '_>,
        expired: &mut ExpiredDocuments,
        changed: &RoaringBitmap,
        found: &mut Vec<Neighbor>,
    ) {
        let vectors = self.vectors_of(knn);
        for id in changed {
            let looked = reader.look(nearest.matches.as_mut(), expired, id);
            let distance = match looked.document {
                _ if !looked.is_match => None,
                Some(document) => self.index.distance(&document, knn.field, &knn.vector),
                None => vectors.distance(id, &knn.vector),
            };
            nearest.note(id, expired.is_unindexed(id), looked.is_stale, distance);
            if let Some(distance) = distance.filter(|&distance| nearest.knows(distance)) {
                found.push(Neighbor { id, distance });
            }
        }
    }

    /// Searches again, for twice as many: of the candidates too few are left. What has expired is looked for
    /// before that, so that however many have expired, one search is enough.
    pub fn refill(
        &self,
        looks: &dyn Looks,
        knn: &Knn,
        nearest: &mut Nearest,
        expired: &mut ExpiredDocuments,
    ) {
        if !expired.has_walk() {
            looks.look(&mut |view| expired.begin_walk(view));
        }
        self.follow_nearest(looks, knn, nearest, expired, false);
        if self.is_late() {
            nearest.timed_out = true;
            return;
        }
        let id_bound = self.index.documents.read().id_bound() as usize;
        // One more than there can be shows that there are no others.
        let more = nearest.asked.saturating_mul(2).min(id_bound + 1);
        assert!(more > nearest.asked, "{more} of {id_bound} where {} were not all", nearest.asked);
        self.ask(knn, nearest, more);
    }

    /// How many rows the answer has, and those of the page: the candidates as they are at this moment, under
    /// the keyspace's lock. Says what is lacking where that cannot be known here.
    pub fn nearest_rows<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        nearest: &mut Nearest,
        expired: &'r mut ExpiredDocuments,
        late: &mut bool,
    ) -> Result<(usize, Vec<Row<'r>>), Lack> {
        let knn = self.query.knn.as_ref().expect("found by it");
        *late |= nearest.timed_out;
        let may_have_expired = view.may_have_due(self.database);
        // Without a filter, looking at each row is enough where rows are few.
        let minds_time = expired.has_walk()
            || !expired.stale.is_empty()
            || may_have_expired
                && (nearest.matches.is_some() || self.may_have_unindexed() || nearest.ranking.is_some());
        let mut found = Vec::new();
        let changes = self.last_changes((view, documents), nearest.version, expired, minds_time)?;
        let changed = match &changes {
            LastChanges::Few { ids, asks } => {
                let mut reader = DocumentReader::new(self, documents, asks.then_some(view));
                reader.prefetch(expired, ids);
                self.measure_changed(knn, nearest, &mut reader, expired, ids, &mut found);
                ids
            }
            LastChanges::TooLate => {
                *late = true;
                &RoaringBitmap::new()
            }
        };
        let is_all = nearest.horizon.is_none() || knn.k == 0 || *late;
        let rows = if nearest.ranking.is_some() {
            self.ranked_rows((view, documents), nearest, &*expired, changed, found, is_all)
        } else {
            nearest.replace(changed, found);
            if let LastChanges::Few { .. } = changes {
                nearest.reach(documents.version());
            }
            let asks = may_have_expired && !minds_time;
            self.few_rows((view, documents), nearest, &*expired, asks, is_all)
        };
        let Some((total, mut rows)) = rows else {
            nearest.again |= changed;
            return Err(Lack::Rows);
        };
        if let LastChanges::TooLate = changes {
            let shown = rows.len();
            expired::leave_out_changed(view, documents, nearest.version, &mut rows);
            return Ok((total - (shown - rows.len()), rows));
        }
        Ok((total, rows))
    }

    /// The same of candidates that are few; `None` where too few are left, and they are not all.
    fn few_rows<'r>(
        &'r self,
        (view, documents): (&View<'r>, &'r Documents),
        nearest: &Nearest,
        expired: &'r ExpiredDocuments,
        asks: bool,
        is_all: bool,
    ) -> Option<(usize, Vec<Row<'r>>)> {
        let knn = self.query.knn.as_ref().expect("found by it");
        let mut rows = self.rows_of(view, documents, knn, nearest, expired, asks);
        if rows.len() < knn.k && !is_all {
            return None;
        }
        rows.sort_unstable_by(Row::order);
        rows.truncate(knn.k);
        reply::put_in_order(self, view, documents, &mut rows);
        let (total, request) = (rows.len(), self.request());
        let end = (request.offset + request.limit).min(total);
        rows.truncate(end);
        rows.drain(..request.offset.min(end));
        Some((total, rows))
    }

    /// The candidates as rows, in any order.
    fn rows_of<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        knn: &'r Knn,
        nearest: &Nearest,
        expired: &'r ExpiredDocuments,
        asks: bool,
    ) -> Vec<Row<'r>> {
        let neighbors = &nearest.neighbors;
        let first = &neighbors[..neighbors.len().min(knn.k)];
        documents.prefetch(first.iter().map(|neighbor| neighbor.id));
        if asks {
            view.prefetch(first.iter().filter_map(|neighbor| documents.key(neighbor.id)));
        }
        let mut rows = Vec::with_capacity(first.len());
        let (mut left, mut farthest) = (knn.k, f64::INFINITY);
        for &Neighbor { id, distance } in neighbors {
            // Of those that are as far as the last of `k`, keys decide.
            if left == 0 && distance > farthest {
                break;
            }
            // Where the time has run out, candidates can be gone.
            let row = self.row(documents, expired, nearest.matches.as_ref(), id);
            let row = row.map(|row| Row { nearest: Some((&knn.alias, distance)), ..row });
            let row = if asks { row.and_then(|row| self.look(row, view, knn)) } else { row };
            if row.is_some() && left > 0 {
                (left, farthest) = (left - 1, distance);
            }
            rows.extend(row);
        }
        rows
    }

    /// The row, if its document has a vector in the keyspace.
    fn look<'r>(&self, mut row: Row<'r>, view: &View<'r>, knn: &Knn) -> Option<Row<'r>> {
        let document = self.document(view, row.key)?;
        if !document.has(&self.index.definition.fields[knn.field].identifier) {
            return None;
        }
        row.document = Some(document);
        Some(row)
    }
}

impl Nearest {
    /// Whether all documents as near as this are candidates.
    pub fn knows(&self, distance: f64) -> bool {
        self.horizon.is_none_or(|horizon| distance <= horizon)
    }

    /// Takes note of what a document is to the next search.
    fn note(&mut self, id: u32, is_unindexed: bool, is_stale: bool, distance: Option<f64>) {
        if is_stale && distance.is_none() {
            self.without.insert(id);
        } else {
            self.without.remove(id);
        }
        match distance.filter(|_| is_unindexed) {
            Some(distance) => _ = self.unindexed.insert(id, distance),
            None => _ = self.unindexed.remove(&id),
        }
    }

    /// Puts what was found of changed documents in their places.
    fn replace(&mut self, changed: &RoaringBitmap, found: Vec<Neighbor>) {
        self.neighbors.retain(|neighbor| !changed.contains(neighbor.id));
        if !found.is_empty() {
            self.neighbors.extend(found);
            self.neighbors.sort_unstable();
        }
    }

    /// The candidates are true of this version from now on.
    fn reach(&mut self, version: u64) {
        assert!(version >= self.version, "documents go forward");
        self.version = version;
        if let Some(matches) = &mut self.matches {
            matches.version = version;
        }
    }
}
