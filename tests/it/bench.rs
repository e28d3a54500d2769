//! The benchmarks that start their own servers, with small sizes: each ends, and its report is consistent.
//!
//! Speed is not tested: figures only have to exist and to fit together.

#![allow(clippy::disallowed_methods, reason = "reads the report that the program wrote")]

use engramdb_testkit::process::{self, BadOutput, Server, TempDir, until};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs `engramdb bench`; its text, and the report that it wrote as JSON.
fn bench(name: &str, arguments: &[&str]) -> (String, Value) {
    // A directory that also receives the server's, which must be removed afterwards.
    let directory = TempDir::new("bench");
    let [json, csv, svg] =
        ["report.json", "report.csv", "report.svg"].map(|name| directory.path().join(name));
    let output = process::program()
        .args(["bench", name])
        .args(arguments)
        .args([&"--out-json".into(), &json, &"--out-csv".into(), &csv, &"--plot".into(), &svg])
        .env("TMPDIR", directory.path())
        .output()
        .expect("the binary was built");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}:\n{text}");
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text:?}");
    let [report, csv, svg] = [json, csv, svg].map(|path| {
        let bytes = std::fs::read(&path).expect("the report is there");
        std::fs::remove_file(&path).expect("it is ours");
        bytes
    });
    let csv = String::from_utf8(csv).expect("CSV is text");
    let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert!(columns.len() >= 2 && columns[0] > 2, "{csv}");
    assert!(String::from_utf8_lossy(&svg).trim_end().ends_with("</svg>"), "a picture, whole");
    let left = std::fs::read_dir(directory.path()).expect("the directory is there").count();
    assert_eq!(left, 0, "the server's directory is removed");
    (text, serde_json::from_slice(&report).expect("the report is JSON"))
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "resident memory is read from /proc")]
fn small_values_are_measured_beside_a_peer_that_is_left_empty() {
    let directory = TempDir::new("bench-peer");
    let peer = Server::start(directory.path(), &[]);
    let address = format!("127.0.0.1:{}", peer.port);
    for data in ["strings", "hashes"] {
        let arguments = ["--data", data, "--values", "20000", "--peer", &address];
        let (text, report) = bench("memory", &arguments);
        assert_eq!(
            report["footprints"].as_array().expect("a list").len(),
            2,
            "ours and the peer: {report:#}"
        );
        for server in 0..2 {
            let path = |figure: &str| format!("/footprints/{server}/{figure}");
            let [resident, info] = ["bytes_per_value", "info_bytes_per_value"].map(path);
            positive(&report, &[&resident, &info, &path("empty_bytes"), &path("ratio")]);
        }
        assert_eq!(number(&report, "/footprints/0/ratio"), 1.0);
        assert!(text.contains("EngramDB over it") && text.contains(&address), "{text}");
        let keys = peer.client().call(&["DBSIZE"]).expect("the peer answers");
        assert_eq!(keys.as_int(), Some(0), "its keys are removed again");
    }
}

#[test]
fn small_values_are_refused_where_they_cannot_be_measured() {
    let directory = TempDir::new("bench-refused-peer");
    let peer = Server::start(directory.path(), &[]);
    peer.client().call(&["SET", "foreign", "1"]).expect("the peer answers");
    let full = format!("127.0.0.1:{}", peer.port);
    for (arguments, cause) in [
        (&["--data", "strings", "--peer", &full][..], "holds 1 keys: start an empty one"),
        (&["--data", "strings", "--peer", "nowhere"], "--peer nowhere: not of the form HOST:PORT"),
        (&["--data", "strings", "--values", "0"], "--values must be at least 1"),
        (&["--data", "strings", "--values", "1000000000000"], "GB of memory"),
        (&["--data", "hashes", "--dimensions", "64"], "cannot be used with"),
        (&["--peer", &full], "--data <DATA>"),
    ] {
        let output = process::program().args(["bench", "memory"]).args(arguments).output();
        let output = output.expect("the binary was built");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(cause), "{arguments:?}: {text}");
    }
    let foreign = peer.client().call(&["GET", "foreign"]).expect("the peer answers");
    assert_eq!(foreign.as_str(), Some("1"), "what a peer holds is left alone");
}

fn number(report: &Value, path: &str) -> f64 {
    let value = report.pointer(path).and_then(Value::as_f64);
    value.unwrap_or_else(|| panic!("no number at {path} in {report:#}"))
}

fn positive(report: &Value, paths: &[&str]) {
    for path in paths {
        let value = number(report, path);
        assert!(value > 0.0 && value.is_finite(), "{value} at {path} in {report:#}");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "resident memory is read from /proc")]
fn memory_is_measured_loaded_and_restarted() {
    let (text, report) = bench("memory", &["--documents", "1000", "--dimensions", "64,96"]);
    let footprints = report["footprints"].as_array().expect("a list");
    let states: Vec<_> = footprints.iter().map(|row| (&row["dimensions"], &row["state"])).collect();
    let expected = [(64, "loaded"), (64, "restarted"), (96, "loaded"), (96, "restarted")];
    assert_eq!(states.len(), expected.len());
    for ((dimensions, state), (expected_dimensions, expected_state)) in states.into_iter().zip(expected) {
        assert_eq!((dimensions.as_u64(), state.as_str()), (Some(expected_dimensions), Some(expected_state)));
        assert!(text.contains(expected_state), "{text}");
    }
    for place in 0..footprints.len() {
        let of = |name: &str| format!("/footprints/{place}/{name}");
        positive(
            &report,
            &["empty_bytes", "info_bytes_per_document", "index_bytes_per_document", "memory_usage_bytes"]
                .map(of)
                .each_ref()
                .map(String::as_str),
        );
        let grown = number(&report, &of("resident_bytes")) - number(&report, &of("empty_bytes"));
        assert!((number(&report, &of("bytes_per_document")) - grown / 1000.0).abs() < 1.0, "{report:#}");
    }
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "resident memory is read from /proc")]
fn queries_are_measured_beside_a_peer_whose_results_are_compared() {
    let directory = TempDir::new("bench-peer");
    let peer = Server::start(directory.path(), &[]);
    let address = format!("127.0.0.1:{}", peer.port);
    let arguments = ["--documents", "2000", "--seconds", "0.05", "--dimension", "8", "--peer", &address];
    let kinds = ["--kinds", "tag,numeric,sorted,word,words,any-word,phrase,prefix,nearest"];
    let (text, report) = bench("queries", &[&arguments[..], &kinds].concat());
    let requests = report["requests"].as_array().expect("a list");
    assert_eq!(requests.len(), 2 * 9, "{text}");
    for (place, one) in requests.iter().enumerate() {
        let path = |figure: &str| format!("/requests/{place}/{figure}");
        positive(&report, &[&path("requests_per_second"), &path("latency/p99_us"), &path("ratio")]);
        let agreeing = if one["kind"] == "nearest" { None } else { Some(20) };
        assert_eq!(one["agreeing"].as_u64(), agreeing, "the same server twice: {one}");
    }
    for server in 0..2 {
        let path = |figure: &str| format!("/loadings/{server}/{figure}");
        positive(&report, &[&path("documents_per_second"), &path("bytes_per_document")]);
    }
    let mut client = peer.client();
    assert_eq!(client.call(&["DBSIZE"]).expect("the peer answers").as_int(), Some(0), "its keys are gone");
    assert_eq!(client.call(&["FT._LIST"]).expect("the peer answers").as_array().map(<[_]>::len), Some(0));
}

#[test]
fn starts_are_measured_beside_building_and_reading() {
    let (text, report) = bench("restart", &["--documents", "500", "--dimensions", "32", "--starts", "2"]);
    positive(
        &report,
        &["/build_seconds", "/rounds/1/answers", "/rounds/1/read_by_one", "/rounds/1/read_by_two"],
    );
    assert_eq!(report["rounds"].as_array().map(Vec::len), Some(2));
    assert!(number(&report, "/rounds/0/complete") >= number(&report, "/rounds/0/answers"));
    // All vectors are in the snapshot, and at least the keys in the saved index.
    assert!(number(&report, "/snapshot_bytes") >= 500.0 * 32.0 * 4.0, "{report:#}");
    assert!(number(&report, "/index_bytes") >= 500.0 * 16.0, "{report:#}");
    assert!(text.contains("500 graph nodes loaded, 0 inserted again"), "{text}");
    if cfg!(target_os = "linux") {
        let (resident, peak) =
            (number(&report, "/rounds/1/resident_bytes"), number(&report, "/rounds/1/peak_bytes"));
        assert!(peak >= resident && resident > 500.0 * 32.0 * 4.0, "{report:#}");
        assert!(text.contains("MB at its peak"), "{text}");
    }
}

const SMALL_CHURN: [&str; 12] = [
    "--documents",
    "300",
    "--dimensions",
    "16",
    "--rounds",
    "2",
    "--ef",
    "300",
    "--seconds",
    "0",
    "--quiet-seconds",
    "0",
];

/// Both states have the final documents: the rows found are compared with a scan of those alone.
fn churned_like_fresh(report: &Value) {
    for (state, stored) in [("fresh", 300.0), ("churned", 900.0)] {
        let of = |name: &str| format!("/{state}/{name}");
        assert!(number(report, &of("points/0/recall")) > 0.99, "{report:#}");
        assert_eq!(number(report, &of("stored")), stored);
        positive(report, &[&of("seconds"), &of("index_bytes"), &of("points/0/p99_us")]);
    }
    assert!(number(report, "/verdict/recall_loss").abs() < 0.01, "{report:#}");
}

#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "resident memory is read from /proc")]
fn churn_is_measured_through_servers() {
    let (text, report) = bench("churn", &SMALL_CHURN);
    assert_eq!(report["engine"], "server");
    churned_like_fresh(&report);
    for state in ["fresh", "churned"] {
        let of = |name: &str| number(&report, &format!("/{state}/{name}"));
        assert!(of("peak_bytes") >= of("resident_bytes"), "{report:#}");
        assert!(of("info_bytes") >= 300.0 * 16.0 * 4.0, "{report:#}");
    }
    assert!(text.contains("resident MB") && text.contains("recall@10, ef 300"), "{text}");
}

#[test]
fn churn_is_measured_in_process() {
    let (text, report) = bench("churn", &[&SMALL_CHURN[..], &["--engine", "library"]].concat());
    assert_eq!((&report["engine"], &report["fresh"]["resident_bytes"]), (&"library".into(), &Value::Null));
    churned_like_fresh(&report);
    assert_eq!(number(&report, "/fresh/replaced"), 0.0);
    assert!(text.contains("replaced") && !text.contains("resident MB"), "{text}");
}

#[test]
fn searches_are_timed_quiet_and_during_ingestion() {
    let small =
        ["--documents", "300", "--dimensions", "16", "--rounds", "2", "--seconds", "0.05", "--control"];
    let (text, report) = bench("ingest", &small);
    let phases = report["phases"].as_array().expect("a list");
    let loads: Vec<&str> = phases.iter().filter_map(|phase| phase["load"].as_str()).collect();
    assert_eq!(loads, ["quiet", "ingest", "elsewhere", "elsewhere", "ingest", "quiet"]);
    for phase in phases {
        assert_eq!(
            phase["documents_per_second"].as_f64() > Some(0.0),
            phase["load"] != "quiet",
            "{report:#}"
        );
        assert!(phase["searches"].as_u64() > Some(0), "{report:#}");
    }
    positive(&report, &["/ratios/1/median", "/ratios/4/median"]);
    assert!(text.contains("elsewhere"), "{text}");
}

#[test]
fn get_is_timed_beside_each_kind_of_heavy_command() {
    let small = ["--documents", "400", "--dimensions", "8", "--fields", "3000", "--value-bytes", "100000"];
    let (text, report) =
        bench("beside", &[&small[..], &["--seconds", "0.02", "--connections", "2"]].concat());
    let kinds = report["kinds"].as_array().expect("a list");
    assert_eq!(kinds[0]["kind"], "quiet");
    assert_eq!(kinds[0]["heavy_per_second"], 0.0);
    assert!(kinds.len() > 20, "{report:#}");
    for kind in kinds {
        assert!(kind["gets"].as_u64() > Some(0) && kind["p99_us"].as_f64() > Some(0.0), "{report:#}");
    }
    assert!(text.contains("sort-text"), "{text}");
}

#[test]
fn kinds_of_data_are_judged_in_this_process() {
    let arguments = ["--kinds", "plane,directions", "--rows", "300", "--queries", "20", "--ef", "10,300"];
    let (text, report) =
        bench("zoo", &[&arguments[..], &["--workload", "restart", "--documents", "20"]].concat());
    for (place, kind, dimension) in [(0, "plane", 2.0), (1, "directions", 384.0)] {
        assert_eq!(report["rows"][place]["kind"], kind);
        assert_eq!(number(&report, &format!("/rows/{place}/dimension")), dimension);
        assert_eq!(number(&report, &format!("/rows/{place}/live")), 300.0);
        for (engine, name) in [(0, "default"), (1, "NONE")] {
            let of = |name: &str| format!("/rows/{place}/engines/{engine}/{name}");
            assert_eq!(report.pointer(&of("engine")).and_then(Value::as_str), Some(name));
            positive(
                &report,
                &["recall/0/recall", "recall/1/evaluated", "itself", "filters/7/recall"]
                    .map(of)
                    .each_ref()
                    .map(String::as_str),
            );
            assert_eq!(number(&report, &of("recall/1/recall")), 1.0, "as wide as the set: {text}");
            assert_eq!(number(&report, &of("ranges/0/beyond")), 0.0);
            assert!(number(&report, &of("ranges/1/within")) >= 100.0, "{report:#}");
        }
        assert!(text.contains(kind), "{text}");
    }
    // Two dimensions have no codes: it is the same index under two names.
    assert_eq!(report["rows"][0]["engines"][0]["recall"], report["rows"][0]["engines"][1]["recall"]);
}

#[test]
fn kinds_that_do_not_exist_are_refused_by_name() {
    let output = process::program()
        .args(["bench", "zoo", "--kinds", "plane,unicorns"])
        .output()
        .expect("the binary was built");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("unknown kind 'unicorns'"), "{text}");
}

/// A run that does not end soon, with its messages captured.
fn begin(arguments: &[&str], directory: &Path) -> Child {
    process::program()
        .args(arguments)
        .env("TMPDIR", directory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary was built")
}

/// Sends SIGINT and waits for the end; returns the exit status and the output.
fn interrupt(run: Child) -> (Option<i32>, String) {
    let sent = Command::new("kill").args(["-INT", &run.id().to_string()]).status().expect("there is a kill");
    assert!(sent.success());
    let output = run.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

const INTERRUPTED: Option<i32> = Some(130);

#[test]
fn an_interrupted_run_takes_its_server_and_its_directory_with_it() {
    let directory = TempDir::new("bench-interrupted");
    let entries = || std::fs::read_dir(directory.path()).expect("the directory is there").flatten();
    let ingest = ["bench", "ingest", "--documents", "2000", "--dimensions", "16", "--seconds", "600"];
    for arguments in [&ingest[..], &["demo"]] {
        let run = begin(arguments, directory.path());
        until("the run makes no directory", || {
            entries().any(|entry| entry.path().join("server.log").exists())
        });
        let (code, text) = interrupt(run);
        assert_eq!(code, INTERRUPTED, "{text}");
        assert_eq!(entries().count(), 0, "its directory is removed: {text}");
        let pid = text.split_once("stopped the server ").expect(&text).1;
        let pid = pid.split_whitespace().next().expect("a number follows");
        assert!(!Path::new("/proc").join(pid).exists(), "its server is gone: {text}");
    }
}

#[test]
fn an_interrupted_run_removes_what_it_put_into_another_server() {
    let directory = TempDir::new("bench-foreign");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    client.call(&["SET", "mine", "1"]).expect("the server answers");
    let port = server.port.to_string();
    let vectors = ["vectors", "--dataset", "synthetic:3000:16:1", "--ef", "10", "--connections", "1"];
    let keys = ["keys", "--ops", "set,hset", "--keys", "3000", "--connections", "4"];
    for arguments in [&vectors[..], &keys] {
        let arguments = [&["bench"], arguments, &["--port", &port, "--seconds", "600"]].concat();
        let run = begin(&arguments, directory.path());
        let count =
            |client: &mut process::Client| client.call(&["DBSIZE"]).expect("the server answers").as_int();
        until("the run stores nothing", || count(&mut client) > Some(100));
        let (code, text) = interrupt(run);
        assert_eq!(code, INTERRUPTED, "{text}");
        assert_eq!(count(&mut client), Some(1), "what was there before is left alone: {text}");
        let indexes = client.call(&["FT._LIST"]).expect("the server answers");
        assert_eq!(indexes.as_array().map(<[_]>::len), Some(0), "{text}");
    }
}

#[test]
fn files_that_cannot_be_written_are_refused_before_the_run() {
    let directory = TempDir::new("bench-files");
    let missing = directory.path().join("missing/report");
    let missing = missing.to_str().expect("a path in UTF-8");
    let commands: [&[&str]; 8] = [
        &["vectors", "--dataset", "synthetic:100:8:1", "--engines", "exact"],
        &["keys"],
        &["memory"],
        &["restart"],
        &["churn"],
        &["ingest"],
        &["queries"],
        &["zoo"],
    ];
    for command in commands {
        for flag in ["--out-json", "--out-csv", "--plot"] {
            let output = process::program()
                .arg("bench")
                .args(command)
                .args([flag, missing])
                .env("TMPDIR", directory.path())
                .output()
                .expect("the binary was built");
            let text = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && text.contains("cannot write"), "{command:?} {flag}: {text}");
            assert_eq!(output.stdout, b"", "{command:?} {flag}: nothing was begun");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0);
}

#[test]
fn the_data_set_of_the_repository_is_found_from_anywhere() {
    let directory = TempDir::new("bench-anywhere");
    let output = process::program()
        .args(["bench", "dataset"])
        .current_dir(directory.path())
        .output()
        .expect("the binary was built");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("rustdoc-minilm-10k"), "{text}");
}

#[test]
fn what_memory_cannot_hold_is_refused_instead_of_being_killed() {
    for command in [
        &["vectors", "--dataset", "synthetic:10000000000:384:1"][..],
        &["ingest", "--documents", "10000000000"],
        &["keys", "--value-size", "100000000000000"],
    ] {
        let output = process::program().arg("bench").args(command).output().expect("the binary was built");
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {text}");
        assert!(text.contains("GB of memory") && text.contains("are available"), "{command:?}: {text}");
    }
}

#[test]
fn the_demo_ends_by_saying_what_to_do_next() {
    let directory = TempDir::new("bench-demo");
    let output = process::program()
        .args(["demo", "--limit", "1500", "--limit-queries", "30"])
        .current_dir(directory.path())
        .env("TMPDIR", directory.path())
        .output()
        .expect("the binary was built");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains('\u{1b}'), "colours are for terminals: {text:?}");
    let (_, next) = text.split_once("What next\n").expect(&text);
    assert!(next.contains("serve --dir ./engramdb-data") && next.contains("bench vectors"), "{next}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0);
}

/// A set in the layout of vector-db-benchmark: 200 rows, and queries under tags and numbers.
fn filtered_set(directory: &Path) {
    let made = process::program()
        .args(["bench", "dataset", "--dataset", "synthetic:200:8:1", "--write"])
        .arg(directory)
        .output()
        .expect("the binary was built");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::remove_file(directory.join("manifest.toml")).expect("it was written");
    std::fs::rename(directory.join("base.npy"), directory.join("vectors.npy")).expect("it was written");
    let payload = |row: usize| {
        let kinds = ["a b", "c-d", "ä;|"];
        let kind = &kinds[..=row % 3];
        let (longitude, latitude) = (row as f64 / 10.0 - 5.0, 50.0 + (row % 7) as f64);
        serde_json::json!({"kind": kind, "size": row, "at": {"lon": longitude, "lat": latitude}, "text": "no"})
    };
    let payloads: String = (0..200).map(|row| payload(row).to_string() + "\n").collect();
    std::fs::write(directory.join("payloads.jsonl"), payloads).expect("it can be written");
    let conditions = [
        serde_json::json!({"and": [{"kind": {"match": {"value": "c-d"}}}]}),
        serde_json::json!({"and": [{"kind": {"match_any": {"any": ["ä;|", "none"]}}}, {"size": {"range": {"gte": 20, "lt": 90}}}]}),
        serde_json::json!({"or": [{"size": {"match": {"value": 7}}}, {"size": {"range": {"gt": 150, "lte": 170}}}]}),
        serde_json::json!({}),
    ];
    let query = |number: usize| -> Vec<f64> {
        (0..8).map(|place| ((number * 31 + place * 17) % 23) as f64 - 11.0).collect()
    };
    let line = |number: usize| {
        let conditions = &conditions[number % conditions.len()];
        serde_json::json!({"query": query(number), "conditions": conditions, "closest_ids": [], "closest_scores": []})
    };
    let tests: String = (0..20).map(|number| line(number).to_string() + "\n").collect();
    std::fs::write(directory.join("tests.jsonl"), tests).expect("it can be written");
}

#[test]
fn queries_with_conditions_of_their_own_are_answered_and_fields_returned() {
    let directory = TempDir::new("bench-filtered");
    let (data, set) = (directory.path().join("data"), directory.path().join("set"));
    std::fs::create_dir_all(&data).expect("it can be made");
    filtered_set(&set);
    let server = Server::start(&data, &[]);
    let (port, set) = (server.port.to_string(), set.to_str().expect("a path in UTF-8"));
    let arguments =
        ["--port", &port, "--dataset", set, "--index", "flat", "--engines", "server,exact,library"];
    let rest = ["--seconds", "0.2", "--connections", "2", "--reply", "fields", "--payload-size", "100"];
    let (text, report) = bench("vectors", &[&arguments[..], &rest].concat());
    let searches = report["searches"].as_array().expect("a list");
    assert_eq!(searches.len(), 3, "one point for each engine");
    for search in searches {
        assert_eq!((&search["recall"], &search["filter"]), (&1.0.into(), &"own".into()), "{text}");
    }
    assert_eq!(report["payload_size"], 100);
    if cfg!(target_os = "linux") {
        // The server is found by the process id that it reports.
        assert!(searches[0]["cpu_us_per_query"].is_number() && searches[0]["busy"].is_number(), "{text}");
        assert!(searches[1]["tool_cpu_us_per_query"].is_null(), "a scan is the tool itself");
    }
    assert_eq!(server.client().call(&["DBSIZE"]).expect("the server answers").as_int(), Some(0));
}

#[test]
fn an_index_of_another_metric_is_noticed() {
    let directory = TempDir::new("bench-metric");
    let server = Server::start(directory.path(), &[]);
    let port = server.port.to_string();
    let run = |rest: &[&str]| {
        let common = ["bench", "vectors", "--port", &port, "--dataset", "synthetic:200:8:1", "--keep"];
        let points = ["--seconds", "0", "--connections", "1", "--ef", "10"];
        let output = process::program()
            .args([&common[..], &points, rest].concat())
            .output()
            .expect("the binary was built");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (succeeded, text) = run(&[]);
    assert!(succeeded, "{text}");
    let (succeeded, text) = run(&["--skip-load"]);
    assert!(succeeded, "{text}");
    let (succeeded, text) = run(&["--skip-load", "--metric", "l2"]);
    assert!(!succeeded && text.contains("8 dimensions under COSINE, the data set has 8 under L2"), "{text}");
}

/// Results are in the files, whether or not the text output is read.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs /dev/full")]
fn results_reach_their_files_when_the_output_fails() {
    let directory = TempDir::new("bench-output");
    let json = directory.path().join("report.json");
    for output in [BadOutput::Closed, BadOutput::Full] {
        let mut command = process::program();
        command.args(["bench", "vectors", "--dataset", "synthetic:200:8:1", "--engines", "exact"]);
        command
            .args(["--seconds", "0", "--connections", "1", "--out-json"])
            .arg(&json)
            .env("TMPDIR", directory.path());
        assert_eq!(output.run(&mut command), output.outcome(), "{output:?}");
        let report: Value =
            serde_json::from_slice(&std::fs::read(&json).expect("it was written")).expect("whole");
        assert_eq!(report["searches"].as_array().map(Vec::len), Some(1), "{report:#}");
        std::fs::remove_file(&json).expect("it is ours");
    }
}

/// Without files the run has no purpose: it ends, and its server and directory are removed.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "needs /dev/full")]
fn a_run_whose_output_fails_ends_and_cleans_up() {
    let directory = TempDir::new("bench-output");
    for arguments in [&["demo", "--limit", "500"][..], &["bench", "memory"], &["bench", "dataset"]] {
        for output in [BadOutput::Closed, BadOutput::Full] {
            let mut command = process::program();
            command.args(arguments).current_dir(directory.path()).env("TMPDIR", directory.path());
            assert_eq!(output.run(&mut command), output.outcome(), "{arguments:?} {output:?}");
            let left = std::fs::read_dir(directory.path()).expect("it is there").count();
            assert_eq!(left, 0, "{arguments:?} {output:?}");
        }
    }
}
