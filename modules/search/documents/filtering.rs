//! Whether a key is a document by FILTER of FT.CREATE.

use super::reading::DocumentValues;
use crate::expr::{ExprValue, PropertyValues};
use crate::schema::Definition;
use crate::schema::filter::DocumentFilter;
use engramdb_engine::keyspace::FieldValue;
use std::borrow::Cow;

/// The values of an expression's properties.
struct Properties(Vec<Option<ExprValue<'static>>>);

impl PropertyValues for Properties {
    fn value(&self, property: usize) -> Option<ExprValue<'_>> {
        self.0[property].as_ref().map(ExprValue::borrowed)
    }
}

/// Whether the definition's filter takes the document, or there is none. An expression that has no value,
/// because the document lacks a field of it or has another type there, takes it, as in RediSearch.
pub fn accepts(definition: &Definition, key: &[u8], document: &impl DocumentValues) -> bool {
    definition.options.filter.as_ref().is_none_or(|filter| is_taken(filter, definition, key, document))
}

/// Whether a filter takes the document, whose fields it names as the definition does.
pub fn is_taken(
    filter: &DocumentFilter,
    definition: &Definition,
    key: &[u8],
    document: &impl DocumentValues,
) -> bool {
    let value = |identifier: Option<&[u8]>| match identifier {
        Some(identifier) => first_value(document, identifier),
        None => Some(ExprValue::Text(Cow::Owned(key.to_vec()))),
    };
    let properties = Properties(filter.identifiers(definition).map(value).collect());
    filter.expression.evaluate(&properties).map_or(true, |value| value.is_true())
}

/// The first value at a path, as expressions see it.
fn first_value(document: &impl DocumentValues, path: &[u8]) -> Option<ExprValue<'static>> {
    let mut first = None;
    document.values(path, |value| {
        first.get_or_insert_with(|| match value {
            FieldValue::Stored(bytes) => ExprValue::Text(Cow::Owned(bytes.with_bytes(<[u8]>::to_vec))),
            FieldValue::Text(text) => ExprValue::Text(Cow::Owned(text.as_bytes().to_vec())),
            FieldValue::Number(number) => ExprValue::Number(number),
            FieldValue::Boolean(boolean) => ExprValue::of_bool(boolean),
            FieldValue::Numbers(numbers) => {
                ExprValue::List(numbers.iter().map(|&number| ExprValue::Number(number)).collect())
            }
            FieldValue::Array(_) | FieldValue::Null | FieldValue::Other => ExprValue::Null,
        });
    });
    first
}
