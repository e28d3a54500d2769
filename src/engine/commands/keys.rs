//! Commands for keys of any type, and for whole databases.

use super::{ahead, copies, delete_key, exists};
use crate::command::{
    Args, Command, CommandError, Outcome, ReadHandler, Reply, WriteHandler, acl, flag, integer, read, write,
};
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::store::view::View;

const FLUSH: u32 = acl::KEYSPACE | acl::DANGEROUS;

pub const COMMANDS: &[Command] = &[
    write_row("COPY", "source destination [DB destination-db] [REPLACE]", copy, flag::DENY_OOM)
        .event("copy_to")
        .access(&["RO access", "OW update"])
        .docs("6.2.0", "O(N) for the size of the value", "Copies a value and its expiry to another key."),
    read_row("DBSIZE", "", dbsize, flag::FAST)
        .group("server")
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .docs("1.0.0", "O(1)", "Returns the number of keys in the database."),
    write_row("DEL", "key+", del, flag::FREES)
        .logs_words(2)
        .event("del")
        .access(&["RM delete"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .docs("1.0.0", "O(N) for N keys", "Deletes keys."),
    read_row("EXISTS", "key+", exists_command, flag::FAST)
        .access(&["RO"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .docs("1.0.0", "O(N) for N keys", "Returns how many of the given keys exist."),
    write_row("FLUSHALL", "[ASYNC|SYNC]", flushall, flag::FREES)
        .group("server")
        .acl(FLUSH)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs("1.0.0", "O(1); memory is freed in the background", "Removes all keys of all databases."),
    write_row("FLUSHDB", "[ASYNC|SYNC]", flushdb, flag::FREES)
        .group("server")
        .acl(FLUSH)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .docs("1.0.0", "O(1); memory is freed in the background", "Removes all keys of the database."),
    write_row("MOVE", "key db", move_key, flag::FAST).event("move_to").access(&["RW access update"]).docs(
        "1.0.0",
        "O(1)",
        "Moves a key to another database, unless it exists there.",
    ),
    write_row("RENAME", "key newkey", rename, 0)
        .event("rename_to")
        .access(&["RW access delete", "OW update"])
        .docs("1.0.0", "O(1)", "Renames a key, replacing an existing one."),
    write_row("RENAMENX", "key newkey", renamenx, flag::FAST)
        .event("rename_to")
        .access(&["RW access delete", "OW insert"])
        .docs("1.0.0", "O(1)", "Renames a key unless the new name exists."),
    write_row("SWAPDB", "index1 index2", swapdb, flag::FAST).group("server").acl(FLUSH).docs(
        "4.0.0",
        "O(1), and a pass over the watched keys",
        "Exchanges two databases.",
    ),
    read_row("TOUCH", "key+", touch, flag::FAST)
        .access(&["RO"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .docs(
            "3.2.1",
            "O(N) for N keys",
            "Returns how many of the given keys exist, and counts as an access to each.",
        ),
    read_row("TYPE", "key", type_command, flag::FAST).access(&["RO"]).docs(
        "1.0.0",
        "O(1)",
        "Returns the type of a value.",
    ),
    write_row("UNLINK", "key+", del, flag::FAST | flag::FREES)
        .logs_words(2)
        .event("del")
        .access(&["RM delete"])
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .docs(
            "4.0.0",
            "O(N) for N keys",
            "Deletes keys as DEL does; both free large values after the reply.",
        ),
];

const fn read_row(name: &'static str, usage: &'static str, handler: ReadHandler, flags: u32) -> Command {
    read(name, usage, handler).flags(flags).acl(acl::KEYSPACE)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler, flags: u32) -> Command {
    write(name, usage, handler).flags(flags).acl(acl::KEYSPACE)
}

const SAME_OBJECT: CommandError = CommandError::of("ERR source and destination objects are the same");

fn copy(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, to) = (args.word(1), args.word(2));
    let (mut to_database, mut replace) = (tx.database(), false);
    let mut options = args.options(3);
    while !options.is_done() {
        if options.take("REPLACE") {
            replace = true;
        } else if options.take("DB") {
            to_database = database_number(tx, options.word()?)?;
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    if to_database == tx.database() && key == to {
        return Err(SAME_OBJECT);
    }
    let (possible, making) = tx.read(|view| {
        let entry = view.peek(view.database(), key);
        let possible = entry.is_some() && (replace || view.peek(to_database, to).is_none());
        (possible, entry.filter(|_| possible).and_then(copies::of))
    });
    if let Some(making) = making
        && !tx.has_copy(key, || making(key))
    {
        return Ok(());
    }
    if possible {
        tx.apply(Effect::Copy { key, to, to_database });
    }
    reply.integer(i64::from(possible));
    Ok(())
}

/// Expired keys that are not deleted yet are counted, as in Redis, because the exact number would need a
/// walk.
fn dbsize(view: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.integer(view.whole_database().map_or(0, |database| database.len()) as i64);
    Ok(())
}

fn del(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let mut count = 0;
    for keys in args.from(1).chunks(super::AHEAD) {
        if keys.len() == super::AHEAD {
            tx.read(|view| view.prefetch(keys.iter().copied()));
        }
        count += keys.iter().filter(|key| delete_key(tx, key)).count();
    }
    reply.integer(count as i64);
    Ok(())
}

fn exists_command(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let groups = ahead(args.from(1), 1, |keys| view.prefetch(keys));
    reply.integer(groups.flatten().filter(|key| exists(view, key)).count() as i64);
    Ok(())
}

fn flushall(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    flush(tx, args, Effect::FlushAll, reply)
}

fn flushdb(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    flush(tx, args, Effect::Flush, reply)
}

fn move_key(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let to_database = database_number(tx, args.word(2))?;
    if to_database == tx.database() {
        return Err(SAME_OBJECT);
    }
    let possible = tx.read(|view| exists(view, key) && view.peek(to_database, key).is_none());
    if possible {
        tx.apply(Effect::Move { key, to_database });
    }
    reply.integer(i64::from(possible));
    Ok(())
}

fn rename(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, to) = (args.word(1), args.word(2));
    if !tx.read(|view| exists(view, key)) {
        return Err(CommandError::NO_SUCH_KEY);
    }
    if key != to {
        tx.apply(Effect::Rename { key, to });
    }
    reply.ok();
    Ok(())
}

fn renamenx(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, to) = (args.word(1), args.word(2));
    if !tx.read(|view| exists(view, key)) {
        return Err(CommandError::NO_SUCH_KEY);
    }
    let free = !tx.read(|view| exists(view, to));
    if free {
        tx.apply(Effect::Rename { key, to });
    }
    reply.integer(i64::from(free));
    Ok(())
}

fn swapdb(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let number = |index: usize, which: &str| {
        let number = args.integer(index).ok().and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| CommandError::new(format!("ERR invalid {which} DB index")))
    };
    let (first, second) = (number(1, "first")?, number(2, "second")?);
    let (first, second) = (database_in_range(tx, first)?, database_in_range(tx, second)?);
    if first != second {
        tx.apply(Effect::SwapDatabases { first, second });
    }
    reply.ok();
    Ok(())
}

fn touch(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let groups = ahead(args.from(1), 1, |keys| view.prefetch(keys));
    reply.integer(groups.flatten().filter(|key| view.entry(key).is_some()).count() as i64);
    Ok(())
}

fn type_command(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let entry = view.peek(view.database(), args.word(1));
    reply.simple(entry.map_or("none", |entry| entry.value().type_name()));
    Ok(())
}

fn database_number(tx: &mut Tx<'_>, word: &[u8]) -> Result<u32, CommandError> {
    let number = i32::try_from(integer(word)?);
    let number = number.map_err(|_| {
        CommandError::of("ERR value is out of range, value must between -2147483648 and 2147483647")
    })?;
    database_in_range(tx, number)
}

fn database_in_range(tx: &mut Tx<'_>, number: i32) -> Result<u32, CommandError> {
    let count = tx.read(|view| view.database_count());
    let number = u32::try_from(number).ok().filter(|&number| (number as usize) < count);
    number.ok_or(CommandError::DATABASE_OUT_OF_RANGE)
}

/// Empty databases are flushed too, because modules keep state in addition to keys.
fn flush(tx: &mut Tx<'_>, args: Args<'_>, effect: Effect<'_>, reply: &mut dyn Reply) -> Outcome {
    if args.len() > 2 || (args.len() == 2 && !args.is(1, "ASYNC") && !args.is(1, "SYNC")) {
        return Err(CommandError::SYNTAX);
    }
    tx.apply(effect);
    reply.ok();
    Ok(())
}
