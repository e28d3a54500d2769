//! The threads that apply pending mutations to graphs.
//!
//! A field that has work is in the queue once for each worker that it wants. A worker takes a bounded number
//! of its documents and queues the field again, so that fields share the workers fairly. Fields with live
//! mutations come before those that only have a backfill's.

use crate::vectors::{Source, VectorField};
use engramdb_engine::env::Clock;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Documents that a worker applies before it turns to another field.
const TURN_DOCUMENTS: usize = 16;

/// One turn in this many goes to the field that has waited longest, with live mutations or without.
const FAIR_TURNS: usize = 8;

pub struct Workers {
    caller: WorkerCaller,
    threads: Vec<JoinHandle<()>>,
}

/// Calls workers. A call after they have stopped has no effect.
#[derive(Clone)]
pub struct WorkerCaller(Arc<Shared>);

struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<VectorField>>,
    turns: usize,
    stopped: bool,
}

impl State {
    fn pick(&mut self) -> Option<Arc<VectorField>> {
        self.turns += 1;
        let is_live = |field: &Arc<VectorField>| field.pending_of(Source::Live) > 0;
        let is_fair = self.turns.is_multiple_of(FAIR_TURNS);
        let live = self.queue.iter().position(is_live).filter(|_| !is_fair);
        self.queue.remove(live.unwrap_or(0))
    }
}

impl Workers {
    pub fn start(threads: usize, clock: Arc<dyn Clock>) -> Workers {
        let shared = Arc::new(Shared { clock, state: Mutex::default(), work: Condvar::new() });
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

    pub fn call(&self, field: &Arc<VectorField>) {
        self.caller.call(field);
    }

    /// The clock that measures work on indexes.
    pub fn clock(&self) -> &dyn Clock {
        self.caller.clock()
    }

    pub fn handle(&self) -> WorkerCaller {
        self.caller.clone()
    }
}

impl WorkerCaller {
    pub fn clock(&self) -> &dyn Clock {
        &*self.0.clock
    }

    /// How many calls no worker has taken yet.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.0.state.lock().queue.len()
    }

    /// Calls a worker for this field.
    pub fn call(&self, field: &Arc<VectorField>) {
        self.0.state.lock().queue.push_back(field.clone());
        self.0.work.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        while let Some(field) = self.next() {
            let began = self.clock.monotonic();
            let more = field.drain(TURN_DOCUMENTS);
            field.spent(self.clock.monotonic().saturating_sub(began));
            if more {
                self.state.lock().queue.push_back(field);
            }
        }
    }

    fn next(&self) -> Option<Arc<VectorField>> {
        let mut state = self.state.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(next) = state.pick() {
                return Some(next);
            }
            self.work.wait(&mut state);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Workers do not drain what is left; the queue only keeps its fields alive.
        let mut state = self.caller.0.state.lock();
        state.stopped = true;
        state.queue.clear();
        drop(state);
        self.caller.0.work.notify_all();
        for thread in self.threads.drain(..) {
            // A worker's panic has been reported by the panic hook.
            _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::FieldKind;
    use crate::schema::create::definition_of;

    fn field_with(source: Source) -> Arc<VectorField> {
        let definition =
            definition_of("FT.CREATE i SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2");
        let FieldKind::Vector(options) = &definition.fields[0].kind else { panic!("a vector field") };
        let field = Arc::new(VectorField::new(options.clone(), Arc::default()));
        field.set(source, 0, &[0; 4], 1);
        field
    }

    #[test]
    fn fields_with_live_mutations_come_first_and_the_others_have_their_turns() {
        let [filling, live] = [Source::Backfill, Source::Live].map(field_with);
        let mut state = State::default();
        state.queue.extend([filling, live.clone()]);
        let mut picked = Vec::new();
        for _ in 0..3 * FAIR_TURNS {
            let next = state.pick().expect("both stay in the queue");
            picked.push(Arc::ptr_eq(&next, &live));
            state.queue.push_back(next);
        }
        assert_eq!(picked.iter().filter(|is_live| !**is_live).count(), 3, "{picked:?}");
    }
}
