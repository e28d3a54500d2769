//! The end of a start: indexes are made ready, before the first command.
//!
//! A saved graph is a cache, and has no vectors: it has got them back while the keys were read (`restoring`),
//! and only where they are what they were. What is left is a list of documents to be looked at, which is all
//! of them where nothing was saved. What differs is inserted, and what is gone is removed. A few insertions
//! wait in the field's tail, where searches find them exactly, while index workers bring them: the start does
//! not wait for that. A file that does not fit exactly is thrown away, and the report says so.

mod parallel;
pub mod restoring;
pub mod saved;

use self::parallel::in_parallel;
use self::restoring::{Restoring, Returning};
use crate::index::{Index, hash};
use crate::vectors::workers::Workers;
use crate::vectors::{Source, Structure, TAIL_MAX};
use engramdb_engine::env::Env;
use engramdb_engine::keyspace::{Housing, Keyspace, Value};
use engramdb_engine::types::{HashRef, Housed, StringRef};
use engramdb_vector::{Loading, Placed, VectorIndex};
use parking_lot::Mutex;
use std::sync::Arc;

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
}

/// Makes one index ready; says what was done.
pub fn finish(
    env: &Env,
    workers: &Workers,
    keyspace: &mut Housing<'_>,
    database: u32,
    mut restoring: Restoring,
) -> String {
    let start = env.clock.monotonic();
    let index = restoring.index.clone();
    let documents = read_documents(keyspace, database, &mut restoring);
    let mut work = Work::default();
    let mut housed = Vec::new();
    for (field, returning) in restoring.fields.into_iter().enumerate() {
        if index.vectors[field].is_some() {
            let places = fill(workers, &index, field, returning, &documents, &mut work);
            housed.extend(places.into_iter().map(|(id, place)| (id, field, place)));
        }
    }
    house(keyspace, database, &index, housed);
    index.finish_backfill();
    let elapsed = env.clock.monotonic().saturating_sub(start);
    index.spent(elapsed);
    let elapsed_ms = elapsed.as_millis();
    let name = String::from_utf8_lossy(&index.definition.name);
    let Work { loaded, inserted, waiting, removed } = work;
    let again = match waiting {
        0 => format!("{inserted} inserted again"),
        _ => format!("{} being inserted again", inserted + waiting),
    };
    match restoring.saved {
        Ok(()) => {
            format!(
                "index {name}: {loaded} graph nodes loaded, {again}, {removed} removed in {elapsed_ms} ms"
            )
        }
        Err(cause) => {
            let built = if waiting == 0 { "built" } else { "being built" };
            let note = match &*cause {
                "" => String::new(),
                cause => format!("; its saved graph was thrown away: {cause}"),
            };
            let count = index.documents.read().len();
            format!("index {name}: {built} from {count} documents in {elapsed_ms} ms{note}")
        }
    }
}

/// Takes over the field's graph, if there is one, and inserts what it lacks or has otherwise. Returns where
/// the vectors of the documents stand.
fn fill(
    workers: &Workers,
    index: &Arc<Index>,
    field: usize,
    returning: Option<Returning>,
    documents: &[(u32, HashRef<'_>)],
    work: &mut Work,
) -> Vec<(u32, Housed)> {
    let vectors = index.vectors[field].as_ref().expect("asked for vector fields only");
    let identifier = &index.definition.fields[field].identifier;
    let blobs = documents.iter().filter_map(|(id, hash)| Some((*id, hash.get(identifier)?.value)));
    let mut missing: Vec<(u32, StringRef<'_>)> = blobs.collect();
    let mut placed = Vec::new();
    if let Some(Returning::Graph(graph, home)) = returning {
        (placed, missing) = restore(&graph, &missing);
        let changed = missing.iter().filter(|(id, _)| graph.contains(*id)).count();
        let loaded = graph.len();
        let graph = graph.finish();
        work.loaded += loaded;
        work.removed += loaded - graph.len() - changed;
        vectors.adopt(Structure::with_home(graph, home));
    }
    // The same end of the log makes the same graph.
    missing.sort_unstable_by_key(|&(id, _)| id);
    let structure = vectors.structure();
    let mut housed: Vec<(u32, Housed)> =
        placed.into_iter().map(|(id, placed)| (id, structure.house(placed))).collect();
    if missing.len() <= IN_TAIL_MAX {
        match structure.graph() {
            Some(_) => work.waiting += missing.len(),
            None => work.inserted += missing.len(),
        }
        for &(id, blob) in &missing {
            // By one worker, in this order. First come those who write now.
            let (place, calls) = blob.with_bytes(|blob| vectors.set(Source::Backfill, id, blob, 1));
            housed.extend(place.map(|place| (id, place)));
            if calls {
                workers.call(vectors);
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

/// Keys whose places in the table are read together.
const HOUSED_AHEAD: usize = 16;

/// Lets hashes stand where their vectors do.
fn house(keyspace: &mut Housing<'_>, database: u32, index: &Index, housed: Vec<(u32, usize, Housed)>) {
    let documents = index.documents.read();
    let keys: Vec<Option<&[u8]>> = housed.iter().map(|(id, ..)| documents.key(*id)).collect();
    for (at, (_, field, place)) in housed.into_iter().enumerate() {
        if at % HOUSED_AHEAD == 0
            && let Some(database) = keyspace.database(database)
        {
            database.prefetch(keys[at..].iter().take(HOUSED_AHEAD).flatten().copied());
        }
        let key = keys[at].expect("a document has a key");
        index.house(keyspace, (database, key), [(field, place)]);
    }
}

/// Documents that a thread restores before it takes more.
const RESTORED_AT_ONCE: usize = 512;

type Restored<'k> = (Vec<(u32, Placed)>, Vec<(u32, StringRef<'k>)>);

/// Gives a graph vectors back, on all cores. Returns where they stand, and those that the graph does not
/// have.
fn restore<'k>(graph: &Loading, blobs: &[(u32, StringRef<'k>)]) -> Restored<'k> {
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
    all.into_inner()
}

/// Indexes everything but vectors, of what is on the list. Keys that an earlier run knew keep their ids; new
/// ones get theirs in the order of the keys, which, unlike the table's order, is the same in every process:
/// the same data makes the same graph.
fn read_documents<'k>(
    keyspace: &'k Keyspace,
    database: u32,
    restoring: &mut Restoring,
) -> Vec<(u32, HashRef<'k>)> {
    let listed = restoring.listed();
    let index = &restoring.index;
    let keys: Vec<(&[u8], Option<HashRef<'k>>)> = match &listed {
        Some(listed) => listed.iter().map(|key| (&key[..], hash(keyspace, database, key))).collect(),
        None => covered(keyspace, database, index).collect(),
    };
    let mut documents = index.documents.write();
    let (known, mut new): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|(key, _)| documents.id(key).is_some());
    new.sort_unstable_by_key(|&(key, _)| key);
    let (mut read, mut gone) = (Vec::new(), Vec::new());
    for (key, hash) in known.into_iter().chain(new) {
        if let Some(id) = documents.id(key) {
            restoring.forget(id);
        }
        match hash.and_then(|hash| Some((index.read(key, hash)?, hash))) {
            Some((content, hash)) => read.push((documents.upsert(key, &content), hash)),
            None => gone.push(key),
        }
    }
    // In the end, so that new documents do not get the ids of those that are gone, and pass for them in the
    // graph.
    gone.into_iter().for_each(|key| _ = documents.remove(key));
    documents.end_reservation();
    read
}

/// All keys that could be documents.
fn covered<'k>(
    keyspace: &'k Keyspace,
    database: u32,
    index: &Index,
) -> impl Iterator<Item = (&'k [u8], Option<HashRef<'k>>)> {
    let entries = keyspace.database(database).into_iter().flat_map(|keys| keys.iter());
    entries.filter(|entry| index.definition.covers(entry.key())).filter_map(|entry| match entry.value() {
        Value::Hash(hash) => Some((entry.key(), Some(hash))),
        _ => None,
    })
}
