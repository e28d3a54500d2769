//! Buffers that idle connections do not keep: each worker thread has a few to lend.
//!
//! A connection holds a read buffer only while a request is incomplete, and an output buffer only while a
//! reply is on its way. So ten thousand idle connections cost no buffers, and a busy one allocates nothing.

use std::cell::RefCell;

/// A lent buffer's capacity, at least: a socket read's worth.
pub const BUFFER_BYTES: usize = 16 * 1024;

const KEPT_BUFFERS_MAX: usize = 64;
const KEPT_BYTES_MAX: usize = 64 * 1024;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer.
pub fn take() -> Vec<u8> {
    let kept = BUFFERS.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
}

/// Takes the buffer back, whatever is in it; the owner is left with one that holds no memory.
pub fn give(buffer: &mut Vec<u8>) {
    let mut buffer = std::mem::take(buffer);
    if !(BUFFER_BYTES..=KEPT_BYTES_MAX).contains(&buffer.capacity()) {
        return;
    }
    buffer.clear();
    BUFFERS.with_borrow_mut(|buffers| {
        if buffers.len() < KEPT_BUFFERS_MAX {
            buffers.push(buffer);
        }
    });
}
