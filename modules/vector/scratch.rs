//! Memory of single searches, pooled so that a search allocates nothing once the pool is warm, and the epochs
//! that show when no thread can hold a slot.
//!
//! A thread *pins* before it reads slots: it takes scratch memory, whose pin stores the epoch of that moment.
//! A deleted slot is reused in three steps: make it unreachable for new readers, `advance` the epoch, and
//! wait until `all_after` returns true, which means that every pin is younger. Both sides execute a
//! sequentially consistent fence between their store and their loads, so either the pin is seen, or the new
//! reader sees that the slot is gone.
//!
//! Source: epoch-based reclamation (K. Fraser, "Practical lock-freedom", 2004).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use parking_lot::Mutex;

use crate::candidates::{Candidate, Pool};
use crate::codes::CodeBuffer;
use crate::slab::Aligned;

/// The epoch of an unused pin.
const IDLE: u64 = 0;

pub(crate) struct ScratchPool {
    epoch: AtomicU64,
    idle: Mutex<Vec<Scratch>>,
    /// The pins of all scratch memory, unused ones included.
    pins: Mutex<Vec<Arc<AtomicU64>>>,
}

/// Buffers of one search or insert. Each user clears a buffer before use.
#[derive(Default)]
pub(crate) struct Scratch {
    pin: Arc<AtomicU64>,
    pub query: Aligned,
    /// The codes of the query, or of a vector that is being inserted.
    pub codes: CodeBuffer,
    pub visited: Visited,
    /// The best candidates that may be returned.
    pub pool: Pool,
    /// Nodes still to walk through, where those include nodes that may not be returned.
    pub frontier: BinaryHeap<Reverse<Candidate>>,
    /// Slots about to be evaluated.
    pub fresh: Vec<u32>,
    /// The evaluated slots with their distances.
    pub evaluated: Vec<Candidate>,
    /// Nodes that a filter refuses, and whose links the walk follows.
    pub refused: Vec<u32>,
    pub candidates: Vec<Candidate>,
    pub chosen: Vec<Candidate>,
    /// The nearest of the candidates for the links of a new node, with true distances.
    pub nearest: Vec<Candidate>,
    /// Nodes whose links a block must keep.
    pub kept: Vec<u32>,
    /// The forward links of a node that is being inserted, each with its layer.
    pub forward: Vec<(usize, Candidate)>,
    /// The links of a node on a filtered walk, each with its id.
    pub links: Vec<(u32, u32)>,
}

/// Exclusive use of scratch memory. Slots met while this lives keep their vectors.
pub(crate) struct Pinned<'a> {
    owner: &'a ScratchPool,
    /// `Some` until drop.
    scratch: Option<Scratch>,
}

impl ScratchPool {
    pub fn new() -> Self {
        ScratchPool { epoch: AtomicU64::new(1), idle: Mutex::default(), pins: Mutex::default() }
    }

    pub fn pin(&self) -> Pinned<'_> {
        let pooled = self.idle.lock().pop();
        let scratch = pooled.unwrap_or_else(|| {
            let scratch = Scratch::default();
            self.pins.lock().push(scratch.pin.clone());
            scratch
        });
        scratch.pin.store(self.epoch.load(Ordering::SeqCst), Ordering::SeqCst);
        fence(Ordering::SeqCst);
        Pinned { owner: self, scratch: Some(scratch) }
    }

    /// Starts a new epoch and returns the stamp of the previous one, for `all_after`.
    pub fn advance(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::SeqCst)
    }

    /// Whether everything has ended that was pinned in the epoch of this stamp or earlier. The caller must
    /// hold no such pin.
    pub fn all_after(&self, stamp: u64) -> bool {
        fence(Ordering::SeqCst);
        self.pins.lock().iter().all(|pin| {
            let epoch = pin.load(Ordering::SeqCst);
            epoch == IDLE || epoch > stamp
        })
    }

    /// Memory of the pooled buffers, in bytes.
    pub fn bytes(&self) -> usize {
        self.idle.lock().iter().map(Scratch::bytes).sum()
    }
}

impl Scratch {
    fn bytes(&self) -> usize {
        size_of::<Scratch>()
            + self.visited.marks.capacity()
            + self.pool.capacity_bytes()
            + (self.frontier.capacity()
                + self.candidates.capacity()
                + self.chosen.capacity()
                + self.nearest.capacity()
                + self.evaluated.capacity())
                * size_of::<Candidate>()
            + (self.fresh.capacity()
                + self.refused.capacity()
                + self.kept.capacity()
                + 2 * self.links.capacity())
                * size_of::<u32>()
            + self.codes.bytes()
            + self.query.capacity_bytes()
    }
}

impl Deref for Pinned<'_> {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        self.scratch.as_ref().expect("present until drop")
    }
}

impl DerefMut for Pinned<'_> {
    fn deref_mut(&mut self) -> &mut Scratch {
        self.scratch.as_mut().expect("present until drop")
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        if let Some(scratch) = self.scratch.take() {
            scratch.pin.store(IDLE, Ordering::Release);
            self.owner.idle.lock().push(scratch);
        }
    }
}

/// The set of slots that a search has met: one byte per slot, which contains the number of the search.
/// Starting a search clears nothing, except every 255th time.
#[derive(Default)]
pub(crate) struct Visited {
    marks: Vec<u8>,
    round: u8,
}

impl Visited {
    /// Empties the set. `slots` is the current number of slots; more may be added meanwhile.
    pub fn begin(&mut self, slots: u32) {
        if self.marks.len() < slots as usize {
            self.grow(slots);
        }
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.marks.fill(0);
            self.round = 1;
        }
    }

    /// Marks a slot; false if it was marked already.
    #[inline(always)]
    pub fn insert(&mut self, slot: u32) -> bool {
        if slot as usize >= self.marks.len() {
            self.grow(slot + 1);
        }
        let mark = &mut self.marks[slot as usize];
        let new = *mark != self.round;
        *mark = self.round;
        new
    }

    #[cold]
    fn grow(&mut self, slots: u32) {
        // A sixteenth more than needed, so that searches concurrent with inserts do not grow it slot by slot.
        let slots = slots as usize;
        self.marks.resize(slots + slots / 16 + 64, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_round_is_empty_even_when_the_counter_wraps() {
        let mut visited = Visited::default();
        for _ in 0..600 {
            visited.begin(10);
            assert!(visited.insert(3));
            assert!(!visited.insert(3));
            assert!(visited.insert(200), "beyond what was announced");
        }
    }

    #[test]
    fn a_stamp_passes_when_all_older_pins_have_ended() {
        let scratches = ScratchPool::new();
        let old = scratches.pin();
        let stamp = scratches.advance();
        let young = scratches.pin();
        assert!(!scratches.all_after(stamp));
        drop(old);
        assert!(scratches.all_after(stamp));
        assert!(!scratches.all_after(scratches.advance()));
        drop(young);
        assert!(scratches.all_after(scratches.advance()));
    }
}
