//! Effects on streams.

use super::List;
use super::codec::{Reader, Sink, put_list};
use super::kinds::{FieldKind, shown_bytes};
use crate::types::StreamId;
use std::fmt::Display;

macro_rules! stream_effects {
    ([$next:ident $($later:ident)*] $($rows:tt)*) => {
        $next! { [$($later)*] $($rows)*

        /// Adds an entry to a stream, which is created where absent. `is_first` says that a block begins with
        /// it.
        StreamAdd(27, Key) {
            key: &'a [u8] as Key, id: StreamId as EntryId, is_first: bool as BeginsBlock, pairs: List<'a> as Pairs
        } " {key} {id} {pairs}{is_first}";

        /// Entries as they are saved, after those that the stream has. They do not count as added.
        StreamEntries(28, Key, BUILDS) {
            key: &'a [u8] as Key, is_first: bool as BeginsBlock, entries: List<'a> as SavedEntries
        } " {key} {entries}{is_first}";

        /// Sets what a stream knows of the entries that it had; creates it where absent.
        StreamHead(29, Key, BUILDS) {
            key: &'a [u8] as Key, last_id: StreamId as EntryId, max_deleted_id: StreamId as EntryId,
            entries_added: u64 as Offset
        } " {key} last {last_id} deleted {max_deleted_id} added {entries_added}";

        /// Deletes entries that are there, and with `references` those of the groups to them. A trim does not
        /// count for the largest ID that was deleted.
        StreamDelete(30, Key) {
            key: &'a [u8] as Key, references: bool as WithReferences, is_trim: bool as ByTrim, ids: &'a [u8] as EntryIds
        } " {key} {ids}{references}{is_trim}";

        /// Removes all entries up to an ID, and with `references` those of the groups to them.
        StreamTrim(31, Key) {
            key: &'a [u8] as Key, references: bool as WithReferences, last: StreamId as EntryId
        } " {key} up to {last}{references}";

        /// Creates a consumer group, or sets how far it has read. The count of entries is -1 if unknown.
        StreamGroup(32, Key, BUILDS) {
            key: &'a [u8] as Key, last_id: StreamId as EntryId, entries_read: i64 as EntriesRead,
            group: &'a [u8] as Rest
        } " {key} {group} last {last_id}{entries_read}";

        /// Removes a consumer group.
        StreamGroupDelete(33, Key) { key: &'a [u8] as Key, group: &'a [u8] as Rest } " {key} {group}";

        /// Creates a consumer, or sets the times when it was seen and active last; 0 for never.
        StreamConsumer(34, Key, BUILDS) {
            key: &'a [u8] as Key, group: &'a [u8] as Word, seen_ms: u64 as Offset, active_ms: u64 as Offset,
            consumer: &'a [u8] as Rest
        } " {key} {group} {consumer} seen {seen_ms} active {active_ms}";

        /// Removes a consumer and what is pending for it.
        StreamConsumerDelete(35, Key) {
            key: &'a [u8] as Key, group: &'a [u8] as Word, consumer: &'a [u8] as Rest
        } " {key} {group} {consumer}";

        /// Delivers entries to a consumer for the first time, at this time. None for a delivery that needs no
        /// acknowledgement.
        StreamDeliver(36, Key) {
            key: &'a [u8] as Key, group: &'a [u8] as Word, consumer: &'a [u8] as Word,
            last_id: StreamId as EntryId, entries_read: i64 as EntriesRead, at_ms: u64 as At,
            ids: &'a [u8] as EntryIds
        } " {key} {group} {consumer} {ids} last {last_id}{entries_read}{at_ms}";

        /// Makes entries pending for consumers, or changes pending ones: a consumer and its records in turn.
        StreamPending(37, Key, BUILDS) {
            key: &'a [u8] as Key, group: &'a [u8] as Word, pending: List<'a> as PendingRecords
        } " {key} {group} {pending}";

        /// Acknowledges pending entries.
        StreamAcknowledge(38, Key) {
            key: &'a [u8] as Key, group: &'a [u8] as Word, ids: &'a [u8] as EntryIds
        } " {key} {group} {ids}";
        }
    };
}

/// A word that is not the last field.
pub(super) struct Word;
pub(super) struct EntryId;
/// IDs one after the other, up to the end of the effect.
pub(super) struct EntryIds;
pub(super) struct BeginsBlock;
pub(super) struct WithReferences;
pub(super) struct ByTrim;
/// -1 if it is unknown.
pub(super) struct EntriesRead;
/// For each entry its ID with the number of its pairs, then names and values in turn.
pub(super) struct SavedEntries;
/// Consumers and their records in turn.
pub(super) struct PendingRecords;

/// The length of an entry's first word in [`SavedEntries`].
pub const ENTRY_HEAD_BYTES: usize = StreamId::BYTES + 4;
/// The length of a record in [`PendingRecords`]: the ID, the time of the last delivery, and how many there
/// were.
pub const PENDING_RECORD_BYTES: usize = StreamId::BYTES + 16;

/// The first word of an entry.
pub fn entry_head(id: StreamId, pairs: usize) -> [u8; ENTRY_HEAD_BYTES] {
    let mut head = [0; ENTRY_HEAD_BYTES];
    head[..StreamId::BYTES].copy_from_slice(&id.to_bytes());
    head[StreamId::BYTES..].copy_from_slice(&(pairs as u32).to_le_bytes());
    head
}

fn split_head(head: &[u8]) -> Option<(StreamId, usize)> {
    let (id, pairs) = head.split_first_chunk()?;
    Some((StreamId::from_bytes(*id), u32::from_le_bytes(pairs.try_into().ok()?) as usize))
}

/// The entries: the ID and the words of each. `None` in place of one that is not well-formed.
pub fn saved_entries<'a>(list: List<'a>) -> impl Iterator<Item = Option<(StreamId, Vec<&'a [u8]>)>> {
    let mut words = list.iter();
    std::iter::from_fn(move || {
        let head = words.next()?;
        Some(split_head(head).and_then(|(id, pairs)| {
            let content: Vec<&[u8]> = words.by_ref().take(2 * pairs).collect();
            (pairs > 0 && content.len() == 2 * pairs).then_some((id, content))
        }))
    })
}

pub fn ids(bytes: &[u8]) -> impl ExactSizeIterator<Item = StreamId> {
    bytes.as_chunks().0.iter().map(|id| StreamId::from_bytes(*id))
}

/// A record of a pending entry.
pub fn pending_record(id: StreamId, delivered_ms: u64, deliveries: u64) -> [u8; PENDING_RECORD_BYTES] {
    let mut record = [0; PENDING_RECORD_BYTES];
    record[..16].copy_from_slice(&id.to_bytes());
    record[16..24].copy_from_slice(&delivered_ms.to_le_bytes());
    record[24..].copy_from_slice(&deliveries.to_le_bytes());
    record
}

/// The records of one consumer: ID, time of the last delivery, number of deliveries.
pub fn pending_records(bytes: &[u8]) -> impl Iterator<Item = (StreamId, u64, u64)> {
    bytes.as_chunks::<PENDING_RECORD_BYTES>().0.iter().map(|record| {
        let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
        (StreamId::from_bytes(record[..16].try_into().expect("sixteen bytes")), number(16), number(24))
    })
}

fn shown_ids(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 20;
    match ids(bytes).len() {
        0 => "(none)".to_owned(),
        1..=SHOWN_MAX => ids(bytes).map(|id| id.to_string()).collect::<Vec<_>>().join(", "),
        count => format!("({count} entries)"),
    }
}

impl<'a> FieldKind<'a> for Word {
    type Value = &'a [u8];

    fn put(value: &'a [u8], out: &mut impl Sink) {
        super::codec::put_bytes(out, value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
        reader.counted()
    }

    fn shown(value: &'a [u8]) -> impl Display {
        shown_bytes(value)
    }
}

impl<'a> FieldKind<'a> for EntryId {
    type Value = StreamId;

    fn put(value: StreamId, out: &mut impl Sink) {
        out.put(&value.to_bytes());
    }

    fn take(reader: &mut Reader<'a>) -> Option<StreamId> {
        let (id, rest) = reader.bytes.split_first_chunk()?;
        reader.bytes = rest;
        Some(StreamId::from_bytes(*id))
    }

    fn shown(value: StreamId) -> impl Display {
        value
    }
}

impl<'a> FieldKind<'a> for EntryIds {
    type Value = &'a [u8];

    fn put(value: &'a [u8], out: &mut impl Sink) {
        out.put(value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
        Some(reader.rest()).filter(|bytes| bytes.len().is_multiple_of(StreamId::BYTES))
    }

    fn shown(value: &'a [u8]) -> impl Display {
        shown_ids(value)
    }
}

/// Kinds of flags, and how they are shown.
macro_rules! flags {
    ($($kind:ident: $shown:literal;)*) => { $(
        impl<'a> FieldKind<'a> for $kind {
            type Value = bool;

            fn put(value: bool, out: &mut impl Sink) {
                out.put(&[u8::from(value)]);
            }

            fn take(reader: &mut Reader<'a>) -> Option<bool> {
                reader.u8().filter(|flag| *flag < 2).map(|flag| flag != 0)
            }

            fn shown(value: bool) -> impl Display {
                if value { $shown } else { "" }
            }
        }
    )* };
}

flags! {
    BeginsBlock: " in a new block";
    WithReferences: " with references";
    ByTrim: " by a trim";
}

impl<'a> FieldKind<'a> for EntriesRead {
    type Value = i64;

    fn put(value: i64, out: &mut impl Sink) {
        out.put(&value.to_le_bytes());
    }

    fn take(reader: &mut Reader<'a>) -> Option<i64> {
        reader.u64().map(u64::cast_signed)
    }

    fn shown(value: i64) -> impl Display {
        if value < 0 { String::new() } else { format!(" read {value}") }
    }
}

impl<'a> FieldKind<'a> for SavedEntries {
    type Value = List<'a>;

    fn put(value: List<'a>, out: &mut impl Sink) {
        put_list(out, value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<List<'a>> {
        reader.list().filter(|list| saved_entries(*list).all(|entry| entry.is_some()))
    }

    fn shown(value: List<'a>) -> impl Display {
        let shown = |(id, words): (StreamId, Vec<&[u8]>)| {
            let pairs =
                words.chunks(2).map(|pair| format!("{} = {}", shown_bytes(pair[0]), shown_bytes(pair[1])));
            format!("{id} {}", pairs.collect::<Vec<_>>().join(", "))
        };
        saved_entries(value).flatten().map(shown).collect::<Vec<_>>().join("; ")
    }
}

impl<'a> FieldKind<'a> for PendingRecords {
    type Value = List<'a>;

    fn put(value: List<'a>, out: &mut impl Sink) {
        put_list(out, value);
    }

    fn take(reader: &mut Reader<'a>) -> Option<List<'a>> {
        let list = reader.list().filter(|list| list.len().is_multiple_of(2))?;
        list.pairs().all(|(_, records)| records.len().is_multiple_of(PENDING_RECORD_BYTES)).then_some(list)
    }

    fn shown(value: List<'a>) -> impl Display {
        let record = |(id, at, count): (StreamId, u64, u64)| format!("{id} at {at} times {count}");
        let shown = |(consumer, records): (&[u8], &[u8])| {
            let records = pending_records(records).map(record).collect::<Vec<_>>().join(", ");
            format!("{}: {records}", shown_bytes(consumer))
        };
        value.pairs().map(shown).collect::<Vec<_>>().join("; ")
    }
}
