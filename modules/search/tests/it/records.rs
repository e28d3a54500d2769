//! Documents that are no hashes: records, a type that only tests have. An index over them is built, searched,
//! shown, and comes back from snapshot and log, and no file of the search module knows of them.

use engramdb_engine::env::Env;
use engramdb_engine::module::Module;
use engramdb_search::{SearchModule, SearchOptions};
use engramdb_testkit::instance::{Instance, Kept, Parts, Protocol};
use engramdb_testkit::records::{self, Records};
use engramdb_testkit::words::split_words;
use std::path::Path;

pub const PARTS: Parts = Parts {
    commands: &[records::COMMANDS, engramdb_search::COMMANDS],
    serving: |env, directory| modules(env, Some(directory)),
    offline: |env| modules(env, None),
};

fn modules(env: &Env, directory: Option<&Path>) -> Vec<Box<dyn Module>> {
    let options = SearchOptions {
        directory: directory.map(Path::to_path_buf),
        env: env.clone(),
        offline: directory.is_none(),
        threads: 1,
    };
    vec![Box::new(Records), Box::new(SearchModule::new(options))]
}

const CREATE: &str = "FT.CREATE i ON RECORD PREFIX 1 r: SCHEMA $.tags AS tags TAG $.prices AS prices NUMERIC SORTABLE \
     $.texts AS texts TEXT $.name AS name TAG SORTABLE INDEXMISSING $.place AS place GEO INDEXMISSING \
     $.v AS v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";

fn instance() -> Instance {
    Instance::with_modules(1, Protocol::Resp2, PARTS)
}

pub fn run(instance: &mut Instance, line: &str) -> String {
    format!("{:?}", instance.run(&split_words(&line.replace('\'', "\""))).reply)
}

/// An index over three records, of which the last has less than the others.
fn with_records() -> Instance {
    let mut instance = instance();
    assert!(!instance.run(&split_words(CREATE)).reply.is_error());
    for line in [
        "RECORD.SET r:1 $.tags red 'Light Blue' True",
        "RECORD.SET r:1 $.prices 30 10.5",
        "RECORD.SET r:1 $.texts 'a quick fox' 'jumps over'",
        "RECORD.SET r:1 $.name Ann",
        "RECORD.SET r:1 $.place 2.3,48.8 0,0",
        "RECORD.SET r:1 $.v [1,0]",
        "RECORD.SET r:2 $.tags red",
        "RECORD.SET r:2 $.prices [20,5]",
        "RECORD.SET r:2 $.texts 'fox jumps'",
        "RECORD.SET r:2 $.name bob",
        "RECORD.SET r:2 $.v [0.5,2]",
        "RECORD.SET r:3 $.name null",
        "RECORD.SET r:3 $.prices 7",
        "HSET r:4 $.tags red",
        "RECORD.SET other $.tags red",
    ] {
        run(&mut instance, line);
    }
    instance
}

/// Questions with the keys that are their answers, in order.
const QUESTIONS: &[(&str, &[&str])] = &[
    ("*", &["r:1", "r:2", "r:3"]),
    ("@tags:{red}", &["r:1", "r:2"]),
    ("@tags:{light\\ blue}", &["r:1"]),
    ("@tags:{true}", &["r:1"]),
    ("@tags:{bl*}", &[]),
    ("-@tags:{red}", &["r:3"]),
    ("@prices:[10 11]", &["r:1"]),
    ("@prices:[5 30]", &["r:1", "r:2", "r:3"]),
    ("@prices:[(10.5 (30]", &["r:2"]),
    ("@texts:(quick fox)", &["r:1"]),
    ("@texts:\"fox jumps\"", &["r:2"]),
    ("ismissing(@place)", &["r:2", "r:3"]),
    ("ismissing(@name)", &[]),
    ("* SORTBY prices", &["r:3", "r:2", "r:1"]),
    ("* SORTBY name DESC", &["r:2", "r:1", "r:3"]),
];

/// The keys of the answer, with their number; sorted where the question asks for no order.
fn keys(instance: &mut Instance, question: &str) -> Vec<String> {
    let (query, options) = question.split_once(" SORTBY ").unwrap_or((question, ""));
    let mut words = vec!["FT.SEARCH", "i", query, "NOCONTENT"];
    if !options.is_empty() {
        words.push("SORTBY");
        words.extend(options.split(' '));
    }
    let reply = format!("{:?}", instance.run(&words).reply);
    let mut keys = reply.trim_matches(['[', ']']).split(", ").map(|key| key.trim_matches('"').to_owned());
    let total = keys.next();
    let mut keys: Vec<String> = keys.collect();
    assert_eq!(total, Some(keys.len().to_string()), "{question}: {reply}");
    if options.is_empty() {
        keys.sort();
    }
    keys
}

fn answers(instance: &mut Instance) {
    for (question, wanted) in QUESTIONS {
        assert_eq!(keys(instance, question), *wanted, "{question}");
    }
    for (vector, wanted) in [([1.0f32, 0.1], r#"[2, "r:1", "r:2"]"#), ([0.0, 2.0], r#"[2, "r:2", "r:1"]"#)] {
        let blob: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
        let words: [&[u8]; 9] = [
            b"FT.SEARCH",
            b"i",
            b"*=>[KNN 3 @v $q]",
            b"NOCONTENT",
            b"SORTBY",
            b"__v_score",
            b"PARAMS",
            b"2",
            b"q",
        ];
        let words: Vec<&[u8]> = words.into_iter().chain([&blob[..]]).collect();
        assert_eq!(format!("{:?}", instance.run(&words).reply), wanted);
    }
}

#[test]
fn records_are_indexed_by_all_of_their_values() {
    let mut instance = with_records();
    answers(&mut instance);
    run(&mut instance, "RECORD.SET r:1 $.tags green");
    run(&mut instance, "RECORD.REMOVE r:2 $.prices");
    run(&mut instance, "DEL r:3");
    assert_eq!(keys(&mut instance, "@tags:{red}"), ["r:2"]);
    assert_eq!(keys(&mut instance, "@tags:{green}"), ["r:1"]);
    assert_eq!(keys(&mut instance, "@prices:[-inf +inf]"), ["r:1"]);
    run(&mut instance, "RENAME r:1 s:1");
    run(&mut instance, "COPY r:2 r:5");
    assert_eq!(keys(&mut instance, "*"), ["r:2", "r:5"]);
    // A key that becomes a hash is no record any more.
    run(&mut instance, "DEL r:2");
    run(&mut instance, "HSET r:2 $.tags red");
    assert_eq!(keys(&mut instance, "*"), ["r:5"]);
    instance.check_replay();
    assert_eq!(keys(&mut instance, "*"), ["r:5"]);
}

#[test]
fn a_reply_shows_records_by_path_and_whole() {
    let mut instance = with_records();
    for (question, wanted) in [
        (
            "@tags:{true} RETURN 4 name tags $.prices none",
            r#"[1, "r:1", ["name", "Ann", "tags", "red", "$.prices", "30"]]"#,
        ),
        ("'@prices:[7 7]' RETURN 1 name", r#"[1, "r:3", ["name", null]]"#),
        ("'@prices:[7 7]' SORTBY name", r#"[1, "r:3", ["$", "$.name=null $.prices=7"]]"#),
        ("@tags:{true} RETURN 3 tags AS t DIALECT 3", r#"[1, "r:1", ["t", "[red,Light Blue,True]"]]"#),
        (
            "'@prices:[20 20]'",
            r#"[1, "r:2", ["$", "$.name=bob $.prices=[20,5] $.tags=red $.texts=fox jumps $.v=[0.5,2]"]]"#,
        ),
        (
            "'@prices:[7 7]' SORTBY prices WITHSORTKEYS",
            r##"[1, "r:3", "#7", ["prices", "7", "$", "$.name=null $.prices=7"]]"##,
        ),
        ("'@prices:[20 20]' SORTBY name WITHSORTKEYS NOCONTENT", r#"[1, "r:2", "$bob"]"#),
    ] {
        assert_eq!(run(&mut instance, &format!("FT.SEARCH i {question}")), wanted, "{question}");
    }
}

#[test]
fn an_index_over_records_comes_back_from_snapshot_and_log() {
    let mut instance = with_records();
    instance.snapshot();
    instance.export();
    run(&mut instance, "RECORD.SET r:5 $.prices 1000");
    run(&mut instance, "RECORD.SET r:2 $.texts 'fox jumps again'");
    for kept in Kept::ALL {
        instance.restart_with(kept);
        assert_eq!(keys(&mut instance, "@prices:[1000 1000]"), ["r:5"], "{kept:?}");
        assert_eq!(keys(&mut instance, "@texts:again"), ["r:2"], "{kept:?}");
        run(&mut instance, "DEL r:5");
        answers(&mut instance);
        run(&mut instance, "RECORD.SET r:5 $.prices 1000");
    }
}

#[test]
fn records_that_are_there_already_are_found_and_expired_ones_are_not() {
    let mut instance = with_records();
    run(&mut instance, "FT.DROPINDEX i");
    assert!(!instance.run(&split_words(CREATE)).reply.is_error());
    while instance.engine().run_background() {}
    answers(&mut instance);
    run(&mut instance, "PEXPIRE r:2 1000");
    instance.move_clock(2000);
    assert_eq!(keys(&mut instance, "@tags:{red}"), ["r:1"]);
    assert_eq!(keys(&mut instance, "* SORTBY prices"), ["r:3", "r:1"]);
    instance.expire_due();
    assert_eq!(keys(&mut instance, "@tags:{red}"), ["r:1"]);
}

/// More rows than a last look reads and writes itself.
#[test]
fn a_long_page_of_records_is_written_from_copies() {
    let mut instance = instance();
    assert!(!instance.run(&split_words(CREATE)).reply.is_error());
    for number in 0..300 {
        run(&mut instance, &format!("RECORD.SET r:{number:03} $.prices {number} 1"));
        run(&mut instance, &format!("RECORD.SET r:{number:03} $.name n{number}"));
    }
    let row = |number: usize, content: &str| format!(r#", "r:{number:03}", [{content}]"#);
    for (options, content) in [
        ("RETURN 2 prices name", r#""prices", "{}", "name", "n{}""#),
        ("SORTBY prices", r#""prices", "{}", "$", "$.name=n{} $.prices={},1""#),
        ("", r#""$", "$.name=n{} $.prices={},1""#),
    ] {
        let rows = (0..300).map(|number| row(number, &content.replace("{}", &number.to_string())));
        let expected = format!("[300{}]", rows.collect::<String>());
        let question = format!("FT.SEARCH i '@prices:[0 299]' LIMIT 0 300 {options}");
        assert!(run(&mut instance, &question) == expected, "{options}");
    }
}

#[test]
fn what_a_record_cannot_be_indexed_for_is_told() {
    let mut instance = with_records();
    run(&mut instance, "RECORD.SET r:6 $.prices 1 cheap");
    run(&mut instance, "RECORD.SET r:7 $.v [1,2] [3]");
    let info = run(&mut instance, "FT.INFO i");
    for part in [
        r#""key_type", "RECORD""#,
        r#""hash_indexing_failures", 2"#,
        r#""NUMERIC fields can only contain numeric or nulls", "last indexing error key", "r:6""#,
        r#""Invalid vector length. Expected 2, got 1""#,
    ] {
        assert!(info.contains(part), "{part}: {info}");
    }
    answers(&mut instance);
    for (line, error) in [
        ("FT.CREATE j ON NOTHING SCHEMA a TAG", "Invalid rule type: NOTHING"),
        ("FT.CREATE j ON JSON SCHEMA a TAG", "ON JSON is not supported by this server yet"),
    ] {
        let reply = run(&mut instance, line).replace("\\'", "'");
        assert!(reply.contains(error), "{line}: {reply}");
    }
    // Hashes are documents of their own indexes only.
    assert!(!instance.run(&split_words("FT.CREATE h PREFIX 1 r: SCHEMA $.tags TAG")).reply.is_error());
    while instance.engine().run_background() {}
    assert_eq!(run(&mut instance, "FT.SEARCH h * NOCONTENT"), r#"[1, "r:4"]"#);
}

/// In dialects 3 and 4 all values at a path are shown, and the only value of a SORTABLE field alone; FORMAT
/// EXPAND shows them with their types.
#[test]
fn all_values_are_shown_as_text_or_with_their_types() {
    let mut instance = Instance::with_modules(1, Protocol::Resp3, PARTS);
    let create = "FT.CREATE i ON RECORD PREFIX 1 r: SCHEMA $.n AS n NUMERIC SORTABLE $.m AS m NUMERIC $.t AS t TAG SORTABLE";
    assert!(!instance.run(&split_words(create)).reply.is_error());
    for line in [
        "RECORD.SET r:1 $.n 2.5",
        "RECORD.SET r:1 $.m 3 4",
        "RECORD.SET r:1 $.t red",
        "RECORD.SET r:2 $.n 7 1",
        "RECORD.SET r:2 $.m null",
        "RECORD.SET r:2 $.t null",
    ] {
        run(&mut instance, line);
    }
    let mut results = |options: &str| {
        let reply = run(&mut instance, &format!("FT.SEARCH i * RETURN 4 n m t $.n {options}"));
        let attributes = reply.split("\"extra_attributes\": ").skip(1);
        let attributes: Vec<String> =
            attributes.map(|rest| rest.split(", \"values\"").next().expect("a row").to_owned()).collect();
        (reply.contains("\"format\": \"EXPAND\""), attributes)
    };
    let first = [
        r#"{"n": "2.5", "m": "3", "t": "red", "$.n": "2.5"}"#,
        r#"{"n": "7", "m": null, "t": null, "$.n": "7"}"#,
    ];
    assert_eq!(results("SORTBY n"), (false, first.map(str::to_owned).to_vec()));
    let all = [
        r#"{"n": "2.5", "m": "[3,4]", "t": "red", "$.n": "[2.5]"}"#,
        r#"{"n": "[7,1]", "m": "[null]", "$.n": "[7,1]"}"#,
    ];
    assert_eq!(results("SORTBY n DIALECT 3"), (false, all.map(str::to_owned).to_vec()));
    let expanded = [
        r#"{"n": 2.5, "m": [3, 4], "t": "red", "$.n": [2.5]}"#,
        r#"{"n": [7, 1], "m": [null], "$.n": [7, 1]}"#,
    ];
    for options in ["FORMAT EXPAND DIALECT 3", "FORMAT EXPAND"] {
        assert_eq!(results(options), (true, expanded.map(str::to_owned).to_vec()));
    }
    // The same from copies, which long pages are written from.
    for number in 3..300 {
        for line in ["$.n 2.5", "$.m 3 4", "$.t red"] {
            run(&mut instance, &format!("RECORD.SET r:{number} {line}"));
        }
    }
    let reply =
        run(&mut instance, "FT.SEARCH i @t:{red} RETURN 4 n m t $.n FORMAT EXPAND LIMIT 0 1000 DIALECT 3");
    assert_eq!(reply.matches(expanded[0]).count(), 298, "{reply}");
}
