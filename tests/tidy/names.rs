//! Names of public types are unique in the workspace, so that a search for a name finds one type.

use super::assert_none;
use super::sources::sources;
use std::collections::BTreeMap;
use std::fmt::Write;

const KINDS: &[&str] = &["struct", "enum", "trait", "type", "union"];

#[test]
fn names_of_public_types_are_unique() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        for (number, line) in source.product_lines() {
            let mut words = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            let mut words = words.by_ref().filter(|word| !word.is_empty());
            let is_public = line.trim_start().starts_with("pub ") && words.next() == Some("pub");
            let kind = words.find(|word| *word != "unsafe").unwrap_or_default();
            if is_public && KINDS.contains(&kind) {
                let name = words.next().unwrap_or_default().to_owned();
                places.entry(name).or_default().push(format!("{}:{number}", source.path));
            }
        }
    }
    let mut complaints = String::new();
    for (name, places) in places.iter().filter(|(_, places)| places.len() > 1) {
        _ = writeln!(complaints, "{name}: {} types: {}", places.len(), places.join(", "));
    }
    assert_none(complaints);
}
