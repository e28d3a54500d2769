//! Kinds of disagreement, and `disagreements.txt`, which lists those that occur, with their causes.
//!
//! `= cause` begins a group; a line below it is a count and a kind. The list is a ratchet: no kind may occur
//! more often than it says, kinds that it does not have may not occur, and one that no longer occurs must
//! leave it.

use engramdb_resp::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The cause of new kinds.
const UNKNOWN: &str = "Not taken apart yet.";

/// The kind of a refusal: its text without names and numbers.
pub fn of_error(reply: &Value) -> String {
    let text = String::from_utf8_lossy(reply.as_bytes().expect("an error has a text")).into_owned();
    if let Some((_, rest)) = text.split_once("unknown command '") {
        let name = rest.split('\'').next().unwrap_or_default();
        return format!("unknown command {}", name.to_uppercase());
    }
    let text = text.split(" near ").next().unwrap_or_default();
    let mut kind = String::new();
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (Some(_), _) => continue,
            (None, '`' | '"') => quote = Some(letter),
            (None, _) => {}
        }
        match letter {
            '0'..='9' if kind.ends_with('#') => {}
            '0'..='9' => kind.push('#'),
            other => kind.push(other),
        }
    }
    kind.trim().to_owned()
}

/// True if the server refuses because it cannot do something yet.
pub fn is_missing(reply: &Value) -> bool {
    let is_in = |text: &[u8], part: &str| text.windows(part.len()).any(|window| window == part.as_bytes());
    matches!(reply, Value::Error(text) if is_in(text, "unknown command") || is_in(text, "not supported"))
}

/// The listed kinds, with their counts and causes.
pub struct Listed {
    kinds: BTreeMap<String, (usize, String)>,
}

impl Listed {
    pub fn parse(text: &str) -> Listed {
        let mut kinds = BTreeMap::new();
        let mut cause = String::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(next) = line.strip_prefix("= ") {
                next.clone_into(&mut cause);
                continue;
            }
            let (count, kind) =
                line.trim().split_once(' ').unwrap_or_else(|| panic!("count and kind: {line}"));
            let count = count.parse().unwrap_or_else(|_| panic!("a count: {line}"));
            assert!(!cause.is_empty(), "a kind needs a cause: {line}");
            let before = kinds.insert(kind.to_owned(), (count, cause.clone()));
            assert!(before.is_none(), "listed twice: {kind}");
        }
        Listed { kinds }
    }

    /// What is worse than the list says, or no longer true. `is_part` if not all data sets were replayed.
    pub fn complaints(&self, found: &BTreeMap<String, usize>, is_part: bool) -> String {
        let mut complaints = String::new();
        for (kind, count) in found {
            let listed = self.kinds.get(kind).map_or(0, |(count, _)| *count);
            if *count > listed {
                _ = writeln!(complaints, "{count} instead of {listed}: {kind}");
            }
        }
        let gone = self.kinds.keys().filter(|kind| !is_part && !found.contains_key(*kind));
        for kind in gone {
            _ = writeln!(complaints, "no longer occurs, so it must leave the list: {kind}");
        }
        complaints
    }

    /// All listed disagreements.
    pub fn sum(&self) -> usize {
        self.kinds.values().map(|(count, _)| count).sum()
    }

    /// The list with these counts. Causes stay; new kinds have none yet.
    pub fn with(&self, found: &BTreeMap<String, usize>) -> String {
        let mut groups: BTreeMap<&str, Vec<(&str, usize)>> = BTreeMap::new();
        for (kind, count) in found {
            let cause = self.kinds.get(kind).map_or(UNKNOWN, |(_, cause)| cause);
            groups.entry(cause).or_default().push((kind, *count));
        }
        let mut text = String::from(
            "# Where recorded answers and ours disagree, by kind, and why. See kinds.rs for the form. ENGRAMDB_BLESS=1 writes the\n\
             # counts, removes kinds that no longer occur, and puts new ones into a group of those without a cause.\n",
        );
        for (cause, kinds) in groups {
            _ = writeln!(text, "\n= {cause}");
            for (kind, count) in kinds {
                _ = writeln!(text, "{count} {kind}");
            }
        }
        text
    }
}

#[test]
fn a_list_gets_only_shorter() {
    let listed = Listed::parse("# x\n= Not there yet.\n3 a b\n\n= Ours is right.\n1 c\n");
    let found = |kinds: &[(&str, usize)]| kinds.iter().map(|(kind, n)| ((*kind).to_owned(), *n)).collect();
    assert_eq!(listed.sum(), 4);
    assert_eq!(listed.complaints(&found(&[("a b", 3), ("c", 1)]), false), "");
    assert_eq!(listed.complaints(&found(&[("a b", 2)]), true), "");
    assert_eq!(listed.complaints(&found(&[("a b", 4), ("c", 1)]), false), "4 instead of 3: a b\n");
    assert_eq!(
        listed.complaints(&found(&[("a b", 1), ("d", 1)]), false),
        "1 instead of 0: d\nno longer occurs, so it must leave the list: c\n"
    );
    let blessed = listed.with(&found(&[("a b", 2), ("d", 1)]));
    assert!(blessed.ends_with("\n= Not taken apart yet.\n1 d\n\n= Not there yet.\n2 a b\n"), "{blessed}");
    assert_eq!(Listed::parse(&blessed).with(&found(&[("a b", 2), ("d", 1)])), blessed);
}

#[test]
fn the_kind_of_a_refusal_has_no_names_and_numbers() {
    let kind = |text: &str| of_error(&Value::Error(text.as_bytes().to_vec()));
    assert_eq!(kind("ERR unknown command 'ft.x', with args beginning with: 'a'"), "unknown command FT.X");
    assert_eq!(kind("Syntax error at offset 12 near x"), "Syntax error at offset #");
    assert_eq!(kind("No such field `a1` in 7"), "No such field `` in #");
}
