//! Documents with several vectors in a field: KNN and ranges count documents, each with its nearest vector,
//! beside a plain evaluation of all vectors.

use crate::records::{PARTS, run};
use engramdb_testkit::instance::{Instance, Kept, Protocol};
use engramdb_testkit::words::split_words;
use std::collections::BTreeMap;

const DIMENSION: usize = 2;

type Vector = [i32; DIMENSION];

/// A stream of random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// One of few points, so that many vectors are equal and many distances tie.
    fn vector(&mut self) -> Vector {
        [self.below(40) as i32, self.below(40) as i32]
    }
}

/// A document: its vectors, and its tag.
#[derive(Clone, Debug)]
struct Model {
    vectors: Vec<Vector>,
    tag: u64,
}

struct Both {
    instance: Instance,
    documents: BTreeMap<String, Model>,
}

fn schema(algorithm: &str) -> String {
    format!(
        "FT.CREATE i ON RECORD PREFIX 1 r: SCHEMA $.v AS v VECTOR {algorithm} 6 TYPE FLOAT32 DIM 2 \
         DISTANCE_METRIC L2 $.t AS t TAG $.w AS w VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2"
    )
}

impl Both {
    fn new(algorithm: &str) -> Both {
        let mut instance = Instance::with_modules(1, Protocol::Resp2, PARTS);
        assert!(!instance.run(&split_words(&schema(algorithm))).reply.is_error());
        Both { instance, documents: BTreeMap::new() }
    }

    /// The second field has the first vector, and the first vector moved by one: so rows of both fields mix.
    fn set(&mut self, key: &str, document: Model) {
        let word = |[x, y]: &Vector| format!("[{x},{y}]");
        let set = |instance: &mut Instance, path: &str, words: Vec<String>| {
            let head = ["RECORD.SET".to_owned(), key.to_owned(), path.to_owned()];
            let words: Vec<String> = head.into_iter().chain(words).collect();
            assert!(!instance.run(&words).reply.is_error());
        };
        set(&mut self.instance, "$.t", vec![format!("t{}", document.tag)]);
        for (path, words) in [
            ("$.v", document.vectors.iter().map(word).collect::<Vec<_>>()),
            (
                "$.w",
                document
                    .vectors
                    .iter()
                    .take(1)
                    .flat_map(|&[x, y]| [[x, y], [x + 1, y]])
                    .map(|v| word(&v))
                    .collect(),
            ),
        ] {
            // A null among the vectors counts for nothing.
            let words = if words.len() == 3 { [vec!["null".to_owned()], words].concat() } else { words };
            match words.is_empty() {
                true => _ = run(&mut self.instance, &format!("RECORD.REMOVE {key} {path}")),
                false => set(&mut self.instance, path, words),
            }
        }
        self.documents.insert(key.to_owned(), document);
    }

    fn delete(&mut self, key: &str) {
        run(&mut self.instance, &format!("DEL {key}"));
        self.documents.remove(key);
    }

    fn search(&mut self, query: &str, at: Vector) -> Vec<(f64, String)> {
        let blob: Vec<u8> = at.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect();
        let words: [&[u8]; 16] = [
            b"FT.SEARCH",
            b"i",
            query.as_bytes(),
            b"PARAMS",
            b"2",
            b"q",
            &blob,
            b"SORTBY",
            b"d",
            b"RETURN",
            b"1",
            b"d",
            b"LIMIT",
            b"0",
            b"100000",
            b"NOCONTENT",
        ];
        let reply = format!("{:?}", self.instance.run(&words[..15]).reply);
        let elements = reply.trim_matches(['[', ']']).replace(['"', '[', ']'], "");
        let elements: Vec<&str> = elements.split(", ").collect();
        let rows = elements[1..].chunks(3).map(|row| {
            assert_eq!(row[1], "d", "{query}: {reply}");
            (row[2].parse().expect("a distance"), row[0].to_owned())
        });
        let rows: Vec<(f64, String)> = rows.collect();
        assert_eq!(elements[0].parse(), Ok(rows.len()), "{query}: {reply}");
        rows
    }

    /// The documents with the distance of their nearest vector, nearest first.
    fn expected(
        &self,
        at: Vector,
        tag: Option<u64>,
        of: impl Fn(&Model) -> Vec<Vector>,
    ) -> Vec<(f64, String)> {
        let square = |v: Vector| (0..DIMENSION).map(|i| f64::from(v[i] - at[i]).powi(2)).sum::<f64>();
        let matching = self.documents.iter().filter(|(_, model)| tag.is_none_or(|tag| model.tag == tag));
        let nearest = matching.filter_map(|(key, model)| {
            Some((of(model).into_iter().map(square).min_by(f64::total_cmp)?, key.clone()))
        });
        let mut nearest: Vec<(f64, String)> = nearest.collect();
        nearest.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
        nearest
    }

    /// Compares some searches at random points with the model.
    fn check(&mut self, random: &mut Random, times: usize) {
        let distances = |rows: &[(f64, String)]| rows.iter().map(|row| row.0).collect::<Vec<_>>();
        for _ in 0..times {
            let (at, tag) = (random.vector(), random.below(3));
            let k = [1, 3, 10, 50, 1000][random.below(5) as usize];
            for (filter, tag) in [("*".to_owned(), None), (format!("@t:{{t{tag}}}"), Some(tag))] {
                let wanted = self.expected(at, tag, |model| model.vectors.clone());
                let found = self.search(&format!("{filter}=>[KNN {k} @v $q AS d]"), at);
                let first = &wanted[..wanted.len().min(k)];
                assert_eq!(distances(&found), distances(first), "{k} nearest to {at:?} among {filter}");
                // Each with the distance of its own nearest vector, and once.
                let mut rest = wanted.clone();
                for row in &found {
                    let place = rest.iter().position(|other| other == row);
                    rest.remove(place.unwrap_or_else(|| panic!("{row:?} is no row of {wanted:?}")));
                }
                let of_second = self.expected(at, tag, |model| {
                    model.vectors.first().map_or(Vec::new(), |&[x, y]| vec![[x, y], [x + 1, y]])
                });
                let found = self.search(&format!("{filter}=>[KNN {k} @w $q AS d]"), at);
                assert_eq!(found, of_second[..of_second.len().min(k)], "a flat index decides by key");
            }
            let radius = random.below(60) as f64;
            for (filter, tag) in [(String::new(), None), (format!(" @t:{{t{tag}}}"), Some(tag))] {
                let mut wanted = self.expected(at, tag, |model| model.vectors.clone());
                wanted.retain(|row| row.0 <= radius);
                let mut found = self
                    .search(&format!("@v:[VECTOR_RANGE {radius} $q]=>{{$YIELD_DISTANCE_AS: d}}{filter}"), at);
                found.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(&b.1)));
                assert_eq!(found, wanted, "within {radius} of {at:?}{filter}");
            }
        }
    }

    fn change_at_random(&mut self, random: &mut Random, times: usize, keys: u64, most: u64) {
        for _ in 0..times {
            let key = format!("r:{}", random.below(keys));
            match random.below(6) {
                0 => self.delete(&key),
                // Some of the vectors stay, at other places.
                1 if self.documents.contains_key(&key) => {
                    let mut model = self.documents[&key].clone();
                    let by = model.vectors.len().min(1);
                    model.vectors.rotate_left(by);
                    model.vectors.truncate(random.below(most + 1) as usize);
                    self.set(&key, model);
                }
                _ => {
                    let count = random.below(most + 1);
                    let vectors = (0..count).map(|_| random.vector()).collect();
                    self.set(&key, Model { vectors, tag: random.below(3) });
                }
            }
        }
    }
}

#[test]
fn searches_agree_with_a_plain_evaluation_while_documents_come_change_and_go() {
    for algorithm in ["FLAT", "HNSW"] {
        let mut random = Random(7);
        let mut both = Both::new(algorithm);
        for _ in 0..12 {
            both.change_at_random(&mut random, 40, 60, 9);
            both.check(&mut random, 4);
        }
        // All gone, and loaded again.
        let keys: Vec<String> = both.documents.keys().cloned().collect();
        keys.iter().for_each(|key| both.delete(key));
        both.check(&mut random, 2);
        both.change_at_random(&mut random, 60, 60, 9);
        both.check(&mut random, 4);
        both.instance.check_replay();
        both.check(&mut random, 4);
    }
}

#[test]
fn an_index_with_rows_comes_back_from_snapshot_graph_and_log() {
    for algorithm in ["FLAT", "HNSW"] {
        let mut random = Random(11);
        let mut both = Both::new(algorithm);
        both.change_at_random(&mut random, 150, 80, 9);
        both.instance.snapshot();
        both.instance.export();
        both.change_at_random(&mut random, 40, 100, 9);
        for kept in Kept::ALL {
            both.instance.restart_with(kept);
            both.check(&mut random, 4);
            both.change_at_random(&mut random, 20, 100, 9);
            both.check(&mut random, 2);
        }
    }
}

/// Nothing changes between the export and the start, so nothing is inserted again.
#[test]
fn a_saved_graph_with_rows_is_loaded_as_it_was() {
    let mut random = Random(13);
    let mut both = Both::new("HNSW");
    both.change_at_random(&mut random, 150, 80, 9);
    let vectors: usize = both.documents.values().map(|model| model.vectors.len()).sum();
    while !run(&mut both.instance, "FT.INFO i").contains(r#""pending_mutations", 0"#) {
        std::thread::yield_now();
    }
    both.instance.snapshot();
    both.instance.export();
    let report = both.instance.restart_with(Kept::ALL[0]).modules.join("\n");
    assert!(
        report.contains(&format!("{vectors} graph nodes loaded, 0 inserted again, 0 removed")),
        "{report}"
    );
    both.check(&mut random, 6);
}

/// One document has more vectors than all others together, and many documents have many copies of one vector.
#[test]
fn documents_with_a_thousand_vectors_leave_room_for_the_others() {
    for algorithm in ["FLAT", "HNSW"] {
        let mut random = Random(17);
        let mut both = Both::new(algorithm);
        let near = |random: &mut Random| [random.below(3) as i32, random.below(3) as i32];
        both.set("r:big", Model { vectors: (0..1000).map(|_| near(&mut random)).collect(), tag: 0 });
        for number in 0..30 {
            let vectors = vec![[number, 1]; 100];
            both.set(&format!("r:{number:02}"), Model { vectors, tag: number as u64 % 3 });
        }
        for (at, k) in [([1, 1], 10), ([0, 0], 31), ([2, 1], 5)] {
            let wanted = both.expected(at, None, |model| model.vectors.clone());
            let found = both.search(&format!("*=>[KNN {k} @v $q AS d]"), at);
            let distances = |rows: &[(f64, String)]| rows.iter().map(|row| row.0).collect::<Vec<_>>();
            assert_eq!(distances(&found), distances(&wanted[..k]), "{algorithm}: {k} nearest to {at:?}");
        }
        both.check(&mut random, 4);
        both.delete("r:big");
        both.check(&mut random, 4);
    }
}
