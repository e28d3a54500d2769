//! Replies on their way out: encoded, held back until what they show is durable, and sent.

pub mod gate;
mod mailbox;
mod outbox;
mod replies;

pub use mailbox::{Delivery, Mailbox, Posted, Push, PushElement};
pub use outbox::{LARGE_BYTES, Outbox, OutboxUsage};
pub use replies::{Errors, Replies, Style};
