//! Damage to every file of a backup, to the source of a backup, and to a copy of `snapshots`; unsuitable
//! targets.

use super::tools::{backup, files_in, lose, open_and_compare, prepared, put, restore, target, verify};
use engramdb_engine::backup::BackupError;
use engramdb_engine::data_dir::{DataDirError, check_data_directory};
use engramdb_engine::env::Disk;
use engramdb_engine::log::local::BLOCK_BYTES;
use engramdb_testkit::store::{directory, manifest, snapshots};
use std::path::Path;

#[test]
fn a_flipped_bit_in_any_file_of_a_backup_is_found_and_named() {
    let store = prepared(1);
    let sim = store.sim.clone();
    backup(&sim.env, false).expect("nothing fails");
    drop(store);
    lose(&sim);
    let files = files_in(&sim, target());
    assert!(files.len() >= 5, "manifests, snapshot, graph, segments: {files:?}");
    for path in files {
        let bytes = sim.disk.bytes(&path).expect("it was listed");
        // One bit of every byte of small files; of larger files, places all over.
        let step = (bytes.len() / 300).max(1);
        for offset in (0..bytes.len()).step_by(step) {
            let mut flipped = bytes.clone();
            flipped[offset] ^= 1 << ((offset / step) % 8);
            sim.disk.set_bytes(&path, flipped);
            let found = match verify(&sim.env) {
                Ok(report) => report.problems.join("\n"),
                Err(error) => error.to_string(),
            };
            let place = format!("{} flipped at {offset}", path.display());
            assert!(
                found.contains(&format!("{} is damaged at offset ", path.display())),
                "{place}: {found:?}"
            );
            if offset.is_multiple_of(7 * step) {
                let refused = restore(&sim.env, target()).expect_err(&place).to_string();
                assert!(refused.contains(&path.display().to_string()), "{place}: {refused}");
                assert!(files_in(&sim, directory()).is_empty(), "{place}: nothing is published");
            }
        }
        sim.disk.set_bytes(&path, bytes[..bytes.len() - 1].to_vec());
        let cut = verify(&sim.env).map_or_else(|error| vec![error.to_string()], |report| report.problems);
        assert!(cut[0].contains(&path.display().to_string()), "{cut:?}");
        sim.disk.set_bytes(&path, bytes);
    }
    assert!(verify(&sim.env).expect("a backup").problems.is_empty());
}

#[test]
fn a_missing_file_of_a_backup_is_named() {
    let store = prepared(1);
    let sim = store.sim.clone();
    backup(&sim.env, true).expect("nothing fails");
    for path in files_in(&sim, target()).into_iter().filter(|path| !path.ends_with("BACKUP")) {
        let bytes = sim.disk.bytes(&path).expect("it was listed");
        sim.disk.remove(&path).expect("it was listed");
        let problems = verify(&sim.env).expect("a backup").problems;
        assert!(problems[0].contains(&path.display().to_string()), "{problems:?}");
        put(
            &sim,
            path.parent().expect("a folder"),
            path.file_name().and_then(|name| name.to_str()).expect("text"),
            &bytes,
        );
    }
    assert!(verify(&sim.env).expect("a backup").problems.is_empty());
}

#[test]
fn a_damaged_snapshot_of_the_source_is_skipped_and_a_damaged_log_is_refused() {
    let store = prepared(2);
    let sim = store.sim.clone();
    let listed = manifest(&sim).snapshots;
    let newest = snapshots().join(&listed[0].file);
    let mut bytes = sim.disk.bytes(&newest).expect("it is there");
    bytes[200] ^= 1;
    sim.disk.set_bytes(&newest, bytes);
    let report = backup(&sim.env, false).expect("the older one and the log have everything");
    assert!(report.notes[0].contains(&format!("{} is damaged", newest.display())), "{:?}", report.notes);
    let written = store.abandon();

    let segment = files_in(&sim, &directory().join("shards/0/log"))
        .into_iter()
        .find(|path| {
            sim.disk.bytes(path).is_some_and(|bytes| bytes.len() > 2 * BLOCK_BYTES && bytes[BLOCK_BYTES] != 0)
        })
        .expect("a segment with entries");
    let bytes = sim.disk.bytes(&segment).expect("it was listed");
    let mut damaged = bytes.clone();
    damaged[BLOCK_BYTES + 50] ^= 1;
    sim.disk.set_bytes(&segment, damaged);
    for path in files_in(&sim, target()) {
        sim.disk.remove(&path).expect("it was listed");
    }
    let refused = backup(&sim.env, false).expect_err("acknowledged data is damaged").to_string();
    assert!(refused.contains(&format!("{} at offset {BLOCK_BYTES}", segment.display())), "{refused}");
    assert!(files_in(&sim, target()).is_empty());
    sim.disk.set_bytes(&segment, bytes);
    backup(&sim.env, false).expect("it is whole again");
    lose(&sim);
    restore(&sim.env, target()).expect("nothing fails");
    open_and_compare(&sim, &written).expect("the same comes back");
}

#[test]
fn a_copy_of_the_snapshots_alone_restores() {
    let store = prepared(4);
    store.snapshot(2).expect("nothing fails");
    let sim = store.sim.clone();
    let old_id = store.log.id();
    for path in files_in(&sim, &snapshots()) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("text");
        let bytes = sim.disk.bytes(&path).expect("it was listed");
        put(&sim, Path::new("/copy"), name, &bytes);
        put(&sim, Path::new("/moved/shards/0/snapshots"), name, &bytes);
    }
    let written = store.abandon();
    for source in ["/copy", "/moved"] {
        lose(&sim);
        let report = restore(&sim.env, Path::new(source)).expect("nothing fails");
        assert!(report.snapshots_only && report.log_id != old_id, "{report:?}");
        let mut store = open_and_compare(&sim, &written).expect("the same comes back");
        assert_eq!(store.report.batches, 0);
        store.write_some(9);
        store.snapshot(2).expect("nothing fails");
        let written = store.abandon();
        drop(open_and_compare(&sim, &written).expect("it lives on"));
    }
    // If the newer of the two snapshots is damaged, the older one is used, and the report says so.
    let newest = Path::new("/copy").join(&manifest_of(&sim, "/copy")[0]);
    let mut bytes = sim.disk.bytes(&newest).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    sim.disk.set_bytes(&newest, bytes);
    lose(&sim);
    let report = restore(&sim.env, Path::new("/copy")).expect("there is an older one");
    assert!(report.notes[0].contains(&newest.display().to_string()), "{:?}", report.notes);
}

fn manifest_of(sim: &engramdb_sim::env::SimEnv, folder: &str) -> Vec<String> {
    let manifest = engramdb_engine::snapshot::manifest::Manifest::load(&sim.disk, Path::new(folder));
    manifest.expect("it is whole").snapshots.into_iter().map(|entry| entry.file).collect()
}

#[test]
fn full_targets_are_not_written_and_sources_that_are_no_backup_are_not_restored() {
    let store = prepared(6);
    let sim = store.sim.clone();
    put(&sim, target(), "notes.txt", b"mine");
    assert!(
        matches!(backup(&sim.env, false), Err(BackupError::NotEmpty { found, .. }) if found == "notes.txt")
    );
    assert_eq!(files_in(&sim, target()).len(), 1);
    sim.disk.remove(&target().join("notes.txt")).expect("it is there");
    backup(&sim.env, false).expect("nothing fails");
    assert!(
        matches!(backup(&sim.env, false), Err(BackupError::NotEmpty { .. })),
        "one backup, one directory"
    );
    let refused = restore(&sim.env, target()).expect_err("a store is there").to_string();
    assert!(refused.contains("/data is not empty: it has shards/0/log/"), "{refused}");
    assert!(matches!(restore(&sim.env, directory()), Err(BackupError::IsData { .. })));
    assert!(matches!(restore(&sim.env, Path::new("/nowhere")), Err(BackupError::NoBackup { .. })));

    // A backup is not a data directory: a server would change it.
    let refused = check_data_directory(&sim.disk, target());
    assert!(matches!(refused, Err(DataDirError::IsBackup { .. })));
    let offline = engramdb_engine::snapshot::create_offline(
        &sim.env,
        target(),
        &Vec::new,
        &engramdb_testkit::store::offline(2),
    );
    assert!(offline.expect_err("a backup").to_string().contains("it is a backup"));
    drop(store);
    lose(&sim);
    let held = sim.disk.lock(&directory().join("shards/0/log")).expect("it is not locked");
    put(&sim, directory(), "RESTORING", b"by another process");
    assert!(matches!(restore(&sim.env, target()), Err(BackupError::Locked { .. })));
    drop(held);
    restore(&sim.env, target()).expect("that one was interrupted");
}
