//! Sorted set commands: the table here, the handlers by what they do.

mod adding;
mod bounds;
mod combining;
mod copying;
mod popping;
mod ranges;
mod reading;
mod storing;

pub use adding::{AddConditions, Additions};
pub use bounds::RangeBounds;
pub use storing::{room_to_store, store};

use crate::command::{
    Args, BlockingHandler, Command, CommandError, ReadHandler, StagedHandler, WriteHandler, acl, blocking,
    flag, integer, read, sliced, write,
};
use crate::store::view::View;
use crate::types::SortedSetRef;

pub const COMMANDS: &[Command] = &[
    blocking_row("BZMPOP", "timeout numkeys source+ (MIN|MAX) [COUNT count]", popping::bzmpop, flag::FREES)
        .keys(keys_from_2)
        .docs(
            "7.0.0",
            "O(K) + O(M*log(N)) for K keys and M members popped",
            "Pops members of the first sorted set that has any; waits for one.",
        ),
    blocking_row("BZPOPMAX", "key+ timeout", popping::bzpopmax, flag::FAST | flag::FREES).docs(
        "5.0.0",
        "O(log(N)) for N members",
        "Pops the member with the highest score; waits for one.",
    ),
    blocking_row("BZPOPMIN", "key+ timeout", popping::bzpopmin, flag::FAST | flag::FREES).docs(
        "5.0.0",
        "O(log(N)) for N members",
        "Pops the member with the lowest score; waits for one.",
    ),
    write_row(
        "ZADD",
        "key [NX|XX] [GT|LT] [CH] [INCR] (score member)+",
        adding::zadd,
        flag::DENY_OOM | flag::FAST,
    )
    .logs_words(1)
    .event("zadd")
    .docs(
        "1.2.0",
        "O(log(N)) for each member",
        "Sets scores of members; creates the sorted set if the key is absent.",
    ),
    read_row("ZCARD", "key", reading::zcard, flag::FAST).access(&["RO"]).docs(
        "1.2.0",
        "O(1)",
        "Returns the number of members.",
    ),
    read_row("ZCOUNT", "key min max", reading::zcount, flag::FAST).docs(
        "2.0.0",
        "O(log(N))",
        "Counts the members whose scores are within a range.",
    ),
    staged_row("ZDIFF", "numkeys source+ [WITHSCORES]", combining::zdiff, 0).keys(keys_from_1).docs(
        "6.2.0",
        "O(L + (N-K)*log(N)) for L members in all sets, N in the first and K in the result",
        "Returns the members of the first sorted set that no other one has.",
    ),
    store_row("ZDIFFSTORE", "destination numkeys source+", combining::zdiffstore).event("zdiffstore").docs(
        "6.2.0",
        "O(L + (N-K)*log(N)) for L members in all sets, N in the first and K in the result",
        "Stores the members of the first sorted set that no other one has.",
    ),
    write_row("ZINCRBY", "key increment member", adding::zincrby, flag::DENY_OOM | flag::FAST)
        .logs_words(1)
        .event("zincr")
        .access(&["RW access update"])
        .docs("1.2.0", "O(log(N))", "Adds a number to a member's score; an absent one counts as 0."),
    staged_row(
        "ZINTER",
        "numkeys source+ [WEIGHTS weight+] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]",
        combining::zinter,
        0,
    )
    .keys(keys_from_1)
    .docs(
        "6.2.0",
        "O(N*K) + O(M*log(M)) for N members of the smallest set, K sets and M in the result",
        "Returns the members that all sorted sets have.",
    ),
    staged_row("ZINTERCARD", "numkeys source+ [LIMIT limit]", combining::zintercard, 0)
        .keys(keys_from_1)
        .docs(
            "7.0.0",
            "O(N*K) for N members of the smallest of K sets",
            "Counts the members that all sorted sets have.",
        ),
    store_row(
        "ZINTERSTORE",
        "destination numkeys source+ [WEIGHTS weight+] [AGGREGATE SUM|MIN|MAX]",
        combining::zinterstore,
    )
    .event("zinterstore")
    .docs(
        "2.0.0",
        "O(N*K) + O(M*log(M)) for N members of the smallest set, K sets and M in the result",
        "Stores the members that all sorted sets have.",
    ),
    read_row("ZLEXCOUNT", "key min max", reading::zlexcount, flag::FAST).docs(
        "2.8.9",
        "O(log(N))",
        "Counts the members within a range of names, if all scores are equal.",
    ),
    write_row("ZMPOP", "numkeys source+ (MIN|MAX) [COUNT count]", popping::zmpop, flag::FREES)
        .keys(keys_from_1)
        .access(&["RW access delete"])
        .docs(
            "7.0.0",
            "O(K) + O(M*log(N)) for K keys and M members popped",
            "Pops members of the first sorted set that has any.",
        ),
    read_row("ZMSCORE", "key member+", reading::zmscore, flag::FAST).docs(
        "6.2.0",
        "O(N) for N members asked for",
        "Returns the scores of several members.",
    ),
    write_row("ZPOPMAX", "key [count]", popping::zpopmax, flag::FAST | flag::FREES)
        .event("zpopmax")
        .access(&["RW access delete"])
        .docs("5.0.0", "O(M*log(N)) for M members popped", "Pops the members with the highest scores."),
    write_row("ZPOPMIN", "key [count]", popping::zpopmin, flag::FAST | flag::FREES)
        .event("zpopmin")
        .access(&["RW access delete"])
        .docs("5.0.0", "O(M*log(N)) for M members popped", "Pops the members with the lowest scores."),
    staged_row("ZRANDMEMBER", "key [count [WITHSCORES]]", reading::zrandmember, 0)
        .tips(&["nondeterministic_output"])
        .docs("6.2.0", "O(M*log(N)) for M members in the reply", "Returns random members."),
    staged_row(
        "ZRANGE",
        "key start stop [BYSCORE|BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        ranges::zrange,
        0,
    )
    .docs("1.2.0", RANGE, "Returns the members within a range of ranks, scores or names."),
    staged_row("ZRANGEBYLEX", "key min max [LIMIT offset count]", ranges::zrangebylex, 0).docs(
        "2.8.9",
        RANGE,
        "Returns the members within a range of names, if all scores are equal.",
    ),
    staged_row("ZRANGEBYSCORE", "key min max [WITHSCORES] [LIMIT offset count]", ranges::zrangebyscore, 0)
        .docs("1.0.5", RANGE, "Returns the members whose scores are within a range."),
    write_row(
        "ZRANGESTORE",
        "destination source min max [BYSCORE|BYLEX] [REV] [LIMIT offset count]",
        ranges::zrangestore,
        flag::DENY_OOM,
    )
    .room(ranges::room_of_zrangestore)
    .event("zrangestore")
    .access(&["OW update", "RO access"])
    .docs("6.2.0", RANGE, "Stores the members within a range of ranks, scores or names."),
    read_row("ZRANK", "key member [WITHSCORE]", reading::zrank, flag::FAST).docs(
        "2.0.0",
        "O(log(N))",
        "Returns the rank of a member, counted from the lowest score.",
    ),
    write_row("ZREM", "key member+", adding::zrem, flag::FAST | flag::FREES)
        .logs_words(1)
        .event("zrem")
        .access(&["RW delete"])
        .docs("1.2.0", "O(M*log(N)) for M members", "Removes members, and the sorted set with its last one."),
    remove_row("ZREMRANGEBYLEX", "key min max", ranges::zremrangebylex).event("zremrangebylex").docs(
        "2.8.9",
        RANGE,
        "Removes the members within a range of names, if all scores are equal.",
    ),
    remove_row("ZREMRANGEBYRANK", "key start stop", ranges::zremrangebyrank).event("zremrangebyrank").docs(
        "2.0.0",
        RANGE,
        "Removes the members within a range of ranks.",
    ),
    remove_row("ZREMRANGEBYSCORE", "key min max", ranges::zremrangebyscore).event("zremrangebyscore").docs(
        "1.2.0",
        RANGE,
        "Removes the members whose scores are within a range.",
    ),
    staged_row("ZREVRANGE", "key start stop [WITHSCORES]", ranges::zrevrange, 0).docs(
        "1.2.0",
        RANGE,
        "Returns the members within a range of ranks, from the highest score down.",
    ),
    staged_row("ZREVRANGEBYLEX", "key max min [LIMIT offset count]", ranges::zrevrangebylex, 0).docs(
        "2.8.9",
        RANGE,
        "Returns the members within a range of names, the last one first.",
    ),
    staged_row(
        "ZREVRANGEBYSCORE",
        "key max min [WITHSCORES] [LIMIT offset count]",
        ranges::zrevrangebyscore,
        0,
    )
    .docs("2.2.0", RANGE, "Returns the members whose scores are within a range, the highest first."),
    read_row("ZREVRANK", "key member [WITHSCORE]", reading::zrevrank, flag::FAST).docs(
        "2.0.0",
        "O(log(N))",
        "Returns the rank of a member, counted from the highest score.",
    ),
    staged_row("ZSCAN", "key cursor [MATCH pattern] [COUNT count]", reading::zscan, 0)
        .tips(&["nondeterministic_output"])
        .docs(
            "2.8.0",
            "O(1) a call, O(N) for a whole walk over N members",
            "Walks over the members of a sorted set in steps.",
        ),
    read_row("ZSCORE", "key member", reading::zscore, flag::FAST).docs(
        "1.2.0",
        "O(1)",
        "Returns the score of a member.",
    ),
    staged_row(
        "ZUNION",
        "numkeys source+ [WEIGHTS weight+] [AGGREGATE SUM|MIN|MAX] [WITHSCORES]",
        combining::zunion,
        0,
    )
    .keys(keys_from_1)
    .docs(
        "6.2.0",
        "O(N) + O(M*log(M)) for N members in all sets and M in the result",
        "Returns the members that any of the sorted sets has.",
    ),
    store_row(
        "ZUNIONSTORE",
        "destination numkeys source+ [WEIGHTS weight+] [AGGREGATE SUM|MIN|MAX]",
        combining::zunionstore,
    )
    .event("zunionstore")
    .docs(
        "2.0.0",
        "O(N) + O(M*log(M)) for N members in all sets and M in the result",
        "Stores the members that any of the sorted sets has.",
    ),
];

const RANGE: &str = "O(log(N)+M) for M members in the range";

const fn read_row(name: &'static str, usage: &'static str, handler: ReadHandler, flags: u32) -> Command {
    read(name, usage, handler).group("sorted-set").flags(flags).acl(acl::SORTED_SET)
}

const fn staged_row(name: &'static str, usage: &'static str, handler: StagedHandler, flags: u32) -> Command {
    sliced(name, usage, handler).group("sorted-set").flags(flags).acl(acl::SORTED_SET)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler, flags: u32) -> Command {
    write(name, usage, handler).group("sorted-set").flags(flags).acl(acl::SORTED_SET)
}

const fn remove_row(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    write_row(name, usage, handler, flag::FREES).access(&["RW delete"])
}

const fn store_row(name: &'static str, usage: &'static str, handler: WriteHandler) -> Command {
    write_row(name, usage, handler, flag::DENY_OOM)
        .keys(keys_of_store)
        .room(combining::room)
        .access(&["OW update", "RO access"])
}

const fn blocking_row(
    name: &'static str,
    usage: &'static str,
    handler: BlockingHandler,
    flags: u32,
) -> Command {
    blocking(name, usage, handler)
        .group("sorted-set")
        .flags(flag::BLOCKING | flags)
        .acl(acl::SORTED_SET | acl::BLOCKING)
        .access(&["RW access delete"])
}

/// The keys after their number, which is word `at`.
fn counted_keys(args: Args<'_>, at: usize) -> Result<Vec<usize>, CommandError> {
    let count = args.get(at).ok_or(CommandError::SYNTAX).and_then(|word| integer(word))?;
    let count = usize::try_from(count).ok().filter(|count| *count > 0 && *count < args.len() - at);
    Ok((at + 1..=at + count.ok_or(CommandError::SYNTAX)?).collect())
}

fn keys_from_1(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    counted_keys(args, 1)
}

fn keys_from_2(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    counted_keys(args, 2)
}

fn keys_of_store(args: Args<'_>) -> Result<Vec<usize>, CommandError> {
    let mut keys = counted_keys(args, 2)?;
    keys.insert(0, 1);
    Ok(keys)
}

/// The sorted set at a key.
pub fn sorted_set<'v>(view: &View<'v>, key: &[u8]) -> Result<Option<SortedSetRef<'v>>, CommandError> {
    view.sorted_set(key)
}
