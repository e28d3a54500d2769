//! BITFIELD: integers of any width at any bit of a string.

use super::bitmaps::scaled_offset;
use super::copies;
use super::strings::string_to_write;
use crate::command::{Args, Command, CommandError, OptionWords, Outcome, Reply, acl, flag, read, write};
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{FieldWidth, Overflow, StringRef};

pub const COMMANDS: &[Command] = &[
    write(
        "BITFIELD",
        "key [GET encoding offset|[OVERFLOW WRAP|SAT|FAIL] SET encoding offset value|INCRBY encoding offset increment]",
        bitfield,
    )
    .group("bitmap")
    .flags(flag::DENY_OOM)
    .acl(acl::BITMAP)
    .room(room_of_bitfield)
    .event("setbit")
    .access(&["RW access update variable_flags"])
    .access_by(access_of_bitfield)
    .docs("3.2.0", "O(1) for each operation", "Reads, sets and increments integers among the bits of a string."),
    read("BITFIELD_RO", "key [GET encoding offset]", bitfield_ro)
        .group("bitmap")
        .flags(flag::FAST)
        .acl(acl::BITMAP)
        .docs("6.0.0", "O(1) for each operation", "Reads integers among the bits of a string."),
];

/// Only SET and INCRBY write.
fn access_of_bitfield(args: Args<'_>, _: usize) -> &'static str {
    match (2..args.len()).any(|word| args.is(word, "SET") || args.is(word, "INCRBY")) {
        true => "RW access update",
        false => "RO access",
    }
}

/// One integer among the bits, and what is done with it.
struct Operation {
    width: FieldWidth,
    offset: usize,
    change: Option<Change>,
}

struct Change {
    value: i64,
    /// Adds to the integer, instead of setting it.
    is_increment: bool,
    overflow: Overflow,
}

fn bitfield(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let operations = parse(args, tx.string_bytes_max())?;
    let end = end_of_changes(&operations);
    let (length, is_long) = string_to_write(tx, key, |_| end)?;
    if end > 0 {
        if is_long && !tx.has_copy(key, || copies::of_string_to_write(key, end)) {
            return Ok(());
        }
        // Also where the changes fail: the string has room for them.
        if length < end {
            tx.apply(Effect::StringWrite { key, offset: end as u64 - 1, content: &[0] });
        }
    }
    reply.array(operations.len());
    for operation in &operations {
        match run(tx, key, operation)? {
            Some(value) => reply.integer(value),
            None => reply.null(),
        }
    }
    Ok(())
}

/// Each change logs the key again, and a word's share is more than what it writes.
fn room_of_bitfield(_: &View<'_>, args: Args<'_>) -> usize {
    (args.len() / 3 + 1) * args.word(1).len()
}

fn bitfield_ro(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let operations = parse(args, view.context.string_bytes_max())?;
    if operations.iter().any(|operation| operation.change.is_some()) {
        return Err(CommandError::of("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let string = view.string(args.word(1))?;
    reply.array(operations.len());
    operations.iter().for_each(|operation| reply.integer(value_of(string, operation)));
    Ok(())
}

fn parse(args: Args<'_>, string_bytes_max: usize) -> Result<Vec<Operation>, CommandError> {
    let (mut operations, mut overflow) = (Vec::new(), Overflow::Wrap);
    let mut options = args.options(2);
    while !options.is_done() {
        if options.take("OVERFLOW") {
            overflow = parse_overflow(options.word()?)?;
            continue;
        }
        let has_value = if options.take("GET") {
            false
        } else if options.take("SET") || options.take("INCRBY") {
            true
        } else {
            return Err(CommandError::SYNTAX);
        };
        let is_increment = args.is(options.index() - 1, "INCRBY");
        if options.left() < 2 + usize::from(has_value) {
            return Err(CommandError::SYNTAX);
        }
        operations.push(parse_operation(&mut options, string_bytes_max)?);
        if has_value {
            let change = Change { value: options.integer()?, is_increment, overflow };
            operations.last_mut().expect("pushed above").change = Some(change);
        }
    }
    Ok(operations)
}

fn parse_overflow(word: &[u8]) -> Result<Overflow, CommandError> {
    const KINDS: &[(&str, Overflow)] =
        &[("WRAP", Overflow::Wrap), ("SAT", Overflow::Saturate), ("FAIL", Overflow::Fail)];
    let found = KINDS.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()));
    found.map(|(_, overflow)| *overflow).ok_or(CommandError::of("ERR Invalid OVERFLOW type specified"))
}

/// The encoding, and the offset: in bits, or after `#` in integers of this width.
fn parse_operation(
    options: &mut OptionWords<'_>,
    string_bytes_max: usize,
) -> Result<Operation, CommandError> {
    let width = FieldWidth::parse(options.word()?).ok_or(CommandError::of(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
    ))?;
    let offset = options.word()?;
    let offset = match offset.strip_prefix(b"#") {
        Some(number) => scaled_offset(number, width.bits as usize, string_bytes_max)?,
        None => scaled_offset(offset, 1, string_bytes_max)?,
    };
    Ok(Operation { width, offset, change: None })
}

/// The length of the string, in bytes, that has room for all changes; 0 if there are none.
fn end_of_changes(operations: &[Operation]) -> usize {
    let changes = operations.iter().filter(|operation| operation.change.is_some());
    changes.map(|operation| (operation.offset + operation.width.bits as usize).div_ceil(8)).max().unwrap_or(0)
}

fn value_of(string: Option<StringRef<'_>>, operation: &Operation) -> i64 {
    string.map_or(0, |string| string.with_bytes(|bytes| operation.width.read(bytes, operation.offset)))
}

/// The reply of an operation; `None` if it overflows and must fail.
fn run(tx: &mut Tx<'_>, key: &[u8], operation: &Operation) -> Result<Option<i64>, CommandError> {
    let &Operation { width, offset, ref change } = operation;
    let before = tx.read(|view| Ok(value_of(view.string(key)?, operation)))?;
    let Some(change) = change else { return Ok(Some(before)) };
    let after = match change.is_increment {
        true => width.add(before, change.value, change.overflow),
        false => width.add(change.value, 0, change.overflow),
    };
    let Some(after) = after else { return Ok(None) };
    if after != before {
        let (count, bytes) = tx.read(|view| {
            let string = view.string(key)?.expect("it was made long enough");
            Ok(string.with_bytes(|content| width.written(content, offset, after)))
        })?;
        tx.apply(Effect::StringWrite { key, offset: offset as u64 / 8, content: &bytes[..count] });
    }
    Ok(Some(if change.is_increment { after } else { before }))
}
