//! The order of a large sorted set: a B+ tree of (score, slot number) whose inner nodes count the entries
//! below each child, so that an entry is found by its rank, and the rank of an entry by its key.
//!
//! Scores are in the leaves beside the numbers: only entries of equal score are compared through their slots.
//!
//! Invariants:
//! - entries ascend by (score, member);
//! - a child's `first` is its least entry, and `count` the number of its entries, which is not 0;
//! - all leaves have the same depth.

use super::slots::Slots;
use std::ops::Range;

/// The most entries of a leaf, which then takes 760 bytes: nearly a size class of the allocator.
const LEAF_ENTRIES_MAX: usize = 63;
/// The most children of an inner node.
const CHILDREN_MAX: usize = 32;
/// A node with fewer parts than this is merged with a neighbour, if both together have at most
/// `MERGED_MAX`.
const LEAF_ENTRIES_FEW: usize = LEAF_ENTRIES_MAX / 3;
const LEAF_ENTRIES_MERGED_MAX: usize = LEAF_ENTRIES_MAX * 3 / 4;
const CHILDREN_FEW: usize = CHILDREN_MAX / 3;
const CHILDREN_MERGED_MAX: usize = CHILDREN_MAX * 3 / 4;

/// By what an entry is found.
#[derive(Clone, Copy)]
pub(super) struct OrderKey<'k> {
    pub(super) score: f64,
    pub(super) member: &'k [u8],
}

impl OrderKey<'_> {
    /// True if the entry comes before the key.
    #[inline]
    fn is_after(&self, (score, id): (f64, u32), slots: &Slots) -> bool {
        score < self.score || score == self.score && slots.member(id) < self.member
    }

    /// True if the entry comes before the key, or is that of the key.
    #[inline]
    fn is_not_before(&self, (score, id): (f64, u32), slots: &Slots) -> bool {
        score < self.score || score == self.score && slots.member(id) <= self.member
    }
}

#[derive(Clone, Debug)]
struct Leaf {
    length: u16,
    scores: [f64; LEAF_ENTRIES_MAX],
    ids: [u32; LEAF_ENTRIES_MAX],
}

#[derive(Clone, Debug)]
enum Node {
    Leaf(Box<Leaf>),
    Inner(Vec<Child>),
}

#[derive(Clone, Debug)]
struct Child {
    first: (f64, u32),
    count: usize,
    node: Node,
}

#[derive(Clone, Debug)]
pub(super) struct Order {
    root: Node,
    length: usize,
    nodes: NodeCounts,
}

/// How many nodes there are, for the accounting of memory.
#[derive(Clone, Copy, Debug)]
struct NodeCounts {
    leaves: usize,
    inner: usize,
}

impl Leaf {
    fn new() -> Box<Leaf> {
        Box::new(Leaf { length: 0, scores: [0.0; LEAF_ENTRIES_MAX], ids: [0; LEAF_ENTRIES_MAX] })
    }

    fn len(&self) -> usize {
        self.length.into()
    }

    #[inline]
    fn entry(&self, at: usize) -> (f64, u32) {
        (self.scores[at], self.ids[at])
    }

    /// The number of entries at the beginning that `is_before` says yes to.
    #[inline]
    fn count(&self, is_before: impl Fn((f64, u32)) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if is_before(self.entry(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn insert(&mut self, at: usize, (score, id): (f64, u32)) {
        let length = self.len();
        self.scores.copy_within(at..length, at + 1);
        self.ids.copy_within(at..length, at + 1);
        (self.scores[at], self.ids[at]) = (score, id);
        self.length += 1;
    }

    fn cut(&mut self, range: Range<usize>) {
        let length = self.len();
        self.scores.copy_within(range.end..length, range.start);
        self.ids.copy_within(range.end..length, range.start);
        self.length -= range.len() as u16;
    }

    /// Appends the entries of another leaf from `from` on; these must have room.
    fn append(&mut self, other: &Leaf, from: usize) {
        let (start, added) = (self.len(), other.len() - from);
        self.scores[start..start + added].copy_from_slice(&other.scores[from..other.len()]);
        self.ids[start..start + added].copy_from_slice(&other.ids[from..other.len()]);
        self.length += added as u16;
    }

    /// Inserts into a full leaf, which splits; returns the upper one. Where entries come in order, the old
    /// leaf stays full.
    fn split(&mut self, at: usize, entry: (f64, u32)) -> Box<Leaf> {
        let mut upper = Leaf::new();
        let middle = match at {
            0 => 0,
            LEAF_ENTRIES_MAX => LEAF_ENTRIES_MAX,
            _ => LEAF_ENTRIES_MAX / 2,
        };
        upper.append(self, middle);
        self.length = middle as u16;
        if at < middle || middle == 0 {
            self.insert(at, entry);
        } else {
            upper.insert(at - middle, entry);
        }
        upper
    }
}

impl Node {
    fn first(&self) -> (f64, u32) {
        match self {
            Node::Leaf(leaf) => leaf.entry(0),
            Node::Inner(children) => children[0].first,
        }
    }

    /// The number of entries or children.
    fn parts(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len(),
            Node::Inner(children) => children.len(),
        }
    }

    fn count(&self) -> usize {
        match self {
            Node::Leaf(leaf) => leaf.len(),
            Node::Inner(children) => children.iter().map(|child| child.count).sum(),
        }
    }

    fn into_child(self) -> Child {
        Child { first: self.first(), count: self.count(), node: self }
    }

    /// Inserts an entry. Returns the upper part of the node, if it had to split.
    fn insert(
        &mut self,
        key: OrderKey<'_>,
        entry: (f64, u32),
        slots: &Slots,
        nodes: &mut NodeCounts,
    ) -> Option<Node> {
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.count(|other| key.is_after(other, slots));
                if leaf.len() < LEAF_ENTRIES_MAX {
                    leaf.insert(at, entry);
                    return None;
                }
                nodes.leaves += 1;
                Some(Node::Leaf(leaf.split(at, entry)))
            }
            Node::Inner(children) => {
                let at = child_of(children, key, slots);
                let child = &mut children[at];
                let upper = child.node.insert(key, entry, slots, nodes);
                child.count += 1;
                child.first = child.node.first();
                let upper = upper?.into_child();
                child.count -= upper.count;
                children.insert(at + 1, upper);
                if children.len() <= CHILDREN_MAX {
                    return None;
                }
                nodes.inner += 1;
                let middle = if at + 1 == CHILDREN_MAX { CHILDREN_MAX } else { CHILDREN_MAX / 2 };
                let mut upper = Vec::with_capacity(CHILDREN_MAX + 1);
                upper.extend(children.drain(middle..));
                Some(Node::Inner(upper))
            }
        }
    }

    /// Removes an entry, which must be there. The node may be empty then.
    fn remove(&mut self, key: OrderKey<'_>, slots: &Slots, nodes: &mut NodeCounts) {
        match self {
            Node::Leaf(leaf) => {
                let at = leaf.count(|other| key.is_after(other, slots));
                debug_assert!(at < leaf.len() && slots.member(leaf.ids[at]) == key.member, "it is there");
                leaf.cut(at..at + 1);
            }
            Node::Inner(children) => {
                let at = child_of(children, key, slots);
                let child = &mut children[at];
                child.count -= 1;
                child.node.remove(key, slots, nodes);
                tidy(children, at, nodes);
            }
        }
    }

    /// Removes the entries of these ranks, and returns their numbers in `removed`.
    fn remove_range(&mut self, ranks: Range<usize>, removed: &mut Vec<u32>, nodes: &mut NodeCounts) {
        match self {
            Node::Leaf(leaf) => {
                removed.extend_from_slice(&leaf.ids[ranks.clone()]);
                leaf.cut(ranks);
            }
            Node::Inner(children) => {
                let mut start = 0;
                for child in &mut *children {
                    let end = start + child.count;
                    let (from, to) = (ranks.start.clamp(start, end), ranks.end.clamp(start, end));
                    if from < to {
                        child.node.remove_range(from - start..to - start, removed, nodes);
                        child.count -= to - from;
                    }
                    start = end;
                }
                (0..children.len()).rev().for_each(|at| tidy(children, at, nodes));
            }
        }
    }

    fn note_freed(&self, nodes: &mut NodeCounts) {
        match self {
            Node::Leaf(_) => nodes.leaves -= 1,
            Node::Inner(children) => {
                nodes.inner -= 1;
                children.iter().for_each(|child| child.node.note_freed(nodes));
            }
        }
    }

    /// Appends the parts of the next node, which has the same depth.
    fn absorb(&mut self, next: Node, nodes: &mut NodeCounts) {
        match (self, next) {
            (Node::Leaf(leaf), Node::Leaf(next)) => {
                leaf.append(&next, 0);
                nodes.leaves -= 1;
            }
            (Node::Inner(children), Node::Inner(next)) => {
                children.extend(next);
                nodes.inner -= 1;
            }
            _ => unreachable!("all leaves have the same depth"),
        }
    }

    fn is_small(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.len() < LEAF_ENTRIES_FEW,
            Node::Inner(children) => children.len() < CHILDREN_FEW,
        }
    }

    fn can_absorb(&self, next: &Node) -> bool {
        let parts = self.parts() + next.parts();
        match self {
            Node::Leaf(_) => parts <= LEAF_ENTRIES_MERGED_MAX,
            Node::Inner(_) => parts <= CHILDREN_MERGED_MAX,
        }
    }
}

/// The child that has the entry of a key, or would get it.
#[inline]
fn child_of(children: &[Child], key: OrderKey<'_>, slots: &Slots) -> usize {
    children.partition_point(|child| key.is_not_before(child.first, slots)).saturating_sub(1)
}

/// Restores the invariants of a child from which entries were removed: drops it if it is empty, and merges it
/// with a neighbour if it is small.
fn tidy(children: &mut Vec<Child>, at: usize, nodes: &mut NodeCounts) {
    if children[at].count == 0 {
        let child = children.remove(at);
        child.node.note_freed(nodes);
        return;
    }
    children[at].first = children[at].node.first();
    if !children[at].node.is_small() {
        return;
    }
    let lower = [at, at.wrapping_sub(1)].into_iter().find(|&lower| {
        let next = lower.checked_add(1).and_then(|next| children.get(next));
        next.is_some_and(|next| children[lower].node.can_absorb(&next.node))
    });
    if let Some(lower) = lower {
        let next = children.remove(lower + 1);
        children[lower].count += next.count;
        children[lower].node.absorb(next.node, nodes);
    }
}

impl Order {
    pub(super) fn new() -> Order {
        let nodes = NodeCounts { leaves: 1, inner: 0 };
        Order { root: Node::Leaf(Leaf::new()), length: 0, nodes }
    }

    /// Inserts an entry whose slot is filled and which is not in the tree.
    pub(super) fn insert(&mut self, score: f64, id: u32, slots: &Slots) {
        self.length += 1;
        let key = OrderKey { score, member: slots.member(id) };
        let Some(upper) = self.root.insert(key, (score, id), slots, &mut self.nodes) else { return };
        self.nodes.inner += 1;
        let mut children = Vec::with_capacity(CHILDREN_MAX + 1);
        let lower = std::mem::replace(&mut self.root, Node::Inner(Vec::new()));
        children.extend([lower.into_child(), upper.into_child()]);
        self.root = Node::Inner(children);
    }

    /// Removes an entry, which must be in the tree and still in its slot.
    pub(super) fn remove(&mut self, key: OrderKey<'_>, slots: &Slots) {
        self.length -= 1;
        self.root.remove(key, slots, &mut self.nodes);
        self.lower_root();
    }

    /// Removes the entries of these ranks; returns their numbers.
    pub(super) fn remove_range(&mut self, ranks: Range<usize>) -> Vec<u32> {
        let mut removed = Vec::with_capacity(ranks.len());
        self.length -= ranks.len();
        self.root.remove_range(ranks, &mut removed, &mut self.nodes);
        self.lower_root();
        removed
    }

    /// Drops roots with a single child, or none.
    fn lower_root(&mut self) {
        while let Node::Inner(children) = &mut self.root
            && children.len() <= 1
        {
            self.nodes.inner -= 1;
            self.root = match children.pop() {
                Some(child) => child.node,
                None => {
                    self.nodes.leaves += 1;
                    Node::Leaf(Leaf::new())
                }
            };
        }
    }

    /// Changes the number of an entry, which is still in its old slot.
    pub(super) fn renumber(&mut self, key: OrderKey<'_>, (from, to): (u32, u32), slots: &Slots) {
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Inner(children) => {
                    let at = child_of(children, key, slots);
                    let child = &mut children[at];
                    if child.first.1 == from {
                        child.first.1 = to;
                    }
                    node = &mut child.node;
                }
                Node::Leaf(leaf) => {
                    let at = leaf.count(|other| key.is_after(other, slots));
                    debug_assert_eq!(leaf.ids[at], from, "it is there");
                    return leaf.ids[at] = to;
                }
            }
        }
    }

    /// The number of entries at the beginning that `is_before` says yes to; it must say no to all later ones.
    pub(super) fn count(&self, is_before: impl Fn(f64, u32) -> bool) -> usize {
        let is_before = |(score, id)| is_before(score, id);
        let (mut node, mut rank) = (&self.root, 0);
        loop {
            match node {
                Node::Inner(children) => {
                    let at = children.partition_point(|child| is_before(child.first)).saturating_sub(1);
                    rank += children[..at].iter().map(|child| child.count).sum::<usize>();
                    node = &children[at].node;
                }
                Node::Leaf(leaf) => return rank + leaf.count(is_before),
            }
        }
    }

    pub(super) fn rank(&self, key: OrderKey<'_>, slots: &Slots) -> usize {
        self.count(|score, id| key.is_after((score, id), slots))
    }

    /// The leaf that has the entry of this rank, and the rank of the leaf's first entry.
    fn leaf_at(&self, rank: usize) -> (&Leaf, usize) {
        debug_assert!(rank < self.length, "there is such an entry");
        let (mut node, mut start) = (&self.root, 0);
        loop {
            match node {
                Node::Inner(children) => {
                    let child = children.iter().find(|child| {
                        let is_here = rank < start + child.count;
                        start += if is_here { 0 } else { child.count };
                        is_here
                    });
                    node = &child.expect("the counts add up").node;
                }
                Node::Leaf(leaf) => return (leaf, start),
            }
        }
    }

    /// The entries of these ranks, which exist.
    pub(super) fn range(&self, ranks: Range<usize>) -> OrderRange<'_> {
        OrderRange { order: self, ranks, front: None, back: None }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.nodes.leaves * size_of::<Leaf>() + self.nodes.inner * (CHILDREN_MAX + 1) * size_of::<Child>()
    }
}

/// Entries of a range of ranks, from both ends. Finds each leaf from the root, which costs little beside the
/// entries of a leaf.
pub(super) struct OrderRange<'a> {
    order: &'a Order,
    ranks: Range<usize>,
    /// The leaf of the next entry at each end, and the rank of its first entry.
    front: Option<(&'a Leaf, usize)>,
    back: Option<(&'a Leaf, usize)>,
}

impl<'a> OrderRange<'a> {
    fn entry(order: &'a Order, place: &mut Option<(&'a Leaf, usize)>, rank: usize) -> (f64, u32) {
        let here = place.filter(|(leaf, start)| (*start..start + leaf.len()).contains(&rank));
        let (leaf, start) = here.unwrap_or_else(|| order.leaf_at(rank));
        *place = Some((leaf, start));
        leaf.entry(rank - start)
    }
}

impl Iterator for OrderRange<'_> {
    type Item = (f64, u32);

    fn next(&mut self) -> Option<(f64, u32)> {
        let rank = self.ranks.next()?;
        Some(OrderRange::entry(self.order, &mut self.front, rank))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }
}

impl DoubleEndedIterator for OrderRange<'_> {
    fn next_back(&mut self) -> Option<(f64, u32)> {
        let rank = self.ranks.next_back()?;
        Some(OrderRange::entry(self.order, &mut self.back, rank))
    }
}
