//! The thread that audits samples, and requests repairs.

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

/// The most samples that wait. More are dropped, because the budget has no time for them.
const WAITING_MAX: usize = 16;

/// The pause between two slices of a repair, which are shorter.
const REST: Duration = Duration::from_millis(1);

/// A search to be audited.
pub struct Sample {
    pub index: Arc<Index>,
    /// Number of the vector field.
    pub field: usize,
    /// The version of the documents when the search began: the rows are valid for documents that have not
    /// changed since.
    pub version: u64,
    pub query: Box<[u8]>,
    pub k: usize,
    /// Width of the beam.
    pub ef: usize,
    /// Documents that could be found; `None` for all.
    pub among: Option<RoaringBitmap>,
    pub rows: Vec<Neighbor>,
    /// The codes were too coarse, and the rows come from a walk that compared vectors.
    pub too_coarse: bool,
}

impl Sample {
    pub fn vectors(&self) -> &VectorField {
        self.index.vectors[self.field].as_ref().expect("samples are of vector fields")
    }

    fn recall(&self) -> &LiveRecall {
        &self.vectors().live
    }

    /// The name in the log.
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

/// Takes samples; drops them once the thread has ended.
#[derive(Clone)]
pub struct AuditorHandle(Arc<Shared>);

struct Shared {
    env: Env,
    settings: Arc<Settings>,
    queue: Mutex<Queue>,
    offered: Condvar,
    /// Notified when no sample waits or is being audited.
    idle: Condvar,
    stopped: AtomicBool,
    /// Processor time of audits, in microseconds.
    spent_us: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Sample>,
    /// A sample is being audited, or a field repaired.
    is_busy: bool,
}

impl Auditor {
    /// Starts the thread, unless `is_offline`: then nothing is searched.
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

    /// Takes no more samples, and ends an audit or a repair after its slice, because graphs may wait to be
    /// saved.
    pub fn stop(&self) {
        let shared = &self.handle.0;
        let mut queue = shared.queue.lock();
        shared.stopped.store(true, Ordering::Relaxed);
        queue.waiting.clear();
        drop(queue);
        shared.offered.notify_all();
    }

    /// Waits until every offered sample was audited or dropped, and repairs are done; for tests.
    pub fn wait_idle(&self) {
        let shared = &self.handle.0;
        let mut queue = shared.queue.lock();
        while !shared.is_stopped() && (queue.is_busy || !queue.waiting.is_empty()) {
            shared.idle.wait(&mut queue);
        }
    }

    /// Processor time of audits, in milliseconds.
    pub fn spent_ms(&self) -> u64 {
        self.handle.0.spent_us.load(Ordering::Relaxed) / 1_000
    }
}

impl Drop for Auditor {
    fn drop(&mut self) {
        self.stop();
        // The panic hook has reported a panic of the thread.
        self.thread.take().map(JoinHandle::join);
    }
}

impl AuditorHandle {
    /// Passes a sample to the thread, or drops it if samples come faster than they are audited. Never waits.
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

    /// Lets the graph repair itself.
    fn repair(&self, sample: &Sample, remedy: Remedy, name: &str) {
        let structure = sample.vectors().structure();
        let Some(graph) = structure.graph() else { return };
        let began = self.env.clock.monotonic();
        let rest = || self.rest() && !sample.index.is_dropped();
        let done = match remedy {
            Remedy::Codes => (graph.recode(&rest) == Recoding::Done)
                .then(|| "recomputed the codes from the current data".to_owned()),
            Remedy::Links => {
                let joined = graph.rejoin(&rest).filter(|&joined| joined > 0);
                joined.map(|joined| format!("linked {joined} unreachable nodes again"))
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

    /// Pauses, so that other threads run. False if the thread must end.
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
                "{} of {} searches found the codes too coarse and compared vectors, which takes longer",
                tally.coarse, tally.samples
            );
        }
        Warning::Recall(MissCause::Codes) => "the compact codes of the vectors do not fit the data",
        Warning::Recall(MissCause::Beam) => {
            "the beam is too narrow for these data, a larger EF_RUNTIME finds more"
        }
        Warning::Recall(MissCause::Graph) => "the graph has no links to some rows",
    };
    format!("live recall is {:.3}, below {bound}: {cause}", tally.recall().unwrap_or_default())
}

/// Gives the thread the lowest priority. If that is not permitted, the budget still bounds audits.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!("cannot lower the priority of audits: {error}");
    }
}

/// The niceness, which Linux has per thread.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 19;
