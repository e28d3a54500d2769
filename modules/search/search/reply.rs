//! FT.SEARCH's reply: sorts the rows and writes the fields of the page; flat in RESP2, a map in RESP3.

use super::excerpt::Excerpt;
use super::expand;
use super::measure::Measure;
use super::plan::{Plan, Profile, Row, SortKey};
use super::profile;
use super::rows::Kept;
use crate::documents::Documents;
use crate::number::{format_exactly, format_number};
use crate::query::request::{Returned, SortBy};
use crate::schema::{self, Definition, FieldKind};
use engramdb_engine::command::Reply;
use engramdb_engine::keyspace::{DocumentSource, FieldValue, Several, ShownValue};
use engramdb_engine::store::document::Document;
use engramdb_engine::store::view::View;
use engramdb_engine::types::parse_double;
use std::borrow::Cow;

/// A field in the reply: its name there, and its value.
type Shown<'r> = (&'r [u8], Content<'r>);

enum Content<'r> {
    Number(f64),
    Bytes(&'r [u8]),
    Shown(ShownValue<'r>),
}

/// The answer of a search.
pub struct Answer<'r> {
    pub total: usize,
    /// The rows of the page, sorted.
    pub rows: Vec<Row<'r>>,
    pub warnings: Warnings,
}

/// Like `Answer`, to be written without the keyspace's lock.
pub struct KeptAnswer {
    pub total: usize,
    /// The rows of the page, sorted.
    pub page: Vec<Kept>,
    pub warnings: Warnings,
    /// The engine's time at the last look, in milliseconds.
    pub now_ms: u64,
    pub profile: Option<Box<Profile>>,
}

/// The reasons why rows may be missing. RESP2's reply does not show them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Warnings {
    pub timed_out: bool,
    /// The index is still being built.
    pub incomplete: bool,
}

impl Warnings {
    fn texts(self) -> impl Iterator<Item = &'static str> + Clone {
        let timed_out = self.timed_out.then_some("Timeout limit was reached");
        let incomplete = self.incomplete.then_some("The index is still being built: results may be missing");
        timed_out.into_iter().chain(incomplete)
    }

    /// Writes the texts of the warnings, or `none` if there are no warnings.
    pub fn write(self, reply: &mut dyn Reply, none: Option<&'static str>) {
        let none = none.filter(|_| self == Warnings::default());
        let texts = self.texts().chain(none);
        reply.array(texts.clone().count());
        texts.for_each(|text| reply.bulk(text.as_bytes()));
    }
}

/// Writes the reply under the keyspace's lock. The documents of the rows have been looked up.
pub fn write(plan: &Plan, reply: &mut dyn Reply, answer: &Answer<'_>, profile: Option<&Profile>) {
    let writer = Writer { plan, is_of_copies: false };
    writer.write_profiled(reply, (answer.total, answer.warnings), &answer.rows, profile);
}

/// Writes the reply from the kept rows of the page, without any lock.
pub fn write_kept(plan: &Plan, reply: &mut dyn Reply, answer: &KeptAnswer) {
    let page: Vec<Row<'_>> = answer.page.iter().map(|kept| plan.row_of(kept, answer.now_ms)).collect();
    let writer = Writer { plan, is_of_copies: true };
    writer.write_profiled(reply, (answer.total, answer.warnings), &page, answer.profile.as_deref());
}

/// Marks words and shortens texts of a kept row, as the request asks for. Returns the texts by their places
/// among the fields that the reply shows.
pub fn marked(plan: &Plan, row: &Row<'_>) -> Vec<(usize, Vec<u8>)> {
    let Some(highlighter) = &plan.highlighter else { return Vec::new() };
    let (request, mut fields, mut marks) = (plan.request(), Vec::new(), Vec::new());
    let writer = Writer { plan, is_of_copies: true };
    writer.gather(row, writer.document(row), &mut fields);
    for (place, (name, content)) in fields.iter().enumerate() {
        let mode = request.excerpts.mode(name, request.fields.is_some());
        let text = match content {
            Content::Shown(value @ (ShownValue::Stored(_) | ShownValue::Text(_))) => text_of(value),
            _ => continue,
        };
        let excerpt = highlighter.excerpt(&plan.index.definition, name, &mode, &text);
        marks.extend(excerpt.map(|excerpt| (place, excerpt)));
    }
    marks
}

/// Whether the reply shows more of the documents than keys and distances: fields or payloads.
pub fn needs_documents(plan: &Plan) -> bool {
    let request = plan.request();
    let is_stored = |name: &[u8]| name != b"__key" && !plan.is_distance(name);
    let shows_payload = request.with_payloads && !plan.index.definition.options.payload_field.is_empty();
    let shows_fields = !request.no_content
        && request.fields.as_ref().is_none_or(|fields| fields.iter().any(|(name, _)| is_stored(name)));
    shows_payload || shows_fields
}

/// The least bytes that a row takes in the reply: without distances, and without fields that can expire.
pub fn least_bytes(plan: &Plan, key: &[u8], excerpt: Option<&Excerpt>) -> usize {
    // The shortest sort key.
    let sort_key = SortKey::Number(0.0);
    let document = excerpt.map(|excerpt| excerpt.read(u64::MAX));
    let row = Row { document, sort_key, ..Row::new(key, 0, None) };
    let mut measure = Measure::default();
    Writer { plan, is_of_copies: true }.flat(&mut measure, &row, &mut Vec::new());
    measure.bytes()
}

/// Sorts rows by SORTBY, if the request has it. Equal rows keep their order.
pub fn put_in_order(plan: &Plan, view: &View<'_>, documents: &Documents, rows: &mut [Row<'_>]) {
    if let Some(sort_by) = &plan.request().sort_by {
        rows.iter_mut().for_each(|row| row.sort_key = sort_key(plan, view, documents, sort_by, row));
        rows.sort_by(|a, b| a.sort_key.order(&b.sort_key, sort_by.descending));
    }
}

struct Writer<'a> {
    plan: &'a Plan,
    /// The rows have copies of what is shown of documents, instead of documents.
    is_of_copies: bool,
}

impl<'a> Writer<'a> {
    fn write_profiled(
        &self,
        reply: &mut dyn Reply,
        (total, warnings): (usize, Warnings),
        page: &'a [Row<'a>],
        profile: Option<&Profile>,
    ) {
        let Some(profile) = profile else { return self.write(reply, total, warnings, page) };
        profile::begin(reply);
        self.write(reply, total, warnings, page);
        profile::write(self.plan, profile, warnings, reply);
    }

    fn write(&self, reply: &mut dyn Reply, total: usize, warnings: Warnings, page: &'a [Row<'a>]) {
        let request = self.plan.request();
        let mut fields = Vec::new();
        if !reply.is_resp3() {
            let each = 1
                + usize::from(request.with_scores)
                + usize::from(request.with_payloads)
                + usize::from(request.with_sort_keys)
                + usize::from(!request.no_content);
            reply.array(1 + page.len() * each);
            reply.integer(total as i64);
            return self.each(reply, page, |reply, row| self.flat(reply, row, &mut fields));
        }
        reply.map(5);
        reply.bulk(b"attributes");
        reply.array(0);
        reply.bulk(b"format");
        reply.bulk(if request.expands { b"EXPAND" } else { b"STRING" });
        reply.bulk(b"total_results");
        reply.integer(total as i64);
        reply.bulk(b"warning");
        warnings.write(reply, None);
        reply.bulk(b"results");
        reply.array(page.len());
        self.each(reply, page, |reply, row| self.map(reply, row, &mut fields));
    }

    /// Writes the rows. Stops if the reply exceeds the client's output limit.
    fn each(
        &self,
        reply: &mut dyn Reply,
        page: &'a [Row<'a>],
        mut write: impl FnMut(&mut dyn Reply, &'a Row<'a>),
    ) {
        for row in page {
            if reply.room() == 0 {
                return reply.give_up();
            }
            write(reply, row);
        }
    }

    fn payload_field(&self) -> &'a [u8] {
        &self.plan.index.definition.options.payload_field
    }

    fn document(&self, row: &'a Row<'a>) -> Option<Document<'a>> {
        row.document.filter(|_| needs_documents(self.plan))
    }

    fn write_payload(&self, reply: &mut dyn Reply, document: Option<Document<'a>>) {
        let several = self.plan.request().several();
        match document.and_then(|document| document.shown(self.payload_field(), several)) {
            Some(value) if !self.payload_field().is_empty() => write_shown(reply, &value, false),
            _ => reply.null(),
        }
    }

    fn flat(&self, reply: &mut dyn Reply, row: &'a Row<'a>, fields: &mut Vec<Shown<'a>>) {
        let request = self.plan.request();
        let document = self.document(row);
        reply.bulk(row.key);
        if request.with_scores {
            write_score(reply, row);
        }
        if request.with_payloads {
            self.write_payload(reply, document);
        }
        if request.with_sort_keys {
            self.write_sort_key(reply, row, document);
        }
        if !request.no_content {
            self.fill(row, document, fields);
            reply.array(fields.len() * 2);
            fields.iter().for_each(|field| write_field(reply, field, request.expands));
        }
    }

    fn map(&self, reply: &mut dyn Reply, row: &'a Row<'a>, fields: &mut Vec<Shown<'a>>) {
        let request = self.plan.request();
        let document = self.document(row);
        let options =
            [request.with_scores, request.with_payloads, request.with_sort_keys, !request.no_content];
        reply.map(2 + options.iter().filter(|&&option| option).count());
        reply.bulk(b"id");
        reply.bulk(row.key);
        if request.with_scores {
            reply.bulk(b"score");
            write_score(reply, row);
        }
        if request.with_payloads {
            reply.bulk(b"payload");
            self.write_payload(reply, document);
        }
        if request.with_sort_keys {
            reply.bulk(b"sortkey");
            self.write_sort_key(reply, row, document);
        }
        if !request.no_content {
            self.fill(row, document, fields);
            reply.bulk(b"extra_attributes");
            reply.map(fields.len());
            fields.iter().for_each(|field| write_field(reply, field, request.expands));
        }
        reply.bulk(b"values");
        reply.array(0);
    }

    /// Replaces `fields` by those that the reply shows.
    fn fill(&self, row: &'a Row<'a>, document: Option<Document<'a>>, fields: &mut Vec<Shown<'a>>) {
        self.gather(row, document, fields);
        row.marks.iter().for_each(|(place, text)| fields[*place].1 = Content::Bytes(text));
    }

    /// Replaces `fields` by the row's: distances, SORTBY's field and the whole document, or the existing ones
    /// of RETURN's fields.
    fn gather(&self, row: &'a Row<'a>, document: Option<Document<'a>>, fields: &mut Vec<Shown<'a>>) {
        fields.clear();
        let Some(wanted) = &self.plan.request().fields else {
            fields.extend(row.distances().map(|(name, distance)| (name, Content::Number(distance))));
            let sorted = sorted_field(self.plan).and_then(|field| self.sorted_content(row, document, field));
            let twice = sorted.as_ref().map(|(name, _)| *name);
            fields.extend(sorted);
            let several = self.plan.request().several();
            document.iter().for_each(|document| {
                document.each_shown(several, |name, value| {
                    if Some(name) != twice && !is_of_index(&self.plan.index.definition, name) {
                        fields.push((name, Content::Shown(value)));
                    }
                });
            });
            return;
        };
        // As in RediSearch, the distances come first, in the query's order, then SORTBY's field.
        let is_own = |(name, alias): &Returned, own: &[u8]| name == alias && name == own;
        let sorted = sorted_field(self.plan).map(|field| &*field.name);
        let is_distance = |returned: &Returned| row.distances().any(|(name, _)| is_own(returned, name));
        let is_sorted = |returned: &Returned| sorted.is_some_and(|name| is_own(returned, name));
        for (name, distance) in row.distances() {
            if wanted.iter().any(|returned| is_own(returned, name)) {
                fields.push((name, Content::Number(distance)));
            }
        }
        let rest = wanted.iter().filter(|returned| !is_distance(returned));
        let (first, last) = (rest.clone().filter(|one| is_sorted(one)), rest.filter(|one| !is_sorted(one)));
        let shown =
            |(name, alias): &'a Returned| Some((alias.as_slice(), self.content(row, document, name)?));
        fields.extend(first.chain(last).filter_map(shown));
    }

    /// SORTBY's field, which is shown before the document's fields: its value in the document, or, if it has
    /// another name in queries, the sort key.
    fn sorted_content(
        &self,
        row: &'a Row<'a>,
        document: Option<Document<'a>>,
        field: &'a schema::FieldDefinition,
    ) -> Option<Shown<'a>> {
        let value = self.shown(document?, &field.name)?;
        let content = match &row.sort_key {
            _ if matches!(value, ShownValue::Null) => return None,
            _ if self.shows_all(document) => Content::Shown(value),
            _ if *field.name == *field.identifier => Content::Shown(value),
            SortKey::Number(number) => Content::Number(*number),
            SortKey::Text(text) => Content::Bytes(text),
            SortKey::Absent => Content::Shown(value),
        };
        Some((&field.name, content))
    }

    /// Writes the sort key. A number that is not SORTABLE is written as it is in the document, if the
    /// document is read for the reply.
    fn write_sort_key(&self, reply: &mut dyn Reply, row: &'a Row<'a>, document: Option<Document<'a>>) {
        let request = self.plan.request();
        let is_loaded = request.fields.is_none() && !request.no_content;
        let as_stored = sorted_field(self.plan)
            .filter(|field| is_loaded && !field.sortable && *field.name == *field.identifier);
        let stored = as_stored.and_then(|field| document?.shown(&field.identifier, request.several()));
        match (&row.sort_key, stored) {
            (SortKey::Absent, _) => reply.null(),
            (_, Some(stored)) => {
                reply.bulk(&[b"$", &*text_of(&stored)].concat());
            }
            (SortKey::Number(number), None) => {
                reply.bulk(format!("#{}", &*format_exactly(*number)).as_bytes())
            }
            (SortKey::Text(text), None) => reply.bulk(&[b"$", text.as_slice()].concat()),
        }
    }

    fn content(
        &self,
        row: &'a Row<'a>,
        document: Option<Document<'a>>,
        name: &'a [u8],
    ) -> Option<Content<'a>> {
        if let Some((_, distance)) = row.distances().find(|(alias, _)| *alias == name) {
            return Some(Content::Number(distance));
        }
        if name == b"__key" {
            return Some(Content::Bytes(row.key));
        }
        self.shown(document?, name).map(Content::Shown)
    }

    /// What the reply shows under a name: of a copy, what was copied for it.
    fn shown(&self, document: Document<'a>, name: &[u8]) -> Option<ShownValue<'a>> {
        match document {
            Document::Object(object) if !self.is_of_copies => shown_as(self.plan, object, name),
            Document::Object(copy) => copy.shown(name, self.plan.request().several()),
            Document::Hash(_) => {
                let definition = &self.plan.index.definition;
                document.shown(definition.identifier_of(name), Several::First)
            }
        }
    }

    /// Whether the reply shows all values of a path of this document.
    fn shows_all(&self, document: Option<Document<'a>>) -> bool {
        matches!(document, Some(Document::Object(_))) && self.plan.request().several() == Several::All
    }
}

/// What a reply shows of a document under a name of the request: a field of the schema, or a path. Where all
/// values are shown, as a list, the only value of a SORTABLE field is shown alone, and a null not at all: as
/// RediSearch does it, which keeps such values apart.
pub fn shown_as<'d>(plan: &Plan, document: &'d dyn DocumentSource, name: &[u8]) -> Option<ShownValue<'d>> {
    let (definition, several) = (&plan.index.definition, plan.request().several());
    let path = definition.identifier_of(name);
    let is_sortable = definition.field(name).is_some_and(|field| definition.fields[field].sortable);
    if several == Several::First || !is_sortable {
        return all_shown(document, path, several);
    }
    let (mut count, mut single) = (0, None);
    document.values(path, &mut |value| {
        count += 1;
        single = match value {
            FieldValue::Text(text) => Some(ShownValue::Text(text.as_bytes().to_vec().into())),
            FieldValue::Number(number) => Some(ShownValue::Number(number)),
            FieldValue::Boolean(boolean) => {
                Some(ShownValue::Text((if boolean { &b"true"[..] } else { b"false" }).into()))
            }
            FieldValue::Null => Some(ShownValue::Null),
            _ => None,
        };
    });
    match single {
        Some(ShownValue::Null) if count == 1 => None,
        Some(single) if count == 1 => Some(single),
        _ => all_shown(document, path, several),
    }
}

/// The field of SORTBY, if it is in the schema.
pub fn sorted_field(plan: &Plan) -> Option<&schema::FieldDefinition> {
    let sort_by = plan.request().sort_by.as_ref()?;
    let definition = &plan.index.definition;
    definition.field(&sort_by.field).map(|field| &definition.fields[field])
}

/// Whether a field of the document is metadata for the index (language, score, payload), which replies omit.
pub fn is_of_index(definition: &Definition, name: &[u8]) -> bool {
    let options = &definition.options;
    !name.is_empty()
        && [&options.language_field, &options.score_field, &options.payload_field]
            .iter()
            .any(|field| field.as_slice() == name)
}

fn write_score(reply: &mut dyn Reply, row: &Row<'_>) {
    match &row.explanation {
        Some(explanation) => {
            reply.array(2);
            reply.double(row.score);
            explanation.write(reply);
        }
        None => reply.double(row.score),
    }
}

/// What is shown of a path. RediSearch shows nothing where an empty array is the only one of all values.
fn all_shown<'d>(document: &'d dyn DocumentSource, path: &[u8], several: Several) -> Option<ShownValue<'d>> {
    let shown = document.shown(path, several);
    shown.filter(|shown| !matches!(shown, ShownValue::List(text) if **text == *b"[[]]"))
}

fn write_field(reply: &mut dyn Reply, (name, content): &Shown<'_>, expands: bool) {
    reply.bulk(name);
    match content {
        Content::Number(number) if expands => expand::write_number(reply, *number),
        Content::Number(number) => reply.bulk(format_number(*number).as_bytes()),
        Content::Bytes(key) => reply.bulk(key),
        Content::Shown(value) => write_shown(reply, value, expands),
    }
}

fn write_shown(reply: &mut dyn Reply, value: &ShownValue<'_>, expands: bool) {
    match value {
        ShownValue::Stored(value) => {
            reply.string(*value);
        }
        ShownValue::Number(number) if expands => expand::write_number(reply, *number),
        ShownValue::List(text) if expands => expand::write_values(reply, text),
        ShownValue::Number(number) => reply.bulk(format_number(*number).as_bytes()),
        ShownValue::Text(text) | ShownValue::List(text) => reply.bulk(text),
        ShownValue::Null => reply.null(),
    }
}

/// The text of a value; that of a null is empty.
fn text_of<'v>(value: &'v ShownValue<'_>) -> Cow<'v, [u8]> {
    match value {
        ShownValue::Stored(value) => value.to_bytes(),
        ShownValue::Text(text) | ShownValue::List(text) => Cow::Borrowed(text),
        ShownValue::Number(number) => format_number(*number).as_bytes().to_vec().into(),
        ShownValue::Null => Cow::Borrowed(b""),
    }
}

/// The sort key of a row now.
pub fn sort_key(
    plan: &Plan,
    view: &View<'_>,
    documents: &Documents,
    sort_by: &SortBy,
    row: &Row<'_>,
) -> SortKey {
    if plan.is_distance(&sort_by.field) {
        let found = row.distances().find(|(name, _)| *name == sort_by.field);
        return found.map_or(SortKey::Absent, |(_, distance)| SortKey::Number(distance));
    }
    let Some(field) = plan.index.definition.field(&sort_by.field) else { return SortKey::Absent };
    let definition = &plan.index.definition.fields[field];
    let is_numeric = definition.kind == FieldKind::Numeric;
    // The index's number is right unless the field has expired, which the index does not know.
    if is_numeric && !definition.no_index && !view.may_have_due(view.database()) {
        let numbers = documents.numbers_of(row.id, field);
        return numbers.first().map_or(SortKey::Absent, |number| SortKey::Number(*number));
    }
    let document = row.document.or_else(|| plan.document(view, row.key));
    document.map_or(SortKey::Absent, |document| stored_key(plan, sort_by, &document))
}

/// The sort key that a document has, if the field is in the schema.
pub fn stored_key(plan: &Plan, sort_by: &SortBy, document: &Document<'_>) -> SortKey {
    let Some(field) = plan.index.definition.field(&sort_by.field) else { return SortKey::Absent };
    let definition = &plan.index.definition.fields[field];
    let is_numeric = definition.kind == FieldKind::Numeric;
    // SORTABLE fields without UNF are compared in lower case, all others unchanged.
    let is_kept_small = definition.sortable && !definition.unf;
    let text = |bytes: &[u8]| {
        SortKey::Text(if is_kept_small { crate::documents::text::lower(bytes) } else { bytes.to_vec() })
    };
    let key_of = |value: FieldValue<'_>| match value {
        FieldValue::Stored(bytes) if is_numeric => {
            bytes.with_bytes(parse_double).map_or(SortKey::Absent, SortKey::Number)
        }
        FieldValue::Stored(bytes) => bytes.with_bytes(text),
        FieldValue::Text(bytes) if !is_numeric => text(bytes.as_bytes()),
        FieldValue::Boolean(boolean) if !is_numeric => text(if boolean { b"true" } else { b"false" }),
        FieldValue::Number(number) => SortKey::Number(number),
        FieldValue::Numbers(numbers) => numbers.first().map_or(SortKey::Absent, |&n| SortKey::Number(n)),
        _ => SortKey::Absent,
    };
    // RediSearch compares the text of an array that it does not keep for sorting, in older dialects.
    let is_read = definition.sortable || is_numeric || plan.request().several() == Several::All;
    let is_array = |value: &FieldValue<'_>| matches!(value, FieldValue::Numbers(_) | FieldValue::Array(_));
    let first = document.first(&definition.identifier, |value| match value {
        value if !is_read && is_array(&value) => None,
        FieldValue::Array(elements) => Some({
            let first = elements.iter().find(|element| !matches!(element, FieldValue::Null));
            first.map_or(SortKey::Absent, |&first| key_of(first))
        }),
        value => Some(key_of(value)),
    });
    match first {
        Some(Some(key)) => key,
        Some(None) => {
            let shown = document.shown(&definition.identifier, Several::First);
            shown.map_or(SortKey::Absent, |value| text(&text_of(&value)))
        }
        None => SortKey::Absent,
    }
}
