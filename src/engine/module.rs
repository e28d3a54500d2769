//! Modules: the extension interface of the engine.
//!
//! A module has commands, its own effects with the state that they change, possibly a data type, and observes
//! every change of keys. Only its effects change its *ground* state (definitions). It must be able to rebuild
//! its *derived* state (graphs, postings) from the keyspace at any time.
//!
//! Invariants: `apply` and `observe` run under the keyspace's write lock, in log order, in execution and in
//! replay (keys of a snapshot are not observed but followed, see `Follower`). Only they change a module's
//! ground state. A module can change the keyspace only by housing contents, which changes where contents are
//! stored, not the contents (`Housing`).

use crate::effect::{Effect, List, Record};
use crate::error::ReplayError;
use crate::gate::OpenBatch;
use crate::keyspace::{DataType, DataTypes, Housing, Keyspace, TypedValue};
use crate::types::Housed;
use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;

/// A change of keys that was applied, for observers.
pub struct Applied<'a> {
    pub record: &'a Record<'a>,
    /// `EffectOutcome::count` of the effect.
    pub count: usize,
    /// What a module has made for this effect before (`Module::preparation`). That module takes it.
    pub observation: Cell<Option<Box<dyn Any + Send + Sync>>>,
}

/// A change of a module's own state: an effect without a key.
pub struct ModuleEffect<'a> {
    pub database: u32,
    pub version: u8,
    pub kind: u8,
    pub payload: &'a [u8],
}

/// A change of a module's own state that time has made due.
pub struct DueEffect {
    pub database: u32,
    pub version: u8,
    pub kind: u8,
    pub payload: Vec<u8>,
}

pub trait Module: Any + Send + Sync {
    /// The name in errors, MODULE LIST and data directories.
    fn name(&self) -> &'static str;

    /// The number in effects; part of the format, never reused. 0 is the engine.
    fn number(&self) -> u8;

    /// The version in MODULE LIST, which clients may compare with RediSearch's. A module with 0 is not
    /// listed: Redis has its commands without a module.
    fn list_version(&self) -> u32;

    /// The module's data type, if it has one. The module's effects with a key change values of this type.
    /// They are applied to the value; the module only observes them.
    fn data_type(&self) -> Option<&'static dyn DataType> {
        None
    }

    /// Changes the ground state. An error means that the data are corrupt or newer than this program. State
    /// that replies show has a hazard, which must be marked in the batch. A module that only has a data type
    /// has no such state.
    fn apply(
        &mut self,
        _keyspace: &mut Housing<'_>,
        effect: &ModuleEffect<'_>,
        _batch: &mut OpenBatch<'_>,
    ) -> Result<(), String> {
        Err(format!("an effect of kind {} without a key is newer than this program", effect.kind))
    }

    /// The follower that makes derived state while a snapshot's keys are read. Called once, after the
    /// snapshot's ground state was applied and before its keys are read.
    fn follower(&self) -> Option<Arc<dyn Follower>> {
        None
    }

    /// Called after each change of keys, with the changed keyspace. State of the module that changes with it
    /// and that replies show has a hazard, which must be marked in the batch.
    fn observe(&mut self, _keyspace: &mut Housing<'_>, _applied: &Applied<'_>, _batch: &mut OpenBatch<'_>) {}

    /// Called before an effect is applied, if it is about much: work that `observe` would do with it and that
    /// takes long. It is done without the lock, and `observe` gets its result. Not called in a replay, nor
    /// for each effect: `observe` must also do without.
    fn preparation(&self, _keyspace: &Keyspace, _record: &Record<'_>) -> Option<ObservationMaking> {
        None
    }

    /// Calls `each` with effects that restore the ground state.
    fn save(&self, _each: &mut dyn FnMut(&Record<'_>)) {}

    /// Called once, after snapshot and log were applied and before the first command: completes the derived
    /// state, from the keyspace and from files that the module saved in an earlier run. Returns lines for the
    /// start's report.
    fn recovered(&mut self, _keyspace: &mut Housing<'_>) -> Vec<String> {
        Vec::new()
    }

    /// True if `background` has something to do.
    fn has_background(&self) -> bool {
        false
    }

    /// Does one bounded slice (a fraction of a millisecond) of work that needs the keyspace, under its write
    /// lock; no client waits for it. Returns work to be done without any lock before the next slice, or
    /// `None` if nothing is left.
    fn background(&mut self, _keyspace: &mut Housing<'_>) -> Option<BackgroundWork> {
        None
    }

    /// The changes of the module's own state that time has made due, as an expiry of a key is. Called
    /// regularly, under the keyspace's write lock, and only where a log is written. What is returned is
    /// applied at once, if the log has room; else it is due again. Must take bounded time.
    fn due(&mut self) -> Vec<DueEffect> {
        Vec::new()
    }

    /// Replaces the derived state by one that is made anew from the keyspace, under its write lock: what
    /// takes long is left to `background`.
    fn rebuild(&mut self, _keyspace: &mut Housing<'_>) {}

    /// Called when the server stops: `background` will not be called again, and commands must stop waiting
    /// for it.
    fn stopping(&self) {}

    /// True while the module has too much pending work: writers then wait before they take the lock.
    fn is_overloaded(&self) -> bool {
        false
    }

    /// The commands with which a client makes the ground state anew in another server, each with its
    /// database.
    fn defining_commands(&self) -> Vec<(u32, Vec<Vec<u8>>)> {
        Vec::new()
    }

    /// The module's memory outside of the keyspace, in bytes, estimated. Must take constant time.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// The module's settings for CONFIG: names and values.
    fn settings(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Sets the setting of this name in CONFIG SET, or only checks the value (`is_trial`). `None` if the
    /// module has no such setting; the error is a text about the value.
    fn set_setting(&self, _name: &str, _value: &str, _is_trial: bool) -> Option<Result<(), String>> {
        None
    }

    /// Sections of INFO: name, and lines of field and value.
    fn info(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        Vec::new()
    }

    /// Fields for the sections `memory` and `stats` of INFO: section, name and number.
    fn info_fields(&self) -> Vec<(&'static str, &'static str, u64)> {
        Vec::new()
    }

    /// The function that saves derived state for the next start (BGSAVE, clean stop). It is made under the
    /// engine's lock, and called without one.
    fn exporter(&self) -> Option<Exporter> {
        None
    }
}

/// Follows the reading of a snapshot: gets each key once, from several threads at a time.
pub trait Follower: Send + Sync {
    /// Called with complete hashes before they are in the keyspace. Returns those of their contents that are
    /// housed now, in the order of the hashes.
    fn hashes(&self, database: u32, hashes: &[ReadHash<'_>]) -> Vec<HousedContent>;

    /// Called with complete keys of other kinds, which are in `keyspace`; other keys may be missing there.
    fn loaded(&self, keyspace: &mut Housing<'_>, database: u32, keys: &[&[u8]]);
}

/// A hash that was read from a snapshot.
#[derive(Clone, Copy)]
pub struct ReadHash<'a> {
    pub key: &'a [u8],
    /// Names and contents in turn.
    pub fields: List<'a>,
}

/// A housed content of one of several hashes.
pub struct HousedContent {
    /// The index of the hash, and of the pair among its fields.
    pub hash: usize,
    pub pair: usize,
    pub housed: Housed,
}

/// From this size on, in bytes, values of a hash's fields are read before the effect: [`Upcoming::Fields`]
/// has these.
pub const FORESEEN_VALUE_BYTES: usize = 64 << 10;

/// A document as a write is going to make it, or what the write brings of it.
pub enum Upcoming {
    /// All of an object. It depends on what is there before the write.
    Object(Box<dyn TypedValue>),
    /// Fields of a hash, with their new values.
    Fields(Vec<(Vec<u8>, Arc<Vec<u8>>)>),
}

/// Makes it, without the lock.
pub type UpcomingMaking = Box<dyn FnOnce() -> Upcoming + Send>;

/// What a module has made before an effect, for `observe`.
pub struct Observation {
    pub value: Box<dyn Any + Send + Sync>,
    /// Bytes on the heap.
    pub heap_bytes: usize,
}

/// Reads a document that a write is going to make, without any lock of the engine. The function says whether
/// the result is still wanted: if not, it may be any.
pub type ObservationMaking = Box<dyn FnOnce(&Upcoming, &dyn Fn() -> bool) -> Observation + Send>;

/// Work without any lock of the engine.
pub type BackgroundWork = Box<dyn FnOnce() + Send>;

/// Writes a module's derived state. Returns a report, or an error text.
pub type Exporter = Box<dyn FnOnce() -> Result<String, String> + Send>;

/// The modules of one store.
#[derive(Default)]
pub struct Modules(Vec<Box<dyn Module>>);

impl Modules {
    pub fn new(modules: Vec<Box<dyn Module>>) -> Modules {
        Modules(modules)
    }

    pub fn iter(&self) -> impl Iterator<Item = &dyn Module> {
        self.0.iter().map(|module| &**module)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Box<dyn Module>> {
        self.0.iter_mut()
    }

    /// The module of this type; one that is not part of this program is a programming error.
    pub fn get<M: Module>(&self) -> &M {
        let found = self.iter().find_map(|module| (module as &dyn Any).downcast_ref());
        found.expect("commands of a module run only where it was registered")
    }

    pub(crate) fn apply(
        &mut self,
        keyspace: &mut Housing<'_>,
        record: &Record<'_>,
        batch: &mut OpenBatch<'_>,
    ) -> Result<(), ReplayError> {
        let Effect::Module { module: number, version, kind, key: None, payload } = record.effect else {
            unreachable!("only called for effects of modules on their own state")
        };
        let module = self.0.iter_mut().find(|module| module.number() == number);
        let module = module.ok_or(ReplayError::UnknownModule(number))?;
        let effect = ModuleEffect { database: record.database, version, kind, payload };
        module
            .apply(keyspace, &effect, batch)
            .map_err(|cause| ReplayError::Module { module: module.name(), cause })
    }

    /// The data types that the modules bring.
    pub(crate) fn data_types(&self) -> DataTypes {
        let of = |module: &dyn Module| {
            let data_type = module.data_type()?;
            assert_eq!(
                data_type.module(),
                module.number(),
                "the data type {} is another's",
                data_type.name()
            );
            Some(data_type)
        };
        DataTypes::new(self.iter().filter_map(of).collect())
    }

    /// See [`Module::preparation`]: that of the first module that has one.
    pub(crate) fn preparation(&self, keyspace: &Keyspace, record: &Record<'_>) -> Option<ObservationMaking> {
        self.iter().find_map(|module| module.preparation(keyspace, record))
    }

    pub(crate) fn followers(&self) -> Vec<Arc<dyn Follower>> {
        self.iter().filter_map(Module::follower).collect()
    }

    #[inline]
    pub(crate) fn observe(
        &mut self,
        keyspace: &mut Housing<'_>,
        applied: &Applied<'_>,
        batch: &mut OpenBatch<'_>,
    ) {
        for module in &mut self.0 {
            module.observe(keyspace, applied, batch);
        }
    }
}
