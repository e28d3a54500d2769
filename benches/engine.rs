//! The hot path in pieces: decoding a request, reading a key, applying and logging a write, replaying.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use engramdb_benches::{Void, engine, table, write};
use engramdb_engine::command::Args;
use engramdb_engine::effect::{Effect, decode_batch};
use engramdb_engine::keyspace::Keyspace;
use engramdb_resp::{Decoder, Requests, encode_command};
use std::hint::black_box;

const KEYS: u64 = 100_000;

fn key(number: u64) -> String {
    format!("key:{:012}", number % KEYS)
}

fn commands(criterion: &mut Criterion) {
    let (engine, table) = (engine(), table());
    for number in 0..KEYS {
        write(&engine, &table, &[b"SET", key(number).as_bytes(), b"value"]);
    }
    let mut number = 0;
    let mut next = move || {
        number += 7_919;
        key(number)
    };
    let get = table.get(b"GET").expect("GET is known").command;
    criterion.bench_function("GET", |bencher| {
        bencher.iter_batched(
            &mut next,
            |key| {
                engine
                    .reads()
                    .expect("it serves")
                    .run(0, get, Args::new(&[b"GET", key.as_bytes()]), &mut Void)
                    .gate
            },
            BatchSize::SmallInput,
        );
    });
    criterion.bench_function("SET, logged in memory", |bencher| {
        bencher.iter_batched(
            &mut next,
            |key| write(&engine, &table, &[b"SET", key.as_bytes(), b"another value"]).gate,
            BatchSize::SmallInput,
        );
    });
}

fn replay(criterion: &mut Criterion) {
    let mut batch = Vec::new();
    for number in 0..KEYS {
        let key = key(number);
        Effect::StringSet { key: key.as_bytes(), value: b"value", expires_at_ms: 0 }.encode(0, &mut batch);
    }
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(KEYS)).sample_size(20);
    group.bench_function("100,000 sets", |bencher| {
        bencher.iter_batched(
            || Keyspace::new(1),
            |mut keyspace| {
                for record in decode_batch(&batch) {
                    keyspace.apply(&record.expect("encoded above"));
                }
                keyspace
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn decode(criterion: &mut Criterion) {
    let request = encode_command(&[&b"SET"[..], b"key:000000000001", b"value"]);
    let pipeline: Vec<u8> = request.iter().copied().cycle().take(request.len() * 16).collect();
    let mut decoder = Decoder::default();
    let mut requests = Requests::new();
    criterion.bench_function("decode a pipeline of 16 SETs", |bencher| {
        bencher.iter(|| decoder.decode(black_box(&pipeline), &mut requests, usize::MAX).consumed_bytes);
    });
}

criterion_group!(benches, commands, replay, decode);
criterion_main!(benches);
