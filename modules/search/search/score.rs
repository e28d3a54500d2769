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

use super::filter::{Evaluation, Late, Ranges, means};
use super::fuzzy::Fuzzy;
use super::plan::most_of;
use super::proximity::{Places, Proximity, divisor};
use crate::documents::Documents;
use crate::documents::texts::{TextPosting, each_common, is_stem, shown_term};
use crate::query::attributes::Nearness;
use crate::query::request::QueryOptions;
use crate::query::scorer::Scorer;
use crate::query::{Node, Pattern, TextMatch};
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

    /// A logarithm without its fraction, as RediSearch computes it.
    pub fn idf(self, with_term: u64) -> f64 {
        (1.0 + self.documents as f64 / with_term.max(1) as f64).log2().floor()
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
        Ok(Some(TermScore { term: term.to_vec(), source, weight, idf, idf_std }))
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
    /// The tree of a query, with the statistics of this moment.
    pub fn find(evaluation: &Evaluation<'_>, node: &Node, request: &QueryOptions) -> Result<ScoreTree, Late> {
        let statistics = TextStatistics::of(&evaluation.documents().read());
        let root = ScoreNode::of(evaluation, node, 1.0)?;
        let nearness = if request.scorer.minds_nearness() { near_parts(evaluation, node) } else { None };
        Ok(ScoreTree {
            root: root.unwrap_or(ScoreNode::Or { weight: 1.0, parts: Vec::new() }),
            scorer: request.scorer,
            tanh_factor: request.tanh_factor,
            payload: request.payload.clone(),
            statistics,
            nearness,
        })
    }

    /// The scores of documents that match, whose ids ascend. At most `BLOCK` are meant to be scored at once.
    pub fn scores(&self, documents: &Documents, ranges: &Ranges, ids: &[u32]) -> Vec<f64> {
        self.scores_counted(documents, ranges, ids, &mut 0)
    }

    /// The same. Adds to `walked` the words of documents that were walked over.
    pub fn scores_counted(
        &self,
        documents: &Documents,
        ranges: &Ranges,
        ids: &[u32],
        walked: &mut usize,
    ) -> Vec<f64> {
        match self.scorer {
            Scorer::DocScore => return ids.iter().map(|&id| documents.about(id).score).collect(),
            Scorer::Hamming => return ids.iter().map(|&id| self.hamming(documents, id).1).collect(),
            _ => {}
        }
        let block = ScoredBlock::new(documents, ranges, ids, self.statistics);
        let mut scores = self.root.scores(self, &block, true);
        let mut proximity = self.proximity(documents);
        for (score, &id) in scores.iter_mut().zip(ids) {
            let raw = if score.is_nan() { 0.0 } else { *score };
            let divisor = self.divisor(documents, ranges, id, (proximity.as_mut(), &mut *walked));
            *score = self.whole(documents, id, raw, divisor);
        }
        scores
    }

    /// What finds the places of the parts that should be near to each other.
    pub fn proximity(&self, documents: &Documents) -> Option<Proximity<'_>> {
        let parts = self.nearness.as_ref().filter(|_| !documents.has_no_offsets())?;
        Proximity::of_nodes(documents.texts(), parts, Nearness::ADJACENT)
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

    /// By how much a document's score is divided because its words are far from each other.
    pub fn divisor(
        &self,
        documents: &Documents,
        ranges: &Ranges,
        id: u32,
        (proximity, walked): (Option<&mut Proximity<'_>>, &mut usize),
    ) -> u32 {
        let Some(parts) = &self.nearness else { return 1 };
        let places = match proximity {
            Some(proximity) => proximity.places(documents, ranges, id, walked),
            None => vec![Places::default(); parts.len()],
        };
        // A part without words in the document may match for another reason.
        let there = places
            .into_iter()
            .zip(parts)
            .filter(|(places, part)| !places.is_empty() || means(documents, ranges, part, id));
        divisor(&there.map(|(places, _)| places).collect::<Vec<_>>())
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

/// The parts of a query that should be near to each other in a document: those of its outermost intersection
/// or union, rare ones first.
fn near_parts(evaluation: &Evaluation<'_>, node: &Node) -> Option<Vec<Node>> {
    let documents = evaluation.documents();
    match node.bare() {
        Node::And(nodes) => {
            let mut nodes = nodes.clone();
            nodes.sort_by_cached_key(|node| most_of(&documents.read(), node));
            Some(nodes)
        }
        Node::Or(nodes) => {
            let mut there = nodes.iter().filter(|node| !is_unknown(&documents.read(), node));
            match (there.next(), there.next()) {
                (Some(node), None) => near_parts(evaluation, node),
                _ => Some(nodes.clone()),
            }
        }
        Node::Text { fields, text: TextMatch::Phrase(terms) } => {
            let term = |term: &Vec<u8>| Node::Text {
                fields: fields.clone(),
                text: TextMatch::Term(Pattern::Exact(term.clone())),
            };
            Some(terms.iter().map(term).collect())
        }
        _ => None,
    }
}

/// Whether a node is a term that no document has.
fn is_unknown(documents: &Documents, node: &Node) -> bool {
    match node.bare() {
        Node::Text { text: TextMatch::Term(Pattern::Exact(term)) | TextMatch::Expanded(term), .. } => {
            documents.texts().get(term).is_none()
        }
        Node::Tag { field, pattern: Pattern::Exact(term) } => {
            documents.terms(*field).is_none_or(|terms| terms.get(term).is_none())
        }
        Node::Nothing => true,
        _ => false,
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
                let mut made = ScoreNode::of(evaluation, &with.node, with.attributes.weight())?;
                if let (Some(ScoreNode::And { check, .. }), Some(_)) = (&mut made, with.attributes.nearness())
                {
                    *check = Some(node.clone());
                }
                return Ok(made);
            }
            Node::All => ScoreNode::All { weight },
            Node::Nothing => return Ok(None),
            Node::And(nodes) => {
                let mut nodes: Vec<&Node> = nodes.iter().collect();
                let documents = evaluation.documents();
                nodes.sort_by_cached_key(|node| most_of(&documents.read(), node));
                ScoreNode::And { weight, parts: parts(evaluation, nodes.into_iter())?, check: None }
            }
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
                    ScoreNode::And { weight, parts, check: Some(node.clone()) }
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

    /// The scores of a block's documents; NaN for one that does not match. `is_sure` if all of them do.
    fn scores(&self, tree: &ScoreTree, block: &ScoredBlock<'_>, is_sure: bool) -> Vec<f64> {
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
            ScoreNode::First { weight, terms } => {
                let mut scores = vec![f64::NAN; count];
                for term in terms {
                    for (at, frequency) in term.frequencies(block).into_iter().enumerate() {
                        if frequency > 0 && scores[at].is_nan() {
                            scores[at] = weight * tree.of_term(term, frequency, block.norms[at]);
                        }
                    }
                    if !scores.iter().any(|score| score.is_nan()) {
                        break;
                    }
                }
                scores
            }
            ScoreNode::And { weight, parts, check } => {
                let mut sums = vec![0.0; count];
                for part in parts {
                    let own = part.scores(tree, block, is_sure);
                    sums.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
                }
                if let Some(node) = check.as_ref().filter(|_| !is_sure) {
                    let is_met = |&id: &u32| means(block.documents, block.ranges, node, id);
                    let unmet = block.ids.iter().map(|id| if is_met(id) { 0.0 } else { f64::NAN });
                    sums.iter_mut().zip(unmet).for_each(|(sum, unmet)| *sum += unmet);
                }
                sums.iter_mut().for_each(|sum| *sum *= weight);
                sums
            }
            ScoreNode::Or { weight, parts } => {
                let mut sums = vec![f64::NAN; count];
                for part in parts {
                    let own = part.scores(tree, block, false);
                    sums.iter_mut().zip(own).for_each(|(sum, own)| *sum = tree.joined(*sum, own));
                }
                sums.iter_mut().for_each(|sum| *sum *= weight);
                sums
            }
            ScoreNode::Optional(part) => {
                let own = part.scores(tree, block, false);
                own.into_iter()
                    .map(|score| if score.is_nan() { tree.of_other(0.0, 1) } else { score })
                    .collect()
            }
            ScoreNode::All { weight } => block.norms.iter().map(|&norm| tree.of_all(*weight, norm)).collect(),
            ScoreNode::Other { weight, frequency, node } => {
                let score = tree.of_other(*weight, *frequency);
                let is_met = |id: u32| is_sure || means(block.documents, block.ranges, node, id);
                block.ids.iter().map(|&id| if is_met(id) { score } else { f64::NAN }).collect()
            }
        }
    }
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
