//! The import graphs of crates: the references between top-level modules. A folder counts as one module.
//!
//! References are paths that begin with `crate::` or `super::`, in `use` and in code, with nested lists.
//! Comments, tests and items with `#[cfg(test)]` are ignored. A name that the crate's root re-exports counts
//! as the module that defines it.

use super::sources::Source;
use std::collections::{BTreeMap, BTreeSet};

/// A crate's folder, as a prefix of paths.
pub const CRATES: &[(&str, &str)] = &[
    ("console", "src/console/"),
    ("resp", "src/resp/"),
    ("rdb", "src/rdb/"),
    ("engine", "src/engine/"),
    ("server", "src/server/"),
    ("moving", "src/moving/"),
    ("vector", "modules/vector/"),
    ("search", "modules/search/"),
    ("json", "modules/json/"),
    ("script", "modules/script/"),
    ("bench", "modules/bench/"),
    ("datasets", "datasets/"),
];

/// By module, the modules that it imports, each with the place of one import.
pub type Graph = BTreeMap<String, BTreeMap<String, String>>;

pub fn graph(folder: &str, sources: &[Source]) -> Graph {
    let files: Vec<(&Source, Vec<String>)> = sources
        .iter()
        .filter(|source| !source.is_test())
        .filter_map(|source| Some((source, module_path(source.path.strip_prefix(folder)?))))
        .collect();
    let mut graph: Graph =
        files.iter().filter_map(|(_, path)| Some((path.first()?.clone(), BTreeMap::new()))).collect();
    let root = files.iter().find(|(_, path)| path.is_empty());
    let exported = root.map(|(source, _)| exports(&code_of(source))).unwrap_or_default();
    for (source, path) in &files {
        let Some(own) = path.first() else { continue };
        for (line, name) in imports(&code_of(source), path) {
            let target = exported.get(&name).unwrap_or(&name);
            if target != own && graph.contains_key(target) {
                let place = format!("{}:{line}", source.path);
                let edges = graph.get_mut(own).expect("each module is in the graph");
                edges.entry(target.clone()).or_insert(place);
            }
        }
    }
    graph
}

/// The module path of a file below its crate's folder; empty for the root.
fn module_path(file: &str) -> Vec<String> {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let mut path: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        path.pop();
    }
    path
}

/// A source without comments, string literals and test code. Line numbers stay the same.
pub fn code_of(source: &Source) -> String {
    let mut code = String::new();
    let mut lines = source.product_lines().map(|(_, line)| line);
    while let Some(line) = lines.next() {
        code.push_str(&without_texts(line));
        code.push('\n');
        if line.trim_start().starts_with("#[cfg(test)]") {
            let indent = line.len() - line.trim_start().len();
            let close = format!("{}}}", " ".repeat(indent));
            for item in lines.by_ref() {
                code.push('\n');
                if item.trim_end().ends_with(';') && !item.starts_with(&" ".repeat(indent + 1))
                    || item == close
                {
                    break;
                }
            }
        }
    }
    code
}

/// A line without its comment and the content of string and character literals.
fn without_texts(line: &str) -> String {
    let mut kept = String::new();
    let mut letters = line.chars().peekable();
    let mut is_text = false;
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if is_text => _ = letters.next(),
            '"' => is_text = !is_text,
            '/' if !is_text && letters.peek() == Some(&'/') => break,
            '\'' if !is_text && letters.clone().nth(1) == Some('\'') => _ = (letters.next(), letters.next()),
            _ if is_text => {}
            other => kept.push(other),
        }
    }
    kept
}

/// The names that the root re-exports, each with the module that defines it.
fn exports(root: &str) -> BTreeMap<String, String> {
    let mut exported = BTreeMap::new();
    for item in root.split("pub use ").skip(1) {
        let item = item.split(';').next().unwrap_or_default();
        let item = item.strip_prefix("crate::").unwrap_or(item);
        let module = first_name(item);
        for name in item.split(['{', '}', ',', ':']).filter(|name| !name.is_empty()) {
            let name = name.rsplit(" as ").next().unwrap_or_default().trim();
            exported.entry(name.to_owned()).or_insert_with(|| module.clone());
        }
    }
    exported
}

/// The names below the crate's root that a file's code imports, with their lines.
fn imports(code: &str, path: &[String]) -> Vec<(usize, String)> {
    let inline = inline_modules(code);
    let mut found = Vec::new();
    for (start, word) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '$' | ':')) {
            continue;
        }
        let line = code[..start].matches('\n').count() + 1;
        let mut rest = &code[start + word.len()..];
        let mut base = Vec::new();
        if word == "super::" {
            base = path.to_vec();
            base.extend(
                inline
                    .iter()
                    .filter(|(begin, end, _)| (*begin..*end).contains(&start))
                    .map(|(_, _, name)| name.clone()),
            );
            base.pop();
            while let Some(more) = rest.strip_prefix("super::") {
                rest = more;
                base.pop();
            }
        }
        if base.is_empty() {
            found.extend(names(rest).into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// Inline modules: the start, end and name of each.
fn inline_modules(code: &str) -> Vec<(usize, usize, String)> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in code.split_inclusive('\n') {
        let words: Vec<&str> = line.split_whitespace().collect();
        let words =
            words.strip_prefix(&["pub"]).or_else(|| words.strip_prefix(&["pub(crate)"])).unwrap_or(&words);
        if let ["mod", name, "{"] = words {
            let indent = line.len() - line.trim_start().len();
            let close = format!("\n{}}}", " ".repeat(indent));
            let length = code[start..].find(&close).unwrap_or(code.len() - start);
            found.push((start, start + length, (*name).to_owned()));
        }
        start += line.len();
    }
    found
}

/// The first names of a path: one, or those of the list in braces.
fn names(path: &str) -> Vec<String> {
    let Some(list) = path.strip_prefix('{') else { return vec![first_name(path)] };
    let (mut depth, mut names, mut item) = (0, Vec::new(), String::new());
    for letter in list.chars() {
        match letter {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(first_name(std::mem::take(&mut item).trim())),
            _ => {}
        }
        if depth > 0 || letter != ',' {
            item.push(letter);
        }
    }
    names.push(first_name(item.trim()));
    names.retain(|name| !name.is_empty());
    names
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

/// The modules on a path from a module back to itself over edges that are not excepted; `None` if there is no
/// circle.
pub fn circle(graph: &Graph, excepted: &BTreeSet<(&str, &str)>) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    graph.keys().find_map(|start| walk(graph, excepted, start, &mut Vec::new(), &mut done))
}

fn walk<'g>(
    graph: &'g Graph,
    excepted: &BTreeSet<(&str, &str)>,
    module: &'g str,
    way: &mut Vec<&'g str>,
    done: &mut BTreeSet<&'g str>,
) -> Option<Vec<String>> {
    if let Some(begin) = way.iter().position(|passed| *passed == module) {
        return Some(way[begin..].iter().chain([&module]).map(|&name| name.to_owned()).collect());
    }
    if !done.insert(module) {
        return None;
    }
    way.push(module);
    let next = graph[module].keys().filter(|target| !excepted.contains(&(module, target.as_str())));
    let found = next.into_iter().find_map(|target| walk(graph, excepted, target, way, done));
    way.pop();
    found
}

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), lines: text.lines().map(str::to_owned).collect() }
}

fn targets(graph: &Graph, module: &str) -> Vec<String> {
    graph[module].keys().cloned().collect()
}

#[test]
fn all_forms_of_imports_are_seen() {
    let sources = [
        source("x/lib.rs", "//! Root.\nmod a;\nmod b;\npub use c::deep::{One, Two as Second};\n"),
        source("x/a.rs", "use crate::{b::{B, C}, c};\nfn f() { crate::d::g(); }\nuse crate::Second;\n"),
        source("x/b/mod.rs", "use super::a::A;\nuse self::inner::I;\n"),
        source("x/b/inner.rs", "use super::B;\nuse super::super::{\n    c::C,\n    d,\n};\n"),
        source("x/c.rs", "mod deep {\n    use super::X;\n    use super::super::d;\n}\n"),
        source(
            "x/d.rs",
            "// crate::a\nlet text = \"crate::b\"; // crate::a\n#[cfg(test)]\nuse crate::a;\n\
             #[cfg(test)]\nmod tests {\n    use crate::b;\n}\n",
        ),
        source("x/d_tests.rs", "use crate::a;\n"),
    ];
    let graph = graph("x/", &sources);
    assert_eq!(targets(&graph, "a"), ["b", "c", "d"]);
    assert_eq!(targets(&graph, "b"), ["a", "c", "d"]);
    assert_eq!(targets(&graph, "c"), ["d"]);
    assert!(targets(&graph, "d").is_empty(), "{graph:?}");
    assert_eq!(graph["b"]["d"], "x/b/inner.rs:2");
}

#[test]
fn circles_are_found_and_exceptions_break_them() {
    let sources = [
        source("x/a.rs", "use crate::b;"),
        source("x/b.rs", "use crate::c;"),
        source("x/c.rs", "use crate::a;\nuse crate::d;"),
        source("x/d.rs", ""),
    ];
    let graph = graph("x/", &sources);
    assert_eq!(circle(&graph, &BTreeSet::new()).expect("there is one"), ["a", "b", "c", "a"]);
    assert_eq!(circle(&graph, &BTreeSet::from([("c", "a")])), None);
    assert!(circle(&graph, &BTreeSet::from([("c", "d")])).is_some());
}
