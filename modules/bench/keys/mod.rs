//! `bench keys`: throughput and latency of plain keys over many connections.
//!
//! Each operation of the run is one closed-loop measurement at each number of connections: a connection sends
//! a pipeline, waits for all its replies, and sends the next. The generator uses one thread with all
//! connections on one poll (more with --threads), so that on a small machine it leaves the other cores to the
//! server.

mod distribution;
mod driver;
mod replies;
mod report;
mod workload;

use std::time::Duration;

use clap::Args;

use self::distribution::{Distribution, KeyNumbers};
use self::driver::{KeysPlan, RunLimit};
use self::report::{KeysReport, MeasuredCpu, RunReport};
use self::workload::{KeyCommand, KeyShape, KeyWorkload, Operation};
use crate::client::{Connection, ServerTarget};
use crate::data::size;
use crate::error::BenchError;
use crate::interrupt::{self, Undo};
use crate::machine::{Process, machine_cpu_seconds};
use crate::output::ReportFiles;
use crate::progress;

const EXAMPLES: &str = "\
Operations:
  get, set          one string key
  hset              writes all fields of one entity (a hash)
  hmget             reads all fields of one entity
  lookup            a feature lookup: one pipeline of --entities HMGETs; its latency is that of the whole pipeline
  mix:READS:WRITES  GET and SET in this proportion

Examples:
  GET and SET over 50 connections:
    engramdb bench keys
  80:20 over a million keys, a few of them hot:
    engramdb bench keys --ops mix:80:20 --keys 1000000 --distribution zipf
  Feature lookups of 100 entities with 20 features each:
    engramdb bench keys --ops lookup --connections 1,8
  As redis-benchmark -t set -P 16 -c 50 -d 3 -r 100000 -n 1000000:
    engramdb bench keys --ops set --connections 50 --pipeline 16 --value-size 3 --keys 100000 --requests 1000000

Keys begin with --prefix and are removed afterwards, unless --keep is given. What is read is written first.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct KeysArgs {
    #[command(flatten)]
    pub target: ServerTarget,
    /// Operations to measure, one after another: get, set, hset, hmget, lookup, mix:READS:WRITES
    #[arg(long, value_delimiter = ',', default_value = "get,set", value_name = "OPERATION")]
    pub ops: Vec<Operation>,
    /// The number of keys, or of entities
    #[arg(long, default_value_t = 100_000)]
    pub keys: u32,
    /// Bytes of each string value
    #[arg(long, default_value_t = 64)]
    pub value_size: usize,
    /// Fields of each entity
    #[arg(long, default_value_t = 20)]
    pub fields: usize,
    /// Bytes of each field's value
    #[arg(long, default_value_t = 16)]
    pub field_size: usize,
    /// Entities in each feature lookup
    #[arg(long, default_value_t = 100)]
    pub entities: usize,
    /// How often each key is used: all equally, or few often (zipf with exponent 0.99)
    #[arg(long, value_enum, default_value_t = Distribution::Uniform)]
    pub distribution: Distribution,
    /// Connections, each in a closed loop; each value is one measurement
    #[arg(long, short, value_delimiter = ',', default_value = "50")]
    pub connections: Vec<usize>,
    /// Commands that a connection sends before it waits for their replies; each value is one measurement
    #[arg(long, value_delimiter = ',', default_value = "1")]
    pub pipeline: Vec<usize>,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Measure for this many seconds
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Measure this many commands instead
    #[arg(long, conflicts_with = "seconds")]
    pub requests: Option<u64>,
    /// Prefix of the keys; a letter for the type and nine digits follow
    #[arg(long, default_value = "bench:")]
    pub prefix: String,
    /// Seed of the choice of keys
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Do not write the keys before reading them: an earlier run with --keep did
    #[arg(long)]
    pub skip_load: bool,
    /// Leave the keys in the server
    #[arg(long)]
    pub keep: bool,
    /// Process id of the server on this machine, if INFO does not report it: its CPU time is reported too
    #[arg(long, value_name = "PID")]
    pub server_pid: Option<u32>,
    #[command(flatten)]
    pub files: ReportFiles,
}

/// Connections and pipeline for loading and removing keys.
const BULK_CONNECTIONS: usize = 8;
const BULK_PIPELINE: usize = 64;

/// Measures each operation, prints the table and writes the requested files.
pub fn run(arguments: KeysArgs) -> Result<(), BenchError> {
    arguments.check()?;
    let each = arguments.value_size.max(arguments.fields.saturating_mul(arguments.field_size)) as u64;
    let most = |values: &[usize]| values.iter().copied().max().unwrap_or(1) as u64;
    let commands =
        most(&arguments.connections).saturating_mul(most(&arguments.pipeline).max(BULK_PIPELINE as u64));
    size::check("what is sent at a time", u128::from(each) * u128::from(commands))?;
    arguments.files.check()?;
    let process = arguments.server_pid.map(Process::with_pid).transpose()?;
    let mut connection = Connection::open(&arguments.target)?;
    let process = process.or_else(|| connection.local_process());
    let server = connection.server_version();
    drop(connection);
    let shape = arguments.shape();
    let reads: Vec<KeyCommand> = [(KeyCommand::Get, KeyCommand::Set), (KeyCommand::Hmget, KeyCommand::Hset)]
        .into_iter()
        .filter(|(read, _)| arguments.ops.iter().any(|operation| operation.uses(*read)))
        .map(|(_, write)| write)
        .collect();
    let undo = (!arguments.keep).then(|| arguments.undo_when_interrupted(&shape)).transpose()?;
    if !arguments.skip_load {
        for &write in &reads {
            arguments.bulk(write, &shape, "load keys")?;
        }
    }
    let mut report = KeysReport::new(server, &arguments);
    let measured = arguments.measure(&shape, process, &mut report);
    if !arguments.keep {
        arguments.bulk(KeyCommand::Unlink, &shape, "remove keys")?;
    }
    drop(undo);
    measured?;
    report.print();
    arguments.files.write(&report)
}

impl KeysArgs {
    /// Refuses arguments that cannot give a result, before the run starts.
    fn check(&self) -> Result<(), BenchError> {
        let positive = [
            ("--keys", self.keys as usize),
            ("--fields", self.fields),
            ("--entities", self.entities),
            ("--threads", self.threads),
            ("--connections", self.connections.iter().copied().min().unwrap_or(0)),
            ("--pipeline", self.pipeline.iter().copied().min().unwrap_or(0)),
        ];
        let usage = |text: String| Err(BenchError::Usage(text));
        match positive.into_iter().find(|&(_, value)| value == 0) {
            Some((flag, _)) => usage(format!("{flag} must be at least 1")),
            None if self.keys > workload::KEYS_MAX => {
                usage(format!("--keys is at most {}", workload::KEYS_MAX))
            }
            None if self.fields > workload::ENTITY_FIELDS_MAX => {
                usage(format!("--fields is at most {}", workload::ENTITY_FIELDS_MAX))
            }
            None if self.seconds <= 0.0 || !self.seconds.is_finite() => {
                usage("--seconds must be above 0".into())
            }
            None => Ok(()),
        }
    }

    fn shape(&self) -> KeyShape {
        KeyShape {
            prefix: self.prefix.clone(),
            value_size: self.value_size,
            fields: self.fields,
            field_size: self.field_size,
        }
    }

    fn measure(
        &self,
        shape: &KeyShape,
        process: Option<Process>,
        report: &mut KeysReport,
    ) -> Result<(), BenchError> {
        let keys = KeyNumbers::new(self.distribution, self.keys, self.seed);
        let limit = match self.requests {
            Some(requests) => RunLimit::Commands(requests),
            None => RunLimit::Time(Duration::from_secs_f64(self.seconds)),
        };
        for operation in &self.ops {
            let pipelines =
                if *operation == Operation::Lookup { vec![self.entities] } else { self.pipeline.clone() };
            for &connections in &self.connections {
                for &pipeline in &pipelines {
                    let workload = KeyWorkload::new(operation.clone(), shape, keys.clone());
                    let plan =
                        KeysPlan { connections, pipeline, threads: self.threads.min(connections), limit };
                    let running = progress::spinner("measuring");
                    let cpu = || process.and_then(Process::cpu_seconds);
                    let (server_before, client_before) = (cpu(), Process::own().cpu_seconds());
                    let machine_before = machine_cpu_seconds();
                    let outcome = driver::run(&self.target, &workload, plan, self.seed)?;
                    let used =
                        |before: Option<f64>, after: Option<f64>| after.zip(before).map(|(a, b)| a - b);
                    let server_cpu = used(server_before, cpu());
                    let client_cpu = used(client_before, Process::own().cpu_seconds());
                    let machine_cpu = used(machine_before, machine_cpu_seconds());
                    running.finish_and_clear();
                    let cpu = MeasuredCpu { server: server_cpu, client: client_cpu, machine: machine_cpu };
                    report.runs.push(RunReport::new(operation, plan, outcome, cpu));
                }
            }
        }
        Ok(())
    }

    /// From now on an interrupted run removes the keys that it has written.
    fn undo_when_interrupted(&self, shape: &KeyShape) -> Result<Undo, BenchError> {
        let (target, workload, keys) =
            (self.target.clone(), KeyWorkload::once_each(KeyCommand::Unlink, shape, self.keys), self.keys);
        let undo = move || {
            interrupt::wait_for_writers();
            match driver::remove(&target, workload, keys) {
                Ok(()) => format!("removed the keys from {}", target.address()),
                Err(error) => format!("keys are left in {}: {error}", target.address()),
            }
        };
        Ok(Undo::make(|| Ok(((), Box::new(undo))))?.1)
    }

    /// Sends `command` once for every key.
    fn bulk(&self, command: KeyCommand, shape: &KeyShape, what: &'static str) -> Result<(), BenchError> {
        let running = progress::spinner(what);
        let workload = KeyWorkload::once_each(command, shape, self.keys);
        let plan = KeysPlan {
            connections: BULK_CONNECTIONS,
            pipeline: BULK_PIPELINE,
            threads: 1,
            limit: RunLimit::Commands(u64::from(self.keys)),
        };
        let outcome = driver::run(&self.target, &workload, plan, self.seed).map(drop);
        running.finish_and_clear();
        outcome
    }
}

#[cfg(test)]
mod tests;
