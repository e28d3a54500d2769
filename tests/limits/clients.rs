//! Limits of one client and of all clients, with a simulated clock.

use crate::served::Served;
use engramdb_resp::{Protocol, Value};
use engramdb_server::Config;
use engramdb_server::config::parameter;
use engramdb_testkit::tcp::Client;
use std::collections::BTreeMap;

fn set(config: &mut Config, parameters: &[(&str, &str)]) {
    for (name, value) in parameters {
        let parameter = parameter(name).expect("there is such a parameter");
        (parameter.set)(config, value).expect("a value of it");
    }
}

fn text(client: &mut Client, words: &[&str]) -> String {
    let reply = client.run(words);
    reply.as_str().map(str::to_owned).unwrap_or_else(|| panic!("{words:?}: {reply:?}"))
}

fn info(client: &mut Client, field: &str) -> u64 {
    let text = text(client, &["INFO", "everything"]);
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).expect("the field is there");
    line[field.len() + 1..].parse().expect("a number")
}

/// The fields of the other client's line in CLIENT LIST.
fn listed(client: &mut Client, other: &Client) -> BTreeMap<String, String> {
    let lines = text(client, &["CLIENT", "LIST"]);
    let address = format!("addr={} ", other.address());
    let line = lines.lines().find(|line| line.contains(&address)).expect("it is connected");
    line.split(' ')
        .filter_map(|field| field.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn number(fields: &BTreeMap<String, String>, name: &str) -> u64 {
    fields[name].parse().expect("a number")
}

/// Waits until a field of INFO has this value.
fn until_info(client: &mut Client, field: &str, value: u64) {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while info(client, field) != value {
        assert!(std::time::Instant::now() < patience, "{field} is {}, not {value}", info(client, field));
    }
}

/// Waits until a field of the other client's line satisfies this condition.
fn until_listed(client: &mut Client, other: &Client, name: &str, is_so: impl Fn(u64) -> bool) {
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !is_so(number(&listed(client, other), name)) {
        assert!(std::time::Instant::now() < patience, "{name} of {:?}", listed(client, other));
    }
}

#[test]
fn idle_connections_are_closed_and_active_ones_are_not() {
    let served = Served::with(|config| set(config, &[("timeout", "10")]));
    let mut idle = served.client(Protocol::Resp2);
    let mut active = served.client(Protocol::Resp2);
    text(&mut idle, &["PING"]);
    served.advance_ms(10_000);
    text(&mut active, &["PING"]);
    served.advance_ms(1_000);
    idle.is_closed_at_last();
    assert_eq!(text(&mut active, &["PING"]), "PONG");
    until_info(&mut active, "connected_clients", 1);
    text(&mut active, &["CONFIG", "SET", "timeout", "0"]);
    served.advance_ms(1_000_000);
    assert_eq!(text(&mut active, &["PING"]), "PONG");
}

#[test]
fn a_client_that_waits_for_the_disk_is_not_idle() {
    let served = Served::stalled_with(|config| set(config, &[("timeout", "10")]));
    let mut writer = served.client(Protocol::Resp2);
    let mut idle = served.client(Protocol::Resp2);
    text(&mut idle, &["PING"]);
    served.apply(&mut writer, "SET a 1");
    served.advance_ms(60_000);
    // Both were found idle in the same check.
    idle.is_closed_at_last();
    served.sync();
    assert_eq!(writer.receive(), Value::SimpleString(b"OK".to_vec()));
}

#[test]
fn sockets_are_probed_as_configured() {
    let served = Served::with(|config| set(config, &[("tcp-keepalive", "60")]));
    let mut probed = served.client(Protocol::Resp2);
    text(&mut probed, &["CONFIG", "SET", "tcp-keepalive", "0"]);
    let mut unprobed = served.client(Protocol::Resp2);
    text(&mut unprobed, &["PING"]);
    // In /proc/net/tcp the third column of the server's end is the peer; the sixth column begins with 02 if
    // there is a keepalive timer.
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("Linux lists sockets");
    let timer = |client: &Client| {
        let peer = format!(":{:04X}", client.address().port());
        let line = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = line.into_iter().find(|columns| columns[2].ends_with(&peer)).expect("the server's end");
        line[5][..2].to_owned()
    };
    assert_eq!((timer(&probed).as_str(), timer(&unprobed).as_str()), ("02", "00"));
}

#[test]
fn the_soft_limit_may_be_exceeded_for_its_seconds() {
    let served = Served::with(|config| set(config, &[("client-output-buffer-limit", "normal 0 2mb 20")]));
    let mut reader = served.client(Protocol::Resp2);
    let mut other = served.client(Protocol::Resp2);
    text(&mut other, &["SET", "value", &"x".repeat(1 << 20)]);
    for _ in 0..40 {
        reader.send(&["GET", "value"]);
    }
    until_listed(&mut other, &reader, "omem", |bytes| bytes > 4 << 20);
    served.advance_ms(15_000);
    let mut quick = served.client(Protocol::Resp2);
    for _ in 0..40 {
        quick.send(&["GET", "value"]);
    }
    (0..40).for_each(|_| drop(quick.receive()));
    served.advance_ms(10_000);
    until_info(&mut other, "client_output_buffer_limit_disconnections", 1);
    reader.is_closed_at_last();
    assert_eq!(text(&mut quick, &["PING"]), "PONG", "what was read is not counted");
}

#[test]
fn a_closing_connection_is_kept_only_while_its_client_takes_what_is_left() {
    let served = Served::start();
    let mut silent = served.client(Protocol::Resp2);
    let mut slow = served.client(Protocol::Resp2);
    let mut other = served.client(Protocol::Resp2);
    text(&mut other, &["SET", "value", &"x".repeat(1 << 20)]);
    for client in [&mut silent, &mut slow] {
        (0..60).for_each(|_| client.send(&["GET", "value"]));
        client.send(&["QUIT"]);
        until_listed(&mut other, client, "omem", |bytes| bytes > 4 << 20);
        while listed(&mut other, client)["cmd"] != "quit" {}
    }
    served.advance_ms(50_000);
    // As the slow client reads, it makes room for more.
    let unsent = number(&listed(&mut other, &slow), "omem");
    (0..20).for_each(|_| drop(slow.receive()));
    until_listed(&mut other, &slow, "omem", |bytes| bytes < unsent);
    assert_eq!(info(&mut other, "connected_clients"), 3);
    served.advance_ms(20_000);
    until_info(&mut other, "connected_clients", 2);
    (20..60).for_each(|_| assert_eq!(slow.receive().as_str().map(str::len), Some(1 << 20)));
    assert_eq!(slow.receive(), Value::SimpleString(b"OK".to_vec()));
    slow.is_closed_at_last();
    silent.is_closed_at_last();
}

#[test]
fn freed_client_memory_is_subtracted_from_the_sums() {
    let served = Served::with(|config| set(config, &[("client-output-buffer-limit", "normal 64mb 0 0")]));
    let mut other = served.client(Protocol::Resp2);
    text(&mut other, &["SET", "value", &"x".repeat(1 << 20)]);
    let quiet = info(&mut other, "mem_clients_normal");
    let mut clients: Vec<Client> = (0..6).map(|_| served.client(Protocol::Resp2)).collect();
    let [unread, queued, half, closing, evicted, beyond] = &mut clients[..] else { panic!("six clients") };
    (0..30).for_each(|_| unread.send(&["GET", "value"]));
    text(queued, &["MULTI"]);
    assert_eq!(text(queued, &["SET", "k", &"x".repeat(4 << 20)]), "QUEUED");
    half.send_raw(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9000000\r\n{}", "x".repeat(3 << 20)).as_bytes());
    (0..30).for_each(|_| closing.send(&["GET", "value"]));
    closing.send(&["QUIT"]);
    text(evicted, &["MULTI"]);
    assert_eq!(text(evicted, &["SET", "k", &"x".repeat(40 << 20)]), "QUEUED");
    (0..100).for_each(|_| beyond.try_send(&["GET", "value"]));
    until_info(&mut other, "client_output_buffer_limit_disconnections", 1);
    for client in [&*unread, closing, queued, half] {
        until_listed(&mut other, client, "tot-mem", |bytes| bytes > 2 << 20);
    }
    text(&mut other, &["CONFIG", "SET", "maxmemory-clients", "90mb"]);
    until_info(&mut other, "evicted_clients", 1);
    assert!(info(&mut other, "mem_clients_normal") > 40 << 20);
    drop(clients);
    until_info(&mut other, "connected_clients", 1);
    // Its own buffers are those of one request.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while info(&mut other, "mem_clients_normal") > quiet + (64 << 10) {
        assert!(std::time::Instant::now() < patience, "{}", info(&mut other, "mem_clients_normal"));
    }
    assert_eq!(info(&mut other, "client_recent_max_output_buffer"), 0);
}

#[test]
fn the_largest_clients_are_evicted_first_and_some_never() {
    // Limits allow for the buffers of a request that has just been queued.
    let served = Served::start();
    let mut judge = served.client(Protocol::Resp2);
    let mut protected = served.client(Protocol::Resp2);
    text(&mut protected, &["CLIENT", "NO-EVICT", "ON"]);
    let queue = |client: &mut Client, mib: usize| {
        text(client, &["MULTI"]);
        assert_eq!(text(client, &["SET", "k", &"x".repeat(mib << 20)]), "QUEUED");
    };
    queue(&mut protected, 5);
    text(&mut judge, &["CONFIG", "SET", "maxmemory-clients", "32mb"]);
    let mut small = served.client(Protocol::Resp2);
    queue(&mut small, 1);
    let mut large = served.client(Protocol::Resp2);
    text(&mut large, &["MULTI"]);
    large.try_send(&["SET", "k", &"x".repeat(40 << 20)]);
    large.is_closed_at_last();
    until_info(&mut judge, "evicted_clients", 1);
    for client in [&mut protected, &mut small] {
        assert_eq!(client.run(&["EXEC"]), Value::Array(vec![Value::SimpleString(b"OK".to_vec())]));
    }
    text(&mut judge, &["CONFIG", "SET", "maxmemory-clients", "0"]);
    let mut large = served.client(Protocol::Resp2);
    queue(&mut large, 60);
    text(&mut judge, &["CONFIG", "SET", "maxmemory-clients", "40mb"]);
    large.is_closed_at_last();
    until_info(&mut judge, "evicted_clients", 2);
}

#[test]
fn a_queue_counts_as_a_request() {
    let served = Served::with(|config| set(config, &[("client-query-buffer-limit", "2mb")]));
    let mut client = served.client(Protocol::Resp2);
    text(&mut client, &["MULTI"]);
    for _ in 0..15 {
        client.send(&["SET", "k", &"x".repeat(100_000)]);
        assert_eq!(client.receive(), Value::SimpleString(b"QUEUED".to_vec()));
    }
    assert_eq!(client.run(&["EXEC"]).as_array().map(<[Value]>::len), Some(15));
    text(&mut client, &["MULTI"]);
    for _ in 0..25 {
        client.try_send(&["SET", "k", &"x".repeat(100_000)]);
    }
    client.is_closed_at_last();
    let mut other = served.client(Protocol::Resp2);
    text(&mut other, &["SELECT", "0"]);
    until_info(&mut other, "client_query_buffer_limit_disconnections", 1);
}

#[test]
fn the_list_of_clients_says_what_each_takes() {
    let served = Served::start();
    let mut judge = served.client(Protocol::Resp2);
    let mut other = served.client(Protocol::Resp2);
    text(&mut other, &["PING"]);
    // Its numbers are published when it has sent the reply and waits for the next request.
    until_listed(&mut judge, &other, "qbuf", |bytes| bytes == 0);
    let idle = listed(&mut judge, &other);
    assert!(number(&idle, "argv-mem") < 4096, "lists for the next request, {idle:?}");
    for name in ["qbuf", "multi-mem", "obl", "oll", "omem"] {
        assert_eq!(number(&idle, name), 0, "{name} of {idle:?}");
    }
    let idle = number(&idle, "tot-mem");
    assert!((500..8_000).contains(&idle), "{idle}");
    text(&mut other, &["MULTI"]);
    text(&mut other, &["SET", "k", &"x".repeat(1_000_000)]);
    until_listed(&mut judge, &other, "multi-mem", |bytes| (1_000_000..1_001_000).contains(&bytes));
    // Half a request.
    other.send_raw(b"*2000000\r\n");
    other.send_raw(&b"$1\r\nx\r\n".repeat(100_000));
    until_listed(&mut judge, &other, "qbuf", |bytes| bytes == 700_010);
    until_listed(&mut judge, &other, "argv-mem", |bytes| (1_600_000..4_000_000).contains(&bytes));
    let fields = listed(&mut judge, &other);
    assert!(number(&fields, "tot-mem") >= 3_300_000, "{fields:?}");
    let total: u64 = info(&mut judge, "mem_clients_normal");
    assert!(total >= number(&fields, "tot-mem"), "{total}");
    drop(other);
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while info(&mut judge, "mem_clients_normal") > 100_000 {
        assert!(
            std::time::Instant::now() < patience,
            "the memory of a connection that has ended still counts"
        );
    }
}
