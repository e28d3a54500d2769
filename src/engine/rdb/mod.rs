//! Values in Redis's RDB format: what DUMP, RESTORE, `import` and `export` are made of. The bytes are the
//! crate `engramdb-rdb`'s; here parts become effects, and values bytes.

mod load;
mod save;
mod streams;

pub use load::{LoadedParts, PartLoader, load_payload};
pub use save::{UnsavedType, dump, save_value};

use crate::effect::decode_batch;
use crate::keyspace::Keyspace;
use crate::keyspace::digest::keyspace_digests;
use engramdb_rdb::payload::Payload;

/// A fuzz target: a payload, whatever its bytes, is refused, or builds a value that comes back from its own
/// dump. The first two bytes say type and version.
pub fn fuzz_payload(bytes: &[u8]) {
    let Some((&[value_type, version], content)) = bytes.split_first_chunk::<2>() else { return };
    let mut payload = [&[value_type], content].concat();
    engramdb_rdb::payload::seal(if version % 2 == 0 { 12 } else { 80 }, &mut payload);
    let Some(loaded) = fuzz_loaded(&payload) else { return };
    let Some(entry) = loaded.entry(0, b"k") else { return };
    let again = dump(entry.value(), 0).expect("it came from RDB");
    let again = fuzz_loaded(&again).expect("a dump can be restored");
    assert_eq!(keyspace_digests(&again), keyspace_digests(&loaded), "a value comes back from its dump");
}

/// A keyspace with the payload's value; `None` if it was refused.
fn fuzz_loaded(payload: &[u8]) -> Option<Keyspace> {
    let payload = Payload::open(payload).expect("sealed by the caller");
    let (mut keyspace, mut effects) = (Keyspace::new(1), Vec::new());
    let types = keyspace.types().clone();
    load_payload(&payload, (0, b"k", 0), &types, &mut effects).ok()?;
    for record in decode_batch(&effects) {
        let outcome = keyspace.apply(&record.expect("just encoded"));
        assert!(!outcome.mismatch, "what was loaded fits");
    }
    Some(keyspace)
}
