//! Live recall: the share of the true nearest rows that the searches of an index find, measured in service.
//!
//! One in N KNN searches over a graph (`LIVE_RECALL_EVERY`) becomes a *sample*: its query, k, beam, filter
//! and found rows. One thread of the lowest priority (`auditor`) answers samples exactly, by the vectors
//! (`audit`), within a budget of 1 percent of a core (`budget`). Samples beyond the budget are dropped and
//! counted. Recall covers the samples of the last hour, per vector field (`window`).
//!
//! An answer that misses rows is *diagnosed* by two more walks, which assign a cause to each miss:
//!
//! | the row is found by | cause | remedy |
//! |---|---|---|
//! | a walk by the vectors, same beam | `Codes`: too coarse for these vectors | recompute the codes |
//! | a walk by the vectors, much wider beam | `Beam`: too narrow for these data | a larger EF_RUNTIME |
//! | neither | `Graph`: no links lead to the row | link nodes again |
//!
//! Recall below a bound (`LIVE_RECALL_BOUND`) causes a warning in the log and in INFO, with the cause of most
//! misses. A second warning says that most samples found the codes too coarse and compared vectors, which
//! costs time instead of rows. Depending on the cause, the auditor's thread then asks the graph to recompute
//! its codes or to restore its links (engramdb_vector's recode.rs and rejoin.rs), and asks again every few
//! minutes until the warning ends. After a repair the measurement starts from zero, because older samples
//! describe the index before it.
//!
//! A document that changed between search and audit is left out of both answers, because they compared
//! different vectors. A sample with too many changes since its search is dropped as stale.
//!
//! Cost for a search: a countdown; for one in N also a copy of its query, its rows and its filter's bitmap.

mod window;

#[cfg(test)]
mod tests;

pub use window::{MissCause, Remedy, Tally, Warning};

use engramdb_engine::env::Random;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use window::{BUCKET, Window};

/// Searches per sample unless `LIVE_RECALL_EVERY` says otherwise.
pub const EVERY_DEFAULT: u64 = 1_000;
/// Recall below which there is a warning unless `LIVE_RECALL_BOUND` says otherwise.
pub const BOUND_DEFAULT: f64 = 0.9;

/// The least samples, and exact rows in them, for a verdict: fewer cannot tell 0.9 from 0.95.
const JUDGED_SAMPLES_MIN: u64 = 10;
const JUDGED_ROWS_MIN: u64 = 100;

/// The most rows of a search that may become a sample: it bounds the copy and the audit.
pub const SAMPLE_ROWS_MAX: usize = 1_024;

/// The live recall of one vector field.
pub struct LiveRecall {
    /// Searches until the next sample.
    countdown: AtomicI64,
    dropped: AtomicU64,
    stale: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    window: Window,
    warning: Option<Warning>,
    /// When a repair was last requested, by the monotonic clock.
    tried: Option<Duration>,
    /// Completed repairs.
    repairs: u64,
}

/// A field's recall at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LiveReport {
    /// Of the last hour, or since the last repair.
    pub tally: Tally,
    /// Samples that were not audited, because the budget was used up.
    pub dropped: u64,
    /// Samples that were not audited, because too many documents had changed.
    pub stale: u64,
    pub warning: Option<Warning>,
    pub repairs: u64,
}

/// A change of a field's state that an audit caused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Bad {
        tally: Tally,
        warning: Warning,
        /// The warning was not in effect before.
        is_news: bool,
        /// The repair that the index should try now.
        remedy: Option<Remedy>,
    },
    Recovered(Tally),
}

impl Default for LiveRecall {
    fn default() -> LiveRecall {
        LiveRecall {
            countdown: AtomicI64::new(EVERY_DEFAULT as i64),
            dropped: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }
}

impl LiveRecall {
    /// Counts a search; true if it must become a sample. One in `every` does, at random intervals, so that
    /// sampling does not follow the period of a repetitive workload; none if `every` is 0.
    pub fn is_due(&self, every: u64, random: &dyn Random) -> bool {
        if every == 0 {
            return false;
        }
        // Intervals are from 1 to 2 * every - 1.
        let end = 2 * every as i64;
        let left = self.countdown.fetch_sub(1, Ordering::Relaxed);
        // `left` is past the end after `every` was made smaller, and below 1 while another search is between
        // its `fetch_sub` and its `store`.
        if left > 1 && left < end || left < 1 {
            return false;
        }
        let next = 1 + (random.next_u64() % (end as u64 - 1)) as i64;
        self.countdown.compare_exchange(left - 1, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() || {
            // Other searches counted meanwhile.
            self.countdown.store(next, Ordering::Relaxed);
            left == 1
        }
    }

    /// Passes the sample on to the next search, because this one did not use the graph.
    pub fn pass_on(&self) {
        self.countdown.store(1, Ordering::Relaxed);
    }

    pub fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the result of an audit. `now` is of the monotonic clock; `bound` is the least good recall.
    pub fn record(&self, tally: Tally, now: Duration, bound: f64) -> Option<Verdict> {
        let mut state = self.state.lock();
        state.window.add(now, tally);
        let tally = state.window.total(now);
        if is_good(&tally, bound) {
            let was_bad = state.warning.take().is_some();
            return was_bad.then_some(Verdict::Recovered(tally));
        }
        let warning = warning_of(&tally, bound)?;
        let is_news = state.warning.is_none();
        state.warning = Some(warning);
        let is_long_ago = state.tried.is_none_or(|tried| now - tried >= BUCKET);
        let remedy = remedy_of(&tally, warning).filter(|_| is_long_ago);
        if remedy.is_some() {
            state.tried = Some(now);
        }
        (is_news || remedy.is_some()).then_some(Verdict::Bad { tally, warning, is_news, remedy })
    }

    /// Ends the warning and starts the measurement again, after a repair.
    pub fn repaired(&self) {
        let mut state = self.state.lock();
        state.window = Window::default();
        state.warning = None;
        state.repairs += 1;
    }

    pub fn report(&self, now: Duration) -> LiveReport {
        let state = self.state.lock();
        LiveReport {
            tally: state.window.total(now),
            dropped: self.dropped.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            warning: state.warning,
            repairs: state.repairs,
        }
    }
}

fn is_good(tally: &Tally, bound: f64) -> bool {
    tally.recall().is_some_and(|recall| recall >= bound) && !tally.is_coarse()
}

/// The warning that these samples justify; `None` if they are too few, or good.
fn warning_of(tally: &Tally, bound: f64) -> Option<Warning> {
    if tally.samples < JUDGED_SAMPLES_MIN {
        return None;
    }
    let is_low = tally.wanted >= JUDGED_ROWS_MIN && tally.recall()? < bound;
    match is_low {
        true => Some(Warning::Recall(tally.cause())),
        false => tally.is_coarse().then_some(Warning::CoarseCodes),
    }
}

/// The repair that may help. Codes that are too coarse are recomputed even if the beam is too narrow.
fn remedy_of(tally: &Tally, warning: Warning) -> Option<Remedy> {
    match warning {
        Warning::Recall(MissCause::Graph) => Some(Remedy::Links),
        Warning::Recall(MissCause::Codes) | Warning::CoarseCodes => Some(Remedy::Codes),
        Warning::Recall(MissCause::Beam) => tally.is_coarse().then_some(Remedy::Codes),
    }
}
