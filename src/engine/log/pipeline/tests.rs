use super::*;
use crate::log::LogId;
use crate::log::memory::MemoryLog;
use crate::log::replay::Replay;

fn manual() -> Options {
    Options { log_thread: false, ..Options::default() }
}

fn submit(pipeline: &Pipeline, lsn: u64, batch: &[u8]) {
    let mut credit = pipeline.admit(batch.len()).expect("the memory log has room");
    pipeline.submit(&mut credit, Lsn(lsn), 1000 + lsn, batch);
}

fn replay_all(log: &MemoryLog) -> (Vec<(u64, u64, Vec<u8>)>, Recovered) {
    let mut replay = Replay::new(log, Default::default());
    let mut batches = Vec::new();
    while let Some(batch) = replay.next().expect("an undamaged log") {
        batches.push((batch.lsn.0, batch.engine_time_ms, batch.bytes.to_vec()));
    }
    (batches, replay.finish())
}

#[test]
fn batches_come_back_over_restarts() {
    let log = MemoryLog::new(LogId([1; 16]));
    let mut expected = Vec::new();
    let mut lsn = 0;
    for round in 0..5u8 {
        let (batches, recovered) = replay_all(&log);
        assert_eq!(batches, expected);
        assert!(recovered.voided.is_empty());
        assert_eq!(recovered.clean, round > 0);
        let pipeline = Pipeline::start(Arc::new(log.clone()), &recovered, manual()).expect("the only writer");
        // Small ones share an entry, the large one spans several.
        for size in [0usize, 10, 3_000_000, 7] {
            lsn += 1;
            let batch = vec![round; size];
            submit(&pipeline, lsn, &batch);
            expected.push((lsn, 1000 + lsn, batch));
        }
        assert_eq!(pipeline.durable(), Lsn(lsn - 4));
        pipeline.pump();
        assert_eq!(pipeline.durable(), Lsn(lsn));
        pipeline.close().expect("a clean stop");
    }
}

#[test]
fn log_thread_publishes_and_tells_watchers() {
    struct Watcher(Mutex<Vec<Lsn>>);
    impl DurableWatcher for Watcher {
        fn durable(&self, lsn: Lsn) -> bool {
            self.0.lock().push(lsn);
            true
        }
        fn failed(&self, fatal: &Fatal) {
            panic!("{fatal}");
        }
    }
    let log = MemoryLog::new(LogId([1; 16]));
    let pipeline = Pipeline::start(Arc::new(log.clone()), &Recovered::default(), Options::default())
        .expect("the only writer");
    let watcher = Arc::new(Watcher(Mutex::new(Vec::new())));
    pipeline.subscribe(watcher.clone());
    for lsn in 1..=1000 {
        submit(&pipeline, lsn, b"batch");
    }
    pipeline.wait(Lsn(1000)).expect("no failure");
    let sealed = pipeline.rotate().expect("memory can always seal");
    assert_eq!(sealed, pipeline.mark().pos);
    pipeline.close().expect("a clean stop");
    let seen = watcher.0.lock().clone();
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&Lsn(1000)));
    assert_eq!(replay_all(&log).0.len(), 1000);
}

#[test]
fn a_second_claim_fences_the_first_writer() {
    let log = MemoryLog::new(LogId([1; 16]));
    let first = Pipeline::start(Arc::new(log.clone()), &Recovered::default(), manual()).expect("claims");
    submit(&first, 1, b"one");
    first.pump();
    let (_, recovered) = replay_all(&log);
    let second =
        Pipeline::start(Arc::new(log.clone()), &recovered, manual()).expect("claims after reading all");
    submit(&first, 2, b"never");
    first.pump();
    assert_eq!(first.durable(), Lsn(1));
    assert!(first.failure().is_some());
    assert!(first.wait(Lsn(2)).is_err());
    submit(&second, 2, b"two");
    second.pump();
    let texts: Vec<_> = replay_all(&log).0.into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(texts, [b"one".to_vec(), b"two".to_vec()]);
}

#[test]
fn replay_goes_on_from_any_checkpoint() {
    let log = MemoryLog::new(LogId([1; 16]));
    let pipeline = Pipeline::start(Arc::new(log.clone()), &Recovered::default(), manual()).expect("claims");
    for lsn in 1..=20 {
        let size = if lsn % 5 == 0 { 2_500_000 } else { 100 };
        submit(&pipeline, lsn, &vec![lsn as u8; size]);
        if lsn % 3 == 0 {
            pipeline.pump();
        }
    }
    pipeline.pump();
    let (all, recovered) = replay_all(&log);
    let mut replay = Replay::new(&log, Default::default());
    for read in 1..=20 {
        replay.next().expect("an undamaged log").expect("20 batches");
        let mut rest = Replay::new(&log, replay.checkpoint());
        let mut lsns = Vec::new();
        while let Some(batch) = rest.next().expect("an undamaged log") {
            lsns.push(batch.lsn.0);
        }
        assert_eq!(lsns, (read + 1..=20).collect::<Vec<_>>());
        assert_eq!(rest.finish(), recovered);
    }
    assert_eq!(all.len(), 20);
}

#[test]
fn admission_is_bounded_and_credits_return() {
    let log = MemoryLog::new(LogId([1; 16]));
    let options = Options { buffer_bytes_max: 1000, ..manual() };
    let pipeline = Pipeline::start(Arc::new(log), &Recovered::default(), options).expect("claims");
    let first = pipeline.admit(500).expect("the buffer is empty");
    assert_eq!(pipeline.admit(500).err(), Some(Refusal::Busy));
    drop(first);
    let mut large = pipeline.admit(5000).expect("one batch above the bound goes alone");
    pipeline.submit(&mut large, Lsn(1), 0, &[0; 5000]);
    drop(large);
    assert_eq!(pipeline.admit(0).err(), Some(Refusal::Busy));
    pipeline.pump();
    assert!(pipeline.admit(500).is_ok());
}

#[test]
fn an_idle_log_thread_sleeps_on_until_it_is_kicked() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([3; 16])));
    let options = Options { wake_on_kick: true, ..Options::default() };
    let pipeline = Pipeline::start(log, &Recovered::default(), options).expect("an empty log");
    for number in 1..=3 {
        let mut credit = pipeline.admit(10).expect("there is room");
        pipeline.submit(&mut credit, Lsn(number), 0, b"batch");
    }
    pipeline.kick();
    pipeline.wait(Lsn(3)).expect("a kick is enough");
    assert_eq!(pipeline.durable(), Lsn(3));
    let mut credit = pipeline.admit(10).expect("there is room");
    pipeline.submit(&mut credit, Lsn(4), 0, b"batch");
    pipeline.close().expect("a close needs no kick");
    assert_eq!(pipeline.durable(), Lsn(4));
}
