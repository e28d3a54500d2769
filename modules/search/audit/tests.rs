use super::budget::Budget;
use super::exact::{Audit, audit};
use super::*;
use crate::documents::{DocumentContent, FieldContent};
use crate::schema::FieldKind;
use crate::schema::create::definition_of;
use crate::vectors::live::MissCause;
use crate::vectors::{Effort, Question, Source};
use engramdb_engine::env::Clock;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn tally(found: u64, missed: [u64; 3]) -> Tally {
    Tally { samples: 1, coarse: 0, wanted: found + missed.iter().sum::<u64>(), found, missed }
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

/// An index of one vector field, as it is when nothing is pending.
fn index_of(vectors: &[[f32; 2]]) -> Arc<Index> {
    let definition =
        definition_of("FT.CREATE i SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2");
    assert!(matches!(definition.fields[0].kind, FieldKind::Vector(_)));
    let index = Arc::new(Index::new(definition, true));
    vectors.iter().enumerate().for_each(|(number, vector)| set(&index, number, *vector));
    while field(&index).drain(100) {}
    index
}

fn field(index: &Index) -> &Arc<VectorField> {
    index.vectors[0].as_ref().expect("a vector field")
}

fn set(index: &Index, number: usize, vector: [f32; 2]) {
    let mut documents = index.documents.write();
    let content = DocumentContent { fields: vec![FieldContent::Vectors(1)], ..DocumentContent::default() };
    let id = documents.upsert(format!("d:{number}").as_bytes(), &content);
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
    let filter = among.as_ref().map(|among| index.vector_set(0, among));
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

/// Documents with two vectors: samples and exact answers are of vectors.
#[test]
fn documents_with_several_vectors_are_audited_by_vector() {
    let index = index_of(&line_of_points(1));
    let set = |number: u32, count: u32| {
        let mut documents = index.documents.write();
        let content =
            DocumentContent { fields: vec![FieldContent::Vectors(count)], ..DocumentContent::default() };
        let id = documents.upsert(format!("d:{number}").as_bytes(), &content);
        for (_, row) in documents.take_freed() {
            field(&index).remove(row, 1);
        }
        for at in 0..count {
            let vector = [number as f32, at as f32 / 100.0];
            let id = documents.vector_id(id, 0, at as usize);
            field(&index).set(Source::Live, id, engramdb_vector::bytes_of(&vector), 1);
        }
    };
    (0..1_000).for_each(|number| set(number, 2));
    while field(&index).drain(100) {}
    let among: RoaringBitmap = (0..1_000)
        .step_by(100)
        .filter_map(|number: u32| index.documents.read().id(format!("d:{number}").as_bytes()))
        .collect();
    let filter = index.vector_set(0, &among);
    let mut sample = sample(&index, 4, [200.1, 0.0], Some(among), |field, question| {
        let question = Question { filter: Some(&filter), ..*question };
        field.nearest_exactly(&question, 4, &RoaringBitmap::new()).expect("never late")
    });
    assert_eq!(sample.rows.len(), 4);
    assert_eq!(audited(&sample), tally(4, [0; 3]));
    sample.rows.remove(1);
    assert_eq!(audited(&sample).found, 3);
    // A document that loses a vector, or gets one, is left out with all of its vectors.
    set(200, 1);
    assert_eq!((audited(&sample).wanted, audited(&sample).found), (3, 2));
    set(100, 3);
    assert_eq!(audited(&sample).found, 2);
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
    let auditor = Auditor::start(env, Arc::default(), false);
    for (number, &query) in queries.iter().enumerate() {
        let sample = walked(&index, 10, query);
        if number == 0 {
            assert!(audited(&sample).missed[MissCause::Graph as usize] >= 2);
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
