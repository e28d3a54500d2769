//! The pipeline's tests. Each test of the first part runs on each backend, including those that acknowledge
//! late.

use super::*;
use crate::effect::Effect;
use crate::log::LogId;
use crate::log::entry::EntryKind;
use crate::log::memory::MemoryLog;
use crate::log::replay::Replay;
use crate::log::testing::{Schedule, TestLog};
use crate::log::tests::{Fresh, on_each_backend};
use crate::log::{Idx, LogEnd, LogEntry, Wait, WriteError};
use crate::types::{Content, Contents};

on_each_backend!(
    batches_come_back_over_restarts,
    log_thread_publishes_and_tells_watchers,
    a_second_claim_fences_the_first_writer,
    replay_goes_on_from_any_checkpoint,
    admission_is_bounded_and_credits_return,
    an_idle_log_thread_sleeps_on_until_it_is_kicked,
    the_mark_is_behind_what_is_durable,
    time_and_release_are_acknowledged_like_any_entry,
    an_idle_writer_keeps_a_bounded_number_of_buffers,
    a_leading_thread_and_the_log_thread_share_the_work,
);

fn manual() -> Options {
    Options { log_thread: false, ..Options::default() }
}

fn submit(pipeline: &Pipeline, lsn: u64, batch: &[u8]) {
    let mut credit = loop {
        match pipeline.admit(batch.len()) {
            Ok(credit) => break credit,
            Err(Refusal::Busy) => std::thread::yield_now(),
            Err(other) => panic!("there is room: {other}"),
        }
    };
    pipeline.submit(&mut credit, Lsn(lsn), 1000 + lsn, batch);
}

/// Does the log thread's work until the batch is durable.
fn settle(pipeline: &Pipeline, lsn: u64) {
    while pipeline.durable() < Lsn(lsn) {
        assert_eq!(pipeline.failure(), None);
        pipeline.pump();
    }
}

fn close(pipeline: &Pipeline) {
    while let Err(error) = pipeline.close() {
        assert_eq!(pipeline.failure(), None, "{error}");
        pipeline.pump();
    }
}

fn start(log: Arc<dyn ShardLog>, recovered: &Recovered, options: Options) -> Pipeline {
    Pipeline::start(log, recovered, options).expect("the only writer")
}

type Batches = Vec<(u64, u64, Vec<u8>)>;

fn replay_all(log: &dyn ShardLog) -> (Batches, Recovered) {
    let mut replay = Replay::new(log, Default::default());
    let mut batches = Vec::new();
    while let Some(batch) = replay.next().expect("an undamaged log") {
        batches.push((batch.lsn.0, batch.engine_time_ms, batch.bytes.to_vec()));
    }
    (batches, replay.finish())
}

fn batches_come_back_over_restarts(fresh: &Fresh) {
    let mut expected = Vec::new();
    let mut lsn = 0;
    for round in 0..5u8 {
        let log = fresh.open();
        let (batches, recovered) = replay_all(&*log);
        assert!(batches == expected, "round {round}");
        assert!(recovered.voided.is_empty());
        assert_eq!(recovered.clean, round > 0);
        let pipeline = start(log, &recovered, manual());
        // Small batches share an entry, the large one spans several.
        for size in [0usize, 10, 3_000_000, 7] {
            lsn += 1;
            let batch = vec![round; size];
            submit(&pipeline, lsn, &batch);
            expected.push((lsn, 1000 + lsn, batch));
        }
        assert_eq!(pipeline.durable(), Lsn(lsn - 4));
        settle(&pipeline, lsn);
        close(&pipeline);
    }
}

#[derive(Default)]
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

fn log_thread_publishes_and_tells_watchers(fresh: &Fresh) {
    let log = fresh.open();
    let pipeline = start(log.clone(), &Recovered::default(), Options::default());
    let watcher = Arc::new(Watcher::default());
    pipeline.subscribe(watcher.clone());
    for lsn in 1..=1000 {
        submit(&pipeline, lsn, b"batch");
    }
    pipeline.wait(Lsn(1000)).expect("no failure");
    let sealed = loop {
        match pipeline.rotate() {
            Ok(sealed) => break sealed,
            Err(refusal) => assert_eq!(refusal, Refusal::Busy),
        }
    };
    assert_eq!(sealed, pipeline.mark().pos);
    pipeline.close().expect("a clean stop");
    let seen = watcher.0.lock().clone();
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&Lsn(1000)));
    assert_eq!(replay_all(&*log).0.len(), 1000);
}

fn a_second_claim_fences_the_first_writer(fresh: &Fresh) {
    let log = fresh.open();
    let first = start(log.clone(), &Recovered::default(), manual());
    submit(&first, 1, b"one");
    settle(&first, 1);
    let (_, recovered) = replay_all(&*log);
    let second = start(log.clone(), &recovered, manual());
    submit(&first, 2, b"never");
    while first.failure().is_none() {
        first.pump();
    }
    assert_eq!(first.durable(), Lsn(1));
    assert_eq!(first.failure().and_then(|fatal| fatal.fenced_by), Some(Epoch(3)));
    assert!(first.wait(Lsn(2)).is_err());
    submit(&second, 2, b"two");
    settle(&second, 2);
    let texts: Vec<_> = replay_all(&*log).0.into_iter().map(|(_, _, bytes)| bytes).collect();
    assert_eq!(texts, [b"one".to_vec(), b"two".to_vec()]);
}

fn replay_goes_on_from_any_checkpoint(fresh: &Fresh) {
    let log = fresh.open();
    let pipeline = start(log.clone(), &Recovered::default(), manual());
    for lsn in 1..=20 {
        let size = if lsn % 5 == 0 { 2_500_000 } else { 100 };
        submit(&pipeline, lsn, &vec![lsn as u8; size]);
        if lsn % 3 == 0 {
            settle(&pipeline, lsn);
        }
    }
    settle(&pipeline, 20);
    let (all, recovered) = replay_all(&*log);
    let mut replay = Replay::new(&*log, Default::default());
    for read in 1..=20 {
        replay.next().expect("an undamaged log").expect("20 batches");
        let mut rest = Replay::new(&*log, replay.checkpoint());
        let mut lsns = Vec::new();
        while let Some(batch) = rest.next().expect("an undamaged log") {
            lsns.push(batch.lsn.0);
        }
        assert_eq!(lsns, (read + 1..=20).collect::<Vec<_>>());
        assert_eq!(rest.finish(), recovered);
    }
    assert_eq!(all.len(), 20);
}

fn admission_is_bounded_and_credits_return(fresh: &Fresh) {
    let log = fresh.open();
    let one = log.limits().room_for_batch(500);
    let options = Options { buffer_bytes_max: 2 * one - 1, ..manual() };
    let pipeline = start(log, &Recovered::default(), options);
    // The first segment may still be in preparation.
    let first = loop {
        match pipeline.admit(500) {
            Ok(credit) => break credit,
            Err(refusal) => assert_eq!(refusal, Refusal::Busy, "the buffer is empty"),
        }
    };
    assert_eq!(pipeline.admit(500).err(), Some(Refusal::Busy));
    drop(first);
    let mut large = pipeline.admit(9000).expect("one batch above the bound goes alone");
    pipeline.submit(&mut large, Lsn(1), 0, &[0; 9000]);
    drop(large);
    assert_eq!(pipeline.admit(0).err(), Some(Refusal::Busy));
    settle(&pipeline, 1);
    assert!(pipeline.admit(500).is_ok());
}

fn an_idle_log_thread_sleeps_on_until_it_is_kicked(fresh: &Fresh) {
    let options = Options { wake_on_kick: true, ..Options::default() };
    let pipeline = start(fresh.open(), &Recovered::default(), options);
    (1..=3).for_each(|lsn| submit(&pipeline, lsn, b"batch"));
    pipeline.kick();
    pipeline.wait(Lsn(3)).expect("a kick is enough");
    assert_eq!(pipeline.durable(), Lsn(3));
    submit(&pipeline, 4, b"batch");
    pipeline.close().expect("a close needs no kick");
    assert_eq!(pipeline.durable(), Lsn(4));
}

/// Whenever something becomes durable, a reader of the log finds the end that the mark states.
fn the_mark_is_behind_what_is_durable(fresh: &Fresh) {
    struct Comparing {
        pipeline: Mutex<std::sync::Weak<Pipeline>>,
        seen: Mutex<Vec<(u64, u64)>>,
    }
    impl DurableWatcher for Comparing {
        fn durable(&self, lsn: Lsn) -> bool {
            let pipeline = self.pipeline.lock().upgrade().expect("the pipeline calls this");
            let (batches, recovered) = replay_all(&**pipeline.log());
            assert_eq!(recovered.end.mark, pipeline.mark());
            assert_eq!(batches.len() as u64, lsn.0);
            self.seen.lock().push((lsn.0, recovered.end.mark.pos.0));
            true
        }
        fn failed(&self, fatal: &Fatal) {
            panic!("{fatal}");
        }
    }
    let pipeline = Arc::new(start(fresh.open(), &Recovered::default(), manual()));
    let pipeline_of = Mutex::new(Arc::downgrade(&pipeline));
    let comparing = Arc::new(Comparing { pipeline: pipeline_of, seen: Mutex::default() });
    pipeline.subscribe(comparing.clone());
    let entry_bytes = pipeline.log().limits().entry_bytes_max;
    (1..=6).for_each(|lsn| submit(&pipeline, lsn, &vec![1; entry_bytes / 2 + 1]));
    settle(&pipeline, 6);
    assert_eq!(comparing.seen.lock().last(), Some(&(6, 7)), "a batch is an entry");
}

fn time_and_release_are_acknowledged_like_any_entry(fresh: &Fresh) {
    let log = fresh.open();
    let pipeline = start(log.clone(), &Recovered::default(), manual());
    for lsn in 1..=4 {
        pipeline.submit_time(5000 * lsn);
        pipeline.pump();
        submit(&pipeline, lsn, b"after the time");
        settle(&pipeline, lsn);
    }
    close(&pipeline);
    let mut kinds = Vec::new();
    let mut reader = log.read(Mark::default());
    while let crate::log::Step::Entry(entry) = reader.next(Wait::No).expect("an undamaged log") {
        kinds.push(entry.header.kind);
    }
    let mut expected = vec![EntryKind::Claim];
    (0..4).for_each(|_| expected.extend([EntryKind::Time, EntryKind::Data]));
    expected.push(EntryKind::Release);
    assert_eq!(kinds, expected);
    let (_, recovered) = replay_all(&*log);
    assert_eq!((recovered.checkpoint.engine_time_ms, recovered.clean), (20_000, true));
    assert_eq!(recovered.end.mark, pipeline.mark());
}

fn an_idle_writer_keeps_a_bounded_number_of_buffers(fresh: &Fresh) {
    let pipeline = start(fresh.open(), &Recovered::default(), manual());
    let index = pipeline.mark().index;
    for number in 1..=1000 {
        pipeline.submit_time(number);
        while pipeline.mark().index.0 < index.0 + number {
            pipeline.pump();
        }
    }
    let most = pipeline.log().limits().entries_in_flight_max + 1;
    assert!(pipeline.shared.state.lock().buffers.len() <= most);
    close(&pipeline);
}

fn a_leading_thread_and_the_log_thread_share_the_work(fresh: &Fresh) {
    let options = Options { wake_on_kick: true, ..Options::default() };
    let log = fresh.open();
    let pipeline = start(log.clone(), &Recovered::default(), options);
    for lsn in 1..=200 {
        submit(&pipeline, lsn, b"batch");
        match lsn % 3 {
            0 => pipeline.lead(),
            1 => pipeline.kick(),
            _ => {}
        }
    }
    pipeline.lead();
    pipeline.kick();
    pipeline.wait(Lsn(200)).expect("no failure");
    pipeline.close().expect("a clean stop");
    assert_eq!(replay_all(&*log).0.len(), 200);
}

// The second part: behaviour that needs a log controlled by the test.

fn over(log: &TestLog, options: Options) -> Pipeline {
    start(Arc::new(log.clone()), &Recovered::default(), options)
}

#[test]
fn nothing_is_durable_before_the_oldest_entry_has_arrived() {
    let log = TestLog::new(Schedule::AtOnce);
    let pipeline = over(&log, manual());
    log.hold();
    let entry_bytes = log.limits().entry_bytes_max;
    (1..=4).for_each(|lsn| submit(&pipeline, lsn, &vec![1; entry_bytes / 2 + 1]));
    pipeline.pump();
    assert_eq!(log.in_flight(), 4);
    log.arrive(1);
    log.arrive(2);
    pipeline.pump();
    assert_eq!((pipeline.durable(), pipeline.mark().pos), (Lsn(0), Pos(1)));
    log.arrive(0);
    pipeline.pump();
    assert_eq!((pipeline.durable(), pipeline.mark().pos), (Lsn(3), Pos(4)));
    log.go_on();
    pipeline.pump();
    assert_eq!(pipeline.durable(), Lsn(4));
}

#[test]
fn a_log_that_never_acknowledges_releases_nothing_and_loses_nothing() {
    let log = TestLog::new(Schedule::AtOnce);
    let pipeline = over(&log, manual());
    log.hold();
    submit(&pipeline, 1, b"in flight");
    pipeline.submit_time(9000);
    pipeline.pump();
    assert_eq!(pipeline.durable(), Lsn(0));
    let unfinished = pipeline.close().expect_err("the batch is not durable");
    assert!(unfinished.cause.contains("before everything was acknowledged"), "{unfinished}");
    assert!(replay_all(&log).0.is_empty());
    log.go_on();
    close(&pipeline);
    assert_eq!((pipeline.durable(), replay_all(&log).1.clean), (Lsn(1), true));
}

#[test]
fn a_late_time_entry_does_not_end_a_close() {
    let log = TestLog::new(Schedule::AtOnce);
    let pipeline = over(&log, manual());
    log.hold();
    pipeline.submit_time(9000);
    pipeline.pump();
    assert_eq!(log.in_flight(), 1, "the Time entry");
    assert!(pipeline.close().is_err());
    log.go_on();
    close(&pipeline);
    assert!(replay_all(&log).1.clean, "the Release followed the Time entry");
}

#[test]
fn a_leading_thread_leaves_a_late_entry_to_the_log_thread() {
    let log = TestLog::new(Schedule::AtOnce).with_usual_time(Duration::from_micros(50));
    let pipeline = over(&log, Options { wake_on_kick: true, ..Options::default() });
    log.hold();
    submit(&pipeline, 1, b"late");
    pipeline.lead();
    assert_eq!(pipeline.durable(), Lsn(0));
    log.go_on();
    pipeline.wait(Lsn(1)).expect("the log thread waits for it");
}

#[test]
fn a_failed_append_ends_the_writer_and_releases_nothing() {
    let failures = [
        (WriteError::Fatal { cause: "broken".to_owned() }, None),
        (WriteError::Full { cause: "no space".to_owned() }, None),
        (WriteError::Fenced { by: Epoch(7) }, Some(Epoch(7))),
    ];
    for (failure, fenced_by) in failures {
        let log = TestLog::new(Schedule::AtOnce);
        let pipeline = over(&log, manual());
        submit(&pipeline, 1, b"one");
        settle(&pipeline, 1);
        submit(&pipeline, 2, b"never acknowledged");
        log.fail(failure.clone());
        pipeline.pump();
        assert_eq!((pipeline.durable(), pipeline.mark().pos), (Lsn(1), Pos(2)), "{failure}");
        assert_eq!(pipeline.failure().map(|fatal| fatal.fenced_by), Some(fenced_by), "{failure}");
        assert!(matches!(pipeline.admit(1), Err(Refusal::Failed(_))), "{failure}");
        assert!(pipeline.close().is_err(), "{failure}");
    }
}

#[test]
fn an_entry_in_flight_at_a_rivals_claim_is_never_acknowledged() {
    let log = TestLog::new(Schedule::AtOnce);
    let pipeline = over(&log, manual());
    submit(&pipeline, 1, b"one");
    settle(&pipeline, 1);
    log.hold();
    submit(&pipeline, 2, b"in flight");
    pipeline.pump();
    let mut rival = log.claim_by_rival("rival");
    log.go_on();
    pipeline.pump();
    assert_eq!(pipeline.durable(), Lsn(1));
    assert_eq!(pipeline.failure().and_then(|fatal| fatal.fenced_by), Some(Epoch(3)));
    let time = LogEntry::new(EntryKind::Time, 9000, Lsn(1), replay_all(&log).1.checkpoint.checksum);
    assert_eq!(rival.append(time), Ok(Idx(1)));
}

/// A claim that fails leaves the recovered state unchanged: the caller reads on and claims again.
#[test]
fn a_claim_that_comes_too_late_is_made_again() {
    let log = TestLog::new(Schedule::AtOnce);
    let mut replay = Replay::new(&log, Default::default());
    assert!(replay.next().expect("memory does not fail").is_none());
    let early = replay.recovered();
    let rival = over(&log, manual());
    submit(&rival, 1, b"of the rival");
    settle(&rival, 1);
    let refused = Pipeline::start(Arc::new(log.clone()), &early, manual()).err();
    assert_eq!(refused, Some(ClaimError::Behind(LogEnd { mark: rival.mark() })));
    submit(&rival, 2, b"undisturbed");
    settle(&rival, 2);
    let mut lsns = Vec::new();
    while let Some(batch) = replay.next().expect("memory does not fail") {
        lsns.push(batch.lsn.0);
    }
    assert_eq!(lsns, [1, 2]);
    let pipeline = start(Arc::new(log.clone()), &replay.recovered(), manual());
    submit(&pipeline, 3, b"ours");
    settle(&pipeline, 3);
    assert_eq!(replay_all(&log).0.len(), 3);
}

#[test]
fn a_refused_claim_is_the_error_of_a_start_unless_the_log_may_be_unavailable() {
    let log = TestLog::new(Schedule::AtOnce);
    let unavailable = ClaimError::Unavailable { cause: "away".to_owned() };
    let misconfigured = ClaimError::Misconfigured { cause: "one replica".to_owned() };
    for refusal in [unavailable.clone(), misconfigured] {
        log.refuse_claim(refusal.clone());
        let refused = Pipeline::start(Arc::new(log.clone()), &Recovered::default(), manual()).err();
        assert_eq!(refused, Some(refusal));
    }
    log.refuse_claim(unavailable);
    let pipeline = over(&log, Options { read_only_when_full: true, ..manual() });
    assert!(matches!(pipeline.admit(1), Err(Refusal::ReadOnly { cause }) if cause == "away"));
    pipeline.pump();
    submit(&pipeline, 1, b"claimed by now");
    settle(&pipeline, 1);
}

#[test]
fn batches_of_a_run_are_submitted_together_whatever_their_sizes_and_contents() {
    let log = MemoryLog::new(LogId([1; 16]));
    let pipeline = Pipeline::start(Arc::new(log.clone()), &Recovered::default(), manual()).expect("claims");
    let (mut batches, mut expected) = (super::Batches::default(), Vec::new());
    let runs =
        [&[10, 20, 30][..], &[10, 3_000_000, 7], &[3_000_000], &[5], &[100_000], &[10, 70_000, 7, 80_000]];
    for (sizes, refers) in runs.into_iter().flat_map(|sizes| [(sizes, false), (sizes, true)]) {
        let all = sizes.iter().sum::<usize>() + 100 * sizes.len();
        let mut credit = pipeline.admit_run(sizes.len(), all, Purpose::Any).expect("the memory log has room");
        for &size in sizes {
            let content = Content::new(vec![size as u8; size]);
            let value = content.bytes().clone();
            let contents = refers.then(|| Contents::new(vec![content]));
            let effect = Effect::StringSet { key: b"key", value: &value, expires_at_ms: 0 };
            assert!(!batches.close(), "nothing is open");
            batches.open().push(0, &effect, contents.as_ref());
            assert!(batches.close());
            let mut bytes = Vec::new();
            effect.encode(0, &mut bytes);
            expected.push((expected.len() as u64 + 1, 1000, bytes));
        }
        let first = pipeline.submit_run(&mut credit, 1000, &mut batches);
        assert_eq!(first, Lsn((expected.len() - sizes.len()) as u64 + 1));
        assert_eq!(batches.count(), 0);
    }
    pipeline.pump();
    assert_eq!(pipeline.durable(), Lsn(expected.len() as u64));
    let (found, _) = replay_all(&log);
    assert!(found == expected);
}

#[test]
fn a_log_that_fails_a_leading_thread_can_be_closed() {
    let log = TestLog::new(Schedule::AtOnce);
    let pipeline = over(&log, Options { wake_on_kick: true, ..Options::default() });
    submit(&pipeline, 1, b"never acknowledged");
    log.fail(WriteError::Fenced { by: Epoch(7) });
    pipeline.lead();
    let fatal = pipeline.failure().expect("the leading thread's append has failed");
    assert_eq!(fatal.fenced_by, Some(Epoch(7)));
    assert_eq!(pipeline.close(), Err(fatal), "the log thread has ended");
}

#[test]
fn a_watcher_that_subscribes_after_the_failure_is_called_at_once() {
    #[derive(Default)]
    struct Failures(Mutex<Vec<Fatal>>);
    impl DurableWatcher for Failures {
        fn durable(&self, _: Lsn) -> bool {
            false
        }
        fn failed(&self, fatal: &Fatal) {
            self.0.lock().push(fatal.clone());
        }
    }
    let log = TestLog::new(Schedule::AtOnce);
    let pipeline = over(&log, manual());
    submit(&pipeline, 1, b"never acknowledged");
    log.fail(WriteError::Fatal { cause: "broken".to_owned() });
    pipeline.pump();
    let late = Arc::new(Failures::default());
    pipeline.subscribe(late.clone());
    assert_eq!(*late.0.lock(), [pipeline.failure().expect("it has failed")]);
}

/// The buffer of the tests of turns, in bytes.
const TURNS_BUFFER: usize = 1 << 20;

fn with_turns() -> Pipeline {
    let log = Arc::new(MemoryLog::new(LogId([7; 16])));
    let options = Options { buffer_bytes_max: TURNS_BUFFER as u64, log_thread: false, ..Options::default() };
    start(log, &Recovered::default(), options)
}

/// While batches are written without a pause, there is always something reserved.
#[test]
fn a_large_batch_is_not_overtaken_for_ever() {
    let pipeline = with_turns();
    let large = |turn: &mut AdmissionTurn| pipeline.admit_in_turn(turn, 1, 2 * TURNS_BUFFER, Purpose::Any);
    let (mut first, mut second) = (AdmissionTurn::default(), AdmissionTurn::default());
    let mut held: VecDeque<Credit> = VecDeque::new();
    while let Ok(credit) = pipeline.admit(10_000) {
        held.push_back(credit);
    }
    assert_eq!(large(&mut first).err(), Some(Refusal::Busy), "it is admitted almost alone");
    assert_eq!(large(&mut second).err(), Some(Refusal::Busy));
    assert_eq!(pipeline.turns(), 2);
    // A batch of the others ends, and they try again at once.
    let mut admitted_small = 0;
    let admitted = loop {
        held.pop_front().expect("the large batch is admitted before nothing else is left");
        if let Ok(credit) = pipeline.admit(10_000) {
            held.push_back(credit);
            admitted_small += 1;
        }
        assert_eq!(large(&mut second).err(), Some(Refusal::Busy), "it is not its turn");
        if let Ok(credit) = large(&mut first) {
            break credit;
        }
    };
    assert!(admitted_small > 2, "small batches have a share");
    assert_eq!(pipeline.turns(), 1, "a turn ends with the admission");
    pipeline.admit(10_000).expect("the admission gives small batches a share, whatever is reserved");
    drop(held);
    assert_eq!(large(&mut second).err(), Some(Refusal::Busy), "the first is not written yet");
    drop((admitted, second));
    pipeline.admit(TURNS_BUFFER * 9 / 10).expect("a caller that is gone leaves no turn behind");
}

#[test]
fn a_small_batch_takes_no_turn() {
    let pipeline = with_turns();
    let held = pipeline.admit(TURNS_BUFFER - 8192).expect("it fits");
    let mut none = AdmissionTurn::default();
    let refused = pipeline.admit_in_turn(&mut none, 1, 10_000, Purpose::Any);
    assert_eq!((refused.err(), pipeline.turns()), (Some(Refusal::Busy), 0));
    pipeline.admit(100).expect("it fits beside what is held");
    drop(held);
}

#[test]
fn a_chain_of_turns_lets_small_batches_pass() {
    let pipeline = with_turns();
    let large =
        |turn: &mut AdmissionTurn| pipeline.admit_in_turn(turn, 1, TURNS_BUFFER * 7 / 10, Purpose::Any);
    let mut turns = [AdmissionTurn::default(), AdmissionTurn::default()];
    let mut held = Some(pipeline.admit(TURNS_BUFFER * 7 / 10).expect("the buffer is empty"));
    assert!(large(&mut turns[0]).is_err());
    for round in 0..1000 {
        // The other caller's next request comes before the first one's turn ends.
        assert!(large(&mut turns[(round + 1) % 2]).is_err());
        drop(pipeline.admit(10_000).expect("while others wait for their turns"));
        drop(held.take());
        held = Some(large(&mut turns[round % 2]).expect("it is its turn"));
        drop(pipeline.admit(10_000).expect("after an admission"));
    }
}

/// Segments take longer to prepare than the buffer to drain, and others can be admitted beside it.
#[test]
fn who_waits_for_segments_has_no_turn() {
    let log = TestLog::new(Schedule::AtOnce);
    let pipeline = over(&log, manual());
    log.bound_room(4 << 20, None);
    let mut turn = AdmissionTurn::default();
    let large = |turn: &mut AdmissionTurn| pipeline.admit_in_turn(turn, 1, 300 << 20, Purpose::Any);
    for _ in 0..10 {
        assert_eq!(large(&mut turn).err(), Some(Refusal::Busy), "the log prepares segments");
        assert_eq!(pipeline.turns(), 0);
        drop(pipeline.admit(100).expect("there is room for a small batch"));
        drop(pipeline.admit_run(1, 100, Purpose::Expiry).expect("and for expiries"));
    }
    log.unbound_room();
    large(&mut turn).expect("the segments are there");
}

/// A caller that is refused for lack of space keeps its turn while it asks again for room that is held back.
#[test]
fn large_deletes_on_a_full_disk_do_not_push_each_other_back() {
    let log = TestLog::new(Schedule::AtOnce);
    let pipeline = over(&log, manual());
    let try_once = |turn: &mut AdmissionTurn| match pipeline.admit_in_turn(turn, 1, 20 << 20, Purpose::Any) {
        Err(Refusal::Full { .. }) => pipeline.admit_in_turn(turn, 1, 20 << 20, Purpose::Flush),
        other => other,
    };
    let mut turns = [AdmissionTurn::default(), AdmissionTurn::default()];
    let held = pipeline.admit(60 << 20).expect("the buffer is empty");
    turns.iter_mut().for_each(|turn| assert_eq!(try_once(turn).err(), Some(Refusal::Busy)));
    assert_eq!(pipeline.turns(), 2);
    drop(held);
    log.hold_back_room(64 << 20, 60 << 20, "the test's disk is full");
    for turn in &mut turns {
        try_once(turn).expect("what is held back is enough for it");
    }
    assert_eq!(pipeline.turns(), 0);
    log.unbound_room();
}
