//! Pages with lists are complete: docs/locks.md has all locks, docs/decisions/README.md all decisions. What
//! pages name exists: files, types, functions, targets of links.

use super::assert_none;
use super::sources::{Source, files, root, sources};
use std::collections::BTreeSet;
use std::fmt::Write;

/// The file and name of each field, static or newtype with a lock.
fn locks(sources: &[Source]) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for source in sources.iter().filter(|source| !source.is_test()) {
        for (_, line) in source.product_lines() {
            let code = line.split("//").next().unwrap_or_default().trim();
            if !["Mutex<", "RwLock<"].iter().any(|kind| code.contains(kind)) {
                continue;
            }
            if let Some(name) = declared(code) {
                found.insert((source.path.clone(), name.to_owned()));
            }
        }
    }
    found
}

/// The name of the field, static or newtype with a lock that this line declares; `None` if it declares none.
fn declared(code: &str) -> Option<&str> {
    let code = match code.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => code,
    };
    if let Some(newtype) = code.strip_prefix("struct ") {
        return newtype.split('(').next();
    }
    let code = code.strip_prefix("static ").unwrap_or(code);
    let (name, kind) = code.split_once(": ")?;
    let is_name = name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
    // A field ends with a comma; a reference to a lock is not one.
    (is_name && (code.ends_with(',') || code.contains("= ")) && !kind.contains('&')).then_some(name)
}

#[test]
fn every_lock_is_documented() {
    let page = std::fs::read_to_string(root().join("docs/locks.md")).expect("the page is there");
    let listed: BTreeSet<(String, String)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| {
            let (file, rest) = line.split_once("` `")?;
            Some((file.to_owned(), rest.split('`').next()?.to_owned()))
        })
        .collect();
    let locks = locks(&sources());
    assert!(locks.len() > 20, "the locks were not found: {locks:?}");
    let mut complaints = String::new();
    for (file, name) in locks.difference(&listed) {
        _ = writeln!(complaints, "{file}: docs/locks.md has no row `{file}` `{name}`");
    }
    for (file, name) in listed.difference(&locks) {
        _ = writeln!(complaints, "docs/locks.md lists `{file}` `{name}`, which is no lock any more");
    }
    assert_none(complaints);
}

#[test]
fn every_decision_is_in_the_index() {
    let folder = root().join("docs/decisions");
    let index = std::fs::read_to_string(folder.join("README.md")).expect("the index is there");
    let mut complaints = String::new();
    for entry in std::fs::read_dir(folder).expect("the folder is there").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "README.md" && !index.contains(&format!("]({name}) |")) {
            _ = writeln!(complaints, "docs/decisions/README.md has no row with its status for {name}");
        }
    }
    assert_none(complaints);
}

/// Pages about the code.
const PAGES: &[&str] = &[
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "tests/README.md",
    "docs/architecture.md",
    "docs/locks.md",
];

/// What they name that is not in the repository: files of users, an example of a name.
const ELSEWHERE: &[&str] = &["redis.conf", "valkey.conf", "latency_ms_max"];

/// The spans of code of a page, outside of blocks, with their lines.
fn spans(page: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut is_block = false;
    for (index, line) in page.lines().enumerate() {
        is_block ^= line.starts_with("```");
        if !is_block {
            found.extend(line.split('`').skip(1).step_by(2).map(|span| (index + 1, span)));
        }
    }
    found
}

fn is_identifier(word: &str) -> bool {
    word.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
}

/// Whether a span is the name of something in the sources, and not any word: it has an underscore, a path, or
/// capitals within.
fn is_code_name(span: &str) -> bool {
    let name = span.strip_suffix("()").unwrap_or(span);
    let is_camel = name.chars().zip(name.chars().skip(1)).any(|(a, b)| a.is_lowercase() && b.is_uppercase());
    let parts: Vec<&str> = name.split("::").collect();
    parts.iter().all(|part| !part.is_empty() && is_identifier(part))
        && (parts.len() > 1 || name.contains('_') || is_camel)
}

fn is_path(span: &str) -> bool {
    let is_plain = span.chars().all(|letter| letter.is_alphanumeric() || "_-./".contains(letter));
    let has_ending =
        [".rs", ".md", ".toml", ".txt", ".tsv", ".py", ".conf"].iter().any(|end| span.ends_with(end));
    is_plain && (span.contains('/') || has_ending)
}

/// Whether a file or folder ends so, at the border of a name.
fn exists(files: &BTreeSet<String>, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    files
        .iter()
        .any(|file| file == path || file.ends_with(path) && file[..file.len() - path.len()].ends_with('/'))
}

#[test]
fn pages_name_what_exists() {
    let files = files();
    let sources = sources();
    let words: BTreeSet<&str> = sources
        .iter()
        .flat_map(|source| &source.lines)
        .flat_map(|line| line.split(|letter: char| !letter.is_alphanumeric() && letter != '_'))
        .collect();
    let mut complaints = String::new();
    for name in PAGES {
        let page = std::fs::read_to_string(root().join(name)).expect("the page is there");
        let spans = spans(&page);
        assert!(spans.len() > 3, "{name}: the names were not found");
        for (line, span) in spans.into_iter().filter(|(_, span)| !ELSEWHERE.contains(span)) {
            let is_there = match (is_path(span), is_code_name(span)) {
                (true, _) => exists(&files, span),
                (_, true) => span.trim_end_matches("()").split("::").all(|part| words.contains(part)),
                _ => true,
            };
            if !is_there {
                _ = writeln!(complaints, "{name}:{line}: `{span}` does not exist");
            }
        }
    }
    assert_none(complaints);
}

/// `name` in `file`: the file has it.
#[test]
fn what_a_page_says_is_in_a_file_is_there() {
    let sources = sources();
    let (mut complaints, mut seen) = (String::new(), 0);
    for name in PAGES {
        let page = std::fs::read_to_string(root().join(name)).expect("the page is there");
        for (start, between) in page.match_indices("` in `") {
            let code = page[..start].rsplit('`').next().expect("a span begins");
            let file = page[start + between.len()..].split('`').next().expect("a span ends");
            if !file.ends_with(".rs") {
                continue;
            }
            seen += 1;
            let mut source = sources.iter().filter(|source| source.path.ends_with(file));
            if !source.any(|source| source.lines.iter().any(|line| line.contains(code))) {
                _ = writeln!(complaints, "{name}: `{code}` is not in `{file}`");
            }
        }
    }
    assert!(seen > 1, "the places were not found");
    assert_none(complaints);
}

#[test]
fn links_between_pages_lead_somewhere() {
    let (mut complaints, mut seen) = (String::new(), 0);
    for name in files().iter().filter(|name| name.ends_with(".md")) {
        let page = std::fs::read_to_string(root().join(name)).expect("a page is text");
        for link in page.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let is_elsewhere = link.is_empty() || link.contains("://");
            let folder = root().join(name);
            let folder = folder.parent().expect("a file is in a folder");
            seen += usize::from(!is_elsewhere);
            if !is_elsewhere && !folder.join(link).exists() {
                _ = writeln!(complaints, "{name}: the link to {link} leads nowhere");
            }
        }
    }
    assert!(seen > 20, "the links were not found");
    assert_none(complaints);
}
