//! A sorted list of which a few elements are removed and to which a few are added. Gives the elements at any
//! positions of the result, without a walk over the elements before them.
//!
//! A search sorts its rows without a lock. Few documents have changed when its last look begins, and the
//! positions of those few are enough to find the page.

/// The positions of the removed and added elements. The caller compares elements; this has positions only.
pub struct Edited {
    length: usize,
    /// Positions of removed elements, ascending, without duplicates.
    removed: Vec<usize>,
    /// For each added element, in order: the position in the list of the element that follows it.
    before: Vec<usize>,
}

/// An element of the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditedElement {
    /// The element at this position of the list.
    Kept(usize),
    /// The added element with this number.
    Added(usize),
}

impl Edited {
    /// The edits of a list of this length. `before` must be ascending.
    pub fn new(length: usize, mut removed: Vec<usize>, before: Vec<usize>) -> Edited {
        removed.sort_unstable();
        removed.dedup();
        debug_assert!(before.is_sorted() && removed.last().is_none_or(|&last| last < length));
        Edited { length, removed, before }
    }

    /// The number of elements of the result.
    pub fn len(&self) -> usize {
        self.length - self.removed.len() + self.before.len()
    }

    /// The positions of removed elements, ascending.
    pub fn removed(&self) -> &[usize] {
        &self.removed
    }

    /// Whether the element at this position of the list is removed.
    pub fn is_removed(&self, position: usize) -> bool {
        self.removed.binary_search(&position).is_ok()
    }

    /// The end of the first `count` elements of the result: in the list, and among the added elements.
    pub fn end_of(&self, count: usize) -> (usize, usize) {
        // The number of elements of the result before an added one.
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

    /// At most `count` elements of the result, from a position on.
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

    /// The whole result, computed by a walk over all elements.
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
