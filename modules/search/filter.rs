//! Filters: from a query's tree to the set of documents that it means.

use crate::documents::{Documents, Value};
use crate::index::Index;
use crate::postings::TermPostings;
use crate::query::{Node, Pattern, TextMatch, VectorRange};
use crate::vectors::Question;
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;
use std::collections::HashMap;

/// What the vector ranges of a query matched; found before the documents are locked, for that may take long.
#[derive(Default)]
pub struct Ranges<'q> {
    matched: Vec<(&'q VectorRange, Matched)>,
    /// The time ran out before all matches were found.
    pub timed_out: bool,
}

pub struct Matched {
    documents: RoaringBitmap,
    distances: HashMap<u32, f64>,
}

impl<'q> Ranges<'q> {
    /// Searches for all vector ranges in the tree.
    pub fn find(index: &Index, tree: &'q Node, id_bound: u32, is_late: &dyn Fn() -> bool) -> Ranges<'q> {
        let mut found = Ranges::default();
        tree.ranges(&mut |range| {
            let field = index.vectors[range.field].as_ref().expect("the parser checked the field's type");
            let question = Question { query: &range.vector, filter: None, id_bound, is_late };
            let epsilon = range.epsilon.unwrap_or(field.options().epsilon as f32);
            let rows = field.within(&question, range.radius, epsilon);
            found.timed_out |= rows.timed_out;
            found.matched.push((range, Matched::new(&rows.neighbors)));
        });
        found
    }

    fn of(&self, range: &VectorRange) -> Option<&Matched> {
        self.matched.iter().find(|(other, _)| std::ptr::eq(*other, range)).map(|(_, matched)| matched)
    }

    /// The same of `documents`, where the n-th document is the one that was `ids[n]`.
    pub fn renumbered(&self, documents: &Documents, ids: &[u32]) -> Ranges<'q> {
        let of_range = |(range, matched): &(&'q VectorRange, Matched)| {
            let distance = |(id, old): (u32, &u32)| {
                let is_there = !documents.missing(range.field).contains(id);
                matched.distances.get(old).filter(|_| is_there).map(|&distance| (id, distance))
            };
            let distances: HashMap<u32, f64> = (0..).zip(ids).filter_map(distance).collect();
            (*range, Matched { documents: distances.keys().copied().collect(), distances })
        };
        Ranges { matched: self.matched.iter().map(of_range).collect(), timed_out: self.timed_out }
    }

    /// What each range that has a name for it says of a document's distance.
    pub fn distances(&self, id: u32) -> impl Iterator<Item = (&'q VectorRange, f64)> {
        self.matched.iter().filter_map(move |(range, matched)| Some((*range, *matched.distances.get(&id)?)))
    }
}

impl Matched {
    fn new(rows: &[Neighbor]) -> Matched {
        Matched {
            documents: rows.iter().map(|row| row.id).collect(),
            distances: rows.iter().map(|row| (row.id, row.distance)).collect(),
        }
    }
}

/// The documents that a tree means.
pub fn evaluate(documents: &Documents, ranges: &Ranges<'_>, node: &Node) -> RoaringBitmap {
    match node {
        Node::All | Node::Optional(_) => documents.live().clone(),
        Node::Nothing => RoaringBitmap::new(),
        Node::And(nodes) => all_of(documents, ranges, nodes),
        Node::Or(nodes) => {
            let mut union = RoaringBitmap::new();
            nodes.iter().for_each(|node| union |= evaluate(documents, ranges, node));
            union
        }
        Node::Not(node) => documents.live() - evaluate(documents, ranges, node),
        Node::Tag { field, pattern } => {
            documents.terms(*field).map(|terms| with_pattern(terms, pattern)).unwrap_or_default()
        }
        Node::Number { field, least, most } => {
            documents.numbers(*field).map(|numbers| numbers.between(*least, *most)).unwrap_or_default()
        }
        Node::Text { fields, text } => {
            let mut union = RoaringBitmap::new();
            fields.iter().for_each(|&field| union |= with_text(documents, field, text));
            union
        }
        Node::Missing(field) => documents.missing(*field).clone(),
        Node::Range(range) => ranges.of(range).map(|matched| matched.documents.clone()).unwrap_or_default(),
        Node::Open(_) => unreachable!("a query has values for its parameters"),
    }
}

/// Intersects; what is negated is taken away at the end, so that it is never turned into everything else.
fn all_of(documents: &Documents, ranges: &Ranges<'_>, nodes: &[Node]) -> RoaringBitmap {
    let mut found: Option<RoaringBitmap> = None;
    for node in nodes.iter().filter(|node| !matches!(node, Node::All | Node::Optional(_) | Node::Not(_))) {
        let matches = evaluate(documents, ranges, node);
        found = Some(match found {
            Some(found) => found & matches,
            None => matches,
        });
        if found.as_ref().is_some_and(RoaringBitmap::is_empty) {
            return RoaringBitmap::new();
        }
    }
    let mut found = found.unwrap_or_else(|| documents.live().clone());
    for node in nodes {
        if let Node::Not(inner) = node {
            found -= evaluate(documents, ranges, inner);
        }
    }
    found
}

fn with_pattern(terms: &TermPostings, pattern: &Pattern) -> RoaringBitmap {
    match pattern {
        Pattern::Exact(term) => terms.get(term).cloned().unwrap_or_default(),
        Pattern::Prefix(prefix) => terms.with_prefix(prefix),
        Pattern::Suffix(suffix) => terms.matching(|term| term.ends_with(suffix)),
        Pattern::Infix(infix) => terms.matching(|term| contains(term, infix)),
        Pattern::Wildcard(wildcard) => terms.matching(|term| matches_wildcard(wildcard, term)),
    }
}

fn contains(term: &[u8], part: &[u8]) -> bool {
    part.is_empty() || term.windows(part.len()).any(|window| window == part)
}

/// `?` for one byte, `*` for any number; no worse than the product of the lengths.
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

fn with_text(documents: &Documents, field: usize, text: &TextMatch) -> RoaringBitmap {
    let Some(terms) = documents.terms(field) else { return RoaringBitmap::new() };
    let phrase = match text {
        TextMatch::Term(pattern) => return with_pattern(terms, pattern),
        TextMatch::Phrase(phrase) => phrase,
    };
    let Some(numbers) = phrase.iter().map(|term| terms.number(term)).collect::<Option<Vec<u32>>>() else {
        return RoaringBitmap::new();
    };
    let mut found: Option<RoaringBitmap> = None;
    for matches in phrase.iter().filter_map(|term| terms.get(term)) {
        found = Some(found.map_or_else(|| matches.clone(), |found| found & matches));
    }
    let has_phrase = |&id: &u32| match documents.value(id, field) {
        Value::Terms(terms) => terms.windows(numbers.len()).any(|window| window == numbers),
        _ => false,
    };
    let found = found.unwrap_or_default();
    if numbers.len() == 1 { found } else { found.into_iter().filter(has_phrase).collect() }
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
