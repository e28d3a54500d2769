//! WAIT and WAITAOF: on one node there are no replicas, and the log is synced before any reply leaves.

use super::{After, Call, Run, session};
use crate::dispatch::{Resumed, WriteReply};
use crate::stats::WaitingClient;
use engramdb_engine::command::{Command, CommandError, Outcome, acl, flag, integer};
use std::time::Duration;

pub const COMMANDS: &[Command] = &[
    session("WAIT", "numreplicas timeout", &Run(wait))
        .flags(flag::BLOCKING)
        .acl(acl::BLOCKING | acl::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .docs(
            "3.0.0",
            "O(1)",
            "Blocks until the asynchronous replication of all preceding write commands sent by the connection is \
             completed.",
        ),
    session("WAITAOF", "numlocal numreplicas timeout", &Run(wait_for_log))
        .flags(flag::BLOCKING)
        .acl(acl::BLOCKING | acl::CONNECTION)
        .tips(&["request_policy:all_shards", "response_policy:agg_min"])
        .docs(
            "7.2.0",
            "O(1)",
            "Blocks until all of the preceding write commands sent by the connection are written to the append-only \
             file of the master and/or replicas.",
        ),
];

/// A timeout in milliseconds; 0 for none.
fn timeout(word: &[u8]) -> Result<Option<Duration>, CommandError> {
    let number =
        integer(word).map_err(|_| CommandError::of("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(number).map_err(|_| CommandError::of("ERR timeout is negative"))?;
    Ok(Some(Duration::from_millis(timeout)).filter(|timeout| !timeout.is_zero()))
}

fn wait(call: &mut Call<'_, '_, '_>) -> Outcome {
    let replicas = call.args.integer(1)?;
    let at_most = timeout(call.args[2])?;
    let write: WriteReply = Box::new(|reply| reply.integer(0));
    reply_after(call, replicas > 0, at_most, write);
    Ok(())
}

/// The replies to the connection's writes come first, so its writes are on disk when this reply leaves.
fn wait_for_log(call: &mut Call<'_, '_, '_>) -> Outcome {
    let local = call.args.integer(1)?;
    if !(0..=1).contains(&local) {
        return Err(CommandError::of("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = call.args.integer(2).ok().filter(|replicas| *replicas >= 0);
    let replicas = replicas.ok_or(CommandError::of("ERR value is out of range, must be positive"))?;
    let at_most = timeout(call.args[3])?;
    let write: WriteReply = Box::new(|reply| {
        reply.array(2);
        reply.integer(1);
        reply.integer(0);
    });
    reply_after(call, replicas > 0, at_most, write);
    Ok(())
}

/// Replies at once, or where replicas are asked for, of which there are none, after the timeout. CLIENT
/// UNBLOCK ends the wait.
fn reply_after(call: &mut Call<'_, '_, '_>, waits: bool, at_most: Option<Duration>, write: WriteReply) {
    if !waits || call.transaction.is_some() {
        return write(call.reply);
    }
    let unblocked = call.session.client.wait_to_be_unblocked();
    let counted = WaitingClient::new(&call.shared.stats);
    call.after = After::WaitForOthers(Box::pin(async move {
        let error = match at_most {
            None => unblocked.await.ok().flatten(),
            Some(at_most) => {
                tokio::time::timeout(at_most, unblocked).await.ok().and_then(Result::ok).flatten()
            }
        };
        drop(counted);
        Resumed::Reply(match error {
            Some(error) => Box::new(move |reply| reply.error(&error)),
            None => write,
        })
    }));
}
