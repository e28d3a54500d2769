//! The life of one connection: read, decode, execute, hold, send.
//!
//! One task polls everything that the connection waits for (its socket in both directions, its gate, a job, a
//! kill) with one waker, so that a round costs one read, one write and no registration.
//!
//! Invariants: input is read only when all that was read before has been executed, or while the client waits
//! for keys, so that its end is noticed (then it is kept, up to client-query-buffer-limit); a connection that
//! is closing reads nothing more and ends when its last reply has left, or when the client has taken nothing
//! of them for a minute.

use crate::buffers;
use crate::clients::{Client, Usage};
use crate::context::Worker;
use crate::dispatch::{Core, Resumed, Waiting, elsewhere};
use crate::session::Owned;
use bytes::BufMut;
use engramdb_engine::log::Lsn;
use engramdb_resp::{DecodeStop, Decoder, RequestLimits, Requests, decode};
use std::io;
use std::ops::Range;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

/// Requests executed between two attempts to send.
const REQUESTS_MAX: usize = 256;
/// A buffer with more in it is made larger by another thread: to copy it takes a millisecond or more.
const GROWN_HERE_MAX: usize = 2 << 20;
/// Bytes given to the socket in one turn, or taken from it: a client as fast as we are must not keep the
/// worker.
const TURN_BYTES_MAX: usize = 256 * 1024;
/// Replies wait for the held ones of their round where an entry of the log usually takes no longer than this.
const TOGETHER_TIME_MAX: Duration = Duration::from_millis(2);
/// Rounds in a row before other connections get their turn.
const ROUNDS_MAX: usize = 8;

/// Serves a connection to its end.
pub async fn run(worker: Worker, stream: TcpStream, client: Arc<Client>) {
    let (shared, stats) = (worker.shared.clone(), worker.stats.clone());
    let mut connection = Box::new(Connection::new(worker.clone(), stream, client.clone()));
    std::future::poll_fn(|context| {
        client.register(context.waker());
        Poll::Ready(())
    })
    .await;
    loop {
        match connection.serve().await {
            Ok(Served::Leaves) => {
                let round = |connection: &mut Box<Connection>| connection.process_outside();
                connection = worker.outside.run_with(connection, round, || (worker.leave)()).await;
            }
            Ok(Served::Ended) => break,
            Err(error) => {
                tracing::debug!("connection {} of {} ended: {error}", client.id, client.address);
                break;
            }
        }
    }
    let held = connection.published;
    if let Some(mut subscriptions) = connection.core.session.subscriptions.take() {
        subscriptions.clear(&connection.worker.shared.pubsub, &client);
    }
    if let Some(tracking) = connection.core.session.tracking.take() {
        let Worker { shared, .. } = &connection.worker;
        shared.tracking.end(shared.engine.notices(), client.id, &tracking.prefixes);
    }
    connection.worker.shared.monitors.remove(client.id);
    client.close_mailbox();
    shared.clients.remove(client.id);
    // Other connections do not wait for that thread, but the memory counts until it is given back.
    connection.take_back_buffer().await;
    drop(connection);
    stats.client_bytes.replace(held as u64, 0);
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
    /// Bytes that were read since others had their turn.
    read_in_turn: usize,
    /// The memory of this connection that the worker's sum has.
    published: usize,
}

/// What a connection takes that has nothing to read and nothing to send: its task, its place in the list of
/// clients, and the runtime's record of its socket.
const IDLE_BYTES: usize = size_of::<Connection>() + size_of::<Client>() + 512;

/// Memory that a connection takes and gives back within a round is not added to the sum of all, up to this
/// number of bytes.
const UNPUBLISHED_BYTES_MAX: usize = 48 * 1024;

/// What was read and is not yet executed.
struct Input {
    buffer: Vec<u8>,
    decoder: Decoder,
    /// Requests of the last round; `next` is the first that is not yet executed.
    requests: Requests,
    next: usize,
    /// Bytes at the buffer's start that belong to `requests`.
    consumed: usize,
    /// What the buffer, and what is made of it, take while another thread has it.
    lent_bytes: usize,
    stop: DecodeStop,
}

/// Why a connection is not served for the moment.
enum Served {
    /// Its next request must be executed outside of the worker's runtime.
    Leaves,
    Ended,
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
            lent_bytes: 0,
            stop: DecodeStop::NeedBytes(1),
        };
        let mut connection = Connection {
            stream,
            worker,
            input,
            core,
            waiting: None,
            registered: Lsn(0),
            rounds: 0,
            read_in_turn: 0,
            published: 0,
        };
        connection.worker.shared.clients.settle(&connection.core.session.client, &connection.worker.stats);
        connection.publish();
        connection
    }

    /// What this connection takes.
    fn memory_bytes(&self) -> usize {
        IDLE_BYTES
            + self.input.heap_bytes()
            + self.core.session.transaction_bytes()
            + self.core.session.client.names_bytes()
            + self.core.outbox.heap_bytes()
            + self.core.made_bytes()
            + self.core.session.mailbox_bytes()
            + self.core.session.subscriptions_bytes()
    }

    /// Tells the others what this connection takes.
    #[inline]
    fn publish(&mut self) {
        let memory_bytes = self.memory_bytes();
        if memory_bytes != self.published {
            self.publish_changed(memory_bytes);
        }
    }

    fn publish_changed(&mut self, memory_bytes: usize) {
        let before = std::mem::replace(&mut self.published, memory_bytes);
        let Worker { shared, stats, .. } = &self.worker;
        stats.client_bytes.replace(before as u64, memory_bytes as u64);
        let client = &self.core.session.client;
        client.note(&Usage {
            query_bytes: self.input.buffer.len(),
            query_capacity: self.input.buffer.capacity(),
            arguments_bytes: self.input.arguments_bytes(),
            transaction_bytes: self.core.session.transaction_bytes(),
            output: self.core.outbox.usage(),
            total_bytes: memory_bytes,
        });
        let soft_max = shared.limits.output_of(client).soft_bytes_max.load(Ordering::Relaxed);
        client.note_soft_output(shared.now(), self.core.outbox.len() > soft_max);
        if memory_bytes > before {
            shared.evict_clients();
        }
    }

    /// Waits for the buffer, if another thread has it.
    async fn take_back_buffer(&mut self) {
        if self.input.lent_bytes > 0
            && let Some(waiting) = self.waiting.take()
        {
            drop(waiting.await);
        }
    }

    async fn serve(&mut self) -> io::Result<Served> {
        loop {
            match std::future::poll_fn(|context| self.poll_event(context)).await? {
                Event::Input => {}
                Event::Resumed(Resumed::Buffer(buffer, owned)) => {
                    self.input.take_back(buffer);
                    self.core.owned = owned.map(Arc::new);
                }
                Event::Resumed(resumed) => self.core.resume(resumed),
                Event::Closed => return Ok(Served::Ended),
            }
            self.process();
            if std::mem::take(&mut self.core.leaves) {
                return Ok(Served::Leaves);
            }
        }
    }

    /// Executes the rest of the round outside of the worker's runtime.
    fn process_outside(&mut self) {
        self.core.is_outside = true;
        self.process();
        self.core.is_outside = false;
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Event>> {
        if self.core.session.client.is_killed() {
            return Poll::Ready(Ok(Event::Closed));
        }
        self.core.look_at_rights();
        if self.waiting.is_some()
            && self.core.has_mail_while_parked()
            && let Poll::Ready(resumed) = self.poll_waiting(context)
        {
            // The reply that ends a wait for keys was made before the messages of its batch.
            return Poll::Ready(resumed);
        }
        if self.core.collect_mail() {
            self.bound_output();
        }
        self.flush(context)?;
        if self.core.closing || self.worker.shared.is_stopping() {
            return self.poll_end();
        }
        if self.waiting.is_some() {
            let event = self.poll_waiting(context);
            return if event.is_pending() && (self.core.waits_for_others() || self.core.has_job()) {
                self.poll_waiting_for_others(context)
            } else {
                event
            };
        }
        if self.worker.stats.leaving.load(Ordering::Relaxed) > 0 {
            // This worker's evicted connections get their turn, and give back what they have, before others
            // take more.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.input.has_more() {
            self.rounds += 1;
            if self.rounds.is_multiple_of(ROUNDS_MAX) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Ok(Event::Input));
        }
        if self.is_idle_too_long() {
            return Poll::Ready(Ok(Event::Closed));
        }
        if self.grows_elsewhere() {
            return self.poll_waiting(context);
        }
        let event = self.poll_read(context);
        if event.is_pending() {
            self.publish();
        }
        event
    }

    /// Ends when the last reply has left, or when the client takes none of them any more.
    fn poll_end(&mut self) -> Poll<io::Result<Event>> {
        self.core.end_turn();
        if self.core.outbox.is_empty() {
            return Poll::Ready(Ok(Event::Closed));
        }
        let shared = &self.worker.shared;
        let client = &self.core.session.client;
        shared.clients.note_closing(client, shared.now());
        let is_asked = client.is_idle_asked();
        if is_asked && !self.core.outbox.is_held() && client.is_stuck(shared.now()) {
            let (id, address, bytes) = (client.id, client.address, self.core.outbox.len());
            tracing::warn!(
                "closing connection {id} of {address}: its last {bytes} bytes of replies are not read"
            );
            return Poll::Ready(Ok(Event::Closed));
        }
        self.publish();
        Poll::Pending
    }

    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let waiting = self.waiting.as_mut().expect("the caller looked");
        let resumed = std::task::ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(Ok(Event::Resumed(resumed)))
    }

    /// Reads on while the client waits for keys, a signal or a job, so that its end is noticed: a client that
    /// has closed its side waits no longer, as in Redis, and gets the replies that are on their way; its job
    /// does not begin. What comes is kept for later, up to the limit of what the server keeps for a client. A
    /// job takes a bounded time, so that less is read beside it.
    fn poll_waiting_for_others(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let bytes_max = self.worker.shared.limits.input_bytes_max.load(Ordering::Relaxed);
        let mut read_bytes = 0;
        loop {
            let input = &mut self.input;
            if input.unexecuted_bytes() > bytes_max {
                self.close_for_input(bytes_max);
                return Poll::Ready(Ok(Event::Closed));
            }
            if self.core.has_job() && input.unexecuted_bytes() >= TURN_BYTES_MAX {
                break;
            }
            if read_bytes >= TURN_BYTES_MAX {
                _ = pin!(tokio::task::yield_now()).poll(context);
                break;
            }
            input.make_room_behind();
            let mut room = (&mut input.buffer).limit(TURN_BYTES_MAX);
            match pin!(self.stream.read_buf(&mut room)).poll(context) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    self.waiting = None;
                    self.core.end_waiting();
                    self.core.closing = true;
                    return self.poll_end();
                }
                Poll::Ready(Ok(bytes)) => {
                    read_bytes += bytes;
                    self.worker.stats.input_bytes.add(bytes as u64);
                    self.core.session.client.net_input.add(bytes as u64);
                    self.worker.stats.reads.add(1);
                    if let DecodeStop::NeedBytes(_) = input.stop {
                        // What was decoded before does not end with all that can be decoded now.
                        input.stop = DecodeStop::RequestsMax;
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        if self.input.buffer.is_empty() {
            self.input.give_back();
        }
        self.publish();
        Poll::Pending
    }

    /// Whether the shell found this connection idle, and it is: nothing came or went for as long as `timeout`
    /// says. What is held back by the log is not the client's doing.
    fn is_idle_too_long(&mut self) -> bool {
        let client = &self.core.session.client;
        let shared = &self.worker.shared;
        if !client.is_idle_asked() {
            return false;
        }
        let is_held = self.core.outbox.is_held();
        let is_idle = !is_held && shared.is_idle_too_long(client);
        if is_idle {
            tracing::debug!("closing idle connection {}", client.id);
        }
        is_idle
    }

    /// Reads once. A peer that has closed its side still gets the replies that are on their way.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let input = &mut self.input;
        if self.read_in_turn >= TURN_BYTES_MAX {
            self.read_in_turn = 0;
            _ = pin!(tokio::task::yield_now()).poll(context);
            return Poll::Pending;
        }
        input.make_room(self.worker.shared.limits.input_bytes_max.load(Ordering::Relaxed));
        let mut room = (&mut input.buffer).limit(TURN_BYTES_MAX);
        let read = pin!(self.stream.read_buf(&mut room)).poll(context);
        match read {
            Poll::Pending => {
                self.read_in_turn = 0;
                if input.buffer.is_empty() {
                    input.give_back();
                }
                return Poll::Pending;
            }
            Poll::Ready(Ok(0)) => self.core.closing = true,
            Poll::Ready(Ok(bytes)) => {
                self.read_in_turn += bytes;
                self.worker.stats.input_bytes.add(bytes as u64);
                self.core.session.client.net_input.add(bytes as u64);
                self.worker.stats.reads.add(1);
                self.core.session.client.usage.query_bytes.store(input.buffer.len(), Ordering::Relaxed);
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(Event::Input))
    }

    /// Sends what may leave, and registers for the rest.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        assert!(self.core.outbox.is_sealed(), "every reply has its gate before any is sent");
        let mut budget = TURN_BYTES_MAX;
        loop {
            let engine = &self.worker.shared.engine;
            let held = self.core.outbox.release(engine.durable());
            let released = self.core.outbox.released_gate();
            let sendable = self.core.outbox.sendable();
            let waits = !sendable.is_empty() && held.is_some() && self.waits_for_held();
            if !sendable.is_empty() && !waits {
                if budget == 0 {
                    // Others get their turn: also those of whose requests the worker learns when it looks at
                    // its sockets, which is before it comes back here.
                    _ = pin!(tokio::task::yield_now()).poll(context);
                    return Ok(());
                }
                let part = &sendable[..sendable.len().min(budget)];
                let stream = Pin::new(&mut self.stream);
                // The time before the write: who has read the reply is silent from then on at the latest.
                let has_timeout = self.worker.shared.limits.idle_timeout_s.load(Ordering::Relaxed) > 0;
                let began = (has_timeout || self.core.closing).then(|| self.worker.shared.now());
                // The other side of the gate, in release builds too: what is released is durable.
                assert!(released <= engine.durable(), "a reply was released before what it shows is durable");
                let Poll::Ready(sent) = stream.poll_write(context, part) else { return Ok(()) };
                let sent = sent?;
                self.core.outbox.sent(sent);
                budget -= sent;
                self.worker.stats.output_bytes.add(sent as u64);
                self.core.session.client.net_output.add(sent as u64);
                self.worker.stats.writes.add(1);
                if let Some(began) = began {
                    self.core.session.client.touch(began);
                }
                continue;
            }
            let Some(gate) = held else { return Ok(()) };
            if self.registered < gate {
                self.registered = gate;
                self.worker.gate.wait(gate, context.waker());
            }
            // It could have been too late to be woken.
            if engine.durable() < gate && !(waits && self.worker.gate.is_stalled()) {
                return Ok(());
            }
        }
    }

    /// Whether what may leave now leaves together with the rest of its round. On a slow disk nothing waits
    /// that need not.
    fn waits_for_held(&self) -> bool {
        let Worker { shared, gate, .. } = &self.worker;
        if !self.core.outbox.may_wait_for_held() || gate.is_stalled() {
            return false;
        }
        let usual_time = shared.engine.writer().map_or(Duration::ZERO, |log| log.usual_time());
        !usual_time.is_zero() && usual_time <= TOGETHER_TIME_MAX
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
            if let Some(words) = self.core.owning.take() {
                self.own(words);
            }
            if self.core.waits_for_others() && self.input.next >= self.input.requests.len() {
                // It may wait for long, without a buffer.
                self.input.drop_consumed();
            }
        } else {
            // A part of a request came.
            self.core.session.client.touch(self.worker.shared.now());
        }
        self.bound_output();
        let input = &mut self.input;
        if self.waiting.is_none() && input.next >= input.requests.len() {
            self.end_round();
        }
    }

    /// Has the words of the next request copied by another thread, each into memory of its own.
    fn own(&mut self, words: Vec<Range<usize>>) {
        let input = &mut self.input;
        let is_last = input.next + 1 == input.requests.len() && input.consumed == input.buffer.len();
        let words_bytes = words.iter().map(Range::len).sum();
        let buffer = input.lend(words_bytes);
        if is_last {
            // Nothing else is in it: it is given back there, which takes time as well.
            input.consumed = 0;
        }
        let client = self.core.session.client.clone();
        let own = move || {
            if client.is_killed() {
                return Resumed::Buffer(buffer, None);
            }
            let owned = Owned::new(&buffer, &words);
            Resumed::Buffer(if is_last { Vec::new() } else { buffer }, Some(owned))
        };
        self.waiting = Some(elsewhere(&self.worker.shared.buffers, own));
    }

    /// Has the buffer made larger by another thread, where much is to be copied for that. True if so.
    fn grows_elsewhere(&mut self) -> bool {
        let bytes_max = self.worker.shared.limits.input_bytes_max.load(Ordering::Relaxed);
        let input = &mut self.input;
        if input.buffer.len() < GROWN_HERE_MAX {
            return false;
        }
        let Some(capacity) = input.wanted_capacity(bytes_max) else { return false };
        let mut buffer = input.lend(capacity);
        // Before it is made: where there is no room for it, an eviction makes some first.
        self.publish();
        let client = self.core.session.client.clone();
        let grow = move || {
            if !client.is_killed() {
                buffer.reserve_exact(capacity - buffer.len());
            }
            Resumed::Buffer(buffer, None)
        };
        self.waiting = Some(elsewhere(&self.worker.shared.buffers, grow));
        true
    }

    /// Closes a connection that has too many replies unread.
    fn bound_output(&mut self) {
        let Worker { shared, .. } = &self.worker;
        let client = &self.core.session.client;
        let outbox = &mut self.core.outbox;
        let bytes_max = shared.limits.output_of(client).bytes_max.load(Ordering::Relaxed);
        if outbox.has_overflowed() || outbox.len() > bytes_max {
            outbox.overflow();
            shared.close_for_output(client, bytes_max);
        }
        if self.memory_bytes() > self.published + UNPUBLISHED_BYTES_MAX {
            self.publish();
        }
    }

    fn end_round(&mut self) {
        let input = &mut self.input;
        input.drop_consumed();
        match input.stop {
            DecodeStop::Malformed(error) if !self.core.closing => {
                self.core.protocol_error(&error.reply_text())
            }
            DecodeStop::NeedBytes(_) => {
                let bytes_max = self.worker.shared.limits.input_bytes_max.load(Ordering::Relaxed);
                let request_bytes = input.buffer.len() + input.arguments_bytes();
                if request_bytes + self.core.session.transaction_bytes() > bytes_max {
                    self.close_for_input(bytes_max);
                }
            }
            _ => {}
        }
    }

    /// Closes a connection that has us keep too much of its requests.
    fn close_for_input(&self, bytes_max: usize) {
        let client = &self.core.session.client;
        let (id, address) = (client.id, client.address);
        tracing::warn!("closing connection {id} of {address}: more than {bytes_max} bytes of requests wait");
        self.worker.shared.stats.query_limit_disconnections.fetch_add(1, Ordering::Relaxed);
        client.kill();
    }
}

/// Lists of arguments that a connection without a request may keep, in bytes: those of a usual pipeline.
const KEPT_ARGUMENTS_BYTES_MAX: usize = 4096;
/// A buffer is made smaller when it is more than this many times as large as what is in it.
const SLACK_MAX: usize = 4;

impl Input {
    fn heap_bytes(&self) -> usize {
        self.buffer.capacity() + self.lent_bytes + self.arguments_bytes()
    }

    /// Hands out the buffer to one who takes `more_bytes` for what they make of it.
    fn lend(&mut self, more_bytes: usize) -> Vec<u8> {
        self.lent_bytes = self.buffer.capacity() + more_bytes;
        std::mem::take(&mut self.buffer)
    }

    fn take_back(&mut self, buffer: Vec<u8>) {
        self.buffer = buffer;
        self.lent_bytes = 0;
    }

    /// Memory of the arguments' places in the buffer.
    fn arguments_bytes(&self) -> usize {
        self.requests.heap_bytes() + self.decoder.heap_bytes()
    }

    /// Makes room for the next read.
    fn make_room(&mut self, bytes_max: usize) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take();
        } else if let Some(capacity) = self.wanted_capacity(bytes_max) {
            self.buffer.reserve_exact(capacity - self.buffer.len());
        }
    }

    /// What is kept for later: all that is in the buffer, but for the requests of a round of which some may
    /// be executed.
    fn unexecuted_bytes(&self) -> usize {
        self.buffer.len() - self.consumed
    }

    /// Makes room for a read behind requests that are not executed yet.
    fn make_room_behind(&mut self) {
        if self.buffer.capacity() == 0 {
            self.buffer = buffers::take();
        } else if self.buffer.capacity() - self.buffer.len() < decode::READ_BYTES_MIN {
            self.buffer.reserve(decode::READ_BYTES_MIN);
        }
    }

    /// How large the buffer should be for the next read, if it is too small. It doubles, but not far beyond
    /// what a request may have, nor beyond the end of what is pending if that is near.
    fn wanted_capacity(&self, bytes_max: usize) -> Option<usize> {
        let (length, capacity) = (self.buffer.len(), self.buffer.capacity());
        let DecodeStop::NeedBytes(missing) = self.stop else { return None };
        let wanted = decode::read_reserve_bytes(missing, length);
        if length == 0 || capacity - length >= wanted {
            return None;
        }
        let is_near = missing >= capacity / 2 && missing == wanted;
        let doubled = if is_near { length + wanted } else { (2 * capacity).max(length + wanted) };
        let bounded = doubled.min(bytes_max.saturating_add(decode::READ_BYTES_MIN));
        Some(bounded.max(length + decode::READ_BYTES_MIN)).filter(|&wanted| wanted > capacity)
    }

    /// Keeps nothing of size while there is no request.
    fn give_back(&mut self) {
        buffers::give(&mut self.buffer);
        if self.arguments_bytes() > KEPT_ARGUMENTS_BYTES_MAX {
            self.requests = Requests::new();
            self.decoder.give_back();
        }
    }

    fn has_more(&self) -> bool {
        self.next < self.requests.len() || self.stop == DecodeStop::RequestsMax
    }

    fn decode(&mut self, core: &Core) {
        let unauthenticated = !core.session.authenticated && !core.shared().acl.is_open();
        let bulk_bytes_max = core.shared().limits.bulk_bytes_max.load(Ordering::Relaxed);
        self.decoder.set_limits(RequestLimits {
            unauthenticated,
            bulk_bytes_max,
            ..RequestLimits::default()
        });
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
            buffers::give(&mut self.buffer);
            if self.stop != DecodeStop::RequestsMax {
                self.stop = match self.stop {
                    DecodeStop::NeedBytes(_) => DecodeStop::NeedBytes(1),
                    stop => stop,
                };
            }
        } else if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            if self.buffer.capacity() / SLACK_MAX > self.buffer.len().max(buffers::BUFFER_BYTES) {
                self.buffer.shrink_to(buffers::BUFFER_BYTES);
            }
        }
        self.consumed = 0;
    }
}
