//! With the log's sync held back, nothing leaves that shows a write which could still be lost.

use crate::parking::wait_for_parked;
use crate::support::TestServer;

#[test]
fn a_write_is_answered_when_it_is_durable() {
    let server = TestServer::stalled();
    let mut writer = server.client();
    writer.command("SET touched 1");
    writer.expect_silence();
    let mut other = server.client();
    other.call("GET untouched", "$-1\r\n");
    other.command("GET touched");
    other.expect_silence();
    server.sync();
    writer.expect("+OK\r\n");
    other.expect("$1\r\n1\r\n");
}

#[test]
fn replies_behind_a_held_one_wait_and_those_in_front_do_not() {
    let server = TestServer::stalled();
    let mut client = server.client();
    client.send("PING\r\nSET a 1\r\nPING\r\n");
    client.expect("+PONG\r\n");
    client.expect_silence();
    client.command("PING");
    client.expect_silence();
    server.sync();
    client.expect("+OK\r\n+PONG\r\n+PONG\r\n");
}

#[test]
fn many_connections_wait_for_one_batch() {
    let server = TestServer::stalled();
    let mut clients: Vec<_> = (0..40).map(|_| server.client()).collect();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.command(&format!("SET key{number} {round}"));
        }
        clients.iter_mut().step_by(8).for_each(|client| client.expect_silence());
        // A command that was sent may not have been executed yet: sync until all have their answer.
        for client in &mut clients {
            client.stream.set_nonblocking(false).expect("a socket");
        }
        std::thread::scope(|scope| {
            let (done, waits) = std::sync::mpsc::channel::<()>();
            let server = &server;
            scope.spawn(move || {
                while waits.recv_timeout(std::time::Duration::from_millis(1))
                    == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    server.sync();
                }
            });
            clients.iter_mut().for_each(|client| client.expect("+OK\r\n"));
            drop(done);
        });
    }
}

#[test]
fn the_nil_of_an_aborted_exec_waits_for_the_change() {
    let server = TestServer::stalled();
    let mut client = server.client();
    client.call("WATCH w", "+OK\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("GET other", "+QUEUED\r\n");
    let mut writer = server.client();
    writer.command("SET w 1");
    writer.expect_silence();
    client.command("EXEC");
    client.expect_silence();
    server.sync();
    client.expect("*-1\r\n");
    writer.expect("+OK\r\n");
}

#[test]
fn exec_waits_for_its_own_batch() {
    let server = TestServer::stalled();
    let mut client = server.client();
    client.call("MULTI", "+OK\r\n");
    client.call("SET a 1", "+QUEUED\r\n");
    client.call("GET a", "+QUEUED\r\n");
    client.command("EXEC");
    client.expect_silence();
    server.sync();
    client.expect("*2\r\n+OK\r\n$1\r\n1\r\n");
}

/// What each of these shows could still be lost; none may leave, and all leave after the sync.
#[test]
fn nothing_that_shows_or_misses_a_held_write_leaves() {
    let server = TestServer::stalled();
    let mut writer = server.client();
    for line in ["SET deleted 1", "HSET hash field value"] {
        writer.command(line);
    }
    writer.expect_silence();
    server.sync();
    writer.expect("+OK\r\n:1\r\n");
    for line in ["SET touched 1", "DEL deleted"] {
        writer.command(line);
    }
    writer.expect_silence();
    let held = [
        ("GET touched", "$1\r\n1\r\n"),
        ("EXISTS touched", ":1\r\n"),
        ("TTL touched", ":-1\r\n"),
        ("SETNX touched 2", ":0\r\n"),
        ("HGET touched f", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        ("GET deleted", "$-1\r\n"),
        ("EXISTS deleted", ":0\r\n"),
        ("TTL deleted", ":-2\r\n"),
        ("DEL deleted", ":0\r\n"),
        ("DBSIZE", ":2\r\n"),
        ("SCAN 0 MATCH none", "*2\r\n$1\r\n0\r\n*0\r\n"),
        ("KEYS none", "*0\r\n"),
    ];
    let mut clients: Vec<_> = held.iter().map(|_| server.client()).collect();
    let mut random = server.client();
    random.command("RANDOMKEY");
    for ((line, _), client) in held.iter().zip(&mut clients) {
        client.command(line);
    }
    server.client().call("GET untouched", "$-1\r\n");
    server.client().call("HGET hash field", "$5\r\nvalue\r\n");
    for ((line, _), client) in held.iter().zip(&mut clients) {
        println!("{line}");
        client.expect_silence();
    }
    random.expect_silence();
    server.sync();
    for ((line, reply), client) in held.iter().zip(&mut clients) {
        println!("{line}");
        client.expect(reply);
    }
    assert!(random.line().starts_with('$'));
    writer.expect("+OK\r\n:1\r\n");
}

/// Clients that wait for keys, and the reply of each when it is served.
const WAITING: &[(&str, &str)] = &[
    ("BLPOP l 0", "*2\r\n$1\r\nl\r\n$1\r\na\r\n"),
    ("BRPOP l 0", "*2\r\n$1\r\nl\r\n$1\r\nd\r\n"),
    ("BLMOVE l moved LEFT RIGHT 0", "$1\r\nb\r\n"),
    ("BLMPOP 0 1 l LEFT COUNT 5", "*2\r\n$1\r\nl\r\n*1\r\n$1\r\nc\r\n"),
    ("BLPOP moved 0", "*2\r\n$5\r\nmoved\r\n$1\r\nb\r\n"),
    ("BZPOPMIN z 0", "*3\r\n$1\r\nz\r\n$1\r\na\r\n$1\r\n1\r\n"),
    ("BZMPOP 0 1 z MAX", "*2\r\n$1\r\nz\r\n*1\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n"),
    (
        "XREAD BLOCK 0 STREAMS s $",
        "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    ),
    (
        "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
        "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n",
    ),
];

/// BLPOP and the others show what was pushed, and that it is gone.
#[test]
fn what_waiting_clients_get_leaves_when_the_batch_that_fed_them_is_durable() {
    let server = TestServer::stalled();
    let mut writer = server.client();
    writer.command("XGROUP CREATE s g $ MKSTREAM");
    server.wait_for_batches(1);
    server.sync();
    writer.expect("+OK\r\n");
    let mut waiting = Vec::new();
    for (number, (line, _)) in WAITING.iter().enumerate() {
        let mut client = server.client();
        client.command(line);
        wait_for_parked(&server, number + 1);
        waiting.push(client);
    }
    // What XREADGROUP has noted of its consumer is durable before anything else happens.
    server.sync();
    writer.send("MULTI\r\nRPUSH l a b c d\r\nZADD z 1 a 2 b\r\nXADD s 1-1 f v\r\nEXEC\r\n");
    wait_for_parked(&server, 0);
    writer.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    writer.expect_silence();
    for ((line, _), client) in WAITING.iter().zip(&mut waiting) {
        println!("{line}");
        client.expect_silence();
    }
    server.sync();
    for ((line, reply), client) in WAITING.iter().zip(&mut waiting) {
        println!("{line}");
        client.expect(reply);
    }
    writer.expect("*3\r\n:4\r\n:2\r\n$3\r\n1-1\r\n");
    writer.call("EXISTS l moved z", ":0\r\n");
}
