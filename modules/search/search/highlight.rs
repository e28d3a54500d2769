//! HIGHLIGHT and SUMMARIZE: marks the words that a query found in the texts of the reply, and shortens texts
//! to the fragments with these words, as RediSearch does it.
//!
//! The words are looked for in the text itself, which is read without a lock after the last look. They are
//! all words that a part of the query stands for, but for negated parts; in all TEXT fields, whichever the
//! query names.

use super::probe;
use super::score::TextStatistics;
use crate::documents::Documents;
use crate::documents::text::{self, StopWords, is_separator};
use crate::documents::texts::{is_derived, is_sound};
use crate::query::excerpts::{ExcerptMode, HighlightTags, SummaryOptions};
use crate::query::{Node, Pattern, Query, TextMatch};
use crate::schema::language::Language;
use crate::schema::sound::indexed_sound;
use crate::schema::{Definition, FieldKind};
use engramdb_engine::hashing::HashMap;
use parking_lot::RwLock;

/// The most other words between two words of a fragment that follow each other in it.
const APART_MAX: u32 = 8;
/// The length of a word on average, in bytes.
const WORD_BYTES: usize = 6;
/// Terms that are looked up under one lock of the documents.
const LOOKED_UP: usize = 256;

/// The words that are marked.
#[derive(Default)]
pub struct Highlighter {
    words: HashMap<Vec<u8>, Sought>,
    stems: HashMap<Vec<u8>, Sought>,
    sounds: HashMap<Vec<u8>, Sought>,
    patterns: Vec<(Pattern, Sought)>,
    language: Language,
}

/// A term of the query.
#[derive(Clone, Copy, Default)]
struct Sought {
    number: usize,
    /// What it counts for in a fragment.
    score: f64,
}

/// A part of a text with words that are marked.
struct Fragment {
    start: usize,
    end: usize,
    /// Of marked words.
    places: Vec<(usize, usize)>,
    /// The numbers of the terms in it.
    terms: Vec<usize>,
    score: f64,
    /// The number of its last marked word in the text.
    last: u32,
    /// All words in it.
    words: usize,
}

impl Highlighter {
    pub fn new(documents: &RwLock<Documents>, definition: &Definition, query: &Query) -> Highlighter {
        let language = Language::named(&definition.options.language).unwrap_or_default();
        let mut highlighter = Highlighter { language, ..Highlighter::default() };
        // Without the places of words, RediSearch marks nothing.
        if definition.options.no_offsets || definition.options.no_highlight {
            return highlighter;
        }
        let mut terms = Vec::new();
        highlighter.add(&query.filter, &mut terms);
        for some in terms.chunks(LOOKED_UP) {
            let documents = documents.read();
            some.iter().for_each(|term| highlighter.add_term(&documents, term));
        }
        highlighter
    }

    /// Adds the patterns of a node; its terms are added to the list.
    fn add<'n>(&mut self, node: &'n Node, terms: &mut Vec<&'n [u8]>) {
        match node.bare() {
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().for_each(|node| self.add(node, terms)),
            Node::Optional(node) => self.add(node, terms),
            Node::Text { text, .. } => match text {
                TextMatch::Term(Pattern::Exact(term)) | TextMatch::Expanded(term) => terms.push(term),
                TextMatch::Phrase(words) => terms.extend(words.iter().map(Vec::as_slice)),
                TextMatch::Term(pattern) => {
                    let sought = Sought { number: self.count(), score: 1.0 };
                    self.patterns.push((pattern.clone(), sought));
                }
            },
            _ => {}
        }
    }

    fn add_term(&mut self, documents: &Documents, term: &[u8]) {
        // In several fields, those of the field with the most stand for all.
        let places = documents.texts().get(term).map_or(&[][..], |posting| posting.places());
        let with_term = places.iter().map(|place| place.documents().len()).max().unwrap_or_default();
        let score = TextStatistics::of(documents).idf(with_term);
        let sought = Sought { number: self.count(), score };
        match is_derived(term) {
            // After the first byte and the mark.
            true if is_sound(term) => self.sounds.entry(term[2..].to_vec()).or_insert(sought),
            true => self.stems.entry(term[2..].to_vec()).or_insert(sought),
            false => self.words.entry(term.to_vec()).or_insert(sought),
        };
    }

    fn count(&self) -> usize {
        self.words.len() + self.stems.len() + self.sounds.len() + self.patterns.len()
    }

    /// The term of the query that a word is for, in a field with stems and sounds or not.
    fn sought(&self, word: &[u8], is_stemmed: bool, is_phonetic: bool) -> Option<Sought> {
        let stem = || self.stems.get(&self.language.indexed_stem(word)?);
        let pattern =
            || self.patterns.iter().find(|(pattern, _)| pattern.matches(word)).map(|(_, sought)| sought);
        let found = self.words.get(word);
        let found = found.or_else(|| if self.stems.is_empty() || !is_stemmed { None } else { stem() });
        let sound = || self.sounds.get(&indexed_sound(word)?);
        let found = found.or_else(|| if self.sounds.is_empty() || !is_phonetic { None } else { sound() });
        found.or_else(pattern).copied()
    }

    /// What the reply shows of a field's text; `None` for the text as it is.
    pub fn excerpt(
        &self,
        definition: &Definition,
        name: &[u8],
        mode: &ExcerptMode,
        text: &[u8],
    ) -> Option<Vec<u8>> {
        let kind = definition.field(name).map(|field| &definition.fields[field].kind);
        let fragments = match kind {
            Some(FieldKind::Text { no_stem, phonetic, .. }) => {
                self.fragments(definition, text, &|word| self.sought(word, !no_stem, *phonetic))
            }
            Some(FieldKind::Numeric) => return None,
            _ => Vec::new(),
        };
        match (&mode.tags, &mode.summary) {
            (None, None) => None,
            (None, Some(summary)) if fragments.is_empty() => Some(beginning(text, summary)),
            _ if fragments.is_empty() => None,
            (Some(tags), None) => Some(marked(text, &fragments, tags)),
            (tags, Some(summary)) => Some(summarized(text, fragments, tags.as_ref(), summary)),
        }
    }

    fn fragments(
        &self,
        definition: &Definition,
        text: &[u8],
        sought: &dyn Fn(&[u8]) -> Option<Sought>,
    ) -> Vec<Fragment> {
        let stop_words = StopWords(definition.options.stop_words.as_deref());
        let (mut fragments, mut number, mut others) = (Vec::<Fragment>::new(), 0u32, 0);
        let mut end_before = 0;
        text::tokenize_at(text, stop_words, &mut |word, start| {
            probe::touch();
            number += 1;
            let Some(sought) = sought(word).filter(|_| start >= end_before) else {
                others += 1;
                return;
            };
            let length = text[start..].iter().take_while(|&&byte| !is_separator(byte)).count();
            let end = start + length;
            if fragments.last().is_none_or(|last| number - last.last > APART_MAX) {
                fragments.push(Fragment {
                    start,
                    end,
                    places: Vec::new(),
                    terms: Vec::new(),
                    score: 0.0,
                    last: number,
                    words: 0,
                });
                others = 0;
            }
            let fragment = fragments.last_mut().expect("made above");
            if !fragment.terms.contains(&sought.number) {
                fragment.terms.push(sought.number);
                fragment.score += sought.score;
            }
            fragment.places.push((start, end));
            (fragment.end, fragment.last) = (end, number);
            fragment.words += std::mem::take(&mut others) + 1;
            end_before = end;
        });
        fragments
    }
}

/// The whole text with its words marked.
fn marked(text: &[u8], fragments: &[Fragment], tags: &HighlightTags) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 16);
    let places = fragments.iter().flat_map(|fragment| &fragment.places);
    mark(text, (0, text.len()), places, Some(tags), &mut out);
    out
}

/// Adds a part of a text with its words marked.
fn mark<'f>(
    text: &[u8],
    (from, to): (usize, usize),
    places: impl Iterator<Item = &'f (usize, usize)>,
    tags: Option<&HighlightTags>,
    out: &mut Vec<u8>,
) {
    let mut at = from;
    for &(start, end) in places {
        out.extend_from_slice(&text[at..start]);
        if let Some(tags) = tags {
            out.extend_from_slice(&tags.open);
        }
        out.extend_from_slice(&text[start..end]);
        if let Some(tags) = tags {
            out.extend_from_slice(&tags.close);
        }
        at = end;
    }
    out.extend_from_slice(&text[at..to]);
}

/// The best fragments in the order of the text, each with words around it.
fn summarized(
    text: &[u8],
    mut fragments: Vec<Fragment>,
    tags: Option<&HighlightTags>,
    summary: &SummaryOptions,
) -> Vec<u8> {
    fragments.sort_by(|a, b| b.score.total_cmp(&a.score));
    fragments.truncate(summary.fragments);
    fragments.sort_by_key(|fragment| fragment.start);
    let mut out = Vec::new();
    for (number, fragment) in fragments.iter().enumerate() {
        let least = if number == 0 { 0 } else { fragments[number - 1].end };
        let most = fragments.get(number + 1).map_or(text.len() - 1, |next| next.start);
        let (from, to) = around(text, fragment, (least, most), summary.length);
        let mut part = text[from..fragment.start].to_vec();
        mark(text, (fragment.start, fragment.end), fragment.places.iter(), tags, &mut part);
        part.extend_from_slice(&text[fragment.end..to]);
        out.extend(single_spaces(&part));
        out.extend_from_slice(&summary.separator);
    }
    out
}

/// Where a fragment begins and ends with about as many words around it as its own words lack of `length`. It
/// may begin at the first of the limits, and end after the second.
fn around(text: &[u8], fragment: &Fragment, (least, most): (usize, usize), length: usize) -> (usize, usize) {
    let others = fragment.words - fragment.places.len();
    if length <= others {
        return (fragment.start, fragment.end);
    }
    let bytes = (length - others) / 2 * WORD_BYTES;
    let mut from = fragment.start.saturating_sub(bytes).max(least);
    while from < fragment.start && !is_separator(text[from]) {
        from += 1;
    }
    while from < fragment.start && is_separator(text[from]) {
        from += 1;
    }
    let mut last = (fragment.end + bytes).min(most);
    while last > fragment.end && !is_separator(text[last]) {
        last -= 1;
    }
    while last > fragment.end && is_separator(text[last]) {
        last -= 1;
    }
    (from, (last + 1).clamp(fragment.end, text.len()))
}

/// The beginning of a text in which no word is marked.
fn beginning(text: &[u8], summary: &SummaryOptions) -> Vec<u8> {
    let length = WORD_BYTES * summary.length * summary.fragments + WORD_BYTES;
    let mut head = single_spaces(&text[..length.min(text.len())]);
    while head.len() > 1 && !head.last().is_some_and(|&last| is_separator(last)) {
        head.pop();
    }
    while head.last().is_some_and(|last| last.is_ascii_whitespace()) {
        head.pop();
    }
    head
}

/// A text whose runs of white space are single spaces.
fn single_spaces(text: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    let mut was_space = false;
    for &byte in text {
        let is_space = byte.is_ascii_whitespace() || byte == 0x0b;
        if !(is_space && was_space) {
            out.push(if is_space { b' ' } else { byte });
        }
        was_space = is_space;
    }
    out
}
