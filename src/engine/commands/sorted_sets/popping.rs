//! ZPOPMIN, ZPOPMAX, ZMPOP, and those that wait.

use super::copying::write_members;
use super::sorted_set;
use crate::command::{
    Args, Awaited, BlockingStage, CommandError, OptionWords, Outcome, Park, Reply, integer,
};
use crate::commands::list_blocking::parse_timeout;
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::types::{ScoredMember, SortedSetRef};
use std::time::Duration;

/// From which end members are popped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Min,
    Max,
}

impl End {
    fn event(self) -> &'static str {
        if self == End::Min { "zpopmin" } else { "zpopmax" }
    }
}

static HAS_MEMBERS: Awaited =
    Awaited { name: "zset", holds: |view, key| matches!(sorted_set(view, key), Ok(Some(_))) };

pub fn zpopmin(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    zpop(tx, args, End::Min, reply)
}

pub fn zpopmax(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    zpop(tx, args, End::Max, reply)
}

fn zpop(tx: &mut Tx<'_>, args: Args<'_>, end: End, reply: &mut dyn Reply) -> Outcome {
    if args.len() > 3 {
        return Err(CommandError::SYNTAX);
    }
    let count = match args.get(2) {
        None => None,
        Some(word) => {
            let count = integer(word).ok().and_then(|count| usize::try_from(count).ok());
            Some(count.ok_or(CommandError::of("ERR value is out of range, must be positive"))?)
        }
    };
    let key = args.word(1);
    let popped = tx.read(|view| Ok(sorted_set(view, key)?.map(|set| first(set, end, count.unwrap_or(1)))))?;
    let popped = popped.unwrap_or_default();
    let members = popped.iter().map(|(score, member)| ScoredMember { score: *score, member });
    match count {
        // A single pair, which is not nested.
        None => {
            reply.array(popped.len() * 2);
            for entry in members {
                reply.bulk(entry.member);
                reply.double(entry.score);
            }
        }
        Some(_) => write_members(members, popped.len(), true, reply),
    }
    remove(tx, key, end, popped.len());
    Ok(())
}

type Popped = Vec<(f64, Vec<u8>)>;

/// The members that a pop returns, in its order.
fn first(set: SortedSetRef<'_>, end: End, count: usize) -> Popped {
    let owned = |entry: ScoredMember<'_>| (entry.score, entry.member.to_vec());
    match end {
        End::Min => set.range(0..count).map(owned).collect(),
        End::Max => set.range(set.len().saturating_sub(count)..set.len()).rev().map(owned).collect(),
    }
}

/// Removes members from an end of a set, which has at least this number.
fn remove(tx: &mut Tx<'_>, key: &[u8], end: End, count: usize) {
    if count == 0 {
        return;
    }
    let length = tx.look(|view| sorted_set(view, key).ok().flatten().map_or(0, SortedSetRef::len));
    let first = if end == End::Min { 0 } else { length - count };
    tx.event(end.event());
    tx.apply(Effect::SortedSetRemoveRange { key, first: first as u64, count: count as u64 });
}

/// The keys, the end and the count of ZMPOP and BZMPOP, whose number of keys is word `at`.
struct PopFromMany<'a> {
    keys: &'a [&'a [u8]],
    end: End,
    count: usize,
}

impl<'a> PopFromMany<'a> {
    fn parse(args: Args<'a>, at: usize) -> Result<PopFromMany<'a>, CommandError> {
        let positive = |word: &[u8], complaint| {
            let number = integer(word).ok().filter(|number| (1..=i64::from(i32::MAX)).contains(number));
            number.map(|number| number as usize).ok_or(CommandError::of(complaint))
        };
        let numkeys = positive(args.word(at), "ERR numkeys should be greater than 0")?;
        let mut options: OptionWords<'a> = args.options(at + 1);
        let keys = options.words(numkeys)?;
        let end = if options.take("MIN") {
            End::Min
        } else if options.take("MAX") {
            End::Max
        } else {
            return Err(CommandError::SYNTAX);
        };
        let mut count = None;
        while !options.is_done() {
            if count.is_some() || options.left() < 2 || !options.take("COUNT") {
                return Err(CommandError::SYNTAX);
            }
            count = Some(positive(options.word()?, "ERR count should be greater than 0")?);
        }
        Ok(PopFromMany { keys, end, count: count.unwrap_or(1) })
    }

    /// Pops from the first set that is there. False if there is none.
    fn pop(&self, tx: &mut Tx<'_>, reply: &mut dyn Reply) -> Result<bool, CommandError> {
        let Some((key, popped)) = first_of(tx, self.keys, self.end, self.count)? else { return Ok(false) };
        reply.array(2);
        reply.bulk(key);
        reply.array(popped.len());
        for (score, member) in &popped {
            reply.array(2);
            reply.bulk(member);
            reply.double(*score);
        }
        remove(tx, key, self.end, popped.len());
        Ok(true)
    }
}

/// What a pop returns of the first set that is there.
fn first_of<'k>(
    tx: &mut Tx<'_>,
    keys: &[&'k [u8]],
    end: End,
    count: usize,
) -> Result<Option<(&'k [u8], Popped)>, CommandError> {
    tx.read(|view| {
        for key in keys {
            if let Some(set) = sorted_set(view, key)? {
                return Ok(Some((*key, first(set, end, count))));
            }
        }
        Ok(None)
    })
}

pub fn zmpop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if !PopFromMany::parse(args, 1)?.pop(tx, reply)? {
        reply.null_array();
    }
    Ok(())
}

pub fn bzpopmin(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
) -> Result<BlockingStage, CommandError> {
    bzpop(tx, args, End::Min, reply)
}

pub fn bzpopmax(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
) -> Result<BlockingStage, CommandError> {
    bzpop(tx, args, End::Max, reply)
}

fn bzpop(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    end: End,
    reply: &mut dyn Reply,
) -> Result<BlockingStage, CommandError> {
    let (time, keys) = args.from(1).split_last().expect("the arity was checked");
    let at_most = parse_timeout(time, tx.now_ms())?;
    let Some((key, popped)) = first_of(tx, keys, end, 1)? else { return Ok(park(keys, at_most)) };
    reply.array(3);
    reply.bulk(key);
    for (score, member) in &popped {
        reply.bulk(member);
        reply.double(*score);
    }
    remove(tx, key, end, popped.len());
    Ok(BlockingStage::Done)
}

pub fn bzmpop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    let at_most = parse_timeout(args.word(1), tx.now_ms())?;
    let pop = PopFromMany::parse(args, 2)?;
    Ok(if pop.pop(tx, reply)? { BlockingStage::Done } else { park(pop.keys, at_most) })
}

fn park(keys: &[&[u8]], at_most: Option<Duration>) -> BlockingStage {
    let keys = keys.iter().map(|key| key.to_vec()).collect();
    BlockingStage::Park(Box::new(Park::new(keys, &HAS_MEMBERS, at_most, |reply| reply.null_array())))
}
