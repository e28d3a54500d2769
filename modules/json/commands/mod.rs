//! The family's rows.

mod arrays;
mod containers;
mod debug;
mod foreseen;
mod get;
mod matches;
mod parsed;
mod payload;
mod reply;
mod resp;
mod scalars;
mod set;
mod set_many;

use crate::document::JsonDocument;
use crate::error;
use crate::limits::READ_AT_ONCE_BYTES;
use crate::path::{ClientPath, JsonPath, WalkBudget, select};
use crate::value::JsonNode;
use engramdb_engine::command::{
    Args, Command, CommandError, Job, Outcome, Reply, Rest, Stage, StagedHandler, WriteHandler, flag, sliced,
    write,
};
use engramdb_engine::keyspace::TypedValue;
use engramdb_engine::store::view::View;

pub const COMMANDS: &[Command] = &[
    grows("JSON.ARRAPPEND", "key path value+", arrays::append).docs(
        "1.0.0",
        WALK,
        "Adds values at the end of arrays, and replies their lengths.",
    ),
    reads("JSON.ARRINDEX", "key path value [start [stop]]", |view, args, reply| {
        of_first(view, args, reply, arrays::index_of)
    })
    .docs("1.0.0", WALK, "Replies the index of the first element that is equal to a value."),
    grows("JSON.ARRINSERT", "key path index value+", arrays::insert).docs(
        "1.0.0",
        WALK,
        "Puts values into arrays, in front of an element, and replies the arrays' lengths.",
    ),
    reads("JSON.ARRLEN", "key [path]", |view, args, reply| of_first(view, args, reply, arrays::length)).docs(
        "1.0.0",
        WALK,
        "Replies the lengths of arrays.",
    ),
    frees("JSON.ARRPOP", "key [FORMAT format] [path [index]]", arrays::pop).room(pop_room).docs(
        "1.0.0",
        WALK,
        "Removes an element from arrays, and replies it.",
    ),
    frees("JSON.ARRTRIM", "key path start stop", arrays::trim).docs(
        "1.0.0",
        WALK,
        "Keeps a part of arrays, and replies their lengths.",
    ),
    frees("JSON.CLEAR", "key [path]", containers::clear).docs(
        "2.0.0",
        WALK,
        "Empties containers and sets numbers to 0.",
    ),
    reads("JSON.DEBUG", "subcommand [key [path]]", debug::debug).keys(key_of_debug).docs(
        "1.0.0",
        WALK,
        "Replies how much memory values take.",
    ),
    frees("JSON.DEL", "key [path]", set::delete).docs("1.0.0", WALK, REMOVES),
    frees("JSON.FORGET", "key [path]", set::delete).docs("1.0.0", WALK, REMOVES),
    reads("JSON.GET", "key [option+] [path+]", |view, args, reply| of_first(view, args, reply, get::get))
        .docs("1.0.0", WALK, "Replies the values at paths of a document as JSON text."),
    grows("JSON.MERGE", "key path value [FORMAT format]", set::merge).docs(
        "2.6.0",
        WALK,
        "Merges a value into those at a path: members are set, and removed by null.",
    ),
    reads("JSON.MGET", "key+ path", get::get_many).keys(keys_in_front_of_path).docs(
        "1.0.0",
        "O(N) for N values that the path walks over in all documents",
        "Replies the values at a path of several documents.",
    ),
    grows("JSON.MSET", "(key path value)+", set_many::set_many).room(set_many::room_to_set_many).docs(
        "2.6.0",
        "O(N) for N values in the texts",
        "Sets values at paths of several documents.",
    ),
    writes("JSON.NUMINCRBY", "key path value", scalars::increment).docs("1.0.0", WALK, "Adds to numbers."),
    writes("JSON.NUMMULTBY", "key path value", scalars::multiply).docs("1.0.0", WALK, "Multiplies numbers."),
    writes("JSON.NUMPOWBY", "key path value", scalars::power).docs(
        "1.0.0",
        WALK,
        "Raises numbers to a power.",
    ),
    reads("JSON.OBJKEYS", "key [path]", |view, args, reply| of_first(view, args, reply, containers::names))
        .docs("1.0.0", WALK, "Replies the names in objects."),
    reads("JSON.OBJLEN", "key [path]", |view, args, reply| of_first(view, args, reply, containers::length))
        .docs("1.0.0", WALK, "Replies the numbers of members of objects."),
    reads("JSON.RESP", "key [path]", |view, args, reply| of_first(view, args, reply, resp::as_resp)).docs(
        "1.0.0",
        WALK,
        "Replies values as RESP.",
    ),
    grows("JSON.SET", "key path value [NX|XX] [FORMAT format]", set::set).docs(
        "1.0.0",
        "O(N) for N values in the text",
        "Sets the values at a path of a document.",
    ),
    grows("JSON.STRAPPEND", "key [path] value", scalars::append).docs(
        "1.0.0",
        WALK,
        "Extends texts, and replies their lengths.",
    ),
    reads("JSON.STRLEN", "key [path]", |view, args, reply| of_first(view, args, reply, scalars::text_length))
        .docs("1.0.0", WALK, "Replies the lengths of texts."),
    grows("JSON.TOGGLE", "key path", scalars::toggle).docs("2.0.0", WALK, "Inverts booleans."),
    reads("JSON.TYPE", "key [path]", |view, args, reply| of_first(view, args, reply, get::types)).docs(
        "1.0.0",
        WALK,
        "Replies the types of the values at a path.",
    ),
];

const WALK: &str = "O(N) for N values that the path walks over";
const REMOVES: &str = "Removes values from a document, or the document.";

const fn row(command: Command) -> Command {
    command.group("json").flags(flag::MODULE)
}

const fn reads(name: &'static str, usage: &'static str, handler: StagedHandler) -> Command {
    row(sliced(name, usage, handler))
}

/// The path is the second argument of all but JSON.ARRPOP and JSON.MSET.
const fn writes(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    row(write(name, usage, handler)).room(matches::room)
}

/// A command that can take memory.
const fn grows(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    writes(name, usage, handler).flags(flag::MODULE | flag::DENY_OOM)
}

/// A command that frees memory.
const fn frees(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    writes(name, usage, handler).flags(flag::MODULE | flag::FREES)
}

/// The path is behind a format, or first.
fn pop_room(view: &View<'_>, args: Args<'_>) -> usize {
    let path = if args.is(2, "FORMAT") && args.len() > 4 { 4 } else { 2 };
    args.get(path).map_or(0, |path| matches::room_of(view, args.word(1), path, None))
}

fn key_of_debug(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    Ok((2..args.len().min(3)).collect())
}

fn keys_in_front_of_path(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    Ok((1..args.len() - 1).collect())
}

/// What a command that reads does with its document.
type OfDocument = fn(Option<&JsonDocument>, Args<'_>, &mut dyn Reply) -> Outcome;

/// Reads the document of the first key.
fn of_first(
    view: &View<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
    read: OfDocument,
) -> Result<Stage, CommandError> {
    of_document(view, args.word(1), args, reply, read)
}

/// Reads the document at a key: a small one at once, a large one as it is now, without the lock. So are long
/// words read: paths, and a value to look for.
fn of_document(
    view: &View<'_>,
    key: &[u8],
    args: Args<'_>,
    reply: &mut dyn Reply,
    read: OfDocument,
) -> Result<Stage, CommandError> {
    let found = document(view, key)?;
    let word_bytes: usize = args.iter().map(|word| word.len()).sum();
    if word_bytes.max(found.map_or(0, JsonDocument::heap_bytes)) <= READ_AT_ONCE_BYTES {
        return read(found, args, reply).map(|()| Stage::Done);
    }
    let found = found.cloned();
    let words: Vec<Vec<u8>> = args.iter().map(|word| word.to_vec()).collect();
    let write = move |reply: &mut dyn Reply| {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mark = reply.mark();
        if let Err(error) = read(found.as_ref(), Args::new(&words), reply) {
            reply.rewind(mark);
            reply.error(&error);
        }
    };
    let job: Job = Box::new(move |_| Box::new(move |_, _| Ok(Rest::Write(Box::new(write)))));
    Ok(Stage::Copy(job))
}

/// The values at a path, for a reply that shows them.
fn nodes<'a>(
    document: &'a JsonDocument,
    query: &'a JsonPath<'_>,
    budget: &mut WalkBudget,
) -> Result<Vec<JsonNode<'a>>, CommandError> {
    let (mut nodes, mut bytes) = (Vec::new(), 0_usize);
    select(query, document.value(), budget, &mut |node| {
        bytes = bytes.saturating_add(node.content_bytes());
        nodes.push(node);
    })?;
    if bytes > document.shown_bytes_max() { Err(error::TOO_MUCH_TEXT) } else { Ok(nodes) }
}

/// The document at a key.
fn document<'a>(view: &View<'a>, key: &[u8]) -> Result<Option<&'a JsonDocument>, CommandError> {
    view.object(key).map_err(|_| error::WRONG_KEY_TYPE)
}

/// A word that must be UTF-8.
fn utf8(word: &[u8]) -> Result<&str, CommandError> {
    std::str::from_utf8(word).map_err(|_| error::NOT_UTF8)
}

/// The document at a key, for commands that need one.
fn existing<'a>(view: &View<'a>, key: &[u8]) -> Result<&'a JsonDocument, CommandError> {
    document(view, key)?.ok_or(error::NO_KEY)
}

/// Refuses words that a command has no meaning for.
fn at_most(args: Args<'_>, words: usize) -> Result<(), CommandError> {
    if args.len() <= words {
        return Ok(());
    }
    Err(CommandError::wrong_arity(&String::from_utf8_lossy(args.word(0)).to_lowercase()))
}

/// The path at this place of the request, which is the last one, or that of the whole document.
fn default_path(args: Args<'_>, index: usize) -> Result<ClientPath<'_>, CommandError> {
    at_most(args, index + 1)?;
    args.get(index).map_or_else(|| Ok(ClientPath::legacy_root()), |path| ClientPath::new(path))
}

#[cfg(test)]
mod tests;
