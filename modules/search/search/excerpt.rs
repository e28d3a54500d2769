//! Copies of the parts of documents that a reply shows. They are written without the keyspace's lock.

use super::plan::Plan;
use super::reply::{is_of_index, shown_as, sorted_field};
use engramdb_engine::keyspace::{DocumentSource, FieldValue, Several, ShownValue};
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::HashView;
use engramdb_engine::types::{Field, Hash};
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
    /// The values by the names that the request has for their paths.
    at: Vec<NamedText>,
    /// The fields that the whole document shows, by name.
    whole: Vec<NamedText>,
}

/// A name, and the value.
type NamedText = (Box<[u8]>, Kept);

enum Kept {
    Text(Box<[u8]>),
    Number(f64),
    List(Box<[u8]>),
    Null,
}

impl Excerpt {
    /// Copies the parts of a document that the reply shows.
    pub fn of(plan: &Plan, document: &Document<'_>) -> Excerpt {
        match document {
            Document::Hash(hash) => Excerpt::Hash(of_hash(plan, hash)),
            Document::Object(object) => {
                let texts = Texts::of(plan, *object, &|| false);
                Excerpt::Texts(texts.expect("nothing is late"))
            }
        }
    }

    /// The same of a document that is held. `None` if the time limit passes: it is looked at between two
    /// paths.
    pub fn of_held(plan: &Plan, document: &dyn DocumentSource) -> Option<Excerpt> {
        Texts::of(plan, document, &|| plan.is_late()).map(Excerpt::Texts)
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
            let sorted = sorted_field(plan).map(|field| &field.identifier[..]);
            let is_shown = |field: &Field<'_>| {
                let name = field.name;
                sorted == Some(name) || !is_of_index(definition, name)
            };
            hash.copy_of(hash.iter().filter(is_shown).chain(payload))
        }
    }
}

impl Texts {
    /// `None` if it becomes late before all paths are read.
    fn of(plan: &Plan, document: &dyn DocumentSource, is_late: &dyn Fn() -> bool) -> Option<Texts> {
        let request = plan.request();
        let definition = &plan.index.definition;
        let mut texts = Texts::default();
        if request.with_payloads {
            let path = definition.options.payload_field.as_slice();
            let shown = document.shown(path, request.several());
            texts.at.extend(shown.map(|value| named(path, value)));
        }
        let mut add = |name: &[u8]| {
            texts.at.extend(shown_as(plan, document, name).map(|value| named(name, value)));
        };
        match &request.fields {
            _ if request.no_content => {}
            Some(fields) => {
                for (number, (name, _)) in fields.iter().enumerate() {
                    if number > 0 && is_late() {
                        return None;
                    }
                    add(name);
                }
            }
            None => {
                sorted_field(plan).into_iter().for_each(|field| add(&field.name));
                document.each_shown(request.several(), &mut |name, value| {
                    texts.whole.push(named(name, value));
                });
            }
        }
        Some(texts)
    }

    fn heap_bytes(&self) -> usize {
        let pairs = self.at.iter().chain(&self.whole);
        let text_bytes = |kept: &Kept| match kept {
            Kept::Text(text) | Kept::List(text) => text.len(),
            Kept::Number(_) | Kept::Null => 0,
        };
        pairs.map(|(name, text)| size_of::<NamedText>() + name.len() + text_bytes(text)).sum()
    }
}

fn named(name: &[u8], value: ShownValue<'_>) -> NamedText {
    let kept = match value {
        ShownValue::Stored(text) => Kept::Text(text.to_bytes().into()),
        ShownValue::Text(text) => Kept::Text(text.into()),
        ShownValue::Number(number) => Kept::Number(number),
        ShownValue::List(text) => Kept::List(text.into()),
        ShownValue::Null => Kept::Null,
    };
    (name.into(), kept)
}

fn shown((_, kept): &NamedText) -> ShownValue<'_> {
    match kept {
        Kept::Text(text) => ShownValue::Text(Cow::Borrowed(text)),
        Kept::Number(number) => ShownValue::Number(*number),
        Kept::List(text) => ShownValue::List(Cow::Borrowed(text)),
        Kept::Null => ShownValue::Null,
    }
}

impl DocumentSource for Texts {
    /// Nothing: sort keys and vectors are read from the documents themselves.
    fn values(&self, _: &[u8], _: &mut dyn FnMut(FieldValue<'_>)) {}

    fn shown(&self, name: &[u8], _: Several) -> Option<ShownValue<'_>> {
        self.at.iter().find(|(of, _)| **of == *name).map(shown)
    }

    fn each_shown<'s>(&'s self, _: Several, each: &mut dyn FnMut(&'s [u8], ShownValue<'s>)) {
        self.whole.iter().for_each(|named| each(&named.0, shown(named)));
    }
}
