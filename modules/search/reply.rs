//! FT.SEARCH's reply: order, page, fields; flat in RESP2, a map in RESP3.

use crate::documents::{Documents, Value};
use crate::number::format_number;
use crate::plan::{Plan, Row, SortKey};
use crate::request::{Returned, SortBy};
use crate::schema::FieldKind;
use engramdb_engine::command::Reply;
use engramdb_engine::types::{StringValue, parse_double};
use engramdb_engine::view::{HashView, View};

/// A field as the reply shows it: what it is called there, and its value.
type Shown<'r> = (&'r [u8], Content<'r>);

enum Content<'r> {
    Distance(f64),
    Key(&'r [u8]),
    Stored(&'r StringValue),
}

/// What a search came to.
pub struct Answer<'r> {
    pub total: usize,
    /// In order; all of them, or those up to the end of the page.
    pub rows: Vec<Row<'r>>,
    pub warnings: Warnings,
}

/// What an answer may lack. RESP2 has no place for it.
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

    /// Writes the texts, or `none` where there are none.
    pub fn write(self, reply: &mut dyn Reply, none: Option<&'static str>) {
        let none = none.filter(|_| self == Warnings::default());
        let texts = self.texts().chain(none);
        reply.array(texts.clone().count());
        texts.for_each(|text| reply.bulk(text.as_bytes()));
    }
}

/// Writes the reply.
pub fn write(plan: &Plan, view: &View<'_>, reply: &mut dyn Reply, answer: Answer<'_>) {
    let Answer { total, rows, warnings } = answer;
    let request = plan.request();
    let end = (request.offset + request.limit).min(rows.len());
    let page = &rows[request.offset.min(end)..end];
    let writer = Writer { plan, view };
    writer.prefetch(page);
    let mut fields = Vec::new();
    if !reply.is_resp3() {
        let each = 1
            + usize::from(request.with_scores)
            + usize::from(request.with_payloads)
            + usize::from(request.with_sort_keys)
            + usize::from(!request.no_content);
        reply.array(1 + page.len() * each);
        reply.integer(total as i64);
        page.iter().for_each(|row| writer.flat(reply, row, &mut fields));
        return;
    }
    reply.map(5);
    reply.bulk(b"attributes");
    reply.array(0);
    reply.bulk(b"format");
    reply.bulk(b"STRING");
    reply.bulk(b"total_results");
    reply.integer(total as i64);
    reply.bulk(b"warning");
    warnings.write(reply, None);
    reply.bulk(b"results");
    reply.array(page.len());
    page.iter().for_each(|row| writer.map(reply, row, &mut fields));
}

/// Puts rows into the order that is asked for; equals stay as they are.
pub fn put_in_order(plan: &Plan, view: &View<'_>, documents: &Documents, rows: &mut [Row<'_>]) {
    if let Some(sort_by) = &plan.request().sort_by {
        rows.iter_mut().for_each(|row| row.sort_key = sort_key(plan, view, documents, sort_by, row));
        rows.sort_by(|a, b| a.sort_key.order(&b.sort_key, sort_by.descending));
    }
}

struct Writer<'a> {
    plan: &'a Plan,
    view: &'a View<'a>,
}

/// Scores are of text relevance, which is not computed: all documents have the same.
const SCORE: f64 = 1.0;

impl<'a> Writer<'a> {
    /// Has the memory that the page is written from on its way: keys, and hashes where they are asked for.
    fn prefetch(&self, page: &[Row<'_>]) {
        page.iter().for_each(|row| _ = std::hint::black_box(row.key.first().copied()));
        if self.needs_hashes() {
            self.view.prefetch(page.iter().filter(|row| row.hash.is_none()).map(|row| row.key));
        }
    }

    /// Whether the reply shows more than keys and distances.
    fn needs_hashes(&self) -> bool {
        let request = self.plan.request();
        let is_stored = |name: &[u8]| name != b"__key" && !self.plan.is_distance(name);
        !request.no_content
            && request.fields.as_ref().is_none_or(|fields| fields.iter().any(|(name, _)| is_stored(name)))
    }

    fn flat(&self, reply: &mut dyn Reply, row: &'a Row<'a>, fields: &mut Vec<Shown<'a>>) {
        let request = self.plan.request();
        reply.bulk(row.key);
        if request.with_scores {
            reply.double(SCORE);
        }
        if request.with_payloads {
            reply.null();
        }
        if request.with_sort_keys {
            write_sort_key(reply, &row.sort_key);
        }
        if !request.no_content {
            self.gather(row, fields);
            reply.array(fields.len() * 2);
            fields.iter().for_each(|field| write_field(reply, field));
        }
    }

    fn map(&self, reply: &mut dyn Reply, row: &'a Row<'a>, fields: &mut Vec<Shown<'a>>) {
        let request = self.plan.request();
        let options =
            [request.with_scores, request.with_payloads, request.with_sort_keys, !request.no_content];
        reply.map(2 + options.iter().filter(|&&option| option).count());
        reply.bulk(b"id");
        reply.bulk(row.key);
        if request.with_scores {
            reply.bulk(b"score");
            reply.double(SCORE);
        }
        if request.with_payloads {
            reply.bulk(b"payload");
            reply.null();
        }
        if request.with_sort_keys {
            reply.bulk(b"sortkey");
            write_sort_key(reply, &row.sort_key);
        }
        if !request.no_content {
            self.gather(row, fields);
            reply.bulk(b"extra_attributes");
            reply.map(fields.len());
            fields.iter().for_each(|field| write_field(reply, field));
        }
        reply.bulk(b"values");
        reply.array(0);
    }

    /// Puts the row's fields in the place of another's: distances and all of the hash, or what RETURN asks for and is there.
    fn gather(&self, row: &'a Row<'a>, fields: &mut Vec<Shown<'a>>) {
        fields.clear();
        let look = || row.hash.or_else(|| self.view.hash(row.key).ok().flatten());
        let hash = if self.needs_hashes() { look() } else { None };
        let Some(wanted) = &self.plan.request().fields else {
            fields.extend(row.distances().map(|(name, distance)| (name, Content::Distance(distance))));
            let stored = hash.iter().flat_map(HashView::iter);
            fields.extend(stored.map(|field| (field.name.as_slice(), Content::Stored(&field.value))));
            return;
        };
        let shown = |(name, alias): &'a Returned| Some((alias.as_slice(), self.content(row, hash, name)?));
        fields.extend(wanted.iter().filter_map(shown));
    }

    fn content(&self, row: &'a Row<'a>, hash: Option<HashView<'a>>, name: &'a [u8]) -> Option<Content<'a>> {
        if let Some((_, distance)) = row.distances().find(|(alias, _)| *alias == name) {
            return Some(Content::Distance(distance));
        }
        if name == b"__key" {
            return Some(Content::Key(row.key));
        }
        Some(Content::Stored(&hash?.get(self.plan.index.definition.identifier_of(name))?.value))
    }
}

fn write_field(reply: &mut dyn Reply, (name, content): &Shown<'_>) {
    reply.bulk(name);
    match content {
        Content::Distance(distance) => reply.bulk(format_number(*distance).as_bytes()),
        Content::Key(key) => reply.bulk(key),
        Content::Stored(value) => value.with_bytes(|bytes| reply.bulk(bytes)),
    }
}

/// What SORTBY says of a row as it reads now.
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
    // The index's number is true unless the field has expired, which the index does not know.
    if is_numeric && !definition.no_index && !view.may_have_due(view.database()) {
        return match documents.value(row.id, field) {
            Value::Number(number) => SortKey::Number(*number),
            _ => SortKey::Absent,
        };
    }
    let hash = row.hash.or_else(|| view.hash(row.key).ok().flatten());
    let Some(field) = hash.and_then(|hash| hash.get(&definition.identifier)) else { return SortKey::Absent };
    field.value.with_bytes(|bytes| {
        if is_numeric {
            return parse_double(bytes).map_or(SortKey::Absent, SortKey::Number);
        }
        // Without UNF, values are compared in small letters, as RediSearch keeps them.
        SortKey::Text(if definition.unf { bytes.to_vec() } else { crate::text::lower(bytes) })
    })
}

fn write_sort_key(reply: &mut dyn Reply, key: &SortKey) {
    match key {
        SortKey::Number(number) => reply.bulk(format!("#{}", &*format_number(*number)).as_bytes()),
        SortKey::Text(text) => reply.bulk(&[b"$", text.as_slice()].concat()),
        SortKey::Absent => reply.null(),
    }
}
