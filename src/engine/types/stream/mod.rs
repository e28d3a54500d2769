//! Streams: entries in the order of their IDs, and consumer groups.
//!
//! Entries lie in blocks ([`block`]), which are in a row, ordered by the first ID that each had. A block ends
//! where Redis would end its node: approximate trims remove whole nodes, and reply how many entries that
//! were. An entry that shares the names of the first one of its block has only values.
//!
//! Invariants:
//! - no block is empty, and all of its entries are before those of the next one;
//! - no entry is after `last_id`;
//! - `length` is the number of entries, `heap_bytes` needs no walk.

mod block;
mod group;
mod id;
mod words;

pub use block::StreamEntry;
pub use group::{PendingEntry, StreamConsumer, StreamGroup};
pub use id::{StreamId, parse_u64};

use block::Block;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The names and values of an entry to be added.
#[derive(Clone, Copy, Debug)]
pub struct StreamPairs<'a>(pub &'a [&'a [u8]]);

impl<'a> StreamPairs<'a> {
    pub fn len(&self) -> usize {
        self.0.len() / 2
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.0.as_chunks::<2>().0.iter().map(|[name, value]| (*name, *value))
    }

    /// The bytes of all words.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|word| word.len()).sum()
    }
}

/// What a stream was when a walk over it began: the walk may go on while no entry was removed.
#[derive(Clone, Debug)]
pub struct StreamVersion {
    removals: Arc<AtomicU64>,
    count: u64,
}

#[derive(Debug, Default)]
pub struct Stream {
    blocks: VecDeque<Block>,
    length: usize,
    /// The ID of the last entry that is there; 0-0 if there is none.
    top_id: StreamId,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    groups: BTreeMap<Box<[u8]>, StreamGroup>,
    block_bytes: usize,
    group_bytes: usize,
    group_parts: usize,
    /// Something was applied to it: an empty stream can exist.
    exists: bool,
    removals: Arc<AtomicU64>,
}

impl Stream {
    pub fn new() -> Stream {
        Stream::default()
    }

    /// Whether anything made it: a stream can exist without entries.
    pub fn exists(&self) -> bool {
        self.exists
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The largest ID that was ever added or set.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The largest ID that was deleted, other than by a trim.
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// How many entries were ever added.
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// Entries, groups, consumers and pending entries.
    pub fn parts(&self) -> usize {
        self.length + self.group_parts
    }

    pub fn heap_bytes(&self) -> usize {
        self.block_bytes
            + self.blocks.capacity() * size_of::<Block>()
            + self.group_bytes
            + size_of::<[u64; 3]>()
    }

    /// The number of blocks, which are Redis's nodes.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The keys of the blocks, in order.
    pub fn block_ids(&self) -> impl Iterator<Item = StreamId> {
        self.blocks.iter().map(|block| block.first)
    }

    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &StreamGroup)> {
        self.groups.iter().map(|(name, group)| (&**name, group))
    }

    pub fn group(&self, name: &[u8]) -> Option<&StreamGroup> {
        self.groups.get(name)
    }

    pub fn version(&self) -> StreamVersion {
        StreamVersion { removals: self.removals.clone(), count: self.removals.load(Ordering::Relaxed) }
    }

    /// Whether it is the stream that it was, from which no entry was removed since.
    pub fn is_still(&self, version: &StreamVersion) -> bool {
        Arc::ptr_eq(&self.removals, &version.removals)
            && self.removals.load(Ordering::Relaxed) == version.count
    }

    /// The index of the last block that begins at this ID or before; 0 if there is none.
    fn block_of(&self, id: StreamId) -> usize {
        self.blocks.partition_point(|block| block.first <= id).saturating_sub(1)
    }

    /// The entries of a range of IDs.
    pub fn range(&self, range: RangeInclusive<StreamId>) -> impl Iterator<Item = StreamEntry<'_>> {
        let (from, to) = range.into_inner();
        let blocks = self.blocks.range(self.block_of(from)..);
        blocks
            .take_while(move |block| block.first <= to)
            .flat_map(move |block| block.from(from))
            .take_while(move |entry| entry.id <= to)
    }

    /// The same, the last one first.
    pub fn backwards(&self, range: RangeInclusive<StreamId>) -> impl Iterator<Item = StreamEntry<'_>> {
        let (from, to) = range.into_inner();
        let end = self.blocks.partition_point(|block| block.first <= to);
        let blocks = self.blocks.range(..end).rev();
        blocks.flat_map(move |block| block.backwards(to)).take_while(move |entry| entry.id >= from)
    }

    pub fn get(&self, id: StreamId) -> Option<StreamEntry<'_>> {
        let block = self.blocks.get(self.block_of(id))?;
        block.from(id).next().filter(|entry| entry.id == id)
    }

    pub fn first(&self) -> Option<StreamEntry<'_>> {
        self.blocks.front()?.from(StreamId::ZERO).next()
    }

    /// The ID of the first entry; 0-0 if there is none.
    pub fn first_id(&self) -> StreamId {
        self.first().map_or(StreamId::ZERO, |entry| entry.id)
    }

    /// The ID of the last entry that is there; 0-0 if there is none.
    pub fn top_id(&self) -> StreamId {
        self.top_id
    }

    /// Whether Redis would begin another node for an entry with these words.
    pub fn needs_block(&self, pairs: &StreamPairs<'_>, bytes_max: u64, entries_max: u64) -> bool {
        let last = self.blocks.back();
        last.is_none_or(|block| block.is_full(pairs.bytes(), bytes_max, entries_max))
    }

    /// Appends an entry, in a block of its own if the last one is full. False if it is not after all others,
    /// or has no words.
    pub fn push(&mut self, id: StreamId, is_first: bool, pairs: &StreamPairs<'_>) -> bool {
        if id <= self.top_id || pairs.is_empty() || !pairs.0.len().is_multiple_of(2) {
            return false;
        }
        self.exists = true;
        self.length += 1;
        self.top_id = id;
        let last = self.blocks.back_mut();
        if let Some(block) = last.filter(|block| !is_first && block.has_room(pairs)) {
            let before = block.heap_bytes();
            block.push(id, pairs);
            self.block_bytes += block.heap_bytes();
            self.block_bytes -= before;
            return true;
        }
        if let Some(block) = self.blocks.back_mut() {
            self.block_bytes -= block.heap_bytes();
            block.shrink();
            self.block_bytes += block.heap_bytes();
        }
        let mut block = Block::new(id, pairs);
        block.push(id, pairs);
        self.block_bytes += block.heap_bytes();
        self.blocks.push_back(block);
        true
    }

    /// Notes that an entry of this ID was added.
    pub fn note_added(&mut self, id: StreamId) {
        self.last_id = id;
        self.entries_added += 1;
    }

    pub fn set_head(&mut self, last_id: StreamId, max_deleted_id: StreamId, entries_added: u64) {
        self.exists = true;
        (self.last_id, self.max_deleted_id, self.entries_added) = (last_id, max_deleted_id, entries_added);
    }

    /// Deletes an entry; false if it is not there.
    pub fn remove(&mut self, id: StreamId) -> bool {
        let index = self.block_of(id);
        let Some(block) = self.blocks.get_mut(index) else { return false };
        if !block.remove(id) {
            return false;
        }
        if block.live == 0 {
            self.block_bytes -= block.heap_bytes();
            self.blocks.remove(index);
        }
        self.length -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        if id == self.top_id {
            self.top_id = self.blocks.back().and_then(Block::last_id).unwrap_or_default();
        }
        self.removals.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Removes all entries up to this ID; returns how many.
    pub fn trim(&mut self, last: StreamId) -> usize {
        let mut removed = 0;
        while self.blocks.front().is_some_and(|block| block.first <= last) {
            let goes_whole = self.blocks.get(1).is_some_and(|next| next.first <= last);
            let block = self.blocks.front_mut().expect("looked at above");
            removed += if goes_whole { block.live as usize } else { block.remove_up_to(last) };
            if !goes_whole && block.live > 0 {
                break;
            }
            self.block_bytes -= block.heap_bytes();
            self.blocks.pop_front();
        }
        self.length -= removed;
        if self.blocks.is_empty() {
            self.top_id = StreamId::ZERO;
        }
        self.removals.fetch_add(u64::from(removed > 0), Ordering::Relaxed);
        removed
    }

    /// How many entries a block has.
    pub fn block_len(&self, place: usize) -> usize {
        self.blocks[place].live as usize
    }

    /// The ID of the last entry of a block.
    pub fn block_end(&self, place: usize) -> Option<StreamId> {
        self.blocks[place].last_id()
    }

    /// Whether all entries of a block are before this ID.
    pub fn block_ends_before(&self, place: usize, id: StreamId) -> bool {
        match self.blocks.get(place + 1) {
            Some(next) if next.first <= id => true,
            _ => self.block_end(place).is_some_and(|last| last < id),
        }
    }

    /// The entries of a block, by its place in the row.
    pub fn block(&self, place: usize) -> Option<impl Iterator<Item = StreamEntry<'_>>> {
        self.blocks.get(place).map(|block| block.from(StreamId::ZERO))
    }

    /// Changes a group; `None` if there is none of this name.
    pub fn change_group<R>(&mut self, name: &[u8], change: impl FnOnce(&mut StreamGroup) -> R) -> Option<R> {
        let group = self.groups.get_mut(name)?;
        let (bytes, parts) = (group.heap_bytes(), group.parts());
        let result = change(group);
        self.group_bytes = self.group_bytes + group.heap_bytes() - bytes;
        self.group_parts = self.group_parts + group.parts() - parts;
        Some(result)
    }

    /// Creates a group, or sets how far it has read; true if it is new.
    pub fn set_group(&mut self, name: &[u8], last_id: StreamId, entries_read: Option<u64>) -> bool {
        self.exists = true;
        let is_new = !self.groups.contains_key(name);
        if is_new {
            let group = StreamGroup::default();
            self.group_bytes += group.heap_bytes();
            self.group_parts += group.parts();
            self.groups.insert(name.into(), group);
        }
        let group = self.groups.get_mut(name).expect("inserted above");
        (group.last_id, group.entries_read) = (last_id, entries_read);
        is_new
    }

    pub fn remove_group(&mut self, name: &[u8]) -> bool {
        let Some(group) = self.groups.remove(name) else { return false };
        self.group_bytes -= group.heap_bytes();
        self.group_parts -= group.parts();
        true
    }

    /// Removes an entry from the pending ones of all groups.
    pub fn forget(&mut self, id: StreamId) {
        self.change_groups(|group| _ = group.acknowledge(id));
    }

    fn change_groups(&mut self, mut change: impl FnMut(&mut StreamGroup)) {
        for group in self.groups.values_mut() {
            let (bytes, parts) = (group.heap_bytes(), group.parts());
            change(group);
            self.group_bytes = self.group_bytes + group.heap_bytes() - bytes;
            self.group_parts = self.group_parts + group.parts() - parts;
        }
    }

    /// Whether a group has not yet read or not yet acknowledged an entry.
    pub fn is_awaited(&self, id: StreamId) -> bool {
        self.groups.values().any(|group| group.last_id < id || group.pending().contains_key(&id))
    }

    /// Whether something was deleted, other than by a trim, from this ID on.
    fn has_deleted_from(&self, from: StreamId) -> bool {
        !self.is_empty() && self.max_deleted_id != StreamId::ZERO && from <= self.max_deleted_id
    }

    /// How many entries were added up to an ID since the stream began, where that can be known.
    pub fn count_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.is_empty() && id <= self.last_id {
            return Some(self.entries_added);
        }
        if id != StreamId::ZERO && id < self.max_deleted_id {
            return None;
        }
        if id >= self.last_id {
            return (id == self.last_id).then_some(self.entries_added);
        }
        let first_id = self.first_id();
        if self.max_deleted_id == StreamId::ZERO || self.max_deleted_id < first_id {
            let before = self.entries_added.wrapping_sub(self.length as u64);
            if id < first_id {
                return Some(before);
            }
            if id == first_id {
                return Some(before.wrapping_add(1));
            }
        }
        None
    }

    /// The number of entries that a group has read after it reads the entry of this ID.
    pub fn entries_read_after(
        &self,
        (last_id, entries_read): (StreamId, Option<u64>),
        id: StreamId,
    ) -> Option<u64> {
        match entries_read {
            Some(count) if last_id >= self.first_id() && !self.has_deleted_from(last_id) => {
                Some(count.wrapping_add(1))
            }
            _ if self.entries_added > 0 => self.count_up_to(id),
            unchanged => unchanged,
        }
    }

    /// How many entries a group has not read; `None` if that cannot be known.
    pub fn lag(&self, group: &StreamGroup) -> Option<u64> {
        if self.entries_added == 0 || self.is_empty() {
            return Some(0);
        }
        let first_id = self.first_id();
        if group.last_id < first_id && self.max_deleted_id < first_id {
            return Some(self.length as u64);
        }
        let read = match group.entries_read {
            Some(count) if !self.has_deleted_from(group.last_id) => Some(count),
            _ => self.count_up_to(group.last_id),
        };
        read.map(|read| self.entries_added.wrapping_sub(read))
    }
}

#[cfg(test)]
mod tests;
