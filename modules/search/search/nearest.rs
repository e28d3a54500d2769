//! The nearest neighbours of a query, kept true while documents change.
//!
//! The search itself takes no lock of the engine. What it finds are *candidates*: ids and distances of its
//! own, true at a version of the documents and known up to a distance, the *horizon*. From then on documents
//! that change are looked at alone: each is taken from the candidates and, where it matches and is within the
//! horizon, put in again with its distance as it is. So the candidates follow the documents without another
//! search, for as long as `k` of them are left. Only where fewer are left, and others beyond the horizon
//! could take their places, is there another search; it asks for twice as many.
//!
//! Invariants:
//! - of the documents at `version`, the candidates are all that match within the horizon (of a graph: all
//!   that its walk found);
//! - what is done under the keyspace's lock is bounded: at most `CHANGED_FEW` changed documents are looked at
//!   (but in the last of the rounds that search/mod.rs allows), and no neighbour is searched for. Candidates
//!   are put in order again where some of those have changed places: as many as the search asked for;
//! - a search ends however much changes: each further search asks for twice as many, until there are no more.

use super::filter::Late;
use super::matches::{CHANGED_FEW, Catching, Lack, LastChanges, Matches};
use super::plan::{Plan, Row};
use super::reply;
use super::rows::{Loaded, ROWS_FEW};
use super::stale::Stale;
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

/// One more candidate is asked for, for so many rows, where rows are many: then few that are gone need no
/// other search.
const SPARE_SHARE: usize = 64;

/// Places of the engine's expiry index that one look visits.
const DUE_PLACES: usize = 128;

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
    /// Documents that are left out of the next search: of what the filter reads, or of their vectors,
    /// something has expired.
    expired: RoaringBitmap,
    /// Those of them that the next search is not for, of which nothing is expired any more: more than a last
    /// look looks at.
    restored: RoaringBitmap,
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
            expired: RoaringBitmap::new(),
            restored: RoaringBitmap::new(),
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
                None if !nearest.expired.is_empty() => Some(documents.live() - &nearest.expired),
                _ => None,
            };
            (documents.version(), documents.id_bound(), without)
        };
        let rows = match &nearest.matches {
            None => self.nearest(knn, k, without.as_ref(), id_bound),
            Some(matches) if nearest.expired.is_empty() => {
                self.nearest(knn, k, Some(&matches.documents), id_bound)
            }
            Some(matches) => self.nearest(knn, k, Some(&(&matches.documents - &nearest.expired)), id_bound),
        };
        nearest.version = nearest.matches.as_ref().map_or(now, |matches| matches.version);
        let is_all = rows.neighbors.len() < k;
        nearest.horizon = rows.neighbors.last().filter(|_| !is_all).map(|last| last.distance);
        nearest.asked = k;
        nearest.neighbors = rows.neighbors;
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

    /// Lets the candidates follow the documents, until what has changed since is little, or no longer gets
    /// less.
    pub fn catch_up_nearest(&self, knn: &Knn, nearest: &mut Nearest) {
        let mut found = Vec::new();
        let restored = std::mem::take(&mut nearest.restored);
        self.in_slices(&restored, &mut |documents, some| {
            self.measure_changed(knn, nearest, documents, some, &mut found);
            nearest.replace(some, std::mem::take(&mut found));
        });
        self.catch_up_from(nearest.version, &mut |following| match following {
            Catching::Some(documents, some) => {
                self.measure_changed(knn, nearest, documents, some, &mut found);
            }
            Catching::Reached(version, changed) => {
                nearest.replace(changed, std::mem::take(&mut found));
                nearest.reach(version);
            }
        });
    }

    /// Looks at documents that have changed: what the candidates say of them is what they are now.
    fn follow(&self, knn: &Knn, nearest: &mut Nearest, documents: &Documents, changed: &RoaringBitmap) {
        let mut found = Vec::new();
        self.measure_changed(knn, nearest, documents, changed, &mut found);
        nearest.replace(changed, found);
    }

    /// Adds to `found` those of the changed documents that are to be candidates.
    fn measure_changed(
        &self,
        knn: &Knn,
        nearest: &mut Nearest,
        documents: &Documents,
        changed: &RoaringBitmap,
        found: &mut Vec<Neighbor>,
    ) {
        if let Some(matches) = &mut nearest.matches {
            self.look_again(matches, documents, changed);
        }
        nearest.expired -= changed;
        let vectors = self.vectors_of(knn);
        for id in changed {
            let is_meant = documents.key(id).is_some()
                && nearest.matches.as_ref().is_none_or(|matches| matches.documents.contains(id));
            let distance = if is_meant { vectors.distance(id, &knn.vector) } else { None };
            if let Some(distance) = distance.filter(|&distance| nearest.knows(distance)) {
                found.push(Neighbor { id, distance });
            }
        }
    }

    /// Searches again, for twice as many: of the candidates too few are left. Before that, those of whose
    /// vectors nothing is left are looked for, so that however many have expired, one search is enough.
    pub fn refill(&self, looks: &dyn Looks, knn: &Knn, nearest: &mut Nearest) {
        self.catch_up_nearest(knn, nearest);
        if nearest.matches.is_none() {
            self.note_expired(looks, knn, nearest);
        }
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

    /// Notes the documents whose keys or vectors have expired and are still stored: some places of the
    /// engine's expiry index in each look. What comes later is found out in the last look.
    fn note_expired(&self, looks: &dyn Looks, knn: &Knn, nearest: &mut Nearest) {
        let identifier = &self.index.definition.fields[knn.field].identifier;
        let mut place = Some(Default::default());
        while let Some(from) = place
            && !self.is_late()
        {
            looks.look(&mut |view| {
                let documents = self.index.documents.read();
                place = view.due_step(self.database, from, DUE_PLACES, &mut |key| {
                    let Some(id) = documents.id(key) else { return };
                    let document = self.document(view, key);
                    if !document.is_some_and(|document| document.has(identifier)) {
                        nearest.expired.insert(id);
                    }
                });
            });
        }
    }

    /// The rows of the answer, in order: the candidates as they are at this moment, under the keyspace's
    /// lock. Says what is lacking where that cannot be known here.
    pub fn nearest_rows<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        nearest: &mut Nearest,
        loaded: &Loaded,
        late: &mut bool,
    ) -> Result<Vec<Row<'r>>, Lack> {
        let knn = self.query.knn.as_ref().expect("found by it");
        *late |= nearest.timed_out;
        match self.last_changes(documents, nearest.version)? {
            LastChanges::None => {}
            LastChanges::Few(changed) => {
                self.follow(knn, nearest, documents, &changed);
                nearest.reach(documents.version());
            }
            LastChanges::TooLate if self.fails_on_timeout => {
                *late = true;
                return Ok(Vec::new());
            }
            LastChanges::TooLate => {
                *late = true;
                let version = nearest.version;
                nearest.neighbors.retain(|neighbor| documents.version_of(neighbor.id) <= version);
            }
        }
        let may_have_expired = view.may_have_due(self.database);
        // Without a filter, looking at each row is enough.
        let is_walked =
            may_have_expired && (nearest.matches.is_some() || self.may_have_unindexed() || knn.k > ROWS_FEW);
        let stale = if is_walked { self.stale(view, documents, late) } else { Stale::default() };
        let asks = may_have_expired && !is_walked;
        // Where time is not walked, what was left out lacks its vector until it changes.
        if is_walked || !may_have_expired {
            self.take_back(knn, nearest, documents, &stale.documents, late)?;
        }
        let mut rows = self.rows_of(view, documents, knn, nearest, &stale, asks);
        let is_all = nearest.horizon.is_none() || knn.k == 0;
        if rows.len() < knn.k && !is_all && !*late {
            nearest.expired |= stale.documents;
            return Err(Lack::Rows);
        }
        rows.sort_unstable_by(Row::order);
        rows.truncate(knn.k);
        reply::put_in_order(self, view, documents, loaded, &mut rows);
        Ok(rows)
    }

    /// Looks at documents that the search left out as stale and that are no more: what had expired is
    /// removed, or has its time no longer. Where the filter and the vector do not read it, that is no change
    /// of the document, and its version stays.
    fn take_back(
        &self,
        knn: &Knn,
        nearest: &mut Nearest,
        documents: &Documents,
        stale: &RoaringBitmap,
        late: &mut bool,
    ) -> Result<(), Lack> {
        let restored = &nearest.expired - stale;
        if restored.len() > CHANGED_FEW && !self.accepts_changes {
            if self.was_late {
                *late = true;
                return Ok(());
            }
            nearest.restored = restored;
            return Err(Lack::Changes);
        }
        if !restored.is_empty() {
            self.follow(knn, nearest, documents, &restored);
        }
        Ok(())
    }

    /// The candidates as rows, and what is true of the stale; in any order.
    fn rows_of<'r>(
        &'r self,
        view: &View<'r>,
        documents: &'r Documents,
        knn: &'r Knn,
        nearest: &Nearest,
        stale: &Stale<'r>,
        asks: bool,
    ) -> Vec<Row<'r>> {
        let neighbors = &nearest.neighbors;
        let first = &neighbors[..neighbors.len().min(knn.k)];
        documents.prefetch(first.iter().map(|neighbor| neighbor.id));
        if asks {
            view.prefetch(first.iter().filter_map(|neighbor| documents.key(neighbor.id)));
        }
        let mut rows = Vec::with_capacity(first.len() + stale.rows.len());
        let of_stale = stale.rows.iter().filter_map(|row| self.look(row.clone(), view, knn));
        rows.extend(of_stale.filter(|row| nearest.knows(row.distance())));
        let (mut left, mut farthest) = (knn.k, f64::INFINITY);
        for &Neighbor { id, distance } in neighbors.iter().filter(|row| !stale.documents.contains(row.id)) {
            // Of those that are as far as the last of `k`, keys decide.
            if left == 0 && distance > farthest {
                break;
            }
            let key = documents.key(id).expect("candidates are documents");
            let mut row = Row::new(key, id, Some((&knn.alias, distance)));
            if let Some(matches) = &nearest.matches {
                row.add(&matches.ranges, documents, &self.query.filter, id);
            }
            let row = if asks { self.look(row, view, knn) } else { Some(row) };
            if row.is_some() && left > 0 {
                (left, farthest) = (left - 1, distance);
            }
            rows.extend(row);
        }
        rows
    }

    /// The row, if its document has a vector in the keyspace; the distance is found out where it is not
    /// known.
    fn look<'r>(&self, mut row: Row<'r>, view: &View<'r>, knn: &'r Knn) -> Option<Row<'r>> {
        let document = row.document.or_else(|| self.document(view, row.key))?;
        if !document.has(&self.index.definition.fields[knn.field].identifier) {
            return None;
        }
        if row.nearest.is_none() {
            row.nearest = Some((&knn.alias, self.index.distance(&document, knn.field, &knn.vector)?));
        }
        row.document = Some(document);
        Some(row)
    }
}

impl Nearest {
    /// Whether all documents as near as this are candidates.
    fn knows(&self, distance: f64) -> bool {
        self.horizon.is_none_or(|horizon| distance <= horizon)
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
