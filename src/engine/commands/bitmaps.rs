//! Bitmaps: the bits of strings, one by one, counted, searched and combined.
//!
//! A write of one bit logs one byte. Strings that are referenced (see `StringRef::shared`) are counted and
//! searched without the lock.

use super::strings::string_to_write;
use super::{copies, delete_key};
use crate::command::{
    Args, Command, CommandError, Finish, Job, Outcome, ReadHandler, Reply, Rest, Stage, StagedHandler, acl,
    flag, integer, read, sliced, write,
};
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{BitOperation, StringRef, count_ones, find_bit};
use std::borrow::Cow;
use std::ops::RangeInclusive;

pub const COMMANDS: &[Command] = &[
    sliced_row("BITCOUNT", "key [start end [BYTE|BIT]]", bitcount).docs(
        "2.6.0",
        "O(N) for N bytes",
        "Counts the bits of a string that are set.",
    ),
    write("BITOP", "(AND|OR|XOR|NOT|DIFF|DIFF1|ANDOR|ONE) destination key+", bitop)
        .group("bitmap")
        .flags(flag::DENY_OOM)
        .acl(acl::BITMAP)
        // The destination: where it has expired, its delete comes first.
        .logs_words(2)
        .room(room_of_bitop)
        .event("set")
        .access(&["OW update", "RO access"])
        .docs("2.6.0", "O(N) for N bytes", "Combines the bits of strings, and stores the result."),
    sliced_row("BITPOS", "key bit [start [end [BYTE|BIT]]]", bitpos).docs(
        "2.8.7",
        "O(N) for N bytes",
        "Finds the first bit of a string that is set, or that is not.",
    ),
    bit_row("GETBIT", "key offset", getbit).flags(flag::FAST).docs(
        "2.2.0",
        "O(1)",
        "Returns a bit of a string.",
    ),
    write("SETBIT", "key offset value", setbit)
        .group("bitmap")
        .flags(flag::DENY_OOM)
        .acl(acl::BITMAP)
        .event("setbit")
        .access(&["RW access update"])
        .docs(
            "2.2.0",
            "O(1)",
            "Sets or clears a bit of a string, padding with zero bytes, and returns what it was.",
        ),
];

const fn bit_row(name: &'static str, usage: &'static str, handler: ReadHandler) -> Command {
    read(name, usage, handler).group("bitmap").acl(acl::BITMAP)
}

const fn sliced_row(name: &'static str, usage: &'static str, handler: StagedHandler) -> Command {
    sliced(name, usage, handler).group("bitmap").acl(acl::BITMAP)
}

/// The bits of a string that are counted or searched, by offset; an empty range for none.
type Bits = RangeInclusive<usize>;

const NO_BITS: Bits = Bits::new(1, 0);

fn bitcount(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let range = match args.len() {
        2 => None,
        4 | 5 => Some((args.integer(2)?, args.integer(3)?, is_in_bits(args, 4)?)),
        _ => return Err(CommandError::SYNTAX),
    };
    let Some(string) = view.string(args.word(1))? else {
        reply.integer(0);
        return Ok(Stage::Done);
    };
    let bits = match range {
        // Negative bounds in the wrong order are an empty range, also where both are before the start.
        Some((start, end, _)) if start < 0 && end < 0 && start > end => NO_BITS,
        Some((start, end, is_in_bits)) => bits_between(start, end, string.len(), is_in_bits),
        None => bits_between(0, -1, string.len(), false),
    };
    Ok(over_bytes(string, bits, reply, |bytes, bits| count_ones(bytes, bits) as i64))
}

fn bitop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let operation = bit_operation(args)?;
    let (key, sources) = (args.word(2), args.from(3));
    let result = tx.read(|view| {
        let strings = sources.iter().map(|key| view.string(key)).collect::<Result<Vec<_>, _>>()?;
        let bytes = |string: &Option<StringRef<'_>>| string.is_some_and(|string| !string.is_empty());
        if !strings.iter().any(bytes) {
            return Ok(Vec::new());
        }
        let strings: Vec<Cow<'_, [u8]>> =
            strings.into_iter().map(|string| string.map_or_else(Cow::default, StringRef::to_bytes)).collect();
        Ok(operation.of(&strings.iter().map(Cow::as_ref).collect::<Vec<_>>()))
    })?;
    if result.is_empty() {
        tx.event("del");
        delete_key(tx, key);
    } else {
        tx.apply(Effect::StringSet { key, value: &result, expires_at_ms: 0 });
    }
    reply.integer(result.len() as i64);
    Ok(())
}

/// The result is as long as the longest source.
fn room_of_bitop(view: &View<'_>, args: Args<'_>) -> usize {
    let length = |key: &&[u8]| view.string(key).ok().flatten().map_or(0, StringRef::len);
    args.from(3).iter().map(length).max().unwrap_or(0)
}

fn bit_operation(args: Args<'_>) -> Result<BitOperation, CommandError> {
    const OPERATIONS: &[(&str, BitOperation)] = &[
        ("AND", BitOperation::And),
        ("OR", BitOperation::Or),
        ("XOR", BitOperation::Xor),
        ("NOT", BitOperation::Not),
        ("DIFF", BitOperation::Diff),
        ("DIFF1", BitOperation::Diff1),
        ("ANDOR", BitOperation::AndOr),
        ("ONE", BitOperation::One),
    ];
    let found = OPERATIONS.iter().find(|(name, _)| args.is(1, name));
    let (name, operation) = *found.ok_or(CommandError::SYNTAX)?;
    let sources = args.len() - 3;
    match operation {
        BitOperation::Not if sources != 1 => {
            Err(CommandError::of("ERR BITOP NOT must be called with a single source key."))
        }
        BitOperation::Diff | BitOperation::Diff1 | BitOperation::AndOr if sources < 2 => {
            Err(CommandError::new(format!("ERR BITOP {name} must be called with at least two source keys.")))
        }
        _ => Ok(operation),
    }
}

fn bitpos(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let value = match args.integer(2)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::of("ERR The bit argument must be 1 or 0.")),
    };
    if args.len() > 6 {
        return Err(CommandError::SYNTAX);
    }
    let start = if args.len() > 3 { args.integer(3)? } else { 0 };
    let is_in_bits = is_in_bits(args, 5)?;
    let end = if args.len() > 4 { Some(args.integer(4)?) } else { None };
    let Some(string) = view.string(args.word(1))? else {
        reply.integer(if value { -1 } else { 0 });
        return Ok(Stage::Done);
    };
    let bits = bits_between(start, end.unwrap_or(-1), string.len(), is_in_bits);
    // Beyond the end of the string there are zero bits, unless the end of the range was given.
    let beyond = match end {
        None if !value && !bits.is_empty() => string.len() as i64 * 8,
        _ => -1,
    };
    Ok(over_bytes(string, bits, reply, move |bytes, bits| {
        find_bit(bytes, value, bits).map_or(beyond, |place| place as i64)
    }))
}

fn getbit(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let offset = bit_offset(args.word(2), view.context.string_bytes_max())?;
    let string = view.string(args.word(1))?;
    let byte = string.and_then(|string| string.with_bytes(|bytes| bytes.get(offset / 8).copied()));
    reply.integer(i64::from(byte.is_some_and(|byte| byte & mask(offset) != 0)));
    Ok(())
}

fn setbit(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, offset) = (args.word(1), bit_offset(args.word(2), tx.string_bytes_max())?);
    let value = match args.integer(3) {
        Ok(0) => false,
        Ok(1) => true,
        _ => return Err(CommandError::of("ERR bit is not an integer or out of range")),
    };
    let place = offset / 8;
    let (length, is_long) = string_to_write(tx, key, |_| place + 1)?;
    let before = tx.read(|view| {
        let string = view.string(key)?;
        Ok(string.and_then(|string| string.with_bytes(|bytes| bytes.get(place).copied())).unwrap_or(0))
    })?;
    let was = before & mask(offset) != 0;
    if place >= length || was != value {
        if is_long && !tx.has_copy(key, || copies::of_string_to_write(key, place + 1)) {
            return Ok(());
        }
        let after = if value { before | mask(offset) } else { before & !mask(offset) };
        tx.apply(Effect::StringWrite { key, offset: place as u64, content: &[after] });
    }
    reply.integer(i64::from(was));
    Ok(())
}

fn mask(offset: usize) -> u8 {
    0x80 >> (offset % 8)
}

/// An offset whose byte is inside of the longest string that can be.
fn bit_offset(word: &[u8], string_bytes_max: usize) -> Result<usize, CommandError> {
    scaled_offset(word, 1, string_bytes_max)
}

/// The same in units of `scale` bits.
pub fn scaled_offset(word: &[u8], scale: usize, string_bytes_max: usize) -> Result<usize, CommandError> {
    let offset = integer(word).ok().and_then(|offset| usize::try_from(offset).ok()?.checked_mul(scale));
    let inside = offset.filter(|offset| offset / 8 < string_bytes_max);
    inside.ok_or(CommandError::of("ERR bit offset is not an integer or out of range"))
}

/// Whether the bounds of a range are bits (BIT), not bytes (BYTE).
fn is_in_bits(args: Args<'_>, place: usize) -> Result<bool, CommandError> {
    match args.get(place) {
        None => Ok(false),
        Some(_) if args.is(place, "BIT") => Ok(true),
        Some(_) if args.is(place, "BYTE") => Ok(false),
        Some(_) => Err(CommandError::SYNTAX),
    }
}

/// The bits of a range whose bounds are inclusive, and count from the end if they are negative.
fn bits_between(start: i64, end: i64, length: usize, is_in_bits: bool) -> Bits {
    let (total, unit) = if is_in_bits { (length as i64 * 8, 1) } else { (length as i64, 8) };
    let from_start = |bound: i64| if bound < 0 { (bound + total).max(0) } else { bound };
    let (start, end) = (from_start(start), from_start(end).min(total - 1));
    if start > end { NO_BITS } else { start as usize * unit..=end as usize * unit + unit - 1 }
}

/// Replies what `of` computes from the bits; without the lock if the string is large.
fn over_bytes(
    string: StringRef<'_>,
    bits: Bits,
    reply: &mut dyn Reply,
    of: impl FnOnce(&[u8], Bits) -> i64 + Send + 'static,
) -> Stage {
    let Some(content) = string.shared().cloned() else {
        reply.integer(string.with_bytes(|bytes| of(bytes, bits)));
        return Stage::Done;
    };
    let job: Job = Box::new(move |_| {
        let number = of(&content, bits);
        let finish: Finish = Box::new(move |_, reply| {
            reply.integer(number);
            Ok(Rest::Nothing)
        });
        finish
    });
    Stage::Copy(job)
}
