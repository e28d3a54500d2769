//! Gates of replies: a reply waits for a batch of the log, which may not have its LSN yet.
//!
//! The LSN is unknown until the log has taken the batch. Until then a batch has a number within its *run*,
//! which are the batches that are submitted together. A [`ReplyGate`] is an LSN or such a number;
//! [`Submitted`] converts the number to the LSN.

use crate::log::Lsn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A batch that a reply waits for: its LSN, or its number in the open run.
///
/// Gates are ordered like the batches in the log: those of the open run come after all submitted ones. So
/// waiting for the larger of two gates covers both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyGate(u64);

/// The bit that is set in gates of the open run. LSNs never reach it.
const OPEN: u64 = 1 << 63;
const _: () = assert!(Lsn::END.0 < OPEN, "no LSN looks like a batch of the open run");

impl ReplyGate {
    /// The gate of replies that need not wait.
    pub const NONE: ReplyGate = ReplyGate(0);

    /// The batch of this number, from 1, in the open run.
    pub(crate) fn open(number: u64) -> ReplyGate {
        assert!(number > 0 && number < OPEN, "batches of a run are numbered from 1");
        ReplyGate(OPEN | number)
    }

    /// True if the batch is not submitted yet.
    #[inline]
    pub fn is_open(self) -> bool {
        self.0 & OPEN != 0
    }

    /// # Panics
    /// If the batch has no LSN yet.
    #[inline]
    pub fn lsn(self) -> Lsn {
        assert!(!self.is_open(), "the batch was not submitted");
        Lsn(self.0)
    }
}

impl From<Lsn> for ReplyGate {
    #[inline]
    fn from(lsn: Lsn) -> ReplyGate {
        assert!(lsn < Lsn::END, "no log is that long");
        ReplyGate(lsn.0)
    }
}

impl PartialEq<Lsn> for ReplyGate {
    fn eq(&self, lsn: &Lsn) -> bool {
        *self == ReplyGate::from(*lsn)
    }
}

impl PartialOrd<Lsn> for ReplyGate {
    fn partial_cmp(&self, lsn: &Lsn) -> Option<std::cmp::Ordering> {
        self.partial_cmp(&ReplyGate::from(*lsn))
    }
}

/// The LSNs of the batches of a submitted run: dense, in the order of their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Submitted {
    first: Lsn,
    batches: u64,
}

impl Submitted {
    pub(crate) fn new(first: Lsn, batches: u64) -> Submitted {
        assert!(batches > 0, "a run that was submitted has batches");
        assert!(first > Lsn(0), "batches are numbered from 1");
        Submitted { first, batches }
    }

    /// The last LSN.
    pub fn last(self) -> Lsn {
        Lsn(self.first.0 + self.batches - 1)
    }

    /// The LSN for a gate, which may be a batch of this run.
    ///
    /// # Panics
    /// If the gate is of another run.
    #[inline]
    pub fn resolve(self, gate: ReplyGate) -> Lsn {
        if !gate.is_open() {
            return Lsn(gate.0);
        }
        let number = gate.0 & !OPEN;
        assert!((1..=self.batches).contains(&number), "the gate is of another run");
        Lsn(self.first.0 + number - 1)
    }
}

/// A gate that is written under the keyspace's write lock: the last batch that changed state other than a
/// key, for example an index of a module. [`OpenBatch::mark`] sets it.
#[derive(Debug, Default)]
pub struct Hazard(AtomicU64);

impl Hazard {
    /// The gate of replies that show it.
    #[inline]
    pub fn gate(&self) -> ReplyGate {
        ReplyGate(self.0.load(Ordering::Relaxed))
    }

    /// Returns the previous gate.
    pub(crate) fn set(&self, gate: ReplyGate) -> ReplyGate {
        let before = self.gate();
        self.0.store(gate.0, Ordering::Relaxed);
        before
    }

    /// Sets the gate unless it was set before. True if this call set it.
    pub(crate) fn set_first(&self, gate: ReplyGate) -> bool {
        self.0.compare_exchange(0, gate.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn resolve(&self, submitted: Submitted) {
        let gate = self.gate();
        if gate.is_open() {
            self.set(submitted.resolve(gate).into());
        }
    }
}

/// The open batch, for modules.
pub struct OpenBatch<'h> {
    gate: ReplyGate,
    hazards: &'h mut Vec<Arc<Hazard>>,
}

impl<'h> OpenBatch<'h> {
    /// `hazards` collects hazards that were not open before; each gets the batch's LSN when that is known.
    pub(crate) fn new(gate: ReplyGate, hazards: &'h mut Vec<Arc<Hazard>>) -> OpenBatch<'h> {
        OpenBatch { gate, hazards }
    }

    /// Records that this batch changes the state that the hazard protects: replies that show this state wait
    /// for the batch.
    pub fn mark(&mut self, hazard: &Arc<Hazard>) {
        if !hazard.set(self.gate).is_open() {
            self.hazards.push(hazard.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_the_open_run_come_after_all_that_were_submitted() {
        let gates = [
            ReplyGate::NONE,
            Lsn(1).into(),
            Lsn(Lsn::END.0 - 1).into(),
            ReplyGate::open(1),
            ReplyGate::open(2),
        ];
        assert!(gates.is_sorted());
        let submitted = Submitted::new(Lsn(7), 2);
        assert_eq!(
            gates[2..].iter().map(|&gate| submitted.resolve(gate).0).collect::<Vec<_>>(),
            [Lsn::END.0 - 1, 7, 8]
        );
        assert_eq!(submitted.last(), Lsn(8));
    }

    #[test]
    #[should_panic(expected = "the gate is of another run")]
    fn a_gate_of_another_run_is_not_resolved() {
        Submitted::new(Lsn(7), 2).resolve(ReplyGate::open(3));
    }

    #[test]
    #[should_panic(expected = "the batch was not submitted")]
    fn a_gate_of_the_open_run_has_no_lsn() {
        ReplyGate::open(1).lsn();
    }
}
