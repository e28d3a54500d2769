//! Filtered sets in the layout of qdrant's vector-db-benchmark (ann-filtering-benchmark-datasets).
//!
//! ```text
//! vectors.npy      the rows
//! payloads.jsonl   line i: an object, the payload of row i (may be missing)
//! tests.jsonl      {"query": [..], "conditions": {"and": [..], "or": [..]},
//!                   "closest_ids": [..], "closest_scores": [..]}
//! condition        {FIELD: {"match": {"value": V}}} | {FIELD: {"match_any": {"any": [V, ..]}}}
//!                  | {FIELD: {"range": {"lt": N, "gt": N, "lte": N, "gte": N}}}
//!                  | {FIELD: {"geo": {"lat": N, "lon": N, "radius": METRES}}}
//! ```
//! No file names the metric.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::filtered::{Clause, Condition, FilteredQueries, PayloadKind, PayloadValue, Test};
use super::{DataError, Dataset, DatasetMetric, Matrix, npy};

const VECTORS: &str = "vectors.npy";
const PAYLOADS: &str = "payloads.jsonl";
const TESTS: &str = "tests.jsonl";

#[derive(Deserialize)]
struct Line {
    query: Vec<f32>,
    conditions: Option<Conditions>,
    #[serde(default)]
    closest_ids: Vec<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Conditions {
    and: Option<Vec<Map<String, Json>>>,
    or: Option<Vec<Map<String, Json>>>,
}

pub(super) fn is_layout(directory: &Path) -> bool {
    directory.join(TESTS).is_file() && directory.join(VECTORS).is_file()
}

/// Reads a directory in that layout. The metric is a guess, to be verified with the given answers.
pub(super) fn read(directory: &Path) -> Result<Dataset, DataError> {
    let base = npy::read_vectors(&directory.join(VECTORS))?;
    let mut filtered = FilteredQueries::default();
    let mut queries = Vec::new();
    each_line(&directory.join(TESTS), |line: Line| {
        if line.query.len() != base.columns() {
            let (query, rows) = (line.query.len(), base.columns());
            return Err(format!("a query has {query} dimensions, the rows have {rows}"));
        }
        queries.extend(line.query);
        filtered.given.push(line.closest_ids);
        let conditions = line.conditions.unwrap_or_default();
        let condition = Condition {
            all: clauses(&mut filtered.fields, conditions.and)?,
            any: clauses(&mut filtered.fields, conditions.or)?,
        };
        filtered.conditions.push(condition);
        Ok(())
    })?;
    match directory.join(PAYLOADS) {
        path if path.exists() => each_line(&path, |payload: Map<String, Json>| {
            filtered.payloads.push(payload_of(&filtered.fields, &payload)?);
            Ok(())
        })?,
        _ => filtered.payloads = vec![Vec::new(); base.rows()],
    }
    Ok(Dataset {
        name: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        metric: DatasetMetric::Cosine,
        queries: Matrix::new(queries, base.columns()),
        base,
        neighbors: None,
        filtered: Some(filtered),
    })
}

/// Calls `each` with the lines of a file of JSON objects; an error names the line.
fn each_line<T: for<'de> Deserialize<'de>>(
    path: &Path,
    mut visit: impl FnMut(T) -> Result<(), String>,
) -> Result<(), DataError> {
    let file = File::open(path).map_err(DataError::read(path))?;
    for (number, line) in (1..).zip(BufReader::new(file).lines()) {
        let line = line.map_err(DataError::read(path))?;
        if line.trim().is_empty() {
            continue;
        }
        serde_json::from_str(&line)
            .map_err(|error| error.to_string())
            .and_then(&mut visit)
            .map_err(|what| DataError::format(path, "JSON lines", format!("line {number}: {what}")))?;
    }
    Ok(())
}

fn clauses(
    fields: &mut Vec<(String, PayloadKind)>,
    entries: Option<Vec<Map<String, Json>>>,
) -> Result<Vec<Clause>, String> {
    let mut clauses = Vec::new();
    for (name, tests) in entries.into_iter().flatten().flatten() {
        let tests = tests.as_object().ok_or_else(|| format!("the condition on '{name}' is not an object"))?;
        for (word, criteria) in tests {
            let (kind, test) = test(word, criteria)
                .ok_or_else(|| format!("the condition '{word}' on '{name}' is not known: {criteria}"))?;
            let field = match fields.iter().position(|(other, _)| *other == name) {
                Some(place) if fields[place].1 == kind => place,
                Some(_) => return Err(format!("conditions on '{name}' are of different types")),
                None => {
                    fields.push((name.clone(), kind));
                    fields.len() - 1
                }
            };
            clauses.push(Clause { field, test });
        }
    }
    Ok(clauses)
}

fn test(word: &str, criteria: &Json) -> Option<(PayloadKind, Test)> {
    let number = |name: &str| criteria.get(name).and_then(Json::as_f64);
    let one_of = |values: Vec<PayloadValue>| {
        let kind = match values.first()? {
            PayloadValue::Number(_) => PayloadKind::Numeric,
            _ => PayloadKind::Tag,
        };
        Some((kind, Test::OneOf(values)))
    };
    match word {
        "match" => one_of(vec![scalar(criteria.get("value")?)?]),
        "match_any" => one_of(criteria.get("any")?.as_array()?.iter().map(scalar).collect::<Option<_>>()?),
        "range" => {
            let low = number("gte").map(|low| (low, true)).or(number("gt").map(|low| (low, false)));
            let high = number("lte").map(|high| (high, true)).or(number("lt").map(|high| (high, false)));
            let (low, high) =
                (low.unwrap_or((f64::NEG_INFINITY, true)), high.unwrap_or((f64::INFINITY, true)));
            Some((PayloadKind::Numeric, Test::Range { low, high }))
        }
        "geo" => {
            let (longitude, latitude, metres) = (number("lon")?, number("lat")?, number("radius")?);
            Some((PayloadKind::Geo, Test::Within { longitude, latitude, metres }))
        }
        _ => None,
    }
}

fn scalar(json: &Json) -> Option<PayloadValue> {
    match json {
        Json::String(text) => Some(PayloadValue::Text(text.clone())),
        Json::Number(number) => Some(PayloadValue::Number(number.as_f64()?)),
        Json::Bool(value) => Some(PayloadValue::Text(value.to_string())),
        _ => None,
    }
}

/// The values of a payload in the fields that conditions use; a list has several values.
fn payload_of(
    fields: &[(String, PayloadKind)],
    payload: &Map<String, Json>,
) -> Result<Vec<(usize, PayloadValue)>, String> {
    let mut values = Vec::new();
    for (place, (name, kind)) in fields.iter().enumerate() {
        let Some(json) = payload.get(name).filter(|json| !json.is_null()) else { continue };
        let several = json.as_array().map_or(std::slice::from_ref(json), Vec::as_slice);
        for json in several {
            let value = match (kind, json, scalar(json)) {
                (PayloadKind::Tag, _, Some(PayloadValue::Number(number))) => {
                    Some(PayloadValue::Text(number.to_string()))
                }
                (PayloadKind::Tag, _, Some(text)) => Some(text),
                (PayloadKind::Numeric, _, Some(PayloadValue::Number(number))) => {
                    Some(PayloadValue::Number(number))
                }
                (PayloadKind::Geo, Json::Object(at), _) => {
                    let number = |name: &str| at.get(name).and_then(Json::as_f64);
                    number("lon")
                        .zip(number("lat"))
                        .map(|(longitude, latitude)| PayloadValue::Place { longitude, latitude })
                }
                _ => None,
            };
            let value =
                value.ok_or_else(|| format!("'{name}' is {json}, which conditions do not support"))?;
            values.push((place, value));
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engramdb_testkit::TempDir;

    fn directory(name: &str, payloads: &str, tests: &str) -> TempDir {
        let path = TempDir::new(&format!("bench-{name}"));
        let base = Matrix::new(vec![0.0, 1.0, 1.0, 0.0, 0.5, 0.5], 2);
        std::fs::write(path.join(VECTORS), npy::write_vectors(&base)).unwrap();
        std::fs::write(path.join(PAYLOADS), payloads).unwrap();
        std::fs::write(path.join(TESTS), tests).unwrap();
        path
    }

    const PAYLOAD_LINES: &str = r#"{"labels": ["a", "b"], "year": 1999, "at": {"lon": 1.0, "lat": 2.0}, "text": "x"}
{"labels": ["b"], "year": 2001.5}
{"labels": [], "year": null}
"#;

    #[test]
    fn rows_payloads_and_conditions_are_read() {
        let tests = r#"{"query": [0, 0.9], "conditions": {"and": [{"labels": {"match": {"value": "b"}}}]}, "closest_ids": [0, 1], "closest_scores": [1.0, 0.0]}
{"query": [1, 0], "conditions": {"or": [{"year": {"range": {"gt": 2000, "lt": null}}}, {"at": {"geo": {"lon": 1.0, "lat": 2.0, "radius": 10.0}}}]}, "closest_ids": [1, 0], "closest_scores": []}
{"query": [1, 0], "conditions": {}, "closest_ids": [1, 2, 0], "closest_scores": []}
"#;
        let path = directory("compound", PAYLOAD_LINES, tests);
        assert!(is_layout(&path));
        let dataset = read(&path).unwrap();
        assert_eq!((dataset.base.shape(), dataset.queries.shape()), ([3, 2], [3, 2]));
        let filtered = dataset.filtered.unwrap();
        assert_eq!(filtered.allowed(0), Some(vec![0, 1]));
        assert_eq!(filtered.allowed(1), Some(vec![0, 1]), "0 by its location, 1 by its year");
        assert_eq!(filtered.allowed(2), None);
        assert_eq!(filtered.given[1], [1, 0]);
        assert_eq!(filtered.hash_fields(0).len(), 3, "the text is in no condition: {filtered:?}");
    }

    #[test]
    fn unknown_input_is_refused_with_its_line() {
        let refusal = |name: &str, payloads: &str, tests: &str| {
            let path = directory(name, payloads, tests);
            read(&path).unwrap_err().to_string()
        };
        let unknown = r#"{"query": [0, 1], "conditions": {"and": [{"text": {"match_text": {"text": "x"}}}]}, "closest_ids": []}"#;
        let text = refusal("unknown-condition", PAYLOAD_LINES, unknown);
        assert!(
            text.contains("tests.jsonl") && text.contains("line 1: the condition 'match_text'"),
            "{text}"
        );
        let wide = r#"{"query": [0, 1, 2], "conditions": {}, "closest_ids": []}"#;
        assert!(refusal("wide-query", PAYLOAD_LINES, wide).contains("a query has 3 dimensions"));
        let year = r#"{"query": [0, 1], "conditions": {"and": [{"year": {"range": {"gt": 1}}}]}, "closest_ids": []}"#;
        let text = refusal("text-for-number", "{}\n{\"year\": \"old\"}\n{}\n", year);
        assert!(text.contains("line 2: 'year' is \"old\""), "{text}");
    }
}
