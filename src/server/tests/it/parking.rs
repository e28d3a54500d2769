//! Connections that wait for keys, over TCP, by the commands of `engramdb_testkit::blocking`.

use crate::support::{TestClient, TestServer};
use engramdb_engine::log::LogId;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::testing::{Schedule, TestLog};
use engramdb_testkit::blocking::COMMANDS;
use std::sync::Arc;

fn server(options: Options) -> TestServer {
    let log = Arc::new(MemoryLog::new(LogId([9; 16])));
    TestServer::of(log, |_| (), options, &[COMMANDS])
}

fn taken(key: &str, name: &str) -> String {
    format!("*2\r\n${}\r\n{key}\r\n${}\r\n{name}\r\n", key.len(), name.len())
}

/// Waits until `count` clients are blocked, as INFO counts them.
pub fn wait_for_parked(server: &TestServer, count: usize) {
    wait_for_clients(server, &format!("blocked_clients:{count}"));
}

/// Waits until INFO's section of clients has this line.
pub fn wait_for_clients(server: &TestServer, wanted: &str) {
    let mut client = server.client();
    loop {
        client.command("INFO clients");
        let length: usize = client.line()[1..].parse().expect("a bulk string");
        let mut text = String::new();
        while text.len() < length {
            text.push_str(&client.line());
            text.push_str("\r\n");
        }
        assert!(client.line().is_empty());
        if text.lines().any(|line| line == wanted) {
            return;
        }
        std::thread::yield_now();
    }
}

/// A client that waits: the others that park come after it.
fn parked(server: &TestServer, already: usize, line: &str) -> TestClient {
    let mut client = server.client();
    client.command(line);
    wait_for_parked(server, already + 1);
    client
}

#[test]
fn connections_are_served_in_the_order_in_which_they_came() {
    let server = server(Options::default());
    let mut waiting: Vec<TestClient> =
        (0..6).map(|number| parked(&server, number, "TEST.TAKE other h 0")).collect();
    let mut feeder = server.client();
    feeder.call("HSET h a 1", ":1\r\n");
    waiting[0].expect(taken("h", "a"));
    feeder.call("HSET h b 1 c 1 d 1", ":3\r\n");
    for (client, name) in waiting[1..4].iter_mut().zip(["b", "c", "d"]) {
        client.expect(taken("h", name));
    }
    waiting[4].expect_silence();
    feeder.send("MULTI\r\nHSET h f 1\r\nHSET other e 1\r\nTEST.TAKE nothing 0\r\nEXEC\r\n");
    feeder.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n:1\r\n:1\r\n*-1\r\n");
    waiting[4].expect(taken("other", "e"));
    waiting[5].expect(taken("h", "f"));
    feeder.call("DBSIZE", ":0\r\n");
    wait_for_parked(&server, 0);
}

#[test]
fn clients_that_read_are_all_served_and_take_nothing() {
    let server = server(Options::default());
    let mut readers: Vec<TestClient> =
        (0..3).map(|number| parked(&server, number, "TEST.PEEK other h 0")).collect();
    let mut taker = parked(&server, 3, "TEST.TAKE h 0");
    let mut late = parked(&server, 4, "TEST.PEEK h 0");
    let mut feeder = server.client();
    feeder.call("HSET h a 1", ":1\r\n");
    readers.iter_mut().for_each(|client| client.expect(taken("h", "a")));
    taker.expect(taken("h", "a"));
    late.expect_silence();
    feeder.call("HSET h b 1", ":1\r\n");
    late.expect(taken("h", "b"));
    feeder.call("EXISTS h", ":1\r\n");
    late.call("TEST.PEEK h 0", &taken("h", "b"));
    late.call("TEST.PEEK other 1", "*-1\r\n");
    wait_for_parked(&server, 0);
}

/// What it shows, and that nothing was there, may still be lost.
#[test]
fn what_a_client_that_reads_is_told_is_durable() {
    let server = server(Options { log_thread: false, ..Options::default() });
    let mut waiting = parked(&server, 0, "TEST.PEEK h 0");
    let mut feeder = server.client();
    feeder.command("HSET h a 1");
    feeder.expect_silence();
    waiting.expect_silence();
    server.sync();
    waiting.expect(taken("h", "a"));
    feeder.expect(":1\r\n");
    feeder.command("DEL h");
    server.wait_for_batches(2);
    waiting.command("TEST.PEEK h 1");
    waiting.expect_silence();
    wait_for_parked(&server, 0);
    waiting.expect_silence();
    server.sync();
    waiting.expect("*-1\r\n");
}

#[test]
fn a_client_that_reads_waits_where_the_log_has_no_room() {
    let log = TestLog::new(Schedule::AtOnce);
    let server = TestServer::of(Arc::new(log.clone()), |_| (), Options::default(), &[COMMANDS]);
    log.bound_room(0, Some("the test's disk is full"));
    let mut client = server.client();
    client.command("TEST.TAKE h 0");
    assert!(client.line().starts_with("-MISCONF No room in the transaction log"));
    client.call("TEST.PEEK h 1", "*-1\r\n");
    client.send("WATCH h\r\nMULTI\r\nTEST.PEEK h 0\r\nEXEC\r\n");
    client.expect("+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n*-1\r\n");
    let mut waiting = parked(&server, 0, "TEST.PEEK h 0");
    log.unbound_room();
    server.client().call("HSET h a 1", ":1\r\n");
    waiting.expect(taken("h", "a"));
}

#[test]
fn what_a_waiting_command_does_is_said_by_its_row() {
    let flags = COMMANDS.iter().map(|row| (row.name, row.flag_names().collect::<Vec<_>>()));
    let expected = [("TEST.PEEK", vec!["readonly", "blocking"]), ("TEST.TAKE", vec!["write", "blocking"])];
    assert!(flags.eq(expected));
}

#[test]
fn what_a_served_client_is_told_waits_for_the_batch_that_fed_it() {
    let server = server(Options { log_thread: false, ..Options::default() });
    let mut waiting = parked(&server, 0, "TEST.TAKE h 0");
    let mut feeder = server.client();
    feeder.command("HSET h a 1");
    feeder.expect_silence();
    waiting.expect_silence();
    server.sync();
    waiting.expect(taken("h", "a"));
    feeder.expect(":1\r\n");
}

/// The nil shows that the key was absent, by a delete that could still be lost.
#[test]
fn the_nil_of_a_timeout_waits_for_what_it_shows() {
    let server = server(Options { log_thread: false, ..Options::default() });
    let mut writer = server.client();
    writer.command("HSET h a 1");
    writer.expect_silence();
    server.sync();
    writer.expect(":1\r\n");
    writer.command("DEL h");
    server.wait_for_batches(2);
    let mut waiting = server.client();
    waiting.command("TEST.TAKE h 1");
    waiting.expect_silence();
    wait_for_parked(&server, 0);
    waiting.expect_silence();
    server.sync();
    waiting.expect("*-1\r\n");
    server.client().call("TEST.TAKE untouched 1", "*-1\r\n");
}

#[test]
fn requests_behind_a_waiting_one_are_answered_after_it() {
    let server = server(Options::default());
    let mut waiting = server.client();
    waiting.send("SET before 1\r\nTEST.TAKE h 0\r\nGET before\r\n");
    waiting.expect("+OK\r\n");
    wait_for_parked(&server, 1);
    waiting.send("PING\r\nTEST.TAKE h 0\r\nPI");
    waiting.expect_silence();
    server.client().call("HSET h a 1", ":1\r\n");
    waiting.expect(format!("{}$1\r\n1\r\n+PONG\r\n", taken("h", "a")));
    wait_for_parked(&server, 1);
    waiting.send("NG\r\n");
    server.client().call("HSET h b 1", ":1\r\n");
    waiting.expect(format!("{}+PONG\r\n", taken("h", "b")));
}

#[test]
fn a_client_that_goes_away_takes_nothing_and_leaves_nothing() {
    let server = server(Options::default());
    let gone = parked(&server, 0, "TEST.TAKE h 0");
    let mut pipelined = parked(&server, 1, "TEST.TAKE h 0");
    pipelined.send("PING\r\n".repeat(1000));
    let half_closed = parked(&server, 2, "TEST.TAKE h 0");
    let mut killed = parked(&server, 3, "TEST.TAKE h 0");
    let mut last = parked(&server, 4, "TEST.TAKE h 0");
    drop(gone);
    drop(pipelined);
    half_closed.stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    wait_for_parked(&server, 2);
    let address = killed.stream.local_addr().expect("a socket");
    server.client().call(&format!("CLIENT KILL {address}"), "+OK\r\n");
    assert_eq!(killed.rest(), "");
    wait_for_parked(&server, 1);
    server.client().call("HSET h a 1", ":1\r\n");
    last.expect(taken("h", "a"));
    server.client().call("DBSIZE", ":0\r\n");
}

/// The wait ends with the client's side; what was answered before it still arrives.
#[test]
fn a_client_that_closes_its_side_gets_the_replies_in_front_of_its_wait() {
    let server = server(Options { log_thread: false, ..Options::default() });
    let mut waiting = server.client();
    waiting.send("SET key 1\r\nTEST.TAKE h 0\r\n");
    wait_for_parked(&server, 1);
    waiting.stream.shutdown(std::net::Shutdown::Write).expect("a socket");
    wait_for_parked(&server, 0);
    server.sync();
    assert_eq!(waiting.rest(), "+OK\r\n");
}

/// Requests behind the one that waits are kept up to the limit of what a client may have us keep; however
/// many they are, that the client has gone is seen.
#[test]
fn a_waiting_client_that_sent_much_is_seen_to_leave_and_is_bounded() {
    let server = server(Options::default());
    let sent = "PING\r\n".repeat(400_000);
    let mut leaving = parked(&server, 0, "TEST.TAKE h 0");
    leaving.send(&sent);
    drop(leaving);
    wait_for_parked(&server, 0);
    let limit = "CONFIG SET client-query-buffer-limit 1048576";
    server.client().call(limit, "+OK\r\n");
    let mut beyond = parked(&server, 0, "TEST.TAKE h 0");
    // The server may close before it has taken all.
    _ = std::io::Write::write_all(&mut beyond.stream, sent.as_bytes());
    wait_for_parked(&server, 0);
}

#[test]
fn client_unblock_ends_a_wait() {
    let server = server(Options::default());
    let mut waiting = server.client();
    waiting.command("CLIENT ID");
    let id = waiting.line()[1..].to_owned();
    let mut other = server.client();
    let mut unblock = |reason: &str, expected: &str| {
        let line = format!("CLIENT UNBLOCK {id}{}{reason}", if reason.is_empty() { "" } else { " " });
        other.call(&line, expected);
    };
    unblock("", ":0\r\n");
    for (reason, reply) in [
        ("", "*-1\r\n"),
        ("TIMEOUT", "*-1\r\n"),
        ("error", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ] {
        waiting.command("TEST.TAKE h 0");
        wait_for_parked(&server, 1);
        unblock(reason, ":1\r\n");
        waiting.expect(reply);
        unblock(reason, ":0\r\n");
    }
    unblock("sometimes", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n");
    for reason in ["TIMEOUT more", "ERROR and more"] {
        let text = "unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.";
        unblock(reason, &format!("-ERR {text}\r\n"));
    }
    server.client().call("CLIENT UNBLOCK 12345", ":0\r\n");
    server.client().call("CLIENT UNBLOCK x", "-ERR value is not an integer or out of range\r\n");
}

#[test]
fn replies_come_in_the_clients_protocol_or_not_at_all() {
    let server = server(Options::default());
    let mut three = server.client();
    three.send("HELLO 3\r\n");
    while !three.line().contains("modules") {}
    assert_eq!(three.line(), "*0");
    three.call("TEST.TAKE h 1", "_\r\n");
    let mut silent = server.client();
    silent.send("CLIENT REPLY OFF\r\nTEST.TAKE h 0\r\nCLIENT REPLY ON\r\n");
    wait_for_parked(&server, 1);
    server.client().call("HSET h a 1", ":1\r\n");
    silent.expect("+OK\r\n");
    silent.expect_silence();
    server.client().call("EXISTS h", ":0\r\n");
}

#[test]
fn a_server_stops_with_waiting_clients_and_a_thousand_are_served() {
    let server = server(Options::default());
    let mut waiting: Vec<TestClient> = (0..1000).map(|_| server.client()).collect();
    waiting.iter_mut().for_each(|client| client.command("TEST.TAKE h 60000"));
    wait_for_parked(&server, 1000);
    let fields: Vec<String> = (0..990).map(|number| format!("f{number:04} 1")).collect();
    server.client().call(&format!("HSET h {}", fields.join(" ")), ":990\r\n");
    wait_for_parked(&server, 10);
    server.client().call("EXISTS h", ":0\r\n");
}
