//! A signal: an event that happens once, for which tasks wait without holding a thread.
//!
//! A job that must wait for background work (the completion of an index) does not block a thread: its command
//! returns [`crate::command::Stage::Wait`], and the shell polls a [`SignalWaiter`].
//!
//! Invariants: a signal stays given; a waiter is in the list only between its first poll and its drop, so
//! that a wait that ends early leaves no entry; no waker is called while the list is locked.

use crate::hashing::HashMap;
use parking_lot::{Condvar, Mutex};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Signal {
    state: Mutex<SignalState>,
    given: Condvar,
}

#[derive(Debug, Default)]
struct SignalState {
    is_given: bool,
    next_waiter: u64,
    /// Wakers by the waiter's number.
    wakers: HashMap<u64, Waker>,
}

impl Signal {
    /// Gives the signal: all current and later waiters continue.
    pub fn give(&self) {
        let mut state = self.state.lock();
        state.is_given = true;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.given.notify_all();
        wakers.into_values().for_each(Waker::wake);
    }

    pub fn is_given(&self) -> bool {
        self.state.lock().is_given
    }

    /// The number of waiting tasks.
    pub fn waiting(&self) -> usize {
        self.state.lock().wakers.len()
    }

    /// Resolves when the signal is given.
    pub fn waiter(self: &Arc<Signal>) -> SignalWaiter {
        SignalWaiter { signal: self.clone(), number: None }
    }

    /// Blocks this thread until the signal is given or `at_most` has passed, for callers without tasks.
    /// Returns whether it is given.
    pub fn block(&self, at_most: Option<Duration>) -> bool {
        let mut state = self.state.lock();
        while !state.is_given {
            match at_most {
                None => self.given.wait(&mut state),
                Some(at_most) => {
                    if self.given.wait_for(&mut state, at_most).timed_out() {
                        break;
                    }
                }
            }
        }
        state.is_given
    }
}

/// Waits for a [`Signal`].
#[derive(Debug)]
pub struct SignalWaiter {
    signal: Arc<Signal>,
    /// The number in the signal's list, from the first poll on.
    number: Option<u64>,
}

impl Future for SignalWaiter {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let signal = self.signal.clone();
        let mut state = signal.state.lock();
        if state.is_given {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            state.next_waiter += 1;
            state.next_waiter
        });
        state.wakers.insert(number, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for SignalWaiter {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.signal.state.lock().wakers.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn waiters_are_woken_once_and_those_that_gave_up_leave_nothing() {
        let (signal, woken) = (Arc::new(Signal::default()), Arc::new(Counting::default()));
        let waker = Waker::from(woken.clone());
        let mut context = Context::from_waker(&waker);
        let mut waiters: Vec<SignalWaiter> = (0..3).map(|_| signal.waiter()).collect();
        for waiter in &mut waiters {
            for _ in 0..2 {
                assert!(Pin::new(&mut *waiter).poll(&mut context).is_pending());
            }
        }
        assert_eq!(signal.waiting(), 3, "polled twice, in the list once");
        waiters.pop();
        assert_eq!(signal.waiting(), 2);
        assert!(!signal.block(Some(Duration::ZERO)));
        signal.give();
        assert_eq!((woken.0.load(Ordering::Relaxed), signal.waiting()), (2, 0));
        waiters.push(signal.waiter());
        for waiter in &mut waiters {
            assert!(Pin::new(waiter).poll(&mut context).is_ready());
        }
        assert!(signal.block(None) && signal.is_given());
    }
}
