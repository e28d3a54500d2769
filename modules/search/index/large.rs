//! Large documents of a backfill: they are read without the keyspace's lock, from what is shared with it.

use super::Index;
use super::foreseen::{ForeseenContent, WALKED_BYTES_MIN};
use crate::schema::{Definition, FieldKind};
use engramdb_engine::keyspace::{FieldValue, Keyspace, ValueRef};
use engramdb_engine::module::{FORESEEN_VALUE_BYTES, Upcoming};
use engramdb_engine::store::document::Document;
use std::sync::Arc;

impl Index {
    /// Whether a document has much that is to be read and was not `read` before.
    pub fn is_large(
        &self,
        keyspace: &Keyspace,
        (database, key): (u32, &[u8]),
        read: &ForeseenContent,
    ) -> bool {
        let fields = self.definition.fields.iter().enumerate();
        match self.document(keyspace, database, key) {
            Some(Document::Hash(hash)) => fields
                .filter(|(_, field)| !matches!(field.kind, FieldKind::Vector(_)))
                .filter_map(|(number, field)| Some((number, hash.get(&field.identifier)?)))
                .any(|(number, field)| field.value.len() >= FORESEEN_VALUE_BYTES && !read.has(number)),
            Some(Document::Object(_)) => {
                let unread = fields.filter(|(number, _)| !read.has(*number)).count();
                match keyspace.entry(database, key).map(|entry| entry.value()) {
                    Some(ValueRef::Object(object)) => {
                        object.heap_bytes().saturating_mul(unread) >= WALKED_BYTES_MIN
                    }
                    _ => false,
                }
            }
            None => false,
        }
    }

    /// The document of a key, to be read without the lock; large parts of it are shared, not copied.
    pub fn upcoming(&self, keyspace: &Keyspace, (database, key): (u32, &[u8])) -> Option<Upcoming> {
        let document = self.document(keyspace, database, key)?;
        if let Document::Object(_) = document {
            let value = keyspace.entry(database, key).map(|entry| entry.value());
            let Some(ValueRef::Object(object)) = value else { return None };
            return Some(Upcoming::Object(object.copy()));
        }
        let mut fields: Vec<(Vec<u8>, Arc<Vec<u8>>)> = Vec::new();
        for name in read_names(&self.definition) {
            document.values(name, |value| {
                if let FieldValue::Stored(value) = value {
                    let bytes = || Arc::new(value.with_bytes(<[u8]>::to_vec));
                    fields.push((name.to_vec(), value.shared().cloned().unwrap_or_else(bytes)));
                }
            });
        }
        Some(Upcoming::Fields(fields))
    }
}

/// The names of all that is read of a document.
fn read_names(definition: &Definition) -> impl Iterator<Item = &[u8]> {
    let options = &definition.options;
    let filter = options.filter.iter().flat_map(|filter| filter.identifiers(definition).flatten());
    let about = [&options.language_field, &options.score_field, &options.payload_field];
    let about = about.into_iter().filter(|name| !name.is_empty()).map(Vec::as_slice);
    definition.fields.iter().map(|field| &field.identifier[..]).chain(filter).chain(about)
}
