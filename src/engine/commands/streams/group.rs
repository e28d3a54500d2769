//! XGROUP and XACK.

use super::parse::{any_id, ids, packed, strict_id};
use super::{reply_help, stream_of};
use crate::command::{Args, CommandError, Outcome, Reply, shown_word};
use crate::effect::Effect;
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::{Stream, StreamId};
use std::collections::BTreeSet;

pub(super) fn xack(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, group) = (args.word(1), args.word(2));
    let pending = tx.read(|view| {
        let found = stream_of(view, key)?.and_then(|stream| stream.group(group));
        let Some(found) = found else { return Ok(Vec::new()) };
        let named: BTreeSet<StreamId> = ids(args.from(3))?.into_iter().collect();
        Ok(packed(named.into_iter().filter(|id| found.pending().contains_key(id))))
    })?;
    let count = match pending.is_empty() {
        true => 0,
        false => tx.apply(Effect::StreamAcknowledge { key, group, ids: &pending }),
    };
    reply.integer(count as i64);
    Ok(())
}

/// The options of CREATE and SETID.
struct GroupOptions {
    makes_stream: bool,
    entries_read: i64,
}

impl GroupOptions {
    fn parse(args: Args<'_>) -> Result<GroupOptions, CommandError> {
        let is_create = args.is(1, "CREATE");
        let mut parsed = GroupOptions { makes_stream: false, entries_read: -1 };
        let mut options = args.options(5);
        while !options.is_done() {
            if is_create && options.take("MKSTREAM") {
                parsed.makes_stream = true;
            } else if options.left() > 1 && options.take("ENTRIESREAD") {
                parsed.entries_read = options.integer()?;
                if parsed.entries_read < -1 {
                    return Err(CommandError::of("ERR value for ENTRIESREAD must be positive or -1"));
                }
            } else {
                return Err(CommandError::wrong_subcommand(args.word(0), args.word(1)));
            }
        }
        Ok(parsed)
    }

    /// No group has read more than was added.
    fn entries_read_of(&self, added: u64) -> i64 {
        self.entries_read.min(i64::try_from(added).unwrap_or(i64::MAX))
    }
}

fn existing<'v>(view: &View<'v>, key: &[u8]) -> Result<&'v Stream, CommandError> {
    stream_of(view, key)?.ok_or(CommandError::of(
        "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
         option to create an empty stream automatically.",
    ))
}

/// An error in the words of XGROUP and XINFO.
pub(super) fn no_such_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (shown_word(key, usize::MAX), shown_word(group, usize::MAX));
    CommandError::of_parts(&[b"NOGROUP No such consumer group '", group, b"' for key name '", key, b"'"])
}

pub(super) fn create(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, group) = (args.word(2), args.word(3));
    let options = GroupOptions::parse(args)?;
    let (last_id, entries_read, is_new) = tx.read(|view| {
        let stream = match options.makes_stream {
            true => stream_of(view, key)?,
            false => Some(existing(view, key)?),
        };
        let last_id = match args.word(4) {
            b"$" => stream.map_or(StreamId::ZERO, Stream::last_id),
            word => strict_id(word, 0)?,
        };
        if stream.is_some_and(|stream| stream.group(group).is_some()) {
            return Err(CommandError::of("BUSYGROUP Consumer Group name already exists"));
        }
        let added = stream.map_or(0, Stream::entries_added);
        Ok((last_id, options.entries_read_of(added), stream.is_none()))
    })?;
    if is_new {
        let (last_id, max_deleted_id) = (StreamId::ZERO, StreamId::ZERO);
        tx.apply(Effect::StreamHead { key, last_id, max_deleted_id, entries_added: 0 });
    }
    tx.apply(Effect::StreamGroup { key, last_id, entries_read, group });
    reply.ok();
    Ok(())
}

pub(super) fn create_consumer(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, group, consumer) = (args.word(2), args.word(3), args.word(4));
    let is_new = tx.read(|view| {
        let found = existing(view, key)?.group(group).ok_or_else(|| no_such_group(key, group))?;
        Ok(found.consumer(consumer).is_none())
    })?;
    if is_new {
        let seen_ms = tx.now_ms();
        tx.apply(Effect::StreamConsumer { key, group, seen_ms, active_ms: 0, consumer });
    }
    reply.integer(i64::from(is_new));
    Ok(())
}

pub(super) fn delete_consumer(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, group, consumer) = (args.word(2), args.word(3), args.word(4));
    let exists = tx.read(|view| {
        let found = existing(view, key)?.group(group).ok_or_else(|| no_such_group(key, group))?;
        Ok(found.consumer(consumer).is_some())
    })?;
    let pending = match exists {
        true => tx.apply(Effect::StreamConsumerDelete { key, group, consumer }),
        false => 0,
    };
    reply.integer(pending as i64);
    Ok(())
}

pub(super) fn destroy(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, group) = (args.word(2), args.word(3));
    let exists = tx.read(|view| Ok(existing(view, key)?.group(group).is_some()))?;
    if exists {
        tx.apply(Effect::StreamGroupDelete { key, group });
    }
    reply.integer(i64::from(exists));
    Ok(())
}

pub(super) fn set_id(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, group) = (args.word(2), args.word(3));
    let options = GroupOptions::parse(args)?;
    let (last_id, entries_read) = tx.read(|view| {
        let stream = existing(view, key)?;
        stream.group(group).ok_or_else(|| no_such_group(key, group))?;
        let last_id = match args.word(4) {
            b"$" => stream.last_id(),
            word => any_id(word, 0)?,
        };
        Ok((last_id, options.entries_read_of(stream.entries_added())))
    })?;
    tx.apply(Effect::StreamGroup { key, last_id, entries_read, group });
    reply.ok();
    Ok(())
}

pub(super) fn help(_: &View<'_>, _: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply_help(
        reply,
        &[
            "XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD entries-read]",
            "    Creates a consumer group, and the stream if MKSTREAM is given.",
            "XGROUP CREATECONSUMER key group consumer",
            "    Creates a consumer in a group.",
            "XGROUP DELCONSUMER key group consumer",
            "    Removes a consumer and what is pending for it.",
            "XGROUP DESTROY key group",
            "    Removes a consumer group.",
            "XGROUP SETID key group id|$ [ENTRIESREAD entries-read]",
            "    Sets how far a group has read.",
        ],
    );
    Ok(())
}
