//! Encodes replies in the wire format and decodes them, so that tests see what a client would see.

use engramdb_engine::command::{CommandError, Reply};
use engramdb_resp::{Encoder, Protocol, ReplyReader, Value};

/// Collects one reply as bytes.
pub struct Wire {
    bytes: Vec<u8>,
    protocol: Protocol,
}

impl Wire {
    pub fn new(protocol: Protocol) -> Wire {
        Wire { bytes: Vec::new(), protocol }
    }

    /// The reply.
    ///
    /// # Panics
    /// If it is not exactly one reply: the handler announced a different number of elements than it wrote.
    pub fn value(&self) -> Value {
        let mut reader = ReplyReader::new();
        reader.feed(&self.bytes);
        let value = reader.next_reply().expect("a well-formed reply").expect("a whole reply");
        assert!(matches!(reader.next_reply(), Ok(None)), "a second reply follows {value:?}");
        value
    }

    fn encode(&mut self) -> Encoder<'_> {
        Encoder::new(&mut self.bytes, self.protocol)
    }
}

impl Reply for Wire {
    fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }
    fn simple(&mut self, text: &str) {
        self.encode().simple_string(text);
    }
    fn error(&mut self, error: &CommandError) {
        self.encode().error(error.bytes());
    }
    fn integer(&mut self, value: i64) {
        self.encode().integer(value);
    }
    fn bulk(&mut self, bytes: &[u8]) {
        self.encode().bulk(bytes);
    }
    fn null(&mut self) {
        self.encode().null();
    }
    fn null_array(&mut self) {
        self.encode().null_array();
    }
    fn array(&mut self, elements: usize) {
        self.encode().array_header(elements);
    }
    fn map(&mut self, pairs: usize) {
        self.encode().map_header(pairs);
    }
    fn set(&mut self, elements: usize) {
        self.encode().set_header(elements);
    }
    fn push(&mut self, elements: usize) {
        self.encode().push_header(elements);
    }
    fn double(&mut self, value: f64) {
        self.encode().double(value);
    }
    fn boolean(&mut self, value: bool) {
        self.encode().boolean(value);
    }
    fn verbatim(&mut self, format: &str, text: &[u8]) {
        let format = format.as_bytes().try_into().expect("three letters");
        self.encode().verbatim(&format, text);
    }
    fn mark(&self) -> usize {
        self.bytes.len()
    }
    fn rewind(&mut self, mark: usize) {
        self.bytes.truncate(mark);
    }
}
