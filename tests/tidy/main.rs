//! The tidy test: what the structure forbids, checked on the text of the sources.
//!
//! It reads lines, not syntax trees: rustfmt has run before, so that an item ends at a closing brace in the column
//! where it began.

#![allow(clippy::disallowed_methods, reason = "reads the sources themselves, not the engine's data")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const INLINE_TEST_LINES_MAX: usize = 200;

/// Which of our crates each may depend on. Dev-dependencies count: a cycle would compile the engine twice.
const CRATE_EDGES: &[(&str, &[&str])] = &[
    ("engramdb", &["console", "resp", "engine", "server", "vector", "search", "bench", "sim", "testkit"]),
    ("console", &[]),
    ("testkit", &["engine", "resp", "sim"]),
    ("resp", &[]),
    ("engine", &[]),
    ("server", &["console", "engine", "resp", "testkit"]),
    ("datasets", &[]),
    ("vector", &["datasets"]),
    ("search", &["engine", "vector", "testkit"]),
    ("bench", &["console", "resp", "vector", "datasets", "testkit"]),
    ("sim", &["engine"]),
    ("benches", &["engine", "resp", "vector"]),
];

/// Inside the engine: which top-level modules each may name as `crate::…`. What is not listed here is free.
const ENGINE_EDGES: &[(&str, &[&str])] = &[
    ("types", &["table"]),
    ("table", &[]),
    ("effect", &["types"]),
    ("keyspace", &["effect", "types", "table", "thin"]),
    ("thin", &[]),
    ("env", &[]),
    ("log", &["env", "effect"]),
];

/// Calls that no code outside tests makes, with what to do instead.
const BANNED: &[(&str, &str)] = &[
    (".unwrap()", "`expect(\"why it cannot fail\")`, or handle it"),
    ("todo!(", "finish it, or leave it out"),
    ("unimplemented!(", "finish it, or leave it out"),
    ("dbg!(", "tracing"),
];

/// Calls that write to the standard output or panic where the standard error cannot be written. They are allowed in one
/// crate only; the server's log goes through tracing.
const BANNED_OUTPUT: &[&str] = &["println!(", "print!(", "io::stdout"];
const OUTPUT_ALLOWED: &str = "src/console/";

/// The only places with unsafe code: distance kernels, the graph's storage, the entries' pointers, and the doors to
/// the operating system and the allocator.
const UNSAFE_ALLOWED: &[&str] =
    &["modules/vector/", "src/engine/thin.rs", "src/engine/env/", "src/server/snapshots/", "src/memory.rs"];

struct Source {
    path: String,
    lines: Vec<String>,
}

impl Source {
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().expect("a path has a last part");
        self.path.starts_with("tests/")
            || self.path.starts_with("benches/")
            || self.path.contains("/tests/")
            || name == "tests.rs"
            || name.ends_with("_tests.rs")
            || self.path.starts_with("modules/sim/")
            || self.path.starts_with("modules/testkit/")
    }

    /// The lines that are not inside an inline test module, numbered from 1.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.inline_tests_start().unwrap_or(self.lines.len());
        self.lines[..end].iter().enumerate().map(|(index, line)| (index + 1, line.as_str()))
    }

    fn inline_tests_start(&self) -> Option<usize> {
        let start = self.lines.iter().position(|line| line == "#[cfg(test)]")?;
        self.lines[start..].iter().any(|line| line.starts_with("mod tests {")).then_some(start)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "modules", "datasets", "tests", "benches"] {
        collect(&root().join(folder), &mut files);
    }
    assert!(files.len() > 20, "the sources were not found");
    files.sort();
    files.into_iter().map(read_source).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read_source(path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).expect("a source is text");
    let path = path.strip_prefix(root()).expect("found below the root").to_string_lossy().into_owned();
    Source { path, lines: text.lines().map(str::to_owned).collect() }
}

fn assert_none(complaints: String) {
    assert!(complaints.is_empty(), "\n{complaints}");
}

#[test]
fn files_are_short_and_long_tests_stand_beside_their_file() {
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
fn no_banned_call_and_no_unsafe_outside_its_places() {
    let mut complaints = String::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let may_be_unsafe = UNSAFE_ALLOWED.iter().any(|place| source.path.starts_with(place));
        for (number, line) in source.product_lines() {
            let code = line.split("//").next().unwrap_or_default();
            for (call, instead) in BANNED.iter().filter(|(call, _)| code.contains(call)) {
                _ = writeln!(complaints, "{}:{number}: {call} is banned: {instead}", source.path);
            }
            let prints = BANNED_OUTPUT.iter().find(|call| code.contains(**call));
            if let Some(call) = prints.filter(|_| !source.path.starts_with(OUTPUT_ALLOWED)) {
                _ = writeln!(complaints, "{}:{number}: {call} is banned: engramdb_console", source.path);
            }
            let is_unsafe =
                code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl");
            if is_unsafe && !may_be_unsafe {
                _ = writeln!(complaints, "{}:{number}: unsafe has no place here", source.path);
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

fn manifests() -> Vec<PathBuf> {
    let mut found = vec![
        root().join("Cargo.toml"),
        root().join("benches/Cargo.toml"),
        root().join("datasets/Cargo.toml"),
    ];
    for folder in ["src", "modules"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("the folder is there") {
            let manifest = entry.expect("the folder can be read").path().join("Cargo.toml");
            if manifest.exists() {
                found.push(manifest);
            }
        }
    }
    found
}

#[test]
fn inside_the_engine_imports_go_one_way() {
    let mut complaints = String::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let Some(inner) = source.path.strip_prefix("src/engine/") else { continue };
        let module = inner.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = ENGINE_EDGES.iter().find(|(name, _)| *name == module) else { continue };
        for (number, line) in source.product_lines() {
            let code = line.split("//").next().unwrap_or_default();
            for named in code.split("crate::").skip(1) {
                let target = named.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next();
                let target = target.unwrap_or_default();
                if target != module && !target.is_empty() && !allowed.contains(&target) {
                    _ = writeln!(complaints, "{}:{number}: {module} must not import {target}", source.path);
                }
            }
        }
    }
    assert_none(complaints);
}

#[test]
fn every_file_says_what_it_is() {
    let mut complaints = String::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        if !source.lines.first().is_some_and(|line| line.starts_with("//!")) {
            _ = writeln!(complaints, "{}: begins without a module doc", source.path);
        }
    }
    assert_none(complaints);
}
