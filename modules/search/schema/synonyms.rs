//! Groups of terms that are searched for together.

use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
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
}

impl SharedSynonyms {
    /// Adds terms in lower case to a group.
    pub fn add(&self, group: &[u8], terms: &[Vec<u8>]) {
        let mut synonyms = self.0.write();
        for term in terms {
            synonyms.groups.entry(group.to_vec()).or_default().insert(term.clone());
            synonyms.terms.entry(term.clone()).or_default().insert(group.to_vec());
        }
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

    /// At least as many as `of` returns.
    pub fn count_max(&self, term: &[u8]) -> usize {
        let synonyms = self.0.read();
        let groups = synonyms.terms.get(term).into_iter().flatten();
        groups.filter_map(|group| synonyms.groups.get(group)).map(BTreeSet::len).sum()
    }

    /// Calls `each` with every term and the names of its groups.
    pub fn each_term(&self, mut each: impl FnMut(&[u8], &BTreeSet<Vec<u8>>)) {
        self.0.read().terms.iter().for_each(|(term, groups)| each(term, groups));
    }

    /// The number of terms.
    pub fn len(&self) -> usize {
        self.0.read().terms.len()
    }

    /// Calls `each` with every group, and its terms in parts of at most so many.
    pub fn each_part(&self, most: usize, mut each: impl FnMut(&[u8], &[Vec<u8>])) {
        for (group, terms) in &self.0.read().groups {
            let terms: Vec<Vec<u8>> = terms.iter().cloned().collect();
            terms.chunks(most).for_each(|part| each(group, part));
        }
    }
}
