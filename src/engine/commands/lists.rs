//! List commands that do not wait. Those that do are in `list_blocking.rs`.

use super::list_reads::{copy_range, is_long, range_of, reply_element, reply_range};
use super::numkeys;
use crate::command::{
    Args, Command, CommandError, Outcome, ReadHandler, Reply, Stage, StagedHandler, WriteHandler, acl, flag,
    integer, read, sliced, write,
};
use crate::effect::{Effect, List};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{Coded, ListEnd, ListRef};

const FREES: u32 = flag::FAST | flag::FREES;
const GROWS: u32 = flag::DENY_OOM | flag::FAST;

pub const COMMANDS: &[Command] = &[
    read_row("LINDEX", "key index", lindex, 0).docs(
        "1.0.0",
        "O(N) for N blocks of elements between the index and the nearer end",
        "Returns an element by its index.",
    ),
    write_row("LINSERT", "key BEFORE|AFTER pivot element", linsert, flag::DENY_OOM)
        .logs_words(2)
        .event("linsert")
        .access(&["RW insert"])
        .docs("2.2.0", "O(N) for N elements up to the pivot", "Inserts an element before or after another."),
    read_row("LLEN", "key", llen, flag::FAST).access(&["RO"]).docs(
        "1.0.0",
        "O(1)",
        "Returns the length of a list.",
    ),
    write_row("LMOVE", "source destination LEFT|RIGHT LEFT|RIGHT", lmove, flag::DENY_OOM)
        .room(room_to_move)
        .access(MOVES)
        .docs("6.2.0", "O(1)", "Moves an element from one end of a list to an end of another."),
    write_row("LMPOP", "numkeys key+ LEFT|RIGHT [COUNT count]", lmpop, flag::FREES)
        .keys(|args| numkeys(args, 1))
        .access(POPS)
        .docs(
            "7.0.0",
            "O(N+M) for N keys and M elements",
            "Removes and returns elements of the first list that is not empty.",
        ),
    write_row("LPOP", "key [count]", lpop, FREES).event("lpop").access(POPS).docs(
        "1.0.0",
        "O(N) for N elements in the reply",
        "Removes and returns the first elements.",
    ),
    read_row("LPOS", "key element [RANK rank] [COUNT count] [MAXLEN len]", lpos, 0).docs(
        "6.0.6",
        "O(N) for N elements of the list",
        "Returns the indexes of equal elements.",
    ),
    write_row("LPUSH", "key element+", lpush, GROWS)
        .logs_words(1)
        .event("lpush")
        .access(&["RW insert"])
        .docs(
            "1.0.0",
            "O(N) for N elements",
            "Adds elements to the front; creates the list if it is absent.",
        ),
    write_row("LPUSHX", "key element+", lpushx, GROWS)
        .logs_words(1)
        .event("lpush")
        .access(&["RW insert"])
        .docs("2.2.0", "O(N) for N elements", "Adds elements to the front of a list that exists."),
    sliced_row("LRANGE", "key start stop", lrange).docs(
        "1.0.0",
        "O(S+N) for S blocks of elements before the range and N elements in it",
        "Returns a range of elements.",
    ),
    write_row("LREM", "key count element", lrem, flag::FREES).event("lrem").access(&["RW delete"]).docs(
        "1.0.0",
        "O(N) for N elements of the list",
        "Removes elements that are equal to a word.",
    ),
    write_row("LSET", "key index element", lset, flag::DENY_OOM)
        .logs_words(2)
        .event("lset")
        .access(&["RW update"])
        .docs("1.0.0", "O(N) for N blocks of elements up to the index", "Replaces an element."),
    write_row("LTRIM", "key start stop", ltrim, flag::FREES).event("ltrim").access(&["RW delete"]).docs(
        "1.0.0",
        "O(N) for N blocks of elements that are removed",
        "Keeps a range of elements, and removes the others.",
    ),
    write_row("RPOP", "key [count]", rpop, FREES).event("rpop").access(POPS).docs(
        "1.0.0",
        "O(N) for N elements in the reply",
        "Removes and returns the last elements.",
    ),
    write_row("RPOPLPUSH", "source destination", rpoplpush, flag::DENY_OOM)
        .room(room_to_move)
        .access(MOVES)
        .docs("1.2.0", "O(1)", "Moves the last element of a list to the front of another."),
    write_row("RPUSH", "key element+", rpush, GROWS)
        .logs_words(1)
        .event("rpush")
        .access(&["RW insert"])
        .docs("1.0.0", "O(N) for N elements", "Adds elements to the end; creates the list if it is absent."),
    write_row("RPUSHX", "key element+", rpushx, GROWS)
        .logs_words(1)
        .event("rpush")
        .access(&["RW insert"])
        .docs("2.2.0", "O(N) for N elements", "Adds elements to the end of a list that exists."),
];

/// The access of commands that pop from their keys, and of those that push there what they have popped.
pub const POPS: &[&str] = &["RW access delete"];
pub const MOVES: &[&str] = &["RW access delete", "RW insert"];

const OUT_OF_RANGE: CommandError = CommandError::of("ERR value is out of range, must be positive");

const fn read_row(name: &'static str, usage: &'static str, handler: ReadHandler, flags: u32) -> Command {
    read(name, usage, handler).group("list").flags(flags).acl(acl::LIST)
}

const fn sliced_row(name: &'static str, usage: &'static str, handler: StagedHandler) -> Command {
    sliced(name, usage, handler).group("list").acl(acl::LIST)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler, flags: u32) -> Command {
    write(name, usage, handler).group("list").flags(flags).acl(acl::LIST)
}

fn lindex(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let element = match view.list(args.word(1))? {
        Some(list) => index_of(list, args.integer(2)?).and_then(|index| list.get(index)),
        None => None,
    };
    match element {
        Some(element) => reply_element(reply, element),
        None => reply.null(),
    }
    Ok(())
}

/// The index from the front, if it is in the list; a negative one counts from the end.
fn index_of(list: ListRef<'_>, index: i64) -> Option<usize> {
    let length = list.len() as i64;
    let index = if index < 0 { index.saturating_add(length) } else { index };
    (0..length).contains(&index).then_some(index as usize)
}

fn linsert(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let [key, pivot, element] = [1, 3, 4].map(|word| args.word(word));
    let after = match () {
        () if args.is(2, "AFTER") => true,
        () if args.is(2, "BEFORE") => false,
        () => return Err(CommandError::SYNTAX),
    };
    let found = tx.read(|view| Ok(view.list(key)?.map(|list| position(list, pivot))))?;
    match found {
        None => reply.integer(0),
        Some(None) => reply.integer(-1),
        Some(Some(pivot)) => {
            let index = (pivot + usize::from(after)) as u64;
            let length = tx.apply(Effect::ListInsert { key, index, element });
            reply.integer(length as i64);
        }
    }
    Ok(())
}

/// The index of the first element that is equal to a word.
fn position(list: ListRef<'_>, word: &[u8]) -> Option<usize> {
    let (word, mut elements) = (Coded::of(word), list.iter());
    (0..)
        .map_while(|index| Some((index, elements.next_is(&word)?)))
        .find(|(_, is_equal)| *is_equal)
        .map(|(index, _)| index)
}

fn llen(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.integer(view.list(args.word(1))?.map_or(0, |list| list.len() as i64));
    Ok(())
}

fn lmove(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let ends = [parse_end(args.word(3))?, parse_end(args.word(4))?];
    if !move_element(tx, [args.word(1), args.word(2)], ends, reply)? {
        reply.null();
    }
    Ok(())
}

/// LEFT or RIGHT.
pub fn parse_end(word: &[u8]) -> Result<ListEnd, CommandError> {
    match word {
        _ if word.eq_ignore_ascii_case(b"LEFT") => Ok(ListEnd::Front),
        _ if word.eq_ignore_ascii_case(b"RIGHT") => Ok(ListEnd::Back),
        _ => Err(CommandError::SYNTAX),
    }
}

/// Moves an element and replies it. False, without a reply, if there is none.
pub fn move_element(
    tx: &mut Tx<'_>,
    [source, destination]: [&[u8]; 2],
    [from, to]: [ListEnd; 2],
    reply: &mut dyn Reply,
) -> Result<bool, CommandError> {
    let element = tx.read(|view| {
        let Some(list) = view.list(source)? else { return Ok(None) };
        view.list(destination)?;
        let element = ends_of(list, from).next().expect("a list has an element");
        Ok(Some(element.to_vec()))
    })?;
    let Some(element) = element else { return Ok(false) };
    // The push comes first, as its event does in Redis; and a list that is moved to itself stays.
    push_effect(tx, destination, &[&element], to);
    pop_effect(tx, source, 1, from);
    reply.bulk(&element);
    Ok(true)
}

/// The elements, from an end on.
fn ends_of(list: ListRef<'_>, from: ListEnd) -> crate::types::ListElements<'_> {
    match from {
        ListEnd::Front => list.iter(),
        ListEnd::Back => list.iter_back_from(list.len()),
    }
}

/// What a move logs beyond its words: the element.
pub fn room_to_move(view: &View<'_>, args: Args<'_>) -> usize {
    let from = match args.get(3) {
        Some(word) if args.len() > 4 => parse_end(word).unwrap_or(ListEnd::Back),
        _ => ListEnd::Back,
    };
    let list = view.list(args.word(1)).ok().flatten();
    list.and_then(|list| ends_of(list, from).next()).map_or(0, |element| element.text_bytes())
}

fn push_effect(tx: &mut Tx<'_>, key: &[u8], elements: &[&[u8]], end: ListEnd) -> usize {
    tx.event(if end == ListEnd::Front { "lpush" } else { "rpush" });
    tx.apply(Effect::ListPush { key, end, elements: List::Arguments(elements) })
}

fn pop_effect(tx: &mut Tx<'_>, key: &[u8], count: usize, end: ListEnd) {
    tx.event(if end == ListEnd::Front { "lpop" } else { "rpop" });
    tx.apply(Effect::ListPop { key, end, count: count as u64 });
}

fn lmpop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let wanted = ManyPop::parse(args, 1)?;
    if !wanted.pop(tx, reply)? {
        reply.null_array();
    }
    Ok(())
}

/// The words of LMPOP and BLMPOP.
pub struct ManyPop<'a> {
    pub keys: &'a [&'a [u8]],
    end: ListEnd,
    count: usize,
}

impl<'a> ManyPop<'a> {
    /// `at` is the word of the number of keys.
    pub fn parse(args: Args<'a>, at: usize) -> Result<ManyPop<'a>, CommandError> {
        let positive = |word: &[u8], error: &'static str| {
            let number = integer(word).ok().filter(|number| *number > 0);
            number.map(|number| number as usize).ok_or(CommandError::of(error))
        };
        let count = positive(args.word(at), "ERR numkeys should be greater than 0")?;
        let mut options = args.options(at + 1);
        let keys = options.words(count)?;
        let end = parse_end(options.word()?)?;
        let mut pop = ManyPop { keys, end, count: 1 };
        if options.take("COUNT") {
            pop.count = positive(options.word()?, "ERR count should be greater than 0")?;
        }
        if options.is_done() { Ok(pop) } else { Err(CommandError::SYNTAX) }
    }

    /// Pops from the first key that has a list, and replies; false, without a reply, if none has.
    pub fn pop(&self, tx: &mut Tx<'_>, reply: &mut dyn Reply) -> Result<bool, CommandError> {
        for key in self.keys {
            let length = tx.read(|view| Ok(view.list(key)?.map(ListRef::len)))?;
            if let Some(length) = length {
                reply.array(2);
                reply.bulk(key);
                pop_many(tx, key, self.end, self.count.min(length), reply);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Pops this number of elements, as many as there are or fewer, and replies them.
fn pop_many(tx: &mut Tx<'_>, key: &[u8], end: ListEnd, count: usize, reply: &mut dyn Reply) {
    reply.array(count);
    tx.read(|view| {
        let list = view.list(key).ok().flatten().into_iter();
        list.flat_map(|list| ends_of(list, end))
            .take(count)
            .for_each(|element| reply_element(reply, element));
    });
    if count > 0 {
        pop_effect(tx, key, count, end);
    }
}

fn lpop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    pop(tx, args, ListEnd::Front, reply)
}

fn rpop(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    pop(tx, args, ListEnd::Back, reply)
}

fn pop(tx: &mut Tx<'_>, args: Args<'_>, end: ListEnd, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let Some(count) = args.get(2) else {
        if !pop_one(tx, key, end, reply)? {
            reply.null();
        }
        return Ok(());
    };
    if args.len() > 3 {
        return Err(CommandError::wrong_arity(if end == ListEnd::Front { "lpop" } else { "rpop" }));
    }
    let count = integer(count).ok().and_then(|count| usize::try_from(count).ok()).ok_or(OUT_OF_RANGE)?;
    match tx.read(|view| Ok(view.list(key)?.map(ListRef::len)))? {
        Some(length) => pop_many(tx, key, end, count.min(length), reply),
        None => reply.null_array(),
    }
    Ok(())
}

/// Pops an element and replies it; false, without a reply, if there is none.
pub fn pop_one(
    tx: &mut Tx<'_>,
    key: &[u8],
    end: ListEnd,
    reply: &mut dyn Reply,
) -> Result<bool, CommandError> {
    let is_there = tx.read(|view| {
        let Some(list) = view.list(key)? else { return Ok(false) };
        reply_element(reply, ends_of(list, end).next().expect("a list has an element"));
        Ok(true)
    })?;
    if is_there {
        pop_effect(tx, key, 1, end);
    }
    Ok(is_there)
}

/// The options of LPOS.
struct Search {
    /// The rank of the first match that counts, from 1 on; from the end of the list if `backwards`.
    rank: u64,
    backwards: bool,
    /// `None` for the first match only.
    count: Option<usize>,
    /// The most elements to compare.
    compared_max: usize,
}

impl Search {
    fn parse(args: Args<'_>) -> Result<Search, CommandError> {
        let mut search = Search { rank: 1, backwards: false, count: None, compared_max: usize::MAX };
        let mut options = args.options(3);
        let unlimited = |number: usize| if number == 0 { usize::MAX } else { number };
        let positive = |word: &[u8], error: &'static str| {
            let number = integer(word).ok().and_then(|number| usize::try_from(number).ok());
            number.map(unlimited).ok_or(CommandError::of(error))
        };
        while !options.is_done() {
            if options.take("RANK") {
                let rank = options.integer()?;
                match rank {
                    i64::MIN => {
                        return Err(CommandError::of(
                            "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
                        ));
                    }
                    0 => {
                        return Err(CommandError::of(
                            "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or \
                             use negative to start from the end of the list",
                        ));
                    }
                    _ => (search.rank, search.backwards) = (rank.unsigned_abs(), rank < 0),
                }
            } else if options.take("COUNT") {
                search.count = Some(positive(options.word()?, "ERR COUNT can't be negative")?);
            } else if options.take("MAXLEN") {
                search.compared_max = positive(options.word()?, "ERR MAXLEN can't be negative")?;
            } else {
                return Err(CommandError::SYNTAX);
            }
        }
        Ok(search)
    }

    fn find(&self, list: ListRef<'_>, word: &[u8]) -> Vec<usize> {
        let (word, length) = (Coded::of(word), list.len());
        let mut elements = ends_of(list, if self.backwards { ListEnd::Back } else { ListEnd::Front });
        let compared = (0..self.compared_max).map_while(|at| Some((at, elements.next_is(&word)?)));
        let matches = compared.filter(|(_, is_equal)| *is_equal).map(|(at, _)| at);
        let skipped = usize::try_from(self.rank - 1).unwrap_or(usize::MAX);
        let wanted = matches.skip(skipped).take(self.count.unwrap_or(1));
        wanted.map(|at| if self.backwards { length - 1 - at } else { at }).collect()
    }
}

fn lpos(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let search = Search::parse(args)?;
    let list = view.list(args.word(1))?;
    let found = list.map_or(Vec::new(), |list| search.find(list, args.word(2)));
    match (search.count, found.first()) {
        (Some(_), _) => {
            reply.array(found.len());
            found.iter().for_each(|at| reply.integer(*at as i64));
        }
        (None, Some(at)) => reply.integer(*at as i64),
        (None, None) => reply.null(),
    }
    Ok(())
}

fn lpush(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    push(tx, args, ListEnd::Front, false, reply)
}

fn lpushx(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    push(tx, args, ListEnd::Front, true, reply)
}

fn rpush(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    push(tx, args, ListEnd::Back, false, reply)
}

fn rpushx(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    push(tx, args, ListEnd::Back, true, reply)
}

fn push(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    end: ListEnd,
    only_existing: bool,
    reply: &mut dyn Reply,
) -> Outcome {
    let is_there = tx.read(|view| Ok(view.list(args.word(1))?.is_some()))?;
    let length =
        if is_there || !only_existing { push_effect(tx, args.word(1), args.from(2), end) } else { 0 };
    reply.integer(length as i64);
    Ok(())
}

fn lrange(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    let (start, stop) = (args.integer(2)?, args.integer(3)?);
    let Some(list) = view.list(args.word(1))? else {
        reply.array(0);
        return Ok(Stage::Done);
    };
    let range = range_of(list.len(), start, stop);
    if is_long(&range) {
        return Ok(copy_range(args.word(1), start, stop));
    }
    reply_range(list, range, reply);
    Ok(Stage::Done)
}

fn lrem(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, element) = (args.word(1), args.word(3));
    let wanted = args.integer(2)?;
    let (end, most) = match wanted {
        0 => (ListEnd::Front, usize::MAX),
        1.. => (ListEnd::Front, usize::try_from(wanted).unwrap_or(usize::MAX)),
        _ => (ListEnd::Back, usize::try_from(wanted.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let count = tx.read(|view| {
        let Some(list) = view.list(key)? else { return Ok(0) };
        let (word, mut elements) = (Coded::of(element), list.iter());
        let equal = std::iter::from_fn(|| elements.next_is(&word)).filter(|is_equal| *is_equal);
        Ok(equal.take(most).count())
    })?;
    if count > 0 {
        tx.apply(Effect::ListRemove { key, end, count: count as u64, element });
    }
    reply.integer(count as i64);
    Ok(())
}

fn lset(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, element) = (args.word(1), args.word(3));
    let index = tx.read(|view| {
        let list = view.list(key)?.ok_or(CommandError::NO_SUCH_KEY)?;
        index_of(list, args.integer(2)?).ok_or(CommandError::of("ERR index out of range"))
    })?;
    tx.apply(Effect::ListSet { key, index: index as u64, element });
    reply.ok();
    Ok(())
}

fn ltrim(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, start, stop) = (args.word(1), args.integer(2)?, args.integer(3)?);
    let length = tx.read(|view| Ok(view.list(key)?.map(ListRef::len)))?;
    if let Some(length) = length {
        let kept = range_of(length, start, stop);
        if kept.len() < length {
            tx.apply(Effect::ListTrim { key, start: kept.start as u64, end: kept.end as u64 });
        }
    }
    reply.ok();
    Ok(())
}

fn rpoplpush(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    if !move_element(tx, [args.word(1), args.word(2)], [ListEnd::Back, ListEnd::Front], reply)? {
        reply.null();
    }
    Ok(())
}
