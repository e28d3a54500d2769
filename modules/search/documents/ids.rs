//! Sets of document ids: their construction, and the form in which the vector indexes test them.
//!
//! Both are needed for each filtered search, and must cost less than the search itself: code here sets bits
//! and copies words, and never tests single ids of a compressed bitmap.

use super::rows::Owners;
use std::ops::{Deref, RangeInclusive};

use engramdb_vector::Filter;
use roaring::RoaringBitmap;

/// A compressed set of ids that knows how many it has, and about how many bytes it takes, without a walk over
/// its containers.
#[derive(Default)]
pub struct Counted {
    ids: RoaringBitmap,
    count: u32,
    /// No id is larger. 0 if there are none.
    last: u32,
}

impl Counted {
    /// Adds an id; true if the set did not have it.
    pub fn insert(&mut self, id: u32) -> bool {
        // Ids mostly come in their order; then none of the others is looked at.
        let comes_last = self.count == 0 || id > self.last;
        // `try_push` walks back over the words of a container that is a bitmap, to its last id.
        let is_pushed = comes_last && !self.is_bitmap_at(id) && self.ids.try_push(id).is_ok();
        let is_new = is_pushed || self.ids.insert(id);
        if is_new && self.count == 0 {
            // The first insert allocates room for four containers, and many sets stay with one id.
            self.ids = self.ids.clone();
        }
        self.last = self.last.max(id);
        self.count += u32::from(is_new);
        is_new
    }

    /// Removes an id; true if the set had it.
    pub fn remove(&mut self, id: u32) -> bool {
        if self.count == 0 {
            return false;
        }
        let is_removed = self.ids.remove(id);
        self.count -= u32::from(is_removed);
        if self.count == 0 {
            self.last = 0;
        }
        is_removed
    }

    /// How many ids there are, without the walk of `RoaringBitmap::len`.
    pub fn len(&self) -> u64 {
        self.count.into()
    }

    /// Reads the memory that `insert` of an id larger than all others will read, so that the cache misses of
    /// several inserts overlap.
    #[inline]
    pub fn touch(&self, id: u32) {
        match self.is_bitmap_at(id) {
            true => _ = std::hint::black_box(self.ids.contains(id)),
            false => _ = std::hint::black_box(self.ids.max()),
        }
    }

    /// Whether the container of this id, the last one, is likely a bitmap: if it has as large a share of its
    /// ids below this one as the set has of all.
    #[inline]
    fn is_bitmap_at(&self, id: u32) -> bool {
        let below = u64::from(id) % CONTAINER_IDS as u64;
        below > LISTED_MAX as u64
            && u64::from(self.count) * below > LISTED_MAX as u64 * (u64::from(self.last) + 1)
    }

    /// Bytes on the heap, estimated: two for each id of a sparse container, or a bitmap.
    pub fn bytes(&self) -> usize {
        let containers = self.last as usize / CONTAINER_IDS + 1;
        let count = self.count as usize;
        containers.min(count) * CONTAINER_BYTES + (2 * count).min(containers * CONTAINER_IDS / 8)
    }
}

impl From<RoaringBitmap> for Counted {
    fn from(ids: RoaringBitmap) -> Counted {
        Counted { count: ids.len() as u32, last: ids.max().unwrap_or(0), ids }
    }
}

/// The bytes of a container in memory beside its ids: its part of the list of containers, and what the
/// allocator adds.
const CONTAINER_BYTES: usize = 48;

impl Deref for Counted {
    type Target = RoaringBitmap;

    fn deref(&self) -> &RoaringBitmap {
        &self.ids
    }
}

/// An uncompressed set with one bit for each id, because a graph walk tests thousands of ids in random order.
///
/// A set of documents can be one of their vectors: then it has an id if it has the id's document.
pub struct IdSet {
    words: Vec<u64>,
    length: usize,
    /// The documents of ids, and the bound of ids.
    owners: Option<(Owners, u32)>,
}

impl IdSet {
    pub fn new(ids: &RoaringBitmap) -> IdSet {
        let mut words = vec![0; ids.max().map_or(0, |id| id as usize / 64 + 1)];
        if copy_containers(ids, &mut words).is_none() {
            ids.iter().for_each(|id| set_bit(&mut words, id as usize));
        }
        IdSet { words, length: ids.len() as usize, owners: None }
    }

    /// The vectors of these documents, about `length`. All ids are below `id_bound`.
    pub fn of_owners(documents: &RoaringBitmap, owners: Owners, id_bound: u32, length: usize) -> IdSet {
        IdSet { length, owners: Some((owners, id_bound)), ..IdSet::new(documents) }
    }
}

/// Words that `for_each` tests together: under a selective filter most of them are zero.
const SKIPPED_WORDS: usize = 16;
const SKIPPED_IDS: usize = SKIPPED_WORDS * 64;

impl Filter for IdSet {
    #[inline]
    fn allows(&self, id: u32) -> bool {
        let id = match &self.owners {
            None => id,
            Some((owners, _)) => owners.of(id),
        };
        self.words.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 == 1)
    }

    fn cardinality(&self) -> Option<usize> {
        Some(self.length)
    }

    fn for_each(&self, ids: RangeInclusive<u32>, visit: &mut dyn FnMut(u32)) {
        if let Some((_, id_bound)) = self.owners {
            let in_range = (*ids.start()..id_bound).take_while(|id| ids.contains(id));
            return in_range.filter(|&id| self.allows(id)).for_each(visit);
        }
        let (first, last) = (*ids.start() as usize, *ids.end() as usize);
        let end = self.words.len().min(last / 64 + 1);
        for (chunk, words) in self.words[..end].chunks(SKIPPED_WORDS).enumerate().skip(first / SKIPPED_IDS) {
            if words.iter().fold(0, |any, word| any | word) == 0 {
                continue;
            }
            for (at, &word) in words.iter().enumerate() {
                let base = (chunk * SKIPPED_WORDS + at) * 64;
                let mut left = word;
                // Masks the ids outside the range in the first and the last word.
                left &= u64::MAX.checked_shl(first.saturating_sub(base) as u32).unwrap_or(0);
                left &= u64::MAX >> 63_usize.saturating_sub(last - base);
                while left != 0 {
                    visit(base as u32 + left.trailing_zeros());
                    left &= left - 1;
                }
            }
        }
    }
}

#[inline]
fn set_bit(words: &mut [u64], bit: usize) {
    words[bit / 64] |= 1 << (bit % 64);
}

/// The first word of serialized bitmaps without run containers.
const COOKIE_WITHOUT_RUNS: u32 = 12_346;
/// The range of ids that one container covers, and its length in words.
const CONTAINER_IDS: usize = 1 << 16;
const CONTAINER_WORDS: usize = CONTAINER_IDS / 64;
/// A container with at most this many ids is a list of u16; a larger one is a bitmap.
const LISTED_MAX: usize = 4_096;

/// Copies all ids from the bitmap's serialized form, the only public access to its containers; a dense
/// container is already the words that `IdSet` needs. (70 % of 100,000 ids are copied in 1 microsecond;
/// iterating over them took 260.) `None` if there are run containers, which postings never have; some ids may
/// have been copied then.
///
/// The format, little-endian: u32 cookie, u32 number of containers; per container u16 key and u16 number of
/// ids minus one; per container u32 offset; the containers.
/// <https://github.com/RoaringBitmap/RoaringFormatSpec>
fn copy_containers(ids: &RoaringBitmap, words: &mut [u64]) -> Option<()> {
    let mut bytes = Vec::with_capacity(ids.serialized_size());
    ids.serialize_into(&mut bytes).expect("writing to memory succeeds");
    let (cookie, rest) = bytes.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    if u32::from_le_bytes(*cookie) != COOKIE_WITHOUT_RUNS {
        return None;
    }
    let count = u32::from_le_bytes(*count) as usize;
    let (headers, rest) = rest.split_at_checked(4 * count)?;
    let (_offsets, mut contents) = rest.split_at_checked(4 * count)?;
    for &[key_low, key_high, last_low, last_high] in headers.as_chunks().0 {
        let first = u16::from_le_bytes([key_low, key_high]) as usize * CONTAINER_IDS;
        let length = u16::from_le_bytes([last_low, last_high]) as usize + 1;
        let is_list = length <= LISTED_MAX;
        let (content, rest) =
            contents.split_at_checked(if is_list { 2 * length } else { CONTAINER_IDS / 8 })?;
        contents = rest;
        if is_list {
            for &low in content.as_chunks().0 {
                set_bit(words, first + u16::from_le_bytes(low) as usize);
            }
        } else {
            let from = first / 64;
            let end = words.len().min(from + CONTAINER_WORDS);
            for (word, &bits) in words[from..end].iter_mut().zip(content.as_chunks().0) {
                *word = u64::from_le_bytes(bits);
            }
        }
    }
    Some(())
}

/// If a set has less than one in this many ids, sorting its ids is cheaper than setting a bit for each.
const SPARSE_SHARE: usize = 128;

/// The compressed bitmap of ids in any order. (For half of 100,000 ids it takes 60 microseconds; inserting
/// them one by one took 830.)
pub fn bitmap_of(mut ids: Vec<u32>) -> RoaringBitmap {
    let end = ids.iter().max().map_or(0, |&last| last as usize + 1);
    if ids.len() < end / SPARSE_SHARE {
        ids.sort_unstable();
        return ids.into_iter().collect();
    }
    let mut bits = vec![0u8; end.div_ceil(8)];
    ids.iter().for_each(|&id| bits[id as usize / 8] |= 1 << (id % 8));
    RoaringBitmap::from_lsb0_bytes(0, &bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bitmap_is_made_of_ids_in_any_order() {
        for (end, share) in [(0, 1), (1, 1), (5_000, 1), (200_000, 2), (200_003, 20), (1_000_000, 5_000)] {
            // Odd, so that each id below 2^20 comes once.
            let shuffled = (0..1u32 << 20).map(|number| number.wrapping_mul(0x9e37_79b1) & 0xf_ffff);
            let ids: Vec<u32> = shuffled.filter(|id| *id < end && id % share == 0).collect();
            assert_eq!(bitmap_of(ids), (0..end).step_by(share as usize).collect::<RoaringBitmap>());
        }
    }

    #[test]
    fn it_has_the_ids_of_the_bitmap_for_every_kind_of_container() {
        let every = |step: usize, end: u32| (3..end).step_by(step).collect::<RoaringBitmap>();
        let mut runs = every(1, 300_000);
        assert!(runs.optimize());
        runs.insert(400_000);
        let sets = [
            RoaringBitmap::new(),
            RoaringBitmap::from([0]),
            RoaringBitmap::from([65_535, 65_536, 10_000_000]),
            every(2, 100_000),
            every(1, 65_600),
            every(1_000, 1_000_000),
            every(16, 65_536) | (every(3, 200_000) - every(2, 131_072)),
            (0..4_096).collect(),
            (0..4_097).collect(),
            runs,
        ];
        for ids in sets {
            let set = IdSet::new(&ids);
            let mut visited = Vec::new();
            set.for_each(0..=u32::MAX, &mut |id| visited.push(id));
            assert!(visited.iter().copied().eq(ids.iter()), "{ids:?}");
            assert_eq!(set.cardinality(), Some(visited.len()));
            let end = ids.max().map_or(100, |last| last + 200);
            assert!((0..end).all(|id| set.allows(id) == ids.contains(id)), "{ids:?}");
            for (first, last) in
                [(0, 0), (3, 3), (1, 62), (63, 64), (1_000, 1_100), (65_535, 65_536), (65_600, 299_999)]
            {
                let mut visited = Vec::new();
                set.for_each(first..=last, &mut |id| visited.push(id));
                assert!(visited.into_iter().eq(ids.range(first..=last)), "{first} to {last} of {ids:?}");
            }
        }
    }

    #[test]
    fn without_runs_the_containers_are_copied() {
        let ids: RoaringBitmap = (0..200_000).filter(|id| id % 7 < 5 || *id > 150_000).collect();
        let mut words = vec![0; 200_000 / 64];
        assert_eq!(copy_containers(&ids, &mut words), Some(()));
        assert_eq!(words, IdSet::new(&ids).words);
    }
}
