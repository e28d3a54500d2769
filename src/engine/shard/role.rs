//! The role of an engine: a leader writes the log, a follower reads a log that another engine writes.
//!
//! An engine starts as either, and a follower can become the leader ([`Engine::lead`]) with its store.
//! Reading the role takes no lock, only one load per command. The role changes once, under the keyspace's
//! write lock: a leader that is fenced by another writer fails (its pipeline is [`Fatal`]), and the process
//! recovers from the log.
//!
//! [`Engine::lead`]: crate::Engine::lead

use crate::error::CommandError;
use crate::log::Lsn;
use crate::log::pipeline::{DurableWatcher, Fatal, Pipeline};
use crate::log::replay::{Checkpoint, Replay};
use crate::log::{Pos, ShardLog, Stopper};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

pub use crate::log::refusal::RoleRefusal;

/// The current role of an engine.
pub enum Role<'e> {
    Following(&'e Following),
    Leading(&'e Leading),
}

/// The engine writes the log.
pub struct Leading {
    pub(super) pipeline: Pipeline,
}

impl Leading {
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }
}

/// The engine reads the log, and applies its durable entries. It never expires, evicts or writes.
pub struct Following {
    /// `None` once the engine leads.
    pub(super) reading: Mutex<Option<Replay>>,
    pub(super) stopper: Stopper,
    pub(super) thread: Mutex<Option<JoinHandle<()>>>,
    pub(super) is_stopped: AtomicBool,
    /// The last applied batch. All applied batches are durable.
    applied: AtomicU64,
    /// The position of the last applied entry.
    position: AtomicU64,
    /// The end of the log was reached after the start, so everything before it is applied.
    is_caught_up: AtomicBool,
    failure: OnceLock<Fatal>,
}

impl Following {
    pub(super) fn new(log: &dyn ShardLog, from: Checkpoint) -> Following {
        let replay = Replay::new(log, from);
        Following {
            stopper: replay.stopper(),
            reading: Mutex::new(Some(replay)),
            thread: Mutex::new(None),
            is_stopped: AtomicBool::new(false),
            applied: AtomicU64::new(from.lsn.0),
            position: AtomicU64::new(from.mark.pos.0),
            is_caught_up: AtomicBool::new(false),
            failure: OnceLock::new(),
        }
    }

    /// The last batch that was applied.
    pub fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// The position of the last entry that was applied.
    pub fn position(&self) -> Pos {
        Pos(self.position.load(Ordering::Relaxed))
    }

    pub(super) fn note_position(&self, position: Pos) {
        self.position.store(position.0, Ordering::Relaxed);
    }

    /// Called before the keyspace's lock is released, so that no reader sees a later batch.
    pub(super) fn note_applied(&self, lsn: Lsn) {
        let before = self.applied.swap(lsn.0, Ordering::Release);
        assert!(before <= lsn.0, "what is durable only grows");
    }

    /// True if everything that was in the log at the start is applied.
    pub fn is_caught_up(&self) -> bool {
        self.is_caught_up.load(Ordering::Relaxed)
    }

    pub(super) fn catch_up(&self) {
        self.is_caught_up.store(true, Ordering::Relaxed);
    }

    /// The failure after which nothing more is applied: the log cannot be read, or an entry cannot be
    /// applied.
    pub fn failure(&self) -> Option<&Fatal> {
        self.failure.get()
    }

    /// Records a failure. Reads are refused from now on, because a batch may be applied in part. Returns the
    /// first failure.
    pub(super) fn fail(&self, cause: String, watchers: &Mutex<DurableWatchers>) -> Fatal {
        self.is_caught_up.store(false, Ordering::Relaxed);
        let mut is_first = false;
        let fatal = self.failure.get_or_init(|| {
            is_first = true;
            Fatal { cause, fenced_by: None }
        });
        if is_first {
            watchers.lock().iter().for_each(|watcher| watcher.failed(fatal));
        }
        fatal.clone()
    }

    pub(super) fn check_reads(&self) -> Result<(), RoleRefusal> {
        if self.is_caught_up() { Ok(()) } else { Err(RoleRefusal::Loading) }
    }
}

impl Drop for Following {
    /// The thread holds no reference to the engine while it waits, and ends when it finds it dropped.
    fn drop(&mut self) {
        self.stopper.stop();
    }
}

/// The watchers of durability, which stay over a change of the role.
pub(super) type DurableWatchers = Vec<Arc<dyn DurableWatcher>>;

impl RoleRefusal {
    /// As the error for a client says it.
    pub fn error(self) -> CommandError {
        match self {
            RoleRefusal::Loading => CommandError::of("LOADING Redis is loading the dataset in memory"),
            RoleRefusal::ReadOnly => {
                CommandError::of("READONLY You can't write against a read only replica.")
            }
        }
    }
}
