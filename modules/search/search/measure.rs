//! Measures a reply without storing it: the least bytes that it takes in RESP2.

use engramdb_engine::command::{CommandError, Reply};
use std::ops::Range;
use std::sync::Arc;

#[derive(Default)]
pub struct Measure {
    bytes: usize,
}

/// The bytes of a line at the least: the type, one digit or letter, and the line's end.
const LINE_BYTES: usize = 4;
/// The bytes around a bulk string at the least: the line with the length, and the end of the bytes.
const BULK_BYTES: usize = LINE_BYTES + 2;

impl Measure {
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Reply for Measure {
    fn is_resp3(&self) -> bool {
        false
    }

    fn simple(&mut self, _text: &str) {
        self.bytes += LINE_BYTES;
    }

    fn error(&mut self, _error: &CommandError) {
        self.bytes += LINE_BYTES;
    }

    fn integer(&mut self, _value: i64) {
        self.bytes += LINE_BYTES;
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.bytes += BULK_BYTES + bytes.len();
    }

    fn bulk_shared(&mut self, _content: &Arc<Vec<u8>>, range: Range<usize>) {
        self.bytes += BULK_BYTES + range.len();
    }

    fn null(&mut self) {
        self.bytes += LINE_BYTES;
    }

    fn null_array(&mut self) {
        self.bytes += LINE_BYTES;
    }

    fn array(&mut self, _elements: usize) {
        self.bytes += LINE_BYTES;
    }

    fn map(&mut self, _pairs: usize) {
        self.bytes += LINE_BYTES;
    }

    fn set(&mut self, _elements: usize) {
        self.bytes += LINE_BYTES;
    }

    fn push(&mut self, _elements: usize) {
        self.bytes += LINE_BYTES;
    }

    fn double(&mut self, _value: f64) {
        self.bytes += LINE_BYTES;
    }

    fn boolean(&mut self, _value: bool) {
        self.bytes += LINE_BYTES;
    }

    fn verbatim(&mut self, _format: &str, text: &[u8]) {
        self.bytes += BULK_BYTES + text.len();
    }

    fn mark(&self) -> usize {
        self.bytes
    }

    fn rewind(&mut self, mark: usize) {
        self.bytes = mark;
    }
}
