//! The nearest neighbours of a query, kept up to date while documents change.
//!
//! The search itself takes no lock of the engine. It finds *candidates*: ids and distances, which are right
//! at a version of the documents and complete up to a distance, the *horizon*. Documents that change or
//! expire afterwards are read one by one (follow.rs): each is removed from the candidates and, if it matches
//! and is within the horizon, added again with its new distance. So no other search is needed while `k`
//! candidates are left. If fewer are left, and there may be others beyond the horizon, another search asks
//! for twice as many.
//!
//! Invariants:
//! - of the documents at `version`, the candidates are all that match within the horizon (of a graph: all
//!   that its walk found);
//! - the work under the keyspace's lock is bounded: at most `CHANGED_FEW` documents are read (except in the
//!   last of the rounds that search/mod.rs allows), no neighbours are searched, and more than `ROWS_FEW`
//!   candidates are sorted before (ranking.rs);
//! - each search ends, however much changes: a further search asks for twice as many, until there are no
//!   more.

use super::expired::{self, DocumentReader, ExpiredDocuments};
use super::filter::Late;
use super::follow::{Follows, LastChanges};
use super::matches::{Lack, Matches};
use super::near_scores::NearScores;
use super::plan::{Plan, Row, most_of};
use super::ranking::Ranking;
use super::reply;
use super::rows::ROWS_FEW;
use super::walk::TextWalk;
use crate::audit::{AuditorHandle, Sample};
use crate::documents::Documents;
use crate::query::{Knn, Policy};
use crate::vectors::facts::{FilterWidth, SearchMode};
use crate::vectors::live::SAMPLE_ROWS_MAX;
use crate::vectors::{Cost, Rows, VectorField};
use engramdb_engine::command::Looks;
use engramdb_engine::store::view::View;
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;

/// If the query asks for many rows, the first search asks for one candidate more per this many rows. So no
/// other search is needed after a few candidates are lost.
const SPARE_SHARE: usize = 64;

/// The candidates of a KNN.
pub struct Nearest {
    /// The version of the documents at which the candidates are right.
    version: u64,
    /// The candidates by distance, then by id.
    pub neighbors: Vec<Neighbor>,
    /// The number of candidates that the last search asked for.
    asked: usize,
    /// The distance up to which all matching documents are candidates; `None` if all are, at any distance.
    horizon: Option<f64>,
    /// The time limit passed: other documents may be nearer.
    pub timed_out: bool,
    pub cost: Cost,
    /// The documents that match the filter and INKEYS, if the query has either.
    pub matches: Option<Matches>,
    /// Documents that are in the vector index and are no candidates, because they or their vectors have
    /// expired.
    without: RoaringBitmap,
    /// Candidates that are not in the vector index, with their distances: documents that could not be
    /// indexed, and are valid now because the invalid part has expired.
    unindexed: BTreeMap<u32, f64>,
    /// Documents that a last look without an answer has read. They must be read again.
    again: RoaringBitmap,
    /// The order of the candidates, if they are many.
    pub ranking: Option<Box<Ranking>>,
    /// The candidates' scores, if rows show them.
    pub scores: Option<Box<NearScores>>,
}

/// Candidates that are updated to changed documents.
struct FollowingNearest<'f> {
    plan: &'f Plan,
    knn: &'f Knn,
    nearest: &'f mut Nearest,
    /// Documents that were read and become candidates.
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
    /// The nearest of the documents that match the filter and INKEYS.
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
            scores: None,
        };
        let spare = if knn.k > ROWS_FEW { knn.k / SPARE_SHARE } else { 0 };
        self.ask(knn, &mut nearest, knn.k.saturating_add(spare), self.auditor.as_ref());
        Ok(nearest)
    }

    /// Searches again, and replaces the candidates by the `k` nearest. The auditor gets a sample.
    fn ask(&self, knn: &Knn, nearest: &mut Nearest, k: usize, auditor: Option<&AuditorHandle>) {
        let (now, id_bound, has_rows, without) = {
            let documents = self.index.documents.read();
            let without = match &nearest.matches {
                None if !nearest.without.is_empty() => Some(documents.live() - &nearest.without),
                _ => None,
            };
            (documents.version(), documents.id_bound(), documents.has_rows(), without)
        };
        let left;
        let among = match &nearest.matches {
            None => without.as_ref(),
            Some(matches) if nearest.without.is_empty() => Some(&matches.documents),
            Some(matches) => {
                left = &matches.documents - &nearest.without;
                Some(&left)
            }
        };
        nearest.version = nearest.matches.as_ref().map_or(now, |matches| matches.version);
        let rows = if has_rows {
            let (reached, (first, asked)) =
                self.nearest_of_several(knn, k, among, (nearest.version, id_bound));
            auditor.inspect(|auditor| self.sample(auditor, knn, nearest, &first, asked));
            nearest.horizon = reached.horizon;
            reached.rows
        } else {
            let rows = self.nearest_vectors(knn, k, among, id_bound);
            auditor.inspect(|auditor| self.sample(auditor, knn, nearest, &rows, knn.k));
            let is_all = rows.neighbors.len() < k;
            nearest.horizon = rows.neighbors.last().filter(|_| !is_all).map(|last| last.distance);
            rows
        };
        nearest.asked = k;
        nearest.neighbors = rows.neighbors;
        if !nearest.unindexed.is_empty() {
            let unindexed = nearest.unindexed.iter().map(|(&id, &distance)| Neighbor { id, distance });
            let unindexed = unindexed.filter(|row| nearest.knows(row.distance)).collect();
            nearest.replace(&RoaringBitmap::new(), unindexed);
        }
        nearest.timed_out |= rows.timed_out;
        nearest.cost = rows.cost;
        self.note_mode(knn, nearest.matches.as_ref(), &rows.cost);
        self.score_nearest(nearest);
    }

    /// Notes how the field was searched. A filter that cannot match anything leaves it as it was.
    fn note_mode(&self, knn: &Knn, matches: Option<&Matches>, cost: &Cost) {
        let mode = match matches {
            None => SearchMode::Standard,
            Some(matches) => {
                let documents = self.index.documents.read();
                let left = matches.documents.len() as usize;
                let expected = most_of(&documents, &self.query.filter).min(self.in_keys_most());
                if expected == 0 {
                    return;
                }
                let width = FilterWidth { all: documents.len(), expected, left };
                SearchMode::of_filter(width, knn.k, cost, knn.policy == Some(Policy::Exact))
            }
        };
        self.vectors_of(knn).last_mode.note(mode);
    }

    /// The most documents that INKEYS names.
    fn in_keys_most(&self) -> usize {
        self.request().in_keys.as_ref().map_or(usize::MAX, |keys| keys.len())
    }

    pub fn vectors_of(&self, knn: &Knn) -> &VectorField {
        self.index.vectors[knn.field].as_ref().expect("the parser checked the field's type")
    }

    /// Gives the rows of the vector index, of which `k` were wanted, to the auditor, if they are a complete
    /// result of the graph.
    fn sample(&self, auditor: &AuditorHandle, knn: &Knn, nearest: &Nearest, rows: &Rows, k: usize) {
        let is_timed_out = nearest.timed_out || rows.timed_out;
        let is_whole = !is_timed_out && !rows.cost.exact && !rows.neighbors.is_empty();
        if !is_whole || k > SAMPLE_ROWS_MAX {
            return self.vectors_of(knn).live.pass_on();
        }
        auditor.offer(Sample {
            index: self.index.clone(),
            field: knn.field,
            version: nearest.version,
            query: knn.vector[..].into(),
            k,
            ef: self.ef(knn),
            among: nearest.matches.as_ref().map(|matches| matches.documents.clone()),
            rows: rows.neighbors.clone(),
            too_coarse: rows.cost.too_coarse,
        });
    }

    /// Updates the candidates to the documents that have changed. If the time limit passes, `leaves_out`
    /// decides whether changed documents are left out.
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
        self.score_nearest_again(nearest);
    }

    /// Reads the changed documents, and adds those that become candidates to `found`.
    fn measure_changed(
        &self,
        knn: &Knn,
        nearest: &mut Nearest,
        reader: &mut DocumentReader<'_, '_>,
        expired: &mut ExpiredDocuments,
        changed: &RoaringBitmap,
        found: &mut Vec<Neighbor>,
    ) {
        for id in changed {
            let looked = reader.look(nearest.matches.as_mut(), expired, id);
            let distance = match looked.document {
                _ if !looked.is_match => None,
                Some(document) => self.index.distance(&document, knn.field, &knn.vector),
                None => self.index.indexed_distance(reader.documents, knn.field, id, &knn.vector),
            };
            nearest.note(id, expired.is_unindexed(id), looked.is_stale, distance);
            if let Some(distance) = distance.filter(|&distance| nearest.knows(distance)) {
                found.push(Neighbor { id, distance });
            }
        }
    }

    /// Searches again for twice as many, because too few candidates are left. Expired documents are found
    /// first, so that one search is enough, however many there are.
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
        // A search for one more than there are ids finds fewer, which shows that there are no others.
        let more = nearest.asked.saturating_mul(2).min(id_bound + 1);
        assert!(more > nearest.asked, "{more} of {id_bound} where {} were not all", nearest.asked);
        self.ask(knn, nearest, more, None);
    }

    /// The number of rows of the answer, and the rows of the page: the candidates at this moment, under the
    /// keyspace's lock. Fails if a last look may not do the work that this needs.
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
        // A few rows without a filter are each checked in the keyspace instead.
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
        nearest.scores.iter_mut().for_each(|scores| scores.forget(changed));
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
        let Some((total, rows)) = rows else {
            nearest.again |= changed;
            return Err(Lack::Rows);
        };
        let mut walk = TextWalk::of_a_look();
        let scored = |row: Row<'r>| self.with_near_score(documents, nearest, (changed, &mut walk), row);
        let scored = rows.into_iter().filter_map(scored);
        let mut rows: Vec<Row<'r>> = scored.collect();
        if let LastChanges::TooLate = changes {
            let shown = rows.len();
            expired::leave_out_changed(view, documents, nearest.version, &mut rows);
            return Ok((total - (shown - rows.len()), rows));
        }
        Ok((total, rows))
    }

    /// Like `nearest_rows`, for few candidates. `None` if too few are left and there may be others.
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
            // All candidates with the distance of the last of `k` are needed: their keys decide.
            if left == 0 && distance > farthest {
                break;
            }
            // If the time limit has passed, the documents of candidates may be gone.
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

    /// The row with its document; `None` if the document no longer has a vector in the keyspace.
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
    /// Whether all documents up to this distance are candidates.
    pub fn knows(&self, distance: f64) -> bool {
        self.horizon.is_none_or(|horizon| distance <= horizon)
    }

    /// Records how the next search must treat a document.
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

    /// Removes the changed documents from the candidates, and adds those in `found`.
    fn replace(&mut self, changed: &RoaringBitmap, found: Vec<Neighbor>) {
        self.neighbors.retain(|neighbor| !changed.contains(neighbor.id));
        self.scores.iter_mut().for_each(|scores| scores.forget(changed));
        if !found.is_empty() {
            self.neighbors.extend(found);
            self.neighbors.sort_unstable();
        }
    }

    /// Sets the version at which the candidates are right.
    fn reach(&mut self, version: u64) {
        assert!(version >= self.version, "documents go forward");
        self.version = version;
        if let Some(matches) = &mut self.matches {
            matches.version = version;
        }
    }
}
