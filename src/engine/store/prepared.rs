//! Copies of large values, made without the lock for a write that needs one.
//!
//! COPY of a large hash copies a value, and so does the first change of a large string to which a reply still
//! refers. The handler detects this under the write lock, has no effect, and returns a [`Making`]. After that
//! has run, the command runs again, from its words, and its effect uses the copy instead of making one.
//!
//! Invariant: a copy is used only if its key has not changed since the copying began, which a watch detects.
//! So the effect has the same result as in a replay, where it makes the copy itself. The watch is checked
//! when the effect takes the copy, after the delete of a key that has expired since.

use crate::keyspace::OwnedValue;
use crate::store::view::Looks;
use crate::store::watch::Watch;
use std::sync::Arc;

/// Makes a copy; `None` if there is nothing to copy, or the key is changed repeatedly.
pub(crate) type Making = Box<dyn FnOnce(&dyn Looks) -> Option<Copied> + Send>;

/// The number of outdated copies after which a command makes the copy under the lock.
const ATTEMPTS_MAX: usize = 3;

/// A copy of a value, and a watch that detects later changes of the key.
pub(crate) struct Copied {
    pub(crate) value: Box<OwnedValue>,
    pub(crate) watch: Arc<Watch>,
}

/// The result of a command's preparation, for its next run.
pub struct Prepared {
    database: u32,
    key: Vec<u8>,
    attempts: usize,
    copied: Option<Copied>,
}

/// The preparation of a running command: the result that it has, and the one that it requests.
#[derive(Default)]
pub(crate) struct Preparing {
    prepared: Option<Box<Prepared>>,
    pub(crate) wanted: Option<Box<Preparation>>,
    /// An outdated copy, to be dropped outside the lock.
    outdated: Option<Box<OwnedValue>>,
}

/// The job of a write without an effect so far.
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
    /// The memory that it takes until the command runs, which may have to wait for room in the log.
    pub fn heap_bytes(&self) -> usize {
        self.copied.as_ref().map_or(0, |copied| copied.value.heap_bytes())
    }

    fn into_value(self) -> Option<Box<OwnedValue>> {
        self.copied.map(|copied| copied.value)
    }
}

/// The continuation of a command that needs a copy of a key's value.
pub(crate) enum Copy {
    /// The copy is there.
    Made(Copied),
    /// The effect must make the copy.
    InPlace,
    /// The command must return, and will run again.
    Wanted,
}

impl Preparing {
    pub(crate) fn of(prepared: Option<Box<Prepared>>) -> Preparing {
        Preparing { prepared, ..Preparing::default() }
    }

    /// True if a command has or requests a copy, which few do.
    #[inline]
    pub(crate) fn is_in_use(&self) -> bool {
        self.prepared.is_some() || self.wanted.is_some() || self.outdated.is_some()
    }

    /// Takes an unused or outdated copy, after its command has run.
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
