//! The candidates of a search, and the sorted array of the best of them.

/// A slot and its distance from the query. The top bit of `tagged` is set when its neighbours were examined
/// (it was *expanded*).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub distance: f32,
    tagged: u32,
}

const EXPANDED: u32 = 1 << 31;
/// Slots are below this: the top bit is used here, and in the links of the graph, which store a slot plus
/// one.
pub(crate) const SLOT_LIMIT: u32 = EXPANDED - 1;

impl Candidate {
    #[inline(always)]
    pub fn new(distance: f32, slot: u32) -> Self {
        debug_assert!(slot < SLOT_LIMIT, "the top bit of a slot is free");
        Candidate { distance, tagged: slot }
    }

    #[inline(always)]
    pub fn slot(self) -> u32 {
        self.tagged & !EXPANDED
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

/// Nearest first; ties are ordered by slot.
impl Ord for Candidate {
    #[inline]
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.slot().cmp(&other.slot()))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The nearest candidates met so far, nearest first: the beam, which is the first `limit`, and up to `spare`
/// more after it. The spare candidates are not expanded. They are kept because distances of codes are not
/// exact: they are ranked again by their vectors.
///
/// A sorted array is faster than a heap here: it is short, an insertion moves a few cache lines, and the next
/// candidate to expand is found by scanning on.
#[derive(Default)]
pub(crate) struct Pool {
    items: Vec<Candidate>,
    limit: usize,
    spare: usize,
    /// Every candidate before this position was expanded.
    cursor: usize,
    /// Candidates farther than this are not kept.
    reach: f32,
}

/// In an array of up to this many candidates, the position is found by comparing all of them: quicker than a
/// binary search, whose branches are mispredicted.
const COUNTED: usize = 32;

impl Pool {
    pub fn begin(&mut self, limit: usize, spare: usize) {
        self.items.clear();
        self.limit = limit.max(1);
        self.spare = spare;
        self.cursor = 0;
        self.reach = f32::INFINITY;
    }

    /// From now on, candidates farther than `reach` are not kept. `reach` only ever shrinks.
    pub fn limit_to(&mut self, reach: f32) {
        self.reach = self.reach.min(reach);
    }

    /// The distance below which a candidate enters the beam; infinite while the beam has room.
    #[inline(always)]
    pub fn bound(&self) -> f32 {
        if self.is_full() { self.items[self.limit - 1].distance } else { f32::INFINITY }
    }

    /// Whether the beam is full.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.items.len() >= self.limit
    }

    /// Whether both beam and spare are full.
    #[inline(always)]
    fn has_overflowed(&self) -> bool {
        self.items.len() >= self.limit + self.spare
    }

    /// No candidate nearer than this was dropped.
    pub fn complete_within(&self) -> f32 {
        if self.has_overflowed() { self.items[self.items.len() - 1].distance } else { self.reach }
    }

    /// Whether a candidate at this distance would be kept.
    #[inline(always)]
    pub fn has_room_for(&self, distance: f32) -> bool {
        let has_room = !self.has_overflowed() || distance < self.items[self.items.len() - 1].distance;
        has_room && distance <= self.reach
    }

    /// Inserts a candidate; false when it is too far. It counts as not expanded, whatever its state in
    /// another pool.
    #[inline]
    pub fn push(&mut self, candidate: Candidate) -> bool {
        if !self.has_room_for(candidate.distance) {
            return false;
        }
        self.items.truncate(self.limit + self.spare - 1);
        let place = self.place_of(candidate.distance);
        self.items.insert(place, Candidate::new(candidate.distance, candidate.slot()));
        self.cursor = self.cursor.min(place);
        true
    }

    /// The number of candidates that are no farther than this.
    #[inline(always)]
    fn place_of(&self, distance: f32) -> usize {
        let (mut start, mut end) = (0, self.items.len());
        while end - start > COUNTED {
            let middle = start.midpoint(end);
            if self.items[middle].distance <= distance { start = middle + 1 } else { end = middle }
        }
        start + self.items[start..end].iter().filter(|held| held.distance <= distance).count()
    }

    /// The nearest candidate that was not expanded yet; marks it as expanded.
    #[inline]
    pub fn next_to_expand(&mut self) -> Option<Candidate> {
        while self.cursor < self.limit {
            let candidate = self.items.get_mut(self.cursor)?;
            self.cursor += 1;
            if candidate.tagged & EXPANDED == 0 {
                candidate.tagged |= EXPANDED;
                return Some(*candidate);
            }
        }
        None
    }

    /// The candidate that `next_to_expand` will return if no nearer one is inserted: worth a prefetch.
    #[inline]
    pub fn peek(&self) -> Option<Candidate> {
        let beam = &self.items[..self.items.len().min(self.limit)];
        beam.get(self.cursor..)?.iter().find(|candidate| candidate.tagged & EXPANDED == 0).copied()
    }

    /// Makes the beam wider by one.
    pub fn widen(&mut self) {
        self.limit += 1;
    }

    /// Keeps only the candidates that `keep` accepts, after the beam was expanded. The room that `widen` made
    /// for the dropped ones is removed too. Returns the number of candidates dropped from the beam.
    pub fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) -> usize {
        // Candidates that were dropped at the end stay dropped, although there is room now.
        self.reach = self.complete_within();
        let mut dropped = 0;
        self.items.retain(|candidate| {
            let is_kept = keep(candidate.slot());
            dropped += usize::from(!is_kept && candidate.tagged & EXPANDED != 0);
            is_kept
        });
        self.limit -= dropped.min(self.limit - 1);
        self.cursor = self.items.len();
        dropped
    }

    pub fn items(&self) -> &[Candidate] {
        &self.items
    }

    pub fn capacity_bytes(&self) -> usize {
        self.items.capacity() * size_of::<Candidate>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_stay_and_are_expanded_in_order() {
        let mut pool = Pool::default();
        pool.begin(3, 0);
        for (distance, slot) in [(5.0, 5), (1.0, 1), (3.0, 3)] {
            assert!(pool.push(Candidate::new(distance, slot)));
        }
        assert_eq!(pool.next_to_expand().map(Candidate::slot), Some(1));
        assert!(pool.push(Candidate::new(0.5, 9)), "nearer than what was expanded: it goes next");
        assert!(!pool.push(Candidate::new(4.0, 4)), "the farthest of a full pool is at 3");
        assert_eq!(pool.next_to_expand().map(Candidate::slot), Some(9));
        assert_eq!(pool.next_to_expand().map(Candidate::slot), Some(3));
        assert_eq!(pool.next_to_expand(), None);
        assert_eq!(pool.items().iter().map(|c| c.slot()).collect::<Vec<_>>(), [9, 1, 3]);
    }

    #[test]
    fn the_spare_is_kept_and_not_expanded() {
        let mut pool = Pool::default();
        pool.begin(1, 2);
        for (distance, slot) in [(2.0, 2), (4.0, 4), (3.0, 3), (5.0, 5)] {
            assert_eq!(pool.push(Candidate::new(distance, slot)), slot != 5);
        }
        assert_eq!(pool.bound(), 2.0);
        assert_eq!(pool.next_to_expand().map(Candidate::slot), Some(2));
        assert_eq!((pool.peek(), pool.next_to_expand()), (None, None));
        assert!(pool.push(Candidate::new(1.0, 1)));
        assert_eq!(pool.complete_within(), 3.0);
        assert_eq!(pool.peek().map(Candidate::slot), Some(1));
        assert_eq!(pool.items().iter().map(|c| c.slot()).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn dropping_a_candidate_removes_the_room_made_for_it() {
        let mut pool = Pool::default();
        pool.begin(2, 0);
        assert!(pool.push(Candidate::new(1.0, 1)) && pool.push(Candidate::new(2.0, 2)));
        assert_eq!(pool.next_to_expand().map(Candidate::slot), Some(1));
        pool.widen();
        assert!(pool.push(Candidate::new(4.0, 4)) && pool.is_full());
        assert_eq!(pool.retain(|slot| slot != 1), 1);
        assert_eq!(pool.items().iter().map(|c| c.slot()).collect::<Vec<_>>(), [2, 4]);
        assert!(pool.is_full() && !pool.push(Candidate::new(5.0, 5)));
    }

    #[test]
    fn candidates_that_did_not_fit_still_bound_completeness_after_a_drop() {
        let mut pool = Pool::default();
        pool.begin(1, 1);
        for (distance, slot) in [(1.0, 1), (2.0, 2), (3.0, 3)] {
            pool.push(Candidate::new(distance, slot));
        }
        pool.retain(|slot| slot != 1);
        assert_eq!(pool.complete_within(), 2.0);
    }

    #[test]
    fn a_place_among_many_is_after_all_that_are_no_farther() {
        for count in [1, COUNTED - 1, COUNTED, COUNTED + 1, 5 * COUNTED] {
            let mut pool = Pool::default();
            pool.begin(count, 0);
            let distances = (0..count).map(|at| ((at * 7) % count / 2) as f32);
            distances.enumerate().for_each(|(slot, far)| _ = pool.push(Candidate::new(far, slot as u32)));
            assert!(pool.items().is_sorted_by(|a, b| a.distance <= b.distance), "{count}");
            for far in 0..count {
                let held = |candidate: &Candidate| candidate.distance <= far as f32;
                assert_eq!(pool.place_of(far as f32), pool.items().partition_point(held), "{count}, {far}");
            }
        }
    }

    #[test]
    fn distances_below_zero_and_infinite_ones_have_their_place() {
        let mut pool = Pool::default();
        pool.begin(4, 0);
        for (distance, slot) in [(f32::INFINITY, 1), (-3.0, 2), (-0.5, 3)] {
            assert!(pool.push(Candidate::new(distance, slot)));
        }
        assert_eq!(pool.items().iter().map(|c| c.slot()).collect::<Vec<_>>(), [2, 3, 1]);
    }
}
