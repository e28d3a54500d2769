use super::*;
use crate::effect::{Cause, Effect, List};
use crate::types::House;
use std::sync::Arc;

fn apply(keyspace: &mut Keyspace, effect: Effect<'_>) -> EffectOutcome {
    keyspace.apply(&Record { database: 0, effect })
}

fn set(keyspace: &mut Keyspace, key: &[u8], expires_at_ms: u64) {
    apply(keyspace, Effect::StringSet { key, value: b"v", expires_at_ms });
}

/// What keys and values take. Tables keep room for some keys.
fn value_bytes(keyspace: &Keyspace) -> usize {
    keyspace.heap_bytes() - keyspace.table_bytes()
}

#[test]
fn memory_returns_to_where_it_was() {
    let mut keyspace = Keyspace::new(1);
    let empty = value_bytes(&keyspace);
    let long = [b'x'; 1000];
    apply(&mut keyspace, Effect::StringSet { key: &long, value: &long, expires_at_ms: 5 });
    let fields: &[&[u8]] = &[&long, &long, b"a", b"b"];
    apply(&mut keyspace, Effect::HashSet { key: b"h", fields: List::Arguments(fields), keep_expiry: false });
    assert!(value_bytes(&keyspace) > empty + 4000);
    apply(&mut keyspace, Effect::Rename { key: &long, to: b"other" });
    apply(&mut keyspace, Effect::Delete { key: b"other", cause: Cause::Command });
    let names = List::Arguments(&[b"a", &long]);
    let outcome =
        apply(&mut keyspace, Effect::HashDelete { key: b"h", fields: names, cause: Cause::Command });
    assert_eq!(outcome.count, 2);
    assert!(keyspace.entry(0, b"h").is_none(), "an empty hash does not exist");
    assert_eq!(value_bytes(&keyspace), empty);
    assert_eq!(keyspace.databases()[0].expiring(), 0);
}

/// A house with one content at every place.
struct Same(Vec<u8>);

impl House for Same {
    fn content(&self, _: u32) -> &[u8] {
        &self.0
    }
    fn release(&self, _: u32) {}
}

#[test]
fn memory_of_housed_contents_is_counted_with_the_house_and_their_copies_here() {
    let mut keyspace = Keyspace::new(1);
    let empty = value_bytes(&keyspace);
    let long = [b'x'; 1000];
    let set = |keyspace: &mut Keyspace, fields: &[&[u8]]| {
        let fields = List::Arguments(fields);
        apply(keyspace, Effect::HashSet { key: b"h", fields, keep_expiry: false });
    };
    set(&mut keyspace, &[b"v", &long]);
    let before = value_bytes(&keyspace);
    let house = Arc::new(Same(long.to_vec()));
    Housing::of(&mut keyspace).house(0, b"h", b"v", Housed::new(house.clone(), 7));
    assert_eq!(value_bytes(&keyspace), before - 1000);
    apply(&mut keyspace, Effect::Copy { key: b"h", to: b"copy", to_database: 0 });
    let of = |key| keyspace.entry(0, key).expect("it is there").value();
    assert_eq!(of(b"copy"), of(b"h"));
    assert_eq!((of(b"h").housed_bytes(), of(b"copy").housed_bytes()), (1000, 0));
    let bytes = |key| keyspace.entry(0, key).expect("it is there").heap_bytes();
    assert_eq!(bytes(b"copy"), bytes(b"h") + 1000);
    Housing::of(&mut keyspace).unhouse(0, b"h", b"v");
    assert_eq!(keyspace.entry(0, b"h").expect("it is there").value().housed_bytes(), 0);
    assert_eq!(value_bytes(&keyspace), 2 * before - empty);
    set(&mut keyspace, &[b"v", b"short"]);
    for key in [&b"h"[..], b"copy"] {
        apply(&mut keyspace, Effect::Delete { key, cause: Cause::Command });
    }
    assert_eq!(value_bytes(&keyspace), empty);
}

/// A place of the expiry index names all keys whose hashes are equal in the bits that tables keep, so a step
/// can take one more than its limit. The next database then has no limit left.
#[test]
fn keys_with_equal_hashes_are_taken_together_without_harm_to_the_limit() {
    const KEYS: usize = 400_000;
    let mut keyspace = Keyspace::new(2);
    (0..KEYS).for_each(|number| set(&mut keyspace, &number.to_le_bytes(), 10_000));
    let (mut taken, mut most) = (0, 0);
    while taken < KEYS {
        let due = keyspace.take_due(20_000, 1);
        assert!(!due.is_empty());
        (taken, most) = (taken + due.len(), most.max(due.len()));
    }
    // About twenty pairs of these keys have equal hashes.
    assert_eq!((taken, most), (KEYS, 2));
}

#[test]
fn an_expiry_that_is_extended_over_and_over_keeps_one_place() {
    let mut keyspace = Keyspace::new(1);
    for step in 0..1000 {
        set(&mut keyspace, b"k", 10_000 + step * 1_000);
    }
    assert!(keyspace.take_due(9_000, 100).is_empty());
    assert!(keyspace.take_due(11_000, 100).is_empty(), "still has time: queued again");
    assert_eq!(keyspace.take_due(2_000_000, 100), vec![(0, b"k".to_vec())]);
    assert!(keyspace.take_due(2_000_000, 100).is_empty(), "taken once");
}

#[test]
fn shortening_an_expiry_and_field_expiries_are_found_in_time() {
    let mut keyspace = Keyspace::new(1);
    set(&mut keyspace, b"k", 100_000);
    apply(&mut keyspace, Effect::Expire { key: b"k", expires_at_ms: 5_000 });
    let fields = List::Arguments(&[b"f", b"v", b"g", b"v"]);
    apply(&mut keyspace, Effect::HashSet { key: b"h", fields, keep_expiry: false });
    let fields = List::Arguments(&[b"g"]);
    apply(&mut keyspace, Effect::HashExpire { key: b"h", fields, expires_at_ms: 6_000 });
    assert_eq!(keyspace.take_due(6_000, 100), vec![(0, b"k".to_vec())]);
    assert_eq!(keyspace.take_due(7_000, 100), vec![(0, b"h".to_vec())]);
}

#[test]
fn expiries_of_any_age_come_due_once_and_not_before_their_time() {
    const YEAR_MS: u64 = 366 * 86_400_000;
    for now_ms in [50, 101, 102, 103, 137, 1_000, 40_000, 500_000_000].map(|years| years * YEAR_MS) {
        let mut keyspace = Keyspace::new(1);
        set(&mut keyspace, b"past", now_ms - 2_000_000);
        set(&mut keyspace, b"soon", now_ms + 2_000_000);
        assert!(keyspace.take_due(now_ms - 2_000_001, 100).is_empty(), "{now_ms}");
        let due = keyspace.take_due(now_ms, 100);
        // What is that far away may stay in memory; reads take it for absent all the same.
        assert!(due == [(0, b"past".to_vec())] || now_ms > 30_000 * YEAR_MS && due.is_empty(), "{now_ms}");
        let due = keyspace.take_due(now_ms + 4_000_000, 100);
        assert!(due == [(0, b"soon".to_vec())] || now_ms > 30_000 * YEAR_MS && due.is_empty(), "{now_ms}");
    }
}

#[test]
fn an_effect_that_does_not_fit_changes_nothing_and_says_so() {
    let mut keyspace = Keyspace::new(1);
    set(&mut keyspace, b"k", 0);
    let fields = List::Arguments(&[b"f", b"v"]);
    assert!(apply(&mut keyspace, Effect::HashSet { key: b"k", fields, keep_expiry: false }).mismatch);
    assert!(apply(&mut keyspace, Effect::Rename { key: b"absent", to: b"k" }).mismatch);
    assert_eq!(keyspace.entry(0, b"k").map(|entry| entry.value().type_name()), Some("string"));
}

#[test]
fn parts_that_were_filled_apart_are_the_whole_once_absorbed() {
    let fill = |keyspace: &mut Keyspace, numbers: std::ops::Range<u32>| {
        for number in numbers {
            let key = format!("key:{number}").into_bytes();
            let expires_at_ms = if number % 3 == 0 { u64::from(number) * 100 } else { 0 };
            set(keyspace, &key, expires_at_ms);
            let name = format!("hash:{number}").into_bytes();
            let fields = List::Arguments(&[b"f", b"v"]);
            let effect = Effect::HashSet { key: &name, fields, keep_expiry: false };
            assert!(!keyspace.apply(&Record { database: number % 2, effect }).mismatch);
        }
    };
    let [mut whole, mut at_once, mut part] = [(); 3].map(|()| Keyspace::new(0));
    fill(&mut at_once, 0..3000);
    fill(&mut whole, 0..1000);
    fill(&mut part, 1000..3000);
    whole.absorb(part).expect("no key is in both");
    for (absorbed, filled) in whole.databases().iter().zip(at_once.databases()) {
        assert_eq!((absorbed.len(), absorbed.expiring()), (filled.len(), filled.expiring()));
        assert!(
            filled.iter().all(|entry| absorbed.get(entry.key()).map(Entry::value) == Some(entry.value()))
        );
    }
    let due = |keyspace: &mut Keyspace| {
        let mut due = keyspace.take_due(200_000, usize::MAX);
        due.sort_unstable();
        due
    };
    assert_eq!(due(&mut whole), due(&mut at_once));
    for number in 0..3000 {
        for name in [format!("key:{number}"), format!("hash:{number}")] {
            for database in [0, 1] {
                let effect = Effect::Delete { key: name.as_bytes(), cause: Cause::Command };
                whole.apply(&Record { database, effect });
            }
        }
    }
    let owned = |keyspace: &Keyspace| {
        keyspace.databases().iter().map(|database| (database.len(), database.expiring())).collect::<Vec<_>>()
    };
    assert_eq!(owned(&whole), [(0, 0), (0, 0)]);

    let mut twice = Keyspace::new(0);
    fill(&mut twice, 5..6);
    assert_eq!(at_once.absorb(twice), Err(b"key:5".to_vec()));
}

/// A value of bytes that are added: the least of a data type.
#[derive(Debug, Default)]
struct Tally(Vec<u8>);

struct Tallies;

impl DataType for Tallies {
    fn name(&self) -> &'static str {
        "tally"
    }
    fn module(&self) -> u8 {
        7
    }
    fn blank(&self) -> Box<dyn TypedValue> {
        Box::<Tally>::default()
    }
}

impl TypedValue for Tally {
    fn data_type(&self) -> &'static dyn DataType {
        &Tallies
    }
    fn encoding(&self, _: &EncodingLimits) -> &'static str {
        "bytes"
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }
    fn apply(&mut self, effect: &Effect<'_>, _: EffectOrigin) -> Option<usize> {
        match *effect {
            Effect::Module { kind: 1, payload, .. } => self.0.extend_from_slice(payload),
            Effect::Module { kind: 2, .. } => self.0.clear(),
            _ => return None,
        }
        Some(1)
    }
    fn save(&self, key: &[u8], cursor: u64, each: &mut EachEffect<'_>) -> std::io::Result<u64> {
        let left = &self.0[cursor as usize..];
        let (now, later) = left.split_at(left.len().min(SAVED_PARTS_MAX));
        each(&tally(key, 1, now))?;
        Ok(if later.is_empty() { 0 } else { cursor + now.len() as u64 })
    }
}

fn tally<'a>(key: &'a [u8], kind: u8, payload: &'a [u8]) -> Effect<'a> {
    Effect::Module { module: 7, version: 1, kind, key: Some(key), payload }
}

#[test]
fn an_object_is_a_value_like_any_other() {
    let mut keyspace = Keyspace::with_types(1, DataTypes::new(vec![&Tallies]));
    let empty = value_bytes(&keyspace);
    let long = [3; 20_000];
    apply(&mut keyspace, tally(b"a", 1, &long));
    assert!(value_bytes(&keyspace) >= empty + 20_000);
    apply(&mut keyspace, Effect::Expire { key: b"a", expires_at_ms: 9 });
    apply(&mut keyspace, Effect::Copy { key: b"a", to: b"b", to_database: 0 });
    apply(&mut keyspace, Effect::Rename { key: b"a", to: b"c" });
    let entry = |key: &[u8]| keyspace.entry(0, key).expect("it is there");
    assert_eq!((entry(b"b").value(), entry(b"b").expires_at_ms()), (entry(b"c").value(), 9));
    assert_eq!(
        (entry(b"c").value().type_name(), entry(b"c").encoding(&EncodingLimits::default())),
        ("tally", "bytes")
    );
    assert_eq!(digest::entry_digest(entry(b"c")), digest::entry_digest(&entry(b"b").copy(b"c")));

    let mut saved = Keyspace::with_types(1, keyspace.types().clone());
    let mut effects = 0;
    let save = keyspace.entry(0, b"c").expect("it is there").save(&mut |effect| {
        effects += 1;
        assert!(!saved.apply(&Record { database: 0, effect: *effect }).mismatch);
        Ok(())
    });
    save.expect("applying needs no disk");
    assert_eq!(effects, 20_000_usize.div_ceil(SAVED_PARTS_MAX) + 1, "runs of bounded length, and the expiry");
    let of = |keyspace: &Keyspace| keyspace.entry(0, b"c").map(digest::entry_digest);
    assert_eq!(of(&saved), of(&keyspace));

    apply(&mut keyspace, tally(b"c", 1, b"x"));
    assert_ne!(of(&saved), of(&keyspace), "a digest tells another content");
    let outcome = apply(&mut keyspace, Effect::Delete { key: b"c", cause: Cause::Command });
    assert!(outcome.garbage.is_large(), "more than 10,000 parts are not dropped under the lock");
    apply(&mut keyspace, tally(b"b", 2, b""));
    assert!(keyspace.entry(0, b"b").is_none(), "an empty value does not exist");
    assert_eq!(value_bytes(&keyspace), empty);
}

#[test]
fn an_effect_on_an_object_fits_its_type_or_changes_nothing() {
    let mut keyspace = Keyspace::with_types(1, DataTypes::new(vec![&Tallies]));
    set(&mut keyspace, b"string", 0);
    apply(&mut keyspace, tally(b"tally", 1, b"x"));
    let fields = List::Arguments(&[b"f", b"v"]);
    let misfits = [
        tally(b"string", 1, b"x"),
        tally(b"tally", 3, b"of a later version"),
        tally(b"absent", 3, b"of a later version"),
        Effect::HashSet { key: b"tally", fields, keep_expiry: false },
        Effect::StringAppend { key: b"tally", suffix: b"x" },
        Effect::Module { module: 8, version: 1, kind: 1, key: Some(b"absent"), payload: b"of no module" },
    ];
    for effect in misfits {
        assert!(apply(&mut keyspace, effect).mismatch, "{effect}");
    }
    assert_eq!(keyspace.databases()[0].len(), 2);
    // As of any value, whatever it was.
    assert_eq!(
        apply(&mut keyspace, Effect::StringSet { key: b"tally", value: b"v", expires_at_ms: 0 }).count,
        1
    );
}

#[test]
#[should_panic(expected = "two data types tally")]
fn a_data_type_is_registered_once() {
    DataTypes::new(vec![&Tallies, &Tallies]);
}
