//! Groups of terms that are searched for together.

use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// The synonyms of an index, shared by its definitions before and after an FT.ALTER.
#[derive(Clone, Debug, Default)]
pub struct SharedSynonyms(Arc<RwLock<Synonyms>>);

impl PartialEq for SharedSynonyms {
    fn eq(&self, other: &SharedSynonyms) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.read().groups == other.0.read().groups
    }
}

#[derive(Debug, Default)]
struct Synonyms {
    /// Terms, in lower case, by the group's name.
    groups: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Names of groups by term.
    terms: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    bytes: usize,
}

/// The bytes of a term in a group beside both texts: its places in trees whose nodes are two thirds full, and
/// sets that may hold nothing else.
const TERM_BYTES: usize = 256;

impl SharedSynonyms {
    /// Adds terms in lower case to a group.
    pub fn add(&self, group: &[u8], terms: &[Vec<u8>]) {
        let mut synonyms = self.0.write();
        let synonyms = &mut *synonyms;
        for term in terms {
            if synonyms.groups.entry(group.to_vec()).or_default().insert(term.clone()) {
                synonyms.terms.entry(term.clone()).or_default().insert(group.to_vec());
                synonyms.bytes += 2 * (term.len() + group.len()) + TERM_BYTES;
            }
        }
    }

    /// Bytes on the heap, estimated.
    pub fn heap_bytes(&self) -> usize {
        self.0.read().bytes
    }

    pub fn is_empty(&self) -> bool {
        self.0.read().groups.is_empty()
    }

    /// The other terms of the groups that a term is in, each once, sorted.
    pub fn of(&self, term: &[u8]) -> Vec<Vec<u8>> {
        let synonyms = self.0.read();
        let groups = synonyms.terms.get(term).into_iter().flatten();
        let terms = groups.filter_map(|group| synonyms.groups.get(group)).flatten();
        let others: BTreeSet<&Vec<u8>> = terms.filter(|other| *other != term).collect();
        others.into_iter().cloned().collect()
    }

    /// The names of the groups that a term is in, sorted.
    pub fn groups_of(&self, term: &[u8]) -> Vec<Vec<u8>> {
        self.0.read().terms.get(term).into_iter().flatten().cloned().collect()
    }

    /// At least as many as `of` returns.
    pub fn count_max(&self, term: &[u8]) -> usize {
        let synonyms = self.0.read();
        let groups = synonyms.terms.get(term).into_iter().flatten();
        groups.filter_map(|group| synonyms.groups.get(group)).map(BTreeSet::len).sum()
    }

    /// At most `most` terms after this one, sorted, with the names of their groups.
    pub fn terms_after(&self, term: Option<&[u8]>, most: usize) -> Vec<(Vec<u8>, Vec<Vec<u8>>)> {
        let from = term.map_or(Bound::Unbounded, Bound::Excluded);
        let synonyms = self.0.read();
        let terms = synonyms.terms.range::<[u8], _>((from, Bound::Unbounded)).take(most);
        terms.map(|(term, groups)| (term.clone(), groups.iter().cloned().collect())).collect()
    }

    /// Calls `each` with every group, and its terms in parts of at most `most`.
    pub fn each_part(&self, most: usize, mut each: impl FnMut(&[u8], &[Vec<u8>])) {
        for (group, terms) in &self.0.read().groups {
            let terms: Vec<Vec<u8>> = terms.iter().cloned().collect();
            terms.chunks(most).for_each(|part| each(group, part));
        }
    }
}
