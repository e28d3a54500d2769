//! The report of a vector run: tables for people, JSON and CSV for programs, a plot.

use serde::Serialize;

use super::engine::{IndexKind, LoadReport, Task};
use super::server::RowReply;
use crate::data::DatasetMetric;
use crate::latency::Percentiles;
use crate::machine::{FULL, note_on_full, note_on_others};
use crate::output::{self, Exported, Origin, TextTable, cell};
use crate::plot::{Chart, ChartContent};

/// All results of a run, in the form of its JSON.
#[derive(Serialize)]
pub struct VectorsReport {
    #[serde(flatten)]
    pub origin: Origin,
    pub dataset: DatasetSummary,
    pub index: IndexKind,
    pub m: usize,
    pub ef_construction: usize,
    /// Name and version of the server, if one was measured.
    pub server: Option<String>,
    pub reply: RowReply,
    pub payload_size: usize,
    pub loads: Vec<LoadReport>,
    pub searches: Vec<SearchReport>,
}

#[derive(Serialize)]
pub struct DatasetSummary {
    pub name: String,
    pub rows: usize,
    pub dimensions: usize,
    pub metric: DatasetMetric,
    pub queries: usize,
}

/// One point of the sweep.
#[derive(Clone, Debug, Serialize)]
pub struct SearchReport {
    pub engine: String,
    pub filter: Option<String>,
    /// `None` for an exact scan, and if a recall was requested.
    pub ef: Option<usize>,
    /// The requested recall, instead of a width.
    pub recall_asked: Option<f32>,
    pub connections: usize,
    pub k: usize,
    pub recall: f64,
    /// The recall that 95 percent of the queries reach.
    pub recall_p5: f64,
    /// Distances computed per query, if the engine reports it.
    pub evaluated: Option<f64>,
    pub queries_per_second: f64,
    #[serde(flatten)]
    pub latency: Percentiles,
    pub searches: u64,
    /// CPU time of the searching process per query, in microseconds.
    pub cpu_us_per_query: Option<f64>,
    /// The same of this tool, if it is another process.
    pub tool_cpu_us_per_query: Option<f64>,
    /// The share of all processors' time that both used together.
    pub busy: Option<f64>,
    /// The share that other programs used.
    pub others: Option<f64>,
}

impl SearchReport {
    fn effort(&self) -> String {
        match (self.ef, self.recall_asked) {
            (Some(ef), _) => ef.to_string(),
            (None, Some(recall)) => format!("R {recall}"),
            (None, None) => "-".into(),
        }
    }
}

impl VectorsReport {
    pub fn new(task: &Task, reply: RowReply, payload_size: usize) -> Self {
        Self {
            origin: Origin::of("bench vectors"),
            dataset: DatasetSummary {
                name: task.dataset.name.clone(),
                rows: task.dataset.base.rows(),
                dimensions: task.dataset.dimensions(),
                metric: task.dataset.metric,
                queries: task.dataset.queries.rows(),
            },
            index: task.index,
            m: task.m,
            ef_construction: task.ef_construction,
            server: None,
            reply,
            payload_size,
            loads: Vec::new(),
            searches: Vec::new(),
        }
    }

    pub fn print_heading(&self) {
        let DatasetSummary { name, rows, dimensions, metric, queries } = &self.dataset;
        outln!("{name}: {rows} rows x {dimensions}, {}, {queries} queries", metric.redis_name());
        outln!("{}", self.origin.machine);
    }

    pub fn print_tables(&self) {
        if let Some(server) = &self.server {
            outln!("server: {server}");
        }
        if !self.loads.is_empty() {
            outln!("\n{}", self.load_table().render());
        }
        if self.reply == RowReply::Fields {
            outln!(
                "each search returns fields: the distance, and a payload of {} bytes\n",
                self.payload_size
            );
        }
        outln!("{}", self.search_table().render());
        let full = self.searches.iter().filter(|search| search.busy >= Some(FULL)).count();
        if let Some(note) = note_on_full(full, self.searches.len(), "queries/s", "CPU us") {
            outln!("{note}\n");
        }
        if let Some(note) = note_on_others(self.searches.iter().map(|search| search.others)) {
            outln!("{note}\n");
        }
    }

    fn load_table(&self) -> TextTable {
        let mut table = TextTable::new(&["engine", "rows", "load s", "rows/s", "ready s", "CPU s"]);
        for load in &self.loads {
            table.row([
                load.engine.clone(),
                load.rows.to_string(),
                format!("{:.2}", load.load_seconds),
                format!("{:.0}", load.rows_per_second),
                format!("{:.2}", load.ready_seconds),
                output::optional(load.cpu_seconds, 2),
            ]);
        }
        table
    }

    fn search_table(&self) -> TextTable {
        let recall = format!("recall@{}", self.searches.first().map_or(0, |search| search.k));
        let mut table = TextTable::of_groups(&[
            &["engine", "filter", "ef", "conns", &recall, "p5", "evaluated", "queries/s"],
            &Percentiles::HEADINGS,
            &["CPU us", "tool CPU us", "busy"],
        ]);
        for search in &self.searches {
            let first = [
                search.engine.clone(),
                search.filter.clone().unwrap_or_else(|| "-".into()),
                search.effort(),
                search.connections.to_string(),
                format!("{:.4}", search.recall),
                format!("{:.2}", search.recall_p5),
                output::optional(search.evaluated, 0),
                format!("{:.0}", search.queries_per_second),
            ];
            let last = [
                output::optional(search.cpu_us_per_query, 0),
                output::optional(search.tool_cpu_us_per_query, 0),
                output::percent(search.busy),
            ];
            table.row_of_groups(&[&first, &search.latency.cells(), &last]);
        }
        table
    }

    /// The points of each line, in the order of recall.
    fn lines(&self) -> Vec<(String, Vec<(f64, f64)>)> {
        let mut lines: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
        for search in &self.searches {
            let filter = search.filter.as_ref().map(|filter| format!(", {filter}")).unwrap_or_default();
            let connections = if search.connections == 1 { "connection" } else { "connections" };
            let label = format!("{}{filter}, {} {connections}", search.engine, search.connections);
            let point = (search.recall, search.queries_per_second);
            match lines.iter_mut().find(|(other, _)| *other == label) {
                Some((_, points)) => points.push(point),
                None => lines.push((label, vec![point])),
            }
        }
        lines.iter_mut().for_each(|(_, points)| points.sort_by(|a, b| a.0.total_cmp(&b.0)));
        lines
    }
}

impl Exported for VectorsReport {
    fn csv(&self) -> TextTable {
        let before = "dataset,rows,dimensions,metric,engine,index,m,ef_construction,filter,ef,connections,k,recall,\
                      queries_per_second";
        let after = "searches,cpu_us_per_query,recall_asked,recall_p5,evaluated,reply,payload_size,\
                     tool_cpu_us_per_query,busy,others";
        let [before, after] = [before, after].map(|names| names.split(',').collect::<Vec<_>>());
        let mut table = TextTable::of_groups(&[&before, &Percentiles::CSV_HEADINGS, &after]);
        for search in &self.searches {
            let first = [
                self.dataset.name.clone(),
                self.dataset.rows.to_string(),
                self.dataset.dimensions.to_string(),
                self.dataset.metric.redis_name().to_ascii_lowercase(),
                search.engine.clone(),
                if self.index == IndexKind::Hnsw { "hnsw" } else { "flat" }.to_owned(),
                self.m.to_string(),
                self.ef_construction.to_string(),
                search.filter.clone().unwrap_or_default(),
                search.ef.map(|ef| ef.to_string()).unwrap_or_default(),
                search.connections.to_string(),
                search.k.to_string(),
                format!("{:.5}", search.recall),
                format!("{:.1}", search.queries_per_second),
            ];
            let last = [
                search.searches.to_string(),
                cell(search.cpu_us_per_query, 1),
                search.recall_asked.map(|recall| recall.to_string()).unwrap_or_default(),
                format!("{:.3}", search.recall_p5),
                cell(search.evaluated, 1),
                if self.reply == RowReply::Keys { "keys" } else { "fields" }.to_owned(),
                self.payload_size.to_string(),
                cell(search.tool_cpu_us_per_query, 1),
                cell(search.busy, 3),
                cell(search.others, 3),
            ];
            table.row_of_groups(&[&first, &search.latency.csv_cells(), &last]);
        }
        table
    }

    /// Recall on the x axis, queries per second on the y axis (logarithmic); one line for each engine, filter
    /// and number of connections. Up and to the right is better.
    fn charts(&self) -> Vec<Chart> {
        let recall = format!("recall@{}", self.searches.first().map_or(0, |search| search.k));
        vec![Chart {
            title: format!("{}, {recall}", self.dataset.name),
            y_label: "queries per second".into(),
            y_log: true,
            content: ChartContent::Lines { x_label: recall, x_log: false, series: self.lines() },
        }]
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
