//! Workloads: what happens to the rows of a set before the index is searched.

use crate::random::SplitMix64;

/// How often `Workload::Replace` writes each id.
const REPLACEMENTS: u32 = 10;
/// `Workload::DeleteMost` keeps one id in this many.
const KEPT_ONE_IN: u64 = 20;
/// The random stream of the choice of ids to keep.
const KEEP_STREAM: u64 = 40;

/// An order of inserts, replacements, removals and restarts. After each of them, every id that is live has
/// the row of its own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Workload {
    /// Each row once, in order.
    Insert,
    /// Each row once; then all but 5 percent are removed, in order.
    DeleteMost,
    /// Each id gets ten rows one after another, all of this set: in round r id i gets another row of the set,
    /// and in the last round its own.
    Replace,
    /// All rows are inserted, all are removed, and all are inserted again.
    Reload,
    /// Each row once; then the index is saved and loaded.
    Restart,
}

/// One step of a workload. Ids and rows are both numbered from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadStep {
    /// Insert, or replace.
    Put {
        id: u32,
        row: u32,
    },
    Remove {
        id: u32,
    },
    /// Save the index, load it, and continue with the loaded one.
    Restart,
}

impl Workload {
    pub const ALL: [Workload; 5] =
        [Workload::Insert, Workload::DeleteMost, Workload::Replace, Workload::Reload, Workload::Restart];

    pub fn name(self) -> &'static str {
        match self {
            Workload::Insert => "insert",
            Workload::DeleteMost => "delete-most",
            Workload::Replace => "replace",
            Workload::Reload => "reload",
            Workload::Restart => "restart",
        }
    }

    /// The steps over a set of `rows` rows.
    pub fn steps(self, rows: u32, seed: u64) -> Vec<WorkloadStep> {
        let put_own = |id| WorkloadStep::Put { id, row: id };
        let mut steps: Vec<WorkloadStep> = match self {
            Workload::Replace => Vec::new(),
            _ => (0..rows).map(put_own).collect(),
        };
        match self {
            Workload::Insert => {}
            Workload::DeleteMost => {
                steps
                    .extend((0..rows).filter(|&id| !is_kept(id, seed)).map(|id| WorkloadStep::Remove { id }));
            }
            Workload::Replace => {
                // A stride that does not divide the count makes the earlier rows of an id rows from other
                // parts of the set.
                let stride = rows / REPLACEMENTS + 1;
                let of_round = |round: u32| {
                    let shift =
                        (u64::from(REPLACEMENTS - 1 - round) * u64::from(stride)) % u64::from(rows.max(1));
                    (0..rows).map(move |id| WorkloadStep::Put {
                        id,
                        row: ((u64::from(id) + shift) % u64::from(rows)) as u32,
                    })
                };
                steps.extend((0..REPLACEMENTS).flat_map(of_round));
            }
            Workload::Reload => {
                steps.extend((0..rows).map(|id| WorkloadStep::Remove { id }));
                steps.extend((0..rows).map(put_own));
            }
            Workload::Restart => steps.push(WorkloadStep::Restart),
        }
        steps
    }

    /// The ids that are live at the end, ascending.
    pub fn live(self, rows: u32, seed: u64) -> Vec<u32> {
        (0..rows).filter(|&id| self != Workload::DeleteMost || is_kept(id, seed)).collect()
    }
}

fn is_kept(id: u32, seed: u64) -> bool {
    id == 0 || SplitMix64::new(seed, KEEP_STREAM, u64::from(id)).below(KEPT_ONE_IN) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn each_workload_ends_with_the_live_ids_having_their_own_rows() {
        for workload in Workload::ALL {
            let mut held = BTreeMap::new();
            for step in workload.steps(400, 3) {
                match step {
                    WorkloadStep::Put { id, row } => _ = held.insert(id, row),
                    WorkloadStep::Remove { id } => {
                        assert!(held.remove(&id).is_some(), "{workload:?} removes what is there")
                    }
                    WorkloadStep::Restart => {}
                }
            }
            assert!(held.iter().all(|(id, row)| id == row), "{workload:?}");
            assert_eq!(held.into_keys().collect::<Vec<_>>(), workload.live(400, 3), "{workload:?}");
        }
    }

    #[test]
    fn replacement_writes_ten_different_rows_to_an_id() {
        let rows = Workload::Replace.steps(1_000, 0).into_iter().filter_map(|step| match step {
            WorkloadStep::Put { id: 7, row } => Some(row),
            _ => None,
        });
        let mut rows: Vec<u32> = rows.collect();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), 10);
    }

    #[test]
    fn five_percent_are_kept() {
        let kept = Workload::DeleteMost.live(10_000, 1).len();
        assert!((400..600).contains(&kept), "{kept}");
    }
}
