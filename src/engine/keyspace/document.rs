//! Documents: values as an index reads them.
//!
//! A hash is a document: its fields are found by name. An object is one if its data type says so
//! ([`DataType::documents`], [`TypedValue::document`]): its values are found by path, and there may be
//! several at one. An index is over documents of one type.
//!
//! [`TypedValue::document`]: super::TypedValue::document

use super::typed::DataType;
use crate::types::StringRef;
use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// A value of a document, as an index reads it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FieldValue<'v> {
    /// Bytes whose meaning is up to the field of the index: the value of a hash's field, or a vector in the
    /// form in which the index stores it.
    Stored(StringRef<'v>),
    Text(&'v str),
    Number(f64),
    Boolean(bool),
    /// An array of numbers alone, or of nothing: a vector, or several numbers.
    Numbers(&'v [f64]),
    /// Any other array: its elements, of which arrays and objects are `Other`.
    Array(&'v [FieldValue<'v>]),
    /// Is there, and nothing is indexed of it.
    Null,
    /// What no field can index: an object.
    Other,
}

/// What a reply shows of a document.
#[derive(Clone, Debug)]
pub enum ShownValue<'a> {
    Stored(StringRef<'a>),
    Text(Cow<'a, [u8]>),
    Number(f64),
    /// The text of a list: of all values at a path.
    List(Cow<'a, [u8]>),
    Null,
}

/// Which of the values at a path a reply shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Several {
    /// The first, as it is (dialects 1 and 2).
    First,
    /// All, as one list (dialects 3 and 4).
    All,
}

/// What it costs to read the values at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathCost {
    /// It leads to one value at most, which is looked up.
    Lookup,
    /// Reading takes about as long as this number of walks over the whole document.
    Walks(usize),
    /// Only the walk itself can tell: it may visit a value again and again.
    Unknown,
}

/// A path of documents that are read again and again. It keeps what their type has made of it at the first
/// time.
#[derive(Default)]
pub struct DocumentPath {
    bytes: Vec<u8>,
    parsed: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl DocumentPath {
    /// What `parse` makes of the path. It is asked once: a path is one of documents of one type.
    pub fn parsed<T: Send + Sync + 'static>(&self, parse: impl FnOnce(&[u8]) -> T) -> &T {
        let parsed = self.parsed.get_or_init(|| Box::new(parse(&self.bytes)));
        parsed.downcast_ref().expect("one type of documents has made it")
    }
}

impl From<Vec<u8>> for DocumentPath {
    fn from(bytes: Vec<u8>) -> DocumentPath {
        DocumentPath { bytes, parsed: OnceLock::new() }
    }
}

impl Deref for DocumentPath {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Clone for DocumentPath {
    fn clone(&self) -> DocumentPath {
        self.bytes.clone().into()
    }
}

impl PartialEq for DocumentPath {
    fn eq(&self, other: &DocumentPath) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for DocumentPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes.fmt(f)
    }
}

/// A document that is not a hash. Paths are those that the data type accepts
/// ([`DataType::is_document_path`]), and others that clients name in a query. There is nothing at a malformed
/// one.
pub trait DocumentSource: Send + Sync {
    /// Calls `each` with the values at a path, in order; not at all where there is nothing. An array is one
    /// value.
    fn values(&self, path: &[u8], each: &mut dyn FnMut(FieldValue<'_>));

    /// The same for a path that is read again and again.
    fn values_at(&self, path: &DocumentPath, each: &mut dyn FnMut(FieldValue<'_>)) {
        self.values(path, each);
    }

    /// Calls `each` with the first value at a path, if there is one.
    fn first_value(&self, path: &[u8], each: &mut dyn FnMut(FieldValue<'_>)) {
        let mut is_first = true;
        self.values(path, &mut |value| {
            if std::mem::take(&mut is_first) {
                each(value);
            }
        });
    }

    /// What a reply shows of the values at a path; `None` where there is nothing.
    fn shown(&self, path: &[u8], several: Several) -> Option<ShownValue<'_>>;

    /// Calls `each` with the names and values of a reply that shows the whole document.
    fn each_shown<'s>(&'s self, several: Several, each: &mut dyn FnMut(&'s [u8], ShownValue<'s>));

    /// About how many bytes a walk over all of it reads. Costs no walk.
    fn walked_bytes(&self) -> usize {
        0
    }

    /// About how many bytes the value takes to which a path of [`PathCost::Lookup`] leads. Costs a lookup.
    fn bytes_at(&self, _path: &[u8]) -> usize {
        self.walked_bytes()
    }

    /// The document as it is at this moment, for a reader without the keyspace's lock. It shares its memory
    /// with this one until this one changes. `None` if its type has no such copy.
    fn held(&self) -> Option<Arc<dyn DocumentSource>> {
        None
    }
}

/// The type of the documents of an index.
#[derive(Clone, Copy)]
pub enum DocumentType {
    Hash,
    /// A data type with [`DataType::documents`].
    Object(&'static dyn DataType),
}

impl DocumentType {
    /// What ON of FT.CREATE calls it.
    pub fn name(self) -> &'static str {
        match self {
            DocumentType::Hash => "HASH",
            DocumentType::Object(data_type) => data_type.documents().expect("documents are of such types"),
        }
    }

    /// Whether a field of an index can be at this path.
    pub fn is_path(self, path: &[u8]) -> bool {
        match self {
            DocumentType::Hash => true,
            DocumentType::Object(data_type) => data_type.is_document_path(path),
        }
    }

    /// How many patterns a path has that are compiled with it.
    pub fn patterns_in(self, path: &[u8]) -> usize {
        match self {
            DocumentType::Hash => 0,
            DocumentType::Object(data_type) => data_type.patterns_in(path),
        }
    }

    /// What it costs to read the values at a path.
    pub fn path_cost(self, path: &[u8]) -> PathCost {
        match self {
            DocumentType::Hash => PathCost::Lookup,
            DocumentType::Object(data_type) => data_type.path_cost(path),
        }
    }

    /// Whether a document has at most one value at this path.
    pub fn leads_to_one(self, path: &[u8]) -> bool {
        match self {
            DocumentType::Hash => true,
            DocumentType::Object(data_type) => data_type.leads_to_one(path),
        }
    }
}

impl PartialEq for DocumentType {
    fn eq(&self, other: &DocumentType) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for DocumentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
