//! A document in the keyspace, of any type.
//!
//! An index reads all documents through this. A hash is found by a match, so that reading one of its fields
//! costs what it costs without this.

use super::view::HashView;
use crate::keyspace::{
    DocumentPath, DocumentSource, DocumentType, FieldValue, Several, ShownValue, ValueRef,
};

/// A document as it is read.
#[derive(Clone, Copy)]
pub enum Document<'a> {
    Hash(HashView<'a>),
    Object(&'a dyn DocumentSource),
}

impl<'a> Document<'a> {
    /// The value as a document of this type, without the fields that have expired at `now_ms` (0: with
    /// these). `None` if it is of another type.
    #[inline]
    pub fn of(value: ValueRef<'a>, documents: DocumentType, now_ms: u64) -> Option<Document<'a>> {
        match (value, documents) {
            (ValueRef::Hash(hash), DocumentType::Hash) => Some(Document::Hash(HashView::new(hash, now_ms))),
            (ValueRef::Object(object), DocumentType::Object(data_type))
                if object.data_type().name() == data_type.name() =>
            {
                object.document().map(Document::Object)
            }
            _ => None,
        }
    }

    /// Calls `each` with the values at a path, in order: that of the hash's field of this name.
    #[inline]
    pub fn values(&self, path: &[u8], mut each: impl FnMut(FieldValue<'_>)) {
        match self {
            Document::Hash(hash) => {
                if let Some(field) = hash.get(path) {
                    each(FieldValue::Stored(field.value));
                }
            }
            Document::Object(object) => object.values(path, &mut each),
        }
    }

    /// The same for a path that is read again and again.
    #[inline]
    pub fn values_at(&self, path: &DocumentPath, mut each: impl FnMut(FieldValue<'_>)) {
        match self {
            Document::Hash(_) => self.values(path, each),
            Document::Object(object) => object.values_at(path, &mut each),
        }
    }

    /// Whether there is a value at a path; a null is none.
    pub fn has(&self, path: &[u8]) -> bool {
        let mut is_there = false;
        self.values(path, |value| is_there |= !matches!(value, FieldValue::Null));
        is_there
    }

    /// Calls `with` on the first value at a path.
    #[inline]
    pub fn first<R>(&self, path: &[u8], with: impl FnOnce(FieldValue<'_>) -> R) -> Option<R> {
        match self {
            Document::Hash(hash) => hash.get(path).map(|field| with(FieldValue::Stored(field.value))),
            Document::Object(object) => {
                let (mut with, mut result) = (Some(with), None);
                object.first_value(path, &mut |value| {
                    result = with.take().map(|with| with(value));
                });
                result
            }
        }
    }

    /// What a reply shows of a path.
    #[inline]
    pub fn shown(&self, path: &[u8], several: Several) -> Option<ShownValue<'a>> {
        match self {
            Document::Hash(hash) => hash.get(path).map(|field| ShownValue::Stored(field.value)),
            Document::Object(object) => object.shown(path, several),
        }
    }

    /// Calls `each` with the names and values of a reply that shows all of the document: the fields of a
    /// hash.
    pub fn each_shown(&self, several: Several, mut each: impl FnMut(&'a [u8], ShownValue<'a>)) {
        match self {
            Document::Hash(hash) => {
                hash.iter().for_each(|field| each(field.name, ShownValue::Stored(field.value)));
            }
            Document::Object(object) => {
                object.each_shown(several, &mut each);
            }
        }
    }
}
