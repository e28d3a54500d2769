//! The engine: one keyspace behind one read-write lock, in front of one log.
//!
//! The shell takes the lock for a *run* of commands ([`Engine::reads`], [`Engine::writes`]). Each command of
//! a run is a separate batch, and a [`Transaction`] makes one batch of several commands (EXEC). Each command
//! returns the gate of its reply; the shell holds the reply until [`Engine::durable`] has reached the gate.
//!
//! Invariants:
//! - log order is apply order: batches are submitted under the write lock;
//! - the engine clock never steps back, also across restarts ([`crate::env::engine_clock`]); a run uses one
//!   value, read after the lock was taken (runs are short);
//! - room in the log is reserved before anything is applied, so an applied batch is never refused.
//!
//! Lock order: keyspace, then the log's state. The keyspace's lock is never taken while another lock of the
//! engine is held.

use crate::command::{CommandError, Finish, Job, Reply, Stage};
use crate::effect::Effect;
use crate::env::Env;
use crate::env::engine_clock::EngineClock;
use crate::gate::Submitted;
use crate::keyspace::{EncodingLimits, Housing};
use crate::log::pipeline::{AdmissionTurn, Credit, DurableWatcher, Fatal, Pipeline, Refusal};
use crate::log::replay::Checkpoint;
use crate::log::{Lsn, Purpose, ShardLog};
use crate::module::{DueEffect, Exporter, Module};
use crate::shard::evict::MemoryWatch;
use crate::shard::parked::ParkedClients;
use crate::shard::role::{DurableWatchers, Following, Leading, Role, RoleRefusal};
use crate::shard::run::{Holds, ReadRun, RunReplies, WriteRun, end, release, submitted};
use crate::store::Store;
use crate::store::lookups::LookupTotals;
use crate::store::notices::NoticeQueue;
use crate::store::prepared::{Preparation, Prepared};
use crate::store::tx::{ExpiryStep, Lent, Tx};
use crate::store::users::UserKeeper;
use crate::store::view::{Expired, StoreContext};
use crate::store::watch::Watch;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The approximate number of hash fields that active expiry visits in one hold of the lock.
const EXPIRY_LOOKED_AT_MAX: usize = 10_000;
/// The bytes of a batch of one effect of a module, without its payload; at most.
const DUE_BYTES: usize = 64;

/// Redis's default of `proto-max-bulk-len`, in bytes.
const STRING_BYTES_MAX_DEFAULT: usize = 512 << 20;

pub struct Engine {
    pub(super) store: RwLock<Store>,
    pub(super) context: StoreContext,
    pub(super) clock: EngineClock,
    /// True if a module was overloaded at the last check.
    overloaded: AtomicBool,
    log: Arc<dyn ShardLog>,
    /// Set once the engine leads.
    pub(super) leading: OnceLock<Leading>,
    /// Set if the engine started as a follower.
    pub(super) following: Option<Following>,
    pub(super) watchers: Mutex<DurableWatchers>,
    pub(super) memory: MemoryWatch,
    pub(super) parked: Arc<ParkedClients>,
    pub(super) notices: Arc<NoticeQueue>,
}

/// The result of a command.
pub struct Ran {
    /// The reply may leave when this batch is durable.
    pub gate: Lsn,
    /// The remaining work of a staged command, which has no reply yet. [`Engine::finish`] ends it.
    pub stage: Stage,
}

/// The result of one run of a staged command's job.
pub struct Attempt {
    /// The gate that it adds to the reply.
    pub gate: Lsn,
    /// There is no reply yet: this job must run next.
    pub again: Option<Job>,
}

impl Engine {
    /// Made by [`crate::shard::recovering::Recovering::start`].
    pub(crate) fn leading(store: Store, env: Env, clock: EngineClock, pipeline: Pipeline) -> Engine {
        let log = pipeline.log().clone();
        Engine::new(store, env, clock, log, Ok(pipeline))
    }

    /// Made by [`crate::shard::recovering::Recovering::follow`].
    pub(crate) fn following(
        store: Store,
        env: Env,
        clock: EngineClock,
        log: Arc<dyn ShardLog>,
        from: Checkpoint,
    ) -> Engine {
        let following = Following::new(&*log, from);
        Engine::new(store, env, clock, log, Err(following))
    }

    fn new(
        store: Store,
        env: Env,
        clock: EngineClock,
        log: Arc<dyn ShardLog>,
        role: Result<Pipeline, Following>,
    ) -> Engine {
        let (leading, following) = match role {
            Ok(pipeline) => (OnceLock::from(Leading { pipeline }), None),
            Err(following) => (OnceLock::new(), Some(following)),
        };
        let started_ms = clock.now_ms(&*env.clock);
        let parked = Arc::new(ParkedClients::new(store.hook.awaited.clone()));
        let notices = store.hook.notices.queue().clone();
        Engine {
            store: RwLock::new(store),
            parked,
            notices,
            context: StoreContext {
                env,
                started_ms,
                expired: Expired::default(),
                lookups: LookupTotals::default(),
                client_bytes: AtomicU64::new(0),
                peak_bytes: AtomicU64::new(0),
                string_bytes_max: AtomicUsize::new(STRING_BYTES_MAX_DEFAULT),
                memory_bytes_max: AtomicU64::new(0),
                encoding_limits: RwLock::default(),
                access_mode: AtomicU64::new(0),
                accesses: AtomicU64::new(0),
            },
            clock,
            overloaded: AtomicBool::new(false),
            log,
            leading,
            following,
            watchers: Mutex::default(),
            memory: MemoryWatch::default(),
        }
    }

    pub fn env(&self) -> &Env {
        &self.context.env
    }

    /// Engine time, in milliseconds since the Unix epoch.
    #[inline]
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms(&*self.context.env.clock)
    }

    /// The last batch that is durable: replies gated at it or below may leave.
    #[inline]
    pub fn durable(&self) -> Lsn {
        match self.role() {
            Role::Leading(leading) => leading.pipeline.durable(),
            Role::Following(following) => following.applied(),
        }
    }

    /// The engine's role. Costs one load.
    #[inline]
    pub fn role(&self) -> Role<'_> {
        match self.leading.get() {
            Some(leading) => Role::Leading(leading),
            None => Role::Following(self.following.as_ref().expect("who does not lead follows")),
        }
    }

    /// The pipeline, if the engine leads.
    #[inline]
    pub fn writer(&self) -> Option<&Pipeline> {
        self.leading.get().map(|leading| &leading.pipeline)
    }

    /// The pipeline of an engine that certainly leads: for tests and tools.
    ///
    /// # Panics
    /// If it follows.
    pub fn pipeline(&self) -> &Pipeline {
        self.writer().expect("the engine leads")
    }

    /// Calls the watcher for everything that becomes durable from now on, and for a failure, in either role.
    pub fn subscribe(&self, watcher: Arc<dyn DurableWatcher>) {
        let mut watchers = self.watchers.lock();
        match self.role() {
            Role::Leading(leading) => leading.pipeline.subscribe(watcher.clone()),
            Role::Following(following) => {
                // As in the pipeline: a later failure reaches the watchers in the list.
                if let Some(fatal) = following.failure() {
                    drop(watchers);
                    return watcher.failed(fatal);
                }
            }
        }
        watchers.push(watcher);
    }

    /// The last batch that was submitted, or applied by a follower.
    pub fn last_lsn(&self) -> Lsn {
        match self.role() {
            Role::Leading(leading) => leading.pipeline.last_lsn(),
            Role::Following(following) => following.applied(),
        }
    }

    pub fn log(&self) -> &Arc<dyn ShardLog> {
        &self.log
    }

    /// Takes the read lock for a run of commands that read.
    pub fn reads(&self) -> Result<ReadRun<'_>, RoleRefusal> {
        let run = self.inspect();
        // Checked under the lock: a follower that fails while this waits may have applied a part of a batch.
        self.refuses_reads().map_or(Ok(run), Err)
    }

    /// The same for a caller that must not wait for long: `None` if the lock is not free within this time,
    /// because a script runs, or another long command.
    pub fn reads_within(&self, at_most: Duration) -> Option<Result<ReadRun<'_>, RoleRefusal>> {
        let store = self.store.try_read_for(at_most)?;
        let run = ReadRun { engine: self, store, now_ms: self.now_ms(), lookups: Cell::default() };
        Some(self.refuses_reads().map_or(Ok(run), Err))
    }

    /// The reason why all commands that read are refused, if they are.
    #[inline]
    pub fn refuses_reads(&self) -> Option<RoleRefusal> {
        match self.role() {
            Role::Leading(_) => None,
            Role::Following(following) => following.check_reads().err(),
        }
    }

    /// The reason why all commands that write are refused, if they are.
    #[inline]
    pub fn refuses_writes(&self) -> Option<RoleRefusal> {
        matches!(self.role(), Role::Following(_)).then_some(RoleRefusal::ReadOnly)
    }

    /// Takes the read lock in any role: for reads that are not for a command's reply (INFO, tools), and for
    /// commands that have begun.
    pub fn inspect(&self) -> ReadRun<'_> {
        let store = self.store.read();
        ReadRun { engine: self, store, now_ms: self.now_ms(), lookups: Cell::default() }
    }

    /// Reserves room in the log for `batches` batches of `bytes` bytes in all (see
    /// [`crate::command::Command::batch_bytes_max`]).
    /// Called before any lock is taken.
    pub fn admit(&self, batches: usize, bytes: usize) -> Result<Credit, Refusal> {
        self.admit_by(batches, |pipeline| pipeline.admit_run(batches, bytes, Purpose::Any))
    }

    /// The same for a caller that tries again after [`Refusal::Busy`], and for batches that may use room that
    /// is held back; see [`Command::purpose`](crate::command::Command::purpose).
    pub fn admit_in_turn(
        &self,
        turn: &mut AdmissionTurn,
        batches: usize,
        bytes: usize,
        purpose: Purpose,
    ) -> Result<Credit, Refusal> {
        self.admit_by(batches, |pipeline| pipeline.admit_in_turn(turn, batches, bytes, purpose))
    }

    fn admit_by(
        &self,
        batches: usize,
        admit: impl FnOnce(&Pipeline) -> Result<Credit, Refusal>,
    ) -> Result<Credit, Refusal> {
        match self.role() {
            Role::Leading(leading) => admit(&leading.pipeline),
            Role::Following(_) if batches > 0 => Err(RoleRefusal::ReadOnly.into()),
            Role::Following(following) => {
                following.check_reads()?;
                Ok(Credit::none())
            }
        }
    }

    /// Takes the write lock for a run of commands that the credit covers.
    pub fn writes(&self, credit: Credit) -> WriteRun<'_> {
        self.write_run(self.store.write(), credit)
    }

    /// The same for a caller that must not wait for long: gives the credit back if the lock is not free
    /// within this time.
    pub fn writes_within(&self, credit: Credit, at_most: Duration) -> Result<WriteRun<'_>, Credit> {
        match self.store.try_write_for(at_most) {
            Some(store) => Ok(self.write_run(store, credit)),
            None => Err(credit),
        }
    }

    fn write_run<'e>(&'e self, mut store: RwLockWriteGuard<'e, Store>, credit: Credit) -> WriteRun<'e> {
        store.hook.notices.set_client(0);
        let replies = RunReplies::new(self.now_ms(), credit);
        let mut run = WriteRun {
            engine: self,
            store: Some(store),
            lent: Lent::default(),
            replies,
            retained_room_bytes: 0,
        };
        if self.parked.is_unserved() {
            run.serve_unserved();
        }
        run
    }

    /// Runs the job of a staged command to its end, which writes the reply. Returns the reply's gate.
    pub fn complete(&self, database: u32, job: Job, reply: &mut dyn Reply) -> Lsn {
        let (mut gate, mut next) = (Lsn(0), Some(job));
        while let Some(job) = next {
            let attempt = self.attempt(database, job, reply);
            gate = gate.max(attempt.gate);
            next = attempt.again;
        }
        gate
    }

    /// Runs a job and its last step once. If that was not enough, nothing was written, and the next job is
    /// returned.
    pub fn attempt(&self, database: u32, job: Job, reply: &mut dyn Reply) -> Attempt {
        let looks = Holds { room: reply.room(), ..self.looks(database) };
        let finish = job(&looks);
        let attempt = self.finish(database, finish, reply);
        Attempt { gate: attempt.gate.max(looks.gate()), ..attempt }
    }

    /// Makes the preparation that a write requested before it runs again.
    pub fn prepare(&self, database: u32, preparation: Preparation) -> Box<Prepared> {
        self.prepare_while(database, preparation, &|| true)
    }

    /// The same, where the result may be of no use any more: then it can be any.
    pub fn prepare_while(
        &self,
        database: u32,
        preparation: Preparation,
        is_wanted: &dyn Fn() -> bool,
    ) -> Box<Prepared> {
        preparation.run(&self.looks(database), is_wanted)
    }

    /// The access of a job to the database: each look takes the read lock.
    pub fn looks(&self, database: u32) -> Holds<'_> {
        Holds { engine: self, database, gate: Cell::new(Lsn(0)), room: usize::MAX }
    }

    /// The last step of a staged command after its job: reads the keyspace again and writes the reply.
    pub fn finish(&self, database: u32, finish: Finish, reply: &mut dyn Reply) -> Attempt {
        let run = self.inspect();
        let view = run.view(database);
        let mark = reply.mark();
        let rest = finish(&view, reply);
        let gate = submitted(&run.store, view.gate());
        drop(run);
        Attempt { gate, again: end(rest, mark, reply) }
    }

    /// Watches keys for a connection. Returns the gate that this adds to EXEC's reply.
    pub fn watch(&self, watch: &Arc<Watch>, database: u32, keys: &[&[u8]]) -> Lsn {
        let run = self.inspect();
        let view = run.view(database);
        for key in keys {
            if view.peek(database, key).is_some() {
                watch.present.lock().push((database, key.to_vec()));
            }
            run.store.hook.watched.add(watch, database, key);
        }
        submitted(&run.store, view.gate())
    }

    /// Deletes expired keys and fields, of at most `limit` keys, and applies what is due of modules. Returns
    /// how many keys it visited, or `limit` if there is more to do. The caller must run it regularly, to free
    /// memory; reads do not need it. A follower deletes nothing.
    pub fn expire_due(&self, limit: usize) -> Result<usize, Refusal> {
        let Some(pipeline) = self.writer() else { return Ok(0) };
        let mut credit = pipeline.admit_run(0, 0, Purpose::Expiry)?;
        let mut store = self.store.write();
        store.hook.notices.set_client(0);
        let now_ms = self.now_ms();
        let due = store.keyspace.take_due(now_ms, limit);
        let mut done = self.expire_each(pipeline, &mut store, &mut credit, now_ms, &due);
        if done.is_ok() {
            let applied = self.apply_due(pipeline, &mut store, &mut credit, now_ms);
            done = done.and_then(|is_more_left| Ok(applied? | is_more_left));
        }
        self.leave_fed(&store);
        self.submit(&mut store, &mut credit, now_ms);
        release(store);
        self.notices.deliver();
        done.map(|is_more_left| if is_more_left { limit } else { due.len() })
    }

    /// Deletes these keys, or fields of them, that have expired. True if something is left to do.
    fn expire_each(
        &self,
        pipeline: &Pipeline,
        store: &mut Store,
        credit: &mut Credit,
        now_ms: u64,
        due: &[(u32, Vec<u8>)],
    ) -> Result<bool, Refusal> {
        let (mut is_more_left, mut looked_at) = (false, 0);
        let mut lent = Lent::default();
        for (index, (database, key)) in due.iter().enumerate() {
            let put_back = |store: &mut Store| {
                due[index..].iter().for_each(|(database, key)| store.keyspace.requeue(*database, key));
            };
            if looked_at >= EXPIRY_LOOKED_AT_MAX {
                put_back(store);
                is_more_left = true;
                break;
            }
            let step = ExpiryStep::find(&store.keyspace, *database, key, now_ms);
            match pipeline.admit_run(1, step.bytes(key), Purpose::Expiry) {
                Ok(admitted) => credit.absorb(admitted),
                Err(refusal) => {
                    put_back(store);
                    return Err(refusal);
                }
            }
            let mut tx = Tx::new(store, &self.context, &mut lent, *database, now_ms);
            tx.expire(key, &step);
            tx.finish();
            if !step.is_whole {
                store.keyspace.set_expiry_cursor(*database, key, step.next);
            }
            is_more_left |= step.next != 0;
            looked_at += step.looked_at;
        }
        self.context.expired.looked_at.fetch_add(looked_at as u64, Ordering::Relaxed);
        Ok(is_more_left)
    }

    /// Applies what time has made due of modules' own state. True if there was something.
    fn apply_due(
        &self,
        pipeline: &Pipeline,
        store: &mut Store,
        credit: &mut Credit,
        now_ms: u64,
    ) -> Result<bool, Refusal> {
        let mut lent = Lent::default();
        let due: Vec<(u8, DueEffect)> = store
            .modules
            .iter_mut()
            .flat_map(|module| {
                let number = module.number();
                module.due().into_iter().map(move |due| (number, due))
            })
            .collect();
        for (module, DueEffect { database, version, kind, payload }) in &due {
            let (module, version, kind) = (*module, *version, *kind);
            credit.absorb(pipeline.admit_run(1, payload.len() + DUE_BYTES, Purpose::Expiry)?);
            let mut tx = Tx::new(store, &self.context, &mut lent, *database, now_ms);
            tx.apply(Effect::Module { module, version, kind, key: None, payload });
            tx.finish();
        }
        Ok(!due.is_empty())
    }

    /// Sets the keeper of users, which gets all users there are, and every change from now on.
    pub fn keep_users(&self, keeper: Arc<dyn UserKeeper>) {
        self.store.write().users.keep(keeper);
    }

    /// The last batch that changed users: replies that depend on them wait for it.
    pub fn users_gate(&self) -> Lsn {
        let store = self.store.read();
        submitted(&store, store.users.gate())
    }

    /// Sets the largest string that a command may make, and the largest table of LCS, in bytes:
    /// `proto-max-bulk-len`.
    pub fn bound_strings(&self, bytes_max: usize) {
        self.context.string_bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// Sets Redis's limits of compact encodings.
    pub fn limit_encodings(&self, limits: EncodingLimits) {
        *self.context.encoding_limits.write() = limits;
    }

    /// Sets the memory that the server may take, in bytes, for commands that refuse what could not fit; 0 if
    /// it is not known. It does not limit what is taken.
    pub fn tell_memory(&self, bytes_max: u64) {
        self.context.memory_bytes_max.store(bytes_max, Ordering::Relaxed);
    }

    /// The number of clients that wait for keys.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Serves clients whose keys were fed while the log had no room for their commands, or by expiry and
    /// eviction. The caller must run it regularly. Costs one load if there are none.
    pub fn serve_parked(&self) {
        if self.parked.is_unserved()
            && let Ok(credit) = self.admit(0, 0)
        {
            drop(self.writes(credit));
        }
    }

    /// Leaves the keys that were fed by other changes than those of commands (expiry, eviction) to
    /// [`Engine::serve_parked`].
    pub(super) fn leave_fed(&self, store: &Store) {
        if !store.hook.fed.is_empty() {
            self.parked.note_unserved(true);
        }
    }

    /// Ends all waits for keys with this error, because no command will feed them here.
    pub fn fail_parked(&self, error: &CommandError) {
        self.parked.fail_all(error);
    }

    /// Notes what connections take and what keys and modules take, in bytes, for MEMORY STATS.
    pub fn note_usage(&self, client_bytes: u64, used_bytes: u64) {
        self.context.client_bytes.store(client_bytes, Ordering::Relaxed);
        self.context.peak_bytes.fetch_max(used_bytes, Ordering::Relaxed);
    }

    /// How many keys commands that read found, and did not find.
    pub fn lookups(&self) -> &LookupTotals {
        &self.context.lookups
    }

    /// Notices for clients on their way to their audience.
    pub fn notices(&self) -> &NoticeQueue {
        &self.notices
    }

    /// The numbers of expired keys and fields.
    pub fn expired(&self) -> &Expired {
        &self.context.expired
    }

    /// True while a module has too much pending work: writers must wait before they take the lock. Costs one
    /// load, unless a module was overloaded after the last run of writes.
    pub fn is_overloaded(&self) -> bool {
        if !self.overloaded.load(Ordering::Relaxed) {
            return false;
        }
        self.note_load(&self.store.read());
        self.overloaded.load(Ordering::Relaxed)
    }

    /// Checks the modules, under the keyspace's lock, so that the overload by a run is not missed.
    pub(super) fn note_load(&self, store: &Store) {
        let overloaded = store.modules.iter().any(|module| module.is_overloaded());
        if overloaded != self.overloaded.load(Ordering::Relaxed) {
            self.overloaded.store(overloaded, Ordering::Relaxed);
        }
    }

    /// The memory of keys and values, in bytes.
    pub fn data_bytes(&self) -> usize {
        self.store.read().keyspace.heap_bytes()
    }

    /// Does one slice of the modules' background work (index backfills); false if nothing is left. The caller
    /// must run it in a loop, in a thread that may block, whenever a command may have left such work.
    pub fn run_background(&self) -> bool {
        if !self.store.read().modules.iter().any(|module| module.has_background()) {
            return false;
        }
        let jobs: Vec<_> = {
            let Store { keyspace, modules, .. } = &mut *self.store.write();
            let slice = |module: &mut Box<dyn Module>| module.background(&mut Housing::of(keyspace));
            modules.iter_mut().filter_map(slice).collect()
        };
        let more = !jobs.is_empty();
        jobs.into_iter().for_each(|job| job());
        more
    }

    /// Makes the modules' derived state anew from the keyspace. What takes long is background work.
    pub fn rebuild(&self) {
        let Store { keyspace, modules, .. } = &mut *self.store.write();
        modules.iter_mut().for_each(|module| module.rebuild(&mut Housing::of(keyspace)));
    }

    /// Ends the waits of commands for the modules' background work, which has ended.
    pub fn stop_background(&self) {
        self.store.read().modules.iter().for_each(Module::stopping);
    }

    /// The modules' derived state, to be written without any lock.
    pub fn exporters(&self) -> Vec<(&'static str, Exporter)> {
        let store = self.store.read();
        let exporters = store.modules.iter().filter_map(|module| Some((module.name(), module.exporter()?)));
        exporters.collect()
    }

    /// Makes everything durable and stops the log cleanly. No command may run afterwards.
    pub fn close(&self) -> Result<(), Fatal> {
        match self.role() {
            // Logs the time, so that no start goes back before a time at which replies treated keys as
            // expired.
            Role::Leading(leading) => leading.pipeline.close_at(self.now_ms()),
            Role::Following(following) => {
                self.stop_following(following);
                following.failure().cloned().map_or(Ok(()), Err)
            }
        }
    }

    /// Submits the ended batches of a run to the log. `None` if there are none.
    ///
    /// # Panics
    /// If there are some and the engine follows: writes are not admitted then.
    pub(super) fn submit(&self, store: &mut Store, credit: &mut Credit, now_ms: u64) -> Option<Submitted> {
        let Some(batches) = store.ended_batches() else {
            store.hook.notices.submitted(None);
            return None;
        };
        let pipeline = self.writer().expect("a follower writes nothing");
        let first = pipeline.submit_run(credit, now_ms, batches);
        store.submitted(first)
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
pub(crate) mod tests;
