//! JSON.DEBUG.

use super::{default_path, nodes, of_document, utf8};
use crate::document::JsonDocument;
use crate::error;
use engramdb_engine::command::{Args, CommandError, Outcome, Reply, Stage};
use engramdb_engine::keyspace::TypedValue;
use engramdb_engine::store::view::View;

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
