//! Searches whose rows are gone, changed or expired each time that they look at the keyspace for the last
//! time: what they lack is found without the keyspace's lock, and they end.

use crate::harness::{Server, blob, is_last_look};
use engramdb_engine::env::Clock;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const DOCUMENTS: usize = 3_000;
/// Keys that may be looked up in one hold of the lock.
const LOOKED_UP_MAX: usize = 256;

/// Stands still, and counts how often it is asked in last looks: scans and walks ask it for the deadline.
#[derive(Default)]
struct Watching(AtomicUsize);

impl Clock for Watching {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic(&self) -> Duration {
        self.0.fetch_add(usize::from(is_last_look()), Ordering::Relaxed);
        Duration::ZERO
    }
}

/// Documents on a line, or all at one place.
fn loaded(algorithm: &str, are_copies: bool) -> (Server, Arc<Watching>) {
    let clock = Arc::<Watching>::default();
    let server = Server::with_clock(clock.clone());
    let create = format!(
        "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC v VECTOR {algorithm} 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2"
    );
    assert_eq!(server.line(&create), "OK");
    (0..DOCUMENTS).for_each(|number| write(&server, number, if are_copies { 7 } else { number }));
    (server, clock)
}

fn write(server: &Server, key: usize, x: usize) {
    let number = key.to_string();
    let vector = blob(&[x as f32, 0.0]);
    server.hset(&format!("d:{key:04}"), &[("c", b"x"), ("n", number.as_bytes()), ("v", &vector)]);
}

fn words<'w>(query: &'w str, origin: &'w [u8]) -> Vec<&'w [u8]> {
    let words = ["FT.SEARCH", "idx", query, "NOCONTENT", "TIMEOUT", "1000000", "PARAMS", "2", "q"];
    words.into_iter().map(str::as_bytes).chain([origin]).collect()
}

const QUERIES: [&str; 3] =
    ["*=>[KNN 5 @v $q]", "@c:{x}=>[KNN 5 @v $q]", "(@n:[0 2900] -@c:{y})=>[KNN 5 @v $q]"];

/// Runs a search with something happening before each look; checks that nothing is searched for in a last
/// look, that few keys are looked up in each, and that the answer is that of the moment of the reply. Returns
/// how many looks there were.
fn check(server: &Server, clock: &Watching, query: &str, between: &dyn Fn()) -> usize {
    let origin = blob(&[0.0, 0.0]);
    let words = words(query, &origin);
    let before = clock.0.load(Ordering::Relaxed);
    let (reply, looked_up) = server.run_between_looks(&words, between);
    let asked = clock.0.load(Ordering::Relaxed) - before;
    assert_eq!(asked, 0, "{query}: something is searched for under the lock");
    assert!(looked_up.iter().all(|&keys| keys <= LOOKED_UP_MAX), "{query}: {looked_up:?}");
    assert_eq!(reply, server.run(&words), "{query}");
    looked_up.len()
}

#[test]
fn rows_that_vanish_each_time_are_made_up_for_without_the_lock() {
    for (algorithm, are_copies) in [("FLAT", false), ("HNSW", false), ("FLAT", true), ("HNSW", true)] {
        for query in QUERIES {
            let (server, clock) = loaded(algorithm, are_copies);
            // All that the search can have found so far is deleted, each time.
            let (gone, batch) = (Cell::new(0), Cell::new(5));
            let between = || {
                for number in gone.get()..(gone.get() + batch.get()).min(DOCUMENTS) {
                    server.line(&format!("DEL d:{number:04}"));
                }
                gone.set(gone.get() + batch.get());
                batch.set(batch.get() * 2);
            };
            let looks = check(&server, &clock, query, &between);
            // A flat index hands over a thousand copies with the nearest.
            let least = if are_copies { 1 } else { 3 };
            assert!((least..20).contains(&looks), "{algorithm} {query}: {looks} looks");
        }
    }
}

#[test]
fn a_search_in_which_everything_is_deleted_ends_with_nothing() {
    for query in QUERIES {
        let (server, clock) = loaded("HNSW", false);
        let between = || (0..DOCUMENTS).for_each(|number| _ = server.line(&format!("DEL d:{number:04}")));
        check(&server, &clock, query, &between);
        assert_eq!(server.keys(query, &[b"PARAMS", b"2", b"q", &blob(&[0.0, 0.0])]), [""; 0]);
    }
}

#[test]
fn a_search_ends_though_more_changes_each_time_than_a_last_look_takes() {
    for query in QUERIES {
        let (server, clock) = loaded("FLAT", false);
        let times = Cell::new(0);
        // The nearest 600 move, so that others are nearest.
        let between = || {
            times.set(times.get() + 1);
            (0..600).for_each(|number| write(&server, number, (number + 97 * times.get()) % 2_000));
        };
        let looks = check(&server, &clock, query, &between);
        assert!((3..20).contains(&looks), "{query}: {looks} looks");
    }
}

#[test]
fn what_comes_nearer_while_the_neighbours_are_looked_for_is_in_the_answer() {
    for algorithm in ["FLAT", "HNSW"] {
        for query in QUERIES {
            let (server, clock) = loaded(algorithm, false);
            let times = Cell::new(0);
            let between = || {
                times.set(times.get() + 1);
                write(&server, 2_000 + times.get(), 0);
                write(&server, times.get(), 2_500);
                server.line(&format!("DEL d:{:04}", 100 + times.get()));
            };
            check(&server, &clock, query, &between);
        }
    }
}

#[test]
fn neighbours_that_expire_each_time_are_left_out_of_the_next_search() {
    let (server, clock) = loaded("FLAT", false);
    let expired = Cell::new(0);
    let between = || {
        let end = (expired.get() + 300).min(1_500);
        (expired.get()..end).for_each(|number| {
            _ = server.line(&format!("HPEXPIREAT d:{number:04} 1700000000001 FIELDS 1 v"))
        });
        expired.set(end);
        while server.line(&format!("HEXISTS d:{:04} v", end - 1)) != "0" {}
    };
    let looks = check(&server, &clock, QUERIES[0], &between);
    assert!((3..60).contains(&looks), "{looks} looks");
}

/// That a field expired which the index does not know, and was set again, is no change of the document. The
/// search that was made up for the second neighbour was without it.
#[test]
fn documents_that_were_stale_in_one_last_look_and_are_not_in_the_next_are_in_the_answer() {
    for stale in [1, 600] {
        let (server, _) = loaded("FLAT", false);
        let key = |number: usize| format!("d:{:04}", if number == 0 { 0 } else { number + 1 });
        for number in 0..stale {
            server.line(&format!("HSET {} tmp 1", key(number)));
            server.line(&format!("HPEXPIRE {} 1 FIELDS 1 tmp", key(number)));
        }
        while server.line(&format!("HEXISTS {} tmp", key(stale - 1))) != "0" {}
        let origin = blob(&[0.0, 0.0]);
        let words = words("@c:{x}=>[KNN 2 @v $q]", &origin);
        let times = Cell::new(0);
        let between = || {
            times.set(times.get() + 1);
            match times.get() {
                1 => _ = server.line("DEL d:0001"),
                2 => (0..stale).for_each(|number| _ = server.line(&format!("HSET {} tmp 2", key(number)))),
                _ => {}
            }
        };
        let (reply, looked_up) = server.run_between_looks(&words, &between);
        let slices = 2 * stale.div_ceil(64) + 6;
        assert!((2..slices).contains(&looked_up.len()), "{stale} stale: {looked_up:?}");
        assert!(reply.contains("d:0000"), "{stale} stale: {reply}");
        assert_eq!(reply, server.run(&words), "{stale} stale");
    }
}
