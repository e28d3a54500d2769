//! What clients and administrators see and stop: MONITOR, CLIENT PAUSE and UNBLOCK, WAIT, LATENCY.

use crate::support::{TestClient, TestServer};

fn bulk(client: &mut TestClient) -> String {
    let length: usize = client.line()[1..].parse().expect("a bulk string");
    let mut text = String::new();
    while text.len() <= length {
        text += &(client.line() + "\r\n");
    }
    text
}

#[test]
fn a_monitor_sees_commands_when_what_they_wrote_is_durable() {
    let server = TestServer::stalled();
    let (mut monitor, mut client) = (server.client(), server.client());
    monitor.call("MONITOR", "+OK\r\n");
    client.call("GET key", "$-1\r\n");
    let line = monitor.line();
    assert!(line.starts_with('+') && line.ends_with("] \"GET\" \"key\""), "{line}");
    client.send("*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$4\r\na\"\n\x01\r\n");
    server.wait_for_batches(1);
    monitor.expect_silence();
    server.sync();
    let line = monitor.line();
    assert!(line.ends_with("] \"SET\" \"key\" \"a\\\"\\n\\x01\""), "{line}");
    client.expect("+OK\r\n");
    client.send("MULTI\r\nGET key\r\nEXEC\r\nCONFIG GET port\r\nAUTH secret\r\n");
    client.send("MIGRATE host x key 0 9 AUTH secret\r\n");
    let migrate = r#""MIGRATE" "host" "x" "key" "0" "9" "AUTH" "(redacted)""#;
    for end in ["\"MULTI\"", "\"GET\" \"key\"", "\"EXEC\"", "\"AUTH\" \"(redacted)\"", migrate] {
        let line = monitor.line();
        assert!(line.ends_with(&format!("] {end}")), "{line}");
    }
    monitor.call("GET key", "-ERR Replica can't interact with the keyspace\r\n");
    monitor.call("RESET", "+RESET\r\n");
    monitor.call("GET key", "$4\r\na\"\n\x01\r\n");
}

#[test]
fn a_pause_holds_writes_or_all_until_it_ends() {
    let server = TestServer::start();
    let [mut admin, mut writer, mut reader] = [server.client(), server.client(), server.client()];
    admin.call("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    writer.send("PING\r\nSET key 1\r\nGET key\r\n");
    writer.expect("+PONG\r\n");
    writer.expect_silence();
    reader.call("GET key", "$-1\r\n");
    reader.send("MULTI\r\nGET key\r\nEXEC\r\nPUBLISH a b\r\n");
    reader.expect("+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n");
    reader.expect_silence();
    admin.call("CLIENT UNPAUSE", "+OK\r\n");
    writer.expect("+OK\r\n$1\r\n1\r\n");
    reader.expect(":0\r\n");
    writer.send("MULTI\r\nPUBLISH a b\r\n");
    writer.expect("+OK\r\n+QUEUED\r\n");
    admin.call("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    writer.send("EXEC\r\n");
    writer.expect_silence();
    admin.call("CLIENT UNPAUSE", "+OK\r\n");
    writer.expect("*1\r\n:0\r\n");
    admin.call("CLIENT PAUSE 200 ALL", "+OK\r\n");
    reader.call("PING", "+PONG\r\n");
}

/// A client that ends while it is paused is noticed.
#[test]
fn a_paused_client_may_leave() {
    let server = TestServer::start();
    let (mut admin, mut paused) = (server.client(), server.client());
    admin.call("CLIENT PAUSE 100000 WRITE", "+OK\r\n");
    paused.command("SET key 1");
    drop(paused);
    loop {
        admin.command("CLIENT LIST");
        if bulk(&mut admin).matches("id=").count() == 1 {
            break;
        }
    }
    admin.call("CLIENT UNPAUSE", "+OK\r\n");
}

#[test]
fn waits_for_replicas_end_by_time_or_by_another_client() {
    let server = TestServer::start();
    let (mut admin, mut client) = (server.client(), server.client());
    client.command("CLIENT ID");
    let id = client.line()[1..].to_owned();
    client.call("SET key 1", "+OK\r\n");
    client.call("WAIT 0 0", ":0\r\n");
    client.call("WAIT 1 5", ":0\r\n");
    client.call("WAITAOF 1 0 0", "*2\r\n:1\r\n:0\r\n");
    client.call("WAITAOF 2 0 0", "-ERR value is out of range, value must between 0 and 1\r\n");
    for (how, reply) in
        [("TIMEOUT", ":0\r\n"), ("ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")]
    {
        client.command("WAIT 1 0");
        loop {
            admin.command(&format!("CLIENT UNBLOCK {id} {how}"));
            if admin.line() == ":1" {
                break;
            }
        }
        client.expect(reply);
    }
    client.send("MULTI\r\nWAIT 1 0\r\nEXEC\r\n");
    client.expect("+OK\r\n+QUEUED\r\n*1\r\n:0\r\n");
}

#[test]
fn latencies_are_counted_and_long_ones_are_kept() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("SET key 1", "+OK\r\n");
    client.command("LATENCY HISTOGRAM set");
    assert_eq!([client.line(), client.line(), client.line()], ["*2", "$3", "set"]);
    assert_eq!([client.line(), client.line(), client.line(), client.line()], ["*4", "$5", "calls", ":1"]);
    let mut rest = client;
    let mut client = server.client();
    client.call("LATENCY LATEST", "*0\r\n");
    client.call("LATENCY GRAPH x", "-ERR No samples available for event 'x'\r\n");
    client.call("CONFIG SET latency-tracking no", "+OK\r\n");
    client.call("CONFIG RESETSTAT", "+OK\r\n");
    client.call("LATENCY HISTOGRAM", "*0\r\n");
    drop(rest.line());
}
