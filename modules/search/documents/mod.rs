//! The documents of one index: their ids, versions and indexed values, and the postings of all fields.
//!
//! A document is a key. While it is indexed, it has a dense `u32` id and a version, which grows with every
//! change. The id of a removed document is given to the next new one at once. A search that still holds the
//! id notices: it remembers the version at which it found its rows, and checks rows whose documents are
//! younger again, with the filter and vector of the id's current document.
//!
//! An id that is no document's may be a row: that of a further vector of a document (rows.rs).
//!
//! Not here: vectors (vectors/mod.rs) and expiry, which searches check.

pub mod amend;
pub mod blocks;
pub mod columns;
pub mod counts;
pub mod filtering;
pub mod geo;
pub mod ids;
pub mod numbered;
pub mod pair_leaves;
pub mod pairs;
pub mod pieces;
pub mod postings;
pub mod reading;
pub mod rows;
pub mod shapes;
pub mod slots;
pub mod sparse;
pub mod text;
pub mod text_content;
pub mod texts;

use self::blocks::Blocks;
use self::columns::{FieldColumn, KnownCell, ListColumn, NumberColumn, TagColumn, TagNumbers};
use self::ids::Counted;
use self::postings::{NumberPostings, TermPostings};
use self::rows::{Owners, RowLists};
use self::shapes::{Geometry, ShapePostings};
use self::slots::Slots;
use self::text_content::TextContent;
use self::texts::{TermTally, TextPostings};
use crate::schema::language::Language;
use crate::schema::{Definition, FieldDefinition, FieldKind};
use engramdb_engine::table::{Table, hash_bytes};
use engramdb_engine::types::ShortBytes;
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// All documents of an index.
pub struct Documents {
    keys: Keys,
    vacant: Blocks<u32>,
    live: Counted,
    /// The version of the last change.
    version: u64,
    /// The ids of the last changes, oldest first; the last one has `version`.
    changes: VecDeque<u32>,
    fields: Vec<Postings>,
    /// What documents have in each field.
    columns: Vec<FieldColumn>,
    /// The postings of all TEXT fields.
    texts: TextPostings,
    /// What documents say of themselves. Empty if the definition names no field for it.
    about: Blocks<About>,
    has_about: bool,
    /// What is said of each document, if `about` is empty.
    about_all: About,
    /// Per field, the documents that lack it.
    missing: Vec<Counted>,
    has_no_offsets: bool,
    /// True if any field is TEXT.
    has_texts: bool,
    /// Bytes of the contents of lists, and of payloads.
    value_bytes: usize,
    /// The version at which the last fields were added: older documents are not known in these.
    fields_since: u64,
    /// See `take_freed`.
    freed: Vec<(usize, u32)>,
}

/// The ids of keys, and the slots of ids.
#[derive(Default)]
pub struct Keys {
    /// Ids by the hash of the key, which is in the slot. Like the keyspace's table it grows by one small
    /// segment at a time, because the writer that makes it grow holds the keyspace's lock.
    ids: Table<u32>,
    slots: Slots,
    /// Bytes of keys on the heap.
    key_bytes: usize,
    owners: Owners,
    /// The rows of documents in each field; fields without any may be missing at the end.
    rows: Vec<ListColumn>,
    /// How many rows each field has; fields without any may be missing at the end.
    row_counts: Vec<usize>,
}

/// The most entries of `Documents::changes`; older changes are found by scanning the slots.
const CHANGES_MAX: usize = 1 << 14;

impl Keys {
    /// The keys of an earlier run, whose ids are all below `id_bound`. They are no documents until they get
    /// content. `None` if a key or an id occurs twice, or an id is too large.
    pub fn of_earlier_run<'k>(
        id_bound: u32,
        keys: impl ExactSizeIterator<Item = (&'k [u8], u32)>,
    ) -> Option<Keys> {
        let mut reserved = Keys::default();
        reserved.ids.reserve(keys.len());
        (0..id_bound).for_each(|_| _ = reserved.slots.push());
        for (key, id) in keys {
            let is_free = id < id_bound && reserved.slots.key(id).is_none();
            if !is_free || !reserved.name(id, key) {
                return None;
            }
        }
        Some(reserved)
    }

    fn id(&self, key: &[u8]) -> Option<u32> {
        self.id_hashed(hash_bytes(key), key)
    }

    fn id_hashed(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.ids.with_hash(hash).copied().find(|&id| self.key(id) == Some(key))
    }

    #[inline]
    fn key(&self, id: u32) -> Option<&[u8]> {
        Some(self.slots.key(id)?.as_slice())
    }

    /// Gives a free id to a key; false if the key has one already.
    fn name(&mut self, id: u32, key: &[u8]) -> bool {
        let hash = hash_bytes(key);
        let is_new = self.id_hashed(hash, key).is_none();
        if is_new {
            self.name_hashed(id, (hash, key));
        }
        is_new
    }

    /// The same for a key that has no id.
    fn name_hashed(&mut self, id: u32, (hash, key): (u64, &[u8])) {
        self.ids.insert_new(hash, id);
        let name = ShortBytes::new(key);
        self.key_bytes += name.heap_bytes();
        self.slots.name(id, name);
    }

    /// Removes the id of a key; the slot still has the key.
    fn unname(&mut self, key: &[u8]) -> Option<u32> {
        let slots = &self.slots;
        let is_it = |&id: &u32| slots.key(id).is_some_and(|held| held.as_slice() == key);
        let id = self.ids.remove_where(hash_bytes(key), is_it)?;
        self.key_bytes -= slots.key(id).map_or(0, ShortBytes::heap_bytes);
        Some(id)
    }
}

/// Is no number of a term: no phrase goes from one text of a field to the next.
pub const TEXT_END: u32 = u32::MAX;

/// The postings of a field.
pub enum Postings {
    None,
    Terms(TermPostings),
    Numbers(NumberPostings),
    Shapes(ShapePostings),
    /// They are in `Documents::texts`.
    Text,
}

/// What is read of a document, before it is indexed.
#[derive(Debug, Default, PartialEq)]
pub struct DocumentContent {
    /// By field of the definition.
    pub fields: Vec<FieldContent>,
    pub about: About,
}

/// What a document says of itself, in fields that the definition names for it.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    pub language: Language,
    /// The factor of its scores.
    pub score: f64,
    pub payload: Option<Box<[u8]>>,
}

impl Default for About {
    fn default() -> About {
        About { language: Language::default(), score: 1.0, payload: None }
    }
}

impl About {
    /// What is said of a document that says nothing.
    pub fn of(definition: &Definition) -> About {
        let language = Language::named(&definition.options.language).unwrap_or_default();
        About { language, score: definition.options.score, payload: None }
    }

    fn heap_bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, |payload| payload.len())
    }
}

impl Postings {
    /// The empty postings of a field.
    fn of(field: &FieldDefinition) -> Postings {
        match field.kind {
            FieldKind::Text { .. } => Postings::Text,
            FieldKind::Tag { suffix_trie: true, .. } => Postings::Terms(TermPostings::with_pieces()),
            FieldKind::Tag { .. } => Postings::Terms(TermPostings::default()),
            FieldKind::Numeric | FieldKind::Geo => Postings::Numbers(NumberPostings::default()),
            FieldKind::GeoShape(_) => Postings::Shapes(ShapePostings::default()),
            FieldKind::Vector(_) => Postings::None,
        }
    }

    /// The empty column of the field.
    fn column(&self) -> FieldColumn {
        match self {
            Postings::None | Postings::Shapes(_) => FieldColumn::None,
            Postings::Terms(_) => FieldColumn::Tags(TagColumn::default()),
            Postings::Numbers(_) => FieldColumn::Numbers(NumberColumn::default()),
            Postings::Text => FieldColumn::Texts(ListColumn::default()),
        }
    }
}

/// What a document says about a field, before it is indexed.
#[derive(Debug, PartialEq)]
pub enum FieldContent {
    Missing,
    Present,
    /// A number, or the cell of a position (geo.rs).
    Number(f64),
    /// Several, or none.
    Numbers(Vec<f64>),
    /// The only tag, whose text is the value in the document.
    Tag(Vec<u8>),
    /// Tags.
    Terms(Vec<Vec<u8>>),
    Text(TextContent),
    /// The same, read for several indexes.
    SharedText(Arc<TextContent>),
    Geometry(Arc<Geometry>),
    /// This many vectors of the right size, at least one, whose components are finite.
    Vectors(u32),
}

impl FieldContent {
    /// The words of a text.
    pub fn text(&self) -> Option<&TextContent> {
        match self {
            FieldContent::Text(text) => Some(text),
            FieldContent::SharedText(text) => Some(text),
            _ => None,
        }
    }
}

impl Documents {
    pub fn new(definition: &Definition) -> Documents {
        let fields: Vec<Postings> = definition.fields.iter().map(Postings::of).collect();
        Documents {
            keys: Keys::default(),
            vacant: Blocks::default(),
            live: Counted::default(),
            version: 0,
            changes: VecDeque::new(),
            columns: fields.iter().map(Postings::column).collect(),
            has_texts: fields.iter().any(|postings| matches!(postings, Postings::Text)),
            fields,
            texts: TextPostings::new(definition),
            about: Blocks::default(),
            has_about: has_about(definition),
            has_no_offsets: definition.options.no_offsets,
            about_all: About::of(definition),
            missing: definition.fields.iter().map(|_| Counted::default()).collect(),
            value_bytes: 0,
            fields_since: 0,
            freed: Vec::new(),
        }
    }

    /// Adds fields at the end. Every document lacks them until it is indexed again.
    pub fn add_fields(&mut self, fields: &[FieldDefinition]) {
        let before = self.fields.len();
        self.fields_since = self.version;
        self.fields.extend(fields.iter().map(Postings::of));
        self.columns.extend(self.fields[before..].iter().map(Postings::column));
        self.missing.extend(fields.iter().map(|_| Counted::from(self.live.clone())));
        fields.iter().for_each(|field| self.texts.add_field(field));
        self.has_texts = self.fields.iter().any(|postings| matches!(postings, Postings::Text));
    }

    /// Gives keys the ids that they had in an earlier run. Only for an empty index; the caller must call
    /// `end_reservation` later.
    pub fn reserve(&mut self, keys: Keys) {
        assert!(self.keys.slots.len() == 0, "ids are reserved before the first document");
        self.keys = keys;
        let lists = self.keys.rows.iter().flat_map(ListColumn::iter);
        self.value_bytes = lists.map(|(_, rows)| size_of_val(rows)).sum();
    }

    /// Frees the ids of reserved keys that got no content.
    pub fn end_reservation(&mut self) {
        let never_met: Vec<u32> = (0..self.id_bound()).filter(|&id| self.version_of(id) == 0).collect();
        for id in never_met {
            if let Some(key) = self.keys.key(id).map(<[u8]>::to_vec) {
                self.keys.unname(&key);
                let rows = self.unpost(id);
                self.free_rows(rows);
                self.keys.slots.free(id, self.version);
            }
        }
        self.freed = Vec::new();
        let (used, free) = (0..self.id_bound()).partition::<Vec<u32>, _>(|&id| self.key(id).is_some());
        self.live = used.into_iter().collect::<RoaringBitmap>().into();
        let vacant: Vec<u32> = free.into_iter().filter(|&id| !self.keys.owners.is_row(id)).collect();
        self.vacant = vacant.into_iter().rev().collect::<Blocks<u32>>();
    }

    pub fn len(&self) -> usize {
        self.keys.ids.len()
    }

    /// An upper bound of the length of all keys together, in bytes, in constant time.
    pub fn keys_bytes_max(&self) -> usize {
        self.len() * size_of::<ShortBytes>() + self.keys.key_bytes
    }

    /// The version of the last change. Rows that a search found at this version stay valid while the versions
    /// of their documents are not larger.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The largest id ever given, plus one.
    pub fn id_bound(&self) -> u32 {
        self.keys.slots.len() as u32
    }

    pub fn id(&self, key: &[u8]) -> Option<u32> {
        self.keys.id(key)
    }

    #[inline]
    pub fn key(&self, id: u32) -> Option<&[u8]> {
        self.keys.key(id)
    }

    /// Reads the memory of these documents' slots, so that later cache misses overlap.
    pub fn prefetch(&self, ids: impl Iterator<Item = u32>) {
        ids.for_each(|id| _ = std::hint::black_box(self.version_of(id)));
    }

    /// Reads the beginnings of these documents' texts, for the same reason.
    pub fn prefetch_words(&self, ids: &[u32]) {
        let texts = self.columns.iter().filter_map(|column| match column {
            FieldColumn::Texts(texts) => Some(texts),
            _ => None,
        });
        for texts in texts {
            ids.iter().for_each(|&id| _ = std::hint::black_box(texts.get(id).first().copied()));
        }
    }

    /// The same as `prefetch` for the documents of these keys.
    pub fn prefetch_keys(&self, keys: &[&[u8]]) {
        let hashes = keys.iter().map(|key| hash_bytes(key));
        let ids: Vec<u32> = hashes.filter_map(|hash| self.keys.ids.with_hash(hash).next()).copied().collect();
        self.prefetch(ids.into_iter());
    }

    pub fn version_of(&self, id: u32) -> u64 {
        self.keys.slots.version(id)
    }

    /// The ids whose documents were changed, added or removed after this version. Where they are not listed,
    /// this scans all slots: without the keyspace's lock, `scan_changed` does it in parts.
    pub fn changed_since(&self, version: u64) -> RoaringBitmap {
        self.listed_changes(version).unwrap_or_else(|| self.scan_changed(version, 0..self.id_bound()))
    }

    /// The same, if the changes are so few that they are listed.
    pub fn listed_changes(&self, version: u64) -> Option<RoaringBitmap> {
        let before = self.changes.len().checked_sub((self.version - version) as usize)?;
        Some(self.changes.range(before..).copied().collect())
    }

    /// Those of these ids whose documents were changed, added or removed after this version.
    pub fn scan_changed(&self, version: u64, ids: Range<u32>) -> RoaringBitmap {
        ids.filter(|&id| self.version_of(id) > version).collect()
    }

    /// The numbers that a document has in a field, or the cells of its positions, in the document's order.
    pub fn numbers_of(&self, id: u32, field: usize) -> &[f64] {
        match &self.columns[field] {
            FieldColumn::Numbers(numbers) => numbers.get(id),
            _ => &[],
        }
    }

    /// The numbers of the tags that a document has in a field, in the document's order.
    pub fn tags_of(&self, id: u32, field: usize) -> TagNumbers<'_> {
        match &self.columns[field] {
            FieldColumn::Tags(tags) => tags.get(id),
            _ => TagNumbers::Listed(&[]),
        }
    }

    /// The numbers of the words that a document has in a TEXT field, in their order, with `TEXT_END` between
    /// two texts.
    #[inline]
    pub fn words_of(&self, id: u32, field: usize) -> &[u32] {
        match &self.columns[field] {
            FieldColumn::Texts(texts) => texts.get(id),
            _ => &[],
        }
    }

    /// What a document has in a NUMERIC or TAG field, if it is one value at most; `None` also if the field
    /// was added later than the document was read.
    #[inline]
    pub fn known_value(&self, id: u32, field: usize) -> Option<KnownCell> {
        self.columns[field].known(id)
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

    /// Whether the places of words are not looked at (NOOFFSETS).
    pub fn has_no_offsets(&self) -> bool {
        self.has_no_offsets
    }

    /// The number of fields of the definition.
    pub fn field_count(&self) -> usize {
        self.fields.len()
    }

    pub fn is_text(&self, field: usize) -> bool {
        matches!(self.fields[field], Postings::Text)
    }

    pub fn texts(&self) -> &TextPostings {
        &self.texts
    }

    pub fn about(&self, id: u32) -> &About {
        self.about.get(id).unwrap_or(&self.about_all)
    }

    pub fn shapes(&self, field: usize) -> Option<&ShapePostings> {
        match &self.fields[field] {
            Postings::Shapes(shapes) => Some(shapes),
            _ => None,
        }
    }

    pub fn numbers(&self, field: usize) -> Option<&NumberPostings> {
        match &self.fields[field] {
            Postings::Numbers(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// All keys with their ids, in the order of ids, so that loading a saved list fills slots in order.
    pub fn keys(&self) -> impl Iterator<Item = (&[u8], u32)> {
        (0..self.id_bound()).filter_map(|id| Some((self.key(id)?, id)))
    }

    /// Indexes the content of a key, new or changed; returns its id.
    pub fn upsert(&mut self, key: &[u8], content: &DocumentContent) -> u32 {
        let hash = hash_bytes(key);
        if let Some(id) = self.keys.id_hashed(hash, key) {
            self.put(id, content);
            return id;
        }
        let id = self.free_id();
        self.keys.name_hashed(id, (hash, key));
        self.live.insert(id);
        self.changed(id);
        self.post_all(id, content, RowLists::new());
        id
    }

    /// Indexes the content of a key that has this id.
    pub fn put(&mut self, id: u32, content: &DocumentContent) {
        if self.is_known(id) && *self.about(id) == content.about {
            self.touch(id);
            return self.amend(id, content.fields.iter().enumerate());
        }
        self.changed(id);
        let rows = self.unpost(id);
        self.post_all(id, content, rows);
    }

    /// Posts the content of a document of which nothing is posted, and which has these rows.
    fn post_all(&mut self, id: u32, content: &DocumentContent, mut rows: RowLists) {
        self.describe(id, &content.about);
        let mut tally = TermTally::default();
        for (field, content) in content.fields.iter().enumerate() {
            self.post(field, id, content, &mut tally);
            if content.has_rows() {
                let own = self.fit_rows(&mut rows, (id, field), content);
                self.value_bytes += self.keys.set_rows(id, field, own);
            }
        }
        self.free_rows(rows);
        if self.has_texts {
            self.texts.measure(id, tally);
        }
        self.keys.slots.set_version(id, self.version);
    }

    /// Removes a key; returns the id that it had.
    pub fn remove(&mut self, key: &[u8]) -> Option<u32> {
        let id = self.keys.unname(key)?;
        self.changed(id);
        let rows = self.unpost(id);
        self.free_rows(rows);
        self.missing.iter_mut().for_each(|missing| {
            missing.remove(id);
        });
        self.texts.forget_length(id);
        self.describe(id, &self.about_all.clone());
        self.keys.slots.free(id, self.version);
        self.live.remove(id);
        self.vacant.push(id);
        Some(id)
    }

    fn changed(&mut self, id: u32) {
        self.version += 1;
        if self.changes.len() == CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(id);
    }

    fn free_id(&mut self) -> u32 {
        self.vacant.pop().unwrap_or_else(|| self.keys.slots.push())
    }

    fn describe(&mut self, id: u32, about: &About) {
        if !self.has_about {
            return;
        }
        while self.about.len() <= id as usize {
            self.about.push(self.about_all.clone());
        }
        self.value_bytes -= self.about[id].heap_bytes();
        self.about[id] = about.clone();
        self.value_bytes += about.heap_bytes();
    }

    fn post(&mut self, field: usize, id: u32, content: &FieldContent, tally: &mut TermTally) {
        let (postings, column) = (&mut self.fields[field], &mut self.columns[field]);
        if let FieldContent::Missing = content {
            self.missing[field].insert(id);
            return match column {
                FieldColumn::Numbers(column) => column.set_missing(id),
                FieldColumn::Tags(column) => column.set_missing(id),
                FieldColumn::None | FieldColumn::Texts(_) => {}
            };
        }
        self.missing[field].remove(id);
        self.value_bytes += match (content, postings, column) {
            (FieldContent::Number(number), Postings::Numbers(postings), FieldColumn::Numbers(column)) => {
                postings.insert(*number, id);
                column.set(id, *number);
                0
            }
            (FieldContent::Numbers(numbers), Postings::Numbers(postings), FieldColumn::Numbers(column)) => {
                numbers.iter().for_each(|&number| postings.insert(number, id));
                column.set_list(id, numbers)
            }
            (FieldContent::Geometry(shape), Postings::Shapes(postings), _) => {
                postings.insert(id, shape.clone());
                0
            }
            (_, Postings::Text, FieldColumn::Texts(column)) => {
                let Some(text) = content.text() else { return };
                let language = self.about.get(id).unwrap_or(&self.about_all).language;
                column.set(id, self.texts.post((id, field), text, language, tally))
            }
            (FieldContent::Tag(tag), Postings::Terms(postings), FieldColumn::Tags(column)) => {
                column.set(id, postings.insert(tag, id))
            }
            (FieldContent::Terms(terms), Postings::Terms(postings), FieldColumn::Tags(column)) => {
                let numbers = terms.iter().map(|term| postings.insert(term, id));
                column.set_list(id, &numbers.collect::<Vec<u32>>())
            }
            (_, _, FieldColumn::Numbers(column)) => column.set_list(id, &[]),
            (_, _, FieldColumn::Tags(column)) => column.set_list(id, &[]),
            _ => 0,
        };
    }

    /// Removes the values of a document from the postings. Returns its rows, which are still its own.
    fn unpost(&mut self, id: u32) -> RowLists {
        let language = self.about(id).language;
        for (field, postings) in self.fields.iter_mut().enumerate() {
            self.value_bytes -= match (postings, &mut self.columns[field]) {
                (Postings::Text, FieldColumn::Texts(column)) => {
                    let words = column.take(id);
                    self.texts.unpost((id, field), &words, language);
                    size_of_val(&*words)
                }
                // A number that comes twice is there once.
                (Postings::Numbers(postings), FieldColumn::Numbers(column)) => {
                    column.get(id).iter().for_each(|&number| postings.remove(number, id));
                    column.clear(id)
                }
                (Postings::Terms(postings), FieldColumn::Tags(column)) => {
                    column.get(id).iter().for_each(|&term| postings.remove(term, id));
                    column.clear(id)
                }
                (Postings::Shapes(postings), _) => {
                    postings.remove(id);
                    0
                }
                _ => 0,
            };
        }
        let rows = self.keys.take_rows(id);
        self.value_bytes -= rows.iter().map(|(_, rows)| size_of_val(&**rows)).sum::<usize>();
        rows
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.table_bytes() + self.posting_bytes()
    }

    /// The bytes of postings and other sets of documents.
    pub fn posting_bytes(&self) -> usize {
        let of_field = |postings: &Postings| match postings {
            Postings::None | Postings::Text => 0,
            Postings::Terms(terms) => terms.heap_bytes(),
            Postings::Numbers(numbers) => numbers.heap_bytes(),
            Postings::Shapes(shapes) => shapes.heap_bytes(),
        };
        let sets = self.missing.iter().chain([&self.live]);
        self.fields.iter().map(of_field).sum::<usize>()
            + self.texts.heap_bytes()
            + sets.map(Counted::bytes).sum::<usize>()
    }

    /// The bytes of keys, versions and values.
    pub fn table_bytes(&self) -> usize {
        self.keys.key_bytes
            + self.keys.ids.heap_bytes()
            + self.keys.slots.heap_bytes()
            + self.vacant.heap_bytes()
            + self.keys.owners.heap_bytes()
            + self.changes.capacity() * size_of::<u32>()
            + self.columns.iter().map(FieldColumn::heap_bytes).sum::<usize>()
            + self.keys.rows.iter().map(ListColumn::heap_bytes).sum::<usize>()
            + self.value_bytes
    }
}

/// Whether documents can say something of themselves.
fn has_about(definition: &Definition) -> bool {
    let options = &definition.options;
    [&options.language_field, &options.score_field, &options.payload_field]
        .iter()
        .any(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
