//! String commands: reading, setting, counting.

use super::comparing::StringComparison;
use super::expiry_option::ExpiryOption;
use super::{ahead, copies, delete_key, exists, string_of};
use crate::command::{Args, Command, CommandError, Outcome, Reply, acl, flag, integer, read, sliced, write};
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{add_decimals, parse_double};

pub const COMMANDS: &[Command] = &[
    write_row("APPEND", "key value", append, flag::DENY_OOM | flag::FAST).logs_words(1).event("append").access(&["RW insert"]).docs(
        "2.0.0",
        "O(1) amortised",
        "Appends bytes to a string, which is created if the key is absent.",
    ),
    write_row("DECR", "key", decr, flag::DENY_OOM | flag::FAST).event("incrby").access(&["RW access update"]).docs(
        "1.0.0",
        "O(1)",
        "Subtracts one from an integer; an absent key counts as 0.",
    ),
    write_row("DECRBY", "key decrement", decrby, flag::DENY_OOM | flag::FAST).event("incrby").access(&["RW access update"]).docs(
        "1.0.0",
        "O(1)",
        "Subtracts a number from an integer; an absent key counts as 0.",
    ),
    read_row("GET", "key", get, flag::FAST).docs("1.0.0", "O(1)", "Returns a string."),
    write_row("GETDEL", "key", getdel, flag::FAST | flag::FREES).event("del").access(&["RW access delete"]).docs(
        "6.2.0",
        "O(1)",
        "Returns a string and deletes its key.",
    ),
    write_row(
        "GETEX",
        "key [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST]",
        getex,
        flag::FAST,
    )
    .event("expire")
    .access(&["RW access update"]).docs("6.2.0", "O(1)", "Returns a string and changes its expiry."),
    read_row("GETRANGE", "key start end", getrange, 0).docs(
        "2.4.0",
        "O(N) for N bytes in the reply",
        "Returns a part of a string.",
    ),
    write_row("GETSET", "key value", getset, flag::DENY_OOM | flag::FAST).logs_words(1).event("set").access(&["RW access update"]).docs(
        "1.0.0",
        "O(1)",
        "Sets a string and returns the previous one.",
    ),
    write_row("INCR", "key", incr, flag::DENY_OOM | flag::FAST).event("incrby").access(&["RW access update"]).docs(
        "1.0.0",
        "O(1)",
        "Adds one to an integer; an absent key counts as 0.",
    ),
    write_row("INCRBY", "key increment", incrby, flag::DENY_OOM | flag::FAST).event("incrby").access(&["RW access update"]).docs(
        "1.0.0",
        "O(1)",
        "Adds a number to an integer; an absent key counts as 0.",
    ),
    write_row("INCRBYFLOAT", "key increment", incrbyfloat, flag::DENY_OOM | flag::FAST)
        .event("incrbyfloat")
        .access(&["RW access update"]).docs("2.6.0", "O(1)", "Adds a decimal number to a number; an absent key counts as 0."),
    sliced("LCS", "key key [LEN] [IDX] [MINMATCHLEN length] [WITHMATCHLEN]", super::lcs::lcs).group("string").acl(acl::STRING).docs(
        "7.0.0",
        "O(N*M) for the lengths of the two strings",
        "Finds the longest common subsequence of two strings.",
    ),
    read_row("MGET", "key+", mget, flag::FAST).tips(&["request_policy:multi_shard"]).docs(
        "1.0.0",
        "O(N) for N keys",
        "Returns the strings of several keys as of one moment.",
    ),
    write_row("MSET", "(key value)+", mset, flag::DENY_OOM).logs_words(2).event("set").access(&["OW update"]).tips(&["request_policy:multi_shard", "response_policy:all_succeeded"]).docs(
        "1.0.1",
        "O(N) for N keys",
        "Sets several strings at once.",
    ),
    write_row("MSETNX", "(key value)+", msetnx, flag::DENY_OOM).logs_words(2).event("set").access(&["OW insert"]).docs(
        "1.0.1",
        "O(N) for N keys",
        "Sets several strings at once, unless one of the keys exists.",
    ),
    write_row("PSETEX", "key milliseconds value", psetex, flag::DENY_OOM).logs_words(1).event("set").access(&["OW update"]).docs(
        "2.6.0",
        "O(1)",
        "Sets a string with an expiry in milliseconds from now.",
    ),
    write_row(
        "SET",
        "key value [NX|XX|IFEQ value|IFNE value|IFDEQ digest|IFDNE digest] [GET] [EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds\
         |KEEPTTL]",
        set,
        flag::DENY_OOM,
    )
    .logs_words(1)
    .event("set")
    .access(&["RW access update variable_flags"]).access_by(set_access).docs("1.0.0", "O(1)", "Sets a key to a string, whatever its previous type."),
    write_row("SETEX", "key seconds value", setex, flag::DENY_OOM).logs_words(1).event("set").access(&["OW update"]).docs(
        "2.0.0",
        "O(1)",
        "Sets a string with an expiry in seconds from now.",
    ),
    write_row("SETNX", "key value", setnx, flag::DENY_OOM | flag::FAST).logs_words(1).event("set").access(&["OW insert"]).docs(
        "1.0.0",
        "O(1)",
        "Sets a string unless the key exists.",
    ),
    write_row("SETRANGE", "key offset value", setrange, flag::DENY_OOM).logs_words(1).event("setrange").docs(
        "2.2.0",
        "O(N) for N bytes written",
        "Overwrites a part of a string, padding with zero bytes.",
    ),
    read_row("STRLEN", "key", strlen, flag::FAST).access(&["RO"]).docs("2.2.0", "O(1)", "Returns the length of a string in bytes."),
    read_row("SUBSTR", "key start end", getrange, 0).docs(
        "1.0.0",
        "O(N) for N bytes in the reply",
        "An older name for GETRANGE.",
    ),
];

const fn read_row(
    name: &'static str,
    usage: &'static str,
    handler: crate::command::ReadHandler,
    flags: u32,
) -> Command {
    read(name, usage, handler).group("string").flags(flags).acl(acl::STRING)
}

const fn write_row(
    name: &'static str,
    usage: &'static str,
    handler: crate::command::WriteHandler,
    flags: u32,
) -> Command {
    write(name, usage, handler).group("string").flags(flags).acl(acl::STRING)
}

fn append(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, suffix) = (args.word(1), args.word(2));
    let (length, is_long) = string_to_write(tx, key, |length| length + suffix.len())?;
    check_length(tx, length, suffix.len())?;
    if length == 0 || !suffix.is_empty() {
        if is_long && !tx.has_copy(key, || copies::of_string_to_append(key, length + suffix.len())) {
            return Ok(());
        }
        tx.apply(Effect::StringAppend { key, suffix });
    } else {
        tx.notify("append", key);
    }
    reply.integer((length + suffix.len()) as i64);
    Ok(())
}

fn decr(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    increment(tx, args.word(1), -1, reply)
}

fn decrby(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let by = args.integer(2)?.checked_neg();
    increment(tx, args.word(1), by.ok_or(CommandError::of("ERR decrement would overflow"))?, reply)
}

fn get(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_string(view, args.word(1), reply)?;
    Ok(())
}

fn getdel(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if reply_previous(tx, args.word(1), reply)? {
        delete_key(tx, args.word(1));
    }
    Ok(())
}

fn getex(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let (mut expiry, mut persist) = (None, false);
    let mut options = args.options(2);
    while !options.is_done() {
        if persist || !ExpiryOption::take(&mut expiry, &mut options)? {
            if expiry.is_some() || !options.take("PERSIST") {
                return Err(CommandError::SYNTAX);
            }
            persist = true;
        }
    }
    if !reply_previous(tx, key, reply)? {
        return Ok(());
    }
    if let Some(expiry) = expiry {
        let expires_at_ms = expiry.at_ms(tx.now_ms(), "getex")?;
        super::set_expiry(tx, key, expires_at_ms);
    } else if persist && tx.read(|view| super::expiry_of(view, key)) != 0 {
        tx.event("persist");
        tx.apply(Effect::Expire { key, expires_at_ms: 0 });
    }
    Ok(())
}

fn getrange(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (start, end) = (args.integer(2)?, args.integer(3)?);
    match view.string(args.word(1))? {
        Some(string) => match string.shared() {
            Some(content) => reply.bulk_shared(content, range(start, end, content.len())),
            None => string.with_bytes(|bytes| reply.bulk(&bytes[range(start, end, bytes.len())])),
        },
        None => reply.bulk(b""),
    }
    Ok(())
}

fn getset(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_previous(tx, args.word(1), reply)?;
    tx.apply(Effect::StringSet { key: args.word(1), value: args.word(2), expires_at_ms: 0 });
    Ok(())
}

fn incr(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    increment(tx, args.word(1), 1, reply)
}

fn incrby(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    increment(tx, args.word(1), args.integer(2)?, reply)
}

fn incrbyfloat(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, by) = (args.word(1), args.word(2));
    let (sum, expires_at_ms) = tx.read(|view| {
        let entry = view.entry(key);
        let add = |value: &[u8]| {
            parse_double(value).and(parse_double(by)).ok_or(CommandError::NOT_FLOAT)?;
            add_decimals(value, by).ok_or(CommandError::of("ERR increment would produce NaN or Infinity"))
        };
        match entry {
            Some(entry) => Ok((string_of(entry)?.with_bytes(add)?, entry.expires_at_ms())),
            None => Ok((add(b"0")?, 0)),
        }
    })?;
    tx.apply(Effect::StringSet { key, value: sum.as_bytes(), expires_at_ms });
    reply.bulk(sum.as_bytes());
    Ok(())
}

fn mget(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.array(args.len() - 1);
    for key in ahead(args.from(1), 1, |keys| view.prefetch(keys)).flatten() {
        match view.string(key) {
            Ok(Some(string)) => reply.string(string),
            _ => reply.null(),
        }
    }
    Ok(())
}

fn mset(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    set_pairs(tx, pairs(args, "mset")?);
    reply.ok();
    Ok(())
}

fn msetnx(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let pairs = pairs(args, "msetnx")?;
    let free = !tx.read(|view| pairs.chunks_exact(2).any(|pair| exists(view, pair[0])));
    if free {
        set_pairs(tx, pairs);
    }
    reply.integer(i64::from(free));
    Ok(())
}

fn psetex(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let expires_at_ms = ExpiryOption::milliseconds(args.word(2)).at_ms(tx.now_ms(), "psetex")?;
    set_with_expiry(tx, args.word(1), args.word(3), expires_at_ms);
    reply.ok();
    Ok(())
}

/// Only SET with GET reads.
fn set_access(args: Args<'_>, _: usize) -> &'static str {
    match (3..args.len()).any(|word| args.is(word, "GET")) {
        true => "RW access update",
        false => "OW update",
    }
}

fn set(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, value) = (args.word(1), args.word(2));
    let options = SetOptions::parse(args)?;
    let mut expires_at_ms = match options.expiry {
        Some(expiry) => expiry.at_ms(tx.now_ms(), "set")?,
        None => 0,
    };
    if options.get {
        reply_previous(tx, key, reply)?;
    }
    if let Some(condition) = options.condition
        && !tx.read(|view| condition.holds(view, key))?
    {
        if !options.get {
            reply.null();
        }
        return Ok(());
    }
    if options.keep_expiry {
        expires_at_ms = tx.read(|view| super::expiry_of(view, key));
    }
    match options.expiry {
        Some(_) => set_with_expiry(tx, key, value, expires_at_ms),
        None => _ = tx.apply(Effect::StringSet { key, value, expires_at_ms }),
    }
    if !options.get {
        reply.ok();
    }
    Ok(())
}

fn setex(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let expires_at_ms = ExpiryOption::seconds(args.word(2)).at_ms(tx.now_ms(), "setex")?;
    set_with_expiry(tx, args.word(1), args.word(3), expires_at_ms);
    reply.ok();
    Ok(())
}

fn setnx(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let free = !tx.read(|view| exists(view, args.word(1)));
    if free {
        tx.apply(Effect::StringSet { key: args.word(1), value: args.word(2), expires_at_ms: 0 });
    }
    reply.integer(i64::from(free));
    Ok(())
}

fn setrange(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, content) = (args.word(1), args.word(3));
    let offset = usize::try_from(integer(args.word(2))?);
    let offset = offset.map_err(|_| CommandError::of("ERR offset is out of range"))?;
    let end = offset.saturating_add(content.len());
    let (mut length, is_long) = string_to_write(tx, key, |_| end)?;
    if !content.is_empty() {
        check_length(tx, offset, content.len())?;
        if is_long && !tx.has_copy(key, || copies::of_string_to_write(key, end)) {
            return Ok(());
        }
        tx.apply(Effect::StringWrite { key, offset: offset as u64, content });
        length = length.max(offset + content.len());
    }
    reply.integer(length as i64);
    Ok(())
}

fn strlen(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.integer(view.string(args.word(1))?.map_or(0, |string| string.len()) as i64);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition<'a> {
    Absent,
    Exists,
    Compares(StringComparison<'a>),
}

impl Condition<'_> {
    fn holds(self, view: &View<'_>, key: &[u8]) -> Result<bool, CommandError> {
        match self {
            Condition::Absent => Ok(!exists(view, key)),
            Condition::Exists => Ok(exists(view, key)),
            Condition::Compares(comparison) => comparison.fits(view.string(key)?),
        }
    }
}

/// The options after the value in SET.
#[derive(Default)]
struct SetOptions<'a> {
    condition: Option<Condition<'a>>,
    get: bool,
    keep_expiry: bool,
    expiry: Option<ExpiryOption<'a>>,
}

impl<'a> SetOptions<'a> {
    fn parse(args: Args<'a>) -> Result<SetOptions<'a>, CommandError> {
        let mut parsed = SetOptions::default();
        let mut options = args.options(3);
        while !options.is_done() {
            if options.take("GET") {
                parsed.get = true;
            } else if options.take("NX") {
                parsed.require(Condition::Absent)?;
            } else if options.take("XX") {
                parsed.require(Condition::Exists)?;
            } else if options.take("KEEPTTL") {
                parsed.keep_expiry = true;
            } else if let Some(comparison) = StringComparison::take(&mut options)? {
                if parsed.condition.is_some() {
                    return Err(CommandError::SYNTAX);
                }
                parsed.condition = Some(Condition::Compares(comparison));
            } else if !ExpiryOption::take(&mut parsed.expiry, &mut options)? {
                return Err(CommandError::SYNTAX);
            }
            if parsed.keep_expiry && parsed.expiry.is_some() {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(parsed)
    }

    fn require(&mut self, condition: Condition<'a>) -> Outcome {
        match self.condition.replace(condition) {
            Some(before) if before != condition => Err(CommandError::SYNTAX),
            _ => Ok(()),
        }
    }
}

/// Replies the string or null; true if it exists.
fn reply_string(view: &View<'_>, key: &[u8], reply: &mut dyn Reply) -> Result<bool, CommandError> {
    let string = view.string(key)?;
    match string {
        Some(string) => reply.string(string),
        None => reply.null(),
    }
    Ok(string.is_some())
}

/// The length of the string, and whether a write up to `end` copies a large amount.
pub(super) fn string_to_write(
    tx: &mut Tx<'_>,
    key: &[u8],
    end: impl FnOnce(usize) -> usize,
) -> Result<(usize, bool), CommandError> {
    tx.read(|view| {
        let string = view.string(key)?;
        let length = string.map_or(0, |string| string.len());
        Ok((length, copies::is_long_to_write(string, end(length))))
    })
}

fn check_length(tx: &Tx<'_>, length: usize, added: usize) -> Outcome {
    match length.checked_add(added) {
        Some(sum) if sum <= tx.string_bytes_max() => Ok(()),
        _ => Err(CommandError::STRING_TOO_LONG),
    }
}

fn increment(tx: &mut Tx<'_>, key: &[u8], by: i64, reply: &mut dyn Reply) -> Outcome {
    let (value, expires_at_ms) = tx.read(|view| match view.entry(key) {
        Some(entry) => {
            let value = string_of(entry)?.as_integer().ok_or(CommandError::NOT_INTEGER)?;
            Ok((value, entry.expires_at_ms()))
        }
        None => Ok((0, 0)),
    })?;
    let sum = value.checked_add(by);
    let sum = sum.ok_or(CommandError::of("ERR increment or decrement would overflow"))?;
    let mut digits = itoa::Buffer::new();
    tx.apply(Effect::StringSet { key, value: digits.format(sum).as_bytes(), expires_at_ms });
    reply.integer(sum);
    Ok(())
}

/// Sets the string; if `expires_at_ms` has passed, only deletes the previous value.
pub(super) fn set_with_expiry(tx: &mut Tx<'_>, key: &[u8], value: &[u8], expires_at_ms: u64) {
    if expires_at_ms != 0 && expires_at_ms <= tx.now_ms() {
        tx.notify("set", key);
        tx.notify("expire", key);
        tx.event("");
        delete_key(tx, key);
        tx.notify("expired", key);
    } else {
        tx.apply(Effect::StringSet { key, value, expires_at_ms });
        tx.notify("expire", key);
    }
}

/// The same where a time was given; otherwise the expiry is that of the previous value, or none.
pub(super) fn set_with_expiry_if(
    tx: &mut Tx<'_>,
    key: &[u8],
    value: &[u8],
    expires_at_ms: u64,
    is_given: bool,
) {
    if is_given {
        set_with_expiry(tx, key, value, expires_at_ms);
    } else {
        tx.apply(Effect::StringSet { key, value, expires_at_ms });
    }
}

/// Replies with the string that the command replaces or deletes. False if there is none.
fn reply_previous(tx: &mut Tx<'_>, key: &[u8], reply: &mut dyn Reply) -> Result<bool, CommandError> {
    tx.read(|view| {
        view.count_lookups();
        reply_string(view, key, reply)
    })
}

fn pairs<'a>(args: Args<'a>, command: &str) -> Result<&'a [&'a [u8]], CommandError> {
    let pairs = args.from(1);
    if pairs.len().is_multiple_of(2) { Ok(pairs) } else { Err(CommandError::wrong_arity(command)) }
}

fn set_pairs(tx: &mut Tx<'_>, pairs: &[&[u8]]) {
    for group in pairs.chunks(2 * super::AHEAD) {
        if group.len() == 2 * super::AHEAD {
            tx.read(|view| view.prefetch(group.iter().step_by(2).copied()));
        }
        for pair in group.chunks_exact(2) {
            tx.apply(Effect::StringSet { key: pair[0], value: pair[1], expires_at_ms: 0 });
        }
    }
}

/// The range of bytes for GETRANGE's bounds, both of which are inclusive; negative ones count from the end.
fn range(start: i64, end: i64, length: usize) -> std::ops::Range<usize> {
    let from_start = |index: i64| if index < 0 { index.saturating_add(length as i64) } else { index };
    if length == 0 || (start < 0 && end < 0 && start > end) {
        return 0..0;
    }
    let start = from_start(start).max(0);
    let end = from_start(end).clamp(0, length as i64 - 1);
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}
