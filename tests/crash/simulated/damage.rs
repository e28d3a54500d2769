//! Damage to files at rest: the log truncated at every byte, and every region with a flipped bit.
//!
//! The rule to verify: if acknowledged data are damaged, the start is refused with the file and the offset;
//! data in flight are void, and the start succeeds. A silent loss is the only wrong result.

use super::history::{Batches, directory, recover, small_segments, start, submit, without_threads};
use engramdb_engine::env::Disk;
use engramdb_engine::log::local::BLOCK_BYTES;
use engramdb_engine::log::pipeline::Pipeline;
use engramdb_engine::log::replay::Checkpoint;
use engramdb_sim::env::SimEnv;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A log of two segments: one sealed, the other with a few entries.
struct Written {
    sim: SimEnv,
    batches: Batches,
}

impl Written {
    /// If `clean`, the log ends with a Release.
    fn new(clean: bool) -> Written {
        let sim = SimEnv::new(1);
        let (pipeline, _) = start(&sim);
        let mut batches = Vec::new();
        for number in 0..12u8 {
            if number == 6 {
                pipeline.rotate().expect("a segment is prepared");
            }
            // Every third batch spans entries.
            let length = if number % 3 == 0 { 10_000 } else { 100 };
            let batch = vec![number; length];
            submit(&pipeline, &batch);
            pipeline.pump();
            batches.push(batch);
        }
        if clean {
            pipeline.close().expect("a clean stop");
        } else {
            drop(pipeline);
        }
        sim.disk.power_cut();
        Written { sim, batches }
    }

    /// The two started segments.
    fn files(&self) -> [PathBuf; 2] {
        [1, 2].map(|number| directory().join(format!("{number:016}.log")))
    }

    /// Recovers with one file replaced, and puts the file back.
    fn recover_with(&self, path: &Path, bytes: Vec<u8>) -> Result<Batches, String> {
        let original = self.sim.disk.bytes(path).expect("the file exists");
        self.sim.disk.set_bytes(path, bytes);
        let result = recover(&self.sim, Checkpoint::default()).map(|(_, batches, _)| batches);
        self.sim.disk.set_bytes(path, original);
        result
    }
}

/// A refusal must name file and offset.
fn assert_names(path: &Path, error: &str, case: &str) {
    assert!(error.contains(&path.display().to_string()), "{case}: {error}");
}

#[test]
fn a_log_cut_at_any_byte_is_refused() {
    // Segments are preallocated durably, so a file that is too short was truncated by another program:
    // whether entries were lost is unknown, and the start is refused.
    let written = Written::new(false);
    for path in written.files() {
        let bytes = written.sim.disk.bytes(&path).expect("the file exists");
        let used = used_bytes(&bytes);
        for length in 0..used {
            let case = format!("{} cut to {length}", path.display());
            match written.recover_with(&path, bytes[..length].to_vec()) {
                Err(error) => {
                    let says_why =
                        ["damaged", "missing", "starts at"].iter().any(|word| error.contains(word));
                    assert!(says_why, "{case}: {error}");
                }
                // Only the padding of a sealed segment's last entry may be missing.
                Ok(batches) => {
                    assert!(length + BLOCK_BYTES > used && batches == written.batches, "{case}");
                }
            }
        }
    }
}

/// The file up to its last byte that is not zero, rounded up.
fn used_bytes(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    last.next_multiple_of(BLOCK_BYTES).min(bytes.len())
}

#[test]
fn entries_that_end_at_any_byte_recover_to_a_prefix() {
    // The state after a crash: the preallocated file with zeros from some byte on.
    let written = Written::new(false);
    let path = &written.files()[1];
    let bytes = written.sim.disk.bytes(path).expect("the file exists");
    let mut seen = Vec::new();
    for length in BLOCK_BYTES..used_bytes(&bytes) {
        let mut torn = bytes.clone();
        torn[length..].fill(0);
        let batches = written.recover_with(path, torn).expect("a torn tail is void");
        assert_eq!(batches[..], written.batches[..batches.len()], "cut at {length}");
        if seen.last() != Some(&batches.len()) {
            seen.push(batches.len());
        }
    }
    // The last byte removed is padding.
    assert_eq!(seen, (6..=12).collect::<Vec<_>>(), "each batch ends somewhere");
}

#[test]
fn a_flip_anywhere_is_refused_or_harmless() {
    for clean in [false, true] {
        let written = Written::new(clean);
        let files = written.files();
        for (path, last_segment) in [(&files[0], false), (&files[1], true)] {
            let bytes = written.sim.disk.bytes(path).expect("the file exists");
            let mut refused = 0;
            for offset in (0..bytes.len()).step_by(7) {
                let mut flipped = bytes.clone();
                flipped[offset] ^= 1 << (offset % 8);
                let case = format!("{} flipped at {offset}, clean {clean}", path.display());
                match written.recover_with(path, flipped) {
                    Err(error) => {
                        refused += 1;
                        assert_names(path, &error, &case);
                    }
                    Ok(batches) if batches == written.batches => {}
                    // A limit of the format: damage to the very last entry looks the same as a torn tail.
                    Ok(batches) if last_segment && !clean => {
                        assert_eq!(batches[..], written.batches[..11], "{case}");
                        assert!(offset + 2 * BLOCK_BYTES >= used_bytes(&bytes), "{case}");
                    }
                    Ok(batches) => panic!("{case}: {} of {} batches", batches.len(), written.batches.len()),
                }
            }
            assert!(refused > 1000, "most bytes matter: {refused}");
        }
    }
}

#[test]
fn a_segment_that_is_missing_is_refused() {
    let written = Written::new(true);
    let (pipeline, _) = start(&written.sim);
    pipeline.close().expect("a clean stop");
    drop(pipeline);
    // The start above created a third segment; without the second, the log has a hole.
    let disk: &dyn engramdb_engine::env::Disk = &written.sim.disk;
    disk.remove(&written.files()[1]).expect("the file exists");
    let error = recover(&written.sim, Checkpoint::default()).map(drop).expect_err("a hole");
    assert!(error.contains("missing"), "{error}");
}

#[test]
fn a_foreign_segment_is_refused() {
    let written = Written::new(true);
    let mut other = SimEnv::new(2);
    other.env.random = SimEnv::new(99).env.random;
    let (pipeline, _) = start(&other);
    pipeline.rotate().expect("a segment is prepared");
    submit(&pipeline, b"foreign");
    pipeline.rotate().expect("a segment is prepared");
    drop(pipeline);
    let path = &written.files()[1];
    let foreign = other.disk.bytes(path).expect("the file exists");
    let error = written.recover_with(path, foreign).map(drop).expect_err("another log's segment");
    assert!(error.contains("belongs to log"), "{error}");
    assert!(small_segments().segment_bytes > 0);
}

#[test]
fn a_log_without_any_of_its_segments_is_refused() {
    let written = Written::new(true);
    for path in written.sim.disk.paths() {
        if path.extension().is_some_and(|extension| extension == "log") {
            written.sim.disk.remove(&path).expect("it was listed");
        }
    }
    let error = recover(&written.sim, Checkpoint::default()).map(drop).expect_err("it is not a new log");
    assert!(error.contains("/data/log has lost all its segments"), "{error}");
}

#[test]
fn a_first_start_that_ends_at_any_moment_is_started_again() {
    for operations in 1..80 {
        for power in [false, true] {
            let sim = SimEnv::new(operations);
            sim.disk.cut_after(operations);
            let started = recover(&sim, Checkpoint::default()).and_then(|(log, _, recovered)| {
                let started = Pipeline::start(Arc::new(log), &recovered, without_threads());
                started.map_err(|error| error.to_string())
            });
            assert!(started.is_ok() || sim.disk.power_is_off(), "{operations}: {:?}", started.err());
            drop(started);
            if power {
                sim.disk.power_cut()
            } else {
                sim.disk.kill()
            }
            start(&sim);
        }
    }
}
