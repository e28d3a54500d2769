//! What a write needs and takes long to make: it is made without the lock, and the write runs again.
//!
//! A large word that has to be parsed (JSON.SET) depends on nothing else, so the result is always good.
//!
//! A module that observes a change may have much to read of the changed value: an index, of a large document
//! or text. It says so before the effect is applied ([`crate::module::Module::preparation`]); it then reads
//! the document that the write is going to make ([`Upcoming`]), and gets back what it has made when it
//! observes the effect.
//!
//! COPY of a large hash copies a value, and so does the first change of a large string to which a reply still
//! refers. The handler detects this under the write lock, has no effect, and returns a [`Making`]. After that
//! has run, the command runs again, from its words, and its effect uses the copy instead of making one.
//!
//! Invariant: a copy, or what was read of an object, is used only if its key has not changed since this
//! began, which a watch detects. So the effect has the same result as in a replay, where it is made in place.
//! The watch is checked when the effect takes it, after the delete of a key that has expired since. What is
//! read of a hash's new fields depends on the words alone and has no watch.

use crate::effect::Effect;
use crate::keyspace::{Garbage, OwnedValue, TypedValue};
use crate::module::{Observation, ObservationMaking, Upcoming, UpcomingMaking};
use crate::store::view::Looks;
use crate::store::watch::Watch;
use crate::table::hash_bytes;
use std::any::Any;
use std::sync::Arc;

/// Makes a copy; `None` if there is nothing to copy, or the key is changed repeatedly.
pub(crate) type Making = Box<dyn FnOnce(&dyn Looks) -> Option<Copied> + Send>;

/// The number of outdated copies, or readings, after which a command makes it under the lock.
const ATTEMPTS_MAX: usize = 3;

/// A copy of a value, and a watch that detects later changes of the key.
pub(crate) struct Copied {
    pub(crate) value: Box<OwnedValue>,
    pub(crate) watch: Arc<Watch>,
}

/// The words that something was made of, by which it is known: they are shared with the request that has
/// them.
pub(crate) type MadeFrom = Vec<Arc<Vec<u8>>>;

/// Whether these are the words. Those of the same request are the same memory, unless they are short.
fn are_words(from: &MadeFrom, words: &[&[u8]]) -> bool {
    let is_same = |one: &Arc<Vec<u8>>, word: &&[u8]| std::ptr::eq(&one[..], *word) || one[..] == **word;
    from.len() == words.len() && from.iter().zip(words).all(|(one, word)| is_same(one, word))
}

/// What is made of a command's words alone.
pub struct MadeOfWords {
    pub value: Box<dyn Any + Send + Sync>,
    /// Bytes on the heap.
    pub heap_bytes: usize,
}

/// Makes something of a command's words, which it owns.
pub type WordsMaking = Box<dyn FnOnce() -> MadeOfWords + Send>;

/// An observation that was made for an effect on a key.
struct Observed {
    database: u32,
    key: Vec<u8>,
    /// Of the effect that it was made for: it is used for no other.
    mark: u64,
    attempts: usize,
    /// `None` if no module wanted one.
    observation: Option<Observation>,
    /// The object as the effect leaves it, if the command asked for it.
    object: Option<Box<dyn TypedValue>>,
    /// `None` if it depends on the command's words alone.
    watch: Option<Arc<Watch>>,
}

impl Observed {
    fn heap_bytes(&self) -> usize {
        self.observation.as_ref().map_or(0, |observation| observation.heap_bytes)
            + self.object.as_ref().map_or(0, |object| object.heap_bytes())
    }

    fn into_garbage(self) -> impl Iterator<Item = Garbage> {
        let observation = self.observation.map(|observation| Garbage::Made(observation.value));
        observation.into_iter().chain(self.object.map(|object| Garbage::Value(OwnedValue::Object(object))))
    }
}

/// Of longer contents parts are hashed: this is done under the lock.
const MARKED_BYTES: usize = 64 << 10;
/// How many parts, of how many bytes.
const MARKED_PARTS: usize = 64;
const MARKED_PART_BYTES: usize = 1 << 10;

/// A number by which effects on one key are told apart: the hash of what they carry, of long contents of
/// parts of it. What was prepared for a request is freed with it, so that this is a second line of defence.
pub(crate) fn mark_of(effect: &Effect<'_>) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let mix = |sum: u64, next: u64| (sum.rotate_left(5) ^ next).wrapping_mul(FACTOR);
    let hash_content = |content: &[u8]| {
        if content.len() <= MARKED_BYTES {
            return hash_bytes(content);
        }
        let last = content.len() - MARKED_PART_BYTES;
        let parts = (0..=MARKED_PARTS).map(|part| last / MARKED_PARTS * part).chain([last]);
        parts.map(|at| hash_bytes(&content[at..at + MARKED_PART_BYTES])).fold(content.len() as u64, mix)
    };
    match *effect {
        Effect::Module { module, kind, payload, .. } => {
            [u64::from(module), u64::from(kind), hash_content(payload)].into_iter().fold(1, mix)
        }
        Effect::HashSet { fields, keep_expiry, .. } => fields
            .pairs()
            .flat_map(|(name, value)| [hash_bytes(name), hash_content(value)])
            .fold(2 + u64::from(keep_expiry), mix),
        _ => 0,
    }
}

/// The bytes of what an effect carries.
fn carried_bytes(effect: &Effect<'_>) -> usize {
    match *effect {
        Effect::Module { payload, .. } => payload.len(),
        Effect::HashSet { fields, .. } => fields.pairs().map(|(name, value)| name.len() + value.len()).sum(),
        _ => 0,
    }
}

/// What a command needs before an effect, if that is large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foresight {
    /// The object as the effect leaves it, because applying the effect takes long.
    pub object: bool,
}

/// Whether an effect can be applied now.
pub enum Foreseen {
    /// With the object as the effect leaves it, if that was asked for and made.
    Ready(Option<Box<dyn TypedValue>>),
    /// The command must return, without an effect or a reply, and will run again.
    Again,
}

/// The result of a command's preparation, for its next run.
pub struct Prepared(Made);

/// What a command retains from a run to its next one. It may come back for the one, and then for the other.
#[derive(Default)]
pub struct Retained {
    pub prepared: Option<Box<Prepared>>,
    /// What it may log beyond the bound from its words, in bytes.
    pub room_bytes: usize,
}

enum Made {
    Copy {
        database: u32,
        key: Vec<u8>,
        attempts: usize,
        copied: Option<Copied>,
    },
    OfWords(MadeFrom, MadeOfWords),
    /// With what was made of the words before.
    Observed(Observed, Option<(MadeFrom, MadeOfWords)>),
}

/// The preparation of a running command: the result that it has, and the one that it requests.
#[derive(Default)]
pub(crate) struct Preparing {
    prepared: Option<Box<Prepared>>,
    pub(crate) wanted: Option<Box<Preparation>>,
    /// What was observed, for the effect that comes next.
    observed: Option<Observed>,
    /// The words of which the running command took what was made.
    taken_of: MadeFrom,
    /// What is not used any more, to be dropped outside the lock.
    outdated: Vec<Garbage>,
}

/// The job of a write without an effect so far.
pub struct Preparation(Work);

enum Work {
    Copy { database: u32, key: Vec<u8>, attempts: usize, making: Making },
    OfWords(MadeFrom, WordsMaking),
    Observe(Observing, Option<(MadeFrom, MadeOfWords)>),
}

struct Observing {
    database: u32,
    key: Vec<u8>,
    mark: u64,
    attempts: usize,
    upcoming: UpcomingMaking,
    making: Option<ObservationMaking>,
    foresight: Foresight,
    watch: Option<Arc<Watch>>,
    /// The bytes of what the effect carries.
    bytes: usize,
}

impl Preparation {
    /// The key on whose value the result depends: it is of no use when another write changes that.
    pub fn key(&self) -> Option<(u32, &[u8])> {
        match &self.0 {
            Work::Observe(observing, _) => {
                observing.watch.as_ref().map(|_| (observing.database, &observing.key[..]))
            }
            Work::Copy { .. } | Work::OfWords(..) => None,
        }
    }

    /// Whether it reads a document: that can take much longer than other preparations.
    pub fn is_reading(&self) -> bool {
        matches!(self.0, Work::Observe(..))
    }

    /// The memory that it takes until it is done, beside what it shares with the keyspace and with the words.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Work::Observe(observing, words) => {
                observing.key.len() + observing.bytes + words.as_ref().map_or(0, |(_, made)| made.heap_bytes)
            }
            Work::Copy { key, .. } => key.len(),
            Work::OfWords(..) => 0,
        }
    }

    /// What was made of the words before, if the rest is not to be done now.
    pub fn into_words(self) -> Option<Box<Prepared>> {
        match self.0 {
            Work::Observe(_, words) => {
                words.map(|(from, made)| Box::new(Prepared(Made::OfWords(from, made))))
            }
            Work::Copy { .. } | Work::OfWords(..) => None,
        }
    }

    /// `is_wanted` is asked now and then; where it is not, the result is of no use.
    pub(crate) fn run(self, looks: &dyn Looks, is_wanted: &dyn Fn() -> bool) -> Box<Prepared> {
        Box::new(Prepared(match self.0 {
            Work::Copy { database, key, attempts, making } => {
                Made::Copy { database, key, attempts, copied: making(looks) }
            }
            Work::OfWords(from, making) => Made::OfWords(from, making()),
            Work::Observe(
                Observing { database, key, mark, attempts, upcoming, making, foresight, watch, .. },
                words,
            ) => {
                let upcoming = upcoming();
                let observation = making.map(|making| making(&upcoming, is_wanted));
                let object = match upcoming {
                    Upcoming::Object(object) if foresight.object => Some(object),
                    _ => None,
                };
                Made::Observed(Observed { database, key, mark, attempts, observation, object, watch }, words)
            }
        }))
    }
}

impl Prepared {
    /// The memory that it takes until the command runs, which may have to wait for room in the log.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Made::Copy { copied, .. } => copied.as_ref().map_or(0, |copied| copied.value.heap_bytes()),
            Made::OfWords(_, made) => made.heap_bytes,
            Made::Observed(observed, words) => {
                observed.heap_bytes() + words.as_ref().map_or(0, |(_, made)| made.heap_bytes)
            }
        }
    }

    fn into_garbage(self) -> Vec<Garbage> {
        match self.0 {
            Made::Copy { copied, .. } => {
                copied.map(|copied| Garbage::Value(*copied.value)).into_iter().collect()
            }
            Made::OfWords(_, made) => vec![Garbage::Made(made.value)],
            Made::Observed(observed, words) => {
                let words = words.map(|(_, made)| Garbage::Made(made.value));
                words.into_iter().chain(observed.into_garbage()).collect()
            }
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

    /// What was prepared and not used yet.
    pub(crate) fn take_prepared(&mut self) -> Option<Box<Prepared>> {
        self.prepared.take()
    }

    /// True if a command has something prepared, or requests it, which few do.
    #[inline]
    pub(crate) fn is_in_use(&self) -> bool {
        self.prepared.is_some()
            || self.wanted.is_some()
            || self.observed.is_some()
            || !self.outdated.is_empty()
    }

    /// Takes what was not used, or is outdated, after its command has run.
    pub(crate) fn outdated(&mut self) -> Vec<Garbage> {
        let mut garbage = std::mem::take(&mut self.outdated);
        garbage.extend(self.prepared.take().into_iter().flat_map(|prepared| prepared.into_garbage()));
        garbage.extend(self.observed.take().into_iter().flat_map(Observed::into_garbage));
        garbage
    }

    pub(crate) fn copy(&mut self, database: u32, key: &[u8], making: impl FnOnce() -> Making) -> Copy {
        let mut attempts = 0;
        let is_of_key = |prepared: &mut Box<Prepared>| match &prepared.0 {
            Made::Copy { database: of, key: copied, .. } => *of == database && copied == key,
            Made::OfWords(..) | Made::Observed(..) => false,
        };
        if let Some(Prepared(Made::Copy { attempts: made, copied, .. })) =
            self.prepared.take_if(is_of_key).map(|prepared| *prepared)
        {
            let Some(copied) = copied else { return Copy::InPlace };
            if copied.watch.dirtied_by().is_none() {
                return Copy::Made(copied);
            }
            self.outdated.push(Garbage::Value(*copied.value));
            attempts = made;
            if attempts >= ATTEMPTS_MAX {
                return Copy::InPlace;
            }
        }
        let work = Work::Copy { database, key: key.to_vec(), attempts: attempts + 1, making: making() };
        self.wanted = Some(Box::new(Preparation(work)));
        Copy::Wanted
    }

    /// What was made of these words; `None` if the command must return, and will run again.
    pub(crate) fn of_words(
        &mut self,
        words: &[&[u8]],
        making: impl FnOnce() -> (MadeFrom, WordsMaking),
    ) -> Option<MadeOfWords> {
        let is_of_words = |from: &MadeFrom| are_words(from, words);
        if let Some(Prepared(Made::Observed(_, made))) = self.prepared.as_deref_mut()
            && let Some((from, made)) = made.take_if(|(from, _)| is_of_words(from))
        {
            self.taken_of = from;
            return Some(made);
        }
        let is_made =
            |prepared: &mut Box<Prepared>| matches!(&prepared.0, Made::OfWords(from, _) if is_of_words(from));
        if let Some(Prepared(Made::OfWords(from, made))) = self.prepared.take_if(is_made).map(|made| *made) {
            self.taken_of = from;
            return Some(made);
        }
        let (from, making) = making();
        self.wanted = Some(Box::new(Preparation(Work::OfWords(from, making))));
        None
    }

    /// Keeps what was made of the words for the next run, in which an observation is there too.
    pub(crate) fn keep_words(&mut self, made: MadeOfWords) {
        match self.wanted.as_deref_mut() {
            Some(Preparation(Work::Observe(_, words))) => {
                *words = Some((std::mem::take(&mut self.taken_of), made));
            }
            _ => self.outdated.push(Garbage::Made(made.value)),
        }
    }

    /// What is there for the next effect on this key: the observation is kept for it, the object returned. It
    /// is also ready if it was outdated too often. If not, the number of attempts so far.
    pub(crate) fn observe(
        &mut self,
        database: u32,
        key: &[u8],
        mark: u64,
    ) -> Result<Option<Box<dyn TypedValue>>, usize> {
        let is_of_key = |prepared: &mut Box<Prepared>| match &prepared.0 {
            Made::Observed(observed, _) => observed.database == database && observed.key == key,
            _ => false,
        };
        let taken = self.prepared.take_if(is_of_key).map(|prepared| *prepared);
        let Some(Prepared(Made::Observed(mut observed, words))) = taken else { return Err(0) };
        self.outdated.extend(words.map(|(_, made)| Garbage::Made(made.value)));
        let attempts = observed.attempts;
        let is_dirty = observed.watch.as_ref().is_some_and(|watch| watch.dirtied_by().is_some());
        if !is_dirty && observed.mark == mark {
            let object = observed.object.take();
            self.observed = Some(observed);
            return Ok(object);
        }
        self.outdated.extend(observed.into_garbage());
        if attempts >= ATTEMPTS_MAX { Ok(None) } else { Err(attempts) }
    }

    /// Requests an observation; the command must return, and will run again.
    pub(crate) fn want_observation(
        &mut self,
        (database, effect, attempts): (u32, &Effect<'_>, usize),
        (upcoming, making): (UpcomingMaking, Option<ObservationMaking>),
        foresight: Foresight,
        watch: Option<Arc<Watch>>,
    ) {
        let key = effect.key().map(<[u8]>::to_vec).unwrap_or_default();
        let (mark, bytes, attempts) = (mark_of(effect), carried_bytes(effect), attempts + 1);
        let observing =
            Observing { database, key, mark, attempts, upcoming, making, foresight, watch, bytes };
        self.wanted = Some(Box::new(Preparation(Work::Observe(observing, None))));
    }

    /// The observation for an effect on this key that is applied now.
    #[inline]
    pub(crate) fn take_observation(
        &mut self,
        database: u32,
        key: Option<&[u8]>,
    ) -> Option<Box<dyn Any + Send + Sync>> {
        let observed = self
            .observed
            .take_if(|observed| observed.database == database && key == Some(&observed.key[..]))?;
        let is_outdated = observed.watch.as_ref().is_some_and(|watch| watch.dirtied_by().is_some());
        if is_outdated {
            self.outdated.extend(observed.into_garbage());
            return None;
        }
        observed.observation.map(|observation| observation.value)
    }
}

#[cfg(test)]
#[path = "prepared_tests.rs"]
mod tests;
