//! Modules: the whole extension surface of the engine.
//!
//! A module brings commands, effects of its own with the state they change, a data type of its own, and an
//! eye on every change of keys. Its *ground* state (definitions) is what its effects say; what it derives
//! from keys (graphs, postings) is up to the module, and must be rebuildable from the keyspace at any time.
//!
//! Invariants: `apply` and `observe` run under the keyspace's write lock, in log order, the same in execution
//! and in replay (the keys of a snapshot are not observed but followed, see `Follower`); they are the only
//! places where a module's ground state changes. All that a module can do to the keyspace is to house
//! contents, which changes where they are stored and not what they are (`Housing`).

use crate::effect::{Effect, List, Record};
use crate::error::ReplayError;
use crate::gate::OpenBatch;
use crate::keyspace::{DataType, DataTypes, Housing};
use crate::types::Housed;
use std::any::Any;
use std::sync::Arc;

/// A change of keys as a module observes it, after it was applied.
pub struct Applied<'a> {
    pub record: &'a Record<'a>,
    /// `EffectOutcome::count` of the effect.
    pub count: usize,
}

/// A change of a module's own state: an effect without a key.
pub struct ModuleEffect<'a> {
    pub database: u32,
    pub version: u8,
    pub kind: u8,
    pub payload: &'a [u8],
}

pub trait Module: Any + Send + Sync {
    /// The name in errors, MODULE LIST and data directories.
    fn name(&self) -> &'static str;

    /// The number in effects; part of the format, never reused. 0 is the engine.
    fn number(&self) -> u8;

    /// What MODULE LIST says: the version clients compare with RediSearch's, say.
    fn list_version(&self) -> u32;

    /// The type of the values that the module's effects with a key are about, if it brings one. These effects
    /// are applied to the value and not to the module, which observes them.
    fn data_type(&self) -> Option<&'static dyn DataType> {
        None
    }

    /// Changes the ground state. An error means that the data is corrupt or newer than this program. What
    /// replies show of it has a hazard, which is marked in the batch.
    fn apply(
        &mut self,
        keyspace: &mut Housing<'_>,
        effect: &ModuleEffect<'_>,
        batch: &mut OpenBatch<'_>,
    ) -> Result<(), String>;

    /// Who makes derived state of a snapshot's keys while they are read. Asked once, when the snapshot's
    /// ground state was applied and before its keys.
    fn follower(&self) -> Option<Arc<dyn Follower>> {
        None
    }

    /// Sees a change of keys. The keyspace is as the change left it. What of the module's own changes with it
    /// has a hazard, which is marked in the batch.
    fn observe(&mut self, keyspace: &mut Housing<'_>, applied: &Applied<'_>, batch: &mut OpenBatch<'_>);

    /// Writes the ground state as effects that bring it back.
    fn save(&self, each: &mut dyn FnMut(&Record<'_>));

    /// Called once, when snapshot and log were applied and before the first command: derived state is made
    /// ready here, from the keyspace and from what the module itself has kept of an earlier run. Says what it
    /// did, for the start's report.
    fn recovered(&mut self, keyspace: &mut Housing<'_>) -> Vec<String>;

    /// Whether `background` has something to do.
    fn has_background(&self) -> bool {
        false
    }

    /// One bounded slice (a fraction of a millisecond) of work that needs the keyspace and that no client
    /// waits for, under its write lock. Returns what is to be done without any lock before the next slice, or
    /// `None` when nothing is left.
    fn background(&mut self, _keyspace: &mut Housing<'_>) -> Option<BackgroundWork> {
        None
    }

    /// The server stops: `background` is not called any more, and commands that wait for it must not go on
    /// waiting.
    fn stopping(&self) {}

    /// True while the module has more work pending than it wants: writers wait before the lock.
    fn is_overloaded(&self) -> bool {
        false
    }

    /// Bytes of memory of what the module keeps beside the keyspace, by estimate. Must cost no walk.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// What CONFIG shows of the module: names and values.
    fn settings(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Sets what CONFIG SET names, or only tries whether it can be. `None` where the module has no such
    /// setting; an error says what is wrong with the value.
    fn set_setting(&self, _name: &str, _value: &str, _is_trial: bool) -> Option<Result<(), String>> {
        None
    }

    /// Sections of INFO: name, and lines of field and value.
    fn info(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        Vec::new()
    }

    /// Keeps derived state for the next start (BGSAVE, clean stop). Called without any lock of the engine,
    /// through what `exporter` returned under it.
    fn exporter(&self) -> Option<Exporter> {
        None
    }
}

/// Sees the keys of a snapshot, each once, from several threads at a time.
pub trait Follower: Send + Sync {
    /// These hashes were read whole, and will be in the keyspace. Returns which of their contents are stored
    /// somewhere already, so that they need no other place, in the order of the hashes.
    fn hashes(&self, database: u32, hashes: &[ReadHash<'_>]) -> Vec<HousedContent>;

    /// These other keys were read whole. `keyspace` has them, and only some of the others.
    fn loaded(&self, keyspace: &mut Housing<'_>, database: u32, keys: &[&[u8]]);
}

/// A hash as it was read.
#[derive(Clone, Copy)]
pub struct ReadHash<'a> {
    pub key: &'a [u8],
    /// Names and contents in turn.
    pub fields: List<'a>,
}

/// A content of one of several hashes, and where it is stored.
pub struct HousedContent {
    /// Which hash, and which pair of its fields.
    pub hash: usize,
    pub pair: usize,
    pub housed: Housed,
}

/// Work without any lock of the engine.
pub type BackgroundWork = Box<dyn FnOnce() + Send>;

/// Writes a module's derived state; says what it wrote, or why it could not.
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
