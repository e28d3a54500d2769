//! What a search reads under the keyspace's lock: little at a time, and its answer is one of a single moment
//! all the same.

use crate::harness::{Server, blob};
use engramdb_testkit::text::GIVEN_UP;
use std::cell::Cell;

const DOCUMENTS: usize = 3000;
/// Keys that may be looked up in one hold of the lock while nothing changes.
const LOOKED_UP_MAX: usize = 256;

fn loaded() -> Server {
    let mut server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC t TEXT s TEXT SORTABLE g NUMERIC NOINDEX \
                  v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    (0..DOCUMENTS).for_each(|number| write(&server, number, number));
    server.resp3 = true;
    server
}

fn write(server: &Server, key: usize, number: usize) {
    let (text, digits) = (format!("text {:04}", number * 7919 % 10_007), number.to_string());
    let vector = blob(&[number as f32, 0.5]);
    let fields: [(&str, &[u8]); 8] = [
        ("c", if number.is_multiple_of(3) { b"red" } else { b"blue" }),
        ("n", digits.as_bytes()),
        ("t", text.as_bytes()),
        ("s", text.as_bytes()),
        ("g", digits.as_bytes()),
        ("v", &vector),
        ("other", text.as_bytes()),
        ("large", &[b'x'; 70_000][..if number < 3 { 70_000 } else { 10 }]),
    ];
    server.hset(&format!("d:{key}"), &fields);
}

const QUERIES: &[&[&str]] = &[
    &["*", "SORTBY", "t"],
    &["*", "SORTBY", "t", "DESC", "LIMIT", "5", "3"],
    &["*", "SORTBY", "s", "DESC", "LIMIT", "100", "2000", "WITHSORTKEYS"],
    &["@c:{red}", "SORTBY", "g", "DESC", "RETURN", "2", "other", "t", "LIMIT", "0", "3000"],
    &["*", "SORTBY", "n", "LIMIT", "0", "3000", "NOCONTENT"],
    &["*", "LIMIT", "0", "3000"],
    &["@n:[100 2900]", "LIMIT", "10", "2000", "RETURN", "1", "other"],
    &["*=>[KNN 2000 @v $q AS d]", "LIMIT", "0", "2000", "RETURN", "2", "d", "other"],
    &["*=>[KNN 2000 @v $q AS d]", "SORTBY", "t", "LIMIT", "0", "2000"],
    &["@c:{blue}=>[KNN 1000 @v $q AS d]", "SORTBY", "d", "DESC", "LIMIT", "0", "1000", "RETURN", "1", "t"],
    &["@c:{red}=>[KNN 900 @v $q AS d]", "SORTBY", "t", "LIMIT", "0", "5"],
    &["@v:[VECTOR_RANGE 4000000 $q]=>{$yield_distance_as: d}", "SORTBY", "d", "LIMIT", "0", "1500"],
];

fn words<'w>(query: &'w [&str], origin: &'w [u8]) -> Vec<&'w [u8]> {
    let mut words: Vec<&[u8]> = vec![b"FT.SEARCH", b"idx"];
    words.extend(query.iter().map(|word| word.as_bytes()));
    words.extend([&b"PARAMS"[..], b"2", b"q", origin, b"TIMEOUT", b"0"]);
    words
}

#[test]
fn no_hold_of_the_lock_looks_up_more_than_a_few_keys() {
    let server = loaded();
    let origin = blob(&[0.0, 0.5]);
    for query in QUERIES {
        let words = words(query, &origin);
        let (reply, looked_up) = server.run_between_looks(&words, &|| ());
        let most = looked_up.iter().max().expect("there is a last look");
        assert!(*most <= LOOKED_UP_MAX, "{query:?}: {looked_up:?}");
        assert!(reply == server.run(&words), "{query:?}");
        assert!(reply == server.run_in_transaction(&words), "{query:?} in a transaction");
    }
}

#[test]
fn beyond_the_room_of_the_client_nothing_is_copied_or_written_under_the_lock() {
    let server = loaded();
    let whole_page: &[&str] = &["*", "LIMIT", "0", "3000"];
    let keys: &[&str] = &["*", "LIMIT", "0", "3000", "NOCONTENT"];
    let ordered: &[&str] = &["*=>[KNN 2000 @v $q AS d]", "SORTBY", "t", "LIMIT", "0", "1000"];
    let origin = blob(&[0.0, 0.5]);
    for (query, room) in [(whole_page, 100_000), (keys, 10_000), (ordered, 100_000)] {
        let words = words(query, &origin);
        let (_, all) = server.run_between_looks(&words, &|| ());
        let (reply, looked_up) = server.run_with_room(&words, room, &|| ());
        assert_eq!(reply, GIVEN_UP, "{query:?}");
        assert_eq!(server.written_in_last_look(), 0, "{query:?}");
        let most = looked_up.iter().max().expect("there is a last look");
        assert!(*most <= LOOKED_UP_MAX, "{query:?}: {looked_up:?}");
        if query == whole_page {
            assert!(looked_up.len() < all.len() / 2, "{} looks, {} for all", looked_up.len(), all.len());
        }
    }
}

#[test]
fn what_fits_is_written_though_its_copies_take_more() {
    let mut server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC"), "OK");
    // Many small fields: a copy takes several times what is written of it.
    let names: Vec<String> = (0..40).map(|number| format!("f{number}")).collect();
    for key in 0..400 {
        let fields: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
        server.hset(&format!("d:{key}"), &fields);
    }
    server.resp3 = true;
    let words = words(&["*", "LIMIT", "0", "400"], &[]);
    let (whole, _) = server.run_between_looks(&words, &|| ());
    // In RESP a field and its value take some 17 bytes here; in memory, 48.
    let room = 400 * (40 * 17 + 80);
    let (reply, _) = server.run_with_room(&words, room, &|| ());
    assert!(reply == whole);
    let (reply, _) = server.run_with_room(&words, room / 2, &|| ());
    assert_eq!(reply, GIVEN_UP);
}

#[test]
fn no_more_of_a_hash_is_copied_than_the_reply_shows() {
    let server = Server::new();
    let create = "FT.CREATE idx PREFIX 1 d: PAYLOAD_FIELD p SCHEMA n NUMERIC";
    assert_eq!(server.line(create), "OK");
    let large = [b'x'; 20_000];
    for number in 0..600 {
        let fields: [(&str, &[u8]); 3] = [("n", b"1"), ("large", &large), ("p", b"small")];
        server.hset(&format!("d:{number}"), &fields);
        let fields: [(&str, &[u8]); 2] = [("n", b"2"), ("p", &large)];
        server.hset(&format!("d:p{number}"), &fields);
    }
    // A look copies 64 documents, or 7 that are large.
    for (query, are_large) in [
        (&["@n:[1 1]"][..], true),
        (&["@n:[1 1]", "NOCONTENT", "WITHPAYLOADS"], false),
        (&["@n:[1 1]", "RETURN", "1", "n"], false),
        (&["@n:[2 2]", "WITHPAYLOADS"], true),
        (&["@n:[2 2]"], false),
        (&["@n:[2 2]", "RETURN", "1", "n"], false),
        (&["@n:[2 2]", "RETURN", "1", "p"], true),
    ] {
        let mut words = words(query, &[]);
        words.extend([&b"LIMIT"[..], b"0", b"600"]);
        let (reply, looked_up) = server.run_between_looks(&words, &|| ());
        assert_eq!(looked_up.len() > 12, are_large, "{query:?}: {} looks", looked_up.len());
        assert!(reply == server.run_in_transaction(&words), "{query:?}");
    }
}

#[test]
fn rows_that_are_written_at_once_end_where_the_client_has_no_room() {
    let server = loaded();
    let words = words(&["*", "LIMIT", "0", "256"], &[]);
    let (reply, _) = server.run_with_room(&words, 1000, &|| ());
    assert_eq!(reply, GIVEN_UP);
    assert!(server.written_in_last_look() < 100_000, "{} bytes", server.written_in_last_look());
}

#[test]
fn rows_that_change_while_they_are_copied_are_copied_again_before_the_last_look() {
    let server = loaded();
    let words = words(&["*", "LIMIT", "0", "3000"], &[]);
    let looks = Cell::new(0);
    // A writer that changes all of it once, while the rows are copied.
    let between = || {
        looks.set(looks.get() + 1);
        if looks.get() == 40 {
            (0..DOCUMENTS).for_each(|key| _ = server.hset(&format!("d:{key}"), &[("other", b"else")]));
        }
    };
    let (reply, looked_up) = server.run_between_looks(&words, &between);
    let most = looked_up.iter().max().expect("there is a last look");
    assert!(*most <= LOOKED_UP_MAX, "{looked_up:?}");
    assert!(reply == server.run(&words));
}

#[test]
fn documents_that_change_while_they_are_put_in_order_are_read_again_before_the_last_look() {
    let server = loaded();
    let words = words(&["*", "SORTBY", "t", "LIMIT", "0", "2000"], &[]);
    let looks = Cell::new(0);
    // A writer that changes all of it once.
    let between = || {
        looks.set(looks.get() + 1);
        if looks.get() == 20 {
            (0..DOCUMENTS).for_each(|key| write(&server, key, (key * 7) % DOCUMENTS));
        }
    };
    let (reply, looked_up) = server.run_between_looks(&words, &between);
    let most = looked_up.iter().max().expect("there is a last look");
    assert!(*most <= LOOKED_UP_MAX, "{looked_up:?}");
    assert!(reply == server.run(&words));
}

/// A document is changed in what the index knows, in what it does not know, removed, or added.
/// A polygon around a point, with `corners` corners.
fn polygon(x: f64, y: f64, corners: usize) -> String {
    let corner = |number: usize| {
        let angle = std::f64::consts::TAU * (number % corners) as f64 / corners as f64;
        format!("{} {}", x + 5.0 * angle.cos(), y + 5.0 * angle.sin())
    };
    let corners: Vec<String> = (0..=corners).map(corner).collect();
    format!("POLYGON(({}))", corners.join(", "))
}

#[test]
fn few_shapes_are_compared_in_a_look_where_one_takes_long() {
    let server = Server::new();
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA s GEOSHAPE FLAT"), "OK");
    let put = |number: usize, x: f64| {
        server.hset(&format!("d:{number}"), &[("s", polygon(x, 0.0, 8).as_bytes())]);
    };
    (0..100).for_each(|number| put(number, if number < 50 { 1.0 } else { 90.0 }));
    for (corners, most) in [(1000, 2), (8, 100)] {
        let is_first = Cell::new(true);
        let change = || {
            if is_first.take() {
                (0..30).for_each(|number| put(number, 90.0));
                (50..55).for_each(|number| put(number, 1.0));
            }
        };
        let shape = polygon(0.0, 0.0, corners);
        let words = ["FT.SEARCH", "idx", "@s:[INTERSECTS $p]", "PARAMS", "2", "p", &shape, "DIALECT", "2"];
        let words: Vec<&[u8]> =
            words.iter().chain(&["LIMIT", "0", "0"]).map(|word| word.as_bytes()).collect();
        let (reply, _) = server.run_between_looks(&words, &change);
        assert_eq!(reply, "[25]");
        assert!(server.touched_in_one_hold() <= most, "{corners}: {}", server.touched_in_one_hold());
        (0..30).for_each(|number| put(number, 1.0));
        (50..55).for_each(|number| put(number, 90.0));
    }
}

fn change(server: &Server, random: u64, vectors_stay: bool) {
    let key = (random >> 8) as usize % (DOCUMENTS * 11 / 10);
    let name = format!("d:{key}");
    // New vectors that come while neighbours are looked for are no part of the answer.
    let kind = if vectors_stay { random % 4 } else { random % 7 };
    match kind {
        0 => _ = server.run(&[b"DEL", name.as_bytes()]),
        1 => _ = server.run(&[b"HDEL", name.as_bytes(), b"t", b"other"]),
        2 => _ = server.hset(&name, &[("other", b"else")]),
        4 => _ = server.run(&[b"RENAME", name.as_bytes(), format!("d:{}", key + 1).as_bytes()]),
        3 => _ = server.run(&[b"HPEXPIREAT", name.as_bytes(), b"1", b"FIELDS", b"2", b"t", b"other"]),
        _ => write(server, key, (random >> 24) as usize % DOCUMENTS),
    }
}

#[test]
fn what_changes_between_two_looks_is_in_the_answer() {
    for changes in [1, 40] {
        let server = loaded();
        let origin = blob(&[0.0, 0.5]);
        let state = Cell::new(7u64);
        for query in QUERIES {
            let words = words(query, &origin);
            let between = || {
                for _ in 0..changes {
                    let next = state.get().wrapping_mul(6_364_136_223_846_793_005);
                    state.set(next.wrapping_add(1_442_695_040_888_963_407));
                    change(&server, state.get() >> 20, query[0].contains("KNN"));
                }
            };
            let (reply, looked_up) = server.run_between_looks(&words, &between);
            assert!(looked_up.len() > 1 || query.contains(&"NOCONTENT"), "{query:?} looks once");
            let after = server.run(&words);
            let differs = reply.bytes().zip(after.bytes()).position(|(one, other)| one != other);
            let near =
                |text: &str, at: usize| text[at.saturating_sub(100)..text.len().min(at + 100)].to_owned();
            let parts = differs.map(|at| [near(&reply, at), near(&after, at)]);
            assert!(reply == after, "{query:?}: {parts:#?}");
        }
    }
}

#[test]
fn documents_that_are_copied_in_slices_are_indexed_like_any_other() {
    let mut server = Server::new();
    for vectors in ["FLAT", "HNSW"] {
        let create = format!(
            "FT.CREATE {vectors} PREFIX 1 d: SCHEMA c TAG v VECTOR {vectors} 6 TYPE FLOAT32 DIM 4 DISTANCE_METRIC L2"
        );
        assert_eq!(server.line(&create), "OK");
    }
    let pairs: Vec<(String, Vec<u8>)> =
        (0..3000).map(|number| (format!("f{number}"), b"other".to_vec())).collect();
    let write = |server: &Server, key: &str, tag: &[u8], at: f32| {
        let vector = blob(&[at, 0.5, 0.25, 0.125]);
        let mut fields: Vec<(&str, &[u8])> =
            pairs.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        fields.extend([("c", tag), ("v", &vector)]);
        server.hset(key, &fields);
    };
    write(&server, "d:1", b"red", 1.0);
    write(&server, "d:2", b"blue", 2.0);
    write(&server, "outside", b"red", 3.0);
    server.backfill();
    for line in ["COPY d:1 d:3", "COPY d:1 d:2 REPLACE", "COPY outside d:4", "COPY d:1 else"] {
        assert_eq!(server.line(line), "1", "{line}");
    }
    // The copies have contents of their own.
    assert_eq!(server.line("DEL d:1"), "1");
    write(&server, "outside", b"blue", 9.0);
    for is_restarted in [false, true] {
        if is_restarted {
            server = server.restart();
        }
        server.backfill();
        for index in ["FLAT", "HNSW"] {
            let search = |query: &str, at: f32| {
                let words = ["FT.SEARCH", index, query, "NOCONTENT", "SORTBY", "d"].map(str::as_bytes);
                let vector = blob(&[at, 0.5, 0.25, 0.125]);
                let more: [&[u8]; 6] = [b"PARAMS", b"2", b"q", &vector, b"DIALECT", b"2"];
                server.run(&[&words[..], &more].concat())
            };
            let found = search("@c:{red}=>[KNN 10 @v $q AS d]", 1.0);
            for (key, is_found) in [("d:1", false), ("d:2", true), ("d:3", true), ("d:4", true)] {
                assert_eq!(found.contains(key), is_found, "{index} {key}: {found}");
            }
            let near = search("@v:[VECTOR_RANGE 0.1 $q]=>{$yield_distance_as: d}", 3.0);
            assert!(near.contains("d:4") && !near.contains("d:3"), "{index}: {near}");
            assert!(!search("@c:{blue}=>[KNN 10 @v $q AS d]", 1.0).contains("d:"), "{index}");
        }
    }
}
