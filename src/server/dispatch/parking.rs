//! A connection that waits for keys: what the engine's list of parked clients has of it, and its deadline.
//!
//! The reply is made by whichever thread ends the wait: the one that runs the batch that feeds a key, the
//! connection's own at the deadline, or another client's (CLIENT UNBLOCK). All of them write it into the same
//! outbox, which then comes back to the connection with what it has to wait for. The engine sees to it that
//! only one of them does.

use crate::dispatch::execute::Core;
use crate::dispatch::wait::{Made, Resumed, Waiting};
use crate::output::{Errors, Outbox, Replies, Style};
use crate::session::ReplyMode;
use engramdb_engine::command::{Args, Park, Reply};
use engramdb_engine::log::Lsn;
use engramdb_engine::shard::parked::{Ticket, Waiter};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// The connection as the engine has it.
struct ParkedConnection {
    outbox: Outbox,
    style: Style,
    errors: Errors,
    answered: oneshot::Sender<Made>,
}

impl Waiter for ParkedConnection {
    fn write(&mut self, write: &mut dyn FnMut(&mut dyn Reply)) {
        let mut replies = Replies::new(&mut self.outbox, self.style);
        write(&mut replies);
        self.errors = replies.errors;
    }

    fn answered(self: Box<Self>, gate: Lsn) {
        let ParkedConnection { outbox, errors, answered, .. } = *self;
        // Fails where the connection has ended meanwhile.
        _ = answered.send(Made { outbox, gate, errors });
    }
}

/// The wait itself. Dropping it takes the client out of the engine's list.
struct Parked {
    ticket: Arc<Ticket>,
    answered: oneshot::Receiver<Made>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Future for Parked {
    type Output = Resumed;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Resumed> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.deadline = None;
            // Where the client is being served at this moment, that reply is the one.
            self.ticket.time_out();
        }
        let made = std::task::ready!(Pin::new(&mut self.answered).poll(context));
        let made = made.expect("a parked client is answered before its waiter is dropped");
        Poll::Ready(Resumed::Made(Box::new(made)))
    }
}

impl Core {
    /// Enters the connection into the list of parked clients. `enter` is that of the run in which the command
    /// came back.
    pub(super) fn park(
        &mut self,
        args: Args<'_>,
        park: Park,
        enter: impl FnOnce(Args<'_>, Park, Box<dyn Waiter>) -> Ticket,
    ) -> Waiting {
        let (sender, answered) = oneshot::channel();
        let mut outbox = self.outbox.like();
        if self.session.reply_mode != ReplyMode::On {
            outbox.begin_unwanted();
        }
        let style = self.session.style();
        let waiter = ParkedConnection { outbox, style, errors: Errors::default(), answered: sender };
        let deadline = park.at_most.map(|at_most| Box::pin(tokio::time::sleep(at_most)));
        self.parked_bytes = parked_bytes(args, &park);
        let ticket = Arc::new(enter(args, park, Box::new(waiter)));
        self.session.client.set_parked(&ticket);
        Box::pin(Parked { ticket, answered, deadline })
    }
}

/// What a parked client takes in memory: its words, its keys three times, and its places in their
/// queues.
fn parked_bytes(args: Args<'_>, park: &Park) -> usize {
    const ENTRY_BYTES: usize = 512;
    const KEY_BYTES: usize = 128;
    let words: usize = args.iter().map(|word| word.len() + size_of::<Vec<u8>>()).sum();
    ENTRY_BYTES + words + park.keys.iter().map(|key| 3 * key.len() + KEY_BYTES).sum::<usize>()
}
