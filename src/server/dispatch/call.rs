//! One call of a session command, as its function sees it, and what runs session commands.

use crate::context::ServerContext;
use crate::dispatch::scripting::{RunScript, ScriptFunction};
use crate::dispatch::wait::Waiting;
use crate::output::Replies;
use crate::scripts::Scripts;
use crate::session::Session;
use engramdb_engine::command::{Args, Command, CommandTable, Handler, Known, Outcome, Reply};
use engramdb_engine::log::Lsn;
use engramdb_engine::shard::run::Transaction;
use engramdb_engine::store::view::View;
use std::sync::Arc;

pub type SessionFunction = fn(&mut Call<'_, '_, '_>) -> Outcome;

/// What the row of a session command has as its handler: the function.
pub struct Run(pub SessionFunction);

/// The handler of EXEC, which the connection runs itself: it may have to wait for room in the log.
pub struct Exec;

/// What runs a session command.
pub enum SessionRunner {
    Function(SessionFunction),
    Script(ScriptFunction),
    Exec,
}

/// What runs the command; none for a command of the engine.
#[inline]
pub fn session_runner(command: &Command) -> Option<SessionRunner> {
    let Handler::Session(handler) = command.handler else { return None };
    if let Some(Run(function)) = handler.downcast_ref() {
        return Some(SessionRunner::Function(*function));
    }
    if let Some(RunScript(function)) = handler.downcast_ref() {
        return Some(SessionRunner::Script(*function));
    }
    assert!(handler.is::<Exec>(), "{} has a handler that is none of this crate", command.name);
    Some(SessionRunner::Exec)
}

/// Looks at the handlers of all rows, so that a wrong one is found at the start.
pub fn check_handlers(table: &CommandTable) {
    fn check(known: &Known) {
        session_runner(known.command);
        known.subcommands.iter().for_each(check);
    }
    table.iter().for_each(check);
}

/// One call of a session command.
pub struct Call<'c, 'o, 't> {
    pub(crate) shared: &'c Arc<ServerContext>,
    pub(crate) session: &'c mut Session,
    pub(crate) args: Args<'c>,
    pub(crate) reply: &'c mut Replies<'o>,
    /// Inside EXEC, which holds the keyspace's lock.
    pub(crate) transaction: Option<&'c mut Transaction<'t>>,
    pub(crate) after: After,
    /// What the reply has to wait for.
    pub(crate) gate: Lsn,
}

/// What the connection does after the command.
pub enum After {
    Nothing,
    Close,
    Wait(Waiting),
    /// The same for a wait that can take any time: the end of the client is noticed.
    WaitForOthers(Waiting),
}

impl<'c, 'o, 't> Call<'c, 'o, 't> {
    pub(crate) fn new(
        shared: &'c Arc<ServerContext>,
        session: &'c mut Session,
        args: Args<'c>,
        reply: &'c mut Replies<'o>,
        transaction: Option<&'c mut Transaction<'t>>,
    ) -> Call<'c, 'o, 't> {
        Call { shared, session, args, reply, transaction, after: After::Nothing, gate: Lsn(0) }
    }

    /// All words of the call.
    pub fn args(&self) -> Args<'c> {
        self.args
    }

    /// Where the reply goes.
    pub fn reply(&mut self) -> &mut dyn Reply {
        self.reply
    }

    /// The script that runs, if there is one.
    pub fn scripts(&self) -> &'c Arc<Scripts> {
        &self.shared.scripts
    }

    /// Reads the keyspace; the reply waits for what was read.
    pub fn read<R>(&mut self, read: impl FnOnce(&View<'_>) -> R) -> R {
        match &mut self.transaction {
            Some(transaction) => transaction.read(read),
            None => {
                let (result, gate) = self.shared.engine.inspect().read(self.session.database, read);
                self.gate = self.gate.max(gate);
                result
            }
        }
    }

    /// Runs the function; an error replaces whatever it wrote.
    pub(crate) fn run(&mut self, function: SessionFunction) {
        let mark = self.reply.mark();
        if let Err(error) = function(self) {
            self.reply.rewind(mark);
            self.reply.error(&error);
        }
    }

    /// Looks at the keyspace: through the transaction inside EXEC, under the read lock elsewhere. What it
    /// shows is not gated.
    pub fn look<R>(&mut self, look: impl FnOnce(&View<'_>) -> R) -> R {
        match &mut self.transaction {
            Some(transaction) => transaction.look(look),
            None => look(&self.shared.engine.inspect().view(self.session.database)),
        }
    }
}
