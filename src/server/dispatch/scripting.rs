//! Scripts: commands of a module that run commands, as one batch under one hold of the write lock.
//!
//! The connection runs the script ([`Core::run_script`]), because it may have to wait for the lock or for
//! room in the log; the module's function gets a [`ScriptCall`] and runs commands with [`ScriptCall::call`].
//! Each of them is checked in one place, [`ScriptCall::check`].
//!
//! A script begins with some room in the log. Each command that writes takes its bound from it, and reserves
//! more where that is not enough ([`Transaction::run_in_script`]). On a full disk a script begins without
//! any: then its commands that free memory run, and the others are refused.
//!
//! Scripts run outside of the worker's runtime ([`crate::outside`]), because they may take long.

use crate::context::ServerContext;
use crate::dispatch::admission::{Admission, retry};
use crate::dispatch::call::{Call, SessionRunner, session_runner};
use crate::dispatch::execute::Core;
use crate::dispatch::permission::{check_in_script, may_run};
use crate::dispatch::runs::remember_keys;
use crate::dispatch::wait::Waiting;
use crate::output::{Outbox, Replies};
use crate::scripts::{MOMENT, RunningScript, ScriptKind, ScriptSlot, Scripts};
use crate::session::Session;
use crate::stats::WorkerStats;
use engramdb_engine::command::{Args, Command, CommandError, Known, Outcome, Reply, flag};
use engramdb_engine::log::Lsn;
use engramdb_engine::log::pipeline::Credit;
use engramdb_engine::shard::run::{ReadRun, SCRIPT_ROOM_BYTES, Transaction, WriteRun};
use engramdb_engine::store::view::View;
use engramdb_resp::Protocol;
use std::sync::Arc;

pub type ScriptFunction = fn(&mut ScriptCall<'_, '_, '_>) -> Outcome;

/// The handler of a command that runs commands: EVAL, FCALL.
pub struct RunScript(pub ScriptFunction);

/// The row of such a command.
pub const fn script(name: &'static str, usage: &'static str, run: &'static RunScript) -> Command {
    engramdb_engine::command::session(name, usage, run)
}

/// What a script declares about itself, and what its command does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptRules {
    /// It has no shebang: nothing is checked before it runs.
    pub is_plain: bool,
    /// It writes nothing: the flag `no-writes`.
    pub no_writes: bool,
    /// The flag `allow-oom`.
    pub allow_oom: bool,
    /// The command is EVAL_RO, EVALSHA_RO or FCALL_RO.
    pub is_read_only_command: bool,
}

/// One call of a script.
pub struct ScriptCall<'c, 'o, 't> {
    shared: &'c Arc<ServerContext>,
    args: Args<'c>,
    reply: &'c mut Replies<'o>,
    /// The caller's.
    session: &'c Session,
    /// The session in which its commands run: in the caller's database at first, with the caller's rights.
    inner: Session,
    stats: &'c WorkerStats,
    transaction: &'c mut Transaction<'t>,
    slot: &'c ScriptSlot<'c>,
    rules: ScriptRules,
    /// `maxmemory` was exceeded when the script began.
    is_out_of_memory: bool,
    /// The reply of the running command.
    outbox: Outbox,
    /// What the reply has to wait for beside the batch.
    gate: Lsn,
}

impl<'c> ScriptCall<'c, '_, '_> {
    /// All words of the call.
    pub fn args(&self) -> Args<'c> {
        self.args
    }

    /// Where the script's reply goes.
    pub fn reply(&mut self) -> &mut dyn Reply {
        self.reply
    }

    /// Checks whether a script with these rules may run now, and says what runs from now on.
    /// `libraries` says how many libraries and functions there are.
    pub fn begin(
        &mut self,
        (kind, name): (ScriptKind, Arc<str>),
        rules: ScriptRules,
        libraries: [usize; 2],
    ) -> Outcome {
        self.rules = rules;
        self.is_out_of_memory = self.shared.engine.is_memory_full();
        let writes = !rules.is_plain && !rules.no_writes;
        if writes && self.shared.engine.refuses_writes().is_some() {
            let text = "READONLY Can not run script with write flag on readonly replica";
            return Err(CommandError::of(text));
        }
        if writes && rules.is_read_only_command {
            let text = "ERR Can not execute a script with write flag using *_ro command.";
            return Err(CommandError::of(text));
        }
        if writes && self.is_out_of_memory && !rules.allow_oom {
            let text =
                "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'";
            return Err(CommandError::of(text));
        }
        let words = match kind {
            ScriptKind::Eval => Vec::new(),
            ScriptKind::Function => self.args.iter().map(|word| word.to_vec()).collect(),
        };
        self.slot.describe(RunningScript { kind, name, words, libraries, began: self.shared.now() });
        Ok(())
    }

    /// What the interpreter asks whether the script goes on.
    pub fn scripts(&self) -> &Arc<Scripts> {
        &self.shared.scripts
    }

    /// Reads the current state, for what is not gated.
    pub fn look<R>(&mut self, look: impl FnOnce(&View<'_>) -> R) -> R {
        self.transaction.look(look)
    }

    /// Reads the current state; the reply waits for what was read.
    pub fn read<R>(&mut self, read: impl FnOnce(&View<'_>) -> R) -> R {
        self.transaction.read(read)
    }

    /// Runs a command, and calls `with` with its reply, in the protocol that the script has chosen. An error
    /// says that the command was not run.
    pub fn call<R>(
        &mut self,
        words: &[&[u8]],
        is_resp3: bool,
        with: impl FnOnce(&[u8]) -> R,
    ) -> Result<R, CommandError> {
        let args = Args::new(words);
        let shared = self.shared;
        let known = resolve(shared, args).inspect_err(|error| shared.stats.error(&error.text()))?;
        if let Err(error) = self.check(known, args) {
            shared.stats.error(&error.text());
            self.stats.commands[known.id].rejected.add(1);
            return Err(error);
        }
        if known.command.is_write() && !shared.scripts.note_write() {
            return Err(CommandError::of("ERR Script killed by user with SCRIPT KILL..."));
        }
        self.inner.protocol = if is_resp3 { Protocol::Resp3 } else { Protocol::Resp2 };
        let start = self.outbox.end();
        self.run(known, args)?;
        let result = self.outbox.with_end(start, with);
        self.outbox.rewind(start);
        Ok(result)
    }

    /// The one place where a script's command is checked before it runs.
    fn check(&mut self, known: &Known, args: Args<'_>) -> Outcome {
        let command = known.command;
        if command.has(flag::NO_SCRIPT) {
            return Err(CommandError::of("ERR This Redis command is not allowed from script"));
        }
        if matches!(command.name, "XREAD" | "XREADGROUP") && says_block(args) {
            let text = " command is not allowed with BLOCK option from scripts";
            return Err(CommandError::of_parts(&[b"ERR ", args.word(0), text.as_bytes()]));
        }
        let (shared, inner) = (self.shared, &self.inner);
        if !inner.is_unrestricted() {
            let database = inner.database;
            let look = |view: &View<'_>| check_in_script(shared, inner, (known, args), view);
            self.transaction.look_at(database, look)?;
        }
        // A message is something that a script changes, too.
        let publishes = matches!(command.name, "PUBLISH" | "SPUBLISH");
        if (command.is_write() || publishes) && (self.rules.no_writes || self.rules.is_read_only_command) {
            let text = "ERR Write commands are not allowed from read-only scripts.";
            return Err(CommandError::of(text));
        }
        if !command.is_write() {
            return Ok(());
        }
        if let Some(refusal) = self.shared.engine.refuses_writes() {
            return Err(refusal.error());
        }
        let may_take_memory =
            self.rules.allow_oom || !self.is_out_of_memory || self.shared.scripts.has_written();
        if command.has(flag::DENY_OOM) && !may_take_memory {
            return Err(CommandError::of("OOM command not allowed when used memory > 'maxmemory'."));
        }
        Ok(())
    }

    /// Says that the script's reply is the error of one of its commands, which the statistics have.
    pub fn error_was_counted(&mut self) {
        self.reply.errors.is_counted = true;
    }

    /// Whether the caller may run a command with these words; an error if there is none.
    pub fn may_call(&mut self, words: &[&[u8]]) -> Result<bool, CommandError> {
        let args = Args::new(words);
        let known = self.shared.table.find(args);
        let known = known.ok_or(CommandError::of("ERR Invalid command passed to redis.acl_check_cmd()"))?;
        let (shared, inner) = (self.shared, &self.inner);
        let database = inner.database;
        Ok(self.transaction.look_at(database, |view| may_run(shared, inner, (known, args), view)))
    }

    fn run(&mut self, known: &Known, args: Args<'_>) -> Outcome {
        let mut replies = Replies::new(&mut self.outbox, self.inner.style());
        let result = match session_runner(known.command) {
            Some(SessionRunner::Function(function)) => {
                let transaction = Some(&mut *self.transaction);
                let mut call = Call::new(self.shared, &mut self.inner, args, &mut replies, transaction);
                call.run(function);
                self.gate = self.gate.max(call.gate);
                Ok(())
            }
            Some(_) => unreachable!("{} is not allowed in scripts", known.full_name),
            None => self.transaction.run_in_script(self.inner.database, known.command, args, &mut replies),
        };
        if self.shared.monitors.is_any() {
            let wall_ms = self.shared.engine.env().clock.wall_ms();
            self.inner.show_call_to_monitors(wall_ms, known.command, args);
        }
        if self.session.tracking.is_some() {
            remember_keys(self.shared, self.session, known, args);
        }
        let counters = &self.stats.commands[known.id];
        counters.calls.add(1);
        if replies.errors.count > 0 {
            counters.failed.add(1);
            self.shared.stats.error(&replies.errors.first_code);
        }
        result
    }
}

/// Whether the options of a read of streams have BLOCK.
fn says_block(args: Args<'_>) -> bool {
    let options = (1..args.len()).take_while(|word| !args.is(*word, "STREAMS"));
    options.into_iter().any(|word| args.is(word, "BLOCK"))
}

/// The command that a script calls with these words.
fn resolve<'s>(shared: &'s ServerContext, args: Args<'_>) -> Result<&'s Known, CommandError> {
    let known = shared.table.find(args);
    let known = known.ok_or(CommandError::of("ERR Unknown Redis command called from script"))?;
    match known.takes(args) && known.command.is_callable() {
        true => Ok(known),
        false => Err(CommandError::of("ERR Wrong number of args calling Redis command from script")),
    }
}

/// Runs the function of a script in a transaction, for EXEC too. Returns what its reply has to wait for
/// beside the batch.
pub(super) fn run_in(
    function: ScriptFunction,
    (shared, stats, slot): (&Arc<ServerContext>, &WorkerStats, &ScriptSlot<'_>),
    session: &mut Session,
    args: Args<'_>,
    (replies, transaction): (&mut Replies<'_>, &mut Transaction<'_>),
) -> Lsn {
    if shared.monitors.is_any() {
        session.show_script_to_monitors(shared.engine.env().clock.wall_ms(), args);
    }
    let inner = session.for_script();
    // Messages that the script publishes wait for what its connection wrote before.
    let mut outbox = Outbox::default();
    outbox.seal(replies.gate_before(), Lsn(0));
    let mut call = ScriptCall {
        shared,
        args,
        reply: replies,
        session: &*session,
        inner,
        stats,
        transaction,
        slot,
        rules: ScriptRules::default(),
        is_out_of_memory: false,
        outbox,
        gate: Lsn(0),
    };
    let mark = call.reply.mark();
    if let Err(error) = function(&mut call) {
        call.reply.rewind(mark);
        call.reply.error(&error);
    }
    let ScriptCall { gate, inner, .. } = call;
    session.monitored.extend(inner.monitored);
    session.monitored_bytes += inner.monitored_bytes;
    gate
}

impl Core {
    /// Runs a script as a batch of its own. Outside of the runtime.
    pub(super) fn run_script(
        &mut self,
        shared: &Arc<ServerContext>,
        (known, function): (&Known, ScriptFunction),
        args: Args<'_>,
    ) -> (bool, Option<Waiting>) {
        let (credit, spare_bytes) = match self.admit(shared, 1, SCRIPT_ROOM_BYTES) {
            Ok(credit) => (credit, SCRIPT_ROOM_BYTES),
            Err(Admission::Wait) => return (false, Some(retry())),
            // It may only read, or free memory.
            Err(Admission::Full(_) | Admission::Refused(_)) => (Credit::none(), 0),
            Err(Admission::Closed) => return (true, None),
        };
        if shared.engine.is_memory_full() {
            // Where that is not enough, the script's commands that need memory are refused.
            _ = shared.make_memory();
        }
        let Some(slot) = shared.scripts.begin() else { return (false, Some(retry())) };
        let start = shared.now();
        let run = shared.engine.writes(credit);
        if !self.session.has_current_rights(&shared.acl) {
            // They have changed since the call was looked at.
            return (false, None);
        }
        let mut run = run.by(self.session.client.id);
        let mut transaction = run.transaction().with_spare(spare_bytes);
        let stats = self.stats.clone();
        self.reply_sealed(|session, replies| {
            let within = (shared, &*stats, &slot);
            let gate = run_in(function, within, session, args, (replies, &mut transaction));
            (gate.max(transaction.finish()), ())
        });
        drop(run);
        drop(slot);
        self.collect_mail();
        self.note(shared, known.id, args, shared.now() - start);
        (true, None)
    }
}

/// Takes the read lock. `None` where a script has the keyspace's lock: the caller must try again later.
pub(super) fn take_reads(shared: &ServerContext) -> Option<Result<ReadRun<'_>, CommandError>> {
    loop {
        if let Some(run) = shared.engine.reads_within(MOMENT) {
            return Some(run.map_err(|refusal| refusal.error()));
        }
        if shared.scripts.is_running() {
            return None;
        }
    }
}

/// Takes the write lock; `None` where another caller's script has it.
pub(super) fn take_writes(
    shared: &ServerContext,
    mut credit: Credit,
    is_for_script: bool,
) -> Option<WriteRun<'_>> {
    loop {
        match shared.engine.writes_within(credit, MOMENT) {
            Ok(run) => return Some(run),
            Err(_) if shared.scripts.is_running() && !is_for_script => return None,
            Err(unused) => credit = unused,
        }
    }
}
