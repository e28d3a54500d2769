//! Documents that are read before they are there.
//!
//! Reading a large document takes milliseconds to seconds: paths are walked over all of it, texts are cut
//! into words. A write of one comes back before its effect (`Module::preparation`); the document that it is
//! going to make is read without the keyspace's lock, and `observe` posts what was read. What is missing in
//! it (another index, a field that was added meanwhile) is read in place.

use super::Index;
use super::scope::{ChangedNames, FieldNumbers, ReadScope};
use crate::documents::filtering::accepts;
use crate::documents::reading::{self, DocumentValues, Unreadable};
use crate::documents::text_content::TextContent;
use crate::documents::{About, FieldContent};
use crate::error::SearchError;
use crate::schema::{Definition, FieldKind};
use engramdb_engine::effect::Effect;
use engramdb_engine::hashing::HashSet;
use engramdb_engine::keyspace::{DocumentType, FieldValue, Keyspace, ValueRef};
use engramdb_engine::module::{FORESEEN_VALUE_BYTES, Observation, Upcoming};
use engramdb_engine::store::document::Document;
use engramdb_engine::types::StringRef;
use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

/// An object is read before it is there, if its bytes times the fields to read are more: about a
/// millisecond.
pub const WALKED_BYTES_MIN: usize = 256 << 10;

/// What several indexes read of a document.
pub struct ForeseenDocument(Vec<ForeseenContent>);

/// What one index reads of it.
#[derive(Default)]
pub struct ForeseenContent {
    /// The definition's id; `None` if nothing was read.
    index: Option<u64>,
    /// Whether the filter takes it.
    is_accepted: Option<bool>,
    about: Option<About>,
    contents: Vec<(usize, Result<FieldContent, SearchError>)>,
    vectors: Vec<(usize, Vec<Box<[u8]>>)>,
    /// What was posted: it is freed without the lock.
    used: Vec<FieldContent>,
}

/// An index that reads a document before, and what it reads.
pub type Foreseeing = (Arc<Index>, ReadScope);

/// The names of fields to which an effect gives large values.
#[derive(Default)]
pub struct LargeNames<'e>(HashSet<&'e [u8]>);

impl<'e> LargeNames<'e> {
    pub fn of(effect: &Effect<'e>) -> LargeNames<'e> {
        let mut names = HashSet::default();
        if let Effect::HashSet { fields, .. } = effect {
            for (name, value) in fields.pairs() {
                if value.len() >= FORESEEN_VALUE_BYTES {
                    names.insert(name);
                } else if !names.is_empty() {
                    // Of a name that comes twice the last value counts.
                    names.remove(name);
                }
            }
        }
        LargeNames(names)
    }
}

/// What an index reads of the document that an effect changes, if this takes long.
pub fn foreseeing(
    index: &Arc<Index>,
    keyspace: &Keyspace,
    (database, key): (u32, &[u8]),
    (effect, large): (&Effect<'_>, &LargeNames<'_>),
) -> Option<Foreseeing> {
    let scope = match (effect, index.definition.documents) {
        (Effect::HashSet { .. }, DocumentType::Hash) => index.large_fields(large),
        (Effect::Module { payload, .. }, DocumentType::Object(data_type)) if data_type.takes(effect) => {
            let bytes = match keyspace.entry(database, key).map(|entry| entry.value()) {
                Some(ValueRef::Object(object)) => object.heap_bytes(),
                _ => 0,
            };
            let bytes = bytes.saturating_add(payload.len());
            if bytes.saturating_mul(index.definition.fields.len()) < WALKED_BYTES_MIN {
                return None;
            }
            index.fields_of_object((database, key), keyspace, effect, bytes)
        }
        _ => None,
    };
    Some((index.clone(), scope?))
}

/// Reads the document for these indexes. `is_wanted` is asked before each field.
pub fn foresee(
    key: &[u8],
    upcoming: &Upcoming,
    by: Vec<Foreseeing>,
    is_wanted: &dyn Fn() -> bool,
) -> Observation {
    let reading = Reading { texts: RefCell::default(), is_wanted };
    let read = |(index, scope): Foreseeing| index.foresee_upcoming(key, upcoming, scope, &reading);
    let all: Vec<ForeseenContent> = by.into_iter().map(read).collect();
    // Of a shared text each index counts its part.
    drop(reading);
    let heap_bytes = all.iter().map(ForeseenContent::heap_bytes).sum();
    Observation { value: Box::new(ForeseenDocument(all)), heap_bytes }
}

/// Reads all that an index wants of a document.
pub fn foresee_whole(index: &Index, key: &[u8], upcoming: &Upcoming) -> ForeseenContent {
    let reading = Reading { texts: RefCell::default(), is_wanted: &|| true };
    index.foresee_upcoming(key, upcoming, ReadScope::Whole, &reading)
}

/// The reading of one document for several indexes.
struct Reading<'r> {
    /// Texts that were read for an index, and how: another one that reads them in the same way shares them.
    texts: RefCell<Vec<(TextReading, Arc<TextContent>)>>,
    is_wanted: &'r dyn Fn() -> bool,
}

/// All on which the words of a TEXT field depend beside the document.
#[derive(PartialEq)]
struct TextReading {
    identifier: Vec<u8>,
    stop_words: Option<Vec<Vec<u8>>>,
    index_empty: bool,
}

impl TextReading {
    /// `None` if the field has no words.
    fn of(definition: &Definition, field: usize) -> Option<TextReading> {
        let stop_words = definition.options.stop_words.clone();
        let field = &definition.fields[field];
        let (identifier, index_empty) = (field.identifier.to_vec(), field.index_empty);
        let has_words = matches!(field.kind, FieldKind::Text { .. }) && !field.no_index;
        has_words.then_some(TextReading { identifier, stop_words, index_empty })
    }
}

/// Fields of a hash that a write brings.
struct UpcomingFields<'f>(&'f [(Vec<u8>, Arc<Vec<u8>>)]);

impl DocumentValues for UpcomingFields<'_> {
    fn values(&self, path: &[u8], mut each: impl FnMut(FieldValue<'_>)) {
        // The last one counts, should a name come twice.
        if let Some((_, value)) = self.0.iter().rfind(|(name, _)| name == path) {
            each(FieldValue::Stored(StringRef::Bytes(value)));
        }
    }
}

impl ForeseenDocument {
    /// What was read for this index.
    pub fn take(&mut self, index: &Index) -> Option<ForeseenContent> {
        let at = self.0.iter().position(|content| content.index == Some(index.definition.id))?;
        Some(self.0.swap_remove(at))
    }
}

impl ForeseenContent {
    fn of(index: &Index) -> ForeseenContent {
        ForeseenContent { index: Some(index.definition.id), ..ForeseenContent::default() }
    }

    pub fn is_accepted(&self) -> Option<bool> {
        self.is_accepted
    }

    pub fn take_about(&mut self) -> Option<About> {
        self.about.take()
    }

    pub fn take_content(&mut self, field: usize) -> Option<Result<FieldContent, SearchError>> {
        let at = self.contents.iter().position(|(of, _)| *of == field)?;
        Some(self.contents.swap_remove(at).1)
    }

    /// The vectors in a field, in order; `None` if they were not read.
    pub fn vectors(&self, field: usize) -> Option<&[Box<[u8]>]> {
        self.vectors.iter().find(|(of, _)| *of == field).map(|(_, vectors)| &vectors[..])
    }

    /// Keeps what was posted, if something was read before.
    pub fn keep_used(&mut self, used: Vec<FieldContent>) {
        if !self.is_nothing() {
            self.used = used;
        }
    }

    /// For tests: what an index read of nothing.
    #[cfg(test)]
    pub fn of_index(id: u64) -> ForeseenContent {
        ForeseenContent { index: Some(id), ..ForeseenContent::default() }
    }

    pub fn is_nothing(&self) -> bool {
        self.index.is_none()
    }

    /// Whether a field was read, or what was read says that the document is not indexed.
    pub fn has(&self, field: usize) -> bool {
        let says = |(of, content): &(usize, Result<_, _>)| *of == field || content.is_err();
        self.is_accepted == Some(false) || self.contents.iter().any(says)
    }

    fn heap_bytes(&self) -> usize {
        let content = |(_, content): &(usize, Result<FieldContent, SearchError>)| {
            content.as_ref().map_or(0, FieldContent::heap_bytes)
        };
        let vectors =
            |(_, vectors): &(usize, Vec<Box<[u8]>>)| vectors.iter().map(|vector| vector.len()).sum::<usize>();
        self.contents.iter().map(content).sum::<usize>() + self.vectors.iter().map(vectors).sum::<usize>()
    }
}

impl Index {
    /// The fields to which a hash gets large values.
    fn large_fields(&self, names: &LargeNames<'_>) -> Option<ReadScope> {
        let fields = self.definition.fields.iter().enumerate();
        let large = fields.filter(|(_, field)| {
            !matches!(field.kind, FieldKind::Vector(_)) && names.0.contains(&field.identifier[..])
        });
        let large: FieldNumbers = large.map(|(number, _)| number).collect();
        (!large.is_empty()).then_some(ReadScope::Fields(large))
    }

    /// The fields of an object of this many bytes that an effect can have changed.
    fn fields_of_object(
        &self,
        (database, key): (u32, &[u8]),
        keyspace: &Keyspace,
        effect: &Effect<'_>,
        bytes: usize,
    ) -> Option<ReadScope> {
        let document = self.document(keyspace, database, key);
        let scope = self.concerned((effect, &ChangedNames::default()), None, document.as_ref());
        let scope = match scope {
            ReadScope::Fields(fields) if fields.is_empty() => return None,
            ReadScope::Fields(_) if self.known(key).is_none() => ReadScope::Whole,
            scope => scope,
        };
        let fields = match &scope {
            ReadScope::Whole => self.definition.fields.len(),
            ReadScope::Fields(fields) => fields.len(),
        };
        (bytes.saturating_mul(fields) >= WALKED_BYTES_MIN).then_some(scope)
    }

    fn foresee_upcoming(
        &self,
        key: &[u8],
        upcoming: &Upcoming,
        scope: ReadScope,
        reading: &Reading<'_>,
    ) -> ForeseenContent {
        match upcoming {
            Upcoming::Object(object) => match object.document() {
                Some(document) => self.foresee(key, &Document::Object(document), scope, reading),
                None => ForeseenContent::of(self),
            },
            Upcoming::Fields(fields) => self.foresee(key, &UpcomingFields(fields), scope, reading),
        }
    }

    /// Reads a field, or shares what was read for another index.
    fn read_shared(
        &self,
        field: usize,
        document: &impl DocumentValues,
        reading: &Reading<'_>,
    ) -> Result<FieldContent, Unreadable> {
        let how = TextReading::of(&self.definition, field);
        if let Some(how) = &how {
            let texts = reading.texts.borrow();
            if let Some((_, text)) = texts.iter().find(|(read, _)| read == how) {
                return Ok(FieldContent::SharedText(text.clone()));
            }
        }
        match (how, reading::read_field(&self.definition, field, document)?) {
            (Some(how), FieldContent::Text(text)) => {
                let text = Arc::new(text);
                reading.texts.borrow_mut().push((how, text.clone()));
                Ok(FieldContent::SharedText(text))
            }
            (_, content) => Ok(content),
        }
    }

    fn foresee(
        &self,
        key: &[u8],
        document: &impl DocumentValues,
        scope: ReadScope,
        reading: &Reading<'_>,
    ) -> ForeseenContent {
        let mut foreseen = ForeseenContent::of(self);
        let fields = match scope {
            ReadScope::Whole => {
                let is_accepted = accepts(&self.definition, key, document);
                foreseen.is_accepted = Some(is_accepted);
                if !is_accepted {
                    return foreseen;
                }
                foreseen.about = Some(reading::about(&self.definition, document));
                (0..self.definition.fields.len()).collect()
            }
            ReadScope::Fields(fields) => fields,
        };
        for field in fields {
            if !(reading.is_wanted)() {
                break;
            }
            let content = self.read_shared(field, document, reading);
            let is_readable = content.is_ok();
            foreseen.contents.push((field, content.map_err(|unreadable| unreadable.cause)));
            if !is_readable {
                break;
            }
            if self.vectors[field].is_some() {
                let mut vectors = Vec::new();
                self.each_vector(document, field, |vector| vectors.push(vector.into()));
                foreseen.vectors.push((field, vectors));
            }
        }
        foreseen
    }
}

impl FieldContent {
    fn heap_bytes(&self) -> usize {
        match self {
            FieldContent::Numbers(numbers) => numbers.capacity() * size_of::<f64>(),
            FieldContent::Tag(tag) => tag.capacity(),
            FieldContent::Terms(terms) => {
                terms.iter().map(|term| mem::size_of_val(term) + term.capacity()).sum()
            }
            FieldContent::Text(text) => text.heap_bytes(),
            FieldContent::SharedText(text) => text.heap_bytes() / Arc::strong_count(text),
            FieldContent::Geometry(shape) => shape.heap_bytes(),
            _ => 0,
        }
    }
}
