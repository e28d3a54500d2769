//! Documents that were changed field by field beside the same documents, indexed once.

use super::super::postings::{Limit, NumberWalk};
use super::super::text_content::TextContent;
use super::super::texts::{sound_term, stem_term};
use super::super::{About, DocumentContent};
use super::*;
use crate::schema::Definition;
use crate::schema::create::definition_of;
use crate::schema::language::Language;
use crate::schema::sound::indexed_sound;
use std::collections::BTreeMap;

/// The last word is also the stem of others; `night` and `knight` sound alike.
const WORDS: [&str; 9] = ["running", "runs", "run", "dogs", "dog", "flies", "night", "knight", "x"];

fn random_from(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

/// A field's values: what its content is made of.
#[derive(Clone, Debug, PartialEq)]
struct Values(Option<Vec<usize>>);

impl Values {
    fn random(random: &mut impl FnMut(usize) -> usize) -> Values {
        let length = [0, 1, 3, 30][random(4)];
        Values((random(6) > 0).then(|| (0..length).map(|_| random(12)).collect()))
    }

    /// A little different, most of the time.
    fn change(&mut self, random: &mut impl FnMut(usize) -> usize) {
        match &mut self.0 {
            Some(values) if random(5) > 0 => {
                let at = random(values.len() + 1);
                match random(4) {
                    0 => values.insert(at, random(12)),
                    1 if at < values.len() => _ = values.remove(at),
                    2 if at < values.len() => values[at] = random(12),
                    _ => values.truncate(at),
                }
            }
            _ => *self = Values::random(random),
        }
    }

    fn content(&self, field: usize) -> FieldContent {
        let Some(values) = &self.0 else { return FieldContent::Missing };
        match (field, &values[..]) {
            (0, [one]) => FieldContent::Number(*one as f64 - 5.0),
            (0, values) => {
                FieldContent::Numbers(values.iter().map(|&value| -0.0 + value as f64 - 5.0).collect())
            }
            (1, [one]) => FieldContent::Tag(one.to_string().into_bytes()),
            (1, values) => {
                FieldContent::Terms(values.iter().map(|value| value.to_string().into_bytes()).collect())
            }
            (_, values) => FieldContent::Text(
                values.iter().map(|&value| WORDS.get(value).map(|word| word.as_bytes())).collect(),
            ),
        }
    }
}

fn content(values: &[Values]) -> DocumentContent {
    let fields = values.iter().enumerate().map(|(field, values)| values.content(field)).collect();
    DocumentContent { fields, about: About::default() }
}

fn shown(term: &[u8]) -> String {
    String::from_utf8_lossy(term).into_owned()
}

/// All that the index knows, by key instead of by id.
fn known(documents: &Documents) -> BTreeMap<String, Vec<String>> {
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let key = |id: u32| String::from_utf8_lossy(documents.key(id).expect("a document")).into_owned();
    for (key, id) in documents.keys() {
        let mut all = vec![format!("{:?}", documents.texts().length(id))];
        for field in 0..documents.field_count() {
            let tags: Vec<String> = match documents.terms(field) {
                Some(tags) => documents.tags_of(id, field).iter().map(|&tag| shown(tags.term(tag))).collect(),
                None => Vec::new(),
            };
            let word = |&number: &u32| match number {
                super::super::TEXT_END => "|".to_owned(),
                number => shown(documents.texts().term(number)),
            };
            let words: Vec<String> = documents.words_of(id, field).iter().map(word).collect();
            let is_one = documents.known_value(id, field).is_some();
            all.push(format!("{field} {is_one} {:?} {tags:?} {words:?}", documents.numbers_of(id, field)));
            all.push(format!("{} lacks {field}", documents.missing(field).contains(id)));
        }
        known.insert(String::from_utf8_lossy(key).into_owned(), all);
    }
    let mut walk = NumberWalk::default();
    let limit = |value| Limit { value, exclusive: false };
    let numbers = documents.numbers(0).expect("a NUMERIC field");
    numbers.step(&mut walk, (limit(-100.0), limit(100.0)), &mut 1_000_000);
    let mut by_number: Vec<String> = walk.documents.into_iter().map(key).collect();
    by_number.sort_unstable();
    known.insert("numbers".to_owned(), by_number);
    let tags = documents.terms(1).expect("a TAG field");
    for tag in tags.terms() {
        let mut keys: Vec<String> = tags.get(tag).into_iter().flatten().map(key).collect();
        keys.sort_unstable();
        known.insert(format!("tag {}", String::from_utf8_lossy(tag)), keys);
    }
    let language = Language::default();
    let derived = WORDS.iter().flat_map(|word| {
        let stem = language.indexed_stem(word.as_bytes()).map(|stem| stem_term(&stem));
        let sound = indexed_sound(word.as_bytes()).map(|sound| sound_term(&sound));
        stem.into_iter().chain(sound)
    });
    for term in WORDS.iter().map(|word| word.as_bytes().to_vec()).chain(derived) {
        let places = documents.texts().get(&term).map_or(&[][..], |posting| posting.places());
        let of = |place: &super::super::texts::TermPlace| {
            let ids = place.documents().iter();
            ids.map(|id| format!("{} {} {}", place.field(), key(id), place.count(id))).collect::<Vec<_>>()
        };
        let mut all: Vec<String> = places.iter().flat_map(of).collect();
        all.sort_unstable();
        known.insert(format!("term {}", String::from_utf8_lossy(&term)), all);
    }
    let (texts, values) = (documents.texts(), documents.value_bytes);
    let sums = format!("{} {} {} {values}", texts.len(), texts.length_sum(), texts.record_count());
    known.insert("sums".to_owned(), vec![sums]);
    known
}

fn check_random_changes(definition: &Definition, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut random = random_from(seed);
        let mut documents = Documents::new(definition);
        let mut model: BTreeMap<String, Vec<Values>> = BTreeMap::new();
        for step in 0..250 {
            let key = format!("k{}", random(6));
            match (model.get_mut(&key), random(8)) {
                (Some(_), 0) => {
                    documents.remove(key.as_bytes());
                    model.remove(&key);
                }
                (Some(values), 1..7) => {
                    let mut fields: Vec<usize> = (0..values.len()).filter(|_| random(3) == 0).collect();
                    fields.iter().for_each(|&field| values[field].change(&mut random));
                    fields.sort_by_key(|_| random(9));
                    let contents: Vec<FieldContent> =
                        fields.iter().map(|&field| values[field].content(field)).collect();
                    let id = documents.id(key.as_bytes()).expect("it is there");
                    assert!(documents.is_known(id));
                    let version = documents.version();
                    documents.amend(id, fields.into_iter().zip(&contents));
                    assert_eq!(documents.version_of(id), version + 1);
                }
                _ => {
                    let values: Vec<Values> =
                        definition.fields.iter().map(|_| Values::random(&mut random)).collect();
                    documents.upsert(key.as_bytes(), &content(&values));
                    model.insert(key, values);
                }
            }
            if step % 5 == 0 {
                let mut fresh = Documents::new(definition);
                model.iter().for_each(|(key, values)| _ = fresh.upsert(key.as_bytes(), &content(values)));
                assert_eq!(known(&documents), known(&fresh), "seed {seed}, step {step}");
            }
        }
    }
}

const SCHEMA: &str = "SCHEMA n NUMERIC c TAG t TEXT u TEXT WEIGHT 3 NOSTEM p TEXT PHONETIC dm:en";

#[test]
fn changed_fields_leave_what_an_index_made_afresh_has() {
    check_random_changes(&definition_of(&format!("FT.CREATE i {SCHEMA}")), 0..60);
    check_random_changes(&definition_of(&format!("FT.CREATE i NOFREQS {SCHEMA}")), 60..75);
}

#[test]
fn lists_are_compared_from_both_ends() {
    let of = |one: &str, other: &str| {
        let (one, other) = (one.as_bytes(), other.as_bytes());
        common(one.len(), other.len(), |at, other_at| one[at] == other[other_at])
    };
    assert_eq!(of("abcd", "abxd"), (2, 1));
    assert_eq!(of("abab", "ab"), (2, 0));
    assert_eq!(of("ab", "abab"), (2, 0));
    assert_eq!(of("", "a"), (0, 0));
    assert_eq!(of("xab", "yab"), (0, 2));
}

/// A change of one of many values posts that value alone: terms that stay keep their numbers, and no other
/// term is looked up. (`TextContent` is large enough to keep each word once.)
#[test]
fn a_long_text_keeps_the_numbers_of_its_words() {
    let definition = definition_of("FT.CREATE i SCHEMA n NUMERIC c TAG t TEXT");
    let mut documents = Documents::new(&definition);
    let text = |changed: &str| {
        let mut text = TextContent::default();
        (0..5_000).for_each(|at| {
            let word = if at == 2_500 { changed.to_owned() } else { format!("word{}", at % 900) };
            text.push(word.as_bytes());
        });
        FieldContent::Text(text)
    };
    let whole = |changed: &str| DocumentContent {
        fields: vec![FieldContent::Missing, FieldContent::Missing, text(changed)],
        about: About::default(),
    };
    let id = documents.upsert(b"k", &whole("first"));
    let before = documents.words_of(id, 2).to_vec();
    documents.amend(id, [(2, &text("second"))]);
    let after = documents.words_of(id, 2);
    let differing: Vec<usize> = (0..5_000).filter(|&at| before[at] != after[at]).collect();
    assert_eq!(differing, [2_500]);
    assert!(documents.texts().get(b"first").is_none() && documents.texts().get(b"second").is_some());
    let mut fresh = Documents::new(&definition);
    fresh.upsert(b"k", &whole("second"));
    assert_eq!(known(&documents), known(&fresh));
}
