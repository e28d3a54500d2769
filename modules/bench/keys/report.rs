//! The report of a run over plain keys.

use serde::Serialize;

use super::KeysArgs;
use super::distribution::Distribution;
use super::driver::{KeysOutcome, KeysPlan};
use super::workload::{KeyCommand, Operation};
use crate::latency::{self, Latencies, Percentiles};
use crate::machine::{FULL, busy_share, note_on_full, note_on_others, others_share};
use crate::output::{Exported, Origin, TextTable, cell, optional, percent};
use crate::plot::{Chart, ChartContent};

/// All results of a run, in the form of its JSON.
#[derive(Serialize)]
pub struct KeysReport {
    #[serde(flatten)]
    pub origin: Origin,
    /// Name and version of the server.
    pub server: Option<String>,
    pub keys: u32,
    pub distribution: Distribution,
    pub value_size: usize,
    pub fields: usize,
    pub field_size: usize,
    pub runs: Vec<RunReport>,
}

/// One measurement.
#[derive(Serialize)]
pub struct RunReport {
    pub operation: String,
    pub connections: usize,
    pub pipeline: usize,
    pub threads: usize,
    pub seconds: f64,
    pub commands: u64,
    pub commands_per_second: f64,
    /// CPU seconds of the server's process per million commands, if known.
    pub server_cpu_seconds_per_million: Option<f64>,
    /// The same of this load generator.
    pub client_cpu_seconds_per_million: Option<f64>,
    /// The share of all processors' time that both used together.
    pub busy: Option<f64>,
    /// The share that other programs used, if the server's is known.
    pub others: Option<f64>,
    pub latencies: Vec<LatencyReport>,
}

/// CPU time of one measurement, if known.
pub struct MeasuredCpu {
    pub server: Option<f64>,
    pub client: Option<f64>,
    /// Of all processes of this machine.
    pub machine: Option<f64>,
}

/// Latency of one kind of command, or of whole lookups.
#[derive(Serialize)]
pub struct LatencyReport {
    pub of: String,
    pub count: u64,
    #[serde(flatten)]
    pub percentiles: Percentiles,
}

impl KeysReport {
    pub fn new(server: Option<String>, arguments: &KeysArgs) -> Self {
        Self {
            origin: Origin::of("bench keys"),
            server,
            keys: arguments.keys,
            distribution: arguments.distribution,
            value_size: arguments.value_size,
            fields: arguments.fields,
            field_size: arguments.field_size,
            runs: Vec::new(),
        }
    }

    pub fn print(&self) {
        outln!("{}", self.origin.machine);
        if let Some(server) = &self.server {
            outln!("server: {server}");
        }
        outln!("{} keys, {:?}\n", self.keys, self.distribution);
        out!("{}", self.table().render());
        outln!("CPU s/M: CPU seconds for a million commands, of a server on this machine and of this tool");
        let full = self.runs.iter().filter(|run| run.busy >= Some(FULL)).count();
        if let Some(note) = note_on_full(full, self.runs.len(), "commands/s", "CPU s/M") {
            outln!("{note}");
        }
        if let Some(note) = note_on_others(self.runs.iter().map(|run| run.others)) {
            outln!("{note}");
        }
    }

    fn table(&self) -> TextTable {
        let mut table = TextTable::of_groups(&[
            &["operation", "conns", "pipeline", "commands/s", "latency of"],
            &Percentiles::HEADINGS,
            &["server CPU s/M", "tool CPU s/M", "busy"],
        ]);
        for (run, latency) in self.latencies() {
            let first = [
                run.operation.clone(),
                run.connections.to_string(),
                run.pipeline.to_string(),
                format!("{:.0}", run.commands_per_second),
                latency.of.clone(),
            ];
            let last = [
                optional(run.server_cpu_seconds_per_million, 2),
                optional(run.client_cpu_seconds_per_million, 2),
                percent(run.busy),
            ];
            table.row_of_groups(&[&first, &latency.percentiles.cells(), &last]);
        }
        table
    }
}

impl Exported for KeysReport {
    fn csv(&self) -> TextTable {
        let headings =
            "operation,connections,pipeline,threads,seconds,commands,commands_per_second,latency_of,count";
        let mut table = TextTable::of_groups(&[
            &headings.split(',').collect::<Vec<_>>(),
            &Percentiles::CSV_HEADINGS,
            &["server_cpu_seconds_per_million", "client_cpu_seconds_per_million", "busy", "others"],
        ]);
        for (run, latency) in self.latencies() {
            let first = [
                run.operation.clone(),
                run.connections.to_string(),
                run.pipeline.to_string(),
                run.threads.to_string(),
                format!("{:.3}", run.seconds),
                run.commands.to_string(),
                format!("{:.1}", run.commands_per_second),
                latency.of.clone(),
                latency.count.to_string(),
            ];
            let last = [
                cell(run.server_cpu_seconds_per_million, 3),
                cell(run.client_cpu_seconds_per_million, 3),
                cell(run.busy, 3),
                cell(run.others, 3),
            ];
            table.row_of_groups(&[&first, &latency.percentiles.csv_cells(), &last]);
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let rates = self.runs.iter().map(|run| Some(run.commands_per_second)).collect();
        let throughput = ChartContent::Bars {
            categories: self.runs.iter().map(RunReport::name).collect(),
            series: vec![("commands".to_owned(), rates)],
        };
        let name = |(run, latency): (&RunReport, &LatencyReport)| match run.latencies.len() {
            1 => run.name(),
            _ => format!("{}, {}", run.name(), latency.of),
        };
        let latency = ChartContent::Bars {
            categories: self.latencies().map(name).collect(),
            series: latency::series(
                &[latency::P50, latency::P99, latency::P999],
                self.latencies().map(|(_, latency)| &latency.percentiles),
            ),
        };
        let chart = |title: &str, y_label: &str, y_log, content| Chart {
            title: format!("{title}, by operation, connections x pipeline"),
            y_label: y_label.to_owned(),
            y_log,
            content,
        };
        vec![
            chart("throughput", "commands per second", false, throughput),
            chart("latency", "microseconds", true, latency),
        ]
    }
}

impl KeysReport {
    fn latencies(&self) -> impl Iterator<Item = (&RunReport, &LatencyReport)> + Clone {
        self.runs.iter().flat_map(|run| run.latencies.iter().map(move |latency| (run, latency)))
    }
}

impl RunReport {
    fn name(&self) -> String {
        format!("{}, {} x {}", self.operation, self.connections, self.pipeline)
    }

    pub fn new(operation: &Operation, plan: KeysPlan, outcome: KeysOutcome, cpu: MeasuredCpu) -> Self {
        let per_million = |cpu: Option<f64>| cpu.map(|seconds| seconds * 1e6 / outcome.commands as f64);
        let summary = |of: &str, latencies: &Latencies| LatencyReport {
            of: of.to_owned(),
            count: latencies.count(),
            percentiles: latencies.percentiles(),
        };
        let by_command = KeyCommand::ALL.iter().zip(&outcome.latencies).filter(|(_, seen)| seen.count() > 0);
        Self {
            operation: operation.to_string(),
            connections: plan.connections,
            pipeline: plan.pipeline,
            threads: plan.threads,
            seconds: outcome.seconds,
            commands: outcome.commands,
            commands_per_second: outcome.commands as f64 / outcome.seconds,
            server_cpu_seconds_per_million: per_million(cpu.server),
            client_cpu_seconds_per_million: per_million(cpu.client),
            busy: busy_share(cpu.server, cpu.client, outcome.seconds),
            others: others_share(cpu.machine, &[cpu.server, cpu.client], outcome.seconds)
                .filter(|_| cpu.server.is_some()),
            latencies: if outcome.lookups.count() > 0 {
                vec![summary("lookup", &outcome.lookups)]
            } else {
                by_command.map(|(command, seen)| summary(command.name(), seen)).collect()
            },
        }
    }
}
