//! The documents of one index: their ids, versions and indexed values, and the postings of all fields.
//!
//! A document is a key. It has a dense `u32` id while it is indexed, and a version that grows with every change; ids of
//! removed documents are given to new ones at once. That is safe for a search that still holds the old meaning: it
//! remembers the version up to which its rows are true, and checks a row with a younger one again, against filter and
//! vector of what the id is now.
//!
//! Not here: vectors (vectors.rs), and anything about time: what has expired is the reader's question.

use crate::postings::{NumberPostings, TermPostings};
use crate::schema::{Definition, FieldKind};
use crate::text::{self, StopWords};
use engramdb_engine::types::parse_double;
use engramdb_engine::view::HashView;
use roaring::RoaringBitmap;
use std::collections::HashMap;
use std::sync::Arc;

/// All documents of an index.
pub struct Documents {
    ids: HashMap<Arc<[u8]>, u32>,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    /// Ids that keys had in an earlier run, while the keyspace is read at a start.
    reserved: HashMap<Vec<u8>, u32>,
    live: RoaringBitmap,
    /// The version that the last change got.
    version: u64,
    fields: Vec<Postings>,
    /// Per field: the documents that lack it.
    missing: Vec<RoaringBitmap>,
    key_bytes: usize,
    value_bytes: usize,
}

#[derive(Default)]
struct Slot {
    key: Option<Arc<[u8]>>,
    version: u64,
    values: Box<[Value]>,
}

/// What a document has in a field, as its postings know it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Missing,
    /// There, with nothing that filters ask for (vectors, GEO, NOINDEX).
    Present,
    Number(f64),
    /// Numbers of terms: the tags, or the text's terms in order.
    Terms(Box<[u32]>),
}

/// The postings of a field.
pub enum Postings {
    None,
    Terms(TermPostings),
    Numbers(NumberPostings),
}

/// What a hash says about a field, before it is indexed.
pub enum Content {
    Missing,
    Present,
    Number(f64),
    Terms(Vec<Vec<u8>>),
    /// A vector of the right size, whose components are finite.
    Vector,
}

impl Documents {
    pub fn new(definition: &Definition) -> Documents {
        let postings = |kind: &FieldKind| match kind {
            FieldKind::Text { .. } | FieldKind::Tag { .. } => Postings::Terms(TermPostings::default()),
            FieldKind::Numeric => Postings::Numbers(NumberPostings::default()),
            FieldKind::Geo | FieldKind::GeoShape | FieldKind::Vector(_) => Postings::None,
        };
        Documents {
            ids: HashMap::new(),
            slots: Vec::new(),
            vacant: Vec::new(),
            reserved: HashMap::new(),
            live: RoaringBitmap::new(),
            version: 0,
            fields: definition.fields.iter().map(|field| postings(&field.kind)).collect(),
            missing: definition.fields.iter().map(|_| RoaringBitmap::new()).collect(),
            key_bytes: 0,
            value_bytes: 0,
        }
    }

    /// Gives keys the ids that they had in an earlier run, all below `id_bound`, when they are met again. For an empty
    /// index only; `end_reservation` follows.
    pub fn reserve(&mut self, id_bound: u32, keys: Vec<(u32, Vec<u8>)>) {
        assert!(self.slots.is_empty(), "ids are reserved before the first document");
        self.slots.resize_with(id_bound as usize, Slot::default);
        let within = keys.into_iter().filter(|(id, _)| *id < id_bound);
        self.reserved = within.map(|(id, key)| (key, id)).collect();
    }

    pub fn is_reserved(&self, key: &[u8]) -> bool {
        self.reserved.contains_key(key)
    }

    /// Makes the ids of keys that were not met again available.
    pub fn end_reservation(&mut self) {
        self.reserved = HashMap::new();
        let free = |id: &u32| self.slots[*id as usize].key.is_none();
        self.vacant = (0..self.slots.len() as u32).rev().filter(free).collect();
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Rows that a search found at this version are true as long as their documents' versions are not younger.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The largest id ever given, plus one.
    pub fn id_bound(&self) -> u32 {
        self.slots.len() as u32
    }

    pub fn id(&self, key: &[u8]) -> Option<u32> {
        self.ids.get(key).copied()
    }

    pub fn key(&self, id: u32) -> Option<&Arc<[u8]>> {
        self.slots.get(id as usize)?.key.as_ref()
    }

    /// Reads what a look at these documents will read, so that the cache misses overlap.
    pub fn prefetch(&self, ids: impl Iterator<Item = u32>) {
        ids.for_each(|id| _ = std::hint::black_box(self.version_of(id)));
    }

    pub fn version_of(&self, id: u32) -> u64 {
        self.slots.get(id as usize).map_or(0, |slot| slot.version)
    }

    pub fn value(&self, id: u32, field: usize) -> &Value {
        self.slots.get(id as usize).and_then(|slot| slot.values.get(field)).unwrap_or(&Value::Missing)
    }

    pub fn live(&self) -> &RoaringBitmap {
        &self.live
    }

    pub fn missing(&self, field: usize) -> &RoaringBitmap {
        &self.missing[field]
    }

    pub fn terms(&self, field: usize) -> Option<&TermPostings> {
        match &self.fields[field] {
            Postings::Terms(terms) => Some(terms),
            _ => None,
        }
    }

    pub fn numbers(&self, field: usize) -> Option<&NumberPostings> {
        match &self.fields[field] {
            Postings::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = (&Arc<[u8]>, u32)> {
        self.ids.iter().map(|(key, &id)| (key, id))
    }

    /// Indexes the content of a key, new or changed; returns its id.
    pub fn upsert(&mut self, key: &[u8], content: &[Content]) -> u32 {
        let id = match self.ids.get(key) {
            Some(&id) => id,
            None => self.add(key),
        };
        self.version += 1;
        self.unpost(id);
        let values =
            content.iter().enumerate().map(|(field, content)| self.post(field, id, content)).collect();
        let slot = &mut self.slots[id as usize];
        slot.values = values;
        slot.version = self.version;
        self.value_bytes += owned_bytes(&slot.values);
        id
    }

    /// Removes a key; returns the id that it had.
    pub fn remove(&mut self, key: &[u8]) -> Option<u32> {
        let id = self.ids.remove(key)?;
        self.key_bytes -= key.len();
        self.version += 1;
        self.unpost(id);
        self.missing.iter_mut().for_each(|missing| {
            missing.remove(id);
        });
        self.slots[id as usize] = Slot { version: self.version, ..Slot::default() };
        self.live.remove(id);
        self.vacant.push(id);
        Some(id)
    }

    fn add(&mut self, key: &[u8]) -> u32 {
        let key: Arc<[u8]> = key.into();
        let slot = Slot { key: Some(key.clone()), ..Slot::default() };
        let reserved = self.reserved.remove(&*key);
        let id = match reserved.or_else(|| self.vacant.pop()) {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as u32
            }
        };
        self.key_bytes += key.len();
        self.ids.insert(key, id);
        self.live.insert(id);
        id
    }

    fn post(&mut self, field: usize, id: u32, content: &Content) -> Value {
        if let Content::Missing = content {
            self.missing[field].insert(id);
            return Value::Missing;
        }
        self.missing[field].remove(id);
        match (content, &mut self.fields[field]) {
            (Content::Number(number), Postings::Numbers(postings)) => {
                postings.insert(*number, id);
                Value::Number(*number)
            }
            (Content::Terms(terms), Postings::Terms(postings)) => {
                Value::Terms(terms.iter().map(|term| postings.insert(term, id)).collect())
            }
            _ => Value::Present,
        }
    }

    fn unpost(&mut self, id: u32) {
        let values = std::mem::take(&mut self.slots[id as usize].values);
        self.value_bytes -= owned_bytes(&values);
        for (field, value) in values.iter().enumerate() {
            match (value, &mut self.fields[field]) {
                (Value::Number(number), Postings::Numbers(postings)) => postings.remove(*number, id),
                (Value::Terms(terms), Postings::Terms(postings)) => {
                    terms.iter().for_each(|&term| postings.remove(term, id));
                }
                _ => {}
            }
        }
    }

    /// Bytes on the heap, by estimate.
    pub fn heap_bytes(&self) -> usize {
        self.key_bytes
            + self.ids.len() * 16
            + self.ids.capacity() * 25
            + self.slots.len() * size_of::<Slot>()
            + self.value_bytes
    }
}

fn owned_bytes(values: &[Value]) -> usize {
    let terms = |value: &Value| match value {
        Value::Terms(terms) => terms.len() * 4,
        _ => 0,
    };
    values.iter().map(|value| size_of::<Value>() + terms(value)).sum()
}

/// Reads from a hash what the index wants of it; why it cannot be indexed otherwise.
pub fn read(definition: &Definition, hash: HashView<'_>) -> Result<Vec<Content>, String> {
    let stop_words = StopWords(definition.options.stop_words.as_deref());
    let content = |field: &crate::schema::Field| {
        let Some(value) = hash.get(&field.identifier) else { return Ok(Content::Missing) };
        value.value.with_bytes(|bytes| match &field.kind {
            FieldKind::Vector(vector) => {
                vector.is_vector(bytes).then_some(Content::Vector).ok_or_else(|| {
                    format!(
                        "Could not add vector with blob size {} (expected size {})",
                        bytes.len(),
                        vector.blob_bytes()
                    )
                })
            }
            _ if field.no_index => Ok(Content::Present),
            FieldKind::Text { .. } => {
                let mut terms = Vec::new();
                text::tokenize(bytes, stop_words, &mut |term| terms.push(term.to_vec()));
                Ok(Content::Terms(terms))
            }
            FieldKind::Tag { separator, case_sensitive, .. } => {
                Ok(Content::Terms(tags(bytes, *separator, *case_sensitive, field.index_empty)))
            }
            FieldKind::Numeric => match parse_double(bytes) {
                Some(number) => Ok(Content::Number(number)),
                None => Err(format!("Invalid numeric value: '{}'", crate::error::text(bytes))),
            },
            FieldKind::Geo | FieldKind::GeoShape => Ok(Content::Present),
        })
    };
    definition.fields.iter().map(content).collect()
}

fn tags(bytes: &[u8], separator: u8, case_sensitive: bool, keep_empty: bool) -> Vec<Vec<u8>> {
    let tags = bytes.split(|&byte| byte == separator).map(<[u8]>::trim_ascii);
    tags.filter(|tag| keep_empty || !tag.is_empty())
        .map(|tag| if case_sensitive { tag.to_vec() } else { text::lower(tag) })
        .collect()
}
