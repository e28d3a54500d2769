//! GEO fields: circles in queries and GEOFILTER. Replies and errors are RediSearch's, but for what it misses
//! at the poles.

use crate::harness::Server;

fn index() -> Server {
    let server = Server::new();
    let created = server.line(
        "FT.CREATE i PREFIX 1 g: SCHEMA loc GEO t TAG hidden GEO NOINDEX other GEO SORTABLE INDEXMISSING",
    );
    assert_eq!(created, "OK");
    for (key, place) in [
        ("a", "0,0"),
        ("b", "1 1"),
        ("c", "179.99,0"),
        ("d", "-179.99,0"),
        ("e", "0,85"),
        ("f", "180,85"),
        ("n", "-180,-85.05"),
    ] {
        let place = place.as_bytes();
        server.hset(&format!("g:{key}"), &[("loc", place), ("hidden", place), ("t", b"x")]);
    }
    server.hset("g:a", &[("other", b"0.5,0.5")]);
    server
}

#[test]
fn circles_find_what_is_in_them_and_mistakes_get_the_texts_of_redisearch() {
    let server = index();
    for (query, wanted) in [
        ("@loc:[0 0 1 km]", r#"[1, "g:a"]"#),
        ("@loc:[0 0 200 km]", r#"[2, "g:a", "g:b"]"#),
        ("@loc:[0,0 200 KM]", r#"[2, "g:a", "g:b"]"#),
        ("@loc:[+1 1.0e0 .5 km]", r#"[1, "g:b"]"#),
        ("@loc:[0 0 1e3 mi]", r#"[2, "g:a", "g:b"]"#),
        ("@loc:[0 0 100000 ft]", r#"[1, "g:a"]"#),
        ("@loc:[180 0 5000 m]", r#"[2, "g:c", "g:d"]"#),
        ("@loc:[-180 0 5 km]", r#"[2, "g:c", "g:d"]"#),
        ("@loc:[0 85 1000 km]", r#"[1, "g:e"]"#),
        ("@loc:[0 85 1300 km]", r#"[2, "g:e", "g:f"]"#),
        ("@loc:[77 90 600 km]", r#"[2, "g:e", "g:f"]"#),
        ("@loc:[0 -90 600 km]", r#"[1, "g:n"]"#),
        ("@loc:[0 0 inf km] -@loc:[0 0 200 km]", r#"[5, "g:c", "g:d", "g:e", "g:f", "g:n"]"#),
        ("(@loc:[0 0 1 km])|@other:[0 0 100 km]", r#"[1, "g:a"]"#),
        ("@hidden:[0 0 200 km]", "[0]"),
        ("ismissing(@other) @loc:[0 0 200 km]", r#"[1, "g:b"]"#),
        ("@loc:[$x 0 $r $unit]", r#"[2, "g:a", "g:b"]"#),
        ("@loc:[-$x 0 $r km]", r#"[2, "g:a", "g:b"]"#),
        ("@loc:[0 0 200]", "Syntax error at offset 13 near 200"),
        ("@loc:[0 0 200 parsec]", "Invalid GeoFilter unit"),
        ("@loc:[200 0 200 km]", "Invalid GeoFilter lat/lon"),
        ("@loc:[inf 0 1 km]", "Invalid GeoFilter lat/lon"),
        ("@loc:[0 0 -1 km]", "Invalid GeoFilter radius"),
        ("@loc:[0 0 0 km]", "Invalid GeoFilter radius"),
        ("@loc:[0 0 $x $unit]", "Invalid GeoFilter radius"),
        ("@loc:[0 0 1 $r]", "Invalid GeoFilter unit"),
        ("@loc:[(0 0 200 km]", "Syntax error at offset 11 near 200"),
        ("@loc:[0 0 200 km m]", "Syntax error at offset 17 near m"),
        ("@loc:[0 0 200 'km']", "Syntax error at offset 14 near km"),
        ("@loc:[0 0 200km]", "Syntax error at offset 10 near 200km"),
    ] {
        let words = ["FT.SEARCH", "i", query, "PARAMS", "6", "x", "0", "r", "200", "unit", "km", "NOCONTENT"];
        let words = words.map(str::as_bytes);
        assert_eq!(server.run(&words), wanted, "{query}");
    }
    for (options, wanted) in [
        ("GEOFILTER loc 0 0 200 km", r#"[2, "g:a", "g:b"]"#),
        ("GEOFILTER loc 0 0 200 km GEOFILTER loc 1 1 1 m", r#"[1, "g:b"]"#),
        ("GEOFILTER loc 0 0 200 parsec", "Unknown distance unit parsec"),
        ("GEOFILTER loc 0 x 200 km", "Bad arguments for <lat>: Could not convert argument to expected type"),
        ("GEOFILTER loc 0 0 -200 km", "Invalid GeoFilter radius"),
        ("GEOFILTER loc 200 0 200 km", "Invalid GeoFilter lat/lon"),
        ("GEOFILTER loc 0 0", "GEOFILTER requires 5 arguments"),
        ("GEOFILTER t 0 0 200 km", "Expected a GEO field at offset 0 near t"),
    ] {
        assert_eq!(server.line(&format!("FT.SEARCH i * NOCONTENT {options}")), wanted, "{options}");
    }
    assert_eq!(
        server
            .line("FT.EXPLAIN i '-@loc:[1.5 2 3.25 mi] @t:{x}' DIALECT 2")
            .replace("\\n", "\n")
            .trim_matches('"'),
        "INTERSECT {\n  NOT{\n    GEO loc:{1.500000,2.000000 --> 3.250000 mi}\n  }\n  TAG:@t {\n    x\n  }\n}\n"
    );
}

#[test]
fn positions_follow_their_documents() {
    let server = index();
    let near = |server: &Server| server.line("FT.SEARCH i '@loc:[10 50 10 km]' NOCONTENT");
    assert_eq!(near(&server), "[0]");
    server.hset("g:z", &[("loc", b"10,50")]);
    assert_eq!(near(&server), r#"[1, "g:z"]"#);
    server.hset("g:z", &[("loc", b"10,51")]);
    assert_eq!(near(&server), "[0]");
    server.hset("g:z", &[("loc", b"10,50.01")]);
    assert_eq!(near(&server), r#"[1, "g:z"]"#);
    // One that is none makes the document unreadable.
    server.hset("g:z", &[("loc", b"somewhere")]);
    assert_eq!(near(&server), "[0]");
    assert!(server.line("FT.INFO i").contains(r#""Invalid geo string""#));
    server.hset("g:z", &[("loc", b"10,50.01")]);
    server.line("DEL g:z");
    assert_eq!(near(&server), "[0]");
    server.hset("g:z", &[("loc", b"10,50")]);
    let server = server.restart();
    assert_eq!(near(&server), r#"[1, "g:z"]"#);
    assert_eq!(
        server.line("FT.SEARCH i '@loc:[0 0 2000 km]' SORTBY other WITHSORTKEYS RETURN 1 other"),
        r#"[2, "g:a", "$0.5,0.5", ["other", "0.5,0.5"], "g:b", nil, []]"#
    );
}

#[test]
fn shapes_are_found_by_predicates() {
    for (coordinates, default) in [("FLAT", false), ("SPHERICAL", true), ("", true)] {
        let server = Server::new();
        let created = server.line(&format!("FT.CREATE i PREFIX 1 s: SCHEMA g GEOSHAPE {coordinates} t TAG"));
        assert_eq!(created, "OK");
        let system = if default { "SPHERICAL" } else { "FLAT" };
        assert!(server.line("FT.INFO i").contains(&format!(r#""coord_system", "{system}""#)));
        for (key, shape) in [
            ("big", "POLYGON((0 0, 0 10, 10 10, 10 0, 0 0))"),
            ("small", "POLYGON((2 2, 2 4, 4 4, 4 2, 2 2))"),
            ("point", "POINT(3 3)"),
            ("far", "POINT(100 50)"),
            ("bad", "CIRCLE(1 2 3)"),
        ] {
            server.hset(&format!("s:{key}"), &[("g", shape.as_bytes()), ("t", b"x")]);
        }
        server.hset("s:none", &[("t", b"x")]);
        let ask = |server: &Server, query: &str, shape: &str| {
            server.run(&[
                b"FT.SEARCH",
                b"i",
                query.as_bytes(),
                b"NOCONTENT",
                b"PARAMS",
                b"2",
                b"s",
                shape.as_bytes(),
            ])
        };
        let middle = "POLYGON((1 1, 1 5, 5 5, 5 1, 1 1))";
        for (query, shape, wanted) in [
            ("@g:[WITHIN $s]", middle, r#"[2, "s:small", "s:point"]"#),
            ("@g:[within $s] -@g:[contains $s]", middle, r#"[2, "s:small", "s:point"]"#),
            ("@g:[CONTAINS $s]", "POINT(3 3.5)", r#"[2, "s:big", "s:small"]"#),
            ("@g:[INTERSECTS $s]", middle, r#"[3, "s:big", "s:small", "s:point"]"#),
            ("@g:[DISJOINT $s]", middle, r#"[1, "s:far"]"#),
            ("-@g:[INTERSECTS $s]", middle, r#"[3, "s:far", "s:bad", "s:none"]"#),
            ("@g:[TOUCHES $s]", middle, "Syntax error: Expecting a geoshape predicate at offset 12"),
            ("@g:[WITHIN]", middle, "Syntax error at offset 10 near WITHIN"),
            ("@g:[WITHIN $nope]", middle, "No such parameter `nope`"),
            ("@g:[WITHIN $s]", "bad", "Error querying geoshape index: unknown geometry type"),
            (
                "@g:[WITHIN $s]",
                "POINT(1,1)",
                "Error querying geoshape index: Expected ')' at ',' in 'POINT(1,1)'",
            ),
            ("@t:[WITHIN $s]", middle, "Expected a GEOSHAPE field at offset 0 near t"),
        ] {
            assert_eq!(ask(&server, query, shape), wanted, "{coordinates} {query} {shape}");
        }
        server.hset("s:big", &[("g", b"POINT(90 40)")]);
        server.line("DEL s:small");
        server.line("HDEL s:far g");
        assert_eq!(ask(&server, "@g:[INTERSECTS $s]", middle), r#"[1, "s:point"]"#, "{coordinates}");
        let server = server.restart();
        assert!(server.line("FT.INFO i").contains(&format!(r#""coord_system", "{system}""#)));
        assert_eq!(ask(&server, "@g:[DISJOINT $s]", middle), r#"[1, "s:big"]"#, "{coordinates}");
    }
}
