//! Fuzzing on stable Rust: a seeded mutator and the loop around it.
//!
//! A fuzz target is a function over bytes that panics when an invariant is violated. [`run`] calls it with
//! mutations of a corpus: a fixed number of cases in normal test runs, and cases for [`LONG_DURATION`] in
//! long mode ([`is_long_mode`]). There is no coverage feedback; a corpus that reaches every part of the
//! format, and a dictionary of its tokens, replace it.
//!
//! Each case depends only on the seed and its own number, so a failure can be replayed alone: [`run`] prints
//! both, and the input, before the panic continues. Normal runs always use the same seed; long mode uses a
//! random one, or `ENGRAMDB_FUZZ_SEED`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// If set to 1, tests run for minutes instead of seconds.
pub const LONG_MODE_VARIABLE: &str = "ENGRAMDB_TEST_LONG";

/// The seed of a long run, for repeating it.
pub const SEED_VARIABLE: &str = "ENGRAMDB_FUZZ_SEED";

/// How long a target runs in long mode.
pub const LONG_DURATION: Duration = Duration::from_secs(60);

/// How many cases a target runs otherwise.
pub const SHORT_CASES: u64 = 10_000;

/// Mutations do not make an input longer than this, in bytes, unless its corpus entry was.
const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Whether tests may take minutes.
pub fn is_long_mode() -> bool {
    std::env::var(LONG_MODE_VARIABLE).is_ok_and(|value| value == "1")
}

/// Runs `target` on the corpus itself and then on mutations of it. `name` identifies the target in a failure
/// report.
pub fn run(name: &str, corpus: &[Vec<u8>], dictionary: &[&[u8]], target: impl Fn(&[u8])) {
    assert!(!corpus.is_empty(), "a mutator needs something to mutate");
    for input in corpus {
        attempt(name, "in the corpus", input, &target);
    }
    let long = is_long_mode();
    let seed = if long { long_seed() } else { 1 };
    let mutator = Mutator { corpus, dictionary, seed };
    #[expect(
        clippy::disallowed_methods,
        reason = "the duration of fuzzing is the test's own time, not the engine's"
    )]
    let started = Instant::now();
    let mut case = 0;
    while if long { started.elapsed() < LONG_DURATION } else { case < SHORT_CASES } {
        attempt(name, &format!("{SEED_VARIABLE}={seed}, case {case}"), &mutator.input(case), &target);
        case += 1;
    }
    println!("{name}: {case} cases of seed {seed}");
}

#[expect(clippy::disallowed_methods, reason = "the choice of cases belongs to the test, not to the engine")]
fn long_seed() -> u64 {
    match std::env::var(SEED_VARIABLE) {
        Ok(seed) => seed.parse().expect("the fuzz seed is a number"),
        Err(_) => rand::rng().random(),
    }
}

fn attempt(name: &str, case: &str, input: &[u8], target: impl Fn(&[u8])) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        println!("{name} fails: {case}, input b\"{}\"", input.escape_ascii());
        resume_unwind(panic);
    }
}

/// Generates inputs by number.
pub struct Mutator<'c> {
    /// Well-formed inputs, and malformed ones of interest.
    pub corpus: &'c [Vec<u8>],
    /// Tokens of the format: delimiters, keywords, numbers at its limits.
    pub dictionary: &'c [&'c [u8]],
    pub seed: u64,
}

impl Mutator<'_> {
    /// The input of a case: an entry of the corpus after one to eight mutations.
    pub fn input(&self, case: u64) -> Vec<u8> {
        // An odd factor, so that no two cases of a seed share a generator.
        let mut random = SmallRng::seed_from_u64(self.seed ^ case.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut input = self.pick(&mut random).to_vec();
        for _ in 0..random.random_range(1..=8) {
            self.mutate(&mut input, &mut random);
        }
        input
    }

    fn pick(&self, random: &mut SmallRng) -> &[u8] {
        self.corpus.choose(random).expect("the corpus is not empty")
    }

    fn mutate(&self, input: &mut Vec<u8>, random: &mut SmallRng) {
        let range = some_range(input.len(), random);
        match random.random_range(0..10) {
            0 => flip_bit(input, random),
            1 => fill(&mut input[range], random),
            2 => drop(input.drain(range)),
            3 => input.truncate(range.end),
            4 => {
                let part = input[range.clone()].to_vec();
                insert(input, range.start, &part);
            }
            5 => replace_number(input, random),
            6 | 7 => {
                let token = self.dictionary.choose(random).copied().unwrap_or(b"\0");
                insert(input, range.start, token);
            }
            8 => {
                let token = self.dictionary.choose(random).copied().unwrap_or(b"\xff");
                let end = input.len().min(range.start + token.len());
                input.splice(range.start..end, token.iter().copied());
            }
            _ => {
                let other = self.pick(random);
                let part = &other[some_range(other.len(), random)];
                insert(input, range.start, part);
            }
        }
    }
}

/// A range of a list: mostly short, sometimes everything.
fn some_range(length: usize, random: &mut SmallRng) -> std::ops::Range<usize> {
    let start = random.random_range(0..=length);
    let longest = if random.random_ratio(1, 4) { length - start } else { (length - start).min(8) };
    start..start + random.random_range(0..=longest)
}

fn insert(input: &mut Vec<u8>, at: usize, part: &[u8]) {
    if input.len() + part.len() <= INPUT_BYTES_MAX {
        input.splice(at..at, part.iter().copied());
    }
}

fn flip_bit(input: &mut [u8], random: &mut SmallRng) {
    if !input.is_empty() {
        input[random.random_range(0..input.len())] ^= 1 << random.random_range(0..8);
    }
}

fn fill(part: &mut [u8], random: &mut SmallRng) {
    match random.random_range(0..3) {
        0 => part.fill(0),
        1 => part.fill(0xff),
        _ => random.fill(part),
    }
}

/// Replaces a decimal number by another: parsers are most fragile at lengths and counts.
fn replace_number(input: &mut Vec<u8>, random: &mut SmallRng) {
    const NUMBERS: [&str; 12] = [
        "0",
        "-1",
        "1",
        "2",
        "7",
        "255",
        "65536",
        "2147483648",
        "4294967295",
        "9223372036854775807",
        "18446744073709551615",
        "00",
    ];
    let from = random.random_range(0..=input.len());
    let Some(start) = (from..input.len()).find(|&at| input[at].is_ascii_digit()) else {
        return;
    };
    let length = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = NUMBERS.choose(random).expect("there are numbers");
    input.splice(start..start + length, number.bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_depends_on_seed_and_number_only() {
        let corpus = [b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".to_vec()];
        let mutator = |seed| Mutator { corpus: &corpus, dictionary: &[b"\r\n", b"$"], seed };
        let inputs = |seed| (0..100).map(|case| mutator(seed).input(case)).collect::<Vec<_>>();
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
        let mut distinct = inputs(1);
        distinct.sort();
        distinct.dedup();
        assert!(distinct.len() > 80, "{} different inputs of 100", distinct.len());
    }

    #[test]
    fn inputs_stay_bounded() {
        let corpus = [vec![b'1'; INPUT_BYTES_MAX]];
        let mutator = Mutator { corpus: &corpus, dictionary: &[b"token"], seed: 3 };
        // A replaced number or token may add its few bytes.
        assert!((0..500).all(|case| mutator.input(case).len() < INPUT_BYTES_MAX + 8 * 20));
    }

    #[test]
    fn a_failing_target_fails_the_run() {
        let corpus = [b"abcdefgh".to_vec()];
        let failed = catch_unwind(|| run("example", &corpus, &[], |input| assert!(input.len() == 8)));
        assert!(failed.is_err());
    }
}
