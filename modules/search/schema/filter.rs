//! FILTER of FT.CREATE: an expression that says which keys are documents.

use super::Definition;
use crate::error::SearchError;
use crate::expr::Expression;

#[derive(Clone, Debug, PartialEq)]
pub struct DocumentFilter {
    /// As it was written.
    pub text: Vec<u8>,
    pub expression: Expression,
}

impl DocumentFilter {
    pub fn parse(text: &[u8]) -> Result<DocumentFilter, SearchError> {
        Ok(DocumentFilter { text: text.to_vec(), expression: Expression::parse(text)? })
    }

    /// The document's fields that the expression reads, `None` for the key: a field of the schema by its name
    /// in queries, or else one of the document.
    pub fn identifiers<'a>(&'a self, definition: &'a Definition) -> impl Iterator<Item = Option<&'a [u8]>> {
        let identifier = |name: &'a Vec<u8>| (name != KEY).then(|| definition.identifier_of(name));
        self.expression.properties().iter().map(identifier)
    }
}

/// The property that is the document's key.
const KEY: &[u8] = b"__key";
