//! The threads that bring pending mutations into graphs.
//!
//! A field that has work is in the queue once for each worker that it wants. A worker takes a bounded number of
//! documents of it and queues it again, so that indexes share the workers fairly.

use crate::index::Index;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Documents that a worker brings before it turns to another index.
const TURN_DOCUMENTS: usize = 64;

pub struct Workers {
    caller: WorkerCaller,
    threads: Vec<JoinHandle<()>>,
}

/// Calls workers; they may have stopped by then.
#[derive(Clone)]
pub struct WorkerCaller(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Arc<Index>, usize)>,
    stopped: bool,
}

impl Workers {
    pub fn start(threads: usize) -> Workers {
        let shared = Arc::new(Shared::default());
        let threads = (0..threads).map(|number| {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name(format!("index-{number}"));
            builder.spawn(move || shared.run()).expect("the system has room for a thread")
        });
        Workers { threads: threads.collect(), caller: WorkerCaller(shared) }
    }

    pub fn count(&self) -> usize {
        self.threads.len()
    }

    pub fn call(&self, index: &Arc<Index>, field: usize) {
        self.caller.call(index, field);
    }

    pub fn handle(&self) -> WorkerCaller {
        self.caller.clone()
    }
}

impl WorkerCaller {
    /// Calls a worker for this field of the index.
    pub fn call(&self, index: &Arc<Index>, field: usize) {
        self.0.state.lock().queue.push_back((index.clone(), field));
        self.0.work.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        while let Some((index, field)) = self.next() {
            let more = index.vectors[field].as_ref().is_some_and(|vectors| vectors.drain(TURN_DOCUMENTS));
            if more && !index.is_dropped() {
                self.state.lock().queue.push_back((index, field));
            }
        }
    }

    fn next(&self) -> Option<(Arc<Index>, usize)> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(next) = state.queue.pop_front() {
                return Some(next);
            }
            self.work.wait(&mut state);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Indexes that wait hold no workers: the queue is what holds indexes.
        let mut state = self.caller.0.state.lock();
        state.stopped = true;
        state.queue.clear();
        drop(state);
        self.caller.0.work.notify_all();
        for thread in self.threads.drain(..) {
            // A worker that panicked has said so already.
            _ = thread.join();
        }
    }
}
