//! The rows of MULTI, EXEC, DISCARD, WATCH and UNWATCH. EXEC itself is in `dispatch/transaction.rs`.

use super::{Call, Exec, Run, session};
use crate::session::Multi;
use engramdb_engine::Watch;
use engramdb_engine::command::{Command, CommandError, Outcome, Reply, acl, flag};
use std::sync::atomic::Ordering;

const FLAGS: u32 = flag::NO_SCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::ALLOW_BUSY;

pub const COMMANDS: &[Command] = &[
    session("MULTI", "", &Run(multi))
        .group("transactions")
        .flags(FLAGS | flag::NO_QUEUE)
        .acl(acl::TRANSACTION)
        .docs("1.2.0", "O(1)", "Starts a transaction."),
    engramdb_engine::command::session("EXEC", "", &Exec)
        .group("transactions")
        .flags(flag::NO_SCRIPT | flag::LOADING | flag::STALE | flag::SKIP_SLOWLOG | flag::NO_QUEUE)
        .acl(acl::TRANSACTION)
        .docs("1.2.0", "Depends on commands in the transaction", "Executes all commands in a transaction."),
    session("DISCARD", "", &Run(discard))
        .group("transactions")
        .flags(FLAGS | flag::NO_QUEUE)
        .acl(acl::TRANSACTION)
        .docs("2.0.0", "O(N), when N is the number of queued commands", "Discards a transaction."),
    session("WATCH", "key+", &Run(watch))
        .group("transactions")
        .flags(FLAGS | flag::NO_QUEUE)
        .acl(acl::TRANSACTION)
        .access(&["RO"])
        .docs(
            "2.2.0",
            "O(1) for every key.",
            "Monitors changes to keys to determine the execution of a transaction.",
        ),
    session("UNWATCH", "", &Run(unwatch)).group("transactions").flags(FLAGS).acl(acl::TRANSACTION).docs(
        "2.2.0",
        "O(1)",
        "Forgets about watched keys of a transaction.",
    ),
];

fn multi(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.session.multi.is_some() {
        return Err(CommandError::of("ERR MULTI calls can not be nested"));
    }
    call.session.multi = Some(Multi::default());
    call.session.client.multi.store(1, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

fn discard(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.session.multi.take().is_none() {
        return Err(CommandError::of("ERR DISCARD without MULTI"));
    }
    forget(call);
    call.session.client.multi.store(0, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

/// What a watched key takes beside its two copies: in the connection's list, and in the keyspace's table of
/// watchers.
const WATCHED_KEY_BYTES: usize = 128;

fn watch(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.session.multi.is_some() {
        return Err(CommandError::of("ERR WATCH inside MULTI is not allowed"));
    }
    let watch = call.session.watch.get_or_insert_with(Watch::new).clone();
    let gate = call.shared.engine.watch(&watch, call.session.database, call.args.from(1));
    call.session.watch_gate = call.session.watch_gate.max(gate);
    let keys = call.args.from(1).iter();
    call.session.watch_bytes += keys.map(|key| 2 * key.len() + WATCHED_KEY_BYTES).sum::<usize>();
    call.session.client.watches.store(true, Ordering::Relaxed);
    call.reply.ok();
    Ok(())
}

fn unwatch(call: &mut Call<'_, '_, '_>) -> Outcome {
    forget(call);
    call.reply.ok();
    Ok(())
}

fn forget(call: &mut Call<'_, '_, '_>) {
    call.session.unwatch();
    call.session.client.watches.store(false, Ordering::Relaxed);
}
