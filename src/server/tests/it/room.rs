//! Commands whose words do not tell how much they log: they wait for room in the log without holding anybody
//! up.

use crate::support::TestServer;
use engramdb_engine::command::{
    Args, Awaited, BlockingStage, Command, CommandError, Outcome, Park, Reply, blocking, write,
};
use engramdb_engine::effect::{Cause, Effect};
use engramdb_engine::keyspace::Entry;
use engramdb_engine::log::LogId;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::testing::{Schedule, TestLog};
use engramdb_engine::store::tx::Tx;
use engramdb_engine::store::view::View;
use std::sync::Arc;

/// TEST.CLEAR deletes all keys of the database, each by an effect of its own. TEST.CLEARANY key waits for the
/// key where there is none.
const COMMANDS: &[Command] = &[
    write("TEST.CLEAR", "", clear).room(room_to_clear),
    blocking("TEST.CLEARANY", "key", clear_any).room(room_to_clear),
];

static IS_THERE: Awaited = Awaited {
    name: "key",
    holds: |view, key| view.peek(view.database(), key).is_some(),
    ends_without_key: false,
};

fn keys(view: &View<'_>) -> Vec<Vec<u8>> {
    view.whole_database()
        .into_iter()
        .flat_map(|keys| keys.iter())
        .map(|entry: &Entry| entry.key().to_vec())
        .collect()
}

fn room_to_clear(view: &View<'_>, _args: Args<'_>) -> usize {
    keys(view).iter().map(|key| key.len() + 32).sum()
}

fn clear(tx: &mut Tx<'_>, _args: Args<'_>, reply: &mut dyn Reply) -> Outcome {
    let keys = tx.read(keys);
    for key in &keys {
        tx.apply(Effect::Delete { key, cause: Cause::Command });
    }
    reply.integer(keys.len() as i64);
    Ok(())
}

fn clear_any(tx: &mut Tx<'_>, args: Args<'_>, reply: &mut dyn Reply) -> Result<BlockingStage, CommandError> {
    if tx.read(keys).is_empty() {
        let park = Park::new(vec![args.word(1).to_vec()], &IS_THERE, None, |reply| reply.null());
        return Ok(BlockingStage::Park(Box::new(park)));
    }
    clear(tx, args, reply).map(|()| BlockingStage::Done)
}

const KEYS: usize = 100;
/// What the deletes of all keys take in the log is more than this, and everything else that the tests do is
/// less.
const SMALL_ROOM: u64 = 16 * 1024;

fn key(number: usize) -> String {
    format!("{number:0>250}")
}

/// A server over a log with little room, and keys whose deletes take more.
fn with_keys(log: &TestLog) -> TestServer {
    let server = TestServer::of(Arc::new(log.clone()), |_| (), Options::default(), &[COMMANDS]);
    let mut client = server.client();
    for number in 0..KEYS {
        client.call(&format!("SET {} 1", key(number)), "+OK\r\n");
    }
    log.bound_room(SMALL_ROOM, None);
    server
}

#[test]
fn a_command_that_needs_more_room_than_its_words_tell_waits_and_others_go_on() {
    let log = TestLog::new(Schedule::AtOnce);
    let server = with_keys(&log);
    let [mut client, mut other] = [(); 2].map(|()| server.client());
    client.send("*1\r\n$10\r\nTEST.CLEAR\r\n*1\r\n$6\r\nDBSIZE\r\n");
    log.wait_until_room_is_wanted(SMALL_ROOM + 1);
    other.call(&format!("GET {}", key(0)), "$1\r\n1\r\n");
    other.call("SET more 1", "+OK\r\n");
    client.expect_silence();
    log.unbound_room();
    client.expect(format!(":{}\r\n:0\r\n", KEYS + 1));
}

#[test]
fn a_transaction_waits_before_its_first_effect() {
    let log = TestLog::new(Schedule::AtOnce);
    let server = with_keys(&log);
    let [mut client, mut other] = [(); 2].map(|()| server.client());
    for command in
        ["MULTI", "INCR counter", "SELECT 3", "SET there 1", "SELECT 0", "TEST.CLEAR", "SELECT 3", "EXEC"]
    {
        client.command(command);
    }
    client.expect("+OK\r\n");
    client.expect("+QUEUED\r\n".repeat(6));
    log.wait_until_room_is_wanted(SMALL_ROOM + 1);
    other.call("GET counter", "$-1\r\n");
    client.expect_silence();
    log.unbound_room();
    client.expect(format!("*6\r\n:1\r\n+OK\r\n+OK\r\n+OK\r\n:{}\r\n+OK\r\n", KEYS + 1));
    client.call("GET there", "$1\r\n1\r\n");
    other.call("DBSIZE", ":0\r\n");
}

#[test]
fn a_command_that_can_wait_for_keys_waits_for_its_room() {
    let log = TestLog::new(Schedule::AtOnce);
    let server = with_keys(&log);
    let [mut client, mut other] = [(); 2].map(|()| server.client());
    client.command("TEST.CLEARANY more");
    log.wait_until_room_is_wanted(SMALL_ROOM + 1);
    other.call("SET more 1", "+OK\r\n");
    client.expect_silence();
    log.unbound_room();
    client.expect(format!(":{}\r\n", KEYS + 1));
    client.command("TEST.CLEARANY more");
    client.expect_silence();
    other.call("SET more 1", "+OK\r\n");
    client.expect(":1\r\n");
}

/// What EXEC needs has grown when its room is there. The log never has more than it asked for at first.
#[test]
fn a_transaction_asks_for_more_room_than_it_needs_at_the_moment() {
    const MANY: usize = 400;
    const GROWTH: usize = 20;
    let log = TestLog::new(Schedule::AtOnce);
    let server = with_keys(&log);
    let [mut client, mut other] = [(); 2].map(|()| server.client());
    let mut set = |numbers: std::ops::Range<usize>| {
        numbers.for_each(|number| other.call(&format!("SET {} 1", key(number)), "+OK\r\n"));
    };
    set(KEYS..MANY);
    client.send("MULTI\r\nTEST.CLEAR\r\nEXEC\r\n");
    client.expect("+OK\r\n+QUEUED\r\n");
    let wanted = log.wait_until_room_is_wanted(SMALL_ROOM + 1);
    set(MANY..MANY + GROWTH);
    log.bound_room(wanted, None);
    client.expect(format!("*1\r\n:{}\r\n", MANY + GROWTH));
}

#[test]
fn a_transaction_that_will_not_run_needs_no_room() {
    let log = TestLog::new(Schedule::AtOnce);
    let server = with_keys(&log);
    let [mut client, mut other] = [(); 2].map(|()| server.client());
    client.call("WATCH watched", "+OK\r\n");
    other.call("SET watched 1", "+OK\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("TEST.CLEAR", "+QUEUED\r\n");
    client.call("EXEC", "*-1\r\n");
}

#[test]
fn a_command_that_can_never_have_its_room_is_refused_with_the_cause() {
    let log = TestLog::new(Schedule::AtOnce);
    let server = with_keys(&log);
    let mut client = server.client();
    log.bound_room(SMALL_ROOM, Some("the test's disk is full"));
    let refused = "-MISCONF No room in the transaction log: the test's disk is full. Writes are refused until there is \
                   room; reads go on, and so do DEL, FLUSHALL and other commands that free memory\r\n";
    client.call("TEST.CLEAR", refused);
    client.call("SET small 1", "+OK\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("SET other 1", "+QUEUED\r\n");
    client.call("TEST.CLEAR", "+QUEUED\r\n");
    client.call("EXEC", refused);
    client.call("DBSIZE", &format!(":{}\r\n", KEYS + 1));
    client.call("SET small 2", "+OK\r\n");
}

/// A batch that is larger than the buffer of the log is admitted alone. While it waits, nothing overtakes it;
/// a client that is closed holds no other up.
#[test]
fn a_client_that_is_closed_gives_up_its_turn() {
    let options = Options { buffer_bytes_max: 64 << 10, log_thread: false, ..Options::default() };
    let server = TestServer::over(Arc::new(MemoryLog::new(LogId([9; 16]))), |_| (), options);
    let [mut first, mut large, mut last, mut small] = [(); 4].map(|()| server.client());
    let set = |name: &str, bytes: usize| format!("SET {name} {}", "x".repeat(bytes));
    large.command("CLIENT ID");
    let id = large.line();
    let wait_for_turns = |count: usize| {
        while server.server().engine().pipeline().turns() != count {
            std::thread::yield_now();
        }
    };
    first.command(&set("first", 20_000));
    server.wait_for_batches(1);
    large.command(&set("large", 120_000));
    wait_for_turns(1);
    last.command(&set("last", 60_000));
    wait_for_turns(2);
    small.command("SET small 1");
    server.wait_for_batches(2);
    server.client().call(&format!("CLIENT KILL ID {}", &id[1..]), ":1\r\n");
    wait_for_turns(1);
    server.sync();
    first.expect("+OK\r\n");
    small.expect("+OK\r\n");
    server.wait_for_batches(3);
    server.sync();
    last.expect("+OK\r\n");
    last.call("GET large", "$-1\r\n");
}

/// Thousands of commands whose room their words do not tell must not ask for the product of their numbers and
/// words.
#[test]
fn the_room_of_a_transaction_grows_with_its_commands() {
    const COMMANDS: usize = 3000;
    let log = TestLog::new(Schedule::AtOnce);
    let server = TestServer::of(Arc::new(log.clone()), |_| (), Options::default(), &[]);
    log.bound_room(32 << 20, None);
    let mut client = server.client();
    client.call("MULTI", "+OK\r\n");
    for number in 1..=COMMANDS {
        client.command(&format!("XADD stream {number}-0 item {number}"));
    }
    client.expect("+QUEUED\r\n".repeat(COMMANDS));
    client.command("EXEC");
    let ids: String = (1..=COMMANDS)
        .map(|number| format!("{number}-0"))
        .map(|id| format!("${}\r\n{id}\r\n", id.len()))
        .collect();
    client.expect(format!("*{COMMANDS}\r\n{ids}"));
    client.call("XLEN stream", format!(":{COMMANDS}\r\n").as_str());
}
