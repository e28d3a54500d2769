//! Commands that reply values at paths.

use super::{default_path, document, nodes, utf8};
use crate::document::JsonDocument;
use crate::error;
use crate::path::{ClientPath, WalkBudget, select};
use crate::text::{self, Layout};
use crate::value::{JsonNode, NodeContent};
use engramdb_engine::command::{Args, CommandError, Outcome, Reply};
use engramdb_engine::keyspace::TypedValue;
use engramdb_engine::store::view::View;
use std::sync::Arc;

/// A longer text is not copied into the reply, but referred to.
const COPIED_BYTES_MAX: usize = 64 << 10;

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

struct Request<'a> {
    paths: Vec<ClientPath<'a>>,
    format: ReplyFormat,
    layout: Layout<'a>,
}

impl<'a> Request<'a> {
    fn parse(args: Args<'a>, is_resp3: bool) -> Result<Request<'a>, CommandError> {
        let mut request = Request { paths: Vec::new(), format: ReplyFormat::Text, layout: Layout::default() };
        let mut options = args.options(2);
        let missing = |_| CommandError::wrong_arity("json.get");
        while !options.is_done() {
            if options.take("FORMAT") {
                if !is_resp3 && request.paths.is_empty() {
                    return Err(error::FORMAT_ON_RESP2);
                }
                request.format = match utf8(options.word().map_err(missing)?)? {
                    "STRING" => ReplyFormat::Text,
                    "EXPAND1" => ReplyFormat::Expand1,
                    "EXPAND" => ReplyFormat::Expand,
                    _ => return Err(error::WRONG_REPLY_FORMAT),
                };
            } else if options.take("INDENT") {
                request.layout.indent = utf8(options.word().map_err(missing)?)?.as_bytes();
            } else if options.take("NEWLINE") {
                request.layout.newline = utf8(options.word().map_err(missing)?)?.as_bytes();
            } else if options.take("SPACE") {
                request.layout.space = utf8(options.word().map_err(missing)?)?.as_bytes();
            } else if !options.take("NOESCAPE") {
                // NOESCAPE asks for what is always done.
                request.paths.push(ClientPath::new(options.word()?)?);
            }
        }
        if request.paths.is_empty() {
            request.paths.push(ClientPath::legacy_root());
        }
        if !is_resp3 {
            request.format = ReplyFormat::Text;
        }
        Ok(request)
    }

    /// The reply as one text.
    fn text(&self, document: &JsonDocument, out: &mut Vec<u8>) -> Outcome {
        let is_legacy = self.paths.iter().all(ClientPath::is_legacy);
        // All paths together.
        let budget = &mut document.budget();
        if let [path] = &self.paths[..] {
            return match is_legacy {
                true => write_first(document, path, path.text(), (self.layout, 0), (budget, out)),
                false => write_all(document, path, (self.layout, 0), (budget, out)),
            };
        }
        out.push(b'{');
        let mut paths: Vec<&ClientPath<'_>> = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            if !paths.iter().any(|earlier| earlier.original() == path.original()) {
                paths.push(path);
            }
        }
        for (number, path) in paths.into_iter().enumerate() {
            self.layout.begin_item(number, 0, out);
            text::write_string(path.original().as_bytes(), out);
            out.push(b':');
            out.extend_from_slice(self.layout.space);
            match is_legacy {
                true => write_first(document, path, path.original(), (self.layout, 1), (budget, out))?,
                false => write_all(document, path, (self.layout, 1), (budget, out))?,
            }
        }
        self.layout.end_items(false, 0, out);
        out.push(b'}');
        Ok(())
    }
}

/// Writes the first value at a path. An error names the path as `shown`.
pub fn write_first(
    document: &JsonDocument,
    path: &ClientPath<'_>,
    shown: &str,
    (layout, level): (Layout<'_>, usize),
    (budget, out): (&mut WalkBudget, &mut Vec<u8>),
) -> Outcome {
    let query = path.query()?;
    let mut first = None;
    select(&query, document.value(), budget, &mut |node| first = first.or(Some(node)))?;
    text::write(first.ok_or_else(|| error::no_path(shown))?, layout, level, out);
    Ok(())
}

/// Writes all values at a path as an array.
pub fn write_all(
    document: &JsonDocument,
    path: &ClientPath<'_>,
    (layout, level): (Layout<'_>, usize),
    (budget, out): (&mut WalkBudget, &mut Vec<u8>),
) -> Outcome {
    let query = path.query()?;
    out.push(b'[');
    let (mut count, most) = (0, out.len().saturating_add(document.shown_bytes_max()));
    select(&query, document.value(), budget, &mut |node| {
        if out.len() <= most {
            layout.begin_item(count, level, out);
            text::write(node, layout, level + 1, out);
        }
        count += 1;
    })?;
    if out.len() > most {
        return Err(error::TOO_MUCH_TEXT);
    }
    layout.end_items(count == 0, level, out);
    out.push(b']');
    Ok(())
}

pub fn get(found: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let request = Request::parse(args, reply.is_resp3())?;
    let Some(document) = found else {
        reply.null();
        return Ok(());
    };
    if request.format != ReplyFormat::Text {
        return expanded(document, &request, reply);
    }
    super::set::with_payload(|text| {
        request.text(document, text)?;
        if text.len() < COPIED_BYTES_MAX {
            reply.bulk(text);
        } else {
            let text = Arc::new(std::mem::take(text));
            reply.bulk_shared(&text, 0..text.len());
        }
        Ok(())
    })
}

/// The reply in RESP3's types: an array for each path.
fn expanded(document: &JsonDocument, request: &Request<'_>, reply: &mut dyn Reply) -> Outcome {
    let queries = request.paths.iter().map(ClientPath::query);
    let queries = queries.collect::<Result<Vec<_>, _>>()?;
    let found = queries.iter().map(|query| nodes(document, query)).collect::<Result<Vec<_>, _>>()?;
    reply.array(found.len());
    for nodes in found {
        reply.array(nodes.len());
        nodes.into_iter().for_each(|node| reply_node(node, request.format, request.layout, reply));
    }
    Ok(())
}

/// One value in RESP3's types.
pub fn reply_node(node: JsonNode<'_>, format: ReplyFormat, layout: Layout<'_>, reply: &mut dyn Reply) {
    match node.content() {
        NodeContent::Null => reply.null(),
        NodeContent::Boolean(boolean) => reply.boolean(boolean),
        NodeContent::Number(number) => reply_number(number, reply),
        NodeContent::Text(text) if format == ReplyFormat::Expand => reply.bulk(text),
        NodeContent::Array(items) if format == ReplyFormat::Expand => {
            reply.array(items.len());
            items.for_each(|(_, item)| reply_node(item, format, layout, reply));
        }
        NodeContent::Object(items) if format == ReplyFormat::Expand => {
            reply.map(items.len());
            for (name, item) in items {
                reply.bulk(name);
                reply_node(item, format, layout, reply);
            }
        }
        _ => {
            let mut out = Vec::new();
            text::write(node, layout, 0, &mut out);
            reply.bulk(&out);
        }
    }
}

pub fn reply_number(number: crate::packed::JsonNumber, reply: &mut dyn Reply) {
    match number {
        crate::packed::JsonNumber::Integer(number) => reply.integer(number),
        number => reply.double(number.as_f64()),
    }
}

/// An error of one key is a null.
pub fn get_many(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (path, keys) = args.from(1).split_last().ok_or(CommandError::SYNTAX)?;
    let path = ClientPath::new(path)?;
    view.prefetch(keys.iter().copied());
    reply.array(keys.len());
    let mut text = Vec::new();
    // All keys together.
    let mut budget = WalkBudget::of_document(0);
    for key in keys {
        text.clear();
        let written = match document(view, key) {
            Ok(Some(document)) => {
                budget.add(document.heap_bytes());
                let out = (&mut budget, &mut text);
                match path.is_legacy() {
                    true => write_first(document, &path, path.text(), (Layout::default(), 0), out),
                    false => write_all(document, &path, (Layout::default(), 0), out),
                }
            }
            Ok(None) => Err(CommandError::NO_SUCH_KEY),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => reply.bulk(&text),
            Err(error) if error == error::TOO_MUCH || error == error::TOO_MUCH_TEXT => return Err(error),
            Err(_) => reply.null(),
        }
    }
    Ok(())
}

pub fn types(document: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let path = default_path(args, 2)?;
    let mut names = Vec::new();
    if let Some(document) = document {
        // A malformed legacy path is one at which there is nothing.
        match path.query() {
            Ok(query) => select(&query, document.value(), &mut document.budget(), &mut |node| {
                names.push(node.type_name());
            })?,
            Err(_) if path.is_legacy() => {}
            Err(error) => return Err(error),
        }
    }
    if reply.is_resp3() {
        reply.array(1);
    }
    if path.is_legacy() {
        reply.optional_bulk(names.first().map(|name| name.as_bytes()));
    } else if document.is_none() {
        reply.null();
    } else {
        reply.array(names.len());
        names.into_iter().for_each(|name| reply.bulk(name.as_bytes()));
    }
    Ok(())
}
