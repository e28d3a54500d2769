//! The server in this process, on a simulated disk with a limited capacity.

use engramdb_engine::Engine;
use engramdb_engine::log::local::LocalOptions;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::recovery::{StartOptions, open_directory};
use engramdb_resp::{Protocol, Value};
use engramdb_search::{SearchModule, SearchOptions};
use engramdb_server::snapshots::{BackgroundSnapshots, SnapshotSettings};
use engramdb_server::{Config, Hooks, NoSnapshots, Server, Snapshotter};
use engramdb_sim::env::SimEnv;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const VALUE_BYTES: usize = 1500;

fn open(sim: &SimEnv) -> Server {
    open_with(sim, |_| Arc::new(NoSnapshots))
}

fn open_with(sim: &SimEnv, snapshotter: impl FnOnce(&Arc<Engine>) -> Arc<dyn Snapshotter>) -> Server {
    let log = LocalOptions { segment_bytes: 512 << 10, entry_bytes_max: 8 << 10, ..LocalOptions::default() };
    let pipeline = Options { read_only_when_full: true, wake_on_kick: true, ..Options::default() };
    let options = StartOptions { pipeline, ..StartOptions::default() };
    let modules = || {
        let search = SearchOptions { directory: None, env: sim.env.clone(), offline: false, threads: 1 };
        vec![Box::new(SearchModule::new(search)) as _]
    };
    let (engine, _) = open_directory(&sim.env, Path::new("/data"), &modules, log, options).expect("a start");
    let config = Config { port: 0, threads: 1, ..Config::default() };
    let engine = Arc::new(engine);
    let hooks = Hooks { signals: false, ..Hooks::new(snapshotter(&engine)) };
    Server::start(config, engine, &[engramdb_search::COMMANDS], hooks).expect("a free port")
}

fn connect(server: &Server) -> Client {
    Client::connect(&server.addresses()[0].to_string(), Protocol::Resp2)
}

fn stop(server: Server) {
    server.stop();
    server.wait().expect("a full disk is no failure");
}

fn fill_the_rest(sim: &SimEnv) {
    sim.disk.set_capacity(Some(sim.disk.used_bytes()));
}

fn ask(client: &mut Client, line: &str) -> Value {
    client.run(&split_words(line))
}

fn error_of(reply: Value) -> String {
    match reply {
        Value::Error(text) => String::from_utf8_lossy(&text).into_owned(),
        other => panic!("an error was expected: {other:?}"),
    }
}

fn assert_refused(client: &mut Client, line: &str) {
    let text = error_of(ask(client, line));
    assert!(text.starts_with("MISCONF No room in the transaction log: cannot prepare"), "{line}: {text}");
    assert!(text.contains("/data/shards/0/log") && text.contains("reads go on"), "{line}: {text}");
}

fn assert_integer(client: &mut Client, line: &str, wanted: i64) {
    assert_eq!(ask(client, line), Value::Integer(wanted), "{line}");
}

fn info(client: &mut Client) -> String {
    ask(client, "INFO persistence").as_str().expect("INFO is text").to_owned()
}

/// Writes until the first refusal, large values and then small ones. Returns the number of keys.
fn fill(client: &mut Client) -> usize {
    let value = "x".repeat(VALUE_BYTES);
    let keys = (0..).find(|number| ask(client, &format!("SET key:{number} {value}")).is_error());
    while !ask(client, "SET key:0 small").is_error() {}
    keys.expect("the disk gets full")
}

/// A server whose disk is full: hashes, an index, and many keys.
fn full() -> (SimEnv, Server, Client, usize) {
    let sim = SimEnv::new(1);
    let server = open(&sim);
    let mut client = connect(&server);
    ask(&mut client, "FT.CREATE docs ON HASH PREFIX 1 doc: SCHEMA tag TAG");
    for number in 0..20 {
        assert_integer(&mut client, &format!("HSET doc:{number} tag x other y third z"), 3);
    }
    sim.disk.set_capacity(Some(2 << 20));
    let keys = fill(&mut client);
    assert!(keys > 50, "{keys}");
    fill_the_rest(&sim);
    (sim, server, client, keys)
}

#[test]
fn writes_are_refused_and_commands_that_free_memory_work() {
    let (sim, server, mut client, keys) = full();
    for line in ["SET key:0 y", "EXPIRE key:0 100", "PERSIST key:0", "RENAME key:0 new", "HSET doc:0 tag y"] {
        assert_refused(&mut client, line);
    }
    assert_integer(&mut client, "STRLEN key:1", VALUE_BYTES as i64);
    let told = info(&mut client);
    assert!(told.contains("log_writes:refused") && told.contains("aof_last_write_status:err"), "{told}");
    assert!(
        told.contains(
            "log_writes_refused_because:cannot prepare a log segment of 512 KiB in /data/shards/0/log"
        ),
        "{told}"
    );

    assert_integer(&mut client, "DEL key:0 key:1", 2);
    assert_integer(&mut client, "UNLINK key:2", 1);
    assert_integer(&mut client, "EXPIRE key:3 0", 1);
    assert_integer(&mut client, "PEXPIREAT key:4 1", 1);
    assert_integer(&mut client, "HDEL doc:0 other", 1);
    assert_eq!(ask(&mut client, "HEXPIRE doc:0 0 FIELDS 1 third"), Value::Array(vec![Value::Integer(2)]));
    assert!(matches!(ask(&mut client, "GETDEL key:5"), Value::Bulk(_)));
    assert_integer(&mut client, "EXISTS key:0 key:1 key:2 key:3 key:4 key:5 key:6", 1);
    assert_integer(&mut client, "DBSIZE", keys as i64 - 6 + 20);
    assert_eq!(ask(&mut client, "FT.DROPINDEX docs DD"), Value::SimpleString(b"OK".to_vec()));
    assert_integer(&mut client, "EXISTS doc:1 doc:2", 0);
    stop(server);

    // All of it is durable, and recovery succeeds on the same full disk.
    sim.disk.power_cut();
    fill_the_rest(&sim);
    let server = open(&sim);
    let mut client = connect(&server);
    assert_integer(&mut client, "DBSIZE", keys as i64 - 6);
    assert_eq!(ask(&mut client, "FLUSHALL"), Value::SimpleString(b"OK".to_vec()));
    assert_integer(&mut client, "DBSIZE", 0);
    stop(server);
}

#[test]
fn a_pipeline_and_a_transaction_are_judged_by_their_commands() {
    let (_sim, server, mut client, _) = full();
    for line in
        ["SET key:0 y", "DEL key:0", "SET key:1 y", "GET key:1", "DEL key:2", "DEL key:3", "SET key:4 y"]
    {
        client.send(&split_words(line));
    }
    let replies: Vec<Value> = (0..7).map(|_| client.receive()).collect();
    let refused: Vec<bool> = replies.iter().map(|reply| matches!(reply, Value::Error(_))).collect();
    assert_eq!(refused, [true, false, true, false, false, false, true], "{replies:?}");
    assert_eq!(replies[1], Value::Integer(1));

    let mut transaction = |lines: &[&str]| {
        for line in [&["MULTI"], lines].concat() {
            assert!(!matches!(ask(&mut client, line), Value::Error(_)), "{line}");
        }
        ask(&mut client, "EXEC")
    };
    let reply = transaction(&["DEL key:5", "EXISTS key:5", "EXPIRE key:6 -1"]);
    assert_eq!(reply, Value::Array([1, 0, 1].map(Value::Integer).to_vec()));
    assert_eq!(
        transaction(&["EXISTS key:6", "PING"]),
        Value::Array(vec![Value::Integer(0), Value::SimpleString(b"PONG".to_vec())])
    );
    let refused = error_of(transaction(&["DEL key:7", "SET key:8 y"]));
    assert!(refused.starts_with("MISCONF No room"), "{refused}");
    assert_integer(&mut client, "EXISTS key:7", 1);
    stop(server);
}

#[test]
fn writes_go_on_by_themselves_when_there_is_room() {
    let (sim, server, mut client, _) = full();
    assert_refused(&mut client, "SET key:0 y");
    sim.disk.set_capacity(None);
    while matches!(ask(&mut client, "SET key:0 y"), Value::Error(_)) {
        std::thread::yield_now();
    }
    let told = info(&mut client);
    assert!(told.contains("log_writes:ok") && told.contains("aof_last_write_status:ok"), "{told}");
    assert!(told.contains("log_writes_refused_because:\r\n"), "{told}");
    stop(server);
}

#[test]
fn a_server_without_room_for_a_claim_serves_reads_and_leaves_that_state_by_itself() {
    let (sim, mut server, mut client, keys) = full();
    let mut starts = 0;
    while !info(&mut client).contains("log_writes:read-only") {
        stop(server);
        fill_the_rest(&sim);
        server = open(&sim);
        client = connect(&server);
        starts += 1;
        assert_integer(&mut client, "DBSIZE", keys as i64 + 20);
    }
    assert!(starts > 8, "{starts}");
    assert!(info(&mut client).contains("aof_last_write_status:err"));
    for line in ["SET key:0 y", "DEL key:0", "FLUSHALL"] {
        let text = error_of(ask(&mut client, line));
        assert!(
            text.starts_with("MISCONF The server started read-only, because its disk has no room"),
            "{text}"
        );
    }
    assert_integer(&mut client, "STRLEN key:1", VALUE_BYTES as i64);
    ask(&mut client, "MULTI");
    ask(&mut client, "EXISTS key:0");
    assert_eq!(ask(&mut client, "EXEC"), Value::Array(vec![Value::Integer(1)]));
    stop(server);

    let server = open(&sim);
    let mut client = connect(&server);
    assert!(info(&mut client).contains("log_writes:read-only"));
    sim.disk.set_capacity(None);
    while matches!(ask(&mut client, "SET key:0 y"), Value::Error(_)) {
        std::thread::yield_now();
    }
    assert!(info(&mut client).contains("log_writes:ok"));
    stop(server);
    sim.disk.power_cut();
    let server = open(&sim);
    assert_integer(&mut connect(&server), "STRLEN key:0", 1);
    stop(server);
}

/// Writes until the log cannot grow, which happens before the first refusal.
fn fill_up_to_the_last_segment(sim: &SimEnv, server: &Server, client: &mut Client) {
    sim.disk.set_capacity(Some(sim.disk.used_bytes()));
    let value = "x".repeat(VALUE_BYTES);
    while server.engine().log().room().full.is_none() {
        let reply = ask(client, &format!("SET key {value}"));
        assert_eq!(reply, Value::SimpleString(b"OK".to_vec()));
    }
}

#[test]
fn info_shows_a_full_disk_before_the_first_refusal() {
    let sim = SimEnv::new(1);
    let server = open(&sim);
    let mut client = connect(&server);
    let told = info(&mut client);
    assert!(told.contains("log_disk_full_because:\r\n") && told.contains("log_room_left_bytes:-1"), "{told}");
    fill_up_to_the_last_segment(&sim, &server, &mut client);
    let told = info(&mut client);
    assert!(told.contains("log_writes:ok"), "{told}");
    assert!(told.contains("log_disk_full_because:cannot prepare a log segment of"), "{told}");
    let left = told.lines().find_map(|line| line.strip_prefix("log_room_left_bytes:"));
    let left: usize = left.and_then(|left| left.parse().ok()).expect("a number");
    // Two segments at most: the disk can be full while one is in use and one is prepared.
    assert!((VALUE_BYTES..1 << 20).contains(&left), "{left}");
    ask(&mut client, &format!("SET key {}", "x".repeat(VALUE_BYTES)));
    stop(server);
}

#[test]
fn memory_that_is_freed_on_a_full_disk_causes_a_snapshot() {
    let sim = SimEnv::new(1);
    let mut snapshots = None;
    let server = open_with(&sim, |engine| {
        let settings = SnapshotSettings {
            // It makes no snapshot; the test only sees that it was started.
            program: PathBuf::from("true"),
            available_memory_bytes: || None,
            ..SnapshotSettings::new(PathBuf::from("/data")).expect("this program has a path")
        };
        let started = BackgroundSnapshots::start(engine.clone(), settings).expect("a thread can start");
        snapshots.insert(Arc::new(started)).clone()
    });
    let snapshots = snapshots.expect("just started");
    let mut client = connect(&server);
    for number in 0..100 {
        ask(&mut client, &format!("SET key:{number} {}", "y".repeat(VALUE_BYTES)));
    }
    fill_up_to_the_last_segment(&sim, &server, &mut client);
    // It checks every two seconds, and must have seen the memory in use before the FLUSHALL.
    snapshots.look();
    ask(&mut client, "FLUSHALL");
    while snapshots.last_save_ms() == 0 {
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    assert!(info(&mut client).contains("log_writes:ok"), "no write was refused");
    stop(server);
}
