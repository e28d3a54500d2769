//! The memory of an index's vectors: slots, and who holds them.
//!
//! A slot is held by the graph (or the flat index) that has it, and by every `Placed` of it; who lets go last frees it. So a
//! caller may keep a vector after the index has dropped it, and even the index itself, and needs no copy.
//!
//! Invariant: a vector is written while nobody else knows its slot, and never again until nobody holds it. Searches do not
//! hold slots one by one: the index lets go of one only when every search that could have met it has ended (scratch.rs).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use parking_lot::Mutex;

use crate::VectorError;
use crate::pool::SLOT_LIMIT;
use crate::slab::Slab;

/// What may be written while a segment's memory is being made ready.
const PREPARED_BYTES: usize = 1 << 20;

pub struct Vectors {
    rows: Slab<u8>,
    /// By slot.
    holders: Slab<AtomicU16>,
    free: Mutex<Vec<u32>>,
    /// Slots handed out so far, free ones included: all slots are below it.
    slot_count: AtomicU32,
}

impl Vectors {
    /// `for_walks` if walks go by the vectors themselves: then somebody calls `prepare`.
    pub(crate) fn new(vector_bytes: usize, for_walks: bool) -> Vectors {
        Vectors {
            rows: if for_walks { Slab::for_walks(vector_bytes) } else { Slab::new(vector_bytes) },
            holders: Slab::new(1),
            free: Mutex::default(),
            slot_count: AtomicU32::new(0),
        }
    }

    /// Writes a vector to a slot. `ensure` makes what else is kept by slot, before anybody can learn of a new one.
    pub(crate) fn place(
        self: &Arc<Self>,
        vector: &[u8],
        ensure: impl FnOnce(u32),
    ) -> Result<Placed, VectorError> {
        let slot = self.take_slot(ensure)?;
        // SAFETY: the slot was free or never used, so nobody reads it, and it was given to nobody else.
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

    /// Makes room for so many vectors, which will be restored.
    pub(crate) fn reserve(&self, slots: u32) {
        self.rows.reserve(slots);
    }

    /// Makes the memory ready that the next vectors will be written to, for threads that hold a lock while they write.
    pub(crate) fn prepare(&self) {
        let ahead = (PREPARED_BYTES / self.vector_bytes()).max(1) as u32;
        self.rows.prepare(self.slot_count().saturating_add(ahead));
    }

    /// Puts back a slot as it was saved, held by the index if it has a vector, which `fill` writes. Not shared yet; slots come
    /// in ascending order.
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
    /// Nobody reads or writes it at the same time, nor has a reference to it.
    pub(crate) unsafe fn fill(&self, slot: u32, vector: &[u8]) {
        // SAFETY: as the caller promises.
        unsafe { self.rows.fill_past_caches(slot, vector) };
    }

    pub(crate) fn slot_count(&self) -> u32 {
        self.slot_count.load(Ordering::Acquire)
    }

    /// The vector in a slot that the caller knows to be held.
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

    /// Memory of vectors that somebody holds, in bytes.
    pub fn held_bytes(&self) -> usize {
        (self.slot_count() as usize - self.free.lock().len()) * self.vector_bytes()
    }

    pub fn vector_bytes(&self) -> usize {
        self.rows.row_bytes()
    }

    /// Holds a slot once more. The caller knows that it is held.
    pub(crate) fn hold(&self, slot: u32) {
        let before = self.holders.row(slot)[0].fetch_add(1, Ordering::Relaxed);
        assert!(before != 0 && before != u16::MAX, "a slot has from one to 65,535 holders");
    }

    /// Lets go of a slot that the caller holds.
    pub(crate) fn let_go(&self, slot: u32) {
        if self.holders.row(slot)[0].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.free.lock().push(slot);
        }
    }

    /// The vector of which `Placed::into_slot` gave the slot.
    pub fn vector(&self, slot: u32) -> &[u8] {
        debug_assert!(self.holders.row(slot)[0].load(Ordering::Relaxed) > 0, "slot {slot} is held by nobody");
        self.row(slot)
    }

    /// Takes back what `Placed::into_slot` gave.
    pub fn placed(self: &Arc<Self>, slot: u32) -> Placed {
        Placed { vectors: self.clone(), slot }
    }
}

impl fmt::Debug for Vectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vectors").field("slots", &self.slot_count()).finish_non_exhaustive()
    }
}

/// A vector in the memory of an index: it stays there, and stays as it is, for as long as this lives.
pub struct Placed {
    vectors: Arc<Vectors>,
    slot: u32,
}

impl Placed {
    pub fn as_bytes(&self) -> &[u8] {
        self.vectors.row(self.slot)
    }

    /// The memory that the vector is in.
    pub fn home(&self) -> &Arc<Vectors> {
        &self.vectors
    }

    /// Gives the vector into the keeping of the caller, who gives it back to `Vectors::placed` in the end.
    pub fn into_slot(self) -> u32 {
        let slot = self.slot;
        // The count of the slot goes to the caller, that of the memory does not.
        let mut this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, and not used again.
        unsafe { std::ptr::drop_in_place(&mut this.vectors) };
        slot
    }

    /// Of an index that has this memory.
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
        self.vectors.let_go(self.slot);
    }
}

impl fmt::Debug for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Placed({})", self.slot)
    }
}
