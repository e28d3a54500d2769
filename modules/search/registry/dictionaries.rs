//! Dictionaries: named sets of terms, for each database. FT.SPELLCHECK includes or excludes them.

use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// A dictionary is shared with spelling checks, which read it without the keyspace's lock.
pub type Dictionary = Arc<RwLock<Terms>>;

#[derive(Default)]
pub struct Terms {
    set: BTreeSet<Vec<u8>>,
    bytes: usize,
}

impl Terms {
    pub fn contains(&self, term: &[u8]) -> bool {
        self.set.contains(term)
    }

    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// The terms after this one, sorted.
    pub fn after(&self, term: Option<&[u8]>) -> impl Iterator<Item = &[u8]> {
        let from = term.map_or(Bound::Unbounded, Bound::Excluded);
        self.set.range::<[u8], _>((from, Bound::Unbounded)).map(Vec::as_slice)
    }
}

#[derive(Default)]
pub struct Dictionaries {
    databases: BTreeMap<u32, BTreeMap<Vec<u8>, Dictionary>>,
    bytes: usize,
}

/// The bytes of a term beside its text: its place in a tree whose nodes are two thirds full.
const TERM_BYTES: usize = 36;

impl Dictionaries {
    pub fn get(&self, database: u32, name: &[u8]) -> Option<&Dictionary> {
        self.databases.get(&database)?.get(name)
    }

    pub fn add(&mut self, database: u32, name: &[u8], terms: Vec<Vec<u8>>) {
        let here = self.databases.entry(database).or_default();
        let dictionary = &mut *here.entry(name.to_vec()).or_default().write();
        for term in terms {
            let bytes = term.len() + TERM_BYTES;
            if dictionary.set.insert(term) {
                dictionary.bytes += bytes;
                self.bytes += bytes;
            }
        }
    }

    /// Removes terms, and the dictionary with its last one.
    pub fn remove(&mut self, database: u32, name: &[u8], terms: &[Vec<u8>]) {
        let Some(here) = self.databases.get_mut(&database) else { return };
        let Some(dictionary) = here.get(name) else { return };
        let is_empty = {
            let dictionary = &mut *dictionary.write();
            for term in terms.iter().filter(|term| dictionary.set.remove(*term)) {
                dictionary.bytes -= term.len() + TERM_BYTES;
                self.bytes -= term.len() + TERM_BYTES;
            }
            dictionary.set.is_empty()
        };
        if is_empty {
            here.remove(name);
        }
    }

    /// Removes the dictionaries of the databases for which `which` is true, and returns them: to free large
    /// ones takes time.
    pub fn take_all(&mut self, which: impl Fn(u32) -> bool) -> Vec<Dictionary> {
        let mut taken = Vec::new();
        self.databases.retain(|&database, here| {
            let is_kept = !which(database);
            if !is_kept {
                taken.extend(std::mem::take(here).into_values());
            }
            is_kept
        });
        self.bytes -= taken.iter().map(|dictionary| dictionary.read().bytes).sum::<usize>();
        taken
    }

    pub fn swap(&mut self, first: u32, second: u32) {
        let [of_first, of_second] = [first, second].map(|database| self.databases.remove(&database));
        for (database, here) in [(first, of_second), (second, of_first)] {
            if let Some(here) = here {
                self.databases.insert(database, here);
            }
        }
    }

    /// Calls `each` with every dictionary, and its terms in parts of at most `most`.
    pub fn each_part(&self, most: usize, mut each: impl FnMut(u32, &[u8], &[Vec<u8>])) {
        for (&database, here) in &self.databases {
            for (name, terms) in here {
                let terms: Vec<Vec<u8>> = terms.read().after(None).map(<[u8]>::to_vec).collect();
                terms.chunks(most).for_each(|part| each(database, name, part));
            }
        }
    }

    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }
}
