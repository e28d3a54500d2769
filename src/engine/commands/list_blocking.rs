//! List commands that wait for elements. All of them share one queue at each key, first come, first served.

use super::lists::{MOVES, ManyPop, POPS, move_element, parse_end, pop_one, room_to_move};
use super::numkeys;
use crate::command::{
    Args, Awaited, BlockingHandler, BlockingStage, Command, CommandError, Park, Reply, acl, blocking, flag,
};
use crate::store::tx::Tx;
use crate::types::{ListEnd, parse_double};
use std::time::Duration;

pub const COMMANDS: &[Command] = &[
    row("BLMOVE", "source destination LEFT|RIGHT LEFT|RIGHT timeout", blmove)
        .flags(flag::DENY_OOM | flag::BLOCKING)
        .room(room_to_move)
        .access(MOVES)
        .docs("6.2.0", "O(1)", "Moves an element from one list to another; waits for one."),
    row("BLMPOP", "timeout numkeys key+ LEFT|RIGHT [COUNT count]", blmpop)
        .flags(FREES)
        .keys(|args| numkeys(args, 2))
        .access(POPS)
        .docs(
            "7.0.0",
            "O(N+M) for N keys and M elements",
            "Removes and returns elements of the first list that is not empty; waits for one.",
        ),
    row("BLPOP", "key+ timeout", blpop).flags(FREES).access(POPS).docs(
        "2.0.0",
        "O(N) for N keys",
        "Removes and returns the first element of the first list that is not empty; waits for one.",
    ),
    row("BRPOP", "key+ timeout", brpop).flags(FREES).access(POPS).docs(
        "2.0.0",
        "O(N) for N keys",
        "Removes and returns the last element of the first list that is not empty; waits for one.",
    ),
    row("BRPOPLPUSH", "source destination timeout", brpoplpush)
        .flags(flag::DENY_OOM | flag::BLOCKING)
        .room(room_to_move)
        .access(MOVES)
        .docs("2.2.0", "O(1)", "Moves the last element of a list to the front of another; waits for one."),
];

const FREES: u32 = flag::BLOCKING | flag::FREES;

const fn row(name: &'static str, usage: &'static str, handler: BlockingHandler) -> Command {
    blocking(name, usage, handler).group("list").acl(acl::LIST | acl::BLOCKING)
}

static HAS_ELEMENTS: Awaited =
    Awaited { name: "list", holds: |view, key| matches!(view.list(key), Ok(Some(_))) };

/// The longest wait from now, from seconds as a decimal number; `None` for no limit. As in Redis, its end
/// must be a time in milliseconds of 63 bits.
pub fn parse_timeout(word: &[u8], now_ms: u64) -> Result<Option<Duration>, CommandError> {
    const NOT_A_NUMBER: CommandError = CommandError::of("ERR timeout is not a float or out of range");
    const BEYOND: CommandError = CommandError::of("ERR timeout is out of range");
    let seconds = parse_double(word).ok_or(NOT_A_NUMBER)?;
    let ms = (seconds * 1000.0).ceil();
    if ms > i64::MAX as f64 {
        return Err(BEYOND);
    }
    if seconds < 0.0 {
        return Err(CommandError::of("ERR timeout is negative"));
    }
    if ms as u64 > i64::MAX as u64 - now_ms {
        return Err(BEYOND);
    }
    Ok((ms > 0.0).then(|| Duration::from_millis(ms as u64)))
}

/// `in_exec` writes the reply where nothing waits.
fn wait_for(keys: &[&[u8]], at_most: Option<Duration>, in_exec: fn(&mut dyn Reply)) -> BlockingStage {
    let keys = keys.iter().map(|key| key.to_vec()).collect();
    let park = Park::new(keys, &HAS_ELEMENTS, at_most, |reply| reply.null_array());
    BlockingStage::Park(Box::new(Park { in_exec, ..park }))
}

fn blmove(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    let ends = [parse_end(args.word(3))?, parse_end(args.word(4))?];
    let at_most = parse_timeout(args.word(5), tx.now_ms())?;
    move_or_wait(tx, args, ends, at_most, reply)
}

fn brpoplpush(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    let at_most = parse_timeout(args.word(3), tx.now_ms())?;
    move_or_wait(tx, args, [ListEnd::Back, ListEnd::Front], at_most, reply)
}

fn move_or_wait(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    ends: [ListEnd; 2],
    at_most: Option<Duration>,
    reply: &mut dyn Reply,
) -> Result<BlockingStage, CommandError> {
    if move_element(tx, [args.word(1), args.word(2)], ends, reply)? {
        return Ok(BlockingStage::Done);
    }
    Ok(wait_for(&[args.word(1)], at_most, |reply| reply.null()))
}

fn blmpop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    let wanted = ManyPop::parse(args, 2)?;
    let at_most = parse_timeout(args.word(1), tx.now_ms())?;
    if wanted.pop(tx, reply)? {
        return Ok(BlockingStage::Done);
    }
    Ok(wait_for(wanted.keys, at_most, |reply| reply.null_array()))
}

fn blpop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    pop_or_wait(tx, args, ListEnd::Front, reply)
}

fn brpop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    pop_or_wait(tx, args, ListEnd::Back, reply)
}

fn pop_or_wait(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    end: ListEnd,
    reply: &mut dyn Reply,
) -> Result<BlockingStage, CommandError> {
    let (timeout, keys) = args.from(1).split_last().expect("the arity was checked");
    let at_most = parse_timeout(timeout, tx.now_ms())?;
    for key in keys {
        if tx.read(|view| Ok(view.list(key)?.is_some()))? {
            reply.array(2);
            reply.bulk(key);
            pop_one(tx, key, end, reply)?;
            return Ok(BlockingStage::Done);
        }
    }
    Ok(wait_for(keys, at_most, |reply| reply.null_array()))
}
