//! A data directory that changes while the server runs, on the machine's own file system with a simulated
//! clock.
//!
//! The story: an operator cleans up and deletes LOCK. A second server starts in the directory, both write,
//! and one of the two logs is lost, including acknowledged writes. Or the whole directory is deleted: an open
//! file accepts writes and syncs forever, and they can never be read.

#![allow(clippy::disallowed_methods, reason = "plays the person who deletes files")]

use super::history::{recover, small_segments, start, submit, without_threads};
use engramdb_engine::env::{Disk, Env};
use engramdb_engine::log::local::{LocalLog, LocalOptions, OpenError};
use engramdb_engine::log::pipeline::Pipeline;
use engramdb_engine::log::replay::{Checkpoint, Replay};
use engramdb_sim::env::SimEnv;
use engramdb_testkit::process::TempDir;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Running {
    sim: SimEnv,
    directory: TempDir,
    pipeline: Pipeline,
}

fn options() -> LocalOptions {
    LocalOptions {
        segment_bytes: 64 << 10,
        entry_bytes_max: 8 << 10,
        background: false,
        ..Default::default()
    }
}

fn open(sim: &SimEnv, log: &Path) -> Result<LocalLog, OpenError> {
    let env = Env { disk: Env::system().disk, ..sim.env.clone() };
    LocalLog::open(env, log, options())
}

impl Running {
    fn start(name: &str) -> Running {
        Running::start_at(SimEnv::new(1), TempDir::new(name)).expect("an empty directory")
    }

    fn start_at(sim: SimEnv, directory: TempDir) -> Result<Running, OpenError> {
        let log = open(&sim, &directory.path().join("log"))?;
        let mut replay = Replay::new(&log, Checkpoint::default());
        assert!(replay.next().expect("an empty log").is_none());
        let pipeline = Pipeline::start(Arc::new(log), &replay.finish(), without_threads());
        let running = Running { sim, directory, pipeline: pipeline.expect("a claim") };
        running.write().expect("all is in place");
        Ok(running)
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Writes a batch; returns the error if it is not acknowledged.
    fn write(&self) -> Result<(), String> {
        let failed = |error: &dyn std::fmt::Display| Err(error.to_string());
        let mut credit = match self.pipeline.admit(3000).or_else(|_| self.pipeline.admit(3000)) {
            Ok(credit) => credit,
            Err(refusal) => return failed(&refusal),
        };
        let lsn = self.pipeline.last_lsn().next();
        self.pipeline.submit(&mut credit, lsn, lsn.0, &[7; 3000]);
        self.pipeline.pump();
        self.pipeline.wait(lsn).or_else(|fatal| failed(&fatal))
    }

    /// Asserts that nothing is acknowledged once the next check is due.
    fn assert_stops(self, gone: &Path) {
        self.sim.clock.advance_ms(100);
        let error = self.write().expect_err("nobody would find the write");
        assert!(error.contains("removed, moved or replaced"), "{error}");
        assert!(error.contains(&gone.display().to_string()), "{error}");
        self.write().expect_err("it stays stopped");
    }
}

#[test]
fn a_second_server_is_refused_though_lock_was_deleted() {
    let running = Running::start("lock-deleted");
    fs::remove_file(running.log().join("LOCK")).expect("LOCK is there");
    let second = open(&running.sim, &running.log());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    running.sim.clock.advance_ms(100);
    running.write().expect("LOCK is for people to see");
}

#[test]
fn a_directory_that_was_removed_stops_the_acknowledgements() {
    let running = Running::start("removed");
    fs::remove_dir_all(running.log()).expect("it can be removed");
    let gone = running.log();
    running.assert_stops(&gone);
}

#[test]
fn a_data_directory_that_was_moved_stops_the_acknowledgements() {
    let running = Running::start("moved");
    let (from, to) = (running.directory.path().to_owned(), running.directory.path().with_extension("moved"));
    fs::rename(&from, &to).expect("it can be moved");
    // A different store in the same place does not count.
    fs::create_dir_all(from.join("log")).expect("the path is free");
    let second = open(&running.sim, &from.join("log")).expect("a directory of its own");
    let gone = running.log();
    running.assert_stops(&gone);
    drop(second);
    fs::remove_dir_all(to).expect("it can be removed");
}

#[test]
fn a_current_segment_that_was_removed_stops_the_acknowledgements() {
    let running = Running::start("segment-removed");
    let segment = running.log().join("0000000000000001.log");
    fs::remove_file(&segment).expect("it is there");
    running.assert_stops(&segment);
}

#[test]
fn the_next_segment_is_looked_at_when_it_is_started() {
    let running = Running::start("spare-removed");
    let spare = running.log().join("0000000000000002.log");
    fs::remove_file(&spare).expect("it is prepared");
    // The clock does not advance: only the start of the segment can notice the change.
    let error = (0..20).find_map(|_| running.write().err()).expect("the first segment is full by then");
    assert!(error.contains(&spare.display().to_string()), "{error}");
}

/// A second directory with the same files, as from `cp -al`, in which nothing is locked.
fn link_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the path is free");
    for entry in fs::read_dir(from).expect("it is there").flatten() {
        if entry.file_name() != "LOCK" {
            fs::hard_link(entry.path(), to.join(entry.file_name())).expect("the file system has hard links");
        }
    }
}

#[test]
fn no_file_is_written_by_two_directories() {
    let running = Running::start("linked");
    let copy = TempDir::new("linked-copy");
    let other = copy.path().join("log");
    link_files(&running.log(), &other);
    let refused = open(&running.sim, &other).map(drop).expect_err("the first segment is being written");
    assert!(matches!(refused, OpenError::SegmentLocked { .. }), "{refused}");

    // Without the segments in use, the copy is a new log; it does not use prepared segments.
    fs::remove_file(other.join("0000000000000001.log")).expect("it is there");
    fs::remove_file(other.join("STARTED")).expect("it is there");
    let second = Running::start_at(running.sim.clone(), copy).expect("a new log");
    (0..200).for_each(|_| {
        // A write may find that the next segment is not prepared yet.
        _ = running.write();
        _ = second.write();
    });
    let numbers = |log: &Path| {
        use std::os::unix::fs::MetadataExt;
        let files = fs::read_dir(log).expect("it is there").flatten();
        files
            .map(|file| file.metadata().expect("it is there").ino())
            .collect::<std::collections::BTreeSet<u64>>()
    };
    let (ours, theirs) = (numbers(&running.log()), numbers(&second.log()));
    assert!(ours.len() > 10 && theirs.len() > 10);
    assert_eq!(ours.intersection(&theirs).count(), 0);
}

#[test]
fn the_lock_of_a_segment_ends_with_its_process() {
    let sim = SimEnv::new(1);
    let (pipeline, _) = start(&sim);
    submit(&pipeline, b"one");
    pipeline.pump();
    let other = PathBuf::from("/other");
    sim.disk.create_directory(&other).expect("nothing fails");
    for path in sim.disk.paths() {
        let name = path.file_name().expect("a file has a name");
        sim.disk.link(&path, &other.join(name)).expect("nothing fails");
    }
    let open = || LocalLog::open(sim.env.clone(), &other, small_segments());
    let segment = other.join("0000000000000001.log");
    let refused = open().map(drop).expect_err("it is being written");
    assert!(matches!(&refused, OpenError::SegmentLocked { file } if *file == segment), "{refused}");
    submit(&pipeline, b"two");
    pipeline.pump();
    sim.disk.kill();
    drop(open().expect("nobody writes it any more"));
    assert_eq!(recover(&sim, Checkpoint::default()).expect("all is there").1.len(), 2);
}
