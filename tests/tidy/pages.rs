//! Pages with lists are complete: docs/locks.md has all locks, docs/decisions/README.md all decisions.

use super::assert_none;
use super::sources::{Source, root, sources};
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
