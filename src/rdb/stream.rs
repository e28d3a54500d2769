//! Streams: entries in listpacks, each with a first entry that names the usual fields, and ids as distances
//! from the listpack's; then counts and ids, and groups with their consumers.

use super::error::{Read, damaged};
use super::listpack::{Listpack, ListpackWriter, PackedElement};
use super::part::{ConsumerPart, EachPart, GroupPart, PendingPart, RdbStreamId, StreamMeta, ValuePart};
use super::source::{ByteSource, length, moment, owned_string, string};
use super::writer;
use std::collections::{BTreeMap, BTreeSet};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

impl RdbStreamId {
    fn of_bytes(bytes: [u8; 16]) -> RdbStreamId {
        let number = u128::from_be_bytes(bytes);
        RdbStreamId { ms: (number >> 64) as u64, sequence: number as u64 }
    }

    fn bytes(self) -> [u8; 16] {
        ((u128::from(self.ms) << 64) | u128::from(self.sequence)).to_be_bytes()
    }
}

fn id(source: &mut impl ByteSource) -> Read<RdbStreamId> {
    Ok(RdbStreamId { ms: length(source)?, sequence: length(source)? })
}

/// Reads a stream of this version of the encoding.
pub(crate) fn read(version: u8, source: &mut impl ByteSource, each: &mut EachPart<'_>) -> Read<()> {
    let (mut node_id, mut node) = (Vec::new(), Vec::new());
    let (mut found, mut last) = (0, None);
    for _ in 0..length(source)? {
        string(source, &mut node_id)?;
        string(source, &mut node)?;
        let Ok(first) = node_id.as_slice().try_into().map(RdbStreamId::of_bytes) else {
            return damaged("a stream's listpack has no id");
        };
        entries(first, &node, &mut |part| {
            let ValuePart::Entry { id, .. } = part else { return Ok(()) };
            if id <= last.unwrap_or_default() {
                return damaged("a stream's entries are not in order");
            }
            (last, found) = (Some(id), found + 1);
            each(part)
        })?;
    }
    let mut meta = StreamMeta { length: length(source)?, last_id: id(source)?, ..StreamMeta::default() };
    if version >= 2 {
        id(source)?;
        meta.max_deleted_id = id(source)?;
        meta.entries_added = length(source)?;
    } else {
        meta.entries_added = meta.length;
    }
    if meta.length != found || last.is_some_and(|last| last > meta.last_id) {
        return damaged("a stream has another length, or another last entry, than it says");
    }
    each(ValuePart::Stream(meta))?;
    let mut names = BTreeSet::new();
    for _ in 0..length(source)? {
        if !names.insert(group(version, &meta, source, each)?) {
            return damaged("a stream has a group twice");
        }
    }
    Ok(())
}

/// The entries of a listpack.
fn entries(first: RdbStreamId, bytes: &[u8], each: &mut EachPart<'_>) -> Read<()> {
    let mut elements = Listpack::new(bytes)?;
    let (alive, deleted) = (elements.integer()?, elements.integer()?);
    let names = take(&mut elements)?;
    if elements.integer()? != 0 {
        return damaged("a stream's listpack has no end of its names");
    }
    let (mut found_alive, mut found_deleted) = (0, 0);
    let mut fields: Vec<PackedElement<'_>> = Vec::new();
    while let Some(flags) = elements.next() {
        let Some(flags) = flags?.integer() else { return damaged("a stream's entry has no flags") };
        let (ms, sequence) = (elements.integer()?, elements.integer()?);
        let id = RdbStreamId {
            ms: first.ms.wrapping_add(ms as u64),
            sequence: first.sequence.wrapping_add(sequence as u64),
        };
        fields.clear();
        if flags & SAME_FIELDS != 0 {
            for name in &names {
                fields.extend([*name, elements.expect()?]);
            }
        } else {
            let texts = elements.integer()?.checked_mul(2).filter(|texts| *texts >= 0);
            let Some(texts) = texts else { return damaged("a stream's entry has a count that cannot be") };
            for _ in 0..texts {
                fields.push(elements.expect()?);
            }
        }
        // How many elements the entry has, for readers from the other end.
        elements.integer()?;
        if flags & DELETED != 0 {
            found_deleted += 1;
            continue;
        }
        found_alive += 1;
        if fields.is_empty() {
            return damaged("a stream's entry has no fields");
        }
        let mut digits = vec![itoa::Buffer::new(); fields.len()];
        let texts = fields.iter().zip(&mut digits).map(|(field, digits)| field.text(digits));
        let begins_node = found_alive == 1;
        each(ValuePart::Entry { id, begins_node, fields: &texts.collect::<Vec<_>>() })?;
    }
    let is_whole = (found_alive, found_deleted) == (alive, deleted);
    if is_whole { Ok(()) } else { damaged("a stream's listpack has another count of entries than it says") }
}

/// A count and that many elements.
fn take<'a>(elements: &mut Listpack<'a>) -> Read<Vec<PackedElement<'a>>> {
    let count = elements.integer()?;
    (0..count).map(|_| elements.expect()).collect()
}

fn group(
    version: u8,
    stream: &StreamMeta,
    source: &mut impl ByteSource,
    each: &mut EachPart<'_>,
) -> Read<Vec<u8>> {
    let group_name = owned_string(source)?;
    let last_id = id(source)?;
    let entries_read = match version {
        2.. => Some(length(source)?).filter(|read| *read as i64 >= 0),
        _ => (last_id == stream.last_id).then_some(stream.entries_added),
    };
    each(ValuePart::Group(GroupPart { name: &group_name, last_id, entries_read }))?;
    let mut pending = BTreeMap::new();
    for _ in 0..length(source)? {
        let id = RdbStreamId::of_bytes(source.array()?);
        let delivered_at_ms = moment(source)?.max(0) as u64;
        let deliveries = length(source)?;
        if pending.insert(id, (delivered_at_ms, deliveries)).is_some() {
            return damaged("a stream's group has an entry twice");
        }
    }
    let mut names = BTreeSet::new();
    for _ in 0..length(source)? {
        let name = owned_string(source)?;
        let seen_at_ms = moment(source)?.max(0) as u64;
        let active_at_ms = match version {
            3.. => u64::try_from(moment(source)?).ok(),
            _ => Some(seen_at_ms),
        };
        each(ValuePart::Consumer(ConsumerPart { name: &name, seen_at_ms, active_at_ms }))?;
        for _ in 0..length(source)? {
            let id = RdbStreamId::of_bytes(source.array()?);
            let Some((delivered_at_ms, deliveries)) = pending.remove(&id) else {
                return damaged("a stream's consumer has an entry that its group has not");
            };
            each(ValuePart::Pending(PendingPart { id, delivered_at_ms, deliveries }))?;
        }
        if !names.insert(name) {
            return damaged("a stream's group has a consumer twice");
        }
    }
    if pending.is_empty() { Ok(group_name) } else { damaged("a stream's group has an entry of no consumer") }
}

/// Writes a stream: entries in the order of their ids, then [`StreamWriter::finish`].
pub struct StreamWriter {
    nodes: Vec<u8>,
    count: u64,
    /// The listpack that is being filled.
    node: Vec<(RdbStreamId, Vec<u8>)>,
    node_bytes: usize,
    first_id: Option<RdbStreamId>,
    length: u64,
}

/// A group with what its consumers have not acknowledged.
pub struct GroupRecord<'a> {
    pub group: GroupPart<'a>,
    pub consumers: Vec<(ConsumerPart<'a>, Vec<PendingPart>)>,
}

impl StreamWriter {
    #[expect(clippy::new_without_default, reason = "it is written to once")]
    pub fn new() -> StreamWriter {
        StreamWriter {
            nodes: Vec::new(),
            count: 0,
            node: Vec::new(),
            node_bytes: 0,
            first_id: None,
            length: 0,
        }
    }

    /// Adds the next entry: names and values in turn. It begins a node where the caller says so, and where
    /// the node would become too large for its format.
    pub fn entry<'a>(
        &mut self,
        id: RdbStreamId,
        begins_node: bool,
        fields: impl ExactSizeIterator<Item = &'a [u8]>,
    ) {
        const NODE_BYTES_MAX: usize = 1 << 30;
        if begins_node || self.node_bytes >= NODE_BYTES_MAX {
            self.end_node();
        }
        self.first_id.get_or_insert(id);
        self.length += 1;
        let mut entry = ((fields.len() / 2) as u32).to_le_bytes().to_vec();
        for field in fields {
            entry.extend_from_slice(&(field.len() as u32).to_le_bytes());
            entry.extend_from_slice(field);
        }
        self.node_bytes += entry.len();
        self.node.push((id, entry));
    }

    fn end_node(&mut self) {
        let Some((first, _)) = self.node.first() else { return };
        let mut listpack = ListpackWriter::new();
        listpack.integer(self.node.len() as i64);
        listpack.integer(0);
        let names: Vec<Vec<u8>> = texts(&self.node[0].1).step_by(2).map(<[u8]>::to_vec).collect();
        listpack.integer(names.len() as i64);
        names.iter().for_each(|name| listpack.text(name));
        listpack.integer(0);
        for (id, entry) in &self.node {
            let is_same = texts(entry).step_by(2).eq(names.iter().map(Vec::as_slice));
            listpack.integer(if is_same { SAME_FIELDS } else { 0 });
            listpack.integer(id.ms.wrapping_sub(first.ms) as i64);
            listpack.integer(id.sequence.wrapping_sub(first.sequence) as i64);
            let mut elements = 3;
            if !is_same {
                listpack.integer((texts(entry).count() / 2) as i64);
                elements += 1;
            }
            for text in texts(entry).skip(usize::from(is_same)).step_by(if is_same { 2 } else { 1 }) {
                listpack.text(text);
                elements += 1;
            }
            listpack.integer(elements);
        }
        writer::put_string(&first.bytes(), &mut self.nodes);
        writer::put_string(&listpack.finish(), &mut self.nodes);
        (self.count, self.node_bytes) = (self.count + 1, 0);
        self.node.clear();
    }

    /// Appends the stream to `out`, which has its type already. `meta.length` is that of the entries.
    pub fn finish(mut self, meta: &StreamMeta, groups: &[GroupRecord<'_>], out: &mut Vec<u8>) {
        self.end_node();
        writer::put_length(self.count, out);
        out.append(&mut self.nodes);
        writer::put_length(self.length, out);
        put_id(meta.last_id, out);
        put_id(self.first_id.unwrap_or_default(), out);
        put_id(meta.max_deleted_id, out);
        writer::put_length(meta.entries_added, out);
        writer::put_length(groups.len() as u64, out);
        groups.iter().for_each(|record| put_group(record, out));
    }
}

/// The texts of an entry that waits for its listpack, without their count.
fn texts(entry: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = &entry[4..];
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (text, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        rest = after;
        Some(text)
    })
}

fn put_id(id: RdbStreamId, out: &mut Vec<u8>) {
    writer::put_length(id.ms, out);
    writer::put_length(id.sequence, out);
}

fn put_group(record: &GroupRecord<'_>, out: &mut Vec<u8>) {
    let GroupRecord { group, consumers } = record;
    writer::put_string(group.name, out);
    put_id(group.last_id, out);
    writer::put_length(group.entries_read.unwrap_or(u64::MAX), out);
    let mut all: Vec<&PendingPart> = consumers.iter().flat_map(|(_, pending)| pending).collect();
    all.sort_by_key(|pending| pending.id);
    writer::put_length(all.len() as u64, out);
    for pending in all {
        out.extend_from_slice(&pending.id.bytes());
        out.extend_from_slice(&pending.delivered_at_ms.to_le_bytes());
        writer::put_length(pending.deliveries, out);
    }
    writer::put_length(consumers.len() as u64, out);
    for (consumer, pending) in consumers {
        writer::put_string(consumer.name, out);
        out.extend_from_slice(&consumer.seen_at_ms.to_le_bytes());
        out.extend_from_slice(&consumer.active_at_ms.map_or(-1, |at| at as i64).to_le_bytes());
        writer::put_length(pending.len() as u64, out);
        pending.iter().for_each(|pending| out.extend_from_slice(&pending.id.bytes()));
    }
}
