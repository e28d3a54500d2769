//! XCLAIM and XAUTOCLAIM: pending entries become those of another consumer.

use super::parse::{interval_start, packed, strict_id};
use super::read_group::note_seen;
use super::{group_of, reply_entry, reply_id, room_of_names, stream_of};
use crate::command::{Args, CommandError, OptionWords, Outcome, Reply, shown_word};
use crate::effect::streams::{PENDING_RECORD_BYTES, pending_record};
use crate::effect::{Effect, List};
use crate::store::tx::Tx;
use crate::store::view::View;
use crate::types::stream::PendingEntry;
use crate::types::{Stream, StreamId};
use std::collections::{BTreeMap, BTreeSet};

/// What a claim changes, and what it replies.
#[derive(Default)]
struct Claimed {
    /// In the order of the reply; an ID can be named twice.
    ids: Vec<StreamId>,
    /// Times of delivery, and their counts.
    records: BTreeMap<StreamId, (u64, u64)>,
    /// Pending entries that are no longer in the stream.
    gone: BTreeSet<StreamId>,
}

impl Claimed {
    fn apply(&self, tx: &mut Tx<'_>, key: &[u8], (group, consumer): (&[u8], &[u8])) {
        let now_ms = tx.now_ms();
        if !self.records.is_empty() {
            let mut records = Vec::with_capacity(self.records.len() * PENDING_RECORD_BYTES);
            for (id, (delivered_ms, deliveries)) in &self.records {
                records.extend_from_slice(&pending_record(*id, *delivered_ms, *deliveries));
            }
            tx.apply(Effect::StreamConsumer { key, group, seen_ms: now_ms, active_ms: now_ms, consumer });
            let pending: [&[u8]; 2] = [consumer, &records];
            tx.apply(Effect::StreamPending { key, group, pending: List::Arguments(&pending) });
        }
        if !self.gone.is_empty() {
            let gone = packed(self.gone.iter().copied());
            tx.apply(Effect::StreamAcknowledge { key, group, ids: &gone });
        }
    }

    fn reply(&self, stream: &Stream, only_ids: bool, reply: &mut dyn Reply) {
        reply.array(self.ids.len());
        for id in &self.ids {
            match only_ids {
                true => reply_id(reply, *id),
                false => reply_entry(reply, &stream.get(*id).expect("it was there when it was claimed")),
            }
        }
    }
}

fn idle_ms(now_ms: u64, pending: &PendingEntry) -> i64 {
    now_ms.cast_signed().wrapping_sub(pending.delivered_ms.cast_signed())
}

fn min_idle(args: Args<'_>, command: &str) -> Result<i64, CommandError> {
    let idle = args.integer(4);
    let idle =
        idle.map_err(|_| CommandError::new(format!("ERR Invalid min-idle-time argument for {command}")))?;
    Ok(idle.max(0))
}

/// The options of XCLAIM.
#[derive(Default)]
struct ClaimOptions {
    delivered_ms: Option<i64>,
    retry_count: Option<u64>,
    is_forced: bool,
    only_ids: bool,
    last_id: StreamId,
}

impl ClaimOptions {
    fn parse(mut options: OptionWords<'_>, now_ms: u64) -> Result<ClaimOptions, CommandError> {
        let mut parsed = ClaimOptions::default();
        let number = |options: &mut OptionWords<'_>, name: &str| {
            let error = || CommandError::new(format!("ERR Invalid {name} option argument for XCLAIM"));
            options.integer().map_err(|_| error())
        };
        while let Some(word) = options.peek() {
            let has_value = options.left() > 1;
            if options.take("FORCE") {
                parsed.is_forced = true;
            } else if options.take("JUSTID") {
                parsed.only_ids = true;
            } else if has_value && options.take("IDLE") {
                let idle = number(&mut options, "IDLE")?;
                parsed.delivered_ms = Some(now_ms.cast_signed().wrapping_sub(idle));
            } else if has_value && options.take("TIME") {
                parsed.delivered_ms = Some(number(&mut options, "TIME")?);
            } else if has_value && options.take("RETRYCOUNT") {
                parsed.retry_count = u64::try_from(number(&mut options, "RETRYCOUNT")?).ok();
            } else if has_value && options.take("LASTID") {
                parsed.last_id = strict_id(options.word()?, 0)?;
            } else {
                let option = shown_word(word, usize::MAX);
                return Err(CommandError::of_parts(&[b"ERR Unrecognized XCLAIM option '", option, b"'"]));
            }
        }
        Ok(parsed)
    }

    /// A time that makes no sense is now.
    fn delivered_ms(&self, now_ms: u64) -> u64 {
        let given = self.delivered_ms.and_then(|ms| u64::try_from(ms).ok());
        given.filter(|ms| *ms <= now_ms).unwrap_or(now_ms)
    }
}

pub(super) fn xclaim(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let (key, group, consumer, now_ms) = (args.word(1), args.word(2), args.word(3), tx.now_ms());
    let (progress, ids, options, idle_ms_min) = tx.read(|view| {
        let (_, found) = group_of(view, key, group)?;
        let idle_ms_min = min_idle(args, "XCLAIM")?;
        let ids: Vec<StreamId> = args.from(5).iter().map_while(|word| StreamId::parse(word, 0)).collect();
        let options = ClaimOptions::parse(args.options(5 + ids.len()), now_ms)?;
        Ok(((found.last_id, found.entries_read), ids, options, idle_ms_min))
    })?;
    if options.last_id > progress.0 {
        let entries_read = progress.1.map_or(-1, u64::cast_signed);
        tx.apply(Effect::StreamGroup { key, last_id: options.last_id, entries_read, group });
    }
    note_seen(tx, key, (group, consumer));
    let claimed = tx.read(|view| {
        let (stream, found) = group_of(view, key, group)?;
        let mut claimed = Claimed::default();
        for id in ids {
            let earlier = claimed.records.get(&id).copied();
            let before = earlier.or_else(|| {
                found.pending().get(&id).map(|pending| (pending.delivered_ms, pending.deliveries))
            });
            if stream.get(id).is_none() {
                claimed.gone.extend(before.map(|_| id));
                continue;
            }
            let is_too_young = |(delivered_ms, _)| {
                idle_ms_min > 0
                    && now_ms.cast_signed().wrapping_sub(u64::cast_signed(delivered_ms)) < idle_ms_min
            };
            if before.is_some_and(is_too_young) || before.is_none() && !options.is_forced {
                continue;
            }
            let deliveries = before.map_or(1, |(_, deliveries)| deliveries) + u64::from(!options.only_ids);
            let deliveries = options.retry_count.unwrap_or(deliveries);
            claimed.records.insert(id, (options.delivered_ms(now_ms), deliveries));
            claimed.ids.push(id);
        }
        claimed.reply(stream, options.only_ids, reply);
        Ok(claimed)
    })?;
    claimed.apply(tx, key, (group, consumer));
    Ok(())
}

/// The options of XAUTOCLAIM: how many entries it claims at most, and whether only IDs are wanted.
fn parse_auto(args: Args<'_>) -> Result<(usize, bool), CommandError> {
    const COUNT_MAX: i64 = i64::MAX / 16;
    let (mut count, mut only_ids) = (100, false);
    let mut options = args.options(6);
    while !options.is_done() {
        if options.left() > 1 && options.take("COUNT") {
            let given = options.integer().ok().filter(|count| (1..=COUNT_MAX).contains(count));
            count = given.ok_or(CommandError::of("ERR COUNT must be > 0"))? as usize;
        } else if options.take("JUSTID") {
            only_ids = true;
        } else {
            return Err(CommandError::SYNTAX);
        }
    }
    Ok((count, only_ids))
}

pub(super) fn xautoclaim(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    const ATTEMPTS_FACTOR: usize = 10;
    let (key, group, consumer, now_ms) = (args.word(1), args.word(2), args.word(3), tx.now_ms());
    let idle_ms_min = min_idle(args, "XAUTOCLAIM")?;
    let start = interval_start(args.word(5))?;
    let (count, only_ids) = parse_auto(args)?;
    tx.read(|view| group_of(view, key, group).map(|_| ()))?;
    note_seen(tx, key, (group, consumer));
    let claimed = tx.read(|view| {
        let (stream, found) = group_of(view, key, group)?;
        let mut claimed = Claimed::default();
        let mut pending = found.pending().range(start..);
        for _ in 0..count.saturating_mul(ATTEMPTS_FACTOR) {
            if claimed.ids.len() + claimed.gone.len() == count {
                break;
            }
            let Some((id, entry)) = pending.next() else { break };
            if stream.get(*id).is_none() {
                claimed.gone.insert(*id);
            } else if idle_ms_min == 0 || idle_ms(now_ms, entry) >= idle_ms_min {
                let deliveries = entry.deliveries + u64::from(!only_ids);
                claimed.records.insert(*id, (now_ms, deliveries));
                claimed.ids.push(*id);
            }
        }
        reply.array(3);
        reply_id(reply, pending.next().map_or(StreamId::ZERO, |(id, _)| *id));
        claimed.reply(stream, only_ids, reply);
        reply.array(claimed.gone.len());
        claimed.gone.iter().for_each(|id| reply_id(reply, *id));
        Ok(claimed)
    })?;
    claimed.apply(tx, key, (group, consumer));
    Ok(())
}

pub(super) fn room_of_xautoclaim(view: &View<'_>, args: Args<'_>) -> usize {
    let stream = stream_of(view, args.word(1)).ok().flatten();
    let pending =
        stream.and_then(|stream| stream.group(args.word(2))).map_or(0, |group| group.pending().len());
    let count = parse_auto(args).map_or(0, |(count, _)| count);
    room_of_names(view, args) + count.min(pending) * (PENDING_RECORD_BYTES + StreamId::BYTES)
}
