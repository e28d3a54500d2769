//! The thread that audits samples, and repairs what audits find.

mod budget;
mod exact;

#[cfg(test)]
mod tests;

use crate::index::Index;
use crate::settings::Settings;
use crate::vectors::VectorField;
use crate::vectors::live::{LiveRecall, MissCause, Remedy, Tally, Verdict, Warning};
use budget::Budget;
use engramdb_engine::env::Env;
use engramdb_vector::{Neighbor, Recoding};
use exact::{Audit, audit};
use parking_lot::{Condvar, Mutex};
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Samples that wait. More are dropped: there is no time for them in any case.
const WAITING_MAX: usize = 16;

/// How long a repair leaves the processor to others, between slices of less than that.
const REST: Duration = Duration::from_millis(1);

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
    /// The codes were, and the rows come from a walk by the vectors.
    pub too_coarse: bool,
}

impl Sample {
    pub fn vectors(&self) -> &VectorField {
        self.index.vectors[self.field].as_ref().expect("samples are of vector fields")
    }

    fn recall(&self) -> &LiveRecall {
        &self.vectors().live
    }

    /// For the log.
    fn name(&self) -> String {
        let definition = &self.index.definition;
        let field = String::from_utf8_lossy(&definition.fields[self.field].name);
        format!("index {}, field {field}", String::from_utf8_lossy(&definition.name))
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
    queue: Mutex<Queue>,
    offered: Condvar,
    /// Nothing waits, and nothing is in hand.
    idle: Condvar,
    stopped: AtomicBool,
    /// What audits have taken of the processor, in microseconds.
    spent_us: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Sample>,
    /// A sample is being audited, or a field repaired.
    is_busy: bool,
}

impl Auditor {
    /// `None` for the thread where nothing is searched.
    pub fn start(env: Env, settings: Arc<Settings>, is_offline: bool) -> Auditor {
        let shared = Arc::new(Shared {
            env,
            settings,
            queue: Mutex::default(),
            offered: Condvar::new(),
            idle: Condvar::new(),
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

    /// Takes no more samples, and ends an audit or a repair after its slice: graphs may be waiting to be
    /// saved.
    pub fn stop(&self) {
        let shared = &self.handle.0;
        let mut queue = shared.queue.lock();
        shared.stopped.store(true, Ordering::Relaxed);
        queue.waiting.clear();
        drop(queue);
        shared.offered.notify_all();
    }

    /// Waits until every sample that was offered has been dealt with, and the thread waits for others: for
    /// tests.
    pub fn wait_idle(&self) {
        let shared = &self.handle.0;
        let mut queue = shared.queue.lock();
        while !shared.is_stopped() && (queue.is_busy || !queue.waiting.is_empty()) {
            shared.idle.wait(&mut queue);
        }
    }

    /// Processor time that audits have taken.
    pub fn spent_ms(&self) -> u64 {
        self.handle.0.spent_us.load(Ordering::Relaxed) / 1_000
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        self.stop();
        // A thread that panicked has said so already.
        self.thread.take().map(JoinHandle::join);
    }
}

impl AuditorHandle {
    /// Hands over a sample, or drops it where samples come faster than they are audited. Never waits.
    pub fn offer(&self, sample: Sample) {
        let shared = &*self.0;
        match shared.queue.try_lock() {
            Some(mut queue) if queue.waiting.len() < WAITING_MAX && !shared.is_stopped() => {
                queue.waiting.push_back(sample);
                drop(queue);
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
        let mut queue = self.queue.lock();
        loop {
            queue.is_busy = !queue.waiting.is_empty();
            if self.is_stopped() || !queue.is_busy {
                self.idle.notify_all();
            }
            if self.is_stopped() {
                return None;
            }
            if let Some(sample) = queue.waiting.pop_front() {
                return Some(sample);
            }
            self.offered.wait(&mut queue);
        }
    }

    fn record(&self, sample: &Sample, tally: Tally) {
        let bound = self.settings.live_recall_bound();
        let name = sample.name();
        match sample.recall().record(tally, self.env.clock.monotonic(), bound) {
            None => {}
            Some(Verdict::Recovered(tally)) => {
                tracing::info!("{name}: live recall is {:.3} again", tally.recall().unwrap_or_default());
            }
            Some(Verdict::Bad { tally, warning, is_news, remedy }) => {
                if is_news {
                    tracing::warn!("{name}: {}", explanation(&tally, warning, bound));
                }
                if let Some(remedy) = remedy {
                    self.repair(sample, remedy, &name);
                }
            }
        }
    }

    /// Lets the graph do something about the cause.
    fn repair(&self, sample: &Sample, remedy: Remedy, name: &str) {
        let structure = sample.vectors().structure();
        let Some(graph) = structure.graph() else { return };
        let began = self.env.clock.monotonic();
        let rest = || self.rest() && !sample.index.is_dropped();
        let done = match remedy {
            Remedy::Codes => (graph.recode(&rest) == Recoding::Done)
                .then(|| "made new codes, around where the data are now,".to_owned()),
            Remedy::Links => {
                let joined = graph.rejoin(&rest).filter(|&joined| joined > 0);
                joined.map(|joined| format!("linked {joined} nodes again that had lost their links"))
            }
        };
        if let Some(done) = done {
            let took = self.env.clock.monotonic().saturating_sub(began);
            self.forget(sample);
            sample.recall().repaired();
            tracing::info!("{name}: {done} in {} ms", took.as_millis());
        }
    }

    /// Drops the samples of a field that were taken before it was repaired.
    fn forget(&self, repaired: &Sample) {
        let is_other = |sample: &Sample| {
            let is_same = Arc::ptr_eq(&sample.index, &repaired.index) && sample.field == repaired.field;
            if is_same {
                sample.recall().count_dropped();
            }
            !is_same
        };
        self.queue.lock().waiting.retain(is_other);
    }

    /// Leaves the processor to others for a moment; false when the thread is to end.
    fn rest(&self) -> bool {
        let mut queue = self.queue.lock();
        if !self.is_stopped() {
            _ = self.offered.wait_for(&mut queue, REST);
        }
        !self.is_stopped()
    }
}

fn explanation(tally: &Tally, warning: Warning, bound: f64) -> String {
    let cause = match warning {
        Warning::CoarseCodes => {
            return format!(
                "{} of {} searches could not rely on the codes and went by the vectors, which takes longer",
                tally.coarse, tally.samples
            );
        }
        Warning::Recall(MissCause::Codes) => "the codes that walks go by do not fit the data",
        Warning::Recall(MissCause::Beam) => {
            "the beam is too narrow for these data, a larger EF_RUNTIME finds more"
        }
        Warning::Recall(MissCause::Graph) => "the graph has no links to rows that are searched for",
    };
    format!("live recall is {:.3}, below {bound}: {cause}", tally.recall().unwrap_or_default())
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
