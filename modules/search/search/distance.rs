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
use super::proximity::{Places, add_matching, divisor, of_derived};
use super::score::ScoreNode;
use super::walk::{TextWalk, WORDS_PER_FIELD};
use crate::documents::texts::{TextPostings, is_derived};
use crate::documents::{Documents, TEXT_END};
use crate::query::{Node, Pattern, TextMatch};
use engramdb_engine::hashing::HashMap;

/// The difference between the numbers of two words next to the end of a text. It is RediSearch's.
const TEXT_GAP: u32 = 100;
/// The most places of composite parts that are gathered for a document. It bounds the time under a lock; what
/// is beyond counts as without words.
const GATHERED_MAX: usize = 1 << 22;

/// The parts of a query whose distance counts, prepared to find their words in documents.
///
/// The numbers of terms are looked up once: those of unchanged documents stay the same.
pub struct WordDistance<'n> {
    parts: Vec<Part<'n>>,
    leaves: Vec<Leaf<'n>>,
    /// The leaves that are known, by their fields, kind and text.
    known: HashMap<(&'n [usize], Vec<u8>), usize>,
    /// The leaves that a term is for, by its number.
    by_number: HashMap<u32, Vec<usize>>,
    /// The leaves that a word is for because it matches a pattern, or because of its stem or sound, by the
    /// word's number and the document's language.
    by_word: HashMap<(u32, u8), Vec<usize>>,
    /// The leaves of derived terms, by the term.
    by_derived: HashMap<&'n [u8], Vec<usize>>,
    /// The leaves of patterns.
    patterns: Vec<usize>,
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

struct Leaf<'n> {
    fields: &'n [usize],
    pattern: Option<&'n Pattern>,
    /// Set if the leaf is a derived term.
    derived: Option<&'n [u8]>,
    /// The fields in which a document may have a derived term.
    derived_in: Vec<usize>,
}

/// An occurrence of a word: its number, its place, and whether it is in a field of the leaf.
type Occurrence = (u32, u32, bool);

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
        let mut distance = WordDistance {
            parts: Vec::new(),
            leaves: Vec::new(),
            known: HashMap::default(),
            by_number: HashMap::default(),
            by_word: HashMap::default(),
            by_derived: HashMap::default(),
            patterns: Vec::new(),
        };
        // Less than two parts with words have no distance, and the words need not be read.
        if documents.has_no_offsets() || nodes.iter().filter(|node| has_words(node)).count() < 2 {
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
            Node::Text { fields, text } => match text {
                TextMatch::Term(Pattern::Exact(term)) | TextMatch::Expanded(term) => {
                    Part::Leaf(self.term(texts, fields, term))
                }
                TextMatch::Term(pattern) => Part::Leaf(self.pattern(fields, pattern)),
                TextMatch::Phrase(terms) => {
                    let leaf = |term: &'n Vec<u8>| Part::Leaf(self.term(texts, fields, term));
                    Part::And(node, terms.iter().map(leaf).collect())
                }
            },
            _ => Part::Other(node),
        }
    }

    fn term(&mut self, texts: &TextPostings, fields: &'n [usize], term: &'n [u8]) -> usize {
        let derived = Some(term).filter(|term| is_derived(term));
        let derived_in = derived.and_then(|term| texts.get(term)).map(|posting| {
            let fields = posting.places().iter().map(|place| place.field());
            fields.collect::<Vec<usize>>()
        });
        let leaf = Leaf { fields, pattern: None, derived, derived_in: derived_in.unwrap_or_default() };
        let (leaf, is_new) = self.leaf(b't', term, leaf);
        if is_new
            && derived.is_none()
            && let Some(number) = texts.number(term)
        {
            self.by_number.entry(number).or_default().push(leaf);
        }
        leaf
    }

    fn pattern(&mut self, fields: &'n [usize], pattern: &'n Pattern) -> usize {
        let (kind, text) = match pattern {
            Pattern::Exact(text) => (b'e', text),
            Pattern::Prefix(text) => (b'p', text),
            Pattern::Suffix(text) => (b's', text),
            Pattern::Infix(text) => (b'i', text),
            Pattern::Wildcard(text) => (b'w', text),
            Pattern::Fuzzy(text, most) => (*most, text),
        };
        let leaf = Leaf { fields, pattern: Some(pattern), derived: None, derived_in: Vec::new() };
        self.leaf(kind, text, leaf).0
    }

    /// The number of a leaf, and whether it is new.
    fn leaf(&mut self, kind: u8, text: &[u8], leaf: Leaf<'n>) -> (usize, bool) {
        let next = self.leaves.len();
        let found = *self.known.entry((leaf.fields, [&[kind], text].concat())).or_insert(next);
        if found == next {
            if let Some(derived) = leaf.derived {
                self.by_derived.entry(derived).or_default().push(found);
            }
            self.patterns.extend(leaf.pattern.map(|_| found));
            self.leaves.push(leaf);
        }
        (found, found == next)
    }

    /// What the score of a document is divided by. Adds to `walk` the number of its words that were read.
    pub fn divisor(&mut self, documents: &Documents, ranges: &Ranges, id: u32, walk: &mut TextWalk) -> u32 {
        if walk.is_over() {
            return 1;
        }
        let by_leaf = if self.leaves.is_empty() { Vec::new() } else { self.by_leaf(documents, id, walk) };
        let mut gathered = (0, walk);
        let mut at = |part: &Part<'_>| places(part, &by_leaf, (documents, ranges, id), &mut gathered);
        let there: Vec<Places> = self.parts.iter().filter_map(&mut at).collect();
        let (gathered, walk) = gathered;
        walk.walked += gathered;
        divisor(&there, walk)
    }

    /// The places of each leaf; none for a leaf that the document has not.
    fn by_leaf(&mut self, documents: &Documents, id: u32, walk: &mut TextWalk) -> Vec<Places> {
        let mut found: Vec<Vec<Occurrence>> = vec![Vec::new(); self.leaves.len()];
        let language = documents.about(id).language;
        let mut place = 0u32;
        for field in (0..documents.field_count()).filter(|&field| documents.is_text(field)) {
            let words = documents.words_of(id, field);
            walk.walked += WORDS_PER_FIELD + words.len();
            for &number in words {
                if number == TEXT_END {
                    place = place.saturating_add(TEXT_GAP - 1);
                    continue;
                }
                place = place.saturating_add(1);
                let exact = self.by_number.get(&number);
                let mut put = |leaf: usize| {
                    let leaf_fields = self.leaves[leaf].fields;
                    found[leaf].push((number, place, leaf_fields.binary_search(&field).is_ok()));
                };
                exact.into_iter().flatten().for_each(|&leaf| put(leaf));
                if !self.by_derived.is_empty() || !self.patterns.is_empty() {
                    let key = (number, language.number());
                    if !self.by_word.contains_key(&key) {
                        if walk.is_over() {
                            continue;
                        }
                        let word = documents.texts().term(number);
                        let mut matched = of_derived(&self.by_derived, word, language);
                        let patterns = self.patterns.iter().map(|&leaf| (leaf, self.leaves[leaf].pattern));
                        add_matching(patterns, word, &mut matched, walk);
                        self.by_word.insert(key, matched);
                    }
                    let is_there = |leaf: &&usize| {
                        let leaf = &self.leaves[**leaf];
                        leaf.derived.is_none() || leaf.derived_in.contains(&field)
                    };
                    self.by_word[&key].iter().filter(is_there).for_each(|&leaf| put(leaf));
                }
            }
        }
        let texts = documents.texts();
        found.into_iter().zip(&self.leaves).map(|(found, leaf)| leaf.places(texts, found)).collect()
    }
}

impl Leaf<'_> {
    fn places(&self, texts: &TextPostings, found: Vec<Occurrence>) -> Places {
        let own = found.iter().filter(|(.., is_in_field)| *is_in_field);
        let Some(&(first, ..)) = own.min_by_key(|(number, ..)| self.pattern.map(|_| texts.term(*number)))
        else {
            return Places::default();
        };
        let is_of_it = |(number, ..): &&Occurrence| self.pattern.is_none() || *number == first;
        Places::new(found.iter().filter(is_of_it).map(|(_, place, _)| *place).collect())
    }
}

fn has_words(node: &Node) -> bool {
    match node.bare() {
        Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(has_words),
        Node::Optional(node) => has_words(node),
        Node::Text { .. } => true,
        _ => false,
    }
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
