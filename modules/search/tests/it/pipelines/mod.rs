//! Random pipelines of FT.AGGREGATE, beside a plain evaluation of their steps.

mod plain;

use crate::records::PARTS;
use engramdb_testkit::instance::{Instance, Protocol, Value};
use engramdb_testkit::words::split_words;
use plain::{Pipeline, Plain, Random, SCHEMA, document};
use std::collections::BTreeMap;

const SEEDS: u64 = 8;
const PIPELINES: usize = 120;

fn shown(value: &Plain, found: Option<&Value>) -> bool {
    let text = found.and_then(Value::as_str);
    match value {
        Plain::Null => found == Some(&Value::Null),
        Plain::Text(wanted) => text == Some(wanted),
        Plain::Number(wanted) => {
            let number: Option<f64> = text.and_then(|text| text.parse().ok());
            number.is_some_and(|number| (number - wanted).abs() <= 1e-9 * wanted.abs().max(1.0))
        }
        Plain::List(wanted) => found.and_then(Value::as_array).is_some_and(|list| {
            list.len() == wanted.len()
                && wanted.iter().zip(list).all(|(wanted, found)| shown(wanted, Some(found)))
        }),
    }
}

fn check(instance: &mut Instance, pipeline: &Pipeline) {
    let line = pipeline.words.join(" ");
    let reply = instance.run(&pipeline.words).reply;
    let rows = reply.get("results").and_then(Value::as_array).unwrap_or_else(|| panic!("{line}: {reply:?}"));
    assert_eq!(rows.len(), pipeline.rows.len(), "{line}: {rows:?} instead of {:?}", pipeline.rows);
    for (row, wanted) in rows.iter().zip(&pipeline.rows) {
        let found = row.get("extra_attributes").expect("each row has its properties");
        let names = found.as_map().expect("a map").len();
        let is_same =
            names == wanted.len() && wanted.iter().all(|(name, value)| shown(value, found.get(name)));
        assert!(
            is_same,
            "{line}: {found:?} instead of {wanted:?}\n{rows:?}\ninstead of\n{:?}",
            pipeline.rows
        );
    }
}

#[test]
fn random_pipelines_give_what_a_plain_evaluation_gives() {
    let (mut steps, mut with_rows) = (BTreeMap::<String, usize>::new(), 0);
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let mut instance = Instance::with_modules(1, Protocol::Resp3, PARTS);
        assert!(!instance.run(&split_words(SCHEMA)).reply.is_error());
        let mut documents = BTreeMap::new();
        for number in 0..[5, 60, 400][seed as usize % 3] {
            let (key, pairs) = document(&mut random, number);
            let mut words = vec!["HSET".to_owned(), key.clone()];
            words.extend(pairs.iter().flat_map(|(name, value)| [(*name).to_owned(), value.clone()]));
            instance.run(&words);
            documents.insert(key, pairs);
        }
        for _ in 0..PIPELINES {
            let mut pipeline = Pipeline::new(&documents);
            pipeline.grow(&mut random);
            check(&mut instance, &pipeline);
            with_rows += usize::from(!pipeline.rows.is_empty());
            for word in &pipeline.words {
                *steps.entry(word.clone()).or_default() += 1;
            }
        }
    }
    assert!(with_rows > SEEDS as usize * PIPELINES / 2, "too few have rows: {with_rows}");
    for word in
        ["APPLY", "FILTER", "SORTBY", "LIMIT", "MAX", "GROUPBY", "FIRST_VALUE", "TOLIST", "QUANTILE", "AVG"]
    {
        assert!(steps.get(word).is_some_and(|count| *count > 20), "too little of {word}: {steps:?}");
    }
}
