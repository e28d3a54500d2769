//! How far apart the parts of a query are in a document: TFIDF and BM25 divide scores by it.
//!
//! RediSearch looks at the parts of the outermost intersection, union or phrase that the document has, in the
//! order in which it reads them. The places of a part are those of its words in all fields, also where the
//! part names some; of a pattern, those of the first of its terms. A part without words has no places.
//!
//! A composite part without words (`@c:{a|b}`) has a place behind all others in RediSearch, so that the score
//! depends on how early in its text the document has the next part. Here it counts as other parts without
//! words do.

use super::filter::{Ranges, means_in};
use super::leaves::{Leaves, Occurrence, Places};
use super::proximity::divisor;
use super::score::ScoreNode;
use super::walk::TextWalk;
use crate::documents::Documents;
use crate::documents::texts::TextPostings;
use crate::query::{Node, Pattern, TextMatch};

/// The most places of composite parts that are gathered for a document. It bounds the time under a lock; what
/// is beyond counts as without words.
const GATHERED_MAX: usize = 1 << 22;

/// The parts of a query whose distance counts, prepared to find their words in documents.
pub struct WordDistance<'n> {
    parts: Vec<Part<'n>>,
    leaves: Leaves<'n>,
}

enum Part<'n> {
    /// All occurrences of a term, or of the first term of a pattern.
    Leaf(usize),
    And(&'n Node, Vec<Part<'n>>),
    Or(Vec<Part<'n>>),
    Optional(Box<Part<'n>>),
    /// Without words.
    Other(&'n Node),
}

/// The parts of a query whose distance counts, in RediSearch's order; `None` if the query has only one.
pub fn parts_in_order(node: &Node, scored: &ScoreNode) -> Option<Vec<Node>> {
    match (node.bare(), scored) {
        (Node::And(nodes), ScoreNode::And { order, .. }) => {
            Some(order.iter().map(|&place| nodes[place].clone()).collect())
        }
        (Node::Or(nodes), ScoreNode::Or { .. }) => Some(nodes.clone()),
        // All parts but one are words that no document has.
        (Node::Or(nodes), scored) => nodes.iter().find_map(|node| parts_in_order(node, scored)),
        (Node::Optional(node), ScoreNode::Optional(scored)) => parts_in_order(node, scored),
        (Node::Text { fields, text: TextMatch::Phrase(terms) }, ScoreNode::And { .. }) => {
            let term = |term: &Vec<u8>| Node::Text {
                fields: fields.clone(),
                text: TextMatch::Term(Pattern::Exact(term.clone())),
            };
            Some(terms.iter().map(term).collect())
        }
        _ => None,
    }
}

impl<'n> WordDistance<'n> {
    pub fn new(documents: &Documents, nodes: &'n [Node]) -> WordDistance<'n> {
        let mut distance = WordDistance { parts: Vec::new(), leaves: Leaves::default() };
        // Less than two parts with words have no distance, and the words need not be read.
        if documents.has_no_offsets() || nodes.iter().filter(|node| node.has_text()).count() < 2 {
            distance.parts = nodes.iter().map(Part::Other).collect();
        } else {
            distance.parts = nodes.iter().map(|node| distance.part(documents.texts(), node)).collect();
        }
        distance
    }

    fn part(&mut self, texts: &TextPostings, node: &'n Node) -> Part<'n> {
        match node.bare() {
            Node::And(nodes) => Part::And(node, nodes.iter().map(|node| self.part(texts, node)).collect()),
            Node::Or(nodes) => Part::Or(nodes.iter().map(|node| self.part(texts, node)).collect()),
            Node::Optional(node) => Part::Optional(Box::new(self.part(texts, node))),
            Node::Text { fields, text: TextMatch::Phrase(terms) } => {
                let leaf = |term: &'n Vec<u8>| Part::Leaf(self.leaves.term(texts, fields, term));
                Part::And(node, terms.iter().map(leaf).collect())
            }
            Node::Text { fields, text } => {
                let leaf = self.leaves.word(texts, fields, text);
                Part::Leaf(leaf.expect("a text that is no phrase is a word or a pattern"))
            }
            _ => Part::Other(node),
        }
    }

    /// What the score of a document is divided by. Adds to `walk` the number of its words that were read.
    pub fn divisor(&mut self, documents: &Documents, ranges: &Ranges, id: u32, walk: &mut TextWalk) -> u32 {
        if walk.is_over() {
            return 1;
        }
        let by_leaf = if self.leaves.len() == 0 { Vec::new() } else { self.by_leaf(documents, id, walk) };
        let mut gathered = (0, walk);
        let mut at = |part: &Part<'_>| places(part, &by_leaf, (documents, ranges, id), &mut gathered);
        let there: Vec<Places> = self.parts.iter().filter_map(&mut at).collect();
        let (gathered, walk) = gathered;
        walk.walked += gathered;
        divisor(&there, walk)
    }

    /// The places of each leaf; none for a leaf that the document has not.
    fn by_leaf(&mut self, documents: &Documents, id: u32, walk: &mut TextWalk) -> Vec<Places> {
        let mut by_leaf: Vec<Vec<Occurrence>> = Vec::new();
        by_leaf.resize_with(self.leaves.len(), Vec::new);
        self.leaves.find_in(documents, id, walk, |leaf, found| by_leaf[leaf].push(found));
        let of_leaf = |(leaf, found): (usize, Vec<Occurrence>)| {
            let word = self.leaves.is_pattern(leaf).then_some(documents.texts());
            all_places(found, word)
        };
        by_leaf.into_iter().enumerate().map(of_leaf).collect()
    }
}

/// The places of a leaf in all fields, if one of them is in a field of the leaf; of a pattern, for which the
/// terms are given, those of the first of its words.
fn all_places(found: Vec<Occurrence>, pattern_in: Option<&TextPostings>) -> Places {
    let own = found.iter().filter(|occurrence| occurrence.is_in_field);
    let Some(first) = own.min_by_key(|occurrence| pattern_in.map(|texts| texts.term(occurrence.number)))
    else {
        return Places::default();
    };
    let is_of_it = |occurrence: &&Occurrence| pattern_in.is_none() || occurrence.number == first.number;
    Places::new(found.iter().filter(is_of_it).map(|occurrence| occurrence.place).collect())
}

/// The places of a part in a document; `None` if the document has it not.
fn places(
    part: &Part<'_>,
    by_leaf: &[Places],
    (documents, ranges, id): (&Documents, &Ranges, u32),
    gathered: &mut (usize, &mut TextWalk),
) -> Option<Places> {
    gathered.1.walked += 1;
    let mut of = |part: &Part<'_>| places(part, by_leaf, (documents, ranges, id), gathered);
    match part {
        Part::Leaf(leaf) => Some(by_leaf[*leaf].clone()).filter(|places| !places.is_empty()),
        Part::Optional(part) => Some(of(part).unwrap_or_default()),
        Part::Other(node) => means_in(documents, ranges, node, id, gathered.1).then(Places::default),
        Part::And(node, parts) => {
            let all: Vec<Places> = parts.iter().map(of).collect::<Option<_>>()?;
            // Its words may have to be near to each other.
            let is_plain = matches!(node, Node::And(_));
            (is_plain || means_in(documents, ranges, node, id, gathered.1))
                .then(|| merged(all, &mut gathered.0))
        }
        Part::Or(parts) => {
            let some: Vec<Places> = parts.iter().filter_map(of).collect();
            (!some.is_empty()).then(|| merged(some, &mut gathered.0))
        }
    }
}

fn merged(mut lists: Vec<Places>, gathered: &mut usize) -> Places {
    if lists.len() == 1 {
        return lists.remove(0);
    }
    *gathered = gathered.saturating_add(lists.iter().map(|places| places.len()).sum());
    if *gathered > GATHERED_MAX {
        return Places::default();
    }
    let mut all: Vec<u32> = lists.iter().flat_map(|places| places.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    Places::new(all)
}
