//! The query language: text to a tree, checked against the schema and with parameters filled in.
//!
//! The grammar is RediSearch's at DIALECT 2, for all dialects:
//!
//! ```text
//! query  := "" | star | or | ( star | operand ) "=>" "[" knn "]" [ "=>" "{" attributes "}" ]
//! star   := "*" | "(" star ")"
//! or     := and { "|" and }
//! and    := unary { unary }
//! unary  := ("-" | "~") unary | operand
//! operand := ( "(" or ")" | leaf ) { "=>" "{" attributes "}" }
//! leaf   := "@" fields ":" ( "{" tags "}" | "[" range "]" | unary ) | "@" field comparison number
//!         | ismissing(@field) | word | number | pre* | *suf | *inf* | w'wild?c*rd'
//!         | "a phrase" | 'a phrase' | $parameter
//! knn    := KNN k @field $blob { name value } [AS name]
//! ```
//!
//! What the grammar has beyond this (GEO, GEOSHAPE, fuzzy terms, slop) is refused with a clear error: a query
//! is answered rightly or not at all.

pub mod explain;
mod fields;
mod lexer;
mod open;
mod parser;
pub mod prepared;
pub mod request;
mod values;
mod vectors;

pub use open::{OpenLeaf, Template};
pub use parser::{Parameters, Scope, fuzz_query, parse};

use crate::documents::postings::Limit;
use std::sync::Arc;

/// A query whose parameters have values.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub filter: Arc<Node>,
    pub knn: Option<Knn>,
}

/// The `k` nearest of what the filter leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct Knn {
    pub field: usize,
    pub k: usize,
    /// As the field's vectors are.
    pub vector: Vec<u8>,
    pub ef_runtime: Option<usize>,
    /// The share of the true nearest to be found, above 0 and at most 1, instead of EF_RUNTIME.
    pub recall: Option<f32>,
    /// What the distance is called in the reply.
    pub alias: Arc<[u8]>,
    /// The request's word that is the vector.
    pub word: usize,
}

/// Everything within a distance.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorRange {
    pub field: usize,
    pub radius: f64,
    /// As the field's vectors are.
    pub vector: Vec<u8>,
    pub epsilon: Option<f32>,
    /// What the distance is called in the reply, where it is wanted.
    pub alias: Option<Arc<[u8]>>,
    /// The request's word that is the vector.
    pub word: usize,
}

/// A set of documents. Fields are indexes into the definition's.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    All,
    Nothing,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    /// Matches everything; only scores would tell.
    Optional(Box<Node>),
    Tag {
        field: usize,
        pattern: Pattern,
    },
    Number {
        field: usize,
        least: Limit,
        most: Limit,
    },
    /// In any of the fields.
    Text {
        fields: Arc<[usize]>,
        text: TextMatch,
    },
    Missing(usize),
    Range(VectorRange),
    /// A leaf of a template whose value is a parameter; none is left in a query.
    Open(OpenLeaf),
}

#[derive(Clone, Debug, PartialEq)]
pub enum TextMatch {
    Term(Pattern),
    /// Terms one after the other.
    Phrase(Vec<Vec<u8>>),
}

/// Which terms are meant; in the case that the field has.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Infix(Vec<u8>),
    /// `?` stands for one byte, `*` for any number of them.
    Wildcard(Vec<u8>),
}

impl Node {
    /// How many nodes there are, and fields of text nodes.
    pub fn size(&self) -> usize {
        match self {
            Node::And(nodes) | Node::Or(nodes) => 1 + nodes.iter().map(Node::size).sum::<usize>(),
            Node::Not(node) | Node::Optional(node) => 1 + node.size(),
            Node::Text { fields, .. } => 1 + fields.len(),
            _ => 1,
        }
    }

    /// The vector ranges in it.
    pub fn ranges<'n>(&'n self, each: &mut dyn FnMut(&'n VectorRange)) {
        self.ranges_by_place(false, &mut |range, _| each(range));
    }

    /// The vector ranges in it, each with whether its matches have to be exact: where it stands under a
    /// negation, a row too few shows a false one, and under an OR the other branch decides what is shown of a
    /// row.
    pub fn ranges_by_place<'n>(&'n self, exact: bool, each: &mut dyn FnMut(&'n VectorRange, bool)) {
        match self {
            Node::Range(range) => each(range, exact),
            Node::And(nodes) => nodes.iter().for_each(|node| node.ranges_by_place(exact, each)),
            Node::Or(nodes) => nodes.iter().for_each(|node| node.ranges_by_place(true, each)),
            Node::Not(node) | Node::Optional(node) => node.ranges_by_place(true, each),
            _ => {}
        }
    }

    /// True if a vector range stands under a negation: then fewer of its matches make more of the whole's.
    pub fn negates_range(&self) -> bool {
        match self {
            Node::Not(node) => node.has_range(),
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(Node::negates_range),
            Node::Optional(node) => node.negates_range(),
            _ => false,
        }
    }

    /// True if a document can match though a vector range in it does not have the document.
    pub fn has_optional_range(&self) -> bool {
        match self {
            Node::Or(_) | Node::Not(_) | Node::Optional(_) => self.has_range(),
            Node::And(nodes) => nodes.iter().any(Node::has_optional_range),
            _ => false,
        }
    }

    pub fn has_range(&self) -> bool {
        let mut found = false;
        self.ranges(&mut |_| found = true);
        found
    }
}
