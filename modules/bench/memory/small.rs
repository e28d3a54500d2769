//! `bench memory --data`: the resident memory of small strings and hashes, of EngramDB and of other servers.
//!
//! The run's own server and each peer get the same keys, over the same number of connections, in pipelines of
//! the same length. The measure is the resident memory of the process after the load, minus that before.

use std::fmt;
use std::thread;

use clap::ValueEnum;
use engramdb_resp::{Value, encode_command_into};
use serde::Serialize;

use super::MemoryArgs;
use crate::client::{Accepted, Connection, ServerTarget};
use crate::data::size;
use crate::error::BenchError;
use crate::interrupt;
use crate::machine::Process;
use crate::output::{Exported, Origin, TextTable};
use crate::own_load::{MEGABYTE, used_memory};
use crate::peer::{Peer, settled};
use crate::plot::{Chart, ChartContent};
use crate::progress;

/// Small values of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SmallValues {
    /// Keys of 16 bytes, values of 18
    Strings,
    /// Keys of 16 bytes; 10 fields with names of 6 and values of 8 bytes
    Hashes,
}

/// Fields of a hash.
const FIELDS: u64 = 10;
impl SmallValues {
    fn count(self) -> usize {
        match self {
            SmallValues::Strings => 1_000_000,
            SmallValues::Hashes => 500_000,
        }
    }

    /// An upper bound of the bytes that any known server uses per value.
    fn bytes_each_max(self) -> u64 {
        match self {
            SmallValues::Strings => 200,
            SmallValues::Hashes => 1_500,
        }
    }

    /// Appends the command that stores the value with this number.
    fn encode(self, number: u64, bytes: &mut Vec<u8>) {
        let key = key(number);
        match self {
            SmallValues::Strings => {
                encode_command_into(bytes, &["SET", &key, &format!("value:{number:012}")]);
            }
            SmallValues::Hashes => {
                let fields = (0..FIELDS).flat_map(|field| {
                    // Different digits in each field, so that a server cannot share values between hashes.
                    let digits = (number.wrapping_mul(2_654_435_761) + field) & 0xffff_ffff;
                    [format!("field{field}"), format!("{digits:08x}")]
                });
                let words: Vec<String> = ["HSET".to_owned(), key].into_iter().chain(fields).collect();
                encode_command_into(bytes, &words);
            }
        }
    }
}

fn key(number: u64) -> String {
    format!("key:{number:012}")
}

impl fmt::Display for SmallValues {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SmallValues::Strings => "strings: keys of 16 bytes, values of 18",
            SmallValues::Hashes => "hashes: keys of 16 bytes; 10 fields, names of 6 and values of 8 bytes",
        })
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    origin: Origin,
    data: SmallValues,
    values: usize,
    load_connections: usize,
    load_pipeline: usize,
    footprints: Vec<Footprint>,
}

/// The memory of one server for all values.
#[derive(Clone, Debug, Serialize)]
struct Footprint {
    server: String,
    empty_bytes: u64,
    resident_bytes: u64,
    bytes_per_value: f64,
    info_bytes_per_value: f64,
    /// EngramDB's bytes per value in the same run, divided by those of this server.
    ratio: f64,
}

/// Measures the run's own server, and the peers one after another.
pub fn run(arguments: &MemoryArgs, data: SmallValues) -> Result<(), BenchError> {
    let values = arguments.values.unwrap_or(data.count());
    arguments.load.check(&[("--values", values)])?;
    let what = format!("--values {values}");
    size::check(&what, u128::from(data.bytes_each_max()) * values as u128)?;
    arguments.files.check()?;
    // If there is no /proc, or a peer cannot be measured, fail before the load.
    Process::own().resident()?;
    let peers: Vec<Peer> =
        arguments.peers.iter().map(|address| Peer::find(address)).collect::<Result<_, _>>()?;
    let mut report = Report {
        origin: Origin::of("bench memory"),
        data,
        values,
        load_connections: arguments.load.load_connections,
        load_pipeline: arguments.load.load_pipeline,
        footprints: Vec::new(),
    };
    outln!("{}\n{values} {data}", report.origin.machine);
    let load = Load { data, values: values as u64, arguments };

    let (server, mut connection) = arguments.load.start("bench-memory")?;
    let name = connection.server_version().unwrap_or_else(|| "engramdb".to_owned());
    report.add(load.measure(name, server.process()?, &server.target(), &mut connection)?);
    server.stop(connection)?;
    for mut peer in peers {
        let measured = load.measure(peer.name, peer.process, &peer.target, &mut peer.connection);
        // The peer was empty before: the run removes its keys in any case.
        let removed = load.remove(&mut peer.connection);
        report.add(measured?);
        removed?;
    }
    out!("\n{}", report.table().render());
    arguments.files.write(&report)
}

/// The values to store, and the connections.
struct Load<'a> {
    data: SmallValues,
    values: u64,
    arguments: &'a MemoryArgs,
}

impl Load<'_> {
    fn measure(
        &self,
        server: String,
        process: Process,
        target: &ServerTarget,
        connection: &mut Connection,
    ) -> Result<Footprint, BenchError> {
        let empty = settled(process)?;
        let empty_info = used_memory(connection)?;
        self.store(target)?;
        let resident = settled(process)?;
        let info = used_memory(connection)?;
        let keys = connection.command(&["DBSIZE"])?.as_int().unwrap_or_default();
        if keys != self.values as i64 {
            return Err(BenchError::Usage(format!(
                "{server}: {keys} keys after {} were stored",
                self.values
            )));
        }
        let each = |bytes: f64| bytes / self.values as f64;
        Ok(Footprint {
            server,
            empty_bytes: empty,
            resident_bytes: resident,
            bytes_per_value: each(resident as f64 - empty as f64),
            info_bytes_per_value: each(info - empty_info),
            ratio: 1.0,
        })
    }

    /// Stores all values, in pipelines over several connections.
    fn store(&self, target: &ServerTarget) -> Result<(), BenchError> {
        let connections = self.arguments.load.load_connections as u64;
        let pipeline = self.arguments.load.load_pipeline as u64;
        let bar = progress::bar(self.values, "storing");
        let part = |number: u64| -> Result<(), BenchError> {
            let mut connection = Connection::open(target)?;
            let mut begin = number * pipeline;
            while begin < self.values {
                let end = self.values.min(begin + pipeline);
                self.send(&mut connection, begin..end, &mut |value, bytes| self.data.encode(value, bytes))?;
                bar.inc(end - begin);
                begin += connections * pipeline;
            }
            Ok(())
        };
        let outcome = thread::scope(|scope| {
            let parts: Vec<_> = (0..connections).map(|number| scope.spawn(move || part(number))).collect();
            parts.into_iter().try_for_each(|part| part.join().expect("a part of the load does not panic"))
        });
        bar.finish_and_clear();
        outcome
    }

    /// Removes all values again.
    fn remove(&self, connection: &mut Connection) -> Result<(), BenchError> {
        const AT_ONCE: u64 = 1000;
        for begin in (0..self.values).step_by(AT_ONCE as usize) {
            let range = begin..self.values.min(begin + AT_ONCE);
            self.send(connection, range, &mut |value, bytes| {
                encode_command_into(bytes, &["DEL", &key(value)])
            })?;
        }
        Ok(())
    }

    /// Sends one pipeline, and reads its replies.
    fn send(
        &self,
        connection: &mut Connection,
        values: std::ops::Range<u64>,
        encode: &mut dyn FnMut(u64, &mut Vec<u8>),
    ) -> Result<(), BenchError> {
        if interrupt::is_interrupted() {
            return Err(BenchError::Interrupted);
        }
        let mut bytes = Vec::new();
        values.clone().for_each(|value| encode(value, &mut bytes));
        connection.send(&bytes)?;
        for _ in values {
            let _: Value = connection.receive()?.accepted(|| "a write".to_owned())?;
        }
        Ok(())
    }
}

impl Report {
    /// The first footprint is EngramDB's.
    fn add(&mut self, footprint: Footprint) {
        let own = self.footprints.first().unwrap_or(&footprint).bytes_per_value;
        let ratio = own / footprint.bytes_per_value;
        self.footprints.push(Footprint { ratio, ..footprint });
    }

    fn table(&self) -> TextTable {
        let mut table =
            TextTable::new(&["server", "empty MB", "resident MB", "B/value", "INFO B", "EngramDB over it"]);
        for footprint in &self.footprints {
            table.row([
                footprint.server.clone(),
                format!("{:.1}", footprint.empty_bytes as f64 / MEGABYTE),
                format!("{:.1}", footprint.resident_bytes as f64 / MEGABYTE),
                format!("{:.1}", footprint.bytes_per_value),
                format!("{:.1}", footprint.info_bytes_per_value),
                format!("{:.2}", footprint.ratio),
            ]);
        }
        table
    }
}

impl Exported for Report {
    fn csv(&self) -> TextTable {
        let mut table = TextTable::new(&[
            "server",
            "data",
            "values",
            "empty_bytes",
            "resident_bytes",
            "bytes_per_value",
            "info_bytes_per_value",
            "ratio",
        ]);
        let data = self.data.to_possible_value().expect("no kind is hidden").get_name().to_owned();
        for footprint in &self.footprints {
            table.row([
                footprint.server.clone(),
                data.clone(),
                self.values.to_string(),
                footprint.empty_bytes.to_string(),
                footprint.resident_bytes.to_string(),
                format!("{:.2}", footprint.bytes_per_value),
                format!("{:.2}", footprint.info_bytes_per_value),
                format!("{:.4}", footprint.ratio),
            ]);
        }
        table
    }

    fn charts(&self) -> Vec<Chart> {
        let of = |figure: fn(&Footprint) -> f64| -> Vec<Option<f64>> {
            self.footprints.iter().map(|footprint| Some(figure(footprint))).collect()
        };
        let series = vec![
            ("resident".to_owned(), of(|footprint| footprint.bytes_per_value)),
            ("by INFO".to_owned(), of(|footprint| footprint.info_bytes_per_value)),
        ];
        vec![Chart {
            title: format!("memory of {} {}", self.values, self.data),
            y_label: "bytes for each value".into(),
            y_log: false,
            content: ChartContent::Bars {
                categories: self.footprints.iter().map(|footprint| footprint.server.clone()).collect(),
                series,
            },
        }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_described_sizes() {
        let encoded = |data: SmallValues| {
            let mut bytes = Vec::new();
            data.encode(7, &mut bytes);
            String::from_utf8(bytes).expect("text")
        };
        assert_eq!(
            encoded(SmallValues::Strings),
            "*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000007\r\n$18\r\nvalue:000000000007\r\n"
        );
        let hash = encoded(SmallValues::Hashes);
        assert!(
            hash.starts_with("*22\r\n$4\r\nHSET\r\n$16\r\nkey:000000000007\r\n$6\r\nfield0\r\n$8\r\n"),
            "{hash}"
        );
        assert_eq!((hash.matches("$6\r\n").count(), hash.matches("$8\r\n").count()), (10, 10));
    }

    #[test]
    fn a_ratio_is_that_of_the_first_server_over_each() {
        let origin = Origin::of("bench memory");
        let (load_connections, load_pipeline) = (4, 64);
        let mut report = Report {
            origin,
            data: SmallValues::Strings,
            values: 10,
            load_connections,
            load_pipeline,
            footprints: Vec::new(),
        };
        for (server, bytes_per_value) in [("ours", 80.0), ("theirs", 100.0)] {
            report.add(Footprint {
                server: server.to_owned(),
                empty_bytes: 0,
                resident_bytes: 0,
                bytes_per_value,
                info_bytes_per_value: 0.0,
                ratio: 0.0,
            });
        }
        let ratios: Vec<f64> = report.footprints.iter().map(|footprint| footprint.ratio).collect();
        assert_eq!(ratios, [1.0, 0.8]);
    }
}
