//! What a connection waits for before it executes on, and what comes of it: another try, or work of another
//! thread.

use crate::dispatch::admission::with_slack;
use crate::dispatch::execute::Core;
use crate::long_work::LongWork;
use crate::output::{Errors, Outbox, Replies};
use crate::session::{Owned, ReplyMode};
use crate::stats::WaitingClient;
use crate::turns::KeyTurn;
use engramdb_engine::command::{CommandError, Job, Reply, Stage};
use engramdb_engine::log::Lsn;
use engramdb_engine::{Preparation, Prepared};
use std::future::Future;
use std::pin::Pin;
use tokio::sync::oneshot;

/// Something that the connection waits for before it executes on.
pub type Waiting = Pin<Box<dyn Future<Output = Resumed> + Send>>;

/// How a wait ended.
pub enum Resumed {
    /// Try the same request again.
    Retry,
    /// A staged command's job is done.
    Made(Box<Made>),
    /// Try the same request again, with what was made for it.
    Prepared(Box<Prepared>),
    /// What the request needs could not be made.
    Failed,
    /// Try the same request again: no other writer of its key comes before it.
    Turn(KeyTurn),
    /// The connection's buffer is back, perhaps with the request that is next.
    Buffer(Vec<u8>, Option<Owned>),
    /// A session command's reply.
    Reply(WriteReply),
}

/// A reply that was made elsewhere.
pub struct Made {
    pub(super) outbox: Outbox,
    pub(super) gate: Lsn,
    pub(super) errors: Errors,
}

pub type WriteReply = Box<dyn FnOnce(&mut dyn Reply) + Send>;

impl Core {
    /// Ends a wait.
    pub fn resume(&mut self, resumed: Resumed) {
        self.begin_round();
        self.end_waiting();
        self.preparing_bytes = 0;
        match resumed {
            Resumed::Retry | Resumed::Buffer(..) => {}
            Resumed::Prepared(prepared) => self.retained.prepared = Some(prepared),
            Resumed::Failed => {
                // It would fail again.
                self.reply(|replies| replies.error(&failed()));
                self.closing = true;
            }
            Resumed::Turn(turn) => self.key_turn = Some(turn),
            Resumed::Made(made) => {
                let Made { outbox, gate, errors } = *made;
                self.reply_gated(|_, replies| (gate, replies.append(outbox, errors)));
                let shared = self.shared.clone();
                self.note_answered(&shared);
            }
            Resumed::Reply(write) => self.reply(|replies| write(replies)),
        }
    }

    /// Does what is left of a staged command, here or elsewhere.
    pub(super) fn go_on(&mut self, stage: Stage) -> Option<Waiting> {
        if let Stage::Done = stage {
            return None;
        }
        let (shared, database) = (self.shared.clone(), self.session.database);
        match stage {
            Stage::Done => None,
            Stage::Park(_) => unreachable!("a client parks under the lock of its run"),
            Stage::Run(job) => {
                let again = self.reply_gated(|_, replies| {
                    let attempt = shared.engine.attempt(database, job, replies);
                    (attempt.gate, attempt.again)
                });
                // The rest takes longer than a worker's turn.
                again.and_then(|job| self.go_on(Stage::Offload(job)))
            }
            Stage::NeedsRoom(bytes) => {
                self.retained.room_bytes = with_slack(bytes);
                None
            }
            Stage::Prepare(preparation) => Some(self.prepare(*preparation)),
            Stage::Offload(job) => {
                self.has_job = true;
                Some(elsewhere(&shared.searches, self.making(job)))
            }
            Stage::Copy(job) => {
                self.has_job = true;
                Some(elsewhere(&shared.copies, self.making(job)))
            }
            Stage::Wait(wait) => {
                let (waiter, at_most) = (wait.signal.waiter(), wait.at_most);
                let make = self.making(wait.job);
                let counted = WaitingClient::new(&shared.stats);
                self.waits_for_signal = true;
                Some(Box::pin(async move {
                    match at_most {
                        None => waiter.await,
                        // Either way the job is next.
                        Some(at_most) => _ = tokio::time::timeout(at_most, waiter).await,
                    }
                    drop(counted);
                    elsewhere(&shared.searches, make).await
                }))
            }
        }
    }

    /// Has made what a write needs. One writer of a document at a time: the others wait before they look at
    /// it, because each change would make what they have made void.
    fn prepare(&mut self, preparation: Preparation) -> Waiting {
        let (shared, database) = (self.shared.clone(), self.session.database);
        match preparation.key() {
            Some(key) if self.key_turn.as_ref().is_none_or(|turn| !turn.is_of(key)) => {
                self.key_turn = None;
                match shared.turns.take(key) {
                    Ok(turn) => self.key_turn = Some(turn),
                    Err(waiter) => {
                        self.retained.prepared = preparation.into_words();
                        return Box::pin(async { waiter.await.map_or(Resumed::Retry, Resumed::Turn) });
                    }
                }
            }
            _ => {}
        }
        self.preparing_bytes = preparation.heap_bytes();
        let pool = if preparation.is_reading() { &shared.readings } else { &shared.copies };
        let engine = shared.engine.clone();
        let made = sent_by(pool, move |is_wanted| {
            Resumed::Prepared(engine.prepare_while(database, preparation, is_wanted))
        });
        Box::pin(async { made.await.unwrap_or(Resumed::Failed) })
    }

    /// Runs a job to its reply, which the connection takes over: for another thread.
    fn making(&self, job: Job) -> impl FnOnce() -> Resumed + Send + 'static {
        let (engine, database) = (self.shared.engine.clone(), self.session.database);
        let style = self.session.style();
        let mut outbox = self.outbox.like();
        if self.session.reply_mode != ReplyMode::On {
            outbox.begin_unwanted();
        }
        move || {
            let mut replies = Replies::new(&mut outbox, style);
            let gate = engine.complete(database, job, &mut replies);
            let errors = replies.errors;
            Resumed::Made(Box::new(Made { outbox, gate, errors }))
        }
    }
}

/// Makes a reply on a thread of the pool.
pub fn elsewhere(pool: &LongWork, make: impl FnOnce() -> Resumed + Send + 'static) -> Waiting {
    let made = sent_by(pool, |_| make());
    Box::pin(async move {
        made.await.unwrap_or_else(|_| Resumed::Reply(Box::new(|reply| reply.error(&failed()))))
    })
}

/// What a thread of the pool makes; an error if it panics. The function that `make` gets says whether the
/// connection is still there.
fn sent_by(
    pool: &LongWork,
    make: impl FnOnce(&dyn Fn() -> bool) -> Resumed + Send + 'static,
) -> oneshot::Receiver<Resumed> {
    let (sender, made) = oneshot::channel();
    pool.run(Box::new(move || {
        // If the connection has ended, the result is not needed.
        if !sender.is_closed() {
            let resumed = make(&|| !sender.is_closed());
            _ = sender.send(resumed);
        }
    }));
    made
}

fn failed() -> CommandError {
    CommandError::of("ERR the command failed; the server's log says why")
}
