//! FUNCTION and FCALL: durable libraries of functions.

use super::scripts::write_help;
use super::split;
use crate::engine::TriedLibrary;
use crate::header::LibraryHeader;
use crate::libraries::{FUNCTIONS_BYTES_MAX, Library};
use crate::module::{ScriptModule, delete, flush, load};
use crate::payload;
use engramdb_engine::command::{Args, Command, CommandError, Outcome, Reply, acl, flag, session, write};
use engramdb_engine::commands::glob_matches;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use engramdb_server::{Call, Run, ScriptCall, ScriptKind};
use std::sync::Arc;

pub const COMMANDS: &[Command] = &[
    write("DELETE", "library-name", delete_library)
        .group("scripting")
        .flags(flag::NO_SCRIPT)
        .acl(acl::SCRIPTING)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs("7.0.0", "O(1)", "Deletes a library and its functions."),
    row("DUMP", "", &Run(dump)).flags(flag::NO_SCRIPT).docs(
        "7.0.0",
        "O(N) where N is the number of functions",
        "Dumps all libraries into a serialized binary payload.",
    ),
    write("FLUSH", "[ASYNC|SYNC]", flush_libraries)
        .group("scripting")
        .flags(flag::NO_SCRIPT)
        .acl(acl::SCRIPTING)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs(
            "7.0.0",
            "O(N) where N is the number of functions deleted",
            "Deletes all libraries and functions.",
        ),
    row("HELP", "", &Run(help)).flags(flag::LOADING | flag::STALE).docs(
        "7.0.0",
        "O(1)",
        "Returns helpful text about the different subcommands.",
    ),
    row("KILL", "", &Run(kill))
        .flags(flag::NO_SCRIPT | flag::ALLOW_BUSY)
        .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
        .docs("7.0.0", "O(1)", "Terminates a function during execution."),
    row("LIST", "[LIBRARYNAME library-name-pattern] [WITHCODE]", &Run(list))
        .flags(flag::NO_SCRIPT)
        .tips(&["nondeterministic_output_order"])
        .docs("7.0.0", "O(N) where N is the number of functions", "Returns information about all libraries."),
    write("LOAD", "[REPLACE] function-code", load_library)
        .group("scripting")
        .flags(flag::NO_SCRIPT | flag::DENY_OOM)
        .acl(acl::SCRIPTING)
        .room(|_, _| FUNCTIONS_BYTES_MAX)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs("7.0.0", "O(1) (considering compilation time is redundant)", "Creates a library."),
    write("RESTORE", "serialized-value [FLUSH|APPEND|REPLACE]", restore)
        .group("scripting")
        .flags(flag::NO_SCRIPT | flag::DENY_OOM)
        .acl(acl::SCRIPTING)
        .room(room_of_restore)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs(
            "7.0.0",
            "O(N) where N is the number of functions on the payload",
            "Restores all libraries from a payload.",
        ),
    row("STATS", "", &Run(stats))
        .flags(flag::NO_SCRIPT | flag::ALLOW_BUSY)
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .docs("7.0.0", "O(1)", "Returns information about a function during execution."),
];

const fn row(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    session(name, usage, run).group("scripting").acl(acl::SCRIPTING)
}

/// The module, for a reply that shows its libraries.
fn module<'v>(view: &View<'v>) -> &'v ScriptModule {
    let module = view.module::<ScriptModule>();
    view.wait_for(module.hazard.gate());
    module
}

pub fn fcall(call: &mut ScriptCall<'_, '_, '_>) -> Outcome {
    run(call, false)
}

pub fn fcall_ro(call: &mut ScriptCall<'_, '_, '_>) -> Outcome {
    run(call, true)
}

fn run(call: &mut ScriptCall<'_, '_, '_>, is_read_only: bool) -> Outcome {
    let args = call.args();
    let found = call.read(|view| {
        let module = module(view);
        let found = module.libraries.function(args.word(1));
        let found = found.map(|(library, function)| (library.clone(), function.clone()));
        let counts = [module.libraries.len(), module.libraries.functions_len()];
        (found, module.engine.clone(), counts)
    });
    let (Some((library, function)), engine, counts) = found else {
        return Err(CommandError::of("ERR Function not found"));
    };
    let (keys, arguments) = split(args, CommandError::of("ERR Bad number of keys provided"))?;
    engine.fcall(call, (&library, &function, counts), (keys, arguments, is_read_only))
}

/// A library that was tried, if it may become one of those that there are.
fn tried(tx: &mut Tx<'_>, code: &[u8], replaces: bool) -> Result<(Library, TriedLibrary), CommandError> {
    let header = LibraryHeader::of(code)?;
    tx.read(|view| {
        let module = module(view);
        if !replaces && module.libraries.get(&header.name).is_some() {
            let parts: [&[u8]; 3] = [b"ERR Library '", header.name.as_bytes(), b"' already exists"];
            return Err(CommandError::of_parts(&parts));
        }
        let clock = view.clock().clone();
        let (library, tried) = module.engine.try_library((header.name, code, header.bytes), clock)?;
        if let Some(name) = module.libraries.collision(&library) {
            return Err(CommandError::new(format!("ERR Function {name} already exists")));
        }
        Ok((library, tried))
    })
}

/// Makes a tried library ground state.
fn keep(tx: &mut Tx<'_>, library: &Library, tried: TriedLibrary) {
    tx.apply(load(&library.encode()));
    tx.read(|view| {
        let module = module(view);
        let library = module.libraries.get(&library.name).expect("it was loaded just now");
        module.engine.keep(library, tried);
    });
}

fn load_library(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (code, options) = args.from(2).split_last().expect("the arity is at least 3");
    let mut replaces = false;
    for option in options {
        if !option.eq_ignore_ascii_case(b"REPLACE") {
            return Err(CommandError::of_parts(&[b"ERR Unknown option given: ", option]));
        }
        replaces = true;
    }
    let (library, made) = tried(tx, code, replaces)?;
    keep(tx, &library, made);
    reply.bulk(library.name.as_bytes());
    Ok(())
}

fn dump(call: &mut Call<'_, '_, '_>) -> Outcome {
    let payload = call.read(|view| {
        let libraries = module(view).libraries.iter();
        payload::write(libraries.map(|library| &*library.code))
    });
    call.reply().bulk(&payload);
    Ok(())
}

/// Codes can be compressed, and each library has its functions beside its code.
fn room_of_restore(_: &View<'_>, args: Args<'_>) -> usize {
    const EFFECT_BYTES: usize = 256;
    let codes = payload::read(args.word(2)).unwrap_or_default();
    codes.iter().map(|code| 2 * code.len() + FUNCTIONS_BYTES_MAX + EFFECT_BYTES).sum()
}

fn restore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if args.len() > 4 {
        return Err(CommandError::wrong_subcommand(args.word(0), args.word(1)));
    }
    let (mut flushes, mut replaces) = (false, false);
    if args.len() == 4 {
        flushes = args.is(3, "FLUSH");
        replaces = args.is(3, "REPLACE");
        if !flushes && !replaces && !args.is(3, "APPEND") {
            let text = "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.";
            return Err(CommandError::of(text));
        }
    }
    let made = restored(tx, args.word(2), flushes)?;
    check_restored(tx, &made, flushes, replaces)?;
    if flushes {
        tx.apply(flush());
    }
    // Two libraries may exchange functions: all those that are replaced go first.
    for (library, _) in &made {
        let exists = tx.read(|view| module(view).libraries.get(&library.name).is_some());
        if exists {
            tx.apply(delete(library.name.as_bytes()));
        }
    }
    for (library, tried) in made {
        keep(tx, &library, tried);
    }
    reply.ok();
    Ok(())
}

/// The libraries of a payload, compiled.
fn restored(
    tx: &mut Tx<'_>,
    payload: &[u8],
    flushes: bool,
) -> Result<Vec<(Library, TriedLibrary)>, CommandError> {
    let codes = payload::read(payload)?;
    tx.read(|view| {
        let module = module(view);
        if flushes {
            module.engine.drop_libraries();
        }
        let mut made: Vec<(Library, TriedLibrary)> = Vec::new();
        for code in &codes {
            let header = LibraryHeader::of(code)?;
            if made.iter().any(|(library, _)| library.name == header.name) {
                let parts: [&[u8]; 3] = [b"ERR Library '", header.name.as_bytes(), b"' already exists"];
                return Err(CommandError::of_parts(&parts));
            }
            let clock = view.clock().clone();
            made.push(module.engine.try_library((header.name, code, header.bytes), clock)?);
        }
        Ok(made)
    })
}

/// Checks that the libraries get along with each other, and with those that stay.
fn check_restored(
    tx: &mut Tx<'_>,
    made: &[(Library, TriedLibrary)],
    flushes: bool,
    replaces: bool,
) -> Outcome {
    let mut functions: Vec<String> = Vec::new();
    for (library, _) in made {
        for function in &library.functions {
            let name = function.name.to_ascii_lowercase();
            if functions.contains(&name) {
                return Err(CommandError::new(format!("ERR Function {} already exists", function.name)));
            }
            functions.push(name);
        }
    }
    if flushes {
        return Ok(());
    }
    tx.read(|view| {
        let libraries = &module(view).libraries;
        for (library, _) in made {
            if !replaces && libraries.get(&library.name).is_some() {
                return Err(CommandError::new(format!("ERR Library {} already exists", library.name)));
            }
            for function in &library.functions {
                let other = libraries.function(function.name.as_bytes()).map(|(other, _)| &other.name);
                let stays = other.is_some_and(|other| !made.iter().any(|(made, _)| made.name == *other));
                if stays {
                    return Err(CommandError::new(format!("ERR Function {} already exists", function.name)));
                }
            }
        }
        Ok(())
    })
}

fn delete_library(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let name = std::str::from_utf8(args.word(2)).unwrap_or("");
    let engine = tx.read(|view| {
        let module = module(view);
        module.libraries.get(name).map(|_| module.engine.clone())
    });
    let engine = engine.ok_or(CommandError::of("ERR Library not found"))?;
    tx.apply(delete(name.as_bytes()));
    engine.drop_library(name);
    reply.ok();
    Ok(())
}

fn flush_libraries(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    match args.len() {
        2 => {}
        3 if args.is(2, "SYNC") || args.is(2, "ASYNC") => {}
        3 => return Err(CommandError::of("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")),
        _ => return Err(CommandError::wrong_subcommand(args.word(0), args.word(1))),
    }
    let engine = tx.read(|view| module(view).engine.clone());
    tx.apply(flush());
    engine.drop_libraries();
    reply.ok();
    Ok(())
}

fn list(call: &mut Call<'_, '_, '_>) -> Outcome {
    let mut options = call.args().options(2);
    let (mut with_code, mut pattern) = (false, None);
    while !options.is_done() {
        if !with_code && options.take("WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && options.take("LIBRARYNAME") {
            let missing = CommandError::of("ERR library name argument was not given");
            pattern = Some(options.word().map_err(|_| missing)?);
        } else {
            let word = options.word()?;
            return Err(CommandError::of_parts(&[b"ERR Unknown argument ", word]));
        }
    }
    let libraries: Vec<Arc<Library>> = call.read(|view| {
        let all = module(view).libraries.iter();
        let matches = |name: &str| pattern.is_none_or(|pattern| glob_matches(pattern, name.as_bytes()));
        all.filter(|library| matches(&library.name)).cloned().collect()
    });
    let reply = call.reply();
    reply.array(libraries.len());
    libraries.iter().for_each(|library| write_library(library, with_code, reply));
    Ok(())
}

fn write_library(library: &Library, with_code: bool, reply: &mut dyn Reply) {
    reply.map(if with_code { 4 } else { 3 });
    reply.bulk(b"library_name");
    reply.bulk(library.name.as_bytes());
    reply.bulk(b"engine");
    reply.bulk(b"LUA");
    reply.bulk(b"functions");
    reply.array(library.functions.len());
    for function in &library.functions {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(function.name.as_bytes());
        reply.bulk(b"description");
        reply.optional_bulk(function.description.as_deref());
        reply.bulk(b"flags");
        reply.set(function.flags.names().count());
        function.flags.names().for_each(|name| reply.simple(name));
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(&library.code);
    }
}

fn kill(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.scripts().kill(ScriptKind::Function)?;
    call.reply().ok();
    Ok(())
}

fn stats(call: &mut Call<'_, '_, '_>) -> Outcome {
    let scripts = call.scripts().clone();
    let running = scripts.show(|running| {
        running.map(|(script, elapsed)| {
            (script.kind, script.name.clone(), script.words.clone(), elapsed, script.libraries)
        })
    });
    // While a function runs, the keyspace cannot be read.
    let counts = match running {
        Some((ScriptKind::Eval, ..)) => return Err(ScriptKind::Eval.busy()),
        Some((.., libraries)) => libraries,
        None => call.read(|view| {
            let libraries = &module(view).libraries;
            [libraries.len(), libraries.functions_len()]
        }),
    };
    let reply = call.reply();
    reply.map(2);
    reply.bulk(b"running_script");
    match running {
        None => reply.null(),
        Some((_, name, words, elapsed, _)) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(name.as_bytes());
            reply.bulk(b"command");
            reply.array(words.len());
            words.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.integer(elapsed.as_millis() as i64);
        }
    }
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.integer(counts[0] as i64);
    reply.bulk(b"functions_count");
    reply.integer(counts[1] as i64);
    Ok(())
}

const HELP: &[&str] = &[
    "FUNCTION <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Create a new library with the given library name and code.",
    "DELETE <LIBRARY NAME>",
    "    Delete the given library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return information on all libraries, or on those whose names match: name, engine, functions, and the code if",
    "    WITHCODE is given.",
    "STATS",
    "    Return information about the function that is running, if there is one, and about the engine.",
    "KILL",
    "    Kill the current running function.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all the libraries.",
    "DUMP",
    "    Return a serialized payload representing the current libraries, can be restored using FUNCTION RESTORE command",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Restore the libraries of the payload: after deleting all others, beside others (the default), or in the place of",
    "    others of the same name.",
    "HELP",
    "    Print this help.",
];

fn help(call: &mut Call<'_, '_, '_>) -> Outcome {
    write_help(call.reply(), HELP)
}
