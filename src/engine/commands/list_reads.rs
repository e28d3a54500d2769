//! Ranges of lists in replies: long ones are copied in slices, and are still those of one moment.

use super::slices::{AT_ONCE, Copied, SLICE};
use crate::command::{CommandError, Finish, Job, Looks, Reply, Rest, Stage};
use crate::gate::ReplyGate;
use crate::types::{ListRef, RowElement};
use std::ops::Range;

/// The approximate number of bytes that one look copies.
const SLICE_BYTES: usize = 256 * 1024;
/// The number of interrupted copies of a range after which it is copied in one look.
const ATTEMPTS: usize = 4;

pub fn reply_element(reply: &mut dyn Reply, element: RowElement<'_>) {
    element.with_bytes(|bytes| reply.bulk(bytes));
}

/// The indexes from `start` to `stop`, both included, of a list; negative ones count from its end.
pub fn range_of(length: usize, start: i64, stop: i64) -> Range<usize> {
    let length = length as i64;
    let from_front = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
    let start = from_front(start).max(0);
    let end = from_front(stop).saturating_add(1).min(length);
    if start >= end { 0..0 } else { start as usize..end as usize }
}

/// Whether reading the range would delay other clients.
pub fn is_long(range: &Range<usize>) -> bool {
    range.len() > AT_ONCE
}

pub fn reply_range(list: ListRef<'_>, range: Range<usize>, reply: &mut dyn Reply) {
    reply.array(range.len());
    list.iter_from(range.start).take(range.len()).for_each(|element| reply_element(reply, element));
}

/// Copies a range in slices, and replies the copy.
pub fn copy_range(key: &[u8], start: i64, stop: i64) -> Stage {
    let key = key.to_vec();
    let job: Job = Box::new(move |looks| {
        let copied = copied_range(looks, &key, start, stop, looks.room());
        let finish: Finish = Box::new(move |_, _| {
            let copied = copied?;
            Ok(Rest::Write(Box::new(move |reply| {
                reply.array(copied.len());
                copied.write_all(reply);
            })))
        });
        finish
    });
    Stage::Copy(job)
}

/// A range of a list as of one moment; empty if the key does not exist. The copy stops beyond `room` bytes.
pub fn copied_range(
    looks: &dyn Looks,
    key: &[u8],
    start: i64,
    stop: i64,
    room: usize,
) -> Result<Copied, CommandError> {
    for attempt in 0..=ATTEMPTS {
        let copied = copy_once(looks, key, (start, stop), room, attempt == ATTEMPTS)?;
        if let Some(copied) = copied {
            return Ok(copied);
        }
    }
    unreachable!("the last attempt is one look")
}

/// One attempt; `None` if the list has changed meanwhile.
fn copy_once(
    looks: &dyn Looks,
    key: &[u8],
    (start, stop): (i64, i64),
    room: usize,
    in_one_look: bool,
) -> Result<Option<Copied>, CommandError> {
    let mut copied = Copied::default();
    let mut began: Option<(ReplyGate, Range<usize>)> = None;
    loop {
        let (mut failure, mut is_same, mut is_over) = (None, true, false);
        looks.look(&mut |view| {
            let list = match view.list(key) {
                Ok(list) => list,
                Err(error) => return failure = Some(error),
            };
            let changed_by = view.changed_by(key);
            let length = list.map_or(0, ListRef::len);
            let (batch, left) = began.get_or_insert_with(|| (changed_by, range_of(length, start, stop)));
            // What has expired since is no change of the list, but it is gone.
            is_same = *batch == changed_by && left.end <= length;
            let Some(list) = list.filter(|_| is_same) else { return is_over = true };
            let bytes = copied.bytes();
            let most = if in_one_look { usize::MAX } else { SLICE };
            for element in list.iter_from(left.start).take(left.len().min(most)) {
                element.with_bytes(|bytes| copied.push(bytes));
                left.start += 1;
                if !in_one_look && copied.bytes() - bytes > SLICE_BYTES {
                    break;
                }
            }
            is_over = left.start >= left.end;
        });
        if let Some(error) = failure {
            return if began.is_none() { Err(error) } else { Ok(None) };
        }
        if !is_same {
            return Ok(None);
        }
        if copied.bytes() > room {
            copied.give_up();
            return Ok(Some(copied));
        }
        if is_over {
            return Ok(Some(copied));
        }
    }
}
