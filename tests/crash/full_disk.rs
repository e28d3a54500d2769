//! A disk without space: writes are refused before they are applied, nothing acknowledged is lost, and writes go on
//! when there is space again.

use crate::history::{directory, recover, small_segments, start, submit};
use engramdb_engine::log::local::segment_file;
use engramdb_engine::log::pipeline::Refusal;
use engramdb_engine::log::replay::{Checkpoint, Replay};
use engramdb_sim::env::SimEnv;

/// Writes until the log refuses; the batches and the refusal.
fn write_until_refused(
    pipeline: &engramdb_engine::log::pipeline::Pipeline,
    written: &mut Vec<Vec<u8>>,
) -> Refusal {
    loop {
        match pipeline.admit(3000) {
            Err(Refusal::Busy) => pipeline.pump(),
            Err(refusal) => return refusal,
            Ok(credit) => {
                drop(credit);
                let batch = vec![written.len() as u8; 3000];
                submit(pipeline, &batch);
                written.push(batch);
            }
        }
    }
}

#[test]
fn writes_are_refused_and_go_on_later() {
    let sim = SimEnv::new(1);
    let (pipeline, _) = start(&sim);
    sim.disk.set_capacity(Some(300 << 10));
    let mut written = Vec::new();
    let refusal = write_until_refused(&pipeline, &mut written);
    let Refusal::Full { cause } = &refusal else { panic!("{refusal}") };
    assert!(cause.contains("/data/log"), "the text names the place: {cause}");
    assert!(written.len() > 20, "most of the space was used: {}", written.len());

    // Everything admitted is written, reads go on.
    pipeline.pump();
    assert_eq!(pipeline.durable().0, written.len() as u64);
    let mut replay = Replay::new(&**pipeline.log(), Checkpoint::default());
    let mut count = 0;
    while let Some(batch) = replay.next().expect("reads need no space") {
        assert_eq!(batch.bytes, written[count]);
        count += 1;
    }
    assert_eq!(count, written.len());

    // Space returns; twice, since the second time comes from trimming.
    sim.disk.set_capacity(Some(600 << 10));
    let before = written.len();
    assert!(matches!(write_until_refused(&pipeline, &mut written), Refusal::Full { .. }));
    assert!(written.len() > before + 20);
    pipeline.pump();
    pipeline.log().trim(replay.finish().checkpoint.mark.pos).expect("removing needs no space");
    let before = written.len();
    assert!(matches!(write_until_refused(&pipeline, &mut written), Refusal::Full { .. }));
    assert!(written.len() > before + 20);
    pipeline.pump();
    pipeline.close().expect("a full disk is no failure");
}

#[test]
fn a_power_cut_on_a_full_disk_loses_nothing() {
    for seed in 0..50 {
        let sim = SimEnv::new(seed);
        let (pipeline, _) = start(&sim);
        sim.disk.set_capacity(Some((200 << 10) + seed * 3000));
        let mut written = Vec::new();
        write_until_refused(&pipeline, &mut written);
        pipeline.pump();
        drop(pipeline);
        sim.disk.power_cut();
        let (log, batches, _) = recover(&sim, Checkpoint::default()).expect("a recoverable log");
        assert_eq!(batches, written, "seed {seed}");
        assert!(log.segments().len() > 1, "{}", directory().display());
    }
}

#[test]
fn a_start_gives_back_what_the_last_one_could_not() {
    let sim = SimEnv::new(1);
    let (pipeline, _) = start(&sim);
    submit(&pipeline, b"sealed");
    pipeline.rotate().expect("a segment is prepared");
    drop(pipeline);
    sim.disk.kill();
    let first = segment_file(&directory(), 1);
    let cut = sim.disk.bytes(&first).expect("the first segment").len();
    let whole = small_segments().segment_bytes as usize;
    assert!(cut < whole, "the unused part is given back");
    // A power cut may undo that.
    let mut bytes = sim.disk.bytes(&first).expect("the first segment");
    bytes.resize(whole, 0);
    sim.disk.set_bytes(&first, bytes);
    let (_pipeline, batches) = start(&sim);
    assert_eq!(batches, [b"sealed"]);
    assert_eq!(sim.disk.bytes(&first).map(|bytes| bytes.len()), Some(cut));
}
