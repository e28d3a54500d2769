//! Pushes into mailboxes, over TCP: when they leave, in which order with replies, and how they are
//! bounded.
//!
//! TEST.LISTEN opens the connection's mailbox, TEST.SUBSCRIBE makes it a subscriber as well, and the
//! tests post from their own thread.

use crate::clients::Client;
use crate::commands::session;
use crate::dispatch::{Call, Run};
use crate::output::{Push, PushElement};
use crate::pubsub::{Message, Space, Subscriptions};
use crate::support::{TestClient, TestServer};
use engramdb_engine::command::{Command, Outcome, Reply};
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::{LogId, Lsn};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

static COMMANDS: &[Command] =
    &[session("TEST.LISTEN", "", &Run(listen)), session("TEST.SUBSCRIBE", "", &Run(subscribe))];

fn listen(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.session.open_mailbox();
    call.reply.ok();
    Ok(())
}

fn subscribe(call: &mut Call<'_, '_, '_>) -> Outcome {
    call.shared.clients.set_subscriber(&call.session.client, true);
    listen(call)
}

fn start(options: Options) -> TestServer {
    let log = Arc::new(MemoryLog::new(LogId([9; 16])));
    TestServer::of(log, |config| config.threads = 1, options, &[COMMANDS])
}

/// A connection, and what the server knows it as.
fn connect(server: &TestServer, protocol: u8, line: &str) -> (TestClient, Arc<Client>) {
    let mut client = server.client();
    client.command("CLIENT ID");
    let id = client.line()[1..].parse().expect("an integer");
    if protocol == 3 {
        client.send("HELLO 3\r\n");
        while client.line() != "*0" {}
    }
    client.call(line, "+OK\r\n");
    let known = server.server().context().clients.get(id).expect("it is connected");
    (client, known)
}

fn message(text: &str) -> Arc<Push> {
    Push::new(vec![PushElement::bulk(*b"message"), PushElement::bulk(text.as_bytes())])
}

fn post(server: &TestServer, client: &Client, text: &str, gate: u64) -> bool {
    server.server().context().post(client, &message(text), Lsn(gate))
}

/// So many bytes.
fn exactly(client: &mut TestClient, bytes: usize) -> String {
    let mut found = vec![0; bytes];
    client.stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    client.stream.read_exact(&mut found).expect("it arrives");
    String::from_utf8(found).expect("test replies are text")
}

/// The next bytes, which stay to be read.
fn peek(client: &TestClient, bytes: usize) -> String {
    let mut found = vec![0; bytes];
    while client.stream.peek(&mut found).expect("something arrives") < bytes {
        std::thread::yield_now();
    }
    String::from_utf8(found).expect("test replies are text")
}

fn shown(mark: char, text: &str) -> String {
    format!("{mark}2\r\n$7\r\nmessage\r\n${}\r\n{text}\r\n", text.len())
}

#[test]
fn an_idle_client_gets_its_pushes_in_its_protocol() {
    let server = start(Options::default());
    for (protocol, mark) in [(2, '*'), (3, '>')] {
        let (mut client, known) = connect(&server, protocol, "TEST.LISTEN");
        for round in 0..3 {
            assert!(post(&server, &known, &format!("round {round}"), 0));
            client.expect(shown(mark, &format!("round {round}")));
        }
        client.call("PING", "+PONG\r\n");
        let nested = PushElement::Array(vec![(*b"key").into(), (*b"").into()]);
        let push = Push::new(vec![nested, PushElement::Integer(-7), PushElement::Null]);
        assert!(server.server().context().post(&known, &push, Lsn(0)));
        let null = if protocol == 3 { "_\r\n" } else { "$-1\r\n" };
        client.expect(format!("{mark}3\r\n*2\r\n$3\r\nkey\r\n$0\r\n\r\n:-7\r\n{null}"));
    }
    let (_, without) = connect(&server, 2, "SET key value");
    assert!(!post(&server, &without, "nobody listens", 0));
}

#[test]
fn a_push_leaves_when_the_batch_is_durable_that_it_shows() {
    let server = start(Options { log_thread: false, ..Options::default() });
    let (mut client, known) = connect(&server, 3, "TEST.LISTEN");
    let mut writer = server.client();
    writer.command("SET key 1");
    writer.expect_silence();
    assert!(post(&server, &known, "nothing held", 0));
    client.expect(shown('>', "nothing held"));
    assert!(post(&server, &known, "held", 1));
    client.expect_silence();
    client.command("PING");
    assert!(post(&server, &known, "behind", 0));
    client.expect_silence();
    server.sync();
    client.expect(shown('>', "held"));
    let rest = ["+PONG\r\n".to_owned(), shown('>', "behind")];
    let either = exactly(&mut client, rest.concat().len());
    assert!(either == rest.concat() || either == [rest[1].clone(), rest[0].clone()].concat(), "{either}");
    writer.expect("+OK\r\n");
}

#[test]
#[should_panic(expected = "a push waits for a batch that was submitted")]
fn a_push_cannot_wait_for_a_batch_that_does_not_exist() {
    let server = start(Options::default());
    let (_client, known) = connect(&server, 3, "TEST.LISTEN");
    post(&server, &known, "too early", 1);
}

#[test]
fn a_push_stands_behind_the_replies_that_were_there_before() {
    let server = start(Options { log_thread: false, ..Options::default() });
    let (mut client, known) = connect(&server, 3, "TEST.LISTEN");
    client.command("SET key 1");
    server.wait_for_batches(1);
    client.expect_silence();
    assert!(post(&server, &known, "later", 0));
    client.expect_silence();
    client.command("GET other");
    client.expect_silence();
    server.sync();
    client.expect(format!("+OK\r\n{}_\r\n", shown('>', "later")));
}

/// A reply of many parts, asked for again and again while another thread posts.
#[test]
fn pushes_stand_between_replies_and_never_inside_one() {
    const PUSHES: usize = 500;
    let server = start(Options::default());
    for (protocol, mark) in [(2, '*'), (3, '>')] {
        let (mut client, known) = connect(&server, protocol, "TEST.LISTEN");
        client.call(&format!("MSET {}", "k v ".repeat(100).trim_end()), "+OK\r\n");
        let many = format!("MGET {}", "k ".repeat(100).trim_end());
        let reply = format!("*100\r\n{}", "$1\r\nv\r\n".repeat(100));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..PUSHES {
                    assert!(post(&server, &known, &format!("{number:05}"), 0));
                }
            });
            let one_push = shown(mark, "00000").len();
            let (mut seen, mut between) = (0, 0);
            while seen < PUSHES {
                client.send("MULTI\r\n");
                client.command(&many);
                client.send("PING\r\nEXEC\r\n");
                let wanted = ["+OK\r\n", "+QUEUED\r\n", "+QUEUED\r\n", &format!("*2\r\n{reply}+PONG\r\n")];
                for wanted in wanted {
                    let mut found = exactly(&mut client, 1);
                    while found.starts_with(mark) && !(mark == '*' && peek(&client, 7) == "2\r\n*100") {
                        found.push_str(&exactly(&mut client, one_push - 1));
                        assert_eq!(found, shown(mark, &format!("{seen:05}")));
                        (seen, between) = (seen + 1, between + 1);
                        found = exactly(&mut client, 1);
                    }
                    found.push_str(&exactly(&mut client, wanted.len() - 1));
                    assert_eq!(found, wanted);
                }
            }
            println!("{between} pushes in front of replies");
        });
    }
}

#[test]
fn pushes_reach_a_client_that_waits_for_its_reply_and_one_that_wants_none() {
    let server = start(Options::default());
    let (mut client, known) = connect(&server, 3, "TEST.LISTEN");
    client.command("DEBUG SLEEP 3600");
    assert!(post(&server, &known, "meanwhile", 0));
    client.expect(shown('>', "meanwhile"));
    let (mut client, known) = connect(&server, 3, "TEST.LISTEN");
    client.send("CLIENT REPLY OFF\r\nPING\r\n");
    assert!(post(&server, &known, "in spite of that", 0));
    client.expect(shown('>', "in spite of that"));
}

/// Subscribers have the limit of the class pubsub, whatever the limit of others; nothing is kept of what they
/// do not read.
#[test]
fn a_client_that_does_not_read_is_closed_at_the_limit_of_its_class() {
    let server = start(Options::default());
    let mut admin = server.client();
    admin.send("*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$26\r\nclient-output-buffer-limit\r\n$18\r\npubsub 1000000 0 0\r\n");
    admin.expect("+OK\r\n");
    let (_slow, subscriber) = connect(&server, 3, "TEST.SUBSCRIBE");
    let (_other, listener) = connect(&server, 3, "TEST.LISTEN");
    let text = "x".repeat(100_000);
    let mut taken = 0;
    while post(&server, &subscriber, &text, 0) {
        taken += 1;
        assert!(post(&server, &listener, &text, 0), "its limit is that of normal clients");
        assert!(taken < 1000, "what is not read was kept");
    }
    // What the sockets took, and a million bytes.
    assert!(taken >= 9, "{taken}");
    let stats = &server.server().context().stats;
    while stats.output_limit_disconnections.load(Ordering::Relaxed) == 0 || !subscriber.is_killed() {
        std::thread::yield_now();
    }
    assert!(!listener.is_killed());
    while subscriber.mailbox_bytes() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_connection_that_has_ended_takes_no_more() {
    let server = start(Options::default());
    let (client, known) = connect(&server, 2, "TEST.LISTEN");
    drop(client);
    while post(&server, &known, "is anybody there?", 0) {
        std::thread::yield_now();
    }
    assert_eq!(known.mailbox_bytes(), 0);
}

/// RESET ends all subscriptions: what was posted is dropped, and no more is taken until the client asks
/// again.
#[test]
fn reset_closes_the_mailbox_until_the_client_opens_it_again() {
    let server = start(Options::default());
    let (mut client, known) = connect(&server, 3, "TEST.SUBSCRIBE");
    let mut other = server.client();
    let kinds = |other: &mut TestClient, kind: &str| {
        other.command(&format!("CLIENT LIST TYPE {kind}"));
        let length: usize = other.line()[1..].parse().expect("a bulk string");
        let text = exactly(other, length + 2);
        text.lines().any(|line| line.starts_with(&format!("id={} ", known.id)))
    };
    assert!(kinds(&mut other, "pubsub") && !kinds(&mut other, "normal"));
    assert!(post(&server, &known, "before", 0));
    client.expect(shown('>', "before"));
    client.call("RESET", "+RESET\r\n");
    assert!(!kinds(&mut other, "pubsub") && kinds(&mut other, "normal"));
    assert!(!known.is_subscriber() && !server.server().context().clients.are_some_subscribers());
    assert!(!post(&server, &known, "nobody listens", 0));
    assert_eq!(known.mailbox_bytes(), 0);
    client.call("TEST.LISTEN", "+OK\r\n");
    assert!(post(&server, &known, "after", 0));
    client.expect(shown('*', "after"));
}

/// Ten thousand clients, each with a channel and a pattern of its own beside one that all have.
#[test]
fn a_message_costs_its_receivers_and_not_those_of_other_channels() {
    const CLIENTS: u64 = 10_000;
    let server = start(Options::default());
    let shared = server.server().context();
    let address = server.address;
    let mut clients = Vec::new();
    for id in 1..=CLIENTS {
        let client = Arc::new(Client::new(1_000_000 + id, address, address, Duration::ZERO));
        client.open_mailbox();
        let mut subscriptions = Subscriptions::default();
        let own = format!("user:{id}");
        for (space, name) in [
            (Space::Channels, "all".to_owned()),
            (Space::Channels, own.clone()),
            (Space::Patterns, format!("{own}:*")),
        ] {
            subscriptions.add(&shared.pubsub, space, &client, name.as_bytes());
        }
        clients.push((client, subscriptions));
    }
    let publish = |channel: &str| {
        let message = Message {
            space: Space::Channels,
            channel: channel.as_bytes().into(),
            content: b"text".as_slice().into(),
        };
        shared.publish(message, Lsn(0))
    };
    assert_eq!(publish("all"), CLIENTS as usize);
    assert_eq!((publish("user:77"), publish("user:77:x"), publish("user:")), (1, 1, 0));
    assert_eq!(shared.pubsub.counts(), [CLIENTS as usize + 1, CLIENTS as usize, 0]);
    for (client, mut subscriptions) in clients {
        let mailbox = client.open_mailbox();
        let expected = if client.id == 1_000_077 { 3 } else { 1 };
        assert_eq!(mailbox.take().len(), expected);
        subscriptions.clear(&shared.pubsub, &client);
    }
    assert_eq!(shared.pubsub.counts(), [0, 0, 0]);
}
