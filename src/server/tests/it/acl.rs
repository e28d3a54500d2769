//! Users and their rights: a golden script over TCP, which Redis must answer the same; and rights that are
//! durable, which Redis does not have.

#![allow(clippy::disallowed_methods, reason = "reads, blesses and writes files of the tests")]

use crate::support::TestServer;
use engramdb_engine::command::{Args, Command, CoveredKeys};
use engramdb_engine::log::memory::MemoryLog;
use engramdb_engine::log::pipeline::Options;
use engramdb_engine::log::{LogId, ShardLog};
use engramdb_engine::store::view::View;
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

/// A client that waits for keys when it loses the permission does not get them.
#[test]
fn a_wait_for_keys_ends_with_the_permission() {
    let server = TestServer::start();
    let mut admin = connect(&server);
    for (change, error) in [
        ("-bzpopmin", "NOPERM User u has no permissions to run the 'bzpopmin' command"),
        ("resetkeys ~other", "NOPERM No permissions to access a key"),
        ("", "NOPERM"),
    ] {
        call(&mut admin, "ACL SETUSER u reset on nopass ~k +bzpopmin +ping");
        let mut client = connect(&server);
        call(&mut client, "AUTH u x");
        client.send(&["BZPOPMIN", "k", "0"]);
        while server.server().engine().parked() == 0 {
            std::thread::yield_now();
        }
        // Another change does not end it.
        call(&mut admin, "ACL SETUSER u -ping");
        assert_eq!(server.server().engine().parked(), 1);
        match change {
            "" => call(&mut admin, "ACL DELUSER u"),
            change => call(&mut admin, &format!("ACL SETUSER u {change}")),
        };
        call(&mut admin, "ZADD k 1 a");
        if !change.is_empty() {
            // The connection of a user that is gone may be closed before the reply.
            let reply = format!("{:?}", client.receive()).replace('\\', "");
            assert!(reply.contains(error), "{change}: {reply}");
        }
        assert_eq!(call(&mut admin, "DEL k").as_int(), Some(1), "{change}: it was not taken");
    }
}

fn covering(view: &View<'_>, args: Args<'_>) -> CoveredKeys {
    _ = view.now_ms();
    CoveredKeys { prefixes: vec![b"doc:".to_vec(), b"d2:".to_vec()], are_deleted: args.len() > 2 }
}

const SEARCHES: &[Command] = &[engramdb_engine::command::read("FIND", "index [DD]", |_, _, reply| {
    reply.ok();
    Ok(())
})
.prefixes(covering)];

/// An index is read by those who may read all that it covers.
#[test]
fn what_an_index_covers_is_checked() {
    let server = TestServer::with_commands(SEARCHES);
    let (mut admin, mut client) = (connect(&server), connect(&server));
    const DENIED: &str = "NOPERM User does not have the required permissions to query the index";
    for (rules, reads, deletes) in [
        ("~doc:* ~d2:*", true, true),
        ("%R~doc:* %R~d*", true, false),
        ("%W~doc:* %W~d2:*", false, false),
        ("~doc:*", false, false),
        ("~doc:1 ~d2:*", false, false),
        ("allkeys", true, true),
        ("", false, false),
    ] {
        call(&mut admin, &format!("ACL SETUSER u reset on nopass +@all {rules}"));
        call(&mut client, "AUTH u x");
        for (words, permitted) in [("FIND i", reads), ("FIND i DD", deletes)] {
            let reply = shown(&mut client, words);
            assert_eq!(reply.contains(DENIED), !permitted, "{rules}: {words}: {reply}");
            let simulated = shown(&mut admin, &format!("ACL DRYRUN u {words}"));
            assert_eq!(simulated.contains("OK"), permitted, "{rules}: {words}: {simulated}");
            call(&mut client, "MULTI");
            assert_eq!(shown(&mut client, words).contains(DENIED), !permitted);
            call(&mut client, "DISCARD");
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    let server = TestServer::start();
    let mut client = connect(&server);
    call(&mut client, "CONFIG SET slowlog-log-slower-than 0");
    let secrets = [
        "AUTH default hush",
        "HELLO 2 AUTH default hush SETNAME n",
        "ACL SETUSER z on >hush",
        "ACL DELUSER hush",
        "CONFIG SET slowlog-max-len 100 requirepass hush",
    ];
    secrets.iter().for_each(|words| _ = call(&mut client, words));
    let log = shown(&mut client, "SLOWLOG GET 100");
    assert!(!log.contains("hush"), "{log}");
    assert!(log.contains("[\"AUTH\", \"(redacted)\", \"(redacted)\"]"), "{log}");
    assert!(log.contains("\"AUTH\", \"(redacted)\", \"(redacted)\", \"SETNAME\", \"n\""), "{log}");
    assert!(log.contains("\"slowlog-max-len\", \"100\", \"requirepass\", \"(redacted)\""), "{log}");
}

/// Random commands of a user with few rights, against a copy of the keys: what is refused changes nothing.
#[test]
fn what_is_denied_has_no_effect() {
    let server = TestServer::start();
    let (mut admin, mut client) = (connect(&server), connect(&server));
    let mut state = 7u64;
    let mut draw = |bound: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % bound
    };
    let rules = [
        "+set",
        "-set",
        "+@read",
        "-@read",
        "+@hash",
        "-@hash",
        "+del",
        "-del",
        "~a*",
        "%R~b*",
        "resetkeys",
        "(~c +append)",
        "clearselectors",
        "+@all",
        "-@all",
    ];
    let commands =
        ["SET", "APPEND", "HSET", "DEL", "GET", "HGET", "RENAME", "COPY", "MSET", "FLUSHALL", "INCR"];
    let mut denied = 0;
    for _ in 0..600 {
        call(&mut admin, &format!("ACL SETUSER u on nopass {}", rules[draw(rules.len() as u64) as usize]));
        call(&mut client, "AUTH u x");
        let name = commands[draw(commands.len() as u64) as usize];
        let key = |number: u64| ["a1", "b1", "c", "d"][number as usize];
        let words = match name {
            "HSET" => format!("HSET h{} f v", key(draw(4))),
            "HGET" => format!("HGET h{} f", key(draw(4))),
            "SET" | "APPEND" | "RENAME" | "COPY" => format!("{name} {} {}", key(draw(4)), key(draw(4))),
            "MSET" => format!("MSET {} 1 {} 2", key(draw(4)), key(draw(4))),
            "FLUSHALL" => name.to_owned(),
            _ => format!("{name} {}", key(draw(4))),
        };
        let before = server.server().engine().last_lsn();
        let is_permitted = shown(&mut admin, &format!("ACL DRYRUN u {words}")).contains("OK");
        let reply = shown(&mut client, &words);
        assert_eq!(reply.contains("NOPERM"), !is_permitted, "{words}: {reply}");
        if !is_permitted {
            denied += 1;
            assert_eq!(server.server().engine().last_lsn(), before, "{words} changed something");
        }
    }
    assert!((50..550).contains(&denied), "{denied} were denied");
}
