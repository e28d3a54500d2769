//! Commands on objects, on containers of both kinds, and on how a document is stored.

use super::foreseen::{PlannedEffect, apply};
use super::matches::matches;
use super::{default_path, existing, nodes, of_document, utf8};
use crate::document::JsonDocument;
use crate::effect;
use crate::error;
use crate::location::{self, removal_order};
use crate::packed::{self, JsonNumber};
use crate::value::{JsonNode, NodeContent};
use engramdb_engine::command::{Args, CommandError, Outcome, Reply, Stage};
use engramdb_engine::keyspace::TypedValue;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;

fn object_length(node: JsonNode<'_>) -> Option<usize> {
    node.items().filter(|_| node.is_object() == Some(true)).map(|items| items.len())
}

fn reply_names(node: JsonNode<'_>, reply: &mut dyn Reply) {
    match object_length(node) {
        Some(length) => {
            reply.array(length);
            node.items().into_iter().flatten().for_each(|(name, _)| reply.bulk(name));
        }
        None => reply.null(),
    }
}

pub fn names(found: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = default_path(args, 2)?;
    if path.is_legacy() {
        // At a malformed path there is nothing.
        match found.and_then(|document| document.first(&path).ok().flatten()) {
            None => reply.null(),
            Some(node) if object_length(node).is_some() => reply_names(node, reply),
            Some(_) => return Err(error::no_path_or(path.text(), "not an object")),
        }
        return Ok(());
    }
    let document = found.ok_or(error::NO_KEY)?;
    let query = path.query()?;
    let nodes = nodes(document, &query, &mut document.budget())?;
    reply.array(nodes.len());
    nodes.into_iter().for_each(|node| reply_names(node, reply));
    Ok(())
}

pub fn length(found: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = default_path(args, 2)?;
    if !path.is_legacy() {
        found.ok_or_else(|| error::no_path_or(path.text(), "not an object"))?;
        return super::reply_of_each(found, &path, object_length, reply);
    }
    match found.and_then(|document| document.first(&path).ok().flatten()) {
        None => reply.null(),
        Some(node) => {
            let length = object_length(node).ok_or_else(|| error::expected("object", node.type_name()))?;
            reply.integer(length as i64);
        }
    }
    Ok(())
}

/// What JSON.CLEAR puts in a value's place; `None` if it leaves it as it is.
fn cleared(node: JsonNode<'_>) -> Option<&'static [u8]> {
    const ZERO: &[u8] = &[0];
    match node.content() {
        NodeContent::Array(items) if items.len() > 0 => Some(packed::EMPTY_ARRAY),
        NodeContent::Object(items) if items.len() > 0 => Some(packed::EMPTY_OBJECT),
        NodeContent::Number(number) if number.as_f64() != 0.0 => Some(ZERO),
        _ => None,
    }
}

/// Empties containers, and sets numbers to 0.
pub fn clear(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = default_path(args, 2)?;
    let mut payload = Vec::new();
    let count = tx.read(|view| {
        let document = existing(view, args.word(1))?;
        let query = path.query()?;
        let mut found = matches(&query, document)?;
        found.retain(|found| cleared(found.node).is_some());
        found.sort_by(|one, other| removal_order(&one.steps, &other.steps));
        // What is within a cleared value goes with it.
        found.dedup_by(|inner, outer| inner.steps.starts_with(&outer.steps));
        for found in &found {
            location::put(&mut payload, &found.steps);
            payload.extend_from_slice(cleared(found.node).expect("others were left out"));
        }
        Ok::<usize, CommandError>(found.len())
    })?;
    if count > 0 {
        let (key, payload) = (args.word(1), &payload[..]);
        let mut planned = PlannedEffect { key, kind: effect::REPLACE, payload, places: count, built: None };
        if !apply(tx, &mut planned) {
            return Ok(());
        }
    }
    reply.integer(count as i64);
    Ok(())
}

pub fn as_resp(found: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = default_path(args, 2)?;
    let Some(document) = found else {
        reply.null();
        return Ok(());
    };
    if path.is_legacy() {
        let first = document.first(&path)?.ok_or_else(|| error::no_path(path.text()))?;
        reply_as_resp(first, reply);
        return Ok(());
    }
    let query = path.query()?;
    let nodes = nodes(document, &query, &mut document.budget())?;
    reply.array(nodes.len());
    nodes.into_iter().for_each(|node| reply_as_resp(node, reply));
    Ok(())
}

/// A container begins with its bracket.
fn reply_as_resp(node: JsonNode<'_>, reply: &mut dyn Reply) {
    match node.content() {
        NodeContent::Null => reply.null(),
        NodeContent::Boolean(true) => reply.simple("true"),
        NodeContent::Boolean(false) => reply.simple("false"),
        NodeContent::Number(JsonNumber::Integer(number)) => reply.integer(number),
        NodeContent::Number(number) => reply.double(number.as_f64()),
        NodeContent::Text(text) => reply.bulk(text),
        NodeContent::Array(items) => {
            reply.array(items.len() + 1);
            reply.simple("[");
            items.for_each(|(_, item)| reply_as_resp(item, reply));
        }
        NodeContent::Object(items) => {
            reply.array(2 * items.len() + 1);
            reply.simple("{");
            for (name, item) in items {
                reply.bulk(name);
                reply_as_resp(item, reply);
            }
        }
    }
}

/// `JSON.DEBUG MEMORY key [path]` and `JSON.DEBUG HELP`
pub fn debug(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let subcommand = utf8(args.word(1))?;
    if subcommand.eq_ignore_ascii_case("HELP") {
        reply.array(2);
        reply.bulk(b"MEMORY <key> [path] - reports memory usage");
        reply.bulk(b"HELP                - this message");
        return Ok(Stage::Done);
    }
    if !subcommand.eq_ignore_ascii_case("MEMORY") {
        return Err(error::UNKNOWN_DEBUG);
    }
    let key = args.get(2).ok_or_else(|| CommandError::wrong_arity("json.debug"))?;
    of_document(view, key, args, reply, memory)
}

fn memory(found: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = default_path(args, 3)?;
    if path.is_legacy() {
        let bytes = match found {
            None => 0,
            Some(document) if path.is_root() => size_of_val(document) + document.heap_bytes(),
            Some(document) => document.first(&path)?.ok_or_else(|| error::no_path(path.text()))?.bytes(),
        };
        reply.integer(bytes as i64);
        return Ok(());
    }
    let query = path.query()?;
    let nodes =
        found.map_or_else(|| Ok(Vec::new()), |document| nodes(document, &query, &mut document.budget()))?;
    reply.array(nodes.len());
    nodes.into_iter().for_each(|node| reply.integer(node.bytes() as i64));
    Ok(())
}
