//! Derived state at the start: indexes are made ready from the keyspace and from saved graphs, before the first command.
//!
//! A saved graph is a cache. It is loaded, and then each document is compared with the keyspace, vector bit for bit: what
//! is gone is removed, what differs or is missing is inserted. A few insertions wait in the field's tail, where searches
//! find them exactly, while index workers bring them: the start does not wait for that. A file that does not fit exactly is
//! thrown away, and the report says so.

use crate::index::Index;
use crate::module::{SearchModule, SearchOptions};
use crate::saved::{self, Saved};
use crate::vectors::{Structure, parameters};
use crate::workers::Workers;
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::{Keyspace, Value};
use engramdb_engine::module::Exporter;
use engramdb_engine::types::Hash;
use engramdb_engine::view::HashView;
use engramdb_vector::{Hnsw, VectorIndex};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Up to so many insertions are left to the index workers. Searching as many exactly takes about as long as searching the
/// graph.
const IN_TAIL_MAX: usize = 1_000;

/// What was done for an index.
#[derive(Default)]
struct Work {
    loaded: usize,
    inserted: usize,
    /// Left to the index workers.
    waiting: usize,
    removed: usize,
}

/// Makes one index ready; says what was done.
pub fn recover(
    options: &SearchOptions,
    workers: &Workers,
    keyspace: &Keyspace,
    database: u32,
    index: &Arc<Index>,
) -> String {
    let start = options.env.clock.monotonic();
    let name = String::from_utf8_lossy(&index.definition.name).into_owned();
    let opened = match &options.directory {
        Some(directory) => saved::open(&options.env, directory, index),
        None => Ok(None),
    };
    let (graphs, documents) = match opened {
        Ok(Some(Saved { id_bound, documents, graphs })) => {
            index.documents.write().reserve(id_bound, documents);
            // The disk and the keyspace are read at the same time.
            std::thread::scope(|scope| {
                let loading = scope.spawn(|| graphs.load());
                let documents = read_documents(keyspace, database, index);
                (loading.join().expect("loading a graph ends in a result"), documents)
            })
        }
        Ok(None) => (Err(String::new()), read_documents(keyspace, database, index)),
        Err(cause) => (Err(cause), read_documents(keyspace, database, index)),
    };
    let was_saved = graphs.is_ok();
    let note = match &graphs {
        Err(cause) if !cause.is_empty() => format!("; its saved graph was thrown away: {cause}"),
        _ => String::new(),
    };
    let mut work = Work::default();
    adopt(index, graphs.unwrap_or_default(), &mut work);
    for field in (0..index.vectors.len()).filter(|&field| index.vectors[field].is_some()) {
        fill(workers, index, field, &documents, &mut work);
    }
    index.finish_backfill();
    let elapsed_ms = options.env.clock.monotonic().saturating_sub(start).as_millis();
    let Work { loaded, inserted, waiting, removed } = work;
    let again = match waiting {
        0 => format!("{inserted} inserted again"),
        _ => format!("{} being inserted again", inserted + waiting),
    };
    match was_saved {
        true => {
            format!(
                "index {name}: {loaded} graph nodes loaded, {again}, {removed} removed in {elapsed_ms} ms"
            )
        }
        false => {
            let built = if waiting == 0 { "built" } else { "being built" };
            format!("index {name}: {built} from {} documents in {elapsed_ms} ms{note}", documents.len())
        }
    }
}

/// Takes over the graphs that were built as the definition says, without the documents that are gone.
fn adopt(index: &Index, graphs: Vec<(usize, Hnsw)>, work: &mut Work) {
    let (live, id_bound) = {
        let documents = index.documents.read();
        (documents.live().clone(), documents.id_bound())
    };
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
fn fill(workers: &Workers, index: &Arc<Index>, field: usize, documents: &[(u32, &Hash)], work: &mut Work) {
    let vectors = index.vectors[field].as_ref().expect("asked for vector fields only");
    let structure = vectors.structure();
    let structure = structure.index();
    let Differences { missing, gone } =
        differences(structure, &index.definition.fields[field].identifier, documents);
    work.removed += gone.into_iter().filter(|&id| structure.remove(id)).count();
    let vector = |hash| {
        let vector = index.vector(HashView::whole(hash), field);
        vector.expect("only documents with a vector are missing")
    };
    if missing.len() <= IN_TAIL_MAX {
        work.waiting += missing.len();
        for &(id, hash) in &missing {
            // By one worker, in this order: the same end of the log makes the same graph.
            if vectors.change(id, Some(&vector(hash)), 1) {
                workers.call(index, field);
            }
        }
    } else {
        work.inserted += missing.len();
        in_parallel(workers.count(), &missing, |&(id, hash)| {
            structure.insert(id, &vector(hash)).expect("size and components were checked");
        });
    }
}

/// What a structure says otherwise than the documents; both in the order of ids.
#[derive(Default)]
struct Differences<'k> {
    missing: Vec<(u32, &'k Hash)>,
    /// Documents without a vector.
    gone: Vec<u32>,
}

/// Documents that a thread compares before it takes more.
const COMPARED_AT_ONCE: usize = 512;

/// Compares bit for bit, where the blobs lie: this is done for every document of every start.
fn differences<'k>(
    structure: &dyn VectorIndex,
    identifier: &[u8],
    documents: &[(u32, &'k Hash)],
) -> Differences<'k> {
    let all = Mutex::new(Differences::default());
    let parts: Vec<_> = documents.chunks(COMPARED_AT_ONCE).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    in_parallel(cores.min(parts.len()), &parts, |part| {
        let mut found = Differences::default();
        let mut held = Vec::new();
        for &(id, hash) in *part {
            match hash.get(identifier) {
                None => found.gone.push(id),
                Some(field) => {
                    let is_same = structure.vector(id, &mut held)
                        && field.value.with_bytes(|blob| is_blob_of(blob, &held));
                    if !is_same {
                        found.missing.push((id, hash));
                    }
                }
            }
        }
        let mut all = all.lock();
        all.missing.append(&mut found.missing);
        all.gone.append(&mut found.gone);
    });
    let mut all = all.into_inner();
    all.missing.sort_unstable_by_key(|&(id, _)| id);
    all.gone.sort_unstable();
    all
}

/// Whether these are the components of the vector, and nothing more.
fn is_blob_of(blob: &[u8], vector: &[f32]) -> bool {
    let (components, rest) = blob.as_chunks::<4>();
    // To the end in any case: leaving early would keep this from being vectorized.
    let same = |(bytes, held): (&[u8; 4], &f32)| u32::from_le_bytes(*bytes) == held.to_bits();
    rest.is_empty()
        && components.len() == vector.len()
        && components.iter().zip(vector).fold(true, |all, pair| all & same(pair))
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
