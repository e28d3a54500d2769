//! The best completions of a prefix, with RediSearch's arithmetic.
//!
//! A score is a 32-bit float. That of a completion is the suggestion's, divided by the square root of one
//! more than the characters by which the lengths of text and prefix differ. A fuzzy search takes texts that
//! begin with something at most one edit away from the prefix, and multiplies the score by e to the power of
//! -2 for the edit. A text that equals the prefix, case included, has the largest score.

use super::trie::{ROOT, Suggestion, Trie, TrieNode, folded};
use crate::edits::Edits;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

/// The score of a text that equals the prefix.
const EXACT: f32 = i32::MAX as f32;

/// A completion: the suggestion, and its score for the prefix.
pub type Completion<'t> = (&'t Suggestion, f32);

/// The most nodes and suggestions that a search looks at, and the bytes of their paths: some ten
/// milliseconds, because the caller holds the keyspace's lock. What the best completions need is far less,
/// unless the scores of long texts are large and those of short ones small.
const ITEMS_MAX: usize = 1 << 16;
const PATH_BYTES_MAX: usize = 8 << 20;

/// The search would have to look at too much.
#[derive(Debug)]
pub struct TooMany;

/// The `most` best completions, best first; of equal ones the first by text in lower case.
pub fn top<'t>(
    trie: &'t Trie,
    prefix: &[u8],
    fuzzy: bool,
    most: usize,
) -> Result<Vec<Completion<'t>>, TooMany> {
    let query: Vec<char> = folded(prefix).chars().collect();
    let mut search = Search { trie, prefix, query, fuzzy, heap: BinaryHeap::new(), items: 0, path_bytes: 0 };
    if fuzzy {
        search.push_node(ROOT, String::new(), None, Some(Edits::start(1)));
    } else if let Some(at) = trie.below(&folded(prefix)) {
        search.push_node(at, String::new(), Some(0), None);
    }
    let mut found = Vec::new();
    while found.len() < most
        && let Some(next) = search.heap.pop()
    {
        match next.what {
            What::Suggestion(suggestion) => found.push((suggestion, next.score)),
            What::Node { at, edits, near } => search.open(at, &next.path, edits, near),
        }
        if search.items > ITEMS_MAX || search.path_bytes > PATH_BYTES_MAX {
            return Err(TooMany);
        }
    }
    Ok(found)
}

struct Search<'t, 'q> {
    trie: &'t Trie,
    prefix: &'q [u8],
    query: Vec<char>,
    fuzzy: bool,
    heap: BinaryHeap<Item<'t>>,
    /// What was put into the heap so far.
    items: usize,
    path_bytes: usize,
}

/// Something that is not looked at yet.
struct Item<'t> {
    /// The suggestion's score, or the most that one of the node's subtree can have.
    score: f32,
    /// Puts equal scores in order: what the text begins with below the first node, in lower case.
    path: String,
    what: What<'t>,
}

enum What<'t> {
    Suggestion(&'t Suggestion),
    /// A node, whose label was read already.
    Node {
        at: u32,
        edits: Option<u8>,
        near: Option<Edits>,
    },
}

impl Item<'_> {
    /// Larger is looked at first. A node comes after suggestions with its own path.
    fn key(&self) -> (Reverse<&str>, Reverse<&[u8]>, bool) {
        match &self.what {
            What::Suggestion(suggestion) => (Reverse(&self.path), Reverse(&*suggestion.text), true),
            What::Node { .. } => (Reverse(&self.path), Reverse(b""), false),
        }
    }
}

impl Ord for Item<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| self.key().cmp(&other.key()))
    }
}

impl PartialOrd for Item<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Item<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Item<'_> {}

impl<'t> Search<'t, '_> {
    fn score(&self, score: f32, edits: u8, length: u32) -> f32 {
        let mut score = score;
        if self.fuzzy {
            score = (f64::from(score) * (-2.0 * f64::from(edits)).exp()) as f32;
        }
        let further = f64::from(length.abs_diff(self.query.len() as u32));
        (f64::from(score) / (1.0 + further).sqrt()) as f32
    }

    /// The most that a suggestion below a node can have; `is_near` while the walk goes on below it.
    fn bound(&self, node: &TrieNode, edits: Option<u8>, is_near: bool) -> f32 {
        let may_be_exact = (is_near || !self.fuzzy) && node.shortest as usize <= self.query.len();
        let best = if may_be_exact { node.best.max(EXACT) } else { node.best };
        // A negative score grows with the length.
        if best < 0.0 {
            return 0.0;
        }
        let nearest = node.shortest.max(self.query.len() as u32);
        self.score(best, edits.unwrap_or(0), nearest)
    }

    fn push(&mut self, item: Item<'t>) {
        self.items += 1;
        self.path_bytes += item.path.len();
        self.heap.push(item);
    }

    /// Looks at a node's suggestions and children.
    fn open(&mut self, at: u32, path: &str, edits: Option<u8>, near: Option<Edits>) {
        let trie = self.trie;
        let node = trie.node(at);
        if let Some(edits) = edits {
            for suggestion in &node.suggestions {
                let own = if *suggestion.text == *self.prefix { EXACT } else { suggestion.score };
                let score = self.score(own, edits, node.depth);
                let what = What::Suggestion(suggestion);
                self.push(Item { score, path: path.to_owned(), what });
            }
        }
        for &(_, child) in &node.children {
            let mut path = path.to_owned();
            path.push_str(&trie.node(child).label);
            self.push_node(child, path, edits, near);
        }
    }

    /// Adds a node, if something below it can be a completion.
    fn push_node(&mut self, at: u32, path: String, mut edits: Option<u8>, mut near: Option<Edits>) {
        let node = self.trie.node(at);
        let mut least = |near: Option<Edits>| {
            let distance = near.and_then(|near| near.of_all(&self.query));
            edits = edits.into_iter().chain(distance).min();
        };
        least(near);
        for character in node.label.chars() {
            near = near.and_then(|near| near.next(&self.query, character));
            least(near);
        }
        if edits.is_none() && near.is_none() {
            return;
        }
        // While the walk goes on, a nearer beginning may come.
        let possible = if near.is_some() { None } else { edits };
        let score = self.bound(node, possible, near.is_some());
        self.push(Item { score, path, what: What::Node { at, edits, near } });
    }
}
