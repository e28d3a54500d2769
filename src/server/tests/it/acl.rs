//! Users and their rights: a golden script over TCP, which Redis must answer the same; and rights that are
//! durable, which Redis does not have.

#![allow(clippy::disallowed_methods, reason = "reads, blesses and writes files of the tests")]

use crate::support::TestServer;
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::{LogId, ShardLog};
use engramdb_resp::{Protocol, Value};
use engramdb_testkit::machine::Need;
use engramdb_testkit::oracle::Oracle;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/acl.script")
}

/// Runs a script: `name> words` is a command of the client of that name, and the next line its reply; `name!`
/// asserts that the server closes that client.
fn run(address: &str, script: &str) -> String {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    let mut output = String::new();
    for line in script.lines() {
        let step = line.split_once("> ").filter(|(name, _)| name.chars().all(|c| c.is_ascii_alphanumeric()));
        let closed = line.strip_suffix('!').filter(|name| clients.contains_key(*name));
        if let Some((name, words)) = step {
            let protocol = if name.ends_with('3') { Protocol::Resp3 } else { Protocol::Resp2 };
            let client = clients.entry(name.to_owned()).or_insert_with(|| Client::connect(address, protocol));
            let reply = client.run(&split_words(words));
            writeln!(output, "{line}\n{}", masked(&format!("{reply:?}"))).expect("strings grow");
        } else if let Some(name) = closed {
            clients.remove(name).expect("it was looked for").is_closed_at_last();
            writeln!(output, "{line}").expect("strings grow");
        } else if line.is_empty() || line.starts_with('#') {
            writeln!(output, "{line}").expect("strings grow");
        }
    }
    output
}

/// Without what differs from run to run.
fn masked(reply: &str) -> String {
    let mut text = reply.to_owned();
    for field in ["client-info", "age-seconds", "timestamp-created", "timestamp-last-updated"] {
        for between in ["\": ", "\", "] {
            let name = format!("\"{field}{between}");
            text = text.split(&name).enumerate().fold(String::new(), |text, (index, part)| match index {
                0 => part.to_owned(),
                _ => format!("{text}{name}...{}", without_value(part)),
            });
        }
    }
    text
}

/// What follows a text or a number.
fn without_value(text: &str) -> &str {
    match text.strip_prefix('"') {
        Some(quoted) => &quoted[quoted.find('"').expect("a quote ends") + 1..],
        None => text.trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == '.'),
    }
}

/// Asserts that two outputs are equal; shows the first line that differs.
fn compare(output: &str, expected: &str) {
    for (came, expected) in output.lines().zip(expected.lines()) {
        assert_eq!(came, expected);
    }
    assert_eq!(output.lines().count(), expected.lines().count());
}

#[test]
fn the_script_here() {
    let script = std::fs::read_to_string(script()).expect("the script can be read");
    let server = TestServer::start();
    let output = run(&server.address.to_string(), &script);
    if std::env::var_os("ENGRAMDB_BLESS").is_some() {
        std::fs::write(self::script(), output).expect("the script can be written");
    } else {
        compare(&output, &script);
    }
}

#[test]
fn the_script_beside_redis() {
    if Need::Packages.is_missing() {
        return;
    }
    let redis = Oracle::start();
    let script = std::fs::read_to_string(script()).expect("the script can be read");
    let shared = script.split("# What follows is ours").next().expect("a split has a first part");
    compare(&run(&format!("127.0.0.1:{}", redis.port), shared), shared);
}

fn connect(server: &TestServer) -> Client {
    Client::connect(&server.address.to_string(), Protocol::Resp2)
}

fn call(client: &mut Client, words: &str) -> Value {
    client.run(&split_words(words))
}

fn shown(client: &mut Client, words: &str) -> String {
    format!("{:?}", call(client, words))
}

fn over(log: &Arc<MemoryLog>, configure: impl FnOnce(&mut engramdb_server::Config)) -> TestServer {
    let log: Arc<dyn ShardLog> = log.clone();
    TestServer::over(log, configure, Options::default())
}

fn new_log() -> Arc<MemoryLog> {
    Arc::new(MemoryLog::new(LogId([9; 16])))
}

#[test]
fn users_come_back_after_a_restart() {
    let log = new_log();
    let server = over(&log, |_| ());
    let mut admin = connect(&server);
    for words in [
        "ACL SETUSER alice on >secret %R~a* +@read (~b +set) &news",
        "ACL SETUSER bob on nopass allkeys +@all -@dangerous",
        "ACL SETUSER carol",
        "ACL SETUSER default >rootpass",
        "ACL DELUSER carol",
    ] {
        assert!(!call(&mut admin, words).is_error(), "{words}");
    }
    let before = shown(&mut admin, "ACL LIST");
    drop(server);
    let server = over(&log, |_| ());
    let mut client = connect(&server);
    assert!(shown(&mut client, "GET a").contains("NOAUTH"));
    assert!(shown(&mut client, "AUTH wrong").contains("WRONGPASS"));
    assert!(!call(&mut client, "AUTH alice secret").is_error());
    assert!(call(&mut client, "GET a1").is_null());
    assert!(shown(&mut client, "SET a1 v").contains("NOPERM"));
    assert!(!call(&mut client, "AUTH rootpass").is_error());
    assert_eq!(shown(&mut client, "ACL LIST"), before);
    // Flushes are about keys.
    call(&mut client, "FLUSHALL");
    assert_eq!(shown(&mut client, "ACL LIST"), before);
}

#[test]
fn rights_are_durable_before_anything_shows_them() {
    let server = TestServer::stalled();
    let (mut admin, mut other) = (server.client(), server.client());
    admin.command("ACL SETUSER alice on nopass +ping");
    server.wait_for_batches(1);
    other.command("AUTH alice x");
    admin.expect_silence();
    other.expect_silence();
    server.sync();
    admin.expect("+OK\r\n");
    other.expect("+OK\r\n");
    admin.command("ACL SETUSER alice -ping");
    server.wait_for_batches(2);
    other.command("PING");
    other.expect_silence();
    server.sync();
    other.expect("-NOPERM User alice has no permissions to run the 'ping' command\r\n");
    admin.expect("+OK\r\n");
}

#[test]
fn a_file_seeds_a_store_without_users_only() {
    let directory = engramdb_testkit::TempDir::new("acl-file");
    let path = directory.path().join("users.acl");
    std::fs::write(&path, "# users\nuser alice on >pw ~* +get\n\nuser default on >root ~* &* +@all\n")
        .expect("a writable directory");
    let with_file = |config: &mut engramdb_server::Config| config.acl_file = path.display().to_string();
    let log = new_log();
    let server = over(&log, with_file);
    let mut admin = connect(&server);
    assert!(!call(&mut admin, "AUTH root").is_error());
    assert!(shown(&mut admin, "ACL USERS").contains("alice"));
    call(&mut admin, "ACL DELUSER alice");
    drop(server);
    let server = over(&log, with_file);
    let mut admin = connect(&server);
    call(&mut admin, "AUTH root");
    assert!(!shown(&mut admin, "ACL USERS").contains("alice"), "what was deleted stays deleted");
    call(&mut admin, "ACL SETUSER bob on nopass +get");
    let mut bob = connect(&server);
    call(&mut bob, "AUTH bob x");
    assert!(!call(&mut admin, "ACL LOAD").is_error());
    bob.is_closed_at_last();
    assert!(shown(&mut admin, "ACL USERS").contains("alice"), "the file was asked for");
    call(&mut admin, "ACL SETUSER alice -get (~a +set)");
    assert!(!call(&mut admin, "ACL SAVE").is_error());
    let saved = std::fs::read_to_string(&path).expect("it was written");
    assert!(saved.starts_with("user alice on sanitize-payload #30c952fa"), "{saved}");
    assert!(saved.contains(" -@all -get (~a resetchannels -@all +set)\nuser default"), "{saved}");
    std::fs::write(&path, "user alice +nope\nbob\n").expect("a writable directory");
    let before = shown(&mut admin, "ACL LIST");
    let error = shown(&mut admin, "ACL LOAD");
    assert!(error.contains("users.acl:1: Error in applying operation"), "{error}");
    assert!(error.contains("users.acl:2 should start with user keyword"), "{error}");
    assert_eq!(shown(&mut admin, "ACL LIST"), before);
}

#[test]
fn lines_of_the_configuration_seed_too() {
    let log = new_log();
    let lines = |config: &mut engramdb_server::Config| {
        config.users = vec!["alice on nopass ~a +get".split(' ').map(str::to_owned).collect()];
    };
    drop(over(&log, lines));
    let server = over(&log, |_| ());
    let mut client = connect(&server);
    call(&mut client, "AUTH alice x");
    assert!(call(&mut client, "GET a").is_null());
    assert!(shown(&mut client, "GET b").contains("NOPERM"));
}

#[test]
fn the_password_of_the_configuration_is_that_of_default() {
    let log = new_log();
    let server = over(&log, |config| config.password = "first".to_owned());
    let mut client = connect(&server);
    assert!(shown(&mut client, "PING").contains("NOAUTH"));
    call(&mut client, "AUTH first");
    call(&mut client, "CONFIG SET requirepass second");
    drop(server);
    // As any setting, it is not kept; users that were changed are.
    let server = over(&log, |config| config.password = "first".to_owned());
    let mut client = connect(&server);
    assert!(!call(&mut client, "AUTH first").is_error());
    call(&mut client, "ACL SETUSER default +@all");
    call(&mut client, "ACL SETUSER default >third");
    call(&mut client, "CONFIG SET requirepass fourth");
    drop(server);
    let server = over(&log, |_| ());
    let mut client = connect(&server);
    assert!(shown(&mut client, "AUTH third").contains("WRONGPASS"));
    assert!(!call(&mut client, "AUTH fourth").is_error());
}

#[test]
fn ten_thousand_users() {
    let log = new_log();
    let server = over(&log, |_| ());
    let mut admin = connect(&server);
    for index in 0..10_000 {
        admin.send(&split_words(&format!("ACL SETUSER u{index} on >p{index} ~u{index}:* +@read -get +set")));
    }
    for _ in 0..10_000 {
        assert!(!admin.receive().is_error());
    }
    drop(server);
    let server = over(&log, |_| ());
    let mut client = connect(&server);
    assert_eq!(call(&mut client, "ACL USERS").as_array().map(<[Value]>::len), Some(10_001));
    assert!(!call(&mut client, "AUTH u777 p777").is_error());
    assert!(!call(&mut client, "SET u777:a v").is_error());
    for denied in ["SET u77:a v", "GET u777:a", "ACL USERS"] {
        assert!(shown(&mut client, denied).contains("NOPERM"), "{denied}");
    }
}

/// The rights change between the commands of one pipeline, and of one transaction.
#[test]
fn a_change_holds_for_the_next_command() {
    let server = TestServer::start();
    let mut client = connect(&server);
    call(&mut client, "ACL SETUSER me on nopass ~* +@all");
    call(&mut client, "AUTH me x");
    let pipeline = ["SET a 1", "ACL SETUSER me -set", "SET a 2", "GET a", "ACL SETUSER me +set", "SET a 3"];
    pipeline.iter().for_each(|words| client.send(&split_words(words)));
    let replies: Vec<String> = pipeline.iter().map(|_| format!("{:?}", client.receive())).collect();
    assert!(
        replies[2].contains("NOPERM") && replies[3].contains('1') && replies[5].contains("OK"),
        "{replies:?}"
    );
    for words in ["MULTI", "ACL SETUSER me -get", "GET a", "SET b 1"] {
        call(&mut client, words);
    }
    let reply = shown(&mut client, "EXEC");
    assert!(reply.contains("NOPERM ACLs rules changed") && reply.ends_with("+\"OK\"]"), "{reply}");
}
