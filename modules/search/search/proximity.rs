//! Where words are in a document, and whether words are near enough to each other.
//!
//! The words of a document are numbered through all of its TEXT fields in the schema's order, as RediSearch
//! numbers them, so that the last word of one field is next to the first one of the next. Between two texts
//! of one field there is a gap.

use super::filter::{Ranges, means};
use crate::documents::texts::{TextPostings, is_derived, stem_term};
use crate::documents::{Documents, TEXT_END};
use crate::query::attributes::Nearness;
use crate::query::{Node, Pattern, TextMatch};
use engramdb_engine::hashing::HashMap;
use std::collections::BTreeMap;

/// The difference between the numbers of two words next to the end of a text. It is RediSearch's.
const TEXT_GAP: u32 = 100;

/// The parts of an intersection or phrase, prepared to find their words in documents.
///
/// The numbers of terms are looked up once: those of unchanged documents stay the same.
pub struct Proximity<'n> {
    parts: Vec<Part<'n>>,
    leaves: Vec<Leaf<'n>>,
    /// The leaves that a term is for, by its number.
    by_number: HashMap<u32, Vec<usize>>,
    /// The leaves that a word is for because it is matched, or because of its stem, by the word's number and
    /// the document's language.
    by_word: HashMap<(u32, u8), Vec<usize>>,
    nearness: Nearness,
}

/// One of the parts whose words must be near to those of the others.
enum Part<'n> {
    Word(usize),
    Node(&'n Node, Vec<usize>),
}

struct Leaf<'n> {
    fields: &'n [usize],
    pattern: Option<&'n Pattern>,
    /// Set if the leaf is a derived term.
    derived: Option<&'n [u8]>,
}

impl<'n> Proximity<'n> {
    /// The parts of an intersection. `None` if words of fewer than two parts have places.
    pub fn of_nodes(texts: &TextPostings, nodes: &'n [Node], nearness: Nearness) -> Option<Proximity<'n>> {
        let mut proximity = Proximity::new(nearness);
        for node in nodes {
            let first = proximity.leaves.len();
            proximity.add(texts, node);
            proximity.parts.push(Part::Node(node, (first..proximity.leaves.len()).collect()));
        }
        let has_words = |part: &&Part<'_>| !matches!(part, Part::Node(_, own) if own.is_empty());
        (proximity.parts.iter().filter(has_words).count() > 1).then_some(proximity)
    }

    /// The words of a phrase.
    pub fn of_phrase(texts: &TextPostings, fields: &'n [usize], phrase: &'n [Vec<u8>]) -> Proximity<'n> {
        let mut proximity = Proximity::new(Nearness::ADJACENT);
        for term in phrase {
            let leaf = proximity.leaf(texts, fields, Some(term), None);
            proximity.parts.push(Part::Word(leaf));
        }
        proximity
    }

    fn new(nearness: Nearness) -> Proximity<'n> {
        Proximity {
            parts: Vec::new(),
            leaves: Vec::new(),
            by_number: HashMap::default(),
            by_word: HashMap::default(),
            nearness,
        }
    }

    fn leaf(
        &mut self,
        texts: &TextPostings,
        fields: &'n [usize],
        term: Option<&'n Vec<u8>>,
        pattern: Option<&'n Pattern>,
    ) -> usize {
        let derived = term.map(Vec::as_slice).filter(|term| is_derived(term));
        let place = self.leaves.len();
        self.leaves.push(Leaf { fields, pattern, derived });
        if let (Some(term), None) = (term, derived)
            && let Some(number) = texts.number(term)
        {
            self.by_number.entry(number).or_default().push(place);
        }
        place
    }

    /// Adds the leaves of a node whose words have places.
    fn add(&mut self, texts: &TextPostings, node: &'n Node) {
        match node.bare() {
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| self.add(texts, node)),
            Node::Optional(node) => self.add(texts, node),
            Node::Text { fields, text } => match text {
                TextMatch::Term(Pattern::Exact(term)) | TextMatch::Expanded(term) => {
                    self.leaf(texts, fields, Some(term), None);
                }
                TextMatch::Term(pattern) => {
                    self.leaf(texts, fields, None, Some(pattern));
                }
                TextMatch::Phrase(terms) => terms.iter().for_each(|term| {
                    self.leaf(texts, fields, Some(term), None);
                }),
            },
            _ => {}
        }
    }

    /// Whether the words of a document that has them all are near enough to each other. Adds to `cost` the
    /// number of its words.
    pub fn is_met(&mut self, documents: &Documents, ranges: &Ranges, id: u32, cost: &mut usize) -> bool {
        let mut places = self.places(documents, ranges, id, cost);
        places.retain(|places| !places.is_empty());
        is_near(&places, self.nearness)
    }

    /// For each part, the places of its words in the document, ascending.
    pub fn places(
        &mut self,
        documents: &Documents,
        ranges: &Ranges,
        id: u32,
        cost: &mut usize,
    ) -> Vec<Vec<u32>> {
        let mut by_leaf: Vec<Vec<u32>> = vec![Vec::new(); self.leaves.len()];
        let language = documents.about(id).language;
        let mut place = 0;
        for field in 0..documents.field_count() {
            if !documents.is_text(field) {
                continue;
            }
            let words = documents.value(id, field).terms();
            *cost += words.len();
            for &number in words {
                if number == TEXT_END {
                    place += TEXT_GAP - 1;
                    continue;
                }
                place += 1;
                let exact = self.by_number.get(&number);
                exact.into_iter().flatten().for_each(|&leaf| self.put(&mut by_leaf, leaf, field, place));
                if self.leaves.iter().any(|leaf| leaf.pattern.is_some() || leaf.derived.is_some()) {
                    let matched = self.by_word.get(&(number, language.number()));
                    if matched.is_none() {
                        let found = self.matched(documents.texts().term(number), language);
                        self.by_word.insert((number, language.number()), found);
                    }
                    let matched = &self.by_word[&(number, language.number())];
                    matched.iter().for_each(|&leaf| self.put(&mut by_leaf, leaf, field, place));
                }
            }
        }
        let of_part = |part: &Part<'n>| match part {
            Part::Word(leaf) => by_leaf[*leaf].clone(),
            Part::Node(node, own) => {
                let mut merged = Vec::new();
                if !is_composite(node) || means(documents, ranges, node, id) {
                    own.iter().for_each(|&leaf| merged.extend_from_slice(&by_leaf[leaf]));
                }
                merged.sort_unstable();
                merged.dedup();
                merged
            }
        };
        self.parts.iter().map(of_part).collect()
    }

    fn put(&self, by_leaf: &mut [Vec<u32>], leaf: usize, field: usize, place: u32) {
        if self.leaves[leaf].fields.binary_search(&field).is_ok() {
            by_leaf[leaf].push(place);
        }
    }

    /// The leaves that a word is for, beyond those of the word itself.
    fn matched(&self, word: &[u8], language: crate::schema::language::Language) -> Vec<usize> {
        let stem = language.indexed_stem(word).map(|stem| stem_term(&stem));
        let is_meant = |leaf: &Leaf<'_>| {
            leaf.pattern.is_some_and(|pattern| pattern.matches(word))
                || leaf.derived.is_some_and(|derived| stem.as_deref() == Some(derived))
        };
        (0..self.leaves.len()).filter(|&leaf| is_meant(&self.leaves[leaf])).collect()
    }
}

/// Whether a node may be there in a document that has only some of its words.
fn is_composite(node: &Node) -> bool {
    !matches!(node.bare(), Node::Text { .. } | Node::Or(_))
}

/// Whether there are words, one of each list of places, between which at most so many others are; in
/// RediSearch's way, for which two parts may have the same word.
fn is_near(places: &[Vec<u32>], nearness: Nearness) -> bool {
    match places.len() {
        0 | 1 => true,
        _ if nearness.in_order => is_near_in_order(places, nearness.slop),
        _ => is_near_in_any_order(places, nearness.slop),
    }
}

fn is_near_in_order(places: &[Vec<u32>], slop: u32) -> bool {
    let mut at = vec![0; places.len()];
    for &first in &places[0] {
        let (mut last, mut span) = (first, 0i64);
        let mut is_met = true;
        for (part, at) in places.iter().zip(&mut at).skip(1) {
            while part.get(*at).is_some_and(|&place| place < last) {
                *at += 1;
            }
            let Some(&place) = part.get(*at) else { return false };
            span += i64::from(place) - i64::from(last) - 1;
            last = place;
            if span > i64::from(slop) {
                is_met = false;
                break;
            }
        }
        if is_met {
            return true;
        }
    }
    false
}

fn is_near_in_any_order(places: &[Vec<u32>], slop: u32) -> bool {
    // The next place of each part, and its part. The first is the one that goes on.
    let mut next: BTreeMap<(u32, usize), usize> =
        places.iter().enumerate().map(|(part, places)| ((places[0], part), 0)).collect();
    let others = places.len() as i64 - 1;
    while let (Some((&(first, part), &at)), Some((&(last, _), _))) =
        (next.first_key_value(), next.last_key_value())
    {
        if first != last && i64::from(last) - i64::from(first) - others <= i64::from(slop) {
            return true;
        }
        next.pop_first();
        let Some(&place) = places[part].get(at + 1) else { return false };
        next.insert((place, part), at + 1);
    }
    false
}

/// RediSearch's measure of how near to each other the parts of a document are, by which TFIDF and BM25 divide
/// its score: `places` are those of the parts that are in the document, an empty list for a part without
/// words.
pub fn divisor(places: &[Vec<u32>]) -> u32 {
    if places.len() < 2 {
        return 1;
    }
    let there: Vec<&Vec<u32>> = places.iter().filter(|places| !places.is_empty()).collect();
    let mut sum = 0i64;
    for pair in there.chunks_exact(2) {
        let distance = least_distance(pair[0], pair[1]);
        sum += distance * distance;
    }
    if sum > 0 { (sum as f64).sqrt() as u32 } else { places.len() as u32 - 1 }
}

/// The least distance of two places, in the order in which RediSearch looks: it ends at a distance of 1, and
/// at the end of a list.
fn least_distance(first: &[u32], second: &[u32]) -> i64 {
    let (mut a, mut b) = (first.iter(), second.iter());
    let (mut one, mut two) = (a.next(), b.next());
    let distance = |one: &u32, two: &u32| (i64::from(*one) - i64::from(*two)).abs();
    let mut least = i64::from(u16::MAX);
    while let (Some(x), Some(y)) = (one, two) {
        least = least.min(distance(x, y));
        if least <= 1 {
            break;
        }
        if y > x {
            one = a.next();
        } else {
            two = b.next();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tries every choice of one place for each part.
    fn is_near_plainly(places: &[Vec<u32>], nearness: Nearness) -> bool {
        let mut choices: Vec<Vec<u32>> = vec![Vec::new()];
        for part in places {
            let extended = choices.iter().flat_map(|chosen| {
                part.iter().map(|&place| chosen.iter().copied().chain([place]).collect::<Vec<u32>>())
            });
            choices = extended.collect();
        }
        choices.iter().any(|chosen| {
            let (first, last) = (*chosen.iter().min().expect("parts"), *chosen.iter().max().expect("parts"));
            let span = i64::from(last - first) - (chosen.len() as i64 - 1);
            let is_ordered = chosen.is_sorted();
            span <= i64::from(nearness.slop) && if nearness.in_order { is_ordered } else { first != last }
        })
    }

    #[test]
    fn parts_are_near_if_a_choice_of_places_is() {
        let mut state = 11u64;
        let mut random = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32 % below
        };
        let mut seen = [0; 2];
        for _ in 0..4_000 {
            let parts = 2 + random(2);
            // Parts without a common word: of one, RediSearch looks at the next word of the first part only.
            let mut places: Vec<Vec<u32>> = vec![Vec::new(); parts as usize];
            (1..=20).filter(|_| random(2) == 0).collect::<Vec<u32>>().iter().for_each(|&place| {
                places[random(parts) as usize].push(place);
            });
            if places.iter().any(Vec::is_empty) {
                continue;
            }
            let nearness = Nearness { slop: random(6), in_order: false };
            let met = is_near(&places, nearness);
            assert_eq!(met, is_near_plainly(&places, nearness), "{places:?} {nearness:?}");
            seen[usize::from(met)] += 1;
            // In order, RediSearch takes the nearest word after the last one, which finds what there is.
            let nearness = Nearness { in_order: true, ..nearness };
            if is_near(&places, nearness) {
                assert!(is_near_plainly(&places, nearness), "{places:?} {nearness:?}");
            }
        }
        assert!(seen.iter().all(|&count| count > 200), "{seen:?}");
    }

    #[test]
    fn the_divisor_is_the_length_of_the_distances() {
        assert_eq!(divisor(&[vec![4]]), 1);
        assert_eq!(divisor(&[vec![1, 9], vec![4]]), 3);
        assert_eq!(divisor(&[vec![1], vec![4], vec![1], vec![5]]), 5);
        assert_eq!(divisor(&[vec![1], vec![], vec![]]), 2);
        assert_eq!(divisor(&[vec![1], vec![], vec![2]]), 1);
    }
}
