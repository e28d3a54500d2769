//! A worker thread: a runtime of its own, its connections, and the releaser of their replies. When nothing is
//! left to do before the log has what they wrote, it leaves the runtime and writes the log itself, if that is
//! quick.

pub mod standby;

use crate::clients::Client;
use crate::connection;
use crate::context::{ServerContext, Worker};
use crate::output::gate::Gate;
use crate::outside::Outside;
use crate::stats::WorkerStats;
use crate::worker::standby::{Absence, AbsenceCause, Standby};
use engramdb_engine::Engine;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// Hands an accepted connection to a worker. Dropping all of them ends it, once its connections have ended.
pub type Incoming = UnboundedSender<(std::net::TcpStream, Arc<Client>)>;

/// How long connections may take to send their last replies when the server stops.
const STOP_ROUNDS_MAX: usize = 400;
const STOP_ROUND: Duration = Duration::from_millis(5);

/// Tasks polled between two looks at the sockets: a whole group of connections that one durable batch woke.
const EVENT_INTERVAL: u32 = 256;

/// Looking for more commands for the sake of one entry takes at most this many times as long as writing one,
/// and at most this long in all.
const LOOK_ENTRIES_MAX: u32 = 8;
const LOOK_TIME_MAX: Duration = Duration::from_millis(1);

/// Sees when a round is over, that is when the worker has nothing to do before the log has what it wrote, and
/// sends the round on its way.
///
/// A round of many connections trickles in, because their clients answer one reply after the other. So before
/// an entry is written for a few of them, the worker looks at its sockets again, as long as each look brings
/// commands and for a few times as long as an entry takes; a look costs about a microsecond, an entry as much
/// as tens of commands (decisions 0003 and 0037).
struct Rounds {
    engine: Arc<Engine>,
    stats: Arc<WorkerStats>,
    commands_seen: AtomicU64,
    /// When the worker looked for the sake of the entry that is to be written next, in nanoseconds of the
    /// monotonic clock; 0 before the first look.
    looks_since: AtomicU64,
    /// The worker is to lead the log.
    is_lead_due: AtomicBool,
    outside: Arc<Outside>,
    worker: Mutex<Option<Waker>>,
}

/// Why a worker leaves its runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// All its connections have ended.
    Ended,
    /// It is to lead the log.
    Lead,
    /// Rounds wait that may take long.
    Outside,
}

impl Rounds {
    fn new(engine: Arc<Engine>, stats: Arc<WorkerStats>) -> Rounds {
        Rounds {
            engine,
            stats,
            commands_seen: AtomicU64::new(0),
            looks_since: AtomicU64::new(0),
            is_lead_due: AtomicBool::new(false),
            outside: Arc::default(),
            worker: Mutex::new(None),
        }
    }

    /// Called when no task is ready, before the worker waits for its sockets. Woken here, it only looks at
    /// them and comes back.
    fn at_rest(&self) {
        let Some(pipeline) = self.engine.writer() else { return };
        let is_due = pipeline.is_kick_due();
        if is_due && self.may_look_again(pipeline.usual_time()) {
            return self.wake();
        }
        self.looks_since.store(0, Ordering::Relaxed);
        self.stats.rested();
        if !is_due {
            return;
        }
        if pipeline.is_quick() {
            self.is_lead_due.store(true, Ordering::Release);
            self.wake();
        } else {
            pipeline.kick();
        }
    }

    /// Whether the last look brought commands, and looking has not taken too long for entries that usually
    /// take this long.
    fn may_look_again(&self, usual_time: Duration) -> bool {
        let commands = self.stats.commands_total.get();
        if self.commands_seen.swap(commands, Ordering::Relaxed) == commands {
            return false;
        }
        let now = self.engine.env().clock.monotonic().as_nanos() as u64;
        let since = self.looks_since.load(Ordering::Relaxed);
        if since == 0 {
            self.looks_since.store(now.max(1), Ordering::Relaxed);
            return true;
        }
        let time_max = (usual_time * LOOK_ENTRIES_MAX).min(LOOK_TIME_MAX);
        // A first look in the clock's first nanosecond was noted as 1, because 0 says that there was none.
        now.saturating_sub(since) < time_max.as_nanos() as u64
    }

    fn wake(&self) {
        if let Some(worker) = &*self.worker.lock() {
            worker.wake_by_ref();
        }
    }

    /// Ready when the worker must leave the runtime.
    fn poll(&self, context: &mut Context<'_>, connections: &mut JoinHandle<()>) -> Poll<Leaving> {
        {
            let mut worker = self.worker.lock();
            if !worker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                *worker = Some(context.waker().clone());
            }
        }
        self.outside.hand_back();
        if self.outside.has_waiting() {
            return Poll::Ready(Leaving::Outside);
        }
        if self.is_lead_due.swap(false, Ordering::AcqRel) {
            return Poll::Ready(Leaving::Lead);
        }
        Pin::new(connections).poll(context).map(|_| Leaving::Ended)
    }
}

/// A started worker.
pub struct Started {
    pub incoming: Incoming,
    pub thread: std::thread::JoinHandle<()>,
    pub runtime: Arc<Runtime>,
    pub absence: Arc<Absence>,
}

/// A worker that is not started.
pub struct NewWorker {
    pub shared: Arc<ServerContext>,
    pub gate: Arc<Gate>,
    pub stats: Arc<WorkerStats>,
}

impl NewWorker {
    pub fn start(self, number: usize, standby: Arc<Standby>) -> std::io::Result<Started> {
        let (incoming, receiver) = unbounded_channel();
        let engine = self.shared.engine.clone();
        let NewWorker { shared, gate, stats } = self;
        let rounds = Arc::new(Rounds::new(engine.clone(), stats.clone()));
        let leave = {
            let rounds = Arc::downgrade(&rounds);
            move || {
                if let Some(rounds) = rounds.upgrade() {
                    rounds.wake();
                }
            }
        };
        let outside = rounds.outside.clone();
        let worker = Worker { shared, gate, stats, outside: outside.clone(), leave: Arc::new(leave) };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .event_interval(EVENT_INTERVAL)
            .on_thread_park({
                let rounds = rounds.clone();
                move || rounds.at_rest()
            })
            .build()?;
        let runtime = Arc::new(runtime);
        let absence = Arc::new(Absence::default());
        let run = {
            let (runtime, absence) = (runtime.clone(), absence.clone());
            move || {
                let mut connections = runtime.spawn(worker.run(receiver));
                loop {
                    match runtime.block_on(poll_fn(|context| rounds.poll(context, &mut connections))) {
                        Leaving::Ended => break,
                        Leaving::Lead => standby.watch(&absence, AbsenceCause::Disk, || {
                            if let Some(log) = engine.writer() {
                                log.lead();
                            }
                        }),
                        Leaving::Outside => standby.watch(&absence, AbsenceCause::Script, || {
                            // For timers that are made there.
                            let _entered = runtime.enter();
                            outside.run();
                        }),
                    }
                }
                // Breaks the reference cycle waker -> runtime -> hooks -> engine.
                *rounds.worker.lock() = None;
            }
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(run)?;
        Ok(Started { incoming, thread, runtime, absence })
    }
}

impl Worker {
    async fn run(self, mut incoming: UnboundedReceiver<(std::net::TcpStream, Arc<Client>)>) {
        let shared = self.shared.clone();
        let gate = self.gate.clone();
        tokio::spawn({
            let engine = shared.engine.clone();
            async move {
                gate.release(|| engine.durable(), || engine.writer().is_some_and(|log| log.is_quick())).await
            }
        });
        while let Some((stream, client)) = incoming.recv().await {
            match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => {
                    tokio::spawn(connection::run(self.clone(), stream, client));
                }
                Err(error) => {
                    tracing::warn!("cannot serve {}: {error}", client.address);
                    shared.clients.remove(client.id);
                }
            }
        }
        // Connections end by themselves, once what they have to send has been sent.
        for _ in 0..STOP_ROUNDS_MAX {
            if shared.clients.len() == 0 {
                break;
            }
            tokio::time::sleep(STOP_ROUND).await;
        }
    }
}
