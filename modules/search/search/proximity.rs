//! Whether the words of a query are near enough to each other in a document, and how near they are.

use super::filter::{Ranges, means_in};
use super::leaves::{Leaves, Places};
use super::walk::{TextWalk, WORDS_PER_FIELD};
use crate::documents::Documents;
use crate::documents::texts::{TextPostings, is_derived};
use crate::query::attributes::Nearness;
use crate::query::{Node, TextMatch};
use engramdb_engine::hashing::HashMap;
use std::collections::BTreeMap;
use std::rc::Rc;

/// The most steps in which it is found out whether the words of a document are near to each other. It bounds
/// the time under a lock where a text repeats the words of a long phrase; beyond it they are not.
const STEPS_MAX: usize = 1 << 22;

/// The parts of an intersection or phrase, prepared to find their words in documents.
pub struct Proximity<'n> {
    parts: Vec<Part<'n>>,
    leaves: Leaves<'n>,
    nearness: Nearness,
    /// Set if words next to each other, in this order, are all that is looked for.
    run: Option<Run<'n>>,
}

/// The numbers of the words of a phrase, all different, and the fields, which ascend. A document is compared
/// with it word by word, without a list of places.
struct Run<'n> {
    fields: &'n [usize],
    numbers: Vec<u32>,
}

/// One of the parts whose words must be near to those of the others.
struct Part<'n> {
    /// Where it must be checked that a document has the whole part.
    composite: Option<&'n Node>,
    leaves: Vec<usize>,
}

impl<'n> Proximity<'n> {
    /// The parts of an intersection. `None` if words of fewer than two parts have places.
    pub fn of_nodes(texts: &TextPostings, nodes: &'n [Node], nearness: Nearness) -> Option<Proximity<'n>> {
        let mut proximity = Proximity::new(nearness);
        for node in nodes {
            let mut leaves = Vec::new();
            proximity.add(texts, node, &mut leaves);
            leaves.sort_unstable();
            leaves.dedup();
            let composite = Some(node).filter(|node| is_composite(node));
            proximity.parts.push(Part { composite, leaves });
        }
        let has_words = |part: &&Part<'_>| !part.leaves.is_empty();
        (proximity.parts.iter().filter(has_words).count() > 1).then_some(proximity)
    }

    /// The words of a phrase.
    pub fn of_phrase(texts: &TextPostings, fields: &'n [usize], phrase: &'n [Vec<u8>]) -> Proximity<'n> {
        let mut proximity = Proximity::new(Nearness::ADJACENT);
        for term in phrase {
            let leaf = proximity.leaves.term(texts, fields, term);
            proximity.parts.push(Part { composite: None, leaves: vec![leaf] });
        }
        proximity.run = Run::of(texts, fields, phrase);
        proximity
    }

    fn new(nearness: Nearness) -> Proximity<'n> {
        Proximity { parts: Vec::new(), leaves: Leaves::default(), nearness, run: None }
    }

    /// Adds the leaves of a node whose words have places.
    fn add(&mut self, texts: &TextPostings, node: &'n Node, leaves: &mut Vec<usize>) {
        match node.bare() {
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| self.add(texts, node, leaves)),
            Node::Optional(node) => self.add(texts, node, leaves),
            Node::Text { fields, text: TextMatch::Phrase(terms) } => {
                leaves.extend(terms.iter().map(|term| self.leaves.term(texts, fields, term)));
            }
            Node::Text { fields, text } => leaves.extend(self.leaves.word(texts, fields, text)),
            _ => {}
        }
    }

    /// Whether the words of a document that has them all are near enough to each other. Adds to `walk` the
    /// number of its words, and of the steps that this took.
    pub fn is_met(&mut self, documents: &Documents, ranges: &Ranges, id: u32, walk: &mut TextWalk) -> bool {
        if let Some(run) = &self.run {
            return run.is_in(documents, id, walk);
        }
        let mut places = self.places(documents, ranges, id, walk);
        places.retain(|places| !places.is_empty());
        is_near(&places, self.nearness, &mut walk.walked)
    }

    /// For each part, the places of its words in the document.
    pub fn places(
        &mut self,
        documents: &Documents,
        ranges: &Ranges,
        id: u32,
        walk: &mut TextWalk,
    ) -> Vec<Places> {
        let by_leaf = self.by_leaf(documents, id, walk);
        let mut merged: HashMap<&[usize], Places> = HashMap::default();
        let mut found = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            let is_there = part.composite.is_none_or(|node| means_in(documents, ranges, node, id, walk));
            found.push(match part.leaves[..] {
                _ if !is_there => Places::default(),
                [leaf] => by_leaf[leaf].clone(),
                _ => merged
                    .entry(&part.leaves)
                    .or_insert_with(|| {
                        let all = part.leaves.iter().flat_map(|&leaf| by_leaf[leaf].iter().copied());
                        let mut all: Vec<u32> = all.collect();
                        walk.walked += all.len();
                        all.sort_unstable();
                        all.dedup();
                        Places::new(all)
                    })
                    .clone(),
            });
        }
        found
    }

    /// The places of each leaf's words.
    fn by_leaf(&mut self, documents: &Documents, id: u32, walk: &mut TextWalk) -> Vec<Places> {
        let mut by_leaf: Vec<Vec<u32>> = vec![Vec::new(); self.leaves.len()];
        self.leaves.find_in(documents, id, walk, |leaf, found| {
            if found.is_in_field {
                by_leaf[leaf].push(found.place);
            }
        });
        by_leaf.into_iter().map(Places::new).collect()
    }
}

impl<'n> Run<'n> {
    /// `None` if a word comes twice, for which RediSearch accepts one place twice, or is no document's.
    fn of(texts: &TextPostings, fields: &'n [usize], phrase: &[Vec<u8>]) -> Option<Run<'n>> {
        let number = |term: &Vec<u8>| texts.number(term).filter(|_| !is_derived(term));
        let numbers: Vec<u32> = phrase.iter().map(number).collect::<Option<_>>()?;
        let mut different = numbers.clone();
        different.sort_unstable();
        different.dedup();
        (different.len() == numbers.len()).then_some(Run { fields, numbers })
    }

    /// Whether a document has the words next to each other; adds the number of words that it was compared
    /// with to `walk`.
    fn is_in(&self, documents: &Documents, id: u32, walk: &mut TextWalk) -> bool {
        let (first, mut before) = (self.numbers[0], 0);
        for field in (0..documents.field_count()).filter(|&field| documents.is_text(field)) {
            let words = documents.words_of(id, field);
            walk.walked += WORDS_PER_FIELD + words.len();
            if self.fields.binary_search(&field).is_err() {
                // The last word of one field is next to the first one of the next that has any.
                before = if words.is_empty() { before } else { 0 };
                continue;
            }
            for &word in words {
                // No word comes twice, so that a run can only begin again with its first word.
                before = if word == self.numbers[before] { before + 1 } else { usize::from(word == first) };
                if before == self.numbers.len() {
                    return true;
                }
            }
        }
        false
    }
}

/// Whether a node may be missing in a document that has some of its words.
fn is_composite(node: &Node) -> bool {
    match node {
        Node::Text { text, .. } => matches!(text, TextMatch::Phrase(_)),
        Node::Or(nodes) => nodes.iter().any(is_composite),
        Node::With(with) => is_composite(&with.node),
        Node::Optional(_) => false,
        _ => true,
    }
}

/// Whether there are words, one of each list of places, between which at most `nearness.slop` others are;
/// in RediSearch's way, for which two parts may have the same word. Adds the steps that it took to `cost`.
fn is_near(places: &[Places], nearness: Nearness, cost: &mut usize) -> bool {
    let mut steps = 0;
    let met = match places.len() {
        0 | 1 => true,
        _ if nearness.in_order => is_near_in_order(places, nearness.slop, &mut steps),
        _ => is_near_in_any_order(places, nearness.slop, &mut steps),
    };
    *cost += steps;
    met
}

fn is_near_in_order(places: &[Places], slop: u32, steps: &mut usize) -> bool {
    let mut at = vec![0; places.len()];
    for &first in &*places[0] {
        let (mut last, mut span) = (first, 0i64);
        let mut is_met = true;
        for (part, at) in places.iter().zip(&mut at).skip(1) {
            while part.get(*at).is_some_and(|&place| place < last) {
                *at += 1;
                *steps += 1;
            }
            let Some(&place) = part.get(*at) else { return false };
            *steps += 1;
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
        if *steps > STEPS_MAX {
            return false;
        }
    }
    false
}

fn is_near_in_any_order(places: &[Places], slop: u32, steps: &mut usize) -> bool {
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
        *steps += 1;
        if *steps > STEPS_MAX {
            return false;
        }
        next.pop_first();
        let Some(&place) = places[part].get(at + 1) else { return false };
        next.insert((place, part), at + 1);
    }
    false
}

/// RediSearch's measure of how near to each other the parts of a document are, by which TFIDF and BM25 divide
/// its score: `places` are those of the parts that are in the document, an empty list for a part without
/// words. The parts that come after the end of the walk count as without words.
pub fn divisor(places: &[Places], walk: &mut TextWalk) -> u32 {
    if places.len() < 2 {
        return 1;
    }
    let there: Vec<&Places> = places.iter().filter(|places| !places.is_empty()).collect();
    let mut sum = 0i64;
    // Parts with the same words share their places.
    let mut known: HashMap<(*const Vec<u32>, *const Vec<u32>), i64> = HashMap::default();
    for pair in there.windows(2) {
        if walk.is_over() {
            break;
        }
        let key = (Rc::as_ptr(pair[0]), Rc::as_ptr(pair[1]));
        let distance =
            *known.entry(key).or_insert_with(|| least_distance(pair[0], pair[1], &mut walk.walked));
        sum += distance * distance;
    }
    if sum > 0 { (sum as f64).sqrt() as u32 } else { places.len() as u32 - 1 }
}

/// The least distance of two places, in the order in which RediSearch looks: it ends at a distance of 1, and
/// at the end of a list. Adds the steps that it took to `steps`.
fn least_distance(first: &[u32], second: &[u32], steps: &mut usize) -> i64 {
    let (mut a, mut b) = (first.iter(), second.iter());
    let (mut one, mut two) = (a.next(), b.next());
    let distance = |one: &u32, two: &u32| (i64::from(*one) - i64::from(*two)).abs();
    let mut least = i64::from(u16::MAX);
    while let (Some(x), Some(y)) = (one, two) {
        *steps += 1;
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
    use crate::documents::{DocumentContent, FieldContent};
    use crate::schema::create::definition_of;

    /// Tries every choice of one place for each part.
    fn is_near_plainly(places: &[Places], nearness: Nearness) -> bool {
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
            let places: Vec<Places> = places.into_iter().map(Places::new).collect();
            let nearness = Nearness { slop: random(6), in_order: false };
            let met = is_near(&places, nearness, &mut 0);
            assert_eq!(met, is_near_plainly(&places, nearness), "{places:?} {nearness:?}");
            seen[usize::from(met)] += 1;
            // In order, RediSearch takes the nearest word after the last one, which finds what there is.
            let nearness = Nearness { in_order: true, ..nearness };
            if is_near(&places, nearness, &mut 0) {
                assert!(is_near_plainly(&places, nearness), "{places:?} {nearness:?}");
            }
        }
        assert!(seen.iter().all(|&count| count > 200), "{seen:?}");
    }

    #[test]
    fn a_run_is_found_wherever_the_places_of_the_words_are_next_to_each_other() {
        let definition = definition_of("FT.CREATE i SCHEMA a TEXT n NUMERIC b TEXT c TEXT");
        let mut documents = Documents::new(&definition);
        let mut state = 5u64;
        let mut random = |below: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u32 % below
        };
        let word = |number: u32| vec![b'a' + number as u8];
        for id in 0..400u32 {
            let mut text = || match random(4) {
                0 => FieldContent::Missing,
                _ => {
                    let words = 0..random(7);
                    {
                        let words: Vec<Option<Vec<u8>>> =
                            words.map(|_| Some(random(5)).filter(|&n| n < 4).map(word)).collect();
                        FieldContent::Text(words.iter().map(|word| word.as_deref()).collect())
                    }
                }
            };
            let fields = vec![text(), FieldContent::Number(1.0), text(), text()];
            documents.upsert(&id.to_le_bytes(), &DocumentContent { fields, ..DocumentContent::default() });
        }
        let mut seen = [0; 2];
        for _ in 0..200 {
            let fields: Vec<usize> = [0, 2, 3].into_iter().filter(|_| random(3) > 0).collect();
            let mut letters = [0, 1, 2, 3];
            letters.sort_by_key(|_| random(100));
            let phrase: Vec<Vec<u8>> = letters[..2 + random(2) as usize].iter().map(|&n| word(n)).collect();
            let texts = documents.texts();
            let mut quick = Proximity::of_phrase(texts, &fields, &phrase);
            assert!(quick.run.is_some());
            let mut slow = Proximity { run: None, ..Proximity::of_phrase(texts, &fields, &phrase) };
            let has_all = |id: u32| {
                phrase.iter().all(|term| texts.get(term).is_some_and(|posting| posting.is_in(id, &fields)))
            };
            for id in (0..400).filter(|&id| has_all(id)) {
                let ranges = Ranges::default();
                let met = slow.is_met(&documents, &ranges, id, &mut TextWalk::unbounded());
                let quickly = quick.is_met(&documents, &ranges, id, &mut TextWalk::unbounded());
                assert_eq!(quickly, met, "{id} {fields:?} {phrase:?}");
                seen[usize::from(met)] += 1;
            }
        }
        assert!(seen.iter().all(|&count| count > 200), "{seen:?}");
        let twice = [word(0), word(1), word(0)];
        assert!(Proximity::of_phrase(documents.texts(), &[0], &twice).run.is_none());
    }

    #[test]
    fn the_divisor_is_the_length_of_the_distances() {
        let there = |places: &[u32]| Places::new(places.to_vec());
        assert_eq!(divisor(&[there(&[4])], &mut TextWalk::unbounded()), 1);
        assert_eq!(divisor(&[there(&[1, 9]), there(&[4])], &mut TextWalk::unbounded()), 3);
        assert_eq!(divisor(&[there(&[1]), there(&[4]), there(&[8])], &mut TextWalk::unbounded()), 5);
        assert_eq!(divisor(&[there(&[1]), there(&[]), there(&[])], &mut TextWalk::unbounded()), 2);
        assert_eq!(divisor(&[there(&[1]), there(&[]), there(&[2])], &mut TextWalk::unbounded()), 1);
    }
}
