use super::*;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn tally(found: u64, missed: [u64; 3]) -> Tally {
    Tally { samples: 1, coarse: 0, wanted: found + missed.iter().sum::<u64>(), found, missed }
}

struct Always(u64);

impl Random for Always {
    fn next_u64(&self) -> u64 {
        self.0
    }
}

#[test]
fn one_in_n_searches_is_due() {
    let live = LiveRecall::default();
    let due = |every, random, searches: u64| {
        (0..searches).filter(|_| live.is_due(every, &Always(random))).count() as u64
    };
    assert_eq!(due(EVERY_DEFAULT, 0, EVERY_DEFAULT - 1), 0, "the first sample is the Nth search");
    assert_eq!(due(EVERY_DEFAULT, EVERY_DEFAULT - 1, 1 + 50 * EVERY_DEFAULT), 51, "the mean interval is N");
    assert_eq!(due(EVERY_DEFAULT, 7, EVERY_DEFAULT + 8 * 3), 4, "intervals differ");
    assert_eq!(due(0, 7, 10_000), 0, "switched off");
    assert_eq!(due(1, u64::MAX, 500), 500, "each, at once");
    live.pass_on();
    assert_eq!(due(EVERY_DEFAULT, EVERY_DEFAULT - 1, 1), 1);
}

#[test]
fn threads_that_count_together_share_no_turn() {
    let live = LiveRecall::default();
    let due = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let random = Always(9);
                for _ in 0..50_000 {
                    due.fetch_add(u64::from(live.is_due(10, &random)), Ordering::Relaxed);
                }
            });
        }
    });
    // Intervals are 10. Searches that count during another one's turn are lost.
    let due = due.into_inner();
    assert!((1_000..=20_000).contains(&due), "{due}");
}

#[test]
fn an_audit_counts_for_an_hour() {
    let mut window = Window::default();
    let at = |minutes: u64| Duration::from_secs(60 * minutes);
    window.add(at(1), tally(9, [1, 0, 0]));
    window.add(at(31), tally(10, [0, 0, 0]));
    assert_eq!(window.total(at(31)).recall(), Some(0.95));
    assert_eq!(window.total(at(59)).samples, 2);
    assert_eq!(window.total(at(60)).recall(), Some(1.0), "the first is an hour ago");
    window.add(at(61), tally(8, [0, 2, 0]));
    assert_eq!(window.total(at(61)).recall(), Some(0.9), "in the place of the first");
    assert_eq!(window.total(at(500)), Tally::default());
}

#[test]
fn a_low_recall_is_reported_once_and_so_is_its_recovery() {
    let live = LiveRecall::default();
    let second = Duration::from_secs;
    for number in 1..JUDGED_SAMPLES_MIN {
        assert_eq!(live.record(tally(8, [0, 2, 1]), second(number), 0.9), None, "too early to say");
    }
    let total = Tally { samples: 10, coarse: 0, wanted: 110, found: 80, missed: [0, 21, 9] };
    let warning = Warning::Recall(MissCause::Beam);
    let first = Verdict::Bad { tally: total, warning, is_news: true, remedy: None };
    assert_eq!(live.record(tally(8, [0, 3, 0]), second(20), 0.9), Some(first));
    assert_eq!(live.report(second(20)).warning, Some(warning));
    assert_eq!(live.record(tally(0, [0, 3, 0]), second(21), 0.9), None, "the warning is in effect already");
    let recovered = live.record(tally(10, [0, 0, 0]), second(22) + HOUR, 0.9);
    assert_eq!(recovered, Some(Verdict::Recovered(tally(10, [0, 0, 0]))));
    assert_eq!(live.report(second(22) + HOUR).warning, None);
}

#[test]
fn a_repair_of_coarse_codes_is_requested_again_every_few_minutes() {
    let live = LiveRecall::default();
    let minute = |minutes: u64| Duration::from_secs(60 * minutes);
    let of_coarse = Tally { coarse: 1, ..tally(10, [0; 3]) };
    let record = |at| match live.record(of_coarse, at, 0.9) {
        Some(Verdict::Bad { warning, is_news, remedy, .. }) => Some((warning, is_news, remedy)),
        _ => None,
    };
    (1..JUDGED_SAMPLES_MIN).for_each(|_| assert_eq!(record(minute(1)), None));
    assert_eq!(record(minute(1)), Some((Warning::CoarseCodes, true, Some(Remedy::Codes))));
    assert_eq!(record(minute(5)), None);
    assert_eq!(
        record(minute(6)),
        Some((Warning::CoarseCodes, false, Some(Remedy::Codes))),
        "no repair was reported"
    );
    live.repaired();
    let report = live.report(minute(6));
    assert_eq!((report.tally, report.warning, report.repairs), (Tally::default(), None, 1));
    assert_eq!(live.record(tally(10, [0; 3]), minute(7), 0.9), None);
    // With low recall and coarse codes, the warning names the recall.
    let of_both = Tally { coarse: 1, ..tally(1, [9, 0, 0]) };
    let verdicts: Vec<_> = (0..12).filter_map(|_| live.record(of_both, minute(20), 0.9)).collect();
    let [Verdict::Bad { warning, is_news: true, remedy, .. }] = verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!((warning, remedy), (Warning::Recall(MissCause::Codes), Some(Remedy::Codes)));
    let beam = Warning::Recall(MissCause::Beam);
    assert_eq!(remedy_of(&of_both, beam), Some(Remedy::Codes), "coarse codes are worth a try in any case");
    assert_eq!(remedy_of(&tally(1, [0, 9, 0]), beam), None);
    assert_eq!(remedy_of(&tally(1, [0, 0, 9]), Warning::Recall(MissCause::Graph)), Some(Remedy::Links));
}
