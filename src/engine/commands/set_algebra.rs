//! Intersections, unions and differences of sets.

use super::list_reads::reply_element;
use super::{exists, numkeys};
use crate::command::{
    Args, Command, CommandError, Outcome, ReadHandler, Reply, WriteHandler, acl, flag, integer, read, write,
};
use crate::effect::{Cause, Effect, List};
use crate::hashing::{HashSet, HashState};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{RowElement, SetRef};
use std::borrow::Cow;

pub const COMMANDS: &[Command] = &[
    read_row("SDIFF", "key+", sdiff).tips(ANY_ORDER).docs(
        "1.0.0",
        "O(N) for N members in all sets",
        "Returns the members of a set that are in none of others.",
    ),
    write_row("SDIFFSTORE", "destination key+", sdiffstore)
        .event("sdiffstore")
        .room(room_for_difference)
        .docs(
            "1.0.0",
            "O(N) for N members in all sets",
            "Stores the members of a set that are in none of others.",
        ),
    read_row("SINTER", "key+", sinter).tips(ANY_ORDER).docs(
        "1.0.0",
        "O(N*M) for N members of the smallest of M sets",
        "Returns the members that are in all of several sets.",
    ),
    read_row("SINTERCARD", "numkeys key+ [LIMIT limit]", sintercard).keys(|args| numkeys(args, 1)).docs(
        "7.0.0",
        "O(N*M) for N members of the smallest of M sets",
        "Counts the members that are in all of several sets.",
    ),
    write_row("SINTERSTORE", "destination key+", sinterstore)
        .event("sinterstore")
        .room(room_for_intersection)
        .docs(
            "1.0.0",
            "O(N*M) for N members of the smallest of M sets",
            "Stores the members that are in all of several sets.",
        ),
    read_row("SUNION", "key+", sunion).tips(ANY_ORDER).docs(
        "1.0.0",
        "O(N) for N members in all sets",
        "Returns the members that are in any of several sets.",
    ),
    write_row("SUNIONSTORE", "destination key+", sunionstore).event("sunionstore").room(room_for_union).docs(
        "1.0.0",
        "O(N) for N members in all sets",
        "Stores the members that are in any of several sets.",
    ),
];

const ANY_ORDER: &[&str] = &["nondeterministic_output_order"];

const fn read_row(name: &'static str, usage: &'static str, handler: ReadHandler) -> Command {
    read(name, usage, handler).group("set").acl(acl::SET)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    let row = write(name, usage, handler).group("set").flags(flag::DENY_OOM).acl(acl::SET);
    row.access(&["OW update", "RO access"])
}

/// The sets of these keys; an absent one has no members.
fn sets_of<'v>(view: &View<'v>, keys: &[&[u8]]) -> Result<Vec<Option<SetRef<'v>>>, CommandError> {
    keys.iter().map(|key| view.set(key)).collect()
}

/// Calls `each` with the members that are in all sets, `limit` of them at most.
fn intersect<'v>(sets: &[Option<SetRef<'v>>], limit: usize, each: &mut dyn FnMut(RowElement<'v>)) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<SetRef<'v>>>>() else { return };
    // The smallest first: its members are looked up in the others.
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return };
    smallest.iter().filter(|member| others.iter().all(|set| set.has(*member))).take(limit).for_each(each);
}

/// The members that are in any set, each once.
fn unite<'v>(sets: &[Option<SetRef<'v>>]) -> Vec<RowElement<'v>> {
    let mut present = sets.iter().copied().flatten();
    if sets.iter().flatten().count() == 1 {
        return present.next().into_iter().flat_map(SetRef::iter).collect();
    }
    let largest = sets.iter().flatten().map(|set| set.len()).max().unwrap_or(0);
    let mut seen = HashSet::with_capacity_and_hasher(largest, HashState::default());
    // The same member can be an integer in one set and a text in another.
    let text = |member: RowElement<'v>| match member {
        RowElement::Bytes(bytes) => Cow::Borrowed(bytes),
        integer @ RowElement::Integer(_) => Cow::Owned(integer.to_vec()),
    };
    present.flat_map(SetRef::iter).filter(|member| seen.insert(text(*member))).collect()
}

/// The members of the first set that are in none of the others.
fn subtract<'v>(sets: &[Option<SetRef<'v>>]) -> Vec<RowElement<'v>> {
    let Some((Some(first), others)) = sets.split_first() else { return Vec::new() };
    first.iter().filter(|member| !others.iter().flatten().any(|set| set.has(*member))).collect()
}

fn common<'v>(sets: &[Option<SetRef<'v>>]) -> Vec<RowElement<'v>> {
    let mut found = Vec::new();
    intersect(sets, usize::MAX, &mut |member| found.push(member));
    found
}

type Combine = for<'v> fn(&[Option<SetRef<'v>>]) -> Vec<RowElement<'v>>;

fn reply_combined(view: &View<'_>, args: Args<'_>, combine: Combine, reply: &mut dyn Reply) -> Outcome {
    let members = combine(&sets_of(view, args.from(1))?);
    reply.set(members.len());
    members.into_iter().for_each(|member| reply_element(reply, member));
    Ok(())
}

fn sdiff(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_combined(view, args, subtract, reply)
}

fn sinter(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_combined(view, args, common, reply)
}

fn sunion(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_combined(view, args, unite, reply)
}

fn sintercard(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let count = integer(args.word(1)).ok().filter(|count| *count > 0);
    let count = count.ok_or(CommandError::of("ERR numkeys should be greater than 0"))? as usize;
    let mut options = args.options(2);
    let keys = options
        .words(count)
        .map_err(|_| CommandError::of("ERR Number of keys can't be greater than number of args"))?;
    let mut limit = usize::MAX;
    while !options.is_done() {
        if !options.take("LIMIT") {
            return Err(CommandError::SYNTAX);
        }
        let given = integer(options.word()?).ok().and_then(|given| usize::try_from(given).ok());
        limit = given.ok_or(CommandError::of("ERR LIMIT can't be negative"))?;
        if limit == 0 {
            limit = usize::MAX;
        }
    }
    let mut found = 0;
    intersect(&sets_of(view, keys)?, limit, &mut |_| found += 1);
    reply.integer(found);
    Ok(())
}

/// Replaces the destination by what is made of the sets.
fn store(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    combine: Combine,
    event: &'static str,
    reply: &mut dyn Reply,
) -> Outcome {
    let key = args.word(1);
    let members: Vec<Vec<u8>> = tx.read(|view| {
        let members = combine(&sets_of(view, args.from(2))?);
        Ok(members.into_iter().map(RowElement::to_vec).collect())
    })?;
    if tx.read(|view| exists(view, key)) {
        if !members.is_empty() {
            tx.event("");
        }
        tx.apply(Effect::Delete { key, cause: Cause::Command });
    }
    if !members.is_empty() {
        tx.event(event);
        let words: Vec<&[u8]> = members.iter().map(Vec::as_slice).collect();
        tx.apply(Effect::SetAdd { key, members: List::Arguments(&words) });
    }
    reply.integer(members.len() as i64);
    Ok(())
}

fn sdiffstore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    store(tx, args, subtract, "sdiffstore", reply)
}

fn sinterstore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    store(tx, args, common, "sinterstore", reply)
}

fn sunionstore(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    store(tx, args, unite, "sunionstore", reply)
}

/// The bytes that the members of each set may take in the log.
fn bytes_of(view: &View<'_>, args: Args<'_>) -> Vec<usize> {
    let sets = sets_of(view, args.from(2)).unwrap_or_default();
    sets.into_iter().map(|set| set.map_or(0, |set| set.text_bytes_max(set.len()))).collect()
}

fn room_for_difference(view: &View<'_>, args: Args<'_>) -> usize {
    bytes_of(view, args).first().copied().unwrap_or(0)
}

fn room_for_intersection(view: &View<'_>, args: Args<'_>) -> usize {
    // The smallest set is the one that has the fewest members, which need not be the one of the fewest bytes;
    // but what is common is in each of them.
    bytes_of(view, args).into_iter().min().unwrap_or(0)
}

fn room_for_union(view: &View<'_>, args: Args<'_>) -> usize {
    bytes_of(view, args).into_iter().sum()
}
