//! Which replies agree. Rows are a set where the query does not define their order; where it does, the values
//! of the sort keys must have the same order, and rows with equal keys may be exchanged. Numbers agree within
//! a tolerance, and JSON texts if their values agree.

use engramdb_resp::Value;
use std::collections::BTreeMap;

/// Distances are sums of float32, and the recordings are of several versions with different rounding.
const TOLERANCE: f64 = 0.01;

/// The name of a row's key among its fields.
const KEY: &[u8] = b"__key of the row";

type Row = BTreeMap<Vec<u8>, Value>;

/// What a query determines about its rows.
pub struct Shape {
    is_search: bool,
    /// Elements of a row in the reply of FT.SEARCH.
    columns: usize,
    sort_keys: Vec<Vec<u8>>,
}

impl Shape {
    pub fn of(words: &[Vec<u8>]) -> Shape {
        let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let place = |name| words.iter().skip(3).position(|word| is(word, name)).map(|place| place + 3);
        let is_search = is(&words[0], "FT.SEARCH");
        let has = |name| usize::from(place(name).is_some());
        let sort_keys = place("SORTBY").map(|place| match is_search {
            true => vec![words[place + 1].clone()],
            false => {
                let count = std::str::from_utf8(&words[place + 1]).ok().and_then(|count| count.parse().ok());
                let named = words.iter().skip(place + 2).take(count.unwrap_or(0));
                let named = named.filter_map(|word| word.strip_prefix(b"@"));
                named.map(<[u8]>::to_vec).collect()
            }
        });
        Shape {
            is_search,
            columns: 2 + has("WITHSCORES") + has("WITHSORTKEYS") - has("NOCONTENT"),
            sort_keys: sort_keys.unwrap_or_default(),
        }
    }

    fn rows(&self, reply: &Value) -> Option<Vec<Row>> {
        let elements = reply.as_array()?.get(1..)?;
        if !self.is_search {
            return elements.iter().map(|row| fields(row.as_array()?)).collect();
        }
        if elements.len() % self.columns != 0 {
            return None;
        }
        let rows = elements.chunks(self.columns).map(|columns| {
            let mut row = Row::from([(KEY.to_vec(), columns[0].clone())]);
            for (place, column) in columns.iter().enumerate().skip(1) {
                match column.as_array() {
                    Some(list) => row.extend(fields(list)?),
                    None => _ = row.insert(format!("column {place}").into_bytes(), column.clone()),
                }
            }
            Some(row)
        });
        rows.collect()
    }

    /// The values that determine a row's place; `None` if the row does not show all of them.
    fn place<'r>(&self, row: &'r Row) -> Option<Vec<&'r Value>> {
        self.sort_keys.iter().map(|name| row.get(name)).collect()
    }
}

fn fields(list: &[Value]) -> Option<Row> {
    let pairs = list.chunks(2);
    pairs.map(|pair| Some((pair.first()?.as_bytes()?.to_vec(), pair.get(1)?.clone()))).collect()
}

/// What differs between two answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Difference {
    /// A reply is not of the form that the command has.
    Form,
    /// The total of a search. That of an aggregation depends on when its rows were counted.
    Total,
    /// The number of rows.
    Rows,
    /// The rows themselves.
    Values,
    /// Only the order of the rows.
    Order,
}

/// The first difference between the recorded answer and ours. `whole` gives our answer without a limit, for
/// queries that leave open which of the rows their page shows.
pub fn difference(
    shape: &Shape,
    theirs: &Value,
    ours: &Value,
    whole: impl FnOnce() -> Value,
) -> Option<Difference> {
    let (Some(their_rows), Some(our_rows)) = (shape.rows(theirs), shape.rows(ours)) else {
        return Some(Difference::Form);
    };
    let total = |reply: &Value| reply.as_array().and_then(|elements| elements[0].as_int());
    if shape.is_search && total(theirs) != total(ours) {
        return Some(Difference::Total);
    }
    if their_rows.len() != our_rows.len() {
        return Some(Difference::Rows);
    }
    let is_same = |(left, right): (&Row, &Row)| rows_agree(left, right);
    if their_rows.iter().zip(&our_rows).all(is_same) {
        return None;
    }
    if !shape.sort_keys.is_empty() && !have_same_order(shape, &their_rows, &our_rows) {
        return Some(if has_all(&our_rows, &their_rows) { Difference::Order } else { Difference::Values });
    }
    if has_all(&our_rows, &their_rows) {
        return None;
    }
    let whole = shape.rows(&whole());
    (!whole.is_some_and(|rows| has_all(&rows, &their_rows) && has_all(&rows, &our_rows)))
        .then_some(Difference::Values)
}

fn have_same_order(shape: &Shape, theirs: &[Row], ours: &[Row]) -> bool {
    theirs.iter().zip(ours).all(|(theirs, ours)| match (shape.place(theirs), shape.place(ours)) {
        (Some(theirs), Some(ours)) => {
            theirs.iter().zip(ours).all(|(theirs, ours)| values_agree(theirs, ours))
        }
        (None, None) => rows_agree(theirs, ours),
        _ => false,
    })
}

/// True if `rows` contains all of `wanted`, each as often.
fn has_all(rows: &[Row], wanted: &[Row]) -> bool {
    let mut is_taken = vec![false; rows.len()];
    wanted.iter().all(|wanted| {
        let free =
            rows.iter().zip(&is_taken).position(|(row, is_taken)| !is_taken && rows_agree(row, wanted));
        free.inspect(|place| is_taken[*place] = true).is_some()
    })
}

fn rows_agree(left: &Row, right: &Row) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .all(|((name, left), (other, right))| name == other && values_agree(left, right))
}

/// A list in a row is of a reducer, which does not define its order.
fn values_agree(left: &Value, right: &Value) -> bool {
    if let (Some(left), Some(right)) = (left.as_array(), right.as_array()) {
        let mut rest: Vec<&Value> = right.iter().collect();
        return left.len() == right.len()
            && left.iter().all(|value| {
                let place = rest.iter().position(|other| values_agree(value, other));
                place.map(|place| rest.swap_remove(place)).is_some()
            });
    }
    if left.is_null() || right.is_null() {
        return left == right;
    }
    if left.as_bytes().is_some() && left.as_bytes() == right.as_bytes() {
        return true;
    }
    match (left.as_double(), right.as_double()) {
        (Some(left), Some(right)) => numbers_agree(left, right),
        _ => match [left, right].map(json) {
            [Some(left), Some(right)] => json_agrees(&left, &right),
            _ => false,
        },
    }
}

fn numbers_agree(left: f64, right: f64) -> bool {
    left == right || (left.is_nan() && right.is_nan()) || (left - right).abs() <= TOLERANCE
}

fn json(value: &Value) -> Option<serde_json::Value> {
    let text = value.as_str()?;
    if !text.starts_with(['[', '{']) { None } else { serde_json::from_str(text).ok() }
}

fn json_agrees(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (left, right) {
        (Array(left), Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| json_agrees(left, right))
        }
        (Object(left), Object(right)) => {
            let is_same = |(name, left)| right.get(name).is_some_and(|right| json_agrees(left, right));
            left.len() == right.len() && left.iter().all(is_same)
        }
        (Number(left), Number(right)) => {
            left.as_f64().zip(right.as_f64()).is_some_and(|(left, right)| numbers_agree(left, right))
        }
        _ => left == right,
    }
}
