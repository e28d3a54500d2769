//! Replies on their way out: encoded, held back until what they show is durable, and sent.

pub mod gate;
mod outbox;
mod replies;

pub use outbox::{LARGE_BYTES, Outbox, OutboxUsage};
pub use replies::{Errors, Replies, Style};
