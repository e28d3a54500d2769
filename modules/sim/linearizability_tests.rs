use super::*;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Parses a history: `a: SET k 1` is an invocation, `a= OK` a reply, `crash` ends everything in flight.
/// Replies are `OK`, `nil`, `(n)` and otherwise values.
fn history(text: &str) -> History {
    let mut history = History::default();
    for (stamp, line) in text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let stamp = stamp as Stamp;
        if line == "crash" {
            history.crashes.push(stamp);
        } else if let Some((client, request)) = line.split_once(": ") {
            let words: Vec<&str> = request.split(' ').collect();
            let operation = Operation {
                client: client.as_bytes()[0].into(),
                key: words[1].into(),
                action: action(&words),
                invoked: stamp,
                reply: None,
            };
            history.operations.push(operation);
        } else {
            let (client, reply) = line.split_once("= ").expect("a reply");
            let client: usize = client.as_bytes()[0].into();
            let mut operations = history.operations.iter_mut();
            let operation = operations.rfind(|operation| operation.client == client).expect("it asked");
            operation.reply = Some((stamp, observed(reply)));
        }
    }
    history
}

fn action(words: &[&str]) -> Action {
    match words[0] {
        "GET" => Action::Get,
        "SET" => Action::Set(words[2].into()),
        "SETNX" => Action::SetIfAbsent(words[2].into()),
        "GETSET" => Action::GetSet(words[2].into()),
        "INCRBY" => Action::Increment(words[2].parse().expect("a number")),
        "DEL" => Action::Delete,
        "EXISTS" => Action::Exists,
        other => panic!("{other} is not known here"),
    }
}

fn observed(reply: &str) -> Observed {
    match reply {
        "OK" => Observed::Done,
        "ERR" => Observed::Error,
        "nil" => Observed::Value(None),
        _ => match reply.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            Some(number) => Observed::Integer(number.parse().expect("a number")),
            None => Observed::Value(Some(reply.into())),
        },
    }
}

fn assert_good(text: &str) {
    if let Err(violation) = history(text).check() {
        panic!("refused:\n{violation}");
    }
}

/// Asserts that the last reply violates linearizability.
fn assert_bad(text: &str) {
    let history = history(text);
    let violation = history.check().expect_err("nothing explains this history");
    let last =
        history.operations.iter().filter_map(|operation| operation.reply.as_ref()).map(|reply| reply.0).max();
    assert_eq!(violation.operation.reply.expect("answered").0, last.expect("there are replies"));
}

#[test]
fn one_client_sees_what_it_did() {
    assert_good("a: SET k 1\n a= OK\n a: GET k\n a= 1\n a: INCRBY k 4\n a= (5)\n a: GETSET k x\n a= 5");
    assert_good("a: EXISTS k\n a= (0)\n a: SETNX k 1\n a= (1)\n a: SETNX k 2\n a= (0)\n a: DEL k\n a= (1)");
    assert_good("a: SET k x\n a= OK\n a: INCRBY k 1\n a= ERR\n a: GET k\n a= x");
    assert_bad("a: SET k 1\n a= OK\n a: DEL k\n a= (0)");
    assert_bad("a: SET k x\n a= OK\n a: INCRBY k 1\n a= (1)");
}

#[test]
fn a_write_in_progress_may_be_seen_or_not_but_not_come_and_go() {
    assert_good("a: SET k 1\n b: GET k\n b= nil\n b: GET k\n b= 1\n a= OK");
    assert_bad("a: SET k 1\n b: GET k\n b= 1\n b: GET k\n b= nil");
}

#[test]
fn a_stale_read_is_found() {
    assert_bad("a: SET k 1\n a= OK\n a: SET k 2\n a= OK\n b: GET k\n b= 1");
    assert_good("a: SET k 1\n a= OK\n b: GET k\n a: SET k 2\n a= OK\n b= 1");
}

#[test]
fn a_lost_acknowledged_write_is_found() {
    assert_bad("a: SET k 1\n a= OK\n crash\n b: GET k\n b= nil");
    assert_bad("a: INCRBY k 1\n a= (1)\n b: INCRBY k 1\n b= (2)\n crash\n a: INCRBY k 1\n a= (2)");
    assert_bad("a: SET k 1\n a= OK\n a: DEL k\n a= (1)\n crash\n b: EXISTS k\n b= (1)");
}

#[test]
fn operations_in_flight_may_survive_or_not() {
    assert_good("a: SET k 1\n crash\n b: GET k\n b= nil");
    assert_good("a: SET k 1\n crash\n b: GET k\n b= 1");
    assert_good("a: INCRBY k 1\n b: INCRBY k 1\n c: INCRBY k 1\n crash\n a: GET k\n a= 2");
    assert_bad("a: INCRBY k 1\n b: INCRBY k 1\n crash\n a: GET k\n a= 3");
}

#[test]
fn operations_in_flight_do_not_take_effect_after_the_recovery() {
    assert_bad("a: SET k 1\n crash\n b: GET k\n b= nil\n b: GET k\n b= 1");
    assert_bad("a: SET k 1\n crash\n b: SET k 2\n b= OK\n b: GET k\n b= 1");
}

#[test]
fn a_read_of_a_lost_write_is_found() {
    assert_bad("a: SET k 1\n b: GET k\n b= 1\n crash\n b: GET k\n b= nil");
    assert_bad("a: SET k 1\n b: EXISTS k\n b= (1)\n crash\n b: SETNX k 2\n b= (1)");
    // A read may also have seen the absence of the key.
    assert_bad("a: SET k 1\n a= OK\n a: DEL k\n b: GET k\n b= nil\n crash\n b: GET k\n b= 1");
    assert_good("a: SET k 1\n b: GET k\n crash\n b: GET k\n b= nil");
}

#[test]
fn reordered_writes_are_found() {
    assert_bad("a: SET k 1\n a= OK\n a: SET k 2\n a= OK\n crash\n b: GET k\n b= 1");
    // Two readers disagree on the order of two concurrent writes.
    let seen = "a: SET k 1\n b: SET k 2\n c: GET k\n c= 1\n c: GET k\n c= 2\n d: GET k\n ";
    assert_good(&format!("{seen} d= 2\n"));
    assert_bad(&format!("{seen} d= 2\n d: GET k\n d= 1"));
}

#[test]
fn keys_are_independent() {
    assert_good("a: SET k 1\n a= OK\n b: GET other\n b= nil\n crash\n b: GET k\n b= 1");
    assert_bad(
        "a: SET k 1\n a= OK\n b: SET other 2\n b= OK\n crash\n b: GET k\n b= 1\n b: GET other\n b= nil",
    );
}

#[test]
fn a_violation_shows_its_history() {
    let bad = history("a: SET k 1\n crash\n b: GET k\n b= 7").check().expect_err("7 was never written");
    let words = bad.to_string();
    for part in ["key k", "asks SET 1", "1: crash", "sees Some(Value(Some([55])))", "one of [nothing] [1]"] {
        assert!(words.contains(part), "{part} is not in\n{words}");
    }
}

/// Random short histories of one key; replies are more often plausible than right.
fn random_history(random: &mut SmallRng) -> History {
    let mut history = History::default();
    let mut open: [Option<usize>; 3] = [None; 3];
    for stamp in 0..random.random_range(4..12) {
        let client = random.random_range(0..3);
        if random.random_ratio(1, 9) {
            history.crashes.push(stamp);
            open = [None; 3];
        } else if let Some(index) = open[client].take() {
            history.operations[index].reply =
                Some((stamp, random_reply(&history.operations[index].action, random)));
        } else {
            open[client] = Some(history.operations.len());
            let action = random_action(random);
            history.operations.push(Operation {
                client,
                key: b"k".to_vec(),
                action,
                invoked: stamp,
                reply: None,
            });
        }
    }
    history
}

fn random_action(random: &mut SmallRng) -> Action {
    let value = random.random_range(1..3u8).to_string().into_bytes();
    match random.random_range(0..7) {
        0 => Action::Set(value),
        1 => Action::SetIfAbsent(value),
        2 => Action::GetSet(value),
        3 => Action::Increment(1),
        4 => Action::Delete,
        5 => Action::Exists,
        _ => Action::Get,
    }
}

fn random_reply(action: &Action, random: &mut SmallRng) -> Observed {
    let values: [Value; 4] = [None, Some(b"1".to_vec()), Some(b"2".to_vec()), Some(b"3".to_vec())];
    action.apply(values.choose(random).expect("there are values")).1
}

/// The definition itself: some order of some subset of the operations, checked in full.
fn is_explained(history: &History) -> bool {
    fn end(history: &History, operation: &Operation) -> Stamp {
        let crash = history.crashes.iter().copied().find(|crash| *crash > operation.invoked);
        operation.reply.as_ref().map_or(crash.unwrap_or(Stamp::MAX), |reply| reply.0)
    }
    fn extend(history: &History, left: &[usize], value: &Value) -> bool {
        let operation = |index: &usize| &history.operations[*index];
        if left.iter().all(|index| operation(index).reply.is_none()) {
            return true;
        }
        left.iter().any(|index| {
            // An operation that ended before this one began cannot follow it: it must precede it, or never
            // happen.
            let mut late =
                left.iter().filter(|other| end(history, operation(other)) < operation(index).invoked);
            if late.any(|other| operation(other).reply.is_some()) {
                return false;
            }
            let (next, observed) = operation(index).action.apply(value);
            let fits = operation(index).reply.as_ref().is_none_or(|(_, reply)| *reply == observed);
            let begun = operation(index).invoked;
            let still = |other: &usize| other != index && end(history, operation(other)) >= begun;
            let rest: Vec<usize> = left.iter().copied().filter(|other| still(other)).collect();
            fits && extend(history, &rest, &next)
        })
    }
    let all: Vec<usize> = (0..history.operations.len()).collect();
    extend(history, &all, &None)
}

#[test]
fn the_search_agrees_with_the_definition() {
    let mut random = SmallRng::seed_from_u64(1);
    let mut verdicts = [0; 2];
    for case in 0..20_000 {
        let history = random_history(&mut random);
        let explained = is_explained(&history);
        assert_eq!(history.check().is_ok(), explained, "case {case}: {history:?}");
        verdicts[usize::from(explained)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 2_000), "both verdicts are common: {verdicts:?}");
}
