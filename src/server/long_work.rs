//! Threads for long work, so that no worker does it: searches that compute, and commands that copy much.
//!
//! They are fewer than what clients can ask for at a time, and have a lower priority than the workers: a
//! worker that wakes up runs at once, however many of them compute.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

/// What the threads are nicer by: they get a tenth of a processor that a worker wants as well.
const NICENESS: i32 = 10;

type Work = Box<dyn FnOnce() + Send>;

#[derive(Default)]
pub struct LongWork {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    is_closed: bool,
}

impl LongWork {
    /// Starts threads of this name; they end when `close` is called.
    pub fn start(self: &Arc<LongWork>, name: &str, threads: usize) -> std::io::Result<Vec<JoinHandle<()>>> {
        let start = |number| {
            let pool = self.clone();
            let run = move || {
                // Without the lower priority the work is done all the same.
                if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                    tracing::debug!("no lower priority for long work: {error}");
                }
                pool.serve();
            };
            std::thread::Builder::new().name(format!("{name}-{number}")).spawn(run)
        };
        (0..threads.max(1)).map(start).collect()
    }

    /// Has the work done, after what was asked for before. After `close` it is dropped.
    pub fn run(&self, work: Work) {
        let mut state = self.state.lock();
        if !state.is_closed {
            state.queue.push_back(work);
            drop(state);
            self.work.notify_one();
        }
    }

    /// Ends the threads after what they do right now.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        drop(dropped);
        self.work.notify_all();
    }

    fn serve(&self) {
        while let Some(work) = self.next() {
            // The panic hook has reported it; the waiting connection sees that its channel was dropped.
            _ = catch_unwind(AssertUnwindSafe(work));
        }
    }

    fn next(&self) -> Option<Work> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(work) = state.queue.pop_front() {
                return Some(work);
            }
            self.work.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn work_is_done_in_turn_even_after_a_panic_and_dropped_after_the_end() {
        let pool = Arc::new(LongWork::default());
        let threads = pool.start("long", 1).expect("the system has room for a thread");
        let (sender, done) = channel();
        pool.run(Box::new(|| panic!("the test wants it so")));
        for number in 0..3 {
            let sender = sender.clone();
            pool.run(Box::new(move || sender.send(number).expect("the test waits")));
        }
        assert_eq!(done.iter().take(3).collect::<Vec<_>>(), [0, 1, 2]);
        pool.close();
        threads.into_iter().for_each(|thread| thread.join().expect("a panic of its work does not end it"));
        pool.run(Box::new(move || _ = sender.send(3)));
        assert_eq!(done.iter().next(), None);
    }
}
