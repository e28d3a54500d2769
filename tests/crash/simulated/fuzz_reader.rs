//! The log's reader with the seeded mutator: for any bytes, it reads or refuses.

use super::history::{directory, start, submit};
use engramdb_engine::log::fuzz_reader;
use engramdb_engine::log::local::{BLOCK_BYTES, segment_file};
use engramdb_sim::env::SimEnv;
use engramdb_sim::fuzz;

/// The used part of a segment with every kind of entry and piece, cleanly ended.
fn segment() -> Vec<u8> {
    let sim = SimEnv::new(1);
    let (pipeline, _) = start(&sim);
    for (number, length) in [10, 0, 20_000, 500].into_iter().enumerate() {
        submit(&pipeline, &vec![number as u8; length]);
        if number % 2 == 1 {
            pipeline.pump();
        }
    }
    pipeline.submit_time(1_800_000_000_000);
    pipeline.close().expect("a clean stop");
    let mut bytes = sim.disk.bytes(&segment_file(&directory(), 1)).expect("the first segment");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    bytes.truncate(used.next_multiple_of(BLOCK_BYTES));
    bytes
}

#[test]
fn the_reader_reads_or_refuses() {
    let segment = segment();
    assert_eq!(fuzz_reader(&segment), 4, "the corpus is read whole");
    let corpus = [segment[..2 * BLOCK_BYTES].to_vec(), segment];
    let dictionary: [&[u8]; 8] =
        [b"EDBE", b"EDBLOGSG", &[0xFF; 8], &[0; 8], &[1, 0, 0, 0], &[2], &[3], &[4, 0, 0, 0, 0]];
    fuzz::run("log_reader", &corpus, &dictionary, |bytes| {
        fuzz_reader(bytes);
    });
}
