//! Suggestions by their beginnings: a radix tree of characters in lower case.
//!
//! A node knows of its subtree the best score, the length of the shortest text, and how many suggestions it
//! has. So the best completions of a prefix are found best first, without a look at all of them, and the
//! suggestion of a given rank without a walk.

use crate::documents::blocks::Blocks;

pub const ROOT: u32 = 0;

pub struct Trie {
    nodes: Blocks<TrieNode>,
    free: Blocks<u32>,
    /// Bytes that nodes own.
    bytes: usize,
}

pub struct TrieNode {
    /// The characters from the parent's prefix to this one; empty for the root alone.
    pub label: Box<str>,
    /// First characters of labels, sorted, with numbers of nodes.
    pub children: Vec<(char, u32)>,
    /// Those whose text in lower case ends here, sorted by text.
    pub suggestions: Vec<Suggestion>,
    /// Of the subtree; negative infinity without suggestions.
    pub best: f32,
    /// Characters of the shortest text of the subtree.
    pub shortest: u32,
    /// Suggestions in the subtree.
    count: u32,
    /// Characters of the prefix that ends here.
    pub depth: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    pub text: Box<[u8]>,
    pub score: f32,
    pub payload: Option<Box<[u8]>>,
}

/// The characters by which texts are compared: each in lower case by itself. Bytes that are not UTF-8 are one
/// replacement character each.
pub fn folded(text: &[u8]) -> String {
    let lower = |character: char| {
        let mut lower = character.to_lowercase();
        lower.next().filter(|_| lower.next().is_none()).unwrap_or(character)
    };
    String::from_utf8_lossy(text).chars().map(lower).collect()
}

impl TrieNode {
    fn new(label: &str, depth: u32) -> TrieNode {
        TrieNode {
            label: label.into(),
            children: Vec::new(),
            suggestions: Vec::new(),
            best: f32::NEG_INFINITY,
            shortest: u32::MAX,
            count: 0,
            depth,
        }
    }

    fn find(&self, first: char) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |&(character, _)| character)
    }

    fn place(&self, text: &[u8]) -> Result<usize, usize> {
        self.suggestions.binary_search_by(|suggestion| (*suggestion.text).cmp(text))
    }

    fn owned_bytes(&self) -> usize {
        let of = |suggestion: &Suggestion| {
            suggestion.text.len() + suggestion.payload.as_ref().map_or(0, |payload| payload.len())
        };
        self.label.len()
            + self.children.capacity() * size_of::<(char, u32)>()
            + self.suggestions.capacity() * size_of::<Suggestion>()
            + self.suggestions.iter().map(of).sum::<usize>()
    }
}

impl Default for Trie {
    fn default() -> Trie {
        let mut nodes = Blocks::default();
        nodes.push(TrieNode::new("", 0));
        Trie { nodes, free: Blocks::default(), bytes: 0 }
    }
}

impl Trie {
    pub fn len(&self) -> usize {
        self.nodes[ROOT].count as usize
    }

    pub fn heap_bytes(&self) -> usize {
        self.nodes.heap_bytes() + self.free.heap_bytes() + self.bytes
    }

    pub fn node(&self, number: u32) -> &TrieNode {
        &self.nodes[number]
    }

    pub fn get(&self, text: &[u8]) -> Option<&Suggestion> {
        let (&at, _) = self.path(&folded(text))?.split_last()?;
        let node = &self.nodes[at];
        node.place(text).ok().map(|place| &node.suggestions[place])
    }

    /// The nodes from the root to the one whose prefix this is.
    fn path(&self, prefix: &str) -> Option<Vec<u32>> {
        let (mut path, mut rest) = (vec![ROOT], prefix);
        while let Some(first) = rest.chars().next() {
            let node = &self.nodes[*path.last().expect("it begins with the root")];
            let child = node.children[node.find(first).ok()?].1;
            rest = rest.strip_prefix(&*self.nodes[child].label)?;
            path.push(child);
        }
        Some(path)
    }

    /// The node whose subtree has exactly the texts that begin with this prefix, in lower case.
    pub fn below(&self, prefix: &str) -> Option<u32> {
        let (mut at, mut rest) = (ROOT, prefix);
        while let Some(first) = rest.chars().next() {
            let node = &self.nodes[at];
            at = node.children[node.find(first).ok()?].1;
            let label = &*self.nodes[at].label;
            if label.starts_with(rest) {
                return Some(at);
            }
            rest = rest.strip_prefix(label)?;
        }
        Some(at)
    }

    /// Adds a suggestion, or replaces the one with this text; true if it is new.
    pub fn set(&mut self, suggestion: Suggestion) -> bool {
        let path = self.path_to(&folded(&suggestion.text));
        let (&at, above) = path.split_last().expect("it begins with the root");
        let (score, depth) = (suggestion.score, self.nodes[at].depth);
        let before = self.change(at, |node| match node.place(&suggestion.text) {
            Ok(place) => Some(std::mem::replace(&mut node.suggestions[place], suggestion).score),
            Err(place) => {
                node.suggestions.insert(place, suggestion);
                None
            }
        });
        let is_new = before.is_none();
        for &at in above.iter().chain([&at]).rev() {
            let node = &mut self.nodes[at];
            node.count += u32::from(is_new);
            node.shortest = node.shortest.min(depth);
            if score >= node.best {
                node.best = score;
            } else if before == Some(node.best) {
                self.weigh(at);
            }
        }
        is_new
    }

    /// Removes the suggestion with this text; false if there is none.
    pub fn remove(&mut self, text: &[u8]) -> bool {
        let Some(mut path) = self.path(&folded(text)) else { return false };
        let at = *path.last().expect("it begins with the root");
        let Ok(place) = self.nodes[at].place(text) else { return false };
        self.change(at, |node| _ = node.suggestions.remove(place));
        path.iter().for_each(|&at| self.nodes[at].count -= 1);
        // Nodes without suggestions go.
        while let [.., parent, at] = path[..]
            && self.nodes[at].count == 0
        {
            let first = self.nodes[at].label.chars().next().expect("only the root has none");
            self.change(at, |node| *node = TrieNode::new("", 0));
            self.free.push(at);
            self.change(parent, |node| {
                let place = node.find(first).expect("it has this child");
                node.children.remove(place);
            });
            path.pop();
        }
        path.iter().rev().for_each(|&at| self.weigh(at));
        true
    }

    /// Finds the best score and the shortest text of a subtree anew, from those of its parts.
    fn weigh(&mut self, at: u32) {
        let node = &self.nodes[at];
        let own = node.suggestions.iter().map(|suggestion| (suggestion.score, node.depth));
        let below =
            node.children.iter().map(|&(_, child)| (self.nodes[child].best, self.nodes[child].shortest));
        let (best, shortest) =
            own.chain(below).fold((f32::NEG_INFINITY, u32::MAX), |sum, (best, shortest)| {
                (sum.0.max(best), sum.1.min(shortest))
            });
        let node = &mut self.nodes[at];
        (node.best, node.shortest) = (best, shortest);
    }

    /// The same as `path`, of a prefix that gets its nodes.
    fn path_to(&mut self, prefix: &str) -> Vec<u32> {
        let (mut path, mut rest) = (vec![ROOT], prefix);
        while let Some(first) = rest.chars().next() {
            let at = *path.last().expect("it begins with the root");
            let depth = self.nodes[at].depth;
            let child = match self.nodes[at].find(first) {
                Err(place) => {
                    let new = self.add(TrieNode::new(rest, depth + rest.chars().count() as u32));
                    self.change(at, |node| node.children.insert(place, (first, new)));
                    new
                }
                Ok(place) => {
                    let child = self.nodes[at].children[place].1;
                    let common = common_bytes(&self.nodes[child].label, rest);
                    if common < self.nodes[child].label.len() { self.split(at, place, common) } else { child }
                }
            };
            rest = &rest[self.nodes[child].label.len()..];
            path.push(child);
        }
        path
    }

    /// Puts a node with the first `common` bytes of a child's label between a node and this child.
    fn split(&mut self, at: u32, place: usize, common: usize) -> u32 {
        let (first, child) = self.nodes[at].children[place];
        let label = self.nodes[child].label.clone();
        let (head, tail) = label.split_at(common);
        let mut middle = TrieNode::new(head, self.nodes[at].depth + head.chars().count() as u32);
        let below = &self.nodes[child];
        (middle.best, middle.shortest, middle.count) = (below.best, below.shortest, below.count);
        middle.children.push((tail.chars().next().expect("a part is left"), child));
        self.change(child, |node| node.label = tail.into());
        let middle = self.add(middle);
        self.change(at, |node| node.children[place] = (first, middle));
        middle
    }

    fn add(&mut self, node: TrieNode) -> u32 {
        self.bytes += node.owned_bytes();
        match self.free.pop() {
            Some(place) => {
                self.nodes[place] = node;
                place
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        }
    }

    /// Changes what a node owns, and counts it.
    fn change<R>(&mut self, at: u32, change: impl FnOnce(&mut TrieNode) -> R) -> R {
        let node = &mut self.nodes[at];
        let before = node.owned_bytes();
        let result = change(node);
        self.bytes = self.bytes + node.owned_bytes() - before;
        result
    }

    /// Calls `each` with the suggestions from this rank on, by their text in lower case and then their text,
    /// until it returns false.
    pub fn each_from(&self, mut rank: usize, each: &mut dyn FnMut(&Suggestion) -> bool) {
        let mut next = vec![ROOT];
        while let Some(at) = next.pop() {
            let node = &self.nodes[at];
            if rank >= node.count as usize {
                rank -= node.count as usize;
                continue;
            }
            for suggestion in node.suggestions.iter().skip(rank) {
                if !each(suggestion) {
                    return;
                }
            }
            rank = rank.saturating_sub(node.suggestions.len());
            next.extend(node.children.iter().rev().map(|&(_, child)| child));
        }
    }
}

/// The bytes of the characters that two texts begin with in common.
fn common_bytes(one: &str, other: &str) -> usize {
    let pairs = one.chars().zip(other.chars());
    pairs.take_while(|(one, other)| one == other).map(|(character, _)| character.len_utf8()).sum()
}
