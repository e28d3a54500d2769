//! A set of document ids as the vector indexes ask for it: a bit for each id, and the number of them.

use std::ops::RangeInclusive;

use engramdb_vector::Filter;
use roaring::RoaringBitmap;

pub struct IdSet {
    bitmap: RoaringBitmap,
    /// A bitmap without compression: a graph walk asks for hundreds of ids in no order.
    words: Vec<u64>,
}

impl IdSet {
    pub fn new(bitmap: RoaringBitmap) -> IdSet {
        let words = bitmap.max().map_or(0, |id| id as usize / 64 + 1);
        let mut words = vec![0; words];
        bitmap.iter().for_each(|id| words[id as usize / 64] |= 1u64 << (id % 64));
        IdSet { bitmap, words }
    }
}

impl Filter for IdSet {
    #[inline]
    fn allows(&self, id: u32) -> bool {
        self.words.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    fn cardinality(&self) -> Option<usize> {
        Some(self.bitmap.len() as usize)
    }

    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
        self.bitmap.range(ids).for_each(visit);
    }
}
