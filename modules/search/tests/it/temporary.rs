//! Temporary indexes: dropped after a time without use, by an effect that replay and snapshots know.

use crate::harness::{Server, blob};
use engramdb_engine::env::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A clock whose time changes only by `advance`.
#[derive(Default)]
struct Moved(AtomicU64);

impl Moved {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for Moved {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

fn server() -> (Server, Arc<Moved>) {
    let clock = Arc::new(Moved::default());
    (Server::with_clock(clock.clone()), clock)
}

/// The names of the indexes after what is due was dropped.
fn left(server: &Server) -> String {
    while server.engine.expire_due(10).expect("there is room") > 0 {}
    server.line("FT._LIST").replace('"', "")
}

#[test]
fn an_index_is_dropped_after_its_time_without_use() {
    let (server, clock) = server();
    assert_eq!(server.line("FT.CREATE often TEMPORARY 10 PREFIX 1 d: SCHEMA t TEXT"), "OK");
    assert_eq!(server.line("FT.CREATE written TEMPORARY 10 PREFIX 1 w: SCHEMA t TEXT"), "OK");
    assert_eq!(server.line("FT.CREATE never TEMPORARY 10 PREFIX 1 d: SCHEMA t TEXT"), "OK");
    assert_eq!(server.line("FT.CREATE least TEMPORARY 0 PREFIX 1 d: SCHEMA t TEXT"), "OK");
    assert_eq!(server.line("FT.CREATE kept PREFIX 1 d: SCHEMA t TEXT"), "OK");
    assert_eq!(server.line("FT.ALIASADD other often"), "OK");
    assert_eq!(left(&server), "[kept, least, never, often, written]");
    clock.advance(9);
    assert_eq!(left(&server), "[kept, never, often, written]", "no time is a second");
    assert_eq!(server.line("FT.SEARCH other x"), "[0]");
    server.hset("w:1", &[("t", b"word")]);
    clock.advance(9);
    assert_eq!(left(&server), "[kept, often, written]", "18 seconds without a use");
    assert_eq!(server.line("FT.ALTER often SCHEMA ADD n NUMERIC"), "OK");
    clock.advance(9);
    assert_eq!(left(&server), "[kept, often]");
    assert!(server.line("FT.INFO often").contains("index_name"), "this is a use as well");
    clock.advance(9);
    assert_eq!(left(&server), "[kept, often]");
    clock.advance(1);
    assert_eq!(left(&server), "[kept]");
    assert_eq!(server.line("FT.SEARCH other x"), "other: no such index", "the alias went with it");
    assert_eq!(server.line("HGET w:1 t"), "\"word\"", "documents stay");
    clock.advance(1_000_000);
    assert_eq!(left(&server), "[kept]");
}

#[test]
fn a_drop_is_in_the_log_and_a_start_begins_the_time_anew() {
    let (server, clock) = server();
    assert_eq!(left(&server), "[]");
    server.line("FT.CREATE gone TEMPORARY 10 SCHEMA v VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2");
    server.hset("d:1", &[("v", &blob(&[1.0]))]);
    clock.advance(10);
    assert_eq!(left(&server), "[]");
    assert_eq!(server.line("FT.CREATE back TEMPORARY 1000 SCHEMA t TEXT"), "OK");
    let server = server.restart();
    assert_eq!(left(&server), "[back]", "the time since the system's start is no time without use");
    assert_eq!(server.line("FT.DROPINDEX back"), "OK");
    assert_eq!(server.line("EXISTS d:1"), "1", "only DD deletes documents");
}

/// A follower does not know when its leader was asked for an index.
#[test]
fn the_time_begins_where_an_engine_begins_to_drop() {
    let (server, clock) = server();
    server.line("FT.CREATE i TEMPORARY 10 SCHEMA t TEXT");
    clock.advance(1000);
    assert_eq!(left(&server), "[i]", "it has not asked before");
    clock.advance(9);
    assert_eq!(left(&server), "[i]");
    clock.advance(1);
    assert_eq!(left(&server), "[]");
}

#[test]
fn thousands_are_looked_at_in_turn() {
    let (server, clock) = server();
    for number in 0..600 {
        let seconds = if number % 2 == 0 { 10 } else { 1000 };
        server.line(&format!("FT.CREATE i{number} TEMPORARY {seconds} SCHEMA t TEXT"));
    }
    left(&server);
    clock.advance(10);
    // A call looks at some of them only.
    for _ in 0..600 {
        server.engine.expire_due(10).expect("there is room");
    }
    assert_eq!(server.line("FT._LIST").matches('i').count(), 300);
    server.line("FLUSHALL");
    clock.advance(1000);
    assert_eq!(left(&server), "[]");
}

#[test]
fn a_time_is_a_number_of_seconds() {
    let server = Server::new();
    const BAD: &str = "Bad arguments for TEMPORARY: Could not convert argument to expected type";
    for seconds in ["1.5", "x", "9223372036854775807", "9223372036854776"] {
        assert_eq!(server.line(&format!("FT.CREATE i TEMPORARY {seconds} SCHEMA t TEXT")), BAD, "{seconds}");
    }
    assert_eq!(server.line("FT.CREATE i TEMPORARY 9223372036854775 SCHEMA t TEXT"), "OK");
}
