//! The time for which the keyspace's write lock is held while millions of keys are loaded: growth of the
//! table must not show.
//!
//! `cargo bench -p engramdb-benches --bench lock_hold -- [KEYS]`
//!
//! Wall time includes time in which the kernel ran other work; the thread's CPU time is the engine's part.

#![allow(clippy::disallowed_methods, reason = "a measurement reads the real clock")]

use engramdb_benches::{Void, admit, engine_in, table};
use engramdb_engine::command::Args;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// As in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS_DEFAULT: u64 = 5_000_000;

fn main() {
    let keys = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(KEYS_DEFAULT);
    // As the server does.
    rustix::thread::disable_transparent_huge_pages(true).expect("Linux has this");
    let directory = std::env::temp_dir().join(format!("engramdb-lock-hold-{}", std::process::id()));
    let (engine, table) = (engine_in(&directory), table());
    let mut holds: Vec<(Duration, Duration)> = Vec::with_capacity(keys as usize);
    let started = Instant::now();
    for number in 0..keys {
        let key = format!("key:{number:012}");
        let words: [&[u8]; 3] = [b"SET", key.as_bytes(), b"value:0123456789"];
        let args = Args::new(&words);
        let command = table.resolve(args).expect("SET is known").command;
        let credit = admit(&engine, &words);
        let mut run = engine.writes(credit);
        let (wall, cpu) = (Instant::now(), thread_cpu());
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
