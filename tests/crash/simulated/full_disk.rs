//! A disk without space: writes are refused before they are applied, commands that free memory use a reserve,
//! nothing acknowledged is lost, a restart succeeds, and writes resume when there is space.

use super::history::{directory, recover, small_segments, start, submit, without_threads};
use engramdb_engine::log::local::{LocalLog, LocalOptions, segment_file};
use engramdb_engine::log::pipeline::{Options, Pipeline, Refusal};
use engramdb_engine::log::replay::{Checkpoint, Replay};
use engramdb_engine::log::{ClaimError, Purpose, ShardLog};
use engramdb_sim::env::SimEnv;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;

/// More than the reserve, plus a few segments.
const CAPACITY: u64 = 700 << 10;

/// Writes batches until the log refuses; returns the refusal.
fn write_until_refused(pipeline: &Pipeline, written: &mut Vec<Vec<u8>>, purpose: Purpose) -> Refusal {
    loop {
        match pipeline.admit_run(1, 3000, purpose) {
            Err(Refusal::Busy) => pipeline.pump(),
            Err(refusal) => return refusal,
            Ok(mut credit) => {
                let batch = vec![written.len() as u8; 3000];
                let lsn = pipeline.last_lsn().next();
                pipeline.submit(&mut credit, lsn, 1_700_000_000_000 + lsn.0, &batch);
                written.push(batch);
            }
        }
    }
}

fn fill(pipeline: &Pipeline, written: &mut Vec<Vec<u8>>) {
    let refusal = write_until_refused(pipeline, written, Purpose::Any);
    assert!(matches!(refusal, Refusal::Full { .. }), "{refusal}");
    pipeline.pump();
}

/// Another program takes the remaining space.
fn fill_the_rest(sim: &SimEnv) {
    sim.disk.set_capacity(Some(sim.disk.used_bytes()));
}

/// Recovers and starts, without a claim if there is no space for one.
fn start_anyhow(sim: &SimEnv) -> (Pipeline, Vec<Vec<u8>>) {
    let (log, batches, recovered) = recover(sim, Checkpoint::default()).expect("a recoverable log");
    let options = Options { read_only_when_full: true, ..without_threads() };
    (Pipeline::start(Arc::new(log), &recovered, options).expect("a start"), batches)
}

#[test]
fn writes_are_refused_and_go_on_later() {
    let sim = SimEnv::new(1);
    let (pipeline, _) = start(&sim);
    sim.disk.set_capacity(Some(CAPACITY));
    let mut written = Vec::new();
    let refusal = write_until_refused(&pipeline, &mut written, Purpose::Any);
    let Refusal::Full { cause } = &refusal else { panic!("{refusal}") };
    assert!(
        cause.contains("/data/log") && cause.contains("64 KiB"),
        "the text names place and size: {cause}"
    );
    assert!(written.len() > 80, "most of the space was used: {}", written.len());
    assert_eq!(pipeline.shortage().map(|shortage| shortage.read_only), Some(false));

    // Everything admitted is written, and reads continue.
    pipeline.pump();
    assert_eq!(pipeline.durable().0, written.len() as u64);
    let mut replay = Replay::new(&**pipeline.log(), Checkpoint::default());
    let mut count = 0;
    while let Some(batch) = replay.next().expect("reads need no space") {
        assert_eq!(batch.bytes, written[count]);
        count += 1;
    }
    assert_eq!(count, written.len());

    // Space becomes free; twice, because the second time it comes from trimming.
    sim.disk.set_capacity(Some(CAPACITY + (300 << 10)));
    let before = written.len();
    fill(&pipeline, &mut written);
    assert!(written.len() > before + 20);
    pipeline.log().trim(replay.finish().checkpoint.mark.pos).expect("removing needs no space");
    let before = written.len();
    fill(&pipeline, &mut written);
    assert!(written.len() > before + 20);
    sim.disk.set_capacity(None);
    submit(&pipeline, b"one more");
    pipeline.log().want_room(0); // As the log does by itself each second.
    assert_eq!(pipeline.shortage(), None, "there is room again");
    pipeline.close().expect("a full disk is no failure");
}

#[test]
fn a_disk_is_not_full_any_more_once_a_segment_is_prepared() {
    let sim = SimEnv::new(7);
    let (pipeline, _) = start(&sim);
    sim.disk.set_capacity(Some(CAPACITY));
    fill(&pipeline, &mut Vec::new());
    let log = pipeline.log().clone();
    assert!(log.room().full.is_some());

    // Looks at the room whenever the next file is synced, while there is more to prepare.
    let looks = Arc::new(Mutex::new(Vec::new()));
    let (seen, looked_at) = (looks.clone(), log.clone());
    sim.disk.leave_out(move |_| {
        let room = looked_at.room();
        seen.lock().push((room.for_purpose(Purpose::Any, false), room.full));
        false
    });
    sim.disk.set_capacity(None);
    log.want_room(5 * small_segments().segment_bytes);
    sim.disk.leave_out(|_| false);
    let has_segment = |bytes: u64| bytes > small_segments().segment_bytes / 2;
    let looks = looks.lock();
    let after: Vec<_> = looks.iter().filter(|(bytes, _)| has_segment(*bytes)).collect();
    assert!(after.len() > 3 && after.len() < looks.len(), "before and after the first segment: {looks:?}");
    // A write that needs the second segment now has to wait for it, and is not refused.
    assert!(after.iter().all(|(_, full)| full.is_none()), "{after:?}");
}

#[test]
fn commands_that_free_memory_use_a_reserve() {
    let sim = SimEnv::new(2);
    let (pipeline, _) = start(&sim);
    sim.disk.set_capacity(Some(CAPACITY));
    let mut written = Vec::new();
    fill(&pipeline, &mut written);
    fill_the_rest(&sim);
    let ordinary = written.len();

    let refusal = write_until_refused(&pipeline, &mut written, Purpose::Expiry);
    assert!(matches!(refusal, Refusal::Full { .. }), "{refusal}");
    let expiry = written.len();
    assert!(expiry > ordinary, "expiry goes on for a while");
    let refusal = write_until_refused(&pipeline, &mut written, Purpose::Freeing);
    assert!(matches!(refusal, Refusal::Full { .. }), "{refusal}");
    assert!(written.len() > expiry, "commands go on where expiry does not");
    assert!(pipeline.admit_run(1, 100, Purpose::Flush).is_ok(), "a full disk can always be emptied");
    pipeline.pump();
    assert_eq!(pipeline.durable().0, written.len() as u64);
    drop(pipeline);
    sim.disk.power_cut();
    assert_eq!(recover(&sim, Checkpoint::default()).expect("a recoverable log").1, written);

    // The reserve is refilled before ordinary writes get space.
    let (pipeline, _) = start(&sim);
    sim.disk.set_capacity(Some(CAPACITY + (300 << 10)));
    fill(&pipeline, &mut written);
    fill_the_rest(&sim);
    assert!(pipeline.admit_run(1, 3000, Purpose::Freeing).is_ok());
}

#[test]
fn commands_that_free_memory_need_no_descriptor() {
    // The reserve is of this process, or of the one before it.
    for is_restarted in [false, true] {
        let sim = SimEnv::new(11);
        let (mut pipeline, _) = start(&sim);
        sim.disk.set_capacity(Some(CAPACITY));
        let mut written = Vec::new();
        fill(&pipeline, &mut written);
        fill_the_rest(&sim);
        if is_restarted {
            pipeline.close().expect("a clean stop");
            drop(pipeline);
            pipeline = start(&sim).0;
        }
        sim.disk.refuse_opens(true);
        let held = reserve_files(&sim, "deletes");
        let refusal = write_until_refused(&pipeline, &mut written, Purpose::Freeing);
        assert!(matches!(refusal, Refusal::Full { .. }), "{refusal}");
        let mut credit =
            pipeline.admit_run(1, 3000, Purpose::Flush).expect("a full disk can always be emptied");
        written.push(vec![1; 3000]);
        let lsn = pipeline.last_lsn().next();
        pipeline.submit(&mut credit, lsn, 1_800_000_000_000, &[1; 3000]);
        pipeline.pump();
        assert_eq!(pipeline.failure(), None);
        assert_eq!((held, reserve_files(&sim, "deletes")), (2, 0), "all of it was used");
        assert_eq!(pipeline.durable().0, written.len() as u64);
        let refused = pipeline.rotate().expect_err("a seal's file is not open");
        assert!(matches!(&refused, Refusal::Full { .. }), "{refused}");
        drop(pipeline);
        sim.disk.power_cut();
        assert_eq!(recover(&sim, Checkpoint::default()).expect("a recoverable log").1, written);
    }
}

fn reserve_files(sim: &SimEnv, kind: &str) -> usize {
    let names = sim.disk.paths().into_iter();
    names.filter(|path| path.display().to_string().starts_with(&format!("/data/log/{kind}-"))).count()
}

#[test]
fn a_trim_needs_no_descriptor() {
    let sim = SimEnv::new(12);
    let (pipeline, _) = start(&sim);
    sim.disk.set_capacity(Some(CAPACITY));
    fill(&pipeline, &mut Vec::new());
    let used = sim.disk.used_bytes();
    sim.disk.refuse_opens(true);
    pipeline.log().trim(pipeline.mark().pos).expect("removing needs no descriptor");
    assert!(sim.disk.used_bytes() < used / 2, "{} of {used} bytes are left", sim.disk.used_bytes());
    pipeline.pump();
    assert_eq!(pipeline.failure(), None);
}

#[test]
fn a_full_log_is_sealed_and_trimmed() {
    let sim = SimEnv::new(3);
    let (pipeline, _) = start(&sim);
    sim.disk.set_capacity(Some(CAPACITY));
    let mut written = Vec::new();
    fill(&pipeline, &mut written);
    fill_the_rest(&sim);
    let refusal = write_until_refused(&pipeline, &mut written, Purpose::Freeing);
    assert!(matches!(refusal, Refusal::Full { .. }), "{refusal}");
    pipeline.pump();

    // Several times: no space is returned before the first trim.
    let mut sealed = pipeline.rotate().expect("a seal has its own part of the reserve");
    assert_eq!(sealed.0, pipeline.mark().pos.0);
    for _ in 0..3 {
        pipeline.submit_time(1_800_000_000_000);
        sealed = pipeline.rotate().expect("another seal");
    }
    pipeline.log().trim(sealed).expect("removing needs no space");
    let before = written.len();
    fill(&pipeline, &mut written);
    assert!(written.len() > before + 20, "the trim made room: {}", written.len() - before);
    assert_eq!(pipeline.durable().0, written.len() as u64);
    pipeline.close().expect("a clean stop");
}

#[test]
fn a_start_on_a_full_disk_claims_from_the_reserve_and_then_starts_read_only() {
    let sim = SimEnv::new(4);
    let (pipeline, _) = start(&sim);
    sim.disk.set_capacity(Some(CAPACITY));
    let mut written = Vec::new();
    fill(&pipeline, &mut written);
    pipeline.close().expect("a clean stop");
    drop(pipeline);

    let mut starts = 0;
    let read_only = loop {
        fill_the_rest(&sim);
        let (pipeline, batches) = start_anyhow(&sim);
        assert_eq!(batches, written, "start {starts}");
        match pipeline.shortage() {
            Some(shortage) if shortage.read_only => break pipeline,
            _ => pipeline.close().expect("a clean stop"),
        }
        starts += 1;
    };
    assert!(starts >= 8, "{starts} starts found room");
    for purpose in [Purpose::Any, Purpose::Expiry, Purpose::Freeing] {
        assert!(matches!(read_only.admit_run(1, 10, purpose), Err(Refusal::ReadOnly { .. })));
    }
    assert!(read_only.admit_run(0, 0, Purpose::Any).is_ok(), "a transaction that only reads");
    assert!(matches!(read_only.rotate(), Err(Refusal::ReadOnly { .. })));
    read_only.submit_time(1_800_000_000_000);
    read_only.pump();
    drop(read_only);

    // A tool that does not accept read-only gets the reason.
    let (log, _, recovered) = recover(&sim, Checkpoint::default()).expect("a recoverable log");
    let refused = Pipeline::start(Arc::new(log), &recovered, without_threads()).err();
    assert!(
        matches!(&refused, Some(ClaimError::Unavailable { cause }) if cause.contains("/data/log")),
        "{refused:?}"
    );

    // It leaves the read-only state without intervention.
    let (pipeline, _) = start_anyhow(&sim);
    assert!(pipeline.shortage().is_some_and(|shortage| shortage.read_only));
    sim.disk.set_capacity(None);
    pipeline.pump();
    assert_eq!(pipeline.shortage(), None);
    let batch = b"written after all".to_vec();
    submit(&pipeline, &batch);
    written.push(batch);
    pipeline.pump();
    assert_eq!(pipeline.durable().0, written.len() as u64);
    drop(pipeline);
    sim.disk.power_cut();
    assert_eq!(recover(&sim, Checkpoint::default()).expect("a recoverable log").1, written);
}

#[test]
fn the_log_thread_claims_by_itself_when_there_is_room() {
    let sim = SimEnv::new(5);
    let (pipeline, _) = start(&sim);
    submit(&pipeline, b"before");
    pipeline.close().expect("a clean stop");
    drop(pipeline);
    for name in sim.disk.paths() {
        if name.extension().is_some_and(|extension| extension == "reserve") {
            sim.env.disk.remove(&name).expect("a file of the reserve");
        }
    }
    sim.env.disk.remove(&directory().join("0000000000000002.log")).expect("the spare");
    sim.env.disk.sync_directory(&directory()).expect("a healthy disk");
    fill_the_rest(&sim);
    let log =
        LocalLog::open(sim.env.clone(), &directory(), LocalOptions { background: true, ..small_segments() });
    let log: Arc<dyn ShardLog> = Arc::new(log.expect("nobody has the lock"));
    let mut replay = Replay::new(&*log, Checkpoint::default());
    while replay.next().expect("an undamaged log").is_some() {}
    let options = Options { read_only_when_full: true, ..Options::default() };
    let pipeline = Pipeline::start(log, &replay.finish(), options).expect("a start");
    assert!(pipeline.shortage().is_some_and(|shortage| shortage.read_only));
    sim.disk.set_capacity(None);
    let mut credit = loop {
        match pipeline.admit(10) {
            Ok(credit) => break credit,
            Err(Refusal::Busy | Refusal::ReadOnly { .. }) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    };
    let lsn = pipeline.last_lsn().next();
    pipeline.submit(&mut credit, lsn, 1_700_000_000_000, b"after");
    pipeline.wait(lsn).expect("a healthy disk");
}

#[test]
fn a_start_that_lacks_a_descriptor_takes_the_reserve_over_later() {
    for opens in 1.. {
        let sim = SimEnv::new(opens);
        let (pipeline, _) = start(&sim);
        submit(&pipeline, b"before");
        pipeline.close().expect("a clean stop");
        drop(pipeline);
        let (log, _, recovered) = recover(&sim, Checkpoint::default()).expect("a recoverable log");
        fill_the_rest(&sim);
        sim.disk.fail_open_after(opens);
        let options = Options { read_only_when_full: true, ..without_threads() };
        let started = Pipeline::start(Arc::new(log), &recovered, options);
        let is_over = !sim.disk.has_failed_open();
        let pipeline = match started {
            Err(ClaimError::Fatal { cause }) if opens == 1 => {
                assert!(cause.contains("make durable"), "the log's end is written again: {cause}");
                continue;
            }
            started => started.unwrap_or_else(|error| panic!("open {opens}: {error}")),
        };
        // Only the start is short of one.
        sim.disk.fail_open_after(u64::MAX);
        pipeline.pump();
        assert_eq!((pipeline.shortage(), pipeline.failure()), (None, None), "open {opens}");
        // All of the reserve is there, once.
        let mut written = Vec::new();
        for purpose in [Purpose::Any, Purpose::Freeing] {
            let refusal = write_until_refused(&pipeline, &mut written, purpose);
            assert!(matches!(refusal, Refusal::Full { .. }), "open {opens}: {refusal}");
        }
        pipeline.pump();
        for _ in 0..6 {
            pipeline.submit_time(1_800_000_000_000);
            pipeline.rotate().unwrap_or_else(|error| panic!("open {opens}: {error}"));
        }
        assert_eq!(pipeline.failure(), None, "open {opens}");
        pipeline.close().expect("a clean stop");
        if is_over {
            assert!(opens > 10, "some opens failed while the reserve was taken over");
            return;
        }
    }
}

/// One life of a store on a nearly full disk, with a power cut at some moment.
fn live_until_cut(sim: &SimEnv, random: &mut SmallRng, written: &mut Vec<Vec<u8>>, durable: &mut usize) {
    if random.random() {
        fill_the_rest(sim);
    }
    let (pipeline, batches) = start_anyhow(sim);
    assert!(batches.len() >= *durable, "{} of {durable} acknowledged batches are left", batches.len());
    assert!(written.starts_with(&batches), "what comes back is what was written");
    written.truncate(batches.len());
    sim.disk.cut_after(random.random_range(1..400));
    for _ in 0..30 {
        if sim.disk.power_is_off() || pipeline.failure().is_some() {
            break;
        }
        let used = sim.disk.used_bytes();
        match random.random_range(0..6) {
            0 => sim.disk.set_capacity(Some(used)),
            1 => sim.disk.set_capacity(Some(used + random.random_range(0..200 << 10))),
            2 => drop(pipeline.rotate()),
            step => {
                let purpose = if step == 3 { Purpose::Freeing } else { Purpose::Any };
                let Ok(mut credit) = pipeline.admit_run(1, 3000, purpose) else { continue };
                let batch = vec![random.random(); random.random_range(1..3000)];
                let lsn = pipeline.last_lsn().next();
                pipeline.submit(&mut credit, lsn, 1_700_000_000_000, &batch);
                written.push(batch);
                pipeline.pump();
            }
        }
    }
    *durable = pipeline.durable().0 as usize;
    drop(pipeline);
    sim.disk.power_cut();
}

#[test]
fn power_cuts_on_a_full_disk_lose_nothing_and_a_start_succeeds() {
    for seed in 0..200 {
        let sim = SimEnv::new(seed);
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut written, mut durable) = (Vec::new(), 0);
        for _ in 0..6 {
            live_until_cut(&sim, &mut random, &mut written, &mut durable);
        }
    }
}

#[test]
fn a_start_gives_back_what_the_last_one_could_not() {
    let sim = SimEnv::new(1);
    let (pipeline, _) = start(&sim);
    submit(&pipeline, b"sealed");
    pipeline.rotate().expect("a segment is prepared");
    drop(pipeline);
    sim.disk.kill();
    let first = segment_file(&directory(), 1);
    let cut = sim.disk.bytes(&first).expect("the first segment").len();
    let whole = small_segments().segment_bytes as usize;
    assert!(cut < whole, "the unused part is given back");
    // A power cut may undo that.
    let mut bytes = sim.disk.bytes(&first).expect("the first segment");
    bytes.resize(whole, 0);
    sim.disk.set_bytes(&first, bytes);
    let (_pipeline, batches) = start(&sim);
    assert_eq!(batches, [b"sealed"]);
    assert_eq!(sim.disk.bytes(&first).map(|bytes| bytes.len()), Some(cut));
}

#[test]
fn a_claim_that_is_tried_again_reads_the_log_once() {
    let sim = SimEnv::new(9);
    let (pipeline, _) = start(&sim);
    (0..20).for_each(|_| _ = submit(&pipeline, &[7; 100]));
    pipeline.pump();
    drop(pipeline);
    fill_the_rest(&sim);
    // Each start uses a part of the reserve.
    let read_only = |pipeline: &Pipeline| pipeline.shortage().is_some_and(|shortage| shortage.read_only);
    let started = (0..100).map(|_| start_anyhow(&sim).0).find(read_only);
    let pipeline = started.expect("the reserve is used up some time");
    let before = sim.disk.reads();
    (0..3).for_each(|_| pipeline.pump());
    assert!(read_only(&pipeline));
    assert_eq!(sim.disk.reads(), before);
    sim.disk.set_capacity(None);
    pipeline.pump();
    assert_eq!(pipeline.shortage(), None);
}
