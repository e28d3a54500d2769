//! Temporary indexes (`TEMPORARY seconds`): those that are dropped after this time without use.
//!
//! A use is a command that names the index, or a change of one of its documents. When the time is over, the
//! engine applies the drop as an effect ([`engramdb_engine::module::Module::due`]), so that replay, snapshots
//! and followers do not depend on a clock. The time of the last use is not logged: after a start the time
//! begins anew.

use crate::index::Index;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Duration;

/// The most indexes that one call of `due` looks at, and that it returns.
const LOOKED_AT_MAX: usize = 256;
const DUE_MAX: usize = 16;

/// The temporary ones of all indexes.
#[derive(Default)]
pub struct TemporaryIndexes {
    ids: BTreeSet<u64>,
    /// The last id that was looked at.
    last: u64,
}

impl TemporaryIndexes {
    pub fn add(&mut self, index: &Index) {
        if index.definition.options.temporary_s.is_some() {
            self.ids.insert(index.definition.id);
        }
    }

    pub fn remove(&mut self, index: &Index) {
        self.ids.remove(&index.definition.id);
    }

    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.ids.iter().copied()
    }

    /// Some ids of indexes that were not used for their time. Each call looks at some indexes, in turn.
    pub fn due<'i>(&mut self, now: Duration, index: impl Fn(u64) -> &'i Index) -> Vec<u64> {
        let after = self.ids.range((Bound::Excluded(self.last), Bound::Unbounded));
        let looked_at = after.chain(self.ids.range(..=self.last)).take(LOOKED_AT_MAX);
        let (mut due, mut last) = (Vec::new(), self.last);
        for &id in looked_at {
            let index = index(id);
            if index
                .definition
                .options
                .temporary_s
                .is_some_and(|seconds| index.last_use.is_over(seconds, now))
            {
                due.push(id);
            }
            if due.len() == DUE_MAX {
                break;
            }
            last = id;
        }
        self.last = last;
        due
    }
}
