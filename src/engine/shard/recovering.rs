//! A store during recovery: effects of a snapshot and of the log fill it, until it is started as an engine.

use crate::effect::Record;
use crate::env::Env;
use crate::env::engine_clock::EngineClock;
use crate::error::ReplayError;
use crate::keyspace::{DataTypes, Housing, Keyspace};
use crate::log::pipeline::{Options, Pipeline};
use crate::log::replay::{Checkpoint, Recovered, Replay};
use crate::log::{ClaimError, Lsn, ReadError, ShardLog};
use crate::module::{Module, Modules};
use crate::shard::engine::Engine;
use crate::store::Store;
use crate::store::users::Users;
use std::sync::Arc;

/// A store that is being filled. Commands cannot access it before [`Recovering::start`].
pub struct Recovering {
    store: Store,
    env: Env,
    batches: u64,
}

/// The reason why recovery stopped. Nothing was changed on the disk.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("batch {lsn} of the log cannot be applied: {cause}")]
    Replay { lsn: Lsn, cause: ReplayError },
}

impl Recovering {
    pub fn new(env: Env, databases: usize, modules: Vec<Box<dyn Module>>) -> Recovering {
        Recovering { store: Store::new(databases, Modules::new(modules)), env, batches: 0 }
    }

    /// A store with keys only, without modules: for a part of a snapshot that is being made.
    pub(crate) fn of_keys(env: Env, types: DataTypes) -> Recovering {
        let mut recovering = Recovering::new(env, 0, Vec::new());
        recovering.store.keyspace = Keyspace::with_types(0, types);
        recovering
    }

    /// Applies a batch of effects, of the log or of a snapshot.
    pub fn apply(&mut self, lsn: Lsn, batch: &[u8]) -> Result<(), RecoveryError> {
        self.batches += 1;
        let applied = self.store.replay(lsn, batch);
        self.store.drop_garbage();
        applied.map_err(|cause| RecoveryError::Replay { lsn, cause })
    }

    /// Applies one effect: a snapshot's, or one that the offline snapshotter picked out of a batch.
    pub fn apply_record(&mut self, lsn: Lsn, record: &Record<'_>) -> Result<(), ReplayError> {
        let applied = self.store.replay_record(lsn, record);
        self.store.drop_garbage();
        applied
    }

    /// Makes room for this many keys in a database that has none yet.
    pub(crate) fn reserve(&mut self, database: u32, keys: usize) {
        self.store.keyspace.reserve(database, keys);
    }

    /// Takes over a part of a snapshot that was loaded apart; see `Keyspace::absorb`.
    pub(crate) fn absorb(&mut self, part: Keyspace) -> Result<(), Vec<u8>> {
        self.store.keyspace.absorb(part)
    }

    /// Applies the batches of the log after `from`. Calls `progress` with the LSN of each batch.
    pub fn replay(
        &mut self,
        log: &dyn ShardLog,
        from: Checkpoint,
        mut progress: impl FnMut(Lsn),
    ) -> Result<Recovered, RecoveryError> {
        let mut replay = Replay::new(log, from);
        let mut last = from.lsn;
        while let Some(batch) = replay.next()? {
            assert_eq!(batch.lsn, last.next(), "a replay applies each batch, in order");
            last = batch.lsn;
            self.apply(batch.lsn, batch.bytes)?;
            progress(batch.lsn);
        }
        Ok(replay.finish())
    }

    /// The number of batches applied so far.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    pub fn keyspace(&self) -> &Keyspace {
        &self.store.keyspace
    }

    pub fn users(&self) -> &Users {
        &self.store.users
    }

    pub fn modules(&self) -> &Modules {
        &self.store.modules
    }

    /// Claims the log after the recovered end, and starts. The second part has the modules' reports.
    pub fn start(
        mut self,
        log: Arc<dyn ShardLog>,
        recovered: &Recovered,
        options: Options,
    ) -> Result<(Engine, Vec<String>), ClaimError> {
        let report = self.recovered(recovered);
        let pipeline = Pipeline::start(log, recovered, options)?;
        let clock = &*self.env.clock;
        let logged_ms = recovered.checkpoint.engine_time_ms;
        let start_ms = EngineClock::after_restart_ms(clock, logged_ms, recovered.clean);
        if start_ms > logged_ms {
            // Otherwise the next start would begin at the logged time again, although replies showed later
            // times.
            pipeline.submit_time(start_ms);
            pipeline.pump();
        }
        let clock = EngineClock::new(clock, start_ms);
        Ok((Engine::leading(self.store, self.env, clock, pipeline), report))
    }

    /// Starts as a follower of the log after the recovered end, which may be its start. Nothing is read
    /// before [`Engine::start_following`] or [`Engine::follow`]. The second part has the modules' reports.
    pub fn follow(mut self, log: Arc<dyn ShardLog>, recovered: &Recovered) -> (Engine, Vec<String>) {
        let report = self.recovered(recovered);
        let clock = EngineClock::new(&*self.env.clock, recovered.checkpoint.engine_time_ms);
        let engine = Engine::following(self.store, self.env, clock, log, recovered.checkpoint);
        (engine, report)
    }

    /// Prepares the modules for commands.
    fn recovered(&mut self, recovered: &Recovered) -> Vec<String> {
        let Store { keyspace, modules, last_lsn, .. } = &mut self.store;
        *last_lsn = recovered.checkpoint.lsn;
        modules.iter_mut().flat_map(|module| module.recovered(&mut Housing::of(keyspace))).collect()
    }
}
