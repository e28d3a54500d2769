//! The allocations of the server: of a search, from its bytes on the socket to those of its reply, and of
//! writes that make tables grow.
//!
//! All allocations of all threads except the test's own are counted: connection, decoder, plan, search, rows,
//! log and background work. Buffers of requests and replies come from a warm pool. Time is not measured.

#![allow(unsafe_code, reason = "an allocator that counts")]

#[path = "../it/served.rs"]
#[allow(dead_code, reason = "`it` uses the rest")]
mod served;

use engramdb_resp::Protocol;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;
use served::Served;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
/// Bytes of the largest allocation since it was last set to 0.
static LARGEST: AtomicUsize = AtomicUsize::new(0);
/// The allocations of one test are not those of another.
static ONE_TEST: Mutex<()> = Mutex::new(());

thread_local! {
    static IS_TEST: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

// SAFETY: all arguments are passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !IS_TEST.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
            LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        }
        // SAFETY: the caller's guarantees are those that the callee requires.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's guarantees are those that the callee requires.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const DOCUMENTS: u32 = 3_000;
const QUERIES: u32 = 500;

/// No two vectors below 10,007 are equal: rows with equal vectors share a place in the graph, and a search
/// collects more of them than it returns.
fn vector(number: u32) -> Vec<u8> {
    (1..=16).flat_map(|x| (((number * x) % 10_007) as f32 - 5_000.0).to_le_bytes()).collect()
}

fn loaded() -> (Served, Client) {
    let served = Served::start();
    let mut client = served.client(Protocol::Resp2);
    let create =
        "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG v VECTOR HNSW 6 TYPE FLOAT32 DIM 16 DISTANCE_METRIC L2";
    assert!(!client.run(&split_words(create)).is_error());
    for number in 0..DOCUMENTS {
        let (key, tag, vector) = (format!("d:{number}"), format!("t{}", number % 2), vector(number));
        let words: [&[u8]; 6] = [b"HSET", key.as_bytes(), b"c", tag.as_bytes(), b"v", &vector];
        client.send(&words);
    }
    (0..DOCUMENTS).for_each(|_| assert!(!client.receive().is_error()));
    while !format!("{:?}", client.run(&["FT.INFO", "idx"])).contains(r#""pending_mutations", 0"#) {}
    (served, client)
}

/// The number of allocations of warm searches.
fn count(client: &mut Client, query: &str, options: &str) -> usize {
    let options = split_words(options);
    let mut search = |number: u32| {
        let vector = vector(number + 7_000);
        let mut words: Vec<&[u8]> =
            vec![b"FT.SEARCH", b"idx", query.as_bytes(), b"PARAMS", b"2", b"q", &vector];
        words.extend(options.iter().map(Vec::as_slice));
        let reply = format!("{:?}", client.run(&words));
        assert!(reply.starts_with("[10, "), "{reply}");
    };
    (0..QUERIES).for_each(&mut search);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..QUERIES).for_each(&mut search);
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

#[test]
fn a_warm_search_through_the_server_allocates_little() {
    let _alone = ONE_TEST.lock().expect("the other test ended well");
    IS_TEST.set(true);
    let (_served, mut client) = loaded();
    // At most 16 are promised; these are the counted numbers. A background thread may add a few to all of
    // them together.
    for (query, options, counted) in [
        ("*=>[KNN 10 @v $q EF_RUNTIME 100]", "NOCONTENT DIALECT 2", 5),
        ("*=>[KNN 10 @v $q AS d]", "NOCONTENT SORTBY d", 5),
        ("*=>[KNN 10 @v $q AS d]", "RETURN 2 c d", 6),
        ("*=>[KNN 10 @v $q AS d]", "", 6),
        ("@c:{t1}=>[KNN 10 @v $q]", "NOCONTENT", 9),
        ("@c:{t1}=>[KNN 10 @v $q AS d]", "RETURN 2 c d SORTBY d", 10),
        ("@c:{t1 | t0}=>[KNN 10 @v $q]", "NOCONTENT", 10),
    ] {
        let allocations = count(&mut client, query, options);
        let most = counted * QUERIES as usize + QUERIES as usize / 2;
        assert!(allocations <= most, "{query} {options}: {allocations} of {QUERIES}");
    }
}

/// A writer holds the keyspace's lock while it adds to an index. A table that doubles copies everything then,
/// which takes milliseconds for a million documents. So many documents would make such a table double.
#[test]
fn a_growing_index_copies_no_table() {
    const WARM: u32 = 100_000;
    const MORE: u32 = 140_000;
    const LARGEST_MAX: usize = 512 << 10;
    let _alone = ONE_TEST.lock().expect("the other test ended well");
    IS_TEST.set(true);
    let served = Served::start();
    let mut client = served.client(Protocol::Resp2);
    assert!(!client.run(&split_words("FT.CREATE idx SCHEMA t TAG n NUMERIC w TEXT")).is_error());
    let mut write = |command: &str, numbers: std::ops::Range<u32>| {
        for start in numbers.clone().step_by(100) {
            for number in start..start + 100 {
                // Each document has a tag and a word of its own.
                client.send(&split_words(&match command {
                    "HSET" => format!("HSET d:{number} t tag{number} n {number} w word{number}"),
                    _ => format!("{command} d:{number}"),
                }));
            }
            (0..100).for_each(|_| assert!(!client.receive().is_error()));
        }
    };
    write("HSET", 0..WARM);
    LARGEST.store(0, Ordering::Relaxed);
    write("HSET", WARM..WARM + MORE);
    write("DEL", 0..WARM + MORE);
    let largest = LARGEST.load(Ordering::Relaxed);
    assert!((1..=LARGEST_MAX).contains(&largest), "{largest} bytes at once");
}
