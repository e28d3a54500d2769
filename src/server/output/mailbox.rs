//! A client's mailbox: pushes from any thread (messages of channels, notifications, invalidations) on their
//! way to one client.
//!
//! A push is posted with the batch whose effect it shows. The receiver's worker takes it between two replies,
//! encodes it in the client's protocol, and appends it to the outbox after the replies that are there, with
//! the batch as its gate. So it leaves in order with the client's replies, never inside one, and not before
//! that batch is durable.
//!
//! # Invariants
//!
//! - Posts of one thread keep their order.
//! - What waits here is bounded by the client's output limit: beyond it everything is dropped, and the caller
//!   closes the connection, as Redis does with a client that does not read.
//! - No wake-up is lost. A poster sets the flag under the mutex and then wakes; the receiver clears the flag
//!   under the mutex as it takes the content.
//!
//! A client without a mailbox costs its worker one look at an `Option` for each reply.

use engramdb_engine::command::Reply;
use engramdb_engine::log::Lsn;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// One push, shared by all its receivers.
#[derive(Debug, PartialEq, Eq)]
pub struct Push {
    elements: Vec<PushElement>,
    bytes: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub enum PushElement {
    Bulk(Box<[u8]>),
    /// The whole push: a status reply, as MONITOR's lines are in both protocols.
    Line(Box<str>),
    Integer(i64),
    Null,
    /// An array of bulk strings.
    Array(Vec<Box<[u8]>>),
}

impl PushElement {
    pub fn bulk(bytes: impl Into<Box<[u8]>>) -> PushElement {
        PushElement::Bulk(bytes.into())
    }

    fn heap_bytes(&self) -> usize {
        match self {
            PushElement::Bulk(bytes) => bytes.len(),
            PushElement::Line(text) => text.len(),
            PushElement::Integer(_) | PushElement::Null => 0,
            PushElement::Array(items) => items.iter().map(|item| item.len() + size_of_val(item)).sum(),
        }
    }
}

impl Push {
    pub fn new(elements: Vec<PushElement>) -> Arc<Push> {
        let bytes = elements.iter().map(|element| size_of_val(element) + element.heap_bytes()).sum();
        Arc::new(Push { elements, bytes })
    }

    pub fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// A push that is one line of text.
    pub fn line(text: String) -> Arc<Push> {
        Push::new(vec![PushElement::Line(text.into())])
    }

    /// Writes it as RESP3's push type, in RESP2 as an array.
    pub fn write(&self, reply: &mut dyn Reply) {
        if let [PushElement::Line(text)] = &*self.elements {
            return reply.simple(text);
        }
        reply.push(self.elements.len());
        for element in &self.elements {
            match element {
                PushElement::Bulk(bytes) => reply.bulk(bytes),
                PushElement::Line(text) => reply.simple(text),
                PushElement::Integer(value) => reply.integer(*value),
                PushElement::Null => reply.null(),
                PushElement::Array(items) => {
                    reply.array(items.len());
                    items.iter().for_each(|item| reply.bulk(item));
                }
            }
        }
    }
}

/// A push and the batch whose effect it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    pub push: Arc<Push>,
    pub gate: Lsn,
}

/// What became of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The first one in the mailbox: the receiver is to be woken.
    First,
    /// Behind others, for which the receiver was woken.
    Queued,
    /// There is more than the client may have: all was dropped, and the connection is to be closed.
    Overflowed,
    /// The client takes no pushes, or no more.
    Refused,
}

#[derive(Default)]
pub struct Mailbox {
    has_mail: AtomicBool,
    bytes: AtomicUsize,
    state: Mutex<MailboxState>,
}

#[derive(Default)]
struct MailboxState {
    posted: VecDeque<Posted>,
    is_closed: bool,
}

impl Mailbox {
    /// Adds a push. No more than `bytes_max` may wait here.
    pub fn post(&self, posted: Posted, bytes_max: usize) -> Delivery {
        let bytes = posted.bytes();
        let mut state = self.state.lock();
        if state.is_closed {
            return Delivery::Refused;
        }
        let total = self.bytes.load(Ordering::Relaxed) + bytes;
        if total > bytes_max {
            drop(self.close_locked(state));
            return Delivery::Overflowed;
        }
        state.posted.push_back(posted);
        self.bytes.store(total, Ordering::Relaxed);
        match self.has_mail.swap(true, Ordering::Release) {
            true => Delivery::Queued,
            false => Delivery::First,
        }
    }

    /// Whether there is something to be taken.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Takes everything, in the order in which it was posted.
    pub fn take(&self) -> VecDeque<Posted> {
        let mut state = self.state.lock();
        self.has_mail.store(false, Ordering::Release);
        self.bytes.store(0, Ordering::Relaxed);
        std::mem::take(&mut state.posted)
    }

    /// Takes no more, and forgets what is there: the connection has ended, or wants no pushes any more.
    pub fn close(&self) {
        drop(self.close_locked(self.state.lock()));
    }

    /// Takes pushes again: the client has asked for some after a RESET.
    pub fn reopen(&self) {
        self.state.lock().is_closed = false;
    }

    /// Memory of what waits here.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn close_locked(&self, mut state: parking_lot::MutexGuard<'_, MailboxState>) -> VecDeque<Posted> {
        state.is_closed = true;
        self.has_mail.store(false, Ordering::Release);
        self.bytes.store(0, Ordering::Relaxed);
        std::mem::take(&mut state.posted)
    }
}

impl Posted {
    fn bytes(&self) -> usize {
        self.push.bytes + size_of::<Posted>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(number: i64, gate: u64) -> Posted {
        Posted { push: Push::new(vec![PushElement::Integer(number)]), gate: Lsn(gate) }
    }

    #[test]
    fn posts_are_taken_in_order_and_the_first_wakes() {
        let mailbox = Mailbox::default();
        assert!(!mailbox.has_mail());
        assert_eq!(mailbox.post(posted(1, 5), usize::MAX), Delivery::First);
        assert_eq!(mailbox.post(posted(2, 4), usize::MAX), Delivery::Queued);
        assert!(mailbox.has_mail() && mailbox.heap_bytes() > 0);
        assert_eq!(mailbox.take(), [posted(1, 5), posted(2, 4)]);
        assert_eq!((mailbox.has_mail(), mailbox.heap_bytes()), (false, 0));
        assert_eq!(mailbox.post(posted(3, 6), usize::MAX), Delivery::First);
        mailbox.close();
        assert_eq!((mailbox.has_mail(), mailbox.heap_bytes()), (false, 0));
        assert_eq!(mailbox.post(posted(4, 7), usize::MAX), Delivery::Refused);
        assert!(mailbox.take().is_empty());
    }

    #[test]
    fn beyond_the_limit_all_is_dropped_and_nothing_more_is_taken() {
        let mailbox = Mailbox::default();
        let one = posted(1, 0).bytes();
        assert_eq!(mailbox.post(posted(1, 0), 2 * one), Delivery::First);
        assert_eq!(mailbox.post(posted(2, 0), 2 * one), Delivery::Queued);
        assert_eq!(mailbox.post(posted(3, 0), 2 * one), Delivery::Overflowed);
        assert_eq!((mailbox.has_mail(), mailbox.heap_bytes()), (false, 0));
        assert_eq!(mailbox.post(posted(4, 0), 2 * one), Delivery::Refused);
    }
}
