//! Large documents: what an index reads of them is read before the write, without the lock, and what an
//! index knows after changes by path is what an index made afresh knows.

use engramdb_engine::command::{Args, Stage};
use engramdb_engine::env::Env;
use engramdb_engine::module::Module;
use engramdb_engine::{Prepared, Retained};
use engramdb_json::JsonModule;
use engramdb_resp::{Protocol, Value};
use engramdb_search::{SearchModule, SearchOptions};
use engramdb_testkit::instance::{Instance, Kept, Parts};
use engramdb_testkit::wire::Wire;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const PARTS: Parts = Parts {
    commands: &[engramdb_json::COMMANDS, engramdb_search::COMMANDS],
    serving: |env, _| modules(env, false),
    offline: |env| modules(env, true),
};

fn modules(env: &Env, offline: bool) -> Vec<Box<dyn Module>> {
    let options = SearchOptions { directory: None, env: env.clone(), offline, threads: 1 };
    vec![Box::new(SearchModule::new(options)), Box::new(JsonModule)]
}

fn instance() -> Instance {
    Instance::with_modules(1, Protocol::Resp3, PARTS)
}

/// Patterns in the paths of fields are compiled under the lock.
#[test]
fn the_patterns_of_a_schema_are_counted() {
    let mut instance = instance();
    let paths: Vec<String> = (0..9)
        .map(|field| {
            let patterns: Vec<String> = (0..8).map(|number| format!("@.t=~'{field}{number}'")).collect();
            format!("$[?({})].t", patterns.join("||"))
        })
        .collect();
    let names: Vec<String> = (0..9).map(|field| format!("f{field}")).collect();
    let fields = |range: std::ops::Range<usize>| -> Vec<&str> {
        range.flat_map(|field| [&paths[field][..], "AS", &names[field], "TAG"]).collect()
    };
    let create = ["FT.CREATE", "i", "ON", "JSON", "SCHEMA"];
    let refused = |instance: &mut Instance, words: &[&str]| match instance.run(words).reply {
        Value::Error(text) => {
            assert_eq!(text, b"Schema is limited to 64 patterns (=~) in all paths");
        }
        reply => panic!("{reply:?}"),
    };
    refused(&mut instance, &[&create[..], &fields(0..9)].concat());
    run(&mut instance, &[&create[..], &fields(0..8)].concat());
    refused(&mut instance, &[&["FT.ALTER", "i", "SCHEMA", "ADD"][..], &fields(8..9)].concat());
    run(&mut instance, &["FT.ALTER", "i", "SCHEMA", "ADD", "$.t", "AS", "t", "TAG"]);
    run(&mut instance, &["JSON.SET", "d", "$", r#"[{"t":"73"}]"#]);
    let found = |instance: &mut Instance, field: &str| {
        let query = format!("@{field}:{{73}}");
        format!("{:?}", run(instance, &["FT.SEARCH", "i", &query, "NOCONTENT"])).contains("\"d\"")
    };
    assert!(found(&mut instance, "f7") && !found(&mut instance, "f6"), "the pattern 73 is of f7");
    instance.check_replay();
}

fn run(instance: &mut Instance, words: &[&str]) -> Value {
    let reply = instance.run(words).reply;
    assert!(!reply.is_error(), "{words:?}: {reply:?}");
    reply
}

/// Runs a write once: in place, or so that it may come back to be prepared.
fn once(
    instance: &Instance,
    words: &[&str],
    prepared: Option<Option<Box<Prepared>>>,
) -> Result<Value, Box<Prepared>> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    let args = Args::new(&words);
    let command = instance.table().resolve(args).expect("a command of the instance").command;
    let mut wire = Wire::new(Protocol::Resp3);
    // Room for a path that leads to many values.
    let room = 1 << 20;
    let credit = instance.engine().admit(1, command.batch_bytes_max(&words) + room).expect("there is room");
    let mut writes = instance.engine().writes(credit);
    writes = match prepared {
        Some(prepared) => writes.retaining(Retained { prepared, room_bytes: room }),
        None => writes.with_room(room),
    };
    let ran = writes.run(0, command, args, &mut wire);
    drop(writes);
    match ran.stage {
        Stage::Done => Ok(wire.value()),
        Stage::Prepare(preparation) => Err(instance.engine().prepare(0, *preparation)),
        _ => panic!("a write is done or comes back"),
    }
}

const SCHEMA: &str = "ON JSON PREFIX 1 d SCHEMA $..i AS i NUMERIC $..t AS t TAG $..x AS x TEXT \
    $[*].x AS y TEXT NOSTEM WEIGHT 2 $[-1].i AS last NUMERIC $[0:3].t AS first TAG \
    $[*].v AS v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";

/// So many that a document is read before a write.
const ELEMENTS: usize = 5_000;

const WORDS: [&str; 8] = ["running", "runs", "run", "dogs", "dog", "red", "green", "blue"];

fn element(rng: &mut StdRng) -> String {
    let (i, t) = (rng.random_range(-9..99), rng.random_range(0..9));
    let x: Vec<&str> = (0..rng.random_range(0..5)).map(|_| WORDS[rng.random_range(0..8)]).collect();
    let vector = match rng.random_range(0..20) {
        0 => format!(r#","v":[{}.5,{t}]"#, rng.random_range(0..50)),
        _ => String::new(),
    };
    let deep = if t == 1 { r#","z":{"t":"deep","i":7}"# } else { "" };
    format!(r#"{{"i":{i},"t":"t{t}","x":"{}"{vector}{deep}}}"#, x.join(" "))
}

fn document(rng: &mut StdRng, elements: usize) -> String {
    let elements: Vec<String> = (0..elements).map(|_| element(rng)).collect();
    format!("[{}]", elements.join(","))
}

/// A change of some document by a path.
fn change(rng: &mut StdRng) -> Vec<String> {
    let key = format!("d{}", rng.random_range(0..3));
    let at = format!("$[{}]", rng.random_range(0..ELEMENTS));
    let word = WORDS[rng.random_range(0..8)];
    let words: Vec<String> = match rng.random_range(0..22) {
        0..4 => vec!["JSON.NUMINCRBY".to_owned(), key, format!("{at}.i"), "1".to_owned()],
        4 | 5 => vec!["JSON.SET".to_owned(), key, format!("{at}.t"), format!("\"{word}\"")],
        6 | 7 => vec!["JSON.SET".to_owned(), key, format!("{at}.x"), format!("\"{word} {word} new\"")],
        8 => vec!["JSON.SET".to_owned(), key, format!("{at}.zz"), "{\"t\":\"within\"}".to_owned()],
        9 => vec!["JSON.DEL".to_owned(), key, at],
        10 => vec!["JSON.DEL".to_owned(), key, format!("{at}.t")],
        11 => vec!["JSON.ARRINSERT".to_owned(), key, "$".to_owned(), "1".to_owned(), element(rng)],
        12 => vec!["JSON.ARRAPPEND".to_owned(), key, "$".to_owned(), element(rng)],
        13 => vec!["JSON.ARRTRIM".to_owned(), key, "$".to_owned(), "1".to_owned(), "-1".to_owned()],
        14 => vec!["JSON.MERGE".to_owned(), key, at, "{\"t\":\"merged\",\"z\":null}".to_owned()],
        15 => vec!["JSON.CLEAR".to_owned(), key, format!("{at}.z")],
        16 => vec!["JSON.STRAPPEND".to_owned(), key, format!("{at}.x"), format!("\" {word}\"")],
        // No tag: the document leaves the index until it is one again.
        17 => vec!["JSON.SET".to_owned(), key, "$[3].t".to_owned(), "[5]".to_owned()],
        18 => vec!["JSON.SET".to_owned(), key, "$[3].t".to_owned(), "\"again\"".to_owned()],
        19 => vec!["JSON.SET".to_owned(), key, "$..i".to_owned(), "7".to_owned()],
        20 => vec!["JSON.SET".to_owned(), key, "$[9].other".to_owned(), "1".to_owned()],
        _ if rng.random_bool(0.3) => vec!["DEL".to_owned(), key],
        _ => vec!["JSON.SET".to_owned(), key, "$".to_owned(), document(rng, ELEMENTS)],
    };
    words
}

/// What an index finds.
fn known(instance: &mut Instance, index: &str) -> Vec<String> {
    let mut queries: Vec<String> = WORDS.iter().map(|word| format!("@x:{word}")).collect();
    queries.extend(WORDS.iter().map(|word| format!("@y:{word}")));
    queries.extend(
        ["new", "\"running dogs\"", "*", "@last:[7 7]", "@i:[-inf 0]", "@i:[98 inf]"].map(str::to_owned),
    );
    queries.extend(["deep", "within", "merged", "again", "t3", "red"].map(|tag| format!("@t:{{{tag}}}")));
    queries.extend(["t3", "red"].map(|tag| format!("@first:{{{tag}}}")));
    queries.extend((0..40).map(|i| format!("@i:[{i} {i}]")));
    let mut known = Vec::new();
    let found = |instance: &mut Instance, words: &[&str]| {
        let reply = format!("{:?}", run(instance, words));
        let mut parts: Vec<&str> =
            reply.split("{\"id\"").map(|part| part.trim_end_matches([',', ' ', ']', '}'])).collect();
        parts.sort_unstable();
        parts.join("\n")
    };
    for query in &queries {
        let words = ["FT.SEARCH", index, query, "NOCONTENT", "WITHSCORES", "LIMIT", "0", "50"];
        known.push(format!("{query} {}", found(instance, &words)));
    }
    let sorted = ["FT.SEARCH", index, "*", "NOCONTENT", "SORTBY", "i", "WITHSORTKEYS"];
    known.push(found(instance, &sorted));
    let vector = [[1.0_f32.to_le_bytes(), 2.0_f32.to_le_bytes()].concat(), vec![]].concat();
    let query = "*=>[KNN 9 @v $q AS distance]".to_owned();
    let words: [&[u8]; 11] = [
        b"FT.SEARCH",
        index.as_bytes(),
        query.as_bytes(),
        b"PARAMS",
        b"2",
        b"q",
        &vector,
        b"RETURN",
        b"1",
        b"distance",
        b"NOCONTENT",
    ];
    let reply = instance.run(&words[..10]).reply;
    assert!(!reply.is_error(), "{reply:?}");
    let reply = format!("{reply:?}");
    let mut parts: Vec<&str> = reply.split("{\"id\"").collect();
    parts.sort_unstable();
    known.push(parts.join("\n"));
    known
}

fn create(instance: &mut Instance, index: &str) {
    let words: Vec<&str> = ["FT.CREATE", index].into_iter().chain(SCHEMA.split_whitespace()).collect();
    run(instance, &words);
    // Large documents that are there are read in the background.
    while instance.engine().run_background() {}
}

/// The same of an index that is made now.
fn known_afresh(instance: &mut Instance) -> Vec<String> {
    create(instance, "fresh");
    let known = known(instance, "fresh");
    run(instance, &["FT.DROPINDEX", "fresh"]);
    known
}

#[test]
fn an_index_knows_after_changes_by_path_what_one_made_afresh_knows() {
    for seed in 0..2 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut instance = instance();
        create(&mut instance, "i");
        for key in ["d0", "d1", "d2"] {
            run(&mut instance, &["JSON.SET", key, "$", &document(rng, ELEMENTS)]);
        }
        let mut prepared = 0;
        for step in 0..90 {
            let words = change(rng);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            // The follower follows what runs.
            run(&mut instance, &["EXISTS", "d0"]);
            match rng.random_range(0..4) {
                // In place, as in EXEC. An error changes nothing.
                0 => _ = once(&instance, &words, None).map_err(|_| ()).expect("it may not come back"),
                // Another change comes in between.
                1 => {
                    let mut next = once(&instance, &words, Some(None));
                    while let Err(made) = next {
                        prepared += 1;
                        if rng.random_bool(0.7) {
                            let other = change(rng);
                            let other: Vec<&str> = other.iter().map(String::as_str).collect();
                            _ = once(&instance, &other, None);
                        }
                        next = once(&instance, &words, Some(Some(made)));
                    }
                }
                _ => _ = instance.run(&words),
            }
            if step % 15 == 14 {
                let (live, afresh) = (known(&mut instance, "i"), known_afresh(&mut instance));
                for (live, afresh) in live.iter().zip(&afresh) {
                    assert_eq!(live, afresh, "seed {seed}, step {step}");
                }
            }
        }
        assert!(prepared > 10, "{prepared}");
        let live = known(&mut instance, "i");
        instance.check_replay();
        assert_eq!(known(&mut instance, "i"), live, "seed {seed}, after a replay");
        instance.snapshot();
        instance.restart_with(Kept { snapshots: true, derived: false });
        assert_eq!(known(&mut instance, "i"), live, "seed {seed}, of a snapshot");
    }
}

#[test]
fn a_large_document_is_read_without_the_lock_if_a_path_can_have_changed() {
    let rng = &mut StdRng::seed_from_u64(7);
    let mut instance = instance();
    let schema =
        "FT.CREATE i ON JSON PREFIX 1 d SCHEMA $.list..i AS i NUMERIC $.list..t AS t TAG $.name AS name TAG";
    run(&mut instance, &schema.split(' ').collect::<Vec<_>>());
    let large = format!(r#"{{"name":"a","other":1,"list":{}}}"#, document(rng, 20_000));
    let Err(parsed) = once(&instance, &["JSON.SET", "d", "$", &large], Some(None)) else {
        panic!("a text of this size is parsed without the lock")
    };
    let Err(both) = once(&instance, &["JSON.SET", "d", "$", &large], Some(Some(parsed))) else {
        panic!("a document of this size is read without the lock")
    };
    assert!(both.heap_bytes() > large.len() / 2, "both are kept: {}", both.heap_bytes());
    assert!(once(&instance, &["JSON.SET", "d", "$", &large], Some(Some(both))).is_ok());
    let count = |instance: &mut Instance, query: &str| {
        let reply = format!("{:?}", run(instance, &["FT.SEARCH", "i", query, "LIMIT", "0", "0"]));
        reply.contains("\"total_results\": 1")
    };
    assert!(count(&mut instance, "@t:{t3} @i:[7 7]"));
    // What no path reaches, and what little is read of: at once.
    for words in [
        ["JSON.NUMINCRBY", "d", "$.other", "1"],
        ["JSON.NUMINCRBY", "d", "$.list[7].other", "1"],
        ["JSON.SET", "d", "$.other", "5"],
    ] {
        assert!(once(&instance, &words, Some(None)).is_ok(), "{words:?}");
    }
    let change = ["JSON.NUMINCRBY", "d", "$.list[5].i", "1000"];
    let Err(mut made) = once(&instance, &change, Some(None)) else { panic!("a path can have changed") };
    // Written to each time: after three attempts it is read in place.
    for attempt in 1.. {
        run(&mut instance, &["JSON.NUMINCRBY", "d", "$.list[6].i", "5000"]);
        match once(&instance, &change, Some(Some(made))) {
            Err(again) => made = again,
            Ok(_) => {
                assert_eq!(attempt, 3);
                break;
            }
        }
    }
    assert!(count(&mut instance, "@i:[1000 1200]") && count(&mut instance, "@i:[14991 15200]"));
    // An index that is made meanwhile reads it in place, and one that is gone does not mind.
    let Err(made) = once(&instance, &["JSON.DEL", "d", "$.list[5]"], Some(None)) else { panic!("as before") };
    run(&mut instance, &schema.replace("CREATE i", "CREATE j").split(' ').collect::<Vec<_>>());
    run(&mut instance, &["FT.DROPINDEX", "i"]);
    let reply = once(&instance, &["JSON.DEL", "d", "$.list[5]"], Some(Some(made)));
    assert_eq!(reply.ok(), Some(Value::Integer(1)));
    // The new index reads a large document in the background.
    while instance.engine().run_background() {}
    let reply = format!("{:?}", run(&mut instance, &["FT.SEARCH", "j", "@i:[1000 1200]", "LIMIT", "0", "0"]));
    assert!(reply.contains("\"total_results\": 0"), "{reply}");
}

#[test]
fn a_large_text_is_cut_into_words_without_the_lock() {
    let mut instance = instance();
    run(&mut instance, &"FT.CREATE i PREFIX 1 h SCHEMA b TEXT n NUMERIC".split(' ').collect::<Vec<_>>());
    let text = "some words of a long text ".repeat(10_000);
    let found = |instance: &mut Instance, query: &str| {
        format!("{:?}", run(instance, &["FT.SEARCH", "i", query, "LIMIT", "0", "0"]))
            .contains("\"total_results\": 1")
    };
    for (words, fields) in [
        (vec!["HSET", "h", "n", "1", "b", &text], "2"),
        (vec!["HSET", "h", "b", "first", "b", &text], "0"),
        (vec!["HSETEX", "h", "EX", "100", "FIELDS", "1", "b", &text], "1"),
    ] {
        let Err(made) = once(&instance, &words, Some(None)) else { panic!("{words:.3?} has a large text") };
        // It depends on the words alone.
        _ = once(&instance, &["HSET", "h", "b", "short", "n", "5"], None);
        run(&mut instance, &["HDEL", "h", "b"]);
        run(&mut instance, &["DEL", "h"]);
        let created = if fields == "0" { "1" } else { fields };
        let reply = once(&instance, &words, Some(Some(made)));
        assert_eq!(reply.ok(), Some(Value::Integer(created.parse().expect("a number"))));
        assert!(found(&mut instance, "\"long text some words\"") && !found(&mut instance, "first | short"));
        run(&mut instance, &["DEL", "h"]);
        assert!(!found(&mut instance, "words"));
    }
    // Not where no index has the field.
    assert!(once(&instance, &["HSET", "h", "other", &text], Some(None)).is_ok());
    assert!(once(&instance, &["HSET", "x", "b", &text], Some(None)).is_ok());
    // The follower follows what runs.
    run(&mut instance, &["DEL", "h", "x"]);
    instance.check_replay();
}
