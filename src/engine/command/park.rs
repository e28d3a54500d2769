//! How a blocking command says what its client waits for.

use super::Reply;
use crate::log::Lsn;
use crate::store::view::View;
use std::time::Duration;

/// What a client waits for at each of its keys. Commands that compete for the same thing (BLPOP and BRPOP)
/// share one condition, which makes them one queue.
pub struct Awaited {
    /// Identifies the condition among those of one key.
    pub name: &'static str,
    /// Whether a command that waits for it could go on. Must cost no more than a lookup.
    pub holds: fn(&View<'_>, &[u8]) -> bool,
}

/// How a blocking command waits that had no effect and wrote no reply.
pub struct Park {
    pub keys: Vec<Vec<u8>>,
    pub condition: &'static Awaited,
    /// `None` waits without end.
    pub at_most: Option<Duration>,
    /// The reply when the time is over, and at once where nothing may wait (EXEC).
    pub timed_out: fn(&mut dyn Reply),
    /// What the reply to a timeout waits for: it shows that the keys were as they were found.
    pub(crate) gate: Lsn,
}

impl Park {
    pub fn new(
        keys: Vec<Vec<u8>>,
        condition: &'static Awaited,
        at_most: Option<Duration>,
        timed_out: fn(&mut dyn Reply),
    ) -> Park {
        Park { keys, condition, at_most, timed_out, gate: Lsn(0) }
    }

    pub(crate) fn gated(mut self: Box<Park>, gate: Lsn) -> Box<Park> {
        self.gate = gate;
        self
    }
}
