//! Derived state at the start: indexes are made from the keyspace, with all cores, before the first command.

use crate::documents::vector_of;
use crate::index::Index;
use crate::module::{SearchModule, SearchOptions};
use engramdb_engine::keyspace::{Keyspace, Value};
use engramdb_engine::module::Exporter;
use engramdb_engine::types::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Makes one index ready; says what was done.
pub fn recover(options: &SearchOptions, keyspace: &Keyspace, database: u32, index: &Arc<Index>) -> String {
    let start = options.env.clock.monotonic();
    let documents = read_documents(keyspace, database, index);
    for (field, vectors) in index.vectors.iter().enumerate() {
        let Some(vectors) = vectors else { continue };
        let identifier = &index.definition.fields[field].identifier;
        let structure = vectors.structure();
        in_parallel(options.threads, &documents, |&(id, hash)| {
            let Some(value) = hash.get(identifier) else { return };
            let vector = value.value.with_bytes(|blob| vector_of(blob, vectors.options().blob_bytes()));
            let vector = vector.expect("checked when the document was read");
            structure.index().insert(id, &vector).expect("size and components were checked");
        });
    }
    index.finish_backfill();
    let elapsed = options.env.clock.monotonic().saturating_sub(start);
    let name = String::from_utf8_lossy(&index.definition.name);
    format!("index {name}: built from {} documents in {} ms", documents.len(), elapsed.as_millis())
}

/// Indexes everything but vectors.
fn read_documents<'k>(keyspace: &'k Keyspace, database: u32, index: &Index) -> Vec<(u32, &'k Hash)> {
    let mut documents = index.documents.write();
    let entries = keyspace.database(database).into_iter().flat_map(|keys| keys.iter());
    let hash = |value: &'k Value| match value {
        Value::Hash(hash) => Some(&**hash),
        _ => None,
    };
    entries
        .filter(|entry| index.definition.covers(entry.key()))
        .filter_map(|entry| Some((entry.key(), hash(entry.value())?)))
        .filter_map(|(key, hash)| Some((documents.upsert(key, &index.read(key, hash)?), hash)))
        .collect()
}

/// Runs `work` on every item, by several threads.
fn in_parallel<T: Sync>(threads: usize, items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let run = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item);
        }
    };
    std::thread::scope(|scope| {
        (1..threads.max(1)).for_each(|_| _ = scope.spawn(run));
        run();
    });
}

pub fn exporter(_module: &SearchModule) -> Option<Exporter> {
    None
}
