//! Decoded requests as runs: consecutive commands under one hold of the engine's lock.
//!
//! A run is bounded by count and by time. Consecutive reads share a read lock; a run that begins with a write
//! reaches to the last write in sight, and the reads in between run under the write lock too. Room in the log
//! is admitted before the lock is taken. What cannot go on right now (no room for the moment, a long job)
//! becomes a [`Waiting`] that the connection polls; nothing here awaits, so no lock can be held across one.

use crate::clients::Client;
use crate::context::Shared;
use crate::dispatch::admission::{Admission, retry, with_slack};
use crate::dispatch::call::{After, Call, SessionRunner, session_runner};
use crate::long_work::LongWork;
use crate::output::{Errors, Outbox, Replies};
use crate::session::{Owned, Queued, ReplyMode, Session, large_words};
use crate::stats::{self, Slow, WorkerStats};
use engramdb_engine::Prepared;
use engramdb_engine::command::{Args, Command, CommandError, Handler, Job, Known, Reply, Stage, flag};
use engramdb_engine::log::pipeline::{AdmissionTurn, Credit};
use engramdb_engine::log::{Lsn, Purpose};
use engramdb_engine::shard::engine::batch_bytes_max;
use engramdb_engine::types::Contents;
use engramdb_resp::{Arguments, Requests};
use smallvec::SmallVec;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Something that the connection waits for before it executes on.
pub type Waiting = Pin<Box<dyn Future<Output = Resumed> + Send>>;

/// How a wait ended.
pub enum Resumed {
    /// Try the same request again.
    Retry,
    /// A staged command's job is done.
    Made(Box<Made>),
    /// Try the same request again, with what was made for it.
    Prepared(Box<Prepared>),
    /// The connection's buffer is back, perhaps with the request that is next.
    Buffer(Vec<u8>, Option<Owned>),
    /// A session command's reply.
    Reply(WriteReply),
}

/// A reply that was made elsewhere.
pub struct Made {
    pub(super) outbox: Outbox,
    pub(super) gate: Lsn,
    pub(super) errors: Errors,
}

pub type WriteReply = Box<dyn FnOnce(&mut dyn Reply) + Send>;

/// Commands under one hold of a lock.
const RUN_COMMANDS_MAX: usize = 64;
/// Unsent replies beyond which a round or a run ends, in bytes: a few hundred words can ask for gigabytes,
/// and the bound of the outbox is checked between rounds.
const ROUND_OUTPUT_BYTES_MAX: usize = 1 << 20;
/// The hold's length; looked at between commands.
const RUN_TIME_MAX: Duration = Duration::from_micros(50);
/// Commands after which a worker that does not rest kicks the log, however much it still has to do.
const KICK_COMMANDS: u64 = 1024;

/// The part of a connection that executes.
pub struct Core {
    shared: Arc<Shared>,
    pub(super) stats: Arc<WorkerStats>,
    pub session: Session,
    pub outbox: Outbox,
    /// Nothing more is read or executed; the connection ends when the outbox is empty.
    pub closing: bool,
    /// Whether the last reply was an error, for the counters.
    has_failed: bool,
    /// What the connection takes while it waits for keys; 0 while it does not.
    pub(super) parked_bytes: usize,
    /// What was made for the request that is next.
    prepared: Option<Box<Prepared>>,
    /// How much the request that is next may log beyond what its words tell, in bytes: it came back for that.
    pub(super) room_bytes: usize,
    /// The place of the request that is next among those that wait for much room in the log.
    pub(super) turn: AdmissionTurn,
    /// The next request, if its words have allocations of their own.
    pub owned: Option<Arc<Owned>>,
    /// The words of the request that is next, which are to be copied elsewhere before it runs.
    pub owning: Option<Vec<Range<usize>>>,
}

/// A run that was looked at and not yet begun.
struct Plan<'s> {
    commands: SmallVec<[&'s Known; RUN_COMMANDS_MAX]>,
    writes: usize,
    batch_bytes: usize,
}

/// Requests in the buffer that they came in, from the first that is to be run.
struct Input<'r> {
    requests: &'r Requests,
    buffer: &'r [u8],
    first: usize,
    /// The first request, if its words have allocations of their own: it runs alone.
    owned: Option<&'r Owned>,
}

impl<'r> Input<'r> {
    /// The words of the request at `index`, counted from the first.
    #[inline]
    fn words(&self, index: usize, words: &mut Arguments<'r>) {
        words.clear();
        match self.owned {
            Some(owned) => words.extend(owned.words()),
            None => words.extend(self.requests.get(self.first + index, self.buffer).iter()),
        }
    }

    fn contents(&self) -> Option<Arc<Contents>> {
        self.owned.map(|owned| owned.contents().clone())
    }
}

/// What to do with a request.
enum Class<'s> {
    Refused(CommandError),
    Queued(&'s Known),
    Engine(&'s Known),
    Session(&'s Known),
    /// A web browser was made to talk to this port: its request's lines are not commands of the person behind
    /// it.
    Http,
}

impl Class<'_> {
    /// Whether the words are stored or queued.
    fn keeps_words(&self) -> bool {
        match self {
            Class::Queued(_) => true,
            Class::Engine(known) => known.command.is_write(),
            _ => false,
        }
    }
}

impl Core {
    pub fn new(shared: Arc<Shared>, stats: Arc<WorkerStats>, client: Arc<Client>) -> Core {
        let authenticated = !shared.limits.has_password.load(Ordering::Relaxed);
        let session = Session::new(client, authenticated);
        Core {
            shared,
            stats,
            session,
            outbox: Outbox::default(),
            closing: false,
            has_failed: false,
            parked_bytes: 0,
            prepared: None,
            room_bytes: 0,
            turn: AdmissionTurn::default(),
            owned: None,
            owning: None,
        }
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether the connection waits for keys.
    pub fn is_parked(&self) -> bool {
        self.parked_bytes > 0
    }

    /// The connection waits for keys no more, and for no reply: the caller has dropped the wait.
    pub fn end_parking(&mut self) {
        self.parked_bytes = 0;
    }

    /// What was made for the request that is next, or is kept of a command that waits for keys.
    pub fn made_bytes(&self) -> usize {
        let owned = self.owned.as_ref().map_or(0, |owned| owned.heap_bytes());
        self.parked_bytes + owned + self.prepared.as_ref().map_or(0, |made| made.heap_bytes())
    }

    /// Executes requests from `next` on. Returns the first that is not done, and what it waits for if it
    /// waits.
    pub fn execute(
        &mut self,
        requests: &Requests,
        buffer: &[u8],
        mut next: usize,
    ) -> (usize, Option<Waiting>) {
        let shared = self.shared.clone();
        let before = next;
        let output_max = self.outbox.len() + ROUND_OUTPUT_BYTES_MAX;
        self.begin_round();
        let mut waiting = None;
        while next < requests.len() && self.goes_on() && waiting.is_none() && self.outbox.len() < output_max {
            let owned = self.owned.take();
            let mut words: Arguments<'_> = SmallVec::new();
            match &owned {
                Some(owned) => words.extend(owned.words()),
                None => words.extend(requests.get(next, buffer).iter()),
            }
            let args = Args::new(&words);
            let class = self.classify(&shared, args);
            if owned.is_none()
                && class.keeps_words()
                && let Some(ranges) = large_words(&requests.get(next, buffer))
            {
                self.owning = Some(ranges);
                break;
            }
            match class {
                Class::Refused(error) => {
                    self.refuse_request(args, &error);
                    next += 1;
                }
                Class::Http => {
                    tracing::warn!(
                        "closing a connection that sent an HTTP request: is it an attack by a web page?"
                    );
                    self.closing = true;
                    next += 1;
                }
                Class::Queued(known) => {
                    self.queue(known, args, owned.clone());
                    next += 1;
                }
                Class::Session(known) => {
                    let done;
                    (done, waiting) = self.run_session(&shared, known, args);
                    next += usize::from(done);
                }
                Class::Engine(known) => {
                    let input = Input { requests, buffer, first: next, owned: owned.as_deref() };
                    let plan = self.plan(&shared, &input, (known, args));
                    let done;
                    (done, waiting) = self.run_plan(&shared, &input, &plan);
                    if done == 0 {
                        self.owned = owned.clone();
                    }
                    next += done;
                }
            }
        }
        if waiting.is_none() {
            self.give_back();
        }
        self.count((next - before) as u64);
        let client = &self.session.client;
        client.active_at_ms.store(shared.now().as_millis() as u64, Ordering::Relaxed);
        (next, waiting)
    }

    /// Gives back what was kept for a request that did not use it: none waits.
    fn give_back(&mut self) {
        self.turn.give_up();
        if let Some(unused) = self.prepared.take() {
            self.shared.copies.run(Box::new(move || drop(unused)));
        }
    }

    /// A worker that never rests must not keep its writes from the log either.
    fn count(&self, commands: u64) {
        self.stats.commands_total.add(commands);
        if self.stats.commands_since_rest() >= KICK_COMMANDS {
            self.stats.rested();
            if let Some(log) = self.shared.engine.writer() {
                log.kick();
            }
        }
    }

    pub(super) fn begin_round(&mut self) {
        let bounds = self.shared.limits.output_of(&self.session.client);
        self.outbox.begin_round(bounds.bytes_max.load(Ordering::Relaxed));
    }

    /// Whether there is any use in executing the next request.
    fn goes_on(&self) -> bool {
        !self.closing && !self.outbox.has_overflowed()
    }

    /// Ends a wait.
    pub fn resume(&mut self, resumed: Resumed) {
        self.begin_round();
        self.parked_bytes = 0;
        match resumed {
            Resumed::Retry | Resumed::Buffer(..) => {}
            Resumed::Prepared(prepared) => self.prepared = Some(prepared),
            Resumed::Made(made) => {
                let Made { outbox, gate, errors } = *made;
                self.reply_gated(|_, replies| (gate, replies.append(outbox, errors)));
            }
            Resumed::Reply(write) => self.reply(|replies| write(replies)),
        }
    }

    /// Says why the stream cannot be understood, and closes.
    pub fn protocol_error(&mut self, text: &[u8]) {
        let output = self.outbox.tail();
        output.push(b'-');
        output.extend_from_slice(text);
        output.extend_from_slice(b"\r\n");
        self.seal(Lsn(0));
        self.closing = true;
    }

    fn classify<'s>(&mut self, shared: &'s Shared, args: Args<'_>) -> Class<'s> {
        let known = match shared.table.resolve(args) {
            Ok(known) => known,
            Err(_) if args.is(0, "POST") || args.is(0, "Host:") => return Class::Http,
            Err(error) => return Class::Refused(error),
        };
        if !self.session.authenticated && !known.command.has(flag::NO_AUTH) {
            return Class::Refused(CommandError::of("NOAUTH Authentication required."));
        }
        if known.command.has(flag::DENY_OOM) && shared.limits.is_memory_full.load(Ordering::Relaxed) {
            if let Some(refusal) = shared.engine.refuses_writes() {
                return Class::Refused(refusal.error());
            }
            let text = "OOM command not allowed when used memory > 'maxmemory'.";
            return Class::Refused(CommandError::of(text));
        }
        if self.session.multi.is_some() && !known.command.has(flag::NO_QUEUE) {
            if known.command.has(flag::NO_MULTI) {
                return Class::Refused(CommandError::of("ERR Command not allowed inside a transaction"));
            }
            if known.command.is_write()
                && let Some(refusal) = shared.engine.refuses_writes()
            {
                return Class::Refused(refusal.error());
            }
            return Class::Queued(known);
        }
        match known.command.handler {
            Handler::Session(_) => Class::Session(known),
            _ => Class::Engine(known),
        }
    }

    pub(super) fn refuse(&mut self, error: &CommandError) {
        if let Some(multi) = &mut self.session.multi {
            multi.is_broken = true;
        }
        self.room_bytes = 0;
        self.reply(|replies| replies.error(error));
    }

    fn queue(&mut self, known: &Known, args: Args<'_>, owned: Option<Arc<Owned>>) {
        let queued = match owned {
            Some(owned) => Queued::owning(known.command, known.id, owned),
            None => Queued::new(known.command, known.id, args),
        };
        let multi = self.session.multi.get_or_insert_default();
        multi.bytes += batch_bytes_max(&args);
        multi.asks_for_room |= known.command.room.is_some();
        multi.heap_bytes += queued.heap_bytes();
        multi.queue.push(queued);
        self.session.client.multi.store(multi.queue.len() + 1, Ordering::Relaxed);
        self.reply(|replies| replies.simple("QUEUED"));
    }

    /// Writes one reply that waits for nothing of its own.
    fn reply(&mut self, write: impl FnOnce(&mut Replies<'_>)) {
        self.reply_gated(|_, replies| {
            write(replies);
            (Lsn(0), ())
        });
    }

    /// Writes one reply, whose gate is known afterwards.
    pub(super) fn reply_gated<R>(
        &mut self,
        write: impl FnOnce(&mut Session, &mut Replies<'_>) -> (Lsn, R),
    ) -> R {
        let result = self.reply_sealed(write);
        self.collect_mail();
        result
    }

    /// The same, without a look at the mailbox: for a caller that holds the engine's lock.
    pub(super) fn reply_sealed<R>(
        &mut self,
        write: impl FnOnce(&mut Session, &mut Replies<'_>) -> (Lsn, R),
    ) -> R {
        let (gate, result) = self.reply_unsealed(write);
        self.seal(gate);
        result
    }

    /// Writes one reply, to be sealed by the caller: its errors are counted, and it is dropped if the client
    /// wants none.
    #[inline]
    fn reply_unsealed<R>(&mut self, write: impl FnOnce(&mut Session, &mut Replies<'_>) -> R) -> R {
        let may_be_unwanted = self.session.reply_mode != ReplyMode::On;
        if may_be_unwanted {
            self.outbox.begin_unwanted();
        }
        let start = self.outbox.end();
        let mut replies = Replies::new(&mut self.outbox, self.session.style());
        let result = write(&mut self.session, &mut replies);
        self.has_failed = replies.errors.count > 0;
        let is_written = replies.is_written();
        if self.has_failed {
            self.shared.stats.error(&replies.errors.first_code);
        }
        self.outbox.end_unwanted();
        // A command that has not answered yet comes back with its reply.
        if is_written && !self.session.takes_reply() {
            self.outbox.rewind(start);
        }
        result
    }

    /// Moves pushes from the mailbox behind the replies so far. True if there were any.
    #[inline]
    pub fn collect_mail(&mut self) -> bool {
        let has_mail = self.session.mailbox.as_ref().is_some_and(|mailbox| mailbox.has_mail());
        if has_mail && self.goes_on() {
            self.append_mail();
        }
        has_mail
    }

    pub(super) fn seal(&mut self, gate: Lsn) {
        self.outbox.seal(gate, self.shared.engine.durable());
    }

    fn plan<'s>(
        &mut self,
        shared: &'s Shared,
        input: &Input<'_>,
        (known, args): (&'s Known, Args<'_>),
    ) -> Plan<'s> {
        let mut plan = Plan { commands: SmallVec::new(), writes: 0, batch_bytes: 0 };
        plan.add(known, args);
        plan.batch_bytes += self.room_bytes;
        if matches!(known.command.handler, Handler::Staged(_) | Handler::Blocking(_))
            || input.owned.is_some()
            || self.room_bytes > 0
        {
            return plan;
        }
        let mut upto_write = 1;
        let mut words: Arguments<'_> = SmallVec::new();
        let last = (input.requests.len() - input.first).min(RUN_COMMANDS_MAX);
        for index in 1..last {
            input.words(index, &mut words);
            let Class::Engine(next) = self.classify(shared, Args::new(&words)) else { break };
            let joins = match next.command.handler {
                Handler::Write(_) => plan.writes > 0,
                Handler::Read(_) | Handler::Sliced(_) => true,
                _ => false,
            };
            if !joins {
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

    /// Runs what was planned, or a part of it. Returns how many requests are done.
    fn run_plan(&mut self, shared: &Shared, input: &Input<'_>, plan: &Plan<'_>) -> (usize, Option<Waiting>) {
        let database = self.session.database;
        if plan.writes == 0 {
            let run = match shared.engine.reads() {
                Ok(run) => run,
                Err(refusal) => {
                    self.refuse(&refusal.error());
                    return (1, None);
                }
            };
            run.prefetch(database, plan.first_keys(input));
            let mut gate = Lsn(0);
            let (done, stage) = self.run_each(shared, input, plan, |command, args, replies| {
                let ran = run.run(database, command, args, replies);
                gate = gate.max(ran.gate);
                ran.stage
            });
            drop(run);
            self.seal(gate);
            self.collect_mail();
            return (done, self.go_on(stage));
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
        shared: &Shared,
        input: &Input<'_>,
        plan: &Plan<'_>,
        credit: Credit,
    ) -> (usize, Option<Waiting>) {
        let database = self.session.database;
        let room_bytes = std::mem::take(&mut self.room_bytes);
        let mut run = shared.engine.writes(credit);
        run = run.preparing(self.prepared.take()).referring(input.contents()).with_room(room_bytes);
        run.prefetch(database, plan.first_keys(input));
        let (done, stage) = self.run_each(shared, input, plan, |command, args, replies| {
            run.step(database, command, args, replies)
        });
        let mut waiting = None;
        let stage = match stage {
            Stage::Park(park) => {
                // Under the same hold of the lock, so that nothing feeds the keys in between.
                let mut words: Arguments<'_> = SmallVec::new();
                input.words(done - 1, &mut words);
                let parked = (plan.commands[done - 1].command, Args::new(&words));
                waiting = Some(self.park(&mut run, parked, *park));
                Stage::Done
            }
            stage => stage,
        };
        self.seal(run.finish());
        self.collect_mail();
        if waiting.is_some() {
            return (done, waiting);
        }
        (done, self.go_on(stage))
    }

    /// Does what is left of a staged command, here or elsewhere.
    fn go_on(&mut self, stage: Stage) -> Option<Waiting> {
        if let Stage::Done = stage {
            return None;
        }
        let (shared, database) = (self.shared.clone(), self.session.database);
        match stage {
            Stage::Done => None,
            Stage::Park(_) => unreachable!("only a run of writes parks"),
            Stage::Run(job) => {
                let again = self.reply_gated(|_, replies| {
                    let attempt = shared.engine.attempt(database, job, replies);
                    (attempt.gate, attempt.again)
                });
                // The rest takes longer than a worker's turn.
                again.and_then(|job| self.go_on(Stage::Offload(job)))
            }
            Stage::NeedsRoom(bytes) => {
                self.room_bytes = with_slack(bytes);
                None
            }
            Stage::Prepare(preparation) => {
                let engine = shared.engine.clone();
                let prepare = move || Resumed::Prepared(engine.prepare(database, *preparation));
                Some(elsewhere(&shared.copies, prepare))
            }
            Stage::Offload(job) => Some(elsewhere(&shared.searches, self.making(job))),
            Stage::Copy(job) => Some(elsewhere(&shared.copies, self.making(job))),
            Stage::Wait(wait) => {
                let (waiter, at_most) = (wait.signal.waiter(), wait.at_most);
                let make = self.making(wait.job);
                Some(Box::pin(async move {
                    match at_most {
                        None => waiter.await,
                        // Either way the job is next.
                        Some(at_most) => _ = tokio::time::timeout(at_most, waiter).await,
                    }
                    elsewhere(&shared.searches, make).await
                }))
            }
        }
    }

    /// Runs a job to its reply, which the connection takes over: for another thread.
    fn making(&self, job: Job) -> impl FnOnce() -> Resumed + Send + 'static {
        let (engine, database) = (self.shared.engine.clone(), self.session.database);
        let style = self.session.style();
        let mut outbox = self.outbox.like();
        if self.session.reply_mode != ReplyMode::On {
            outbox.begin_unwanted();
        }
        move || {
            let mut replies = Replies::new(&mut outbox, style);
            let gate = engine.complete(database, job, &mut replies);
            let errors = replies.errors;
            Resumed::Made(Box::new(Made { outbox, gate, errors }))
        }
    }

    /// On a full disk, a command that frees memory goes on by itself, in the room that is held back for it.
    #[cold]
    fn run_freeing(
        &mut self,
        shared: &Shared,
        input: &Input<'_>,
        plan: &Plan<'_>,
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
        let mut alone = Plan { commands: SmallVec::new(), writes: 0, batch_bytes: 0 };
        alone.add(known, Args::new(&words));
        alone.batch_bytes += self.room_bytes;
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
        shared: &Shared,
        input: &Input<'_>,
        plan: &Plan<'_>,
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
            let now = shared.now();
            self.note(shared, known.id, args, now - before);
            before = now;
            let is_enough =
                now - start > RUN_TIME_MAX || self.outbox.len() > output_max || self.outbox.has_overflowed();
            if is_enough || !matches!(stage, Stage::Done) {
                return (done, stage);
            }
        }
        (done, Stage::Done)
    }

    fn run_session(
        &mut self,
        shared: &Arc<Shared>,
        known: &Known,
        args: Args<'_>,
    ) -> (bool, Option<Waiting>) {
        let function = match session_runner(known.command) {
            Some(SessionRunner::Function(function)) => function,
            Some(SessionRunner::Exec) => return self.exec(shared),
            None => unreachable!("{} is not a session's command", known.full_name),
        };
        let start = shared.now();
        let after = self.reply_gated(|session, replies| {
            let mut call = Call::new(shared, session, args, replies, None);
            call.run(function);
            (call.gate, call.after)
        });
        self.note(shared, known.id, args, shared.now() - start);
        let waiting = match after {
            After::Nothing => None,
            After::Close => {
                self.closing = true;
                None
            }
            After::Wait(future) => Some(future),
        };
        (true, waiting)
    }

    #[inline]
    fn note(&mut self, shared: &Shared, id: usize, args: Args<'_>, took: Duration) {
        let counters = &self.stats.commands[id];
        counters.calls.add(1);
        counters.failed.add(u64::from(self.has_failed));
        counters.nanoseconds.add(took.as_nanos() as u64);
        self.session.client.last_command.store(id + 1, Ordering::Relaxed);
        let threshold_us = shared.limits.slow_us.load(Ordering::Relaxed);
        if threshold_us >= 0 && took.as_micros() as i64 >= threshold_us {
            note_slow(shared, &self.session, args, took);
        }
    }
}

impl<'s> Plan<'s> {
    fn add(&mut self, known: &'s Known, args: Args<'_>) {
        self.commands.push(known);
        if known.command.is_write() {
            self.writes += 1;
            self.batch_bytes += batch_bytes_max(&args);
        }
    }

    /// The first keys of a run's commands, if it has several.
    fn first_keys<'r>(&self, input: &Input<'r>) -> impl Iterator<Item = &'r [u8]> {
        let commands = if self.commands.len() == 1 { &[] } else { &self.commands[..] };
        let with_key = commands.iter().enumerate().filter(|(_, known)| known.shape.keys.0 == 1);
        with_key.filter_map(|(index, _)| input.requests.get(input.first + index, input.buffer).iter().nth(1))
    }
}

/// Makes a reply on a thread of the pool.
pub fn elsewhere(pool: &LongWork, make: impl FnOnce() -> Resumed + Send + 'static) -> Waiting {
    let (sender, made) = tokio::sync::oneshot::channel();
    // Where nobody waits any more, the connection has ended.
    pool.run(Box::new(move || _ = sender.send(make())));
    Box::pin(async move {
        match made.await {
            Ok(resumed) => resumed,
            Err(_) => Resumed::Reply(Box::new(|reply| {
                reply.error(&CommandError::of("ERR the command failed; the server's log says why"));
            })),
        }
    })
}

#[cold]
fn note_slow(shared: &Shared, session: &Session, args: Args<'_>, took: Duration) {
    let slow = Slow {
        id: 0,
        at_ms: shared.engine.now_ms(),
        microseconds: took.as_micros() as u64,
        words: stats::slow_words(args),
        client: session.client.address.to_string(),
        client_name: stats::cut(session.client.names.lock().name.as_bytes()),
    };
    let kept_max = shared.config.read().slow_log_entries_max;
    shared.stats.slow(slow, kept_max);
}
