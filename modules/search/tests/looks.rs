//! What a search reads under the keyspace's lock: little at a time, and its answer is one of a single moment all the same.

mod harness;

use harness::{Server, blob};
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
fn no_more_is_copied_than_the_client_takes() {
    let server = loaded();
    let words = words(&["*", "LIMIT", "0", "3000"], &[]);
    let (whole, all) = server.run_between_looks(&words, &|| ());
    let (reply, looked_up) = server.run_with_room(&words, 100_000, &|| ());
    assert!(looked_up.len() < all.len() / 2, "{} looks, {} for the whole", looked_up.len(), all.len());
    assert!(reply == whole, "what is too much is for the client's buffer to say");
}

/// A document is changed in what the index knows, in what it does not know, removed, or added.
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
