//! How much of a core audits may take: a token bucket of processor time.

use std::time::Duration;

/// The budget is the time that passes over this.
const SHARE: u32 = 100;

/// What can be saved up while there is nothing to audit.
const SAVED_MAX: Duration = Duration::from_millis(100);

/// In any stretch of time `t`, audits take at most `t / SHARE + SAVED_MAX` and the last audit of it: an audit
/// is begun if anything is left, and what it takes beyond that is owed.
#[derive(Default)]
pub struct Budget {
    /// The moment up to which time was credited, on the monotonic clock; `None` before the first audit.
    credited: Option<Duration>,
    saved: Duration,
    owed: Duration,
}

impl Budget {
    /// Whether an audit may begin now.
    pub fn has_room(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.credited.unwrap_or(now));
        self.credited = Some(now);
        let earned = passed / SHARE;
        let paid = earned.min(self.owed);
        self.owed -= paid;
        self.saved = (self.saved + earned - paid).min(SAVED_MAX);
        self.owed.is_zero()
    }

    /// Charges an audit with the processor time that it took.
    pub fn spend(&mut self, time: Duration) {
        let paid = time.min(self.saved);
        self.saved -= paid;
        self.owed += time - paid;
    }
}
