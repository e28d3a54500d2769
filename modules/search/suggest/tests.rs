//! The tree beside a plain list.

use super::top::top;
use super::trie::{Suggestion, Trie, folded};
use super::value::Suggestions;
use crate::edits::tests::whole_distance;
use engramdb_engine::keyspace::TypedValue;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What `top` must return, by a look at each suggestion.
fn expected(all: &BTreeMap<Vec<u8>, f32>, prefix: &[u8], fuzzy: bool, most: usize) -> Vec<(Vec<u8>, f32)> {
    let query: Vec<char> = folded(prefix).chars().collect();
    let mut found = Vec::new();
    for (text, &score) in all {
        let characters: Vec<char> = folded(text).chars().collect();
        let least = (0..=characters.len()).map(|end| whole_distance(&query, &characters[..end])).min();
        let least = least.expect("at least the empty beginning");
        let is_wanted = if fuzzy { least <= 1 } else { characters.starts_with(&query) };
        if !is_wanted {
            continue;
        }
        let mut score = if text == prefix { i32::MAX as f32 } else { score };
        if fuzzy {
            score = (f64::from(score) * (-2.0 * least as f64).exp()) as f32;
        }
        let further = characters.len().abs_diff(query.len());
        found.push((folded(text), text.clone(), (f64::from(score) / (1.0 + further as f64).sqrt()) as f32));
    }
    found.sort_by(|one, other| {
        other.2.total_cmp(&one.2).then_with(|| (&one.0, &one.1).cmp(&(&other.0, &other.1)))
    });
    found.into_iter().take(most).map(|(_, text, score)| (text, score)).collect()
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    let letters = proptest::sample::select(vec!["a", "b", "A", "ä", "Ä", "日"]);
    proptest::collection::vec(letters, 0..6).prop_map(|letters| letters.concat().into_bytes())
}

fn score() -> impl Strategy<Value = f32> {
    proptest::sample::select(vec![1.0, 2.0, 0.0, -1.5, 100.0, 3.25])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn finds_the_best_as_a_look_at_each_suggestion_does(
        steps in proptest::collection::vec((word(), score(), 0..4u8), 0..60),
        questions in proptest::collection::vec((word(), any::<bool>(), 1..8usize), 1..12),
    ) {
        let (mut trie, mut all) = (Trie::default(), BTreeMap::new());
        let empty = trie.heap_bytes();
        for (text, score, kind) in steps {
            if kind == 0 {
                prop_assert_eq!(trie.remove(&text), all.remove(&text).is_some());
            } else {
                let suggestion = Suggestion { text: text.clone().into(), score, payload: None };
                prop_assert_eq!(trie.set(suggestion), all.insert(text, score).is_none());
            }
            prop_assert_eq!(trie.len(), all.len());
        }
        for (prefix, fuzzy, most) in questions {
            let found = top(&trie, &prefix, fuzzy, most).expect("they are few");
            let found: Vec<(Vec<u8>, f32)> =
                found.into_iter().map(|(suggestion, score)| (suggestion.text.to_vec(), score)).collect();
            prop_assert_eq!(found, expected(&all, &prefix, fuzzy, most), "{:?} {}", prefix, fuzzy);
        }
        let suggestions = Suggestions(trie);
        let copy = suggestions.copy();
        prop_assert_eq!(copy.digest(), suggestions.digest());
        prop_assert_eq!(copy.len(), all.len());
        let Suggestions(mut trie) = suggestions;
        all.keys().for_each(|text| assert!(trie.remove(text)));
        prop_assert!(trie.heap_bytes() >= empty);
        prop_assert_eq!(trie.len(), 0);
    }
}

#[test]
fn a_search_that_would_look_at_too_much_is_refused() {
    let mut trie = Trie::default();
    let characters =
        (0x4e00..0x9fff).chain(0x20000..0x2a6df).chain(0xac00..0xd7a3).filter_map(char::from_u32);
    for character in characters {
        let text = format!("p{character}").into_bytes().into_boxed_slice();
        trie.set(Suggestion { text, score: 1.0, payload: None });
    }
    assert!(trie.len() > 1 << 16);
    assert!(top(&trie, b"p", false, 5).is_err());
    assert_eq!(top(&trie, "p\u{4e00}".as_bytes(), false, 5).expect("one text").len(), 1);
}
