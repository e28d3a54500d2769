//! Streams from RDB's parts to effects, and from effects to RDB's bytes.

use crate::effect::streams::{
    PENDING_RECORD_BYTES, entry_head, pending_record, pending_records, saved_entries,
};
use crate::effect::{Effect, List};
use crate::keyspace::{EachEffect, SAVED_BYTES_MAX, SAVED_PARTS_MAX};
use crate::types::StreamId;
use engramdb_rdb::{
    ConsumerPart, GroupPart, GroupRecord, PendingPart, RdbStreamId, StreamMeta, StreamWriter, ValuePart,
};
use std::io;

fn id_of(id: RdbStreamId) -> StreamId {
    StreamId { ms: id.ms, seq: id.sequence }
}

fn id_to(id: StreamId) -> RdbStreamId {
    RdbStreamId { ms: id.ms, sequence: id.seq }
}

/// Takes the parts of a stream, and makes effects.
#[derive(Default)]
pub(super) struct StreamLoader {
    /// Words of entries of one block that wait to become an effect.
    words: Vec<Vec<u8>>,
    /// Whether they are the block's first ones.
    begins_block: bool,
    entries: usize,
    bytes: usize,
    group: Vec<u8>,
    consumer: Vec<u8>,
    /// What the last consumer has not acknowledged.
    pending: Vec<u8>,
}

impl StreamLoader {
    pub fn take(&mut self, key: &[u8], part: ValuePart<'_>, each: &mut EachEffect<'_>) -> io::Result<()> {
        match part {
            ValuePart::Entry { id, begins_node, fields } => {
                let is_full = self.entries >= SAVED_PARTS_MAX || self.bytes >= SAVED_BYTES_MAX;
                if begins_node || is_full {
                    self.put_entries(key, each)?;
                    self.begins_block = begins_node;
                }
                self.words.push(entry_head(id_of(id), fields.len() / 2).to_vec());
                self.words.extend(fields.iter().map(|field| field.to_vec()));
                self.entries += 1;
                self.bytes += fields.iter().map(|field| field.len()).sum::<usize>();
                Ok(())
            }
            ValuePart::Stream(meta) => {
                self.put_entries(key, each)?;
                let [last_id, max_deleted_id] = [meta.last_id, meta.max_deleted_id].map(id_of);
                each(&Effect::StreamHead { key, last_id, max_deleted_id, entries_added: meta.entries_added })
            }
            ValuePart::Group(group) => {
                self.put_pending(key, each)?;
                self.group = group.name.to_vec();
                let entries_read = group.entries_read.map_or(-1, u64::cast_signed);
                let (last_id, group) = (id_of(group.last_id), group.name);
                each(&Effect::StreamGroup { key, last_id, entries_read, group })
            }
            ValuePart::Consumer(part) => {
                self.put_pending(key, each)?;
                self.consumer = part.name.to_vec();
                let (seen_ms, active_ms) = (part.seen_at_ms, part.active_at_ms.unwrap_or(0));
                let (group, consumer) = (&self.group, part.name);
                each(&Effect::StreamConsumer { key, group, seen_ms, active_ms, consumer })
            }
            ValuePart::Pending(part) => {
                let record = pending_record(id_of(part.id), part.delivered_at_ms, part.deliveries);
                self.pending.extend_from_slice(&record);
                let is_full = self.pending.len() >= SAVED_PARTS_MAX * PENDING_RECORD_BYTES;
                if is_full { self.put_pending(key, each) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    pub fn finish(mut self, key: &[u8], each: &mut EachEffect<'_>) -> io::Result<()> {
        self.put_pending(key, each)
    }

    fn put_entries(&mut self, key: &[u8], each: &mut EachEffect<'_>) -> io::Result<()> {
        if self.words.is_empty() {
            return Ok(());
        }
        let words: Vec<&[u8]> = self.words.iter().map(Vec::as_slice).collect();
        each(&Effect::StreamEntries { key, is_first: self.begins_block, entries: List::Arguments(&words) })?;
        self.words.clear();
        (self.entries, self.bytes) = (0, 0);
        Ok(())
    }

    fn put_pending(&mut self, key: &[u8], each: &mut EachEffect<'_>) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let words: [&[u8]; 2] = [&self.consumer, &self.pending];
        each(&Effect::StreamPending { key, group: &self.group, pending: List::Arguments(&words) })?;
        self.pending.clear();
        Ok(())
    }
}

/// Takes the effects that build a stream, and writes it.
pub(super) struct StreamSaver {
    writer: StreamWriter,
    meta: StreamMeta,
    groups: Vec<SavedGroup>,
}

struct SavedGroup {
    name: Vec<u8>,
    last_id: RdbStreamId,
    entries_read: Option<u64>,
    consumers: Vec<SavedConsumer>,
}

struct SavedConsumer {
    name: Vec<u8>,
    seen_at_ms: u64,
    active_at_ms: u64,
    pending: Vec<PendingPart>,
}

impl StreamSaver {
    pub fn new() -> StreamSaver {
        StreamSaver { writer: StreamWriter::new(), meta: StreamMeta::default(), groups: Vec::new() }
    }

    /// False if the effect is not about streams.
    pub fn take(&mut self, effect: &Effect<'_>) -> bool {
        match *effect {
            Effect::StreamEntries { is_first, entries, .. } => {
                for (place, (id, fields)) in saved_entries(entries).flatten().enumerate() {
                    self.writer.entry(id_to(id), is_first && place == 0, fields.into_iter());
                }
            }
            Effect::StreamHead { last_id, max_deleted_id, entries_added, .. } => {
                let (last_id, max_deleted_id) = (id_to(last_id), id_to(max_deleted_id));
                self.meta = StreamMeta { last_id, max_deleted_id, entries_added, ..StreamMeta::default() };
            }
            Effect::StreamGroup { last_id, entries_read, group, .. } => {
                let (last_id, entries_read) = (id_to(last_id), u64::try_from(entries_read).ok());
                let group = SavedGroup { name: group.to_vec(), last_id, entries_read, consumers: Vec::new() };
                self.groups.push(group);
            }
            Effect::StreamConsumer { seen_ms, active_ms, consumer, .. } => {
                let (name, seen_at_ms, active_at_ms) = (consumer.to_vec(), seen_ms, active_ms);
                let consumer = SavedConsumer { name, seen_at_ms, active_at_ms, pending: Vec::new() };
                self.groups.last_mut().expect("a group comes first").consumers.push(consumer);
            }
            Effect::StreamPending { pending, .. } => {
                let group = self.groups.last_mut().expect("a group comes first");
                for (name, records) in pending.pairs() {
                    let consumer = group.consumers.iter_mut().find(|consumer| consumer.name == name);
                    let consumer = consumer.expect("a consumer comes before what is pending for it");
                    consumer.pending.extend(pending_records(records).map(
                        |(id, delivered_at_ms, deliveries)| PendingPart {
                            id: id_to(id),
                            delivered_at_ms,
                            deliveries,
                        },
                    ));
                }
            }
            _ => return false,
        }
        true
    }

    pub fn finish(self, out: &mut Vec<u8>) {
        let groups = self.groups.iter().map(|group| {
            let consumers = group.consumers.iter().map(|consumer| {
                let active_at_ms = Some(consumer.active_at_ms).filter(|at| *at != 0);
                let SavedConsumer { name, seen_at_ms, .. } = consumer;
                (ConsumerPart { name, seen_at_ms: *seen_at_ms, active_at_ms }, consumer.pending.clone())
            });
            let SavedGroup { name, last_id, entries_read, .. } = group;
            let part = GroupPart { name, last_id: *last_id, entries_read: *entries_read };
            GroupRecord { group: part, consumers: consumers.collect() }
        });
        let groups: Vec<_> = groups.collect();
        self.writer.finish(&self.meta, &groups, out);
    }
}
