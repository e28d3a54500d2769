//! Every command of Redis 7.2 that is there occurs in a golden script or in another test, which is named
//! here. A command that nothing tests fails this.

#![allow(clippy::disallowed_methods, reason = "reads the repository's own tests")]

use std::collections::BTreeSet;
use std::path::Path;

/// Folders and files with golden scripts: a command in each line, perhaps after a mark.
const SCRIPTS: &[&str] = &[
    "modules/script/tests/it/golden",
    "src/server/tests/it/acl.script",
    "tests/clients/redis/server.script",
    "tests/it/scripts",
];

/// Commands that need more than one connection, a process or time: the test that sends them.
const ELSEWHERE: &[(&str, &[&str])] = &[
    (
        "src/server/tests/it/commands.rs",
        &["ASKING", "CLUSTER HELP", "MEMORY MALLOC-STATS", "MODULE LIST", "READONLY", "READWRITE"],
    ),
    ("src/server/tests/it/tracking.rs", &["CLIENT CACHING", "CLIENT GETREDIR", "CLIENT TRACKING"]),
    ("src/server/tests/it/parking.rs", &["CLIENT HELP", "CLIENT ID"]),
    (
        "src/server/tests/it/watching.rs",
        &["CLIENT PAUSE", "CLIENT UNPAUSE", "LATENCY GRAPH", "LATENCY HISTOGRAM", "MONITOR"],
    ),
    (
        "src/server/tests/it/pubsub.rs",
        &["PUNSUBSCRIBE", "QUIT", "SPUBLISH", "SSUBSCRIBE", "SUNSUBSCRIBE", "UNSUBSCRIBE"],
    ),
    (
        "tests/clients/redis/sweep.rs",
        &[
            "CLIENT INFO",
            "COMMAND HELP",
            "CONFIG HELP",
            "LATENCY HELP",
            "LATENCY LATEST",
            "MODULE HELP",
            "SLOWLOG HELP",
            "SLOWLOG RESET",
            "UNWATCH",
        ],
    ),
    ("modules/script/tests/it/durability.rs", &["FUNCTION DUMP"]),
];

/// The names of commands that the lines of a text begin with, with and without the next word.
fn add_names(text: &str, names: &mut BTreeSet<String>) {
    for line in text.lines() {
        let line = line.trim_start();
        let line = [">sorted ", "> ", "~ "].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line);
        // Some scripts name the connection before the mark.
        let line =
            line.split_once("> ").filter(|(name, _)| !name.contains(' ')).map_or(line, |(_, rest)| rest);
        let mut words = line.split(' ').map(str::to_ascii_uppercase);
        let (Some(first), second) = (words.next(), words.next()) else { continue };
        if let Some(second) = second {
            names.insert(format!("{first} {second}"));
        }
        names.insert(first);
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn in_scripts(root: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for place in SCRIPTS {
        let path = root.join(place);
        if path.is_file() {
            add_names(&read(&path), &mut names);
            continue;
        }
        for entry in std::fs::read_dir(&path).expect("a folder of the repository") {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_some_and(|extension| extension != "rs") {
                add_names(&read(&path), &mut names);
            }
        }
    }
    names
}

#[test]
fn every_command_of_redis_has_a_script_or_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = in_scripts(root);
    let mut wrong = Vec::new();
    let mut named = BTreeSet::new();
    for (file, commands) in ELSEWHERE {
        let text = read(&root.join(file)).to_ascii_uppercase();
        for command in *commands {
            // Words in one text, or as a list of words.
            let listed = command.replace(' ', "\", \"");
            if !text.contains(command) && !text.contains(&listed) {
                wrong.push(format!("{file} does not send {command}"));
            }
            named.insert((*command).to_owned());
        }
    }
    for command in super::command_page::commands_that_are_there() {
        match (scripts.contains(&command), named.contains(&command)) {
            (false, false) => wrong.push(format!("no script or test has {command}")),
            (true, true) => wrong.push(format!("{command} is in a script: it needs no other test")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
