//! Streams as a data type: their effects, and how they are saved.
//!
//! A stream is saved as its head, its entries block by block, and each group with its consumers and pending
//! entries. The cursor of [`TypedValue::save`] says where the next step goes on:
//!
//! ```text
//! entries   bit 63 = 0   block 32 bits, place in the block 31 bits
//! groups    bit 63 = 1   group 27 bits, place among its consumers, then its pending entries 36 bits
//! ```

use super::digest::mix;
use super::encoding::EncodingLimits;
use super::typed::{DataType, EachEffect, EffectOrigin, SAVED_BYTES_MAX, SAVED_PARTS_MAX, TypedValue};
use crate::effect::streams::{entry_head, ids, pending_record, pending_records, saved_entries};
use crate::effect::{Effect, List};
use crate::types::stream::{StreamEntry, StreamGroup, StreamPairs};
use crate::types::{Stream, StreamId};
use std::collections::BTreeMap;
use std::io;

#[derive(Debug)]
pub(super) struct StreamType;

impl DataType for StreamType {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn module(&self) -> u8 {
        0
    }

    fn takes(&self, effect: &Effect<'_>) -> bool {
        matches!(
            effect,
            Effect::StreamAdd { .. }
                | Effect::StreamEntries { .. }
                | Effect::StreamHead { .. }
                | Effect::StreamDelete { .. }
                | Effect::StreamTrim { .. }
                | Effect::StreamGroup { .. }
                | Effect::StreamGroupDelete { .. }
                | Effect::StreamConsumer { .. }
                | Effect::StreamConsumerDelete { .. }
                | Effect::StreamDeliver { .. }
                | Effect::StreamPending { .. }
                | Effect::StreamAcknowledge { .. }
        )
    }

    fn blank(&self) -> Box<dyn TypedValue> {
        Box::new(Stream::new())
    }
}

impl TypedValue for Stream {
    fn data_type(&self) -> &'static dyn DataType {
        &StreamType
    }

    fn encoding(&self, _: &EncodingLimits) -> &'static str {
        "stream"
    }

    fn len(&self) -> usize {
        self.parts()
    }

    /// A stream without entries exists until its key is deleted.
    fn is_empty(&self) -> bool {
        !self.exists()
    }

    fn heap_bytes(&self) -> usize {
        Stream::heap_bytes(self)
    }

    fn apply(&mut self, effect: &Effect<'_>, _: EffectOrigin) -> Option<usize> {
        match *effect {
            Effect::StreamAdd { id, is_first, pairs, .. } => add(self, id, is_first, pairs),
            Effect::StreamEntries { is_first, entries, .. } => add_saved(self, is_first, entries),
            Effect::StreamHead { last_id, max_deleted_id, entries_added, .. } => {
                self.set_head(last_id, max_deleted_id, entries_added);
                Some(1)
            }
            Effect::StreamDelete { references, is_trim, ids, .. } => delete(self, references, is_trim, ids),
            Effect::StreamTrim { references, last, .. } => {
                let removed: Vec<StreamId> = match references {
                    true => self.range(StreamId::ZERO..=last).map(|entry| entry.id).collect(),
                    false => Vec::new(),
                };
                removed.into_iter().for_each(|id| self.forget(id));
                Some(self.trim(last))
            }
            Effect::StreamGroup { last_id, entries_read, group, .. } => {
                let entries_read = u64::try_from(entries_read).ok();
                Some(usize::from(self.set_group(group, last_id, entries_read)))
            }
            Effect::StreamGroupDelete { group, .. } => self.remove_group(group).then_some(1),
            Effect::StreamConsumer { group, seen_ms, active_ms, consumer, .. } => {
                let set = |group: &mut StreamGroup| group.set_consumer(consumer, seen_ms, active_ms);
                self.change_group(group, set).map(usize::from)
            }
            Effect::StreamConsumerDelete { group, consumer, .. } => {
                self.change_group(group, |group| group.remove_consumer(consumer))?
            }
            Effect::StreamDeliver { group, consumer, last_id, entries_read, at_ms, ids, .. } => {
                deliver(self, (group, consumer), (last_id, entries_read), at_ms, ids)
            }
            Effect::StreamPending { group, pending, .. } => set_pending(self, group, pending),
            Effect::StreamAcknowledge { group, ids: acknowledged, .. } => self
                .change_group(group, |group| ids(acknowledged).filter(|id| group.acknowledge(*id)).count()),
            _ => None,
        }
    }

    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
        if cursor == 0 {
            let (last_id, max_deleted_id) = (self.last_id(), self.max_deleted_id());
            each(&Effect::StreamHead { key, last_id, max_deleted_id, entries_added: self.entries_added() })?;
        }
        if cursor < GROUPS {
            let next = save_entries(self, key, cursor, each)?;
            return Ok(if next == GROUPS && self.groups().len() == 0 { 0 } else { next });
        }
        save_group(self, key, cursor, each)
    }

    /// Blocks are not part of it, and the times at which consumers were seen: reads note these too.
    fn digest(&self) -> u64 {
        let mut sum = mix(3, b"stream");
        for id in [self.last_id(), self.max_deleted_id()] {
            sum = mix(sum, &id.to_bytes());
        }
        sum = mix(sum, &self.entries_added().to_le_bytes());
        for entry in self.range(StreamId::ZERO..=StreamId::MAX) {
            sum = mix(sum, &entry.id.to_bytes());
            for (name, value) in entry.pairs() {
                sum = name.with_bytes(|name| mix(sum, name));
                sum = value.with_bytes(|value| mix(sum, value));
            }
        }
        self.groups().fold(sum, |sum, (name, group)| digest_group(mix(sum, name), group))
    }
}

fn digest_group(mut sum: u64, group: &StreamGroup) -> u64 {
    sum = mix(sum, &group.last_id.to_bytes());
    sum = mix(sum, &group.entries_read.unwrap_or(u64::MAX).to_le_bytes());
    for consumer in group.consumers() {
        sum = mix(mix(sum, &consumer.name), &consumer.active_ms.to_le_bytes());
    }
    for (id, pending) in group.pending() {
        sum = mix(sum, &group.owner(pending).name);
        sum = mix(sum, &pending_record(*id, pending.delivered_ms, pending.deliveries));
    }
    sum
}

fn add(stream: &mut Stream, id: StreamId, is_first: bool, pairs: List<'_>) -> Option<usize> {
    let added = match pairs {
        List::Arguments(words) => stream.push(id, is_first, &StreamPairs(words)),
        encoded => stream.push(id, is_first, &StreamPairs(&encoded.iter().collect::<Vec<_>>())),
    };
    if !added {
        return None;
    }
    stream.note_added(id);
    Some(1)
}

fn add_saved(stream: &mut Stream, mut is_first: bool, entries: List<'_>) -> Option<usize> {
    let mut count = 0;
    for entry in saved_entries(entries) {
        let (id, words) = entry?;
        if !stream.push(id, is_first, &StreamPairs(&words)) {
            return None;
        }
        is_first = false;
        count += 1;
    }
    Some(count)
}

fn delete(stream: &mut Stream, references: bool, is_trim: bool, deleted: &[u8]) -> Option<usize> {
    let (mut count, max_deleted_id) = (0, stream.max_deleted_id());
    for id in ids(deleted) {
        if stream.remove(id) {
            count += 1;
            if references {
                stream.forget(id);
            }
        }
    }
    if is_trim {
        stream.set_head(stream.last_id(), max_deleted_id, stream.entries_added());
    }
    Some(count)
}

fn deliver(
    stream: &mut Stream,
    (group, consumer): (&[u8], &[u8]),
    (last_id, entries_read): (StreamId, i64),
    at_ms: u64,
    delivered: &[u8],
) -> Option<usize> {
    stream.change_group(group, |group| {
        let active_ms = group.consumer(consumer).map_or(0, |consumer| consumer.active_ms);
        group.set_consumer(consumer, at_ms, if delivered.is_empty() { active_ms } else { at_ms });
        (group.last_id, group.entries_read) = (last_id, u64::try_from(entries_read).ok());
        for id in ids(delivered) {
            group.set_pending(consumer, id, at_ms, 1);
        }
        ids(delivered).len()
    })
}

/// A consumer that is absent is a mismatch.
fn set_pending(stream: &mut Stream, group: &[u8], pending: List<'_>) -> Option<usize> {
    let set = |group: &mut StreamGroup| {
        let mut count = 0;
        for (consumer, records) in pending.pairs() {
            group.consumer(consumer)?;
            for (id, delivered_ms, deliveries) in pending_records(records) {
                group.set_pending(consumer, id, delivered_ms, deliveries);
                count += 1;
            }
        }
        Some(count)
    };
    stream.change_group(group, set)?
}

/// Bit 63 of a cursor.
const GROUPS: u64 = 1 << 63;
const BLOCK_SHIFT: u32 = 31;
const GROUP_SHIFT: u32 = 36;

/// Saves entries from the cursor on. The cursor of the first group follows the last entry.
fn save_entries(stream: &Stream, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
    let (mut block, mut place) =
        ((cursor >> BLOCK_SHIFT) as usize, (cursor & ((1 << BLOCK_SHIFT) - 1)) as usize);
    let (mut parts, mut bytes) = (0, 0);
    while let Some(entries) = stream.block(block) {
        let mut saved = SavedBlock::default();
        let mut is_whole = true;
        for entry in entries.skip(place) {
            if parts >= SAVED_PARTS_MAX || bytes >= SAVED_BYTES_MAX {
                is_whole = false;
                break;
            }
            let before = saved.bytes.len();
            saved.add(&entry);
            parts += 1;
            bytes += saved.bytes.len() - before;
        }
        saved.give(key, place == 0, each)?;
        if !is_whole {
            place += saved.count;
            return Ok((block as u64) << BLOCK_SHIFT | place as u64);
        }
        (block, place) = (block + 1, 0);
        if parts >= SAVED_PARTS_MAX || bytes >= SAVED_BYTES_MAX {
            break;
        }
    }
    Ok(if stream.block(block).is_some() { (block as u64) << BLOCK_SHIFT } else { GROUPS })
}

/// Entries of a block, to be one effect.
#[derive(Default)]
struct SavedBlock {
    bytes: Vec<u8>,
    /// The end of each word.
    ends: Vec<usize>,
    count: usize,
}

impl SavedBlock {
    fn add(&mut self, entry: &StreamEntry<'_>) {
        self.word(&entry_head(entry.id, entry.pairs));
        for (name, value) in entry.pairs() {
            name.with_bytes(|name| self.word(name));
            value.with_bytes(|value| self.word(value));
        }
        self.count += 1;
    }

    fn word(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
    }

    fn give(&self, key: &[u8], is_first: bool, each: &mut EachEffect<'_>) -> io::Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let starts = std::iter::once(&0).chain(&self.ends);
        let words: Vec<&[u8]> =
            starts.zip(&self.ends).map(|(start, end)| &self.bytes[*start..*end]).collect();
        each(&Effect::StreamEntries { key, is_first, entries: List::Arguments(&words) })
    }
}

fn save_group(stream: &Stream, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> io::Result<u64> {
    let number = (cursor & !GROUPS) >> GROUP_SHIFT;
    let place = (cursor & ((1 << GROUP_SHIFT) - 1)) as usize;
    let Some((name, group)) = stream.groups().nth(number as usize) else { return Ok(0) };
    if place == 0 {
        let entries_read = group.entries_read.map_or(-1, |count| count.cast_signed());
        each(&Effect::StreamGroup { key, last_id: group.last_id, entries_read, group: name })?;
    }
    let consumers = group.consumers().len();
    let next_group = GROUPS | (number + 1) << GROUP_SHIFT;
    let end = place + SAVED_PARTS_MAX;
    for consumer in group.consumers().skip(place).take(SAVED_PARTS_MAX) {
        let (seen_ms, active_ms) = (consumer.seen_ms(), consumer.active_ms);
        each(&Effect::StreamConsumer { key, group: name, seen_ms, active_ms, consumer: &consumer.name })?;
    }
    let first = place.saturating_sub(consumers);
    let count = end.saturating_sub(consumers.max(place));
    let mut records = BTreeMap::<&[u8], Vec<u8>>::new();
    let step = if count > 0 { group.pending_step(first, count) } else { Vec::new() };
    for (id, pending) in step {
        let of_consumer = records.entry(&group.owner(&pending).name).or_default();
        of_consumer.extend_from_slice(&pending_record(id, pending.delivered_ms, pending.deliveries));
    }
    if !records.is_empty() {
        let words: Vec<&[u8]> = records.iter().flat_map(|(name, records)| [*name, records]).collect();
        each(&Effect::StreamPending { key, group: name, pending: List::Arguments(&words) })?;
    }
    let is_over = end >= consumers + group.pending().len();
    let next = if is_over { next_group } else { GROUPS | number << GROUP_SHIFT | end as u64 };
    let is_last = is_over && number as usize + 1 == stream.groups().len();
    Ok(if is_last { 0 } else { next })
}
