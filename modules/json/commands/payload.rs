//! The buffer in which handlers make payloads.

use std::cell::RefCell;

thread_local! {
    /// The payload of the last command of this thread, so that its memory is used again.
    static PAYLOAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `with` on an empty buffer for a payload.
pub fn with_payload<R>(with: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    const KEPT_BYTES_MAX: usize = 256 << 10;
    let mut payload = PAYLOAD.take();
    payload.clear();
    let result = with(&mut payload);
    if payload.capacity() <= KEPT_BYTES_MAX {
        PAYLOAD.set(payload);
    }
    result
}
