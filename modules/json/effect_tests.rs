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
