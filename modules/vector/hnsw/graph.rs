//! The links of the graph. This file does not compute distances.
//!
//! Layer 0 is a slab with one block of 2 M links per slot; the layers above, which one node in M reaches,
//! have blocks of M links in a slab of their own. A link is a slot plus one; the first 0 ends a block. The
//! top bit of a link in layer 0 means that it is *kept*: pruning does not remove it, see tree.rs.
//!
//! Readers take no lock: they load the links of a block one by one while a writer may be rewriting it, and so
//! may see a mixture of the old and the new block. That is harmless, because each link in it leads to a slot
//! that a pinned reader may follow. Writers exclude each other with one lock per node (striped). A kept link
//! that stays is in some cell at each moment of a rewriting.
//!
//! Invariant: no link points to a free slot (maintained by repair.rs).

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use parking_lot::{Mutex, MutexGuard};

use crate::slab::Slab;

/// The bit of a kept link.
const KEPT: u32 = 1 << 31;

/// Locks for the blocks of all nodes. A power of two, and far more than threads, so that two threads seldom
/// need the same lock.
const LOCK_STRIPES: usize = 1024;

pub(crate) struct Graph {
    /// M: the number of links of a node in each layer above 0; twice that in layer 0.
    degree: usize,
    base: Slab<AtomicU32>,
    upper: Slab<AtomicU32>,
    /// By slot: the row of `upper` with the links of layer 1, plus one; the rows of the layers above follow.
    /// 0 if the slot has none.
    upper_rows: Slab<AtomicU32>,
    levels: Slab<AtomicU8>,
    upper_allocator: Mutex<UpperAllocator>,
    locks: Box<[Mutex<()>]>,
    /// The slot plus one in the lower half (0 if the graph is empty), its level in the upper half.
    entry: AtomicU64,
    entry_lock: Mutex<()>,
}

#[derive(Default)]
struct UpperAllocator {
    /// By level: first rows of free runs of that many rows.
    free: Vec<Vec<u32>>,
    next: u32,
}

/// The node at which every search starts; it is on the highest layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub slot: u32,
    pub level: usize,
}

impl Graph {
    pub fn new(degree: usize) -> Self {
        Graph {
            degree,
            base: Slab::for_walks(2 * degree),
            upper: Slab::new(degree),
            upper_rows: Slab::new(1),
            levels: Slab::new(1),
            upper_allocator: Mutex::default(),
            locks: (0..LOCK_STRIPES).map(|_| Mutex::default()).collect(),
            entry: AtomicU64::new(0),
            entry_lock: Mutex::default(),
        }
    }

    /// The maximum number of links of a node in a layer.
    pub fn capacity(&self, layer: usize) -> usize {
        if layer == 0 { 2 * self.degree } else { self.degree }
    }

    /// Assigns empty blocks up to `level` to a slot that no other thread knows yet. Blocks are empty because
    /// memory starts as zeros and `displace` clears them.
    pub fn place(&self, slot: u32, level: usize) {
        self.base.ensure(slot);
        self.upper_rows.ensure(slot);
        self.levels.ensure(slot);
        let first = if level == 0 { 0 } else { self.take_upper_rows(level) + 1 };
        self.upper_rows.row(slot)[0].store(first, Ordering::Relaxed);
        self.levels.row(slot)[0].store(level as u8, Ordering::Release);
    }

    /// Allocates memory for `slots` slots that are about to be restored.
    pub fn reserve(&self, slots: u32) {
        self.base.reserve(slots);
    }

    fn take_upper_rows(&self, count: usize) -> u32 {
        let mut allocator = self.upper_allocator.lock();
        if let Some(first) = allocator.free.get_mut(count).and_then(Vec::pop) {
            return first;
        }
        let first = allocator.next;
        // One node in M has upper rows, so the count of slots, below 2^31, bounds them.
        allocator.next += count as u32;
        for row in first..allocator.next {
            self.upper.ensure(row);
        }
        first
    }

    /// Frees the blocks of a slot that no thread can reach or hold.
    pub fn displace(&self, slot: u32) {
        let level = self.level(slot);
        (0..=level).for_each(|layer| self.write_words(slot, layer, std::iter::empty()));
        if level > 0 {
            let first = self.upper_rows.row(slot)[0].swap(0, Ordering::Relaxed) - 1;
            let mut allocator = self.upper_allocator.lock();
            if allocator.free.len() <= level {
                allocator.free.resize_with(level + 1, Vec::new);
            }
            allocator.free[level].push(first);
        }
        self.levels.row(slot)[0].store(0, Ordering::Relaxed);
    }

    pub fn level(&self, slot: u32) -> usize {
        self.levels.row(slot)[0].load(Ordering::Acquire) as usize
    }

    /// The links of a node in a layer that it has.
    #[inline(always)]
    fn block(&self, slot: u32, layer: usize) -> &[AtomicU32] {
        if layer == 0 {
            return self.base.row(slot);
        }
        let first = self.upper_rows.row(slot)[0].load(Ordering::Acquire);
        self.upper.row(first - 1 + layer as u32 - 1)
    }

    /// Calls `visit` with each neighbour. The vectors of the neighbours may be read afterwards.
    #[inline(always)]
    pub fn for_each_link(&self, slot: u32, layer: usize, mut visit: impl FnMut(u32)) {
        for link in self.block(slot, layer) {
            match link.load(Ordering::Relaxed) {
                0 => break,
                link => visit((link & !KEPT) - 1),
            }
        }
        // The writer of a link has written the target of the link before.
        fence(Ordering::Acquire);
    }

    /// Calls `visit` with each neighbour in layer 0 whose link is kept.
    pub fn for_each_kept(&self, slot: u32, mut visit: impl FnMut(u32)) {
        self.for_each_word(slot, 0, |link| {
            if is_kept(link) {
                visit(slot_of(link));
            }
        });
    }

    /// Calls `visit` with each link in its stored form, which is also that of files.
    pub fn for_each_word(&self, slot: u32, layer: usize, visit: impl FnMut(u32)) {
        let links = self.block(slot, layer).iter().map(|link| link.load(Ordering::Acquire));
        links.take_while(|&link| link != 0).for_each(visit);
    }

    /// Rewrites a block; links to nodes in `kept` become kept links. The caller holds the node's lock, or is
    /// the only one that knows the node.
    ///
    /// Links of a graph in use are removed by this, and by `write_words`, alone: in `add_link`,
    /// `repair_block` and `cut_nodes`.
    pub fn write(&self, slot: u32, layer: usize, links: impl IntoIterator<Item = u32>, kept: &[u32]) {
        let word = |link| (link + 1) | if kept.contains(&link) { KEPT } else { 0 };
        self.write_words(slot, layer, links.into_iter().map(word));
    }

    /// As `write`, with links in their stored form.
    pub fn write_words(&self, slot: u32, layer: usize, words: impl IntoIterator<Item = u32>) {
        let block = self.block(slot, layer);
        let mut count = 0;
        for (cell, word) in block.iter().zip(words) {
            cell.store(word, Ordering::Release);
            count += 1;
        }
        for cell in &block[count..] {
            cell.store(0, Ordering::Release);
        }
    }

    /// Adds a link if it is missing and there is room; an existing link becomes a kept one if `keep`. The
    /// caller holds the node's lock.
    pub fn append(&self, slot: u32, layer: usize, link: u32, keep: bool) -> Appended {
        let word = (link + 1) | if keep { KEPT } else { 0 };
        for cell in self.block(slot, layer) {
            let held = cell.load(Ordering::Relaxed);
            if held == 0 || held & !KEPT == link + 1 {
                cell.store(held | word, Ordering::Release);
                return Appended::Done;
            }
        }
        Appended::NoRoom
    }

    pub fn lock(&self, slot: u32) -> MutexGuard<'_, ()> {
        self.locks[slot as usize & (LOCK_STRIPES - 1)].lock()
    }

    #[inline(always)]
    pub fn prefetch(&self, slot: u32) {
        self.base.prefetch(slot, self.base.row_bytes().div_ceil(64).min(4));
    }

    pub fn entry(&self) -> Option<Entry> {
        let packed = self.entry.load(Ordering::Acquire);
        let slot = (packed as u32).checked_sub(1)?;
        Some(Entry { slot, level: (packed >> 32) as usize })
    }

    /// Replaces the entry by the result of `choose`. Calls exclude each other.
    pub fn change_entry(&self, choose: impl FnOnce(Option<Entry>) -> Option<Entry>) {
        let _guard = self.entry_lock.lock();
        let chosen = choose(self.entry());
        let packed = chosen.map_or(0, |entry| (entry.level as u64) << 32 | u64::from(entry.slot + 1));
        self.entry.store(packed, Ordering::Release);
    }

    /// Memory of the blocks and their maps, in bytes, for this many slots.
    pub fn bytes(&self, slots: usize) -> usize {
        let per_slot = self.base.row_bytes() + self.upper_rows.row_bytes() + self.levels.row_bytes();
        slots * per_slot
            + self.upper_allocator.lock().next as usize * self.upper.row_bytes()
            + self.locks.len() * size_of::<Mutex<()>>()
    }
}

/// The slot of a link in its stored form.
pub(crate) fn slot_of(link: u32) -> u32 {
    (link & !KEPT) - 1
}

/// The same link, not kept.
pub(crate) fn unkept(link: u32) -> u32 {
    link & !KEPT
}

/// Whether a link in its stored form is kept.
pub(crate) fn is_kept(link: u32) -> bool {
    link & KEPT != 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Done,
    NoRoom,
}
