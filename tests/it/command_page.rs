//! docs/commands.md: every command of Redis 7.2 with its state here. The page is made of the command table
//! and of `tests/data/commands-7.2.tsv` (name, group, since, arity, flags, categories), which lists what a
//! Redis 7.2 reports; ENGRAMDB_BLESS=1 writes it.

use engramdb_engine::command::{CommandTable, Known};
use engramdb_engine::commands::FAMILIES;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

/// Commands that are not there, by the beginning of their names, with the reason.
const REASONS: &[(&str, &str)] = &[
    ("asking", "cluster"),
    ("bgrewriteaof", "there is no file to rewrite: the log is cut after each snapshot (BGSAVE)"),
    ("cluster|", "cluster: refused as by a Redis without `cluster-enabled`"),
    ("debug", "some subcommands; the others need Redis's own structures"),
    ("module|", "modules are compiled in: there is nothing to load"),
    ("pfdebug", "a command of Redis's own tests"),
    ("pfselftest", "a command of Redis's own tests"),
    ("psync", "replication follows the log, not this protocol"),
    ("replconf", "replication follows the log, not this protocol"),
    ("restore-asking", "cluster"),
    ("sentinel", "there is no sentinel mode"),
    ("sync", "replication follows the log, not this protocol"),
];

const NOT_YET: &str = "not there yet";

struct Line {
    name: String,
    group: String,
    since: String,
}

fn redis_commands() -> Vec<Line> {
    let lines = include_str!("../data/commands-7.2.tsv").lines().skip(1);
    let lines = lines.map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        Line { name: columns[0].to_owned(), group: columns[1].to_owned(), since: columns[2].to_owned() }
    });
    let mut lines: Vec<Line> = lines.filter(|line| line.group != "sentinel").collect();
    lines.sort_by(|one, other| (&one.group, &one.name).cmp(&(&other.group, &other.name)));
    lines
}

fn our_commands() -> BTreeSet<String> {
    let families = FAMILIES.iter().chain(engramdb_server::COMMANDS).chain(&[engramdb_script::COMMANDS]);
    let table = CommandTable::new(families.copied());
    let all = table.iter().flat_map(|known| std::iter::once(known).chain(&known.subcommands));
    all.map(|known: &Known| known.full_name.clone()).collect()
}

fn reason(name: &str) -> &'static str {
    let known = REASONS.iter().find(|(start, _)| name.starts_with(start));
    known.map_or(NOT_YET, |(_, reason)| reason)
}

/// The names of the commands of Redis 7.2 that are there, in capitals.
pub fn commands_that_are_there() -> Vec<String> {
    let ours = our_commands();
    let there = redis_commands().into_iter().filter(|line| ours.contains(&line.name));
    there.map(|line| line.name.replace('|', " ").to_uppercase()).collect()
}

fn page() -> String {
    let (redis, ours) = (redis_commands(), our_commands());
    let there = redis.iter().filter(|line| ours.contains(&line.name)).count();
    let mut page = format!(
        "# Commands\n\nEvery command of Redis 7.2 and its state here, made from the command table by a test \
         (`command_page`): {there} of {} are there. Differences in what they do are in \
         [compatibility.md](compatibility.md).\n",
        redis.len()
    );
    let mut by_group: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    redis.iter().for_each(|line| by_group.entry(&line.group).or_default().push(line));
    for (group, lines) in by_group {
        write!(page, "\n## {group}\n\n| command | since | state |\n|---|---|---|\n").expect("a string");
        for line in lines {
            let is_there = ours.contains(&line.name);
            let state = if is_there { "there" } else { reason(&line.name) };
            let name = line.name.replace('|', " ").to_uppercase();
            writeln!(page, "| {name} | {} | {state} |", line.since).expect("a string takes all");
        }
    }
    page
}

#[test]
#[allow(clippy::disallowed_methods, reason = "reads and blesses a page of the documentation")]
fn the_page_of_commands_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let page = page();
    if std::env::var("ENGRAMDB_BLESS").as_deref() == Ok("1") {
        std::fs::write(&path, &page).expect("a writable repository");
    }
    let found = std::fs::read_to_string(&path).expect("the page is there");
    assert!(found == page, "docs/commands.md is not up to date: ENGRAMDB_BLESS=1 writes it");
}
