//! XREADGROUP.
//!
//! What a consumer is given of new entries becomes pending for it, and the group has read them. A consumer
//! that reads its history again raises the counts of what it is given.

use super::parse::{After, ReadWords, packed};
use super::read::{begin, begin_stream, entries_after};
use super::{reply_entry, reply_id, stream_of};
use crate::command::{Args, Awaited, BlockingStage, CommandError, Park, Reply, shown_word};
use crate::effect::streams::{PENDING_RECORD_BYTES, pending_record};
use crate::effect::{Effect, List};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::stream::StreamGroup;
use crate::types::{Stream, StreamId};

/// Any change of the key: a client that waits for a group learns when the group or the key goes.
static ANY_CHANGE: Awaited = Awaited { name: "stream group", holds: |_, _| true, ends_without_key: true };

/// One stream of the command.
struct Asked<'a> {
    key: &'a [u8],
    after: After,
}

/// Which streams a call serves: where their unread entries begin, or their history.
enum Served {
    Unread(StreamId),
    History(StreamId),
}

pub(super) fn xreadgroup(
    tx: &mut Tx<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
) -> Result<BlockingStage, CommandError> {
    let words = ReadWords::parse(args, tx.now_ms())?;
    let names = words.group.expect("it is an error if there is none");
    let (asked, served) = tx.read(|view| find(view, &words, names.0))?;
    for Asked { key, .. } in &asked {
        note_seen(tx, key, names);
    }
    let count = served.iter().flatten().count();
    if count == 0 {
        return Ok(match words.block {
            None => {
                reply.null_array();
                BlockingStage::Done
            }
            Some(at_most) => {
                let keys = words.keys.iter().map(|key| key.to_vec()).collect();
                BlockingStage::Park(Box::new(Park::new(keys, &ANY_CHANGE, at_most, |reply| {
                    reply.null_array()
                })))
            }
        });
    }
    begin(reply, count);
    for (asked, served) in asked.iter().zip(&served) {
        match served {
            None => {}
            Some(Served::History(after)) => reply_history(tx, asked.key, names, *after, words.count, reply),
            Some(Served::Unread(_)) => reply_unread(tx, asked.key, names, &words, reply),
        }
    }
    Ok(BlockingStage::Done)
}

/// What is asked of each stream, and what it can be given now.
fn find<'a>(
    view: &View<'_>,
    words: &ReadWords<'a>,
    group: &[u8],
) -> Result<(Vec<Asked<'a>>, Vec<Option<Served>>), CommandError> {
    let (mut asked, mut served) = (Vec::new(), Vec::<Option<Served>>::new());
    for (key, id) in words.keys.iter().zip(words.ids) {
        let found = stream_of(view, key)?.and_then(|stream| stream.group(group));
        if found.is_none() {
            return Err(no_group(key, group));
        }
        asked.push(Asked { key, after: words.after(id)? });
    }
    for (place, Asked { key, after }) in asked.iter().enumerate() {
        let stream = stream_of(view, key)?.expect("found above");
        // A key that is named twice is read from where the first reading ends.
        let earlier = asked[..place].iter().zip(&served).rev().find_map(|(asked, served)| match served {
            Some(Served::Unread(last)) if asked.key == *key => Some(*last),
            _ => None,
        });
        let last = earlier.unwrap_or_else(|| stream.group(group).expect("found above").last_id);
        served.push(match after {
            After::Id(id) => Some(Served::History(*id)),
            _ if stream.top_id() > last => {
                let is_named_again = asked[place + 1..].iter().any(|asked| asked.key == *key);
                let end = if is_named_again { end_after(stream, last, words.count) } else { last };
                Some(Served::Unread(end))
            }
            _ => None,
        });
    }
    Ok((asked, served))
}

fn end_after(stream: &Stream, after: StreamId, count: usize) -> StreamId {
    entries_after(stream, after, count).last().map_or(after, |entry| entry.id)
}

fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (shown_word(key, usize::MAX), shown_word(group, usize::MAX));
    let parts: [&[u8]; 5] = [
        b"NOGROUP No such key '",
        key,
        b"' or consumer group '",
        group,
        b"' in XREADGROUP with GROUP option",
    ];
    CommandError::of_parts(&parts)
}

/// Notes that the consumer was seen now. One that is absent is created.
pub(super) fn note_seen(tx: &mut Tx<'_>, key: &[u8], (group, consumer): (&[u8], &[u8])) {
    let seen_ms = tx.now_ms();
    let is_there = tx.read(|view| {
        let found = stream_of(view, key).ok().flatten().and_then(|stream| stream.group(group));
        let found = found.and_then(|found| found.consumer(consumer));
        found.map(|consumer| consumer.note_seen(seen_ms)).is_some()
    });
    if !is_there {
        tx.event("xgroup-createconsumer");
        tx.apply(Effect::StreamConsumer { key, group, seen_ms, active_ms: 0, consumer });
        tx.event("");
    }
}

/// Runs `with` on a stream and its group, which the caller has found.
fn with_group<R>(
    tx: &mut Tx<'_>,
    key: &[u8],
    group: &[u8],
    with: impl FnOnce(&Stream, &StreamGroup) -> R,
) -> R {
    tx.read(|view| {
        let stream = stream_of(view, key).ok().flatten().expect("found before");
        with(stream, stream.group(group).expect("found before"))
    })
}

fn reply_unread(
    tx: &mut Tx<'_>,
    key: &[u8],
    (group, consumer): (&[u8], &[u8]),
    words: &ReadWords<'_>,
    reply: &mut dyn Reply,
) {
    let (ids, last_id, entries_read) = with_group(tx, key, group, |stream, group| {
        let entries = entries_after(stream, group.last_id, words.count);
        let mut progress = (group.last_id, group.entries_read);
        begin_stream(reply, key);
        reply.array(entries.len());
        for entry in &entries {
            progress = (entry.id, stream.entries_read_after(progress, entry.id));
            reply_entry(reply, entry);
        }
        let delivered = if words.is_noack { &[][..] } else { &entries[..] };
        (packed(delivered.iter().map(|entry| entry.id)), progress.0, progress.1)
    });
    let entries_read = entries_read.map_or(-1, u64::cast_signed);
    let at_ms = tx.now_ms();
    tx.apply(Effect::StreamDeliver { key, group, consumer, last_id, entries_read, at_ms, ids: &ids });
}

fn reply_history(
    tx: &mut Tx<'_>,
    key: &[u8],
    (group, consumer): (&[u8], &[u8]),
    after: StreamId,
    count: usize,
    reply: &mut dyn Reply,
) {
    let now_ms = tx.now_ms();
    let records = with_group(tx, key, group, |stream, group| {
        let owner = group.consumer(consumer);
        let from = after.next().filter(|_| owner.is_some());
        let pending: Vec<_> = match from {
            Some(from) => group.pending_of(owner, from..=StreamId::MAX).take(count).collect(),
            None => Vec::new(),
        };
        let mut records = Vec::new();
        begin_stream(reply, key);
        reply.array(pending.len());
        for (id, pending) in pending {
            match stream.get(id) {
                Some(entry) => {
                    reply_entry(reply, &entry);
                    records.extend_from_slice(&pending_record(id, now_ms, pending.deliveries + 1));
                }
                None => {
                    reply.array(2);
                    reply_id(reply, id);
                    reply.null_array();
                }
            }
        }
        records
    });
    if !records.is_empty() {
        let pending: [&[u8]; 2] = [consumer, &records];
        tx.apply(Effect::StreamPending { key, group, pending: List::Arguments(&pending) });
    }
}

/// A record for each entry that it may be given, and the names in each effect.
pub(super) fn room(view: &View<'_>, args: Args<'_>) -> usize {
    let Ok(words) = ReadWords::parse(args, view.now_ms()) else { return 0 };
    let Some((group, consumer)) = words.group else { return 0 };
    let of_key = |key: &&[u8]| {
        let stream = stream_of(view, key).ok().flatten();
        let entries = stream.map_or(0, |stream| {
            let pending = stream.group(group).map_or(0, |group| group.pending().len());
            stream.len().max(pending).min(words.count)
        });
        entries * PENDING_RECORD_BYTES + 2 * (key.len() + group.len() + consumer.len() + 256)
    };
    words.keys.iter().map(of_key).sum()
}
