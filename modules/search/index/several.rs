//! The vectors of documents that have several in a field: from documents to the ids of their vectors, and
//! back. For an index without such documents all of this is the identity.

use super::Index;
use crate::documents::Documents;
use crate::documents::ids::{IdSet, bitmap_of};
use engramdb_engine::hashing::HashSet;
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;

/// Ids that are looked up under one lock of the documents.
const LOOKED_UP: usize = 1024;

/// If a set has less than one in this many ids, listing the vectors of its documents is cheaper than asking
/// for the document of each vector.
const LISTED_SHARE: u64 = 64;

impl Index {
    /// Adds the documents of vectors that a search has found at this version, nearest first: those that are
    /// not yet `known`, each with its nearest vector. Leaves out what has changed since.
    pub fn add_documents(
        &self,
        version: u64,
        vectors: &[Neighbor],
        known: &mut HashSet<u32>,
        found: &mut Vec<Neighbor>,
    ) {
        for some in vectors.chunks(LOOKED_UP) {
            self.documents.read().add_documents(version, some, known, found);
        }
    }

    /// The documents of vectors, ordered as rows are.
    pub fn documents_of(&self, version: u64, vectors: Vec<Neighbor>) -> Vec<Neighbor> {
        if !self.documents.read().has_rows() {
            return vectors;
        }
        let (mut known, mut found) = (HashSet::default(), Vec::new());
        self.add_documents(version, &vectors, &mut known, &mut found);
        found.sort_unstable();
        found
    }

    /// The vectors that these documents have in a field.
    pub fn vector_set(&self, field: usize, documents: &RoaringBitmap) -> IdSet {
        let (owners, id_bound, each) = {
            let all = self.documents.read();
            (all.owners().clone(), all.id_bound(), all.vectors_each(field))
        };
        if owners.is_empty() {
            return IdSet::new(documents);
        }
        if documents.len() * LISTED_SHARE >= u64::from(id_bound) {
            let length = documents.len() as usize * each;
            return IdSet::of_owners(documents, owners, id_bound, length);
        }
        let mut vectors = Vec::new();
        let mut left = documents.iter();
        while left.len() > 0 {
            let all = self.documents.read();
            vectors.extend(left.by_ref().take(LOOKED_UP).flat_map(|id| all.vector_ids(id, field)));
        }
        IdSet::new(&bitmap_of(vectors))
    }

    /// The distance of a document's nearest vector from the query, as the index has them; `None` if it has
    /// no vector.
    pub fn indexed_distance(
        &self,
        documents: &Documents,
        field: usize,
        id: u32,
        query: &[u8],
    ) -> Option<f64> {
        let vectors = self.vectors[field].as_ref()?;
        let distances = documents.vector_ids(id, field).filter_map(|id| vectors.distance(id, query));
        distances.min_by(f64::total_cmp)
    }
}
