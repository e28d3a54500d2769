//! DUMP and RESTORE: values in Redis's RDB format.

use super::{copies, exists};
use crate::command::{
    Args, Command, CommandError, Finish, Job, Outcome, Reply, Rest, Stage, acl, flag, sliced, write,
};
use crate::effect::{Cause, Effect, decode_batch};
use crate::keyspace::{Entry, ValueRef};
use crate::rdb;
use crate::store::prepared::Making;
use crate::store::tx::Tx;
use crate::store::view::View;
use engramdb_rdb::payload::Payload;

pub const COMMANDS: &[Command] = &[
    sliced("DUMP", "key", dump)
        .acl(acl::KEYSPACE)
        .access(&["RO access"])
        .tips(&["nondeterministic_output"])
        .docs(
            "2.6.0",
            "O(N) for the size of the value",
            "Returns a value as RDB has it, for RESTORE here or in Redis.",
        ),
    write(
        "RESTORE",
        "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        restore,
    )
    .event("restore")
    .flags(flag::DENY_OOM)
    .acl(acl::KEYSPACE | acl::DANGEROUS)
    .access(&["OW update"])
    .room(restore_room)
    .docs(
        "2.6.0",
        "O(N) for the size of the value",
        "Makes a key of what DUMP returned, here or in Redis.",
    ),
];

const BUSY_KEY: CommandError = CommandError::of("BUSYKEY Target key name already exists.");
const WRONG_PAYLOAD: CommandError = CommandError::of("ERR DUMP payload version or checksum are wrong");
const BAD_FORMAT: CommandError = CommandError::of("ERR Bad data format");

fn dump(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let key = args.word(1);
    let Some(entry) = view.entry(key) else {
        reply.null();
        return Ok(Stage::Done);
    };
    if let Some(making) = copies::of(entry).filter(|_| !view.is_exclusive()) {
        return Ok(Stage::Copy(dump_apart(making(key), key.to_vec())));
    }
    reply.bulk(&dumped(entry.value(), view.now_ms())?);
    Ok(Stage::Done)
}

fn dumped(value: ValueRef<'_>, now_ms: u64) -> Result<Vec<u8>, CommandError> {
    rdb::dump(value, now_ms).map_err(|refusal| CommandError::new(format!("ERR {refusal}")))
}

/// Copies a large value in slices, and encodes the copy without the lock.
fn dump_apart(making: Making, key: Vec<u8>) -> Job {
    Box::new(move |looks| {
        let copied = making(looks);
        let mut now_ms = 0;
        looks.look(&mut |view| now_ms = view.now_ms());
        let dumped_copy = copied.map(|copied| dumped(copied.value.read(), now_ms));
        let finish: Finish = Box::new(move |view, reply| {
            match (dumped_copy, view.entry(&key).map(Entry::value)) {
                (Some(payload), _) => reply.bulk(&payload?),
                (None, Some(value)) => reply.bulk(&dumped(value, view.now_ms())?),
                (None, None) => reply.null(),
            }
            Ok(Rest::Nothing)
        });
        finish
    })
}

/// The options of RESTORE.
#[derive(Default)]
struct RestoreOptions {
    replaces: bool,
    is_absolute: bool,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

impl RestoreOptions {
    fn read(args: Args<'_>) -> Result<RestoreOptions, CommandError> {
        let mut read = RestoreOptions::default();
        let mut options = args.options(4);
        while !options.is_done() {
            if options.take("REPLACE") {
                read.replaces = true;
            } else if options.take("ABSTTL") {
                read.is_absolute = true;
            } else if options.left() >= 2 && read.frequency.is_none() && options.take("IDLETIME") {
                let seconds = u64::try_from(options.integer()?);
                let seconds =
                    seconds.map_err(|_| CommandError::of("ERR Invalid IDLETIME value, must be >= 0"))?;
                read.idle_seconds = Some(seconds);
            } else if options.left() >= 2 && read.idle_seconds.is_none() && options.take("FREQ") {
                let count = u8::try_from(options.integer()?);
                let wrong = |_| CommandError::of("ERR Invalid FREQ value, must be >= 0 and <= 255");
                read.frequency = Some(count.map_err(wrong)?);
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(read)
    }
}

fn restore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let options = RestoreOptions::read(args)?;
    let key = args.word(1);
    let is_there = tx.read(|view| exists(view, key));
    if is_there && !options.replaces {
        return Err(BUSY_KEY);
    }
    let ttl_ms = args.integer(2)?;
    let ttl_ms =
        u64::try_from(ttl_ms).map_err(|_| CommandError::of("ERR Invalid TTL value, must be >= 0"))?;
    let payload = Payload::open(args.word(3)).ok_or(WRONG_PAYLOAD)?;
    let expires_at_ms = match ttl_ms {
        0 => 0,
        _ if options.is_absolute => ttl_ms,
        _ => ttl_ms.saturating_add(tx.now_ms()),
    };
    let mut effects = Vec::new();
    let place = (tx.database(), key, expires_at_ms);
    let loaded = tx.look(|view| rdb::load_payload(&payload, place, view.data_types(), &mut effects));
    if loaded.map_err(|_| BAD_FORMAT)?.parts == 0 {
        return Err(BAD_FORMAT);
    }
    let is_past = expires_at_ms != 0 && expires_at_ms <= tx.now_ms();
    if is_there {
        // Only the key that is not replaced has an event of its own.
        tx.event(if is_past { "del" } else { "" });
        tx.apply(Effect::Delete { key, cause: Cause::Command });
    }
    if !is_past {
        apply_all(tx, &effects);
        if let Some(idle_seconds) = options.idle_seconds {
            tx.look(|view| view.set_idle_seconds(key, idle_seconds));
        }
        if let Some(count) = options.frequency {
            tx.look(|view| view.set_access_count(key, count));
        }
    }
    reply.ok();
    Ok(())
}

/// Applies the effects that build a value; the last one has the event.
fn apply_all(tx: &mut Tx<'_>, effects: &[u8]) {
    let mut records =
        decode_batch(effects).map(|record| record.expect("encoded for this command")).peekable();
    while let Some(record) = records.next() {
        tx.event(if records.peek().is_some() { "" } else { "restore" });
        tx.apply(record.effect);
    }
}

/// What the effects take in the log: compressed values are longer there.
fn restore_room(view: &View<'_>, args: Args<'_>) -> usize {
    let Some(payload) = Payload::open(args.word(3)) else { return 0 };
    let mut effects = Vec::new();
    // An expiry that is not 0, for the room that it takes.
    let place = (view.database(), args.word(1), 1);
    let loaded = rdb::load_payload(&payload, place, view.data_types(), &mut effects);
    if loaded.is_ok() { effects.len() } else { 0 }
}
