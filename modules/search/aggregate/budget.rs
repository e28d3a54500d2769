//! The memory of one aggregation, which is bounded: groups, sorted rows, lists of reducers, the reply's rows.

use crate::error::{Kind, SearchError};

/// Counts bytes, and refuses those beyond a limit.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBudget {
    used: usize,
    limit: usize,
}

impl MemoryBudget {
    pub fn new(limit: usize) -> MemoryBudget {
        MemoryBudget { used: 0, limit }
    }

    pub fn used(&self) -> usize {
        self.used
    }

    /// Counts bytes that were taken.
    #[inline]
    pub fn take(&mut self, bytes: usize) -> Result<(), SearchError> {
        self.used += bytes;
        if self.used > self.limit {
            return Err(Kind::AggregateMemory.with([self.limit.to_string().into()]));
        }
        Ok(())
    }

    pub fn give_back(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}
