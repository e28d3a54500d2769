//! Streams: rows first, then what the handlers share.
//!
//! Commands that read for a group change it, so that they are writes: what they log is bounded by what the
//! group can be given (`room`), not by their words. The time at which a consumer was seen is noted without an
//! effect, as the access of a key is.

mod add;
mod claim;
mod delete;
mod group;
mod info;
mod parse;
mod pending;
mod range;
mod read;
mod read_group;
mod trim;

use crate::command::{
    Args, BlockingHandler, BlockingReadHandler, Command, CommandError, ReadHandler, Reply, StagedHandler,
    WriteHandler, acl, blocking, blocking_read, container, flag, read as read_row, sliced, write,
};
use crate::store::view::View;
use crate::types::stream::{StreamEntry, StreamGroup};
use crate::types::{Stream, StreamId};

pub const COMMANDS: &[Command] = &[
    write_row("XACK", "key group id+", group::xack, flag::FAST | flag::FREES).docs(
        "5.0.0",
        "O(1) for each ID",
        "Acknowledges entries that were delivered to a consumer group.",
    ),
    write_row("XACKDEL", "key group [KEEPREF|DELREF|ACKED] IDS numids id+", delete::xackdel, flag::FAST | flag::FREES)
        .access(&["RW update delete"])
        .docs("8.2.0", "O(1) for each ID", "Acknowledges entries, and deletes them."),
    write_row(
        "XADD",
        "key [NOMKSTREAM] [KEEPREF|DELREF|ACKED] [MAXLEN|MINID [=|~] threshold [LIMIT count]] (*|id) (field value)+",
        add::xadd,
        flag::DENY_OOM | flag::FAST,
    )
    .room(trim::room)
    .event("xadd")
    .tips(&["nondeterministic_output"])
    .docs("5.0.0", "O(1), and O(N) for N entries that are trimmed", "Appends an entry to a stream."),
    write_row(
        "XAUTOCLAIM",
        "key group consumer min-idle-time start [COUNT count] [JUSTID]",
        claim::xautoclaim,
        flag::FAST,
    )
    .room(claim::room_of_xautoclaim)
    .access(&["RW delete"])
    .tips(&["nondeterministic_output"])
    .docs("6.2.0", "O(N) for N entries", "Gives a consumer entries that others have had for long."),
    write_row(
        "XCLAIM",
        "key group consumer min-idle-time id+ [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] \
         [JUSTID] [LASTID lastid]",
        claim::xclaim,
        flag::FAST,
    )
    .room(room_of_names)
    .tips(&["nondeterministic_output"])
    .docs("5.0.0", "O(log N) for each ID, with N pending entries", "Gives a consumer entries that others have."),
    write_row("XDEL", "key id+", delete::xdel, flag::FAST | flag::FREES)
        .event("xdel")
        .access(&["RW delete"])
        .docs("5.0.0", "O(1) for each ID", "Deletes entries of a stream."),
    write_row("XDELEX", "key [KEEPREF|DELREF|ACKED] IDS numids id+", delete::xdelex, flag::FAST | flag::FREES)
        .event("xdel")
        .access(&["RW delete"])
        .docs("8.2.0", "O(1) for each ID", "Deletes entries of a stream, and says what became of each."),
    container("XGROUP", XGROUP).group("stream").docs("5.0.0", "By subcommand", "Manages consumer groups."),
    container("XINFO", XINFO).group("stream").docs("5.0.0", "By subcommand", "Describes a stream and its groups."),
    read_only("XLEN", "key", range::xlen, flag::FAST).access(&["RO"]).docs(
        "5.0.0",
        "O(1)",
        "Returns the number of entries of a stream.",
    ),
    read_only("XPENDING", "key group [[IDLE min-idle-time] start end count [consumer]]", pending::xpending, 0)
        .tips(&["nondeterministic_output"])
        .docs("5.0.0", "O(N) for N entries in the reply", "Lists entries that were delivered and not acknowledged."),
    sliced_row("XRANGE", "key start end [COUNT count]", range::xrange).docs(
        "5.0.0",
        "O(N) for N entries in the reply",
        "Returns the entries of a range of IDs.",
    ),
    blocking_read_row(
        "XREAD",
        "[COUNT count] [BLOCK milliseconds] STREAMS key id",
        read::xread,
    )
    .docs("5.0.0", "O(N) for N entries in the reply", "Returns entries after given IDs, and can wait for them."),
    blocking_row(
        "XREADGROUP",
        "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key id",
        read_group::xreadgroup,
    )
    .room(read_group::room)
    .docs("5.0.0", "O(N) for N entries in the reply", "Reads entries as a consumer of a group, and can wait for them."),
    sliced_row("XREVRANGE", "key end start [COUNT count]", range::xrevrange).docs(
        "5.0.0",
        "O(N) for N entries in the reply",
        "Returns the entries of a range of IDs, the last one first.",
    ),
    write_row(
        "XSETID",
        "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
        add::xsetid,
        flag::DENY_OOM | flag::FAST,
    )
    .event("xsetid")
    .docs("5.0.0", "O(1)", "Sets the last ID of a stream."),
    write_row(
        "XTRIM",
        "key MAXLEN|MINID [=|~] threshold [LIMIT count] [KEEPREF|DELREF|ACKED]",
        trim::xtrim,
        flag::FREES,
    )
    .room(trim::room)
    .event("xtrim")
    .access(&["RW delete"])
    .tips(&["nondeterministic_output"])
    .docs("5.0.0", "O(N) for N entries that are removed", "Removes the first entries of a stream."),
];

const HELP: u32 = flag::LOADING | flag::STALE | flag::UNGATED;

const XGROUP: &[Command] = &[
    write_row("CREATE", "key group id [MKSTREAM] [ENTRIESREAD entries-read]", group::create, flag::DENY_OOM)
        .event("xgroup-create")
        .access(&["RW insert"])
        .docs("5.0.0", "O(1)", "Creates a consumer group."),
    write_row("CREATECONSUMER", "key group consumer", group::create_consumer, flag::DENY_OOM)
        .event("xgroup-createconsumer")
        .access(&["RW insert"])
        .docs("6.2.0", "O(1)", "Creates a consumer in a group."),
    write_row("DELCONSUMER", "key group consumer", group::delete_consumer, flag::FREES)
        .event("xgroup-delconsumer")
        .access(&["RW delete"])
        .docs("5.0.0", "O(1)", "Removes a consumer and what is pending for it."),
    write_row("DESTROY", "key group", group::destroy, flag::FREES)
        .event("xgroup-destroy")
        .access(&["RW delete"])
        .docs("5.0.0", "O(N) for N pending entries", "Removes a consumer group."),
    read_only("HELP", "", group::help, HELP).docs("5.0.0", "O(1)", "Lists the subcommands."),
    write_row("SETID", "key group id [ENTRIESREAD entries-read]", group::set_id, 0)
        .event("xgroup-setid")
        .docs("5.0.0", "O(1)", "Sets how far a group has read."),
];

const XINFO: &[Command] = &[
    read_only("CONSUMERS", "key group", info::consumers, 0).tips(&["nondeterministic_output"]).docs(
        "5.0.0",
        "O(1)",
        "Describes the consumers of a group.",
    ),
    read_only("GROUPS", "key", info::groups, 0).docs("5.0.0", "O(1)", "Describes the groups of a stream."),
    read_only("HELP", "", info::help, HELP).docs("5.0.0", "O(1)", "Lists the subcommands."),
    read_only("STREAM", "key [FULL [COUNT count]]", info::stream, 0).docs(
        "5.0.0",
        "O(1)",
        "Describes a stream.",
    ),
];

const fn read_only(name: &'static str, usage: &'static str, handler: ReadHandler, flags: u32) -> Command {
    read_row(name, usage, handler).group("stream").flags(flags).acl(acl::STREAM)
}

const fn sliced_row(name: &'static str, usage: &'static str, handler: StagedHandler) -> Command {
    sliced(name, usage, handler).group("stream").acl(acl::STREAM)
}

const fn write_row(name: &'static str, usage: &'static str, handler: WriteHandler, flags: u32) -> Command {
    write(name, usage, handler).group("stream").flags(flags).acl(acl::STREAM)
}

const fn blocking_row(name: &'static str, usage: &'static str, handler: BlockingHandler) -> Command {
    blocking(name, usage, handler)
        .group("stream")
        .acl(acl::STREAM | acl::BLOCKING)
        .keys(parse::stream_keys)
        .access(&["RO access"])
}

const fn blocking_read_row(name: &'static str, usage: &'static str, handler: BlockingReadHandler) -> Command {
    blocking_read(name, usage, handler)
        .group("stream")
        .acl(acl::STREAM | acl::BLOCKING)
        .keys(parse::stream_keys)
}

fn stream_of<'v>(view: &View<'v>, key: &[u8]) -> Result<Option<&'v Stream>, CommandError> {
    view.object(key)
}

/// What a command logs whose effects each have its first words: key, group and consumer.
fn room_of_names(_: &View<'_>, args: Args<'_>) -> usize {
    const EFFECTS_MAX: usize = 4;
    const FIXED_BYTES: usize = 128;
    EFFECTS_MAX * (FIXED_BYTES + args.iter().take(4).map(|word| word.len()).sum::<usize>())
}

/// The group of these words (key and group), or an error in the words of most commands.
fn group_of<'v>(
    view: &View<'v>,
    key: &[u8],
    group: &[u8],
) -> Result<(&'v Stream, &'v StreamGroup), CommandError> {
    let stream = stream_of(view, key)?;
    let found = stream.and_then(|stream| Some((stream, stream.group(group)?)));
    found.ok_or_else(|| {
        CommandError::of_parts(&[
            b"NOGROUP No such key '",
            crate::command::shown_word(key, usize::MAX),
            b"' or consumer group '",
            crate::command::shown_word(group, usize::MAX),
            b"'",
        ])
    })
}

fn reply_id(reply: &mut dyn Reply, id: StreamId) {
    id.with_text(|text| reply.bulk(text));
}

fn reply_entry(reply: &mut dyn Reply, entry: &StreamEntry<'_>) {
    reply.array(2);
    reply_id(reply, entry.id);
    reply.array(2 * entry.pairs);
    for (name, value) in entry.pairs() {
        name.with_bytes(|name| reply.bulk(name));
        value.with_bytes(|value| reply.bulk(value));
    }
}

fn reply_help(reply: &mut dyn Reply, lines: &[&str]) {
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
}
