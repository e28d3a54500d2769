//! The shell thread: accepts connections and does periodic work.

use crate::context::{ServerContext, Stop};
use crate::listener;
use crate::worker::Incoming;
use engramdb_engine::env::engine_clock::LOGGED_EVERY_MS;
use engramdb_engine::log::Lsn;
use engramdb_engine::log::pipeline::Pipeline;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;

pub fn start(
    shared: Arc<ServerContext>,
    listeners: Vec<std::net::TcpListener>,
    incoming: Vec<Incoming>,
    signals: bool,
) -> std::io::Result<JoinHandle<()>> {
    let engine = shared.engine.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(move || {
            if let Some(log) = engine.writer() {
                log.kick();
            }
        })
        .build()?;
    let run = move || {
        runtime.block_on(async {
            for listener in listeners {
                match TcpListener::from_std(listener) {
                    Ok(listener) => {
                        tokio::spawn(listener::accept(shared.clone(), listener, incoming.clone()));
                    }
                    Err(error) => tracing::error!("cannot listen: {error}"),
                }
            }
            drop(incoming);
            tokio::spawn(expire(shared.clone()));
            tokio::spawn(count(shared.clone()));
            tokio::spawn(mind_clients(shared.clone()));
            tokio::spawn(watch_memory(shared.clone()));
            tokio::spawn(watch_room(shared.clone()));
            if signals {
                tokio::spawn(stop_on_signal(shared.clone()));
                tokio::spawn(note_hangups());
            }
            shared.stop_asked().await;
            for client in shared.clients.all() {
                client.wake();
            }
        });
        // Ends all tasks of this thread. With the last listener the workers end too.
        drop(runtime);
    };
    std::thread::Builder::new().name("shell".to_owned()).spawn(run)
}

/// The first pause after the modules had no background work; it doubles up to `MAINTAIN_PAUSE_MAX`.
const MAINTAIN_PAUSE_MIN: Duration = Duration::from_millis(5);
/// The pause between two slices of background work.
const MAINTAIN_BREAK: Duration = Duration::from_micros(100);
/// The pause between two slices while clients write: longer than a slice holds the keyspace lock, so that
/// writers have it for more than half of the time.
const MAINTAIN_BREAK_WRITTEN: Duration = Duration::from_micros(350);
const MAINTAIN_PAUSE_MAX: Duration = Duration::from_millis(80);

/// Starts the thread of the modules' background work (index backfills), which may block.
pub fn maintain(shared: Arc<ServerContext>) -> std::io::Result<JoinHandle<()>> {
    let run = move || {
        let mut pause = MAINTAIN_PAUSE_MIN;
        let mut last_lsn = Lsn(0);
        while !shared.is_stopping() {
            if shared.engine.run_background() {
                // Threads that wait for the keyspace come first.
                let before = std::mem::replace(&mut last_lsn, shared.engine.last_lsn());
                let is_written = last_lsn != before;
                std::thread::park_timeout(if is_written { MAINTAIN_BREAK_WRITTEN } else { MAINTAIN_BREAK });
                pause = MAINTAIN_PAUSE_MIN;
            } else {
                std::thread::park_timeout(pause);
                pause = (pause * 2).min(MAINTAIN_PAUSE_MAX);
            }
        }
        shared.engine.stop_background();
    };
    std::thread::Builder::new().name("maintain".to_owned()).spawn(run)
}

/// The most keys deleted under one hold of the lock.
const EXPIRE_KEYS_MAX: usize = 50;
/// How long one round of active expiry works, without the time in which other tasks run.
const EXPIRE_ROUND: Duration = Duration::from_millis(4);
/// The part of the time that active expiry works while more keys have expired than it has deleted: at first,
/// and at most, as a percentage. Redis's is 25.
const EXPIRE_PERCENT: (u32, u32) = (25, 75);

/// How much active expiry works. While there is always more to delete it works more and more, so that keys
/// that are written with short lives do not pile up; what is left to others is at least a quarter.
struct ExpiryPace {
    percent: u32,
}

impl ExpiryPace {
    fn new() -> ExpiryPace {
        ExpiryPace { percent: EXPIRE_PERCENT.0 }
    }

    /// The pause after a round that worked for so long and left something to do, or did not.
    fn pause(&mut self, worked: Duration, is_more_left: bool, period: Duration) -> Duration {
        if !is_more_left {
            self.percent = EXPIRE_PERCENT.0;
            return period;
        }
        let pause = worked * (100 - self.percent) / self.percent;
        self.percent = (self.percent + 1).min(EXPIRE_PERCENT.1);
        pause.min(period)
    }
}

/// Active expiry. Also logs that time passes, so that engine time does not go back at a restart.
async fn expire(shared: Arc<ServerContext>) {
    let mut logged_at = shared.now();
    let mut is_ahead = false;
    let mut pace = ExpiryPace::new();
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        let (is_active, period) = {
            let config = shared.config.read();
            (config.active_expiry, Duration::from_secs(1) / config.hz.clamp(1, 500))
        };
        pause = period;
        if shared.now().saturating_sub(logged_at) >= Duration::from_millis(LOGGED_EVERY_MS) {
            logged_at = shared.now();
            say_that_clocks_differ(&shared, &mut is_ahead);
            let held_off = shared.scripts.hold_off();
            let writer = shared.engine.writer().filter(|_| held_off.is_some());
            if let Some(log) = writer.filter(|_| anything_expires(&shared)) {
                log.submit_time(shared.engine.now_ms());
            }
        }
        if !is_active {
            continue;
        }
        let (worked, is_more_left) = expire_round(&shared).await;
        pause = pace.pause(worked, is_more_left, period);
    }
}

/// Deletes what has expired, in small steps, for a while. Returns how long it worked, and whether there is
/// more to do.
async fn expire_round(shared: &ServerContext) -> (Duration, bool) {
    let mut worked = Duration::ZERO;
    while worked < EXPIRE_ROUND {
        let start = shared.now();
        let visited = {
            let Some(_held_off) = shared.scripts.hold_off() else { return (worked, false) };
            shared.engine.expire_due(EXPIRE_KEYS_MAX)
        };
        worked += shared.now().saturating_sub(start);
        match visited {
            Ok(keys) if keys < EXPIRE_KEYS_MAX => return (worked, false),
            Ok(_) => tokio::task::yield_now().await,
            Err(refusal) => {
                tracing::debug!("active expiry waits: {refusal}");
                return (worked, false);
            }
        }
    }
    (worked, true)
}

fn anything_expires(shared: &ServerContext) -> bool {
    let run = shared.engine.inspect();
    let view = run.view(0);
    view.whole_keyspace().databases().iter().any(|database| database.may_have_due(u64::MAX))
}

/// The smallest lag of the wall clock behind engine time that is logged, in milliseconds.
const AHEAD_MS_MIN: u64 = 2000;

/// Logs when the wall clock falls behind engine time, and when it has caught up.
fn say_that_clocks_differ(shared: &ServerContext, is_ahead: &mut bool) {
    let ahead_ms = shared.clock_ahead_ms();
    if ahead_ms >= AHEAD_MS_MIN && !*is_ahead {
        *is_ahead = true;
        tracing::warn!(
            "the wall clock is {} s behind the time by which keys expire, so it was ahead before. That time goes on, a little \
             slower, until the wall clock has caught up",
            ahead_ms / 1000
        );
    } else if ahead_ms == 0 && std::mem::take(is_ahead) {
        tracing::info!("the wall clock has caught up with the time by which keys expire");
    }
}

/// Measures operations per second, for INFO.
async fn count(shared: Arc<ServerContext>) {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let total: u64 = shared.workers.iter().map(|worker| worker.commands_total.get()).sum();
        shared.stats.operations_per_second.store(total.saturating_sub(before), Ordering::Relaxed);
        before = total;
    }
}

/// The time between two checks of all connections.
const MIND_PAUSE: Duration = Duration::from_millis(500);

/// Closes connections that are idle for longer than `timeout`, whose unread output exceeds the soft limit for
/// too long, that do not read their last replies, or that take too much memory together.
async fn mind_clients(shared: Arc<ServerContext>) {
    loop {
        tokio::time::sleep(MIND_PAUSE).await;
        shared.evict_clients();
        let outputs = shared.config.read().output_limits;
        let has_timeout = shared.limits.idle_timeout_s.load(Ordering::Relaxed) > 0;
        let has_soft_limit =
            outputs.normal.soft > 0 || (outputs.pubsub.soft > 0 && shared.clients.are_some_subscribers());
        if !has_timeout && !has_soft_limit && !shared.clients.are_some_closing() {
            continue;
        }
        let now = shared.now();
        for client in shared.clients.all() {
            let output = if client.is_subscriber() { outputs.pubsub } else { outputs.normal };
            if output.soft > 0 && client.is_beyond_soft_output(now, Duration::from_secs(output.soft_s)) {
                let (id, address) = (client.id, client.address);
                let (bytes, seconds) = (output.soft, output.soft_s);
                tracing::warn!(
                    "closing connection {id} of {address}: more than {bytes} bytes are unread for longer than \
                     {seconds} s"
                );
                shared.stats.output_limit_disconnections.fetch_add(1, Ordering::Relaxed);
                client.kill();
            } else if shared.is_idle_too_long(&client) || client.is_stuck(now) {
                client.ask_whether_idle();
            }
        }
    }
}

/// See `process::ignore_hangups`.
async fn note_hangups() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut hangup), Ok(mut user)) = (signal(SignalKind::hangup()), signal(SignalKind::user_defined1()))
    else {
        return;
    };
    loop {
        let name = std::future::poll_fn(|context| {
            if hangup.poll_recv(context).is_ready() {
                return std::task::Poll::Ready("SIGHUP");
            }
            user.poll_recv(context).map(|_| "SIGUSR1")
        })
        .await;
        tracing::info!("{name}: ignored; CONFIG SET changes parameters, SIGTERM stops the server");
    }
}

/// The time between two checks of the memory in use, while there is a limit. A write-heavy load adds some
/// megabytes in this time.
const MEMORY_PAUSE: Duration = Duration::from_millis(10);
/// The same while there is no limit.
const MEMORY_PAUSE_UNLIMITED: Duration = Duration::from_millis(50);

/// Compares the memory in use with `maxmemory`, so that commands need not.
async fn watch_memory(shared: Arc<ServerContext>) {
    let mut was_full = false;
    loop {
        // This thread accepts connections, too: it waits for no script.
        if let Some(_held_off) = shared.scripts.hold_off() {
            let used_bytes = shared.measure_memory().total() as u64;
            shared.engine.note_usage(shared.client_bytes() as u64, used_bytes);
            if shared.engine.is_memory_full() {
                shared.make_memory();
            }
        }
        let is_full = shared.engine.is_memory_full();
        if is_full != std::mem::replace(&mut was_full, is_full) {
            let held =
                if is_full { "is exceeded: writes that need memory are refused" } else { "holds again" };
            tracing::warn!("maxmemory {held}");
        }
        let is_limited = shared.config.read().memory_bytes_max > 0;
        tokio::time::sleep(if is_limited { MEMORY_PAUSE } else { MEMORY_PAUSE_UNLIMITED }).await;
    }
}

/// Serves parked clients whose keys got values while the log had no room. Logs when the disk has no room for
/// the log to grow, and when the refusal of writes begins and ends.
async fn watch_room(shared: Arc<ServerContext>) {
    let mut began: Option<Duration> = None;
    let mut was_full = false;
    loop {
        if let Some(_held_off) = shared.scripts.hold_off() {
            shared.engine.serve_parked();
        }
        let shortage = shared.engine.writer().and_then(Pipeline::shortage);
        let last_room = shared.engine.writer().and_then(Pipeline::last_room);
        let is_full = last_room.is_some();
        if let Some((cause, bytes)) = last_room.filter(|_| !was_full && shortage.is_none()) {
            let kib = bytes >> 10;
            tracing::warn!(
                "the disk is full: after {kib} KiB more of the log, writes will be refused; {cause}"
            );
        }
        was_full = is_full;
        match (began, shortage) {
            (None, Some(shortage)) => {
                began = Some(shared.now());
                let what = if shortage.read_only {
                    "the server is read-only: the disk has no room to open the log for writing"
                } else {
                    "writes are refused: the log has no room. Commands that free memory still work"
                };
                tracing::error!(
                    "{what}; {}. Free disk space: writes then go on by themselves",
                    shortage.cause
                );
            }
            (Some(at), None) => {
                began = None;
                let refused = shared.now().saturating_sub(at);
                tracing::info!("the log has room again: writes go on after {:.0} s", refused.as_secs_f64());
            }
            _ => {}
        }
        tokio::time::sleep(ROOM_PAUSE).await;
    }
}

/// The time between two checks of the log's room.
const ROOM_PAUSE: Duration = Duration::from_millis(200);

async fn stop_on_signal(shared: Arc<ServerContext>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("cannot listen for signals; use SHUTDOWN to stop");
        return;
    };
    let name = std::future::poll_fn(|context| {
        if terminate.poll_recv(context).is_ready() {
            return std::task::Poll::Ready("SIGTERM");
        }
        interrupt.poll_recv(context).map(|_| "SIGINT")
    })
    .await;
    tracing::info!("{name}: stopping");
    shared.ask_stop(Stop::default());
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    #[test]
    fn active_expiry_works_more_the_longer_it_is_behind() {
        let mut pace = ExpiryPace::new();
        let mut pause = |is_more_left| pace.pause(Duration::from_millis(3), is_more_left, PERIOD);
        assert_eq!(pause(false), PERIOD, "nothing is left");
        let behind: Vec<Duration> = (0..100).map(|_| pause(true)).collect();
        assert_eq!(behind[0], Duration::from_millis(9), "a quarter of the time at first");
        assert!(behind.is_sorted_by(|earlier, later| earlier >= later), "{behind:?}");
        assert_eq!(behind[99], Duration::from_millis(1), "three quarters at most");
        assert_eq!(pause(false), PERIOD);
        assert_eq!(pause(true), Duration::from_millis(9), "and from the start again");
    }

    #[test]
    fn a_slow_round_does_not_make_the_pause_longer_than_the_period() {
        let mut pace = ExpiryPace::new();
        assert_eq!(pace.pause(Duration::from_secs(10), true, PERIOD), PERIOD);
    }
}
