use super::*;
use std::collections::{HashMap, HashSet};

thread_local! {
    static HASHED_KEYS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

pub(crate) fn count_hashed_key() {
    HASHED_KEYS.set(HASHED_KEYS.get() + 1);
}

/// How many keys this thread has hashed.
pub(crate) fn hashed_keys() -> usize {
    HASHED_KEYS.get()
}

struct Item(Vec<u8>);

impl Keyed for Item {
    fn key(&self) -> &[u8] {
        &self.0
    }
}

/// A small generator, so that each case replays from its seed.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

fn insert(table: &mut Table<Item>, number: u64) {
    let key = number.to_string().into_bytes();
    if table.get(hash_bytes(&key), &key).is_none() {
        table.insert_new(hash_bytes(&key), Item(key));
    }
}

fn remove(table: &mut Table<Item>, number: u64) -> bool {
    let key = number.to_string().into_bytes();
    table.remove(hash_bytes(&key), &key).is_some()
}

fn collect_scan(table: &Table<Item>, count: usize) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    let mut cursor = 0;
    loop {
        cursor = table.scan(cursor, count, &mut |item| seen.push(item.0.clone()));
        if cursor == 0 {
            return seen;
        }
    }
}

#[test]
fn behaves_as_a_map_under_growth_and_shrinking() {
    for seed in 0..20 {
        let mut random = Seeded(seed);
        let mut table = Table::new();
        if seed % 2 == 0 {
            // Too much, too little, none.
            table.reserve([20_000, 700, 0][seed as usize % 3]);
        }
        let mut model = HashMap::new();
        for step in 0..20_000 {
            let number = random.next() % 5_000;
            let growing = (step / 5_000) % 2 == 0;
            if (random.next() % 10 < 8) == growing {
                insert(&mut table, number);
                model.insert(number, ());
            } else {
                assert_eq!(remove(&mut table, number), model.remove(&number).is_some());
            }
            assert_eq!(table.len(), model.len());
        }
        let listed: HashSet<Vec<u8>> = table.iter().map(|item| item.0.clone()).collect();
        assert_eq!(listed, model.keys().map(|number| number.to_string().into_bytes()).collect());
        assert_eq!(collect_scan(&table, 10).len(), model.len(), "each item once where nothing changes");
    }
}

#[test]
fn a_scan_returns_all_that_stayed_under_growth_shrinking_and_deletes() {
    for seed in 0..60 {
        let mut random = Seeded(seed);
        let mut table = Table::new();
        let stay: u64 = 1 + random.next() % 3_000;
        (0..stay).for_each(|number| insert(&mut table, number));
        let extra = random.next() % 20_000;
        (0..extra).for_each(|number| insert(&mut table, 1_000_000 + number));
        let mut seen = HashSet::new();
        let mut cursor = 0;
        loop {
            let count = 1 + (random.next() % 200) as usize;
            cursor = table.scan(cursor, count, &mut |item| _ = seen.insert(item.0.clone()));
            if cursor == 0 {
                break;
            }
            let base = 1_000_000 + random.next() % 20_000;
            let delete = random.next().is_multiple_of(2);
            for number in base..base + random.next() % 3_000 {
                if delete {
                    remove(&mut table, number);
                } else {
                    insert(&mut table, number);
                }
            }
        }
        for number in 0..stay {
            assert!(seen.contains(number.to_string().as_bytes()), "seed {seed}: {number} was missed");
        }
    }
}

#[test]
fn a_scan_step_is_bounded_by_count_and_ties() {
    let mut table = Table::new();
    (0..100_000).for_each(|number| insert(&mut table, number));
    let mut cursor = 0;
    loop {
        let mut step = 0;
        cursor = table.scan(cursor, 10, &mut |_| step += 1);
        if cursor == 0 {
            break;
        }
        assert!((10..20).contains(&step), "{step}");
        assert!(cursor < 1 << 32, "a double must hold the cursor");
    }
}

#[test]
fn a_table_that_was_large_once_fills_again_as_one_that_was_not() {
    for left in [0, 100] {
        let mut table = Table::new();
        (0..100_000).for_each(|number| insert(&mut table, number));
        (left..100_000).for_each(|number| assert!(remove(&mut table, number)));
        for number in 100_000..103_000 {
            insert(&mut table, number);
            let largest = table.segments.iter().map(Segment::len).max();
            assert!(largest <= Some(SEGMENT_ITEMS_MAX), "{left}: {largest:?}");
        }
        assert_eq!(table.len() as u64, left + 3_000);
    }
}

#[test]
fn any_cursor_and_any_count_end_a_scan() {
    let mut table = Table::new();
    (0..10_000).for_each(|number| insert(&mut table, number));
    for cursor in [1, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 32, u64::MAX] {
        let mut seen = HashSet::new();
        assert_eq!(table.scan(cursor, usize::MAX, &mut |item| _ = seen.insert(item.0.clone())), 0);
        let behind = |item: &&Item| hash_bytes(&item.0) >> 32 >= cursor;
        assert_eq!(seen.len(), table.iter().filter(behind).count());
    }
}

#[test]
fn hashes_out_of_their_expected_places_are_found() {
    // All in one part of the range: the places that a uniform hash would have are far off.
    for shift in [0, 20, 33, 40] {
        let mut table = Table::new();
        for number in 0..2_000u64 {
            table.insert_new(number << shift, Item(number.to_string().into_bytes()));
        }
        for number in 0..2_000u64 {
            assert!(table.get(number << shift, number.to_string().as_bytes()).is_some(), "{shift} {number}");
            assert!(table.get(number << shift, b"other").is_none());
        }
        assert_eq!(collect_scan(&table, 10).len(), 2_000, "{shift}");
        for number in 0..2_000u64 {
            assert!(table.remove(number << shift, number.to_string().as_bytes()).is_some());
        }
        assert!(table.is_empty() && table.iter().next().is_none());
    }
}

#[test]
fn hashes_that_collide_entirely_still_work() {
    let mut table = Table::new();
    for number in 0..1_000u32 {
        table.insert_new(42, Item(number.to_string().into_bytes()));
    }
    assert_eq!(table.with_hash(42).count(), 1_000);
    assert!(table.get(42, b"999").is_some());
    assert_eq!(collect_scan(&table, 10).len(), 1_000, "ties are returned together");
    assert!(table.sample(7, 7).is_some());
}
