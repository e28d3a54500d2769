//! Indexing a document again: what its values have in common with those before stays posted.
//!
//! A field's values are lists: of numbers, or of terms. What two lists have in common at their ends is left
//! alone, so that a change of one value among many costs a comparison of the lists and one value's postings.

use super::columns::FieldColumn;
use super::ids::Counted;
use super::postings::{NumberPostings, TermPostings};
use super::rows::RowLists;
use super::texts::TermTally;
use super::{Documents, FieldContent, Postings};
use engramdb_engine::hashing::HashSet;
use std::slice;

/// Beyond this number of changed values, those that are still there are looked up in a table.
const SCANNED_MAX: usize = 8;

/// Fields of a document, and tags in each, that are read together.
const TOUCHED_FIELDS: usize = 16;
const TOUCHED_TAGS: usize = 4;

/// How many items two lists have in common at their beginning, and behind that at their end.
pub fn common(one: usize, other: usize, mut is_same: impl FnMut(usize, usize) -> bool) -> (usize, usize) {
    let most = one.min(other);
    let front = (0..most).take_while(|&at| is_same(at, at)).count();
    let back = (0..most - front).take_while(|&at| is_same(one - 1 - at, other - 1 - at)).count();
    (front, back)
}

/// The tallies of texts that were posted as a whole, by field, and whether the document's length has to be
/// measured.
#[derive(Default)]
pub struct Measuring {
    pub tallies: Vec<(usize, TermTally)>,
    pub is_wanted: bool,
}

impl Documents {
    /// Whether fields of a document can be indexed again alone: what it has in all fields is known.
    pub fn is_known(&self, id: u32) -> bool {
        self.version_of(id) > self.fields_since
    }

    /// Reads what `amend` of all fields of a document will compare, so that its cache misses overlap.
    pub fn touch(&self, id: u32) {
        let columns = || self.columns.iter().zip(&self.fields).take(TOUCHED_FIELDS);
        columns().for_each(|(column, _)| column.touch(id));
        for (column, postings) in columns() {
            if let (FieldColumn::Tags(tags), Postings::Terms(terms)) = (column, postings) {
                let numbers = tags.get(id);
                terms.touch_terms(numbers.iter().copied().take(TOUCHED_TAGS));
            }
        }
    }

    /// Indexes some fields of a known document again. The others have not changed, nor has what it says of
    /// itself.
    pub fn amend<'c>(&mut self, id: u32, contents: impl IntoIterator<Item = (usize, &'c FieldContent)>) {
        self.changed(id);
        let mut measuring = Measuring::default();
        for (field, content) in contents {
            note_missing(&mut self.missing[field], id, content);
            match &self.fields[field] {
                Postings::None => self.amend_rows((id, field), content),
                Postings::Text => self.amend_text((id, field), content, &mut measuring),
                _ => self.amend_values((id, field), content),
            }
        }
        if measuring.is_wanted {
            self.measure_again(id, measuring.tallies);
        }
        self.keys.slots.set_version(id, self.version);
    }

    fn amend_rows(&mut self, (id, field): (u32, usize), content: &FieldContent) {
        let before = self.keys.take_rows_of(id, field);
        self.value_bytes -= size_of_val(&*before);
        if before.is_empty() && !content.has_rows() {
            return;
        }
        let mut rows = RowLists::from([(field, before)]);
        if content.has_rows() {
            let own = self.fit_rows(&mut rows, (id, field), content);
            self.value_bytes += self.keys.set_rows(id, field, own);
        }
        self.free_rows(rows);
    }

    fn amend_values(&mut self, (id, field): (u32, usize), content: &FieldContent) {
        match (&mut self.fields[field], &mut self.columns[field]) {
            (Postings::Numbers(postings), FieldColumn::Numbers(column)) => {
                let numbers = content.numbers();
                postings.replace(id, column.get(id), numbers);
                self.value_bytes -= column.clear(id);
                match content {
                    FieldContent::Missing => column.set_missing(id),
                    FieldContent::Number(number) => column.set(id, *number),
                    _ => self.value_bytes += column.set_list(id, numbers),
                }
            }
            (Postings::Terms(postings), FieldColumn::Tags(column)) => match content {
                FieldContent::Tag(tag) => {
                    let number = postings.replace_by_one(id, &column.get(id), tag);
                    self.value_bytes -= column.clear(id);
                    self.value_bytes += column.set(id, number);
                }
                _ => {
                    let terms: Vec<&[u8]> = content.tags().iter().map(Vec::as_slice).collect();
                    let numbers = postings.replace(id, &column.get(id), &terms);
                    self.value_bytes -= column.clear(id);
                    match content {
                        FieldContent::Missing => column.set_missing(id),
                        _ => self.value_bytes += column.set_list(id, &numbers),
                    }
                }
            },
            (Postings::Shapes(postings), _) => {
                postings.remove(id);
                if let FieldContent::Geometry(shape) = content {
                    postings.insert(id, shape.clone());
                }
            }
            _ => unreachable!("the others are amended elsewhere"),
        }
    }

    fn amend_text(&mut self, (id, field): (u32, usize), content: &FieldContent, measuring: &mut Measuring) {
        let language = self.about(id).language;
        let FieldColumn::Texts(column) = &mut self.columns[field] else { unreachable!("a TEXT field") };
        let before = column.take(id);
        self.value_bytes -= size_of_val(&*before);
        let after = match content.text() {
            Some(text) => self.texts.repost((id, field), before, text, language, measuring),
            None => {
                measuring.is_wanted |= !before.is_empty();
                self.texts.unpost((id, field), &before, language);
                Box::default()
            }
        };
        self.value_bytes += column.set(id, after);
    }

    /// Measures a document by its words; of some fields there are tallies.
    fn measure_again(&mut self, id: u32, tallies: Vec<(usize, TermTally)>) {
        let language = self.about(id).language;
        let mut tally = TermTally::default();
        for (field, column) in self.columns.iter().enumerate() {
            if let FieldColumn::Texts(column) = column
                && !tallies.iter().any(|(posted, _)| *posted == field)
            {
                self.texts.add_to_tally((id, field), column.get(id), language, &mut tally);
            }
        }
        tallies.into_iter().for_each(|(_, posted)| tally.add(posted));
        self.texts.measure(id, tally);
    }
}

fn note_missing(missing: &mut Counted, id: u32, content: &FieldContent) {
    match content {
        FieldContent::Missing => _ = missing.insert(id),
        _ => _ = missing.remove(id),
    }
}

impl FieldContent {
    /// In the document's order.
    fn numbers(&self) -> &[f64] {
        match self {
            FieldContent::Number(number) => slice::from_ref(number),
            FieldContent::Numbers(numbers) => numbers,
            _ => &[],
        }
    }

    /// Tags, in the document's order.
    fn tags(&self) -> &[Vec<u8>] {
        match self {
            FieldContent::Terms(terms) => terms,
            _ => &[],
        }
    }
}

impl NumberPostings {
    /// Replaces the numbers of a document.
    fn replace(&mut self, document: u32, before: &[f64], after: &[f64]) {
        let is_same = |one: usize, other: usize| before[one].to_bits() == after[other].to_bits();
        let (front, back) = common(before.len(), after.len(), is_same);
        let gone = &before[front..before.len() - back];
        let new = &after[front..after.len() - back];
        if gone.len() <= SCANNED_MAX {
            // 0 and -0 are one number.
            let gone = gone.iter().filter(|number| !after.contains(number));
            gone.for_each(|&number| self.remove(number, document));
        } else {
            let kept: HashSet<u64> = after.iter().map(|number| (number + 0.0).to_bits()).collect();
            let gone = gone.iter().filter(|&number| !kept.contains(&(number + 0.0).to_bits()));
            gone.for_each(|&number| self.remove(number, document));
        }
        new.iter().for_each(|&number| self.insert(number, document));
    }
}

impl TermPostings {
    /// The same for a document that has one term now, without an allocation.
    fn replace_by_one(&mut self, document: u32, before: &[u32], after: &[u8]) -> u32 {
        match before {
            [number] if self.term(*number) == after => *number,
            _ => {
                let number = self.insert(after, document);
                before.iter().filter(|&&gone| gone != number).for_each(|&gone| self.remove(gone, document));
                number
            }
        }
    }

    /// Replaces the terms of a document, which has those of the numbers `before`. Returns the numbers of the
    /// new ones.
    fn replace(&mut self, document: u32, before: &[u32], after: &[&[u8]]) -> Box<[u32]> {
        let is_same = |one: usize, other: usize| self.term(before[one]) == after[other];
        let (front, back) = common(before.len(), after.len(), is_same);
        let gone = &before[front..before.len() - back];
        let new = after[front..after.len() - back].iter();
        let new: Vec<u32> = new.map(|term| self.insert(term, document)).collect();
        let numbers = [&before[..front], &new, &before[before.len() - back..]].concat();
        if gone.len() <= SCANNED_MAX {
            gone.iter()
                .filter(|number| !numbers.contains(number))
                .for_each(|&gone| self.remove(gone, document));
        } else {
            let kept: HashSet<u32> = numbers.iter().copied().collect();
            gone.iter().filter(|number| !kept.contains(number)).for_each(|&gone| self.remove(gone, document));
        }
        numbers.into()
    }
}

#[cfg(test)]
mod tests;
