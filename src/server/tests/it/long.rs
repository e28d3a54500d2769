//! Long work keeps nobody waiting: it runs beside the worker, and its reply is written without a lock.

use crate::parking::{wait_for_clients, wait_for_parked};
use crate::support::{TestClient, TestServer};
use engramdb_engine::command::{
    Args, Command, CommandError, Finish, Job, Reply, Rest, Stage, WaitingJob, sliced, staged,
};
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::testing::{Schedule, TestLog};
use engramdb_engine::signal::Signal;
use engramdb_engine::store::view::View;
use engramdb_server::Config;
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::Duration;

const COMMANDS: &[Command] = &[
    sliced("TEST.COPY", "", copy),
    staged("TEST.COMPUTE", "", compute),
    staged("TEST.WAIT", "", wait),
    staged("TEST.WAITSHORTLY", "", wait_shortly),
];

/// What TEST.WAIT waits for.
static SIGNAL: LazyLock<Mutex<Arc<Signal>>> = LazyLock::new(Mutex::default);

/// How many writes of replies may go on.
static ALLOWED: Mutex<usize> = Mutex::new(0);
static CHANGED: Condvar = Condvar::new();

/// How many wait for that, or have.
static ARRIVED: Mutex<usize> = Mutex::new(0);
static ARRIVAL: Condvar = Condvar::new();
/// The tests that hold jobs share these counts.
static ALONE: Mutex<()> = Mutex::new(());

/// Holds all threads of the pool: more jobs than it has threads, of which two have arrived.
fn hold_pool(server: &TestServer) -> Vec<TestClient> {
    const THREADS: usize = 2;
    *ARRIVED.lock().expect("no test panics in it") = 0;
    let mut holding: Vec<TestClient> = (0..2 * THREADS).map(|_| server.client()).collect();
    holding.iter_mut().for_each(|client| client.send("*1\r\n$9\r\nTEST.COPY\r\n"));
    let arrived = ARRIVED.lock().expect("no test panics in it");
    drop(ARRIVAL.wait_while(arrived, |arrived| *arrived < THREADS).expect("the same"));
    holding
}

fn release_pool(holding: Vec<TestClient>) {
    holding.iter().for_each(|_| allow_one());
    holding.into_iter().for_each(|mut client| client.expect("$1\r\nx\r\n"));
}

fn allow_one() {
    *ALLOWED.lock().expect("no test panics in it") += 1;
    CHANGED.notify_all();
}

/// A job that looks at a key, and whose reply is written when the test allows it.
fn job() -> Job {
    Box::new(|looks| {
        let mut value = Vec::new();
        looks.look(&mut |view| {
            let string = view.string(b"seen").ok().flatten();
            value = string.map(|string| string.to_bytes().into_owned()).unwrap_or_default();
        });
        let finish: Finish = Box::new(move |_, _| {
            Ok(Rest::Write(Box::new(move |reply| {
                *ARRIVED.lock().expect("no test panics in it") += 1;
                ARRIVAL.notify_all();
                let allowed = ALLOWED.lock().expect("no test panics in it");
                let mut allowed = CHANGED.wait_while(allowed, |allowed| *allowed == 0).expect("the same");
                *allowed -= 1;
                reply.bulk(&value);
            })))
        });
        finish
    })
}

fn copy(_: &View<'_>, _: Args<'_>, _: &mut dyn Reply) -> Result<Stage, CommandError> {
    Ok(Stage::Copy(job()))
}

fn compute(_: &View<'_>, _: Args<'_>, _: &mut dyn Reply) -> Result<Stage, CommandError> {
    Ok(Stage::Offload(job()))
}

fn wait(_: &View<'_>, _: Args<'_>, _: &mut dyn Reply) -> Result<Stage, CommandError> {
    let signal = SIGNAL.lock().expect("no test panics in it").clone();
    Ok(Stage::Wait(WaitingJob { signal, at_most: None, job: job() }))
}

/// As `wait`, but no longer than a moment.
fn wait_shortly(_: &View<'_>, _: Args<'_>, _: &mut dyn Reply) -> Result<Stage, CommandError> {
    let signal = SIGNAL.lock().expect("no test panics in it").clone();
    Ok(Stage::Wait(WaitingJob { signal, at_most: Some(Duration::from_millis(1)), job: job() }))
}

/// A signal of the test's own, which the commands that come from now on wait for.
fn new_signal() -> Arc<Signal> {
    let signal = Arc::<Signal>::default();
    *SIGNAL.lock().expect("no test panics in it") = signal.clone();
    signal
}

#[test]
fn while_a_long_reply_is_written_others_read_and_write() {
    let _alone = ALONE.lock();
    let server = TestServer::with_commands(COMMANDS);
    new_signal().give();
    for (number, command) in ["TEST.COPY", "TEST.COMPUTE", "TEST.WAIT"].into_iter().enumerate() {
        let mut asking = server.client();
        // In one pipeline: the long command comes among writes, and the replies in order.
        let set = format!("*3\r\n$3\r\nSET\r\n$4\r\nseen\r\n$1\r\n{number}\r\n");
        let get = "*2\r\n$3\r\nGET\r\n$4\r\nseen\r\n";
        asking.send(format!("{set}*1\r\n${}\r\n{command}\r\n{get}", command.len()));
        asking.expect("+OK\r\n");
        let mut other = server.client();
        other.call("SET other 1", "+OK\r\n");
        other.call("GET other", "$1\r\n1\r\n");
        other.call("GET seen", &format!("$1\r\n{number}\r\n"));
        allow_one();
        asking.expect(format!("$1\r\n{number}\r\n$1\r\n{number}\r\n"));
    }
}

/// Commands that wait hold neither a thread nor a place in the pool; when they go on, the pool's bound holds
/// for them too.
#[test]
fn however_many_wait_the_pool_serves_others_and_its_bound_holds() {
    const WAITING: usize = 100;
    let _alone = ALONE.lock();
    let (signal, one_thread) = (new_signal(), |config: &mut Config| config.search_threads = 1);
    let server = TestServer::with_commands_and(COMMANDS, one_thread);
    let mut waiting: Vec<TestClient> = (0..WAITING).map(|_| server.client()).collect();
    waiting.iter_mut().for_each(|client| client.command("TEST.WAIT"));
    while signal.waiting() < WAITING {
        std::thread::yield_now();
    }
    *ARRIVED.lock().expect("no test panics in it") = 0;
    let mut other = server.client();
    allow_one();
    other.call("TEST.COMPUTE", "$0\r\n\r\n");
    // One that waits no longer than a moment.
    allow_one();
    other.call("TEST.WAITSHORTLY", "$0\r\n\r\n");
    assert_eq!(signal.waiting(), WAITING);
    wait_for_parked(&server, WAITING);
    signal.give();
    wait_for_parked(&server, 0);
    for number in 1..=WAITING {
        // The one that runs is held until it is allowed to go on. There is never a second one.
        let arrived = ARRIVED.lock().expect("no test panics in it");
        let arrived = ARRIVAL.wait_while(arrived, |arrived| *arrived < 2 + number).expect("the same");
        assert_eq!(*arrived, 2 + number, "jobs run at a time");
        drop(arrived);
        allow_one();
    }
    waiting.iter_mut().for_each(|client| client.expect("$0\r\n\r\n"));
}

/// A search that waits for a backfill can wait for minutes.
#[test]
fn a_client_that_closes_while_its_command_waits_for_a_signal_is_gone() {
    let _alone = ALONE.lock();
    let signal = new_signal();
    let server = TestServer::with_commands(COMMANDS);
    let mut waiting = server.client();
    // What comes behind it is kept.
    waiting.send("TEST.WAIT\r\nPING\r\n");
    wait_for_parked(&server, 1);
    waiting.send("PING\r\n");
    drop(waiting);
    wait_for_parked(&server, 0);
    assert_eq!(signal.waiting(), 0);
    let mut other = server.client();
    other.command("TEST.WAIT");
    wait_for_parked(&server, 1);
    other.send("PING\r\nPING\r\n");
    allow_one();
    signal.give();
    other.expect("$0\r\n\r\n+PONG\r\n+PONG\r\n");
}

#[test]
fn the_job_of_a_client_that_has_closed_does_not_begin() {
    let _alone = ALONE.lock();
    let server = TestServer::with_commands_and(COMMANDS, |config: &mut Config| config.search_threads = 1);
    *ARRIVED.lock().expect("no test panics in it") = 0;
    let (mut first, mut closed, mut last) = (server.client(), server.client(), server.client());
    first.command("TEST.COMPUTE");
    let arrived = ARRIVED.lock().expect("no test panics in it");
    drop(ARRIVAL.wait_while(arrived, |arrived| *arrived == 0).expect("the same"));
    closed.send("TEST.COMPUTE\r\nPING\r\n");
    closed.expect_silence();
    drop(closed);
    // With the one that asks.
    wait_for_clients(&server, "connected_clients:3");
    last.command("TEST.COMPUTE");
    allow_one();
    first.expect("$0\r\n\r\n");
    allow_one();
    last.expect("$0\r\n\r\n");
    assert_eq!(*ARRIVED.lock().expect("no test panics in it"), 2);
}

/// A hash of 5,000 fields, which is copied in slices.
fn store_large_hash(client: &mut TestClient, key: &str) {
    let pairs: String = (0..5000).map(|number| format!("$5\r\nf{number:04}\r\n$1\r\nv\r\n")).collect();
    client.send(format!("*10002\r\n$4\r\nHSET\r\n${}\r\n{key}\r\n{pairs}", key.len()));
    client.expect(":5000\r\n");
}

#[test]
fn while_a_hash_is_copied_others_read_and_write_even_that_hash() {
    let _alone = ALONE.lock();
    let server = TestServer::with_commands(COMMANDS);
    let mut copying = server.client();
    store_large_hash(&mut copying, "hash");
    copying.call("SET seen x", "+OK\r\n");
    let holding = hold_pool(&server);
    let get = "*2\r\n$3\r\nGET\r\n$5\r\nother\r\n";
    copying.send(format!("*3\r\n$4\r\nCOPY\r\n$4\r\nhash\r\n$4\r\ncopy\r\n{get}"));
    let mut other = server.client();
    other.call("SET other 1", "+OK\r\n");
    other.call("GET other", "$1\r\n1\r\n");
    other.call("HSET hash new 1", ":1\r\n");
    other.call("EXISTS copy", ":0\r\n");
    release_pool(holding);
    copying.expect(":1\r\n$1\r\n1\r\n");
    other.call("HLEN copy", ":5001\r\n");
    // In a transaction it is copied where it is, and the replies of a client that wants none are left out in
    // both.
    other.call("MULTI", "+OK\r\n");
    other.call("COPY hash second", "+QUEUED\r\n");
    other.call("EXEC", "*1\r\n:1\r\n");
    other.send("CLIENT REPLY SKIP\r\nCOPY hash third\r\nHLEN third\r\n");
    other.expect(":5001\r\n");
    other.command("INFO commandstats");
    while !other.line().starts_with("cmdstat_copy:calls=3,") {}
}

#[test]
fn large_values_are_sent_as_they_were_when_they_were_read() {
    let server = TestServer::start();
    let (mut reading, mut writing) = (server.client(), server.client());
    let value = "x".repeat(3 << 20);
    writing.send(format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${}\r\n{value}\r\n", value.len()));
    writing.expect("+OK\r\n");
    // More than the sockets take: most of it is in the server when the value changes.
    let get = "*2\r\n$3\r\nGET\r\n$5\r\nlarge\r\n".repeat(4);
    let exec = "*1\r\n$5\r\nMULTI\r\n".to_owned() + &get + "*1\r\n$4\r\nEXEC\r\n";
    reading.send(exec);
    reading.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n");
    writing.call("SETRANGE large 1 yyy", &format!(":{}\r\n", value.len()));
    writing.call("GETRANGE large 0 4", "$5\r\nxyyyx\r\n");
    for _ in 0..4 {
        reading.expect(format!("${}\r\n{value}\r\n", value.len()));
    }
}

/// Requests whose large words are copied elsewhere, cut at each place where that can matter: they do what the
/// same do with small words, in order, with and without MULTI.
#[test]
fn large_words_are_stored_in_order_however_they_arrive() {
    let server = TestServer::start();
    let mut client = server.client();
    let large: Vec<String> = ["a", "b", "c"].map(|letter| letter.repeat(3 << 20)).to_vec();
    let request = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{}", words.len(), words.concat())
    };
    let half = "h".repeat(700_000);
    let pipeline = [
        request(&["SET", "first", &large[0]]),
        request(&["GET", "first"]),
        request(&["MSET", "second", &large[1], "small", "s", "third", &half, "fourth", &half]),
        request(&["HSET", "hash", "f", &large[2], "g", "small", &large[1][..70_000], &half]),
        request(&["MULTI"]),
        request(&["SET", "first", &large[2]]),
        request(&["APPEND", "first", &large[0]]),
        request(&["EXEC"]),
        request(&["SET", "first", "x", "NX"]),
        request(&["APPEND", "second", &large[0]]),
        request(&["HGET", "hash", "f"]),
        request(&["SET", "hash", &large[0], "nonsense"]),
        request(&["STRLEN", "first"]),
    ];
    let get = |content: &str| format!("${}\r\n{content}\r\n", content.len());
    let replies = [
        "+OK\r\n",
        &get(&large[0]),
        "+OK\r\n:3\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n:6291456\r\n$-1\r\n:6291456\r\n",
        &get(&large[2]),
        "-ERR syntax error\r\n:6291456\r\n",
    ]
    .concat();
    let bytes = pipeline.concat();
    for round in 0..3 {
        client.call("FLUSHALL", "+OK\r\n");
        std::thread::scope(|scope| {
            let mut sender = client.stream.try_clone().expect("a socket");
            let (bytes, pipeline) = (&bytes, &pipeline);
            scope.spawn(move || match round {
                0 => std::io::Write::write_all(&mut sender, bytes.as_bytes()).expect("the server reads"),
                1 => pipeline.iter().for_each(|request| {
                    std::io::Write::write_all(&mut sender, request.as_bytes()).expect("the server reads");
                }),
                _ => bytes.as_bytes().chunks(1_000_003).for_each(|chunk| {
                    std::io::Write::write_all(&mut sender, chunk).expect("the server reads");
                }),
            });
            client.expect(&replies);
        });
        client.call("GET second", &get(&(large[1].clone() + &large[0])));
        client.call("GET third", &get(&half));
        client.call("GET first", &get(&(large[2].clone() + &large[0])));
        client.call("HLEN hash", ":3\r\n");
    }
}

/// Two long copies of others have the threads for those.
#[test]
fn a_large_value_is_stored_while_long_copies_are_made() {
    let _alone = ALONE.lock();
    let server = TestServer::with_commands(COMMANDS);
    let (mut storing, mut other) = (server.client(), server.client());
    other.call("SET seen x", "+OK\r\n");
    let holding = hold_pool(&server);
    // So large that its buffer is made larger by another thread as well.
    let value = "v".repeat(5 << 20);
    storing.send(format!("*3\r\n$3\r\nSET\r\n$5\r\nlarge\r\n${}\r\n{value}\r\n", value.len()));
    storing.send("*2\r\n$6\r\nSTRLEN\r\n$5\r\nlarge\r\n");
    storing.expect(format!("+OK\r\n:{}\r\n", value.len()));
    other.call("STRLEN large", &format!(":{}\r\n", value.len()));
    release_pool(holding);
}

fn bulk(client: &mut TestClient) -> String {
    let length: usize = client.line()[1..].parse().expect("a length");
    let mut text = String::new();
    while text.len() < length + 2 {
        text += &client.line();
        text += "\r\n";
    }
    text
}

/// Asks again until the reply is as it should be.
fn until(client: &mut TestClient, command: &str, is_right: impl Fn(&str) -> bool) {
    const ATTEMPTS: usize = 10_000;
    let mut reply = String::new();
    for _ in 0..ATTEMPTS {
        client.command(command);
        reply = bulk(client);
        if is_right(&reply) {
            return;
        }
    }
    panic!("{command}: {reply}");
}

/// While the log is behind, copies that are made wait with their commands, as many as there are clients.
#[test]
fn a_copy_that_waits_for_room_in_the_log_counts_as_memory_of_its_client() {
    let _alone = ALONE.lock();
    let log = TestLog::new(Schedule::AtOnce).with_usual_time(Duration::from_secs(1));
    let options = Options { buffer_bytes_max: 256 << 10, ..Options::default() };
    let server = TestServer::of(Arc::new(log.clone()), |config| config.threads = 1, options, &[COMMANDS]);
    let [mut copying, mut filling, mut asking] = [(); 3].map(|()| server.client());
    store_large_hash(&mut copying, "hash");
    copying.call("SET seen x", "+OK\r\n");
    copying.call("CLIENT SETNAME copying", "+OK\r\n");
    let holding = hold_pool(&server);
    // In one pipeline, and one worker: once another client has a reply, the copy has begun.
    copying.send("SET first 1\r\nCOPY hash copy\r\n");
    copying.expect("+OK\r\n");
    asking.call("PING", "+PONG\r\n");
    log.stall();
    filling.command("SET hangs 1");
    log.waiting_thread();
    filling.command(&format!("SET fills {}", "f".repeat(300 << 10)));
    until(&mut asking, "INFO keyspace", |info| info.contains("db0:keys=5,"));
    release_pool(holding);
    let total = |line: &str| line.split("tot-mem=").nth(1)?.split(' ').next()?.parse::<usize>().ok();
    until(&mut asking, "CLIENT LIST", |list| {
        let line = list.lines().find(|line| line.contains("name=copying"));
        line.and_then(total).expect("it is listed") > 400_000
    });
    log.go_on();
    filling.expect("+OK\r\n+OK\r\n");
    copying.expect(":1\r\n");
    copying.call("HLEN copy", ":5000\r\n");
}
