//! The contract's own suite: what every backend keeps. Each test runs on each backend.

use super::*;
use crate::env::Env;
use crate::log::local::{LocalLog, LocalOptions};
use crate::log::memory::MemoryLog;
use std::sync::Arc;
use tempfile::TempDir;

mod following;

/// A new, empty log, with what has to live as long.
struct Fresh {
    log: Arc<dyn ShardLog>,
    /// Removed with the log.
    _directory: Option<TempDir>,
}

fn memory(_name: &str) -> Fresh {
    Fresh { log: Arc::new(MemoryLog::new(LogId([1; 16]))), _directory: None }
}

fn local(name: &str) -> Fresh {
    let directory = tempfile::Builder::new().prefix(name).tempdir().expect("the directory is writable");
    let options =
        LocalOptions { segment_bytes: 1 << 20, entry_bytes_max: 64 << 10, ..LocalOptions::default() };
    let log = LocalLog::open(Env::system(), directory.path(), options).expect("nothing else has the lock");
    Fresh { log: Arc::new(log), _directory: Some(directory) }
}

/// Makes one test for each backend out of each function here.
macro_rules! on_each_backend {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::$name(super::super::memory(stringify!($name))); })+
        }
        mod local {
            $(#[test] fn $name() { super::$name(super::super::local(stringify!($name))); })+
        }
    };
}
use on_each_backend;

/// A Data entry with one batch.
fn data(lsn: u64, bytes: &[u8]) -> Entry {
    let mut entry = Entry {
        kind: Kind::Data,
        needs: entry::FORMAT_LEVEL,
        engine_time_ms: 1000 + lsn,
        first_lsn: Lsn(lsn),
        last_lsn: Lsn(lsn),
        complete_lsn: Lsn(lsn),
        checksum: RunningChecksum::default(),
        bytes: vec![0; entry::HEADER_BYTES],
    };
    let piece = entry::Piece { kind: entry::PieceKind::Whole, time_offset_ms: 0, bytes };
    piece.encode(&mut entry.bytes);
    entry
}
