//! Random changes beside a simple model.

use super::*;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug)]
enum Change {
    Set(u16, i16),
    Remove(u16),
    RemoveRange(usize, usize),
}

/// The generator of Marsaglia (2003), with shifts 13, 7 and 17.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn change(&mut self) -> Change {
        let member = self.below(900) as u16;
        match self.below(10) {
            0..6 => Change::Set(member, self.below(420) as i16 - 20),
            6..9 => Change::Remove(member),
            _ => Change::RemoveRange(self.below(1 << 40) as usize, self.below(40) as usize),
        }
    }
}

/// Some members are too long for a packed set.
fn name(member: u16) -> Vec<u8> {
    let length = if member.is_multiple_of(97) { 80 } else { usize::from(member % 40) };
    format!("{member}{}", "x".repeat(length)).into_bytes()
}

fn score_of(score: i16) -> f64 {
    match score {
        -20 => f64::NEG_INFINITY,
        399 => f64::INFINITY,
        odd if odd % 3 == 0 => f64::from(odd) / 7.0,
        score => f64::from(score) * 1.25,
    }
}

fn check(set: &SortedSet, model: &BTreeMap<Vec<u8>, f64>) {
    let mut sorted: Vec<(f64, &[u8])> = model.iter().map(|(member, &score)| (score, &member[..])).collect();
    sorted.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(other.1)));
    assert_eq!(set.len(), sorted.len());
    assert!(set.read().iter().map(|entry| (entry.score, entry.member)).eq(sorted.iter().copied()));
    assert!(
        set.read().iter().rev().map(|entry| entry.member).eq(sorted.iter().rev().map(|(_, member)| *member))
    );
    for (rank, (score, member)) in sorted.iter().enumerate().step_by(7) {
        assert_eq!(set.read().rank(member), Some((rank, *score)));
        assert_eq!(set.read().score(member), Some(*score));
        assert_eq!(
            set.read().count_scores(|other| other < *score),
            sorted.partition_point(|(s, _)| s < score)
        );
        let some = set.read().range(rank..rank + 5).map(|entry| entry.member);
        assert!(some.eq(sorted[rank..].iter().take(5).map(|(_, member)| *member)));
    }
    let (mut cursor, mut seen) = (0, 0);
    loop {
        cursor = set.read().scan(cursor, 10, &mut |entry| {
            assert_eq!(model.get(entry.member), Some(&entry.score));
            seen += 1;
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen, model.len());
}

fn apply(set: &mut SortedSet, model: &mut BTreeMap<Vec<u8>, f64>, change: Change) {
    match change {
        Change::Set(member, score) => {
            let (member, score) = (name(member), score_of(score));
            let wanted = match model.insert(member.clone(), score) {
                None => ScoreChange::Added,
                Some(old) if old == score => ScoreChange::None,
                Some(_) => ScoreChange::Updated,
            };
            assert_eq!(set.set(&member, score), wanted);
        }
        Change::Remove(member) => {
            assert_eq!(set.remove(&name(member)), model.remove(&name(member)).is_some());
        }
        Change::RemoveRange(start, count) => {
            let start = start % (set.len() + 1);
            let end = set.len().min(start + count);
            let gone: Vec<Vec<u8>> =
                set.read().range(start..end).map(|entry| entry.member.to_vec()).collect();
            gone.iter().for_each(|member| assert!(model.remove(member).is_some()));
            set.remove_range(start..end);
        }
    }
}

#[test]
fn a_set_is_what_the_model_is() {
    for seed in 1..=24 {
        let (mut set, mut model) = (SortedSet::new(), BTreeMap::new());
        let mut numbers = Numbers(seed);
        for at in 0..2500 {
            apply(&mut set, &mut model, numbers.change());
            if at % 250 == 0 {
                check(&set, &model);
            }
        }
        check(&set, &model);
        check(&set.clone(), &model);
    }
}

#[test]
fn a_large_set_grows_in_any_order_and_shrinks_to_nothing() {
    const MEMBERS: u32 = 20_000;
    let orders: [fn(u32) -> f64; 4] = [
        f64::from,
        |at| -f64::from(at),
        |at| f64::from(at.wrapping_mul(2_654_435_761) >> 7),
        |at| f64::from(at % 3),
    ];
    for order in orders {
        let (mut set, mut model) = (SortedSet::new(), BTreeMap::new());
        for at in 0..MEMBERS {
            let member = format!("member:{at}").into_bytes();
            set.set(&member, order(at));
            model.insert(member, order(at));
        }
        check(&set, &model);
        let full_bytes = set.heap_bytes();
        set.remove_range(100..10_000);
        assert_eq!(set.len(), MEMBERS as usize - 9900);
        let rest: Vec<Vec<u8>> = set.read().iter().map(|entry| entry.member.to_vec()).collect();
        model.retain(|member, _| set.read().score(member).is_some());
        check(&set, &model);
        for member in &rest[..9000] {
            assert!(set.remove(member));
            model.remove(member);
        }
        check(&set, &model);
        assert!(set.heap_bytes() < full_bytes / 2, "{} of {full_bytes}", set.heap_bytes());
        set.remove_range(0..set.len());
        assert!(set.is_empty() && set.heap_bytes() < 100);
    }
}

#[test]
fn a_packed_score_is_read_back_as_it_was() {
    for score in [
        0.0,
        -1.0,
        -16.0,
        -17.0,
        223.0,
        224.0,
        32767.0,
        -32769.0,
        2147483647.0,
        2147483648.0,
        0.1,
        3.5,
        -0.0001,
        0.00001,
        12345.6789,
        214748.3647,
        1e17,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        let mut set = SortedSet::new();
        set.set(b"m", score);
        assert_eq!(set.read().score(b"m"), Some(score));
    }
}
