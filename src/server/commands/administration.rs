//! Commands about the server: time, snapshots, shutdown, modules, slow log, debugging.

use super::{After, Call, Run, modules, session, write_modules};
use crate::context::Stop;
use crate::dispatch::{Resumed, WriteReply};
use engramdb_engine::command::{Command, CommandError, Outcome, Reply, acl, container, flag};
use engramdb_engine::shard::role::Role;
use engramdb_engine::types::parse_double;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const COMMANDS: &[Command] = &[
    admin("BGSAVE", "[SCHEDULE]", &Run(background_save), flag::NO_ASYNC_LOADING).docs("1.0.0", "O(1)", "Asynchronously saves the database(s) to disk."),
    container("DEBUG", DEBUG)
        .group("server")
        .flags(flag::ADMIN | flag::NO_SCRIPT | flag::LOADING | flag::STALE)
        .acl(acl::ADMIN | acl::DANGEROUS)
        .docs("1.0.0", "Depends on subcommand.", "A container for debugging commands."),
    admin("LASTSAVE", "", &Run(last_save), flag::LOADING | flag::STALE | flag::FAST)
        .flags(flag::LOADING | flag::STALE | flag::FAST)
        .tips(&["nondeterministic_output"]).docs("1.0.0", "O(1)", "Returns the Unix timestamp of the last successful save to disk."),
    container("MODULE", MODULE).group("server").docs(
        "4.0.0",
        "Depends on subcommand.",
        "A container for module commands.",
    ),
    admin("MONITOR", "", &Run(monitor), flag::LOADING | flag::STALE).docs(
        "1.0.0",
        "O(1)",
        "Listens for all requests received by the server in real-time.",
    ),
    admin("ROLE", "", &Run(role), 0)
        .flags(flag::NO_SCRIPT | flag::LOADING | flag::STALE | flag::FAST)
        .docs("2.8.12", "O(1)", "Returns the replication role."),
    admin("SAVE", "", &Run(save), flag::NO_MULTI | flag::NO_ASYNC_LOADING).docs(
        "1.0.0",
        "O(N) where N is the total number of keys in all databases",
        "Synchronously saves the database(s) to disk.",
    ),
    admin("SHUTDOWN", "[NOSAVE|SAVE] [NOW] [FORCE] [ABORT]", &Run(shutdown), SHUTDOWN).docs(
        "1.0.0",
        "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)",
        "Synchronously saves the database(s) to disk and shuts down the Redis server.",
    ),
    container("SLOWLOG", SLOWLOG).group("server").docs(
        "2.2.12",
        "Depends on subcommand.",
        "A container for slow log commands.",
    ),
    session("TIME", "", &Run(time)).group("server").flags(flag::LOADING | flag::STALE | flag::FAST).tips(&["nondeterministic_output"]).docs(
        "2.6.0",
        "O(1)",
        "Returns the server time.",
    ),
];

const SHUTDOWN: u32 = flag::LOADING | flag::STALE | flag::NO_MULTI | flag::ALLOW_BUSY;

const fn admin(name: &'static str, usage: &'static str, run: &'static Run, flags: u32) -> Command {
    let flags = flag::ADMIN | flag::NO_SCRIPT | flags;
    session(name, usage, run).group("server").flags(flags).acl(acl::ADMIN | acl::DANGEROUS)
}

const fn help(since: &'static str) -> Command {
    session("HELP", "", &Run(super::help)).group("server").flags(flag::LOADING | flag::STALE).docs(
        since,
        "O(1)",
        "Returns helpful text about the different subcommands.",
    )
}

const DEBUG_FLAGS: u32 = flag::LOADING | flag::STALE;

const DEBUG: &[Command] = &[
    help("1.0.0"),
    admin("ERROR", "message", &Run(debug_error), DEBUG_FLAGS).docs(
        "3.0.0",
        "O(1)",
        "Replies with this error, for tests of clients.",
    ),
    admin("RELOAD", "[NOSAVE]", &Run(debug_reload), DEBUG_FLAGS | flag::NO_MULTI).docs(
        "1.0.0",
        "O(1), and O(N) in the background for N keys",
        "Builds what is derived from the keys, the indexes, anew; keys are on disk, and stay.",
    ),
    admin("SET-ACTIVE-EXPIRE", "0|1", &Run(set_active_expire), DEBUG_FLAGS).docs(
        "1.0.0",
        "O(1)",
        "Turns the background deletion of expired keys on or off.",
    ),
    admin("SLEEP", "seconds", &Run(debug_sleep), DEBUG_FLAGS | flag::NO_MULTI).docs(
        "1.0.0",
        "O(1)",
        "Delays the connection, and only this one, for so many seconds.",
    ),
];

const MODULE: &[Command] = &[
    help("5.0.0"),
    admin("LIST", "", &Run(module_list), 0).tips(&["nondeterministic_output_order"]).docs(
        "4.0.0",
        "O(N) where N is the number of modules.",
        "Returns all loaded modules.",
    ),
];

const SLOWLOG: &[Command] = &[
    admin("GET", "[count]", &Run(slow_log_get), 0)
        .flags(SLOWLOG_FLAGS)
        .tips(&["request_policy:all_nodes", "nondeterministic_output"])
        .docs("2.2.12", "O(N) where N is the number of entries returned", "Returns the slow log's entries."),
    help("6.2.0"),
    admin("LEN", "", &Run(slow_log_len), 0)
        .flags(SLOWLOG_FLAGS)
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"])
        .docs("2.2.12", "O(1)", "Returns the number of entries in the slow log."),
    admin("RESET", "", &Run(slow_log_reset), 0)
        .flags(SLOWLOG_FLAGS)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .docs(
            "2.2.12",
            "O(N) where N is the number of entries in the slowlog",
            "Clears all entries from the slow log.",
        ),
];

const SLOWLOG_FLAGS: u32 = flag::ADMIN | flag::LOADING | flag::STALE | flag::UNGATED;

fn background_save(call: &mut Call<'_, '_, '_>) -> Outcome {
    let is_scheduled = call.args.is(1, "SCHEDULE");
    if call.args.len() > 2 || (call.args.len() == 2 && !is_scheduled) {
        return Err(CommandError::SYNTAX);
    }
    if call.shared.snapshotter.in_progress() {
        if !is_scheduled {
            return Err(CommandError::of("ERR Background save already in progress"));
        }
        let shared = call.shared.clone();
        tokio::spawn(async move {
            wait_for_snapshot(&*shared.snapshotter).await;
            if let Err(cause) = shared.snapshotter.start() {
                tracing::warn!("the scheduled snapshot did not start: {cause}");
            }
        });
        call.reply.simple("Background saving scheduled");
        return Ok(());
    }
    start_snapshot(call)?;
    call.reply.simple("Background saving started");
    Ok(())
}

fn start_snapshot(call: &mut Call<'_, '_, '_>) -> Outcome {
    let changes = call.look(|view| view.changes());
    call.shared.stats.changes_at_save.store(changes, Ordering::Relaxed);
    call.shared.snapshotter.start().map_err(|cause| CommandError::new(format!("ERR {cause}")))
}

const SNAPSHOT_POLL: Duration = Duration::from_millis(20);

async fn wait_for_snapshot(snapshotter: &dyn crate::Snapshotter) {
    while snapshotter.in_progress() {
        tokio::time::sleep(SNAPSHOT_POLL).await;
    }
}

/// Blocks this connection only: the snapshot is made by another process.
fn save(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.shared.snapshotter.in_progress() {
        return Err(CommandError::of("ERR Background save already in progress"));
    }
    start_snapshot(call)?;
    let snapshotter = call.shared.snapshotter.clone();
    call.after = After::Wait(Box::pin(async move {
        wait_for_snapshot(&*snapshotter).await;
        let result = snapshotter.last_result();
        let write: WriteReply = Box::new(move |reply| match result {
            Ok(()) => reply.ok(),
            Err(cause) => reply.error(&CommandError::new(format!("ERR {cause}"))),
        });
        Resumed::Reply(write)
    }));
    Ok(())
}

fn last_save(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.reply.integer((call.shared.last_save_ms() / 1000) as i64);
    Ok(())
}

fn set_active_expire(call: &mut Call<'_, '_, '_>) -> Outcome {
    let is_on = call.args.integer(2)? != 0;
    call.shared.config.write().active_expiry = is_on;
    call.reply.ok();
    Ok(())
}

/// Every write is on disk before it is acknowledged, so there is nothing to save, and nothing to read again.
fn debug_reload(call: &mut Call<'_, '_, '_>) -> Outcome {
    let mut options = call.args.options(2);
    while !options.is_done() {
        // What is on disk is not read: nothing can be kept or merged.
        if !options.take("NOSAVE") {
            return Err(CommandError::SYNTAX);
        }
    }
    call.shared.engine.rebuild();
    call.reply.ok();
    Ok(())
}

fn debug_error(call: &mut Call<'_, '_, '_>) -> Outcome {
    Err(CommandError::new(call.args[2]))
}

fn debug_sleep(call: &mut Call<'_, '_, '_>) -> Outcome {
    let seconds = parse_double(call.args[2]).ok_or(CommandError::NOT_FLOAT)?;
    let pause = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    call.after = After::Wait(Box::pin(async move {
        tokio::time::sleep(pause).await;
        let write: WriteReply = Box::new(|reply| reply.ok());
        Resumed::Reply(write)
    }));
    Ok(())
}

fn module_list(call: &mut Call<'_, '_, '_>) -> Outcome {
    let modules = call.look(modules);
    write_modules(call.reply, &modules);
    Ok(())
}

/// Everything that clients call is shown from now on. A second call has no reply, as in Redis.
fn monitor(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.transaction.is_some() {
        return Err(CommandError::of("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if !std::mem::replace(&mut call.session.is_monitor, true) {
        call.session.open_mailbox();
        let client = &call.session.client;
        client.is_monitor.store(true, Ordering::Relaxed);
        call.shared.monitors.add(client);
        call.reply.ok();
    }
    Ok(())
}

fn role(call: &mut Call<'_, '_, '_>) -> Outcome {
    let engine = &call.shared.engine;
    let offset = engine.last_lsn().0 as i64;
    match engine.role() {
        Role::Leading(_) => {
            call.reply.array(3);
            call.reply.bulk(b"master");
            call.reply.integer(offset);
            call.reply.array(0);
        }
        Role::Following(following) => {
            call.reply.array(5);
            call.reply.bulk(b"slave");
            // The log is what it follows, whichever node writes that.
            call.reply.bulk(b"");
            call.reply.integer(0);
            call.reply.bulk(if following.is_caught_up() { b"connected" } else { b"sync" });
            call.reply.integer(offset);
        }
    }
    Ok(())
}

/// Replies only with an error: on success the connection ends.
fn shutdown(call: &mut Call<'_, '_, '_>) -> Outcome {
    let mut options = call.args.options(1);
    let (mut saves, mut no_save, mut aborts) = (false, false, false);
    while !options.is_done() {
        if options.take("SAVE") {
            saves = true;
        } else if options.take("NOSAVE") {
            no_save = true;
        } else if options.take("ABORT") {
            aborts = true;
        } else if !options.take("NOW") && !options.take("FORCE") {
            return Err(CommandError::SYNTAX);
        }
    }
    if (saves && no_save) || (aborts && call.args.len() > 2) {
        return Err(CommandError::SYNTAX);
    }
    if aborts {
        return Err(CommandError::of("ERR No shutdown in progress."));
    }
    tracing::info!("SHUTDOWN by {}: stopping", call.session.client.address);
    call.shared.ask_stop(Stop { save: saves });
    call.after = After::Close;
    Ok(())
}

const SLOW_ENTRIES_DEFAULT: usize = 10;

fn slow_log_get(call: &mut Call<'_, '_, '_>) -> Outcome {
    if call.args.len() > 3 {
        return Err(CommandError::wrong_subcommand(call.args.word(0), call.args.word(1)));
    }
    let count = match call.args.get(2) {
        None => SLOW_ENTRIES_DEFAULT,
        Some(_) => match call.args.integer(2) {
            Ok(-1) => usize::MAX,
            Ok(count @ 0..) => count as usize,
            _ => return Err(CommandError::of("ERR count should be greater than or equal to -1")),
        },
    };
    let entries = call.shared.stats.slow.lock();
    call.reply.array(count.min(entries.len()));
    for entry in entries.iter().take(count) {
        call.reply.array(6);
        call.reply.integer(entry.id as i64);
        call.reply.integer((entry.at_ms / 1000) as i64);
        call.reply.integer(entry.microseconds as i64);
        call.reply.array(entry.words.len());
        entry.words.iter().for_each(|word| call.reply.bulk(word));
        call.reply.bulk(entry.client.as_bytes());
        call.reply.bulk(&entry.client_name);
    }
    Ok(())
}

fn slow_log_len(call: &mut Call<'_, '_, '_>) -> Outcome {
    let length = call.shared.stats.slow.lock().len();
    call.reply.integer(length as i64);
    Ok(())
}

fn slow_log_reset(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.shared.stats.slow.lock().clear();
    call.reply.ok();
    Ok(())
}

fn time(call: &mut Call<'_, '_, '_>) -> Outcome {
    let wall_ms = call.shared.engine.env().clock.wall_ms();
    call.reply.array(2);
    call.reply.bulk((wall_ms / 1000).to_string().as_bytes());
    call.reply.bulk((wall_ms % 1000 * 1000).to_string().as_bytes());
    Ok(())
}
