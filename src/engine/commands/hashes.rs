//! Hash commands. Those for the expiry of fields are in `hash_expiry.rs`.

use super::random_picks::{draw, parse_random};
use super::scan::{ScanFound, ScanOf, ScanOptions, parse_cursor};
use super::slices::{AT_ONCE, Copied, Parts, copy_fields, sum_fields};
use crate::command::{
    Args, Command, CommandError, Finish, Job, Outcome, ReadHandler, Reply, Rest, Stage, StagedHandler,
    WriteHandler, acl, flag, read, sliced, write,
};
use crate::effect::{Cause, Effect, List};
use crate::hashing::{HashSet, HashState};
use crate::store::tx::Tx;
use crate::store::view::{HashView, View};
use crate::types::{Field, add_decimals, parse_double};

const COUNTING: u32 = flag::DENY_OOM | flag::FAST;

pub const COMMANDS: &[Command] = &[
    write_row("HDEL", "key field+", hdel, flag::FAST | flag::FREES)
        .logs_words(2)
        .event("hdel")
        .access(&["RW delete"])
        .docs("2.0.0", "O(N) for N fields", "Deletes fields, and the hash together with its last field."),
    read_row("HEXISTS", "key field", hexists, flag::FAST).access(&["RO"]).docs(
        "2.0.0",
        "O(1)",
        "Returns whether a field exists.",
    ),
    read_row("HGET", "key field", hget, flag::FAST).docs("2.0.0", "O(1)", "Returns the value of a field."),
    sliced_row("HGETALL", "key", hgetall, 0).tips(&["nondeterministic_output_order"]).docs(
        "2.0.0",
        "O(N) for N fields in the hash",
        "Returns all fields with their values.",
    ),
    write_row("HINCRBY", "key field increment", hincrby, COUNTING)
        .event("hincrby")
        .access(&["RW access update"])
        .docs("2.0.0", "O(1)", "Adds a number to an integer field; an absent one counts as 0."),
    write_row("HINCRBYFLOAT", "key field increment", hincrbyfloat, COUNTING)
        .event("hincrbyfloat")
        .access(&["RW access update"])
        .docs("2.6.0", "O(1)", "Adds a decimal number to a numeric field; an absent one counts as 0."),
    sliced_row("HKEYS", "key", hkeys, 0).tips(&["nondeterministic_output_order"]).docs(
        "2.0.0",
        "O(N) for N fields in the hash",
        "Returns all field names.",
    ),
    sliced_row("HLEN", "key", hlen, flag::FAST).access(&["RO"]).docs(
        "2.0.0",
        "O(1); O(N) for N fields if some of them expire",
        "Returns the number of fields.",
    ),
    read_row("HMGET", "key field+", hmget, flag::FAST).docs(
        "2.0.0",
        "O(N) for N named fields",
        "Returns the values of several fields.",
    ),
    write_row("HMSET", "key (field value)+", hmset, COUNTING).logs_words(2).event("hset").docs(
        "2.0.0",
        "O(N) for N fields",
        "Sets fields as HSET does, and returns OK.",
    ),
    sliced_row("HRANDFIELD", "key [count [WITHVALUES]]", hrandfield, 0)
        .tips(&["nondeterministic_output"])
        .docs(
            "6.2.0",
            "O(N) for N fields in the reply; O(M) for M fields in the hash if N is large compared with M",
            "Returns random fields.",
        ),
    sliced_row("HSCAN", "key cursor [MATCH pattern] [COUNT count] [NOVALUES]", hscan, 0)
        .tips(&["nondeterministic_output"])
        .docs(
            "2.8.0",
            "O(1) a call, O(N) for a whole walk over N fields",
            "Walks over the fields of a hash in steps.",
        ),
    write_row("HSET", "key (field value)+", hset, COUNTING).logs_words(2).event("hset").docs(
        "2.0.0",
        "O(N) for N fields",
        "Sets fields; creates the hash if the key is absent.",
    ),
    write_row("HSETNX", "key field value", hsetnx, COUNTING)
        .logs_words(2)
        .event("hset")
        .access(&["RW insert"])
        .docs("2.0.0", "O(1)", "Sets a field unless it exists."),
    read_row("HSTRLEN", "key field", hstrlen, flag::FAST).access(&["RO"]).docs(
        "3.2.0",
        "O(1)",
        "Returns the length of a field's value in bytes.",
    ),
    sliced_row("HVALS", "key", hvals, 0).tips(&["nondeterministic_output_order"]).docs(
        "2.0.0",
        "O(N) for N fields in the hash",
        "Returns all values.",
    ),
];

const fn read_row(name: &'static str, usage: &'static str, handler: ReadHandler, flags: u32) -> Command {
    read(name, usage, handler).group("hash").flags(flags).acl(acl::HASH)
}

const fn sliced_row(name: &'static str, usage: &'static str, handler: StagedHandler, flags: u32) -> Command {
    sliced(name, usage, handler).group("hash").flags(flags).acl(acl::HASH)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler, flags: u32) -> Command {
    write(name, usage, handler).group("hash").flags(flags).acl(acl::HASH)
}

fn hdel(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let count = delete_fields(tx, args.word(1), args.from(2), Cause::Command)?;
    reply.integer(count as i64);
    Ok(())
}

fn hexists(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.integer(i64::from(field(view, args)?.is_some()));
    Ok(())
}

fn hget(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_value(reply, field(view, args)?);
    Ok(())
}

fn hgetall(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let hash = view.hash(args.word(1))?;
    if is_long(hash) {
        let parts = Parts { names: true, values: true };
        return Ok(copy(args.word(1), parts, |fields, reply| {
            reply.map(fields.len() / 2);
            fields.write_all(reply);
        }));
    }
    reply.map(hash.map_or(0, |hash| hash.len()));
    for field in hash.iter().flat_map(HashView::iter) {
        reply.bulk(field.name);
        reply.string(field.value);
    }
    Ok(Stage::Done)
}

fn hincrby(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let by = args.integer(3)?;
    let value = tx.read(|view| match field(view, args)? {
        Some(field) => field.value.as_integer().ok_or(CommandError::of("ERR hash value is not an integer")),
        None => Ok(0),
    })?;
    let sum = value.checked_add(by);
    let sum = sum.ok_or(CommandError::of("ERR increment or decrement would overflow"))?;
    count_up(tx, args, itoa::Buffer::new().format(sum).as_bytes());
    reply.integer(sum);
    Ok(())
}

fn hincrbyfloat(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if args.double(3)?.is_infinite() {
        return Err(CommandError::of("ERR value is NaN or Infinity"));
    }
    let sum = tx.read(|view| {
        let add = |value: &[u8]| {
            parse_double(value).ok_or(CommandError::of("ERR hash value is not a float"))?;
            let sum = add_decimals(value, args.word(3));
            sum.ok_or(CommandError::of("ERR increment would produce NaN or Infinity"))
        };
        match field(view, args)? {
            Some(field) => field.value.with_bytes(add),
            None => add(b"0"),
        }
    })?;
    count_up(tx, args, sum.as_bytes());
    reply.bulk(sum.as_bytes());
    Ok(())
}

fn hkeys(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let hash = view.hash(args.word(1))?;
    if is_long(hash) {
        return Ok(copy(args.word(1), Parts { names: true, values: false }, write_list));
    }
    reply.array(hash.map_or(0, |hash| hash.len()));
    hash.iter().flat_map(HashView::iter).for_each(|field| reply.bulk(field.name));
    Ok(Stage::Done)
}

fn hlen(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let hash = view.hash(args.word(1))?;
    if is_long(hash) && hash.is_some_and(|hash| hash.expiring() > 0) {
        let key = args.word(1).to_vec();
        let job: Job = Box::new(move |looks| {
            let count = sum_fields(looks, &key, |_| 1);
            let finish: Finish = Box::new(move |_, reply| {
                reply.integer(count? as i64);
                Ok(Rest::Nothing)
            });
            finish
        });
        return Ok(Stage::Copy(job));
    }
    reply.integer(hash.map_or(0, |hash| hash.len()) as i64);
    Ok(Stage::Done)
}

fn hmget(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let hash = view.hash(args.word(1))?;
    reply.array(args.len() - 2);
    for name in fields_ahead(hash, args.from(2)) {
        reply_value(reply, hash.and_then(|hash| hash.get(name)));
    }
    Ok(())
}

/// The names, after prefetching the memory that their lookups read.
pub fn fields_ahead<'h, 'w>(
    hash: Option<HashView<'h>>,
    names: &'w [&'w [u8]],
) -> impl Iterator<Item = &'w &'w [u8]> + use<'h, 'w> {
    let prefetch = move |names: &mut dyn Iterator<Item = &'w [u8]>| {
        if let Some(hash) = hash {
            hash.prefetch(names);
        }
    };
    super::ahead(names, 1, prefetch).flatten()
}

fn hmset(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if set_fields(tx, args, "hmset")?.is_some() {
        reply.ok();
    }
    Ok(())
}

fn hrandfield(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    if args.len() == 2 {
        let picked = view.hash(args.word(1))?.and_then(|hash| sample(view, hash));
        reply.optional_bulk(picked.map(|field| field.name));
        return Ok(Stage::Done);
    }
    let (count, with_values) = parse_random(args, "WITHVALUES")?;
    if view.hash(args.word(1))?.is_some_and(|hash| is_long_pick(hash, count)) {
        return Ok(pick_from_copy(view, args.word(1), count, with_values));
    }
    let picked = match view.hash(args.word(1))? {
        Some(hash) if count < 0 => (0..count.unsigned_abs()).filter_map(|_| sample(view, hash)).collect(),
        Some(hash) => pick_distinct(view, hash, count as usize),
        None => Vec::new(),
    };
    let nested = with_values && reply.is_resp3();
    reply.array(picked.len() * if with_values && !nested { 2 } else { 1 });
    for field in picked {
        if nested {
            reply.array(2);
        }
        reply.bulk(field.name);
        if with_values {
            reply.string(field.value);
        }
    }
    Ok(Stage::Done)
}

fn hscan(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let cursor = parse_cursor(args.word(2))?;
    let Some(hash) = view.hash(args.word(1))? else {
        reply.array(2);
        reply.bulk(b"0");
        reply.array(0);
        return Ok(Stage::Done);
    };
    let options = ScanOptions::parse(args.options(3), ScanOf::Fields)?;
    if options.count > AT_ONCE && is_long(Some(hash)) {
        return Ok(scan_in_slices(args.word(1), cursor, &options));
    }
    let mut found = ScanFound::default();
    let next = hash.scan(cursor, options.count, &mut |field| found.field(&options, field));
    found.write(next, reply);
    Ok(Stage::Done)
}

/// HSCAN with a large count: its result need not be consistent as of one moment.
fn scan_in_slices(key: &[u8], cursor: u64, options: &ScanOptions<'_>) -> Stage {
    let (key, options) = (key.to_vec(), options.to_owned());
    let job: Job = Box::new(move |looks| {
        let (mut next, mut found) = (cursor, ScanFound::default());
        found.in_slices(looks, options.count, |count, found| {
            looks.look(&mut |view| {
                // A deleted key, or one of another type, ends the walk.
                let hash = view.hash(&key).ok().flatten();
                next = hash.map_or(0, |hash| {
                    hash.scan(next, count, &mut |field| found.field(&options.borrow(), field))
                });
            });
            next != 0
        });
        let finish: Finish =
            Box::new(move |_, _| Ok(Rest::Write(Box::new(move |reply| found.write(next, reply)))));
        finish
    });
    Stage::Copy(job)
}

fn hset(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if let Some(created) = set_fields(tx, args, "hset")? {
        reply.integer(created as i64);
    }
    Ok(())
}

fn hsetnx(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let free = tx.read(|view| Ok(field(view, args)?.is_none()))?;
    if free {
        let fields = List::Arguments(args.from(2));
        let effect = Effect::HashSet { key: args.word(1), fields, keep_expiry: false };
        if !tx.foresees_fields(&effect, args.from(2)) {
            return Ok(());
        }
        tx.apply(effect);
    }
    reply.integer(i64::from(free));
    Ok(())
}

fn hstrlen(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.integer(field(view, args)?.map_or(0, |field| field.value.len()) as i64);
    Ok(())
}

fn hvals(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let hash = view.hash(args.word(1))?;
    if is_long(hash) {
        return Ok(copy(args.word(1), Parts { names: false, values: true }, write_list));
    }
    reply.array(hash.map_or(0, |hash| hash.len()));
    for field in hash.iter().flat_map(HashView::iter) {
        reply.string(field.value);
    }
    Ok(Stage::Done)
}

/// Whether reading the whole hash would delay other clients.
fn is_long(hash: Option<HashView<'_>>) -> bool {
    hash.is_some_and(|hash| hash.stored() > AT_ONCE)
}

/// Copies a long hash in slices, and writes the copy.
fn copy(key: &[u8], parts: Parts, write: fn(Copied, &mut dyn Reply)) -> Stage {
    let key = key.to_vec();
    let job: Job = Box::new(move |looks| {
        let copied = copy_fields(looks, &key, parts, looks.room());
        let finish: Finish = Box::new(move |_, _| {
            let copied = copied?;
            Ok(Rest::Write(Box::new(move |reply| write(copied, reply))))
        });
        finish
    });
    Stage::Copy(job)
}

fn write_list(copied: Copied, reply: &mut dyn Reply) {
    reply.array(copied.len());
    copied.write_all(reply);
}

/// The field named by word 2 in the hash named by word 1.
fn field<'v>(view: &View<'v>, args: Args<'_>) -> Result<Option<Field<'v>>, CommandError> {
    Ok(view.hash(args.word(1))?.and_then(|hash| hash.get(args.word(2))))
}

pub fn reply_value(reply: &mut dyn Reply, field: Option<Field<'_>>) {
    match field {
        Some(field) => reply.string(field.value),
        None => reply.null(),
    }
}

/// Deletes the existing fields among `names`; returns their number.
pub fn delete_fields(
    tx: &mut Tx<'_>,
    key: &[u8],
    names: &[&[u8]],
    cause: Cause,
) -> Result<usize, CommandError> {
    let any = tx.read(|view| {
        let hash = view.hash(key)?;
        Ok(hash.is_some_and(|hash| names.iter().any(|name| hash.get(name).is_some())))
    })?;
    Ok(if any { tx.apply(Effect::HashDelete { key, fields: List::Arguments(names), cause }) } else { 0 })
}

/// HSET and HMSET: returns the number of new fields; `None` if the command must return, and will run again.
fn set_fields(tx: &mut Tx<'_>, args: Args<'_>, command: &str) -> Result<Option<usize>, CommandError> {
    let (key, fields) = (args.word(1), args.from(2));
    if !fields.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity(command));
    }
    tx.read(|view| view.hash(key).map(|_| ()))?;
    let effect = Effect::HashSet { key, fields: List::Arguments(fields), keep_expiry: false };
    if !tx.foresees_fields(&effect, fields) {
        return Ok(None);
    }
    Ok(Some(tx.apply(effect)))
}

/// Sets a counter field; its expiry stays.
fn count_up(tx: &mut Tx<'_>, args: Args<'_>, value: &[u8]) {
    let fields = List::Arguments(&[args.word(2), value]);
    tx.apply(Effect::HashSet { key: args.word(1), fields, keep_expiry: true });
}

/// Whether HRANDFIELD examines many fields: because it picks many, or has to know all of them to pick some.
fn is_long_pick(hash: HashView<'_>, count: i64) -> bool {
    let picks = count.unsigned_abs() as usize;
    let needs_all = count > 0 && (picks >= hash.stored() / 4 || hash.expiring() > 0);
    picks > AT_ONCE || (needs_all && hash.stored() > AT_ONCE)
}

/// HRANDFIELD from a copy of the hash, without any lock.
fn pick_from_copy(view: &View<'_>, key: &[u8], count: i64, with_values: bool) -> Stage {
    let (key, random) = (key.to_vec(), view.random_source());
    let job: Job = Box::new(move |looks| {
        let fields = copy_fields(looks, &key, Parts { names: true, values: with_values }, usize::MAX);
        let finish: Finish = Box::new(move |_, _| {
            let fields = fields?;
            Ok(Rest::Write(Box::new(move |reply| {
                write_picked(&fields, count, with_values, reply, &|| random.next_u64());
            })))
        });
        finish
    });
    Stage::Copy(job)
}

fn write_picked(
    fields: &Copied,
    count: i64,
    with_values: bool,
    reply: &mut dyn Reply,
    random: &dyn Fn() -> u64,
) {
    let each = if with_values { 2 } else { 1 };
    let length = fields.len() / each;
    let repeats = count < 0 && length > 0;
    let picks = if repeats { count.unsigned_abs() as usize } else { length.min(count.max(0) as usize) };
    let nested = with_values && reply.is_resp3();
    reply.array(picks * if nested { 1 } else { each });
    let mut write = |at: usize| {
        if nested {
            reply.array(2);
        }
        (at * each..(at + 1) * each).for_each(|at| fields.write(at, reply));
    };
    if repeats {
        (0..picks).for_each(|_| write((random() % length as u64) as usize));
        return;
    }
    let mut order: Vec<usize> = (0..length).collect();
    draw(&mut order, picks, random);
    order.into_iter().for_each(write);
}

/// A random field of the hash, which has at least one.
fn sample<'v>(view: &View<'_>, hash: HashView<'v>) -> Option<Field<'v>> {
    const TRIES: usize = 100;
    let sampled = (0..TRIES).find_map(|_| hash.sample(view.random(), view.random()));
    // If nearly all fields have expired, random draws may miss the others.
    sampled.or_else(|| hash.iter().next())
}

/// Up to `count` distinct fields.
fn pick_distinct<'v>(view: &View<'_>, hash: HashView<'v>, count: usize) -> Vec<Field<'v>> {
    let length = hash.len();
    if count < length / 4 && hash.expiring() == 0 {
        // Few of many: most picks are new.
        let mut picked = Vec::with_capacity(count);
        let mut seen = HashSet::with_capacity_and_hasher(count, HashState::default());
        while picked.len() < count {
            let field = sample(view, hash).expect("a hash has a field");
            if seen.insert(field.name) {
                picked.push(field);
            }
        }
        return picked;
    }
    let mut fields: Vec<Field<'_>> = hash.iter().collect();
    draw(&mut fields, count, &|| view.random());
    fields
}
