//! A list that is in order already, with a few elements taken out and a few put in: the elements at any
//! places of the result, without a walk over those before them.
//!
//! A search puts its rows in order without a lock. What has changed when its last look begins is few, and the
//! page is found among the rest by the positions of those few alone.

/// Positions in a list, and what becomes of them. The caller compares elements; here are positions only.
pub struct Edited {
    length: usize,
    /// Positions that are taken out, ascending, each once.
    removed: Vec<usize>,
    /// Of each element that is put in, in order: the position in the list of the element that it stands in
    /// front of.
    before: Vec<usize>,
}

/// An element of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditedElement {
    /// This position of the list.
    Kept(usize),
    /// The number of this one among those that are put in.
    Added(usize),
}

impl Edited {
    /// Of a list of this length.
    pub fn new(length: usize, mut removed: Vec<usize>, before: Vec<usize>) -> Edited {
        removed.sort_unstable();
        removed.dedup();
        debug_assert!(before.is_sorted() && removed.last().is_none_or(|&last| last < length));
        Edited { length, removed, before }
    }

    /// How many elements the result has.
    pub fn len(&self) -> usize {
        self.length - self.removed.len() + self.before.len()
    }

    /// Positions of the list that are taken out.
    pub fn removed(&self) -> &[usize] {
        &self.removed
    }

    /// Whether this position of the list is taken out.
    pub fn is_removed(&self, position: usize) -> bool {
        self.removed.binary_search(&position).is_ok()
    }

    /// Where the first `count` elements of the result end: in the list, and among those that are put in.
    pub fn end_of(&self, count: usize) -> (usize, usize) {
        // How many elements of the result are in front of an added one.
        let rank = |(added, &before): (usize, &usize)| added + before - self.removed_before(before);
        let added = self.before.iter().enumerate().map(rank).take_while(|&rank| rank < count).count();
        let mut end = (count - added).min(self.length - self.removed.len());
        for &removed in &self.removed {
            if removed < end {
                end += 1;
            } else {
                break;
            }
        }
        (end, added)
    }

    /// The elements of the result from a place on, `count` at most.
    pub fn range(&self, from: usize, count: usize) -> Vec<EditedElement> {
        let (mut position, mut added) = self.end_of(from);
        let mut removed = self.removed_before(position);
        let mut found = Vec::new();
        while found.len() < count {
            if self.removed.get(removed) == Some(&position) {
                (position, removed) = (position + 1, removed + 1);
            } else if self.before.get(added).is_some_and(|&before| before <= position) {
                found.push(EditedElement::Added(added));
                added += 1;
            } else if position < self.length {
                found.push(EditedElement::Kept(position));
                position += 1;
            } else {
                break;
            }
        }
        found
    }

    fn removed_before(&self, position: usize) -> usize {
        self.removed.partition_point(|&removed| removed < position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same by a walk over all of it.
    fn whole(edited: &Edited) -> Vec<EditedElement> {
        let mut all = Vec::new();
        for position in 0..=edited.length {
            let here = (0..edited.before.len()).filter(|&added| edited.before[added] == position);
            all.extend(here.map(EditedElement::Added));
            if position < edited.length && !edited.removed.contains(&position) {
                all.push(EditedElement::Kept(position));
            }
        }
        all
    }

    #[test]
    fn each_page_is_that_of_a_walk_over_the_whole_list() {
        let mut state = 7u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..500 {
            let length = random(12);
            let count = if length == 0 { 0 } else { random(length + 3) };
            let removed = (0..count).map(|_| random(length)).collect();
            let mut before: Vec<usize> = (0..random(6)).map(|_| random(length + 1)).collect();
            before.sort_unstable();
            let edited = Edited::new(length, removed, before);
            let all = whole(&edited);
            assert_eq!(edited.len(), all.len());
            for from in 0..all.len() + 2 {
                let want = &all[from.min(all.len())..];
                assert_eq!(edited.range(from, usize::MAX), want);
                let few = edited.range(from, 2);
                assert_eq!(few, want[..want.len().min(2)]);
                let (kept, added) = edited.end_of(from);
                let first = &all[..from.min(all.len())];
                let ends = |element: &EditedElement| match *element {
                    EditedElement::Kept(position) => position < kept,
                    EditedElement::Added(number) => number < added,
                };
                assert!(first.iter().all(ends) && !want.iter().any(ends), "{from} of {all:?}");
            }
        }
    }
}
