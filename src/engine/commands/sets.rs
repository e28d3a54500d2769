//! Set commands of one set. Those that combine several are in `set_algebra.rs`.

use super::list_reads::reply_element;
use super::scan::{ScanFound, ScanOf, ScanOptions, parse_cursor};
use super::slices::{AT_ONCE, Copied, SLICE};
use crate::command::{
    Args, Command, CommandError, Finish, Job, Looks, Outcome, ReadHandler, Reply, Rest, Stage, StagedHandler,
    WriteHandler, acl, flag, integer, read, sliced, write,
};
use crate::effect::{Cause, Effect, List};
use crate::gate::ReplyGate;
use crate::hashing::{HashSet, HashState};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{RowElement, SetRef};

const FREES: u32 = flag::FAST | flag::FREES;

pub const COMMANDS: &[Command] = &[
    write_row("SADD", "key member+", sadd, flag::DENY_OOM | flag::FAST)
        .logs_words(1)
        .event("sadd")
        .access(&["RW insert"])
        .docs("1.0.0", "O(N) for N members", "Adds members; creates the set if it is absent."),
    read_row("SCARD", "key", scard, flag::FAST).access(&["RO"]).docs(
        "1.0.0",
        "O(1)",
        "Returns the number of members.",
    ),
    read_row("SISMEMBER", "key member", sismember, flag::FAST).access(&["RO"]).docs(
        "1.0.0",
        "O(1)",
        "Returns whether a member is in a set.",
    ),
    sliced_row("SMEMBERS", "key", smembers).tips(&["nondeterministic_output_order"]).docs(
        "1.0.0",
        "O(N) for N members",
        "Returns all members.",
    ),
    read_row("SMISMEMBER", "key member+", smismember, flag::FAST).docs(
        "6.2.0",
        "O(N) for N named members",
        "Returns whether several members are in a set.",
    ),
    write_row("SMOVE", "source destination member", smove, flag::FAST)
        .access(&["RW access delete", "RW insert"])
        .docs("1.0.0", "O(1)", "Moves a member from one set to another."),
    write_row("SPOP", "key [count]", spop, FREES)
        .room(room_to_pop)
        .event("spop")
        .access(&["RW access delete"])
        .tips(&["nondeterministic_output"])
        .docs("1.0.0", "O(N) for N members in the reply", "Removes and returns random members."),
    sliced_row("SRANDMEMBER", "key [count]", srandmember).tips(&["nondeterministic_output"]).docs(
        "1.0.0",
        "O(N) for N members in the reply; O(M) for M members of the set if N is large compared with M",
        "Returns random members.",
    ),
    write_row("SREM", "key member+", srem, FREES).logs_words(1).event("srem").access(&["RW delete"]).docs(
        "1.0.0",
        "O(N) for N members",
        "Removes members, and the set with its last one.",
    ),
    sliced_row("SSCAN", "key cursor [MATCH pattern] [COUNT count]", sscan)
        .tips(&["nondeterministic_output"])
        .docs(
            "2.8.0",
            "O(1) a call, O(N) for a whole walk over N members",
            "Walks over the members of a set in steps.",
        ),
];

const POSITIVE: CommandError = CommandError::of("ERR value is out of range, must be positive");

const fn read_row(name: &'static str, usage: &'static str, handler: ReadHandler, flags: u32) -> Command {
    read(name, usage, handler).group("set").flags(flags).acl(acl::SET)
}

const fn sliced_row(name: &'static str, usage: &'static str, handler: StagedHandler) -> Command {
    sliced(name, usage, handler).group("set").acl(acl::SET)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler, flags: u32) -> Command {
    write(name, usage, handler).group("set").flags(flags).acl(acl::SET)
}

fn sadd(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, members) = (args.word(1), args.from(2));
    let adds = tx.read(|view| {
        let set = view.set(key)?;
        Ok(set.is_none_or(|set| members.iter().any(|member| !set.contains(member))))
    })?;
    let count = if adds { tx.apply(Effect::SetAdd { key, members: List::Arguments(members) }) } else { 0 };
    reply.integer(count as i64);
    Ok(())
}

fn scard(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.integer(view.set(args.word(1))?.map_or(0, |set| set.len() as i64));
    Ok(())
}

fn sismember(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let set = view.set(args.word(1))?;
    reply.integer(i64::from(set.is_some_and(|set| set.contains(args.word(2)))));
    Ok(())
}

fn smembers(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let set = view.set(args.word(1))?;
    if is_long(set) {
        return Ok(copy(args.word(1)));
    }
    reply_members(set, reply);
    Ok(Stage::Done)
}

/// Whether reading the whole set would delay other clients.
pub fn is_long(set: Option<SetRef<'_>>) -> bool {
    set.is_some_and(|set| set.len() > AT_ONCE)
}

pub fn reply_members(set: Option<SetRef<'_>>, reply: &mut dyn Reply) {
    reply.set(set.map_or(0, SetRef::len));
    set.into_iter().flat_map(SetRef::iter).for_each(|member| reply_element(reply, member));
}

/// Copies a long set in slices, and replies the copy.
pub fn copy(key: &[u8]) -> Stage {
    let key = key.to_vec();
    let job: Job = Box::new(move |looks| {
        let copied = copy_members(looks, &key, looks.room());
        let finish: Finish = Box::new(move |_, _| {
            let copied = copied?;
            Ok(Rest::Write(Box::new(move |reply| {
                reply.set(copied.len());
                copied.write_all(reply);
            })))
        });
        finish
    });
    Stage::Copy(job)
}

/// The members of a set as of one moment; none if the key does not exist. The copy stops beyond `room` bytes.
pub fn copy_members(looks: &dyn Looks, key: &[u8], room: usize) -> Result<Copied, CommandError> {
    /// The number of interrupted walks after which the set is read in one look.
    const ATTEMPTS: usize = 4;
    for attempt in 0..=ATTEMPTS {
        let count = if attempt == ATTEMPTS { usize::MAX } else { SLICE };
        if let Some(copied) = copy_once(looks, key, room, count)? {
            return Ok(copied);
        }
    }
    unreachable!("the last attempt is one look")
}

/// One walk; `None` if the set has changed meanwhile.
fn copy_once(
    looks: &dyn Looks,
    key: &[u8],
    room: usize,
    count: usize,
) -> Result<Option<Copied>, CommandError> {
    let (mut copied, mut cursor) = (Copied::default(), 0);
    let mut began: Option<ReplyGate> = None;
    loop {
        let (mut failure, mut is_same) = (None, true);
        looks.look(&mut |view| {
            let set = match view.set(key) {
                Ok(set) => set,
                Err(error) => return failure = Some(error),
            };
            let changed_by = view.changed_by(key);
            // A set that has expired meanwhile is gone.
            is_same = began.is_none_or(|batch| batch == changed_by && set.is_some());
            began.get_or_insert(changed_by);
            cursor = match set.filter(|_| is_same) {
                Some(set) => {
                    set.scan(cursor, count, &mut |member| member.with_bytes(|bytes| copied.push(bytes)))
                }
                None => 0,
            };
        });
        match failure {
            Some(error) if began.is_none() => return Err(error),
            Some(_) => return Ok(None),
            None if !is_same => return Ok(None),
            None if copied.bytes() > room => {
                copied.give_up();
                return Ok(Some(copied));
            }
            None if cursor == 0 => return Ok(Some(copied)),
            None => {}
        }
    }
}

fn smismember(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let set = view.set(args.word(1))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members {
        reply.integer(i64::from(set.is_some_and(|set| set.contains(member))));
    }
    Ok(())
}

fn smove(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let [source, destination, member] = [1, 2, 3].map(|word| args.word(word));
    let found = tx.read(|view| {
        let Some(set) = view.set(source)? else { return Ok(None) };
        let other = view.set(destination)?;
        let is_there = other.is_some_and(|other| other.contains(member));
        Ok(set.contains(member).then_some(is_there))
    })?;
    if let Some(is_there) = found
        && source != destination
    {
        let members = List::Arguments(&[member]);
        tx.event("srem");
        tx.apply(Effect::SetRemove { key: source, members });
        if !is_there {
            tx.event("sadd");
            tx.apply(Effect::SetAdd { key: destination, members });
        }
    }
    reply.integer(i64::from(found.is_some()));
    Ok(())
}

/// The members that SPOP may log: a set that a count empties is deleted, so that none is logged.
fn room_to_pop(view: &View<'_>, args: Args<'_>) -> usize {
    let Some(set) = view.set(args.word(1)).ok().flatten() else { return 0 };
    let Some(count) = args.get(2) else { return set.text_bytes_max(1) };
    let count = integer(count).ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    if count < set.len() { set.text_bytes_max(count) } else { 0 }
}

fn spop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let Some(count) = args.get(2) else {
        let member = tx.read(|view| Ok(view.set(key)?.map(|set| sample(view, set).to_vec())))?;
        match &member {
            Some(member) => {
                tx.apply(Effect::SetRemove { key, members: List::Arguments(&[member]) });
                reply.bulk(member);
            }
            None => reply.null(),
        }
        return Ok(());
    };
    if args.len() > 3 {
        return Err(CommandError::SYNTAX);
    }
    let count = integer(count).ok().and_then(|count| usize::try_from(count).ok()).ok_or(POSITIVE)?;
    let Some(length) = tx.read(|view| Ok(view.set(key)?.map(SetRef::len)))? else {
        reply.set(0);
        return Ok(());
    };
    if count >= length {
        tx.read(|view| view.set(key).map(|set| reply_members(set, reply)))?;
        tx.notify("spop", key);
        tx.apply(Effect::Delete { key, cause: Cause::Command });
        return Ok(());
    }
    let picked: Vec<Vec<u8>> = tx.read(|view| {
        let set = view.set(key)?.expect("it was there");
        Ok(pick_distinct(&|| view.random(), set, count).into_iter().map(RowElement::to_vec).collect())
    })?;
    let members: Vec<&[u8]> = picked.iter().map(Vec::as_slice).collect();
    if !members.is_empty() {
        tx.apply(Effect::SetRemove { key, members: List::Arguments(&members) });
    }
    reply.set(members.len());
    members.iter().for_each(|member| reply.bulk(member));
    Ok(())
}

fn sample<'a>(view: &View<'_>, set: SetRef<'a>) -> RowElement<'a> {
    set.sample(view.random(), view.random()).expect("a set has a member")
}

/// `count` members, of which there are more.
fn pick_distinct<'a>(random: &dyn Fn() -> u64, set: SetRef<'a>, count: usize) -> Vec<RowElement<'a>> {
    let length = set.len();
    if length > 64 && count < length / 4 {
        // Few of many: most picks are new.
        let mut picked = Vec::with_capacity(count);
        let mut seen = HashSet::with_capacity_and_hasher(count, HashState::default());
        while picked.len() < count {
            let member = set.sample(random(), random()).expect("a set has a member");
            if seen.insert(member) {
                picked.push(member);
            }
        }
        return picked;
    }
    let mut members: Vec<RowElement<'_>> = set.iter().collect();
    for place in 0..count.min(length) {
        let rest = (length - place) as u64;
        members.swap(place, place + (random() % rest) as usize);
    }
    members.truncate(count);
    members
}

fn srandmember(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let key = args.word(1);
    let Some(count) = args.get(2) else {
        match view.set(key)? {
            Some(set) => reply_element(reply, sample(view, set)),
            None => reply.null(),
        }
        return Ok(Stage::Done);
    };
    if args.len() > 3 {
        return Err(CommandError::SYNTAX);
    }
    let count = parse_random(count)?;
    let Some(set) = view.set(key)?.filter(|_| count != 0) else {
        reply.array(0);
        return Ok(Stage::Done);
    };
    let picks = count.unsigned_abs() as usize;
    match count {
        ..0 => {
            reply.array(picks);
            (0..picks).for_each(|_| reply_element(reply, sample(view, set)));
        }
        _ if picks >= set.len() => {
            if is_long(Some(set)) {
                return Ok(copy_as_array(key));
            }
            reply.array(set.len());
            set.iter().for_each(|member| reply_element(reply, member));
        }
        _ => {
            let picked = pick_distinct(&|| view.random(), set, picks);
            reply.array(picked.len());
            picked.into_iter().for_each(|member| reply_element(reply, member));
        }
    }
    Ok(Stage::Done)
}

fn copy_as_array(key: &[u8]) -> Stage {
    let key = key.to_vec();
    let job: Job = Box::new(move |looks| {
        let copied = copy_members(looks, &key, looks.room());
        let finish: Finish = Box::new(move |_, _| {
            let copied = copied?;
            Ok(Rest::Write(Box::new(move |reply| {
                reply.array(copied.len());
                copied.write_all(reply);
            })))
        });
        finish
    });
    Stage::Copy(job)
}

/// SRANDMEMBER's count.
fn parse_random(word: &[u8]) -> Result<i64, CommandError> {
    /// A negative count repeats members, so the size of the set does not bound the reply: this constant does.
    const REPEATS_MAX: u64 = 1 << 24;
    let count = integer(word)?;
    if count == i64::MIN {
        return Err(CommandError::of(
            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
        ));
    }
    if count < 0 && count.unsigned_abs() > REPEATS_MAX {
        return Err(CommandError::of("ERR value is out of range"));
    }
    Ok(count)
}

fn srem(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, members) = (args.word(1), args.from(2));
    let any = tx.read(|view| {
        let set = view.set(key)?;
        Ok(set.is_some_and(|set| members.iter().any(|member| set.contains(member))))
    })?;
    let count = if any { tx.apply(Effect::SetRemove { key, members: List::Arguments(members) }) } else { 0 };
    reply.integer(count as i64);
    Ok(())
}

fn sscan(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let cursor = parse_cursor(args.word(2))?;
    let mut found = ScanFound::default();
    let Some(set) = view.set(args.word(1))? else {
        found.write(0, reply);
        return Ok(Stage::Done);
    };
    let options = ScanOptions::parse(args.options(3), ScanOf::Members)?;
    if options.count > AT_ONCE && is_long(Some(set)) {
        return Ok(scan_in_slices(args.word(1), cursor, &options));
    }
    let next = set.scan(cursor, options.count, &mut |member| found.member(&options, member));
    found.write(next, reply);
    Ok(Stage::Done)
}

/// SSCAN with a large count: its result need not be consistent as of one moment.
fn scan_in_slices(key: &[u8], cursor: u64, options: &ScanOptions<'_>) -> Stage {
    let (key, options) = (key.to_vec(), options.to_owned());
    let job: Job = Box::new(move |looks| {
        let (mut next, mut found) = (cursor, ScanFound::default());
        found.in_slices(looks, options.count, |count, found| {
            let options = options.borrow();
            looks.look(&mut |view| {
                let set = view.set(&key).ok().flatten();
                next =
                    set.map_or(0, |set| set.scan(next, count, &mut |member| found.member(&options, member)));
            });
            next != 0
        });
        let finish: Finish =
            Box::new(move |_, _| Ok(Rest::Write(Box::new(move |reply| found.write(next, reply)))));
        finish
    });
    Stage::Copy(job)
}
