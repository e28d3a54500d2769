//! Commands about replicas, of which there are none: refused, or answered as a master without any.

use super::{Call, Run, session};
use engramdb_engine::command::{Command, CommandError, Outcome, Reply, acl, flag};

const fn row(name: &'static str, usage: &'static str, run: &'static Run, flags: u32) -> Command {
    let flags = flag::ADMIN | flag::NO_SCRIPT | flag::STALE | flags;
    session(name, usage, run).group("server").flags(flags).acl(acl::ADMIN | acl::DANGEROUS)
}

pub const COMMANDS: &[Command] = &[
    row("FAILOVER", "[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]", &Run(failover), 0).docs(
        "6.2.0",
        "O(1)",
        "Starts a coordinated failover from a server to one of its replicas.",
    ),
    row("REPLICAOF", "host port", &Run(replica_of), flag::NO_ASYNC_LOADING).docs(
        "5.0.0",
        "O(1)",
        "Configures a server as replica of another, or promotes it to a master.",
    ),
    row("SLAVEOF", "host port", &Run(replica_of), flag::NO_ASYNC_LOADING).docs(
        "1.0.0",
        "O(1)",
        "Sets a Redis server as a replica of another, or promotes it to being a master.",
    ),
];

fn failover(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.args.len() == 2 && call.args.is(1, "ABORT") {
        return Err(CommandError::of("ERR No failover in progress."));
    }
    let mut options = call.args.options(1);
    while !options.is_done() {
        if options.take("TO") {
            options.words(2)?;
            options.take("FORCE");
        } else if options.take("TIMEOUT") {
            options.integer()?;
        } else if !options.take("ABORT") {
            return Err(CommandError::SYNTAX);
        }
    }
    Err(CommandError::of("ERR FAILOVER requires connected replicas."))
}

/// A server that leads goes on; nothing else can be done.
fn replica_of(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.args.is(1, "NO") && call.args.is(2, "ONE") && call.shared.engine.refuses_writes().is_none() {
        call.reply.ok();
        return Ok(());
    }
    let port = call.args.integer(2).ok().filter(|port| (0..=65_535).contains(port));
    port.ok_or(CommandError::of("ERR Invalid master port"))?;
    Err(CommandError::of("ERR replication from another server is not supported"))
}
