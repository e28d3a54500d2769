//! The tests of the log's contract. Each runs on each backend; so do those of the pipeline.

use super::*;
use crate::env::Env;
use crate::log::local::{LocalLog, LocalOptions};
use crate::log::memory::MemoryLog;
use crate::log::testing::{Schedule, TestLog};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

mod following;
mod replaying;
mod writing;

/// A new, empty log that can be opened several times, as by successive processes.
pub(crate) enum Fresh {
    Memory(MemoryLog),
    Test(TestLog),
    Local(TempDir),
}

impl Fresh {
    pub fn memory() -> Fresh {
        Fresh::Memory(MemoryLog::new(LogId([1; 16])))
    }

    pub fn test(schedule: Schedule) -> Fresh {
        Fresh::Test(TestLog::new(schedule))
    }

    pub fn local(name: &str) -> Fresh {
        let directory = tempfile::Builder::new().prefix(name).tempdir();
        Fresh::Local(directory.expect("the directory is writable"))
    }

    /// Opens the log, which must not be open.
    pub fn open(&self) -> Arc<dyn ShardLog> {
        match self {
            Fresh::Memory(log) => Arc::new(log.clone()),
            Fresh::Test(log) => Arc::new(log.clone()),
            Fresh::Local(directory) => {
                let options = LocalOptions {
                    segment_bytes: 1 << 20,
                    entry_bytes_max: 64 << 10,
                    ..LocalOptions::default()
                };
                let log = LocalLog::open(Env::system(), directory.path(), options);
                Arc::new(log.expect("nothing else has the lock"))
            }
        }
    }
}

/// Makes a test for each backend of each of these functions.
macro_rules! on_each_backend {
    (@backend $backend:ident, $fresh:expr, $($name:ident)+) => {
        mod $backend {
            $(
                #[test]
                fn $name() {
                    let fresh: fn(&str) -> $crate::log::tests::Fresh = $fresh;
                    super::$name(&fresh(stringify!($name)));
                }
            )+
        }
    };
    ($($name:ident),+ $(,)?) => {
        $crate::log::tests::on_each_backend!(@backend memory, |_| $crate::log::tests::Fresh::memory(), $($name)+);
        $crate::log::tests::on_each_backend!(@backend local, $crate::log::tests::Fresh::local, $($name)+);
        $crate::log::tests::on_each_backend!(@backend at_once, |_| $crate::log::tests::Fresh::test(
            $crate::log::testing::Schedule::AtOnce), $($name)+);
        $crate::log::tests::on_each_backend!(@backend late, |_| $crate::log::tests::Fresh::test(
            $crate::log::testing::Schedule::Late { polls: 3 }), $($name)+);
        $crate::log::tests::on_each_backend!(@backend together, |_| $crate::log::tests::Fresh::test(
            $crate::log::testing::Schedule::Together { polls: 5 }), $($name)+);
        $crate::log::tests::on_each_backend!(@backend out_of_step, |_| $crate::log::tests::Fresh::test(
            $crate::log::testing::Schedule::OutOfStep { seed: 0x5EED }), $($name)+);
    };
}
pub(crate) use on_each_backend;

/// A Data entry with one batch.
fn data(lsn: u64, bytes: &[u8]) -> LogEntry {
    let mut entry = LogEntry::new(EntryKind::Data, 1000 + lsn, Lsn(lsn), RunningChecksum::default());
    let piece = entry::Piece { kind: entry::PieceKind::Whole, time_offset_ms: 0, bytes };
    piece.encode(&mut entry.bytes);
    entry
}

/// A claim behind the batch `lsn`.
fn claim_behind(lsn: u64) -> Claim {
    Claim { lsn: Lsn(lsn), ..Claim::default() }
}

/// Waits until the entry is durable; returns the mark of the last durable entry.
fn acknowledged(acks: &dyn Acks, index: Idx) -> Mark {
    loop {
        let mark = acks.wait(Idx(index.0 - 1), Duration::from_secs(1)).expect("a healthy log");
        if mark.index >= index {
            return mark;
        }
    }
}

fn pos_of(step: Result<Step, ReadError>) -> Pos {
    match step.expect("an undamaged log") {
        Step::Entry(entry) => entry.pos,
        other => panic!("an entry is there, not {other:?}"),
    }
}

/// Reads the log to its end.
fn read_all(log: &dyn ShardLog) -> (Vec<ReadEntry>, LogEnd) {
    let mut reader = log.read(Mark::default());
    let mut entries = Vec::new();
    loop {
        match reader.next(Wait::No).expect("an undamaged log") {
            Step::Entry(entry) => entries.push(entry),
            Step::End(end) => return (entries, end),
            other => panic!("it neither waits nor is stopped: {other:?}"),
        }
    }
}
