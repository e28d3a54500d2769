//! The hook: all consequences of a change of the store, called where effects are applied.
//!
//! [`Store`](super::Store) applies an effect in one function, in execution, in replay and while it
//! follows a log. Only this function calls the hook ([`Hook::applied`]). It updates hazards (the gates of
//! readers), WATCH, keys that clients wait for, and the modules' indexes. [`Notices`] of the change follow.
//!
//! # The interface to the log
//!
//! The LSN of a batch is unknown before `submit` (law 7). So the hook records a [`ReplyGate`] that is *open*:
//! the number of the batch, from 1, among those that are not submitted yet (the *run*).
//!
//! 1. [`Hook::applied`], called for each effect, marks the changed state with the open gate, and collects the
//!    marked places. A place is collected once in a run, so the list is bounded by the number of places; it
//!    keeps its memory.
//! 2. [`Hook::end_batch`] ends a batch: the next effect belongs to the next number. EXEC and later commands
//!    of the run read open gates like any other gate, and so wait for the open batch (gates are ordered, see
//!    [`ReplyGate`]).
//! 3. [`Hook::submitted`] is called when the log has taken all batches of the run, under the same hold of the
//!    write lock. It replaces open gates by LSNs, and returns the [`Submitted`] with which the run resolves
//!    the gates of its replies. The lock may be released only after that: outside of a hold of the write lock
//!    no gate is open.
//!
//! A run of writes calls `end_batch` for each command and `submitted` once for all; its replies are sealed
//! after that. If a command parks, the run is submitted early, because the gate of the parked client's
//! timeout must be an LSN.

use crate::effect::{Effect, Record};
use crate::gate::{Hazard, OpenBatch, ReplyGate, Submitted};
use crate::keyspace::{Housing, Keyspace};
use crate::log::Lsn;
use crate::module::{Applied, Modules};
use crate::store::awaited::{AwaitedKeys, FedKeys};
use crate::store::hazard::Hazards;
use crate::store::notices::Notices;
use crate::store::watch::{Watch, WatchedKeys};
use crate::table::HashedKey;
use std::sync::Arc;

/// The state that changes update. Written under the keyspace's write lock only.
#[derive(Default)]
pub(crate) struct Hook {
    pub(crate) hazards: Hazards,
    pub(crate) watched: WatchedKeys,
    pub(crate) awaited: Arc<AwaitedKeys>,
    /// Awaited keys that have changed, and whose clients must be served.
    pub(crate) fed: FedKeys,
    pub(crate) notices: Notices,
    /// How many keys, elements and fields commands have changed: Redis's count of changes.
    pub(crate) changes: u64,
    open: OpenRun,
}

/// The state changed by batches that are not submitted yet.
#[derive(Default)]
struct OpenRun {
    /// The number of ended batches.
    ended: u64,
    /// True if the open batch has effects.
    has_effects: bool,
    /// Places of `Hazards`.
    places: Vec<u32>,
    watches: Vec<Arc<Watch>>,
    hazards: Vec<Arc<Hazard>>,
}

impl OpenRun {
    fn gate(&self) -> ReplyGate {
        ReplyGate::open(self.ended + 1)
    }

    fn batch(&mut self) -> OpenBatch<'_> {
        OpenBatch::new(self.gate(), &mut self.hazards)
    }
}

impl Hook {
    /// The open batch, for a module that applies its own effect.
    pub(crate) fn batch(&mut self) -> OpenBatch<'_> {
        self.open.batch()
    }

    /// Called after each effect, with the changed keyspace. `key` is that of the effect.
    #[inline]
    pub(crate) fn applied(
        &mut self,
        keyspace: &mut Keyspace,
        modules: &mut Modules,
        applied: &Applied<'_>,
        key: Option<HashedKey<'_>>,
    ) {
        let record = applied.record;
        let gate = self.open.gate();
        self.open.has_effects = true;
        self.mark(record, key, gate);
        self.watched.touched(record, gate, &mut self.open.watches);
        self.awaited.touched(record, &mut self.fed);
        if !matches!(record.effect, Effect::Module { key: None, .. }) {
            modules.observe(&mut Housing::of(keyspace), applied, &mut self.open.batch());
        }
    }

    #[inline]
    fn mark(&mut self, record: &Record<'_>, key: Option<HashedKey<'_>>, gate: ReplyGate) {
        let Hook { hazards, open, .. } = self;
        match key {
            // An effect without a key is about whole databases, or about a module's own state.
            None => hazards.mark_all(gate),
            Some(key) if record.pair().is_none() => {
                hazards.mark(record.database, key, gate, &mut open.places);
            }
            Some(_) => record.effect.changed_keys(record.database, &mut |database, key| {
                hazards.mark(database, HashedKey::new(key), gate, &mut open.places);
            }),
        }
    }

    /// Ends the open batch. False if it has no effects: then there is no batch.
    pub(crate) fn end_batch(&mut self) -> bool {
        self.notices.end_batch(self.open.has_effects.then(|| self.open.gate()));
        self.open.ended += u64::from(self.open.has_effects);
        std::mem::take(&mut self.open.has_effects)
    }

    /// Called when the log has taken the ended batches; `first` is the LSN of the first one. `None` if there
    /// are no ended batches.
    ///
    /// # Panics
    /// If a batch has not ended.
    pub(crate) fn submitted(&mut self, first: Lsn) -> Option<Submitted> {
        let Hook { hazards, notices, open, .. } = self;
        assert!(!open.has_effects, "a run is submitted when its last batch has ended");
        if open.ended == 0 {
            notices.submitted(None);
            return None;
        }
        let submitted = Submitted::new(first, std::mem::take(&mut open.ended));
        notices.submitted(Some(submitted));
        hazards.resolve(&mut open.places, submitted);
        open.watches.drain(..).for_each(|watch| watch.resolve(submitted));
        open.hazards.drain(..).for_each(|hazard| hazard.resolve(submitted));
        Some(submitted)
    }

    /// True if the log has every batch, so that no gate is open.
    pub(crate) fn is_submitted(&self) -> bool {
        self.open.ended == 0 && !self.open.has_effects
    }

    /// The last batch with an effect, of the open run or before it; `last` is the last submitted one.
    pub(crate) fn last_applied(&self, last: Lsn) -> ReplyGate {
        match (self.open.has_effects, self.open.ended) {
            (true, _) => self.open.gate(),
            (false, 0) => last.into(),
            (false, ended) => ReplyGate::open(ended),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn set(key: &[u8]) -> Record<'_> {
        Record { database: 0, effect: Effect::StringSet { key, value: b"1", expires_at_ms: 0 } }
    }

    fn apply(hook: &mut Hook, record: &Record<'_>) {
        let (mut keyspace, mut modules) = (Keyspace::new(1), Modules::default());
        let key = record.effect.key().map(HashedKey::new);
        hook.applied(
            &mut keyspace,
            &mut modules,
            &Applied { record, count: 1, observation: Cell::default() },
            key,
        );
    }

    #[test]
    fn batches_of_one_run_get_their_lsns_together() {
        let mut hook = Hook::default();
        let (index, [early, late]) = (Arc::<Hazard>::default(), [Watch::new(), Watch::new()]);
        hook.watched.add(&early, 0, b"a");
        hook.watched.add(&late, 0, b"b");
        assert!(!hook.end_batch(), "a batch without effects is none");
        apply(&mut hook, &set(b"a"));
        hook.batch().mark(&index);
        let first = hook.hazards.of(0, HashedKey::new(b"a"));
        assert_eq!(hook.last_applied(Lsn(6)), first);
        assert!(hook.end_batch());
        apply(&mut hook, &set(b"b"));
        apply(&mut hook, &set(b"c"));
        let second = hook.hazards.of(0, HashedKey::new(b"b"));
        assert!(first > Lsn(6) && second > first, "later commands of the run wait for it");
        assert_eq!((hook.last_applied(Lsn(6)), index.gate()), (second, first));
        assert_eq!((early.dirtied_by(), late.dirtied_by()), (Some(first), Some(second)));
        assert!(hook.end_batch());
        assert_eq!(hook.last_applied(Lsn(6)), second);

        let submitted = hook.submitted(Lsn(7)).expect("two batches");
        assert_eq!((submitted.resolve(first), submitted.resolve(second)), (Lsn(7), Lsn(8)));
        let of = |key: &[u8]| hook.hazards.of(0, HashedKey::new(key)).lsn();
        assert_eq!([of(b"a"), of(b"b"), of(b"c"), of(b"absent")], [7, 8, 8, 0].map(Lsn));
        assert_eq!(index.gate(), Lsn(7));
        assert_eq!([early, late].map(|watch| watch.dirtied_by().expect("dirty").lsn()), [7, 8].map(Lsn));
        assert_eq!(hook.last_applied(submitted.last()), Lsn(8));
        assert!(hook.submitted(Lsn(9)).is_none());
    }

    #[test]
    fn what_was_touched_again_has_the_last_batch() {
        let mut hook = Hook::default();
        let index = Arc::<Hazard>::default();
        for _ in 0..3 {
            apply(&mut hook, &set(b"a"));
            hook.batch().mark(&index);
            hook.end_batch();
        }
        apply(&mut hook, &Record { database: 0, effect: Effect::Flush });
        hook.end_batch();
        assert_eq!((hook.open.places.len(), hook.open.hazards.len()), (1, 1), "collected once");
        hook.submitted(Lsn(1));
        assert_eq!((hook.hazards.of(0, HashedKey::new(b"a")), index.gate()), (Lsn(4).into(), Lsn(3).into()));
        assert_eq!(
            hook.hazards.of(0, HashedKey::new(b"never there")).lsn(),
            Lsn(4),
            "a flush touches every key"
        );
        apply(&mut hook, &set(b"a"));
        hook.end_batch();
        hook.submitted(Lsn(5));
        assert_eq!(hook.hazards.of(0, HashedKey::new(b"a")).lsn(), Lsn(5));
    }

    #[test]
    #[should_panic(expected = "a run is submitted when its last batch has ended")]
    fn an_open_batch_is_not_submitted() {
        let mut hook = Hook::default();
        apply(&mut hook, &set(b"a"));
        hook.submitted(Lsn(1));
    }
}
