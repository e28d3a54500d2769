//! Writes of documents that take long: an index reads the new document before the write, and a change of many
//! places is made before it, both without the lock.

use crate::document::JsonDocument;
use crate::effect;
use crate::value::tree::Root;
use engramdb_engine::keyspace::TypedValue;
use engramdb_engine::module::Upcoming;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use engramdb_engine::{Foreseen, Foresight};
use std::any::Any;

/// A change of more places is made without the lock in a large document.
const PLACES_AT_ONCE: usize = 512;
/// A small one is changed in place: it takes some microseconds for a place at most.
const LARGE_BYTES: usize = 64 << 10;
/// Values of more bytes are put into a document without the lock.
const VALUE_BYTES_AT_ONCE: usize = 256 << 10;

/// An effect that a handler has planned.
pub struct PlannedEffect<'a> {
    pub key: &'a [u8],
    pub kind: u8,
    pub payload: &'a [u8],
    /// How many places of the document it changes.
    pub places: usize,
    /// The value of a Set at the root, if it is there already.
    pub built: Option<Root>,
}

/// Applies an effect. False if the command must return now, without a reply, and will run again.
pub fn apply(tx: &mut Tx<'_>, planned: &mut PlannedEffect<'_>) -> bool {
    let PlannedEffect { key, kind, payload, places, .. } = *planned;
    let is_large = |document: &JsonDocument| document.heap_bytes() > LARGE_BYTES;
    let are_many = places > PLACES_AT_ONCE && tx.read(|view| existing(view, key).is_some_and(is_large));
    let is_large = planned.built.is_none() && payload.len() > VALUE_BYTES_AT_ONCE;
    // A document that is one text would be copied: it is changed in place.
    let is_text = |document: &JsonDocument| document.value().text().is_some();
    let object = are_many || is_large && !tx.read(|view| existing(view, key).is_some_and(is_text));
    let built = planned.built.as_ref();
    let foreseen = tx.foresee(&effect::of(key, kind, payload), Foresight { object }, |tx| {
        if let Some(root) = built.cloned() {
            return Box::new(move || Upcoming::Object(Box::new(JsonDocument::of(root))));
        }
        let before = tx.read(|view| existing(view, key).cloned());
        let (mut document, key, payload) = (before.unwrap_or_default(), key.to_vec(), payload.to_vec());
        Box::new(move || {
            document
                .apply(&effect::of(&key, kind, &payload), None)
                .expect("the handler has found that it fits");
            Upcoming::Object(Box::new(document))
        })
    });
    let Foreseen::Ready(object) = foreseen else { return false };
    let made = object.and_then(|object| {
        let document = (object as Box<dyn Any + Send + Sync>).downcast::<JsonDocument>();
        document.ok().and_then(|document| document.into_root())
    });
    effect::apply_own(tx, key, kind, payload, made.or(planned.built.take()));
    true
}

fn existing<'a>(view: &View<'a>, key: &[u8]) -> Option<&'a JsonDocument> {
    view.object::<JsonDocument>(key).ok().flatten()
}
