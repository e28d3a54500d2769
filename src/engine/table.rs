//! The segmented hash table of the keyspace and of large hashes.
//!
//! An extendible-hashing directory (Fagin et al., 1979), indexed by a prefix of the hash, points to small
//! segments. A segment consists of two arrays, sorted by hash: the hashes (32 bits each) and the items.
//! Hashes are uniform, so interpolation finds the position of a hash up to a few places, and a lookup reads
//! about two cache lines of hashes and the item.
//!
//! A full segment splits in two, so growth moves at most `SEGMENT_ITEMS_MAX` items for any size of the table
//! (directory doubling copies four bytes per segment). In a table with several segments arrays have one of
//! two sizes, so that the allocator can reuse freed ones: after a split there is room for three quarters of
//! `SEGMENT_ITEMS_MAX`, later for all of it. (Arrays that grew with their content left twice their size
//! unused in the allocator's pages.)
//!
//! Invariants:
//! - the hash of every item starts with the `depth` bits of its segment; a segment of depth d has
//!   2^(directory depth - d) consecutive directory entries;
//! - a scan cursor is a position in hash order. So an element that is present throughout a scan is returned,
//!   for any splits, merges, inserts and removals between two steps. An element is returned twice only if it
//!   was removed and inserted in between.
//!
//! Deliberately absent: iteration in insertion order, shrinking of the directory, any lock.

use crate::hashing::HashState;
use std::hash::BuildHasher;
use std::sync::OnceLock;

/// A segment with this many items splits before an insert. On average an insert moves half of them by one
/// place, about 2 KB in the keyspace.
const SEGMENT_ITEMS_MAX: usize = 128;
/// The room of a segment after a split, which is a size class of allocators for items of 8 and 16 bytes. A
/// half of a full segment has 64 items, give or take 6.
const SEGMENT_ITEMS_FEW: usize = SEGMENT_ITEMS_MAX * 3 / 4;
/// Two buddy segments with fewer items together are merged.
const SEGMENT_ITEMS_MERGE: usize = 32;
/// The number of hashes around the expected position that are compared at once. In a segment of n hashes, the
/// standard deviation of a position is at most sqrt(n) / 2, which is 6 for 128. So about 1 hash in 100 is
/// outside the window, and is found by bisection.
const WINDOW: usize = 32;
/// A single segment with at most this capacity does not shrink.
const ROOM_LEAST: usize = 8;
/// How many items more than the average few segments have.
const SPREAD: usize = 16;
/// The number of hashes in a cache line.
const LINE_HASHES: usize = 16;
/// The number of lookups that are prefetched together.
pub const LOOKUPS_AHEAD: usize = 16;
/// The number of bits of a hash that the table keeps.
const HASH_BITS: u32 = 32;

/// An item that knows its own key.
pub trait Keyed {
    fn key(&self) -> &[u8];

    /// Reads a part of the item itself, without following its pointers. See [`Table::prefetch`].
    #[inline]
    fn touch(&self) {
        std::hint::black_box(self.key().len());
    }

    /// Reads what the item's pointers lead to, one pointer further in each step from 0 on. False if a further
    /// step would read nothing.
    #[inline]
    fn follow(&self, _step: usize) -> bool {
        false
    }
}

impl<T: Keyed> Keyed for Box<T> {
    fn key(&self) -> &[u8] {
        (**self).key()
    }
}

/// Hashes a key with the seed of the process. Tables use the upper half.
#[inline]
pub fn hash_bytes(key: &[u8]) -> u64 {
    static STATE: OnceLock<HashState> = OnceLock::new();
    STATE.get_or_init(HashState::of_process).hash_one(key)
}

/// A key with its hash, for a caller that uses the key in several places and hashes it once.
#[derive(Clone, Copy, Debug)]
pub struct HashedKey<'k> {
    bytes: &'k [u8],
    hash: u64,
}

impl<'k> HashedKey<'k> {
    #[inline]
    pub fn new(bytes: &'k [u8]) -> HashedKey<'k> {
        #[cfg(test)]
        tests::count_hashed_key();
        HashedKey { bytes, hash: hash_bytes(bytes) }
    }

    #[inline]
    pub fn bytes(self) -> &'k [u8] {
        self.bytes
    }

    /// What [`hash_bytes`] returns for it.
    #[inline]
    pub fn hash(self) -> u64 {
        self.hash
    }
}

#[derive(Clone, Debug)]
struct Segment<T> {
    /// The hashes of the items, ascending.
    hashes: Vec<u32>,
    /// The items in the order of their hashes.
    items: Vec<T>,
    /// The number of leading bits of the hash that all items of this segment share.
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
    /// The capacity of all segments, in items.
    room: usize,
}

/// The part of a hash that tables keep.
#[inline]
fn kept(hash: u64) -> u32 {
    (hash >> HASH_BITS) as u32
}

#[inline]
fn prefix(hash: u32, depth: u32) -> usize {
    if depth == 0 { 0 } else { (hash >> (HASH_BITS - depth)) as usize }
}

/// The room of one of several segments with this many items.
fn room_for(items: usize) -> usize {
    if items <= SEGMENT_ITEMS_FEW { SEGMENT_ITEMS_FEW } else { SEGMENT_ITEMS_MAX }
}

impl<T> Segment<T> {
    fn with_capacity(items: usize, depth: u32) -> Segment<T> {
        Segment { hashes: Vec::with_capacity(items), items: Vec::with_capacity(items), depth }
    }

    fn len(&self) -> usize {
        self.hashes.len()
    }

    /// The start of the window of hashes to compare. The segment must have more than `WINDOW` hashes.
    #[inline]
    fn window_start(&self, hash: u32) -> usize {
        // The bits after the shared ones are the hash's position within the segment's range.
        let part = u64::from(hash.checked_shl(self.depth).unwrap_or(0));
        let expected = ((part * self.len() as u64) >> HASH_BITS) as usize;
        expected.saturating_sub(WINDOW / 2).min(self.len() - WINDOW)
    }

    /// Reads the cache lines that a lookup of this hash compares.
    #[inline]
    fn touch(&self, hash: u32) -> u32 {
        match self.hashes.len() {
            ..=WINDOW => self.hashes.first().map_or(0, |first| *first),
            _ => {
                let window = &self.hashes[self.window_start(hash)..][..WINDOW];
                window[0] ^ window[LINE_HASHES] ^ window[WINDOW - 1]
            }
        }
    }

    /// The number of hashes that are less than this one.
    #[inline]
    fn lower_bound(&self, hash: u32) -> usize {
        let hashes = &self.hashes[..];
        let below = |hashes: &[u32]| hashes.partition_point(|&other| other < hash);
        // The sum has 32 bits like the hashes, so that the compiler can vectorise the loop.
        let less = |hashes: &[u32]| hashes.iter().map(|&other| u32::from(other < hash)).sum::<u32>() as usize;
        if hashes.len() <= WINDOW {
            return less(hashes);
        }
        let start = self.window_start(hash);
        let window: &[u32; WINDOW] = hashes[start..].first_chunk().expect("a window fits");
        match less(window) {
            0 => below(&hashes[..start]),
            WINDOW => start + WINDOW + below(&hashes[start + WINDOW..]),
            less => start + less,
        }
    }

    /// The places of all items with this hash.
    #[inline]
    fn places(&self, hash: u32) -> impl Iterator<Item = usize> + use<'_, T> {
        let start = self.lower_bound(hash);
        let equal = self.hashes[start..].iter().take_while(move |&&other| other == hash);
        equal.enumerate().map(move |(nth, _)| start + nth)
    }

    #[inline]
    fn find_where(&self, hash: u32, mut is_it: impl FnMut(&T) -> bool) -> Option<usize> {
        self.places(hash).find(|&place| is_it(&self.items[place]))
    }

    #[inline]
    fn find(&self, hash: u32, key: &[u8]) -> Option<usize>
    where
        T: Keyed,
    {
        self.find_where(hash, |item| item.key() == key)
    }

    fn insert(&mut self, hash: u32, item: T) -> &mut T {
        let place = self.lower_bound(hash);
        self.hashes.insert(place, hash);
        self.items.insert(place, item);
        &mut self.items[place]
    }

    fn remove(&mut self, place: usize) -> T {
        self.hashes.remove(place);
        self.items.remove(place)
    }

    fn room(&self) -> usize {
        self.items.capacity()
    }

    fn shrink_to(&mut self, items: usize) {
        self.hashes.shrink_to(items);
        self.items.shrink_to(items);
    }

    /// A single segment grows by a half at a time. One of several grows to its full size, and beyond only if
    /// hashes collide.
    #[cold]
    fn grow(&mut self) {
        let wanted = self.len() + (self.len() / 2).max(4);
        let room = if self.len() < SEGMENT_ITEMS_MAX { wanted.min(SEGMENT_ITEMS_MAX) } else { wanted };
        self.hashes.reserve_exact(room - self.len());
        self.items.reserve_exact(room - self.len());
    }
}

impl<T> Table<T> {
    pub fn new() -> Table<T> {
        Table {
            directory: vec![0],
            depth: 0,
            segments: vec![Segment::with_capacity(0, 0)],
            vacant: Vec::new(),
            length: 0,
            room: 0,
        }
    }

    /// Makes room for `items` items in an empty table, with the segments that inserts would have made.
    pub fn reserve(&mut self, items: usize) {
        assert!(self.is_empty(), "only an empty table can reserve");
        let segments = items.div_ceil(SEGMENT_ITEMS_MAX * 7 / 8).next_power_of_two();
        let depth = segments.ilog2();
        let each = if depth == 0 { items } else { room_for(items.div_ceil(segments) + SPREAD) };
        self.segments = (0..segments).map(|_| Segment::with_capacity(each, depth)).collect();
        self.room = each * segments;
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
    fn segment_of(&self, hash: u32) -> usize {
        self.directory[prefix(hash, self.depth)] as usize
    }

    /// Reads the memory that lookups of these hashes will read, so that the cache misses of several lookups
    /// overlap. It reads in steps, because each step of a lookup depends on the one before: the hashes of all
    /// lookups first, then all items, then all keys, then what the items lead to.
    #[inline]
    pub fn prefetch(&self, mut hashes: impl Iterator<Item = u64>)
    where
        T: Keyed,
    {
        loop {
            let (items, filled) = self.items_ahead(&mut hashes, T::touch);
            for item in items.iter().flatten() {
                std::hint::black_box(item.key().len());
            }
            let follow = |step| items.iter().flatten().fold(false, |more, item| item.follow(step) | more);
            (0..).take_while(|&step| follow(step)).for_each(drop);
            if filled < LOOKUPS_AHEAD {
                return;
            }
        }
    }

    /// The first two steps of `prefetch`: the hashes of up to `LOOKUPS_AHEAD` lookups, then their items.
    /// Returns the items, which may be others where a hash is not in the table, and how many hashes there
    /// were.
    #[inline]
    pub fn items_ahead<'t>(
        &'t self,
        hashes: &mut impl Iterator<Item = u64>,
        touch: impl Fn(&T),
    ) -> ([Option<&'t T>; LOOKUPS_AHEAD], usize) {
        let mut ahead = [(0, 0); LOOKUPS_AHEAD];
        let (mut filled, mut read) = (0, 0);
        for ((number, hash), next) in ahead.iter_mut().zip(hashes) {
            *hash = kept(next);
            *number = self.segment_of(*hash);
            read ^= self.segments[*number].touch(*hash);
            filled += 1;
        }
        std::hint::black_box(read);
        let mut items = [None; LOOKUPS_AHEAD];
        for (item, (number, hash)) in items.iter_mut().zip(&ahead[..filled]) {
            let segment = &self.segments[*number];
            *item = segment.items.get(segment.lower_bound(*hash));
            item.inspect(|item| touch(item));
        }
        (items, filled)
    }

    #[inline]
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<&T>
    where
        T: Keyed,
    {
        let hash = kept(hash);
        let segment = &self.segments[self.segment_of(hash)];
        segment.find(hash, key).map(|place| &segment.items[place])
    }

    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &[u8]) -> Option<&mut T>
    where
        T: Keyed,
    {
        let hash = kept(hash);
        let number = self.segment_of(hash);
        let segment = &mut self.segments[number];
        segment.find(hash, key).map(|place| &mut segment.items[place])
    }

    /// All items whose kept bits of the hash are equal, for items that do not have their keys and for indexes
    /// that store hashes instead of keys. They may include items with another hash.
    pub fn with_hash(&self, hash: u64) -> impl Iterator<Item = &T> {
        let segment = &self.segments[self.segment_of(kept(hash))];
        segment.places(kept(hash)).map(|place| &segment.items[place])
    }

    /// Inserts an item whose key is not in the table, which the caller must have checked.
    pub fn insert_new(&mut self, hash: u64, item: T) -> &mut T {
        self.insert_kept(kept(hash), item)
    }

    fn insert_kept(&mut self, hash: u32, item: T) -> &mut T {
        self.length += 1;
        let mut number = self.segment_of(hash);
        // All items may share the next bit, so one split may not be enough.
        while self.segments[number].len() >= SEGMENT_ITEMS_MAX && self.may_split(number) {
            self.split(number, hash);
            number = self.segment_of(hash);
        }
        let segment = &mut self.segments[number];
        if segment.len() == segment.room() {
            self.room -= segment.room();
            segment.grow();
            self.room += segment.room();
        }
        segment.insert(hash, item)
    }

    /// Moves all items of another table into this one. `Err` with the key if both have one; some items have
    /// been moved then.
    pub fn absorb(&mut self, other: Table<T>) -> Result<(), Vec<u8>>
    where
        T: Keyed,
    {
        for segment in other.segments {
            for (hash, item) in segment.hashes.into_iter().zip(segment.items) {
                if self.segments[self.segment_of(hash)].find(hash, item.key()).is_some() {
                    return Err(item.key().to_vec());
                }
                self.insert_kept(hash, item);
            }
        }
        Ok(())
    }

    pub fn remove(&mut self, hash: u64, key: &[u8]) -> Option<T>
    where
        T: Keyed,
    {
        self.remove_where(hash, |item| item.key() == key)
    }

    /// Removes the item with this hash that `is_it` says yes to.
    pub fn remove_where(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        let hash = kept(hash);
        let number = self.segment_of(hash);
        let place = self.segments[number].find_where(hash, is_it)?;
        let segment = &mut self.segments[number];
        let item = segment.remove(place);
        self.length -= 1;
        let (length, room) = (segment.len(), segment.room());
        if segment.depth == 0 && room > ROOM_LEAST && length * 3 < room {
            segment.shrink_to(length * 3 / 2);
            self.room = self.room + segment.room() - room;
        }
        self.merge(number, hash);
        Some(item)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        // A segment whose number is vacant is empty, so that this visits each item once.
        self.segments.iter().flat_map(|segment| segment.items.iter())
    }

    /// One step of a scan: calls `each` for at least `count` items from `cursor` on (fewer at the end; more
    /// if items share the last position). Returns the next cursor, which is below 2^32, and 0 at the end.
    pub fn scan<'a>(&'a self, cursor: u64, count: usize, each: &mut dyn FnMut(&'a T)) -> u64 {
        let Ok(mut from) = u32::try_from(cursor) else { return 0 };
        let mut wanted = count.max(1);
        loop {
            let segment = &self.segments[self.segment_of(from)];
            let start = segment.lower_bound(from);
            let mut end = segment.len().min(start.saturating_add(wanted));
            while end > start && end < segment.len() && segment.hashes[end] == segment.hashes[end - 1] {
                end += 1;
            }
            segment.items[start..end].iter().for_each(&mut *each);
            if end < segment.len() {
                return u64::from(segment.hashes[end]);
            }
            wanted = wanted.saturating_sub(end - start);
            let width = HASH_BITS - segment.depth;
            let next = ((u64::from(from) >> width) + 1) << width;
            match u32::try_from(next) {
                Err(_) => return 0,
                Ok(_) if wanted == 0 => return next,
                Ok(next) => from = next,
            }
        }
    }

    /// An item chosen by two random numbers; `None` if the table is empty. The choice is not exactly uniform:
    /// an item of a short segment, or after empty ones, is more likely.
    pub fn sample(&self, random: u64, second: u64) -> Option<&T> {
        if self.length == 0 {
            return None;
        }
        let start = prefix(kept(random), self.depth);
        let segment = (0..self.directory.len())
            .map(|step| self.directory[(start + step) & (self.directory.len() - 1)] as usize)
            .map(|number| &self.segments[number])
            .find(|segment| segment.len() != 0)?;
        segment.items.get((second % segment.len() as u64) as usize)
    }

    /// Bytes of the directory and the segments with their items, without memory that the items own.
    pub fn heap_bytes(&self) -> usize {
        self.directory.capacity() * size_of::<u32>()
            + self.segments.capacity() * size_of::<Segment<T>>()
            + self.room * (size_of::<T>() + size_of::<u32>())
    }

    /// True if a split keeps the directory in proportion to the number of items: colliding hashes must grow
    /// one segment, not the directory.
    fn may_split(&self, number: usize) -> bool {
        let depth = self.segments[number].depth;
        // If the directory is deep enough already, it need not double.
        depth < self.depth
            || depth < HASH_BITS && self.directory.len() <= 64 * (1 + self.length / SEGMENT_ITEMS_MAX)
    }

    /// Splits the segment of `hash` by the next bit, and doubles the directory if needed.
    fn split(&mut self, number: usize, hash: u32) {
        let depth = self.segments[number].depth;
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|&place| [place, place]).collect();
            self.depth += 1;
        }
        let lower = &mut self.segments[number];
        let upper_bit = 1 << (HASH_BITS - 1 - depth);
        let middle = lower.hashes.partition_point(|hash| hash & upper_bit == 0);
        lower.depth = depth + 1;
        let mut segment = Segment::with_capacity(room_for(lower.len() - middle), depth + 1);
        segment.hashes.extend(lower.hashes.drain(middle..));
        segment.items.extend(lower.items.drain(middle..));
        self.room -= lower.room();
        lower.shrink_to(room_for(middle));
        self.room += lower.room() + segment.room();
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

    /// The directory entries of the segment of `hash`, which has this depth: start and length.
    fn places(&self, hash: u32, depth: u32) -> (usize, usize) {
        let width = self.depth - depth;
        ((prefix(hash, self.depth) >> width) << width, 1 << width)
    }

    /// Merges a segment with its buddy if both are small; called after a removal.
    fn merge(&mut self, number: usize, hash: u32) {
        let Segment { hashes, depth, .. } = &self.segments[number];
        let (length, depth) = (hashes.len(), *depth);
        if length >= SEGMENT_ITEMS_MERGE / 2 || depth == 0 {
            return;
        }
        let bit = 1 << (HASH_BITS - depth);
        let buddy = self.segment_of(hash ^ bit);
        if self.segments[buddy].depth != depth || self.segments[buddy].len() + length >= SEGMENT_ITEMS_MERGE {
            return;
        }
        // All hashes of one are less than those of the other.
        let mut upper = std::mem::replace(&mut self.segments[buddy], Segment::with_capacity(0, depth));
        let lower = &mut self.segments[number];
        if hash & bit != 0 {
            std::mem::swap(&mut upper, lower);
        }
        self.room -= lower.room() + upper.room();
        lower.hashes.append(&mut upper.hashes);
        lower.items.append(&mut upper.items);
        self.room += lower.room();
        lower.depth = depth - 1;
        let (start, places) = self.places(hash, depth - 1);
        self.directory[start..start + places].fill(number as u32);
        self.vacant.push(buddy as u32);
    }
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table::new()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
pub(crate) mod tests;
