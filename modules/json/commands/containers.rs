//! Commands on objects, and on containers of both kinds.

use super::foreseen::change;
use super::matches::matches;
use super::reply::reply_of_each;
use super::{default_path, existing, nodes};
use crate::document::JsonDocument;
use crate::effect;
use crate::error;
use crate::location::{self, removal_order};
use crate::packed;
use crate::value::{JsonNode, NodeContent};
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::store::tx::Tx;

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
        return reply_of_each(found, &path, object_length, reply);
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
    if count > 0 && !change(tx, args.word(1), effect::REPLACE, &payload, count) {
        return Ok(());
    }
    reply.integer(count as i64);
    Ok(())
}
