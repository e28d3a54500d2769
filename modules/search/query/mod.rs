//! The query language: parses text into a tree that is checked against the schema, and fills in parameters.
//!
//! The grammar is RediSearch's at DIALECT 2, for all dialects but the first (first_dialect.rs):
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
//!         | "a phrase" | 'a phrase' | $parameter | %word% | %%word%% | %%%word%%%
//! range  := ["("] number ["("] number | number number number unit
//!         | VECTOR_RANGE number $blob | predicate $shape
//! knn    := KNN k @field $blob { name value } [AS name]
//! ```
//!
//! After that, words are expanded to what else a document may have instead (expand.rs).

pub mod attributes;
mod defaults;
pub mod excerpts;
pub mod expand;
pub mod explain;
mod fields;
mod first_dialect;
mod lexer;
mod open;
mod parser;
pub mod prepared;
pub mod request;
pub mod scorer;
mod values;
mod vectors;

pub use attributes::{Attributed, QueryAttributes};
pub use defaults::QueryDefaults;
pub use open::{OpenLeaf, Policy, Template};
pub use parser::{Parameters, Postfix, WordScope, fuzz_query, parse};

use crate::documents::geo::GeoCircle;
use crate::documents::postings::Limit;
use crate::documents::shapes::{Geometry, ShapePredicate};
use std::slice;
use std::sync::Arc;

/// A query whose parameters have values.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub filter: Arc<Node>,
    pub knn: Option<Knn>,
}

/// Asks for the `k` nearest of the documents that match the filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Knn {
    pub field: usize,
    pub k: usize,
    /// In the field's element type and dimension.
    pub vector: Vec<u8>,
    pub ef_runtime: Option<usize>,
    /// The requested share of the true nearest, above 0 and at most 1; excludes EF_RUNTIME.
    pub recall: Option<f32>,
    pub policy: Option<Policy>,
    /// The name of the distance in the reply.
    pub alias: Arc<[u8]>,
    /// The number of the request's word that is the vector.
    pub word: usize,
}

/// Asks for all documents within a distance.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorRange {
    pub field: usize,
    pub radius: f64,
    /// In the field's element type and dimension.
    pub vector: Vec<u8>,
    pub epsilon: Option<f32>,
    /// The name of the distance in the reply; `None` to leave it out.
    pub alias: Option<Arc<[u8]>>,
    /// The number of the request's word that is the vector.
    pub word: usize,
}

/// A shape that a query compares with those of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct ShapeQuery {
    pub field: usize,
    pub predicate: ShapePredicate,
    pub shape: Arc<Geometry>,
    /// The shape as it is written.
    pub text: Arc<[u8]>,
}

/// A set of documents. Fields are indexes into `Definition::fields`.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    All,
    Nothing,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    /// Matches everything. What matches the inner node too has a higher score.
    Optional(Box<Node>),
    /// A node with attributes.
    With(Box<Attributed>),
    Tag {
        field: usize,
        pattern: Pattern,
    },
    Number {
        field: usize,
        least: Limit,
        most: Limit,
    },
    /// A shape for which the predicate holds.
    Geometry(ShapeQuery),
    /// A position in the circle.
    Near {
        field: usize,
        circle: GeoCircle,
    },
    /// In any of the fields.
    Text {
        fields: Arc<[usize]>,
        text: TextMatch,
    },
    Missing(usize),
    Range(VectorRange),
    /// A leaf whose value is a parameter; occurs in templates, never in a `Query`.
    Open(OpenLeaf),
}

#[derive(Clone, Debug, PartialEq)]
pub enum TextMatch {
    Term(Pattern),
    /// A term that an expander added for a word of the query.
    Expanded(Vec<u8>),
    /// These terms, consecutively and in this order.
    Phrase(Vec<Vec<u8>>),
}

/// A set of terms; lower case unless the field is case-sensitive.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    Exact(Vec<u8>),
    Prefix(Vec<u8>),
    Suffix(Vec<u8>),
    Infix(Vec<u8>),
    /// `?` stands for one byte, `*` for any number of them.
    Wildcard(Vec<u8>),
    /// Terms that become this one by at most this number of insertions, deletions or replacements of
    /// characters.
    Fuzzy(Vec<u8>, u8),
}

impl Node {
    /// What matches all of the nodes; `None` of none.
    pub fn all_of(mut nodes: Vec<Node>) -> Option<Node> {
        if nodes.len() > 1 { Some(Node::And(nodes)) } else { nodes.pop() }
    }

    /// What matches one of the nodes or several; `None` of none.
    pub fn any_of(mut nodes: Vec<Node>) -> Option<Node> {
        if nodes.len() > 1 { Some(Node::Or(nodes)) } else { nodes.pop() }
    }

    /// The nodes of which this one consists.
    pub fn children(&self) -> &[Node] {
        match self {
            Node::And(nodes) | Node::Or(nodes) => nodes,
            Node::Not(node) | Node::Optional(node) => slice::from_ref(node),
            Node::With(with) => slice::from_ref(&with.node),
            _ => &[],
        }
    }

    /// The number of nodes, plus the number of fields of each text node.
    pub fn size(&self) -> usize {
        let own = if let Node::Text { fields, .. } = self { 1 + fields.len() } else { 1 };
        own + self.children().iter().map(Node::size).sum::<usize>()
    }

    /// Whether the query gives a part a weight.
    pub fn has_weight(&self) -> bool {
        match self {
            Node::And(nodes) | Node::Or(nodes) => nodes.iter().any(Node::has_weight),
            Node::Not(node) | Node::Optional(node) => node.has_weight(),
            Node::With(with) => with.attributes.names_weight || with.node.has_weight(),
            _ => false,
        }
    }

    /// Calls `each` with every vector range in the tree.
    pub fn ranges<'n>(&'n self, each: &mut dyn FnMut(&'n VectorRange)) {
        self.ranges_by_place(false, &mut |range, _| each(range));
    }

    /// Calls `each` with every vector range, and whether its matches must be exact. Under a negation a missed
    /// match would return a wrong row; under an OR it would change what is shown of a row that the other
    /// branch found.
    pub fn ranges_by_place<'n>(&'n self, exact: bool, each: &mut dyn FnMut(&'n VectorRange, bool)) {
        match self {
            Node::Range(range) => each(range, exact),
            Node::And(nodes) => nodes.iter().for_each(|node| node.ranges_by_place(exact, each)),
            Node::Or(nodes) => nodes.iter().for_each(|node| node.ranges_by_place(true, each)),
            Node::Not(node) | Node::Optional(node) => node.ranges_by_place(true, each),
            Node::With(with) => with.node.ranges_by_place(exact, each),
            _ => {}
        }
    }

    /// True if a vector range is under a negation: then the whole query finds more if the range finds less.
    pub fn negates_range(&self) -> bool {
        match self {
            Node::Not(node) => node.has_range(),
            node => node.children().iter().any(Node::negates_range),
        }
    }

    /// True if a document can match although a vector range of the tree does not contain it.
    pub fn has_optional_range(&self) -> bool {
        match self {
            Node::Or(_) | Node::Not(_) | Node::Optional(_) => self.has_range(),
            Node::And(nodes) => nodes.iter().any(Node::has_optional_range),
            Node::With(with) => with.node.has_optional_range(),
            _ => false,
        }
    }

    /// The node with these attributes, instead of those that it has.
    pub fn with(self, attributes: QueryAttributes) -> Node {
        let node = match self {
            Node::With(with) => with.node,
            node => node,
        };
        match attributes == QueryAttributes::default() {
            true => node,
            false => Node::With(Box::new(Attributed { node, attributes })),
        }
    }

    /// The node without its attributes.
    pub fn bare(&self) -> &Node {
        match self {
            Node::With(with) => with.node.bare(),
            node => node,
        }
    }

    /// Whether a document that matches may have words that the tree looks for.
    pub fn has_text(&self) -> bool {
        match self {
            Node::Text { .. } => true,
            Node::Not(_) => false,
            node => node.children().iter().any(Node::has_text),
        }
    }

    /// How many words and other conditions the tree has.
    pub fn part_count(&self) -> usize {
        match self {
            Node::Text { text: TextMatch::Phrase(terms), .. } => terms.len(),
            node if node.children().is_empty() => 1,
            node => node.children().iter().map(Node::part_count).sum(),
        }
    }

    /// The units of work of comparing a document's shapes with those of the tree, at most.
    pub fn shape_work(&self) -> usize {
        match self {
            Node::Geometry(query) => query.shape.work_max(),
            node => node.children().iter().map(Node::shape_work).sum(),
        }
    }

    pub fn has_range(&self) -> bool {
        let mut found = false;
        self.ranges(&mut |_| found = true);
        found
    }
}
