use super::places::Counts;
use super::*;
use crate::schema::create::definition_of;
use std::collections::BTreeMap;

fn random_from(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[test]
fn counts_are_those_that_were_set() {
    let (mut counts, mut plain) = (Counts::default(), BTreeMap::new());
    let mut random = random_from(4);
    for _ in 0..5_000 {
        let (document, count) = (random(300) as u32, 1 + random(9) as u32 * random(2) as u32);
        counts.set(document, count);
        plain.insert(document, count);
    }
    assert!(plain.iter().all(|(&document, &count)| counts.get(document) == count));
    counts.set(7, u32::MAX);
    assert_eq!((counts.get(7), counts.get(1_000)), (u32::MAX, 1));
}

#[test]
fn common_documents_are_found_at_their_positions() {
    let mut random = random_from(8);
    for _ in 0..300 {
        let range = 1 + random(200_000);
        let set: RoaringBitmap = (0..random(500)).map(|_| random(range) as u32).collect();
        let listed: RoaringBitmap = (0..random(500)).map(|_| random(range) as u32).collect();
        let listed: Vec<u32> = listed.iter().collect();
        let mut found = Vec::new();
        each_common(&set, &listed, |at| found.push(at));
        let want: Vec<usize> = (0..listed.len()).filter(|&at| set.contains(listed[at])).collect();
        assert_eq!(found, want);
    }
}

/// The words of two fields, and the numbers that they were posted under.
type Posted = (Texts, [Box<[u32]>; 2]);
type Texts = [Vec<Option<Vec<u8>>>; 2];

/// Texts of two fields, of which the second counts three times and has no stems.
fn words_of(random: &mut impl FnMut(u64) -> u64) -> Texts {
    const WORDS: [&str; 7] = ["running", "runs", "run", "dogs", "dog", "x", "flies"];
    [6, 3].map(|most| {
        let count = random(most);
        (0..count).map(|_| (random(9) > 0).then(|| WORDS[random(7) as usize].as_bytes().to_vec())).collect()
    })
}

fn content(text: &[Option<Vec<u8>>]) -> TextContent {
    text.iter().map(|word| word.as_deref()).collect()
}

/// How often each term counts, as the rules say it.
fn plain_counts(texts: &Texts) -> (BTreeMap<Vec<u8>, u32>, u32) {
    let (mut counts, mut words) = (BTreeMap::new(), 0);
    for (field, text) in texts.iter().enumerate() {
        let unit = [1, 3][field];
        for word in text.iter().flatten() {
            *counts.entry(word.clone()).or_default() += unit;
            words += unit;
            if let (0, Some(stem)) = (field, Language::default().indexed_stem(word)) {
                *counts.entry(stem_term(&stem)).or_default() += 1;
            }
        }
    }
    (counts, words)
}

#[test]
fn postings_say_what_documents_have_and_forget_what_is_gone() {
    let definition = definition_of("FT.CREATE i SCHEMA a TEXT b TEXT WEIGHT 3 NOSTEM");
    let mut texts = TextPostings::new(&definition);
    let mut random = random_from(21);
    let mut documents: BTreeMap<u32, Posted> = BTreeMap::new();
    let language = Language::default();
    for round in 0..3_000 {
        let id = random(60) as u32;
        if let Some((_, numbers)) = documents.remove(&id) {
            (0..2).for_each(|field| texts.unpost((id, field), &numbers[field], language));
            texts.forget_length(id);
        }
        if random(3) > 0 {
            let words = words_of(&mut random);
            let mut tally = TermTally::default();
            let numbers =
                [0, 1].map(|field| texts.post((id, field), &content(&words[field]), language, &mut tally));
            texts.measure(id, tally);
            documents.insert(id, (words, numbers));
        }
        if round % 100 == 0 {
            check(&texts, &documents);
        }
    }
    for (id, (_, numbers)) in &documents {
        (0..2).for_each(|field| texts.unpost((*id, field), &numbers[field], language));
        texts.forget_length(*id);
    }
    assert_eq!((texts.len(), texts.terms.counted_bytes(), texts.length_sum()), (0, (0, 0), 0));
}

fn check(texts: &TextPostings, documents: &BTreeMap<u32, Posted>) {
    let mut with_term: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut sum = 0;
    for (&id, (words, _)) in documents {
        let (counts, length) = plain_counts(words);
        for (term, &count) in &counts {
            let posting = texts.get(term).expect("a document has it");
            let own = posting.places().iter().filter(|place| place.documents().contains(id));
            let own = own.map(|place| place.count(id) * texts.unit(place.field(), is_stem(term)));
            assert_eq!(own.sum::<u32>(), count, "{term:?} of {id}");
            *with_term.entry(term.clone()).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        let most_terms = counts.values().filter(|&&count| count == most).count() as u32;
        assert_eq!(texts.length(id), DocumentLength { words: length, most, most_terms });
        sum += u64::from(length);
    }
    assert_eq!(texts.length_sum(), sum);
    assert_eq!(texts.len(), with_term.len());
    for (term, count) in with_term {
        let posting = texts.get(&term).expect("a document has it");
        assert_eq!(posting.document_count(), Some(count), "{term:?}");
        assert_eq!(posting.documents(&[0, 1]).len(), count);
    }
    let (counted, there) = texts.terms.counted_bytes();
    assert_eq!(counted, there);
}
