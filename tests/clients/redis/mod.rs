//! Commands about connections and the server, compared with a real Redis 8.2.3: both servers get the same
//! commands, over RESP2 and RESP3. Errors must be the same bytes; other replies must be of the same kind, and
//! equal where `server.script` says so.
//!
//! Beside the script there is a sweep ([`sweep`]): every command with wrong numbers of words, wrong, huge,
//! negative, empty and binary ones, and its own keywords in any order. `differences.txt` lists what differs,
//! with the reason: beginnings of commands. One that covers no difference any more must leave the list.

#![allow(clippy::disallowed_methods, reason = "tests of real servers live in real time, on the real disk")]

mod sweep;

use engramdb_resp::{Protocol, Value};
use engramdb_testkit::machine::Need;
use engramdb_testkit::oracle::Oracle;
use engramdb_testkit::process::{Server, TempDir};
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::mem::discriminant;

const SCRIPT: &str = include_str!("server.script");
const DIFFERENCES: &str = include_str!("differences.txt");
/// Complaints that are shown, at most: a mistake can make thousands.
const SHOWN_MAX: usize = 300;

/// One connection to each server.
struct Pair {
    ours: Client,
    theirs: Client,
    protocol: Protocol,
}

impl Pair {
    fn connect(ours: &Server, theirs: &Oracle, protocol: Protocol) -> Pair {
        let connect = |port: u16| Client::connect(&format!("127.0.0.1:{port}"), protocol);
        Pair { ours: connect(ours.port), theirs: connect(theirs.port), protocol }
    }

    fn run(&mut self, words: &[Vec<u8>]) -> (Value, Value) {
        self.ours.send(words);
        self.theirs.send(words);
        (self.ours.receive(), self.theirs.receive())
    }
}

/// Beginnings of commands that are answered differently, for a reason, and how many were met.
struct Differences(BTreeMap<Vec<Vec<u8>>, usize>);

impl Differences {
    fn parse(text: &str) -> Differences {
        let mut known = BTreeMap::new();
        let mut has_reason = false;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(reason) = line.strip_prefix("= ") {
                has_reason = !reason.is_empty();
                continue;
            }
            assert!(has_reason, "a difference needs a reason: {line}");
            assert!(known.insert(upper(&split_words(line)), 0).is_none(), "listed twice: {line}");
        }
        Differences(known)
    }

    /// Notes a difference; false if it is not known.
    fn meet(&mut self, words: &[Vec<u8>]) -> bool {
        let words = upper(words);
        let met = (1..=words.len()).rev().find(|count| self.0.contains_key(&words[..*count]));
        let Some(count) = met else { return false };
        *self.0.get_mut(&words[..count]).expect("it was found") += 1;
        true
    }

    fn unmet(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter(|(_, met)| **met == 0).map(|(words, _)| shown(words))
    }
}

fn upper(words: &[Vec<u8>]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.to_ascii_uppercase()).collect()
}

fn shown(words: &[Vec<u8>]) -> String {
    let quoted = |word: &Vec<u8>| {
        let is_plain = !word.is_empty() && word.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'"');
        if is_plain { word.escape_ascii().to_string() } else { format!("\"{}\"", word.escape_ascii()) }
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Errors and short strings are equal, anything else is of one kind: sizes, times and lists depend on the
/// server.
fn agree(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Error(ours), Value::Error(theirs)) => ours == theirs,
        (Value::SimpleString(ours), Value::SimpleString(theirs)) => ours == theirs,
        _ => discriminant(ours) == discriminant(theirs),
    }
}

struct Comparison {
    known: Differences,
    complaints: Vec<String>,
    commands: usize,
}

impl Comparison {
    fn new() -> Comparison {
        Comparison { known: Differences::parse(DIFFERENCES), complaints: Vec::new(), commands: 0 }
    }

    fn compare(&mut self, pair: &mut Pair, words: &[Vec<u8>], agree: impl Fn(&Value, &Value) -> bool) {
        self.commands += 1;
        let (ours, theirs) = pair.run(words);
        if !agree(&ours, &theirs) && !self.known.meet(words) {
            let place = format!("{:?} {}", pair.protocol, shown(words));
            self.complaints.push(format!("{place}\n    ours    {ours:?}\n    theirs  {theirs:?}"));
        }
    }

    /// Runs the script: `> command` has to be answered equally, `~ command` in the same kind.
    fn run_script(&mut self, ours: &Server, theirs: &Oracle, protocol: Protocol) {
        let mut pair = Pair::connect(ours, theirs, protocol);
        for line in SCRIPT.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.split_at(2) {
                ("> ", command) => {
                    self.compare(&mut pair, &split_words(command), |ours, theirs| ours == theirs)
                }
                ("~ ", command) => self.compare(&mut pair, &split_words(command), agree),
                ("! ", "connect") => pair = Pair::connect(ours, theirs, protocol),
                // HELLO 3 is refused before the password.
                ("! ", "connect-with-password") => pair = Pair::connect(ours, theirs, Protocol::Resp2),
                _ => panic!("unknown step {line}"),
            }
        }
    }

    fn run_sweep(&mut self, ours: &Server, theirs: &Oracle, protocol: Protocol) {
        for swept in sweep::SWEPT {
            let mut pair = Pair::connect(ours, theirs, protocol);
            for words in swept.commands() {
                self.compare(&mut pair, &words, agree);
                for after in swept.after {
                    pair.run(&split_words(after));
                }
            }
        }
    }

    fn end(mut self) {
        let unmet = self
            .known
            .unmet()
            .map(|line| format!("no longer differs, so it must leave differences.txt: {line}"));
        self.complaints.extend(unmet.collect::<Vec<_>>());
        println!("{} commands", self.commands);
        let mut text = String::new();
        for complaint in self.complaints.iter().take(SHOWN_MAX) {
            _ = writeln!(text, "{complaint}");
        }
        assert!(self.complaints.is_empty(), "{} differences\n{text}", self.complaints.len());
    }
}

#[test]
fn commands_about_the_server_beside_redis() {
    if Need::Packages.is_missing() {
        return;
    }
    let directory = TempDir::new("server-beside-redis");
    let (ours, theirs) = (Server::start(directory.path(), &[]), Oracle::start());
    let mut comparison = Comparison::new();
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        comparison.run_script(&ours, &theirs, protocol);
        comparison.run_sweep(&ours, &theirs, protocol);
    }
    comparison.end();
}
