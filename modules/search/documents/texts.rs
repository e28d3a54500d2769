//! The postings of all TEXT fields of an index: which documents have a term, in which fields, how often; and
//! how long the documents are.
//!
//! One dictionary serves all fields, because scores count a term's documents and occurrences in all of them.
//! A term has a *place* for each field that it occurs in: a set of documents, and the counts of those
//! documents that have it more than once. Short documents have most terms once, so the counts take little
//! memory: they are sets of documents too, one for each binary digit of the count less one.
//!
//! A word that has another word as its stem is posted a second time, under a *derived* term. Derived terms
//! begin with a byte that no word begins with, and a mark (`+` for a stem, as RediSearch shows it; `<` for a
//! sound), so that patterns do not find them. The list of terms that a document keeps has its words only: the
//! derived terms follow from the words and the document's language.

mod places;
mod repost;

pub use self::places::{TermPlace, each_common};

use self::places::Places;
use super::TEXT_END;
use super::numbered::{NumberedTerms, Posting};
use super::pieces::PatternPieces;
use super::postings::TermWalk;
use super::sparse::{SparseCell, SparseCells};
use super::text_content::TextContent;
use crate::schema::language::Language;
use crate::schema::sound::indexed_sound;
use crate::schema::{Definition, FieldDefinition, FieldKind};
use engramdb_engine::hashing::HashMap;
use roaring::RoaringBitmap;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

/// The first byte of derived terms. The tokenizer drops it from words.
const DERIVED: u8 = 1;
/// The marks of stems and sounds, the second byte of a derived term.
const STEM: u8 = b'+';
const SOUND: u8 = b'<';

/// Comes after all derived terms.
const AFTER_DERIVED: &[u8] = &[DERIVED + 1];
/// The most that one occurrence counts for: more would leave no room for many.
const UNIT_MAX: f64 = 65_536.0;

/// The factor by which a stem counts less than its word, in the occurrences of a document. It is
/// RediSearch's.
const STEM_FACTOR: f64 = 0.2;

/// The derived term of a stem.
pub fn stem_term(stem: &[u8]) -> Vec<u8> {
    [&[DERIVED, STEM], stem].concat()
}

/// The derived term of what a word sounds like.
pub fn sound_term(sound: &[u8]) -> Vec<u8> {
    [&[DERIVED, SOUND], sound].concat()
}

/// Whether this is a derived term of a stem.
pub fn is_stem(term: &[u8]) -> bool {
    term.starts_with(&[DERIVED, STEM])
}

/// Whether this is a derived term of a sound.
pub fn is_sound(term: &[u8]) -> bool {
    term.starts_with(&[DERIVED, SOUND])
}

/// The derived terms of a word in a field.
fn derived_terms(field: &TextField, word: &[u8], language: Language) -> impl Iterator<Item = Vec<u8>> {
    let stem = if field.is_stemmed { language.indexed_stem(word) } else { None };
    let sound = if field.is_phonetic { indexed_sound(word) } else { None };
    stem.map(|stem| stem_term(&stem)).into_iter().chain(sound.map(|sound| sound_term(&sound)))
}

/// The term as RediSearch shows it.
pub fn shown_term(term: &[u8]) -> &[u8] {
    if is_derived(term) { &term[1..] } else { term }
}

pub fn is_derived(term: &[u8]) -> bool {
    term.first() == Some(&DERIVED)
}

/// The terms of the TEXT fields, with their documents.
pub struct TextPostings {
    terms: NumberedTerms<TextPosting>,
    /// How each field's texts are indexed; `None` for other fields.
    fields: Vec<Option<TextField>>,
    /// Whether the number of a term's occurrences in a document is counted.
    counts: bool,
    /// By document id; documents that are gone have 0.
    lengths: SparseCells<DocumentLength>,
    length_sum: u64,
    /// The documents of all terms.
    records: u64,
}

/// How the texts of a field are indexed.
struct TextField {
    /// What an occurrence of a word, and one of a stem, count for.
    unit: u32,
    stem_unit: u32,
    is_stemmed: bool,
    is_phonetic: bool,
}

/// What scores know of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DocumentLength {
    /// The words of its texts, each counted with the weight of its field.
    pub words: u32,
    /// The occurrences of its most frequent term, counted in the same way.
    pub most: u32,
    /// How many terms occur so often.
    pub most_terms: u32,
}

impl SparseCell for DocumentLength {
    fn unset() -> DocumentLength {
        DocumentLength::default()
    }

    fn is_unset(&self) -> bool {
        *self == DocumentLength::default()
    }
}

#[derive(Default)]
pub struct TextPosting {
    places: Places,
}

impl TextPosting {
    /// Sets a document's count in a field. Returns the bytes on the heap of what was changed, before and
    /// after.
    fn insert(&mut self, field: usize, (document, count): (u32, u32)) -> (usize, usize) {
        if self.places().iter().any(|place| place.field() == field) {
            return self.places.at(field as u16).insert(document, count);
        }
        // The new place can move the others to the heap.
        let before = self.heap_bytes();
        self.places.at(field as u16).insert(document, count);
        (before, self.heap_bytes())
    }

    /// How many documents there are in all fields together.
    fn record_count(&self) -> u64 {
        self.places().iter().map(|place| place.documents.len()).sum()
    }

    /// See `Counted::touch`.
    #[inline]
    fn touch(&self, document: u32) {
        if let Places::One(place) = &self.places {
            place.documents.touch(document);
        }
    }
}

impl Posting for TextPosting {
    fn is_empty(&self) -> bool {
        matches!(self.places, Places::None)
    }

    fn heap_bytes(&self) -> usize {
        self.places.bytes()
    }
}

/// Bytes of a term, and documents of a term, that a walk processes for one unit of work.
const BYTES_PER_WORK: usize = 32;
const DOCUMENTS_PER_WORK: usize = 4096;
/// The words of a text are counted in a table where they are more.
const SORTED_MAX: usize = 4096;

impl TextPosting {
    /// By field.
    pub fn places(&self) -> &[TermPlace] {
        self.places.as_slice()
    }

    /// The documents that have the term in one of these fields, which ascend.
    pub fn documents(&self, fields: &[usize]) -> Cow<'_, RoaringBitmap> {
        let mut wanted = self.places().iter().filter(|place| place.is_in(fields));
        let Some(first) = wanted.next() else { return Cow::Owned(RoaringBitmap::new()) };
        let mut found = Cow::Borrowed(first.documents());
        for place in wanted {
            *found.to_mut() |= place.documents();
        }
        found
    }

    /// At least as many as `documents` has.
    pub fn count_max(&self, fields: &[usize]) -> u64 {
        let wanted = self.places().iter().filter(|place| place.is_in(fields));
        wanted.map(|place| place.documents.len()).sum()
    }

    /// How many documents have the term in any field; `None` if that takes a union of many sets.
    pub fn document_count(&self) -> Option<u64> {
        match self.places() {
            [] => Some(0),
            [place] => Some(place.documents.len()),
            [a, b] => Some(a.documents.union_len(&b.documents)),
            _ => None,
        }
    }

    pub fn is_in(&self, document: u32, fields: &[usize]) -> bool {
        self.places().iter().any(|place| place.is_in(fields) && place.documents.contains(document))
    }
}

/// The terms of a document and how much it has of them, while it is being indexed.
#[derive(Default)]
pub struct TermTally {
    words: u32,
    /// Numbers of terms, with what their occurrences in a field count for.
    frequencies: Vec<(u32, u32)>,
}

impl TermTally {
    /// Adds what the document has in another field.
    pub fn add(&mut self, other: TermTally) {
        self.words = self.words.saturating_add(other.words);
        self.frequencies.extend(other.frequencies);
    }
}

impl TextField {
    fn has_derived(&self) -> bool {
        self.is_stemmed || self.is_phonetic
    }

    fn of(definition: &FieldDefinition) -> Option<TextField> {
        let unit = |weight: f64| (weight.min(UNIT_MAX) as u32).max(1);
        match &definition.kind {
            FieldKind::Text { weight, no_stem, phonetic, .. } => Some(TextField {
                unit: unit(*weight),
                stem_unit: unit(*weight * STEM_FACTOR),
                is_stemmed: !no_stem,
                is_phonetic: *phonetic,
            }),
            _ => None,
        }
    }
}

impl TextPostings {
    pub fn new(definition: &Definition) -> TextPostings {
        // One structure serves all fields. A field that FT.ALTER adds does not make one, because that would
        // read all terms at once: until a start, its patterns are found by a walk.
        let has_pieces = definition
            .fields
            .iter()
            .any(|field| matches!(field.kind, FieldKind::Text { suffix_trie: true, .. }));
        let terms =
            if has_pieces { NumberedTerms::with_pieces(is_derived) } else { NumberedTerms::default() };
        TextPostings {
            terms,
            fields: definition.fields.iter().map(TextField::of).collect(),
            counts: !definition.options.no_frequencies,
            lengths: SparseCells::default(),
            length_sum: 0,
            records: 0,
        }
    }

    /// See `NumberedTerms::with_all`.
    pub fn with_all(&self, pieces: &PatternPieces<'_>) -> Option<RoaringBitmap> {
        self.terms.with_all(pieces)
    }

    /// The term of a number, if it has one.
    pub fn term_of(&self, number: u32) -> Option<&Arc<[u8]>> {
        self.terms.term_of(number)
    }

    pub fn add_field(&mut self, definition: &FieldDefinition) {
        self.fields.push(TextField::of(definition));
    }

    /// Adds what a document has in a field. Returns the numbers of its words in order, with `TEXT_END`
    /// between two texts.
    pub fn post(
        &mut self,
        (document, field): (u32, usize),
        content: &TextContent,
        language: Language,
        tally: &mut TermTally,
    ) -> Box<[u32]> {
        let kept = self.terms.numbers_for(content.words(), |posting| posting.touch(document));
        let unit = self.unit(field, false);
        let counted = counted_words(content, &kept);
        let derived = self.counted_derived(field, &counted, language);
        tally.frequencies.reserve(counted.len() + derived.len());
        for (number, count) in counted {
            let frequency = self.insert(number, (field, document), (count, unit), tally);
            tally.words = tally.words.saturating_add(frequency);
        }
        for ((number, unit), count) in derived {
            self.insert(number, (field, document), (count, unit), tally);
        }
        let number = |&word: &u32| if word == TEXT_END { TEXT_END } else { kept[word as usize] };
        content.order().iter().map(number).collect()
    }

    /// The counts of the terms that are derived of a field's words, which get numbers.
    fn counted_derived(
        &mut self,
        field: usize,
        words: &[(u32, u32)],
        language: Language,
    ) -> Vec<((u32, u32), u32)> {
        let (unit, stem_unit) = (self.unit(field, false), self.unit(field, true));
        if !self.text_field(field).has_derived() {
            return Vec::new();
        }
        let mut derived = Vec::new();
        for &(number, count) in words {
            let terms: Vec<Vec<u8>> =
                derived_terms(self.text_field(field), self.term(number), language).collect();
            for term in terms {
                // Only a stem counts less than its word.
                let unit = if is_sound(&term) { unit } else { stem_unit };
                derived.push((self.terms.number_for(&term), count, unit));
            }
        }
        merged_derived(derived)
    }

    /// Adds to a tally what a document has in a field, given the numbers that `post` returned.
    pub fn add_to_tally(
        &self,
        (document, field): (u32, usize),
        numbers: &[u32],
        language: Language,
        tally: &mut TermTally,
    ) {
        let unit = self.unit(field, false);
        for (number, count) in counted(numbers) {
            let frequency = count.saturating_mul(unit);
            tally.frequencies.push((number, frequency));
            tally.words = tally.words.saturating_add(frequency);
            for term in derived_terms(self.text_field(field), self.term(number), language) {
                let unit = if is_sound(&term) { unit } else { self.unit(field, true) };
                let derived = self.number(&term);
                debug_assert!(derived.is_some(), "document {document} has words whose stems are posted");
                tally.frequencies.extend(derived.map(|number| (number, count.saturating_mul(unit))));
            }
        }
    }

    /// Records the length of a document whose fields were all added.
    pub fn measure(&mut self, document: u32, tally: TermTally) {
        let (mut most, mut most_terms) = (0, 0);
        for (_, frequency) in merged(tally.frequencies) {
            (most, most_terms) = leaders((most, most_terms), frequency);
        }
        self.set_length(document, DocumentLength { words: tally.words, most, most_terms });
    }

    /// Removes what a document has in a field, given the numbers that `post` returned.
    pub fn unpost(&mut self, (document, field): (u32, usize), numbers: &[u32], language: Language) {
        for (number, _) in counted(numbers) {
            let terms = derived_terms(self.text_field(field), self.term(number), language);
            let derived: Vec<u32> = terms.filter_map(|term| self.number(&term)).collect();
            derived.into_iter().for_each(|number| self.remove(number, (field, document)));
            self.remove(number, (field, document));
        }
    }

    pub fn forget_length(&mut self, document: u32) {
        self.set_length(document, DocumentLength::default());
    }

    fn set_length(&mut self, document: u32, length: DocumentLength) {
        let before = self.lengths.replace(document, length);
        self.length_sum = self.length_sum + u64::from(length.words) - u64::from(before.words);
    }

    fn text_field(&self, field: usize) -> &TextField {
        self.fields[field].as_ref().expect("a TEXT field")
    }

    /// Adds a document to a term that it has so often. Returns what that counts for, which it adds to the
    /// tally.
    fn insert(
        &mut self,
        number: u32,
        (field, document): (usize, u32),
        (count, unit): (u32, u32),
        tally: &mut TermTally,
    ) -> u32 {
        let frequency = count.saturating_mul(unit);
        tally.frequencies.push((number, frequency));
        self.set_count(number, (field, document), count);
        frequency
    }

    fn set_count(&mut self, number: u32, (field, document): (usize, u32), count: u32) {
        let count = if self.counts { count } else { 1 };
        let records = &mut self.records;
        self.terms.post(number, |posting| {
            let before = posting.record_count();
            let bytes = posting.insert(field, (document, count));
            *records += posting.record_count() - before;
            bytes
        });
    }

    fn remove(&mut self, number: u32, (field, document): (usize, u32)) {
        let records = &mut self.records;
        self.terms.unpost(number, |posting| {
            *records -= u64::from(posting.places.remove(field as u16, document));
        });
    }

    pub fn get(&self, term: &[u8]) -> Option<&TextPosting> {
        self.terms.get(term)
    }

    pub fn number(&self, term: &[u8]) -> Option<u32> {
        self.terms.number(term)
    }

    /// The posting of a number, which at least one document must have.
    pub fn posting(&self, number: u32) -> &TextPosting {
        self.terms.posting(number)
    }

    /// The term of a number, which at least one document must have.
    pub fn term(&self, number: u32) -> &[u8] {
        self.terms.term(number)
    }

    pub fn length(&self, document: u32) -> DocumentLength {
        self.lengths.get(document).copied().unwrap_or_default()
    }

    /// The sum of the lengths of all documents.
    pub fn length_sum(&self) -> u64 {
        self.length_sum
    }

    /// What an occurrence of a word or sound, or of a stem, in a field counts for.
    pub fn unit(&self, field: usize, is_stem: bool) -> u32 {
        let field = self.text_field(field);
        if is_stem { field.stem_unit } else { field.unit }
    }

    /// Continues a walk over the words with this prefix until `each` returns false or `work` units are used
    /// up. `weight` is the cost of a call of `each` per `BYTES_PER_WORK` bytes of the term. True at the end.
    pub fn walk(
        &self,
        after: &mut Option<Arc<[u8]>>,
        prefix: &[u8],
        (weight, mut each): (usize, impl FnMut(&[u8], &TextPosting) -> bool),
        work: &mut usize,
    ) -> bool {
        let from = after.as_deref().map_or(Bound::Included(prefix), Bound::Excluded);
        for (term, number) in self.terms.from(from).take_while(|(term, _)| term.starts_with(prefix)) {
            *work = work.saturating_sub(1 + term.len() * weight / BYTES_PER_WORK);
            let goes_on = is_derived(term) || each(term, self.terms.posting(number));
            if *work == 0 || !goes_on {
                *after = Some(term.clone());
                return false;
            }
        }
        true
    }

    /// Continues a walk over the words with this prefix, and adds the documents in these fields of words that
    /// `matches` accepts. See `TermPostings::step`.
    pub fn step(
        &self,
        walk: &mut TermWalk,
        (prefix, fields): (&[u8], &[usize]),
        (weight, matches): (usize, impl Fn(&[u8]) -> bool),
        work: &mut usize,
    ) -> bool {
        let TermWalk { after, documents: found } = walk;
        let mut merged = 0;
        let each = |term: &[u8], posting: &TextPosting| {
            if matches(term) {
                for place in posting.places().iter().filter(|place| place.is_in(fields)) {
                    *found |= place.documents();
                    merged += 1 + place.documents().len() as usize / DOCUMENTS_PER_WORK;
                }
            }
            merged < *work
        };
        let mut left = *work;
        let is_end = self.walk(after, prefix, (weight, each), &mut left);
        *work = left.saturating_sub(merged);
        is_end
    }

    /// The first word at or after this one. Words that begin with a control character, which only an escaped
    /// one can, are left out.
    pub fn word_from(&self, from: &[u8]) -> Option<(&[u8], u32)> {
        let from = from.max(AFTER_DERIVED);
        self.terms.from(Bound::Included(from)).next().map(|(term, number)| (&**term, number))
    }

    /// How many different terms there are.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// How many documents all terms have together, in each field.
    pub fn record_count(&self) -> usize {
        self.records as usize
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.terms.heap_bytes() + self.lengths.heap_bytes()
    }
}

/// The largest frequency and how many terms have it, after another term.
fn leaders((most, terms): (u32, u32), frequency: u32) -> (u32, u32) {
    match frequency.cmp(&most) {
        Ordering::Greater => (frequency, 1),
        Ordering::Equal if frequency > 0 => (most, terms + 1),
        _ => (most, terms),
    }
}

/// The numbers of words with their counts, by number.
fn counted(numbers: &[u32]) -> Vec<(u32, u32)> {
    let words = numbers.iter().filter(|&&number| number != TEXT_END);
    if numbers.len() <= SORTED_MAX {
        return merged(words.map(|&number| (number, 1)).collect());
    }
    let mut counts: HashMap<u32, u32> = HashMap::default();
    words.for_each(|&number| *counts.entry(number).or_default() += 1);
    let mut counts: Vec<(u32, u32)> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|&(number, _)| number);
    counts
}

/// The same of a text that was read: `numbers` are those of its kept words.
fn counted_words(content: &TextContent, numbers: &[u32]) -> Vec<(u32, u32)> {
    let mut counts: Vec<(u32, u32)> = numbers.iter().map(|&number| (number, 0)).collect();
    let words = content.order().iter().filter(|&&word| word != TEXT_END);
    words.for_each(|&word| counts[word as usize].1 += 1);
    merged(counts)
}

/// The counts of derived terms, by number and unit: several words can have the same.
fn merged_derived(mut derived: Vec<(u32, u32, u32)>) -> Vec<((u32, u32), u32)> {
    derived.sort_unstable_by_key(|&(number, _, _)| number);
    let mut merged: Vec<((u32, u32), u32)> = Vec::with_capacity(derived.len());
    for (number, count, unit) in derived {
        match merged.last_mut() {
            Some(((last, _), sum)) if *last == number => *sum = sum.saturating_add(count),
            _ => merged.push(((number, unit), count)),
        }
    }
    merged
}

/// The sums of equal numbers, by number.
fn merged(mut pairs: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    pairs.sort_unstable_by_key(|&(number, _)| number);
    pairs.dedup_by(|next, sum| {
        let is_same = next.0 == sum.0;
        if is_same {
            sum.1 = sum.1.saturating_add(next.1);
        }
        is_same
    });
    pairs
}

#[cfg(test)]
mod tests;
