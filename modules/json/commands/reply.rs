//! What several commands reply.

use crate::document::JsonDocument;
use crate::error;
use crate::packed::JsonNumber;
use crate::path::{ClientPath, select};
use crate::text::{self, Layout};
use crate::value::{JsonNode, NodeContent};
use engramdb_engine::command::{CommandError, Outcome, Reply};

/// How JSON.GET replies values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFormat {
    /// One text for all.
    Text,
    /// An array for each path; containers in it are texts.
    Expand1,
    /// An array for each path; containers in it are arrays and maps.
    Expand,
}

/// Replies one value in RESP3's types. Its bytes are subtracted from `left`; a value with more is an error.
pub fn reply_node(
    node: JsonNode<'_>,
    format: ReplyFormat,
    (layout, left): (Layout<'_>, &mut usize),
    reply: &mut dyn Reply,
) -> Outcome {
    const ITEM_BYTES: usize = 4;
    let mut spend = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or(error::TOO_MUCH_TEXT)?;
        Ok::<(), CommandError>(())
    };
    match node.content() {
        NodeContent::Null => reply.null(),
        NodeContent::Boolean(boolean) => reply.boolean(boolean),
        NodeContent::Number(number) => reply_number(number, reply),
        NodeContent::Text(text) if format == ReplyFormat::Expand => {
            spend(text.len())?;
            reply.bulk(text);
        }
        NodeContent::Array(items) if format == ReplyFormat::Expand => {
            spend(ITEM_BYTES * items.len())?;
            reply.array(items.len());
            for (_, item) in items {
                reply_node(item, format, (layout, left), reply)?;
            }
        }
        NodeContent::Object(items) if format == ReplyFormat::Expand => {
            spend(ITEM_BYTES * items.len())?;
            reply.map(items.len());
            for (name, item) in items {
                *left = left.checked_sub(name.len()).ok_or(error::TOO_MUCH_TEXT)?;
                reply.bulk(name);
                reply_node(item, format, (layout, left), reply)?;
            }
        }
        _ => {
            let mut out = Vec::new();
            text::write(node, Layout { most: *left, ..layout }, 0, &mut out);
            *left = left.checked_sub(out.len()).ok_or(error::TOO_MUCH_TEXT)?;
            reply.bulk(&out);
        }
    }
    Ok(())
}

pub fn reply_number(number: JsonNumber, reply: &mut dyn Reply) {
    match number {
        JsonNumber::Integer(number) => reply.integer(number),
        number => reply.double(number.as_f64()),
    }
}

/// An array of numbers, null where there is none.
pub fn reply_integers(results: impl ExactSizeIterator<Item = Option<usize>>, reply: &mut dyn Reply) {
    reply.array(results.len());
    for result in results {
        match result {
            Some(number) => reply.integer(number as i64),
            None => reply.null(),
        }
    }
}

/// The last length of a legacy path, or all.
pub fn reply_lengths(lengths: Vec<Option<usize>>, is_legacy: bool, reply: &mut dyn Reply) {
    if is_legacy {
        return match lengths.into_iter().flatten().last() {
            Some(length) => reply.integer(length as i64),
            None => reply.null(),
        };
    }
    reply_integers(lengths.into_iter(), reply);
}

/// Replies a number of each value at a JSONPath, null where it has none.
pub fn reply_of_each(
    found: Option<&JsonDocument>,
    path: &ClientPath<'_>,
    number: fn(JsonNode<'_>) -> Option<usize>,
    reply: &mut dyn Reply,
) -> Outcome {
    let document = found.ok_or(error::NO_KEY)?;
    let query = path.query()?;
    let mut numbers = Vec::new();
    select(&query, document.value(), &mut document.budget(), &mut |node| numbers.push(number(node)))?;
    reply_integers(numbers.into_iter(), reply);
    Ok(())
}
