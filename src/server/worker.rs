//! A worker thread: a runtime of its own, its connections, and the releaser of their replies.

use crate::clients::Client;
use crate::connection;
use crate::gate::Gate;
use crate::server::Shared;
use crate::stats::WorkerStats;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

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

impl Worker {
    pub fn start(self, number: usize) -> std::io::Result<(Incoming, JoinHandle<()>)> {
        let (sender, receiver) = unbounded_channel();
        let engine = self.shared.engine.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .event_interval(EVENT_INTERVAL)
            // The round's writes go to the log as one entry.
            .on_thread_park(move || engine.pipeline().kick())
            .build()?;
        let thread = std::thread::Builder::new().name(format!("worker-{number}"));
        let thread = thread.spawn(move || runtime.block_on(self.run(receiver)))?;
        Ok((sender, thread))
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
