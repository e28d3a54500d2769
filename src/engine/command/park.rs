//! The condition on which a blocking command waits.

use super::Reply;
use crate::log::Lsn;
use crate::store::view::View;
use std::time::Duration;

/// The condition for which a client waits at each of its keys. Commands that compete for the same elements
/// (BLPOP and BRPOP) share one condition, and so one queue.
pub struct Awaited {
    /// Identifies the condition among those of one key.
    pub name: &'static str,
    /// True if a waiting command can continue. Must cost no more than a lookup.
    pub holds: fn(&View<'_>, &[u8]) -> bool,
    /// The command ends with an error when its key goes, as XREADGROUP does without its group.
    pub ends_without_key: bool,
}

/// The wait of a blocking command, which has had no reply. An effect before it is one that says that the
/// client waits (the consumer of XREADGROUP); the command must not repeat it when it runs again.
pub struct Park {
    pub keys: Vec<Vec<u8>>,
    pub condition: &'static Awaited,
    /// `None` for no limit.
    pub at_most: Option<Duration>,
    /// Writes the reply when the time is over.
    pub timed_out: fn(&mut dyn Reply),
    /// Writes the reply at once inside EXEC, where nothing may wait: that of a timeout, unless a command says
    /// otherwise.
    pub in_exec: fn(&mut dyn Reply),
    /// The words with which the command runs again, where they are not those of the request.
    pub(crate) words: Option<Vec<Vec<u8>>>,
    /// The gate of the reply to a timeout, which shows that the keys had no elements.
    pub(crate) gate: Lsn,
}

impl Park {
    pub fn new(
        keys: Vec<Vec<u8>>,
        condition: &'static Awaited,
        at_most: Option<Duration>,
        timed_out: fn(&mut dyn Reply),
    ) -> Park {
        Park { keys, condition, at_most, timed_out, in_exec: timed_out, words: None, gate: Lsn(0) }
    }

    /// Has the command run again with these words.
    pub fn running(mut self, words: Vec<Vec<u8>>) -> Park {
        self.words = Some(words);
        self
    }

    pub(crate) fn gated(mut self: Box<Park>, gate: Lsn) -> Box<Park> {
        self.gate = gate;
        self
    }
}
