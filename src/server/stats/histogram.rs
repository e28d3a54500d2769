//! Latencies of one command: a histogram with two significant digits, as Redis's.
//!
//! Values below 256 ns have a place each; above, each power of two has 128 places. Its thread alone adds, so
//! that it needs no read-modify-write.

use super::Counter;

/// In nanoseconds; longer latencies are counted in the last bucket.
const VALUE_MAX: u64 = 1_000_000_000;
const PLACES: usize = place(VALUE_MAX) + 1;

pub struct Histogram {
    counts: Box<[Counter]>,
}

/// The sum of the histograms of all workers.
pub struct LatencyCounts {
    counts: Vec<u64>,
    pub total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: (0..PLACES).map(|_| Counter::default()).collect() }
    }
}

impl Histogram {
    #[inline]
    pub fn add(&self, nanoseconds: u64) {
        self.counts[place(if nanoseconds > VALUE_MAX { VALUE_MAX } else { nanoseconds })].add(1);
    }

    pub fn reset(&self) {
        self.counts.iter().for_each(Counter::reset);
    }
}

const fn place(value: u64) -> usize {
    if value < 256 {
        return value as usize;
    }
    let shift = 56 - value.leading_zeros();
    256 + (shift as usize - 1) * 128 + ((value >> shift) as usize - 128)
}

/// The largest value of a place, in nanoseconds.
fn largest(place: usize) -> u64 {
    if place < 256 {
        return place as u64;
    }
    let (shift, rest) = ((place - 256) / 128 + 1, (place - 256) % 128);
    ((rest as u64 + 129) << shift) - 1
}

impl LatencyCounts {
    /// Adds up. `None` if there is nothing.
    pub fn sum<'h>(histograms: impl Iterator<Item = &'h Histogram>) -> Option<LatencyCounts> {
        let mut counts = vec![0; PLACES];
        for histogram in histograms {
            counts.iter_mut().zip(&histogram.counts).for_each(|(sum, count)| *sum += count.get());
        }
        let total = counts.iter().sum();
        (total > 0).then_some(LatencyCounts { counts, total })
    }

    /// The latency that this percentage of the calls did not exceed, in nanoseconds.
    pub fn percentile(&self, percent: f64) -> u64 {
        let wanted = ((percent / 100.0 * self.total as f64 + 0.5) as u64).max(1);
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        place.map_or(VALUE_MAX, largest)
    }

    /// For each power of two from 1,024 ns on that has calls: microseconds, and the number of calls that took
    /// no longer.
    pub fn by_powers(&self) -> Vec<(u64, u64)> {
        let (mut points, mut seen, mut from, mut level) = (Vec::new(), 0, 0, 1024);
        while seen < self.total {
            let upto = place(level).min(PLACES - 1);
            let new: u64 = self.counts[from..=upto].iter().sum();
            if new > 0 {
                seen += new;
                points.push((largest(upto) / 1000, seen));
            }
            from = upto + 1;
            level *= 2;
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_two_digits_and_their_order() {
        let mut before = 0;
        for value in (0..100_000).chain((100_000..VALUE_MAX).step_by(7_777_777)) {
            let place = place(value);
            assert!(place >= before && largest(place) >= value, "{value}");
            assert!(largest(place) - value <= value / 128, "{value}");
            before = place;
        }
    }

    #[test]
    fn points_and_percentiles_are_those_of_redis() {
        let histogram = Histogram::default();
        [500, 1000, 2000, 2000, 30_000, 70_000].into_iter().for_each(|value| histogram.add(value));
        let counts = LatencyCounts::sum([&histogram].into_iter()).expect("calls");
        assert_eq!(counts.by_powers(), [(1, 2), (2, 4), (33, 5), (132, 6)]);
        assert_eq!((counts.percentile(50.0), counts.percentile(99.9)), (2007, 70_143));
        histogram.reset();
        assert!(LatencyCounts::sum([&histogram].into_iter()).is_none());
    }
}
