//! Random pipelines of FT.AGGREGATE, and a plain evaluation of them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A value of a property. The order is that of SORTBY.
#[derive(Clone, Debug, PartialEq)]
pub enum Plain {
    Null,
    Number(f64),
    Text(String),
    List(Vec<Plain>),
}

/// By property; what a row lacks is not there.
pub type PlainRow = BTreeMap<String, Plain>;

/// What is known of a property before there are rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Number,
    /// A number, or missing.
    SomeNumber,
    /// A text, or missing.
    SomeText,
    /// A text that is a number.
    Digits,
    /// Any but a list, null included.
    Any,
    /// Also a list.
    List,
}

/// A stream of random numbers.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % bound as u64) as usize
    }

    fn of<'l, T>(&mut self, list: &'l [T]) -> &'l T {
        &list[self.below(list.len())]
    }
}

impl Plain {
    fn number(&self) -> Option<f64> {
        match self {
            Plain::Number(number) => Some(*number),
            Plain::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The values of a list, or the value itself.
    fn parts(&self) -> &[Plain] {
        match self {
            Plain::List(list) => list,
            value => std::slice::from_ref(value),
        }
    }

    fn order(&self, other: &Plain) -> Ordering {
        let rank = |value: &Plain| match value {
            Plain::Null => 0,
            Plain::Number(_) => 1,
            Plain::Text(_) => 2,
            Plain::List(_) => 3,
        };
        match (self, other) {
            (Plain::Number(one), Plain::Number(other)) => one.total_cmp(other),
            (Plain::Text(one), Plain::Text(other)) => one.cmp(other),
            _ => rank(self).cmp(&rank(other)),
        }
    }
}

/// The result of a group's rows.
type Reduce = Box<dyn Fn(&[PlainRow]) -> Plain>;

/// A pipeline that grows step by step: its words, and the rows after them.
pub struct Pipeline {
    pub words: Vec<String>,
    pub rows: Vec<PlainRow>,
    properties: Vec<(String, Kind)>,
    /// For names that are new.
    names: usize,
    /// SORTBY or LIMIT is there since the last GROUPBY; another one would be the same step.
    is_arranged: bool,
}

/// The schema of the documents, and the document of a number: its pairs.
pub const SCHEMA: &str = "FT.CREATE idx PREFIX 1 d: SCHEMA n NUMERIC m NUMERIC SORTABLE c TAG t TEXT";

pub fn document(random: &mut Random, number: usize) -> (String, Vec<(&'static str, String)>) {
    let half = f64::from(random.below(30) as i32 - 8) / 2.0;
    let mut pairs = vec![("n", half.to_string()), ("u", random.below(6).to_string())];
    if random.below(4) > 0 {
        pairs.push(("m", (random.below(12) as i32 - 4).to_string()));
    }
    if random.below(4) > 0 {
        pairs.push(("c", (*random.of(&["red", "Green", "blue sky", "x"])).to_owned()));
    }
    (format!("d:{number:04}"), pairs)
}

impl Pipeline {
    pub fn new(documents: &BTreeMap<String, Vec<(&'static str, String)>>) -> Pipeline {
        let row = |(key, pairs): (&String, &Vec<(&'static str, String)>)| {
            let value = |name: &str, text: &str| match name {
                "n" | "m" => Plain::Number(text.parse().expect("a number")),
                _ => Plain::Text(text.to_owned()),
            };
            let pairs = pairs.iter().map(|(name, text)| ((*name).to_owned(), value(name, text)));
            pairs.chain([("__key".to_owned(), Plain::Text(key.clone()))]).collect()
        };
        let words = "FT.AGGREGATE idx * LOAD 5 @__key @n @m @c @u";
        let properties = [
            ("__key", Kind::SomeText),
            ("n", Kind::Number),
            ("m", Kind::SomeNumber),
            ("c", Kind::SomeText),
            ("u", Kind::Digits),
        ];
        Pipeline {
            words: words.split(' ').map(str::to_owned).collect(),
            rows: documents.iter().map(row).collect(),
            properties: properties.map(|(name, kind)| (name.to_owned(), kind)).into(),
            names: 0,
            is_arranged: false,
        }
    }

    /// Adds steps: some that look at single rows, at most one that puts rows in order or cuts them, and
    /// perhaps a GROUPBY.
    pub fn grow(&mut self, random: &mut Random) {
        for _ in 0..1 + random.below(3) {
            let arranged = random.below(6);
            for step in 0..random.below(5) {
                match random.below(2) {
                    _ if step == arranged && !self.is_arranged => self.arrange(random),
                    0 => self.apply(random),
                    _ => self.filter(random),
                }
            }
            if random.below(3) > 0 {
                self.group(random);
            }
        }
    }

    fn add(&mut self, words: &[&str]) {
        self.words.extend(words.iter().map(|word| (*word).to_owned()));
    }

    fn new_name(&mut self, of: &str) -> String {
        self.names += 1;
        format!("{of}{}", self.names)
    }

    /// A property that every row has as a number, if there is one.
    fn numeric(&self, random: &mut Random) -> Option<String> {
        let is_it = |(_, kind): &&(String, Kind)| matches!(kind, Kind::Number | Kind::Digits);
        let names: Vec<&(String, Kind)> = self.properties.iter().filter(is_it).collect();
        if names.is_empty() { None } else { Some(random.of(&names).0.clone()) }
    }

    fn apply(&mut self, random: &mut Random) {
        let (Some(a), Some(b)) = (self.numeric(random), self.numeric(random)) else { return };
        type Function = fn(f64, f64) -> f64;
        let forms: &[(&str, Function)] = &[
            ("@A + @B", |a, b| a + b),
            ("@A-@B*2", |a, b| a - b * 2.0),
            ("(@A - @B) / 2", |a, b| (a - b) / 2.0),
            ("floor(@A / 4) + 1", |a, _| (a / 4.0).floor() + 1.0),
            ("abs(@A)", |a, _| a.abs()),
            ("@A >= @B", |a, b| f64::from(u8::from(a >= b))),
            ("@A > 1 && !(@B < 2)", |a, b| f64::from(u8::from(a > 1.0 && b >= 2.0))),
            ("case(@A > @B, @B, -3)", |a, b| if a > b { b } else { -3.0 }),
            ("@A == @B || @A < 0", |a, b| f64::from(u8::from(a == b || a < 0.0))),
        ];
        let (text, function) = random.of(forms);
        let name = self.new_name("x");
        self.add(&[
            "APPLY",
            &text.replace("@A", &format!("@{a}")).replace("@B", &format!("@{b}")),
            "AS",
            &name,
        ]);
        for row in &mut self.rows {
            let value = |property: &str| row[property].number().expect("every row has it");
            let result = function(value(&a), value(&b)) + 0.0;
            row.insert(name.clone(), Plain::Number(result));
        }
        self.properties.push((name, Kind::Number));
    }

    fn filter(&mut self, random: &mut Random) {
        let maybe: Vec<String> = self
            .properties
            .iter()
            .filter(|(_, kind)| matches!(kind, Kind::SomeNumber | Kind::SomeText))
            .map(|(name, _)| name.clone())
            .collect();
        if !maybe.is_empty() && random.below(3) == 0 {
            let name = random.of(&maybe).clone();
            let wants = random.below(3) > 0;
            self.add(&["FILTER", &format!("{}exists(@{name})", if wants { "" } else { "!" })]);
            self.rows.retain(|row| row.contains_key(&name) == wants);
            return;
        }
        let (Some(a), Some(b)) = (self.numeric(random), self.numeric(random)) else { return };
        let limit = random.below(5) as f64 - 2.0;
        type Condition = fn(f64, f64, f64) -> bool;
        let forms: &[(&str, Condition)] = &[
            ("@A > L", |a, _, limit| a > limit),
            ("@A != L && @A <= 9", |a, _, limit| a != limit && a <= 9.0),
            ("@A >= @B || @B == L", |a, b, limit| a >= b || b == limit),
            ("!(@A < L)", |a, _, limit| a >= limit),
        ];
        let (text, condition) = random.of(forms);
        let text = text
            .replace("@A", &format!("@{a}"))
            .replace("@B", &format!("@{b}"))
            .replace('L', &limit.to_string());
        self.add(&["FILTER", &text]);
        self.rows.retain(|row| {
            let value = |property: &str| row[property].number().expect("every row has it");
            condition(value(&a), value(&b), limit)
        });
    }

    fn arrange(&mut self, random: &mut Random) {
        self.is_arranged = true;
        let mut keys: Vec<(String, bool)> = Vec::new();
        if random.below(4) > 0 {
            for _ in 0..1 + random.below(3) {
                let (name, kind) = random.of(&self.properties).clone();
                if keys.iter().all(|(known, _)| *known != name) && kind != Kind::List {
                    keys.push((name, random.below(2) == 1));
                }
            }
            if !keys.is_empty() {
                self.add(&["SORTBY", &(2 * keys.len()).to_string()]);
            }
            for (name, descending) in &keys {
                self.add(&[&format!("@{name}"), if *descending { "DESC" } else { "ASC" }]);
            }
            let mut rows: Vec<(usize, PlainRow)> =
                std::mem::take(&mut self.rows).into_iter().enumerate().collect();
            rows.sort_by(|one, other| by_keys(&keys, one, other));
            self.rows = rows.into_iter().map(|(_, row)| row).collect();
        }
        let (offset, count) = (random.below(4), random.below(30));
        match random.below(3) {
            // Without a limit, sorted rows are ten.
            0 if !keys.is_empty() => self.rows.truncate(10),
            1 if !keys.is_empty() => {
                self.add(&["MAX", &(count + 1).to_string()]);
                self.rows.truncate(count + 1);
            }
            _ => {
                self.add(&["LIMIT", &offset.to_string(), &count.to_string()]);
                self.rows = self.rows.drain(..).skip(offset).take(count).collect();
            }
        }
    }

    fn group(&mut self, random: &mut Random) {
        self.is_arranged = false;
        let mut by: Vec<String> = Vec::new();
        for _ in 0..random.below(3) {
            let name = random.of(&self.properties).0.clone();
            if !by.contains(&name) {
                by.push(name);
            }
        }
        self.add(&["GROUPBY", &by.len().to_string()]);
        by.iter().for_each(|name| self.words.push(format!("@{name}")));
        let mut groups: Vec<(Vec<Plain>, Vec<PlainRow>)> = Vec::new();
        for row in std::mem::take(&mut self.rows) {
            for values in combinations(&row, &by) {
                match groups.iter_mut().find(|(known, _)| *known == values) {
                    Some((_, members)) => members.push(row.clone()),
                    None => groups.push((values, vec![row.clone()])),
                }
            }
        }
        let mut properties: Vec<(String, Kind)> = Vec::new();
        for name in &by {
            let (_, kind) = self.properties.iter().find(|(known, _)| known == name).expect("it was picked");
            let kind = if matches!(kind, Kind::Number | Kind::Digits) { *kind } else { Kind::Any };
            properties.push((name.clone(), kind));
        }
        let keyed = |values: &[Plain]| by.iter().cloned().zip(values.iter().cloned()).collect();
        let mut rows: Vec<PlainRow> = groups.iter().map(|(values, _)| keyed(values)).collect();
        for _ in 0..usize::from(by.is_empty()) + random.below(4) {
            let (name, kind, results) = self.reduce(random, &groups);
            for (row, result) in rows.iter_mut().zip(results) {
                row.insert(name.clone(), result);
            }
            properties.push((name, kind));
        }
        (self.rows, self.properties) = (rows, properties);
    }

    /// Adds a reducer. Returns its name, and its results by group.
    fn reduce(
        &mut self,
        random: &mut Random,
        groups: &[(Vec<Plain>, Vec<PlainRow>)],
    ) -> (String, Kind, Vec<Plain>) {
        let of = random.of(&self.properties).0.clone();
        let by = self.numeric(random);
        let name = self.new_name("r");
        let (words, kind, reducer): (Vec<String>, Kind, Reduce) = match random.below(10) {
            8 | 9 if by.is_some() => {
                let by = by.expect("looked at above");
                let descending = random.below(2) == 1;
                let mut words: Vec<String> =
                    ["FIRST_VALUE", if descending { "4" } else { "3" }].map(str::to_owned).into();
                words.extend([format!("@{of}"), "BY".to_owned(), format!("@{by}")]);
                words.extend(Some("DESC".to_owned()).filter(|_| descending));
                let value = of.clone();
                let reducer = move |rows: &[PlainRow]| first_by(rows, &of, &by, descending);
                let is_list =
                    self.properties.iter().any(|(name, kind)| *name == value && *kind == Kind::List);
                (words, if is_list { Kind::List } else { Kind::Any }, Box::new(reducer))
            }
            number => {
                let (reducer, argument, kind): (&str, &str, Kind) = [
                    ("COUNT", "", Kind::Number),
                    ("SUM", "", Kind::Number),
                    ("AVG", "", Kind::Number),
                    ("MIN", "", Kind::Number),
                    ("MAX", "", Kind::Number),
                    ("COUNT_DISTINCT", "", Kind::Number),
                    ("QUANTILE", "0.5", Kind::Number),
                    ("TOLIST", "", Kind::List),
                ][number % 8];
                let count = if reducer == "COUNT" { 0 } else { 1 + usize::from(!argument.is_empty()) };
                let mut words = vec![reducer.to_owned(), count.to_string()];
                words.extend([format!("@{of}"), argument.to_owned()].into_iter().take(count));
                let reduce = move |rows: &[PlainRow]| reduced(reducer, rows, &of);
                (words, kind, Box::new(reduce))
            }
        };
        self.add(&["REDUCE"]);
        self.words.extend(words);
        self.add(&["AS", &name]);
        (name, kind, groups.iter().map(|(_, rows)| reducer(rows)).collect())
    }
}

/// The values of these properties, one of each list, in all combinations. Those of the first list change
/// first.
fn combinations(row: &PlainRow, by: &[String]) -> Vec<Vec<Plain>> {
    let mut all = vec![Vec::new()];
    for name in by {
        let values = match row.get(name) {
            Some(Plain::List(list)) if !list.is_empty() => list.clone(),
            Some(Plain::List(_)) | None => vec![Plain::Null],
            Some(value) => vec![value.clone()],
        };
        let with = |value: &Plain, before: &Vec<Plain>| [before.clone(), vec![value.clone()]].concat();
        all = values.iter().flat_map(|value| all.iter().map(move |before| with(value, before))).collect();
    }
    all
}

/// What is missing comes last. Equal rows keep their order, or have the reverse one if the first key is
/// descending.
fn by_keys(keys: &[(String, bool)], one: &(usize, PlainRow), other: &(usize, PlainRow)) -> Ordering {
    for (name, descending) in keys {
        let order = match (one.1.get(name), other.1.get(name)) {
            (Some(one), Some(other)) if *descending => other.order(one),
            (Some(one), Some(other)) => one.order(other),
            (one, other) => one.is_none().cmp(&other.is_none()),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    let order = one.0.cmp(&other.0);
    if keys.first().is_some_and(|(_, descending)| *descending) { order.reverse() } else { order }
}

fn first_by(rows: &[PlainRow], of: &str, by: &str, descending: bool) -> Plain {
    let mut best: Option<(&Plain, f64)> = None;
    for row in rows {
        let (Some(value), Some(key)) = (row.get(of), row[by].number()) else { continue };
        let is_better = best.is_none_or(|(_, best)| if descending { key > best } else { key < best });
        if is_better {
            best = Some((value, key));
        }
    }
    best.map_or(Plain::Null, |(value, _)| value.clone())
}

fn reduced(reducer: &str, rows: &[PlainRow], of: &str) -> Plain {
    let values = || rows.iter().filter_map(|row| row.get(of));
    let parts = || values().flat_map(Plain::parts);
    let mut numbers: Vec<f64> = match reducer {
        "QUANTILE" => parts().filter_map(Plain::number).collect(),
        _ => values().filter_map(Plain::number).collect(),
    };
    let sum: f64 = numbers.iter().sum();
    let mut distinct: Vec<Plain> = Vec::new();
    let counted: Vec<&Plain> = if reducer == "TOLIST" { parts().collect() } else { values().collect() };
    for value in counted {
        if !distinct.contains(value) {
            distinct.push(value.clone());
        }
    }
    Plain::Number(match reducer {
        "COUNT" => rows.len() as f64,
        "SUM" => sum,
        "AVG" => sum / rows.len() as f64,
        "MIN" => numbers.iter().copied().reduce(f64::min).unwrap_or(0.0),
        "MAX" => numbers.iter().copied().reduce(f64::max).unwrap_or(0.0),
        "COUNT_DISTINCT" => distinct.len() as f64,
        "QUANTILE" => {
            numbers.sort_by(f64::total_cmp);
            let rank = (0.5 * numbers.len() as f64).ceil() as usize;
            numbers.get(rank.max(1) - 1).copied().unwrap_or(0.0)
        }
        "TOLIST" => return Plain::List(distinct),
        other => panic!("{other}"),
    })
}
