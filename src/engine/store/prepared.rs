//! Copies of large values, made without the lock for a write that needs one.
//!
//! COPY of a large hash copies a value, and so does the first change of a large string that a reply still
//! refers to. The handler finds that out under the write lock, has no effect, and comes back with a
//! [`Making`]. When that has run, the command runs again, from its words, and its effect takes the copy
//! instead of making one.
//!
//! Invariant: a copy is taken only if its key has not changed since it was begun, which a watch tells; so the
//! effect does what it does in a replay, where it makes the copy itself. The watch is asked when the effect
//! takes the copy, after the delete of a key that has expired since.

use crate::keyspace::OwnedValue;
use crate::store::view::Looks;
use crate::store::watch::Watch;
use std::sync::Arc;

/// Makes a copy; none where there is nothing to copy, or where the key is written to again and again.
pub(crate) type Making = Box<dyn FnOnce(&dyn Looks) -> Option<Copied> + Send>;

/// Copies of one command that may be in vain before it goes on under the lock.
const ATTEMPTS_MAX: usize = 3;

/// A copy of a value as it was, and whether the key has changed since.
pub(crate) struct Copied {
    pub(crate) value: Box<OwnedValue>,
    pub(crate) watch: Arc<Watch>,
}

/// What a command's job made for its next run.
pub struct Prepared {
    database: u32,
    key: Vec<u8>,
    attempts: usize,
    copied: Option<Copied>,
}

/// What a running command has of it, and what it wants.
#[derive(Default)]
pub(crate) struct Preparing {
    prepared: Option<Box<Prepared>>,
    pub(crate) wanted: Option<Box<Preparation>>,
    /// A copy that is of no use any more, to be dropped outside the lock.
    outdated: Option<Box<OwnedValue>>,
}

/// The job of a write that has had no effect yet.
pub struct Preparation {
    database: u32,
    key: Vec<u8>,
    attempts: usize,
    making: Making,
}

impl Preparation {
    pub(crate) fn run(self, looks: &dyn Looks) -> Box<Prepared> {
        let Preparation { database, key, attempts, making } = self;
        Box::new(Prepared { database, key, attempts, copied: making(looks) })
    }
}

impl Prepared {
    /// What it takes until the command runs, which can wait for room in the log.
    pub fn heap_bytes(&self) -> usize {
        self.copied.as_ref().map_or(0, |copied| copied.value.heap_bytes())
    }

    fn into_value(self) -> Option<Box<OwnedValue>> {
        self.copied.map(|copied| copied.value)
    }
}

/// How a command goes on that needs a copy of a key's value.
pub(crate) enum Copy {
    /// Here is one.
    Made(Copied),
    /// The effect has to make it.
    InPlace,
    /// The command returns, and is run again.
    Wanted,
}

impl Preparing {
    pub(crate) fn of(prepared: Option<Box<Prepared>>) -> Preparing {
        Preparing { prepared, ..Preparing::default() }
    }

    /// Whether a command has something of it, or wants something: most do not.
    #[inline]
    pub(crate) fn is_in_use(&self) -> bool {
        self.prepared.is_some() || self.wanted.is_some() || self.outdated.is_some()
    }

    /// What is of no use any more, after the command that it was made for has run.
    pub(crate) fn outdated(&mut self) -> Option<Box<OwnedValue>> {
        self.outdated.take().or_else(|| self.prepared.take()?.into_value())
    }

    pub(crate) fn copy(&mut self, database: u32, key: &[u8], making: impl FnOnce() -> Making) -> Copy {
        let mut attempts = 0;
        if let Some(prepared) = self.prepared.take_if(|made| made.database == database && made.key == key) {
            let Some(copied) = prepared.copied else { return Copy::InPlace };
            if copied.watch.dirtied_by().is_none() {
                return Copy::Made(copied);
            }
            self.outdated = Some(copied.value);
            attempts = prepared.attempts;
            if attempts >= ATTEMPTS_MAX {
                return Copy::InPlace;
            }
        }
        let (key, attempts) = (key.to_vec(), attempts + 1);
        self.wanted = Some(Box::new(Preparation { database, key, attempts, making: making() }));
        Copy::Wanted
    }
}

#[cfg(test)]
#[path = "prepared_tests.rs"]
mod tests;
