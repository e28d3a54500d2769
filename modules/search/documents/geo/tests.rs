use super::*;

/// A stream of random numbers from 0 to 1.
fn random() -> impl FnMut() -> f64 {
    let mut state = 3u64;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[test]
fn a_cell_is_less_than_a_metre_wide_and_numbered_as_in_redis() {
    // GEOADD and ZSCORE of a Redis 8.2.3.
    for (longitude, latitude, score) in [
        (13.361389, 38.115556, 3479099956230698.0),
        (15.087269, 37.502669, 3479447370796909.0),
        (0.0, 0.0, 3377699720527872.0),
        (-180.0, -85.05112878, 0.0),
    ] {
        let position = Position { longitude, latitude };
        assert_eq!(position.cell(), score);
        assert!(position.distance(Position::of_cell(score)) < 0.5, "{position:?}");
    }
    let mut next = random();
    for _ in 0..10_000 {
        let position =
            Position { longitude: next() * 360.0 - 180.0, latitude: (next() * 2.0 - 1.0) * LATITUDE_MAX };
        let cell = position.cell();
        assert!(position.distance(Position::of_cell(cell)) < 0.5, "{position:?}");
        assert_eq!(Position::of_cell(cell).cell(), cell);
    }
    let end = Position { longitude: 180.0, latitude: LATITUDE_MAX };
    assert!(end.distance(Position::of_cell(end.cell())) < 0.5);
}

#[test]
fn a_walk_finds_what_is_in_the_circle_wherever_it_is() {
    let mut next = random();
    let mut positions = NumberPostings::default();
    let mut all = Vec::new();
    for document in 0..20_000 {
        // A third each: anywhere, around one place, and around the 180th meridian and the poles.
        let (longitude, latitude) = match document % 3 {
            0 => (next() * 360.0 - 180.0, (next() * 2.0 - 1.0) * LATITUDE_MAX),
            1 => (13.4 + next() * 0.2, 52.5 + next() * 0.2),
            _ => (
                (next() * 4.0 + 178.0 + 180.0) % 360.0 - 180.0,
                (next() * 2.0 - 1.0).signum() * (85.0 - next()),
            ),
        };
        let cell = Position { longitude, latitude }.cell();
        positions.insert(cell, document);
        all.push(cell);
    }
    let mut found_any = 0;
    for number in 0..600 {
        let (longitude, latitude) = match number % 4 {
            0 => (next() * 360.0 - 180.0, next() * 180.0 - 90.0),
            1 => (13.4 + next() * 0.2, 52.5 + next() * 0.2),
            2 => (
                (next() * 4.0 + 178.0 + 180.0) % 360.0 - 180.0,
                (next() * 2.0 - 1.0).signum() * (85.0 + next() * 5.0),
            ),
            _ => ([180.0, -180.0, 0.0][number / 4 % 3], [90.0, -90.0, 0.0, 85.06][number / 12 % 4]),
        };
        let radius = 10f64.powf(next() * 6.0 + 1.5);
        let circle =
            GeoCircle::new(Position { longitude, latitude }, radius, GeoUnit::Metres).expect("a circle");
        let wanted: Vec<u32> =
            (0..).zip(&all).filter(|(_, cell)| circle.contains(**cell)).map(|(at, _)| at).collect();
        let mut walk = GeoWalk::new(circle);
        while !walk.step(&positions, &mut 7) {}
        walk.documents.sort_unstable();
        assert!(walk.documents == wanted, "{circle:?}");
        found_any += usize::from(!wanted.is_empty());
        assert!(circle.ranges().len() <= RANGES_MAX);
    }
    assert!(found_any > 200, "{found_any}");
    // A small circle reads few positions beside its own.
    let circle =
        GeoCircle::new(Position { longitude: 13.5, latitude: 52.6 }, 1.0, GeoUnit::Kilometres).expect("one");
    let covered = |cell: &&f64| circle.ranges().iter().any(|(first, last)| (first..=last).contains(cell));
    let (read, inside) =
        (all.iter().filter(covered).count(), all.iter().filter(|cell| circle.contains(**cell)).count());
    assert!(inside > 50 && read < 4 * inside, "{read} for {inside}");
}
