//! The engine's `Reply` over a connection's output.

use crate::output::{LARGE_BYTES, Outbox};
use engramdb_engine::command::{CommandError, Reply};
use engramdb_engine::log::Lsn;
use engramdb_resp::{Encoder, Protocol};
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

pub struct Replies<'o> {
    outbox: &'o mut Outbox,
    protocol: Protocol,
    /// See `Session::prefers_flat`.
    prefers_flat: bool,
    /// Where the reply begins.
    start: usize,
    /// It was written, whatever is kept of it.
    was_written: bool,
    /// The client gets it, whatever CLIENT REPLY says.
    pub is_insisted: bool,
    pub errors: Errors,
}

/// Error replies that were written.
#[derive(Default)]
pub struct Errors {
    pub count: u64,
    /// The code of the first of them, for the error statistics. Errors inside EXEC's array count as one,
    /// under its name.
    pub first_code: String,
    /// The statistics have it already: it is the error of a script's command.
    pub is_counted: bool,
}

/// How a connection wants its replies.
#[derive(Clone, Copy)]
pub struct Style {
    pub protocol: Protocol,
    /// See `Session::prefers_flat`.
    pub prefers_flat: bool,
}

/// What a header, the length and the line ends of a bulk take at most.
const FRAME_BYTES: usize = 40;

impl<'o> Replies<'o> {
    pub fn new(outbox: &'o mut Outbox, Style { protocol, prefers_flat }: Style) -> Replies<'o> {
        let start = outbox.end();
        Replies {
            outbox,
            protocol,
            prefers_flat,
            start,
            was_written: false,
            is_insisted: false,
            errors: Errors::default(),
        }
    }

    /// Takes over replies that were made elsewhere.
    pub fn append(&mut self, made: Outbox, errors: Errors) {
        self.outbox.append(made);
        self.was_written = true;
        self.errors = errors;
    }

    /// The client gets this reply even if it wants none, as with Redis's replies to SUBSCRIBE.
    pub fn insist(&mut self) {
        self.is_insisted = true;
        self.outbox.end_unwanted();
    }

    /// The highest gate of the replies before this one: what the client wrote is durable with it.
    pub fn gate_before(&self) -> Lsn {
        self.outbox.latest_gate()
    }

    /// From now on replies are written in this protocol.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Whether anything was written, kept or not.
    pub fn is_written(&self) -> bool {
        self.was_written || self.outbox.end() > self.start
    }

    /// Whether the reply is dropped because too much is unread: the connection will be closed, and the rest
    /// of the reply need not be made.
    pub fn is_dropped(&self) -> bool {
        self.outbox.has_overflowed()
    }

    #[inline]
    fn encoder(&mut self) -> Encoder<'_> {
        Encoder::new(self.outbox.tail(), self.protocol)
    }

    /// For what is long: an encoder over a buffer that takes it whole, or none if it is not kept.
    #[cold]
    fn large_encoder(&mut self, bytes: usize) -> Option<Encoder<'_>> {
        let protocol = self.protocol;
        let tail = self.outbox.large_tail(bytes + FRAME_BYTES);
        self.was_written |= tail.is_none();
        tail.map(|tail| Encoder::new(tail, protocol))
    }
}

impl Reply for Replies<'_> {
    fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    fn prefers_flat(&self) -> bool {
        self.prefers_flat
    }

    fn simple(&mut self, text: &str) {
        self.encoder().simple_string(text);
    }

    fn error(&mut self, error: &CommandError) {
        if self.errors.count == 0 {
            let text = error.text();
            let code = if self.is_written() { "EXEC" } else { text.split(' ').next().unwrap_or("ERR") };
            self.errors.first_code = code.to_owned();
        }
        self.errors.count += 1;
        self.encoder().error(error.bytes());
    }

    fn integer(&mut self, value: i64) {
        self.encoder().integer(value);
    }

    #[inline]
    fn bulk(&mut self, bytes: &[u8]) {
        if bytes.len() <= LARGE_BYTES {
            return self.encoder().bulk(bytes);
        }
        if let Some(mut encoder) = self.large_encoder(bytes.len()) {
            encoder.bulk(bytes);
        }
    }

    fn bulk_shared(&mut self, content: &Arc<Vec<u8>>, range: Range<usize>) {
        _ = write!(self.outbox.tail(), "${}\r\n", range.len());
        self.outbox.append_shared(content, range);
        self.outbox.tail().extend_from_slice(b"\r\n");
    }

    fn null(&mut self) {
        self.encoder().null();
    }

    fn null_array(&mut self) {
        self.encoder().null_array();
    }

    fn array(&mut self, elements: usize) {
        self.encoder().array_header(elements);
    }

    fn map(&mut self, pairs: usize) {
        self.encoder().map_header(pairs);
    }

    fn set(&mut self, elements: usize) {
        self.encoder().set_header(elements);
    }

    fn push(&mut self, elements: usize) {
        self.encoder().push_header(elements);
    }

    fn double(&mut self, value: f64) {
        self.encoder().double(value);
    }

    fn boolean(&mut self, value: bool) {
        self.encoder().boolean(value);
    }

    fn verbatim(&mut self, format: &str, text: &[u8]) {
        let format = format.as_bytes().try_into().expect("a format has three letters");
        if text.len() <= LARGE_BYTES {
            return self.encoder().verbatim(format, text);
        }
        if let Some(mut encoder) = self.large_encoder(text.len()) {
            encoder.verbatim(format, text);
        }
    }

    fn big_number(&mut self, digits: &[u8]) {
        self.encoder().big_number(digits);
    }

    fn mark(&self) -> usize {
        self.outbox.end()
    }

    fn rewind(&mut self, mark: usize) {
        self.outbox.rewind(mark);
    }

    fn room(&self) -> usize {
        self.outbox.room()
    }

    fn give_up(&mut self) {
        self.outbox.overflow();
    }

    fn ok(&mut self) {
        self.encoder().ok();
    }
}
