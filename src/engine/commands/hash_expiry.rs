//! Fields of hashes with their own expiry, by the rules of Redis 7.4 and 8.
//!
//! Setting an expiry in the past deletes the field. Error texts differ between the commands as in Redis.

use super::expiry::ExpiryConditions;
use super::hashes::{delete_fields, fields_ahead, reply_value};
use crate::command::{
    Args, Command, CommandError, Outcome, ReadHandler, Reply, WriteHandler, acl, flag, integer, read,
    shown_word, write,
};
use crate::effect::{Cause, Effect, List};
use crate::hashing::HashMap;
use crate::store::tx::Tx;
use crate::store::view::{HashView, View};
use crate::types::Field;

pub const COMMANDS: &[Command] = &[
    write_row("HEXPIRE", "key seconds [NX|XX|GT|LT] FIELDS numfields field+", hexpire, 0)
        .event("hexpire")
        .docs("7.4.0", "O(N) for N fields", "Sets the expiry of fields in seconds from now."),
    write_row(
        "HEXPIREAT",
        "key unix-time-seconds [NX|XX|GT|LT] FIELDS numfields field+",
        hexpireat,
        0,
    )
    .event("hexpire")
    .docs("7.4.0", "O(N) for N fields", "Sets the expiry of fields in seconds since the epoch."),
    read_row("HEXPIRETIME", "key FIELDS numfields field+", hexpiretime).docs(
        "7.4.0",
        "O(N) for N fields",
        "Returns the expiry of fields in seconds since the epoch.",
    ),
    write_row("HGETDEL", "key FIELDS numfields field+", hgetdel, flag::FREES).event("hdel").access(&["RW access delete"]).docs(
        "8.0.0",
        "O(N) for N fields",
        "Returns the values of fields and deletes the fields.",
    ),
    write_row(
        "HGETEX",
        "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST] \
         FIELDS numfields field+",
        hgetex,
        0,
    )
    .event("hexpire")
    .access(&["RW access update"]).docs("8.0.0", "O(N) for N fields", "Returns the values of fields and changes their expiry."),
    write_row("HPERSIST", "key FIELDS numfields field+", hpersist, 0).event("hpersist").docs(
        "7.4.0",
        "O(N) for N fields",
        "Removes the expiry of fields.",
    ),
    write_row("HPEXPIRE", "key milliseconds [NX|XX|GT|LT] FIELDS numfields field+", hpexpire, 0)
        .event("hexpire")
        .docs("7.4.0", "O(N) for N fields", "Sets the expiry of fields in milliseconds from now."),
    write_row(
        "HPEXPIREAT",
        "key unix-time-milliseconds [NX|XX|GT|LT] FIELDS numfields field+",
        hpexpireat,
        0,
    )
    .event("hexpire")
    .docs("7.4.0", "O(N) for N fields", "Sets the expiry of fields in milliseconds since the epoch."),
    read_row("HPEXPIRETIME", "key FIELDS numfields field+", hpexpiretime).docs(
        "7.4.0",
        "O(N) for N fields",
        "Returns the expiry of fields in milliseconds since the epoch.",
    ),
    read_row("HPTTL", "key FIELDS numfields field+", hpttl).tips(&["nondeterministic_output"]).docs(
        "7.4.0",
        "O(N) for N fields",
        "Returns the time to live of fields in milliseconds.",
    ),
    write_row(
        "HSETEX",
        "key [FNX|FXX] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL] \
         FIELDS numfields (field value)+",
        hsetex,
        flag::DENY_OOM,
    )
    .event("hset")
    .docs("8.0.0", "O(N) for N fields", "Sets fields and their expiry."),
    read_row("HTTL", "key FIELDS numfields field+", httl).tips(&["nondeterministic_output"]).docs(
        "7.4.0",
        "O(N) for N fields",
        "Returns the time to live of fields in seconds.",
    ),
];

const fn read_row(name: &'static str, usage: &'static str, handler: ReadHandler) -> Command {
    read(name, usage, handler).group("hash").flags(flag::FAST).acl(acl::HASH)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler, flags: u32) -> Command {
    write(name, usage, handler).group("hash").flags(flag::FAST | flags).acl(acl::HASH)
}

/// Redis reserves two bits of a field's 48-bit expiry.
const EXPIRES_AT_MS_MAX: i64 = (1 << 46) - 1;
/// Reply codes for one field.
const NO_SUCH_FIELD: i64 = -2;
const NO_EXPIRY: i64 = -1;
const NOT_SET: i64 = 0;
const SET: i64 = 1;
const DELETED: i64 = 2;

fn hexpire(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    expire_fields(tx, args, "hexpire", SECONDS_FROM_NOW, reply)
}

fn hexpireat(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    expire_fields(tx, args, "hexpireat", SECONDS, reply)
}

fn hexpiretime(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_times(view, args, reply, seconds)
}

fn hgetdel(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let deleted = tx.read(|view| {
        let hash = view.hash(key)?;
        let names = named_fields(args, 2, NOT_POSITIVE)?;
        let mut fields = ChangedFields::new(hash, names);
        reply.array(names.len());
        for name in fields_ahead(hash, names) {
            let field = fields.get(name);
            reply_value(reply, field);
            if field.is_some() {
                fields.change(name, None);
            }
        }
        Ok(fields.names)
    })?;
    if !deleted.is_empty() {
        tx.apply(Effect::HashDelete { key, fields: List::Arguments(&deleted), cause: Cause::Command });
    }
    Ok(())
}

fn hgetex(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, now_ms) = (args.word(1), tx.now_ms());
    let (changed, expires_at_ms) = tx.read(|view| {
        let hash = view.hash(key)?;
        // At most one option, followed directly by FIELDS.
        let unit = UNITS.iter().find(|(keyword, _)| args.is(2, keyword));
        let expires_at_ms = unit.map(|(_, unit)| unit.at_ms(args.word(3), now_ms, "hgetex")).transpose()?;
        let persist = args.is(2, "PERSIST");
        let fields_at = 2 + if unit.is_some() { 2 } else { usize::from(persist) };
        if args.len() < fields_at + 2 {
            return Err(CommandError::wrong_arity("hgetex"));
        }
        let names = named_fields(args, fields_at, NOT_POSITIVE)?;
        reply.array(names.len());
        let mut fields = ChangedFields::new(hash, names);
        for name in fields_ahead(hash, names) {
            let field = fields.get(name);
            reply_value(reply, field);
            let Some(field) = field else { continue };
            match expires_at_ms {
                Some(at_ms) => fields.change(name, expiry_at(at_ms, now_ms)),
                None if persist && field.expires_at_ms != 0 => fields.change(name, Some(0)),
                None => {}
            }
        }
        Ok((fields.names, expires_at_ms))
    })?;
    if !changed.is_empty() {
        set_expiries(tx, key, &changed, expires_at_ms.unwrap_or(0));
    }
    Ok(())
}

fn hpersist(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let changed = tx.read(|view| {
        let hash = view.hash(key)?;
        let names = named_fields(args, 2, NOT_POSITIVE)?;
        let mut fields = ChangedFields::new(hash, names);
        reply.array(names.len());
        for name in fields_ahead(hash, names) {
            reply.integer(match fields.get(name) {
                None => NO_SUCH_FIELD,
                Some(Field { expires_at_ms: 0, .. }) => NO_EXPIRY,
                Some(_) => {
                    fields.change(name, Some(0));
                    SET
                }
            });
        }
        Ok(fields.names)
    })?;
    if !changed.is_empty() {
        set_expiries(tx, key, &changed, 0);
    }
    Ok(())
}

fn hpexpire(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    expire_fields(tx, args, "hpexpire", MILLISECONDS_FROM_NOW, reply)
}

fn hpexpireat(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    expire_fields(tx, args, "hpexpireat", MILLISECONDS, reply)
}

fn hpexpiretime(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_times(view, args, reply, |at_ms| at_ms)
}

fn hpttl(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_times(view, args, reply, |at_ms| at_ms - view.now_ms())
}

fn hsetex(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let options = FieldOptions::parse(args, tx.now_ms())?;
    let expires_at_ms = options.expires_at_ms;
    let names: Vec<&[u8]> = options.fields.iter().step_by(2).copied().collect();
    let sets = tx.read(|view| {
        let hash = view.hash(key)?;
        let present = |name: &&[u8]| hash.is_some_and(|hash| hash.get(name).is_some());
        Ok(!(options.only_absent && names.iter().any(present)
            || options.only_present && !names.iter().all(present)))
    })?;
    if sets && expires_at_ms.is_some_and(|at_ms| at_ms <= tx.now_ms()) {
        tx.notify("hset", key);
        tx.event("hdel");
        if delete_fields(tx, key, &names, Cause::Expired)? == 0 {
            tx.notify("hdel", key);
            if tx.read(|view| view.peek(view.database(), key).is_none()) {
                tx.notify("del", key);
            }
        }
    } else if sets {
        let fields = List::Arguments(options.fields);
        let effect = Effect::HashSet { key, fields, keep_expiry: options.keep_expiry };
        if !tx.foresees_fields(&effect, options.fields) {
            return Ok(());
        }
        tx.apply(effect);
        if let Some(expires_at_ms) = expires_at_ms {
            tx.event("hexpire");
            tx.apply(Effect::HashExpire { key, fields: List::Arguments(&names), expires_at_ms });
        }
    }
    reply.integer(i64::from(sets));
    Ok(())
}

fn httl(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_times(view, args, reply, |at_ms| seconds(at_ms - view.now_ms()))
}

/// The unit in which a command's time is given.
#[derive(Clone, Copy, Debug)]
struct Unit {
    ms: i64,
    from_now: bool,
}

const SECONDS: Unit = Unit { ms: 1000, from_now: false };
const SECONDS_FROM_NOW: Unit = Unit { ms: 1000, from_now: true };
const MILLISECONDS: Unit = Unit { ms: 1, from_now: false };
const MILLISECONDS_FROM_NOW: Unit = Unit { ms: 1, from_now: true };

impl Unit {
    /// Milliseconds since the epoch; may be in the past.
    fn at_ms(&self, word: &[u8], now_ms: u64, command: &str) -> Result<u64, CommandError> {
        let number = integer(word)?;
        if number < 0 {
            return Err(CommandError::of("ERR invalid expire time, must be >= 0"));
        }
        let start_ms = if self.from_now { now_ms as i64 } else { 0 };
        let at_ms = number.checked_mul(self.ms).and_then(|ms| ms.checked_add(start_ms));
        let at_ms = at_ms.filter(|&at_ms| at_ms <= EXPIRES_AT_MS_MAX);
        // 0 would mean never. A time of one millisecond after the epoch has passed as well.
        at_ms.map(|at_ms| at_ms.max(1) as u64).ok_or_else(|| CommandError::invalid_expire_time(command))
    }
}

const NOT_POSITIVE: CommandError = CommandError::of("ERR Number of fields must be a positive integer");

/// The names after `FIELDS numfields`; FIELDS is word `at`.
fn named_fields<'a>(
    args: Args<'a>,
    at: usize,
    not_positive: CommandError,
) -> Result<&'a [&'a [u8]], CommandError> {
    if !args.is(at, "FIELDS") {
        let text = "ERR Mandatory argument FIELDS is missing or not at the right position";
        return Err(CommandError::of(text));
    }
    let count = integer(args.word(at + 1)).ok().filter(|&count| count > 0).ok_or(not_positive)?;
    let names = args.from(at + 2);
    if count != names.len() as i64 {
        let text = "ERR The `numfields` parameter must match the number of arguments";
        return Err(CommandError::of(text));
    }
    Ok(names)
}

/// HEXPIRE, HPEXPIRE, HEXPIREAT and HPEXPIREAT.
fn expire_fields(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    command: &str,
    unit: Unit,
    reply: &mut dyn Reply,
) -> Outcome {
    let (key, now_ms) = (args.word(1), tx.now_ms());
    let (names, at_ms) = tx.read(|view| {
        let hash = view.hash(key)?;
        let at_ms = unit.at_ms(args.word(2), now_ms, command)?;
        let mut conditions = ExpiryConditions::default();
        let fields_at = if conditions.add(args.word(3)) { 4 } else { 3 };
        let not_positive = CommandError::of("ERR Parameter `numFields` should be greater than 0");
        let names = named_fields(args, fields_at, not_positive)?;
        let mut fields = ChangedFields::new(hash, names);
        reply.array(names.len());
        for name in fields_ahead(hash, names) {
            reply.integer(match fields.get(name) {
                None => NO_SUCH_FIELD,
                Some(field) if !conditions.hold(field.expires_at_ms, at_ms as i64) => NOT_SET,
                Some(_) => {
                    let expiry = expiry_at(at_ms, now_ms);
                    fields.change(name, expiry);
                    if expiry.is_some() { SET } else { DELETED }
                }
            });
        }
        Ok((fields.names, at_ms))
    })?;
    if !names.is_empty() {
        set_expiries(tx, key, &names, at_ms);
    }
    Ok(())
}

/// The fields that a command names and changes. A name can occur more than once: each occurrence sees what
/// the ones before it have done.
struct ChangedFields<'v, 'w> {
    hash: Option<HashView<'v>>,
    /// What became of each field that was changed: its expiry, or `None` if it was deleted. Empty where only
    /// one name is given, which no other can repeat.
    changes: HashMap<&'w [u8], Option<u64>>,
    is_single: bool,
    /// The fields that were changed, each once.
    names: Vec<&'w [u8]>,
}

impl<'v, 'w> ChangedFields<'v, 'w> {
    fn new(hash: Option<HashView<'v>>, names: &[&[u8]]) -> ChangedFields<'v, 'w> {
        let is_single = names.len() == 1;
        ChangedFields { hash, changes: HashMap::default(), is_single, names: Vec::new() }
    }

    /// The field as the occurrences before have left it.
    fn get(&self, name: &[u8]) -> Option<Field<'v>> {
        let field = self.hash?.get(name)?;
        match self.changes.get(name) {
            None => Some(field),
            Some(change) => change.map(|expires_at_ms| Field { expires_at_ms, ..field }),
        }
    }

    /// Notes what becomes of a field that is there: its expiry, or `None` if it is deleted.
    fn change(&mut self, name: &'w [u8], expires_at_ms: Option<u64>) {
        if self.is_single || self.changes.insert(name, expires_at_ms).is_none() {
            self.names.push(name);
        }
    }
}

/// The expiry of a field that is set to this time; `None` if the time has passed, which deletes the field.
fn expiry_at(at_ms: u64, now_ms: u64) -> Option<u64> {
    Some(at_ms).filter(|&at_ms| at_ms > now_ms)
}

/// Sets the expiry of existing fields (0 removes it); a time in the past deletes them.
fn set_expiries(tx: &mut Tx<'_>, key: &[u8], names: &[&[u8]], expires_at_ms: u64) {
    let fields = List::Arguments(names);
    if expires_at_ms != 0 && expires_at_ms <= tx.now_ms() {
        tx.event("hdel");
        tx.apply(Effect::HashDelete { key, fields, cause: Cause::Expired });
    } else {
        tx.event(if expires_at_ms == 0 { "hpersist" } else { "hexpire" });
        tx.apply(Effect::HashExpire { key, fields, expires_at_ms });
    }
}

fn reply_times(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply, show: impl Fn(u64) -> u64) -> Outcome {
    let hash = view.hash(args.word(1))?;
    let names = named_fields(args, 2, NOT_POSITIVE)?;
    reply.array(names.len());
    for name in fields_ahead(hash, names) {
        reply.integer(match hash.and_then(|hash| hash.get(name)) {
            None => NO_SUCH_FIELD,
            Some(Field { expires_at_ms: 0, .. }) => NO_EXPIRY,
            Some(field) => show(field.expires_at_ms) as i64,
        });
    }
    Ok(())
}

/// Rounded up, unlike the expiry of keys.
fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000)
}

/// The options with a time, of HGETEX and HSETEX.
const UNITS: [(&str, Unit); 4] =
    [("EX", SECONDS_FROM_NOW), ("PX", MILLISECONDS_FROM_NOW), ("EXAT", SECONDS), ("PXAT", MILLISECONDS)];

/// HSETEX's options between the key and the fields, in any order, and the fields with their values.
#[derive(Default)]
struct FieldOptions<'a> {
    only_absent: bool,
    only_present: bool,
    keep_expiry: bool,
    expires_at_ms: Option<u64>,
    fields: &'a [&'a [u8]],
}

impl<'a> FieldOptions<'a> {
    fn parse(args: Args<'a>, now_ms: u64) -> Result<FieldOptions<'a>, CommandError> {
        let mut parsed = FieldOptions::default();
        let mut options = args.options(2);
        while !options.take("FIELDS") {
            if let Some((_, unit)) = UNITS.iter().find(|(keyword, _)| options.take(keyword)) {
                parsed.check_single_expiry()?;
                let word = options.word().map_err(|_| CommandError::of("ERR missing expire time"))?;
                parsed.expires_at_ms = Some(unit.at_ms(word, now_ms, "hsetex")?);
            } else if options.take("KEEPTTL") {
                parsed.check_single_expiry()?;
                parsed.keep_expiry = true;
            } else if options.take("FNX") {
                parsed.check_single_condition()?;
                parsed.only_absent = true;
            } else if options.take("FXX") {
                parsed.check_single_condition()?;
                parsed.only_present = true;
            } else {
                return Err(match options.peek() {
                    Some(word) => {
                        CommandError::of_parts(&[b"ERR unknown argument: ", shown_word(word, usize::MAX)])
                    }
                    None => CommandError::wrong_arity("hsetex"),
                });
            }
        }
        parsed.fields = counted_pairs(args, options.index())?;
        Ok(parsed)
    }

    fn check_single_expiry(&self) -> Outcome {
        match self.expires_at_ms.is_some() || self.keep_expiry {
            true => Err(CommandError::of(
                "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
            )),
            false => Ok(()),
        }
    }

    fn check_single_condition(&self) -> Outcome {
        match self.only_absent || self.only_present {
            true => Err(CommandError::of("ERR Only one of FXX or FNX arguments can be specified")),
            false => Ok(()),
        }
    }
}

/// The names and values after `numfields`, which is word `at`.
fn counted_pairs<'a>(args: Args<'a>, at: usize) -> Result<&'a [&'a [u8]], CommandError> {
    let wrong_arity = || CommandError::wrong_arity("hsetex");
    let fields = args.get(at + 1..).filter(|fields| !fields.is_empty()).ok_or_else(wrong_arity)?;
    let count = integer(args.word(at)).ok().and_then(|count| i32::try_from(count).ok());
    let count = count.filter(|&count| count > 0).ok_or(CommandError::of("ERR invalid number of fields"))?;
    if fields.len() != count as usize * 2 {
        return Err(wrong_arity());
    }
    Ok(args.from(at + 1))
}
