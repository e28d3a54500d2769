//! The nearest documents, where documents have several vectors.
//!
//! KNN counts documents, each with its nearest vector. The vector index finds vectors, of which many may
//! belong to one document. It is asked for more vectors than documents are wanted, and again for
//! `MORE` times as many without the documents that were found, until there are enough documents or no more
//! vectors. So each question adds a document at least, and there are at most as many questions as `MORE`
//! goes into the number of vectors.
//!
//! What was found is complete up to the distance of the last vector of the last question: the documents of
//! all vectors up to it were found by this question or by one before it.

use super::plan::Plan;
use crate::index::Index;
use crate::query::Knn;
use crate::vectors::{Cost, Effort, Question, Rows};
use engramdb_engine::hashing::HashSet;
use roaring::RoaringBitmap;

/// How many times as many vectors the next question asks for.
const MORE: usize = 4;

/// The nearest documents, at least as many as were asked for, or all that there are.
pub struct Reached {
    pub rows: Rows,
    /// The distance up to which all documents are in `rows`; `None` if all are, at any distance.
    pub horizon: Option<f64>,
}

impl Cost {
    fn add(&mut self, more: Cost) {
        let evaluated = self.evaluated + more.evaluated;
        *self = Cost { evaluated, visited: self.visited + more.visited, ..more };
    }
}

impl Plan {
    /// The nearest documents, with the first rows that the index found: vectors, and how many were asked for.
    pub fn nearest_of_several(
        &self,
        knn: &Knn,
        k: usize,
        among: Option<&RoaringBitmap>,
        (version, id_bound): (u64, u32),
    ) -> (Reached, (Rows, usize)) {
        let index = &self.index;
        let mut asked = self.first_question(knn, k);
        let first = self.nearest_vectors(knn, asked, among, id_bound);
        let mut known = HashSet::default();
        let cost = Cost::default();
        let mut reached =
            Reached { rows: Rows { neighbors: Vec::new(), timed_out: false, cost }, horizon: None };
        let mut is_done = reached.add(index, version, (&first, asked), &mut known, k);
        let first = (first, asked);
        while !is_done {
            asked = asked.saturating_mul(MORE).min(id_bound as usize + 1).max(k);
            let found: RoaringBitmap = known.iter().copied().collect();
            let others = match among {
                Some(among) => among - found,
                None => index.documents.read().live() - found,
            };
            let rows = self.nearest_vectors(knn, asked, Some(&others), id_bound);
            is_done = reached.add(index, version, (&rows, asked), &mut known, k);
        }
        reached.rows.neighbors.sort_unstable();
        (reached, first)
    }

    /// The nearest vectors of these documents.
    pub fn nearest_vectors(&self, knn: &Knn, k: usize, among: Option<&RoaringBitmap>, id_bound: u32) -> Rows {
        let filter = among.map(|among| self.index.vector_set(knn.field, among));
        let is_late = || self.is_late();
        let question = Question { query: &knn.vector, filter: filter.as_ref(), id_bound, is_late: &is_late };
        self.vectors_of(knn).nearest(&question, k, Effort { ef: self.ef(knn), recall: knn.recall })
    }

    /// As many vectors as `k` documents have on average, if a walk finds them anyway.
    fn first_question(&self, knn: &Knn, k: usize) -> usize {
        let each = self.index.documents.read().vectors_each(knn.field);
        k.saturating_mul(each).min(self.ef(knn)).max(k)
    }
}

impl Reached {
    /// Adds what a question has found. Returns whether it was the last one.
    fn add(
        &mut self,
        index: &Index,
        version: u64,
        (vectors, asked): (&Rows, usize),
        known: &mut HashSet<u32>,
        k: usize,
    ) -> bool {
        let is_all = vectors.neighbors.len() < asked;
        self.horizon = vectors.neighbors.last().filter(|_| !is_all).map(|last| last.distance);
        self.rows.timed_out = vectors.timed_out;
        self.rows.cost.add(vectors.cost);
        index.add_documents(version, &vectors.neighbors, known, &mut self.rows.neighbors);
        is_all || vectors.timed_out || self.rows.neighbors.len() >= k
    }
}
