//! The order of matches by score: the best ones of all, kept in order while documents change.
//!
//! Only as many are kept as the first pages need, and some more that move up when documents of the page have
//! changed. Where that is not enough, all matches are scored again and twice as many are kept.

use super::edited::{Edited, EditedElement};
use super::expired::ExpiredDocuments;
use super::filter::{Evaluation, Late, Ranges};
use super::matches::{Lack, Matches};
use super::plan::{Plan, Row};
use super::score::{BLOCK, ScoreNode, ScoreTree};
use super::walk::{TextWalk, WORDS_PER_FIELD};
use super::{explained, probe};
use crate::documents::Documents;
use crate::query::scorer::Scorer;
use crate::query::{Node, Pattern, TextMatch};
use engramdb_engine::hashing::HashMap;
use roaring::RoaringBitmap;
use std::cmp::Ordering;

/// Documents after the page that are kept too. More than the changes that a last look processes.
const KEPT_MORE: usize = 1024;
/// Words of documents that are walked over in one block, if it has more than one document.
const WALKED_AT_ONCE: usize = 1 << 14;
/// Documents whose words are looked at in one block, because the scorer minds how near they are.
const NEAR_BLOCK: usize = 8;
/// Words of such a document that are walked over for one unit of work.
const WALKED_PER_WORK: usize = 16;
/// Terms of a tree that cost about as much as one unit of work for each document.
const TERMS_PER_WORK: usize = 4;
/// The units of work of a term of a pattern for each block: it is looked up, and its documents are found.
const WORK_PER_TERM: usize = 2;

/// Matches by score, the highest first; of equal ones, by id.
pub struct Scored {
    first: Vec<(f64, u32)>,
    /// The ids in `first` and their positions there, sorted by id.
    places: Vec<(u32, u32)>,
    /// The last of those that were kept, if there were more: all others come after it.
    bound: Option<(f64, u32)>,
    /// How many were to be kept.
    kept: usize,
}

/// The order of the answer.
fn by_score(a: &(f64, u32), b: &(f64, u32)) -> Ordering {
    probe::touch();
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The best of what is added.
struct Best {
    kept: usize,
    found: Vec<(f64, u32)>,
    /// At least `kept` are not after this.
    bound: Option<(f64, u32)>,
    is_cut: bool,
}

impl Best {
    fn add(&mut self, one: (f64, u32)) {
        if self.bound.is_some_and(|bound| by_score(&one, &bound).is_gt()) {
            self.is_cut = true;
            return;
        }
        self.found.push(one);
        if self.found.len() >= 2 * self.kept {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.found.len() > self.kept {
            self.found.select_nth_unstable_by(self.kept - 1, by_score);
            self.found.truncate(self.kept);
            self.bound = self.found.last().copied();
            self.is_cut = true;
        }
    }

    fn finish(mut self) -> Scored {
        self.cut();
        self.found.sort_unstable_by(by_score);
        let bound = self.found.last().copied().filter(|_| self.is_cut);
        let mut scored = Scored { first: self.found, places: Vec::new(), bound, kept: self.kept };
        scored.find_places();
        scored
    }
}

impl Scored {
    fn find_places(&mut self) {
        self.places = (0..).zip(&self.first).map(|(place, (_, id))| (*id, place)).collect();
        self.places.sort_unstable();
    }

    fn place(&self, id: u32) -> Option<usize> {
        let found = self.places.binary_search_by_key(&id, |&(id, _)| id).ok()?;
        Some(self.places[found].1 as usize)
    }

    /// Whether a document with this score is before all that are not kept.
    fn is_kept(&self, one: &(f64, u32)) -> bool {
        self.bound.is_none_or(|bound| by_score(one, &bound).is_le())
    }

    /// Takes out changed documents, and puts in those that match, with their scores now.
    pub fn update(&mut self, changed: &RoaringBitmap, now: Vec<(f64, u32)>) {
        self.first.retain(|(_, id)| !changed.contains(*id));
        let (kept, others): (Vec<_>, Vec<_>) = now.into_iter().partition(|one| self.is_kept(one));
        debug_assert!(others.is_empty() || self.bound.is_some());
        self.first.extend(kept);
        self.first.sort_unstable_by(by_score);
        self.find_places();
    }

    /// The ids in `first`, in order.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.first.iter().map(|(_, id)| *id)
    }
}

impl Plan {
    /// Whether the matches are put in order by their scores: if they differ, or are shown.
    pub fn ranks_by_score(&self) -> bool {
        let request = self.request();
        let is_asked = request.with_scores || request.names_scorer;
        request.sort_by.is_none()
            && !self.reads_all
            && request.limit > 0
            && self.query.knn.is_none()
            && (is_asked
                || self.query.filter.has_text()
                || !self.index.definition.options.score_field.is_empty())
    }

    /// Whether rows show scores that must be computed.
    fn shows_scores(&self) -> bool {
        self.request().with_scores && self.request().limit > 0 && self.query.knn.is_none()
    }

    /// Scores the matches, and puts the best ones in order.
    pub fn score_matches(&self, matches: &mut Matches) {
        if !(self.ranks_by_score() || self.shows_scores()) {
            return;
        }
        let kept = matches.scored.as_ref().map_or(0, |scored| 2 * scored.kept);
        if self.find_scores(matches, kept).is_err() {
            matches.timed_out = true;
        }
    }

    fn find_scores(&self, matches: &mut Matches, kept: usize) -> Result<(), Late> {
        let request = self.request();
        let is_late = || self.is_late();
        let evaluation = Evaluation::new(&self.index.documents, &matches.ranges, &is_late);
        if matches.tree.is_none() {
            let scores_tags = !self.in_hybrid;
            matches.tree = Some(ScoreTree::find(&evaluation, &self.query.filter, request, scores_tags)?);
        }
        let ranks = self.ranks_by_score();
        let needs_highest = request.scorer == Scorer::Bm25StdNorm;
        if !ranks {
            let (found, ended) = self.page_scores(&evaluation, matches);
            matches.known_scores.extend(found);
            ended?;
        }
        if !ranks && !needs_highest {
            return Ok(());
        }
        let tree = matches.tree.as_ref().expect("made above");
        let page_end = if ranks { request.offset + request.limit } else { 0 };
        let kept = page_end.saturating_add(KEPT_MORE).max(kept);
        let mut best = Best { kept, found: Vec::new(), bound: None, is_cut: false };
        let mut left = matches.documents.iter();
        let (size, cost) = tree.block_size();
        let (mut ids, mut here) = (vec![0; size], 0..0);
        let ended = evaluation.in_steps(|documents, work| {
            while *work > 0 {
                if here.is_empty() {
                    here = 0..left.next_many(&mut ids).len();
                }
                let some = cost.together(documents, &ids[here.clone()]);
                if some.is_empty() {
                    return true;
                }
                here.start += some.len();
                let mut walk = TextWalk::unbounded();
                let scores = tree.scores_counted(documents, &matches.ranges, some, &mut walk);
                scores.into_iter().zip(some).for_each(|(score, &id)| best.add((score, id)));
                let own = 1 + cost.of_block(some.len()) + walk.walked / WALKED_PER_WORK;
                *work = work.saturating_sub(own);
            }
            false
        });
        matches.scored = Some(best.finish());
        ended
    }

    /// The scores of the rows of the expected page of another order that are not known, so that the last look
    /// scores changed ones only.
    fn page_scores(
        &self,
        evaluation: &Evaluation<'_>,
        matches: &Matches,
    ) -> (HashMap<u32, f64>, Result<(), Late>) {
        let (request, mut found) = (self.request(), HashMap::default());
        let (Some(tree), Some(order)) = (&matches.tree, &matches.order) else { return (found, Ok(())) };
        let page = order.ids().skip(request.offset).take(request.limit);
        let mut ids: Vec<u32> = page.filter(|id| !matches.known_scores.contains_key(id)).collect();
        ids.sort_unstable();
        let ended = tree.score_in_steps(evaluation, &matches.ranges, &ids, &mut |id, score| {
            found.insert(id, score);
        });
        (found, ended)
    }

    /// Scores the rows of the page that have changed since they were scored, if rows show scores.
    pub fn score_page_again(&self, matches: &mut Matches) {
        if matches.tree.is_none() || self.ranks_by_score() || !self.shows_scores() {
            return;
        }
        let is_late = || self.is_late();
        let evaluation = Evaluation::new(&self.index.documents, &matches.ranges, &is_late);
        let (found, ended) = self.page_scores(&evaluation, matches);
        matches.known_scores.extend(found);
        matches.timed_out |= ended.is_err();
    }

    /// Whether the score of a row is known, or may be computed under the keyspace's lock: after the time
    /// limit only those of changed documents are, which are few.
    pub fn is_scored_in_time(&self, matches: &Matches, changed: &RoaringBitmap, id: u32) -> bool {
        !(matches.timed_out && matches.tree.is_some() && self.shows_scores())
            || matches.known_scores.contains_key(&id)
            || changed.contains(id)
    }

    /// These matches with their scores now.
    pub fn scores_of(&self, matches: &Matches, ids: &RoaringBitmap) -> Vec<(f64, u32)> {
        let Some(tree) = &matches.tree else { return Vec::new() };
        let ids: Vec<u32> = ids.iter().collect();
        let mut scored = Vec::with_capacity(ids.len());
        let ((size, cost), mut left) = (tree.block_size(), &ids[..]);
        while !left.is_empty() {
            let documents = &*self.index.documents.read();
            let some = cost.together(documents, &left[..left.len().min(size)]);
            left = &left[some.len()..];
            let scores = tree.scores(documents, &matches.ranges, some);
            scored.extend(scores.into_iter().zip(some.iter().copied()));
        }
        scored
    }

    /// The rows of the page by score; the documents in `changed` have changed since the matches were scored.
    pub fn scored_page<'r>(
        &'r self,
        documents: &'r Documents,
        matches: &Matches,
        expired: &'r ExpiredDocuments,
        changed: &RoaringBitmap,
    ) -> Result<Vec<Row<'r>>, Lack> {
        let request = self.request();
        let (Some(scored), Some(tree)) = (&matches.scored, &matches.tree) else { return Ok(Vec::new()) };
        let new: Vec<u32> = (changed & &matches.documents).iter().collect();
        let ((size, cost), mut left, mut scores) = (tree.block_size(), &new[..], Vec::new());
        let mut walk = TextWalk::of_a_look();
        while !left.is_empty() {
            let some = cost.together(documents, &left[..left.len().min(size)]);
            left = &left[some.len()..];
            scores.extend(tree.scores_counted(documents, &matches.ranges, some, &mut walk));
        }
        let mut new: Vec<(f64, u32)> = scores.into_iter().zip(new.iter().copied()).collect();
        new.retain(|one| scored.is_kept(one));
        new.sort_unstable_by(by_score);
        let removed = changed.iter().filter_map(|id| scored.place(id)).collect();
        let before = new.iter().map(|one| scored.first.partition_point(|other| by_score(other, one).is_lt()));
        let edited = Edited::new(scored.first.len(), removed, before.collect());
        let shown = (matches.documents.len() as usize).min(request.offset + request.limit);
        if edited.len() < shown && scored.bound.is_some() && !matches.timed_out {
            return Err(Lack::Rows);
        }
        let of = |element: EditedElement| match element {
            EditedElement::Kept(place) => scored.first[place],
            EditedElement::Added(number) => new[number],
        };
        let highest = edited.range(0, 1).first().map(|&first| of(first).0);
        let rows = edited.range(request.offset, request.limit).into_iter().filter_map(|element| {
            let (score, id) = of(element);
            let row = self.row(documents, expired, Some(matches), id)?;
            Some(self.with_score(documents, matches, row, score, highest))
        });
        Ok(rows.collect())
    }

    /// The row with its score, where rows are in another order. Adds to `walk` as `scores_counted` does.
    pub fn scored_row<'r>(
        &self,
        documents: &Documents,
        matches: &Matches,
        row: Row<'r>,
        walk: &mut TextWalk,
    ) -> Row<'r> {
        let Some(tree) = matches.tree.as_ref().filter(|_| self.shows_scores()) else { return row };
        let known = matches.known_scores.get(&row.id).copied();
        let score =
            known.unwrap_or_else(|| tree.scores_counted(documents, &matches.ranges, &[row.id], walk)[0]);
        let highest = matches.scored.as_ref().and_then(|scored| scored.first.first()).map(|first| first.0);
        self.with_score(documents, matches, row, score, highest)
    }

    fn with_score<'r>(
        &self,
        documents: &Documents,
        matches: &Matches,
        row: Row<'r>,
        score: f64,
        highest: Option<f64>,
    ) -> Row<'r> {
        let tree = matches.tree.as_ref().expect("the matches are scored");
        let explanation = self.request().explains.then(|| {
            Box::new(explained::explain(tree, documents, &matches.ranges, row.id, highest.unwrap_or(score)))
        });
        let highest = highest.filter(|highest| *highest != 0.0 && tree.scorer == Scorer::Bm25StdNorm);
        let score = highest.map_or(score, |highest| score / highest);
        Row { score, explanation, ..row }
    }
}

/// What scoring costs.
#[derive(Clone, Copy)]
struct ScoreCost {
    /// Terms that are looked at for a document.
    each: usize,
    /// Terms of patterns that are looked up for a block.
    block: usize,
    /// How often the words of a document are walked over.
    walks: usize,
}

impl ScoreCost {
    /// The first of these documents, which are scored at once: not many words are walked over for them.
    fn together<'i>(self, documents: &Documents, ids: &'i [u32]) -> &'i [u32] {
        if self.walks == 0 || ids.is_empty() {
            return ids;
        }
        let of_fields = documents.field_count() * WORDS_PER_FIELD;
        let mut words = 0;
        let is_more = |&id: &u32| {
            let own = of_fields + documents.texts().length(id).words as usize;
            words += own.saturating_mul(self.walks);
            words > WALKED_AT_ONCE
        };
        let count = ids.iter().position(is_more).unwrap_or(ids.len());
        &ids[..count.max(1)]
    }

    /// In units of work, for a block of `documents` documents.
    fn of_block(self, documents: usize) -> usize {
        documents * self.each / TERMS_PER_WORK + self.block * WORK_PER_TERM
    }

    fn and(self, other: ScoreCost) -> ScoreCost {
        let walks = self.walks + other.walks;
        ScoreCost { each: self.each + other.each, block: self.block + other.block, walks }
    }
}

impl ScoreTree {
    /// Calls `each` with documents, whose ids ascend, and their scores. No lock is held for long.
    pub fn score_in_steps(
        &self,
        evaluation: &Evaluation<'_>,
        ranges: &Ranges,
        ids: &[u32],
        each: &mut dyn FnMut(u32, f64),
    ) -> Result<(), Late> {
        let (size, cost) = self.block_size();
        let mut left = ids;
        evaluation.in_steps(|documents, work| {
            while !left.is_empty() {
                let some = cost.together(documents, &left[..left.len().min(size)]);
                left = &left[some.len()..];
                let mut walk = TextWalk::unbounded();
                let scores = self.scores_counted(documents, ranges, some, &mut walk);
                some.iter().zip(scores).for_each(|(&id, score)| each(id, score));
                let own = 1 + cost.of_block(some.len()) + walk.walked / WALKED_PER_WORK;
                *work = work.saturating_sub(own);
                if *work == 0 {
                    return false;
                }
            }
            true
        })
    }

    /// How many documents are scored at once, and what it costs.
    fn block_size(&self) -> (usize, ScoreCost) {
        let mut cost = self.root.cost(true);
        cost.walks += usize::from(self.scorer.minds_nearness());
        let size = if self.scorer.minds_nearness() { NEAR_BLOCK } else { BLOCK };
        ((size * TERMS_PER_WORK / cost.each.max(TERMS_PER_WORK)).max(1), cost)
    }
}

impl ScoreNode {
    /// What it costs, if all documents are known to match (`is_sure`) or may not.
    fn cost(&self, is_sure: bool) -> ScoreCost {
        let each = |each| ScoreCost { each, block: 0, walks: 0 };
        let walks = |node: &Node| if is_sure { 0 } else { walks_of(node) };
        let all = |parts: &[ScoreNode], is_sure: bool| {
            parts.iter().map(|part| part.cost(is_sure)).fold(each(1), ScoreCost::and)
        };
        match self {
            ScoreNode::Term(_) | ScoreNode::All { .. } => each(1),
            // A document has few of the terms.
            ScoreNode::First { terms, .. } => ScoreCost { each: 2, block: terms.len(), walks: 0 },
            ScoreNode::And { parts, check, .. } => {
                let own = check.as_ref().map_or(0, walks);
                all(parts, is_sure).and(ScoreCost { each: 0, block: 0, walks: own })
            }
            ScoreNode::Or { parts, .. } => all(parts, false),
            ScoreNode::Optional(part) => part.cost(false),
            ScoreNode::Other { node, .. } => ScoreCost { each: 4, block: 0, walks: walks(node) },
        }
    }
}

/// How often the words of a document are walked over to see whether it matches.
pub fn walks_of(node: &Node) -> usize {
    match node {
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().map(walks_of).sum(),
        Node::Not(node) => walks_of(node),
        Node::With(with) => 1 + walks_of(&with.node),
        Node::Text { text: TextMatch::Term(Pattern::Exact(_)) | TextMatch::Expanded(_), .. } => 0,
        Node::Text { .. } => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_are_those_of_a_sorted_list() {
        let mut state = 9u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let kept = 1 + random(20) as usize;
            let all: Vec<(f64, u32)> = (0..random(100) as u32).map(|id| (random(8) as f64, id)).collect();
            let mut best = Best { kept, found: Vec::new(), bound: None, is_cut: false };
            all.iter().for_each(|&one| best.add(one));
            let mut scored = best.finish();
            let mut sorted = all.clone();
            sorted.sort_by(by_score);
            assert_eq!(scored.first, sorted[..kept.min(sorted.len())]);
            assert_eq!(scored.bound.is_some(), all.len() > kept);
            // Some change their scores, or go.
            let changed: RoaringBitmap = (0..all.len() as u32).filter(|_| random(4) == 0).collect();
            let mut now: Vec<(f64, u32)> = changed.iter().map(|id| (random(8) as f64, id)).collect();
            now.retain(|_| random(3) > 0);
            scored.update(&changed, now.clone());
            sorted.retain(|(_, id)| !changed.contains(*id));
            sorted.extend(now);
            sorted.sort_by(by_score);
            assert_eq!(scored.first, sorted[..scored.first.len()]);
            assert!(scored.bound.is_some() || scored.first.len() == sorted.len());
            assert!(scored.ids().enumerate().all(|(place, id)| scored.place(id) == Some(place)));
        }
    }
}
