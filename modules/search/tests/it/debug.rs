//! FT.DEBUG: the checker of graphs, and RediSearch's texts for wrong requests.

use crate::harness::{Server, blob};

#[test]
fn a_graph_is_checked() {
    let mut server = Server::new();
    server.resp3 = true;
    server.line("FT.CREATE idx SCHEMA v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2");
    let empty = server.line("FT.DEBUG CHECK_GRAPH idx v");
    assert!(empty.starts_with(r#"{"sound": 1, "live": 0, "#), "{empty}");
    for number in 0..300 {
        // Every third is a copy of the first.
        let place = if number % 3 == 0 { 0 } else { number };
        server.hset(&format!("d:{number}"), &[("v", &blob(&[place as f32, 1.0]))]);
    }
    while !server.line("FT.INFO idx").contains(r#""pending_mutations": 0"#) {}
    let checked = concat!(
        r#"{"sound": 1, "live": 300, "pending_mutations": 0, "places": 201, "members": 99, "unreachable": 0, "unkept": 0, "#,
        r#""linked_by_copies_only": 0, "dangling": 0, "lost_members": 0, "unreachable_keys": []}"#
    );
    assert_eq!(server.line("FT.DEBUG check_graph idx v"), checked);
    server.resp3 = false;
    assert!(server.line("ft.debug CHECK_GRAPH idx v").starts_with(r#"["sound", 1, "live", 300, "#));
    assert_eq!(server.line("FT.DEBUG HELP"), r#"[CHECK_GRAPH]"#);
}

#[test]
fn requests_that_make_no_sense_get_an_error() {
    let server = Server::new();
    server.line(
        "FT.CREATE idx SCHEMA t TEXT v VECTOR HNSW 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2 w VECTOR FLAT 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2",
    );
    for (line, error) in [
        ("FT.DEBUG", "ERR wrong number of arguments for 'FT.DEBUG' command"),
        ("FT.DEBUG nosuch", "ERR unknown subcommand 'nosuch'. Try FT.DEBUG HELP."),
        ("FT.DEBUG CHECK_GRAPH idx", "ERR wrong number of arguments for 'FT.DEBUG|CHECK_GRAPH' command"),
        ("FT.DEBUG CHECK_GRAPH idx v w", "ERR wrong number of arguments for 'FT.DEBUG|CHECK_GRAPH' command"),
        ("FT.DEBUG CHECK_GRAPH nosuch v", "Can not create a search ctx"),
        ("FT.DEBUG CHECK_GRAPH idx nosuch", "Vector index not found"),
        ("FT.DEBUG CHECK_GRAPH idx t", "Vector index not found"),
        ("FT.DEBUG CHECK_GRAPH idx w", "Vector index not found"),
    ] {
        assert_eq!(server.line(line), error, "{line}");
    }
}
