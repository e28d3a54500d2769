//! The family's rows, and the short handlers.

use crate::effects::{KIND_CREATE, KIND_DROP, effect_of};
use crate::error::{self, Kind};
use crate::index::Index;
use crate::info::CursorCounts;
use crate::manage::{aliases, alter, dictionaries, documents, suggestions, synonyms};
use crate::module::{SearchModule, find};
use crate::schema::create;
use crate::schema::{Definition, FieldKind};
use crate::search::shape::{is_flat, shaped};
use crate::search::styled;
use crate::{aggregate, debug, info, search, settings, spell};
use engramdb_engine::command::{
    Args, Command, CommandError, CoveredKeys, Outcome, Reply, acl, flag, read, staged, write,
};
use engramdb_engine::effect::{Cause, Effect};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;

pub const COMMANDS: &[Command] = &[
    bare(write("FT.CREATE", "index [option+] SCHEMA field type+", create))
        .flags(flag::MODULE | flag::DENY_OOM)
        .docs("1.0.0", "O(1), and O(N) in the background for N keys", "Creates an index over hashes."),
    bare(write("FT._CREATEIFNX", "index [option+] SCHEMA field type+", create_if_new))
        .flags(flag::MODULE | flag::DENY_OOM)
        .docs("2.0.0", "as FT.CREATE", "Creates an index, unless there is one of this name."),
    row(write("FT.ALTER", "index [SKIPINITIALSCAN] SCHEMA ADD field [type+]", alter::alter))
        .flags(flag::MODULE | flag::DENY_OOM)
        .room(room_for_name)
        .docs("1.0.0", "O(1), and O(N) in the background for N keys", "Adds fields to an index."),
    row(write("FT._ALTERIFNX", "index [SKIPINITIALSCAN] SCHEMA ADD field [type+]", alter::alter_if_new))
        .flags(flag::MODULE | flag::DENY_OOM)
        .room(room_for_name)
        .docs("2.0.0", "as FT.ALTER", "Adds fields to an index, unless it has the first of them."),
    second(write("FT.ALIASADD", "alias index", aliases::add)).flags(flag::MODULE | flag::DENY_OOM).docs(
        "1.0.0",
        "O(log N)",
        "Gives another name to an index.",
    ),
    second(write("FT._ALIASADDIFNX", "alias index", aliases::add_if_new))
        .flags(flag::MODULE | flag::DENY_OOM)
        .docs("2.0.0", "O(log N)", "Gives another name to an index, unless the name is taken."),
    second(write("FT.ALIASUPDATE", "alias index", aliases::update))
        .flags(flag::MODULE | flag::DENY_OOM)
        .docs("1.0.0", "O(log N)", "Gives an alias to another index."),
    row(write("FT.ALIASDEL", "alias", aliases::delete)).docs("1.0.0", "O(log N)", "Removes an alias."),
    row(write("FT._ALIASDELIFX", "alias", aliases::delete_if_there)).docs(
        "2.0.0",
        "O(log N)",
        "Removes an alias, if there is one.",
    ),
    row(read("FT.ALIASLIST", "index", aliases::list)).docs(
        "8.0.0",
        "O(N) for N aliases",
        "Returns the aliases of an index.",
    ),
    row(read("FT._ALIASLIST", "index", aliases::list)).docs(
        "8.0.0",
        "O(N) for N aliases",
        "Returns the aliases of an index.",
    ),
    row(staged("FT.SEARCH", "index [query [option+]]", search::search)).docs(
        "1.0.0",
        "O(log N) for nearest neighbours, O(N) for N matches of a filter",
        "Searches an index.",
    ),
    row(staged("FT.AGGREGATE", "index [query [step+]]", aggregate::aggregate)).docs(
        "1.1.0",
        "O(N) for N matches of the query",
        "Searches an index, and groups, sorts and computes what it finds.",
    ),
    row(staged("FT.HYBRID", "index [SEARCH query VSIM field vector [option+]]", aggregate::hybrid)).docs(
        "8.4.0",
        "O(N) for N matches of both queries",
        "Searches an index by words and by a vector, and fuses what both find.",
    ),
    second(staged("FT.CURSOR", "action index cursor [COUNT count]", aggregate::cursor)).docs(
        "1.1.0",
        "O(N) for N rows",
        "Reads more rows of an aggregation, or ends it.",
    ),
    row(staged("FT.PROFILE", "index command [LIMITED] QUERY query [option+]", aggregate::profile_any)).docs(
        "2.2.0",
        "O(N)",
        "Searches an index, and tells what was done for it and how long that took.",
    ),
    row(read("FT.EXPLAIN", "index query [option+]", search::explain)).docs(
        "1.0.0",
        "O(1)",
        "Returns a query as a tree.",
    ),
    row(read("FT.EXPLAINCLI", "index query [option+]", search::explain_lines)).docs(
        "1.0.0",
        "O(1)",
        "Returns a query as a tree, line by line.",
    ),
    row(read("FT.INFO", "index", describe)).docs(
        "1.0.0",
        "O(1)",
        "Returns what an index is and how it does.",
    ),
    row(read("FT.TAGVALS", "index field", tag_values)).docs(
        "1.0.0",
        "O(N) for N tags",
        "Returns the different tags of a field.",
    ),
    bare(read("FT._LIST", "", list)).docs("2.0.0", "O(N) for N indexes", "Returns the names of all indexes."),
    row(write("FT.DROPINDEX", "index [DD|KEEPDOCS]", drop))
        .flags(flag::MODULE | flag::FREES)
        .room(room_to_drop)
        .docs(
            "2.0.0",
            "O(1), or O(N) for N documents with DD",
            "Deletes an index, and its documents with DD.",
        ),
    bare(write("FT.SUGADD", "key string score [option+]", suggestions::add))
        .flags(flag::MODULE | flag::DENY_OOM)
        .room(suggestions::room_to_add)
        .docs("1.0.0", "O(N) for N characters", "Adds a suggestion, or changes its score."),
    bare(read("FT.SUGGET", "key prefix [option+]", suggestions::get)).docs(
        "1.0.0",
        "O(log N) for N suggestions",
        "Returns the best completions of a prefix.",
    ),
    bare(write("FT.SUGDEL", "key string", suggestions::delete)).flags(flag::MODULE | flag::FREES).docs(
        "1.0.0",
        "O(N) for N characters",
        "Removes a suggestion.",
    ),
    bare(read("FT.SUGLEN", "key", suggestions::length)).docs(
        "1.0.0",
        "O(1)",
        "Returns the number of suggestions.",
    ),
    bare(write("FT.DICTADD", "dict term+", dictionaries::add)).flags(flag::MODULE | flag::DENY_OOM).docs(
        "1.4.0",
        "O(1) for each term",
        "Adds terms to a dictionary.",
    ),
    bare(write("FT.DICTDEL", "dict term+", dictionaries::delete)).flags(flag::MODULE | flag::FREES).docs(
        "1.4.0",
        "O(1) for each term",
        "Removes terms from a dictionary.",
    ),
    bare(staged("FT.DICTDUMP", "dict", dictionaries::dump)).docs(
        "1.4.0",
        "O(N) for N terms",
        "Returns the terms of a dictionary.",
    ),
    row(write("FT.SYNUPDATE", "index group [SKIPINITIALSCAN] term+", synonyms::update))
        .flags(flag::MODULE | flag::DENY_OOM)
        .room(room_for_name)
        .docs("1.2.0", "O(1) for each term", "Adds terms to a group of synonyms."),
    row(staged("FT.SPELLCHECK", "index query [option+]", spell::check)).docs(
        "1.4.0",
        "O(N) for N terms of the index",
        "Returns words that the index does not have, with similar ones that it has.",
    ),
    row(staged("FT.SYNDUMP", "index", synonyms::dump)).docs(
        "1.2.0",
        "O(N) for N terms",
        "Returns the synonyms of an index.",
    ),
    row(write("FT._DROPINDEXIFX", "index [DD|KEEPDOCS]", drop_if_there))
        .flags(flag::MODULE | flag::FREES)
        .room(room_to_drop)
        .docs("2.0.0", "as FT.DROPINDEX", "Deletes an index, if there is one."),
    row(write("FT.DROP", "index [KEEPDOCS]", drop_with_documents))
        .flags(flag::MODULE | flag::FREES)
        .room(room_to_drop_all)
        .docs("1.0.0", "O(N) for N documents", "Deletes an index and its documents (deprecated)."),
    row(write("FT._DROPIFX", "index [KEEPDOCS]", drop_with_documents_if_there))
        .flags(flag::MODULE | flag::FREES)
        .room(room_to_drop_all)
        .docs("2.0.0", "as FT.DROP", "Deletes an index and its documents, if there is one (deprecated)."),
    row(write("FT.ADD", "index key score [word+]", documents::add))
        .flags(flag::MODULE | flag::DENY_OOM)
        .docs("1.0.0", "O(N) for N fields", "Writes a hash (deprecated)."),
    row(write("FT.SAFEADD", "index key score [word+]", documents::add))
        .flags(flag::MODULE | flag::DENY_OOM)
        .docs("1.0.0", "O(N) for N fields", "As FT.ADD (deprecated)."),
    row(write("FT.DEL", "index key [DD]", documents::delete)).flags(flag::MODULE | flag::FREES).docs(
        "1.0.0",
        "O(1)",
        "Deletes a key (deprecated).",
    ),
    row(read("FT.GET", "index key", documents::get)).docs(
        "1.0.0",
        "O(N) for N fields",
        "Returns the fields of a document (deprecated).",
    ),
    row(read("FT.MGET", "index key+", documents::get_many)).docs(
        "1.0.0",
        "O(N) for N fields",
        "Returns the fields of documents (deprecated).",
    ),
    bare(staged("FT.DEBUG", "action [argument+]", debug::debug)).docs(
        "1.0.0",
        "O(N) for a graph of N nodes",
        "Looks into an index, for operators.",
    ),
    bare(staged("_FT.DEBUG", "action [argument+]", debug::debug)).docs(
        "1.0.0",
        "O(N) for a graph of N nodes",
        "As FT.DEBUG, by the name that RediSearch gives it.",
    ),
    bare(read("FT.CONFIG", "action option [value]", config)).docs(
        "1.0.0",
        "O(1)",
        "Tells or sets options of the search module (deprecated).",
    ),
    bare(read("_FT.CONFIG", "action option [value]", config)).docs(
        "1.0.0",
        "O(1)",
        "As FT.CONFIG, by the name that RediSearch gives it.",
    ),
];

const fn bare(command: Command) -> Command {
    command.group("search").flags(flag::MODULE).acl(acl::SEARCH)
}

/// A command about the index that its first word names: its user must be permitted to read what the index
/// covers.
const fn row(command: Command) -> Command {
    bare(command).prefixes(|view, args| prefixes(view, args, 1))
}

/// The same of the second word.
const fn second(command: Command) -> Command {
    bare(command).prefixes(|view, args| prefixes(view, args, 2))
}

/// An index that is absent covers nothing: the command refuses it.
fn prefixes(view: &View<'_>, args: Args<'_>, word: usize) -> CoveredKeys {
    let module = view.module::<SearchModule>();
    let index = args.get(word).and_then(|name| module.registry.index(view.database(), name));
    CoveredKeys {
        prefixes: index.map_or_else(Vec::new, |index| index.definition.prefixes.clone()),
        are_deleted: args.get(2).is_some_and(|word| word.eq_ignore_ascii_case(b"DD")),
    }
}

fn create(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if has_index(tx, args[1]) {
        return tx.read(|view| styled(view, Err(Kind::IndexExists.error())));
    }
    let parsed = tx.read(|view| {
        create::parse(args, view.data_types(), view.module::<SearchModule>().block_bytes_max(view))
    });
    let id = tx.read(|view| view.random()).max(1);
    let payload = Definition { id, ..tx.read(|view| styled(view, parsed))? }.encode();
    tx.apply(effect_of(KIND_CREATE, &payload));
    reply.ok();
    Ok(())
}

fn create_if_new(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if !has_index(tx, args[1]) {
        return create(tx, args, reply);
    }
    reply.ok();
    Ok(())
}

fn has_index(tx: &mut Tx<'_>, name: &[u8]) -> bool {
    tx.read(|view| {
        let index = view.module::<SearchModule>().registry.named(view.database(), name);
        index.inspect(|index| view.wait_for(index.changed_by())).is_some()
    })
}

fn describe(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let index = styled(view, find(view, args[1], Kind::NoIndexToTell))?;
    view.wait_for(index.changed_by());
    let module = view.module::<SearchModule>();
    let (now, style) = (module.options.env.clock.monotonic(), module.settings.error_style());
    let counts = CursorCounts {
        all: module.cursors.totals().0,
        own: module.cursors.count_of(index),
        own_max: module.settings.index_cursors_max(),
    };
    shaped(is_flat(view, reply), reply, |reply| info::write(index, now, style, &counts, reply));
    Ok(())
}

fn tag_values(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let write = |reply: &mut dyn Reply| {
        let index = find(view, args[1], Kind::NoIndexToChange)?;
        view.wait_for(index.changed_by());
        let field = index.definition.field(args[2]).ok_or(Kind::NoField.error())?;
        if !matches!(index.definition.fields[field].kind, FieldKind::Tag { .. }) {
            return Err(Kind::NoTagField.error());
        }
        let documents = index.documents.read();
        let tags = documents.terms(field).expect("tags have postings").terms();
        reply.set(tags.len());
        tags.for_each(|tag| reply.bulk(tag));
        Ok(())
    };
    styled(view, shaped(is_flat(view, reply), reply, write))
}

fn list(view: &View<'_>, _args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    view.whole_keyspace();
    let module = view.module::<SearchModule>();
    let here = module.registry.here(view.database());
    let names: Vec<&[u8]> = here.map(|index| &index.definition.name[..]).collect();
    shaped(is_flat(view, reply), reply, |reply| {
        reply.set(names.len());
        names.iter().for_each(|name| reply.bulk(name));
    });
    Ok(())
}

/// The name of the index, which the command may call by an alias.
pub fn room_for_name(view: &View<'_>, args: Args<'_>) -> usize {
    find(view, args[1], Kind::NoIndexToChange).map_or(0, |index| index.definition.name.len())
}

/// The deletes of the documents: header, key and cause of each; and the index's name.
fn room_to_drop(view: &View<'_>, args: Args<'_>) -> usize {
    if args.is(2, "DD") { room_with_documents(view, args) } else { room_for_name(view, args) }
}

fn room_to_drop_all(view: &View<'_>, args: Args<'_>) -> usize {
    if args.is(2, "KEEPDOCS") { room_for_name(view, args) } else { room_with_documents(view, args) }
}

fn room_with_documents(view: &View<'_>, args: Args<'_>) -> usize {
    const DELETE_BYTES: usize = 32;
    find(view, args[1], Kind::NoIndexToChange).map_or(0, |index| {
        let documents = index.documents.read();
        documents.len() * DELETE_BYTES + documents.keys_bytes_max() + index.definition.name.len()
    })
}

fn drop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    drop_named(tx, args, reply, false, false)
}

fn drop_if_there(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    drop_named(tx, args, reply, false, true)
}

/// The older command: documents go with their index, unless it says otherwise.
fn drop_with_documents(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    drop_named(tx, args, reply, true, false)
}

fn drop_with_documents_if_there(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    drop_named(tx, args, reply, true, true)
}

/// Drops the index that a command names; `takes_documents` if its documents go with it unless the command
/// says otherwise, `forgives` if there need not be one.
fn drop_named(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
    takes_documents: bool,
    forgives: bool,
) -> Outcome {
    if args.len() > 3 {
        let name = error::text(args[0]);
        return Err(CommandError::new(format!("ERR wrong number of arguments for '{name}' command")));
    }
    let (keeps, takes) = (args.is(2, "KEEPDOCS"), args.is(2, "DD") && !takes_documents);
    // The empty word is what a client sends that would send DD otherwise.
    let is_nothing = args.get(2).is_none_or(|word| word.is_empty() && !takes_documents);
    let found = tx.read(|view| {
        let found = find(view, args[1], Kind::NoIndexToChange).cloned();
        if forgives && found.is_err() {
            return Ok(None);
        }
        let known = |index| match keeps || takes || is_nothing {
            true => Ok(Some(index)),
            false => Err(Kind::UnknownArgument.of(args[2])),
        };
        styled(view, found.and_then(known))
    })?;
    if let Some(index) = found {
        drop_index(tx, &index, takes || takes_documents && !keeps);
    }
    reply.ok();
    Ok(())
}

fn drop_index(tx: &mut Tx<'_>, index: &Index, with_documents: bool) {
    if with_documents {
        let keys: Vec<Vec<u8>> = index.documents.read().keys().map(|(key, _)| key.to_vec()).collect();
        for key in keys {
            tx.apply(Effect::Delete { key: &key, cause: Cause::Command });
        }
    }
    tx.apply(effect_of(KIND_DROP, &index.definition.name));
}

fn config(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let settings = &view.module::<SearchModule>().settings;
    styled(view, shaped(is_flat(view, reply), reply, |reply| settings::config(settings, args, reply)))
}
