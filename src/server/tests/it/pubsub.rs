//! Channels: messages in order, their durability, clients that do not read, and many of them.

use crate::support::{TestClient, TestServer};

fn bulks(mark: char, words: &[&str]) -> String {
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    let count = words.matches("\r\n").count() / 2;
    format!("{mark}{count}\r\n{words}")
}

fn confirmed(mark: char, kind: &str, name: &str, count: usize) -> String {
    format!("{mark}3\r\n${}\r\n{kind}\r\n${}\r\n{name}\r\n:{count}\r\n", kind.len(), name.len())
}

fn resp3(client: &mut TestClient) {
    client.send("HELLO 3\r\n");
    while client.line() != "*0" {}
}

#[test]
fn a_message_leaves_when_what_its_publisher_wrote_before_is_durable() {
    let server = TestServer::stalled();
    let [mut plain, mut pushed, mut publisher] = [server.client(), server.client(), server.client()];
    resp3(&mut pushed);
    plain.call("SUBSCRIBE news", &confirmed('*', "subscribe", "news", 1));
    pushed.call("PSUBSCRIBE n*", &confirmed('>', "psubscribe", "n*", 1));
    // Without a write before it, a message waits for nothing, whatever others have written.
    server.client().command("SET other 1");
    server.wait_for_batches(1);
    publisher.call("PUBLISH news first", ":2\r\n");
    plain.expect(bulks('*', &["message", "news", "first"]));
    pushed.expect(bulks('>', &["pmessage", "n*", "news", "first"]));
    publisher.send("SET key 1\r\nPUBLISH news second\r\n");
    server.wait_for_batches(2);
    plain.expect_silence();
    pushed.expect_silence();
    publisher.expect_silence();
    server.sync();
    publisher.expect("+OK\r\n:2\r\n");
    plain.expect(bulks('*', &["message", "news", "second"]));
    pushed.expect(bulks('>', &["pmessage", "n*", "news", "second"]));
}

#[test]
fn a_message_of_a_transaction_waits_for_its_batch() {
    let server = TestServer::stalled();
    let (mut listener, mut publisher) = (server.client(), server.client());
    listener.call("SUBSCRIBE news", &confirmed('*', "subscribe", "news", 1));
    publisher.send("MULTI\r\nPUBLISH news one\r\nSET key 1\r\nPUBLISH news two\r\nEXEC\r\n");
    publisher.expect("+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n");
    server.wait_for_batches(1);
    listener.expect_silence();
    server.sync();
    publisher.expect("*3\r\n:1\r\n+OK\r\n:1\r\n");
    listener.expect(bulks('*', &["message", "news", "one"]) + &bulks('*', &["message", "news", "two"]));
}

/// The write's reply is dropped; the message waits all the same.
#[test]
fn a_message_waits_for_a_write_without_a_reply() {
    let server = TestServer::stalled();
    let (mut listener, mut publisher) = (server.client(), server.client());
    listener.call("SUBSCRIBE news", &confirmed('*', "subscribe", "news", 1));
    publisher.send("CLIENT REPLY OFF\r\nSET key 1\r\nPUBLISH news text\r\n");
    server.wait_for_batches(1);
    listener.expect_silence();
    server.sync();
    listener.expect(bulks('*', &["message", "news", "text"]));
}

#[test]
fn a_resp2_subscriber_only_subscribes_until_it_has_unsubscribed() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("SUBSCRIBE a", &confirmed('*', "subscribe", "a", 1));
    let refusal = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
    client.call("GET key", &format!("-ERR Can't execute 'get': {refusal}\r\n"));
    client.call("CONFIG GET port", &format!("-ERR Can't execute 'config|get': {refusal}\r\n"));
    client.call("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    client.call("PING text", "*2\r\n$4\r\npong\r\n$4\r\ntext\r\n");
    client.call("UNSUBSCRIBE", &confirmed('*', "unsubscribe", "a", 0));
    client.call("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n");
    client.call("GET key", "$-1\r\n");
    client.call("PING", "+PONG\r\n");
}

/// A message that was published before the end of the subscription comes before the reply that confirms it.
#[test]
fn no_message_follows_the_end_of_its_subscription() {
    let server = TestServer::start();
    let mut publisher = server.client();
    for round in 0..200 {
        let mut client = server.client();
        client.call("SUBSCRIBE a", &confirmed('*', "subscribe", "a", 1));
        publisher.command("PUBLISH a text");
        client.command("UNSUBSCRIBE a");
        let message = bulks('*', &["message", "a", "text"]);
        match publisher.line().as_str() {
            ":1" => client.expect(message + &confirmed('*', "unsubscribe", "a", 0)),
            _ => client.expect(confirmed('*', "unsubscribe", "a", 0)),
        }
        client.call(&format!("PING {round}"), &format!("${}\r\n{round}\r\n", round.to_string().len()));
    }
}

#[test]
fn a_subscriber_that_never_reads_is_closed_and_holds_up_nobody() {
    let server = TestServer::start();
    let (mut slow, mut quick, mut publisher) = (server.client(), server.client(), server.client());
    publisher.send("*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$26\r\nclient-output-buffer-limit\r\n$18\r\npubsub 1000000 0 0\r\n");
    publisher.expect("+OK\r\n");
    slow.call("SUBSCRIBE a", &confirmed('*', "subscribe", "a", 1));
    quick.call("SUBSCRIBE a", &confirmed('*', "subscribe", "a", 1));
    let text = "x".repeat(100_000);
    let mut published = 0;
    loop {
        publisher.command(&format!("PUBLISH a {text}"));
        let receivers = publisher.line();
        quick.expect(bulks('*', &["message", "a", &text]));
        published += 1;
        assert!(published < 10_000, "what is not read was kept");
        if receivers == ":1" {
            break;
        }
    }
    publisher.call("PUBSUB NUMSUB a", "*2\r\n$1\r\na\r\n:1\r\n");
}

#[test]
fn what_a_client_subscribed_to_ends_with_it() {
    let server = TestServer::start();
    let mut other = server.client();
    let mut client = server.client();
    client.call("SUBSCRIBE a", &confirmed('*', "subscribe", "a", 1));
    client.call("PSUBSCRIBE a*", &confirmed('*', "psubscribe", "a*", 2));
    client.call("SSUBSCRIBE a", &confirmed('*', "ssubscribe", "a", 1));
    other.call("PUBSUB CHANNELS", "*1\r\n$1\r\na\r\n");
    other.call("PUBLISH a text", ":2\r\n");
    other.call("SPUBLISH a text", ":1\r\n");
    drop(client);
    loop {
        other.command("PUBSUB NUMPAT");
        if other.line() == ":0" {
            break;
        }
    }
    other.call("PUBLISH a text", ":0\r\n");
    other.call("PUBSUB SHARDCHANNELS", "*0\r\n");
    let mut again = server.client();
    again.call("SUBSCRIBE a", &confirmed('*', "subscribe", "a", 1));
    again.call("RESET", "+RESET\r\n");
    other.call("PUBSUB CHANNELS", "*0\r\n");
}

#[test]
fn the_end_of_no_subscription_is_confirmed_once() {
    let server = TestServer::start();
    let [mut old, mut new] = [server.client(), server.client()];
    resp3(&mut new);
    for (command, kind) in
        [("UNSUBSCRIBE", "unsubscribe"), ("PUNSUBSCRIBE", "punsubscribe"), ("SUNSUBSCRIBE", "sunsubscribe")]
    {
        old.call(command, &format!("*3\r\n${}\r\n{kind}\r\n$-1\r\n:0\r\n", kind.len()));
        old.call(&format!("{command} a"), &confirmed('*', kind, "a", 0));
        new.call(command, &format!(">3\r\n${}\r\n{kind}\r\n_\r\n:0\r\n", kind.len()));
        new.call(&format!("{command} a"), &confirmed('>', kind, "a", 0));
    }
}
