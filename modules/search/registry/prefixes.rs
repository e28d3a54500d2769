//! Values by prefixes of keys: a radix tree. Finding the values for a key takes time in proportion to the
//! part of the key that some prefix has too, however many other prefixes there are, and allocates nothing.

/// The node that stands for the empty prefix.
const ROOT: usize = 0;

pub struct PrefixTree<T> {
    nodes: Vec<Node<T>>,
    /// Places in `nodes` that are not used.
    free: Vec<usize>,
}

struct Node<T> {
    /// The bytes from the parent's prefix to this one; empty for the root alone.
    label: Box<[u8]>,
    /// First bytes of labels, sorted, with places in `nodes`.
    children: Vec<(u8, usize)>,
    /// The values of exactly this prefix.
    values: Vec<T>,
}

impl<T> Node<T> {
    fn new(label: &[u8]) -> Node<T> {
        Node { label: label.into(), children: Vec::new(), values: Vec::new() }
    }

    fn find(&self, first: u8) -> Result<usize, usize> {
        self.children.binary_search_by_key(&first, |&(byte, _)| byte)
    }
}

impl<T> Default for PrefixTree<T> {
    fn default() -> PrefixTree<T> {
        PrefixTree { nodes: vec![Node::new(b"")], free: Vec::new() }
    }
}

impl<T> PrefixTree<T> {
    /// Calls `each` with the values of all prefixes of the key, shortest prefix first.
    #[inline]
    pub fn covering<'a>(&'a self, key: &[u8], mut each: impl FnMut(&'a T)) {
        let (mut node, mut rest) = (&self.nodes[ROOT], key);
        loop {
            node.values.iter().for_each(&mut each);
            let Some(&first) = rest.first() else { return };
            let Ok(place) = node.find(first) else { return };
            node = &self.nodes[node.children[place].1];
            let Some(after) = rest.strip_prefix(&*node.label) else { return };
            rest = after;
        }
    }

    pub fn insert(&mut self, prefix: &[u8], value: T) {
        let (mut at, mut rest) = (ROOT, prefix);
        while let Some(&first) = rest.first() {
            let place = match self.nodes[at].find(first) {
                Ok(place) => place,
                Err(place) => {
                    let new = self.add(Node::new(rest));
                    self.nodes[at].children.insert(place, (first, new));
                    at = new;
                    break;
                }
            };
            let child = self.nodes[at].children[place].1;
            let label = &self.nodes[child].label;
            let common = label.iter().zip(rest).take_while(|(one, other)| one == other).count();
            if common < label.len() {
                self.split(at, place, common);
            }
            at = self.nodes[at].children[place].1;
            rest = &rest[common..];
        }
        self.nodes[at].values.push(value);
    }

    /// Puts a node with the first `common` bytes of a child's label between a node and this child.
    fn split(&mut self, at: usize, place: usize, common: usize) {
        let (first, child) = self.nodes[at].children[place];
        let label = std::mem::take(&mut self.nodes[child].label);
        let mut middle = Node::new(&label[..common]);
        middle.children.push((label[common], child));
        self.nodes[child].label = label[common..].into();
        let middle = self.add(middle);
        self.nodes[at].children[place] = (first, middle);
    }

    /// Removes the values of exactly this prefix for which `is_it` is true.
    pub fn remove(&mut self, prefix: &[u8], is_it: impl Fn(&T) -> bool) {
        let mut path = Vec::new();
        let (mut at, mut rest) = (ROOT, prefix);
        while let Some(&first) = rest.first() {
            let Ok(place) = self.nodes[at].find(first) else { return };
            path.push((at, place));
            at = self.nodes[at].children[place].1;
            let Some(after) = rest.strip_prefix(&*self.nodes[at].label) else { return };
            rest = after;
        }
        self.nodes[at].values.retain(|value| !is_it(value));
        // Nodes that lead nowhere go. One that only leads on stays until what it leads to is gone.
        while self.nodes[at].values.is_empty() && self.nodes[at].children.is_empty() {
            let Some((parent, place)) = path.pop() else { break };
            self.nodes[parent].children.remove(place);
            self.nodes[at] = Node::new(b"");
            self.free.push(at);
            at = parent;
        }
    }

    fn add(&mut self, node: Node<T>) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.nodes[place] = node;
                place
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        }
    }
}

/// The prefixes of a list that no other one of the list covers: of these, a key has at most one.
pub fn shortest(prefixes: &[Vec<u8>]) -> Vec<&[u8]> {
    let mut sorted: Vec<&[u8]> = prefixes.iter().map(Vec::as_slice).collect();
    sorted.sort_unstable();
    let mut kept: Vec<&[u8]> = Vec::new();
    for prefix in sorted {
        if kept.last().is_none_or(|last| !prefix.starts_with(last)) {
            kept.push(prefix);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Short words of two letters and an odd byte, so that many are prefixes of others.
    fn word() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(proptest::sample::select(&b"ab\xff"[..]), 0..6)
    }

    proptest! {
        #[test]
        fn finds_what_a_look_at_each_prefix_finds(
            steps in proptest::collection::vec((word(), any::<bool>()), 0..60),
            keys in proptest::collection::vec(word(), 1..20),
        ) {
            let mut tree = PrefixTree::default();
            let mut list: Vec<(Vec<u8>, usize)> = Vec::new();
            for (number, (prefix, removes)) in steps.into_iter().enumerate() {
                if removes {
                    tree.remove(&prefix, |_| true);
                    list.retain(|(other, _)| *other != prefix);
                } else {
                    tree.insert(&prefix, number);
                    list.push((prefix, number));
                }
            }
            for key in keys {
                let mut found = Vec::new();
                tree.covering(&key, |&value| found.push(value));
                let mut wanted: Vec<usize> =
                    list.iter().filter(|(prefix, _)| key.starts_with(prefix)).map(|&(_, value)| value).collect();
                found.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(found, wanted);
            }
            for (prefix, _) in list {
                tree.remove(&prefix, |_| true);
            }
            prop_assert_eq!(tree.free.len() + 1, tree.nodes.len(), "an empty tree keeps its root only");
        }

        #[test]
        fn the_shortest_prefixes_cover_the_same_keys_once(
            prefixes in proptest::collection::vec(word(), 1..8),
            key in word(),
        ) {
            let kept = shortest(&prefixes);
            let count = kept.iter().filter(|prefix| key.starts_with(prefix)).count();
            prop_assert_eq!(count, usize::from(prefixes.iter().any(|prefix| key.starts_with(prefix))));
        }
    }
}
