//! Tests on the machine's file system. Faults are tested in tests/crash, on a simulated disk.

use super::*;
use crate::env::{Access, Disk, DiskFile, DiskLock};
use crate::log::entry::EntryKind;
use crate::log::pipeline::{Options, Pipeline};
use crate::log::replay::{Checkpoint, Recovered, Replay};
use crate::log::{Idx, LogEntry, Lsn, RunningChecksum, Step, Wait};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn options() -> LocalOptions {
    LocalOptions { segment_bytes: 1 << 20, entry_bytes_max: 64 << 10, ..LocalOptions::default() }
}

fn recover(directory: &Path) -> (LocalLog, Vec<Vec<u8>>, Recovered) {
    let log = LocalLog::open(Env::system(), directory, options()).expect("nothing else has the lock");
    let mut replay = Replay::new(&log, Checkpoint::default());
    let mut batches = Vec::new();
    while let Some(batch) = replay.next().expect("an undamaged log") {
        batches.push(batch.bytes.to_vec());
    }
    let recovered = replay.finish();
    (log, batches, recovered)
}

fn submit(pipeline: &Pipeline, batch: &[u8]) -> Lsn {
    let mut credit = loop {
        match pipeline.admit(batch.len()) {
            Ok(credit) => break credit,
            Err(_) => std::thread::yield_now(),
        }
    };
    let lsn = pipeline.last_lsn().next();
    pipeline.submit(&mut credit, lsn, lsn.0, batch);
    lsn
}

#[test]
fn batches_come_back_over_restarts_and_segments() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let mut expected: Vec<Vec<u8>> = Vec::new();
    for round in 0..4u64 {
        let (log, batches, recovered) = recover(directory.path());
        assert!(batches == expected, "round {round}");
        assert!(recovered.voided.is_empty(), "round {round}: {:?}", recovered.voided);
        assert_eq!(recovered.clean, round > 0);
        let pipeline = Pipeline::start(Arc::new(log), &recovered, Options::default()).expect("a claim");
        let mut last = Lsn(0);
        for number in 0..500u64 {
            let batch = vec![number as u8; (number * 137 % 9000) as usize];
            last = submit(&pipeline, &batch);
            expected.push(batch);
        }
        pipeline.wait(last).expect("a healthy disk");
        pipeline.close().expect("a clean stop");
    }
    assert!(recover(directory.path()).0.segments().len() > 4);
}

#[test]
fn a_second_process_is_refused() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (first, ..) = recover(directory.path());
    let second = LocalLog::open(Env::system(), directory.path(), options());
    assert!(matches!(second, Err(OpenError::Locked { .. })));
    drop(first);
    assert!(LocalLog::open(Env::system(), directory.path(), options()).is_ok());
}

#[test]
fn sealed_segments_are_read_beside_the_writer_and_trimmed() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (log, _, recovered) = recover(directory.path());
    let pipeline = Pipeline::start(Arc::new(log), &recovered, Options::default()).expect("a claim");
    let first = submit(&pipeline, b"sealed");
    let sealed = loop {
        match pipeline.rotate() {
            Ok(pos) => break pos,
            Err(_) => std::thread::yield_now(),
        }
    };
    assert!(pipeline.durable() >= first);
    let second = submit(&pipeline, b"not sealed");
    pipeline.wait(second).expect("a healthy disk");

    let reader = SealedLog::open(Env::system(), directory.path()).expect("no lock is needed");
    assert_eq!(reader.last_sealed(), sealed);
    let mut replay = Replay::over(reader.read(Mark::default()), Checkpoint::default());
    assert_eq!(replay.next().expect("undamaged").map(|batch| batch.bytes.to_vec()), Some(b"sealed".to_vec()));
    assert!(replay.next().expect("undamaged").is_none());
    let checkpoint = replay.finish().checkpoint;
    assert_eq!(checkpoint.mark.pos, sealed);

    pipeline.log().trim(checkpoint.mark.pos).expect("files can be removed");
    assert_eq!(pipeline.log().bounds().expect("bounds are known").0, sealed.next());
    let mut trimmed = Replay::new(&**pipeline.log(), Checkpoint::default());
    assert!(matches!(trimmed.next(), Err(ReadError::Trimmed { first }) if first == sealed.next()));
    let mut tail = Replay::new(&**pipeline.log(), checkpoint);
    let batch = tail.next().expect("undamaged").expect("one batch");
    assert_eq!((batch.lsn, batch.bytes), (second, &b"not sealed"[..]));
}

#[test]
fn entries_that_made_a_claim_fail_can_be_read() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (log, _, recovered) = recover(directory.path());
    let mut writer = log.claim(recovered.end, Claim::default()).expect("the only writer");
    let mark = writer.acks().wait(Idx(0), Duration::ZERO).expect("a healthy disk");
    let entry = LogEntry::new(EntryKind::Time, 1, Lsn(0), RunningChecksum::default());
    writer.append(entry).expect("there is room");
    // Like a thread that has written the entry and not yet checked the directory.
    let queue = log.shared.claimed.lock().clone().expect("the log is claimed");
    queue.advance(&log.shared, Duration::ZERO).expect("a healthy disk");
    let refused = log.claim(LogEnd { mark }, Claim::default()).err();
    let Some(ClaimError::Behind(end)) = refused else { panic!("the log has gone on: {refused:?}") };
    assert!(end.mark.pos > mark.pos);
    let mut reader = log.read(mark);
    assert!(matches!(reader.next(Wait::No), Ok(Step::Entry(entry)) if entry.pos == end.mark.pos));
}

#[test]
fn a_log_without_a_writer_is_secured_for_its_readers() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (log, _, recovered) = recover(directory.path());
    let pipeline = Pipeline::start(Arc::new(log), &recovered, Options::default()).expect("a claim");
    let last = submit(&pipeline, b"unproven");
    pipeline.wait(last).expect("a healthy disk");
    pipeline.close().expect("a clean stop");
    drop(pipeline);
    let (log, batches, recovered) = recover(directory.path());
    assert!(!log.shared.state.lock().is_secured, "reading alone proves nothing");
    log.secure().expect("a healthy disk");
    assert!(log.shared.state.lock().is_secured);
    let pipeline = Pipeline::start(Arc::new(log), &recovered, Options::default()).expect("a claim");
    pipeline.close().expect("a clean stop");
    drop(pipeline);
    assert_eq!(recover(directory.path()).1, batches);
}

fn without_thread() -> LocalOptions {
    LocalOptions { background: false, ..options() }
}

/// Opens the log, and claims it for a writer.
fn start(env: Env, directory: &Path) -> Pipeline {
    let log = LocalLog::open(env, directory, without_thread()).expect("nothing else has the lock");
    let mut replay = Replay::new(&log, Checkpoint::default());
    while replay.next().expect("an undamaged log").is_some() {}
    let options = Options { log_thread: false, read_only_when_full: true, ..Options::default() };
    Pipeline::start(Arc::new(log), &replay.finish(), options).expect("a claim, or a start without one")
}

#[test]
fn a_file_with_nearly_the_name_of_one_of_the_reserve_is_left_alone() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    start(Env::system(), directory.path()).close().expect("a clean stop");
    let path = |name: &str| directory.path().join(name);
    let disk = Env::system().disk;
    let reserved = disk.read(&path("deletes-0.reserve")).expect("it was prepared");
    let strange = ["deletes-00.reserve", "deletes-+0.reserve", "deletes-2.reserve", "deletes-.reserve"];
    for name in strange {
        disk.write_atomically(&path(name), &reserved).expect("there is space");
    }
    start(Env::system(), directory.path()).close().expect("a clean stop");
    assert!(
        strange.iter().all(|name| disk.exists(&path(name)).expect("it is asked")),
        "they belong to someone else"
    );
}

/// The machine's file system, in a process that can open no file of the reserve.
struct FewDescriptors {
    disk: Arc<dyn Disk>,
    /// The number of refused opens. At the limit the disk refuses no more, so that a loop ends.
    refused: AtomicUsize,
}

impl FewDescriptors {
    const REFUSED_MAX: usize = 100;
}

impl Disk for FewDescriptors {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.disk.create(path)
    }
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let is_reserved = path.extension().is_some_and(|extension| extension == "reserve");
        if is_reserved && self.refused.fetch_add(1, Ordering::Relaxed) < FewDescriptors::REFUSED_MAX {
            return Err(rustix::io::Errno::MFILE.into());
        }
        self.disk.open(path, access)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.disk.list(directory)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn create_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.create_directory(directory)
    }
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.disk.sync_directory(directory)
    }
    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.disk.free_bytes(directory)
    }
    fn lock(&self, directory: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.disk.lock(directory)
    }
}

#[test]
fn a_start_that_cannot_take_over_the_prepared_files_is_read_only_until_it_can() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    start(Env::system(), directory.path()).close().expect("a clean stop");
    let disk = Arc::new(FewDescriptors { disk: Env::system().disk, refused: AtomicUsize::new(0) });
    let pipeline = start(Env { disk: disk.clone(), ..Env::system() }, directory.path());
    let shortage = pipeline.shortage().expect("the log is not claimed");
    assert!(shortage.read_only && shortage.cause.contains("take over"), "{shortage:?}");
    let attempts = disk.refused.load(Ordering::Relaxed);
    assert!(attempts <= 2, "each attempt ends with its first error: {attempts}");
    disk.refused.store(FewDescriptors::REFUSED_MAX, Ordering::Relaxed);
    pipeline.pump();
    assert_eq!(pipeline.shortage(), None);
    submit(&pipeline, b"after");
    pipeline.close().expect("a clean stop");
    drop(pipeline);
    assert_eq!(recover(directory.path()).1, [b"after"]);
}
