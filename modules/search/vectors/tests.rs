//! The tail without workers: in which order mutations reach the graph, and what counts for the bound.

use super::workers::Workers;
use super::*;
use engramdb_vector::{Metric, Quantization};

const GRAPH: VectorOptions = VectorOptions {
    algorithm: Algorithm::Hnsw,
    element: engramdb_vector::Element::F32,
    quantization: Quantization::None,
    metric: Metric::L2,
    dimension: 1,
    m: 4,
    ef_construction: 10,
    ef_runtime: 10,
    epsilon: 0.01,
    initial_capacity: 0,
    block_size: 0,
};

fn set(field: &VectorField, source: Source, ids: std::ops::Range<u32>) {
    ids.for_each(|id| _ = field.set(source, id, &(id as f32).to_le_bytes(), 1));
}

fn brought(field: &VectorField, ids: std::ops::Range<u32>) -> Vec<u32> {
    let structure = field.structure();
    ids.filter(|&id| structure.index().contains(id)).collect()
}

fn pending(field: &VectorField) -> [usize; 2] {
    [Source::Live, Source::Backfill].map(|source| field.pending_of(source))
}

fn nearest(field: &VectorField, query: f32) -> (u32, f64) {
    let query = query.to_le_bytes();
    let question = Question { query: &query, filter: None, id_bound: 10_000, is_late: &|| false };
    let row = field.nearest(&question, 1, Effort::beam(10)).neighbors[0];
    (row.id, row.distance)
}

#[test]
fn live_mutations_reach_the_graph_before_those_of_a_backfill() {
    let field = VectorField::new(GRAPH, Arc::default());
    set(&field, Source::Backfill, 0..100);
    set(&field, Source::Live, 100..103);
    assert!(field.drain(4));
    assert_eq!(brought(&field, 0..103), [0, 100, 101, 102], "but for the last of the turn");
    assert!(field.drain(50), "and the backfill goes on alone");
    assert_eq!(brought(&field, 0..100).len(), 51);
    assert!(!field.drain(50));
    assert_eq!(pending(&field), [0, 0]);
}

#[test]
fn a_backfill_goes_on_while_live_mutations_never_end() {
    let field = VectorField::new(GRAPH, Arc::default());
    set(&field, Source::Backfill, 0..10);
    for turn in 0..10 {
        set(&field, Source::Live, 100 + 20 * turn..120 + 20 * turn);
        field.drain(5);
    }
    assert_eq!(pending(&field), [160, 0]);
}

#[test]
fn a_backfill_brings_its_own_and_leaves_some() {
    let field = VectorField::new(GRAPH, Arc::default());
    set(&field, Source::Live, 0..50);
    set(&field, Source::Backfill, 50..200);
    _ = field.help(BACKFILL_TAIL_MAX);
    assert_eq!(pending(&field), [50, BACKFILL_TAIL_MAX]);
    _ = field.help(0);
    assert_eq!(pending(&field), [50, 0]);
    assert_eq!(brought(&field, 0..200).first(), Some(&50));
}

#[test]
fn what_a_command_changes_overtakes_the_backfill_with_its_latest_vector() {
    let field = VectorField::new(GRAPH, Arc::default());
    set(&field, Source::Backfill, 0..10);
    let moved = |id: u32| (1_000.0 + id as f32).to_le_bytes();
    field.set(Source::Live, 7, &moved(7), 1);
    field.remove(8, 1);
    assert_eq!(pending(&field), [2, 8]);
    assert_eq!(nearest(&field, 1_007.0), (7, 0.0));
    // A free id may be given to a document of the backfill, whose vector must not reach the graph before the
    // removal.
    field.set(Source::Backfill, 8, &moved(8), 1);
    assert_eq!(pending(&field), [2, 8], "what was live stays so");
    assert!(field.drain(3));
    assert_eq!(brought(&field, 0..10), [0, 7, 8]);
    assert_eq!([nearest(&field, 1_007.0), nearest(&field, 1_008.0)], [(7, 0.0), (8, 0.0)]);
    assert!(!field.drain(100));
    assert_eq!((pending(&field), brought(&field, 0..10).len()), ([0, 0], 10));
    assert_eq!(nearest(&field, 7.4).0, 6, "the old vector is nowhere");
}

#[test]
fn a_busy_document_is_given_to_no_other_thread_and_comes_back_as_live() {
    let field = VectorField::new(GRAPH, Arc::default());
    set(&field, Source::Backfill, 0..1);
    let structure = field.structure();
    let (id, taken) = field.take(&LIVE_FIRST, false).expect("it waits");
    field.set(Source::Live, 0, &5.0f32.to_le_bytes(), 1);
    assert!(field.take(&LIVE_FIRST, false).is_none());
    field.bring(structure.index(), id, &taken);
    assert_eq!(pending(&field), [1, 0]);
    assert_eq!(nearest(&field, 5.0), (0, 0.0));
    _ = field.settle();
    assert_eq!(pending(&field), [0, 0]);
    assert_eq!(nearest(&field, 5.0), (0, 0.0));
}

#[test]
fn each_worker_that_a_drain_counts_is_called() {
    let workers = Workers::start(0, engramdb_engine::env::Env::system().clock);
    let field = Arc::new(VectorField::new(GRAPH, Arc::default()));
    // As a thread leaves it that applied a document for which a newer mutation came meanwhile.
    field.queue.lock().waiting[Source::Live as usize].push_back(7);
    field.drain_all(&workers.handle());
    assert_eq!(field.queue.lock().workers, 1);
    assert_eq!(workers.handle().waiting(), 1, "a worker that is counted and not called is missing for ever");
}
