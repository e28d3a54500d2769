//! The script that runs at this moment, as all threads see it. What a script is, a module knows.
//!
//! A script holds the keyspace's write lock from its beginning to its end. One that takes long must not keep
//! the threads of connections waiting for that lock: they could not read SCRIPT KILL. So
//!
//! - only one script at a time waits for the lock or has it ([`Scripts::begin`]);
//! - a connection looks here before it takes a lock, and waits without holding its thread where a script has
//!   run for more than a moment;
//! - after `busy-reply-threshold` others get BUSY, except for commands with `flag::ALLOW_BUSY`;
//! - the script's own worker runs it outside of its runtime, which the standby drives meanwhile.
//!
//! The interpreter calls [`Scripts::tick`] regularly. Deliberately not here: what a script may do.

use engramdb_engine::command::CommandError;
use engramdb_engine::env::Clock;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// How long a thread of connections waits for a script, or for the lock that a script has, before it serves
/// other connections meanwhile.
pub const MOMENT: Duration = Duration::from_millis(2);

/// What kind of script runs: each is ended by another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptKind {
    /// EVAL and EVALSHA.
    Eval,
    /// FCALL.
    Function,
}

impl ScriptKind {
    /// The error for others while such a script takes long.
    pub fn busy(self) -> CommandError {
        CommandError::of(match self {
            ScriptKind::Eval => {
                "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
            }
            ScriptKind::Function => {
                "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
            }
        })
    }
}

/// A running script, for FUNCTION STATS.
pub struct RunningScript {
    pub kind: ScriptKind,
    /// The function, or the SHA1 of the script.
    pub name: Arc<str>,
    /// The words of the call; none for EVAL, of which nothing shows them.
    pub words: Vec<Vec<u8>>,
    /// How many libraries and functions there are, which do not change while it runs.
    pub libraries: [usize; 2],
    pub began: Duration,
}

/// What a script is to do after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    GoOn,
    /// It was killed, and must end now.
    End,
}

/// What a running script has done, and what was done to it.
const FRESH: u8 = 0;
const WRITTEN: u8 = 1;
const KILLED: u8 = 2;

pub struct Scripts {
    clock: Arc<dyn Clock>,
    /// Held by the script that waits for the keyspace's lock or has it.
    slot: Mutex<()>,
    current: Mutex<Option<RunningScript>>,
    /// When the script began, in nanoseconds of the monotonic clock; 0 while none runs.
    since_ns: AtomicU64,
    /// `busy-reply-threshold`, in milliseconds; 0 for never.
    threshold_ms: AtomicI64,
    /// The script has run for that long.
    is_busy: AtomicBool,
    /// [`FRESH`], [`WRITTEN`] or [`KILLED`]: a script that has written is not killed, and one that is killed
    /// does not write.
    progress: AtomicU8,
    /// The server stops: the script ends whatever it has written.
    is_stopping: AtomicBool,
}

/// The right to run a script.
pub struct ScriptSlot<'s> {
    scripts: &'s Scripts,
    _slot: MutexGuard<'s, ()>,
}

impl ScriptSlot<'_> {
    /// Says what runs. Without this the slot only keeps others from it.
    pub fn describe(&self, script: RunningScript) {
        *self.scripts.current.lock() = Some(script);
    }
}

impl Drop for ScriptSlot<'_> {
    fn drop(&mut self) {
        *self.scripts.current.lock() = None;
        self.scripts.since_ns.store(0, Ordering::SeqCst);
        self.scripts.is_busy.store(false, Ordering::SeqCst);
    }
}

impl Scripts {
    pub fn new(clock: Arc<dyn Clock>) -> Scripts {
        Scripts {
            clock,
            slot: Mutex::new(()),
            current: Mutex::new(None),
            since_ns: AtomicU64::new(0),
            threshold_ms: AtomicI64::new(0),
            is_busy: AtomicBool::new(false),
            progress: AtomicU8::new(FRESH),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// Sets `busy-reply-threshold`, in milliseconds; 0 for no limit.
    pub fn follow(&self, threshold_ms: i64) {
        self.threshold_ms.store(threshold_ms, Ordering::Relaxed);
    }

    /// Takes the slot of the script that runs, before the keyspace's lock. `None` if another script has it
    /// for more than a moment.
    pub fn begin(&self) -> Option<ScriptSlot<'_>> {
        let slot = self.slot.try_lock_for(MOMENT)?;
        self.progress.store(FRESH, Ordering::SeqCst);
        self.is_busy.store(false, Ordering::Relaxed);
        self.since_ns.store(self.now_ns().max(1), Ordering::SeqCst);
        Some(ScriptSlot { scripts: self, _slot: slot })
    }

    fn now_ns(&self) -> u64 {
        self.clock.monotonic().as_nanos() as u64
    }

    /// Whether a script runs. Costs one load.
    #[inline]
    pub fn is_running(&self) -> bool {
        self.since_ns.load(Ordering::SeqCst) != 0
    }

    /// Waits until no script runs, for a moment at most. True if none runs.
    pub fn has_ended(&self) -> bool {
        !self.is_running() || self.slot.try_lock_for(MOMENT).is_some()
    }

    /// Keeps scripts from beginning while the caller takes the keyspace's lock, if none runs: for threads
    /// that must not wait for a script. The caller leaves out its work otherwise.
    pub fn hold_off(&self) -> Option<MutexGuard<'_, ()>> {
        self.slot.try_lock()
    }

    /// How long the script has been running; zero if there is none.
    fn elapsed(&self) -> Duration {
        match self.since_ns.load(Ordering::SeqCst) {
            0 => Duration::ZERO,
            since => Duration::from_nanos(self.now_ns().saturating_sub(since)),
        }
    }

    /// The error for others, where the script has been running for too long.
    pub fn busy_error(&self) -> Option<CommandError> {
        if !self.is_busy.load(Ordering::SeqCst) {
            return None;
        }
        let current = self.current.lock();
        Some(current.as_ref().map_or(ScriptKind::Eval, |script| script.kind).busy())
    }

    /// Called regularly by the interpreter while a script runs: notes that it takes long, and says whether
    /// it must end.
    pub fn tick(&self) -> Tick {
        if self.progress.load(Ordering::Relaxed) == KILLED || self.is_stopping.load(Ordering::Relaxed) {
            return Tick::End;
        }
        let threshold_ms = self.threshold_ms.load(Ordering::Relaxed);
        if threshold_ms > 0 && !self.is_busy.load(Ordering::Relaxed) {
            let elapsed_ms = self.elapsed().as_millis();
            if elapsed_ms >= threshold_ms as u128 {
                self.is_busy.store(true, Ordering::SeqCst);
                self.warn(elapsed_ms);
            }
        }
        Tick::GoOn
    }

    #[cold]
    fn warn(&self, elapsed_ms: u128) {
        let current = self.current.lock();
        let (kill, name) = match &*current {
            Some(RunningScript { kind: ScriptKind::Function, name, .. }) => ("FUNCTION KILL", &**name),
            Some(script) => ("SCRIPT KILL", &*script.name),
            None => ("SCRIPT KILL", ""),
        };
        tracing::warn!(
            "slow script detected: still in execution after {elapsed_ms} milliseconds. You can try killing the script \
             using the {kill} command. Script name is: {name}"
        );
    }

    /// Notes that the script is about to write: it cannot be killed from then on. False if it was killed: it
    /// must not write.
    pub fn note_write(&self) -> bool {
        self.progress.load(Ordering::Relaxed) == WRITTEN || self.advance_to(WRITTEN)
    }

    /// Leaves [`FRESH`]. False if the other way out was taken.
    fn advance_to(&self, progress: u8) -> bool {
        let before = self.progress.compare_exchange(FRESH, progress, Ordering::SeqCst, Ordering::SeqCst);
        before.is_ok() || before == Err(progress)
    }

    pub fn has_written(&self) -> bool {
        self.progress.load(Ordering::Relaxed) == WRITTEN
    }

    /// SCRIPT KILL and FUNCTION KILL: ends the script if it is of this kind and has not written.
    pub fn kill(&self, kind: ScriptKind) -> Result<(), CommandError> {
        let current = self.current.lock();
        let Some(script) = &*current else {
            return Err(CommandError::of("NOTBUSY No scripts in execution right now."));
        };
        if self.has_written() {
            return Err(unkillable());
        }
        if script.kind != kind {
            return Err(script.kind.busy());
        }
        if self.advance_to(KILLED) { Ok(()) } else { Err(unkillable()) }
    }

    /// Ends any script, because the server stops.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
    }

    /// Shows the running script: how long it has been running, and what it is.
    pub fn show<R>(&self, show: impl FnOnce(Option<(&RunningScript, Duration)>) -> R) -> R {
        let current = self.current.lock();
        show(current.as_ref().map(|script| (script, self.clock.monotonic().saturating_sub(script.began))))
    }
}

fn unkillable() -> CommandError {
    CommandError::of(
        "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
         script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
    )
}

#[cfg(test)]
mod tests {
    use super::{RunningScript, ScriptKind, Scripts, Tick};
    use engramdb_engine::env::Env;
    use std::sync::Arc;
    use std::time::Duration;

    fn running(scripts: &Scripts, kind: ScriptKind) -> super::ScriptSlot<'_> {
        let slot = scripts.begin().expect("none runs");
        let name = Arc::from("name");
        slot.describe(RunningScript {
            kind,
            name,
            words: Vec::new(),
            libraries: [0; 2],
            began: Duration::ZERO,
        });
        slot
    }

    #[test]
    fn a_script_is_killed_by_the_command_of_its_kind_before_it_writes() {
        let scripts = Scripts::new(Env::system().clock);
        let none = scripts.kill(ScriptKind::Eval).expect_err("none runs");
        assert!(none.text().starts_with("NOTBUSY "));
        let slot = running(&scripts, ScriptKind::Function);
        let other = scripts.kill(ScriptKind::Eval).expect_err("a function runs");
        assert!(other.text().contains("You can only call FUNCTION KILL"));
        assert_eq!(scripts.tick(), Tick::GoOn);
        scripts.kill(ScriptKind::Function).expect("it has not written");
        assert_eq!(scripts.tick(), Tick::End);
        assert!(!scripts.note_write(), "it must not write before it notices");
        drop(slot);
        let slot = running(&scripts, ScriptKind::Eval);
        assert_eq!(scripts.tick(), Tick::GoOn, "the next script is another one");
        assert!(scripts.note_write());
        let written = scripts.kill(ScriptKind::Eval).expect_err("it has written");
        assert!(written.text().starts_with("UNKILLABLE "));
        scripts.stop();
        assert_eq!(scripts.tick(), Tick::End, "a stop ends it all the same");
        drop(slot);
        assert!(!scripts.is_running());
    }

    #[test]
    fn one_script_at_a_time() {
        let scripts = Scripts::new(Env::system().clock);
        let slot = running(&scripts, ScriptKind::Eval);
        assert!(scripts.begin().is_none());
        assert!(!scripts.has_ended());
        drop(slot);
        assert!(scripts.has_ended());
        assert!(scripts.begin().is_some());
    }
}
