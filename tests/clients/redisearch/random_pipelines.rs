//! Random pipelines of FT.AGGREGATE over random documents, by seed: stages in any order, with any reducers.
//!
//! Left out is what docs/compatibility.md lists or leaves open: errors in rows (a property without a value is
//! an error of the whole command here), so that all documents have all properties; the order of equal rows,
//! so that SORTBY names a unique property where rows are cut; RANDOM_SAMPLE, FIRST_VALUE without BY, and
//! QUANTILE, which is an estimate there.

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

pub const SEEDS: u64 = 8;
const DOCUMENTS: usize = 60;
const PIPELINES: usize = 120;
const STEPS_MAX: usize = 6;

const WORDS: &[&str] = &["red", "Green", "blue", "dark", "light"];

/// All commands of a seed: an index over hashes or JSON, its documents, pipelines.
pub fn commands(seed: u64) -> Vec<Vec<Vec<u8>>> {
    let random = &mut SmallRng::seed_from_u64(seed);
    let is_json = seed % 2 == 1;
    let schema = if is_json {
        "FT.CREATE idx ON JSON PREFIX 1 d: SCHEMA $.u AS u NUMERIC SORTABLE $.n AS n NUMERIC $.m AS m NUMERIC SORTABLE \
         $.c AS c TAG SORTABLE $.t AS t TEXT NOSTEM"
    } else {
        "FT.CREATE idx PREFIX 1 d: SCHEMA u NUMERIC SORTABLE n NUMERIC m NUMERIC SORTABLE c TAG SORTABLE t TEXT NOSTEM"
    };
    let mut commands = vec![schema.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()];
    commands.extend((0..DOCUMENTS).map(|number| document(random, number, is_json)));
    commands.extend((0..PIPELINES).map(|_| Pipeline::new(random).words()));
    commands
}

fn words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn pick<'a>(random: &mut SmallRng, among: &[&'a str]) -> &'a str {
    among.choose(random).expect("there are some")
}

fn document(random: &mut SmallRng, number: usize, is_json: bool) -> Vec<Vec<u8>> {
    let key = format!("d:{number}");
    let u = number.to_string();
    let n = (f64::from(random.random_range(-20..20)) / 2.0).to_string();
    let m = random.random_range(0..5).to_string();
    let c = pick(random, WORDS).to_lowercase();
    let t = format!("{} {}", pick(random, WORDS), pick(random, WORDS)).to_lowercase();
    if is_json {
        let text = format!(r#"{{"u":{u},"n":{n},"m":{m},"c":"{c}","t":"{t}"}}"#);
        return words(&["JSON.SET", &key, "$", &text]);
    }
    words(&["HSET", &key, "u", &u, "n", &n, "m", &m, "c", &c, "t", &t])
}

/// A pipeline, and the properties that its rows have so far.
struct Pipeline {
    words: Vec<String>,
    numbers: Vec<String>,
    texts: Vec<String>,
    /// Several properties that together differ in all rows.
    key: Vec<String>,
    /// How many properties steps have made.
    made: usize,
}

impl Pipeline {
    fn new(random: &mut SmallRng) -> Pipeline {
        let query =
            ["*", "@m:[1 3]", "@c:{red|blue}", "dark|light", "-@c:{red}"].choose(random).expect("one");
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        let mut pipeline = Pipeline {
            words: names(&[
                "FT.AGGREGATE",
                "idx",
                query,
                "DIALECT",
                "2",
                "LOAD",
                "5",
                "@u",
                "@n",
                "@m",
                "@c",
                "@t",
            ]),
            numbers: names(&["u", "n", "m"]),
            texts: names(&["c", "t"]),
            key: names(&["u"]),
            made: 0,
        };
        for _ in 0..random.random_range(1..=STEPS_MAX) {
            match random.random_range(0..6) {
                0 | 1 => pipeline.apply(random),
                2 => pipeline.filter(random),
                3 | 4 => pipeline.group(random),
                _ => pipeline.sort(random),
            }
        }
        pipeline
    }

    fn words(self) -> Vec<Vec<u8>> {
        self.words.into_iter().map(String::into_bytes).collect()
    }

    fn put(&mut self, words: &[&str]) {
        self.words.extend(words.iter().map(|word| (*word).to_owned()));
    }

    fn name(&mut self) -> String {
        self.made += 1;
        format!("p{}", self.made)
    }

    fn number(&self, random: &mut SmallRng) -> String {
        match self.numbers.choose(random) {
            Some(name) if random.random_bool(0.8) => format!("@{name}"),
            _ => random.random_range(1..9).to_string(),
        }
    }

    fn apply(&mut self, random: &mut SmallRng) {
        let (a, b) = (self.number(random), self.number(random));
        let text = self.texts.choose(random).cloned();
        let is_text = text.is_some() && random.random_bool(0.4);
        let expression = match (is_text, text) {
            (true, Some(text)) => match random.random_range(0..4) {
                0 => format!("upper(@{text})"),
                1 => format!("substr(@{text}, 0, 2)"),
                2 => format!("format(\"%s-%s\", @{text}, @{text})"),
                _ => format!("lower(@{text})"),
            },
            _ => match random.random_range(0..8) {
                0 => format!("{a} + {b}"),
                1 => format!("{a} - {b} * 2 + 0"),
                2 => format!("floor({a} / 2) + 0"),
                3 => format!("abs({a})"),
                4 => format!("{a} < {b}"),
                5 => format!("{a} == {b} || {a} > 3"),
                6 => format!("({a} + 1) * {b} + 0"),
                // 2.10.5 counts 0 and -0 as two values.
                _ => format!("ceil({a} / 4) + 0"),
            },
        };
        let name = self.name();
        self.put(&["APPLY", &expression, "AS", &name]);
        if is_text { self.texts.push(name) } else { self.numbers.push(name) }
    }

    fn filter(&mut self, random: &mut SmallRng) {
        let (a, b) = (self.number(random), random.random_range(-3..4));
        let expression = match self.texts.choose(random) {
            Some(text) if random.random_bool(0.3) => format!("@{text} != 'red'"),
            _ => format!("{a} {} {b}", pick(random, &["<", ">", "<=", ">=", "!="])),
        };
        self.put(&["FILTER", &expression]);
    }

    fn group(&mut self, random: &mut SmallRng) {
        let all: Vec<String> = self.numbers.iter().chain(&self.texts).cloned().collect();
        let count = random.random_range(0..=2.min(all.len()));
        let by: Vec<String> = all.choose_multiple(random, count).cloned().collect();
        self.put(&["GROUPBY", &by.len().to_string()]);
        by.iter().for_each(|name| self.put(&[&format!("@{name}")]));
        let (numbers, texts) = (std::mem::take(&mut self.numbers), std::mem::take(&mut self.texts));
        let is_by = |name: &&String| by.contains(*name);
        self.numbers = numbers.iter().filter(is_by).cloned().collect();
        self.texts = texts.iter().filter(is_by).cloned().collect();
        for _ in 0..random.random_range(1..=3) {
            let name = self.name();
            let number = numbers.choose(random).map(|name| format!("@{name}"));
            let any = all.choose(random).map(|name| format!("@{name}"));
            match (random.random_range(0..9), number, any) {
                (0, Some(of), _) => self.put(&["REDUCE", "SUM", "1", &of, "AS", &name]),
                (1, Some(of), _) => self.put(&["REDUCE", "AVG", "1", &of, "AS", &name]),
                (2, Some(of), _) => self.put(&["REDUCE", "MIN", "1", &of, "AS", &name]),
                (3, Some(of), _) => self.put(&["REDUCE", "MAX", "1", &of, "AS", &name]),
                (4, _, Some(of)) => self.put(&["REDUCE", "COUNT_DISTINCT", "1", &of, "AS", &name]),
                (5, Some(of), _) => self.put(&["REDUCE", "STDDEV", "1", &of, "AS", &name]),
                _ => self.put(&["REDUCE", "COUNT", "0", "AS", &name]),
            }
            self.numbers.push(name);
        }
        self.key = by;
    }

    /// Sorts by the key of the rows, after some other property, and may cut them.
    fn sort(&mut self, random: &mut SmallRng) {
        if self.key.is_empty() {
            return;
        }
        let first = self.numbers.choose(random).cloned();
        let mut keys: Vec<String> = first.into_iter().chain(self.key.iter().cloned()).collect();
        keys.dedup();
        let directions: Vec<&str> = keys.iter().map(|_| pick(random, &["ASC", "DESC"])).collect();
        self.put(&["SORTBY", &(2 * keys.len()).to_string()]);
        keys.iter().zip(directions).for_each(|(key, direction)| self.put(&[&format!("@{key}"), direction]));
        self.put(&["MAX", &random.random_range(1..80).to_string()]);
        // A second SORTBY before the next GROUPBY is an error.
        self.group(random);
    }
}
