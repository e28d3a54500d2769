//! Consecutive commands under one hold of the engine's lock.
//!
//! A run is bounded by count and by time. Consecutive reads share a read lock; a run that begins with a write
//! reaches to the last write in sight, and the reads in between run under the write lock too. Room in the log
//! is admitted before the lock is taken.

use crate::context::ServerContext;
use crate::dispatch::admission::{Admission, retry};
use crate::dispatch::classify::Class;
use crate::dispatch::execute::{Core, Input, ROUND_OUTPUT_BYTES_MAX};
use crate::dispatch::scripting::{take_reads, take_writes};
use crate::dispatch::wait::Waiting;
use crate::output::Replies;
use crate::session::Session;
use engramdb_engine::command::{Args, Command, CommandError, Handler, Known, Park, Stage, flag};
use engramdb_engine::log::pipeline::Credit;
use engramdb_engine::log::{Lsn, Purpose};
use engramdb_engine::shard::parked::{Ticket, Waiter};
use engramdb_resp::Arguments;
use smallvec::SmallVec;
use std::time::Duration;

/// Commands under one hold of a lock.
pub(super) const RUN_COMMANDS_MAX: usize = 64;

/// As many are planned at least.
const PLANNED_MIN: usize = 4;

/// The hold's length; looked at between commands.
const RUN_TIME_MAX: Duration = Duration::from_micros(50);

/// A run that was looked at and not yet begun.
pub(super) struct RunPlan<'s> {
    commands: SmallVec<[&'s Known; RUN_COMMANDS_MAX]>,
    writes: usize,
    batch_bytes: usize,
}

impl<'s> RunPlan<'s> {
    fn add(&mut self, known: &'s Known, args: Args<'_>) {
        self.commands.push(known);
        if known.command.is_write() {
            self.writes += 1;
            self.batch_bytes += known.command.batch_bytes_max(&args);
        }
    }

    /// The first keys of a run's commands, if it has several.
    fn first_keys<'r>(&self, input: &Input<'r>) -> impl Iterator<Item = &'r [u8]> {
        let commands = if self.commands.len() == 1 { &[] } else { &self.commands[..] };
        let with_key = commands.iter().enumerate().filter(|(_, known)| known.shape.keys.0 == 1);
        with_key.filter_map(|(index, _)| input.requests.get(input.first + index, input.buffer).iter().nth(1))
    }
}

impl Core {
    pub(super) fn plan<'s>(
        &mut self,
        shared: &'s ServerContext,
        input: &Input<'_>,
        (known, args): (&'s Known, Args<'_>),
    ) -> RunPlan<'s> {
        let mut plan = RunPlan { commands: SmallVec::new(), writes: 0, batch_bytes: 0 };
        plan.add(known, args);
        plan.batch_bytes += self.retained.room_bytes;
        let handler = known.command.handler;
        if matches!(handler, Handler::Staged(_) | Handler::Blocking(_) | Handler::BlockingRead(_))
            || input.owned.is_some()
            || self.retained.room_bytes > 0
            || known.command.has(flag::NO_DATA)
        {
            return plan;
        }
        let mut upto_write = 1;
        let mut words: Arguments<'_> = SmallVec::new();
        let last = (input.requests.len() - input.first).min(self.planned_max);
        for index in 1..last {
            input.words(index, &mut words);
            let Class::Engine(next) = self.classify(shared, Args::new(&words)) else { break };
            let joins = match next.command.handler {
                Handler::Write(_) => plan.writes > 0,
                Handler::Read(_) | Handler::Sliced(_) => true,
                _ => false,
            };
            // What changes users changes what the next commands may do.
            if !joins || next.command.has(flag::NO_DATA) {
                break;
            }
            plan.add(next, Args::new(&words));
            if next.command.is_write() {
                upto_write = plan.commands.len();
            }
        }
        if plan.writes > 0 {
            plan.commands.truncate(upto_write);
        }
        plan
    }

    /// Plans about as many commands next time as were run: planning a command and reading its key ahead is
    /// lost if the run ends for its time before.
    fn learn(&mut self, plan: &RunPlan<'_>, done: usize) {
        let twice = (2 * done).min(RUN_COMMANDS_MAX);
        self.planned_max = match done < plan.commands.len() {
            true => twice.max(PLANNED_MIN),
            false => twice.max(self.planned_max),
        };
    }

    /// Runs what was planned, or a part of it. Returns how many requests are done.
    pub(super) fn run_plan(
        &mut self,
        shared: &ServerContext,
        input: &Input<'_>,
        plan: &RunPlan<'_>,
    ) -> (usize, Option<Waiting>) {
        let database = self.session.database;
        if plan.writes == 0 {
            let run = match take_reads(shared) {
                Some(Ok(run)) => run,
                Some(Err(error)) => {
                    self.refuse(&error);
                    return (1, None);
                }
                None => return (0, Some(retry())),
            };
            if !self.session.has_current_rights(&shared.acl) {
                // They have changed since the commands were looked at.
                return (0, None);
            }
            run.prefetch(database, plan.first_keys(input));
            let mut gate = Lsn(0);
            let (done, stage) = self.run_each(shared, input, plan, |command, args, replies| {
                let ran = run.run(database, command, args, replies);
                gate = gate.max(ran.gate);
                ran.stage
            });
            self.learn(plan, done);
            let (stage, parked) =
                self.park_last(input, (plan, done), stage, |command, args, park, waiter| {
                    run.park(command, args, park, waiter)
                });
            drop(run);
            shared.engine.notices().deliver();
            self.seal(gate);
            self.collect_mail();
            return (done, parked.or_else(|| self.go_on(stage)));
        }
        let credit = match self.admit(shared, plan.writes, plan.batch_bytes) {
            Ok(credit) => credit,
            Err(Admission::Wait) => return (0, Some(retry())),
            Err(Admission::Full(error)) => {
                return self.run_freeing(shared, input, plan, &error);
            }
            Err(Admission::Refused(error)) => {
                self.refuse(&error);
                return (1, None);
            }
            Err(Admission::Closed) => return (0, None),
        };
        self.run_writes(shared, input, plan, credit)
    }

    /// Runs what the credit covers under the write lock.
    fn run_writes(
        &mut self,
        shared: &ServerContext,
        input: &Input<'_>,
        plan: &RunPlan<'_>,
        credit: Credit,
    ) -> (usize, Option<Waiting>) {
        let database = self.session.database;
        let Some(run) = take_writes(shared, credit, false) else { return (0, Some(retry())) };
        if !self.session.has_current_rights(&shared.acl) {
            return (0, None);
        }
        let retained = std::mem::take(&mut self.retained);
        let client = self.session.client.id;
        let mut run = run.by(client).retaining(retained).referring(input.contents());
        run.prefetch(database, plan.first_keys(input));
        let (done, stage) = self.run_each(shared, input, plan, |command, args, replies| {
            run.step(database, command, args, replies)
        });
        self.learn(plan, done);
        if matches!(stage, Stage::Prepare(_) | Stage::NeedsRoom(_)) {
            self.retained = run.retained();
        }
        let (stage, parked) = self.park_last(input, (plan, done), stage, |command, args, park, waiter| {
            run.park(command, args, park, waiter)
        });
        self.seal(run.finish());
        if shared.engine.is_memory_full() {
            // Now and not before the next write: who learns of evictions learns of them before later replies.
            _ = shared.make_memory();
        }
        self.collect_mail();
        if done > 0 {
            // The writer that had the turn is done. The next one takes its own.
            self.key_turn = None;
        }
        (done, parked.or_else(|| self.go_on(stage)))
    }

    /// Parks the client if the last command of a run returned for that: under the same hold of the lock, so
    /// that nothing feeds the keys in between. Returns the stage that is left.
    fn park_last(
        &mut self,
        input: &Input<'_>,
        (plan, done): (&RunPlan<'_>, usize),
        stage: Stage,
        enter: impl FnOnce((u32, &'static Command), Args<'_>, Park, Box<dyn Waiter>) -> Ticket,
    ) -> (Stage, Option<Waiting>) {
        let Stage::Park(park) = stage else { return (stage, None) };
        let mut words: Arguments<'_> = SmallVec::new();
        input.words(done - 1, &mut words);
        let command = (self.session.database, plan.commands[done - 1].command);
        let waiting =
            self.park(Args::new(&words), *park, |args, park, waiter| enter(command, args, park, waiter));
        (Stage::Done, Some(waiting))
    }

    /// On a full disk, a command that frees memory goes on by itself, in the room that is held back for it.
    #[cold]
    fn run_freeing(
        &mut self,
        shared: &ServerContext,
        input: &Input<'_>,
        plan: &RunPlan<'_>,
        error: &CommandError,
    ) -> (usize, Option<Waiting>) {
        let known = plan.commands[0];
        let mut words: Arguments<'_> = SmallVec::new();
        input.words(0, &mut words);
        let purpose = known.command.purpose(Args::new(&words), shared.engine.now_ms());
        if purpose == Purpose::Any {
            self.refuse(error);
            return (1, None);
        }
        let mut alone = RunPlan { commands: SmallVec::new(), writes: 0, batch_bytes: 0 };
        alone.add(known, Args::new(&words));
        alone.batch_bytes += self.retained.room_bytes;
        match self.admit_for(shared, alone.writes, alone.batch_bytes, purpose) {
            Ok(credit) => self.run_writes(shared, input, &alone, credit),
            Err(Admission::Wait) => (0, Some(retry())),
            Err(Admission::Full(error) | Admission::Refused(error)) => {
                self.refuse(&error);
                (1, None)
            }
            Err(Admission::Closed) => (0, None),
        }
    }

    /// Runs the commands of a plan until one is staged, or until it is time to let others have a turn.
    /// Returns how many are done, and what is left to do of the last of them. Their replies are not sealed
    /// yet.
    fn run_each(
        &mut self,
        shared: &ServerContext,
        input: &Input<'_>,
        plan: &RunPlan<'_>,
        mut step: impl FnMut(&Command, Args<'_>, &mut Replies<'_>) -> Stage,
    ) -> (usize, Stage) {
        let mut words: Arguments<'_> = SmallVec::new();
        let output_max = self.outbox.len() + ROUND_OUTPUT_BYTES_MAX;
        let start = shared.now();
        let mut before = start;
        let mut done = 0;
        for known in &plan.commands {
            input.words(done, &mut words);
            let args = Args::new(&words);
            let stage = self.reply_unsealed(|_, replies| step(known.command, args, replies));
            if matches!(stage, Stage::Prepare(_) | Stage::NeedsRoom(_)) {
                // It is run again.
                return (done, stage);
            }
            done += 1;
            if shared.monitors.is_any() {
                let wall_ms = shared.engine.env().clock.wall_ms();
                self.session.show_to_monitors(wall_ms, known.command, args);
            }
            if self.session.tracking.is_some() {
                remember_keys(shared, &self.session, known, args);
                self.session.end_caching(&known.full_name);
            }
            let now = shared.now();
            match stage {
                Stage::Park(_) => self.note_when_answered(known.id, args, now - before),
                _ => self.note(shared, known.id, args, now - before),
            }
            before = now;
            let is_enough =
                now - start > RUN_TIME_MAX || self.outbox.len() > output_max || self.outbox.has_overflowed();
            if is_enough || !matches!(stage, Stage::Done) {
                return (done, stage);
            }
        }
        (done, Stage::Done)
    }
}

/// Remembers the keys that a command has read, for a client that caches them: under the lock of its run.
pub(super) fn remember_keys(shared: &ServerContext, session: &Session, known: &Known, args: Args<'_>) {
    let remembers = session.tracking.as_ref().is_some_and(|tracking| tracking.remembers());
    if !remembers || !known.command.is_read() {
        return;
    }
    let Ok(keys) = known.key_words(args) else { return };
    let keys = keys.into_iter().map(|index| args[index]);
    for forgotten in shared.tracking.remember(session.client.id, keys) {
        shared.invalidate(&forgotten);
    }
}
