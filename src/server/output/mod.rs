//! Replies on their way out: encoded, held back until what they show is durable, and sent.

pub mod gate;
#[cfg_attr(not(test), expect(dead_code, reason = "for pub/sub, notifications and tracking, which come next"))]
mod mailbox;
mod outbox;
mod replies;

#[cfg(test)]
pub use mailbox::PushElement;
pub use mailbox::{Delivery, Mailbox, Posted, Push};
pub use outbox::{LARGE_BYTES, Outbox, OutboxUsage};
pub use replies::{Errors, Replies, Style};
