//! What the one lock guards: the keyspace, the modules' state, and the batch in the making.
//!
//! Everything that hangs on a change hangs here and nowhere else: the log's record, hazards, WATCH, modules (index
//! maintenance). `execute` and `replay` differ only in what they record.

use crate::effect::{Batch, Effect, Record, decode_batch};
use crate::error::ReplayError;
use crate::keyspace::{Given, Housing, Keyspace, Outcome, OwnedValue};
use crate::log::Lsn;
use crate::module::{Applied, Modules};
use crate::shard::hazard::Hazards;
use crate::shard::watch::Watchers;

pub struct Store {
    pub(crate) keyspace: Keyspace,
    pub(crate) modules: Modules,
    pub(crate) watchers: Watchers,
    /// The last batch that was applied.
    pub(crate) last_lsn: Lsn,
    /// The encoded effects of the open batch.
    batch: Batch,
    /// Large values to drop once the lock is released.
    garbage: Vec<Outcome>,
}

impl Store {
    pub(crate) fn new(databases: usize, modules: Modules) -> Store {
        Store {
            keyspace: Keyspace::new(databases),
            modules,
            watchers: Watchers::default(),
            last_lsn: Lsn(0),
            batch: Batch::default(),
            garbage: Vec::new(),
        }
    }

    /// The LSN that the open batch will get.
    pub(crate) fn open_lsn(&self) -> Lsn {
        self.last_lsn.next()
    }

    /// Applies an effect of a running command, records it in the open batch, and returns its count.
    ///
    /// # Panics
    /// If the effect does not fit the keyspace: the handler did not validate, and going on would log nonsense.
    pub(crate) fn execute(&mut self, hazards: &Hazards, record: &Record<'_>, given: Given<'_>) -> usize {
        let lsn = self.open_lsn();
        self.batch.push(record.database, &record.effect, given.contents);
        let outcome = match self.change(record, lsn, given) {
            Ok(outcome) => outcome,
            Err(error) => panic!("a handler applied an impossible effect: {error}"),
        };
        self.mark_hazards(hazards, record, lsn);
        self.watchers.touched(record, lsn);
        let count = outcome.count;
        if !outcome.garbage.is_none() {
            self.garbage.push(outcome);
        }
        count
    }

    /// Applies a batch that the log or a snapshot holds.
    pub(crate) fn replay(&mut self, lsn: Lsn, batch: &[u8]) -> Result<(), ReplayError> {
        for record in decode_batch(batch) {
            self.replay_record(lsn, &record?)?;
        }
        self.last_lsn = self.last_lsn.max(lsn);
        Ok(())
    }

    /// Applies one effect that the log or a snapshot holds.
    pub(crate) fn replay_record(&mut self, lsn: Lsn, record: &Record<'_>) -> Result<(), ReplayError> {
        self.change(record, lsn, Given::default()).map(|_| ())
    }

    /// Closes the open batch: `None` if nothing was applied, else its LSN and bytes for the log.
    pub(crate) fn close_batch(&mut self) -> Option<(Lsn, &mut Batch)> {
        if self.batch.is_empty() {
            return None;
        }
        self.last_lsn = self.open_lsn();
        Some((self.last_lsn, &mut self.batch))
    }

    /// Forgets the bytes of the closed batch, and hands over what is to be dropped outside the lock.
    pub(crate) fn begin_batch(&mut self) {
        self.batch.clear();
    }

    /// Has a value dropped outside the lock.
    pub(crate) fn discard(&mut self, value: OwnedValue) {
        self.garbage.extend(Some(Outcome::discarded(value)).filter(|outcome| !outcome.garbage.is_none()));
    }

    pub(crate) fn take_garbage(&mut self) -> Vec<Outcome> {
        if self.garbage.is_empty() { Vec::new() } else { std::mem::take(&mut self.garbage) }
    }

    fn change(&mut self, record: &Record<'_>, lsn: Lsn, given: Given<'_>) -> Result<Outcome, ReplayError> {
        if let Effect::Module { .. } = record.effect {
            self.modules.apply(&mut Housing::of(&mut self.keyspace), record, lsn)?;
            return Ok(Outcome::default());
        }
        let outcome = self.keyspace.apply_with(record, given);
        if outcome.mismatch {
            return Err(ReplayError::Mismatch(format!("{:?}", record.effect)));
        }
        let applied = Applied { record, count: outcome.count, lsn };
        self.modules.observe(&mut Housing::of(&mut self.keyspace), &applied);
        Ok(outcome)
    }

    fn mark_hazards(&self, hazards: &Hazards, record: &Record<'_>, lsn: Lsn) {
        match record.effect {
            Effect::Flush | Effect::FlushAll | Effect::SwapDatabases { .. } | Effect::Module { .. } => {
                hazards.mark_all(lsn);
            }
            effect => {
                effect.changed_keys(record.database, &mut |database, key| hazards.mark(database, key, lsn))
            }
        }
    }
}
