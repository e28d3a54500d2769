//! Cleans up after Ctrl-C and SIGTERM: servers that a run has started are killed, directories that it has
//! created are removed, and so are the keys and the index that it has stored in a server that it has not
//! started.
//!
//! A thread waits for the first signal. It runs the registered actions and ends the process, whatever the
//! other threads do meanwhile, so that long loops need not check for signals. A second signal ends the
//! process at once.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::error::BenchError;

/// Undoes something, and returns a short description of what was done.
type Action = Box<dyn FnOnce() -> String + Send>;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static REGISTERED: Mutex<Registered> = Mutex::new(Registered { next: 0, actions: Vec::new() });
/// Locked for reading by threads that write to a server that the run has not started.
static WRITING: RwLock<()> = RwLock::new(());

struct Registered {
    next: u64,
    actions: Vec<(u64, Action)>,
}

/// Starts to wait for signals.
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
            note!("\ninterrupted: cleaning up (a second signal ends the process at once)");
            undo_all(|done| note!("{done}"));
            process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Ends a run that has lost its output: cleans up, and ends the process with the exit status that
/// `engramdb_console` determines. The caller must not hold anything that an action waits for.
pub fn end_without_output() -> ! {
    undo_all(|_| ());
    process::exit(i32::from(engramdb_console::end()));
}

/// Runs all registered actions, the newest first, and passes their descriptions to `say`.
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

/// Suppresses the errors of an interrupted run, which are caused by the clean-up. The process ends when the
/// clean-up is complete.
pub fn unless_interrupted<T>(outcome: Result<T, BenchError>) -> Result<T, BenchError> {
    while is_interrupted() {
        std::thread::park();
    }
    outcome
}

/// A registered action. It runs if the run is interrupted before this is dropped.
pub struct Undo(u64);

impl Undo {
    /// Creates something together with the action that undoes it, without a signal in between.
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

/// Held during writes to a server that the run has not started, so that no write follows its clean-up. An
/// error once the run is interrupted.
pub fn writing() -> Result<RwLockReadGuard<'static, ()>, BenchError> {
    let guard = WRITING.read().unwrap_or_else(|poisoned| poisoned.into_inner());
    if is_interrupted() { Err(BenchError::Interrupted) } else { Ok(guard) }
}

/// Waits until no thread writes. For actions only: the run is interrupted, so no new write begins.
pub fn wait_for_writers() {
    drop(WRITING.write().unwrap_or_else(|poisoned| poisoned.into_inner()));
}
