//! The numbers of an index's documents and postings, for FT.INFO.

use super::{Documents, Postings};

/// Sizes are in bytes, estimated.
pub struct DocumentCounts {
    pub documents: usize,
    pub id_bound: u32,
    /// Different words of texts, and different terms of texts and tags.
    pub words: usize,
    pub terms: usize,
    /// What postings hold: a document for each term of its texts, one for its tags, and each of its numbers,
    /// positions and shapes. Vectors are not counted.
    pub records: usize,
    pub posting_bytes: usize,
    pub table_bytes: usize,
    /// The part of `table_bytes` that finds documents by their keys.
    pub key_bytes: usize,
    /// Parts of `posting_bytes`.
    pub tag_bytes: usize,
    pub text_bytes: usize,
    pub shape_bytes: usize,
}

impl Documents {
    pub fn counts(&self) -> DocumentCounts {
        let mut counts = DocumentCounts {
            documents: self.len(),
            id_bound: self.id_bound(),
            words: self.texts.len(),
            terms: self.texts.len(),
            records: self.texts.record_count(),
            posting_bytes: self.posting_bytes(),
            table_bytes: self.table_bytes(),
            key_bytes: self.keys.key_bytes + self.keys.ids.heap_bytes(),
            tag_bytes: 0,
            text_bytes: self.texts.heap_bytes(),
            shape_bytes: 0,
        };
        for (postings, missing) in self.fields.iter().zip(&self.missing) {
            let present = self.len().saturating_sub(missing.len() as usize);
            match postings {
                Postings::None | Postings::Text => {}
                Postings::Terms(terms) => {
                    counts.terms += terms.len();
                    counts.records += present;
                    counts.tag_bytes += terms.heap_bytes();
                }
                Postings::Numbers(numbers) => counts.records += numbers.len(),
                Postings::Shapes(shapes) => {
                    counts.records += present;
                    counts.shape_bytes += shapes.heap_bytes();
                }
            }
        }
        counts
    }
}
