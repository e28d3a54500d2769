//! Copies of the parts of documents that a reply shows. They are written without the keyspace's lock.

use super::plan::Plan;
use super::reply::{is_of_index, sorted_field};
use engramdb_engine::keyspace::{DocumentSource, FieldValue, Several, ShownValue};
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::HashView;
use engramdb_engine::types::{Field, Hash, StringRef};
use std::borrow::Cow;

/// The parts of a document that a reply shows.
pub enum Excerpt {
    /// Some fields of a hash, with their expiry.
    Hash(Hash),
    Texts(Texts),
}

/// The parts of a document that is not a hash, as text.
#[derive(Default)]
pub struct Texts {
    /// The values at paths, by path.
    at: Vec<NamedText>,
    /// The fields that the whole document shows, by name.
    whole: Vec<NamedText>,
}

/// A name or path, and the text; `None` for a null.
type NamedText = (Box<[u8]>, Option<Box<[u8]>>);

impl Excerpt {
    /// Copies the parts of a document that the reply shows.
    pub fn of(plan: &Plan, document: &Document<'_>) -> Excerpt {
        match document {
            Document::Hash(hash) => Excerpt::Hash(of_hash(plan, hash)),
            Document::Object(object) => Excerpt::Texts(Texts::of(plan, *object)),
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Excerpt::Hash(hash) => hash.heap_bytes(),
            Excerpt::Texts(texts) => texts.heap_bytes(),
        }
    }

    /// The copy as a document, without the fields that have expired at `now_ms`.
    pub fn read(&self, now_ms: u64) -> Document<'_> {
        match self {
            Excerpt::Hash(hash) => Document::Hash(HashView::new(hash, now_ms)),
            Excerpt::Texts(texts) => Document::Object(texts),
        }
    }
}

fn of_hash(plan: &Plan, hash: &HashView<'_>) -> Hash {
    let request = plan.request();
    let definition = &plan.index.definition;
    let payload = definition.options.payload_field.as_slice();
    let payload = if request.with_payloads { hash.get(payload) } else { None };
    match &request.fields {
        _ if request.no_content => hash.copy_of(payload.into_iter()),
        Some(fields) => {
            let named = fields.iter().map(|(name, _)| definition.identifier_of(name));
            hash.copy_of(named.filter_map(|name| hash.get(name)).chain(payload))
        }
        None => {
            let sorted = sorted_field(plan).map(|field| field.identifier.as_slice());
            let is_shown = |field: &Field<'_>| {
                let name = field.name;
                sorted == Some(name) || !is_of_index(plan, name)
            };
            hash.copy_of(hash.iter().filter(is_shown).chain(payload))
        }
    }
}

impl Texts {
    fn of(plan: &Plan, document: &dyn DocumentSource) -> Texts {
        let request = plan.request();
        let definition = &plan.index.definition;
        let mut texts = Texts::default();
        let mut add = |path: &[u8]| {
            let shown = document.shown(path, request.several());
            texts.at.extend(shown.map(|value| named(path, value)));
        };
        if request.with_payloads {
            add(&definition.options.payload_field);
        }
        match &request.fields {
            _ if request.no_content => {}
            Some(fields) => fields.iter().for_each(|(name, _)| add(definition.identifier_of(name))),
            None => {
                sorted_field(plan).into_iter().for_each(|field| add(&field.identifier));
                document.each_shown(request.several(), &mut |name, value| {
                    texts.whole.push(named(name, value));
                });
            }
        }
        texts
    }

    fn heap_bytes(&self) -> usize {
        let pairs = self.at.iter().chain(&self.whole);
        let text_bytes = |text: &Option<Box<[u8]>>| text.as_ref().map_or(0, |text| text.len());
        pairs.map(|(name, text)| size_of::<NamedText>() + name.len() + text_bytes(text)).sum()
    }
}

fn named(name: &[u8], value: ShownValue<'_>) -> NamedText {
    let text = match value {
        ShownValue::Stored(text) => Some(text.to_bytes().into()),
        ShownValue::Text(text) => Some(text.into()),
        ShownValue::Null => None,
    };
    (name.into(), text)
}

fn shown((_, text): &NamedText) -> ShownValue<'_> {
    text.as_ref().map_or(ShownValue::Null, |text| ShownValue::Text(Cow::Borrowed(text)))
}

impl DocumentSource for Texts {
    fn values(&self, path: &[u8], each: &mut dyn FnMut(FieldValue<'_>)) {
        if let Some((_, Some(text))) = self.at.iter().find(|(at, _)| **at == *path) {
            each(FieldValue::Stored(StringRef::Bytes(text)));
        }
    }

    fn shown(&self, path: &[u8], _: Several) -> Option<ShownValue<'_>> {
        self.at.iter().find(|(at, _)| **at == *path).map(shown)
    }

    fn each_shown<'s>(&'s self, _: Several, each: &mut dyn FnMut(&'s [u8], ShownValue<'s>)) {
        self.whole.iter().for_each(|named| each(&named.0, shown(named)));
    }
}
