//! What remains of a dropped index: its vectors to which hashes still hold handles.
//!
//! They are copied back to the hashes in slices, in the background, so that the memory can be freed; until
//! then it is counted. A walk over all keys can miss a key that is renamed or moved meanwhile, so the walk is
//! repeated while a handle is left. Where another index has the same vector, the hash gets a handle to that
//! one at its next change: looking for it here, for each field, would cost more than it saves.

use crate::index::{Index, slice};
use engramdb_engine::env::Clock;
use engramdb_engine::keyspace::{Housing, ValueRef};
use engramdb_engine::types::House;
use engramdb_vector::Vectors;
use std::sync::{Arc, Weak};

/// Keys that one step looks at.
const STEP_KEYS: usize = 64;

/// The vectors of one field. Where in the keyspace its hashes are is not known: keys are renamed and moved.
pub struct Leftover {
    house: Arc<dyn House>,
    vectors: Weak<Vectors>,
    database: u32,
    cursor: u64,
}

impl Leftover {
    /// The leftovers of all vector fields of a dropped index.
    pub fn of(index: &Index) -> impl Iterator<Item = Leftover> {
        let structures = index.vectors.iter().flatten().map(|vectors| vectors.structure());
        structures.map(|structure| Leftover::new(structure.home(), structure.index().vectors()))
    }

    /// The vectors that hashes know by this home.
    pub fn new(house: Arc<dyn House>, vectors: &Arc<Vectors>) -> Leftover {
        Leftover { house, vectors: Arc::downgrade(vectors), database: 0, cursor: 0 }
    }

    /// Looks at some more keys; false when no hash has a handle any more and no search uses the index.
    pub fn clear_slice(&mut self, keyspace: &mut Housing<'_>, clock: &dyn Clock) -> bool {
        if !slice(clock, || self.clear_step(keyspace)) {
            self.database = 0;
        }
        // One reference is this one's own.
        Arc::strong_count(&self.house) > 1
    }

    fn clear_step(&mut self, keyspace: &mut Housing<'_>) -> bool {
        let Some(keys) = keyspace.database(self.database) else { return false };
        let mut found = Vec::new();
        self.cursor = keys.scan(self.cursor, STEP_KEYS, &mut |entry| {
            if let ValueRef::Hash(hash) = entry.value() {
                let fields = hash.iter().filter(|field| field.value.stands_in(&self.house));
                found.extend(fields.map(|field| (entry.key().to_vec(), field.name.to_vec())));
            }
        });
        for (key, field) in found {
            keyspace.unhouse(self.database, &key, &field);
        }
        if self.cursor == 0 {
            self.database += 1;
        }
        true
    }

    /// The bytes of the vectors that are still referenced.
    pub fn memory_bytes(&self) -> usize {
        self.vectors.upgrade().map_or(0, |vectors| vectors.held_bytes())
    }
}
