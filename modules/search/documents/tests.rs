use super::postings::{Limit, NumberWalk};
use super::*;
use crate::schema::create::definition_of;
use engramdb_engine::hashing::HashSet;
use engramdb_vector::Neighbor;

fn tags(tags: &[&str]) -> FieldContent {
    FieldContent::Terms(tags.iter().map(|tag| tag.as_bytes().to_vec()).collect())
}

fn words(words: &[Option<&str>]) -> FieldContent {
    FieldContent::Text(words.iter().map(|word| word.map(str::as_bytes)).collect())
}

fn content(fields: impl Into<Vec<FieldContent>>) -> DocumentContent {
    DocumentContent { fields: fields.into(), ..DocumentContent::default() }
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
    let all = content([
        FieldContent::Numbers(vec![7.0, 1.0, 7.0]),
        tags(&["red", "blue", "red"]),
        words(&[Some("one"), None, Some("two"), Some("one")]),
    ]);
    documents.upsert(b"a", &all);
    documents.remove(b"a");
    // Places of terms are kept for others.
    let before = (documents.value_bytes, documents.posting_bytes());
    assert_eq!(before.0, 0);
    let id = documents.upsert(b"a", &all);
    assert_eq!(between(&documents, 0.0, 9.0), [id, id], "equal numbers are there once");
    assert_eq!(between(&documents, 7.0, 7.0), [id]);
    assert_eq!(documents.numbers_of(id, 0), [7.0, 1.0, 7.0], "the first is what it is sorted by");
    let has = |documents: &Documents, field: usize, term: &str| match documents.terms(field) {
        Some(tags) => tags.get(term.as_bytes()).is_some_and(|found| found.contains(id)),
        None => documents.texts().get(term.as_bytes()).is_some_and(|found| found.is_in(id, &[field])),
    };
    assert!(has(&documents, 1, "red") && has(&documents, 1, "blue") && has(&documents, 2, "two"));
    let texts = documents.words_of(id, 2);
    assert_eq!((texts.len(), texts[1]), (4, TEXT_END));
    // Fewer values, and none.
    documents.put(id, &content([FieldContent::Number(1.0), tags(&["blue"]), FieldContent::Missing]));
    assert_eq!(between(&documents, 0.0, 9.0), [id]);
    assert!(!has(&documents, 1, "red") && has(&documents, 1, "blue") && !has(&documents, 2, "two"));
    documents.put(id, &content([FieldContent::Numbers(vec![]), tags(&[]), words(&[])]));
    assert_eq!(between(&documents, 0.0, 9.0), [0; 0]);
    assert!(!documents.missing(0).contains(id), "it is there, with no number");
    assert!(documents.missing(2).is_empty());
    documents.upsert(b"a", &all);
    documents.remove(b"a");
    assert_eq!((documents.value_bytes, documents.posting_bytes()), before);
    let columns = documents.columns.iter().map(FieldColumn::heap_bytes);
    assert_eq!(columns.sum::<usize>(), 0, "columns give their memory back");
}

#[test]
fn an_emptied_index_keeps_little_memory() {
    let definition = definition_of("FT.CREATE i SCHEMA n NUMERIC c TAG t TEXT");
    let mut documents = Documents::new(&definition);
    let load = |documents: &mut Documents| {
        for number in 0..50_000u32 {
            let tag = FieldContent::Tag((number % 100).to_string().into_bytes());
            let fields = [FieldContent::Number(f64::from(number)), tag, words(&[Some("a"), Some("b")])];
            documents.upsert(&number.to_le_bytes(), &content(fields));
        }
        documents.heap_bytes()
    };
    let full = load(&mut documents);
    let version = documents.version();
    (0..50_000u32).for_each(|number| _ = documents.remove(&number.to_le_bytes()));
    let emptied = documents.heap_bytes();
    assert!(emptied < full / 8, "{emptied} of {full}");
    assert_eq!(documents.changed_since(version).len(), 50_000, "a search that is under way sees it");
    assert!(load(&mut documents) < full + full / 8);
    assert_eq!(documents.id_bound(), 50_000, "ids are given again");
}

#[test]
fn a_field_that_is_added_later_takes_memory_for_the_documents_that_have_it() {
    let mut documents = Documents::new(&definition_of("FT.CREATE i SCHEMA n NUMERIC"));
    for number in 0..20_000u32 {
        documents.upsert(&number.to_le_bytes(), &content([FieldContent::Number(1.0)]));
    }
    let added = definition_of("FT.CREATE i SCHEMA m NUMERIC c TAG t TEXT");
    documents.add_fields(&added.fields);
    let fields = [FieldContent::Number(1.0), FieldContent::Number(2.0), FieldContent::Missing];
    let last = documents.upsert(&19_999u32.to_le_bytes(), &content(fields));
    assert_eq!((documents.numbers_of(last, 1), documents.known_value(0, 1)), (&[2.0][..], None));
    assert_eq!(documents.known_value(last, 2), Some(KnownCell::Missing));
    let added: usize = documents.columns[1..].iter().map(FieldColumn::heap_bytes).sum();
    assert!(added < 20_000, "two blocks, not a cell for each document: {added}");
}

#[test]
fn changes_that_are_no_longer_listed_are_found_by_a_scan_in_parts() {
    let mut documents = Documents::new(&definition_of("FT.CREATE i SCHEMA n NUMERIC"));
    let put = |documents: &mut Documents, number: usize| {
        documents.upsert(&number.to_le_bytes(), &content([FieldContent::Number(1.0)]))
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

/// Of two vector fields: the ids of all vectors, by document and field.
fn all_vectors(documents: &Documents) -> Vec<(u32, usize, Vec<u32>)> {
    let of = |(_, id): (&[u8], u32)| {
        (0..2).map(move |field| (id, field, documents.vector_ids(id, field).collect()))
    };
    documents.keys().flat_map(of).collect()
}

#[test]
fn rows_belong_to_one_document_and_field_and_are_given_again() {
    let vector = "VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2";
    let definition = definition_of(&format!("FT.CREATE i SCHEMA v {vector} w {vector}"));
    let mut documents = Documents::new(&definition);
    documents.upsert(b"one", &content([FieldContent::Vectors(1), FieldContent::Missing]));
    assert!(!documents.has_rows());
    assert_eq!(
        (documents.value_bytes, documents.id_bound()),
        (0, 1),
        "one vector takes no memory of its own"
    );
    let a = documents.upsert(b"a", &content([FieldContent::Vectors(3), FieldContent::Vectors(2)]));
    let b = documents.upsert(b"b", &content([FieldContent::Vectors(1), FieldContent::Vectors(4)]));
    let check = |documents: &Documents| {
        let mut seen = std::collections::BTreeSet::new();
        for (id, field, vectors) in all_vectors(documents) {
            assert_eq!(vectors[0], id);
            for &row in &vectors[1..] {
                assert!(seen.insert(row) && documents.key(row).is_none(), "{row} of {id} in {field}");
                assert_eq!(documents.owners().of(row), id);
                assert!(documents.owners().is_row(row) && !documents.live().contains(row));
            }
        }
        assert_eq!(seen.len(), documents.row_count(0) + documents.row_count(1));
        let listed = documents.row_lists().flat_map(|(.., rows)| rows).copied();
        assert!(listed.collect::<std::collections::BTreeSet<u32>>() == seen);
    };
    check(&documents);
    assert_eq!((documents.row_count(0), documents.row_count(1), documents.vectors_each(1)), (2, 4, 3));
    assert!(documents.take_freed().is_empty());
    // One row fewer in the first field, and one more in the second: the same row.
    let before = documents.rows(a, 0)[1];
    let version = documents.version();
    documents.put(a, &content([FieldContent::Vectors(2), FieldContent::Vectors(3)]));
    check(&documents);
    assert_eq!(documents.take_freed(), [(0, before)]);
    assert_eq!(documents.rows(a, 1)[1], before);
    // What a search at that version has found by a row that has changed since is nobody's.
    let found = |documents: &Documents, version: u64| {
        let vectors = [before, documents.rows(b, 1)[0], b, documents.rows(b, 1)[2]];
        let vectors = (0..).zip(vectors).map(|(at, id)| Neighbor { id, distance: f64::from(at) });
        let (mut known, mut found) = (HashSet::default(), Vec::new());
        documents.add_documents(version, &vectors.collect::<Vec<_>>(), &mut known, &mut found);
        found.into_iter().map(|row| (row.id, row.distance)).collect::<Vec<_>>()
    };
    assert_eq!(found(&documents, version), [(b, 1.0)]);
    assert_eq!(found(&documents, documents.version()), [(a, 0.0), (b, 1.0)]);
    // All of it goes, and comes back with no more ids than before.
    let bound = documents.id_bound();
    for key in [&b"a"[..], b"b", b"one"] {
        documents.remove(key);
        check(&documents);
    }
    assert_eq!(documents.take_freed().len(), 6);
    assert_eq!((documents.value_bytes, documents.row_count(0), documents.row_count(1)), (0, 0, 0));
    documents.upsert(b"c", &content([FieldContent::Vectors(bound), FieldContent::Missing]));
    check(&documents);
    assert_eq!(documents.id_bound(), bound);
}

#[test]
fn rows_of_an_earlier_run_are_taken_back_or_given_up() {
    let vector = "VECTOR FLAT 6 TYPE FLOAT32 DIM 1 DISTANCE_METRIC L2";
    let definition = definition_of(&format!("FT.CREATE i SCHEMA t TAG v {vector}"));
    let saved = || Keys::of_earlier_run(6, [(&b"a"[..], 0), (b"b", 2)].into_iter()).expect("distinct");
    for (id, rows) in [(1, &[3][..]), (0, &[2]), (0, &[6]), (0, &[3, 3]), (0, &[])] {
        assert!(!saved().give_rows(id, 1, rows), "{id} {rows:?}");
    }
    let mut keys = saved();
    assert!(keys.give_rows(0, 1, &[5, 1]) && keys.give_rows(2, 1, &[4]));
    assert!(!keys.give_rows(2, 1, &[3]) && !keys.give_rows(2, 0, &[1]));
    assert_eq!(keys.fields_with_rows().collect::<Vec<_>>(), [1]);
    let mut documents = Documents::new(&definition);
    documents.reserve(keys);
    documents.put(0, &content([FieldContent::Missing, FieldContent::Vectors(3)]));
    assert_eq!(documents.rows(0, 1), [5, 1]);
    documents.end_reservation();
    // The other document was not met: its id and its row are free.
    assert_eq!((documents.len(), documents.row_count(1)), (1, 2));
    let c = documents.upsert(b"c", &content([FieldContent::Missing, FieldContent::Vectors(3)]));
    assert_eq!((c, documents.rows(c, 1), documents.id_bound()), (2, &[3, 4][..], 6));
    documents.remove(b"a");
    documents.remove(b"c");
    assert_eq!((documents.value_bytes, documents.row_count(1)), (0, 0));
}
