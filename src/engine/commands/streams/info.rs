//! XINFO.

use super::group::no_such_group;
use super::{reply_entry, reply_help, reply_id, stream_of};
use crate::command::{Args, CommandError, Outcome, Reply};
use crate::store::view::View;
use crate::types::stream::{StreamConsumer, StreamEntry, StreamGroup};
use crate::types::{Stream, StreamId};

fn existing<'v>(view: &View<'v>, key: &[u8]) -> Result<&'v Stream, CommandError> {
    stream_of(view, key)?.ok_or(CommandError::NO_SUCH_KEY)
}

pub(super) fn consumers(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, name) = (args.word(2), args.word(3));
    let group = existing(view, key)?.group(name).ok_or_else(|| no_such_group(key, name))?;
    let since = |ms: u64| view.now_ms().cast_signed().wrapping_sub(ms.cast_signed());
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(&consumer.name);
        reply.bulk(b"pending");
        reply.integer(consumer.pending().len() as i64);
        reply.bulk(b"idle");
        reply.integer(since(consumer.seen_ms()).max(0));
        reply.bulk(b"inactive");
        reply.integer(if consumer.active_ms == 0 { -1 } else { since(consumer.active_ms) });
    }
    Ok(())
}

pub(super) fn groups(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let stream = existing(view, args.word(2))?;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.integer(group.consumers().len() as i64);
        reply.bulk(b"pending");
        reply.integer(group.pending().len() as i64);
        reply_progress(stream, group, reply);
    }
    Ok(())
}

fn reply_progress(stream: &Stream, group: &StreamGroup, reply: &mut dyn Reply) {
    reply.bulk(b"last-delivered-id");
    reply_id(reply, group.last_id);
    reply.bulk(b"entries-read");
    reply_count(reply, group.entries_read);
    reply.bulk(b"lag");
    reply_count(reply, stream.lag(group));
}

fn reply_count(reply: &mut dyn Reply, count: Option<u64>) {
    match count {
        Some(count) => reply.integer(count.cast_signed()),
        None => reply.null(),
    }
}

pub(super) fn stream(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let stream = existing(view, args.word(2))?;
    let invalid = || CommandError::wrong_subcommand(args.word(0), args.word(1));
    let count = match args.len() {
        3 => None,
        4 if args.is(3, "FULL") => Some(10),
        6 if args.is(3, "FULL") && args.is(4, "COUNT") => Some(args.integer(5)?),
        _ => return Err(invalid()),
    };
    reply.map(if count.is_some() { 9 } else { 10 });
    reply.bulk(b"length");
    reply.integer(stream.len() as i64);
    reply.bulk(b"radix-tree-keys");
    reply.integer(stream.blocks() as i64);
    reply.bulk(b"radix-tree-nodes");
    reply.integer(tree_nodes(stream) as i64);
    reply.bulk(b"last-generated-id");
    reply_id(reply, stream.last_id());
    reply.bulk(b"max-deleted-entry-id");
    reply_id(reply, stream.max_deleted_id());
    reply.bulk(b"entries-added");
    reply.integer(stream.entries_added().cast_signed());
    reply.bulk(b"recorded-first-entry-id");
    reply_id(reply, stream.first_id());
    match count {
        None => ends(stream, reply),
        Some(count) => full(stream, if count < 0 { 10 } else { count as usize }, reply),
    }
    Ok(())
}

fn ends(stream: &Stream, reply: &mut dyn Reply) {
    reply.bulk(b"groups");
    reply.integer(stream.groups().len() as i64);
    for (name, entry) in [("first-entry", stream.first()), ("last-entry", stream.get(stream.top_id()))] {
        reply.bulk(name.as_bytes());
        match entry {
            Some(entry) => reply_entry(reply, &entry),
            None => reply.null(),
        }
    }
}

/// With up to `count` entries of each list; 0 for all.
fn full(stream: &Stream, count: usize, reply: &mut dyn Reply) {
    let count = if count == 0 { usize::MAX } else { count };
    let entries: Vec<StreamEntry<'_>> = stream.range(StreamId::ZERO..=StreamId::MAX).take(count).collect();
    reply.bulk(b"entries");
    reply.array(entries.len());
    entries.iter().for_each(|entry| reply_entry(reply, entry));
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        reply_progress(stream, group, reply);
        reply.bulk(b"pel-count");
        reply.integer(group.pending().len() as i64);
        reply.bulk(b"pending");
        reply.array(group.pending().len().min(count));
        for (id, pending) in group.pending().iter().take(count) {
            reply.array(4);
            reply_id(reply, *id);
            reply.bulk(&group.owner(pending).name);
            reply.integer(pending.delivered_ms.cast_signed());
            reply.integer(pending.deliveries.cast_signed());
        }
        reply.bulk(b"consumers");
        reply.array(group.consumers().len());
        group.consumers().for_each(|consumer| full_consumer(group, consumer, count, reply));
    }
}

fn full_consumer(group: &StreamGroup, consumer: &StreamConsumer, count: usize, reply: &mut dyn Reply) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(&consumer.name);
    reply.bulk(b"seen-time");
    reply.integer(consumer.seen_ms().cast_signed());
    reply.bulk(b"active-time");
    reply.integer(if consumer.active_ms == 0 { -1 } else { consumer.active_ms.cast_signed() });
    reply.bulk(b"pel-count");
    reply.integer(consumer.pending().len() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending().len().min(count));
    for id in consumer.pending().iter().take(count) {
        let pending = group.pending()[id];
        reply.array(3);
        reply_id(reply, *id);
        reply.integer(pending.delivered_ms.cast_signed());
        reply.integer(pending.deliveries.cast_signed());
    }
}

/// How many nodes Redis's tree of the blocks would have: one for each run of bytes without a branch, each
/// branch and each end. A tree of many blocks is estimated.
fn tree_nodes(stream: &Stream) -> usize {
    const COUNTED_MAX: usize = 4096;
    if stream.blocks() > COUNTED_MAX {
        return 2 * stream.blocks();
    }
    let keys: Vec<[u8; StreamId::BYTES]> = stream.block_ids().map(StreamId::to_bytes).collect();
    if keys.is_empty() { 1 } else { nodes_from(&keys, 0) }
}

/// The nodes for sorted keys that are equal up to `depth`.
fn nodes_from(keys: &[[u8; StreamId::BYTES]], depth: usize) -> usize {
    let (first, last) = (keys[0], keys[keys.len() - 1]);
    if keys.len() == 1 {
        return 1 + usize::from(depth < StreamId::BYTES);
    }
    let branch = (depth..StreamId::BYTES).find(|at| first[*at] != last[*at]).expect("keys differ");
    let children = keys.chunk_by(|one, other| one[branch] == other[branch]);
    1 + usize::from(branch > depth) + children.map(|keys| nodes_from(keys, branch + 1)).sum::<usize>()
}

pub(super) fn help(_: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_help(
        reply,
        &[
            "XINFO CONSUMERS key group",
            "    Describes the consumers of a group.",
            "XINFO GROUPS key",
            "    Describes the groups of a stream.",
            "XINFO STREAM key [FULL [COUNT count]]",
            "    Describes a stream; with FULL also its entries, groups and consumers.",
        ],
    );
    Ok(())
}
