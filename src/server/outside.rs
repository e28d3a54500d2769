//! What a worker's thread runs outside of its runtime, because it can take long: rounds of connections with
//! scripts. The standby drives the runtime meanwhile, if that lasts.
//!
//! A connection hands itself over, and gets itself back when the round is done. It is handed back inside the
//! runtime, where waking its task costs no system call.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;

/// A round that was done, to be handed back.
type HandBack = Box<dyn FnOnce() + Send>;
type Round = Box<dyn FnOnce() -> HandBack + Send>;

/// Rounds that wait for the worker to leave its runtime, and those that are done.
#[derive(Default)]
pub struct Outside {
    has_waiting: AtomicBool,
    waiting: Mutex<Vec<Round>>,
    done: Mutex<Vec<HandBack>>,
}

impl Outside {
    /// Has `round` run with `owner` outside of the runtime, and returns the owner after that. `wake` has to
    /// bring the worker's thread to [`Outside::run`].
    pub async fn run_with<T: Send + 'static>(
        &self,
        mut owner: T,
        round: impl FnOnce(&mut T) + Send + 'static,
        wake: impl FnOnce(),
    ) -> T {
        let (sender, done) = oneshot::channel();
        let run = move || -> HandBack {
            round(&mut owner);
            // The task waits for it, unless the runtime has ended.
            Box::new(move || drop(sender.send(owner)))
        };
        self.waiting.lock().push(Box::new(run));
        self.has_waiting.store(true, Ordering::Release);
        wake();
        done.await.expect("every round is run and handed back while the worker lives")
    }

    /// Whether the worker has to leave its runtime for some.
    #[inline]
    pub fn has_waiting(&self) -> bool {
        self.has_waiting.load(Ordering::Acquire)
    }

    /// Runs all that wait: outside of the runtime.
    pub fn run(&self) {
        self.has_waiting.store(false, Ordering::Release);
        let rounds = std::mem::take(&mut *self.waiting.lock());
        for round in rounds {
            let hand_back = round();
            self.done.lock().push(hand_back);
        }
    }

    /// Hands back what is done: inside the runtime.
    pub fn hand_back(&self) {
        let done = std::mem::take(&mut *self.done.lock());
        done.into_iter().for_each(|hand_back| hand_back());
    }
}
