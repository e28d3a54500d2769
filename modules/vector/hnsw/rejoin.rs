//! Makes every node reachable from the entry again.
//!
//! The rules of tree.rs keep every node reachable, and sweeps maintain this after deletes. If a node is
//! unreachable all the same, which the audits of searches (or `check`) show, this repairs the whole tree at
//! once instead of waiting for the next sweep: it records the parents of all nodes, and gives another parent
//! to nodes that do not descend from the root. Mutations go on meanwhile.

use super::Hnsw;
use super::insert::Occasion;
use super::repair::Bits;
use super::tree::Tree;

/// Slots between two calls of `rest`.
const SLICE: u32 = 256;

impl Hnsw {
    /// Joins all nodes to the tree of kept links. Returns the number of nodes that did not descend from its
    /// root, without counting their own descendants. For a background thread: it calls `rest` between slices,
    /// and gives up, returning `None`, when that returns false.
    pub fn rejoin(&self, rest: &dyn Fn() -> bool) -> Option<usize> {
        self.compact();
        let _sweep = self.repair.hold();
        let (mut tree, is_leaving) = (Tree::default(), Bits::default());
        let end = {
            // No insertion is running: nodes that are inserted later have parents.
            let _gate = self.gate.write();
            let end = self.store.slot_count();
            tree.begin(end);
            tree.set_root(self.root_without(&is_leaving, end));
            end
        };
        if tree.root().is_none() {
            return Some(0);
        }
        let in_slices = |act: &mut dyn FnMut(u32)| {
            (0..end).step_by(SLICE as usize).all(|first| {
                let slots = first..end.min(first + SLICE);
                slots.filter(|&slot| self.is_node(slot, &is_leaving)).for_each(&mut *act);
                rest()
            })
        };
        let is_noted =
            in_slices(&mut |slot| self.graph.for_each_kept(slot, |child| tree.note_parent(child, slot)));
        let mut joined = 0;
        let is_joined = is_noted
            && in_slices(&mut |slot| {
                let mut scratch = self.store.pin();
                if let Some(head) = tree.head_of(slot) {
                    // One link would make the node reachable. Walks of the usual width need more links to
                    // find it.
                    self.link(head, self.graph.level(head), Occasion::Repair, &mut scratch);
                    joined += 1;
                }
                self.join_tree(slot, &mut tree, &is_leaving, &mut scratch);
            });
        is_joined.then_some(joined)
    }

    /// Removes every link to the node of an id, so that no walk finds it: a fault for tests to detect. False
    /// if there is no such node, or it is the entry.
    #[doc(hidden)]
    pub fn plant_unreachable(&self, id: u32) -> bool {
        let _gate = self.gate.write();
        let Some(lost) = self.store.slot_of(id) else { return false };
        let is_entry = self.graph.entry().is_some_and(|entry| entry.slot == lost);
        if is_entry || self.store.is_member(lost) {
            return false;
        }
        let is_leaving = Bits::default();
        for slot in (0..self.store.slot_count()).filter(|&slot| self.is_node(slot, &is_leaving)) {
            for layer in 0..=self.graph.level(slot) {
                let (mut links, mut kept) = (Vec::new(), Vec::new());
                self.graph.for_each_link(slot, layer, |link| links.push(link));
                if layer == 0 {
                    self.graph.for_each_kept(slot, |link| kept.push(link));
                }
                let is_other = |link: &u32| *link != lost;
                links.retain(is_other);
                kept.retain(is_other);
                self.graph.write(slot, layer, links, &kept);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HnswParameters, Metric, SearchRequest, VectorIndex, bytes_of};

    #[test]
    fn unreachable_nodes_are_joined_again() {
        let index = Hnsw::new(HnswParameters { m: 4, ..HnswParameters::new(2, Metric::L2) });
        let vector = |id: u32| [(id % 23) as f32, (id / 23) as f32];
        for id in 0..500 {
            index.insert(id, bytes_of(&vector(id))).expect("finite");
        }
        assert!(index.check().is_sound());
        let lost: Vec<u32> = (77..90).filter(|&id| index.plant_unreachable(id)).collect();
        assert!(lost.len() > 10);
        let check = index.check();
        assert!(
            check.unreachable > 0 && check.unreachable_ids.iter().all(|id| lost.contains(id)),
            "{check:?}"
        );
        let finds = |id: u32| {
            let vector = vector(id);
            let found = index.search(&SearchRequest::new(bytes_of(&vector), 1, 20)).expect("fits");
            found.neighbors[0].id == id
        };
        assert!(!finds(check.unreachable_ids[0]));
        assert_eq!(index.rejoin(&|| false), None, "given up");
        assert_eq!(index.rejoin(&|| true), Some(lost.len()));
        let check = index.check();
        assert!(check.is_sound(), "{check:?}");
        assert!(lost.iter().all(|&id| finds(id)));
        assert_eq!(index.rejoin(&|| true), Some(0));
    }
}
