//! Backups of a running store: it writes, rolls its log, makes snapshots and trims, between any two disk
//! operations of the backup.

use super::tools::{backup, lose, open_and_compare, prepared, restore, target, verify};
use engramdb_engine::backup::manifest::BackupManifest;
use engramdb_engine::env::{Access, Disk, DiskFile, DiskLock, Env};
use engramdb_engine::snapshot::digest::keyspace_digests;
use engramdb_engine::snapshot::manifest::Manifest;
use engramdb_testkit::store::{Store, directory};
use parking_lot::Mutex;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

type Hook = Arc<Mutex<dyn FnMut() + Send>>;

/// A disk that calls a hook before each of its operations that read or link files.
struct Hooked {
    inner: Arc<dyn Disk>,
    hook: Hook,
}

impl Hooked {
    fn call(&self) {
        (self.hook.lock())();
    }

    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(HookedFile { inner: file, hook: self.hook.clone() })
    }
}

impl Disk for Hooked {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.create(path)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.call();
        self.inner.open(path, access).map(|file| self.wrap(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call();
        self.inner.link(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.call();
        self.inner.list(directory)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.inner.exists(path)
    }
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.inner.create_directory(directory)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.inner.sync_directory(directory)
    }
    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.inner.free_bytes(directory)
    }
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.inner.lock(directory)
    }
}

struct HookedFile {
    inner: Arc<dyn DiskFile>,
    hook: Hook,
}

impl DiskFile for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.hook.lock())();
        self.inner.read_at(buffer, offset)
    }
    fn write_vectored_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.inner.write_vectored_at(slices, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_size(bytes)
    }
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.inner.is_at(path)
    }
    fn links(&self) -> io::Result<u64> {
        self.inner.links()
    }
    fn try_lock(&self) -> io::Result<()> {
        self.inner.try_lock()
    }
}

/// The activity of the store while its backup is made.
#[derive(Clone, Copy, Debug)]
enum Busy {
    /// Writes at every operation.
    Writes,
    /// Writes several entries at the given operation.
    WritesAt(usize),
    /// From the given operation on, at three of them: writes, makes two snapshots, and trims to the newest.
    SnapshotsFrom(usize),
}

/// Backs up a busy store, loses it and restores it. Returns the number of the backup's disk operations.
fn round(seed: u64, copies_only: bool, busy: Busy) -> usize {
    let store = prepared(seed);
    let sim = store.sim.clone();
    let before = live_digest(&store);
    let (first_lsn, store) = (store.pipeline.durable(), Arc::new(Mutex::new(store)));
    let operations = Arc::new(Mutex::new(0usize));
    let hook: Hook = {
        let (store, operations) = (store.clone(), operations.clone());
        Arc::new(Mutex::new(move || {
            let mut number = operations.lock();
            *number += 1;
            let mut store = store.lock();
            match busy {
                Busy::Writes => store.write_some(1),
                Busy::WritesAt(at) if *number == at => store.write_some(2),
                Busy::SnapshotsFrom(from) if number.checked_sub(from).is_some_and(|since| since < 3) => {
                    for _ in 0..2 {
                        store.write_some(20);
                        store.snapshot(1).expect("nothing fails");
                    }
                }
                Busy::WritesAt(_) | Busy::SnapshotsFrom(_) => {}
            }
        }))
    };
    let disk = Arc::new(Hooked { inner: sim.env.disk.clone(), hook });
    let env = Env { disk, ..sim.env.clone() };
    let report = backup(&env, copies_only).unwrap_or_else(|error| panic!("{busy:?}: {error}"));
    drop(env);
    let manifest = report.manifest;
    assert!(manifest.lsn >= first_lsn.0, "{busy:?}: all that was acknowledged before is in it");
    assert_eq!(report.notes, Vec::<String>::new(), "{busy:?}");
    let good = verify(&sim.env).expect("a backup");
    assert_eq!(good.problems, Vec::<String>::new(), "{busy:?}");
    let store = Arc::into_inner(store).expect("the hook is gone").into_inner();
    drop(store);
    lose(&sim);
    restore(&sim.env, target()).unwrap_or_else(|error| panic!("{busy:?}: {error}"));
    let restored = Store::open(sim).expect("it comes back");
    assert_eq!(restored.pipeline.last_lsn().0, manifest.lsn, "{busy:?}");
    if manifest.lsn == first_lsn.0 {
        assert_eq!(live_digest(&restored), before, "{busy:?}");
    }
    *operations.lock()
}

fn live_digest(store: &Store) -> String {
    format!("{:?}", keyspace_digests(store.live.keyspace()))
}

#[test]
fn a_backup_of_a_store_that_writes_all_the_time_is_whole() {
    for copies_only in [false, true] {
        for seed in 0..6 {
            round(seed, copies_only, Busy::Writes);
        }
    }
}

#[test]
fn entries_written_at_any_moment_of_a_backup_are_no_damage() {
    // The bug that this guards against: a reader reaches the end of the log, and then finds an entry after it
    // that was written meanwhile, which proves that the missing part was acknowledged.
    let operations = round(1, false, Busy::WritesAt(usize::MAX));
    for operation in 1..=operations {
        round(1, false, Busy::WritesAt(operation));
    }
}

#[test]
fn snapshots_and_trims_at_any_moment_leave_a_backup_complete() {
    for copies_only in [false, true] {
        let operations = round(1, copies_only, Busy::SnapshotsFrom(usize::MAX));
        assert!(operations > 30, "the hook was called: {operations}");
        for operation in 1..=operations {
            round(1, copies_only, Busy::SnapshotsFrom(operation));
        }
    }
}

#[test]
fn a_restored_store_is_a_history_of_its_own() {
    let store = prepared(3);
    let (sim, old_id) = (store.sim.clone(), store.log.id());
    let report = backup(&sim.env, false).expect("nothing fails");
    let written = store.abandon();
    assert_eq!(report.manifest.log_id, old_id);
    let old_snapshots = Manifest::load(&sim.disk, &target().join("shards/0/snapshots")).expect("it is whole");
    lose(&sim);
    let restored = restore(&sim.env, target()).expect("nothing fails");
    assert!(restored.log_id != old_id && !restored.snapshots_only);
    assert_eq!(
        sim.disk.bytes(&directory().join("shards/0/indexes/1.index")).as_deref(),
        Some(&b"a graph"[..])
    );
    assert_eq!(sim.disk.bytes(&directory().join("shards/0/indexes/2.tmp")), None);

    let mut store = open_and_compare(&sim, &written).expect("the same comes back");
    assert_eq!(store.log.id(), restored.log_id);
    // It continues to work: it writes, makes snapshots, trims its log, stops and starts. It keeps the id of
    // its parent log.
    for _ in 0..3 {
        store.write_some(30);
        store.snapshot(1).expect("nothing fails");
    }
    let written = store.abandon();
    let manifest = Manifest::load(&sim.disk, &directory().join("shards/0/snapshots")).expect("it is whole");
    assert_eq!((manifest.log_id, manifest.parent), (restored.log_id, old_id));
    assert_eq!(manifest.parent_pos, report.manifest.pos);
    let store = open_and_compare(&sim, &written).expect("the same comes back");

    // A backup of the new history has the parent's id too. A snapshot of the old history is foreign to it.
    for path in super::tools::files_in(&sim, target()) {
        sim.disk.remove(&path).expect("it was listed");
    }
    let again: BackupManifest = backup(&sim.env, true).expect("nothing fails").manifest;
    assert_eq!(
        (again.log_id, again.parent, again.parent_pos),
        (restored.log_id, old_id, report.manifest.pos)
    );
    drop(store);
    old_snapshots.store(&sim.disk, &directory().join("shards/0/snapshots")).expect("nothing fails");
    let refused = Store::open(sim).map(drop).expect_err("a foreign snapshot");
    assert!(refused.contains("the snapshots in /data/shards/0/snapshots are of log"), "{refused}");
}
