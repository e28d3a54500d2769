//! Writes of documents that take long: an index reads the new document before the write, and a change of many
//! places, or of large values, is made before it, both without the lock.

use crate::document::JsonDocument;
use crate::effect;
use crate::limits::{PLACES_AT_ONCE, SET_AT_ONCE_BYTES};
use crate::value::tree::Root;
use engramdb_engine::keyspace::{EffectOrigin, TypedValue};
use engramdb_engine::module::{Upcoming, UpcomingMaking};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use engramdb_engine::{Foreseen, Foresight};

/// Applies a planned effect, which changes this many places of the document. False if the command must return
/// now, without a reply, and will run again.
#[must_use]
pub fn change(tx: &mut Tx<'_>, key: &[u8], kind: u8, payload: &[u8], places: usize) -> bool {
    let effect = effect::of(key, kind, payload);
    let copies = kind == effect::APPEND
        && tx.read(|view| existing(view, key).is_some_and(JsonDocument::is_shared_text));
    let object = copies || places > PLACES_AT_ONCE || payload.len() > SET_AT_ONCE_BYTES;
    match tx.foresee(&effect, Foresight { object }, |tx| changing(tx, key, kind, payload)) {
        Foreseen::Ready(made) => _ = tx.apply_given(effect, made),
        Foreseen::Again => return false,
    }
    true
}

fn existing<'a>(view: &View<'a>, key: &[u8]) -> Option<&'a JsonDocument> {
    view.object::<JsonDocument>(key).ok().flatten()
}

/// Makes the document as an effect leaves it, of a clone.
fn changing(tx: &mut Tx<'_>, key: &[u8], kind: u8, payload: &[u8]) -> UpcomingMaking {
    let before = tx.read(|view| existing(view, key).cloned());
    let (mut document, key, payload) = (before.unwrap_or_default(), key.to_vec(), payload.to_vec());
    Box::new(move || {
        document
            .apply(&effect::of(&key, kind, &payload), EffectOrigin::Command)
            .expect("the handler has found that it fits");
        Upcoming::Object(Box::new(document))
    })
}

/// Sets a whole document, of which the value is there already. It comes back if the command must return now,
/// without a reply, and will run again.
pub fn set_built(tx: &mut Tx<'_>, key: &[u8], payload: &[u8], root: Root) -> Result<(), Root> {
    let effect = effect::of(key, effect::SET, payload);
    let upcoming = |_: &mut Tx<'_>| -> UpcomingMaking {
        let document = JsonDocument::of(root.clone());
        Box::new(move || Upcoming::Object(Box::new(document)))
    };
    match tx.foresee(&effect, Foresight::default(), upcoming) {
        Foreseen::Ready(_) => {
            tx.apply_given(effect, Some(Box::new(JsonDocument::of(root))));
            Ok(())
        }
        Foreseen::Again => Err(root),
    }
}
