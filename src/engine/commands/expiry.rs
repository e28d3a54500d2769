//! Commands for the expiry of keys.

use super::{exists, set_expiry};
use crate::command::{
    Args, Command, CommandError, Outcome, ReadHandler, Reply, WriteHandler, acl, flag, integer, read,
    shown_word, write,
};
use crate::effect::Effect;
use crate::keyspace::Entry;
use crate::store::tx::Tx;
use crate::store::view::View;

pub const COMMANDS: &[Command] = &[
    write_row("EXPIRE", "key seconds [NX|XX|GT|LT]", expire).event("expire").docs(
        "1.0.0",
        "O(1)",
        "Sets the expiry of a key in seconds from now.",
    ),
    write_row("EXPIREAT", "key unix-time-seconds [NX|XX|GT|LT]", expireat).event("expire").docs(
        "1.2.0",
        "O(1)",
        "Sets the expiry of a key in seconds since the epoch.",
    ),
    read_row("EXPIRETIME", "key", expiretime).docs(
        "7.0.0",
        "O(1)",
        "Returns the expiry of a key in seconds since the epoch.",
    ),
    write_row("PERSIST", "key", persist).event("persist").docs(
        "2.2.0",
        "O(1)",
        "Removes the expiry of a key.",
    ),
    write_row("PEXPIRE", "key milliseconds [NX|XX|GT|LT]", pexpire).event("expire").docs(
        "2.6.0",
        "O(1)",
        "Sets the expiry of a key in milliseconds from now.",
    ),
    write_row("PEXPIREAT", "key unix-time-milliseconds [NX|XX|GT|LT]", pexpireat).event("expire").docs(
        "2.6.0",
        "O(1)",
        "Sets the expiry of a key in milliseconds since the epoch.",
    ),
    read_row("PEXPIRETIME", "key", pexpiretime).docs(
        "7.0.0",
        "O(1)",
        "Returns the expiry of a key in milliseconds since the epoch.",
    ),
    read_row("PTTL", "key", pttl).tips(&["nondeterministic_output"]).docs(
        "2.6.0",
        "O(1)",
        "Returns the time to live of a key in milliseconds.",
    ),
    read_row("TTL", "key", ttl).tips(&["nondeterministic_output"]).docs(
        "1.0.0",
        "O(1)",
        "Returns the time to live of a key in seconds.",
    ),
];

const fn read_row(name: &'static str, usage: &'static str, handler: ReadHandler) -> Command {
    read(name, usage, handler).flags(flag::FAST).acl(acl::KEYSPACE)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    write(name, usage, handler).flags(flag::FAST).acl(acl::KEYSPACE)
}

fn expire(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let now_ms = tx.now_ms();
    expire_at(tx, args, "expire", 1000, now_ms, reply)
}

fn expireat(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    expire_at(tx, args, "expireat", 1000, 0, reply)
}

fn expiretime(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_time(view, args, reply, seconds)
}

fn persist(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let expires = tx.read(|view| super::expiry_of(view, key)) != 0;
    if expires {
        tx.apply(Effect::Expire { key, expires_at_ms: 0 });
    }
    reply.integer(i64::from(expires));
    Ok(())
}

fn pexpire(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let now_ms = tx.now_ms();
    expire_at(tx, args, "pexpire", 1, now_ms, reply)
}

fn pexpireat(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    expire_at(tx, args, "pexpireat", 1, 0, reply)
}

fn pexpiretime(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_time(view, args, reply, |at_ms| at_ms)
}

fn pttl(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_time(view, args, reply, |at_ms| at_ms - view.now_ms())
}

fn ttl(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_time(view, args, reply, |at_ms| seconds(at_ms - view.now_ms()))
}

/// The conditions on the current expiry under which a new one is set. No expiry counts as infinitely late.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExpiryConditions {
    absent: bool,
    present: bool,
    greater: bool,
    less: bool,
}

impl ExpiryConditions {
    /// Parses one of NX, XX, GT and LT; false for any other word.
    pub fn add(&mut self, word: &[u8]) -> bool {
        let conditions = [
            ("NX", &mut self.absent),
            ("XX", &mut self.present),
            ("GT", &mut self.greater),
            ("LT", &mut self.less),
        ];
        for (keyword, condition) in conditions {
            if word.eq_ignore_ascii_case(keyword.as_bytes()) {
                *condition = true;
                return true;
            }
        }
        false
    }

    /// `current_ms` is 0 for never.
    pub fn hold(&self, current_ms: u64, at_ms: i64) -> bool {
        let (expires, current_ms) = (current_ms != 0, current_ms as i64);
        !(self.absent && expires
            || self.present && !expires
            || self.greater && (!expires || at_ms <= current_ms)
            || self.less && expires && at_ms >= current_ms)
    }

    fn parse(words: &[&[u8]]) -> Result<ExpiryConditions, CommandError> {
        let mut conditions = ExpiryConditions::default();
        for word in words {
            if !conditions.add(word) {
                let word = shown_word(word, usize::MAX);
                return Err(CommandError::of_parts(&[b"ERR Unsupported option ", word]));
            }
        }
        if conditions.absent && (conditions.present || conditions.greater || conditions.less) {
            let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
            return Err(CommandError::of(text));
        }
        if conditions.greater && conditions.less {
            return Err(CommandError::of("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(conditions)
    }
}

/// The four EXPIRE commands: the number in units of `unit_ms`, counted from `start_ms`.
fn expire_at(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    command: &str,
    unit_ms: i64,
    start_ms: u64,
    reply: &mut dyn Reply,
) -> Outcome {
    let key = args.word(1);
    let conditions = ExpiryConditions::parse(args.from(3))?;
    let number = integer(args.word(2))?;
    let at_ms = number.checked_mul(unit_ms).and_then(|ms| ms.checked_add(start_ms as i64));
    let at_ms = at_ms.ok_or_else(|| CommandError::invalid_expire_time(command))?;
    let sets = tx.read(|view| exists(view, key) && conditions.hold(super::expiry_of(view, key), at_ms));
    if sets {
        // A time before the epoch has also passed.
        set_expiry(tx, key, at_ms.max(0) as u64);
    }
    reply.integer(i64::from(sets));
    Ok(())
}

/// Replies -2 for an absent key, -1 for one without expiry, else its expiry, converted by `show`.
fn reply_time(
    view: &View<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
    show: impl FnOnce(u64) -> u64,
) -> Outcome {
    reply.integer(match view.peek(view.database(), args.word(1)).map(Entry::expires_at_ms) {
        None => -2,
        Some(0) => -1,
        Some(at_ms) => show(at_ms) as i64,
    });
    Ok(())
}

/// Rounded to the nearest second, as in Redis.
fn seconds(ms: u64) -> u64 {
    (ms + 500) / 1000
}
