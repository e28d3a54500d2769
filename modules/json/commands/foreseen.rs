//! Writes of documents that an index takes long to read: it reads the new document before the write.

use crate::document::JsonDocument;
use crate::effect;
use crate::value::tree::Root;
use engramdb_engine::keyspace::TypedValue;
use engramdb_engine::module::Upcoming;
use engramdb_engine::store::tx::Tx;

/// Whether modules are ready for a payload that is applied next (`Tx::is_foreseen`). If not, the handler must
/// return, without an effect or a reply. `built` is the value of a Set at the root, if it is there already.
pub fn is_foreseen(tx: &mut Tx<'_>, key: &[u8], kind: u8, payload: &[u8], built: Option<&Root>) -> bool {
    tx.is_foreseen(&effect::of(key, kind, payload), |tx| {
        if let Some(root) = built.cloned() {
            return Box::new(move || Upcoming::Object(Box::new(JsonDocument::of(root))));
        }
        let before = tx.read(|view| view.object::<JsonDocument>(key).ok().flatten().cloned());
        let (mut document, key, payload) = (before.unwrap_or_default(), key.to_vec(), payload.to_vec());
        Box::new(move || {
            document
                .apply(&effect::of(&key, kind, &payload), None)
                .expect("the handler has found that it fits");
            Upcoming::Object(Box::new(document))
        })
    })
}
