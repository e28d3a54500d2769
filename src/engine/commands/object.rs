//! OBJECT and MEMORY: how values are stored.
//!
//! Encodings are those that Redis would choose by the configured limits, because clients' tests check them.
//! They do not describe how this engine stores a value.

use super::memory::{self, HELP};
use super::slices::{AT_ONCE, sum_fields};
use crate::command::{
    Args, Command, CommandError, Finish, Job, Outcome, ReadHandler, Reply, Rest, Stage, acl, container, flag,
    read, sliced,
};
use crate::keyspace::{Entry, ValueRef};
use crate::store::view::View;
use crate::version::REDIS_VERSION;

pub const COMMANDS: &[Command] = &[
    read("LOLWUT", "[VERSION version]", lolwut).group("server").flags(flag::FAST).docs(
        "5.0.0",
        "O(1)",
        "Displays computer art and the Redis version.",
    ),
    container("MEMORY", MEMORY).group("server").docs("4.0.0", "By subcommand", "Reports the use of memory."),
    container("OBJECT", OBJECT).docs("2.2.3", "By subcommand", "Reports how a value is stored."),
];

const MEMORY: &[Command] = &[
    memory::DOCTOR,
    read("HELP", "", memory_help).group("server").flags(HELP).docs("4.0.0", "O(1)", "Lists the subcommands."),
    memory::MALLOC_STATS,
    memory::PURGE,
    memory::STATS,
    sliced("USAGE", "key [SAMPLES count]", memory_usage).group("server").access(&["RO"]).docs(
        "4.0.0",
        "O(1)",
        "Estimates the bytes that a key and its value take.",
    ),
];

const OBJECT: &[Command] = &[
    object_row("ENCODING", "key", object_encoding).access(&["RO"]).tips(&["nondeterministic_output"]).docs(
        "2.2.3",
        "O(N) for a value of N elements that is within the limits of a compact encoding, else O(1)",
        "Names the encoding that Redis would choose.",
    ),
    object_row("FREQ", "key", object_freq).access(&["RO"]).tips(&["nondeterministic_output"]).docs(
        "4.0.0",
        "O(1)",
        "Replies how often a key is accessed, 0 to 255, under a policy by frequency.",
    ),
    object_row("HELP", "", object_help).flags(HELP).docs("6.2.0", "O(1)", "Lists the subcommands."),
    object_row("IDLETIME", "key", object_idletime).access(&["RO"]).tips(&["nondeterministic_output"]).docs(
        "2.2.3",
        "O(1)",
        "Replies the seconds since the last read or write.",
    ),
    object_row("REFCOUNT", "key", object_refcount).access(&["RO"]).tips(&["nondeterministic_output"]).docs(
        "2.2.3",
        "O(1)",
        "Replies 1: nothing is shared.",
    ),
];

const fn object_row(name: &'static str, usage: &'static str, handler: ReadHandler) -> Command {
    read(name, usage, handler).acl(acl::KEYSPACE)
}

fn lolwut(_: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if args.len() > 2 && args.is(1, "VERSION") {
        args.integer(2)?;
    }
    reply.verbatim("txt", format!("Redis ver. {REDIS_VERSION}\n").as_bytes());
    Ok(())
}

fn memory_help(_: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    help(
        reply,
        "MEMORY",
        &[
            "DOCTOR",
            "    Reports problems with memory.",
            "MALLOC-STATS",
            "    Shows the allocator's statistics, where it has any.",
            "PURGE",
            "    Asks the allocator to return free memory, which it does by itself.",
            "STATS",
            "    Shows what memory is used for.",
            "USAGE key [SAMPLES count]",
            "    Estimates the bytes of a key and its value.",
        ],
    )
}

fn memory_usage(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let mut options = args.options(3);
    while !options.is_done() {
        // The estimate is exact book-keeping: there is nothing to sample.
        if !options.take("SAMPLES") || options.integer()? < 0 {
            return Err(CommandError::SYNTAX);
        }
    }
    match view.peek(view.database(), args.word(2)) {
        Some(entry) if matches!(entry.value(), ValueRef::Hash(hash) if hash.len() > AT_ONCE) => {
            return Ok(usage_in_slices(args.word(2), entry.memory_bytes()));
        }
        Some(entry) => reply.integer((entry.memory_bytes() + entry.value().housed_bytes()) as i64),
        None => reply.null(),
    }
    Ok(Stage::Done)
}

/// The size of housed contents is the sum over the fields.
fn usage_in_slices(key: &[u8], own_bytes: usize) -> Stage {
    let key = key.to_vec();
    let job: Job = Box::new(move |looks| {
        let housed = sum_fields(looks, &key, |field| field.value.housed_bytes());
        let finish: Finish = Box::new(move |_, reply| {
            reply.integer((own_bytes + housed?) as i64);
            Ok(Rest::Nothing)
        });
        finish
    });
    Stage::Copy(job)
}

fn object_encoding(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let limits = view.encoding_limits();
    with_entry(view, args, reply, |entry, reply| {
        reply.bulk(entry.encoding(&limits).as_bytes());
        Ok(())
    })
}

fn object_freq(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    with_entry(view, args, reply, |entry, reply| {
        let count = view.access_count(entry).ok_or(CommandError::of(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when \
             switching between policies at runtime LRU and LFU data will take some time to adjust.",
        ))?;
        reply.integer(i64::from(count));
        Ok(())
    })
}

fn object_help(_: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    help(
        reply,
        "OBJECT",
        &[
            "ENCODING key",
            "    Names the encoding that Redis would choose.",
            "FREQ key",
            "    Replies how often the key is accessed, 0 to 255, under a policy by frequency.",
            "IDLETIME key",
            "    Replies the seconds since the last read or write.",
            "REFCOUNT key",
            "    Replies 1: nothing is shared.",
        ],
    )
}

fn object_idletime(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    with_entry(view, args, reply, |entry, reply| {
        if view.access_count(entry).is_some() {
            return Err(CommandError::of(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching \
                 between policies at runtime LRU and LFU data will take some time to adjust.",
            ));
        }
        reply.integer(view.idle_seconds(entry) as i64);
        Ok(())
    })
}

fn object_refcount(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    with_entry(view, args, reply, |_, reply| {
        reply.integer(1);
        Ok(())
    })
}

/// Replies null if the key is absent. This does not count as an access.
fn with_entry(
    view: &View<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
    show: impl FnOnce(&Entry, &mut dyn Reply) -> Outcome,
) -> Outcome {
    match view.peek(view.database(), args.word(2)) {
        Some(entry) => show(entry, reply),
        None => {
            reply.null();
            Ok(())
        }
    }
}

fn help(reply: &mut dyn Reply, container: &str, lines: &[&str]) -> Outcome {
    reply.array(1 + lines.len());
    reply.simple(&format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    lines.iter().for_each(|line| reply.simple(line));
    Ok(())
}
