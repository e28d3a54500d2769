//! Golden scripts: commands in, replies and effects out. `ENGRAMDB_BLESS=1` writes the actual output into the
//! scripts; review the difference against Redis before committing it.
//!
//! A script in `scripts/*.script` has lines of these kinds; the lines after a command or step, up to the next
//! one, are its expected output.
//!
//! ```text
//! # a comment
//! > SET key "a value\x00"      a command; `>sorted` where the order of the reply's elements does not count
//! +"OK"                        its reply; a second line `resp2: ...` where RESP2's differs
//! ~ StringSet "key" = ...      an effect that the log holds after it
//! ! clock +1500ms              lets time pass; `-5s` steps the wall clock back
//! ! step +60s                  steps the wall clock in either direction, while no time passes
//! ! database 3                 as SELECT
//! ! indexed i                  waits until the index is complete
//! ! expire                     deletes what has expired, as the server does in the background
//! ! restart                    comes back from the log
//! ! crash                      ends as a kill would, and comes back from the log
//! ! snapshot                   makes a snapshot, and comes back from that and the log behind it
//! ! ours                       from here on, a reference server would answer otherwise
//! ```
//!
//! Each script runs in this process, with RESP3 and RESP2 side by side. A follower follows the log, answers
//! each read the same and ends with the same keyspace, and so do a crash and the replay of the log, and a
//! snapshot made halfway with the log's tail. The same commands are also sent to a real Redis 8.2.3, whose
//! replies must be the expected ones, and to a real Valkey 9.1.2, whose other replies `beside_valkey.txt`
//! lists (`engramdb_testkit::oracle`).

#![allow(
    clippy::disallowed_methods,
    reason = "reads and blesses scripts; waits for a reference server's clock"
)]

use engramdb_engine::env::Env;
use engramdb_engine::module::Module;
use engramdb_json::JsonModule;
use engramdb_resp::{Protocol, Value};
use engramdb_search::{SearchModule, SearchOptions};
use engramdb_testkit::counter::{self, Counters};
use engramdb_testkit::instance::{Instance, Kept, Parts};
use engramdb_testkit::machine::Need;
use engramdb_testkit::oracle::Oracle;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Counters, JSON documents and indexes.
const PARTS: Parts = Parts {
    commands: &[counter::COMMANDS, engramdb_json::COMMANDS, engramdb_search::COMMANDS],
    serving: |env, _| modules(env, false),
    offline: |env| modules(env, true),
};

fn modules(env: &Env, offline: bool) -> Vec<Box<dyn Module>> {
    let options =
        SearchOptions { directory: None, env: env.clone(), offline, threads: usize::from(!offline) };
    vec![Box::new(Counters), Box::new(JsonModule), Box::new(SearchModule::new(options))]
}

/// A line that does something.
enum Step {
    Command {
        words: Vec<Vec<u8>>,
        sorted: bool,
    },
    Clock(i64),
    WallClock(i64),
    Database(u32),
    Indexed(String),
    Expire,
    Restart,
    Crash,
    Snapshot,
    Ours,
    /// Comments and blank lines are kept; old output is not.
    Text,
    Output,
}

impl Step {
    fn parse(line: &str) -> Step {
        if line.is_empty() || line.starts_with('#') {
            return Step::Text;
        }
        if let Some(step) = line.strip_prefix("! ") {
            return Step::parse_step(step);
        }
        match line.strip_prefix(">sorted ") {
            Some(command) => Step::Command { words: split_words(command), sorted: true },
            None => match line.strip_prefix("> ") {
                Some(command) => Step::Command { words: split_words(command), sorted: false },
                None => Step::Output,
            },
        }
    }

    fn parse_step(step: &str) -> Step {
        match step.split_once(' ') {
            Some(("clock", by)) => Step::Clock(milliseconds(by)),
            Some(("step", by)) => Step::WallClock(milliseconds(by)),
            Some(("database", number)) => Step::Database(number.parse().expect("a database's number")),
            Some(("indexed", index)) => Step::Indexed(index.to_owned()),
            None if step == "expire" => Step::Expire,
            None if step == "restart" => Step::Restart,
            None if step == "crash" => Step::Crash,
            None if step == "snapshot" => Step::Snapshot,
            None if step == "ours" => Step::Ours,
            _ => panic!("unknown step {step}"),
        }
    }
}

fn milliseconds(text: &str) -> i64 {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s').expect("a number with ms or s"), 1000),
    };
    number.parse::<i64>().expect("a number with its sign") * unit
}

fn scripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts");
    let entries = std::fs::read_dir(directory).expect("there are scripts");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a directory can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "script"));
    paths.sort();
    paths
}

fn show(mut reply: Value, sorted: bool) -> String {
    if sorted {
        sort(&mut reply);
    }
    format!("{reply:?}")
}

/// Sorts the innermost arrays, and maps by key.
fn sort(reply: &mut Value) {
    match reply {
        Value::Array(elements) if elements.iter().any(|element| element.as_array().is_some()) => {
            elements.iter_mut().for_each(sort);
        }
        Value::Array(elements) | Value::Set(elements) => {
            elements.sort_by_key(|element| format!("{element:?}"));
        }
        Value::Map(pairs) => pairs.sort_by_key(|pair| format!("{pair:?}")),
        _ => {}
    }
}

/// Runs a script in this process; returns it with the actual output.
fn run_here(script: &str) -> String {
    let mut third = Instance::with_modules(1, Protocol::Resp3, PARTS);
    let mut second = Instance::with_modules(1, Protocol::Resp2, PARTS);
    let mut output = String::new();
    let half = script.lines().count() / 2;
    for (number, line) in script.lines().enumerate() {
        if number == half {
            third.snapshot();
        }
        let step = Step::parse(line);
        if matches!(step, Step::Output) {
            continue;
        }
        writeln!(output, "{line}").expect("strings grow");
        match step {
            Step::Command { words, sorted } => {
                let run = |instance: &mut Instance| {
                    instance.run_or_park(&words).unwrap_or_else(|| panic!("it waits: {line}"))
                };
                let (answer, older) = (run(&mut third), run(&mut second));
                assert_eq!(answer.effects, older.effects, "{line}: the protocol does not change effects");
                let (reply, older) = (show(answer.reply, sorted), show(older.reply, sorted));
                writeln!(output, "{reply}").expect("strings grow");
                if older != reply {
                    writeln!(output, "resp2: {older}").expect("strings grow");
                }
                write_effects(&mut output, &answer.effects);
            }
            Step::Expire => {
                second.expire_due();
                write_effects(&mut output, &third.expire_due());
            }
            step => [&mut third, &mut second].into_iter().for_each(|instance| apply(instance, &step)),
        }
    }
    check_all_forms(&mut third);
    output
}

/// The live content is the follower's, and comes back from the log after a crash, from a snapshot and the
/// log's tail, and from the log alone after an orderly stop.
fn check_all_forms(instance: &mut Instance) {
    instance.check_follower();
    instance.crash(0);
    let report = instance.restart_with(Kept { snapshots: true, derived: false });
    assert!(report.snapshot.is_some(), "the snapshot was read: {report}");
    instance.check_replay();
}

fn apply(instance: &mut Instance, step: &Step) {
    match step {
        Step::Clock(ms) => instance.move_clock(*ms),
        Step::WallClock(ms) => instance.step_clock(*ms),
        Step::Database(number) => instance.select(*number),
        Step::Indexed(_) => while instance.engine().run_background() {},
        Step::Restart => instance.restart(),
        Step::Crash => instance.crash(0),
        Step::Snapshot => {
            instance.snapshot();
            instance.restart_with(Kept { snapshots: true, derived: false });
        }
        _ => {}
    }
}

fn write_effects(output: &mut String, effects: &[String]) {
    effects.iter().for_each(|effect| writeln!(output, "~ {effect}").expect("strings grow"));
}

#[test]
fn scripts_in_this_process() {
    let bless = std::env::var_os("ENGRAMDB_BLESS").is_some();
    let mut failures = String::new();
    for path in scripts() {
        let script = std::fs::read_to_string(&path).expect("a script can be read");
        let output = run_here(&script);
        if bless {
            std::fs::write(&path, output).expect("a script can be written");
        } else if output != script {
            let difference =
                script.lines().zip(output.lines()).enumerate().find(|(_, (want, got))| want != got);
            let name = path.file_name().expect("a script has a name").to_string_lossy().into_owned();
            match difference {
                Some((line, (want, got))) => {
                    writeln!(failures, "{name}:{}:\n  expected {want}\n  came     {got}", line + 1)
                }
                None => writeln!(failures, "{name}: more or fewer lines came than expected"),
            }
            .expect("strings grow");
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// A reply whose simple strings are bulk strings: RediSearch's rows have both, without a rule.
fn bulk(reply: &str) -> String {
    reply.replace("+\"", "\"")
}

/// A reply of a server that is not the expected one.
struct Difference {
    /// Of the line, from 1 on.
    number: usize,
    line: String,
    want: String,
    came: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Difference { number, line, want, came } = self;
        write!(f, "{number}: {line}\n  expected {want}\n  came     {came}")
    }
}

/// Compares a server's replies with the expected ones; returns what differs.
fn compare(address: &str, protocol: Protocol, script: &str) -> Vec<Difference> {
    let mut client = Client::connect(address, protocol);
    client.run(&["FLUSHALL"]);
    let mut differences = Vec::new();
    let lines: Vec<&str> = script.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        match Step::parse(line) {
            Step::Command { words, sorted } => {
                let reply = show(client.run(&words), sorted);
                let want = lines.get(number + 1).copied().unwrap_or_default();
                let older = lines.get(number + 2).and_then(|line| line.strip_prefix("resp2: "));
                let want = if protocol == Protocol::Resp2 { older.unwrap_or(want) } else { want };
                if reply != want && !(words[0].starts_with(b"FT.") && bulk(&reply) == bulk(want)) {
                    let (number, line, want) = (number + 1, (*line).to_owned(), want.to_owned());
                    differences.push(Difference { number, line, want, came: reply });
                }
            }
            Step::Database(number) => {
                client.run(&["SELECT", &number.to_string()]);
            }
            Step::Clock(ms @ 0..=3000) => std::thread::sleep(std::time::Duration::from_millis(ms as u64)),
            Step::Clock(_) | Step::WallClock(_) | Step::Ours => break,
            Step::Indexed(index) => wait_for_index(&mut client, &index),
            Step::Expire | Step::Restart | Step::Crash | Step::Snapshot | Step::Text | Step::Output => {}
        }
    }
    differences
}

/// Waits until RediSearch has scanned the keys.
fn wait_for_index(client: &mut Client, index: &str) {
    let is_done = |info: Value| {
        let indexing = info.get("indexing").expect("it tells");
        indexing.as_int() == Some(0) || indexing.as_str() == Some("0")
    };
    while !is_done(client.run(&["FT.INFO", index])) {
        std::thread::yield_now();
    }
}

#[test]
fn scripts_beside_redis() {
    if Need::Packages.is_missing() {
        return;
    }
    let redis = Oracle::start();
    let address = format!("127.0.0.1:{}", redis.port);
    let mut failures = String::new();
    for path in scripts() {
        let script = std::fs::read_to_string(&path).expect("a script can be read");
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            for difference in compare(&address, protocol, &script) {
                writeln!(failures, "{} {protocol:?}:{difference}", path.display()).expect("strings grow");
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
}

/// Scripts about modules that Valkey's package does not have.
const NOT_OF_VALKEY: &[&str] = &["counter", "indexes", "json"];

/// Where Valkey replies otherwise than Redis and EngramDB do: script, protocol, command and reply in each
/// line, or that it does not know a command.
#[test]
fn scripts_beside_valkey() {
    if Need::Packages.is_missing() {
        return;
    }
    let valkey = Oracle::valkey();
    let address = format!("127.0.0.1:{}", valkey.port);
    let mut found = BTreeSet::new();
    for path in scripts() {
        let name = path.file_stem().expect("a script has a name").to_string_lossy().into_owned();
        if NOT_OF_VALKEY.contains(&name.as_str()) {
            continue;
        }
        let script = std::fs::read_to_string(&path).expect("a script can be read");
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            for Difference { line, came, .. } in compare(&address, protocol, &script) {
                let command = line.split(' ').nth(1).unwrap_or_default().to_ascii_uppercase();
                found.insert(match came.contains("ERR unknown command") {
                    true => format!("{name} does not know {command}"),
                    false => format!("{name} {protocol:?} {line} -> {came}"),
                });
            }
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scripts/beside_valkey.txt");
    if std::env::var_os("ENGRAMDB_BLESS").is_some() {
        let lines: String = found.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file, lines).expect("the list can be written");
        return;
    }
    let listed = std::fs::read_to_string(&file).expect("there is a list");
    let listed: BTreeSet<String> = listed.lines().map(str::to_owned).collect();
    let new: Vec<&String> = found.difference(&listed).collect();
    let gone: Vec<&String> = listed.difference(&found).collect();
    assert!(new.is_empty() && gone.is_empty(), "\nnot listed: {new:#?}\nno longer so: {gone:#?}");
}
