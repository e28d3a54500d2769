//! The words and patterns of a query, and where a document has them.
//!
//! The words of a document are numbered through all of its TEXT fields in the schema's order, as RediSearch
//! numbers them, so that the last word of one field is next to the first one of the next. Between two texts
//! of one field there is a gap.

use super::walk::{TextWalk, WORDS_PER_FIELD};
use crate::documents::texts::{TextPostings, is_derived, sound_term, stem_term};
use crate::documents::{Documents, TEXT_END};
use crate::query::{Pattern, TextMatch};
use crate::schema::language::Language;
use crate::schema::sound::indexed_sound;
use engramdb_engine::hashing::HashMap;
use std::rc::Rc;

/// The difference between the numbers of two words next to the end of a text. It is RediSearch's.
const TEXT_GAP: u32 = 100;

/// The places of words in a document, ascending. Parts with the same words share them.
pub type Places = Rc<Vec<u32>>;

/// The words and patterns of a query, each once for the same fields, prepared to be found in documents.
///
/// The numbers of terms are looked up once: those of unchanged documents stay the same.
#[derive(Default)]
pub struct Leaves<'n> {
    leaves: Vec<Leaf<'n>>,
    /// The leaves that are known, by their fields, kind and text.
    known: HashMap<(&'n [usize], Vec<u8>), usize>,
    /// The leaves of a term, by its number.
    by_number: HashMap<u32, Vec<usize>>,
    /// The leaves of a word by a pattern, its stem or its sound, by the word's number and the document's
    /// language.
    by_word: HashMap<(u32, u8), Vec<usize>>,
    /// The leaves of derived terms, by the term.
    by_derived: HashMap<&'n [u8], Vec<usize>>,
    /// The leaves of patterns.
    patterns: Vec<usize>,
}

struct Leaf<'n> {
    fields: &'n [usize],
    pattern: Option<&'n Pattern>,
    /// Set if the leaf is a derived term: the fields in which a document may have it.
    derived_in: Option<Vec<usize>>,
}

/// A place at which a document has a leaf.
pub struct Occurrence {
    /// The number of the word.
    pub number: u32,
    pub place: u32,
    /// Whether the word is in a field of the leaf.
    pub is_in_field: bool,
}

impl<'n> Leaves<'n> {
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether the leaf is a pattern, which different words match.
    pub fn is_pattern(&self, leaf: usize) -> bool {
        self.leaves[leaf].pattern.is_some()
    }

    /// The leaf of a text that is one word or one pattern; `None` for a phrase.
    pub fn word(&mut self, texts: &TextPostings, fields: &'n [usize], text: &'n TextMatch) -> Option<usize> {
        match text {
            TextMatch::Term(Pattern::Exact(term)) | TextMatch::Expanded(term) => {
                Some(self.term(texts, fields, term))
            }
            TextMatch::Term(pattern) => Some(self.pattern(fields, pattern)),
            TextMatch::Phrase(_) => None,
        }
    }

    /// The leaf of a word or of a derived term.
    pub fn term(&mut self, texts: &TextPostings, fields: &'n [usize], term: &'n [u8]) -> usize {
        let fields_of_derived = || {
            let places = texts.get(term).into_iter().flat_map(|posting| posting.places());
            places.map(|place| place.field()).collect()
        };
        let derived_in = is_derived(term).then(fields_of_derived);
        let is_word = derived_in.is_none();
        let (leaf, is_new) = self.leaf(b't', term, Leaf { fields, pattern: None, derived_in });
        if is_new && !is_word {
            self.by_derived.entry(term).or_default().push(leaf);
        } else if is_new && let Some(number) = texts.number(term) {
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
        let leaf = Leaf { fields, pattern: Some(pattern), derived_in: None };
        let (leaf, is_new) = self.leaf(kind, text, leaf);
        self.patterns.extend(Some(leaf).filter(|_| is_new));
        leaf
    }

    /// The number of a leaf, and whether it is new.
    fn leaf(&mut self, kind: u8, text: &[u8], leaf: Leaf<'n>) -> (usize, bool) {
        let next = self.leaves.len();
        let found = *self.known.entry((leaf.fields, [&[kind], text].concat())).or_insert(next);
        if found == next {
            self.leaves.push(leaf);
        }
        (found, found == next)
    }

    /// Calls `put` with each leaf and place at which a document has it, in the order of the places. Adds to
    /// `walk` the number of the document's words, and what comparing them with patterns took.
    pub fn find_in(
        &mut self,
        documents: &Documents,
        id: u32,
        walk: &mut TextWalk,
        mut put: impl FnMut(usize, Occurrence),
    ) {
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
                let exact = self.by_number.get(&number).into_iter().flatten();
                exact.for_each(|&leaf| put(leaf, self.occurrence(leaf, number, place, field)));
                if self.by_derived.is_empty() && self.patterns.is_empty() {
                    continue;
                }
                let key = (number, language.number());
                if !self.by_word.contains_key(&key) {
                    if walk.is_over() {
                        continue;
                    }
                    let found = self.matched(documents.texts().term(number), language, walk);
                    self.by_word.insert(key, found);
                }
                let may_be_there = |leaf: &&usize| {
                    let derived_in = &self.leaves[**leaf].derived_in;
                    derived_in.as_ref().is_none_or(|fields| fields.contains(&field))
                };
                let matched = self.by_word[&key].iter().filter(may_be_there);
                matched.for_each(|&leaf| put(leaf, self.occurrence(leaf, number, place, field)));
            }
        }
    }

    fn occurrence(&self, leaf: usize, number: u32, place: u32, field: usize) -> Occurrence {
        let is_in_field = self.leaves[leaf].fields.binary_search(&field).is_ok();
        Occurrence { number, place, is_in_field }
    }

    /// The leaves of a word beyond those of the word itself: those of its stem and sound, and patterns.
    fn matched(&self, word: &[u8], language: Language, walk: &mut TextWalk) -> Vec<usize> {
        let mut found = Vec::new();
        if !self.by_derived.is_empty() {
            let stem = language.indexed_stem(word).map(|stem| stem_term(&stem));
            let sound = indexed_sound(word).map(|sound| sound_term(&sound));
            let of = |term: &Vec<u8>| self.by_derived.get(&term[..]).cloned().unwrap_or_default();
            found.extend(stem.iter().chain(sound.iter()).flat_map(of));
        }
        for &leaf in &self.patterns {
            let pattern = self.leaves[leaf].pattern.expect("the leaf of a pattern");
            walk.walked += pattern.weight();
            if pattern.matches(word) {
                found.push(leaf);
            }
        }
        found.sort_unstable();
        found
    }
}
