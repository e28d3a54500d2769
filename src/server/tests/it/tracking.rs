//! Client-side caching: what is invalidated, for whom, and when that leaves.

use crate::parking::wait_for_parked;
use crate::support::{TestClient, TestServer};

fn resp3(server: &TestServer) -> TestClient {
    let mut client = server.client();
    client.send("HELLO 3\r\n");
    while client.line() != "*0" {}
    client
}

fn invalidation(keys: &[&str]) -> String {
    let keys: String = keys.iter().map(|key| format!("${}\r\n{key}\r\n", key.len())).collect();
    let count = keys.matches("\r\n").count() / 2;
    format!(">2\r\n$10\r\ninvalidate\r\n*{count}\r\n{keys}")
}

#[test]
fn an_invalidation_leaves_when_its_write_is_durable() {
    let server = TestServer::stalled();
    let (mut caching, mut writer) = (resp3(&server), server.client());
    caching.call("CLIENT TRACKING ON", "+OK\r\n");
    caching.call("GET key", "_\r\n");
    writer.command("SET key 1");
    server.wait_for_batches(1);
    caching.expect_silence();
    server.sync();
    caching.expect(invalidation(&["key"]));
    writer.expect("+OK\r\n");
    // It was forgotten with that.
    writer.command("SET key 2");
    server.wait_for_batches(2);
    server.sync();
    writer.expect("+OK\r\n");
    caching.expect_silence();
    caching.call("GET key", "$1\r\n2\r\n");
    writer.command("FLUSHALL");
    server.wait_for_batches(3);
    caching.expect_silence();
    server.sync();
    caching.expect(">2\r\n$10\r\ninvalidate\r\n_\r\n");
}

/// Another thread writes all the time: whatever a client has read last is invalidated by the next write.
#[test]
fn no_invalidation_is_lost_between_a_read_and_its_record() {
    const ROUNDS: usize = 300;
    let server = TestServer::start();
    let (mut caching, mut writer) = (resp3(&server), server.client());
    caching.call("CLIENT TRACKING ON", "+OK\r\n");
    std::thread::scope(|scope| {
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            while is_done.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                writer.call("SET key 1", "+OK\r\n");
            }
        });
        for _ in 0..ROUNDS {
            caching.command("GET key");
            let (mut has_value, mut invalidated) = (false, false);
            // A value that came is followed by an invalidation; more may come before it.
            while !(has_value && invalidated) {
                match caching.line().as_str() {
                    "$1" => {
                        assert_eq!(caching.line(), "1");
                        (has_value, invalidated) = (true, false);
                    }
                    "_" => has_value = true,
                    ">2" => {
                        caching.expect(&invalidation(&["key"])[4..]);
                        invalidated = true;
                    }
                    line => panic!("{line}"),
                }
            }
        }
        drop(done);
    });
}

#[test]
fn modes_decide_what_is_remembered() {
    let server = TestServer::start();
    let (mut caching, mut writer) = (resp3(&server), server.client());
    caching.call("CLIENT TRACKING ON OPTIN", "+OK\r\n");
    caching.call("GET a", "_\r\n");
    caching.call("CLIENT CACHING YES", "+OK\r\n");
    caching.call("GET b", "_\r\n");
    caching.call("GET c", "_\r\n");
    writer.call("MSET a 1 b 1 c 1", "+OK\r\n");
    caching.expect(invalidation(&["b"]));
    caching.send("CLIENT CACHING YES\r\nMULTI\r\nGET a\r\nGET b\r\nEXEC\r\n");
    caching.expect("+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n$1\r\n1\r\n$1\r\n1\r\n");
    writer.call("MSET a 2 b 2 c 2", "+OK\r\n");
    caching.expect(invalidation(&["a"]) + &invalidation(&["b"]));
    caching.call("CLIENT TRACKING OFF", "+OK\r\n");
    caching.call("CLIENT TRACKING ON BCAST NOLOOP PREFIX user: PREFIX item:", "+OK\r\n");
    caching.call("SET user:0 1", "+OK\r\n");
    writer.call("MSET user:1 1 other 1 user:2 1 item:1 1", "+OK\r\n");
    caching.expect(invalidation(&["item:1"]) + &invalidation(&["user:1", "user:2"]));
    caching.call("RESET", "+RESET\r\n");
    writer.call("SET user:1 2", "+OK\r\n");
    caching.call("PING", "+PONG\r\n");
}

#[test]
fn a_resp2_client_gets_invalidations_as_messages_of_the_one_it_redirects_to() {
    let server = TestServer::start();
    let (mut caching, mut listener, mut writer) = (server.client(), server.client(), server.client());
    listener.command("CLIENT ID");
    let id = listener.line()[1..].to_owned();
    listener.send("SUBSCRIBE __redis__:invalidate\r\n");
    listener.expect("*3\r\n$9\r\nsubscribe\r\n$20\r\n__redis__:invalidate\r\n:1\r\n");
    caching.call(&format!("CLIENT TRACKING ON REDIRECT {id}"), "+OK\r\n");
    caching.call("CLIENT GETREDIR", &format!(":{id}\r\n"));
    caching.call("GET key", "$-1\r\n");
    writer.call("SET key 1", "+OK\r\n");
    listener.expect("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$3\r\nkey\r\n");
    writer.call("FLUSHDB", "+OK\r\n");
    listener.expect("*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n");
}

#[test]
fn what_expires_is_invalidated_and_the_table_is_bounded() {
    let server = TestServer::start();
    let (mut caching, mut writer) = (resp3(&server), server.client());
    writer.call("CONFIG SET tracking-table-max-keys 2", "+OK\r\n");
    caching.call("CLIENT TRACKING ON", "+OK\r\n");
    writer.call("SET key 1 PX 200", "+OK\r\n");
    caching.command("GET key");
    let mut lines = vec![caching.line()];
    if lines[0] == "$1" {
        assert_eq!(caching.line(), "1");
        caching.expect(invalidation(&["key"]));
    } else {
        // It had expired before it was read, on a slow machine: the record is of its absence.
        lines.clear();
    }
    caching.command("MGET a b c");
    let mut text = String::new();
    while text.matches("_").count() < 3 || !text.contains("invalidate") {
        text += &caching.line();
    }
    writer.command("INFO stats");
    let length: usize = writer.line()[1..].parse().expect("a bulk string");
    let mut info = String::new();
    while info.len() < length {
        info += &(writer.line() + "\r\n");
    }
    assert!(info.contains("tracking_total_keys:2\r\n"), "{info}");
}

#[test]
fn the_reply_that_ends_a_wait_comes_before_the_invalidations_of_its_batch() {
    let server = TestServer::start();
    let mut other = server.client();
    let mut client = resp3(&server);
    client.call("CLIENT TRACKING ON", "+OK\r\n");
    for round in 0..20 {
        client.call("LLEN destination", format!(":{round}\r\n").as_str());
        client.command("BLMOVE source destination LEFT LEFT 0");
        wait_for_parked(&server, 1);
        other.call("RPUSH source x", ":1\r\n");
        client.expect("$1\r\nx\r\n".to_owned() + &invalidation(&["destination"]));
    }
}
