//! Documents in memory: a small one is one buffer of packed values, a large one is blocks.
//!
//! A container of more than [`RUN_MAX`] bytes is a [`Container`]: a list of runs of packed items, and of
//! other large containers between them. So a change moves at most the bytes of one run, however large the
//! document is, and no list grows by doubling under the lock beyond one entry for each run. Blocks are
//! counted by reference: a reader that takes long keeps the document as it was, and a change copies only the
//! block that it is in, and the lists on the way to it.
//!
//! Invariant: what a document contains, order included, does not depend on where its runs begin and end.

use super::flat::{self, ItemPlace, ValueChange};
use super::{JsonNode, NodeItems};
use crate::location::LocationStep;
use crate::packed::{self, ContainerHeader};
use std::ops::Range;
use std::sync::Arc;

/// A buffer of more bytes is made into blocks, unless it is one text or number.
pub const RUN_MAX: usize = 16 << 10;
/// The size at which blocks are made, about, in bytes.
pub const RUN_FULL: usize = 8 << 10;
/// A run of fewer bytes is joined with the one beside it.
const RUN_LOW: usize = 1 << 10;

/// A part of a large container.
#[derive(Clone, Debug)]
pub enum ItemBlock {
    /// Packed items, at least one.
    Run {
        bytes: Arc<Vec<u8>>,
        count: usize,
        /// Of an object's run, two bytes of each name's hash: a member is looked for where its hash is.
        hashes: Arc<[u16]>,
    },
    /// One item; the name is empty in an array.
    Large { name: Box<[u8]>, container: Arc<Container> },
}

impl ItemBlock {
    fn run(bytes: Vec<u8>, count: usize) -> ItemBlock {
        ItemBlock::Run { bytes: Arc::new(bytes), count, hashes: Arc::default() }
    }

    fn count(&self) -> usize {
        match self {
            ItemBlock::Run { count, .. } => *count,
            ItemBlock::Large { .. } => 1,
        }
    }

    /// Bytes on the heap, beyond the block itself.
    fn heap_bytes(&self) -> usize {
        const COUNTERS: usize = 2 * size_of::<usize>();
        match self {
            ItemBlock::Run { bytes, hashes, .. } => {
                2 * COUNTERS + size_of::<Vec<u8>>() + bytes.capacity() + size_of_val(&**hashes)
            }
            ItemBlock::Large { name, container } => {
                COUNTERS + size_of::<Container>() + name.len() + container.heap_bytes()
            }
        }
    }

    /// The bytes of the items, packed.
    fn packed_bytes(&self, is_object: bool) -> usize {
        match self {
            ItemBlock::Run { bytes, .. } => bytes.len(),
            ItemBlock::Large { name, container } => {
                let name = if is_object { packed::text_size(name.len()) } else { 0 };
                name + container.packed_bytes()
            }
        }
    }

    /// Blocks in it, itself included.
    fn blocks(&self) -> usize {
        match self {
            ItemBlock::Run { .. } => 1,
            ItemBlock::Large { container, .. } => 1 + container.below,
        }
    }
}

/// An array or object in blocks.
#[derive(Clone, Debug)]
pub struct Container {
    is_object: bool,
    /// NodeItems in all blocks.
    count: usize,
    /// Heap bytes of all blocks.
    heap: usize,
    /// The bytes of all items, packed: they depend on the content alone.
    body: usize,
    /// Blocks, and blocks in them.
    below: usize,
    blocks: Vec<ItemBlock>,
}

impl Container {
    fn of(is_object: bool, blocks: Vec<ItemBlock>) -> Container {
        let mut container = Container { is_object, count: 0, heap: 0, body: 0, below: 0, blocks };
        for at in 0..container.blocks.len() {
            container.hash_names(at);
            container.add(at);
        }
        container
    }

    /// The items of a packed container.
    fn of_packed(value: &[u8]) -> Container {
        let header = ContainerHeader::of(value).expect("a container");
        Container::of(header.is_object, split(&value[header.bytes..header.size()], header.is_object))
    }

    pub fn is_object(&self) -> bool {
        self.is_object
    }

    pub fn len(&self) -> usize {
        self.count
    }

    /// Blocks in it, and in these.
    pub fn below(&self) -> usize {
        self.below
    }

    pub fn blocks(&self) -> &[ItemBlock] {
        &self.blocks
    }

    pub fn heap_bytes(&self) -> usize {
        self.heap + self.blocks.capacity() * size_of::<ItemBlock>()
    }

    /// The bytes that it takes packed.
    pub fn packed_bytes(&self) -> usize {
        packed::container_size(self.body, self.count)
    }

    pub fn items(&self) -> NodeItems<'_> {
        NodeItems::of_blocks(&self.blocks, self.is_object, self.count)
    }

    /// The element of an array.
    pub fn element(&self, index: usize) -> Option<JsonNode<'_>> {
        let (block, before) = self.block_of(index)?;
        match &self.blocks[block] {
            ItemBlock::Run { bytes, .. } => {
                Some(JsonNode::Packed(&bytes[flat::start_of(bytes, index - before)..]))
            }
            ItemBlock::Large { container, .. } => Some(JsonNode::Large(container)),
        }
    }

    /// The elements of an array from this one on; `None` if it is none.
    pub fn elements_from(&self, index: usize) -> Option<NodeItems<'_>> {
        if self.is_object {
            return None;
        }
        let left = self.count.saturating_sub(index);
        let Some((block, before)) = self.block_of(index) else {
            return Some(NodeItems::of_blocks(&[], false, 0));
        };
        Some(match &self.blocks[block] {
            ItemBlock::Run { bytes, .. } => {
                let start = flat::start_of(bytes, index - before);
                NodeItems::of_run(&bytes[start..], false, left).followed_by(&self.blocks[block + 1..])
            }
            ItemBlock::Large { .. } => NodeItems::of_blocks(&self.blocks[block..], false, left),
        })
    }

    /// The member of an object.
    pub fn member(&self, name: &[u8]) -> Option<JsonNode<'_>> {
        let (block, place) = self.locate(LocationStep::Name(name))?;
        match (&self.blocks[block], place) {
            (ItemBlock::Run { bytes, .. }, Some(place)) => Some(JsonNode::Packed(&bytes[place.value..])),
            (ItemBlock::Large { container, .. }, _) => Some(JsonNode::Large(container)),
            (ItemBlock::Run { .. }, None) => None,
        }
    }

    /// The block that has the item at this index, and how many items are in front of it.
    fn block_of(&self, index: usize) -> Option<(usize, usize)> {
        let mut before = 0;
        for (at, block) in self.blocks.iter().enumerate() {
            if index < before + block.count() {
                return Some((at, before));
            }
            before += block.count();
        }
        None
    }

    /// Counts a block that is there.
    fn add(&mut self, block: usize) {
        let block = &self.blocks[block];
        self.count += block.count();
        self.heap += block.heap_bytes();
        self.body += block.packed_bytes(self.is_object);
        self.below += block.blocks();
    }

    fn subtract(&mut self, block: usize) {
        let block = &self.blocks[block];
        self.count -= block.count();
        self.heap -= block.heap_bytes();
        self.body -= block.packed_bytes(self.is_object);
        self.below -= block.blocks();
    }

    /// Replaces blocks by others.
    fn put_blocks(&mut self, range: Range<usize>, by: Vec<ItemBlock>) {
        range.clone().for_each(|block| self.subtract(block));
        let added = range.start..range.start + by.len();
        self.blocks.splice(range, by);
        added.for_each(|block| {
            self.hash_names(block);
            self.add(block);
        });
    }

    /// Hashes the names in a run, after some have come or gone.
    fn hash_names(&mut self, block: usize) {
        if let (true, ItemBlock::Run { bytes, count, hashes }) = (self.is_object, &mut self.blocks[block]) {
            let names = NodeItems::of_run(bytes, true, *count).map(|(name, _)| hash(name));
            *hashes = names.collect();
        }
    }

    /// Changes one block, and puts it in order after it.
    fn with_block<R>(&mut self, block: usize, change: impl FnOnce(&mut ItemBlock) -> Option<R>) -> Option<R> {
        self.subtract(block);
        let result = change(&mut self.blocks[block]);
        self.add(block);
        self.settle(block);
        result
    }

    /// Splits a run that has become too long, removes an empty one, and joins short ones.
    fn settle(&mut self, block: usize) {
        let Some(ItemBlock::Run { bytes, count, .. }) = self.blocks.get(block) else { return };
        if *count == 0 {
            return self.put_blocks(block..block + 1, Vec::new());
        }
        if bytes.len() > RUN_MAX && (*count > 1 || is_container(bytes, self.is_object)) {
            let blocks = split(bytes, self.is_object);
            return self.put_blocks(block..block + 1, blocks);
        }
        if bytes.len() < RUN_LOW && self.blocks.len() > 1 {
            let first = block.saturating_sub(usize::from(block + 1 == self.blocks.len()));
            if let [
                ItemBlock::Run { bytes: one, count: ones, .. },
                ItemBlock::Run { bytes: other, count: others, .. },
            ] = &self.blocks[first..first + 2]
                && one.len() + other.len() <= RUN_FULL
            {
                let joined = ItemBlock::run([&one[..], other].concat(), ones + others);
                self.put_blocks(first..first + 2, vec![joined]);
            }
        }
    }

    /// Adds packed items at the end.
    fn push(&mut self, items: &[u8], count: usize) {
        if count == 0 {
            return;
        }
        let last = self.blocks.len().wrapping_sub(1);
        match self.blocks.last() {
            Some(ItemBlock::Run { bytes, .. }) if bytes.len() < RUN_FULL => {
                self.with_run(last, |run, had| {
                    run.reserve_exact(items.len());
                    run.extend_from_slice(items);
                    *had += count;
                });
            }
            _ => {
                let end = self.blocks.len();
                self.put_blocks(end..end, vec![ItemBlock::run(items.to_vec(), count)]);
                self.settle(end);
            }
        }
    }

    fn with_run(&mut self, block: usize, change: impl FnOnce(&mut Vec<u8>, &mut usize)) {
        self.subtract(block);
        let ItemBlock::Run { bytes, count, .. } = &mut self.blocks[block] else { unreachable!("a run") };
        change(Arc::make_mut(bytes), count);
        self.hash_names(block);
        self.add(block);
        self.settle(block);
    }

    /// Where an item is: its block, and its place if that is a run.
    fn locate(&self, step: LocationStep<'_>) -> Option<(usize, Option<ItemPlace>)> {
        match step {
            LocationStep::Index(index) if !self.is_object => {
                let (block, before) = self.block_of(index)?;
                Some((block, self.place_in(block, LocationStep::Index(index - before))))
            }
            LocationStep::Name(wanted) if self.is_object => {
                let wanted_hash = hash(wanted);
                (0..self.blocks.len()).find_map(|at| match &self.blocks[at] {
                    ItemBlock::Run { hashes, .. } if !hashes.contains(&wanted_hash) => None,
                    ItemBlock::Run { .. } => self.place_in(at, step).map(|place| (at, Some(place))),
                    ItemBlock::Large { name, .. } => (**name == *wanted).then_some((at, None)),
                })
            }
            _ => None,
        }
    }

    fn place_in(&self, block: usize, step: LocationStep<'_>) -> Option<ItemPlace> {
        match &self.blocks[block] {
            ItemBlock::Run { bytes, .. } => flat::find(bytes, self.is_object, step),
            ItemBlock::Large { .. } => None,
        }
    }

    fn change(&mut self, steps: &[LocationStep<'_>], change: ValueChange<'_>) -> Option<()> {
        let Some((&first, rest)) = steps.split_first() else { return self.change_here(change) };
        let Some((block, place)) = self.locate(first) else {
            let (ValueChange::Set(value), LocationStep::Name(name), true) = (change, first, rest.is_empty())
            else {
                return None;
            };
            return self.is_object.then(|| self.push(&flat::member(name, value), 1));
        };
        match change {
            ValueChange::Remove if rest.is_empty() => {
                self.remove(block, place);
                Some(())
            }
            ValueChange::Set(value) if rest.is_empty() && place.is_none() => {
                let ItemBlock::Large { name, .. } = &self.blocks[block] else {
                    unreachable!("it has no place")
                };
                let item = if self.is_object { flat::member(name, value) } else { value.to_vec() };
                self.put_blocks(block..block + 1, vec![ItemBlock::run(item, 1)]);
                self.settle(block);
                Some(())
            }
            _ => self.with_block(block, |block| match (block, place) {
                (ItemBlock::Run { bytes, .. }, Some(place)) => {
                    let bytes = Arc::make_mut(bytes);
                    let changed = flat::change(bytes, place.value, rest, change);
                    trim_capacity(bytes);
                    changed
                }
                (ItemBlock::Large { container, .. }, None) => Arc::make_mut(container).change(rest, change),
                _ => unreachable!("a place is in a run"),
            }),
        }
    }

    fn change_here(&mut self, change: ValueChange<'_>) -> Option<()> {
        match change {
            ValueChange::Insert { index, values, count } if !self.is_object && index <= self.count => {
                self.insert(index, values, count);
            }
            ValueChange::Fill { items, count } => self.push(items, count),
            ValueChange::Trim { start, stop } if !self.is_object && start <= stop && stop <= self.count => {
                self.trim(start, stop);
            }
            _ => return None,
        }
        Some(())
    }

    fn insert(&mut self, index: usize, values: &[u8], count: usize) {
        let Some((block, before)) = self.block_of(index) else { return self.push(values, count) };
        if let ItemBlock::Run { .. } = &self.blocks[block] {
            return self.with_run(block, |run, had| {
                let place = flat::start_of(run, index - before);
                packed::splice(run, place..place, values);
                *had += count;
            });
        }
        self.put_blocks(block..block, vec![ItemBlock::run(values.to_vec(), count)]);
        self.settle(block);
    }

    fn trim(&mut self, start: usize, stop: usize) {
        let mut kept = Vec::new();
        let mut before = 0;
        for block in std::mem::take(&mut self.blocks) {
            let (from, to) = (start.saturating_sub(before), stop.saturating_sub(before));
            let count = block.count();
            before += count;
            match block {
                block if from == 0 && to >= count => kept.push(block),
                ItemBlock::Run { bytes, .. } if from < to.min(count) => {
                    let to = to.min(count);
                    let range = flat::start_of(&bytes, from)..flat::start_of(&bytes, to);
                    kept.push(ItemBlock::run(bytes[range].to_vec(), to - from));
                }
                _ => {}
            }
        }
        *self = Container::of(false, kept);
    }

    /// Removes an item; in an object, the last one takes its place.
    fn remove(&mut self, block: usize, place: Option<ItemPlace>) {
        let end = self.blocks.len() - 1;
        let is_last = block == end
            && match (&self.blocks[end], &place) {
                (ItemBlock::Run { bytes, .. }, Some(place)) => place.item.end == bytes.len(),
                _ => true,
            };
        if !self.is_object || is_last {
            return self.take_out(block, place);
        }
        let last = match &self.blocks[end] {
            ItemBlock::Run { bytes, .. } => {
                let place = flat::last(bytes, true).expect("no run is empty");
                ItemBlock::run(bytes[place.item].to_vec(), 1)
            }
            large => large.clone(),
        };
        self.put_in_place(block, place, last);
        // The last item is still the last one: nothing was put behind it.
        let end = self.blocks.len() - 1;
        let place = match &self.blocks[end] {
            ItemBlock::Run { bytes, .. } => flat::last(bytes, true),
            ItemBlock::Large { .. } => None,
        };
        self.take_out(end, place);
        self.settle(block);
    }

    fn take_out(&mut self, block: usize, place: Option<ItemPlace>) {
        match place {
            None => self.put_blocks(block..block + 1, Vec::new()),
            Some(place) => self.with_run(block, |run, count| {
                packed::splice(run, place.item, &[]);
                trim_capacity(run);
                *count -= 1;
            }),
        }
    }

    /// Puts the item that a block consists of in the place of another item, without joining or splitting
    /// what is behind it.
    fn put_in_place(&mut self, block: usize, place: Option<ItemPlace>, item: ItemBlock) {
        let blocks = match (&self.blocks[block], place) {
            (ItemBlock::Run { bytes, count, .. }, Some(place)) => {
                let before = &bytes[..place.item.start];
                let after = &bytes[place.item.end..];
                if let ItemBlock::Run { bytes: item, .. } = &item {
                    vec![ItemBlock::run([before, item, after].concat(), *count)]
                } else {
                    let in_front = packed::check_run(before, true, packed::DEPTH_MAX).unwrap_or_default();
                    let parts = [
                        ItemBlock::run(before.to_vec(), in_front),
                        item,
                        ItemBlock::run(after.to_vec(), count - in_front - 1),
                    ];
                    parts.into_iter().filter(|part| part.count() > 0).collect()
                }
            }
            _ => vec![item],
        };
        self.put_blocks(block..block + 1, blocks);
    }
}

fn hash(name: &[u8]) -> u16 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let sum = name.chunks(8).fold(name.len() as u64, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        (sum.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR)
    });
    (sum >> 48) as u16
}

fn is_container(run: &[u8], is_object: bool) -> bool {
    let value = if is_object { packed::size(run) } else { 0 };
    ContainerHeader::of(&run[value..]).is_some()
}

/// Makes blocks of packed items.
fn split(run: &[u8], is_object: bool) -> Vec<ItemBlock> {
    let mut blocks = Vec::new();
    let (mut start, mut at, mut count) = (0, 0, 0);
    let flush = |blocks: &mut Vec<ItemBlock>, range: Range<usize>, count: usize| {
        if count > 0 {
            blocks.push(ItemBlock::run(run[range].to_vec(), count));
        }
    };
    while at < run.len() {
        let value = if is_object { at + packed::size(&run[at..]) } else { at };
        let end = value + packed::size(&run[value..]);
        let is_large = end - value > RUN_FULL;
        if is_large || end - start > RUN_FULL {
            flush(&mut blocks, start..at, count);
            (start, count) = (at, 0);
        }
        count += 1;
        if is_large {
            if ContainerHeader::of(&run[value..]).is_some() {
                let name = if is_object { packed::text(&run[at..]).expect("a name").0 } else { &[][..] };
                let container = Arc::new(Container::of_packed(&run[value..end]));
                blocks.push(ItemBlock::Large { name: name.into(), container });
            } else {
                flush(&mut blocks, at..end, 1);
            }
            (start, count) = (end, 0);
        }
        at = end;
    }
    flush(&mut blocks, start..at, count);
    blocks
}

/// Gives memory back that a buffer has too much.
fn trim_capacity(buffer: &mut Vec<u8>) {
    if buffer.capacity() > 2 * buffer.len() + 64 {
        buffer.shrink_to_fit();
    }
}

/// A document's value. A clone copies [`RUN_MAX`] bytes at most.
#[derive(Clone, Debug)]
pub enum Root {
    Flat(Vec<u8>),
    /// One text of more bytes, packed.
    Text(Arc<Vec<u8>>),
    Large(Arc<Container>),
}

impl Root {
    pub fn of(packed: &[u8]) -> Root {
        if packed.len() <= RUN_MAX {
            Root::Flat(packed.to_vec())
        } else if ContainerHeader::of(packed).is_some() {
            Root::Large(Arc::new(Container::of_packed(packed)))
        } else {
            Root::Text(Arc::new(packed.to_vec()))
        }
    }

    pub fn value(&self) -> JsonNode<'_> {
        match self {
            Root::Flat(bytes) => JsonNode::Packed(bytes),
            Root::Text(bytes) => JsonNode::Packed(bytes),
            Root::Large(container) => JsonNode::Large(container),
        }
    }

    pub fn heap_bytes(&self) -> usize {
        match self {
            Root::Flat(bytes) => bytes.capacity(),
            Root::Text(bytes) => 2 * size_of::<usize>() + size_of::<Vec<u8>>() + bytes.capacity(),
            Root::Large(container) => {
                2 * size_of::<usize>() + size_of::<Container>() + container.heap_bytes()
            }
        }
    }

    /// Whether it is a text of more than a megabyte that others refer to.
    pub fn is_shared_text(&self) -> bool {
        const LARGE_BYTES: usize = 1 << 20;
        matches!(self, Root::Text(text) if text.len() > LARGE_BYTES && Arc::strong_count(text) > 1)
    }

    /// The bytes that it takes packed: a function of the content alone, whatever its history.
    pub fn packed_bytes(&self) -> usize {
        match self {
            Root::Flat(bytes) => bytes.len(),
            Root::Text(bytes) => bytes.len(),
            Root::Large(container) => container.packed_bytes(),
        }
    }

    /// Changes what is at a location. `None`, and no change, where there is nothing that the change fits.
    pub fn change(&mut self, steps: &[LocationStep<'_>], change: ValueChange<'_>) -> Option<()> {
        if let (ValueChange::Set(value), true) = (change, steps.is_empty()) {
            *self = Root::of(value);
            return Some(());
        }
        match self {
            Root::Large(container) => Arc::make_mut(container).change(steps, change),
            Root::Text(bytes) => {
                let bytes = Arc::make_mut(bytes);
                flat::change(bytes, 0, steps, change)?;
                trim_capacity(bytes);
                Some(())
            }
            Root::Flat(bytes) => {
                flat::change(bytes, 0, steps, change)?;
                if bytes.len() > RUN_MAX {
                    *self = Root::of(bytes);
                } else {
                    trim_capacity(bytes);
                }
                Some(())
            }
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
