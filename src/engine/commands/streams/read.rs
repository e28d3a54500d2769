//! XREAD.

use super::parse::{After, ReadWords};
use super::{reply_entry, stream_of};
use crate::command::{Args, Awaited, BlockingStage, CommandError, Park, Reply};
use crate::store::view::View;
use crate::types::stream::StreamEntry;
use crate::types::{Stream, StreamId};

/// A stream at the key. The commands of all waiting clients run again, since each waits for another ID.
static STREAM: Awaited = Awaited {
    name: "stream",
    holds: |view, key| stream_of(view, key).is_ok_and(|stream| stream.is_some()),
    ends_without_key: false,
};

pub(super) fn xread(
    view: &View<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
) -> Result<BlockingStage, CommandError> {
    let words = ReadWords::parse(args, view.now_ms())?;
    let mut asked = Vec::with_capacity(words.keys.len());
    for (key, id) in words.keys.iter().zip(words.ids) {
        let stream = stream_of(view, key)?;
        asked.push((stream, after(stream, words.after(id)?)));
    }
    let served: Vec<_> =
        words.keys.iter().zip(&asked).filter(|(_, (stream, after))| has_after(*stream, *after)).collect();
    if !served.is_empty() {
        begin(reply, served.len());
        for (key, (stream, after)) in served {
            let stream = stream.expect("it has entries");
            reply_stream(reply, key, &entries_after(stream, *after, words.count));
        }
        return Ok(BlockingStage::Done);
    }
    let Some(at_most) = words.block else {
        reply.null_array();
        return Ok(BlockingStage::Done);
    };
    let keys = words.keys.iter().map(|key| key.to_vec()).collect();
    let park = Park::new(keys, &STREAM, at_most, |reply| reply.null_array());
    let again = args.iter().enumerate().map(|(place, word)| match *word {
        // What is added from now on, also when the command runs again.
        b"$" if place >= words.ids_at => asked[place - words.ids_at].1.to_string().into_bytes(),
        word => word.to_vec(),
    });
    Ok(BlockingStage::Park(Box::new(park.running(again.collect()))))
}

/// The ID after which entries are wanted.
fn after(stream: Option<&Stream>, after: After) -> StreamId {
    let last = stream.map_or(StreamId::ZERO, Stream::last_id);
    match after {
        After::Id(id) => id,
        After::Now => last,
        After::Last => {
            let top = stream.map_or(StreamId::ZERO, Stream::top_id);
            top.previous().unwrap_or(StreamId::ZERO)
        }
        After::Unread => unreachable!("only XREADGROUP has it"),
    }
}

fn has_after(stream: Option<&Stream>, after: StreamId) -> bool {
    stream.is_some_and(|stream| stream.top_id() > after)
}

pub(super) fn entries_after(stream: &Stream, after: StreamId, count: usize) -> Vec<StreamEntry<'_>> {
    let from = after.next();
    from.map_or(Vec::new(), |from| stream.range(from..=StreamId::MAX).take(count).collect())
}

/// The reply is a map by key in RESP3, and an array of pairs in RESP2.
pub(super) fn begin(reply: &mut dyn Reply, streams: usize) {
    if reply.is_resp3() { reply.map(streams) } else { reply.array(streams) }
}

pub(super) fn begin_stream(reply: &mut dyn Reply, key: &[u8]) {
    if !reply.is_resp3() {
        reply.array(2);
    }
    reply.bulk(key);
}

fn reply_stream(reply: &mut dyn Reply, key: &[u8], entries: &[StreamEntry<'_>]) {
    begin_stream(reply, key);
    reply.array(entries.len());
    entries.iter().for_each(|entry| reply_entry(reply, entry));
}
