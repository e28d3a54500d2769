//! A disk whose syncs fail.
//!
//! The story: after a failed fsync Linux marks the pages clean, so the next fsync succeeds without writing
//! them. A log that tries again acknowledges data that are not on the disk. So the first failure ends the
//! log: nothing more is acknowledged, and the disk is not synced again.

use super::history::{recover, start, submit, without_threads};
use engramdb_engine::log::pipeline::Pipeline;
use engramdb_engine::log::replay::Checkpoint;
use engramdb_sim::env::SimEnv;
use std::sync::Arc;

#[test]
fn the_first_failure_is_the_last_sync() {
    // From the first entry on, including the start of segments and their preparation.
    for failing in 1..60 {
        let sim = SimEnv::new(failing);
        let (pipeline, _) = start(&sim);
        sim.disk.fail_sync_after(failing);
        let mut written = Vec::new();
        let mut acknowledged = 0;
        let mut syncs_at_failure = None;
        for number in 0..80u8 {
            let Ok(credit) = pipeline.admit(6000) else { break };
            drop(credit);
            let batch = vec![number; 6000];
            submit(&pipeline, &batch);
            written.push(batch);
            pipeline.pump();
            if pipeline.failure().is_some() {
                let syncs = *syncs_at_failure.get_or_insert(sim.disk.syncs());
                assert_eq!(sim.disk.syncs(), syncs, "sync {failing}: nothing is retried");
            } else {
                acknowledged = written.len();
            }
            assert_eq!(pipeline.durable().0, acknowledged as u64, "sync {failing}");
        }
        assert!(pipeline.failure().is_some(), "sync {failing} failed, and the log went on");
        assert!(pipeline.wait(pipeline.durable().next()).is_err());
        assert!(pipeline.close().is_err());

        sim.disk.power_cut();
        let (_, batches, _) =
            recover(&sim, Checkpoint::default()).expect("what is torn was never acknowledged");
        assert!(batches.len() >= acknowledged, "sync {failing}");
        assert_eq!(batches[..], written[..batches.len()], "sync {failing}");
    }
}

/// Opens the log and claims it.
fn try_start(sim: &SimEnv) -> Result<(), String> {
    let (log, _, recovered) = recover(sim, Checkpoint::default())?;
    let pipeline = Pipeline::start(Arc::new(log), &recovered, without_threads());
    pipeline.map(drop).map_err(|error| error.to_string())
}

#[test]
fn a_failed_start_promises_nothing() {
    let mut failures = 0;
    for failing in 1..100 {
        let sim = SimEnv::new(failing);
        let (pipeline, _) = start(&sim);
        submit(&pipeline, b"before");
        pipeline.pump();
        assert_eq!(pipeline.durable().0, 1);
        drop(pipeline);
        sim.disk.kill();

        sim.disk.fail_sync_after(failing);
        let started = try_start(&sim);
        if !sim.disk.sync_failed() {
            started.expect("nothing failed");
            break;
        }
        // The next segment is prepared after the claim: the first append notices the failure.
        failures += u64::from(started.is_err());
        // The next process tries again, also after a power cut.
        sim.disk.kill();
        try_start(&sim).expect("a recoverable log");
        sim.disk.power_cut();
        let (_, batches, _) = recover(&sim, Checkpoint::default()).expect("a recoverable log");
        assert_eq!(batches, [b"before"], "sync {failing}");
    }
    // The syncs of the two directories above, of the last segment, of its directory, of the next header, and
    // of the claim.
    assert!(failures >= 6, "{failures}");
}
