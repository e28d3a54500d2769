//! Claims, appends and acknowledgements.

use super::*;
use crate::log::claim::ClaimRecord;

on_each_backend!(
    positions_and_indexes_are_dense,
    acknowledgements_only_grow_whichever_thread_asks,
    a_claim_before_the_end_gets_the_end_and_consumes_nothing,
    a_second_claim_fences_the_writer_and_drops_its_entries_in_flight,
    a_claim_names_its_node_and_the_entry_before_it,
    waiting_with_nothing_in_flight_returns_at_once,
);

fn positions_and_indexes_are_dense(fresh: &Fresh) {
    let log = fresh.open();
    for round in 0..3 {
        let (before, end) = read_all(&*log);
        assert_eq!(before.len() as u64, end.mark.pos.0);
        let mut writer = log.claim(end, claim_behind(round * 5)).expect("the end is known");
        let acks = writer.acks();
        for number in 1..=5 {
            assert_eq!(writer.append(data(round * 5 + number, b"batch")), Ok(Idx(number)));
            let in_flight_max = log.limits().entries_in_flight_max as u64;
            if number.is_multiple_of(in_flight_max.min(2)) {
                acknowledged(&*acks, Idx(number));
            }
        }
        let epoch = Epoch(end.mark.pos.0 + 1);
        let mark = Mark { pos: Pos(epoch.0 + 5), epoch, index: Idx(5) };
        assert_eq!(acknowledged(&*acks, Idx(5)), mark);
        assert_eq!(read_all(&*log).1, LogEnd { mark });
    }
    for (place, entry) in read_all(&*log).0.iter().enumerate() {
        assert_eq!(entry.pos, Pos(place as u64 + 1));
        assert_eq!(entry.header.index, Idx(place as u64 % 6));
        assert!(entry.header.durable.0 < entry.header.index.0.max(1), "only what was before is durable");
    }
}

fn acknowledgements_only_grow_whichever_thread_asks(fresh: &Fresh) {
    let log = fresh.open();
    let mut writer = log.claim(LogEnd::default(), Claim::default()).expect("an empty log");
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let acks = writer.acks();
            std::thread::spawn(move || {
                let mut seen = Idx(0);
                while seen < Idx(40) {
                    let mark = acks.wait(seen, Duration::from_secs(1)).expect("a healthy log");
                    assert!(mark.index >= seen, "{mark:?} comes after {seen:?}");
                    seen = mark.index;
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    let acks = writer.acks();
    for number in 1..=40 {
        writer.append(data(number, b"batch")).expect("there is room");
        acknowledged(&*acks, Idx(number));
    }
    asking.into_iter().for_each(|thread| thread.join().expect("no thread sees a step back"));
}

fn a_claim_before_the_end_gets_the_end_and_consumes_nothing(fresh: &Fresh) {
    let log = fresh.open();
    let mut writer = log.claim(LogEnd::default(), Claim::default()).expect("an empty log");
    let acks = writer.acks();
    writer.append(data(1, b"one")).expect("there is room");
    let mark = acknowledged(&*acks, Idx(1));
    let earlier = LogEnd { mark: Mark { pos: Pos(1), epoch: Epoch(1), index: Idx(0) } };
    for at in [LogEnd::default(), earlier, LogEnd { mark: Mark { epoch: Epoch(9), ..mark } }] {
        let refused = log.claim(at, Claim::default()).err();
        assert_eq!(refused, Some(ClaimError::Behind(LogEnd { mark })), "at {at}");
    }
    // The first writer goes on undisturbed.
    assert_eq!(writer.append(data(2, b"two")), Ok(Idx(2)));
    assert_eq!(acknowledged(&*acks, Idx(2)).pos, Pos(3));
    assert_eq!(read_all(&*log).0.len(), 3);
}

fn a_second_claim_fences_the_writer_and_drops_its_entries_in_flight(fresh: &Fresh) {
    let log = fresh.open();
    let mut first = log.claim(LogEnd::default(), Claim::default()).expect("an empty log");
    let acks = first.acks();
    first.append(data(1, b"one")).expect("there is room");
    let mark = acknowledged(&*acks, Idx(1));
    first.append(data(2, b"in flight")).expect("there is room");
    let mut second = log.claim(LogEnd { mark }, claim_behind(1)).expect("the end is known");
    let by = Epoch(3);
    assert_eq!(acks.wait(Idx(1), Duration::from_secs(1)), Err(WriteError::Fenced { by }));
    assert_eq!(first.append(data(3, b"never")), Err(WriteError::Fenced { by }));
    assert_eq!(first.seal().err(), Some(WriteError::Fenced { by }));
    second.append(data(2, b"two")).expect("there is room");
    acknowledged(&*second.acks(), Idx(1));
    let kinds: Vec<_> =
        read_all(&*log).0.iter().map(|entry| (entry.header.kind, entry.header.epoch.0)).collect();
    assert_eq!(
        kinds,
        [(EntryKind::Claim, 1), (EntryKind::Data, 1), (EntryKind::Claim, 3), (EntryKind::Data, 3)]
    );
    // The next process finds the same.
    drop((first, second, acks, log));
    assert_eq!(read_all(&*fresh.open()).0.len(), 4);
}

fn a_claim_names_its_node_and_the_entry_before_it(fresh: &Fresh) {
    let log = fresh.open();
    let claim = Claim { node: "a".to_owned(), engine_time_ms: 7, lsn: Lsn(0), ..Claim::default() };
    let writer = log.claim(LogEnd::default(), claim.clone()).expect("an empty log");
    drop(writer);
    let end = read_all(&*log).1;
    log.claim(end, Claim { node: "b".to_owned(), ..claim }).expect("the end is known");
    let claims: Vec<_> = read_all(&*log).0.iter().map(|entry| ClaimRecord::decode(&entry.payload)).collect();
    let [Some(first), Some(second)] = &claims[..] else { panic!("two claims: {claims:?}") };
    assert_eq!((&*first.node, first.previous), ("a", Some((Epoch(0), Idx(0)))));
    assert_eq!((&*second.node, second.previous), ("b", Some((Epoch(1), Idx(0)))));
    assert_ne!(first.id, second.id);
}

fn waiting_with_nothing_in_flight_returns_at_once(fresh: &Fresh) {
    let log = fresh.open();
    let writer = log.claim(LogEnd::default(), Claim::default()).expect("an empty log");
    let mark = writer.acks().wait(Idx(0), Duration::from_secs(3600)).expect("a healthy log");
    assert_eq!(mark, Mark { pos: Pos(1), epoch: Epoch(1), index: Idx(0) });
}
