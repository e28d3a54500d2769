//! The time for which the keyspace's write lock is held while millions of keys are loaded: growth of the
//! table must not show.
//!
//! `cargo bench -p engramdb-benches --bench lock_hold -- [KEYS] [indexed]`
//!
//! With `indexed` hashes of a tag, a number and a vector are written instead of strings, and an index has
//! them.
//!
//! Wall time includes time in which the kernel ran other work; the thread's CPU time is the engine's part.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the real clock")]

use engramdb_benches::{Void, admit, engine_in, table, write};
use engramdb_engine::command::Args;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS_DEFAULT: u64 = 5_000_000;
const DIMENSIONS: usize = 32;

/// A vector that no other number has.
fn vector(number: u64) -> Vec<u8> {
    let mut state = number;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1 << 24) as f32).to_le_bytes()
    };
    (0..DIMENSIONS).flat_map(|_| next()).collect()
}

fn main() {
    let keys = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(KEYS_DEFAULT);
    // As the server does.
    rustix::thread::disable_transparent_huge_pages(true).expect("Linux has this");
    let directory = std::env::temp_dir().join(format!("engramdb-lock-hold-{}", std::process::id()));
    let (engine, table) = (engine_in(&directory), table());
    let is_indexed = std::env::args().any(|word| word == "indexed");
    if is_indexed {
        let schema = format!(
            "FT.CREATE idx SCHEMA t TAG n NUMERIC v VECTOR HNSW 6 TYPE FLOAT32 DIM {DIMENSIONS} DISTANCE_METRIC L2"
        );
        write(&engine, &table, &schema.split(' ').map(str::as_bytes).collect::<Vec<_>>());
    }
    let mut holds: Vec<(Duration, Duration)> = Vec::with_capacity(keys as usize);
    let started = Instant::now();
    for number in 0..keys {
        let key = format!("key:{number:012}");
        let vector = vector(number);
        let tag = format!("tag{}", number % 100);
        let words: &[&[u8]] = match is_indexed {
            true => {
                &[b"HSET", key.as_bytes(), b"t", tag.as_bytes(), b"n", &key.as_bytes()[4..], b"v", &vector]
            }
            false => &[b"SET", key.as_bytes(), b"value:0123456789"],
        };
        let args = Args::new(words);
        let command = table.resolve(args).expect("it is known").command;
        let credit = admit(&engine, command, words);
        let cpu = thread_cpu();
        let mut run = engine.writes(credit);
        let wall = Instant::now();
        run.run(0, command, args, &mut Void);
        drop(run);
        holds.push((wall.elapsed(), thread_cpu() - cpu));
    }
    println!("{keys} keys in {:.1} s", started.elapsed().as_secs_f64());
    drop(engine);
    _ = std::fs::remove_dir_all(&directory);
    let long = holds.iter().enumerate().filter(|(_, (_, cpu))| *cpu > Duration::from_millis(1));
    long.for_each(|(key, (_, cpu))| println!("  key {key}: {:.2} ms of CPU", cpu.as_secs_f64() * 1e3));
    print("wall", holds.iter().map(|hold| hold.0).collect());
    print("cpu", holds.iter().map(|hold| hold.1).collect());
}

fn print(name: &str, mut holds: Vec<Duration>) {
    holds.sort_unstable();
    let at = |share: f64| holds[((holds.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let over = holds.len() - holds.partition_point(|hold| *hold <= Duration::from_millis(1));
    println!(
        "{name:>5}: p50 {:.2} us, p99 {:.2} us, p99.99 {:.2} us, max {:.2} us, over 1 ms: {over}",
        at(0.5),
        at(0.99),
        at(0.9999),
        at(1.0)
    );
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
