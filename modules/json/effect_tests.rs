//! Effects of released versions stay readable: `tests/formats/json` has payloads, and the texts of the
//! document after each.

use super::*;
use crate::document::JsonDocument;
use crate::text::{self, Layout};
use engramdb_engine::keyspace::TypedValue;

const VERSION_1: &str = include_str!("../../tests/formats/json/v1.txt");

fn bytes_of(digits: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("two hexadecimal digits");
    (0..digits.len()).step_by(2).map(digit).collect()
}

/// A line is a kind, the payload and the document's text.
#[test]
fn effects_of_version_1_stay_readable() {
    let mut document = JsonDocument::default();
    let mut kinds = 0;
    for line in VERSION_1.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_else(|| panic!("kind, payload, text: {line}"));
        let (kind, payload, wanted): (u8, _, _) = (part().parse().expect("a kind"), bytes_of(part()), part());
        let effect = Effect::Module { module: 2, version: 1, kind, key: Some(b"key"), payload: &payload };
        document.apply(&effect, None).unwrap_or_else(|| panic!("it is refused: {line}"));
        let mut written = Vec::new();
        text::write(document.value(), Layout::default(), 0, &mut written);
        assert_eq!(String::from_utf8_lossy(&written), wanted, "{line}");
        kinds |= 1 << kind;
    }
    assert_eq!(kinds, 0b1_1111_1110, "each kind has an example");
    assert_eq!(document.digest(), 12_162_572_140_895_814_422, "digests are part of the format of snapshots");
}

#[test]
fn what_does_not_fit_is_refused() {
    let document = bytes_of("d20602816101816202");
    for (kind, payload) in [
        (SET, "05"),
        (SET, "050101"),
        (SET, "0502026103"),
        (SET, "c8000080ff00"),
        (REMOVE, "00"),
        (REMOVE, "01027a"),
        (REPLACE, "010261"),
        (INSERT, "0105010261"),
        (INSERT, "010501026100"),
        (TRIM, "0102610001"),
        (APPEND, "8178010261"),
        (APPEND, "05010261"),
        (FILL, "000105"),
        (FILL, "0002816305"),
        (MERGE, "d2000002027a0261"),
        (9, "00"),
        (0, "0500"),
    ] {
        let mut root = Some(Root::of(&document[..]));
        assert_eq!(apply(&mut root, kind, &bytes_of(payload)), None, "{kind} {payload}");
        assert_eq!(apply(&mut None, kind, &bytes_of(payload)), None, "{kind} {payload}");
    }
}

/// A payload of one place, behind which its value is where the kind has it there.
fn one(kind: u8, steps: &[LocationStep<'_>]) -> Vec<u8> {
    // The integer 7.
    let value: &[u8] = &[7];
    let mut place = Vec::new();
    location::put(&mut place, steps);
    match kind {
        SET | MERGE => [value, &place].concat(),
        // A text of one byte.
        APPEND => [&[0x81, b'x'], &place[..]].concat(),
        REPLACE => [&place, value].concat(),
        INSERT => [&[1], value, &place, &[0]].concat(),
        TRIM => [&place[..], &[0, 1]].concat(),
        _ => place,
    }
}

#[test]
fn a_change_concerns_the_paths_that_go_through_its_place() {
    let name = |name: &'static str| LocationStep::Name(name.as_bytes());
    let (a, b, x) = (name("a"), name("b"), name("x"));
    for kind in [SET, REMOVE, REPLACE, INSERT, TRIM, APPEND, MERGE] {
        let concerns =
            |steps: &[LocationStep<'_>], path: &str| concerns(kind, &one(kind, steps), path.as_bytes());
        for (steps, path) in [
            (&[][..], "$.a"),
            (&[a], "$.a"),
            (&[a], "$.a.b"),
            (&[a, b], "$.a"),
            (&[a, b, x], "$.a.b"),
            // Names alone do not decide these.
            (&[a, LocationStep::Index(3)], "$.a.b"),
            (&[x], "$"),
            (&[x], "$..a"),
            (&[x], "$.*"),
            (&[x], "$.a[*]"),
            (&[x], "$['a']"),
            (&[x], "$.a-b"),
            (&[x], "$.é"),
            (&[x], "a"),
            (&[x], "$.a..b"),
        ] {
            assert!(concerns(steps, path), "{kind} {steps:?} {path}");
        }
        for (steps, path) in
            [(&[x][..], "$.a"), (&[a, x], "$.a.b"), (&[x, b], "$.a.b"), (&[a, x, b], "$.a.b")]
        {
            assert!(!concerns(steps, path), "{kind} {steps:?} {path}");
        }
    }
    // Of several places one suffices.
    let two = [one(REMOVE, &[x]), one(REMOVE, &[a])].concat();
    assert!(concerns(REMOVE, &two, b"$.a") && !concerns(REMOVE, &two, b"$.b"));
    assert!(concerns(FILL, &[0, 1, 7], b"$.b"), "a document that is built");
}
