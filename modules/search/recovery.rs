//! Derived state at the start: indexes are made ready from the keyspace and from saved graphs, before the first command.
//!
//! A saved graph is a cache. It is loaded, and then each document is compared with the keyspace, vector bit for bit: what
//! is gone is removed, what differs or is missing is inserted. A file that does not fit exactly is thrown away, and the
//! report says so.

use crate::documents::vector_of;
use crate::index::Index;
use crate::module::{SearchModule, SearchOptions};
use crate::saved::{self, Saved};
use crate::vectors::{Structure, VectorField, parameters};
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::{Keyspace, Value};
use engramdb_engine::module::Exporter;
use engramdb_engine::types::Hash;
use engramdb_vector::VectorIndex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Up to so many insertions into a loaded graph are done in order by one thread: the same log tail then makes the same
/// graph, and the start gains nothing by more threads.
const IN_ORDER_MAX: usize = 1_000;

/// What was done for an index.
#[derive(Default)]
struct Work {
    loaded: usize,
    inserted: usize,
    removed: usize,
}

/// Makes one index ready; says what was done.
pub fn recover(options: &SearchOptions, keyspace: &Keyspace, database: u32, index: &Arc<Index>) -> String {
    let start = options.env.clock.monotonic();
    let name = String::from_utf8_lossy(&index.definition.name).into_owned();
    let saved = match &options.directory {
        Some(directory) => saved::load(&options.env, directory, index),
        None => Ok(None),
    };
    let (saved, note) = match saved {
        Ok(saved) => (saved, String::new()),
        Err(cause) => (None, format!("; its saved graph was thrown away: {cause}")),
    };
    let was_saved = saved.is_some();
    let Saved { id_bound, documents, graphs } =
        saved.unwrap_or(Saved { id_bound: 0, documents: Vec::new(), graphs: Vec::new() });
    index.documents.write().reserve(id_bound, documents);
    let documents = read_documents(keyspace, database, index);
    let mut work = Work::default();
    adopt(index, graphs, id_bound, &mut work);
    for (field, vectors) in index.vectors.iter().enumerate() {
        if let Some(vectors) = vectors {
            fill(options.threads, index, field, vectors, &documents, &mut work);
        }
    }
    index.finish_backfill();
    let elapsed_ms = options.env.clock.monotonic().saturating_sub(start).as_millis();
    let Work { loaded, inserted, removed } = work;
    match was_saved {
        true => format!(
            "index {name}: {loaded} graph nodes loaded, {inserted} inserted again, {removed} removed in {elapsed_ms} ms"
        ),
        false => format!("index {name}: built from {} documents in {elapsed_ms} ms{note}", documents.len()),
    }
}

/// Takes over the graphs that were built as the definition says, without the documents that are gone.
fn adopt(index: &Index, graphs: Vec<(usize, engramdb_vector::Hnsw)>, id_bound: u32, work: &mut Work) {
    let live = index.documents.read().live().clone();
    for (field, graph) in graphs {
        let Some(Some(vectors)) = index.vectors.get(field) else { continue };
        if graph.parameters() != parameters(vectors.options()) {
            continue;
        }
        work.loaded += graph.len();
        for id in (0..id_bound).filter(|&id| !live.contains(id) && graph.contains(id)) {
            graph.remove(id);
            work.removed += 1;
        }
        vectors.adopt(Structure::Graph(Box::new(graph)));
    }
}

/// Inserts what the structure lacks or has otherwise, and removes what the documents do not have.
fn fill(
    threads: usize,
    index: &Index,
    field: usize,
    vectors: &VectorField,
    documents: &[(u32, &Hash)],
    work: &mut Work,
) {
    let identifier = &index.definition.fields[field].identifier;
    let structure = vectors.structure();
    let structure = structure.index();
    let bytes = vectors.options().blob_bytes();
    let vector = |hash: &Hash| {
        let value = hash.get(identifier)?;
        let vector = value.value.with_bytes(|blob| vector_of(blob, bytes));
        Some(vector.expect("checked when the document was read"))
    };
    let removed = AtomicUsize::new(0);
    let mut held = Vec::new();
    // Bit for bit, where the blob lies: this is done for every document of every start.
    let differs = |&&(id, hash): &&(u32, &Hash)| match hash.get(identifier) {
        Some(value) => {
            !structure.vector(id, &mut held) || !value.value.with_bytes(|blob| is_blob_of(blob, &held))
        }
        None => {
            removed.fetch_add(usize::from(structure.remove(id)), Ordering::Relaxed);
            false
        }
    };
    let mut missing: Vec<(u32, &Hash)> = documents.iter().filter(differs).copied().collect();
    missing.sort_unstable_by_key(|&(id, _)| id);
    let threads = if missing.len() <= IN_ORDER_MAX { 1 } else { threads };
    in_parallel(threads, &missing, |&(id, hash)| {
        let vector = vector(hash).expect("only documents with a vector are missing");
        structure.insert(id, &vector).expect("size and components were checked");
    });
    work.inserted += missing.len();
    work.removed += removed.into_inner();
}

/// Whether these are the components of the vector, and nothing more.
fn is_blob_of(blob: &[u8], vector: &[f32]) -> bool {
    let (components, rest) = blob.as_chunks::<4>();
    let same = |(bytes, held): (&[u8; 4], &f32)| u32::from_le_bytes(*bytes) == held.to_bits();
    rest.is_empty() && components.len() == vector.len() && components.iter().zip(vector).all(same)
}

/// Indexes everything but vectors. Keys that an earlier run knew keep their ids; new ones get theirs in the order of the
/// keys, which, unlike the table's order, is the same in every process: the same data makes the same graph.
fn read_documents<'k>(keyspace: &'k Keyspace, database: u32, index: &Index) -> Vec<(u32, &'k Hash)> {
    let mut documents = index.documents.write();
    let entries = keyspace.database(database).into_iter().flat_map(|keys| keys.iter());
    let hash = |value: &'k Value| match value {
        Value::Hash(hash) => Some(&**hash),
        _ => None,
    };
    let covered = entries
        .filter(|entry| index.definition.covers(entry.key()))
        .filter_map(|entry| Some((entry.key(), hash(entry.value())?)));
    let (known, mut new): (Vec<_>, Vec<_>) = covered.partition(|(key, _)| documents.is_reserved(key));
    new.sort_unstable_by_key(|&(key, _)| key);
    let read = known
        .into_iter()
        .chain(new)
        .filter_map(|(key, hash)| Some((documents.upsert(key, &index.read(key, hash)?), hash)))
        .collect();
    documents.end_reservation();
    read
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

/// Writes the graphs of all indexes; `None` where nothing is kept between runs.
pub fn exporter(module: &SearchModule) -> Option<Exporter> {
    let directory = module.options.directory.clone()?;
    let env = module.options.env.clone();
    let indexes: Vec<Arc<Index>> = module.indexes().map(|(_, index)| index.clone()).collect();
    Some(Box::new(move || export(&env, &directory, &indexes)))
}

fn export(env: &Env, directory: &Path, indexes: &[Arc<Index>]) -> Result<String, String> {
    let start = env.clock.monotonic();
    let failed = |error: std::io::Error| format!("cannot write to {}: {error}", directory.display());
    env.disk.create_dir_all(directory).map_err(failed)?;
    let mut nodes = 0;
    // One that is still being filled would come back as if it were whole, to no gain.
    for index in indexes.iter().filter(|index| !index.is_dropped() && !index.is_backfilling()) {
        nodes += saved::save(env, directory, index).map_err(failed)?;
    }
    let ids: Vec<u64> = indexes.iter().map(|index| index.definition.id).collect();
    saved::remove_others(&*env.disk, directory, &ids).map_err(failed)?;
    let elapsed = env.clock.monotonic().saturating_sub(start);
    Ok(format!("saved the graphs of {} indexes, {nodes} nodes, in {} ms", indexes.len(), elapsed.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::is_blob_of;

    #[test]
    fn a_vector_is_compared_bit_for_bit_and_whole() {
        let blob =
            |components: &[f32]| -> Vec<u8> { components.iter().flat_map(|x| x.to_le_bytes()).collect() };
        let vector = [1.0, -0.0, 3.5];
        assert!(is_blob_of(&blob(&vector), &vector));
        assert!(!is_blob_of(&blob(&[1.0, 0.0, 3.5]), &vector), "another zero is another vector");
        assert!(!is_blob_of(&blob(&[1.0, -0.0]), &vector));
        assert!(!is_blob_of(&blob(&[1.0, -0.0, 3.5, 0.0]), &vector));
        assert!(!is_blob_of(&blob(&vector)[..11], &vector));
    }
}
