//! The texts of tags that rows have, kept from one batch to the next.
//!
//! Many rows have the same few tags. A tag's text is copied once, under the lock of the documents, and found
//! by the tag's number afterwards. A number belongs to another tag once its last document is gone: then all
//! is forgotten.

use crate::documents::Documents;
use std::ops::Range;

/// The most bytes of the texts.
const BYTES_MAX: usize = 1 << 20;
/// The most entries of all columns together, each for a number.
const ENTRIES_MAX: usize = 1 << 18;

/// The texts of tags, by column and number.
#[derive(Debug, Default)]
pub struct TagTexts {
    columns: Vec<ColumnTags>,
    bytes: Vec<u8>,
    entries: usize,
    /// Grows whenever all is forgotten.
    generation: u64,
}

#[derive(Debug, Default)]
struct ColumnTags {
    /// The field of the index, and its count of numbers that have lost their tag.
    field: Option<(usize, u64)>,
    /// By number, where the text is; an empty range that begins at 0 if it is not known.
    texts: Vec<Range<u32>>,
    known: Vec<u32>,
}

impl TagTexts {
    /// Forgets all texts if a number may belong to another tag now. Only between two batches.
    pub fn follow(&mut self, documents: &Documents) {
        let is_current = |column: &ColumnTags| {
            column.field.is_none_or(|(field, renumbered)| {
                documents.terms(field).is_some_and(|terms| terms.renumbered() == renumbered)
            })
        };
        if self.columns.iter().all(is_current) {
            return;
        }
        for column in &mut self.columns {
            column.known.drain(..).for_each(|tag| column.texts[tag as usize] = 0..0);
            column.field = None;
        }
        // The first byte is no text's, so that no text begins at 0.
        self.bytes.truncate(1);
        self.generation += 1;
    }

    /// Forgets all texts, and gives the memory back. Only between two batches.
    pub fn release(&mut self) {
        *self = TagTexts { generation: self.generation + 1, ..TagTexts::default() };
    }

    /// While this is the same, a number of a column is the same tag.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    #[inline]
    pub fn has(&self, column: usize, tag: u32) -> bool {
        let texts = self.columns.get(column).map(|column| &column.texts);
        texts.and_then(|texts| texts.get(tag as usize)).is_some_and(|text| text.start > 0)
    }

    /// Keeps the text of a tag, as the column shows it. False, without a change, if that takes too much.
    pub fn add(
        &mut self,
        (column, field): (usize, usize),
        tag: u32,
        text: &[u8],
        documents: &Documents,
    ) -> bool {
        while self.columns.len() <= column {
            self.columns.push(ColumnTags::default());
        }
        let own = &mut self.columns[column];
        let more = (tag as usize + 1).saturating_sub(own.texts.len());
        if self.entries + more > ENTRIES_MAX || self.bytes.len() + text.len() >= BYTES_MAX {
            return false;
        }
        self.entries += more;
        own.texts.resize(own.texts.len() + more, 0..0);
        if self.bytes.is_empty() {
            self.bytes.push(0);
        }
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(text);
        own.texts[tag as usize] = start..self.bytes.len() as u32;
        own.known.push(tag);
        own.field = documents.terms(field).map(|terms| (field, terms.renumbered()));
        true
    }

    /// The text of a tag that is kept.
    #[inline]
    pub fn text(&self, column: usize, tag: u32) -> &[u8] {
        let range = &self.columns[column].texts[tag as usize];
        &self.bytes[range.start as usize..range.end as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{DocumentContent, FieldContent};
    use crate::schema::create::definition_of;

    #[test]
    fn texts_are_kept_until_a_number_may_be_another_tag() {
        let mut documents = Documents::new(&definition_of("FT.CREATE i SCHEMA t TAG"));
        let put = |documents: &mut Documents, key: &[u8], tag: &[u8]| {
            let content = DocumentContent {
                fields: vec![FieldContent::Tag(tag.to_vec())],
                ..DocumentContent::default()
            };
            documents.upsert(key, &content);
            documents.terms(0).and_then(|terms| terms.number(tag)).expect("it is there")
        };
        let (red, blue) = (put(&mut documents, b"1", b"red"), put(&mut documents, b"2", b"blue"));
        let mut tags = TagTexts::default();
        assert!(!tags.has(2, red));
        assert!(tags.add((2, 0), red, b"RED", &documents) && tags.add((2, 0), blue, b"", &documents));
        assert!(tags.has(2, red) && tags.has(2, blue) && !tags.has(0, red));
        put(&mut documents, b"3", b"green");
        tags.follow(&documents);
        assert_eq!((tags.text(2, red), tags.text(2, blue), tags.generation()), (&b"RED"[..], &b""[..], 0));
        // The number of the tag that is gone is given to another one.
        documents.remove(b"1");
        assert_eq!(put(&mut documents, b"4", b"black"), red);
        tags.follow(&documents);
        assert!(!tags.has(2, red) && !tags.has(2, blue) && tags.generation() == 1);
        assert!(tags.add((0, 0), red, b"black", &documents));
        assert_eq!(tags.text(0, red), b"black");
        tags.release();
        assert!(!tags.has(0, red) && tags.generation() == 2 && tags.bytes.capacity() == 0);
        // What takes too much is not kept.
        assert!(!tags.add((0, 0), ENTRIES_MAX as u32, b"far", &documents));
        assert!(!tags.add((1, 0), blue, &[0; BYTES_MAX], &documents) && !tags.has(1, blue));
    }
}
