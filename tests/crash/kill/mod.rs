//! SIGKILL of the real binary: many rounds, each with a journal of the acknowledged operations.
//!
//! Each writer owns its keys, so that its history is linear: after a kill the server must have the state
//! after some number of its operations, at least as many as were acknowledged and at most as many as were
//! sent. Pairs written by MULTI and EXEC show whether a batch can be torn.

#![allow(clippy::disallowed_methods, reason = "tests of the real binary live in real time, on the real disk")]

mod importing;
mod power;

use engramdb_resp::Value;
use engramdb_testkit::process::{Client, Server, TempDir, until};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

const ROUNDS: u64 = 200;
const WRITERS: usize = 3;
const PIPELINE_MAX: usize = 6;
/// The number of operations of all writers together before the server is killed.
const OPERATIONS_PER_ROUND_MAX: usize = 400;

/// One operation as a list of commands: one command, or MULTI … EXEC.
type Operation = Vec<Vec<String>>;

/// The content of a writer's keys: strings by key, hashes by key and field (`key/field`).
type State = BTreeMap<String, String>;

/// A writer's history over all rounds.
struct Journal {
    random: StdRng,
    prefix: String,
    /// The state after the operations that are known to have survived.
    settled: State,
    /// The states after each operation sent since then.
    sent: Vec<State>,
    /// The number of them that were acknowledged.
    acknowledged: usize,
}

impl Journal {
    fn new(writer: usize) -> Journal {
        Journal {
            random: StdRng::seed_from_u64(writer as u64),
            prefix: format!("w{writer}:"),
            settled: State::new(),
            sent: Vec::new(),
            acknowledged: 0,
        }
    }

    fn last(&self) -> &State {
        self.sent.last().unwrap_or(&self.settled)
    }

    /// Generates the next operation and records the state after it.
    fn next(&mut self) -> Operation {
        let mut state = self.last().clone();
        let number = self.random.random_range(0..1_000_000u32).to_string();
        let key = format!("{}{}", self.prefix, self.random.random_range(0..4));
        let field = self.random.random_range(0..3).to_string();
        let hash = format!("{}h", self.prefix);
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<String>>();
        let operation = match self.random.random_range(0..7) {
            0 | 1 => {
                state.insert(key.clone(), number.clone());
                vec![words(&["SET", &key, &number])]
            }
            2 => {
                state.remove(&key);
                vec![words(&["DEL", &key])]
            }
            3 => {
                let value = state.entry(key.clone()).or_default();
                value.push_str(&number);
                vec![words(&["APPEND", &key, &number])]
            }
            4 => {
                state.insert(format!("{hash}/{field}"), number.clone());
                vec![words(&["HSET", &hash, &field, &number])]
            }
            5 => {
                state.remove(&format!("{hash}/{field}"));
                vec![words(&["HDEL", &hash, &field])]
            }
            _ => {
                let (left, right) = (format!("{}left", self.prefix), format!("{}right", self.prefix));
                state.insert(left.clone(), number.clone());
                state.insert(right.clone(), number.clone());
                vec![
                    words(&["MULTI"]),
                    words(&["SET", &left, &number]),
                    words(&["SET", &right, &number]),
                    words(&["EXEC"]),
                ]
            }
        };
        self.sent.push(state);
        operation
    }

    /// Writes until the connection breaks.
    fn write(&mut self, port: u16, all_acknowledged: &AtomicUsize) {
        let Ok(mut client) = Client::connect(port) else { return };
        loop {
            let count = self.random.random_range(1..=PIPELINE_MAX);
            let operations: Vec<Operation> = (0..count).map(|_| self.next()).collect();
            let commands: Vec<&[String]> = operations.iter().flatten().map(Vec::as_slice).collect();
            if client.send(&commands).is_err() {
                return;
            }
            for operation in &operations {
                for _ in operation {
                    match client.receive() {
                        Ok(reply) => assert!(!reply.is_error(), "{operation:?}: {reply:?}"),
                        Err(_) => return,
                    }
                }
                self.acknowledged += 1;
                all_acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Compares the content of the restarted server with the history, and continues from there.
    fn check(&mut self, client: &mut Client, round: u64) {
        let found = self.read_back(client);
        let states: Vec<&State> = std::iter::once(&self.settled).chain(&self.sent).collect();
        let survived = (self.acknowledged..states.len()).rev().find(|&count| *states[count] == found);
        assert!(
            survived.is_some(),
            "round {round}, writer {}: acknowledged {} of {} operations, but the server holds {found:?}; \
             acknowledged was {:?}",
            self.prefix,
            self.acknowledged,
            self.sent.len(),
            states[self.acknowledged],
        );
        self.settled = found;
        self.sent.clear();
        self.acknowledged = 0;
    }

    fn read_back(&self, client: &mut Client) -> State {
        let mut found = State::new();
        let strings = ["0", "1", "2", "3", "left", "right"].map(|name| format!("{}{name}", self.prefix));
        for key in strings {
            let reply = client.call(&["GET", &key]).expect("the server answers");
            if let Some(value) = reply.as_str() {
                found.insert(key, value.to_owned());
            }
        }
        let hash = format!("{}h", self.prefix);
        let reply = client.call(&["HGETALL", &hash]).expect("the server answers");
        let fields = reply.as_array().expect("HGETALL replies an array").to_vec();
        for pair in fields.chunks_exact(2) {
            let text = |value: &Value| value.as_str().expect("text was written").to_owned();
            found.insert(format!("{hash}/{}", text(&pair[0])), text(&pair[1]));
        }
        found
    }
}

#[test]
fn nothing_acknowledged_is_lost_over_many_kills() {
    let directory = TempDir::new("kill");
    let mut journals: Vec<Journal> = (0..WRITERS).map(Journal::new).collect();
    let mut random = StdRng::seed_from_u64(4242);
    let mut operations = 0;
    for round in 0..ROUNDS {
        let server = Server::start(directory.path(), &[]);
        let mut client = server.client();
        for journal in &mut journals {
            operations += journal.acknowledged;
            journal.check(&mut client, round);
        }
        let port = server.port;
        let acknowledged = &AtomicUsize::new(0);
        // The kill depends on the writers' progress, not on time: at any speed some rounds are short and some
        // are long.
        let wanted = random.random_range(0..OPERATIONS_PER_ROUND_MAX);
        std::thread::scope(|scope| {
            for journal in &mut journals {
                scope.spawn(move || journal.write(port, acknowledged));
            }
            until("the writers stand still", || acknowledged.load(Ordering::Relaxed) >= wanted);
            server.kill();
        });
    }
    assert!(operations > ROUNDS as usize, "the writers got through: {operations} operations");
    println!("{ROUNDS} kills, {operations} acknowledged operations, none lost");
}
