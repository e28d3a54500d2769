//! The shape of replies: flat in RESP2, maps in RESP3.

use super::{Served, ask, show, vector_word};
use engramdb_resp::{Protocol, Value};
use engramdb_testkit::tcp::Client;

/// Four documents; the last one has no price, and its title is not requested.
fn shop() -> (Served, Client) {
    let served = Served::start();
    let mut client = served.client(Protocol::Resp2);
    let create = "FT.CREATE shop PREFIX 1 p: SCHEMA color AS c TAG SORTABLE price NUMERIC SORTABLE \
                  v VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2";
    assert_eq!(ask(&mut client, create), "+\"OK\"");
    for (key, color, price, x) in
        [("p:1", "red", "30", 1.0), ("p:2", "Blue", "10", 2.0), ("p:3", "red", "20", 4.0)]
    {
        let vector = vector_word(&[x, 0.0]);
        assert_eq!(ask(&mut client, &format!("HSET {key} color {color} price {price} v {vector}")), "3");
    }
    assert_eq!(
        ask(&mut client, &format!("HSET p:4 color green v {} title t", vector_word(&[8.0, 0.0]))),
        "3"
    );
    (served, client)
}

fn nearest(client: &mut Client, filter: &str, options: &str) -> String {
    let vector = vector_word(&[0.0, 0.0]);
    ask(client, &format!("FT.SEARCH shop \"{filter}=>[KNN 3 @v $q AS d]\" PARAMS 2 q {vector} {options}"))
}

#[test]
fn rows_are_flat_in_resp2() {
    let (_served, mut client) = shop();
    for (options, reply) in [
        ("NOCONTENT", r#"[3, "p:1", "p:2", "p:3"]"#),
        ("RETURN 0", r#"[3, "p:1", "p:2", "p:3"]"#),
        ("RETURN 1 d LIMIT 1 1", r#"[3, "p:2", ["d", "4"]]"#),
        ("RETURN 4 c AS colour price LIMIT 0 1", r#"[3, "p:1", ["colour", "red", "price", "30"]]"#),
        ("RETURN 2 __key nothing LIMIT 0 1", r#"[3, "p:1", ["__key", "p:1"]]"#),
        ("RETURN 2 d @d LIMIT 2 5", r#"[3, "p:3", ["d", "16"]]"#),
        ("NOCONTENT LIMIT 0 0", "[3]"),
        ("NOCONTENT LIMIT 7 2", "[3]"),
        ("NOCONTENT SORTBY d DESC", r#"[3, "p:3", "p:2", "p:1"]"#),
        ("NOCONTENT SORTBY price", r#"[3, "p:2", "p:3", "p:1"]"#),
        ("NOCONTENT SORTBY @price DESC LIMIT 0 1", r#"[3, "p:1"]"#),
        ("NOCONTENT WITHSORTKEYS SORTBY price LIMIT 0 1", r##"[3, "p:2", "#10"]"##),
        ("NOCONTENT WITHSORTKEYS SORTBY c LIMIT 0 1", r#"[3, "p:2", "$blue"]"#),
        ("NOCONTENT WITHSCORES WITHPAYLOADS LIMIT 0 1", r#"[3, "p:1", "0", null]"#),
        ("NOCONTENT INKEYS 2 p:3 p:4", r#"[2, "p:3", "p:4"]"#),
    ] {
        assert_eq!(nearest(&mut client, "*", options), reply, "{options}");
    }
    let all =
        r#"[1, "p:1", ["d", "1", "color", "red", "price", "30", "v", "\x00\x00\x80?\x00\x00\x00\x00"]]"#;
    assert_eq!(
        nearest(&mut client, "@price:[30 inf]", ""),
        all,
        "without RETURN, the distance and all of the hash"
    );
}

#[test]
fn rows_without_the_field_come_last_in_either_direction() {
    let (_served, mut client) = shop();
    let sorted = |client: &mut Client, order: &str| {
        ask(client, &format!("FT.SEARCH shop * NOCONTENT SORTBY price {order}"))
    };
    assert_eq!(sorted(&mut client, "ASC"), r#"[4, "p:2", "p:3", "p:1", "p:4"]"#);
    assert_eq!(sorted(&mut client, "DESC"), r#"[4, "p:1", "p:3", "p:2", "p:4"]"#);
    let page = ask(&mut client, "FT.SEARCH shop * NOCONTENT SORTBY price ASC LIMIT 1 2");
    assert_eq!(page, r#"[4, "p:3", "p:1"]"#);
}

#[test]
fn rows_are_maps_in_resp3() {
    let (served, _) = shop();
    let mut client = served.client(Protocol::Resp3);
    let head = r#""attributes": [], "format": "STRING", "total_results": 3, "warning": []"#;
    for (options, row) in [
        ("NOCONTENT", r#"{"id": "p:1", "values": []}"#),
        ("RETURN 2 c d", r#"{"id": "p:1", "extra_attributes": {"d": "1", "c": "red"}, "values": []}"#),
        (
            "RETURN 0 WITHSCORES WITHPAYLOADS WITHSORTKEYS SORTBY d",
            r##"{"id": "p:1", "score": 0.0, "payload": null, "sortkey": "#1", "values": []}"##,
        ),
    ] {
        let reply = nearest(&mut client, "*", &format!("{options} LIMIT 0 1"));
        assert_eq!(reply, format!("{{{head}, \"results\": [{row}]}}"), "{options}");
    }
    assert_eq!(ask(&mut client, "FT._LIST"), r#"{"shop"}"#, "a set");
}

/// valkey-glide uses RESP3 and expects replies as valkey-search writes them, which are flat.
#[test]
fn replies_are_flat_for_clients_that_read_them_so() {
    let (served, _) = shop();
    let mut client = served.client(Protocol::Resp3);
    let row = |client: &mut Client| nearest(client, "*", "RETURN 2 c d LIMIT 0 1");
    assert!(row(&mut client).starts_with(r#"{"attributes""#));
    assert_eq!(ask(&mut client, "CLIENT SETINFO LIB-NAME GlidePy"), "+\"OK\"");
    let flat = r#"[3, "p:1", ["d", "1", "c", "red"]]"#;
    assert_eq!(row(&mut client), flat);
    assert_eq!(ask(&mut client, "FT._LIST"), r#"["shop"]"#);
    assert!(ask(&mut client, "FT.INFO shop").starts_with(r#"["index_name", "shop", "index_options", []"#));
    assert_eq!(ask(&mut client, "FT.SEARCH none *"), "-\"none: no such index\"");
    assert_eq!(ask(&mut client, "FT.CONFIG SET search-resp3-format map"), "+\"OK\"");
    assert!(row(&mut client).starts_with(r#"{"attributes""#));
    let mut other = served.client(Protocol::Resp3);
    assert_eq!(ask(&mut other, "FT.CONFIG SET search-resp3-format flat"), "+\"OK\"");
    assert_eq!(row(&mut other), flat);
    assert_eq!(ask(&mut other, "FT.CONFIG SET search-resp3-format auto"), "+\"OK\"");
    assert!(row(&mut other).starts_with(r#"{"attributes""#));
    assert_eq!(row(&mut client), flat);
}

/// The names of FT.INFO's pairs, in either form.
fn names(info: &Value) -> Vec<String> {
    let bulk = |value: &Value| match value {
        Value::Bulk(name) => String::from_utf8_lossy(name).into_owned(),
        other => panic!("{other:?} is no name"),
    };
    match info {
        Value::Array(flat) => flat.iter().step_by(2).map(bulk).collect(),
        Value::Map(pairs) => pairs.iter().map(|(name, _)| bulk(name)).collect(),
        other => panic!("{other:?} is no list of pairs"),
    }
}

/// RediSearch's order: some clients read by position.
const INFO_NAMES: &str = "index_name index_options index_definition attributes num_docs max_doc_id num_terms num_records \
    inverted_sz_mb vector_index_sz_mb total_inverted_index_blocks offset_vectors_sz_mb doc_table_size_mb \
    sortable_values_size_mb key_table_size_mb tag_overhead_sz_mb text_overhead_sz_mb total_index_memory_sz_mb \
    geoshapes_sz_mb records_per_doc_avg bytes_per_record_avg offsets_per_term_avg offset_bits_per_record_avg \
    hash_indexing_failures total_indexing_time indexing percent_indexed number_of_uses number_of_admin_ops cleaning \
    gc_stats cursor_stats dialect_stats Index·Errors field·statistics pending_mutations live_recall";

#[test]
fn an_index_is_described_in_redisearch_order() {
    let (served, _) = shop();
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        let info = served.client(protocol).run(&["FT.INFO", "shop"]);
        let expected: Vec<String> =
            INFO_NAMES.split_whitespace().map(|name| name.replace('·', " ")).collect();
        assert_eq!(names(&info), expected);
        let text = show(&info);
        let attributes = match protocol {
            Protocol::Resp2 => [
                r#"["key_type", "HASH", "prefixes", ["p:"], "default_score", "1", "indexes_all", "false"]"#,
                r#"["identifier", "color", "attribute", "c", "type", "TAG", "SEPARATOR", ",", "SORTABLE"]"#,
                r#""type", "VECTOR", "algorithm", "FLAT", "data_type", "FLOAT32", "dim", 2, "distance_metric", "L2"]"#,
            ],
            Protocol::Resp3 => [
                r#"{"key_type": "HASH", "prefixes": ["p:"], "default_score": 1.0, "indexes_all": "false"}"#,
                r#"{"identifier": "color", "attribute": "c", "type": "TAG", "SEPARATOR": ",", "flags": ["SORTABLE"]}"#,
                r#""algorithm": "FLAT", "data_type": "FLOAT32", "dim": 2, "distance_metric": "L2", "flags": []}"#,
            ],
        };
        for attribute in attributes {
            assert!(text.contains(attribute), "{attribute} in {text}");
        }
    }
}

#[test]
fn settings_are_known_to_config_too() {
    let (_served, mut client) = shop();
    assert_eq!(ask(&mut client, "CONFIG GET search-timeout"), r#"["search-timeout", "500"]"#);
    for (line, reply) in [
        ("CONFIG SET search-timeout 100 search-error-style codes", "+\"OK\""),
        (
            "CONFIG GET search-timeout search-error-style",
            r#"["search-timeout", "100", "search-error-style", "codes"]"#,
        ),
        ("FT.CONFIG GET TIMEOUT", r#"[[+"TIMEOUT", "100"]]"#),
        ("FT.SEARCH none *", "-\"SEARCH_INDEX_NOT_FOUND Index not found: none\""),
        (
            "CONFIG SET search-error-style plain search-timeout x",
            "-\"ERR CONFIG SET failed (possibly related to argument \\'search-timeout\\') - Could not convert argument to expected type\"",
        ),
        ("CONFIG GET search-error-style", r#"["search-error-style", "codes"]"#),
        (
            "CONFIG SET search-timeout 1 search-timeout 2",
            "-\"ERR CONFIG SET failed (possibly related to argument \\'search-timeout\\') - duplicate parameter\"",
        ),
        (
            "CONFIG SET search-min-prefix 0",
            "-\"ERR CONFIG SET failed (possibly related to argument \\'search-min-prefix\\') - Value is outside acceptable bounds\"",
        ),
        ("CONFIG GET search-union-iterator-heap", r#"["search-union-iterator-heap", "20"]"#),
        ("CONFIG SET search-union-iterator-heap 20", "+\"OK\""),
        (
            "CONFIG SET search-union-iterator-heap 2",
            "-\"ERR CONFIG SET failed (possibly related to argument \\'search-union-iterator-heap\\') - it does not apply to this server\"",
        ),
        ("CONFIG SET search-timeout", "-\"ERR wrong number of arguments for \\'config|set\\' command\""),
        ("CONFIG GET search-timeout", r#"["search-timeout", "100"]"#),
    ] {
        assert_eq!(ask(&mut client, line), reply, "{line}");
    }
}
