//! The memory of an index's vectors: slots, and the count of holders of each.
//!
//! A slot is held by the graph (or the flat index) that contains it, and by every `Placed` of it; the last
//! holder frees it. So a caller may use a vector without a copy after the index has dropped it, and even
//! after the index itself was dropped.
//!
//! Invariant: a vector is written while no other thread knows its slot, and is then immutable until the last
//! holder has released it. Searches do not hold slots one by one: the index releases a slot only when every
//! search that could have met it has ended (scratch.rs).

#![allow(unsafe_code, reason = "the graph's storage, shared between threads without locks")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::VectorError;
use crate::candidates::SLOT_LIMIT;
use crate::slab::Slab;

/// Bytes that may be written while the memory of a segment is being touched.
const PREPARED_BYTES: usize = 1 << 20;

pub struct Vectors {
    rows: Slab<u8>,
    /// The number of holders, by slot.
    holders: Slab<AtomicU16>,
    free: Mutex<Vec<u32>>,
    /// The number of slots handed out so far, free ones included. All slots are below it.
    slot_count: AtomicU32,
}

impl Vectors {
    /// `for_walks`: walks read the vectors themselves. The caller then has to call `prepare`.
    pub(crate) fn new(vector_bytes: usize, for_walks: bool) -> Vectors {
        Vectors {
            rows: if for_walks { Slab::for_walks(vector_bytes) } else { Slab::new(vector_bytes) },
            holders: Slab::new(1),
            free: Mutex::default(),
            slot_count: AtomicU32::new(0),
        }
    }

    /// Writes a vector to a free slot. `ensure` allocates the other memory of the slot, before any other
    /// thread can learn of it.
    pub(crate) fn place(
        self: &Arc<Self>,
        vector: &[u8],
        ensure: impl FnOnce(u32),
    ) -> Result<Placed, VectorError> {
        let slot = self.take_slot(ensure)?;
        // SAFETY: the slot was free or never used, so no thread reads it, and it was given to no other
        // caller.
        unsafe { self.rows.fill(slot, vector) };
        self.holders.row(slot)[0].store(1, Ordering::Release);
        Ok(Placed { vectors: self.clone(), slot })
    }

    fn take_slot(&self, ensure: impl FnOnce(u32)) -> Result<u32, VectorError> {
        let mut free = self.free.lock();
        if let Some(slot) = free.pop() {
            return Ok(slot);
        }
        let slot = self.slot_count.load(Ordering::Relaxed);
        if slot >= SLOT_LIMIT {
            return Err(VectorError::Full);
        }
        self.ensure(slot);
        ensure(slot);
        self.slot_count.store(slot + 1, Ordering::Release);
        Ok(slot)
    }

    fn ensure(&self, slot: u32) {
        self.rows.ensure(slot);
        self.holders.ensure(slot);
    }

    /// Allocates memory for `slots` vectors that are about to be restored.
    pub(crate) fn reserve(&self, slots: u32) {
        self.rows.reserve(slots);
    }

    /// Touches the memory that the next vectors will be written to, for threads that hold a lock while they
    /// write.
    pub(crate) fn prepare(&self) {
        let ahead = (PREPARED_BYTES / self.vector_bytes()).max(1) as u32;
        self.rows.prepare(self.slot_count().saturating_add(ahead));
    }

    /// Restores a saved slot. The index holds it if it has a vector, which `fill` writes. The memory is not
    /// shared yet; slots come in ascending order.
    pub(crate) fn restore(&self, slot: u32, has_vector: bool) {
        self.ensure(slot);
        self.slot_count.store(slot + 1, Ordering::Relaxed);
        self.holders.row(slot)[0].store(u16::from(has_vector), Ordering::Relaxed);
        if !has_vector {
            self.free.lock().push(slot);
        }
    }

    /// Writes the vector of a restored slot.
    ///
    /// # Safety
    /// No other thread reads or writes the vector during the call, or holds a reference to it.
    pub(crate) unsafe fn fill(&self, slot: u32, vector: &[u8]) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.rows.fill_past_caches(slot, vector) };
    }

    pub(crate) fn slot_count(&self) -> u32 {
        self.slot_count.load(Ordering::Acquire)
    }

    /// The vector in a slot; the caller knows that the slot is held.
    #[inline(always)]
    pub(crate) fn row(&self, slot: u32) -> &[u8] {
        self.rows.row(slot)
    }

    #[inline(always)]
    pub(crate) fn prefetch(&self, slot: u32, lines: usize) {
        self.rows.prefetch(slot, lines);
    }

    pub(crate) fn prefetch_holders(&self, slot: u32) {
        self.holders.prefetch(slot, 1);
    }

    /// Memory of the vectors that have holders, in bytes.
    pub fn held_bytes(&self) -> usize {
        (self.slot_count() as usize - self.free.lock().len()) * self.vector_bytes()
    }

    pub fn vector_bytes(&self) -> usize {
        self.rows.row_bytes()
    }

    /// Adds a holder to a slot; the caller knows that the slot is held.
    pub(crate) fn hold(&self, slot: u32) {
        let before = self.holders.row(slot)[0].fetch_add(1, Ordering::Relaxed);
        assert!(before != 0 && before != u16::MAX, "a slot has from one to 65,535 holders");
    }

    /// Releases a slot that the caller holds.
    pub(crate) fn release_holder(&self, slot: u32) {
        if self.holders.row(slot)[0].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.free.lock().push(slot);
        }
    }

    /// The vector in a slot from `Placed::into_slot`.
    pub fn vector(&self, slot: u32) -> &[u8] {
        debug_assert!(self.holders.row(slot)[0].load(Ordering::Relaxed) > 0, "slot {slot} has no holder");
        self.row(slot)
    }

    /// Turns a slot from `Placed::into_slot` back into a `Placed`, which releases it when dropped.
    pub fn placed(self: &Arc<Self>, slot: u32) -> Placed {
        Placed { vectors: self.clone(), slot }
    }
}

impl fmt::Debug for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vectors").field("slots", &self.slot_count()).finish_non_exhaustive()
    }
}

/// A reference to a vector in the memory of an index. The vector neither moves nor changes while this lives.
pub struct Placed {
    vectors: Arc<Vectors>,
    slot: u32,
}

impl Placed {
    pub fn as_bytes(&self) -> &[u8] {
        self.vectors.row(self.slot)
    }

    /// The memory that contains the vector.
    pub fn home(&self) -> &Arc<Vectors> {
        &self.vectors
    }

    /// Converts this to a slot number without releasing the slot. The caller owns the holder count and must
    /// pass the slot to `Vectors::placed` once.
    pub fn into_slot(self) -> u32 {
        let slot = self.slot;
        // The holder count of the slot passes to the caller; the reference to the memory is dropped.
        let mut this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, and not used again.
        unsafe { std::ptr::drop_in_place(&mut this.vectors) };
        slot
    }

    /// The slot, for an index with this memory.
    pub(crate) fn slot_in(&self, vectors: &Arc<Vectors>) -> u32 {
        assert!(Arc::ptr_eq(&self.vectors, vectors), "a vector is inserted into the index that placed it");
        self.slot
    }
}

impl Clone for Placed {
    fn clone(&self) -> Placed {
        self.vectors.hold(self.slot);
        Placed { vectors: self.vectors.clone(), slot: self.slot }
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        self.vectors.release_holder(self.slot);
    }
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Placed({})", self.slot)
    }
}
