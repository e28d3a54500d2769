//! Derived state at the start: indexes are made ready from the keyspace and from saved graphs, before the first command.
//!
//! A saved graph is a cache, and has no vectors: it gets them back from the keyspace, one by one, and only where they are what
//! they were. A document that differs or is missing is inserted, and what is gone is removed. A few insertions wait in the
//! field's tail, where searches find them exactly, while index workers bring them: the start does not wait for that. A file
//! that does not fit exactly is thrown away, and the report says so. In the end the hashes' fields stand in the index.

use crate::documents;
use crate::index::Index;
use crate::module::SearchModule;
use crate::saved::{self, Saved};
use crate::vectors::{Structure, TAIL_MAX, parameters};
use crate::workers::Workers;
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::{Housing, Keyspace, Value};
use engramdb_engine::module::Exporter;
use engramdb_engine::types::{Hash, Housed, StringValue};
use engramdb_engine::view::HashView;
use engramdb_vector::{Loading, Placed};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Up to so many insertions are left to the index workers.
const IN_TAIL_MAX: usize = TAIL_MAX;

/// What was done for an index.
#[derive(Default)]
struct Work {
    loaded: usize,
    inserted: usize,
    /// Left to the index workers.
    waiting: usize,
    removed: usize,
    /// Documents with something that is no vector after all.
    refused: Vec<u32>,
}

/// Makes one index ready; says what was done.
pub fn recover(
    env: &Env,
    workers: &Workers,
    keyspace: &mut Housing<'_>,
    database: u32,
    index: &Arc<Index>,
    saved: Option<Result<Saved, String>>,
) -> String {
    let start = env.clock.monotonic();
    let name = String::from_utf8_lossy(&index.definition.name).into_owned();
    let graphs = match saved {
        Some(Ok(Saved { id_bound, documents, graphs })) => {
            index.documents.write().reserve(id_bound, documents);
            Ok(graphs)
        }
        Some(Err(cause)) => Err(cause),
        None => Err(String::new()),
    };
    let documents = read_documents(keyspace, database, index);
    let was_saved = graphs.is_ok();
    let note = match &graphs {
        Err(cause) if !cause.is_empty() => format!("; its saved graph was thrown away: {cause}"),
        _ => String::new(),
    };
    let mut work = Work::default();
    let mut graphs: HashMap<usize, Loading> = graphs.unwrap_or_default().into_iter().collect();
    let mut housed = Vec::new();
    for field in (0..index.vectors.len()).filter(|&field| index.vectors[field].is_some()) {
        let places = fill(workers, index, field, graphs.remove(&field), &documents, &mut work);
        housed.extend(places.into_iter().map(|(id, place)| (id, field, place)));
    }
    let documents_count = documents.len();
    for &(id, hash) in documents.iter().filter(|(id, _)| work.refused.contains(id)) {
        index.refuse(id, hash);
    }
    house(keyspace, database, index, housed);
    index.finish_backfill();
    let elapsed_ms = env.clock.monotonic().saturating_sub(start).as_millis();
    let Work { loaded, inserted, waiting, removed, .. } = work;
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
            format!("index {name}: {built} from {documents_count} documents in {elapsed_ms} ms{note}")
        }
    }
}

/// Takes over the field's graph, if there is one that was built as the definition says, and inserts what it lacks or has
/// otherwise. Returns where the documents' vectors stand.
fn fill(
    workers: &Workers,
    index: &Arc<Index>,
    field: usize,
    graph: Option<Loading>,
    documents: &[(u32, &Hash)],
    work: &mut Work,
) -> Vec<(u32, Housed)> {
    let vectors = index.vectors[field].as_ref().expect("asked for vector fields only");
    let identifier = &index.definition.fields[field].identifier;
    let blobs = documents.iter().filter_map(|(id, hash)| Some((*id, &hash.get(identifier)?.value)));
    let mut missing: Vec<(u32, &StringValue)> = blobs.collect();
    let mut placed = Vec::new();
    if let Some(graph) = graph.filter(|graph| graph.parameters() == parameters(vectors.options())) {
        (placed, missing) = restore(&graph, &missing);
        let changed = missing.iter().filter(|(id, _)| graph.contains(*id)).count();
        work.loaded += graph.len();
        work.removed += graph.len() - placed.len() - changed;
        vectors.adopt(Structure::of(graph.finish()));
    }
    missing.retain(|(id, blob)| {
        let is_vector = blob.with_bytes(|blob| vectors.options().is_vector(blob));
        if !is_vector {
            work.refused.push(*id);
        }
        is_vector
    });
    let structure = vectors.structure();
    let mut housed: Vec<(u32, Housed)> =
        placed.into_iter().map(|(id, placed)| (id, structure.house(placed))).collect();
    if missing.len() <= IN_TAIL_MAX {
        work.waiting += missing.len();
        for &(id, blob) in &missing {
            // By one worker, in this order: the same end of the log makes the same graph.
            let (place, calls) = blob.with_bytes(|blob| vectors.set(id, blob, 1));
            housed.extend(place.map(|place| (id, place)));
            if calls {
                workers.call(index, field);
            }
        }
        return housed;
    }
    work.inserted += missing.len();
    let inserted = Mutex::new(Vec::with_capacity(missing.len()));
    in_parallel(workers.count(), &missing, |&(id, blob)| {
        let placed = blob.with_bytes(|blob| structure.index().place(blob)).expect("it was checked");
        structure.index().insert_placed(id, &placed);
        inserted.lock().push((id, structure.house(placed)));
    });
    housed.append(&mut inserted.into_inner());
    housed
}

/// Keys whose places in the table are on their way from memory while one is housed.
const HOUSED_AHEAD: usize = 8;

/// Lets hashes stand where their vectors do.
fn house(keyspace: &mut Housing<'_>, database: u32, index: &Index, housed: Vec<(u32, usize, Housed)>) {
    let documents = index.documents.read();
    let keys: Vec<Option<&[u8]>> = housed.iter().map(|(id, ..)| documents.key(*id)).collect();
    for (at, (_, field, place)) in housed.into_iter().enumerate() {
        if let (Some(Some(later)), Some(keys)) = (keys.get(at + HOUSED_AHEAD), keyspace.database(database)) {
            keys.prefetch(later);
        }
        // One that was refused has no key.
        if let Some(key) = keys[at] {
            index.house(keyspace, (database, key), [(field, place)]);
        }
    }
}

/// Documents that a thread restores before it takes more.
const RESTORED_AT_ONCE: usize = 512;

type Restored<'k> = (Vec<(u32, Placed)>, Vec<(u32, &'k StringValue)>);

/// Gives a graph its vectors back, on all cores: this is done for every document of every start. Returns where they stand,
/// and those that the graph does not have, in the order of ids.
fn restore<'k>(graph: &Loading, blobs: &[(u32, &'k StringValue)]) -> Restored<'k> {
    let all = Mutex::new((Vec::with_capacity(blobs.len()), Vec::new()));
    let parts: Vec<_> = blobs.chunks(RESTORED_AT_ONCE).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    in_parallel(cores.min(parts.len()), &parts, |part| {
        let (mut placed, mut missing) = (Vec::with_capacity(part.len()), Vec::new());
        for &(id, blob) in *part {
            match blob.with_bytes(|blob| graph.restore(id, blob)) {
                Some(place) => placed.push((id, place)),
                None => missing.push((id, blob)),
            }
        }
        let mut all = all.lock();
        all.0.append(&mut placed);
        all.1.append(&mut missing);
    });
    let (placed, mut missing) = all.into_inner();
    missing.sort_unstable_by_key(|&(id, _)| id);
    (placed, missing)
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
        .filter_map(|(key, hash)| {
            // What an earlier run knew is mostly as it was, which the graph tells; what is not is looked at then.
            let content = match documents.is_reserved(key) {
                true => documents::read_trusting(&index.definition, HashView::whole(hash)).ok(),
                false => None,
            };
            let content = content.or_else(|| index.read(key, hash))?;
            Some((documents.upsert(key, &content), hash))
        })
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
