//! Filters: from a query's tree to the set of documents that it means.

use crate::documents::{Documents, Value};
use crate::ids;
use crate::index::Index;
use crate::postings::TermPostings;
use crate::query::{Node, Pattern, TextMatch, VectorRange};
use crate::vectors::Question;
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;
use std::borrow::Cow;
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

    /// What each range says of a document's distance.
    pub fn distances(&self, id: u32) -> impl Iterator<Item = (&'q VectorRange, f64)> {
        self.matched.iter().filter_map(move |(range, matched)| Some((*range, *matched.distances.get(&id)?)))
    }
}

impl Matched {
    fn new(rows: &[Neighbor]) -> Matched {
        Matched {
            documents: ids::bitmap_of(rows.iter().map(|row| row.id).collect()),
            distances: rows.iter().map(|row| (row.id, row.distance)).collect(),
        }
    }
}

/// The documents that a tree means: borrowed where they stand somewhere already, as those of one term do.
pub fn evaluate<'a>(documents: &'a Documents, ranges: &'a Ranges<'_>, node: &Node) -> Cow<'a, RoaringBitmap> {
    match node {
        Node::All | Node::Optional(_) => Cow::Borrowed(documents.live()),
        Node::Nothing => Cow::Owned(RoaringBitmap::new()),
        Node::And(nodes) => all_of(documents, ranges, nodes),
        Node::Or(nodes) => union(nodes.iter().map(|node| evaluate(documents, ranges, node))),
        Node::Not(node) => Cow::Owned(documents.live() - &*evaluate(documents, ranges, node)),
        Node::Tag { field, pattern } => {
            documents.terms(*field).map(|terms| with_pattern(terms, pattern)).unwrap_or_default()
        }
        Node::Number { field, least, most } => {
            let between = documents.numbers(*field).map(|numbers| numbers.between(*least, *most));
            Cow::Owned(between.unwrap_or_default())
        }
        Node::Text { fields, text } => union(fields.iter().map(|&field| with_text(documents, field, text))),
        Node::Missing(field) => Cow::Borrowed(documents.missing(*field)),
        Node::Range(range) => {
            ranges.of(range).map(|matched| Cow::Borrowed(&matched.documents)).unwrap_or_default()
        }
        Node::Open(_) => unreachable!("a query has values for its parameters"),
    }
}

fn union<'a>(sets: impl IntoIterator<Item = Cow<'a, RoaringBitmap>>) -> Cow<'a, RoaringBitmap> {
    let together = |all: Cow<'a, RoaringBitmap>, set: Cow<'a, RoaringBitmap>| match (all, set) {
        (Cow::Owned(all), set) => all | &*set,
        (all, Cow::Owned(set)) => set | &*all,
        (Cow::Borrowed(all), Cow::Borrowed(set)) => all | set,
    };
    sets.into_iter().reduce(|all, set| Cow::Owned(together(all, set))).unwrap_or_default()
}

fn intersection<'a>(all: Cow<'a, RoaringBitmap>, set: Cow<'a, RoaringBitmap>) -> Cow<'a, RoaringBitmap> {
    Cow::Owned(match (all, set) {
        (Cow::Owned(all), set) => all & &*set,
        (all, Cow::Owned(set)) => set & &*all,
        (Cow::Borrowed(all), Cow::Borrowed(set)) => all & set,
    })
}

/// Intersects; what is negated is taken away at the end, so that it is never turned into everything else.
fn all_of<'a>(documents: &'a Documents, ranges: &'a Ranges<'_>, nodes: &[Node]) -> Cow<'a, RoaringBitmap> {
    let mut found: Option<Cow<'a, RoaringBitmap>> = None;
    for node in nodes.iter().filter(|node| !matches!(node, Node::All | Node::Optional(_) | Node::Not(_))) {
        let matches = evaluate(documents, ranges, node);
        let both = match found {
            Some(found) => intersection(found, matches),
            None => matches,
        };
        if both.is_empty() {
            return both;
        }
        found = Some(both);
    }
    let mut found = found.unwrap_or_else(|| Cow::Borrowed(documents.live()));
    for node in nodes {
        if let Node::Not(inner) = node {
            let without = &*found - &*evaluate(documents, ranges, inner);
            found = Cow::Owned(without);
        }
    }
    found
}

fn with_pattern<'a>(terms: &'a TermPostings, pattern: &Pattern) -> Cow<'a, RoaringBitmap> {
    Cow::Owned(match pattern {
        Pattern::Exact(term) => return terms.get(term).map(Cow::Borrowed).unwrap_or_default(),
        Pattern::Prefix(prefix) => terms.with_prefix(prefix),
        Pattern::Suffix(suffix) => terms.matching(|term| term.ends_with(suffix)),
        Pattern::Infix(infix) => terms.matching(|term| contains(term, infix)),
        Pattern::Wildcard(wildcard) => terms.matching(|term| matches_wildcard(wildcard, term)),
    })
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

fn with_text<'a>(documents: &'a Documents, field: usize, text: &TextMatch) -> Cow<'a, RoaringBitmap> {
    let Some(terms) = documents.terms(field) else { return Cow::default() };
    let phrase = match text {
        TextMatch::Term(pattern) => return with_pattern(terms, pattern),
        TextMatch::Phrase(phrase) => phrase,
    };
    let Some(numbers) = phrase.iter().map(|term| terms.number(term)).collect::<Option<Vec<u32>>>() else {
        return Cow::default();
    };
    let sets = phrase.iter().filter_map(|term| terms.get(term)).map(Cow::Borrowed);
    let found = sets.reduce(intersection).unwrap_or_default();
    let has_phrase = |id: &u32| match documents.value(*id, field) {
        Value::Terms(terms) => terms.windows(numbers.len()).any(|window| window == numbers),
        _ => false,
    };
    if numbers.len() == 1 { found } else { Cow::Owned(found.iter().filter(has_phrase).collect()) }
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
