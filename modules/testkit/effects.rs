//! Effects as text, for golden scripts.

use engramdb_engine::effect::decode_batch;

/// A batch, one effect per line.
pub fn show_batch(batch: &[u8]) -> Vec<String> {
    decode_batch(batch).map(|record| record.expect("a batch from the log").to_string()).collect()
}
