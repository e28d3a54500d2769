//! The state that the one lock protects: the keyspace, the modules' state, and the open batch.
//!
//! One function, `Store::change`, applies every effect, and calls the [`Hook`] with it. Execution, replay and
//! following differ only in what they record, and in the origin of the LSN.
//!
//! - [`view`] has the operations of reads, [`tx`] those of writes;
//! - [`document`] reads a value as an index does;
//! - [`users`] are beside the databases;
//! - [`hook`] is called for each change: [`hazard`], [`watch`], [`awaited`];
//! - [`lookups`] counts what commands find;
//! - [`notices`]: what clients learn of changes without asking;
//! - [`prepared`] has copies that are made outside of the lock for a write.
//!
//! Deliberately not here: the lock, the log, commands and clients. These are in [`crate::shard`].

pub(crate) mod awaited;
pub mod document;
pub(crate) mod hazard;
pub(crate) mod hook;
pub mod lookups;
pub mod notices;
pub(crate) mod prepared;
pub mod tx;
pub mod users;
pub mod view;
pub(crate) mod watch;

pub use hazard::Changes;

use crate::effect::{Effect, Record, decode_batch};
use crate::error::ReplayError;
use crate::gate::Submitted;
use crate::keyspace::{EffectOutcome, Garbage, Given, Housing, Keyspace, OwnedValue};
use crate::log::Lsn;
use crate::log::pipeline::Batches;
use crate::module::{Applied, Modules};
use crate::store::hook::Hook;
use crate::store::users::Users;
use crate::table::HashedKey;
use std::any::Any;
use std::cell::Cell;

pub struct Store {
    pub(crate) keyspace: Keyspace,
    pub(crate) modules: Modules,
    pub(crate) users: Users,
    pub(crate) hook: Hook,
    /// The last batch that was submitted to the log, or read from it.
    pub(crate) last_lsn: Lsn,
    /// The encoded effects of the open batch, and earlier batches that are not submitted yet.
    batches: Batches,
    /// Large values to drop once the lock is released.
    garbage: Vec<EffectOutcome>,
}

impl Store {
    pub(crate) fn new(databases: usize, modules: Modules) -> Store {
        Store {
            keyspace: Keyspace::with_types(databases, modules.data_types()),
            modules,
            users: Users::default(),
            hook: Hook::default(),
            last_lsn: Lsn(0),
            batches: Batches::default(),
            garbage: Vec::new(),
        }
    }

    /// Applies an effect of a running command, records it in the open batch, and returns its count.
    ///
    /// # Panics
    /// If the effect does not fit the keyspace: the handler did not validate it, and it must not be logged.
    pub(crate) fn execute(
        &mut self,
        record: &Record<'_>,
        given: Given<'_>,
        observation: Option<Box<dyn Any + Send + Sync>>,
    ) -> usize {
        self.batches.open().push(record.database, &record.effect, given.contents);
        match self.change(record, given, observation) {
            Ok(count) => count,
            Err(error) => panic!("a handler applied an impossible effect: {error}"),
        }
    }

    /// Applies a batch of the log.
    pub(crate) fn replay(&mut self, lsn: Lsn, batch: &[u8]) -> Result<(), ReplayError> {
        let applied = decode_batch(batch).try_for_each(|record| {
            self.change(&record?, Given::default(), None)?;
            Ok(())
        });
        // Also after an error: a reader of a part of the batch then waits for the whole batch, which never
        // becomes durable here.
        self.replayed(lsn);
        self.last_lsn = self.last_lsn.max(lsn);
        applied
    }

    /// Applies one effect of the log or of a snapshot.
    pub(crate) fn replay_record(&mut self, lsn: Lsn, record: &Record<'_>) -> Result<(), ReplayError> {
        self.change(record, Given::default(), None)?;
        self.replayed(lsn);
        Ok(())
    }

    fn replayed(&mut self, lsn: Lsn) {
        self.hook.end_batch();
        self.hook.submitted(lsn);
    }

    /// Ends the open batch. False if it is empty: then there is no batch.
    #[inline]
    pub(crate) fn end_batch(&mut self) -> bool {
        let has_effects = self.hook.end_batch();
        assert_eq!(self.batches.close(), has_effects, "the applied effects are the logged ones");
        has_effects
    }

    /// The ended batches that are not submitted, if there are any.
    #[inline]
    pub(crate) fn ended_batches(&mut self) -> Option<&mut Batches> {
        (self.batches.count() > 0).then_some(&mut self.batches)
    }

    /// Records that the log has taken the ended batches, from this LSN on.
    pub(crate) fn submitted(&mut self, first: Lsn) -> Option<Submitted> {
        let submitted = self.hook.submitted(first)?;
        assert_eq!(first, self.last_lsn.next(), "the log numbers batches as they were applied");
        self.last_lsn = submitted.last();
        Some(submitted)
    }

    /// Keeps a value, to be dropped outside the lock.
    pub(crate) fn discard(&mut self, value: OwnedValue) {
        self.garbage
            .extend(Some(EffectOutcome::discarded(value)).filter(|outcome| !outcome.garbage.is_none()));
    }

    /// The same for what was made for a write.
    pub(crate) fn discard_all(&mut self, garbage: Vec<Garbage>) {
        let outcomes =
            garbage.into_iter().map(|garbage| EffectOutcome { garbage, ..EffectOutcome::default() });
        self.garbage.extend(outcomes);
    }

    /// Drops removed values now: for a store that no reader waits for.
    pub(crate) fn drop_garbage(&mut self) {
        self.garbage.clear();
    }

    pub(crate) fn take_garbage(&mut self) -> Vec<EffectOutcome> {
        if self.garbage.is_empty() { Vec::new() } else { std::mem::take(&mut self.garbage) }
    }

    /// Applies an effect, and calls the hook.
    fn change(
        &mut self,
        record: &Record<'_>,
        given: Given<'_>,
        observation: Option<Box<dyn Any + Send + Sync>>,
    ) -> Result<usize, ReplayError> {
        let key = record.effect.key().map(HashedKey::new);
        let found = self.hook.notices.find(&self.keyspace, record, key);
        let outcome = match record.effect {
            Effect::Module { key: None, .. } => {
                self.modules.apply(&mut Housing::of(&mut self.keyspace), record, &mut self.hook.batch())?;
                EffectOutcome::default()
            }
            effect if effect.is_of_users() => {
                let is_mismatch = !self.users.apply(record, &mut self.hook.batch());
                EffectOutcome { mismatch: is_mismatch, ..EffectOutcome::default() }
            }
            _ => self.keyspace.apply_with(record, key, given),
        };
        if outcome.mismatch {
            return Err(ReplayError::of_mismatch(&self.keyspace, record));
        }
        let count = outcome.count;
        self.hook.changes += changes_of(&record.effect, count);
        let applied = Applied { record, count, observation: Cell::new(observation) };
        self.hook.applied(&mut self.keyspace, &mut self.modules, &applied, key);
        self.hook.notices.applied(&self.keyspace, record, found, count);
        if !outcome.garbage.is_none() {
            self.garbage.push(outcome);
        }
        Ok(count)
    }
}

/// What an effect adds to Redis's count of changes, by the outcome's count.
#[inline]
fn changes_of(effect: &Effect<'_>, count: usize) -> u64 {
    match effect {
        Effect::Delete { .. } => count as u64,
        Effect::HashSet { fields, .. } => fields.len() as u64 / 2,
        // Effects on lists count the elements that are there.
        Effect::ListPush { elements, .. } => elements.len() as u64,
        Effect::ListPop { count, .. } | Effect::ListRemove { count, .. } => *count,
        Effect::ListSet { .. } | Effect::ListInsert { .. } | Effect::ListTrim { .. } => 1,
        _ => count.max(1) as u64,
    }
}
