//! XADD and XSETID.

use super::parse::{INVALID_ID, strict_id};
use super::trim::{self, TrimOptions};
use super::{reply_id, stream_of};
use crate::command::{Args, CommandError, Outcome, Reply};
use crate::effect::{Effect, List};
use crate::store::tx::Tx;
use crate::types::stream::{StreamPairs, parse_u64};
use crate::types::{Stream, StreamId};

/// The ID that an entry shall have.
#[derive(Clone, Copy, Debug)]
pub(super) enum NewId {
    /// `*`
    Now,
    /// `ms-*`: the next sequence of these milliseconds.
    At(u64),
    Given(StreamId),
}

const NOT_LARGER: CommandError =
    CommandError::of("ERR The ID specified in XADD is equal or smaller than the target stream top item");

impl NewId {
    pub(super) fn parse(word: &[u8]) -> Result<NewId, CommandError> {
        if word == b"*" {
            return Ok(NewId::Now);
        }
        match word.strip_suffix(b"-*") {
            Some(ms) => parse_u64(ms).filter(|_| !ms.contains(&b'-')).map(NewId::At).ok_or(INVALID_ID),
            None => strict_id(word, 0).map(NewId::Given),
        }
    }

    /// The ID after `last`, at this time.
    fn after(self, last: StreamId, now_ms: u64) -> Result<StreamId, CommandError> {
        let id = match self {
            NewId::Now if now_ms > last.ms => StreamId { ms: now_ms, seq: 0 },
            NewId::Now => last.next().ok_or(NOT_LARGER)?,
            NewId::At(ms) if ms == last.ms => {
                StreamId { ms, seq: last.seq.checked_add(1).ok_or(NOT_LARGER)? }
            }
            NewId::At(ms) => StreamId { ms, seq: 0 },
            NewId::Given(id) => id,
        };
        if id > last { Ok(id) } else { Err(NOT_LARGER) }
    }
}

pub(super) fn xadd(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    const WORDS_BYTES_MAX: usize = 1 << 30;
    let key = args.word(1);
    let options = TrimOptions::parse(args, true)?;
    let words = args.get(options.end + 1..).unwrap_or_default();
    if words.len() < 2 || !words.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity("xadd"));
    }
    let new_id = options.id.expect("words follow the ID");
    if matches!(new_id, NewId::Given(StreamId::ZERO)) {
        return Err(CommandError::of("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let pairs = StreamPairs(words);
    let (now_ms, limits) = (tx.now_ms(), tx.encoding_limits());
    let decided = tx.read(|view| {
        let stream = stream_of(view, key)?;
        if stream.is_none() && options.is_only_if_exists {
            return Ok(None);
        }
        let last = stream.map_or(StreamId::ZERO, Stream::last_id);
        if last == StreamId::MAX {
            return Err(CommandError::of(
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ));
        }
        let id = new_id.after(last, now_ms)?;
        if pairs.bytes() > WORDS_BYTES_MAX {
            return Err(CommandError::of("ERR Elements are too large to be stored"));
        }
        let (bytes_max, entries_max) = (limits.stream_node_bytes, limits.stream_node_entries);
        Ok(Some((id, stream.is_none_or(|stream| stream.needs_block(&pairs, bytes_max, entries_max)))))
    })?;
    let Some((id, is_first)) = decided else {
        reply.null();
        return Ok(());
    };
    tx.apply(Effect::StreamAdd { key, id, is_first, pairs: List::Arguments(words) });
    reply_id(reply, id);
    if let Some(trim) = options.trim {
        tx.event("xtrim");
        trim::run(tx, key, trim, options.references)?;
    }
    Ok(())
}

pub(super) fn xsetid(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let key = args.word(1);
    let last_id = strict_id(args.word(2), 0)?;
    let (mut added, mut max_deleted) = (None, StreamId::ZERO);
    let mut options = args.options(3);
    while !options.is_done() {
        if options.left() > 1 && options.take("ENTRIESADDED") {
            let count = u64::try_from(options.integer()?);
            added = Some(count.map_err(|_| CommandError::of("ERR entries_added must be positive"))?);
        } else if options.left() > 1 && options.take("MAXDELETEDID") {
            max_deleted = strict_id(options.word()?, 0)?;
            if last_id < max_deleted {
                return Err(smaller_than("the provided max_deleted_entry_id"));
            }
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    let effect = tx.read(|view| {
        let stream = stream_of(view, key)?.ok_or(CommandError::NO_SUCH_KEY)?;
        if last_id < stream.max_deleted_id() {
            return Err(smaller_than("current max_deleted_entry_id"));
        }
        if !stream.is_empty() {
            if last_id < stream.top_id() {
                return Err(smaller_than("the target stream top item"));
            }
            if added.is_some_and(|added| added < stream.len() as u64) {
                return Err(CommandError::of(
                    "ERR The entries_added specified in XSETID is smaller than the target stream length",
                ));
            }
        }
        let max_deleted_id =
            if max_deleted == StreamId::ZERO { stream.max_deleted_id() } else { max_deleted };
        let entries_added = added.unwrap_or(stream.entries_added());
        Ok(Effect::StreamHead { key, last_id, max_deleted_id, entries_added })
    })?;
    tx.apply(effect);
    reply.ok();
    Ok(())
}

fn smaller_than(what: &str) -> CommandError {
    CommandError::new(format!("ERR The ID specified in XSETID is smaller than {what}"))
}
