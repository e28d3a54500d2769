//! All indexes of the module: by database and name, by alias, by the prefixes of keys, and by id.
//!
//! No write pays for indexes whose prefix its key does not have: it finds those that it concerns in a tree of
//! prefixes (`prefixes`). What the engine asks for at each tick is kept, not counted over all indexes.

pub mod dictionaries;
pub mod prefixes;
pub mod temporary;

use crate::index::Index;
use parking_lot::Mutex;
use prefixes::{PrefixTree, shortest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use temporary::TemporaryIndexes;

/// Fields whose memory one call of `memory_bytes` estimates again, so that it takes bounded time. With more
/// fields, several calls go once around.
const ESTIMATED_FIELDS: usize = 1024;

#[derive(Default)]
pub struct Registry {
    databases: BTreeMap<u32, Here>,
    members: BTreeMap<u64, Member>,
    temporary: TemporaryIndexes,
    memory: Mutex<Memory>,
}

/// What one database has.
#[derive(Default)]
struct Here {
    indexes: BTreeMap<Vec<u8>, Arc<Index>>,
    /// The ids of indexes by their other names.
    aliases: BTreeMap<Vec<u8>, u64>,
    /// By the shortest prefixes of each index, so that a key finds an index once.
    covering: PrefixTree<Arc<Index>>,
}

struct Member {
    database: u32,
    index: Arc<Index>,
    aliases: BTreeSet<Vec<u8>>,
}

/// The estimated bytes of all indexes.
#[derive(Default)]
struct Memory {
    sum: usize,
    of_index: BTreeMap<u64, usize>,
    /// The least id that the next estimate looks at.
    next: u64,
}

impl Here {
    fn cover(&mut self, index: &Arc<Index>) {
        for prefix in shortest(&index.definition.prefixes) {
            self.covering.insert(prefix, index.clone());
        }
    }

    fn uncover(&mut self, index: &Index) {
        let id = index.definition.id;
        for prefix in shortest(&index.definition.prefixes) {
            self.covering.remove(prefix, |index| index.definition.id == id);
        }
    }
}

impl Registry {
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The index of this name, or with this alias. A name comes before an alias.
    pub fn index(&self, database: u32, name: &[u8]) -> Option<&Arc<Index>> {
        let here = self.databases.get(&database)?;
        here.indexes.get(name).or_else(|| Some(&self.members.get(here.aliases.get(name)?)?.index))
    }

    /// The index of this name.
    pub fn named(&self, database: u32, name: &[u8]) -> Option<&Arc<Index>> {
        self.databases.get(&database)?.indexes.get(name)
    }

    /// The index with this alias.
    pub fn aliased(&self, database: u32, alias: &[u8]) -> Option<&Arc<Index>> {
        let id = self.databases.get(&database)?.aliases.get(alias)?;
        Some(&self.members.get(id)?.index)
    }

    /// The index with this id, and its database.
    pub fn by_id(&self, id: u64) -> Option<(u32, &Arc<Index>)> {
        self.members.get(&id).map(|member| (member.database, &member.index))
    }

    /// The aliases of an index, sorted.
    pub fn aliases_of(&self, id: u64) -> impl Iterator<Item = &[u8]> {
        self.members.get(&id).into_iter().flat_map(|member| &member.aliases).map(Vec::as_slice)
    }

    /// The indexes of a database, by name.
    pub fn here(&self, database: u32) -> impl Iterator<Item = &Arc<Index>> {
        self.databases.get(&database).into_iter().flat_map(|here| here.indexes.values())
    }

    /// All indexes with their databases, by database and name.
    pub fn all(&self) -> impl Iterator<Item = (u32, &Arc<Index>)> {
        self.databases
            .iter()
            .flat_map(|(&database, here)| here.indexes.values().map(move |index| (database, index)))
    }

    /// Calls `each` with the indexes of the database that have a prefix of the key.
    #[inline]
    pub fn covering<'a>(&'a self, database: u32, key: &[u8], each: impl FnMut(&'a Arc<Index>)) {
        if let Some(here) = self.databases.get(&database) {
            here.covering.covering(key, each);
        }
    }

    /// The first id that no index has, from this one on.
    pub fn free_id(&self, id: u64) -> u64 {
        let free = (id.max(1)..=u64::MAX).chain(1..).find(|id| !self.members.contains_key(id));
        free.expect("there are more ids than indexes")
    }

    /// Adds an index, whose name and id are free.
    pub fn insert(&mut self, database: u32, index: Arc<Index>) {
        let here = self.databases.entry(database).or_default();
        here.cover(&index);
        here.indexes.insert(index.definition.name.clone(), index.clone());
        self.temporary.add(&index);
        self.members.insert(index.definition.id, Member { database, index, aliases: BTreeSet::new() });
    }

    /// Puts an index in the place of the one with the same id and name.
    pub fn replace(&mut self, index: Arc<Index>) {
        let member = self.members.get_mut(&index.definition.id).expect("it is there");
        let here = self.databases.get_mut(&member.database).expect("it has an index");
        here.uncover(&member.index);
        here.cover(&index);
        here.indexes.insert(index.definition.name.clone(), index.clone());
        member.index = index;
    }

    /// Removes an index and its aliases.
    pub fn remove(&mut self, database: u32, name: &[u8]) -> Option<Arc<Index>> {
        let here = self.databases.get_mut(&database)?;
        let index = here.indexes.remove(name)?;
        here.uncover(&index);
        let member = self.members.remove(&index.definition.id).expect("each index is a member");
        member.aliases.iter().for_each(|alias| _ = here.aliases.remove(alias));
        if here.indexes.is_empty() {
            self.databases.remove(&database);
        }
        self.temporary.remove(&index);
        self.memory.get_mut().forget(index.definition.id);
        Some(index)
    }

    /// Removes all indexes of a database.
    pub fn remove_database(&mut self, database: u32) -> Vec<Arc<Index>> {
        let here = self.databases.remove(&database).unwrap_or_default();
        let removed: Vec<Arc<Index>> = here.indexes.into_values().collect();
        for index in &removed {
            self.members.remove(&index.definition.id);
            self.temporary.remove(index);
            self.memory.get_mut().forget(index.definition.id);
        }
        removed
    }

    /// The databases that have indexes.
    pub fn databases(&self) -> Vec<u32> {
        self.databases.keys().copied().collect()
    }

    /// Swaps the indexes of two databases; returns all of them.
    pub fn swap(&mut self, first: u32, second: u32) -> impl Iterator<Item = &Arc<Index>> {
        let [of_first, of_second] = [first, second].map(|database| self.databases.remove(&database));
        for (database, here) in [(first, of_second), (second, of_first)] {
            let Some(here) = here else { continue };
            for index in here.indexes.values() {
                self.members.get_mut(&index.definition.id).expect("each index is a member").database =
                    database;
            }
            self.databases.insert(database, here);
        }
        [first, second].into_iter().flat_map(|database| self.here(database))
    }

    /// Gives an alias to the index of this name; returns the index, and the one that had the alias before.
    pub fn set_alias(
        &mut self,
        database: u32,
        alias: &[u8],
        name: &[u8],
    ) -> Option<(Arc<Index>, Option<Arc<Index>>)> {
        let index = self.named(database, name)?.clone();
        let before = self.remove_alias(database, alias);
        let here = self.databases.get_mut(&database).expect("it has this index");
        here.aliases.insert(alias.to_vec(), index.definition.id);
        let member = self.members.get_mut(&index.definition.id).expect("each index is a member");
        member.aliases.insert(alias.to_vec());
        Some((index, before))
    }

    /// Removes an alias; returns the index that had it.
    pub fn remove_alias(&mut self, database: u32, alias: &[u8]) -> Option<Arc<Index>> {
        let id = self.databases.get_mut(&database)?.aliases.remove(alias)?;
        let member = self.members.get_mut(&id).expect("an alias is an index's");
        member.aliases.remove(alias);
        Some(member.index.clone())
    }

    /// The temporary indexes.
    pub fn temporary(&self) -> impl Iterator<Item = &Arc<Index>> {
        self.temporary.ids().map(|id| &self.members[&id].index)
    }

    /// The databases and names of some temporary indexes that were not used for their time.
    pub fn due(&mut self, now: Duration) -> Vec<(u32, Vec<u8>)> {
        let due = self.temporary.due(now, |id| &*self.members[&id].index);
        let named = |id: u64| (self.members[&id].database, self.members[&id].index.definition.name.clone());
        due.into_iter().map(named).collect()
    }

    /// An estimate of the bytes of all indexes. Each call looks at some of them again.
    pub fn memory_bytes(&self) -> usize {
        let memory = &mut *self.memory.lock();
        let (mut fields, first) = (0, memory.next);
        let around = self.members.range(first..).chain(self.members.range(..first));
        for (&id, Member { index, .. }) in around {
            if fields >= ESTIMATED_FIELDS {
                memory.next = id;
                break;
            }
            fields += index.definition.fields.len().max(1);
            let now = index.memory_bytes();
            let before = memory.of_index.insert(id, now).unwrap_or_default();
            memory.sum = memory.sum - before + now;
        }
        memory.sum
    }
}

impl Memory {
    fn forget(&mut self, id: u64) {
        self.sum -= self.of_index.remove(&id).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::create::definition_of;

    fn index(id: u64, command: &str) -> Arc<Index> {
        let definition = crate::schema::Definition { id, ..definition_of(command) };
        Arc::new(Index::new(definition, true))
    }

    fn covering(registry: &Registry, database: u32, key: &str) -> Vec<u64> {
        let mut found = Vec::new();
        registry.covering(database, key.as_bytes(), |index| found.push(index.definition.id));
        found
    }

    #[test]
    fn an_index_is_found_once_by_key_whatever_its_prefixes() {
        let mut registry = Registry::default();
        registry.insert(0, index(1, "FT.CREATE i PREFIX 3 a: a:b a: SCHEMA n NUMERIC"));
        registry.insert(0, index(2, "FT.CREATE j SCHEMA n NUMERIC"));
        assert_eq!(covering(&registry, 0, "a:b"), [2, 1]);
        assert_eq!(covering(&registry, 0, "b"), [2]);
        assert!(covering(&registry, 1, "a:b").is_empty());
        registry.swap(0, 1).for_each(|_| ());
        assert_eq!(covering(&registry, 1, "a:b"), [2, 1]);
        assert_eq!(registry.by_id(1).expect("it is there").0, 1);
        registry.remove(1, b"j");
        assert_eq!(covering(&registry, 1, "a:b"), [1]);
    }

    #[test]
    fn an_alias_ends_with_its_index_and_comes_after_a_name() {
        let mut registry = Registry::default();
        registry.insert(0, index(1, "FT.CREATE i SCHEMA n NUMERIC"));
        registry.insert(0, index(2, "FT.CREATE j SCHEMA n NUMERIC"));
        assert!(registry.set_alias(0, b"k", b"none").is_none());
        assert!(registry.set_alias(0, b"k", b"i").expect("i is there").1.is_none());
        let (_, before) = registry.set_alias(0, b"k", b"j").expect("j is there");
        assert_eq!(before.expect("it was of i").definition.id, 1);
        assert_eq!(registry.aliases_of(1).count(), 0);
        assert_eq!(registry.index(0, b"k").expect("an alias").definition.id, 2);
        registry.insert(0, index(3, "FT.CREATE k SCHEMA n NUMERIC"));
        assert_eq!(registry.index(0, b"k").expect("a name").definition.id, 3);
        registry.remove(0, b"j");
        registry.remove(0, b"k");
        assert!(registry.index(0, b"k").is_none());
    }

    #[test]
    fn the_sum_of_memory_goes_around_and_forgets_what_is_gone() {
        let fields: String = (0..700).map(|field| format!(" f{field} TAG")).collect();
        let mut registry = Registry::default();
        for id in 1..=5 {
            registry.insert(0, index(id, &format!("FT.CREATE i{id} SCHEMA{fields}")));
        }
        let all: usize = registry.all().map(|(_, index)| index.memory_bytes()).sum();
        assert!(registry.memory_bytes() < all);
        (0..3).for_each(|_| _ = registry.memory_bytes());
        assert_eq!(registry.memory_bytes(), all);
        for id in 1..=5 {
            registry.remove(0, format!("i{id}").as_bytes());
        }
        assert_eq!(registry.memory_bytes(), 0);
    }
}
