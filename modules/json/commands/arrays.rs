//! Commands on arrays.

use super::foreseen::change;
use super::matches::{Match, innermost_first, matches};
use super::parsed;
use super::reply::{ReplyFormat, reply_lengths, reply_node, reply_of_each};
use super::{at_most, default_path, existing, utf8};
use crate::document::JsonDocument;
use crate::effect;
use crate::error;
use crate::limits::POPPED_BYTES_MAX;
use crate::location::{self, LocationStep};
use crate::packed::DEPTH_MAX;
use crate::path::{ClientPath, WalkBudget, equal, select};
use crate::text::{self, Layout};
use crate::value::JsonNode;
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;

/// The number of elements; `None` if it is no array.
fn array_length(node: JsonNode<'_>) -> Option<usize> {
    node.items().filter(|_| node.is_array()).map(|items| items.len())
}

/// What a command does to one array, by its length: what it adds to the payload behind the location, and the
/// array's new length.
type OfArray<'o> = dyn FnMut(usize, &mut Vec<u8>) -> Result<usize, CommandError> + 'o;

/// Changes all arrays at a path, and replies their lengths. `shown` is the path in an error. False if the
/// command must return, and will run again.
fn change_arrays(
    tx: &mut Tx<'_>,
    key: &[u8],
    (path, shown): (&ClientPath<'_>, &str),
    (kind, payload, depth): (u8, &mut Vec<u8>, usize),
    of_array: &mut OfArray<'_>,
    reply: &mut dyn Reply,
) -> Result<bool, CommandError> {
    let mut is_changed = false;
    let lengths = tx.read(|view| {
        let document = existing(view, key)?;
        let query = path.query()?;
        let mut lengths = Vec::new();
        let mut places = Vec::new();
        for found in matches(&query, document)? {
            let Some(length) = array_length(found.node) else {
                lengths.push(None);
                continue;
            };
            if found.steps.len() + 1 + depth > DEPTH_MAX {
                return Err(error::TOO_DEEP);
            }
            let mut place = Vec::new();
            location::put(&mut place, &found.steps);
            lengths.push(Some(of_array(length, &mut place)?));
            places.push((found.steps.len(), place));
        }
        document.check_growth(places.len(), payload.len())?;
        places.sort_by_key(|(steps, _)| std::cmp::Reverse(*steps));
        places.iter().for_each(|(_, place)| payload.extend_from_slice(place));
        is_changed = !places.is_empty();
        Ok::<_, CommandError>(lengths)
    })?;
    if path.is_legacy() && !is_changed {
        return Err(error::no_path_or(shown, "not an array"));
    }
    if is_changed && !change(tx, key, kind, payload, lengths.len()) {
        return Ok(false);
    }
    reply_lengths(lengths, path.is_legacy(), reply);
    Ok(true)
}

/// The values that a command inserts: the beginning of the payload of Insert, their number in front, and how
/// many containers are within each other in each.
struct InsertedValues {
    payload: Vec<u8>,
    /// Where the values begin.
    body: usize,
    depths: Vec<usize>,
    /// Whether they were parsed without the lock.
    are_large: bool,
}

/// Values of the request from this word on. `None` if the command must return, and will run again.
fn values(tx: &mut Tx<'_>, args: Args<'_>, from: usize) -> Result<Option<InsertedValues>, CommandError> {
    let words = args.from(from);
    let mut payload = Vec::new();
    location::put_number(&mut payload, words.len() as u64);
    let (body, are_large) = (payload.len(), parsed::are_large(words));
    let mut depths = Vec::with_capacity(words.len());
    if are_large {
        let Some(texts) = parsed::parse_apart(tx, words) else { return Ok(None) };
        for text in texts {
            let text = text?;
            payload.extend_from_slice(&text.payload);
            depths.push(text.depth);
        }
    } else {
        for word in words {
            depths.push(text::parse(utf8(word)?, &mut payload)?);
        }
    }
    Ok(Some(InsertedValues { payload, body, depths, are_large }))
}

/// Inserts values into all arrays at a path.
fn insert_values(
    tx: &mut Tx<'_>,
    key: &[u8],
    (path, shown): (&ClientPath<'_>, &str),
    values: InsertedValues,
    of_array: &mut OfArray<'_>,
    reply: &mut dyn Reply,
) -> Outcome {
    let InsertedValues { mut payload, body, depths, are_large } = values;
    let length = payload.len();
    let depth = depths.iter().copied().max().unwrap_or_default();
    let what = (effect::INSERT, &mut payload, depth);
    let is_done = change_arrays(tx, key, (path, shown), what, of_array, reply);
    if are_large {
        if matches!(is_done, Ok(false)) {
            parsed::keep_texts(tx, &payload[body..length], &depths);
        }
        tx.discard(Box::new(payload));
    }
    is_done.map(|_| ())
}

pub fn append(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = ClientPath::new(args.word(2))?;
    let Some(values) = values(tx, args, 3)? else { return Ok(()) };
    let count = values.depths.len();
    let mut at_end = |length: usize, place: &mut Vec<u8>| {
        location::put_number(place, length as u64);
        Ok(length + count)
    };
    insert_values(tx, args.word(1), (&path, path.original()), values, &mut at_end, reply)
}

pub fn insert(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = ClientPath::new(args.word(2))?;
    let index = integer(args.word(3))?;
    let Some(values) = values(tx, args, 4)? else { return Ok(()) };
    let count = values.depths.len();
    let mut at_index = |length: usize, place: &mut Vec<u8>| {
        let index = if index < 0 { index.saturating_add(length as i64) } else { index };
        let index =
            usize::try_from(index).ok().filter(|index| *index <= length).ok_or(error::OUT_OF_BOUNDS)?;
        location::put_number(place, index as u64);
        Ok(length + count)
    };
    insert_values(tx, args.word(1), (&path, path.text()), values, &mut at_index, reply)
}

fn integer(word: &[u8]) -> Result<i64, CommandError> {
    engramdb_engine::command::integer(word).map_err(|_| error::NO_INTEGER)
}

pub fn trim(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = ClientPath::new(args.word(2))?;
    let (start, stop) = (integer(args.word(3))?, integer(args.word(4))?);
    let mut trimmed = |length: usize, place: &mut Vec<u8>| {
        let (start, stop) = kept(start, stop, length);
        location::put_number(place, start as u64);
        location::put_number(place, stop as u64);
        Ok(stop - start)
    };
    let what = (effect::TRIM, &mut Vec::new(), 0);
    change_arrays(tx, args.word(1), (&path, path.text()), what, &mut trimmed, reply).map(|_| ())
}

/// The elements from `start` to `stop`, both included and counted from the end if they are negative.
fn kept(start: i64, stop: i64, length: usize) -> (usize, usize) {
    let signed = length as i64;
    let absolute = |index: i64| if index < 0 { index.saturating_add(signed).max(0) } else { index };
    let (start, stop) = (absolute(start), absolute(stop).min(signed - 1));
    if start > stop { (0, 0) } else { (start as usize, stop as usize + 1) }
}

pub fn length(found: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = default_path(args, 2)?;
    if !path.is_legacy() {
        return reply_of_each(found, &path, array_length, reply);
    }
    let Some(document) = found else {
        reply.null();
        return Ok(());
    };
    let first = document.first(&path)?.ok_or_else(|| error::no_path(path.original()))?;
    let length = array_length(first).ok_or_else(|| error::no_path_or(path.original(), "not an array"))?;
    reply.integer(length as i64);
    Ok(())
}

/// `JSON.ARRPOP key [FORMAT format] [path [index]]`
pub fn pop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let mut words = args.options(2);
    let mut format = ReplyFormat::Text;
    if words.left() > 1 && words.take("FORMAT") {
        format = match words.word()? {
            b"STRINGS" => ReplyFormat::Text,
            b"EXPAND1" => ReplyFormat::Expand1,
            b"EXPAND" => ReplyFormat::Expand,
            _ => return Err(error::WRONG_REPLY_FORMAT),
        };
        if !reply.is_resp3() {
            return Err(error::FORMAT_ON_RESP2);
        }
    }
    let path = if words.is_done() { ClientPath::legacy_root() } else { ClientPath::new(words.word()?)? };
    let index = if words.is_done() { -1 } else { integer(words.word()?)? };
    at_most(args, words.index())?;
    if path.is_legacy() && format != ReplyFormat::Text {
        return Err(error::FORMAT_OF_LEGACY);
    }
    let (payload, popped) = tx.read(|view| popped(view, args.word(1), &path, index))?;
    if path.is_legacy() && popped.iter().all(Option::is_none) {
        return Err(error::no_path_or(path.text(), "not an array"));
    }
    if !payload.is_empty() && !change(tx, args.word(1), effect::REMOVE, &payload, popped.len()) {
        return Ok(());
    }
    let shown = if path.is_legacy() {
        vec![popped.into_iter().flatten().last().flatten()]
    } else {
        reply.array(popped.len());
        popped.into_iter().map(Option::flatten).collect()
    };
    for element in shown {
        match element {
            Some(element) => reply_element(JsonNode::Packed(&element), format, reply)?,
            None => reply.null(),
        }
    }
    Ok(())
}

/// What is replied was taken out of a document, and was bounded there.
fn reply_element(node: JsonNode<'_>, format: ReplyFormat, reply: &mut dyn Reply) -> Outcome {
    if format != ReplyFormat::Text {
        return reply_node(node, format, (Layout::default(), &mut usize::MAX.clone()), reply);
    }
    let mut text = Vec::new();
    text::write(node, Layout::default(), 0, &mut text);
    reply.bulk(&text);
    Ok(())
}

/// For each value, whether it is an array, and the element that is taken out of it.
type Popped = Vec<Option<Option<Vec<u8>>>>;

fn popped(
    view: &View<'_>,
    key: &[u8],
    path: &ClientPath<'_>,
    index: i64,
) -> Result<(Vec<u8>, Popped), CommandError> {
    let document = existing(view, key)?;
    let query = path.query()?;
    let mut found = matches(&query, document)?;
    let element = |found: &Match<'_>| {
        let last = array_length(found.node)?.checked_sub(1)?;
        let from_end = usize::try_from(index.unsigned_abs()).unwrap_or(usize::MAX);
        Some(if index < 0 { (last + 1).saturating_sub(from_end) } else { last.min(from_end) })
    };
    let mut left = POPPED_BYTES_MAX;
    let mut take = |found: &Match<'_>| {
        if !found.node.is_array() {
            return Ok(None);
        }
        let Some(element) = element(found).and_then(|index| found.node.element(index)) else {
            return Ok(Some(None));
        };
        left = left.checked_sub(element.content_bytes()).ok_or(error::TOO_MUCH_POPPED)?;
        let mut packed = Vec::new();
        element.pack(&mut packed);
        Ok(Some(Some(packed)))
    };
    let popped = found.iter().map(&mut take).collect::<Result<Popped, CommandError>>()?;
    innermost_first(&mut found);
    let mut payload = Vec::new();
    for mut found in found {
        if let Some(index) = element(&found) {
            found.steps.push(LocationStep::Index(index));
            location::put(&mut payload, &found.steps);
        }
    }
    Ok((payload, popped))
}

/// `JSON.ARRINDEX key path value [start [stop]]`
pub fn index_of(found: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    at_most(args, 6)?;
    let path = ClientPath::new(args.word(2))?;
    let optional = |index: usize| args.get(index).map_or(Ok(0), |word| integer(word));
    let (start, stop) = (optional(4)?, optional(5)?);
    let mut wanted = Vec::new();
    text::parse(utf8(args.word(3))?, &mut wanted).map_err(error::with_code)?;
    let wanted = JsonNode::Packed(&wanted);
    let document = found.ok_or_else(|| error::no_path(path.original()))?;
    if path.is_legacy() {
        let first = document.first(&path)?.ok_or_else(|| error::no_path(path.text()))?;
        let found = find(first, wanted, (start, stop), &mut document.budget())?;
        reply.integer(found.ok_or_else(|| error::expected("array", first.type_name()))?);
        return Ok(());
    }
    let query = path.query()?;
    let mut nodes = Vec::new();
    let mut budget = document.budget();
    select(&query, document.value(), &mut budget, &mut |node| nodes.push(node))?;
    let found: Vec<Option<i64>> = nodes
        .into_iter()
        .map(|node| find(node, wanted, (start, stop), &mut budget))
        .collect::<Result<_, _>>()?;
    reply.array(found.len());
    for index in found {
        match index {
            Some(index) => reply.integer(index),
            None => reply.null(),
        }
    }
    Ok(())
}

/// The index of the first equal element from `start` to before `stop`, -1 without one; `None` if it is no
/// array. A stop of 0 is the end.
fn find(
    array: JsonNode<'_>,
    wanted: JsonNode<'_>,
    (start, stop): (i64, i64),
    budget: &mut WalkBudget,
) -> Result<Option<i64>, CommandError> {
    let Some(length) = array_length(array) else { return Ok(None) };
    let length = length as i64;
    let start = if start < 0 { start.saturating_add(length).max(0) } else { start.min(length - 1) };
    let stop = match stop {
        0 => length,
        stop if stop < 0 => stop.saturating_add(length).max(0),
        stop => stop.min(length),
    };
    budget.spend(array.lookup_cost())?;
    let start = usize::try_from(start).unwrap_or_default();
    let elements = array.elements_from(start).into_iter().flatten();
    for (index, (_, element)) in (start as i64..stop).zip(elements) {
        if equal(element, wanted, false, budget)? {
            return Ok(Some(index));
        }
    }
    Ok(Some(-1))
}
