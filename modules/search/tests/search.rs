//! FT.* in this process: replies, errors, and what mutations do to them.

#[allow(dead_code)] // Shared by several test files.
mod harness;

use harness::{Server, blob};

fn vectors_index(algorithm: &str) -> Server {
    let server = Server::new();
    let create = format!(
        "FT.CREATE idx ON HASH PREFIX 1 d: SCORE 1.0 SCHEMA t TEXT WEIGHT 1 c TAG SEPARATOR , n NUMERIC \
         v VECTOR {algorithm} 6 TYPE FLOAT32 DIM 2 DISTANCE_METRIC L2"
    );
    assert_eq!(server.line(&create), "OK");
    server
}

fn knn(server: &Server, query: &str, vector: &[f32]) -> String {
    let vector = blob(vector);
    server.run(&[
        b"FT.SEARCH",
        b"idx",
        query.as_bytes(),
        b"RETURN",
        b"1",
        b"d",
        b"PARAMS",
        b"2",
        b"v",
        &vector,
    ])
}

#[test]
fn nearest_neighbours_are_replied_in_distance_order_as_soon_as_they_are_written() {
    for algorithm in ["FLAT", "HNSW"] {
        let server = vectors_index(algorithm);
        for (key, x) in [("d:1", 1.0), ("d:2", 2.0), ("d:3", 3.0), ("other", 0.0)] {
            server.hset(key, &[("v", &blob(&[x, 0.0]))]);
        }
        let query = "*=>[KNN 2 @v $v AS d]";
        assert_eq!(
            knn(&server, query, &[2.75, 0.0]),
            r#"[2, "d:3", ["d", "0.0625"], "d:2", ["d", "0.5625"]]"#
        );
        server.hset("d:2", &[("v", &blob(&[2.75, 0.0]))]);
        assert_eq!(knn(&server, query, &[2.75, 0.0]), r#"[2, "d:2", ["d", "0"], "d:3", ["d", "0.0625"]]"#);
        server.line("DEL d:2");
        assert_eq!(
            knn(&server, query, &[2.75, 0.0]),
            r#"[2, "d:3", ["d", "0.0625"], "d:1", ["d", "3.0625"]]"#
        );
        server.line("HDEL d:3 v");
        assert_eq!(knn(&server, query, &[2.75, 0.0]), r#"[1, "d:1", ["d", "3.0625"]]"#);
    }
}
