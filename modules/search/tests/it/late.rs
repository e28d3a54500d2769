//! Documents that are brought into an index later: a write that has posted much leaves them, and a backfill
//! leaves large ones. Searches wait for them.

use crate::harness::{Server, Ticking};
use engramdb_search::SearchModule;
use engramdb_testkit::text::Text;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A few times as many words as are posted at once, in all indexes together.
const INDEXES: usize = 40;
const WORDS: usize = 5_000;
/// As in the module, and what the last index may add.
const POSTED_MAX: usize = (1 << 16) + 2 * WORDS;

fn words(first: usize) -> String {
    (first..first + WORDS).map(|number| format!("w{number}")).collect::<Vec<_>>().join(" ")
}

fn with_indexes() -> Server {
    let server = Server::new();
    for number in 0..INDEXES {
        assert_eq!(server.line(&format!("FT.CREATE i{number} PREFIX 1 d: SCHEMA t TEXT c TAG")), "OK");
    }
    server
}

/// The most values that were posted at once so far. `values` are posted from now on before documents are
/// late.
fn post_at_most(server: &Server, values: usize) -> usize {
    server.engine.reads().expect("it serves").view(0).module::<SearchModule>().post_at_most(values)
}

/// Runs a search that has to wait, with the background work that it waits for.
fn after_waiting(server: &Server, line: &str) -> String {
    let waiting = server.waiting(line);
    let mut steps = 0;
    while !waiting.signal.is_given() {
        assert!(server.engine.run_background(), "{line}: it waits for nothing");
        steps += 1;
    }
    assert!(steps <= 4, "{line}: its index comes first, not after {steps} steps");
    let mut reply = Text::new(false);
    server.engine.complete(0, waiting.block(), &mut reply);
    reply.finish()
}

#[test]
fn one_command_posts_a_bounded_number_of_words_and_searches_find_the_rest_too() {
    let server = with_indexes();
    let last = INDEXES - 1;
    let check = |query: &str, found: &str| {
        let search = format!("FT.SEARCH i{last} {query} NOCONTENT");
        assert_eq!(after_waiting(&server, &search), found, "{query}");
        let first = server.line(&format!("FT.SEARCH i0 {query} NOCONTENT"));
        assert_eq!(first, found, "the first index has it at once");
    };
    server.hset("d:1", &[("t", words(0).as_bytes()), ("c", b"red")]);
    check("w4999", "[1, \"d:1\"]");
    assert!(server.line(&format!("FT.INFO i{}", last - 1)).contains("\"indexing\", 1"), "it is behind");
    assert_eq!(server.line("FT.SEARCH i3 @c:{red} NOCONTENT"), "[1, \"d:1\"]");
    // Late documents that change again are read as they are then.
    server.hset("d:1", &[("t", words(1).as_bytes())]);
    server.hset("d:1", &[("c", b"blue")]);
    check("w5000", "[1, \"d:1\"]");
    server.backfill();
    for number in 0..INDEXES {
        assert_eq!(server.line(&format!("FT.SEARCH i{number} w0 NOCONTENT")), "[0]");
        assert_eq!(
            server.line(&format!("FT.SEARCH i{number} 'w5000 @c:{{blue}}' NOCONTENT")),
            "[1, \"d:1\"]"
        );
    }
    server.line("DEL d:1");
    check("*", "[0]");
    server.backfill();
    let most = post_at_most(&server, 0);
    assert!((WORDS..POSTED_MAX).contains(&most), "{most}");
}

#[test]
fn the_commands_of_a_transaction_see_what_it_wrote() {
    let server = with_indexes();
    post_at_most(&server, 0);
    let write: Vec<&[u8]> = vec![b"HSET", b"d:1", b"t", b"hello"];
    let search: Vec<&[u8]> = vec![b"FT.SEARCH", b"i7", b"hello", b"NOCONTENT"];
    let replies = server.run_transaction(&[write, search.clone()]);
    assert_eq!(replies, ["1", "[1, \"d:1\"]"]);
    server.hset("d:2", &[("t", b"hello")]);
    let refused = server.run_in_transaction(&search);
    assert!(refused.contains("still being built"), "{refused}");
    server.backfill();
    assert_eq!(server.run_in_transaction(&search), "[2, \"d:1\", \"d:2\"]");
}

#[test]
fn a_search_that_has_begun_waits_for_what_became_late_meanwhile() {
    let server = with_indexes();
    server.hset("d:1", &[("t", b"hello")]);
    post_at_most(&server, 0);
    let is_done = AtomicBool::new(false);
    let search: [&[u8]; 6] = [b"FT.SEARCH", b"i7", b"hello", b"NOCONTENT", b"TIMEOUT", b"0"];
    let aggregate: [&[u8]; 8] =
        [b"FT.AGGREGATE", b"i7", b"hello|world", b"LOAD", b"1", b"@__key", b"TIMEOUT", b"0"];
    std::thread::scope(|scope| {
        let background = scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                server.engine.run_background();
                std::thread::yield_now();
            }
        });
        for number in 0..50 {
            let (there, gone) = (format!("d:{}", number + 2), format!("d:{}", number + 1));
            let (found, _) = server.run_interrupted(&search, || {
                server.hset(&there, &[("t", b"hello")]);
                server.line(&format!("DEL {gone}"));
            });
            assert_eq!(found, format!("[1, \"{there}\"]"));
            let is_written = Cell::new(false);
            let (found, _) = server.run_between_looks(&aggregate, &|| {
                // Written again and again, it would be late for ever.
                if !is_written.replace(true) {
                    server.hset("d:other", &[("t", b"world")]);
                }
            });
            assert!(found.contains(&there), "{found}");
            assert!(found.contains("d:other"), "{found}");
        }
        is_done.store(true, Ordering::Relaxed);
        background.join().expect("background work ends");
    });
}

#[test]
fn an_index_that_is_dropped_with_its_documents_takes_the_late_ones() {
    let server = with_indexes();
    server.line("FT.CREATE some PREFIX 1 d: FILTER '@c==\"red\"' SCHEMA t TEXT c TAG");
    post_at_most(&server, 0);
    server.hset("d:1", &[("t", b"hello"), ("c", b"red")]);
    server.hset("d:2", &[("t", b"hello"), ("c", b"blue")]);
    assert_eq!(server.line("FT.DROPINDEX some DD"), "OK");
    assert_eq!(server.line("EXISTS d:1 d:2"), "1");
    let waiting = server.waiting("FT.SEARCH i3 *");
    server.line("FT.DROPINDEX i3");
    server.backfill();
    assert!(waiting.signal.is_given());
}

#[test]
fn a_backfill_reads_large_documents_without_the_lock() {
    let server = Server::with_clock(Arc::new(Ticking::never()));
    let text = words(0).repeat(4);
    for number in 0..3 {
        server.hset(&format!("d:{number}"), &[("t", text.as_bytes()), ("c", b"red")]);
        server.hset(&format!("d:small{number}"), &[("t", b"w7")]);
    }
    server.line("FT.CREATE i PREFIX 1 d: FILTER '@c!=\"no\"' SCHEMA t TEXT c TAG");
    let found = |query: &str| server.line(&format!("FT.SEARCH i {query} LIMIT 0 0"));
    assert_eq!(server.line("FT.CONFIG SET PARTIAL_RESULTS yes"), "OK");
    // One step reads a large document, the next one posts it. What changes in between is read again.
    let documents = || {
        let info = server.line("FT.INFO i");
        let (_, rest) = info.split_once("\"num_docs\", ").expect("FT.INFO says how many");
        rest.split(',').next().expect("a number").to_owned()
    };
    let mut counts = vec![documents()];
    for _ in 0..3 {
        assert!(server.engine.run_background());
        counts.push(documents());
    }
    assert_eq!(counts, ["3", "3", "4", "4"]);
    server.hset("d:0", &[("t", b"changed"), ("c", b"no")]);
    server.hset("d:1", &[("t", words(1).repeat(4).as_bytes())]);
    server.line("DEL d:2");
    server.backfill();
    assert_eq!(found("w4999"), "[1]");
    assert_eq!(found("w5000"), "[1]");
    assert_eq!(found("changed"), "[0]");
    assert_eq!(found("w7"), "[4]");
    server.line("FT.ALTER i SCHEMA ADD t AS again TEXT");
    server.backfill();
    assert_eq!(found("@again:w5000"), "[1]");
    let before = server.line("FT.SEARCH i 'w5000|w7' WITHSCORES NOCONTENT");
    server.engine.rebuild();
    server.backfill();
    assert_eq!(server.line("FT.SEARCH i 'w5000|w7' WITHSCORES NOCONTENT"), before);
}
