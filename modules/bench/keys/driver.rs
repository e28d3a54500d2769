//! Many closed loops on one thread, driven by a poll over all connections.
//!
//! Each connection has sent one pipeline and waits for its replies. When the last reply has arrived, it sends
//! the next pipeline at once. This takes one read and one write per pipeline, and no allocation once buffers
//! have grown.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::replies::{Scan, scan};
use super::workload::{KeyCommand, KeyWorkload};
use crate::client::{Accepted, Connection, ServerTarget};
use crate::error::BenchError;
use crate::interrupt;
use crate::latency::Latencies;
use engramdb_datasets::SplitMix64;

const READ_BYTES: usize = 256 * 1024;

/// A server that is silent for this long is considered stuck.
const SILENCE_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub struct KeysPlan {
    pub connections: usize,
    pub pipeline: usize,
    pub threads: usize,
    pub limit: RunLimit,
}

/// When to stop sending.
#[derive(Clone, Copy, Debug)]
pub enum RunLimit {
    Commands(u64),
    Time(Duration),
}

/// The results of a run.
pub struct KeysOutcome {
    pub commands: u64,
    pub seconds: f64,
    /// By command, in the order of `KeyCommand::ALL`: the time from sending its pipeline to reading its
    /// reply.
    pub latencies: Vec<Latencies>,
    /// The time from sending a pipeline to its last reply; recorded for lookups only.
    pub lookups: Latencies,
}

/// Runs `workload` as `plan` specifies. The first error reply ends the run.
pub fn run(
    target: &ServerTarget,
    workload: &KeyWorkload,
    plan: KeysPlan,
    seed: u64,
) -> Result<KeysOutcome, BenchError> {
    let budget = AtomicI64::new(match plan.limit {
        RunLimit::Commands(commands) => i64::try_from(commands).unwrap_or(i64::MAX),
        RunLimit::Time(_) => i64::MAX,
    });
    let mut loops = Vec::with_capacity(plan.threads);
    for thread in 0..plan.threads {
        let connections =
            plan.connections / plan.threads + usize::from(thread < plan.connections % plan.threads);
        let random = SplitMix64::new(seed, 22, thread as u64);
        loops.push(Loop::new(target, workload.clone(), connections, plan.pipeline, &budget, random)?);
    }
    let started = Instant::now();
    let deadline = match plan.limit {
        RunLimit::Commands(_) => None,
        RunLimit::Time(time) => Some(started + time),
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = loops.into_iter().map(|each| scope.spawn(move || each.run(deadline))).collect();
        let mut outcome = KeysOutcome {
            commands: 0,
            seconds: 0.0,
            latencies: vec![Latencies::new(); KeyCommand::ALL.len()],
            lookups: Latencies::new(),
        };
        for thread in threads {
            let own = thread.join().expect("a generator thread does not panic")?;
            outcome.commands += own.commands;
            outcome.latencies.iter_mut().zip(&own.latencies).for_each(|(all, own)| all.add(own));
            outcome.lookups.add(&own.lookups);
        }
        outcome.seconds = started.elapsed().as_secs_f64();
        Ok(outcome)
    })
}

/// Sends the whole workload, one command per key, over one connection: the clean-up of an interrupted run.
pub fn remove(target: &ServerTarget, mut workload: KeyWorkload, keys: u32) -> Result<(), BenchError> {
    const PIPELINE: usize = 64;
    let mut connection = Connection::open(target)?;
    let mut random = SplitMix64::new(0, 22, 0);
    let mut left = keys as usize;
    while left > 0 {
        let count = left.min(PIPELINE);
        let mut pipeline = Vec::new();
        for _ in 0..count {
            workload.push(&mut random, &mut pipeline);
        }
        connection.send(&pipeline)?;
        for _ in 0..count {
            connection.receive()?.accepted(|| "UNLINK".into())?;
        }
        left -= count;
    }
    Ok(())
}

/// The connections of one thread.
struct Loop<'r> {
    poll: Poll,
    clients: Vec<Client>,
    workload: KeyWorkload,
    pipeline: usize,
    /// The number of commands that may still be sent, by all threads together.
    budget: &'r AtomicI64,
    random: SplitMix64,
    seen: KeysOutcome,
}

struct Client {
    stream: TcpStream,
    output: Vec<u8>,
    written: usize,
    /// The beginning of a reply whose rest was not received yet.
    input: Vec<u8>,
    /// The commands that wait for their replies; the first one is at `answered`.
    pending: Vec<KeyCommand>,
    answered: usize,
    sent_at: Instant,
}

impl<'r> Loop<'r> {
    fn new(
        target: &ServerTarget,
        mut workload: KeyWorkload,
        connections: usize,
        pipeline: usize,
        budget: &'r AtomicI64,
        mut random: SplitMix64,
    ) -> Result<Self, BenchError> {
        workload.restart(&mut random);
        let poll = Poll::new()?;
        let mut clients = Vec::with_capacity(connections);
        for number in 0..connections {
            let stream = Connection::open(target)?.into_stream();
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            clients.push(Client {
                stream,
                output: Vec::new(),
                written: 0,
                input: Vec::new(),
                pending: Vec::with_capacity(pipeline),
                answered: 0,
                sent_at: Instant::now(),
            });
        }
        let seen = KeysOutcome {
            commands: 0,
            seconds: 0.0,
            latencies: vec![Latencies::new(); KeyCommand::ALL.len()],
            lookups: Latencies::new(),
        };
        Ok(Self { poll, clients, workload, pipeline, budget, random, seen })
    }

    fn run(mut self, deadline: Option<Instant>) -> Result<KeysOutcome, BenchError> {
        // Every command that was sent is answered before an interrupted run removes its keys.
        let _writing = interrupt::writing()?;
        let mut events = Events::with_capacity(self.clients.len());
        let mut chunk = vec![0; READ_BYTES];
        let mut active = 0;
        for number in 0..self.clients.len() {
            active += usize::from(self.send_next(number)?);
        }
        while active > 0 {
            match self.poll.poll(&mut events, Some(SILENCE_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            if events.is_empty() {
                let silence =
                    format!("the server has not answered for {} s. Is it stuck?", SILENCE_MAX.as_secs());
                return Err(BenchError::Broken(std::io::Error::new(ErrorKind::TimedOut, silence)));
            }
            // The time is read once, so that the wait of a reply for other connections' replies is not
            // counted.
            let now = Instant::now();
            for event in &events {
                let number = event.token().0;
                if event.is_writable() && self.clients[number].written < self.clients[number].output.len() {
                    self.clients[number].flush()?;
                }
                if event.is_readable() && self.receive(number, &mut chunk, now)? {
                    let is_over =
                        deadline.is_some_and(|deadline| now >= deadline) || interrupt::is_interrupted();
                    let goes_on = !is_over && self.send_next(number)?;
                    active -= usize::from(!goes_on);
                }
            }
        }
        Ok(self.seen)
    }

    /// Sends a connection's next pipeline; false if the budget is used up.
    fn send_next(&mut self, number: usize) -> Result<bool, BenchError> {
        let wanted = self.pipeline as i64;
        let granted = self.budget.fetch_sub(wanted, Ordering::Relaxed).clamp(0, wanted);
        if granted == 0 {
            return Ok(false);
        }
        let client = &mut self.clients[number];
        client.output.clear();
        client.pending.clear();
        (client.written, client.answered) = (0, 0);
        for _ in 0..granted {
            client.pending.push(self.workload.push(&mut self.random, &mut client.output));
        }
        client.sent_at = Instant::now();
        client.flush()?;
        Ok(true)
    }

    /// Reads what a connection has received; true if its pipeline is answered.
    fn receive(&mut self, number: usize, chunk: &mut [u8], now: Instant) -> Result<bool, BenchError> {
        let client = &mut self.clients[number];
        loop {
            let count = match client.stream.read(chunk) {
                Ok(0) => return Err(BenchError::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let latency = now.saturating_duration_since(client.sent_at);
            let before = client.answered;
            client.take_replies(&chunk[..count])?;
            let answered = &client.pending[before..client.answered];
            self.seen.commands += answered.len() as u64;
            for run in answered.chunk_by(|a, b| a == b) {
                self.seen.latencies[run[0] as usize].record_many(latency, run.len() as u64);
            }
            if client.answered == client.pending.len() {
                if self.workload.is_lookup() {
                    self.seen.lookups.record(latency);
                }
                return Ok(true);
            }
            // A short read has emptied the socket (epoll(7)): another read is not needed.
            if count < chunk.len() {
                return Ok(false);
            }
        }
    }
}

impl Client {
    /// Writes the rest of the pipeline, as far as the socket takes it; the poll reports when it takes more.
    fn flush(&mut self) -> Result<(), BenchError> {
        while self.written < self.output.len() {
            match self.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Counts the complete replies in the kept and the received bytes, and keeps the rest.
    fn take_replies(&mut self, received: &[u8]) -> Result<(), BenchError> {
        let mut kept = std::mem::take(&mut self.input);
        let bytes = if kept.is_empty() {
            received
        } else {
            kept.extend_from_slice(received);
            &kept
        };
        let mut at = 0;
        while self.answered < self.pending.len() {
            match scan(&bytes[at..]) {
                Scan::Complete { is_error: true, bytes: length } => {
                    return Err(BenchError::Refused {
                        command: self.pending[self.answered].name().into(),
                        text: String::from_utf8_lossy(&bytes[at + 1..at + length]).trim().to_owned(),
                    });
                }
                Scan::Complete { bytes: length, .. } => {
                    at += length;
                    self.answered += 1;
                }
                Scan::Partial => break,
                Scan::Malformed => return Err(malformed(&bytes[at..])),
            }
        }
        if kept.is_empty() {
            kept.extend_from_slice(&received[at..]);
        } else {
            kept.drain(..at);
        }
        self.input = kept;
        Ok(())
    }
}

fn malformed(bytes: &[u8]) -> BenchError {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
    BenchError::Shape { command: "a command".into(), reply: start }
}
