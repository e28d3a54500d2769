//! Readers beside a writer of the same process: they get durable entries only.

use super::*;
use crate::log::pipeline::{Options, Pipeline, Refusal};
use crate::log::replay::{Checkpoint, Followed, Recovered, Replay};

on_each_backend!(
    a_reader_is_woken_by_each_acknowledgement,
    nothing_is_read_that_is_not_acknowledged,
    a_stopped_reader_returns_from_its_wait,
    a_reader_at_the_end_goes_on_over_a_claim,
    a_follower_reads_what_a_pipeline_writes,
    a_reader_beyond_the_trimmed_part_goes_on,
    a_reader_behind_the_trimmed_part_is_refused,
);

/// Longer than any test runs, so that a reader that is not woken hangs.
const LONG: Wait = Wait::AtMost(Duration::from_secs(3600));

fn a_reader_is_woken_by_each_acknowledgement(fresh: &Fresh) {
    let log = fresh.open();
    let mut reader = log.read(Mark::default());
    assert!(matches!(reader.next(Wait::No), Ok(Step::End(end)) if end == LogEnd::default()));
    let (send, received) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        for _ in 0..=20 {
            send.send(pos_of(reader.next(LONG))).expect("the test waits for it");
        }
    });
    let mut writer = log.claim(LogEnd::default(), Claim::default()).expect("an empty log");
    let acks = writer.acks();
    assert_eq!(received.recv(), Ok(Pos(1)));
    for number in 1..=20 {
        writer.append(data(number, b"batch")).expect("there is room");
        acknowledged(&*acks, Idx(number));
        // The writer waits for the reader, so that each entry finds it asleep, or nearly.
        assert_eq!(received.recv(), Ok(Pos(number + 1)));
    }
    thread.join().expect("the reader has got everything");
}

fn nothing_is_read_that_is_not_acknowledged(fresh: &Fresh) {
    let log = fresh.open();
    let mut writer = log.claim(LogEnd::default(), Claim::default()).expect("an empty log");
    let mut reader = log.read(Mark::default());
    assert_eq!(pos_of(reader.next(Wait::No)), Pos(1));
    writer.append(data(1, b"in flight")).expect("there is room");
    let end = LogEnd { mark: Mark { pos: Pos(1), epoch: Epoch(1), index: Idx(0) } };
    assert!(matches!(reader.next(Wait::No), Ok(Step::End(found)) if found == end));
    assert!(matches!(reader.next(Wait::AtMost(Duration::ZERO)), Ok(Step::TimedOut)));
    acknowledged(&*writer.acks(), Idx(1));
    assert_eq!(pos_of(reader.next(Wait::No)), Pos(2));
}

fn a_stopped_reader_returns_from_its_wait(fresh: &Fresh) {
    let log = fresh.open();
    let mut reader = log.read(Mark::default());
    let stopper = reader.stopper();
    let thread = std::thread::spawn(move || {
        assert!(matches!(reader.next(LONG), Ok(Step::Stopped)));
        assert!(matches!(reader.next(Wait::No), Ok(Step::Stopped)), "and it stays stopped");
    });
    stopper.stop();
    thread.join().expect("the reader returns");
}

fn a_reader_at_the_end_goes_on_over_a_claim(fresh: &Fresh) {
    let log = fresh.open();
    let mut reader = log.read(Mark::default());
    assert!(matches!(reader.next(Wait::No), Ok(Step::End(_))));
    let pipeline = Pipeline::start(log.clone(), &Recovered::default(), Options::default()).expect("a claim");
    assert_eq!(pos_of(reader.next(LONG)), Pos(1));
    pipeline.close().expect("a clean stop");
    match reader.next(LONG) {
        Ok(Step::Entry(entry)) => assert_eq!(entry.header.kind, EntryKind::Release),
        other => panic!("the Release follows, not {other:?}"),
    }
}

/// Over many segments, with batches that span entries, and with pauses at the end.
fn a_follower_reads_what_a_pipeline_writes(fresh: &Fresh) {
    let log = fresh.open();
    let batch = |lsn: u64| vec![lsn as u8; (lsn * 7919 % 200_000) as usize];
    let mut replay = Replay::new(&*log, Checkpoint::default());
    let follower = std::thread::spawn(move || {
        let mut last = Lsn(0);
        while last < Lsn(200) {
            match replay.follow(LONG).expect("an undamaged log") {
                Followed::Batch(found) => {
                    assert_eq!(found.lsn, last.next());
                    assert!(found.bytes == batch(found.lsn.0), "batch {last} comes as it was written");
                    last = found.lsn;
                }
                other => panic!("batches come, not {other:?}"),
            }
        }
        // Only this call reads the last entry to its end.
        assert_eq!(replay.follow(Wait::No).expect("an undamaged log"), Followed::End);
        replay.recovered()
    });
    let pipeline = Pipeline::start(log.clone(), &Recovered::default(), Options::default()).expect("a claim");
    for lsn in 1..=200 {
        let bytes = batch(lsn);
        let mut credit = loop {
            match pipeline.admit(bytes.len()) {
                Ok(credit) => break credit,
                Err(_) => std::thread::yield_now(),
            }
        };
        pipeline.submit(&mut credit, Lsn(lsn), 1000, &bytes);
    }
    pipeline.wait(Lsn(200)).expect("a healthy log");
    let recovered = follower.join().expect("the follower has got everything");
    assert_eq!(recovered.end.mark, pipeline.mark());
    assert!(recovered.voided.is_empty());
}

fn write(log: &Arc<dyn ShardLog>, batches: u64) -> Pipeline {
    let pipeline = Pipeline::start(log.clone(), &Recovered::default(), Options::default()).expect("a claim");
    (1..=batches).for_each(|_| write_one(&pipeline));
    pipeline
}

fn write_one(pipeline: &Pipeline) {
    let lsn = pipeline.last_lsn().next();
    let mut credit = loop {
        match pipeline.admit(5) {
            Ok(credit) => break credit,
            // After a rotation the next segment may still be in preparation.
            Err(Refusal::Busy) => std::thread::yield_now(),
            Err(refusal) => panic!("there is room: {refusal}"),
        }
    };
    pipeline.submit(&mut credit, lsn, 1000, b"batch");
    pipeline.wait(lsn).expect("a healthy log");
}

/// Seals what there is, so that it can be trimmed.
fn sealed(pipeline: &Pipeline) -> Pos {
    loop {
        match pipeline.rotate() {
            Ok(pos) => return pos,
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn a_reader_beyond_the_trimmed_part_goes_on(fresh: &Fresh) {
    let log = fresh.open();
    let pipeline = write(&log, 3);
    let mut reader = log.read(Mark::default());
    for pos in 1..=4 {
        assert_eq!(pos_of(reader.next(Wait::No)), Pos(pos));
    }
    log.trim(sealed(&pipeline)).expect("a healthy log");
    write_one(&pipeline);
    assert_eq!(pos_of(reader.next(LONG)), Pos(5));
}

fn a_reader_behind_the_trimmed_part_is_refused(fresh: &Fresh) {
    let log = fresh.open();
    let pipeline = write(&log, 3);
    let mut late = log.read(Mark::default());
    log.trim(sealed(&pipeline)).expect("a healthy log");
    write_one(&pipeline);
    assert!(matches!(late.next(LONG), Err(ReadError::Trimmed { first }) if first == Pos(5)));
}
