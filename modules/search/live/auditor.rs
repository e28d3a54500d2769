//! The thread that audits samples.

use super::audit::{Audit, audit};
use super::budget::Budget;
use super::{Cause, LiveRecall, Tally, Verdict};
use crate::index::Index;
use crate::settings::Settings;
use engramdb_engine::env::Env;
use engramdb_vector::Neighbor;
use parking_lot::{Condvar, Mutex};
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Samples that wait. More are dropped: there is no time for them in any case.
const WAITING_MAX: usize = 16;

/// A search to be audited.
pub struct Sample {
    pub index: Arc<Index>,
    /// Number of the vector field.
    pub field: usize,
    /// Of the documents, when the search began: the rows are true of it and of what did not change since.
    pub version: u64,
    pub query: Box<[u8]>,
    pub k: usize,
    /// Width of the beam.
    pub ef: usize,
    /// Documents that could be found; `None` for all.
    pub among: Option<RoaringBitmap>,
    pub rows: Vec<Neighbor>,
}

impl Sample {
    fn recall(&self) -> &LiveRecall {
        &self.index.vectors[self.field].as_ref().expect("samples are of vector fields").live
    }
}

/// Owns the thread. Dropping it ends an audit after its slice.
pub struct Auditor {
    handle: AuditorHandle,
    thread: Option<JoinHandle<()>>,
}

/// Takes samples; the thread may have ended by then.
#[derive(Clone)]
pub struct AuditorHandle(Arc<Shared>);

struct Shared {
    env: Env,
    settings: Arc<Settings>,
    waiting: Mutex<VecDeque<Sample>>,
    offered: Condvar,
    stopped: AtomicBool,
    /// What audits have taken of the processor, in microseconds.
    spent_us: AtomicU64,
}

impl Auditor {
    /// `None` for the thread where nothing is searched.
    pub fn start(env: Env, settings: Arc<Settings>, is_offline: bool) -> Auditor {
        let shared = Arc::new(Shared {
            env,
            settings,
            waiting: Mutex::default(),
            offered: Condvar::new(),
            stopped: AtomicBool::new(is_offline),
            spent_us: AtomicU64::new(0),
        });
        let thread = (!is_offline).then(|| {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name("recall".to_owned());
            builder.spawn(move || shared.run()).expect("the system has room for a thread")
        });
        Auditor { handle: AuditorHandle(shared), thread }
    }

    pub fn handle(&self) -> AuditorHandle {
        self.handle.clone()
    }

    /// Processor time that audits have taken.
    pub fn spent_ms(&self) -> u64 {
        self.handle.0.spent_us.load(Ordering::Relaxed) / 1_000
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        let shared = &self.handle.0;
        let mut waiting = shared.waiting.lock();
        shared.stopped.store(true, Ordering::Relaxed);
        waiting.clear();
        drop(waiting);
        shared.offered.notify_all();
        // A thread that panicked has said so already.
        self.thread.take().map(JoinHandle::join);
    }
}

impl AuditorHandle {
    /// Hands over a sample, or drops it where samples come faster than they are audited. Never waits.
    pub fn offer(&self, sample: Sample) {
        let shared = &*self.0;
        match shared.waiting.try_lock() {
            Some(mut waiting) if waiting.len() < WAITING_MAX && !shared.is_stopped() => {
                waiting.push_back(sample);
                drop(waiting);
                shared.offered.notify_one();
            }
            _ => sample.recall().count_dropped(),
        }
    }
}

impl Shared {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn run(&self) {
        lower_priority();
        let clock = &*self.env.clock;
        let mut budget = Budget::default();
        while let Some(sample) = self.next() {
            if sample.index.is_dropped() {
                continue;
            }
            if !budget.has_room(clock.monotonic()) {
                sample.recall().count_dropped();
                continue;
            }
            let began = clock.thread_cpu();
            let audit = audit(&sample, &|| !self.is_stopped() && !sample.index.is_dropped());
            let spent = clock.thread_cpu().saturating_sub(began);
            budget.spend(spent);
            self.spent_us.fetch_add(spent.as_micros() as u64, Ordering::Relaxed);
            match audit {
                Audit::Done(tally) => self.record(&sample, tally),
                Audit::Stale => sample.recall().count_stale(),
                Audit::GivenUp => {}
            }
        }
    }

    fn next(&self) -> Option<Sample> {
        let mut waiting = self.waiting.lock();
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(sample) = waiting.pop_front() {
                return Some(sample);
            }
            self.offered.wait(&mut waiting);
        }
    }

    fn record(&self, sample: &Sample, tally: Tally) {
        let bound = self.settings.live_recall_bound();
        let verdict = sample.recall().record(tally, self.env.clock.monotonic(), bound);
        let name = || {
            let definition = &sample.index.definition;
            let field = String::from_utf8_lossy(&definition.fields[sample.field].name);
            format!("index {}, field {field}", String::from_utf8_lossy(&definition.name))
        };
        let share = |tally: Tally| tally.recall().unwrap_or_default();
        match verdict {
            None => {}
            Some(Verdict::Recovered(tally)) => {
                tracing::info!("{}: live recall is {:.3} again", name(), share(tally));
            }
            Some(Verdict::Low(tally, cause)) => {
                let cause = explanation(cause);
                tracing::warn!("{}: live recall is {:.3}, below {bound}: {cause}", name(), share(tally));
            }
        }
    }
}

fn explanation(cause: Cause) -> &'static str {
    match cause {
        Cause::Codes => "the codes that walks go by do not fit the data any more",
        Cause::Beam => "the beam is too narrow for these data, a larger EF_RUNTIME finds more",
        Cause::Graph => "the graph has no links to rows that are searched for",
    }
}

/// Lets every other thread go first. Without the right to, audits are still bounded by their budget.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!("cannot lower the priority of audits: {error}");
    }
}

/// Linux keeps it per thread.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;
