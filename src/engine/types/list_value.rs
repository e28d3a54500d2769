//! A list that is too large to lie with its key: a deque of blocks, each a row of elements.
//!
//! A block has free bytes at both ends, so that pushes and pops at either end of the list move nothing; it
//! grows in powers of two. An index is found by the counts of the blocks, from the nearer end.

use super::row::{self, Coded, ListEnd, RowElement};
use std::collections::VecDeque;

/// The most bytes of a block with more than one element.
const BLOCK_BYTES: usize = 8 << 10;
const BLOCK_BYTES_LEAST: usize = 128;

#[derive(Clone)]
struct Block {
    bytes: Box<[u8]>,
    start: u32,
    end: u32,
    count: u32,
}

impl Block {
    /// Room for `bytes`; the elements will be pushed to that end.
    fn with_room(bytes: usize, end: ListEnd) -> Block {
        let room = room_for(bytes);
        let start = if end == ListEnd::Front { room } else { 0 };
        Block { bytes: vec![0; room].into(), start: start as u32, end: start as u32, count: 0 }
    }

    fn of(row: &[u8], count: usize) -> Block {
        let mut block = Block::with_room(row.len(), ListEnd::Back);
        block.bytes[..row.len()].copy_from_slice(row);
        (block.end, block.count) = (row.len() as u32, count as u32);
        block
    }

    #[inline]
    fn row(&self) -> &[u8] {
        &self.bytes[self.start as usize..self.end as usize]
    }

    fn used(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Makes room for `bytes` at one end, if the block may have as many. False, without a change, if it is
    /// full, or if it would have to move its elements again and again.
    fn reserve(&mut self, bytes: usize, at: ListEnd) -> bool {
        let (start, end, all) = (self.start as usize, self.end as usize, self.bytes.len());
        let free = if at == ListEnd::Front { start } else { all - end };
        if free >= bytes {
            return true;
        }
        let wanted = self.used() + bytes;
        if self.count > 0 && wanted > BLOCK_BYTES {
            return false;
        }
        if wanted <= all / 2 {
            let target = if at == ListEnd::Front { all - self.used() } else { 0 };
            self.bytes.copy_within(start..end, target);
            self.placed(target);
            return true;
        }
        if all >= BLOCK_BYTES && self.count > 0 {
            return false;
        }
        self.resize(wanted.max(all + 1).min(BLOCK_BYTES.max(wanted)), at);
        true
    }

    /// Moves the elements into an allocation for `bytes`; what is free is at this end.
    fn resize(&mut self, bytes: usize, free: ListEnd) {
        let mut new = vec![0; room_for(bytes)].into_boxed_slice();
        let target = if free == ListEnd::Front { new.len() - self.used() } else { 0 };
        new[target..target + self.used()].copy_from_slice(self.row());
        self.bytes = new;
        self.placed(target);
    }

    fn placed(&mut self, start: usize) {
        let used = self.used();
        (self.start, self.end) = (start as u32, (start + used) as u32);
    }

    fn push(&mut self, word: &Coded<'_>, at: ListEnd) -> bool {
        let bytes = word.bytes();
        if !self.reserve(bytes, at) {
            return false;
        }
        let target = match at {
            ListEnd::Front => {
                self.start -= bytes as u32;
                self.start as usize
            }
            ListEnd::Back => {
                self.end += bytes as u32;
                self.end as usize - bytes
            }
        };
        word.write(&mut self.bytes[target..target + bytes]);
        self.count += 1;
        true
    }

    /// Replaces `removed` bytes of the row by a word. False, without a change, if the block would be too
    /// large.
    fn splice(&mut self, offset: usize, removed: usize, word: &Coded<'_>) -> bool {
        let bytes = word.bytes();
        let used = self.used() - removed + bytes;
        if used > BLOCK_BYTES && self.count > u32::from(removed > 0) {
            return false;
        }
        if used > self.bytes.len() {
            self.resize(used, ListEnd::Back);
        } else if self.start as usize + used > self.bytes.len() {
            self.bytes.copy_within(self.start as usize..self.end as usize, 0);
            self.placed(0);
        }
        let (start, end) = (self.start as usize + offset, self.end as usize);
        self.bytes.copy_within(start + removed..end, start + bytes);
        word.write(&mut self.bytes[start..start + bytes]);
        self.end = self.start + used as u32;
        self.count += u32::from(removed == 0);
        true
    }

    /// Removes the element at an offset.
    fn remove(&mut self, offset: usize) {
        let length = row::after(self.row(), offset) - offset;
        let start = self.start as usize + offset;
        if offset == 0 {
            self.start += length as u32;
        } else {
            self.bytes.copy_within(start + length..self.end as usize, start);
            self.end -= length as u32;
        }
        self.count -= 1;
    }

    /// Removes elements from one end; the block keeps some.
    fn pop(&mut self, count: usize, at: ListEnd) {
        match at {
            ListEnd::Front => {
                let offset = (0..count).fold(0, |offset, _| row::after(self.row(), offset));
                self.start += offset as u32;
            }
            ListEnd::Back => {
                let end = (0..count).fold(self.used(), |end, _| row::before(self.row(), end));
                self.end = self.start + end as u32;
            }
        }
        self.count -= count as u32;
    }

    /// Gives memory back if most of it is free.
    fn shrink(&mut self) {
        if self.bytes.len() > BLOCK_BYTES_LEAST && self.used() <= self.bytes.len() / 8 {
            self.resize(2 * self.used(), ListEnd::Back);
        }
    }
}

fn room_for(bytes: usize) -> usize {
    if bytes > BLOCK_BYTES { bytes } else { bytes.next_power_of_two().max(BLOCK_BYTES_LEAST) }
}

/// A list in memory of its own.
#[derive(Clone, Default)]
pub struct ListValue {
    blocks: VecDeque<Block>,
    len: usize,
    /// Of all blocks.
    bytes: usize,
}

impl ListValue {
    /// The same elements as a row has.
    pub fn of_row(row: &[u8], count: usize) -> ListValue {
        let block = Block::of(row, count);
        let mut blocks = VecDeque::with_capacity(1);
        let bytes = block.bytes.len();
        blocks.push_back(block);
        ListValue { blocks, len: count, bytes }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes on the heap, without the value itself.
    pub fn heap_bytes(&self) -> usize {
        self.bytes + self.blocks.capacity() * size_of::<Block>()
    }

    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// The elements of a block.
    #[inline]
    pub fn row(&self, block: usize) -> &[u8] {
        self.blocks[block].row()
    }

    /// Changes one block, and keeps the count of bytes.
    fn change<R>(&mut self, block: usize, change: impl FnOnce(&mut Block) -> R) -> R {
        let block = &mut self.blocks[block];
        let before = block.bytes.len();
        let result = change(block);
        self.bytes = self.bytes + block.bytes.len() - before;
        result
    }

    fn add_block(&mut self, place: usize, block: Block) {
        self.bytes += block.bytes.len();
        self.blocks.insert(place, block);
    }

    pub fn push(&mut self, word: &[u8], at: ListEnd) {
        let word = Coded::of(word);
        self.len += 1;
        let last = if at == ListEnd::Front { 0 } else { self.blocks.len().saturating_sub(1) };
        if !self.blocks.is_empty() && self.change(last, |block| block.push(&word, at)) {
            return;
        }
        let mut block = Block::with_room(word.bytes(), at);
        assert!(block.push(&word, at), "an empty block has room");
        let place = if at == ListEnd::Front { 0 } else { self.blocks.len() };
        self.add_block(place, block);
    }

    /// Removes elements from one end, all at most.
    pub fn pop(&mut self, count: usize, at: ListEnd) {
        let mut left = count.min(self.len);
        self.len -= left;
        while left > 0 {
            let end = if at == ListEnd::Front { 0 } else { self.blocks.len() - 1 };
            let here = self.blocks[end].count as usize;
            if here > left {
                return self.change(end, |block| {
                    block.pop(left, at);
                    block.shrink();
                });
            }
            left -= here;
            self.remove_block(end);
        }
    }

    fn remove_block(&mut self, place: usize) {
        let block = self.blocks.remove(place).expect("it is there");
        self.bytes -= block.bytes.len();
    }

    /// The block of an index, and the index in it; the end of the last block for the length.
    pub fn find(&self, index: usize) -> (usize, usize) {
        if index <= self.len / 2 {
            let mut left = index;
            for (place, block) in self.blocks.iter().enumerate() {
                if left < block.count as usize {
                    return (place, left);
                }
                left -= block.count as usize;
            }
        }
        let mut begin = self.len;
        for (place, block) in self.blocks.iter().enumerate().rev() {
            begin -= block.count as usize;
            if index >= begin {
                return (place, index - begin);
            }
        }
        (0, 0)
    }

    /// The block of an index, and the offset in its row.
    pub fn place(&self, index: usize) -> (usize, usize) {
        let (block, index) = self.find(index);
        let found = self.blocks.get(block);
        (block, found.map_or(0, |block| row::offset_of(block.row(), index, block.count as usize)))
    }

    /// Replaces an element that is there.
    pub fn set(&mut self, index: usize, word: &[u8]) {
        let (place, offset) = self.place(index);
        let word = Coded::of(word);
        let replaced = self.change(place, |block| {
            let removed = row::after(block.row(), offset) - offset;
            block.splice(offset, removed, &word)
        });
        if !replaced {
            self.change(place, |block| block.remove(offset));
            self.insert_at(place, offset, &word);
        }
        self.merge(place);
    }

    /// Inserts an element before that of an index, or at the end.
    pub fn insert(&mut self, index: usize, word: &[u8]) {
        if index == self.len {
            return self.push(word, ListEnd::Back);
        }
        let (place, offset) = self.place(index);
        self.insert_at(place, offset, &Coded::of(word));
        self.len += 1;
    }

    fn insert_at(&mut self, place: usize, offset: usize, word: &Coded<'_>) {
        if self.change(place, |block| block.splice(offset, 0, word)) {
            return;
        }
        // The block is full: what is behind the place goes into one of its own, and the word into the first.
        let block = &self.blocks[place];
        let behind = row::elements(&block.row()[offset..]).count();
        if behind > 0 {
            let tail = Block::of(&block.row()[offset..], behind);
            self.add_block(place + 1, tail);
            self.change(place, |block| {
                block.end = block.start + offset as u32;
                block.count -= behind as u32;
            });
        }
        if !self.change(place, |block| block.push(word, ListEnd::Back)) {
            let mut block = Block::with_room(word.bytes(), ListEnd::Back);
            assert!(block.push(word, ListEnd::Back), "an empty block has room");
            self.add_block(place + 1, block);
        }
        if self.blocks[place].count == 0 {
            self.remove_block(place);
        }
    }

    /// Removes up to `count` elements that are equal to a word, from one end on. Returns how many.
    pub fn remove_equal(&mut self, word: &[u8], count: usize, from: ListEnd) -> usize {
        let word = Coded::of(word);
        let (mut removed, mut left) = (0, self.blocks.len());
        let mut place = if from == ListEnd::Front { 0 } else { left.saturating_sub(1) };
        while left > 0 && removed < count {
            left -= 1;
            let here = self.change(place, |block| remove_equal_of(block, &word, count - removed, from));
            removed += here;
            if self.blocks[place].count == 0 {
                self.remove_block(place);
                place = if from == ListEnd::Front { place } else { place.saturating_sub(1) };
                continue;
            }
            if here > 0 {
                self.change(place, Block::shrink);
                // Blocks before this one, in the direction of the walk, are done.
                if from == ListEnd::Front && place > 0 && self.merge_with_next(place - 1) {
                    continue;
                }
                if from == ListEnd::Back && self.merge_with_next(place) {
                    place = place.saturating_sub(1);
                    continue;
                }
            }
            place = if from == ListEnd::Front { place + 1 } else { place.saturating_sub(1) };
        }
        self.len -= removed;
        removed
    }

    /// Merges a block with a neighbour where both are small.
    fn merge(&mut self, place: usize) {
        if !self.merge_with_next(place) && place > 0 {
            self.merge_with_next(place - 1);
        }
    }

    fn merge_with_next(&mut self, place: usize) -> bool {
        let (Some(one), Some(next)) = (self.blocks.get(place), self.blocks.get(place + 1)) else {
            return false;
        };
        if one.used() + next.used() > BLOCK_BYTES / 2 {
            return false;
        }
        let merged = Block::of(&[one.row(), next.row()].concat(), (one.count + next.count) as usize);
        self.remove_block(place + 1);
        self.change(place, |block| *block = merged);
        true
    }
}

/// Removes elements of one block.
fn remove_equal_of(block: &mut Block, word: &Coded<'_>, count: usize, from: ListEnd) -> usize {
    let start = block.start as usize;
    let mut used = block.used();
    let removed = row::remove_equal(&mut block.bytes[start..start + used], &mut used, (word, count), from);
    (block.end, block.count) = ((start + used) as u32, block.count - removed as u32);
    removed
}

/// Reads a list of either form.
#[derive(Clone, Copy)]
pub enum ListRef<'a> {
    /// A row and its number of elements.
    Small(&'a [u8], usize),
    Full(&'a ListValue),
}

impl<'a> ListRef<'a> {
    pub fn len(self) -> usize {
        match self {
            ListRef::Small(_, count) => count,
            ListRef::Full(list) => list.len(),
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn blocks(self) -> usize {
        match self {
            ListRef::Small(..) => 1,
            ListRef::Full(list) => list.block_count(),
        }
    }

    #[inline]
    fn row(self, block: usize) -> &'a [u8] {
        match self {
            ListRef::Small(row, _) => row,
            ListRef::Full(list) => list.row(block),
        }
    }

    fn place(self, index: usize) -> (usize, usize) {
        match self {
            ListRef::Small(row, count) => (0, row::offset_of(row, index, count)),
            ListRef::Full(list) => list.place(index),
        }
    }

    pub fn get(self, index: usize) -> Option<RowElement<'a>> {
        self.iter_from(index).next()
    }

    /// The elements from an index on; none beyond the length.
    pub fn iter_from(self, index: usize) -> ListElements<'a> {
        self.walk(index.min(self.len()), ListEnd::Front)
    }

    /// The elements before an index, the last one first.
    pub fn iter_back_from(self, index: usize) -> ListElements<'a> {
        self.walk(index.min(self.len()), ListEnd::Back)
    }

    pub fn iter(self) -> ListElements<'a> {
        self.iter_from(0)
    }

    fn walk(self, index: usize, from: ListEnd) -> ListElements<'a> {
        let (block, offset) = self.place(index);
        let row = if block < self.blocks() { self.row(block) } else { &[] };
        ListElements { list: self, block, row, offset, from }
    }
}

/// Elements of a list, from some place on, in one direction.
#[derive(Clone)]
pub struct ListElements<'a> {
    list: ListRef<'a>,
    block: usize,
    row: &'a [u8],
    offset: usize,
    from: ListEnd,
}

impl<'a> ListElements<'a> {
    /// Whether the next element is this word; `None` at the end.
    #[inline]
    pub fn next_is(&mut self, word: &Coded<'_>) -> Option<bool> {
        let offset = self.step()?;
        Some(word.is_at(self.row, offset))
    }

    /// The offset of the next element in the row, which it passes.
    #[inline]
    fn step(&mut self) -> Option<usize> {
        match self.from {
            ListEnd::Front => {
                while self.offset == self.row.len() {
                    self.block += 1;
                    self.row = (self.block < self.list.blocks()).then(|| self.list.row(self.block))?;
                    self.offset = 0;
                }
                let offset = self.offset;
                self.offset = row::after(self.row, offset);
                Some(offset)
            }
            ListEnd::Back => {
                while self.offset == 0 {
                    self.block = self.block.checked_sub(1)?;
                    self.row = self.list.row(self.block);
                    self.offset = self.row.len();
                }
                self.offset = row::before(self.row, self.offset);
                Some(self.offset)
            }
        }
    }
}

impl<'a> Iterator for ListElements<'a> {
    type Item = RowElement<'a>;

    #[inline]
    fn next(&mut self) -> Option<RowElement<'a>> {
        let offset = self.step()?;
        Some(row::read(self.row, offset))
    }
}
