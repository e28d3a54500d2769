//! No circles between the top-level modules of a crate, and the layers of the engine.

use super::assert_none;
use super::imports::{self, CRATES};
use super::sources::{root, sources};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Known imports that close a circle: crate, importing module, imported module. The list may only get
/// shorter: an entry that no longer closes a circle fails the test.
const CIRCLES: &[(&str, &str, &str)] = &[];

/// The modules that a top-level module of the engine may import. Modules without a row are not restricted.
const ENGINE_LAYERS: &[(&str, &[&str])] = &[
    ("types", &["table", "thin"]),
    ("table", &["hashing"]),
    ("hashing", &["env"]),
    ("effect", &["types"]),
    ("keyspace", &["effect", "types", "table", "thin"]),
    ("thin", &[]),
    ("env", &[]),
    ("format_level", &[]),
    ("log", &["env", "effect", "format_level"]),
    ("store", &["effect", "env", "error", "gate", "hashing", "keyspace", "log", "module", "table", "types"]),
    ("command", &["error", "hashing", "log", "signal", "store", "types"]),
];

#[test]
fn no_circles_between_the_modules_of_a_crate() {
    let sources = sources();
    let mut complaints = String::new();
    for (name, folder) in CRATES {
        let graph = imports::graph(folder, &sources);
        assert!(*name == "console" || graph.len() > 2, "{name}: the modules were not found");
        let excepted: BTreeSet<(&str, &str)> =
            CIRCLES.iter().filter(|(of, ..)| of == name).map(|(_, from, to)| (*from, *to)).collect();
        if let Some(circle) = imports::circle(&graph, &excepted) {
            _ = writeln!(complaints, "{name}: a circle of imports: {}", circle.join(" -> "));
            for edge in circle.windows(2) {
                _ = writeln!(
                    complaints,
                    "    {} imports {} at {}",
                    edge[0], edge[1], graph[&edge[0]][&edge[1]]
                );
            }
        }
        for &(from, to) in &excepted {
            let others: BTreeSet<_> = excepted.iter().copied().filter(|edge| *edge != (from, to)).collect();
            let exists = graph.get(from).is_some_and(|targets| targets.contains_key(to));
            if !exists || imports::circle(&graph, &others).is_none() {
                _ = writeln!(complaints, "{name}: {from} -> {to} closes no circle: it must leave CIRCLES");
            }
        }
    }
    assert_none(complaints);
}

/// The list of all edges. Its changes are visible in reviews, because a new edge is a new dependency.
const EDGES: &str = "tests/tidy/edges.txt";

#[test]
fn imports_between_modules_are_those_that_are_listed() {
    let sources = sources();
    let mut found = String::new();
    for (name, folder) in CRATES {
        for (module, targets) in imports::graph(folder, &sources) {
            let targets: Vec<&str> = targets.keys().map(String::as_str).collect();
            _ = writeln!(found, "{name} {module}: {}", targets.join(" "));
        }
    }
    let path = root().join(EDGES);
    if std::env::var("ENGRAMDB_BLESS").as_deref() == Ok("1") {
        std::fs::write(&path, &found).expect("a writable repository");
    }
    let listed = std::fs::read_to_string(&path).expect("the list is there");
    let [listed, found] =
        [&listed, &found].map(|text| text.lines().map(str::trim_end).collect::<BTreeSet<_>>());
    let mut complaints = String::new();
    for line in found.difference(&listed) {
        _ = writeln!(complaints, "not in {EDGES}: {line}");
    }
    for line in listed.difference(&found) {
        _ = writeln!(complaints, "no longer in the sources: {line}");
    }
    if !complaints.is_empty() {
        complaints +=
            "If the new edges are intended: ENGRAMDB_BLESS=1 cargo test --test tidy imports_between\n";
    }
    assert_none(complaints);
}

#[test]
fn the_engines_layers_import_downwards() {
    let graph = imports::graph("src/engine/", &sources());
    let mut complaints = String::new();
    for (module, allowed) in ENGINE_LAYERS {
        let targets = graph.get(*module).unwrap_or_else(|| panic!("the engine has no module {module}"));
        for (target, place) in targets.iter().filter(|(target, _)| !allowed.contains(&target.as_str())) {
            _ = writeln!(complaints, "{place}: {module} must not import {target}");
        }
    }
    assert_none(complaints);
}
