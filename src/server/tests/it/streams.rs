//! Clients that wait for entries of streams.

use crate::parking::wait_for_parked;
use crate::support::{TestClient, TestServer};

/// A client that waits: the others that park come after it.
fn parked(server: &TestServer, already: usize, line: &str) -> TestClient {
    let mut client = server.client();
    client.command(line);
    wait_for_parked(server, already + 1);
    client
}

fn bulk(word: &str) -> String {
    format!("${}\r\n{word}\r\n", word.len())
}

/// The reply with one entry of one stream, whose only name is `a`.
fn entry(key: &str, id: &str, value: &str) -> String {
    let pair = format!("*2\r\n{}{}", bulk("a"), bulk(value));
    format!("*1\r\n*2\r\n{}*1\r\n*2\r\n{}{pair}", bulk(key), bulk(id))
}

#[test]
fn a_reader_waits_for_what_is_added_from_now_on() {
    let server = TestServer::start();
    let mut feeder = server.client();
    feeder.call("XADD s 1-1 a 1", &bulk("1-1"));
    let mut waiting = parked(&server, 0, "XREAD BLOCK 0 STREAMS other s $ $");
    let mut late = parked(&server, 1, "XREAD BLOCK 0 STREAMS s 1-2");
    feeder.call("XADD s 1-2 a 2", &bulk("1-2"));
    waiting.expect(entry("s", "1-2", "2"));
    late.expect_silence();
    feeder.call("XADD s 1-3 a 3", &bulk("1-3"));
    late.expect(entry("s", "1-3", "3"));
    waiting.command("XREAD BLOCK 1 STREAMS s $");
    waiting.expect("*-1\r\n");
    feeder.send("MULTI\r\nXREAD BLOCK 0 STREAMS s $\r\nXADD s 1-4 a 4\r\nEXEC\r\n");
    feeder.expect(format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n*-1\r\n{}", bulk("1-4")));
    wait_for_parked(&server, 0);
}

#[test]
fn consumers_of_a_group_are_served_in_the_order_in_which_they_came() {
    let server = TestServer::start();
    let mut feeder = server.client();
    feeder.call("XGROUP CREATE s g $ MKSTREAM", "+OK\r\n");
    let line = |name: &str| format!("XREADGROUP GROUP g {name} COUNT 1 BLOCK 0 STREAMS s >");
    let mut first = parked(&server, 0, &line("first"));
    let mut second = parked(&server, 1, &line("second"));
    let mut reader = parked(&server, 2, "XREAD BLOCK 0 STREAMS s $");
    feeder.call("XINFO CONSUMERS absent g", "-ERR no such key\r\n");
    feeder.call("XGROUP CREATECONSUMER s g second", ":0\r\n");
    feeder.call("XADD s 1-1 a 1", &bulk("1-1"));
    first.expect(entry("s", "1-1", "1"));
    reader.expect(entry("s", "1-1", "1"));
    second.expect_silence();
    feeder.call("XADD s 1-2 a 2", &bulk("1-2"));
    second.expect(entry("s", "1-2", "2"));
    feeder.call("XACK s g 1-1 1-2", ":2\r\n");
    wait_for_parked(&server, 0);
}

#[test]
fn who_waits_for_a_group_learns_that_it_is_gone() {
    let server = TestServer::start();
    let mut feeder = server.client();
    let gone = "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option\r\n";
    for (line, reply, wanted) in [
        ("XGROUP DESTROY s g", ":1\r\n", gone),
        ("DEL s", ":1\r\n", gone),
        ("RENAME s t", "+OK\r\n", gone),
        ("FLUSHDB", "+OK\r\n", gone),
        ("FLUSHALL", "+OK\r\n", gone),
        ("SET s 1", "+OK\r\n", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
    ] {
        feeder.call("DEL s", ":0\r\n");
        feeder.call("XGROUP CREATE s g $ MKSTREAM", "+OK\r\n");
        let mut waiting = parked(&server, 0, "XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        feeder.call("XGROUP DELCONSUMER s g c", ":0\r\n");
        feeder.call(line, reply);
        waiting.expect(wanted);
        feeder.command("DEL s");
        feeder.line();
    }
    wait_for_parked(&server, 0);
}
