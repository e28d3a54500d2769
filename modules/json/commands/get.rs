//! Commands that reply values at paths.

use super::payload::with_payload;
use super::reply::{ReplyFormat, reply_node};
use super::{default_path, document, nodes, utf8};
use crate::document::JsonDocument;
use crate::error;
use crate::limits::{COPIED_BYTES_MAX, PATHS_MAX, READ_TOGETHER_BYTES};
use crate::path::{ClientPath, JsonPath, WalkBudget, select};
use crate::text::{self, Layout};
use engramdb_engine::command::{Args, CommandError, Job, Outcome, Reply, Rest, Stage};
use engramdb_engine::hashing::HashSet;
use engramdb_engine::keyspace::TypedValue;
use engramdb_engine::store::view::View;
use std::sync::Arc;

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
                if request.paths.len() > PATHS_MAX {
                    return Err(error::TOO_MANY_PATHS);
                }
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
        self.write(document, out)?;
        if out.len() > self.layout.most { Err(error::TOO_MUCH_TEXT) } else { Ok(()) }
    }

    fn write(&self, document: &JsonDocument, out: &mut Vec<u8>) -> Outcome {
        let is_legacy = self.paths.iter().all(ClientPath::is_legacy);
        // All paths together.
        let budget = &mut document.budget().for_paths(self.paths.len(), document.value());
        if let [path] = &self.paths[..] {
            return match is_legacy {
                true => write_first(document, &path.query()?, path.text(), (self.layout, 0), (budget, out)),
                false => write_all(document, &path.query()?, (self.layout, 0), (budget, out)),
            };
        }
        out.push(b'{');
        let mut names = HashSet::default();
        let paths = self.paths.iter().filter(|path| names.insert(path.original()));
        for (number, path) in paths.enumerate() {
            if out.len() > self.layout.most {
                return Ok(());
            }
            self.layout.begin_item(number, 0, out);
            text::write_string(path.original().as_bytes(), out);
            out.push(b':');
            out.extend_from_slice(self.layout.space);
            let query = path.query()?;
            match is_legacy {
                true => write_first(document, &query, path.original(), (self.layout, 1), (budget, out))?,
                false => write_all(document, &query, (self.layout, 1), (budget, out))?,
            }
        }
        self.layout.end_items(false, 0, out);
        out.push(b'}');
        Ok(())
    }
}

/// Writes the first value at a path. An error names the path as `shown`.
fn write_first(
    document: &JsonDocument,
    query: &JsonPath<'_>,
    shown: &str,
    (layout, level): (Layout<'_>, usize),
    (budget, out): (&mut WalkBudget, &mut Vec<u8>),
) -> Outcome {
    let mut first = None;
    select(query, document.value(), budget, &mut |node| first = first.or(Some(node)))?;
    text::write(first.ok_or_else(|| error::no_path(shown))?, layout, level, out);
    Ok(())
}

/// Writes all values at a path as an array.
fn write_all(
    document: &JsonDocument,
    query: &JsonPath<'_>,
    (layout, level): (Layout<'_>, usize),
    (budget, out): (&mut WalkBudget, &mut Vec<u8>),
) -> Outcome {
    out.push(b'[');
    let mut count = 0;
    select(query, document.value(), budget, &mut |node| {
        if out.len() <= layout.most {
            layout.begin_item(count, level, out);
            text::write(node, layout, level + 1, out);
        }
        count += 1;
    })?;
    layout.end_items(count == 0, level, out);
    out.push(b']');
    Ok(())
}

pub fn get(found: Option<&JsonDocument>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let mut request = Request::parse(args, reply.is_resp3())?;
    let Some(document) = found else {
        reply.null();
        return Ok(());
    };
    request.layout.most = document.shown_bytes_max();
    if request.format != ReplyFormat::Text {
        return expanded(document, &request, reply);
    }
    with_payload(|text| {
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
    let budget = &mut document.budget().for_paths(queries.len(), document.value());
    let mut found = Vec::with_capacity(queries.len());
    for query in &queries {
        found.push(nodes(document, query, budget)?);
    }
    let mut left = request.layout.most;
    reply.array(found.len());
    for nodes in found {
        reply.array(nodes.len());
        for node in nodes {
            reply_node(node, request.format, (request.layout, &mut left), reply)?;
        }
    }
    Ok(())
}

/// `JSON.MGET key+ path`: an error of one key is a null. Large documents are read without the lock.
pub fn get_many(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let (path, keys) = args.from(1).split_last().ok_or(CommandError::SYNTAX)?;
    ClientPath::new(path)?;
    view.prefetch(keys.iter().copied());
    let found: Vec<Option<&JsonDocument>> =
        keys.iter().map(|key| document(view, key).ok().flatten()).collect();
    let bytes: usize = found.iter().flatten().map(|document| document.heap_bytes()).sum();
    if bytes <= READ_TOGETHER_BYTES {
        return write_many(&found, path, reply).map(|()| Stage::Done);
    }
    let found: Vec<Option<JsonDocument>> = found.into_iter().map(Option::<&JsonDocument>::cloned).collect();
    let path = path.to_vec();
    let write = move |reply: &mut dyn Reply| {
        let found: Vec<Option<&JsonDocument>> = found.iter().map(Option::as_ref).collect();
        let mark = reply.mark();
        if let Err(error) = write_many(&found, &path, reply) {
            reply.rewind(mark);
            reply.error(&error);
        }
    };
    let job: Job = Box::new(move |_| Box::new(move |_, _| Ok(Rest::Write(Box::new(write)))));
    Ok(Stage::Copy(job))
}

fn write_many(found: &[Option<&JsonDocument>], path: &[u8], reply: &mut dyn Reply) -> Outcome {
    let path = ClientPath::new(path)?;
    let query = path.query();
    let (mut text, mut written, room) = (Vec::new(), 0_usize, reply.room());
    // All keys together.
    let mut budget = WalkBudget::of_document(0);
    reply.array(found.len());
    for document in found {
        let Some(document) = document else {
            reply.null();
            continue;
        };
        text.clear();
        budget.add(document.content_bytes());
        let layout = Layout { most: document.shown_bytes_max(), ..Layout::default() };
        let out = (&mut budget, &mut text);
        let result = match &query {
            Ok(query) if path.is_legacy() => write_first(document, query, path.text(), (layout, 0), out),
            Ok(query) => write_all(document, query, (layout, 0), out),
            Err(error) => Err(error.clone()),
        };
        written += text.len();
        match result {
            _ if text.len() > layout.most => return Err(error::TOO_MUCH_TEXT),
            _ if written > room => {
                reply.give_up();
                return Ok(());
            }
            Ok(()) => reply.bulk(&text),
            Err(error) if error == error::TOO_MUCH => return Err(error),
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
