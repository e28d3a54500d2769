//! The processor time of audits: a token bucket.

use std::time::Duration;

/// The budget is the passed time divided by this.
const SHARE: u32 = 100;

/// The most time that can be saved while there is nothing to audit.
const SAVED_MAX: Duration = Duration::from_millis(100);

/// In any period `t`, audits take at most `t / SHARE + SAVED_MAX` plus the time of one audit: an audit may
/// begin unless time is owed, and owes the time that it takes beyond the savings.
#[derive(Default)]
pub struct Budget {
    /// The monotonic time up to which the budget was credited; `None` before the first audit.
    credited: Option<Duration>,
    saved: Duration,
    owed: Duration,
}

impl Budget {
    /// True if an audit may begin now.
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
