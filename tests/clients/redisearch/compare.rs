//! Which replies count as equal: rows as sets if the query defines no order, maps in any order, distances
//! within a tolerance, FT.INFO and FT.PROFILE in their guaranteed parts. Clients read simple and bulk strings
//! in the same way: RediSearch sends names as the former.

use engramdb_resp::Value;

/// Tolerance for numbers with different rounding; distances are sums of float32 in both servers.
const TOLERANCE: f64 = 1e-5;

/// The fields of FT.INFO that describe the index and its content. The others are sizes and counters that
/// depend on the implementation.
const INFO_FIELDS: &[&str] = &[
    "index_name",
    "index_options",
    "index_definition",
    "attributes",
    "num_docs",
    "hash_indexing_failures",
    "stopwords_list",
];

/// A reply without the parts that may differ: an undefined order, and details of an implementation.
pub fn canonical(words: &[Vec<u8>], reply: Value) -> Value {
    if reply.is_error() {
        return reply;
    }
    let reply = bulk(reply);
    let name = String::from_utf8_lossy(&words[0]).to_uppercase();
    match name.as_str() {
        "FT.SEARCH" => rows(&Options::of(words), reply),
        "FT.AGGREGATE" => aggregated(words, reply),
        "FT.PROFILE" => profiled(words, reply),
        "FT.INFO" => info(reply),
        "FT._LIST" | "FT.TAGVALS" | "HGETALL" | "KEYS" => any_order(reply),
        "FT.CONFIG" => pairs_sorted(reply),
        "EXEC" => match reply {
            Value::Array(replies) => Value::Array(replies.into_iter().map(pairs_sorted).collect()),
            other => other,
        },
        _ => reply,
    }
}

fn bulk(value: Value) -> Value {
    let all = |values: Vec<Value>| values.into_iter().map(bulk).collect();
    match value {
        Value::SimpleString(text) => Value::Bulk(text),
        Value::Array(values) => Value::Array(all(values)),
        Value::Set(values) => Value::Set(all(values)),
        Value::Map(pairs) => {
            Value::Map(pairs.into_iter().map(|(key, value)| (bulk(key), bulk(value))).collect())
        }
        other => other,
    }
}

/// The options of a search that determine the form of its rows.
struct Options {
    no_content: bool,
    with_scores: bool,
    with_payloads: bool,
    with_sort_keys: bool,
    is_ordered: bool,
}

impl Options {
    fn of(words: &[Vec<u8>]) -> Options {
        let has =
            |keyword: &str| words.iter().skip(3).any(|word| word.eq_ignore_ascii_case(keyword.as_bytes()));
        let returns_nothing =
            words.windows(2).any(|pair| pair[0].eq_ignore_ascii_case(b"RETURN") && pair[1] == b"0");
        Options {
            no_content: has("NOCONTENT") || returns_nothing,
            with_scores: has("WITHSCORES"),
            with_payloads: has("WITHPAYLOADS"),
            with_sort_keys: has("WITHSORTKEYS"),
            is_ordered: has("SORTBY"),
        }
    }

    /// The number of elements per row in RESP2.
    fn width(&self) -> usize {
        let more = [self.with_scores, self.with_payloads, self.with_sort_keys, !self.no_content];
        1 + more.into_iter().filter(|has| *has).count()
    }
}

fn rows(options: &Options, reply: Value) -> Value {
    match reply {
        Value::Array(mut elements) if !elements.is_empty() => {
            let rows = elements.split_off(1);
            let rows = rows
                .chunks(options.width())
                .map(|row| Value::Array(row.iter().cloned().map(pairs_sorted).collect()));
            Value::Array(vec![elements.remove(0), page(options, rows.collect())])
        }
        Value::Map(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| match (key.as_bytes(), value) {
                (Some(b"results"), Value::Array(rows)) => {
                    (key, page(options, rows.into_iter().map(pairs_sorted).collect()))
                }
                (_, value) => (key, value),
            });
            pairs_sorted(Value::Map(pairs.collect()))
        }
        other => other,
    }
}

/// Rows without SORTBY after the last GROUPBY are in any order, and a cursor is a number of the server's
/// choice.
fn aggregated(words: &[Vec<u8>], reply: Value) -> Value {
    let has = |keyword: &[u8]| words.iter().skip(3).any(|word| word.eq_ignore_ascii_case(keyword));
    let last = |keyword: &[u8]| words.iter().rposition(|word| word.eq_ignore_ascii_case(keyword));
    let is_ordered =
        last(b"SORTBY").is_some_and(|sorted| last(b"GROUPBY").is_none_or(|grouped| grouped < sorted));
    match reply {
        Value::Array(elements) if has(b"WITHCURSOR") && elements.len() == 2 => {
            let mut elements = elements.into_iter();
            let rows = elements.next().map(|rows| aggregated_rows(is_ordered, rows));
            let cursor = elements.next().map(|cursor| Value::Boolean(cursor != Value::Integer(0)));
            Value::Array(rows.into_iter().chain(cursor).collect())
        }
        reply => aggregated_rows(is_ordered, reply),
    }
}

fn aggregated_rows(is_ordered: bool, reply: Value) -> Value {
    let in_order = |mut rows: Vec<Value>| {
        if !is_ordered {
            rows.sort_by_key(|row| format!("{row:?}"));
        }
        Value::Array(rows)
    };
    match reply {
        Value::Array(mut elements) if !elements.is_empty() => {
            let rows = elements.split_off(1).into_iter().map(pairs_sorted).collect();
            Value::Array(vec![elements.remove(0), in_order(rows)])
        }
        Value::Map(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| match (key.as_bytes(), value) {
                (Some(b"results"), Value::Array(rows)) => {
                    (key, in_order(rows.into_iter().map(pairs_sorted).collect()))
                }
                (_, value) => (key, value),
            });
            pairs_sorted(Value::Map(pairs.collect()))
        }
        other => other,
    }
}

fn page(options: &Options, mut rows: Vec<Value>) -> Value {
    if !options.is_ordered {
        rows.sort_by_key(|row| format!("{row:?}"));
    }
    Value::Array(rows)
}

/// The rows of a search. The profile depends on the server. In RESP3, 2.10.5 puts the profile among the
/// results; since Redis 8 it is beside them.
fn profiled(words: &[Vec<u8>], reply: Value) -> Value {
    let is = |name: &Value, wanted: &str| name.as_bytes() == Some(wanted.as_bytes());
    let results = match reply {
        Value::Array(parts) if parts.len() == 2 => parts[0].clone(),
        Value::Map(parts) => match parts.iter().position(|(name, _)| is(name, "Results")) {
            Some(place) => parts[place].1.clone(),
            None => Value::Map(parts.into_iter().filter(|(name, _)| !is(name, "profile")).collect()),
        },
        other => other,
    };
    rows(&Options::of(words), results)
}

fn info(reply: Value) -> Value {
    let fields = INFO_FIELDS.iter().map(|name| {
        let value = without_newer(reply.get(name).cloned().unwrap_or(Value::Null));
        let value = if *name == "stopwords_list" { any_order(value) } else { value };
        (Value::Bulk(name.as_bytes().to_vec()), value)
    });
    Value::Map(fields.collect())
}

/// `indexes_all` exists since Redis 8.
fn without_newer(definition: Value) -> Value {
    let is_newer = |name: &Value| name.as_bytes() == Some(b"indexes_all");
    match definition {
        Value::Map(pairs) => Value::Map(pairs.into_iter().filter(|(name, _)| !is_newer(name)).collect()),
        Value::Array(words) if words.len() % 2 == 0 => {
            Value::Array(words.chunks(2).filter(|pair| !is_newer(&pair[0])).flatten().cloned().collect())
        }
        other => other,
    }
}

fn any_order(reply: Value) -> Value {
    match reply {
        Value::Array(mut elements) => {
            elements.sort_by_key(|element| format!("{element:?}"));
            Value::Array(elements)
        }
        Value::Set(mut elements) => {
            elements.sort_by_key(|element| format!("{element:?}"));
            Value::Set(elements)
        }
        other => pairs_sorted(other),
    }
}

/// Maps by key, at every depth; also a flat list of names and values, which represents a map in RESP2.
fn pairs_sorted(value: Value) -> Value {
    match value {
        Value::Map(pairs) => {
            let mut pairs: Vec<_> =
                pairs.into_iter().map(|(key, value)| (key, pairs_sorted(value))).collect();
            pairs.sort_by_key(|(key, _)| format!("{key:?}"));
            Value::Map(pairs)
        }
        Value::Array(elements)
            if elements.len() % 2 == 0 && elements.iter().all(|element| element.as_bytes().is_some()) =>
        {
            let mut pairs: Vec<&[Value]> = elements.chunks(2).collect();
            pairs.sort_by_key(|pair| format!("{:?}", pair[0]));
            Value::Array(pairs.concat())
        }
        other => other,
    }
}

/// Equal, except for the last digits of fractions.
pub fn agree(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) | (Value::Set(left), Value::Set(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| agree(left, right))
        }
        (Value::Map(left), Value::Map(right)) => {
            let same = |((key, value), (other_key, other_value)): (&(Value, Value), &(Value, Value))| {
                agree(key, other_key) && agree(value, other_value)
            };
            left.len() == right.len() && left.iter().zip(right).all(same)
        }
        (Value::Double(left), Value::Double(right)) => are_near(*left, *right),
        (Value::Bulk(_), Value::Bulk(_)) if left != right => match (fraction(left), fraction(right)) {
            (Some((left, left_is)), Some((right, right_is))) => {
                (left_is || right_is) && are_near(left, right)
            }
            _ => false,
        },
        _ => left == right,
    }
}

/// A number in text form, and whether it is written as a fraction.
fn fraction(value: &Value) -> Option<(f64, bool)> {
    let text = value.as_str()?;
    Some((text.parse().ok()?, text.contains(['.', 'e'])))
}

fn are_near(left: f64, right: f64) -> bool {
    left == right || (left - right).abs() <= TOLERANCE * left.abs().max(right.abs()).max(1.0)
}
