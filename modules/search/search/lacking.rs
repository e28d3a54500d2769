//! Whether a search has to wait for a backfill. After FT.ALTER only searches of the added fields do.

use crate::index::Index;
use crate::query::request::QueryOptions;
use crate::query::{Node, Query};

/// True while a backfill has not brought the index what the search needs.
pub fn is_lacking(index: &Index, query: &Query, request: &QueryOptions) -> bool {
    let Some(first) = index.first_backfilled() else { return false };
    let sorts = || {
        let field = request.sort_by.as_ref().and_then(|sort| index.definition.field(&sort.field));
        field.is_some_and(|field| field >= first)
    };
    first == 0
        || query.knn.as_ref().is_some_and(|knn| knn.field >= first)
        || reaches(&query.filter, first)
        || sorts()
}

/// True if the tree has a field from this one on.
fn reaches(node: &Node, first: usize) -> bool {
    match node {
        Node::All | Node::Nothing => false,
        Node::And(_) | Node::Or(_) | Node::Not(_) | Node::Optional(_) | Node::With(_) => {
            node.children().iter().any(|node| reaches(node, first))
        }
        Node::Tag { field, .. }
        | Node::Number { field, .. }
        | Node::Near { field, .. }
        | Node::Missing(field) => *field >= first,
        Node::Text { fields, .. } => fields.iter().any(|&field| field >= first),
        Node::Range(range) => range.field >= first,
        Node::Geometry(query) => query.field >= first,
        Node::Open(_) => true,
    }
}
