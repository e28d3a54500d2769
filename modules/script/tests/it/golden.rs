//! Golden scripts: command lines and their replies in RESP2 and RESP3. `ENGRAMDB_BLESS=1` writes what this
//! server replies; `ENGRAMDB_ORACLE_PORT=6379` asks another server instead, so that a difference shows.

use crate::support::{Scripted, show};
use engramdb_resp::Protocol;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;
use std::path::PathBuf;

#[test]
fn values() {
    check("values");
}

#[test]
fn errors() {
    check("errors");
}

#[test]
fn sandbox() {
    check("sandbox");
}

#[test]
fn libraries() {
    check("libraries");
}

#[test]
fn functions() {
    check("functions");
}

/// Each line that begins with a reply's mark is one that was recorded; the others are commands and comments.
#[expect(clippy::disallowed_methods, reason = "golden files are read and written")]
fn check(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/golden/{name}.txt"));
    let text = std::fs::read_to_string(&path).expect("a golden script");
    let server = Scripted::start();
    let oracle = std::env::var("ENGRAMDB_ORACLE_PORT").ok();
    let connect = |protocol| match &oracle {
        Some(port) => Client::connect(&format!("127.0.0.1:{port}"), protocol),
        None => server.client_of(protocol),
    };
    let mut made: Vec<String> = Vec::new();
    let commands: Vec<&str> = text.lines().filter(|line| !line.starts_with("  ")).collect();
    let mut replies = [Protocol::Resp2, Protocol::Resp3].map(|protocol| {
        let mut client = connect(protocol);
        for reset in ["FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH"] {
            client.run(&split_words(reset));
        }
        let is_command = |line: &&&str| !line.is_empty() && !line.starts_with('#');
        let run = |line: &&str| show(&client.run(&split_words(line)));
        commands.iter().filter(is_command).map(run).collect::<Vec<_>>().into_iter()
    });
    for line in commands {
        made.push(line.to_owned());
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let [second, third] = replies.each_mut().map(|replies| replies.next().expect("one for each"));
        if second == third {
            made.push(format!("  {second}"));
        } else {
            made.extend([format!("  RESP2 {second}"), format!("  RESP3 {third}")]);
        }
    }
    let made = made.join("\n") + "\n";
    if std::env::var_os("ENGRAMDB_BLESS").is_some() {
        return std::fs::write(&path, made).expect("the golden script is written");
    }
    for (index, (wanted, found)) in text.lines().zip(made.lines()).enumerate() {
        assert_eq!(found, wanted, "{name}.txt, line {}", index + 1);
    }
    assert_eq!(made, text);
}
