//! The tables of a run, and the list of figures in which an index finds less than another, or less than
//! exists.

use std::fmt::Write;

use clap::ValueEnum;
use serde::Serialize;

use super::ZooArgs;
use super::measure::{Figures, Range, filtered, recall_at};
use super::options::{Asked, ZooElement, ZooQuantization, ZooWorkload};
use super::subject::PERCENTS;
use crate::data::DatasetMetric;
use crate::output::{Exported, Origin, TextTable, cell, optional};
use crate::plot::{Chart, ChartContent};
use crate::vectors::filter::Placement;

/// A recall with codes that is lower than that without by more than this, from `CODED_EF` on, is listed.
const CODES_COST: f64 = 0.01;
const CODED_EF: usize = 100;
/// A range with a lower recall is listed.
const RANGE_RECALL: f64 = 0.999;

/// All results of a run, in the form of its JSON.
#[derive(Serialize)]
pub struct ZooReport {
    #[serde(flatten)]
    origin: Origin,
    seed: u64,
    m: usize,
    ef_construction: usize,
    k: usize,
    asked: Asked,
    element: ZooElement,
    workload: ZooWorkload,
    rows: Vec<ZooRow>,
    /// One line for each figure that is lower than another engine's, or than the number of existing rows.
    lower: Vec<String>,
    #[serde(skip)]
    efs: Vec<usize>,
}

/// A kind of data under a metric.
#[derive(Serialize)]
pub struct ZooRow {
    pub kind: String,
    pub metric: DatasetMetric,
    pub rows: usize,
    pub live: usize,
    pub dimension: usize,
    pub queries: usize,
    /// Our engines in the order of `--quantization`, then hnswlib if requested.
    pub engines: Vec<Figures>,
}

impl ZooReport {
    pub fn new(arguments: &ZooArgs) -> Self {
        Self {
            origin: Origin::of("bench zoo"),
            seed: arguments.seed,
            m: arguments.m,
            ef_construction: arguments.ef_construction,
            k: arguments.k,
            asked: arguments.asked,
            element: arguments.element,
            workload: arguments.workload,
            rows: Vec::new(),
            lower: Vec::new(),
            efs: arguments.ef.clone(),
        }
    }

    pub fn add(&mut self, row: ZooRow) {
        self.lower.extend(row.lower());
        self.rows.push(row);
    }

    pub fn render(&self) -> String {
        let mut text = format!("{}\n", self.origin.machine);
        let Self { seed, m, ef_construction, k, .. } = self;
        _ = writeln!(
            text,
            "seed {seed}, HNSW M {m}, ef_construction {ef_construction}, k {k}, {}, workload {}\n",
            value_name(&self.element),
            value_name(&self.workload)
        );
        _ = writeln!(text, "recall@{k} by engine and ef:\n{}", self.recalls().render());
        if self.rows.iter().flat_map(|row| &row.engines).any(|figures| figures.itself.is_some()) {
            _ = writeln!(
                text,
                "and beyond (at ef 200 itself, at ef 100 under filters):\n{}",
                self.beyond().render()
            );
        }
        match self.lower.len() {
            0 => text
                .push_str("no figure is lower than another engine's, or than the number of existing rows\n"),
            count => _ = writeln!(text, "{count} figures are lower:\n  {}", self.lower.join("\n  ")),
        }
        text
    }

    /// A row for each kind and metric, a column for each engine and ef.
    fn recalls(&self) -> TextTable {
        let engines: Vec<&str> = self
            .rows
            .first()
            .map_or(&[][..], |row| &row.engines)
            .iter()
            .map(|one| one.engine.as_str())
            .collect();
        let columns = || engines.iter().flat_map(|engine| self.efs.iter().map(move |&ef| (*engine, ef)));
        let mut headings = ["kind", "metric", "rows", "dim"].map(str::to_owned).to_vec();
        headings.extend(columns().map(|(engine, ef)| format!("{engine} {ef}")));
        headings.push("distances".to_owned());
        let mut table = TextTable::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
        for row in &self.rows {
            let mut cells = row.name().to_vec();
            cells.extend([row.live.to_string(), row.dimension.to_string()]);
            cells.extend(columns().map(|(engine, ef)| {
                let figures = row.engines.iter().find(|figures| figures.engine == engine);
                optional(figures.and_then(|figures| recall_at(figures, ef)), 3)
            }));
            let evaluated = row.engines[0].recall.iter().map(|point| optional(point.evaluated, 0));
            cells.push(evaluated.collect::<Vec<_>>().join(" "));
            table.row_of(cells);
        }
        table
    }

    /// A row for each kind, metric and engine, with all figures except plain recall.
    fn beyond(&self) -> TextTable {
        let mut headings = ["kind", "metric", "engine", "itself", "range 10", "100", "10 %", "beyond"]
            .map(str::to_owned)
            .to_vec();
        for word in ["random", "corr."] {
            headings.extend(PERCENTS.map(|percent| format!("{word} {percent} %")));
        }
        headings.extend(["short", "build s"].map(str::to_owned));
        let mut table = TextTable::new(&headings.iter().map(String::as_str).collect::<Vec<_>>());
        for (row, figures) in self.rows.iter().flat_map(|row| row.engines.iter().map(move |one| (row, one))) {
            let mut cells = row.name().to_vec();
            cells.extend([figures.engine.clone(), optional(figures.itself, 4)]);
            let range = |place: usize| figures.ranges.get(place).map(|range| range.recall);
            cells.extend([0, 1, 2].map(|place| optional(range(place), 4)));
            cells.push(match figures.ranges.len() {
                0 => "-".to_owned(),
                _ => figures.ranges.iter().map(|range| range.beyond).sum::<usize>().to_string(),
            });
            for placement in [Placement::Random, Placement::Correlated] {
                cells.extend(filtered(figures, placement).map(|recall| optional(recall, 3)));
            }
            cells.extend([figures.short.to_string(), format!("{:.1}", figures.build_seconds)]);
            table.row_of(cells);
        }
        table
    }
}

/// The word on the command line.
pub fn value_name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |word| word.get_name().to_owned())
}

impl ZooRow {
    fn name(&self) -> [String; 2] {
        [self.kind.clone(), self.metric.redis_name().to_owned()]
    }

    /// The figures in which an engine of ours finds less than another, or less than exists.
    fn lower(&self) -> Vec<String> {
        let engine = |name: &str| self.engines.iter().find(|figures| figures.engine == name);
        let without_codes = engine(ZooQuantization::None.word());
        let peer = engine("hnswlib");
        let mut lower = Vec::new();
        for figures in self.engines.iter().filter(|figures| figures.engine != "hnswlib") {
            let mut say = |what: String| {
                let [kind, metric] = self.name();
                lower.push(format!("{kind} {metric} {}: {what}", figures.engine));
            };
            for point in &figures.recall {
                let of = |other: Option<&Figures>| {
                    other.and_then(|other| recall_at(other, point.ef)).unwrap_or(0.0)
                };
                let (floats, theirs) = (of(without_codes), of(peer));
                let at = format!("recall {:.4} at ef {}", point.recall, point.ef);
                let costs = point.ef >= CODED_EF && point.recall < floats - CODES_COST;
                if costs {
                    say(format!("{at}, {floats:.4} with NONE"));
                }
                if point.recall < theirs {
                    say(format!("{at}, {theirs:.4} with hnswlib"));
                }
            }
            for range in &figures.ranges {
                if range.recall < RANGE_RECALL || range.beyond > 0 {
                    let Range { within, recall, beyond } = range;
                    say(format!("range of {within:.0}: recall {recall:.4}, {beyond} rows beyond it"));
                }
            }
            if let Some(share) = figures.itself.filter(|&share| share < 1.0) {
                let beside = peer.and_then(|peer| peer.itself);
                let beside = beside.map_or_else(String::new, |theirs| format!(", {theirs:.4} with hnswlib"));
                say(format!("{share:.4} of the documents find themselves{beside}"));
            }
            if figures.short > 0 {
                say(format!("{} searches gave fewer than k rows", figures.short));
            }
        }
        lower
    }
}

impl Exported for ZooReport {
    /// A row for each kind, metric, engine and ef; figures that do not depend on ef are repeated.
    fn csv(&self) -> TextTable {
        let headings = "kind,metric,rows,dimension,engine,ef,recall,evaluated,itself,short,build_seconds";
        let mut table = TextTable::new(&headings.split(',').collect::<Vec<_>>());
        for (row, figures) in self.rows.iter().flat_map(|row| row.engines.iter().map(move |one| (row, one))) {
            for point in &figures.recall {
                let [kind, metric] = row.name();
                table.row([
                    kind,
                    metric,
                    row.live.to_string(),
                    row.dimension.to_string(),
                    figures.engine.clone(),
                    point.ef.to_string(),
                    format!("{:.5}", point.recall),
                    cell(point.evaluated, 1),
                    cell(figures.itself, 5),
                    figures.short.to_string(),
                    format!("{:.2}", figures.build_seconds),
                ]);
            }
        }
        table
    }

    /// For each ef a chart with the recall of each kind, grouped by engine.
    fn charts(&self) -> Vec<Chart> {
        let mut engines: Vec<&str> = Vec::new();
        for figures in self.rows.iter().flat_map(|row| &row.engines) {
            if !engines.contains(&figures.engine.as_str()) {
                engines.push(&figures.engine);
            }
        }
        let of_ef = |&ef: &usize| {
            let recalls = |engine: &str| -> Vec<Option<f64>> {
                let of = |row: &ZooRow| {
                    recall_at(row.engines.iter().find(|figures| figures.engine == engine)?, ef)
                };
                self.rows.iter().map(of).collect()
            };
            Chart {
                title: format!("recall@{} at ef {ef}", self.k),
                y_label: "recall".into(),
                y_log: false,
                content: ChartContent::Bars {
                    categories: self.rows.iter().map(|row| row.name().join(" ")).collect(),
                    series: engines.iter().map(|&engine| (engine.to_owned(), recalls(engine))).collect(),
                },
            }
        };
        self.efs.iter().map(of_ef).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zoo::measure::Point;

    fn engine(name: &str, recall: f64) -> Figures {
        let point = |ef| Point { ef, recall, evaluated: None };
        Figures {
            engine: name.into(),
            recall: vec![point(10), point(100), point(1_000)],
            ..Figures::default()
        }
    }

    fn row(engines: Vec<Figures>) -> ZooRow {
        let (kind, metric) = ("plane".into(), DatasetMetric::L2);
        ZooRow { kind, metric, rows: 9, live: 9, dimension: 2, queries: 1, engines }
    }

    #[test]
    fn recall_with_codes_is_judged_by_the_one_without_and_by_hnswlib() {
        assert!(row(vec![engine("default", 0.995), engine("NONE", 1.0)]).lower().is_empty());
        let low = row(vec![engine("default", 0.5), engine("NONE", 0.6)]).lower();
        assert_eq!(low.len(), 2, "a beam of ten may be worse: {low:?}");
        assert_eq!(low[1], "plane L2 default: recall 0.5000 at ef 1000, 0.6000 with NONE");
        let beside = row(vec![engine("default", 0.5), engine("hnswlib", 0.6)]).lower();
        assert_eq!(beside.len(), 3, "{beside:?}");
    }

    #[test]
    fn ranges_lost_documents_and_short_answers_are_listed() {
        let range = |recall, beyond| Range { within: 10.0, recall, beyond };
        let ranges = vec![range(1.0, 0), range(0.998, 0), range(1.0, 2)];
        let figures = Figures { ranges, itself: Some(0.9), short: 3, ..engine("NONE", 1.0) };
        let lower = row(vec![figures]).lower();
        assert_eq!(lower.len(), 4, "{lower:?}");
    }
}
