//! XPENDING.

use super::parse::interval;
use super::{group_of, reply_id};
use crate::command::{Args, CommandError, Outcome, Reply};
use crate::store::view::View;
use crate::types::StreamId;
use crate::types::stream::StreamGroup;
use std::ops::RangeInclusive;

/// The words after the group.
struct Asked<'a> {
    idle_ms_min: i64,
    range: RangeInclusive<StreamId>,
    count: usize,
    consumer: Option<&'a [u8]>,
}

pub(super) fn xpending(view: &View<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let asked = match args.len() {
        3 => None,
        6..=9 => Some(parse(args)?),
        _ => return Err(CommandError::SYNTAX),
    };
    let (_, group) = group_of(view, args.word(1), args.word(2))?;
    match asked {
        None => summary(group, reply),
        Some(asked) => details(group, &asked, view.now_ms(), reply),
    }
    Ok(())
}

fn parse(args: Args<'_>) -> Result<Asked<'_>, CommandError> {
    let mut options = args.options(3);
    let mut idle_ms_min = 0;
    if options.take("IDLE") {
        idle_ms_min = options.integer()?;
        if args.len() < 8 {
            return Err(CommandError::SYNTAX);
        }
    }
    let (start, end) = (options.word()?, options.word()?);
    let count = usize::try_from(options.integer()?).unwrap_or(0);
    let range = interval(start, end)?;
    Ok(Asked { idle_ms_min, range, count, consumer: options.peek() })
}

fn summary(group: &StreamGroup, reply: &mut dyn Reply) {
    let pending = group.pending();
    reply.array(4);
    reply.integer(pending.len() as i64);
    let (Some((first, _)), Some((last, _))) = (pending.first_key_value(), pending.last_key_value()) else {
        reply.null();
        reply.null();
        return reply.null_array();
    };
    reply_id(reply, *first);
    reply_id(reply, *last);
    let owners: Vec<_> = group.consumers().filter(|consumer| !consumer.pending().is_empty()).collect();
    reply.array(owners.len());
    for consumer in owners {
        reply.array(2);
        reply.bulk(&consumer.name);
        reply.bulk(itoa::Buffer::new().format(consumer.pending().len()).as_bytes());
    }
}

fn details(group: &StreamGroup, asked: &Asked<'_>, now_ms: u64, reply: &mut dyn Reply) {
    let consumer = asked.consumer.map(|name| group.consumer(name));
    if consumer.is_some_and(|consumer| consumer.is_none()) {
        return reply.array(0);
    }
    let idle_ms = |delivered_ms: u64| now_ms.cast_signed().wrapping_sub(delivered_ms.cast_signed());
    let found: Vec<_> = group
        .pending_of(consumer.flatten(), asked.range.clone())
        .filter(|(_, pending)| asked.idle_ms_min == 0 || idle_ms(pending.delivered_ms) >= asked.idle_ms_min)
        .take(asked.count)
        .collect();
    reply.array(found.len());
    for (id, pending) in found {
        reply.array(4);
        reply_id(reply, id);
        reply.bulk(&group.owner(&pending).name);
        reply.integer(idle_ms(pending.delivered_ms).max(0));
        reply.integer(pending.deliveries as i64);
    }
}
