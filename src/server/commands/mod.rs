//! Session commands: commands about a connection or the server, each declared in one row.
//!
//! # How to add a session command
//!
//! 1. Write its function, `fn(&mut Call) -> Outcome`, in the file of its family.
//! 2. Add its row there: `session("NAME", "usage", &Run(function))`, with group, flags, ACL categories and
//!    docs. Arity, keys, COMMAND and its docs, statistics and HELP derive from the row, as with the engine's
//!    commands.
//!
//! A new family is a file with `COMMANDS`, and a line in [`FAMILIES`].

mod acl;
mod administration;
mod client;
mod cluster;
mod command;
mod config;
mod connection;
mod info;
mod latency;
mod migrate;
mod multi;
mod pubsub;
mod replication;
mod tracking;
mod waiting;

use crate::context::LoadedModule;
use crate::dispatch::{After, Call, Exec, Run};
use engramdb_engine::command::{Command, CommandTable, Outcome, Reply};
use engramdb_engine::store::view::View;

/// All commands of the server itself.
pub const FAMILIES: &[&[Command]] = &[
    connection::COMMANDS,
    multi::COMMANDS,
    client::COMMANDS,
    acl::COMMANDS,
    cluster::COMMANDS,
    command::COMMANDS,
    config::COMMANDS,
    info::COMMANDS,
    administration::COMMANDS,
    migrate::COMMANDS,
    pubsub::COMMANDS,
    latency::COMMANDS,
    replication::COMMANDS,
    waiting::COMMANDS,
];

/// A row of a session command. The engine derives the rest from it; see [`Command`].
pub(crate) const fn session(name: &'static str, usage: &'static str, run: &'static Run) -> Command {
    engramdb_engine::command::session(name, usage, run)
}

/// The table of all commands: the engine's, this crate's and the modules'.
pub fn table(module_commands: &[&'static [Command]]) -> CommandTable {
    let families = engramdb_engine::commands::FAMILIES.iter().chain(FAMILIES).chain(module_commands);
    CommandTable::new(families.copied())
}

pub use acl::seed as seed_users;

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

pub fn modules(view: &View<'_>) -> Vec<LoadedModule> {
    let modules = view.modules().iter().filter(|module| module.list_version() > 0);
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
