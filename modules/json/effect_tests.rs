//! Effects of released versions stay readable: `tests/formats/json` has payloads, and the texts of the
//! document after each.

use super::*;
use crate::document::JsonDocument;
use crate::path::concerns;
use crate::text::{self, Layout};
use engramdb_engine::keyspace::TypedValue;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

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
        document.apply(&effect, EffectOrigin::Stored).unwrap_or_else(|| panic!("it is refused: {line}"));
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
        assert_eq!(
            apply(&mut root, kind, &bytes_of(payload), EffectOrigin::Stored),
            None,
            "{kind} {payload}"
        );
        assert_eq!(
            apply(&mut None, kind, &bytes_of(payload), EffectOrigin::Stored),
            None,
            "{kind} {payload}"
        );
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
        for removed in [None, Some(1)] {
            let concerns = |steps: &[LocationStep<'_>], path: &str| {
                concerns(kind, &one(kind, steps), removed, path.as_bytes())
            };
            for (steps, path) in [
                (&[a][..], "$.a"),
                (&[a, b], "$.a"),
                (&[a, b, x], "$.a.b"),
                (&[x], "$"),
                (&[x], "$.*"),
                (&[x], "$..[?(@.b>1)]"),
                (&[x], "a"),
            ] {
                assert!(concerns(steps, path), "{kind} {steps:?} {path}");
            }
            let apart: [(&[LocationStep<'_>], &str); 8] = [
                (&[x], "$.a"),
                (&[a, x], "$.a.b"),
                (&[x, b], "$.a.b"),
                (&[a, x, b], "$.a.b"),
                (&[x], "$.a[*]"),
                (&[x], "$['a']"),
                (&[x], "$.a..b"),
                (&[a, LocationStep::Index(3)], "$.a.b"),
            ];
            for (steps, path) in apart {
                assert!(!concerns(steps, path), "{kind} {steps:?} {path}");
            }
        }
        // What was there decides whether something is looked for in it.
        let is_below = |removed| concerns(kind, &one(kind, &[a]), removed, b"$.a.b");
        let (before, with_items, without) = (is_below(None), is_below(Some(1)), is_below(Some(0)));
        let expected = match kind {
            SET | REMOVE => (true, true, false),
            REPLACE => (false, true, false),
            TRIM | MERGE => (true, true, true),
            _ => (false, false, false),
        };
        assert_eq!((before, with_items, without), expected, "{kind}");
    }
    // Of several places one suffices.
    let two = [one(REMOVE, &[x]), one(REMOVE, &[a])].concat();
    assert!(concerns(REMOVE, &two, Some(0), b"$.a") && !concerns(REMOVE, &two, Some(0), b"$.b"));
    let many: Vec<u8> = (0..300).flat_map(|_| one(REMOVE, &[x])).collect();
    assert!(concerns(REMOVE, &many, Some(0), b"$.a"), "too many to look at each");
    assert!(concerns(FILL, &[0, 1, 7], Some(0), b"$.b"), "a document that is built");
}

#[test]
fn a_patch_of_objects_concerns_the_paths_of_its_values() {
    let mut patch = Vec::new();
    text::parse(r#"{"a":{"b":1,"n":null},"list":[1]}"#, &mut patch).expect("JSON");
    patch.push(0);
    let concerns = |path: &str| concerns(MERGE, &patch, Some(1), path.as_bytes());
    for path in ["$", "$.a", "$.a.b", "$.a.n", "$.a.b.c", "$.list", "$.list[0]", "$..x", "$.*"] {
        assert!(concerns(path), "{path}");
    }
    for path in ["$.x", "$.a.x", "$.vector"] {
        assert!(!concerns(path), "{path}");
    }
}

/// Whether a path leads to the same values after random changes wherever these do not concern it.
#[test]
fn what_does_not_concern_a_path_leaves_its_values_as_they_are() {
    const PATHS: [&str; 16] = [
        "$.a",
        "$.b",
        "$.a.b",
        "$.a[*]",
        "$.a[*].b",
        "$.a[1]",
        "$.a[-1].b",
        "$.a[0:2].a",
        "$..b",
        "$..a[0]",
        "$.*",
        "$.a..b",
        "$['a','b'].c",
        "$..c.b",
        "$.b[*][0]",
        "$.c",
    ];
    let values = |root: &Root, path: &str| {
        let query = crate::path::JsonPath::parse(path).expect("a path");
        let mut values = Vec::new();
        let budget = &mut crate::path::WalkBudget::new(usize::MAX);
        let mut each = |node: JsonNode<'_>| {
            text::write(node, Layout::default(), 0, &mut values);
            values.push(b' ');
        };
        crate::path::select(&query, root.value(), budget, &mut each).expect("it has no limit");
        values
    };
    let mut untouched = 0;
    for seed in 0..400 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut document = random_value(rng, 0);
        if seed % 2 == 0 {
            // Blocks, in which what is removed is looked up.
            document.insert("large".to_owned(), serde_json::json!(vec!["x".repeat(500); 60]));
        }
        let mut packed = Vec::new();
        text::parse(&serde_json::Value::Object(document).to_string(), &mut packed).expect("JSON");
        let mut root = Some(Root::of(&packed));
        for _ in 0..60 {
            let before = root.clone().expect("it is there");
            let (kind, payload) = random_change(rng, &before);
            let early: Vec<bool> =
                PATHS.iter().map(|path| concerns(kind, &payload, None, path.as_bytes())).collect();
            let Some(removed) = apply(&mut root, kind, &payload, EffectOrigin::Stored) else {
                root = Some(before);
                continue;
            };
            let after = root.as_ref().expect("it is there");
            for (path, early) in PATHS.iter().zip(early) {
                let late = concerns(kind, &payload, Some(removed), path.as_bytes());
                assert!(early || !late, "what is known before is less: {seed} {kind} {path}");
                if !late {
                    untouched += 1;
                    assert_eq!(
                        values(&before, path),
                        values(after, path),
                        "{seed} {kind} {path} {payload:?}"
                    );
                }
            }
        }
    }
    assert!(untouched > 10_000, "{untouched}");
}

fn random_value(rng: &mut StdRng, depth: usize) -> serde_json::Map<String, serde_json::Value> {
    let members = rng.random_range(0..5);
    (0..members)
        .map(|_| (["a", "b", "c", "d"][rng.random_range(0..4)].to_owned(), random_item(rng, depth)))
        .collect()
}

fn random_item(rng: &mut StdRng, depth: usize) -> serde_json::Value {
    match rng.random_range(0..if depth > 3 { 2 } else { 6 }) {
        0 => serde_json::json!(rng.random_range(0..9)),
        1 => serde_json::json!("text"),
        2 | 3 => {
            let length = rng.random_range(0..4);
            (0..length).map(|_| random_item(rng, depth + 1)).collect::<Vec<_>>().into()
        }
        _ => serde_json::Value::Object(random_value(rng, depth + 1)),
    }
}

/// A change at some place of the document; it may not fit.
fn random_change(rng: &mut StdRng, root: &Root) -> (u8, Vec<u8>) {
    let mut steps = Steps::new();
    let mut node = root.value();
    while let Some(items) = node.items().filter(|items| items.len() > 0 && rng.random_range(0..5) > 0) {
        let index = rng.random_range(0..items.len());
        let (name, item) = items.clone().nth(index).expect("it has so many");
        steps.push(match node.is_object() {
            Some(true) => LocationStep::Name(name),
            _ => LocationStep::Index(index),
        });
        node = item;
    }
    let kind = [SET, SET, REMOVE, REMOVE, REPLACE, INSERT, TRIM, APPEND, MERGE][rng.random_range(0..9)];
    if kind == SET && rng.random_range(0..2) == 0 && node.is_object() == Some(true) {
        steps.push(LocationStep::Name(b"b"));
    }
    let mut value = Vec::new();
    match kind {
        // As JSON.CLEAR and JSON.NUMINCRBY do.
        REPLACE if node.is_object() == Some(true) => text::parse("{}", &mut value),
        REPLACE if node.is_array() => text::parse("[]", &mut value),
        REPLACE => text::parse("7", &mut value),
        MERGE => text::parse(&serde_json::Value::Object(random_value(rng, 2)).to_string(), &mut value),
        APPEND => text::parse("\"x\"", &mut value),
        _ => text::parse(&random_item(rng, 2).to_string(), &mut value),
    }
    .expect("JSON");
    let mut place = Vec::new();
    location::put(&mut place, &steps);
    let payload = match kind {
        SET | MERGE | APPEND => [value, place].concat(),
        REPLACE => [place, value].concat(),
        INSERT => [vec![1], value, place, vec![rng.random_range(0..3)]].concat(),
        TRIM => [place, vec![0, rng.random_range(0..3)]].concat(),
        _ => place,
    };
    (kind, payload)
}
