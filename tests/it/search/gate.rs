//! While the log's sync is blocked, no answer of FT.* is sent that shows or lacks something which could still
//! be lost; answers of indexes that were not changed are sent.

use super::{Served, show, vector_word};
use engramdb_resp::Protocol;
use engramdb_testkit::tcp::Client;
use engramdb_testkit::words::split_words;

/// Two indexes, `touched` over `t:` and `other` over `o:`, with two documents each, and a key outside; all
/// durable.
fn two_indexes(algorithm: &str) -> Served {
    let served = Served::stalled();
    let mut client = served.client(Protocol::Resp2);
    for (index, prefix) in [("touched", "t:"), ("other", "o:")] {
        let create = format!(
            "FT.CREATE {index} PREFIX 1 {prefix} SCHEMA c TAG n NUMERIC \
             v VECTOR {algorithm} 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2"
        );
        assert_eq!(show(&served.settle(&mut client, &create)), "+\"OK\"");
        for (number, x) in [(1, 1.0), (2, 2.0)] {
            let stored = served.settle(&mut client, &document(&format!("{prefix}{number}"), "red", x));
            assert_eq!(show(&stored), "3");
        }
    }
    assert_eq!(show(&served.settle(&mut client, "SET plain 1")), "+\"OK\"");
    served
}

fn document(key: &str, tag: &str, x: f32) -> String {
    format!("HSET {key} c {tag} n {x} v {}", vector_word(&[x, 0.0]))
}

/// Every kind of search of an index, and FT.INFO.
fn searches(index: &str) -> Vec<String> {
    let near = format!("PARAMS 2 q {} NOCONTENT", vector_word(&[3.0, 0.0]));
    vec![
        format!("FT.SEARCH {index} \"*=>[KNN 2 @v $q]\" {near}"),
        format!("FT.SEARCH {index} \"(@c:{{red}})=>[KNN 2 @v $q]\" {near}"),
        format!("FT.SEARCH {index} \"@v:[VECTOR_RANGE 1.5 $q]\" {near}"),
        format!("FT.SEARCH {index} @c:{{red}} NOCONTENT"),
        format!("FT.SEARCH {index} \"@n:[3 +inf]\" RETURN 1 n SORTBY n"),
        format!("FT.SEARCH {index} * LIMIT 0 0"),
        format!("FT.SEARCH {index} @c:{{absent}}"),
        format!("FT.SEARCH {index} @absent:{{red}}"),
        format!("FT.INFO {index}"),
    ]
}

fn client_in(served: &Served, database: u32) -> Client {
    let mut client = served.client(Protocol::Resp2);
    assert_eq!(show(&client.run(&["SELECT", &database.to_string()])), "+\"OK\"");
    client
}

/// Sends each line on a separate connection.
fn send_all(served: &Served, lines: &[impl AsRef<str>], database: u32) -> Vec<Client> {
    let each = lines.iter().map(|line| {
        let mut client = client_in(served, database);
        client.send(&split_words(line.as_ref()));
        client
    });
    each.collect()
}

/// Checks that the held answers are not sent, while those in `free`, sent later, are; after the sync the
/// answers of `held` arrive. Returns them.
fn stay_until_sync(
    served: &Served,
    held: &[impl AsRef<str>],
    free: &[impl AsRef<str>],
    database: u32,
) -> Vec<String> {
    let mut waiting = send_all(served, held, database);
    for (line, mut client) in free.iter().zip(send_all(served, free, 0)) {
        let reply = client.receive();
        assert!(!show(&reply).is_empty(), "{}", line.as_ref());
    }
    for (line, client) in held.iter().zip(&mut waiting) {
        println!("held: {}", line.as_ref());
        client.stays_silent();
    }
    served.sync();
    waiting.iter_mut().map(|client| show(&client.receive())).collect()
}

/// Searches whose answers do not depend on `touched`.
fn untouched() -> Vec<String> {
    let mut lines = searches("other");
    lines.extend(["GET plain".to_owned(), "GET absent".to_owned(), "HGET o:1 c".to_owned()]);
    lines
}

/// Blocks a write, checks that all searches of `touched` wait for it, and that they then see it: the expected
/// keys are in the order of `searches`.
fn check_write(write: &str, expected: [&str; 6]) {
    for algorithm in ["FLAT", "HNSW"] {
        let served = two_indexes(algorithm);
        let mut writer = served.client(Protocol::Resp2);
        served.apply(&mut writer, write);
        let replies = stay_until_sync(&served, &searches("touched"), &untouched(), 0);
        assert_eq!(replies[..6], expected, "{algorithm}: {write}");
        assert!(!writer.receive().is_error(), "{write}");
    }
}

#[test]
fn a_new_document_shows_when_it_is_durable() {
    check_write(
        &document("t:3", "red", 3.0),
        [
            r#"[2, "t:3", "t:2"]"#,
            r#"[2, "t:3", "t:2"]"#,
            r#"[2, "t:2", "t:3"]"#,
            r#"[3, "t:1", "t:2", "t:3"]"#,
            r#"[1, "t:3", ["n", "3"]]"#,
            "[3]",
        ],
    );
}

#[test]
fn a_deleted_document_is_missing_when_that_is_durable() {
    for write in
        ["DEL t:2", "UNLINK t:2", "HDEL t:2 c n v", "PEXPIREAT t:2 1", "RENAME t:2 x", "SET t:2 string"]
    {
        check_write(write, [r#"[1, "t:1"]"#, r#"[1, "t:1"]"#, "[0]", r#"[1, "t:1"]"#, "[0]", "[1]"]);
    }
}

#[test]
fn a_changed_document_shows_as_changed_when_that_is_durable() {
    check_write(
        &document("t:1", "blue", 3.0),
        [
            r#"[2, "t:1", "t:2"]"#,
            r#"[1, "t:2"]"#,
            r#"[2, "t:1", "t:2"]"#,
            r#"[1, "t:2"]"#,
            r#"[1, "t:1", ["n", "3"]]"#,
            "[2]",
        ],
    );
}

/// Even if the write does not affect the rows of a filter, they contain fields of the document.
#[test]
fn a_field_outside_the_schema_shows_when_it_is_durable() {
    let served = two_indexes("FLAT");
    let mut writer = served.client(Protocol::Resp2);
    served.apply(&mut writer, "HSET t:1 title new");
    let replies =
        stay_until_sync(&served, &["FT.SEARCH touched \"@n:[1 1]\" RETURN 1 title"], &untouched(), 0);
    assert_eq!(replies, [r#"[1, "t:1", ["title", "new"]]"#]);
}

#[test]
fn a_created_index_shows_when_it_is_durable() {
    let served = two_indexes("HNSW");
    let mut writer = served.client(Protocol::Resp2);
    served.apply(&mut writer, "FT.CREATE new PREFIX 1 o: SCHEMA c TAG");
    let held = [
        "FT._LIST",
        "FT.INFO new",
        "FT.SEARCH new @c:{red} LIMIT 0 0",
        "FT.SEARCH new @c:{absent}",
        "FT.SEARCH new @nope:{x}",
        "FT.CREATE new SCHEMA c TAG",
    ];
    let replies = stay_until_sync(&served, &held, &["FT.INFO other"], 0);
    assert!(replies[0].contains("\"new\""), "{replies:?}");
    assert!(replies[1].contains(r#""index_name", "new""#), "{replies:?}");
    assert_eq!(replies[2..4], ["[2]", "[0]"]);
    assert!(replies[4].starts_with("-\"Unknown field"), "{replies:?}");
    assert_eq!(replies[5], "-\"Index already exists\"");
    assert_eq!(show(&writer.receive()), "+\"OK\"");
}

/// The replies of FT.INFO, FT.SEARCH and FT.DROPINDEX for a missing index.
const MISSING: [&str; 3] =
    ["-\"Unknown index name\"", "-\"touched: no such index\"", "-\"Unknown Index name\""];

#[test]
fn a_dropped_index_is_missing_when_that_is_durable() {
    for (write, documents) in
        [("FT.DROPINDEX touched", ":2"), ("FT.DROPINDEX touched DD", ":0"), ("FLUSHDB", ":0")]
    {
        let served = two_indexes("HNSW");
        let mut writer = served.client(Protocol::Resp2);
        served.apply(&mut writer, write);
        let held =
            ["FT._LIST", "FT.INFO touched", "FT.SEARCH touched *", "FT.DROPINDEX touched", "EXISTS t:1 t:2"];
        let replies = stay_until_sync(&served, &held, &["PING"], 0);
        assert!(!replies[0].contains("\"touched\""), "{replies:?}");
        assert_eq!(replies[1..4], MISSING, "{write}");
        assert_eq!(replies[4], documents[1..], "{write}");
        assert_eq!(show(&writer.receive()), "+\"OK\"");
    }
}

/// An index moves with its database: its presence or absence can be lost like any other change.
#[test]
fn an_index_shows_in_its_new_database_when_the_swap_is_durable() {
    let lines = [
        "FT._LIST",
        "FT.INFO touched",
        "FT.SEARCH touched @c:{red} NOCONTENT",
        "FT.SEARCH touched @c:{absent}",
        "FT.SEARCH touched @nope:{x}",
        "FT.SEARCH touched * LIMIT 0 0",
        "FT.CREATE touched SCHEMA c TAG",
    ];
    let served = two_indexes("HNSW");
    let mut writer = served.client(Protocol::Resp2);
    served.apply(&mut writer, "SWAPDB 0 1");
    let replies = stay_until_sync(&served, &lines, &["PING"], 1);
    assert!(replies[0].contains("\"touched\""), "{replies:?}");
    assert!(replies[1].contains(r#""index_name", "touched""#), "{replies:?}");
    assert_eq!(replies[2..4], [r#"[2, "t:1", "t:2"]"#, "[0]"]);
    assert_eq!(replies[5..], ["[2]", "-\"Index already exists\""]);
    let served = two_indexes("HNSW");
    let mut writer = served.client(Protocol::Resp2);
    served.apply(&mut writer, "SWAPDB 0 1");
    let replies = stay_until_sync(&served, &lines[..6], &["PING"], 0);
    assert_eq!(replies[0], "[]");
    assert_eq!(replies[1..3], MISSING[..2]);
    replies[3..].iter().for_each(|reply| assert_eq!(*reply, MISSING[1]));
}

/// On one connection, wherever the commands ran: searches on the connection's own thread, in the pool, and
/// plain reads.
#[test]
fn held_replies_of_one_connection_come_in_its_order() {
    let served = two_indexes("HNSW");
    let mut client = served.client(Protocol::Resp2);
    let (touched, other) = (searches("touched"), searches("other"));
    let new = document("t:3", "red", 3.0);
    let lines = ["GET plain", &other[2], &new, &touched[2], &other[0], &touched[0], "GET plain", &touched[5]];
    for line in lines {
        client.send(&split_words(line));
    }
    assert_eq!(show(&client.receive()), "\"1\"");
    assert_eq!(show(&client.receive()), r#"[1, "o:2"]"#);
    client.stays_silent();
    let mut rest = Vec::new();
    while rest.len() < lines.len() - 2 {
        served.sync();
        rest.extend(client.receive_within(std::time::Duration::from_millis(1)).map(|reply| show(&reply)));
    }
    assert_eq!(
        rest,
        ["3", r#"[2, "t:2", "t:3"]"#, r#"[2, "o:2", "o:1"]"#, r#"[2, "t:3", "t:2"]"#, "\"1\"", "[3]"]
    );
}

/// EXEC holds back the write and its search alike.
#[test]
fn a_search_inside_exec_waits_for_what_it_shows() {
    let served = two_indexes("FLAT");
    let mut writer = served.client(Protocol::Resp2);
    served.apply(&mut writer, &document("t:3", "red", 3.0));
    let mut client = served.client(Protocol::Resp2);
    for line in ["MULTI", &searches("touched")[0], "EXEC"] {
        client.send(&split_words(line));
    }
    assert_eq!(show(&client.receive()), "+\"OK\"");
    assert_eq!(show(&client.receive()), "+\"QUEUED\"");
    let mut free = served.client(Protocol::Resp2);
    for line in ["MULTI", &searches("other")[0], "EXEC"] {
        free.send(&split_words(line));
    }
    assert_eq!(show(&free.receive()), "+\"OK\"");
    assert_eq!(show(&free.receive()), "+\"QUEUED\"");
    assert_eq!(show(&free.receive()), r#"[[2, "o:2", "o:1"]]"#);
    client.stays_silent();
    served.sync();
    assert_eq!(show(&client.receive()), r#"[[2, "t:3", "t:2"]]"#);
}
