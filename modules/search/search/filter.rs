//! Filters: evaluates a query's tree to the set of documents that match it.
//!
//! A set is computed while documents change: no step locks them for long, so that no writer waits for a
//! filter. The result is right for each document that has not changed since the first step, because its
//! postings have not changed either. The changed documents are checked one by one afterwards (`means`).

use crate::documents::ids;
use crate::documents::postings::{NumberWalk, TermWalk, is_between};
use crate::documents::{Documents, TEXT_END};
use crate::index::Index;
use crate::query::{Node, Pattern, TextMatch, VectorRange};
use crate::vectors::Question;
use engramdb_engine::hashing::HashMap;
use engramdb_vector::Neighbor;
use parking_lot::RwLock;
use roaring::RoaringBitmap;
use std::cell::Cell;
use std::slice;
use std::sync::Arc;

/// The time limit passed before a filter was evaluated.
#[derive(Debug)]
pub struct Late;

/// Units of work under one lock of the documents, and between two reads of the clock. One unit compares about
/// one short term; this many take about a tenth of a millisecond.
const HOLD_WORK: usize = 1024;
/// Documents of a set that are merged with another set for one unit of work.
const MERGED_PER_WORK: usize = 4096;
/// Bytes of a wildcard pattern that add one unit of work per term: in the worst case each is compared with
/// each byte of the term.
const WILDCARD_PER_WEIGHT: usize = 16;
/// Terms of a text that are compared for one unit of work.
const COMPARED_PER_WORK: usize = 16;

/// The matches of a query's vector ranges. They are found without the lock of the documents, because that may
/// take long.
#[derive(Default)]
pub struct Ranges {
    matched: Vec<Matched>,
    /// The time ran out before all matches were found.
    pub timed_out: bool,
}

struct Matched {
    range: VectorRange,
    documents: RoaringBitmap,
    distances: HashMap<u32, f64>,
}

impl Ranges {
    /// Searches all vector ranges of the tree, in documents of this version and below this id.
    pub fn find(
        index: &Index,
        tree: &Node,
        (version, id_bound): (u64, u32),
        is_late: &dyn Fn() -> bool,
    ) -> Ranges {
        let mut found = Ranges::default();
        tree.ranges_by_place(false, &mut |range, exact| {
            let field = index.vectors[range.field].as_ref().expect("the parser checked the field's type");
            let question = Question { query: &range.vector, filter: None, id_bound, is_late };
            let epsilon = range.epsilon.unwrap_or(field.options().epsilon as f32);
            let rows = field.within(&question, range.radius, epsilon, exact);
            found.timed_out |= rows.timed_out;
            found.matched.push(Matched::new(range, &index.documents_of(version, rows.neighbors)));
        });
        found
    }

    /// The vector ranges of the tree, without matches yet.
    pub fn unmatched(tree: &Node) -> Ranges {
        let mut found = Ranges::default();
        tree.ranges(&mut |range| found.matched.push(Matched::new(range, &[])));
        found
    }

    /// Replaces what is known of a document. `distance` returns its distance from a range's vector now,
    /// `None` if it has no vector.
    pub fn note(&mut self, id: u32, distance: impl Fn(&VectorRange) -> Option<f64>) {
        for matched in &mut self.matched {
            match distance(&matched.range).filter(|&distance| distance <= matched.range.radius) {
                Some(distance) => {
                    matched.documents.insert(id);
                    matched.distances.insert(id, distance);
                }
                None => {
                    matched.documents.remove(id);
                    matched.distances.remove(&id);
                }
            }
        }
    }

    /// The matches of a range. Equal ranges share them.
    fn of(&self, range: &VectorRange) -> Option<&RoaringBitmap> {
        self.matched.iter().find(|matched| matched.range == *range).map(|matched| &matched.documents)
    }

    /// The names and distances that the ranges of a tree give to a document that matches it: those of ranges
    /// with a name for the distance, in the parts of the tree that match.
    pub fn distances(&self, documents: &Documents, tree: &Node, id: u32) -> Vec<(Arc<[u8]>, f64)> {
        let mut found = Vec::new();
        if tree.has_optional_range() {
            self.gather(documents, tree, id, &mut found);
        } else {
            found.extend(self.matched.iter().filter_map(|matched| matched.distance(id)));
        }
        found
    }

    /// Adds the distances that the node gives to the document if it matches. Returns whether it does.
    fn gather(&self, documents: &Documents, node: &Node, id: u32, found: &mut Vec<(Arc<[u8]>, f64)>) -> bool {
        let before = found.len();
        let mut part = |node: &Node| self.gather(documents, node, id, found);
        let is_meant = match node {
            Node::And(nodes) => nodes.iter().all(part),
            // Each part is evaluated, also after one that matches, because each may add a distance.
            Node::Or(nodes) => nodes.iter().filter(|node| part(node)).count() > 0,
            Node::Optional(node) => {
                part(node);
                true
            }
            Node::Range(range) => {
                let matched = self.matched.iter().find(|matched| matched.range == *range);
                found.extend(matched.and_then(|matched| matched.distance(id)));
                matched.is_some_and(|matched| matched.documents.contains(id))
            }
            node => means(documents, self, node, id),
        };
        if !is_meant {
            found.truncate(before);
        }
        is_meant
    }
}

impl Matched {
    fn new(range: &VectorRange, rows: &[Neighbor]) -> Matched {
        Matched {
            range: range.clone(),
            documents: ids::bitmap_of(rows.iter().map(|row| row.id).collect()),
            distances: rows.iter().map(|row| (row.id, row.distance)).collect(),
        }
    }

    /// The range's name for the distance, and a document's distance; `None` if either is missing.
    fn distance(&self, id: u32) -> Option<(Arc<[u8]>, f64)> {
        Some((self.range.alias.clone()?, *self.distances.get(&id)?))
    }
}

/// The evaluation of trees to the sets of documents that match them.
pub struct Evaluation<'e> {
    documents: &'e RwLock<Documents>,
    ranges: &'e Ranges,
    is_late: &'e dyn Fn() -> bool,
    /// Units of work since the clock was last read.
    done: Cell<usize>,
}

impl<'e> Evaluation<'e> {
    pub fn new(
        documents: &'e RwLock<Documents>,
        ranges: &'e Ranges,
        is_late: &'e dyn Fn() -> bool,
    ) -> Evaluation<'e> {
        Evaluation { documents, ranges, is_late, done: Cell::new(0) }
    }

    /// The documents that match a tree.
    pub fn matches(&self, node: &Node) -> Result<RoaringBitmap, Late> {
        if let Some(set) = self.stored(&self.documents.read(), node) {
            return Ok(set.cloned().unwrap_or_default());
        }
        match node {
            Node::And(nodes) => self.all_of(nodes),
            Node::Or(nodes) => self.any_of(nodes),
            Node::Not(_) => self.all_of(slice::from_ref(node)),
            Node::Tag { field, pattern } => self.with_pattern(*field, pattern),
            Node::Text { fields, text } => self.with_text(fields, text),
            Node::Number { field, least, most } => {
                let mut walk = NumberWalk::default();
                self.in_steps(|documents, work| {
                    let numbers = documents.numbers(*field);
                    numbers.is_none_or(|numbers| numbers.step(&mut walk, (*least, *most), work))
                })?;
                Ok(ids::bitmap_of(walk.documents))
            }
            _ => unreachable!("the sets of all other nodes are stored"),
        }
    }

    /// The set of a node that is stored, like that of one term, and needs no computation. `Some(None)` is an
    /// empty set.
    #[allow(clippy::option_option, reason = "a set that is known to be empty is a known set")]
    fn stored<'a>(&'a self, documents: &'a Documents, node: &Node) -> Option<Option<&'a RoaringBitmap>> {
        let of_term = |field: usize, term: &[u8]| documents.terms(field).and_then(|terms| terms.get(term));
        match node {
            Node::All | Node::Optional(_) => Some(Some(documents.live())),
            Node::Nothing => Some(None),
            Node::Tag { field, pattern: Pattern::Exact(term) } => Some(of_term(*field, term)),
            Node::Text { fields, text: TextMatch::Term(Pattern::Exact(term)) } => match fields[..] {
                [field] => Some(of_term(field, term)),
                _ => None,
            },
            Node::Missing(field) => Some(Some(documents.missing(*field))),
            Node::Range(range) => Some(self.ranges.of(range)),
            Node::Open(_) => unreachable!("a query has values for its parameters"),
            _ => None,
        }
    }

    /// Merges a node's set into what was found, as `join` does it.
    fn join(
        &self,
        found: &mut RoaringBitmap,
        node: &Node,
        join: impl Fn(&mut RoaringBitmap, &RoaringBitmap),
    ) -> Result<(), Late> {
        let joined = self.stored(&self.documents.read(), node).map(|set| match set {
            Some(set) => join(found, set),
            None => join(found, &RoaringBitmap::new()),
        });
        if joined.is_none() {
            join(found, &self.matches(node)?);
        }
        self.worked(1 + found.len() as usize / MERGED_PER_WORK)
    }

    fn any_of(&self, nodes: &[Node]) -> Result<RoaringBitmap, Late> {
        let mut found = RoaringBitmap::new();
        nodes.iter().try_for_each(|node| self.join(&mut found, node, |found, set| *found |= set))?;
        Ok(found)
    }

    /// The intersection. The sets of negated parts are subtracted at the end, so that their complements are
    /// never computed.
    fn all_of(&self, nodes: &[Node]) -> Result<RoaringBitmap, Late> {
        let is_negated = |node: &&Node| matches!(node, Node::Not(_));
        let mut positive = nodes.iter().filter(|node| !is_negated(node) && !means_all(node));
        let mut found = self.matches(positive.next().unwrap_or(&Node::All))?;
        for node in positive {
            if found.is_empty() {
                return Ok(found);
            }
            self.join(&mut found, node, |found, set| *found &= set)?;
        }
        for node in nodes {
            if let Node::Not(inner) = node {
                self.join(&mut found, inner, |found, set| *found -= set)?;
            }
        }
        Ok(found)
    }

    fn with_pattern(&self, field: usize, pattern: &Pattern) -> Result<RoaringBitmap, Late> {
        let prefix: &[u8] = match pattern {
            Pattern::Exact(term) => {
                let documents = self.documents.read();
                let found = documents.terms(field).and_then(|terms| terms.get(term));
                return Ok(found.cloned().unwrap_or_default());
            }
            Pattern::Prefix(prefix) => prefix,
            _ => b"",
        };
        let mut walk = TermWalk::default();
        self.in_steps(|documents, work| {
            let matches = |term: &[u8]| pattern.matches(term);
            let terms = documents.terms(field);
            terms.is_none_or(|terms| terms.step(&mut walk, prefix, (pattern.weight(), matches), work))
        })?;
        Ok(walk.documents)
    }

    fn with_text(&self, fields: &[usize], text: &TextMatch) -> Result<RoaringBitmap, Late> {
        let mut found = RoaringBitmap::new();
        for &field in fields {
            found |= match text {
                TextMatch::Term(pattern) => self.with_pattern(field, pattern)?,
                TextMatch::Phrase(phrase) => self.with_phrase(field, phrase)?,
            };
        }
        Ok(found)
    }

    /// The documents with these terms next to each other. The terms' numbers are read once: those of
    /// unchanged documents stay the same.
    fn with_phrase(&self, field: usize, phrase: &[Vec<u8>]) -> Result<RoaringBitmap, Late> {
        let Some(numbers) = numbers_of(&self.documents.read(), field, phrase) else {
            return Ok(RoaringBitmap::new());
        };
        let tag = |term: &Vec<u8>| Node::Tag { field, pattern: Pattern::Exact(term.clone()) };
        let with_all = self.all_of(&phrase.iter().map(tag).collect::<Vec<_>>())?;
        if numbers.len() == 1 {
            return Ok(with_all);
        }
        let mut left = with_all.into_iter();
        let mut found = Vec::new();
        self.in_steps(|documents, work| {
            for id in left.by_ref() {
                let terms = documents.value(id, field).terms();
                if has_phrase(terms, &numbers) {
                    found.push(id);
                }
                let cost = 1 + terms.len() / COMPARED_PER_WORK;
                *work = work.saturating_sub(cost);
                if *work == 0 {
                    return false;
                }
            }
            true
        })?;
        Ok(ids::bitmap_of(found))
    }

    /// Repeats a step until it returns true, the end. Each call has a lock of the documents of its own, and
    /// the units of work that it may do, which it counts down.
    pub fn in_steps(&self, mut step: impl FnMut(&Documents, &mut usize) -> bool) -> Result<(), Late> {
        loop {
            let mut left = HOLD_WORK;
            let is_end = step(&self.documents.read(), &mut left);
            self.worked(HOLD_WORK - left)?;
            if is_end {
                return Ok(());
            }
        }
    }

    fn worked(&self, work: usize) -> Result<(), Late> {
        let done = self.done.get() + work;
        self.done.set(if done < HOLD_WORK { done } else { 0 });
        if done >= HOLD_WORK && (self.is_late)() { Err(Late) } else { Ok(()) }
    }
}

fn means_all(node: &Node) -> bool {
    matches!(node, Node::All | Node::Optional(_))
}

/// Whether this one document, which is live, matches a tree.
pub fn means(documents: &Documents, ranges: &Ranges, node: &Node, id: u32) -> bool {
    let is_meant = |node: &Node| means(documents, ranges, node, id);
    match node {
        Node::All | Node::Optional(_) => true,
        Node::Nothing => false,
        Node::And(nodes) => nodes.iter().all(is_meant),
        Node::Or(nodes) => nodes.iter().any(is_meant),
        Node::Not(node) => !is_meant(node),
        Node::Tag { field, pattern } => has_term(documents, id, *field, pattern),
        Node::Number { field, least, most } => {
            let numbers = documents.value(id, *field).numbers();
            numbers.iter().any(|&number| is_between(number, *least, *most))
        }
        Node::Text { fields, text: TextMatch::Term(pattern) } => {
            fields.iter().any(|&field| has_term(documents, id, field, pattern))
        }
        Node::Text { fields, text: TextMatch::Phrase(phrase) } => fields.iter().any(|&field| {
            let numbers = numbers_of(documents, field, phrase);
            numbers.is_some_and(|numbers| has_phrase(documents.value(id, field).terms(), &numbers))
        }),
        Node::Missing(field) => documents.missing(*field).contains(id),
        Node::Range(range) => ranges.of(range).is_some_and(|matched| matched.contains(id)),
        Node::Open(_) => unreachable!("a query has values for its parameters"),
    }
}

fn has_term(documents: &Documents, id: u32, field: usize, pattern: &Pattern) -> bool {
    let Some(terms) = documents.terms(field) else { return false };
    let numbers = documents.value(id, field).terms();
    match pattern {
        Pattern::Exact(term) => terms.number(term).is_some_and(|number| numbers.contains(&number)),
        _ => numbers.iter().any(|&number| number != TEXT_END && pattern.matches(terms.term(number))),
    }
}

/// The numbers of a phrase's terms; `None` if there are none, or if no document has one of them.
fn numbers_of(documents: &Documents, field: usize, phrase: &[Vec<u8>]) -> Option<Vec<u32>> {
    let terms = documents.terms(field)?;
    phrase
        .iter()
        .map(|term| terms.number(term))
        .collect::<Option<Vec<u32>>>()
        .filter(|numbers| !numbers.is_empty())
}

fn has_phrase(terms: &[u32], phrase: &[u32]) -> bool {
    !phrase.is_empty() && terms.windows(phrase.len()).any(|window| window == phrase)
}

impl Pattern {
    /// The units of work of one comparison with a term.
    fn weight(&self) -> usize {
        match self {
            Pattern::Wildcard(wildcard) => 1 + wildcard.len() / WILDCARD_PER_WEIGHT,
            _ => 1,
        }
    }

    fn matches(&self, term: &[u8]) -> bool {
        match self {
            Pattern::Exact(whole) => whole == term,
            Pattern::Prefix(prefix) => term.starts_with(prefix),
            Pattern::Suffix(suffix) => term.ends_with(suffix),
            Pattern::Infix(infix) => contains(term, infix),
            Pattern::Wildcard(wildcard) => matches_wildcard(wildcard, term),
        }
    }
}

fn contains(term: &[u8], part: &[u8]) -> bool {
    part.is_empty() || term.windows(part.len()).any(|window| window == part)
}

/// Whether a term matches a pattern: `?` matches one byte, `*` any number. Takes at most time proportional to
/// the product of the lengths.
fn matches_wildcard(wildcard: &[u8], term: &[u8]) -> bool {
    let (mut at, mut in_term, mut star) = (0, 0, None);
    while in_term < term.len() {
        match wildcard.get(at) {
            Some(b'*') => {
                star = Some((at, in_term));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == term[in_term] => {
                at += 1;
                in_term += 1;
            }
            _ => {
                let Some((star_at, eaten)) = star else { return false };
                star = Some((star_at, eaten + 1));
                at = star_at + 1;
                in_term = eaten + 1;
            }
        }
    }
    wildcard[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches_wildcard;

    #[test]
    fn wildcards_match_whole_terms() {
        for (wildcard, term, want) in [
            ("", "", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*", "abc", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a", "ab", false),
            ("**a", "bba", true),
        ] {
            assert_eq!(matches_wildcard(wildcard.as_bytes(), term.as_bytes()), want, "{wildcard} {term}");
        }
    }
}
