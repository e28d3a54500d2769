//! Commands on numbers, texts and booleans.

use super::foreseen::change;
use super::matches::{Match, matches};
use super::parsed::{keep_parsed, parse_apart};
use super::payload::with_payload;
use super::reply::{reply_integers, reply_lengths, reply_number, reply_of_each};
use super::{at_most, default_path, existing, utf8};
use crate::document::JsonDocument;
use crate::effect;
use crate::error;
use crate::limits::{NUMBER_BYTES_MAX, PARSED_AT_ONCE_BYTES};
use crate::location;
use crate::packed::{self, JsonNumber};
use crate::path::ClientPath;
use crate::text;
use crate::value::{JsonNode, NodeContent};
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::store::tx::Tx;

/// The longest text that JSON.STRAPPEND makes: that of a string.
const TEXT_BYTES_MAX: usize = 512 << 20;

#[derive(Clone, Copy)]
enum Operation {
    Add,
    Multiply,
    Power,
}

pub fn increment(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    change_numbers(tx, args, reply, Operation::Add)
}

pub fn multiply(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    change_numbers(tx, args, reply, Operation::Multiply)
}

pub fn power(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    change_numbers(tx, args, reply, Operation::Power)
}

/// The effect has the results: a replay calculates nothing.
fn change_numbers(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply, operation: Operation) -> Outcome {
    let path = ClientPath::new(args.word(2))?;
    let operand = utf8(args.word(3))?;
    let results = with_payload(|payload| {
        let results = tx.read(|view| {
            let document = existing(view, args.word(1))?;
            let query = path.query()?;
            let (mut results, mut parsed) = (Vec::new(), None);
            for found in matches(&query, document)? {
                let result = match found.node.number() {
                    Some(number) => {
                        // It is malformed only where it is needed, and parsed once.
                        let operand = parsed.map_or_else(|| parse_number(operand), Ok)?;
                        parsed = Some(operand);
                        Some(calculate(number, operand, operation)?)
                    }
                    None => None,
                };
                if let Some(result) = result {
                    location::put(payload, &found.steps);
                    result.put(payload);
                }
                results.push(result);
            }
            document.check_growth(1, payload.len())?;
            Ok::<_, CommandError>(results)
        })?;
        if path.is_legacy() && !reply.is_resp3() && results.iter().flatten().next().is_none() {
            return Err(error::no_path_or(path.text(), "does not contains a number"));
        }
        if !payload.is_empty() {
            let is_changed = change(tx, args.word(1), effect::REPLACE, payload, results.len());
            return Ok(is_changed.then_some(results));
        }
        Ok(Some(results))
    })?;
    if let Some(results) = results {
        reply_numbers(&results, path.is_legacy(), reply);
    }
    Ok(())
}

fn reply_numbers(results: &[Option<JsonNumber>], is_legacy: bool, reply: &mut dyn Reply) {
    if reply.is_resp3() {
        reply.array(results.len());
        for result in results {
            match result {
                Some(number) => reply_number(*number, reply),
                None => reply.null(),
            }
        }
        return;
    }
    let mut text = Vec::new();
    if is_legacy {
        results.iter().flatten().last().into_iter().for_each(|number| text::write_number(*number, &mut text));
        return reply.bulk(&text);
    }
    text.push(b'[');
    for (at, result) in results.iter().enumerate() {
        text.extend_from_slice(if at > 0 { b"," } else { b"" });
        match result {
            Some(number) => text::write_number(*number, &mut text),
            None => text.extend_from_slice(b"null"),
        }
    }
    text.push(b']');
    reply.bulk(&text);
}

fn parse_number(text: &str) -> Result<JsonNumber, CommandError> {
    if text.len() > NUMBER_BYTES_MAX {
        return Err(error::NO_NUMBER);
    }
    let mut value = Vec::new();
    text::parse(text, &mut value).map_err(error::with_code)?;
    packed::number(&value).ok_or(error::NO_NUMBER)
}

/// A result of integers is one: it wraps around beyond their range, as in RedisJSON, whose tests ask for it.
fn calculate(left: JsonNumber, right: JsonNumber, operation: Operation) -> Result<JsonNumber, CommandError> {
    if let (JsonNumber::Integer(left), JsonNumber::Integer(right)) = (left, right) {
        let result = match operation {
            Operation::Add => Some(left.wrapping_add(right)),
            Operation::Multiply => Some(left.wrapping_mul(right)),
            Operation::Power => u32::try_from(right).ok().map(|right| left.wrapping_pow(right)),
        };
        if let Some(result) = result {
            return Ok(JsonNumber::Integer(result));
        }
    }
    let (left, right) = (left.as_f64(), right.as_f64());
    let result = match operation {
        Operation::Add => left + right,
        Operation::Multiply => left * right,
        Operation::Power => left.powf(right),
    };
    if result.is_finite() { Ok(JsonNumber::Float(result)) } else { Err(error::NOT_A_NUMBER) }
}

pub fn toggle(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = ClientPath::new(args.word(2))?;
    let mut payload = Vec::new();
    let results = tx.read(|view| {
        let document = existing(view, args.word(1))?;
        let query = path.query()?;
        let toggled = |found: Match<'_>| match found.node.content() {
            NodeContent::Boolean(boolean) => {
                location::put(&mut payload, &found.steps);
                packed::put_boolean(&mut payload, !boolean);
                Some(!boolean)
            }
            _ => None,
        };
        let found = matches(&query, document)?;
        Ok::<Vec<Option<bool>>, CommandError>(found.into_iter().map(toggled).collect())
    })?;
    if path.is_legacy() && payload.is_empty() {
        return Err(error::no_path_or(path.text(), "not a bool"));
    }
    if !payload.is_empty() && !change(tx, args.word(1), effect::REPLACE, &payload, results.len()) {
        return Ok(());
    }
    if path.is_legacy() {
        let last = results.into_iter().flatten().last() == Some(true);
        reply.bulk(if last { b"true" } else { b"false" });
    } else {
        reply_integers(results.iter().map(|result| result.map(usize::from)), reply);
    }
    Ok(())
}

/// `JSON.STRAPPEND key [path] text`
pub fn append(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    at_most(args, 4)?;
    let (path, suffix) = match args.get(3) {
        Some(suffix) => (ClientPath::new(args.word(2))?, utf8(suffix)?),
        None => (ClientPath::legacy_root(), utf8(args.word(2))?),
    };
    let mut apart = None;
    if suffix.len() > PARSED_AT_ONCE_BYTES {
        tx.read(|view| existing(view, args.word(1)).map(|_| ()))?;
        apart = parse_apart(tx, &[suffix.as_bytes()]).and_then(|mut texts| texts.pop());
        if apart.is_none() {
            return Ok(());
        }
    }
    let is_apart = apart.is_some();
    let mut payload = Vec::new();
    let lengths = tx.read(|view| {
        let document = existing(view, args.word(1))?;
        let query = path.query()?;
        let found = matches(&query, document)?;
        if found.iter().all(|found| found.node.text().is_none()) {
            return match path.is_legacy() {
                true => Err(error::no_path_or(path.text(), "not a string")),
                false => Ok(vec![None; found.len()]),
            };
        }
        match apart.take() {
            Some(text) => payload = text.map_err(error::with_code)?.payload,
            None => _ = text::parse(suffix, &mut payload).map_err(error::with_code)?,
        }
        let Some((appended, _)) = packed::text(&payload) else {
            return Err(error::expected("string", suffix));
        };
        let length = appended.len();
        let texts = found.iter().filter_map(|found| found.node.text());
        document.check_growth(texts.clone().count(), length)?;
        if texts.into_iter().any(|text| text.len() + length > TEXT_BYTES_MAX) {
            return Err(CommandError::STRING_TOO_LONG);
        }
        let mut appended = |found: &Match<'_>| {
            let text = found.node.text()?;
            location::put(&mut payload, &found.steps);
            Some(text.len() + length)
        };
        Ok::<Vec<Option<usize>>, CommandError>(found.iter().map(&mut appended).collect())
    })?;
    if lengths.iter().flatten().next().is_some() {
        let places = lengths.len();
        if !change(tx, args.word(1), effect::APPEND, &payload, places) {
            if is_apart {
                keep_parsed(tx, &mut payload, 0, None);
            }
            return Ok(());
        }
    }
    if is_apart {
        tx.discard(Box::new(payload));
    }
    reply_lengths(lengths, path.is_legacy(), reply);
    Ok(())
}

pub fn text_length(found: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let length = |node: JsonNode<'_>| node.text().map(<[u8]>::len);
    let path = default_path(args, 2)?;
    if !path.is_legacy() {
        return reply_of_each(found, &path, length, reply);
    }
    let Some(document) = found else {
        reply.null();
        return Ok(());
    };
    let first = document.first(&path)?.ok_or_else(|| error::no_path(path.text()))?;
    reply.integer(length(first).ok_or_else(|| error::expected("string", first.type_name()))? as i64);
    Ok(())
}
