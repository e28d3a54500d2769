//! A worker thread: a runtime of its own, its connections, and the releaser of their replies. When nothing is left to do
//! before the log has what they wrote, it leaves the runtime and writes the log itself, if that is quick.

use crate::clients::Client;
use crate::connection;
use crate::gate::Gate;
use crate::server::Shared;
use crate::standby::{Absence, Standby};
use crate::stats::WorkerStats;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// What a connection has of its worker.
#[derive(Clone)]
pub struct Worker {
    pub shared: Arc<Shared>,
    pub gate: Arc<Gate>,
    pub stats: Arc<WorkerStats>,
}

/// Hands an accepted connection to a worker. Dropping all of them ends it, once its connections have ended.
pub type Incoming = UnboundedSender<(std::net::TcpStream, Arc<Client>)>;

/// How long connections may take to send their last replies when the server stops.
const STOP_ROUNDS_MAX: usize = 400;
const STOP_ROUND: Duration = Duration::from_millis(5);

/// Tasks polled between two looks at the sockets: a whole group of connections that one durable batch woke.
const EVENT_INTERVAL: u32 = 256;

/// The round of a worker's connections is over, and it had better write the log itself.
#[derive(Default)]
struct Lead {
    is_due: AtomicBool,
    worker: Mutex<Option<Waker>>,
}

impl Lead {
    fn ask(&self) {
        self.is_due.store(true, Ordering::Release);
        if let Some(worker) = &*self.worker.lock() {
            worker.wake_by_ref();
        }
    }

    /// Ready with true when it is asked for, with false when `connections` has ended.
    fn poll(&self, context: &mut Context<'_>, connections: &mut JoinHandle<()>) -> Poll<bool> {
        {
            let mut worker = self.worker.lock();
            if !worker.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
                *worker = Some(context.waker().clone());
            }
        }
        if self.is_due.swap(false, Ordering::AcqRel) {
            return Poll::Ready(true);
        }
        Pin::new(connections).poll(context).map(|_| false)
    }
}

/// A started worker.
pub struct Started {
    pub incoming: Incoming,
    pub thread: std::thread::JoinHandle<()>,
    pub runtime: Arc<Runtime>,
    pub absence: Arc<Absence>,
}

impl Worker {
    pub fn start(self, number: usize, standby: Arc<Standby>) -> std::io::Result<Started> {
        let (incoming, receiver) = unbounded_channel();
        let engine = self.shared.engine.clone();
        let lead = Arc::new(Lead::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .event_interval(EVENT_INTERVAL)
            // The round's writes go to the log as one entry.
            .on_thread_park({
                let (engine, lead) = (engine.clone(), lead.clone());
                move || {
                    let pipeline = engine.pipeline();
                    if pipeline.wants_leader() { lead.ask() } else { pipeline.kick() }
                }
            })
            .build()?;
        let runtime = Arc::new(runtime);
        let absence = Arc::new(Absence::default());
        let run = {
            let (runtime, absence) = (runtime.clone(), absence.clone());
            move || {
                let mut connections = runtime.spawn(self.run(receiver));
                while runtime.block_on(poll_fn(|context| lead.poll(context, &mut connections))) {
                    standby.watch(&absence, || engine.pipeline().lead());
                }
            }
        };
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(run)?;
        Ok(Started { incoming, thread, runtime, absence })
    }

    async fn run(self, mut incoming: UnboundedReceiver<(std::net::TcpStream, Arc<Client>)>) {
        let shared = self.shared.clone();
        let gate = self.gate.clone();
        tokio::spawn({
            let engine = shared.engine.clone();
            async move { gate.release(|| engine.durable()).await }
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
