//! Conditions of queries, and the payloads that they refer to, as in the filtered sets of
//! vector-db-benchmark.

use std::fmt::Write;

/// The earth's radius in metres that Redis uses for distances.
const EARTH_RADIUS: f64 = 6_372_797.560_856;

/// The filtered part of a data set.
#[derive(Clone, Debug, Default)]
pub struct FilteredQueries {
    /// The fields that conditions refer to, by name.
    pub fields: Vec<(String, PayloadKind)>,
    /// The values of each row in these fields: the index of a field, and one of its values.
    pub payloads: Vec<Vec<(usize, PayloadValue)>>,
    /// By query.
    pub conditions: Vec<Condition>,
    /// Row numbers of each query's answer in the data set, nearest first; of any length. Empty if they do not
    /// apply.
    pub given: Vec<Vec<u32>>,
}

/// The type of a field in an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    Tag,
    Numeric,
    Geo,
}

#[derive(Clone, Debug, PartialEq)]
pub enum PayloadValue {
    Text(String),
    Number(f64),
    Place { longitude: f64, latitude: f64 },
}

/// The condition of a query: all clauses of `all`, and at least one of `any` unless that is empty.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    pub all: Vec<Clause>,
    pub any: Vec<Clause>,
}

#[derive(Clone, Debug)]
pub struct Clause {
    /// The index of the field in `FilteredQueries::fields`.
    pub field: usize,
    pub test: Test,
}

#[derive(Clone, Debug)]
pub enum Test {
    /// Equal to one of these.
    OneOf(Vec<PayloadValue>),
    /// Between these bounds, each with whether it is inclusive.
    Range {
        low: (f64, bool),
        high: (f64, bool),
    },
    Within {
        longitude: f64,
        latitude: f64,
        metres: f64,
    },
}

impl FilteredQueries {
    /// The rows that the condition of a query allows, ascending; `None` if it allows all.
    pub fn allowed(&self, query: usize) -> Option<Vec<u32>> {
        let condition = &self.conditions[query];
        if condition.is_empty() {
            return None;
        }
        let passes = |row: &u32| condition.allows(&self.payloads[*row as usize]);
        Some((0..self.payloads.len() as u32).filter(passes).collect())
    }

    /// The condition of a query in FT.SEARCH's language; `None` if it has none.
    pub fn expression(&self, query: usize) -> Option<String> {
        let condition = &self.conditions[query];
        let word = |clause: &Clause| clause.expression(&self.fields[clause.field].0);
        let mut parts: Vec<String> = condition.all.iter().map(word).collect();
        if !condition.any.is_empty() {
            parts.push(format!("({})", condition.any.iter().map(word).collect::<Vec<_>>().join(" | ")));
        }
        (!parts.is_empty()).then(|| format!("({})", parts.join(" ")))
    }

    /// The fields of the hash of a row. Several values of a tag are separated by `TAG_SEPARATOR`.
    pub fn hash_fields(&self, row: usize) -> Vec<(&str, String)> {
        let mut fields: Vec<(&str, String)> = Vec::new();
        for (field, value) in &self.payloads[row] {
            let name = self.fields[*field].0.as_str();
            match fields.iter_mut().find(|(other, _)| *other == name) {
                Some((_, text)) => _ = write!(text, "{TAG_SEPARATOR}{}", value.text()),
                None => fields.push((name, value.text())),
            }
        }
        fields
    }

    /// Keeps the first `rows` rows, and drops the given answers, which are those of more rows.
    pub fn truncate_rows(&mut self, rows: usize) {
        self.payloads.truncate(rows);
        self.given.clear();
    }

    pub fn truncate_queries(&mut self, queries: usize) {
        self.conditions.truncate(queries);
        self.given.truncate(queries);
    }
}

/// Separates the values of a TAG field; values contain no control characters.
pub const TAG_SEPARATOR: char = '\u{1f}';

impl PayloadValue {
    fn text(&self) -> String {
        match self {
            PayloadValue::Text(text) => text.clone(),
            PayloadValue::Number(number) => number.to_string(),
            PayloadValue::Place { longitude, latitude } => format!("{longitude},{latitude}"),
        }
    }
}

impl Condition {
    pub fn is_empty(&self) -> bool {
        self.all.is_empty() && self.any.is_empty()
    }

    fn allows(&self, payload: &[(usize, PayloadValue)]) -> bool {
        let holds = |clause: &Clause| {
            payload.iter().any(|(field, value)| *field == clause.field && clause.test.holds(value))
        };
        self.all.iter().all(holds) && (self.any.is_empty() || self.any.iter().any(holds))
    }
}

impl Test {
    fn holds(&self, value: &PayloadValue) -> bool {
        match (self, value) {
            (Test::OneOf(values), value) => values.contains(value),
            (Test::Range { low, high }, PayloadValue::Number(number)) => {
                let above = if low.1 { *number >= low.0 } else { *number > low.0 };
                above && if high.1 { *number <= high.0 } else { *number < high.0 }
            }
            (
                &Test::Within { longitude, latitude, metres },
                &PayloadValue::Place { longitude: to_longitude, latitude: to_latitude },
            ) => great_circle([longitude, latitude], [to_longitude, to_latitude]) <= metres,
            _ => false,
        }
    }
}

/// Metres between two locations, given as longitude and latitude in degrees.
fn great_circle(from: [f64; 2], to: [f64; 2]) -> f64 {
    let [[from_longitude, from_latitude], [to_longitude, to_latitude]] =
        [from, to].map(|place| place.map(f64::to_radians));
    let u = ((to_latitude - from_latitude) / 2.0).sin();
    let v = ((to_longitude - from_longitude) / 2.0).sin();
    2.0 * EARTH_RADIUS * (u * u + from_latitude.cos() * to_latitude.cos() * v * v).sqrt().asin()
}

impl Clause {
    fn expression(&self, field: &str) -> String {
        match &self.test {
            Test::OneOf(values) => {
                let texts: Vec<String> = values.iter().map(|value| escaped(&value.text())).collect();
                match values.first() {
                    Some(PayloadValue::Number(_)) => {
                        let each: Vec<String> =
                            values.iter().map(|value| format!("@{field}:[{0} {0}]", value.text())).collect();
                        if each.len() == 1 { each.concat() } else { format!("({})", each.join(" | ")) }
                    }
                    _ => format!("@{field}:{{{}}}", texts.join("|")),
                }
            }
            Test::Range { low, high } => format!("@{field}:[{} {}]", bound(*low), bound(*high)),
            Test::Within { longitude, latitude, metres } => {
                format!("@{field}:[{longitude} {latitude} {metres} m]")
            }
        }
    }
}

fn bound((value, is_allowed): (f64, bool)) -> String {
    match value {
        f64::INFINITY => "+inf".into(),
        f64::NEG_INFINITY => "-inf".into(),
        value if is_allowed => value.to_string(),
        value => format!("({value}"),
    }
}

/// A tag with a backslash before every character that the query language interprets.
fn escaped(tag: &str) -> String {
    tag.chars().fold(String::new(), |mut text, character| {
        if character.is_ascii() && !character.is_ascii_alphanumeric() {
            text.push('\\');
        }
        text.push(character);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clause(field: usize, test: Test) -> Clause {
        Clause { field, test }
    }

    fn filtered(conditions: Vec<Condition>) -> FilteredQueries {
        let text = |text: &str| (0, PayloadValue::Text(text.into()));
        let number = |number| (1, PayloadValue::Number(number));
        let place = |longitude, latitude| (2, PayloadValue::Place { longitude, latitude });
        FilteredQueries {
            fields: [("kind", PayloadKind::Tag), ("size", PayloadKind::Numeric), ("at", PayloadKind::Geo)]
                .map(|(name, kind)| (name.to_owned(), kind))
                .to_vec(),
            payloads: vec![
                vec![text("a b"), text("c"), number(1.0)],
                vec![text("c"), number(2.5), place(13.4, 52.5)],
                vec![place(2.35, 48.85)],
            ],
            conditions,
            given: Vec::new(),
        }
    }

    #[test]
    fn conditions_allow_the_same_rows_as_their_expressions() {
        let tag = |text: &str| clause(0, Test::OneOf(vec![PayloadValue::Text(text.into())]));
        let above = |low| clause(1, Test::Range { low: (low, false), high: (f64::INFINITY, true) });
        let exactly = clause(1, Test::OneOf(vec![PayloadValue::Number(2.5)]));
        // Berlin to Paris is 878 km.
        let near = |metres| clause(2, Test::Within { longitude: 13.4, latitude: 52.5, metres });
        let all = |all: &[Clause]| Condition { all: all.to_vec(), any: Vec::new() };
        let cases = [
            (all(&[tag("a b")]), vec![0], r"(@kind:{a\ b})"),
            (all(&[tag("c"), above(1.0)]), vec![1], "(@kind:{c} @size:[(1 +inf])"),
            (all(&[exactly]), vec![1], "(@size:[2.5 2.5])"),
            (all(&[near(800e3)]), vec![1], "(@at:[13.4 52.5 800000 m])"),
            (all(&[near(900e3)]), vec![1, 2], "(@at:[13.4 52.5 900000 m])"),
            (
                Condition { all: vec![tag("c")], any: vec![tag("a b"), above(2.0)] },
                vec![0, 1],
                r"(@kind:{c} (@kind:{a\ b} | @size:[(2 +inf]))",
            ),
        ];
        let filtered = filtered(cases.iter().map(|(condition, ..)| condition.clone()).collect());
        for (query, (_, rows, expression)) in cases.iter().enumerate() {
            assert_eq!(filtered.allowed(query).as_ref(), Some(rows), "{expression}");
            assert_eq!(filtered.expression(query).as_deref(), Some(*expression));
        }
    }

    #[test]
    fn a_query_without_conditions_is_not_filtered() {
        let filtered = filtered(vec![Condition::default()]);
        assert_eq!((filtered.allowed(0), filtered.expression(0)), (None, None));
    }

    #[test]
    fn a_row_has_its_values_as_fields_of_a_hash() {
        let filtered = filtered(Vec::new());
        assert_eq!(filtered.hash_fields(0), [("kind", "a b\u{1f}c".to_owned()), ("size", "1".to_owned())]);
        assert_eq!(filtered.hash_fields(2), [("at", "2.35,48.85".to_owned())]);
    }
}
