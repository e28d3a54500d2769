//! The report of `bench queries`.

use std::fmt;

use serde::Serialize;

use super::documents::ItemForm;
use super::kinds::RequestKind;
use super::{COMPARED_REQUESTS, QueriesArgs};
use crate::latency::{Latencies, P50, P99, Percentiles};
use crate::output::{Exported, Origin, TextTable, cell, optional};
use crate::plot::{Chart, ChartContent};

#[derive(Serialize)]
pub struct Report {
    #[serde(flatten)]
    origin: Origin,
    documents: u64,
    form: ItemForm,
    dimension: usize,
    connections: usize,
    pipeline: u32,
    seconds: f64,
    rounds: usize,
    seed: u64,
    pub loadings: Vec<LoadCost>,
    requests: Vec<Measurement>,
}

/// What it took a server to index the documents.
#[derive(Clone, Debug, Serialize)]
pub struct LoadCost {
    pub server: String,
    pub seconds: f64,
    pub documents_per_second: f64,
    pub cpu_us_per_document: Option<f64>,
    pub bytes_per_document: f64,
}

/// Requests of one kind to one server.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    kind: RequestKind,
    server: String,
    /// The server's error, if it does not know such requests; then there are no figures.
    pub refused: Option<String>,
    /// Of the compared requests, how many have the number of results that the first server found.
    pub agreeing: Option<u64>,
    requests_per_second: f64,
    cpu_us_per_request: Option<f64>,
    latency: Percentiles,
    /// The first server's requests per second over these.
    ratio: Option<f64>,
}

impl Measurement {
    pub fn new(kind: RequestKind, server: &str) -> Self {
        Self {
            kind,
            server: server.to_owned(),
            refused: None,
            agreeing: None,
            requests_per_second: 0.0,
            cpu_us_per_request: None,
            latency: Percentiles::default(),
            ratio: None,
        }
    }

    /// Takes the figures of a round if it is the fastest so far.
    pub fn take(&mut self, latencies: &Latencies, seconds: f64, cpu_seconds: Option<f64>) {
        let count = latencies.count() as f64;
        if count / seconds > self.requests_per_second {
            self.requests_per_second = count / seconds;
            self.cpu_us_per_request = cpu_seconds.map(|cpu| cpu * 1e6 / count);
            self.latency = latencies.percentiles();
        }
    }
}

impl Report {
    pub fn new(origin: Origin, arguments: &QueriesArgs) -> Self {
        Self {
            origin,
            documents: arguments.documents,
            form: arguments.form,
            dimension: arguments.dimension,
            connections: arguments.connections,
            pipeline: arguments.pipeline,
            seconds: arguments.seconds,
            rounds: arguments.rounds,
            seed: arguments.seed,
            loadings: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// Adds what was measured of one kind; the first server is EngramDB.
    pub fn add(&mut self, measured: Vec<Measurement>) {
        let own = measured.first().filter(|own| own.refused.is_none()).map(|own| own.requests_per_second);
        let with_ratio = |one: Measurement| {
            let ratio = own.filter(|_| one.refused.is_none()).map(|own| own / one.requests_per_second);
            Measurement { ratio, ..one }
        };
        self.requests.extend(measured.into_iter().map(with_ratio));
    }

    /// The table of indexing.
    pub fn loads(&self) -> TextTable {
        let mut table = TextTable::new(&["server", "load s", "documents/s", "CPU us/document", "B/document"]);
        for loading in &self.loadings {
            table.row([
                loading.server.clone(),
                format!("{:.1}", loading.seconds),
                format!("{:.0}", loading.documents_per_second),
                optional(loading.cpu_us_per_document, 1),
                format!("{:.0}", loading.bytes_per_document),
            ]);
        }
        table
    }

    /// The table of requests.
    pub fn table(&self) -> TextTable {
        let headings =
            ["request", "server", "1/s", "p50 us", "p99 us", "CPU us", "EngramDB over it", "agrees"];
        let mut table = TextTable::new(&headings);
        for one in &self.requests {
            let figure = |value: f64| match one.refused {
                Some(_) => "-".to_owned(),
                None => format!("{value:.0}"),
            };
            let agrees = one.agreeing.map(|agreeing| format!("{agreeing}/{COMPARED_REQUESTS}"));
            table.row([
                one.kind.name(),
                one.server.clone(),
                figure(one.requests_per_second),
                figure(P50.1(&one.latency)),
                figure(P99.1(&one.latency)),
                optional(one.cpu_us_per_request, 1),
                optional(one.ratio, 2),
                if one.refused.is_some() {
                    "refused".to_owned()
                } else {
                    agrees.unwrap_or_else(|| "-".to_owned())
                },
            ]);
        }
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, documents, dimension, connections, pipeline, seconds, rounds, seed, .. } = self;
        let form = match self.form {
            ItemForm::Hash => "hashes",
            ItemForm::Json => "JSON documents",
        };
        writeln!(formatter, "{}", origin.machine)?;
        write!(formatter, "{documents} {form} of seed {seed}, vectors of {dimension} dimensions, ")?;
        write!(formatter, "{connections} connections, pipelines of {pipeline}, ")?;
        write!(formatter, "{seconds} s for each kind, {rounds} rounds")
    }
}

impl Exported for Report {
    fn csv(&self) -> TextTable {
        let groups = [
            &["request", "server", "requests_per_second"][..],
            &Percentiles::CSV_HEADINGS,
            &["cpu_us_per_request", "ratio", "agreeing", "refused"],
        ];
        let mut table = TextTable::of_groups(&groups);
        for one in &self.requests {
            table.row_of_groups(&[
                &[one.kind.name(), one.server.clone(), format!("{:.1}", one.requests_per_second)],
                &one.latency.csv_cells(),
                &[
                    cell(one.cpu_us_per_request, 2),
                    cell(one.ratio, 4),
                    one.agreeing.map(|agreeing| agreeing.to_string()).unwrap_or_default(),
                    one.refused.clone().unwrap_or_default(),
                ],
            ]);
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let mut kinds: Vec<RequestKind> = self.requests.iter().map(|one| one.kind).collect();
        kinds.dedup();
        let rate = |server: &str, kind: RequestKind| {
            let mut of = self.requests.iter().filter(|one| one.server == server && one.kind == kind);
            of.next().filter(|one| one.refused.is_none()).map(|one| one.requests_per_second)
        };
        let series = self.loadings.iter().map(|loading| {
            let rates = kinds.iter().map(|&kind| rate(&loading.server, kind)).collect();
            (loading.server.clone(), rates)
        });
        vec![Chart {
            title: format!("requests per second over {} documents", self.documents),
            y_label: "requests per second".into(),
            y_log: true,
            content: ChartContent::Bars {
                categories: kinds.iter().map(|kind| kind.name()).collect(),
                series: series.collect(),
            },
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_fastest_round_counts_and_a_refusal_has_no_figures() {
        let mut report = Report::new(Origin::of("bench queries"), &crate::parse_arguments(&[]));
        let mut own = Measurement::new(RequestKind::Tag, "ours");
        for count in [10, 30, 20] {
            let mut latencies = Latencies::new();
            latencies.record_many(Duration::from_micros(5), count);
            own.take(&latencies, 1.0, Some(0.3));
        }
        own.agreeing = Some(COMPARED_REQUESTS);
        let mut slow = Measurement::new(RequestKind::Tag, "slow");
        let mut latencies = Latencies::new();
        latencies.record_many(Duration::from_micros(5), 20);
        slow.take(&latencies, 2.0, None);
        slow.agreeing = Some(3);
        let refusing =
            Measurement { refused: Some("unknown".into()), ..Measurement::new(RequestKind::Tag, "old") };
        report.add(vec![own, slow, refusing]);
        let text = report.table().render();
        let row = |name: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.contains(name)).expect("a row");
            line.split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(row("ours")[2..], ["30", "5", "5", "10000.0", "1.00", "20/20"], "{text}");
        assert_eq!(row("slow")[2..], ["10", "5", "5", "-", "3.00", "3/20"], "{text}");
        assert_eq!(row("old")[2..], ["-", "-", "-", "-", "-", "refused"], "{text}");
    }
}
