//! Keys that go at `maxmemory`, by each policy.

use crate::commands::lines;
use crate::support::{TestClient, TestServer};
use engramdb_engine::keyspace::EvictionPolicy;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::{LogId, ShardLog};
use std::sync::Arc;

const KEYS: usize = 400;

fn info(client: &mut TestClient, field: &str) -> u64 {
    let start = format!("{field}:");
    let found = lines(client, "INFO").into_iter().find_map(|line| line.strip_prefix(&start)?.parse().ok());
    found.unwrap_or_else(|| panic!("INFO has {field}"))
}

fn integer(client: &mut TestClient, command: &str) -> i64 {
    client.command(command);
    client.line().strip_prefix(':').and_then(|number| number.parse().ok()).expect("an integer")
}

/// Keys of a kilobyte; every other one expires.
fn fill(client: &mut TestClient) {
    for number in 0..KEYS {
        let value = "x".repeat(1000);
        let expiry = if number % 2 == 0 { "" } else { " EX 100000" };
        client.call(&format!("SET key:{number} {value}{expiry}"), "+OK\r\n");
    }
}

/// Sets the limit to what is in use, and writes half as much again.
fn overfill(client: &mut TestClient, policy: &str) -> u64 {
    let limit = info(client, "used_memory");
    client.call(&format!("CONFIG SET maxmemory-policy {policy} maxmemory {limit}"), "+OK\r\n");
    for number in 0..KEYS / 2 {
        let value = "y".repeat(1000);
        client.call(&format!("SET new:{number} {value} EX 200000"), "+OK\r\n");
    }
    limit
}

#[test]
fn each_policy_keeps_memory_within_its_limit_and_evicts_what_it_may() {
    for policy in EvictionPolicy::NAMES.iter().filter(|policy| **policy != "noeviction") {
        let server = TestServer::start();
        let mut client = server.client();
        fill(&mut client);
        let limit = overfill(&mut client, policy);
        // The last write may have exceeded it by itself.
        assert!(info(&mut client, "used_memory") <= limit + 2048, "{policy}");
        client.call("CONFIG SET maxmemory 0", "+OK\r\n");
        let evicted = info(&mut client, "evicted_keys") as i64;
        let left = integer(&mut client, "DBSIZE");
        assert_eq!(left + evicted, (KEYS + KEYS / 2) as i64, "{policy}: nothing else is gone");
        let names: Vec<String> =
            (0..KEYS).filter(|number| number % 2 == 0).map(|number| format!("key:{number}")).collect();
        let kept = integer(&mut client, &format!("EXISTS {}", names.join(" ")));
        match policy.starts_with("volatile") {
            true => assert_eq!(kept, (KEYS / 2) as i64, "{policy}: only keys that expire may go"),
            false => assert!(kept < (KEYS / 2) as i64, "{policy}: any key may go"),
        }
    }
}

#[test]
fn keys_that_are_read_more_often_stay_under_lfu() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call("CONFIG SET maxmemory-policy allkeys-lfu lfu-decay-time 0 maxmemory-samples 10", "+OK\r\n");
    fill(&mut client);
    for _ in 0..40 {
        for number in 0..20 {
            client.command(&format!("STRLEN key:{number}"));
            assert_eq!(client.line(), ":1000");
        }
    }
    assert!(integer(&mut client, "OBJECT FREQ key:7") > integer(&mut client, "OBJECT FREQ key:77"));
    client.command("OBJECT IDLETIME key:7");
    assert!(client.line().starts_with("-ERR An LFU maxmemory policy is selected"));
    overfill(&mut client, "allkeys-lfu");
    let often: Vec<String> = (0..20).map(|number| format!("key:{number}")).collect();
    assert_eq!(integer(&mut client, &format!("EXISTS {}", often.join(" "))), 20);
    client.call("CONFIG SET maxmemory-policy allkeys-lru", "+OK\r\n");
    client.command("OBJECT FREQ key:7");
    assert!(client.line().starts_with("-ERR An LFU maxmemory policy is not selected"));
}

#[test]
fn the_soonest_to_expire_goes_first_by_ttl() {
    let server = TestServer::start();
    let mut client = server.client();
    for number in 0..KEYS {
        let value = "x".repeat(1000);
        client.call(&format!("SET key:{number} {value} EX {}", 10_000 + number * 100), "+OK\r\n");
    }
    overfill(&mut client, "volatile-ttl");
    let names =
        |range: std::ops::Range<usize>| range.map(|number| format!(" key:{number}")).collect::<String>();
    let soon = integer(&mut client, &format!("EXISTS{}", names(0..KEYS / 4)));
    let late = integer(&mut client, &format!("EXISTS{}", names(KEYS / 4 * 3..KEYS)));
    assert!(soon < late / 4, "{soon} of the first quarter are left, {late} of the last");
}

#[test]
fn where_nothing_may_go_writes_are_refused_and_transactions_too() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call(&format!("SET a {}", "x".repeat(10_000)), "+OK\r\n");
    client.call("MULTI", "+OK\r\n");
    client.call("SET c 1", "+QUEUED\r\n");
    let mut other = server.client();
    other.call("CONFIG SET maxmemory-policy volatile-lru maxmemory 5000", "+OK\r\n");
    let refusal = "OOM command not allowed when used memory > 'maxmemory'.";
    other.call("SET b 1", &format!("-{refusal}\r\n"));
    client.call("EXEC", &format!("-EXECABORT Transaction discarded because of: {refusal}\r\n"));
    other.call("EXISTS a", ":1\r\n");
    other.call("EXPIRE a 1000", ":1\r\n");
    other.call("SET b 1", "+OK\r\n");
    other.call("EXISTS a b", ":1\r\n");
}

/// What was evicted does not come back from the log.
#[test]
fn evictions_are_in_the_log() {
    let log: Arc<dyn ShardLog> = Arc::new(MemoryLog::new(LogId([9; 16])));
    let (left, of_key) = {
        let server = TestServer::over(log.clone(), |_| (), Options::default());
        let mut client = server.client();
        fill(&mut client);
        overfill(&mut client, "allkeys-random");
        (integer(&mut client, "DBSIZE"), integer(&mut client, "EXISTS key:1 key:2 key:3 key:4"))
    };
    let server = TestServer::over(log, |_| (), Options::default());
    let mut client = server.client();
    assert_eq!(integer(&mut client, "DBSIZE"), left);
    assert_eq!(integer(&mut client, "EXISTS key:1 key:2 key:3 key:4"), of_key);
}
