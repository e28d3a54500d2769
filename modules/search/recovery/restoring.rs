//! Restores an index at a start: compares its saved form with the keys while they are read.
//!
//! A key that the earlier run indexed gets its id back, and its vectors their places in the graph, as soon as
//! it is read from the snapshot (by several threads at once) or from the log. All other keys are put on a
//! list: unknown keys, keys with changed vectors, and keys that change again. The list is processed when all
//! keys are loaded (`recovery`). So the common start reads each key once, and copies each vector once: from
//! the read buffer to its place, before the hash is made.
//!
//! An index that was created when keys existed already does not follow the reading; then all keys are on the
//! list.

use super::saved::Saved;
use crate::documents::filtering::accepts;
use crate::documents::reading::{self, DocumentValues, pair_of};
use crate::documents::{DocumentContent, Documents};
use crate::index::Index;
use crate::index::leftover::Leftover;
use crate::registry::prefixes::{PrefixTree, shortest};
use crate::vectors::{Structure, home_of, parameters};
use engramdb_engine::effect::Effect;
use engramdb_engine::hashing::{HashMap, HashSet};
use engramdb_engine::keyspace::{DocumentType, Housing};
use engramdb_engine::module::{Follower, HousedContent, ReadHash};
use engramdb_engine::store::document::Document;
use engramdb_engine::types::{House, Housed};
use engramdb_vector::{Loading, Placed};
use parking_lot::Mutex;
use std::sync::Arc;

/// One index that is being restored.
pub struct Restoring {
    pub index: Arc<Index>,
    /// The outcome of loading the saved file: the error says why it cannot be used, and is empty if there is
    /// none.
    pub saved: Result<(), String>,
    /// By field; `None` for fields without vectors to restore.
    pub fields: Vec<Option<Returning>>,
    /// Saved graphs of fields that the index does not have yet: the log may have an FT.ALTER that adds them.
    later: Vec<(usize, Loading)>,
    /// Keys are compared while they are read; otherwise all are on the list.
    follows: bool,
    /// Saved documents have several vectors in a field.
    has_rows: bool,
    /// Keys to process at the end.
    list: Mutex<HashSet<Vec<u8>>>,
}

/// The target of a field's restored vectors.
pub enum Returning {
    /// A saved graph takes back the vectors that it had.
    Graph(Box<Loading>, Arc<dyn House>),
    /// A flat index takes all vectors as they are read.
    Flat(Arc<Structure>),
}

impl Returning {
    /// The target for a field's vectors. A saved graph is taken from `graphs`.
    fn of(
        index: &Index,
        field: usize,
        graphs: &mut Vec<(usize, Loading)>,
        follows: bool,
    ) -> Option<Returning> {
        let vectors = index.vectors[field].as_ref()?;
        let structure = vectors.structure();
        if structure.graph().is_none() {
            return follows.then_some(Returning::Flat(structure));
        }
        let (_, graph) = graphs.swap_remove(graphs.iter().position(|(of, _)| *of == field)?);
        let home = home_of(graph.vectors());
        // A graph with other parameters cannot be used.
        (graph.parameters() == parameters(vectors.options())).then(|| Returning::Graph(Box::new(graph), home))
    }

    /// A handle to the restored vector; `None` if the graph had another one, or it is no valid vector.
    fn restore(&self, id: u32, vector: &[u8]) -> Option<Housed> {
        let housed = |house: &Arc<dyn House>, placed: Placed| Housed::new(house.clone(), placed.into_slot());
        match self {
            Returning::Graph(loading, house) => Some(housed(house, loading.restore(id, vector)?)),
            Returning::Flat(structure) => {
                let placed = structure.index().place(vector).ok()?;
                structure.index().insert_placed(id, &placed);
                Some(structure.house(placed))
            }
        }
    }

    /// See `Loading::prefetch`.
    fn prefetch(&self, ids: impl Iterator<Item = u32>) {
        if let Returning::Graph(loading, _) = self {
            loading.prefetch(ids);
        }
    }

    /// Drops the restored vector, because the document may have another one now, or none.
    fn forget(&self, id: u32) {
        match self {
            Returning::Graph(loading, _) => loading.forget(id),
            Returning::Flat(structure) => _ = structure.index().remove(id),
        }
    }
}

impl Restoring {
    /// `follows` is true if no keys exist yet that the index could have missed.
    pub fn new(index: Arc<Index>, saved: Option<Result<Saved, String>>, follows: bool) -> Restoring {
        let has_vectors = |field: usize| index.vectors.get(field).is_some_and(Option::is_some);
        let (saved, mut graphs) = match saved {
            Some(Ok(Saved { keys, .. })) if !keys.fields_with_rows().all(has_vectors) => {
                (Err("it has vectors of other fields".to_owned()), Vec::new())
            }
            Some(Ok(Saved { keys, graphs })) => {
                index.documents.write().reserve(keys);
                (Ok(()), graphs)
            }
            Some(Err(cause)) => (Err(cause), Vec::new()),
            None => (Err(String::new()), Vec::new()),
        };
        let follows = follows && saved.is_ok();
        let has_rows = index.documents.read().has_rows();
        let of_field = |field| Returning::of(&index, field, &mut graphs, follows);
        let fields = (0..index.vectors.len()).map(of_field).collect();
        Restoring { fields, later: graphs, index, saved, follows, has_rows, list: Mutex::default() }
    }

    /// The log has added fields to the index: keys that were read before are processed again at the end.
    pub fn alter(&mut self, index: Arc<Index>) {
        self.index = index;
        for field in self.fields.len()..self.index.vectors.len() {
            self.fields.push(Returning::of(&self.index, field, &mut self.later, self.follows));
        }
        if self.follows {
            let documents = self.index.documents.read();
            let read = documents.keys().filter(|&(_, id)| documents.version_of(id) > 0);
            self.list.get_mut().extend(read.map(|(key, _)| key.to_vec()));
        }
    }

    /// True if all keys of the index are to be processed at the end.
    pub fn is_unlisted(&self) -> bool {
        !self.follows
    }

    /// Gives the keys to process, of an index for which they were not listed.
    pub fn list(&mut self, keys: Vec<Vec<u8>>) {
        assert!(!self.follows, "the keys were listed while they were read");
        self.follows = true;
        *self.list.get_mut() = keys.into_iter().collect();
    }

    /// Processes keys that were loaded or changed; the index covers all of them.
    fn meet(&self, keyspace: &mut Housing<'_>, database: u32, keys: &[&[u8]]) {
        let document = |&key| self.index.document(keyspace, database, key);
        let documents: Vec<Option<Document<'_>>> = keys.iter().map(document).collect();
        for (at, field, housed) in self.restore_all(keys, &documents) {
            self.index.house(keyspace, (database, keys[at]), [(field, housed)]);
        }
    }

    /// Indexes those documents that are unchanged since the earlier run (`None`: the value is of another
    /// type), and puts the other keys on the list. Returns the restored vectors: the key's position in
    /// `keys`, the field, and the handle.
    fn restore_all<V: DocumentValues>(
        &self,
        keys: &[&[u8]],
        read: &[Option<V>],
    ) -> Vec<(usize, usize, Housed)> {
        if !self.follows {
            return Vec::new();
        }
        let mut all_housed = Vec::with_capacity(keys.len());
        let mut met = Vec::with_capacity(keys.len());
        for ((at, document), known) in read.iter().enumerate().zip(self.known(keys)) {
            // Neither a document now nor before: not indexed.
            if document.is_none() && known == Known::No {
                continue;
            }
            let waiting = known.waiting().zip(document.as_ref());
            let housed = &mut |field, housed| all_housed.push((at, field, housed));
            let content = waiting
                .and_then(|(id, document)| Some((id, self.restore((id, keys[at]), document, housed)?)));
            met.push((keys[at], content));
        }
        let mut documents = self.index.documents.write();
        for (key, content) in met {
            match content {
                Some((id, content)) => documents.put(id, &content),
                None => _ = self.list.lock().insert(key.to_vec()),
            }
        }
        all_housed
    }

    /// The index's knowledge of each key. Prefetches the memory that the caller will read for them: keys come
    /// in random order, and their cache misses take most of a start's time.
    fn known(&self, keys: &[&[u8]]) -> Vec<Known> {
        let documents = self.index.documents.read();
        documents.prefetch_keys(keys);
        let list = self.list.lock();
        let known = |&key: &&[u8]| match documents.id(key) {
            Some(id) if documents.version_of(id) == 0 && !list.contains(key) => Known::Waiting(id),
            Some(_) => Known::Met,
            None => Known::No,
        };
        let known: Vec<Known> = keys.iter().map(known).collect();
        for returning in self.fields.iter().flatten() {
            returning.prefetch(known.iter().filter_map(|known| known.waiting()));
        }
        known
    }

    /// The content of a document; `None` if it cannot be indexed, or a vector has changed. Calls `housed`
    /// with the handle of each restored vector.
    fn restore(
        &self,
        (id, key): (u32, &[u8]),
        document: &impl DocumentValues,
        housed: &mut dyn FnMut(usize, Housed),
    ) -> Option<DocumentContent> {
        if !accepts(&self.index.definition, key, document) {
            return None;
        }
        // Vectors that equal the earlier run's are valid, so only their size is checked.
        let content = reading::read_trusting(&self.index.definition, document).ok()?;
        for (field, _) in self.index.vectors.iter().enumerate().filter(|(_, vectors)| vectors.is_some()) {
            let returning = self.fields[field].as_ref();
            let rows = self.rows(id, field);
            let (mut number, mut is_whole) = (0, true);
            self.index.each_vector(document, field, |vector| {
                let id = if number == 0 { Some(id) } else { rows.get(number - 1).copied() };
                match returning.zip(id).and_then(|(returning, id)| returning.restore(id, vector)) {
                    Some(place) if number == 0 => housed(field, place),
                    Some(_) => {}
                    None => is_whole = false,
                }
                number += 1;
            });
            if !is_whole || rows.len() != number.saturating_sub(1) {
                return None;
            }
        }
        Some(content)
    }

    /// The rows that the earlier run gave to a document.
    fn rows(&self, id: u32, field: usize) -> Vec<u32> {
        match self.has_rows {
            true => self.index.documents.read().rows(id, field).to_vec(),
            false => Vec::new(),
        }
    }

    /// Processes a change of a key that the index covers, during replay of the log.
    pub fn observe(&self, keyspace: &mut Housing<'_>, (database, key): (u32, &[u8]), effect: &Effect<'_>) {
        // Expiry is not indexed: searches check it.
        if !matches!(effect, Effect::Expire { .. } | Effect::HashExpire { .. }) {
            self.meet(keyspace, database, &[key]);
        }
    }

    /// Drops the restored vectors of a document, which may have changed or be gone.
    pub fn forget(&self, documents: &Documents, id: u32) {
        for (field, returning) in self.fields.iter().enumerate() {
            let Some(returning) = returning else { continue };
            documents.vector_ids(id, field).for_each(|id| returning.forget(id));
        }
    }

    /// The memory that hashes refer to already, for an index that is dropped before it is restored.
    pub fn leftovers(&self) -> impl Iterator<Item = Leftover> {
        self.fields.iter().flatten().map(|returning| match returning {
            Returning::Graph(loading, home) => Leftover::new(home.clone(), loading.vectors()),
            Returning::Flat(structure) => Leftover::new(structure.home(), structure.index().vectors()),
        })
    }

    /// Takes the list of keys to process after all keys are loaded; `None` for all keys.
    pub fn listed(&mut self) -> Option<Vec<Vec<u8>>> {
        self.follows.then(|| std::mem::take(self.list.get_mut()).into_iter().collect())
    }
}

/// The index's knowledge of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    No,
    /// The earlier run indexed it under this id, and it was not read yet.
    Waiting(u32),
    /// It was read before, or is on the list.
    Met,
}

impl Known {
    fn waiting(self) -> Option<u32> {
        match self {
            Known::Waiting(id) => Some(id),
            Known::No | Known::Met => None,
        }
    }
}

/// The indexes that follow the keys of a snapshot, by their databases and the prefixes of keys.
#[derive(Default)]
pub struct Followers {
    all: Vec<Arc<Restoring>>,
    /// Numbers in `all`.
    covering: HashMap<u32, PrefixTree<usize>>,
}

impl Followers {
    pub fn new(restoring: impl Iterator<Item = (u32, Arc<Restoring>)>) -> Followers {
        let mut followers = Followers::default();
        for (number, (database, restoring)) in restoring.enumerate() {
            let tree = followers.covering.entry(database).or_default();
            for prefix in shortest(&restoring.index.definition.prefixes) {
                tree.insert(prefix, number);
            }
            followers.all.push(restoring);
        }
        followers
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Calls `each` with each index that covers some of these keys, and with their places in the list.
    fn by_index<'k>(
        &self,
        database: u32,
        keys: impl Iterator<Item = &'k [u8]>,
        mut each: impl FnMut(&Restoring, &[usize]),
    ) {
        let Some(tree) = self.covering.get(&database) else { return };
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for (place, key) in keys.enumerate() {
            tree.covering(key, |&number| pairs.push((number, place)));
        }
        pairs.sort_unstable();
        for of_one in pairs.chunk_by(|one, other| one.0 == other.0) {
            let places: Vec<usize> = of_one.iter().map(|&(_, place)| place).collect();
            each(&self.all[of_one[0].0], &places);
        }
    }
}

impl Follower for Followers {
    fn hashes(&self, database: u32, hashes: &[ReadHash<'_>]) -> Vec<HousedContent> {
        let mut all_housed = Vec::new();
        self.by_index(database, hashes.iter().map(|hash| hash.key), |restoring, numbers| {
            let definition = &restoring.index.definition;
            if definition.documents != DocumentType::Hash {
                return;
            }
            let covered: Vec<Option<ReadHash<'_>>> =
                numbers.iter().map(|&number| Some(hashes[number])).collect();
            let keys: Vec<&[u8]> = covered.iter().flatten().map(|hash| hash.key).collect();
            for (at, field, housed) in restoring.restore_all(&keys, &covered) {
                let pair = covered[at].and_then(|hash| pair_of(&hash, &definition.fields[field].identifier));
                let (pair, _) = pair.expect("the vector was read from this field");
                all_housed.push(HousedContent { hash: numbers[at], pair, housed });
            }
        });
        all_housed
    }

    fn loaded(&self, keyspace: &mut Housing<'_>, database: u32, keys: &[&[u8]]) {
        self.by_index(database, keys.iter().copied(), |restoring, places| {
            let covered: Vec<&[u8]> = places.iter().map(|&place| keys[place]).collect();
            restoring.meet(keyspace, database, &covered);
        });
    }
}
