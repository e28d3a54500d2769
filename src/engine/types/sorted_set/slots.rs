//! The members of a large sorted set with their scores, by number.
//!
//! Numbers of removed members are used again. When more than half of the slots are vacant, each removal moves
//! the last member to a vacant slot, so that memory follows the number of members.

use crate::types::ShortBytes;

/// The number of slots that are allocated at once.
const CHUNK_SLOTS: usize = 128;
/// Up to this many slots, members are not moved.
const SLOTS_FEW: usize = 2 * CHUNK_SLOTS;

#[derive(Clone, Debug)]
struct Slot {
    member: ShortBytes,
    /// NaN if the slot is vacant.
    score: f64,
}

impl Slot {
    fn vacant() -> Slot {
        Slot { member: ShortBytes::new(b""), score: f64::NAN }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Slots {
    /// All chunks except the last are full.
    chunks: Vec<Vec<Slot>>,
    /// The number of slots, vacant ones included.
    length: usize,
    /// Vacant slots. Numbers from `length` on are void; such a number is dropped before the slots grow.
    vacant: Vec<u32>,
    /// The number of members.
    members: usize,
    /// Bytes of members that are not stored in their slots.
    member_bytes: usize,
}

impl Slots {
    pub(super) fn len(&self) -> usize {
        self.members
    }

    fn slot(&self, id: u32) -> &Slot {
        let id = id as usize;
        &self.chunks[id / CHUNK_SLOTS][id % CHUNK_SLOTS]
    }

    fn slot_mut(&mut self, id: u32) -> &mut Slot {
        let id = id as usize;
        &mut self.chunks[id / CHUNK_SLOTS][id % CHUNK_SLOTS]
    }

    #[inline]
    pub(super) fn member(&self, id: u32) -> &[u8] {
        self.slot(id).member.as_slice()
    }

    #[inline]
    pub(super) fn score(&self, id: u32) -> f64 {
        self.slot(id).score
    }

    pub(super) fn set_score(&mut self, id: u32, score: f64) {
        self.slot_mut(id).score = score;
    }

    /// Adds a member; returns its number.
    pub(super) fn add(&mut self, member: &[u8], score: f64) -> u32 {
        let slot = Slot { member: ShortBytes::new(member), score };
        self.members += 1;
        self.member_bytes += slot.member.heap_bytes();
        while let Some(id) = self.vacant.pop() {
            if (id as usize) < self.length {
                *self.slot_mut(id) = slot;
                return id;
            }
        }
        let id = u32::try_from(self.length).expect("a sorted set has fewer than 2^32 members");
        if self.length.is_multiple_of(CHUNK_SLOTS) {
            self.chunks.push(Vec::with_capacity(CHUNK_SLOTS));
        }
        self.chunks.last_mut().expect("pushed above").push(slot);
        self.length += 1;
        id
    }

    /// Vacates a slot.
    pub(super) fn remove(&mut self, id: u32) {
        self.take(id);
        self.members -= 1;
        self.vacant.push(id);
        self.drop_vacant_end();
    }

    fn take(&mut self, id: u32) -> Slot {
        let slot = std::mem::replace(self.slot_mut(id), Slot::vacant());
        debug_assert!(!slot.score.is_nan(), "the slot has a member");
        self.member_bytes -= slot.member.heap_bytes();
        slot
    }

    /// The last member and the vacant slot to which it should move, if too many slots are vacant.
    pub(super) fn next_move(&mut self) -> Option<(u32, u32)> {
        if self.length <= SLOTS_FEW || self.members * 2 >= self.length {
            return None;
        }
        loop {
            let to = self.vacant.pop().expect("more than half are vacant");
            if (to as usize) < self.length {
                return Some((self.length as u32 - 1, to));
            }
        }
    }

    /// Moves the last member to a vacant slot, both of which `next_move` has returned.
    pub(super) fn make_move(&mut self, (from, to): (u32, u32)) {
        let slot = self.take(from);
        self.member_bytes += slot.member.heap_bytes();
        *self.slot_mut(to) = slot;
        self.drop_vacant_end();
    }

    /// Frees vacant slots at the end, so that the last slot has a member.
    fn drop_vacant_end(&mut self) {
        while let Some(chunk) = self.chunks.last_mut() {
            while chunk.pop_if(|slot| slot.score.is_nan()).is_some() {
                self.length -= 1;
            }
            if !chunk.is_empty() {
                break;
            }
            self.chunks.pop();
        }
        if self.vacant.len() > self.length + SLOTS_FEW {
            let length = self.length;
            self.vacant.retain(|&id| (id as usize) < length);
            self.vacant.shrink_to_fit();
        }
    }

    pub(super) fn member_bytes_max(&self) -> usize {
        self.member_bytes + self.members * size_of::<ShortBytes>()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.chunks.capacity() * size_of::<Vec<Slot>>()
            + self.chunks.len() * CHUNK_SLOTS * size_of::<Slot>()
            + self.vacant.capacity() * size_of::<u32>()
            + self.member_bytes
    }
}
