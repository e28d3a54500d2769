use super::postings::{Limit, NumberWalk};
use super::*;
use crate::schema::create::definition_of;

fn terms(words: &[Option<&str>]) -> FieldContent {
    FieldContent::Terms(words.iter().map(|word| word.map(|word| word.as_bytes().to_vec())).collect())
}

/// The documents with a number from here to there, each as often as the walk meets it.
fn between(documents: &Documents, least: f64, most: f64) -> Vec<u32> {
    let limit = |value| Limit { value, exclusive: false };
    let mut walk = NumberWalk::default();
    let numbers = documents.numbers(0).expect("a NUMERIC field");
    while !numbers.step(&mut walk, (limit(least), limit(most)), &mut 1000) {}
    walk.documents
}

#[test]
fn a_document_counts_for_each_of_its_values_and_leaves_nothing_behind() {
    let mut documents = Documents::new(&definition_of("FT.CREATE i SCHEMA n NUMERIC c TAG t TEXT"));
    let content = [
        FieldContent::Numbers(vec![7.0, 1.0, 7.0]),
        terms(&[Some("red"), Some("blue"), Some("red")]),
        terms(&[Some("one"), None, Some("two"), Some("one")]),
    ];
    documents.upsert(b"a", &content);
    documents.remove(b"a");
    // Places of terms are kept for others.
    let before = (documents.value_bytes, documents.posting_bytes());
    assert_eq!(before.0, 0);
    let id = documents.upsert(b"a", &content);
    assert_eq!(between(&documents, 0.0, 9.0), [id, id], "equal numbers are there once");
    assert_eq!(between(&documents, 7.0, 7.0), [id]);
    assert_eq!(documents.value(id, 0).numbers(), [7.0, 1.0, 7.0], "the first is what it is sorted by");
    let has = |documents: &Documents, field: usize, term: &str| {
        let found = documents.terms(field).expect("terms").get(term.as_bytes());
        found.is_some_and(|found| found.contains(id))
    };
    assert!(has(&documents, 1, "red") && has(&documents, 1, "blue") && has(&documents, 2, "two"));
    let texts = documents.value(id, 2).terms();
    assert_eq!((texts.len(), texts[1]), (4, TEXT_END));
    // Fewer values, and none.
    documents.put(id, &[FieldContent::Number(1.0), terms(&[Some("blue")]), FieldContent::Missing]);
    assert_eq!(between(&documents, 0.0, 9.0), [id]);
    assert!(!has(&documents, 1, "red") && has(&documents, 1, "blue") && !has(&documents, 2, "two"));
    documents.put(id, &[FieldContent::Numbers(vec![]), terms(&[]), terms(&[])]);
    assert_eq!(between(&documents, 0.0, 9.0), [0; 0]);
    assert!(!documents.missing(0).contains(id), "it is there, with no number");
    assert!(documents.missing(2).is_empty());
    documents.upsert(b"a", &content);
    documents.remove(b"a");
    assert_eq!((documents.value_bytes, documents.posting_bytes()), before);
}

#[test]
fn changes_that_are_no_longer_listed_are_found_by_a_scan_in_parts() {
    let mut documents = Documents::new(&definition_of("FT.CREATE i SCHEMA n NUMERIC"));
    let put = |documents: &mut Documents, number: usize| {
        documents.upsert(&number.to_le_bytes(), &[FieldContent::Number(1.0)])
    };
    (0..3 * CHANGES_MAX).for_each(|number| _ = put(&mut documents, number));
    let before = documents.version();
    let changed: RoaringBitmap =
        (0..3 * CHANGES_MAX).step_by(2).map(|number| put(&mut documents, number)).collect();
    assert_eq!(documents.listed_changes(before), None);
    assert_eq!(documents.changed_since(before), changed);
    let listed = documents.version();
    let removed = documents.remove(&1usize.to_le_bytes()).expect("it is there");
    let ids: Vec<u32> = (0..documents.id_bound()).collect();
    let parts = ids.chunks(1000).map(|ids| documents.scan_changed(before, ids[0]..ids[0] + ids.len() as u32));
    assert_eq!(
        parts.fold(RoaringBitmap::new(), |all, part| all | part),
        changed | RoaringBitmap::from([removed])
    );
    assert_eq!(documents.listed_changes(listed), Some(RoaringBitmap::from([removed])));
}
