//! The scores of documents: how well they match the words of a query.
//!
//! A query's tree becomes a tree of scores, which has the weight of each term by the documents that have it
//! at one moment. It scores documents a block at a time, in the order of their ids, so that each set of
//! documents is read in order. The same tree explains a score. Formulas and texts are those of RediSearch;
//! BM25STD is that of Redis 8.
//!
//! | part | in a document that has it | in one that has it not |
//! |---|---|---|
//! | term | by its occurrences in all fields | no score: the document does not match the part |
//! | pattern | the first of its terms, by their order, that the document has | no score |
//! | intersection | the sum | no score |
//! | union | the sum (DISMAX: the most) of the parts that the document has | no score |
//! | optional | that of its part | 0 |
//!
//! The statistics (how many documents there are and have a term, and their average length) are those of the
//! moment at which the search began, for all documents of its answer.

use super::distance::{WordDistance, parts_in_order};
use super::filter::{Evaluation, Late, Ranges, means_in};
use super::fuzzy::Fuzzy;
use super::probe;
use super::walk::TextWalk;
use crate::documents::Documents;
use crate::documents::texts::{TextPosting, each_common, is_stem, shown_term};
use crate::query::request::QueryOptions;
use crate::query::scorer::Scorer;
use crate::query::{Attributed, Node, Pattern, TextMatch};
use std::sync::Arc;

/// Documents that are scored together.
pub const BLOCK: usize = 1024;
/// The most terms of a pattern that scores distinguish, in their order; all others count as the last of
/// these. It is RediSearch's default of MAXEXPANSIONS.
const EXPANDED_MAX: usize = 200;

/// The constants of BM25STD and BM25, as RediSearch has them.
pub const K1: f32 = 1.2;
pub const B_STD: f32 = 0.75;
pub const B: f32 = 0.5;

/// TextStatistics of an index at one moment.
#[derive(Clone, Copy, Debug)]
pub struct TextStatistics {
    pub documents: u64,
    pub average_length: f64,
}

/// A tree that scores documents.
pub struct ScoreTree {
    pub root: ScoreNode,
    pub scorer: Scorer,
    pub tanh_factor: u32,
    payload: Vec<u8>,
    pub statistics: TextStatistics,
    /// The parts whose nearness divides scores, where the scorer minds it.
    nearness: Option<Vec<Node>>,
}

pub enum ScoreNode {
    Term(TermScore),
    /// The first of these terms that a document has.
    First {
        weight: f64,
        terms: Vec<TermScore>,
    },
    And {
        weight: f64,
        parts: Vec<ScoreNode>,
        /// The places that the parts have in the query.
        order: Vec<usize>,
        check: Option<Node>,
    },
    Or {
        weight: f64,
        parts: Vec<ScoreNode>,
    },
    Optional(Box<ScoreNode>),
    /// All documents.
    All {
        weight: f64,
    },
    /// What is no word, and matches as the node does.
    Other {
        weight: f64,
        frequency: u32,
        node: Node,
    },
}

pub struct TermScore {
    pub term: Vec<u8>,
    pub source: TermSource,
    pub weight: f64,
    /// How many documents have the term in any field.
    documents: u64,
    /// The weight of the term by its rarity, of TFIDF and BM25, and of BM25STD.
    pub idf: f64,
    pub idf_std: f64,
}

pub enum TermSource {
    /// In these fields, which ascend.
    Text(Arc<[usize]>),
    Tag(usize),
}

/// Documents that are scored, in the order of their ids.
pub struct ScoredBlock<'b> {
    pub documents: &'b Documents,
    pub ranges: &'b Ranges,
    pub ids: &'b [u32],
    /// What BM25STD adds to a frequency, by document.
    norms: Vec<f64>,
}

impl TextStatistics {
    pub fn of(documents: &Documents) -> TextStatistics {
        let count = documents.len() as u64;
        let average_length = documents.texts().length_sum() as f64 / count.max(1) as f64;
        TextStatistics { documents: count, average_length }
    }

    /// A logarithm without its fraction, as RediSearch computes it, which counts one document more.
    pub fn idf(self, with_term: u64) -> f64 {
        (1.0 + (self.documents + 1) as f64 / with_term.max(1) as f64).log2().floor()
    }

    fn idf_std(self, with_term: u64) -> f64 {
        let (all, with_term) = (self.documents.max(with_term) as f64, with_term as f64);
        (1.0 + (all - with_term + 0.5) / (with_term + 0.5)).ln()
    }

    /// What BM25STD adds to the frequency of a term in a document of this length.
    pub fn norm(self, length: u32) -> f64 {
        let share = f64::from(B_STD * length as f32) / self.average_length;
        // Without texts, all documents are equally long.
        let share = if share.is_nan() { f64::from(B_STD) } else { share };
        f64::from(K1) * (f64::from(1.0 - B_STD) + share)
    }

    /// The same of BM25, which does not look at the document's length.
    pub fn norm_of_all(self) -> f64 {
        f64::from(K1) * (f64::from(1.0 - B) + f64::from(B) * self.average_length)
    }
}

impl TermScore {
    /// `None` if no document has the term.
    fn find(
        evaluation: &Evaluation<'_>,
        term: &[u8],
        source: TermSource,
        weight: f64,
    ) -> Result<Option<TermScore>, Late> {
        let (statistics, known) = {
            let documents = evaluation.documents().read();
            let known = match &source {
                TermSource::Text(_) => documents.texts().get(term).map(|posting| posting.document_count()),
                TermSource::Tag(field) => {
                    documents.terms(*field).and_then(|terms| terms.get(term)).map(|found| Some(found.len()))
                }
            };
            (TextStatistics::of(&documents), known)
        };
        let with_term = match known {
            None => return Ok(None),
            Some(Some(count)) => count,
            Some(None) => evaluation.with_term(term, None)?.len(),
        };
        let (idf, idf_std) = (statistics.idf(with_term), statistics.idf_std(with_term));
        Ok(Some(TermScore { term: term.to_vec(), source, weight, documents: with_term, idf, idf_std }))
    }

    /// The name that RediSearch shows.
    pub fn shown(&self) -> &[u8] {
        shown_term(&self.term)
    }

    /// How often documents have the term; 0 for those that do not match.
    pub fn frequencies(&self, block: &ScoredBlock<'_>) -> Vec<u32> {
        let mut found = vec![0; block.ids.len()];
        match &self.source {
            TermSource::Tag(field) => {
                let documents = block.documents.terms(*field).and_then(|terms| terms.get(&self.term));
                if let Some(documents) = documents {
                    each_common(documents, block.ids, |at| found[at] = 1);
                }
            }
            TermSource::Text(fields) => {
                if let Some(posting) = block.documents.texts().get(&self.term) {
                    self.count(block, posting, fields, &mut found);
                }
            }
        }
        found
    }

    /// Calls `each` with the places in the block of the documents that match, in any order, and how often
    /// they have the term. Unlike `frequencies` it takes no time for the others, which are most where a
    /// pattern has many terms.
    fn each_frequency(
        &self,
        block: &ScoredBlock<'_>,
        counting: &mut Counting,
        mut each: impl FnMut(usize, u32),
    ) {
        let fields = match &self.source {
            TermSource::Text(fields) => fields,
            TermSource::Tag(_) => {
                let found = self.frequencies(block).into_iter().enumerate();
                return found.filter(|(_, frequency)| *frequency > 0).for_each(|(at, one)| each(at, one));
            }
        };
        let texts = block.documents.texts();
        let Some(posting) = texts.get(&self.term) else { return };
        let is_stem = is_stem(&self.term);
        let Counting { found, matched, touched } = counting;
        // The term counts wherever it is, if it is in one of the fields.
        for place in posting.places() {
            let (unit, is_in) = (texts.unit(place.field(), is_stem), place.is_in(fields));
            each_common(place.documents(), block.ids, |at| {
                if found[at] == 0 {
                    touched.push(at);
                }
                found[at] = found[at].saturating_add(unit);
                matched[at] |= is_in;
            });
            place.each_digit(block.ids, |at, value| {
                found[at] = found[at].saturating_add(value.saturating_mul(unit));
            });
        }
        for at in touched.drain(..) {
            let frequency = std::mem::take(&mut found[at]);
            if std::mem::take(&mut matched[at]) {
                each(at, frequency);
            }
        }
    }

    fn count(&self, block: &ScoredBlock<'_>, posting: &TextPosting, fields: &[usize], found: &mut [u32]) {
        let (texts, is_stem) = (block.documents.texts(), is_stem(&self.term));
        let is_everywhere = posting.places().iter().all(|place| place.is_in(fields));
        // The term counts wherever it is, if it is in one of the fields.
        for place in posting.places() {
            let unit = texts.unit(place.field(), is_stem);
            each_common(place.documents(), block.ids, |at| found[at] = found[at].saturating_add(unit));
            place.each_digit(block.ids, |at, value| {
                found[at] = found[at].saturating_add(value.saturating_mul(unit))
            });
        }
        if !is_everywhere {
            let mut is_in = vec![false; block.ids.len()];
            for place in posting.places().iter().filter(|place| place.is_in(fields)) {
                each_common(place.documents(), block.ids, |at| is_in[at] = true);
            }
            found.iter_mut().zip(is_in).for_each(|(found, is_in)| *found *= u32::from(is_in));
        }
    }
}

/// Memory to count the occurrences of one term after the other in the documents of a block.
struct Counting {
    /// By place in the block; zeros between two terms.
    found: Vec<u32>,
    /// Whether the document has the term in one of the fields.
    matched: Vec<bool>,
    /// The places that are not zero.
    touched: Vec<usize>,
}

impl Counting {
    fn new(count: usize) -> Counting {
        Counting { found: vec![0; count], matched: vec![false; count], touched: Vec::new() }
    }
}

impl<'b> ScoredBlock<'b> {
    pub fn new(
        documents: &'b Documents,
        ranges: &'b Ranges,
        ids: &'b [u32],
        statistics: TextStatistics,
    ) -> ScoredBlock<'b> {
        let texts = documents.texts();
        let norms = ids.iter().map(|&id| statistics.norm(texts.length(id).words)).collect();
        ScoredBlock { documents, ranges, ids, norms }
    }
}

impl ScoreTree {
    /// The tree of a query, with the statistics of this moment. Without `scores_tags`, tags add nothing.
    pub fn find(
        evaluation: &Evaluation<'_>,
        node: &Node,
        request: &QueryOptions,
        scores_tags: bool,
    ) -> Result<ScoreTree, Late> {
        let statistics = TextStatistics::of(&evaluation.documents().read());
        let root = ScoreNode::of(evaluation, node, 1.0)?;
        let mut root = root.unwrap_or(ScoreNode::Or { weight: 1.0, parts: Vec::new() });
        if !scores_tags {
            root.ignore_tags();
        }
        let minds_nearness = request.scorer.minds_nearness();
        let nearness = if minds_nearness { parts_in_order(node, &root) } else { None };
        Ok(ScoreTree {
            root,
            scorer: request.scorer,
            tanh_factor: request.tanh_factor,
            payload: request.payload.clone(),
            statistics,
            nearness,
        })
    }

    /// The tree of a KNN's filter. The vector is a part that adds nothing, and there is no distance to words.
    pub fn of_nearest(
        evaluation: &Evaluation<'_>,
        filter: &Node,
        request: &QueryOptions,
        scores_tags: bool,
    ) -> Result<ScoreTree, Late> {
        let mut tree = ScoreTree::find(evaluation, filter, request, scores_tags)?;
        tree.nearness = None;
        let vector = ScoreNode::Other { weight: 1.0, frequency: 0, node: Node::All };
        if *filter == Node::All {
            tree.root = vector;
        } else if tree.scorer != Scorer::DisMax {
            let words = std::mem::replace(&mut tree.root, ScoreNode::All { weight: 1.0 });
            tree.root =
                ScoreNode::And { weight: 1.0, parts: vec![vector, words], order: vec![0, 1], check: None };
        }
        Ok(tree)
    }

    /// The scores of documents that match, whose ids ascend. At most `BLOCK` are meant to be scored at once.
    pub fn scores(&self, documents: &Documents, ranges: &Ranges, ids: &[u32]) -> Vec<f64> {
        self.scores_counted(documents, ranges, ids, &mut TextWalk::unbounded())
    }

    /// The same. Adds to `whole` the words of documents that were walked over.
    pub fn scores_counted(
        &self,
        documents: &Documents,
        ranges: &Ranges,
        ids: &[u32],
        whole: &mut TextWalk,
    ) -> Vec<f64> {
        ids.iter().for_each(|_| probe::touch());
        match self.scorer {
            Scorer::DocScore => return ids.iter().map(|&id| documents.about(id).score).collect(),
            Scorer::Hamming => return ids.iter().map(|&id| self.hamming(documents, id).1).collect(),
            _ => {}
        }
        let block = ScoredBlock::new(documents, ranges, ids, self.statistics);
        let mut walks: Vec<TextWalk> = ids.iter().map(|_| whole.part()).collect();
        let mut scores = self.root.scores(self, &block, true, &mut walks);
        let mut distance = self.distance(documents);
        for ((score, &id), walk) in scores.iter_mut().zip(ids).zip(&mut walks) {
            let raw = if score.is_nan() { 0.0 } else { *score };
            let mut divisor = |distance: &mut WordDistance<'_>| distance.divisor(documents, ranges, id, walk);
            let divisor = distance.as_mut().map_or(1, &mut divisor);
            *score = self.whole(documents, id, raw, divisor);
            whole.walked += walk.walked;
        }
        scores
    }

    /// What measures by how much scores are divided because words are far from each other, if the scorer
    /// minds it.
    pub fn distance(&self, documents: &Documents) -> Option<WordDistance<'_>> {
        self.nearness.as_ref().map(|parts| WordDistance::new(documents, parts))
    }

    /// The score of a document by the sum of its parts. BM25STD.NORM is normalised where the answer is known.
    fn whole(&self, documents: &Documents, id: u32, raw: f64, divisor: u32) -> f64 {
        let about = documents.about(id).score;
        match self.scorer {
            Scorer::Bm25Std | Scorer::Bm25StdNorm => about * raw,
            Scorer::Bm25StdTanh => (about * raw / f64::from(self.tanh_factor)).tanh(),
            Scorer::Bm25 => about * raw / f64::from(divisor),
            Scorer::TfIdf | Scorer::TfIdfDocNorm => match self.length(documents, id) {
                0 => 0.0,
                _ if about == 0.0 => 0.0,
                norm => about * raw / f64::from(norm) / f64::from(divisor),
            },
            Scorer::DisMax => raw,
            Scorer::DocScore => about,
            Scorer::Hamming => self.hamming(documents, id).1,
        }
    }

    /// What TFIDF divides by.
    pub fn length(&self, documents: &Documents, id: u32) -> u32 {
        let length = documents.texts().length(id);
        if self.scorer == Scorer::TfIdf { length.most } else { length.words }
    }

    /// How many bits of the payloads differ, `None` if they cannot be compared; and the score.
    pub fn hamming(&self, documents: &Documents, id: u32) -> (Option<u32>, f64) {
        let own = documents.about(id).payload.as_deref().unwrap_or_default();
        if own.is_empty() || own.len() != self.payload.len() {
            return (None, 0.0);
        }
        let bits = own.iter().zip(&self.payload).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
        (Some(bits), 1.0 / (f64::from(bits) + 1.0))
    }

    /// The payload's length in bytes.
    pub fn payload_length(&self) -> usize {
        self.payload.len()
    }

    /// The score of a term by its occurrences, given what BM25STD adds to them.
    pub fn of_term(&self, term: &TermScore, frequency: u32, norm: f64) -> f64 {
        let frequency = f64::from(frequency);
        match self.scorer {
            Scorer::Bm25Std | Scorer::Bm25StdNorm | Scorer::Bm25StdTanh => {
                term.weight * term.idf_std * frequency * f64::from(K1 + 1.0) / (frequency + norm)
            }
            Scorer::Bm25 => term.weight * term.idf * frequency / (frequency + self.statistics.norm_of_all()),
            Scorer::TfIdf | Scorer::TfIdfDocNorm => term.weight * frequency * term.idf,
            _ => term.weight * frequency,
        }
    }

    /// The score of what is no word, and occurs so often.
    pub fn of_other(&self, weight: f64, frequency: u32) -> f64 {
        let frequency = f64::from(frequency);
        match self.scorer {
            Scorer::Bm25Std | Scorer::Bm25StdNorm | Scorer::Bm25StdTanh => 0.0,
            Scorer::Bm25 => weight * frequency / (frequency + self.statistics.norm_of_all()),
            _ => weight * frequency,
        }
    }

    /// The score of a document that is asked for without any condition.
    pub fn of_all(&self, weight: f64, norm: f64) -> f64 {
        match self.scorer {
            Scorer::Bm25Std | Scorer::Bm25StdNorm | Scorer::Bm25StdTanh => {
                weight * f64::from(K1 + 1.0) / (1.0 + norm)
            }
            _ => self.of_other(weight, 1),
        }
    }
}

impl ScoreNode {
    /// The scores of a node; `None` if it is a term that no document has.
    fn of(evaluation: &Evaluation<'_>, node: &Node, weight: f64) -> Result<Option<ScoreNode>, Late> {
        let term = |term: &[u8], source: TermSource| {
            TermScore::find(evaluation, term, source, weight).map(|found| found.map(ScoreNode::Term))
        };
        Ok(Some(match node {
            Node::With(with) => {
                let Attributed { node: inner, attributes } = &**with;
                let weight = attributes.weight();
                return Ok(match (inner, attributes.nearness()) {
                    (Node::And(nodes), Some(nearness)) => {
                        let check = Some(node.clone());
                        Some(intersection(evaluation, nodes, (weight, nearness.in_order), check)?)
                    }
                    _ => ScoreNode::of(evaluation, inner, weight)?,
                });
            }
            Node::All => ScoreNode::All { weight },
            Node::Nothing => return Ok(None),
            Node::And(nodes) => intersection(evaluation, nodes, (weight, false), None)?,
            Node::Or(nodes) => {
                let mut parts = parts(evaluation, nodes.iter())?;
                match parts.len() {
                    0 => return Ok(None),
                    1 => return Ok(parts.pop()),
                    _ => ScoreNode::Or { weight, parts },
                }
            }
            Node::Optional(inner) => match ScoreNode::of(evaluation, inner, weight)? {
                Some(inner) => ScoreNode::Optional(Box::new(inner)),
                None => ScoreNode::Other { weight: 0.0, frequency: 1, node: Node::All },
            },
            Node::Text { fields, text } => match text {
                TextMatch::Term(Pattern::Exact(word)) | TextMatch::Expanded(word) => {
                    return term(word, TermSource::Text(fields.clone()));
                }
                TextMatch::Term(pattern) => {
                    ScoreNode::First { weight, terms: expanded(evaluation, fields, pattern)? }
                }
                TextMatch::Phrase(words) if words.len() == 1 => {
                    return term(&words[0], TermSource::Text(fields.clone()));
                }
                TextMatch::Phrase(words) => {
                    let mut parts = Vec::new();
                    for word in words {
                        let source = TermSource::Text(fields.clone());
                        let found = TermScore::find(evaluation, word, source, 1.0)?;
                        parts.extend(found.map(ScoreNode::Term));
                    }
                    let order = (0..parts.len()).collect();
                    ScoreNode::And { weight, parts, order, check: Some(node.clone()) }
                }
            },
            Node::Tag { field, pattern: Pattern::Exact(tag) } => {
                return term(tag, TermSource::Tag(*field));
            }
            Node::Number { .. } | Node::Near { .. } | Node::Tag { .. } => {
                ScoreNode::Other { weight, frequency: 1, node: node.clone() }
            }
            _ => ScoreNode::Other { weight, frequency: 0, node: node.clone() },
        }))
    }

    /// Gives all tags the weight 0.
    fn ignore_tags(&mut self) {
        match self {
            ScoreNode::Term(TermScore { source: TermSource::Tag(_), weight, .. })
            | ScoreNode::Other { node: Node::Tag { .. }, weight, .. } => *weight = 0.0,
            ScoreNode::And { parts, .. } | ScoreNode::Or { parts, .. } => {
                parts.iter_mut().for_each(ScoreNode::ignore_tags);
            }
            ScoreNode::Optional(part) => part.ignore_tags(),
            ScoreNode::Term(_)
            | ScoreNode::First { .. }
            | ScoreNode::All { .. }
            | ScoreNode::Other { .. } => {}
        }
    }

    /// How many documents RediSearch expects to have the part, which decides about the order of reading.
    fn expected(&self, all: u64) -> u64 {
        let sum =
            |parts: &[ScoreNode]| parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.expected(all)));
        match self {
            ScoreNode::Term(term) => term.documents,
            ScoreNode::First { terms, .. } => terms.iter().map(|term| term.documents).sum(),
            // It divides the number of the rarest part by that of the parts, without a fraction.
            ScoreNode::And { parts, .. } if parts.len() == 1 => parts[0].expected(all),
            ScoreNode::And { .. } => 0,
            ScoreNode::Or { parts, .. } => sum(parts),
            ScoreNode::Optional(_) | ScoreNode::Other { .. } => all,
            ScoreNode::All { .. } => all + 1,
        }
    }

    /// The scores of a block's documents; NaN for one that does not match. `is_sure` if all of them do.
    /// Counts the words of each document that are walked over.
    fn scores(
        &self,
        tree: &ScoreTree,
        block: &ScoredBlock<'_>,
        is_sure: bool,
        walks: &mut [TextWalk],
    ) -> Vec<f64> {
        let count = block.ids.len();
        match self {
            ScoreNode::Term(term) => {
                let frequencies = term.frequencies(block);
                let score = |(&frequency, &norm): (&u32, &f64)| match frequency {
                    0 => f64::NAN,
                    _ => tree.of_term(term, frequency, norm),
                };
                frequencies.iter().zip(&block.norms).map(score).collect()
            }
            ScoreNode::First { weight, terms } => first_scores(tree, block, *weight, terms),
            ScoreNode::And { weight, parts, check, .. } => {
                let mut sums = vec![0.0; count];
                for part in parts {
                    let own = part.scores(tree, block, is_sure, walks);
                    sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
                }
                if let Some(node) = check.as_ref().filter(|_| !is_sure) {
                    // A document that lacks one of the words needs no look at its texts.
                    let left =
                        sums.iter_mut().zip(block.ids).zip(walks).filter(|((sum, _), _)| !sum.is_nan());
                    for ((sum, &id), walk) in left {
                        if !means_in(block.documents, block.ranges, node, id, walk) {
                            *sum = f64::NAN;
                        }
                    }
                }
                sums.iter_mut().for_each(|sum| *sum *= weight);
                sums
            }
            ScoreNode::Or { weight, parts } => {
                let mut sums = vec![f64::NAN; count];
                for part in parts {
                    let own = part.scores(tree, block, false, walks);
                    sums.iter_mut().zip(own).for_each(|(sum, own)| *sum = tree.joined(*sum, own));
                }
                sums.iter_mut().for_each(|sum| *sum *= weight);
                sums
            }
            ScoreNode::Optional(part) => {
                let own = part.scores(tree, block, false, walks);
                own.into_iter()
                    .map(|score| if score.is_nan() { tree.of_other(0.0, 1) } else { score })
                    .collect()
            }
            ScoreNode::All { weight } => block.norms.iter().map(|&norm| tree.of_all(*weight, norm)).collect(),
            ScoreNode::Other { weight, frequency, node } => {
                let score = tree.of_other(*weight, *frequency);
                let is_met = |id: u32, walk: &mut TextWalk| {
                    is_sure || means_in(block.documents, block.ranges, node, id, walk)
                };
                let walks = block.ids.iter().zip(walks);
                walks.map(|(&id, walk)| if is_met(id, walk) { score } else { f64::NAN }).collect()
            }
        }
    }
}

/// The scores of the first of these terms that each document has; NaN for one that has none.
fn first_scores(tree: &ScoreTree, block: &ScoredBlock<'_>, weight: f64, terms: &[TermScore]) -> Vec<f64> {
    let count = block.ids.len();
    let (mut scores, mut left) = (vec![f64::NAN; count], count);
    let mut counting = Counting::new(count);
    for term in terms {
        term.each_frequency(block, &mut counting, |at, frequency| {
            if scores[at].is_nan() {
                scores[at] = weight * tree.of_term(term, frequency, block.norms[at]);
                left -= usize::from(!scores[at].is_nan());
            }
        });
        if left == 0 {
            break;
        }
    }
    scores
}

impl ScoreTree {
    /// The score of two parts of a union; NaN for a part that is not there.
    pub fn joined(&self, sum: f64, own: f64) -> f64 {
        match (sum.is_nan(), own.is_nan()) {
            (true, _) => own,
            (_, true) => sum,
            _ if self.scorer == Scorer::DisMax => sum.max(own),
            _ => sum + own,
        }
    }

    /// A block of one document.
    pub fn block_of<'b>(
        &self,
        documents: &'b Documents,
        ranges: &'b Ranges,
        ids: &'b [u32],
    ) -> ScoredBlock<'b> {
        ScoredBlock::new(documents, ranges, ids, self.statistics)
    }
}

/// The scores of an intersection. If its words may be in any order, RediSearch reads rare parts first.
fn intersection(
    evaluation: &Evaluation<'_>,
    nodes: &[Node],
    (weight, in_order): (f64, bool),
    check: Option<Node>,
) -> Result<ScoreNode, Late> {
    let mut found = Vec::with_capacity(nodes.len());
    for (place, node) in nodes.iter().enumerate() {
        found.extend(ScoreNode::of(evaluation, node, 1.0)?.map(|part| (place, part)));
    }
    if !in_order {
        let all = evaluation.documents().read().len() as u64;
        found.sort_by_cached_key(|(_, part)| part.expected(all));
    }
    let (order, parts) = found.into_iter().unzip();
    Ok(ScoreNode::And { weight, parts, order, check })
}

fn parts<'n>(
    evaluation: &Evaluation<'_>,
    nodes: impl Iterator<Item = &'n Node>,
) -> Result<Vec<ScoreNode>, Late> {
    let mut parts = Vec::new();
    for node in nodes {
        parts.extend(ScoreNode::of(evaluation, node, 1.0)?);
    }
    Ok(parts)
}

/// The terms of a pattern, in order.
fn expanded(
    evaluation: &Evaluation<'_>,
    fields: &Arc<[usize]>,
    pattern: &Pattern,
) -> Result<Vec<TermScore>, Late> {
    let mut found: Vec<Vec<u8>> = Vec::new();
    if let Pattern::Fuzzy(word, most) = pattern {
        let fuzzy = Fuzzy::new(word, *most);
        let mut walk = fuzzy.walk();
        evaluation.in_steps(|documents, work| {
            let texts = documents.texts();
            let is_end = walk.step(texts, work, |number| {
                let posting = texts.posting(number);
                if posting.places().iter().any(|place| place.is_in(fields)) {
                    found.push(texts.term(number).to_vec());
                }
                0
            });
            is_end || found.len() >= EXPANDED_MAX
        })?;
    } else if let Some(terms) = evaluation.containing(None, pattern)? {
        let mut terms = terms.into_iter();
        evaluation.in_steps(|documents, work| {
            for term in terms.by_ref() {
                let posting = documents.texts().get(&term);
                if posting.is_some_and(|posting| posting.places().iter().any(|place| place.is_in(fields))) {
                    found.push(term.to_vec());
                }
                *work -= 1;
                if *work == 0 || found.len() >= EXPANDED_MAX {
                    return found.len() >= EXPANDED_MAX;
                }
            }
            true
        })?;
    } else {
        let prefix: &[u8] = if let Pattern::Prefix(prefix) = pattern { prefix } else { b"" };
        let mut after = None;
        evaluation.in_steps(|documents, work| {
            let each = |term: &[u8], posting: &TextPosting| {
                if pattern.matches(term) && posting.places().iter().any(|place| place.is_in(fields)) {
                    found.push(term.to_vec());
                }
                found.len() < EXPANDED_MAX
            };
            let is_end = documents.texts().walk(&mut after, prefix, (pattern.weight(), each), work);
            is_end || found.len() >= EXPANDED_MAX
        })?;
    }
    found.truncate(EXPANDED_MAX);
    let mut scores = Vec::with_capacity(found.len());
    for term in found {
        scores.extend(TermScore::find(evaluation, &term, TermSource::Text(fields.clone()), 1.0)?);
    }
    Ok(scores)
}
