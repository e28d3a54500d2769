//! What a search does without a lock, and that its answer is true all the same. Clocks tell where the work is
//! done: all that may take long asks them.

use crate::harness::{Server, Ticking, blob};
use engramdb_engine::env::Clock;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DOCUMENTS: usize = 10_000;

/// Each document has a tag, a number, and a text of its own.
fn loaded(clock: Arc<dyn Clock>) -> Server {
    let mut server = Server::with_clock(clock);
    assert_eq!(server.line("FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC t TEXT"), "OK");
    for number in 0..DOCUMENTS {
        let (tag, text) = (format!("tag{number}"), format!("the same words and {number}"));
        let value = number.to_string();
        let fields = [("c", tag.as_bytes()), ("n", value.as_bytes()), ("t", text.as_bytes())];
        server.hset(&format!("d:{number}"), &fields);
    }
    server.resp3 = true;
    server
}

/// Filters that walk over all that there is of something.
const LONG_FILTERS: [&str; 7] = [
    "@c:{w'*g*7'}",
    "@c:{*7}",
    "@c:{tag*}",
    "-@c:{*7*}",
    "@n:[7 +inf]",
    "@t:(\"same words\")",
    "@c:{tag7} | @n:[8 (9900]",
];

#[test]
fn filters_end_in_time() {
    let server = loaded(Arc::new(Ticking::by_millisecond()));
    for query in LONG_FILTERS {
        let whole = server.run(&[b"FT.SEARCH", b"idx", query.as_bytes(), b"TIMEOUT", b"0", b"NOCONTENT"]);
        assert!(whole.contains(r#""warning": []"#) && whole.contains(r#""id""#), "{query}: {whole}");
        let cut = server.run(&[b"FT.SEARCH", b"idx", query.as_bytes(), b"TIMEOUT", b"1", b"NOCONTENT"]);
        let warned = r#""total_results": 0, "warning": ["Timeout limit was reached"], "results": []"#;
        assert!(cut.contains(warned), "{query}: {cut}");
    }
    assert_eq!(server.line("FT.CONFIG SET ON_TIMEOUT fail"), "OK");
    let cut = server.line("FT.SEARCH idx @c:{*7} TIMEOUT 1");
    assert_eq!(cut, "Timeout limit was reached");
}

#[test]
fn a_pattern_ends_at_its_most_terms() {
    let server = loaded(Arc::new(Ticking::by_millisecond()));
    assert_eq!(server.line("FT.CONFIG SET MAXEXPANSIONS 3"), "OK");
    let found = server.run(&[b"FT.SEARCH", b"idx", b"@c:{tag*}", b"TIMEOUT", b"5", b"NOCONTENT"]);
    assert!(found.contains(r#""total_results": 3, "warning": []"#), "{found}");
}

#[test]
fn what_is_short_is_done_where_it_came_in() {
    let server = loaded(Arc::new(Ticking::never()));
    for number in 0..10_000 {
        server.hset(&format!("d:more{number}"), &[("n", b"1")]);
    }
    for (query, is_offloaded) in [
        ("@c:{tag7}", false),
        ("@c:{tag7} SORTBY n", false),
        ("'@c:{tag7|tag8} -@n:[1 2]' SORTBY n", false),
        ("'@c:{tag7} @c:{tag8}' SORTBY c", false),
        ("* SORTBY n", true),
        ("-@c:{tag7} SORTBY n", true),
        ("@c:{*7}|@t:*7|@t:7*|@c:{7*}", true),
        ("same", false),
        ("same|words|and|the7|words8|words9|a|b|c|d|e|f|g", true),
    ] {
        assert_eq!(server.is_offloaded(&format!("FT.SEARCH idx {query}")), is_offloaded, "{query}");
    }
}

#[test]
fn putting_rows_in_order_ends_in_time() {
    let server = loaded(Arc::new(Ticking::by_millisecond()));
    for field in ["n", "c"] {
        let search = |timeout: &str| {
            server.line(&format!("FT.SEARCH idx * SORTBY {field} LIMIT 0 1 NOCONTENT TIMEOUT {timeout}"))
        };
        let whole = search("0");
        assert!(whole.contains(r#""warning": [], "results": [{"id": "d:0""#), "{field}: {whole}");
        let cut = search("1");
        assert!(cut.contains(r#""total_results": 10000, "warning": ["Timeout"#), "{field}: {cut}");
        assert!(cut.contains(r#""results": [{"id": "d:0""#), "what was put in order is shown: {cut}");
    }
}

/// A clock that lets something happen whenever it is asked, but for the first time: then the deadline is set.
#[derive(Default)]
struct Meddling(Mutex<Option<Meddler>>);

struct Meddler {
    asked: usize,
    meddle: Box<dyn FnMut() + Send>,
}

impl Meddling {
    fn arm(&self, meddle: impl FnMut() + Send + 'static) {
        *self.0.lock().expect("no test panics in it") = Some(Meddler { asked: 0, meddle: Box::new(meddle) });
    }

    /// Returns how often it was asked.
    fn disarm(&self) -> usize {
        self.0.lock().expect("no test panics in it").take().map_or(0, |meddler| meddler.asked)
    }
}

impl Clock for Meddling {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic(&self) -> Duration {
        // Taken out meanwhile: what happens may ask the clock too.
        let taken = self.0.lock().expect("no test panics in it").take();
        if let Some(mut meddler) = taken {
            meddler.asked += 1;
            if meddler.asked > 1 {
                (meddler.meddle)();
            }
            *self.0.lock().expect("no test panics in it") = Some(meddler);
        }
        Duration::ZERO
    }
}

/// A document is changed, removed or added.
fn change(server: &Server, random: u64) {
    let key = format!("d:{}", (random >> 8) % (DOCUMENTS as u64 * 11 / 10));
    let number = ((random >> 24) % DOCUMENTS as u64).to_string();
    match random % 5 {
        0 => _ = server.run(&[b"DEL", key.as_bytes()]),
        1 => _ = server.run(&[b"HDEL", key.as_bytes(), b"c", b"t"]),
        _ => {
            let (tag, text) = (format!("tag{number}"), format!("same words or the same {number}"));
            let fields = [("c", tag.as_bytes()), ("n", number.as_bytes()), ("t", text.as_bytes())];
            server.hset(&key, &fields);
        }
    }
}

#[test]
fn no_writer_waits_for_a_filter_which_is_true_of_the_moment_of_the_reply() {
    let clock = Arc::new(Meddling::default());
    let server: &Server = Box::leak(Box::new(loaded(clock.clone())));
    let mut state = 7u64;
    for (turn, query) in LONG_FILTERS.into_iter().cycle().take(2 * LONG_FILTERS.len()).enumerate() {
        for options in [&["LIMIT", "0", "20000"][..], &["SORTBY", "n", "LIMIT", "3", "500"]] {
            // Few changes first, then enough of them that the job looks again itself.
            let mut counts = [100; 4].into_iter().filter(move |_| turn % 2 == 0);
            clock.arm(move || {
                for _ in 0..counts.next().unwrap_or(3) {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // The search holds no lock here: otherwise this would wait for ever.
                    change(server, state >> 20);
                }
            });
            let mut words = vec!["FT.SEARCH", "idx", query, "NOCONTENT"];
            words.extend_from_slice(options);
            let words: Vec<&[u8]> = words.into_iter().map(str::as_bytes).collect();
            let mut asked = 0;
            let (reply, _) = server.run_interrupted(&words, || {
                asked = clock.disarm();
                (0..5u64).for_each(|number| change(server, number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            });
            assert!(asked > 1, "{query} has looked at the clock {asked} times");
            assert_eq!(reply, server.run(&words), "{query} {options:?}");
            state = state.wrapping_add(0x9e37_79b9);
        }
    }
}

#[test]
fn named_keys_that_change_are_looked_at_again() {
    let server = loaded(Arc::new(Ticking::never()));
    let words: [&[u8]; 9] =
        [b"FT.SEARCH", b"idx", b"@n:[5 +inf]", b"NOCONTENT", b"INKEYS", b"3", b"d:1", b"d:7", b"d:x"];
    let (reply, _) = server.run_interrupted(&words, || {
        server.hset("d:1", &[("n", b"6")]);
        server.hset("d:x", &[("n", b"6")]);
        server.hset("d:y", &[("n", b"6")]);
        server.line("DEL d:7");
    });
    assert!(reply.contains(r#""total_results": 2"#), "{reply}");
    assert_eq!(reply, server.run(&words));
}

fn near_and_far(clock: Arc<dyn Clock>) -> Server {
    let server = Server::with_clock(clock);
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC \
                  v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(server.line(create), "OK");
    for number in 0..3000 {
        server.hset(&format!("d:{number}"), &[("c", b"x"), ("v", &blob(&[number as f32, 0.0]))]);
    }
    server
}

const ALL_RANGE: &str = "@v:[VECTOR_RANGE 16 $q]=>{$yield_distance_as: d}";

#[test]
fn vector_ranges_are_found_before_the_lock_and_what_has_changed_since_is_looked_at_again() {
    let clock = Arc::new(Ticking::never());
    let server = near_and_far(clock.clone());
    let origin = blob(&[0.0, 0.0]);
    let [twice, negated] = [format!("@c:{{x}} {ALL_RANGE}"), "-@v:[VECTOR_RANGE 8000000 $q]".to_owned()];
    let among = format!("({ALL_RANGE})=>[KNN 3 @v $q]");
    for (turn, query) in [ALL_RANGE, &twice, &negated, &among].into_iter().enumerate() {
        for sorted in [false, true] {
            let mut words: Vec<&[u8]> =
                vec![b"FT.SEARCH", b"idx", query.as_bytes(), b"PARAMS", b"2", b"q", &origin];
            words.extend_from_slice(if sorted { &[b"SORTBY", b"d", b"DESC"] } else { &[] });
            if sorted && turn == 2 {
                continue;
            }
            let mut asked = 0;
            let (reply, _) = server.run_interrupted(&words, || {
                server.hset("d:1", &[("v", &blob(&[100.0 + turn as f32, 0.0]))]);
                server.hset("d:2", &[("v", &blob(&[0.5, turn as f32 / 10.0]))]);
                server.line("DEL d:3");
                // It gets the id that d:3 had.
                server.hset("d:new", &[("c", b"x"), ("v", &blob(&[0.25, turn as f32]))]);
                asked = clock.asked();
            });
            let found_in_lock = clock.asked() - asked;
            assert_eq!(reply, server.run(&words), "{query}");
            if turn < 3 {
                assert_eq!(found_in_lock, 0, "{query} was looked for under the lock");
            }
            server.hset("d:1", &[("v", &blob(&[1.0, 0.0]))]);
            server.hset("d:2", &[("v", &blob(&[2.0, 0.0]))]);
            server.line("DEL d:new");
            server.hset("d:3", &[("c", b"x"), ("v", &blob(&[3.0, 0.0]))]);
        }
    }
}

#[test]
fn neighbours_that_have_expired_are_made_up_for_at_once() {
    for (query, expire) in [
        ("*=>[KNN 5 @v $q]", "PEXPIRE d:@ 1"),
        ("@c:{x}=>[KNN 5 @v $q]", "PEXPIRE d:@ 1"),
        ("@c:{x}=>[KNN 5 @v $q]", "HPEXPIRE d:@ 1 FIELDS 1 c"),
        ("*=>[KNN 5 @v $q]", "HPEXPIRE d:@ 1 FIELDS 1 v"),
    ] {
        let clock = Arc::new(Ticking::never());
        let server = near_and_far(clock.clone());
        for number in 0..2900 {
            server.line(&expire.replace('@', &number.to_string()));
        }
        let is_there = || match expire.starts_with('H') {
            true => server.line("HLEN d:2899") == "2",
            false => server.line("EXISTS d:2899") == "1",
        };
        while is_there() {}
        // The engine's background does not run here: all stay stored.
        let words: [&[u8]; 7] = [b"FT.SEARCH", b"idx", query.as_bytes(), b"NOCONTENT", b"PARAMS", b"2", b"q"];
        let origin = blob(&[0.0, 0.0]);
        let before = clock.asked();
        let mut found = 0;
        let words = [&words[..], &[&origin]].concat();
        let (reply, _) = server.run_interrupted(&words, || found = clock.asked());
        assert_eq!(reply, r#"[5, "d:2900", "d:2901", "d:2902", "d:2903", "d:2904"]"#, "{query} {expire}");
        // Afterwards what has expired is visited in slices, each of which looks at the clock, and there is
        // another search.
        let (in_job, afterwards) = (found - before, clock.asked() - found);
        let slices = 2900 / 64 + 2900 / 128 + 10;
        assert!(afterwards <= in_job + slices, "{query} {expire}: {afterwards} looks, {in_job} before");
    }
}

#[test]
fn a_document_whose_malformed_field_has_expired_is_found_from_that_moment_on() {
    let server = near_and_far(Arc::new(Ticking::never()));
    server.hset("d:bad", &[("c", b"bad"), ("n", b"none"), ("v", &blob(&[0.25, 0.0]))]);
    server.hset("other", &[("c", b"bad"), ("n", b"none"), ("v", &blob(&[0.25, 0.0]))]);
    let origin = blob(&[0.0, 0.0]);
    let parameters: [&[u8]; 4] = [b"PARAMS", b"2", b"q", &origin];
    let queries = [
        ("@c:{bad}", &["d:bad"][..]),
        ("@v:[VECTOR_RANGE 0.0625 $q]", &["d:0", "d:bad"]),
        ("*=>[KNN 2 @v $q]", &["d:0", "d:bad"]),
        ("@c:{bad}=>[KNN 2 @v $q]", &["d:bad"]),
        ("@c:{bad} -@n:[-inf +inf]", &["d:bad"]),
    ];
    let check = |server: &Server, is_found: bool| {
        for (query, keys) in &queries {
            let found = server.keys(query, &parameters);
            assert_eq!(found.contains(&"d:bad".to_owned()), is_found, "{query}: {found:?}");
            if is_found {
                assert_eq!(found, *keys, "{query}");
            }
        }
        let total = server.line("FT.SEARCH idx * LIMIT 0 0");
        assert_eq!(total, if is_found { "[3001]" } else { "[3000]" });
    };
    check(&server, false);
    assert_eq!(server.line("HPEXPIRE d:bad 1 FIELDS 1 n"), "[1]");
    assert_eq!(server.line("HPEXPIRE other 1 FIELDS 1 n"), "[1]");
    while server.line("HEXISTS d:bad n") != "0" {}
    check(&server, true);
    let server = server.restart();
    check(&server, true);
    while server.engine.expire_due(100).expect("there is room") > 0 {}
    check(&server, true);
}

#[test]
fn what_a_filter_means_is_what_it_says_of_each_document() {
    let server = Server::with_clock(Arc::new(Ticking::never()));
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC INDEXMISSING t TEXT u TEXT \
                  v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC COSINE";
    assert_eq!(server.line(create), "OK");
    let words = ["red", "green", "blue", "bluish", "the", "red", "reddish"];
    let write = |number: usize| {
        let word = |factor: usize| words[number * factor % words.len()];
        let [tags, text] = [3, 5].map(|factor| format!("{},{} {}", word(factor), word(1), word(2)));
        let number_text = (number % 11).to_string();
        let vector = blob(&[(number % 7) as f32, 1.0]);
        let fields: [(&str, &[u8]); 5] = [
            ("c", tags.as_bytes()),
            ("t", text.as_bytes()),
            ("u", word(1).as_bytes()),
            ("v", &vector),
            ("n", number_text.as_bytes()),
        ];
        server.hset(&format!("d:{number}"), &fields[..3 + number % 3]);
    };
    (0..200).for_each(write);
    let corner = blob(&[1.0, 1.0]);
    for query in [
        "*",
        "@c:{red}",
        "@c:{red|green}",
        "@c:{blu*}",
        "@c:{*ish}",
        "@c:{*d*}",
        "@c:{w'?e*'}",
        "-@c:{red}",
        "-(@c:{red} | @t:green)",
        "@c:{red} -@t:blue ~@u:red",
        "@n:[2 5]",
        "@n:[(2 (5]",
        "-@n:[2 5]",
        "@n:[-inf 3] | @u:(blue|green)",
        "ismissing(@n)",
        "-ismissing(@n) @c:{green}",
        "red",
        "bl*",
        "\"red green\"",
        "@t:(\"green blue\")",
        "-\"red green\" -w'gr??n'",
        "@u:red @t|u:(green|bluish)",
        "@v:[VECTOR_RANGE 0.1 $q]",
        "-@v:[VECTOR_RANGE 0.1 $q] @c:{red}",
        "@v:[VECTOR_RANGE 0.1 $q] | @n:[1 1]",
    ] {
        let words: [&[u8]; 10] = [
            b"FT.SEARCH",
            b"idx",
            query.as_bytes(),
            b"NOCONTENT",
            b"LIMIT",
            b"0",
            b"1000",
            b"PARAMS",
            b"2",
            b"q",
        ];
        let words = [&words[..], &[&corner]].concat();
        // All have changed when the search ends, to what they were.
        let (one_by_one, _) = server.run_interrupted(&words, || (0..200).for_each(write));
        let together = server.run(&words);
        assert!(together.starts_with("[") && together != "[0]", "{query}: {together}");
        assert_eq!(one_by_one, together, "{query}");
    }
}
