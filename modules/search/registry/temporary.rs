//! Temporary indexes (`TEMPORARY seconds`): those that are dropped after this time without use.
//!
//! A use is a command that names the index, or a change of one of its documents. When the time is over, the
//! engine applies the drop as an effect ([`engramdb_engine::module::Module::due`]), so that replay, snapshots
//! and followers do not depend on a clock. The time of the last use is not logged: after a start,
//! and where a follower takes the lead, the time begins anew. An index that is being filled is in use.

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
            let is_due = |seconds| index.last_use.is_over(seconds, now) && !index.is_backfilling();
            if index.definition.options.temporary_s.is_some_and(is_due) {
                due.push(id);
            }
            // The next call begins with this one, which is gone by then, unless the log had no room for its
            // drop.
            if due.len() == DUE_MAX {
                break;
            }
            last = id;
        }
        self.last = last;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Definition;
    use crate::schema::create::definition_of;

    #[test]
    fn an_index_that_is_filled_is_not_due() {
        let definition = definition_of("FT.CREATE i TEMPORARY 10 SCHEMA n NUMERIC");
        let index = Index::new(Definition { id: 3, ..definition }, false);
        let mut temporary = TemporaryIndexes::default();
        temporary.add(&index);
        let now = Duration::from_secs(10);
        assert!(temporary.due(now, |_| &index).is_empty());
        index.finish_backfill();
        assert!(temporary.due(now - Duration::from_millis(1), |_| &index).is_empty());
        assert_eq!(temporary.due(now, |_| &index), [3]);
        assert_eq!(temporary.due(now, |_| &index), [3], "the log had no room");
        temporary.remove(&index);
        assert!(temporary.due(now, |_| &index).is_empty());
    }
}
