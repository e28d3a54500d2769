//! Session commands: rows of the one command table, each with a function of this crate.
//!
//! The engine's table knows the rows; a parallel table, by `Known::id`, knows the functions. Start-up pairs
//! them by full name and fails on a row without a function, or a function without a row.

mod administration;
mod client;
mod cluster;
mod command;
mod config;
mod connection;
mod info;
mod transaction;

use crate::context::Shared;
use crate::dispatch::Waiting;
use crate::output::Replies;
use crate::session::Session;
use engramdb_engine::command::{Args, Command, CommandTable, Handler, Known, Outcome, Reply};
use engramdb_engine::log::Lsn;
use engramdb_engine::shard::run::Transaction;
use engramdb_engine::shard::view::View;
use std::collections::HashMap;
use std::sync::Arc;

/// All commands of the server itself.
pub const FAMILIES: &[&[Command]] = &[
    connection::COMMANDS,
    transaction::COMMANDS,
    client::COMMANDS,
    cluster::COMMANDS,
    command::COMMANDS,
    config::COMMANDS,
    info::COMMANDS,
    administration::COMMANDS,
];

const FUNCTIONS: &[&[(&str, SessionFunction)]] = &[
    connection::FUNCTIONS,
    transaction::FUNCTIONS,
    client::FUNCTIONS,
    cluster::FUNCTIONS,
    command::FUNCTIONS,
    config::FUNCTIONS,
    info::FUNCTIONS,
    administration::FUNCTIONS,
];

pub type SessionFunction = fn(&mut Call<'_, '_, '_>) -> Outcome;

/// What runs a command.
#[derive(Clone, Copy)]
pub enum Runner {
    /// The engine.
    Engine,
    Function(SessionFunction),
    /// The connection itself: a transaction may have to wait for room.
    Exec,
}

/// The table of all commands: the engine's, this crate's, and those of modules.
pub fn table(module_commands: &[&'static [Command]]) -> CommandTable {
    let families = engramdb_engine::commands::FAMILIES.iter().chain(FAMILIES).chain(module_commands);
    CommandTable::new(families.copied())
}

/// Pairs the table's session rows with their functions.
pub fn runners(table: &CommandTable) -> Vec<Runner> {
    let mut functions: HashMap<&str, SessionFunction> =
        FUNCTIONS.iter().copied().flatten().copied().collect();
    let mut runners = Vec::new();
    for known in table.iter() {
        pair(known, &mut functions, &mut runners);
    }
    assert!(functions.is_empty(), "functions without a command: {:?}", functions.keys());
    runners
}

/// Ids are given in the order of this walk.
fn pair(known: &Known, functions: &mut HashMap<&str, SessionFunction>, runners: &mut Vec<Runner>) {
    assert_eq!(known.id, runners.len(), "ids are dense");
    runners.push(match known.command.handler {
        Handler::Session if known.full_name == "exec" => Runner::Exec,
        Handler::Session => Runner::Function(
            functions
                .remove(known.full_name.as_str())
                .unwrap_or_else(|| panic!("command {} has no function", known.full_name)),
        ),
        _ => Runner::Engine,
    });
    known.subcommands.iter().for_each(|sub| pair(sub, functions, runners));
}

/// One call of a session command.
pub struct Call<'c, 'o, 't> {
    pub shared: &'c Arc<Shared>,
    pub session: &'c mut Session,
    pub args: Args<'c>,
    pub reply: &'c mut Replies<'o>,
    /// Inside EXEC, which holds the keyspace's lock.
    transaction: Option<&'c mut Transaction<'t>>,
    pub after: After,
    /// What the reply has to wait for.
    pub gate: Lsn,
}

/// What the connection does after the command.
pub enum After {
    Nothing,
    Close,
    Wait(Waiting),
}

impl<'c, 'o, 't> Call<'c, 'o, 't> {
    pub fn new(
        shared: &'c Arc<Shared>,
        session: &'c mut Session,
        args: Args<'c>,
        reply: &'c mut Replies<'o>,
        transaction: Option<&'c mut Transaction<'t>>,
    ) -> Call<'c, 'o, 't> {
        Call { shared, session, args, reply, transaction, after: After::Nothing, gate: Lsn(0) }
    }

    /// Runs the function; an error replaces whatever it wrote.
    pub fn run(&mut self, function: SessionFunction) {
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
            None => look(&self.shared.engine.reads().view(self.session.database)),
        }
    }
}

/// A word as text, for names and messages.
pub fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

/// HELP of a container: its subcommands, from the table.
fn help(call: &mut Call<'_, '_, '_>) -> Outcome {
    let container = call.shared.table.get(call.args.word(0)).expect("HELP is a subcommand of it");
    let title = "<subcommand> [<arg> [value] [opt] ...]. Subcommands are:";
    let mut lines = vec![format!("{} {title}", container.command.name)];
    for sub in &container.subcommands {
        lines.push(format!("{} {}", sub.command.name, sub.command.usage).trim_end().to_owned());
        lines.push(format!("    {}", sub.command.summary));
    }
    call.reply.array(lines.len());
    lines.iter().for_each(|line| call.reply.simple(line));
    Ok(())
}

/// A module as MODULE LIST and HELLO show it.
pub struct LoadedModule {
    name: &'static str,
    version: u32,
}

pub fn modules(view: &View<'_>) -> Vec<LoadedModule> {
    let modules = view.modules().iter();
    modules.map(|module| LoadedModule { name: module.name(), version: module.list_version() }).collect()
}

/// Writes the list of modules in Redis's form.
pub fn write_modules(reply: &mut dyn Reply, modules: &[LoadedModule]) {
    reply.array(modules.len());
    for module in modules {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(module.name.as_bytes());
        reply.bulk(b"ver");
        reply.integer(i64::from(module.version));
        reply.bulk(b"path");
        reply.bulk(b"");
        reply.bulk(b"args");
        reply.array(0);
    }
}
