//! The benchmarks that start servers of their own, small: each ends, and its report adds up.
//!
//! Nothing here is about speed: figures are only required to be there and to fit each other.

#![allow(clippy::disallowed_methods, reason = "reads the report that the program wrote")]

mod support;

use serde_json::Value;
use support::TempDir;

/// Runs `engramdb bench`; its text, and the report that it wrote as JSON.
fn bench(name: &str, arguments: &[&str]) -> (String, Value) {
    // A directory for its server too, which must be gone afterwards.
    let directory = TempDir::new("bench");
    let json = directory.path().join("report.json");
    let output = support::program()
        .args(["bench", name])
        .args(arguments)
        .arg("--out-json")
        .arg(&json)
        .env("TMPDIR", directory.path())
        .output()
        .expect("the binary was built");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}:\n{text}");
    let report = std::fs::read(&json).expect("the report is there");
    std::fs::remove_file(&json).expect("it is ours");
    let left = std::fs::read_dir(directory.path()).expect("the directory is there").count();
    assert_eq!(left, 0, "the server's directory is removed");
    (text, serde_json::from_slice(&report).expect("the report is JSON"))
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

/// Both states hold the final documents: what is found is compared with a scan of those alone.
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
    // Two dimensions have no codes: it is one index by two names.
    assert_eq!(report["rows"][0]["engines"][0]["recall"], report["rows"][0]["engines"][1]["recall"]);
}

#[test]
fn kinds_that_do_not_exist_are_refused_by_name() {
    let output = support::program()
        .args(["bench", "zoo", "--kinds", "plane,unicorns"])
        .output()
        .expect("the binary was built");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("there is no kind 'unicorns'"), "{text}");
}
