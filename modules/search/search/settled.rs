//! The documents of a search at one moment, and their state afterwards: what an aggregation reads.
//!
//! FT.SEARCH makes its page under the lock of its last look. An aggregation reads more documents than may be
//! read under one lock. So a look *settles* which documents there are, and they are read in slices after it.
//! A document that changes between the two is read as it is then, if it still matches. Documents that begin
//! to match after the look are not part of the answer. So each row is a state that its document had during
//! the command, and no write that was acknowledged before the command is missing.

use super::expired::{DocumentReader, ExpiredDocuments};
use super::explained::Explained;
use super::follow::LastChanges;
use super::matches::{Lack, Matches};
use super::nearest::Nearest;
use super::plan::{Plan, Row, SCORE};
use super::rows::ROWS_FEW;
use super::walk::TextWalk;
use super::{Found, ROUNDS_MAX};
use crate::documents::Documents;
use engramdb_engine::command::Looks;
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::View;
use engramdb_vector::Neighbor;
use roaring::bitmap::IntoIter;
use std::sync::Arc;

/// The words of documents that scores walk over under one hold of the locks: some tenth of a millisecond.
const WALKED_AT_ONCE: usize = 1 << 14;

/// A document of the answer.
#[derive(Clone, Debug)]
pub struct SettledDocument {
    pub id: u32,
    /// The distance of the query's KNN.
    pub nearest: Option<f64>,
    /// The scores of a document of two searches.
    pub fused: Option<Arc<FusedScores>>,
}

/// The scores of a document that was found by words, by a vector, or both.
#[derive(Clone, Debug)]
pub struct FusedScores {
    pub key: Arc<[u8]>,
    pub score: f64,
    pub text: Option<f64>,
    pub vector: Option<f64>,
    /// How the score comes about, if the request asks for it.
    pub explanation: Option<Explained>,
}

/// A row of the first page of a search.
#[derive(Clone, Debug)]
pub struct PageRow {
    pub id: u32,
    pub key: Arc<[u8]>,
    pub score: f64,
    pub distance: f64,
    /// How the score comes about, if the request asks for it.
    pub explanation: Option<Box<Explained>>,
}

/// The documents of a search, in the order in which they are read.
pub struct Settled {
    pub plan: Plan,
    found: Found,
    expired: ExpiredDocuments,
    left: Left,
    /// Those that were taken and not read.
    returned: Vec<SettledDocument>,
    /// The version of the documents at which they were settled.
    version: u64,
    /// Something in the database was due to expire: documents must be looked up in the keyspace.
    pub may_have_expired: bool,
    /// Some documents are missing because the time limit passed.
    pub timed_out: bool,
}

enum Left {
    /// All, in the order of their ids.
    Matches(IntoIter),
    /// The nearest first.
    Nearest(std::vec::IntoIter<SettledDocument>),
}

/// Documents as they are under the current locks.
pub struct CurrentDocuments<'a, 'v> {
    settled: Source<'a>,
    pub documents: &'a Documents,
    pub view: Option<&'a View<'v>>,
    reader: DocumentReader<'a, 'v>,
    /// The words of documents that scores have walked over.
    walk: TextWalk,
}

struct Source<'a> {
    plan: &'a Plan,
    found: &'a mut Found,
    expired: &'a mut ExpiredDocuments,
    version: u64,
}

/// A document that is still part of the answer.
pub struct CurrentDocument<'a, 'v> {
    pub key: &'a [u8],
    pub id: u32,
    /// The document in the keyspace, if it was looked up already.
    pub document: Option<Document<'v>>,
    pub nearest: Option<f64>,
    /// The names and distances of vector ranges.
    pub ranges: Vec<(Arc<[u8]>, f64)>,
    /// By the words of the query, if the search was asked for scores.
    pub score: f64,
    pub fused: Option<Arc<FusedScores>>,
}

impl PageRow {
    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.key.len() + self.explanation.as_ref().map_or(0, |explanation| explanation.heap_bytes())
    }
}

impl SettledDocument {
    /// The size of the document's entry and of the scores that it shares, in bytes.
    fn bytes(&self) -> usize {
        let of_scores = |fused: &Arc<FusedScores>| {
            let explained = fused.explanation.as_ref().map_or(0, Explained::heap_bytes);
            // Two counters are before each shared value.
            size_of::<FusedScores>() + fused.key.len() + explained + 4 * size_of::<usize>()
        };
        size_of::<SettledDocument>() + self.fused.as_ref().map_or(0, of_scores)
    }
}

impl Plan {
    /// Finds the documents, and settles which there are. `read` is called under the lock of that look if they
    /// are few, so that the answer is that of one moment; it returns how many it has read.
    pub fn settle(
        mut self,
        looks: &dyn Looks,
        waits: bool,
        read: &mut dyn FnMut(&mut CurrentDocuments<'_, '_>, &[SettledDocument]) -> usize,
    ) -> Settled {
        self.reads_all = true;
        let (mut found, mut expired) = match self.is_searched(waits) {
            true => self.find_noted(looks),
            false => (Found::Incomplete, ExpiredDocuments::default()),
        };
        let mut rounds = 0;
        loop {
            if let Found::Nearest(nearest) = &mut found {
                self.rank(looks, nearest, &expired);
            }
            let mut result = Ok((Vec::new(), 0, false));
            let mut late = matches!(found, Found::Late);
            let mut read_now = 0;
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                result = self.settle_at((view, documents), &mut found, &mut expired, &mut late);
                if let Ok((few, version, _)) = &result
                    && !few.is_empty()
                    && few.len() <= ROWS_FEW
                {
                    let settled =
                        Source { plan: &self, found: &mut found, expired: &mut expired, version: *version };
                    let mut current = CurrentDocuments::new(settled, documents, Some(view));
                    read_now = read(&mut current, few);
                }
            });
            let lack = match result {
                Ok((mut few, version, may_have_expired)) => {
                    let left = match &found {
                        // What was too much for one hold of the lock is read later.
                        _ if few.len() <= ROWS_FEW && !few.is_empty() => {
                            Left::Nearest(few.split_off(read_now).into_iter())
                        }
                        Found::Matches(matches) => Left::Matches(matches.documents.clone().into_iter()),
                        _ => Left::Nearest(few.into_iter()),
                    };
                    return Settled {
                        plan: self,
                        found,
                        expired,
                        left,
                        returned: Vec::new(),
                        version,
                        may_have_expired,
                        timed_out: late,
                    };
                }
                Err(lack) => lack,
            };
            rounds += 1;
            self.go_on(looks, (&mut found, &mut expired), lack, rounds);
        }
    }

    /// The first page of the search at one moment, with whether the time limit passed; `None` if the index
    /// cannot be searched.
    pub fn first_page(mut self, looks: &dyn Looks, waits: bool) -> Option<(Plan, Vec<PageRow>, bool)> {
        if !self.is_searched(waits) {
            return None;
        }
        let (mut found, mut expired) = self.find_noted(looks);
        let mut rounds = 0;
        loop {
            if let Found::Nearest(nearest) = &mut found {
                self.rank(looks, nearest, &expired);
            }
            let mut late = matches!(found, Found::Late);
            let mut result = Ok(Vec::new());
            looks.look(&mut |view| {
                let documents = &*self.index.documents.read();
                let rows = match &mut found {
                    Found::Nearest(nearest) => {
                        self.nearest_rows(view, documents, nearest, &mut expired, &mut late)
                    }
                    Found::Matches(matches) => {
                        self.matching_rows(view, documents, matches, &mut expired, &mut late)
                    }
                    Found::Late | Found::Incomplete => Ok((0, Vec::new())),
                };
                let row = |row: &Row<'_>| PageRow {
                    id: row.id,
                    key: row.key.into(),
                    score: row.score,
                    distance: row.distances().next().map_or(0.0, |(_, distance)| distance),
                    explanation: row.explanation.clone(),
                };
                result = rows.map(|(_, rows)| rows.iter().map(row).collect());
            });
            match result {
                Ok(mut rows) => {
                    if let Found::Nearest(_) = found {
                        rows.sort_by(|a, b| a.distance.total_cmp(&b.distance).then(a.id.cmp(&b.id)));
                    }
                    let cost = match &found {
                        Found::Nearest(nearest) => Some(nearest.cost),
                        _ => None,
                    };
                    self.note(|profile, _| (profile.rows, profile.cost) = (rows.len(), cost));
                    return Some((self, rows, late));
                }
                Err(lack) => {
                    rounds += 1;
                    self.go_on(looks, (&mut found, &mut expired), lack, rounds);
                }
            }
        }
    }

    /// Finds documents, and notes in the profile when and what.
    fn find_noted(&mut self, looks: &dyn Looks) -> (Found, ExpiredDocuments) {
        self.note(|profile, now| profile.started = now);
        let mut expired = ExpiredDocuments::default();
        let found = self.find(looks, &mut expired).unwrap_or(Found::Late);
        self.note(|profile, now| profile.found = now);
        if self.profile.is_some() {
            self.measure(&found);
        }
        (found, expired)
    }

    /// The documents at this moment: of a KNN, all of them; of a filter, all if they are few. With the
    /// version of the documents, and whether something is due to expire.
    fn settle_at(
        &self,
        (view, documents): (&View<'_>, &Documents),
        found: &mut Found,
        expired: &mut ExpiredDocuments,
        late: &mut bool,
    ) -> Result<(Vec<SettledDocument>, u64, bool), Lack> {
        let may_have_expired = view.may_have_due(self.database);
        let rows = match found {
            Found::Nearest(nearest) => {
                let (_, rows) = self.nearest_rows(view, documents, nearest, expired, late)?;
                let row = |row: &Row<'_>| SettledDocument {
                    id: row.id,
                    nearest: Some(row.distance()),
                    fused: None,
                };
                rows.iter().map(row).collect()
            }
            Found::Matches(matches) => {
                self.settle_matches((view, documents), matches, expired, late)?;
                let is_few = matches.documents.len() as usize <= ROWS_FEW;
                let few = matches.documents.iter().filter(|_| is_few);
                few.map(|id| SettledDocument { id, nearest: None, fused: None }).collect()
            }
            Found::Late | Found::Incomplete => Vec::new(),
        };
        Ok((rows, documents.version(), may_have_expired))
    }

    fn settle_matches(
        &self,
        (view, documents): (&View<'_>, &Documents),
        matches: &mut Matches,
        expired: &mut ExpiredDocuments,
        late: &mut bool,
    ) -> Result<(), Lack> {
        *late |= matches.timed_out;
        match self.last_changes((view, documents), matches.version, expired, true)? {
            LastChanges::Few { ids, asks } => {
                let mut reader = DocumentReader::new(self, documents, asks.then_some(view));
                reader.prefetch(expired, &ids);
                for id in &ids {
                    reader.look(Some(matches), expired, id);
                }
                matches.version = documents.version();
            }
            LastChanges::TooLate => {
                *late = true;
                matches.documents -= documents.changed_since(matches.version);
            }
        }
        Ok(())
    }

    /// Does the work that a look lacked, without the lock.
    pub(super) fn go_on(
        &mut self,
        looks: &dyn Looks,
        (found, expired): (&mut Found, &mut ExpiredDocuments),
        lack: Lack,
        rounds: u32,
    ) {
        if lack == Lack::Expired {
            looks.look(&mut |view| expired.begin_walk(view));
        }
        let leaves_out = lack != Lack::Rows;
        match found {
            Found::Nearest(nearest) => self.go_on_nearest(looks, nearest, expired, lack),
            Found::Matches(matches) => {
                self.follow_matches(looks, matches, expired, leaves_out);
                if lack == Lack::Rows {
                    self.score_matches(matches);
                }
            }
            Found::Late | Found::Incomplete => unreachable!("nothing is lacking where nothing was found"),
        }
        self.accepts_changes = rounds >= ROUNDS_MAX;
        // The next look uses this, and does not read the clock.
        self.was_late = leaves_out && self.is_late();
    }

    fn go_on_nearest(
        &self,
        looks: &dyn Looks,
        nearest: &mut Nearest,
        expired: &mut ExpiredDocuments,
        lack: Lack,
    ) {
        let knn = self.query.knn.as_ref().expect("found by it");
        match lack {
            Lack::Rows => self.refill(looks, knn, nearest, expired),
            _ => self.follow_nearest(looks, knn, nearest, expired, true),
        }
    }
}

impl Settled {
    /// A list of documents that searches have found.
    pub fn of_fused(plan: Plan, list: Vec<SettledDocument>, timed_out: bool) -> Settled {
        Settled {
            plan,
            found: Found::Late,
            expired: ExpiredDocuments::default(),
            left: Left::Nearest(list.into_iter()),
            returned: Vec::new(),
            // All are looked at again when they are read.
            version: 0,
            may_have_expired: true,
            timed_out,
        }
    }

    /// At most `count` of the documents that are left.
    pub fn next(&mut self, count: usize) -> Vec<SettledDocument> {
        if !self.returned.is_empty() {
            return std::mem::take(&mut self.returned);
        }
        match &mut self.left {
            Left::Matches(ids) => {
                ids.take(count).map(|id| SettledDocument { id, nearest: None, fused: None }).collect()
            }
            Left::Nearest(rows) => rows.take(count).collect(),
        }
    }

    /// Gives documents back that were taken and not read. They are the next ones.
    pub fn put_back(&mut self, rest: &[SettledDocument]) {
        self.returned.splice(..0, rest.iter().cloned());
    }

    /// The documents under these locks.
    pub fn at<'a, 'v>(
        &'a mut self,
        documents: &'a Documents,
        view: Option<&'a View<'v>>,
    ) -> CurrentDocuments<'a, 'v> {
        let Settled { plan, found, expired, version, .. } = self;
        CurrentDocuments::new(Source { plan, found, expired, version: *version }, documents, view)
    }

    /// Whether the index was dropped, or is still being built although the search waited.
    pub fn has_nothing(&self) -> bool {
        matches!(self.found, Found::Incomplete)
    }

    /// How many documents are left.
    pub fn left(&self) -> usize {
        match &self.left {
            Left::Matches(ids) => ids.len(),
            Left::Nearest(rows) => rows.len(),
        }
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        let of_left = match &self.left {
            // The iterator has a copy of the set.
            Left::Matches(_) => 0,
            Left::Nearest(rows) => rows.as_slice().iter().map(SettledDocument::bytes).sum(),
        };
        let of_matches =
            |matches: &Matches| 2 * matches.documents.serialized_size() + matches.ranges.heap_bytes();
        let of_found = match &self.found {
            Found::Matches(matches) => of_matches(matches),
            Found::Nearest(nearest) => {
                let rows = nearest.neighbors.len() * size_of::<Neighbor>();
                rows + nearest.matches.as_ref().map_or(0, of_matches)
            }
            Found::Late | Found::Incomplete => 0,
        };
        of_left + of_found + self.returned.iter().map(SettledDocument::bytes).sum::<usize>()
    }
}

impl<'a, 'v> CurrentDocuments<'a, 'v> {
    fn new(settled: Source<'a>, documents: &'a Documents, view: Option<&'a View<'v>>) -> Self {
        let reader = DocumentReader::new(settled.plan, documents, view);
        CurrentDocuments { settled, documents, view, reader, walk: TextWalk::unbounded() }
    }

    /// Whether as much was read as should be under one hold of the locks, by what scores cost.
    pub fn is_enough(&self) -> bool {
        self.walk.walked > WALKED_AT_ONCE
    }

    pub fn plan(&self) -> &'a Plan {
        self.settled.plan
    }

    /// Prefetches the memory that reading these documents needs.
    pub fn prefetch(&self, some: &[SettledDocument], in_keyspace: bool) {
        let ids = || some.iter().map(|document| document.id);
        self.documents.prefetch(ids());
        if let Some(view) = self.view.filter(|_| in_keyspace) {
            view.prefetch(ids().filter_map(|id| self.settled.expired.key(self.documents, id)));
        }
    }

    /// Calls `read` with the document as it is now, if it is still part of the answer.
    pub fn read(&mut self, settled: &SettledDocument, read: impl FnOnce(CurrentDocument<'_, 'v>)) {
        let Source { plan, found, expired, version } = &mut self.settled;
        let id = settled.id;
        let mut nearest = settled.nearest;
        let mut document = None;
        let has_changed = self.documents.version_of(id) > *version || expired.stale.contains(id);
        if has_changed {
            let matches = match found {
                Found::Matches(matches) => Some(matches),
                Found::Nearest(nearest) => nearest.matches.as_mut(),
                Found::Late | Found::Incomplete => None,
            };
            let looked = self.reader.look(matches, expired, id);
            if !looked.is_match {
                return;
            }
            document = looked.document;
            if let Some(knn) = &plan.query.knn {
                let vectors = plan.index.vectors[knn.field].as_ref().expect("the parser checked the type");
                nearest = match &document {
                    Some(document) => plan.index.distance(document, knn.field, &knn.vector),
                    None => vectors.distance(id, &knn.vector),
                };
                if nearest.is_none() {
                    return;
                }
            }
        }
        let found = &**found;
        let matches = match found {
            Found::Matches(matches) => Some(matches),
            Found::Nearest(nearest) => nearest.matches.as_ref(),
            Found::Late | Found::Incomplete => None,
        };
        let ranges = match matches.filter(|_| plan.query.filter.has_range()) {
            Some(matches) => match expired.ranges_of(id) {
                Some(ranges) => ranges.clone(),
                None => matches.ranges.distances(self.documents, &plan.query.filter, id),
            },
            None => Vec::new(),
        };
        let Some(key) = expired.key(self.documents, id) else { return };
        let walk = &mut self.walk;
        let score = match (found, matches.filter(|_| plan.request().with_scores)) {
            (Found::Nearest(nearest), _) => plan.near_score(self.documents, nearest, id, has_changed, walk),
            (_, Some(matches)) => {
                plan.scored_row(self.documents, matches, Row::new(key, id, None), walk).score
            }
            _ => SCORE,
        };
        let fused = settled.fused.clone();
        if fused.as_ref().is_some_and(|fused| *fused.key != *key) {
            // The id belongs to another document since.
            return;
        }
        read(CurrentDocument { key, id, document, nearest, ranges, score, fused });
    }
}
