//! Our command table compared with Redis's: `data/commands-8.2.tsv` lists what Redis 8.2 reports about its
//! commands (COMMAND DOCS and COMMAND INFO), one per line. Rows that Redis does not have are listed here with
//! a reason.

use engramdb_engine::command::{CommandTable, Handler, Known};
use engramdb_engine::commands::FAMILIES;
use engramdb_engine::store::notices::{class, class_of};
use std::collections::{BTreeMap, BTreeSet};

/// The properties of a command in a comparable form.
#[derive(Debug, PartialEq)]
struct Facts {
    group: String,
    since: String,
    arity: i32,
    flags: BTreeSet<String>,
    acl: Vec<String>,
    key_flags: Vec<String>,
    tips: Vec<String>,
}

/// Redis flags without meaning here: there is no sentinel mode.
const FLAGS_IGNORED: &[&str] = &["sentinel", "only_sentinel"];

/// Rows of ours that Redis 8.2 does not describe: its DEBUG has one row for all its subcommands, and some are
/// of later versions and of Valkey.
const OURS: &[&str] = &[
    "debug|error",
    "debug|help",
    "script|show",
    "debug|reload",
    "debug|set-active-expire",
    "debug|sleep",
    "delex",
    "delifeq",
    "digest",
    "increx",
    "msetex",
];

fn oracle() -> BTreeMap<String, Facts> {
    let set = |text: &str| {
        text.split(',')
            .filter(|word| !word.is_empty() && !FLAGS_IGNORED.contains(word))
            .map(str::to_owned)
            .collect()
    };
    let list = |text: &str, between: char| {
        text.split(between).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    let lines = include_str!("../data/commands-8.2.tsv").lines().skip(1);
    let facts = lines.map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let facts = Facts {
            group: columns[1].to_owned(),
            since: columns[2].to_owned(),
            arity: columns[3].parse().expect("an arity"),
            flags: set(columns[4]),
            acl: list(columns[5], ','),
            key_flags: list(columns[6], ';'),
            tips: list(columns[7], ','),
        };
        (columns[0].to_owned(), facts)
    });
    facts.collect()
}

fn ours(known: &Known) -> Facts {
    let command = known.command;
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let has_keys = command.keys.is_some() || known.shape.keys != (0, 0, 0);
    let moves_keys = command.keys.is_some().then_some("movablekeys");
    Facts {
        group: command.group.to_owned(),
        since: command.since.to_owned(),
        arity: known.shape.arity,
        flags: command.flag_names().chain(moves_keys).map(str::to_owned).collect(),
        acl: command.acl_names().map(str::to_owned).collect(),
        key_flags: if has_keys { strings(command.key_access()) } else { Vec::new() },
        tips: strings(command.tips),
    }
}

#[test]
fn rows_say_what_redis_says() {
    let oracle = oracle();
    let families = FAMILIES.iter().chain(engramdb_server::COMMANDS).chain(&[engramdb_script::COMMANDS]);
    let table = CommandTable::new(families.copied());
    let mut wrong = String::new();
    for known in table.iter().flat_map(|known| std::iter::once(known).chain(&known.subcommands)) {
        if OURS.contains(&known.full_name.as_str()) {
            continue;
        }
        match oracle.get(&known.full_name) {
            None => wrong += &format!("{} is not Redis's\n", known.full_name),
            Some(theirs) if &ours(known) != theirs => {
                wrong += &format!("{}:\n  {:?}\n  {theirs:?}\n", known.full_name, ours(known));
            }
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn rows_are_documented_and_sorted() {
    for family in FAMILIES {
        assert!(family.is_sorted_by_key(|command| command.name), "{}'s family", family[0].name);
        for command in family.iter().flat_map(|command| std::iter::once(command).chain(command.subcommands)) {
            assert!(command.summary.ends_with('.'), "{}'s summary is a sentence", command.name);
            assert!(!command.complexity.is_empty(), "{} has a complexity", command.name);
            let notifies = !command.event.is_empty();
            assert!(!notifies || command.is_write(), "{} changes nothing, so notifies nothing", command.name);
            let has_class = !notifies || class_of(command.event) != class::MODULE;
            assert!(has_class, "the event {} of {} has no class", command.event, command.name);
        }
    }
}

#[test]
fn key_positions_are_those_of_redis() {
    let table = CommandTable::new(FAMILIES.iter().copied());
    for (name, keys) in [
        ("GET", (1, 1, 1)),
        ("MGET", (1, -1, 1)),
        ("MSET", (1, -1, 2)),
        ("LCS", (1, 2, 1)),
        ("DEL", (1, -1, 1)),
        ("RENAME", (1, 2, 1)),
        ("COPY", (1, 2, 1)),
        ("SCAN", (0, 0, 0)),
        ("FLUSHALL", (0, 0, 0)),
        ("SWAPDB", (0, 0, 0)),
    ] {
        let known = table.get(name.as_bytes()).expect("a command of ours");
        assert_eq!(known.shape.keys, keys, "{name}");
        assert!(!matches!(known.command.handler, Handler::Session(_)), "{name} is the engine's");
    }
    let object = table.get(b"object").expect("a command of ours");
    assert!(object.subcommands.iter().all(|known| matches!(known.shape.keys, (2, 2, 1) | (0, 0, 0))));
}
