//! An index on its way back at a start: what an earlier run kept of it meets the keys while they are read.
//!
//! A key that the earlier run knew gets its id back, and its vectors their places in the graph, as soon as it
//! is read from the snapshot (by several threads at once) or from the log. Whatever is not plainly as it was
//! is put on a list: keys that nobody knew, other vectors, and every key that changes once more. The list is
//! gone through when all keys are there (`recovery`). So the common start touches each key once, and copies
//! each vector once: from what was read to its place, before there is a hash that has it.
//!
//! An index that was created when there were keys already does not follow: then all keys are on the list.

use super::saved::Saved;
use crate::documents::{self, Content, Fields, pair_of};
use crate::index::leftover::Leftover;
use crate::index::{Index, hash};
use crate::vectors::{Structure, home_of, parameters};
use engramdb_engine::effect::Effect;
use engramdb_engine::hashing::HashSet;
use engramdb_engine::keyspace::Housing;
use engramdb_engine::module::{Follower, HousedContent, ReadHash};
use engramdb_engine::shard::view::HashView;
use engramdb_engine::types::{House, Housed};
use engramdb_vector::{Loading, Placed};
use parking_lot::Mutex;
use std::sync::Arc;

/// One index.
pub struct Restoring {
    pub index: Arc<Index>,
    /// What became of the saved file: an error says why it is of no use, an empty one that there is none.
    pub saved: Result<(), String>,
    /// By field; `None` where nothing comes back.
    pub fields: Vec<Option<Returning>>,
    follows: bool,
    list: Mutex<HashSet<Vec<u8>>>,
}

/// How the vectors of a field come back.
pub enum Returning {
    /// To a saved graph, those that it had.
    Graph(Box<Loading>, Arc<dyn House>),
    /// To a flat index, as they are met.
    Flat(Arc<Structure>),
}

impl Returning {
    /// `None` if the vector is not what the earlier run had, or is none.
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

    /// The document may have another vector now, or none.
    fn forget(&self, id: u32) {
        match self {
            Returning::Graph(loading, _) => loading.forget(id),
            Returning::Flat(structure) => _ = structure.index().remove(id),
        }
    }
}

impl Restoring {
    /// `follows` if there are no keys yet that the index could have missed.
    pub fn new(index: Arc<Index>, saved: Option<Result<Saved, String>>, follows: bool) -> Restoring {
        let (saved, mut graphs) = match saved {
            Some(Ok(Saved { keys, graphs })) => {
                index.documents.write().reserve(keys);
                (Ok(()), graphs)
            }
            Some(Err(cause)) => (Err(cause), Vec::new()),
            None => (Err(String::new()), Vec::new()),
        };
        let follows = follows && saved.is_ok();
        let fields = index.vectors.iter().enumerate().map(|(field, vectors)| {
            let vectors = vectors.as_ref()?;
            let structure = vectors.structure();
            if structure.graph().is_none() {
                return follows.then_some(Returning::Flat(structure));
            }
            let (_, graph) = graphs.swap_remove(graphs.iter().position(|(of, _)| *of == field)?);
            let home = home_of(graph.vectors());
            // One that was built otherwise is of no use.
            (graph.parameters() == parameters(vectors.options()))
                .then(|| Returning::Graph(Box::new(graph), home))
        });
        let fields = fields.collect();
        Restoring { fields, index, saved, follows, list: Mutex::default() }
    }

    /// These keys, of those that the index covers, are there, or changed.
    fn meet(&self, keyspace: &mut Housing<'_>, database: u32, keys: &[&[u8]]) {
        let hash = |&key| Some(HashView::whole(hash(keyspace, database, key)?));
        let hashes: Vec<Option<HashView<'_>>> = keys.iter().map(hash).collect();
        for (at, field, housed) in self.restore_all(keys, &hashes) {
            self.index.house(keyspace, (database, keys[at]), [(field, housed)]);
        }
    }

    /// Takes the hashes of these keys (`None`: one is no hash), if they are as the earlier run had them, and
    /// puts the other keys on the list. Returns which vectors stand in the index: number of the key, field,
    /// and where.
    fn restore_all<H: Fields>(&self, keys: &[&[u8]], hashes: &[Option<H>]) -> Vec<(usize, usize, Housed)> {
        if !self.follows {
            return Vec::new();
        }
        let mut all_housed = Vec::with_capacity(keys.len());
        let mut met = Vec::with_capacity(keys.len());
        for ((at, hash), known) in hashes.iter().enumerate().zip(self.known(keys)) {
            // One that is no hash, and was none before, is no affair of the index.
            if hash.is_none() && known == Known::No {
                continue;
            }
            let waiting = known.waiting().zip(hash.as_ref());
            let housed = &mut |field, housed| all_housed.push((at, field, housed));
            let content = waiting.and_then(|(id, hash)| Some((id, self.restore(id, hash, housed)?)));
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

    /// What is known of each key. Memory that will be read of them is on its way when this returns: keys come
    /// in no order that any table has, and their cache misses are most of what a start waits for.
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

    /// The content of a document, if it is as the earlier run had it. Says where its vectors stand, by field.
    fn restore(
        &self,
        id: u32,
        hash: &impl Fields,
        housed: &mut dyn FnMut(usize, Housed),
    ) -> Option<Vec<Content>> {
        let definition = &self.index.definition;
        // Whether vectors are vectors is known of those that the earlier run had.
        let content = documents::read_trusting(definition, hash).ok()?;
        for (field, _) in self.index.vectors.iter().enumerate().filter(|(_, vectors)| vectors.is_some()) {
            let returning = self.fields[field].as_ref();
            let restore = |vector: &[u8]| returning?.restore(id, vector);
            if let Some(place) = hash.with(&definition.fields[field].identifier, restore) {
                housed(field, place?);
            }
        }
        Some(content)
    }

    /// Follows a change of a key that the index covers, by the log.
    pub fn observe(&self, keyspace: &mut Housing<'_>, (database, key): (u32, &[u8]), effect: &Effect<'_>) {
        // What has expired is the reader's question.
        if !matches!(effect, Effect::Expire { .. } | Effect::HashExpire { .. }) {
            self.meet(keyspace, database, &[key]);
        }
    }

    /// The document may be another one now, or none.
    pub fn forget(&self, id: u32) {
        self.fields.iter().flatten().for_each(|returning| returning.forget(id));
    }

    /// What it leaves behind if the index is dropped before it is back: where hashes stand already.
    pub fn leftovers(&self) -> impl Iterator<Item = Leftover> {
        self.fields.iter().flatten().map(|returning| match returning {
            Returning::Graph(loading, home) => Leftover::new(home.clone(), loading.vectors()),
            Returning::Flat(structure) => Leftover::new(structure.home(), structure.index().vectors()),
        })
    }

    /// Keys that are to be looked at now that all are there; `None` if it is all of them.
    pub fn listed(&mut self) -> Option<Vec<Vec<u8>>> {
        self.follows.then(|| std::mem::take(self.list.get_mut()).into_iter().collect())
    }
}

/// What the index knows of a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    No,
    /// The earlier run did, and it was not met before.
    Waiting(u32),
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

/// Those who follow the keys of a snapshot, by database.
pub struct Followers(pub Vec<(u32, Arc<Restoring>)>);

impl Follower for Followers {
    fn hashes(&self, database: u32, hashes: &[ReadHash<'_>]) -> Vec<HousedContent> {
        let mut all_housed = Vec::new();
        for (_, restoring) in self.0.iter().filter(|(of, _)| *of == database) {
            let definition = &restoring.index.definition;
            let covered = (0..).zip(hashes).filter(|(_, hash)| definition.covers(hash.key));
            let (numbers, hashes): (Vec<usize>, Vec<Option<ReadHash<'_>>>) =
                covered.map(|(number, hash)| (number, Some(*hash))).unzip();
            let keys: Vec<&[u8]> = hashes.iter().flatten().map(|hash| hash.key).collect();
            for (at, field, housed) in restoring.restore_all(&keys, &hashes) {
                let pair = hashes[at].and_then(|hash| pair_of(&hash, &definition.fields[field].identifier));
                let (pair, _) = pair.expect("a vector was read from there");
                all_housed.push(HousedContent { hash: numbers[at], pair, housed });
            }
        }
        all_housed
    }

    fn loaded(&self, keyspace: &mut Housing<'_>, database: u32, keys: &[&[u8]]) {
        for (_, restoring) in self.0.iter().filter(|(of, _)| *of == database) {
            let is_covered = |key: &&&[u8]| restoring.index.definition.covers(key);
            let covered: Vec<&[u8]> = keys.iter().filter(is_covered).copied().collect();
            restoring.meet(keyspace, database, &covered);
        }
    }
}
