//! Writes that come back to be prepared: nothing that was made for one is used for another, and of several
//! writers of a key one at a time has its document read.

use crate::support::{TestClient, TestServer};
use engramdb_engine::command::{Args, Command, Outcome, Reply, flag, write};
use engramdb_engine::effect::Effect;
use engramdb_engine::env::Env;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::{LogId, ShardLog};
use engramdb_engine::module::Upcoming;
use engramdb_engine::store::tx::Tx;
use engramdb_engine::{Foreseen, Foresight, MadeOfWords};
use engramdb_testkit::run::open_engine;
use std::sync::{Arc, Condvar, Mutex};

const COMMANDS: &[Command] = &[
    write("TEST.MAKE", "key value", make).flags(flag::DENY_OOM),
    write("TEST.MAKEFREE", "key value", make),
    write("TEST.READ", "key value", read),
    write("TEST.SET", "key value", set),
    write("TEST.FAIL", "key value", fail),
];

/// What has happened in the commands of the test that runs.
#[derive(Default)]
struct Seen {
    /// How often a command has run, those runs included that came back.
    runs: usize,
    /// Preparations that have begun, that are under way, and the most of these at a time.
    begun: usize,
    running: usize,
    most: usize,
    /// Preparations may end.
    is_open: bool,
}

static SEEN: Mutex<Option<Seen>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();
static ALONE: Mutex<()> = Mutex::new(());

fn with<R>(change: impl FnOnce(&mut Seen) -> R) -> R {
    let result = change(SEEN.lock().expect("no test panics in it").get_or_insert_default());
    CHANGED.notify_all();
    result
}

fn wait_until(is_so: impl Fn(&Seen) -> bool) {
    let seen = SEEN.lock().expect("no test panics in it");
    drop(CHANGED.wait_while(seen, |seen| !is_so(seen.get_or_insert_default())).expect("the same"));
}

/// A preparation, which the test holds.
fn prepare() {
    with(|seen| {
        seen.begun += 1;
        seen.running += 1;
        seen.most = seen.most.max(seen.running);
    });
    wait_until(|seen| seen.is_open);
    with(|seen| seen.running -= 1);
}

fn make(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    with(|seen| seen.runs += 1);
    let made = tx.made_of(&[args[2]], |words| {
        prepare();
        MadeOfWords { heap_bytes: words[0].len(), value: Box::new(words[0].clone()) }
    });
    let Some(made) = made else { return Ok(()) };
    let value = made.value.downcast::<Arc<Vec<u8>>>().expect("made above");
    tx.apply(Effect::StringSet { key: args[1], value: &value, expires_at_ms: 0 });
    reply.ok();
    Ok(())
}

fn read(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    with(|seen| seen.runs += 1);
    let effect = Effect::StringAppend { key: args[1], suffix: args[2] };
    let foreseen = tx.foresee(&effect, Foresight { object: true }, |_| {
        Box::new(|| {
            prepare();
            Upcoming::Fields(Vec::new())
        })
    });
    if let Foreseen::Ready(_) = foreseen {
        tx.apply(effect);
        reply.ok();
    }
    Ok(())
}

fn set(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    tx.apply(Effect::StringSet { key: args[1], value: args[2], expires_at_ms: 0 });
    reply.ok();
    Ok(())
}

fn fail(tx: &mut Tx<'_>, args: Args<'_>, _reply: &mut dyn Reply) -> Outcome {
    with(|seen| seen.runs += 1);
    _ = tx.made_of(&[args[2]], |_| panic!("the test wants it so"));
    Ok(())
}

fn request(words: &[&str]) -> String {
    let bulks: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*{}\r\n{bulks}", words.len())
}

#[test]
fn what_was_made_for_a_request_that_is_refused_is_not_used_for_the_next_one() {
    let _alone = ALONE.lock();
    with(|seen| *seen = Seen::default());
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([9; 16])));
    let server = TestServer::of(log.clone(), |config| config.threads = 1, Options::default(), &[COMMANDS]);
    let (mut client, mut other) = (server.client(), server.client());
    client.send(request(&["TEST.MAKE", "k", "first"]) + &request(&["TEST.MAKEFREE", "k", "second"]));
    wait_until(|seen| seen.begun == 1);
    other.call("CONFIG SET maxmemory 1", "+OK\r\n");
    loop {
        // The memory is measured now and then.
        other.command("SET other 1");
        if other.line().starts_with("-OOM") {
            break;
        }
    }
    with(|seen| seen.is_open = true);
    assert!(client.line().starts_with("-OOM"));
    client.expect("+OK\r\n");
    wait_until(|seen| seen.begun == 2);
    client.call("GET k", "$6\r\nsecond\r\n");
    drop((client, other, server));
    let (engine, _) = open_engine(&Env::system(), log, 16, Vec::new(), Options::default());
    let run = engine.inspect();
    let value = run.view(0).string(b"k").expect("a string").map(|value| value.to_bytes().into_owned());
    assert_eq!(value.as_deref(), Some(&b"second"[..]));
}

#[test]
fn of_several_writers_of_a_key_one_at_a_time_prepares_its_write() {
    const CLIENTS: usize = 6;
    let _alone = ALONE.lock();
    with(|seen| *seen = Seen::default());
    let server = TestServer::with_commands(COMMANDS);
    let mut clients: Vec<TestClient> = (0..CLIENTS).map(|_| server.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(request(&["TEST.READ", "key", &number.to_string()]));
        wait_until(|seen| seen.runs == number + 1);
    }
    // Another key's writer does not wait.
    let mut other = server.client();
    other.send(request(&["TEST.READ", "other", "x"]));
    wait_until(|seen| seen.begun == 2);
    with(|seen| seen.is_open = true);
    clients.iter_mut().for_each(|client| client.expect("+OK\r\n"));
    other.expect("+OK\r\n");
    // The turns are those of the order in which they came.
    other.call("GET key", "$6\r\n012345\r\n");
    let (begun, most) = with(|seen| (seen.begun, seen.most));
    assert_eq!((begun, most), (CLIENTS + 1, 2), "one for each writer, and two at a time for two keys");
}

#[test]
fn readings_do_not_hold_up_copies() {
    const CLIENTS: usize = 5;
    let _alone = ALONE.lock();
    with(|seen| *seen = Seen::default());
    let server = TestServer::with_commands(COMMANDS);
    let mut other = server.client();
    let fields: String = (0..3_000).map(|number| format!(" f{number} v")).collect();
    other.call(&format!("HSET hash{fields}"), ":3000\r\n");
    let mut clients: Vec<TestClient> = (0..CLIENTS).map(|_| server.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(request(&["TEST.READ", &format!("key{number}"), "x"]));
    }
    wait_until(|seen| seen.running == 2);
    other.call("COPY hash copy", ":1\r\n");
    with(|seen| seen.is_open = true);
    clients.iter_mut().for_each(|client| client.expect("+OK\r\n"));
}

/// A client that sends many commands at once comes back for each one after those in front of it are done.
#[test]
fn writers_that_send_pipelines_take_turns_too() {
    const COMMANDS_EACH: usize = 8;
    let _alone = ALONE.lock();
    with(|seen| *seen = Seen::default());
    let server = TestServer::with_commands(COMMANDS);
    let mut clients = [server.client(), server.client()];
    for client in &mut clients {
        let runs = with(|seen| seen.runs);
        let line = request(&["TEST.SET", "x", "1"]) + &request(&["TEST.READ", "key", "v"]);
        client.send(line.repeat(COMMANDS_EACH));
        wait_until(|seen| seen.runs > runs);
    }
    with(|seen| seen.is_open = true);
    for client in &mut clients {
        client.expect("+OK\r\n+OK\r\n".repeat(COMMANDS_EACH));
    }
    let (begun, most) = with(|seen| (seen.begun, seen.most));
    assert_eq!((begun, most), (2 * COMMANDS_EACH, 1), "no reading was made void");
    clients[0].call("STRLEN key", &format!(":{}\r\n", 2 * COMMANDS_EACH));
}

#[test]
fn a_preparation_that_fails_has_one_reply_and_ends_the_connection() {
    let _alone = ALONE.lock();
    with(|seen| *seen = Seen::default());
    let server = TestServer::with_commands(COMMANDS);
    let (mut failing, mut other) = (server.client(), server.client());
    failing.send(request(&["TEST.FAIL", "k", "v"]) + &request(&["TEST.SET", "k", "v"]));
    assert!(failing.line().starts_with("-ERR the command failed"));
    assert_eq!(failing.rest(), "");
    other.call("EXISTS k", ":0\r\n");
    assert_eq!(with(|seen| seen.runs), 1);
}
