//! LATENCY: the moments in which something took longer than `latency-monitor-threshold`.

use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

/// Samples that are kept of an event, as in Redis.
const SAMPLES_MAX: usize = 160;

/// What an event took in one second, at most.
#[derive(Clone, Copy)]
pub struct LatencySample {
    /// Since the Unix epoch.
    pub second: u64,
    pub milliseconds: u64,
}

#[derive(Clone, Default)]
pub struct LatencySeries {
    pub samples: VecDeque<LatencySample>,
    /// The worst one ever, in milliseconds.
    pub worst_ms: u64,
}

/// What was kept of each event.
pub type LatencyEvents = BTreeMap<&'static str, LatencySeries>;

#[derive(Default)]
pub struct LatencyMonitor {
    /// 0 turns it off.
    threshold_ms: AtomicU64,
    events: Mutex<LatencyEvents>,
}

impl LatencyMonitor {
    pub fn new(threshold_ms: u64) -> LatencyMonitor {
        LatencyMonitor { threshold_ms: threshold_ms.into(), ..LatencyMonitor::default() }
    }

    pub fn set_threshold_ms(&self, threshold_ms: u64) {
        self.threshold_ms.store(threshold_ms, Ordering::Relaxed);
    }

    pub fn threshold_ms(&self) -> u64 {
        self.threshold_ms.load(Ordering::Relaxed)
    }

    /// Notes an event if it took long enough. Costs a load while it is off.
    #[inline]
    pub fn note(&self, event: &'static str, milliseconds: u64, now_s: impl FnOnce() -> u64) {
        let threshold_ms = self.threshold_ms();
        if threshold_ms > 0 && milliseconds >= threshold_ms {
            self.add(event, LatencySample { second: now_s(), milliseconds });
        }
    }

    #[cold]
    fn add(&self, event: &'static str, sample: LatencySample) {
        let mut events = self.events.lock();
        let series = events.entry(event).or_default();
        series.worst_ms = series.worst_ms.max(sample.milliseconds);
        match series.samples.back_mut() {
            Some(last) if last.second == sample.second => {
                last.milliseconds = last.milliseconds.max(sample.milliseconds);
            }
            _ => series.samples.push_back(sample),
        }
        if series.samples.len() > SAMPLES_MAX {
            series.samples.pop_front();
        }
    }

    pub fn all(&self) -> LatencyEvents {
        self.events.lock().clone()
    }

    /// Forgets these events, or all. Returns how many there were.
    pub fn reset(&self, names: &[&[u8]]) -> usize {
        let mut events = self.events.lock();
        let before = events.len();
        events.retain(|event, _| {
            !names.is_empty() && !names.iter().any(|name| name.eq_ignore_ascii_case(event.as_bytes()))
        });
        before - events.len()
    }
}
