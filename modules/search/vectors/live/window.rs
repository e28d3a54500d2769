//! The results of the last hour's audits.

use std::ops::AddAssign;
use std::time::Duration;

/// Buckets of the window, which together cover an hour.
const BUCKETS: usize = 12;
pub const BUCKET: Duration = Duration::from_secs(60 * 60 / BUCKETS as u64);

/// Why a search missed a row of the exact answer (live/mod.rs has the table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissCause {
    Codes,
    Beam,
    Graph,
}

impl MissCause {
    pub const ALL: [MissCause; 3] = [MissCause::Codes, MissCause::Beam, MissCause::Graph];

    pub fn name(self) -> &'static str {
        match self {
            MissCause::Codes => "codes",
            MissCause::Beam => "beam",
            MissCause::Graph => "graph",
        }
    }
}

/// A problem of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    /// Recall is below the bound, and most rows were missed for this cause.
    Recall(MissCause),
    /// Most searches find the codes too coarse and compare vectors: they find the rows, but take longer.
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

/// A repair that an index can make by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Recompute the codes.
    Codes,
    /// Link nodes again.
    Links,
}

/// Rows of audited searches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Audited searches.
    pub samples: u64,
    /// Those of them that compared vectors because the codes were too coarse.
    pub coarse: u64,
    /// Rows of the exact answers.
    pub wanted: u64,
    /// Those of them that the searches found. A row that ties with the last exact one counts as found.
    pub found: u64,
    /// Rows that were not found, by `MissCause`.
    pub missed: [u64; MissCause::ALL.len()],
}

impl Tally {
    /// From 0 to 1; `None` if nothing was wanted.
    pub fn recall(&self) -> Option<f64> {
        (self.wanted > 0).then(|| self.found as f64 / self.wanted as f64)
    }

    /// True if most searches found the codes too coarse.
    pub fn is_coarse(&self) -> bool {
        2 * self.coarse > self.samples
    }

    /// The most frequent cause of missed rows.
    pub fn cause(&self) -> MissCause {
        // `max_by_key` takes the last of equals, so the order is reversed: of equals, `Codes` wins.
        let causes = MissCause::ALL.into_iter().rev();
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
    /// Bucket number `n` is at `n % BUCKETS`, with its number.
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
