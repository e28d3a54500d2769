//! Latencies of a run and their percentiles.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies of many requests, recorded with three significant digits up to a minute.
#[derive(Clone)]
pub struct Latencies {
    nanoseconds: Histogram<u64>,
}

/// The percentiles in reports, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    pub mean_us: f64,
    pub p50_us: f64,
    pub p95_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// One of the percentiles: its name and its value.
pub type Figure = (&'static str, fn(&Percentiles) -> f64);

pub const P50: Figure = ("p50", |latency| latency.p50_us);
pub const P99: Figure = ("p99", |latency| latency.p99_us);
pub const P999: Figure = ("p99.9", |latency| latency.p999_us);
pub const MAX: Figure = ("max", |latency| latency.max_us);

impl Percentiles {
    /// Headings of `cells`, in tables for people.
    pub const HEADINGS: [&str; 5] = ["p50 us", "p95 us", "p99 us", "p99.9 us", "max us"];
    /// Headings of `csv_cells`.
    pub const CSV_HEADINGS: [&str; 6] = ["mean_us", "p50_us", "p95_us", "p99_us", "p999_us", "max_us"];

    pub fn cells(&self) -> [String; 5] {
        [self.p50_us, self.p95_us, self.p99_us, self.p999_us, self.max_us]
            .map(|figure| format!("{figure:.0}"))
    }

    pub fn csv_cells(&self) -> [String; 6] {
        let Self { mean_us, p50_us, p95_us, p99_us, p999_us, max_us } = *self;
        [mean_us, p50_us, p95_us, p99_us, p999_us, max_us].map(|figure| format!("{figure:.1}"))
    }
}

/// The series of a chart: each figure of all measurements.
pub fn series<'a>(
    figures: &[Figure],
    measured: impl Iterator<Item = &'a Percentiles> + Clone,
) -> Vec<(String, Vec<Option<f64>>)> {
    let one = |&(name, figure): &Figure| {
        (name.to_owned(), measured.clone().map(|latency| Some(figure(latency))).collect())
    };
    figures.iter().map(one).collect()
}

impl Latencies {
    pub fn new() -> Self {
        let minute = Duration::from_secs(60).as_nanos() as u64;
        Self {
            nanoseconds: Histogram::new_with_bounds(1, minute, 3).expect("the bounds and digits are valid"),
        }
    }

    pub fn record(&mut self, latency: Duration) {
        self.record_many(latency, 1);
    }

    /// Records `count` requests with the same latency.
    pub fn record_many(&mut self, latency: Duration, count: u64) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.saturating_record_n(nanoseconds, count);
    }

    pub fn add(&mut self, other: &Latencies) {
        self.nanoseconds.add(&other.nanoseconds).expect("all histograms have the same bounds");
    }

    pub fn count(&self) -> u64 {
        self.nanoseconds.len()
    }

    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile| self.nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        Percentiles {
            mean_us: self.nanoseconds.mean() / 1e3,
            p50_us: at(0.5),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.nanoseconds.max() as f64 / 1e3,
        }
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_threads_together() {
        let mut all = Latencies::new();
        for thread in 0..4 {
            let mut own = Latencies::new();
            (1..=250).for_each(|n| own.record(Duration::from_micros(thread * 250 + n)));
            all.add(&own);
        }
        let percentiles = all.percentiles();
        let near = |actual: f64, expected: f64| (actual / expected - 1.0).abs() < 0.002;
        assert_eq!(all.count(), 1000);
        assert!(near(percentiles.p50_us, 500.0) && near(percentiles.p99_us, 990.0), "{percentiles:?}");
        assert!(near(percentiles.p999_us, 999.0) && near(percentiles.max_us, 1000.0), "{percentiles:?}");
    }
}
