use super::audit::{Audit, audit};
use super::budget::Budget;
use super::*;
use crate::documents::Content;
use crate::index::Index;
use crate::schema::FieldKind;
use crate::vectors::{Effort, Question, Source, VectorField};
use engramdb_engine::command::Args;
use engramdb_engine::env::{Clock, Env};
use engramdb_engine::log::Lsn;
use engramdb_vector::Neighbor;
use roaring::RoaringBitmap;
use std::sync::Arc;

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
fn threads_that_count_together_take_no_turn_twice() {
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
    // Intervals are 10. Searches that come while one takes its turn are not counted.
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
fn audits_take_one_percent_of_the_time() {
    let mut budget = Budget::default();
    let ms = Duration::from_millis;
    // A sample each 10 ms for 100 s, each of 7 ms.
    let audits = (0..10_000).filter(|&at| {
        let has_room = budget.has_room(ms(10 * at));
        if has_room {
            budget.spend(ms(7));
        }
        has_room
    });
    let spent_ms = 7 * audits.count();
    assert!((990..=1_007).contains(&spent_ms), "{spent_ms} ms of 100,000");
    // What is saved in a long pause is little.
    let mut budget = Budget::default();
    assert!(budget.has_room(ms(0)));
    assert!(budget.has_room(HOUR));
    let mut spent = 0;
    while budget.has_room(HOUR) {
        budget.spend(ms(7));
        spent += 7;
    }
    assert_eq!(spent, 105, "100 ms, and what the last audit took beyond them");
}

#[test]
fn a_low_recall_is_said_once_and_so_is_its_recovery() {
    let live = LiveRecall::default();
    let second = Duration::from_secs;
    for number in 1..JUDGED_SAMPLES_MIN {
        assert_eq!(live.record(tally(8, [0, 2, 1]), second(number), 0.9), None, "too early to say");
    }
    let total = Tally { samples: 10, coarse: 0, wanted: 110, found: 80, missed: [0, 21, 9] };
    let warning = Warning::Recall(Cause::Beam);
    let first = Verdict::Bad { tally: total, warning, is_news: true, remedy: None };
    assert_eq!(live.record(tally(8, [0, 3, 0]), second(20), 0.9), Some(first));
    assert_eq!(live.report(second(20)).warning, Some(warning));
    assert_eq!(live.record(tally(0, [0, 3, 0]), second(21), 0.9), None, "the warning stands");
    let recovered = live.record(tally(10, [0, 0, 0]), second(22) + HOUR, 0.9);
    assert_eq!(recovered, Some(Verdict::Recovered(tally(10, [0, 0, 0]))));
    assert_eq!(live.report(second(22) + HOUR).warning, None);
}

#[test]
fn codes_that_are_of_no_use_are_to_be_repaired_now_and_then() {
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
    assert_eq!(record(minute(6)), Some((Warning::CoarseCodes, false, Some(Remedy::Codes))), "in vain so far");
    live.repaired();
    let report = live.report(minute(6));
    assert_eq!((report.tally, report.warning, report.repairs), (Tally::default(), None, 1));
    assert_eq!(live.record(tally(10, [0; 3]), minute(7), 0.9), None);
    // As many misses are misses first.
    let of_both = Tally { coarse: 1, ..tally(1, [9, 0, 0]) };
    let verdicts: Vec<_> = (0..12).filter_map(|_| live.record(of_both, minute(20), 0.9)).collect();
    let [Verdict::Bad { warning, is_news: true, remedy, .. }] = verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!((warning, remedy), (Warning::Recall(Cause::Codes), Some(Remedy::Codes)));
    let beam = Warning::Recall(Cause::Beam);
    assert_eq!(remedy_of(&of_both, beam), Some(Remedy::Codes), "coarse codes are worth a try in any case");
    assert_eq!(remedy_of(&tally(1, [0, 9, 0]), beam), None);
    assert_eq!(remedy_of(&tally(1, [0, 0, 9]), Warning::Recall(Cause::Graph)), Some(Remedy::Links));
}

/// An index of one vector field, as it is when nothing is pending.
fn index_of(vectors: &[[f32; 2]]) -> Arc<Index> {
    let create = "FT.CREATE i SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    let words: Vec<&[u8]> = create.split(' ').map(str::as_bytes).collect();
    let definition = crate::create::parse(Args::new(&words)).expect("well formed");
    assert!(matches!(definition.fields[0].kind, FieldKind::Vector(_)));
    let index = Arc::new(Index::new(definition, Lsn(1), true));
    vectors.iter().enumerate().for_each(|(number, vector)| set(&index, number, *vector));
    while field(&index).drain(100) {}
    index
}

fn field(index: &Index) -> &Arc<VectorField> {
    index.vectors[0].as_ref().expect("a vector field")
}

fn set(index: &Index, number: usize, vector: [f32; 2]) {
    let mut documents = index.documents.write();
    let id = documents.upsert(format!("d:{number}").as_bytes(), &[Content::Vector]);
    field(index).set(Source::Live, id, engramdb_vector::bytes_of(&vector), 1);
}

/// A search for the `k` nearest to a point, with the rows that `rows` finds.
fn sample(
    index: &Arc<Index>,
    k: usize,
    query: [f32; 2],
    among: Option<RoaringBitmap>,
    rows: impl FnOnce(&VectorField, &Question<'_>) -> Vec<Neighbor>,
) -> Sample {
    let query: Box<[u8]> = engramdb_vector::bytes_of(&query).into();
    let (version, id_bound) = {
        let documents = index.documents.read();
        (documents.version(), documents.id_bound())
    };
    let filter = among.as_ref().map(crate::ids::IdSet::new);
    let question = Question { query: &query, filter: filter.as_ref(), id_bound, is_late: &|| false };
    let rows = rows(field(index), &question);
    Sample { index: index.clone(), field: 0, version, query, k, ef: k, among, rows, too_coarse: false }
}

/// One that has missed nothing.
fn perfect(index: &Arc<Index>, k: usize, query: [f32; 2], among: Option<RoaringBitmap>) -> Sample {
    sample(index, k, query, among, |field, question| {
        field.nearest_exactly(question, k, &RoaringBitmap::new()).expect("never late")
    })
}

/// One as it is.
fn walked(index: &Arc<Index>, k: usize, query: [f32; 2]) -> Sample {
    sample(index, k, query, None, |field, question| field.nearest(question, k, Effort::beam(k)).neighbors)
}

fn audited(sample: &Sample) -> Tally {
    match audit(sample, &|| true) {
        Audit::Done(tally) => tally,
        Audit::Stale => panic!("stale"),
        Audit::GivenUp => panic!("given up"),
    }
}

fn line_of_points(count: usize) -> Vec<[f32; 2]> {
    (0..count).map(|number| [number as f32, 0.0]).collect()
}

#[test]
fn rows_are_compared_with_the_exact_answer() {
    let index = index_of(&line_of_points(2_000));
    let mut sample = perfect(&index, 10, [700.2, 0.0], None);
    let ids: Vec<u32> = sample.rows.iter().map(|row| row.id).collect();
    assert_eq!(ids, [700, 701, 699, 702, 698, 703, 697, 704, 696, 705]);
    assert_eq!(audited(&sample), tally(10, [0; 3]));
    sample.rows.truncate(7);
    // The graph finds them: it can only have been the codes.
    assert_eq!(audited(&sample), tally(7, [3, 0, 0]));
    let mut filtered = perfect(&index, 4, [700.2, 0.0], Some((0..2_000).step_by(100).collect()));
    assert_eq!(filtered.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [700, 800, 600, 900]);
    assert_eq!(audited(&filtered), tally(4, [0; 3]));
    filtered.rows.remove(0);
    assert_eq!(audited(&filtered).found, 3);
    assert!(matches!(audit(&sample, &|| false), Audit::GivenUp));
}

#[test]
fn rows_as_far_as_the_last_are_as_good() {
    let mut points = line_of_points(300);
    (0..200).for_each(|number| points[number] = [1.0, 1.0]);
    let index = index_of(&points);
    let mut sample = perfect(&index, 10, [1.0, 1.0], None);
    // Ten others of the same 200.
    sample.rows.iter_mut().for_each(|row| row.id += 50);
    assert_eq!(audited(&sample), tally(10, [0; 3]));
}

#[test]
fn documents_that_changed_are_left_out_on_both_sides() {
    let index = index_of(&line_of_points(1_000));
    let sample = perfect(&index, 10, [500.2, 0.0], None);
    // One of the rows goes, and one comes between them: the answer was right, and is.
    set(&index, 501, [-9.0, 0.0]);
    set(&index, 1_000, [500.2, 0.0]);
    assert_eq!(audited(&sample), tally(9, [0; 3]));
    while field(&index).drain(100) {}
    assert_eq!(audited(&sample), tally(9, [0; 3]), "nor does it matter where the new vectors are");
    let mut sample = perfect(&index, 10, [500.2, 0.0], None);
    sample.rows.remove(0);
    set(&index, 502, [-9.0, 0.0]);
    assert_eq!(audited(&sample).found, 8);
    assert_eq!(audited(&sample).wanted, 9);
    (0..5_000).for_each(|_| set(&index, 3, [3.0, 0.0]));
    assert!(matches!(audit(&sample, &|| true), Audit::Stale));
}

/// Time stands still, and costs nothing.
struct Still;

impl Clock for Still {
    fn wall_ms(&self) -> u64 {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn nodes_without_links_are_noticed_and_linked_again() {
    const WIDTH: usize = 45;
    let points: Vec<[f32; 2]> =
        (0..WIDTH * WIDTH).map(|at| [(at % WIDTH) as f32, (at / WIDTH) as f32]).collect();
    let index = index_of(&points);
    let structure = field(&index).structure();
    let graph = structure.graph().expect("a graph");
    let queries: Vec<[f32; 2]> =
        (0..16).map(|at| [5.2 + 10.0 * (at % 4) as f32, 5.1 + 10.0 * (at / 4) as f32]).collect();
    assert!(queries.iter().all(|&query| audited(&walked(&index, 10, query)) == tally(10, [0; 3])));
    // Four of those around each of the queries.
    let at = |[x, y]: [f32; 2]| y as u32 * WIDTH as u32 + x as u32;
    let around = |query| [0, 2, WIDTH as u32, 2 * WIDTH as u32 + 1].map(|offset| at(query) - 1 + offset);
    let lost =
        queries.iter().flat_map(|&query| around(query)).filter(|&id| graph.plant_unreachable(id)).count();
    assert!(lost > 60, "{lost}");
    assert!(!graph.check().is_sound());
    let env = Env { clock: Arc::new(Still), ..Env::system() };
    let auditor = crate::live::Auditor::start(env, Arc::default(), false);
    for (number, &query) in queries.iter().enumerate() {
        let sample = walked(&index, 10, query);
        if number == 0 {
            assert!(audited(&sample).missed[Cause::Graph as usize] >= 2);
        }
        auditor.handle().offer(sample);
        auditor.wait_idle();
    }
    assert_eq!(field(&index).live.report(Duration::ZERO).repairs, 1);
    assert!(graph.check().is_sound());
    for &query in &queries {
        assert_eq!(audited(&walked(&index, 10, query)), tally(10, [0; 3]));
    }
}
