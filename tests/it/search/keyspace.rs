//! The effects on an index of commands on keys and databases, of expiry and of restarts.

use super::{Served, ask, vector_word};
use engramdb_resp::Protocol;
use engramdb_testkit::tcp::Client;

/// The keys that a word search and a nearest-neighbour search find; both must be the same.
fn found(client: &mut Client) -> String {
    let sorted = ask(client, "FT.SEARCH idx @c:{red} NOCONTENT SORTBY n LIMIT 0 20");
    let vector = vector_word(&[0.0, 0.0]);
    for field in ["flat", "hnsw"] {
        let query = format!("FT.SEARCH idx \"@c:{{red}}=>[KNN 20 @{field} $q]\" PARAMS 2 q {vector}");
        assert_eq!(ask(client, &format!("{query} NOCONTENT LIMIT 0 20")), sorted, "{field}");
    }
    assert_eq!(
        ask(client, "FT.SEARCH idx @c:{red} LIMIT 0 0").trim_end_matches(']'),
        sorted.split([',', ']']).next().expect("one part")
    );
    sorted
}

fn put(client: &mut Client, key: &str, n: u32) {
    let vector = vector_word(&[n as f32, 0.0]);
    let line = format!("HSET {key} c red n {n} flat {vector} hnsw {vector}");
    assert_eq!(ask(client, &line), "4");
}

fn indexed() -> (Served, Client) {
    let served = Served::start();
    let mut client = served.client(Protocol::Resp2);
    let create = "FT.CREATE idx PREFIX 1 d: SCHEMA c TAG n NUMERIC SORTABLE \
                  flat VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2 \
                  hnsw VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(ask(&mut client, create), "+\"OK\"");
    (1..=3).for_each(|n| put(&mut client, &format!("d:{n}"), n));
    assert_eq!(found(&mut client), r#"[3, "d:1", "d:2", "d:3"]"#);
    (served, client)
}

#[test]
fn a_document_follows_its_key() {
    let (_served, mut client) = indexed();
    for (line, reply, keys) in [
        ("RENAME d:1 d:9", "+\"OK\"", r#"[3, "d:9", "d:2", "d:3"]"#),
        ("RENAME d:9 x", "+\"OK\"", r#"[2, "d:2", "d:3"]"#),
        ("RENAME x d:1", "+\"OK\"", r#"[3, "d:1", "d:2", "d:3"]"#),
        ("RENAME d:2 d:1", "+\"OK\"", r#"[2, "d:1", "d:3"]"#),
        ("COPY d:3 d:0", "1", r#"[3, "d:1", "d:3", "d:0"]"#),
        ("COPY d:1 d:0 REPLACE", "1", r#"[3, "d:1", "d:0", "d:3"]"#),
        ("COPY d:1 d:5 DB 1", "1", r#"[3, "d:1", "d:0", "d:3"]"#),
        ("MOVE d:0 1", "1", r#"[2, "d:1", "d:3"]"#),
        ("SET d:1 string", "+\"OK\"", r#"[1, "d:3"]"#),
        ("GETDEL d:1", "\"string\"", r#"[1, "d:3"]"#),
        ("HSET d:3 c blue", "0", "[0]"),
        ("HSET d:3 c blue,red", "0", r#"[1, "d:3"]"#),
        ("UNLINK d:3", "1", "[0]"),
    ] {
        assert_eq!(ask(&mut client, line), reply, "{line}");
        // Equal distances and numbers are ordered by key or by id, which differs for a copy.
        let sort = |reply: &str| {
            let mut keys: Vec<String> =
                reply.split(", ").map(|key| key.trim_matches(['[', ']']).to_owned()).collect();
            keys.sort();
            keys
        };
        let search = ask(&mut client, "FT.SEARCH idx @c:{red} NOCONTENT SORTBY n");
        assert_eq!(sort(&search), sort(keys), "{line}");
    }
}

#[test]
fn an_index_belongs_to_its_database() {
    let (served, mut client) = indexed();
    let mut other = served.client(Protocol::Resp2);
    assert_eq!(ask(&mut other, "SELECT 1"), "+\"OK\"");
    let missing = "-\"idx: no such index\"";
    assert_eq!(ask(&mut other, "FT.SEARCH idx *"), missing);
    assert_eq!(ask(&mut client, "SWAPDB 0 1"), "+\"OK\"");
    assert_eq!(ask(&mut client, "FT.SEARCH idx *"), missing);
    assert_eq!(found(&mut other), r#"[3, "d:1", "d:2", "d:3"]"#);
    put(&mut other, "d:0", 0);
    put(&mut client, "d:7", 7);
    assert_eq!(found(&mut other), r#"[4, "d:0", "d:1", "d:2", "d:3"]"#);
    assert_eq!(ask(&mut client, "FLUSHDB"), "+\"OK\"");
    assert_eq!(found(&mut other), r#"[4, "d:0", "d:1", "d:2", "d:3"]"#);
    assert_eq!(ask(&mut client, "FLUSHALL"), "+\"OK\"");
    assert_eq!(ask(&mut other, "FT._LIST"), "[]");
}

#[test]
fn expired_keys_and_fields_are_not_found() {
    let (served, mut client) = indexed();
    assert_eq!(ask(&mut client, "PEXPIRE d:1 1000"), "1");
    assert_eq!(ask(&mut client, "HPEXPIRE d:2 1000 FIELDS 1 c"), "[1]");
    assert_eq!(found(&mut client), r#"[3, "d:1", "d:2", "d:3"]"#);
    served.advance_ms(1001);
    for _ in 0..2 {
        assert_eq!(found(&mut client), r#"[1, "d:3"]"#);
        // A document that has lost its tag is not red, and still has its vector.
        assert_eq!(ask(&mut client, "FT.SEARCH idx -@c:{red} NOCONTENT"), r#"[1, "d:2"]"#);
        let vector = vector_word(&[0.0, 0.0]);
        for field in ["flat", "hnsw"] {
            for (filter, keys) in [("-@c:{red}", r#"[1, "d:2"]"#), ("*", r#"[2, "d:2", "d:3"]"#)] {
                let query = format!(
                    "FT.SEARCH idx \"({filter})=>[KNN 2 @{field} $q]\" PARAMS 2 q {vector} NOCONTENT"
                );
                assert_eq!(ask(&mut client, &query), keys, "{query}");
            }
        }
        served.expire_due();
    }
    put(&mut client, "d:1", 1);
    served.advance_ms(1001);
    assert_eq!(found(&mut client), r#"[2, "d:1", "d:3"]"#, "a new key has no expiry of the old one");
}

#[test]
fn a_restart_changes_no_answer() {
    let (mut served, mut client) = indexed();
    assert_eq!(ask(&mut client, "SWAPDB 0 1"), "+\"OK\"");
    assert_eq!(ask(&mut client, "SELECT 1"), "+\"OK\"");
    assert_eq!(ask(&mut client, "DEL d:2"), "1");
    put(&mut client, "d:8", 8);
    let before = (found(&mut client), ask(&mut client, "FT._LIST"));
    assert_eq!(before.0, r#"[3, "d:1", "d:3", "d:8"]"#);
    served.restart();
    let mut client = served.client(Protocol::Resp2);
    assert_eq!(ask(&mut client, "SELECT 1"), "+\"OK\"");
    assert_eq!((found(&mut client), ask(&mut client, "FT._LIST")), before);
    put(&mut client, "d:9", 9);
    assert_eq!(found(&mut client), r#"[4, "d:1", "d:3", "d:8", "d:9"]"#);
    assert_eq!(ask(&mut client, "FT.DROPINDEX idx DD"), "+\"OK\"");
    assert_eq!(ask(&mut client, "DBSIZE"), "0");
}
