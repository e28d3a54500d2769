//! A store that follows the log of another: it answers while that writes, and becomes the leader as it is.
//!
//! That its state is the leader's after each batch is checked by every test that runs on an `Instance`: the
//! golden scripts, the properties and the sequences, whose reads it answers as well.

use crate::served::vector_word;
use engramdb_engine::Engine;
use engramdb_engine::command::{Args, CommandTable, Stage};
use engramdb_engine::commands::FAMILIES;
use engramdb_engine::env::Env;
use engramdb_engine::log::local::{LocalLog, LocalOptions};
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::replay::Recovered;
use engramdb_engine::log::{LogId, ShardLog, Wait};
use engramdb_engine::module::Module;
use engramdb_engine::recovery::Recovering;
use engramdb_engine::shard::follow::FollowerStep;
use engramdb_resp::Protocol;
use engramdb_search::{SearchModule, SearchOptions};
use engramdb_server::{Config, Hooks, NoSnapshots, Server};
use engramdb_sim::env::SimEnv;
use engramdb_testkit::TempDir;
use engramdb_testkit::blocking;
use engramdb_testkit::instance::START_MS;
use engramdb_testkit::run::{begin, open_engine};
use engramdb_testkit::tcp::Client;
use engramdb_testkit::wire::Wire;
use engramdb_testkit::words::split_words;
use std::sync::Arc;

/// Documents: more than wait beside a graph, so that nodes are inserted.
const DOCUMENTS: usize = 3000;

fn modules(env: &Env) -> Vec<Box<dyn Module>> {
    let options = SearchOptions { directory: None, env: env.clone(), offline: false, threads: 1 };
    vec![Box::new(SearchModule::new(options))]
}

fn leader(env: &Env, log: &Arc<dyn ShardLog>) -> Engine {
    open_engine(env, log.clone(), 16, modules(env), Options::default()).0
}

/// A follower that has read nothing yet.
fn follower(env: &Env, log: &Arc<dyn ShardLog>) -> Engine {
    Recovering::new(env.clone(), 16, modules(env)).follow(log.clone(), &Recovered::default()).0
}

fn catch_up(follower: &Engine) {
    loop {
        match follower.follow(Wait::No).expect("the log is whole") {
            FollowerStep::Applied => {}
            // A worker inserts meanwhile.
            FollowerStep::Overloaded => std::thread::yield_now(),
            _ => return,
        }
    }
}

fn run(engine: &Engine, line: &str) -> String {
    let table = CommandTable::new(FAMILIES.iter().chain(&[engramdb_search::COMMANDS]).copied());
    let words = split_words(line);
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let args = Args::new(&words);
    let known = table.resolve(args).expect("a known command");
    let mut wire = Wire::new(Protocol::Resp2);
    while engine.is_overloaded() {
        std::thread::yield_now();
    }
    let ran = begin(engine, 0, known.command, args, &mut wire);
    let gate = match ran.stage {
        Stage::Wait(wait) => ran.gate.max(engine.complete(0, wait.block(), &mut wire)),
        Stage::Run(job) | Stage::Offload(job) | Stage::Copy(job) => {
            ran.gate.max(engine.complete(0, job, &mut wire))
        }
        _ => ran.gate,
    };
    if let Some(log) = engine.writer() {
        log.wait(gate).expect("the log does not fail");
    }
    assert!(gate <= engine.durable());
    format!("{:?}", wire.value())
}

fn near(x: f32) -> String {
    format!("FT.SEARCH i \"(@c:{{red}})=>[KNN 3 @v $q]\" PARAMS 2 q {} NOCONTENT", vector_word(&[x, 1.0]))
}

fn document(number: usize) -> String {
    let colour = if number.is_multiple_of(3) { "blue" } else { "red" };
    format!("HSET d:{number} c {colour} n {number} v {}", vector_word(&[number as f32, 1.0]))
}

fn questions() -> Vec<String> {
    let mut lines: Vec<String> = [0.4, 17.0, 1500.2, 2999.0].map(near).into();
    lines.extend(
        ["FT.SEARCH i @n:[10 20] NOCONTENT LIMIT 0 50 SORTBY n", "FT.SEARCH i @c:{blue} LIMIT 0 0"]
            .map(String::from),
    );
    lines.extend(["HGETALL d:77", "GET plain", "DBSIZE", "FT._LIST"].map(String::from));
    lines
}

fn answers_alike(leader: &Engine, follower: &Engine) {
    for line in questions() {
        assert_eq!(run(follower, &line), run(leader, &line), "{line}");
    }
}

/// How often the index was searched, since it was made.
fn uses(engine: &Engine) -> usize {
    let info = run(engine, "FT.INFO i");
    let (_, rest) = info.split_once("\"number_of_uses\", ").expect("FT.INFO counts them");
    let digits: String = rest.chars().filter(|c| *c != '"').take_while(char::is_ascii_digit).collect();
    digits.parse().expect("a number")
}

/// A leader, and a follower that has followed it live.
fn follows(log: &Arc<dyn ShardLog>) -> (Engine, Engine) {
    let env = Env::system();
    let first = leader(&env, log);
    let second = follower(&env, log);
    catch_up(&second);
    run(&first, "SET plain 1");
    run(
        &first,
        "FT.CREATE i PREFIX 1 d: SCHEMA c TAG n NUMERIC v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2",
    );
    for number in 0..DOCUMENTS {
        run(&first, &document(number));
        if number.is_multiple_of(500) {
            catch_up(&second);
            answers_alike(&first, &second);
        }
    }
    for number in (0..DOCUMENTS).step_by(2) {
        run(&first, &format!("DEL d:{number}"));
    }
    run(&first, "HSET d:77 c blue");
    run(&first, "RENAME d:79 d:renamed");
    run(&first, "FT.CREATE gone SCHEMA n NUMERIC");
    run(&first, "FT.DROPINDEX gone");
    catch_up(&second);
    answers_alike(&first, &second);
    (first, second)
}

fn follows_and_takes_over(log: &Arc<dyn ShardLog>) {
    let (first, second) = follows(log);
    let before = uses(&second);
    assert!(before > 0);
    let expected: Vec<String> = questions().iter().map(|line| run(&second, line)).collect();

    second.lead(Options::default()).expect("nothing else is written");
    let found: Vec<String> = questions().iter().map(|line| run(&second, line)).collect();
    assert_eq!(found, expected);
    assert!(uses(&second) > before, "the index is the one that it was: it was not loaded again");
    run(&second, "HSET d:new c red n 15 v \"\\x00\\x00\\x00\\x40\\x00\\x00\\x80\\x3f\"");
    let found = run(&second, &near(2.0));
    assert!(found.contains("d:new"), "{found}");
    let expected: Vec<String> = questions().iter().map(|line| run(&second, line)).collect();
    second.close().expect("the log does not fail");
    drop((first, second));
    let again = leader(&Env::system(), log);
    let found: Vec<String> = questions().iter().map(|line| run(&again, line)).collect();
    assert_eq!(found, expected, "what was written since is in the log");
}

#[test]
fn a_search_index_is_followed_over_a_log_in_memory() {
    follows_and_takes_over(&(Arc::new(MemoryLog::new(LogId([5; 16]))) as Arc<dyn ShardLog>));
}

#[test]
fn a_search_index_is_followed_over_a_local_log() {
    let directory = TempDir::new("following");
    let log = LocalLog::open(Env::system(), directory.path(), LocalOptions::default()).expect("a new log");
    follows_and_takes_over(&(Arc::new(log) as Arc<dyn ShardLog>));
}

#[test]
fn time_on_a_follower_is_the_later_of_its_own_and_the_logs() {
    const HOUR_MS: u64 = 3_600_000;
    for wall_ms in [START_MS - HOUR_MS, START_MS, START_MS + HOUR_MS] {
        let (here, there) = (SimEnv::new(1), SimEnv::new(2));
        here.clock.set_wall_ms(START_MS);
        there.clock.set_wall_ms(wall_ms);
        let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([5; 16])));
        let first = open_engine(&here.env, log.clone(), 16, Vec::new(), Options::default()).0;
        let recovering = Recovering::new(there.env.clone(), 16, Vec::new());
        let second = recovering.follow(log.clone(), &Recovered::default()).0;
        run(&first, "SET a 1 PX 1000");
        catch_up(&second);
        assert_eq!(run(&second, "EXISTS a"), if wall_ms > START_MS { "0" } else { "1" }, "{wall_ms}");
        // The leader's time passes, and is logged; the follower's own clock is stopped.
        here.clock.advance_ms(2000);
        run(&first, "SET b 1");
        catch_up(&second);
        assert_eq!(run(&second, "EXISTS a"), "0", "{wall_ms}");
        assert_eq!(run(&second, "DBSIZE"), "2", "it reads as absent, and is not deleted");
        assert_eq!(second.now_ms(), (START_MS + 2000).max(wall_ms));
        assert_eq!(second.last_lsn(), first.last_lsn());
        // The follower's own time passes where the log says nothing.
        run(&first, "SET c 1 PX 1000");
        catch_up(&second);
        there.clock.advance_ms(2 * HOUR_MS);
        assert_eq!(run(&second, "EXISTS c"), "0", "{wall_ms}");
        second.lead(Options::default()).expect("nothing else is written");
        assert_eq!(run(&second, "EXISTS c"), "0", "{wall_ms}: a leader's time goes on from there");
    }
}

fn serve(engine: &Arc<Engine>) -> Server {
    let config = Config { port: 0, threads: 1, active_expiry: true, ..Config::default() };
    let hooks = Hooks { signals: false, ..Hooks::new(Arc::new(NoSnapshots)) };
    Server::start(config, engine.clone(), &[engramdb_search::COMMANDS, blocking::COMMANDS], hooks)
        .expect("a free port")
}

#[test]
fn a_client_of_a_follower_waits_for_keys_if_it_only_reads() {
    let env = Env::system();
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([5; 16])));
    let first = leader(&env, &log);
    let second = Arc::new(follower(&env, &log));
    catch_up(&second);
    let server = serve(&second);
    let address = server.addresses()[0].to_string();
    let mut clients = [(); 2].map(|()| Client::connect(&address, Protocol::Resp2));
    let read_only = "-\"READONLY You can\\'t write against a read only replica.\"";
    assert_eq!(format!("{:?}", clients[0].run(&split_words("TEST.TAKE h 0"))), read_only);
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&split_words("TEST.PEEK other h 0"));
        while second.parked() <= number {
            std::thread::yield_now();
        }
    }
    run(&first, "SET h 1");
    catch_up(&second);
    assert_eq!(second.parked(), 2, "a string is not what they wait for");
    run(&first, "DEL h");
    run(&first, "HSET h a 1 b 1");
    catch_up(&second);
    for client in &mut clients {
        assert_eq!(format!("{:?}", client.receive()), "[\"h\", \"a\"]");
    }
    assert_eq!((second.parked(), run(&second, "HLEN h")), (0, "2".to_owned()));
    server.stop();
    server.wait().expect("a clean stop");
}

#[test]
fn a_served_follower_refuses_writes_until_it_leads() {
    let env = Env::system();
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([5; 16])));
    let first = leader(&env, &log);
    run(&first, "SET a 1");
    let second = Arc::new(follower(&env, &log));
    let server = serve(&second);
    let mut client = Client::connect(&server.addresses()[0].to_string(), Protocol::Resp2);
    let mut ask = |line: &str| format!("{:?}", client.run(&split_words(line)));
    let loading = "-\"LOADING Redis is loading the dataset in memory\"";
    let read_only = "-\"READONLY You can\\'t write against a read only replica.\"";
    assert_eq!(ask("GET a"), loading);
    catch_up(&second);
    assert_eq!(ask("GET a"), "\"1\"");
    assert_eq!(ask("SET a 2"), read_only);
    assert_eq!(ask("DEL absent"), read_only);
    assert_eq!(ask("FT.CREATE i SCHEMA n NUMERIC"), read_only);
    assert_eq!(ask("SET a"), "-\"ERR wrong number of arguments for \\'set\\' command\"");
    ask("MULTI");
    assert_eq!(ask("GET a"), "+\"QUEUED\"");
    assert_eq!(ask("SET a 2"), read_only);
    assert_eq!(ask("EXEC"), "-\"EXECABORT Transaction discarded because of previous errors.\"");
    ask("MULTI");
    ask("GET a");
    assert_eq!(ask("EXEC"), "[\"1\"]");
    assert!(ask("ROLE").starts_with("[\"slave\", \"\", 0, \"connected\", "), "{}", ask("ROLE"));
    assert!(ask("HELLO").contains("\"role\", \"replica\""), "{}", ask("HELLO"));
    let info = ask("INFO replication");
    assert!(info.contains("role:slave") && info.contains("log_role:following"), "{info}");
    assert!(ask("INFO persistence").contains("log_writes:another-node"));

    second.lead(Options::default()).expect("nothing else is written");
    assert_eq!(ask("SET a 2"), "+\"OK\"");
    assert_eq!(ask("GET a"), "\"2\"");
    assert!(ask("ROLE").starts_with("[\"master\", "));
    assert!(ask("HELLO").contains("\"role\", \"master\""), "{}", ask("HELLO"));
    assert!(ask("INFO replication").contains("role:master"));
    server.stop();
    server.wait().expect("a clean stop");
}
