//! What a write needs and takes long to make: it is made without the lock, and the write runs again.
//!
//! A large word that has to be parsed (JSON.SET) depends on nothing else, so the result is always good.
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
use std::any::Any;
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

/// What is made of a command's words alone.
pub struct MadeOfWords {
    pub value: Box<dyn Any + Send>,
    /// Bytes on the heap.
    pub heap_bytes: usize,
}

/// Makes something of a command's words, which it owns.
pub type WordsMaking = Box<dyn FnOnce() -> MadeOfWords + Send>;

/// The result of a command's preparation, for its next run.
pub struct Prepared(Made);

enum Made {
    Copy { database: u32, key: Vec<u8>, attempts: usize, copied: Option<Copied> },
    OfWords(MadeOfWords),
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
pub struct Preparation(Work);

enum Work {
    Copy { database: u32, key: Vec<u8>, attempts: usize, making: Making },
    OfWords(WordsMaking),
}

impl Preparation {
    pub(crate) fn run(self, looks: &dyn Looks) -> Box<Prepared> {
        Box::new(Prepared(match self.0 {
            Work::Copy { database, key, attempts, making } => {
                Made::Copy { database, key, attempts, copied: making(looks) }
            }
            Work::OfWords(making) => Made::OfWords(making()),
        }))
    }
}

impl Prepared {
    /// The memory that it takes until the command runs, which may have to wait for room in the log.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Made::Copy { copied, .. } => copied.as_ref().map_or(0, |copied| copied.value.heap_bytes()),
            Made::OfWords(made) => made.heap_bytes,
        }
    }

    fn into_value(self) -> Option<Box<OwnedValue>> {
        match self.0 {
            Made::Copy { copied, .. } => copied.map(|copied| copied.value),
            Made::OfWords(_) => None,
        }
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
        let is_of_key = |prepared: &mut Box<Prepared>| match &prepared.0 {
            Made::Copy { database: of, key: copied, .. } => *of == database && copied == key,
            Made::OfWords(_) => false,
        };
        if let Some(Prepared(Made::Copy { attempts: made, copied, .. })) =
            self.prepared.take_if(is_of_key).map(|prepared| *prepared)
        {
            let Some(copied) = copied else { return Copy::InPlace };
            if copied.watch.dirtied_by().is_none() {
                return Copy::Made(copied);
            }
            self.outdated = Some(copied.value);
            attempts = made;
            if attempts >= ATTEMPTS_MAX {
                return Copy::InPlace;
            }
        }
        let work = Work::Copy { database, key: key.to_vec(), attempts: attempts + 1, making: making() };
        self.wanted = Some(Box::new(Preparation(work)));
        Copy::Wanted
    }

    /// What was made of the words; `None` if the command must return, and will run again.
    pub(crate) fn of_words(&mut self, making: impl FnOnce() -> WordsMaking) -> Option<MadeOfWords> {
        let is_of_words = |prepared: &mut Box<Prepared>| matches!(prepared.0, Made::OfWords(_));
        if let Some(Prepared(Made::OfWords(made))) = self.prepared.take_if(is_of_words).map(|made| *made) {
            return Some(made);
        }
        self.wanted = Some(Box::new(Preparation(Work::OfWords(making()))));
        None
    }
}

#[cfg(test)]
#[path = "prepared_tests.rs"]
mod tests;
