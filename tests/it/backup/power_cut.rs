//! Power cuts and full disks at every operation of a backup and of a restore.
//!
//! The bugs that these tests guard against: an interrupted backup, or one whose manifest reached the disk
//! before its files, looks complete until it is needed. A server mistakes a partly restored directory for an
//! empty one, and starts without data.

use super::tools::{backup, files_in, has_graph, lose, open_and_compare, prepared, restore, target, verify};
use engramdb_engine::backup::BackupError;
use engramdb_engine::data_dir::{DataDirError, UNFINISHED_FILE, check_data_directory};
use engramdb_engine::recovery::Recovering;
use engramdb_sim::disk::{SyncKind, SyncPoint};
use engramdb_sim::env::SimEnv;
use engramdb_sim::fuzz::is_long_mode;
use engramdb_testkit::store::{Store, directory};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the disk operations of `work`, and its syncs below a directory.
fn counts(sim: &SimEnv, below: &'static Path, work: impl FnOnce()) -> (u64, u64) {
    let syncs = Arc::new(AtomicU64::new(0));
    let counter = syncs.clone();
    sim.disk.leave_out(move |point| {
        counter.fetch_add(u64::from(is_sync(point, below)), Ordering::Relaxed);
        false
    });
    let before = sim.disk.operations();
    work();
    sim.disk.leave_out(|_| false);
    (sim.disk.operations() - before, syncs.load(Ordering::Relaxed))
}

/// True for syncs below a directory, except those of rewrites, because the data are read back and compared.
fn is_sync(point: &SyncPoint<'_>, below: &Path) -> bool {
    point.kind != SyncKind::Rewrite && point.path.starts_with(below)
}

fn leave_out(sim: &SimEnv, below: &'static Path, number: Option<u64>) {
    let Some(number) = number else { return };
    let syncs = AtomicU64::new(0);
    sim.disk.leave_out(move |point| is_sync(point, below) && syncs.fetch_add(1, Ordering::Relaxed) == number);
}

/// Cuts the power at an operation of a backup. The target must then be complete or marked as incomplete; and
/// complete if the backup was reported as made.
fn cut_backup(
    seed: u64,
    copies_only: bool,
    operation: u64,
    left_out: Option<u64>,
) -> (bool, Result<(), String>) {
    let store = prepared(seed);
    let sim = store.sim.clone();
    leave_out(&sim, target(), left_out);
    sim.disk.cut_after(operation);
    let made = backup(&sim.env, copies_only).is_ok();
    let written = store.abandon();
    sim.disk.power_cut();
    sim.disk.leave_out(|_| false);
    let result = match verify(&sim.env) {
        Err(BackupError::Directory(DataDirError::Unfinished { .. }) | BackupError::NoBackup { .. })
            if !made =>
        {
            run_again(&sim, copies_only)
        }
        Err(error) => Err(format!("made: {made}: {error}")),
        Ok(report) if !report.problems.is_empty() => Err(report.problems.join("; ")),
        // Its files are complete, but it is still marked as incomplete.
        Ok(_) if made && sim.disk.bytes(&target().join(UNFINISHED_FILE)).is_some() => {
            Err("a marker".to_owned())
        }
        Ok(_) => has_graph(&sim, target()),
    };
    (made, result.and_then(|()| restore_and_compare(&sim, &written)))
}

/// Runs the same command again, which clears the target first.
fn run_again(sim: &SimEnv, copies_only: bool) -> Result<(), String> {
    backup(&sim.env, copies_only).map(drop).map_err(|error| format!("again: {error}"))
}

fn restore_and_compare(sim: &SimEnv, written: &Recovering) -> Result<(), String> {
    lose(sim);
    restore(&sim.env, target()).map_err(|error| error.to_string())?;
    all_is_there(sim, written)
}

#[test]
fn a_power_cut_at_any_operation_of_a_backup_leaves_none_that_looks_whole() {
    for copies_only in [false, true] {
        let store = prepared(1);
        let sim = store.sim.clone();
        let work = || drop(backup(&sim.env, copies_only).expect("nothing fails"));
        let (operations, _) = counts(&sim, target(), work);
        let seeds = if is_long_mode() { 100 } else { 3 };
        for operation in 1..=operations + 1 {
            for seed in 0..seeds {
                let (made, result) = cut_backup(seed, copies_only, operation, None);
                result.unwrap_or_else(|error| panic!("seed {seed}, operation {operation}: {error}"));
                assert_eq!(made, operation > operations);
            }
        }
    }
}

#[test]
fn any_sync_left_out_of_a_backup_is_noticed() {
    let store = prepared(1);
    let sim = store.sim.clone();
    let (operations, syncs) = counts(&sim, target(), || drop(backup(&sim.env, true).expect("nothing fails")));
    let mut unnoticed = Vec::new();
    for left_out in 0..syncs {
        let noticed = (0..20).any(|seed| {
            (operations / 2..=operations + 1)
                .rev()
                .any(|operation| cut_backup(seed, true, operation, Some(left_out)).1.is_err())
        });
        if !noticed {
            unnoticed.push(left_out);
        }
    }
    assert_eq!(unnoticed, Vec::<u64>::new(), "of {syncs}");
}

/// A backup whose store is lost. Also returns the content of the store.
fn lost(seed: u64) -> (SimEnv, Recovering) {
    let store = prepared(seed);
    let sim = store.sim.clone();
    backup(&sim.env, false).expect("nothing fails");
    let written = store.abandon();
    lose(&sim);
    (sim, written)
}

fn all_is_there(sim: &SimEnv, written: &Recovering) -> Result<(), String> {
    open_and_compare(sim, written).and_then(|_| has_graph(sim, directory()))
}

/// Cuts the power at an operation of a restore. A start must then refuse, or find everything.
fn cut_restore(seed: u64, operation: u64, left_out: Option<u64>) -> (bool, Result<(), String>) {
    let (sim, written) = lost(seed);
    leave_out(&sim, directory(), left_out);
    sim.disk.cut_after(operation);
    let made = restore(&sim.env, target()).is_ok();
    sim.disk.power_cut();
    sim.disk.leave_out(|_| false);
    let untouched = files_in(&sim, directory()).is_empty();
    let opened = if untouched { Err("nothing is there".to_owned()) } else { all_is_there(&sim, &written) };
    let is_refusal = |error: &String| untouched || error.contains("was not restored to the end");
    let result = match opened {
        Err(error) if !made && is_refusal(&error) => restore(&sim.env, target())
            .map_err(|error| format!("again: {error}"))
            .and_then(|_| all_is_there(&sim, &written)),
        other => other,
    };
    (made, result)
}

#[test]
fn a_power_cut_at_any_operation_of_a_restore_leaves_nothing_that_starts_without_its_data() {
    let (sim, _) = lost(1);
    let (operations, _) =
        counts(&sim, directory(), || drop(restore(&sim.env, target()).expect("nothing fails")));
    let seeds = if is_long_mode() { 100 } else { 4 };
    for operation in 1..=operations + 1 {
        for seed in 0..seeds {
            let (made, result) = cut_restore(seed, operation, None);
            result.unwrap_or_else(|error| panic!("seed {seed}, operation {operation}: {error}"));
            assert_eq!(made, operation > operations);
        }
    }
}

#[test]
fn what_a_server_acknowledged_after_a_killed_restore_survives_a_power_cut() {
    // The marker's removal is visible to the next process, but not yet durable. A start must make it durable
    // before it continues. Otherwise the marker comes back in a power cut, and the same restore command
    // removes the writes since.
    let (sim, _) = lost(1);
    let (operations, _) =
        counts(&sim, directory(), || drop(restore(&sim.env, target()).expect("nothing fails")));
    for operation in operations - 1..=operations {
        for seed in 0..20 {
            let (sim, _) = lost(seed);
            sim.disk.cut_after(operation);
            restore(&sim.env, target()).expect_err("it is killed");
            sim.disk.kill();
            if check_data_directory(&sim.disk, directory()).is_err() {
                continue;
            }
            let mut store = Store::open(sim.clone()).expect("all is there");
            store.write_some(3);
            let written = store.abandon();
            sim.disk.power_cut();
            all_is_there(&sim, &written).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
    }
}

#[test]
fn any_sync_left_out_of_a_restore_is_noticed() {
    let (sim, _) = lost(1);
    let (operations, syncs) =
        counts(&sim, directory(), || drop(restore(&sim.env, target()).expect("nothing fails")));
    let mut unnoticed = Vec::new();
    for left_out in 0..syncs {
        let noticed = (0..20).any(|seed| {
            (1..=operations + 1)
                .rev()
                .any(|operation| cut_restore(seed, operation, Some(left_out)).1.is_err())
        });
        if !noticed {
            unnoticed.push(left_out);
        }
    }
    // The names in `shards` and `shards/0`: the new snapshot creates its directory durably, parents included.
    assert_eq!(unnoticed, [1, 2], "of {syncs}");
}

#[test]
fn a_disk_that_is_full_anywhere_leaves_no_backup_and_no_half_restored_directory() {
    let mut store = prepared(5);
    let sim = store.sim.clone();
    let before = sim.disk.used_bytes();
    let mut room = 0;
    loop {
        sim.disk.set_capacity(Some(before + room));
        match backup(&sim.env, true) {
            Ok(_) => break,
            Err(error) => assert!(error.to_string().contains("bytes are free there"), "{error}"),
        }
        assert_eq!(files_in(&sim, target()), Vec::<std::path::PathBuf>::new(), "with room for {room}");
        assert_eq!(sim.disk.used_bytes(), before, "the written files are removed");
        room += 1500;
    }
    assert!(room > 20_000, "the disk was full at many places: {room}");
    sim.disk.set_capacity(None);
    store.write_some(3);
    drop(store);
    lose(&sim);
    let before = sim.disk.used_bytes();
    let mut room = 0;
    loop {
        sim.disk.set_capacity(Some(before + room));
        match restore(&sim.env, target()) {
            Ok(_) => break,
            Err(error) => assert!(error.to_string().contains("bytes are free there"), "{error}"),
        }
        assert_eq!(files_in(&sim, directory()), Vec::<std::path::PathBuf>::new(), "with room for {room}");
        room += 1500;
    }
    assert!(room > 20_000, "the disk was full at many places: {room}");
    sim.disk.set_capacity(None);
    Store::open(sim).expect("it comes back");
}
