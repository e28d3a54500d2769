//! JSON.* compared with a real RedisJSON 2.8.3: both servers get the same random commands over random
//! documents, over RESP2 and RESP3, and must give the same replies and have the same documents. The golden
//! script `tests/it/scripts/json.script` is compared too (`scripts_beside_redis`).
//!
//! Where the two differ, and why, is listed in `DIFFERENCES`; a difference that no longer exists fails the
//! test.

#![allow(clippy::disallowed_methods, reason = "tests of real servers live in real time, on the real disk")]

mod random;

use engramdb_resp::{Protocol, Value};
use engramdb_testkit::machine::Need;
use engramdb_testkit::oracle::Oracle;
use engramdb_testkit::process::{Server, TempDir};
use engramdb_testkit::tcp::Client;
use std::fmt::Write;

/// A document, a command, and why the replies, or the documents after it, differ.
const DIFFERENCES: &[(&str, &[&str], &str)] = &[
    (
        "{\"n\":1}",
        &["JSON.SET", "d", "$.n", "1 2"],
        "what follows a value is refused here, and ignored there",
    ),
    ("[]", &["JSON.SET", "d", "$", "22.659490913482138"], "the nearest float here, one beside it there"),
    (
        "{\"o\":{\"a\":1}}",
        &["JSON.NUMINCRBY", "d", "$.o[?(@==1)]", "1"],
        "filters choose members to change here",
    ),
    (
        "{\"it's\":1}",
        &["JSON.SET", "d", "$['it\\'s']", "2"],
        "escaped names are those of members to change here",
    ),
    ("{\"a\":1,\"ab\":2}", &["JSON.DEL", "d", "$.*"], "a name that begins as another one is removed here"),
    ("1", &["JSON.DEL", "d", "$[?(@==1)]"], "a filter that holds for the whole document removes it here"),
    (
        "[[1],[2,[3]]]",
        &["JSON.ARRPOP", "d", "$..*", "0"],
        "arrays within arrays are changed from inside here; there, the locations of inner ones move",
    ),
    ("[[1,2],[]]", &["JSON.ARRINSERT", "d", "$.*", "2", "3"], "an error changes nothing here"),
    ("[1]", &["JSON.NUMINCRBY", "d", "$[0,0]", "1"], "a value that is named twice is changed once here"),
    ("{\"a\":\"x1\"}", &["JSON.GET", "d", "$[?(@=~'x\\\\d')]"], "patterns with a backslash match here"),
    (
        "{}",
        &["JSON.GET", "d", "$", "$["],
        "a malformed path among several is an error here, and left out there",
    ),
    (
        "{}",
        &["JSON.GET", "d", "['é']"],
        "errors show names as they are here, and one byte for each letter there",
    ),
    ("{\"a\":1,\"b\":2}", &["JSON.CLEAR", "d", "$.a", "$.b"], "words that have no meaning are refused here"),
    ("[1]", &["JSON.ARRPOP", "d", "$", "x"], "an index that is no number is refused here"),
    ("{}", &["JSON.SET", "d", "$", "1", "FORMAT", "BSON"], "there is no BSON here"),
    (
        "[1,2]",
        &["JSON.MSET", "d", "$", "[[1]]", "d", "$[1]", "7"],
        "a value is refused for which those in front leave no place; it is not set there, and the reply is OK",
    ),
    (
        "{}",
        &["JSON.MSET", "d", "$.q", "7", "d", "$.q", "8"],
        "the last of several values for a path counts here",
    ),
    ("{\"é\":1}", &["JSON.GET", "d", "$.é"], "names outside of ASCII need no quotes here"),
];

struct Pair {
    ours: Client,
    theirs: Client,
}

impl Pair {
    fn connect(ours: &Server, theirs: &Oracle, protocol: Protocol) -> Pair {
        let connect = |port: u16| Client::connect(&format!("127.0.0.1:{port}"), protocol);
        Pair { ours: connect(ours.port), theirs: connect(theirs.port) }
    }

    fn run(&mut self, words: &[impl AsRef<[u8]>]) -> [Value; 2] {
        [&mut self.ours, &mut self.theirs].map(|client| canonical(words, client.run(words)))
    }

    /// Both replies if they differ in more than letters outside of ASCII in an error.
    fn differ_in_ascii(&mut self, words: &[impl AsRef<[u8]>]) -> Option<[Value; 2]> {
        let plain = self.run(words).map(|reply| match reply {
            Value::Error(text) => Value::Error(text.into_iter().filter(u8::is_ascii).collect()),
            reply => reply,
        });
        Some(plain).filter(|[ours, theirs]| ours != theirs)
    }

    /// Both replies if they differ.
    fn differ(&mut self, words: &[impl AsRef<[u8]>]) -> Option<[Value; 2]> {
        Some(self.run(words)).filter(|[ours, theirs]| ours != theirs)
    }
}

/// Several paths are members of one object in the reply, in no order.
fn canonical(words: &[impl AsRef<[u8]>], reply: Value) -> Value {
    if words[0].as_ref() != b"JSON.GET" || words.len() < 4 {
        return reply;
    }
    let Some(text) = reply.as_bytes() else { return reply };
    match serde_json::from_slice::<serde_json::Value>(text) {
        Ok(value) => Value::Bulk(value.to_string().into_bytes()),
        Err(_) => reply,
    }
}

fn shown(words: &[impl AsRef<[u8]>]) -> String {
    let words = words.iter().map(|word| String::from_utf8_lossy(word.as_ref()).into_owned());
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn random_commands_beside_redisjson() {
    if Need::Packages.is_missing() {
        return;
    }
    let directory = TempDir::new("beside-redisjson");
    let (ours, theirs) = (Server::start(directory.path(), &[]), Oracle::start());
    let (mut complaints, mut commands) = (String::new(), 0);
    for seed in 0..random::SEEDS {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let mut pair = Pair::connect(&ours, &theirs, protocol);
            pair.run(&["FLUSHALL"]);
            for words in random::commands(seed) {
                commands += 1;
                let mut difference = pair.differ_in_ascii(&words);
                for key in random::KEYS {
                    difference = difference.or_else(|| pair.differ(&["JSON.GET", key]));
                }
                if let Some([ours, theirs]) = difference {
                    let place = format!("seed {seed}, {protocol:?}: {}", shown(&words));
                    _ = writeln!(complaints, "{place}\n    ours    {ours:?}\n    theirs  {theirs:?}");
                    pair.run(&["FLUSHALL"]);
                }
            }
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
    println!("{commands} commands, over RESP2 and RESP3");
}

#[test]
fn known_differences_from_redisjson_exist() {
    if Need::Packages.is_missing() {
        return;
    }
    let directory = TempDir::new("differs-from-redisjson");
    let (ours, theirs) = (Server::start(directory.path(), &[]), Oracle::start());
    let mut pair = Pair::connect(&ours, &theirs, Protocol::Resp2);
    let mut complaints = String::new();
    for (document, words, reason) in DIFFERENCES {
        pair.run(&["FLUSHALL"]);
        assert_eq!(pair.differ(&["JSON.SET", "d", "$", document]), None);
        let difference = pair.differ(words).or_else(|| pair.differ(&["JSON.GET", "d"]));
        if difference.is_none() {
            _ = writeln!(complaints, "{} no longer differs: {reason}", shown(words));
        }
    }
    assert!(complaints.is_empty(), "\n{complaints}");
}
