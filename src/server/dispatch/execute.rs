//! Decoded requests, one after the other, until the round ends or something is to be waited for.
//!
//! Commands of the engine are executed as runs ([`super::runs`]). What cannot go on right now (no room for
//! the moment, a long job) becomes a [`Waiting`] that the connection polls. Nothing here awaits, so no lock
//! can be held across one.

use crate::clients::Client;
use crate::context::ServerContext;
use crate::dispatch::admission::retry;
use crate::dispatch::call::{After, Call, SessionRunner, session_runner};
use crate::dispatch::classify::Class;
use crate::dispatch::reply::Unnoted;
use crate::dispatch::runs::RUN_COMMANDS_MAX;
use crate::dispatch::wait::Waiting;
use crate::output::Outbox;
use crate::session::{Owned, Queued, Session, large_words};
use crate::stats::WorkerStats;
use crate::turns::KeyTurn;
use engramdb_engine::Retained;
use engramdb_engine::command::{Args, Known, Reply};
use engramdb_engine::log::Lsn;
use engramdb_engine::log::pipeline::AdmissionTurn;
use engramdb_engine::types::Contents;
use engramdb_resp::{Arguments, Requests};
use smallvec::SmallVec;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Unsent replies beyond which a round or a run ends, in bytes: a few hundred words can ask for gigabytes,
/// and the bound of the outbox is checked between rounds.
pub(super) const ROUND_OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Commands after which a worker that does not rest kicks the log, however much it still has to do.
const KICK_COMMANDS: u64 = 1024;

/// The part of a connection that executes.
pub struct Core {
    pub(super) shared: Arc<ServerContext>,
    pub(super) stats: Arc<WorkerStats>,
    pub session: Session,
    pub outbox: Outbox,
    /// Nothing more is read or executed; the connection ends when the outbox is empty.
    pub closing: bool,
    /// Whether the last reply was an error, for the counters.
    pub(super) has_failed: bool,
    /// What the connection takes while it waits for keys; 0 while it does not.
    pub(super) parked_bytes: usize,
    /// Set while a staged command waits for its signal, and until its reply is made.
    pub(super) waits_for_signal: bool,
    /// Set while a staged command's job waits for a thread or runs.
    pub(super) has_job: bool,
    /// The command that waits for keys, which is noted when it has its reply.
    pub(super) unnoted: Option<Box<Unnoted>>,
    /// The last change of users when the session took over its rights: replies wait for it.
    pub(super) rights_gate: Lsn,
    /// What the request that is next retains from its last run: it came back for that.
    pub(super) retained: Retained,
    /// The turn of the request that is next among the writers of its key.
    pub(super) key_turn: Option<KeyTurn>,
    /// What the preparation of the request that is next takes until it is done.
    pub(super) preparing_bytes: usize,
    /// The place of the request that is next among those that wait for much room in the log.
    pub(super) turn: AdmissionTurn,
    /// The most commands to plan for the next run.
    pub(super) planned_max: usize,
    /// The next request, if its words have allocations of their own.
    pub owned: Option<Arc<Owned>>,
    /// The words of the request that is next, which are to be copied elsewhere before it runs.
    pub owning: Option<Vec<Range<usize>>>,
    /// The request that is next may take long, and must be executed outside of the worker's runtime.
    pub leaves: bool,
    /// The connection executes outside of the worker's runtime.
    pub is_outside: bool,
}

/// Requests in the buffer that they came in, from the first that is to be run.
pub(super) struct Input<'r> {
    pub(super) requests: &'r Requests,
    pub(super) buffer: &'r [u8],
    pub(super) first: usize,
    /// The first request, if its words have allocations of their own: it runs alone.
    pub(super) owned: Option<&'r Owned>,
}

impl<'r> Input<'r> {
    /// The words of the request at `index`, counted from the first.
    #[inline]
    pub(super) fn words(&self, index: usize, words: &mut Arguments<'r>) {
        words.clear();
        match self.owned {
            Some(owned) => words.extend(owned.words()),
            None => words.extend(self.requests.get(self.first + index, self.buffer).iter()),
        }
    }

    pub(super) fn contents(&self) -> Option<Arc<Contents>> {
        self.owned.map(|owned| owned.contents().clone())
    }
}

impl Core {
    pub fn new(shared: Arc<ServerContext>, stats: Arc<WorkerStats>, client: Arc<Client>) -> Core {
        let session = Session::new(client, &shared.acl);
        Core {
            shared,
            stats,
            session,
            outbox: Outbox::default(),
            closing: false,
            has_failed: false,
            parked_bytes: 0,
            waits_for_signal: false,
            has_job: false,
            unnoted: None,
            rights_gate: Lsn(0),
            retained: Retained::default(),
            key_turn: None,
            preparing_bytes: 0,
            turn: AdmissionTurn::default(),
            planned_max: RUN_COMMANDS_MAX,
            owned: None,
            owning: None,
            leaves: false,
            is_outside: false,
        }
    }

    pub fn shared(&self) -> &Arc<ServerContext> {
        &self.shared
    }

    /// Whether the connection waits for what others do, which can take any time: keys, or a signal.
    pub fn waits_for_others(&self) -> bool {
        self.parked_bytes > 0 || self.waits_for_signal
    }

    /// Whether the connection waits for a staged command's job, which needs nothing more of the connection.
    pub fn has_job(&self) -> bool {
        self.has_job
    }

    /// The connection waits for others or a job no more, and for no reply: the caller has dropped the wait.
    pub fn end_waiting(&mut self) {
        self.parked_bytes = 0;
        self.waits_for_signal = false;
        self.has_job = false;
    }

    /// What was made for the request that is next, or is kept of a command that waits for keys.
    pub fn made_bytes(&self) -> usize {
        let owned = self.owned.as_ref().map_or(0, |owned| owned.heap_bytes());
        self.parked_bytes
            + self.preparing_bytes
            + owned
            + self.retained.prepared.as_ref().map_or(0, |made| made.heap_bytes())
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
            let this = next;
            let owned = self.owned.take();
            let input = Input { requests, buffer, first: next, owned: owned.as_deref() };
            let mut words: Arguments<'_> = SmallVec::new();
            input.words(0, &mut words);
            let args = Args::new(&words);
            let class = self.classify(&shared, args);
            if owned.is_none()
                && class.keeps_words()
                && let Some(ranges) = large_words(&requests.get(next, buffer))
            {
                self.owning = Some(ranges);
                break;
            }
            self.leaves = self.takes_long(&class);
            if self.leaves {
                break;
            }
            if shared.pause.may_hold() {
                waiting = self.pause(&shared, &class);
                if waiting.is_some() {
                    self.owned = owned.clone();
                    break;
                }
            }
            let done;
            (done, waiting) = self.run_request(&shared, (&input, args), class, owned.as_ref());
            next += done;
            if next > this {
                self.end_request(waiting.is_some());
            }
        }
        self.end_round(waiting.is_some(), (next - before) as u64);
        (next, waiting)
    }

    /// Whether a request runs a script, and has to be executed outside of the worker's runtime for that.
    #[inline]
    fn takes_long(&self, class: &Class<'_>) -> bool {
        let Class::Session(known) = class else { return false };
        if self.is_outside {
            return false;
        }
        match session_runner(known.command) {
            Some(SessionRunner::Script(_)) => true,
            Some(SessionRunner::Exec) => self.session.multi.as_ref().is_some_and(|multi| multi.has_script),
            _ => false,
        }
    }

    fn end_round(&mut self, waits: bool, commands: u64) {
        if !waits {
            self.give_back();
        }
        self.count(commands);
        let now_ms = self.shared.now().as_millis() as u64;
        self.session.client.active_at_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Does with a request what is to be done with one of its class. Returns how many requests are done: a
    /// plan takes more than this one.
    fn run_request(
        &mut self,
        shared: &Arc<ServerContext>,
        (input, args): (&Input<'_>, Args<'_>),
        class: Class<'_>,
        owned: Option<&Arc<Owned>>,
    ) -> (usize, Option<Waiting>) {
        match class {
            Class::Refused(error) => {
                if let Some(known) = shared.table.find(args) {
                    self.stats.commands[known.id].rejected.add(1);
                }
                self.refuse_request(args, &error);
                (1, None)
            }
            Class::Denied(known, denied) => {
                self.deny(shared, known, args, denied);
                (1, None)
            }
            Class::Expelled | Class::Http => {
                self.closing = true;
                (1, None)
            }
            Class::Later => (0, Some(retry())),
            Class::Queued(known) => {
                self.queue(known, args, owned.cloned());
                (1, None)
            }
            Class::Session(known) => {
                let (is_done, waiting) = self.run_session(shared, known, args);
                (usize::from(is_done), waiting)
            }
            Class::Engine(known) => {
                let plan = self.plan(shared, input, (known, args));
                let (done, waiting) = self.run_plan(shared, input, &plan);
                if done == 0 {
                    self.owned = owned.cloned();
                }
                (done, waiting)
            }
        }
    }

    /// What was made for a request that is over is nothing to the next one. Where something is waited for, it
    /// is for the next one.
    fn end_request(&mut self, waits: bool) {
        self.end_turn();
        if !waits {
            self.key_turn = None;
            self.free_prepared();
        }
    }

    /// Gives back what was kept for a request that did not use it: none waits.
    fn give_back(&mut self) {
        self.turn.give_up();
        self.key_turn = None;
        self.free_prepared();
    }

    /// Frees what was made for a request that did not use it.
    fn free_prepared(&mut self) {
        if let Some(unused) = self.retained.prepared.take() {
            self.shared.copies.run(Box::new(move || drop(unused)));
        }
    }

    /// A worker that never rests must not keep its writes from the log either.
    fn count(&self, commands: u64) {
        self.stats.commands_total.add(commands);
        self.session.client.commands.add(commands);
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
    pub(super) fn goes_on(&self) -> bool {
        !self.closing && !self.outbox.has_overflowed()
    }

    fn queue(&mut self, known: &Known, args: Args<'_>, owned: Option<Arc<Owned>>) {
        let queued = match owned {
            Some(owned) => Queued::owning(known.command, known.id, owned),
            None => Queued::new(known.command, known.id, args),
        };
        let multi = self.session.multi.get_or_insert_default();
        multi.bytes += known.command.batch_bytes_max(&args);
        multi.asks_for_room |= known.command.room.is_some();
        multi.has_script |= matches!(session_runner(known.command), Some(SessionRunner::Script(_)));
        multi.heap_bytes += queued.heap_bytes();
        multi.queue.push(queued);
        self.session.client.multi.store(multi.queue.len() + 1, Ordering::Relaxed);
        self.reply(|replies| replies.simple("QUEUED"));
    }

    fn run_session(
        &mut self,
        shared: &Arc<ServerContext>,
        known: &Known,
        args: Args<'_>,
    ) -> (bool, Option<Waiting>) {
        let function = match session_runner(known.command) {
            Some(SessionRunner::Function(function)) => function,
            Some(SessionRunner::Script(script)) => {
                return self.run_script(shared, (known, script), args);
            }
            Some(SessionRunner::Exec) => {
                let start = shared.now();
                let (is_done, waiting) = self.exec(shared, args);
                if is_done {
                    self.note(shared, known.id, args, shared.now() - start);
                }
                return (is_done, waiting);
            }
            None => unreachable!("{} is not a session's command", known.full_name),
        };
        self.session.client.last_command.store(known.id + 1, Ordering::Relaxed);
        let start = shared.now();
        let after = self.reply_gated(|session, replies| {
            let mut call = Call::new(shared, session, args, replies, None);
            call.run(function);
            let (gate, after) = (call.gate, call.after);
            if shared.monitors.is_any() {
                session.show_to_monitors(shared.engine.env().clock.wall_ms(), known.command, args);
            }
            (gate, after)
        });
        self.note(shared, known.id, args, shared.now() - start);
        self.session.end_caching(&known.full_name);
        let waiting = match after {
            After::Nothing => None,
            After::Close => {
                self.closing = true;
                None
            }
            After::Wait(future) => Some(future),
            After::WaitForOthers(future) => {
                self.waits_for_signal = true;
                Some(future)
            }
        };
        (true, waiting)
    }
}
