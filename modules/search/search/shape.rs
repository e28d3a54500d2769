//! Replies for clients that speak RESP3 and can read FT.* replies only in RESP2's format.
//!
//! valkey-glide is one: valkey-search, which it is made for, uses that format in both protocols.

use crate::module::SearchModule;
use crate::number::format_number;
use crate::settings::Format;
use engramdb_engine::command::{CommandError, Reply};
use engramdb_engine::store::view::View;
use std::ops::Range;
use std::sync::Arc;

/// Whether a client that speaks RESP3 gets RESP2's format.
pub fn is_flat(view: &View<'_>, reply: &dyn Reply) -> bool {
    reply.is_resp3()
        && match view.module::<SearchModule>().settings.resp3_format() {
            Format::Auto => reply.prefers_flat(),
            Format::Map => false,
            Format::Flat => true,
        }
}

/// Calls `write` with a reply in the format for the client.
pub fn shaped<T>(is_flat: bool, reply: &mut dyn Reply, write: impl FnOnce(&mut dyn Reply) -> T) -> T {
    if is_flat { write(&mut Flat(reply)) } else { write(reply) }
}

/// Writes RESP2's format into a RESP3 reply.
struct Flat<'r>(&'r mut dyn Reply);

impl Reply for Flat<'_> {
    fn is_resp3(&self) -> bool {
        false
    }

    fn simple(&mut self, text: &str) {
        self.0.simple(text);
    }

    fn error(&mut self, error: &CommandError) {
        self.0.error(error);
    }

    fn integer(&mut self, value: i64) {
        self.0.integer(value);
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.0.bulk(bytes);
    }

    fn bulk_shared(&mut self, content: &Arc<Vec<u8>>, range: Range<usize>) {
        self.0.bulk_shared(content, range);
    }

    fn null(&mut self) {
        self.0.null();
    }

    fn null_array(&mut self) {
        self.0.null_array();
    }

    fn array(&mut self, elements: usize) {
        self.0.array(elements);
    }

    fn map(&mut self, pairs: usize) {
        self.0.array(2 * pairs);
    }

    fn set(&mut self, elements: usize) {
        self.0.array(elements);
    }

    fn push(&mut self, elements: usize) {
        self.0.array(elements);
    }

    fn double(&mut self, value: f64) {
        self.0.bulk(format_number(value).as_bytes());
    }

    fn boolean(&mut self, value: bool) {
        self.0.integer(i64::from(value));
    }

    fn verbatim(&mut self, _format: &str, text: &[u8]) {
        self.0.bulk(text);
    }

    fn mark(&self) -> usize {
        self.0.mark()
    }

    fn rewind(&mut self, mark: usize) {
        self.0.rewind(mark);
    }

    fn room(&self) -> usize {
        self.0.room()
    }

    fn give_up(&mut self) {
        self.0.give_up();
    }
}
