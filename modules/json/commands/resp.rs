//! JSON.RESP.

use super::{default_path, nodes};
use crate::document::JsonDocument;
use crate::error;
use crate::packed::JsonNumber;
use crate::value::{JsonNode, NodeContent};
use engramdb_engine::command::{Args, Outcome, Reply};

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
