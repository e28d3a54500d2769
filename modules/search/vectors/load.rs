//! How many graphs have so much pending work that writers must wait: one number for all fields, so that
//! asking takes the same time however many there are.

use std::sync::atomic::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub struct Load(AtomicUsize);

impl Load {
    /// True while a field has too much pending work.
    pub fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub(super) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
