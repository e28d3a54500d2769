//! What a search does in one hold of the keyspace's lock does not grow with what it finds, nor with what has
//! expired: everything that is looked at, put in order or made a row of is counted.

use crate::harness::{Server, blob};
use std::cell::Cell;

/// Keys that may be looked up in one hold of the lock.
const LOOKED_UP_MAX: usize = 256;
/// Rows, documents, places of the expiry index and comparisons that one hold may have to do with: where
/// nothing changes, and where as much has changed as a last look takes. Then each of 256 documents is put in
/// its place by some dozens of comparisons.
const TOUCHED_MAX: [usize; 2] = [1_000, 256 * 64];

const CREATE: &str = "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC \
                      v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";

fn loaded(documents: usize) -> Server {
    let server = Server::new();
    assert_eq!(server.line(CREATE), "OK");
    (0..documents).for_each(|number| write(&server, number, number));
    server
}

fn write(server: &Server, key: usize, at: usize) {
    let digits = at.to_string();
    let vector = blob(&[at as f32, 0.5]);
    let tag: &[u8] = if key.is_multiple_of(7) { b"y" } else { b"x" };
    server
        .hset(&format!("d:{key:06}"), &[("c", tag), ("n", digits.as_bytes()), ("v", &vector), ("tmp", b"1")]);
}

/// Has something of these documents expire; the engine's background does not run here, so all of it stays
/// stored.
fn expire(server: &Server, documents: std::ops::Range<usize>, field: Option<&str>) {
    for number in documents.clone() {
        match field {
            None => server.line(&format!("PEXPIRE d:{number:06} 1")),
            Some(field) => server.line(&format!("HPEXPIRE d:{number:06} 1 FIELDS 1 {field}")),
        };
    }
    let last = documents.end - 1;
    let is_there = || match field {
        None => server.line(&format!("EXISTS d:{last:06}")) == "1",
        Some(field) => server.line(&format!("HEXISTS d:{last:06} {field}")) == "1",
    };
    while is_there() {}
}

fn words<'w>(query: &'w [&str], origin: &'w [u8]) -> Vec<&'w [u8]> {
    let words = query.iter().map(|word| word.as_bytes());
    let more: [&[u8]; 6] = [b"NOCONTENT", b"PARAMS", b"2", b"q", origin, b"TIMEOUT"];
    [&b"FT.SEARCH"[..], b"idx"].into_iter().chain(words).chain(more).chain([&b"0"[..]]).collect()
}

/// Runs the search, at first alone, and then with something happening before each look. No hold does more
/// than a little, and the answer is that of the last moment.
fn check(server: &Server, query: &[&str], between: &dyn Fn()) {
    check_once(server, query, &|| (), TOUCHED_MAX[0]);
    check_once(server, query, between, TOUCHED_MAX[1]);
}

fn check_once(server: &Server, query: &[&str], between: &dyn Fn(), touched_max: usize) {
    let origin = blob(&[0.0, 0.5]);
    let words = words(query, &origin);
    let (reply, looked_up) = server.run_between_looks(&words, between);
    let (most, touched) =
        (looked_up.iter().max().expect("there is a last look"), server.touched_in_one_hold());
    assert!(*most <= LOOKED_UP_MAX, "{query:?}: {most} keys in one hold");
    assert!(touched <= touched_max, "{query:?}: {touched} in one hold");
    assert!(reply == server.run_in_transaction(&words), "{query:?}: {reply}");
}

#[test]
fn under_a_filter_what_has_expired_is_visited_in_slices() {
    const EXPIRED: usize = 100_000;
    let server = loaded(EXPIRED + 1_000);
    expire(&server, 0..EXPIRED, None);
    let turn = Cell::new(0);
    let between = || {
        turn.set(turn.get() + 1);
        // Some that have expired are written again, and others come and go.
        write(&server, turn.get() % EXPIRED, turn.get());
        server.line(&format!("DEL d:{:06}", EXPIRED + turn.get() % 500));
    };
    for query in [
        &["@c:{x}=>[KNN 5 @v $q]"][..],
        &["(@n:[0 +inf] -@c:{y})=>[KNN 500 @v $q]"],
        &["@c:{x}"],
        &["-@c:{y}", "SORTBY", "n"],
        &["*=>[KNN 10 @v $q]"],
    ] {
        check(&server, query, &between);
    }
}

#[test]
fn many_neighbours_are_put_in_order_before_the_last_look() {
    let server = loaded(12_000);
    let turn = Cell::new(0);
    let between = || {
        turn.set(turn.get() + 1);
        server.line(&format!("DEL d:{:06}", 17 * turn.get() % 10_000));
        write(&server, 11_000 + turn.get() % 500, turn.get() % 5_000);
        write(&server, turn.get() % 300, 11_900);
    };
    for query in [
        &["*=>[KNN 10000 @v $q AS d]"][..],
        &["*=>[KNN 10000 @v $q AS d]", "LIMIT", "9000", "10"],
        &["*=>[KNN 10000 @v $q AS d]", "SORTBY", "n", "DESC", "LIMIT", "5000", "20"],
        &["*=>[KNN 10000 @v $q AS d]", "SORTBY", "c", "LIMIT", "9990", "20"],
        &["@c:{x}=>[KNN 9000 @v $q AS d]", "SORTBY", "d", "DESC"],
    ] {
        check(&server, query, &between);
    }
}

#[test]
fn many_neighbours_of_which_something_has_expired_are_put_in_order_before_the_last_look() {
    let server = loaded(14_000);
    expire(&server, 0..3_000, Some("n"));
    expire(&server, 3_000..4_000, Some("v"));
    expire(&server, 4_000..5_000, None);
    expire(&server, 5_000..8_000, Some("tmp"));
    let turn = Cell::new(0);
    let between = || {
        turn.set(turn.get() + 1);
        let number = 37 * turn.get() % 8_000;
        server.line(&format!("HSET d:{number:06} tmp 2 n {number}"));
        server.line(&format!("DEL d:{:06}", 9_000 + turn.get() % 500));
    };
    for query in [
        &["*=>[KNN 10000 @v $q AS d]", "SORTBY", "n", "LIMIT", "4000", "10"][..],
        &["@c:{x}=>[KNN 8000 @v $q AS d]", "SORTBY", "d", "LIMIT", "7990", "10"],
        &["(-@n:[0 1000])=>[KNN 8000 @v $q AS d]", "SORTBY", "n", "DESC"],
    ] {
        check(&server, query, &between);
    }
}

#[test]
fn an_order_whose_first_rows_have_all_expired_is_found_before_the_last_look() {
    const GONE: usize = 20_000;
    for field in [None, Some("n")] {
        let server = loaded(GONE + 3_000);
        expire(&server, 0..GONE, field);
        for query in [
            &["*", "SORTBY", "n"][..],
            &["@c:{x}", "SORTBY", "n", "LIMIT", "5", "10"],
            &["*", "SORTBY", "c", "DESC", "LIMIT", "100", "10"],
            &["*", "SORTBY", "n", "DESC", "LIMIT", "2900", "300"],
        ] {
            let turn = Cell::new(0);
            check(&server, query, &|| {
                turn.set(turn.get() + 1);
                write(&server, turn.get(), GONE + turn.get());
            });
        }
    }
}

#[test]
fn no_rows_are_made_of_what_comes_before_the_page() {
    let server = loaded(30_000);
    for query in [
        &["*", "LIMIT", "25000", "10"][..],
        &["@n:[100 +inf]", "LIMIT", "20000", "10"],
        &["*", "SORTBY", "n", "LIMIT", "25000", "10"],
    ] {
        let turn = Cell::new(0);
        let between = || {
            turn.set(turn.get() + 1);
            server.line(&format!("DEL d:{:06}", 3 * turn.get()));
            write(&server, 10_000 + turn.get(), 200);
        };
        check(&server, query, &between);
    }
}
