//! What settings say about all queries.

use super::scorer::{Scorer, TANH_FACTOR};
use super::{Node, Pattern, TextMatch};
use std::sync::Arc;

/// What holds for a query that does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryDefaults {
    /// Without DIALECT.
    pub dialect: u32,
    /// The fewest bytes that a pattern (`a*`, `*a`, `*a*`) must have besides its stars: a shorter one matches
    /// nothing.
    pub prefix_bytes_min: usize,
    /// Without SCORER.
    pub scorer: Scorer,
    /// Without BM25STD_TANH_FACTOR.
    pub tanh_factor: u32,
    /// The most rows without LIMIT.
    pub rows_max: usize,
    /// The most terms of a pattern whose documents match, in the order of their bytes.
    pub expansions_max: usize,
}

impl Default for QueryDefaults {
    fn default() -> QueryDefaults {
        QueryDefaults {
            dialect: 2,
            prefix_bytes_min: 1,
            scorer: Scorer::default(),
            tanh_factor: TANH_FACTOR,
            rows_max: usize::MAX,
            expansions_max: usize::MAX,
        }
    }
}

impl QueryDefaults {
    /// Replaces the patterns that are too short.
    pub fn restrict(&self, filter: &mut Arc<Node>) {
        if self.prefix_bytes_min > 1 && has_shorter(filter, self.prefix_bytes_min) {
            shorten(Arc::make_mut(filter), self.prefix_bytes_min);
        }
    }
}

fn is_shorter(pattern: &Pattern, least: usize) -> bool {
    match pattern {
        Pattern::Prefix(part) | Pattern::Suffix(part) | Pattern::Infix(part) => part.len() < least,
        _ => false,
    }
}

fn has_shorter(node: &Node, least: usize) -> bool {
    match node {
        Node::Tag { pattern, .. } | Node::Text { text: TextMatch::Term(pattern), .. } => {
            is_shorter(pattern, least)
        }
        node => node.children().iter().any(|node| has_shorter(node, least)),
    }
}

fn shorten(node: &mut Node, least: usize) {
    match node {
        Node::And(nodes) | Node::Or(nodes) => nodes.iter_mut().for_each(|node| shorten(node, least)),
        Node::Not(node) | Node::Optional(node) => shorten(node, least),
        Node::With(with) => shorten(&mut with.node, least),
        _ if has_shorter(node, least) => *node = Node::Nothing,
        _ => {}
    }
}
