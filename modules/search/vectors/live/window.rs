//! What audits found in the last hour.

use std::ops::AddAssign;
use std::time::Duration;

/// Buckets for which an audit counts: an hour.
const BUCKETS: usize = 12;
pub const BUCKET: Duration = Duration::from_secs(60 * 60 / BUCKETS as u64);

/// Why a search missed a row that it should have had (live/mod.rs has the table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Codes,
    Beam,
    Graph,
}

impl Cause {
    pub const ALL: [Cause; 3] = [Cause::Codes, Cause::Beam, Cause::Graph];

    pub fn name(self) -> &'static str {
        match self {
            Cause::Codes => "codes",
            Cause::Beam => "beam",
            Cause::Graph => "graph",
        }
    }
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Recall is below the bound, and this is why most rows were missed.
    Recall(Cause),
    /// Most searches find that codes say too little, and go by the vectors: that finds the rows, and takes
    /// longer.
    CoarseCodes,
}

impl Warning {
    pub fn name(self) -> &'static str {
        match self {
            Warning::Recall(cause) => cause.name(),
            Warning::CoarseCodes => "coarse-codes",
        }
    }
}

/// What an index can do for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// To make its codes anew.
    Codes,
    /// To link nodes again.
    Links,
}

/// Rows of audited searches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Searches that were audited.
    pub samples: u64,
    /// Those of them that went by the vectors because codes were too coarse.
    pub coarse: u64,
    /// Rows that the exact answers had.
    pub wanted: u64,
    /// Those of them that the searches had too. A row as far as the last wanted one is as good as that.
    pub found: u64,
    /// The others, by `Cause`.
    pub missed: [u64; Cause::ALL.len()],
}

impl Tally {
    /// From 0 to 1; `None` if nothing was wanted.
    pub fn recall(&self) -> Option<f64> {
        (self.wanted > 0).then(|| self.found as f64 / self.wanted as f64)
    }

    /// Do most searches find the codes too coarse?
    pub fn is_coarse(&self) -> bool {
        2 * self.coarse > self.samples
    }

    /// Of most of the missed rows.
    pub fn cause(&self) -> Cause {
        // The last of equals: what can be repaired comes first in the order of a search.
        let causes = Cause::ALL.into_iter().rev();
        causes.max_by_key(|&cause| self.missed[cause as usize]).expect("there are causes")
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.samples += other.samples;
        self.coarse += other.coarse;
        self.wanted += other.wanted;
        self.found += other.found;
        self.missed.iter_mut().zip(other.missed).for_each(|(missed, more)| *missed += more);
    }
}

/// Tallies by the time of the audit.
#[derive(Default)]
pub struct Window {
    /// The bucket of time `n` is at `n % BUCKETS`, with that number.
    buckets: [(u64, Tally); BUCKETS],
}

impl Window {
    pub fn add(&mut self, now: Duration, tally: Tally) {
        let number = number_of(now);
        let bucket = &mut self.buckets[number as usize % BUCKETS];
        if bucket.0 != number {
            *bucket = (number, Tally::default());
        }
        bucket.1 += tally;
    }

    pub fn total(&self, now: Duration) -> Tally {
        let number = number_of(now);
        let mut total = Tally::default();
        let recent = self.buckets.iter().filter(|bucket| number - bucket.0.min(number) < BUCKETS as u64);
        recent.for_each(|bucket| total += bucket.1);
        total
    }
}

fn number_of(now: Duration) -> u64 {
    now.as_secs() / BUCKET.as_secs()
}
