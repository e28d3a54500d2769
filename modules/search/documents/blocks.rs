//! A list in blocks of a fixed size.
//!
//! Writers add to an index while they hold the keyspace's lock. A `Vec` that doubles copies all of its items
//! then; a list in blocks copies at most one block, and reserves at most one.

use std::ops::{Index, IndexMut};

/// Items in a block.
const BLOCK: usize = 1024;

/// A list of `T`, numbered from 0.
pub struct Blocks<T> {
    /// All are full but the last one, which is not empty. The first one grows with its items.
    blocks: Vec<Vec<T>>,
}

impl<T> Blocks<T> {
    pub fn push(&mut self, item: T) {
        match self.blocks.last_mut() {
            Some(last) if last.len() < BLOCK => last.push(item),
            last => {
                let mut block = Vec::with_capacity(if last.is_some() { BLOCK } else { 0 });
                block.push(item);
                self.blocks.push(block);
            }
        }
    }

    pub fn pop(&mut self) -> Option<T> {
        let last = self.blocks.last_mut()?;
        let item = last.pop();
        if last.is_empty() {
            self.blocks.pop();
        }
        item
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.blocks.last().map_or(0, |last| (self.blocks.len() - 1) * BLOCK + last.len())
    }

    #[inline]
    pub fn get(&self, number: u32) -> Option<&T> {
        self.blocks.get(number as usize / BLOCK)?.get(number as usize % BLOCK)
    }

    /// Bytes of the blocks, without what the items own.
    pub fn heap_bytes(&self) -> usize {
        let first = self.blocks.first().map_or(0, Vec::capacity);
        let others = self.blocks.len().saturating_sub(1) * BLOCK;
        (first + others) * size_of::<T>() + self.blocks.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> Default for Blocks<T> {
    fn default() -> Blocks<T> {
        Blocks { blocks: Vec::new() }
    }
}

impl<T> FromIterator<T> for Blocks<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Blocks<T> {
        let mut blocks = Blocks::default();
        items.into_iter().for_each(|item| blocks.push(item));
        blocks
    }
}

impl<T> Index<u32> for Blocks<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.blocks[number as usize / BLOCK][number as usize % BLOCK]
    }
}

impl<T> IndexMut<u32> for Blocks<T> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.blocks[number as usize / BLOCK][number as usize % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stay_where_they_are_while_the_list_grows_and_shrinks() {
        let mut list = Blocks::default();
        let many = 3 * BLOCK as u32 + 7;
        let mut places = Vec::new();
        for number in 0..many {
            list.push(number);
            if number >= BLOCK as u32 {
                places.push((number, std::ptr::from_ref(&list[number])));
            }
        }
        assert_eq!(list.len(), many as usize);
        assert!(places.iter().all(|&(number, place)| place == std::ptr::from_ref(&list[number])));
        for number in (0..many).rev() {
            assert_eq!(list.get(number), Some(&number));
            assert_eq!(list.pop(), Some(number));
            assert_eq!((list.len(), list.get(number)), (number as usize, None));
        }
        assert_eq!(list.pop(), None);
        list.push(5);
        assert_eq!((list.len(), list[0]), (1, 5));
    }
}
