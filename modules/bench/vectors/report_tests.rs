//! The forms of a report agree.

use super::*;
use crate::data::synthetic;
use crate::vectors::filter::{Attributes, RowFilter};

fn report() -> VectorsReport {
    let filters: Vec<RowFilter> = vec!["tag:random:10".parse().unwrap()];
    let dataset = synthetic::generate(20, 4, 1);
    let task = Task {
        attributes: Attributes::for_filters(&dataset, &filters),
        dataset,
        index: IndexKind::Hnsw,
        m: 16,
        ef_construction: 200,
        quantization: None,
        k: 10,
        filters,
    };
    let mut report = VectorsReport::new(&task, RowReply::Keys, 0);
    report.loads.push(LoadReport {
        engine: "server".into(),
        rows: 20,
        load_seconds: 2.0,
        rows_per_second: 10.0,
        ready_seconds: 2.5,
        cpu_seconds: None,
    });
    let latency = Percentiles {
        mean_us: 80.0,
        p50_us: 75.2,
        p95_us: 120.0,
        p99_us: 140.0,
        p999_us: 900.0,
        max_us: 1000.0,
    };
    let point = |ef, recall, rate, filter: Option<&str>| SearchReport {
        engine: "server".into(),
        filter: filter.map(Into::into),
        ef,
        connections: 8,
        k: 10,
        recall_asked: None,
        recall,
        recall_p5: recall,
        evaluated: Some(500.0),
        queries_per_second: rate,
        latency,
        searches: 1000,
        cpu_us_per_query: Some(42.0),
        tool_cpu_us_per_query: Some(8.0),
        busy: Some(0.95),
        others: None,
    };
    report.searches = vec![
        point(Some(100), 0.99, 5_000.0, None),
        point(Some(10), 0.91, 9_000.0, None),
        point(None, 1.0, 100.0, Some("tag:random:10")),
    ];
    report
}

#[test]
fn the_table_lines_up() {
    let text = report().search_table().render();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "a heading, a rule and three points");
    assert!(lines.iter().all(|line| line.len() == lines[0].len()), "{text}");
    assert!(lines[0].contains("recall@10") && lines[4].contains("tag:random:10"), "{text}");
    assert!(lines[2].contains("0.9900") && lines[2].contains("5000"), "{text}");
}

#[test]
fn csv_has_one_field_for_each_heading() {
    let csv = report().csv().render_csv();
    let counts: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(counts, [30; 4]);
    assert!(
        csv.contains(",hnsw,16,200,,100,8,10,0.99000,5000.0,80.0,75.2,120.0,140.0,900.0,1000.0,1000,42.0,,0.990,500.0,keys,0,8.0,0.950,\n"),
        "{csv}"
    );
}

#[test]
fn json_holds_what_the_table_shows() {
    let json = serde_json::to_value(report()).unwrap();
    assert_eq!(json["tool"], "engramdb bench vectors");
    assert_eq!(json["dataset"]["metric"], "cosine");
    assert_eq!(json["searches"][0]["p999_us"], 900.0);
    assert_eq!(json["searches"][2]["ef"], serde_json::Value::Null);
    assert_eq!(json["loads"][0]["ready_seconds"], 2.5);
}

#[test]
fn the_plot_draws_each_line_once_in_the_order_of_recall() {
    let report = report();
    let lines = report.lines();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0].1, [(0.91, 9_000.0), (0.99, 5_000.0)]);
    let svg = crate::plot::svg(&report.charts()).unwrap();
    assert!(svg.contains("server, tag:random:10, 8 connections") && svg.contains("queries per second"));
}
