//! Live recall: how much of what they should find the searches of an index find, measured while it serves.
//!
//! One in N KNN searches over a graph (`LIVE_RECALL_EVERY`) becomes a *sample*: query, k, beam, filter, and
//! the rows that were found. One thread of the lowest priority (`auditor`) answers samples exactly, by the
//! vectors (`audit`), within a budget of 1 percent of a core (`budget`); what is beyond it is dropped and
//! counted. Recall is over the samples of the last hour, per vector field (`window`).
//!
//! An answer that misses rows is *diagnosed* by two more walks, so that misses have causes:
//!
//! | the row is found by | cause | what helps |
//! |---|---|---|
//! | a walk by the vectors, same beam | `Codes`: they say too little about the vectors | new codes |
//! | a walk by the vectors, much wider beam | `Beam`: too narrow for these data | a larger EF_RUNTIME |
//! | neither | `Graph`: no links lead to the row | links made anew |
//!
//! Below a bound (`LIVE_RECALL_BOUND`) there is a warning, in the log and in INFO, with the cause of most of
//! the misses. There is one too when most samples found the codes too coarse and went by the vectors, which
//! costs time instead of rows. The auditor's thread then asks the graph to make its codes anew, or to join
//! its nodes again, as the cause may be (engramdb_vector's recode.rs and rejoin.rs), and asks again every few
//! minutes while the warning stands. After a repair recall is measured from nothing: older samples say
//! nothing about the index as it is then.
//!
//! Documents change between search and audit. A document that did is left out of both sides: neither answer
//! says anything about the other's vector. An audit of a search before very many changes is dropped as stale.
//!
//! What a search pays: a countdown; one in N also a copy of its query, its rows and its filter's bitmap.

mod window;

#[cfg(test)]
mod tests;

pub use window::{Cause, Remedy, Tally, Warning};

use engramdb_engine::env::Random;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use window::{BUCKET, Window};

/// Searches per sample unless `LIVE_RECALL_EVERY` says otherwise.
pub const EVERY_DEFAULT: u64 = 1_000;
/// Recall below which there is a warning unless `LIVE_RECALL_BOUND` says otherwise.
pub const BOUND_DEFAULT: f64 = 0.9;

/// Samples, and rows that they should have had, from which on recall is judged: with fewer, 0.9 and 0.95 look
/// alike.
const JUDGED_SAMPLES_MIN: u64 = 10;
const JUDGED_ROWS_MIN: u64 = 100;

/// Rows up to which a search may become a sample: the copy and the audit are small then.
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
    /// When the index last began to repair itself, and how often it did.
    tried: Option<Duration>,
    repairs: u64,
}

/// What is known of a field's recall at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LiveReport {
    /// Of the last hour, or since the last repair.
    pub tally: Tally,
    /// Samples that were not audited: for want of time, and because too much had changed.
    pub dropped: u64,
    pub stale: u64,
    pub warning: Option<Warning>,
    pub repairs: u64,
}

/// What an audit changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    Bad {
        tally: Tally,
        warning: Warning,
        /// The log does not have it yet.
        is_news: bool,
        /// What the index should try now.
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
    /// Counts a search; true if it is to become a sample. One in `every` is, at intervals that `random`
    /// decides, so that they do not fall into step with a workload that repeats itself; none if `every` is 0.
    pub fn is_due(&self, every: u64, random: &dyn Random) -> bool {
        if every == 0 {
            return false;
        }
        // Intervals are from 1 to 2 * every - 1.
        let end = 2 * every as i64;
        let left = self.countdown.fetch_sub(1, Ordering::Relaxed);
        // It is past the end after `every` was made smaller, and below 1 between another search's turn and
        // its `store`.
        if left > 1 && left < end || left < 1 {
            return false;
        }
        let next = 1 + (random.next_u64() % (end as u64 - 1)) as i64;
        self.countdown.compare_exchange(left - 1, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() || {
            // Others counted meanwhile.
            self.countdown.store(next, Ordering::Relaxed);
            left == 1
        }
    }

    /// The search turned out to say nothing about the graph: the next one takes its turn.
    pub fn pass_on(&self) {
        self.countdown.store(1, Ordering::Relaxed);
    }

    pub fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub fn count_stale(&self) {
        self.stale.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes in what an audit found, at this moment of the monotonic clock.
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

    /// The index has repaired itself.
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

/// What is wrong, as far as there are samples enough to say.
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

/// What may help. Codes that are too coarse are worth a try whatever else is wrong.
fn remedy_of(tally: &Tally, warning: Warning) -> Option<Remedy> {
    match warning {
        Warning::Recall(Cause::Graph) => Some(Remedy::Links),
        Warning::Recall(Cause::Codes) | Warning::CoarseCodes => Some(Remedy::Codes),
        Warning::Recall(Cause::Beam) => tally.is_coarse().then_some(Remedy::Codes),
    }
}
