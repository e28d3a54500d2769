//! The interface through which handlers write replies. The server implements it with RESP2 and RESP3, the
//! script runner with text.

use super::CommandError;
use crate::types::StringRef;
use std::ops::Range;
use std::sync::Arc;

/// A sink for a sequence of replies. An aggregate is its header followed by that many elements (a map:
/// pairs).
pub trait Reply {
    /// Whether maps, sets, doubles and nulls have types of their own (RESP3).
    fn is_resp3(&self) -> bool;
    /// Whether the client uses RESP3, but expects replies of modules in the shapes of RESP2.
    fn prefers_flat(&self) -> bool {
        false
    }
    fn simple(&mut self, text: &str);
    fn error(&mut self, error: &CommandError);
    fn integer(&mut self, value: i64);
    fn bulk(&mut self, bytes: &[u8]);
    /// A bulk string that is a part of shared content. A sink may keep a reference instead of a copy.
    fn bulk_shared(&mut self, content: &Arc<Vec<u8>>, range: Range<usize>) {
        self.bulk(&content[range]);
    }
    fn null(&mut self);
    /// The reply of an aborted EXEC, and of a pop without an element: in RESP2 it differs from `null`.
    fn null_array(&mut self);
    fn array(&mut self, elements: usize);
    /// RESP2 sends it as an array of twice as many elements.
    fn map(&mut self, pairs: usize);
    fn set(&mut self, elements: usize);
    fn push(&mut self, elements: usize);
    fn double(&mut self, value: f64);
    fn boolean(&mut self, value: bool);
    /// `format` has three letters, `txt` or `mkd`.
    fn verbatim(&mut self, format: &str, text: &[u8]);

    /// A number of any size, as its digits. A sink without such a type writes a bulk string.
    fn big_number(&mut self, digits: &[u8]) {
        self.bulk(digits);
    }

    /// A position for `rewind`, which drops everything written after it: an error replaces a half-written
    /// reply.
    fn mark(&self) -> usize;
    fn rewind(&mut self, mark: usize);

    /// The size in bytes beyond which the reply is dropped and its client closed.
    fn room(&self) -> usize {
        usize::MAX
    }
    /// Drops the reply, which would exceed the limit, before it is written.
    fn give_up(&mut self) {}

    fn ok(&mut self) {
        self.simple("OK");
    }

    /// A string value as a bulk string.
    fn string(&mut self, value: StringRef<'_>) {
        match value.shared() {
            Some(content) => self.bulk_shared(content, 0..content.len()),
            None => value.with_bytes(|bytes| self.bulk(bytes)),
        }
    }

    fn optional_bulk(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }
}
