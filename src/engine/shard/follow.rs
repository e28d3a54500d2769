//! A follower: reads a log that another engine writes, and can become its leader.
//!
//! Each entry is read and checked (sequence, running checksum, density of LSNs) without the lock. Then its
//! batches are applied under the write lock, in holds of [`HOLD_MAX`], through the same function as in
//! execution, so that hazards, WATCH and the modules' indexes are updated too. Replies need no gate, because
//! all entries that are read are durable.
//!
//! The time of a follower's reads is the larger of its own clock and the time of the last entry that it read.

use crate::log::pipeline::{Fatal, Options, Pipeline};
use crate::log::replay::{EntryBatches, FollowedEntry, Recovered, Replay};
use crate::log::{ClaimError, Wait};
use crate::shard::engine::Engine;
use crate::shard::parked::Answer;
use crate::shard::role::{Following, Leading, Role};
use crate::shard::run::release;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The time after which a hold of the lock applies no further batch.
const HOLD_MAX: Duration = Duration::from_micros(50);
/// The longest wait for an entry: [`Engine::lead`] waits for its end.
const WAIT_MAX: Duration = Duration::from_millis(20);
/// The pause while a module is overloaded.
const OVERLOADED_PAUSE: Duration = Duration::from_millis(1);
/// The number of successive claims that may come too late before [`Engine::lead`] gives up.
const CLAIMS_MAX: usize = 100;

/// The result of a step of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowerStep {
    /// An entry was read, and the batches that it completes were applied.
    Applied,
    /// All durable entries are applied.
    End,
    /// Nothing became durable in the given time.
    TimedOut,
    /// A module is overloaded, so nothing was read.
    Overloaded,
    /// The engine was closed, or leads.
    Over,
}

/// The reason why a follower did not become the leader. Except after a failure, it continues to follow.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LeadError {
    #[error("it leads already, or is closed")]
    NotFollowing,
    /// Another writer writes faster than this engine reads.
    #[error("the log went on before each of {CLAIMS_MAX} claims")]
    Behind,
    #[error("cannot claim the log: {0}")]
    Claim(ClaimError),
    #[error(transparent)]
    Failed(#[from] Fatal),
}

impl Engine {
    /// Reads the next entry and applies it. The thread ([`Engine::start_following`]) calls this in a loop;
    /// tests without a thread call it directly.
    pub fn follow(&self, wait: Wait) -> Result<FollowerStep, Fatal> {
        let Role::Following(following) = self.role() else { return Ok(FollowerStep::Over) };
        if self.is_overloaded() {
            return Ok(FollowerStep::Overloaded);
        }
        match &mut *following.reading.lock() {
            Some(replay) => self.step(following, replay, wait),
            None => Ok(FollowerStep::Over),
        }
    }

    fn step(&self, following: &Following, replay: &mut Replay, wait: Wait) -> Result<FollowerStep, Fatal> {
        if let Some(fatal) = following.failure() {
            return Err(fatal.clone());
        }
        if following.is_stopped.load(Ordering::Acquire) {
            return Ok(FollowerStep::Over);
        }
        let read = replay.follow_entry(wait);
        match read.map_err(|error| following.fail(error.to_string(), &self.watchers))? {
            FollowedEntry::Batches(batches) => {
                self.apply(following, &batches)?;
                following.note_position(replay.checkpoint().mark.pos);
                Ok(FollowerStep::Applied)
            }
            FollowedEntry::End => {
                if !following.is_caught_up() {
                    // If the log has no writer, its end was read and may not be on the disk.
                    let secured = self.log().secure();
                    secured.map_err(|cause| following.fail(cause, &self.watchers))?;
                }
                following.catch_up();
                Ok(FollowerStep::End)
            }
            FollowedEntry::TimedOut => Ok(FollowerStep::TimedOut),
            FollowedEntry::Stopped => Ok(FollowerStep::Over),
        }
    }

    fn apply(&self, following: &Following, batches: &EntryBatches) -> Result<(), Fatal> {
        let clock = &*self.env().clock;
        self.clock.advance_to(clock, batches.engine_time_ms());
        let mut left = batches.iter().peekable();
        while left.peek().is_some() {
            let mut store = self.store.write();
            let began = clock.monotonic();
            store.keyspace.set_access_time(self.now_ms(), self.context.access_mode());
            for batch in left.by_ref() {
                assert_eq!(batch.lsn, store.last_lsn.next(), "a follower applies each batch, in order");
                store.replay(batch.lsn, batch.bytes).map_err(|cause| {
                    let cause = format!("batch {} of the log cannot be applied: {cause}", batch.lsn);
                    following.fail(cause, &self.watchers)
                })?;
                if clock.monotonic().saturating_sub(began) > HOLD_MAX {
                    break;
                }
            }
            let is_fed = !store.hook.fed.is_empty();
            let answers = if is_fed { self.serve_readers(&mut store) } else { Vec::new() };
            following.note_applied(store.last_lsn);
            self.note_load(&store);
            release(store);
            answers.into_iter().for_each(Answer::deliver);
            self.notices.deliver();
        }
        Ok(())
    }

    /// Starts the thread that follows the log, until [`Engine::close`] or until the engine leads. A panic of
    /// the thread and an error of the log are reported to the watchers as a failure ([`Engine::subscribe`]).
    pub fn start_following(self: &Arc<Self>) -> std::io::Result<()> {
        let Role::Following(following) = self.role() else { return Ok(()) };
        let engine = Arc::downgrade(self);
        let run = move || while follow_on(&engine) {};
        let thread = std::thread::Builder::new().name("follow".to_owned()).spawn(run)?;
        *following.thread.lock() = Some(thread);
        Ok(())
    }

    /// The thread, to wait for its end.
    #[cfg(test)]
    fn following_thread(&self) -> Option<std::thread::JoinHandle<()>> {
        self.following.as_ref()?.thread.lock().take()
    }

    /// Ends the following, and waits for its thread.
    pub(super) fn stop_following(&self, following: &Following) {
        following.is_stopped.store(true, Ordering::Release);
        following.stopper.stop();
        let thread = following.thread.lock().take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id()) {
            thread.thread().unpark();
            // A panic of the thread was reported as a failure.
            _ = thread.join();
        }
    }

    /// Becomes the leader: applies all durable entries of the log, and claims it at its end. The log accepts
    /// a claim only there, so a leader has applied everything. If the log has grown meanwhile, the new
    /// entries are applied, and the claim is made again. The store and its modules stay as they are.
    ///
    /// A previous writer is fenced. An error changes nothing: the engine continues to follow.
    pub fn lead(&self, options: Options) -> Result<(), LeadError> {
        let Role::Following(following) = self.role() else { return Err(LeadError::NotFollowing) };
        let mut reading = following.reading.lock();
        let replay = reading.as_mut().ok_or(LeadError::NotFollowing)?;
        let options = Options { read_only_when_full: false, ..options };
        for _ in 0..CLAIMS_MAX {
            loop {
                match self.step(following, replay, Wait::No)? {
                    FollowerStep::Applied => {}
                    FollowerStep::End => break,
                    _ => return Err(LeadError::NotFollowing),
                }
            }
            let recovered = replay.recovered();
            match Pipeline::start(self.log().clone(), &recovered, options.clone()) {
                Ok(pipeline) => {
                    self.take_the_lead(pipeline, &recovered);
                    // The thread ends.
                    *reading = None;
                    return Ok(());
                }
                Err(ClaimError::Behind(_)) => {}
                Err(error) => return Err(LeadError::Claim(error)),
            }
        }
        Err(LeadError::Behind)
    }

    fn take_the_lead(&self, pipeline: Pipeline, recovered: &Recovered) {
        let store = self.store.write();
        assert_eq!(store.last_lsn, recovered.checkpoint.lsn, "all batches before the claim are applied");
        assert_eq!(pipeline.durable(), store.last_lsn, "and all of them are durable");
        let watchers = self.watchers.lock();
        watchers.iter().for_each(|watcher| pipeline.subscribe(watcher.clone()));
        let is_first = self.leading.set(Leading { pipeline }).is_ok();
        assert!(is_first, "the lead is taken under the lock of the reader");
        drop((watchers, store));
        let now_ms = self.now_ms();
        if now_ms > recovered.checkpoint.engine_time_ms {
            // Reads may have treated keys as expired at this time already.
            self.pipeline().submit_time(now_ms);
            self.pipeline().pump();
        }
    }
}

/// A step of the thread. False if the thread must end.
fn follow_on(engine: &Weak<Engine>) -> bool {
    let Some(engine) = engine.upgrade() else { return false };
    let Role::Following(following) = engine.role() else { return false };
    // Before the end of the log was reached, this must not wait, so that it sees the end.
    let wait = if following.is_caught_up() { Wait::AtMost(WAIT_MAX) } else { Wait::No };
    match catch_unwind(AssertUnwindSafe(|| engine.follow(wait))) {
        Ok(Ok(FollowerStep::Over) | Err(_)) => false,
        Ok(Ok(FollowerStep::Overloaded)) => {
            std::thread::park_timeout(OVERLOADED_PAUSE);
            true
        }
        Ok(Ok(_)) => true,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            following.fail(format!("the follower panicked: {text}"), &engine.watchers);
            false
        }
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
