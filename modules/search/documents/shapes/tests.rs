use super::*;
use crate::error::ErrorStyle;

const BOTH: [Coordinates; 2] = [Coordinates::Flat, Coordinates::Spherical];

fn shape(text: &str, coordinates: Coordinates) -> Geometry {
    Geometry::read(text.as_bytes(), coordinates).unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

/// The shapes that RediSearch 2.10.5 was asked about, and the answers that it gave.
const SHAPES: &[(&str, &str)] = &[
    ("sq", "POLYGON((0 0,0 10,10 10,10 0,0 0))"),
    ("in", "POLYGON((2 2,2 4,4 4,4 2,2 2))"),
    ("edge", "POLYGON((0 2,0 4,4 4,4 2,0 2))"),
    ("same", "POLYGON((0 0,10 0,10 10,0 10,0 0))"),
    ("touch", "POLYGON((10 0,10 10,20 10,20 0,10 0))"),
    ("corner", "POLYGON((10 10,10 20,20 20,20 10,10 10))"),
    ("over", "POLYGON((5 5,5 15,15 15,15 5,5 5))"),
    ("far", "POLYGON((50 50,50 60,60 60,60 50,50 50))"),
    ("pin", "POINT(5 5)"),
    ("pedge", "POINT(0 5)"),
    ("pcorner", "POINT(0 0)"),
    ("pout", "POINT(-1 5)"),
    ("hole", "POLYGON((0 0,0 10,10 10,10 0,0 0),(2 2,2 4,4 4,4 2,2 2))"),
    ("pinhole", "POINT(3 3)"),
    ("bighole", "POLYGON((-5 -5,-5 15,15 15,15 -5,-5 -5),(1 1,1 9,9 9,9 1,1 1))"),
];

const ANSWERS: &[(&str, &str, &str)] = &[
    ("WITHIN", "sq", "edge hole in pin pinhole same sq"),
    ("WITHIN", "hole", "hole pin"),
    ("WITHIN", "in", "in pinhole"),
    ("WITHIN", "pin", ""),
    ("WITHIN", "bighole", "bighole pcorner pedge pout"),
    ("CONTAINS", "sq", "same sq"),
    ("CONTAINS", "hole", "hole same sq"),
    ("CONTAINS", "pin", "hole same sq"),
    ("CONTAINS", "pedge", "bighole"),
    ("CONTAINS", "pinhole", "edge in same sq"),
    ("CONTAINS", "bighole", "bighole"),
    ("INTERSECTS", "sq", "bighole corner edge hole in over pcorner pedge pin pinhole same sq touch"),
    ("INTERSECTS", "hole", "bighole corner edge hole in over pcorner pedge pin same sq touch"),
    ("INTERSECTS", "in", "edge hole in pinhole same sq"),
    ("INTERSECTS", "pin", "hole over pin same sq"),
    ("INTERSECTS", "pedge", "bighole hole pedge same sq"),
    ("INTERSECTS", "bighole", "bighole corner edge hole over pcorner pedge pout same sq touch"),
    ("DISJOINT", "sq", "far pout"),
    ("DISJOINT", "hole", "far pinhole pout"),
    ("DISJOINT", "bighole", "far in pin pinhole"),
];

#[test]
fn predicates_hold_as_in_redisearch() {
    for coordinates in BOTH {
        // A side between two places of one latitude is north of it on a sphere.
        let in_edge = [(
            "CONTAINS",
            "in",
            if coordinates == Coordinates::Flat { "edge in same sq" } else { "in same sq" },
        )];
        for (predicate, query, wanted) in ANSWERS.iter().chain(&in_edge) {
            let named = |name: &str| SHAPES.iter().find(|(of, _)| *of == name).expect("a shape").1;
            let (predicate, query) =
                (ShapePredicate::read(predicate.as_bytes()).expect("one"), shape(named(query), coordinates));
            let mut found: Vec<&str> = SHAPES
                .iter()
                .filter(|(_, text)| predicate.holds(&shape(text, coordinates), &query))
                .map(|(name, _)| *name)
                .collect();
            found.sort_unstable();
            assert_eq!(found.join(" "), *wanted, "{coordinates:?} {predicate:?} {query:?}");
        }
    }
}

#[test]
fn a_sphere_has_neither_ends_nor_corners() {
    let holds = |predicate: ShapePredicate, document: &str, query: &str| {
        predicate.holds(&shape(document, Coordinates::Spherical), &shape(query, Coordinates::Spherical))
    };
    let across = "POLYGON((170 -10, 170 10, -170 10, -170 -10, 170 -10))";
    let polar = "POLYGON((0 80, 90 80, 180 80, -90 80, 0 80))";
    for (document, query) in [
        ("POINT(179 0)", across),
        ("POINT(-179 5)", across),
        ("POLYGON((178 -1, 178 1, -178 1, -178 -1, 178 -1))", across),
        ("POINT(77 90)", polar),
        ("POINT(45 86)", polar),
        ("POLYGON((0 85, 120 85, -120 85, 0 85))", polar),
    ] {
        assert!(holds(ShapePredicate::Within, document, query), "{document} {query}");
        assert!(holds(ShapePredicate::Contains, query, document), "{document} {query}");
        assert!(holds(ShapePredicate::Intersects, query, document), "{document} {query}");
    }
    for (document, query) in
        [("POINT(0 0)", across), ("POINT(169 0)", across), ("POINT(45 80.5)", polar), (across, polar)]
    {
        assert!(holds(ShapePredicate::Disjoint, document, query), "{document} {query}");
    }
    // The same on the other side of the plane.
    assert!(ShapePredicate::Disjoint.holds(
        &shape("POINT(179 0)", Coordinates::Flat),
        &shape("POLYGON((-10 -10, -10 10, 10 10, 10 -10, -10 -10))", Coordinates::Flat)
    ));
}

#[test]
fn texts_are_read_and_refused_as_by_redisearch() {
    for text in [
        "POINT (1 1)",
        "POINT(1 1) ",
        "POINT(1)",
        "POINT()",
        "POINT EMPTY",
        "POLYGON ( ( 0 0 , 0 10 , 10 10 , 10 0 ) )",
        "POINT(200 95)",
    ] {
        BOTH.iter().for_each(|&coordinates| _ = shape(text, coordinates));
    }
    const FEW: &str = "invalid geometry: Geometry has too few points";
    for (text, wanted) in [
        ("", "unknown geometry type"),
        ("point(1 1)", "unknown geometry type"),
        (" POINT(1 1)", "unknown geometry type"),
        ("LINESTRING(0 0, 1 1)", "unknown geometry type"),
        ("POINTS(1 1)", "Should start with 'POINT'' in (POINTS(1 1))"),
        ("POINT", "Expected '(' in 'POINT'"),
        ("POINT(1,1)", "Expected ')' at ',' in 'POINT(1,1)'"),
        ("POINT(1 1 1)", "Expected ')' at '1' in 'POINT(1 1 1)'"),
        ("POINT(1 1) x", "Too many tokens at 'x' in 'POINT(1 1) x'"),
        ("POINT(1 2))", "Too many tokens at ')' in 'POINT(1 2))'"),
        ("POLYGON((0 0", "Expected ')' in 'POLYGON((0 0'"),
        ("POLYGON(0 0, 1 1)", "Expected '(' at '0' in 'POLYGON(0 0, 1 1)'"),
        (
            "POINT(a b)",
            "bad lexical cast: source type value could not be interpreted as target at 'a' in 'POINT(a b)'",
        ),
        (
            "POINT(1e400 0)",
            "bad lexical cast: source type value could not be interpreted as target at '1e400' in 'POINT(1e400 0)'",
        ),
        ("POINT(nan 0)", "invalid geometry: Geometry has point(s) with invalid coordinate(s)"),
        ("POLYGON()", FEW),
        ("POLYGON EMPTY", FEW),
        ("POLYGON((0 0, 1 1))", FEW),
        ("POLYGON((0 0, 0 0, 0 0))", FEW),
        (
            "POLYGON((0 0,10 0,10 10,5 0,0 10,0 0))",
            "invalid geometry: Geometry has invalid self-intersections",
        ),
        (
            "POLYGON((0 0, 10 10, 0 10, 12 0, 0 0))",
            "invalid geometry: Geometry has invalid self-intersections",
        ),
        ("POLYGON((0 0, 0 10, 5 10, 5 15, 5 10, 10 10, 10 0, 0 0))", "invalid geometry: Geometry has spikes"),
        (
            "POLYGON((0 0, 0 10, 10 10, 10 0, 0 0),(20 20, 20 40, 40 40, 40 20, 20 20))",
            "invalid geometry: Geometry has interior rings defined outside the outer boundary",
        ),
    ] {
        for coordinates in BOTH {
            let error = Geometry::read(text.as_bytes(), coordinates).expect_err(text);
            assert_eq!(error.in_style(ErrorStyle::Plain).to_string(), wanted, "{text}");
        }
    }
    let many = format!(
        "POLYGON(({}))",
        (0..5000).map(|at| format!("{at} {}", at % 2)).collect::<Vec<_>>().join(",")
    );
    assert!(Geometry::read(many.as_bytes(), Coordinates::Flat).is_err());
}

/// Rectangles and points on a small grid, against a plain comparison of the cells that they cover.
#[test]
fn boxes_agree_with_their_cells() {
    let mut state = 5u64;
    let mut below = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for _ in 0..3_000 {
        let mut rectangle = || {
            let (x, y) = (below(8) as i32, below(8) as i32);
            [x, y, x + 1 + below(5) as i32, y + 1 + below(5) as i32]
        };
        let (one, other) = (rectangle(), rectangle());
        let made = |[a, b, c, d]: [i32; 4]| {
            // Two more points on its sides.
            let text =
                format!("POLYGON(({a} {b}, {a} {d}, {c} {d}, {c} {b}, {} {b}))", f64::from(a + c) / 2.0);
            shape(&text, Coordinates::Flat)
        };
        let (document, query) = (made(one), made(other));
        let is_within =
            |a: [i32; 4], b: [i32; 4]| a[0] >= b[0] && a[1] >= b[1] && a[2] <= b[2] && a[3] <= b[3];
        let meets = one[0] <= other[2] && other[0] <= one[2] && one[1] <= other[3] && other[1] <= one[3];
        for (predicate, wanted) in [
            (ShapePredicate::Within, is_within(one, other)),
            (ShapePredicate::Contains, is_within(other, one)),
            (ShapePredicate::Intersects, meets),
            (ShapePredicate::Disjoint, !meets),
        ] {
            assert_eq!(predicate.holds(&document, &query), wanted, "{predicate:?} {one:?} {other:?}");
        }
    }
}

#[test]
fn a_walk_finds_all_and_memory_is_given_back() {
    let mut postings = ShapePostings::default();
    for document in 0..5_000u32 {
        let (x, y) = (document % 100, document / 100);
        postings.insert(document, Arc::new(shape(&format!("POINT({x} {y})"), Coordinates::Flat)));
    }
    let query = shape("POLYGON((9.5 9.5, 9.5 20.5, 20.5 20.5, 20.5 9.5, 9.5 9.5))", Coordinates::Flat);
    let (mut after, mut near, mut found) = (None, Vec::new(), Vec::new());
    while !postings.step(&mut after, (ShapePredicate::Disjoint, &query), (&mut near, &mut found), &mut 3) {}
    assert_eq!((near.len(), found.len()), (121, 5_000 - 121));
    (0..5_000).for_each(|document| postings.remove(document));
    assert_eq!(postings.heap_bytes(), 0);
}
