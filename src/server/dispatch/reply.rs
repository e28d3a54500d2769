//! Writing replies into the outbox: counted, dropped where the client wants none, sealed with their gate.

use crate::context::ServerContext;
use crate::dispatch::execute::Core;
use crate::output::{Posted, Replies};
use crate::session::{MONITORED_BYTES_MAX, ReplyMode, Session};
use crate::stats::{self, Slow, WorkerStats};
use engramdb_engine::command::{Args, CommandError, Reply, flag};
use engramdb_engine::log::Lsn;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Core {
    pub(super) fn refuse(&mut self, error: &CommandError) {
        if let Some(multi) = &mut self.session.multi {
            multi.is_broken = true;
        }
        self.retained.room_bytes = 0;
        self.reply(|replies| replies.error(error));
    }

    /// Writes one reply that waits for nothing of its own.
    pub(super) fn reply(&mut self, write: impl FnOnce(&mut Replies<'_>)) {
        self.reply_gated(|_, replies| {
            write(replies);
            (Lsn(0), ())
        });
    }

    /// Writes one reply, whose gate is known afterwards.
    pub(super) fn reply_gated<R>(
        &mut self,
        write: impl FnOnce(&mut Session, &mut Replies<'_>) -> (Lsn, R),
    ) -> R {
        let result = self.reply_sealed(write);
        self.collect_mail();
        result
    }

    /// The same, without a look at the mailbox: for a caller that holds the engine's lock.
    pub(super) fn reply_sealed<R>(
        &mut self,
        write: impl FnOnce(&mut Session, &mut Replies<'_>) -> (Lsn, R),
    ) -> R {
        let (gate, result) = self.reply_unsealed(write);
        self.seal(gate);
        result
    }

    /// Writes one reply, to be sealed by the caller: its errors are counted, and it is dropped if the client
    /// wants none.
    #[inline]
    pub(super) fn reply_unsealed<R>(&mut self, write: impl FnOnce(&mut Session, &mut Replies<'_>) -> R) -> R {
        let may_be_unwanted = self.session.reply_mode != ReplyMode::On;
        if may_be_unwanted {
            self.outbox.begin_unwanted();
        }
        let start = self.outbox.end();
        let mut replies = Replies::new(&mut self.outbox, self.session.style());
        let result = write(&mut self.session, &mut replies);
        self.has_failed = replies.errors.count > 0;
        let (is_written, is_insisted) = (replies.is_written(), replies.is_insisted);
        if self.has_failed && !replies.errors.is_counted {
            self.shared.stats.error(&replies.errors.first_code);
        }
        self.outbox.end_unwanted();
        // A command that has not answered yet comes back with its reply.
        if is_written && !self.session.takes_reply() && !is_insisted {
            self.outbox.rewind(start);
        }
        result
    }

    /// Whether there are pushes for a connection that waits for keys.
    #[inline]
    pub fn has_mail_while_parked(&self) -> bool {
        self.parked_bytes > 0 && self.session.mailbox.as_ref().is_some_and(|mailbox| mailbox.has_mail())
    }

    /// Moves pushes from the mailbox behind the replies so far. True if there were any.
    #[inline]
    pub fn collect_mail(&mut self) -> bool {
        if !self.session.monitored.is_empty() {
            self.feed_monitors();
        }
        let has_mail = self.session.mailbox.as_ref().is_some_and(|mailbox| mailbox.has_mail());
        if has_mail && self.goes_on() {
            self.append_mail();
        }
        has_mail
    }

    /// Shows the commands that have run to the clients that monitor, when what they wrote is durable.
    #[cold]
    fn feed_monitors(&mut self) {
        let gate = self.outbox.latest_gate();
        let bytes = std::mem::take(&mut self.session.monitored_bytes);
        if bytes > MONITORED_BYTES_MAX {
            // Lines are missing.
            self.session.monitored = Vec::new();
            return self.shared.monitors.each(|client| self.shared.close_for_output(client, bytes));
        }
        for line in std::mem::take(&mut self.session.monitored) {
            self.shared.monitors.each(|client| _ = self.shared.post(client, &line, gate));
        }
    }

    /// Appends what is in the mailbox to the replies so far. Each push has its own gate, and delays no
    /// reply in front of it. A client that wants no replies gets its pushes all the same, as in Redis.
    #[cold]
    fn append_mail(&mut self) {
        let Some(mailbox) = &self.session.mailbox else { return };
        // A push's gate would become that of a reply in front of it that has none yet.
        assert!(self.outbox.is_sealed(), "pushes are appended between replies");
        let style = self.session.style();
        for Posted { push, gate } in mailbox.take() {
            self.begin_round();
            push.write(&mut Replies::new(&mut self.outbox, style));
            self.seal(gate);
        }
    }

    pub(super) fn seal(&mut self, gate: Lsn) {
        self.outbox.seal(gate.max(self.rights_gate), self.shared.engine.durable());
    }

    /// Says why the stream cannot be understood, and closes.
    pub fn protocol_error(&mut self, text: &[u8]) {
        let output = self.outbox.tail();
        output.push(b'-');
        output.extend_from_slice(text);
        output.extend_from_slice(b"\r\n");
        self.seal(Lsn(0));
        self.closing = true;
    }

    #[inline]
    pub(super) fn note(&mut self, shared: &ServerContext, id: usize, args: Args<'_>, took: Duration) {
        self.session.client.last_command.store(id + 1, Ordering::Relaxed);
        let noted = (&*self.stats, &self.session);
        note_call(shared, noted, (id, took, self.has_failed), || stats::slow_words(args));
    }

    /// Keeps what is noted of a command that waits for keys until it has its reply.
    pub(super) fn note_when_answered(&mut self, id: usize, args: Args<'_>, took: Duration) {
        self.session.client.last_command.store(id + 1, Ordering::Relaxed);
        self.unnoted = Some(Box::new(Unnoted { id, took, words: stats::slow_words(args) }));
    }

    /// Notes the command that has waited and now has its reply.
    pub(super) fn note_answered(&mut self, shared: &ServerContext) {
        let Some(unnoted) = self.unnoted.take() else { return };
        let Unnoted { id, took, words } = *unnoted;
        note_call(shared, (&self.stats, &self.session), (id, took, self.has_failed), || words);
    }
}

/// A command that waits for keys: how long it ran, and its words as the slow log keeps them.
pub(super) struct Unnoted {
    id: usize,
    took: Duration,
    words: Vec<Vec<u8>>,
}

/// Counts a call, and keeps it if it was slow. `words` are those for the slow log.
#[inline]
pub(super) fn note_call(
    shared: &ServerContext,
    (stats, session): (&WorkerStats, &Session),
    (id, took, has_failed): (usize, Duration, bool),
    words: impl FnOnce() -> Vec<Vec<u8>>,
) {
    let counters = &stats.commands[id];
    counters.calls.add(1);
    counters.failed.add(u64::from(has_failed));
    counters.nanoseconds.add(took.as_nanos() as u64);
    if shared.limits.tracks_latencies.load(Ordering::Relaxed) {
        counters.latencies.get_or_init(Box::default).add(took.as_nanos() as u64);
    }
    let is = |flag| shared.table.by_id(id).is_some_and(|known| known.command.has(flag));
    if shared.latency.threshold_ms() > 0 {
        let event = if is(flag::FAST) { "fast-command" } else { "command" };
        let now_s = || shared.engine.env().clock.wall_ms() / 1000;
        shared.latency.note(event, took.as_millis() as u64, now_s);
    }
    let threshold_us = shared.limits.slow_us.load(Ordering::Relaxed);
    if threshold_us >= 0 && took.as_micros() as i64 >= threshold_us && !is(flag::SKIP_SLOWLOG) {
        note_slow(shared, session, words(), took);
    }
}

#[cold]
fn note_slow(shared: &ServerContext, session: &Session, words: Vec<Vec<u8>>, took: Duration) {
    let slow = Slow {
        id: 0,
        at_ms: shared.engine.now_ms(),
        microseconds: took.as_micros() as u64,
        words,
        client: session.client.address.to_string(),
        client_name: stats::cut(session.client.names.lock().name.as_bytes()),
    };
    let kept_max = shared.config.read().slow_log_entries_max;
    shared.stats.slow(slow, kept_max);
}
