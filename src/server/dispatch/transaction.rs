//! EXEC: the queued commands as one batch, under one hold of the write lock.

use crate::context::ServerContext;
use crate::dispatch::admission::{Admission, retry, with_slack};
use crate::dispatch::call::{Call, SessionRunner, session_runner};
use crate::dispatch::execute::Core;
use crate::dispatch::permission::check_queued;
use crate::dispatch::reply::note_call;
use crate::dispatch::runs::remember_keys;
use crate::dispatch::scripting::{run_in, take_writes};
use crate::dispatch::wait::Waiting;
use crate::output::Replies;
use crate::scripts::ScriptSlot;
use crate::session::{Multi, Queued, Session};
use crate::stats::{self, WorkerStats};
use engramdb_engine::command::{Args, CommandError, Reply};
use engramdb_engine::log::pipeline::Credit;
use engramdb_engine::log::{Lsn, Purpose};
use engramdb_engine::shard::run::Transaction;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Core {
    /// EXEC: the queue as one batch.
    pub(super) fn exec(&mut self, shared: &Arc<ServerContext>, args: Args<'_>) -> (bool, Option<Waiting>) {
        let Some(multi) = self.session.multi.take() else {
            self.refuse(&CommandError::of("ERR EXEC without MULTI"));
            return (true, None);
        };
        if multi.is_broken {
            self.end_transaction();
            let text = "EXECABORT Transaction discarded because of previous errors.";
            self.show_exec(shared, args);
            self.refuse(&CommandError::of(text));
            return (true, None);
        }
        let writes = multi.queue.iter().any(|queued| queued.command.is_write());
        let bytes = multi.bytes + self.retained.room_bytes;
        let mut admitted = self.admit(shared, usize::from(writes), bytes);
        if matches!(admitted, Err(Admission::Full(_))) && frees_memory(shared, &multi) {
            admitted = self.admit_for(shared, 1, bytes, Purpose::Freeing);
        }
        match admitted {
            Ok(credit) => {
                if let Err(again) = self.run_transaction(shared, (&multi, args), credit) {
                    self.session.multi = Some(multi);
                    match again {
                        TryAgain::WithRoom(bytes) => self.retained.room_bytes = with_slack(bytes),
                        TryAgain::WithRights => {}
                        TryAgain::AfterScript => return (false, Some(retry())),
                    }
                    return (false, None);
                }
            }
            Err(Admission::Wait) => {
                self.session.multi = Some(multi);
                return (false, Some(retry()));
            }
            Err(Admission::Full(error) | Admission::Refused(error)) => {
                self.end_transaction();
                self.refuse(&error);
            }
            Err(Admission::Closed) => {}
        }
        (true, None)
    }

    /// Refuses a request before it is looked at. An EXEC that is refused so ends the transaction, and says
    /// so, as in Redis.
    pub(super) fn refuse_request(&mut self, args: Args<'_>, error: &CommandError) {
        if !args.is(0, "EXEC") {
            return self.refuse(error);
        }
        self.end_transaction();
        let cause = error.bytes().strip_prefix(b"ERR ").unwrap_or(error.bytes());
        self.refuse(&CommandError::of_parts(&[b"EXECABORT Transaction discarded because of: ", cause]));
    }

    /// Runs the queue. After an `Err` nothing has happened.
    fn run_transaction(
        &mut self,
        shared: &Arc<ServerContext>,
        (multi, args): (&Multi, Args<'_>),
        credit: Credit,
    ) -> Result<(), TryAgain> {
        // Taken before the keyspace's lock, and given back after it.
        let slot = match multi.has_script {
            true => Some(shared.scripts.begin().ok_or(TryAgain::AfterScript)?),
            false => None,
        };
        let run = take_writes(shared, credit, slot.is_some()).ok_or(TryAgain::AfterScript)?;
        if !self.session.has_current_rights(&shared.acl) {
            return Err(TryAgain::WithRights);
        }
        let room_bytes = std::mem::take(&mut self.retained.room_bytes);
        let mut run = run.with_room(room_bytes).by(self.session.client.id);
        let mut transaction = run.transaction();
        let is_dirty = self.session.watch.as_ref().is_some_and(|watch| transaction.is_dirty(watch));
        if multi.asks_for_room && !is_dirty {
            let needed = room_of(multi, self.session.database, &mut transaction);
            if needed > room_bytes {
                transaction.finish();
                return Err(TryAgain::WithRoom(needed));
            }
        }
        let counters = self.stats.clone();
        let mut gate = self.session.watch_gate;
        self.end_transaction();
        self.reply_sealed(|session, replies| {
            if is_dirty {
                replies.null_array();
            } else {
                replies.array(multi.queue.len());
                for queued in &multi.queue {
                    let within = (shared, &*counters, slot.as_ref());
                    let (start, errors) = (shared.now(), replies.errors.count);
                    let step = Step { within, session: &mut *session, queued };
                    gate = gate.max(step.run(&mut transaction, replies));
                    let call = (queued.id, shared.now() - start, replies.errors.count > errors);
                    let words = || stats::slow_words(Args::new(&queued.words()));
                    note_call(shared, (&counters, session), call, words);
                }
            }
            (gate.max(transaction.finish()), ())
        });
        drop(run);
        self.show_exec(shared, args);
        self.session.end_caching("exec");
        self.collect_mail();
        // An error of a queued command is not one of EXEC.
        self.has_failed = false;
        Ok(())
    }

    fn show_exec(&mut self, shared: &ServerContext, args: Args<'_>) {
        if shared.monitors.is_any()
            && let Some(known) = shared.table.get(b"EXEC")
        {
            let wall_ms = shared.engine.env().clock.wall_ms();
            self.session.show_to_monitors(wall_ms, known.command, args);
        }
    }

    fn end_transaction(&mut self) {
        self.session.multi = None;
        self.session.unwatch();
        self.session.client.multi.store(0, Ordering::Relaxed);
        self.session.client.watches.store(false, Ordering::Relaxed);
    }
}

/// Why EXEC is to run again.
enum TryAgain {
    /// It needs this much room in the log beyond what its words show, in bytes.
    WithRoom(usize),
    /// The user's rights have changed.
    WithRights,
    /// A script has the keyspace's lock.
    AfterScript,
}

/// Whether no command of the transaction writes but to free memory.
fn frees_memory(shared: &ServerContext, multi: &Multi) -> bool {
    let now_ms = shared.engine.now_ms();
    multi.queue.iter().all(|queued| queued.command.frees_memory(Args::new(&queued.words()), now_ms))
}

/// What commands may add to each other's needs of room in the log, in bytes, as far as it is reserved before
/// they run. A command that needs more reserves it while the transaction runs.
const MUTUAL_ROOM_BYTES_MAX: usize = 4 << 20;

/// How much the queue's commands may log beyond what their words show, in bytes. By their words commands in
/// front of one can add to its needs, so that these count again for each, up to a bound: their product
/// would be gigabytes for some thousands of commands.
#[cold]
fn room_of(multi: &Multi, mut database: u32, transaction: &mut Transaction<'_>) -> usize {
    let (mut bytes, mut asking) = (0, 0);
    for queued in &multi.queue {
        let words = queued.words();
        let args = Args::new(&words);
        if queued.command.name == "SELECT" {
            database = args.integer(1).ok().and_then(|number| number.try_into().ok()).unwrap_or(database);
        } else if queued.command.room.is_some() {
            bytes += transaction.room_of(database, queued.command, args);
            asking += 1;
        }
    }
    bytes + (asking * multi.bytes).min(multi.bytes.max(MUTUAL_ROOM_BYTES_MAX))
}

/// One queued command of a running transaction.
struct Step<'a> {
    /// The slot is there if the transaction has scripts.
    within: (&'a Arc<ServerContext>, &'a WorkerStats, Option<&'a ScriptSlot<'a>>),
    session: &'a mut Session,
    queued: &'a Queued,
}

impl Step<'_> {
    fn show(&mut self, args: Args<'_>) {
        let (shared, ..) = self.within;
        if shared.monitors.is_any() {
            let wall_ms = shared.engine.env().clock.wall_ms();
            self.session.show_to_monitors(wall_ms, self.queued.command, args);
        }
    }

    fn run(mut self, transaction: &mut Transaction<'_>, replies: &mut Replies<'_>) -> Lsn {
        if replies.is_dropped() && self.queued.command.is_read() {
            // Its reply would be dropped. Writes are still done, and so are commands of the session: SELECT
            // decides where the commands after it write.
            return Lsn(0);
        }
        let words = self.queued.words();
        let args = Args::new(&words);
        let (shared, stats, slot) = self.within;
        if !self.session.is_trusted(&shared.acl)
            && let Some(known) = shared.table.find(args)
            && let Err(error) = check_queued(shared, self.session, (known, args), transaction)
        {
            replies.error(&error);
            return Lsn(0);
        }
        match session_runner(self.queued.command) {
            Some(SessionRunner::Function(function)) => {
                let mut call = Call::new(shared, self.session, args, replies, Some(transaction));
                call.run(function);
                let gate = call.gate;
                self.show(args);
                return gate;
            }
            Some(SessionRunner::Script(function)) => {
                let slot = slot.expect("the queue has a script");
                let parts = (shared, stats, slot);
                return run_in(function, parts, self.session, args, (replies, transaction));
            }
            _ => {}
        }
        transaction.refer(self.queued.contents());
        transaction.run(self.session.database, self.queued.command, args, replies);
        self.show(args);
        if self.session.tracking.is_some()
            && let Some(known) = shared.table.find(args)
        {
            remember_keys(shared, self.session, known, args);
        }
        Lsn(0)
    }
}
