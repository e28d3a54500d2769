//! Clients that wait for keys, compared with a model: they are served in the order in which they came, those
//! that are killed or time out take nothing, and nothing is lost or handed out twice.

use engramdb_resp::{Protocol, Value};
use engramdb_testkit::instance::Instance;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const KEYS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    /// Waits for some keys, in this order; at the front or at the back of lists.
    Pop {
        keys: Vec<usize>,
        is_front: bool,
    },
    /// Several elements to one key, or to two in one batch.
    Push {
        key: usize,
        count: usize,
    },
    PushTwo {
        keys: [usize; 2],
        count: usize,
    },
    /// The client at this place of those that wait is killed, or times out.
    Kill(usize),
    TimeOut(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let keys = prop::collection::vec(0..KEYS.len(), 1..4);
    prop_oneof![
        6 => (keys, any::<bool>()).prop_map(|(keys, is_front)| Step::Pop { keys, is_front }),
        4 => (0..KEYS.len(), 1..4usize).prop_map(|(key, count)| Step::Push { key, count }),
        1 => (0..KEYS.len(), 0..KEYS.len(), 1..3usize)
            .prop_map(|(one, two, count)| Step::PushTwo { keys: [one, two], count }),
        3 => (0..8usize).prop_map(Step::Kill),
        1 => (0..8usize).prop_map(Step::TimeOut),
    ]
}

struct Waiting {
    seat: u64,
    keys: Vec<usize>,
    is_front: bool,
}

/// What the lists and the clients have to be.
#[derive(Default)]
struct Model {
    lists: BTreeMap<usize, VecDeque<String>>,
    waiting: Vec<Waiting>,
    pushed: usize,
    taken: usize,
}

impl Model {
    fn pop(&mut self, key: usize, is_front: bool) -> Option<String> {
        let list = self.lists.get_mut(&key)?;
        let element = if is_front { list.pop_front() } else { list.pop_back() };
        self.taken += usize::from(element.is_some());
        element
    }

    /// Serves the clients of a key: those who came first, as long as there are elements. The command of each
    /// runs again, so that it takes from the first of its keys that has something.
    fn serve(&mut self, key: usize) -> Vec<(u64, Value)> {
        let mut served = Vec::new();
        while self.lists.get(&key).is_some_and(|list| !list.is_empty()) {
            let Some(place) = self.waiting.iter().position(|client| client.keys.contains(&key)) else {
                break;
            };
            let client = self.waiting.remove(place);
            let taken = client.keys.iter().find_map(|key| Some((*key, self.pop(*key, client.is_front)?)));
            let (from, element) = taken.expect("the key has one at least");
            served.push((client.seat, popped(from, &element)));
        }
        served
    }

    fn push(&mut self, key: usize, count: usize) -> Vec<Vec<u8>> {
        let mut words = vec![b"RPUSH".to_vec(), KEYS[key].into()];
        for _ in 0..count {
            self.pushed += 1;
            let element = format!("element {}", self.pushed);
            words.push(element.clone().into());
            self.lists.entry(key).or_default().push_back(element);
        }
        words
    }
}

fn popped(key: usize, element: &str) -> Value {
    Value::Array(vec![Value::Bulk(KEYS[key].into()), Value::Bulk(element.into())])
}

fn run(instance: &mut Instance, model: &mut Model, step: &Step) {
    let mut wanted = match step {
        Step::Pop { keys, is_front } => {
            let mut words = vec![if *is_front { "BLPOP" } else { "BRPOP" }];
            words.extend(keys.iter().map(|key| KEYS[*key]));
            words.push("0");
            let answer = instance.run_or_park(&words);
            let at_once = keys.iter().find_map(|key| Some((*key, model.pop(*key, *is_front)?)));
            match (answer, at_once) {
                (Some(answer), Some((key, element))) => assert_eq!(answer.reply, popped(key, &element)),
                (None, None) => model.waiting.push(Waiting {
                    seat: instance.last_seat(),
                    keys: keys.clone(),
                    is_front: *is_front,
                }),
                (answer, at_once) => panic!("{step:?}: {answer:?}, but the model has {at_once:?}"),
            }
            Vec::new()
        }
        Step::Push { key, count } => {
            let words = model.push(*key, *count);
            instance.run_or_park(&words);
            model.serve(*key)
        }
        Step::PushTwo { keys, count } => {
            let commands = keys.map(|key| model.push(key, *count));
            instance.run_together(&commands);
            let mut served = model.serve(keys[0]);
            served.extend(model.serve(keys[1]));
            served
        }
        Step::Kill(place) | Step::TimeOut(place) => {
            if *place < model.waiting.len() {
                let seat = model.waiting.remove(*place).seat;
                match step {
                    Step::Kill(_) => assert!(instance.kill(seat)),
                    _ => assert_eq!(instance.time_out(seat), Some(Value::Null)),
                }
            }
            Vec::new()
        }
    };
    let mut served = instance.take_served();
    wanted.sort_by_key(|(seat, _)| *seat);
    served.sort_by_key(|(seat, _)| *seat);
    assert_eq!(served, wanted, "{step:?}");
    assert_eq!(instance.waiting(), model.waiting.len());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn who_waits_is_served_in_turn_whoever_else_is_killed(steps in prop::collection::vec(step(), 1..80)) {
        let mut instance = Instance::new(1, Protocol::Resp3);
        let mut model = Model::default();
        for step in &steps {
            run(&mut instance, &mut model, step);
        }
        let left: usize = model.lists.values().map(VecDeque::len).sum();
        prop_assert_eq!(model.taken + left, model.pushed, "nothing is lost, and nothing is taken twice");
        for (key, list) in &model.lists {
            let reply = instance.run(&["LRANGE", KEYS[*key], "0", "-1"]).reply;
            let wanted: Vec<Value> = list.iter().map(|element| Value::Bulk(element.clone().into())).collect();
            prop_assert_eq!(reply, Value::Array(wanted));
        }
        instance.check_replay();
    }
}
