//! The tidy test: checks the rules of structure and style on the text of the sources.
//!
//! It reads lines, not syntax trees. It assumes rustfmt's layout, in which an item ends at a closing brace in
//! the column where it began.

#![allow(clippy::disallowed_methods, reason = "reads the sources themselves, not the engine's data")]

mod comments;
mod imports;
mod layers;
mod names;
mod pages;
mod sources;
mod unsafety;

use sources::{manifests, sources};
use std::collections::BTreeMap;
use std::fmt::Write;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const INLINE_TEST_LINES_MAX: usize = 200;

/// The workspace crates on which each crate may depend. Dev-dependencies count too, because a cycle of them
/// would compile the engine twice.
const CRATE_EDGES: &[(&str, &[&str])] = &[
    (
        "engramdb",
        &[
            "console", "resp", "rdb", "engine", "server", "moving", "vector", "search", "json", "script",
            "bench", "sim", "testkit",
        ],
    ),
    ("console", &[]),
    ("testkit", &["engine", "resp", "sim"]),
    ("resp", &[]),
    ("rdb", &[]),
    ("engine", &["rdb"]),
    ("server", &["console", "engine", "resp", "testkit"]),
    ("moving", &["console", "engine", "rdb", "resp", "testkit"]),
    ("datasets", &[]),
    ("vector", &["datasets"]),
    ("search", &["engine", "vector", "testkit"]),
    ("json", &["engine", "testkit"]),
    ("script", &["engine", "server", "resp", "testkit"]),
    ("bench", &["console", "resp", "vector", "datasets", "testkit"]),
    ("sim", &["engine"]),
    ("benches", &["engine", "resp", "search", "vector"]),
];

/// Calls that are banned outside tests, with their replacements.
const BANNED: &[(&str, &str)] = &[
    (".unwrap()", "`expect(\"why it cannot fail\")`, or handle it"),
    ("todo!(", "finish it, or leave it out"),
    ("unimplemented!(", "finish it, or leave it out"),
    ("dbg!(", "tracing"),
];

/// Calls that write to the standard output, and panic if that fails. They are allowed in one crate only; the
/// server's log goes through tracing.
const BANNED_OUTPUT: &[&str] = &["println!(", "print!(", "io::stdout"];
const OUTPUT_ALLOWED: &str = "src/console/";

fn assert_none(complaints: String) {
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn files_are_short_and_long_tests_are_in_sibling_files() {
    let mut complaints = String::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if source.lines.len() > FILE_LINES_MAX {
            _ = writeln!(
                complaints,
                "{}: {} lines, {FILE_LINES_MAX} at most",
                source.path,
                source.lines.len()
            );
        }
        let tests = source.inline_tests_start().map_or(0, |start| source.lines.len() - start);
        if tests > INLINE_TEST_LINES_MAX {
            _ = writeln!(complaints, "{}: {tests} lines of tests: move them to a sibling file", source.path);
        }
    }
    assert_none(complaints);
}

#[test]
fn functions_are_short() {
    let mut complaints = String::new();
    for source in sources() {
        for (start, line) in source.lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            let indent = line.len() - line.trim_start().len();
            let close = format!("{}}}", " ".repeat(indent));
            let Some(length) = source.lines[start..].iter().position(|line| *line == close) else { continue };
            if length + 1 > FUNCTION_LINES_MAX && !line.trim_end().ends_with(';') {
                let place = format!("{}:{}", source.path, start + 1);
                _ = writeln!(complaints, "{place}: {} lines, {FUNCTION_LINES_MAX} at most", length + 1);
            }
        }
    }
    assert_none(complaints);
}

fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let qualifier = |word: &&str| {
        word.starts_with("pub") || matches!(*word, "const" | "async" | "unsafe" | "extern" | "\"C\"")
    };
    words.find(|word| !qualifier(word)) == Some("fn") && !line.ends_with(';') && !line.ends_with('}')
}

#[test]
fn no_banned_call() {
    let mut complaints = String::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (number, line) in source.product_lines() {
            let code = line.split("//").next().unwrap_or_default();
            for (call, instead) in BANNED.iter().filter(|(call, _)| code.contains(call)) {
                _ = writeln!(complaints, "{}:{number}: {call} is banned: {instead}", source.path);
            }
            let prints = BANNED_OUTPUT.iter().find(|call| code.contains(**call));
            if let Some(call) = prints.filter(|_| !source.path.starts_with(OUTPUT_ALLOWED)) {
                _ = writeln!(complaints, "{}:{number}: {call} is banned: engramdb_console", source.path);
            }
        }
    }
    assert_none(complaints);
}

/// The folders whose hash tables must take their seed from `engramdb_engine::hashing`, and the file that
/// draws the seed.
const SEEDED: &[&str] =
    &["src/engine/", "src/server/", "modules/search/", "modules/json/", "modules/script/"];
const SEED: &str = "src/engine/hashing.rs";

#[test]
fn hash_tables_take_the_seed_of_the_process() {
    let mut complaints = String::new();
    for source in sources().iter().filter(|source| !source.is_test() && source.path != SEED) {
        if !SEEDED.iter().any(|folder| source.path.starts_with(folder)) {
            continue;
        }
        for (number, line) in source.product_lines() {
            let code = line.split("//").next().unwrap_or_default();
            let is_table = code.contains("HashMap") || code.contains("HashSet");
            if is_table && code.contains("std::collections") || code.contains("RandomState") {
                _ = writeln!(
                    complaints,
                    "{}:{number}: use engine::hashing::{{HashMap, HashSet}}",
                    source.path
                );
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn crates_import_only_what_the_structure_allows() {
    let mut complaints = String::new();
    let allowed: BTreeMap<_, _> = CRATE_EDGES.iter().copied().collect();
    for manifest in manifests() {
        let text = std::fs::read_to_string(&manifest).expect("a manifest is text");
        let name = text.lines().find_map(|line| line.strip_prefix("name = ")).expect("a package has a name");
        let name = name.trim_matches('"');
        let name = name.strip_prefix("engramdb-").unwrap_or(name);
        let edges = allowed.get(name).unwrap_or_else(|| panic!("crate {name} has no row in CRATE_EDGES"));
        let own_part = text.split("[workspace.dependencies]").next().unwrap_or_default().lines();
        let package_part = text.split("[package]").nth(1).unwrap_or_default().lines();
        for line in own_part.chain(package_part).filter(|line| line.starts_with("engramdb-")) {
            let target = line["engramdb-".len()..].split(['.', ' ', '=']).next().unwrap_or_default();
            if !edges.contains(&target) {
                _ = writeln!(complaints, "{name} must not depend on {target}");
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn every_file_begins_with_a_module_doc() {
    let mut complaints = String::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if !source.lines.first().is_some_and(|line| line.starts_with("//!")) {
            _ = writeln!(complaints, "{}: begins without a module doc", source.path);
        }
    }
    assert_none(complaints);
}
