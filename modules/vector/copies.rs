//! Documents with equal vectors share one node of the graph, called a *place*.
//!
//! Empty texts, default pictures and repeated chunks produce equal vectors, often hundreds of them. If each
//! of them were a node, they would link to one another, which uses up their links, and a search that reaches
//! them would fill its beam with them and find nothing beyond. So the first of them becomes a node, the
//! place, and the others become its *members*: members have slots and ids, and no links. A search that finds
//! a place returns the rows of its members as well.
//!
//! "Equal" allows for the difference between two computations of the same embedding: no component differs by
//! more than 2^-20 of the largest one. For the cosine distance, vectors of length one are compared. The
//! distance of a member whose vector is not equal byte for byte is computed from its own vector.
//!
//! Invariants, which hold whenever the lock is free:
//! - A place is live and in the graph as long as it has members, even after its own id was removed (it is
//!   then *headless*): its vector represents theirs.
//! - A member belongs to exactly one place and has no links.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::Element;
use crate::kernels::elements::is_plain;

/// Relative to the largest component.
const TOLERANCE: f32 = 1.0 / (1 << 20) as f32;

/// The slot that already has the vector to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub slot: u32,
    /// The vectors are equal byte for byte; otherwise they are equal within `TOLERANCE`.
    pub is_equal: bool,
}

/// The slots to delete after a slot has lost its id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ToDelete {
    /// The slot itself.
    pub slot: bool,
    /// The place of the slot, if this was its last member and its own id was removed before.
    pub place: Option<u32>,
}

/// The members of one place: ids with their slots, in ascending order. An id can occur twice, while a copy of
/// its vector replaces it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Members whose vectors are equal to that of the place byte for byte.
    equal: BTreeSet<(u32, u32)>,
    unequal: BTreeSet<(u32, u32)>,
}

impl Group {
    pub fn equal(&self) -> impl Iterator<Item = (u32, u32)> {
        self.equal.iter().copied()
    }

    pub fn unequal(&self) -> impl Iterator<Item = (u32, u32)> {
        self.unequal.iter().copied()
    }

    pub fn len(&self) -> usize {
        self.equal.len() + self.unequal.len()
    }

    fn of(&mut self, is_equal: bool) -> &mut BTreeSet<(u32, u32)> {
        if is_equal { &mut self.equal } else { &mut self.unequal }
    }
}

#[derive(Default)]
pub(crate) struct Groups {
    by_place: HashMap<u32, Group>,
    /// By the slot of a member: its place and its id.
    place_of: HashMap<u32, (Place, u32)>,
    has_unequal: bool,
}

impl Groups {
    pub fn of(&self, place: u32) -> Option<&Group> {
        self.by_place.get(&place)
    }

    pub fn place_of(&self, member: u32) -> Option<u32> {
        self.place_of.get(&member).map(|(place, _)| place.slot)
    }

    /// Precondition: the slot is neither a member nor a place, and `place` is not a member.
    pub fn join(&mut self, place: Place, slot: u32, id: u32) {
        self.by_place.entry(place.slot).or_default().of(place.is_equal).insert((id, slot));
        self.has_unequal |= !place.is_equal;
        let before = self.place_of.insert(slot, (place, id));
        assert_eq!(before, None, "a slot is a member once");
    }

    /// Removes a member; returns its place, and whether that has no members left.
    pub fn leave(&mut self, slot: u32) -> Option<(u32, bool)> {
        let (place, id) = self.place_of.remove(&slot)?;
        let group = self.by_place.get_mut(&place.slot).expect("the place of a member has a group");
        assert!(group.of(place.is_equal).remove(&(id, slot)), "a member is in the group of its place");
        let is_last = group.len() == 0;
        if is_last {
            self.by_place.remove(&place.slot);
        }
        Some((place.slot, is_last))
    }
}

/// All groups of an index.
#[derive(Default)]
pub(crate) struct Copies {
    groups: RwLock<Groups>,
    /// The number of members. Most indexes have none, and their searches read nothing but this.
    members: AtomicUsize,
    /// True once there was a member whose vector is not equal to that of its place byte for byte. Never
    /// reset.
    has_unequal: AtomicBool,
}

impl Copies {
    pub fn is_empty(&self) -> bool {
        self.members.load(Ordering::Acquire) == 0
    }

    /// True if the distance of a member may differ from that of its place.
    pub fn has_unequal(&self) -> bool {
        self.has_unequal.load(Ordering::Acquire)
    }

    pub fn read<T>(&self, look: impl FnOnce(&Groups) -> T) -> T {
        look(&self.groups.read())
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut Groups) -> T) -> T {
        let mut groups = self.groups.write();
        let changed = change(&mut groups);
        self.members.store(groups.place_of.len(), Ordering::Release);
        if groups.has_unequal {
            self.has_unequal.store(true, Ordering::Release);
        }
        changed
    }

    /// Members with their places, in the order of members.
    pub fn pairs(&self) -> Vec<(u32, Place)> {
        let groups = self.groups.read();
        let mut pairs: Vec<_> =
            groups.place_of.iter().map(|(&member, &(place, _))| (member, place)).collect();
        pairs.sort_unstable_by_key(|&(member, _)| member);
        pairs
    }

    pub fn bytes(&self) -> usize {
        let groups = self.groups.read();
        // One hash table entry and one tree entry per member, both half full.
        5 * groups.place_of.len() * size_of::<(u32, u32)>() + groups.by_place.len() * 2 * size_of::<Group>()
    }
}

/// Whether two vectors are equal in the sense of this module. `scales` are the factors that vectors are
/// multiplied by: for the cosine distance, one over their lengths. Returns `None` if they are not equal, else
/// whether they are equal byte for byte. Allocates, so call it only where the distance is small enough
/// (`squares_of_copies`).
pub(crate) fn compare(element: Element, [a, b]: [&[u8]; 2], scales: [f32; 2]) -> Option<bool> {
    if a == b {
        return Some(true);
    }
    let [mut x, mut y] = [Vec::new(), Vec::new()];
    let (widen, scales): (fn(_, _, &mut _), _) = match scales.into_iter().all(is_plain) {
        true => (Element::widen, scales),
        false => (Element::widen_direction, [1.0; 2]),
    };
    widen(element, a, &mut x);
    widen(element, b, &mut y);
    let largest = x.iter().fold(0.0_f32, |largest, x| largest.max(x.abs())) * scales[0];
    let is_alike = |(x, y): (&f32, &f32)| (x * scales[0] - y * scales[1]).abs() <= TOLERANCE * largest;
    x.iter().zip(&y).all(is_alike).then_some(false)
}

/// The largest squared Euclidean distance of two vectors that `compare` finds equal, relative to the squared
/// length of one of them.
pub(crate) fn squares_of_copies(dimension: usize) -> f32 {
    TOLERANCE * TOLERANCE * dimension as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes_of;

    #[test]
    fn what_counts_as_the_same_vector() {
        let a: Vec<f32> = (0..40).map(|i| (i as f32 * 0.37).sin()).collect();
        let moved = |by: f32| a.iter().map(|x| x + by).collect::<Vec<f32>>();
        let times = |by: f32| a.iter().map(|x| x * by).collect::<Vec<f32>>();
        let compared =
            |b: &[f32], scale: f32| compare(Element::F32, [bytes_of(&a), bytes_of(b)], [1.0, scale]);
        assert_eq!(compared(&a, 1.0), Some(true));
        assert_eq!(compared(&moved(5e-7), 1.0), Some(false));
        assert_eq!(compared(&moved(1e-5), 1.0), None);
        assert_eq!(compared(&times(4.0), 0.25), Some(false));
        assert_eq!(compared(&times(4.0), 1.0), None);
        let mut late = a.clone();
        late[39] += 1e-3;
        assert_eq!(compared(&late, 1.0), None, "the last component counts");
        let zeros = [0.0; 40];
        assert_eq!(compare(Element::F32, [bytes_of(&zeros), bytes_of(&a)], [1.0; 2]), None);
        assert_eq!(compare(Element::I8, [&[1, 2], &[1, 3]], [1.0; 2]), None);
    }

    #[test]
    fn a_group_is_in_the_order_of_ids_and_ends_with_its_last_member() {
        let copies = Copies::default();
        let place = Place { slot: 7, is_equal: true };
        for (slot, id) in [(1, 30), (2, 10), (3, 20)] {
            copies.change(|groups| groups.join(place, slot, id));
        }
        let ids =
            || copies.read(|groups| groups.of(7).map(|g| g.equal().map(|(id, _)| id).collect::<Vec<_>>()));
        assert_eq!(ids(), Some(vec![10, 20, 30]));
        assert_eq!(copies.pairs(), [(1, place), (2, place), (3, place)]);
        assert_eq!(copies.change(|groups| groups.leave(2)), Some((7, false)));
        assert_eq!(copies.change(|groups| groups.leave(2)), None);
        assert_eq!(copies.change(|groups| groups.leave(1)), Some((7, false)));
        assert_eq!(copies.change(|groups| groups.leave(3)), Some((7, true)));
        assert!(copies.is_empty() && ids().is_none());
    }
}
