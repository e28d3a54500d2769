//! Kills while a snapshot is made, then another attempt, then a power cut.
//!
//! The story: a snapshot process is killed between renaming the manifest and syncing the directory. The next
//! one reads that manifest, finds nothing to do, and trims the log accordingly; then the power is cut, and
//! the manifest is lost: the older one is back, and the log that it needs is not.

use super::power_cut::prepared;
use engramdb_engine::snapshot::create_offline;
use engramdb_engine::snapshot::offline::OfflineOptions;
use engramdb_sim::disk::{SyncKind, SyncPoint};
use engramdb_sim::env::SimEnv;
use engramdb_sim::fuzz::is_long_mode;
use engramdb_testkit::store::{Store, compare, directory, offline, snapshots};

/// What the attempt after a kill did.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Created,
    FoundNothingToDo,
}

type LeaveOut = fn(&SyncPoint<'_>) -> bool;

/// Kills the process at the `operation`th change of the disk while a snapshot is made, makes one again
/// without the skipped syncs, and cuts the power. Returns what the second attempt did, and what was wrong
/// afterwards.
fn kill_at(
    seed: u64,
    retain: usize,
    operation: u64,
    leave_out: Option<LeaveOut>,
) -> (Again, Result<(), String>) {
    let store = prepared(seed, retain);
    let sim = store.sim.clone();
    sim.disk.cut_after(operation);
    // It may have ended before.
    let _ = store.snapshot(retain);
    let written = store.abandon();
    sim.disk.kill();
    if let Some(leave_out) = leave_out {
        sim.disk.leave_out(leave_out);
    }
    let report = create_offline(&sim.env, directory(), &Vec::new, &offline(retain));
    let report = report.expect("a kill damages nothing");
    sim.disk.power_cut();
    let again = if report.created.is_some() { Again::Created } else { Again::FoundNothingToDo };
    (again, Store::open(sim).and_then(|store| compare(&written, &store.live)))
}

/// The number of changes of the disk that a snapshot makes.
fn operations(retain: usize) -> u64 {
    let store = prepared(1, retain);
    let before = store.sim.disk.operations();
    store.snapshot(retain).expect("nothing fails");
    store.sim.disk.operations() - before
}

#[test]
fn a_snapshot_made_again_after_a_kill_survives_the_next_power_cut() {
    for retain in [1, 2] {
        let seeds = if is_long_mode() { 200 } else { 6 };
        for operation in 1..=operations(retain) + 1 {
            for seed in 0..seeds {
                let (_, result) = kill_at(seed, retain, operation, None);
                result.unwrap_or_else(|error| panic!("seed {seed}, operation {operation}: {error}"));
            }
        }
    }
}

#[test]
fn a_manifest_is_durable_before_the_log_is_trimmed_by_it() {
    let names: LeaveOut = |point| point.kind == SyncKind::Directory && point.path == snapshots();
    let noticed = (1..=operations(1) + 1).rev().find_map(|operation| {
        (0..60).find_map(|seed| match kill_at(seed, 1, operation, Some(names)) {
            (Again::FoundNothingToDo, Err(error)) => Some(error),
            _ => None,
        })
    });
    println!("without that sync: {}", noticed.expect("leaving out the sync goes unnoticed"));
}

/// A rotation is killed while it writes the header of the next segment; then a snapshot is made of the
/// segments that the header declares sealed, and another run, which has nothing to do, trims the log.
fn trim_behind_a_header(seed: u64, leave_out: Option<LeaveOut>) -> Result<(), String> {
    let mut store = Store::open(SimEnv::new(seed)).expect("an empty disk is fine");
    store.write_some(15);
    let sim = store.sim.clone();
    // The next segment is prepared first.
    sim.disk.cut_after(1 + seed % 9);
    // It may have ended before.
    let _ = store.pipeline.rotate();
    let written = store.abandon();
    sim.disk.kill();
    let sealed_only = OfflineOptions { seal: false, ..offline(1) };
    create_offline(&sim.env, directory(), &Vec::new, &sealed_only).expect("a kill damages nothing");
    if let Some(leave_out) = leave_out {
        sim.disk.leave_out(leave_out);
    }
    create_offline(&sim.env, directory(), &Vec::new, &offline(1)).map_err(|error| error.to_string())?;
    sim.disk.power_cut();
    Store::open(sim).and_then(|store| compare(&written, &store.live))
}

#[test]
fn a_header_is_durable_before_the_log_is_trimmed_up_to_it() {
    for seed in 0..200 {
        trim_behind_a_header(seed, None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    let rewrites: LeaveOut = |point| point.kind == SyncKind::Rewrite;
    let syncs: LeaveOut = |point| {
        point.kind == SyncKind::File && point.path.extension().is_some_and(|extension| extension == "log")
    };
    for leave_out in [rewrites, syncs] {
        let noticed = (0..200).find_map(|seed| trim_behind_a_header(seed, Some(leave_out)).err());
        println!("without it: {}", noticed.expect("leaving it out goes unnoticed"));
    }
}
