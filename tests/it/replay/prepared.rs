//! Large writes that come back to be prepared, while something else happens to their keys: memory, indexes
//! and log stay the same.

use super::asked::answer;
use engramdb_engine::Retained;
use engramdb_engine::command::Stage;
use engramdb_resp::Value;
use engramdb_testkit::instance::{Instance, Kept};
use engramdb_testkit::words::split_words;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SEEDS: u64 = 24;
const WRITES: usize = 14;
/// A command comes back less often, whatever happens meanwhile.
const RUNS_MAX: usize = 16;

const INDEXES: [&str; 2] = [
    "FT.CREATE j ON JSON PREFIX 1 d SCHEMA $.n AS n NUMERIC $..m7 AS m NUMERIC $.list[0][*] AS l NUMERIC $.t AS t TEXT",
    "FT.CREATE h PREFIX 1 h SCHEMA t TEXT n NUMERIC",
];
const QUESTIONS: [&str; 6] = [
    "FT.SEARCH j * NOCONTENT",
    "FT.SEARCH j \"@n:[-inf inf]\" NOCONTENT",
    "FT.AGGREGATE j * LOAD 3 @__key @n @m SORTBY 2 @__key ASC",
    "FT.SEARCH j \"@l:[1 2]\" NOCONTENT",
    "FT.SEARCH j word NOCONTENT WITHSCORES",
    "FT.SEARCH h word7|other NOCONTENT WITHSCORES",
];

fn numbers(count: usize) -> String {
    let numbers: Vec<String> = (0..count).map(|number| format!("{number}.5")).collect();
    format!("[{}]", numbers.join(","))
}

fn text(words: usize) -> String {
    (0..words).map(|number| format!("word{}", number % 5_000)).collect::<Vec<_>>().join(" ")
}

/// A write that is large enough to be prepared, on one of few keys.
fn large_write(rng: &mut StdRng) -> Vec<String> {
    let key = ["d1", "d1", "d2"][rng.random_range(0..3)];
    let hash = ["h1", "h2"][rng.random_range(0..2)];
    let members = || (0..700).map(|n| format!("\"m{n}\":{n}")).collect::<Vec<_>>().join(",");
    let document = || {
        format!("{{\"n\":1,\"t\":\"word\",\"list\":[{}],\"a\":[{{\"b\":1}},{{\"b\":2}}]}}", numbers(30_000))
    };
    let words: Vec<String> = match rng.random_range(0..11) {
        0..3 => ["JSON.SET", key, "$", &document()].map(str::to_owned).into(),
        3 => ["JSON.SET", key, "$.a[*].b", &numbers(25_000)].map(str::to_owned).into(),
        4 => ["JSON.MERGE", key, "$", &format!("{{{}}}", members())].map(str::to_owned).into(),
        5 => {
            ["JSON.MERGE", key, "$", &format!("{{\"list\":[{}]}}", numbers(60_000))].map(str::to_owned).into()
        }
        6 => ["JSON.NUMINCRBY", key, "$.list[0][*]", "1"].map(str::to_owned).into(),
        7 => ["JSON.ARRAPPEND", key, "$.list", &numbers(50_000)].map(str::to_owned).into(),
        8 => ["JSON.DEL", key, "$.list[0][*]"].map(str::to_owned).into(),
        9 => ["HSET", hash, "t", &text(60_000), "n", "1"].map(str::to_owned).into(),
        _ => ["COPY", hash, "h3", "REPLACE"].map(str::to_owned).into(),
    };
    words
}

/// Something that happens to a key between two runs of a write.
fn disturb(rng: &mut StdRng, instance: &mut Instance, key: &str) {
    let line = match rng.random_range(0..12) {
        0 => format!("JSON.NUMINCRBY {key} $.n 1"),
        1 => format!("JSON.SET {key} $.n 7"),
        2 => format!("JSON.SET {key} $ {{\"n\":3,\"t\":\"word\"}}"),
        3 => format!("DEL {key}"),
        4 => format!("SET {key} string"),
        5 => format!("HSET {key} t other"),
        6 => format!("RENAME {key} elsewhere"),
        7 => "SWAPDB 0 1".to_owned(),
        8 => format!("PEXPIRE {key} 20"),
        // What has expired is not deleted before something looks at it.
        _ => return instance.move_clock(30),
    };
    let words: Vec<&str> = line.split(' ').collect();
    instance.run(&words);
}

/// Runs a write as the server does. What was made for it may be left to the next one, as if it had been
/// refused.
fn run(rng: &mut StdRng, instance: &mut Instance, words: &[String], mut retained: Retained) -> Retained {
    let key = &words[1];
    for _ in 0..RUNS_MAX {
        let (_, stage) = instance.write_once(words, &mut retained);
        match stage {
            Stage::Prepare(preparation) => {
                if rng.random_bool(0.3) {
                    disturb(rng, instance, key);
                }
                retained.prepared = Some(instance.engine().prepare(0, *preparation));
                if rng.random_bool(0.3) {
                    return retained;
                }
                if rng.random_bool(0.4) {
                    disturb(rng, instance, key);
                }
            }
            Stage::NeedsRoom(bytes) => retained.room_bytes = bytes,
            _ => {
                // The follower of the instance reads the log.
                instance.expire_due();
                return Retained::default();
            }
        }
    }
    panic!("{key}: it comes back for ever");
}

fn ask(instance: &mut Instance) -> Vec<Value> {
    while instance.engine().run_background() {}
    QUESTIONS.iter().map(|line| answer(instance, &split_words(line))).collect()
}

#[test]
fn what_is_prepared_while_keys_change_and_expire_is_what_a_replay_gives() {
    let mut found = 0;
    for seed in 0..SEEDS {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut instance = super::instance(seed);
        for line in INDEXES {
            assert!(!instance.run(&split_words(line)).reply.is_error(), "{line}");
        }
        let mut retained = Retained::default();
        for number in 0..WRITES {
            let words = large_write(rng);
            if rng.random_bool(0.4) {
                instance.run(&["PEXPIRE", &words[1], "20"]);
            }
            retained = run(rng, &mut instance, &words, retained);
            // The server frees what was made for a request that is over. Here the next one gets it.
            if number % 5 == 4 || number == WRITES - 1 {
                instance.run(&["SET", "moment", ""]);
                let live = ask(&mut instance);
                found += live.iter().filter(|reply| super::asked::rows(reply) > 0).count();
                instance.check_follower();
                instance.restart_with(Kept::default());
                assert_eq!(ask(&mut instance), live, "seed {seed}");
            }
        }
    }
    assert!(found > SEEDS as usize * 4, "too little was found: {found}");
}
