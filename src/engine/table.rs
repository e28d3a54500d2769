//! The segmented hash table of the keyspace and of large hashes.
//!
//! An extendible-hashing directory, indexed by a prefix of the hash, points to small segments; each segment is one
//! `hashbrown` table. A full segment splits in two, so growth moves at most `SEGMENT_ITEMS_MAX` slots, however large
//! the table is (directory doubling copies four bytes a segment).
//!
//! Invariants:
//! - every item's hash starts with the `depth` bits that its segment stands for; a segment of depth d is named by
//!   2^(directory depth - d) consecutive directory places;
//! - a scan cursor is a position in hash order (its top 48 bits), so an element that is present throughout a scan is
//!   returned, whatever splits, merges, inserts and removals happen between two steps. An element may be returned
//!   again only if it was removed and inserted in between.
//!
//! Deliberately absent: iteration in insertion order, shrinking of the directory, any lock.

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;
use std::sync::OnceLock;

/// A segment with more items than this splits: 448 is what a 512-bucket table holds, so that a split moves at most
/// 448 slots of 16 bytes, a few microseconds.
const SEGMENT_ITEMS_MAX: usize = 448;
/// Two buddy segments with together fewer items than this become one.
const SEGMENT_ITEMS_MERGE: usize = 96;
/// Scan cursors keep the top 48 bits of the hash: clients that read a cursor as a double lose nothing.
const CURSOR_BITS: u32 = 48;

/// An item that knows its own key.
pub trait Keyed {
    fn key(&self) -> &[u8];
}

/// Hashes a key with this process's seed.
#[inline]
pub fn hash_bytes(key: &[u8]) -> u64 {
    static STATE: OnceLock<RandomState> = OnceLock::new();
    STATE.get_or_init(RandomState::default).hash_one(key)
}

#[derive(Clone, Debug)]
struct Slot<T> {
    hash: u64,
    item: Box<T>,
}

#[derive(Clone, Debug)]
struct Segment<T> {
    slots: HashTable<Slot<T>>,
    /// How many leading bits of the hash all items of this segment share.
    depth: u32,
}

#[derive(Clone, Debug)]
pub struct Table<T> {
    /// Segment numbers, indexed by the top `depth` bits of a hash.
    directory: Vec<u32>,
    depth: u32,
    segments: Vec<Segment<T>>,
    /// Segment numbers that merging freed.
    vacant: Vec<u32>,
    length: usize,
}

/// The bits that hashbrown sees: its low bits pick the bucket and its top seven the tag, so both must come from
/// below the directory's prefix.
#[inline]
fn inner(hash: u64) -> u64 {
    hash.rotate_left(40)
}

#[inline]
fn prefix(hash: u64, depth: u32) -> usize {
    if depth == 0 { 0 } else { (hash >> (64 - depth)) as usize }
}

#[inline]
fn position(hash: u64) -> u64 {
    hash >> (64 - CURSOR_BITS)
}

impl<T: Keyed> Table<T> {
    pub fn new() -> Table<T> {
        Table {
            directory: vec![0],
            depth: 0,
            segments: vec![Segment { slots: HashTable::new(), depth: 0 }],
            vacant: Vec::new(),
            length: 0,
        }
    }

    /// Makes room for so many items in an empty table, as it would have come to be, so that it need not grow on the way.
    pub fn reserve(&mut self, items: usize) {
        assert!(self.is_empty(), "room is made in an empty table");
        let segments = items.div_ceil(SEGMENT_ITEMS_MAX * 7 / 8).next_power_of_two();
        let depth = segments.ilog2();
        let slots = || HashTable::with_capacity(items.min(SEGMENT_ITEMS_MAX));
        self.segments = (0..segments).map(|_| Segment { slots: slots(), depth }).collect();
        self.directory = (0..segments as u32).collect();
        self.depth = depth;
        self.vacant.clear();
    }

    pub fn len(&self) -> usize {
        self.length
    }

    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> usize {
        self.directory[prefix(hash, self.depth)] as usize
    }

    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<&T> {
        let segment = &self.segments[self.segment_of(hash)];
        let slot = segment.slots.find(inner(hash), |slot| slot.hash == hash && slot.item.key() == key)?;
        Some(&slot.item)
    }

    /// Reads what a lookup of this hash will read, and decides nothing by it: so the cache misses of several keys in a row
    /// overlap, where lookups that work in between wait for theirs one after the other.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let segment = &self.segments[self.segment_of(hash)];
        segment.slots.find(inner(hash), |slot| {
            if slot.hash == hash {
                std::hint::black_box(slot.item.key().len());
            }
            false
        });
    }

    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut T> {
        let number = self.segment_of(hash);
        let slots = &mut self.segments[number].slots;
        let slot = slots.find_mut(inner(hash), |slot| slot.hash == hash && slot.item.key() == key)?;
        Some(&mut slot.item)
    }

    /// All items whose hash is exactly this one, for indexes that remember hashes instead of keys.
    pub fn with_hash(&self, hash: u64) -> impl Iterator<Item = &T> {
        let segment = &self.segments[self.segment_of(hash)];
        segment.slots.iter_hash(inner(hash)).filter(move |slot| slot.hash == hash).map(|slot| &*slot.item)
    }

    /// Inserts an item whose key is not in the table (the caller looked).
    pub fn insert_new(&mut self, hash: u64, item: T) -> &mut T {
        self.insert_slot(Slot { hash, item: Box::new(item) })
    }

    fn insert_slot(&mut self, slot: Slot<T>) -> &mut T {
        let hash = slot.hash;
        self.length += 1;
        let mut number = self.segment_of(hash);
        // All items may share the next bit, so one split may not be enough.
        while self.segments[number].slots.len() >= SEGMENT_ITEMS_MAX && self.may_split() {
            self.split(number, hash);
            number = self.segment_of(hash);
        }
        let slots = &mut self.segments[number].slots;
        &mut slots.insert_unique(inner(hash), slot, |slot| inner(slot.hash)).into_mut().item
    }

    /// Takes over all items of another table. `Err` with the key if one is in both; some items have moved by then.
    pub fn absorb(&mut self, other: Table<T>) -> Result<(), Vec<u8>> {
        for slot in other.segments.into_iter().flat_map(|segment| segment.slots) {
            if self.get(slot.hash, slot.item.key()).is_some() {
                return Err(slot.item.key().to_vec());
            }
            self.insert_slot(slot);
        }
        Ok(())
    }

    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<T> {
        let number = self.segment_of(hash);
        let slots = &mut self.segments[number].slots;
        let found = slots.find_entry(inner(hash), |slot| slot.hash == hash && slot.item.key() == key);
        let (slot, _) = found.ok()?.remove();
        self.length -= 1;
        self.shrink(number, hash);
        Some(*slot.item)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        // A merged-away segment is empty, so that walking the segments visits each item once.
        self.segments.iter().flat_map(|segment| segment.slots.iter().map(|slot| &*slot.item))
    }

    /// One step of a scan: calls `each` for at least `count` items (fewer at the end, and all that share the last
    /// position) from `cursor` on, and returns the next cursor, 0 at the end.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, each: &mut dyn FnMut(&'a T)) -> u64 {
        let mut from = cursor;
        let mut wanted = count.max(1);
        let mut found: Vec<(u64, &T)> = Vec::new();
        loop {
            let hash = from << (64 - CURSOR_BITS);
            let segment = &self.segments[self.segment_of(hash)];
            let next_segment = (hash >> (64 - CURSOR_BITS))
                .checked_shr(CURSOR_BITS - segment.depth)
                .map_or(0, |place| place + 1)
                .checked_shl(CURSOR_BITS - segment.depth)
                .unwrap_or(0);
            found.clear();
            found.extend(
                segment
                    .slots
                    .iter()
                    .map(|slot| (position(slot.hash), &*slot.item))
                    .filter(|(position, _)| *position >= from),
            );
            if found.len() > wanted {
                let (_, last, _) = found.select_nth_unstable_by_key(wanted - 1, |(position, _)| *position);
                let last = last.0;
                found.iter().filter(|(position, _)| *position <= last).for_each(|(_, item)| each(item));
                return if last + 1 == 1 << CURSOR_BITS { 0 } else { last + 1 };
            }
            found.iter().for_each(|(_, item)| each(item));
            wanted -= found.len();
            if segment.depth == 0 || next_segment >= 1 << CURSOR_BITS {
                return 0;
            }
            if wanted == 0 {
                return next_segment;
            }
            from = next_segment;
        }
    }

    /// Some item, chosen by two random numbers; not perfectly uniform (segments differ in size by at most half).
    pub fn sample(&self, random: u64, second: u64) -> Option<&T> {
        if self.length == 0 {
            return None;
        }
        let start = prefix(random, self.depth);
        let segment = (0..self.directory.len())
            .map(|step| self.directory[(start + step) & (self.directory.len() - 1)] as usize)
            .map(|number| &self.segments[number])
            .find(|segment| !segment.slots.is_empty())?;
        let nth = (second % segment.slots.len() as u64) as usize;
        segment.slots.iter().nth(nth).map(|slot| &*slot.item)
    }

    /// Bytes of the directory, the segments and the items themselves, without what the items own.
    pub fn heap_bytes(&self) -> usize {
        // An item costs its box and about 1.5 slots with a control byte each.
        self.directory.len() * 4
            + self.segments.len() * size_of::<Segment<T>>()
            + self.length * (size_of::<T>() + 26)
    }

    /// Bounds the directory by the number of items: hashes that collide make one segment grow, not the directory.
    fn may_split(&self) -> bool {
        self.directory.len() <= 64 * (1 + self.length / SEGMENT_ITEMS_MAX)
    }

    /// Splits the segment that `hash` falls into by its next bit, doubling the directory where needed.
    fn split(&mut self, number: usize, hash: u64) {
        let depth = self.segments[number].depth;
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&place| [place, place]).collect();
            self.depth += 1;
        }
        let upper_bit = 1u64 << (63 - depth);
        let moved: Vec<Slot<T>> =
            self.segments[number].slots.extract_if(|slot| slot.hash & upper_bit != 0).collect();
        let mut upper = HashTable::with_capacity(moved.len() + 1);
        for slot in moved {
            upper.insert_unique(inner(slot.hash), slot, |slot| inner(slot.hash));
        }
        self.segments[number].depth = depth + 1;
        self.segments[number].slots.shrink_to_fit(|slot| inner(slot.hash));
        let segment = Segment { slots: upper, depth: depth + 1 };
        let new_number = match self.vacant.pop() {
            Some(vacant) => {
                self.segments[vacant as usize] = segment;
                vacant
            }
            None => {
                self.segments.push(segment);
                (self.segments.len() - 1) as u32
            }
        };
        let (start, length) = self.places(hash, depth);
        self.directory[start + length / 2..start + length].fill(new_number);
    }

    /// The directory places of the segment with this depth that `hash` falls into: start and length.
    fn places(&self, hash: u64, depth: u32) -> (usize, usize) {
        let width = self.depth - depth;
        ((prefix(hash, self.depth) >> width) << width, 1 << width)
    }

    /// After a removal: merges two small buddies, or gives memory back.
    fn shrink(&mut self, number: usize, hash: u64) {
        let Segment { slots, depth } = &self.segments[number];
        let (length, depth) = (slots.len(), *depth);
        if length >= SEGMENT_ITEMS_MERGE / 2 || depth == 0 {
            return;
        }
        let buddy_hash = hash ^ (1u64 << (64 - depth));
        let buddy = self.segment_of(buddy_hash);
        if self.segments[buddy].depth != depth
            || self.segments[buddy].slots.len() + length >= SEGMENT_ITEMS_MERGE
        {
            return;
        }
        let moved = std::mem::take(&mut self.segments[buddy].slots);
        let target = &mut self.segments[number];
        for slot in moved {
            target.slots.insert_unique(inner(slot.hash), slot, |slot| inner(slot.hash));
        }
        target.depth = depth - 1;
        let (start, places) = self.places(hash, depth - 1);
        self.directory[start..start + places].fill(number as u32);
        self.vacant.push(buddy as u32);
    }
}

impl<T: Keyed> Default for Table<T> {
    fn default() -> Table<T> {
        Table::new()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
