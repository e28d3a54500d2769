//! The life of one connection: read, decode, execute, hold, send.
//!
//! One task polls everything that the connection waits for (its socket in both directions, its gate, a job, a kill)
//! with one waker, so that a round costs one read, one write and no registration.
//!
//! Invariants: input is read only when all that was read before has been executed; a connection that is closing reads
//! nothing more and ends when its last reply has left.

use crate::clients::Client;
use crate::execute::{Core, Resumed, Waiting};
use crate::pool;
use crate::worker::Worker;
use engramdb_engine::log::Lsn;
use engramdb_resp::{Decoder, Limits, Requests, Stop, decode};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

/// Requests executed between two attempts to send.
const REQUESTS_MAX: usize = 256;
/// Rounds in a row before other connections get their turn.
const ROUNDS_MAX: usize = 8;

/// Serves a connection to its end.
pub async fn run(worker: Worker, stream: TcpStream, client: Arc<Client>) {
    let shared = worker.shared.clone();
    let mut connection = Connection::new(worker, stream, client.clone());
    std::future::poll_fn(|context| {
        client.register(context.waker());
        Poll::Ready(())
    })
    .await;
    if let Err(error) = connection.serve().await {
        tracing::debug!("connection {} of {} ended: {error}", client.id, client.address);
    }
    shared.clients.remove(client.id);
}

struct Connection {
    stream: TcpStream,
    worker: Worker,
    input: Input,
    core: Core,
    waiting: Option<Waiting>,
    /// The gate that the releaser knows that we wait for.
    registered: Lsn,
    rounds: usize,
}

/// What was read and is not yet executed.
struct Input {
    buffer: Vec<u8>,
    decoder: Decoder,
    /// Requests of the last round; `next` is the first that is not yet executed.
    requests: Requests,
    next: usize,
    /// Bytes at the buffer's start that belong to `requests`.
    consumed: usize,
    stop: Stop,
}

enum Event {
    /// There is something to execute.
    Input,
    Resumed(Resumed),
    Closed,
}

impl Connection {
    fn new(worker: Worker, stream: TcpStream, client: Arc<Client>) -> Connection {
        let core = Core::new(worker.shared.clone(), worker.stats.clone(), client);
        let input = Input {
            buffer: Vec::new(),
            decoder: Decoder::default(),
            requests: Requests::new(),
            next: 0,
            consumed: 0,
            stop: Stop::NeedBytes(1),
        };
        Connection { stream, worker, input, core, waiting: None, registered: Lsn(0), rounds: 0 }
    }

    async fn serve(&mut self) -> io::Result<()> {
        loop {
            match std::future::poll_fn(|context| self.poll_event(context)).await? {
                Event::Input => {}
                Event::Resumed(resumed) => self.core.resume(resumed),
                Event::Closed => return Ok(()),
            }
            self.process();
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Event>> {
        if self.core.session.client.is_killed() {
            return Poll::Ready(Ok(Event::Closed));
        }
        self.flush(context)?;
        if self.core.closing || self.worker.shared.is_stopping() {
            return if self.core.outbox.is_empty() { Poll::Ready(Ok(Event::Closed)) } else { Poll::Pending };
        }
        if let Some(waiting) = &mut self.waiting {
            let resumed = std::task::ready!(waiting.as_mut().poll(context));
            self.waiting = None;
            return Poll::Ready(Ok(Event::Resumed(resumed)));
        }
        if self.input.has_more() {
            self.rounds += 1;
            if self.rounds.is_multiple_of(ROUNDS_MAX) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Ok(Event::Input));
        }
        self.poll_read(context)
    }

    /// Reads once. A peer that has closed its side still gets the replies that are on their way.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let input = &mut self.input;
        if input.buffer.capacity() == 0 {
            input.buffer = pool::take();
        } else if let Stop::NeedBytes(missing) = input.stop
            && !input.buffer.is_empty()
        {
            input.buffer.reserve(decode::read_reserve_bytes(missing, input.buffer.len()));
        }
        let read = pin!(self.stream.read_buf(&mut input.buffer)).poll(context);
        match read {
            Poll::Pending => {
                if input.buffer.is_empty() {
                    pool::give(&mut input.buffer);
                }
                return Poll::Pending;
            }
            Poll::Ready(Ok(0)) => self.core.closing = true,
            Poll::Ready(Ok(bytes)) => {
                self.worker.stats.input_bytes.add(bytes as u64);
                self.worker.stats.reads.add(1);
                self.core.session.client.input_bytes.store(input.buffer.len(), Ordering::Relaxed);
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(Event::Input))
    }

    /// Sends what may leave, and registers for the rest.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        loop {
            let engine = &self.worker.shared.engine;
            let held = self.core.outbox.release(engine.durable());
            let sendable = self.core.outbox.sendable();
            if !sendable.is_empty() {
                let stream = Pin::new(&mut self.stream);
                let Poll::Ready(sent) = stream.poll_write(context, sendable) else { return Ok(()) };
                let sent = sent?;
                self.core.outbox.sent(sent);
                self.worker.stats.output_bytes.add(sent as u64);
                self.worker.stats.writes.add(1);
                continue;
            }
            let Some(gate) = held else { return Ok(()) };
            if self.registered < gate {
                self.registered = gate;
                self.worker.gate.wait(gate, context.waker());
            }
            if engine.durable() < gate {
                return Ok(());
            }
        }
    }

    /// Executes one round of requests.
    fn process(&mut self) {
        let input = &mut self.input;
        if input.next >= input.requests.len() {
            // The last request of the round before has waited until now: its bytes are still in the buffer.
            input.drop_consumed();
            if self.core.closing && input.buffer.is_empty() {
                return;
            }
            input.decode(&self.core);
        }
        if !input.requests.is_empty() {
            let (next, waiting) = self.core.execute(&input.requests, &input.buffer, input.next);
            input.next = next;
            self.waiting = waiting;
            if self.core.outbox.len() > self.worker.shared.limits.output_bytes_max.load(Ordering::Relaxed) {
                let client = &self.core.session.client;
                tracing::warn!("closing connection {}: too many replies are unread", client.id);
                client.kill();
            }
        }
        if self.waiting.is_none() && input.next >= input.requests.len() {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        let input = &mut self.input;
        input.drop_consumed();
        match input.stop {
            Stop::Malformed(error) if !self.core.closing => self.core.protocol_error(&error.reply_text()),
            Stop::NeedBytes(_) => {
                let bytes_max = self.worker.shared.limits.input_bytes_max.load(Ordering::Relaxed);
                if input.buffer.len() > bytes_max {
                    let client = &self.core.session.client;
                    tracing::warn!("closing connection {}: its request is too large", client.id);
                    client.kill();
                }
            }
            _ => {}
        }
    }
}

impl Input {
    fn has_more(&self) -> bool {
        self.next < self.requests.len() || self.stop == Stop::RequestsMax
    }

    fn decode(&mut self, core: &Core) {
        let unauthenticated = !core.session.authenticated;
        let bulk_bytes_max = core.shared().limits.bulk_bytes_max.load(Ordering::Relaxed);
        self.decoder.set_limits(Limits { unauthenticated, bulk_bytes_max, ..Limits::default() });
        let requests_max = if unauthenticated { 1 } else { REQUESTS_MAX };
        let progress = self.decoder.decode(&self.buffer, &mut self.requests, requests_max);
        self.next = 0;
        self.consumed = progress.consumed_bytes;
        self.stop = progress.stop;
    }

    /// Forgets executed requests; the buffer goes back to the pool when nothing is left in it.
    fn drop_consumed(&mut self) {
        self.requests.clear();
        self.next = 0;
        if self.consumed == self.buffer.len() {
            pool::give(&mut self.buffer);
            if self.stop != Stop::RequestsMax {
                self.stop = match self.stop {
                    Stop::NeedBytes(_) => Stop::NeedBytes(1),
                    stop => stop,
                };
            }
        } else if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
        }
        self.consumed = 0;
    }
}
