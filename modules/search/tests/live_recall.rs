//! Live recall: it equals the recall of the answered searches, it is reported when it is low, and its cost is
//! limited. The clock is stopped until a test moves it, so that no sample is dropped because of the budget.

#[path = "it/harness/mod.rs"]
mod harness;

use engramdb_engine::env::Clock;
use harness::{Server, blob};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tracing::field::{Field, Visit};
use tracing::span;

const DIMENSION: usize = 70;
const ROWS: u32 = 3_000;

/// A clock that a test moves. The processor time of threads is zero.
#[derive(Default)]
struct Moved(AtomicU64);

impl Moved {
    fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for Moved {
    fn wall_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn thread_cpu(&self) -> Duration {
        Duration::ZERO
    }
}

/// As `Moved`, but each reading of a thread's processor time adds a millisecond to it.
#[derive(Default)]
struct Busy {
    time: Moved,
    asked: AtomicU64,
}

impl Clock for Busy {
    fn wall_ms(&self) -> u64 {
        self.time.wall_ms()
    }

    fn monotonic(&self) -> Duration {
        self.time.monotonic()
    }

    fn thread_cpu(&self) -> Duration {
        Duration::from_millis(self.asked.fetch_add(1, Ordering::Relaxed))
    }
}

/// The lines of the log.
struct Log;

fn log() -> &'static Mutex<Vec<String>> {
    static LINES: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    LINES.get_or_init(|| {
        // A subscriber of the test's thread would not get the lines of the audit's thread.
        tracing::subscriber::set_global_default(Log).expect("set once");
        Mutex::default()
    })
}

/// The lines so far about an index.
fn log_of(index: &str) -> Vec<String> {
    let lines = log().lock().expect("no test panics while it holds it");
    lines.iter().filter(|line| line.contains(&format!("index {index}, "))).cloned().collect()
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Message(String);
        impl Visit for Message {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                if field.name() == "message" {
                    self.0 += &format!("{value:?}");
                }
            }
        }
        let mut message = Message(format!("{} ", event.metadata().level()));
        event.record(&mut message);
        log().lock().expect("no test panics while it holds it").push(message.0);
    }
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}

/// Components of a roughly normal distribution around a mean, determined by the number.
fn normal_at(number: u32, dimension: usize, mean: f32) -> Vec<f32> {
    let mut state = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5851_F42D_4C95_7F2D;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..dimension).map(|_| mean + (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
}

fn normal(number: u32) -> Vec<f32> {
    normal_at(number, DIMENSION, 0.0)
}

/// The same rows in a graph and in a flat index.
fn loaded(clock: Arc<dyn Clock>, graph: &str) -> Server {
    let server = Server::with_clock(clock);
    let tail = "TYPE FLOAT32 DIM 70 DISTANCE_METRIC L2";
    let create = |name: &str, algorithm: &str, words: &str| {
        let create = format!("FT.CREATE {name} PREFIX 1 d: SCHEMA v VECTOR {algorithm} {words}");
        assert_eq!(server.line(&create), "OK");
    };
    create(graph, "HNSW", &format!("8 {tail} EF_RUNTIME 10"));
    create("flat", "FLAT", &format!("6 {tail}"));
    for number in 0..ROWS {
        server.hset(&format!("d:{number}"), &[("v", &blob(&normal(number)))]);
    }
    while !server.line(&format!("FT.INFO {graph}")).contains(r#""pending_mutations", 0"#) {}
    assert_eq!(server.line("FT.CONFIG SET LIVE_RECALL_EVERY 1"), "OK");
    server
}

/// The keys of the ten nearest.
fn search(server: &Server, index: &str, number: u32, attributes: &str) -> Vec<String> {
    search_for(server, index, &normal(1_000_000 + number), attributes)
}

fn search_for(server: &Server, index: &str, query: &[f32], attributes: &str) -> Vec<String> {
    let query = blob(query);
    let ask = format!("*=>[KNN 10 @v $q {attributes}]");
    let words: [&[u8]; 7] =
        [b"FT.SEARCH", index.as_bytes(), ask.as_bytes(), b"NOCONTENT", b"PARAMS", b"2", b"q"];
    let reply = server.run(&[&words[..], &[&query]].concat());
    reply.trim_matches(['[', ']']).split(", ").skip(1).map(str::to_owned).collect()
}

/// A number of FT.INFO's `live_recall`.
fn live(server: &Server, index: &str, name: &str) -> String {
    let info = server.line(&format!("FT.INFO {index}"));
    let (_, live) = info.split_once(r#""live_recall", [["#).expect("the index has a graph");
    let (_, value) = live.split_once(&format!(r#""{name}", "#)).expect("a pair of it");
    value.split([',', ']']).next().expect("a value").trim_matches('"').to_owned()
}

fn count(server: &Server, index: &str, name: &str) -> u64 {
    live(server, index, name).parse().expect("a number")
}

/// Searches, and waits until the sample was audited or dropped, and a requested repair is done.
fn search_audited(server: &Server, index: &str, number: u32, attributes: &str) -> Vec<String> {
    let found = search(server, index, number, attributes);
    assert_eq!(server.line("TEST.AUDITED"), "OK");
    found
}

#[test]
fn the_figure_is_the_recall_of_the_searches() {
    let server = loaded(Arc::new(Moved::default()), "figure");
    assert_eq!(live(&server, "figure", "recall"), "N/A");
    let mut found = 0;
    for number in 0..200 {
        let exact = search(&server, "flat", number, "");
        let rows = search_audited(&server, "figure", number, "");
        found += rows.iter().filter(|row| exact.contains(row)).count();
    }
    let recall = found as f64 / 2_000.0;
    assert!((0.3..0.95).contains(&recall), "a recall that says something: {recall}");
    let figure: f64 = live(&server, "figure", "recall").parse().expect("a number");
    assert!((figure - recall).abs() <= 0.002, "{figure} is not {recall}");
    assert_eq!(count(&server, "figure", "samples"), 200);
    assert_eq!(count(&server, "figure", "rows_wanted"), 2_000);
    let section = server.line("TEST.INFO");
    let line = format!("db=0,index=figure,field=v,recall={figure:.4},samples=200,");
    assert!(section.contains(&line), "{section}");
    server.line("FT.CONFIG SET LIVE_RECALL_EVERY 0");
    let query = blob(&normal(7));
    let words = "FT.PROFILE figure SEARCH QUERY '*=>[KNN 10 @v $q]' PARAMS 2 q";
    let profile = server.line_with(words, &[&query]);
    assert!(
        profile.contains(&format!(r#""Live recall", "{figure}", "Live recall samples", 200"#)),
        "{profile}"
    );
}

#[test]
fn a_low_recall_is_warned_of_with_its_cause_until_it_is_higher() {
    let clock = Arc::new(Moved::default());
    log();
    let server = loaded(clock.clone(), "low");
    (0..50).for_each(|number| _ = search_audited(&server, "low", number, ""));
    assert_eq!(live(&server, "low", "warning"), "beam");
    assert!(server.line("TEST.INFO").contains("search_live_recall_warnings:1"));
    let lines = log_of("low");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("WARN index low, field v: live recall is 0."), "{lines:?}");
    assert!(
        lines[0]
            .ends_with("below 0.9: the beam is too narrow for these data, a larger EF_RUNTIME finds more")
    );
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(live(&server, "low", "recall"), "N/A", "an hour later nothing is known");
    (0..50).for_each(|number| _ = search_audited(&server, "low", number, "EF_RUNTIME 600"));
    assert_eq!(live(&server, "low", "warning"), "none");
    assert!(server.line("TEST.INFO").contains("search_live_recall_warnings:0"));
    let lines = log_of("low");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[1].starts_with("INFO index low, field v: live recall is "), "{lines:?}");
}

#[test]
fn what_is_beyond_the_budget_is_dropped() {
    let clock = Arc::new(Busy::default());
    let server = loaded(clock.clone(), "busy");
    (0..50).for_each(|number| _ = search_audited(&server, "busy", number, ""));
    let counts = || (count(&server, "busy", "samples"), count(&server, "busy", "samples_dropped"));
    assert_eq!(counts(), (1, 49), "an audit owes its time");
    // It took a millisecond, which the budget has again after 100 ms.
    clock.time.advance(Duration::from_millis(100));
    (50..52).for_each(|number| _ = search_audited(&server, "busy", number, ""));
    assert_eq!(counts(), (2, 50));
    assert!(server.line("TEST.INFO").contains("search_live_recall_cpu_ms:2 "));
}

#[test]
fn searches_that_say_nothing_about_the_graph_are_no_samples() {
    let server = loaded(Arc::new(Moved::default()), "none");
    search(&server, "flat", 1, "");
    server.line("FT.CONFIG SET LIVE_RECALL_EVERY 0");
    (0..20).for_each(|number| _ = search(&server, "none", number, ""));
    server.line("FT.CONFIG SET LIVE_RECALL_EVERY 1");
    // An index with this few documents is scanned.
    let query = blob(&normal(7));
    for _ in 0..20 {
        server.line_with("FT.SEARCH none '*=>[KNN 10 @v $q]' INKEYS 2 d:1 d:2 PARAMS 2 q", &[&query]);
    }
    search_audited(&server, "none", 1, "");
    assert_eq!(count(&server, "none", "samples"), 1);
    assert!(!server.line("FT.INFO flat").contains("samples"));
}

#[test]
fn settings_are_numbers_within_bounds() {
    let server = Server::new();
    let set = |words: &str| server.line(&format!("FT.CONFIG SET {words}"));
    assert_eq!(server.line("FT.CONFIG GET LIVE_RECALL_EVERY"), r#"[[LIVE_RECALL_EVERY, "1000"]]"#);
    assert_eq!(server.line("FT.CONFIG GET live-recall-bound"), r#"[[LIVE_RECALL_BOUND, "0.9"]]"#);
    for [name, good, outside, unreadable] in [
        ["LIVE_RECALL_EVERY", "0 1 1000000000", "-1 1000000001", "x 1.5"],
        ["LIVE_RECALL_BOUND", "0 0.95 1", "-0.1 1.1", "nan x"],
    ] {
        for value in good.split(' ') {
            assert_eq!(set(&format!("{name} {value}")), "OK");
            let told = server.line(&format!("FT.CONFIG GET {name}"));
            assert_eq!(told, format!(r#"[[{name}, "{value}"]]"#));
        }
        for value in outside.split(' ') {
            assert_eq!(set(&format!("{name} {value}")), "Value is outside acceptable bounds");
        }
        for value in unreadable.split(' ') {
            let error = "Could not convert argument to expected type";
            assert_eq!(set(&format!("{name} {value}")), error);
        }
    }
}

#[test]
fn codes_that_data_have_left_behind_are_warned_of_and_made_anew() {
    const DIMENSION: usize = 128;
    log();
    let server = Server::with_clock(Arc::new(Moved::default()));
    let tail = "TYPE FLOAT32 DIM 128 DISTANCE_METRIC L2";
    for (name, words) in [("moved", format!("HNSW 6 {tail}")), ("flat", format!("FLAT 6 {tail}"))] {
        assert_eq!(server.line(&format!("FT.CREATE {name} PREFIX 1 d: SCHEMA v VECTOR {words}")), "OK");
    }
    for number in 0..9_000 {
        let mean = if number < 1_000 { 0.0 } else { 20.0 };
        server.hset(&format!("d:{number}"), &[("v", &blob(&normal_at(number, DIMENSION, mean)))]);
    }
    while !server.line("FT.INFO moved").contains(r#""pending_mutations", 0"#) {}
    assert_eq!(server.line("FT.CONFIG SET LIVE_RECALL_EVERY 1"), "OK");
    let recall = |count: u32| {
        let mut found = 0;
        for number in 0..count {
            let query = normal_at(1_000_000 + number, DIMENSION, 20.0);
            let exact = search_for(&server, "flat", &query, "");
            let rows = search_for(&server, "moved", &query, "");
            assert_eq!(server.line("TEST.AUDITED"), "OK");
            found += rows.iter().filter(|row| exact.contains(row)).count();
        }
        found as f64 / f64::from(10 * count)
    };
    let before = recall(10);
    assert_eq!(count(&server, "moved", "repairs"), 1);
    let lines = log_of("moved");
    assert_eq!(lines.len(), 2, "{lines:?}");
    let warning =
        "WARN index moved, field v: 10 of 10 searches found the codes too coarse and compared vectors";
    assert!(lines[0].starts_with(warning), "{lines:?}");
    assert!(lines[1].starts_with("INFO index moved, field v: recomputed the codes"), "{lines:?}");
    assert_eq!(live(&server, "moved", "recall"), "N/A", "older samples say nothing about the new codes");
    let after = recall(100);
    let figure: f64 = live(&server, "moved", "recall").parse().expect("a number");
    assert!((figure - after).abs() <= 0.02, "{figure} is not {after}");
    assert!(before > 0.88, "searches that could not rely on the codes were right all the same: {before}");
    assert!(after > 0.88, "{before} before, {after} after");
    let coarse = count(&server, "moved", "samples_codes_too_coarse");
    assert!(coarse < 10, "they rely on them again: {coarse}");
    assert_eq!(live(&server, "moved", "warning"), "none");
}
