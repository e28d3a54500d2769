//! XLEN, XRANGE and XREVRANGE.
//!
//! A long range is read in slices, and is still as of one moment: entries do not change, and what is added
//! after the first slice is left out. If an entry was removed meanwhile, the walk starts again; after several
//! attempts it takes one look.

use super::parse::interval;
use super::{reply_entry, reply_id, stream_of};
use crate::command::{Args, CommandError, Finish, Job, Looks, Outcome, Reply, Rest, Stage};
use crate::commands::slices::{AT_ONCE, Copied, SLICE};
use crate::store::view::View;
use crate::types::stream::{StreamEntry, StreamVersion};
use crate::types::{Stream, StreamId};
use std::ops::RangeInclusive;

const ATTEMPTS: usize = 4;
/// The approximate number of bytes that one look copies.
const SLICE_BYTES: usize = 256 << 10;

pub(super) fn xlen(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    reply.integer(stream_of(view, args.word(1))?.map_or(0, Stream::len) as i64);
    Ok(())
}

pub(super) fn xrange(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<Stage, CommandError> {
    range(view, args, reply, false)
}

pub(super) fn xrevrange(
    view: &View<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
) -> Result<Stage, CommandError> {
    range(view, args, reply, true)
}

fn range(
    view: &View<'_>,
    args: Args<'_>,
    reply: &mut dyn Reply,
    backwards: bool,
) -> Result<Stage, CommandError> {
    let (start, end) = if backwards { (3, 2) } else { (2, 3) };
    let range = interval(args.word(start), args.word(end))?;
    let mut count = None;
    let mut options = args.options(4);
    while !options.is_done() {
        if options.left() < 2 || !options.take("COUNT") {
            return Err(CommandError::SYNTAX);
        }
        count = Some(usize::try_from(options.integer()?).unwrap_or(0));
    }
    let Some(stream) = stream_of(view, args.word(1))? else {
        reply.array(0);
        return Ok(Stage::Done);
    };
    if count == Some(0) {
        reply.null_array();
        return Ok(Stage::Done);
    }
    let count = count.unwrap_or(usize::MAX);
    let asked = Asked { range, count, backwards };
    if count.min(stream.len()) > AT_ONCE {
        return Ok(asked.in_slices(args.word(1)));
    }
    let entries: Vec<StreamEntry<'_>> = asked.entries(stream).take(count).collect();
    reply.array(entries.len());
    entries.iter().for_each(|entry| reply_entry(reply, entry));
    Ok(Stage::Done)
}

#[derive(Clone)]
struct Asked {
    range: RangeInclusive<StreamId>,
    count: usize,
    backwards: bool,
}

impl Asked {
    fn entries<'s>(&self, stream: &'s Stream) -> Box<dyn Iterator<Item = StreamEntry<'s>> + 's> {
        match self.backwards {
            true => Box::new(stream.backwards(self.range.clone())),
            false => Box::new(stream.range(self.range.clone())),
        }
    }

    fn in_slices(self, key: &[u8]) -> Stage {
        let key = key.to_vec();
        let job: Job = Box::new(move |looks| {
            let copied = self.copy(looks, &key);
            let finish: Finish = Box::new(move |_, _| {
                let copied = copied?;
                Ok(Rest::Write(Box::new(move |reply| copied.write(reply))))
            });
            finish
        });
        Stage::Copy(job)
    }

    fn copy(&self, looks: &dyn Looks, key: &[u8]) -> Result<CopiedEntries, CommandError> {
        for attempt in 0..=ATTEMPTS {
            let mut walk = RangeWalk::new(self.clone());
            let is_last = attempt == ATTEMPTS;
            while !walk.is_over {
                looks.look(&mut |view| walk.step(stream_of(view, key), is_last));
                if walk.copied.words.bytes() > looks.room() {
                    walk.copied.words.give_up();
                    break;
                }
            }
            if !walk.is_void {
                return walk.failure.map_or(Ok(walk.copied), Err);
            }
        }
        unreachable!("the last attempt takes one look")
    }
}

/// Entries that were copied out of the keyspace.
#[derive(Default)]
struct CopiedEntries {
    ids: Vec<(StreamId, usize)>,
    /// Names and values.
    words: Copied,
}

impl CopiedEntries {
    fn add(&mut self, entry: &StreamEntry<'_>) {
        self.ids.push((entry.id, entry.pairs));
        for (name, value) in entry.pairs() {
            name.with_bytes(|name| self.words.push(name));
            value.with_bytes(|value| self.words.push(value));
        }
    }

    fn write(&self, reply: &mut dyn Reply) {
        if self.words.is_beyond() {
            return reply.give_up();
        }
        reply.array(self.ids.len());
        let mut place = 0;
        for (id, pairs) in &self.ids {
            reply.array(2);
            reply_id(reply, *id);
            reply.array(2 * pairs);
            (place..place + 2 * pairs).for_each(|place| self.words.write(place, reply));
            place += 2 * pairs;
        }
    }
}

/// A walk over a range, one slice a step.
struct RangeWalk {
    asked: Asked,
    version: Option<StreamVersion>,
    copied: CopiedEntries,
    is_over: bool,
    /// An entry was removed meanwhile.
    is_void: bool,
    failure: Option<CommandError>,
}

impl RangeWalk {
    fn new(asked: Asked) -> RangeWalk {
        let copied = CopiedEntries::default();
        RangeWalk { asked, version: None, copied, is_over: false, is_void: false, failure: None }
    }

    fn step(&mut self, stream: Result<Option<&Stream>, CommandError>, is_whole: bool) {
        let stream = match (stream, &self.version) {
            (Ok(Some(stream)), None) => {
                self.version = Some(stream.version());
                let end = (*self.asked.range.end()).min(stream.top_id());
                self.asked.range = *self.asked.range.start()..=end;
                stream
            }
            (Ok(Some(stream)), Some(version)) if stream.is_still(version) => stream,
            (_, Some(_)) => {
                self.is_void = true;
                return self.is_over = true;
            }
            (result, None) => {
                self.failure = result.err();
                return self.is_over = true;
            }
        };
        let (mut taken, before) = (0, self.copied.words.bytes());
        let mut last = None;
        for entry in self.asked.entries(stream).take(self.asked.count) {
            if !is_whole && (taken == SLICE || self.copied.words.bytes() - before > SLICE_BYTES) {
                self.goes_on_after(last.expect("some were taken"), taken);
                return;
            }
            self.copied.add(&entry);
            last = Some(entry.id);
            taken += 1;
        }
        self.is_over = true;
    }

    fn goes_on_after(&mut self, last: StreamId, taken: usize) {
        let (start, end) = (*self.asked.range.start(), *self.asked.range.end());
        let rest = match self.asked.backwards {
            true => last.previous().map(|end| start..=end),
            false => last.next().map(|start| start..=end),
        };
        self.asked.range = rest.expect("another entry follows");
        self.asked.count -= taken;
    }
}
