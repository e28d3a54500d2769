//! Rows of documents: reads the properties that the steps need, a few documents under each lock.
//!
//! Numbers of NUMERIC fields, single tags, keys and distances come from the index alone, under the lock of
//! its documents. Everything else is read in the keyspace. A batch is copied to one buffer there, so that no
//! step runs under the lock and a row needs no allocation of its own. A large document is *held* instead: its
//! row is read without the lock, when its turn comes.

use super::pipeline::RowPipeline;
use super::rows::{Cell, PipelineRow, RowTags};
use super::scope::{Column, ColumnSource};
use super::tags::TagTexts;
use crate::documents::Documents;
use crate::documents::columns::KnownCell;
use crate::documents::text::lower;
use crate::expr::{ExprValue, SeveralValues, parse_number};
use crate::index::Index;
use crate::search::Explained;
use crate::search::plan::Plan;
use crate::search::reply::is_of_index;
use crate::search::settled::{CurrentDocument, CurrentDocuments, Settled, SettledDocument};
use crate::weight::{HELD_BYTES, HoldBudget, ReadWeight};
use engramdb_engine::command::Looks;
use engramdb_engine::keyspace::{DocumentSource, DocumentType, FieldValue, Several, ShownValue};
use engramdb_engine::store::document::Document;
use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// The most documents and bytes that are read under one lock of the keyspace. The last document may exceed
/// the bytes.
const READ_DOCUMENTS: usize = 64;
const READ_BYTES: usize = 128 * 1024;
/// Documents whose values the index has that are read under one lock of its documents.
const INDEXED_DOCUMENTS: usize = 1024;
/// The most bytes of their rows.
const INDEXED_BYTES: usize = 1024 * 1024;

/// Which properties of documents are read, and where.
#[derive(Clone)]
pub struct RowReader {
    index: Arc<Index>,
    columns: Arc<[Column]>,
    /// Of documents that are not hashes.
    weight: Arc<ReadWeight>,
    loads_all: bool,
    several: Several,
    /// A property is in the keyspace only.
    needs_document: bool,
    /// How many cells a row has.
    width: usize,
}

/// Rows that were read.
#[derive(Default)]
pub struct RowBatch {
    bytes: Vec<u8>,
    /// The values of all rows, one for each column.
    cells: Vec<Read>,
    /// The whole documents: numbers of rows, names and values.
    whole: Vec<(usize, Range<usize>, Read)>,
    rows: usize,
    /// How many of the rows have passed on.
    passed: usize,
    /// Rows of documents that are not read yet, with the number of rows before each.
    held: VecDeque<(usize, Box<HeldRow>)>,
    held_bytes: usize,
    /// The documents of the rows, held or not, that have not passed on.
    documents: VecDeque<SettledDocument>,
    /// The index did not have all values.
    is_short: bool,
    /// The texts of tags that this batch and those before it have.
    tags: TagTexts,
}

/// A row whose document is read without the lock.
pub struct HeldRow {
    /// What is not read from the document.
    row: RowBatch,
    document: Arc<dyn DocumentSource>,
    /// What reading it costs, in bytes that are walked over.
    pub weight: usize,
}

/// Where the values of a row's fields are read.
#[derive(Clone, Copy)]
enum FieldsOf<'d, 'v> {
    Index,
    Document(&'d Document<'v>),
    /// In the document, later.
    Held,
}

/// A value in a batch. Ranges are of its bytes.
#[derive(Clone, Debug)]
enum Read {
    Absent,
    Null,
    Number(f64),
    Text(Range<usize>),
    /// A tag of the index, by its number.
    Tag(u32),
    /// The first value, and the text of the list of all.
    List(Box<Read>, Range<usize>),
    /// A value that was made for the row.
    Made(ExprValue<'static>),
}

impl RowReader {
    /// Of the documents of a plan, for the first stretch of a pipeline.
    pub fn new(plan: &Plan, pipeline: &mut RowPipeline) -> RowReader {
        let columns = std::mem::take(&mut pipeline.columns);
        let (loads_all, width) = (pipeline.loads_all, pipeline.width());
        let several = plan.request().several();
        // The list of all values that a path leads to is shown as the document has it.
        let is_list = plan.index.definition.documents != DocumentType::Hash && several == Several::All;
        let needs = |column: &Column| match &column.source {
            ColumnSource::Field { indexed, .. } => is_list || indexed.is_none(),
            _ => false,
        };
        let needs_document = loads_all || columns.iter().any(needs);
        let documents = plan.index.definition.documents;
        let paths = columns.iter().filter_map(|column| match &column.source {
            ColumnSource::Field { identifier, .. } => Some(identifier.as_slice()),
            _ => None,
        });
        // The first value and the list of all are read one after the other.
        let times = if several == Several::All { 2 } else { 1 };
        let weight = match documents {
            DocumentType::Hash => ReadWeight::default(),
            DocumentType::Object(_) => ReadWeight::new(documents, paths, (times, loads_all)),
        };
        let (index, columns) = (plan.index.clone(), columns.into());
        RowReader { index, columns, weight: weight.into(), loads_all, several, needs_document, width }
    }

    pub fn needs_document(&self) -> bool {
        self.needs_document
    }

    /// Reads the next documents. False if there are none.
    pub fn next(&self, looks: &dyn Looks, settled: &mut Settled, batch: &mut RowBatch) -> bool {
        batch.clear();
        let in_keyspace = self.needs_document || settled.may_have_expired;
        let some = settled.next(if in_keyspace { READ_DOCUMENTS } else { INDEXED_DOCUMENTS });
        if some.is_empty() {
            return false;
        }
        let index = settled.plan.index.clone();
        if !in_keyspace {
            let read = {
                let documents = &*index.documents.read();
                batch.tags.follow(documents);
                self.read_some(&mut settled.at(documents, None), &some, batch, false)
            };
            if !batch.is_short {
                settled.put_back(&some[read..]);
                return true;
            }
            // Others will be like this one.
            settled.may_have_expired = true;
            batch.clear();
        }
        let few = &some[..some.len().min(READ_DOCUMENTS)];
        let mut read = 0;
        looks.look(&mut |view| {
            let documents = &*index.documents.read();
            let mut current = settled.at(documents, Some(view));
            read = self.read_some(&mut current, few, batch, true);
        });
        settled.put_back(&some[read..]);
        true
    }

    /// Reads documents under the current locks. Returns how many were read: not all if they are large, or if
    /// their scores take long.
    pub fn read_some(
        &self,
        current: &mut CurrentDocuments<'_, '_>,
        some: &[SettledDocument],
        batch: &mut RowBatch,
        in_keyspace: bool,
    ) -> usize {
        current.prefetch(some, in_keyspace);
        let most = batch.size() + if in_keyspace { READ_BYTES } else { INDEXED_BYTES };
        let mut budget = HoldBudget::default();
        for (number, settled) in some.iter().enumerate() {
            if batch.size() > most || batch.held_bytes > HELD_BYTES || current.is_enough() {
                return number;
            }
            let (plan, documents, view) = (current.plan(), current.documents, current.view);
            current.read(settled, |found| {
                let document = found.document.or_else(|| {
                    let view = view.filter(|_| in_keyspace)?;
                    plan.document(view, found.key)
                });
                if document.is_none() && in_keyspace {
                    return;
                }
                batch.documents.push_back(settled.clone());
                if let Some(Document::Object(object)) = document.filter(|_| self.reads_documents()) {
                    let weight = self.weight.of(object);
                    if let Some(held) = if budget.takes(weight) { None } else { object.held() } {
                        return self.hold_row((plan, documents), &found, (held, weight), batch);
                    }
                }
                let fields = document.as_ref().map_or(FieldsOf::Index, FieldsOf::Document);
                self.read_row((plan, documents), &found, fields, batch);
            });
        }
        some.len()
    }

    /// Whether a row shows something of its document.
    fn reads_documents(&self) -> bool {
        let is_field = |column: &Column| matches!(column.source, ColumnSource::Field { .. });
        self.loads_all || self.columns.iter().any(is_field)
    }

    /// Adds a row whose document is read later.
    fn hold_row(
        &self,
        at: (&Plan, &Documents),
        found: &CurrentDocument<'_, '_>,
        (document, weight): (Arc<dyn DocumentSource>, usize),
        batch: &mut RowBatch,
    ) {
        let mut row = RowBatch::default();
        self.read_row(at, found, FieldsOf::Held, &mut row);
        batch.held_bytes += document.walked_bytes();
        batch.held.push_back((batch.rows, Box::new(HeldRow { row, document, weight })));
    }

    /// Reads the document of a row. Needs no lock. `None` if the time limit passes: it is looked at between
    /// two paths.
    pub fn read_held(&self, held: HeldRow, is_late: &dyn Fn() -> bool) -> Option<RowBatch> {
        let HeldRow { row: mut batch, document, .. } = held;
        let document = Document::Object(&*document);
        let mut paths = 0;
        for (number, column) in self.columns.iter().enumerate() {
            if let ColumnSource::Field { identifier, numeric, lower, .. } = &column.source {
                if paths > 0 && is_late() {
                    return None;
                }
                paths += 1;
                batch.cells[number] = self.read_field(&document, identifier, (*numeric, *lower), &mut batch);
            }
        }
        self.read_whole(&document, 0, &mut batch);
        Some(batch)
    }

    fn read_row(
        &self,
        (plan, documents): (&Plan, &Documents),
        found: &CurrentDocument<'_, '_>,
        fields: FieldsOf<'_, '_>,
        batch: &mut RowBatch,
    ) {
        for (number, column) in self.columns.iter().enumerate() {
            let cell = match &column.source {
                ColumnSource::Nothing => Read::Absent,
                ColumnSource::Score => Read::Number(found.score),
                ColumnSource::FusedScore | ColumnSource::TextScore | ColumnSource::VectorScore => {
                    fused_score(&column.source, found).map_or(Read::Absent, Read::Number)
                }
                ColumnSource::Explanation => {
                    let fused = found.fused.as_ref();
                    let explained = fused.and_then(|fused| Some((fused.score, fused.explanation.as_ref()?)));
                    explained.map_or(Read::Absent, |(score, explained)| {
                        Read::Made(ExprValue::List(
                            [ExprValue::Number(score), explained_value(explained)].into(),
                        ))
                    })
                }
                ColumnSource::Key => batch.text(found.key),
                ColumnSource::Distance(name) => {
                    let nearest = plan.query.knn.as_ref().filter(|knn| knn.alias == *name);
                    let distance = match nearest {
                        Some(_) => found.nearest,
                        None => found.ranges.iter().find(|(own, _)| own == name).map(|range| range.1),
                    };
                    distance.map_or(Read::Absent, Read::Number)
                }
                ColumnSource::Field { identifier, indexed, numeric, lower } => match fields {
                    FieldsOf::Document(document) => {
                        self.read_field(document, identifier, (*numeric, *lower), batch)
                    }
                    FieldsOf::Held => Read::Absent,
                    FieldsOf::Index => {
                        let field = indexed.expect("other fields are read in the keyspace");
                        match documents.known_value(found.id, field) {
                            Some(KnownCell::Missing) => Read::Absent,
                            Some(KnownCell::Number(number)) => Read::Number(number),
                            Some(KnownCell::Tag(tag)) => batch.tag(documents, (number, field), tag, *lower),
                            None => {
                                // The row is read again.
                                batch.is_short = true;
                                return;
                            }
                        }
                    }
                },
            };
            batch.cells.push(cell);
        }
        if let FieldsOf::Document(document) = fields {
            self.read_whole(document, batch.rows, batch);
        }
        batch.rows += 1;
    }

    /// Reads the whole document if the rows show it.
    fn read_whole(&self, document: &Document<'_>, row: usize, batch: &mut RowBatch) {
        if !self.loads_all {
            return;
        }
        let is_list = self.several == Several::All && matches!(document, Document::Object(_));
        document.each_shown(self.several, |name, value| {
            if !is_of_index(&self.index.definition, name) {
                let name = batch.append(name);
                let value = match (batch.shown(&value), is_list) {
                    (Read::Text(text), true) => Read::List(Box::new(Read::Text(text.clone())), text),
                    (value, _) => value,
                };
                batch.whole.push((row, name, value));
            }
        });
    }

    fn read_field(
        &self,
        document: &Document<'_>,
        identifier: &[u8],
        (numeric, is_lower): (bool, bool),
        batch: &mut RowBatch,
    ) -> Read {
        let object = match document {
            Document::Hash(hash) => {
                let Some(field) = hash.get(identifier) else { return Read::Absent };
                return field.value.with_bytes(|bytes| match parse_number(bytes).filter(|_| numeric) {
                    Some(number) => Read::Number(number),
                    None if is_lower => batch.text(&lower(bytes)),
                    None => batch.text(bytes),
                });
            }
            Document::Object(object) => *object,
        };
        let Some(first) = self.first_value(object, identifier, is_lower, batch) else { return Read::Absent };
        let shows_all = self.several == Several::All;
        match shows_all.then(|| object.shown(identifier, Several::All)).flatten() {
            Some(ShownValue::List(text) | ShownValue::Text(text)) => {
                Read::List(Box::new(first), batch.append(&text))
            }
            _ => first,
        }
    }

    /// The first value at a path, with its type. A boolean is 1 or 0.
    fn first_value(
        &self,
        object: &dyn DocumentSource,
        path: &[u8],
        is_lower: bool,
        batch: &mut RowBatch,
    ) -> Option<Read> {
        let mut first = None;
        object.first_value(path, &mut |value| {
            first = Some(match value {
                FieldValue::Number(number) => Some(Read::Number(number)),
                FieldValue::Boolean(boolean) => Some(Read::Number(f64::from(boolean))),
                FieldValue::Null => Some(Read::Null),
                FieldValue::Text(text) if is_lower => Some(batch.text(&lower(text.as_bytes()))),
                FieldValue::Text(text) => Some(batch.text(text.as_bytes())),
                _ => None,
            });
        });
        // Lists and objects are texts.
        first.map(|typed| {
            typed.or_else(|| Some(batch.shown(&object.shown(path, Several::First)?))).unwrap_or(Read::Null)
        })
    }
}

/// An explanation as a value: the text, or a list of the text and the list of the parts.
fn explained_value(explained: &Explained) -> ExprValue<'static> {
    let text = ExprValue::Text(Cow::Owned(explained.text().as_bytes().to_vec()));
    if explained.parts().is_empty() {
        return text;
    }
    let parts = ExprValue::List(explained.parts().iter().map(explained_value).collect());
    ExprValue::List([text, parts].into())
}

/// A score of FT.HYBRID; `None` if the document was not found in this way.
fn fused_score(source: &ColumnSource, found: &CurrentDocument<'_, '_>) -> Option<f64> {
    let fused = found.fused.as_ref()?;
    match source {
        ColumnSource::TextScore => fused.text,
        ColumnSource::VectorScore => fused.vector,
        _ => Some(fused.score),
    }
}

impl RowBatch {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.cells.clear();
        self.whole.clear();
        (self.rows, self.passed, self.held_bytes) = (0, 0, 0);
        self.held.clear();
        self.documents.clear();
        self.is_short = false;
    }

    /// Gives the memory back, before the aggregation waits for its client. Returns the documents of the rows
    /// that have not passed on.
    pub fn release(&mut self) -> Vec<SettledDocument> {
        let left = std::mem::take(&mut self.documents).into();
        self.tags.release();
        *self = RowBatch { tags: std::mem::take(&mut self.tags), ..RowBatch::default() };
        left
    }

    /// Whether there are rows that have not passed on.
    pub fn has_rows(&self) -> bool {
        !self.documents.is_empty()
    }

    /// The next row, if its document is not read yet.
    pub fn next_held(&self) -> Option<&HeldRow> {
        self.held.front().filter(|(before, _)| *before == self.passed).map(|(_, held)| &**held)
    }

    /// Takes the next row, if its document is not read yet.
    pub fn take_held(&mut self) -> Option<HeldRow> {
        self.next_held()?;
        self.documents.pop_front();
        self.held.pop_front().map(|(_, held)| *held)
    }

    /// The bytes of the rows so far.
    fn size(&self) -> usize {
        self.bytes.len() + (self.cells.len() + self.whole.len()) * size_of::<Read>()
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }

    fn text(&mut self, bytes: &[u8]) -> Read {
        Read::Text(self.append(bytes))
    }

    /// A tag of a column, which is a field of the index.
    fn tag(
        &mut self,
        documents: &Documents,
        (column, field): (usize, usize),
        tag: u32,
        is_lower: bool,
    ) -> Read {
        if self.tags.has(column, tag) {
            return Read::Tag(tag);
        }
        let terms = documents.terms(field).expect("a field with tags has terms");
        let text = terms.term(tag);
        let text = if is_lower { Cow::Owned(lower(text)) } else { Cow::Borrowed(text) };
        match self.tags.add((column, field), tag, &text, documents) {
            true => Read::Tag(tag),
            false => self.text(&text),
        }
    }

    fn shown(&mut self, value: &ShownValue<'_>) -> Read {
        match value {
            ShownValue::Null => Read::Null,
            ShownValue::Number(number) => Read::Number(*number),
            ShownValue::List(text) => {
                let text = self.append(text);
                Read::List(Box::new(Read::Text(text.clone())), text)
            }
            ShownValue::Stored(stored) => stored.with_bytes(|bytes| self.text(bytes)),
            ShownValue::Text(text) => self.text(text),
        }
    }

    /// Calls `each` with the rows that have not passed on, up to the first one whose document is not read
    /// yet, until it returns false or fails. These have passed on.
    pub fn each<E>(
        &mut self,
        reader: &RowReader,
        mut each: impl FnMut(&mut PipelineRow<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let end = self.held.front().map_or(self.rows, |(before, _)| *before);
        if self.passed == end {
            return Ok(());
        }
        let tags = RowTags::of_width(reader.width, self.tags.generation());
        let mut row = PipelineRow { cells: vec![None; reader.width], tags, ..PipelineRow::default() };
        let columns = reader.columns.len();
        let first_of_whole = self.whole.partition_point(|(of, ..)| *of < self.passed);
        let mut whole = self.whole[first_of_whole..].iter().peekable();
        let (mut passed, mut result) = (self.passed, Ok(true));
        while passed < end && matches!(result, Ok(true)) {
            row.cells.iter_mut().for_each(|cell| *cell = None);
            let cells = &self.cells[passed * columns..(passed + 1) * columns];
            for ((column, cell), number) in reader.columns.iter().zip(cells).zip(0..) {
                let tag = if let Read::Tag(tag) = cell { Some(*tag) } else { None };
                row.tags.set(column.place, tag);
                row.cells[column.place] = match tag {
                    Some(tag) => Some(ExprValue::Text(Cow::Borrowed(self.tags.text(number, tag)))),
                    None => self.cell(cell),
                };
            }
            row.whole.clear();
            while let Some((_, name, value)) = whole.next_if(|(of, ..)| *of == passed) {
                let value = self.cell(value).unwrap_or_default();
                row.whole.push((Cow::Borrowed(&self.bytes[name.clone()]), value));
            }
            passed += 1;
            result = each(&mut row);
        }
        drop(row);
        self.documents.drain(..(passed - self.passed).min(self.documents.len()));
        self.passed = passed;
        result.map(|_| ())
    }

    fn cell(&self, read: &Read) -> Cell<'_> {
        Some(match read {
            Read::Absent => return None,
            Read::Null => ExprValue::Null,
            Read::Number(number) => ExprValue::Number(*number),
            Read::Text(range) => ExprValue::Text(Cow::Borrowed(&self.bytes[range.clone()])),
            Read::Tag(_) => unreachable!("the caller knows the column of a tag"),
            Read::Made(value) => value.clone(),
            Read::List(first, text) => ExprValue::Several(Arc::new(SeveralValues {
                seen: self.cell(first).unwrap_or_default().into_owned(),
                shown: ExprValue::Text(Cow::Owned(self.bytes[text.clone()].to_vec())),
            })),
        })
    }
}
