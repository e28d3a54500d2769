//! The keys and versions of ids, in blocks that exist while one of their ids is in use.
//!
//! The version of an id that is no longer in use is still asked for, by searches that began before. Where a
//! block is gone, all of its ids have the version at which it went, which is not before any of theirs.

use engramdb_engine::types::ShortBytes;

/// Ids in a block.
const BLOCK: usize = 1024;

#[derive(Default)]
pub struct Slots {
    blocks: Vec<SlotBlock>,
    length: usize,
    /// The slots for which blocks have memory.
    capacity: usize,
}

#[derive(Default)]
struct SlotBlock {
    /// As many as were needed; those that are missing have no key, and the version `gone`.
    slots: Vec<Slot>,
    /// How many ids are in use, as documents or rows.
    used: usize,
    /// The version at which the block went.
    gone: u64,
}

#[derive(Clone)]
struct Slot {
    key: Option<ShortBytes>,
    version: u64,
}

impl Slots {
    pub fn len(&self) -> usize {
        self.length
    }

    /// Adds an id that is not in use.
    pub fn push(&mut self) -> u32 {
        if self.length.is_multiple_of(BLOCK) {
            self.blocks.push(SlotBlock::default());
        }
        self.length += 1;
        (self.length - 1) as u32
    }

    #[inline]
    fn get(&self, id: u32) -> Option<&Slot> {
        self.blocks.get(id as usize / BLOCK)?.slots.get(id as usize % BLOCK)
    }

    #[inline]
    pub fn key(&self, id: u32) -> Option<&ShortBytes> {
        self.get(id)?.key.as_ref()
    }

    /// 0 for an id that was never given.
    #[inline]
    pub fn version(&self, id: u32) -> u64 {
        let of_block = || self.blocks.get(id as usize / BLOCK).map_or(0, |block| block.gone);
        self.get(id).map_or_else(of_block, |slot| slot.version)
    }

    /// The slot of an id below `len`, in a block that exists.
    fn make(&mut self, id: u32) -> (&mut Slot, &mut usize) {
        assert!((id as usize) < self.length, "the id was added");
        let (block, at) = (&mut self.blocks[id as usize / BLOCK], id as usize % BLOCK);
        let before = block.slots.capacity();
        if block.slots.len() <= at {
            // Twice as many as before, but no more than a block has.
            let wanted = (2 * before).max(at + 1).min(BLOCK);
            block.slots.reserve_exact(wanted.saturating_sub(block.slots.len()));
            block.slots.resize(at + 1, Slot { key: None, version: block.gone });
        }
        self.capacity = self.capacity + block.slots.capacity() - before;
        (&mut block.slots[at], &mut block.used)
    }

    /// Gives an id that is not in use to a key, without a version yet.
    pub fn name(&mut self, id: u32, key: ShortBytes) {
        let (slot, used) = self.make(id);
        *slot = Slot { key: Some(key), version: 0 };
        *used += 1;
    }

    /// Makes an id that is not in use a row.
    pub fn make_row(&mut self, id: u32, version: u64) {
        let (slot, used) = self.make(id);
        slot.version = version;
        *used += 1;
    }

    pub fn set_version(&mut self, id: u32, version: u64) {
        self.make(id).0.version = version;
    }

    /// Records that an id is not in use any more, since a version that is not before any other.
    pub fn free(&mut self, id: u32, version: u64) {
        let (slot, used) = self.make(id);
        *slot = Slot { key: None, version };
        *used -= 1;
        if *used == 0 {
            let block = &mut self.blocks[id as usize / BLOCK];
            self.capacity -= block.slots.capacity();
            *block = SlotBlock { gone: version, ..SlotBlock::default() };
        }
    }

    /// Bytes of the blocks, without those of long keys.
    pub fn heap_bytes(&self) -> usize {
        self.capacity * size_of::<Slot>() + self.blocks.capacity() * size_of::<SlotBlock>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn ids_have_the_keys_and_versions_of_their_last_use() {
        let (mut slots, mut model) = (Slots::default(), BTreeMap::<u32, (bool, u64)>::new());
        (0..3 * BLOCK as u32).for_each(|id| assert_eq!(slots.push(), id));
        let key = |id: u32| ShortBytes::new(&id.to_le_bytes());
        let mut state = 7u64;
        for version in 1..30_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let id = (state >> 33) as u32 % (3 * BLOCK as u32);
            // The last block has rows only, the middle one is empty from time to time.
            let is_row = id as usize / BLOCK == 2;
            let rests = id as usize / BLOCK == 1 && version / 5_000 % 2 == 1;
            match model.get(&id) {
                Some((true, _)) => {
                    slots.free(id, version);
                    model.insert(id, (false, version));
                }
                _ if rests => {}
                _ if is_row => {
                    slots.make_row(id, version);
                    model.insert(id, (true, version));
                }
                _ => {
                    slots.name(id, key(id));
                    slots.set_version(id, version);
                    model.insert(id, (true, version));
                }
            }
        }
        for (&id, &(is_used, version)) in &model {
            let is_document = is_used && id as usize / BLOCK < 2;
            assert_eq!(slots.key(id), is_document.then(|| key(id)).as_ref());
            assert!(slots.version(id) >= version && (!is_used || slots.version(id) == version));
        }
        let capacity = slots.blocks.iter().map(|block| block.slots.capacity());
        assert_eq!(slots.capacity, capacity.sum::<usize>());
        model.iter().filter(|(_, (is_used, _))| *is_used).for_each(|(&id, _)| slots.free(id, 30_000));
        assert!((0..3 * BLOCK as u32).all(|id| slots.key(id).is_none() && slots.version(id) == 30_000));
        assert_eq!((slots.capacity, slots.len()), (0, 3 * BLOCK));
        assert_eq!(slots.version(3 * BLOCK as u32), 0);
    }
}
