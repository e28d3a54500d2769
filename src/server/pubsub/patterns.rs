//! Patterns with their subscribers, found by how a channel begins.
//!
//! A pattern's *prefix* is what comes before its first wildcard: a channel that matches begins with it.
//! Patterns are stored by their prefixes, and a message looks up each beginning of its channel that is as
//! long as some prefix. So ten thousand clients with a pattern each (`user:17:*`) do not make each message
//! try ten thousand patterns.

use super::{Names, Receivers};
use engramdb_engine::commands::glob_matches;
use engramdb_engine::hashing::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Default)]
pub struct Patterns {
    by_prefix: HashMap<Box<[u8]>, Names>,
    /// The lengths of the prefixes, in bytes, with the numbers of prefixes.
    lengths: BTreeMap<usize, usize>,
    count: usize,
}

impl Patterns {
    pub fn len(&self) -> usize {
        self.count
    }

    /// The subscribers of a pattern, which is entered if it is new.
    pub fn entry(&mut self, pattern: &Arc<[u8]>) -> &mut Receivers {
        let prefix = prefix(pattern);
        if !self.by_prefix.contains_key(prefix) {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        let patterns = self.by_prefix.entry(prefix.into()).or_default();
        self.count += usize::from(!patterns.contains_key(pattern));
        patterns.entry(pattern.clone()).or_default()
    }

    /// Removes a subscriber, and what is left without any.
    pub fn remove(&mut self, pattern: &[u8], id: u64) {
        let prefix = prefix(pattern);
        let Some(patterns) = self.by_prefix.get_mut(prefix) else { return };
        let Some(receivers) = patterns.get_mut(pattern) else { return };
        receivers.remove(&id);
        if !receivers.is_empty() {
            return;
        }
        patterns.remove(pattern);
        self.count -= 1;
        if patterns.is_empty() {
            self.by_prefix.remove(prefix);
            let prefixes = self.lengths.get_mut(&prefix.len()).expect("it counts this prefix");
            *prefixes -= 1;
            if *prefixes == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    /// Calls `each` with every pattern that matches the channel.
    pub fn each_match(&self, channel: &[u8], mut each: impl FnMut(&[u8], &Receivers)) {
        for &length in self.lengths.range(..=channel.len()).map(|(length, _)| length) {
            let Some(patterns) = self.by_prefix.get(&channel[..length]) else { continue };
            for (pattern, receivers) in patterns {
                if glob_matches(pattern, channel) {
                    each(pattern, receivers);
                }
            }
        }
    }
}

/// What a channel that matches begins with.
fn prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'));
    &pattern[..end.unwrap_or(pattern.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_that_matches_is_found_by_its_prefix() {
        let patterns =
            ["*", "user:*", "user:1", "user:1*", "u[st]er:*", "user\\:1*", "order:*", "", "user:1:*"];
        let mut index = Patterns::default();
        for pattern in patterns {
            index.entry(&pattern.as_bytes().into());
            index.entry(&pattern.as_bytes().into());
        }
        assert_eq!(index.len(), patterns.len());
        for channel in ["user:1", "user:12", "order:7", "", "u", "user:1:x"] {
            let mut found = Vec::new();
            index.each_match(channel.as_bytes(), |pattern, _| found.push(pattern.to_vec()));
            found.sort();
            let mut matching: Vec<Vec<u8>> = patterns
                .iter()
                .filter(|pattern| glob_matches(pattern.as_bytes(), channel.as_bytes()))
                .map(|pattern| pattern.as_bytes().to_vec())
                .collect();
            matching.sort();
            assert_eq!(found, matching, "{channel}");
        }
        patterns.iter().for_each(|pattern| index.remove(pattern.as_bytes(), 1));
        assert_eq!((index.len(), index.by_prefix.len(), index.lengths.len()), (0, 0, 0));
    }
}
