//! FT.SEARCH's reply: order, page, fields; flat in RESP2, a map in RESP3.

use crate::documents::{Documents, Value};
use crate::request::SortBy;
use crate::schema::FieldKind;
use crate::search::{Plan, Row};
use engramdb_engine::command::Reply;
use engramdb_engine::view::{HashView, View};
use std::borrow::Cow;
use std::cmp::Ordering;

/// A field's name and value.
type Pair<'r> = (Cow<'r, [u8]>, Cow<'r, [u8]>);

/// What rows are put in order by. Absent ones come last, in either direction.
#[derive(Clone, Debug, PartialEq)]
enum SortKey {
    Absent,
    Number(f64),
    Text(Vec<u8>),
}

/// What a search came to.
pub struct Answer<'r> {
    pub documents: &'r Documents,
    pub total: usize,
    /// In distance order (or any, where there is none), all of them or at least the page.
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
    let Answer { documents, total, mut rows, warnings } = answer;
    let request = plan.request();
    let mut keys = Vec::new();
    if let Some(sort_by) = &request.sort_by {
        let sort_key = |row: &Row<'_>| sort_key(plan, view, documents, sort_by, row);
        let mut keyed: Vec<(SortKey, Row<'_>)> = rows.into_iter().map(|row| (sort_key(&row), row)).collect();
        // Stable: equals stay in distance order, or in that of their ids.
        keyed.sort_by(|(a, _), (b, _)| a.order(b, sort_by.descending));
        (keys, rows) = keyed.into_iter().unzip();
    }
    let end = (request.offset + request.limit).min(rows.len());
    let page = request.offset.min(end)..end;
    let writer = Writer { plan, view };
    writer.prefetch(&rows[page.clone()]);
    if !reply.is_resp3() {
        let each = 1
            + usize::from(request.with_scores)
            + usize::from(request.with_payloads)
            + usize::from(request.with_sort_keys)
            + usize::from(!request.no_content);
        reply.array(1 + page.len() * each);
        reply.integer(total as i64);
        page.for_each(|at| writer.flat(reply, &rows[at], keys.get(at)));
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
    page.for_each(|at| writer.map(reply, &rows[at], keys.get(at)));
}

struct Writer<'a> {
    plan: &'a Plan,
    view: &'a View<'a>,
}

/// Scores are of text relevance, which is not computed: all documents have the same.
const SCORE: f64 = 1.0;

impl Writer<'_> {
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

    fn flat(&self, reply: &mut dyn Reply, row: &Row<'_>, sort_key: Option<&SortKey>) {
        let request = self.plan.request();
        reply.bulk(row.key);
        if request.with_scores {
            reply.double(SCORE);
        }
        if request.with_payloads {
            reply.null();
        }
        if request.with_sort_keys {
            write_sort_key(reply, sort_key);
        }
        if !request.no_content {
            let fields = self.fields(row);
            reply.array(fields.len() * 2);
            fields.iter().for_each(|(name, value)| {
                reply.bulk(name);
                reply.bulk(value);
            });
        }
    }

    fn map(&self, reply: &mut dyn Reply, row: &Row<'_>, sort_key: Option<&SortKey>) {
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
            write_sort_key(reply, sort_key);
        }
        if !request.no_content {
            let fields = self.fields(row);
            reply.bulk(b"extra_attributes");
            reply.map(fields.len());
            fields.iter().for_each(|(name, value)| {
                reply.bulk(name);
                reply.bulk(value);
            });
        }
        reply.bulk(b"values");
        reply.array(0);
    }

    /// Names and values: distances and all of the hash, or what RETURN asks for and is there.
    fn fields<'r>(&'r self, row: &'r Row<'r>) -> Vec<Pair<'r>> {
        let look = || row.hash.or_else(|| self.view.hash(row.key).ok().flatten());
        let hash = if self.needs_hashes() { look() } else { None };
        let Some(wanted) = &self.plan.request().fields else {
            let distances = row.distances().map(|(name, distance)| {
                (Cow::Borrowed(name), Cow::Owned(format_distance(distance).into_bytes()))
            });
            let fields = hash.iter().flat_map(|hash| {
                hash.iter().map(|field| (Cow::Borrowed(field.name.as_slice()), field.value.to_bytes()))
            });
            return distances.chain(fields).collect();
        };
        let mut fields = Vec::with_capacity(wanted.len());
        for (name, alias) in wanted {
            if let Some(value) = self.field(row, hash, name) {
                fields.push((Cow::Borrowed(alias.as_slice()), value));
            }
        }
        fields
    }

    fn field<'r>(
        &'r self,
        row: &Row<'_>,
        hash: Option<HashView<'r>>,
        name: &'r [u8],
    ) -> Option<Cow<'r, [u8]>> {
        if let Some((_, distance)) = row.distances().find(|(alias, _)| *alias == name) {
            return Some(Cow::Owned(format_distance(distance).into_bytes()));
        }
        if name == b"__key" {
            return Some(Cow::Owned(row.key.to_vec()));
        }
        Some(hash?.get(self.plan.index.definition.identifier_of(name))?.value.to_bytes())
    }
}

fn sort_key(plan: &Plan, view: &View<'_>, documents: &Documents, sort_by: &SortBy, row: &Row<'_>) -> SortKey {
    if plan.is_distance(&sort_by.field) {
        let found = row.distances().find(|(name, _)| *name == sort_by.field);
        return found.map_or(SortKey::Absent, |(_, distance)| SortKey::Number(distance));
    }
    let Some(field) = plan.index.definition.field(&sort_by.field) else { return SortKey::Absent };
    let definition = &plan.index.definition.fields[field];
    if definition.kind == FieldKind::Numeric && !definition.no_index {
        return match documents.value(row.id, field) {
            Value::Number(number) => SortKey::Number(*number),
            _ => SortKey::Absent,
        };
    }
    let value = view.hash(row.key).ok().flatten().and_then(|hash| hash.get(&definition.identifier));
    let Some(value) = value else { return SortKey::Absent };
    let text = value.value.to_bytes();
    if definition.kind == FieldKind::Numeric {
        return engramdb_engine::types::parse_double(&text).map_or(SortKey::Absent, SortKey::Number);
    }
    // Without UNF, values are compared in small letters, as RediSearch keeps them.
    SortKey::Text(if definition.unf { text.into_owned() } else { crate::text::lower(&text) })
}

impl SortKey {
    fn order(&self, other: &SortKey, descending: bool) -> Ordering {
        let order = match (self, other) {
            (SortKey::Absent, SortKey::Absent) => return Ordering::Equal,
            (SortKey::Absent, _) => return Ordering::Greater,
            (_, SortKey::Absent) => return Ordering::Less,
            (SortKey::Number(a), SortKey::Number(b)) => a.total_cmp(b),
            (SortKey::Text(a), SortKey::Text(b)) => a.cmp(b),
            (SortKey::Number(_), SortKey::Text(_)) => Ordering::Less,
            (SortKey::Text(_), SortKey::Number(_)) => Ordering::Greater,
        };
        if descending { order.reverse() } else { order }
    }
}

fn write_sort_key(reply: &mut dyn Reply, key: Option<&SortKey>) {
    match key {
        Some(SortKey::Number(number)) => reply.bulk(format!("#{}", format_number(*number)).as_bytes()),
        Some(SortKey::Text(text)) => reply.bulk(&[b"$", text.as_slice()].concat()),
        Some(SortKey::Absent) | None => reply.null(),
    }
}

fn format_distance(distance: f64) -> String {
    format_number(distance)
}

/// C's `%.12g`: twelve significant digits, trailing zeros cut, an exponent for the very large and small.
pub fn format_number(number: f64) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    if !number.is_finite() {
        let infinity = if number > 0.0 { "inf" } else { "-inf" };
        return if number.is_nan() { "nan".into() } else { infinity.into() };
    }
    let scientific = format!("{number:.11e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("written with an exponent");
    let exponent: i32 = exponent.parse().expect("written as a number");
    let cut = |digits: &str| match digits.contains('.') {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if !(-4..12).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", cut(mantissa), exponent.abs());
    }
    cut(&format!("{number:.*}", (11 - exponent) as usize))
}

#[cfg(test)]
mod tests {
    use super::format_number;

    #[test]
    fn numbers_print_as_c_prints_them() {
        for (number, text) in [
            (1.6875, "1.6875"),
            (f64::from(0.1f32), "0.10000000149"),
            (0.0, "0"),
            (-0.0, "-0"),
            (123456789012.0, "123456789012"),
            (1234567890123.0, "1.23456789012e+12"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-2.5e-7, "-2.5e-07"),
            (1e300, "1e+300"),
            (0.9999999999999, "1"),
            (99999999999.99, "100000000000"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(format_number(number), text);
        }
    }
}
