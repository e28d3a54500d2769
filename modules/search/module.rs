//! The module: all indexes of a store, and the hooks that the engine calls.

use crate::audit::Auditor;
use crate::cursors::CursorRegistry;
use crate::effects::{
    KIND_ALIAS, KIND_ALTER, KIND_CREATE, KIND_DICTIONARY, KIND_DROP, KIND_SYNONYMS, NUMBER, effect_of,
};
use crate::error::{Kind, SearchError};
use crate::index::foreseen::{Foreseeing, ForeseenDocument, LargeNames, foresee, foreseeing};
use crate::index::leftover::Leftover;
use crate::index::scope::ChangedNames;
use crate::index::{Index, OlderKeys};
use crate::info;
use crate::recovery;
use crate::recovery::restoring::{Followers, Restoring};
use crate::recovery::saved::{self, AllSaved};
use crate::registry::Registry;
use crate::registry::dictionaries::Dictionaries;
use crate::schema::change::{AliasChange, Alteration, DictionaryChange, SynonymChange};
use crate::schema::{self, Definition};
use crate::settings::{self, Settings};
use crate::suggest::value::SuggestionType;
use crate::vectors::load::Load;
use crate::vectors::workers::Workers;
use engramdb_engine::effect::{Effect, Record};
use engramdb_engine::env::Env;
use engramdb_engine::gate::OpenBatch;
use engramdb_engine::keyspace::{DataType, Database, Housing, Keyspace, SAVED_PARTS_MAX};
use engramdb_engine::module::{
    Applied, BackgroundWork, DueEffect, Exporter, Follower, Module, ModuleEffect, ObservationMaking, Upcoming,
};
use engramdb_engine::signal::Signal;
use engramdb_engine::store::view::View;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

#[derive(Clone)]
pub struct SearchOptions {
    /// The directory for saved graphs; `None` to rebuild them at each start.
    pub directory: Option<PathBuf>,
    pub env: Env,
    /// Keep definitions only: no documents, no graphs, no threads (the snapshot process).
    pub offline: bool,
    /// The number of threads that insert mutations into graphs; at least one.
    pub threads: usize,
}

/// FT.*: indexes over the documents of a store.
pub struct SearchModule {
    pub(crate) options: SearchOptions,
    pub(crate) settings: Arc<Settings>,
    pub(crate) auditor: Auditor,
    pub(crate) cursors: CursorRegistry,
    pub(crate) registry: Registry,
    pub(crate) dictionaries: Dictionaries,
    /// The ids of indexes that are being filled, or whose backfill has just ended.
    filling: BTreeSet<u64>,
    /// What writers wait for.
    load: Arc<Load>,
    pub(crate) workers: Workers,
    /// Vectors of dropped indexes to which hashes still hold handles.
    leftovers: VecDeque<Leftover>,
    /// Dropped dictionaries, and what was read of documents. Background work frees it, without the keyspace's
    /// lock.
    garbage: Vec<Box<dyn Any + Send + Sync>>,
    /// Indexes that were dropped or rebuilt, which background work frees.
    replaced: Vec<Arc<Index>>,
    /// Signals of dropped indexes for which searches may wait. Background work gives them, without the
    /// keyspace's lock.
    ungiven: Vec<Arc<Signal>>,
    /// The thread that reads what an earlier run saved. It is joined when the first index needs the result.
    reading: Option<JoinHandle<AllSaved>>,
    saved: AllSaved,
    /// By id: indexes that are being restored, until `recovered`.
    restoring: BTreeMap<u64, Arc<Restoring>>,
    /// Whether indexes follow changes as they are made. True from `recovered` on.
    live: bool,
    /// Whether the engine has asked for what is due, which it does where it writes the log.
    leads: bool,
}

impl SearchModule {
    pub fn new(options: SearchOptions) -> SearchModule {
        let threads = if options.offline { 0 } else { options.threads.max(1) };
        let directory = options.directory.as_ref().filter(|_| !options.offline);
        let settings = Arc::<Settings>::default();
        SearchModule {
            load: settings.load().clone(),
            reading: directory.map(|directory| saved::read_all(&options.env, directory)),
            saved: AllSaved::default(),
            restoring: BTreeMap::new(),
            auditor: Auditor::start(options.env.clone(), settings.clone(), options.offline),
            cursors: CursorRegistry::new(options.env.clone(), settings.clone()),
            settings,
            workers: Workers::start(threads, options.env.clock.clone()),
            options,
            registry: Registry::default(),
            dictionaries: Dictionaries::default(),
            filling: BTreeSet::new(),
            leftovers: VecDeque::new(),
            garbage: Vec::new(),
            replaced: Vec::new(),
            ungiven: Vec::new(),
            live: false,
            leads: false,
        }
    }

    /// Waits until all sampled searches have been audited, and the faults that were found are repaired; for
    /// tests.
    #[doc(hidden)]
    pub fn wait_for_audits(&self) {
        self.auditor.wait_idle();
    }

    pub(crate) fn index(&self, database: u32, name: &[u8]) -> Option<&Arc<Index>> {
        let index = self.registry.index(database, name);
        index.inspect(|index| index.note_use(&*self.options.env.clock))
    }

    /// The index of a database that this one is, or has become by FT.ALTER.
    pub(crate) fn same_index(&self, database: u32, index: &Index) -> Option<&Arc<Index>> {
        let (here, same) = self.registry.by_id(index.definition.id)?;
        (here == database && !index.is_dropped()).then_some(same)
    }

    /// The most bytes that the first vectors of a field may be declared to take: a tenth of the memory that
    /// the server may take, unless a setting says otherwise.
    pub(crate) fn block_bytes_max(&self, view: &View<'_>) -> u64 {
        match self.settings.vector_resize_bytes_max() {
            0 => view.memory_bytes_max() / 10,
            bytes => bytes,
        }
    }

    pub(crate) fn indexes(&self) -> impl Iterator<Item = (u32, &Arc<Index>)> {
        self.registry.all()
    }

    fn create(
        &mut self,
        keyspace: &mut Housing<'_>,
        effect: &ModuleEffect<'_>,
        batch: &mut OpenBatch<'_>,
    ) -> Result<(), String> {
        let mut definition = Definition::decode(effect.version, effect.payload, keyspace.types())?;
        if self.registry.named(effect.database, &definition.name).is_some() {
            return Err("an index that exists is created".to_owned());
        }
        // An id that is in use is replaced by the next free one. Execution, replay and loading of a snapshot
        // all do the same. Random ids are hardly ever in use.
        definition.id = self.registry.free_id(definition.id);
        let is_complete = !self.live || definition.options.skip_initial_scan;
        let index = Arc::new(Index::with_load(definition, is_complete, &self.load));
        index.change(batch);
        index.note_use(&*self.options.env.clock);
        if self.live {
            self.begin_filling(keyspace, effect.database, &index);
        } else if !self.options.offline {
            self.restore(keyspace, effect.database, index.clone());
        }
        self.registry.insert(effect.database, index);
        Ok(())
    }

    /// The first slice of a backfill runs at once, so that the index of a small database is complete with the
    /// reply.
    fn begin_filling(&mut self, keyspace: &mut Housing<'_>, database: u32, index: &Arc<Index>) {
        index.backfill_slice(&self.workers, keyspace, database, &*self.options.env.clock);
        self.filling.insert(index.definition.id);
    }

    fn alter(
        &mut self,
        keyspace: &mut Housing<'_>,
        effect: &ModuleEffect<'_>,
        batch: &mut OpenBatch<'_>,
    ) -> Result<(), String> {
        let Alteration { name, fields, skips_scan } = Alteration::decode(effect.version, effect.payload)?;
        let before =
            self.registry.named(effect.database, &name).ok_or("an index that does not exist is altered")?;
        let older = match (self.live, skips_scan) {
            (false, _) => OlderKeys::Restored,
            (true, true) => OlderKeys::Skipped,
            (true, false) => OlderKeys::Scanned,
        };
        let index = Arc::new(before.altered(fields, older, &self.load));
        index.change(batch);
        self.registry.replace(index.clone());
        if self.live {
            self.begin_filling(keyspace, effect.database, &index);
        } else if let Some(restoring) = self.restoring.get_mut(&index.definition.id) {
            let restoring = Arc::get_mut(restoring).expect("no key of a snapshot is read any more");
            restoring.alter(index);
        }
        Ok(())
    }

    fn change_alias(&mut self, effect: &ModuleEffect<'_>, batch: &mut OpenBatch<'_>) -> Result<(), String> {
        let AliasChange { alias, index } = AliasChange::decode(effect.payload)?;
        let (now, before) = match index {
            Some(name) => {
                let changed = self.registry.set_alias(effect.database, &alias, &name);
                let (index, before) = changed.ok_or("an index that does not exist gets an alias")?;
                (Some(index), before)
            }
            None => (None, self.registry.remove_alias(effect.database, &alias)),
        };
        now.iter().chain(&before).for_each(|index| index.change(batch));
        Ok(())
    }

    fn add_synonyms(&mut self, effect: &ModuleEffect<'_>, batch: &mut OpenBatch<'_>) -> Result<(), String> {
        let SynonymChange { index, group, terms } = SynonymChange::decode(effect.payload)?;
        let index = self.registry.named(effect.database, &index);
        let index = index.ok_or("an index that does not exist gets synonyms")?;
        index.definition.synonyms.add(&group, &terms);
        index.prepared.clear();
        index.change(batch);
        Ok(())
    }

    fn change_dictionary(&mut self, effect: &ModuleEffect<'_>) -> Result<(), String> {
        let DictionaryChange { name, adds, terms } = DictionaryChange::decode(effect.payload)?;
        match adds {
            true => self.dictionaries.add(effect.database, &name, terms),
            false => self.dictionaries.remove(effect.database, &name, &terms),
        }
        Ok(())
    }

    /// Begins to restore an index from what was saved, before the first command.
    fn restore(&mut self, keyspace: &Keyspace, database: u32, index: Arc<Index>) {
        if let Some(reading) = self.reading.take() {
            self.saved = reading.join().expect("reading ends in a result");
        }
        let id = index.definition.id;
        let is_first = keyspace.database(database).is_none_or(Database::is_empty);
        let restoring = Restoring::new(index, self.saved.remove(&id), is_first);
        self.restoring.insert(id, Arc::new(restoring));
    }

    /// Drops the indexes and dictionaries of the databases for which `which` is true.
    fn drop_all(&mut self, which: impl Fn(u32) -> bool) {
        let dictionaries = self.dictionaries.take_all(&which).into_iter();
        self.garbage
            .extend(dictionaries.map(|dictionary| Box::new(dictionary) as Box<dyn Any + Send + Sync>));
        for database in self.registry.databases().into_iter().filter(|&database| which(database)) {
            let dropped = self.registry.remove_database(database);
            dropped.into_iter().for_each(|index| self.drop_index(index));
        }
    }

    /// Drops an index that was removed from the registry.
    fn drop_index(&mut self, index: Arc<Index>) {
        self.ungiven.extend(index.drop_it());
        self.filling.remove(&index.definition.id);
        self.cursors.end_of_index(&index);
        match self.restoring.remove(&index.definition.id) {
            Some(restoring) => self.leftovers.extend(restoring.leftovers()),
            None => self.leftovers.extend(Leftover::of(&index)),
        }
        if !self.options.offline {
            // Freeing it takes too long for the keyspace's lock.
            self.replaced.push(index);
        }
    }

    fn swap(&mut self, first: u32, second: u32, batch: &mut OpenBatch<'_>) {
        if first != second {
            // A crash can lose the swap, so replies that show these indexes wait for the batch.
            self.registry.swap(first, second).for_each(|index| index.change(batch));
            self.dictionaries.swap(first, second);
        }
    }

    /// The next slice of a backfill; `None` if no index is being filled.
    fn fill_slice(&mut self, keyspace: &mut Housing<'_>) -> Option<BackgroundWork> {
        let id = *self.filling.first()?;
        let (database, index) = self.registry.by_id(id).expect("a dropped index is not filled");
        index.backfill_slice(&self.workers, keyspace, database, &*self.options.env.clock);
        let index = index.clone();
        if !index.is_backfilling() {
            index.note_use(&*self.options.env.clock);
            self.filling.remove(&id);
        }
        let workers = self.workers.handle();
        Some(Box::new(move || index.help_backfill(&workers)))
    }
}

/// The index of this name, or the error `absent`, whose reply waits until the change that may have dropped
/// the index is durable.
pub fn find<'v>(view: &View<'v>, name: &[u8], absent: Kind) -> Result<&'v Arc<Index>, SearchError> {
    view.module::<SearchModule>().index(view.database(), name).ok_or_else(|| {
        view.whole_keyspace();
        absent.of(name)
    })
}

impl Module for SearchModule {
    fn name(&self) -> &'static str {
        "search"
    }

    fn number(&self) -> u8 {
        NUMBER
    }

    fn list_version(&self) -> u32 {
        engramdb_engine::REDIS_VERSION_NUMBER
    }

    fn data_type(&self) -> Option<&'static dyn DataType> {
        Some(&SuggestionType)
    }

    fn apply(
        &mut self,
        keyspace: &mut Housing<'_>,
        effect: &ModuleEffect<'_>,
        batch: &mut OpenBatch<'_>,
    ) -> Result<(), String> {
        if effect.version > schema::VERSION {
            return Err(format!(
                "index definitions of version {} are newer than this program",
                effect.version
            ));
        }
        match effect.kind {
            KIND_CREATE => self.create(keyspace, effect, batch),
            KIND_DROP => {
                let index = self.registry.remove(effect.database, effect.payload);
                let index = index.ok_or("an index that does not exist is dropped")?;
                self.drop_index(index);
                Ok(())
            }
            KIND_ALIAS => self.change_alias(effect, batch),
            KIND_SYNONYMS => self.add_synonyms(effect, batch),
            KIND_DICTIONARY => self.change_dictionary(effect),
            KIND_ALTER => self.alter(keyspace, effect, batch),
            kind => Err(format!("an effect of kind {kind} is newer than this program")),
        }
    }

    fn follower(&self) -> Option<Arc<dyn Follower>> {
        let of = |(database, index): (u32, &Arc<Index>)| {
            Some((database, self.restoring.get(&index.definition.id)?.clone()))
        };
        let followers = Followers::new(self.indexes().filter_map(of));
        (!followers.is_empty()).then(|| Arc::new(followers) as Arc<dyn Follower>)
    }

    fn observe(&mut self, keyspace: &mut Housing<'_>, applied: &Applied<'_>, batch: &mut OpenBatch<'_>) {
        let Record { database, effect } = *applied.record;
        match effect {
            Effect::Flush => self.drop_all(|number| number == database),
            Effect::FlushAll => self.drop_all(|_| true),
            Effect::SwapDatabases { first, second } => self.swap(first, second, batch),
            _ if self.options.offline || self.registry.is_empty() => {}
            _ => {
                let foreseen = applied.observation.take();
                let mut foreseen = foreseen.and_then(|made| made.downcast::<ForeseenDocument>().ok());
                let names = ChangedNames::default();
                effect.changed_keys(database, &mut |database, key| {
                    self.registry.covering(database, key, |index| {
                        if let Some(restoring) = self.restoring.get(&index.definition.id) {
                            return restoring.observe(keyspace, (database, key), &effect);
                        }
                        index.note_use(&*self.options.env.clock);
                        let content = foreseen.as_mut().and_then(|foreseen| foreseen.take(index));
                        let mut content = content.unwrap_or_default();
                        index.observe(
                            &self.workers,
                            keyspace,
                            (database, key),
                            (applied, &names, &mut content),
                            batch,
                        );
                        if !content.is_nothing() {
                            self.garbage.push(Box::new(content));
                        }
                    });
                });
            }
        }
    }

    fn preparation(&self, keyspace: &Keyspace, record: &Record<'_>) -> Option<ObservationMaking> {
        let (database, effect) = (record.database, record.effect);
        let key = effect.key().filter(|_| self.live && !self.registry.is_empty())?;
        let mut by: Vec<Foreseeing> = Vec::new();
        let large = LargeNames::of(&effect);
        self.registry.covering(database, key, |index| {
            by.extend(foreseeing(index, keyspace, (database, key), (&effect, &large)));
        });
        let key = key.to_vec();
        (!by.is_empty()).then(|| -> ObservationMaking {
            Box::new(move |upcoming: &Upcoming, is_wanted| foresee(&key, upcoming, by, is_wanted))
        })
    }

    fn save(&self, each: &mut dyn FnMut(&Record<'_>)) {
        for (database, index) in self.indexes() {
            let payload = index.definition.encode();
            each(&Record { database, effect: effect_of(KIND_CREATE, &payload) });
            for alias in self.registry.aliases_of(index.definition.id) {
                let payload = AliasChange::encode(alias, Some(&index.definition.name));
                each(&Record { database, effect: effect_of(KIND_ALIAS, &payload) });
            }
            index.definition.synonyms.each_part(SAVED_PARTS_MAX, |group, terms| {
                let (index, group) = (index.definition.name.clone(), group.to_vec());
                let payload = SynonymChange { index, group, terms: terms.to_vec() }.encode();
                each(&Record { database, effect: effect_of(KIND_SYNONYMS, &payload) });
            });
        }
        self.dictionaries.each_part(SAVED_PARTS_MAX, |database, name, terms| {
            let payload = DictionaryChange::encode(name, true, terms);
            each(&Record { database, effect: effect_of(KIND_DICTIONARY, &payload) });
        });
    }

    fn defining_commands(&self) -> Vec<(u32, Vec<Vec<u8>>)> {
        let mut commands = Vec::new();
        for (database, index) in self.indexes() {
            let definition = &index.definition;
            commands.push((database, definition.words()));
            for alias in self.registry.aliases_of(definition.id) {
                let words = [&b"FT.ALIASADD"[..], alias, &definition.name];
                commands.push((database, words.map(<[u8]>::to_vec).to_vec()));
            }
            definition.synonyms.each_part(SAVED_PARTS_MAX, |group, terms| {
                let words = [&b"FT.SYNUPDATE"[..], &definition.name, group].map(<[u8]>::to_vec);
                commands.push((database, [&words[..], terms].concat()));
            });
        }
        self.dictionaries.each_part(SAVED_PARTS_MAX, |database, name, terms| {
            let words = [&b"FT.DICTADD"[..], name].map(<[u8]>::to_vec);
            commands.push((database, [&words[..], terms].concat()));
        });
        commands
    }

    fn recovered(&mut self, keyspace: &mut Housing<'_>) -> Vec<String> {
        if self.options.offline {
            return Vec::new();
        }
        self.live = true;
        // What is left was saved of indexes that no longer exist.
        (self.reading, self.saved) = (None, AllSaved::default());
        let mut restoring = std::mem::take(&mut self.restoring);
        let taken = self.indexes().map(|(database, index)| {
            let restoring = restoring.remove(&index.definition.id).and_then(Arc::into_inner);
            (database, restoring.expect("each index began to come back, and no key is read any more"))
        });
        recovery::finish_all(&self.options.env, &self.workers, keyspace, taken.collect())
    }

    fn due(&mut self) -> Vec<DueEffect> {
        // What was used before, at another time or where the log was written before, is not known here.
        if !std::mem::replace(&mut self.leads, true) {
            self.registry.temporary().for_each(|index| index.note_use(&*self.options.env.clock));
        }
        let due = self.registry.due(self.options.env.clock.monotonic()).into_iter();
        due.map(|(database, payload)| DueEffect {
            database,
            version: schema::VERSION,
            kind: KIND_DROP,
            payload,
        })
        .collect()
    }

    fn rebuild(&mut self, _keyspace: &mut Housing<'_>) {
        if !self.live {
            return;
        }
        let older: Vec<Arc<Index>> = self.indexes().map(|(_, index)| index.clone()).collect();
        for index in older {
            let rebuilt = Arc::new(index.rebuilt(&self.load));
            self.drop_index(index);
            self.filling.insert(rebuilt.definition.id);
            self.registry.replace(rebuilt);
        }
    }

    fn stopping(&self) {
        self.auditor.stop();
        self.indexes().for_each(|(_, index)| index.give_up());
        self.ungiven.iter().for_each(|signal| signal.give());
    }

    fn is_overloaded(&self) -> bool {
        self.load.is_full()
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        settings::all(&self.settings)
    }

    fn set_setting(&self, name: &str, value: &str, is_trial: bool) -> Option<Result<(), String>> {
        settings::set_by_config(&self.settings, name, value, is_trial)
    }

    fn memory_bytes(&self) -> usize {
        self.registry.memory_bytes()
            + self.dictionaries.memory_bytes()
            + self.cursors.totals().1
            + self.leftovers.iter().map(Leftover::memory_bytes).sum::<usize>()
    }

    fn has_background(&self) -> bool {
        !self.leftovers.is_empty()
            || !self.ungiven.is_empty()
            || !self.filling.is_empty()
            || self.cursors.has_ended()
            || !self.garbage.is_empty()
            || !self.replaced.is_empty()
    }

    fn background(&mut self, keyspace: &mut Housing<'_>) -> Option<BackgroundWork> {
        if !self.ungiven.is_empty() {
            let signals = std::mem::take(&mut self.ungiven);
            return Some(Box::new(move || signals.iter().for_each(|signal| signal.give())));
        }
        if let Some(free) = self.cursors.take_ended() {
            return Some(free);
        }
        if !self.garbage.is_empty() {
            let garbage = std::mem::take(&mut self.garbage);
            return Some(Box::new(move || drop(garbage)));
        }
        if !self.replaced.is_empty() {
            let replaced = std::mem::take(&mut self.replaced);
            return Some(Box::new(move || drop(replaced)));
        }
        if let Some(work) = self.fill_slice(keyspace) {
            return Some(work);
        }
        let mut leftover = self.leftovers.pop_front()?;
        if leftover.clear_slice(keyspace, &*self.options.env.clock) {
            self.leftovers.push_back(leftover);
        }
        Some(Box::new(|| {}))
    }

    fn info(&self) -> Vec<(&'static str, Vec<(String, String)>)> {
        let now = self.options.env.clock.monotonic();
        let indexes = self.indexes().map(|(database, index)| (database, &**index));
        info::section(indexes, self.memory_bytes(), &self.auditor, now)
    }

    fn exporter(&self) -> Option<Exporter> {
        let directory = self.options.directory.clone()?;
        let (env, workers) = (self.options.env.clone(), self.workers.handle());
        let indexes: Vec<Arc<Index>> = self.indexes().map(|(_, index)| index.clone()).collect();
        Some(Box::new(move || saved::save_all(&env, &directory, &workers, &indexes)))
    }
}
