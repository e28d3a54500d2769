//! Writes of documents that take long: an index reads the new document before the write, and a change of many
//! places is made before it, both without the lock.

use crate::document::JsonDocument;
use crate::effect;
use crate::limits::{PLACES_AT_ONCE, SET_AT_ONCE_BYTES};
use crate::value::tree::Root;
use engramdb_engine::keyspace::TypedValue;
use engramdb_engine::module::Upcoming;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use engramdb_engine::{Foreseen, Foresight};
use std::any::Any;

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
    let are_many = places > PLACES_AT_ONCE;
    let is_large = planned.built.is_none() && payload.len() > SET_AT_ONCE_BYTES;
    let object = are_many || is_large;
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
