//! When a temporary index was used last.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// In milliseconds of the monotonic clock. An index that FT.ALTER replaces shares it.
#[derive(Clone, Debug, Default)]
pub struct LastUse(Arc<AtomicU64>);

impl LastUse {
    pub fn note(&self, now: Duration) {
        self.0.fetch_max(now.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether an index that may be idle for `seconds` is due.
    pub fn is_over(&self, seconds: u64, now: Duration) -> bool {
        let until = seconds.saturating_mul(1000).saturating_add(self.0.load(Ordering::Relaxed));
        now.as_millis() as u64 >= until
    }
}
