//! A tree of links that pruning never removes. It keeps every node reachable by searches.
//!
//! Pruning considers the links of one node and what is near that node. It can remove the last path to another
//! node, or to a whole group that is linked only within itself, and then no search of any width finds them.
//! So each node has a *parent*: a neighbour whose link to it is *kept* (the top bit of a link in layer 0).
//! The rules:
//!
//! 1. *Insert.* When a new node is linked, it gets a parent among its neighbours. The parent is reachable, so
//!    the node is.
//! 2. *Entry.* A node that becomes the entry keeps a link to the previous entry.
//! 3. *Delete.* Deleted nodes stay as a way through until a sweep has ended (repair.rs). The sweep records
//!    each node's parent. A node whose parent is about to be freed, or that does not descend from the root of
//!    the tree, gets another parent: a neighbour that does descend from the root.
//!
//! Invariant, while no insert is running: every node of the graph can be reached from the entry over kept
//! links (and so over links, whatever else is pruned). check.rs verifies it.
//!
//! A node has one child on average, but a few nodes in dense regions would become the parent of many.
//! Children are limited to a part of the links; beyond that, they are moved further down the tree.

use super::Hnsw;
use super::graph::Entry;
use super::insert::Occasion;
use super::repair::Bits;
use crate::candidates::Candidate;
use crate::scratch::Scratch;
use crate::store::State;

/// A node keeps the links to its children up to this fraction of its capacity.
const CHILDREN_SHARE: usize = 4;
/// A parent is looked for among the neighbours with fewer children than the first number, then among those
/// with fewer than the next.
const CHILDREN_FEW: [usize; 3] = [1, 2, 4];
/// The maximum length of the path down the tree to a node with room. With two children per node (M is at
/// least 4), a tree of all slots is not that deep; the path ends earlier, at nodes without children.
const DESCENT_MAX: usize = 64;

/// What a sweep knows about the tree.
#[derive(Default)]
pub(super) struct Tree {
    /// Every node must descend from this one. `None` if no node is left.
    root: Option<Entry>,
    /// By slot: the parent plus one, or 0 if no parent was found.
    parents: Vec<u32>,
    /// Slots that are known to descend from the root.
    joined: Bits,
    /// Slots on the path up from the slot that is being examined.
    path: Vec<u32>,
    on_path: Bits,
}

/// How a path up over parents ends.
enum Top {
    /// At a node that descends from the root.
    Joined,
    /// At a node without a parent, or in a cycle.
    Head(u32),
}

impl Tree {
    /// Starts a sweep over the slots below `end`.
    pub fn begin(&mut self, end: u32) {
        self.root = None;
        self.parents.clear();
        self.parents.resize(end as usize, 0);
        self.joined.begin(end);
        self.on_path.begin(end);
    }

    /// Frees the memory.
    pub fn end(&mut self) {
        *self = Tree::default();
    }

    pub fn root(&self) -> Option<Entry> {
        self.root
    }

    /// Newer slots are ignored: they have parents.
    pub fn note_parent(&mut self, child: u32, parent: u32) {
        if let Some(known) = self.parents.get_mut(child as usize) {
            *known = parent + 1;
        }
    }

    /// Whether this is the parent of the child, as far as the sweep knows. A child can have had several. The
    /// root has none: a node that has become the entry since then may lead to it.
    pub fn may_be_parent(&self, parent: u32, child: u32) -> bool {
        let known = self.parents.get(child as usize).copied().unwrap_or(0);
        known == 0 || known == parent + 1 || self.root.is_some_and(|root| root.slot == child)
    }

    pub fn set_root(&mut self, root: Option<Entry>) {
        self.root = root;
        root.iter().for_each(|root| self.joined.set(root.slot));
    }

    /// Leaves the path up from a slot, that slot included, in `path`.
    fn climb(&mut self, slot: u32) -> Top {
        self.path.clear();
        let mut at = slot;
        let top = loop {
            if self.joined.has(at) {
                break Top::Joined;
            }
            if self.on_path.has(at) {
                break Top::Head(at);
            }
            self.path.push(at);
            self.on_path.set(at);
            match self.parents.get(at as usize).copied().unwrap_or(0).checked_sub(1) {
                Some(parent) => at = parent,
                None => break Top::Head(at),
            }
        };
        self.path.iter().for_each(|&slot| self.on_path.clear(slot));
        top
    }

    /// The node at the top of the path up from a slot, if that node does not descend from the root.
    pub fn head_of(&mut self, slot: u32) -> Option<u32> {
        match self.climb(slot) {
            Top::Joined => None,
            Top::Head(head) => Some(head),
        }
    }

    /// Whether the slot descends from the root.
    fn is_joined(&mut self, slot: u32) -> bool {
        let is_joined = matches!(self.climb(slot), Top::Joined);
        if is_joined {
            self.path.iter().for_each(|&slot| self.joined.set(slot));
        }
        is_joined
    }
}

impl Hnsw {
    fn children(&self, node: u32) -> usize {
        let mut count = 0;
        self.graph.for_each_kept(node, |_| count += 1);
        count
    }

    fn has_room_for_child(&self, node: u32) -> bool {
        self.children(node) < self.graph.capacity(0) / CHILDREN_SHARE
    }

    fn has_link(&self, from: u32, to: u32) -> bool {
        let mut has_link = false;
        self.graph.for_each_link(from, 0, |link| has_link |= link == to);
        has_link
    }

    /// Gives a linked node a parent among its neighbours (nearest first): the nearest that has a link to it
    /// already and has few children. A kept link displaces one that the heuristic would choose, so children
    /// are spread over nodes.
    pub(super) fn find_parent(&self, slot: u32, neighbors: &[Candidate], scratch: &mut Scratch) {
        let Some(nearest) = neighbors.first() else { return };
        let few =
            CHILDREN_FEW.into_iter().flat_map(|few| neighbors.iter().map(move |neighbor| (few, neighbor)));
        let with_few = few.into_iter().find(|(few, neighbor)| {
            self.has_link(neighbor.slot(), slot) && self.children(neighbor.slot()) < *few
        });
        let with_room = || neighbors.iter().find(|neighbor| self.has_room_for_child(neighbor.slot()));
        match with_few.map(|(_, parent)| parent).or_else(with_room) {
            Some(parent) => {
                let link = Candidate::new(parent.distance, slot);
                self.add_link(parent.slot(), 0, link, true, scratch);
            }
            None => {
                let parent = self.descendant_with_room(nearest.slot(), slot, |_, _| true);
                self.keep_link(parent, slot, scratch);
            }
        }
    }

    /// Follows kept links that `is_child` accepts (parent, child) until it finds a node with room for another
    /// child. `number` selects the path, so that paths differ.
    fn descendant_with_room(&self, from: u32, number: u32, is_child: impl Fn(u32, u32) -> bool) -> u32 {
        let (mut at, mut bits) = (from, number);
        let mut children = Vec::new();
        for _ in 0..DESCENT_MAX {
            children.clear();
            self.graph.for_each_kept(at, |child| children.push(child));
            let has_room = children.len() < self.graph.capacity(0) / CHILDREN_SHARE;
            // Avoid nodes that may be about to be freed.
            children.retain(|&child| {
                child != number && is_child(at, child) && self.store.state(child) == State::Live
            });
            if has_room || children.is_empty() {
                break;
            }
            bits = bits.wrapping_mul(2_654_435_761).rotate_left(11);
            at = children[bits as usize % children.len()];
        }
        at
    }

    /// Adds a kept link.
    pub(super) fn keep_link(&self, from: u32, to: u32, scratch: &mut Scratch) {
        let by_codes = self.store.links_by_codes(from, to);
        let link = self.near_candidate(&self.linking_query(from, by_codes), to);
        self.add_link(from, 0, link, true, scratch);
    }

    /// Ensures that a node descends from the root of the tree. `is_leaving` marks the slots that are about to
    /// be freed.
    pub(super) fn join_tree(&self, slot: u32, tree: &mut Tree, is_leaving: &Bits, scratch: &mut Scratch) {
        if let Top::Head(head) = tree.climb(slot) {
            let path = std::mem::take(&mut tree.path);
            self.attach(head, tree, is_leaving, scratch);
            tree.path = path;
        }
        tree.path.iter().for_each(|&slot| tree.joined.set(slot));
    }

    /// Gives a parent to a node that has none, or none that descends from the root.
    fn attach(&self, head: u32, tree: &mut Tree, is_leaving: &Bits, scratch: &mut Scratch) {
        if self.attach_to_neighbor(head, tree, is_leaving, scratch) {
            return;
        }
        // All its neighbours descend from the node itself, or are leaving: find others from the entry.
        self.link(head, self.graph.level(head), Occasion::Repair, scratch);
        if !self.attach_to_neighbor(head, tree, is_leaving, scratch)
            && let Some(root) = tree.root.filter(|root| root.slot != head)
        {
            // A child that the sweep does not know as such may in turn descend from `head`.
            let is_known = |at, child: u32| tree.parents.get(child as usize) == Some(&(at + 1));
            let parent = self.descendant_with_room(root.slot, head, is_known);
            self.keep_link(parent, head, scratch);
            tree.note_parent(head, parent);
        }
    }

    /// False if no neighbour qualifies.
    fn attach_to_neighbor(
        &self,
        head: u32,
        tree: &mut Tree,
        is_leaving: &Bits,
        scratch: &mut Scratch,
    ) -> bool {
        let mut neighbors = std::mem::take(&mut scratch.fresh);
        neighbors.clear();
        self.graph.for_each_link(head, 0, |neighbor| neighbors.push(neighbor));
        neighbors.retain(|&neighbor| {
            self.store.state(neighbor) == State::Live && !is_leaving.has(neighbor) && tree.is_joined(neighbor)
        });
        let query = self.linking_query(head, self.store.links_by_codes(head, head));
        let distances = neighbors.iter().map(|&neighbor| self.near_candidate(&query, neighbor));
        let parent = distances.filter(|candidate| self.has_room_for_child(candidate.slot())).min();
        scratch.fresh = neighbors;
        if let Some(parent) = parent {
            self.keep_link(parent.slot(), head, scratch);
            tree.note_parent(head, parent.slot());
        }
        parent.is_some()
    }
}
