//! The engine's `Reply` over a connection's output.

use crate::session::Session;
use engramdb_engine::command::{CommandError, Reply};
use engramdb_resp::{Encoder, Protocol};

pub struct Replies<'o> {
    output: &'o mut Vec<u8>,
    protocol: Protocol,
    /// See `Session::prefers_flat`.
    prefers_flat: bool,
    /// The first error reply written, for the error statistics.
    pub errors: u64,
}

impl<'o> Replies<'o> {
    pub fn new(output: &'o mut Vec<u8>, session: &Session) -> Replies<'o> {
        let Session { protocol, prefers_flat, .. } = *session;
        Replies { output, protocol, prefers_flat, errors: 0 }
    }

    /// From now on replies are written in this protocol.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    #[inline]
    fn encoder(&mut self) -> Encoder<'_> {
        Encoder::new(self.output, self.protocol)
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
        self.errors += 1;
        self.encoder().error(error.text());
    }

    fn integer(&mut self, value: i64) {
        self.encoder().integer(value);
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.encoder().bulk(bytes);
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
        self.encoder().verbatim(format, text);
    }

    fn mark(&self) -> usize {
        self.output.len()
    }

    fn rewind(&mut self, mark: usize) {
        self.output.truncate(mark);
    }

    fn ok(&mut self) {
        self.encoder().ok();
    }
}
