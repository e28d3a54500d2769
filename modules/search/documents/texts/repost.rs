//! Posting a changed text again: the words that it has as often as before stay where they are.

use super::super::amend::{Measuring, common};
use super::super::text_content::TextContent;
use super::{DocumentLength, TextPostings, derived_terms, is_stem, leaders};
use crate::documents::TEXT_END;
use crate::schema::language::Language;
use engramdb_engine::hashing::HashMap;

/// Words of a text before that are read together.
const TOUCHED_WORDS: usize = 16;

/// How often a document has a term in a field.
#[derive(Clone, Copy, Default)]
struct CountChange {
    before: u32,
    after: u32,
}

impl TextPostings {
    /// Replaces the words that a document has in a field. Returns the numbers of the new ones, as `post`
    /// does. The length of the document is changed too, or `measuring` says that it must be measured.
    pub fn repost(
        &mut self,
        (document, field): (u32, usize),
        before: Box<[u32]>,
        content: &TextContent,
        language: Language,
        measuring: &mut Measuring,
    ) -> Box<[u32]> {
        let (front, back) = self.common_words(&before, content);
        let gone = &before[front..before.len() - back];
        let new = &content.order()[front..content.order().len() - back];
        if gone.is_empty() && new.is_empty() {
            return before;
        }
        let is_most = 2 * (gone.len() + new.len()) > before.len() + content.order().len();
        if is_most || !self.counts {
            self.unpost((document, field), &before, language);
            let mut tally = super::TermTally::default();
            let numbers = self.post((document, field), content, language, &mut tally);
            measuring.tallies.push((field, tally));
            measuring.is_wanted = true;
            return numbers;
        }
        let new: Vec<u32> = new.iter().map(|&word| self.number_of_word(content, word)).collect();
        let numbers = [&before[..front], &new, &before[before.len() - back..]].concat();
        let words = changed_counts((gone, &new), (&before, &numbers));
        let derived = self.changed_derived((document, field), &words, language);
        let length = self.change_counts((document, field), &words, &derived);
        match length {
            Some(length) => self.set_length(document, length),
            None => measuring.is_wanted = true,
        }
        numbers.into()
    }

    fn number_of_word(&mut self, content: &TextContent, word: u32) -> u32 {
        if word == TEXT_END { TEXT_END } else { self.terms.number_for(content.word(word)) }
    }

    /// See `common`. The bytes of a kept word are compared once.
    fn common_words(&self, before: &[u32], content: &TextContent) -> (usize, usize) {
        self.terms.touch_terms(before.iter().copied().take(TOUCHED_WORDS));
        let mut known: Vec<Option<u32>> = vec![None; content.len()];
        let order = content.order();
        common(before.len(), order.len(), |one, other| {
            let (number, word) = (before[one], order[other]);
            if number == TEXT_END || word == TEXT_END {
                return number == word;
            }
            let known = &mut known[word as usize];
            if known.is_none() && self.term(number) == content.word(word) {
                *known = Some(number);
            }
            *known == Some(number)
        })
    }

    /// The changed counts of terms that are derived of changed words.
    fn changed_derived(
        &mut self,
        (document, field): (u32, usize),
        words: &HashMap<u32, CountChange>,
        language: Language,
    ) -> HashMap<u32, CountChange> {
        let mut differences: HashMap<Vec<u8>, i64> = HashMap::default();
        for (&number, change) in words {
            for term in derived_terms(self.text_field(field), self.term(number), language) {
                *differences.entry(term).or_default() += i64::from(change.after) - i64::from(change.before);
            }
        }
        differences.retain(|_, difference| *difference != 0);
        let mut changes = HashMap::default();
        for (term, difference) in differences {
            let number = self.terms.number_for(&term);
            let places = self.terms.posting(number).places().iter();
            let place =
                places.clone().find(|place| place.field() == field && place.documents.contains(document));
            let before = place.map_or(0, |place| place.count(document));
            let after = u32::try_from(i64::from(before) + difference).expect("a count of words");
            changes.insert(number, CountChange { before, after });
        }
        changes
    }

    /// Posts changed counts. Returns the document's length; `None` if it must be measured.
    fn change_counts(
        &mut self,
        (document, field): (u32, usize),
        words: &HashMap<u32, CountChange>,
        derived: &HashMap<u32, CountChange>,
    ) -> Option<DocumentLength> {
        let before = self.length(document);
        let (mut most, mut most_terms) = (before.most, before.most_terms);
        for (&number, change) in words.iter().chain(derived) {
            let had = self.frequency(number, document);
            match change.after {
                0 => self.remove(number, (field, document)),
                count => self.set_count(number, (field, document), count),
            }
            // The length is that of before where another field has to be measured, and is then not used.
            most_terms = most_terms.saturating_sub(u32::from(had == most));
            (most, most_terms) = leaders((most, most_terms), self.frequency(number, document));
        }
        let unit = i64::from(self.unit(field, false));
        let difference = |change: &CountChange| (i64::from(change.after) - i64::from(change.before)) * unit;
        let sum = i64::from(before.words) + words.values().map(difference).sum::<i64>();
        // Where no term occurs as often as the most frequent ones did, the next ones are not known.
        let is_exact = before.words < u32::MAX && sum < i64::from(u32::MAX) && (most_terms > 0 || sum == 0);
        let words = u32::try_from(sum).ok().filter(|_| is_exact)?;
        Some(DocumentLength { words, most: if words == 0 { 0 } else { most }, most_terms })
    }

    /// What a document's occurrences of a term count for, in all fields.
    fn frequency(&self, number: u32, document: u32) -> u32 {
        let posting = self.terms.posting(number);
        let is_stem = is_stem(self.term(number));
        let places = posting.places().iter().filter(|place| place.documents.contains(document));
        let counts =
            places.map(|place| place.count(document).saturating_mul(self.unit(place.field(), is_stem)));
        counts.fold(0, u32::saturating_add)
    }
}

/// The words of which a text has more or fewer than before.
fn changed_counts(
    (gone, new): (&[u32], &[u32]),
    (before, after): (&[u32], &[u32]),
) -> HashMap<u32, CountChange> {
    let words = gone.iter().chain(new).filter(|&&number| number != TEXT_END);
    let mut changes: HashMap<u32, CountChange> =
        words.map(|&number| (number, CountChange::default())).collect();
    for number in before {
        if let Some(change) = changes.get_mut(number) {
            change.before += 1;
        }
    }
    for number in after {
        if let Some(change) = changes.get_mut(number) {
            change.after += 1;
        }
    }
    changes.retain(|_, change| change.before != change.after);
    changes
}
