//! The scores of a KNN's rows, if the request asks for them: how well its filter's words match.
//!
//! The rows are in the order of their distances all the same. The candidates are scored without the
//! keyspace's lock; a last look scores only those that have changed.

use super::filter::{Evaluation, Late, Ranges};
use super::nearest::Nearest;
use super::plan::{Plan, Row};
use super::score::ScoreTree;
use super::walk::TextWalk;
use crate::documents::Documents;
use crate::query::scorer::Scorer;
use engramdb_engine::hashing::HashMap;
use roaring::RoaringBitmap;

pub struct NearScores {
    tree: ScoreTree,
    /// Of candidates that have not changed since they were scored.
    known: HashMap<u32, f64>,
    /// The highest score of a row.
    highest: f64,
}

impl NearScores {
    pub fn forget(&mut self, changed: &RoaringBitmap) {
        if !changed.is_empty() {
            self.known.retain(|id, _| !changed.contains(*id));
        }
    }
}

impl Plan {
    /// Scores the candidates of a KNN, if the rows show scores.
    pub fn score_nearest(&self, nearest: &mut Nearest) {
        if !self.request().with_scores {
            return;
        }
        let no_ranges = Ranges::default();
        let ranges = nearest.matches.as_ref().map_or(&no_ranges, |matches| &matches.ranges);
        let mut ids: Vec<u32> = nearest.neighbors.iter().map(|neighbor| neighbor.id).collect();
        ids.sort_unstable();
        let (scores, ended) = match self.scores_of_nearest(ranges, nearest.scores.take(), &ids) {
            Ok((scores, ended)) => (Some(Box::new(scores)), ended),
            Err(Late) => (None, Err(Late)),
        };
        nearest.scores = scores;
        nearest.timed_out |= ended.is_err();
        self.find_highest(nearest);
    }

    /// Scores the candidates that have changed since they were scored, if rows show scores.
    pub fn score_nearest_again(&self, nearest: &mut Nearest) {
        let Some(scores) = &mut nearest.scores else { return };
        let ids = nearest.neighbors.iter().map(|neighbor| neighbor.id);
        let mut ids: Vec<u32> = ids.filter(|id| !scores.known.contains_key(id)).collect();
        ids.sort_unstable();
        let no_ranges = Ranges::default();
        let ranges = nearest.matches.as_ref().map_or(&no_ranges, |matches| &matches.ranges);
        let is_late = || self.is_late();
        let evaluation = Evaluation::new(&self.index.documents, ranges, &is_late);
        let NearScores { tree, known, .. } = &mut **scores;
        let ended = tree.score_in_steps(&evaluation, ranges, &ids, &mut |id, score| {
            known.insert(id, score);
        });
        nearest.timed_out |= ended.is_err();
        self.find_highest(nearest);
    }

    fn find_highest(&self, nearest: &mut Nearest) {
        let k = self.query.knn.as_ref().map_or(0, |knn| knn.k);
        if let Some(scores) = &mut nearest.scores {
            let of = |id: u32| scores.known.get(&id).copied().unwrap_or_default();
            // Those as far as the last row too: which of them are shown depends on their keys, and the order
            // here on ids, which differ after a start.
            let last = nearest.neighbors.iter().take(k).next_back().map(|neighbor| neighbor.distance);
            let near =
                nearest.neighbors.iter().take_while(|near| last.is_some_and(|last| near.distance <= last));
            scores.highest = near.map(|neighbor| of(neighbor.id)).fold(0.0, f64::max);
        }
    }

    fn scores_of_nearest(
        &self,
        ranges: &Ranges,
        before: Option<Box<NearScores>>,
        ids: &[u32],
    ) -> Result<(NearScores, Result<(), Late>), Late> {
        let is_late = || self.is_late();
        let evaluation = Evaluation::new(&self.index.documents, ranges, &is_late);
        let tree = match before {
            Some(before) => before.tree,
            None => {
                let scores_tags = !self.in_hybrid;
                ScoreTree::of_nearest(&evaluation, &self.query.filter, self.request(), scores_tags)?
            }
        };
        let mut known = HashMap::default();
        let ended = tree.score_in_steps(&evaluation, ranges, ids, &mut |id, score| {
            known.insert(id, score);
        });
        Ok((NearScores { tree, known, highest: 0.0 }, ended))
    }

    /// The score of a candidate now. Adds to `walk` the words of documents that were walked over.
    pub fn near_score(
        &self,
        documents: &Documents,
        nearest: &Nearest,
        id: u32,
        has_changed: bool,
        walk: &mut TextWalk,
    ) -> f64 {
        let Some(scores) = &nearest.scores else { return 0.0 };
        let known = scores.known.get(&id).copied().filter(|_| !has_changed);
        let score = known.unwrap_or_else(|| {
            let no_ranges = Ranges::default();
            let ranges = nearest.matches.as_ref().map_or(&no_ranges, |matches| &matches.ranges);
            scores.tree.scores_counted(documents, ranges, &[id], walk)[0]
        });
        match scores.tree.scorer {
            Scorer::Bm25StdNorm if scores.highest.max(score) > 0.0 => score / scores.highest.max(score),
            _ => score,
        }
    }

    /// The row with its score, if rows show scores. `None` if the time limit has passed before it was known:
    /// under the keyspace's lock only changed documents are scored, which are few.
    pub fn with_near_score<'r>(
        &self,
        documents: &Documents,
        nearest: &Nearest,
        (changed, walk): (&RoaringBitmap, &mut TextWalk),
        row: Row<'r>,
    ) -> Option<Row<'r>> {
        if !self.request().with_scores || self.reads_all {
            return Some(row);
        }
        let is_known = |scores: &NearScores| scores.known.contains_key(&row.id);
        let is_known = nearest.scores.as_ref().is_none_or(|scores| is_known(scores));
        if nearest.timed_out && !is_known && !changed.contains(row.id) {
            return None;
        }
        let score = self.near_score(documents, nearest, row.id, false, walk);
        let explanation = nearest.scores.as_ref().filter(|_| self.request().explains).map(|scores| {
            let no_ranges = Ranges::default();
            let ranges = nearest.matches.as_ref().map_or(&no_ranges, |matches| &matches.ranges);
            let highest = scores.highest.max(score);
            Box::new(super::explained::explain(&scores.tree, documents, ranges, row.id, highest))
        });
        Some(Row { score, explanation, ..row })
    }
}
