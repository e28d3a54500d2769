//! JSON documents: what is done without the lock, how much commands log, and the bounds of hostile input.
//! What the commands reply is in `scripts/json.script`.

use engramdb_engine::command::{Args, Stage};
use engramdb_engine::env::Env;
use engramdb_engine::module::Module;
use engramdb_engine::{Prepared, Retained};
use engramdb_json::JsonModule;
use engramdb_resp::{Protocol, Value};
use engramdb_testkit::instance::{Instance, Kept, Parts};
use engramdb_testkit::process::{Server, TempDir};
use engramdb_testkit::wire::Wire;

const PARTS: Parts =
    Parts { commands: &[engramdb_json::COMMANDS], serving: |env, _| modules(env), offline: modules };

fn modules(_: &Env) -> Vec<Box<dyn Module>> {
    vec![Box::new(JsonModule)]
}

fn instance() -> Instance {
    Instance::with_modules(1, Protocol::Resp3, PARTS)
}

/// An array of this many numbers, as text.
fn numbers(count: usize) -> String {
    let numbers: Vec<String> = (0..count).map(|number| format!("{number}.5")).collect();
    format!("[{}]", numbers.join(","))
}

fn text(reply: &Value) -> &str {
    reply.as_str().unwrap_or_else(|| panic!("{reply:?} is no text"))
}

/// Runs a write once. Also returns its stage.
fn once(instance: &Instance, words: &[&str], prepared: Option<Box<Prepared>>) -> (Option<Value>, Stage) {
    once_with_room(instance, words, prepared, 0)
}

fn once_with_room(
    instance: &Instance,
    words: &[&str],
    prepared: Option<Box<Prepared>>,
    room_bytes: usize,
) -> (Option<Value>, Stage) {
    instance.write_once(words, &mut Retained { prepared, room_bytes })
}

#[test]
fn a_large_text_is_parsed_without_the_lock() {
    let mut instance = instance();
    let large = numbers(30_000);
    for words in [
        ["JSON.SET", "d", "$", &large],
        ["JSON.SET", "d", "$[0]", &large],
        ["JSON.MERGE", "d", "$[1]", &large],
    ] {
        let (reply, stage) = once(&instance, &words, None);
        let Stage::Prepare(preparation) = stage else { panic!("{}: {reply:?}", words[2]) };
        let prepared = instance.engine().prepare(0, *preparation);
        assert!(prepared.heap_bytes() > 100_000, "it is counted while the command waits");
        let (reply, _) = once(&instance, &words, Some(prepared));
        assert_eq!(reply.as_ref().map(text), Some("OK"), "{}", words[2]);
    }
    let broken = large.replace("29999", "x");
    let (_, stage) = once(&instance, &["JSON.SET", "d", "$", &broken], None);
    let Stage::Prepare(preparation) = stage else { panic!("it is large") };
    let prepared = instance.engine().prepare(0, *preparation);
    let (reply, _) = once(&instance, &["JSON.SET", "d", "$", &broken], Some(prepared));
    assert!(reply.is_some_and(|reply| format!("{reply:?}").contains("expected value at line 1 column")));
    instance.run(&["SET", "string", "1"]);
    let (reply, _) = once(&instance, &["JSON.SET", "string", "$", &large], None);
    assert!(reply.is_some_and(|reply| reply.is_error()), "the type is checked before");
    assert_eq!(text(&instance.run(&["JSON.GET", "d", "$[0]"]).reply), format!("[{large}]"));
    assert_eq!(text(&instance.run(&["JSON.GET", "d", "[1]"]).reply), large);
    instance.check_replay();
    instance.snapshot();
    instance.restart_with(Kept { snapshots: true, derived: false });
    assert_eq!(text(&instance.run(&["JSON.GET", "d", "[1]"]).reply), large);
}

#[test]
fn a_large_document_is_written_without_the_lock_as_it_was() {
    let mut instance = instance();
    let large = numbers(60_000);
    instance.run(&["JSON.SET", "d", "$", &large]);
    let words: [&[u8]; 3] = [b"JSON.GET", b"d", b"$"];
    let command = instance.table().resolve(Args::new(&words)).expect("a command").command;
    let mut wire = Wire::new(Protocol::Resp3);
    let ran = instance.engine().reads().expect("it serves").run(0, command, Args::new(&words), &mut wire);
    let Stage::Copy(job) = ran.stage else { panic!("it is large") };
    instance.run(&["JSON.SET", "d", "$[3]", "\"changed\""]);
    instance.run(&["JSON.DEL", "d", "$[0:30000]"]);
    assert!(instance.engine().attempt(0, job, &mut wire).again.is_none());
    assert_eq!(text(&wire.value()), format!("[{large}]"));
    assert_eq!(instance.run(&["JSON.ARRLEN", "d"]).reply, Value::Integer(30_000));
    instance.check_replay();
}

#[test]
fn a_large_text_that_a_reader_refers_to_is_copied_without_the_lock() {
    let mut instance = instance();
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    instance.run(&["JSON.SET", "d", "$", &large]);
    let words: [&[u8]; 2] = [b"JSON.GET", b"d"];
    let command = instance.table().resolve(Args::new(&words)).expect("a command").command;
    let mut wire = Wire::new(Protocol::Resp3);
    let append: &[&str] = &["JSON.STRAPPEND", "d", "$", "\"!\""];
    prepared(&mut instance, append, &[]);
    let ran = instance.engine().reads().expect("it serves").run(0, command, Args::new(&words), &mut wire);
    let Stage::Copy(job) = ran.stage else { panic!("it is large") };
    prepared(&mut instance, append, &[&[]]);
    assert!(instance.engine().attempt(0, job, &mut wire).again.is_none());
    assert_eq!(text(&wire.value()), format!("{}!\"", &large[..large.len() - 1]));
    assert_eq!(text(&instance.run(&["JSON.GET", "d"]).reply), format!("{}!!\"", &large[..large.len() - 1]));
    instance.check_replay();
}

/// Runs a write that comes back to be prepared so often, with something else before each further run.
fn prepared(instance: &mut Instance, words: &[&str], between: &[&[&str]]) -> Value {
    let (mut made, mut between) = (None, between.iter());
    loop {
        // Room for a path that leads to many values.
        match once_with_room(instance, words, made.take(), 1 << 20) {
            (Some(reply), _) => {
                assert!(between.next().is_none(), "{:.3?} came back less often", words);
                // The follower follows what runs.
                instance.run(&["EXISTS", "d"]);
                return reply;
            }
            (None, Stage::Prepare(preparation)) => {
                made = Some(instance.engine().prepare(0, *preparation));
                let other = between.next().unwrap_or_else(|| panic!("{:.3?} comes back again", words));
                if !other.is_empty() {
                    assert!(!instance.run(other).reply.is_error());
                }
            }
            _ => panic!("a write is done or comes back"),
        }
    }
}

#[test]
fn changes_of_many_places_are_made_without_the_lock() {
    let mut instance = instance();
    let members: Vec<String> =
        (0..3_000).map(|n| format!(r#"{{"i":{n},"b":true,"t":"text {n}","z":{{"a":1}}}}"#)).collect();
    let document = format!("[{}]", members.join(","));
    instance.run(&["JSON.SET", "d", "$", &document]);
    let touch: &[&str] = &["JSON.SET", "d", "$[7].i", "1000"];
    let sum = |instance: &mut Instance| {
        let numbers: serde_json::Value =
            serde_json::from_str(text(&instance.run(&["JSON.GET", "d", "$..i"]).reply)).expect("JSON");
        numbers
            .as_array()
            .expect("a list")
            .iter()
            .map(|number| number.as_i64().expect("a number"))
            .sum::<i64>()
    };
    let all = 2_999 * 3_000 / 2;
    // As the document was when the command runs at last.
    prepared(&mut instance, &["JSON.NUMINCRBY", "d", "$..i", "1"], &[&[]]);
    assert_eq!(sum(&mut instance), all + 3_000);
    prepared(&mut instance, &["JSON.NUMINCRBY", "d", "$..i", "1"], &[touch, &[]]);
    assert_eq!(sum(&mut instance), all + 6_000 + 1000 - 8);
    // Written to again and again: in place.
    prepared(&mut instance, &["JSON.NUMINCRBY", "d", "$..i", "1"], &[touch, touch, touch]);
    assert_eq!(sum(&mut instance), all + 9_000 + 1000 - 9);
    let ok = Value::SimpleString(b"OK".to_vec());
    for words in [
        &["JSON.TOGGLE", "d", "$..b"][..],
        &["JSON.STRAPPEND", "d", "$..t", "\"!\""],
        &["JSON.CLEAR", "d", "$..z"],
        &["JSON.MERGE", "d", "$[*]", r#"{"t":null,"new":[1]}"#],
        &["JSON.ARRAPPEND", "d", "$..new", "2"],
        &["JSON.ARRPOP", "d", "$..new"],
        &["JSON.SET", "d", "$..b", "null"],
        &["JSON.DEL", "d", "$..i"],
    ] {
        let reply = prepared(&mut instance, words, &[&[]]);
        assert!(!reply.is_error(), "{words:?}: {reply:?}");
        assert!(words[0] != "JSON.SET" || reply == ok);
    }
    let shown = instance.run(&["JSON.GET", "d", "$[2999]", "$[8]"]).reply;
    assert_eq!(
        text(&shown),
        r#"{"$[2999]":[{"new":[1],"b":null,"z":{}}],"$[8]":[{"new":[1],"b":null,"z":{}}]}"#
    );
    // One large value, after its text was parsed.
    prepared(&mut instance, &["JSON.SET", "d", "$[1]", &numbers(60_000)], &[&[], touch, &[]]);
    // Few places: at once.
    prepared(&mut instance, &["JSON.SET", "d", "$[0:100]", "1"], &[]);
    // In a small document each place is looked for too.
    let small = format!("[{}]", vec!["1"; 700].join(","));
    instance.run(&["JSON.SET", "d", "$", &small]);
    prepared(&mut instance, &["JSON.NUMINCRBY", "d", "$[*]", "1"], &[&[]]);
    prepared(&mut instance, &["JSON.NUMINCRBY", "d", "$[:500]", "1"], &[]);
    instance.check_replay();
}

/// The engine's half of a request that is refused after it was prepared, and of a key that expires meanwhile.
#[test]
fn what_was_prepared_is_used_for_the_same_effect_on_the_same_document_alone() {
    let mut instance = instance();
    let numbers = numbers(40_000);
    let patch: Vec<String> = (0..700).map(|n| format!("\"m{n}\":{n}")).collect();
    let patch = format!("{{{}}}", patch.join(","));
    let document = format!(r#"{{"n":1,"list":[{numbers}]}}"#);
    for prepared_words in [["JSON.MERGE", "d", "$", &patch], ["JSON.NUMINCRBY", "d", "$.list[0][*]", "1"]] {
        instance.run(&["JSON.SET", "d", "$", &document]);
        // Of another command.
        let (_, stage) = once_with_room(&instance, &prepared_words, None, 4 << 20);
        let Stage::Prepare(preparation) = stage else { panic!("{:.3?} is prepared", prepared_words) };
        let made = instance.engine().prepare(0, *preparation);
        let other = ["JSON.NUMINCRBY", "d", "$.n", "1"];
        assert!(once_with_room(&instance, &other, Some(made), 4 << 20).0.is_some());
        let shown = instance.run(&["JSON.GET", "d", "$.n", "$.m7", "$.list[0][0]"]).reply;
        assert_eq!(text(&shown), r#"{"$.n":[2],"$.m7":[],"$.list[0][0]":[0.5]}"#);
        instance.check_replay();
    }
    // The key expires, and the command makes a new document.
    instance.run(&["PEXPIRE", "d", "20"]);
    let words = ["JSON.MERGE", "d", "$", &patch];
    let (_, stage) = once_with_room(&instance, &words, None, 4 << 20);
    let Stage::Prepare(preparation) = stage else { panic!("it is prepared") };
    let made = instance.engine().prepare(0, *preparation);
    instance.move_clock(30);
    let (reply, stage) = once_with_room(&instance, &words, Some(made), 4 << 20);
    if let Stage::Prepare(preparation) = stage {
        let made = instance.engine().prepare(0, *preparation);
        assert!(once_with_room(&instance, &words, Some(made), 4 << 20).0.is_some());
    } else {
        assert!(reply.is_some());
    }
    assert_eq!(text(&instance.run(&["JSON.GET", "d"]).reply), patch);
    instance.check_replay();
}

#[test]
fn several_large_texts_are_parsed_without_the_lock() {
    let mut instance = instance();
    let large = numbers(40_000);
    instance.run(&["JSON.SET", "b", "$", "[0]"]);
    prepared(&mut instance, &["JSON.MSET", "a", "$", &large, "b", "$", "[7]", "b", "$[0]", &large], &[&[]]);
    assert_eq!(text(&instance.run(&["JSON.GET", "a"]).reply), large);
    assert_eq!(text(&instance.run(&["JSON.GET", "b"]).reply), format!("[{large}]"));
    let lengths = Value::Array(vec![Value::Integer(3)]);
    assert_eq!(prepared(&mut instance, &["JSON.ARRAPPEND", "b", "$", &large, "8"], &[&[]]), lengths);
    prepared(&mut instance, &["JSON.ARRINSERT", "b", "$", "1", "9", &large], &[&[]]);
    assert_eq!(text(&instance.run(&["JSON.GET", "b"]).reply), format!("[{large},9,{large},{large},8]"));
    // The first error counts, and nothing is set.
    let broken = format!("{large}]");
    for words in [
        &["JSON.MSET", "c", "$", "1", "c", "$[0]", &broken][..],
        &["JSON.MSET", "c", "$", &broken, "c", "$", "2"],
        &["JSON.MSET", "c", "$.new", &large, "c", "$", &broken],
        &["JSON.ARRAPPEND", "b", "$", &broken],
    ] {
        assert!(prepared(&mut instance, words, &[&[]]).is_error(), "{:.3?}", words);
        assert_eq!(instance.run(&["EXISTS", "c"]).reply, Value::Integer(0));
    }
    instance.check_replay();
}

/// The bytes that a command has logged.
fn logged(instance: &mut Instance, words: &[&str]) -> usize {
    instance.run(words).effects.iter().map(String::len).sum()
}

#[test]
fn a_change_logs_what_changed() {
    let mut instance = instance();
    instance.run(&[
        "JSON.SET",
        "d",
        "$",
        &format!("{{\"a\":{0},\"b\":{{\"c\":{0},\"n\":1,\"t\":\"x\"}}}}", numbers(50_000)),
    ]);
    for words in [
        &["JSON.SET", "d", "$.b.n", "7"][..],
        &["JSON.SET", "d", "$.a[49999]", "{}"],
        &["JSON.NUMINCRBY", "d", "$..n", "1"],
        &["JSON.ARRAPPEND", "d", "$..c", "1", "2"],
        &["JSON.ARRINSERT", "d", "$.a", "100", "1"],
        &["JSON.ARRPOP", "d", "$.a", "7"],
        &["JSON.ARRTRIM", "d", "$.b.c", "5", "-5"],
        &["JSON.STRAPPEND", "d", "$.b.t", "\"y\""],
        &["JSON.MERGE", "d", "$", "{\"b\":{\"n\":null,\"new\":1}}"],
        &["JSON.CLEAR", "d", "$.a"],
        &["JSON.DEL", "d", "$.b.c"],
    ] {
        let bytes = logged(&mut instance, words);
        assert!((1..200).contains(&bytes), "{words:?} logs {bytes} bytes");
    }
    assert_eq!(text(&instance.run(&["JSON.GET", "d"]).reply), "{\"a\":[],\"b\":{\"new\":1,\"t\":\"xy\"}}");
    instance.check_replay();
}

/// Room and preparation do not give each other up: each is asked for once.
#[test]
fn what_was_prepared_is_retained_while_a_command_asks_for_room() {
    let mut instance = instance();
    instance.run(&["JSON.SET", "d", "$", "{\"a\":[{\"b\":1},{\"b\":2}]}"]);
    let large = numbers(30_000);
    let words = ["JSON.SET", "d", "$.a[*].b", large.as_str()];
    let mut retained = Retained::default();
    let mut asked = Vec::new();
    let reply = loop {
        match instance.write_once(&words, &mut retained) {
            (Some(reply), _) => break reply,
            (None, Stage::Prepare(preparation)) => {
                asked.push("preparation");
                retained.prepared = Some(instance.engine().prepare(0, *preparation));
            }
            (None, Stage::NeedsRoom(bytes)) => {
                asked.push("room");
                retained.room_bytes = bytes;
            }
            _ => unreachable!("a write has no job"),
        }
        assert!(asked.len() < 9, "it comes back for ever: {asked:?}");
    };
    assert_eq!(text(&reply), "OK");
    asked.sort_unstable();
    assert_eq!(asked, ["preparation", "room"]);
}

#[test]
fn a_path_with_many_values_asks_for_room_before_it_writes() {
    let mut instance = instance();
    let name = "n".repeat(200);
    let members: Vec<String> =
        (0..3000).map(|at| format!("\"{name}{at}\":{{\"v\":[{at}],\"t\":\"\",\"b\":true}}")).collect();
    let document = format!("{{{}}}", members.join(","));
    for words in [
        &["JSON.SET", "d", "$..v", "null"][..],
        &["JSON.NUMINCRBY", "d", "$..v[0]", "0.1"],
        &["JSON.STRAPPEND", "d", "$.*.t", "\"x\""],
        &["JSON.TOGGLE", "d", "$.*.b"],
        &["JSON.ARRAPPEND", "d", "$..v", "1"],
        &["JSON.ARRINSERT", "d", "$.*.v", "0", "1"],
        &["JSON.ARRPOP", "d", "$.*.v"],
        &["JSON.ARRTRIM", "d", "$.*.v", "0", "0"],
        &["JSON.MERGE", "d", "$.*", "{\"x\":1}"],
        &["JSON.CLEAR", "d", "$.*.v"],
        &["JSON.MSET", "d", "$.*.t", "1", "e", "$", "2"],
        &["JSON.DEL", "d", "$.*.*"],
        &["JSON.FORGET", "d", "$.*"],
    ] {
        instance.run(&["JSON.SET", "d", "$", &document]);
        let (_, stage) = once(&instance, words, None);
        assert!(matches!(stage, Stage::NeedsRoom(_)), "{words:?} logs more than its words say");
        assert!(!instance.run(words).reply.is_error(), "{words:?}");
    }
    instance.check_replay();
}

/// The text of the error that a command replies.
#[track_caller]
fn error(instance: &mut Instance, words: &[&str]) -> String {
    match instance.run(words).reply {
        Value::Error(text) => String::from_utf8_lossy(&text).into_owned(),
        reply => {
            panic!("{} gives {}", words[0], &format!("{reply:?}")[..100.min(format!("{reply:?}").len())])
        }
    }
}

const TOO_MUCH: &str = "ERR JSONPath leads to too many values: name fewer levels with .. and *";
const TOO_MUCH_TEXT: &str = "ERR the reply would be many times the document: name fewer levels with .. and *";

#[test]
fn hostile_documents_and_paths_are_refused() {
    let mut instance = instance();
    for (open, column) in [("[", 128), ("{\"a\":", 636)] {
        let deep = open.repeat(10_000);
        let wanted = format!("recursion limit exceeded at line 1 column {column}");
        assert_eq!(error(&mut instance, &["JSON.SET", "d", "$", &deep]), wanted);
    }
    let deep = "[".repeat(101) + &"]".repeat(101);
    instance.run(&["JSON.SET", "d", "$", &deep]);
    for level in 1..5 {
        let inner = format!("${}", "[0]".repeat(101 * level - 1));
        assert_eq!(
            instance.run(&["JSON.ARRAPPEND", "d", &inner, &deep]).reply.as_array().map(<[_]>::len),
            Some(1)
        );
    }
    const TOO_DEEP: &str = "ERR the document would be nested too deeply";
    let path = "[0]".repeat(504);
    assert_eq!(error(&mut instance, &["JSON.ARRAPPEND", "d", &format!("${path}"), &deep]), TOO_DEEP);
    assert_eq!(error(&mut instance, &["JSON.SET", "d", &format!("$[*]{}", &path[6..]), &deep]), TOO_DEEP);
    assert_eq!(error(&mut instance, &["JSON.MERGE", "d", &format!("${}", &path[3..]), &deep]), TOO_DEEP);
    // Filters that begin at the root again do not use up the stack.
    let filters = format!("{}$..x{}", "$..[?(".repeat(10), ")]".repeat(10));
    assert_eq!(error(&mut instance, &["JSON.GET", "d", &filters]), TOO_MUCH);
    let filter = format!("$[?({}", "(".repeat(10_000));
    assert_eq!(error(&mut instance, &["JSON.GET", "d", &filter]), "ERR JSONPath filter is nested too deeply");
    assert_eq!(text(&instance.run(&["JSON.GET", "d"]).reply).len(), 2 * 505);
    assert_eq!(instance.run(&["JSON.TYPE", "d", "$..*"]).reply.as_array().map(<[_]>::len), Some(1));
    instance.snapshot();
    instance.restart_with(Kept { snapshots: true, derived: false });
    instance.run(&["JSON.SET", "d", "$", &format!("[{}]", vec!["[[0],[1]]"; 3000].join(","))]);
    for command in ["JSON.GET", "JSON.DEL", "JSON.TYPE", "JSON.CLEAR"] {
        let quadratic = "$[?(@[0]==$[2999][0] && $..[?(@==7)])]";
        assert_eq!(error(&mut instance, &[command, "d", quadratic]), TOO_MUCH, "{command}");
    }
    instance.check_replay();
}

#[test]
fn what_a_command_multiplies_is_bounded() {
    let mut instance = instance();
    let items = vec!["{\"b\":[1,2,3],\"t\":\"x\"}"; 20_000].join(",");
    instance.run(&["JSON.SET", "d", "$", &format!("[{items}]")]);
    let before = text(&instance.run(&["JSON.GET", "d"]).reply).to_owned();
    let (large, quoted) = (format!("\"{}\"", "z".repeat(100_000)), format!("\"{}\"", "z".repeat(10_000)));
    const TOO_MANY_BYTES: &str =
        "ERR the command would add more than 67108864 bytes at the places that the path leads to";
    for words in [
        &["JSON.SET", "d", "$..b", &large][..],
        &["JSON.MERGE", "d", "$[*].b", &large],
        &["JSON.STRAPPEND", "d", "$..t", &quoted],
        &["JSON.ARRAPPEND", "d", "$..b", &quoted],
        &["JSON.ARRINSERT", "d", "$..b", "0", &quoted],
    ] {
        assert_eq!(error(&mut instance, words), TOO_MANY_BYTES, "{}", words[0]);
    }
    const TOO_MANY_PLACES: &str =
        "ERR JSONPath leads to more than 65536 values to change: change them in parts";
    for words in [&["JSON.NUMINCRBY", "d", "$..*", "1"][..], &["JSON.DEL", "d", "$..*"]] {
        assert_eq!(error(&mut instance, words), TOO_MANY_PLACES, "{}", words[0]);
    }
    let long = format!("$[?({}1)]", "@.a==1&&".repeat(5000));
    assert_eq!(error(&mut instance, &["JSON.GET", "d", &long]), "ERR JSONPath is longer than 32768 bytes");
    assert_eq!(text(&instance.run(&["JSON.GET", "d"]).reply), before);
    const SEVERAL_AGAIN: &str = "ERR a key that is named again needs a path to one value: no .. * ? , or :";
    assert_eq!(error(&mut instance, &["JSON.MSET", "e", "$", "[]", "e", "$..x", "1"]), SEVERAL_AGAIN);
    let deep = format!("{}1{}", "{\"a\":".repeat(126), "}".repeat(126));
    instance.run(&["JSON.SET", "deep", "$", &deep]);
    for path in ["$..*..*..*", "$..*..*..*..*"] {
        let reply = instance.run(&["JSON.GET", "deep", path]).reply;
        assert!(format!("{reply:?}").contains("name fewer levels"), "{path}: {reply:?}");
    }
    instance.check_replay();
}

#[test]
fn what_a_reply_multiplies_is_bounded() {
    let mut instance = instance();
    instance.run(&[
        "JSON.SET",
        "d",
        "$",
        &format!("{{\"a\":\"{}\",\"l\":{}}}", "y".repeat(9000), numbers(2000)),
    ]);
    instance.run(&[
        "JSON.SET",
        "large",
        "$",
        &format!("{{\"a\":\"{}\",\"l\":{}}}", "y".repeat(90_000), numbers(9000)),
    ]);
    let (long, names) = (" ".repeat(100_000), "\"a\",".repeat(3000));
    let again = format!("$[{}\"a\"]", names);
    for key in ["d", "large"] {
        for words in [
            &["JSON.GET", key, "NEWLINE", &long, "$"][..],
            &["JSON.GET", key, "INDENT", &long, "."],
            &["JSON.GET", key, &again],
            &["JSON.GET", key, "FORMAT", "EXPAND", &again],
            &["JSON.RESP", key, &again],
            &["JSON.MGET", key, &again],
        ] {
            assert_eq!(error(&mut instance, words), TOO_MUCH_TEXT, "{} {}", words[0], words[2]);
        }
        let several: Vec<String> = (0..1000).map(|n| format!("$[\"a\",\"n{n}\"]")).collect();
        let words: Vec<&str> =
            ["JSON.GET", key].into_iter().chain(several.iter().map(String::as_str)).collect();
        assert_eq!(error(&mut instance, &words), TOO_MUCH_TEXT, "several paths have one bound");
    }
    let paths: Vec<String> = (0..1025).map(|n| format!("$.n{n}")).collect();
    let words: Vec<&str> = ["JSON.GET", "d"].into_iter().chain(paths.iter().map(String::as_str)).collect();
    assert_eq!(error(&mut instance, &words), "ERR more than 1024 paths");
    let patch: Vec<String> = (0..60_000).map(|n| format!("\"m{n}\":1")).collect();
    let patch = format!("{{{}}}", patch.join(","));
    let wanted =
        "ERR the value has too many members to be merged into a document of this size: merge it in parts";
    assert_eq!(error(&mut instance, &["JSON.MERGE", "large", "$", &patch]), wanted);
    instance.check_replay();
}

#[test]
fn filters_within_filters_do_not_use_up_the_stack() {
    let mut instance = instance();
    let deep = "[".repeat(101) + &"]".repeat(101);
    instance.run(&["JSON.SET", "d", "$", &deep]);
    for level in 1..5 {
        instance.run(&["JSON.ARRAPPEND", "d", &format!("${}", "[0]".repeat(101 * level - 1)), &deep]);
    }
    for filters in 1..12 {
        let way = "[0]".repeat(500);
        let path = format!("${}{}", format!("{way}[?($").repeat(filters), ")]".repeat(filters));
        let reply = instance.run(&["JSON.GET", "d", &path]).reply;
        assert_eq!(reply.is_error(), filters > 2, "{filters}: {reply:?}");
    }
}

#[test]
fn saved_documents_are_bounded_effects() {
    let mut instance = instance();
    instance.run(&["JSON.SET", "d", "$", &format!("{{\"a\":{},\"b\":[]}}", numbers(100_000))]);
    let created = instance.snapshot().created.expect("there is something new");
    let file = instance.snapshot_file(&created.file).expect("it was read back");
    // 900 KB in runs of about 8 KiB, and the two containers.
    assert!((60..200).contains(&file.trailer().effects), "{}", file.trailer().effects);
}

#[test]
fn a_served_write_that_is_parsed_before_and_needs_more_room_than_its_words_ends() {
    let directory = TempDir::new("json-served");
    let server = Server::start(directory.path(), &[]);
    let mut client = server.client();
    let mut call = |words: &[&str]| client.call(words).expect("the server answers");
    let document = r#"{"a":[{"b":1},{"b":2},{"b":3}]}"#;
    assert_eq!(call(&["JSON.SET", "k", "$", document]), Value::SimpleString(b"OK".to_vec()));
    // Large enough to be parsed without the lock, and it is logged for three places.
    let value = numbers(60_000);
    assert_eq!(call(&["JSON.SET", "k", "$.a[*].b", &value]), Value::SimpleString(b"OK".to_vec()));
    assert_eq!(text(&call(&["JSON.GET", "k", "$.a[2].b[59999]"])), "[59999.5]");
}
