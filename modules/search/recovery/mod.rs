//! The last step of a start: makes indexes complete before the first command.
//!
//! A saved graph is a cache without vectors. It gets its vectors back while the keys are read (`restoring`),
//! as far as they are unchanged. What remains is a list of documents to compare, which has all documents if
//! nothing was saved. Changed documents are inserted, and missing ones removed. A few insertions stay in the
//! field's tail, where searches find them exactly until index workers apply them: the start does not wait for
//! that. A file that does not match the index is discarded, and the report says so.

mod parallel;
pub mod restoring;
pub mod saved;

use self::parallel::in_parallel;
use self::restoring::{Restoring, Returning};
use crate::index::Index;
use crate::registry::prefixes::{PrefixTree, shortest};
use crate::vectors::workers::Workers;
use crate::vectors::{Source, Structure, TAIL_MAX};
use engramdb_engine::env::Env;
use engramdb_engine::hashing::HashMap;
use engramdb_engine::keyspace::{Housing, Keyspace};
use engramdb_engine::store::document::Document;
use engramdb_engine::types::Housed;
use engramdb_vector::{Loading, Placed, VectorIndex};
use parking_lot::Mutex;
use std::sync::Arc;

/// The most insertions that are left to the index workers.
const IN_TAIL_MAX: usize = TAIL_MAX;

/// The work done for an index: numbers of graph nodes.
#[derive(Default)]
struct Work {
    loaded: usize,
    inserted: usize,
    /// Insertions left to the index workers.
    waiting: usize,
    removed: usize,
}

/// With more indexes whose keys were not listed while they were read, one walk lists the keys of many.
const WALKING_MAX: usize = 8;
/// Indexes whose keys one walk over the keyspace collects, which bounds the memory for them.
const COLLECTED_AT_ONCE: usize = 256;

/// Completes the indexes, each with its database; returns reports for the log.
pub fn finish_all(
    env: &Env,
    workers: &Workers,
    keyspace: &mut Housing<'_>,
    mut all: Vec<(u32, Restoring)>,
) -> Vec<String> {
    let unlisted: Vec<&mut (u32, Restoring)> =
        all.iter_mut().filter(|(_, restoring)| restoring.is_unlisted()).collect();
    // A few indexes walk over the keyspace each for itself, which copies no keys.
    if unlisted.len() > WALKING_MAX {
        let mut rest = &mut { unlisted }[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at_mut(COLLECTED_AT_ONCE.min(rest.len()));
            collect(keyspace, now);
            rest = later;
        }
    }
    let finish = |(database, restoring)| finish(env, workers, keyspace, database, restoring);
    all.into_iter().map(finish).collect()
}

/// Lists the keys of these indexes, in one walk over the keyspace.
fn collect(keyspace: &Keyspace, indexes: &mut [&mut (u32, Restoring)]) {
    let mut trees: HashMap<u32, PrefixTree<usize>> = HashMap::default();
    for (number, (database, restoring)) in indexes.iter().enumerate() {
        for prefix in shortest(&restoring.index.definition.prefixes) {
            trees.entry(*database).or_default().insert(prefix, number);
        }
    }
    let mut keys: Vec<Vec<Vec<u8>>> = vec![Vec::new(); indexes.len()];
    for (database, tree) in trees {
        let entries = keyspace.database(database).into_iter().flat_map(|keys| keys.iter());
        for entry in entries {
            tree.covering(entry.key(), |&number| keys[number].push(entry.key().to_vec()));
        }
    }
    for ((_, restoring), keys) in indexes.iter_mut().zip(keys) {
        restoring.list(keys);
    }
}

/// Completes one index; returns a report for the log.
fn finish(
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

/// Adopts the field's saved graph, if there is one, and inserts documents that it lacks or that have changed.
/// Returns handles to the vectors of the documents.
fn fill(
    workers: &Workers,
    index: &Arc<Index>,
    field: usize,
    returning: Option<Returning>,
    documents: &[(u32, Document<'_>)],
    work: &mut Work,
) -> Vec<(u32, Housed)> {
    let vectors = index.vectors[field].as_ref().expect("asked for vector fields only");
    let identifier = &index.definition.fields[field].identifier;
    let with_vectors = documents.iter().filter(|(_, document)| document.has(identifier));
    let mut missing: Vec<(u32, Document<'_>)> = with_vectors.copied().collect();
    let mut placed = Vec::new();
    if let Some(Returning::Graph(graph, home)) = returning {
        (placed, missing) = restore(index, field, &graph, &missing);
        let changed = missing.iter().filter(|(id, _)| graph.contains(*id)).count();
        let loaded = graph.len();
        let graph = graph.finish();
        work.loaded += loaded;
        work.removed += (loaded - graph.len()).saturating_sub(changed);
        vectors.adopt(Structure::with_home(graph, home));
    }
    // A fixed order, so that recovery from the same log makes the same graph.
    missing.sort_unstable_by_key(|&(id, _)| id);
    let structure = vectors.structure();
    let mut housed: Vec<(u32, Housed)> =
        placed.into_iter().map(|(id, placed)| (id, structure.house(placed))).collect();
    if vectors_of(index, field, &missing) <= IN_TAIL_MAX {
        match structure.graph() {
            Some(_) => work.waiting += missing.len(),
            None => work.inserted += missing.len(),
        }
        for (id, document) in &missing {
            // One worker applies them in this order. As a backfill's they yield to live mutations.
            each_numbered(index, field, (*id, document), |id, number, vector| {
                let (place, calls) = vectors.set(Source::Backfill, id, vector, 1);
                housed.extend(place.filter(|_| number == 0).map(|place| (id, place)));
                if calls {
                    workers.call(vectors);
                }
            });
        }
        return housed;
    }
    work.inserted += missing.len();
    let inserted = Mutex::new(Vec::with_capacity(missing.len()));
    in_parallel(workers.count(), &missing, |(id, document)| {
        each_numbered(index, field, (*id, document), |id, number, vector| {
            let all = structure.index();
            // One of several vectors may have changed, and the others are there.
            if number > 0 && all.vector(id).is_some_and(|held| held.as_bytes() == vector) {
                return;
            }
            let placed = all.place(vector).expect("it was checked");
            all.insert_placed(id, &placed);
            if number == 0 {
                inserted.lock().push((id, structure.house(placed)));
            }
        });
    });
    housed.append(&mut inserted.into_inner());
    housed
}

/// How many vectors these documents have in a field.
fn vectors_of(index: &Index, field: usize, documents: &[(u32, Document<'_>)]) -> usize {
    let all = index.documents.read();
    documents.iter().map(|(id, _)| all.vector_ids(*id, field).count()).sum()
}

/// Calls `each` on the vectors of a document, with their ids, and with their numbers in the document.
fn each_numbered(
    index: &Index,
    field: usize,
    (id, document): (u32, &Document<'_>),
    mut each: impl FnMut(u32, usize, &[u8]),
) {
    let mut rows: Vec<u32> = Vec::new();
    let mut number = 0;
    index.each_vector(document, field, |vector| {
        if number == 1 {
            rows = index.documents.read().rows(id, field).to_vec();
        }
        each(if number == 0 { id } else { rows[number - 1] }, number, vector);
        number += 1;
    });
}

/// Keys whose table entries are prefetched together.
const HOUSED_AHEAD: usize = 16;

/// Replaces vectors in documents by their handles.
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

/// Documents in a thread's unit of work.
const RESTORED_AT_ONCE: usize = 512;

type Restored<'k> = (Vec<(u32, Placed)>, Vec<(u32, Document<'k>)>);

/// Gives a graph its vectors back, on all cores. Returns the vectors' places, and the documents whose vector
/// the graph does not have.
fn restore<'k>(
    index: &Index,
    field: usize,
    graph: &Loading,
    documents: &[(u32, Document<'k>)],
) -> Restored<'k> {
    let all = Mutex::new((Vec::with_capacity(documents.len()), Vec::new()));
    let parts: Vec<_> = documents.chunks(RESTORED_AT_ONCE).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    in_parallel(cores.min(parts.len()), &parts, |part| {
        let (mut placed, mut missing) = (Vec::with_capacity(part.len()), Vec::new());
        for (id, document) in *part {
            let (mut first, mut is_whole) = (None, true);
            each_numbered(index, field, (*id, document), |id, number, vector| {
                let place = graph.restore(id, vector);
                is_whole &= place.is_some();
                first = if number == 0 { place } else { first.take() };
            });
            match first {
                Some(place) if is_whole => placed.push((*id, place)),
                _ => missing.push((*id, *document)),
            }
        }
        let mut all = all.lock();
        all.0.append(&mut placed);
        all.1.append(&mut missing);
    });
    all.into_inner()
}

/// Indexes all values except vectors of the documents on the list, and returns these documents. Keys that an
/// earlier run indexed keep their ids. New keys get ids in the order of the keys, which is the same in every
/// process, unlike the table's order: the same data makes the same graph.
fn read_documents<'k>(
    keyspace: &'k Keyspace,
    database: u32,
    restoring: &mut Restoring,
) -> Vec<(u32, Document<'k>)> {
    let listed = restoring.listed();
    let index = &restoring.index;
    let keys: Vec<(&[u8], Option<Document<'k>>)> = match &listed {
        Some(listed) => {
            listed.iter().map(|key| (&key[..], index.document(keyspace, database, key))).collect()
        }
        None => index.covered(keyspace, database).map(|(key, document)| (key, Some(document))).collect(),
    };
    let mut documents = index.documents.write();
    let (known, mut new): (Vec<_>, Vec<_>) =
        keys.into_iter().partition(|(key, _)| documents.id(key).is_some());
    new.sort_unstable_by_key(|&(key, _)| key);
    let (mut read, mut gone) = (Vec::new(), Vec::new());
    for (key, document) in known.into_iter().chain(new) {
        if let Some(id) = documents.id(key) {
            restoring.forget(&documents, id);
        }
        match document.and_then(|document| Some((index.read(key, &document)?, document))) {
            Some((content, document)) => read.push((documents.upsert(key, &content), document)),
            None => gone.push(key),
        }
    }
    // Last, so that no new document gets the id of a missing one, whose vector the graph may still have.
    gone.into_iter().for_each(|key| _ = documents.remove(key));
    documents.end_reservation();
    read
}
