//! Keyspace events: what is published, in which order, and when it leaves.

use crate::support::{TestClient, TestServer};

/// Listens to all events of database 0 by their names, and turns these classes on.
fn listen(server: &TestServer, classes: &str) -> TestClient {
    let mut client = server.client();
    client.call(&format!("CONFIG SET notify-keyspace-events {classes}"), "+OK\r\n");
    client.call("PSUBSCRIBE __keyevent@*", "*3\r\n$10\r\npsubscribe\r\n$12\r\n__keyevent@*\r\n:1\r\n");
    client
}

/// The next event as `name key`.
fn event(client: &mut TestClient) -> String {
    assert_eq!(client.line(), "*4");
    let mut words = Vec::new();
    for _ in 0..4 {
        client.line();
        words.push(client.line());
    }
    let name = words[2].split_once("__:").expect("a channel of events").1;
    format!("{name} {}", words[3])
}

#[test]
fn an_event_leaves_when_its_batch_is_durable() {
    let server = TestServer::stalled();
    let mut listener = listen(&server, "KEA");
    let mut writer = server.client();
    writer.command("SET key 1");
    server.wait_for_batches(1);
    listener.expect_silence();
    server.sync();
    assert_eq!(event(&mut listener), "set key");
    writer.expect("+OK\r\n");
    writer.send("MULTI\r\nSET a 1\r\nDEL a\r\nEXEC\r\n");
    server.wait_for_batches(2);
    listener.expect_silence();
    server.sync();
    assert_eq!([event(&mut listener), event(&mut listener)], ["set a", "del a"]);
}

/// A miss shows that a key was deleted: it waits for the delete.
#[test]
fn a_key_miss_waits_for_the_delete_that_it_shows() {
    let server = TestServer::stalled();
    let mut writer = server.client();
    writer.command("SET key 1");
    server.wait_for_batches(1);
    server.sync();
    writer.expect("+OK\r\n");
    let mut listener = listen(&server, "KEm");
    writer.command("DEL key");
    server.wait_for_batches(2);
    let mut reader = server.client();
    reader.command("GET key");
    listener.expect_silence();
    server.sync();
    assert_eq!(event(&mut listener), "keymiss key");
    reader.expect("$-1\r\n");
}

/// As a real Redis 8.2 publishes them.
#[test]
fn events_are_those_of_redis() {
    let server = TestServer::start();
    let mut listener = listen(&server, "KEAmn");
    let mut client = server.client();
    for (command, events) in [
        ("SET a 1 EX 100", "new a,set a,expire a"),
        ("SET a 2 KEEPTTL", "set a"),
        ("GETEX a PERSIST", "persist a"),
        ("GETEX a PXAT 1", "del a"),
        ("GETDEL a", "keymiss a"),
        ("MSET m 1 m 2", "new m,set m,set m"),
        ("DECR m", "incrby m"),
        ("APPEND m 3", "append m"),
        ("RENAME m n", "new n,rename_from m,rename_to n"),
        ("COPY n o", "new o,copy_to o"),
        ("MOVE o 1", "new o,move_from o,move_to o"),
        ("EXPIRE n -1", "del n"),
        ("HSETEX h EX 100 FIELDS 1 a 1", "new h,hset h,hexpire h"),
        ("HGETEX h PERSIST FIELDS 1 a", "hpersist h"),
        ("HEXPIRE h 0 FIELDS 1 a", "hdel h,del h"),
        ("HSET h a 1 b 2", "new h,hset h"),
        ("HDEL h a b", "hdel h,del h"),
        ("MGET x y", "keymiss x,keymiss y"),
        ("OBJECT ENCODING x", ""),
        ("SET p 1 PXAT 1", "set p,expire p,expired p"),
        ("DEL x", ""),
        ("FLUSHALL", ""),
    ] {
        client.command(command);
        for expected in events.split(',').filter(|event| !event.is_empty()) {
            assert_eq!(event(&mut listener), expected, "{command}");
        }
    }
    client.command("SET end 1");
    assert_eq!(event(&mut listener), "new end");
}

#[test]
fn what_expires_is_notified() {
    let server = TestServer::start();
    let mut listener = listen(&server, "KExgh");
    let mut client = server.client();
    client.call("SET key 1 PX 1", "+OK\r\n");
    assert_eq!([event(&mut listener), event(&mut listener)], ["expire key", "expired key"]);
    client.call("HSET hash a 1", ":1\r\n");
    client.call("HPEXPIRE hash 1 FIELDS 1 a", "*1\r\n:1\r\n");
    let events: Vec<String> = (0..4).map(|_| event(&mut listener)).collect();
    assert_eq!(events, ["hset hash", "hexpire hash", "hexpired hash", "del hash"]);
}
