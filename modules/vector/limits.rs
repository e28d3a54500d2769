//! The limits of a search other than its `k`: a filter and a deadline.

use crate::Filter;

/// Distances computed between two checks of the deadline: some tens of microseconds.
pub(crate) const DISTANCES_STRIDE: usize = 256;
/// Nodes examined between two checks of the deadline: as long, for nodes of 32 links.
pub(crate) const NODES_STRIDE: usize = 64;

/// What a search may return, and how long it may run.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limits<'a> {
    pub filter: Option<&'a dyn Filter>,
    pub deadline: Option<&'a dyn Fn() -> bool>,
}

impl Limits<'_> {
    /// True when the time is over; checks the deadline only at every `stride`-th step.
    #[inline(always)]
    pub fn expired(&self, steps: usize, stride: usize) -> bool {
        match self.deadline {
            Some(over) => steps.is_multiple_of(stride) && over(),
            None => false,
        }
    }
}
