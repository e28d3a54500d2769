//! What Ctrl-C and SIGTERM leave behind: nothing. Servers that a run has started are killed, directories that it has made
//! are removed, and so are the keys and the index that it has put into a server that is not its own.
//!
//! A thread waits for the first signal. It undoes what is registered and ends the process, whatever the other threads do
//! meanwhile: a scan of all rows need not look for signals. A second signal ends the process at once.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::error::BenchError;

/// Undoes something, and says in a few words what was done.
type Action = Box<dyn FnOnce() -> String + Send>;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static REGISTERED: Mutex<Registered> = Mutex::new(Registered { next: 0, actions: Vec::new() });
/// Held for reading by whatever writes to a server that is not the run's own.
static WRITING: RwLock<()> = RwLock::new(());

struct Registered {
    next: u64,
    actions: Vec<(u64, Action)>,
}

/// Begins to wait for signals.
pub fn listen() -> Result<(), BenchError> {
    let is_second = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // Registered first: the first signal finds the flag unset, and does not end the process here.
        flag::register_conditional_shutdown(signal, 128 + signal, is_second.clone())?;
    }
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            is_second.store(true, Ordering::SeqCst);
            note!("\ninterrupted: cleaning up (once more ends it at once)");
            undo_all(|done| note!("{done}"));
            process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Ends a run that has lost its output: cleans up, and ends the process with the status that `engramdb_console` gives.
/// The caller must hold nothing that an action waits for.
pub fn end_without_output() -> ! {
    undo_all(|_| ());
    process::exit(i32::from(engramdb_console::end()));
}

/// Runs all that is registered, the newest first, and passes on what each says.
fn undo_all(say: impl Fn(String)) {
    INTERRUPTED.store(true, Ordering::SeqCst);
    // The lock is not held while an action runs: a thread that drops its own `Undo` must not wait for it.
    while let Some((_, action)) = { registered().actions.pop() } {
        say(action());
    }
}

fn registered() -> MutexGuard<'static, Registered> {
    REGISTERED.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// Errors of a run that was interrupted are those of its clean-up: nothing is said about them, and the process ends when the
/// clean-up is through.
pub fn told<T>(outcome: Result<T, BenchError>) -> Result<T, BenchError> {
    while is_interrupted() {
        std::thread::park();
    }
    outcome
}

/// Something that is undone when the run is interrupted, until this is dropped.
pub struct Undo(u64);

impl Undo {
    /// Makes something together with the way to undo it. No signal comes between.
    pub fn make<T>(make: impl FnOnce() -> Result<(T, Action), BenchError>) -> Result<(T, Self), BenchError> {
        let mut registered = registered();
        if is_interrupted() {
            return Err(BenchError::Interrupted);
        }
        let (made, action) = make()?;
        let number = registered.next;
        registered.next += 1;
        registered.actions.push((number, action));
        Ok((made, Self(number)))
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        registered().actions.retain(|(number, _)| *number != self.0);
    }
}

/// Held while something is written to a server that is not the run's own, so that nothing is written after it was
/// cleaned. An error once the run is interrupted.
pub fn writing() -> Result<RwLockReadGuard<'static, ()>, BenchError> {
    let guard = WRITING.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    if is_interrupted() { Err(BenchError::Interrupted) } else { Ok(guard) }
}

/// Waits until nothing is written any more. For actions only: the run is interrupted, so that nothing begins again.
pub fn wait_for_writers() {
    drop(WRITING.write().unwrap_or_else(|poisoned| poisoned.into_inner()));
}
