//! Random sequences of commands of every data type, of users and of functions, with clients that wait for
//! keys, batches of several commands, evictions and expiry: the same content (entries, groups with what is
//! pending, encodings, users, libraries) live, on a follower, after a crash and the replay of the log, and
//! after a snapshot and the log's tail.

use super::types_words::{TEMPLATES, fill, pick_template};
use engramdb_engine::keyspace::{EvictionPolicy, EvictionRank};
use engramdb_resp::{Protocol, Value};
use engramdb_testkit::instance::{Instance, Kept, Parts};
use engramdb_testkit::users;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// In a normal run; PROPTEST_CASES sets another number.
const CASES: u32 = 100;
/// Parts that `!many` adds to a value: more than a compact one has.
const MANY: usize = 600;

/// The parts of the program, and commands that change users.
const PARTS: Parts = Parts {
    commands: &[
        engramdb_json::COMMANDS,
        engramdb_search::COMMANDS,
        engramdb_script::COMMANDS,
        users::COMMANDS,
    ],
    ..super::PROGRAM
};

type Words = Vec<Vec<u8>>;

/// What occurred in the sequences, so that a test that compares nothing does not pass.
#[derive(Debug, Default)]
struct Seen {
    /// Commands that logged effects, by name, and calls of any outcome.
    writes: BTreeMap<String, usize>,
    calls: BTreeMap<String, usize>,
    errors: usize,
    parked: usize,
    served: usize,
    killed: usize,
    evicted: usize,
    expired: usize,
    restored: usize,
    together: usize,
    tails: usize,
}

fn number(words: &[Vec<u8>], place: usize) -> i64 {
    std::str::from_utf8(&words[place]).expect("digits").parse().expect("a number")
}

fn call(instance: &mut Instance, words: &Words, seen: &mut Seen) {
    let name = String::from_utf8_lossy(&words[0]).into_owned();
    *seen.calls.entry(name.clone()).or_default() += 1;
    match instance.run_or_park(words) {
        Some(answer) => {
            seen.errors += usize::from(answer.reply.is_error());
            *seen.writes.entry(name).or_default() += usize::from(!answer.effects.is_empty());
            seen.served += instance.take_served().len();
        }
        None => seen.parked += 1,
    }
}

/// DUMP of one key, and RESTORE of that as another.
fn restore(instance: &mut Instance, from: &[u8], to: &[u8], seen: &mut Seen) {
    let Value::Bulk(payload) = instance.run(&[b"DUMP", from]).reply else { return };
    let words: [&[u8]; 5] = [b"RESTORE", to, b"0", &payload, b"REPLACE"];
    seen.restored +=
        usize::from(!instance.run_or_park(&words).expect("it waits for nothing").reply.is_error());
}

/// Commands that run as one batch, as those of EXEC and of a script do.
fn together(instance: &mut Instance, seed: u64, seen: &mut Seen) {
    let mut random = SmallRng::seed_from_u64(seed);
    let commands = (0..random.random_range(2..6)).map(|_| {
        loop {
            let template = pick_template(random.random_range(0..10_000));
            if !template.starts_with('!') {
                break fill(template, random.random());
            }
        }
    });
    let commands: Vec<Words> = commands.collect();
    instance.run_together(&commands);
    seen.served += instance.take_served().len();
    seen.together += 1;
}

fn many(instance: &mut Instance, command: &str, key: &[u8]) {
    if command == "XADD" {
        for part in 0..MANY / 4 {
            instance.run_or_park(&[b"XADD", key, b"*", b"f", part.to_string().as_bytes()]);
        }
        return;
    }
    let mut words: Words = vec![command.into(), key.to_vec()];
    for part in 0..MANY {
        if command == "ZADD" {
            words.push((part % 37).to_string().into());
        }
        words.push(format!("part:{part}").into());
        if command == "HSET" {
            words.push((part % 37).to_string().into());
        }
    }
    instance.run_or_park(&words);
}

fn step(instance: &mut Instance, words: &Words, seen: &mut Seen) {
    match words[0].as_slice() {
        b"!clock" => instance.move_clock(number(words, 1)),
        b"!back" => instance.move_clock(-number(words, 1)),
        b"!expire" => seen.expired += instance.expire_due().len(),
        b"!evict" => {
            let rank = [EvictionRank::Recency, EvictionRank::Frequency, EvictionRank::Random];
            let policy = EvictionPolicy::AllKeys(rank[number(words, 1) as usize % rank.len()]);
            seen.evicted += instance.evict(policy, 1).len();
        }
        b"!snapshot" => _ = instance.snapshot(),
        b"!crash" => instance.crash(number(words, 1).unsigned_abs()),
        b"!restart" => check_restart(instance, Kept::ALL[number(words, 1) as usize], seen),
        b"!timeout" => _ = instance.first_seat().and_then(|seat| instance.time_out(seat)),
        b"!kill" => seen.killed += usize::from(instance.first_seat().is_some_and(|seat| instance.kill(seat))),
        b"!database" => instance.select(number(words, 1) as u32),
        b"!restore" => restore(instance, &words[1], &words[2], seen),
        b"!together" => together(instance, number(words, 1) as u64, seen),
        b"!many" => many(instance, &String::from_utf8_lossy(&words[1]), &words[2]),
        _ => call(instance, words, seen),
    }
}

/// The instance compares keyspace, users and definitions itself.
fn check_restart(instance: &mut Instance, kept: Kept, seen: &mut Seen) {
    instance.check_follower();
    let report = instance.restart_with(kept);
    seen.tails += usize::from(report.snapshot.is_some() && report.batches > 1);
}

fn run(steps: &[(usize, u64)], protocol: Protocol, seen: &mut Seen) {
    let mut instance = Instance::with_modules(1, protocol, PARTS);
    for &(number, seed) in steps {
        step(&mut instance, &fill(pick_template(number), seed), seen);
    }
    for kept in Kept::ALL {
        check_restart(&mut instance, kept, seen);
    }
    instance.crash(0);
    instance.move_clock(100_000);
    instance.expire_due();
    instance.snapshot();
    check_restart(&mut instance, Kept::ALL[0], seen);
    instance.check_replay();
}

#[test]
fn every_type_is_the_same_live_followed_replayed_and_from_a_snapshot() {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let steps = prop::collection::vec((0..10_000usize, any::<u64>()), 60..220);
    let seen = RefCell::new(Seen::default());
    // The same sequences in each run, unless their number is asked for: then new ones.
    let mut runner = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => TestRunner::new(config),
        None => TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha)),
    };
    let result = runner.run(&(steps, any::<bool>()), |(steps, is_old)| {
        run(&steps, if is_old { Protocol::Resp2 } else { Protocol::Resp3 }, &mut seen.borrow_mut());
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
    let seen = seen.into_inner();
    eprintln!("{seen:?}");
    if cases >= CASES {
        let counts = [
            seen.parked,
            seen.served,
            seen.killed,
            seen.evicted,
            seen.expired,
            seen.restored,
            seen.together,
            seen.tails,
        ];
        assert!(counts.iter().all(|&count| count >= cases as usize / 20), "too little occurred: {seen:?}");
        let names = TEMPLATES.iter().map(|(_, template)| template.split(' ').next().expect("a name"));
        let silent: Vec<&str> = names
            .filter(|name| !name.starts_with('!') && seen.writes.get(*name).is_none_or(|&count| count == 0))
            .collect();
        assert!(silent.is_empty(), "these never changed anything: {silent:?}");
    }
}
